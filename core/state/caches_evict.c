#include "base/alloc.h"
#include "base/assert.h"
#include "base/hash.h"
#include "state/caches.h"

static struct rk_entry *entry_of_link(struct rk_list *link)
{
    return RK_CONTAINER(link, struct rk_entry, queue_link);
}

/* --- ghosts: which keys were evicted not long ago */

static struct rk_ghost ghost_of(const struct rk_entry *entry, uint32_t *place)
{
    uint64_t hash = rk_hash_seeded(rk_entry_key(entry), RK_OBJECT_ENTRY);
    *place = (uint32_t)(hash % RK_CACHE_GHOSTS);
    return (struct rk_ghost){(uint32_t)(hash >> 32), 0};
}

static bool is_ghost(const struct rk_cache *cache, const struct rk_entry *entry)
{
    if (cache->ghosts == NULL) return false;
    uint32_t place;
    struct rk_ghost ghost = ghost_of(entry, &place);
    const struct rk_ghost *known = &cache->ghosts[place];
    return known->at != 0 && known->fingerprint == ghost.fingerprint &&
           cache->evictions - known->at < RK_CACHE_GHOSTS;
}

static enum rk_status ghost_note(struct rk_machine *machine, struct rk_cache *cache,
                                 const struct rk_entry *entry)
{
    if (cache->ghosts == NULL) {
        cache->ghosts = rk_calloc(RK_CACHE_GHOSTS, sizeof(*cache->ghosts));
        if (cache->ghosts == NULL) return RK_ENOMEM;
        rk_cache_count(machine, cache);
    }
    if (++cache->evictions == 0) cache->evictions = 1;
    uint32_t place;
    struct rk_ghost ghost = ghost_of(entry, &place);
    ghost.at = cache->evictions;
    cache->ghosts[place] = ghost;
    return RK_OK;
}

/* --- queues */

static void enqueue(struct rk_cache *cache, struct rk_entry *entry,
                    enum rk_cache_queue queue)
{
    entry->queue = (uint8_t)queue;
    entry->order = ++cache->order;
    rk_list_push_back(&cache->queues[queue], &entry->queue_link);
    cache->queue_bytes[queue] += entry->object.bytes;
}

static void dequeue(struct rk_cache *cache, struct rk_entry *entry)
{
    rk_list_remove(&entry->queue_link);
    cache->queue_bytes[entry->queue] -= entry->object.bytes;
}

void rk_cache_admit(struct rk_cache *cache, struct rk_entry *entry)
{
    entry->frequency = 0;
    bool is_main = cache->policy == RK_CACHE_LRU || is_ghost(cache, entry);
    enqueue(cache, entry, is_main ? RK_CACHE_MAIN : RK_CACHE_SMALL);
}

enum rk_status rk_cache_note_use(struct rk_machine *machine, struct rk_entry *entry)
{
    struct rk_cache *cache = entry->cache;
    bool is_lru = cache->policy == RK_CACHE_LRU;
    if (!is_lru && entry->frequency == RK_CACHE_FREQUENCY_MAX) return RK_OK;
    enum rk_status status = rk_object_touch(machine, &entry->object);
    if (status == RK_OK && is_lru) status = rk_object_touch(machine, &cache->object);
    if (status != RK_OK) return status;
    if (entry->frequency < RK_CACHE_FREQUENCY_MAX) entry->frequency++;
    if (is_lru) {
        dequeue(cache, entry);
        enqueue(cache, entry, (enum rk_cache_queue)entry->queue);
    }
    return RK_OK;
}

/* --- eviction */

static uint64_t bytes_of(const struct rk_cache *cache)
{
    return cache->queue_bytes[RK_CACHE_SMALL] + cache->queue_bytes[RK_CACHE_MAIN];
}

/* The oldest of a queue other than keep, or NULL. */
static struct rk_entry *oldest(const struct rk_cache *cache, enum rk_cache_queue queue,
                               const struct rk_entry *keep)
{
    struct rk_list *link = rk_list_first(&cache->queues[queue]);
    if (link == NULL) return NULL;
    if (entry_of_link(link) != keep) return entry_of_link(link);
    return link->next != &cache->queues[queue] ? entry_of_link(link->next) : NULL;
}

static enum rk_status evict(struct rk_machine *machine, struct rk_apply *apply,
                            struct rk_entry *entry)
{
    struct rk_cache *cache = entry->cache;
    if (entry->queue == RK_CACHE_SMALL && cache->policy == RK_CACHE_S3FIFO) {
        enum rk_status status = ghost_note(machine, cache, entry);
        if (status != RK_OK) return status;
    }
    cache->evicted++;
    return rk_entry_remove(machine, apply, entry, entry->version);
}

