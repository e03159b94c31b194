#include "base/map.h"

#include "base/alloc.h"
#include "base/assert.h"
#include "base/hash.h"

/* Chained buckets, always a power of two. When members reach the bucket count a table of
 * twice the size is put in front and each insert moves DRAIN_STEP old buckets over: the old
 * table is empty long before the next growth. Members whose old bucket is at drain_at or
 * beyond may be in either table, all others in the new one. Only inserts move members, so a
 * cursor survives removals. */
enum {
    SLOT_COUNT_MIN = 8,
    DRAIN_STEP = 4,
};

void rk_map_init(struct rk_map *map)
{
    *map = (struct rk_map){NULL, NULL, 0, 0, 0, 0};
}

void rk_map_fini(struct rk_map *map)
{
    rk_free(map->slots);
    rk_free(map->old_slots);
    rk_map_init(map);
}

/* Not the lowest bits: the keys of a group share those, they are what slots are made of. */
static size_t bucket_of(uint64_t hash, size_t count)
{
    return (hash >> 16) & (count - 1);
}

static struct rk_map_node **slot_of(const struct rk_map *map, uint64_t hash)
{
    return &map->slots[bucket_of(hash, map->slot_count)];
}

/* The old bucket in which a member of that hash may still be, or NULL. */
static struct rk_map_node **old_slot_of(const struct rk_map *map, uint64_t hash)
{
    if (map->old_slots == NULL) return NULL;
    size_t at = bucket_of(hash, map->old_slot_count);
    return at >= map->drain_at ? &map->old_slots[at] : NULL;
}

static struct rk_map_node *find_in(struct rk_map_node *const *slot, uint64_t hash,
                                   struct rk_slice key)
{
    for (struct rk_map_node *node = *slot; node != NULL; node = node->next)
        if (node->hash == hash && rk_slice_is_equal(node->key, key)) return node;
    return NULL;
}

static struct rk_map_node *find_hashed(const struct rk_map *map, uint64_t hash,
                                       struct rk_slice key)
{
    if (map->slot_count == 0) return NULL;
    struct rk_map_node **old_slot = old_slot_of(map, hash);
    if (old_slot != NULL) {
        struct rk_map_node *node = find_in(old_slot, hash, key);
        if (node != NULL) return node;
    }
    return find_in(slot_of(map, hash), hash, key);
}

struct rk_map_node *rk_map_find(const struct rk_map *map, struct rk_slice key)
{
    return find_hashed(map, rk_hash(key), key);
}

static void push(struct rk_map_node **slot, struct rk_map_node *node)
{
    node->next = *slot;
    *slot = node;
}

static void drain(struct rk_map *map)
{
    for (int i = 0; i < DRAIN_STEP && map->old_slots != NULL; i++) {
        struct rk_map_node *node = map->old_slots[map->drain_at];
        while (node != NULL) {
            struct rk_map_node *next = node->next;
            push(slot_of(map, node->hash), node);
            node = next;
        }
        map->old_slots[map->drain_at++] = NULL;
        if (map->drain_at == map->old_slot_count) {
            rk_free(map->old_slots);
            map->old_slots = NULL;
            map->old_slot_count = 0;
            map->drain_at = 0;
        }
    }
}

static enum rk_status grow(struct rk_map *map)
{
    RK_ASSERT(map->old_slots == NULL);
    size_t slot_count = map->slot_count != 0 ? map->slot_count * 2 : SLOT_COUNT_MIN;
    struct rk_map_node **slots = rk_calloc(slot_count, sizeof(struct rk_map_node *));
    if (slots == NULL) return RK_ENOMEM;
    if (map->slot_count != 0) {
        map->old_slots = map->slots;
        map->old_slot_count = map->slot_count;
        map->drain_at = 0;
    }
    map->slots = slots;
    map->slot_count = slot_count;
    return RK_OK;
}

enum rk_status rk_map_insert(struct rk_map *map, struct rk_map_node *node)
{
    uint64_t hash = rk_hash(node->key);
    if (find_hashed(map, hash, node->key) != NULL) return RK_EEXIST;
    if (map->count == map->slot_count) {
        enum rk_status status = grow(map);
        if (status != RK_OK) return status;
    }
    node->hash = hash;
    push(slot_of(map, hash), node);
    map->count++;
    drain(map);
    return RK_OK;
}

static bool unlink_from(struct rk_map_node **slot, struct rk_map_node *node)
{
    for (struct rk_map_node **at = slot; *at != NULL; at = &(*at)->next) {
        if (*at != node) continue;
        *at = node->next;
        node->next = NULL;
        return true;
    }
    return false;
}

void rk_map_remove(struct rk_map *map, struct rk_map_node *node)
{
    RK_ASSERT(map->count != 0);
    struct rk_map_node **old_slot = old_slot_of(map, node->hash);
    bool is_removed = (old_slot != NULL && unlink_from(old_slot, node)) ||
                      unlink_from(slot_of(map, node->hash), node);
    RK_ASSERT(is_removed);
    map->count--;
}

struct rk_map_node *rk_map_first(const struct rk_map *map, struct rk_map_cursor *cursor)
{
    cursor->slot = 0;
    cursor->next = NULL;
    return rk_map_next(map, cursor);
}

/* The cursor counts through the old buckets first, then through the new ones. */
struct rk_map_node *rk_map_next(const struct rk_map *map, struct rk_map_cursor *cursor)
{
    while (cursor->next == NULL) {
        size_t slot = cursor->slot;
        if (slot >= map->old_slot_count + map->slot_count) return NULL;
        cursor->slot++;
        cursor->next = slot < map->old_slot_count ? map->old_slots[slot]
                                                  : map->slots[slot - map->old_slot_count];
    }
    struct rk_map_node *node = cursor->next;
    cursor->next = node->next;
    return node;
}
