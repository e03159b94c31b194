#include "body.h"

struct fixture {
    struct rk_arena arena;
    struct rk_request request;
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

static void must_read(struct fixture *fixture, enum rk_op op, const char *json)
{
    enum rk_status status = rk_request_from_json(
        &fixture->request, op, rk_slice_of_string(json), &fixture->arena, &fixture->error);
    if (status != RK_OK) fail_msg("%s: %s", json, fixture->error.text);
}

static void assert_text(struct rk_slice slice, const char *text)
{
    assert_int_equal(slice.size, strlen(text));
    if (slice.size > 0) assert_memory_equal(slice.data, text, slice.size);
}

/* Through an encoding of the client and back, and through the log and back. */
static void round_trip(struct fixture *fixture, enum rk_op op, json_t *body,
                       enum rk_encoding encoding)
{
    struct rk_arena *arena = &fixture->arena;
    struct rk_request *first = &fixture->request, second;
    struct rk_slice bytes = body_encode(body, encoding, arena);
    enum rk_status status = body_decode(first, op, bytes, encoding, arena, &fixture->error);
    if (status != RK_OK) fail_msg("%s: %s", rk_op_info(op)->name, fixture->error.text);
    const char *text = body_print(first, arena);

    struct rk_buf buf;
    rk_buf_init(&buf);
    for (int other = RK_ENCODING_JSON; other <= RK_ENCODING_MSGPACK; other++) {
        rk_buf_reset(&buf);
        if (other == RK_ENCODING_JSON)
            rk_request_to_json(&buf, first);
        else
            rk_request_to_msgpack(&buf, first);
        assert_int_equal(rk_buf_check(&buf), RK_OK);
        struct rk_slice copy = rk_arena_copy(arena, rk_buf_slice(&buf));
        status =
            body_decode(&second, op, copy, (enum rk_encoding)other, arena, &fixture->error);
        if (status != RK_OK) fail_msg("%s: %s", rk_op_info(op)->name, fixture->error.text);
        assert_string_equal(body_print(&second, arena), text);
        assert_true(second.present == first->present);
        assert_true(second.is_bulk == first->is_bulk);
    }

