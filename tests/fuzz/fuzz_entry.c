/* Slot maps and command heads: small formats of the log with one encoding each. */
#include "fuzz.h"

#include "ring/slots.h"
#include "state/command.h"

static void slot_map(struct rk_slice bytes)
{
    static struct rk_slot_map map, back;
    static struct rk_slot_range ranges[RK_SLOT_COUNT];
    struct rk_buf out;
    rk_buf_init(&out);
    if (rk_slot_map_decode(&map, bytes) == RK_OK) {
        rk_slot_map_encode(&map, &out);
        RK_ASSERT(rk_slot_map_decode(&back, rk_buf_slice(&out)) == RK_OK);
        RK_ASSERT(back.version == map.version);
        RK_ASSERT(memcmp(back.group, map.group, sizeof(map.group)) == 0);
        uint32_t count = rk_slot_map_ranges(ranges, &map);
        RK_ASSERT(count >= 1 && count <= RK_SLOT_COUNT);
        RK_ASSERT(rk_slot_map_of_ranges(&back, map.version, ranges, count) == RK_OK);
        RK_ASSERT(memcmp(back.group, map.group, sizeof(map.group)) == 0);
    }
    rk_buf_fini(&out);
}

/* The input as ranges: refused, or a map of just those. */
static void slot_ranges(struct rk_slice bytes)
{
    static struct rk_slot_map map;
    static struct rk_slot_range ranges[RK_SLOT_COUNT];
    struct rk_reader reader;
    uint32_t count = 0;
    rk_reader_init(&reader, bytes);
    while (rk_reader_left(&reader) >= 6 && count < RK_SLOT_COUNT) {
        ranges[count].first = rk_read_u16(&reader);
        ranges[count].last = rk_read_u16(&reader);
        ranges[count++].group = rk_read_u16(&reader);
    }
    if (rk_slot_map_of_ranges(&map, 1, ranges, count) != RK_OK) return;
    for (uint32_t i = 0; i < count; i++)
        for (uint32_t slot = ranges[i].first; slot <= ranges[i].last; slot++)
            RK_ASSERT(map.group[slot] == ranges[i].group);
}

static void command(struct rk_slice bytes)
{
    struct rk_command command;
    struct rk_buf out;
    rk_buf_init(&out);
    if (rk_command_decode(&command, bytes) == RK_OK) {
        rk_command_encode(&out, &command);
        RK_ASSERT(rk_slice_is_equal(rk_buf_slice(&out), bytes));
    }
    rk_buf_fini(&out);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size == 0) return 0;
    static void (*const kinds[])(struct rk_slice) = {slot_map, slot_ranges, command};
    kinds[data[0] % 3](rk_slice_of(data + 1, size - 1));
    return 0;
}
