/* Two machines that follow one log: the same answers, events and hash, whatever stands in
 * it; snapshots taken in between are the state as of their begin.
 *
 * Input: a byte for the group, then steps: a byte for the kind and what that takes. In
 * bodies "@n" stands for an id, token or name that an earlier answer gave. */
#include "fuzz_state.h"

#include "base/hash.h"

enum { STEPS_MAX = 200, NAMES = 10, NAME_SIZE = 96, CLIENTS = 4, START_MS = 1700000000 };

enum { ID_FIRST = 0, ID_COUNT = 6, TOKEN_AT = 6, SESSION_AT = 7, MESSAGE_AT = 8 };

struct world {
    struct rk_machine *machine;
    struct rk_machine *twin;
    uint64_t digest, twin_digest; /* of what they said */
    uint64_t index;
    uint64_t now;
    uint64_t seq[CLIENTS];
    uint32_t group;
    uint32_t next_id;
    uint64_t fence; /* of the last grant */
    char names[NAMES][NAME_SIZE];
    struct rk_buf last;     /* the last client's entry */
    struct rk_buf snapshot; /* being taken of machine */
    uint64_t snapshot_hash;
    uint64_t snapshot_index;
    bool has_snapshot;
};

static void keep(struct world *world, int at, struct rk_slice name)
{
    if (name.size == 0 || name.size >= NAME_SIZE) return;
    memcpy(world->names[at], name.data, name.size);
    world->names[at][name.size] = '\0';
}

static void mix_reply(uint64_t *digest, struct rk_slice client, uint64_t seq,
                      const struct rk_reply *reply)
{
    struct rk_buf bytes;
    struct rk_arena arena;
    struct rk_reply back;
    rk_buf_init(&bytes);
    rk_arena_init(&arena);
    rk_reply_encode(&bytes, reply);
    RK_ASSERT(rk_reply_decode(&back, rk_buf_slice(&bytes), &arena) == RK_OK);
    *digest = rk_hash_mix(rk_hash_mix(*digest, rk_hash(client)), seq);
    *digest = rk_hash_mix(*digest, rk_hash(rk_buf_slice(&bytes)));
    rk_arena_fini(&arena);
    rk_buf_fini(&bytes);
}

static void on_reply(void *context, struct rk_slice client, uint64_t seq,
                     const struct rk_reply *reply)
{
    struct world *world = context;
    mix_reply(&world->digest, client, seq, reply);
    for (uint32_t i = 0; i < reply->message_count; i++)
        keep(world, ID_FIRST + (int)(world->next_id++ % ID_COUNT), reply->messages[i].id);
    keep(world, TOKEN_AT, reply->fill_token);
    keep(world, SESSION_AT, reply->session);
    keep(world, MESSAGE_AT, reply->id);
    if (reply->fence != 0) world->fence = reply->fence;
}

static void on_twin_reply(void *context, struct rk_slice client, uint64_t seq,
                          const struct rk_reply *reply)
{
    struct world *world = context;
    mix_reply(&world->twin_digest, client, seq, reply);
}

static void mix_event(uint64_t *digest, const struct rk_event *event)
{
    const struct rk_slice texts[] = {event->owner, event->session, event->resource,
                                     event->topic, event->cache,   event->key,
                                     event->bytes};
    *digest = rk_hash_mix(*digest, event->kind);
    *digest = rk_hash_mix(*digest, event->ordinal);
    *digest = rk_hash_mix(*digest, event->fence);
    *digest = rk_hash_mix(*digest, event->version);
    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++)
        *digest = rk_hash_mix(*digest, rk_hash(texts[i]));
}

static void on_event(void *context, const struct rk_event *event)
{
    struct world *world = context;
    RK_ASSERT(event->index == world->index);
    mix_event(&world->digest, event);
}

static void on_twin_event(void *context, const struct rk_event *event)
{
    struct world *world = context;
    mix_event(&world->twin_digest, event);
}

/* False: the machines do not know the entry; their node would stop. */
static bool apply(struct world *world, struct rk_slice entry)
{
    const struct rk_machine_output output = {world, on_reply, NULL, on_event};
    const struct rk_machine_output twin_output = {world, on_twin_reply, NULL,
                                                  on_twin_event};
    world->index++;
    enum rk_status status = rk_machine_apply(world->machine, world->index, entry, &output);
    RK_ASSERT(rk_machine_apply(world->twin, world->index, entry, &twin_output) == status);
    RK_ASSERT(status == RK_OK || status == RK_EPROTO || status == RK_EUNSUPPORTED);
    RK_ASSERT(world->digest == world->twin_digest);
    return status == RK_OK;
}

static bool apply_request(struct world *world, struct rk_command command,
                          struct rk_slice request)
{
    struct rk_buf entry;
    rk_buf_init(&entry);
    command.stamp_ms = world->now;
    command.request = request;
    rk_command_encode(&entry, &command);
    bool is_known = apply(world, rk_buf_slice(&entry));
    if (command.client.size > 0) {
        rk_buf_reset(&world->last);
        rk_buf_append_slice(&world->last, rk_buf_slice(&entry));
    }
    rk_buf_fini(&entry);
    return is_known;
}

