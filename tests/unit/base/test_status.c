#include "base/status.h"

#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>

#include <cmocka.h>
#include <string.h>

static const enum rk_status statuses[] = {
#define RK_STATUS(name, code, wire, http, retryable, title) RK_##name,
#include "base/status.def"
#undef RK_STATUS
};

enum { STATUS_COUNT = sizeof(statuses) / sizeof(statuses[0]) };

static void test_rows(void **state)
{
    (void)state;
    for (int i = 0; i < STATUS_COUNT; i++) {
        const struct rk_status_info *info = rk_status_info(statuses[i]);
        assert_int_equal(info->code, statuses[i]);
        assert_int_equal(statuses[i], -(i + 1));
        assert_int_equal(rk_status_of_wire(info->wire), statuses[i]);
        assert_in_range(info->http, 400, 507);
        assert_true(strlen(info->title) > 0 && info->name[0] == 'E');
        for (int j = 0; j < i; j++)
            assert_string_not_equal(info->wire, rk_status_info(statuses[j])->wire);
    }
}

/* Clients of older releases know these numbers. */
static void test_fixed_codes(void **state)
{
    (void)state;
    assert_int_equal(RK_EHELD, -7);
    assert_int_equal(RK_ENOTLEADER, -17);
    assert_int_equal(RK_ELOST, -38);
    assert_int_equal(rk_status_info(RK_EHELD)->http, 409);
    assert_true(rk_status_info(RK_EHELD)->is_retryable);
    assert_string_equal(rk_status_text(RK_ENOTOWNER), "not_owner");
}

static void test_outside_the_table(void **state)
{
    (void)state;
    assert_string_equal(rk_status_text(RK_OK), "ok");
    assert_int_equal(rk_status_of_wire("ok"), RK_OK);
    assert_int_equal(rk_status_of_wire("no such thing"), RK_EPROTO);
    assert_int_equal(rk_status_info((enum rk_status)(-STATUS_COUNT - 1))->http, 500);
    assert_int_equal(rk_status_info((enum rk_status)1)->http, 500);
    assert_int_equal(rk_status_info((enum rk_status)INT32_MIN)->http, 500);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_rows),
        cmocka_unit_test(test_fixed_codes),
        cmocka_unit_test(test_outside_the_table),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
