/* Snapshots: rules 16 and 17 as far as raft decides them. */
#include "cluster.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

static struct cluster cluster;

static void propose_many(struct node *leader, int count)
{
    for (int i = 0; i < count; i++)
        assert_int_equal(cluster_propose(leader, "x"), RK_OK);
    cluster_settle(&cluster);
}

static void nothing_cached(struct rk_raft_options *options)
{
    options->max_cached_bytes = 0;
}

static void test_slow_follower_gets_a_snapshot(void **state)
{
    (void)state;
    cluster_open(&cluster, 3, 3, nothing_cached);
    cluster_elect(&cluster, 1);
    struct node *leader = cluster_node(&cluster, 1);
    struct node *slow = cluster_node(&cluster, 3);
    cluster_isolate(&cluster, 3, true);
    propose_many(leader, 50);
    cluster_compact(&cluster, leader);
    propose_many(leader, 10);
    cluster_isolate(&cluster, 3, false);
    slow->is_disk_slow = true;
    cluster_tick(&cluster, 4);
    assert_int_equal(cluster.sent[RK_RAFT_MSG_SNAP], 1);
    assert_int_equal(cluster_status(leader).progress[2].state, RK_RAFT_SNAPSHOT);
    /* Until it is installed nothing is applied on top, and no campaign begins: rule 16. */
    assert_int_equal(slow->applied, 1);
    assert_int_equal(rk_raft_campaign(slow->raft), RK_OK);
    assert_int_equal(cluster_status(slow).role, RK_RAFT_FOLLOWER);
    slow->is_disk_slow = false;
    cluster_settle(&cluster);
    cluster_tick(&cluster, 4);
    assert_int_equal(slow->applied, leader->applied);
    assert_int_equal(cluster_status(leader).progress[2].state, RK_RAFT_REPLICATE);
    cluster_close(&cluster);
}

static void test_failed_snapshot_is_tried_again(void **state)
{
    (void)state;
    cluster_open(&cluster, 3, 3, NULL);
    cluster_elect(&cluster, 1);
    struct node *leader = cluster_node(&cluster, 1);
    cluster_isolate(&cluster, 3, true);
    propose_many(leader, 20);
    cluster_compact(&cluster, leader);
    cluster_isolate(&cluster, 3, false);
    for (int i = 0; i < 20 && cluster.sent[RK_RAFT_MSG_SNAP] == 0; i++) {
        for (uint64_t id = 1; id <= 3; id++)
            assert_int_equal(rk_raft_tick(cluster_node(&cluster, id)->raft), RK_OK);
        for (uint64_t id = 1; id <= 3; id++)
            cluster_turn(&cluster, cluster_node(&cluster, id));
        for (size_t count = cluster.packet_count; count > 0; count--) {
            if (cluster.packets[0].data[1] == RK_RAFT_MSG_SNAP)
                cluster_drop(&cluster, 0);
            else
                cluster_deliver(&cluster, 0);
        }
    }
    while (cluster.packet_count > 0)
        cluster_drop(&cluster, 0);
    assert_int_equal(cluster.sent[RK_RAFT_MSG_SNAP], 1);
    rk_raft_report_snapshot(leader->raft, 3, false);
    assert_int_equal(cluster_status(leader).progress[2].state, RK_RAFT_PROBE);
    cluster_tick(&cluster, 6);
    assert_true(cluster.sent[RK_RAFT_MSG_SNAP] >= 2);
    assert_int_equal(cluster_node(&cluster, 3)->applied, leader->applied);
    cluster_close(&cluster);
}

