/* Nodes that come, go and are replaced, under load, with crashes in between. */
#include "load.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

static void test_three_to_five_and_back(void **state)
{
    struct load load;
    (void)state;
    load_open(&load, 3, 16384);
    load_add(&load, 0, 4);
    load_add(&load, 1, 5);
    cluster_settle(load.cluster, 5000);
    load_run(&load, 1000);
    /* The new ones carry it: two of the old ones may die. */
    cluster_kill(load.cluster, 0, RK_MEMFS_CRASH_RANDOM);
    cluster_kill(load.cluster, 1, RK_MEMFS_CRASH_RANDOM);
    load_forget(&load);
    cluster_settle(load.cluster, 5000);
    load_run(&load, 500);
    cluster_start(load.cluster, 0);
    cluster_start(load.cluster, 1);
    load_run(&load, 3000);
    uint32_t done = load.done;
    load_ask(&load, 4, RK_OP_CLUSTER_REMOVE, "{\"name\":\"n1\"}");
    load_wait_members(&load, 4, 4);
    load_drop(&load, 0);
    load_ask(&load, 3, RK_OP_CLUSTER_REMOVE, "{\"name\":\"n4\"}");
    load_wait_members(&load, 4, 3);
    load_drop(&load, 3);
    assert_true(load.done > done + 100);
    cluster_settle(load.cluster, 3000);
    struct rk_host_status status = cluster_status(load.cluster, 1);
    assert_int_equal(cluster_node(&status, "n5")->number, 5);
    load_close(&load);
}

static void test_leaders_die_in_the_middle(void **state)
{
    struct load load;
    (void)state;
    load_open(&load, 3, 0);
    for (uint32_t round = 0; round < 2; round++) {
        char text[128];
        uint32_t node = load.cluster->count;
        snprintf(text, sizeof(text), "{\"name\":\"n%u\",\"peer\":\"127.0.0.1:7600\"}",
                 node + 1);
        load_ask(&load, 1, RK_OP_CLUSTER_ADD, text);
        cluster_grow(load.cluster);
        snprintf(text, sizeof(text), "{\"name\":\"n%u\"}", node + 1);
        load_ask(&load, 1, RK_OP_CLUSTER_PROMOTE, text);
        for (uint32_t i = 0; i < 4; i++) {
            load_run(&load, 37 + 41 * i);
            int leader = cluster_leader(load.cluster, i);
            uint32_t victim = leader < 0 ? i % 3 : (uint32_t)leader;
            cluster_kill(load.cluster, victim, RK_MEMFS_CRASH_RANDOM);
            load_forget(&load);
            load_run(&load, 700);
            cluster_start(load.cluster, victim);
            load_run(&load, 100);
        }
        load_wait_members(&load, 1, 4 + round);
    }
    load_ask(&load, 1, RK_OP_CLUSTER_REMOVE, "{\"name\":\"n3\"}");
    for (uint32_t i = 0; i < 3; i++) {
        load_run(&load, 90 + 60 * i);
        int leader = cluster_leader(load.cluster, 0);
        if (leader < 0 || leader == 2) continue;
        cluster_kill(load.cluster, (uint32_t)leader, RK_MEMFS_CRASH_RANDOM);
        load_forget(&load);
        load_run(&load, 700);
        cluster_start(load.cluster, (uint32_t)leader);
        load_run(&load, 200);
    }
    load_wait_members(&load, 1, 4);
    load_drop(&load, 2);
    cluster_settle(load.cluster, 5000);
    load_close(&load);
}

static void test_a_wiped_node_is_replaced(void **state)
{
    struct load load;
    (void)state;
    load_open(&load, 3, 16384);
    for (uint32_t round = 0; round < 3; round++) {
        uint32_t victim = round, other = (round + 1) % 3;
        char text[64];
        cluster_kill(load.cluster, victim, RK_MEMFS_CRASH_RANDOM);
        load_forget(&load);
        cluster_wipe(load.cluster, victim);
        load_run(&load, 1500);
        cluster_start(load.cluster, victim);
        load_run(&load, 1000);
        struct rk_host_status status = cluster_status(load.cluster, victim);
        assert_non_null(strstr(status.state, "rukun cluster replace n"));
        snprintf(text, sizeof(text), "{\"name\":\"n%u\"}", victim + 1);
        load_ask(&load, other, RK_OP_CLUSTER_REPLACE, text);
        load_wait_members(&load, other, 3);
        status = cluster_status(load.cluster, other);
        assert_int_equal(cluster_node(&status, load.cluster->nodes[victim].name)->number,
                         4 + round);
        cluster_settle(load.cluster, 3000);
        status = cluster_status(load.cluster, victim);
        assert_string_equal(status.state, "running");
    }
    load_close(&load);
}

