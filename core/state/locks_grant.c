#include "state/locks.h"

#include "base/assert.h"
#include "base/mutant.h"
#include "state/changes.h"

/* Holders alone, not the queue. */
static bool lock_admits(const struct rk_lock *lock, uint8_t mode)
{
    if (lock->is_closed) return false;
    if (lock->limit != 0) return lock->hold_count < lock->limit;
    if (mode == RK_MODE_SHARED || RK_MUTANT(shared_joined))
        return lock->exclusive_holds == 0;
    return lock->hold_count == 0;
}

bool rk_wants_are_free(const struct rk_want *wants, uint32_t want_count)
{
    for (uint32_t i = 0; i < want_count; i++) {
        const struct rk_lock *lock = wants[i].lock;
        if (!lock_admits(lock, wants[i].mode)) return false;
        bool is_alone = lock->limit != 0 || wants[i].mode == RK_MODE_EXCLUSIVE;
        if (!rk_list_is_empty(is_alone ? &lock->places : &lock->exclusive)) return false;
    }
    return true;
}

/* First come, first served among incompatible requests. */
static bool place_is_ready(const struct rk_place *place)
{
    const struct rk_lock *lock = place->lock;
    bool is_head = lock->places.next == &place->link;
    if (place->wait->is_upgrade) {
        if (lock->is_closed || !is_head || lock->hold_count > 1) return false;
        return lock->hold_count == 0 ||
               rk_hold_at(lock->holds.next)->grant->owner == place->wait->owner;
    }
    if (!lock_admits(lock, place->mode)) return false;
    if (lock->limit != 0 || place->mode == RK_MODE_EXCLUSIVE) return is_head;
    struct rk_list *first = rk_list_first(&lock->exclusive);
    return first == NULL ||
           place->order < RK_CONTAINER(first, struct rk_place, exclusive_link)->order;
}

/* An owner has each lock once: what it took meanwhile by another request, it must give
 * back before this one is granted. */
static bool wait_is_ready(const struct rk_machine *machine, const struct rk_wait *wait)
{
    bool has_grants = !wait->is_upgrade && !rk_list_is_empty(&wait->owner->grants);
    for (uint32_t i = 0; i < wait->place_count; i++) {
        if (!place_is_ready(&wait->places[i])) return false;
        if (has_grants && rk_hold_of(machine, wait->places[i].lock, wait->owner) != NULL)
            return false;
    }
    return true;
}

