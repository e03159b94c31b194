/* cli.h - inside the command-line tool `rukun`: options, output, and the commands. */
#ifndef RUKUN_CLI_H
#define RUKUN_CLI_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "rukun.h"

/* Exit codes, after sysexits.h where one fits. */
enum {
    EXIT_DONE = 0,
    EXIT_ERROR = 1,
    EXIT_USAGE = 64,
    EXIT_UNAVAILABLE = 69, /* no node reached, no quorum */
    EXIT_BUSY = 75,        /* held, or not granted within the wait */
    EXIT_LOST = 76,        /* the lock was lost while the command ran */
};

/* What stands on the command line after the command's words. */
struct cli {
    rukun_client *client; /* opened by cli_client on first use */
    const char *endpoints;
    bool is_json; /* -o json */
    bool is_shared;
    uint64_t wait_ms; /* RUKUN_WAIT_FOREVER unless given */
    bool has_wait;
    uint64_t every_ms;
    uint64_t delay_ms;
    bool has_delay;
    uint64_t ttl_ms;
    uint64_t visibility_ms;
    uint64_t limit;
    int priority;
    const char *cache;
    const char *consumer;
    const char *publish_id;
    const char *group;
    const char *prefix;
    const char *to;
    const char *peer; /* addresses of a node */
    const char *http;
    const char *rpc;
    const char *node; /* that is asked */
    const char *data; /* folder of a node */
    bool is_learner;
    const char *file; /* read the value from here; "-" is standard input */
    bool is_raw;
    bool is_dead;
    char **arguments; /* positional ones */
    int argument_count;
    char **command; /* after "--"; NULL-terminated; NULL: none */
};

struct cli_command {
    const char *area;
    const char *verb;
    const char *usage; /* positional arguments and options */
    const char *summary;
    int argument_min;
    int argument_max;
    bool needs_command;
    int (*run)(struct cli *cli);
};

extern const struct cli_command cli_lock_commands[]; /* each ends with {NULL} */
extern const struct cli_command cli_queue_commands[];
extern const struct cli_command cli_cache_commands[];
extern const struct cli_command cli_cluster_commands[];
extern const struct cli_command cli_snapshot_commands[];

/* rukun migrate: the words after that are rukund's, which does it. */
int cli_migrate(int count, char **words);

/* NULL after an error was printed; exit code in *code. */
rukun_client *cli_client(struct cli *cli, int *code);
/* Prints "rukun: <message>" and gives the exit code for the status. */
int cli_fail(const rukun_error *err);
/* Calls an operation with a JSON request made from printf-like text; prints the answer. */
int cli_call(struct cli *cli, const char *operation, const char *request);
/* A JSON object of what is given: NULL texts and zero numbers are left out. Freed with
 * free. */
struct cli_field {
    const char *name;
    const char *text; /* or */
    uint64_t number;
    bool is_true; /* or */
};
char *cli_object(const struct cli_field *fields, int count);
/* The value to send: of --file, of argument `index`, or of standard input. Freed with free.
 */
int cli_value(const struct cli *cli, int index, char **data, size_t *size,
              rukun_encoding *encoding);
/* A JSON answer as a table, or as it is with -o json. */
void cli_print(const struct cli *cli, const char *json, size_t size);
/* "1h", "90s", "250ms", "5" (seconds). False: not a duration. */
bool cli_duration(const char *text, uint64_t *ms);

/* GET over HTTP; the body goes to out. The status of a whole answer; 0 if there is none,
 * and error says why. */
enum { CLI_HTTP_ERROR_SIZE = 512 };
int cli_http_get(const char *address, const char *path, FILE *out, uint64_t *size,
                 char error[CLI_HTTP_ERROR_SIZE]);

/* Runs command with the input (may be NULL) on its standard input. Calls beat every 200 ms
 * while it runs; when that returns false the command is ended (SIGTERM, after 5 s SIGKILL).
 * Returns its exit code (128 + signal if killed). */
int cli_spawn(char **command, const void *input, size_t size, bool (*beat)(void *context),
              void *context);
#endif
