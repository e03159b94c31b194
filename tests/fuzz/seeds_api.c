/* Seeds of requests, replies, values and what stands around them on the wire. */
#include "seeds.h"

#include "raft/wire.h"
#include "rukund/rpc_message.h"

#include <stdio.h>

const struct seed_call seed_calls[] = {
    {RK_OP_SESSION_OPEN, "{\"ttl_ms\":1000,\"name\":\"n\"}"},
    {RK_OP_SESSION_LIST, "{\"limit\":2}"},
    {RK_OP_LOCK_ACQUIRE, "{\"resource\":\"r\",\"owner\":\"o\",\"lease_ms\":1000}"},
    {RK_OP_LOCK_ACQUIRE, "{\"resource\":\"r\",\"owner\":\"p\",\"wait_ms\":5000}"},
    {RK_OP_LOCK_ACQUIRE, "{\"resources\":[{\"resource\":\"r\",\"mode\":\"shared\"},"
                         "{\"resource\":\"s\",\"mode\":\"exclusive\"}],\"owner\":\"q\","
                         "\"session\":\"@7\",\"wait_ms\":900,\"priority\":-3}"},
    {RK_OP_LOCK_ACQUIRE, "{\"resource\":\"t\",\"owner\":\"o\",\"limit\":2,"
                         "\"reentrant\":true,\"min_hold_ms\":10,\"max_hold_ms\":90,"
                         "\"lock_delay_ms\":50}"},
    {RK_OP_LOCK_RENEW, "{\"resource\":\"r\",\"owner\":\"o\",\"lease_ms\":2000}"},
    {RK_OP_LOCK_CHECK, "{\"resource\":\"r\",\"owner\":\"o\"}"},
    {RK_OP_LOCK_INFO, "{\"resource\":\"r\"}"},
    {RK_OP_LOCK_LIST, "{\"prefix\":\"r\"}"},
    {RK_OP_LOCK_GRAPH, "{}"},
    {RK_OP_LOCK_RELEASE, "{\"resource\":\"r\",\"owner\":\"o\"}"},
    {RK_OP_LOCK_BREAK, "{\"resource\":\"t\"}"},
    {RK_OP_LOCK_CANCEL, "{\"client\":\"a\",\"seq\":4}"},
    {RK_OP_SESSION_CLOSE, "{\"session\":\"@7\"}"},
    {RK_OP_QUEUE_CONFIGURE, "{\"topic\":\"t\",\"visibility_ms\":500,\"deliveries_max\":2,"
                            "\"retry_ms\":100,\"dedup_ms\":9000,\"messages_max\":9}"},
    {RK_OP_QUEUE_PUBLISH, "{\"topic\":\"t\",\"data\":{\"a\":[1,2.5,null]},\"priority\":9,"
                          "\"publish_id\":\"p\",\"headers\":{\"h\":\"v\"}}"},
    {RK_OP_QUEUE_PUBLISH,
     "{\"topic\":\"t\",\"messages\":[{\"data\":1,\"group\":\"g\"},"
     "{\"data\":2,\"group\":\"g\",\"delay_ms\":300},{\"data\":3,"
     "\"unique\":{\"key\":\"u\",\"scope\":\"queued\"},\"ttl_ms\":700}]}"},
    {RK_OP_QUEUE_CONSUME, "{\"topic\":\"t\",\"consumer\":\"c\",\"max\":3}"},
    {RK_OP_QUEUE_EXTEND, "{\"id\":\"@0\",\"visibility_ms\":1000}"},
    {RK_OP_QUEUE_PEEK, "{\"topic\":\"t\"}"},
    {RK_OP_QUEUE_NACK, "{\"ids\":[\"@0\",\"@1\"],\"delay_ms\":10}"},
    {RK_OP_QUEUE_NACK, "{\"id\":\"@2\",\"dead\":true}"},
    {RK_OP_QUEUE_CONSUME, "{\"topic\":\"t\"}"},
    {RK_OP_QUEUE_ACK, "{\"id\":\"@3\"}"},
    {RK_OP_QUEUE_PAUSE, "{\"topic\":\"t\"}"},
    {RK_OP_QUEUE_RESUME, "{\"topic\":\"t\"}"},
    {RK_OP_QUEUE_REDRIVE, "{\"topic\":\"t\",\"to\":\"v\"}"},
    {RK_OP_QUEUE_DELETE, "{\"id\":\"@8\"}"},
    {RK_OP_QUEUE_INFO, "{\"topic\":\"t\"}"},
    {RK_OP_QUEUE_STATS, "{\"topic\":\"t\"}"},
    {RK_OP_QUEUE_LIST, "{}"},
    {RK_OP_QUEUE_PURGE, "{\"topic\":\"t\"}"},
    {RK_OP_CACHE_CONFIGURE, "{\"cache\":\"c\",\"bytes_max\":4096,\"policy\":\"lru\"}"},
    {RK_OP_CACHE_GET, "{\"key\":\"k\",\"cache\":\"c\",\"fill_ms\":1000}"},
    {RK_OP_CACHE_PUT,
     "{\"key\":\"k\",\"cache\":\"c\",\"value\":[1],\"fill_token\":\"@6\"}"},
    {RK_OP_CACHE_PUT, "{\"key\":\"k\",\"value\":\"x\",\"ttl_ms\":900,\"soft_ttl_ms\":300,"
                      "\"if_version\":0,\"fence\":7,\"fence_name\":\"f\"}"},
    {RK_OP_CACHE_ADD, "{\"key\":\"n\",\"delta\":-2,\"initial\":10,\"ttl_ms\":500}"},
    {RK_OP_CACHE_TOUCH, "{\"key\":\"k\",\"ttl_ms\":800}"},
    {RK_OP_CACHE_GET, "{\"keys\":[\"k\",\"n\",\"z\"]}"},
    {RK_OP_CACHE_DELETE, "{\"keys\":[\"k\",\"z\"]}"},
    {RK_OP_CACHE_DELETE, "{\"key\":\"n\",\"if_version\":3}"},
    {RK_OP_CACHE_STATS, "{}"},
    {RK_OP_CACHE_INVALIDATE, "{\"cache\":\"c\"}"},
    {RK_OP_CLUSTER_TRANSFER, "{\"group\":1,\"to\":\"n2\"}"},
};
const uint32_t seed_call_count = sizeof(seed_calls) / sizeof(seed_calls[0]);

