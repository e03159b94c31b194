/* Reads: rules 4, 13 and 14. */
#include "cluster.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

static struct cluster cluster;

static void test_read_at_the_leader(void **state)
{
    (void)state;
    cluster_open(&cluster, 3, 3, NULL);
    cluster_elect(&cluster, 1);
    struct node *leader = cluster_node(&cluster, 1);
    assert_int_equal(cluster_propose(leader, "a"), RK_OK);
    cluster_settle(&cluster);
    size_t before = cluster.sent[RK_RAFT_MSG_HEARTBEAT];
    for (uint64_t request = 1; request <= 100; request++)
        assert_int_equal(rk_raft_read_index(leader->raft, request), RK_OK);
    cluster_settle(&cluster);
    assert_int_equal(leader->read_count, 100);
    assert_int_equal(leader->last_read.request, 100);
    assert_int_equal(leader->last_read.index, 2);
    assert_int_equal(cluster.sent[RK_RAFT_MSG_HEARTBEAT], before + 2); /* one round */
    cluster_close(&cluster);
}

static void test_read_at_a_follower(void **state)
{
    (void)state;
    cluster_open(&cluster, 3, 3, NULL);
    struct node *follower = cluster_node(&cluster, 2);
    assert_int_equal(rk_raft_read_index(follower->raft, 7), RK_ENOTLEADER);
    cluster_elect(&cluster, 1);
    assert_int_equal(rk_raft_read_index(follower->raft, 7), RK_OK);
    cluster_settle(&cluster);
    assert_int_equal(follower->read_count, 1);
    assert_int_equal(follower->last_read.request, 7);
    assert_int_equal(follower->last_read.index, 1);
    cluster_close(&cluster);
}

/* Rule 4. */
static void test_no_read_before_the_noop(void **state)
{
    (void)state;
    cluster_open(&cluster, 3, 3, NULL);
    struct node *leader = cluster_node(&cluster, 1);
    assert_int_equal(rk_raft_campaign(leader->raft), RK_OK);
    while (!rk_raft_is_leader(leader->raft)) {
        for (uint64_t id = 1; id <= 3; id++) {
            cluster_turn(&cluster, cluster_node(&cluster, id));
            cluster_sync(&cluster, cluster_node(&cluster, id), 100);
        }
        size_t count = cluster.packet_count;
        while (count-- > 0)
            cluster_deliver(&cluster, 0);
    }
    leader->is_disk_slow = true;
    cluster_node(&cluster, 2)->is_disk_slow = true;
    cluster_node(&cluster, 3)->is_disk_slow = true;
    assert_int_equal(rk_raft_read_index(leader->raft, 1), RK_OK);
    cluster_settle(&cluster);
    cluster_tick(&cluster, 4);
    assert_int_equal(leader->read_count, 0);
    struct rk_raft_conf_change change = {.count = 1, .changes = {{RK_RAFT_ADD_LEARNER, 4}}};
    assert_int_equal(rk_raft_propose_conf(leader->raft, &change, NULL), RK_EBUSY);
    for (uint64_t id = 1; id <= 3; id++) {
        cluster_node(&cluster, id)->is_disk_slow = false;
    }
    cluster_settle(&cluster);
    assert_int_equal(leader->read_count, 1);
    assert_int_equal(leader->last_read.index, 1);
    cluster_close(&cluster);
}

/* Rule 13: a leader that is none any more cannot confirm; its reads are given back. */
static void test_reads_die_with_the_leadership(void **state)
{
    (void)state;
    cluster_open(&cluster, 3, 3, NULL);
    cluster_elect(&cluster, 1);
    struct node *leader = cluster_node(&cluster, 1);
    cluster_isolate(&cluster, 1, true);
    assert_int_equal(rk_raft_read_index(leader->raft, 5), RK_OK);
    cluster_settle(&cluster);
    assert_int_equal(leader->read_count, 0);
    cluster_tick(&cluster, 40);
    assert_int_equal(leader->read_count, 0);
    assert_int_equal(leader->lost_reads, 1);
    assert_int_equal(leader->last_read.request, 5);
    assert_true(leader->last_read.is_lost);
    cluster_close(&cluster);
}

