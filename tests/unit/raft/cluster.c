#include "cluster.h"

#include "base/alloc.h"
#include "base/hash.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

struct node *cluster_node(struct cluster *cluster, uint64_t id)
{
    assert_in_range(id, 1, cluster->node_count);
    return &cluster->nodes[id - 1];
}

static void open_raft(struct node *node)
{
    struct rk_raft_store face = mem_store_face(&node->written);
    assert_int_equal(rk_raft_open(&node->raft, &node->options, &face), RK_OK);
    node->is_up = true;
}

static void open_node(struct cluster *cluster, struct node *node, uint64_t id,
                      size_t voters, void (*change)(struct rk_raft_options *options))
{
    node->id = id;
    mem_store_init(&node->written, &cluster->arena);
    mem_store_init(&node->durable, &cluster->arena);
    node->snapshot = (struct rk_raft_snapshot){0};
    for (size_t i = 0; i < voters && id <= voters; i++) {
        node->snapshot.conf.voters.ids[i] = i + 1;
        node->snapshot.conf.voters.count++;
    }
    struct rk_raft_options *options = &node->options;
    rk_raft_options_init(options);
    if (id <= voters && voters < cluster->node_count) {
        /* Who joins later must learn the first membership from a snapshot. */
        node->snapshot.index = node->snapshot.term = 1;
        assert_null(mem_store_apply_snapshot(&node->written, &node->snapshot));
        assert_null(mem_store_apply_snapshot(&node->durable, &node->snapshot));
        node->durable_hard = (struct rk_raft_hard_state){.term = 1, .commit = 1};
        options->hard_state = node->durable_hard;
        options->applied = node->applied = 1;
    }
    options->id = id;
    options->seed = id * 7919 + 17;
    options->election_tick = 10;
    options->election_jitter = 10;
    options->heartbeat_tick = 2;
    options->prevote_retry = 3;
    options->drift_ticks = 2;
    options->restart_ticks = 0;
    options->early_jitter = 1;
    options->disk_stall_ticks = 40;
    options->conf = node->snapshot.conf;
    if (change != NULL) change(options);
    node->latest = node->snapshot;
    node->written.newest = &node->latest;
    open_raft(node);
}

void cluster_open(struct cluster *cluster, size_t count, size_t voters,
                  void (*change)(struct rk_raft_options *options))
{
    memset(cluster, 0, sizeof(*cluster));
    rk_arena_init(&cluster->arena);
    cluster->node_count = count;
    for (size_t i = 0; i < count; i++)
        open_node(cluster, &cluster->nodes[i], i + 1, voters, change);
}

void cluster_close(struct cluster *cluster)
{
    for (size_t i = 0; i < cluster->node_count; i++) {
        rk_raft_free(cluster->nodes[i].raft);
        mem_store_fini(&cluster->nodes[i].written);
        mem_store_fini(&cluster->nodes[i].durable);
    }
    while (cluster->packet_count > 0)
        cluster_drop(cluster, cluster->packet_count - 1);
    rk_free(cluster->packets);
    rk_arena_fini(&cluster->arena);
}

static void push_packet(struct cluster *cluster, struct packet packet)
{
    if (cluster->packet_count == cluster->packet_capacity) {
        cluster->packet_capacity = cluster->packet_capacity * 2 + 64;
        cluster->packets = rk_realloc_array(cluster->packets, cluster->packet_capacity,
                                            sizeof(*cluster->packets));
        assert_non_null(cluster->packets);
    }
    cluster->packets[cluster->packet_count++] = packet;
}

static void send(struct cluster *cluster, const struct rk_raft_message *message)
{
    struct rk_buf buf;
    rk_buf_init(&buf);
    rk_raft_message_encode(&buf, message);
    assert_int_equal(rk_buf_check(&buf), RK_OK);
    cluster->sent[message->type]++;
    push_packet(cluster, (struct packet){message->from, message->to, buf.data, buf.size});
}

