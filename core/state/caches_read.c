#include "base/alloc.h"
#include "state/caches.h"
#include "api/delivery_id.h"

/* Notes a read for the next batch of recency, where that may change what is evicted: in a
 * cache that fills up, for an entry whose counter can still rise. */
static void sample(struct rk_machine *machine, struct rk_cache *cache,
                   struct rk_entry *entry)
{
    uint64_t bytes = cache->queue_bytes[RK_CACHE_SMALL] + cache->queue_bytes[RK_CACHE_MAIN];
    if (bytes < cache->bytes_max / RK_CACHE_SAMPLE_DIVISOR) return;
    if (cache->policy == RK_CACHE_S3FIFO && entry->frequency == RK_CACHE_FREQUENCY_MAX)
        return;
    if (rk_list_is_linked(&entry->sample_link)) return;
    if (cache->sample_count == RK_CACHE_SAMPLES_MAX) return;
    if (cache->sample_count == 0)
        rk_list_push_back(&machine->caches->sampled, &cache->sampled_link);
    rk_list_push_back(&cache->samples, &entry->sample_link);
    cache->sample_count++;
}

static struct rk_entry *read_one(struct rk_machine *machine, struct rk_cache *cache,
                                 struct rk_slice key, uint64_t now,
                                 struct rk_entry_out *out)
{
    *out = (struct rk_entry_out){.key = key};
    struct rk_entry *entry = cache != NULL ? rk_entry_find(cache, key) : NULL;
    if (entry == NULL || rk_entry_is_expired(entry, now)) {
        if (cache != NULL) cache->misses++;
        return NULL;
    }
    cache->hits++;
    sample(machine, cache, entry);
    out->found = true;
    out->stale = entry->soft_at != 0 && now >= entry->soft_at;
    out->value =
        (struct rk_value){rk_slice_of(entry->value, entry->value_size), entry->encoding};
    out->version = entry->version;
    return entry;
}

/* The token says what the group had applied when it was given: whatever happens to the key
 * after that makes it void. Who gets it and who waits is the leader's to decide. */
static enum rk_status give_token(const struct rk_machine *machine,
                                 const struct rk_request *request, struct rk_slice key,
                                 struct rk_arena *arena, struct rk_reply *reply)
{
    struct rk_fill_token token = {
        .key_hash = rk_cache_key_hash(rk_cache_name_of(request), key),
        .history = machine->history,
        .index = machine->index,
    };
    char text[RK_DELIVERY_ID_SIZE];
    size_t size = rk_fill_token_print(text, &token);
    reply->fill_token = rk_arena_copy(arena, rk_slice_of(text, size));
    return reply->fill_token.size != 0 ? RK_OK : RK_ENOMEM;
}

enum rk_status rk_cache_get(struct rk_machine *machine, const struct rk_request *request,
                            uint64_t now, struct rk_arena *arena, struct rk_reply *reply)
{
    struct rk_cache *cache = rk_cache_find(machine, rk_cache_name_of(request));
    uint32_t count = request->keys.count;
    const struct rk_slice *keys = request->keys.items;
    if (count == 0) { /* the single form, made without decoding */
        keys = &request->key;
        count = 1;
    }
    reply->is_bulk = request->is_bulk;
    reply->entries = rk_arena_calloc(arena, count, sizeof(*reply->entries));
    if (reply->entries == NULL) return RK_ENOMEM;
    reply->entry_count = count;
    for (uint32_t i = 0; i < count; i++)
        (void)read_one(machine, cache, keys[i], now, &reply->entries[i]);
    const struct rk_entry_out *first = &reply->entries[0];
    if (request->is_bulk) return RK_OK;
    reply->found = first->found;
    reply->stale = first->stale;
    reply->value = first->value;
    reply->version = first->version;
    bool is_filling = request->fill_ms != 0 && (!first->found || first->stale);
    return is_filling ? give_token(machine, request, keys[0], arena, reply) : RK_OK;
}

static void stats_add(struct rk_cache_stats *sum, const struct rk_cache *cache)
{
    sum->entries += cache->entries.count;
    sum->bytes += cache->queue_bytes[RK_CACHE_SMALL] + cache->queue_bytes[RK_CACHE_MAIN];
    sum->bytes_max += cache->bytes_max;
    sum->hits += cache->hits;
    sum->misses += cache->misses;
    sum->evicted += cache->evicted;
    sum->expired += cache->expired;
}

enum rk_status rk_cache_stats_read(struct rk_machine *machine,
                                   const struct rk_request *request, uint64_t now,
                                   struct rk_arena *arena, struct rk_reply *reply)
{
    (void)now;
    struct rk_cache_stats *stats = rk_arena_calloc(arena, 1, sizeof(*stats));
    if (stats == NULL) return RK_ENOMEM;
    reply->cache_stats = stats;
    if (request->cache.size != 0) {
        const struct rk_cache *cache = rk_cache_find(machine, request->cache);
        if (cache != NULL) stats_add(stats, cache);
        return RK_OK;
    }
    struct rk_map_cursor cursor;
    rk_map_each (node, &machine->caches->by_name, &cursor)
        stats_add(stats, RK_CONTAINER(node, struct rk_cache, node));
    return RK_OK;
}
