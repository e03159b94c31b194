/* lock.c - rukun lock ... */
#include "cli.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static bool still_held(void *context)
{
    return rukun_lock_check(context, NULL) == RUKUN_OK;
}

/* The command sees the fence, so that what it writes to can check it. */
static int run_holding(struct cli *cli, rukun_lock *lock)
{
    char fence[32];
    (void)snprintf(fence, sizeof(fence), "%llu",
                   (unsigned long long)rukun_lock_fence(lock));
    setenv("RUKUN_FENCE", fence, 1);
    setenv("RUKUN_LOCK", rukun_lock_resource(lock), 1);
    int code = cli_spawn(cli->command, NULL, 0, still_held, lock);
    rukun_error err;
    rukun_error_init(&err);
    if (rukun_lock_check(lock, &err) != RUKUN_OK) {
        (void)cli_fail(&err);
        rukun_lock_free(lock);
        return EXIT_LOST;
    }
    if (rukun_lock_release(lock, &err) != RUKUN_OK) code = cli_fail(&err);
    rukun_lock_free(lock);
    return code;
}

static int lock_run(struct cli *cli)
{
    int code = EXIT_DONE;
    rukun_client *client = cli_client(cli, &code);
    if (client == NULL) return code;
    rukun_lock_opts opts;
    rukun_lock_opts_init(&opts);
    opts.mode = cli->is_shared ? RUKUN_SHARED : RUKUN_EXCLUSIVE;
    opts.wait_ms = cli->wait_ms;
    rukun_error err;
    rukun_error_init(&err);
    rukun_lock *lock = NULL;
    if (rukun_lock_acquire(&lock, client, cli->arguments[0], &opts, &err) != RUKUN_OK)
        return cli_fail(&err);
    return run_holding(cli, lock);
}

static int lock_once(struct cli *cli)
{
    if (cli->every_ms == 0) {
        fprintf(stderr, "rukun: lock once needs --every, e.g. --every 1h\n");
        return EXIT_USAGE;
    }
    int code = EXIT_DONE;
    rukun_client *client = cli_client(cli, &code);
    if (client == NULL) return code;
    rukun_lock_opts opts;
    rukun_lock_opts_init(&opts);
    opts.wait_ms = 0;
    opts.min_hold_ms = cli->every_ms;
    rukun_error err;
    rukun_error_init(&err);
    rukun_lock *lock = NULL;
    rukun_status status = rukun_lock_acquire(&lock, client, cli->arguments[0], &opts, &err);
    if (status == RUKUN_EHELD) {
        fprintf(stderr, "rukun: %s ran or runs elsewhere in this period\n",
                cli->arguments[0]);
        return EXIT_DONE;
    }
    if (status != RUKUN_OK) return cli_fail(&err);
    return run_holding(cli, lock);
}

static int call_with(struct cli *cli, const char *operation, const struct cli_field *fields,
                     int count)
{
    char *request = cli_object(fields, count);
    int code = request != NULL ? cli_call(cli, operation, request) : EXIT_ERROR;
    free(request);
    return code;
}

static int lock_list(struct cli *cli)
{
    struct cli_field fields[] = {{"prefix", cli->prefix, 0, false},
                                 {"limit", NULL, cli->limit, false}};
    return call_with(cli, "lock.list", fields, 2);
}

static int lock_info(struct cli *cli)
{
    struct cli_field fields[] = {{"resource", cli->arguments[0], 0, false}};
    return call_with(cli, "lock.info", fields, 1);
}

static int lock_break(struct cli *cli)
{
    struct cli_field fields[] = {{"resource", cli->arguments[0], 0, false}};
    return call_with(cli, "lock.break", fields, 1);
}

static int lock_graph(struct cli *cli)
{
    return cli_call(cli, "lock.graph", "{}");
}

const struct cli_command cli_lock_commands[] = {
    {"lock", "run", "NAME [--wait D] [--shared] -- CMD",
     "run a command while holding a lock", 1, 1, true, lock_run},
    {"lock", "once", "NAME --every D -- CMD", "run it on one machine in each period", 1, 1,
     true, lock_once},
    {"lock", "list", "[--prefix P] [--limit N]", "list locks", 0, 0, false, lock_list},
    {"lock", "info", "NAME", "holders and waiters", 1, 1, false, lock_info},
    {"lock", "break", "NAME", "take it away from its holders", 1, 1, false, lock_break},
    {"lock", "graph", "", "who waits for whom", 0, 0, false, lock_graph},
    {NULL, NULL, NULL, NULL, 0, 0, false, NULL},
};
