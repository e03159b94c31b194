/* Replication: rules 2, 3, 5, 6, 7, 8, 21. */
#include "cluster.h"

#include "raft/internal.h"

#include "base/alloc.h"

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

static struct cluster cluster;

static struct rk_raft_entry entry(uint64_t index, uint64_t term, const char *text)
{
    return (struct rk_raft_entry){
        .index = index, .term = term, .data = rk_slice_of_string(text)};
}

static size_t count_packets(uint8_t type, uint64_t from)
{
    size_t count = 0;
    for (size_t i = 0; i < cluster.packet_count; i++)
        count += cluster.packets[i].data[1] == type && cluster.packets[i].from == from;
    return count;
}

static void test_everybody_applies(void **state)
{
    (void)state;
    cluster_open(&cluster, 3, 3, NULL);
    cluster_elect(&cluster, 1);
    for (int i = 0; i < 500; i++) {
        char text[32];
        snprintf(text, sizeof(text), "entry %d", i);
        assert_int_equal(cluster_propose(cluster_node(&cluster, 1), text), RK_OK);
        if (i % 7 == 0) cluster_settle(&cluster);
    }
    cluster_settle(&cluster);
    for (uint64_t id = 1; id <= 3; id++)
        assert_int_equal(cluster_node(&cluster, id)->applied, 501);
    cluster_close(&cluster);
}

static void test_proposals_of_one_turn_share_an_append(void **state)
{
    (void)state;
    cluster_open(&cluster, 3, 3, NULL);
    cluster_elect(&cluster, 1);
    struct node *leader = cluster_node(&cluster, 1);
    size_t before = cluster.sent[RK_RAFT_MSG_APP];
    struct rk_slice data[50];
    uint64_t first;
    for (size_t i = 0; i < 50; i++)
        data[i] = RK_SLICE_LITERAL("item");
    assert_int_equal(rk_raft_propose(leader->raft, data, 50, &first), RK_OK);
    assert_int_equal(first, 2);
    assert_int_equal(cluster_propose(leader, "one more"), RK_OK);
    cluster_turn(&cluster, leader);
    assert_int_equal(cluster.sent[RK_RAFT_MSG_APP], before + 2);
    cluster_settle(&cluster);
    assert_int_equal(leader->applied, 52);
    cluster_close(&cluster);
}

/* Rule 2: appends travel while the leader's disk works, and it does not count itself. */
static void test_leader_counts_only_what_is_durable(void **state)
{
    (void)state;
    cluster_open(&cluster, 3, 3, NULL);
    cluster_elect(&cluster, 1);
    struct node *leader = cluster_node(&cluster, 1);
    leader->is_disk_slow = true;
    cluster_cut(&cluster, 1, 3, true);
    assert_int_equal(cluster_propose(leader, "a"), RK_OK);
    cluster_settle(&cluster);
    /* Node 2 has it on disk, the leader has not: no majority. */
    assert_int_equal(cluster_status(cluster_node(&cluster, 2)).durable_index, 2);
    assert_int_equal(rk_raft_committed(leader->raft), 1);
    cluster_sync(&cluster, leader, leader->write_count);
    cluster_settle(&cluster);
    assert_int_equal(rk_raft_committed(leader->raft), 2);
    /* Two others are a majority without it. */
    cluster_cut(&cluster, 1, 3, false);
    cluster_tick(&cluster, 2);
    assert_int_equal(cluster_propose(leader, "b"), RK_OK);
    cluster_settle(&cluster);
    assert_int_equal(rk_raft_committed(leader->raft), 3);
    assert_int_equal(cluster_status(leader).durable_index, 2);
    cluster_close(&cluster);
}