/* While one node is away all others are replaced: it would know nobody any more. */
static void test_one_that_was_away_finds_the_others(void **state)
{
    struct load load;
    (void)state;
    load_open(&load, 3, 16384);
    load_add(&load, 0, 4);
    load_add(&load, 0, 5);
    cluster_kill(load.cluster, 0, RK_MEMFS_CRASH_RANDOM);
    load_forget(&load);
    load_run(&load, 1500);
    for (uint32_t victim = 1; victim < 5; victim++) {
        uint32_t other = victim == 4 ? 1 : victim + 1;
        char text[64];
        cluster_kill(load.cluster, victim, RK_MEMFS_CRASH_RANDOM);
        load_forget(&load);
        cluster_wipe(load.cluster, victim);
        load_run(&load, 1500);
        cluster_start(load.cluster, victim);
        snprintf(text, sizeof(text), "{\"name\":\"n%u\"}", victim + 1);
        load_ask(&load, other, RK_OP_CLUSTER_REPLACE, text);
        load_wait_members(&load, other, 5);
    }
    cluster_start(load.cluster, 0);
    cluster_settle(load.cluster, 5000);
    load_run(&load, 1000);
    load_close(&load);
}

static void test_a_live_node_is_replaced(void **state)
{
    struct load load;
    (void)state;
    load_open(&load, 3, 0);
    load_ask(&load, 0, RK_OP_CLUSTER_REPLACE, "{\"name\":\"n2\"}");
    load_drop(&load, 1);
    /* Its old life is over also after a restart, and without anyone to say so. */
    cluster_cut(load.cluster, 0, 1, true);
    cluster_cut(load.cluster, 1, 2, true);
    cluster_start(load.cluster, 1);
    load_run(&load, 100);
    assert_string_equal(cluster_status(load.cluster, 1).state, "removed");
    cluster_cut(load.cluster, 0, 1, false);
    cluster_cut(load.cluster, 1, 2, false);
    cluster_kill(load.cluster, 1, RK_MEMFS_CRASH_KEEP_ALL);
    load_forget(&load);
    cluster_wipe(load.cluster, 1);
    cluster_start(load.cluster, 1);
    load_wait_members(&load, 0, 3);
    cluster_settle(load.cluster, 3000);
    load_close(&load);
}

/* A new node leads before the third one knows its disk, or even its name. */
static void meet_a_leader(bool knows_its_name)
{
    struct load load;
    load_open(&load, 3, 16384);
    struct cluster *cluster = load.cluster;
    for (int pass = 0; pass < 2; pass++) {
        if ((pass == 0) == knows_its_name)
            load_ask(&load, 0, RK_OP_CLUSTER_ADD,
                     "{\"name\":\"n4\",\"peer\":\"127.0.0.1:7600\"}");
        load_run(&load, 500);
        cluster_cut(cluster, 2, 0, true);
        cluster_cut(cluster, 2, 1, true);
        load_run(&load, 1000);
    }
    assert_int_equal(cluster_grow(cluster), 3);
    cluster_cut(cluster, 2, 3, true);
    load_ask(&load, 0, RK_OP_CLUSTER_PROMOTE, "{\"name\":\"n4\"}");
    load_wait_members(&load, 0, 4);
    load_ask(&load, 0, RK_OP_CLUSTER_TRANSFER, "{\"group\":0,\"to\":\"n4\"}");
    for (uint32_t i = 0; i < 4; i++)
        cluster_cut(cluster, 2, i, false);
    cluster_settle(cluster, 3000);
    assert_int_equal(cluster_leader(cluster, 0), 3);
    load_run(&load, 500);
    load_close(&load);
}

static void test_a_leader_that_is_not_yet_known(void **state)
{
    (void)state;
    meet_a_leader(true);
    meet_a_leader(false);
}

