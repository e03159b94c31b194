/* Elections: rules 1, 9, 10, 11, 12, 14 (transfer), 18, 20 and early vote. */
#include "cluster.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

static struct cluster cluster;

static struct rk_raft_message vote_request(const struct node *voter, uint64_t from,
                                           uint64_t term)
{
    struct rk_raft_status status = cluster_status(voter);
    return (struct rk_raft_message){.type = RK_RAFT_MSG_VOTE,
                                    .from = from,
                                    .term = term,
                                    .index = status.last_index,
                                    .log_term = rk_raft_term(voter->raft)};
}

static size_t count_packets(uint8_t type, uint64_t from)
{
    size_t count = 0;
    for (size_t i = 0; i < cluster.packet_count; i++)
        count += cluster.packets[i].data[1] == type && cluster.packets[i].from == from;
    return count;
}

static void drop_all(void)
{
    while (cluster.packet_count > 0)
        cluster_drop(&cluster, 0);
}

static void test_one_leader(void **state)
{
    (void)state;
    cluster_open(&cluster, 3, 3, NULL);
    cluster_tick(&cluster, 60);
    struct node *leader = cluster_leader(&cluster);
    assert_non_null(leader);
    for (uint64_t id = 1; id <= 3; id++)
        assert_int_equal(rk_raft_leader(cluster_node(&cluster, id)->raft), leader->id);
    uint64_t term = rk_raft_term(leader->raft);
    cluster_tick(&cluster, 200);
    assert_int_equal(rk_raft_term(leader->raft), term); /* nobody disturbs it */
    assert_true(rk_raft_has_committed_in_term(leader->raft));
    cluster_close(&cluster);
}

static void test_single_node(void **state)
{
    (void)state;
    cluster_open(&cluster, 1, 1, NULL);
    cluster_tick(&cluster, 30);
    assert_ptr_equal(cluster_leader(&cluster), cluster_node(&cluster, 1));
    assert_int_equal(cluster_propose(cluster_node(&cluster, 1), "x"), RK_OK);
    cluster_settle(&cluster);
    assert_int_equal(cluster_node(&cluster, 1)->applied, 2);
    cluster_close(&cluster);
}

/* Rule 1: the vote reply leaves only once term and vote are durable. */
static void test_vote_waits_for_disk(void **state)
{
    (void)state;
    cluster_open(&cluster, 3, 3, NULL);
    struct node *voter = cluster_node(&cluster, 2);
    voter->is_disk_slow = true;
    assert_int_equal(cluster_step(voter, vote_request(voter, 1, 1)), RK_OK);
    cluster_turn(&cluster, voter);
    assert_int_equal(count_packets(RK_RAFT_MSG_VOTE_RESP, 2), 0);
    assert_int_equal(voter->write_count, 1);
    assert_int_equal(voter->writes[0].hard_state.vote, 1);
    cluster_sync(&cluster, voter, 1);
    cluster_turn(&cluster, voter);
    assert_int_equal(count_packets(RK_RAFT_MSG_VOTE_RESP, 2), 1);
    drop_all();

    /* After a crash the vote is still known. */
    cluster_crash(&cluster, voter);
    cluster_restart(&cluster, voter);
    voter->is_disk_slow = false;
    assert_int_equal(cluster_step(voter, vote_request(voter, 3, 1)), RK_OK);
    cluster_turn(&cluster, voter);
    assert_int_equal(cluster_status(voter).hard_state.vote, 1);
    cluster_close(&cluster);
}