/* Rule 2: followers acknowledge what is durable; several appends may be outstanding. */
static void test_followers_acknowledge_when_durable(void **state)
{
    (void)state;
    cluster_open(&cluster, 3, 3, NULL);
    cluster_elect(&cluster, 1);
    struct node *follower = cluster_node(&cluster, 2);
    cluster_cut(&cluster, 1, 3, true);
    follower->is_disk_slow = true;
    for (int i = 0; i < 3; i++) {
        assert_int_equal(cluster_propose(cluster_node(&cluster, 1), "x"), RK_OK);
        cluster_settle(&cluster);
    }
    assert_true(follower->write_count >= 3);
    assert_int_equal(rk_raft_committed(cluster_node(&cluster, 1)->raft), 1);
    cluster_sync(&cluster, follower, 1);
    cluster_settle(&cluster);
    assert_int_equal(rk_raft_committed(cluster_node(&cluster, 1)->raft), 2);
    cluster_sync(&cluster, follower, follower->write_count);
    cluster_settle(&cluster);
    assert_int_equal(rk_raft_committed(cluster_node(&cluster, 1)->raft), 4);
    cluster_close(&cluster);
}

static void one_entry_a_message(struct rk_raft_options *options)
{
    options->max_message_bytes = 1;
}

/* Rule 3, figure 3.7 of the thesis: an entry of an old term on a majority is not
 * committed by that. */
static void test_older_terms_are_not_counted(void **state)
{
    (void)state;
    cluster_open(&cluster, 3, 3, one_entry_a_message);
    struct node *leader = cluster_node(&cluster, 1);
    struct node *follower = cluster_node(&cluster, 2);
    cluster_elect(&cluster, 1);
    cluster_isolate(&cluster, 1, true);
    assert_int_equal(cluster_propose(leader, "old"),
                     RK_OK); /* 2, in term 1, nowhere else */
    cluster_settle(&cluster);
    cluster_crash(&cluster, leader);
    cluster_restart(&cluster, leader);
    cluster_isolate(&cluster, 1, false);
    cluster_crash(&cluster, cluster_node(&cluster, 3));

    assert_int_equal(rk_raft_forget_leader(follower->raft), RK_OK);
    assert_int_equal(rk_raft_campaign(leader->raft), RK_OK);
    bool was_seen = false;
    for (int step = 0; step < 100; step++) {
        cluster_turn(&cluster, leader);
        cluster_sync(&cluster, leader, 100);
        cluster_turn(&cluster, follower);
        cluster_sync(&cluster, follower, 100);
        if (cluster.packet_count > 0) cluster_deliver(&cluster, 0);
        struct rk_raft_status status = cluster_status(leader);
        if (status.role != RK_RAFT_LEADER || status.progress[1].match != 2) continue;
        was_seen = true;
        assert_int_equal(status.hard_state.commit, 1);
        assert_false(status.has_committed_in_term);
    }
    assert_true(was_seen);
    assert_int_equal(rk_raft_committed(leader->raft), 3);
    assert_true(rk_raft_has_committed_in_term(leader->raft));
    cluster_close(&cluster);
}

/* A follower of term 5 whose entries 1..4 are of term 1, 4 being not the leader's. */
static struct node *prepare_follower(void)
{
    cluster_open(&cluster, 3, 3, NULL);
    struct node *node = cluster_node(&cluster, 2);
    const struct rk_raft_entry entries[] = {entry(1, 1, "a"), entry(2, 1, "b"),
                                            entry(3, 1, "c"), entry(4, 1, "d")};
    struct rk_raft_message append = {.type = RK_RAFT_MSG_APP,
                                     .from = 1,
                                     .term = 1,
                                     .entries = entries,
                                     .entry_count = 4};
    assert_int_equal(cluster_step(node, append), RK_OK);
    cluster_turn(&cluster, node);
    cluster_sync(&cluster, node, 1);
    cluster_turn(&cluster, node);
    return node;
}

/* Rule 5: the append verifies 1..2 only, so 3 and 4 may still be another log. */
static void test_commit_stays_within_the_append(void **state)
{
    (void)state;
    struct node *node = prepare_follower();
    const struct rk_raft_entry entries[] = {entry(2, 1, "b")};
    struct rk_raft_message append = {.type = RK_RAFT_MSG_APP,
                                     .from = 3,
                                     .term = 5,
                                     .index = 1,
                                     .log_term = 1,
                                     .commit = 4,
                                     .entries = entries,
                                     .entry_count = 1};
    assert_int_equal(cluster_step(node, append), RK_OK);
    assert_int_equal(rk_raft_committed(node->raft), 2);
    cluster_close(&cluster);
}

