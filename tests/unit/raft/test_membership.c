/* Membership: rules 4 and 15, learners, joint consensus. */
#include "cluster.h"

#include "raft/quorum.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

static struct cluster cluster;

static struct rk_raft_conf_state conf_of(uint64_t id)
{
    struct rk_raft_conf_state conf;
    rk_raft_conf(cluster_node(&cluster, id)->raft, &conf);
    return conf;
}

static void test_learner_then_voter(void **state)
{
    (void)state;
    cluster_open(&cluster, 4, 3, NULL);
    cluster_elect(&cluster, 1);
    struct node *leader = cluster_node(&cluster, 1);
    assert_int_equal(cluster_propose(leader, "a"), RK_OK);
    cluster_settle(&cluster);
    assert_int_equal(cluster_change(leader, RK_RAFT_ADD_LEARNER, 4), RK_OK);
    cluster_settle(&cluster);
    cluster_tick(&cluster, 6);
    struct node *learner = cluster_node(&cluster, 4);
    assert_int_equal(learner->applied, leader->applied);
    struct rk_raft_conf_state conf = conf_of(4);
    assert_true(rk_raft_members_has(&conf.learners, 4));
    assert_int_equal(rk_raft_transfer(leader->raft, 4), RK_ENOENT); /* rule 12 */
    assert_int_equal(rk_raft_campaign(learner->raft), RK_OK);
    cluster_settle(&cluster);
    assert_int_equal(cluster_status(learner).role, RK_RAFT_FOLLOWER);

    assert_int_equal(cluster_change(leader, RK_RAFT_ADD_VOTER, 4), RK_OK);
    cluster_settle(&cluster);
    for (uint64_t id = 1; id <= 4; id++) {
        assert_int_equal(conf_of(id).voters.count, 4);
        assert_int_equal(conf_of(id).learners.count, 0);
    }
    /* Now it counts: three of four. */
    cluster_crash(&cluster, cluster_node(&cluster, 2));
    assert_int_equal(cluster_propose(leader, "b"), RK_OK);
    cluster_settle(&cluster);
    assert_int_equal(rk_raft_committed(leader->raft), cluster_status(leader).last_index);
    cluster_close(&cluster);
}

/* Rule 15: one at a time, the next one only after the former is applied. */
static void test_one_change_at_a_time(void **state)
{
    (void)state;
    cluster_open(&cluster, 5, 3, NULL);
    cluster_elect(&cluster, 1);
    struct node *leader = cluster_node(&cluster, 1);
    assert_int_equal(cluster_change(leader, RK_RAFT_ADD_LEARNER, 4), RK_OK);
    assert_int_equal(cluster_change(leader, RK_RAFT_ADD_LEARNER, 5), RK_EBUSY);
    assert_int_equal(cluster_change(cluster_node(&cluster, 2), RK_RAFT_ADD_LEARNER, 5),
                     RK_ENOTLEADER);
    cluster_settle(&cluster);
    assert_int_equal(cluster_change(leader, RK_RAFT_ADD_LEARNER, 5), RK_OK);
    cluster_settle(&cluster);
    assert_int_equal(conf_of(1).learners.count, 2);
    struct rk_raft_conf_change leave = {0};
    assert_int_equal(rk_raft_propose_conf(leader->raft, &leave, NULL), RK_EPAUSED);
    cluster_close(&cluster);
}

static void test_joint_change_leaves_by_itself(void **state)
{
    (void)state;
    cluster_open(&cluster, 5, 3, NULL);
    cluster_elect(&cluster, 1);
    struct node *leader = cluster_node(&cluster, 1);
    struct rk_raft_conf_change change = {.count = 4,
                                         .changes = {{RK_RAFT_ADD_VOTER, 4},
                                                     {RK_RAFT_ADD_VOTER, 5},
                                                     {RK_RAFT_REMOVE, 2},
                                                     {RK_RAFT_ADD_LEARNER, 3}}};
    assert_int_equal(rk_raft_propose_conf(leader->raft, &change, NULL), RK_OK);
    cluster_settle(&cluster);
    cluster_tick(&cluster, 10);
    struct rk_raft_conf_state conf = conf_of(1);
    assert_int_equal(conf.voters_outgoing.count, 0);
    assert_int_equal(conf.voters.count, 3);
    assert_true(rk_raft_members_has(&conf.voters, 4) &&
                rk_raft_members_has(&conf.voters, 5));
    assert_true(rk_raft_members_has(&conf.learners, 3));
    assert_int_equal(cluster_node(&cluster, 5)->applied, leader->applied);
    cluster_close(&cluster);
}

