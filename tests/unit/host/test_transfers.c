/* Snapshots on their way while disks are slow or hang, links break and leaders change: jobs
 * on files end long after what they were begun for. */
#include "cluster.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

enum {
    VALUE_SIZE = 100000,
    KEYS = 35,
    WINDOW_SIZE = 1 << 20, /* of a transfer, unacknowledged */
    NEVER_MS = 1000000000,
    GIVEN_UP_MS = 23000, /* a transfer without progress */
};

/* A value of VALUE_SIZE to one of KEYS keys. */
static uint64_t put_large(struct cluster *cluster, uint32_t node, uint32_t number)
{
    static char text[VALUE_SIZE + 64];
    int at = snprintf(text, sizeof(text), "{\"k\":\"large%u\",\"v\":\"%u-", number % KEYS,
                      number);
    memset(text + at, 'x', VALUE_SIZE);
    memcpy(text + at + VALUE_SIZE, "\"}", 3);
    return cluster_call(cluster, node, RK_OP_CACHE_PUT, text);
}

static void put_all(struct cluster *cluster, uint32_t node)
{
    for (uint32_t i = 0; i < KEYS; i++)
        assert_int_equal(cluster_answer(cluster, put_large(cluster, node, i), 5000)->status,
                         RK_OK);
}

static bool has_caught_up(struct cluster *cluster)
{
    for (uint32_t group = 0; group <= cluster->groups; group++) {
        uint64_t first = 0;
        for (uint32_t i = 0; i < cluster->count; i++) {
            struct rk_host_status status;
            if (cluster->nodes[i].host == NULL) return false;
            rk_host_status(cluster->nodes[i].host, &status);
            if (status.group_count <= group) return false;
            uint64_t applied = status.groups[group].applied;
            if (i == 0) first = applied;
            if (applied != first || applied != status.groups[group].commit) return false;
        }
    }
    return true;
}

static void wait_equal(struct cluster *cluster, uint64_t max_ms)
{
    for (uint64_t i = 0; i < max_ms && !has_caught_up(cluster); i++)
        cluster_step(cluster);
    assert_true(has_caught_up(cluster));
    cluster_check_equal(cluster);
}

static uint64_t bytes_sent(const struct cluster *cluster)
{
    uint64_t sum = 0;
    for (uint32_t i = 0; i < cluster->count; i++)
        if (cluster->nodes[i].host != NULL)
            sum += rk_host_metrics(cluster->nodes[i].host)->snapshot_bytes_sent;
    return sum;
}

static void lanes_set(struct node *node, uint64_t ms)
{
    for (int lane = 0; lane < RK_HOST_LANES; lane++)
        node->work_ms[lane] = node->work_done_ms[lane] = ms;
}

/* The third node needs a snapshot of some megabytes, the others lead. */
static struct cluster *open_lagging(void)
{
    struct cluster *cluster = cluster_new(
        (struct cluster_options){.nodes = 3, .groups = 1, .snapshot_bytes = 1 << 20});
    cluster_settle(cluster, 3000);
    cluster_kill(cluster, 2, RK_MEMFS_CRASH_KEEP_ALL);
    cluster_settle(cluster, 3000);
    put_all(cluster, 0);
    cluster_run(cluster, 500);
    return cluster;
}

static uint64_t term_of(struct cluster *cluster, uint32_t node, uint32_t group)
{
    struct rk_host_status status;
    rk_host_status(cluster->nodes[node].host, &status);
    return status.groups[group].term;
}

/* Whatever hangs: calls are answered, nobody is elected, and no more is sent than fits the
 * window, again each second. */
static void check_hanging(uint32_t hanging)
{
    enum { SECONDS = 3 };
    struct cluster *cluster = open_lagging();
    lanes_set(&cluster->nodes[hanging], NEVER_MS);
    cluster_start(cluster, 2);
    cluster_settle(cluster, 1000);
    int leader = cluster_leader(cluster, 1);
    uint64_t term = term_of(cluster, 0, 1);
    for (uint32_t i = 0; i < SECONDS * 10; i++) {
        (void)cluster_answer(cluster, put_large(cluster, i % 2, i), 200);
        cluster_run(cluster, 50);
    }
    assert_int_equal(cluster_leader(cluster, 1), leader);
    for (uint32_t i = 0; i < 3; i++)
        assert_int_equal(term_of(cluster, i, 1), term);
    assert_false(has_caught_up(cluster));
    if (hanging == 2)
        assert_in_range(bytes_sent(cluster), 1, (SECONDS + 4) * 2 * WINDOW_SIZE);
    lanes_set(&cluster->nodes[hanging], 0);
    wait_equal(cluster, 30000);
    cluster_free(cluster);
}

static void test_a_receiver_whose_disk_hangs(void **state)
{
    (void)state;
    check_hanging(2);
}

static void test_a_sender_whose_disk_hangs(void **state)
{
    (void)state;
    struct cluster *cluster = open_lagging();
    uint32_t leader = (uint32_t)cluster_leader(cluster, 1);
    cluster_free(cluster);
    check_hanging(leader); /* it is the same one each time */
}

static void hand_over(struct cluster *cluster, int to)
{
    char json[64];
    snprintf(json, sizeof(json), "{\"group\":1,\"to\":\"n%d\"}", to + 1);
    for (int i = 0; i < 100 && cluster_leader(cluster, 1) != to; i++) {
        uint64_t call = cluster_call(cluster, (uint32_t)to, RK_OP_CLUSTER_TRANSFER, json);
        (void)cluster_answer(cluster, call, 15000);
        cluster_run(cluster, 20);
    }
    assert_int_equal(cluster_leader(cluster, 1), to);
}