static void seed_call(const struct seed_call *call, uint32_t number)
{
    char name[64];
    struct rk_arena arena;
    struct rk_request request;
    struct rk_api_error error;
    struct rk_buf json, msgpack, log;
    struct rk_slice body = rk_slice_of_string(call->body);
    rk_arena_init(&arena);
    rk_buf_init(&json);
    rk_buf_init(&msgpack);
    rk_buf_init(&log);
    enum rk_status status = rk_request_from_json(&request, call->op, body, &arena, &error);
    if (status != RK_OK)
        fprintf(stderr, "%s: %s: %s\n", call->body, error.field, error.text);
    RK_ASSERT(status == RK_OK);
    rk_buf_u8(&json, (uint8_t)call->op);
    rk_buf_append_slice(&json, body);
    rk_buf_u8(&msgpack, (uint8_t)call->op);
    rk_request_to_msgpack(&msgpack, &request);
    rk_request_encode(&log, &request);
    (void)snprintf(name, sizeof(name), "%02u-%s", number, rk_op_info(call->op)->name);
    seed_write("request_json", name, rk_buf_slice(&json));
    seed_write("request_msgpack", name, rk_buf_slice(&msgpack));
    seed_write("request_log", name, rk_buf_slice(&log));
    rk_buf_fini(&json);
    rk_buf_fini(&msgpack);
    rk_buf_fini(&log);
    rk_arena_fini(&arena);
}

