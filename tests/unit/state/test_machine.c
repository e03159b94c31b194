#include "world.h"

#include "base/alloc.h"
#include "base/random.h"

#include <stdio.h>

static struct rk_machine *open_machine(uint32_t group)
{
    struct rk_machine_options options = {.struct_size = sizeof(options), .group = group};
    struct rk_machine *machine = NULL;
    assert_int_equal(rk_machine_new(&machine, &options), RK_OK);
    return machine;
}

static void put_command(struct rk_buf *out, const struct rk_request *request,
                        uint64_t stamp_ms)
{
    struct rk_buf inner;
    rk_buf_init(&inner);
    rk_request_encode(&inner, request);
    struct rk_command command = {.stamp_ms = stamp_ms, .request = rk_buf_slice(&inner)};
    rk_command_encode(out, &command);
    rk_buf_fini(&inner);
}

static enum rk_status apply_request(struct world *world, const struct rk_request *request,
                                    uint64_t stamp_ms)
{
    struct rk_buf bytes;
    rk_buf_init(&bytes);
    put_command(&bytes, request, stamp_ms);
    enum rk_status status = world_apply(world, rk_buf_slice(&bytes));
    rk_buf_fini(&bytes);
    return status;
}

static void test_command_codec(void **state)
{
    (void)state;
    struct rk_command in = {text("client"), 7, 5, 123456789, 99, 3, text("request")};
    struct rk_command out;
    struct rk_buf bytes;
    rk_buf_init(&bytes);
    rk_command_encode(&bytes, &in);
    assert_int_equal(rk_command_decode(&out, rk_buf_slice(&bytes)), RK_OK);
    assert_text(out.client, "client");
    assert_int_equal(out.seq, 7);
    assert_int_equal(out.first_unanswered, 5);
    assert_int_equal(out.stamp_ms, 123456789);
    assert_int_equal(out.deadline_ms, 99);
    assert_int_equal(out.home, 3);
    assert_text(out.request, "request");
    for (size_t size = 0; size < bytes.size; size++)
        assert_int_equal(rk_command_decode(&out, rk_slice_of(bytes.data, size)), RK_EPROTO);
    rk_buf_u8(&bytes, 0);
    assert_int_equal(rk_command_decode(&out, rk_buf_slice(&bytes)), RK_EPROTO);
    bytes.data[0] = RK_COMMAND_VERSION + 1;
    assert_int_equal(rk_command_decode(&out, rk_buf_slice(&bytes)), RK_EUNSUPPORTED);
    rk_buf_reset(&bytes);
    uint8_t name[RK_CLIENT_NAME_MAX + 1] = {1};
    in.client = rk_slice_of(name, sizeof(name));
    rk_command_encode(&bytes, &in);
    assert_int_equal(rk_command_decode(&out, rk_buf_slice(&bytes)), RK_EPROTO);
    rk_buf_fini(&bytes);
}

static void test_an_empty_entry_moves_the_index(void **state)
{
    (void)state;
    struct world *world = world_open();
    uint64_t hash = world_hash(world->machine);
    assert_int_equal(world_apply(world, RK_SLICE_EMPTY), RK_OK);
    assert_int_equal(rk_machine_index(world->machine), 2);
    assert_int_equal(world_hash(world->machine), hash);
    world_close(world);
}

static void test_what_it_does_not_know_stops_it(void **state)
{
    (void)state;
    struct world *world = world_open();
    struct rk_request request = ask(RK_OP_MACHINE_VERSION);
    request.number = RK_MACHINE_VERSION + 1;
    RK_SET(&request, NUMBER);
    assert_int_equal(apply_request(world, &request, world->now), RK_EUNSUPPORTED);
    request = ask(RK_OP_LOCK_LIST); /* a read is no entry */
    assert_int_equal(apply_request(world, &request, world->now), RK_EUNSUPPORTED);
    assert_int_equal(world_apply(world, text("\x01nonsense")), RK_EPROTO);
    assert_int_equal(world_apply(world, text("\x7fnonsense")), RK_EUNSUPPORTED);
    world->index = rk_machine_index(world->machine);
    world_close(world);
}

static void test_time_does_not_go_back(void **state)
{
    (void)state;
    struct world *world = world_open();
    struct rk_request request = ask(RK_OP_MACHINE_VERSION);
    request.number = 1;
    RK_SET(&request, NUMBER);
    assert_int_equal(apply_request(world, &request, world->now + 500), RK_OK);
    assert_int_equal(apply_request(world, &request, world->now), RK_OK);
    assert_int_equal(rk_machine_time(world->machine), world->now + 500);
    assert_int_equal(rk_machine_version(world->machine), 1);
    world_close(world);
}

