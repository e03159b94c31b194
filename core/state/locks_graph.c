#include "state/locks.h"

#include "base/assert.h"

enum { EDGES_MAX = 10000 }; /* of lock.graph */

/* Called for each owner that a place waits for. is_any: one of them is enough (permits of
 * a semaphore); else all must go. False: no more of them are needed. */
typedef bool (*blocker_fn)(void *context, const struct rk_place *place,
                           struct rk_owner *blocker, bool is_any);

static bool each_holder(const struct rk_place *place, bool is_any, blocker_fn visit,
                        void *context)
{
    rk_list_each (link, &place->lock->holds) {
        struct rk_hold *hold = rk_hold_at(link);
        if (hold->grant->owner == place->wait->owner) continue;
        if (!is_any && place->mode == RK_MODE_SHARED && hold->mode == RK_MODE_SHARED)
            continue;
        if (!visit(context, place, hold->grant->owner, is_any)) return false;
    }
    return true;
}

/* Edges of a place: to the nearest earlier requests that it cannot pass, which in turn
 * wait for those before them, and to holders if there is no such request that wants the
 * lock alone. Requests of the same owner do not count. */
static bool each_blocker(const struct rk_place *place, blocker_fn visit, void *context)
{
    const struct rk_lock *lock = place->lock;
    bool is_semaphore = lock->limit != 0;
    for (struct rk_list *link = place->link.prev; link != &lock->places;
         link = link->prev) {
        const struct rk_place *earlier = rk_place_at(link);
        bool is_alone = is_semaphore || earlier->mode == RK_MODE_EXCLUSIVE;
        if (earlier->wait->owner == place->wait->owner) continue;
        if (!is_alone && place->mode == RK_MODE_SHARED) continue;
        if (!visit(context, place, earlier->wait->owner, false)) return false;
        if (is_alone) return true;
    }
    if (is_semaphore && lock->hold_count < lock->limit) return true;
    return each_holder(place, is_semaphore, visit, context);
}

static struct rk_wait *wait_at(struct rk_list *link)
{
    return RK_CONTAINER(link, struct rk_wait, owner_link);
}

/* Visits the blockers of all that the owner waits for. */
static bool each_blocker_of(const struct rk_owner *owner, blocker_fn visit, void *context)
{
    rk_list_each (link, &owner->waits) {
        struct rk_wait *wait = wait_at(link);
        for (uint32_t i = 0; i < wait->place_count; i++)
            if (!each_blocker(&wait->places[i], visit, context)) return false;
    }
    return true;
}

/* A breadth-first search from `start` along waits. */
struct search {
    struct rk_owner *start;
    struct rk_owner *at;
    struct rk_owner *last;
    uint64_t mark;
    const struct rk_place *closing; /* where `parent` waits for start; NULL: no cycle */
    struct rk_owner *parent;
    bool has_any;    /* a semaphore was met */
    bool only_stuck; /* second pass: only through owners that are not live */
};

static bool found(void *context, const struct rk_place *place, struct rk_owner *blocker,
                  bool is_any)
{
    struct search *search = context;
    search->has_any |= is_any;
    if (search->only_stuck && blocker->is_live) return true;
    if (blocker == search->start) {
        if (search->closing != NULL) return true;
        search->closing = place;
        search->parent = search->at;
        return true;
    }
    if (blocker->mark == search->mark) return true;
    blocker->mark = search->mark;
    blocker->parent = search->at;
    blocker->via = place;
    blocker->next = NULL;
    search->last->next = blocker;
    search->last = blocker;
    return true;
}

static void search_from(struct rk_locks *locks, struct search *search,
                        struct rk_owner *start)
{
    bool only_stuck = search->only_stuck;
    *search = (struct search){.start = start, .at = start, .last = start};
    search->only_stuck = only_stuck;
    search->mark = ++locks->mark;
    start->mark = search->mark;
    start->next = NULL;
    for (; search->at != NULL; search->at = search->at->next)
        (void)each_blocker_of(search->at, found, search);
}