/* In the joint state both halves must agree. */
static void test_joint_needs_both_halves(void **state)
{
    (void)state;
    cluster_open(&cluster, 5, 3, NULL);
    cluster_elect(&cluster, 1);
    struct node *leader = cluster_node(&cluster, 1);
    struct rk_raft_conf_change change = {.transition = RK_RAFT_TRANSITION_JOINT_EXPLICIT,
                                         .count = 4,
                                         .changes = {{RK_RAFT_ADD_VOTER, 4},
                                                     {RK_RAFT_ADD_VOTER, 5},
                                                     {RK_RAFT_REMOVE, 2},
                                                     {RK_RAFT_REMOVE, 3}}};
    assert_int_equal(rk_raft_propose_conf(leader->raft, &change, NULL), RK_OK);
    cluster_settle(&cluster);
    cluster_tick(&cluster, 6);
    assert_int_equal(conf_of(1).voters_outgoing.count, 3);
    assert_int_equal(cluster_change(leader, RK_RAFT_ADD_LEARNER, 2), RK_EPAUSED);
    cluster_isolate(&cluster, 4, true);
    cluster_isolate(&cluster, 5, true);
    uint64_t before = rk_raft_committed(leader->raft);
    assert_int_equal(cluster_propose(leader, "a"), RK_OK);
    cluster_settle(&cluster);
    assert_int_equal(rk_raft_committed(leader->raft), before);
    cluster_isolate(&cluster, 4, false);
    cluster_tick(&cluster, 4);
    assert_int_equal(rk_raft_committed(leader->raft), before + 1);
    struct rk_raft_conf_change leave = {0};
    assert_int_equal(rk_raft_propose_conf(leader->raft, &leave, NULL), RK_OK);
    cluster_settle(&cluster);
    assert_int_equal(conf_of(1).voters_outgoing.count, 0);
    assert_int_equal(conf_of(1).voters.count, 3);
    cluster_close(&cluster);
}

static void test_removed_leader_steps_down(void **state)
{
    (void)state;
    cluster_open(&cluster, 3, 3, NULL);
    cluster_elect(&cluster, 1);
    struct node *leader = cluster_node(&cluster, 1);
    assert_int_equal(cluster_change(leader, RK_RAFT_REMOVE, 1), RK_OK);
    cluster_settle(&cluster);
    assert_false(rk_raft_is_leader(leader->raft));
    cluster_tick(&cluster, 60);
    assert_false(rk_raft_is_leader(leader->raft));
    struct node *next = cluster_leader(&cluster);
    assert_non_null(next);
    assert_int_equal(conf_of(next->id).voters.count, 2);
    cluster_close(&cluster);
}

/* A change that cannot be is refused on every node alike, when it is applied. */
static void test_impossible_change(void **state)
{
    (void)state;
    cluster_open(&cluster, 1, 1, NULL);
    cluster_elect(&cluster, 1);
    struct node *leader = cluster_node(&cluster, 1);
    assert_int_equal(cluster_change(leader, RK_RAFT_REMOVE, 1), RK_OK);
    cluster_settle(&cluster);
    assert_int_equal(conf_of(1).voters.count, 1);
    assert_int_equal(cluster_propose(leader, "goes on"), RK_OK);
    cluster_settle(&cluster);
    assert_int_equal(leader->applied, 3);
    cluster_close(&cluster);
}

