/* Bounded readies: what is new goes to the disk in parts, and each part stands by itself:
 * answers, commit and completion speak of what was handed out, not of all there is. */
#include "cluster.h"

#include "raft/internal.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

enum { DATA = 36, FIT = 3 }; /* bytes of an entry; so many go with one ready */

static struct cluster cluster;
static const char text[] = "0123456789abcdefghijklmnopqrstuvwxyz";

static void parts(struct rk_raft_options *options)
{
    options->max_append_bytes = (uint64_t)FIT * (DATA + RK_RAFT_APPEND_OVERHEAD);
}

static struct rk_raft_entry entry(uint64_t index, uint64_t term)
{
    return (struct rk_raft_entry){
        .index = index, .term = term, .data = rk_slice_of_string(text)};
}

/* An append of `count` entries of that term after index. */
static enum rk_status append(struct node *node, uint64_t from, uint64_t term,
                             uint64_t index, size_t count, uint64_t commit)
{
    struct rk_raft_entry entries[20];
    assert_true(count <= 20);
    for (size_t i = 0; i < count; i++)
        entries[i] = entry(index + 1 + i, term);
    return cluster_step(node, (struct rk_raft_message){.type = RK_RAFT_MSG_APP,
                                                       .from = from,
                                                       .term = term,
                                                       .log_term = index > 0 ? 1 : 0,
                                                       .index = index,
                                                       .commit = commit,
                                                       .entries = entries,
                                                       .entry_count = count});
}

/* The highest index that the packets on their way acknowledge in that term; 0: none. */
static uint64_t highest_ack(uint64_t term)
{
    uint64_t highest = 0;
    for (size_t i = 0; i < cluster.packet_count; i++) {
        struct rk_raft_message message;
        struct rk_arena arena;
        struct rk_reader reader;
        rk_arena_init(&arena);
        rk_reader_init(&reader,
                       rk_slice_of(cluster.packets[i].data, cluster.packets[i].size));
        assert_int_equal(rk_raft_message_decode(&message, &arena, &reader), RK_OK);
        if (message.type == RK_RAFT_MSG_APP_RESP && message.term == term &&
            !message.reject && message.index > highest)
            highest = message.index;
        rk_arena_fini(&arena);
    }
    return highest;
}

static void test_a_ready_is_bounded(void **state)
{
    (void)state;
    cluster_open(&cluster, 3, 3, parts);
    cluster_elect(&cluster, 1);
    struct node *leader = cluster_node(&cluster, 1);
    for (int i = 0; i < 10; i++)
        assert_int_equal(cluster_propose(leader, text), RK_OK);
    struct rk_raft_ready ready;
    for (uint64_t next = 2; next <= 11; next += FIT) {
        assert_true(rk_raft_has_ready(leader->raft));
        assert_int_equal(rk_raft_ready(leader->raft, &ready), RK_OK);
        assert_int_equal(ready.entries[0].index, next);
        assert_int_equal(ready.entry_count, next + FIT <= 12 ? FIT : 12 - next);
        assert_int_equal(ready.done_index, next + ready.entry_count - 1);
        assert_true(ready.must_sync);
    }
    assert_false(rk_raft_has_ready(leader->raft));
    cluster_close(&cluster);
}

/* One that is larger than the bound goes alone. */
static void test_a_large_entry_goes_alone(void **state)
{
    (void)state;
    char large[1000];
    memset(large, 'x', sizeof(large) - 1);
    large[sizeof(large) - 1] = '\0';
    cluster_open(&cluster, 1, 1, parts);
    cluster_elect(&cluster, 1);
    struct node *leader = cluster_node(&cluster, 1);
    struct rk_raft_ready ready;
    assert_int_equal(cluster_propose(leader, large), RK_OK);
    assert_int_equal(cluster_propose(leader, large), RK_OK);
    for (int i = 0; i < 2; i++) {
        assert_int_equal(rk_raft_ready(leader->raft, &ready), RK_OK);
        assert_int_equal(ready.entry_count, 1);
    }
    cluster_close(&cluster);
}

