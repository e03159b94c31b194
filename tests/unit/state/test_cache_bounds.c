/* How caches stay within their bounds, and what they keep. */
#include "cache_bench.h"

#include "state/caches.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

enum { VALUE_SIZE = 1000 };

static void put_sized(struct bench *bench, const char *key, size_t size)
{
    char *value = calloc(1, size + 1);
    assert_non_null(value);
    memset(value, '1', size);
    c_put(bench, key, value);
    free(value);
}

static void fill_cache(struct bench *bench, const char *prefix, int count)
{
    for (int i = 0; i < count; i++) {
        char key[32];
        snprintf(key, sizeof(key), "%s%d", prefix, i);
        put_sized(bench, key, VALUE_SIZE);
    }
}

static void test_stays_within_its_bound(void **state)
{
    struct bench *bench = *state;
    c_configure(bench, 200000, NULL);
    bench_forget_events(bench);
    for (int i = 0; i < 1500; i++) {
        char key[32];
        snprintf(key, sizeof(key), "k%d", i);
        put_sized(bench, key, VALUE_SIZE);
        assert_true(c_stats(bench).bytes <= 200000);
    }
    struct rk_cache_stats now = c_stats(bench);
    assert_true(now.bytes > 190000);
    assert_int_equal(now.entries + now.evicted, 1500);
    assert_int_equal(bench_count_events(bench, RK_EVENT_INVALIDATE, "default"),
                     1500 + now.evicted);
    bench_restore(bench);
    assert_int_equal(c_stats(bench).bytes, now.bytes);
    c_configure(bench, 100000, NULL);
    assert_true(c_stats(bench).bytes <= 100000);
}

static void test_too_large_entry_is_refused(void **state)
{
    struct bench *bench = *state;
    c_configure(bench, 80000, NULL);
    fill_cache(bench, "k", 30);
    uint64_t entries = c_stats(bench).entries;
    static char value[10000];
    memset(value, '1', sizeof(value) - 1);
    struct rk_request request = c_put_request("big", value);
    assert_int_equal(bench_call(bench, &request)->status, RK_ESIZE);
    value[9000] = '\0';
    request = c_put_request("big", value);
    assert_int_equal(bench_call(bench, &request)->status, RK_OK);
    assert_true(c_stats(bench).entries > entries - 10);
    c_expect(bench, "big", value);
}

static int count_found(struct bench *bench, const char *prefix, int count)
{
    int found = 0;
    for (int i = 0; i < count; i++) {
        char key[32];
        snprintf(key, sizeof(key), "%s%d", prefix, i);
        found += c_get(bench, key)->found;
    }
    return found;
}

/* What is read stays while a scan passes through; reads count through touch entries only.
 */
static void scan_resistance(struct bench *bench, const char *policy)
{
    c_configure(bench, 200000, policy);
    fill_cache(bench, "hot", 50);
    for (int round = 0; round < 20; round++) {
        assert_int_equal(count_found(bench, "hot", 50), 50);
        c_touch(bench);
        char prefix[16];
        snprintf(prefix, sizeof(prefix), "scan%d/", round);
        fill_cache(bench, prefix, 60);
        if (round % 5 == 0) bench_restore(bench);
    }
}

static void test_s3fifo_keeps_what_is_read(void **state)
{
    scan_resistance(*state, "s3fifo");
}

static void test_lru_keeps_what_is_read(void **state)
{
    scan_resistance(*state, "lru");
}

static void test_evicted_and_asked_again_goes_to_main(void **state)
{
    struct bench *bench = *state;
    c_configure(bench, 200000, NULL);
    fill_cache(bench, "a", 300);
    c_expect(bench, "a150", NULL);
    bench_restore(bench); /* the ghosts are state */
    put_sized(bench, "a150", VALUE_SIZE);
    fill_cache(bench, "b", 200);
    assert_true(c_get(bench, "a150")->found);
}

