/* Waits: pending locks, parked consumes, and clients that go away. */
#include "cluster.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

static struct cluster *cluster;

static int setup(void **state)
{
    (void)state;
    cluster = cluster_new((struct cluster_options){.nodes = 3, .groups = 3});
    cluster_settle(cluster, 3000);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    cluster_run(cluster, 1000);
    cluster_check_equal(cluster);
    cluster_free(cluster);
    return 0;
}

#define TAKE(resource, owner) "{\"resource\":\"" resource "\",\"owner\":\"" owner "\"}"
#define WAIT(resource, owner)                                                              \
    "{\"resource\":\"" resource "\",\"owner\":\"" owner "\",\"wait_ms\":30000}"

static void release(uint32_t node, const char *json)
{
    assert_true(cluster_ask(cluster, node, RK_OP_LOCK_RELEASE, json)->released);
}

static void test_pending_is_granted_in_order(void **state)
{
    (void)state;
    assert_true(cluster_ask(cluster, 0, RK_OP_LOCK_ACQUIRE, TAKE("r", "a"))->granted);
    uint64_t second = cluster_call(cluster, 1, RK_OP_LOCK_ACQUIRE, WAIT("r", "b"));
    cluster_run(cluster, 100);
    uint64_t third = cluster_call(cluster, 2, RK_OP_LOCK_ACQUIRE, WAIT("r", "c"));
    cluster_run(cluster, 500);
    assert_false(cluster_has_answer(cluster, second));
    release(2, TAKE("r", "a"));
    const struct rk_reply *reply = cluster_answer(cluster, second, 100);
    assert_true(reply->granted);
    uint64_t fence = reply->fence;
    assert_false(cluster_has_answer(cluster, third));
    release(0, TAKE("r", "b"));
    reply = cluster_answer(cluster, third, 100);
    assert_true(reply->granted);
    assert_true(reply->fence > fence);
}

static void test_wait_runs_out(void **state)
{
    (void)state;
    assert_true(cluster_ask(cluster, 0, RK_OP_LOCK_ACQUIRE, TAKE("r", "a"))->granted);
    uint64_t began = cluster->now_ms;
    const struct rk_reply *reply =
        cluster_ask(cluster, 1, RK_OP_LOCK_ACQUIRE,
                    "{\"resource\":\"r\",\"owner\":\"b\",\"wait_ms\":700}");
    assert_int_equal(reply->status, RK_ETIMEOUT);
    assert_in_range(cluster->now_ms - began, 690, 900);
}

static void test_client_that_left_is_never_granted(void **state)
{
    (void)state;
    for (uint32_t i = 0; i < 3; i++) {
        assert_true(cluster_ask(cluster, 0, RK_OP_LOCK_ACQUIRE, TAKE("r", "a"))->granted);
        uint64_t waits = cluster_call(cluster, i, RK_OP_LOCK_ACQUIRE, WAIT("r", "b"));
        cluster_run(cluster, 300);
        cluster_drop(cluster, i, waits);
        cluster_run(cluster, 100);
        release(1, TAKE("r", "a"));
        cluster_run(cluster, 100);
        assert_true(cluster_ask(cluster, 2, RK_OP_LOCK_ACQUIRE, TAKE("r", "c"))->granted);
        release(2, TAKE("r", "c"));
        assert_false(cluster_has_answer(cluster, waits));
    }
}

/* The client leaves in the very turn in which the release is on its way. */
static void test_leaving_races_the_grant(void **state)
{
    (void)state;
    for (uint32_t delay = 0; delay < 12; delay++) {
        uint32_t node = delay % 3;
        assert_true(cluster_ask(cluster, 0, RK_OP_LOCK_ACQUIRE, TAKE("r", "a"))->granted);
        uint64_t waits = cluster_call(cluster, node, RK_OP_LOCK_ACQUIRE, WAIT("r", "b"));
        cluster_run(cluster, 50);
        uint64_t released =
            cluster_call(cluster, (node + 1) % 3, RK_OP_LOCK_RELEASE, TAKE("r", "a"));
        cluster_run(cluster, delay);
        bool was_granted = cluster_has_answer(cluster, waits);
        cluster_drop(cluster, node, waits);
        cluster_answer(cluster, released, 1000);
        cluster_run(cluster, 200);
        if (was_granted) {
            release(1, TAKE("r", "b"));
        } else {
            assert_true(
                cluster_ask(cluster, 2, RK_OP_LOCK_ACQUIRE, TAKE("r", "c"))->granted);
            release(2, TAKE("r", "c"));
        }
    }
}

