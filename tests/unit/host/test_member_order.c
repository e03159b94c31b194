/* What must not happen while members change: a vote too early, too late, or lost. */
#include "load.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

/* As the leader of group 0 sees it at any moment: group 0 is the last to let a node go, and
 * the node stands in the table until then. */
static void check_order(struct load *load, uint32_t voters, const char *leaving)
{
    int leader = cluster_leader(load->cluster, 0);
    if (leader < 0 || load->cluster->nodes[leader].host == NULL) return;
    struct rk_host_status status = cluster_status(load->cluster, (uint32_t)leader);
    if (strcmp(status.groups[0].role, "leader") != 0) return;
    uint32_t counting = 0;
    for (uint32_t group = 0; group < status.group_count; group++)
        counting += status.groups[group].voter_count == voters;
    if (counting > 0) assert_int_equal(status.groups[0].voter_count, voters);
    const struct rk_host_node_status *node = cluster_node(&status, leaving);
    if (node == NULL || node->number == 0) assert_int_equal(counting, 0);
}

static void test_one_that_is_behind_gets_no_vote(void **state)
{
    struct load load;
    (void)state;
    load_open(&load, 3, 0);
    load_ask(&load, 0, RK_OP_CLUSTER_ADD, "{\"name\":\"n4\",\"peer\":\"127.0.0.1:7600\"}");
    /* Nobody counts on it before it came. */
    load_run(&load, 2000);
    for (uint32_t group = 0; group <= 3; group++)
        assert_int_equal(cluster_status(load.cluster, 0).groups[group].learner_count, 0);
    cluster_grow(load.cluster);
    for (uint32_t i = 0; i < 10000; i++) {
        struct rk_host_status status = cluster_status(load.cluster, 0);
        if (strcmp(cluster_node(&status, "n4")->role, "learner") == 0) break;
        load_run(&load, 1);
    }
    /* It is not heard any more: no vote for it, though four would have a majority. */
    for (uint32_t node = 0; node < 3; node++)
        cluster_cut(load.cluster, node, 3, true);
    load_run(&load, 2500);
    load_ask(&load, 0, RK_OP_CLUSTER_PROMOTE, "{\"name\":\"n4\"}");
    for (uint32_t i = 0; i < 3000; i++) {
        load_run(&load, 1);
        for (uint32_t group = 0; group <= 3; group++)
            assert_int_equal(cluster_status(load.cluster, 0).groups[group].voter_count, 3);
    }
    for (uint32_t node = 0; node < 3; node++)
        cluster_cut(load.cluster, node, 3, false);
    load_wait_members(&load, 0, 4);
    /* A learner goes without ever having had a vote. */
    load_ask(&load, 0, RK_OP_CLUSTER_ADD, "{\"name\":\"n5\",\"peer\":\"127.0.0.1:7600\"}");
    cluster_grow(load.cluster);
    for (uint32_t i = 0; i < 10000; i++) {
        struct rk_host_status status = cluster_status(load.cluster, 0);
        if (strcmp(cluster_node(&status, "n5")->role, "learner") == 0) break;
        load_run(&load, 1);
    }
    load_ask(&load, 0, RK_OP_CLUSTER_REMOVE, "{\"name\":\"n5\"}");
    load_wait_members(&load, 0, 4);
    load_drop(&load, 4);
    load_close(&load);
}

/* The new number takes the place of the old one in one step. */
static void test_a_replacement_costs_no_vote(void **state)
{
    struct load load;
    (void)state;
    load_open(&load, 3, 16384);
    cluster_kill(load.cluster, 1, RK_MEMFS_CRASH_RANDOM);
    load_forget(&load);
    cluster_wipe(load.cluster, 1);
    load_run(&load, 1500);
    cluster_start(load.cluster, 1);
    load_ask(&load, 0, RK_OP_CLUSTER_REPLACE, "{\"name\":\"n2\"}");
    for (uint32_t i = 0; i < 20000 && !load_is_done(load.cluster, 0, 3); i++) {
        load_run(&load, 1);
        struct rk_host_status status = cluster_status(load.cluster, 0);
        for (uint32_t group = 0; group <= 3; group++)
            assert_int_equal(status.groups[group].voter_count, 3);
    }
    assert_true(load_is_done(load.cluster, 0, 3));
    load_close(&load);
}

