/* Channels, Sentinels and maps that lie, and a whole life with allocations that fail. */
#include "client_world.h"

#include "base/alloc.h"
#include "redis/redis_internal.h"

#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>

#include <cmocka.h>
#include <event2/event.h>
#include <stdio.h>
#include <string.h>

static void answer_channels(struct fake_link *link, const char *text)
{
    if (strcmp(text, "SUBSCRIBE c") == 0)
        fake_write(link,
                   "*3\r\n$9\r\nsubscribe\r\n$1\r\nc\r\n:1\r\n"
                   "*3\r\n$7\r\nmessage\r\n$1\r\nc\r\n$2\r\nhi\r\n"
                   "*3\r\n$7\r\nmessage\r\n$1\r\nd\r\n$2\r\nhi\r\n"
                   "*1\r\n+x\r\n*3\r\n:1\r\n:2\r\n:3\r\n*2\r\n$4\r\npong\r\n$0\r\n\r\n");
}

static void on_message(void *context, struct rk_slice payload)
{
    struct world *world = context;
    assert_true(rk_slice_is_equal(payload, RK_SLICE_LITERAL("hi")));
    world->messages++;
}

static void on_channel(void *context, bool is_up)
{
    struct world *world = context;
    assert_false(world->is_within);
    if (is_up) world->channel_ups++;
}

static void test_channels(void **state)
{
    static struct world world;
    (void)state;
    world_init(&world, "redis", "", answer_channels);
    struct rk_redis_subscription first = {
        .channel = "c", .context = &world, .message = on_message, .state = on_channel};
    struct rk_redis_subscription second = first;
    world.is_within = true;
    assert_int_equal(rk_redis_subscribe(world.redis, &first), RK_OK);
    assert_int_equal(rk_redis_subscribe(world.redis, &first), RK_EEXIST);
    world.is_within = false;
    turn_until(&world, &world.messages, 1);
    assert_int_equal(rk_redis_subscribe(world.redis, &second), RK_OK);
    turn_until(&world, &world.channel_ups, 2);
    turn_until(&world, &world.messages, 3); /* one more, to both */
    fake_hang_up_all(&world.fake);
    turn_until(&world, &world.channel_ups, 4);
    rk_redis_unsubscribe(world.redis, &first);
    rk_redis_unsubscribe(world.redis, &first);
    rk_redis_unsubscribe(world.redis, &second);
    world_fini(&world);
}

/* ---- configuration ------------------------------------------------------------------ */

static void say_nothing(struct fake_link *link, const char *text)
{
    (void)link;
    (void)text;
}

/* Once more after an answer that may be on its way. */
static void read_again(struct world *world)
{
    turn_until(world, &world->facts, world->facts + 2);
}

static void test_configuration(void **state)
{
    static struct world world;
    (void)state;
    world_init(&world, "redis", "?check-ms=100", say_nothing);
    assert_null(rk_redis_master(world.redis, 1));
    turn_until(&world, &world.facts, 1);
    assert_int_equal(world.servers, 1);
    const struct rk_redis_server *server = rk_redis_master(world.redis, 1);
    assert_non_null(server);
    assert_null(rk_redis_master(world.redis, 2));
    assert_string_equal(server->policy, "noeviction");
    assert_string_equal(server->fsync, "everysec");
    assert_false(server->is_aof);
    world.fake.info = "run_id:def\r\nmaxmemory_policy:allkeys-lru\r\naof_enabled:1\r\n"
                      "role:master\r\nmaster_replid:1\r\n";
    world.fake.fsync = "*2\r\n$11\r\nappendfsync\r\n$6\r\nalways\r\n";
    read_again(&world);
    server = rk_redis_master(world.redis, 1);
    assert_string_equal(server->policy, "allkeys-lru");
    assert_string_equal(server->fsync, "always");
    assert_true(server->is_aof);
    /* What tells a restart and a failover is that of the connection. */
    assert_string_equal(server->run_id, "abc");
    assert_string_equal(server->replid, "");
    /* Answers that say nothing. */
    world.fake.fsync = "-NOPERM x\r\n";
    read_again(&world);
    assert_string_equal(rk_redis_master(world.redis, 1)->fsync, "");
    world.fake.fsync = "*2\r\n$11\r\nappendfsync\r\n$15\r\nlonger than any\r\n";
    read_again(&world);
    assert_string_equal(rk_redis_master(world.redis, 1)->fsync, "");
    assert_int_equal(world.servers, 1);
    struct rk_redis_stats stats;
    rk_redis_stats(world.redis, &stats);
    assert_int_equal(stats.losses, 0);
    /* It became a replica, and the connection lives: it is left. */
    world.fake.info = "run_id:abc\r\nrole:slave\r\n";
    uint64_t limit = now_ms() + 20000;
    while (rk_redis_master(world.redis, 1) != NULL) {
        assert_int_equal(event_base_loop(world.base, EVLOOP_ONCE), 0);
        assert_true(now_ms() < limit);
    }
    world_fini(&world);
}

