/* Input that wishes us ill: cut, deep, twice, huge, random; and no memory. */
#include "sample_reply.h"

#include "api/in.h"

struct fixture {
    struct rk_arena arena;
    struct rk_request request;
    struct rk_reply reply;
    struct rk_api_error error;
};

static int set_up(void **state)
{
    struct fixture *fixture = calloc(1, sizeof(*fixture));
    rk_arena_init(&fixture->arena);
    *state = fixture;
    return 0;
}

static int tear_down(void **state)
{
    struct fixture *fixture = *state;
    rk_arena_fini(&fixture->arena);
    free(fixture);
    return 0;
}

/* A block of exactly that size, so that a read behind it is seen by the sanitizer. */
static uint8_t *exact(struct rk_slice bytes, size_t size)
{
    uint8_t *copy = malloc(size + (size == 0));
    memcpy(copy, bytes.data, size);
    return copy;
}

static void test_measure(void **state)
{
    struct fixture *fixture = *state;
    static const struct {
        const char *hex;
        enum rk_status status;
        size_t size;
    } cases[] = {
        {"", RK_EBUSY, 0},
        {"c0", RK_OK, 1},
        {"c0c0", RK_OK, 1},
        {"c1", RK_EINVAL, 0},
        {"9201", RK_EBUSY, 0},
        {"920102ff", RK_OK, 3},
        {"93c3c1", RK_EINVAL, 0},
        {"dd0fffffff", RK_EINVAL, 0},
        {"df0fffffff", RK_EINVAL, 0},
        {"ddffffffff", RK_EINVAL, 0},
        {"dfffffffff", RK_EINVAL, 0},
        {"dd00100000", RK_EBUSY, 0},
        {"92dd00ffffffdd00ffffff", RK_EINVAL, 0},
        {"dbffffffff", RK_EBUSY, 0},
        {"c6ffffffff", RK_EBUSY, 0},
        {"c900000000", RK_EBUSY, 0},
        {"c90000000005", RK_OK, 6},
        {"d801000102030405060708090a0b0c0d0e0f", RK_OK, 18},
        {"d80100", RK_EBUSY, 0},
        {"81a16101", RK_OK, 4},
        {"81a161", RK_EBUSY, 0},
        {"cd01", RK_EBUSY, 0},
        {"de0001a16191a0", RK_OK, 7},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct rk_slice bytes = body_unhex(cases[i].hex, &fixture->arena);
        size_t size = 0;
        enum rk_status status = rk_msgpack_measure(bytes, &size);
        if (status != cases[i].status || size != cases[i].size)
            fail_msg("%s: %s, %zu", cases[i].hex, rk_status_text(status), size);
    }
}

static void test_measure_bounds_depth(void **state)
{
    (void)state;
    uint8_t nested[RK_DEPTH_MAX + 2];
    memset(nested, 0x91, sizeof(nested));
    nested[RK_DEPTH_MAX] = 0xc0;
    size_t size = 0;
    assert_int_equal(rk_msgpack_measure(rk_slice_of(nested, RK_DEPTH_MAX + 1), &size),
                     RK_OK);
    assert_int_equal(size, RK_DEPTH_MAX + 1);
    nested[RK_DEPTH_MAX] = 0x91;
    nested[RK_DEPTH_MAX + 1] = 0xc0;
    assert_int_equal(rk_msgpack_measure(rk_slice_of(nested, sizeof(nested)), &size),
                     RK_EINVAL);
}

static void test_measure_bounds_size(void **state)
{
    (void)state;
    size_t most = RK_MSGPACK_MAX;
    uint8_t *bytes = calloc(1, most + 1);
    for (size_t size = most; size <= most + 1; size++) {
        uint8_t header[5] = {0xc6, (uint8_t)((size - 5) >> 24), (uint8_t)((size - 5) >> 16),
                             (uint8_t)((size - 5) >> 8), (uint8_t)(size - 5)};
        memcpy(bytes, header, 5);
        size_t measured = 0;
        assert_int_equal(rk_msgpack_measure(rk_slice_of(bytes, size), &measured),
                         size == most ? RK_OK : RK_EINVAL);
    }
    free(bytes);
}

static void test_depth_of_bodies(void **state)
{
    struct fixture *fixture = *state;
    for (int depth = RK_DEPTH_MAX - 1; depth <= RK_DEPTH_MAX; depth++) {
        json_t *value = json_integer(1);
        for (int i = 0; i < depth; i++)
            value = json_pack("[o]", value);
        json_t *body = json_pack("{s:s,s:o}", "k", "a", "v", value);
        for (int encoding = RK_ENCODING_JSON; encoding <= RK_ENCODING_MSGPACK; encoding++) {
            struct rk_slice bytes =
                body_encode(body, (enum rk_encoding)encoding, &fixture->arena);
            assert_int_equal(body_decode(&fixture->request, RK_OP_CACHE_PUT, bytes,
                                         (enum rk_encoding)encoding, &fixture->arena,
                                         &fixture->error),
                             depth < RK_DEPTH_MAX ? RK_OK : RK_EINVAL);
        }
        json_decref(body);
    }
    size_t size = 1000000;
    uint8_t *brackets = malloc(size);
    memset(brackets, '[', size);
    assert_int_equal(rk_request_from_json(&fixture->request, RK_OP_CACHE_PUT,
                                          rk_slice_of(brackets, size), &fixture->arena,
                                          &fixture->error),
                     RK_EINVAL);
    assert_non_null(strstr(fixture->error.text, "deeper"));
    free(brackets);
}