static void seed_rpc(const char *name, uint64_t id, const char *method,
                     struct rk_slice params)
{
    static const uint8_t sizes[] = {3, 0, 1, 7, 30};
    struct rk_buf out;
    rk_buf_init(&out);
    rk_buf_append(&out, sizes, sizeof(sizes));
    rk_rpc_write_array(&out, id == 0 ? 3 : 4);
    rk_rpc_write_uint(&out, id == 0 ? RK_RPC_NOTIFICATION : RK_RPC_REQUEST);
    if (id != 0) rk_rpc_write_uint(&out, id);
    rk_rpc_write_text(&out, rk_slice_of_string(method));
    rk_rpc_write_array(&out, params.size == 0 ? 0 : 1);
    rk_buf_append_slice(&out, params);
    seed_write("rpc", name, rk_buf_slice(&out));
    rk_buf_fini(&out);
}

static void seed_value(const char *name, uint8_t kind, struct rk_slice value)
{
    struct rk_buf out;
    rk_buf_init(&out);
    rk_buf_u8(&out, kind);
    rk_buf_append_slice(&out, value);
    seed_write("value", name, rk_buf_slice(&out));
    rk_buf_fini(&out);
}

static void seed_values(void)
{
    static const char json[] =
        "{\"a\":[1,-2,3.25,1e300,true,null,\"\\u00e9\\n\"],\"b\":{}}";
    static const uint8_t msgpack[] = {
        0x82, 0xa1, 'a',  0x95, 0x01, 0xd3, 0xff, 0xff, 0xff, 0xff, 0,    0,    0,    0,
        0xcb, 0x40, 0x09, 0x21, 0xfb, 0x54, 0x44, 0x2d, 0x18, 0xc3, 0xc0, 0xa1, 'b',  0xde,
        0,    1,    0xd9, 1,    'c',  0xcf, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff};
    seed_value("json", 0, rk_slice_of_string(json));
    seed_value("msgpack", 1, rk_slice_of(msgpack, sizeof(msgpack)));
    seed_value("binary", 1, RK_SLICE_LITERAL("\xc4\x03\x01\x02\x03"));
    seed_value("raw", 2, RK_SLICE_LITERAL("\x00\xff text"));
    seed_rpc("request", 7, "queue.publish", rk_slice_of(msgpack, sizeof(msgpack)));
    seed_rpc("plain", 70000, "cluster.info", RK_SLICE_EMPTY);
    seed_rpc("notification", 0, "cancel", RK_SLICE_LITERAL("\x81\xa2id\x07"));
    seed_write("rpc", "bomb",
               RK_SLICE_LITERAL("\x01\x00\x05\x94\x00\x01\xdd\x0f\xff\xff\xff"));
}

static void seed_replies(void)
{
    struct rk_delivery_out messages[] = {
        {.id = RK_SLICE_LITERAL("d1"),
         .message_id = RK_SLICE_LITERAL("m1"),
         .message = {RK_SLICE_LITERAL("[1]"), RK_ENCODING_JSON},
         .attempt = 2,
         .state = RK_SLICE_LITERAL("ready")}};
    struct rk_holder holders[] = {{.owner = RK_SLICE_LITERAL("o"), .fence = 5, .count = 1}};
    struct rk_entry_out entries[] = {
        {.key = RK_SLICE_LITERAL("k"),
         .found = true,
         .value = {RK_SLICE_LITERAL("\xa1x"), RK_ENCODING_MSGPACK},
         .version = 3}};
    const struct rk_reply replies[] = {
        {.op = RK_OP_LOCK_ACQUIRE, .granted = true, .fence = 9, .lease_ms = 30000},
        {.op = RK_OP_LOCK_ACQUIRE,
         .status = RK_EHELD,
         .text = "held",
         .holders = holders,
         .holder_count = 1,
         .retry_after_ms = 100},
        {.op = RK_OP_QUEUE_CONSUME, .messages = messages, .message_count = 1},
        {.op = RK_OP_CACHE_GET, .is_bulk = true, .entries = entries, .entry_count = 1},
    };
    for (size_t i = 0; i < sizeof(replies) / sizeof(replies[0]); i++) {
        char name[16];
        struct rk_buf out;
        rk_buf_init(&out);
        rk_reply_encode(&out, &replies[i]);
        (void)snprintf(name, sizeof(name), "%zu", i);
        seed_write("reply_log", name, rk_buf_slice(&out));
        rk_buf_fini(&out);
    }
}

