#include "cache_bench.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

struct rk_request c_key_request(enum rk_op op, const char *key)
{
    struct rk_request request = {.op = op, .key = text_slice(key)};
    RK_SET(&request, KEY);
    return request;
}

struct rk_request c_put_request(const char *key, const char *value)
{
    struct rk_request request = c_key_request(RK_OP_CACHE_PUT, key);
    request.value = (struct rk_value){text_slice(value), RK_ENCODING_JSON};
    RK_SET(&request, VALUE);
    return request;
}

uint64_t c_put(struct bench *bench, const char *key, const char *value)
{
    struct rk_request request = c_put_request(key, value);
    const struct rk_reply *reply = bench_call(bench, &request);
    assert_int_equal(reply->status, RK_OK);
    assert_true(reply->ok);
    return reply->version;
}

const struct rk_reply *c_get(struct bench *bench, const char *key)
{
    struct rk_slice keys[1] = {text_slice(key)};
    struct rk_request request = c_key_request(RK_OP_CACHE_GET, key);
    request.keys = (struct rk_strings){keys, 1};
    return bench_query(bench, &request);
}

void c_expect(struct bench *bench, const char *key, const char *value)
{
    const struct rk_reply *reply = c_get(bench, key);
    assert_int_equal(reply->found, value != NULL);
    if (value != NULL) assert_true(is_text(reply->value.bytes, value));
}

struct rk_reply c_delete_key(struct bench *bench, const char *key)
{
    struct rk_slice keys[1] = {text_slice(key)};
    struct rk_request request = c_key_request(RK_OP_CACHE_DELETE, key);
    request.keys = (struct rk_strings){keys, 1};
    return *bench_call(bench, &request);
}

struct rk_cache_stats c_stats(struct bench *bench)
{
    struct rk_request request = {.op = RK_OP_CACHE_STATS};
    return *bench_query(bench, &request)->cache_stats;
}

void c_configure(struct bench *bench, uint64_t bytes_max, const char *policy)
{
    struct rk_request request = {.op = RK_OP_CACHE_CONFIGURE, .bytes_max = bytes_max};
    RK_SET(&request, BYTES_MAX);
    if (policy != NULL) {
        request.policy = text_slice(policy);
        RK_SET(&request, POLICY);
    }
    assert_int_equal(bench_call(bench, &request)->status, RK_OK);
}

uint32_t c_touch(struct bench *bench)
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

int cache_setup(void **state)
{
    *state = bench_new();
    return 0;
}

int cache_teardown(void **state)
{
    struct bench *bench = *state;
    bench_check_replay(bench);
    bench_restore(bench);
    bench_free(bench);
    return 0;
}
