#include "state/locks.h"

#include "base/assert.h"

#include <stdio.h>

enum { LEASE_DEFAULT_MS = 30000 };

/* An acquire, looked up. */
struct acquire {
    struct rk_owner *owner; /* referenced */
    struct rk_want *wants;  /* in the arena */
    uint32_t want_count;
    struct rk_terms terms;
};

/* Prints a name for an error text, cut to its first bytes. */
#define NAME_FORMAT "%.*s"
#define NAME_ARGS(name)                                                                    \
    (int)((name).size < 64 ? (name).size : 64), (const char *)(name).data

/* Resolves the locks; false after a refusal. */
static enum rk_status take_wants(struct rk_machine *machine, struct rk_apply *apply,
                                 struct acquire *acquire, bool *is_refused)
{
    const struct rk_request *request = apply->request;
    struct rk_resource_in single = {request->resource, request->mode};
    const struct rk_resource_in *items = request->resources;
    uint32_t count = request->resource_count;
    if (count == 0) {
        items = &single;
        count = 1;
    }
    acquire->wants = rk_arena_calloc(apply->arena, count, sizeof(struct rk_want));
    if (acquire->wants == NULL) return RK_ENOMEM;
    for (uint32_t i = 0; i < count; i++) {
        struct rk_slice name = items[i].resource;
        *is_refused = true;
        if (name.size == 0 || name.size > RK_NAME_MAX)
            return rk_refuse(apply->reply, RK_ERANGE, "resource",
                             "1 to %d bytes are allowed", RK_NAME_MAX);
        struct rk_lock *lock = rk_lock_take(machine, name);
        if (lock == NULL) return RK_ENOMEM;
        if (lock->seen == apply->index)
            return rk_refuse(apply->reply, RK_EINVAL, "resources",
                             NAME_FORMAT " is named twice", NAME_ARGS(name));
        lock->seen = apply->index;
        acquire->wants[acquire->want_count++] = (struct rk_want){lock, items[i].mode};
    }
    *is_refused = false;
    return RK_OK;
}

/* A semaphore is a lock with a limit; the last acquire that names one sets it. Lowered
 * below what is held, it grants nothing until enough was given back. */
static enum rk_status check_limit(struct rk_machine *machine, struct rk_apply *apply,
                                  struct acquire *acquire, bool *is_refused)
{
    const struct rk_request *request = apply->request;
    uint64_t limit = RK_HAS(request, LIMIT) ? request->limit : 0;
    *is_refused = true;
    if (limit != 0 && acquire->want_count > 1)
        return rk_refuse(apply->reply, RK_EUNSUPPORTED, "limit",
                         "limit with several resources is not offered");
    if (limit != 0 && acquire->wants[0].mode != RK_MODE_EXCLUSIVE)
        return rk_refuse(apply->reply, RK_EINVAL, "mode",
                         "a lock with a limit has no shared mode");
    for (uint32_t i = 0; i < acquire->want_count; i++) {
        struct rk_lock *lock = acquire->wants[i].lock;
        if (lock->limit == limit) continue;
        bool is_used = lock->hold_count != 0 || lock->place_count != 0;
        if (is_used && (limit == 0 || lock->limit == 0))
            return rk_refuse(apply->reply, RK_EINVAL, "limit",
                             "the lock is in use with limit %llu, 0 meaning none",
                             (unsigned long long)lock->limit);
        enum rk_status status = rk_object_touch(machine, &lock->object);
        if (status != RK_OK) return status;
        lock->limit = limit;
        rk_lock_mark(machine, lock); /* a higher one may let waiters in */
    }
    *is_refused = false;
    return RK_OK;
}

static enum rk_status prepare(struct rk_machine *machine, struct rk_apply *apply,
                              struct acquire *acquire, bool *is_refused)
{
    const struct rk_request *request = apply->request;
    struct rk_session *session = NULL;
    *is_refused = true;
    if (request->owner.size == 0 || request->owner.size > RK_NAME_MAX)
        return rk_refuse(apply->reply, RK_ERANGE, "owner", "1 to %d bytes are allowed",
                         RK_NAME_MAX);
    if (request->session.size != 0) {
        session = rk_session_find(machine, request->session);
        if (session == NULL)
            return rk_refuse(apply->reply, RK_ESESSION, "session",
                             "the session was closed or has expired");
        if (RK_HAS(request, LEASE_MS))
            return rk_refuse(apply->reply, RK_EINVAL, "lease_ms",
                             "a lock tied to a session has no lease of its own");
    }
    if (request->wait_ms != 0 && apply->command->client.size == 0)
        return rk_refuse(apply->reply, RK_EINVAL, "wait_ms",
                         "a request without client and seq cannot wait");
    enum rk_status status = take_wants(machine, apply, acquire, is_refused);
    if (status != RK_OK || *is_refused) return status;
    status = check_limit(machine, apply, acquire, is_refused);
    if (status != RK_OK || *is_refused) return status;
    acquire->terms = (struct rk_terms){.lease_ms = request->lease_ms,
                                       .min_hold_ms = request->min_hold_ms,
                                       .max_hold_ms = request->max_hold_ms,
                                       .lock_delay_ms = request->lock_delay_ms,
                                       .is_reentrant = request->reentrant};
    if (acquire->terms.lease_ms == 0) acquire->terms.lease_ms = LEASE_DEFAULT_MS;
    if (session != NULL) acquire->terms.lease_ms = 0;
    acquire->owner = rk_owner_take(machine, session, request->owner);
    return acquire->owner != NULL ? RK_OK : RK_ENOMEM;
}

