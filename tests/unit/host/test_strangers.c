/* Nodes that know nobody, and wishes that leave nobody to hand over to. */
#include "load.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

/* It needs those who came while it was away, and they need it: nobody else is left that
 * both know. */
static void test_only_strangers_are_left(void **state)
{
    struct load load;
    (void)state;
    load_open(&load, 3, 16384);
    struct cluster *cluster = load.cluster;
    for (uint32_t i = 0; i < 5; i++)
        if (i != 2) cluster->cut[2][i] = cluster->cut[i][2] = true;
    load_add(&load, 0, 4);
    load_add(&load, 0, 5);
    load_ask(&load, 1, RK_OP_CLUSTER_REMOVE, "{\"name\":\"n1\"}");
    load_wait_members(&load, 1, 4);
    load_drop(&load, 0);
    cluster_kill(cluster, 1, RK_MEMFS_CRASH_KEEP_ALL);
    load_forget(&load);
    cluster_run(cluster, 3000);
    for (uint32_t i = 3; i < 5; i++) {
        cluster->cut[2][i] = cluster->cut[i][2] = false;
        rk_host_link_up(cluster->nodes[i].host, "n3", RK_LINK_CONTROL);
        rk_host_link_up(cluster->nodes[i].host, "n3", RK_LINK_BULK);
    }
    cluster_settle(cluster, 5000);
    load_run(&load, 500);
    load_close(&load);
}

/* Every leader is one of those that leave: there is nobody to hand over to at first. */
static void test_all_voters_leave(void **state)
{
    struct load load;
    uint64_t calls[4];
    (void)state;
    load_open(&load, 3, 16384);
    struct cluster *cluster = load.cluster;
    load_ask(&load, 0, RK_OP_CLUSTER_ADD, "{\"name\":\"n4\",\"peer\":\"127.0.0.1:7600\"}");
    assert_int_equal(cluster_grow(cluster), 3);
    load_run(&load, 3000);
    calls[0] = cluster_call(cluster, 0, RK_OP_CLUSTER_PROMOTE, "{\"name\":\"n4\"}");
    calls[1] = cluster_call(cluster, 0, RK_OP_CLUSTER_REMOVE, "{\"name\":\"n1\"}");
    calls[2] = cluster_call(cluster, 0, RK_OP_CLUSTER_REMOVE, "{\"name\":\"n2\"}");
    calls[3] = cluster_call(cluster, 0, RK_OP_CLUSTER_REMOVE, "{\"name\":\"n3\"}");
    for (int i = 0; i < 4; i++)
        assert_int_equal(cluster_answer(cluster, calls[i], 1000)->status, RK_OK);
    load_wait_members(&load, 3, 1);
    for (uint32_t node = 0; node < 3; node++)
        load_drop(&load, node);
    cluster_settle(cluster, 3000);
    load_run(&load, 500);
    load_close(&load);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_only_strangers_are_left),
        cmocka_unit_test(test_all_voters_leave),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