static void test_home_that_died_loses_its_waits(void **state)
{
    (void)state;
    uint32_t leader = (uint32_t)cluster_leader(cluster, 0);
    uint32_t home = (leader + 1) % 3;
    assert_true(cluster_ask(cluster, leader, RK_OP_LOCK_ACQUIRE, TAKE("r", "a"))->granted);
    cluster_call(cluster, home, RK_OP_LOCK_ACQUIRE, WAIT("r", "b"));
    cluster_run(cluster, 200);
    cluster_kill(cluster, home, RK_MEMFS_CRASH_KEEP_ALL);
    cluster_run(cluster, 4000);
    const struct rk_reply *reply =
        cluster_ask(cluster, leader, RK_OP_LOCK_INFO, "{\"resource\":\"r\"}");
    assert_int_equal(reply->waiter_count, 0);
    cluster_start(cluster, home);
    cluster_settle(cluster, 3000);
}

/* A new leader: the home sends again, the place in the queue is kept. */
static void test_wait_survives_the_leader(void **state)
{
    (void)state;
    uint32_t leader = (uint32_t)cluster_leader(cluster, 0);
    uint32_t home = (leader + 1) % 3, other = (leader + 2) % 3;
    assert_true(cluster_ask(cluster, home, RK_OP_LOCK_ACQUIRE, TAKE("r", "a"))->granted);
    uint64_t first = cluster_call(cluster, home, RK_OP_LOCK_ACQUIRE, WAIT("r", "b"));
    cluster_run(cluster, 100);
    uint64_t second = cluster_call(cluster, other, RK_OP_LOCK_ACQUIRE, WAIT("r", "c"));
    cluster_run(cluster, 100);
    cluster_kill(cluster, leader, RK_MEMFS_CRASH_KEEP_ALL);
    cluster_settle(cluster, 3000);
    cluster_run(cluster, 5000);
    assert_false(cluster_has_answer(cluster, first));
    release(other, TAKE("r", "a"));
    assert_true(cluster_answer(cluster, first, 500)->granted);
    assert_false(cluster_has_answer(cluster, second));
    release(home, TAKE("r", "b"));
    assert_true(cluster_answer(cluster, second, 500)->granted);
    cluster_start(cluster, leader);
    cluster_settle(cluster, 3000);
}

static void test_parked_consume_is_woken(void **state)
{
    (void)state;
    uint64_t calls[3];
    const struct rk_machine *machine;
    cluster_run(cluster, 1000);
    for (uint32_t i = 0; i < 3; i++)
        calls[i] = cluster_call(cluster, i, RK_OP_QUEUE_CONSUME,
                                "{\"topic\":\"t\",\"wait_ms\":20000}");
    cluster_run(cluster, 1000);
    uint64_t applied = 0;
    for (uint32_t group = 1; group <= 3; group++) {
        machine = rk_host_machine(cluster->nodes[0].host, group);
        applied += rk_machine_index(machine);
    }
    cluster_run(cluster, 3000);
    uint64_t later = 0;
    for (uint32_t group = 1; group <= 3; group++) {
        machine = rk_host_machine(cluster->nodes[0].host, group);
        later += rk_machine_index(machine);
    }
    assert_int_equal(applied, later); /* waiting costs the log nothing */
    for (uint32_t i = 0; i < 3; i++) {
        assert_int_equal(
            cluster_ask(cluster, i, RK_OP_QUEUE_PUBLISH, "{\"topic\":\"t\",\"data\":1}")
                ->status,
            RK_OK);
        cluster_run(cluster, 50);
        uint32_t answered = 0;
        for (uint32_t k = 0; k < 3; k++)
            answered += cluster_has_answer(cluster, calls[k]);
        assert_int_equal(answered, i + 1);
    }
    for (uint32_t i = 0; i < 3; i++)
        assert_int_equal(cluster_answer(cluster, calls[i], 10)->message_count, 1);
}

static void test_parked_consume_runs_out(void **state)
{
    (void)state;
    for (uint32_t i = 0; i < 3; i++) {
        uint64_t began = cluster->now_ms;
        const struct rk_reply *reply = cluster_ask(cluster, i, RK_OP_QUEUE_CONSUME,
                                                   "{\"topic\":\"t\",\"wait_ms\":800}");
        assert_int_equal(reply->status, RK_OK);
        assert_int_equal(reply->message_count, 0);
        assert_in_range(cluster->now_ms - began, 800, 830);
    }
}

static void test_consumer_that_left_gets_nothing(void **state)
{
    (void)state;
    for (uint32_t i = 0; i < 3; i++) {
        uint64_t left = cluster_call(cluster, i, RK_OP_QUEUE_CONSUME,
                                     "{\"topic\":\"t\",\"wait_ms\":20000}");
        cluster_run(cluster, 200);
        cluster_drop(cluster, i, left);
        cluster_run(cluster, 20);
        cluster_ask(cluster, 0, RK_OP_QUEUE_PUBLISH, "{\"topic\":\"t\",\"data\":1}");
        const struct rk_reply *reply =
            cluster_ask(cluster, 1, RK_OP_QUEUE_CONSUME, "{\"topic\":\"t\"}");
        assert_int_equal(reply->message_count, 1);
        assert_int_equal(reply->messages[0].attempt, 1);
    }
}