static void remove_packet(struct cluster *cluster, size_t i)
{
    cluster->packet_count--;
    memmove(&cluster->packets[i], &cluster->packets[i + 1],
            (cluster->packet_count - i) * sizeof(cluster->packets[0]));
}

void cluster_drop(struct cluster *cluster, size_t i)
{
    rk_free(cluster->packets[i].data);
    remove_packet(cluster, i);
}

void cluster_duplicate(struct cluster *cluster, size_t i)
{
    struct packet packet = cluster->packets[i];
    packet.data = rk_memdup(packet.data, packet.size);
    assert_non_null(packet.data);
    push_packet(cluster, packet);
}

void cluster_deliver(struct cluster *cluster, size_t i)
{
    struct packet packet = cluster->packets[i];
    struct node *node = cluster_node(cluster, packet.to);
    remove_packet(cluster, i);
    if (node->is_up && !cluster->is_cut[packet.from][packet.to]) {
        struct rk_arena arena;
        struct rk_reader reader;
        struct rk_raft_message message;
        rk_arena_init(&arena);
        rk_reader_init(&reader, rk_slice_of(packet.data, packet.size));
        assert_int_equal(rk_raft_message_decode(&message, &arena, &reader), RK_OK);
        enum rk_status status = rk_raft_step(node->raft, &message);
        assert_true(status == RK_OK || status == RK_ENOENT || status == RK_EDROPPED);
        rk_arena_fini(&arena);
    }
    rk_free(packet.data);
}

static uint64_t hash_of(const struct rk_raft_entry *entry)
{
    uint64_t hash = rk_hash_mix(rk_hash(entry->data), entry->term);
    return rk_hash_mix(hash, entry->type) | 1;
}

/* State machine safety: no two nodes ever apply different entries at an index. */
static void apply(struct cluster *cluster, struct node *node,
                  const struct rk_raft_entry *entries, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        uint64_t index = entries[i].index;
        assert_int_equal(index, node->applied + 1);
        assert_true(index < CLUSTER_INDEX_MAX);
        uint64_t hash = hash_of(&entries[i]);
        if (cluster->applied_hash[index] == 0) cluster->applied_hash[index] = hash;
        assert_true(cluster->applied_hash[index] == hash);
        node->applied = index;
        node->latest.index = index;
        node->latest.term = entries[i].term;
        if (index > cluster->highest_applied) cluster->highest_applied = index;
        if (entries[i].type == RK_RAFT_ENTRY_NORMAL) continue;
        enum rk_status status = rk_raft_apply_conf(node->raft, &entries[i], NULL);
        assert_true(status == RK_OK || status == RK_EINVAL);
        rk_raft_conf(node->raft, &node->latest.conf);
    }
    if (count > 0) rk_raft_applied(node->raft, node->applied);
}

static const struct rk_raft_entry *
keep_entries(struct cluster *cluster, const struct rk_raft_entry *entries, size_t count)
{
    if (count == 0) return NULL;
    struct rk_raft_entry *kept = rk_arena_calloc(&cluster->arena, count, sizeof(*kept));
    assert_non_null(kept);
    for (size_t i = 0; i < count; i++) {
        kept[i] = entries[i];
        if (kept[i].data.size > 0)
            kept[i].data = rk_arena_copy(&cluster->arena, entries[i].data);
    }
    return kept;
}

static void write_out(struct cluster *cluster, struct node *node,
                      const struct rk_raft_ready *ready)
{
    assert_true(node->write_count < CLUSTER_WRITES_MAX);
    struct write *write = &node->writes[node->write_count++];
    *write = (struct write){
        .number = ready->number,
        .has_hard_state = ready->has_hard_state,
        .hard_state = ready->hard_state,
        .entries = keep_entries(cluster, ready->entries, ready->entry_count),
        .entry_count = ready->entry_count,
    };
    if (ready->snapshot != NULL) {
        write->snapshot = *ready->snapshot;
        assert_null(mem_store_apply_snapshot(&node->written, ready->snapshot));
    }
    mem_store_append(&node->written, write->entries, write->entry_count);
}

