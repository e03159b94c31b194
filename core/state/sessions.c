#include "state/sessions.h"

#include "base/alloc.h"
#include "base/hash.h"
#include "state/locks.h"

enum {
    SESSION_BYTES = 256, /* logical, beside the name */
    SALT_DIGITS = 6,
    TTL_DEFAULT_MS = 10000,
    LIST_DEFAULT = 100,
};

struct rk_sessions {
    struct rk_map ids;
    struct rk_names names;
};

enum rk_status rk_sessions_new(struct rk_sessions **out)
{
    struct rk_sessions *sessions = rk_calloc(1, sizeof(*sessions));
    if (sessions == NULL) return RK_ENOMEM;
    rk_map_init(&sessions->ids);
    *out = sessions;
    return RK_OK;
}

void rk_sessions_free(struct rk_machine *machine, struct rk_sessions *sessions)
{
    (void)machine;
    rk_map_fini(&sessions->ids);
    rk_free(sessions);
}

struct rk_session *rk_session_find(const struct rk_machine *machine, struct rk_slice id)
{
    struct rk_map_node *node = rk_map_find(&machine->sessions->ids, id);
    return node != NULL ? RK_CONTAINER(node, struct rk_session, node) : NULL;
}

/* Digits of Crockford's base 32, in lower case. Object ids are unique within a history;
 * the salt tells histories apart, so that an old id does not name a new session. */
static size_t print_id(char *out, uint64_t id, uint64_t history)
{
    static const char digits[] = "0123456789abcdefghjkmnpqrstvwxyz";
    size_t size = 0;
    out[size++] = 's';
    int shift = 60;
    while (shift > 0 && (id >> shift) == 0)
        shift -= 5;
    for (; shift >= 0; shift -= 5)
        out[size++] = digits[(id >> shift) & 31];
    out[size++] = '-';
    uint64_t salt = rk_hash_mix(rk_hash_mix(0, history), id);
    for (int i = 0; i < SALT_DIGITS; i++)
        out[size++] = digits[(salt >> (5 * i)) & 31];
    out[size] = '\0';
    return size;
}

static struct rk_session *make_session(struct rk_slice name, uint64_t ttl_ms)
{
    struct rk_session *session = rk_calloc(1, sizeof(*session) + name.size);
    if (session == NULL) return NULL;
    rk_list_init(&session->grants);
    rk_list_init(&session->waits);
    session->ttl_ms = ttl_ms;
    session->name_size = (uint32_t)name.size;
    if (name.size != 0) memcpy(session->name, name.data, name.size);
    return session;
}

/* The object is entered and its id text is printed. */
static enum rk_status index_session(struct rk_machine *machine, struct rk_session *session,
                                    size_t id_size)
{
    session->node.key = rk_slice_of(session->id, id_size);
    session->order.name = session->node.key;
    enum rk_status status = rk_map_insert(&machine->sessions->ids, &session->node);
    if (status != RK_OK) return status;
    rk_names_insert(&machine->sessions->names, &session->order);
    rk_object_count(machine, &session->object, SESSION_BYTES + session->name_size);
    return RK_OK;
}

static enum rk_status apply_open(struct rk_machine *machine, struct rk_apply *apply)
{
    uint64_t ttl_ms = apply->request->ttl_ms;
    struct rk_session *session =
        make_session(apply->request->name, ttl_ms != 0 ? ttl_ms : TTL_DEFAULT_MS);
    if (session == NULL) return RK_ENOMEM;
    if (rk_object_enter(machine, &session->object, RK_OBJECT_SESSION, 0) != RK_OK) {
        rk_free(session);
        return RK_ENOMEM;
    }
    size_t id_size = print_id(session->id, session->object.id, machine->history);
    enum rk_status status = index_session(machine, session, id_size);
    if (status != RK_OK) return status;
    rk_timer_start(machine, &session->object, apply->now, session->ttl_ms);
    apply->reply->session = rk_session_id(session);
    apply->reply->ttl_ms = session->ttl_ms;
    return RK_OK;
}

enum rk_status rk_session_end(struct rk_machine *machine, struct rk_apply *apply,
                              struct rk_session *session, bool is_expired)
{
    enum rk_status status = rk_object_touch(machine, &session->object);
    if (status == RK_OK) status = rk_locks_end_session(machine, apply, session, is_expired);
    if (status != RK_OK) return status;
    struct rk_event event = {.kind = RK_EVENT_SESSION_ENDED,
                             .session = rk_session_id(session)};
    rk_event_emit(apply, &event);
    rk_names_remove(&machine->sessions->names, &session->order);
    rk_map_remove(&machine->sessions->ids, &session->node);
    rk_object_leave(machine, &session->object);
    rk_free(session);
    return rk_locks_settle(machine, apply);
}

