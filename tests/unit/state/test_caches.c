/* What caches promise, one rule a test. */
#include "data_bench.h"

#include "state/caches.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

static struct rk_request key_request(enum rk_op op, const char *key)
{
    struct rk_request request = {.op = op, .key = text_slice(key)};
    RK_SET(&request, KEY);
    return request;
}

static struct rk_request put_request(const char *key, const char *value)
{
    struct rk_request request = key_request(RK_OP_CACHE_PUT, key);
    request.value = (struct rk_value){text_slice(value), RK_ENCODING_JSON};
    RK_SET(&request, VALUE);
    return request;
}

static uint64_t put(struct bench *bench, const char *key, const char *value)
{
    struct rk_request request = put_request(key, value);
    const struct rk_reply *reply = bench_call(bench, &request);
    assert_int_equal(reply->status, RK_OK);
    assert_true(reply->ok);
    return reply->version;
}

static const struct rk_reply *get(struct bench *bench, const char *key)
{
    struct rk_slice keys[1] = {text_slice(key)};
    struct rk_request request = key_request(RK_OP_CACHE_GET, key);
    request.keys = (struct rk_strings){keys, 1};
    return bench_query(bench, &request);
}

static void expect(struct bench *bench, const char *key, const char *value)
{
    const struct rk_reply *reply = get(bench, key);
    assert_int_equal(reply->found, value != NULL);
    if (value != NULL) assert_true(is_text(reply->value.bytes, value));
}

static struct rk_reply delete_key(struct bench *bench, const char *key)
{
    struct rk_slice keys[1] = {text_slice(key)};
    struct rk_request request = key_request(RK_OP_CACHE_DELETE, key);
    request.keys = (struct rk_strings){keys, 1};
    return *bench_call(bench, &request);
}

static struct rk_cache_stats stats(struct bench *bench)
{
    struct rk_request request = {.op = RK_OP_CACHE_STATS};
    return *bench_query(bench, &request)->cache_stats;
}

static void configure(struct bench *bench, uint64_t bytes_max, const char *policy)
{
    struct rk_request request = {.op = RK_OP_CACHE_CONFIGURE, .bytes_max = bytes_max};
    RK_SET(&request, BYTES_MAX);
    if (policy != NULL) {
        request.policy = text_slice(policy);
        RK_SET(&request, POLICY);
    }
    assert_int_equal(bench_call(bench, &request)->status, RK_OK);
}

/* What the leader does each 100 ms: the recency of its reads becomes an entry. */
static uint32_t touch(struct bench *bench)
{
    struct rk_buf buf;
    rk_buf_init(&buf);
    uint32_t count = 0;
    while (rk_machine_touch_take(bench->machine, &buf)) {
        struct rk_arena arena;
        rk_arena_init(&arena);
        struct rk_request request;
        assert_int_equal(rk_request_decode(&request, rk_buf_slice(&buf), &arena), RK_OK);
        count += request.keys.count;
        (void)bench_call(bench, &request);
        rk_arena_fini(&arena);
        rk_buf_reset(&buf);
    }
    rk_buf_fini(&buf);
    return count;
}

static int setup(void **state)
{
    *state = bench_new();
    return 0;
}

static int teardown(void **state)
{
    struct bench *bench = *state;
    bench_check_replay(bench);
    bench_restore(bench);
    bench_free(bench);
    return 0;
}

static void test_put_get_delete(void **state)
{
    struct bench *bench = *state;
    expect(bench, "a", NULL);
    uint64_t version = put(bench, "a", "1");
    assert_int_equal(version, rk_machine_index(bench->machine));
    expect(bench, "a", "1");
    assert_int_equal(get(bench, "a")->version, version);
    put(bench, "a", "{\"x\":[1,2]}");
    expect(bench, "a", "{\"x\":[1,2]}");
    bench_restore(bench);
    expect(bench, "a", "{\"x\":[1,2]}");
    struct rk_reply reply = delete_key(bench, "a");
    assert_true(reply.deleted);
    expect(bench, "a", NULL);
    reply = delete_key(bench, "a");
    assert_int_equal(reply.status, RK_OK);
    assert_false(reply.deleted);
    assert_int_equal(stats(bench).entries, 0);
    assert_int_equal(stats(bench).bytes, 0);
}

