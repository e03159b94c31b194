#include "world.h"

static struct rk_request acquire(const char *resource, const char *owner, uint64_t wait_ms)
{
    return ask_acquire(resource, owner, RK_MODE_EXCLUSIVE, wait_ms);
}

static const struct rk_reply *send(struct world *world, const char *client, uint64_t seq,
                                   struct rk_request request)
{
    const struct said *said = world_send(world, client, seq, &request);
    assert_false(said->is_pending);
    return &said->reply;
}

static uint64_t wait_of(struct world *world, const char *client, uint64_t seq,
                        struct rk_request request)
{
    const struct said *said = world_send(world, client, seq, &request);
    assert_true(said->is_pending);
    return said->home;
}

static bool is_held(struct world *world, const char *resource, const char *owner)
{
    struct rk_request request = ask_named(RK_OP_LOCK_CHECK, resource, owner, 0);
    return world_query(world, &request).held;
}

static void test_same_request_same_answer(void **state)
{
    (void)state;
    struct world *world = world_open();
    uint64_t fence = send(world, "c", 1, acquire("r", "a", 0))->fence;
    assert_int_equal(send(world, "c", 1, acquire("r", "a", 0))->fence, fence);
    /* Also a refusal, and after what it was about is over. */
    assert_int_equal(send(world, "d", 1, acquire("r", "b", 0))->status, RK_EHELD);
    assert_true(
        send(world, "c", 2, ask_named(RK_OP_LOCK_RELEASE, "r", "a", fence))->released);
    const struct rk_reply *reply = send(world, "d", 1, acquire("r", "b", 0));
    assert_int_equal(reply->status, RK_EHELD);
    assert_text(reply->holders[0].owner, "a");
    assert_true(
        send(world, "c", 2, ask_named(RK_OP_LOCK_RELEASE, "r", "a", fence))->released);
    assert_int_equal(send(world, "c", 1, acquire("r", "a", 0))->fence, fence);
    assert_false(is_held(world, "r", "a")); /* a repeat does nothing */
    world_close(world);
}

static void test_reentrant_repeat_counts_once(void **state)
{
    (void)state;
    struct world *world = world_open();
    struct rk_request request = acquire("r", "a", 0);
    request.reentrant = true;
    for (int i = 0; i < 3; i++)
        assert_true(send(world, "c", 1, request)->granted);
    assert_true(send(world, "c", 2, ask_named(RK_OP_LOCK_RELEASE, "r", "a", 0))->released);
    assert_false(is_held(world, "r", "a"));
    world_close(world);
}

static void test_clients_do_not_share_numbers(void **state)
{
    (void)state;
    struct world *world = world_open();
    assert_true(send(world, "c", 1, acquire("r", "a", 0))->granted);
    assert_int_equal(send(world, "d", 1, acquire("r", "b", 0))->status, RK_EHELD);
    world_close(world);
}

static void test_acknowledged_is_forgotten_and_refused(void **state)
{
    (void)state;
    struct world *world = world_open();
    for (uint64_t seq = 1; seq <= 10; seq++)
        assert_true(send(world, "c", seq, acquire("r", "a", 0))->granted);
    uint64_t before = rk_machine_object_count(world->machine);
    world->first = 9;
    assert_true(send(world, "c", 11, acquire("r", "a", 0))->granted);
    assert_int_equal(rk_machine_object_count(world->machine), before - 8 + 1);
    world->first = 1; /* it does not go back */
    assert_int_equal(send(world, "c", 8, acquire("r", "a", 0))->status, RK_EGONE);
    assert_true(send(world, "c", 9, acquire("r", "a", 0))->granted);
    world->first = 20;
    assert_int_equal(send(world, "d", 1, acquire("q", "a", 0))->status, RK_EINVAL);
    assert_false(is_held(world, "q", "a"));
    world_close(world);
}

static void test_wait_is_reattached_and_keeps_its_place(void **state)
{
    (void)state;
    struct world *world = world_open();
    send(world, "a", 1, acquire("r", "a", 0));
    assert_int_equal(wait_of(world, "b", 1, acquire("r", "b", 60000)), 1);
    wait_of(world, "c", 1, acquire("r", "c", 60000));
    world->home = 3;
    assert_int_equal(wait_of(world, "b", 1, acquire("r", "b", 60000)), 3);
    send(world, "a", 2, ask_named(RK_OP_LOCK_RELEASE, "r", "a", 0));
    assert_true(world_said(world, "b", 1, 0)->reply.granted);
    assert_true(world_said(world, "c", 1, 0)->is_pending);
    uint64_t fence = world_said(world, "b", 1, 0)->reply.fence;
    assert_int_equal(send(world, "b", 1, acquire("r", "b", 60000))->fence, fence);
    world_close(world);
}

static void count_wait(void *context, struct rk_slice client, uint64_t seq, uint64_t home)
{
    (void)client;
    (void)seq;
    *(uint64_t *)context += home;
}

