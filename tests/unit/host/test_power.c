/* Power fails at each operation of a node's disk in turn: while it is born, writes its log,
 * takes snapshots and removes old files, receives a snapshot of another node; and again at
 * each operation of the recovery after that. What was answered is found, and all agree.
 *
 * RK_POWER_STEP=n: recovery is swept after each n-th crash only. */
#include "cluster.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

enum { KEYS = 5, PUTS = 60 };

struct known { /* what the node answered */
    unsigned value[KEYS];
    uint64_t fence;
};

static char where[96]; /* the case, for messages */

static const enum rk_memfs_crash_mode modes[] = {
    RK_MEMFS_CRASH_RANDOM, RK_MEMFS_CRASH_LOSE_ALL, RK_MEMFS_CRASH_KEEP_ALL};

static bool has_ended(const struct node *node)
{
    return node->host == NULL || node->fatal[0] != '\0' || rk_memfs_is_down(node->disk);
}

/* One call, as long as the node lives; its answer, or NULL. */
static const struct rk_reply *ask(struct cluster *cluster, enum rk_op op, const char *json)
{
    struct node *node = &cluster->nodes[0];
    if (has_ended(node)) return NULL;
    uint64_t call = cluster_call(cluster, 0, op, json);
    for (int i = 0; i < 3000 && !has_ended(node); i++) {
        if (cluster_has_answer(cluster, call)) return cluster_answer(cluster, call, 1);
        cluster_step(cluster);
    }
    return cluster_has_answer(cluster, call) ? cluster_answer(cluster, call, 1) : NULL;
}

static void run_ms(struct cluster *cluster, const struct node *node, uint64_t ms)
{
    for (uint64_t i = 0; i < ms && !has_ended(node); i++)
        cluster_step(cluster);
}

static void work(struct cluster *cluster, struct known *known)
{
    char text[256];
    run_ms(cluster, &cluster->nodes[0], 300);
    for (unsigned i = 1; i <= PUTS; i++) {
        snprintf(text, sizeof(text), "{\"k\":\"key%u\",\"v\":\"%u %0150u\"}", i % KEYS, i,
                 i);
        const struct rk_reply *reply = ask(cluster, RK_OP_CACHE_PUT, text);
        if (reply != NULL && reply->status == RK_OK) known->value[i % KEYS] = i;
        if (i % 20 != 0) continue;
        snprintf(text, sizeof(text), "{\"resource\":\"r%u\",\"owner\":\"o\"}", i);
        reply = ask(cluster, RK_OP_LOCK_ACQUIRE, text);
        if (reply != NULL && reply->status == RK_OK) known->fence = reply->fence;
    }
    run_ms(cluster, &cluster->nodes[0], 50);
}

static void end(struct cluster *cluster, uint32_t at, enum rk_memfs_crash_mode mode)
{
    struct node *node = &cluster->nodes[at];
    rk_memfs_crash_at(node->disk, 0);
    if (!rk_memfs_is_down(node->disk))
        rk_memfs_crash(node->disk, mode);
    else
        rk_memfs_restart(node->disk, mode);
    if (node->host != NULL) cluster_kill(cluster, at, RK_MEMFS_CRASH_KEEP_ALL);
    node->fatal[0] = '\0';
}

static void start(struct cluster *cluster, uint32_t at)
{
    char error[256] = "";
    enum rk_status status = cluster_try_start(cluster, at, error);
    if (status != RK_OK) fail_msg("%s: %s %s", where, rk_status_text(status), error);
}

/* A start at which power fails after so many operations. False: there were not so many. */
static bool start_and_crash(struct cluster *cluster, uint32_t at, uint64_t operations,
                            enum rk_memfs_crash_mode mode)
{
    struct node *node = &cluster->nodes[at];
    char error[256] = "";
    uint64_t made = rk_memfs_op_count(node->disk);
    rk_memfs_crash_at(node->disk, made + operations);
    node->is_chatty = true;
    if (cluster_try_start(cluster, at, error) == RK_OK) run_ms(cluster, node, 60);
    bool has_crashed = rk_memfs_is_down(node->disk);
    end(cluster, at, mode);
    return has_crashed;
}

static void check(struct cluster *cluster, const struct known *known)
{
    char text[64];
    cluster->nodes[0].is_chatty = false;
    cluster_settle(cluster, 5000);
    for (unsigned i = 0; i < KEYS; i++) {
        snprintf(text, sizeof(text), "{\"k\":\"key%u\"}", i);
        const struct rk_reply *reply = cluster_ask(cluster, 0, RK_OP_CACHE_GET, text);
        unsigned found = 0;
        if (reply->found) { /* after the quotation mark */
            assert_true(reply->value.bytes.size > 20);
            snprintf(text, sizeof(text), "%.20s",
                     (const char *)reply->value.bytes.data + 1);
            found = (unsigned)strtoul(text, NULL, 10);
        }
        if (found < known->value[i])
            fail_msg("%s: key %u is %u, %u was answered", where, i, found, known->value[i]);
    }
    const struct rk_reply *reply = cluster_ask(cluster, 0, RK_OP_LOCK_ACQUIRE,
                                               "{\"resource\":\"new\",\"owner\":\"o\"}");
    assert_int_equal(reply->status, RK_OK);
    assert_true(reply->fence > known->fence);
}