static void check_leader(struct cluster *cluster, const struct node *node)
{
    if (!rk_raft_is_leader(node->raft)) return;
    uint64_t term = rk_raft_term(node->raft);
    assert_true(term < CLUSTER_INDEX_MAX);
    uint64_t *leader = &cluster->leader_of_term[term];
    if (*leader == 0) *leader = node->id;
    assert_int_equal(*leader, node->id); /* election safety */
}

void cluster_turn(struct cluster *cluster, struct node *node)
{
    struct rk_raft_ready ready;
    if (!node->is_up || !rk_raft_has_ready(node->raft)) return;
    assert_int_equal(rk_raft_ready(node->raft, &ready), RK_OK);
    check_leader(cluster, node);
    if (ready.has_append) write_out(cluster, node, &ready);
    for (size_t i = 0; i < ready.message_count; i++)
        send(cluster, &ready.messages[i]);
    for (size_t i = 0; i < ready.read_count; i++) {
        node->last_read = ready.reads[i];
        if (ready.reads[i].is_lost)
            node->lost_reads++;
        else
            node->read_count++;
        if (cluster->on_read != NULL) cluster->on_read(cluster, node, &ready.reads[i]);
    }
    apply(cluster, node, ready.committed, ready.committed_count);
}

void cluster_sync(struct cluster *cluster, struct node *node, size_t count)
{
    (void)cluster;
    if (count > node->write_count) count = node->write_count;
    if (count == 0) return;
    uint64_t number = node->writes[count - 1].number;
    for (size_t i = 0; i < count; i++) {
        const struct write *write = &node->writes[i];
        if (write->has_hard_state) node->durable_hard = write->hard_state;
        if (write->snapshot.index != 0) {
            assert_null(mem_store_apply_snapshot(&node->durable, &write->snapshot));
            node->snapshot = write->snapshot;
            if (node->applied < write->snapshot.index) {
                node->applied = write->snapshot.index;
                node->latest = write->snapshot;
            }
        }
        mem_store_append(&node->durable, write->entries, write->entry_count);
    }
    node->write_count -= count;
    memmove(&node->writes[0], &node->writes[count],
            node->write_count * sizeof(node->writes[0]));
    assert_int_equal(rk_raft_persisted(node->raft, number), RK_OK);
}

void cluster_settle(struct cluster *cluster)
{
    for (size_t round = 0; round < 100000; round++) {
        bool is_done = cluster->packet_count == 0;
        for (size_t i = 0; i < cluster->node_count; i++) {
            struct node *node = &cluster->nodes[i];
            if (!node->is_up) continue;
            if (rk_raft_has_ready(node->raft)) is_done = false;
            cluster_turn(cluster, node);
            if (node->write_count > 0 && !node->is_disk_slow) {
                is_done = false;
                cluster_sync(cluster, node, node->write_count);
            }
        }
        size_t count = cluster->packet_count;
        while (count-- > 0)
            cluster_deliver(cluster, 0);
        if (is_done) return;
    }
    fail_msg("the cluster does not settle");
}

/* A transfer ends one way or the other, and the sender tells raft. */
static void end_transfers(struct node *node)
{
    struct rk_raft_status status;
    rk_raft_status(node->raft, &status);
    for (uint32_t i = 0; i < status.progress_count; i++)
        if (status.progress[i].state == RK_RAFT_SNAPSHOT)
            rk_raft_report_snapshot(node->raft, status.progress[i].id, false);
}

void cluster_tick(struct cluster *cluster, size_t ticks)
{
    for (size_t i = 0; i < ticks; i++) {
        for (size_t k = 0; i % 10 == 9 && k < cluster->node_count; k++)
            if (cluster->nodes[k].is_up) end_transfers(&cluster->nodes[k]);
        for (size_t k = 0; k < cluster->node_count; k++)
            if (cluster->nodes[k].is_up)
                assert_int_equal(rk_raft_tick(cluster->nodes[k].raft), RK_OK);
        cluster_settle(cluster);
    }
}

