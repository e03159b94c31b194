/* The end of a history: what of its state begins the next one. */
#include "base/alloc.h"
#include "queue_bench.h"
#include "world.h"

static struct rk_machine *copy_in(struct rk_machine *machine, uint32_t group)
{
    const struct rk_machine_options options = {.struct_size = sizeof(options),
                                               .group = group};
    struct rk_machine *copy = NULL;
    struct rk_buf stream;
    struct rk_reader in;
    rk_buf_init(&stream);
    world_snapshot(machine, &stream);
    assert_int_equal(rk_machine_new(&copy, &options), RK_OK);
    rk_reader_init(&in, rk_buf_slice(&stream));
    while (rk_reader_left(&in) > 0)
        assert_int_equal(rk_machine_restore(copy, rk_read_blob(&in)), RK_OK);
    assert_int_equal(rk_machine_restore_finish(copy, rk_machine_index(machine)), RK_OK);
    rk_buf_fini(&stream);
    return copy;
}

static struct rk_machine *copy_of(struct rk_machine *machine)
{
    return copy_in(machine, 0);
}

/* The counts of records of each kind, by name. */
static uint64_t count(struct rk_machine *machine, const char *name)
{
    struct rk_buf stream;
    struct rk_reader in;
    uint64_t found = 0;
    rk_buf_init(&stream);
    world_snapshot(machine, &stream);
    rk_reader_init(&in, rk_buf_slice(&stream));
    while (rk_reader_left(&in) > 0) {
        const char *is = rk_machine_record_name(machine, rk_read_blob(&in));
        assert_non_null(is);
        if (strcmp(is, name) == 0) found++;
    }
    rk_buf_fini(&stream);
    return found;
}

static void apply_to(struct rk_machine *machine, const struct rk_request *request,
                     uint64_t stamp_ms)
{
    struct rk_buf bytes, entry;
    rk_buf_init(&bytes);
    rk_buf_init(&entry);
    rk_request_encode(&bytes, request);
    struct rk_command command = {.stamp_ms = stamp_ms, .request = rk_buf_slice(&bytes)};
    rk_command_encode(&entry, &command);
    assert_int_equal(rk_machine_apply(machine, rk_machine_index(machine) + 1,
                                      rk_buf_slice(&entry), NULL),
                     RK_OK);
    rk_buf_fini(&bytes);
    rk_buf_fini(&entry);
}

/* Holders, waiters, sessions, a job that must not run again. */
static struct world *lock_world(void)
{
    struct world *world = world_open();
    const char *id = world_session(world, "c", 10000);
    struct rk_request request = ask_acquire("s", "w", RK_MODE_EXCLUSIVE, 0);
    request.session = text(id);
    RK_SET(&request, SESSION);
    assert_true(world_call(world, "c", &request)->granted);
    request = ask_acquire("a", "one", RK_MODE_SHARED, 0);
    assert_true(world_call(world, "d", &request)->granted);
    request = ask_acquire("a", "two", RK_MODE_SHARED, 0);
    assert_true(world_call(world, "d", &request)->granted);
    request = ask_acquire("a", "three", RK_MODE_EXCLUSIVE, 60000);
    assert_true(world_send(world, "e", 5, &request)->is_pending);
    request = ask_acquire("s", "four", RK_MODE_EXCLUSIVE, 60000);
    request.session = text(world_session(world, "f", 10000));
    RK_SET(&request, SESSION);
    assert_true(world_send(world, "g", 60, &request)->is_pending);
    request = ask_acquire("job", "w", RK_MODE_EXCLUSIVE, 0);
    request.min_hold_ms = 3600000;
    RK_SET(&request, MIN_HOLD_MS);
    assert_true(world_call(world, "c", &request)->granted);
    return world;
}

static void test_clients_locks_and_sessions_go(void **state)
{
    (void)state;
    struct world *world = lock_world();
    struct rk_machine *machine = copy_of(world->machine);
    uint64_t time = rk_machine_time(machine);
    assert_int_equal(count(machine, "wait"), 2);
    assert_int_equal(count(machine, "grant"), 4);
    assert_int_equal(rk_machine_retire(machine), RK_OK);
    assert_int_equal(count(machine, "session"), 0);
    assert_int_equal(count(machine, "grant"), 0);
    assert_int_equal(count(machine, "wait"), 0);
    assert_int_equal(count(machine, "client"), 0);
    assert_int_equal(count(machine, "answer"), 0);
    assert_int_equal(count(machine, "lock"), 1); /* closed: the job's */
    assert_int_equal(rk_machine_history(machine), 0);
    assert_int_equal(rk_machine_members(machine).size, 0);
    assert_int_equal(rk_machine_time(machine), time);
    /* The fence counter goes on, also where the birth brings no higher floor. */
    struct rk_request birth = ask(RK_OP_BIRTH);
    birth.history = 4711;
    RK_SET(&birth, HISTORY);
    apply_to(machine, &birth, 0);
    struct rk_request acquire = ask_acquire("a", "new", RK_MODE_EXCLUSIVE, 0);
    apply_to(machine, &acquire, 0);
    acquire = ask_acquire("job", "new", RK_MODE_EXCLUSIVE, 0);
    apply_to(machine, &acquire, 0);
    struct rk_request info = ask_named(RK_OP_LOCK_INFO, "a", NULL, 0);
    struct rk_reply reply;
    assert_int_equal(rk_machine_query(machine, &info, time, &world->arena, &reply), RK_OK);
    assert_int_equal(reply.holder_count, 1);
    assert_text(reply.holders[0].owner, "new");
    info = ask_named(RK_OP_LOCK_INFO, "a", NULL, 0);
    struct rk_reply before = world_query(world, &info);
    assert_int_equal(before.holder_count, 2);
    /* A step above what the lost end of the old history may have given out. */
    assert_true(reply.holders[0].fence >= before.holders[1].fence + (1 << 20));
    info = ask_named(RK_OP_LOCK_INFO, "job", NULL, 0);
    assert_int_equal(rk_machine_query(machine, &info, time, &world->arena, &reply), RK_OK);
    assert_int_equal(reply.holder_count, 0);
    rk_machine_free(machine);
    world_close(world);
}