/* Rule 1: a candidate's own vote counts when it is durable. */
static void test_own_vote_waits_for_disk(void **state)
{
    (void)state;
    cluster_open(&cluster, 3, 3, NULL);
    struct node *candidate = cluster_node(&cluster, 1);
    cluster_cut(&cluster, 1, 3, true);
    candidate->is_disk_slow = true;
    assert_int_equal(rk_raft_campaign(candidate->raft), RK_OK);
    cluster_settle(&cluster);
    assert_int_equal(cluster_status(candidate).role, RK_RAFT_CANDIDATE);
    assert_true(candidate->write_count > 0);
    cluster_sync(&cluster, candidate, candidate->write_count);
    cluster_settle(&cluster);
    assert_true(rk_raft_is_leader(candidate->raft));
    cluster_close(&cluster);
}

/* Rule 1: the others alone do not make it lead, or a crash could let it win one term twice,
 * the second time without what it appended in it. */
static void test_leads_only_with_its_own_vote(void **state)
{
    (void)state;
    cluster_open(&cluster, 3, 3, NULL);
    struct node *candidate = cluster_node(&cluster, 1);
    candidate->is_disk_slow = true;
    assert_int_equal(rk_raft_campaign(candidate->raft), RK_OK);
    cluster_settle(&cluster);
    assert_int_equal(cluster_status(cluster_node(&cluster, 2)).hard_state.vote, 1);
    assert_int_equal(cluster_status(cluster_node(&cluster, 3)).hard_state.vote, 1);
    assert_int_equal(cluster_status(candidate).role, RK_RAFT_CANDIDATE);
    cluster_sync(&cluster, candidate, candidate->write_count);
    cluster_settle(&cluster);
    assert_true(rk_raft_is_leader(candidate->raft));
    cluster_close(&cluster);
}

/* Rule 9. */
static void test_stepping_down_keeps_the_vote(void **state)
{
    (void)state;
    cluster_open(&cluster, 3, 3, NULL);
    cluster_elect(&cluster, 1);
    struct node *leader = cluster_node(&cluster, 1);
    uint64_t term = rk_raft_term(leader->raft);
    cluster_isolate(&cluster, 1, true);
    for (int i = 0; i < 40 && rk_raft_is_leader(leader->raft); i++)
        assert_int_equal(rk_raft_tick(leader->raft), RK_OK);
    assert_false(rk_raft_is_leader(leader->raft));
    assert_int_equal(cluster_status(leader).hard_state.vote, 1);
    assert_int_equal(rk_raft_term(leader->raft), term);
    cluster_close(&cluster);
}

/* Rule 10: the voter is as it was; the answers carry the right terms. */
static void test_pre_vote_changes_nothing(void **state)
{
    (void)state;
    cluster_open(&cluster, 3, 3, NULL);
    struct node *voter = cluster_node(&cluster, 2);
    struct rk_raft_message request = vote_request(voter, 1, 7);
    request.type = RK_RAFT_MSG_PRE_VOTE;
    assert_int_equal(cluster_step(voter, request), RK_OK);
    struct rk_raft_status status = cluster_status(voter);
    assert_int_equal(status.hard_state.term, 0);
    assert_int_equal(status.hard_state.vote, 0);
    cluster_turn(&cluster, voter);
    assert_int_equal(count_packets(RK_RAFT_MSG_PRE_VOTE_RESP, 2), 1);
    struct rk_raft_message answer;
    struct rk_arena arena;
    struct rk_reader reader;
    rk_arena_init(&arena);
    rk_reader_init(&reader, rk_slice_of(cluster.packets[0].data, cluster.packets[0].size));
    assert_int_equal(rk_raft_message_decode(&answer, &arena, &reader), RK_OK);
    assert_int_equal(answer.term, 7);
    assert_false(answer.reject);
    rk_arena_fini(&arena);
    cluster_close(&cluster);
}

