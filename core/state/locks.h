/* locks.h - inside core/state: locks, who holds them, who waits, and why.
 *
 * A lock exists while it is held, waited for or closed. A grant holds one lock or several
 * under one fence; a wait stands in the queue of each lock that it asks for. Holders and
 * waiters are told apart by owner: a name within a session, or without one. */
#ifndef RK_STATE_LOCKS_H
#define RK_STATE_LOCKS_H

#include "state/sessions.h"
#include "state/waits.h"

enum {
    RK_LOCK_WAITERS_MAX = 100000, /* for one lock; more are refused (busy) */
    RK_LOCK_SHOWN_MAX = 16,       /* holders named in a refusal */
};

struct rk_lock {
    struct rk_object object;
    struct rk_map_node node;   /* by name */
    struct rk_name_node order; /* for lists */
    struct rk_list holds;      /* struct rk_hold, oldest first */
    struct rk_list places;     /* struct rk_place, in the order of service */
    struct rk_list exclusive;  /* those of them that want it alone */
    struct rk_list dirty;      /* linked: to be looked at by settle */
    uint64_t limit;            /* 0: a lock; else a semaphore of so many permits */
    uint64_t fence;            /* of the last grant */
    uint64_t closed_until;     /* group time; the timer decides */
    uint64_t seen;             /* index of the last acquire that named it */
    uint32_t hold_count;
    uint32_t exclusive_holds;
    uint32_t place_count;
    bool is_closed;
    uint8_t name[]; /* node.key.size bytes */
};

/* Who holds and waits. Derived: it exists while something refers to it. */
struct rk_owner {
    struct rk_map_node node; /* by session's object id and name */
    struct rk_list grants;
    struct rk_list waits;
    struct rk_session *session; /* or NULL */
    struct rk_slice name;       /* within node.key */
    uint32_t references;
    /* The search for a deadlock. */
    bool is_live;
    uint64_t mark;
    struct rk_owner *next;      /* found after it */
    struct rk_owner *parent;    /* waits for it ... */
    const struct rk_place *via; /* ... there */
    uint8_t key[];
};

/* What an acquire asks beside the locks. */
struct rk_terms {
    uint64_t lease_ms; /* 0: lives as long as the session */
    uint64_t min_hold_ms;
    uint64_t max_hold_ms; /* 0: no bound */
    uint64_t lock_delay_ms;
    bool is_reentrant;
};

/* A grant's part in one lock. */
struct rk_hold {
    struct rk_list link;      /* of the lock */
    struct rk_map_node node;  /* by lock and owner's name: the first of that name */
    struct rk_hold *previous; /* of the same name, in another session; NULL: in the map */
    struct rk_hold *next;
    struct rk_grant *grant;
    struct rk_lock *lock;
    uint8_t mode;
};

struct rk_grant {
    struct rk_object object;
    struct rk_owner *owner;
    struct rk_list owner_link;
    struct rk_list session_link;
    struct rk_terms terms;
    uint64_t fence;
    uint64_t granted_ms; /* group time */
    uint64_t renewed_ms; /* group time of the grant or of its last renewal in the log */
    uint64_t told;       /* how often its owner was told of it: answers and renewals */
    uint32_t count;      /* releases until it is free */
    uint32_t hold_count;
    struct rk_hold holds[]; /* and behind them their keys */
};

/* A wait's place in the queue of one lock. */
struct rk_place {
    struct rk_list link;
    struct rk_list exclusive_link;
    struct rk_wait *wait;
    struct rk_lock *lock;
    uint64_t order; /* rises along the queue; 0: an upgrade, at its head */
    uint8_t mode;
};

struct rk_wait {
    struct rk_object object;
    struct rk_list link; /* of all waits */
    struct rk_owner *owner;
    struct rk_list owner_link;
    struct rk_list session_link;
    struct rk_terms terms;
    struct rk_slice client; /* behind the places */
    uint64_t seq;
    uint64_t home;
    uint64_t since_ms; /* group time */
    uint64_t wait_ms;
    int32_t priority;
    bool is_bulk;
    bool is_upgrade; /* holds it shared, wants it alone */
    uint32_t place_count;
    struct rk_place places[];
};