/* The chunk with what "@n" stands for. */
static void take_body(const struct world *world, struct rk_reader *in, struct rk_buf *out)
{
    struct rk_slice body = fuzz_chunk(in);
    for (size_t i = 0; i < body.size; i++) {
        uint8_t next = i + 1 < body.size ? body.data[i + 1] : 0;
        if (body.data[i] != '@' || next < '0' || next > '9') {
            rk_buf_u8(out, body.data[i]);
            continue;
        }
        rk_buf_append_string(out, world->names[next - '0']);
        i++;
    }
}

static bool take_request(struct world *world, struct rk_reader *in, struct rk_buf *body,
                         struct rk_arena *arena, struct rk_request *request)
{
    struct rk_api_error error;
    enum rk_op op = (enum rk_op)(fuzz_byte(in) % RK_OP_MAX);
    take_body(world, in, body);
    return rk_op_info(op) != NULL &&
           rk_request_from_json(request, op, rk_buf_slice(body), arena, &error) == RK_OK;
}

static bool step_raw(struct world *world, struct rk_reader *in)
{
    return apply(world, fuzz_chunk(in));
}

/* Of the others the host takes care. */
static bool is_for_log(const struct rk_op_info *info)
{
    if (info->op >= RK_OP_CLUSTER_INFO && info->op <= RK_OP_CLUSTER_TRANSFER) return false;
    return info->is_write && info->group != RK_GROUP_NONE && info->op != RK_OP_MEMBERS;
}

/* A client's request: one that the table lets through never stops a node. */
static bool step_call(struct world *world, struct rk_reader *in)
{
    static const char *const clients[CLIENTS] = {"a", "b", "c", "d"};
    struct rk_arena arena;
    struct rk_request request;
    struct rk_buf body, bytes;
    uint8_t who = fuzz_byte(in);
    rk_arena_init(&arena);
    rk_buf_init(&body);
    rk_buf_init(&bytes);
    if (take_request(world, in, &body, &arena, &request)) {
        const struct rk_op_info *info = rk_op_info(request.op);
        struct rk_command command = {
            .client = rk_slice_of_string(clients[who % CLIENTS]),
            .seq = ++world->seq[who % CLIENTS],
            .first_unanswered = who & 16 ? world->seq[who % CLIENTS] : 0,
            .deadline_ms = who & 32 ? world->now + 1 : 0,
            .home = who >> 6,
        };
        rk_request_encode(&bytes, &request);
        if (is_for_log(info))
            RK_ASSERT(apply_request(world, command, rk_buf_slice(&bytes)));
    }
    rk_buf_fini(&body);
    rk_buf_fini(&bytes);
    rk_arena_fini(&arena);
    return true;
}

/* The node's own: an answer did not leave, so what it gave comes back. */
static bool step_return(struct world *world, struct rk_reader *in)
{
    static const char *const names[] = {"r", "s", "t", "o", "p", "q"};
    struct rk_request request;
    struct rk_buf bytes;
    uint8_t which = fuzz_byte(in);
    struct rk_slice id = rk_slice_of_string(world->names[which % ID_COUNT]);
    rk_buf_init(&bytes);
    rk_request_init(&request, which & 128 ? RK_OP_LOCK_RETURN : RK_OP_QUEUE_RETURN);
    request.ids = (struct rk_strings){&id, 1};
    request.resource = rk_slice_of_string(names[which % 3]);
    request.owner = rk_slice_of_string(names[3 + which / 4 % 3]);
    request.fence = world->fence - which / 16 % 4;
    if (request.op == RK_OP_LOCK_RETURN)
        request.ids = (struct rk_strings){NULL, 0};
    else
        request.resource = request.owner = RK_SLICE_EMPTY;
    if (request.op != RK_OP_LOCK_RETURN) request.fence = 0;
    if (rk_request_check(&request, NULL) == RK_OK) {
        rk_request_encode(&bytes, &request);
        RK_ASSERT(apply_request(world, (struct rk_command){0}, rk_buf_slice(&bytes)));
    }
    rk_buf_fini(&bytes);
    return true;
}

static bool step_repeat(struct world *world, struct rk_reader *in)
{
    (void)in;
    return world->last.size == 0 || apply(world, rk_buf_slice(&world->last));
}

static bool step_pass(struct world *world, struct rk_reader *in)
{
    struct rk_buf due;
    rk_buf_init(&due);
    world->now += 50u * fuzz_byte(in) * (1u + fuzz_byte(in) % 16u);
    for (int i = 0; i < 64; i++) {
        rk_buf_reset(&due);
        if (rk_machine_due(world->machine, world->now, 8, &due) == 0) break;
        RK_ASSERT(apply_request(world, (struct rk_command){0}, rk_buf_slice(&due)));
    }
    rk_buf_reset(&due);
    if (rk_machine_touch_take(world->machine, &due))
        RK_ASSERT(apply_request(world, (struct rk_command){0}, rk_buf_slice(&due)));
    rk_buf_fini(&due);
    return true;
}