/* Those that lead hand over at once and go; group 0 is last. */
static void test_the_order_of_leaving(void **state)
{
    struct load load;
    (void)state;
    load_open(&load, 3, 0);
    load_add(&load, 0, 4);
    for (uint32_t round = 0; round < 2; round++) {
        load_run(&load, 12000); /* leaders are spread */
        uint32_t victim = round == 0 ? 0 : 3, asked = 1;
        char text[64], name[8];
        snprintf(name, sizeof(name), "n%u", victim + 1);
        snprintf(text, sizeof(text), "{\"name\":\"%s\"}", name);
        /* Placed by hand a leader stays, but not on one that leaves. */
        char move[64];
        snprintf(move, sizeof(move), "{\"group\":2,\"to\":\"%s\"}", name);
        load_ask(&load, asked, RK_OP_CLUSTER_TRANSFER, move);
        assert_int_equal(cluster_leader(load.cluster, 2), victim);
        load_ask(&load, asked, RK_OP_CLUSTER_REMOVE, text);
        uint32_t ms = 0;
        for (; ms < 20000 && !load_is_done(load.cluster, asked, 3); ms++) {
            load_run(&load, 1);
            check_order(&load, 4, name);
        }
        assert_true(ms < 4000);
        load_drop(&load, victim);
        if (round == 0) load_add(&load, 1, 4);
        if (round == 0) assert_int_equal(load.cluster->count, 5);
    }
    /* After a while nobody remembers them. */
    load_run(&load, 62000);
    for (uint32_t node = 1; node < 3; node++) {
        struct rk_host_status status = cluster_status(load.cluster, node);
        assert_int_equal(status.node_count, 3);
        assert_null(cluster_node(&status, "n1"));
    }
    load_close(&load);
}

/* As before, but at the moment when the other one died: silence does not tell yet. */
static void test_a_change_waits_when_a_link_fell(void **state)
{
    struct load load;
    (void)state;
    load_open(&load, 3, 0);
    uint32_t leader = (uint32_t)cluster_leader(load.cluster, 0);
    uint32_t dead = (leader + 1) % 3, leaves = (leader + 2) % 3;
    char text[64];
    snprintf(text, sizeof(text), "{\"name\":\"n%u\"}", leaves + 1);
    cluster_kill(load.cluster, dead, RK_MEMFS_CRASH_KEEP_ALL);
    load_forget(&load);
    load_ask(&load, leader, RK_OP_CLUSTER_REMOVE, text);
    load_run(&load, 5000);
    for (uint32_t group = 0; group <= 3; group++)
        assert_int_equal(cluster_status(load.cluster, leader).groups[group].voter_count, 3);
    uint32_t done = load.done;
    load_run(&load, 1000);
    assert_true(load.done > done + 50);
    cluster_start(load.cluster, dead);
    load_wait_members(&load, leader, 2);
    load_drop(&load, leaves);
    load_close(&load);
}

static void lose_snapshots(struct cluster *cluster, struct packet *packet)
{
    (void)cluster;
    if (packet->link == RK_LINK_SNAPSHOT) rk_buf_reset(&packet->bytes);
}

/* One is up, but needs a snapshot that does not get through: it can not carry the group. */
static void test_a_change_waits_for_one_that_is_behind(void **state)
{
    struct load load;
    (void)state;
    load_open(&load, 3, 16384);
    uint32_t leader = (uint32_t)cluster_leader(load.cluster, 0);
    uint32_t late = (leader + 1) % 3, leaves = (leader + 2) % 3;
    char text[64];
    snprintf(text, sizeof(text), "{\"name\":\"n%u\"}", leaves + 1);
    cluster_kill(load.cluster, late, RK_MEMFS_CRASH_KEEP_ALL);
    load_forget(&load);
    load_run(&load, 6000);
    load.cluster->spoil = lose_snapshots;
    cluster_start(load.cluster, late);
    load_run(&load, 1000);
    load_ask(&load, leader, RK_OP_CLUSTER_REMOVE, text);
    load_run(&load, 3000);
    for (uint32_t group = 1; group <= 3; group++)
        assert_int_equal(cluster_status(load.cluster, leader).groups[group].voter_count, 3);
    uint32_t done = load.done;
    load_run(&load, 1000);
    assert_true(load.done > done + 50);
    load.cluster->spoil = NULL;
    load_wait_members(&load, leader, 2);
    load_drop(&load, leaves);
    load_close(&load);
}

enum { SECTION_RAFT = 1, SECTION_SNAP_CHUNK = 6 };

/* What group 1 says to n5 is lost. */
static void keep_group_1_from_n5(struct cluster *cluster, struct packet *packet)
{
    struct rk_reader in;
    struct rk_buf left;
    (void)cluster;
    if (packet->to != 4) return;
    rk_buf_init(&left);
    rk_reader_init(&in, rk_buf_slice(&packet->bytes));
    (void)rk_read_bytes(&in, 1 + 6 * 8);
    (void)rk_read_blob(&in);
    size_t at = packet->bytes.size - rk_reader_left(&in);
    rk_buf_append(&left, packet->bytes.data, at);
    while (rk_reader_left(&in) > 0) {
        uint16_t kind = rk_read_u16(&in);
        struct rk_slice body = rk_read_bytes(&in, rk_read_u32(&in));
        assert_false(in.is_failed);
        if ((kind != SECTION_RAFT && kind != SECTION_SNAP_CHUNK) || body.data[0] != 1)
            rk_buf_append(&left, packet->bytes.data + at, body.size + 6);
        at += body.size + 6;
    }
    assert_int_equal(rk_buf_check(&left), RK_OK);
    rk_buf_fini(&packet->bytes);
    packet->bytes = left;
}

