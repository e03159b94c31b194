/* The client against a server that answers what the test likes: broken, late, in pieces,
 * not at all. Real servers are in tests/redis. */
#include "client_world.h"

#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>

#include <cmocka.h>
#include <event2/event.h>
#include <stdio.h>
#include <string.h>

/* ---- replies ------------------------------------------------------------------------ */

static void reply_in_pieces(struct fake_link *link, const char *text)
{
    struct world *world = link->fake->context;
    static const char reply[] = "*2\r\n$5\r\nhe\r\no\r\n:12\r\n+done\r\n";
    if (strcmp(text, "GO") != 0) return;
    for (size_t i = 0; i < sizeof(reply) - 1; i++) {
        char piece[2] = {reply[i], '\0'};
        fake_write(link, piece);
        (void)event_base_loop(world->base, EVLOOP_NONBLOCK);
    }
}

static void do_nothing(struct fake_link *link, const char *text)
{
    (void)link;
    (void)text;
}

static void test_in_pieces(void **state)
{
    static struct world world;
    (void)state;
    world_init(&world, "redis", "", do_nothing);
    struct end *first = ask_for(&world, "ONE", 2000, false);
    struct end *second = ask_for(&world, "TWO", 2000, false);
    turn_until(&world, &world.fake.commands, 2);
    struct fake_link *link =
        RK_CONTAINER(rk_list_first(&world.fake.links), struct fake_link, place);
    reply_in_pieces(link, "GO");
    finish(&world);
    assert_int_equal(first->status, RK_OK);
    assert_int_equal(second->status, RK_OK);
    assert_string_equal(second->text, "done");
    world_fini(&world);
}

static void say_garbage(struct fake_link *link, const char *text)
{
    fake_write(link, strcmp(text, "HTTP") == 0    ? "HTTP/1.1 200 OK\r\n"
                     : strcmp(text, "HUGE") == 0  ? "$9999999999\r\n"
                     : strcmp(text, "MANY") == 0  ? "*2000000000\r\n"
                     : strcmp(text, "TWICE") == 0 ? "+1\r\n+2\r\n"
                                                  : "+OK\r\n");
}

/* Whatever comes: that command ends, and the next connection works. */
static void test_garbage(void **state)
{
    static const char *const kinds[] = {"HTTP", "HUGE", "MANY"};
    static struct world world;
    (void)state;
    world_init(&world, "redis", "", say_garbage);
    for (size_t i = 0; i < 3; i++) {
        struct end *bad = ask_for(&world, kinds[i], 3000, false);
        finish(&world);
        assert_int_equal(bad->status, RK_EUNKNOWN);
        struct end *good = ask_for(&world, "GOOD", 3000, false);
        finish(&world);
        assert_int_equal(good->status, RK_OK);
        assert_int_equal(world.fake.connects, i + 2);
    }
    /* An answer to nothing: who knows what the next one would answer. */
    struct end *twice = ask_for(&world, "TWICE", 3000, false);
    finish(&world);
    assert_int_equal(twice->status, RK_OK);
    turn_until(&world, &world.fake.connects, 5);
    world_fini(&world);
}

/* ---- errors ------------------------------------------------------------------------- */

static void say_errors(struct fake_link *link, const char *text)
{
    struct world *world = link->fake->context;
    note_seen(world, text);
    if (strcmp(text, "PASSING") == 0)
        fake_write(link, world->step++ < 3 ? "-LOADING x\r\n" : "+OK\r\n");
    else if (strcmp(text, "STAYING") == 0)
        fake_write(link, "-MISCONF disk\r\n");
    else if (strcmp(text, "FULL") == 0)
        fake_write(link, "-OOM x\r\n");
    else if (strcmp(text, "DENIED") == 0)
        fake_write(link, "-NOPERM x\r\n");
    else if (strcmp(text, "MOVED") == 0)
        fake_write(link, "-MOVED 1 127.0.0.1:1\r\n");
    else if (strcmp(text, "SCRIPTED") == 0)
        fake_write(link, "-NOSCRIPT x\r\n");
    else
        fake_write(link, "-WRONGTYPE x\r\n");
}

