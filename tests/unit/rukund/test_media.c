#include "rukund/media.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

static enum rk_status body(uint8_t *encoding, const char *type, const char *origin,
                           const char *text)
{
    struct rk_media media;
    enum rk_status status =
        rk_media_of_body(&media, type, origin, rk_slice_of_string(text));
    *encoding = media.encoding;
    return status;
}

static void knows_bodies(void **state)
{
    static const struct {
        const char *type, *origin, *text;
        enum rk_status status;
        uint8_t encoding;
    } rows[] = {
        {"application/json", NULL, "x", RK_OK, RK_ENCODING_JSON},
        {"Application/JSON; charset=utf-8", "http://a", "{}", RK_OK, RK_ENCODING_JSON},
        {"application/vnd.msgpack", NULL, "", RK_OK, RK_ENCODING_MSGPACK},
        {"application/msgpack", NULL, "", RK_OK, RK_ENCODING_MSGPACK},
        {"application/x-msgpack", "http://a", "", RK_OK, RK_ENCODING_MSGPACK},
        {NULL, NULL, " \n{\"a\":1}", RK_OK, RK_ENCODING_JSON},
        {NULL, NULL, "", RK_OK, RK_ENCODING_JSON},
        {NULL, NULL, "[1]", RK_EMEDIA, RK_ENCODING_JSON},
        {NULL, "http://evil", "{}", RK_EMEDIA, RK_ENCODING_JSON},
        {"application/x-www-form-urlencoded", NULL, "{}", RK_OK, RK_ENCODING_JSON},
        {"application/x-www-form-urlencoded", NULL, "a=b", RK_EMEDIA, RK_ENCODING_JSON},
        {"application/x-www-form-urlencoded", "http://evil", "{}", RK_EMEDIA,
         RK_ENCODING_JSON},
        {"text/plain", NULL, "{}", RK_EMEDIA, RK_ENCODING_JSON},
        {"multipart/form-data; boundary=x", NULL, "{}", RK_EMEDIA, RK_ENCODING_JSON},
        {"application/jsonx", NULL, "{}", RK_EMEDIA, RK_ENCODING_JSON},
    };
    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        uint8_t encoding;
        assert_int_equal(body(&encoding, rows[i].type, rows[i].origin, rows[i].text),
                         rows[i].status);
        assert_int_equal(encoding, rows[i].encoding);
    }
}

static void knows_answers(void **state)
{
    static const struct {
        const char *accept;
        uint8_t asked;
        enum rk_status status;
        const char *type;
    } rows[] = {
        {NULL, RK_ENCODING_JSON, RK_OK, "application/json"},
        {"", RK_ENCODING_MSGPACK, RK_OK, "application/vnd.msgpack"},
        {"*/*", RK_ENCODING_MSGPACK, RK_OK, "application/vnd.msgpack"},
        {"application/*", RK_ENCODING_JSON, RK_OK, "application/json"},
        {"application/msgpack", RK_ENCODING_JSON, RK_OK, "application/msgpack"},
        {"application/json", RK_ENCODING_MSGPACK, RK_OK, "application/json"},
        {"application/json;q=0.5, application/x-msgpack;q=0.9", RK_ENCODING_JSON, RK_OK,
         "application/x-msgpack"},
        {"application/json, application/msgpack", RK_ENCODING_MSGPACK, RK_OK,
         "application/msgpack"},
        {"text/html, application/json;q=0.1", RK_ENCODING_MSGPACK, RK_OK,
         "application/json"},
        {"text/html,*/*;q=0.8", RK_ENCODING_JSON, RK_OK, "application/json"},
        {"text/html", RK_ENCODING_JSON, RK_ECONVERT, "application/json"},
        {"application/json;q=0", RK_ENCODING_JSON, RK_ECONVERT, "application/json"},
        {"application/problem+json", RK_ENCODING_JSON, RK_OK, "application/json"},
        {",;,;q=,,", RK_ENCODING_JSON, RK_ECONVERT, "application/json"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct rk_media out;
        assert_int_equal(rk_media_of_accept(&out, rows[i].accept,
                                            rows[i].asked == RK_ENCODING_JSON
                                                ? &rk_media_json
                                                : &rk_media_msgpack),
                         rows[i].status);
        assert_string_equal(out.type, rows[i].type);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(knows_bodies),
        cmocka_unit_test(knows_answers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
