/* Snapshots taken, found again at a restart, and sent to followers that lag. */
#include "cluster.h"

#include "storage/snapshot.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

static void put_some(struct cluster *cluster, uint32_t node, uint32_t from, uint32_t to)
{
    char text[256];
    for (uint32_t i = from; i < to; i++) {
        snprintf(text, sizeof(text), "{\"k\":\"key%u\",\"v\":\"%0100u\"}", i % 300, i);
        uint64_t call = cluster_call(cluster, node, RK_OP_CACHE_PUT, text);
        if (i % 20 == 19) cluster_answer(cluster, call, 2000);
    }
    cluster_run(cluster, 200);
}

static struct cluster *open_cluster(void)
{
    struct cluster *cluster = cluster_new(
        (struct cluster_options){.nodes = 3, .groups = 2, .snapshot_bytes = 16384});
    cluster_settle(cluster, 3000);
    return cluster;
}

static void test_snapshots_bound_the_log(void **state)
{
    (void)state;
    struct cluster *cluster = open_cluster();
    put_some(cluster, 0, 0, 2000);
    for (uint32_t i = 0; i < 3; i++) {
        assert_true(rk_host_metrics(cluster->nodes[i].host)->snapshots > 5);
        struct rk_host_status status;
        rk_host_status(cluster->nodes[i].host, &status);
        for (uint32_t group = 1; group <= 2; group++)
            assert_true(status.groups[group].last_index - status.groups[group].first_index <
                        400);
    }
    for (uint32_t i = 0; i < 3; i++)
        cluster_kill(cluster, i, RK_MEMFS_CRASH_RANDOM);
    for (uint32_t i = 0; i < 3; i++)
        cluster_start(cluster, i);
    cluster_settle(cluster, 4000);
    char text[64], value[128];
    for (uint32_t i = 0; i < 300; i += 17) {
        snprintf(text, sizeof(text), "{\"k\":\"key%u\"}", i);
        const struct rk_reply *reply = cluster_ask(cluster, i % 3, RK_OP_CACHE_GET, text);
        assert_true(reply->found);
        uint32_t last = i < 200 ? 1800 + i : 1500 + i;
        snprintf(value, sizeof(value), "\"%0100u\"", last);
        assert_memory_equal(reply->value.bytes.data, value, 102);
    }
    cluster_run(cluster, 1000);
    cluster_check_equal(cluster);
    cluster_free(cluster);
}

static void test_lagging_follower_gets_a_snapshot(void **state)
{
    (void)state;
    struct cluster *cluster = open_cluster();
    put_some(cluster, 0, 0, 100);
    cluster_kill(cluster, 2, RK_MEMFS_CRASH_RANDOM);
    cluster_settle(cluster, 3000);
    put_some(cluster, 0, 100, 2000);
    cluster_start(cluster, 2);
    cluster_settle(cluster, 3000);
    put_some(cluster, 1, 2000, 2300);
    cluster_run(cluster, 3000);
    cluster_check_equal(cluster);
    uint64_t sent = rk_host_metrics(cluster->nodes[0].host)->snapshots_sent +
                    rk_host_metrics(cluster->nodes[1].host)->snapshots_sent;
    assert_true(sent >= 2);
    /* It can lead with what it installed. */
    assert_int_equal(
        cluster_ask(cluster, 0, RK_OP_CLUSTER_TRANSFER, "{\"group\":1,\"to\":\"n3\"}")
            ->status,
        RK_OK);
    put_some(cluster, 2, 2300, 2500);
    /* And find it again after a crash. */
    cluster_kill(cluster, 2, RK_MEMFS_CRASH_RANDOM);
    cluster_start(cluster, 2);
    cluster_settle(cluster, 4000);
    cluster_run(cluster, 1000);
    cluster_check_equal(cluster);
    cluster_free(cluster);
}

/* While a snapshot is on a slow way to a follower the leader takes many newer ones; what
 * the follower needs after it is kept, so that it gets one and not one after the other. */
/* Writes a value of 400 bytes to one of so many keys that differ by group: the tag of a
 * key chooses it. */
static uint64_t put_tagged(struct cluster *cluster, uint32_t tag, uint32_t key)
{
    char text[512];
    snprintf(text, sizeof(text), "{\"k\":\"{t%u}%u\",\"v\":\"%0400u\"}", tag, key, key);
    return cluster_call(cluster, 0, RK_OP_CACHE_PUT, text);
}