/* Replaced again while it comes: its disk may be about to take the number that goes, so it
 * never gets another one. */
static void test_a_disk_has_one_number(void **state)
{
    struct load load;
    (void)state;
    load_open(&load, 3, 16384);
    struct cluster *cluster = load.cluster;
    cluster_kill(cluster, 2, RK_MEMFS_CRASH_RANDOM);
    load_forget(&load);
    cluster_wipe(cluster, 2);
    cluster_start(cluster, 2);
    load_run(&load, 1500);
    cluster->cut[0][2] = cluster->cut[1][2] = true; /* it is heard and does not hear */
    load_ask(&load, 0, RK_OP_CLUSTER_REPLACE, "{\"name\":\"n3\"}");
    load_run(&load, 1000);
    load_ask(&load, 0, RK_OP_CLUSTER_REPLACE, "{\"name\":\"n3\"}");
    load_run(&load, 3000);
    cluster->cut[0][2] = cluster->cut[1][2] = false;
    load_run(&load, 3000);
    struct rk_host_status status = cluster_status(cluster, 2);
    assert_non_null(strstr(status.state, "needs an empty data folder"));
    cluster_kill(cluster, 2, RK_MEMFS_CRASH_KEEP_ALL);
    load_forget(&load);
    cluster_wipe(cluster, 2);
    cluster_start(cluster, 2);
    load_wait_members(&load, 0, 3);
    status = cluster_status(cluster, 0);
    assert_int_equal(cluster_node(&status, "n3")->number, 5);
    assert_int_equal(status.node_count, 3);
    cluster_settle(cluster, 3000);
    load_close(&load);
}

static void refused(struct cluster *cluster, enum rk_op op, const char *json,
                    enum rk_status wanted)
{
    const struct rk_reply *reply = cluster_ask(cluster, 0, op, json);
    if (reply->status != wanted)
        fail_msg("%s: %s %s", json, rk_status_text(reply->status), reply->text);
}

static void test_what_can_not_be(void **state)
{
    struct load load;
    (void)state;
    load_open(&load, 3, 0);
    struct cluster *cluster = load.cluster;
    refused(cluster, RK_OP_CLUSTER_ADD, "{\"name\":\"n1\",\"peer\":\"a:1\"}", RK_EEXIST);
    refused(cluster, RK_OP_CLUSTER_ADD, "{\"name\":\"n9\",\"peer\":\"a\"}", RK_ERANGE);
    refused(cluster, RK_OP_CLUSTER_ADD, "{\"name\":\"n 9\",\"peer\":\"a:1\"}", RK_ERANGE);
    refused(cluster, RK_OP_CLUSTER_REMOVE, "{\"name\":\"n9\"}", RK_ENOENT);
    refused(cluster, RK_OP_CLUSTER_PROMOTE, "{\"name\":\"n9\"}", RK_ENOENT);
    refused(cluster, RK_OP_CLUSTER_REPLACE, "{\"name\":\"n9\"}", RK_ENOENT);
    for (char name = 'a'; name < 'e'; name++) {
        char text[64];
        snprintf(text, sizeof(text), "{\"name\":\"%c\",\"peer\":\"a:1\"}", name);
        assert_int_equal(cluster_ask(cluster, 0, RK_OP_CLUSTER_ADD, text)->status, RK_OK);
    }
    refused(cluster, RK_OP_CLUSTER_ADD, "{\"name\":\"x\",\"peer\":\"a:1\"}", RK_ELIMIT);
    /* Those never came; they leave without a trace, and their numbers are gone. */
    for (char name = 'a'; name < 'e'; name++) {
        char text[64];
        snprintf(text, sizeof(text), "{\"name\":\"%c\"}", name);
        assert_int_equal(cluster_ask(cluster, 0, RK_OP_CLUSTER_REMOVE, text)->status,
                         RK_OK);
    }
    load_wait_members(&load, 0, 3);
    load_add(&load, 0, 4);
    struct rk_host_status status = cluster_status(cluster, 0);
    assert_int_equal(cluster_node(&status, "n4")->number, 8);
    /* Two of four are down: a change that needs them waits, and comes when they do. */
    cluster_kill(cluster, 2, RK_MEMFS_CRASH_KEEP_ALL);
    load_forget(&load);
    cluster_settle(cluster, 3000);
    load_ask(&load, 0, RK_OP_CLUSTER_REMOVE, "{\"name\":\"n3\"}");
    load_wait_members(&load, 0, 3);
    /* It comes back and learns that it is out, and remembers it. */
    cluster_start(cluster, 2);
    load_drop(&load, 2);
    for (uint32_t node = 0; node < 4; node++)
        if (node != 2) cluster_cut(cluster, node, 2, true);
    cluster_start(cluster, 2);
    assert_string_equal(cluster_status(cluster, 2).state, "removed");
    cluster_kill(cluster, 2, RK_MEMFS_CRASH_KEEP_ALL);
    load_close(&load);
}