/* ---- guides ------------------------------------------------------------------------- */

static void lie_about_slots(struct fake_link *link, const char *text)
{
    struct world *world = link->fake->context;
    static const char *const maps[] = {
        "*-1\r\n",
        "+OK\r\n",
        "*0\r\n",
        /* Ranges that are none, each in its own way. */
        "*10\r\n:1\r\n$-1\r\n*0\r\n*2\r\n:0\r\n:4\r\n"
        "*3\r\n:0\r\n:99999\r\n*2\r\n$1\r\na\r\n:1\r\n"
        "*3\r\n:5\r\n:4\r\n*2\r\n$1\r\na\r\n:1\r\n"
        "*3\r\n:-1\r\n:4\r\n*2\r\n$1\r\na\r\n:1\r\n"
        "*3\r\n:0\r\n:4\r\n*2\r\n:7\r\n:1\r\n"
        "*3\r\n:0\r\n:4\r\n*2\r\n$1\r\na\r\n:70000\r\n"
        "*3\r\n:0\r\n:4\r\n*1\r\n$1\r\na\r\n",
        "-CLUSTERDOWN x\r\n",
    };
    char map[128];
    if (strcmp(text, "CLUSTER SLOTS") != 0) {
        fake_write(link, strcmp(text, "ASKING") == 0 ? "+OK\r\n" : "+done\r\n");
        return;
    }
    if (world->step < sizeof(maps) / sizeof(maps[0])) {
        fake_write(link, maps[world->step++]);
        /* The next attempt comes at once on a new connection. */
        fake_hang_up(link);
        return;
    }
    world->step++;
    (void)snprintf(map, sizeof(map),
                   "*1\r\n*3\r\n:0\r\n:16383\r\n*3\r\n$0\r\n\r\n:%u\r\n$2\r\nid\r\n",
                   link->fake->port);
    fake_write(link, map);
}

static void test_maps(void **state)
{
    static struct world world;
    (void)state;
    world_init(&world, "redis+cluster", "", lie_about_slots);
    struct end *end =
        send_words(&world, "GET", "k", (struct rk_redis_ask){.deadline_ms = 60000}, NULL);
    finish(&world);
    assert_int_equal(end->status, RK_OK);
    assert_true(rk_redis_is_up(world.redis));
    assert_int_equal(rk_redis_node_count(world.redis), 1);
    /* That number is no master's. */
    end = send_words(&world, "GET", "k",
                     (struct rk_redis_ask){.deadline_ms = 60000, .node = 2}, NULL);
    finish(&world);
    assert_int_equal(end->status, RK_EUNAVAILABLE);
    world_fini(&world);
}

static void lie_about_masters(struct fake_link *link, const char *text)
{
    struct world *world = link->fake->context;
    static const char *const answers[] = {
        "*-1\r\n",
        "-ERR x\r\n",
        "*2\r\n$1\r\na\r\n",
        "*2\r\n$9\r\n127.0.0.1\r\n$1\r\n0\r\n",
        "*2\r\n$9\r\n127.0.0.1\r\n$5\r\n70000\r\n",
        "*2\r\n$0\r\n\r\n$1\r\n1\r\n",
        "*2\r\n:1\r\n:2\r\n",
        "*1\r\n$1\r\na\r\n",
    };
    char answer[128];
    if (strcmp(text, "SENTINEL get-master-addr-by-name m") == 0) {
        if (world->step < sizeof(answers) / sizeof(answers[0])) {
            fake_write(link, answers[world->step++]);
            fake_hang_up(link);
            return;
        }
        (void)snprintf(answer, sizeof(answer), "*2\r\n$9\r\n127.0.0.1\r\n$5\r\n%05u\r\n",
                       link->fake->port);
        fake_write(link, answer);
    } else if (strcmp(text, "SUBSCRIBE +switch-master") == 0) {
        fake_write(link,
                   "*3\r\n$9\r\nsubscribe\r\n$14\r\n+switch-master\r\n:1\r\n"
                   "*3\r\n$7\r\nmessage\r\n$14\r\n+switch-master\r\n$9\r\nother a 1\r\n"
                   "*3\r\n$7\r\nmessage\r\n$14\r\n+switch-master\r\n$0\r\n\r\n"
                   "*3\r\n$7\r\nmessage\r\n$14\r\n+switch-master\r\n:1\r\n");
    } else {
        fake_write(link, "+done\r\n");
    }
}

