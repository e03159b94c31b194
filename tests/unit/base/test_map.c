#include "base/map.h"

#include "base/alloc.h"
#include "base/list.h"
#include "base/random.h"
#include "base/slot.h"

#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>

#include <cmocka.h>

enum { KEY_COUNT = 100000 };

struct item {
    uint8_t key[8];
    struct rk_map_node node;
    bool is_seen;
    bool is_in;
};

static struct item *item_of(struct rk_map_node *node)
{
    return RK_CONTAINER(node, struct item, node);
}

static struct item *new_items(size_t count)
{
    struct item *items = rk_calloc(count, sizeof(*items));
    assert_non_null(items);
    for (size_t i = 0; i < count; i++) {
        rk_put_u64(items[i].key, i);
        items[i].node.key = rk_slice_of(items[i].key, sizeof(items[i].key));
    }
    return items;
}

static void put(struct rk_map *map, struct item *item)
{
    assert_int_equal(rk_map_insert(map, &item->node), RK_OK);
    item->is_in = true;
}

static void take(struct rk_map *map, struct item *item)
{
    rk_map_remove(map, &item->node);
    item->is_in = false;
}

/* The walk meets every member exactly once. */
static void check_walk(const struct rk_map *map, struct item *items, size_t count)
{
    size_t seen = 0;
    struct rk_map_cursor cursor;
    rk_map_each (node, map, &cursor) {
        assert_true(item_of(node)->is_in);
        assert_false(item_of(node)->is_seen);
        item_of(node)->is_seen = true;
        seen++;
    }
    assert_int_equal(seen, map->count);
    for (size_t i = 0; i < count; i++)
        items[i].is_seen = false;
}

static void test_empty(void **state)
{
    (void)state;
    struct rk_map map;
    struct rk_map_cursor cursor;
    rk_map_init(&map);
    assert_null(rk_map_find(&map, RK_SLICE_LITERAL("a")));
    assert_null(rk_map_first(&map, &cursor));
    rk_map_fini(&map);
    rk_map_fini(&map);
}

static void test_grows_with_every_key_in_reach(void **state)
{
    (void)state;
    struct rk_map map;
    rk_map_init(&map);
    struct item *items = new_items(KEY_COUNT);
    for (size_t i = 0; i < KEY_COUNT; i++) {
        put(&map, &items[i]);
        assert_ptr_equal(rk_map_find(&map, items[i / 2].node.key), &items[i / 2].node);
        assert_int_equal(rk_map_insert(&map, &items[i / 3].node), RK_EEXIST);
    }
    assert_int_equal(map.count, KEY_COUNT);
    for (size_t i = 0; i < KEY_COUNT; i++)
        assert_ptr_equal(rk_map_find(&map, items[i].node.key), &items[i].node);
    check_walk(&map, items, KEY_COUNT);
    for (size_t i = 0; i < KEY_COUNT; i++) {
        take(&map, &items[i]);
        assert_null(rk_map_find(&map, items[i].node.key));
    }
    assert_int_equal(map.count, 0);
    rk_free(items);
    rk_map_fini(&map);
}

/* No single insert moves more than a few buckets, however large the map has become. */
static void test_growth_is_incremental(void **state)
{
    (void)state;
    struct rk_map map;
    rk_map_init(&map);
    struct item *items = new_items(KEY_COUNT);
    bool was_draining = false;
    for (size_t i = 0; i < KEY_COUNT; i++) {
        size_t before = map.drain_at;
        bool had_old = map.old_slots != NULL;
        put(&map, &items[i]);
        if (had_old && map.old_slots != NULL) {
            was_draining = true;
            assert_true(map.drain_at > before);
            assert_true(map.drain_at - before <= 8);
        }
    }
    assert_true(was_draining);
    rk_free(items);
    rk_map_fini(&map);
}

static void test_against_model(void **state)
{
    (void)state;
    enum { COUNT = 2000 };
    struct rk_map map;
    struct rk_random random;
    rk_map_init(&map);
    rk_random_init(&random, 7);
    struct item *items = new_items(COUNT);
    for (int i = 0; i < 60000; i++) {
        struct item *item = &items[rk_random_below(&random, COUNT)];
        assert_ptr_equal(rk_map_find(&map, item->node.key),
                         item->is_in ? &item->node : NULL);
        if (item->is_in) {
            take(&map, item);
        } else {
            put(&map, item);
        }
        if (i % 1000 == 0) check_walk(&map, items, COUNT);
    }
    check_walk(&map, items, COUNT);
    rk_free(items);
    rk_map_fini(&map);
}

static void test_removal_while_walking(void **state)
{
    (void)state;
    enum { COUNT = 1030 }; /* just after a growth, so both tables are in use */
    struct rk_map map;
    struct rk_map_cursor cursor;
    rk_map_init(&map);
    struct item *items = new_items(COUNT);
    for (size_t i = 0; i < COUNT; i++)
        put(&map, &items[i]);
    assert_non_null(map.old_slots);
    size_t seen = 0;
    rk_map_each (node, &map, &cursor) {
        seen++;
        if (seen % 2 == 0) take(&map, item_of(node));
    }
    assert_int_equal(seen, COUNT);
    assert_int_equal(map.count, COUNT / 2);
    check_walk(&map, items, COUNT);
    rk_free(items);
    rk_map_fini(&map);
}

static void test_without_memory(void **state)
{
    (void)state;
    enum { COUNT = 200 };
    struct rk_map map;
    rk_map_init(&map);
    struct item *items = new_items(COUNT);
    int failure_count = 0;
    for (size_t i = 0; i < COUNT; i++) {
        rk_alloc_fail(0, 1);
        enum rk_status status = rk_map_insert(&map, &items[i].node);
        rk_alloc_fail(-1, 0);
        if (status == RK_OK) {
            items[i].is_in = true;
            continue;
        }
        assert_int_equal(status, RK_ENOMEM);
        failure_count++;
        assert_null(rk_map_find(&map, items[i].node.key));
        check_walk(&map, items, COUNT);
        put(&map, &items[i]);
    }
    assert_int_equal(failure_count, 6); /* 0, 8, 16, 32, 64, 128 */
    assert_int_equal(map.count, COUNT);
    rk_free(items);
    rk_map_fini(&map);
}

/* A group's keys are those of some slots, that is of some hashes. */
static void test_keys_of_a_group_spread(void **state)
{
    (void)state;
    enum { COUNT = 4096, SLOTS = RK_SLOT_COUNT / 64 };
    struct rk_map map;
    rk_map_init(&map);
    struct item *items = new_items(COUNT);
    uint64_t name = 0;
    for (size_t i = 0; i < COUNT; i++) {
        do
            rk_put_u64(items[i].key, name++);
        while (rk_slot_of_name(items[i].node.key) >= SLOTS);
        put(&map, &items[i]);
    }
    size_t longest = 0;
    for (size_t slot = 0; slot < map.slot_count; slot++) {
        size_t length = 0;
        for (struct rk_map_node *node = map.slots[slot]; node != NULL; node = node->next)
            length++;
        if (length > longest) longest = length;
    }
    assert_in_range(longest, 1, 12);
    rk_free(items);
    rk_map_fini(&map);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_empty),
        cmocka_unit_test(test_grows_with_every_key_in_reach),
        cmocka_unit_test(test_growth_is_incremental),
        cmocka_unit_test(test_against_model),
        cmocka_unit_test(test_removal_while_walking),
        cmocka_unit_test(test_without_memory),
        cmocka_unit_test(test_keys_of_a_group_spread),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
