/* Programs of different versions in one cluster. */
#include "cluster.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

enum { GROUPS = 2 };

static struct cluster *open_cluster(const uint32_t versions[3])
{
    struct cluster *cluster = cluster_new(
        (struct cluster_options){.nodes = 3, .groups = GROUPS, .snapshot_bytes = 8192});
    for (uint32_t i = 0; i < 3; i++) {
        cluster_kill(cluster, i, RK_MEMFS_CRASH_KEEP_ALL);
        cluster->nodes[i].machine_version = versions[i];
    }
    for (uint32_t i = 0; i < 3; i++)
        cluster_start(cluster, i);
    cluster_settle(cluster, 3000);
    return cluster;
}

static void restart_as(struct cluster *cluster, uint32_t node, uint32_t version)
{
    cluster_kill(cluster, node, RK_MEMFS_CRASH_RANDOM);
    cluster->nodes[node].machine_version = version;
    cluster_start(cluster, node);
}

static void check_version(struct cluster *cluster, uint32_t version)
{
    for (uint32_t i = 0; i < 3; i++) {
        struct rk_host_status status;
        if (cluster->nodes[i].host == NULL) continue;
        rk_host_status(cluster->nodes[i].host, &status);
        for (uint32_t group = 0; group <= GROUPS; group++)
            assert_int_equal(status.groups[group].machine_version, version);
    }
}

static void test_the_version_rises_once_all_know_it(void **state)
{
    (void)state;
    struct cluster *cluster = open_cluster((const uint32_t[]){3, 2, 1});
    cluster_run(cluster, 4000);
    check_version(cluster, 1);
    cluster_kill(cluster, 2, RK_MEMFS_CRASH_KEEP_ALL);
    cluster_run(cluster, 4000);
    check_version(cluster, 1); /* one that is away may come back as it was */
    cluster->nodes[2].machine_version = 3;
    cluster_start(cluster, 2);
    cluster_run(cluster, 5000);
    check_version(cluster, 2);
    restart_as(cluster, 1, 3);
    cluster_run(cluster, 6000);
    check_version(cluster, 3);
    cluster_check_equal(cluster);
    cluster_free(cluster);
}

static void put_some(struct cluster *cluster, uint32_t count)
{
    char text[192];
    for (uint32_t i = 0; i < count; i++) {
        snprintf(text, sizeof(text), "{\"k\":\"key%u\",\"v\":\"%0100u\"}", i % 50, i);
        const struct rk_reply *reply = cluster_ask(cluster, 0, RK_OP_CACHE_PUT, text);
        assert_int_equal(reply->status, RK_OK);
    }
}

static void test_an_older_program_stops_at_the_entry(void **state)
{
    (void)state;
    struct cluster *cluster = open_cluster((const uint32_t[]){2, 2, 2});
    cluster_run(cluster, 4000);
    check_version(cluster, 2);
    cluster->nodes[2].is_chatty = true;
    restart_as(cluster, 2, 1);
    cluster_run(cluster, 2000);
    const char *fatal = cluster->nodes[2].fatal;
    assert_non_null(strstr(fatal, "group "));
    assert_non_null(strstr(fatal, ": entry "));
    assert_non_null(strstr(fatal, "machine version 2; this program knows up to 1"));
    /* The newer one goes on where the older one stopped. */
    restart_as(cluster, 2, 2);
    cluster_settle(cluster, 5000);
    cluster_run(cluster, 3000);
    check_version(cluster, 2);
    cluster_check_equal(cluster);
    cluster_free(cluster);
}

static void test_an_older_program_does_not_open_the_snapshot(void **state)
{
    (void)state;
    char error[256] = "";
    struct cluster *cluster = open_cluster((const uint32_t[]){2, 2, 2});
    cluster_run(cluster, 4000);
    put_some(cluster, 400);
    cluster_run(cluster, 1000);
    assert_true(rk_host_metrics(cluster->nodes[2].host)->snapshots > 0);
    cluster_kill(cluster, 2, RK_MEMFS_CRASH_KEEP_ALL);
    cluster->nodes[2].machine_version = 1;
    assert_int_equal(cluster_try_start(cluster, 2, error), RK_EUNSUPPORTED);
    assert_non_null(strstr(error, "group "));
    assert_non_null(strstr(error, "snapshot "));
    assert_non_null(strstr(error, "machine version 2; this program knows up to 1"));
    cluster_free(cluster);
}