/* Rule 6: entries that are there already stay, with what follows. */
static void test_truncation_only_on_conflict(void **state)
{
    (void)state;
    struct node *node = prepare_follower();
    const struct rk_raft_entry same[] = {entry(2, 1, "b")};
    struct rk_raft_message append = {.type = RK_RAFT_MSG_APP,
                                     .from = 1,
                                     .term = 1,
                                     .index = 1,
                                     .log_term = 1,
                                     .entries = same,
                                     .entry_count = 1};
    assert_int_equal(cluster_step(node, append), RK_OK);
    assert_int_equal(cluster_status(node).last_index, 4);
    const struct rk_raft_entry other[] = {entry(3, 2, "C")};
    append.term = 2;
    append.index = 2;
    append.entries = other;
    assert_int_equal(cluster_step(node, append), RK_OK);
    assert_int_equal(cluster_status(node).last_index, 3);
    assert_int_equal(cluster_status(node).durable_index, 2);
    cluster_close(&cluster);
}

static void conflict_below_commit(struct node *node)
{
    struct rk_raft_message commit = {
        .type = RK_RAFT_MSG_HEARTBEAT, .from = 1, .term = 1, .commit = 3};
    (void)!cluster_step(node, commit);
    const struct rk_raft_entry other[] = {entry(4, 1, "d"), entry(5, 2, "e")};
    struct rk_raft_message append = {.type = RK_RAFT_MSG_APP,
                                     .from = 3,
                                     .term = 2,
                                     .index = 3,
                                     .log_term = 1,
                                     .commit = 5,
                                     .entries = other,
                                     .entry_count = 2};
    (void)!cluster_step(node, append);
    const struct rk_raft_entry worse[] = {entry(5, 3, "x")};
    /* 4 is committed; a leader that has another 5 and knows 4 by another term lies. */
    append.term = 3;
    append.index = 4;
    append.log_term = 2;
    append.entries = worse;
    append.entry_count = 1;
    (void)!cluster_step(node, append);
}

/* Rule 6: abort rather than drop what was committed. */
static void test_conflict_below_commit_aborts(void **state)
{
    (void)state;
    struct node *node = prepare_follower();
    struct rk_raft_log *log = &node->raft->log;
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        signal(SIGABRT, SIG_DFL);
        (void)!freopen("/dev/null", "w", stderr);
        log->committed = 3;
        const struct rk_raft_entry other = entry(3, 9, "x");
        rk_raft_log_append(log, 2, 0, &other, 1);
        _exit(0);
    }
    int how;
    assert_int_equal(waitpid(child, &how, 0), child);
    assert_true(WIFSIGNALED(how) || (WIFEXITED(how) && WEXITSTATUS(how) != 0));

    conflict_below_commit(node);
    assert_int_equal(rk_raft_committed(node->raft), 5);
    assert_int_equal(cluster_status(node).last_index, 5);
    cluster_close(&cluster);
}

/* Rule 7: cut and appended again in other terms while the first write is under way. */
static void test_old_completion_marks_nothing_durable(void **state)
{
    (void)state;
    cluster_open(&cluster, 3, 3, NULL);
    struct node *node = cluster_node(&cluster, 2);
    const struct rk_raft_entry first[] = {entry(1, 1, "a"), entry(2, 1, "b")};
    const struct rk_raft_entry second[] = {entry(1, 2, "c")};
    struct rk_raft_message append = {.type = RK_RAFT_MSG_APP, .from = 1, .term = 1};
    append.entries = first;
    append.entry_count = 2;
    assert_int_equal(cluster_step(node, append), RK_OK);
    cluster_turn(&cluster, node);
    append.from = 3;
    append.term = 2;
    append.entries = second;
    append.entry_count = 1;
    assert_int_equal(cluster_step(node, append), RK_OK);
    cluster_turn(&cluster, node);
    /* The very entries of the first write again, from a leader of term 3. */
    append.from = 1;
    append.term = 3;
    append.entries = first;
    append.entry_count = 2;
    assert_int_equal(cluster_step(node, append), RK_OK);
    cluster_turn(&cluster, node);
    assert_int_equal(node->write_count, 3);

    cluster_sync(&cluster, node, 1);
    assert_int_equal(cluster_status(node).durable_index, 0);
    cluster_turn(&cluster, node);
    cluster_sync(&cluster, node, 1);
    assert_int_equal(cluster_status(node).durable_index, 0);
    cluster_sync(&cluster, node, 1);
    assert_int_equal(cluster_status(node).durable_index, 2);
    cluster_close(&cluster);
}