struct liveness {
    bool is_live;      /* of the place so far */
    bool has_any_live; /* among permits */
    bool has_any;
};

static bool weigh(void *context, const struct rk_place *place, struct rk_owner *blocker,
                  bool is_any)
{
    (void)place;
    struct liveness *liveness = context;
    if (is_any) {
        liveness->has_any = true;
        liveness->has_any_live |= blocker->is_live;
    } else if (!blocker->is_live) {
        liveness->is_live = false;
    }
    return true;
}

static bool owner_is_live(const struct rk_owner *owner)
{
    rk_list_each (link, &owner->waits) {
        struct rk_wait *wait = wait_at(link);
        for (uint32_t i = 0; i < wait->place_count; i++) {
            struct liveness liveness = {.is_live = true};
            (void)each_blocker(&wait->places[i], weigh, &liveness);
            if (!liveness.is_live || (liveness.has_any && !liveness.has_any_live))
                return false;
        }
    }
    return true;
}

/* Where permits are waited for a cycle is no proof: one live permit holder is enough.
 * Stuck is who stays when everybody that can go on has gone (a knot, Holt 1972). */
static bool start_is_stuck(struct rk_owner *start)
{
    for (struct rk_owner *at = start; at != NULL; at = at->next)
        at->is_live = false;
    bool has_changed = true;
    while (has_changed) {
        has_changed = false;
        for (struct rk_owner *at = start; at != NULL; at = at->next) {
            if (at->is_live || !owner_is_live(at)) continue;
            at->is_live = has_changed = true;
        }
    }
    return !start->is_live;
}

/* Can somebody wait for this owner besides through the wait just made? Mostly not, and
 * then no cycle can go through it. */
static bool is_waited_for(const struct rk_owner *owner, const struct rk_wait *entering)
{
    if (entering->is_upgrade || entering->owner_link.prev != &owner->waits) return true;
    rk_list_each (link, &owner->grants) {
        const struct rk_grant *grant =
            RK_CONTAINER_CONST(link, struct rk_grant, owner_link);
        for (uint32_t i = 0; i < grant->hold_count; i++)
            if (grant->holds[i].lock->place_count != 0) return true;
    }
    return false;
}

/* Lowest priority, then youngest. */
static struct rk_wait *worse(struct rk_wait *a, struct rk_wait *b)
{
    if (a == NULL) return b;
    if (a->priority != b->priority) return a->priority < b->priority ? a : b;
    return a->object.id > b->object.id ? a : b;
}

/* Writes the cycle into the reply, first edge that of start, and gives its victim. */
static struct rk_wait *describe_cycle(const struct search *search, struct rk_apply *apply,
                                      struct rk_reply *reply)
{
    uint32_t count = 1;
    for (struct rk_owner *at = search->parent; at != search->start; at = at->parent)
        count++;
    reply->edges = rk_arena_calloc(apply->arena, count, sizeof(struct rk_wait_edge));
    if (reply->edges == NULL) return NULL;
    reply->edge_count = count;
    struct rk_wait *victim = NULL;
    const struct rk_place *place = search->closing;
    const struct rk_owner *by = search->start;
    struct rk_owner *owner = search->parent;
    while (count-- > 0) {
        reply->edges[count] =
            (struct rk_wait_edge){rk_arena_copy(apply->arena, owner->name),
                                  rk_arena_copy(apply->arena, rk_lock_name(place->lock)),
                                  rk_arena_copy(apply->arena, by->name)};
        victim = worse(victim, place->wait);
        by = owner;
        place = owner->via;
        owner = owner->parent;
    }
    return victim;
}

