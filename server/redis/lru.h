/* lru.h - a node's copies of cache entries: bounded in bytes, the least recently used go.
 *
 * A copy is never older than what was read from Redis at `read_us` of its clock, and goes
 * when an invalidation names it. A read that is under way while its key is invalidated
 * must not be kept: it takes a ticket first, which an invalidation makes void. Loop
 * thread only. */
#ifndef RK_REDIS_LRU_H
#define RK_REDIS_LRU_H

#include "base/list.h"
#include "base/map.h"

enum {
    RK_LRU_CACHES_MAX = 4096, /* with counters of their own; later ones are not kept */
    RK_LRU_MARKS = 4096,      /* counters of invalidations, by hash of the key */
    RK_LRU_ITEM_DIVISOR = 8,  /* of the bound is the largest copy */
    RK_LRU_ENTRY_BYTES = 192  /* counted beside names and value */
};

/* What is known of a key; slices are borrowed. */
struct rk_lru_copy {
    struct rk_slice value;
    uint64_t version;    /* 0: there is no entry */
    uint64_t read_us;    /* Redis's clock when it was read */
    uint64_t expires_ms; /* this node's clock; UINT64_MAX: never */
    uint64_t soft_ms;    /* stale from then on; UINT64_MAX: never */
    uint8_t encoding;    /* enum rk_encoding; NONE: there is no entry */
};

struct rk_lru_stats {
    uint64_t entries, bytes, bytes_max;
    uint64_t hits, misses, evicted, expired, invalidated, emptied;
};

struct rk_lru {
    struct rk_map copies;
    struct rk_map caches;      /* counters by name */
    struct rk_list order;      /* least recently used first */
    uint64_t epoch;            /* raised when it is emptied */
    uint32_t *marks;           /* RK_LRU_MARKS */
    struct rk_lru_stats stats; /* of all caches */
};

struct rk_lru_ticket {
    uint64_t epoch;
    uint32_t place, mark;
};

/* bytes_max 0: keeps nothing. RK_ENOMEM. */
RK_MUST_CHECK enum rk_status rk_lru_init(struct rk_lru *lru, uint64_t bytes_max);
void rk_lru_fini(struct rk_lru *lru);

/* The copy of a key as of now_ms, or NULL; lent until the next call. `after_us`: it must
 * have been read later than that by Redis's clock. Counts a hit or a miss. */
const struct rk_lru_copy *rk_lru_find(struct rk_lru *lru, struct rk_slice cache,
                                      struct rk_slice key, uint64_t after_us,
                                      uint64_t now_ms);
/* Before a read is sent. */
struct rk_lru_ticket rk_lru_ticket(const struct rk_lru *lru, struct rk_slice cache,
                                   struct rk_slice key);
/* Keeps what the read found, unless the ticket is void, a newer copy is there, it is too
 * large or memory is short. Copies all. */
void rk_lru_keep(struct rk_lru *lru, struct rk_lru_ticket ticket, struct rk_slice cache,
                 struct rk_slice key, const struct rk_lru_copy *copy);
/* The key was changed and has this version now; copies up to it go, reads under way are
 * void. UINT64_MAX: whatever it has. */
void rk_lru_invalidate(struct rk_lru *lru, struct rk_slice cache, struct rk_slice key,
                       uint64_t version);
/* Counters of one cache; zero where it is not known. */
void rk_lru_cache_stats(const struct rk_lru *lru, struct rk_slice cache,
                        struct rk_lru_stats *out);
/* All copies go, and all tickets are void. */
void rk_lru_empty(struct rk_lru *lru);
#endif