/* One lock that an acquire names. */
struct rk_want {
    struct rk_lock *lock;
    uint8_t mode;
};

struct rk_locks {
    struct rk_map by_name;
    struct rk_names names;
    struct rk_map holds;
    struct rk_map owners;
    struct rk_list dirty;
    struct rk_list waits;
    uint64_t mark;            /* of the last search */
    struct rk_wait *entering; /* made by the acquire under way; answered in its reply */
};

/* --- locks_table.c: the objects and how they hang together */

struct rk_lock *rk_lock_find(const struct rk_machine *machine, struct rk_slice name);
/* Finds or makes it; a new one goes at the next settle unless somebody uses it. NULL: no
 * memory. */
struct rk_lock *rk_lock_take(struct rk_machine *machine, struct rk_slice name);
struct rk_lock *rk_lock_enter(struct rk_machine *machine, struct rk_slice name,
                              uint64_t id);
/* Used by nobody: it can go. */
bool rk_lock_is_idle(const struct rk_lock *lock);
void rk_lock_remove(struct rk_machine *machine, struct rk_lock *lock);
void rk_lock_mark(struct rk_machine *machine, struct rk_lock *lock);
static inline struct rk_slice rk_lock_name(const struct rk_lock *lock)
{
    return lock->node.key;
}

/* Finds or makes it and takes a reference. NULL: no memory. */
struct rk_owner *rk_owner_take(struct rk_machine *machine, struct rk_session *session,
                               struct rk_slice name);
void rk_owner_put(struct rk_machine *machine, struct rk_owner *owner);

/* What the owner holds of the lock, or NULL. */
struct rk_hold *rk_hold_of(const struct rk_machine *machine, const struct rk_lock *lock,
                           const struct rk_owner *owner);
/* The first of all holds of that owner's name in any session; follow ->next. */
struct rk_hold *rk_hold_first(const struct rk_machine *machine, const struct rk_lock *lock,
                              struct rk_slice owner);

/* NULL: no memory. id 0 unless restoring. Fence, times and timer are the caller's. */
struct rk_grant *rk_grant_enter(struct rk_machine *machine, struct rk_owner *owner,
                                const struct rk_want *wants, uint32_t want_count,
                                uint64_t id);
/* Touches, unlinks, marks its locks and frees. */
RK_MUST_CHECK enum rk_status rk_grant_remove(struct rk_machine *machine,
                                             struct rk_grant *grant);
/* pattern: a wait with terms, seq, home, times, priority and flags. NULL: no memory. */
struct rk_wait *rk_wait_enter(struct rk_machine *machine, struct rk_owner *owner,
                              const struct rk_want *wants, uint32_t want_count,
                              const struct rk_wait *pattern, uint64_t id);
RK_MUST_CHECK enum rk_status rk_wait_remove(struct rk_machine *machine,
                                            struct rk_wait *wait);

static inline struct rk_hold *rk_hold_at(struct rk_list *link)
{
    return RK_CONTAINER(link, struct rk_hold, link);
}
static inline struct rk_place *rk_place_at(struct rk_list *link)
{
    return RK_CONTAINER(link, struct rk_place, link);
}

/* --- locks_grant.c: granting, losing, releasing */

/* May the wants be granted at once, behind everybody who waits? */
bool rk_wants_are_free(const struct rk_want *wants, uint32_t want_count);
/* Grants to the owner and fills the reply. */
RK_MUST_CHECK enum rk_status rk_grant_give(struct rk_machine *machine,
                                           struct rk_apply *apply, struct rk_owner *owner,
                                           const struct rk_want *wants, uint32_t want_count,
                                           const struct rk_terms *terms,
                                           struct rk_reply *reply);
/* The holder asked again: renews, counts if reentrant, fills the reply. */
RK_MUST_CHECK enum rk_status rk_grant_repeat(struct rk_machine *machine,
                                             struct rk_apply *apply, struct rk_grant *grant,
                                             const struct rk_terms *terms,
                                             struct rk_reply *reply);