/* Whatever the mix of groups: old tails of idle ones are put into snapshots, so that a hot
 * one recycles the log. By size alone no snapshot would be due here. */
static void test_log_space_is_bounded_under_any_mix(void **state)
{
    (void)state;
    enum { SEGMENT = 64 << 10, TAGS = 24 };
    for (uint64_t seed = 1; seed <= 6; seed++) {
        struct rk_random random;
        rk_random_init(&random, seed);
        struct cluster *cluster = cluster_new(
            (struct cluster_options){.nodes = 1, .groups = 6, .segment_bytes = SEGMENT});
        cluster_settle(cluster, 3000);
        uint64_t most = 0, written = 0;
        uint32_t hot = 0;
        const struct rk_host_metrics *metrics = rk_host_metrics(cluster->nodes[0].host);
        for (uint32_t i = 0; i < 6000; i++) {
            /* All groups now and then, one of them nearly always, another one later. */
            if (i % 1000 == 0) hot = (uint32_t)rk_random_below(&random, TAGS);
            bool is_other = rk_random_below(&random, 40 * seed) == 0;
            uint32_t tag = is_other ? (uint32_t)rk_random_below(&random, TAGS) : hot;
            uint64_t call =
                put_tagged(cluster, tag, (uint32_t)rk_random_below(&random, 20));
            if (i % 8 == 7) cluster_answer(cluster, call, 2000);
            uint64_t over = metrics->log_space > metrics->log_limit
                                ? metrics->log_space - metrics->log_limit
                                : 0;
            if (over > most) most = over;
            written = metrics->log_bytes;
        }
        assert_true(written > 8 * 4 * SEGMENT);
        if (most > 0) fail_msg("seed %u: %u bytes over", (unsigned)seed, (unsigned)most);
        cluster_free(cluster);
    }
}

static void test_slow_follower_gets_one_snapshot(void **state)
{
    (void)state;
    struct cluster *cluster = open_cluster();
    char *text = malloc(200100);
    int at = snprintf(text, 200100, "{\"k\":\"big\",\"v\":\"");
    memset(text + at, 'x', 200000);
    snprintf(text + at + 200000, 8, "\"}");
    cluster_kill(cluster, 2, RK_MEMFS_CRASH_KEEP_ALL);
    cluster_settle(cluster, 3000);
    for (char key = 'a'; key < 'p'; key++) {
        text[6] = key;
        assert_int_equal(cluster_ask(cluster, 0, RK_OP_CACHE_PUT, text)->status, RK_OK);
    }
    put_some(cluster, 0, 0, 500);
    uint64_t taken = rk_host_metrics(cluster->nodes[0].host)->snapshots;
    cluster->snapshot_ms = 300;
    cluster_start(cluster, 2);
    struct rk_host_status first, third;
    bool has_met = false;
    for (uint32_t i = 500; i < 20000 && !has_met; i += 100) {
        put_some(cluster, 0, i, i + 100);
        rk_host_status(cluster->nodes[0].host, &first);
        rk_host_status(cluster->nodes[2].host, &third);
        has_met = true;
        for (uint32_t group = 1; group <= 2; group++)
            if (third.groups[group].applied + 100 < first.groups[group].applied)
                has_met = false;
    }
    assert_true(has_met);
    /* The leader did not wait with its own, and forgets the log again afterwards. */
    assert_true(rk_host_metrics(cluster->nodes[0].host)->snapshots > taken);
    for (uint32_t i = 0; i < 2; i++)
        assert_in_range(rk_host_metrics(cluster->nodes[i].host)->snapshots_sent, 0, 3);
    cluster->snapshot_ms = 0;
    put_some(cluster, 0, 0, 1000);
    rk_host_status(cluster->nodes[0].host, &first);
    for (uint32_t group = 1; group <= 2; group++)
        assert_true(first.groups[group].last_index - first.groups[group].first_index < 400);
    cluster_check_equal(cluster);
    free(text);
    cluster_free(cluster);
}

enum { WINDOW_SIZE = 1 << 20 }; /* of a transfer, unacknowledged */

static uint64_t bytes_sent(const struct cluster *cluster)
{
    uint64_t sum = 0;
    for (uint32_t i = 0; i < 2; i++)
        sum += rk_host_metrics(cluster->nodes[i].host)->snapshot_bytes_sent;
    return sum;
}