/* Trap 42: a version never comes again, whatever was deleted between. */
static void test_versions_only_grow(void **state)
{
    struct bench *bench = *state;
    uint64_t last = 0;
    for (int i = 0; i < 5; i++) {
        uint64_t version = put(bench, "a", "1");
        assert_true(version > last);
        struct rk_reply reply = delete_key(bench, "a");
        assert_true(reply.version > version);
        last = reply.version;
        bench_restore(bench);
    }
}

static enum rk_status put_if(struct bench *bench, const char *key, uint64_t version)
{
    struct rk_request request = put_request(key, "9");
    request.if_version = version;
    RK_SET(&request, IF_VERSION);
    return bench_call(bench, &request)->status;
}

static void test_compare_and_swap(void **state)
{
    struct bench *bench = *state;
    uint64_t version = put(bench, "a", "1");
    assert_int_equal(put_if(bench, "a", version + 1), RK_EVERSION);
    assert_int_equal(bench->reply.version, version);
    assert_int_equal(put_if(bench, "a", version), RK_OK);
    assert_int_equal(put_if(bench, "a", version), RK_EVERSION);
    assert_int_equal(put_if(bench, "a", 0), RK_EVERSION);
    assert_int_equal(put_if(bench, "b", 5), RK_EVERSION);
    assert_int_equal(put_if(bench, "b", 0), RK_OK);
    expect(bench, "b", "9");
    struct rk_request request = put_request("b", "7");
    request.if_absent = true;
    RK_SET(&request, IF_ABSENT);
    assert_int_equal(bench_call(bench, &request)->status, RK_EEXIST);
    delete_key(bench, "b");
    assert_int_equal(bench_call(bench, &request)->status, RK_OK);
}

static void test_delete_if_version(void **state)
{
    struct bench *bench = *state;
    uint64_t a = put(bench, "a", "1");
    put(bench, "b", "1");
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
    expect(bench, "a", NULL);
    expect(bench, "b", "1");
    request.is_bulk = false;
    request.keys = (struct rk_strings){NULL, 0};
    request.present &= ~(uint64_t)RK_FIELD_BIT_KEYS;
    request.key = text_slice("b");
    RK_SET(&request, KEY);
    assert_int_equal(bench_call(bench, &request)->status, RK_EVERSION);
    expect(bench, "b", "1");
}

static void test_hard_and_soft_ttl(void **state)
{
    struct bench *bench = *state;
    struct rk_request request = put_request("a", "1");
    request.ttl_ms = 1000;
    request.soft_ttl_ms = 400;
    RK_SET(&request, TTL_MS);
    RK_SET(&request, SOFT_TTL_MS);
    assert_int_equal(bench_call(bench, &request)->status, RK_OK);
    bench_pass(bench, 399);
    assert_false(get(bench, "a")->stale);
    bench_pass(bench, 1);
    bench_restore(bench);
    assert_true(get(bench, "a")->found);
    assert_true(get(bench, "a")->stale);
    bench_pass(bench, 599);
    assert_true(get(bench, "a")->found);
    bench_forget_events(bench);
    bench_pass(bench, 1);
    expect(bench, "a", NULL);
    assert_int_equal(bench_count_events(bench, RK_EVENT_INVALIDATE, "default"), 1);
    assert_string_equal(bench->events[0].key, "a");
    assert_int_equal(stats(bench).expired, 1);
    assert_int_equal(stats(bench).entries, 0);
}

/* Group time decides, also while nobody proposes the expiry. */
static void test_expired_entry_is_no_entry(void **state)
{
    struct bench *bench = *state;
    struct rk_request request = put_request("a", "5");
    request.ttl_ms = 1000;
    RK_SET(&request, TTL_MS);
    bench_call(bench, &request);
    bench_pass_dead(bench, 1000);
    expect(bench, "a", NULL);
    assert_false(delete_key(bench, "a").deleted);
    bench_call(bench, &request);
    bench_pass_dead(bench, 1000);
    assert_int_equal(put_if(bench, "a", 0), RK_OK);
    expect(bench, "a", "9");
    bench_pass(bench, 100000);
    expect(bench, "a", "9"); /* without a ttl of its own */
}

