/* caches.h - inside core/state: caches (namespaces), their entries, and what they evict.
 *
 * A version is the group index of the write: it never goes back, also not over a delete.
 * What a fill token must not overwrite after the entry is gone is kept as floors: the
 * highest version that was removed, for each of a fixed number of key hashes. Eviction is
 * part of apply and uses replicated counters only: S3-FIFO (Yang et al., SOSP 2023) or LRU.
 */
#ifndef RK_STATE_CACHES_H
#define RK_STATE_CACHES_H

#include "state/fences.h"
#include "state/object.h"

enum {
    RK_CACHES_MAX = 4096,          /* a group */
    RK_CACHE_BYTES_MAX = 64 << 20, /* a group's share of a cache that nobody configured */
    RK_CACHE_BYTES_MIN = 64 << 10, /* smallest share: configured below it, this counts */
    RK_CACHE_ITEM_DIVISOR = 8,     /* of its share is the largest entry */
    RK_CACHE_SMALL_DIVISOR = 10,   /* of its share is the target of the small queue */
    RK_CACHE_FREQUENCY_MAX = 3,
    RK_CACHE_GHOSTS = 8192, /* evicted keys that are remembered */
    RK_CACHE_FLOORS = 1024,
    RK_CACHE_SAMPLES_MAX = 512,  /* keys in one batch of recency */
    RK_CACHE_SAMPLE_DIVISOR = 4, /* recency is collected above this part of the share */

    /* Logical bytes beside names and values, near what the allocator gives: version 1. */
    RK_CACHE_BYTES = 1024,
    RK_ENTRY_BYTES = 320,
};

enum rk_cache_policy { RK_CACHE_S3FIFO = 0, RK_CACHE_LRU = 1 }; /* stand in records */
enum rk_cache_queue { RK_CACHE_SMALL = 0, RK_CACHE_MAIN = 1 };  /* likewise */

/* A remembered eviction: when its place is taken over or long ago, it does not count. */
struct rk_ghost {
    uint32_t fingerprint;
    uint32_t at; /* the eviction's number; 0: empty */
};

struct rk_cache {
    struct rk_object object; /* first */
    struct rk_map_node node;
    uint64_t bytes_max; /* of this group */
    uint64_t ttl_ms;    /* of entries put without one; 0: none */
    uint8_t policy;     /* enum rk_cache_policy */
    uint64_t order;     /* the last one given to an entry */
    uint64_t evicted, expired;
    uint32_t evictions;      /* counts what entered the ghosts */
    uint64_t floor_all;      /* no token from before it is valid */
    struct rk_ghost *ghosts; /* RK_CACHE_GHOSTS, or NULL */
    uint64_t *floors;        /* RK_CACHE_FLOORS, or NULL */

    /* Derived. */
    struct rk_map entries;
    struct rk_list queues[2]; /* by enum rk_cache_queue; oldest first */
    uint64_t queue_bytes[2];

    /* Of this node only: never in records. */
    uint64_t hits, misses;
    struct rk_list samples; /* entries that were read since the last batch */
    uint32_t sample_count;
    struct rk_list sampled_link; /* in rk_caches.sampled while there are samples */

    size_t name_size;
    uint8_t name[];
};

struct rk_entry {
    struct rk_object object; /* first */
    struct rk_map_node node;
    struct rk_cache *cache;
    struct rk_list queue_link;
    struct rk_list sample_link;
    uint64_t cache_id;
    uint64_t order; /* place in its queue */
    uint64_t version;
    uint64_t expires_at; /* group time; 0: never */
    uint64_t soft_at;    /* stale from then on; 0: never */
    uint8_t *value;      /* owned */
    uint32_t value_size;
    uint8_t encoding;
    uint8_t queue;     /* enum rk_cache_queue */
    uint8_t frequency; /* touches since it entered or was looked at for eviction */
    uint32_t key_size;
    uint8_t key[];
};

struct rk_caches {
    struct rk_map by_name;
    struct rk_list sampled; /* caches with samples, longest waiting first */
};

/* --- caches.c */

/* The name that counts: "default" for none. */
struct rk_slice rk_cache_name_of(const struct rk_request *request);
struct rk_cache *rk_cache_find(const struct rk_machine *machine, struct rk_slice name);
struct rk_entry *rk_entry_find(const struct rk_cache *cache, struct rk_slice key);
static inline struct rk_slice rk_cache_name(const struct rk_cache *cache)
{
    return rk_slice_of(cache->name, cache->name_size);
}
static inline struct rk_slice rk_entry_key(const struct rk_entry *entry)
{
    return rk_slice_of(entry->key, entry->key_size);
}
static inline bool rk_entry_is_expired(const struct rk_entry *entry, uint64_t now)
{
    return entry->expires_at != 0 && now >= entry->expires_at;
}
/* Enters a cache with default settings. RK_ENOMEM. */
RK_MUST_CHECK enum rk_status rk_cache_enter(struct rk_machine *machine,
                                            struct rk_slice name, uint64_t id,
                                            struct rk_cache **out);
