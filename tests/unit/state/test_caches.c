/* What caches promise, one rule a test. */
#include "cache_bench.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

static void test_put_get_delete(void **state)
{
    struct bench *bench = *state;
    c_expect(bench, "a", NULL);
    uint64_t version = c_put(bench, "a", "1");
    assert_int_equal(version, rk_machine_index(bench->machine));
    c_expect(bench, "a", "1");
    assert_int_equal(c_get(bench, "a")->version, version);
    c_put(bench, "a", "{\"x\":[1,2]}");
    c_expect(bench, "a", "{\"x\":[1,2]}");
    bench_restore(bench);
    c_expect(bench, "a", "{\"x\":[1,2]}");
    struct rk_reply reply = c_delete_key(bench, "a");
    assert_true(reply.deleted);
    c_expect(bench, "a", NULL);
    reply = c_delete_key(bench, "a");
    assert_int_equal(reply.status, RK_OK);
    assert_false(reply.deleted);
    assert_int_equal(c_stats(bench).entries, 0);
    assert_int_equal(c_stats(bench).bytes, 0);
}

/* A version never comes again, whatever was deleted between. */
static void test_versions_only_grow(void **state)
{
    struct bench *bench = *state;
    uint64_t last = 0;
    for (int i = 0; i < 5; i++) {
        uint64_t version = c_put(bench, "a", "1");
        assert_true(version > last);
        struct rk_reply reply = c_delete_key(bench, "a");
        assert_true(reply.version > version);
        last = reply.version;
        bench_restore(bench);
    }
}

static enum rk_status put_if(struct bench *bench, const char *key, uint64_t version)
{
    struct rk_request request = c_put_request(key, "9");
    request.if_version = version;
    RK_SET(&request, IF_VERSION);
    return bench_call(bench, &request)->status;
}

static void test_compare_and_swap(void **state)
{
    struct bench *bench = *state;
    uint64_t version = c_put(bench, "a", "1");
    assert_int_equal(put_if(bench, "a", version + 1), RK_EVERSION);
    assert_int_equal(bench->reply.version, version);
    assert_int_equal(put_if(bench, "a", version), RK_OK);
    assert_int_equal(put_if(bench, "a", version), RK_EVERSION);
    assert_int_equal(put_if(bench, "a", 0), RK_EVERSION);
    assert_int_equal(put_if(bench, "b", 5), RK_EVERSION);
    assert_int_equal(put_if(bench, "b", 0), RK_OK);
    c_expect(bench, "b", "9");
    struct rk_request request = c_put_request("b", "7");
    request.if_absent = true;
    RK_SET(&request, IF_ABSENT);
    assert_int_equal(bench_call(bench, &request)->status, RK_EEXIST);
    c_delete_key(bench, "b");
    assert_int_equal(bench_call(bench, &request)->status, RK_OK);
}

static void test_delete_if_version(void **state)
{
    struct bench *bench = *state;
    uint64_t a = c_put(bench, "a", "1");
    c_put(bench, "b", "1");
    struct rk_slice keys[3] = {text_slice("a"), text_slice("b"), text_slice("c")};
    struct rk_request request = {
        .op = RK_OP_CACHE_DELETE, .keys = {keys, 3}, .is_bulk = true, .if_version = a};
    RK_SET(&request, KEYS);
    RK_SET(&request, IF_VERSION);
    const struct rk_reply *reply = bench_call(bench, &request);
    assert_int_equal(reply->result_count, 3);
    assert_int_equal(reply->results[0].status, RK_OK);
    assert_true(reply->results[0].deleted);
    assert_int_equal(reply->results[1].status, RK_EVERSION);
    assert_int_equal(reply->results[2].status, RK_EVERSION);
    c_expect(bench, "a", NULL);
    c_expect(bench, "b", "1");
    request.is_bulk = false;
    request.keys = (struct rk_strings){NULL, 0};
    request.present &= ~(uint64_t)RK_FIELD_BIT_KEYS;
    request.key = text_slice("b");
    RK_SET(&request, KEY);
    assert_int_equal(bench_call(bench, &request)->status, RK_EVERSION);
    c_expect(bench, "b", "1");
}

static void test_hard_and_soft_ttl(void **state)
{
    struct bench *bench = *state;
    struct rk_request request = c_put_request("a", "1");
    request.ttl_ms = 1000;
    request.soft_ttl_ms = 400;
    RK_SET(&request, TTL_MS);
    RK_SET(&request, SOFT_TTL_MS);
    assert_int_equal(bench_call(bench, &request)->status, RK_OK);
    bench_pass(bench, 399);
    assert_false(c_get(bench, "a")->stale);
    bench_pass(bench, 1);
    bench_restore(bench);
    assert_true(c_get(bench, "a")->found);
    assert_true(c_get(bench, "a")->stale);
    bench_pass(bench, 599);
    assert_true(c_get(bench, "a")->found);
    bench_forget_events(bench);
    bench_pass(bench, 1);
    c_expect(bench, "a", NULL);
    assert_int_equal(bench_count_events(bench, RK_EVENT_INVALIDATE, "default"), 1);
    assert_string_equal(bench->events[0].key, "a");
    assert_int_equal(c_stats(bench).expired, 1);
    assert_int_equal(c_stats(bench).entries, 0);
}

