#include "state/locks.h"

enum { LIST_DEFAULT = 100, INFO_WAITERS_MAX = 1000, INFO_HOLDERS_MAX = 1000 };

static bool is_named(const struct rk_hold *hold, const struct rk_request *request)
{
    const struct rk_session *session = hold->grant->owner->session;
    if (request->fence != 0 && hold->grant->fence != request->fence) return false;
    if (request->session.size == 0) return true;
    return session != NULL && rk_slice_is_equal(rk_session_id(session), request->session);
}

/* By this node's opinion: of use at the leader. */
static uint64_t lease_left(const struct rk_grant *grant, uint64_t now)
{
    uint64_t left_ms = UINT64_MAX;
    if (grant->owner->session != NULL)
        left_ms = rk_timer_left(&grant->owner->session->object, now);
    if (rk_timer_is_armed(&grant->object)) {
        uint64_t own_ms = rk_timer_left(&grant->object, now);
        if (own_ms < left_ms) left_ms = own_ms;
    }
    return left_ms;
}

enum rk_status rk_locks_query_check(struct rk_machine *machine,
                                    const struct rk_request *request, uint64_t now,
                                    struct rk_arena *arena, struct rk_reply *reply)
{
    (void)arena;
    const struct rk_lock *lock = rk_lock_find(machine, request->resource);
    struct rk_hold *hold =
        lock != NULL ? rk_hold_first(machine, lock, request->owner) : NULL;
    while (hold != NULL && !is_named(hold, request))
        hold = hold->next;
    reply->held = hold != NULL;
    if (hold == NULL) return RK_OK;
    reply->fence = hold->grant->fence;
    reply->mode = hold->mode;
    reply->lease_ms = lease_left(hold->grant, now);
    return RK_OK;
}

static enum rk_status list_holders(const struct rk_lock *lock, uint64_t now,
                                   struct rk_arena *arena, struct rk_reply *reply)
{
    uint32_t max =
        lock->hold_count < INFO_HOLDERS_MAX ? lock->hold_count : INFO_HOLDERS_MAX;
    reply->holders = rk_arena_calloc(arena, max, sizeof(struct rk_holder));
    if (reply->holders == NULL) return RK_ENOMEM;
    rk_list_each (link, &lock->holds) {
        const struct rk_hold *hold = rk_hold_at(link);
        const struct rk_session *session = hold->grant->owner->session;
        if (reply->holder_count == max) break;
        reply->holders[reply->holder_count++] = (struct rk_holder){
            .owner = hold->grant->owner->name,
            .session = session != NULL ? rk_session_id(session) : RK_SLICE_EMPTY,
            .mode = hold->mode,
            .fence = hold->grant->fence,
            .lease_left_ms = lease_left(hold->grant, now),
            .count = hold->grant->count};
        reply->mode = hold->mode;
    }
    return RK_OK;
}

enum rk_status rk_locks_query_info(struct rk_machine *machine,
                                   const struct rk_request *request, uint64_t now,
                                   struct rk_arena *arena, struct rk_reply *reply)
{
    reply->resource = request->resource;
    const struct rk_lock *lock = rk_lock_find(machine, request->resource);
    if (lock == NULL) return RK_OK;
    reply->held = lock->hold_count != 0;
    reply->fence = lock->fence;
    enum rk_status status = list_holders(lock, now, arena, reply);
    if (status != RK_OK) return status;
    uint32_t max =
        lock->place_count < INFO_WAITERS_MAX ? lock->place_count : INFO_WAITERS_MAX;
    reply->waiters = rk_arena_calloc(arena, max, sizeof(struct rk_waiter));
    if (reply->waiters == NULL) return RK_ENOMEM;
    rk_list_each (link, &lock->places) {
        const struct rk_place *place = rk_place_at(link);
        const struct rk_wait *wait = place->wait;
        if (reply->waiter_count == max) break;
        reply->waiters[reply->waiter_count++] =
            (struct rk_waiter){.owner = wait->owner->name,
                               .mode = place->mode,
                               .waited_ms = now > wait->since_ms ? now - wait->since_ms : 0,
                               .priority = wait->priority};
    }
    return RK_OK;
}

enum rk_status rk_locks_query_list(struct rk_machine *machine,
                                   const struct rk_request *request, uint64_t now,
                                   struct rk_arena *arena, struct rk_reply *reply)
{
    (void)now;
    uint64_t limit = request->limit != 0 ? request->limit : LIST_DEFAULT;
    if (limit > RK_BATCH_MAX) limit = RK_BATCH_MAX;
    reply->listed = rk_arena_calloc(arena, limit, sizeof(struct rk_listed));
    if (reply->listed == NULL) return RK_ENOMEM;
    struct rk_slice after = request->after;
    const struct rk_names *names = &machine->locks->names;
    struct rk_name_node *node;
    while ((node = rk_names_next(names, request->prefix, after)) != NULL) {
        if (reply->listed_count == limit) {
            reply->after = after;
            break;
        }
        const struct rk_lock *lock = RK_CONTAINER_CONST(node, struct rk_lock, order);
        struct rk_list *first = rk_list_first(&lock->holds);
        reply->listed[reply->listed_count++] = (struct rk_listed){
            .name = rk_lock_name(lock),
            .mode = first != NULL ? rk_hold_at(first)->mode : RK_MODE_EXCLUSIVE,
            .holder_count = lock->hold_count,
            .waiter_count = lock->place_count,
            .fence = lock->fence};
        after = node->name;
    }
    return RK_OK;
}

static void view_holders(const struct rk_lock *lock, struct rk_lock_view *out, uint32_t max)
{
    rk_list_each (link, &lock->holds) {
        const struct rk_hold *hold = rk_hold_at(link);
        const struct rk_grant *grant = hold->grant;
        if (out->owners_shown == max) break;
        if (out->owners_shown == 0) {
            out->mode = hold->mode;
            out->lease_ms = grant->terms.lease_ms;
            out->granted_ms = grant->granted_ms;
            if (grant->owner->session != NULL)
                out->session = rk_session_id(grant->owner->session);
        }
        out->owners[out->owners_shown++] = grant->owner->name;
    }
}

enum rk_status rk_machine_lock_view(const struct rk_machine *machine, uint64_t id,
                                    uint32_t max, struct rk_arena *arena,
                                    struct rk_lock_view *out)
{
    const struct rk_object *object = rk_object_find(machine, RK_OBJECT_LOCK, id);
    if (object == NULL) return RK_ENOENT;
    const struct rk_lock *lock = RK_CONTAINER_CONST(object, struct rk_lock, object);
    uint32_t owners = lock->hold_count < max ? lock->hold_count : max;
    uint32_t waiters = lock->place_count < max ? lock->place_count : max;
    *out = (struct rk_lock_view){.name = rk_lock_name(lock),
                                 .is_closed = lock->is_closed,
                                 .fence = lock->fence,
                                 .limit = lock->limit,
                                 .holder_count = lock->hold_count,
                                 .waiter_count = lock->place_count};
    out->owners = rk_arena_calloc(arena, owners + 1, sizeof(*out->owners));
    out->waiters = rk_arena_calloc(arena, waiters + 1, sizeof(*out->waiters));
    if (out->owners == NULL || out->waiters == NULL) return RK_ENOMEM;
    view_holders(lock, out, owners);
    rk_list_each (link, &lock->places) {
        if (out->waiters_shown == waiters) break;
        out->waiters[out->waiters_shown++] = rk_place_at(link)->wait->owner->name;
    }
    return RK_OK;
}
