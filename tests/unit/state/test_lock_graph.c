#include "world.h"

static void take(struct world *world, const char *resource, const char *owner,
                 enum rk_mode mode)
{
    struct rk_request request = ask_acquire(resource, owner, mode, 0);
    const struct rk_reply *reply = world_call(world, owner, &request);
    assert_int_equal(reply->status, RK_OK);
}

/* Returns the request's seq. */
static uint64_t want(struct world *world, const char *resource, const char *owner,
                     enum rk_mode mode, int32_t priority)
{
    struct rk_request request = ask_acquire(resource, owner, mode, 60000);
    request.priority = priority;
    RK_SET(&request, PRIORITY);
    world_send(world, owner, 0, &request);
    return world->seq;
}

static uint64_t want_both(struct world *world, const char *a, enum rk_mode mode_a,
                          const char *b, enum rk_mode mode_b, const char *owner,
                          uint64_t wait_ms)
{
    struct rk_resource_in items[] = {{text(a), (uint8_t)mode_a},
                                     {text(b), (uint8_t)mode_b}};
    struct rk_request request = ask(RK_OP_LOCK_ACQUIRE);
    request.resources = items;
    request.resource_count = 2;
    request.is_bulk = true;
    request.owner = text(owner);
    request.wait_ms = wait_ms;
    RK_SET(&request, RESOURCES);
    RK_SET(&request, OWNER);
    RK_SET(&request, WAIT_MS);
    world_send(world, owner, 0, &request);
    return world->seq;
}

static const struct said *told(const struct world *world, const char *owner, uint64_t seq)
{
    const struct said *said = world_said(world, owner, seq, 0);
    assert_non_null(said);
    return said;
}

static enum rk_status release(struct world *world, const char *resource, const char *owner)
{
    struct rk_request request = ask_named(RK_OP_LOCK_RELEASE, resource, owner, 0);
    return world_call(world, owner, &request)->status;
}

/* The edges must form a cycle that begins and ends with the same owner. */
static void assert_cycle(const struct rk_reply *reply, uint32_t length)
{
    assert_int_equal(reply->status, RK_EDEADLOCK);
    assert_int_equal(reply->edge_count, length);
    for (uint32_t i = 0; i < length; i++) {
        const struct rk_wait_edge *next = &reply->edges[(i + 1) % length];
        assert_true(rk_slice_is_equal(reply->edges[i].by, next->owner));
    }
}

static void test_two_owners_two_locks(void **state)
{
    (void)state;
    struct world *world = world_open();
    take(world, "a", "alice", RK_MODE_EXCLUSIVE);
    take(world, "b", "bob", RK_MODE_EXCLUSIVE);
    uint64_t alice = want(world, "b", "alice", RK_MODE_EXCLUSIVE, 0);
    assert_true(told(world, "alice", alice)->is_pending);
    uint64_t bob = want(world, "a", "bob", RK_MODE_EXCLUSIVE, 0);
    const struct rk_reply *reply = &told(world, "bob", bob)->reply;
    assert_cycle(reply, 2); /* the youngest is the victim */
    assert_text(reply->edges[0].owner, "bob");
    assert_text(reply->edges[0].resource, "a");
    assert_text(reply->edges[0].by, "alice");
    assert_true(told(world, "alice", alice)->is_pending);
    assert_int_equal(release(world, "b", "bob"), RK_OK); /* the victim kept what it held */
    assert_true(told(world, "alice", alice)->reply.granted);
    world_close(world);
}