static void test_errors(void **state)
{
    static struct world world;
    static const struct {
        const char *verb;
        enum rk_status status;
        const char *text;
    } cases[] = {
        {"PASSING", RK_OK, "OK"},
        {"STAYING", RK_EUNAVAILABLE, "not done by the deadline: MISCONF disk"},
        {"FULL", RK_EFULL, "OOM x"},
        {"DENIED", RK_EDENIED, "NOPERM x"},
        {"MOVED", RK_EIO, "MOVED 1 127.0.0.1:1"}, /* the URL names no Cluster */
        {"SCRIPTED", RK_EIO, "NOSCRIPT x"},       /* no script of ours */
        {"OTHER", RK_EIO, "WRONGTYPE x"},
    };
    (void)state;
    world_init(&world, "redis", "", say_errors);
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct end *end = ask_for(&world, cases[i].verb, 800, false);
        finish(&world);
        assert_int_equal(end->status, cases[i].status);
        assert_string_equal(end->text, cases[i].text);
    }
    assert_int_equal(world.fake.connects, 1);
    world_fini(&world);
}

static void hang_up_once(struct fake_link *link, const char *text)
{
    struct world *world = link->fake->context;
    note_seen(world, text);
    if (world->step++ == 0)
        fake_hang_up(link);
    else if (strcmp(text, "AFTER") == 0)
        fake_write(link, "-LOADING x\r\n");
    else
        fake_write(link, "+OK\r\n");
}

static void test_lost(void **state)
{
    static struct world world;
    (void)state;
    world_init(&world, "redis", "", hang_up_once);
    struct end *plain = ask_for(&world, "PLAIN", 3000, false);
    struct end *again = ask_for(&world, "AGAIN", 3000, true);
    finish(&world);
    assert_int_equal(plain->status, RK_EUNKNOWN);
    assert_non_null(strstr(plain->text, "closed by the server"));
    assert_int_equal(again->status, RK_OK);
    assert_string_equal(world.seen, "PLAIN\nAGAIN\n");
    /* Once lost, refused for now until the deadline: the first sending may have been done.
     */
    world.step = 0;
    struct end *after = ask_for(&world, "AFTER", 500, true);
    finish(&world);
    assert_int_equal(after->status, RK_EUNKNOWN);
    assert_int_equal(world.servers, world.fake.connects);
    world_fini(&world);
}

static void note_letters(struct fake_link *link, const char *text)
{
    struct world *world = link->fake->context;
    if (world->step++ == 0) {
        fake_hang_up(link);
        return;
    }
    if (strcmp(text, "A") != 0) note_seen(world, text);
    fake_write(link, "+OK\r\n");
}

static void send_more(void *context, const struct rk_redis_result *result)
{
    struct end *end = context;
    on_done(context, result);
    (void)ask_for(end->world, "C", 3000, false);
}

/* What is sent when told of a loss comes behind what was sent before. */
static void test_order(void **state)
{
    static struct world world;
    (void)state;
    world_init(&world, "redis", "", note_letters);
    struct end *first = &world.ends[world.end_count++];
    struct rk_slice verb = RK_SLICE_LITERAL("A");
    first->world = &world;
    struct rk_redis_command command = {
        .args = &verb, .arg_count = 1, .ask = {.done = send_more, .context = first}};
    assert_int_not_equal(rk_redis_send(world.redis, &command), 0);
    for (int i = 0; i < 1100; i++) /* more than the pipeline takes */
        (void)ask_for(&world, "A", 3000, false);
    (void)ask_for(&world, "B", 3000, false);
    finish(&world);
    assert_int_equal(first->status, RK_EUNKNOWN);
    assert_string_equal(world.seen, "B\nC\n");
    world_fini(&world);
}

/* ---- time --------------------------------------------------------------------------- */

static void answer_late(struct fake_link *link, const char *text)
{
    struct world *world = link->fake->context;
    if (strcmp(text, "LATE") == 0)
        world->step++; /* with the next one */
    else if (strcmp(text, "NEXT") == 0)
        fake_write(link, "+late\r\n+next\r\n");
}