/* Rule 16. */
static void test_old_snapshot_changes_nothing(void **state)
{
    (void)state;
    cluster_open(&cluster, 3, 3, NULL);
    cluster_elect(&cluster, 1);
    propose_many(cluster_node(&cluster, 1), 5);
    cluster_tick(&cluster, 2);
    struct node *node = cluster_node(&cluster, 2);
    struct rk_raft_status before = cluster_status(node);
    struct rk_raft_snapshot old = {.index = 3, .term = 1, .conf = before.conf};
    struct rk_raft_message message = {.type = RK_RAFT_MSG_SNAP,
                                      .from = 1,
                                      .term = before.hard_state.term,
                                      .snapshot = &old};
    assert_int_equal(cluster_step(node, message), RK_OK);
    message.term = 1;
    assert_int_equal(cluster_step(node, message), RK_OK);
    struct rk_raft_status after = cluster_status(node);
    assert_memory_equal(&before.hard_state, &after.hard_state, sizeof(before.hard_state));
    assert_int_equal(before.last_index, after.last_index);
    assert_int_equal(before.applied, after.applied);
    /* One without this node in it is for somebody else. */
    struct rk_raft_snapshot foreign = {.index = 90, .term = 1};
    foreign.conf.voters.count = 1;
    foreign.conf.voters.ids[0] = 9;
    message.term = before.hard_state.term;
    message.snapshot = &foreign;
    assert_int_equal(cluster_step(node, message), RK_OK);
    assert_int_equal(cluster_status(node).last_index, before.last_index);
    message.snapshot = NULL;
    assert_int_equal(cluster_step(node, message), RK_EPROTO);
    cluster_close(&cluster);
}

/* A snapshot of what the log has already only moves commit. */
static void test_snapshot_of_known_entries(void **state)
{
    (void)state;
    cluster_open(&cluster, 3, 3, NULL);
    struct node *node = cluster_node(&cluster, 2);
    const struct rk_raft_entry entries[] = {{.index = 1, .term = 1},
                                            {.index = 2, .term = 1}};
    struct rk_raft_message append = {.type = RK_RAFT_MSG_APP,
                                     .from = 1,
                                     .term = 1,
                                     .entries = entries,
                                     .entry_count = 2};
    assert_int_equal(cluster_step(node, append), RK_OK);
    struct rk_raft_snapshot snapshot = {.index = 1, .term = 1};
    rk_raft_conf(node->raft, &snapshot.conf);
    struct rk_raft_message message = {
        .type = RK_RAFT_MSG_SNAP, .from = 1, .term = 1, .snapshot = &snapshot};
    assert_int_equal(cluster_step(node, message), RK_OK);
    assert_int_equal(rk_raft_committed(node->raft), 1);
    assert_int_equal(cluster_status(node).last_index, 2);
    cluster_close(&cluster);
}

/* The host is told that its newest snapshot is too old for a new member. */
static void test_new_member_wants_a_newer_snapshot(void **state)
{
    (void)state;
    cluster_open(&cluster, 4, 3, NULL);
    cluster_elect(&cluster, 1);
    struct node *leader = cluster_node(&cluster, 1);
    struct rk_raft_snapshot first = leader->snapshot;
    leader->written.newest = &first;
    assert_int_equal(cluster_change(leader, RK_RAFT_ADD_LEARNER, 4), RK_OK);
    cluster_settle(&cluster);
    cluster_tick(&cluster, 4);
    assert_int_equal(cluster.sent[RK_RAFT_MSG_SNAP], 0);
    assert_int_equal(rk_raft_wanted_snapshot(leader->raft), leader->applied);
    leader->written.newest = &leader->latest;
    cluster_tick(&cluster, 6);
    assert_int_equal(rk_raft_wanted_snapshot(leader->raft), 0);
    assert_int_equal(cluster_node(&cluster, 4)->applied, leader->applied);
    cluster_close(&cluster);
}

static void test_restart_from_snapshot(void **state)
{
    (void)state;
    cluster_open(&cluster, 3, 3, NULL);
    cluster_elect(&cluster, 1);
    struct node *leader = cluster_node(&cluster, 1);
    propose_many(leader, 30);
    struct node *node = cluster_node(&cluster, 2);
    cluster_tick(&cluster, 2);
    cluster_compact(&cluster, node);
    propose_many(leader, 5);
    cluster_crash(&cluster, node);
    propose_many(leader, 5);
    cluster_restart(&cluster, node);
    cluster_tick(&cluster, 6);
    assert_int_equal(node->applied, leader->applied);
    cluster_close(&cluster);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_slow_follower_gets_a_snapshot),
        cmocka_unit_test(test_failed_snapshot_is_tried_again),
        cmocka_unit_test(test_old_snapshot_changes_nothing),
        cmocka_unit_test(test_snapshot_of_known_entries),
        cmocka_unit_test(test_new_member_wants_a_newer_snapshot),
        cmocka_unit_test(test_restart_from_snapshot),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
