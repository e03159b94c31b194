#include "world.h"

struct hold {
    const char *owner;
    uint64_t lease_ms, min_hold_ms, max_hold_ms, lock_delay_ms, wait_ms;
};

static const struct said *take(struct world *world, struct hold hold)
{
    struct rk_request request =
        ask_acquire("r", hold.owner, RK_MODE_EXCLUSIVE, hold.wait_ms);
    request.lease_ms = hold.lease_ms;
    request.min_hold_ms = hold.min_hold_ms;
    request.max_hold_ms = hold.max_hold_ms;
    request.lock_delay_ms = hold.lock_delay_ms;
    return world_send(world, hold.owner, 0, &request);
}

static const struct rk_reply *release(struct world *world, const char *owner)
{
    struct rk_request request = ask_named(RK_OP_LOCK_RELEASE, "r", owner, 0);
    return world_call(world, owner, &request);
}

static const struct rk_reply *renew(struct world *world, const char *owner)
{
    struct rk_request request = ask_named(RK_OP_LOCK_RENEW, "r", owner, 0);
    return world_call(world, owner, &request);
}

static void test_min_hold_keeps_it_closed(void **state)
{
    (void)state;
    struct world *world = world_open();
    take(world, (struct hold){.owner = "a", .min_hold_ms = 60000});
    const struct said *b = take(world, (struct hold){.owner = "b", .wait_ms = 90000});
    uint64_t b_seq = b->seq;
    world->now += 10000;
    assert_true(release(world, "a")->released);
    assert_int_equal(release(world, "a")->status, RK_ENOTOWNER);
    assert_true(world_said(world, "b", b_seq, 0)->is_pending);
    const struct rk_reply *reply = &take(world, (struct hold){.owner = "c"})->reply;
    assert_int_equal(reply->status, RK_EHELD);
    assert_int_equal(reply->holder_count, 0);
    assert_int_equal(reply->retry_after_ms, 50000);
    assert_int_equal(world_pass(world, 49999), 0);
    assert_int_equal(world_pass(world, 1), 1);
    assert_true(world_said(world, "b", b_seq, 0)->reply.granted);
    world_close(world);
}

static void test_min_hold_over_releases_at_once(void **state)
{
    (void)state;
    struct world *world = world_open();
    take(world, (struct hold){.owner = "a", .min_hold_ms = 5000});
    world->now += 5000;
    assert_true(release(world, "a")->released);
    assert_true(take(world, (struct hold){.owner = "b"})->reply.granted);
    world_close(world);
}

static void test_a_closed_lock_goes_when_it_opens(void **state)
{
    (void)state;
    struct world *world = world_open();
    take(world, (struct hold){.owner = "a", .min_hold_ms = 5000});
    assert_true(release(world, "a")->released);
    struct rk_request list = ask(RK_OP_LOCK_LIST);
    assert_int_equal(world_query(world, &list).listed_count, 1);
    assert_int_equal(world_pass(world, 5000), 1);
    assert_int_equal(world_query(world, &list).listed_count, 0);
    world_close(world);
}

static void test_max_hold_ends_it_despite_renewals(void **state)
{
    (void)state;
    struct world *world = world_open();
    const struct rk_reply *reply =
        &take(world, (struct hold){.owner = "a", .max_hold_ms = 50000})->reply;
    assert_int_equal(reply->lease_ms, 30000);
    assert_int_equal(world_pass(world, 25000), 0);
    assert_int_equal(renew(world, "a")->lease_ms, 25000); /* not beyond the end */
    assert_int_equal(world_pass(world, 20000), 0);
    assert_int_equal(renew(world, "a")->lease_ms, 5000);
    assert_int_equal(world_pass(world, 5000), 1);
    assert_int_equal(renew(world, "a")->status, RK_ENOTOWNER);
    assert_int_equal(world->ear.heard[0].kind, RK_EVENT_LOCK_LOST);
    world_close(world);
}

static void test_max_hold_in_a_session(void **state)
{
    (void)state;
    struct world *world = world_open();
    const char *session = world_session(world, "a", 3600000);
    struct rk_request request = ask_acquire("r", "a", RK_MODE_EXCLUSIVE, 0);
    request.session = text(session);
    request.max_hold_ms = 20000;
    assert_true(world_call(world, "a", &request)->granted);
    assert_int_equal(world_pass(world, 19999), 0);
    assert_int_equal(world_pass(world, 1), 1);
    assert_int_equal(renew(world, "a")->status, RK_ENOTOWNER);
    world_close(world);
}