/* Rule 8. */
static void test_heartbeats_carry_what_matches(void **state)
{
    (void)state;
    cluster_open(&cluster, 3, 3, NULL);
    cluster_elect(&cluster, 1);
    struct node *leader = cluster_node(&cluster, 1);
    cluster_cut(&cluster, 1, 3, true);
    assert_int_equal(cluster_propose(leader, "a"), RK_OK);
    cluster_settle(&cluster);
    assert_int_equal(rk_raft_committed(leader->raft), 2);
    for (int i = 0; i < 2; i++)
        assert_int_equal(rk_raft_tick(leader->raft), RK_OK);
    cluster_turn(&cluster, leader);
    assert_int_equal(count_packets(RK_RAFT_MSG_HEARTBEAT, 1), 2);
    for (size_t i = 0; i < cluster.packet_count; i++) {
        struct rk_raft_message message;
        struct rk_arena arena;
        struct rk_reader reader;
        rk_arena_init(&arena);
        rk_reader_init(&reader,
                       rk_slice_of(cluster.packets[i].data, cluster.packets[i].size));
        assert_int_equal(rk_raft_message_decode(&message, &arena, &reader), RK_OK);
        if (message.type == RK_RAFT_MSG_HEARTBEAT)
            assert_int_equal(message.commit, message.to == 3 ? 1 : 2);
        rk_arena_fini(&arena);
    }
    cluster_close(&cluster);
}

static void test_lost_log_is_told(void **state)
{
    (void)state;
    cluster_open(&cluster, 3, 3, NULL);
    struct node *node = cluster_node(&cluster, 2);
    struct rk_raft_message heartbeat = {
        .type = RK_RAFT_MSG_HEARTBEAT, .from = 1, .term = 1, .commit = 3};
    assert_int_equal(cluster_step(node, heartbeat), RK_ECORRUPT);
    assert_int_equal(rk_raft_committed(node->raft), 0);
    cluster_close(&cluster);
}

static void test_unfit_messages(void **state)
{
    (void)state;
    cluster_open(&cluster, 3, 3, NULL);
    struct node *node = cluster_node(&cluster, 2);
    struct rk_raft_message message = {.type = RK_RAFT_MSG_HUP, .from = 1};
    assert_int_equal(cluster_step(node, message), RK_EINVAL);
    message.type = RK_RAFT_MSG_APP_RESP;
    message.from = 9;
    message.term = 1;
    assert_int_equal(cluster_step(node, message), RK_ENOENT);
    message.type = RK_RAFT_MSG_APP;
    message.from = 1;
    message.term = 0;
    assert_int_equal(cluster_step(node, message), RK_EPROTO);
    const struct rk_raft_entry gap[] = {entry(1, 1, "a"), entry(3, 1, "b")};
    const struct rk_raft_entry back[] = {entry(1, 2, "a"), entry(2, 1, "b")};
    const struct rk_raft_entry ahead[] = {entry(1, 9, "a")};
    message.term = 3;
    message.entry_count = 2;
    message.entries = gap;
    assert_int_equal(cluster_step(node, message), RK_EPROTO);
    message.entries = back;
    assert_int_equal(cluster_step(node, message), RK_EPROTO);
    message.entries = ahead;
    message.entry_count = 1;
    assert_int_equal(cluster_step(node, message), RK_EPROTO);
    assert_int_equal(rk_raft_term(node->raft), 0);
    cluster_close(&cluster);
}

