/* cluster.c - rukun cluster ... */
#include "cli.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { POLL_MS = 200 };

/* --- the state of the cluster -------------------------------------------------------- */

/* Of one node, as cluster.info says. */
struct node_state {
    bool is_known;
    bool is_reconciled; /* all groups have the wished membership */
    json_int_t number;
    char role[16];
};

static int node_ask(struct cli *cli, const char *name, struct node_state *out)
{
    int code = EXIT_DONE;
    rukun_client *client = cli_client(cli, &code);
    if (client == NULL) return code;
    memset(out, 0, sizeof(*out));
    rukun_error err;
    rukun_error_init(&err);
    rukun_text *text = NULL;
    if (rukun_call(&text, client, "cluster.info", "{}", &err) != RUKUN_OK)
        return cli_fail(&err);
    json_t *document =
        json_loadb(rukun_text_data(text), rukun_text_size(text), JSON_ALLOW_NUL, NULL);
    rukun_text_free(text);
    out->is_reconciled = json_is_true(json_object_get(document, "reconciled"));
    size_t i;
    json_t *node;
    json_array_foreach(json_object_get(document, "nodes"), i, node)
    {
        const char *is = json_string_value(json_object_get(node, "name"));
        const char *role = json_string_value(json_object_get(node, "role"));
        if (is == NULL || strcmp(is, name) != 0) continue;
        out->is_known = true;
        out->number = json_integer_value(json_object_get(node, "number"));
        (void)snprintf(out->role, sizeof(out->role), "%s", role == NULL ? "" : role);
    }
    json_decref(document);
    return EXIT_DONE;
}

/* What a change is waited for. */
struct goal {
    const char *name;
    const char *role; /* NULL: the node is to be gone */
    json_int_t old_number;
};

static bool is_reached(const struct goal *goal, const struct node_state *state)
{
    if (goal->role == NULL) return !state->is_known;
    return state->is_known && state->is_reconciled && state->number != goal->old_number &&
           strcmp(state->role, goal->role) == 0;
}

static uint64_t now_ms(void)
{
    struct timespec now;
    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

/* Until all groups have it, if --wait was given. */
static int wait_for(struct cli *cli, const struct goal *goal)
{
    const struct timespec pause = {0, POLL_MS * 1000000L};
    uint64_t began = now_ms();
    struct node_state state;
    if (!cli->has_wait) {
        fprintf(stderr, "rukun: under way; rukun cluster info shows how far it is\n");
        return EXIT_DONE;
    }
    for (;;) {
        int code = node_ask(cli, goal->name, &state);
        if (code == EXIT_DONE && is_reached(goal, &state)) return EXIT_DONE;
        if (cli->wait_ms != RUKUN_WAIT_FOREVER && now_ms() - began >= cli->wait_ms) break;
        (void)nanosleep(&pause, NULL);
    }
    fprintf(stderr, "rukun: %s: not done in time (%s); it goes on by itself\n", goal->name,
            state.is_known ? state.role : "unknown");
    return EXIT_BUSY;
}

/* --- changes ------------------------------------------------------------------------- */

static int change(struct cli *cli, const char *operation, bool has_addresses)
{
    struct cli_field fields[] = {{"name", cli->arguments[0], 0, false},
                                 {"peer", cli->peer, 0, false},
                                 {"http", cli->http, 0, false},
                                 {"rpc", cli->rpc, 0, false}};
    char *request = cli_object(fields, has_addresses ? 4 : 1);
    if (request == NULL) return EXIT_ERROR;
    int code = EXIT_DONE;
    rukun_client *client = cli_client(cli, &code);
    if (client != NULL) {
        rukun_error err;
        rukun_error_init(&err);
        rukun_text *text = NULL;
        if (rukun_call(&text, client, operation, request, &err) != RUKUN_OK)
            code = cli_fail(&err);
        rukun_text_free(text);
    }
    free(request);
    return code;
}

static int cluster_add(struct cli *cli)
{
    const struct goal goal = {cli->arguments[0], cli->is_learner ? "learner" : "voter", 0};
    if (cli->peer == NULL) {
        fprintf(stderr, "rukun: cluster add needs --peer HOST:PORT\n");
        return EXIT_USAGE;
    }
    int code = change(cli, "cluster.add", true);
    if (code == EXIT_DONE && !cli->is_learner) code = change(cli, "cluster.promote", false);
    if (code != EXIT_DONE) return code;
    fprintf(stderr,
            "rukun: %s may join: start it with an empty data folder and --peers that name "
            "the members and itself\n",
            goal.name);
    return wait_for(cli, &goal);
}

static int cluster_promote(struct cli *cli)
{
    const struct goal goal = {cli->arguments[0], "voter", 0};
    int code = change(cli, "cluster.promote", false);
    return code == EXIT_DONE ? wait_for(cli, &goal) : code;
}

static int cluster_remove(struct cli *cli)
{
    const struct goal goal = {cli->arguments[0], NULL, 0};
    int code = change(cli, "cluster.remove", false);
    return code == EXIT_DONE ? wait_for(cli, &goal) : code;
}

static int cluster_replace(struct cli *cli)
{
    struct node_state before;
    int code = node_ask(cli, cli->arguments[0], &before);
    if (code != EXIT_DONE) return code;
    bool is_learner = strcmp(before.role, "learner") == 0;
    /* One that has not come yet keeps its number. */
    const struct goal goal = {cli->arguments[0], is_learner ? "learner" : "voter",
                              strcmp(before.role, "joining") == 0 ? 0 : before.number};
    code = change(cli, "cluster.replace", true);
    if (code != EXIT_DONE) return code;
    fprintf(stderr, "rukun: %s may come back: start it with an empty data folder\n",
            goal.name);
    return wait_for(cli, &goal);
}

static int cluster_info(struct cli *cli)
{
    return cli_call(cli, "cluster.info", "{}");
}

static int cluster_transfer(struct cli *cli)
{
    if (cli->to == NULL) {
        fprintf(stderr, "rukun: cluster transfer needs --to NODE\n");
        return EXIT_USAGE;
    }
    char *end = NULL;
    unsigned long group = strtoul(cli->arguments[0], &end, 10);
    if (end == cli->arguments[0] || *end != '\0') {
        fprintf(stderr, "rukun: %s is no group number\n", cli->arguments[0]);
        return EXIT_USAGE;
    }
    char request[1024];
    struct cli_field fields[] = {{"to", cli->to, 0, false}};
    char *object = cli_object(fields, 1);
    if (object == NULL) return EXIT_ERROR;
    (void)snprintf(request, sizeof(request), "{\"group\":%lu,%s", group, object + 1);
    free(object);
    return cli_call(cli, "cluster.transfer", request);
}

const struct cli_command cli_cluster_commands[] = {
    {"cluster", "info", "", "nodes, groups, leaders", 0, 0, false, cluster_info},
    {"cluster", "add", "NAME --peer ADDR [--wait D]", "let a node join", 1, 1, false,
     cluster_add},
    {"cluster", "promote", "NAME [--wait D]", "let a learner vote", 1, 1, false,
     cluster_promote},
    {"cluster", "remove", "NAME [--wait D]", "let a node go", 1, 1, false, cluster_remove},
    {"cluster", "replace", "NAME [--wait D]", "a node lost its data: a new number", 1, 1,
     false, cluster_replace},
    {"cluster", "transfer", "GROUP --to NODE", "hand a group's leadership over", 1, 1,
     false, cluster_transfer},
    {NULL, NULL, NULL, NULL, 0, 0, false, NULL},
};