/* Rule 15: a committed change that is not applied here forbids to campaign. */
static void test_no_campaign_with_an_unapplied_change(void **state)
{
    (void)state;
    cluster_open(&cluster, 3, 3, NULL);
    struct node *node = cluster_node(&cluster, 2);
    struct rk_raft_conf_change change = {.count = 1, .changes = {{RK_RAFT_ADD_LEARNER, 4}}};
    struct rk_buf data;
    rk_buf_init(&data);
    assert_int_equal(rk_raft_conf_change_encode(&data, &change), RK_OK);
    const struct rk_raft_entry entries[] = {{.index = 1,
                                             .term = 1,
                                             .type = RK_RAFT_ENTRY_CONF_V2,
                                             .data = rk_buf_slice(&data)}};
    struct rk_raft_message append = {.type = RK_RAFT_MSG_APP,
                                     .from = 1,
                                     .term = 1,
                                     .commit = 1,
                                     .entries = entries,
                                     .entry_count = 1};
    assert_int_equal(cluster_step(node, append), RK_OK);
    assert_int_equal(rk_raft_campaign(node->raft), RK_OK);
    assert_int_equal(cluster_status(node).role, RK_RAFT_FOLLOWER);
    cluster_settle(&cluster);
    assert_int_equal(node->applied, 1);
    assert_int_equal(rk_raft_campaign(node->raft), RK_OK);
    assert_int_equal(cluster_status(node).role, RK_RAFT_PRE_CANDIDATE);
    rk_buf_fini(&data);
    cluster_close(&cluster);
}

/* What is too much to look at may hold one; such a node could not serve yet anyway. */
static void test_no_campaign_with_much_unapplied(void **state)
{
    (void)state;
    enum { COUNT = 2000 };
    static struct rk_raft_entry entries[COUNT];
    for (uint64_t i = 0; i < COUNT; i++)
        entries[i] = (struct rk_raft_entry){
            .index = i + 1, .term = 1, .data = rk_slice_of_string("some entry")};
    cluster_open(&cluster, 3, 3, NULL);
    struct node *node = cluster_node(&cluster, 2);
    struct rk_raft_message append = {.type = RK_RAFT_MSG_APP,
                                     .from = 1,
                                     .term = 1,
                                     .commit = COUNT,
                                     .entries = entries,
                                     .entry_count = COUNT};
    assert_int_equal(cluster_step(node, append), RK_OK);
    assert_int_equal(rk_raft_campaign(node->raft), RK_OK);
    assert_int_equal(cluster_status(node).role, RK_RAFT_FOLLOWER);
    cluster_settle(&cluster);
    assert_int_equal(node->applied, COUNT);
    assert_int_equal(rk_raft_campaign(node->raft), RK_OK);
    assert_int_equal(cluster_status(node).role, RK_RAFT_PRE_CANDIDATE);
    cluster_close(&cluster);
}

static void test_data_of_changes(void **state)
{
    (void)state;
    struct rk_raft_conf_change change = {
        .transition = RK_RAFT_TRANSITION_JOINT_EXPLICIT,
        .count = 2,
        .changes = {{RK_RAFT_ADD_LEARNER, 1ull << 60}, {RK_RAFT_REMOVE, 7}},
        .context = RK_SLICE_LITERAL("why")};
    struct rk_raft_conf_change back;
    struct rk_buf data;
    rk_buf_init(&data);
    assert_int_equal(rk_raft_conf_change_encode(&data, &change), RK_OK);
    assert_int_equal(rk_raft_conf_change_decode(&back, rk_buf_slice(&data)), RK_OK);
    assert_int_equal(back.transition, change.transition);
    assert_int_equal(back.count, 2);
    assert_true(back.changes[0].id == 1ull << 60);
    assert_int_equal(back.changes[1].op, RK_RAFT_REMOVE);
    assert_true(rk_slice_is_equal(back.context, change.context));
    for (size_t size = 1; size < data.size; size++)
        assert_int_equal(rk_raft_conf_change_decode(&back, rk_slice_of(data.data, size)),
                         RK_EPROTO);
    rk_buf_reset(&data);
    struct rk_raft_conf_change leave = {0};
    assert_int_equal(rk_raft_conf_change_encode(&data, &leave), RK_OK);
    assert_int_equal(data.size, 0);
    rk_buf_fini(&data);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_learner_then_voter),
        cmocka_unit_test(test_one_change_at_a_time),
        cmocka_unit_test(test_joint_change_leaves_by_itself),
        cmocka_unit_test(test_joint_needs_both_halves),
        cmocka_unit_test(test_removed_leader_steps_down),
        cmocka_unit_test(test_impossible_change),
        cmocka_unit_test(test_no_campaign_with_an_unapplied_change),
        cmocka_unit_test(test_no_campaign_with_much_unapplied),
        cmocka_unit_test(test_data_of_changes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
