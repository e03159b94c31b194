/* Each allocation of three rafts fails in turn, through elections, appends, reads,
 * transfers and a membership change. A call without memory changes nothing that others
 * could see, and all goes on as if a message had been lost. */
#include "cluster.h"

#include "base/alloc.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <cmocka.h>

enum { NODES = 3, QUEUE_MAX = 4096, PUTS = 30 };

struct peer {
    struct rk_raft *raft;
    struct mem_store store;
    struct rk_raft_conf_state conf;
    uint64_t unpersisted; /* number of an append that raft had no memory to hear of */
    uint64_t commit;
    uint64_t reads;
};

struct packet_bytes {
    uint64_t to;
    struct rk_buf bytes;
};

static struct peer peers[NODES + 1]; /* by id */
static struct packet_bytes queue[QUEUE_MAX];
static size_t queue_count;
static struct rk_arena arena;
static int64_t left; /* allocations before the one that fails; < 0: it has failed */

static void hunger(void)
{
    (void)rk_alloc_take_count();
    if (left >= 0) rk_alloc_fail(left, 0);
}

static void relief(void)
{
    int64_t made = (int64_t)rk_alloc_take_count();
    rk_alloc_fail(-1, 0);
    if (left >= 0) left -= made;
}

/* The call with one allocation less, perhaps. */
#define HUNGRY(status, call)                                                               \
    do {                                                                                   \
        hunger();                                                                          \
        (status) = (call);                                                                 \
        relief();                                                                          \
    } while (0)

static void open_all(void)
{
    rk_arena_init(&arena);
    for (uint64_t id = 1; id <= NODES; id++) {
        struct peer *peer = &peers[id];
        memset(peer, 0, sizeof(*peer));
        peer->conf.voters = (struct rk_raft_members){NODES, {1, 2, 3}};
        mem_store_init(&peer->store, &arena);
        struct rk_raft_options options;
        rk_raft_options_init(&options);
        options.id = options.seed = id;
        options.election_tick = 10;
        options.election_jitter = 10;
        options.heartbeat_tick = 2;
        options.prevote_retry = 5;
        options.max_cached_bytes = 1000;
        options.conf = peer->conf;
        struct rk_raft_store face = mem_store_face(&peer->store);
        enum rk_status status = RK_ENOMEM;
        while (status == RK_ENOMEM)
            HUNGRY(status, rk_raft_open(&peer->raft, &options, &face));
        assert_int_equal(status, RK_OK);
    }
}

static void close_all(void)
{
    for (uint64_t id = 1; id <= NODES; id++) {
        rk_raft_free(peers[id].raft);
        mem_store_fini(&peers[id].store);
    }
    for (size_t i = 0; i < queue_count; i++)
        rk_buf_fini(&queue[i].bytes);
    queue_count = 0;
    rk_arena_fini(&arena);
}

static void apply(struct peer *peer, const struct rk_raft_ready *ready)
{
    for (size_t i = 0; i < ready->committed_count; i++) {
        enum rk_status status = RK_ENOMEM;
        if (ready->committed[i].type == RK_RAFT_ENTRY_NORMAL) continue;
        while (status == RK_ENOMEM)
            HUNGRY(status, rk_raft_apply_conf(peer->raft, &ready->committed[i], NULL));
        assert_int_equal(status, RK_OK);
    }
    if (ready->committed_count == 0) return;
    hunger();
    rk_raft_applied(peer->raft, ready->committed[ready->committed_count - 1].index);
    relief();
}

static void persist(struct peer *peer)
{
    enum rk_status status;
    if (peer->unpersisted == 0) return;
    HUNGRY(status, rk_raft_persisted(peer->raft, peer->unpersisted));
    assert_true(status == RK_OK || status == RK_ENOMEM);
    if (status == RK_OK) peer->unpersisted = 0;
}

static void turn(struct peer *peer)
{
    struct rk_raft_ready ready;
    enum rk_status status;
    persist(peer);
    if (!rk_raft_has_ready(peer->raft)) return;
    HUNGRY(status, rk_raft_ready(peer->raft, &ready));
    if (status == RK_ENOMEM) return;
    assert_int_equal(status, RK_OK);
    if (ready.entry_count > 0)
        mem_store_append(&peer->store, ready.entries, ready.entry_count);
    for (size_t i = 0; i < ready.message_count; i++) {
        assert_true(queue_count < QUEUE_MAX);
        struct packet_bytes *packet = &queue[queue_count++];
        packet->to = ready.messages[i].to;
        rk_buf_init(&packet->bytes);
        rk_raft_message_encode(&packet->bytes, &ready.messages[i]);
    }
    peer->reads += ready.read_count;
    apply(peer, &ready);
    if (ready.has_append) peer->unpersisted = ready.number;
    persist(peer);
}

