#include "redis/lru.h"

#include "base/alloc.h"
#include "base/hash.h"

struct counters {
    struct rk_map_node node;
    struct rk_lru_stats stats;
    uint8_t name[];
};

struct entry {
    struct rk_map_node node;
    struct rk_list link; /* in order */
    struct counters *counters;
    struct rk_lru_copy copy;
    uint64_t bytes;
    uint8_t *value; /* owned */
    uint8_t name[];
};

/* A cache and a key in one: names hold no NUL. */
enum { NAME_MAX_SIZE = 2 * 512 + 1 };

static struct rk_slice join(uint8_t out[NAME_MAX_SIZE], struct rk_slice cache,
                            struct rk_slice key)
{
    if (cache.size + key.size + 1 > NAME_MAX_SIZE) return RK_SLICE_EMPTY;
    if (cache.size != 0) memcpy(out, cache.data, cache.size);
    out[cache.size] = '\0';
    if (key.size != 0) memcpy(out + cache.size + 1, key.data, key.size);
    return rk_slice_of(out, cache.size + 1 + key.size);
}

static uint32_t place_of(struct rk_slice name)
{
    return (uint32_t)(rk_hash(name) % RK_LRU_MARKS);
}

enum rk_status rk_lru_init(struct rk_lru *lru, uint64_t bytes_max)
{
    memset(lru, 0, sizeof(*lru));
    rk_map_init(&lru->copies);
    rk_map_init(&lru->caches);
    rk_list_init(&lru->order);
    lru->stats.bytes_max = bytes_max;
    lru->marks = rk_calloc(RK_LRU_MARKS, sizeof(*lru->marks));
    return lru->marks != NULL ? RK_OK : RK_ENOMEM;
}

static struct counters *counters_find(const struct rk_lru *lru, struct rk_slice cache)
{
    struct rk_map_node *node = rk_map_find(&lru->caches, cache);
    return node != NULL ? RK_CONTAINER(node, struct counters, node) : NULL;
}

/* NULL without memory, or when there are too many. */
static struct counters *counters_ensure(struct rk_lru *lru, struct rk_slice cache)
{
    struct counters *counters = counters_find(lru, cache);
    if (counters != NULL || lru->caches.count >= RK_LRU_CACHES_MAX) return counters;
    counters = rk_calloc(1, sizeof(*counters) + cache.size);
    if (counters == NULL) return NULL;
    if (cache.size != 0) memcpy(counters->name, cache.data, cache.size);
    counters->node.key = rk_slice_of(counters->name, cache.size);
    counters->stats.bytes_max = lru->stats.bytes_max;
    if (rk_map_insert(&lru->caches, &counters->node) == RK_OK) return counters;
    rk_free(counters);
    return NULL;
}

static void drop(struct rk_lru *lru, struct entry *entry)
{
    rk_map_remove(&lru->copies, &entry->node);
    rk_list_remove(&entry->link);
    lru->stats.bytes -= entry->bytes;
    lru->stats.entries--;
    entry->counters->stats.bytes -= entry->bytes;
    entry->counters->stats.entries--;
    rk_free(entry->value);
    rk_free(entry);
}

static void drop_all(struct rk_lru *lru)
{
    rk_list_each_safe (link, &lru->order)
        drop(lru, RK_CONTAINER(link, struct entry, link));
}

void rk_lru_fini(struct rk_lru *lru)
{
    if (lru->marks == NULL) return;
    drop_all(lru);
    rk_map_fini(&lru->copies);
    struct rk_map_cursor cursor;
    rk_map_each (node, &lru->caches, &cursor)
        rk_free(RK_CONTAINER(node, struct counters, node));
    rk_map_fini(&lru->caches);
    rk_free(lru->marks);
    lru->marks = NULL;
}

static struct entry *find(const struct rk_lru *lru, struct rk_slice name)
{
    struct rk_map_node *node = rk_map_find(&lru->copies, name);
    return node != NULL ? RK_CONTAINER(node, struct entry, node) : NULL;
}