static void test_malformed_json(void **state)
{
    struct fixture *fixture = *state;
    static const char *const bodies[] = {
        "{",
        "}",
        "[]",
        "1",
        "null",
        "\"a\"",
        "{\"resource\":\"a\",\"resource\":\"b\",\"owner\":\"o\"}",
        ("{\"resource\":\"a\",\"owner\":\"o\",\"resources\":[{\"resource\":\"a\","
         "\"resource\":\"b\"}]}"),
        "{\"resource\":\"a\",\"owner\":\"o\"} x",
        "{\"resource\":\"a\",\"owner\":\"o\",}",
        "{'resource':'a'}",
        "{\"resource\":\"\\ud800\",\"owner\":\"o\"}",
        "{\"resource\":\"\xff\",\"owner\":\"o\"}",
        "{\"resource\":\"a\",\"owner\":\"o\",\"lease_ms\":99999999999999999999}",
        "{\"resource\":\"a\",\"owner\":\"o\",\"lease_ms\":1e999}",
        "{\"resource\":\"a\\u0000b\",\"owner\":\"o\"}",
        "\xef\xbb\xbf{}",
    };
    for (size_t i = 0; i < sizeof(bodies) / sizeof(bodies[0]); i++) {
        enum rk_status status = rk_request_from_json(&fixture->request, RK_OP_LOCK_ACQUIRE,
                                                     rk_slice_of_string(bodies[i]),
                                                     &fixture->arena, &fixture->error);
        if (status != RK_EINVAL) fail_msg("%s: %s", bodies[i], rk_status_text(status));
        assert_true(strlen(fixture->error.text) > 0);
    }
}

static void test_malformed_msgpack(void **state)
{
    struct fixture *fixture = *state;
    static const char *const bodies[] = {
        "dd0fffffff",
        "c0",
        "90",
        "a0",
        "81c0c0",
        "8101a161",
        "82a572656769",
        "82a16ba161a16ba162",           /* k twice */
        "83a16ba161a36b6579a162a17601", /* k and key */
        "80c0",                         /* more behind it */
        "81a16bd9",
        "c1",
    };
    for (size_t i = 0; i < sizeof(bodies) / sizeof(bodies[0]); i++) {
        struct rk_slice bytes = body_unhex(bodies[i], &fixture->arena);
        enum rk_status status = rk_request_from_msgpack(
            &fixture->request, RK_OP_CACHE_PUT, bytes, &fixture->arena, &fixture->error);
        if (status != RK_EINVAL) fail_msg("%s: %s", bodies[i], rk_status_text(status));
        assert_true(strlen(fixture->error.text) > 0);
    }
    /* uint64 above int64 for a signed field. */
    struct rk_slice bytes =
        body_unhex("82a36b6579a161a564656c7461cf8000000000000000", &fixture->arena);
    assert_int_equal(rk_request_from_msgpack(&fixture->request, RK_OP_CACHE_ADD, bytes,
                                             &fixture->arena, &fixture->error),
                     RK_ERANGE);
    assert_non_null(strstr(fixture->error.text, "9223372036854775808"));
}

/* Every body and log entry of every operation, cut after each byte. */
static void test_truncation(void **state)
{
    struct fixture *fixture = *state;
    struct rk_buf entry;
    rk_buf_init(&entry);
    body_each_op(info)
    {
        rk_arena_reset(&fixture->arena);
        json_t *body = body_full(info, (info->op & 1) != 0);
        for (int encoding = RK_ENCODING_JSON; encoding <= RK_ENCODING_MSGPACK; encoding++) {
            struct rk_slice bytes =
                body_encode(body, (enum rk_encoding)encoding, &fixture->arena);
            assert_int_equal(body_decode(&fixture->request, info->op, bytes,
                                         (enum rk_encoding)encoding, &fixture->arena,
                                         &fixture->error),
                             RK_OK);
            rk_buf_reset(&entry);
            rk_request_encode(&entry, &fixture->request);
            for (size_t size = 1; size < bytes.size; size++) {
                uint8_t *cut = exact(bytes, size);
                assert_int_equal(body_decode(&fixture->request, info->op,
                                             rk_slice_of(cut, size),
                                             (enum rk_encoding)encoding, &fixture->arena,
                                             &fixture->error),
                                 RK_EINVAL);
                free(cut);
            }
            for (size_t size = 0; size < entry.size; size++) {
                uint8_t *cut = exact(rk_buf_slice(&entry), size);
                assert_int_equal(rk_request_decode(&fixture->request,
                                                   rk_slice_of(cut, size), &fixture->arena),
                                 RK_EPROTO);
                free(cut);
            }
        }
        json_decref(body);
    }
    rk_buf_fini(&entry);
}

