/* The redis engine as the twin of the state machine in the tests of queues: each call is
 * made on both, and their answers must be the same bytes, ids aside, of which each has its
 * own. Redis is a real one; only the time is the test's. */
#include "../unit/state/data_bench.h"

#include "base/alloc.h"
#include "base/assert.h"
#include "redis/store.h"

#include <errno.h>
#include <event2/event.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

enum { IDS_MAX = 1 << 16, WAIT_S = 20 };

static const char clock_lua[] =
    "local now_us = tonumber(redis.call('GET', 'test:now')) * 1000\n"
    "local function keep_ms(ms) return string.format('%.0f', ms + 600000) end\n";

/* One for the process; a bench empties it. */
struct twin {
    pid_t server;
    struct event_base *base;
    struct rk_redis_url url;
    struct rk_redis *redis;
    struct rk_store *store;
    struct rk_arena arena;
    struct rk_reply reply; /* of the store, in arena */
    bool has_reply, is_up, is_done;
    uint64_t numbers[IDS_MAX][2]; /* the machine's number of a message, the store's */
    uint32_t number_count;
    uint64_t history; /* the store's, learnt from its ids */
    uint64_t calls;
    uint64_t failed; /* for want of memory */
};

static struct twin *twin;

/* --- the server -------------------------------------------------------------------- */

static uint16_t free_port(void)
{
    struct sockaddr_in address = {.sin_family = AF_INET};
    socklen_t size = sizeof(address);
    int probe = socket(AF_INET, SOCK_STREAM, 0);
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    RK_ASSERT(probe >= 0);
    RK_ASSERT(bind(probe, (struct sockaddr *)&address, sizeof(address)) == 0);
    RK_ASSERT(getsockname(probe, (struct sockaddr *)&address, &size) == 0);
    (void)close(probe);
    return ntohs(address.sin_port);
}