static void test_touch_prolongs(void **state)
{
    struct bench *bench = *state;
    put(bench, "a", "1");
    uint64_t version = get(bench, "a")->version;
    struct rk_request request = key_request(RK_OP_CACHE_TOUCH, "a");
    request.ttl_ms = 500;
    RK_SET(&request, TTL_MS);
    assert_true(bench_call(bench, &request)->touched);
    bench_pass(bench, 400);
    assert_true(bench_call(bench, &request)->touched);
    bench_pass(bench, 499);
    expect(bench, "a", "1");
    assert_int_equal(get(bench, "a")->version, version);
    bench_pass(bench, 1);
    expect(bench, "a", NULL);
    assert_false(bench_call(bench, &request)->touched);
}

static struct rk_request add_request(const char *key, int64_t delta)
{
    struct rk_request request = key_request(RK_OP_CACHE_ADD, key);
    request.delta = delta;
    RK_SET(&request, DELTA);
    return request;
}

/* Trap 52: and a retry counts once. */
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
    expect(bench, "n", "110");
    bench_pass(bench, 900);
    request = add_request("n", -200);
    assert_int_equal(bench_call(bench, &request)->number_value, -90);
    expect(bench, "n", "-90");
    bench_pass(bench, 100); /* the ttl counts from the creation */
    expect(bench, "n", NULL);
    assert_int_equal(bench_call(bench, &request)->number_value, -200);
}

static void test_add_at_the_edges(void **state)
{
    struct bench *bench = *state;
    put(bench, "n", "9223372036854775807");
    struct rk_request request = add_request("n", 1);
    assert_int_equal(bench_call(bench, &request)->status, RK_ERANGE);
    expect(bench, "n", "9223372036854775807");
    request = add_request("n", -1);
    assert_int_equal(bench_call(bench, &request)->number_value, INT64_MAX - 1);
    put(bench, "n", "-9223372036854775808");
    assert_int_equal(bench_call(bench, &request)->status, RK_ERANGE);
    const char *others[] = {"\"5\"", "5.0", "-", "", "9223372036854775808", "null", "1e3"};
    for (size_t i = 0; i < sizeof(others) / sizeof(others[0]); i++) {
        put(bench, "n", others[i]);
        assert_int_equal(bench_call(bench, &request)->status, RK_ECONVERT);
    }
    struct rk_request raw = put_request("n", "5");
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
    put(bench, "a", "1");
    put(bench, "c", "3");
    struct rk_slice keys[3] = {text_slice("a"), text_slice("b"), text_slice("c")};
    struct rk_request request = {.op = RK_OP_CACHE_GET, .keys = {keys, 3}, .is_bulk = true};
    const struct rk_reply *reply = bench_query(bench, &request);
    assert_int_equal(reply->entry_count, 3);
    assert_true(reply->entries[0].found);
    assert_false(reply->entries[1].found);
    assert_true(is_text(reply->entries[1].key, "b"));
    assert_true(is_text(reply->entries[2].value.bytes, "3"));
    assert_int_equal(stats(bench).hits, 2);
    assert_int_equal(stats(bench).misses, 1);
}

static void test_caches_are_apart(void **state)
{
    struct bench *bench = *state;
    put(bench, "a", "1");
    struct rk_request request = put_request("a", "2");
    request.cache = text_slice("other");
    RK_SET(&request, CACHE);
    bench_call(bench, &request);
    expect(bench, "a", "1");
    request.cache = text_slice("default");
    bench_call(bench, &request);
    expect(bench, "a", "2");
}