    rk_buf_reset(&buf);
    rk_request_encode(&buf, first);
    status = rk_request_decode(&second, rk_buf_slice(&buf), arena);
    assert_int_equal(status, RK_OK);
    assert_true(second.present == first->present);
    assert_true(second.is_bulk == first->is_bulk);
    second.client = first->client;
    second.seq = first->seq;
    second.first_unanswered = first->first_unanswered;
    second.deadline_ms = first->deadline_ms;
    second.position = first->position;
    assert_string_equal(body_print(&second, arena), text);
    struct rk_buf again;
    rk_buf_init(&again);
    rk_request_encode(&again, &second);
    assert_true(rk_slice_is_equal(rk_buf_slice(&buf), rk_buf_slice(&again)));
    rk_buf_fini(&again);
    rk_buf_fini(&buf);
    json_decref(body);
}

static void test_round_trips(void **state)
{
    body_each_op(info)
    {
        for (int encoding = RK_ENCODING_JSON; encoding <= RK_ENCODING_MSGPACK; encoding++) {
            round_trip(*state, info->op, body_minimal(info), (enum rk_encoding)encoding);
            round_trip(*state, info->op, body_full(info, false),
                       (enum rk_encoding)encoding);
            round_trip(*state, info->op, body_full(info, true), (enum rk_encoding)encoding);
        }
    }
}

static void test_defaults(void **state)
{
    struct fixture *fixture = *state;
    struct rk_request *request = &fixture->request;
    must_read(fixture, RK_OP_LOCK_ACQUIRE, "{\"resource\":\"r1\",\"owner\":\"alice\"}");
    assert_int_equal(request->lease_ms, 30000);
    assert_int_equal(request->wait_ms, 0);
    assert_int_equal(request->mode, RK_MODE_EXCLUSIVE);
    assert_true(request->forward);
    assert_false(RK_HAS(request, LEASE_MS));
    assert_false(request->is_bulk);
    assert_int_equal(request->resource_count, 1);
    assert_text(request->resources[0].resource, "r1");
    assert_text(request->resource, "r1");
    must_read(fixture, RK_OP_SESSION_OPEN, "");
    assert_int_equal(request->ttl_ms, 10000);
    must_read(fixture, RK_OP_QUEUE_CONSUME, "{\"topic\":\"t\"}");
    assert_int_equal(request->max, 1);
    assert_int_equal(request->visibility_ms, 30000);
    assert_false(RK_HAS(request, VISIBILITY_MS));
    assert_false(request->is_bulk);
    must_read(fixture, RK_OP_QUEUE_CONSUME, "{\"topic\":\"t\",\"max\":1}");
    assert_true(request->is_bulk);
    must_read(fixture, RK_OP_LOCK_LIST, "{}");
    assert_int_equal(request->limit, 100);
}

static void test_aliases(void **state)
{
    struct fixture *fixture = *state;
    struct rk_request *request = &fixture->request;
    must_read(fixture, RK_OP_CACHE_PUT, "{\"k\":\"a\",\"v\":{\"x\":1}}");
    assert_text(request->key, "a");
    assert_text(request->value.bytes, "{\"x\":1}");
    must_read(fixture, RK_OP_CACHE_GET, "{\"k\":\"a\"}");
    assert_int_equal(request->keys.count, 1);
    assert_text(request->keys.items[0], "a");
    must_read(fixture, RK_OP_LOCK_RENEW,
              "{\"resource\":\"r\",\"owner\":\"o\",\"ttl_ms\":500}");
    assert_int_equal(request->lease_ms, 500);
    assert_true(RK_HAS(request, LEASE_MS));
}

/* A value is kept to the byte: spaces, 1.10, 1e2, key order, escapes. */
static void test_values_are_kept_as_text(void **state)
{
    struct fixture *fixture = *state;
    static const char *const values[] = {
        "{ \"b\" : 1.10 , \"a\" : [ 1e2 , \"\\u00e9\\\"}\" ] }",
        "\"} , \\\\\"",
        "12345678901234567",
        "-0.0",
        "null",
        "[[],{},\"\"]",
        "\"a\\u0000b\"",
    };
    for (size_t i = 0; i < sizeof(values) / sizeof(values[0]); i++) {
        char body[256];
        snprintf(body, sizeof(body),
                 " { \"data\" : %s , \"\\u0074opic\":\"t\",\"priority\":3}\n", values[i]);
        must_read(fixture, RK_OP_QUEUE_PUBLISH, body);
        assert_text(fixture->request.messages[0].data.bytes, values[i]);
        assert_int_equal(fixture->request.messages[0].data.encoding, RK_ENCODING_JSON);
        assert_int_equal(fixture->request.messages[0].priority, 3);
        snprintf(
            body, sizeof(body),
            "{\"topic\":\"t\",\"messages\":[{\"data\":1},{\"priority\":9,\"data\":%s}]}",
            values[i]);
        must_read(fixture, RK_OP_QUEUE_PUBLISH, body);
        assert_int_equal(fixture->request.message_count, 2);
        assert_text(fixture->request.messages[1].data.bytes, values[i]);
        assert_int_equal(fixture->request.messages[1].priority, 9);
    }
}

static void test_raw_values(void **state)
{
    struct fixture *fixture = *state;
    must_read(fixture, RK_OP_CACHE_PUT, "{\"key\":\"a\",\"value_base64\":\"AP8=\"}");
    assert_int_equal(fixture->request.value.encoding, RK_ENCODING_RAW);
    assert_int_equal(fixture->request.value.bytes.size, 2);
    assert_memory_equal(fixture->request.value.bytes.data, "\0\xff", 2);
    /* {"key":"a","value":<bin 00 ff>} */
    struct rk_slice body =
        body_unhex("82a36b6579a161a576616c7565c40200ff", &fixture->arena);
    assert_int_equal(rk_request_from_msgpack(&fixture->request, RK_OP_CACHE_PUT, body,
                                             &fixture->arena, &fixture->error),
                     RK_OK);
    assert_int_equal(fixture->request.value.encoding, RK_ENCODING_RAW);
    assert_memory_equal(fixture->request.value.bytes.data, "\0\xff", 2);
    assert_string_equal(body_print(&fixture->request, &fixture->arena),
                        "{\"key\":\"a\",\"value_base64\":\"AP8=\"}");
    assert_int_equal(
        rk_request_from_json(&fixture->request, RK_OP_CACHE_PUT,
                             RK_SLICE_LITERAL("{\"k\":\"a\",\"value_base64\":\"x\"}"),
                             &fixture->arena, &fixture->error),
        RK_EINVAL);
    assert_string_equal(fixture->error.field, "value");
}

static void test_msgpack_values_are_not_copied(void **state)
{
    struct fixture *fixture = *state;
    struct rk_slice body =
        body_unhex("82a16ba161a17692c3cb3ff8000000000000", &fixture->arena);
    assert_int_equal(rk_request_from_msgpack(&fixture->request, RK_OP_CACHE_PUT, body,
                                             &fixture->arena, &fixture->error),
                     RK_OK);
    assert_int_equal(fixture->request.value.encoding, RK_ENCODING_MSGPACK);
    assert_ptr_equal(fixture->request.value.bytes.data, body.data + 7);
    assert_int_equal(fixture->request.value.bytes.size, 11);
    rk_alloc_take_count();
    assert_int_equal(rk_request_from_msgpack(&fixture->request, RK_OP_CACHE_PUT, body,
                                             &fixture->arena, &fixture->error),
                     RK_OK);
    assert_int_equal(rk_alloc_take_count(), 0);
}

static void test_unknown_fields(void **state)
{
    struct fixture *fixture = *state;
    static const struct {
        const char *body;
        const char *field;
        const char *text;
    } cases[] = {
        {"{\"resorce\":\"a\"}", "resorce", "did you mean resource?"},
        {"{\"lease_msec\":1}", "lease_msec", "did you mean lease_ms?"},
        {"{\"qqqqqqqq\":1}", "qqqqqqqq", "unknown field"},
        {"{\"a\\tb\":1}", "a?b", "unknown field"},
        {"{\"\":1}", "", "unknown field"},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        assert_int_equal(rk_request_from_json(&fixture->request, RK_OP_LOCK_ACQUIRE,
                                              rk_slice_of_string(cases[i].body),
                                              &fixture->arena, &fixture->error),
                         RK_EINVAL);
        assert_string_equal(fixture->error.field, cases[i].field);
        assert_non_null(strstr(fixture->error.text, cases[i].text));
    }
}

static void test_cancel_names_another_call(void **state)
{
    struct fixture *fixture = *state;
    must_read(fixture, RK_OP_LOCK_CANCEL,
              "{\"client\":\"c1\",\"seq\":7,\"deadline_ms\":5}");
    assert_text(fixture->request.target_client, "c1");
    assert_int_equal(fixture->request.target_seq, 7);
    assert_int_equal(fixture->request.seq, 0);
    assert_int_equal(fixture->request.deadline_ms, 5);
    must_read(fixture, RK_OP_LOCK_INFO,
              "{\"resource\":\"r\",\"client\":\"c1\",\"seq\":7,\"position\":\"ab:1=2\","
              "\"forward\":false}");
    assert_text(fixture->request.client, "c1");
    assert_int_equal(fixture->request.seq, 7);
    assert_true(fixture->request.position.history == 0xab);
    assert_false(fixture->request.forward);
}

static void test_internal_operations_are_refused(void **state)
{
    struct fixture *fixture = *state;
    assert_int_equal(rk_request_from_json(&fixture->request, RK_OP_BIRTH,
                                          RK_SLICE_LITERAL("{\"history\":1}"),
                                          &fixture->arena, &fixture->error),
                     RK_EINVAL);
    assert_int_equal(rk_request_from_msgpack(&fixture->request, RK_OP_NONE, RK_SLICE_EMPTY,
                                             &fixture->arena, NULL),
                     RK_EINVAL);
}

static void test_requests_built_in_c(void **state)
{
    struct fixture *fixture = *state;
    struct rk_request *request = &fixture->request;
    rk_request_init(request, RK_OP_LOCK_ACQUIRE);
    request->resource = RK_SLICE_LITERAL("r");
    assert_int_equal(rk_request_check(request, &fixture->error), RK_EINVAL);
    assert_string_equal(fixture->error.field, "owner");
    request->owner = RK_SLICE_LITERAL("o");
    request->mode = RK_MODE_SHARED;
    assert_int_equal(rk_request_check(request, &fixture->error), RK_OK);
    assert_int_equal(rk_request_check(request, NULL), RK_OK);
    assert_int_equal(request->lease_ms, 30000);
    assert_int_equal(request->resource_count, 1);
    assert_int_equal(request->resources[0].mode, RK_MODE_SHARED);
    assert_string_equal(body_print(request, &fixture->arena),
                        "{\"resource\":\"r\",\"mode\":\"shared\",\"owner\":\"o\"}");

    rk_request_init(request, RK_OP_CACHE_ADD);
    request->key = RK_SLICE_LITERAL("n");
    assert_int_equal(rk_request_check(request, &fixture->error), RK_EINVAL);
    assert_string_equal(fixture->error.field, "delta");
    RK_SET(request, DELTA);
    assert_int_equal(rk_request_check(request, &fixture->error), RK_OK);
    assert_string_equal(body_print(request, &fixture->arena),
                        "{\"key\":\"n\",\"delta\":0}");

    rk_request_init(request, RK_OP_QUEUE_ACK);
    request->id = RK_SLICE_LITERAL("d1");
    assert_int_equal(rk_request_check(request, NULL), RK_OK);
    assert_int_equal(request->ids.count, 1);
    assert_string_equal(body_print(request, &fixture->arena), "{\"id\":\"d1\"}");

    rk_request_init(request, RK_OP_QUEUE_ACK);
    struct rk_slice ids[] = {RK_SLICE_LITERAL("d1"), RK_SLICE_LITERAL("\xff")};
    request->ids = (struct rk_strings){ids, 1};
    request->is_bulk = true;
    assert_int_equal(rk_request_check(request, NULL), RK_OK);
    assert_string_equal(body_print(request, &fixture->arena), "{\"ids\":[\"d1\"]}");
    request->ids.count = 2;
    assert_int_equal(rk_request_check(request, &fixture->error), RK_EINVAL);
    assert_string_equal(fixture->error.field, "ids[1]");

    struct rk_message_in message = {.data = {RK_SLICE_LITERAL("raw"), RK_ENCODING_RAW},
                                    .priority = 10};
    rk_request_init(request, RK_OP_QUEUE_PUBLISH);
    request->topic = RK_SLICE_LITERAL("t");
    request->messages = &message;
    request->message_count = 1;
    assert_int_equal(rk_request_check(request, &fixture->error), RK_ERANGE);
    assert_string_equal(fixture->error.field, "priority");
    message.priority = 9;
    assert_int_equal(rk_request_check(request, NULL), RK_OK);
    assert_string_equal(body_print(request, &fixture->arena),
                        "{\"data_base64\":\"cmF3\",\"priority\":9,\"topic\":\"t\"}");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_round_trips, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_defaults, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_aliases, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_values_are_kept_as_text, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_raw_values, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_msgpack_values_are_not_copied, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(test_unknown_fields, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_cancel_names_another_call, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_internal_operations_are_refused, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(test_requests_built_in_c, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