static void test_lowest_priority_is_the_victim(void **state)
{
    (void)state;
    struct world *world = world_open();
    take(world, "a", "alice", RK_MODE_EXCLUSIVE);
    take(world, "b", "bob", RK_MODE_EXCLUSIVE);
    take(world, "c", "carol", RK_MODE_EXCLUSIVE);
    uint64_t alice = want(world, "b", "alice", RK_MODE_EXCLUSIVE, 5);
    uint64_t bob = want(world, "c", "bob", RK_MODE_EXCLUSIVE, -1);
    uint64_t carol = want(world, "a", "carol", RK_MODE_EXCLUSIVE, 0);
    assert_cycle(&told(world, "bob", bob)->reply, 3);
    assert_true(told(world, "alice", alice)->is_pending);
    assert_true(told(world, "carol", carol)->is_pending);
    world_close(world);
}

static void test_waiters_before_count(void **state)
{
    (void)state;
    struct world *world = world_open();
    /* bob waits for a behind nobody; carol, who holds c, waits for a behind bob. bob
     * wanting c would wait for carol, who waits for bob, though neither holds a. */
    take(world, "a", "alice", RK_MODE_SHARED);
    take(world, "c", "carol", RK_MODE_EXCLUSIVE);
    uint64_t bob =
        want_both(world, "a", RK_MODE_EXCLUSIVE, "b", RK_MODE_SHARED, "bob", 60000);
    uint64_t carol = want(world, "a", "carol", RK_MODE_SHARED, 0);
    assert_true(told(world, "carol", carol)->is_pending);
    uint64_t again = want(world, "c", "bob", RK_MODE_EXCLUSIVE, 0);
    assert_cycle(&told(world, "bob", again)->reply, 2);
    assert_true(told(world, "bob", bob)->is_pending);
    assert_int_equal(release(world, "a", "alice"), RK_OK);
    assert_true(told(world, "bob", bob)->reply.granted);
    world_close(world);
}

static void test_shared_waiters_do_not_wait_for_each_other(void **state)
{
    (void)state;
    struct world *world = world_open();
    take(world, "a", "alice", RK_MODE_EXCLUSIVE);
    take(world, "c", "carol", RK_MODE_EXCLUSIVE);
    uint64_t bob =
        want_both(world, "a", RK_MODE_SHARED, "c", RK_MODE_EXCLUSIVE, "bob", 60000);
    uint64_t carol = want(world, "a", "carol", RK_MODE_SHARED, 0);
    assert_true(told(world, "carol", carol)->is_pending);
    assert_int_equal(release(world, "a", "alice"), RK_OK);
    assert_true(told(world, "carol", carol)->reply.granted); /* past bob, who waits for c */
    assert_int_equal(release(world, "c", "carol"), RK_OK);
    assert_true(told(world, "bob", bob)->reply.granted);
    world_close(world);
}

static void test_several_cycles_at_once(void **state)
{
    (void)state;
    struct world *world = world_open();
    take(world, "x", "alice", RK_MODE_EXCLUSIVE);
    take(world, "s", "bob", RK_MODE_SHARED);
    take(world, "s", "carol", RK_MODE_SHARED);
    uint64_t bob = want(world, "x", "bob", RK_MODE_SHARED, -1);
    uint64_t carol = want(world, "x", "carol", RK_MODE_SHARED, -2);
    uint64_t alice = want(world, "s", "alice", RK_MODE_EXCLUSIVE, 0);
    assert_cycle(&told(world, "bob", bob)->reply, 2);
    assert_cycle(&told(world, "carol", carol)->reply, 2);
    assert_true(told(world, "alice", alice)->is_pending);
    world_close(world);
}

static void test_no_false_alarm(void **state)
{
    (void)state;
    struct world *world = world_open();
    take(world, "a", "alice", RK_MODE_EXCLUSIVE);
    take(world, "b", "bob", RK_MODE_EXCLUSIVE);
    uint64_t first = want(world, "b", "alice", RK_MODE_EXCLUSIVE, 0);
    uint64_t second = want(world, "a", "carol", RK_MODE_EXCLUSIVE, 0);
    uint64_t third = want(world, "b", "carol", RK_MODE_EXCLUSIVE, 0);
    assert_true(told(world, "alice", first)->is_pending);
    assert_true(told(world, "carol", second)->is_pending);
    assert_true(told(world, "carol", third)->is_pending);
    struct rk_request request = ask(RK_OP_LOCK_GRAPH);
    struct rk_reply graph = world_query(world, &request);
    assert_int_equal(graph.edge_count, 3);
    assert_text(graph.edges[0].owner, "alice");
    assert_text(graph.edges[0].resource, "b");
    assert_text(graph.edges[0].by, "bob");
    assert_text(graph.edges[2].by, "alice"); /* the waiter before it */
    world_close(world);
}

