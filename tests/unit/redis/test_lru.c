#include "redis/lru.h"

#include "base/alloc.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

#define TEXT(text) RK_SLICE_LITERAL(text)
#define NONE       RK_SLICE_EMPTY

static struct rk_lru_copy copy_of(const char *value, uint64_t version, uint64_t read_us)
{
    return (struct rk_lru_copy){
        rk_slice_of_string(value), version, read_us, UINT64_MAX, UINT64_MAX, 1};
}

static void keep(struct rk_lru *lru, struct rk_slice key, const char *value,
                 uint64_t version, uint64_t read_us)
{
    struct rk_lru_copy copy = copy_of(value, version, read_us);
    rk_lru_keep(lru, rk_lru_ticket(lru, NONE, key), NONE, key, &copy);
}

static bool has(struct rk_lru *lru, struct rk_slice key, const char *value)
{
    const struct rk_lru_copy *copy = rk_lru_find(lru, NONE, key, 0, 0);
    return copy != NULL && rk_slice_is_equal(copy->value, rk_slice_of_string(value));
}

static void test_keeps_and_finds(void **state)
{
    struct rk_lru lru;
    (void)state;
    assert_int_equal(rk_lru_init(&lru, 1 << 20), RK_OK);
    assert_null(rk_lru_find(&lru, NONE, TEXT("a"), 0, 0));
    keep(&lru, TEXT("a"), "1", 5, 10);
    assert_true(has(&lru, TEXT("a"), "1"));
    /* Of another cache of the same key nothing is known. */
    assert_null(rk_lru_find(&lru, TEXT("c"), TEXT("a"), 0, 0));
    /* Names are kept apart: "x" + "y" is not "" + "x\0y". */
    struct rk_lru_copy copy = copy_of("2", 6, 11);
    rk_lru_keep(&lru, rk_lru_ticket(&lru, TEXT("x"), TEXT("y")), TEXT("x"), TEXT("y"),
                &copy);
    assert_null(rk_lru_find(&lru, NONE, TEXT("xy"), 0, 0));
    assert_non_null(rk_lru_find(&lru, TEXT("x"), TEXT("y"), 0, 0));
    struct rk_lru_stats stats;
    rk_lru_cache_stats(&lru, TEXT("x"), &stats);
    assert_int_equal(stats.entries, 1);
    assert_int_equal(stats.hits, 1);
    assert_int_equal(lru.stats.entries, 2);
    rk_lru_fini(&lru);
}

static void test_a_copy_must_be_read_after_the_position(void **state)
{
    struct rk_lru lru;
    (void)state;
    assert_int_equal(rk_lru_init(&lru, 1 << 20), RK_OK);
    keep(&lru, TEXT("a"), "1", 5, 10);
    assert_non_null(rk_lru_find(&lru, NONE, TEXT("a"), 9, 0));
    assert_null(rk_lru_find(&lru, NONE, TEXT("a"), 10, 0));
    /* It stays for those who have seen less. */
    assert_true(has(&lru, TEXT("a"), "1"));
    rk_lru_fini(&lru);
}

static void test_an_older_read_replaces_nothing(void **state)
{
    struct rk_lru lru;
    (void)state;
    assert_int_equal(rk_lru_init(&lru, 1 << 20), RK_OK);
    keep(&lru, TEXT("a"), "new", 9, 20);
    keep(&lru, TEXT("a"), "old", 5, 10);
    assert_true(has(&lru, TEXT("a"), "new"));
    keep(&lru, TEXT("a"), "newer", 11, 30);
    assert_true(has(&lru, TEXT("a"), "newer"));
    assert_int_equal(lru.stats.entries, 1);
    rk_lru_fini(&lru);
}

static void test_an_invalidation_voids_reads_under_way(void **state)
{
    struct rk_lru lru;
    struct rk_lru_copy copy = copy_of("old", 5, 10);
    (void)state;
    assert_int_equal(rk_lru_init(&lru, 1 << 20), RK_OK);
    struct rk_lru_ticket ticket = rk_lru_ticket(&lru, NONE, TEXT("a"));
    rk_lru_invalidate(&lru, NONE, TEXT("a"), 7);
    rk_lru_keep(&lru, ticket, NONE, TEXT("a"), &copy);
    assert_null(rk_lru_find(&lru, NONE, TEXT("a"), 0, 0));
    ticket = rk_lru_ticket(&lru, NONE, TEXT("a"));
    rk_lru_empty(&lru);
    rk_lru_keep(&lru, ticket, NONE, TEXT("a"), &copy);
    assert_null(rk_lru_find(&lru, NONE, TEXT("a"), 0, 0));
    rk_lru_fini(&lru);
}