static enum rk_status requeue(struct rk_machine *machine, struct rk_entry *entry,
                              uint8_t frequency)
{
    enum rk_status status = rk_object_touch(machine, &entry->object);
    if (status != RK_OK) return status;
    entry->frequency = frequency;
    dequeue(entry->cache, entry);
    enqueue(entry->cache, entry, RK_CACHE_MAIN);
    return RK_OK;
}

/* One step: an entry goes, or moves to the end of main at the price of its uses. Each use
 * pays for one such move, so the steps are bounded by the uses. */
static enum rk_status step_s3fifo(struct rk_machine *machine, struct rk_apply *apply,
                                  struct rk_cache *cache, const struct rk_entry *keep)
{
    struct rk_entry *small = oldest(cache, RK_CACHE_SMALL, keep);
    struct rk_entry *main_entry = oldest(cache, RK_CACHE_MAIN, keep);
    bool is_over =
        cache->queue_bytes[RK_CACHE_SMALL] > cache->bytes_max / RK_CACHE_SMALL_DIVISOR;
    if (small != NULL && (is_over || main_entry == NULL)) {
        if (small->frequency > 0) return requeue(machine, small, 0);
        return evict(machine, apply, small);
    }
    if (main_entry->frequency > 0)
        return requeue(machine, main_entry, (uint8_t)(main_entry->frequency - 1));
    return evict(machine, apply, main_entry);
}

static enum rk_status step_lru(struct rk_machine *machine, struct rk_apply *apply,
                               struct rk_cache *cache, const struct rk_entry *keep)
{
    struct rk_entry *small = oldest(cache, RK_CACHE_SMALL, keep);
    struct rk_entry *main_entry = oldest(cache, RK_CACHE_MAIN, keep);
    bool is_small =
        main_entry == NULL || (small != NULL && small->order < main_entry->order);
    return evict(machine, apply, is_small ? small : main_entry);
}

enum rk_status rk_cache_shrink(struct rk_machine *machine, struct rk_apply *apply,
                               struct rk_cache *cache, const struct rk_entry *keep)
{
    while (bytes_of(cache) > cache->bytes_max) {
        if (oldest(cache, RK_CACHE_SMALL, keep) == NULL &&
            oldest(cache, RK_CACHE_MAIN, keep) == NULL)
            break;
        enum rk_status status = cache->policy == RK_CACHE_LRU
                                    ? step_lru(machine, apply, cache, keep)
                                    : step_s3fifo(machine, apply, cache, keep);
        if (status != RK_OK) return status;
    }
    return RK_OK;
}

/* --- recency */

enum rk_status rk_cache_touch_batch(struct rk_machine *machine, struct rk_apply *apply)
{
    const struct rk_request *request = apply->request;
    struct rk_cache *cache = rk_cache_find(machine, rk_cache_name_of(request));
    if (cache == NULL) return RK_OK;
    for (uint32_t i = 0; i < request->keys.count; i++) {
        struct rk_entry *entry = rk_entry_find(cache, request->keys.items[i]);
        if (entry == NULL) continue;
        enum rk_status status = rk_cache_note_use(machine, entry);
        if (status != RK_OK) return status;
    }
    return RK_OK;
}

bool rk_machine_touch_take(struct rk_machine *machine, struct rk_buf *out)
{
    struct rk_list *first = rk_list_first(&machine->caches->sampled);
    if (first == NULL) return false;
    struct rk_cache *cache = RK_CONTAINER(first, struct rk_cache, sampled_link);
    struct rk_slice keys[RK_CACHE_SAMPLES_MAX];
    uint32_t count = 0;
    rk_list_each_safe (link, &cache->samples) {
        struct rk_entry *entry = RK_CONTAINER(link, struct rk_entry, sample_link);
        keys[count++] = rk_entry_key(entry);
        rk_list_remove(link);
    }
    RK_ASSERT(count == cache->sample_count);
    cache->sample_count = 0;
    rk_list_remove(&cache->sampled_link);
    if (count == 0) return false;
    struct rk_request request = {
        .op = RK_OP_TOUCH,
        .cache = rk_cache_name(cache),
        .keys = {keys, count},
        .is_bulk = true,
    };
    RK_SET(&request, CACHE);
    RK_SET(&request, KEYS);
    rk_request_encode(out, &request);
    return true;
}