static void test_upgrade_of_the_only_holder(void **state)
{
    (void)state;
    struct world *world = world_open();
    take(world, "r", "alice", RK_MODE_SHARED);
    struct rk_request request = ask_named(RK_OP_LOCK_INFO, "r", NULL, 0);
    uint64_t before = world_query(world, &request).holders[0].fence;
    take(world, "r", "alice", RK_MODE_EXCLUSIVE);
    struct rk_reply reply = world_query(world, &request);
    assert_int_equal(reply.holder_count, 1);
    assert_int_equal(reply.holders[0].mode, RK_MODE_EXCLUSIVE);
    assert_true(reply.holders[0].fence > before);
    struct rk_request other = ask_acquire("r", "bob", RK_MODE_SHARED, 0);
    assert_int_equal(world_call(world, "bob", &other)->status, RK_EHELD);
    assert_int_equal(release(world, "r", "alice"), RK_OK);
    world_close(world);
}

static void test_upgrade_waits_at_the_head(void **state)
{
    (void)state;
    struct world *world = world_open();
    take(world, "r", "alice", RK_MODE_SHARED);
    take(world, "r", "bob", RK_MODE_SHARED);
    uint64_t writer = want(world, "r", "writer", RK_MODE_EXCLUSIVE, 0);
    struct rk_request now = ask_acquire("r", "alice", RK_MODE_EXCLUSIVE, 0);
    assert_int_equal(world_call(world, "alice", &now)->status, RK_EHELD);
    uint64_t alice = want(world, "r", "alice", RK_MODE_EXCLUSIVE, 0);
    assert_true(told(world, "alice", alice)->is_pending);
    uint64_t bob = want(world, "r", "bob", RK_MODE_EXCLUSIVE, 9);
    assert_cycle(&told(world, "bob", bob)->reply, 2); /* whatever its priority */
    assert_int_equal(release(world, "r", "bob"), RK_OK);
    assert_true(told(world, "alice", alice)->reply.granted);
    assert_int_equal(told(world, "alice", alice)->reply.mode, RK_MODE_EXCLUSIVE);
    assert_true(told(world, "writer", writer)->is_pending);
    assert_int_equal(release(world, "r", "alice"), RK_OK); /* one release: one hold */
    assert_true(told(world, "writer", writer)->reply.granted);
    world_close(world);
}

/* The other shared holder left early, which closed the lock; asking again needs no waiting
 * for that. What waited is answered too, and the end of the closing grants nothing twice.
 */
static void test_upgrade_answers_an_earlier_one(void **state)
{
    (void)state;
    struct world *world = world_open();
    take(world, "r", "alice", RK_MODE_SHARED);
    struct rk_request request = ask_acquire("r", "bob", RK_MODE_SHARED, 0);
    request.min_hold_ms = 5000;
    assert_true(world_call(world, "bob", &request)->granted);
    uint64_t alice = want(world, "r", "alice", RK_MODE_EXCLUSIVE, 0);
    assert_int_equal(release(world, "r", "bob"), RK_OK);
    assert_true(told(world, "alice", alice)->is_pending); /* closed */
    take(world, "r", "alice", RK_MODE_EXCLUSIVE);
    assert_true(told(world, "alice", alice)->reply.granted);
    world_pass(world, 6000);
    struct rk_request info = ask_named(RK_OP_LOCK_INFO, "r", NULL, 0);
    struct rk_reply reply = world_query(world, &info);
    assert_int_equal(reply.holder_count, 1);
    assert_int_equal(reply.waiter_count, 0);
    assert_int_equal(release(world, "r", "alice"), RK_OK);
    world_close(world);
}

