/* map.h - an intrusive hash map from bytes to objects.
 *
 * The object embeds a node whose key slice points at memory that the object owns for as
 * long as it is in the map. Growth is incremental: no operation is O(n). Iteration order
 * is not defined and must never decide what state machines do. */
#ifndef RK_BASE_MAP_H
#define RK_BASE_MAP_H

#include "base/bytes.h"

struct rk_map_node {
    struct rk_map_node *next;
    struct rk_slice key; /* borrowed from the object */
    uint64_t hash;
};

struct rk_map {
    struct rk_map_node **slots;     /* owned */
    struct rk_map_node **old_slots; /* owned; being drained while growing */
    size_t slot_count;
    size_t old_slot_count;
    size_t drain_at;
    size_t count;
};

void rk_map_init(struct rk_map *map);
void rk_map_fini(struct rk_map *map); /* members stay the caller's */
struct rk_map_node *rk_map_find(const struct rk_map *map,
                                struct rk_slice key); /* or NULL */
/* node->key is set by the caller before. RK_EEXIST, RK_ENOMEM: map unchanged. */
RK_MUST_CHECK enum rk_status rk_map_insert(struct rk_map *map, struct rk_map_node *node);
void rk_map_remove(struct rk_map *map, struct rk_map_node *node); /* must be in it */

/* Walks all members; removing the current one in the body is allowed, inserting is not. */
struct rk_map_cursor {
    size_t slot;
    struct rk_map_node *next;
};
struct rk_map_node *rk_map_first(const struct rk_map *map, struct rk_map_cursor *cursor);
struct rk_map_node *rk_map_next(const struct rk_map *map, struct rk_map_cursor *cursor);
#define rk_map_each(node, map, cursor)                                                     \
    for (struct rk_map_node *node = rk_map_first(map, cursor); node != NULL;               \
         node = rk_map_next(map, cursor))
#endif