/* Group time decides, also while nobody proposes the expiry. */
static void test_expired_entry_is_no_entry(void **state)
{
    struct bench *bench = *state;
    struct rk_request request = c_put_request("a", "5");
    request.ttl_ms = 1000;
    RK_SET(&request, TTL_MS);
    bench_call(bench, &request);
    bench_pass_dead(bench, 1000);
    c_expect(bench, "a", NULL);
    assert_false(c_delete_key(bench, "a").deleted);
    bench_call(bench, &request);
    bench_pass_dead(bench, 1000);
    assert_int_equal(put_if(bench, "a", 0), RK_OK);
    c_expect(bench, "a", "9");
    bench_pass(bench, 100000);
    c_expect(bench, "a", "9"); /* without a ttl of its own */
}

static void test_touch_prolongs(void **state)
{
    struct bench *bench = *state;
    c_put(bench, "a", "1");
    uint64_t version = c_get(bench, "a")->version;
    struct rk_request request = c_key_request(RK_OP_CACHE_TOUCH, "a");
    request.ttl_ms = 500;
    RK_SET(&request, TTL_MS);
    assert_true(bench_call(bench, &request)->touched);
    bench_pass(bench, 400);
    assert_true(bench_call(bench, &request)->touched);
    bench_pass(bench, 499);
    c_expect(bench, "a", "1");
    assert_int_equal(c_get(bench, "a")->version, version);
    bench_pass(bench, 1);
    c_expect(bench, "a", NULL);
    assert_false(bench_call(bench, &request)->touched);
}

static struct rk_request add_request(const char *key, int64_t delta)
{
    struct rk_request request = c_key_request(RK_OP_CACHE_ADD, key);
    request.delta = delta;
    RK_SET(&request, DELTA);
    return request;
}

/* And a retry counts once. */
static void test_add(void **state)
{
    struct bench *bench = *state;
    struct rk_request request = add_request("n", 5);
    request.initial = 100;
    request.ttl_ms = 1000;
    RK_SET(&request, INITIAL);
    RK_SET(&request, TTL_MS);
    assert_int_equal(bench_call(bench, &request)->number_value, 105);
    uint64_t seq = ++bench->seq;
    assert_int_equal(bench_call_as(bench, &request, seq, seq)->number_value, 110);
    assert_int_equal(bench_call_as(bench, &request, seq, seq)->number_value, 110);
    c_expect(bench, "n", "110");
    bench_pass(bench, 900);
    request = add_request("n", -200);
    assert_int_equal(bench_call(bench, &request)->number_value, -90);
    c_expect(bench, "n", "-90");
    bench_pass(bench, 100); /* the ttl counts from the creation */
    c_expect(bench, "n", NULL);
    assert_int_equal(bench_call(bench, &request)->number_value, -200);
}

static void test_add_at_the_edges(void **state)
{
    struct bench *bench = *state;
    c_put(bench, "n", "9223372036854775807");
    struct rk_request request = add_request("n", 1);
    assert_int_equal(bench_call(bench, &request)->status, RK_ERANGE);
    c_expect(bench, "n", "9223372036854775807");
    request = add_request("n", -1);
    assert_int_equal(bench_call(bench, &request)->number_value, INT64_MAX - 1);
    c_put(bench, "n", "-9223372036854775808");
    assert_int_equal(bench_call(bench, &request)->status, RK_ERANGE);
    const char *others[] = {"\"5\"", "5.0", "-", "", "9223372036854775808", "null", "1e3"};
    for (size_t i = 0; i < sizeof(others) / sizeof(others[0]); i++) {
        c_put(bench, "n", others[i]);
        assert_int_equal(bench_call(bench, &request)->status, RK_ECONVERT);
    }
    struct rk_request raw = c_put_request("n", "5");
    raw.value.encoding = RK_ENCODING_RAW;
    bench_call(bench, &raw);
    assert_int_equal(bench_call(bench, &request)->status, RK_ECONVERT);
    raw.value = (struct rk_value){RK_SLICE_LITERAL("\x07"), RK_ENCODING_MSGPACK};
    bench_call(bench, &raw);
    assert_int_equal(bench_call(bench, &request)->number_value, 6);
}

