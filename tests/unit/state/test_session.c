#include "world.h"

static struct rk_request in_session(const char *resource, const char *owner,
                                    const char *session, uint64_t wait_ms)
{
    struct rk_request request = ask_acquire(resource, owner, RK_MODE_EXCLUSIVE, wait_ms);
    request.session = text(session);
    RK_SET(&request, SESSION);
    return request;
}

static enum rk_status close_session(struct world *world, const char *session)
{
    struct rk_request request = ask(RK_OP_SESSION_CLOSE);
    request.session = text(session);
    RK_SET(&request, SESSION);
    const struct rk_reply *reply = world_call(world, "c", &request);
    assert_int_equal(reply->closed, reply->status == RK_OK);
    return reply->status;
}

static uint64_t count_of(const struct world *world, enum rk_event_kind kind)
{
    uint64_t count = 0;
    for (uint32_t i = 0; i < world->ear.heard_count; i++)
        count += world->ear.heard[i].kind == kind;
    return count;
}

static void test_ids_are_never_used_again(void **state)
{
    (void)state;
    struct world *world = world_open();
    const char *ids[20];
    for (int i = 0; i < 20; i++) {
        ids[i] = world_session(world, "c", 1000);
        for (int j = 0; j < i; j++)
            assert_string_not_equal(ids[i], ids[j]);
        assert_int_equal(close_session(world, ids[i]), RK_OK);
        assert_int_equal(close_session(world, ids[i]), RK_ESESSION);
    }
    world_close(world);
}

static void test_keepalive_moves_the_deadline(void **state)
{
    (void)state;
    struct world *world = world_open();
    const char *id = world_session(world, "c", 10000);
    uint64_t ttl_ms = 0;
    for (int i = 0; i < 5; i++) {
        assert_int_equal(world_pass(world, 9000), 0);
        assert_int_equal(
            rk_machine_keepalive(world->machine, text(id), world->now, &ttl_ms), RK_OK);
        assert_int_equal(ttl_ms, 10000);
    }
    assert_int_equal(world_pass(world, 9999), 0);
    assert_int_equal(world_pass(world, 1), 1);
    assert_int_equal(count_of(world, RK_EVENT_SESSION_ENDED), 1);
    assert_int_equal(rk_machine_keepalive(world->machine, text(id), world->now, &ttl_ms),
                     RK_ESESSION);
    world_close(world);
}

static void test_keepalive_waits_for_a_proposed_expiry(void **state)
{
    (void)state;
    struct world *world = world_open();
    const char *id = world_session(world, "c", 10000);
    world->now += 10000;
    struct rk_buf due;
    rk_buf_init(&due);
    uint64_t ttl_ms = 0;
    assert_int_equal(rk_machine_due(world->machine, world->now, 16, &due), 1);
    assert_int_equal(rk_machine_keepalive(world->machine, text(id), world->now, &ttl_ms),
                     RK_EBUSY);
    /* Proposed once, not at each look. */
    assert_int_equal(rk_machine_due(world->machine, world->now, 16, &due), 0);
    /* Another leadership of this node knows nothing of what the old one proposed. */
    rk_machine_lead(world->machine, world->now);
    assert_int_equal(rk_machine_keepalive(world->machine, text(id), world->now, &ttl_ms),
                     RK_OK);
    rk_buf_fini(&due);
    world_close(world);
}

static void test_expiry_frees_locks_and_ends_waits(void **state)
{
    (void)state;
    struct world *world = world_open();
    const char *id = world_session(world, "c", 10000);
    struct rk_request request = in_session("a", "w", id, 0);
    const struct rk_reply *reply = world_call(world, "c", &request);
    assert_true(reply->granted);
    assert_int_equal(reply->lease_ms, 10000);
    request = ask_acquire("b", "other", RK_MODE_EXCLUSIVE, 0);
    assert_true(world_call(world, "d", &request)->granted);
    request = in_session("b", "w", id, 60000);
    assert_true(world_send(world, "c", 50, &request)->is_pending);
    request = ask_acquire("a", "next", RK_MODE_EXCLUSIVE, 60000);
    assert_true(world_send(world, "d", 51, &request)->is_pending);
    assert_int_equal(world_pass(world, 10000), 1);
    assert_int_equal(world_said(world, "c", 50, 0)->reply.status, RK_ESESSION);
    assert_true(world_said(world, "d", 51, 0)->reply.granted);
    assert_int_equal(count_of(world, RK_EVENT_LOCK_LOST), 1);
    assert_string_equal(world->ear.heard[0].session, id);
    /* The dead session is not granted anything later. */
    request = ask_named(RK_OP_LOCK_RELEASE, "b", "other", 0);
    assert_true(world_call(world, "d", &request)->released);
    request = ask_named(RK_OP_LOCK_INFO, "b", NULL, 0);
    assert_int_equal(world_query(world, &request).holder_count, 0);
    request = in_session("a", "w", id, 0);
    assert_int_equal(world_call(world, "c", &request)->status, RK_ESESSION);
    world_close(world);
}

static void test_close_frees_without_loss(void **state)
{
    (void)state;
    struct world *world = world_open();
    const char *id = world_session(world, "c", 10000);
    struct rk_request request = in_session("a", "w", id, 0);
    request.lock_delay_ms = 5000;
    RK_SET(&request, LOCK_DELAY_MS);
    assert_true(world_call(world, "c", &request)->granted);
    request = ask_acquire("a", "next", RK_MODE_EXCLUSIVE, 60000);
    assert_true(world_send(world, "d", 51, &request)->is_pending);
    assert_int_equal(close_session(world, id), RK_OK);
    assert_true(world_said(world, "d", 51, 0)->reply.granted);
    assert_int_equal(count_of(world, RK_EVENT_LOCK_LOST), 0);
    assert_int_equal(count_of(world, RK_EVENT_SESSION_ENDED), 1);
    world_close(world);
}

