/* The records of locks, grants and waits, and what happens when their timers run out. */
#include "state/locks.h"

#include "base/alloc.h"
#include "state/snapshot.h"

enum { FLAG_REENTRANT = 1, FLAG_UPGRADE = 2, FLAG_BULK = 4 };

static void encode_lock(const struct rk_machine *machine, const struct rk_object *object,
                        struct rk_buf *out)
{
    (void)machine;
    const struct rk_lock *lock = RK_CONTAINER_CONST(object, struct rk_lock, object);
    rk_buf_blob(out, rk_lock_name(lock));
    rk_buf_varint(out, lock->limit);
    rk_buf_varint(out, lock->fence);
    rk_buf_u8(out, lock->is_closed);
    if (lock->is_closed) rk_buf_varint(out, lock->closed_until);
}

static enum rk_status restore_lock(struct rk_machine *machine, struct rk_reader *body,
                                   uint64_t id, struct rk_object **out)
{
    struct rk_slice name = rk_read_blob(body);
    uint64_t limit = rk_read_varint(body);
    uint64_t fence = rk_read_varint(body);
    bool is_closed = rk_record_flags(body, 1) != 0;
    uint64_t closed_until = is_closed ? rk_read_varint(body) : 0;
    if (body->is_failed || name.size == 0 || name.size > RK_NAME_MAX ||
        rk_lock_find(machine, name) != NULL)
        return RK_EPROTO;
    struct rk_lock *lock = rk_lock_enter(machine, name, id);
    if (lock == NULL) return RK_ENOMEM;
    lock->limit = limit;
    lock->fence = fence;
    lock->is_closed = is_closed;
    lock->closed_until = closed_until;
    *out = &lock->object;
    return RK_OK;
}

static enum rk_status lock_due(struct rk_machine *machine, struct rk_apply *apply,
                               struct rk_object *object)
{
    struct rk_lock *lock = RK_CONTAINER(object, struct rk_lock, object);
    lock->is_closed = false;
    rk_lock_mark(machine, lock);
    return rk_locks_settle(machine, apply);
}

static void free_lock(struct rk_machine *machine, struct rk_object *object)
{
    (void)machine;
    rk_free(RK_CONTAINER(object, struct rk_lock, object));
}

static void encode_owner(const struct rk_owner *owner, struct rk_buf *out)
{
    rk_buf_varint(out, owner->session != NULL ? owner->session->object.id : 0);
    rk_buf_blob(out, owner->name);
}

/* Takes a reference. */
static enum rk_status restore_owner(struct rk_machine *machine, struct rk_reader *body,
                                    struct rk_owner **out)
{
    uint64_t session_id = rk_read_varint(body);
    struct rk_slice name = rk_read_blob(body);
    struct rk_object *session = rk_object_find(machine, RK_OBJECT_SESSION, session_id);
    if (body->is_failed || name.size == 0 || name.size > RK_NAME_MAX) return RK_EPROTO;
    if ((session_id != 0) != (session != NULL)) return RK_EPROTO;
    *out = rk_owner_take(
        machine, session != NULL ? RK_CONTAINER(session, struct rk_session, object) : NULL,
        name);
    return *out != NULL ? RK_OK : RK_ENOMEM;
}

static void encode_terms(const struct rk_terms *terms, struct rk_buf *out)
{
    rk_buf_varint(out, terms->lease_ms);
    rk_buf_varint(out, terms->min_hold_ms);
    rk_buf_varint(out, terms->max_hold_ms);
    rk_buf_varint(out, terms->lock_delay_ms);
}

static void restore_terms(struct rk_reader *body, struct rk_terms *terms)
{
    terms->lease_ms = rk_read_varint(body);
    terms->min_hold_ms = rk_read_varint(body);
    terms->max_hold_ms = rk_read_varint(body);
    terms->lock_delay_ms = rk_read_varint(body);
}

static void encode_want(const struct rk_lock *lock, uint8_t mode, struct rk_buf *out)
{
    rk_buf_varint(out, lock->object.id);
    rk_buf_u8(out, mode);
}