static void test_due_comes_in_batches(void **state)
{
    (void)state;
    struct world *world = world_open();
    world->restore_each = 0;
    for (int i = 0; i < 40; i++)
        world_session(world, "c", 1000);
    assert_int_equal(rk_machine_next_due(world->machine), world->now + 1000);
    struct rk_buf out;
    rk_buf_init(&out);
    assert_int_equal(rk_machine_due(world->machine, world->now + 999, 16, &out), 0);
    assert_int_equal(out.size, 0);
    assert_int_equal(world_pass(world, 1000), 40);
    assert_int_equal(world_pass(world, 10000), 0);
    rk_buf_fini(&out);
    world_close(world);
}

/* All durations begin again with a new leader, but it does not go through all of them in
 * one turn. */
static void test_a_new_leader_corrects_in_slices(void **state)
{
    (void)state;
    struct world *world = world_open();
    world->restore_each = 0;
    world->hash_each = 1000;
    for (int i = 0; i < 10000; i++) {
        char client[8];
        (void)snprintf(client, sizeof(client), "c%d", i / 1000);
        world->ear.said_count = world->twin_ear.said_count = 0;
        world_session(world, client, 1000);
    }
    rk_machine_lead(world->machine, world->now + 900);
    uint64_t now = world->now + 1500;
    struct rk_buf out;
    rk_buf_init(&out);
    int calls = 0;
    while (rk_machine_next_due(world->machine) <= now && calls < 100) {
        assert_int_equal(rk_machine_due(world->machine, now, 16, &out), 0);
        calls++;
    }
    assert_in_range(calls, 2, 4);
    assert_int_equal(rk_machine_next_due(world->machine), world->now + 1900);
    assert_int_equal(rk_machine_due(world->machine, world->now + 1900, 16, &out), 16);
    rk_buf_fini(&out);
    world_close(world);
}

static void test_a_lost_proposal_is_made_again(void **state)
{
    (void)state;
    struct world *world = world_open();
    world_session(world, "c", 1000);
    world->now += 1000;
    struct rk_buf lost;
    rk_buf_init(&lost);
    assert_int_equal(rk_machine_due(world->machine, world->now, 16, &lost), 1);
    rk_buf_fini(&lost);
    assert_int_equal(world_pass(world, 1000), 0);
    assert_int_equal(world_pass(world, 1000), 1);
    world_close(world);
}

/* Keeps a busy group busy: locks, sessions, waits, cancels, time. */
static void act(struct world *world, struct rk_random *random)
{
    static const char *owners[] = {"o1", "o2", "o3", "o4", "o5"};
    static const char *names[] = {"r1", "r2", "r3", "r4"};
    const char *owner = owners[rk_random_below(random, 5)];
    const char *name = names[rk_random_below(random, 4)];
    struct rk_resource_in items[] = {{text(name), (uint8_t)rk_random_below(random, 2)},
                                     {text("r5"), (uint8_t)rk_random_below(random, 2)}};
    struct rk_request request;
    switch (rk_random_below(random, 12)) {
    case 0:
    case 1:
    case 2:
        request = ask_acquire(name, owner, (enum rk_mode)rk_random_below(random, 2),
                              rk_random_below(random, 3) * 20000);
        request.reentrant = rk_random_below(random, 3) == 0;
        request.lock_delay_ms = rk_random_below(random, 4) == 0 ? 3000 : 0;
        request.min_hold_ms = rk_random_below(random, 6) == 0 ? 2000 : 0;
        request.max_hold_ms = rk_random_below(random, 6) == 0 ? 50000 : 0;
        request.priority = (int32_t)rk_random_below(random, 3) - 1;
        break;
    case 3:
        request = ask(RK_OP_LOCK_ACQUIRE);
        request.resources = items;
        request.resource_count = 2;
        request.is_bulk = true;
        request.owner = text(owner);
        request.wait_ms = rk_random_below(random, 2) * 30000;
        break;
    case 4:
        request = ask_acquire("semaphore", owner, RK_MODE_EXCLUSIVE,
                              rk_random_below(random, 2) * 30000);
        request.limit = 1 + rk_random_below(random, 3);
        RK_SET(&request, LIMIT);
        break;
    case 5: request = ask_cancel(owner, world->seq - rk_random_below(random, 12)); break;
    case 6: request = ask_named(RK_OP_LOCK_BREAK, name, NULL, 0); break;
    case 7: request = ask_named(RK_OP_LOCK_RENEW, name, owner, 0); break;
    case 8: (void)world_pass(world, rk_random_below(random, 12000)); return;
    default:
        request = ask_named(RK_OP_LOCK_RELEASE,
                            rk_random_below(random, 5) == 0 ? "semaphore" : name, owner, 0);
        break;
    }
    (void)world_send(world, owner, 0, &request);
    if (rk_random_below(random, 50) == 0) world->home = rk_random_below(random, 3) + 1;
    if (world->seq > 60) world->first = world->seq - 60;
}

