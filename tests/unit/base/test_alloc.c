#include "base/alloc.h"

#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>

#include <cmocka.h>
#include <string.h>

static void test_sizes(void **state)
{
    (void)state;
    void *nothing = rk_malloc(0);
    assert_non_null(nothing);
    nothing = rk_realloc(nothing, 0);
    assert_non_null(nothing);
    rk_free(nothing);
    rk_free(NULL);

    nothing = rk_calloc(0, 8);
    assert_non_null(nothing);
    rk_free(nothing);

    assert_null(rk_calloc(SIZE_MAX / 2, 4));
    assert_null(rk_realloc_array(NULL, SIZE_MAX / 2, 4));
}

static void test_copies(void **state)
{
    (void)state;
    char *text = rk_strdup("rukun");
    assert_string_equal(text, "rukun");
    rk_free(text);

    uint8_t *data = rk_memdup("a\0b", 3);
    assert_memory_equal(data, "a\0b", 3);
    rk_free(data);

    data = rk_memdup(NULL, 0);
    assert_non_null(data);
    rk_free(data);

    uint32_t *zeros = rk_calloc(4, sizeof(*zeros));
    for (int i = 0; i < 4; i++)
        assert_int_equal(zeros[i], 0);
    rk_free(zeros);
}

static void test_fails_once(void **state)
{
    (void)state;
    rk_alloc_fail(1, 0);
    void *first = rk_malloc(8);
    void *second = rk_malloc(8);
    void *third = rk_malloc(8);
    assert_non_null(first);
    assert_null(second);
    assert_non_null(third);
    rk_free(first);
    rk_free(third);
}

static void test_fails_for_ever(void **state)
{
    (void)state;
    char *old = rk_strdup("kept");
    rk_alloc_fail(0, 1);
    assert_null(rk_malloc(1));
    assert_null(rk_calloc(1, 1));
    assert_null(rk_realloc(old, 64));
    assert_null(rk_memdup("a", 1));
    assert_null(rk_strdup("a"));
    rk_alloc_fail(-1, 0);
    assert_string_equal(old, "kept");
    rk_free(old);
}

static void test_counts(void **state)
{
    (void)state;
    rk_alloc_take_count();
    rk_free(rk_malloc(1));
    rk_free(rk_strdup("a"));
    assert_int_equal(rk_alloc_take_count(), 2);
    assert_int_equal(rk_alloc_take_count(), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_sizes),      cmocka_unit_test(test_copies),
        cmocka_unit_test(test_fails_once), cmocka_unit_test(test_fails_for_ever),
        cmocka_unit_test(test_counts),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