/* What the others have is beyond it, and their logs do not go back to the beginning. */
static void test_an_older_program_stops_at_a_received_snapshot(void **state)
{
    (void)state;
    char text[64];
    struct cluster *cluster = open_cluster((const uint32_t[]){2, 2, 2});
    cluster_run(cluster, 4000);
    put_some(cluster, 300);
    for (uint32_t i = 0; i < 200; i++) {
        snprintf(text, sizeof(text), "{\"resource\":\"r%u\",\"owner\":\"o\"}", i);
        assert_true(cluster_ask(cluster, 0, RK_OP_LOCK_ACQUIRE, text)->granted);
    }
    cluster_run(cluster, 1000);
    cluster->nodes[3].machine_version = 1;
    cluster->nodes[3].is_chatty = true;
    assert_int_equal(cluster_grow(cluster), 3);
    const struct rk_reply *reply = cluster_ask(
        cluster, 0, RK_OP_CLUSTER_ADD, "{\"name\":\"n4\",\"peer\":\"127.0.0.1:7600\"}");
    assert_int_equal(reply->status, RK_OK);
    cluster_run(cluster, 8000);
    const char *fatal = cluster->nodes[3].fatal;
    assert_non_null(strstr(fatal, "from node n"));
    assert_non_null(strstr(fatal, "a record of snapshot "));
    assert_non_null(strstr(fatal, "machine version 2; this program knows up to 1"));
    /* The others do without it. */
    reply = cluster_ask(cluster, 0, RK_OP_CACHE_PUT, "{\"k\":\"a\",\"v\":1}");
    assert_int_equal(reply->status, RK_OK);
    cluster_free(cluster);
}

static bool is_spoiling;

static void speak_otherwise(struct cluster *cluster, struct packet *packet)
{
    if (!is_spoiling || packet->from != 2) return;
    assert_int_equal(packet->bytes.data[0], RK_HOST_PROTOCOL);
    packet->bytes.data[0] = RK_HOST_PROTOCOL + 1;
    cluster->spoiled++;
}

static void test_frames_of_another_protocol_are_dropped(void **state)
{
    (void)state;
    struct cluster *cluster = open_cluster((const uint32_t[]){0, 0, 0});
    cluster->spoil = speak_otherwise;
    is_spoiling = true;
    uint64_t before = rk_host_metrics(cluster->nodes[0].host)->frames_dropped +
                      rk_host_metrics(cluster->nodes[1].host)->frames_dropped;
    uint32_t lines = cluster->nodes[0].warnings;
    cluster_run(cluster, 3000);
    uint64_t after = rk_host_metrics(cluster->nodes[0].host)->frames_dropped +
                     rk_host_metrics(cluster->nodes[1].host)->frames_dropped;
    assert_true(cluster->spoiled > 10);
    assert_true(after - before + 20 > cluster->spoiled);
    assert_int_equal(cluster->nodes[0].warnings, lines + 1); /* once, not with each frame */
    assert_non_null(strstr(cluster->nodes[0].warning, "protocol version 3"));
    /* The others go on without it. */
    const struct rk_reply *reply =
        cluster_ask(cluster, 0, RK_OP_CACHE_PUT, "{\"k\":\"a\",\"v\":1}");
    assert_int_equal(reply->status, RK_OK);
    is_spoiling = false;
    cluster_settle(cluster, 5000);
    cluster_run(cluster, 3000);
    cluster_check_equal(cluster);
    cluster_free(cluster);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_the_version_rises_once_all_know_it),
        cmocka_unit_test(test_an_older_program_stops_at_the_entry),
        cmocka_unit_test(test_an_older_program_does_not_open_the_snapshot),
        cmocka_unit_test(test_an_older_program_stops_at_a_received_snapshot),
        cmocka_unit_test(test_frames_of_another_protocol_are_dropped),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
