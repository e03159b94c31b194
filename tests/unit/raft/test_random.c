/* Random histories: every step is drawn from a seed, and the promises are checked as they
 * go (cluster.c): one leader a term, nobody applies something else, reads are never older
 * than what anybody had seen when they were asked. At the end everybody agrees.
 * RUKUN_RAFT_SEED runs one seed, RUKUN_RAFT_SEEDS so many. */
#include "cluster.h"

#include "raft/quorum.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

enum {
    NODES = 5,
    STEPS = 4000,
    READS_MAX = STEPS,
    PACKETS_MAX = 150,
};

static struct cluster cluster;
static struct rk_random rng;
static uint64_t floors[READS_MAX + 1]; /* what had been applied when the read came */
static uint64_t read_count;
static uint64_t writes;
static uint64_t shape;

static uint64_t below(uint64_t bound)
{
    return rk_random_below(&rng, bound);
}
static bool chance(uint64_t percent)
{
    return below(100) < percent;
}

static void change_options(struct rk_raft_options *options)
{
    options->seed ^= shape * 0x9e3779b97f4a7c15u;
    options->early_vote = (shape & 1) != 0;
    options->is_eager = (shape & 2) != 0;
    options->apply_unstable = (shape & 4) != 0;
    if ((shape & 8) != 0) {
        options->max_cached_bytes = 0;
        options->max_message_bytes = 40;
        options->max_inflight_messages = 3;
        options->max_inflight_bytes = 0;
        options->max_committed_bytes_per_ready = 60;
        options->max_uncommitted_bytes = 300;
    }
    if ((shape & 16) != 0) options->check_quorum = false;
    /* A ready takes one to three entries. */
    if ((shape & 64) != 0) options->max_append_bytes = 3 * RK_RAFT_APPEND_OVERHEAD;
    if ((shape & 48) == 48) {
        options->pre_vote = false;
        options->early_vote = false;
    }
}

static void on_read(struct cluster *in, struct node *node,
                    const struct rk_raft_read_state *read)
{
    (void)in;
    (void)node;
    assert_in_range(read->request, 1, read_count);
    if (!read->is_lost) assert_true(read->index >= floors[read->request]);
}

static struct node *any_up(void)
{
    for (int i = 0; i < 20; i++) {
        struct node *node = cluster_node(&cluster, 1 + below(NODES));
        if (node->is_up) return node;
    }
    return NULL;
}

static void random_change(struct node *node)
{
    struct rk_raft_conf_change change = {0};
    struct rk_raft_conf_state conf;
    rk_raft_conf(node->raft, &conf);
    change.count = 1 + (uint32_t)below(2);
    for (uint32_t i = 0; i < change.count; i++) {
        /* Two nodes stay, so that there is always somebody to go on with. */
        change.changes[i].id = 3 + below(NODES - 2);
        static const enum rk_raft_conf_op ops[] = {RK_RAFT_ADD_VOTER, RK_RAFT_REMOVE,
                                                   RK_RAFT_ADD_LEARNER};
        change.changes[i].op = ops[below(3)];
    }
    if (conf.voters_outgoing.count > 0 && chance(50)) change.count = 0;
    if (change.count > 0 && chance(20))
        change.transition = RK_RAFT_TRANSITION_JOINT_EXPLICIT;
    if (chance(10)) change.count = 0;
    if (change.count == 0) change.transition = RK_RAFT_TRANSITION_AUTO;
    enum rk_status status = rk_raft_propose_conf(node->raft, &change, NULL);
    assert_true(status != RK_ENOMEM && status != RK_EINVAL && status != RK_EPROTO);
}

static void disturb(struct node *node)
{
    switch (below((shape & 128) != 0 ? 12 : 9)) {
    case 0:
    case 1: cluster_crash(&cluster, node); break;
    case 2:
    case 3: cluster_cut(&cluster, 1 + below(NODES), 1 + below(NODES), chance(50)); break;
    case 4: memset(cluster.is_cut, 0, sizeof(cluster.is_cut)); break;
    case 5: (void)rk_raft_forget_leader(node->raft); break;
    case 6: rk_raft_leader_lost_evidence(node->raft); break;
    case 7: rk_raft_report_unreachable(node->raft, 1 + below(NODES)); break;
    case 8: rk_raft_report_snapshot(node->raft, 1 + below(NODES), chance(50)); break;
    case 9:
    case 10:
    case 11: rk_raft_hold_appends(node->raft, chance(50)); break;
    }
}

static void restart_somebody(void)
{
    struct node *node = cluster_node(&cluster, 1 + below(NODES));
    if (!node->is_up) cluster_restart(&cluster, node);
}

