#include "body.h"

#include "api/out.h"

static int set_up(void **state)
{
    struct rk_arena *arena = calloc(1, sizeof(*arena));
    rk_arena_init(arena);
    *state = arena;
    return 0;
}

static int tear_down(void **state)
{
    rk_arena_fini(*state);
    free(*state);
    return 0;
}

/* JSON text and msgpack that stand for each other, both ways. */
static void test_json_and_msgpack(void **state)
{
    static const struct {
        const char *json;
        const char *hex;
    } cases[] = {
        {"null", "c0"},
        {"true", "c3"},
        {"false", "c2"},
        {"0", "00"},
        {"127", "7f"},
        {"128", "cc80"},
        {"256", "cd0100"},
        {"65536", "ce00010000"},
        {"4294967296", "cf0000000100000000"},
        {"9223372036854775807", "cf7fffffffffffffff"},
        {"-1", "ff"},
        {"-32", "e0"},
        {"-33", "d0df"},
        {"-129", "d1ff7f"},
        {"-32769", "d2ffff7fff"},
        {"-2147483649", "d3ffffffff7fffffff"},
        {"-9223372036854775808", "d38000000000000000"},
        {"1.5", "cb3ff8000000000000"},
        {"1.0", "cb3ff0000000000000"},
        {"0.1", "cb3fb999999999999a"},
        {"-0.0", "cb8000000000000000"},
        {"1e+300", "cb7e37e43c8800759c"},
        {"\"\"", "a0"},
        {"\"\xc3\xa9\\n\\\"\\\\\\u0001\"", "a6c3a90a225c01"},
        {"\"a\\u0000b\"", "a3610062"},
        {"[]", "90"},
        {"{}", "80"},
        {"[1,[2,{\"a\":null}]]", "9201920281a161c0"},
        {"{\"b\":1,\"a\":2}", "82a16201a16102"},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct rk_value json = {rk_slice_of_string(cases[i].json), RK_ENCODING_JSON};
        struct rk_value msgpack = {body_unhex(cases[i].hex, *state), RK_ENCODING_MSGPACK};
        struct rk_value out;
        assert_int_equal(rk_value_convert(&out, json, RK_ENCODING_MSGPACK, *state), RK_OK);
        assert_string_equal(body_hex(out.bytes, *state), cases[i].hex);
        assert_int_equal(rk_value_convert(&out, msgpack, RK_ENCODING_JSON, *state), RK_OK);
        if (!rk_slice_is_equal(out.bytes, json.bytes))
            fail_msg("%s became %.*s", cases[i].json, (int)out.bytes.size, out.bytes.data);
    }
}

static void test_one_way(void **state)
{
    static const struct {
        const char *hex;
        const char *json;
    } cases[] = {
        {"cfffffffffffffffff", "18446744073709551615"}, /* uint64 is kept */
        {"ca3fc00000", "1.5"},                          /* float32 */
        {"d900", "\"\""},
        {"da0001"
         "61",
         "\"a\""},
        {"dc000101", "[1]"},
        {"df00000001a16101", "{\"a\":1}"},
        {"c403616263", "\"YWJj\""}, /* binary at the top: base64 */
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct rk_value in = {body_unhex(cases[i].hex, *state), RK_ENCODING_MSGPACK}, out;
        assert_int_equal(rk_value_convert(&out, in, RK_ENCODING_JSON, *state), RK_OK);
        if (!rk_slice_is_equal(out.bytes, rk_slice_of_string(cases[i].json)))
            fail_msg("%s became %.*s", cases[i].hex, (int)out.bytes.size, out.bytes.data);
    }
}

static void test_no_such_form(void **state)
{
    static const struct {
        const char *hex;
        const char *place;
    } cases[] = {
        {"cb7ff8000000000000", ": not a finite number"},
        {"92c0cb7ff0000000000000", "[1]: not a finite number"},
        {"81a16191c40100", ".a[0]: binary within a value"},
        {"81a161d40100", ".a: a msgpack extension"},
        {"810102", ": a key is not a string"},
        {"9181c0c0", "[0]: a key is not a string"},
        {"a1ff", ": not UTF-8"},
        {"81a1ff01", ": a key is not UTF-8"},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct rk_value in = {body_unhex(cases[i].hex, *state), RK_ENCODING_MSGPACK}, out;
        assert_int_equal(rk_value_convert(&out, in, RK_ENCODING_JSON, *state), RK_ECONVERT);
        struct rk_buf buf;
        rk_buf_init(&buf);
        struct rk_out writer = {.buf = &buf, .arena = *state};
        char place[96];
        assert_int_equal(rk_value_write(&writer, in, place, sizeof(place)), RK_ECONVERT);
        assert_string_equal(place, cases[i].place);
        rk_buf_fini(&buf);
    }
    struct rk_value json = {RK_SLICE_LITERAL("[1,"), RK_ENCODING_JSON}, out;
    assert_int_equal(rk_value_convert(&out, json, RK_ENCODING_MSGPACK, *state),
                     RK_ECONVERT);
}

