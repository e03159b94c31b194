#include "redis/url.h"

#include "base/alloc.h"

#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>

#include <cmocka.h>
#include <stdio.h>
#include <string.h>

static struct rk_redis_url parsed(const char *text)
{
    struct rk_redis_url url;
    struct rk_redis_error err = {""};
    enum rk_status status = rk_redis_url_parse(&url, text, &err);
    if (status != RK_OK) print_error("%s: %s\n", text, err.text);
    assert_int_equal(status, RK_OK);
    return url;
}

static void assert_prints(const char *text, const char *wanted)
{
    struct rk_redis_url url = parsed(text);
    char out[512];
    rk_redis_url_print(out, sizeof(out), &url);
    assert_string_equal(out, wanted);
    rk_redis_url_fini(&url);
}

static void test_single(void **state)
{
    (void)state;
    struct rk_redis_url url =
        parsed("redis://me:p%40ss%2f:x@example.org:7000/3?prefix=app%3A"
               "&timeout-ms=700&wait=2&wait-ms=50&check-ms=200");
    assert_int_equal(url.kind, RK_REDIS_SINGLE);
    assert_false(url.is_tls);
    assert_int_equal(url.address_count, 1);
    assert_string_equal(url.addresses[0].host, "example.org");
    assert_int_equal(url.addresses[0].port, 7000);
    assert_string_equal(url.user, "me");
    assert_string_equal(url.password, "p@ss/:x");
    assert_int_equal(url.db, 3);
    assert_string_equal(url.prefix, "app:");
    assert_int_equal(url.timeout_ms, 700);
    assert_int_equal(url.wait, 2);
    assert_int_equal(url.wait_ms, 50);
    assert_int_equal(url.check_ms, 200);
    rk_redis_url_fini(&url);
    rk_redis_url_fini(&url);
}

static void test_defaults(void **state)
{
    (void)state;
    struct rk_redis_url url = parsed("redis://localhost");
    assert_int_equal(url.addresses[0].port, RK_REDIS_PORT);
    assert_string_equal(url.user, "");
    assert_string_equal(url.password, "");
    assert_string_equal(url.prefix, "");
    assert_int_equal(url.db, 0);
    assert_int_equal(url.timeout_ms, RK_REDIS_TIMEOUT_MS);
    assert_int_equal(url.wait, 0);
    assert_int_equal(url.wait_ms, RK_REDIS_WAIT_MS);
    assert_false(url.is_insecure);
    rk_redis_url_fini(&url);
    url = parsed("redis://h/");
    assert_int_equal(url.db, 0);
    rk_redis_url_fini(&url);
    /* The last @ ends what is before the host. */
    url = parsed("redis://:a@b@h");
    assert_string_equal(url.user, "");
    assert_string_equal(url.password, "a@b");
    rk_redis_url_fini(&url);
}

static void test_tls(void **state)
{
    (void)state;
    struct rk_redis_url url = parsed(
        "rediss://[::1]:6380?ca=/etc/ca.pem&cert=c.pem&key=k.pem&server-name=r.example");
    assert_true(url.is_tls);
    assert_string_equal(url.addresses[0].host, "::1");
    assert_int_equal(url.addresses[0].port, 6380);
    assert_string_equal(url.ca, "/etc/ca.pem");
    assert_string_equal(url.cert, "c.pem");
    assert_string_equal(url.key, "k.pem");
    assert_string_equal(url.server_name, "r.example");
    rk_redis_url_fini(&url);
    url = parsed("rediss+cluster://h?insecure=1");
    assert_true(url.is_insecure);
    rk_redis_url_fini(&url);
}

