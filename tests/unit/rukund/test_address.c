#include "rukund/address.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

static void parses_and_prints(void **state)
{
    static const char *const texts[] = {"127.0.0.1:7400", "[::1]:80", "host.example:1",
                                        ":0"};
    (void)state;
    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
        struct rk_address address;
        char out[RK_ADDRESS_MAX];
        assert_int_equal(rk_address_parse(&address, texts[i]), RK_OK);
        rk_address_print(out, &address);
        assert_string_equal(out, texts[i]);
    }
}

static void refuses_malformed(void **state)
{
    static const char *const texts[] = {"",      "host",      "host:",   "host:65536",
                                        "h:1x",  "::1:80",    "[::1]80", "[::1",
                                        "a b:1", "a,b:1",     "h:-1",    "h:+1",
                                        "h:1:2", "[::1]:1:2", "h: 1",    "h:123456"};
    (void)state;
    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
        struct rk_address address;
        assert_int_equal(rk_address_parse(&address, texts[i]), RK_EINVAL);
    }
}

static void knows_any_and_loopback(void **state)
{
    static const struct {
        const char *text;
        bool is_any, is_loopback;
    } rows[] = {
        {"0.0.0.0:1", true, false},   {"[::]:1", true, false},
        {":1", true, false},          {"*:1", true, false},
        {"127.0.0.1:1", false, true}, {"127.9.9.9:1", false, true},
        {"localhost:1", false, true}, {"[::1]:1", false, true},
        {"10.0.0.1:1", false, false}, {"example.com:1", false, false},
    };
    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct rk_address address;
        assert_int_equal(rk_address_parse(&address, rows[i].text), RK_OK);
        assert_int_equal(rk_address_is_any(&address), rows[i].is_any);
        assert_int_equal(rk_address_is_loopback(&address), rows[i].is_loopback);
    }
}

static void checks_node_names(void **state)
{
    char name[RK_NODE_NAME_MAX + 2];
    (void)state;
    assert_true(rk_node_name_is_valid("n1"));
    assert_true(rk_node_name_is_valid("A-b_c.9"));
    assert_false(rk_node_name_is_valid(""));
    assert_false(rk_node_name_is_valid("a b"));
    assert_false(rk_node_name_is_valid("a="));
    assert_false(rk_node_name_is_valid("n\xc3\xa4"));
    memset(name, 'x', sizeof(name));
    name[RK_NODE_NAME_MAX] = '\0';
    assert_true(rk_node_name_is_valid(name));
    name[RK_NODE_NAME_MAX] = 'x';
    name[RK_NODE_NAME_MAX + 1] = '\0';
    assert_false(rk_node_name_is_valid(name));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(parses_and_prints),
        cmocka_unit_test(refuses_malformed),
        cmocka_unit_test(knows_any_and_loopback),
        cmocka_unit_test(checks_node_names),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
