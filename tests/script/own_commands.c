/* Commands and options that etcd-io/raft's files do not have: the calls of raft.h as the
 * host makes them, for our own traces. */
#include "script/interaction.h"

#include "raft/describe.h"

#include <inttypes.h>

static const char *no_node = "expected the number of a node";

/* What a call of raft.h said. */
static const char *told(enum rk_status status)
{
    return status == RK_OK ? NULL : rk_status_text(status);
}

/* The number-th bare word as a number, at least 1. */
static uint64_t number_of(const struct dd_case *c, size_t number)
{
    uint64_t value;
    for (size_t i = 0; i < c->arg_count; i++) {
        if (c->args[i].value_count > 0 || number-- > 0) continue;
        return dd_number(c->args[i].key, &value) ? value : 0;
    }
    return 0;
}

static const char *read_index(struct interaction *state, const struct dd_case *c)
{
    struct env_node *node = interaction_node(state, c, 0);
    uint64_t request = number_of(c, 1);
    if (node == NULL || request == 0) return "expected a node and the number of a request";
    return told(rk_raft_read_index(node->raft, request));
}

static const char *transfer(struct interaction *state, const struct dd_case *c)
{
    struct env_node *node = interaction_node(state, c, 0);
    uint64_t to = number_of(c, 1);
    if (node == NULL || to == 0) return "expected a node and whom it shall make the leader";
    return told(rk_raft_transfer(node->raft, to));
}

static const char *link_lost(struct interaction *state, const struct dd_case *c)
{
    struct env_node *node = interaction_node(state, c, 0);
    if (node == NULL) return no_node;
    rk_raft_leader_lost_evidence(node->raft);
    return NULL;
}

static const char *tick(struct interaction *state, const struct dd_case *c)
{
    struct env_node *node = interaction_node(state, c, 0);
    uint64_t count = number_of(c, 1);
    if (node == NULL || count == 0) return "expected a node and how many ticks";
    for (uint64_t i = 0; i < count; i++) {
        enum rk_status status = rk_raft_tick(node->raft);
        RK_ASSERT(status == RK_OK);
    }
    return NULL;
}

static const char *report_snapshot(struct interaction *state, const struct dd_case *c)
{
    struct env_node *node = interaction_node(state, c, 0);
    uint64_t of = number_of(c, 1);
    bool is_done = c->arg_count > 2 && strcmp(c->args[2].key, "done") == 0;
    if (node == NULL || of == 0 || c->arg_count != 3 ||
        (!is_done && strcmp(c->args[2].key, "failed") != 0))
        return "expected a node, the receiver, and done or failed";
    rk_raft_report_snapshot(node->raft, of, is_done);
    return NULL;
}

static const char *change_members(struct interaction *state, const struct dd_case *c)
{
    struct env_node *node = interaction_node(state, c, 0);
    struct rk_raft_conf_change change = {0};
    bool is_v1 = false;
    if (node == NULL) return no_node;
    const char *error = interaction_changes(state, c, &change, &is_v1);
    if (error != NULL) return error;
    return told(rk_raft_propose_conf(node->raft, &change, NULL));
}

static const char *restart(struct interaction *state, const struct dd_case *c)
{
    struct env_node *node = interaction_node(state, c, 0);
    if (node == NULL) return no_node;
    return env_restart(&state->env, node);
}

static const char *print_node(struct interaction *state, const struct dd_case *c)
{
    const struct env_node *node = interaction_node(state, c, 0);
    struct rk_raft_status status;
    struct env *env = &state->env;
    if (node == NULL) return no_node;
    rk_raft_status(node->raft, &status);
    env_print(env, "%s Term:%" PRIu64 " Vote:%" PRIu64 " Lead:%" PRIu64,
              rk_raft_role_name(status.role), status.hard_state.term,
              status.hard_state.vote, status.leader);
    env_print(env,
              " Commit:%" PRIu64 " Applied:%" PRIu64 " Log:%" PRIu64 "-%" PRIu64
              " Durable:%" PRIu64,
              status.hard_state.commit, status.applied, status.first_index,
              status.last_index, status.durable_index);
    if (status.has_committed_in_term) env_print(env, " Serving");
    if (status.transferee != RK_RAFT_NONE)
        env_print(env, " Transferee:%" PRIu64, status.transferee);
    if (rk_raft_wanted_snapshot(node->raft) != 0)
        env_print(env, " WantedSnapshot:%" PRIu64, rk_raft_wanted_snapshot(node->raft));
    env_print(env, "\n");
    rk_raft_describe_conf(env->out, &status.conf);
    env_print(env, "\n");
    return NULL;
}

const struct interaction_command interaction_own[] = {
    {"change-members", change_members},
    {"link-lost", link_lost},
    {"node", print_node},
    {"read-index", read_index},
    {"report-snapshot", report_snapshot},
    {"restart", restart},
    {"tick", tick},
    {"transfer", transfer},
    {NULL, NULL},
};

/* As the host sets them, with few ticks and no chance. */
static void set_shipped(struct rk_raft_options *options)
{
    rk_raft_options_init(options);
    options->election_tick = 10;
    options->election_jitter = 1;
    options->heartbeat_tick = 2;
    options->prevote_retry = 5;
    options->early_jitter = 0;
    options->drift_ticks = 3;
    options->restart_ticks = 0;
    options->disk_stall_ticks = 30;
}

bool interaction_own_option(struct interaction *state, struct env_kind *kind,
                            const char *key, const char *value, const char **error)
{
    struct rk_raft_options *options = &kind->options;
    struct {
        const char *key;
        bool *flag;
    } const flags[] = {
        {"shipped", &kind->is_shipped},
        {"early-vote", &options->early_vote},
        {"must-not-vote", &options->must_not_vote},
    };
    struct {
        const char *key;
        uint32_t *number;
    } const numbers[] = {
        {"disk-stall", &options->disk_stall_ticks},
        {"max-reads", &options->max_pending_reads},
        {"prevote-retry", &options->prevote_retry},
    };
    for (size_t i = 0; i < sizeof(flags) / sizeof(flags[0]); i++) {
        if (strcmp(key, flags[i].key) != 0) continue;
        if (!dd_bool(value, flags[i].flag))
            *error = interaction_refuse(state, "not a flag: ", value);
        else if (i == 0 && kind->is_shipped)
            set_shipped(options);
        return true;
    }
    uint64_t number;
    if (strcmp(key, "max-message") == 0) {
        if (!dd_number(value, &options->max_message_bytes))
            *error = interaction_refuse(state, "not a number: ", value);
        return true;
    }
    for (size_t i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++) {
        if (strcmp(key, numbers[i].key) != 0) continue;
        if (dd_number(value, &number) && number <= UINT32_MAX)
            *numbers[i].number = (uint32_t)number;
        else
            *error = interaction_refuse(state, "not a number: ", value);
        return true;
    }
    return false;
}