/* Rules 10 and 11: one that comes back from a partition disturbs nobody. */
static void test_returning_node_does_not_disturb(void **state)
{
    (void)state;
    cluster_open(&cluster, 3, 3, NULL);
    cluster_elect(&cluster, 1);
    uint64_t term = rk_raft_term(cluster_node(&cluster, 1)->raft);
    cluster_isolate(&cluster, 3, true);
    cluster_tick(&cluster, 100);
    assert_int_equal(rk_raft_term(cluster_node(&cluster, 3)->raft), term);
    cluster_isolate(&cluster, 3, false);
    cluster_tick(&cluster, 40);
    assert_ptr_equal(cluster_leader(&cluster), cluster_node(&cluster, 1));
    assert_int_equal(rk_raft_term(cluster_node(&cluster, 1)->raft), term);
    assert_int_equal(rk_raft_leader(cluster_node(&cluster, 3)->raft), 1);
    cluster_close(&cluster);
}

/* Rule 11: a voter that hears its leader ignores even a real candidate. */
static void test_voters_ignore_candidates_in_lease(void **state)
{
    (void)state;
    cluster_open(&cluster, 3, 3, NULL);
    cluster_elect(&cluster, 1);
    struct node *voter = cluster_node(&cluster, 2);
    uint64_t term = rk_raft_term(voter->raft);
    assert_int_equal(cluster_step(voter, vote_request(voter, 3, term + 5)), RK_OK);
    assert_int_equal(rk_raft_term(voter->raft), term);
    assert_int_equal(rk_raft_leader(voter->raft), 1);
    /* Once the leader was silent for an election timeout, the same request counts. */
    for (int i = 0; i < 10; i++)
        assert_int_equal(rk_raft_tick(voter->raft), RK_OK);
    assert_int_equal(cluster_step(voter, vote_request(voter, 3, term + 5)), RK_OK);
    assert_int_equal(rk_raft_term(voter->raft), term + 5);
    cluster_close(&cluster);
}

static void test_leader_without_quorum_steps_down(void **state)
{
    (void)state;
    cluster_open(&cluster, 3, 3, NULL);
    cluster_elect(&cluster, 1);
    cluster_isolate(&cluster, 1, true);
    cluster_tick(&cluster, 21);
    assert_false(rk_raft_is_leader(cluster_node(&cluster, 1)->raft));
    cluster_tick(&cluster, 40);
    struct node *leader = cluster_leader(&cluster);
    assert_non_null(leader);
    assert_int_not_equal(leader->id, 1);
    cluster_close(&cluster);
}

/* Rule 12. */
static void test_transfer(void **state)
{
    (void)state;
    cluster_open(&cluster, 3, 3, NULL);
    cluster_elect(&cluster, 1);
    struct node *leader = cluster_node(&cluster, 1);
    assert_int_equal(rk_raft_transfer(cluster_node(&cluster, 2)->raft, 3), RK_ENOTLEADER);
    assert_int_equal(rk_raft_transfer(leader->raft, 9), RK_ENOENT);
    assert_int_equal(rk_raft_transfer(leader->raft, 1), RK_EEXIST);

    /* One that lags gets the log first; proposals are refused meanwhile. */
    cluster_cut(&cluster, 1, 2, true);
    assert_int_equal(cluster_propose(leader, "a"), RK_OK);
    cluster_settle(&cluster);
    assert_int_equal(rk_raft_transfer(leader->raft, 2), RK_OK);
    assert_int_equal(cluster_propose(leader, "b"), RK_EDROPPED);
    assert_int_equal(cluster_status(leader).transferee, 2);
    cluster_settle(&cluster);
    assert_int_equal(cluster.sent[RK_RAFT_MSG_TIMEOUT_NOW], 0);
    cluster_cut(&cluster, 1, 2, false);
    cluster_tick(&cluster, 4);
    assert_ptr_equal(cluster_leader(&cluster), cluster_node(&cluster, 2));
    cluster_close(&cluster);
}