static void wait_counts(struct load *load, uint32_t node, uint32_t group, uint32_t voters,
                        uint32_t learners)
{
    for (uint32_t i = 0; i < 10000; i++) {
        struct rk_host_status status = cluster_status(load->cluster, node);
        if (status.groups[group].voter_count == voters &&
            status.groups[group].learner_count == learners)
            return;
        load_run(load, 1);
    }
    fail();
}

/* A new node leads group 0 and has nothing of group 1 yet: that it knows of nobody there
 * who needs the one that leaves does not mean that nobody does. */
static void test_who_knows_nothing_lets_nobody_go(void **state)
{
    struct load load;
    (void)state;
    load_open(&load, 3, 0);
    load_add(&load, 1, 4);
    load_ask(&load, 1, RK_OP_CLUSTER_REMOVE, "{\"name\":\"n1\"}");
    load_wait_members(&load, 1, 3);
    load_drop(&load, 0);
    load.cluster->spoil = keep_group_1_from_n5;
    cluster_grow(load.cluster);
    load_ask(&load, 1, RK_OP_CLUSTER_ADD, "{\"name\":\"n5\",\"peer\":\"127.0.0.1:7600\"}");
    wait_counts(&load, 1, 0, 3, 1);
    wait_counts(&load, 1, 1, 3, 1);
    load_ask(&load, 1, RK_OP_CLUSTER_PROMOTE, "{\"name\":\"n5\"}");
    wait_counts(&load, 1, 0, 4, 0);
    wait_counts(&load, 1, 1, 3, 1);
    load_ask(&load, 1, RK_OP_CLUSTER_TRANSFER, "{\"group\":0,\"to\":\"n5\"}");
    assert_int_equal(cluster_leader(load.cluster, 0), 4);
    /* Without n3 group 1 can not do without n4. */
    cluster_kill(load.cluster, 2, RK_MEMFS_CRASH_KEEP_ALL);
    load_forget(&load);
    load_ask(&load, 1, RK_OP_CLUSTER_REMOVE, "{\"name\":\"n4\"}");
    load_run(&load, 6000);
    assert_string_equal(cluster_status(load.cluster, 3).state, "running");
    wait_counts(&load, 1, 1, 3, 1);
    uint32_t done = load.done;
    load_run(&load, 1000);
    assert_true(load.done > done + 20);
    load.cluster->spoil = NULL;
    cluster_start(load.cluster, 2);
    load_wait_members(&load, 1, 3);
    load_drop(&load, 3);
    load_close(&load);
}

/* Frames to n4 from before it had a number, kept for later. */
static struct rk_buf kept[64];
static uint32_t kept_count;

static void keep_frames(struct cluster *cluster, struct packet *packet)
{
    if (packet->to != 3 || packet->from != 0 || kept_count == 64) return;
    struct rk_host_status status;
    rk_host_status(cluster->nodes[3].host, &status);
    if (strcmp(status.state, "joining") == 0)
        rk_buf_append_slice(&kept[kept_count++], rk_buf_slice(&packet->bytes));
}

/* What was offered to another disk under the same name is not for this one. */
static void test_an_offer_to_a_former_disk(void **state)
{
    struct load load;
    (void)state;
    load_open(&load, 3, 0);
    load.cluster->spoil = keep_frames;
    load_add(&load, 0, 4);
    load.cluster->spoil = NULL;
    assert_true(kept_count > 0);
    cluster_kill(load.cluster, 3, RK_MEMFS_CRASH_RANDOM);
    load_forget(&load);
    cluster_wipe(load.cluster, 3);
    for (uint32_t node = 0; node < 3; node++)
        cluster_cut(load.cluster, node, 3, true);
    cluster_start(load.cluster, 3);
    for (uint32_t i = 0; i < kept_count; i++) {
        rk_host_receive(load.cluster->nodes[3].host, "n1", RK_LINK_CONTROL,
                        rk_buf_slice(&kept[i]));
        rk_buf_fini(&kept[i]);
        load_run(&load, 100);
        assert_string_equal(cluster_status(load.cluster, 3).state, "joining");
    }
    for (uint32_t node = 0; node < 3; node++)
        cluster_cut(load.cluster, node, 3, false);
    load_ask(&load, 0, RK_OP_CLUSTER_REPLACE, "{\"name\":\"n4\"}");
    load_wait_members(&load, 0, 4);
    load_close(&load);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_one_that_is_behind_gets_no_vote),
        cmocka_unit_test(test_a_replacement_costs_no_vote),
        cmocka_unit_test(test_the_order_of_leaving),
        cmocka_unit_test(test_a_change_waits_when_a_link_fell),
        cmocka_unit_test(test_a_change_waits_for_one_that_is_behind),
        cmocka_unit_test(test_who_knows_nothing_lets_nobody_go),
        cmocka_unit_test(test_an_offer_to_a_former_disk),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
