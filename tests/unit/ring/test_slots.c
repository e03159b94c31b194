#include "ring/slots.h"

#include "base/alloc.h"
#include "base/hash.h"

#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>

#include <cmocka.h>

/* Stored data lies where this map says: it may never change. */
static void test_fixed_map(void **state)
{
    (void)state;
    struct rk_slot_map map;
    assert_int_equal(rk_slot_map_lay(&map, 8), RK_OK);
    struct rk_buf buf;
    rk_buf_init(&buf);
    rk_slot_map_encode(&map, &buf);
    assert_int_equal(rk_hash(rk_buf_slice(&buf)), UINT64_C(0x4e0950d5bfa57cf0));
    rk_buf_fini(&buf);
}

/* Every number up to 40, then some: laying for hundreds is slow under a sanitizer. */
static void test_level_for_any_number_of_groups(void **state)
{
    (void)state;
    for (uint32_t group_count = 1; group_count <= RK_SLOT_GROUPS_MAX;
         group_count += group_count < 40 ? 1 : 72) {
        struct rk_slot_map map;
        uint32_t counts[RK_SLOT_GROUPS_MAX + 1] = {0};
        assert_int_equal(rk_slot_map_lay(&map, group_count), RK_OK);
        assert_int_equal(map.version, 1);
        for (uint32_t slot = 0; slot < RK_SLOT_COUNT; slot++) {
            assert_in_range(map.group[slot], 1, group_count);
            counts[map.group[slot]]++;
        }
        uint32_t share = RK_SLOT_COUNT / group_count;
        for (uint32_t group = 1; group <= group_count; group++)
            assert_in_range(counts[group], share,
                            share + (RK_SLOT_COUNT % group_count != 0));
    }
}

/* One group more takes its share and disturbs little else. */
static void test_one_group_more(void **state)
{
    (void)state;
    struct rk_slot_map eight, nine;
    assert_int_equal(rk_slot_map_lay(&eight, 8), RK_OK);
    assert_int_equal(rk_slot_map_lay(&nine, 9), RK_OK);
    int moved_count = 0;
    for (uint32_t slot = 0; slot < RK_SLOT_COUNT; slot++)
        moved_count += eight.group[slot] != nine.group[slot];
    assert_in_range(moved_count, RK_SLOT_COUNT / 9, RK_SLOT_COUNT / 9 * 3);
}

static void test_lay_refused(void **state)
{
    (void)state;
    struct rk_slot_map map, before;
    assert_int_equal(rk_slot_map_lay(&map, 3), RK_OK);
    before = map;
    assert_int_equal(rk_slot_map_lay(&map, 0), RK_ERANGE);
    assert_int_equal(rk_slot_map_lay(&map, RK_SLOT_GROUPS_MAX + 1), RK_ERANGE);
    for (int64_t after = 0; after < 5; after++) {
        rk_alloc_fail(after, 0);
        assert_int_equal(rk_slot_map_lay(&map, 5), RK_ENOMEM);
        rk_alloc_fail(-1, 0);
        assert_memory_equal(map.group, before.group, sizeof(map.group));
    }
}

static void test_ranges(void **state)
{
    (void)state;
    static struct rk_slot_range ranges[RK_SLOT_COUNT];
    struct rk_slot_map map, back;
    assert_int_equal(rk_slot_map_lay(&map, 1), RK_OK);
    assert_int_equal(rk_slot_map_ranges(ranges, &map), 1);
    assert_int_equal(ranges[0].first, 0);
    assert_int_equal(ranges[0].last, 4095);
    assert_int_equal(ranges[0].group, 1);

    assert_int_equal(rk_slot_map_lay(&map, 8), RK_OK);
    uint32_t count = rk_slot_map_ranges(ranges, &map);
    assert_in_range(count, 8, 512); /* it travels in every GET /cluster */
    assert_int_equal(rk_slot_map_of_ranges(&back, 9, ranges, count), RK_OK);
    assert_int_equal(back.version, 9);
    assert_memory_equal(back.group, map.group, sizeof(map.group));

    assert_int_equal(rk_slot_map_of_ranges(&back, 9, ranges, count - 1), RK_EPROTO);
    assert_int_equal(rk_slot_map_of_ranges(&back, 9, ranges + 1, count - 1), RK_EPROTO);
    assert_int_equal(rk_slot_map_of_ranges(&back, 9, NULL, 0), RK_EPROTO);
    static const struct rk_slot_range bad[][2] = {
        {{0, 100, 1}, {102, 4095, 2}}, {{0, 100, 1}, {100, 4095, 2}},
        {{0, 100, 0}, {101, 4095, 2}}, {{0, 100, 1}, {101, 4096, 2}},
        {{0, 4095, 1}, {0, 4095, 2}},  {{0, 100, 1}, {101, 50, 2}},
    };
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        assert_int_equal(rk_slot_map_of_ranges(&back, 1, bad[i], 2), RK_EPROTO);
    assert_int_equal(back.version, 9);
}

static void test_encode_decode(void **state)
{
    (void)state;
    struct rk_slot_map map, back = {.version = 3};
    struct rk_buf buf;
    rk_buf_init(&buf);
    assert_int_equal(rk_slot_map_lay(&map, 200), RK_OK);
    map.version = 77;
    rk_slot_map_encode(&map, &buf);
    assert_int_equal(rk_buf_check(&buf), RK_OK);
    for (size_t size = 0; size < buf.size; size++)
        assert_int_equal(rk_slot_map_decode(&back, rk_slice_of(buf.data, size)), RK_EPROTO);
    assert_int_equal(back.version, 3);
    assert_int_equal(rk_slot_map_decode(&back, rk_buf_slice(&buf)), RK_OK);
    assert_int_equal(back.version, 77);
    assert_memory_equal(back.group, map.group, sizeof(map.group));
    rk_buf_u8(&buf, 0);
    assert_int_equal(rk_slot_map_decode(&back, rk_buf_slice(&buf)), RK_EPROTO);
    rk_buf_fini(&buf);
}

/* Bytes written by the first release, and what is wrong with some others. */
static void test_old_and_bad_bytes(void **state)
{
    (void)state;
    struct rk_slot_map map;
    assert_int_equal(
        rk_slot_map_decode(&map, RK_SLICE_LITERAL("\x01\x05\x80\x10\x01\x80\x10\x02")),
        RK_OK);
    assert_int_equal(map.version, 5);
    assert_int_equal(map.group[2047], 1);
    assert_int_equal(map.group[2048], 2);
    static const struct {
        const char *bytes;
        size_t size;
        enum rk_status status;
    } cases[] = {
        {"\x02\x05\x80\x20\x01", 5, RK_EVERSION},
        {"\x01\x05\x80\x20\x00", 5, RK_EPROTO},         /* group 0 */
        {"\x01\x05\x81\x20\x01", 5, RK_EPROTO},         /* one slot too many */
        {"\x01\x05\x00\x01\x80\x20\x01", 7, RK_EPROTO}, /* an empty run */
        {"\x01\x05\x80\x20\x80\x80\x04", 7, RK_EPROTO}, /* group 65536 */
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
        assert_int_equal(
            rk_slot_map_decode(&map, rk_slice_of(cases[i].bytes, cases[i].size)),
            cases[i].status);
    assert_int_equal(map.version, 5);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_fixed_map),
        cmocka_unit_test(test_level_for_any_number_of_groups),
        cmocka_unit_test(test_one_group_more),
        cmocka_unit_test(test_lay_refused),
        cmocka_unit_test(test_ranges),
        cmocka_unit_test(test_encode_decode),
        cmocka_unit_test(test_old_and_bad_bytes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