static void test_transfer_is_given_up(void **state)
{
    (void)state;
    cluster_open(&cluster, 3, 3, NULL);
    cluster_elect(&cluster, 1);
    struct node *leader = cluster_node(&cluster, 1);
    cluster_crash(&cluster, cluster_node(&cluster, 2));
    assert_int_equal(rk_raft_transfer(leader->raft, 2), RK_OK);
    assert_int_equal(cluster_propose(leader, "a"), RK_EDROPPED);
    cluster_tick(&cluster, 11);
    assert_int_equal(cluster_status(leader).transferee, 0);
    assert_int_equal(cluster_propose(leader, "a"), RK_OK);
    cluster_close(&cluster);
}

/* Rule 20: its heartbeats would go on for ever. */
static void test_hung_disk_loses_the_leadership(void **state)
{
    (void)state;
    cluster_open(&cluster, 3, 3, NULL);
    cluster_elect(&cluster, 1);
    struct node *leader = cluster_node(&cluster, 1);
    leader->is_disk_slow = true;
    assert_int_equal(cluster_propose(leader, "a"), RK_OK);
    cluster_settle(&cluster);
    cluster_tick(&cluster, 39);
    assert_true(rk_raft_is_leader(leader->raft));
    cluster_tick(&cluster, 60);
    assert_false(rk_raft_is_leader(leader->raft));
    assert_non_null(cluster_leader(&cluster));
    /* It does not come back as long as nothing moves. */
    cluster_crash(&cluster, cluster_leader(&cluster));
    cluster_tick(&cluster, 60);
    assert_false(rk_raft_is_leader(leader->raft));
    cluster_close(&cluster);
}

static void must_not_vote(struct rk_raft_options *options)
{
    if (options->id == 3) options->must_not_vote = true;
}

/* Rule 18. */
static void test_node_with_lost_data_neither_votes_nor_leads(void **state)
{
    (void)state;
    cluster_open(&cluster, 3, 3, must_not_vote);
    struct node *lost = cluster_node(&cluster, 3);
    assert_int_equal(rk_raft_campaign(lost->raft), RK_OK);
    cluster_settle(&cluster);
    assert_int_equal(cluster_status(lost).role, RK_RAFT_FOLLOWER);
    cluster_cut(&cluster, 1, 2, true);
    assert_int_equal(rk_raft_campaign(cluster_node(&cluster, 1)->raft), RK_OK);
    cluster_tick(&cluster, 60);
    assert_null(cluster_leader(&cluster));
    cluster_close(&cluster);
}

static uint64_t early_seed;

/* An election timeout that would not do, so that only evidence can be quick enough. */
static void early(struct rk_raft_options *options)
{
    options->early_vote = true;
    options->election_tick = 100;
    options->election_jitter = 50;
    options->seed += early_seed * 104729;
}

static size_t ticks_until_leader(size_t limit)
{
    for (size_t ticks = 1; ticks <= limit; ticks++) {
        cluster_tick(&cluster, 1);
        if (cluster_leader(&cluster) != NULL) return ticks;
    }
    return limit + 1;
}

static void test_early_vote(void **state)
{
    (void)state;
    for (early_seed = 0; early_seed < 20; early_seed++) {
        cluster_open(&cluster, 3, 3, early);
        assert_true(ticks_until_leader(30) <= 20); /* a first start is evidence */
        struct node *leader = cluster_leader(&cluster);
        cluster_tick(&cluster, 5);
        uint64_t dead = leader->id;
        cluster_crash(&cluster, leader);
        for (uint64_t id = 1; id <= 3; id++)
            if (id != dead) rk_raft_leader_lost_evidence(cluster_node(&cluster, id)->raft);
        assert_true(ticks_until_leader(30) <= 20);
        cluster_close(&cluster);
    }
}