/* Makes an entry without cache, order or queue; copies key and value. RK_ENOMEM. */
RK_MUST_CHECK enum rk_status rk_entry_enter(struct rk_machine *machine, struct rk_slice key,
                                            struct rk_slice value, uint64_t id,
                                            struct rk_entry **out);
uint32_t rk_entry_cost(size_t key_size, size_t value_size);
/* Takes it out of its cache, leaves and frees it; its version becomes a floor. Near caches
 * are told to drop what is not above `version`; 0: they are told otherwise. The cache is
 * touched already. RK_ENOMEM. */
RK_MUST_CHECK enum rk_status rk_entry_remove(struct rk_machine *machine,
                                             struct rk_apply *apply, struct rk_entry *entry,
                                             uint64_t version);
/* Logical bytes of the cache itself, as it is now. */
void rk_cache_count(struct rk_machine *machine, struct rk_cache *cache);
/* The lowest index of a fill token that may still put the key. */
uint64_t rk_cache_floor(const struct rk_cache *cache, struct rk_slice key);
/* No token from below index may put the key any more. RK_ENOMEM. */
RK_MUST_CHECK enum rk_status rk_cache_raise_floor(struct rk_machine *machine,
                                                  struct rk_cache *cache,
                                                  struct rk_slice key, uint64_t index);
/* Tells near caches to drop what they have up to version; an empty key means all. */
void rk_cache_tell(struct rk_apply *apply, const struct rk_cache *cache,
                   struct rk_slice key, uint64_t version);
uint32_t rk_cache_key_hash(struct rk_slice cache, struct rk_slice key);

/* --- caches_write.c */

enum rk_status rk_cache_put(struct rk_machine *machine, struct rk_apply *apply);
enum rk_status rk_cache_add(struct rk_machine *machine, struct rk_apply *apply);
enum rk_status rk_cache_delete(struct rk_machine *machine, struct rk_apply *apply);
enum rk_status rk_cache_touch(struct rk_machine *machine, struct rk_apply *apply);
enum rk_status rk_cache_invalidate(struct rk_machine *machine, struct rk_apply *apply);
enum rk_status rk_cache_configure(struct rk_machine *machine, struct rk_apply *apply);
/* Its hard ttl ran out. */
enum rk_status rk_entry_due(struct rk_machine *machine, struct rk_apply *apply,
                            struct rk_object *object);

/* --- caches_evict.c */

/* Puts an entry, whose bytes are counted, at the end of the queue where it belongs. */
void rk_cache_admit(struct rk_cache *cache, struct rk_entry *entry);
/* It was read or written. RK_ENOMEM. */
RK_MUST_CHECK enum rk_status rk_cache_note_use(struct rk_machine *machine,
                                               struct rk_entry *entry);
/* Evicts until the cache is within its bound; `keep` (may be NULL) stays. RK_ENOMEM. */
RK_MUST_CHECK enum rk_status rk_cache_shrink(struct rk_machine *machine,
                                             struct rk_apply *apply, struct rk_cache *cache,
                                             const struct rk_entry *keep);
enum rk_status rk_cache_touch_batch(struct rk_machine *machine, struct rk_apply *apply);

/* --- caches_record.c */

void rk_cache_encode(const struct rk_machine *machine, const struct rk_object *object,
                     struct rk_buf *out);
enum rk_status rk_cache_restore(struct rk_machine *machine, struct rk_reader *body,
                                uint64_t id, struct rk_object **out);
void rk_cache_free(struct rk_machine *machine, struct rk_object *object);
void rk_entry_encode(const struct rk_machine *machine, const struct rk_object *object,
                     struct rk_buf *out);
enum rk_status rk_entry_restore(struct rk_machine *machine, struct rk_reader *body,
                                uint64_t id, struct rk_object **out);
void rk_entry_free(struct rk_machine *machine, struct rk_object *object);

/* --- caches_read.c */

enum rk_status rk_cache_get(struct rk_machine *machine, const struct rk_request *request,
                            uint64_t now, struct rk_arena *arena, struct rk_reply *reply);
enum rk_status rk_cache_stats_read(struct rk_machine *machine,
                                   const struct rk_request *request, uint64_t now,
                                   struct rk_arena *arena, struct rk_reply *reply);
#endif