static void test_masters(void **state)
{
    static struct world world;
    (void)state;
    world_init(&world, "redis+sentinel", "/m", lie_about_masters);
    struct end *end =
        send_words(&world, "GET", "k", (struct rk_redis_ask){.deadline_ms = 60000}, NULL);
    finish(&world);
    assert_int_equal(end->status, RK_OK);
    assert_true(rk_redis_is_up(world.redis));
    world_fini(&world);
}

/* ---- pauses ------------------------------------------------------------------------- */

enum { PAUSES = 24 };

static void deny(struct fake_link *link, const char *text)
{
    if (strncmp(text, "AUTH", 4) == 0) fake_write(link, "-WRONGPASS no\r\n");
}

/* How long the client rests after each of some attempts that fail, in microseconds; the
 * next one is made at once all the same. */
static void take_pauses(const char *url_text, struct event_base *base, uint64_t seed,
                        uint64_t out[PAUSES])
{
    struct rk_redis *redis;
    struct rk_redis_url url;
    assert_int_equal(rk_redis_url_parse(&url, url_text, NULL), RK_OK);
    struct rk_redis_options options = {
        .struct_size = sizeof(options), .base = base, .url = &url, .seed = seed};
    assert_int_equal(rk_redis_new(&redis, &options, NULL), RK_OK);
    struct rk_redis_link *link = redis->nodes[0];
    uint64_t limit = now_ms() + 20000;
    for (int i = 0; i < PAUSES; i++) {
        uint64_t epoch = link->epoch;
        while (link->state != LINK_RESTING || link->epoch == epoch) {
            assert_int_equal(event_base_loop(base, EVLOOP_ONCE), 0);
            assert_true(now_ms() < limit);
        }
        uint64_t now = rk_redis_now();
        out[i] = link->timer.at_us > now ? link->timer.at_us - now : 0;
        rk_redis_link_start(link, 0);
    }
    rk_redis_free(redis);
    rk_redis_url_fini(&url);
}

static uint64_t most_of(const uint64_t pauses[PAUSES], int from, int to)
{
    uint64_t most = 0;
    for (int i = from; i < to; i++)
        if (pauses[i] > most) most = pauses[i];
    return most;
}

/* They grow, are within what docs/redis.md says, and nodes that lost Redis at one moment do
 * not come back at one moment. */
static void test_pauses(void **state)
{
    struct fake fake;
    struct event_base *base = event_base_new();
    uint64_t first[PAUSES], second[PAUSES], again[PAUSES];
    char nobody[64], denied[64];
    (void)state;
    fake_init(&fake, base, deny, NULL);
    (void)snprintf(denied, sizeof(denied), "redis://:x@127.0.0.1:%u", fake.port);
    take_pauses(denied, base, 1, first);
    for (int i = 0; i < PAUSES; i++)
        assert_in_range(first[i], i < 5 ? 200000 : 7000000, 15 * SECOND_US);
    assert_true(most_of(first, 0, 1) < SECOND_US);
    assert_true(most_of(first, 5, PAUSES) > 10 * SECOND_US);
    fake_fini(&fake);
    (void)snprintf(nobody, sizeof(nobody), "redis://127.0.0.1:%u", fake.port);
    take_pauses(nobody, base, 1, first);
    take_pauses(nobody, base, 2, second);
    take_pauses(nobody, base, 1, again);
    int different = 0, near = 0;
    for (int i = 0; i < PAUSES; i++) {
        uint64_t apart = first[i] > second[i] ? first[i] - second[i] : second[i] - first[i];
        different += apart > 10000;
        apart = first[i] > again[i] ? first[i] - again[i] : again[i] - first[i];
        near += apart < 400000;
    }
    assert_true(different > PAUSES / 2);
    assert_int_equal(near, PAUSES); /* it is the seed that makes them so */
    assert_true(most_of(first, 0, 1) < 20000);
    assert_true(most_of(first, 0, 4) < SECOND_US / 2);
    assert_in_range(most_of(first, 7, PAUSES), SECOND_US, 2 * SECOND_US);
    event_base_free(base);
}