/* A log that went astray for long is brought back with few probes. */
static void test_long_divergence(void **state)
{
    (void)state;
    cluster_open(&cluster, 3, 3, NULL);
    cluster_elect(&cluster, 1);
    struct node *astray = cluster_node(&cluster, 1);
    cluster_isolate(&cluster, 1, true);
    for (int i = 0; i < 300; i++)
        assert_int_equal(cluster_propose(astray, "astray"), RK_OK);
    cluster_settle(&cluster);
    cluster_tick(&cluster, 60);
    struct node *leader = cluster_leader(&cluster);
    assert_non_null(leader);
    for (int i = 0; i < 300; i++)
        assert_int_equal(cluster_propose(leader, "right"), RK_OK);
    cluster_settle(&cluster);
    size_t before = cluster.sent[RK_RAFT_MSG_APP];
    cluster_isolate(&cluster, 1, false);
    cluster_tick(&cluster, 8);
    assert_int_equal(astray->applied, leader->applied);
    assert_true(cluster.sent[RK_RAFT_MSG_APP] - before < 20);
    cluster_close(&cluster);
}

static void tight(struct rk_raft_options *options)
{
    options->max_inflight_messages = 4;
    options->max_message_bytes = 64;
    options->max_inflight_bytes = 0;
    options->max_uncommitted_bytes = 400;
    options->max_committed_bytes_per_ready = 50;
    options->max_cached_bytes = 0;
}

/* Rule 21: windows, sizes and the uncommitted tail are bounded, and nothing gets stuck. */
static void test_limits(void **state)
{
    (void)state;
    cluster_open(&cluster, 3, 3, tight);
    cluster_elect(&cluster, 1);
    struct node *leader = cluster_node(&cluster, 1);
    cluster_isolate(&cluster, 1, true);
    int accepted = 0;
    while (cluster_propose(leader, "0123456789012345678901234567890123456789") == RK_OK)
        accepted++;
    assert_int_equal(accepted, 10);
    assert_int_equal(cluster_propose(leader, "0"), RK_EBUSY);
    cluster_turn(&cluster, leader);
    struct rk_raft_status status = cluster_status(leader);
    assert_true(status.progress[1].inflight_count <= 4);
    while (cluster.packet_count > 0)
        cluster_drop(&cluster, 0);
    cluster_isolate(&cluster, 1, false);
    cluster_tick(&cluster, 30);
    for (uint64_t id = 1; id <= 3; id++)
        assert_int_equal(cluster_node(&cluster, id)->applied, 11);
    assert_int_equal(cluster_propose(leader, "again"), RK_OK);
    cluster_close(&cluster);
}

static void tight_bytes(struct rk_raft_options *options)
{
    options->max_message_bytes = 64; /* one entry of 40 bytes */
    options->max_inflight_bytes = 100;
}

/* Delivers the first packet of that type between two nodes. */
static void deliver_one(uint8_t type, uint64_t from, uint64_t to)
{
    for (size_t i = 0; i < cluster.packet_count; i++) {
        const struct packet *packet = &cluster.packets[i];
        if (packet->data[1] != type || packet->from != from || packet->to != to) continue;
        cluster_deliver(&cluster, i);
        return;
    }
    fail_msg("no message of type %u from %u to %u", type, (unsigned)from, (unsigned)to);
}

/* Rule 21, the window in bytes: an append goes while fewer than 100 bytes are on the way to
 * a follower, each answer lets so many more pass as it acknowledges, and a window that was
 * lost as a whole opens again. */
static void test_byte_window(void **state)
{
    (void)state;
    cluster_open(&cluster, 3, 3, tight_bytes);
    cluster_elect(&cluster, 1);
    struct node *leader = cluster_node(&cluster, 1);
    struct node *follower = cluster_node(&cluster, 2);
    cluster_cut(&cluster, 1, 3, true);
    for (int i = 0; i < 10; i++)
        assert_int_equal(
            cluster_propose(leader, "0123456789012345678901234567890123456789"), RK_OK);
    cluster_turn(&cluster, leader);
    struct rk_raft_progress progress = cluster_status(leader).progress[1];
    assert_int_equal(progress.inflight_count, 3); /* 80 bytes let the third one pass */
    assert_true(progress.is_full && progress.is_paused);
    assert_int_equal(progress.next, 5);
    assert_int_equal(leader->raft->tracker.peers[1].inflights.bytes, 120);

    for (uint64_t sent = 4; sent <= 6; sent++) {
        deliver_one(RK_RAFT_MSG_APP, 1, 2);
        cluster_turn(&cluster, follower);
        cluster_sync(&cluster, follower, 10);
        cluster_turn(&cluster, follower);
        deliver_one(RK_RAFT_MSG_APP_RESP, 2, 1);
        cluster_turn(&cluster, leader);
        progress = cluster_status(leader).progress[1];
        assert_int_equal(progress.match, sent - 2);
        assert_int_equal(progress.next, sent + 2);
        assert_int_equal(progress.inflight_count, 3);
        assert_true(progress.is_full);
        assert_int_equal(leader->raft->tracker.peers[1].inflights.bytes, 120);
    }
    while (cluster.packet_count > 0)
        cluster_drop(&cluster, 0);
    cluster_cut(&cluster, 1, 3, false);
    cluster_tick(&cluster, 30);
    for (uint64_t id = 1; id <= 3; id++)
        assert_int_equal(cluster_node(&cluster, id)->applied, 11);
    assert_false(cluster_status(leader).progress[1].is_full);
    assert_int_equal(leader->raft->tracker.peers[1].inflights.bytes, 0);
    cluster_close(&cluster);
}