static void test_bulk_get(void **state)
{
    struct bench *bench = *state;
    c_put(bench, "a", "1");
    c_put(bench, "c", "3");
    struct rk_slice keys[3] = {text_slice("a"), text_slice("b"), text_slice("c")};
    struct rk_request request = {.op = RK_OP_CACHE_GET, .keys = {keys, 3}, .is_bulk = true};
    const struct rk_reply *reply = bench_query(bench, &request);
    assert_int_equal(reply->entry_count, 3);
    assert_true(reply->entries[0].found);
    assert_false(reply->entries[1].found);
    assert_true(is_text(reply->entries[1].key, "b"));
    assert_true(is_text(reply->entries[2].value.bytes, "3"));
    assert_int_equal(c_stats(bench).hits, 2);
    assert_int_equal(c_stats(bench).misses, 1);
}

static void test_caches_are_apart(void **state)
{
    struct bench *bench = *state;
    c_put(bench, "a", "1");
    struct rk_request request = c_put_request("a", "2");
    request.cache = text_slice("other");
    RK_SET(&request, CACHE);
    bench_call(bench, &request);
    c_expect(bench, "a", "1");
    request.cache = text_slice("default");
    bench_call(bench, &request);
    c_expect(bench, "a", "2");
}

static void test_every_change_is_told(void **state)
{
    struct bench *bench = *state;
    bench_forget_events(bench);
    uint64_t version = c_put(bench, "a", "1");
    assert_int_equal(bench->event_count, 1);
    assert_string_equal(bench->events[0].key, "a");
    assert_int_equal(bench->events[0].version, version);
    c_delete_key(bench, "a");
    c_delete_key(bench, "never");
    struct rk_request request = add_request("n", 1);
    bench_call(bench, &request);
    assert_int_equal(bench->event_count, 4);
    assert_string_equal(bench->events[2].key, "never");
    assert_int_equal(put_if(bench, "n", 1), RK_EVERSION);
    assert_int_equal(bench->event_count, 4);
}

/* --- invalidate */

static void test_invalidate(void **state)
{
    struct bench *bench = *state;
    c_put(bench, "a/1", "1");
    c_put(bench, "a/2", "1");
    c_put(bench, "b", "1");
    struct rk_request request = {.op = RK_OP_CACHE_INVALIDATE, .prefix = text_slice("a/")};
    RK_SET(&request, PREFIX);
    bench_forget_events(bench);
    assert_int_equal(bench_call(bench, &request)->count, 2);
    assert_int_equal(bench->event_count, 2);
    c_expect(bench, "a/1", NULL);
    c_expect(bench, "b", "1");
    request = (struct rk_request){.op = RK_OP_CACHE_INVALIDATE};
    bench_forget_events(bench);
    assert_int_equal(bench_call(bench, &request)->count, 1);
    assert_int_equal(bench->event_count, 1);
    assert_string_equal(bench->events[0].key, ""); /* all of the cache */
    c_expect(bench, "b", NULL);
    assert_int_equal(c_stats(bench).bytes, 0);
}

/* --- fill tokens */

typedef char token_text[RK_DELIVERY_ID_SIZE];

static bool ask(struct bench *bench, const char *key, token_text token)
{
    struct rk_request request = c_key_request(RK_OP_CACHE_GET, key);
    request.fill_ms = 1000;
    const struct rk_reply *reply = bench_query(bench, &request);
    if (reply->fill_token.size == 0) return false;
    memcpy(token, reply->fill_token.data, reply->fill_token.size);
    token[reply->fill_token.size] = '\0';
    return true;
}

static enum rk_status fill(struct bench *bench, const char *key, const char *token)
{
    struct rk_request request = c_put_request(key, "\"filled\"");
    request.fill_token = text_slice(token);
    RK_SET(&request, FILL_TOKEN);
    return bench_call(bench, &request)->status;
}

static void test_token_fills_once(void **state)
{
    struct bench *bench = *state;
    token_text token;
    assert_true(ask(bench, "a", token));
    assert_int_equal(fill(bench, "a", token), RK_OK);
    c_expect(bench, "a", "\"filled\"");
    assert_int_equal(fill(bench, "a", token), RK_EVOID);
    assert_false(ask(bench, "a", token)); /* there is nothing to fill */
    assert_int_equal(fill(bench, "b", token), RK_EVOID);
    assert_int_equal(fill(bench, "a", "nonsense"), RK_ERANGE);
}

static void test_change_voids_the_token(void **state)
{
    struct bench *bench = *state;
    token_text token;
    assert_true(ask(bench, "a", token));
    c_put(bench, "a", "\"new\"");
    assert_int_equal(fill(bench, "a", token), RK_EVOID);
    c_expect(bench, "a", "\"new\"");
    c_delete_key(bench, "a");
    assert_int_equal(fill(bench, "a", token), RK_EVOID);
    assert_true(ask(bench, "a", token));
    bench_restore(bench);
    assert_int_equal(fill(bench, "a", token), RK_OK);
}

