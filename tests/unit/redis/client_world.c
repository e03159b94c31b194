#include "client_world.h"

#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>

#include <cmocka.h>
#include <event2/event.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

uint64_t now_ms(void)
{
    struct timespec now;
    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

void note_seen(struct world *world, const char *text)
{
    size_t used = strlen(world->seen);
    (void)snprintf(world->seen + used, sizeof(world->seen) - used, "%s\n", text);
}

static void on_server(void *context, const struct rk_redis_server *server)
{
    struct world *world = context;
    assert_false(world->is_within);
    assert_string_equal(server->run_id, "abc");
    world->servers++;
}

static void on_facts(void *context)
{
    struct world *world = context;
    assert_false(world->is_within);
    world->facts++;
}

void world_init(struct world *world, const char *scheme, const char *rest,
                fake_command *command)
{
    char text[256];
    struct rk_redis_error err;
    memset(world, 0, sizeof(*world));
    world->base = event_base_new();
    fake_init(&world->fake, world->base, command, world);
    (void)snprintf(text, sizeof(text), "%s://127.0.0.1:%u%s", scheme, world->fake.port,
                   rest);
    assert_int_equal(rk_redis_url_parse(&world->url, text, &err), RK_OK);
    struct rk_redis_options options = {
        .struct_size = sizeof(options),
        .base = world->base,
        .url = &world->url,
        .seed = 7,
        .io = {.context = world, .server = on_server, .facts = on_facts},
    };
    assert_int_equal(rk_redis_new(&world->redis, &options, &err), RK_OK);
}

void world_fini(struct world *world)
{
    rk_redis_free(world->redis);
    fake_fini(&world->fake);
    rk_redis_url_fini(&world->url);
    event_base_free(world->base);
}

void on_done(void *context, const struct rk_redis_result *result)
{
    struct end *end = context;
    assert_false(end->world->is_within);
    end->count++;
    end->status = result->status;
    end->replicas = result->replicas;
    assert_int_equal(result->reply != NULL, result->status == RK_OK);
    if (result->reply != NULL) assert_int_not_equal(result->reply->type, REDIS_REPLY_ERROR);
    const char *text = result->reply == NULL        ? result->text
                       : result->reply->str != NULL ? result->reply->str
                                                    : "";
    (void)snprintf(end->text, sizeof(end->text), "%s", text);
    end->world->ended++;
}

/* Sends a command of one or two words; id 0 counts as ended. */
struct end *send_words(struct world *world, const char *verb, const char *key,
                       struct rk_redis_ask ask, uint64_t *id)
{
    assert_true(world->end_count < ENDS_MAX);
    struct end *end = &world->ends[world->end_count++];
    struct rk_slice args[] = {rk_slice_of_string(verb),
                              rk_slice_of_string(key != NULL ? key : "")};
    end->world = world;
    ask.done = on_done;
    ask.context = end;
    struct rk_redis_command command = {
        .args = args, .arg_count = key != NULL ? 2 : 1, .key = args[1], .ask = ask};
    world->is_within = true;
    uint64_t given = rk_redis_send(world->redis, &command);
    world->is_within = false;
    if (id != NULL) *id = given;
    if (given == 0) {
        world->end_count--;
        return NULL;
    }
    return end;
}

struct end *ask_for(struct world *world, const char *verb, uint32_t deadline_ms,
                    bool may_repeat)
{
    struct end *end = send_words(
        world, verb, NULL,
        (struct rk_redis_ask){.deadline_ms = deadline_ms, .may_repeat = may_repeat}, NULL);
    assert_non_null(end);
    return end;
}

/* Turns the loop until all that was sent has ended. */
void finish(struct world *world)
{
    uint64_t limit = now_ms() + 20000;
    while (world->ended < world->end_count) {
        assert_int_equal(event_base_loop(world->base, EVLOOP_ONCE), 0);
        assert_true(now_ms() < limit);
    }
    for (uint32_t i = 0; i < world->end_count; i++)
        assert_int_equal(world->ends[i].count, 1);
}

void turn_until(struct world *world, const uint32_t *counter, uint32_t wanted)
{
    uint64_t limit = now_ms() + 20000;
    while (*counter < wanted) {
        assert_int_equal(event_base_loop(world->base, EVLOOP_ONCE), 0);
        assert_true(now_ms() < limit);
    }
}
