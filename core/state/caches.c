#include "state/caches.h"

#include "base/alloc.h"
#include "base/hash.h"

#include <stdlib.h>

_Static_assert(sizeof(struct rk_entry) <= RK_ENTRY_BYTES, "logical bytes follow memory");
_Static_assert(sizeof(struct rk_cache) <= RK_CACHE_BYTES, "logical bytes follow memory");

enum rk_status rk_caches_new(struct rk_caches **out)
{
    struct rk_caches *caches = rk_calloc(1, sizeof(*caches));
    if (caches == NULL) return RK_ENOMEM;
    rk_map_init(&caches->by_name);
    rk_list_init(&caches->sampled);
    *out = caches;
    return RK_OK;
}

/* The objects are freed by the machine, before or after: neither looks at the other. */
void rk_caches_free(struct rk_machine *machine, struct rk_caches *caches)
{
    (void)machine;
    if (caches == NULL) return;
    rk_map_fini(&caches->by_name);
    rk_free(caches);
}

struct rk_slice rk_cache_name_of(const struct rk_request *request)
{
    return request->cache.size != 0 ? request->cache : RK_SLICE_LITERAL("default");
}

struct rk_cache *rk_cache_find(const struct rk_machine *machine, struct rk_slice name)
{
    struct rk_map_node *node = rk_map_find(&machine->caches->by_name, name);
    return node != NULL ? RK_CONTAINER(node, struct rk_cache, node) : NULL;
}

struct rk_entry *rk_entry_find(const struct rk_cache *cache, struct rk_slice key)
{
    struct rk_map_node *node = rk_map_find(&cache->entries, key);
    return node != NULL ? RK_CONTAINER(node, struct rk_entry, node) : NULL;
}

uint32_t rk_cache_key_hash(struct rk_slice cache, struct rk_slice key)
{
    return (uint32_t)rk_hash_seeded(key, rk_hash(cache));
}

void rk_cache_count(struct rk_machine *machine, struct rk_cache *cache)
{
    size_t bytes = RK_CACHE_BYTES + cache->name_size;
    if (cache->floors != NULL) bytes += RK_CACHE_FLOORS * 8;
    if (cache->ghosts != NULL) bytes += RK_CACHE_GHOSTS * 8;
    rk_object_count(machine, &cache->object, (uint32_t)bytes);
}

enum rk_status rk_cache_enter(struct rk_machine *machine, struct rk_slice name, uint64_t id,
                              struct rk_cache **out)
{
    struct rk_cache *cache = rk_calloc(1, sizeof(*cache) + name.size);
    if (cache == NULL) return RK_ENOMEM;
    memcpy(cache->name, name.data, name.size);
    cache->name_size = name.size;
    cache->node.key = rk_cache_name(cache);
    cache->bytes_max = RK_CACHE_BYTES_MAX;
    rk_map_init(&cache->entries);
    rk_list_init(&cache->queues[RK_CACHE_SMALL]);
    rk_list_init(&cache->queues[RK_CACHE_MAIN]);
    rk_list_init(&cache->samples);
    enum rk_status status = rk_map_insert(&machine->caches->by_name, &cache->node);
    if (status == RK_OK) {
        status = rk_object_enter(machine, &cache->object, RK_OBJECT_CACHE, id);
        if (status != RK_OK) rk_map_remove(&machine->caches->by_name, &cache->node);
    }
    if (status != RK_OK) {
        rk_free(cache);
        return status == RK_EEXIST ? RK_EPROTO : status;
    }
    rk_cache_count(machine, cache);
    *out = cache;
    return RK_OK;
}

uint32_t rk_entry_cost(size_t key_size, size_t value_size)
{
    return (uint32_t)(RK_ENTRY_BYTES + (key_size + 15) / 16 * 16 +
                      (value_size + 15) / 16 * 16);
}

enum rk_status rk_entry_enter(struct rk_machine *machine, struct rk_slice key,
                              struct rk_slice value, uint64_t id, struct rk_entry **out)
{
    struct rk_entry *entry = rk_calloc(1, sizeof(*entry) + key.size);
    if (entry == NULL) return RK_ENOMEM;
    if (key.size != 0) memcpy(entry->key, key.data, key.size);
    entry->key_size = (uint32_t)key.size;
    entry->node.key = rk_entry_key(entry);
    entry->value = rk_memdup(value.data, value.size);
    entry->value_size = (uint32_t)value.size;
    enum rk_status status = entry->value != NULL ? RK_OK : RK_ENOMEM;
    if (status == RK_OK)
        status = rk_object_enter(machine, &entry->object, RK_OBJECT_ENTRY, id);
    if (status != RK_OK) {
        rk_free(entry->value);
        rk_free(entry);
        return status;
    }
    rk_object_count(machine, &entry->object, rk_entry_cost(key.size, value.size));
    *out = entry;
    return RK_OK;
}

/* --- floors */

static uint32_t floor_place(struct rk_slice key)
{
    return (uint32_t)(rk_hash(key) % RK_CACHE_FLOORS);
}

uint64_t rk_cache_floor(const struct rk_cache *cache, struct rk_slice key)
{
    uint64_t floor = cache->floors != NULL ? cache->floors[floor_place(key)] : 0;
    return floor > cache->floor_all ? floor : cache->floor_all;
}

