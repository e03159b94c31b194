#include "base/alloc.h"
#include "base/mutant.h"
#include "state/caches.h"

static void floors_encode(struct rk_buf *out, const struct rk_cache *cache)
{
    rk_buf_u8(out, cache->floors != NULL);
    for (int i = 0; cache->floors != NULL && i < RK_CACHE_FLOORS; i++)
        rk_buf_varint(out, cache->floors[i]);
}

static enum rk_status floors_decode(struct rk_reader *body, struct rk_cache *cache)
{
    uint8_t is_there = rk_read_u8(body);
    if (is_there > 1) return RK_EPROTO;
    if (is_there == 0) return RK_OK;
    cache->floors = rk_calloc(RK_CACHE_FLOORS, sizeof(*cache->floors));
    if (cache->floors == NULL) return RK_ENOMEM;
    for (int i = 0; i < RK_CACHE_FLOORS; i++)
        cache->floors[i] = rk_read_varint(body);
    return RK_OK;
}

static void ghosts_encode(struct rk_buf *out, const struct rk_cache *cache)
{
    uint32_t count = 0;
    for (int i = 0; cache->ghosts != NULL && i < RK_CACHE_GHOSTS; i++)
        count += cache->ghosts[i].at != 0;
    rk_buf_varint(out, count);
    for (uint32_t i = 0; count != 0 && i < RK_CACHE_GHOSTS; i++) {
        if (cache->ghosts[i].at == 0) continue;
        rk_buf_varint(out, i);
        rk_buf_u32(out, cache->ghosts[i].fingerprint);
        rk_buf_u32(out, cache->ghosts[i].at);
    }
}

static enum rk_status ghosts_decode(struct rk_reader *body, struct rk_cache *cache)
{
    uint64_t count = rk_read_varint(body);
    if (count > RK_CACHE_GHOSTS) return RK_EPROTO;
    if (count == 0) return RK_OK;
    cache->ghosts = rk_calloc(RK_CACHE_GHOSTS, sizeof(*cache->ghosts));
    if (cache->ghosts == NULL) return RK_ENOMEM;
    for (; count > 0; count--) {
        uint64_t place = rk_read_varint(body);
        struct rk_ghost ghost;
        ghost.fingerprint = rk_read_u32(body);
        ghost.at = rk_read_u32(body);
        if (place >= RK_CACHE_GHOSTS || ghost.at == 0) return RK_EPROTO;
        cache->ghosts[place] = ghost;
    }
    return RK_OK;
}

void rk_cache_encode(const struct rk_machine *machine, const struct rk_object *object,
                     struct rk_buf *out)
{
    (void)machine;
    const struct rk_cache *cache = (const void *)object;
    rk_buf_blob(out, rk_cache_name(cache));
    rk_buf_varint(out, cache->bytes_max);
    rk_buf_varint(out, cache->ttl_ms);
    rk_buf_u8(out, cache->policy);
    rk_buf_varint(out, cache->order);
    rk_buf_varint(out, cache->evicted);
    rk_buf_varint(out, cache->expired);
    rk_buf_u32(out, cache->evictions);
    rk_buf_varint(out, cache->floor_all);
    floors_encode(out, cache);
    ghosts_encode(out, cache);
}

enum rk_status rk_cache_restore(struct rk_machine *machine, struct rk_reader *body,
                                uint64_t id, struct rk_object **out)
{
    struct rk_slice name = rk_read_blob(body);
    if (name.size == 0 || name.size > RK_NAME_MAX) return RK_EPROTO;
    struct rk_cache *cache;
    enum rk_status status = rk_cache_enter(machine, name, id, &cache);
    if (status != RK_OK) return status;
    *out = &cache->object;
    cache->bytes_max = rk_read_varint(body);
    cache->ttl_ms = rk_read_varint(body);
    cache->policy = rk_read_u8(body);
    cache->order = rk_read_varint(body);
    cache->evicted = rk_read_varint(body);
    cache->expired = rk_read_varint(body);
    cache->evictions = rk_read_u32(body);
    cache->floor_all = rk_read_varint(body);
    status = floors_decode(body, cache);
    if (status == RK_OK) status = ghosts_decode(body, cache);
    if (status == RK_OK) status = rk_reader_check(body, true);
    if (status != RK_OK) return status;
    if (cache->policy > RK_CACHE_LRU || cache->bytes_max < RK_CACHE_BYTES_MIN)
        return RK_EPROTO;
    rk_cache_count(machine, cache);
    return RK_OK;
}

void rk_cache_free(struct rk_machine *machine, struct rk_object *object)
{
    (void)machine;
    struct rk_cache *cache = RK_CONTAINER(object, struct rk_cache, object);
    rk_map_fini(&cache->entries);
    rk_free(cache->floors);
    rk_free(cache->ghosts);
    rk_free(cache);
}

void rk_entry_encode(const struct rk_machine *machine, const struct rk_object *object,
                     struct rk_buf *out)
{
    (void)machine;
    const struct rk_entry *entry = (const void *)object;
    rk_buf_varint(out, entry->cache_id);
    rk_buf_varint(out, entry->order);
    rk_buf_varint(out, entry->version);
    rk_buf_varint(out, entry->expires_at);
    rk_buf_varint(out, entry->soft_at);
    rk_buf_u8(out, entry->encoding);
    rk_buf_u8(out, entry->queue);
    rk_buf_u8(out, entry->frequency);
    rk_buf_blob(out, rk_entry_key(entry));
    rk_buf_blob(out, rk_slice_of(entry->value, entry->value_size));
}

enum rk_status rk_entry_restore(struct rk_machine *machine, struct rk_reader *body,
                                uint64_t id, struct rk_object **out)
{
    uint64_t numbers[5];
    for (int i = 0; i < 5; i++)
        numbers[i] = rk_read_varint(body);
    uint8_t encoding = rk_read_u8(body);
    uint8_t queue = rk_read_u8(body);
    uint8_t frequency = rk_read_u8(body);
    struct rk_slice key = rk_read_blob(body);
    struct rk_slice value = rk_read_blob(body);
    enum rk_status status = rk_reader_check(body, true);
    if (status != RK_OK) return status;
    if (key.size > RK_NAME_MAX || encoding > RK_ENCODING_RAW || queue > RK_CACHE_MAIN ||
        frequency > RK_CACHE_FREQUENCY_MAX || numbers[1] == 0)
        return RK_EPROTO;
    struct rk_entry *entry;
    status = rk_entry_enter(machine, key, value, id, &entry);
    if (status != RK_OK) return status;
    entry->cache_id = numbers[0];
    entry->order = numbers[1];
    entry->version = numbers[2];
    entry->expires_at = numbers[3];
    entry->soft_at = numbers[4];
    entry->encoding = encoding;
    entry->queue = queue;
    entry->frequency = RK_MUTANT(recency_not_restored) ? 0 : frequency;
    *out = &entry->object;
    return RK_OK;
}

void rk_entry_free(struct rk_machine *machine, struct rk_object *object)
{
    (void)machine;
    struct rk_entry *entry = RK_CONTAINER(object, struct rk_entry, object);
    rk_free(entry->value);
    rk_free(entry);
}