static void test_long_paths_are_cut(void **state)
{
    struct rk_buf bytes;
    rk_buf_init(&bytes);
    for (int i = 0; i < 20; i++)
        rk_buf_append(&bytes, "\x81\xa8longname", 10);
    rk_buf_append(&bytes, "\xd4\x01\x00", 3);
    struct rk_buf buf;
    rk_buf_init(&buf);
    struct rk_out writer = {.buf = &buf, .arena = *state};
    char place[32];
    struct rk_value in = {rk_buf_slice(&bytes), RK_ENCODING_MSGPACK};
    assert_int_equal(rk_value_write(&writer, in, place, sizeof(place)), RK_ECONVERT);
    assert_true(strlen(place) < sizeof(place));
    rk_buf_fini(&buf);
    rk_buf_fini(&bytes);
}

static void test_raw(void **state)
{
    struct rk_value raw = {RK_SLICE_LITERAL("a\xff"), RK_ENCODING_RAW}, out;
    assert_int_equal(rk_value_convert(&out, raw, RK_ENCODING_MSGPACK, *state), RK_OK);
    assert_string_equal(body_hex(out.bytes, *state), "c40261ff");
    assert_int_equal(rk_value_convert(&out, out, RK_ENCODING_RAW, *state), RK_OK);
    assert_true(rk_slice_is_equal(out.bytes, raw.bytes));
    assert_int_equal(rk_value_convert(&out, raw, RK_ENCODING_JSON, *state), RK_OK);
    assert_memory_equal(out.bytes.data, "\"Yf8=\"", 6);
    struct rk_value json = {RK_SLICE_LITERAL("[1]"), RK_ENCODING_JSON};
    assert_int_equal(rk_value_convert(&out, json, RK_ENCODING_RAW, *state), RK_OK);
    assert_true(rk_slice_is_equal(out.bytes, json.bytes));
}

static void test_base64(void **state)
{
    static const char *const pairs[][2] = {{"", ""},
                                           {"f", "Zg=="},
                                           {"fo", "Zm8="},
                                           {"foo", "Zm9v"},
                                           {"foob", "Zm9vYg=="},
                                           {"fooba", "Zm9vYmE="},
                                           {"foobar", "Zm9vYmFy"}};
    for (size_t i = 0; i < sizeof(pairs) / sizeof(pairs[0]); i++) {
        struct rk_buf buf;
        struct rk_slice back;
        rk_buf_init(&buf);
        rk_base64_write(&buf, rk_slice_of_string(pairs[i][0]));
        assert_true(rk_slice_is_equal(rk_buf_slice(&buf), rk_slice_of_string(pairs[i][1])));
        assert_int_equal(rk_base64_decode(&back, rk_buf_slice(&buf), *state), RK_OK);
        assert_true(rk_slice_is_equal(back, rk_slice_of_string(pairs[i][0])));
        rk_buf_fini(&buf);
    }
    static const char *const bad[] = {"Z",    "Zg",   "Zg=",      "Zg= ", "====", "Z===",
                                      "Zh==", "Zm9=", "Zg==Zg==", "Z-8=", "=g=="};
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        struct rk_slice back;
        assert_int_equal(rk_base64_decode(&back, rk_slice_of_string(bad[i]), *state),
                         RK_EINVAL);
    }
}

static void test_positions(void **state)
{
    static const char *const good[] = {"1:", "1f:0=5",
                                       "ffffffffffffffff:0=0,8=18446744073709551615"};
    for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
        struct rk_position position;
        struct rk_buf buf;
        rk_buf_init(&buf);
        assert_int_equal(rk_position_parse(&position, rk_slice_of_string(good[i]), *state),
                         RK_OK);
        rk_position_print(&buf, &position);
        assert_true(rk_slice_is_equal(rk_buf_slice(&buf), rk_slice_of_string(good[i])));
        rk_buf_fini(&buf);
    }
    struct rk_position none;
    assert_int_equal(rk_position_parse(&none, RK_SLICE_EMPTY, *state), RK_OK);
    assert_true(none.history == 0);
    static const char *const bad[] = {"0:0=1",
                                      ":0=1",
                                      "1",
                                      "1f:0",
                                      "1f:0=",
                                      "1f:0=1,",
                                      "1f:,0=1",
                                      "1f:0=1;",
                                      "1F:0=1",
                                      "1f:a=1",
                                      "1f:0=1 ",
                                      "10000000000000000:0=1",
                                      "1f:4294967296=1",
                                      "1f:0=18446744073709551616",
                                      "1f:=="};
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        struct rk_position position;
        if (rk_position_parse(&position, rk_slice_of_string(bad[i]), *state) != RK_EINVAL)
            fail_msg("%s was taken", bad[i]);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_json_and_msgpack, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_one_way, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_no_such_form, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_long_paths_are_cut, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_raw, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_base64, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_positions, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
