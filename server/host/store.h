/* store.h - sessions and locks kept in a store outside the cluster, such as Redis.
 *
 * The leader of group 0 decides, with the state machine that the embedded engine has; only
 * where its records are kept differs. Whoever runs the host brings the store: two effects
 * in struct rk_host_io, answered by the functions below, each at any later time, never
 * within the effect. Answers to others than the last effect are fine and ignored. */
#ifndef RK_HOST_STORE_H
#define RK_HOST_STORE_H

#include "state/machine.h"

struct rk_host;

enum { RK_HOST_STORE_SHOWN = 100 /* holders, and waiters, in the view of a lock */ };

/* Claims the store for a term, then reads all of it: from the claim on nobody with a lower
 * term may write. For each record rk_host_store_record, then rk_host_store_loaded.
 *
 * A claim may be done more than once, and late, and its leader may die: that the store lost
 * something is told to every claim until a batch is written, never to the first one only.
 */
struct rk_host_store_claim {
    uint64_t number;
    uint64_t term;
    uint64_t history; /* of the cluster; a claim of another one is above any term */
    uint64_t marked;  /* the last term that may have written batches; 0: none has */
};

struct rk_host_store_change {
    uint8_t kind;
    uint64_t id;
    struct rk_slice record;          /* empty: it goes */
    const struct rk_lock_view *view; /* of a lock that stays, for people; NULL: no lock */
};

/* All of it or nothing, and only if the store is where `after` says: at that seq, by that
 * batch. The same batch again (seq and id are the store's) is done already. An empty one
 * (seq and id are those of after) compares and changes nothing. Lent until the answer. */
struct rk_host_store_batch {
    uint64_t number;
    uint64_t term; /* the store knows no higher one, or refuses */
    uint64_t history;
    uint64_t after_seq, after_id;
    uint64_t seq, id;
    uint64_t index; /* given back by the next load */
    bool is_whole;  /* these records instead of all that is there, wherever it is */
    const struct rk_host_store_change *changes;
    uint32_t change_count;
};

/* What the claim found: one state, from the claim to the last record. */
struct rk_host_store_found {
    uint64_t seq, id, index;
    /* How it shows that the store lacks what the leader of `marked` claimed or wrote: it is
     * empty, knows lower terms only, was written by another history. Lent; NULL: it does
     * not show. */
    const char *loss;
    /* Which store this is, at most 128 bytes: differs when it may have lost writes (another
     * process, another line of replication). Empty: it can not say. */
    struct rk_slice identity;
};

struct rk_host_store_answer {
    uint64_t number;
    /* RK_OK: done, and as durable as the store makes it.
     * RK_EFENCE: a higher term or another history has claimed it; nothing was done.
     * RK_EVERSION: the store is not where the batch follows; nothing was done.
     * Anything else: it may be done or not; the same batch comes again. */
    enum rk_status status;
    const char *text;         /* why not; lent */
    struct rk_slice identity; /* as above, if RK_OK */
    /* With RK_OK, of a batch: there is no room for more. It was written all the same, since
     * it is decided; calls that grow what is kept are refused until there is. */
    bool is_full;
};

/* A record as a batch gave it; borrowed. Twice the same one is fine. */
void rk_host_store_record(struct rk_host *host, uint64_t number, struct rk_slice record);
/* status: RK_OK; RK_EFENCE as above; anything else is said, and the claim comes again.
 * found is needed for RK_OK only. */
void rk_host_store_loaded(struct rk_host *host, const struct rk_host_store_answer *answer,
                          const struct rk_host_store_found *found);
void rk_host_stored(struct rk_host *host, const struct rk_host_store_answer *answer);

/* For those who watch. */
struct rk_host_store_status {
    bool is_keeping;    /* this node leads and serves locks from the store */
    bool is_up;         /* the last thing asked of it was done */
    bool is_full;       /* it has no room: calls that need some are refused */
    bool is_holding;    /* grants are held back: the store may have lost some */
    uint64_t hold_ms;   /* for so long yet */
    uint64_t seq;       /* of the last batch stored here */
    uint64_t objects;   /* records, of locks, sessions and those who ask */
    const char *reason; /* why locks are not served; "" if they are */
};
/* False: the host was opened without a store. */
bool rk_host_store_status(const struct rk_host *host, struct rk_host_store_status *out);
/* The machine of sessions and locks; NULL unless is_keeping. */
const struct rk_machine *rk_host_store_machine(const struct rk_host *host);
#endif