enum rk_status rk_cache_raise_floor(struct rk_machine *machine, struct rk_cache *cache,
                                    struct rk_slice key, uint64_t index)
{
    if (cache->floors == NULL) {
        cache->floors = rk_calloc(RK_CACHE_FLOORS, sizeof(*cache->floors));
        if (cache->floors == NULL) return RK_ENOMEM;
        rk_cache_count(machine, cache);
    }
    uint64_t *floor = &cache->floors[floor_place(key)];
    if (index > *floor) *floor = index;
    return RK_OK;
}

void rk_cache_tell(struct rk_apply *apply, const struct rk_cache *cache,
                   struct rk_slice key, uint64_t version)
{
    struct rk_event event = {
        .kind = RK_EVENT_INVALIDATE,
        .cache = rk_cache_name(cache),
        .key = key,
        .version = version,
    };
    rk_event_emit(apply, &event);
}

/* --- removal */

static void sample_forget(struct rk_cache *cache, struct rk_entry *entry)
{
    if (!rk_list_is_linked(&entry->sample_link)) return;
    rk_list_remove(&entry->sample_link);
    if (--cache->sample_count == 0) rk_list_remove(&cache->sampled_link);
}

enum rk_status rk_entry_remove(struct rk_machine *machine, struct rk_apply *apply,
                               struct rk_entry *entry, uint64_t version)
{
    struct rk_cache *cache = entry->cache;
    enum rk_status status = rk_object_touch(machine, &entry->object);
    if (status == RK_OK)
        status = rk_cache_raise_floor(machine, cache, rk_entry_key(entry), entry->version);
    if (status != RK_OK) return status;
    if (version != 0) rk_cache_tell(apply, cache, rk_entry_key(entry), version);
    sample_forget(cache, entry);
    rk_map_remove(&cache->entries, &entry->node);
    rk_list_remove(&entry->queue_link);
    cache->queue_bytes[entry->queue] -= entry->object.bytes;
    rk_object_leave(machine, &entry->object);
    rk_free(entry->value);
    rk_free(entry);
    return RK_OK;
}

/* --- after a restore */

static int by_cache_queue_order(const void *a, const void *b)
{
    const struct rk_entry *left = *(struct rk_entry *const *)a;
    const struct rk_entry *right = *(struct rk_entry *const *)b;
    if (left->cache_id != right->cache_id) return left->cache_id < right->cache_id ? -1 : 1;
    if (left->queue != right->queue) return left->queue < right->queue ? -1 : 1;
    if (left->order != right->order) return left->order < right->order ? -1 : 1;
    return 0;
}

static enum rk_status attach_restored(struct rk_machine *machine, struct rk_entry *entry)
{
    struct rk_object *object = rk_object_find(machine, RK_OBJECT_CACHE, entry->cache_id);
    if (object == NULL) return RK_EPROTO;
    struct rk_cache *cache = RK_CONTAINER(object, struct rk_cache, object);
    if (entry->order > cache->order) return RK_EPROTO;
    struct rk_list *queue = &cache->queues[entry->queue];
    if (!rk_list_is_empty(queue) &&
        RK_CONTAINER(queue->prev, struct rk_entry, queue_link)->order >= entry->order)
        return RK_EPROTO;
    enum rk_status status = rk_map_insert(&cache->entries, &entry->node);
    if (status != RK_OK) return status == RK_EEXIST ? RK_EPROTO : status;
    entry->cache = cache;
    rk_list_push_back(queue, &entry->queue_link);
    cache->queue_bytes[entry->queue] += entry->object.bytes;
    return RK_OK;
}

enum rk_status rk_caches_restored(struct rk_machine *machine)
{
    size_t count = 0;
    rk_list_each (link, &machine->objects)
        count += RK_CONTAINER(link, struct rk_object, link)->kind == RK_OBJECT_ENTRY;
    struct rk_entry **entries = rk_calloc(count + 1, sizeof(struct rk_entry *));
    if (entries == NULL) return RK_ENOMEM;
    count = 0;
    rk_list_each (link, &machine->objects) {
        struct rk_object *object = RK_CONTAINER(link, struct rk_object, link);
        if (object->kind == RK_OBJECT_ENTRY)
            entries[count++] = RK_CONTAINER(object, struct rk_entry, object);
    }
    qsort(entries, count, sizeof(struct rk_entry *), by_cache_queue_order);
    enum rk_status status = RK_OK;
    for (size_t i = 0; status == RK_OK && i < count; i++)
        status = attach_restored(machine, entries[i]);
    rk_free(entries);
    return status;
}

/* --- tables */

const struct rk_op_handler rk_cache_handlers[] = {
    {RK_OP_CACHE_PUT, rk_cache_put, NULL},
    {RK_OP_CACHE_ADD, rk_cache_add, NULL},
    {RK_OP_CACHE_DELETE, rk_cache_delete, NULL},
    {RK_OP_CACHE_TOUCH, rk_cache_touch, NULL},
    {RK_OP_CACHE_INVALIDATE, rk_cache_invalidate, NULL},
    {RK_OP_CACHE_CONFIGURE, rk_cache_configure, NULL},
    {RK_OP_TOUCH, rk_cache_touch_batch, NULL},
    {RK_OP_CACHE_GET, NULL, rk_cache_get},
    {RK_OP_CACHE_STATS, NULL, rk_cache_stats_read},
    {RK_OP_NONE, NULL, NULL},
};

const struct rk_object_class rk_cache_classes[] = {
    {RK_OBJECT_CACHE, "cache", rk_cache_encode, rk_cache_restore, NULL, rk_cache_free},
    {RK_OBJECT_ENTRY, "entry", rk_entry_encode, rk_entry_restore, rk_entry_due,
     rk_entry_free},
    {0},
};
