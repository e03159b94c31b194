#include "world.h"

#include "base/alloc.h"
#include "base/hash.h"

#include <stdio.h>

struct rk_slice text(const char *string)
{
    return rk_slice_of_string(string);
}

static void copy_text(char *out, size_t size, struct rk_slice slice)
{
    assert_true(slice.size < size);
    if (slice.size != 0) memcpy(out, slice.data, slice.size);
    out[slice.size] = '\0';
}

static struct said *say(struct ear *ear, struct rk_slice client, uint64_t seq)
{
    assert_true(ear->said_count < SAID_MAX);
    struct said *said = &ear->said[ear->said_count++];
    memset(said, 0, sizeof(*said));
    copy_text(said->client, sizeof(said->client), client);
    said->seq = seq;
    ear->digest = rk_hash_mix(ear->digest, rk_hash(client));
    ear->digest = rk_hash_mix(ear->digest, seq);
    return said;
}

static void on_reply(void *context, struct rk_slice client, uint64_t seq,
                     const struct rk_reply *reply)
{
    struct ear *ear = context;
    struct said *said = say(ear, client, seq);
    struct rk_buf bytes;
    rk_buf_init(&bytes);
    rk_reply_encode(&bytes, reply);
    assert_int_equal(rk_buf_check(&bytes), RK_OK);
    ear->digest = rk_hash_mix(ear->digest, rk_hash(rk_buf_slice(&bytes)));
    struct rk_slice copy = rk_arena_copy(ear->arena, rk_buf_slice(&bytes));
    assert_int_equal(rk_reply_decode(&said->reply, copy, ear->arena), RK_OK);
    rk_buf_fini(&bytes);
}

static void on_pending(void *context, struct rk_slice client, uint64_t seq, uint64_t home)
{
    struct said *said = say(context, client, seq);
    said->is_pending = true;
    said->home = home;
}

static void on_event(void *context, const struct rk_event *event)
{
    struct ear *ear = context;
    assert_true(ear->heard_count < EVENTS_MAX);
    struct heard *heard = &ear->heard[ear->heard_count++];
    memset(heard, 0, sizeof(*heard));
    heard->kind = event->kind;
    heard->fence = event->fence;
    heard->ordinal = event->ordinal;
    copy_text(heard->owner, sizeof(heard->owner), event->owner);
    copy_text(heard->session, sizeof(heard->session), event->session);
    copy_text(heard->resource, sizeof(heard->resource), event->resource);
    ear->digest = rk_hash_mix(ear->digest, rk_hash(rk_slice_of(heard, sizeof(*heard))));
    ear->digest = rk_hash_mix(ear->digest, event->index);
}

static void open_ear(struct ear *ear, struct rk_arena *arena)
{
    ear->arena = arena;
    ear->said = rk_calloc(SAID_MAX, sizeof(*ear->said));
    ear->heard = rk_calloc(EVENTS_MAX, sizeof(*ear->heard));
    assert_non_null(ear->said);
    assert_non_null(ear->heard);
}

static struct rk_machine *new_machine(void)
{
    struct rk_machine_options options = {.struct_size = sizeof(options), .group = 0};
    struct rk_machine *machine = NULL;
    assert_int_equal(rk_machine_new(&machine, &options), RK_OK);
    return machine;
}

struct world *world_open(void)
{
    struct world *world = rk_calloc(1, sizeof(*world));
    assert_non_null(world);
    rk_arena_init(&world->arena);
    open_ear(&world->ear, &world->arena);
    open_ear(&world->twin_ear, &world->arena);
    world->machine = new_machine();
    world->twin = new_machine();
    world->now = START_MS;
    world->home = 1;
    world->restore_each = 3;
    world->hash_each = 1;
    rk_machine_lead(world->machine, world->now);
    struct rk_request birth = ask(RK_OP_BIRTH);
    birth.history = 77;
    RK_SET(&birth, HISTORY);
    world_send(world, NULL, 0, &birth);
    return world;
}