static void test_every_copy_retires_to_the_same(void **state)
{
    (void)state;
    struct world *world = lock_world();
    struct rk_machine *one = copy_of(world->machine);
    struct rk_machine *two = copy_of(world->twin);
    assert_int_equal(rk_machine_retire(one), RK_OK);
    assert_int_equal(rk_machine_retire(two), RK_OK);
    assert_int_equal(world_hash(one), world_hash(two));
    /* And it is a state like any other. */
    struct rk_machine *again = copy_of(one);
    assert_int_equal(world_hash(again), world_hash(one));
    rk_machine_free(one);
    rk_machine_free(two);
    rk_machine_free(again);
    world_close(world);
}

static void test_memory_may_run_out_anywhere(void **state)
{
    (void)state;
    struct world *world = lock_world();
    enum rk_status status = RK_ENOMEM;
    for (int64_t after = 0; status != RK_OK; after++) {
        struct rk_machine *machine = copy_of(world->machine);
        rk_alloc_fail(after, 0);
        status = rk_machine_retire(machine);
        rk_alloc_fail(-1, 0);
        assert_true(status == RK_OK || status == RK_ENOMEM);
        assert_true(after < 1000);
        rk_machine_free(machine);
    }
    world_close(world);
}

static void test_messages_in_flight_are_ready_uncounted(void **state)
{
    struct bench *bench = *state;
    enum { CONSUME = 5000, NACK = 5001 }; /* above all that is acknowledged on the way */
    id_text first, second, retried;
    for (int i = 0; i < 3; i++)
        q_put(bench, i == 0 ? "1" : i == 1 ? "2" : "3");
    q_take(bench, "t", "1", first);
    struct rk_request consume = q_consume_request("t", 1);
    const struct rk_reply *reply = bench_call_as(bench, &consume, CONSUME, 1);
    assert_true(is_text(reply->messages[0].message.bytes, "2"));
    q_keep(second, reply->messages[0].id);
    struct rk_slice id = text_slice(second);
    struct rk_request nack = {.op = RK_OP_QUEUE_NACK, .delay_ms = 60000};
    nack.ids.items = &id;
    nack.ids.count = 1;
    RK_SET(&nack, DELAY_MS);
    assert_int_equal(bench_call_as(bench, &nack, NACK, 1)->status, RK_OK);
    struct rk_machine *old = bench->machine;
    bench->machine = copy_in(old, 1);
    assert_int_equal(rk_machine_retire(bench->machine), RK_OK);
    struct rk_request birth = {.op = RK_OP_BIRTH, .history = 4711};
    RK_SET(&birth, HISTORY);
    apply_to(bench->machine, &birth, bench->now);
    bench->index = rk_machine_index(bench->machine);
    /* Ids of before are foreign. */
    assert_int_equal(q_ack(bench, first), RK_EGONE);
    assert_int_equal(q_extend(bench, first, 1000), RK_EGONE);
    /* The first is ready at once and not worn by the hand-out that ended; the second waits
     * for its delay as it did. */
    assert_int_equal(q_info(bench, "t")->ready, 2);
    assert_int_equal(q_info(bench, "t")->in_flight, 0);
    assert_int_equal(q_info(bench, "t")->delayed, 1);
    assert_int_equal(q_info(bench, "t")->delivered, 1);
    q_take(bench, "t", "1", retried);
    assert_string_not_equal(first, retried);
    /* A consume that is asked again hands out anew; a write keeps its answer. */
    reply = bench_call_as(bench, &consume, CONSUME, 1);
    assert_int_equal(reply->message_count, 1);
    assert_true(is_text(reply->messages[0].message.bytes, "3"));
    reply = bench_call_as(bench, &nack, NACK, 1);
    assert_int_equal(reply->status, RK_OK);
    assert_int_equal(reply->op, RK_OP_QUEUE_NACK);
    rk_machine_free(bench->machine);
    bench->machine = old;
}

static int bench_setup(void **state)
{
    *state = bench_new();
    return 0;
}

static int bench_teardown(void **state)
{
    bench_free(*state);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_clients_locks_and_sessions_go),
        cmocka_unit_test(test_every_copy_retires_to_the_same),
        cmocka_unit_test(test_memory_may_run_out_anywhere),
        cmocka_unit_test_setup_teardown(test_messages_in_flight_are_ready_uncounted,
                                        bench_setup, bench_teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
