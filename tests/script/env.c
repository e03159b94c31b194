#include "script/env.h"

#include "base/alloc.h"

#include <inttypes.h>

void env_init(struct env *env, uint64_t max_cached_bytes)
{
    memset(env, 0, sizeof(*env));
    rk_arena_init(&env->arena);
    env->max_cached_bytes = max_cached_bytes;
}

void env_fini(struct env *env)
{
    for (size_t i = 0; i < env->node_count; i++) {
        rk_raft_free(env->nodes[i]->raft);
        mem_store_fini(&env->nodes[i]->store);
        rk_free(env->nodes[i]->append_work.items);
        rk_free(env->nodes[i]->apply_work.items);
        rk_free(env->nodes[i]);
    }
    rk_free(env->messages.items);
    rk_arena_fini(&env->arena);
}

static void *take(struct env *env, size_t count, size_t size)
{
    void *memory = rk_arena_calloc(&env->arena, count, size);
    RK_ASSERT(memory != NULL);
    return memory;
}

static struct rk_raft_message clone(struct env *env, const struct rk_raft_message *message)
{
    struct rk_raft_message copy = *message;
    if (message->entry_count > 0) {
        struct rk_raft_entry *entries = take(env, message->entry_count, sizeof(*entries));
        for (size_t i = 0; i < message->entry_count; i++) {
            entries[i] = message->entries[i];
            if (entries[i].data.size > 0)
                entries[i].data = rk_arena_copy(&env->arena, message->entries[i].data);
        }
        copy.entries = entries;
    }
    if (message->snapshot != NULL) {
        struct rk_raft_snapshot *snapshot = take(env, 1, sizeof(*snapshot));
        *snapshot = *message->snapshot;
        copy.snapshot = snapshot;
    }
    return copy;
}

static void push(struct env_messages *list, struct env_message message)
{
    if (list->count == list->capacity) {
        list->capacity = list->capacity * 2 + 16;
        list->items = rk_realloc_array(list->items, list->capacity, sizeof(*list->items));
        RK_ASSERT(list->items != NULL);
    }
    list->items[list->count++] = message;
}

static struct env_message shift(struct env_messages *list)
{
    struct env_message first = list->items[0];
    list->count--;
    memmove(list->items, list->items + 1, list->count * sizeof(*list->items));
    return first;
}

void env_send(struct env *env, const struct rk_raft_message *message)
{
    push(&env->messages, (struct env_message){.message = clone(env, message)});
}

const char *env_step_text(enum rk_status status)
{
    switch (status) {
    case RK_OK: return NULL;
    case RK_EDROPPED: return "raft proposal dropped";
    case RK_EINVAL: return "raft: cannot step raft local message";
    case RK_ENOENT: return "raft: cannot step as peer not found";
    default: return rk_status_text(status);
    }
}

static const char *open_raft(struct env_node *node)
{
    struct rk_raft_store face = mem_store_face(&node->store);
    enum rk_status status = rk_raft_open(&node->raft, &node->options, &face);
    if (status == RK_OK) return NULL;
    node->raft = NULL;
    return rk_status_text(status);
}

static const char *add_node(struct env *env, const struct env_kind *kind)
{
    RK_ASSERT(env->node_count < ENV_NODES_MAX);
    struct env_node *node = rk_calloc(1, sizeof(*node));
    RK_ASSERT(node != NULL);
    node->id = env->node_count + 1;
    node->is_async = kind->is_async;
    node->is_shipped = kind->is_shipped;
    node->newest = kind->snapshot;
    mem_store_init(&node->store, &env->arena);
    node->store.newest = &node->newest.meta;
    node->options = kind->options;
    if (kind->is_bootstrap) {
        node->newest.meta.term = 1;
        const char *error = mem_store_apply_snapshot(&node->store, &node->newest.meta);
        RK_ASSERT(error == NULL);
        /* A cluster is born with a term and a commit; traces of others have none. */
        if (node->is_shipped)
            node->hard = (struct rk_raft_hard_state){1, 0, kind->snapshot.meta.index};
    }
    node->options.id = node->id;
    node->options.seed = node->id;
    node->options.conf = node->store.conf;
    node->options.hard_state = node->hard;
    node->options.apply_unstable = !node->is_async && !node->is_shipped;
    node->options.max_cached_bytes = env->max_cached_bytes;
    const char *error = open_raft(node);
    if (error != NULL) {
        mem_store_fini(&node->store);
        rk_free(node);
        return error;
    }
    env->is_detailed = env->is_detailed || node->is_shipped;
    env->nodes[env->node_count++] = node;
    return NULL;
}