static void test_an_invalidation_removes_up_to_its_version(void **state)
{
    struct rk_lru lru;
    (void)state;
    assert_int_equal(rk_lru_init(&lru, 1 << 20), RK_OK);
    keep(&lru, TEXT("a"), "1", 8, 10);
    rk_lru_invalidate(&lru, NONE, TEXT("a"), 7);
    assert_true(has(&lru, TEXT("a"), "1"));
    rk_lru_invalidate(&lru, NONE, TEXT("a"), 8);
    assert_null(rk_lru_find(&lru, NONE, TEXT("a"), 0, 0));
    assert_int_equal(lru.stats.invalidated, 1);
    rk_lru_fini(&lru);
}

static void test_life_ends(void **state)
{
    struct rk_lru lru;
    struct rk_lru_copy copy = copy_of("1", 5, 10);
    (void)state;
    assert_int_equal(rk_lru_init(&lru, 1 << 20), RK_OK);
    copy.expires_ms = 1000;
    rk_lru_keep(&lru, rk_lru_ticket(&lru, NONE, TEXT("a")), NONE, TEXT("a"), &copy);
    assert_non_null(rk_lru_find(&lru, NONE, TEXT("a"), 0, 999));
    assert_null(rk_lru_find(&lru, NONE, TEXT("a"), 0, 1000));
    assert_int_equal(lru.stats.expired, 1);
    assert_int_equal(lru.stats.entries, 0);
    rk_lru_fini(&lru);
}

static void test_it_is_bounded(void **state)
{
    struct rk_lru lru;
    char big[4096];
    char name[16];
    (void)state;
    assert_int_equal(rk_lru_init(&lru, 20000), RK_OK);
    memset(big, 'v', sizeof(big) - 1);
    big[sizeof(big) - 1] = '\0';
    keep(&lru, TEXT("big"), big, 1, 1); /* over an eighth of the bound */
    assert_null(rk_lru_find(&lru, NONE, TEXT("big"), 0, 0));
    for (uint32_t i = 0; i < 500; i++) {
        (void)snprintf(name, sizeof(name), "%u", i);
        keep(&lru, rk_slice_of_string(name), "value", 1, 1);
        assert_true(lru.stats.bytes <= 20000);
        assert_non_null(rk_lru_find(&lru, NONE, TEXT("0"), 0, 0)); /* in use: it stays */
    }
    assert_null(rk_lru_find(&lru, NONE, TEXT("1"), 0, 0));
    assert_true(has(&lru, TEXT("499"), "value"));
    assert_int_equal(lru.stats.evicted, 500 - lru.stats.entries);
    rk_lru_fini(&lru);
}

static void test_want_of_memory_keeps_nothing(void **state)
{
    struct rk_lru lru;
    (void)state;
    rk_alloc_fail(0, 0);
    assert_int_equal(rk_lru_init(&lru, 1 << 20), RK_ENOMEM);
    rk_alloc_fail(-1, 0);
    rk_lru_fini(&lru);
    for (int64_t after = 0; after < 6; after++) {
        assert_int_equal(rk_lru_init(&lru, 1 << 20), RK_OK);
        rk_alloc_fail(after, 0);
        keep(&lru, TEXT("a"), "1", 5, 10);
        rk_alloc_fail(-1, 0);
        keep(&lru, TEXT("b"), "1", 5, 10);
        assert_true(has(&lru, TEXT("b"), "1"));
        rk_lru_fini(&lru);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_keeps_and_finds),
        cmocka_unit_test(test_a_copy_must_be_read_after_the_position),
        cmocka_unit_test(test_an_older_read_replaces_nothing),
        cmocka_unit_test(test_an_invalidation_voids_reads_under_way),
        cmocka_unit_test(test_an_invalidation_removes_up_to_its_version),
        cmocka_unit_test(test_life_ends),
        cmocka_unit_test(test_it_is_bounded),
        cmocka_unit_test(test_want_of_memory_keeps_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
