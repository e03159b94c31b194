/* The commands of etcd-io/raft's interaction tests, over a cluster in memory. */
#include "script/changes.h"
#include "script/interaction.h"
#include "script/script.h"

#include "raft/describe.h"

#include "base/alloc.h"

#include <inttypes.h>
#include <stdio.h>
#include <strings.h>

const char *interaction_refuse(struct interaction *state, const char *before,
                               const char *what)
{
    snprintf(state->error, sizeof(state->error), "%s%s", before, what);
    return state->error;
}

struct env_node *interaction_node(struct interaction *state, const struct dd_case *c,
                                  size_t number)
{
    for (size_t i = 0; i < c->arg_count; i++) {
        uint64_t id;
        if (c->args[i].value_count > 0) continue;
        if (number-- > 0) continue;
        if (!dd_number(c->args[i].key, &id)) return NULL;
        return id >= 1 && id <= state->env.node_count ? state->env.nodes[id - 1] : NULL;
    }
    return NULL;
}

/* All bare words as nodes. */
static size_t nodes_of(struct interaction *state, const struct dd_case *c,
                       struct env_node **out)
{
    size_t count = 0;
    while (count < ENV_NODES_MAX &&
           (out[count] = interaction_node(state, c, count)) != NULL)
        count++;
    return count;
}

static const char *no_node = "expected the number of a node";

static void default_options(struct rk_raft_options *options)
{
    rk_raft_options_init(options);
    options->election_tick = 3;
    options->election_jitter = 3;
    options->heartbeat_tick = 1;
    options->prevote_retry = 0;
    options->drift_ticks = 1;
    options->restart_ticks = 0;
    options->disk_stall_ticks = 0;
    options->max_inflight_messages = INT32_MAX;
    options->max_inflight_bytes = 0;
    options->max_message_bytes = RK_RAFT_NO_LIMIT;
    options->max_uncommitted_bytes = 0;
    options->max_committed_bytes_per_ready = 0;
    options->check_quorum = false;
    options->pre_vote = false;
    options->step_down_on_removal = false;
    options->forward_proposals = true;
    options->is_eager = true;
    options->host_keeps_after = true;
}

static const char *set_option(struct interaction *state, struct env_kind *added,
                              const char *key, const char *value)
{
    struct rk_raft_options *options = &added->options;
    struct rk_raft_conf_state *conf = &added->snapshot.meta.conf;
    struct {
        const char *key;
        bool *flag;
    } const flags[] = {
        {"async-storage-writes", &added->is_async},
        {"prevote", &options->pre_vote},
        {"checkquorum", &options->check_quorum},
        {"disable-conf-change-validation", &options->is_conf_unchecked},
        {"step-down-on-removal", &options->step_down_on_removal},
    };
    for (size_t i = 0; i < sizeof(flags) / sizeof(flags[0]); i++)
        if (strcmp(key, flags[i].key) == 0)
            return dd_bool(value, flags[i].flag)
                       ? NULL
                       : interaction_refuse(state, "not a flag: ", value);

    if (strcmp(key, "read-only") == 0) {
        bool is_lease = strcmp(value, "lease-based") == 0;
        if (!is_lease && strcmp(value, "safe") != 0)
            return interaction_refuse(state, "invalid read-only option ", value);
        options->read_mode = is_lease ? RK_RAFT_READ_LEASE : RK_RAFT_READ_SAFE;
        return NULL;
    }
    const char *error = NULL;
    if (interaction_own_option(state, added, key, value, &error)) return error;
    added->is_bootstrap = true;
    if (strcmp(key, "content") == 0) {
        added->snapshot.data = rk_slice_of_string(value);
        return NULL;
    }
    uint64_t number;
    if (!dd_number(value, &number))
        return interaction_refuse(state, "not a number: ", value);
    if (strcmp(key, "voters") == 0 || strcmp(key, "learners") == 0) {
        enum rk_status status =
            rk_raft_members_add(*key == 'v' ? &conf->voters : &conf->learners, number);
        return status == RK_OK ? NULL : rk_status_text(status);
    }
    if (strcmp(key, "index") == 0) {
        added->snapshot.meta.index = number;
        options->applied = number;
        return NULL;
    }
    added->is_bootstrap = false;
    if (strcmp(key, "inflight") == 0)
        options->max_inflight_messages = (uint32_t)number;
    else if (strcmp(key, "max-committed-size-per-ready") == 0)
        options->max_committed_bytes_per_ready = number;
    return NULL; /* unknown keys are ignored, as there */
}

