/* How nodes become a cluster, and who is kept out. */
#include "cluster.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

static void test_three_nodes_are_born(void **state)
{
    (void)state;
    struct cluster *cluster =
        cluster_new((struct cluster_options){.nodes = 3, .groups = 8});
    uint64_t took = cluster_settle(cluster, 3000);
    assert_true(took < 3000);
    uint32_t led[3] = {0};
    struct rk_host_status first;
    rk_host_status(cluster->nodes[0].host, &first);
    char id[40];
    snprintf(id, sizeof(id), "%s", first.cluster);
    for (uint32_t i = 0; i < 3; i++) {
        struct rk_host_status status;
        rk_host_status(cluster->nodes[i].host, &status);
        assert_string_equal(status.state, "running");
        assert_string_equal(status.cluster, id);
        assert_int_equal(status.number, i + 1);
        assert_int_equal(status.group_count, 9);
        assert_int_not_equal(status.history, 0);
        assert_string_equal(status.nodes[2].rpc, "127.0.0.1:7500");
    }
    for (uint32_t group = 0; group <= 8; group++)
        led[cluster_leader(cluster, group)]++;
    for (int i = 0; i < 3; i++)
        assert_int_equal(led[i], 3);
    cluster_run(cluster, 500);
    cluster_check_equal(cluster);
    cluster_free(cluster);
}

/* Nothing of a start waits for a beat or an election timeout: heartbeat 100 ms here,
 * election timeout 1000 ms. */
static void test_a_start_takes_no_time(void **state)
{
    (void)state;
    struct cluster *cluster =
        cluster_new((struct cluster_options){.nodes = 3, .groups = 8});
    uint64_t birth = cluster_settle(cluster, 3000);
    for (uint32_t i = 0; i < 3; i++)
        cluster_kill(cluster, i, RK_MEMFS_CRASH_KEEP_ALL);
    cluster_run(cluster, 500);
    for (uint32_t i = 0; i < 3; i++)
        cluster_start(cluster, i);
    uint64_t restart = cluster_settle(cluster, 3000);
    if (birth > 100 || restart > 100)
        fail_msg("birth took %u ms, restart %u ms", (unsigned)birth, (unsigned)restart);
    cluster_free(cluster);
}

/* Groups that are dealt to a node that is away are led by the others a heartbeat later. */
static void test_a_start_without_one_node(void **state)
{
    (void)state;
    struct cluster *cluster =
        cluster_new((struct cluster_options){.nodes = 3, .groups = 8});
    cluster_settle(cluster, 3000);
    for (uint32_t i = 0; i < 3; i++)
        cluster_kill(cluster, i, RK_MEMFS_CRASH_KEEP_ALL);
    cluster_run(cluster, 500);
    cluster_start(cluster, 1);
    cluster_start(cluster, 2);
    uint64_t took = cluster_settle(cluster, 3000);
    if (took > 300) fail_msg("took %u ms", (unsigned)took);
    cluster_free(cluster);
}

static void test_one_node_is_a_cluster(void **state)
{
    (void)state;
    struct cluster *cluster =
        cluster_new((struct cluster_options){.nodes = 1, .groups = 2});
    cluster_settle(cluster, 1000);
    const struct rk_reply *reply = cluster_ask(cluster, 0, RK_OP_LOCK_ACQUIRE,
                                               "{\"resource\":\"r\",\"owner\":\"alice\"}");
    assert_int_equal(reply->status, RK_OK);
    assert_true(reply->granted);
    cluster_free(cluster);
}

static void test_no_birth_until_all_answer(void **state)
{
    (void)state;
    struct cluster *cluster =
        cluster_new((struct cluster_options){.nodes = 3, .groups = 2});
    cluster_kill(cluster, 2, RK_MEMFS_CRASH_KEEP_ALL);
    cluster_run(cluster, 5000);
    struct rk_host_status status;
    rk_host_status(cluster->nodes[0].host, &status);
    assert_string_equal(status.state, "joining");
    const struct rk_reply *reply = cluster_ask(cluster, 0, RK_OP_LOCK_ACQUIRE,
                                               "{\"resource\":\"r\",\"owner\":\"alice\"}");
    assert_int_equal(reply->status, RK_EUNAVAILABLE);
    cluster_start(cluster, 2);
    cluster_settle(cluster, 3000);
    cluster_free(cluster);
}

static void test_minter_that_crashed_offers_again(void **state)
{
    (void)state;
    struct cluster *cluster =
        cluster_new((struct cluster_options){.nodes = 3, .groups = 2});
    struct rk_host_status status;
    /* Nothing of what it offers arrives. */
    do {
        cluster_step(cluster);
        rk_host_status(cluster->nodes[0].host, &status);
    } while (status.number == 0);
    cluster_kill(cluster, 0, RK_MEMFS_CRASH_LOSE_ALL);
    rk_host_status(cluster->nodes[1].host, &status);
    assert_string_equal(status.state, "joining");
    cluster_run(cluster, 2000);
    rk_host_status(cluster->nodes[1].host, &status);
    assert_string_equal(status.state, "joining");
    cluster_start(cluster, 0);
    cluster_settle(cluster, 4000);
    cluster_free(cluster);
}

static void test_wiped_node_is_refused(void **state)
{
    (void)state;
    struct cluster *cluster =
        cluster_new((struct cluster_options){.nodes = 3, .groups = 2});
    cluster_settle(cluster, 3000);
    cluster_kill(cluster, 1, RK_MEMFS_CRASH_KEEP_ALL);
    cluster_settle(cluster, 5000);
    cluster_wipe(cluster, 1);
    cluster_start(cluster, 1);
    cluster_run(cluster, 1000);
    struct rk_host_status status;
    rk_host_status(cluster->nodes[1].host, &status);
    assert_non_null(strstr(status.state, "refused: "));
    assert_non_null(strstr(status.state, "cluster replace n2"));
    assert_int_equal(status.number, 0);
    /* With one more node gone there is no majority, whatever the wiped one would vote. */
    cluster_kill(cluster, 2, RK_MEMFS_CRASH_KEEP_ALL);
    cluster_run(cluster, 3000);
    const struct rk_reply *reply =
        cluster_ask(cluster, 0, RK_OP_LOCK_ACQUIRE,
                    "{\"resource\":\"r\",\"owner\":\"alice\",\"wait_ms\":0}");
    assert_int_not_equal(reply->status, RK_OK);
    cluster_free(cluster);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_three_nodes_are_born),
        cmocka_unit_test(test_a_start_takes_no_time),
        cmocka_unit_test(test_a_start_without_one_node),
        cmocka_unit_test(test_one_node_is_a_cluster),
        cmocka_unit_test(test_no_birth_until_all_answer),
        cmocka_unit_test(test_minter_that_crashed_offers_again),
        cmocka_unit_test(test_wiped_node_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
