/* caches.h - cache.* of the redis engine: entries in Redis, copies at the node.
 *
 * Each call is one atomic script a key; any node serves it. A read with a position of this
 * history may be answered from the node's copies if its copy was read later than the
 * position, a local read from any copy; all others ask Redis. Invalidations come over
 * pub/sub; when the node does not hear its own ticks there, it has no copies. Loop thread
 * only. */
#ifndef RK_REDIS_CACHES_H
#define RK_REDIS_CACHES_H

#include "api/api.h"
#include "redis/lru.h"
#include "redis/redis.h"

enum {
    RK_CACHES_TICK_MS = 500,
    RK_CACHES_SILENT_MS = 1500, /* without a tick: the copies go */
    RK_CACHES_CALLS_MAX = 131072,
    RK_CACHES_KEEP_MS = 660000,  /* answers are kept so long for repeats */
    RK_CACHES_SETTINGS_MS = 5000 /* between two looks at the caches' settings */
};

struct rk_redis_caches;

struct rk_redis_caches_io {
    void *context;
    /* The answer to a call, once; the reply is lent. Perhaps within rk_redis_caches_call.
     */
    void (*reply)(void *context, uint64_t number, const struct rk_reply *reply);
    /* The group of a key, for positions. */
    uint32_t (*group)(void *context, struct rk_slice key);
    void (*log)(void *context, enum rk_redis_level level, const char *text);
};

struct rk_redis_caches_options {
    uint32_t struct_size;
    struct event_base *base;
    struct rk_redis *redis;
    const char *prefix; /* before every key and channel; copied */
    const char *node;   /* this node's name; copied */
    uint64_t lru_bytes; /* of copies; 0: none are kept */
    uint32_t wait;      /* replicas that a write waits for */
    struct rk_redis_caches_io io;
};

struct rk_redis_caches_stats {
    struct rk_lru_stats lru;
    uint64_t silences; /* times that the copies went because nothing was heard */
    uint32_t calls;    /* under way */
    uint32_t filling;  /* of them, waiting for another caller's value */
    bool is_live;      /* invalidations are heard */
};

RK_MUST_CHECK enum rk_status
rk_redis_caches_new(struct rk_redis_caches **out,
                    const struct rk_redis_caches_options *options);
/* Open calls are forgotten. Before rk_redis_free. NULL is fine. */
void rk_redis_caches_free(struct rk_redis_caches *caches);
/* The history that positions carry, once it is known whose data Redis holds: calls wait
 * for it. Another one: the copies go. 0: not known any more. */
void rk_redis_caches_history(struct rk_redis_caches *caches, uint64_t history);
/* Redis holds what is not this cluster's: answers those who wait for the history. */
void rk_redis_caches_refuse(struct rk_redis_caches *caches, const char *why);
/* A cache.* request, decoded and checked; borrowed. deadline_ms from now. */
void rk_redis_caches_call(struct rk_redis_caches *caches, uint64_t number,
                          const struct rk_request *request, uint32_t deadline_ms);
/* The client went away; an unknown number is fine. */
void rk_redis_caches_drop(struct rk_redis_caches *caches, uint64_t number);
/* Redis is another one than before, or was away: the copies go, settings are read again. */
void rk_redis_caches_reset(struct rk_redis_caches *caches);
void rk_redis_caches_stats(const struct rk_redis_caches *caches,
                           struct rk_redis_caches_stats *out);
#endif