static enum rk_status refuse_held(struct rk_apply *apply, const struct acquire *acquire)
{
    struct rk_lock **locks =
        rk_arena_calloc(apply->arena, acquire->want_count, sizeof(struct rk_lock *));
    if (locks == NULL) return RK_ENOMEM;
    for (uint32_t i = 0; i < acquire->want_count; i++)
        locks[i] = acquire->wants[i].lock;
    enum rk_status status = rk_locks_show_holders(apply, locks, acquire->want_count,
                                                  acquire->owner, apply->reply);
    if (status != RK_OK) return status;
    bool is_closed = apply->reply->holder_count == 0;
    return rk_refuse(apply->reply, RK_EHELD, NULL,
                     is_closed ? "closed after a hold" : "held by another owner");
}

/* Not by anyone's hold: the leader does not know of all that its store has lost. */
static enum rk_status refuse_holding(struct rk_apply *apply)
{
    apply->is_forgotten = true;
    return rk_refuse(apply->reply, RK_EUNAVAILABLE, NULL,
                     "grants are held back: the store may have lost some");
}

static enum rk_status enqueue(struct rk_machine *machine, struct rk_apply *apply,
                              const struct acquire *acquire, bool is_upgrade)
{
    const struct rk_request *request = apply->request;
    if (request->wait_ms == 0)
        return machine->is_holding ? refuse_holding(apply) : refuse_held(apply, acquire);
    for (uint32_t i = 0; i < acquire->want_count; i++)
        if (acquire->wants[i].lock->place_count >= RK_LOCK_WAITERS_MAX)
            return rk_refuse(apply->reply, RK_EBUSY, "resource", "%d requests wait already",
                             RK_LOCK_WAITERS_MAX);
    struct rk_wait pattern = {.terms = acquire->terms,
                              .client = apply->command->client,
                              .seq = apply->command->seq,
                              .home = apply->command->home,
                              .since_ms = apply->now,
                              .wait_ms = request->wait_ms,
                              .priority = request->priority,
                              .is_bulk = request->is_bulk,
                              .is_upgrade = is_upgrade};
    struct rk_wait *wait = rk_wait_enter(machine, acquire->owner, acquire->wants,
                                         acquire->want_count, &pattern, 0);
    if (wait == NULL) return RK_ENOMEM;
    rk_timer_start(machine, &wait->object, apply->now, request->wait_ms);
    machine->locks->entering = wait;
    return rk_locks_break_cycles(machine, apply);
}

/* Two holders that both want it alone wait for each other for ever. */
static enum rk_status refuse_second_upgrade(struct rk_apply *apply,
                                            const struct acquire *acquire,
                                            const struct rk_wait *other)
{
    struct rk_reply *reply = apply->reply;
    struct rk_slice name = rk_lock_name(acquire->wants[0].lock);
    struct rk_slice theirs = rk_arena_copy(apply->arena, other->owner->name);
    struct rk_slice ours = apply->request->owner;
    reply->edges = rk_arena_calloc(apply->arena, 2, sizeof(struct rk_wait_edge));
    if (reply->edges == NULL) return RK_ENOMEM;
    reply->edge_count = 2;
    reply->edges[0] = (struct rk_wait_edge){ours, apply->request->resource, theirs};
    if (apply->request->resource.size == 0) reply->edges[0].resource = name;
    reply->edges[1] = (struct rk_wait_edge){theirs, reply->edges[0].resource, ours};
    return rk_refuse(reply, RK_EDEADLOCK, "mode",
                     "another shared holder waits already to hold it alone");
}