static enum rk_status size_add(void *context, const char *name)
{
    struct sized {
        struct rk_fs *fs;
        uint64_t size;
    } *sized = context;
    char path[RK_FS_PATH_MAX];
    struct rk_file *file = NULL;
    uint64_t size = 0;
    assert_int_equal(rk_fs_join(path, "data/snap", name), RK_OK);
    assert_int_equal(sized->fs->open(sized->fs, &file, path, 0), RK_OK);
    assert_int_equal(sized->fs->size(file, &size), RK_OK);
    sized->fs->close(file);
    sized->size += size;
    return RK_OK;
}

static uint64_t snapshots_size(struct node *node)
{
    struct {
        struct rk_fs *fs;
        uint64_t size;
    } sized = {rk_memfs_fs(node->disk), 0};
    assert_int_equal(sized.fs->list(sized.fs, "data/snap", size_add, &sized), RK_OK);
    return sized.size;
}

static void cut_off(struct cluster *cluster, bool is_cut)
{
    cluster_cut(cluster, 0, 2, is_cut);
    cluster_cut(cluster, 1, 2, is_cut);
}

/* The link breaks again and again, and now and then the receiver ends: what was sent in
 * between is several windows, and no more than one of them is sent again. */
static void test_sending_survives_broken_links(void **state)
{
    (void)state;
    enum { CUTS = 6, KEYS = 100, BETWEEN_SIZE = 5 * WINDOW_SIZE / 2 };
    struct cluster *cluster = cluster_new(
        (struct cluster_options){.nodes = 3, .groups = 1, .snapshot_bytes = 1 << 20});
    cluster_settle(cluster, 3000);
    char *text = malloc(200100);
    cluster_kill(cluster, 2, RK_MEMFS_CRASH_KEEP_ALL);
    cluster_settle(cluster, 3000);
    for (uint32_t i = 0; i < KEYS; i++) {
        int at = snprintf(text, 200100, "{\"k\":\"big%u\",\"v\":\"", i);
        memset(text + at, 'x', 200000);
        snprintf(text + at + 200000, 8, "\"}");
        assert_int_equal(cluster_ask(cluster, 0, RK_OP_CACHE_PUT, text)->status, RK_OK);
    }
    free(text);
    cluster_run(cluster, 500);
    uint64_t size = snapshots_size(&cluster->nodes[0]);
    assert_true(size > (uint64_t)CUTS * BETWEEN_SIZE);
    cluster_start(cluster, 2);
    for (uint32_t i = 0; i < CUTS; i++) {
        uint64_t before = bytes_sent(cluster);
        for (uint32_t ms = 0; ms < 5000 && bytes_sent(cluster) < before + BETWEEN_SIZE;
             ms++)
            cluster_step(cluster);
        assert_true(bytes_sent(cluster) >= before + BETWEEN_SIZE);
        bool is_end = i % 3 == 2;
        if (is_end) cluster_kill(cluster, 2, RK_MEMFS_CRASH_KEEP_ALL);
        if (!is_end) cut_off(cluster, true);
        cluster_run(cluster, 5);
        if (is_end) cluster_start(cluster, 2);
        if (!is_end) cut_off(cluster, false);
    }
    cluster_run(cluster, 10000);
    cluster_check_equal(cluster);
    uint64_t sent = bytes_sent(cluster);
    assert_in_range(sent, size, size + (uint64_t)CUTS * WINDOW_SIZE);
    cluster_free(cluster);
}

static void test_crash_at_every_turn_of_a_snapshot(void **state)
{
    (void)state;
    struct cluster *cluster = open_cluster();
    for (uint32_t i = 0; i < 25; i++) {
        struct node *node = &cluster->nodes[i % 3];
        node->is_chatty = true;
        rk_memfs_crash_at(node->disk, rk_memfs_op_count(node->disk) + 3 + i * 3);
        put_some(cluster, (i + 1) % 3, i * 200, i * 200 + 200);
        if (rk_memfs_is_down(node->disk)) {
            rk_memfs_crash_at(node->disk, 0);
            rk_memfs_restart(node->disk, RK_MEMFS_CRASH_RANDOM);
        }
        rk_memfs_crash_at(node->disk, 0);
        cluster_kill(cluster, i % 3, RK_MEMFS_CRASH_RANDOM);
        cluster_settle(cluster, 4000);
        node->is_chatty = false;
        cluster_start(cluster, i % 3);
        cluster_settle(cluster, 4000);
    }
    cluster_run(cluster, 5000);
    cluster_check_equal(cluster);
    cluster_free(cluster);
}

