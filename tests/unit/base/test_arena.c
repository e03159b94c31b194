#include "base/arena.h"

#include "base/alloc.h"

#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>

#include <cmocka.h>

static void test_blocks_are_aligned_and_apart(void **state)
{
    (void)state;
    struct rk_arena arena;
    rk_arena_init(&arena);
    uint8_t *blocks[500];
    for (size_t i = 0; i < 500; i++) {
        blocks[i] = rk_arena_alloc(&arena, i);
        assert_non_null(blocks[i]);
        assert_int_equal((uintptr_t)blocks[i] % 16, 0);
        memset(blocks[i], (int)(i & 0xff), i);
    }
    for (size_t i = 0; i < 500; i++)
        for (size_t j = 0; j < i; j++)
            assert_int_equal(blocks[i][j], i & 0xff);
    rk_arena_fini(&arena);
    rk_arena_fini(&arena);
}

static void test_reset_keeps_the_first_block(void **state)
{
    (void)state;
    struct rk_arena arena;
    rk_arena_init(&arena);
    rk_arena_reset(&arena);
    void *first = rk_arena_alloc(&arena, 100);
    size_t total = arena.total;
    for (int i = 0; i < 1000; i++)
        assert_non_null(rk_arena_alloc(&arena, 100));
    assert_true(arena.total > total);
    rk_arena_reset(&arena);
    assert_int_equal(arena.total, total);
    rk_alloc_take_count();
    assert_ptr_equal(rk_arena_alloc(&arena, 100), first);
    assert_int_equal(rk_alloc_take_count(), 0);
    rk_arena_fini(&arena);
}

static void test_large(void **state)
{
    (void)state;
    struct rk_arena arena;
    rk_arena_init(&arena);
    uint8_t *large = rk_arena_calloc(&arena, 3, 1 << 20);
    for (size_t i = 0; i < (size_t)3 << 20; i += 997)
        assert_int_equal(large[i], 0);
    assert_null(rk_arena_alloc(&arena, SIZE_MAX));
    assert_null(rk_arena_alloc(&arena, SIZE_MAX - 16));
    assert_null(rk_arena_calloc(&arena, SIZE_MAX / 2, 4));
    rk_arena_fini(&arena);
}

static void test_copy(void **state)
{
    (void)state;
    struct rk_arena arena;
    rk_arena_init(&arena);
    char text[] = "harmony";
    struct rk_slice copy = rk_arena_copy(&arena, rk_slice_of_string(text));
    text[0] = 'x';
    assert_true(rk_slice_is_equal(copy, RK_SLICE_LITERAL("harmony")));
    assert_int_equal(rk_arena_copy(&arena, RK_SLICE_EMPTY).size, 0);
    rk_arena_fini(&arena);
}

static void test_without_memory(void **state)
{
    (void)state;
    struct rk_arena arena;
    rk_arena_init(&arena);
    rk_alloc_fail(0, 1);
    assert_null(rk_arena_alloc(&arena, 0));
    assert_null(rk_arena_copy(&arena, RK_SLICE_LITERAL("a")).data);
    rk_alloc_fail(-1, 0);

    uint8_t *kept = rk_arena_alloc(&arena, 4000);
    memset(kept, 7, 4000);
    rk_alloc_fail(0, 1);
    assert_null(rk_arena_alloc(&arena, 4000));
    assert_non_null(rk_arena_alloc(&arena, 16));
    rk_alloc_fail(-1, 0);
    assert_int_equal(kept[3999], 7);
    assert_non_null(rk_arena_alloc(&arena, 4000));
    rk_arena_fini(&arena);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_blocks_are_aligned_and_apart),
        cmocka_unit_test(test_reset_keeps_the_first_block),
        cmocka_unit_test(test_large),
        cmocka_unit_test(test_copy),
        cmocka_unit_test(test_without_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
