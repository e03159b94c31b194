#include "ring/ring.h"

#include "base/alloc.h"

#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>

#include <cmocka.h>
#include <stdio.h>

enum { KEY_COUNT = 20000 };

static struct rk_slice key_of(char text[32], int number)
{
    snprintf(text, 32, "topic-%d", number);
    return rk_slice_of_string(text);
}

static uint64_t owner_of(const struct rk_ring *ring, int number)
{
    char text[32];
    return rk_ring_owner(ring, key_of(text, number));
}

static void add_range(struct rk_ring *ring, uint64_t first, uint64_t last)
{
    for (uint64_t member = first; member <= last; member++)
        assert_int_equal(rk_ring_add(ring, member), RK_OK);
}

static void test_empty_and_single(void **state)
{
    (void)state;
    struct rk_ring ring;
    uint64_t owners[4];
    rk_ring_init(&ring);
    assert_int_equal(owner_of(&ring, 1), 0);
    assert_int_equal(rk_ring_owners(owners, 4, &ring, RK_SLICE_EMPTY), 0);
    assert_int_equal(rk_ring_remove(&ring, 7), RK_ENOENT);
    add_range(&ring, 7, 7);
    for (int i = 0; i < 100; i++)
        assert_int_equal(owner_of(&ring, i), 7);
    assert_int_equal(rk_ring_owners(owners, 4, &ring, RK_SLICE_EMPTY), 1);
    assert_int_equal(rk_ring_add(&ring, 7), RK_EEXIST);
    assert_int_equal(rk_ring_remove(&ring, 7), RK_OK);
    assert_int_equal(owner_of(&ring, 1), 0);
    rk_ring_fini(&ring);
    rk_ring_fini(&ring);
}

static void test_order_of_adding_does_not_matter(void **state)
{
    (void)state;
    struct rk_ring up, down;
    rk_ring_init(&up);
    rk_ring_init(&down);
    add_range(&up, 1, 9);
    for (uint64_t member = 20; member >= 1; member--)
        assert_int_equal(rk_ring_add(&down, member), RK_OK);
    for (uint64_t member = 10; member <= 20; member++)
        assert_int_equal(rk_ring_remove(&down, member), RK_OK);
    for (int i = 0; i < KEY_COUNT; i++)
        assert_int_equal(owner_of(&up, i), owner_of(&down, i));
    rk_ring_fini(&up);
    rk_ring_fini(&down);
}

static void test_shares(void **state)
{
    (void)state;
    struct rk_ring ring;
    int counts[6] = {0};
    rk_ring_init(&ring);
    add_range(&ring, 1, 5);
    for (int i = 0; i < KEY_COUNT; i++)
        counts[owner_of(&ring, i)]++;
    for (int member = 1; member <= 5; member++)
        assert_in_range(counts[member], KEY_COUNT / 5 * 7 / 10, KEY_COUNT / 5 * 13 / 10);
    rk_ring_fini(&ring);
}

static void test_leaving_moves_only_its_own(void **state)
{
    (void)state;
    struct rk_ring ring;
    static uint64_t before[KEY_COUNT], next[KEY_COUNT];
    rk_ring_init(&ring);
    add_range(&ring, 1, 7);
    for (int i = 0; i < KEY_COUNT; i++) {
        char text[32];
        uint64_t owners[2];
        assert_int_equal(rk_ring_owners(owners, 2, &ring, key_of(text, i)), 2);
        before[i] = owner_of(&ring, i);
        next[i] = owners[1];
        assert_int_equal(owners[0], before[i]);
    }
    assert_int_equal(rk_ring_remove(&ring, 4), RK_OK);
    assert_false(rk_ring_has(&ring, 4));
    int moved_count = 0;
    for (int i = 0; i < KEY_COUNT; i++) {
        if (before[i] == 4) moved_count++;
        assert_int_equal(owner_of(&ring, i), before[i] == 4 ? next[i] : before[i]);
    }
    assert_in_range(moved_count, KEY_COUNT / 7 * 6 / 10, KEY_COUNT / 7 * 14 / 10);
    rk_ring_fini(&ring);
}

static void test_owners_are_distinct(void **state)
{
    (void)state;
    struct rk_ring ring;
    rk_ring_init(&ring);
    add_range(&ring, 1, 6);
    for (int i = 0; i < 200; i++) {
        char text[32];
        uint64_t owners[10];
        unsigned seen = 0;
        assert_int_equal(rk_ring_owners(owners, 10, &ring, key_of(text, i)), 6);
        for (int j = 0; j < 6; j++)
            seen |= 1u << owners[j];
        assert_int_equal(seen, 0x7e);
    }
    rk_ring_fini(&ring);
}

static void test_limit_and_memory(void **state)
{
    (void)state;
    struct rk_ring ring;
    rk_ring_init(&ring);
    for (uint64_t member = 1; member <= RK_RING_MEMBERS_MAX; member++) {
        uint64_t owner = owner_of(&ring, 1);
        rk_alloc_fail(0, 1);
        assert_int_equal(rk_ring_add(&ring, member), RK_ENOMEM);
        rk_alloc_fail(-1, 0);
        assert_int_equal(owner_of(&ring, 1), owner);
        assert_int_equal(ring.member_count, member - 1);
        assert_int_equal(rk_ring_add(&ring, member), RK_OK);
    }
    assert_int_equal(rk_ring_add(&ring, 1000), RK_ELIMIT);
    rk_alloc_fail(0, 1);
    assert_int_equal(rk_ring_remove(&ring, 9), RK_OK);
    rk_alloc_fail(-1, 0);
    assert_int_equal(rk_ring_add(&ring, 1000), RK_OK);
    rk_ring_fini(&ring);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_empty_and_single),
        cmocka_unit_test(test_order_of_adding_does_not_matter),
        cmocka_unit_test(test_shares),
        cmocka_unit_test(test_leaving_moves_only_its_own),
        cmocka_unit_test(test_owners_are_distinct),
        cmocka_unit_test(test_limit_and_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