static uint64_t next_random(uint64_t *seed)
{
    *seed = *seed * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return *seed >> 33;
}

/* Changed bytes may still decode; what decodes must encode, and never may it crash. */
static void test_changed_log_entries(void **state)
{
    struct fixture *fixture = *state;
    uint64_t seed = 7;
    struct rk_buf entry, again;
    rk_buf_init(&entry);
    rk_buf_init(&again);
    body_each_op(info)
    {
        rk_arena_reset(&fixture->arena);
        json_t *body = body_full(info, (info->op & 1) == 0);
        struct rk_slice bytes = body_encode(body, RK_ENCODING_MSGPACK, &fixture->arena);
        json_decref(body);
        assert_int_equal(body_decode(&fixture->request, info->op, bytes,
                                     RK_ENCODING_MSGPACK, &fixture->arena, &fixture->error),
                         RK_OK);
        rk_buf_reset(&entry);
        rk_request_encode(&entry, &fixture->request);
        for (int round = 0; round < 300; round++) {
            struct rk_arena arena;
            rk_arena_init(&arena);
            uint8_t *changed = exact(rk_buf_slice(&entry), entry.size);
            for (int i = 0; i < 1 + round % 3; i++)
                changed[next_random(&seed) % entry.size] = (uint8_t)next_random(&seed);
            struct rk_slice input = rk_slice_of(changed, entry.size);
            enum rk_status status = rk_request_decode(&fixture->request, input, &arena);
            assert_true(status == RK_OK || status == RK_EPROTO ||
                        status == RK_EUNSUPPORTED);
            if (status == RK_OK) {
                rk_buf_reset(&again);
                rk_request_encode(&again, &fixture->request);
                assert_int_equal(rk_buf_check(&again), RK_OK);
            }
            free(changed);
            rk_arena_fini(&arena);
        }
    }
    rk_buf_fini(&entry);
    rk_buf_fini(&again);
}

/* Each allocation of ours fails in turn: RK_ENOMEM, and nothing leaks. */
static void test_no_memory(void **state)
{
    struct fixture *fixture = *state;
    body_each_op(info)
    {
        for (int encoding = RK_ENCODING_JSON; encoding <= RK_ENCODING_MSGPACK; encoding++) {
            rk_arena_reset(&fixture->arena);
            json_t *body = body_full(info, (info->op & 1) == 0);
            struct rk_slice bytes =
                body_encode(body, (enum rk_encoding)encoding, &fixture->arena);
            json_decref(body);
            enum rk_status status = RK_ENOMEM;
            for (int after = 0; status != RK_OK; after++) {
                struct rk_arena arena;
                rk_arena_init(&arena);
                rk_alloc_fail(after, 1);
                status = body_decode(&fixture->request, info->op, bytes,
                                     (enum rk_encoding)encoding, &arena, &fixture->error);
                rk_alloc_fail(-1, 0);
                assert_true(status == RK_OK || status == RK_ENOMEM);
                rk_arena_fini(&arena);
            }
        }
    }
}

static void test_no_memory_for_log_entries(void **state)
{
    struct fixture *fixture = *state;
    struct rk_buf request_bytes, reply_bytes;
    rk_buf_init(&request_bytes);
    rk_buf_init(&reply_bytes);
    json_t *body = body_full(rk_op_info(RK_OP_QUEUE_PUBLISH), true);
    struct rk_slice bytes = body_encode(body, RK_ENCODING_MSGPACK, &fixture->arena);
    json_decref(body);
    assert_int_equal(body_decode(&fixture->request, RK_OP_QUEUE_PUBLISH, bytes,
                                 RK_ENCODING_MSGPACK, &fixture->arena, &fixture->error),
                     RK_OK);
    rk_request_encode(&request_bytes, &fixture->request);
    sample_reply_fill(&fixture->reply, RK_OP_LOCK_INFO);
    rk_reply_encode(&reply_bytes, &fixture->reply);
    for (int is_reply = 0; is_reply < 2; is_reply++) {
        enum rk_status status = RK_ENOMEM;
        int after = 0;
        for (; status != RK_OK; after++) {
            struct rk_arena arena;
            rk_arena_init(&arena);
            rk_alloc_fail(after, 1);
            status = is_reply ? rk_reply_decode(&fixture->reply, rk_buf_slice(&reply_bytes),
                                                &arena)
                              : rk_request_decode(&fixture->request,
                                                  rk_buf_slice(&request_bytes), &arena);
            rk_alloc_fail(-1, 0);
            assert_true(status == RK_OK || status == RK_ENOMEM);
            rk_arena_fini(&arena);
        }
        assert_true(after > 1);
    }
    rk_buf_fini(&request_bytes);
    rk_buf_fini(&reply_bytes);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_measure, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_measure_bounds_depth, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_measure_bounds_size, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_depth_of_bodies, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_malformed_json, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_malformed_msgpack, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_truncation, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_changed_log_entries, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_no_memory, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_no_memory_for_log_entries, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