static void test_several_locks_all_or_nothing(void **state)
{
    (void)state;
    struct world *world = world_open();
    take(world, "b", "alice", RK_MODE_SHARED);
    uint64_t seq = want_both(world, "a", RK_MODE_SHARED, "b", RK_MODE_EXCLUSIVE, "bob", 0);
    assert_int_equal(told(world, "bob", seq)->reply.status, RK_EHELD);
    take(world, "a", "carol", RK_MODE_EXCLUSIVE); /* nothing of it was kept */
    assert_int_equal(release(world, "a", "carol"), RK_OK);
    seq = want_both(world, "a", RK_MODE_SHARED, "b", RK_MODE_EXCLUSIVE, "bob", 60000);
    take(world, "a", "dave", RK_MODE_SHARED); /* compatible with what bob waits for */
    uint64_t erin = want(world, "a", "erin", RK_MODE_EXCLUSIVE, 0);
    assert_int_equal(release(world, "b", "alice"), RK_OK);
    const struct rk_reply *reply = &told(world, "bob", seq)->reply;
    assert_true(reply->granted);
    struct rk_request info = ask_named(RK_OP_LOCK_INFO, "b", NULL, 0);
    assert_int_equal(world_query(world, &info).holders[0].fence, reply->fence);
    info = ask_named(RK_OP_LOCK_INFO, "a", NULL, 0);
    assert_int_equal(world_query(world, &info).holder_count, 2);
    assert_int_equal(release(world, "a", "dave"), RK_OK);
    assert_true(told(world, "erin", erin)->is_pending);
    assert_int_equal(release(world, "b", "bob"), RK_OK); /* one release frees both */
    assert_true(told(world, "erin", erin)->reply.granted);
    world_close(world);
}

static void test_several_locks_repeat_and_overlap(void **state)
{
    (void)state;
    struct world *world = world_open();
    uint64_t seq = want_both(world, "a", RK_MODE_SHARED, "b", RK_MODE_EXCLUSIVE, "bob", 0);
    uint64_t fence = told(world, "bob", seq)->reply.fence;
    seq = want_both(world, "b", RK_MODE_SHARED, "a", RK_MODE_SHARED, "bob", 0);
    assert_int_equal(told(world, "bob", seq)->reply.fence, fence);
    seq = want_both(world, "b", RK_MODE_SHARED, "c", RK_MODE_SHARED, "bob", 0);
    assert_int_equal(told(world, "bob", seq)->reply.status, RK_EEXIST);
    seq = want_both(world, "b", RK_MODE_SHARED, "a", RK_MODE_EXCLUSIVE, "bob", 0);
    assert_int_equal(told(world, "bob", seq)->reply.status, RK_EUNSUPPORTED);
    assert_text(told(world, "bob", seq)->reply.field, "mode");
    assert_int_equal(release(world, "a", "bob"), RK_OK);
    world_close(world);
}

static void test_one_grant_serves_the_owners_other_waits(void **state)
{
    (void)state;
    struct world *world = world_open();
    take(world, "r", "alice", RK_MODE_EXCLUSIVE);
    uint64_t first = want(world, "r", "bob", RK_MODE_EXCLUSIVE, 0);
    uint64_t second = want(world, "r", "bob", RK_MODE_SHARED, 0);
    assert_int_equal(release(world, "r", "alice"), RK_OK);
    assert_true(told(world, "bob", first)->reply.granted);
    assert_true(told(world, "bob", second)->reply.granted);
    assert_int_equal(told(world, "bob", first)->reply.fence,
                     told(world, "bob", second)->reply.fence);
    assert_int_equal(release(world, "r", "bob"), RK_OK);
    assert_int_equal(release(world, "r", "bob"), RK_ENOTOWNER);
    world_close(world);
}