/* It leaves while its delivery is in the log: handed back at once, uncounted. */
static void test_delivery_nobody_takes_comes_back(void **state)
{
    (void)state;
    for (uint32_t delay = 0; delay < 12; delay++) {
        uint32_t node = delay % 3;
        cluster_ask(cluster, 0, RK_OP_QUEUE_PUBLISH, "{\"topic\":\"t\",\"data\":1}");
        uint64_t left =
            cluster_call(cluster, node, RK_OP_QUEUE_CONSUME, "{\"topic\":\"t\"}");
        cluster_run(cluster, delay);
        if (cluster_has_answer(cluster, left)) {
            cluster_ask(cluster, 0, RK_OP_QUEUE_PURGE, "{\"topic\":\"t\"}");
            continue;
        }
        cluster_drop(cluster, node, left);
        cluster_run(cluster, 100);
        const struct rk_reply *reply =
            cluster_ask(cluster, 1, RK_OP_QUEUE_CONSUME, "{\"topic\":\"t\"}");
        assert_int_equal(reply->message_count, 1);
        cluster_ask(cluster, 0, RK_OP_QUEUE_PURGE, "{\"topic\":\"t\"}");
    }
}

static void test_parked_consume_survives_the_leader(void **state)
{
    (void)state;
    uint64_t calls[3];
    for (uint32_t i = 0; i < 3; i++)
        calls[i] = cluster_call(cluster, i, RK_OP_QUEUE_CONSUME,
                                "{\"topic\":\"t\",\"wait_ms\":30000}");
    cluster_run(cluster, 500);
    /* Whichever group it is in: every leader moves. */
    for (uint32_t group = 1; group <= 3; group++) {
        char text[64];
        int to = (cluster_leader(cluster, group) + 1) % 3;
        snprintf(text, sizeof(text), "{\"group\":%u,\"to\":\"n%d\"}", group, to + 1);
        assert_int_equal(cluster_ask(cluster, 0, RK_OP_CLUSTER_TRANSFER, text)->status,
                         RK_OK);
    }
    cluster_run(cluster, 500);
    for (uint32_t i = 0; i < 3; i++)
        cluster_ask(cluster, i, RK_OP_QUEUE_PUBLISH, "{\"topic\":\"t\",\"data\":1}");
    for (uint32_t i = 0; i < 3; i++)
        assert_int_equal(cluster_answer(cluster, calls[i], 200)->message_count, 1);
}

/* Only the leader's connection to the home breaks: the home does not see it. */
static void test_half_a_link_is_survived(void **state)
{
    (void)state;
    uint64_t calls[3];
    for (uint32_t i = 0; i < 3; i++)
        calls[i] = cluster_call(cluster, i, RK_OP_QUEUE_CONSUME,
                                "{\"topic\":\"t\",\"wait_ms\":30000}");
    cluster_run(cluster, 500);
    for (uint32_t i = 0; i < 3; i++)
        for (uint32_t k = 0; k < 3; k++)
            if (i != k)
                rk_host_link_down(cluster->nodes[i].host, cluster->nodes[k].name,
                                  RK_LINK_BULK, false);
    for (uint32_t i = 0; i < 3; i++)
        rk_host_link_up(cluster->nodes[0].host, cluster->nodes[i].name, RK_LINK_BULK);
    cluster_run(cluster, 200);
    for (uint32_t i = 1; i < 3; i++)
        for (uint32_t k = 0; k < 3; k++)
            rk_host_link_up(cluster->nodes[i].host, cluster->nodes[k].name, RK_LINK_BULK);
    cluster_run(cluster, 6000);
    for (uint32_t i = 0; i < 3; i++)
        cluster_ask(cluster, i, RK_OP_QUEUE_PUBLISH, "{\"topic\":\"t\",\"data\":1}");
    for (uint32_t i = 0; i < 3; i++)
        assert_int_equal(cluster_answer(cluster, calls[i], 500)->message_count, 1);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_pending_is_granted_in_order),
        TEST(test_wait_runs_out),
        TEST(test_client_that_left_is_never_granted),
        TEST(test_leaving_races_the_grant),
        TEST(test_home_that_died_loses_its_waits),
        TEST(test_wait_survives_the_leader),
        TEST(test_parked_consume_is_woken),
        TEST(test_parked_consume_runs_out),
        TEST(test_consumer_that_left_gets_nothing),
        TEST(test_delivery_nobody_takes_comes_back),
        TEST(test_parked_consume_survives_the_leader),
        TEST(test_half_a_link_is_survived),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
