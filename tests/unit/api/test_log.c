/* The log forms to the byte: what is written here stands in logs, and must be read for
 * ever. A change of these bytes needs a new version of the form. */
#include "sample_reply.h"

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

static void test_golden_requests(void **state)
{
    static const struct {
        enum rk_op op;
        const char *json;
        const char *hex;
    } cases[] = {
        {RK_OP_LOCK_ACQUIRE, "{\"resource\":\"r1\",\"owner\":\"alice\"}",
         "010a0282148010"
         "05616c696365"
         "01"
         "02723100b0ea01"},
        {RK_OP_LOCK_RELEASE, "{\"resource\":\"r1\",\"owner\":\"alice\",\"fence\":300}",
         "010c00834002723105616c696365ac02"},
        {RK_OP_QUEUE_PUBLISH, "{\"topic\":\"t\",\"data\":{\"x\":1}}",
         "011e0088020174010001077b2278223a317d"},
        {RK_OP_QUEUE_ACK, "{\"ids\":[\"a\",\"b\"]}", "012001400201610162"},
        {RK_OP_QUEUE_ACK, "{\"id\":\"a\"}", "01200040010161"},
        {RK_OP_CACHE_PUT, "{\"k\":\"a\",\"v\":1,\"if_version\":0}",
         "013d00b0808001016101013100"},
        {RK_OP_CACHE_ADD, "{\"k\":\"a\",\"delta\":-3}", "014000908080808004016105"},
        {RK_OP_QUEUE_NACK, "{\"id\":\"a\",\"dead\":true}", "012100c0808080800201016101"},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct rk_request request;
        struct rk_api_error error;
        struct rk_buf buf;
        rk_buf_init(&buf);
        enum rk_status status = rk_request_from_json(
            &request, cases[i].op, rk_slice_of_string(cases[i].json), *state, &error);
        assert_int_equal(status, RK_OK);
        rk_request_encode(&buf, &request);
        assert_string_equal(body_hex(rk_buf_slice(&buf), *state), cases[i].hex);
        rk_buf_fini(&buf);
        struct rk_slice bytes = body_unhex(cases[i].hex, *state);
        const char *text = body_print(&request, *state);
        assert_int_equal(rk_request_decode(&request, bytes, *state), RK_OK);
        assert_string_equal(body_print(&request, *state), text);
    }
}

static void test_golden_message(void **state)
{
    static const char json[] = "{\"topic\":\"t\",\"messages\":[{\"data\":1,\"publish_id\":"
                               "\"p\",\"unique\":{\"key\":\"u\","
                               "\"scope\":\"window\"},\"delay_ms\":1,\"deliver_at\":2,"
                               "\"priority\":9,\"group\":\"g\","
                               "\"ttl_ms\":3,\"headers\":{\"h\":\"\"}}]}";
    struct rk_request request;
    struct rk_buf buf;
    rk_buf_init(&buf);
    assert_int_equal(rk_request_from_json(&request, RK_OP_QUEUE_PUBLISH,
                                          rk_slice_of_string(json), *state, NULL),
                     RK_OK);
    rk_request_encode(&buf, &request);
    assert_string_equal(body_hex(rk_buf_slice(&buf), *state),
                        "011e018802017401ff0101310170017503010209016703010168"
                        "00");
    rk_buf_fini(&buf);
}