static const char *add_nodes(struct interaction *state, const struct dd_case *c)
{
    struct env_kind added = {0};
    uint64_t count;
    bool is_bootstrap = false;
    default_options(&added.options);
    if (c->arg_count == 0 || !dd_number(c->args[0].key, &count)) return no_node;
    for (size_t i = 1; i < c->arg_count; i++)
        for (size_t k = 0; k < c->args[i].value_count; k++) {
            added.is_bootstrap = false;
            const char *error =
                set_option(state, &added, c->args[i].key, c->args[i].values[k]);
            if (error != NULL) return error;
            is_bootstrap = is_bootstrap || added.is_bootstrap;
        }
    added.is_bootstrap = is_bootstrap;
    return env_add_nodes(&state->env, count, &added);
}

static const char *step_one(struct interaction *state, const struct dd_case *c,
                            struct rk_raft_message message)
{
    struct env_node *node = interaction_node(state, c, 0);
    if (node == NULL) return no_node;
    return env_step_text(env_step_local(node, &message));
}

static const char *campaign(struct interaction *state, const struct dd_case *c)
{
    return step_one(state, c, (struct rk_raft_message){.type = RK_RAFT_MSG_HUP});
}

static const char *forget_leader(struct interaction *state, const struct dd_case *c)
{
    return step_one(state, c, (struct rk_raft_message){.type = RK_RAFT_MSG_FORGET_LEADER});
}

static const char *report_unreachable(struct interaction *state, const struct dd_case *c)
{
    const struct env_node *reported = interaction_node(state, c, 1);
    if (reported == NULL)
        return "must specify exactly two node indexes: node on which to "
               "report, and reported node";
    return step_one(
        state, c,
        (struct rk_raft_message){.type = RK_RAFT_MSG_UNREACHABLE, .from = reported->id});
}

static const char *transfer_leadership(struct interaction *state, const struct dd_case *c)
{
    uint64_t from;
    uint64_t to;
    const char *from_text = dd_value(c, "from");
    const char *to_text = dd_value(c, "to");
    if (from_text == NULL || to_text == NULL || !dd_number(from_text, &from) ||
        !dd_number(to_text, &to) || from == 0 || from > state->env.node_count)
        return no_node;
    return env_step_text(env_step_local(
        state->env.nodes[from - 1],
        &(struct rk_raft_message){.type = RK_RAFT_MSG_TRANSFER_LEADER, .from = to}));
}

static const char *propose(struct interaction *state, const struct dd_case *c)
{
    struct env_node *node = interaction_node(state, c, 0);
    if (node == NULL || c->arg_count != 2) return no_node;
    struct rk_raft_entry entry = {.data = rk_slice_of_string(c->args[1].key)};
    return step_one(state, c,
                    (struct rk_raft_message){.type = RK_RAFT_MSG_PROP,
                                             .from = node->id,
                                             .entries = &entry,
                                             .entry_count = 1});
}

static const char *change_options(struct interaction *state, const struct dd_case *c,
                                  struct rk_raft_conf_change *change, bool *is_v1)
{
    static const char *const transitions[] = {"auto", "implicit", "explicit"};
    for (size_t i = 1; i < c->arg_count; i++) {
        if (c->args[i].value_count == 0) continue;
        const char *value = c->args[i].values[0];
        if (strcmp(c->args[i].key, "v1") == 0) {
            if (!dd_bool(value, is_v1))
                return interaction_refuse(state, "not a flag: ", value);
        } else if (strcmp(c->args[i].key, "transition") == 0) {
            int found = -1;
            for (int t = 0; t < 3; t++)
                if (strcmp(value, transitions[t]) == 0) found = t;
            if (found < 0) return interaction_refuse(state, "unknown transition ", value);
            change->transition = (enum rk_raft_transition)found;
        } else {
            return interaction_refuse(state, "unknown command ", c->args[i].key);
        }
    }
    return NULL;
}