static void deliver(struct packet_bytes *packet)
{
    struct peer *peer = &peers[packet->to];
    struct rk_raft_message message;
    struct rk_raft_status before, after;
    struct rk_reader reader;
    struct rk_arena scratch;
    enum rk_status status;
    rk_arena_init(&scratch);
    rk_reader_init(&reader, rk_buf_slice(&packet->bytes));
    assert_int_equal(rk_raft_message_decode(&message, &scratch, &reader), RK_OK);
    rk_raft_status(peer->raft, &before);
    HUNGRY(status, rk_raft_step(peer->raft, &message));
    rk_raft_status(peer->raft, &after);
    assert_true(after.hard_state.commit >= before.hard_state.commit);
    if (status == RK_ENOMEM) {
        assert_int_equal(after.last_index, before.last_index);
        assert_int_equal(after.hard_state.commit, before.hard_state.commit);
        assert_int_equal(after.durable_index, before.durable_index);
    }
    rk_arena_fini(&scratch);
    rk_buf_fini(&packet->bytes);
}

static void settle(uint64_t ticks)
{
    enum rk_status status;
    for (uint64_t i = 0; i < ticks; i++) {
        for (uint64_t id = 1; id <= NODES; id++) {
            HUNGRY(status, rk_raft_tick(peers[id].raft));
            assert_true(status == RK_OK || status == RK_ENOMEM);
        }
        for (int round = 0; round < 6; round++) {
            for (uint64_t id = 1; id <= NODES; id++)
                turn(&peers[id]);
            size_t count = queue_count;
            for (size_t k = 0; k < count; k++)
                deliver(&queue[k]);
            memmove(queue, queue + count, (queue_count - count) * sizeof(queue[0]));
            queue_count -= count;
        }
    }
}

static struct peer *leader(void)
{
    for (uint64_t i = 0; i < 400; i++) {
        for (uint64_t id = 1; id <= NODES; id++)
            if (rk_raft_has_committed_in_term(peers[id].raft)) return &peers[id];
        settle(1);
    }
    fail_msg("no leader");
    return NULL;
}

/* Refused without memory: then the log is as it was. */
static void put(const char *text)
{
    struct peer *peer = leader();
    struct rk_raft_status before, after;
    struct rk_slice data = rk_slice_of_string(text);
    enum rk_status status;
    rk_raft_status(peer->raft, &before);
    HUNGRY(status, rk_raft_propose(peer->raft, &data, 1, NULL));
    rk_raft_status(peer->raft, &after);
    assert_true(status == RK_OK || status == RK_ENOMEM || status == RK_EDROPPED);
    assert_int_equal(after.last_index, before.last_index + (status == RK_OK));
}

static void live(void)
{
    char big[700];
    enum rk_status status;
    memset(big, 'x', sizeof(big) - 1);
    big[sizeof(big) - 1] = '\0';
    for (int i = 0; i < PUTS; i++) {
        put(big + i);
        HUNGRY(status, rk_raft_read_index(leader()->raft, 1 + (uint64_t)i));
        assert_true(status == RK_OK || status == RK_ENOMEM);
        if (i % 3 == 0) settle(1);
    }
    struct rk_raft_conf_change change = {.count = 1, .changes = {{RK_RAFT_ADD_LEARNER, 2}}};
    for (int i = 0; i < 2; i++) {
        HUNGRY(status, rk_raft_propose_conf(leader()->raft, &change, NULL));
        assert_true(status != RK_EPROTO && status != RK_EINVAL);
        settle(3);
        change.changes[0].op = RK_RAFT_ADD_VOTER;
    }
    for (uint64_t id = 1; id <= NODES; id++) {
        HUNGRY(status, rk_raft_transfer(leader()->raft, id));
        assert_true(status != RK_ENOTLEADER);
        settle(3);
        put("moved");
    }
    settle(15);
}

static void check_equal(void)
{
    struct rk_raft_status first, other;
    settle(60);
    uint64_t reads = leader()->reads;
    put("last");
    assert_int_equal(rk_raft_read_index(leader()->raft, 77), RK_OK);
    settle(20);
    assert_true(leader()->reads > reads);
    rk_raft_status(peers[1].raft, &first);
    assert_int_equal(first.hard_state.commit, first.last_index);
    for (uint64_t id = 1; id <= NODES; id++) {
        rk_raft_status(peers[id].raft, &other);
        assert_int_equal(other.hard_state.commit, first.hard_state.commit);
        assert_int_equal(other.applied, first.applied);
        assert_int_equal(other.durable_index, first.last_index);
        assert_int_equal(peers[id].store.count, peers[1].store.count);
        for (size_t i = 1; i < peers[1].store.count; i++)
            assert_true(peers[id].store.entries[i].term == peers[1].store.entries[i].term &&
                        rk_slice_is_equal(peers[id].store.entries[i].data,
                                          peers[1].store.entries[i].data));
    }
}

static void test_each_allocation(void **state)
{
    (void)state;
    int64_t after = 0;
    for (bool has_failed = true; has_failed; after++) {
        left = after;
        open_all();
        live();
        has_failed = left < 0;
        left = -1;
        check_equal();
        close_all();
    }
    printf("%d allocations\n", (int)after - 1);
    assert_true(after > 40);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_each_allocation)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
