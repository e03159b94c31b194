#include "base/random.h"

#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>

#include <cmocka.h>

/* The first numbers of splitmix64 with seed 1234567, as published with the algorithm. */
static void test_known_numbers(void **state)
{
    (void)state;
    static const uint64_t expected[] = {
        UINT64_C(6457827717110365317),  UINT64_C(3203168211198807973),
        UINT64_C(9817491932198370423),  UINT64_C(4593380528125082431),
        UINT64_C(16408922859458223821),
    };
    struct rk_random random;
    rk_random_init(&random, 1234567);
    for (size_t i = 0; i < sizeof(expected) / sizeof(expected[0]); i++)
        assert_int_equal(rk_random_next(&random), expected[i]);
}

static void test_below_is_even(void **state)
{
    (void)state;
    struct rk_random random;
    int counts[7] = {0};
    rk_random_init(&random, 3);
    for (int i = 0; i < 70000; i++) {
        uint64_t value = rk_random_below(&random, 7);
        assert_true(value < 7);
        counts[value]++;
    }
    for (int i = 0; i < 7; i++)
        assert_in_range(counts[i], 9500, 10500);
    assert_int_equal(rk_random_below(&random, 1), 0);
    for (int i = 0; i < 100; i++)
        assert_true(rk_random_below(&random, (UINT64_C(1) << 63) + 1) <= UINT64_C(1) << 63);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_known_numbers),
        cmocka_unit_test(test_below_is_even),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
