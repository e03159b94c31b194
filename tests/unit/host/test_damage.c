/* Snapshot files that go bad under a running node: it neither votes nor leads any more. */
#include "load.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

static void put_some(struct cluster *cluster, uint32_t node, uint32_t from, uint32_t to)
{
    char text[256];
    for (uint32_t i = from; i < to; i++) {
        snprintf(text, sizeof(text), "{\"k\":\"key%u\",\"v\":\"%0100u\"}", i % 100, i);
        assert_int_equal(cluster_ask(cluster, node, RK_OP_CACHE_PUT, text)->status, RK_OK);
    }
    cluster_run(cluster, 200);
}

static struct cluster *open_cluster(uint32_t nodes, uint64_t verify_ms)
{
    struct cluster *cluster = cluster_new((struct cluster_options){
        .nodes = nodes, .groups = 1, .snapshot_bytes = 16384, .verify_ms = verify_ms});
    cluster_settle(cluster, 5000);
    put_some(cluster, 0, 0, 400);
    return cluster;
}

struct wanted {
    const char *prefix;
    char name[RK_FS_NAME_MAX + 1];
};

static enum rk_status find_file(void *context, const char *name)
{
    struct wanted *wanted = context;
    if (strncmp(name, wanted->prefix, strlen(wanted->prefix)) == 0)
        snprintf(wanted->name, sizeof(wanted->name), "%s", name);
    return RK_OK;
}

/* A bit in the middle of the node's snapshot of group 1. */
static void spoil(struct cluster *cluster, uint32_t node)
{
    struct wanted wanted = {.prefix = "00001-"};
    char path[RK_FS_PATH_MAX];
    struct rk_memfs *disk = cluster->nodes[node].disk;
    struct rk_fs *fs = rk_memfs_fs(disk);
    assert_int_equal(fs->list(fs, "data/snap", find_file, &wanted), RK_OK);
    assert_string_not_equal(wanted.name, "");
    assert_int_equal(rk_fs_join(path, "data/snap", wanted.name), RK_OK);
    assert_int_equal(rk_memfs_flip(disk, path, 2000, 3), RK_OK);
}

static bool is_damaged(struct cluster *cluster, uint32_t node)
{
    struct rk_host_status status = cluster_status(cluster, node);
    bool has_text = strstr(status.state, "damaged: data/snap/00001-") == status.state &&
                    strstr(status.state, "offset ") != NULL &&
                    strstr(status.state, "rukun cluster replace n") != NULL;
    assert_int_equal(status.is_damaged, has_text);
    assert_int_equal(rk_host_metrics(cluster->nodes[node].host)->damaged, has_text);
    return has_text;
}

static void wait_damaged(struct cluster *cluster, uint32_t node, uint64_t max_ms)
{
    for (uint64_t i = 0; i < max_ms && !is_damaged(cluster, node); i++)
        cluster_step(cluster);
    assert_true(is_damaged(cluster, node));
}

/* Puts at the node, none of which waits: nobody tries to hand the group to one that does
 * not take it. */
static void put_fast(struct cluster *cluster, uint32_t node, uint32_t seconds)
{
    for (uint32_t i = 0; i < 20 * seconds; i++) {
        uint64_t call =
            cluster_call(cluster, node, RK_OP_CACHE_PUT, "{\"k\":\"f\",\"v\":1}");
        assert_int_equal(cluster_answer(cluster, call, 300)->status, RK_OK);
        cluster_run(cluster, 40);
    }
}

/* The leader of group 0, n1, ends gracefully: n2, damaged, is not its successor. */
static void stop_first(struct cluster *cluster)
{
    assert_int_equal(cluster_leader(cluster, 0), 0);
    rk_host_stop(cluster->nodes[0].host);
    cluster_run(cluster, 300);
    assert_int_equal(cluster_leader(cluster, 0), 2);
    cluster_kill(cluster, 0, RK_MEMFS_CRASH_KEEP_ALL);
    cluster_start(cluster, 0);
    cluster_settle(cluster, 5000);
}