static void test_waits_each_tells_homes(void **state)
{
    (void)state;
    struct world *world = world_open();
    send(world, "a", 1, acquire("r", "a", 0));
    world->home = 5;
    wait_of(world, "b", 1, acquire("r", "b", 60000));
    world->home = 7;
    wait_of(world, "c", 1, acquire("r", "c", 60000));
    uint64_t sum = 0;
    rk_machine_waits_each(world->twin, count_wait, &sum);
    assert_int_equal(sum, 12);
    world_close(world);
}

static void test_cancel_of_a_wait(void **state)
{
    (void)state;
    struct world *world = world_open();
    send(world, "a", 1, acquire("r", "a", 0));
    wait_of(world, "b", 1, acquire("r", "b", 60000));
    wait_of(world, "c", 1, acquire("r", "c", 60000));
    const struct rk_reply *reply = send(world, "b", 2, ask_cancel("b", 1));
    assert_true(reply->cancelled);
    assert_false(reply->granted);
    assert_int_equal(world_said(world, "b", 1, 0)->reply.status, RK_ECANCELLED);
    send(world, "a", 2, ask_named(RK_OP_LOCK_RELEASE, "r", "a", 0));
    assert_true(world_said(world, "c", 1, 0)->reply.granted);
    assert_int_equal(send(world, "b", 1, acquire("r", "b", 60000))->status, RK_ECANCELLED);
    assert_true(send(world, "b", 3, ask_cancel("b", 1))->cancelled);
    world_close(world);
}

static void test_cancel_of_a_granted_one_tells_the_fence(void **state)
{
    (void)state;
    struct world *world = world_open();
    uint64_t fence = send(world, "a", 1, acquire("r", "a", 0))->fence;
    const struct rk_reply *reply = send(world, "a", 2, ask_cancel("a", 1));
    assert_false(reply->cancelled);
    assert_true(reply->granted);
    assert_int_equal(reply->fence, fence);
    assert_true(is_held(world, "r", "a"));
    send(world, "b", 1, acquire("r", "b", 0));
    reply = send(world, "b", 2, ask_cancel("b", 1)); /* answered: held */
    assert_false(reply->cancelled);
    assert_false(reply->granted);
    world_close(world);
}

static void test_cancel_before_the_request_leaves_no_ghost(void **state)
{
    (void)state;
    struct world *world = world_open();
    /* By the node that lost the connection, without an id of its own. */
    struct rk_request cancel = ask_cancel("late", 7);
    cancel.op = RK_OP_CALL_CANCEL;
    world_send(world, NULL, 0, &cancel);
    const struct rk_reply *reply = send(world, "late", 7, acquire("r", "late", 60000));
    assert_int_equal(reply->status, RK_ECANCELLED);
    assert_int_equal(reply->outcome, RK_OUTCOME_NOT_DONE);
    assert_false(is_held(world, "r", "late"));
    assert_true(send(world, "late", 8, acquire("r", "late", 60000))->granted);
    assert_int_equal(send(world, "late", 9, ask_cancel("late", 9))->status, RK_EINVAL);
    world->first = 8;
    assert_true(send(world, "late", 10, acquire("r", "late", 0))->granted);
    assert_int_equal(send(world, "late", 11, ask_cancel("late", 7))->status, RK_EGONE);
    world_close(world);
}

static void test_acknowledging_a_wait_gives_it_up(void **state)
{
    (void)state;
    struct world *world = world_open();
    send(world, "a", 1, acquire("r", "a", 0));
    wait_of(world, "b", 1, acquire("r", "b", 60000));
    world->first = 2;
    send(world, "b", 2, acquire("other", "b", 0));
    world->first = 1;
    send(world, "a", 2, ask_named(RK_OP_LOCK_RELEASE, "r", "a", 0));
    assert_false(is_held(world, "r", "b"));
    world_close(world);
}

static void test_a_late_request_is_dropped(void **state)
{
    (void)state;
    struct world *world = world_open();
    world->deadline_ms = world->now + 100;
    assert_true(send(world, "c", 1, acquire("a", "c", 0))->granted);
    world->now += 101;
    const struct rk_reply *reply = send(world, "c", 2, acquire("b", "c", 0));
    assert_int_equal(reply->status, RK_ECANCELLED);
    assert_int_equal(reply->outcome, RK_OUTCOME_NOT_DONE);
    assert_false(is_held(world, "b", "c"));
    assert_true(
        send(world, "c", 1, acquire("a", "c", 0))->granted); /* its answer is there */
    uint64_t before = rk_machine_object_count(world->machine);
    send(world, "stranger", 1, acquire("b", "c", 0));
    assert_int_equal(rk_machine_object_count(world->machine), before);
    world_close(world);
}

static void test_answers_of_a_client_are_bounded(void **state)
{
    (void)state;
    struct world *world = world_open();
    world->restore_each = 2000;
    struct rk_request request = ask_named(RK_OP_LOCK_RELEASE, "r", "a", 0);
    world->ear.said_count = world->twin_ear.said_count = 0;
    for (uint64_t seq = 1; seq <= RK_CLIENT_REPLIES_MAX; seq++) {
        assert_int_equal(send(world, "c", seq, request)->status, RK_ENOTOWNER);
        world->ear.said_count = world->twin_ear.said_count = 0;
    }
    assert_int_equal(send(world, "c", 5000, request)->status, RK_EBUSY);
    assert_int_equal(send(world, "c", 1, request)->status, RK_ENOTOWNER);
    world->first = 100;
    assert_int_equal(send(world, "c", 5000, request)->status, RK_ENOTOWNER);
    world_close(world);
}