static enum rk_status upgrade(struct rk_machine *machine, struct rk_apply *apply,
                              const struct acquire *acquire, struct rk_hold *own)
{
    struct rk_lock *lock = own->lock;
    if (lock->hold_count == 1 && !machine->is_holding) {
        /* The same may wait already, as for the end of another's min_hold. */
        enum rk_status status =
            rk_grant_upgrade(machine, apply, own, &acquire->terms, apply->reply);
        if (status != RK_OK) return status;
        return rk_waits_finish_covered(machine, apply, acquire->owner);
    }
    struct rk_list *head = rk_list_first(&lock->places);
    struct rk_wait *first = head != NULL ? rk_place_at(head)->wait : NULL;
    if (first != NULL && first->is_upgrade && first->owner != own->grant->owner &&
        rk_hold_of(machine, lock, first->owner) != NULL)
        return refuse_second_upgrade(apply, acquire, first);
    return enqueue(machine, apply, acquire, true);
}

/* The owner holds some of what it asks for. */
static enum rk_status acquire_again(struct rk_machine *machine, struct rk_apply *apply,
                                    const struct acquire *acquire, uint32_t held_count)
{
    struct rk_hold *own = NULL;
    bool is_one = held_count == acquire->want_count;
    bool is_enough = true;
    for (uint32_t i = 0; i < acquire->want_count && is_one; i++) {
        struct rk_hold *hold = rk_hold_of(machine, acquire->wants[i].lock, acquire->owner);
        if (own != NULL && own->grant != hold->grant) is_one = false;
        if (hold->mode > acquire->wants[i].mode) is_enough = false;
        own = hold;
    }
    if (!is_one)
        return rk_refuse(apply->reply, RK_EEXIST, "resources",
                         "the owner holds some of them under another fence");
    if (machine->is_holding && own->grant->fence <= machine->doubted)
        return refuse_holding(apply);
    if (is_enough)
        return rk_grant_repeat(machine, apply, own->grant, &acquire->terms, apply->reply);
    if (own->grant->hold_count > 1)
        return rk_refuse(apply->reply, RK_EUNSUPPORTED, "mode",
                         "a shared hold over several locks cannot become exclusive");
    return upgrade(machine, apply, acquire, own);
}

static enum rk_status apply_acquire(struct rk_machine *machine, struct rk_apply *apply)
{
    struct acquire acquire = {0};
    bool is_refused = false;
    enum rk_status status = prepare(machine, apply, &acquire, &is_refused);
    if (status != RK_OK) return status;
    if (acquire.owner == NULL) return rk_locks_settle(machine, apply); /* refused */

    uint32_t held_count = 0;
    for (uint32_t i = 0; i < acquire.want_count; i++)
        if (rk_hold_of(machine, acquire.wants[i].lock, acquire.owner) != NULL) held_count++;
    if (held_count != 0)
        status = acquire_again(machine, apply, &acquire, held_count);
    else if (!machine->is_holding && rk_wants_are_free(acquire.wants, acquire.want_count))
        status = rk_grant_give(machine, apply, acquire.owner, acquire.wants,
                               acquire.want_count, &acquire.terms, apply->reply);
    else
        status = enqueue(machine, apply, &acquire, false);
    rk_owner_put(machine, acquire.owner);
    if (status == RK_OK) status = rk_locks_settle(machine, apply);
    struct rk_wait *entering = machine->locks->entering;
    if (entering == NULL) return status;
    machine->locks->entering = NULL;
    apply->is_pending = true;
    apply->wait = &entering->object;
    return status;
}

/* The hold that owner, session and fence name; NULL after a refusal. */
static struct rk_hold *named_hold(struct rk_machine *machine, struct rk_apply *apply)
{
    const struct rk_request *request = apply->request;
    const struct rk_lock *lock = rk_lock_find(machine, request->resource);
    struct rk_hold *found = NULL;
    struct rk_hold *hold =
        lock != NULL ? rk_hold_first(machine, lock, request->owner) : NULL;
    for (; hold != NULL; hold = hold->next) {
        const struct rk_session *session = hold->grant->owner->session;
        if (request->fence != 0 && hold->grant->fence != request->fence) continue;
        if (request->session.size != 0 &&
            (session == NULL ||
             !rk_slice_is_equal(rk_session_id(session), request->session)))
            continue;
        if (found != NULL) {
            (void)rk_refuse(apply->reply, RK_EINVAL, "fence",
                            "owners of this name hold it in several sessions");
            return NULL;
        }
        found = hold;
    }
    if (found == NULL)
        (void)rk_refuse(apply->reply, RK_ENOTOWNER, "owner",
                        request->fence != 0 ? "not held by this owner under this fence"
                                            : "not held by this owner");
    return found;
}