/* Into the machine's arena. */
static enum rk_status restore_wants(struct rk_machine *machine, struct rk_reader *body,
                                    struct rk_want **out, uint32_t *out_count)
{
    uint64_t count = rk_read_varint(body);
    if (body->is_failed || count == 0 || count > RK_BATCH_MAX) return RK_EPROTO;
    rk_arena_reset(&machine->arena);
    struct rk_want *wants = rk_arena_calloc(&machine->arena, count, sizeof(*wants));
    if (wants == NULL) return RK_ENOMEM;
    for (uint64_t i = 0; i < count; i++) {
        uint64_t id = rk_read_varint(body);
        struct rk_object *lock = rk_object_find(machine, RK_OBJECT_LOCK, id);
        wants[i].mode = rk_read_u8(body);
        if (body->is_failed || lock == NULL || wants[i].mode > RK_MODE_SHARED)
            return RK_EPROTO;
        wants[i].lock = RK_CONTAINER(lock, struct rk_lock, object);
        for (uint64_t j = 0; j < i; j++)
            if (wants[j].lock == wants[i].lock) return RK_EPROTO;
    }
    *out = wants;
    *out_count = (uint32_t)count;
    return RK_OK;
}

static void encode_grant(const struct rk_machine *machine, const struct rk_object *object,
                         struct rk_buf *out)
{
    (void)machine;
    const struct rk_grant *grant = RK_CONTAINER_CONST(object, struct rk_grant, object);
    encode_owner(grant->owner, out);
    encode_terms(&grant->terms, out);
    rk_buf_varint(out, grant->fence);
    rk_buf_varint(out, grant->granted_ms);
    rk_buf_varint(out, grant->renewed_ms);
    rk_buf_varint(out, grant->told);
    rk_buf_varint(out, grant->count);
    rk_buf_varint(out, grant->hold_count);
    for (uint32_t i = 0; i < grant->hold_count; i++)
        encode_want(grant->holds[i].lock, grant->holds[i].mode, out);
}

static enum rk_status restore_grant(struct rk_machine *machine, struct rk_reader *body,
                                    uint64_t id, struct rk_object **out)
{
    struct rk_owner *owner = NULL;
    enum rk_status status = restore_owner(machine, body, &owner);
    if (status != RK_OK) return status;
    struct rk_terms terms = {0};
    restore_terms(body, &terms);
    uint64_t fence = rk_read_varint(body);
    uint64_t granted_ms = rk_read_varint(body);
    uint64_t renewed_ms = rk_read_varint(body);
    uint64_t told = rk_read_varint(body);
    uint64_t count = rk_read_varint(body);
    struct rk_want *wants = NULL;
    uint32_t want_count = 0;
    status = restore_wants(machine, body, &wants, &want_count);
    if (status != RK_OK) return status;
    for (uint32_t i = 0; i < want_count; i++)
        if (rk_hold_of(machine, wants[i].lock, owner) != NULL) return RK_EPROTO;
    if (count == 0 || count > UINT32_MAX) return RK_EPROTO;
    if ((terms.lease_ms == 0) != (owner->session != NULL)) return RK_EPROTO;
    struct rk_grant *grant = rk_grant_enter(machine, owner, wants, want_count, id);
    if (grant == NULL) return RK_ENOMEM;
    grant->terms = terms;
    grant->fence = fence;
    grant->granted_ms = granted_ms;
    grant->renewed_ms = renewed_ms;
    grant->told = told;
    grant->count = (uint32_t)count;
    rk_owner_put(machine, owner);
    *out = &grant->object;
    return RK_OK;
}

/* The lease or the longest hold is over. */
static enum rk_status grant_due(struct rk_machine *machine, struct rk_apply *apply,
                                struct rk_object *object)
{
    struct rk_grant *grant = RK_CONTAINER(object, struct rk_grant, object);
    enum rk_status status = rk_grant_lose(machine, apply, grant);
    return status == RK_OK ? rk_locks_settle(machine, apply) : status;
}

static void free_grant(struct rk_machine *machine, struct rk_object *object)
{
    (void)machine;
    rk_free(RK_CONTAINER(object, struct rk_grant, object));
}

static void encode_wait(const struct rk_machine *machine, const struct rk_object *object,
                        struct rk_buf *out)
{
    (void)machine;
    const struct rk_wait *wait = RK_CONTAINER_CONST(object, struct rk_wait, object);
    encode_owner(wait->owner, out);
    encode_terms(&wait->terms, out);
    rk_buf_blob(out, wait->client);
    rk_buf_varint(out, wait->seq);
    rk_buf_varint(out, wait->home);
    rk_buf_varint(out, wait->since_ms);
    rk_buf_varint(out, wait->wait_ms);
    rk_buf_zigzag(out, wait->priority);
    rk_buf_u8(out, (uint8_t)((wait->terms.is_reentrant ? FLAG_REENTRANT : 0) |
                             (wait->is_upgrade ? FLAG_UPGRADE : 0) |
                             (wait->is_bulk ? FLAG_BULK : 0)));
    rk_buf_varint(out, wait->place_count);
    for (uint32_t i = 0; i < wait->place_count; i++)
        encode_want(wait->places[i].lock, wait->places[i].mode, out);
}

