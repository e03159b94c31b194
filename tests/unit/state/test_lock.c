#include "world.h"

static const struct rk_reply *acquire(struct world *world, const char *client,
                                      const char *resource, const char *owner,
                                      enum rk_mode mode)
{
    struct rk_request request = ask_acquire(resource, owner, mode, 0);
    return world_call(world, client, &request);
}

static uint64_t take(struct world *world, const char *resource, const char *owner,
                     enum rk_mode mode)
{
    const struct rk_reply *reply = acquire(world, owner, resource, owner, mode);
    assert_int_equal(reply->status, RK_OK);
    assert_true(reply->granted);
    return reply->fence;
}

static enum rk_status release(struct world *world, const char *resource, const char *owner,
                              uint64_t fence)
{
    struct rk_request request = ask_named(RK_OP_LOCK_RELEASE, resource, owner, fence);
    const struct rk_reply *reply = world_call(world, owner, &request);
    assert_int_equal(reply->released, reply->status == RK_OK);
    return reply->status;
}

static void wait_for(struct world *world, const char *resource, const char *owner,
                     enum rk_mode mode)
{
    struct rk_request request = ask_acquire(resource, owner, mode, 60000);
    assert_true(world_send(world, owner, 1, &request)->is_pending);
}

/* The answer to the wait that wait_for began; NULL: it waits still. */
static const struct rk_reply *answer_of(const struct world *world, const char *owner)
{
    const struct said *said = world_said(world, owner, 1, 0);
    assert_non_null(said);
    return said->is_pending ? NULL : &said->reply;
}

static bool is_held(struct world *world, const char *resource, const char *owner,
                    uint64_t fence)
{
    struct rk_request request = ask_named(RK_OP_LOCK_CHECK, resource, owner, fence);
    return world_query(world, &request).held;
}

static void test_exclusive_excludes(void **state)
{
    (void)state;
    struct world *world = world_open();
    world->seq = 100;
    uint64_t fence = take(world, "r", "alice", RK_MODE_EXCLUSIVE);
    const struct rk_reply *reply = acquire(world, "bob", "r", "bob", RK_MODE_EXCLUSIVE);
    assert_int_equal(reply->status, RK_EHELD);
    assert_int_equal(reply->holder_count, 1);
    assert_text(reply->holders[0].owner, "alice");
    assert_int_equal(reply->retry_after_ms, 30000);
    assert_int_equal(acquire(world, "bob", "r", "bob", RK_MODE_SHARED)->status, RK_EHELD);
    assert_int_equal(release(world, "r", "alice", fence), RK_OK);
    assert_true(take(world, "r", "bob", RK_MODE_EXCLUSIVE) > fence);
    world_close(world);
}

static void test_shared_shares(void **state)
{
    (void)state;
    struct world *world = world_open();
    uint64_t first = take(world, "r", "alice", RK_MODE_SHARED);
    uint64_t second = take(world, "r", "bob", RK_MODE_SHARED);
    assert_true(second > first);
    assert_int_equal(acquire(world, "x", "r", "carol", RK_MODE_EXCLUSIVE)->status,
                     RK_EHELD);
    assert_int_equal(release(world, "r", "alice", 0), RK_OK);
    assert_int_equal(acquire(world, "x", "r", "carol", RK_MODE_EXCLUSIVE)->status,
                     RK_EHELD);
    assert_int_equal(release(world, "r", "bob", 0), RK_OK);
    assert_int_equal(acquire(world, "x", "r", "carol", RK_MODE_EXCLUSIVE)->status, RK_OK);
    world_close(world);
}

static void test_fences_rise_over_everything(void **state)
{
    (void)state;
    struct world *world = world_open();
    uint64_t last = 0;
    for (int i = 0; i < 20; i++) {
        uint64_t fence = take(world, i % 3 ? "a" : "b", "alice", RK_MODE_EXCLUSIVE);
        assert_true(fence > last);
        last = fence;
        assert_int_equal(release(world, i % 3 ? "a" : "b", "alice", 0), RK_OK);
    }
    /* A birth raises the floor; one with a lower floor lowers nothing. */
    struct rk_request birth = ask(RK_OP_BIRTH);
    birth.history = 78;
    birth.fence_floor = UINT64_C(1) << 50;
    RK_SET(&birth, HISTORY);
    RK_SET(&birth, FENCE_FLOOR);
    world_send(world, NULL, 0, &birth);
    birth.fence_floor = 5;
    world_send(world, NULL, 0, &birth);
    assert_true(take(world, "a", "alice", RK_MODE_EXCLUSIVE) > UINT64_C(1) << 50);
    assert_int_equal(rk_machine_history(world->machine), 78);
    world_close(world);
}