/* On copies of the disk: a crash at each operation of the recovery, then a recovery. */
static void sweep_recovery(struct cluster *cluster, uint32_t at, uint64_t crash,
                           const struct known *known)
{
    struct node *node = &cluster->nodes[at];
    struct rk_memfs *disk = node->disk;
    bool has_crashed = true;
    for (uint64_t i = 1; has_crashed; i++) {
        snprintf(where, sizeof(where), "power fails at %u, and at %u of the recovery",
                 (unsigned)crash, (unsigned)i);
        node->disk = rk_memfs_clone(disk);
        has_crashed = start_and_crash(cluster, at, i, modes[i % 3]);
        start(cluster, at);
        check(cluster, known);
        cluster_kill(cluster, at, RK_MEMFS_CRASH_KEEP_ALL);
        rk_memfs_free(node->disk);
        cluster->nodes[at].fatal[0] = '\0';
    }
    node->disk = disk;
}

static uint64_t power_step(uint64_t usual)
{
    const char *text = getenv("RK_POWER_STEP");
    return text == NULL ? usual : strtoull(text, NULL, 10);
}

static void test_at_each_operation(void **state)
{
    (void)state;
    bool has_crashed = true;
    uint64_t at;
    for (at = 1; has_crashed; at++) {
        struct known known = {0};
        snprintf(where, sizeof(where), "power fails at %u", (unsigned)at);
        struct cluster *cluster = cluster_new((struct cluster_options){
            .nodes = 1, .groups = 1, .snapshot_bytes = 2048, .segment_bytes = 16384});
        struct node *node = &cluster->nodes[0];
        char error[256];
        cluster_kill(cluster, 0, RK_MEMFS_CRASH_KEEP_ALL);
        cluster_wipe(cluster, 0);
        rk_memfs_crash_at(node->disk, at);
        node->is_chatty = true;
        if (cluster_try_start(cluster, 0, error) == RK_OK) work(cluster, &known);
        has_crashed = rk_memfs_is_down(node->disk);
        end(cluster, 0, modes[at % 3]);
        if (at % power_step(5) == 0) sweep_recovery(cluster, 0, at, &known);
        snprintf(where, sizeof(where), "power fails at %u", (unsigned)at);
        start(cluster, 0);
        check(cluster, &known);
        cluster_free(cluster);
    }
    printf("%u operations\n", (unsigned)at - 1);
    assert_true(at > 100);
}

/* It lags, and needs a snapshot. */
static struct cluster *make_lag(void)
{
    char text[256];
    struct cluster *cluster = cluster_new((struct cluster_options){
        .nodes = 3, .groups = 1, .snapshot_bytes = 2048, .segment_bytes = 16384});
    cluster_settle(cluster, 3000);
    cluster_cut(cluster, 0, 2, true);
    cluster_cut(cluster, 1, 2, true);
    cluster_settle(cluster, 100);
    for (unsigned i = 1; i <= PUTS; i++) {
        snprintf(text, sizeof(text), "{\"k\":\"key%u\",\"v\":\"%u %0150u\"}", i % KEYS, i,
                 i);
        assert_int_equal(cluster_ask(cluster, 0, RK_OP_CACHE_PUT, text)->status, RK_OK);
    }
    cluster_cut(cluster, 0, 2, false);
    cluster_cut(cluster, 1, 2, false);
    return cluster;
}

static void test_while_a_snapshot_is_received(void **state)
{
    (void)state;
    bool has_crashed = true;
    uint64_t at;
    uint32_t installed = 0;
    for (at = 1; has_crashed; at++) {
        snprintf(where, sizeof(where), "power fails at %u of receiving", (unsigned)at);
        struct cluster *cluster = make_lag();
        struct node *node = &cluster->nodes[2];
        struct rk_host_status status;
        rk_memfs_crash_at(node->disk, rk_memfs_op_count(node->disk) + at);
        node->is_chatty = true;
        run_ms(cluster, node, 1200);
        has_crashed = rk_memfs_is_down(node->disk);
        rk_host_status(node->host, &status);
        installed += status.groups[1].first_index > 10;
        end(cluster, 2, modes[at % 3]);
        if (start_and_crash(cluster, 2, at % 11 + 1, modes[at % 3]))
            (void)start_and_crash(cluster, 2, at % 5 + 1, RK_MEMFS_CRASH_RANDOM);
        node->is_chatty = false;
        start(cluster, 2);
        cluster_settle(cluster, 5000);
        cluster_run(cluster, 1500);
        cluster_check_equal(cluster);
        cluster_free(cluster);
    }
    printf("%u operations, in %u cases the snapshot had been installed\n", (unsigned)at - 1,
           installed);
    assert_true(at > 10 && installed > 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_at_each_operation),
        cmocka_unit_test(test_while_a_snapshot_is_received),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