static void seed_raft_message(const char *name, const struct rk_raft_message *message)
{
    struct rk_buf out;
    rk_buf_init(&out);
    rk_buf_u8(&out, 0);
    rk_raft_message_encode(&out, message);
    seed_write("raft_message", name, rk_buf_slice(&out));
    rk_buf_fini(&out);
}

static void seed_raft(void)
{
    const struct rk_raft_entry entries[] = {
        {6, 2, RK_SLICE_LITERAL("data"), RK_RAFT_ENTRY_NORMAL},
        {7, 3, RK_SLICE_EMPTY, RK_RAFT_ENTRY_CONF_V2}};
    const struct rk_raft_snapshot snapshot = {.index = 9,
                                              .term = 2,
                                              .conf = {.voters = {2, {1, 2}},
                                                       .voters_outgoing = {1, {1}},
                                                       .learners = {1, {4}},
                                                       .auto_leave = true}};
    const struct rk_raft_message append = {.type = RK_RAFT_MSG_APP,
                                           .from = 1,
                                           .to = 2,
                                           .term = 3,
                                           .log_term = 2,
                                           .index = 5,
                                           .commit = 4,
                                           .entries = entries,
                                           .entry_count = 2};
    const struct rk_raft_message install = {
        .type = RK_RAFT_MSG_SNAP, .from = 1, .to = 2, .term = 3, .snapshot = &snapshot};
    const struct rk_raft_message vote = {.type = RK_RAFT_MSG_PRE_VOTE_RESP,
                                         .from = 2,
                                         .to = 1,
                                         .term = 300,
                                         .reject = true,
                                         .context = 77};
    const struct rk_raft_conf_change change = {
        .transition = RK_RAFT_TRANSITION_JOINT_IMPLICIT,
        .count = 2,
        .changes = {{RK_RAFT_ADD_VOTER, 4}, {RK_RAFT_REMOVE, 1}},
        .context = RK_SLICE_LITERAL("c")};
    struct rk_buf out;
    seed_raft_message("append", &append);
    seed_raft_message("install", &install);
    seed_raft_message("vote", &vote);
    rk_buf_init(&out);
    rk_buf_u8(&out, 1);
    rk_raft_conf_state_encode(&out, &snapshot.conf);
    seed_write("raft_message", "conf_state", rk_buf_slice(&out));
    rk_buf_reset(&out);
    rk_buf_u8(&out, 2);
    rk_raft_snapshot_encode(&out, &snapshot);
    seed_write("raft_message", "snapshot", rk_buf_slice(&out));
    rk_buf_reset(&out);
    rk_buf_u8(&out, 3);
    RK_ASSERT(rk_raft_conf_change_encode(&out, &change) == RK_OK);
    seed_write("raft_message", "conf_change", rk_buf_slice(&out));
    rk_buf_fini(&out);
}

/* The names of all fields, bare and as JSON has them. */
static void seed_dictionary(void)
{
    struct rk_buf out;
    rk_buf_init(&out);
    for (uint32_t field = 0; field < RK_FIELD_END; field++) {
        const struct rk_field_info *info = rk_field_info((enum rk_field)field);
        if (info == NULL) continue;
        rk_buf_printf(&out, "\"%s\"\n\"\\\"%s\\\":\"\n", info->name, info->name);
        for (uint32_t i = 0; info->words != NULL && info->words[i] != NULL; i++)
            if (info->words[i][0] != '\0') rk_buf_printf(&out, "\"%s\"\n", info->words[i]);
    }
    seed_write("dictionary", "api", rk_buf_slice(&out));
    rk_buf_fini(&out);
}

void seeds_of_api(void)
{
    seed_dictionary();
    for (uint32_t i = 0; i < seed_call_count; i++)
        seed_call(&seed_calls[i], i);
    seed_values();
    seed_replies();
    seed_raft();
}