static enum rk_status restore_wait(struct rk_machine *machine, struct rk_reader *body,
                                   uint64_t id, struct rk_object **out)
{
    struct rk_owner *owner = NULL;
    enum rk_status status = restore_owner(machine, body, &owner);
    if (status != RK_OK) return status;
    struct rk_wait pattern = {0};
    restore_terms(body, &pattern.terms);
    pattern.client = rk_read_blob(body);
    pattern.seq = rk_read_varint(body);
    pattern.home = rk_read_varint(body);
    pattern.since_ms = rk_read_varint(body);
    pattern.wait_ms = rk_read_varint(body);
    pattern.priority = rk_record_i32(body);
    uint8_t flags = rk_record_flags(body, FLAG_REENTRANT | FLAG_UPGRADE | FLAG_BULK);
    pattern.terms.is_reentrant = (flags & FLAG_REENTRANT) != 0;
    pattern.is_upgrade = (flags & FLAG_UPGRADE) != 0;
    pattern.is_bulk = (flags & FLAG_BULK) != 0;
    struct rk_want *wants = NULL;
    uint32_t want_count = 0;
    status = restore_wants(machine, body, &wants, &want_count);
    if (status != RK_OK) return status;
    if (pattern.client.size == 0 || pattern.client.size > RK_CLIENT_NAME_MAX)
        return RK_EPROTO;
    if (pattern.is_upgrade && (want_count != 1 || wants[0].mode != RK_MODE_EXCLUSIVE))
        return RK_EPROTO;
    struct rk_wait *wait = rk_wait_enter(machine, owner, wants, want_count, &pattern, id);
    if (wait == NULL) return RK_ENOMEM;
    rk_owner_put(machine, owner);
    *out = &wait->object;
    return RK_OK;
}

static enum rk_status wait_due(struct rk_machine *machine, struct rk_apply *apply,
                               struct rk_object *object)
{
    struct rk_wait *wait = RK_CONTAINER(object, struct rk_wait, object);
    struct rk_reply reply;
    memset(&reply, 0, sizeof(reply));
    reply.op = RK_OP_LOCK_ACQUIRE;
    reply.is_bulk = wait->is_bulk;
    struct rk_lock **locks =
        rk_arena_calloc(apply->arena, wait->place_count, sizeof(struct rk_lock *));
    if (locks == NULL) return RK_ENOMEM;
    for (uint32_t i = 0; i < wait->place_count; i++)
        locks[i] = wait->places[i].lock;
    enum rk_status status =
        rk_locks_show_holders(apply, locks, wait->place_count, wait->owner, &reply);
    if (status == RK_OK)
        status = rk_refuse(&reply, RK_ETIMEOUT, "wait_ms", "not granted within %llu ms",
                           (unsigned long long)wait->wait_ms);
    if (status == RK_OK) status = rk_wait_finish(machine, apply, wait, &reply);
    return status == RK_OK ? rk_locks_settle(machine, apply) : status;
}

static void free_wait(struct rk_machine *machine, struct rk_object *object)
{
    (void)machine;
    rk_free(RK_CONTAINER(object, struct rk_wait, object));
}

/* Queues, counters and owners were rebuilt record by record. */
enum rk_status rk_locks_restored(struct rk_machine *machine)
{
    struct rk_map_cursor cursor;
    rk_map_each (node, &machine->locks->by_name, &cursor) {
        const struct rk_lock *lock = RK_CONTAINER_CONST(node, struct rk_lock, node);
        if (rk_lock_is_idle(lock)) return RK_EPROTO;
        if (lock->is_closed != rk_timer_is_armed(&lock->object)) return RK_EPROTO;
        if (lock->exclusive_holds != 0 && lock->limit == 0 && lock->hold_count != 1)
            return RK_EPROTO;
    }
    return RK_OK;
}

const struct rk_object_class rk_lock_classes[] = {
    {RK_OBJECT_LOCK, "lock", encode_lock, restore_lock, lock_due, free_lock},
    {RK_OBJECT_GRANT, "grant", encode_grant, restore_grant, grant_due, free_grant},
    {RK_OBJECT_WAIT, "wait", encode_wait, restore_wait, wait_due, free_wait},
    {0, NULL, NULL, NULL, NULL, NULL},
};