/* A leader that is proposed to without pause counts each part as it becomes durable. */
static void test_a_leader_counts_the_parts(void **state)
{
    (void)state;
    cluster_open(&cluster, 1, 1, parts);
    cluster_elect(&cluster, 1);
    struct node *leader = cluster_node(&cluster, 1);
    leader->is_disk_slow = true;
    for (uint64_t round = 1; round <= 20; round++) {
        for (int i = 0; i < 2 * FIT; i++)
            assert_int_equal(cluster_propose(leader, text), RK_OK);
        cluster_turn(&cluster, leader);
        cluster_sync(&cluster, leader, 1);
        assert_int_equal(cluster_status(leader).durable_index, 1 + round * FIT);
        assert_int_equal(rk_raft_committed(leader->raft), 1 + round * FIT);
    }
    leader->is_disk_slow = false;
    cluster_settle(&cluster);
    assert_int_equal(leader->applied, 1 + 40 * FIT);
    cluster_close(&cluster);
}

/* Rule 2 for a follower; and what a power failure leaves of a part fits together. */
static void test_a_follower_acknowledges_the_parts(void **state)
{
    (void)state;
    cluster_open(&cluster, 3, 3, parts);
    struct node *node = cluster_node(&cluster, 2);
    assert_int_equal(append(node, 1, 1, 0, 2, 0), RK_OK);
    assert_int_equal(append(node, 1, 1, 2, 6, 8), RK_OK);
    for (int i = 0; i < 3; i++)
        cluster_turn(&cluster, node);
    assert_int_equal(node->write_count, 3);
    assert_int_equal(node->writes[0].hard_state.commit, 3);
    assert_int_equal(node->writes[1].hard_state.commit, 6);
    assert_int_equal(node->writes[2].hard_state.commit, 8);
    assert_int_equal(highest_ack(1), 0);
    cluster_sync(&cluster, node, 1); /* 1 to 3 */
    cluster_turn(&cluster, node);
    assert_int_equal(highest_ack(1), 2);
    cluster_sync(&cluster, node, 1); /* 4 to 6: in the middle of the second append */
    cluster_turn(&cluster, node);
    assert_int_equal(highest_ack(1), 2);
    cluster_crash(&cluster, node);
    cluster_restart(&cluster, node);
    assert_int_equal(cluster_status(node).last_index, 6);
    assert_int_equal(rk_raft_committed(node->raft), 6);

    assert_int_equal(append(node, 1, 1, 6, 2, 8), RK_OK);
    cluster_turn(&cluster, node);
    cluster_sync(&cluster, node, 1);
    cluster_turn(&cluster, node);
    assert_int_equal(highest_ack(1), 8);
    cluster_close(&cluster);
}

/* An answer to a former leader counts there, too: it waits for its entries, whatever the
 * term is by now. */
static void test_answers_of_a_former_term_wait(void **state)
{
    (void)state;
    cluster_open(&cluster, 3, 3, parts);
    struct node *node = cluster_node(&cluster, 2);
    assert_int_equal(append(node, 1, 1, 0, 2 * FIT, 0), RK_OK);
    const struct rk_raft_message vote = {.type = RK_RAFT_MSG_VOTE,
                                         .campaign = RK_RAFT_CAMPAIGN_TRANSFER,
                                         .from = 3,
                                         .term = 2,
                                         .log_term = 1,
                                         .index = 2 * FIT};
    assert_int_equal(cluster_step(node, vote), RK_OK);
    cluster_turn(&cluster, node);
    cluster_sync(&cluster, node, 1);
    cluster_turn(&cluster, node);
    assert_int_equal(node->durable_hard.vote, 3);
    assert_int_equal(cluster.sent[RK_RAFT_MSG_VOTE_RESP], 1);
    assert_int_equal(highest_ack(1), 0);
    cluster_sync(&cluster, node, 1);
    cluster_turn(&cluster, node);
    assert_int_equal(highest_ack(1), 2 * FIT);
    cluster_close(&cluster);
}