/* Everything else goes on: entries are written, acknowledged and committed. */
static void test_apply_may_be_held(void **state)
{
    (void)state;
    cluster_open(&cluster, 3, 3, NULL);
    cluster_elect(&cluster, 1);
    struct node *leader = cluster_node(&cluster, 1);
    uint64_t applied = leader->applied;
    rk_raft_hold_apply(leader->raft, true);
    assert_int_equal(cluster_propose(leader, "a"), RK_OK);
    assert_int_equal(cluster_propose(leader, "b"), RK_OK);
    cluster_tick(&cluster, 30);
    assert_int_equal(leader->applied, applied);
    assert_false(rk_raft_has_ready(leader->raft));
    assert_true(rk_raft_is_leader(leader->raft));
    assert_int_equal(rk_raft_committed(leader->raft), applied + 2);
    assert_int_equal(cluster_node(&cluster, 2)->applied, applied + 2);
    rk_raft_hold_apply(leader->raft, false);
    assert_true(rk_raft_has_ready(leader->raft));
    cluster_settle(&cluster);
    assert_int_equal(leader->applied, applied + 2);
    cluster_close(&cluster);
}

static void test_unreachable_goes_back_to_probing(void **state)
{
    (void)state;
    cluster_open(&cluster, 3, 3, NULL);
    cluster_elect(&cluster, 1);
    struct node *leader = cluster_node(&cluster, 1);
    assert_int_equal(cluster_status(leader).progress[1].state, RK_RAFT_REPLICATE);
    rk_raft_report_unreachable(leader->raft, 2);
    assert_int_equal(cluster_status(leader).progress[1].state, RK_RAFT_PROBE);
    cluster_tick(&cluster, 4);
    assert_int_equal(cluster_status(leader).progress[1].state, RK_RAFT_REPLICATE);
    cluster_close(&cluster);
}

/* What a ready lent stays readable while the host goes on calling, until the next one. */
static void test_lent_until_the_next_ready(void **state)
{
    (void)state;
    cluster_open(&cluster, 3, 3, NULL);
    struct node *node = cluster_node(&cluster, 2);
    struct rk_raft_entry entries[40];
    struct rk_raft_ready ready;
    for (size_t i = 0; i < 40; i++)
        entries[i] = entry(i + 1, 1, "first");
    struct rk_raft_message append = {.type = RK_RAFT_MSG_APP, .from = 1, .term = 1};
    append.entries = entries;
    append.entry_count = 40;
    assert_int_equal(cluster_step(node, append), RK_OK);
    assert_int_equal(rk_raft_ready(node->raft, &ready), RK_OK);
    for (uint64_t term = 2; term < 40; term++) {
        for (size_t i = 0; i < 40; i++)
            entries[i] = entry(i + 1, term, "other");
        append.term = term;
        assert_int_equal(cluster_step(node, append), RK_OK);
    }
    assert_int_equal(ready.entry_count, 40);
    for (size_t i = 0; i < 40; i++) {
        assert_int_equal(ready.entries[i].term, 1);
        assert_true(rk_slice_is_equal(ready.entries[i].data, RK_SLICE_LITERAL("first")));
    }
    cluster_close(&cluster);
}

