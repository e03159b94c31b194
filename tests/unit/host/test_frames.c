/* Frames that are forged, or come from strangers. (The transport drops damaged ones.) */
#include "cluster.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

static void flip(struct cluster *cluster, struct packet *packet)
{
    struct rk_buf *bytes = &packet->bytes;
    for (uint64_t i = 0; i <= rk_random_below(&cluster->random, 4); i++) {
        uint64_t at = rk_random_below(&cluster->random, bytes->size);
        bytes->data[at] ^= (uint8_t)(1u << rk_random_below(&cluster->random, 8));
    }
    if (rk_random_below(&cluster->random, 4) == 0)
        bytes->size = rk_random_below(&cluster->random, bytes->size);
}

/* What the decoders have to stand. */
static void forge_some(struct cluster *cluster, struct packet *packet)
{
    struct rk_buf *bytes = &packet->bytes;
    if (rk_random_below(&cluster->random, 20) != 0) return;
    /* The header stays: the frame is taken for one of its sender. */
    size_t head = 1 + 6 * 8 + 1 + 2;
    if (bytes->size <= head) return;
    struct packet tail = {
        .bytes = {.data = bytes->data + head, .size = bytes->size - head}};
    flip(cluster, &tail);
    bytes->size = head + tail.bytes.size;
    cluster->spoiled++;
}

static void test_forged_frames_do_no_harm_to_memory(void **state)
{
    (void)state;
    char text[64];
    uint64_t spoiled = 0;
    for (uint64_t seed = 1; seed <= 30; seed++) {
        struct cluster *cluster = cluster_new(
            (struct cluster_options){.nodes = 3, .groups = 2, .snapshot_bytes = 20000});
        cluster_settle(cluster, 3000);
        rk_random_init(&cluster->random, seed);
        cluster->spoil = forge_some;
        for (uint32_t i = 0; i < 3; i++)
            cluster->nodes[i].is_chatty = true; /* it may well see that all is lost */
        for (uint32_t i = 0; i < 120; i++) {
            snprintf(text, sizeof(text), "{\"k\":\"k%u\",\"v\":%u,\"ttl_ms\":500}", i % 50,
                     i);
            cluster_call(cluster, i % 3, RK_OP_CACHE_PUT, text);
            cluster_call(cluster, i % 3, RK_OP_CACHE_GET, "{\"keys\":[\"k1\",\"k2\"]}");
            cluster_call(cluster, i % 3, RK_OP_LOCK_ACQUIRE,
                         "{\"resource\":\"r\",\"owner\":\"o\",\"wait_ms\":50}");
            cluster_run(cluster, 4);
        }
        spoiled += cluster->spoiled;
        cluster_free(cluster);
    }
    assert_true(spoiled > 500);
}

/* Another cluster with the same names, ports and even numbers. */
static void test_another_cluster_is_a_stranger(void **state)
{
    (void)state;
    struct cluster *ours = cluster_new((struct cluster_options){.nodes = 3, .groups = 2});
    struct cluster *other = cluster_new((struct cluster_options){.nodes = 3, .groups = 2});
    for (uint32_t i = 0; i < 3; i++) { /* a cluster id of its own */
        cluster_kill(other, i, RK_MEMFS_CRASH_LOSE_ALL);
        cluster_wipe(other, i);
    }
    for (uint32_t i = 0; i < 3; i++)
        cluster_start(other, i);
    cluster_settle(ours, 3000);
    cluster_settle(other, 3000);
    struct rk_host_metrics before = *rk_host_metrics(ours->nodes[0].host);
    cluster_step(other);
    cluster_run(other, 150);
    while (other->first == NULL)
        cluster_step(other);
    uint32_t count = 0;
    for (struct packet *packet = other->first; packet != NULL; packet = packet->next) {
        if (packet->to != 0) continue;
        rk_host_receive(ours->nodes[0].host, other->nodes[packet->from].name, packet->link,
                        rk_buf_slice(&packet->bytes));
        count++;
    }
    assert_true(rk_host_metrics(ours->nodes[0].host)->frames_dropped >=
                before.frames_dropped + count);
    cluster_run(ours, 500);
    cluster_check_equal(ours);
    cluster_free(ours);
    cluster_free(other);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_forged_frames_do_no_harm_to_memory),
        cmocka_unit_test(test_another_cluster_is_a_stranger),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