static void test_birth_counts_seconds_since_2020(void **state)
{
    (void)state;
    struct world *world = world_open();
    world->now = UINT64_C(1577836800000) + 5000;
    struct rk_request birth = ask(RK_OP_BIRTH);
    birth.history = 80;
    RK_SET(&birth, HISTORY);
    world_send(world, NULL, 0, &birth);
    assert_int_equal(take(world, "a", "alice", RK_MODE_EXCLUSIVE), (5 << 20) + 1);
    world_close(world);
}

static void test_repeat_renews_and_keeps_fence(void **state)
{
    (void)state;
    struct world *world = world_open();
    uint64_t fence = take(world, "r", "alice", RK_MODE_EXCLUSIVE);
    assert_int_equal(world_pass(world, 20000), 0);
    assert_int_equal(take(world, "r", "alice", RK_MODE_EXCLUSIVE), fence);
    assert_int_equal(world_pass(world, 20000), 0);
    /* What it holds exclusively it holds shared too. */
    assert_int_equal(take(world, "r", "alice", RK_MODE_SHARED), fence);
    assert_int_equal(release(world, "r", "alice", fence), RK_OK);
    assert_false(is_held(world, "r", "alice", 0));
    world_close(world);
}

static void test_reentrant_counts(void **state)
{
    (void)state;
    struct world *world = world_open();
    struct rk_request request = ask_acquire("r", "alice", RK_MODE_EXCLUSIVE, 0);
    request.reentrant = true;
    RK_SET(&request, REENTRANT);
    struct rk_request again = request;
    uint64_t fence = world_call(world, "alice", &request)->fence;
    assert_int_equal(world_call(world, "alice", &again)->fence, fence);
    assert_int_equal(release(world, "r", "alice", 0), RK_OK);
    assert_true(is_held(world, "r", "alice", fence));
    assert_int_equal(release(world, "r", "alice", 0), RK_OK);
    assert_false(is_held(world, "r", "alice", fence));
    assert_int_equal(release(world, "r", "alice", 0), RK_ENOTOWNER);
    world_close(world);
}

static void test_release_needs_owner_and_fence(void **state)
{
    (void)state;
    struct world *world = world_open();
    assert_int_equal(release(world, "r", "alice", 0), RK_ENOTOWNER);
    uint64_t fence = take(world, "r", "alice", RK_MODE_EXCLUSIVE);
    assert_int_equal(release(world, "r", "bob", 0), RK_ENOTOWNER);
    assert_int_equal(release(world, "r", "alice", fence + 1), RK_ENOTOWNER);
    assert_true(is_held(world, "r", "alice", fence));
    assert_false(is_held(world, "r", "alice", fence + 1));
    assert_int_equal(release(world, "r", "alice", fence), RK_OK);
    world_close(world);
}

static void test_loss_is_told_and_successor_untouched(void **state)
{
    (void)state;
    struct world *world = world_open();
    uint64_t fence = take(world, "r", "alice", RK_MODE_EXCLUSIVE);
    wait_for(world, "r", "bob", RK_MODE_EXCLUSIVE);
    assert_int_equal(world_pass(world, 29999), 0);
    assert_null(answer_of(world, "bob"));
    assert_int_equal(world_pass(world, 1), 1);
    assert_int_equal(world->ear.heard_count, 1);
    assert_int_equal(world->ear.heard[0].kind, RK_EVENT_LOCK_LOST);
    assert_string_equal(world->ear.heard[0].owner, "alice");
    assert_string_equal(world->ear.heard[0].resource, "r");
    assert_int_equal(world->ear.heard[0].fence, fence);
    assert_true(answer_of(world, "bob")->granted);
    assert_int_equal(release(world, "r", "alice", fence), RK_ENOTOWNER);
    assert_int_equal(release(world, "r", "alice", 0), RK_ENOTOWNER);
    assert_true(is_held(world, "r", "bob", answer_of(world, "bob")->fence));
    world_close(world);
}

static void test_renew_moves_the_lease(void **state)
{
    (void)state;
    struct world *world = world_open();
    uint64_t fence = take(world, "r", "alice", RK_MODE_EXCLUSIVE);
    for (int i = 0; i < 5; i++) {
        assert_int_equal(world_pass(world, 25000), 0);
        struct rk_request renew = ask_named(RK_OP_LOCK_RENEW, "r", "alice", fence);
        const struct rk_reply *reply = world_call(world, "alice", &renew);
        assert_true(reply->renewed);
        assert_int_equal(reply->lease_ms, 30000);
    }
    struct rk_request longer = ask_named(RK_OP_LOCK_RENEW, "r", "alice", fence);
    longer.lease_ms = 90000;
    RK_SET(&longer, LEASE_MS);
    assert_int_equal(world_call(world, "alice", &longer)->lease_ms, 90000);
    assert_int_equal(world_pass(world, 89999), 0);
    assert_int_equal(world_pass(world, 1), 1);
    struct rk_request late = ask_named(RK_OP_LOCK_RENEW, "r", "alice", fence);
    const struct rk_reply *reply = world_call(world, "alice", &late);
    assert_int_equal(reply->status, RK_ENOTOWNER);
    assert_false(reply->renewed);
    world_close(world);
}