static void test_groups(void **state)
{
    (void)state;
    struct rk_redis_url url = parsed("redis+sentinel://u:p@a,b:1,[fe80::2]/my%2dmaster/2"
                                     "?sentinel-user=s&sentinel-password=t");
    assert_int_equal(url.kind, RK_REDIS_SENTINEL);
    assert_int_equal(url.address_count, 3);
    assert_int_equal(url.addresses[0].port, RK_REDIS_SENTINEL_PORT);
    assert_int_equal(url.addresses[1].port, 1);
    assert_string_equal(url.addresses[2].host, "fe80::2");
    assert_string_equal(url.master, "my-master");
    assert_int_equal(url.db, 2);
    assert_string_equal(url.sentinel_user, "s");
    assert_string_equal(url.sentinel_password, "t");
    rk_redis_url_fini(&url);
    url = parsed("redis+cluster://a:1,b:2/0");
    assert_int_equal(url.kind, RK_REDIS_CLUSTER);
    assert_int_equal(url.address_count, 2);
    rk_redis_url_fini(&url);
}

static void test_printed_without_secrets(void **state)
{
    (void)state;
    assert_prints("redis://u:secret@h:1/2?prefix=x", "redis://u:***@h:1/2");
    assert_prints("redis://:secret@h", "redis://:***@h:6379");
    assert_prints("rediss+cluster://u@[::1],b", "rediss+cluster://u@[::1]:6379,b:6379");
    assert_prints("redis+sentinel://a/m?sentinel-password=secret",
                  "redis+sentinel://a:26379/m");
    struct rk_redis_url url = parsed("redis://u:secret@h:1/2");
    char out[12];
    rk_redis_url_print(out, sizeof(out), &url);
    assert_string_equal(out, "redis://u:*");
    rk_redis_url_fini(&url);
}

static void test_refused(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        const char *begins; /* the error, which names the part */
    } cases[] = {
        {"", "scheme: "},
        {"http://h", "scheme: "},
        {"redis:/h", "scheme: "},
        {"redis+sentinels://h/m", "scheme: "},
        {"redis://", "host: missing"},
        {"redis://:6379", "host: missing"},
        {"redis://u@", "host: missing"},
        {"redis+cluster://a,,b", "host: missing"},
        {"redis+cluster://a,", "host: missing"},
        {"redis://a,b", "host: one only"},
        {"redis://::1", "host: an IPv6 address needs brackets"},
        {"redis://[::1", "host: [ without ]"},
        {"redis://[::1]6", "host: only a port may follow ]"},
        {"redis://a b", "host: holds a character"},
        {"redis://a%00b", "host: holds a control character"},
        {"redis://h:", "port: missing after :"},
        {"redis://[::1]:", "port: missing after :"},
        {"redis://h:0", "port: must be a number from 1 to 65535"},
        {"redis://h:65536", "port: must be"},
        {"redis://h:x", "port: must be"},
        {"redis://h:99999999999", "port: must be"},
        {"redis://h:1:2", "host: an IPv6"},
        {"redis://u:s%4@h", "password: % without"},
        {"redis://u%zz:s@h", "user: % without"},
        {"redis://u:s%0a@h", "password: holds a control character"},
        {"redis://h/x", "db: must be a number from 0 to 65535"},
        {"redis://h/-1", "db: must be"},
        {"redis://h/1/2", "db: must be"},
        {"redis+cluster://h/1", "db: must be a number from 0 to 0"},
        {"redis+sentinel://h", "path: must name the master"},
        {"redis+sentinel://h//0", "path: must name the master"},
        {"redis+sentinel://h/m/x", "db: must be"},
        {"redis://h?", NULL},
        {"redis://h?prefix", "prefix: has no value"},
        {"redis://h?prefixes=1", "prefixes: no such parameter; there are: prefix, "},
        {"redis://h?wait=1&wait=1", "wait: given twice"},
        {"redis://h?wait=17", "wait: must be a number from 0 to 16"},
        {"redis://h?wait-ms=0", "wait-ms: must be"},
        {"redis://h?check-ms=99", "check-ms: must be a number from 100 to 600000"},
        {"redis://h?timeout-ms=9", "timeout-ms: must be a number from 10 to 600000"},
        {"redis://h?timeout-ms=1s", "timeout-ms: must be"},
        {"redis://h?prefix=a{b}", "prefix: must not hold { or }"},
        {"redis://h?ca=f", "ca: needs a URL with rediss"},
        {"redis://h?insecure=1", "insecure: needs a URL with rediss"},
        {"rediss://h?insecure=2", "insecure: must be a number from 0 to 1"},
        {"rediss://h?insecure=1&ca=f", "insecure: looks at no certificate"},
        {"rediss://h?cert=f", "cert, key: both or neither"},
        {"rediss://h?key=f", "cert, key: both or neither"},
        {"rediss://h?ca=", "ca: must have 1 to"},
        {"redis://h?sentinel-user=u", "sentinel-user: needs a URL with redis+sentinel"},
        {"redis://h#x", "URL: # has no meaning"},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct rk_redis_url url;
        struct rk_redis_error err = {""};
        enum rk_status status = rk_redis_url_parse(&url, cases[i].text, &err);
        if (cases[i].begins == NULL) {
            assert_int_equal(status, RK_OK);
            rk_redis_url_fini(&url);
            continue;
        }
        if (status != RK_EINVAL ||
            strncmp(err.text, cases[i].begins, strlen(cases[i].begins)) != 0)
            fail_msg("%s: status %d, \"%s\"", cases[i].text, (int)status, err.text);
        assert_int_equal(rk_redis_url_parse(&url, cases[i].text, NULL), RK_EINVAL);
    }
}