/* A deposed leader's appends that wait to be sent keep the entries they had. */
static void test_queued_appends_keep_their_entries(void **state)
{
    (void)state;
    cluster_open(&cluster, 3, 3, NULL);
    cluster_elect(&cluster, 1);
    struct node *leader = cluster_node(&cluster, 1);
    struct rk_raft_ready ready;
    assert_int_equal(cluster_propose(leader, "mine"), RK_OK);
    rk_raft_flush_appends(leader->raft);
    const struct rk_raft_entry theirs[] = {entry(2, 9, "theirs")};
    struct rk_raft_message append = {.type = RK_RAFT_MSG_APP,
                                     .from = 2,
                                     .term = 9,
                                     .index = 1,
                                     .log_term = 1,
                                     .entries = theirs,
                                     .entry_count = 1};
    assert_int_equal(cluster_step(leader, append), RK_OK);
    assert_int_equal(rk_raft_ready(leader->raft, &ready), RK_OK);
    size_t seen = 0;
    for (size_t i = 0; i < ready.message_count; i++) {
        if (ready.messages[i].type != RK_RAFT_MSG_APP) continue;
        seen++;
        assert_int_equal(ready.messages[i].entries[0].term, 1);
        assert_true(
            rk_slice_is_equal(ready.messages[i].entries[0].data, RK_SLICE_LITERAL("mine")));
    }
    assert_int_equal(seen, 2);
    assert_int_equal(ready.entries[0].term, 9);
    cluster_close(&cluster);
}

/* Without memory a call refuses and everything is as before; later it succeeds. */
static void test_allocations_may_fail(void **state)
{
    (void)state;
    char big[3000];
    memset(big, 'x', sizeof(big) - 1);
    big[sizeof(big) - 1] = '\0';
    for (int64_t after = 0; after < 40; after++) {
        cluster_open(&cluster, 3, 3, NULL);
        cluster_elect(&cluster, 1);
        struct node *leader = cluster_node(&cluster, 1);
        struct rk_raft_ready ready;
        for (int i = 0; i < 100; i++) {
            uint64_t last = cluster_status(leader).last_index;
            rk_alloc_fail(after, 1);
            enum rk_status status = cluster_propose(leader, big);
            rk_alloc_fail(-1, 0);
            assert_true(status == RK_OK || status == RK_ENOMEM);
            assert_int_equal(cluster_status(leader).last_index, last + (status == RK_OK));
        }
        rk_alloc_fail(after, 1);
        enum rk_status status = rk_raft_read_index(leader->raft, 1);
        if (status == RK_OK) status = rk_raft_tick(leader->raft);
        if (status == RK_OK) status = rk_raft_transfer(leader->raft, 2);
        rk_alloc_fail(-1, 0);
        rk_alloc_fail(after, 1);
        status = rk_raft_ready(leader->raft, &ready);
        rk_alloc_fail(-1, 0);
        assert_true(status == RK_OK || status == RK_ENOMEM);
        cluster_close(&cluster);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_everybody_applies),
        cmocka_unit_test(test_proposals_of_one_turn_share_an_append),
        cmocka_unit_test(test_leader_counts_only_what_is_durable),
        cmocka_unit_test(test_followers_acknowledge_when_durable),
        cmocka_unit_test(test_older_terms_are_not_counted),
        cmocka_unit_test(test_commit_stays_within_the_append),
        cmocka_unit_test(test_truncation_only_on_conflict),
        cmocka_unit_test(test_conflict_below_commit_aborts),
        cmocka_unit_test(test_old_completion_marks_nothing_durable),
        cmocka_unit_test(test_heartbeats_carry_what_matches),
        cmocka_unit_test(test_lost_log_is_told),
        cmocka_unit_test(test_unfit_messages),
        cmocka_unit_test(test_long_divergence),
        cmocka_unit_test(test_limits),
        cmocka_unit_test(test_byte_window),
        cmocka_unit_test(test_apply_may_be_held),
        cmocka_unit_test(test_unreachable_goes_back_to_probing),
        cmocka_unit_test(test_lent_until_the_next_ready),
        cmocka_unit_test(test_queued_appends_keep_their_entries),
        cmocka_unit_test(test_allocations_may_fail),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