static uint64_t permit(struct world *world, const char *owner, uint64_t limit,
                       uint64_t wait_ms)
{
    struct rk_request request = ask_acquire("sem", owner, RK_MODE_EXCLUSIVE, wait_ms);
    request.limit = limit;
    RK_SET(&request, LIMIT);
    world_send(world, owner, 0, &request);
    return world->seq;
}

static void test_semaphore(void **state)
{
    (void)state;
    struct world *world = world_open();
    uint64_t a = told(world, "a", permit(world, "a", 2, 0))->reply.fence;
    uint64_t b = told(world, "b", permit(world, "b", 2, 0))->reply.fence;
    assert_true(b > a && a != 0);
    assert_int_equal(told(world, "c", permit(world, "c", 2, 0))->reply.status, RK_EHELD);
    uint64_t c = permit(world, "c", 2, 60000);
    assert_true(told(world, "c", c)->is_pending);
    /* Lowered: nothing is taken away, nothing granted until under the limit. */
    uint64_t d = permit(world, "d", 1, 60000);
    assert_int_equal(release(world, "sem", "a"), RK_OK);
    assert_true(told(world, "c", c)->is_pending);
    assert_int_equal(release(world, "sem", "b"), RK_OK);
    assert_true(told(world, "c", c)->reply.granted);
    assert_true(told(world, "d", d)->is_pending);
    uint64_t e = permit(world, "e", 3, 60000); /* raised: who waits comes in */
    assert_true(told(world, "d", d)->reply.granted);
    assert_true(told(world, "e", e)->reply.granted);
    struct rk_request plain = ask_acquire("sem", "f", RK_MODE_EXCLUSIVE, 0);
    const struct rk_reply *reply = world_call(world, "f", &plain);
    assert_int_equal(reply->status, RK_EINVAL);
    assert_text(reply->field, "limit");
    world_close(world);
}

static void test_semaphore_deadlock_needs_all_permits(void **state)
{
    (void)state;
    struct world *world = world_open();
    permit(world, "p1", 2, 0);
    permit(world, "p2", 2, 0);
    take(world, "l", "x", RK_MODE_EXCLUSIVE);
    uint64_t p1 = want(world, "l", "p1", RK_MODE_EXCLUSIVE, 0);
    uint64_t x = permit(world, "x", 2, 60000); /* p2 may still give its permit back */
    assert_true(told(world, "x", x)->is_pending);
    assert_true(told(world, "p1", p1)->is_pending);
    uint64_t p2 = want(world, "l", "p2", RK_MODE_EXCLUSIVE, 0);
    assert_int_equal(told(world, "p2", p2)->reply.status, RK_EDEADLOCK);
    assert_true(told(world, "x", x)->is_pending);
    assert_int_equal(release(world, "sem", "p2"), RK_OK);
    assert_true(told(world, "x", x)->reply.granted);
    world_close(world);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_two_owners_two_locks),
        cmocka_unit_test(test_lowest_priority_is_the_victim),
        cmocka_unit_test(test_waiters_before_count),
        cmocka_unit_test(test_shared_waiters_do_not_wait_for_each_other),
        cmocka_unit_test(test_several_cycles_at_once),
        cmocka_unit_test(test_no_false_alarm),
        cmocka_unit_test(test_upgrade_of_the_only_holder),
        cmocka_unit_test(test_upgrade_waits_at_the_head),
        cmocka_unit_test(test_upgrade_answers_an_earlier_one),
        cmocka_unit_test(test_several_locks_all_or_nothing),
        cmocka_unit_test(test_several_locks_repeat_and_overlap),
        cmocka_unit_test(test_one_grant_serves_the_owners_other_waits),
        cmocka_unit_test(test_semaphore),
        cmocka_unit_test(test_semaphore_deadlock_needs_all_permits),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