const char *env_add_nodes(struct env *env, uint64_t count, const struct env_kind *kind)
{
    for (uint64_t i = 0; i < count; i++) {
        if (kind->is_bootstrap && kind->snapshot.meta.index <= 1)
            return "index must be specified as > 1 due to bootstrap";
        const char *error = add_node(env, kind);
        if (error != NULL) return error;
    }
    return NULL;
}

const char *env_restart(struct env *env, struct env_node *node)
{
    (void)env;
    rk_raft_free(node->raft);
    node->append_work.count = 0;
    node->apply_work.count = 0;
    node->options.hard_state = node->hard;
    node->options.conf = node->newest.meta.conf;
    node->options.applied = node->newest.meta.index;
    const char *error = open_raft(node);
    RK_ASSERT(error == NULL);
    return NULL;
}

static const char *store_append(struct env_node *node, const struct rk_raft_entry *entries,
                                size_t count, const struct rk_raft_snapshot *snapshot)
{
    if (snapshot != NULL && snapshot->index != 0) {
        if (count > 0) return "can't apply snapshot and entries at the same time";
        if (node->is_shipped) node->newest.meta = *snapshot;
        return mem_store_apply_snapshot(&node->store, snapshot);
    }
    mem_store_append(&node->store, entries, count);
    return NULL;
}

/* The state machine appends the data of each entry to what it has. */
static void apply(struct env *env, struct env_node *node,
                  const struct rk_raft_entry *entries, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        struct rk_slice update = entries[i].data;
        if (entries[i].type != RK_RAFT_ENTRY_NORMAL) {
            struct rk_raft_conf_change change;
            enum rk_status status =
                rk_raft_apply_conf(node->raft, &entries[i], &node->newest.meta.conf);
            if (status != RK_OK) env_print(env, "%s\n", rk_status_text(status));
            status = rk_raft_conf_change_decode(&change, entries[i].data);
            update = status == RK_OK ? change.context : RK_SLICE_EMPTY;
        }
        struct rk_slice old = node->newest.data;
        uint8_t *data = take(env, old.size + update.size + 1, 1);
        if (old.size > 0) memcpy(data, old.data, old.size);
        if (update.size > 0) memcpy(data + old.size, update.data, update.size);
        node->newest.data = rk_slice_of(data, old.size + update.size);
        node->newest.meta.index = entries[i].index;
        node->newest.meta.term = entries[i].term;
    }
}

static struct rk_raft_message append_resp(const struct env_node *node,
                                          const struct rk_raft_ready *ready)
{
    return (struct rk_raft_message){.type = RK_RAFT_MSG_STORAGE_APPEND_RESP,
                                    .from = RK_RAFT_APPEND_THREAD,
                                    .to = node->id,
                                    .term = ready->done_term,
                                    .index = ready->done_index,
                                    .log_term = ready->done_log_term,
                                    .snapshot = ready->snapshot};
}

static struct rk_raft_message apply_resp(const struct env_node *node,
                                         const struct rk_raft_ready *ready)
{
    return (struct rk_raft_message){.type = RK_RAFT_MSG_STORAGE_APPLY_RESP,
                                    .from = RK_RAFT_APPLY_THREAD,
                                    .to = node->id,
                                    .entries = ready->committed,
                                    .entry_count = ready->committed_count};
}