/* A state that changes faster than its snapshot is written, with hardly any room for what
 * is to be kept aside: its entries wait, so that each snapshot comes to its end. */
static void test_overwriting_does_not_outrun_a_snapshot(void **state)
{
    (void)state;
    enum { KEYS = 400, SIDE = 64 << 10, VALUE = 4000, RUN_MS = 4000 };
    struct cluster *cluster = cluster_new((struct cluster_options){.nodes = 3,
                                                                   .groups = 1,
                                                                   .snapshot_bytes = 300000,
                                                                   .side_bytes = SIDE,
                                                                   .slice_bytes = 1});
    struct rk_random random;
    char text[VALUE + 100];
    uint64_t most = 0, call = 0, urgent = 0, snapshots = 0;
    rk_random_init(&random, 1);
    cluster_settle(cluster, 3000);
    for (uint32_t i = 0; i < KEYS + RUN_MS; i++) {
        uint64_t key = i < KEYS ? i : rk_random_below(&random, KEYS);
        snprintf(text, sizeof(text), "{\"k\":\"key%u\",\"v\":\"%0*u\"}", (unsigned)key,
                 VALUE, i);
        call = cluster_call(cluster, 0, RK_OP_CACHE_PUT, text);
        cluster_step(cluster);
        for (uint32_t node = 0; node < 3; node++) {
            struct rk_snapshot_progress progress;
            rk_machine_snapshot_progress(rk_host_machine(cluster->nodes[node].host, 1),
                                         &progress);
            if (progress.side_bytes > most) most = progress.side_bytes;
            bool is_urgent = rk_host_slices(cluster->nodes[node].host) == RK_SLICES_URGENT;
            assert_true(!is_urgent || progress.side_bytes > SIDE / 4);
            urgent += is_urgent;
        }
    }
    assert_int_equal(cluster_answer(cluster, call, 20000)->status, RK_OK);
    cluster_run(cluster, 3000);
    cluster_check_equal(cluster);
    /* As much as the entries of one turn change may come on top. */
    assert_true(urgent > 0);
    assert_in_range(most, SIDE / 2, SIDE + (128 << 10) + 2 * VALUE);
    for (uint32_t node = 0; node < 3; node++) {
        const struct rk_host_metrics *metrics = rk_host_metrics(cluster->nodes[node].host);
        assert_true(metrics->snapshots >= 5);
        assert_true(metrics->snapshot_holds >= 5);
        assert_int_equal(cluster->nodes[node].warnings, 0);
        snapshots += metrics->snapshots;
    }
    /* Beside each file's creation and its end, blocks that others waited for. */
    assert_true(cluster->leisurely > snapshots);
    assert_true(cluster->works - cluster->leisurely > 2 * (snapshots + 3));
    cluster_free(cluster);
}

enum { STEPS_MAX = 2000 };

/* Steps from all of the state being written again until a snapshot of it is there. */
static uint32_t steps_to_a_snapshot(struct cluster *cluster, uint32_t keys)
{
    const struct rk_host_metrics *metrics = rk_host_metrics(cluster->nodes[0].host);
    uint64_t before = metrics->snapshots, call = 0;
    uint32_t steps = 0;
    char text[1100];
    for (uint32_t i = 0; i < keys; i++) {
        snprintf(text, sizeof(text), "{\"k\":\"key%u\",\"v\":\"%01000u\"}", i, i);
        call = cluster_call(cluster, 0, RK_OP_CACHE_PUT, text);
    }
    (void)cluster_answer(cluster, call, 2000);
    for (; metrics->snapshots == before && steps < STEPS_MAX; steps++)
        cluster_step(cluster);
    return steps;
}

/* A snapshot is taken in small pieces: one a turn, or as many as the turn has time for, or
 * none where there never is any. */
