#include "redis/names.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

static void check_escaped(const char *name, const char *expected)
{
    struct rk_buf out;
    rk_buf_init(&out);
    rk_redis_name_escape(&out, rk_slice_of_string(name));
    assert_true(rk_slice_is_equal(rk_buf_slice(&out), rk_slice_of_string(expected)));
    struct rk_buf back;
    rk_buf_init(&back);
    assert_int_equal(rk_redis_name_unescape(&back, rk_buf_slice(&out)), RK_OK);
    assert_true(rk_slice_is_equal(rk_buf_slice(&back), rk_slice_of_string(name)));
    rk_buf_fini(&back);
    rk_buf_fini(&out);
}

static void test_escape(void **state)
{
    (void)state;
    check_escaped("", "");
    check_escaped("orders/42", "orders/42");
    check_escaped("a{tag}b", "a%7Btag%7Db");
    check_escaped("50%:x", "50%25%3Ax");
    check_escaped("\xc3\xa9", "\xc3\xa9");
}

static void test_unescape_takes_nothing_else(void **state)
{
    static const char *const bad[] = {"%", "%2",  "%7b", "a:b", "{",
                                      "}", "%41", "%zz", "x%"};
    struct rk_buf out;
    (void)state;
    rk_buf_init(&out);
    rk_buf_append_string(&out, "kept");
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        assert_int_equal(rk_redis_name_unescape(&out, rk_slice_of_string(bad[i])),
                         RK_EINVAL);
        assert_int_equal(out.size, 4);
    }
    rk_buf_fini(&out);
}

static void test_pattern(void **state)
{
    struct rk_buf out;
    (void)state;
    rk_buf_init(&out);
    rk_redis_name_pattern(&out, rk_slice_of_string("a*b?[c]\\{"));
    assert_true(rk_slice_is_equal(rk_buf_slice(&out),
                                  rk_slice_of_string("a\\*b\\?\\[c\\]\\\\%7B")));
    rk_buf_fini(&out);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_escape),
        cmocka_unit_test(test_unescape_takes_nothing_else),
        cmocka_unit_test(test_pattern),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
