/* Calls on queues and caches against a server that dies, errs and forgets: what callers are
 * told of what became of them. */
#include "client_world.h"

#include "redis/caches.h"
#include "redis/store.h"

#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>

#include <cmocka.h>
#include <event2/event.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { HISTORY = 7 };

/* What the server answers to WAIT. */
enum waiting { ENOUGH, HANGS_UP, TOO_FEW };

struct node {
    struct world world;
    struct rk_store *store;
    struct rk_redis_caches *caches;
    struct rk_arena arena;
    enum waiting waiting;
    struct fake_link *listener; /* the connection with subscriptions */
    const char *error;          /* of scripts that name "bad"; NULL: they work */
    uint64_t asked;             /* number of the last call */
    uint64_t answered;
    enum rk_status status;
    uint8_t outcome;
    char text[256];
};

/* --- the server ---------------------------------------------------------------------- */

static void subscribe(struct node *node, struct fake_link *link, const char *channels)
{
    char reply[256];
    node->listener = link;
    while (*channels != '\0') {
        size_t size = strcspn(channels, " ");
        (void)snprintf(reply, sizeof(reply),
                       "*3\r\n$9\r\nsubscribe\r\n$%zu\r\n%.*s\r\n:1\r\n", size, (int)size,
                       channels);
        fake_write(link, reply);
        channels += size + (channels[size] == ' ');
    }
}

/* PUBLISH channel message: to the one who listens. */
static void publish(struct node *node, struct fake_link *link, const char *text)
{
    const char *message = strchr(text, ' ');
    char reply[600];
    (void)snprintf(reply, sizeof(reply),
                   "*3\r\n$7\r\nmessage\r\n$%zu\r\n%.*s\r\n$%zu\r\n%s\r\n",
                   (size_t)(message - text), (int)(message - text), text,
                   strlen(message + 1), message + 1);
    fake_write(link, ":1\r\n");
    if (node->listener != NULL) fake_write(node->listener, reply);
}

static void say_wait(struct fake_link *link, enum waiting waiting)
{
    if (waiting == HANGS_UP)
        fake_hang_up(link);
    else
        fake_write(link, waiting == ENOUGH ? ":1\r\n" : ":0\r\n");
}

static void answer(struct fake_link *link, const char *text)
{
    struct node *node = RK_CONTAINER(link->fake->context, struct node, world);
    if (strncmp(text, "SUBSCRIBE ", 10) == 0)
        subscribe(node, link, text + 10);
    else if (strncmp(text, "PUBLISH ", 8) == 0)
        publish(node, link, text + 8);
    else if (strncmp(text, "WAIT ", 5) == 0)
        say_wait(link, node->waiting);
    else if (strstr(text, "rukun:meta") != NULL)
        fake_write(link, "*3\r\n$1\r\n1\r\n$1\r\nc\r\n$1\r\n7\r\n");
    else if (strncmp(text, "HGETALL", 7) == 0)
        fake_write(link, "*0\r\n");
    else if (strncmp(text, "HSET", 4) == 0)
        fake_write(link, ":1\r\n");
    else if (node->error != NULL && strstr(text, "bad") != NULL)
        fake_write(link, node->error);
    else if (strstr(text, "q:{") != NULL)
        fake_write(link, "*4\r\n:0\r\n:0\r\n:0\r\n$2\r\nid\r\n");
    else if (strstr(text, "cache:{counter}") != NULL)
        fake_write(link, "*3\r\n$2\r\nok\r\n:5\r\n$1\r\n1\r\n");
    else if (strstr(text, ":request:") != NULL)
        fake_write(link, "*3\r\n$2\r\nok\r\n:5\r\n:1\r\n");
    else if (strstr(text, "{\"op\"") != NULL)
        fake_write(link, "*2\r\n:1\r\n:5\r\n"); /* touch */
    else
        fake_write(link, "*9\r\n:9\r\n:1\r\n$1\r\n1\r\n$4\r\njson\r\n:5\r\n:-1\r\n:-1\r\n"
                         ":0\r\n:0\r\n");
}

/* --- the node ------------------------------------------------------------------------ */

static void on_reply(void *context, uint64_t number, const struct rk_reply *reply)
{
    struct node *node = context;
    if (number != node->asked) return;
    node->answered = number;
    node->status = reply->status;
    node->outcome = reply->outcome;
    (void)snprintf(node->text, sizeof(node->text), "%s", reply->text);
}

static void on_log(void *context, enum rk_redis_level level, const char *text)
{
    (void)context;
    (void)level;
    (void)text;
}

static const char *cluster_of(void *context)
{
    (void)context;
    return "c";
}