/* Snapshots move on. */
static void put_more(struct cluster *cluster, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++)
        (void)cluster_answer(cluster, put_large(cluster, 0, i), 5000);
}

/* Until the node has a job of the transfer lane under way, which does not end. */
static void hang_transfer(struct cluster *cluster, uint32_t node)
{
    cluster->nodes[node].work_ms[1] = NEVER_MS;
    for (int i = 0; i < 2000 && cluster->nodes[node].work[1] == NULL; i++)
        cluster_step(cluster);
    assert_non_null(cluster->nodes[node].work[1]);
}

/* No chunk of the spoiling node arrives. */
static uint32_t spoiling;

static void lose_chunks(struct cluster *cluster, struct packet *packet)
{
    (void)cluster;
    if (packet->link == RK_LINK_SNAPSHOT && packet->from == spoiling)
        rk_buf_reset(&packet->bytes);
}

/* Both halves of a transfer whose jobs hang; the next transfer to the same node is of
 * another snapshot, and what ends then belongs to the first one. */
static void check_late_job(bool is_sender)
{
    struct cluster *cluster = open_lagging();
    int leader = cluster_leader(cluster, 1), other = leader == 0 ? 1 : 0;
    uint32_t hanging = is_sender ? (uint32_t)leader : 2;
    cluster_start(cluster, 2);
    while (bytes_sent(cluster) < WINDOW_SIZE + WINDOW_SIZE / 2)
        cluster_step(cluster);
    hang_transfer(cluster, hanging);
    spoiling = (uint32_t)other;
    cluster->spoil = lose_chunks;
    hand_over(cluster, other);
    put_more(cluster, 30);
    if (is_sender)
        hand_over(cluster, leader);
    else
        cluster_run(cluster, GIVEN_UP_MS); /* what it sends is of now */
    cluster->spoil = NULL;
    cluster_run(cluster, 2000); /* the next one is under way, and can not go on */
    assert_false(has_caught_up(cluster));
    uint32_t warnings = cluster->nodes[2].warnings;
    lanes_set(&cluster->nodes[hanging], 0);
    wait_equal(cluster, 60000);
    if (cluster->nodes[2].warnings != warnings) fail_msg("%s", cluster->nodes[2].warning);
    cluster_free(cluster);
}

static void test_a_job_that_outlives_its_receiving(void **state)
{
    (void)state;
    check_late_job(false);
}

static void test_a_job_that_outlives_its_sending(void **state)
{
    (void)state;
    check_late_job(true);
}

static void fault(struct cluster *cluster, struct rk_random *random)
{
    static const uint64_t times_ms[] = {0, 1, 2, 10, 100, 700, 3000};
    uint32_t a = (uint32_t)rk_random_below(random, 3);
    uint32_t b = (a + 1 + (uint32_t)rk_random_below(random, 2)) % 3;
    struct node *node = &cluster->nodes[a];
    char json[64];
    switch (rk_random_below(random, 6)) {
    case 0:
    case 1: {
        uint64_t ms = times_ms[rk_random_below(random, 7)];
        uint64_t lane = rk_random_below(random, RK_HOST_LANES);
        node->work_ms[lane] = ms;
        break;
    }
    case 2: cluster_cut(cluster, a, b, true); break;
    case 3: cluster_cut(cluster, a, b, false); break;
    case 4:
        if (node->host != NULL) cluster_kill(cluster, a, RK_MEMFS_CRASH_RANDOM);
        break;
    default:
        if (node->host == NULL) cluster_start(cluster, a);
        snprintf(json, sizeof(json), "{\"group\":1,\"to\":\"n%u\"}", b + 1);
        (void)cluster_call(cluster, a, RK_OP_CLUSTER_TRANSFER, json);
        break;
    }
}

static void heal(struct cluster *cluster)
{
    for (uint32_t a = 0; a < 3; a++) {
        if (cluster->nodes[a].host == NULL) cluster_start(cluster, a);
        lanes_set(&cluster->nodes[a], 0);
        for (uint32_t b = 0; b < 3; b++)
            if (a != b) cluster_cut(cluster, a, b, false);
    }
}

static void test_anything_may_happen_meanwhile(void **state)
{
    (void)state;
    uint64_t sent = 0;
    for (uint64_t seed = 1; seed <= 4; seed++) {
        struct rk_random random;
        rk_random_init(&random, seed);
        struct cluster *cluster = cluster_new((struct cluster_options){
            .nodes = 3, .groups = 1, .snapshot_bytes = 400000, .side_bytes = 300000});
        cluster_settle(cluster, 3000);
        for (uint32_t round = 0; round < 60; round++) {
            fault(cluster, &random);
            for (uint32_t i = 0; i < 6; i++) {
                uint32_t node = (uint32_t)rk_random_below(&random, 3);
                if (cluster->nodes[node].host != NULL)
                    (void)put_large(cluster, node, (uint32_t)rk_random_next(&random));
                cluster_run(cluster, rk_random_below(&random, 40));
            }
        }
        heal(cluster);
        wait_equal(cluster, 90000);
        sent += bytes_sent(cluster);
        cluster_free(cluster);
    }
    assert_true(sent > (uint64_t)8 * WINDOW_SIZE);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_receiver_whose_disk_hangs),
        cmocka_unit_test(test_a_sender_whose_disk_hangs),
        cmocka_unit_test(test_a_job_that_outlives_its_receiving),
        cmocka_unit_test(test_a_job_that_outlives_its_sending),
        cmocka_unit_test(test_anything_may_happen_meanwhile),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