const char *interaction_changes(struct interaction *state, const struct dd_case *c,
                                struct rk_raft_conf_change *change, bool *is_v1)
{
    struct rk_buf text;
    const char *error = change_options(state, c, change, is_v1);
    if (error != NULL) return error;
    rk_buf_init(&text);
    if (!parse_changes(c->input, change, &text)) {
        snprintf(state->error, sizeof(state->error), "%.*s", (int)text.size,
                 (const char *)text.data);
        error = state->error;
    }
    rk_buf_fini(&text);
    return error;
}

static const char *propose_conf_change(struct interaction *state, const struct dd_case *c)
{
    struct rk_raft_conf_change change = {0};
    bool is_v1 = false;
    struct rk_buf data;
    const char *error = interaction_changes(state, c, &change, &is_v1);
    if (error != NULL) return error;
    if (is_v1 && (change.count != 1 || change.transition != RK_RAFT_TRANSITION_AUTO))
        return "v1 conf change can only have one operation and no transition";
    rk_buf_init(&data);
    enum rk_status status = rk_raft_conf_change_encode(&data, &change);
    RK_ASSERT(status == RK_OK);
    struct rk_raft_entry entry = {.type =
                                      is_v1 ? RK_RAFT_ENTRY_CONF : RK_RAFT_ENTRY_CONF_V2,
                                  .data = rk_buf_slice(&data)};
    error = step_one(state, c,
                     (struct rk_raft_message){
                         .type = RK_RAFT_MSG_PROP, .entries = &entry, .entry_count = 1});
    rk_buf_fini(&data);
    return error;
}

static const char *print_log(struct interaction *state, struct env_node *node)
{
    const struct mem_store *store = &node->store;
    if (state->env.is_quiet) return NULL;
    if (store->count == 1)
        env_print(&state->env, "log is empty: first index=%" PRIu64 ", last index=%" PRIu64,
                  store->entries[0].index + 1, store->entries[0].index);
    else
        rk_raft_describe_entries(state->env.out, store->entries + 1, store->count - 1);
    return NULL;
}

static const char *raft_log(struct interaction *state, const struct dd_case *c)
{
    struct env_node *node = interaction_node(state, c, 0);
    return node == NULL ? no_node : print_log(state, node);
}

static const char *compact(struct interaction *state, const struct dd_case *c)
{
    struct env_node *node = interaction_node(state, c, 0);
    uint64_t index;
    if (node == NULL || c->arg_count < 2 || !dd_number(c->args[1].key, &index))
        return no_node;
    const char *error = mem_store_compact(&node->store, index);
    return error != NULL ? error : print_log(state, node);
}

static const char *raft_state(struct interaction *state, const struct dd_case *c)
{
    (void)c;
    for (size_t i = 0; i < state->env.node_count; i++) {
        struct rk_raft_status status;
        rk_raft_status(state->env.nodes[i]->raft, &status);
        env_print(&state->env, "%" PRIu64 ": %s (%s) Term:%" PRIu64 " Lead:%" PRIu64 "\n",
                  status.id, rk_raft_role_name(status.role),
                  rk_raft_conf_has_voter(&status.conf, status.id) ? "Voter" : "Non-Voter",
                  status.hard_state.term, status.leader);
    }
    return NULL;
}

static const char *print_status(struct interaction *state, const struct dd_case *c)
{
    struct env_node *node = interaction_node(state, c, 0);
    struct rk_raft_status status;
    if (node == NULL) return no_node;
    rk_raft_status(node->raft, &status);
    for (uint32_t i = 0; i < status.progress_count && !state->env.is_quiet; i++) {
        env_print(&state->env, "%" PRIu64 ": ", status.progress[i].id);
        rk_raft_describe_progress(state->env.out, &status.progress[i]);
        env_print(&state->env, "\n");
    }
    return NULL;
}