static void test_internal_requests(void **state)
{
    struct rk_due_in due[] = {{1, 5, 300}, {2, 70000, 1}};
    struct rk_slice keys[] = {RK_SLICE_LITERAL("a")};
    struct rk_request requests[7];
    static const enum rk_op ops[] = {
        RK_OP_DUE,        RK_OP_TOUCH,           RK_OP_BIRTH,
        RK_OP_MEMBERS,    RK_OP_MACHINE_VERSION, RK_OP_QUEUE_RETURN,
        RK_OP_CALL_CANCEL};
    static const char *const golden[] = {
        "01650080808080808001020105ac0202f0a20401",   "0166008001010161",
        "016702808080808080800680808080808080040901", "016a0220200301ff",
        "016802808080808080408080808080804002",       "01690040010161",
        "016402808080808060808080808060016307",
    };
    for (size_t i = 0; i < 7; i++)
        rk_request_init(&requests[i], ops[i]);
    requests[0].due = due;
    requests[0].due_count = 2;
    requests[1].keys = (struct rk_strings){keys, 1};
    requests[2].history = 9;
    requests[2].fence_floor = 1;
    requests[3].value = (struct rk_value){RK_SLICE_LITERAL("\xff"), RK_ENCODING_RAW};
    requests[4].number = 2;
    requests[5].ids = (struct rk_strings){keys, 1};
    requests[6].target_client = RK_SLICE_LITERAL("c");
    requests[6].target_seq = 7;
    RK_SET(&requests[0], DUE);
    RK_SET(&requests[2], HISTORY);
    for (size_t i = 0; i < 7; i++) {
        struct rk_request back;
        struct rk_buf buf, again;
        rk_buf_init(&buf);
        rk_buf_init(&again);
        assert_int_equal(rk_request_check(&requests[i], NULL), RK_OK);
        rk_request_encode(&buf, &requests[i]);
        const char *hex = body_hex(rk_buf_slice(&buf), *state);
        assert_string_equal(hex, golden[i]);
        assert_int_equal(rk_request_decode(&back, rk_buf_slice(&buf), *state), RK_OK);
        rk_request_encode(&again, &back);
        assert_string_equal(body_hex(rk_buf_slice(&again), *state), hex);
        rk_buf_fini(&buf);
        rk_buf_fini(&again);
    }
}

static void test_versions_and_operations(void **state)
{
    static const struct {
        const char *hex;
        enum rk_status status;
    } cases[] = {
        {"", RK_EPROTO},
        {"01", RK_EPROTO},
        {"00200040010161", RK_EPROTO},
        {"02200040010161", RK_EUNSUPPORTED},
        {"01ff0040010161", RK_EUNSUPPORTED},
        {"01050040010161", RK_EUNSUPPORTED},
        {"01200440010161", RK_EPROTO},
        {"0120004001016100", RK_EPROTO},
        {"012000c0010161", RK_EUNSUPPORTED}, /* keys: a field of a newer program */
        {"01200000", RK_EPROTO},
        {"0120022000", RK_EUNSUPPORTED},
        {"012000408080808010", RK_EPROTO},
        {"010c00814002723101", RK_EPROTO},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct rk_request request;
        enum rk_status status =
            rk_request_decode(&request, body_unhex(cases[i].hex, *state), *state);
        if (status != cases[i].status)
            fail_msg("%s: %s", cases[i].hex, rk_status_text(status));
    }
}

static void test_golden_replies(void **state)
{
    struct rk_wait_edge edge = {RK_SLICE_LITERAL("a"), RK_SLICE_LITERAL("r"),
                                RK_SLICE_LITERAL("b")};
    const struct {
        struct rk_reply reply;
        const char *hex;
    } cases[] = {
        {{.op = RK_OP_LOCK_ACQUIRE, .granted = true, .fence = 300, .lease_ms = 30000},
         "010a0061ac02b0ea01"},
        {{.op = RK_OP_CACHE_PUT, .ok = true, .version = 5}, "013d00820105"},
        {{.op = RK_OP_QUEUE_CONSUME}, "011f0000"},
        {{.op = RK_OP_LOCK_ACQUIRE,
          .status = RK_EDEADLOCK,
          .edges = &edge,
          .edge_count = 1,
          .text = "cycle"},
         "010a1180808080c01001016101720162056379636c65"},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct rk_buf buf;
        rk_buf_init(&buf);
        rk_reply_encode(&buf, &cases[i].reply);
        assert_string_equal(body_hex(rk_buf_slice(&buf), *state), cases[i].hex);
        rk_buf_fini(&buf);
    }
}