static void move_packets(void)
{
    while (cluster.packet_count > PACKETS_MAX)
        cluster_drop(&cluster, below(cluster.packet_count));
    if (cluster.packet_count == 0) return;
    uint64_t first = chance(70) ? 0 : below(cluster.packet_count);
    if (chance(6))
        cluster_drop(&cluster, first);
    else if (chance(5))
        cluster_duplicate(&cluster, first);
    else
        cluster_deliver(&cluster, first);
}

static void ask(struct node *node)
{
    floors[read_count + 1] = cluster.highest_applied;
    enum rk_status status = rk_raft_read_index(node->raft, read_count + 1);
    assert_true(status == RK_OK || status == RK_ENOTLEADER);
    if (status == RK_OK) read_count++;
}

static void random_step(void)
{
    struct node *node = any_up();
    uint64_t dice = below(100);
    if (node == NULL) {
        restart_somebody();
        return;
    }
    if (dice < 40) {
        move_packets();
    } else if (dice < 60) {
        cluster_turn(&cluster, node);
    } else if (dice < 75) {
        cluster_sync(&cluster, node, 1 + below(3));
    } else if (dice < 85) {
        assert_int_equal(rk_raft_tick(node->raft), RK_OK);
    } else if (dice < 92) {
        char text[32];
        snprintf(text, sizeof(text), "write %llu", (unsigned long long)++writes);
        struct node *leader = cluster_leader(&cluster);
        if (leader != NULL) (void)!cluster_propose(leader, text);
    } else if (dice < 95) {
        if (read_count < READS_MAX) ask(node);
    } else if (dice < 96) {
        if (rk_raft_is_leader(node->raft)) random_change(node);
    } else if (dice < 97) {
        cluster_compact(&cluster, node);
    } else if (dice < 98) {
        (void)!rk_raft_transfer(node->raft, 1 + below(NODES));
    } else if (dice < 99) {
        disturb(node);
    } else {
        restart_somebody();
    }
}

/* Members run, others do not: a removed node that never heard of it may campaign for ever,
 * and without pre-vote it disturbs the others, which is why operators stop it. */
static void follow_the_membership(void)
{
    struct node *newest = NULL;
    struct rk_raft_conf_state conf;
    for (uint64_t id = 1; id <= NODES; id++) {
        struct node *node = cluster_node(&cluster, id);
        if (node->is_up && (newest == NULL || node->applied > newest->applied))
            newest = node;
    }
    rk_raft_conf(newest->raft, &conf);
    for (uint64_t id = 1; id <= NODES; id++) {
        struct node *node = cluster_node(&cluster, id);
        bool is_member = rk_raft_conf_has_member(&conf, id);
        if (is_member && !node->is_up) cluster_restart(&cluster, node);
        if (!is_member && node->is_up) cluster_crash(&cluster, node);
    }
}

/* All faults end: there is a leader, a write gets through, and who belongs to the cluster
 * has applied the same. */
static void finish(void)
{
    memset(cluster.is_cut, 0, sizeof(cluster.is_cut));
    for (uint64_t id = 1; id <= NODES; id++) {
        struct node *node = cluster_node(&cluster, id);
        if (!node->is_up) cluster_restart(&cluster, node);
        rk_raft_hold_appends(node->raft, false);
    }
    for (int round = 0; round < 5; round++) {
        follow_the_membership();
        cluster_tick(&cluster, 100);
    }
    struct node *leader = cluster_leader(&cluster);
    assert_non_null(leader);
    assert_int_equal(cluster_propose(leader, "the last word"), RK_OK);
    cluster_tick(&cluster, 60);
    leader = cluster_leader(&cluster);
    assert_non_null(leader);
    assert_int_equal(leader->applied, cluster_status(leader).last_index);
    struct rk_raft_conf_state conf;
    rk_raft_conf(leader->raft, &conf);
    for (uint64_t id = 1; id <= NODES; id++)
        if (rk_raft_conf_has_member(&conf, id))
            assert_int_equal(cluster_node(&cluster, id)->applied, leader->applied);
}

static void run_seed(uint64_t seed)
{
    rk_random_init(&rng, seed);
    shape = seed;
    read_count = 0;
    writes = 0;
    cluster_open(&cluster, NODES, 3, change_options);
    cluster.on_read = on_read;
    for (int step = 0; step < STEPS; step++)
        random_step();
    finish();
    cluster_close(&cluster);
}

static void test_random(void **state)
{
    (void)state;
    const char *one = getenv("RUKUN_RAFT_SEED");
    const char *many = getenv("RUKUN_RAFT_SEEDS");
    if (one != NULL) {
        run_seed(strtoull(one, NULL, 10));
        return;
    }
    uint64_t seeds = many != NULL ? strtoull(many, NULL, 10) : 400;
    for (uint64_t seed = 0; seed < seeds; seed++) {
        /* On stderr, so that the last line names the seed that failed or aborted. */
        fprintf(stderr, "\rseed %llu ", (unsigned long long)seed);
        run_seed(seed);
    }
    fprintf(stderr, "\n");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_random),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