static void test_snapshots_are_read_back(void **state)
{
    (void)state;
    struct cluster *cluster = open_cluster(3, 2000);
    cluster_run(cluster, 10000);
    for (uint32_t i = 0; i < 3; i++) {
        assert_false(is_damaged(cluster, i));
        assert_true(rk_host_metrics(cluster->nodes[i].host)->snapshots_verified >= 3);
    }
    int leader = cluster_leader(cluster, 1);
    assert_true(leader >= 0);
    uint32_t bad = (uint32_t)leader;
    assert_int_equal(bad, 1);
    spoil(cluster, bad);
    wait_damaged(cluster, bad, 3000);
    /* It hands over, and nobody hands back; the others know. */
    cluster_run(cluster, 1000);
    put_fast(cluster, 0, 12);
    for (uint32_t group = 0; group <= 1; group++) {
        assert_true(cluster_leader(cluster, group) >= 0);
        assert_int_not_equal(cluster_leader(cluster, group), bad);
    }
    struct rk_host_status status = cluster_status(cluster, (bad + 1) % 3);
    assert_true(status.nodes[bad].is_damaged);
    assert_false(status.nodes[(bad + 1) % 3].is_damaged);
    /* Asked by hand it does not lead either. */
    char text[64];
    snprintf(text, sizeof(text), "{\"group\":1,\"to\":\"n%u\"}", bad + 1);
    uint64_t call = cluster_call(cluster, (bad + 1) % 3, RK_OP_CLUSTER_TRANSFER, text);
    assert_int_equal(cluster_answer(cluster, call, 300)->status, RK_EUNAVAILABLE);
    stop_first(cluster);
    /* It follows, and serves. */
    put_some(cluster, bad, 400, 450);
    cluster_run(cluster, 1000);
    cluster_check_equal(cluster);
    /* It has no vote to give: of three the other one alone is no majority. */
    uint32_t next = (uint32_t)cluster_leader(cluster, 1);
    cluster_kill(cluster, next, RK_MEMFS_CRASH_KEEP_ALL);
    cluster_run(cluster, 5000);
    assert_int_equal(cluster_leader(cluster, 1), -1);
    cluster_start(cluster, next);
    cluster_settle(cluster, 5000);
    put_some(cluster, bad, 450, 500);
    cluster_free(cluster);
}

static void test_one_that_was_sent_is_read_back(void **state)
{
    (void)state;
    struct cluster *cluster = open_cluster(3, 0);
    int leader = cluster_leader(cluster, 1);
    assert_true(leader >= 0);
    uint32_t bad = (uint32_t)leader, late = (bad + 1) % 3;
    cluster_kill(cluster, late, RK_MEMFS_CRASH_KEEP_ALL);
    cluster_settle(cluster, 5000);
    put_some(cluster, bad, 0, 400);
    assert_int_equal(cluster_leader(cluster, 1), bad);
    cluster_run(cluster, 20000);
    spoil(cluster, bad);
    cluster_run(cluster, 20000);
    assert_false(is_damaged(cluster, bad)); /* nobody looked */
    cluster_start(cluster, late);
    wait_damaged(cluster, bad, 5000);
    /* The one that is late gets it from another. */
    cluster_settle(cluster, 10000);
    cluster_run(cluster, 5000);
    assert_int_not_equal(cluster_leader(cluster, 1), bad);
    put_some(cluster, late, 400, 420);
    cluster_run(cluster, 1000);
    cluster_check_equal(cluster);
    cluster_free(cluster);
}

static void test_it_leads_on_where_no_other_can(void **state)
{
    (void)state;
    struct cluster *cluster = open_cluster(3, 2000);
    int leader = cluster_leader(cluster, 1);
    assert_true(leader >= 0);
    uint32_t bad = (uint32_t)leader, down = (bad + 1) % 3;
    cluster_kill(cluster, down, RK_MEMFS_CRASH_KEEP_ALL);
    cluster_settle(cluster, 5000);
    assert_int_equal(cluster_leader(cluster, 1), bad);
    spoil(cluster, bad);
    wait_damaged(cluster, bad, 3000);
    cluster_run(cluster, 5000);
    assert_int_equal(cluster_leader(cluster, 1), bad);
    put_some(cluster, bad, 400, 410);
    cluster_start(cluster, down);
    cluster_run(cluster, 4000);
    cluster_settle(cluster, 5000);
    assert_int_not_equal(cluster_leader(cluster, 1), bad);
    put_some(cluster, down, 410, 420);
    /* With such data it does not come up again. */
    char error[256] = "";
    cluster_kill(cluster, bad, RK_MEMFS_CRASH_KEEP_ALL);
    assert_int_equal(cluster_try_start(cluster, bad, error), RK_ECORRUPT);
    assert_non_null(strstr(error, "offset "));
    cluster_free(cluster);
}

static void test_a_node_alone_goes_on(void **state)
{
    (void)state;
    struct cluster *cluster = open_cluster(1, 1000);
    spoil(cluster, 0);
    wait_damaged(cluster, 0, 2000);
    cluster_run(cluster, 3000);
    put_some(cluster, 0, 400, 410);
    cluster_free(cluster);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_snapshots_are_read_back),
        cmocka_unit_test(test_one_that_was_sent_is_read_back),
        cmocka_unit_test(test_it_leads_on_where_no_other_can),
        cmocka_unit_test(test_a_node_alone_goes_on),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
