#include "ring/slots.h"

#include "ring/ring.h"

enum { SLOT_MAP_FORMAT = 1 };

_Static_assert((int)RK_SLOT_GROUPS_MAX <= (int)RK_RING_MEMBERS_MAX,
               "the ring takes every group");

static enum rk_status ring_of_groups(struct rk_ring *ring, uint32_t group_count)
{
    rk_ring_init(ring);
    for (uint32_t group = 1; group <= group_count; group++) {
        enum rk_status status = rk_ring_add(ring, group);
        if (status == RK_OK) continue;
        rk_ring_fini(ring);
        return status;
    }
    return RK_OK;
}

/* Slots lie round the ring in their own order, evenly: neighbours mostly share a group, so
 * the map is a few hundred ranges. Names are spread by their hash already. */
static uint32_t place_of_slot(const struct rk_ring *ring, uint32_t slot)
{
    return rk_ring_place(ring, (uint64_t)slot * (UINT64_MAX / RK_SLOT_COUNT + 1));
}

/* room[g]: how many slots group g takes. All take the same, except that what is left over
 * goes, one slot each, to those that the ring gives most; of equals to the lower id. */
static void share_out(uint32_t room[RK_SLOT_GROUPS_MAX + 1], const struct rk_ring *ring,
                      uint32_t group_count)
{
    uint32_t natural[RK_SLOT_GROUPS_MAX + 1] = {0};
    for (uint32_t slot = 0; slot < RK_SLOT_COUNT; slot++)
        natural[rk_ring_member_at(ring, place_of_slot(ring, slot))]++;
    uint32_t share = RK_SLOT_COUNT / group_count;
    for (uint32_t group = 1; group <= group_count; group++)
        room[group] = share;
    for (uint32_t left = RK_SLOT_COUNT % group_count; left > 0; left--) {
        uint32_t best = 0;
        for (uint32_t group = 1; group <= group_count; group++) {
            if (room[group] != share) continue;
            if (best == 0 || natural[group] > natural[best]) best = group;
        }
        room[best]++;
    }
}

/* Consistent hashing with bounded loads (Mirrokni et al. 2016): in slot order, each slot
 * goes to the first group on its way round the ring that has room. */
enum rk_status rk_slot_map_lay(struct rk_slot_map *map, uint32_t group_count)
{
    if (group_count == 0 || group_count > RK_SLOT_GROUPS_MAX) return RK_ERANGE;
    struct rk_ring ring;
    enum rk_status status = ring_of_groups(&ring, group_count);
    if (status != RK_OK) return status;

    uint32_t room[RK_SLOT_GROUPS_MAX + 1] = {0};
    share_out(room, &ring, group_count);
    for (uint32_t slot = 0; slot < RK_SLOT_COUNT; slot++) {
        /* As much room as there are slots: the walk ends. */
        uint32_t place = place_of_slot(&ring, slot);
        while (room[rk_ring_member_at(&ring, place)] == 0)
            place++;
        uint64_t group = rk_ring_member_at(&ring, place);
        room[group]--;
        map->group[slot] = (uint16_t)group;
    }
    map->version = 1;
    rk_ring_fini(&ring);
    return RK_OK;
}

/* The end (one past the last slot) of the run of one group that begins at `slot`. */
static uint32_t run_end(const struct rk_slot_map *map, uint32_t slot)
{
    uint32_t end = slot + 1;
    while (end < RK_SLOT_COUNT && map->group[end] == map->group[slot])
        end++;
    return end;
}

uint32_t rk_slot_map_ranges(struct rk_slot_range out[RK_SLOT_COUNT],
                            const struct rk_slot_map *map)
{
    uint32_t count = 0;
    for (uint32_t slot = 0; slot < RK_SLOT_COUNT;) {
        uint32_t end = run_end(map, slot);
        out[count++] =
            (struct rk_slot_range){(uint16_t)slot, (uint16_t)(end - 1), map->group[slot]};
        slot = end;
    }
    return count;
}

static bool are_whole(const struct rk_slot_range *ranges, uint32_t range_count)
{
    uint32_t slot = 0;
    for (uint32_t i = 0; i < range_count; i++) {
        if (ranges[i].first != slot || ranges[i].last < slot) return false;
        if (ranges[i].last >= RK_SLOT_COUNT || ranges[i].group == 0) return false;
        slot = (uint32_t)ranges[i].last + 1;
    }
    return slot == RK_SLOT_COUNT;
}

enum rk_status rk_slot_map_of_ranges(struct rk_slot_map *map, uint64_t version,
                                     const struct rk_slot_range *ranges,
                                     uint32_t range_count)
{
    if (!are_whole(ranges, range_count)) return RK_EPROTO;
    map->version = version;
    for (uint32_t i = 0; i < range_count; i++)
        for (uint32_t slot = ranges[i].first; slot <= ranges[i].last; slot++)
            map->group[slot] = ranges[i].group;
    return RK_OK;
}

void rk_slot_map_encode(const struct rk_slot_map *map, struct rk_buf *buf)
{
    rk_buf_varint(buf, SLOT_MAP_FORMAT);
    rk_buf_varint(buf, map->version);
    for (uint32_t slot = 0; slot < RK_SLOT_COUNT;) {
        uint32_t end = run_end(map, slot);
        rk_buf_varint(buf, end - slot);
        rk_buf_varint(buf, map->group[slot]);
        slot = end;
    }
}

enum rk_status rk_slot_map_decode(struct rk_slot_map *map, struct rk_slice bytes)
{
    struct rk_reader reader;
    struct rk_slot_map read;
    rk_reader_init(&reader, bytes);
    uint64_t format = rk_read_varint(&reader);
    if (rk_reader_check(&reader, false) != RK_OK) return RK_EPROTO;
    if (format != SLOT_MAP_FORMAT) return RK_EVERSION;

    read.version = rk_read_varint(&reader);
    for (uint32_t slot = 0; slot < RK_SLOT_COUNT;) {
        uint64_t size = rk_read_varint(&reader);
        uint64_t group = rk_read_varint(&reader);
        if (size == 0 || size > RK_SLOT_COUNT - slot) return RK_EPROTO;
        if (group == 0 || group > UINT16_MAX) return RK_EPROTO;
        for (uint64_t i = 0; i < size; i++)
            read.group[slot++] = (uint16_t)group;
    }
    enum rk_status status = rk_reader_check(&reader, true);
    if (status == RK_OK) *map = read;
    return status;
}