static void test_late(void **state)
{
    static struct world world;
    (void)state;
    world_init(&world, "redis", "", answer_late);
    uint64_t begun = now_ms();
    struct end *late = ask_for(&world, "LATE", 150, false);
    finish(&world);
    assert_int_equal(late->status, RK_EUNKNOWN);
    assert_in_range(now_ms() - begun, 149, 800);
    /* Its answer comes with the next one's, and is told apart. */
    struct end *next = ask_for(&world, "NEXT", 3000, false);
    finish(&world);
    assert_string_equal(next->text, "next");
    assert_int_equal(late->count, 1);
    assert_int_equal(world.fake.connects, 1);
    /* Silence for a second behind a deadline ends the connection, also when it is not the
     * oldest command's. */
    struct rk_slice verb = RK_SLICE_LITERAL("PATIENT");
    struct rk_redis_command patient = {
        .args = &verb, .arg_count = 1, .ask = {.deadline_ms = 20000}};
    assert_int_not_equal(rk_redis_send(world.redis, &patient), 0);
    late = ask_for(&world, "SILENT", 100, false);
    finish(&world);
    begun = now_ms();
    turn_until(&world, &world.fake.connects, 2);
    assert_in_range(now_ms() - begun, 500, 3000);
    world_fini(&world);
}

static void test_nobody_there(void **state)
{
    static struct world world;
    (void)state;
    world_init(&world, "redis", "", do_nothing);
    rk_redis_free(world.redis);
    fake_fini(&world.fake); /* the port is closed now */
    struct rk_redis_options options = {.struct_size = sizeof(options),
                                       .base = world.base,
                                       .url = &world.url,
                                       .io = {.context = &world}};
    assert_int_equal(rk_redis_new(&world.redis, &options, NULL), RK_OK);
    assert_null(rk_redis_server_of(world.redis, RK_SLICE_EMPTY));
    struct end *end = ask_for(&world, "ANY", 300, false);
    finish(&world);
    assert_int_equal(end->status, RK_EUNAVAILABLE);
    assert_string_equal(end->text, "not done by the deadline: Connection refused");
    assert_false(rk_redis_is_up(world.redis));
    assert_string_equal(rk_redis_reason(world.redis), "Connection refused");
    rk_redis_free(world.redis);
    rk_redis_url_fini(&world.url);
    event_base_free(world.base);
}

static void test_forgotten(void **state)
{
    static struct world world;
    struct rk_redis_stats stats;
    uint64_t ids[2];
    (void)state;
    world_init(&world, "redis", "", answer_late);
    struct rk_redis_ask ask = {.deadline_ms = 3000};
    (void)send_words(&world, "UNSENT", NULL, ask, &ids[0]);
    rk_redis_forget(world.redis, ids[0]);
    rk_redis_forget(world.redis, ids[0]);
    (void)send_words(&world, "LATE", NULL, ask, &ids[1]);
    turn_until(&world, &world.fake.commands, 1);
    rk_redis_forget(world.redis, ids[1]);
    rk_redis_forget(world.redis, 0);
    rk_redis_forget(world.redis, UINT64_MAX);
    world.end_count = 0;
    struct end *next = ask_for(&world, "NEXT", 3000, false);
    memset(next, 0, sizeof(*next));
    next->world = &world;
    finish(&world);
    assert_string_equal(next->text, "next");
    rk_redis_stats(world.redis, &stats);
    assert_int_equal(stats.pending, 0);
    assert_int_equal(world.fake.commands, 2);
    world_fini(&world);
}

static void test_bounds(void **state)
{
    static struct world world;
    struct rk_redis_stats stats;
    (void)state;
    world_init(&world, "redis", "", do_nothing);
    struct rk_slice verb = RK_SLICE_LITERAL("X");
    struct rk_redis_command command = {.args = &verb, .arg_count = 1};
    for (uint32_t i = 0; i < RK_REDIS_PENDING_MAX; i++)
        assert_int_not_equal(rk_redis_send(world.redis, &command), 0);
    assert_int_equal(rk_redis_send(world.redis, &command), 0);
    rk_redis_stats(world.redis, &stats);
    assert_int_equal(stats.pending, RK_REDIS_PENDING_MAX);
    turn_until(&world, &world.fake.commands, 1000);
    rk_redis_stats(world.redis, &stats);
    assert_in_range(stats.sent, 1000, 1100); /* the pipeline's bound, and the greeting */
    world_fini(&world);
}