/* Rule 13: an answer to a round that began before the read came says nothing about it. */
static void test_older_rounds_do_not_confirm(void **state)
{
    (void)state;
    cluster_open(&cluster, 3, 3, NULL);
    cluster_elect(&cluster, 1);
    struct node *leader = cluster_node(&cluster, 1);
    uint64_t term = rk_raft_term(leader->raft);
    assert_int_equal(rk_raft_read_index(leader->raft, 1), RK_OK);
    cluster_settle(&cluster); /* round 1 */
    assert_int_equal(leader->read_count, 1);
    cluster_isolate(&cluster, 1, true);
    assert_int_equal(rk_raft_read_index(leader->raft, 2), RK_OK);
    cluster_settle(&cluster); /* round 2, unanswered */
    struct rk_raft_message old = {
        .type = RK_RAFT_MSG_HEARTBEAT_RESP, .from = 2, .term = term, .context = 1};
    assert_int_equal(cluster_step(leader, old), RK_OK);
    old.from = 3;
    old.context = 0;
    assert_int_equal(cluster_step(leader, old), RK_OK);
    old.context = 77; /* a number that was never given out */
    assert_int_equal(cluster_step(leader, old), RK_OK);
    cluster_settle(&cluster);
    assert_int_equal(leader->read_count, 1);
    old.context = 2;
    assert_int_equal(cluster_step(leader, old), RK_OK);
    cluster_settle(&cluster);
    assert_int_equal(leader->read_count, 2);
    cluster_close(&cluster);
}

/* A round that got lost is asked for again with the next heartbeat. */
static void test_lost_round_is_repeated(void **state)
{
    (void)state;
    cluster_open(&cluster, 3, 3, NULL);
    cluster_elect(&cluster, 1);
    struct node *leader = cluster_node(&cluster, 1);
    cluster_isolate(&cluster, 1, true);
    assert_int_equal(rk_raft_read_index(leader->raft, 1), RK_OK);
    cluster_settle(&cluster);
    cluster_isolate(&cluster, 1, false);
    cluster_tick(&cluster, 2);
    assert_int_equal(leader->read_count, 1);
    cluster_close(&cluster);
}

static void lease(struct rk_raft_options *options)
{
    options->read_mode = RK_RAFT_READ_LEASE;
}

/* Rule 14. */
static void test_lease_reads(void **state)
{
    (void)state;
    cluster_open(&cluster, 3, 3, lease);
    cluster_elect(&cluster, 1);
    struct node *leader = cluster_node(&cluster, 1);
    cluster_tick(&cluster, 4);
    cluster_isolate(&cluster, 1, true);
    /* Nobody can be asked, and nobody need be, for election_tick - drift_ticks. */
    assert_int_equal(rk_raft_read_index(leader->raft, 1), RK_OK);
    cluster_settle(&cluster);
    assert_int_equal(leader->read_count, 1);
    for (int i = 0; i < 8; i++)
        assert_int_equal(rk_raft_tick(leader->raft), RK_OK);
    assert_true(rk_raft_is_leader(leader->raft));
    assert_int_equal(rk_raft_read_index(leader->raft, 2), RK_OK);
    cluster_settle(&cluster);
    assert_int_equal(leader->read_count, 1);
    cluster_close(&cluster);
}

static void test_lease_ends_with_a_transfer(void **state)
{
    (void)state;
    cluster_open(&cluster, 3, 3, lease);
    cluster_elect(&cluster, 1);
    struct node *leader = cluster_node(&cluster, 1);
    cluster_tick(&cluster, 4);
    cluster_isolate(&cluster, 1, true);
    assert_int_equal(rk_raft_transfer(leader->raft, 2), RK_OK);
    assert_int_equal(rk_raft_read_index(leader->raft, 1), RK_OK);
    cluster_settle(&cluster);
    assert_int_equal(leader->read_count, 0);
    cluster_close(&cluster);
}

/* A process that was stopped has no tick for each that passed, and no lease all the same.
 */
static void test_lease_ends_while_stopped(void **state)
{
    (void)state;
    cluster_open(&cluster, 3, 3, lease);
    cluster_elect(&cluster, 1);
    struct node *leader = cluster_node(&cluster, 1);
    cluster_tick(&cluster, 4);
    cluster_isolate(&cluster, 1, true);
    rk_raft_skip(leader->raft, 1);
    assert_int_equal(rk_raft_read_index(leader->raft, 1), RK_OK);
    cluster_settle(&cluster);
    assert_int_equal(leader->read_count, 1);
    rk_raft_skip(leader->raft, 8);
    assert_true(rk_raft_is_leader(leader->raft));
    assert_int_equal(rk_raft_read_index(leader->raft, 2), RK_OK);
    cluster_settle(&cluster);
    assert_int_equal(leader->read_count, 1);
    cluster_close(&cluster);
}

static void lease_over_restarts(struct rk_raft_options *options)
{
    lease(options);
    options->restart_ticks = options->election_tick;
}