static enum rk_status apply_close(struct rk_machine *machine, struct rk_apply *apply)
{
    struct rk_session *session = rk_session_find(machine, apply->request->session);
    if (session == NULL)
        return rk_refuse(apply->reply, RK_ESESSION, "session",
                         "the session was closed or has expired");
    apply->reply->closed = true;
    return rk_session_end(machine, apply, session, false);
}

static enum rk_status session_due(struct rk_machine *machine, struct rk_apply *apply,
                                  struct rk_object *object)
{
    return rk_session_end(machine, apply, RK_CONTAINER(object, struct rk_session, object),
                          true);
}

enum rk_status rk_session_renew(struct rk_machine *machine, struct rk_session *session,
                                uint64_t now)
{
    enum rk_status status = rk_object_touch(machine, &session->object);
    if (status != RK_OK) return status;
    rk_timer_start(machine, &session->object, now, session->ttl_ms);
    return RK_OK;
}

static enum rk_status query_list(struct rk_machine *machine,
                                 const struct rk_request *request, uint64_t now,
                                 struct rk_arena *arena, struct rk_reply *reply)
{
    (void)now;
    uint64_t limit = request->limit != 0 ? request->limit : LIST_DEFAULT;
    if (limit > RK_BATCH_MAX) limit = RK_BATCH_MAX;
    reply->listed = rk_arena_calloc(arena, limit, sizeof(struct rk_listed));
    if (reply->listed == NULL) return RK_ENOMEM;
    struct rk_slice after = request->after;
    const struct rk_names *names = &machine->sessions->names;
    struct rk_name_node *node;
    while ((node = rk_names_next(names, request->prefix, after)) != NULL) {
        if (reply->listed_count == limit) {
            reply->after = after;
            break;
        }
        const struct rk_session *session =
            RK_CONTAINER_CONST(node, struct rk_session, order);
        reply->listed[reply->listed_count++] =
            (struct rk_listed){.name = rk_session_id(session),
                               .ttl_ms = session->ttl_ms,
                               .holder_count = session->grant_count,
                               .waiter_count = session->wait_count};
        after = node->name;
    }
    return RK_OK;
}

static void encode_session(const struct rk_machine *machine, const struct rk_object *object,
                           struct rk_buf *out)
{
    (void)machine;
    const struct rk_session *session =
        RK_CONTAINER_CONST(object, struct rk_session, object);
    rk_buf_blob(out, rk_session_id(session));
    rk_buf_varint(out, session->ttl_ms);
    rk_buf_blob(out, rk_slice_of(session->name, session->name_size));
}

static enum rk_status restore_session(struct rk_machine *machine, struct rk_reader *body,
                                      uint64_t id, struct rk_object **out)
{
    struct rk_slice text = rk_read_blob(body);
    uint64_t ttl_ms = rk_read_varint(body);
    struct rk_slice name = rk_read_blob(body);
    if (body->is_failed || text.size == 0 || text.size >= RK_SESSION_ID_MAX ||
        name.size > RK_NAME_MAX || rk_session_find(machine, text) != NULL)
        return RK_EPROTO;
    struct rk_session *session = make_session(name, ttl_ms);
    if (session == NULL) return RK_ENOMEM;
    memcpy(session->id, text.data, text.size);
    if (rk_object_enter(machine, &session->object, RK_OBJECT_SESSION, id) != RK_OK) {
        rk_free(session);
        return RK_ENOMEM;
    }
    *out = &session->object;
    return index_session(machine, session, text.size);
}

static void free_session(struct rk_machine *machine, struct rk_object *object)
{
    (void)machine;
    rk_free(RK_CONTAINER(object, struct rk_session, object));
}

const struct rk_op_handler rk_session_handlers[] = {
    {RK_OP_SESSION_OPEN, apply_open, NULL},
    {RK_OP_SESSION_CLOSE, apply_close, NULL},
    {RK_OP_SESSION_LIST, NULL, query_list},
    {RK_OP_NONE, NULL, NULL},
};

const struct rk_object_class rk_session_classes[] = {
    {RK_OBJECT_SESSION, "session", encode_session, restore_session, session_due,
     free_session},
    {0, NULL, NULL, NULL, NULL, NULL},
};