/* ---- scripts, WAIT ---------- -------------------------------------------------------- */

static void know_scripts(struct fake_link *link, const char *text)
{
    struct world *world = link->fake->context;
    note_seen(world, text);
    if (strncmp(text, "EVAL ", 5) == 0) world->step = 1;
    fake_write(link, world->step == 1 ? "+OK\r\n" : "-NOSCRIPT No matching script.\r\n");
}

static void test_scripts(void **state)
{
    static struct world world;
    static struct rk_redis_script script = {.name = "s", .text = "return 1", .size = 8};
    (void)state;
    world_init(&world, "redis", "", know_scripts);
    rk_redis_script_init(&script);
    for (int i = 0; i < 3; i++) {
        struct end *end = &world.ends[world.end_count++];
        struct rk_slice key = RK_SLICE_LITERAL("k");
        end->world = &world;
        struct rk_redis_eval eval = {.script = &script,
                                     .keys = &key,
                                     .key_count = 1,
                                     .ask = {.done = on_done, .context = end}};
        assert_int_not_equal(rk_redis_eval(world.redis, &eval), 0);
    }
    finish(&world);
    /* The text goes once; what was refused before it comes again by its name. */
    const char *sha = script.sha;
    char wanted[1024];
    (void)snprintf(wanted, sizeof(wanted),
                   "EVALSHA %s 1 k\nEVALSHA %s 1 k\nEVALSHA %s 1 k\n"
                   "EVAL return 1 1 k\nEVALSHA %s 1 k\nEVALSHA %s 1 k\n",
                   sha, sha, sha, sha, sha);
    assert_string_equal(world.seen, wanted);
    for (uint32_t i = 0; i < 3; i++)
        assert_int_equal(world.ends[i].status, RK_OK);
    world_fini(&world);
}

static void answer_waits(struct fake_link *link, const char *text)
{
    struct world *world = link->fake->context;
    note_seen(world, text);
    if (strncmp(text, "WAIT", 4) != 0)
        fake_write(link, "+OK\r\n");
    else if (world->step == 0)
        fake_write(link, ":1\r\n");
    else
        fake_hang_up(link);
}

static void test_waits(void **state)
{
    static struct world world;
    (void)state;
    world_init(&world, "redis", "?wait-ms=70", answer_waits);
    struct rk_redis_ask ask = {.wait_replicas = 1};
    struct end *plain = send_words(&world, "A", NULL, (struct rk_redis_ask){0}, NULL);
    struct end *one = send_words(&world, "B", NULL, ask, NULL);
    ask.wait_replicas = 2;
    struct end *two = send_words(&world, "C", NULL, ask, NULL);
    finish(&world);
    assert_string_equal(world.seen, "A\nB\nC\nWAIT 2 70\n");
    assert_int_equal(plain->replicas, -1);
    assert_int_equal(one->replicas, 1);
    assert_int_equal(two->replicas, 1);
    assert_string_equal(two->text, "OK");
    /* It was done, and how many have it is not known. */
    world.step = 1;
    struct end *lost = send_words(&world, "D", NULL, ask, NULL);
    finish(&world);
    assert_int_equal(lost->status, RK_OK);
    assert_int_equal(lost->replicas, -1);
    world_fini(&world);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_in_pieces),    cmocka_unit_test(test_garbage),
        cmocka_unit_test(test_errors),       cmocka_unit_test(test_lost),
        cmocka_unit_test(test_order),        cmocka_unit_test(test_late),
        cmocka_unit_test(test_nobody_there), cmocka_unit_test(test_forgotten),
        cmocka_unit_test(test_bounds),       cmocka_unit_test(test_scripts),
        cmocka_unit_test(test_waits),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