static void test_reply_versions_and_parts(void **state)
{
    static const struct {
        const char *hex;
        enum rk_status status;
    } cases[] = {
        {"", RK_EPROTO},
        {"00", RK_EPROTO},
        {"000a0000", RK_EPROTO},
        {"010a0000", RK_OK},
        {"020a0000", RK_EUNSUPPORTED},
        {"01800000", RK_EUNSUPPORTED},
        {"010a0100", RK_OK},
        {"010a0200", RK_EPROTO},
        {"010a000000", RK_EPROTO},
        {"010a00808080808080808010", RK_EPROTO}, /* a part that nobody knows */
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct rk_reply reply;
        enum rk_status status =
            rk_reply_decode(&reply, body_unhex(cases[i].hex, *state), *state);
        if (status != cases[i].status)
            fail_msg("%s: %s", cases[i].hex, rk_status_text(status));
    }
}

/* A few bytes that claim 60000 items get no memory for them. */
static void test_claims_are_checked_before_allocation(void **state)
{
    (void)state;
    static const char *const claims[] = {"01200040e0d4030161", "010a008008e0d4030161"};
    for (size_t i = 0; i < 2; i++) {
        struct rk_arena arena;
        struct rk_request request;
        struct rk_reply reply;
        rk_arena_init(&arena);
        struct rk_slice bytes = body_unhex(claims[i], &arena);
        size_t total = arena.total;
        enum rk_status status = i == 0 ? rk_request_decode(&request, bytes, &arena)
                                       : rk_reply_decode(&reply, bytes, &arena);
        assert_int_equal(status, RK_EPROTO);
        assert_int_equal(arena.total, total);
        rk_arena_fini(&arena);
    }
}

/* Full replies survive, cut ones are refused, changed ones do no harm. */
static void test_replies_round_trip(void **state)
{
    uint64_t seed = 1;
    struct rk_reply reply, back;
    struct rk_buf buf, again;
    rk_buf_init(&buf);
    rk_buf_init(&again);
    sample_reply_fill(&reply, RK_OP_LOCK_INFO);
    reply.status = RK_EHELD;
    rk_reply_encode(&buf, &reply);
    assert_int_equal(rk_reply_decode(&back, rk_buf_slice(&buf), *state), RK_OK);
    rk_reply_encode(&again, &back);
    assert_true(rk_slice_is_equal(rk_buf_slice(&buf), rk_buf_slice(&again)));
    assert_string_equal(back.text, reply.text);
    assert_int_equal(back.status, RK_EHELD);
    assert_int_equal(back.position_index, 70000);
    assert_int_equal(back.results[1].status, RK_ESTALE);
    assert_int_equal(back.waiters[0].priority, -3);
    assert_true(back.number_value == INT64_MIN);
    assert_int_equal(back.topic_stats->messages_max, 17);
    body_each_op(info)
    {
        back.op = info->op;
        reply.op = info->op;
        back.status = reply.status = RK_OK;
        assert_string_equal(sample_reply_json(&back, *state),
                            sample_reply_json(&reply, *state));
    }

    for (size_t size = 0; size < buf.size; size++) {
        uint8_t *cut = malloc(size + 1);
        memcpy(cut, buf.data, size);
        assert_int_equal(rk_reply_decode(&back, rk_slice_of(cut, size), *state), RK_EPROTO);
        free(cut);
    }
    for (int round = 0; round < 20000; round++) {
        struct rk_arena arena;
        rk_arena_init(&arena);
        uint8_t *changed = malloc(buf.size);
        memcpy(changed, buf.data, buf.size);
        for (int i = 0; i < 1 + round % 3; i++) {
            seed = seed * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
            changed[(seed >> 40) % buf.size] = (uint8_t)(seed >> 32);
        }
        enum rk_status status =
            rk_reply_decode(&back, rk_slice_of(changed, buf.size), &arena);
        assert_true(status == RK_OK || status == RK_EPROTO || status == RK_EUNSUPPORTED);
        if (status == RK_OK) {
            rk_buf_reset(&again);
            rk_reply_encode(&again, &back);
        }
        free(changed);
        rk_arena_fini(&arena);
    }
    rk_buf_fini(&buf);
    rk_buf_fini(&again);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_golden_requests, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_golden_message, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_internal_requests, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_versions_and_operations, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_golden_replies, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_reply_versions_and_parts, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_claims_are_checked_before_allocation, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(test_replies_round_trip, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