static uint64_t least(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

/* The timer of a grant: its lease, cut by what is left of max_hold. */
static uint64_t start_lease(struct rk_machine *machine, struct rk_grant *grant,
                            uint64_t now)
{
    uint64_t lease_ms = grant->terms.lease_ms != 0 ? grant->terms.lease_ms : UINT64_MAX;
    if (grant->terms.max_hold_ms != 0) {
        uint64_t held_ms = now - grant->granted_ms;
        uint64_t max_ms = grant->terms.max_hold_ms;
        lease_ms = least(lease_ms, held_ms < max_ms ? max_ms - held_ms : 0);
    }
    uint64_t kept_ms = RK_MUTANT(lease_cut) ? lease_ms / 2 : lease_ms;
    if (lease_ms != UINT64_MAX) rk_timer_start(machine, &grant->object, now, kept_ms);
    grant->renewed_ms = now;
    return grant->terms.lease_ms != 0 ? lease_ms
                                      : least(lease_ms, grant->owner->session->ttl_ms);
}

static uint64_t next_fence(struct rk_machine *machine)
{
    if (!RK_MUTANT(fence_reused)) machine->fence++;
    return machine->fence;
}

static void fill_reply(struct rk_reply *reply, struct rk_grant *grant, uint64_t lease_ms)
{
    grant->told++;
    reply->granted = true;
    reply->fence = grant->fence;
    reply->lease_ms = lease_ms;
    reply->mode = grant->holds[0].mode;
    reply->resource = rk_lock_name(grant->holds[0].lock);
}

static enum rk_status set_fence(struct rk_machine *machine, struct rk_grant *grant)
{
    grant->fence = next_fence(machine);
    for (uint32_t i = 0; i < grant->hold_count; i++) {
        struct rk_lock *lock = grant->holds[i].lock;
        enum rk_status status = rk_object_touch(machine, &lock->object);
        if (status != RK_OK) return status;
        lock->fence = grant->fence;
    }
    return RK_OK;
}

enum rk_status rk_grant_give(struct rk_machine *machine, struct rk_apply *apply,
                             struct rk_owner *owner, const struct rk_want *wants,
                             uint32_t want_count, const struct rk_terms *terms,
                             struct rk_reply *reply)
{
    struct rk_grant *grant = rk_grant_enter(machine, owner, wants, want_count, 0);
    if (grant == NULL) return RK_ENOMEM;
    grant->terms = *terms;
    grant->count = 1;
    grant->granted_ms = apply->now;
    enum rk_status status = set_fence(machine, grant);
    if (status != RK_OK) return status;
    fill_reply(reply, grant, start_lease(machine, grant, apply->now));
    return RK_OK;
}

enum rk_status rk_grant_renew(struct rk_machine *machine, struct rk_apply *apply,
                              struct rk_grant *grant, uint64_t *lease_ms)
{
    enum rk_status status = rk_object_touch(machine, &grant->object);
    if (status != RK_OK) return status;
    struct rk_session *session = grant->owner->session;
    if (session != NULL) {
        status = rk_session_renew(machine, session, apply->now);
        if (status != RK_OK) return status;
    }
    grant->told++;
    *lease_ms = start_lease(machine, grant, apply->now);
    return RK_OK;
}

void rk_grant_note(struct rk_machine *machine, const struct rk_grant *grant)
{
    for (uint32_t i = 0; i < grant->hold_count; i++)
        rk_changes_note(machine, &grant->holds[i].lock->object);
}

enum rk_status rk_grant_repeat(struct rk_machine *machine, struct rk_apply *apply,
                               struct rk_grant *grant, const struct rk_terms *terms,
                               struct rk_reply *reply)
{
    enum rk_status status = rk_object_touch(machine, &grant->object);
    if (status != RK_OK) return status;
    if (grant->fence <= machine->doubted) status = set_fence(machine, grant);
    if (status != RK_OK) return status;
    if (terms->is_reentrant) grant->count++;
    if (grant->terms.lease_ms != terms->lease_ms) rk_grant_note(machine, grant);
    grant->terms.lease_ms = terms->lease_ms;
    fill_reply(reply, grant, start_lease(machine, grant, apply->now));
    return RK_OK;
}

enum rk_status rk_grant_upgrade(struct rk_machine *machine, struct rk_apply *apply,
                                struct rk_hold *hold, const struct rk_terms *terms,
                                struct rk_reply *reply)
{
    RK_ASSERT(hold->mode == RK_MODE_SHARED && hold->lock->hold_count == 1);
    enum rk_status status = rk_object_touch(machine, &hold->grant->object);
    if (status == RK_OK) status = set_fence(machine, hold->grant);
    if (status != RK_OK) return status;
    hold->mode = RK_MODE_EXCLUSIVE;
    hold->lock->exclusive_holds++;
    status = rk_grant_repeat(machine, apply, hold->grant, terms, reply);
    reply->mode = RK_MODE_EXCLUSIVE;
    return status;
}

/* Nobody gets the lock for duration_ms. */
static enum rk_status close_lock(struct rk_machine *machine, struct rk_lock *lock,
                                 uint64_t now, uint64_t duration_ms)
{
    if (lock->is_closed && lock->closed_until >= now + duration_ms) return RK_OK;
    enum rk_status status = rk_object_touch(machine, &lock->object);
    if (status != RK_OK) return status;
    lock->is_closed = true;
    lock->closed_until = now + duration_ms;
    rk_timer_start(machine, &lock->object, now, duration_ms);
    return RK_OK;
}

static enum rk_status close_all(struct rk_machine *machine, struct rk_grant *grant,
                                uint64_t now, uint64_t duration_ms)
{
    for (uint32_t i = 0; i < grant->hold_count && duration_ms != 0; i++) {
        enum rk_status status = close_lock(machine, grant->holds[i].lock, now, duration_ms);
        if (status != RK_OK) return status;
    }
    return RK_OK;
}

static enum rk_status give_back(struct rk_machine *machine, struct rk_apply *apply,
                                struct rk_grant *grant)
{
    uint64_t held_ms = apply->now - grant->granted_ms;
    uint64_t min_ms = grant->terms.min_hold_ms;
    enum rk_status status =
        close_all(machine, grant, apply->now, held_ms < min_ms ? min_ms - held_ms : 0);
    return status == RK_OK ? rk_grant_remove(machine, grant) : status;
}

enum rk_status rk_grant_release(struct rk_machine *machine, struct rk_apply *apply,
                                struct rk_grant *grant)
{
    if (grant->count == 1) return give_back(machine, apply, grant);
    enum rk_status status = rk_object_touch(machine, &grant->object);
    if (status == RK_OK) grant->count--;
    return status;
}

enum rk_status rk_grant_lose(struct rk_machine *machine, struct rk_apply *apply,
                             struct rk_grant *grant)
{
    const struct rk_owner *owner = grant->owner;
    for (uint32_t i = 0; i < grant->hold_count; i++) {
        struct rk_event event = {.kind = RK_EVENT_LOCK_LOST,
                                 .owner = owner->name,
                                 .session = owner->session != NULL
                                                ? rk_session_id(owner->session)
                                                : RK_SLICE_EMPTY,
                                 .resource = rk_lock_name(grant->holds[i].lock),
                                 .fence = grant->fence};
        rk_event_emit(apply, &event);
    }
    enum rk_status status =
        close_all(machine, grant, apply->now, grant->terms.lock_delay_ms);
    return status == RK_OK ? rk_grant_remove(machine, grant) : status;
}

enum rk_status rk_grant_retire(struct rk_machine *machine, struct rk_apply *apply,
                               struct rk_grant *grant)
{
    enum rk_status status =
        close_all(machine, grant, apply->now, grant->terms.lock_delay_ms);
    return status == RK_OK ? give_back(machine, apply, grant) : status;
}

enum rk_status rk_wait_finish(struct rk_machine *machine, struct rk_apply *apply,
                              struct rk_wait *wait, struct rk_reply *reply)
{
    struct rk_locks *locks = machine->locks;
    if (locks->entering == wait) {
        locks->entering = NULL;
        *apply->reply = *reply;
    } else {
        enum rk_status status =
            rk_answer_pending(machine, apply, wait->client, wait->seq, reply);
        if (status != RK_OK) return status;
    }
    return rk_wait_remove(machine, wait);
}

static void begin_reply(struct rk_reply *reply, const struct rk_wait *wait)
{
    memset(reply, 0, sizeof(*reply));
    reply->op = RK_OP_LOCK_ACQUIRE;
    reply->is_bulk = wait->is_bulk;
}

static struct rk_grant *grant_covering(const struct rk_machine *machine,
                                       const struct rk_wait *wait)
{
    struct rk_grant *grant = NULL;
    for (uint32_t i = 0; i < wait->place_count; i++) {
        const struct rk_place *place = &wait->places[i];
        struct rk_hold *hold = rk_hold_of(machine, place->lock, wait->owner);
        if (hold == NULL || hold->mode > place->mode) return NULL;
        if (grant != NULL && grant != hold->grant) return NULL;
        grant = hold->grant;
    }
    return grant;
}

enum rk_status rk_waits_finish_covered(struct rk_machine *machine, struct rk_apply *apply,
                                       struct rk_owner *owner)
{
    rk_list_each_safe (link, &owner->waits) {
        struct rk_wait *wait = RK_CONTAINER(link, struct rk_wait, owner_link);
        struct rk_grant *grant = grant_covering(machine, wait);
        if (grant == NULL) continue;
        struct rk_reply reply;
        begin_reply(&reply, wait);
        enum rk_status status =
            rk_grant_repeat(machine, apply, grant, &wait->terms, &reply);
        if (status == RK_OK) status = rk_wait_finish(machine, apply, wait, &reply);
        if (status != RK_OK) return status;
    }
    return RK_OK;
}

static enum rk_status grant_wait(struct rk_machine *machine, struct rk_apply *apply,
                                 struct rk_wait *wait)
{
    struct rk_owner *owner = wait->owner;
    owner->references++; /* kept while its other waits are looked at */
    struct rk_reply reply;
    begin_reply(&reply, wait);
    struct rk_want *wants =
        rk_arena_alloc(apply->arena, wait->place_count * sizeof(struct rk_want));
    if (wants == NULL) return RK_ENOMEM;
    for (uint32_t i = 0; i < wait->place_count; i++)
        wants[i] = (struct rk_want){wait->places[i].lock, wait->places[i].mode};
    struct rk_hold *own =
        wait->is_upgrade ? rk_hold_of(machine, wants[0].lock, owner) : NULL;
    enum rk_status status =
        own != NULL ? rk_grant_upgrade(machine, apply, own, &wait->terms, &reply)
                    : rk_grant_give(machine, apply, owner, wants, wait->place_count,
                                    &wait->terms, &reply);
    if (status == RK_OK) status = rk_wait_finish(machine, apply, wait, &reply);
    if (status == RK_OK && !rk_list_is_empty(&owner->waits))
        status = rk_waits_finish_covered(machine, apply, owner);
    rk_owner_put(machine, owner);
    return status;
}

/* The next of the lock's queue that can be granted now, or NULL. Behind a request that
 * wants the lock alone nobody is; a shared one that waits for another lock is passed. */
static struct rk_wait *next_ready(const struct rk_machine *machine,
                                  const struct rk_lock *lock)
{
    if (machine->is_holding) return NULL;
    rk_list_each (link, &lock->places) {
        struct rk_place *place = rk_place_at(link);
        if (!place_is_ready(place)) return NULL;
        if (wait_is_ready(machine, place->wait)) return place->wait;
    }
    return NULL;
}

enum rk_status rk_locks_settle(struct rk_machine *machine, struct rk_apply *apply)
{
    struct rk_list *dirty = &machine->locks->dirty;
    while (!rk_list_is_empty(dirty)) {
        struct rk_lock *lock = RK_CONTAINER(dirty->next, struct rk_lock, dirty);
        rk_list_remove(&lock->dirty);
        struct rk_wait *wait;
        while ((wait = next_ready(machine, lock)) != NULL) {
            enum rk_status status = grant_wait(machine, apply, wait);
            if (status != RK_OK) return status;
        }
        if (!rk_lock_is_idle(lock)) continue;
        enum rk_status status = rk_object_touch(machine, &lock->object);
        if (status != RK_OK) return status;
        rk_lock_remove(machine, lock);
    }
    return RK_OK;
}

enum rk_status rk_locks_end_session(struct rk_machine *machine, struct rk_apply *apply,
                                    struct rk_session *session, bool is_expired)
{
    while (!rk_list_is_empty(&session->waits)) {
        struct rk_wait *wait =
            RK_CONTAINER(session->waits.next, struct rk_wait, session_link);
        struct rk_reply reply;
        begin_reply(&reply, wait);
        enum rk_status status =
            rk_refuse(&reply, RK_ESESSION, "session", "the session ended while waiting");
        if (status == RK_OK) status = rk_wait_finish(machine, apply, wait, &reply);
        if (status != RK_OK) return status;
    }
    while (!rk_list_is_empty(&session->grants)) {
        struct rk_grant *grant =
            RK_CONTAINER(session->grants.next, struct rk_grant, session_link);
        enum rk_status status = is_expired ? rk_grant_lose(machine, apply, grant)
                                           : give_back(machine, apply, grant);
        if (status != RK_OK) return status;
    }
    return RK_OK;
}

/* When the hold ends at the latest unless it is renewed, by what every node knows. */
static uint64_t hold_left(const struct rk_grant *grant, uint64_t now)
{
    if (grant->terms.lease_ms == 0) return grant->owner->session->ttl_ms;
    uint64_t end = grant->renewed_ms + grant->terms.lease_ms;
    return end > now ? end - now : 0;
}

enum rk_status rk_locks_show_holders(struct rk_apply *apply, struct rk_lock *const *locks,
                                     uint32_t lock_count, const struct rk_owner *except,
                                     struct rk_reply *reply)
{
    uint64_t retry_ms = UINT64_MAX;
    reply->holders =
        rk_arena_calloc(apply->arena, RK_LOCK_SHOWN_MAX, sizeof(struct rk_holder));
    if (reply->holders == NULL) return RK_ENOMEM;
    for (uint32_t i = 0; i < lock_count; i++) {
        if (locks[i]->is_closed && locks[i]->closed_until > apply->now)
            retry_ms = least(retry_ms, locks[i]->closed_until - apply->now);
        rk_list_each (link, &locks[i]->holds) {
            const struct rk_hold *hold = rk_hold_at(link);
            if (reply->holder_count == RK_LOCK_SHOWN_MAX) break;
            if (hold->grant->owner == except) continue;
            uint64_t left_ms = hold_left(hold->grant, apply->now);
            retry_ms = least(retry_ms, left_ms);
            reply->holders[reply->holder_count++] = (struct rk_holder){
                .owner = rk_arena_copy(apply->arena, hold->grant->owner->name),
                .mode = hold->mode,
                .fence = hold->grant->fence,
                .lease_left_ms = left_ms,
                .count = hold->grant->count};
        }
    }
    reply->retry_after_ms = retry_ms == UINT64_MAX || retry_ms == 0 ? 1 : retry_ms;
    return RK_OK;
}

void rk_machine_hold_grants(struct rk_machine *machine, bool is_held)
{
    struct rk_map_cursor cursor;
    bool was_held = machine->is_holding;
    machine->is_holding = is_held;
    if (!was_held || is_held) return;
    rk_map_each (node, &machine->locks->by_name, &cursor) {
        struct rk_lock *lock = RK_CONTAINER(node, struct rk_lock, node);
        if (lock->place_count != 0) rk_lock_mark(machine, lock);
    }
}

void rk_machine_doubt_grants(struct rk_machine *machine, uint64_t fence)
{
    machine->doubted = fence;
}