static void test_every_change_is_told(void **state)
{
    struct bench *bench = *state;
    bench_forget_events(bench);
    uint64_t version = put(bench, "a", "1");
    assert_int_equal(bench->event_count, 1);
    assert_string_equal(bench->events[0].key, "a");
    assert_int_equal(bench->events[0].version, version);
    delete_key(bench, "a");
    delete_key(bench, "never");
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
    put(bench, "a/1", "1");
    put(bench, "a/2", "1");
    put(bench, "b", "1");
    struct rk_request request = {.op = RK_OP_CACHE_INVALIDATE, .prefix = text_slice("a/")};
    RK_SET(&request, PREFIX);
    bench_forget_events(bench);
    assert_int_equal(bench_call(bench, &request)->count, 2);
    assert_int_equal(bench->event_count, 2);
    expect(bench, "a/1", NULL);
    expect(bench, "b", "1");
    request = (struct rk_request){.op = RK_OP_CACHE_INVALIDATE};
    bench_forget_events(bench);
    assert_int_equal(bench_call(bench, &request)->count, 1);
    assert_int_equal(bench->event_count, 1);
    assert_string_equal(bench->events[0].key, ""); /* all of the cache */
    expect(bench, "b", NULL);
    assert_int_equal(stats(bench).bytes, 0);
}

/* --- fill tokens: traps 41, 42, 46 */

typedef char token_text[RK_DELIVERY_ID_SIZE];

static bool ask(struct bench *bench, const char *key, token_text token)
{
    struct rk_request request = key_request(RK_OP_CACHE_GET, key);
    request.fill_ms = 1000;
    const struct rk_reply *reply = bench_query(bench, &request);
    if (reply->fill_token.size == 0) return false;
    memcpy(token, reply->fill_token.data, reply->fill_token.size);
    token[reply->fill_token.size] = '\0';
    return true;
}

static enum rk_status fill(struct bench *bench, const char *key, const char *token)
{
    struct rk_request request = put_request(key, "\"filled\"");
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
    expect(bench, "a", "\"filled\"");
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
    put(bench, "a", "\"new\"");
    assert_int_equal(fill(bench, "a", token), RK_EVOID);
    expect(bench, "a", "\"new\"");
    delete_key(bench, "a");
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
    assert_false(delete_key(bench, "a").deleted);
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
    struct rk_request request = put_request("a", "\"newer\"");
    request.ttl_ms = 10;
    RK_SET(&request, TTL_MS);
    bench_call(bench, &request);
    bench_pass(bench, 10);
    expect(bench, "a", NULL);
    bench_restore(bench);
    assert_int_equal(fill(bench, "a", token), RK_EVOID);
}

static void test_stale_entry_gives_a_token(void **state)
{
    struct bench *bench = *state;
    struct rk_request request = put_request("a", "1");
    request.soft_ttl_ms = 100;
    RK_SET(&request, SOFT_TTL_MS);
    bench_call(bench, &request);
    token_text token;
    assert_false(ask(bench, "a", token));
    bench_pass(bench, 100);
    assert_true(ask(bench, "a", token));
    assert_true(bench->reply.found);
    assert_int_equal(fill(bench, "a", token), RK_OK);
    assert_false(get(bench, "a")->stale);
}

/* --- fences */

static enum rk_status put_fenced(struct bench *bench, const char *key, uint64_t fence,
                                 const char *name)
{
    struct rk_request request = put_request(key, "1");
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
    delete_key(bench, "a");
    bench_restore(bench);
    assert_int_equal(put_fenced(bench, "a", 9, NULL),
                     RK_EFENCE); /* deleted, not forgotten */
    assert_int_equal(put_fenced(bench, "a", 8, "lock"), RK_OK);
    assert_int_equal(put_fenced(bench, "c", 7, "lock"), RK_EFENCE);
    /* A refused write raises nothing. */
    struct rk_request request = put_request("a", "1");
    request.fence = 20;
    request.if_version = 1;
    RK_SET(&request, FENCE);
    RK_SET(&request, IF_VERSION);
    assert_int_equal(bench_call(bench, &request)->status, RK_EVERSION);
    assert_int_equal(put_fenced(bench, "a", 11, NULL), RK_OK);
}

/* --- bounds: trap 53 */

enum { VALUE_SIZE = 1000 };