/* What the append thread is told, as one message with the answers it gives when done. */
static struct env_message append_message(struct env *env, const struct env_node *node,
                                         const struct rk_raft_ready *ready)
{
    struct rk_raft_message message = {.type = RK_RAFT_MSG_STORAGE_APPEND,
                                      .from = node->id,
                                      .to = RK_RAFT_APPEND_THREAD,
                                      .entries = ready->entries,
                                      .entry_count = ready->entry_count,
                                      .snapshot = ready->snapshot};
    if (ready->has_hard_state) {
        message.term = ready->hard_state.term;
        message.context = ready->hard_state.vote;
        message.commit = ready->hard_state.commit;
    }
    struct env_message out = {.message = clone(env, &message), .number = ready->number};
    if (node->is_shipped) return out;
    out.responses = take(env, ready->after_count + 1, sizeof(*out.responses));
    for (size_t i = 0; i < ready->after_count; i++)
        out.responses[out.response_count++] = ready->after[i];
    if (ready->has_done) {
        message = append_resp(node, ready);
        out.responses[out.response_count++] = clone(env, &message);
    }
    return out;
}

static struct env_message apply_message(struct env *env, const struct env_node *node,
                                        const struct rk_raft_ready *ready)
{
    struct rk_raft_message response = apply_resp(node, ready);
    struct env_message out = {.responses = take(env, 1, sizeof(*out.responses)),
                              .response_count = node->is_shipped ? 0 : 1};
    out.responses[0] = clone(env, &response);
    out.message = out.responses[0];
    out.message.type = RK_RAFT_MSG_STORAGE_APPLY;
    out.message.from = node->id;
    out.message.to = RK_RAFT_APPLY_THREAD;
    return out;
}

/* All messages of the ready in the order in which they are printed. */
static void collect(struct env *env, const struct env_node *node,
                    const struct rk_raft_ready *ready, struct env_messages *out)
{
    for (size_t i = 0; i < ready->message_count; i++)
        push(out, (struct env_message){.message = clone(env, &ready->messages[i])});
    if (node->is_async) {
        if (ready->has_append) push(out, append_message(env, node, ready));
        if (ready->committed_count > 0) push(out, apply_message(env, node, ready));
        return;
    }
    for (size_t i = 0; i < ready->after_count; i++)
        if (ready->after[i].to != node->id)
            push(out, (struct env_message){.message = ready->after[i]});
}

enum rk_status env_step_local(struct env_node *node, const struct rk_raft_message *message)
{
    enum rk_status status = rk_raft_prepare(node->raft);
    RK_ASSERT(status == RK_OK);
    return rk_raft_step_local(node->raft, message);
}

/* What the host tells. */
static void tell_persisted(struct env_node *node, uint64_t number)
{
    enum rk_status status = rk_raft_persisted(node->raft, number);
    RK_ASSERT(status == RK_OK);
}

static void tell_applied(struct env_node *node, const struct rk_raft_entry *entries,
                         size_t count)
{
    rk_raft_applied(node->raft, entries[count - 1].index);
}

/* Everything was written and applied: the node's own answers. */
static void advance(struct env_node *node, const struct rk_raft_ready *ready)
{
    if (node->is_shipped) {
        if (ready->has_append) tell_persisted(node, ready->number);
        if (ready->committed_count > 0)
            tell_applied(node, ready->committed, ready->committed_count);
        return;
    }
    for (size_t i = 0; i < ready->after_count; i++)
        if (ready->after[i].to == node->id) (void)env_step_local(node, &ready->after[i]);
    if (ready->has_done) {
        struct rk_raft_message done = append_resp(node, ready);
        (void)env_step_local(node, &done);
    }
    if (ready->committed_count > 0) {
        struct rk_raft_message done = apply_resp(node, ready);
        (void)env_step_local(node, &done);
    }
}