static enum rk_status apply_renew(struct rk_machine *machine, struct rk_apply *apply)
{
    struct rk_hold *hold = named_hold(machine, apply);
    if (hold == NULL) return RK_OK;
    struct rk_grant *grant = hold->grant;
    const struct rk_request *request = apply->request;
    if (RK_HAS(request, LEASE_MS)) {
        if (grant->owner->session != NULL)
            return rk_refuse(apply->reply, RK_EINVAL, "lease_ms",
                             "a lock tied to a session has no lease of its own");
        enum rk_status status = rk_object_touch(machine, &grant->object);
        if (status != RK_OK) return status;
        if (grant->terms.lease_ms != request->lease_ms) rk_grant_note(machine, grant);
        grant->terms.lease_ms = request->lease_ms;
    }
    apply->reply->renewed = true;
    apply->reply->fence = grant->fence;
    return rk_grant_renew(machine, apply, grant, &apply->reply->lease_ms);
}

static enum rk_status apply_release(struct rk_machine *machine, struct rk_apply *apply)
{
    struct rk_hold *hold = named_hold(machine, apply);
    if (hold == NULL) return RK_OK;
    apply->reply->released = true;
    apply->reply->count = hold->grant->count - 1;
    enum rk_status status = rk_grant_release(machine, apply, hold->grant);
    return status == RK_OK ? rk_locks_settle(machine, apply) : status;
}

/* A node gives back a grant whose client left before it was told. It stays if its owner
 * was told of it by another answer too, before or since: then somebody counts on it. */
static enum rk_status apply_return(struct rk_machine *machine, struct rk_apply *apply)
{
    struct rk_hold *hold = named_hold(machine, apply);
    if (hold == NULL) return RK_OK;
    if (hold->grant->told != 1)
        return rk_refuse(apply->reply, RK_ENOTOWNER, "owner", "its owner knows of it");
    enum rk_status status = rk_grant_release(machine, apply, hold->grant);
    return status == RK_OK ? rk_locks_settle(machine, apply) : status;
}

/* Its holders lose the lock, and with it all that they hold under the same fence. */
static enum rk_status apply_break(struct rk_machine *machine, struct rk_apply *apply)
{
    struct rk_lock *lock = rk_lock_find(machine, apply->request->resource);
    if (lock == NULL) return RK_OK;
    uint64_t fence = apply->request->fence;
    struct rk_list *link = lock->holds.next;
    while (link != &lock->holds) {
        struct rk_grant *grant = rk_hold_at(link)->grant;
        link = link->next; /* another grant: one has each lock once */
        if (fence != 0 && grant->fence != fence) continue;
        enum rk_status status = rk_grant_lose(machine, apply, grant);
        if (status != RK_OK) return status;
        apply->reply->released = true;
        apply->reply->count++;
    }
    if (apply->reply->released) apply->reply->fence = ++machine->fence;
    return rk_locks_settle(machine, apply);
}

enum rk_status rk_wait_cancel(struct rk_machine *machine, struct rk_apply *apply,
                              struct rk_object *object)
{
    struct rk_wait *wait = RK_CONTAINER(object, struct rk_wait, object);
    struct rk_reply reply;
    memset(&reply, 0, sizeof(reply));
    reply.op = RK_OP_LOCK_ACQUIRE;
    reply.is_bulk = wait->is_bulk;
    enum rk_status status =
        rk_refuse(&reply, RK_ECANCELLED, NULL, "the wait was cancelled");
    if (status == RK_OK) status = rk_wait_finish(machine, apply, wait, &reply);
    return status == RK_OK ? rk_locks_settle(machine, apply) : status;
}

enum rk_status rk_wait_rehome(struct rk_machine *machine, struct rk_object *object,
                              uint64_t home)
{
    struct rk_wait *wait = RK_CONTAINER(object, struct rk_wait, object);
    if (wait->home == home) return RK_OK;
    enum rk_status status = rk_object_touch(machine, object);
    if (status == RK_OK) wait->home = home;
    return status;
}

void rk_machine_waits_each(const struct rk_machine *machine,
                           void (*visit)(void *context, struct rk_slice client,
                                         uint64_t seq, uint64_t home),
                           void *context)
{
    rk_list_each (link, &machine->locks->waits) {
        const struct rk_wait *wait = RK_CONTAINER_CONST(link, struct rk_wait, link);
        visit(context, wait->client, wait->seq, wait->home);
    }
}

const struct rk_op_handler rk_lock_handlers[] = {
    {RK_OP_LOCK_ACQUIRE, apply_acquire, NULL},
    {RK_OP_LOCK_RENEW, apply_renew, NULL},
    {RK_OP_LOCK_RELEASE, apply_release, NULL},
    {RK_OP_LOCK_RETURN, apply_return, NULL},
    {RK_OP_LOCK_BREAK, apply_break, NULL},
    {RK_OP_LOCK_CHECK, NULL, rk_locks_query_check},
    {RK_OP_LOCK_INFO, NULL, rk_locks_query_info},
    {RK_OP_LOCK_LIST, NULL, rk_locks_query_list},
    {RK_OP_LOCK_GRAPH, NULL, rk_locks_query_graph},
    {RK_OP_NONE, NULL, NULL},
};