/* What is seen of it changes: its locks count as changed. */
void rk_grant_note(struct rk_machine *machine, const struct rk_grant *grant);
/* The only holder of a shared lock gets it alone, under a new fence. */
RK_MUST_CHECK enum rk_status rk_grant_upgrade(struct rk_machine *machine,
                                              struct rk_apply *apply, struct rk_hold *hold,
                                              const struct rk_terms *terms,
                                              struct rk_reply *reply);
/* Answers those waits of the owner that one of its grants covers. After each upgrade: an
 * earlier request for the same would otherwise be granted on top of it. */
RK_MUST_CHECK enum rk_status rk_waits_finish_covered(struct rk_machine *machine,
                                                     struct rk_apply *apply,
                                                     struct rk_owner *owner);
/* Starts the lease anew; *lease_ms: how long it is now. */
RK_MUST_CHECK enum rk_status rk_grant_renew(struct rk_machine *machine,
                                            struct rk_apply *apply, struct rk_grant *grant,
                                            uint64_t *lease_ms);
/* Given back by its owner. Settle after. */
RK_MUST_CHECK enum rk_status rk_grant_release(struct rk_machine *machine,
                                              struct rk_apply *apply,
                                              struct rk_grant *grant);
/* Taken away: events, lock delay. Settle after. */
RK_MUST_CHECK enum rk_status rk_grant_lose(struct rk_machine *machine,
                                           struct rk_apply *apply, struct rk_grant *grant);
/* Its history ends: what was asked for the time after it still holds. Settle after. */
RK_MUST_CHECK enum rk_status
rk_grant_retire(struct rk_machine *machine, struct rk_apply *apply, struct rk_grant *grant);
/* Answers the wait's request and removes it. Settle after. */
RK_MUST_CHECK enum rk_status rk_wait_finish(struct rk_machine *machine,
                                            struct rk_apply *apply, struct rk_wait *wait,
                                            struct rk_reply *reply);
/* Serves the queues of all marked locks and removes those that nobody uses. At the end of
 * everything that gave back or removed something. */
RK_MUST_CHECK enum rk_status rk_locks_settle(struct rk_machine *machine,
                                             struct rk_apply *apply);
/* The session ends: its waits and grants go. Settle after. */
RK_MUST_CHECK enum rk_status rk_locks_end_session(struct rk_machine *machine,
                                                  struct rk_apply *apply,
                                                  struct rk_session *session,
                                                  bool is_expired);
/* Names holders in a refusal, and when to try again. Uses replicated times only. */
RK_MUST_CHECK enum rk_status rk_locks_show_holders(struct rk_apply *apply,
                                                   struct rk_lock *const *locks,
                                                   uint32_t lock_count,
                                                   const struct rk_owner *except,
                                                   struct rk_reply *reply);

/* --- locks_graph.c: who waits for whom */

/* Ends waits until none of the cycles that `wait` closed is left. */
RK_MUST_CHECK enum rk_status rk_locks_break_cycles(struct rk_machine *machine,
                                                   struct rk_apply *apply);
RK_MUST_CHECK enum rk_status rk_locks_query_graph(struct rk_machine *machine,
                                                  const struct rk_request *request,
                                                  uint64_t now, struct rk_arena *arena,
                                                  struct rk_reply *reply);

/* --- locks_query.c, locks_record.c */

RK_MUST_CHECK enum rk_status rk_locks_query_check(struct rk_machine *machine,
                                                  const struct rk_request *request,
                                                  uint64_t now, struct rk_arena *arena,
                                                  struct rk_reply *reply);
RK_MUST_CHECK enum rk_status rk_locks_query_info(struct rk_machine *machine,
                                                 const struct rk_request *request,
                                                 uint64_t now, struct rk_arena *arena,
                                                 struct rk_reply *reply);
RK_MUST_CHECK enum rk_status rk_locks_query_list(struct rk_machine *machine,
                                                 const struct rk_request *request,
                                                 uint64_t now, struct rk_arena *arena,
                                                 struct rk_reply *reply);
#endif