uint64_t world_hash(struct rk_machine *machine)
{
    uint64_t hash = 0;
    assert_int_equal(rk_machine_hash(machine, &hash), RK_OK);
    return hash;
}

void world_snapshot(struct rk_machine *machine, struct rk_buf *out)
{
    bool is_done = false;
    assert_int_equal(rk_machine_snapshot_begin(machine), RK_OK);
    while (!is_done)
        assert_int_equal(rk_machine_snapshot_step(machine, out, 100, &is_done), RK_OK);
    rk_machine_snapshot_end(machine);
}

struct rk_machine *world_restore(struct rk_slice stream, uint64_t index)
{
    struct rk_machine *machine = new_machine();
    struct rk_reader reader;
    rk_reader_init(&reader, stream);
    while (rk_reader_left(&reader) != 0) {
        struct rk_slice record = rk_read_blob(&reader);
        assert_false(reader.is_failed);
        assert_int_equal(rk_machine_restore(machine, record), RK_OK);
    }
    assert_int_equal(rk_machine_restore_finish(machine, index), RK_OK);
    return machine;
}

static void renew_twin(struct world *world)
{
    struct rk_buf stream;
    rk_buf_init(&stream);
    world_snapshot(world->twin, &stream);
    struct rk_machine *machine = world_restore(rk_buf_slice(&stream), world->index);
    rk_buf_fini(&stream);
    rk_machine_free(world->twin);
    world->twin = machine;
    assert_int_equal(world_hash(world->machine), world_hash(world->twin));
}

void world_close(struct world *world)
{
    renew_twin(world);
    rk_machine_free(world->machine);
    rk_machine_free(world->twin);
    rk_arena_fini(&world->arena);
    rk_free(world->ear.said);
    rk_free(world->ear.heard);
    rk_free(world->twin_ear.said);
    rk_free(world->twin_ear.heard);
    rk_free(world);
}

static struct rk_machine_output output_to(struct ear *ear)
{
    return (struct rk_machine_output){ear, on_reply, on_pending, on_event};
}

enum rk_status world_apply(struct world *world, struct rk_slice data)
{
    world->index++;
    struct rk_machine_output output = output_to(&world->ear);
    struct rk_machine_output twin_output = output_to(&world->twin_ear);
    enum rk_status status = rk_machine_apply(world->machine, world->index, data, &output);
    assert_int_equal(rk_machine_apply(world->twin, world->index, data, &twin_output),
                     status);
    if (status != RK_OK) return status;
    assert_int_equal(rk_machine_index(world->machine), world->index);
    assert_int_equal(world->ear.digest, world->twin_ear.digest);
    if (world->index % world->hash_each == 0)
        assert_int_equal(world_hash(world->machine), world_hash(world->twin));
    if (world->restore_each != 0 && world->index % world->restore_each == 0)
        renew_twin(world);
    return status;
}

static enum rk_status apply_bytes(struct world *world, const char *client, uint64_t seq,
                                  struct rk_slice request)
{
    struct rk_command command = {
        .client = client != NULL ? text(client) : RK_SLICE_EMPTY,
        .seq = seq,
        .first_unanswered = world->first != 0 ? world->first : (client != NULL ? 1 : 0),
        .stamp_ms = world->now,
        .deadline_ms = world->deadline_ms,
        .home = world->home,
        .request = request};
    struct rk_buf bytes;
    rk_buf_init(&bytes);
    rk_command_encode(&bytes, &command);
    assert_int_equal(rk_buf_check(&bytes), RK_OK);
    enum rk_status status = world_apply(world, rk_buf_slice(&bytes));
    rk_buf_fini(&bytes);
    return status;
}

const struct said *world_said(const struct world *world, const char *client, uint64_t seq,
                              uint32_t since)
{
    for (uint32_t i = world->ear.said_count; i > since; i--) {
        const struct said *said = &world->ear.said[i - 1];
        if (said->seq == seq && strcmp(said->client, client) == 0) return said;
    }
    return NULL;
}

