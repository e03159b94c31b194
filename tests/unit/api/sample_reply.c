#include "sample_reply.h"

#define TEXT RK_SLICE_LITERAL

static void fill_lists(struct rk_reply *out)
{
    static struct rk_holder holders[] = {
        {TEXT("alice"), TEXT("s1"), RK_MODE_SHARED, 41, 900, 2},
        {TEXT("bob"), {NULL, 0}, RK_MODE_SHARED, 42, 0, 0},
    };
    static struct rk_waiter waiters[] = {{TEXT("carol"), RK_MODE_EXCLUSIVE, 12, -3}};
    static struct rk_wait_edge edges[] = {{TEXT("a"), TEXT("r1"), TEXT("b")},
                                          {TEXT("b"), TEXT("r2"), TEXT("a")}};
    static struct rk_header headers[] = {{TEXT("trace"), TEXT("1")}};
    static struct rk_delivery_out messages[] = {
        {TEXT("d1"),
         TEXT("m1"),
         {TEXT("{\"x\":1}"), RK_ENCODING_JSON},
         1,
         9,
         TEXT("g"),
         {headers, 1},
         TEXT("ready")},
        {TEXT("d2"),
         TEXT("m2"),
         {TEXT("\xff"), RK_ENCODING_RAW},
         2,
         0,
         {NULL, 0},
         {NULL, 0},
         TEXT("dead")},
    };
    static struct rk_result results[] = {{TEXT("d1"), RK_OK, 7, true},
                                         {TEXT("d2"), RK_ESTALE, 0, false}};
    static struct rk_entry_out entries[] = {
        {TEXT("k1"), true, true, {TEXT("\x93\x01\x02\x03"), RK_ENCODING_MSGPACK}, 5},
        {TEXT("k2"), false, false, {{NULL, 0}, RK_ENCODING_NONE}, 0},
    };
    static struct rk_listed listed[] = {{TEXT("one"), RK_MODE_SHARED, 1, 2, 3, 4, 5}};
    static struct rk_slice ids[] = {TEXT("m1"), TEXT("m2")};
    out->holders = holders;
    out->holder_count = 2;
    out->waiters = waiters;
    out->waiter_count = 1;
    out->edges = edges;
    out->edge_count = 2;
    out->messages = messages;
    out->message_count = 2;
    out->results = results;
    out->result_count = 2;
    out->entries = entries;
    out->entry_count = 2;
    out->listed = listed;
    out->listed_count = 1;
    out->ids = (struct rk_strings){ids, 2};
}

void sample_reply_fill(struct rk_reply *out, enum rk_op op)
{
    static const struct rk_topic_stats topic_stats = {.ready = 1,
                                                      .delayed = 2,
                                                      .in_flight = 3,
                                                      .dead = 4,
                                                      .bytes = 5,
                                                      .published = 6,
                                                      .delivered = 7,
                                                      .acked = 8,
                                                      .failed = 9,
                                                      .expired = 10,
                                                      .paused = true,
                                                      .visibility_ms = 11,
                                                      .retry_ms = 13,
                                                      .dedup_ms = 15,
                                                      .ttl_ms = 16,
                                                      .bytes_max = 18,
                                                      .deliveries_max = 12,
                                                      .retry_max_ms = 14,
                                                      .messages_max = 17};
    static const struct rk_cache_stats cache_stats = {1, 2, 3, 4, 5, 6, 7};
    *out = (struct rk_reply){
        .op = op,
        .position_group = 3,
        .position_index = 70000,
        .position_history = 0x1f,
        .text = "held by bob",
        .field = TEXT("resource"),
        .outcome = RK_OUTCOME_UNKNOWN,
        .retry_after_ms = 1200,
        .leader = TEXT("127.0.0.1:7401"),
        .granted = true,
        .renewed = true,
        .released = true,
        .held = true,
        .closed = true,
        .ok = true,
        .ack = true,
        .found = true,
        .stale = true,
        .deleted = true,
        .touched = true,
        .cancelled = true,
        .is_bulk = true,
        .mode = RK_MODE_SHARED,
        .fence = UINT64_C(9007199254740991),
        .lease_ms = 30000,
        .ttl_ms = 10000,
        .visibility_ms = 5,
        .version = 77,
        .count = 3,
        .number_value = INT64_MIN,
        .session = TEXT("s1"),
        .resource = TEXT("r1"),
        .topic = TEXT("t"),
        .id = TEXT("m1"),
        .fill_token = TEXT("f1"),
        .after = TEXT("one"),
        .value = {TEXT("[1, 2]"), RK_ENCODING_JSON},
        .document = {TEXT("{\"nodes\":[]}"), RK_ENCODING_JSON},
        .topic_stats = &topic_stats,
        .cache_stats = &cache_stats,
    };
    fill_lists(out);
}

const char *sample_reply_json(const struct rk_reply *reply, struct rk_arena *arena)
{
    struct rk_buf buf;
    rk_buf_init(&buf);
    assert_int_equal(rk_reply_to_json(&buf, reply, arena), RK_OK);
    rk_buf_u8(&buf, 0);
    struct rk_slice text = rk_arena_copy(arena, rk_buf_slice(&buf));
    rk_buf_fini(&buf);
    return (const char *)text.data;
}

struct rk_slice sample_reply_msgpack(const struct rk_reply *reply, struct rk_arena *arena)
{
    struct rk_buf buf;
    rk_buf_init(&buf);
    assert_int_equal(rk_reply_to_msgpack(&buf, reply, arena), RK_OK);
    struct rk_slice bytes = rk_arena_copy(arena, rk_buf_slice(&buf));
    rk_buf_fini(&buf);
    return bytes;
}