/* So many evictions later the old ones do not count, the late ones do. */
static void test_evictions_long_ago_are_forgotten(void **state)
{
    struct bench *bench = *state;
    c_configure(bench, 200000, NULL);
    fill_cache(bench, "a", 300);
    fill_cache(bench, "b", RK_CACHE_GHOSTS + 100);
    bench_restore(bench);
    put_sized(bench, "a150", VALUE_SIZE);
    put_sized(bench, "b8000", VALUE_SIZE);
    fill_cache(bench, "c", 200);
    assert_false(c_get(bench, "a150")->found);
    assert_true(c_get(bench, "b8000")->found);
}

static void test_recency_of_one_cache_does_not_hide_anothers(void **state)
{
    struct bench *bench = *state;
    c_configure(bench, 65536, NULL);
    fill_cache(bench, "k", 30);
    struct rk_request request = c_put_request("x", "1");
    request.cache = text_slice("other");
    RK_SET(&request, CACHE);
    char value[6000];
    memset(value, '1', sizeof(value));
    request.value.bytes = rk_slice_of(value, sizeof(value));
    struct rk_request small = {
        .op = RK_OP_CACHE_CONFIGURE, .cache = text_slice("other"), .bytes_max = 65536};
    RK_SET(&small, CACHE);
    RK_SET(&small, BYTES_MAX);
    bench_call(bench, &small);
    const char *keys[] = {"x", "y", "z"};
    for (int i = 0; i < 3; i++) {
        request.key = text_slice(keys[i]);
        bench_call(bench, &request);
    }
    c_get(bench, "k29");
    struct rk_request get = c_key_request(RK_OP_CACHE_GET, "x");
    get.cache = text_slice("other");
    bench_query(bench, &get);
    c_delete_key(bench, "k29");
    assert_int_equal(c_touch(bench), 1);
}

static void test_batches_of_recency_are_bounded(void **state)
{
    struct bench *bench = *state;
    c_configure(bench, 200000, NULL);
    struct rk_buf buf;
    rk_buf_init(&buf);
    c_put(bench, "first", "1");
    c_get(bench, "first");
    assert_false(rk_machine_touch_take(bench->machine, &buf)); /* nothing will be evicted */
    fill_cache(bench, "k", 140);
    for (int round = 0; round < 10; round++)
        count_found(bench, "k", 140);
    assert_true(rk_machine_touch_take(bench->machine, &buf));
    assert_in_range(buf.size, 100, RK_CACHE_SAMPLES_MAX * 40);
    assert_false(rk_machine_touch_take(bench->machine, &buf));
    for (int round = 0; round < 5; round++) {
        count_found(bench, "k", 140);
        c_touch(bench);
    }
    count_found(bench, "k", 140);
    assert_false(rk_machine_touch_take(bench->machine, &buf)); /* counters are full */
    fill_cache(bench, "n", 5);
    count_found(bench, "n", 5);
    struct rk_request request = {.op = RK_OP_CACHE_INVALIDATE};
    bench_call(bench, &request);
    assert_false(rk_machine_touch_take(bench->machine, &buf)); /* gone with the entries */
    rk_buf_fini(&buf);
}

static void test_default_ttl_and_bad_policy(void **state)
{
    struct bench *bench = *state;
    struct rk_request request = {.op = RK_OP_CACHE_CONFIGURE, .ttl_ms = 1000};
    RK_SET(&request, TTL_MS);
    assert_int_equal(bench_call(bench, &request)->status, RK_OK);
    c_put(bench, "a", "1");
    bench_pass(bench, 1000);
    c_expect(bench, "a", NULL);
    request.policy = text_slice("mru");
    RK_SET(&request, POLICY);
    assert_int_equal(bench_call(bench, &request)->status, RK_ERANGE);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        CACHE_TEST(test_stays_within_its_bound),
        CACHE_TEST(test_too_large_entry_is_refused),
        CACHE_TEST(test_s3fifo_keeps_what_is_read),
        CACHE_TEST(test_lru_keeps_what_is_read),
        CACHE_TEST(test_evicted_and_asked_again_goes_to_main),
        CACHE_TEST(test_evictions_long_ago_are_forgotten),
        CACHE_TEST(test_recency_of_one_cache_does_not_hide_anothers),
        CACHE_TEST(test_batches_of_recency_are_bounded),
        CACHE_TEST(test_default_ttl_and_bad_policy),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