static void test_renew_committed_before_expiry_wins(void **state)
{
    (void)state;
    struct world *world = world_open();
    uint64_t fence = take(world, "r", "alice", RK_MODE_EXCLUSIVE);
    world->now += 30000;
    struct rk_buf due;
    rk_buf_init(&due);
    assert_int_equal(rk_machine_due(world->machine, world->now, 16, &due), 1);
    struct rk_request renew = ask_named(RK_OP_LOCK_RENEW, "r", "alice", fence);
    assert_true(world_call(world, "alice", &renew)->renewed);
    struct rk_command command = {.stamp_ms = world->now, .request = rk_buf_slice(&due)};
    struct rk_buf bytes;
    rk_buf_init(&bytes);
    rk_command_encode(&bytes, &command);
    assert_int_equal(world_apply(world, rk_buf_slice(&bytes)), RK_OK);
    assert_true(is_held(world, "r", "alice", fence));
    assert_int_equal(world->ear.heard_count, 0);
    assert_int_equal(world_pass(world, 29999), 0);
    rk_buf_fini(&bytes);
    rk_buf_fini(&due);
    world_close(world);
}

static void test_waiters_first_come_first_served(void **state)
{
    (void)state;
    struct world *world = world_open();
    world->seq = 100;
    take(world, "r", "alice", RK_MODE_EXCLUSIVE);
    wait_for(world, "r", "s1", RK_MODE_SHARED);
    wait_for(world, "r", "s2", RK_MODE_SHARED);
    wait_for(world, "r", "x1", RK_MODE_EXCLUSIVE);
    wait_for(world, "r", "s3", RK_MODE_SHARED);
    assert_int_equal(release(world, "r", "alice", 0), RK_OK);
    assert_true(answer_of(world, "s1")->granted); /* the compatible prefix, together */
    assert_true(answer_of(world, "s2")->granted);
    assert_null(answer_of(world, "x1"));
    assert_null(answer_of(world, "s3"));
    /* No reader overtakes the waiting writer. */
    assert_int_equal(acquire(world, "s4", "r", "s4", RK_MODE_SHARED)->status, RK_EHELD);
    assert_int_equal(release(world, "r", "s1", 0), RK_OK);
    assert_null(answer_of(world, "x1"));
    assert_int_equal(release(world, "r", "s2", 0), RK_OK);
    assert_true(answer_of(world, "x1")->granted);
    assert_null(answer_of(world, "s3"));
    assert_int_equal(release(world, "r", "x1", 0), RK_OK);
    assert_true(answer_of(world, "s3")->fence > answer_of(world, "x1")->fence);
    world_close(world);
}

static void test_reader_reentry_passes_the_writer(void **state)
{
    (void)state;
    struct world *world = world_open();
    world->seq = 100;
    uint64_t fence = take(world, "r", "alice", RK_MODE_SHARED);
    wait_for(world, "r", "bob", RK_MODE_EXCLUSIVE);
    assert_int_equal(take(world, "r", "alice", RK_MODE_SHARED), fence);
    assert_null(answer_of(world, "bob"));
    world_close(world);
}

static void test_wait_times_out(void **state)
{
    (void)state;
    struct world *world = world_open();
    world->seq = 100;
    take(world, "r", "alice", RK_MODE_EXCLUSIVE);
    struct rk_request request = ask_acquire("r", "bob", RK_MODE_EXCLUSIVE, 5000);
    assert_true(world_send(world, "bob", 1, &request)->is_pending);
    wait_for(world, "r", "carol", RK_MODE_EXCLUSIVE);
    assert_int_equal(world_pass(world, 5000), 1);
    const struct rk_reply *reply = answer_of(world, "bob");
    assert_int_equal(reply->status, RK_ETIMEOUT);
    assert_text(reply->holders[0].owner, "alice");
    assert_int_equal(release(world, "r", "alice", 0), RK_OK);
    assert_true(answer_of(world, "carol")->granted); /* not the one that gave up */
    world_close(world);
}

static void test_timed_out_writer_lets_readers_in(void **state)
{
    (void)state;
    struct world *world = world_open();
    world->seq = 100;
    take(world, "r", "alice", RK_MODE_SHARED);
    struct rk_request request = ask_acquire("r", "bob", RK_MODE_EXCLUSIVE, 5000);
    assert_true(world_send(world, "bob", 1, &request)->is_pending);
    wait_for(world, "r", "carol", RK_MODE_SHARED);
    assert_int_equal(world_pass(world, 5000), 1);
    assert_true(answer_of(world, "carol")->granted);
    world_close(world);
}