static const char *tick(struct interaction *state, const struct dd_case *c,
                        bool is_election)
{
    struct env_node *node = interaction_node(state, c, 0);
    if (node == NULL) return no_node;
    uint32_t count =
        is_election ? node->options.election_tick : node->options.heartbeat_tick;
    for (uint32_t i = 0; i < count; i++) {
        enum rk_status status = rk_raft_tick(node->raft);
        RK_ASSERT(status == RK_OK);
    }
    return NULL;
}

static const char *tick_election(struct interaction *state, const struct dd_case *c)
{
    return tick(state, c, true);
}

static const char *tick_heartbeat(struct interaction *state, const struct dd_case *c)
{
    return tick(state, c, false);
}

static const char *set_timeout(struct interaction *state, const struct dd_case *c)
{
    struct env_node *node = interaction_node(state, c, 0);
    const char *text = dd_value(c, "timeout");
    uint64_t timeout;
    if (node == NULL || text == NULL || !dd_number(text, &timeout)) return no_node;
    rk_raft_set_election_timeout(node->raft, (uint32_t)timeout);
    return NULL;
}

static const char *set_level(struct interaction *state, const char *name)
{
    static const char *const levels[] = {"DEBUG", "INFO", "WARN", "ERROR", "FATAL", "NONE"};
    for (size_t i = 0; i < 6; i++) {
        if (strcasecmp(levels[i], name) != 0) continue;
        state->env.is_quiet = i == 5;
        return NULL;
    }
    return "log levels must be either of [DEBUG INFO WARN ERROR FATAL NONE]";
}

static const char *log_level(struct interaction *state, const struct dd_case *c)
{
    return c->arg_count > 0 ? set_level(state, c->args[0].key) : no_node;
}

static const char *send_snapshot(struct interaction *state, const struct dd_case *c)
{
    const struct env_node *from = interaction_node(state, c, 0);
    const struct env_node *to = interaction_node(state, c, 1);
    if (from == NULL || to == NULL) return no_node;
    struct rk_raft_message message = {.type = RK_RAFT_MSG_SNAP,
                                      .term = rk_raft_term(from->raft),
                                      .from = from->id,
                                      .to = to->id,
                                      .snapshot = from->store.newest};
    env_send(&state->env, &message);
    env_print_message(&state->env, &message);
    return NULL;
}

static const char *deliver_msgs(struct interaction *state, const struct dd_case *c)
{
    uint8_t type = ENV_ANY_TYPE;
    const char *name = dd_value(c, "type");
    size_t count = 0;
    if (name != NULL && !rk_raft_type_of_name(name, &type))
        return interaction_refuse(state, "unknown message type ", name);
    for (size_t i = 0; i < c->arg_count; i++) {
        const struct dd_arg *arg = &c->args[i];
        uint64_t id;
        if (arg->value_count == 0) {
            if (!dd_number(arg->key, &id)) return no_node;
            count += env_deliver(&state->env, id, type, false);
        }
        for (size_t k = 0; strcmp(arg->key, "drop") == 0 && k < arg->value_count; k++) {
            if (!dd_number(arg->values[k], &id)) return no_node;
            count += env_deliver(&state->env, id, type, true);
        }
    }
    if (count == 0) env_print(&state->env, "no messages\n");
    return NULL;
}

static const char *one_ready(struct env *env, struct env_node *node)
{
    return env_process_ready(env, node);
}

static const char *one_apply(struct env *env, struct env_node *node)
{
    env_process_apply(env, node);
    return NULL;
}