/* Nobody holds beside an exclusive holder; nobody waits who could go on. */
static void check_locks(struct world *world)
{
    static const char *names[] = {"r1", "r2", "r3", "r4", "r5"};
    for (int i = 0; i < 5; i++) {
        struct rk_request request = ask_named(RK_OP_LOCK_INFO, names[i], NULL, 0);
        struct rk_reply reply = world_query(world, &request);
        uint64_t last = 0;
        for (uint32_t j = 0; j < reply.holder_count; j++) {
            if (reply.holders[j].mode == RK_MODE_EXCLUSIVE)
                assert_int_equal(reply.holder_count, 1);
            assert_true(reply.holders[j].fence != last);
            last = reply.holders[j].fence;
        }
    }
}

/* No cycle of waits is left after any entry (permits aside: those may be given by others).
 */
static void check_graph(struct world *world)
{
    struct rk_request request = ask(RK_OP_LOCK_GRAPH);
    struct rk_reply reply = world_query(world, &request);
    bool waits[5][5] = {{false}};
    for (uint32_t i = 0; i < reply.edge_count; i++) {
        const struct rk_wait_edge *edge = &reply.edges[i];
        if (rk_slice_is_equal(edge->resource, text("semaphore"))) continue;
        waits[edge->owner.data[1] - '1'][edge->by.data[1] - '1'] = true;
    }
    for (int k = 0; k < 5; k++)
        for (int i = 0; i < 5; i++)
            for (int j = 0; j < 5; j++)
                waits[i][j] |= waits[i][k] && waits[k][j];
    for (int i = 0; i < 5; i++)
        assert_false(waits[i][i]);
}

static void forget(struct world *world)
{
    world->ear.said_count = world->twin_ear.said_count = 0;
    world->ear.heard_count = world->twin_ear.heard_count = 0;
}

static void test_random_histories_agree(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 12; seed++) {
        struct world *world = world_open();
        struct rk_random random;
        rk_random_init(&random, seed);
        world->seq = 20;
        world->first = 1;
        world->restore_each = 1 + (uint32_t)seed * 3;
        for (int i = 0; i < 600; i++) {
            act(world, &random);
            check_locks(world);
            check_graph(world);
            forget(world);
        }
        for (int i = 0; i < 30; i++) /* leases and waits end; nothing of locks is left */
            (void)world_pass(world, 10000);
        struct rk_request list = ask(RK_OP_LOCK_LIST);
        assert_int_equal(world_query(world, &list).listed_count, 0);
        world_close(world);
    }
}

static void test_snapshot_is_the_state_at_its_begin(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 15; seed++) {
        struct world *world = world_open();
        struct rk_random random;
        struct rk_buf before, during;
        rk_buf_init(&before);
        rk_buf_init(&during);
        rk_random_init(&random, seed);
        world->restore_each = 0;
        world->seq = 20;
        for (int i = 0; i < 120; i++)
            act(world, &random);
        world_snapshot(world->machine, &before);
        uint64_t hash = world_hash(world->machine), index = world->index;
        assert_int_equal(rk_machine_snapshot_begin(world->machine), RK_OK);
        assert_int_equal(rk_machine_snapshot_begin(world->machine), RK_EBUSY);
        bool is_done = false;
        while (!is_done) {
            forget(world);
            for (uint64_t i = rk_random_below(&random, 6); i > 0; i--)
                act(world, &random);
            assert_int_equal(rk_machine_snapshot_step(world->machine, &during, 1, &is_done),
                             RK_OK);
        }
        rk_machine_snapshot_end(world->machine);
        assert_int_equal(during.size, before.size);
        assert_memory_equal(during.data, before.data, before.size);
        assert_true(world_hash(world->machine) != hash);
        struct rk_machine *restored = world_restore(rk_buf_slice(&during), index);
        assert_int_equal(world_hash(restored), hash);
        assert_int_equal(rk_machine_index(restored), index);
        rk_machine_free(restored);
        rk_buf_fini(&before);
        rk_buf_fini(&during);
        world_close(world);
    }
}

