/* slots.h - from the name of a topic or cache key to the group that holds it.
 *
 * A name has a slot for ever; the slot map says which group holds the slot. Maps are laid
 * by consistent hashing over the groups and then levelled, from the number of groups
 * alone: every node and every release lays the same one. */
#ifndef RK_RING_SLOTS_H
#define RK_RING_SLOTS_H

#include "base/slot.h"

enum {
    RK_SLOT_GROUPS_MAX = 256, /* data groups; their ids are 1 .. group_count */
};

struct rk_slot_map {
    uint64_t version; /* rises with every change; of two maps the higher one counts */
    uint16_t group[RK_SLOT_COUNT];
};

/* Slots first .. last, both included, belong to group. */
struct rk_slot_range {
    uint16_t first;
    uint16_t last;
    uint16_t group;
};

/* Lays the map for groups 1 .. group_count, with version 1. No two groups' shares differ
 * by more than one slot. On an error the map is as it was.
 * RK_ERANGE: group_count is not in 1 .. RK_SLOT_GROUPS_MAX. RK_ENOMEM. */
RK_MUST_CHECK enum rk_status rk_slot_map_lay(struct rk_slot_map *map, uint32_t group_count);

/* The group of a cache key. For a topic ask for the group of rk_topic_base(topic). */
static inline uint32_t rk_slot_map_group(const struct rk_slot_map *map,
                                         struct rk_slice name)
{
    return map->group[rk_slot_of_name(name)];
}

/* The map as ranges in slot order, neighbours of one group joined; returns how many. */
uint32_t rk_slot_map_ranges(struct rk_slot_range out[RK_SLOT_COUNT],
                            const struct rk_slot_map *map);

/* The reverse. RK_EPROTO: the ranges leave a slot out, overlap, are not in order, or name
 * group 0; the map is as it was. */
RK_MUST_CHECK enum rk_status rk_slot_map_of_ranges(struct rk_slot_map *map,
                                                   uint64_t version,
                                                   const struct rk_slot_range *ranges,
                                                   uint32_t range_count);

/* Appends the map: format (1), version, then runs of slots from slot 0 on, each as
 * its length and its group; all are varints. A failure shows in rk_buf_check(buf). */
void rk_slot_map_encode(const struct rk_slot_map *map, struct rk_buf *buf);

/* RK_EVERSION: a format that this build does not know. RK_EPROTO: not a whole map, or
 * bytes left over. The map is as it was after an error. */
RK_MUST_CHECK enum rk_status rk_slot_map_decode(struct rk_slot_map *map,
                                                struct rk_slice bytes);
#endif