static void test_same_owner_in_two_sessions_is_two(void **state)
{
    (void)state;
    struct world *world = world_open();
    const char *one = world_session(world, "c", 10000);
    const char *two = world_session(world, "c", 10000);
    struct rk_request request = in_session("a", "w", one, 0);
    uint64_t fence = world_call(world, "c", &request)->fence;
    request = in_session("a", "w", two, 0);
    assert_int_equal(world_call(world, "c", &request)->status, RK_EHELD);
    request = ask_acquire("a", "w", RK_MODE_EXCLUSIVE, 0);
    assert_int_equal(world_call(world, "c", &request)->status, RK_EHELD);
    request = in_session("a", "w", one, 0);
    assert_int_equal(world_call(world, "c", &request)->fence, fence);
    request = in_session("s", "w", one, 0);
    request.mode = RK_MODE_SHARED;
    fence = world_call(world, "c", &request)->fence;
    request = in_session("s", "w", two, 0);
    request.mode = RK_MODE_SHARED;
    assert_true(world_call(world, "c", &request)->granted);
    request = ask_named(RK_OP_LOCK_RELEASE, "s", "w", 0);
    const struct rk_reply *reply = world_call(world, "c", &request);
    assert_int_equal(reply->status, RK_EINVAL); /* which of the two? */
    assert_text(reply->field, "fence");
    request = ask_named(RK_OP_LOCK_RELEASE, "s", "w", fence);
    assert_true(world_call(world, "c", &request)->released);
    request = ask_named(RK_OP_LOCK_RELEASE, "s", "w", 0);
    request.session = text(one);
    RK_SET(&request, SESSION);
    assert_int_equal(world_call(world, "c", &request)->status, RK_ENOTOWNER);
    request = ask_named(RK_OP_LOCK_RELEASE, "s", "w", 0);
    request.session = text(two);
    RK_SET(&request, SESSION);
    assert_true(world_call(world, "c", &request)->released);
    world_close(world);
}

static void test_many_sessions_with_one_owner_name(void **state)
{
    (void)state;
    struct world *world = world_open();
    const char *ids[6];
    for (int i = 0; i < 6; i++) {
        ids[i] = world_session(world, "c", 10000);
        struct rk_request request = in_session("s", "w", ids[i], 0);
        request.mode = RK_MODE_SHARED;
        assert_true(world_call(world, "c", &request)->granted);
    }
    static const int order[] = {3, 0, 5, 1, 4, 2};
    for (int i = 0; i < 6; i++) {
        for (int j = 0; j < 6; j++) {
            struct rk_request check = ask_named(RK_OP_LOCK_CHECK, "s", "w", 0);
            check.session = text(ids[order[j]]);
            assert_int_equal(world_query(world, &check).held, j >= i);
        }
        assert_int_equal(close_session(world, ids[order[i]]), RK_OK);
    }
    struct rk_request list = ask(RK_OP_LOCK_LIST);
    assert_int_equal(world_query(world, &list).listed_count, 0);
    world_close(world);
}

static void test_renew_of_a_sessions_lock_renews_the_session(void **state)
{
    (void)state;
    struct world *world = world_open();
    const char *id = world_session(world, "c", 10000);
    struct rk_request request = in_session("a", "w", id, 0);
    assert_true(world_call(world, "c", &request)->granted);
    assert_int_equal(world_pass(world, 9000), 0);
    request = ask_named(RK_OP_LOCK_RENEW, "a", "w", 0);
    assert_int_equal(world_call(world, "c", &request)->lease_ms, 10000);
    assert_int_equal(world_pass(world, 9999), 0);
    assert_int_equal(world_pass(world, 1), 1);
    request = in_session("a", "w", world_session(world, "c", 10000), 0);
    request.lease_ms = 5000;
    RK_SET(&request, LEASE_MS);
    const struct rk_reply *reply = world_call(world, "c", &request);
    assert_int_equal(reply->status, RK_EINVAL);
    assert_text(reply->field, "lease_ms");
    world_close(world);
}

static void test_list(void **state)
{
    (void)state;
    struct world *world = world_open();
    for (int i = 0; i < 5; i++)
        world_session(world, "c", 10000);
    uint32_t total = 0;
    struct rk_request request = ask(RK_OP_SESSION_LIST);
    request.limit = 2;
    RK_SET(&request, LIMIT);
    for (int page = 0; page < 3; page++) {
        struct rk_reply reply = world_query(world, &request);
        total += reply.listed_count;
        assert_int_equal(reply.after.size != 0, page < 2);
        request.after = reply.after;
        RK_SET(&request, AFTER);
    }
    assert_int_equal(total, 5);
    world_close(world);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_ids_are_never_used_again),
        cmocka_unit_test(test_keepalive_moves_the_deadline),
        cmocka_unit_test(test_keepalive_waits_for_a_proposed_expiry),
        cmocka_unit_test(test_expiry_frees_locks_and_ends_waits),
        cmocka_unit_test(test_close_frees_without_loss),
        cmocka_unit_test(test_same_owner_in_two_sessions_is_two),
        cmocka_unit_test(test_many_sessions_with_one_owner_name),
        cmocka_unit_test(test_renew_of_a_sessions_lock_renews_the_session),
        cmocka_unit_test(test_list),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