/* A voter that starts again still owes its leader the ticks that it promised. */
static void test_lease_outlives_restarts(void **state)
{
    (void)state;
    cluster_open(&cluster, 3, 3, lease_over_restarts);
    cluster_tick(&cluster, 10);
    cluster_elect(&cluster, 1);
    struct node *leader = cluster_node(&cluster, 1), *voter = cluster_node(&cluster, 2);
    cluster_tick(&cluster, 4);
    cluster_isolate(&cluster, 1, true);
    cluster_crash(&cluster, voter);
    cluster_restart(&cluster, voter);
    struct rk_raft_message ask = {.type = RK_RAFT_MSG_PRE_VOTE,
                                  .from = 3,
                                  .to = 2,
                                  .term = rk_raft_term(leader->raft) + 1,
                                  .index = 100,
                                  .log_term = 100};
    size_t before = cluster.sent[RK_RAFT_MSG_PRE_VOTE_RESP];
    for (int i = 0; i < 10; i++) {
        assert_int_equal(cluster_step(voter, ask), RK_OK);
        cluster_settle(&cluster);
        assert_int_equal(cluster.sent[RK_RAFT_MSG_PRE_VOTE_RESP], before);
        assert_int_equal(rk_raft_tick(voter->raft), RK_OK);
    }
    assert_int_equal(cluster_step(voter, ask), RK_OK);
    cluster_settle(&cluster);
    assert_int_equal(cluster.sent[RK_RAFT_MSG_PRE_VOTE_RESP], before + 1);
    cluster_close(&cluster);
}

/* The majority that confirmed it was another one: it is confirmed anew. */
static void test_lease_ends_with_a_membership(void **state)
{
    (void)state;
    cluster_open(&cluster, 4, 3, lease);
    cluster_elect(&cluster, 1);
    struct node *leader = cluster_node(&cluster, 1);
    cluster_tick(&cluster, 4);
    assert_int_equal(rk_raft_read_index(leader->raft, 1), RK_OK);
    cluster_settle(&cluster);
    assert_int_equal(leader->read_count, 1);
    assert_int_equal(cluster_change(leader, RK_RAFT_ADD_LEARNER, 4), RK_OK);
    cluster_settle(&cluster);
    cluster_isolate(&cluster, 1, true);
    assert_int_equal(rk_raft_read_index(leader->raft, 2), RK_OK);
    cluster_settle(&cluster);
    assert_int_equal(leader->read_count, 1);
    cluster_isolate(&cluster, 1, false);
    cluster_tick(&cluster, 4);
    assert_int_equal(leader->read_count, 2);
    cluster_close(&cluster);
}

static void test_forget_leader(void **state)
{
    (void)state;
    cluster_open(&cluster, 3, 3, NULL);
    cluster_elect(&cluster, 1);
    assert_int_equal(rk_raft_forget_leader(cluster_node(&cluster, 2)->raft), RK_OK);
    assert_int_equal(rk_raft_leader(cluster_node(&cluster, 2)->raft), 0);
    cluster_close(&cluster);
    cluster_open(&cluster, 3, 3, lease);
    cluster_elect(&cluster, 1);
    assert_int_equal(rk_raft_forget_leader(cluster_node(&cluster, 2)->raft), RK_OK);
    assert_int_equal(rk_raft_leader(cluster_node(&cluster, 2)->raft), 1);
    cluster_close(&cluster);
}

static void few(struct rk_raft_options *options)
{
    options->max_pending_reads = 3;
}

static void test_pending_reads_are_bounded(void **state)
{
    (void)state;
    cluster_open(&cluster, 3, 3, few);
    cluster_elect(&cluster, 1);
    struct node *leader = cluster_node(&cluster, 1);
    for (uint64_t i = 0; i < 3; i++)
        assert_int_equal(rk_raft_read_index(leader->raft, i), RK_OK);
    assert_int_equal(rk_raft_read_index(leader->raft, 4), RK_EBUSY);
    cluster_settle(&cluster);
    assert_int_equal(rk_raft_read_index(leader->raft, 4), RK_OK);
    cluster_close(&cluster);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_read_at_the_leader),
        cmocka_unit_test(test_read_at_a_follower),
        cmocka_unit_test(test_no_read_before_the_noop),
        cmocka_unit_test(test_reads_die_with_the_leadership),
        cmocka_unit_test(test_older_rounds_do_not_confirm),
        cmocka_unit_test(test_lost_round_is_repeated),
        cmocka_unit_test(test_lease_reads),
        cmocka_unit_test(test_lease_ends_with_a_transfer),
        cmocka_unit_test(test_lease_ends_while_stopped),
        cmocka_unit_test(test_lease_outlives_restarts),
        cmocka_unit_test(test_lease_ends_with_a_membership),
        cmocka_unit_test(test_forget_leader),
        cmocka_unit_test(test_pending_reads_are_bounded),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