const struct said *world_send(struct world *world, const char *client, uint64_t seq,
                              struct rk_request *request)
{
    struct rk_buf bytes;
    rk_buf_init(&bytes);
    struct rk_api_error error = {0};
    if (client != NULL && request->op < RK_OP_CALL_CANCEL &&
        rk_request_check(request, &error) != RK_OK)
        fail_msg("%s: %s", error.field, error.text);
    rk_request_encode(&bytes, request);
    assert_int_equal(rk_buf_check(&bytes), RK_OK);
    if (seq == 0 && client != NULL) seq = ++world->seq;
    uint32_t since = world->ear.said_count;
    assert_int_equal(apply_bytes(world, client, seq, rk_buf_slice(&bytes)), RK_OK);
    rk_buf_fini(&bytes);
    if (client == NULL) return NULL;
    const struct said *said = world_said(world, client, seq, since);
    assert_non_null(said);
    return said;
}

const struct rk_reply *world_call(struct world *world, const char *client,
                                  struct rk_request *request)
{
    const struct said *said = world_send(world, client, 0, request);
    assert_false(said->is_pending);
    return &said->reply;
}

uint32_t world_pass(struct world *world, uint64_t ms)
{
    uint32_t total = 0;
    world->now += ms;
    for (;;) {
        struct rk_buf bytes;
        rk_buf_init(&bytes);
        uint32_t count = rk_machine_due(world->machine, world->now, 16, &bytes);
        if (count != 0)
            assert_int_equal(apply_bytes(world, NULL, 0, rk_buf_slice(&bytes)), RK_OK);
        rk_buf_fini(&bytes);
        total += count;
        if (count == 0) return total;
    }
}

struct rk_reply world_query(struct world *world, struct rk_request *request)
{
    struct rk_reply reply;
    struct rk_api_error error = {0};
    if (rk_request_check(request, &error) != RK_OK)
        fail_msg("%s: %s", error.field, error.text);
    assert_int_equal(
        rk_machine_query(world->machine, request, world->now, &world->arena, &reply),
        RK_OK);
    return reply;
}

struct rk_request ask(enum rk_op op)
{
    struct rk_request request;
    rk_request_init(&request, op);
    return request;
}

struct rk_request ask_named(enum rk_op op, const char *resource, const char *owner,
                            uint64_t fence)
{
    struct rk_request request = ask(op);
    request.resource = text(resource);
    RK_SET(&request, RESOURCE);
    if (owner != NULL) {
        request.owner = text(owner);
        RK_SET(&request, OWNER);
    }
    request.fence = fence;
    if (fence != 0) RK_SET(&request, FENCE);
    return request;
}

struct rk_request ask_acquire(const char *resource, const char *owner, enum rk_mode mode,
                              uint64_t wait_ms)
{
    struct rk_request request = ask_named(RK_OP_LOCK_ACQUIRE, resource, owner, 0);
    request.mode = (uint8_t)mode;
    RK_SET(&request, MODE);
    request.wait_ms = wait_ms;
    if (wait_ms != 0) RK_SET(&request, WAIT_MS);
    return request;
}

struct rk_request ask_cancel(const char *client, uint64_t seq)
{
    struct rk_request request = ask(RK_OP_LOCK_CANCEL);
    request.target_client = text(client);
    request.target_seq = seq;
    RK_SET(&request, TARGET_CLIENT);
    RK_SET(&request, TARGET_SEQ);
    return request;
}

const char *world_session(struct world *world, const char *client, uint64_t ttl_ms)
{
    struct rk_request request = ask(RK_OP_SESSION_OPEN);
    request.ttl_ms = ttl_ms;
    RK_SET(&request, TTL_MS);
    const struct rk_reply *reply = world_call(world, client, &request);
    assert_int_equal(reply->status, RK_OK);
    assert_int_equal(reply->ttl_ms, ttl_ms);
    char *id = rk_arena_calloc(&world->arena, 1, reply->session.size + 1);
    assert_non_null(id);
    memcpy(id, reply->session.data, reply->session.size);
    return id;
}