static bool leads_none(void *context, uint32_t slot)
{
    (void)context;
    (void)slot;
    return false;
}

static uint32_t group_of(void *context, struct rk_slice key)
{
    (void)context;
    (void)key;
    return 3;
}

static void node_init(struct node *node, const char *query)
{
    memset(node, 0, sizeof(*node));
    rk_arena_init(&node->arena);
    world_init(&node->world, "redis", query, answer);
    const struct rk_store_options store = {
        .struct_size = sizeof(store),
        .base = node->world.base,
        .redis = node->world.redis,
        .prefix = "",
        .wait = node->world.url.wait,
        .io = {node, on_reply, on_log, cluster_of, leads_none},
    };
    const struct rk_redis_caches_options caches = {
        .struct_size = sizeof(caches),
        .base = node->world.base,
        .redis = node->world.redis,
        .prefix = "",
        .node = "n",
        .lru_bytes = 1 << 20,
        .wait = node->world.url.wait,
        .io = {node, on_reply, group_of, on_log},
    };
    assert_int_equal(rk_store_new(&node->store, &store), RK_OK);
    assert_int_equal(rk_redis_caches_new(&node->caches, &caches), RK_OK);
}

static void node_fini(struct node *node)
{
    rk_redis_caches_free(node->caches);
    rk_store_free(node->store);
    world_fini(&node->world);
    rk_arena_fini(&node->arena);
}

/* Takes {"field": ...} for a call on a queue or a cache, with an id of the client's. */
static void begin(struct node *node, enum rk_op op, const char *json,
                  const struct rk_position *position)
{
    struct rk_request request;
    struct rk_api_error error;
    if (rk_request_from_json(&request, op, rk_slice_of_string(json), &node->arena,
                             &error) != RK_OK)
        fail_msg("%s: %s", json, error.text);
    node->asked++;
    request.client = RK_SLICE_LITERAL("me");
    request.seq = request.first_unanswered = node->asked;
    if (position != NULL) request.position = *position;
    if (op < RK_OP_CACHE_GET) {
        request.deadline_ms = 20000;
        rk_store_call(node->store, node->asked, &request);
    } else {
        rk_redis_caches_call(node->caches, node->asked, &request, 20000);
    }
}

static void turn(struct node *node, uint64_t limit)
{
    assert_int_equal(event_base_loop(node->world.base, EVLOOP_ONCE), 0);
    assert_true(now_ms() < limit);
}

static void end(struct node *node)
{
    uint64_t limit = now_ms() + 20000;
    while (node->answered != node->asked)
        turn(node, limit);
}

static void ask(struct node *node, enum rk_op op, const char *json)
{
    begin(node, op, json, NULL);
    end(node);
}

/* --- replicas ------------------------------------------------------------------------ */

static const struct {
    enum rk_op op;
    const char *json;
} writes[] = {
    {RK_OP_QUEUE_PUBLISH, "{\"topic\":\"t\",\"data\":1}"},
    {RK_OP_CACHE_PUT, "{\"key\":\"k\",\"value\":1}"},
    {RK_OP_CACHE_DELETE, "{\"key\":\"k\"}"},
    {RK_OP_CACHE_DELETE, "{\"keys\":[\"k\",\"l\"]}"},
    {RK_OP_CACHE_TOUCH, "{\"key\":\"k\",\"ttl_ms\":1}"},
    {RK_OP_CACHE_ADD, "{\"key\":\"counter\",\"delta\":1}"},
    {RK_OP_CACHE_CONFIGURE, "{\"ttl_ms\":1000}"},
};

enum { WRITES = sizeof(writes) / sizeof(writes[0]) };

/* The master takes the write, and dies before it says whether a replica has it. */
static void test_who_has_it_is_not_known(void **state)
{
    static struct node node;
    static const char *const texts[] = {
        [HANGS_UP] = "done, but Redis was lost before",
        [TOO_FEW] = "done, but only 0 of 1 replicas have it",
    };
    (void)state;
    node_init(&node, "?wait=1&wait-ms=50");
    rk_redis_caches_history(node.caches, HISTORY);
    for (size_t i = 0; i < WRITES; i++) {
        for (int waiting = ENOUGH; waiting <= TOO_FEW; waiting++) {
            node.waiting = (enum waiting)waiting;
            ask(&node, writes[i].op, writes[i].json);
            if (waiting == ENOUGH) {
                if (node.status != RK_OK) fail_msg("%s: %s", writes[i].json, node.text);
                continue;
            }
            if (node.status != RK_EUNKNOWN || node.outcome != RK_OUTCOME_UNKNOWN ||
                strncmp(node.text, texts[waiting], strlen(texts[waiting])) != 0)
                fail_msg("%s, %d: %s, outcome %d, %s", writes[i].json, waiting,
                         rk_status_text(node.status), node.outcome, node.text);
        }
    }
    /* A read waits for nobody. */
    ask(&node, RK_OP_CACHE_GET, "{\"key\":\"k\"}");
    assert_int_equal(node.status, RK_OK);
    node_fini(&node);
}