const char *env_process_ready(struct env *env, struct env_node *node)
{
    struct rk_raft_ready ready;
    struct env_messages messages = {0};
    enum rk_status status = rk_raft_ready(node->raft, &ready);
    if (status != RK_OK) return rk_status_text(status);
    collect(env, node, &ready, &messages);
    env_print_ready(env, &ready, &messages);

    const char *error = NULL;
    if (!node->is_async) {
        if (ready.has_hard_state) node->hard = ready.hard_state;
        error = store_append(node, ready.entries, ready.entry_count, ready.snapshot);
        if (error == NULL) apply(env, node, ready.committed, ready.committed_count);
    }
    for (size_t i = 0; error == NULL && i < messages.count; i++) {
        uint8_t type = messages.items[i].message.type;
        push(type == RK_RAFT_MSG_STORAGE_APPEND  ? &node->append_work
             : type == RK_RAFT_MSG_STORAGE_APPLY ? &node->apply_work
                                                 : &env->messages,
             messages.items[i]);
    }
    rk_free(messages.items);
    if (error == NULL && !node->is_async) advance(node, &ready);
    return error;
}

static void respond(struct env *env, const struct env_message *work)
{
    env_print(env, "Responses:\n");
    for (size_t i = 0; i < work->response_count; i++) {
        env_print_message(env, &work->responses[i]);
        env_print(env, "\n");
        push(&env->messages, (struct env_message){.message = work->responses[i]});
    }
}

const char *env_process_append(struct env *env, struct env_node *node)
{
    if (node->append_work.count == 0) {
        env_print(env, "no append work to perform");
        return NULL;
    }
    struct env_message work = shift(&node->append_work);
    env_print(env, "Processing:\n");
    env_print_message(env, &work.message);
    env_print(env, "\n");
    if (work.message.term != 0)
        node->hard = (struct rk_raft_hard_state){work.message.term, work.message.context,
                                                 work.message.commit};
    const char *error = store_append(node, work.message.entries, work.message.entry_count,
                                     work.message.snapshot);
    if (error != NULL) return error;
    if (node->is_shipped)
        tell_persisted(node, work.number);
    else
        respond(env, &work);
    return NULL;
}

void env_process_apply(struct env *env, struct env_node *node)
{
    if (node->apply_work.count == 0) {
        env_print(env, "no apply work to perform");
        return;
    }
    struct env_message work = shift(&node->apply_work);
    env_print(env, "Processing:\n");
    env_print_message(env, &work.message);
    env_print(env, "\n");
    apply(env, node, work.message.entries, work.message.entry_count);
    if (node->is_shipped)
        tell_applied(node, work.message.entries, work.message.entry_count);
    else
        respond(env, &work);
}

static bool is_thread(uint64_t id)
{
    return id >= RK_RAFT_APPLY_THREAD;
}

static bool is_local(const struct rk_raft_message *message)
{
    return message->from == message->to || is_thread(message->from) ||
           is_thread(message->to);
}

static bool is_for(const struct rk_raft_message *message, uint64_t id, uint8_t type,
                   bool is_dropped)
{
    return message->to == id && !(is_dropped && is_local(message)) &&
           (type == ENV_ANY_TYPE || message->type == type);
}

size_t env_deliver(struct env *env, uint64_t id, uint8_t type, bool is_dropped)
{
    struct env_messages due = {0};
    size_t kept = 0;
    for (size_t i = 0; i < env->messages.count; i++) {
        if (is_for(&env->messages.items[i].message, id, type, is_dropped))
            push(&due, env->messages.items[i]);
        else
            env->messages.items[kept++] = env->messages.items[i];
    }
    env->messages.count = kept;
    for (size_t i = 0; i < due.count; i++) {
        const struct rk_raft_message *message = &due.items[i].message;
        if (is_dropped) env_print(env, "dropped: ");
        env_print_message(env, message);
        env_print(env, "\n");
        if (is_dropped) continue;
        RK_ASSERT(id >= 1 && id <= env->node_count);
        struct env_node *node = env->nodes[id - 1];
        enum rk_status status = is_thread(message->from)
                                    ? env_step_local(node, message)
                                    : rk_raft_step(node->raft, message);
        const char *error = env_step_text(status);
        if (error != NULL) env_print(env, "%s\n", error);
    }
    size_t count = due.count;
    rk_free(due.items);
    return count;
}

