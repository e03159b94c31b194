/* Frames that are forged, or come from strangers. (The transport drops damaged ones.) */
#include "cluster.h"

#include "raft/wire.h"
#include "storage/wal.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

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

/* A frame of the leader with an entry of so many bytes, which its follower does not have.
 */
static void append_forge(struct cluster *cluster, uint32_t leader, uint32_t to, size_t size)
{
    struct rk_host_status status;
    struct rk_buf frame = {0}, body = {0};
    uint8_t *data = calloc(1, size);
    const struct packet *packet = NULL;
    for (int i = 0; i < 1000 && packet == NULL; i++) {
        cluster_step(cluster);
        packet = cluster->first;
        while (packet != NULL && (packet->from != leader || packet->to != to))
            packet = packet->next;
    }
    assert_non_null(packet);
    size_t head = 1 + 6 * 8 + 1 + 2; /* the names have two letters */
    rk_buf_append(&frame, packet->bytes.data, head);
    rk_host_status(cluster->nodes[leader].host, &status);
    const struct rk_host_group_status *group = &status.groups[1];
    const struct rk_raft_entry entry = {group->last_index + 1, group->term,
                                        rk_slice_of(data, size), RK_RAFT_ENTRY_NORMAL};
    const struct rk_raft_message message = {.type = RK_RAFT_MSG_APP,
                                            .from = leader + 1,
                                            .to = to + 1,
                                            .term = group->term,
                                            .log_term = group->term,
                                            .index = group->last_index,
                                            .entries = &entry,
                                            .entry_count = 1};
    rk_buf_varint(&body, 1);
    rk_raft_message_encode(&body, &message);
    rk_buf_u16(&frame, 1); /* a section of raft */
    rk_buf_u32(&frame, (uint32_t)body.size);
    rk_buf_append_slice(&frame, rk_buf_slice(&body));
    rk_host_receive(cluster->nodes[to].host, cluster->nodes[leader].name, RK_LINK_BULK,
                    rk_buf_slice(&frame));
    rk_buf_fini(&frame);
    rk_buf_fini(&body);
    free(data);
}

/* What no log can hold is no entry of a leader, and must not end who receives it. */
static void test_entries_are_bounded(void **state)
{
    (void)state;
    struct cluster *cluster =
        cluster_new((struct cluster_options){.nodes = 3, .groups = 1});
    cluster_settle(cluster, 3000);
    uint32_t leader = (uint32_t)cluster_leader(cluster, 1), to = (leader + 1) % 3;
    struct rk_host_status status;
    struct rk_host_metrics before = *rk_host_metrics(cluster->nodes[to].host);
    append_forge(cluster, leader, to, RK_WAL_ENTRY_MAX + 1);
    assert_int_equal(rk_host_metrics(cluster->nodes[to].host)->frames_dropped,
                     before.frames_dropped + 1);
    rk_host_status(cluster->nodes[to].host, &status);
    uint64_t last = status.groups[1].last_index;
    append_forge(cluster, leader, to, RK_WAL_ENTRY_MAX);
    rk_host_status(cluster->nodes[to].host, &status);
    assert_int_equal(status.groups[1].last_index, last + 1);
    cluster_free(cluster);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_forged_frames_do_no_harm_to_memory),
        cmocka_unit_test(test_another_cluster_is_a_stranger),
        cmocka_unit_test(test_entries_are_bounded),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