void cluster_cut(struct cluster *cluster, uint64_t a, uint64_t b, bool is_cut)
{
    cluster->is_cut[a][b] = is_cut;
    cluster->is_cut[b][a] = is_cut;
}

void cluster_isolate(struct cluster *cluster, uint64_t id, bool is_cut)
{
    for (uint64_t other = 1; other <= cluster->node_count; other++)
        if (other != id) cluster_cut(cluster, id, other, is_cut);
}

void cluster_crash(struct cluster *cluster, struct node *node)
{
    (void)cluster;
    rk_raft_free(node->raft);
    node->raft = NULL;
    node->is_up = false;
    node->write_count = 0;
}

static void copy_store(struct mem_store *out, const struct mem_store *store)
{
    struct rk_raft_snapshot base = {.index = store->entries[0].index,
                                    .term = store->entries[0].term,
                                    .conf = store->conf};
    mem_store_fini(out);
    mem_store_init(out, store->arena);
    if (base.index > 0) assert_null(mem_store_apply_snapshot(out, &base));
    mem_store_append(out, store->entries + 1, store->count - 1);
}

void cluster_restart(struct cluster *cluster, struct node *node)
{
    (void)cluster;
    assert_false(node->is_up);
    copy_store(&node->written, &node->durable);
    node->latest = node->snapshot;
    node->written.newest = &node->latest;
    node->options.hard_state = node->durable_hard;
    node->options.conf = node->snapshot.conf;
    node->options.applied = node->snapshot.index;
    node->options.seed += 1000003;
    node->applied = node->snapshot.index;
    if (node->options.hard_state.commit < node->snapshot.index)
        node->options.hard_state.commit = node->snapshot.index;
    open_raft(node);
}

void cluster_elect(struct cluster *cluster, uint64_t id)
{
    struct node *node = cluster_node(cluster, id);
    assert_int_equal(rk_raft_campaign(node->raft), RK_OK);
    cluster_settle(cluster);
    assert_true(rk_raft_is_leader(node->raft));
}

struct node *cluster_leader(struct cluster *cluster)
{
    struct node *leader = NULL;
    for (size_t i = 0; i < cluster->node_count; i++) {
        struct node *node = &cluster->nodes[i];
        if (!node->is_up || !rk_raft_is_leader(node->raft)) continue;
        if (leader == NULL || rk_raft_term(node->raft) > rk_raft_term(leader->raft))
            leader = node;
    }
    return leader;
}

enum rk_status cluster_propose(struct node *node, const char *text)
{
    struct rk_slice data = rk_slice_of_string(text);
    return rk_raft_propose(node->raft, &data, 1, NULL);
}

enum rk_status cluster_change(struct node *node, enum rk_raft_conf_op op, uint64_t id)
{
    struct rk_raft_conf_change change = {.count = 1, .changes = {{op, id}}};
    return rk_raft_propose_conf(node->raft, &change, NULL);
}

void cluster_compact(struct cluster *cluster, struct node *node)
{
    (void)cluster;
    uint64_t term;
    struct rk_raft_store face = mem_store_face(&node->durable);
    if (node->applied <= node->snapshot.index) return;
    if (node->applied > cluster_status(node).durable_index) return;
    if (node->applied <= node->written.entries[0].index) return; /* a snapshot comes in */
    if (face.term(face.context, node->applied, &term) != RK_OK) return;
    node->snapshot.index = node->applied;
    node->snapshot.term = term;
    rk_raft_conf(node->raft, &node->snapshot.conf);
    assert_null(mem_store_compact(&node->written, node->applied));
    assert_null(mem_store_compact(&node->durable, node->applied));
    node->written.conf = node->durable.conf = node->snapshot.conf;
}

enum rk_status cluster_step(struct node *node, struct rk_raft_message message)
{
    message.to = node->id;
    return rk_raft_step(node->raft, &message);
}

struct rk_raft_status cluster_status(const struct node *node)
{
    struct rk_raft_status status;
    rk_raft_status(node->raft, &status);
    return status;
}