static void test_evidence_of_one_disturbs_nothing(void **state)
{
    (void)state;
    cluster_open(&cluster, 3, 3, early);
    cluster_tick(&cluster, 30);
    struct node *leader = cluster_leader(&cluster);
    assert_non_null(leader);
    uint64_t term = rk_raft_term(leader->raft);
    uint64_t other = leader->id == 3 ? 1 : leader->id + 1;
    cluster_cut(&cluster, leader->id, other, true);
    rk_raft_leader_lost_evidence(cluster_node(&cluster, other)->raft);
    cluster_tick(&cluster, 8);
    assert_ptr_equal(cluster_leader(&cluster), leader);
    assert_int_equal(rk_raft_term(leader->raft), term);
    cluster_cut(&cluster, leader->id, other, false);
    cluster_tick(&cluster, 8);
    assert_ptr_equal(cluster_leader(&cluster), leader);
    assert_int_equal(rk_raft_term(leader->raft), term);
    cluster_close(&cluster);
}

static void defaults(struct rk_raft_options *options)
{
    struct rk_raft_options kept = *options;
    rk_raft_options_init(options);
    options->id = kept.id;
    options->seed = kept.seed * 31;
    options->conf = kept.conf;
}

/* At defaults, ticks of 10 ms: a killed leader is replaced in less than 3 s. */
static void test_killed_leader_is_replaced_in_time(void **state)
{
    (void)state;
    for (uint64_t seed = 0; seed < 30; seed++) {
        cluster_open(&cluster, 3, 3, NULL);
        for (uint64_t id = 1; id <= 3; id++) {
            struct node *node = cluster_node(&cluster, id);
            cluster_crash(&cluster, node);
            defaults(&node->options);
            node->options.seed += seed * 977;
            cluster_restart(&cluster, node);
        }
        cluster_tick(&cluster, 400);
        struct node *leader = cluster_leader(&cluster);
        assert_non_null(leader);
        cluster_crash(&cluster, leader);
        assert_true(ticks_until_leader(400) < 290);
        cluster_close(&cluster);
    }
}

static void test_options(void **state)
{
    (void)state;
    struct mem_store store;
    struct rk_arena arena;
    struct rk_raft *raft;
    struct rk_raft_options options;
    rk_arena_init(&arena);
    mem_store_init(&store, &arena);
    struct rk_raft_store face = mem_store_face(&store);
    rk_raft_options_init(&options);
    assert_int_equal(rk_raft_open(&raft, &options, &face), RK_EINVAL); /* no id */
    options.id = 1;
    options.early_vote = true;
    options.read_mode = RK_RAFT_READ_LEASE;
    assert_int_equal(rk_raft_open(&raft, &options, &face), RK_EINVAL); /* rule 14 */
    options.early_vote = false;
    options.check_quorum = false;
    assert_int_equal(rk_raft_open(&raft, &options, &face), RK_EINVAL);
    options.check_quorum = true;
    options.hard_state = (struct rk_raft_hard_state){3, 1, 9};
    assert_int_equal(rk_raft_open(&raft, &options, &face), RK_ECORRUPT); /* no such log */
    mem_store_fini(&store);
    rk_arena_fini(&arena);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_one_leader),
        cmocka_unit_test(test_single_node),
        cmocka_unit_test(test_vote_waits_for_disk),
        cmocka_unit_test(test_own_vote_waits_for_disk),
        cmocka_unit_test(test_leads_only_with_its_own_vote),
        cmocka_unit_test(test_stepping_down_keeps_the_vote),
        cmocka_unit_test(test_pre_vote_changes_nothing),
        cmocka_unit_test(test_returning_node_does_not_disturb),
        cmocka_unit_test(test_voters_ignore_candidates_in_lease),
        cmocka_unit_test(test_leader_without_quorum_steps_down),
        cmocka_unit_test(test_transfer),
        cmocka_unit_test(test_transfer_is_given_up),
        cmocka_unit_test(test_hung_disk_loses_the_leadership),
        cmocka_unit_test(test_node_with_lost_data_neither_votes_nor_leads),
        cmocka_unit_test(test_early_vote),
        cmocka_unit_test(test_evidence_of_one_disturbs_nothing),
        cmocka_unit_test(test_killed_leader_is_replaced_in_time),
        cmocka_unit_test(test_options),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