/* One node plainly, several each under a heading. */
static const char *each_node(struct interaction *state, const struct dd_case *c,
                             const char *what,
                             const char *(*work)(struct env *env, struct env_node *node))
{
    struct env_node *nodes[ENV_NODES_MAX];
    size_t count = nodes_of(state, c, nodes);
    for (size_t i = 0; i < count; i++) {
        const char *error;
        if (count == 1) {
            error = work(&state->env, nodes[i]);
        } else {
            struct rk_buf inner;
            env_print(&state->env, "> %" PRIu64 " %s\n", nodes[i]->id, what);
            struct rk_buf *outer = env_indent(&state->env, &inner);
            error = work(&state->env, nodes[i]);
            env_outdent(&state->env, outer);
        }
        if (error != NULL) return error;
    }
    return NULL;
}

static const char *process_ready(struct interaction *state, const struct dd_case *c)
{
    return each_node(state, c, "handling Ready", one_ready);
}

static const char *process_append(struct interaction *state, const struct dd_case *c)
{
    return each_node(state, c, "processing append thread", env_process_append);
}

static const char *process_apply(struct interaction *state, const struct dd_case *c)
{
    return each_node(state, c, "processing apply thread", one_apply);
}

static const char *stabilize(struct interaction *state, const struct dd_case *c)
{
    struct env_node *nodes[ENV_NODES_MAX];
    size_t count = nodes_of(state, c, nodes);
    bool was_quiet = state->env.is_quiet;
    const char *level = dd_value(c, "log-level");
    const char *error = level != NULL ? set_level(state, level) : NULL;
    if (error == NULL && count > 0) error = env_stabilize(&state->env, nodes, count);
    if (error == NULL && count == 0)
        error = env_stabilize(&state->env, state->env.nodes, state->env.node_count);
    state->env.is_quiet = was_quiet;
    return error;
}

static const char *breakpoint(struct interaction *state, const struct dd_case *c)
{
    (void)state;
    (void)c;
    return NULL;
}

static const struct interaction_command commands[] = {
    {"_breakpoint", breakpoint},
    {"add-nodes", add_nodes},
    {"campaign", campaign},
    {"compact", compact},
    {"deliver-msgs", deliver_msgs},
    {"forget-leader", forget_leader},
    {"log-level", log_level},
    {"process-append-thread", process_append},
    {"process-apply-thread", process_apply},
    {"process-ready", process_ready},
    {"propose", propose},
    {"propose-conf-change", propose_conf_change},
    {"raft-log", raft_log},
    {"raft-state", raft_state},
    {"report-unreachable", report_unreachable},
    {"send-snapshot", send_snapshot},
    {"set-randomized-election-timeout", set_timeout},
    {"stabilize", stabilize},
    {"status", print_status},
    {"tick-election", tick_election},
    {"tick-heartbeat", tick_heartbeat},
    {"transfer-leadership", transfer_leadership},
    {NULL, NULL},
};

static const struct interaction_command *find_in(const struct interaction_command *list,
                                                 const char *command)
{
    while (list->name != NULL && strcmp(list->name, command) != 0)
        list++;
    return list->name != NULL ? list : NULL;
}

static const struct interaction_command *find(const char *command)
{
    const struct interaction_command *found = find_in(commands, command);
    return found != NULL ? found : find_in(interaction_own, command);
}

static bool knows(const char *command)
{
    return find(command) != NULL;
}

static void *open_state(uint64_t max_cached_bytes)
{
    struct interaction *state = rk_calloc(1, sizeof(*state));
    RK_ASSERT(state != NULL);
    env_init(&state->env, max_cached_bytes);
    return state;
}

static void run(void *opaque, const struct dd_case *c, struct rk_buf *out)
{
    struct interaction *state = opaque;
    state->env.out = out;
    const struct interaction_command *found = find(c->command);
    const char *error = found != NULL ? found->handle(state, c) : "unknown command";
    /* Errors are shown even when all else is quiet. */
    if (error != NULL) rk_buf_append_string(out, error);
    if (out->size == 0) rk_buf_append_string(out, "ok");
}

static void close_state(void *opaque)
{
    struct interaction *state = opaque;
    env_fini(&state->env);
    rk_free(state);
}

const struct script_kind script_interaction = {"interaction", knows, open_state, run,
                                               close_state};