/* Removing n2 while n3 is down would leave n1 without a majority: it waits. */
static void test_a_change_that_would_stop_a_group_waits(void **state)
{
    struct load load;
    (void)state;
    load_open(&load, 3, 0);
    cluster_kill(load.cluster, 2, RK_MEMFS_CRASH_KEEP_ALL);
    load_forget(&load);
    cluster_settle(load.cluster, 5000);
    load_ask(&load, 0, RK_OP_CLUSTER_REMOVE, "{\"name\":\"n2\"}");
    load_run(&load, 3000);
    struct rk_host_status status = cluster_status(load.cluster, 0);
    assert_string_equal(cluster_node(&status, "n2")->role, "leaving");
    uint32_t done = load.done;
    load_run(&load, 1000);
    assert_true(load.done > done + 50);
    cluster_start(load.cluster, 2);
    load_wait_members(&load, 0, 2);
    load_drop(&load, 1);
    cluster_settle(load.cluster, 5000);
    load_close(&load);
}

/* Nothing is written any more, the log is gone, and no snapshot knows the new node. */
static void test_one_joins_when_nothing_happens(void **state)
{
    struct load load;
    (void)state;
    load_open(&load, 3, 16384);
    load_run(&load, 3000);
    cluster_run(load.cluster, 1000);
    load_forget(&load);
    for (uint32_t group = 1; group <= 3; group++)
        assert_true(cluster_status(load.cluster, 0).groups[group].first_index > 1);
    const struct rk_reply *reply =
        cluster_ask(load.cluster, 0, RK_OP_CLUSTER_ADD,
                    "{\"name\":\"n4\",\"peer\":\"127.0.0.1:7600\"}");
    assert_int_equal(reply->status, RK_OK);
    cluster_grow(load.cluster);
    for (uint32_t i = 0; i < 10000; i++) {
        struct rk_host_status status = cluster_status(load.cluster, 0);
        const struct rk_host_node_status *node = cluster_node(&status, "n4");
        if (status.is_reconciled && strcmp(node->role, "learner") == 0) break;
        cluster_step(load.cluster);
    }
    cluster_run(load.cluster, 2000);
    struct rk_host_status status = cluster_status(load.cluster, 3);
    for (uint32_t group = 0; group <= 3; group++)
        assert_string_equal(status.groups[group].role, "learner");
    load_close(&load);
}

static void test_the_last_voter_stays(void **state)
{
    struct load load;
    (void)state;
    load_open(&load, 1, 0);
    refused(load.cluster, RK_OP_CLUSTER_REMOVE, "{\"name\":\"n1\"}", RK_EINVAL);
    load_add(&load, 0, 2);
    load_ask(&load, 0, RK_OP_CLUSTER_REMOVE, "{\"name\":\"n1\"}");
    load_wait_members(&load, 1, 1);
    load_drop(&load, 0);
    cluster_settle(load.cluster, 3000);
    load_run(&load, 500);
    load_close(&load);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_three_to_five_and_back),
        cmocka_unit_test(test_leaders_die_in_the_middle),
        cmocka_unit_test(test_a_wiped_node_is_replaced),
        cmocka_unit_test(test_one_that_was_away_finds_the_others),
        cmocka_unit_test(test_a_live_node_is_replaced),
        cmocka_unit_test(test_a_leader_that_is_not_yet_known),
        cmocka_unit_test(test_a_disk_has_one_number),
        cmocka_unit_test(test_what_can_not_be),
        cmocka_unit_test(test_a_change_that_would_stop_a_group_waits),
        cmocka_unit_test(test_one_joins_when_nothing_happens),
        cmocka_unit_test(test_the_last_voter_stays),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
