#include "base/hash.h"

#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>

#include <cmocka.h>

/* Slots and snapshots depend on these numbers: they may never change. */
static void test_fixed_values(void **state)
{
    (void)state;
    assert_int_equal(rk_hash(RK_SLICE_EMPTY), UINT64_C(0x2d06800538d394c2));
    assert_int_equal(rk_hash(RK_SLICE_LITERAL("a")), UINT64_C(0xe6c632b61e964e1f));
    assert_int_equal(rk_hash(RK_SLICE_LITERAL("abc")), UINT64_C(0x78af5f94892f3950));
}

static void test_seed_and_mix(void **state)
{
    (void)state;
    struct rk_slice data = RK_SLICE_LITERAL("orders/42");
    assert_int_equal(rk_hash_seeded(data, 0), rk_hash(data));
    assert_int_not_equal(rk_hash_seeded(data, 1), rk_hash(data));
    uint64_t one_two = rk_hash_mix(rk_hash_mix(0, 1), 2);
    uint64_t two_one = rk_hash_mix(rk_hash_mix(0, 2), 1);
    assert_int_not_equal(one_two, two_one);
    assert_int_not_equal(rk_hash_mix(0, 0), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_fixed_values),
        cmocka_unit_test(test_seed_and_mix),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