/* ---- memory ------------------------------------------------------------------------- */

static void answer_all(struct fake_link *link, const char *text)
{
    struct world *world = link->fake->context;
    if (strncmp(text, "SUBSCRIBE", 9) == 0) {
        answer_channels(link, text);
    } else if (strcmp(text, "CLUSTER SLOTS") == 0) {
        world->step = UINT32_MAX - 1;
        lie_about_slots(link, text);
    } else if (strcmp(text, "WAIT 1 1000") == 0) {
        fake_write(link, ":1\r\n");
    } else if (strcmp(text, "BYE") == 0) {
        fake_hang_up(link);
    } else {
        fake_write(link, strncmp(text, "LONG", 4) == 0
                             ? "*3\r\n$5\r\nhello\r\n:7\r\n*2\r\n$-1\r\n+x\r\n"
                             : "+OK\r\n");
    }
}

/* One life: connecting, commands, a script, a channel, a lost connection. */
static void live(struct world *world, int64_t after, bool is_sticky)
{
    static struct rk_redis_script script = {.name = "s", .text = "return 1", .size = 8};
    struct rk_redis_ask ask = {.deadline_ms = 300, .may_repeat = true};
    struct rk_redis_subscription channel = {
        .channel = "c", .context = world, .message = on_message, .state = on_channel};
    rk_redis_script_init(&script);
    rk_alloc_fail(after, is_sticky);
    bool is_subscribed = rk_redis_subscribe(world->redis, &channel) == RK_OK;
    (void)send_words(world, "SET", "a", ask, NULL);
    (void)send_words(world, "LONG", "a", ask, NULL);
    ask.wait_replicas = 1;
    (void)send_words(world, "LONG", "b", ask, NULL);
    finish(world);
    ask.wait_replicas = 0;
    (void)send_words(world, "BYE", "a", (struct rk_redis_ask){.deadline_ms = 100}, NULL);
    (void)send_words(world, "SET", "b", ask, NULL);
    finish(world);
    rk_alloc_fail(-1, 0);
    /* It gets over it. */
    struct end *last = send_words(world, "SET", "c", (struct rk_redis_ask){0}, NULL);
    assert_non_null(last);
    finish(world);
    assert_int_equal(last->status, RK_OK);
    if (is_subscribed) turn_until(world, &world->channel_ups, 1);
    rk_redis_unsubscribe(world->redis, &channel);
}

static void sweep(const char *scheme, bool is_sticky, int64_t step)
{
    static struct world world;
    for (int64_t after = 0;; after += step) {
        world_init(&world, scheme, "", answer_all);
        (void)rk_alloc_take_count();
        live(&world, after, is_sticky);
        bool is_over = (int64_t)rk_alloc_take_count() < after;
        world_fini(&world);
        if (is_over) return;
    }
}

static void test_without_memory(void **state)
{
    (void)state;
    sweep("redis", false, 1);
    sweep("redis+cluster", false, 1);
    sweep("redis", true, 5);
}

static void test_new_without_memory(void **state)
{
    (void)state;
    struct rk_redis_url url;
    struct event_base *base = event_base_new();
    assert_int_equal(
        rk_redis_url_parse(&url, "rediss+cluster://127.0.0.1?insecure=1", NULL), RK_OK);
    for (int64_t after = 0;; after++) {
        struct rk_redis *redis = NULL;
        struct rk_redis_error err;
        struct rk_redis_options options = {
            .struct_size = sizeof(options), .base = base, .url = &url, .client_name = "n"};
        rk_alloc_fail(after, 1);
        enum rk_status status = rk_redis_new(&redis, &options, &err);
        rk_alloc_fail(-1, 0);
        if (status == RK_OK) {
            assert_true(after > 3);
            rk_redis_free(redis);
            break;
        }
        assert_int_equal(status, RK_ENOMEM);
        assert_string_equal(err.text, "out of memory");
    }
    rk_redis_free(NULL);
    rk_redis_url_fini(&url);
    event_base_free(base);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_channels),
        cmocka_unit_test(test_configuration),
        cmocka_unit_test(test_maps),
        cmocka_unit_test(test_masters),
        cmocka_unit_test(test_pauses),
        cmocka_unit_test(test_without_memory),
        cmocka_unit_test(test_new_without_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