static void test_a_turn_takes_the_slices_that_it_has_time_for(void **state)
{
    (void)state;
    enum { KEYS = 400 };
    struct cluster *cluster = cluster_new((struct cluster_options){
        .nodes = 1, .groups = 1, .snapshot_bytes = 300000, .slice_bytes = 2000});
    cluster_settle(cluster, 3000);
    (void)steps_to_a_snapshot(cluster, KEYS);
    cluster_run(cluster, 500);
    uint32_t slow = steps_to_a_snapshot(cluster, KEYS);
    cluster_run(cluster, 500);
    cluster->slices = 50;
    uint32_t fast = steps_to_a_snapshot(cluster, KEYS);
    assert_in_range(slow, KEYS / 4, KEYS);
    assert_in_range(fast, 1, KEYS / 10);
    cluster_kill(cluster, 0, RK_MEMFS_CRASH_KEEP_ALL);
    cluster->has_slices = true;
    cluster_start(cluster, 0);
    cluster_settle(cluster, 3000);
    cluster_run(cluster, 500);
    fast = steps_to_a_snapshot(cluster, KEYS);
    assert_in_range(fast, 1, KEYS / 10);
    assert_int_equal(rk_host_slices(cluster->nodes[0].host), RK_SLICES_NONE);
    cluster->slices = 0;
    assert_int_equal(steps_to_a_snapshot(cluster, KEYS), STEPS_MAX);
    assert_int_equal(rk_host_slices(cluster->nodes[0].host), RK_SLICES_MORE);
    cluster_free(cluster);
}

struct same {
    struct rk_fs *fs[2];
    uint32_t count;
};

static void file_read(struct rk_fs *fs, const char *path, struct rk_buf *out)
{
    rk_buf_init(out);
    enum rk_status status = rk_fs_read_file(fs, out, path, 64 << 20);
    assert_true(status == RK_OK || status == RK_ENOENT);
}

static enum rk_status same_check(void *context, const char *name)
{
    struct same *same = context;
    char path[RK_FS_PATH_MAX];
    struct rk_buf a, b;
    assert_int_equal(rk_fs_join(path, "data/snap", name), RK_OK);
    file_read(same->fs[0], path, &a);
    file_read(same->fs[1], path, &b);
    if (a.size > 3 * RK_SNAPSHOT_BLOCK_SIZE && b.size > 0) {
        assert_int_equal(a.size, b.size);
        assert_memory_equal(a.data, b.data, a.size);
        same->count++;
    }
    rk_buf_fini(&a);
    rk_buf_fini(&b);
    return RK_OK;
}

/* However fast their disks are: so one node can go on sending what another one began. */
static void test_nodes_have_the_same_file(void **state)
{
    (void)state;
    enum { KEYS = 100, VALUE = 10000 };
    struct cluster *cluster = cluster_new(
        (struct cluster_options){.nodes = 3, .groups = 1, .snapshot_bytes = 1 << 20});
    char text[VALUE + 100];
    struct same same = {
        {rk_memfs_fs(cluster->nodes[0].disk), rk_memfs_fs(cluster->nodes[1].disk)}, 0};
    cluster_settle(cluster, 3000);
    cluster->nodes[1].work_ms[0] = 40;
    for (uint32_t i = 0; i < 3 * KEYS + 20; i++) {
        snprintf(text, sizeof(text), "{\"k\":\"key%u\",\"v\":\"%0*u\"}", i % KEYS, VALUE,
                 i);
        assert_int_equal(cluster_ask(cluster, 0, RK_OP_CACHE_PUT, text)->status, RK_OK);
    }
    cluster_run(cluster, 2000);
    assert_int_equal(same.fs[0]->list(same.fs[0], "data/snap", same_check, &same), RK_OK);
    assert_true(same.count > 0);
    cluster_free(cluster);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_snapshots_bound_the_log),
        cmocka_unit_test(test_lagging_follower_gets_a_snapshot),
        cmocka_unit_test(test_log_space_is_bounded_under_any_mix),
        cmocka_unit_test(test_slow_follower_gets_one_snapshot),
        cmocka_unit_test(test_sending_survives_broken_links),
        cmocka_unit_test(test_crash_at_every_turn_of_a_snapshot),
        cmocka_unit_test(test_overwriting_does_not_outrun_a_snapshot),
        cmocka_unit_test(test_a_turn_takes_the_slices_that_it_has_time_for),
        cmocka_unit_test(test_nodes_have_the_same_file),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