static void test_bounds(void **state)
{
    (void)state;
    static char text[8192];
    struct rk_redis_url url;
    struct rk_redis_error err;
    (void)snprintf(text, sizeof(text), "redis://%0256d", 0);
    assert_int_equal(rk_redis_url_parse(&url, text, &err), RK_EINVAL);
    assert_string_equal(err.text, "host: over 255 bytes");
    (void)snprintf(text, sizeof(text), "redis://h?prefix=%0129d", 0);
    assert_int_equal(rk_redis_url_parse(&url, text, &err), RK_EINVAL);
    assert_string_equal(err.text, "prefix: must have 0 to 128 bytes");
    (void)snprintf(text, sizeof(text), "redis://h?prefix=%05000d", 0);
    assert_int_equal(rk_redis_url_parse(&url, text, &err), RK_EINVAL);
    assert_string_equal(err.text, "URL: over 4096 bytes");
    (void)snprintf(text, sizeof(text), "redis+cluster://a");
    for (int i = 1; i < RK_REDIS_ADDRESSES_MAX; i++)
        (void)snprintf(text + strlen(text), 3, ",a");
    struct rk_redis_url most = parsed(text);
    assert_int_equal(most.address_count, RK_REDIS_ADDRESSES_MAX);
    rk_redis_url_fini(&most);
    (void)snprintf(text + strlen(text), 3, ",a");
    assert_int_equal(rk_redis_url_parse(&url, text, &err), RK_EINVAL);
    assert_string_equal(err.text, "host: more than 32 of them");
}

static void test_without_memory(void **state)
{
    (void)state;
    static char text[4096];
    (void)snprintf(text, sizeof(text),
                   "redis+sentinel://u:p@a,b,c/m/2?prefix=%0100d&sentinel-password=%03000d",
                   1, 2);
    int64_t after = 0;
    for (;; after++) {
        struct rk_redis_url url;
        rk_alloc_fail(after, 1);
        enum rk_status status = rk_redis_url_parse(&url, text, NULL);
        rk_alloc_fail(-1, 0);
        if (status == RK_OK) {
            rk_redis_url_fini(&url);
            break;
        }
        assert_int_equal(status, RK_ENOMEM);
    }
    assert_true(after > 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_single),
        cmocka_unit_test(test_defaults),
        cmocka_unit_test(test_tls),
        cmocka_unit_test(test_groups),
        cmocka_unit_test(test_printed_without_secrets),
        cmocka_unit_test(test_refused),
        cmocka_unit_test(test_bounds),
        cmocka_unit_test(test_without_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