static void server_start(uint16_t port)
{
    char text[8];
    (void)snprintf(text, sizeof(text), "%u", port);
    twin->server = fork();
    RK_ASSERT(twin->server >= 0);
    if (twin->server != 0) return;
    (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
    (void)freopen("/dev/null", "w", stdout);
    (void)execlp("redis-server", "redis-server", "--port", text, "--bind", "127.0.0.1",
                 "--save", "", "--appendonly", "no", (char *)NULL);
    perror("redis-server");
    _exit(127);
}

static void run_until(const bool *is_done)
{
    (void)alarm(WAIT_S);
    while (!*is_done)
        RK_ASSERT(event_base_loop(twin->base, EVLOOP_ONCE) == 0);
}

static void on_redis_log(void *context, enum rk_redis_level level, const char *text)
{
    (void)context;
    if (level == RK_REDIS_ERROR) (void)fprintf(stderr, "redis: %s\n", text);
}

static void on_state(void *context, bool is_up)
{
    (void)context;
    twin->is_up = is_up;
}

static void at_end(void)
{
    rk_store_free(twin->store);
    rk_redis_free(twin->redis);
    rk_redis_url_fini(&twin->url);
    event_base_free(twin->base);
    rk_arena_fini(&twin->arena);
    (void)kill(twin->server, SIGTERM);
    (void)waitpid(twin->server, NULL, 0);
    free(twin);
}

static void twin_start(void)
{
    char text[64];
    uint16_t port = free_port();
    twin = calloc(1, sizeof(*twin));
    RK_ASSERT(twin != NULL);
    server_start(port);
    twin->base = event_base_new();
    RK_ASSERT(twin->base != NULL);
    rk_arena_init(&twin->arena);
    (void)snprintf(text, sizeof(text), "redis://127.0.0.1:%u", port);
    enum rk_status status = rk_redis_url_parse(&twin->url, text, NULL);
    RK_ASSERT(status == RK_OK);
    struct rk_redis_options options = {
        .struct_size = sizeof(options),
        .base = twin->base,
        .url = &twin->url,
        .seed = 1,
        .io = {.log = on_redis_log, .state = on_state},
    };
    status = rk_redis_new(&twin->redis, &options, NULL);
    RK_ASSERT(status == RK_OK);
    run_until(&twin->is_up);
    (void)atexit(at_end);
}

static void on_done(void *context, const struct rk_redis_result *result)
{
    (void)context;
    RK_ASSERT(result->status == RK_OK);
    twin->is_done = true;
}

static void command(const struct rk_slice *args, uint32_t count)
{
    struct rk_redis_command one = {
        .args = args, .arg_count = count, .ask = {.done = on_done}};
    twin->is_done = false;
    RK_ASSERT(rk_redis_send(twin->redis, &one) != 0);
    run_until(&twin->is_done);
}

/* --- the store --------------------------------------------------------------------- */

static void on_reply(void *context, uint64_t number, const struct rk_reply *reply)
{
    struct rk_buf buf;
    (void)context;
    (void)number;
    rk_alloc_fail(-1, 0);
    rk_buf_init(&buf);
    rk_reply_encode(&buf, reply);
    struct rk_slice copy = rk_arena_copy(&twin->arena, rk_buf_slice(&buf));
    RK_ASSERT(rk_reply_decode(&twin->reply, copy, &twin->arena) == RK_OK);
    rk_buf_fini(&buf);
    twin->has_reply = true;
}

static const char *on_cluster(void *context)
{
    (void)context;
    return "twin";
}

static bool on_leads(void *context, uint32_t slot)
{
    (void)context;
    (void)slot;
    return true;
}

static void set_time(const struct bench *bench)
{
    char text[24];
    (void)snprintf(text, sizeof(text), "%llu", (unsigned long long)bench->now);
    struct rk_slice args[] = {RK_SLICE_LITERAL("SET"), RK_SLICE_LITERAL("test:now"),
                              rk_slice_of_string(text)};
    command(args, 3);
}

static void twin_open(struct bench *bench)
{
    if (twin == NULL) twin_start();
    struct rk_slice flush[] = {RK_SLICE_LITERAL("FLUSHALL")};
    command(flush, 1);
    twin->number_count = 0;
    twin->history = 0;
    set_time(bench);
    struct rk_store_options options = {
        .struct_size = sizeof(options),
        .base = twin->base,
        .redis = twin->redis,
        .prefix = "",
        .seed = 7,
        .clock = clock_lua,
        .io = {.reply = on_reply,
               .log = on_redis_log,
               .cluster = on_cluster,
               .leads = on_leads},
    };
    RK_ASSERT(rk_store_new(&twin->store, &options) == RK_OK);
}

static void twin_close(struct bench *bench)
{
    (void)bench;
    rk_store_free(twin->store);
    twin->store = NULL;
}

/* Until the call is answered, and what it set going by the way is done too. */
static void run_store(void)
{
    struct rk_store_stats stats;
    run_until(&twin->has_reply);
    for (;;) {
        rk_store_stats(twin->store, &stats);
        if (stats.open == 0) return;
        RK_ASSERT(event_base_loop(twin->base, EVLOOP_ONCE) == 0);
    }
}

/* --- ids --------------------------------------------------------------------------- */

static struct rk_slice id_print(const struct rk_delivery_id *id)
{
    char text[RK_DELIVERY_ID_SIZE];
    return rk_arena_copy(&twin->arena, rk_slice_of(text, rk_delivery_id_print(text, id)));
}

/* Of one side (0 the machine's, 1 the store's) as the other side has it. */
static uint64_t number_across(uint64_t number, int side)
{
    for (uint32_t i = 0; i < twin->number_count; i++)
        if (twin->numbers[i][side] == number) return twin->numbers[i][!side];
    return (UINT64_C(1) << 40) + 99999999;
}

static struct rk_slice id_across(const struct bench *bench, struct rk_slice text, int side)
{
    struct rk_delivery_id id;
    if (text.size == 0 || rk_delivery_id_parse(&id, text) != RK_OK) return text;
    uint64_t machine = rk_machine_history(bench->machine);
    uint64_t from = side == 0 ? machine : twin->history;
    uint64_t to = side == 0 ? twin->history : machine;
    id.message = number_across(id.message, side);
    id.history = id.history == from ? to : id.history + 1;
    return id_print(&id);
}

/* What was published has a number on either side. */
static void learn(struct rk_slice machine, struct rk_slice store)
{
    struct rk_delivery_id ids[2];
    RK_ASSERT(rk_delivery_id_parse(&ids[0], machine) == RK_OK);
    RK_ASSERT(rk_delivery_id_parse(&ids[1], store) == RK_OK);
    RK_ASSERT(ids[0].slot == ids[1].slot);
    twin->history = ids[1].history;
    for (uint32_t i = 0; i < twin->number_count; i++) {
        if (twin->numbers[i][0] != ids[0].message) continue;
        RK_ASSERT(twin->numbers[i][1] == ids[1].message);
        return;
    }
    RK_ASSERT(twin->number_count < IDS_MAX);
    twin->numbers[twin->number_count][0] = ids[0].message;
    twin->numbers[twin->number_count++][1] = ids[1].message;
}

static bool is_id(struct rk_slice text)
{
    struct rk_delivery_id id;
    return rk_delivery_id_parse(&id, text) == RK_OK;
}

/* --- a call ------------------------------------------------------------------------ */

/* Texts that are no ids are refused before either engine: their lines are left out. */
static void request_across(const struct bench *bench, struct rk_request *request)
{
    struct rk_slice *ids =
        rk_arena_calloc(&twin->arena, request->ids.count + 1, sizeof(*ids));
    uint32_t count = 0;
    for (uint32_t i = 0; i < request->ids.count; i++)
        if (is_id(request->ids.items[i]))
            ids[count++] = id_across(bench, request->ids.items[i], 0);
    request->ids = (struct rk_strings){ids, count};
    if (RK_HAS(request, ID)) request->id = count > 0 ? ids[0] : request->id;
    if (request->op != RK_OP_QUEUE_PEEK) return;
    request->id = id_across(bench, request->id, 0);
    request->after = id_across(bench, request->after, 0);
}

static void reply_across(const struct bench *bench, struct rk_reply *reply)
{
    reply->id = id_across(bench, reply->id, 1);
    for (uint32_t i = 0; i < reply->ids.count; i++)
        reply->ids.items[i] = id_across(bench, reply->ids.items[i], 1);
    for (uint32_t i = 0; i < reply->message_count; i++) {
        reply->messages[i].id = id_across(bench, reply->messages[i].id, 1);
        reply->messages[i].message_id = id_across(bench, reply->messages[i].message_id, 1);
    }
    for (uint32_t i = 0; i < reply->result_count; i++)
        reply->results[i].id = id_across(bench, reply->results[i].id, 1);
    if (reply->op == RK_OP_QUEUE_PEEK) reply->after = id_across(bench, reply->after, 1);
}

/* The machine's reply without the lines that the twin was not asked for. */
static struct rk_reply expected_of(const struct rk_reply *reply)
{
    struct rk_reply out = *reply;
    out.results =
        rk_arena_calloc(&twin->arena, reply->result_count + 1, sizeof(*out.results));
    out.result_count = 0;
    for (uint32_t i = 0; i < reply->result_count; i++)
        if (is_id(reply->results[i].id))
            out.results[out.result_count++] = reply->results[i];
    if (out.result_count != reply->result_count) {
        bool is_all = true;
        for (uint32_t i = 0; i < out.result_count; i++)
            is_all = is_all && out.results[i].status == RK_OK;
        out.ack = reply->op == RK_OP_QUEUE_ACK && is_all;
        out.ok =
            (reply->op == RK_OP_QUEUE_NACK || reply->op == RK_OP_QUEUE_EXTEND) && is_all;
        out.deleted = reply->op == RK_OP_QUEUE_DELETE && is_all;
    }
    return out;
}

static void print(struct rk_buf *out, const struct rk_reply *reply, bool as_json)
{
    struct rk_arena arena;
    rk_arena_init(&arena);
    enum rk_status status = RK_OK;
    if (as_json)
        status = rk_reply_to_json(out, reply, &arena);
    else
        rk_reply_encode(out, reply);
    RK_ASSERT(status == RK_OK || status == RK_ECONVERT);
    rk_arena_fini(&arena);
}

static bool is_same(const struct rk_reply *expected, const struct rk_reply *reply,
                    bool as_json, bool is_loud)
{
    struct rk_buf bufs[2];
    rk_buf_init(&bufs[0]);
    rk_buf_init(&bufs[1]);
    print(&bufs[0], expected, as_json);
    print(&bufs[1], reply, as_json);
    bool is_equal = rk_slice_is_equal(rk_buf_slice(&bufs[0]), rk_buf_slice(&bufs[1]));
    if (is_loud)
        (void)fprintf(stderr, "machine: %.*s\nredis:   %.*s\n", (int)bufs[0].size,
                      (const char *)bufs[0].data, (int)bufs[1].size,
                      (const char *)bufs[1].data);
    rk_buf_fini(&bufs[0]);
    rk_buf_fini(&bufs[1]);
    return is_equal;
}

/* A refusal is what a client sees of it; else all that is in the reply counts. */
static void compare(const struct rk_reply *expected, const struct rk_reply *reply)
{
    if (is_same(expected, reply, expected->status != RK_OK, false)) return;
    (void)fprintf(stderr, "call %llu, %s: two engines, two answers\n",
                  (unsigned long long)twin->calls, rk_op_info(expected->op)->name);
    (void)is_same(expected, reply, true, true);
    RK_ASSERT(!"two answers");
}

static void ask_once(const struct rk_request *request, int64_t fail_after)
{
    twin->has_reply = false;
    twin->calls++;
    rk_alloc_fail(fail_after, 0);
    rk_store_call(twin->store, twin->calls, request);
    run_until(&twin->has_reply);
    rk_alloc_fail(-1, 0);
    run_store();
}

/* With RUKUN_TWIN_FAILS an allocation fails on the way, another one each time. Whatever the
 * store says then, the same request is answered as if nothing had been. */
static void ask_store(const struct rk_request *request)
{
    if (getenv("RUKUN_TWIN_FAILS") != NULL) {
        ask_once(request, (int64_t)(twin->calls % 53));
        enum rk_status status = twin->reply.status;
        if (status == RK_ENOMEM || status == RK_EBUSY || status == RK_EIO) twin->failed++;
    }
    ask_once(request, -1);
}

static void twin_call(struct bench *bench, const struct rk_request *request, uint64_t seq,
                      uint64_t first_unanswered, const struct rk_reply *reply)
{
    if (bench->is_broken || request->op < RK_OP_QUEUE_PUBLISH) return;
    struct rk_request across = *request;
    rk_arena_reset(&twin->arena);
    request_across(bench, &across);
    if (request->ids.count != 0 && across.ids.count == 0) return;
    across.client = RK_SLICE_LITERAL("c");
    across.seq = seq;
    across.first_unanswered = first_unanswered;
    set_time(bench);
    ask_store(&across);
    /* Time went by without a sweep: what became dead letters meanwhile is listed after the
     * first look at it. */
    if (request->op == RK_OP_QUEUE_LIST || request->op == RK_OP_QUEUE_STATS)
        ask_store(&across);
    for (uint32_t i = 0; i < reply->ids.count && i < twin->reply.ids.count; i++)
        learn(reply->ids.items[i], twin->reply.ids.items[i]);
    reply_across(bench, &twin->reply);
    struct rk_reply expected = expected_of(reply);
    compare(&expected, &twin->reply);
}

const struct bench_twin *bench_twin(void)
{
    static const struct bench_twin engine = {twin_open, twin_close, twin_call};
    return &engine;
}
