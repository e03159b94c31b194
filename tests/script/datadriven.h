/* datadriven.h - files of cases: a command line, input, "----", expected output.
 *
 * The format is that of cockroachdb/datadriven, as used by etcd-io/raft. */
#ifndef RK_TESTS_SCRIPT_DATADRIVEN_H
#define RK_TESTS_SCRIPT_DATADRIVEN_H

#include "base/arena.h"
#include "base/bytes.h"

enum {
    DD_ARGS_MAX = 32,
    DD_VALUES_MAX = 64,
};

struct dd_arg {
    const char *key;
    size_t value_count; /* 0 of a bare word */
    const char *values[DD_VALUES_MAX];
};

struct dd_case {
    size_t line; /* of the command, from 1 */
    const char *command;
    size_t arg_count;
    struct dd_arg args[DD_ARGS_MAX];
    const char *input;    /* lines, each with its newline */
    const char *expected; /* likewise */
    size_t expected_from; /* its lines in the file, from 0, the last one excluded */
    size_t expected_to;
};

struct dd_file {
    struct rk_arena arena;
    char *text; /* owned; cut into lines */
    char **lines;
    size_t line_count;
    size_t at; /* next line */
};

/* False, with a message on stderr, if it cannot be read. */
bool dd_open(struct dd_file *file, const char *path);
void dd_close(struct dd_file *file);
/* The next case, valid until dd_close; NULL at the end. Malformed: *error is set. */
struct dd_case *dd_next(struct dd_file *file, const char **error);

/* The first value of the argument with that key, NULL without one. */
const char *dd_value(const struct dd_case *c, const char *key);
bool dd_number(const char *text, uint64_t *out);
bool dd_bool(const char *text, bool *out);
/* The text without log lines (DEBUG, INFO, WARN, ERROR, FATAL after any indent), with a
 * newline at the end; "ok" alone counts as nothing. */
const char *dd_strip_logs(struct rk_arena *arena, const char *text);
#endif
