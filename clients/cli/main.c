/* main.c - the command-line tool: options and the way to the commands. */
#include "cli.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const struct cli_command *const areas[] = {cli_lock_commands, cli_queue_commands,
                                                  cli_cache_commands, cli_cluster_commands,
                                                  cli_snapshot_commands};

enum option_kind { OPTION_FLAG, OPTION_TEXT, OPTION_SPAN, OPTION_NUMBER };

struct option {
    const char *name;
    enum option_kind kind;
    size_t offset;
    size_t given; /* offset of a bool that notes it was given; 0: none */
    const char *doc;
};

#define AT(member) offsetof(struct cli, member)

static const struct option options[] = {
    {"--endpoints", OPTION_TEXT, AT(endpoints), 0,
     "host:port,... (RPC) or http://host:port; else RUKUN_ENDPOINTS"},
    {"--shared", OPTION_FLAG, AT(is_shared), 0, "take the lock in shared mode"},
    {"--wait", OPTION_SPAN, AT(wait_ms), AT(has_wait),
     "how long to wait: 5s, 250ms, 1h; 0 tries"},
    {"--every", OPTION_SPAN, AT(every_ms), 0, "lock once: at most one run in this time"},
    {"--delay", OPTION_SPAN, AT(delay_ms), AT(has_delay), "before the message is ready"},
    {"--ttl", OPTION_SPAN, AT(ttl_ms), 0, "life of the entry or message"},
    {"--visibility", OPTION_SPAN, AT(visibility_ms), 0, "before a delivery comes again"},
    {"--limit", OPTION_NUMBER, AT(limit), 0, "most lines, or most messages"},
    {"--priority", OPTION_NUMBER, AT(priority), 0, "0 to 9, 9 first"},
    {"--cache", OPTION_TEXT, AT(cache), 0, "name of the cache"},
    {"--consumer", OPTION_TEXT, AT(consumer), 0, "name of this consumer"},
    {"--publish-id", OPTION_TEXT, AT(publish_id), 0, "a repeat of it is not stored twice"},
    {"--group", OPTION_TEXT, AT(group), 0,
     "ordering group of the message, or group number"},
    {"--prefix", OPTION_TEXT, AT(prefix), 0, "only names that begin so"},
    {"--to", OPTION_TEXT, AT(to), 0, "node that is to lead, or topic"},
    {"--peer", OPTION_TEXT, AT(peer), 0, "address of a node for the others, host:port"},
    {"--http", OPTION_TEXT, AT(http), 0, "and for HTTP"},
    {"--rpc", OPTION_TEXT, AT(rpc), 0, "and for RPC"},
    {"--node", OPTION_TEXT, AT(node), 0, "node that a backup is read from"},
    {"--data", OPTION_TEXT, AT(data), 0, "data folder of a node"},
    {"--learner", OPTION_FLAG, AT(is_learner), 0, "the node is to follow without a vote"},
    {"--file", OPTION_TEXT, AT(file), 0, "read the value from a file, - is standard input"},
    {"--raw", OPTION_FLAG, AT(is_raw), 0, "the value is bytes, not JSON"},
    {"--dead", OPTION_FLAG, AT(is_dead), 0, "dead letters"},
};

static void print_usage(FILE *out)
{
    fprintf(out, "usage: rukun AREA VERB [ARGUMENT ...] [OPTION ...] [-- COMMAND ...]\n"
                 "       rukun call OPERATION JSON\n"
                 "       rukun migrate FILE|REDIS-URL --to REDIS-URL|FILE [--groups N] "
                 "[--dry-run]\n\n");
    for (size_t i = 0; i < sizeof(areas) / sizeof(areas[0]); i++)
        for (const struct cli_command *at = areas[i]; at->area != NULL; at++)
            fprintf(out, "  %-8s %-8s %-34s %s\n", at->area, at->verb, at->usage,
                    at->summary);
    fprintf(out, "\noptions:\n  %-14s %s\n", "-o json|table", "form of the output");
    for (size_t i = 0; i < sizeof(options) / sizeof(options[0]); i++)
        fprintf(out, "  %-14s %s\n", options[i].name, options[i].doc);
}

bool cli_duration(const char *text, uint64_t *ms)
{
    char *end = NULL;
    double value = strtod(text, &end);
    if (end == text || !(value >= 0) || value > 1e9) return false;
    double unit = 1000;
    if (strcmp(end, "ms") == 0)
        unit = 1;
    else if (strcmp(end, "m") == 0)
        unit = 60000;
    else if (strcmp(end, "h") == 0)
        unit = 3600000;
    else if (strcmp(end, "d") == 0)
        unit = 86400000;
    else if (*end != '\0' && strcmp(end, "s") != 0)
        return false;
    *ms = (uint64_t)(value * unit + 0.5);
    return true;
}

static int usage_error(const char *word, const char *problem)
{
    fprintf(stderr, "rukun: %s %s; see rukun --help\n", word, problem);
    return EXIT_USAGE;
}

