/* store.h - queues and caches in Redis: the calls on data that a node takes.
 *
 * A call is one atomic script for each topic or key, run from whichever node was asked; its
 * answer is that of the embedded engine. What is asked again under the same client and seq
 * gets the same answer. Redis away: calls wait for it until their deadlines. Loop thread
 * only. */
#ifndef RK_REDIS_STORE_H
#define RK_REDIS_STORE_H

#include "api/api.h"
#include "redis/redis.h"

struct rk_store;

enum {
    RK_STORE_FORMAT = 1,                 /* of the keys; stands in rukun:meta */
    RK_STORE_CALLS_MAX = 1 << 17,        /* under way at once; more are refused (busy) */
    RK_STORE_DEADLINE_MARGIN_MS = 10000, /* past wait_ms, for calls without a deadline */
    RK_STORE_KEEP_MS = 660000,           /* answers are kept so long for repeats */
};

/* In place of the cluster in rukun:meta while data are being moved there. */
#define RK_STORE_UNFINISHED "(migration not finished)"

/* Called from the loop. No function of this header may be called within, but
 * rk_store_call and rk_store_drop within reply. */
struct rk_store_io {
    void *context;
    /* The answer to a call, which rk_store_call may give before it returns; lent. Each call
     * is answered once, unless it was dropped. */
    void (*reply)(void *context, uint64_t number, const struct rk_reply *reply);
    void (*log)(void *context, enum rk_redis_level level, const char *text);
    /* The id of the cluster that the data belongs to, a text; "" while it is not known:
     * calls wait then. */
    const char *(*cluster)(void *context);
    /* Whether this node leads the group of a slot, and so looks after the topics there. */
    bool (*leads)(void *context, uint32_t slot);
};

struct rk_store_options {
    uint32_t struct_size;
    struct event_base *base; /* borrowed, as redis */
    struct rk_redis *redis;
    const char *prefix; /* of all keys and channels; borrowed */
    uint32_t wait;      /* replicas that must have a write before it is answered */
    uint64_t seed;      /* of the names under which calls without an id are remembered */
    /* For tests: what stands in place of lua/clock.lua, so that the time is theirs;
     * borrowed.
     */
    const char *clock;
    struct rk_store_io io;
};

struct rk_store_stats {
    uint64_t calls;
    uint64_t failed;
    uint64_t scripts;  /* run for calls, sweeps and looks of waiting consumers */
    uint64_t swept;    /* topics looked after */
    uint64_t returned; /* deliveries handed back whose clients had gone */
    uint32_t open;     /* calls under way, */
    uint32_t parked;   /* of those, consumers that wait */
    uint32_t topics;   /* known by name here */
};

/* Starts to look at what Redis holds. RK_ENOMEM. */
RK_MUST_CHECK enum rk_status rk_store_new(struct rk_store **out,
                                          const struct rk_store_options *options);
/* Nothing is answered any more. Before rk_redis_free. NULL is fine. */
void rk_store_free(struct rk_store *store);

/* A queue.* or cache.* call, decoded and checked; borrowed. number is unique among live
 * calls, not 0. */
void rk_store_call(struct rk_store *store, uint64_t number,
                   const struct rk_request *request);
/* The client went away: no answer. What was handed out to it goes back uncounted. */
void rk_store_drop(struct rk_store *store, uint64_t number);

/* To be called from rk_redis_io.server: a master that is another one than before, or was
 * started anew, may have lost what this node remembers of it. */
void rk_store_server(struct rk_store *store, const struct rk_redis_server *server);

/* Why calls are refused although Redis answers: it holds another cluster's data, or a newer
 * format. "" if they are not. */
const char *rk_store_refusal(const struct rk_store *store);
/* Whether Redis said that it holds this cluster's data. Not while it is asked anew. */
bool rk_store_is_known(const struct rk_store *store);
/* Calls back once, when that is known, or refused, or was not heard for long: perhaps
 * within this function. RK_ENOMEM: it does not. */
RK_MUST_CHECK enum rk_status
rk_store_when_known(struct rk_store *store, void (*known)(void *context), void *context);
/* Redis may have been emptied, and others may have come since: unless it said it a moment
 * ago, it is asked again whose data it holds, and calls wait for that. */
void rk_store_check(struct rk_store *store);
void rk_store_stats(const struct rk_store *store, struct rk_store_stats *out);
#endif