static void test_break_takes_it_away(void **state)
{
    (void)state;
    struct world *world = world_open();
    world->seq = 100;
    uint64_t first = take(world, "r", "alice", RK_MODE_SHARED);
    uint64_t second = take(world, "r", "bob", RK_MODE_SHARED);
    wait_for(world, "r", "carol", RK_MODE_EXCLUSIVE);
    struct rk_request request = ask_named(RK_OP_LOCK_BREAK, "r", NULL, first);
    assert_true(world_call(world, "admin", &request)->released);
    assert_int_equal(world->ear.heard_count, 1);
    assert_string_equal(world->ear.heard[0].owner, "alice");
    assert_true(is_held(world, "r", "bob", second));
    request = ask_named(RK_OP_LOCK_BREAK, "r", NULL, 0);
    const struct rk_reply *reply = world_call(world, "admin", &request);
    assert_true(reply->released);
    assert_true(reply->fence > second);
    assert_int_equal(release(world, "r", "alice", 0), RK_ENOTOWNER);
    assert_int_equal(release(world, "r", "bob", second), RK_ENOTOWNER);
    assert_true(answer_of(world, "carol")->granted);
    request = ask_named(RK_OP_LOCK_BREAK, "unknown", NULL, 0);
    assert_false(world_call(world, "admin", &request)->released);
    world_close(world);
}

static void test_info_and_list(void **state)
{
    (void)state;
    struct world *world = world_open();
    world->seq = 100;
    uint64_t fence = take(world, "b/1", "alice", RK_MODE_EXCLUSIVE);
    take(world, "a", "alice", RK_MODE_SHARED);
    take(world, "b/2", "alice", RK_MODE_SHARED);
    wait_for(world, "b/1", "bob", RK_MODE_SHARED);
    world->now += 700;
    struct rk_request request = ask_named(RK_OP_LOCK_INFO, "b/1", NULL, 0);
    struct rk_reply reply = world_query(world, &request);
    assert_text(reply.resource, "b/1");
    assert_int_equal(reply.holder_count, 1);
    assert_text(reply.holders[0].owner, "alice");
    assert_int_equal(reply.holders[0].fence, fence);
    assert_int_equal(reply.holders[0].lease_left_ms, 29300);
    assert_int_equal(reply.waiter_count, 1);
    assert_text(reply.waiters[0].owner, "bob");
    assert_int_equal(reply.waiters[0].waited_ms, 700);
    assert_int_equal(reply.waiters[0].mode, RK_MODE_SHARED);
    request = ask(RK_OP_LOCK_LIST);
    request.prefix = text("b/");
    request.limit = 1;
    RK_SET(&request, LIMIT);
    reply = world_query(world, &request);
    assert_int_equal(reply.listed_count, 1);
    assert_text(reply.listed[0].name, "b/1");
    assert_int_equal(reply.listed[0].waiter_count, 1);
    assert_text(reply.after, "b/1");
    request.after = reply.after;
    reply = world_query(world, &request);
    assert_text(reply.listed[0].name, "b/2");
    assert_int_equal(reply.after.size, 0);
    world_close(world);
}

static void test_unused_locks_leave_nothing(void **state)
{
    (void)state;
    struct world *world = world_open();
    for (int i = 0; i < 50; i++) {
        take(world, "r", "alice", RK_MODE_EXCLUSIVE);
        assert_int_equal(release(world, "r", "alice", 0), RK_OK);
        world->first = world->seq + 1;
    }
    /* The client and its last two answers. */
    assert_int_equal(rk_machine_object_count(world->machine), 3);
    world_close(world);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_exclusive_excludes),
        cmocka_unit_test(test_shared_shares),
        cmocka_unit_test(test_fences_rise_over_everything),
        cmocka_unit_test(test_birth_counts_seconds_since_2020),
        cmocka_unit_test(test_repeat_renews_and_keeps_fence),
        cmocka_unit_test(test_reentrant_counts),
        cmocka_unit_test(test_release_needs_owner_and_fence),
        cmocka_unit_test(test_loss_is_told_and_successor_untouched),
        cmocka_unit_test(test_renew_moves_the_lease),
        cmocka_unit_test(test_renew_committed_before_expiry_wins),
        cmocka_unit_test(test_waiters_first_come_first_served),
        cmocka_unit_test(test_reader_reentry_passes_the_writer),
        cmocka_unit_test(test_wait_times_out),
        cmocka_unit_test(test_timed_out_writer_lets_readers_in),
        cmocka_unit_test(test_break_takes_it_away),
        cmocka_unit_test(test_info_and_list),
        cmocka_unit_test(test_unused_locks_leave_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