/* What waited for entries that a new leader replaced does not wait for ever. */
static void test_answers_end_with_their_entries(void **state)
{
    (void)state;
    cluster_open(&cluster, 3, 3, parts);
    struct node *node = cluster_node(&cluster, 2);
    assert_int_equal(append(node, 1, 1, 0, 3 * FIT, 0), RK_OK);
    cluster_turn(&cluster, node);
    cluster_sync(&cluster, node, 1);
    assert_int_equal(append(node, 3, 2, 1, 1, 0), RK_OK);
    for (int i = 0; i < 3; i++) {
        cluster_turn(&cluster, node);
        cluster_sync(&cluster, node, 10);
    }
    assert_false(rk_raft_has_ready(node->raft));
    assert_int_equal(highest_ack(2), 2);
    assert_int_equal(node->raft->after.count, 0);
    assert_int_equal(node->raft->held.count, 0);
    assert_int_equal(cluster_status(node).durable_index, 2);
    cluster_close(&cluster);
}

/* The host has no room: nothing is handed out to be written, and all else goes on. */
static void test_held_appends(void **state)
{
    (void)state;
    cluster_open(&cluster, 3, 3, NULL);
    cluster_elect(&cluster, 1);
    struct node *leader = cluster_node(&cluster, 1);
    rk_raft_hold_appends(leader->raft, true);
    assert_int_equal(cluster_propose(leader, text), RK_OK);
    cluster_settle(&cluster);
    /* The others have written it: that is a majority. */
    assert_int_equal(leader->write_count, 0);
    assert_int_equal(rk_raft_committed(leader->raft), 2);
    assert_int_equal(leader->applied, 1);
    assert_int_equal(cluster_node(&cluster, 2)->applied, 2);
    assert_int_equal(rk_raft_read_index(leader->raft, 7), RK_OK);
    size_t heartbeats = cluster.sent[RK_RAFT_MSG_HEARTBEAT];
    cluster_tick(&cluster, 30);
    assert_int_equal(leader->read_count, 1);
    assert_true(cluster.sent[RK_RAFT_MSG_HEARTBEAT] > heartbeats + 20);
    assert_true(rk_raft_is_leader(leader->raft));
    rk_raft_hold_appends(leader->raft, false);
    cluster_settle(&cluster);
    assert_int_equal(leader->applied, 2);
    assert_int_equal(cluster_status(leader).durable_index, 2);
    cluster_close(&cluster);
}

/* Rule 20: what is held is not durable either. With nothing to write it does not matter. */
static void test_held_for_too_long(void **state)
{
    (void)state;
    cluster_open(&cluster, 3, 3, NULL);
    cluster_elect(&cluster, 1);
    struct node *leader = cluster_node(&cluster, 1);
    rk_raft_hold_appends(leader->raft, true);
    cluster_tick(&cluster, 200);
    assert_true(rk_raft_is_leader(leader->raft));
    assert_int_equal(cluster_propose(leader, text), RK_OK);
    cluster_tick(&cluster, 45);
    assert_false(rk_raft_is_leader(leader->raft));
    cluster_tick(&cluster, 60);
    assert_non_null(cluster_leader(&cluster));
    assert_ptr_not_equal(cluster_leader(&cluster), leader);
    cluster_close(&cluster);
}

static void parts_for_a_driver(struct rk_raft_options *options)
{
    parts(options);
    options->host_keeps_after = true;
}

static void test_options_that_contradict(void **state)
{
    (void)state;
    struct rk_raft *raft = NULL;
    struct mem_store store;
    struct rk_raft_options options;
    struct rk_arena arena;
    rk_arena_init(&arena);
    mem_store_init(&store, &arena);
    struct rk_raft_store face = mem_store_face(&store);
    rk_raft_options_init(&options);
    options.id = 1;
    assert_int_equal(options.max_append_bytes, 0);
    parts_for_a_driver(&options);
    assert_int_equal(rk_raft_open(&raft, &options, &face), RK_EINVAL);
    mem_store_fini(&store);
    rk_arena_fini(&arena);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_ready_is_bounded),
        cmocka_unit_test(test_a_large_entry_goes_alone),
        cmocka_unit_test(test_a_leader_counts_the_parts),
        cmocka_unit_test(test_a_follower_acknowledges_the_parts),
        cmocka_unit_test(test_answers_of_a_former_term_wait),
        cmocka_unit_test(test_answers_end_with_their_entries),
        cmocka_unit_test(test_held_appends),
        cmocka_unit_test(test_held_for_too_long),
        cmocka_unit_test(test_options_that_contradict),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