static void print_cycle(struct rk_reply *reply, uint32_t edge_count,
                        const struct rk_wait_edge *edges)
{
    struct rk_buf text;
    rk_buf_init(&text);
    rk_buf_append_string(&text, "waiting closes the cycle ");
    for (uint32_t i = 0; i < edge_count && text.size < sizeof(reply->text); i++) {
        rk_buf_append_slice(&text, edges[i].owner);
        rk_buf_append_string(&text, " -> ");
        rk_buf_append_slice(&text, edges[i].resource);
        rk_buf_append_string(&text, " -> ");
    }
    rk_buf_append_slice(&text, edges[0].owner);
    int size =
        text.size < sizeof(reply->text) ? (int)text.size : (int)sizeof(reply->text) - 1;
    (void)rk_refuse(reply, RK_EDEADLOCK, NULL, "%.*s", size, (const char *)text.data);
    rk_buf_fini(&text);
}

/* Ends one wait of a cycle through owner; *is_found: there was one. */
static enum rk_status break_one(struct rk_machine *machine, struct rk_apply *apply,
                                struct rk_owner *owner, bool *is_found)
{
    struct search search = {.only_stuck = false};
    search_from(machine->locks, &search, owner);
    *is_found = search.closing != NULL;
    if (*is_found && search.has_any) {
        *is_found = start_is_stuck(owner);
        search.only_stuck = true;
        if (*is_found) search_from(machine->locks, &search, owner);
        RK_ASSERT(!*is_found || search.closing != NULL);
    }
    if (!*is_found) return RK_OK;
    struct rk_reply reply;
    memset(&reply, 0, sizeof(reply));
    reply.op = RK_OP_LOCK_ACQUIRE;
    struct rk_wait *victim = describe_cycle(&search, apply, &reply);
    if (victim == NULL) return RK_ENOMEM;
    reply.is_bulk = victim->is_bulk;
    print_cycle(&reply, reply.edge_count, reply.edges);
    enum rk_status status = rk_wait_finish(machine, apply, victim, &reply);
    return status == RK_OK ? rk_locks_settle(machine, apply) : status;
}

enum rk_status rk_locks_break_cycles(struct rk_machine *machine, struct rk_apply *apply)
{
    const struct rk_wait *entering = machine->locks->entering;
    if (!is_waited_for(entering->owner, entering)) return RK_OK;
    struct rk_owner *owner = entering->owner; /* referenced by the acquire under way */
    bool is_found = true;
    while (is_found && machine->locks->entering != NULL) {
        enum rk_status status = break_one(machine, apply, owner, &is_found);
        if (status != RK_OK) return status;
    }
    return RK_OK;
}

static bool count_edge(void *context, const struct rk_place *place,
                       struct rk_owner *blocker, bool is_any)
{
    (void)place;
    (void)blocker;
    (void)is_any;
    uint32_t *count = context;
    return ++*count < EDGES_MAX;
}

static bool add_edge(void *context, const struct rk_place *place, struct rk_owner *blocker,
                     bool is_any)
{
    (void)is_any;
    struct rk_reply *reply = context;
    reply->edges[reply->edge_count++] = (struct rk_wait_edge){
        place->wait->owner->name, rk_lock_name(place->lock), blocker->name};
    return reply->edge_count < EDGES_MAX;
}

static void each_edge(const struct rk_machine *machine, blocker_fn visit, void *context)
{
    rk_list_each (link, &machine->locks->waits) {
        struct rk_wait *wait = RK_CONTAINER(link, struct rk_wait, link);
        for (uint32_t i = 0; i < wait->place_count; i++)
            if (!each_blocker(&wait->places[i], visit, context)) return;
    }
}

enum rk_status rk_locks_query_graph(struct rk_machine *machine,
                                    const struct rk_request *request, uint64_t now,
                                    struct rk_arena *arena, struct rk_reply *reply)
{
    (void)request;
    (void)now;
    uint32_t count = 0;
    each_edge(machine, count_edge, &count);
    reply->edges = rk_arena_calloc(arena, count, sizeof(struct rk_wait_edge));
    if (reply->edges == NULL) return RK_ENOMEM;
    each_edge(machine, add_edge, reply);
    return RK_OK;
}