static bool step_lead(struct world *world, struct rk_reader *in)
{
    (void)in;
    rk_machine_lead(world->machine, world->now);
    return true;
}

static bool step_query(struct world *world, struct rk_reader *in)
{
    struct rk_arena arena;
    struct rk_request request;
    struct rk_reply reply;
    struct rk_buf body, bytes;
    uint64_t hash = fuzz_machine_hash(world->twin);
    rk_arena_init(&arena);
    rk_buf_init(&body);
    rk_buf_init(&bytes);
    if (take_request(world, in, &body, &arena, &request)) {
        enum rk_status status =
            rk_machine_query(world->machine, &request, world->now, &arena, &reply);
        RK_ASSERT(status == RK_OK || status == RK_EUNSUPPORTED);
        if (status == RK_OK) rk_reply_encode(&bytes, &reply);
    }
    RK_ASSERT(fuzz_machine_hash(world->machine) == hash);
    rk_buf_fini(&body);
    rk_buf_fini(&bytes);
    rk_arena_fini(&arena);
    return true;
}

static void check_restored(struct world *world)
{
    struct rk_machine *restored = NULL;
    RK_ASSERT(fuzz_machine_load(&restored, world->group, rk_buf_slice(&world->snapshot),
                                world->snapshot_index) == RK_OK);
    RK_ASSERT(fuzz_machine_hash(restored) == world->snapshot_hash);
    rk_machine_free(restored);
}

static bool step_snapshot(struct world *world, struct rk_reader *in)
{
    bool is_done = false;
    uint8_t budget = fuzz_byte(in);
    if (!world->has_snapshot) {
        world->has_snapshot = true;
        world->snapshot_hash = fuzz_machine_hash(world->machine);
        world->snapshot_index = world->index;
        rk_buf_reset(&world->snapshot);
        RK_ASSERT(rk_machine_snapshot_begin(world->machine) == RK_OK);
        RK_ASSERT(rk_machine_snapshot_begin(world->machine) == RK_EBUSY);
    }
    RK_ASSERT(rk_machine_snapshot_step(world->machine, &world->snapshot, 1u + budget,
                                       &is_done) == RK_OK);
    if (!is_done) return true;
    check_restored(world);
    rk_machine_snapshot_end(world->machine);
    world->has_snapshot = false;
    return true;
}

/* From here on the twin is what a snapshot made of it. */
static bool step_renew(struct world *world, struct rk_reader *in)
{
    struct rk_buf records;
    struct rk_machine *renewed = NULL;
    (void)in;
    rk_buf_init(&records);
    fuzz_machine_save(world->twin, &records);
    RK_ASSERT(fuzz_machine_load(&renewed, world->group, rk_buf_slice(&records),
                                world->index) == RK_OK);
    rk_machine_free(world->twin);
    world->twin = renewed;
    rk_buf_fini(&records);
    return true;
}

static void run(struct world *world, struct rk_reader *in)
{
    static bool (*const steps[])(struct world *, struct rk_reader *) = {
        step_raw,   step_call,     step_repeat, step_pass,  step_lead,
        step_query, step_snapshot, step_renew,  step_return};
    for (int i = 0; i < STEPS_MAX && rk_reader_left(in) > 0; i++) {
        if (!steps[fuzz_byte(in) % 9](world, in)) return; /* its node would stop */
        RK_ASSERT(fuzz_machine_hash(world->machine) == fuzz_machine_hash(world->twin));
        RK_ASSERT(rk_machine_bytes(world->machine) == rk_machine_bytes(world->twin));
    }
    if (world->has_snapshot) rk_machine_snapshot_end(world->machine);
    world->has_snapshot = false;
    rk_buf_reset(&world->snapshot);
    fuzz_machine_save(world->machine, &world->snapshot);
    world->snapshot_hash = fuzz_machine_hash(world->machine);
    world->snapshot_index = world->index;
    check_restored(world);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct rk_reader in;
    if (size == 0) return 0;
    rk_reader_init(&in, rk_slice_of(data, size));
    struct world world = {.group = fuzz_byte(&in) & 1, .now = START_MS};
    world.machine = fuzz_machine_new(world.group);
    world.twin = fuzz_machine_new(world.group);
    rk_buf_init(&world.last);
    rk_buf_init(&world.snapshot);
    rk_machine_lead(world.machine, world.now);
    struct rk_request birth;
    struct rk_buf bytes;
    rk_buf_init(&bytes);
    rk_request_init(&birth, RK_OP_BIRTH);
    birth.history = 77;
    RK_SET(&birth, HISTORY);
    rk_request_encode(&bytes, &birth);
    RK_ASSERT(apply_request(&world, (struct rk_command){0}, rk_buf_slice(&bytes)));
    run(&world, &in);
    rk_buf_fini(&bytes);
    rk_machine_free(world.machine);
    rk_machine_free(world.twin);
    rk_buf_fini(&world.last);
    rk_buf_fini(&world.snapshot);
    return 0;
}