static void test_lock_delay_after_a_loss_only(void **state)
{
    (void)state;
    struct world *world = world_open();
    take(world, (struct hold){.owner = "a", .lease_ms = 1000, .lock_delay_ms = 15000});
    assert_true(release(world, "a")->released);
    take(world, (struct hold){.owner = "b", .lease_ms = 1000, .lock_delay_ms = 15000});
    assert_int_equal(world_pass(world, 1000), 1);
    assert_int_equal(take(world, (struct hold){.owner = "c"})->reply.status, RK_EHELD);
    uint64_t seq = take(world, (struct hold){.owner = "c", .wait_ms = 60000})->seq;
    assert_true(world_said(world, "c", seq, 0)->is_pending);
    assert_int_equal(world_pass(world, 14999), 0);
    assert_int_equal(world_pass(world, 1), 1);
    assert_true(world_said(world, "c", seq, 0)->reply.granted);
    world_close(world);
}

static void test_lock_delay_after_break(void **state)
{
    (void)state;
    struct world *world = world_open();
    take(world, (struct hold){.owner = "a", .lock_delay_ms = 15000});
    struct rk_request request = ask_named(RK_OP_LOCK_BREAK, "r", NULL, 0);
    assert_true(world_call(world, "admin", &request)->released);
    assert_int_equal(take(world, (struct hold){.owner = "c"})->reply.status, RK_EHELD);
    assert_int_equal(world_pass(world, 15000), 1);
    assert_true(take(world, (struct hold){.owner = "c"})->reply.granted);
    world_close(world);
}

static void test_a_new_leader_gives_the_full_lease_again(void **state)
{
    (void)state;
    struct world *world = world_open();
    take(world, (struct hold){.owner = "a", .lease_ms = 30000});
    assert_int_equal(world_pass(world, 25000), 0);
    /* The other machine leads now; what it knew as a follower does not count. */
    struct rk_machine *old = world->machine;
    struct ear old_ear = world->ear;
    world->machine = world->twin;
    world->ear = world->twin_ear;
    world->twin = old;
    world->twin_ear = old_ear;
    rk_machine_lead(world->machine, world->now);
    assert_true(rk_machine_next_due(world->machine) >= world->now);
    assert_int_equal(world_pass(world, 29999), 0);
    assert_int_equal(world_pass(world, 1), 1);
    world_close(world);
}

static void test_what_is_not_offered_is_named(void **state)
{
    (void)state;
    struct world *world = world_open();
    struct rk_resource_in items[] = {{text("a"), 0}, {text("b"), 0}};
    struct rk_request request = ask(RK_OP_LOCK_ACQUIRE);
    request.resources = items;
    request.resource_count = 2;
    request.is_bulk = true;
    request.owner = text("x");
    request.limit = 2;
    RK_SET(&request, RESOURCES);
    RK_SET(&request, LIMIT);
    const struct rk_reply *reply = world_call(world, "x", &request);
    assert_int_equal(reply->status, RK_EUNSUPPORTED);
    assert_text(reply->field, "limit");
    request = ask_acquire("a", "x", RK_MODE_SHARED, 0);
    request.limit = 2;
    RK_SET(&request, LIMIT);
    reply = world_call(world, "x", &request);
    assert_int_equal(reply->status, RK_EINVAL);
    assert_text(reply->field, "mode");
    struct rk_request list = ask(RK_OP_LOCK_LIST);
    assert_int_equal(world_query(world, &list).listed_count, 0);
    world_close(world);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_min_hold_keeps_it_closed),
        cmocka_unit_test(test_min_hold_over_releases_at_once),
        cmocka_unit_test(test_a_closed_lock_goes_when_it_opens),
        cmocka_unit_test(test_max_hold_ends_it_despite_renewals),
        cmocka_unit_test(test_max_hold_in_a_session),
        cmocka_unit_test(test_lock_delay_after_a_loss_only),
        cmocka_unit_test(test_lock_delay_after_break),
        cmocka_unit_test(test_a_new_leader_gives_the_full_lease_again),
        cmocka_unit_test(test_what_is_not_offered_is_named),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