static void last_status(void *context, struct rk_slice client, uint64_t seq,
                        const struct rk_reply *reply)
{
    (void)client;
    (void)seq;
    *(enum rk_status *)context = reply->status;
}

static void test_clients_are_bounded_and_none_is_forgotten(void **state)
{
    (void)state;
    struct rk_machine_options options = {.struct_size = sizeof(options)};
    struct rk_machine *machine = NULL;
    assert_int_equal(rk_machine_new(&machine, &options), RK_OK);
    struct rk_request request = ask_named(RK_OP_LOCK_RELEASE, "r", "a", 0);
    struct rk_buf inner, outer;
    rk_buf_init(&inner);
    rk_buf_init(&outer);
    rk_request_encode(&inner, &request);
    enum rk_status status = RK_OK;
    struct rk_machine_output output = {&status, last_status, NULL, NULL};
    for (uint64_t i = 1; i <= RK_CLIENTS_MAX + 2; i++) {
        uint8_t name[8];
        rk_put_u64(name,
                   i <= RK_CLIENTS_MAX + 1 ? i : 1); /* one too many, then the first */
        struct rk_command command = {.client = rk_slice_of(name, sizeof(name)),
                                     .seq = i <= RK_CLIENTS_MAX + 1 ? 1 : 2,
                                     .stamp_ms = START_MS,
                                     .request = rk_buf_slice(&inner)};
        rk_buf_reset(&outer);
        rk_command_encode(&outer, &command);
        assert_int_equal(rk_machine_apply(machine, i, rk_buf_slice(&outer), &output),
                         RK_OK);
        assert_int_equal(status, i == RK_CLIENTS_MAX + 1 ? RK_EBUSY : RK_ENOTOWNER);
    }
    rk_buf_fini(&inner);
    rk_buf_fini(&outer);
    rk_machine_free(machine);
}

static void test_an_idle_client_is_forgotten(void **state)
{
    (void)state;
    struct world *world = world_open();
    struct rk_request request = ask_named(RK_OP_LOCK_RELEASE, "r", "a", 0);
    send(world, "c", 1, request);
    send(world, "busy", 1, request);
    assert_int_equal(rk_machine_object_count(world->machine), 4);
    assert_int_equal(world_pass(world, RK_CLIENT_IDLE_MS - 1000), 0);
    send(world, "busy", 2, request);
    assert_int_equal(world_pass(world, 1000), 2); /* looked at; one was active */
    assert_int_equal(rk_machine_object_count(world->machine), 3);
    assert_int_equal(world_pass(world, RK_CLIENT_IDLE_MS - 1001), 0);
    assert_int_equal(world_pass(world, 1), 1);
    assert_int_equal(rk_machine_object_count(world->machine), 0);
    world_close(world);
}

static void test_seq_zero_is_refused(void **state)
{
    (void)state;
    struct world *world = world_open();
    struct rk_request request = ask_named(RK_OP_LOCK_RELEASE, "r", "a", 0);
    struct rk_buf inner, outer;
    rk_buf_init(&inner);
    rk_buf_init(&outer);
    rk_request_encode(&inner, &request);
    struct rk_command command = {
        .client = text("c"), .stamp_ms = world->now, .request = rk_buf_slice(&inner)};
    rk_command_encode(&outer, &command);
    assert_int_equal(world_apply(world, rk_buf_slice(&outer)), RK_OK);
    assert_int_equal(world_said(world, "c", 0, 0)->reply.status, RK_EINVAL);
    rk_buf_fini(&inner);
    rk_buf_fini(&outer);
    world_close(world);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_same_request_same_answer),
        cmocka_unit_test(test_reentrant_repeat_counts_once),
        cmocka_unit_test(test_clients_do_not_share_numbers),
        cmocka_unit_test(test_acknowledged_is_forgotten_and_refused),
        cmocka_unit_test(test_wait_is_reattached_and_keeps_its_place),
        cmocka_unit_test(test_waits_each_tells_homes),
        cmocka_unit_test(test_cancel_of_a_wait),
        cmocka_unit_test(test_cancel_of_a_granted_one_tells_the_fence),
        cmocka_unit_test(test_cancel_before_the_request_leaves_no_ghost),
        cmocka_unit_test(test_acknowledging_a_wait_gives_it_up),
        cmocka_unit_test(test_a_late_request_is_dropped),
        cmocka_unit_test(test_answers_of_a_client_are_bounded),
        cmocka_unit_test(test_clients_are_bounded_and_none_is_forgotten),
        cmocka_unit_test(test_an_idle_client_is_forgotten),
        cmocka_unit_test(test_seq_zero_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