static void test_snapshot_may_be_given_up(void **state)
{
    (void)state;
    struct world *world = world_open();
    struct rk_random random;
    rk_random_init(&random, 99);
    world->seq = 20;
    world->restore_each = 0;
    for (int i = 0; i < 100; i++)
        act(world, &random);
    for (int round = 0; round < 5; round++) {
        struct rk_buf out;
        bool is_done = false;
        rk_buf_init(&out);
        assert_int_equal(rk_machine_snapshot_begin(world->machine), RK_OK);
        for (int i = 0; i < 10; i++) {
            act(world, &random);
            assert_int_equal(rk_machine_snapshot_step(world->machine, &out, 1, &is_done),
                             RK_OK);
        }
        struct rk_snapshot_progress progress;
        rk_machine_snapshot_progress(world->machine, &progress);
        assert_int_equal(progress.out_bytes, out.size);
        assert_true(progress.all_bytes > progress.out_bytes && progress.side_bytes > 0);
        /* What is aside goes a little at a time, while entries are applied. */
        if (round % 2 == 0) {
            assert_false(rk_machine_snapshot_discard(world->machine, 1));
            uint64_t before = progress.side_bytes;
            act(world, &random);
            rk_machine_snapshot_progress(world->machine, &progress);
            assert_true(progress.side_bytes < before);
            while (!rk_machine_snapshot_discard(world->machine, 1))
                act(world, &random);
        }
        rk_machine_snapshot_end(world->machine);
        rk_machine_snapshot_end(world->machine);
        rk_machine_snapshot_progress(world->machine, &progress);
        assert_int_equal(progress.side_bytes, 0);
        rk_buf_fini(&out);
    }
    world_close(world);
}

static void fill(struct world *world)
{
    struct rk_random random;
    rk_random_init(&random, 5);
    world->seq = 20;
    const char *session = world_session(world, "s", 5000);
    struct rk_request request = ask_acquire("in session", "s", RK_MODE_SHARED, 0);
    request.session = text(session);
    assert_true(world_call(world, "s", &request)->granted);
    for (int i = 0; i < 60; i++)
        act(world, &random);
}

/* Restores a stream whose bytes are not to be trusted: any status, no crash. */
static enum rk_status try_restore(struct rk_slice stream)
{
    struct rk_machine *machine = open_machine(0);
    struct rk_reader reader;
    rk_reader_init(&reader, stream);
    enum rk_status status = RK_OK;
    while (status == RK_OK && rk_reader_left(&reader) != 0) {
        struct rk_slice record = rk_read_blob(&reader);
        status = reader.is_failed ? RK_EPROTO : rk_machine_restore(machine, record);
    }
    if (status == RK_OK) status = rk_machine_restore_finish(machine, 1);
    rk_machine_free(machine);
    return status;
}

static void test_restore_trusts_nothing(void **state)
{
    (void)state;
    struct world *world = world_open();
    world->restore_each = 0;
    fill(world);
    struct rk_buf stream;
    rk_buf_init(&stream);
    world_snapshot(world->machine, &stream);
    assert_int_equal(try_restore(rk_buf_slice(&stream)), RK_OK);
    for (size_t size = 0; size < stream.size; size++)
        assert_true(try_restore(rk_slice_of(stream.data, size)) != RK_OK);
    struct rk_random random;
    rk_random_init(&random, 3);
    for (int i = 0; i < 3000; i++) {
        size_t at = rk_random_below(&random, stream.size);
        uint8_t flip = (uint8_t)(1 + rk_random_below(&random, 255));
        stream.data[at] ^= flip;
        (void)try_restore(rk_buf_slice(&stream));
        stream.data[at] ^= flip;
    }
    rk_buf_fini(&stream);
    world_close(world);
}

static void test_restore_needs_every_record_in_order(void **state)
{
    (void)state;
    struct world *world = world_open();
    world->restore_each = 0;
    fill(world);
    struct rk_buf stream;
    rk_buf_init(&stream);
    world_snapshot(world->machine, &stream);
    struct rk_slice records[512];
    uint32_t count = 0;
    struct rk_reader reader;
    rk_reader_init(&reader, rk_buf_slice(&stream));
    while (rk_reader_left(&reader) != 0)
        records[count++] = rk_read_blob(&reader);
    for (uint32_t left_out = 0; left_out < count; left_out++) {
        struct rk_buf part;
        rk_buf_init(&part);
        for (uint32_t i = 0; i < count; i++)
            if (i != left_out) rk_buf_blob(&part, records[i]);
        assert_int_equal(try_restore(rk_buf_slice(&part)), RK_EPROTO);
        rk_buf_blob(&part, records[left_out]); /* last, once more, is too late */
        assert_int_equal(try_restore(rk_buf_slice(&part)),
                         left_out + 1 == count ? RK_OK : RK_EPROTO);
        rk_buf_fini(&part);
    }
    struct rk_machine *other = open_machine(4);
    assert_int_equal(rk_machine_restore(other, records[0]),
                     RK_EPROTO); /* another group's */
    rk_machine_free(other);
    rk_buf_fini(&stream);
    world_close(world);
}