static int option_take(struct cli *cli, const struct option *option, const char *value)
{
    char *field = (char *)cli + option->offset;
    if (option->given != 0) *(bool *)((char *)cli + option->given) = true;
    char *end = NULL;
    switch (option->kind) {
    case OPTION_FLAG: *(bool *)field = true; return EXIT_DONE;
    case OPTION_TEXT: memcpy(field, &value, sizeof(value)); return EXIT_DONE;
    case OPTION_SPAN:
        if (cli_duration(value, (uint64_t *)(void *)field)) return EXIT_DONE;
        return usage_error(value, "is no duration (5s, 250ms, 1h)");
    case OPTION_NUMBER: break;
    }
    unsigned long long number = strtoull(value, &end, 10);
    if (end == value || *end != '\0') return usage_error(value, "is no number");
    if (option->offset == AT(priority))
        cli->priority = number > 9 ? 10 : (int)number;
    else
        *(uint64_t *)(void *)field = number;
    return EXIT_DONE;
}

static int option_parse(struct cli *cli, char **arguments, int count, int *at)
{
    const char *word = arguments[*at];
    if (strcmp(word, "-o") == 0) {
        if (*at + 1 >= count) return usage_error(word, "needs json or table");
        const char *form = arguments[++*at];
        cli->is_json = strcmp(form, "json") == 0;
        if (cli->is_json || strcmp(form, "table") == 0) return EXIT_DONE;
        return usage_error(form, "is neither json nor table");
    }
    size_t size = strcspn(word, "=");
    for (size_t i = 0; i < sizeof(options) / sizeof(options[0]); i++) {
        if (strlen(options[i].name) != size || memcmp(options[i].name, word, size) != 0)
            continue;
        if (options[i].kind == OPTION_FLAG) return option_take(cli, &options[i], "");
        if (word[size] == '=') return option_take(cli, &options[i], word + size + 1);
        if (*at + 1 >= count) return usage_error(word, "needs a value");
        return option_take(cli, &options[i], arguments[++*at]);
    }
    return usage_error(word, "is no option");
}

/* Sorts the words into options, positional arguments and what follows "--". */
static int parse(struct cli *cli, int count, char **words)
{
    cli->arguments = words;
    for (int i = 0; i < count; i++) {
        if (strcmp(words[i], "--") == 0) {
            cli->command = i + 1 < count ? &words[i + 1] : NULL;
            return EXIT_DONE;
        }
        if (words[i][0] == '-' && words[i][1] != '\0') {
            int code = option_parse(cli, words, count, &i);
            if (code != EXIT_DONE) return code;
            continue;
        }
        cli->arguments[cli->argument_count++] = words[i];
    }
    return EXIT_DONE;
}

static const struct cli_command *find(const char *area, const char *verb)
{
    for (size_t i = 0; i < sizeof(areas) / sizeof(areas[0]); i++)
        for (const struct cli_command *at = areas[i]; at->area != NULL; at++)
            if (strcmp(at->area, area) == 0 && strcmp(at->verb, verb) == 0) return at;
    return NULL;
}

static int dispatch(struct cli *cli)
{
    if (cli->argument_count == 3 && strcmp(cli->arguments[0], "call") == 0)
        return cli_call(cli, cli->arguments[1], cli->arguments[2]);
    if (cli->argument_count < 2) {
        print_usage(stderr);
        return EXIT_USAGE;
    }
    const struct cli_command *command = find(cli->arguments[0], cli->arguments[1]);
    if (command == NULL) {
        fprintf(stderr, "rukun: there is no %s %s; see rukun --help\n", cli->arguments[0],
                cli->arguments[1]);
        return EXIT_USAGE;
    }
    cli->arguments += 2;
    cli->argument_count -= 2;
    if (cli->argument_count < command->argument_min ||
        cli->argument_count > command->argument_max ||
        (command->needs_command && cli->command == NULL)) {
        fprintf(stderr, "usage: rukun %s %s %s\n", command->area, command->verb,
                command->usage);
        return EXIT_USAGE;
    }
    return command->run(cli);
}

int main(int argc, char **argv)
{
    struct cli cli;
    memset(&cli, 0, sizeof(cli));
    cli.wait_ms = RUKUN_WAIT_FOREVER;
    if (argc > 1 && (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "help") == 0)) {
        print_usage(stdout);
        return EXIT_DONE;
    }
    if (argc > 1 && strcmp(argv[1], "--version") == 0) {
        printf("rukun %s\n", rukun_version());
        return EXIT_DONE;
    }
    if (argc > 1 && strcmp(argv[1], "migrate") == 0) return cli_migrate(argc - 2, argv + 2);
    int code = parse(&cli, argc - 1, argv + 1);
    if (code == EXIT_DONE) code = dispatch(&cli);
    rukun_client_free(cli.client);
    return code;
}