struct rk_buf *env_indent(struct env *env, struct rk_buf *inner)
{
    struct rk_buf *outer = env->out;
    rk_buf_init(inner);
    env->out = inner;
    return outer;
}

void env_outdent(struct env *env, struct rk_buf *outer)
{
    struct rk_buf *inner = env->out;
    env->out = outer;
    for (size_t at = 0; at < inner->size;) {
        const uint8_t *end = memchr(inner->data + at, '\n', inner->size - at);
        size_t size = end != NULL ? (size_t)(end - inner->data) - at : inner->size - at;
        rk_buf_append_string(outer, "  ");
        rk_buf_append(outer, inner->data + at, size);
        rk_buf_u8(outer, '\n');
        at += size + 1;
    }
    rk_buf_fini(inner);
}

static bool has_message(const struct env *env, uint64_t id)
{
    for (size_t i = 0; i < env->messages.count; i++)
        if (env->messages.items[i].message.to == id) return true;
    return false;
}

static const char *ready_all(struct env *env, struct env_node *const *nodes, size_t count,
                             bool *is_done)
{
    for (size_t i = 0; i < count; i++) {
        struct rk_buf inner;
        if (!rk_raft_has_ready(nodes[i]->raft)) continue;
        env_print(env, "> %" PRIu64 " handling Ready\n", nodes[i]->id);
        struct rk_buf *outer = env_indent(env, &inner);
        const char *error = env_process_ready(env, nodes[i]);
        env_outdent(env, outer);
        if (error != NULL) return error;
        *is_done = false;
    }
    return NULL;
}

static void deliver_all(struct env *env, struct env_node *const *nodes, size_t count,
                        bool *is_done)
{
    for (size_t i = 0; i < count; i++) {
        struct rk_buf inner;
        if (!has_message(env, nodes[i]->id)) continue;
        env_print(env, "> %" PRIu64 " receiving messages\n", nodes[i]->id);
        struct rk_buf *outer = env_indent(env, &inner);
        (void)env_deliver(env, nodes[i]->id, ENV_ANY_TYPE, false);
        env_outdent(env, outer);
        *is_done = false;
    }
}

static const char *work_all(struct env *env, struct env_node *const *nodes, size_t count,
                            bool is_append, bool *is_done)
{
    for (size_t i = 0; i < count; i++) {
        struct env_node *node = nodes[i];
        struct env_messages *work = is_append ? &node->append_work : &node->apply_work;
        if (work->count == 0) continue;
        env_print(env, "> %" PRIu64 " processing %s thread\n", node->id,
                  is_append ? "append" : "apply");
        while (work->count > 0) {
            struct rk_buf inner;
            const char *error = NULL;
            struct rk_buf *outer = env_indent(env, &inner);
            if (is_append)
                error = env_process_append(env, node);
            else
                env_process_apply(env, node);
            env_outdent(env, outer);
            if (error != NULL) return error;
        }
        *is_done = false;
    }
    return NULL;
}

const char *env_stabilize(struct env *env, struct env_node *const *nodes, size_t count)
{
    enum { ROUNDS_MAX = 10000 };
    for (int round = 0; round < ROUNDS_MAX; round++) {
        bool is_done = true;
        const char *error = ready_all(env, nodes, count, &is_done);
        if (error != NULL) return error;
        deliver_all(env, nodes, count, &is_done);
        error = work_all(env, nodes, count, true, &is_done);
        if (error == NULL) error = work_all(env, nodes, count, false, &is_done);
        if (error != NULL || is_done) return error;
    }
    return "does not settle";
}