/* --- errors -------------------------------------------------------------------------- */

static void check_error(struct node *node, const char *error, enum rk_status status,
                        enum rk_outcome outcome, enum rk_op op, const char *json)
{
    node->error = error;
    ask(node, op, json);
    if (node->status != status || node->outcome != outcome)
        fail_msg("%s, %s: %s, outcome %d, %s", json, error, rk_status_text(node->status),
                 node->outcome, node->text);
}

/* A script that fails in its midst has written what it wrote until then. */
static void test_a_script_that_fails(void **state)
{
    static struct node node;
    static const char inner[] = "-ERR The user can't run this command script: x\r\n";
    static const char denied[] = "-NOPERM x\r\n";
    static const char full[] = "-OOM x\r\n";
    static const char publish_it[] = "{\"topic\":\"bad\",\"data\":1}";
    static const char put_it[] = "{\"key\":\"bad\",\"value\":1}";
    static const char get_it[] = "{\"key\":\"bad\"}";
    (void)state;
    node_init(&node, "");
    rk_redis_caches_history(node.caches, HISTORY);
    const enum rk_outcome unknown = RK_OUTCOME_UNKNOWN, not_done = RK_OUTCOME_NOT_DONE;
    check_error(&node, inner, RK_EIO, unknown, RK_OP_QUEUE_PUBLISH, publish_it);
    check_error(&node, denied, RK_EIO, unknown, RK_OP_QUEUE_PUBLISH, publish_it);
    check_error(&node, full, RK_EFULL, not_done, RK_OP_QUEUE_PUBLISH, publish_it);
    check_error(&node, inner, RK_EIO, not_done, RK_OP_QUEUE_INFO, "{\"topic\":\"bad\"}");
    check_error(&node, inner, RK_EIO, unknown, RK_OP_CACHE_PUT, put_it);
    check_error(&node, denied, RK_EDENIED, unknown, RK_OP_CACHE_PUT, put_it);
    check_error(&node, full, RK_EFULL, not_done, RK_OP_CACHE_PUT, put_it);
    check_error(&node, inner, RK_EIO, not_done, RK_OP_CACHE_GET, get_it);
    /* Of two keys one is done, whichever is answered first. */
    check_error(&node, full, RK_EFULL, unknown, RK_OP_CACHE_DELETE,
                "{\"keys\":[\"bad\",\"k\"]}");
    check_error(&node, full, RK_EFULL, unknown, RK_OP_CACHE_DELETE,
                "{\"keys\":[\"k\",\"bad\"]}");
    node_fini(&node);
}

/* --- waiting ------------------------------------------------------------------------- */

/* A read that comes before it is known whose data Redis holds outlives what it came in. */
static void test_a_call_that_waits(void **state)
{
    static struct node node;
    struct rk_redis_caches_stats stats;
    (void)state;
    node_init(&node, "");
    uint64_t limit = now_ms() + 20000;
    do {
        turn(&node, limit);
        rk_redis_caches_stats(node.caches, &stats);
    } while (!stats.is_live);
    struct rk_position position = {.history = HISTORY, .count = 1};
    position.items = test_malloc(sizeof(*position.items));
    position.items[0] = (struct rk_position_item){3, 1};
    begin(&node, RK_OP_CACHE_GET, "{\"keys\":[\"k\",\"l\"]}", &position);
    test_free(position.items);
    turn(&node, limit);
    assert_int_not_equal(node.answered, node.asked);
    rk_redis_caches_history(node.caches, HISTORY);
    end(&node);
    assert_int_equal(node.status, RK_OK);
    rk_redis_caches_history(node.caches, 0);
    begin(&node, RK_OP_CACHE_PUT, "{\"key\":\"k\",\"value\":1}", NULL);
    rk_redis_caches_refuse(node.caches, "it is not ours");
    end(&node);
    assert_int_equal(node.status, RK_EUNAVAILABLE);
    assert_int_equal(node.outcome, RK_OUTCOME_NOT_DONE);
    assert_string_equal(node.text, "it is not ours");
    node_fini(&node);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_who_has_it_is_not_known),
        cmocka_unit_test(test_a_script_that_fails),
        cmocka_unit_test(test_a_call_that_waits),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