/* Deleting a key that is not there says that the source changed, all the same. */
static void test_delete_of_an_absent_key_voids_the_token(void **state)
{
    struct bench *bench = *state;
    token_text token;
    assert_true(ask(bench, "a", token));
    assert_false(c_delete_key(bench, "a").deleted);
    bench_restore(bench);
    assert_int_equal(fill(bench, "a", token), RK_EVOID);
    assert_true(ask(bench, "a", token));
    struct rk_request request = {.op = RK_OP_CACHE_INVALIDATE};
    bench_call(bench, &request);
    bench_restore(bench);
    assert_int_equal(fill(bench, "a", token), RK_EVOID);
}

/* What was put after the token and then evicted or expired was newer than the filler knows.
 */
static void test_lost_newer_value_voids_the_token(void **state)
{
    struct bench *bench = *state;
    token_text token;
    assert_true(ask(bench, "a", token));
    struct rk_request request = c_put_request("a", "\"newer\"");
    request.ttl_ms = 10;
    RK_SET(&request, TTL_MS);
    bench_call(bench, &request);
    bench_pass(bench, 10);
    c_expect(bench, "a", NULL);
    bench_restore(bench);
    assert_int_equal(fill(bench, "a", token), RK_EVOID);
}

static void test_stale_entry_gives_a_token(void **state)
{
    struct bench *bench = *state;
    struct rk_request request = c_put_request("a", "1");
    request.soft_ttl_ms = 100;
    RK_SET(&request, SOFT_TTL_MS);
    bench_call(bench, &request);
    token_text token;
    assert_false(ask(bench, "a", token));
    bench_pass(bench, 100);
    assert_true(ask(bench, "a", token));
    assert_true(bench->reply.found);
    assert_int_equal(fill(bench, "a", token), RK_OK);
    assert_false(c_get(bench, "a")->stale);
}

/* --- fences */

static enum rk_status put_fenced(struct bench *bench, const char *key, uint64_t fence,
                                 const char *name)
{
    struct rk_request request = c_put_request(key, "1");
    request.fence = fence;
    RK_SET(&request, FENCE);
    if (name != NULL) {
        request.fence_name = text_slice(name);
        RK_SET(&request, FENCE_NAME);
    }
    return bench_call(bench, &request)->status;
}

static void test_lower_fence_is_refused(void **state)
{
    struct bench *bench = *state;
    assert_int_equal(put_fenced(bench, "a", 10, NULL), RK_OK);
    assert_int_equal(put_fenced(bench, "a", 9, NULL), RK_EFENCE);
    assert_int_equal(bench->reply.fence, 10);
    assert_int_equal(put_fenced(bench, "b", 9, NULL), RK_OK);
    c_delete_key(bench, "a");
    bench_restore(bench);
    assert_int_equal(put_fenced(bench, "a", 9, NULL),
                     RK_EFENCE); /* deleted, not forgotten */
    assert_int_equal(put_fenced(bench, "a", 8, "lock"), RK_OK);
    assert_int_equal(put_fenced(bench, "c", 7, "lock"), RK_EFENCE);
    /* A refused write raises nothing. */
    struct rk_request request = c_put_request("a", "1");
    request.fence = 20;
    request.if_version = 1;
    RK_SET(&request, FENCE);
    RK_SET(&request, IF_VERSION);
    assert_int_equal(bench_call(bench, &request)->status, RK_EVERSION);
    assert_int_equal(put_fenced(bench, "a", 11, NULL), RK_OK);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        CACHE_TEST(test_put_get_delete),
        CACHE_TEST(test_versions_only_grow),
        CACHE_TEST(test_compare_and_swap),
        CACHE_TEST(test_delete_if_version),
        CACHE_TEST(test_hard_and_soft_ttl),
        CACHE_TEST(test_expired_entry_is_no_entry),
        CACHE_TEST(test_touch_prolongs),
        CACHE_TEST(test_add),
        CACHE_TEST(test_add_at_the_edges),
        CACHE_TEST(test_bulk_get),
        CACHE_TEST(test_caches_are_apart),
        CACHE_TEST(test_every_change_is_told),
        CACHE_TEST(test_invalidate),
        CACHE_TEST(test_token_fills_once),
        CACHE_TEST(test_change_voids_the_token),
        CACHE_TEST(test_delete_of_an_absent_key_voids_the_token),
        CACHE_TEST(test_lost_newer_value_voids_the_token),
        CACHE_TEST(test_stale_entry_gives_a_token),
        CACHE_TEST(test_lower_fence_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