static void put_sized(struct bench *bench, const char *key, size_t size)
{
    char *value = calloc(1, size + 1);
    assert_non_null(value);
    memset(value, '1', size);
    put(bench, key, value);
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
    configure(bench, 200000, NULL);
    bench_forget_events(bench);
    for (int i = 0; i < 1500; i++) {
        char key[32];
        snprintf(key, sizeof(key), "k%d", i);
        put_sized(bench, key, VALUE_SIZE);
        assert_true(stats(bench).bytes <= 200000);
    }
    struct rk_cache_stats now = stats(bench);
    assert_true(now.bytes > 190000);
    assert_int_equal(now.entries + now.evicted, 1500);
    assert_int_equal(bench_count_events(bench, RK_EVENT_INVALIDATE, "default"),
                     1500 + now.evicted);
    bench_restore(bench);
    assert_int_equal(stats(bench).bytes, now.bytes);
    configure(bench, 100000, NULL);
    assert_true(stats(bench).bytes <= 100000);
}

static void test_too_large_entry_is_refused(void **state)
{
    struct bench *bench = *state;
    configure(bench, 80000, NULL);
    fill_cache(bench, "k", 30);
    uint64_t entries = stats(bench).entries;
    static char value[10000];
    memset(value, '1', sizeof(value) - 1);
    struct rk_request request = put_request("big", value);
    assert_int_equal(bench_call(bench, &request)->status, RK_ESIZE);
    value[9000] = '\0';
    request = put_request("big", value);
    assert_int_equal(bench_call(bench, &request)->status, RK_OK);
    assert_true(stats(bench).entries > entries - 10);
    expect(bench, "big", value);
}

static int count_found(struct bench *bench, const char *prefix, int count)
{
    int found = 0;
    for (int i = 0; i < count; i++) {
        char key[32];
        snprintf(key, sizeof(key), "%s%d", prefix, i);
        found += get(bench, key)->found;
    }
    return found;
}

/* What is read stays while a scan passes through; reads count through touch entries only.
 */
static void scan_resistance(struct bench *bench, const char *policy)
{
    configure(bench, 200000, policy);
    fill_cache(bench, "hot", 50);
    for (int round = 0; round < 20; round++) {
        assert_int_equal(count_found(bench, "hot", 50), 50);
        touch(bench);
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
    configure(bench, 200000, NULL);
    fill_cache(bench, "a", 300);
    expect(bench, "a150", NULL);
    bench_restore(bench); /* the ghosts are state */
    put_sized(bench, "a150", VALUE_SIZE);
    fill_cache(bench, "b", 20);
    assert_true(get(bench, "a150")->found);
}

static void test_batches_of_recency_are_bounded(void **state)
{
    struct bench *bench = *state;
    configure(bench, 200000, NULL);
    struct rk_buf buf;
    rk_buf_init(&buf);
    put(bench, "first", "1");
    get(bench, "first");
    assert_false(rk_machine_touch_take(bench->machine, &buf)); /* nothing will be evicted */
    fill_cache(bench, "k", 140);
    for (int round = 0; round < 10; round++)
        count_found(bench, "k", 140);
    assert_true(rk_machine_touch_take(bench->machine, &buf));
    assert_in_range(buf.size, 100, RK_CACHE_SAMPLES_MAX * 40);
    assert_false(rk_machine_touch_take(bench->machine, &buf));
    for (int round = 0; round < 5; round++) {
        count_found(bench, "k", 140);
        touch(bench);
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
    put(bench, "a", "1");
    bench_pass(bench, 1000);
    expect(bench, "a", NULL);
    request.policy = text_slice("mru");
    RK_SET(&request, POLICY);
    assert_int_equal(bench_call(bench, &request)->status, RK_ERANGE);
}

#define CACHE_TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

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
        CACHE_TEST(test_stays_within_its_bound),
        CACHE_TEST(test_too_large_entry_is_refused),
        CACHE_TEST(test_s3fifo_keeps_what_is_read),
        CACHE_TEST(test_lru_keeps_what_is_read),
        CACHE_TEST(test_evicted_and_asked_again_goes_to_main),
        CACHE_TEST(test_batches_of_recency_are_bounded),
        CACHE_TEST(test_default_ttl_and_bad_policy),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