static void test_bytes_follow_the_objects(void **state)
{
    (void)state;
    struct world *world = world_open();
    assert_int_equal(rk_machine_bytes(world->machine), 0);
    struct rk_request request = ask_acquire("r", "alice", RK_MODE_EXCLUSIVE, 0);
    assert_true(world_call(world, "alice", &request)->granted);
    uint64_t held = rk_machine_bytes(world->machine);
    assert_true(held > 300);
    request = ask_named(RK_OP_LOCK_RELEASE, "r", "alice", 0);
    assert_true(world_call(world, "alice", &request)->released);
    assert_true(rk_machine_bytes(world->machine) < held);
    (void)world_pass(world, RK_CLIENT_IDLE_MS);
    assert_int_equal(rk_machine_bytes(world->machine), 0);
    world_close(world);
}

static void test_queries_refuse_writes(void **state)
{
    (void)state;
    struct world *world = world_open();
    struct rk_request request = ask_acquire("r", "alice", RK_MODE_EXCLUSIVE, 0);
    struct rk_reply reply;
    assert_int_equal(
        rk_machine_query(world->machine, &request, world->now, &world->arena, &reply),
        RK_EUNSUPPORTED);
    world_close(world);
}

/* Without memory the machine says so and can be thrown away; nothing leaks. */
static void test_every_allocation_may_fail(void **state)
{
    (void)state;
    struct rk_request first = ask_acquire("r", "a", RK_MODE_EXCLUSIVE, 0);
    struct rk_request second = ask_acquire("r", "b", RK_MODE_EXCLUSIVE, 5000);
    struct rk_request third = ask_named(RK_OP_LOCK_RELEASE, "r", "a", 0);
    struct rk_request *requests[] = {&first, &second, &third};
    struct rk_buf entries[3];
    for (int i = 0; i < 3; i++) {
        struct rk_buf inner;
        rk_buf_init(&inner);
        rk_buf_init(&entries[i]);
        assert_int_equal(rk_request_check(requests[i], NULL), RK_OK);
        rk_request_encode(&inner, requests[i]);
        struct rk_command command = {.client = text("c"),
                                     .seq = (uint64_t)i + 1,
                                     .stamp_ms = START_MS,
                                     .request = rk_buf_slice(&inner)};
        rk_command_encode(&entries[i], &command);
        rk_buf_fini(&inner);
    }
    bool is_done = false;
    for (int64_t after = 0; !is_done; after++) {
        struct rk_machine_options options = {.struct_size = sizeof(options)};
        struct rk_machine *machine = NULL;
        rk_alloc_fail(after, 0);
        enum rk_status status = rk_machine_new(&machine, &options);
        for (uint64_t i = 0; i < 3 && status == RK_OK; i++)
            status = rk_machine_apply(machine, i + 1, rk_buf_slice(&entries[i]), NULL);
        rk_alloc_fail(-1, 0);
        assert_true(status == RK_OK || status == RK_ENOMEM);
        is_done = status == RK_OK;
        rk_machine_free(machine);
        assert_true(after < 1000);
    }
    for (int i = 0; i < 3; i++)
        rk_buf_fini(&entries[i]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_command_codec),
        cmocka_unit_test(test_an_empty_entry_moves_the_index),
        cmocka_unit_test(test_what_it_does_not_know_stops_it),
        cmocka_unit_test(test_time_does_not_go_back),
        cmocka_unit_test(test_due_comes_in_batches),
        cmocka_unit_test(test_a_new_leader_corrects_in_slices),
        cmocka_unit_test(test_a_lost_proposal_is_made_again),
        cmocka_unit_test(test_random_histories_agree),
        cmocka_unit_test(test_snapshot_is_the_state_at_its_begin),
        cmocka_unit_test(test_snapshot_may_be_given_up),
        cmocka_unit_test(test_restore_trusts_nothing),
        cmocka_unit_test(test_restore_needs_every_record_in_order),
        cmocka_unit_test(test_bytes_follow_the_objects),
        cmocka_unit_test(test_queries_refuse_writes),
        cmocka_unit_test(test_every_allocation_may_fail),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