const struct rk_lru_copy *rk_lru_find(struct rk_lru *lru, struct rk_slice cache,
                                      struct rk_slice key, uint64_t after_us,
                                      uint64_t now_ms)
{
    uint8_t text[NAME_MAX_SIZE];
    struct entry *entry = find(lru, join(text, cache, key));
    struct counters *counters = counters_ensure(lru, cache);
    if (entry != NULL && now_ms >= entry->copy.expires_ms) {
        lru->stats.expired++;
        entry->counters->stats.expired++;
        drop(lru, entry);
        entry = NULL;
    }
    if (entry == NULL || entry->copy.read_us <= after_us) {
        lru->stats.misses++;
        if (counters != NULL) counters->stats.misses++;
        return NULL;
    }
    lru->stats.hits++;
    entry->counters->stats.hits++;
    rk_list_remove(&entry->link);
    rk_list_push_back(&lru->order, &entry->link);
    return &entry->copy;
}

struct rk_lru_ticket rk_lru_ticket(const struct rk_lru *lru, struct rk_slice cache,
                                   struct rk_slice key)
{
    uint8_t text[NAME_MAX_SIZE];
    uint32_t place = place_of(join(text, cache, key));
    return (struct rk_lru_ticket){lru->epoch, place, lru->marks[place]};
}

static struct entry *entry_new(struct rk_slice name, const struct rk_lru_copy *copy)
{
    struct entry *entry = rk_calloc(1, sizeof(*entry) + name.size);
    if (entry == NULL) return NULL;
    entry->value = rk_memdup(copy->value.data, copy->value.size);
    if (entry->value == NULL) {
        rk_free(entry);
        return NULL;
    }
    memcpy(entry->name, name.data, name.size);
    entry->node.key = rk_slice_of(entry->name, name.size);
    entry->copy = *copy;
    entry->copy.value = rk_slice_of(entry->value, copy->value.size);
    return entry;
}

void rk_lru_keep(struct rk_lru *lru, struct rk_lru_ticket ticket, struct rk_slice cache,
                 struct rk_slice key, const struct rk_lru_copy *copy)
{
    uint8_t text[NAME_MAX_SIZE];
    struct rk_slice name = join(text, cache, key);
    uint64_t bytes = RK_LRU_ENTRY_BYTES + name.size + copy->value.size;
    if (ticket.epoch != lru->epoch || lru->marks[ticket.place] != ticket.mark) return;
    if (name.size == 0 || bytes > lru->stats.bytes_max / RK_LRU_ITEM_DIVISOR) return;
    struct entry *old = find(lru, name);
    if (old != NULL && old->copy.read_us >= copy->read_us) return;
    if (old != NULL) drop(lru, old);

    struct counters *counters = counters_ensure(lru, cache);
    struct entry *entry = counters != NULL ? entry_new(name, copy) : NULL;
    if (entry == NULL) return;
    if (rk_map_insert(&lru->copies, &entry->node) != RK_OK) {
        rk_free(entry->value);
        rk_free(entry);
        return;
    }
    entry->bytes = bytes;
    entry->counters = counters;
    rk_list_push_back(&lru->order, &entry->link);
    lru->stats.bytes += bytes;
    lru->stats.entries++;
    counters->stats.bytes += bytes;
    counters->stats.entries++;
    while (lru->stats.bytes > lru->stats.bytes_max) {
        struct entry *oldest = RK_CONTAINER(lru->order.next, struct entry, link);
        lru->stats.evicted++;
        oldest->counters->stats.evicted++;
        drop(lru, oldest);
    }
}

void rk_lru_invalidate(struct rk_lru *lru, struct rk_slice cache, struct rk_slice key,
                       uint64_t version)
{
    uint8_t text[NAME_MAX_SIZE];
    struct rk_slice name = join(text, cache, key);
    lru->marks[place_of(name)]++;
    struct entry *entry = find(lru, name);
    if (entry == NULL || entry->copy.version > version) return;
    lru->stats.invalidated++;
    entry->counters->stats.invalidated++;
    drop(lru, entry);
}

void rk_lru_cache_stats(const struct rk_lru *lru, struct rk_slice cache,
                        struct rk_lru_stats *out)
{
    const struct counters *counters = counters_find(lru, cache);
    memset(out, 0, sizeof(*out));
    out->bytes_max = lru->stats.bytes_max;
    if (counters != NULL) *out = counters->stats;
}

void rk_lru_empty(struct rk_lru *lru)
{
    lru->epoch++;
    if (lru->stats.entries != 0) lru->stats.emptied++;
    drop_all(lru);
}
