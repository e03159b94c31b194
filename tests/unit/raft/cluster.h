/* cluster.h - a few rafts with a network and disks in memory, for directed tests.
 *
 * Messages travel as bytes through the wire codec. A disk has what was written and what is
 * durable: a crash loses the difference. All checks fail the cmocka test. */
#ifndef RK_TESTS_UNIT_RAFT_CLUSTER_H
#define RK_TESTS_UNIT_RAFT_CLUSTER_H

#include "script/store.h"

#include "raft/raft.h"
#include "raft/wire.h"

#include "base/random.h"

enum {
    CLUSTER_NODES_MAX = 7,
    CLUSTER_WRITES_MAX = 256,
    CLUSTER_INDEX_MAX = 16 * 1024,
};

struct packet {
    uint64_t from;
    uint64_t to;
    uint8_t *data; /* owned */
    size_t size;
};

struct write {
    uint64_t number;
    bool has_hard_state;
    struct rk_raft_hard_state hard_state;
    const struct rk_raft_entry *entries; /* in the cluster's arena */
    size_t entry_count;
    struct rk_raft_snapshot snapshot; /* index 0: none */
};

struct node {
    uint64_t id;
    bool is_up;
    bool is_disk_slow; /* cluster_settle leaves its writes alone */
    struct rk_raft *raft;
    struct rk_raft_options options;
    struct mem_store written;
    struct mem_store durable;
    struct rk_raft_hard_state durable_hard;
    struct rk_raft_snapshot snapshot; /* the state machine as it was saved */
    struct rk_raft_snapshot latest;   /* as it is: what is sent to others */
    struct write writes[CLUSTER_WRITES_MAX];
    size_t write_count;
    uint64_t applied;
    uint64_t read_count;
    struct rk_raft_read_state last_read;
    uint64_t lost_reads;
};

struct cluster {
    struct rk_arena arena;
    struct node nodes[CLUSTER_NODES_MAX];
    size_t node_count;
    struct packet *packets; /* owned */
    size_t packet_count;
    size_t packet_capacity;
    bool is_cut[CLUSTER_NODES_MAX + 1][CLUSTER_NODES_MAX + 1]; /* from, to */
    size_t sent[RK_RAFT_MSG_TYPES];
    /* What every node must agree on. */
    uint64_t applied_hash[CLUSTER_INDEX_MAX];
    uint64_t leader_of_term[CLUSTER_INDEX_MAX];
    uint64_t highest_applied;
    void (*on_read)(struct cluster *cluster, struct node *node,
                    const struct rk_raft_read_state *read);
    void *context;
};

/* Nodes 1..voters vote; the others up to count know nothing, and the voters' logs then
 * begin after a snapshot of index 1. Small ticks: election 10
 * plus 0..9, heartbeat 2. change may adjust the options. */
void cluster_open(struct cluster *cluster, size_t count, size_t voters,
                  void (*change)(struct rk_raft_options *options));
void cluster_close(struct cluster *cluster);
struct node *cluster_node(struct cluster *cluster, uint64_t id);

/* One ready of the node, if there is one: written, sent, applied. */
void cluster_turn(struct cluster *cluster, struct node *node);
/* The first `count` outstanding writes become durable. */
void cluster_sync(struct cluster *cluster, struct node *node, size_t count);
/* Delivers packet number i and removes it. */
void cluster_deliver(struct cluster *cluster, size_t i);
void cluster_drop(struct cluster *cluster, size_t i);
void cluster_duplicate(struct cluster *cluster, size_t i);
/* Turns, syncs and deliveries until nothing is left. */
void cluster_settle(struct cluster *cluster);
void cluster_tick(struct cluster *cluster,
                  size_t ticks); /* all nodes, settling each time */
void cluster_isolate(struct cluster *cluster, uint64_t id, bool is_cut);
void cluster_cut(struct cluster *cluster, uint64_t a, uint64_t b, bool is_cut);
void cluster_crash(struct cluster *cluster, struct node *node);
void cluster_restart(struct cluster *cluster, struct node *node);
/* Makes the node campaign and settles; it must win. */
void cluster_elect(struct cluster *cluster, uint64_t id);
struct node *cluster_leader(struct cluster *cluster); /* of the highest term, or NULL */
enum rk_status cluster_propose(struct node *node, const char *text);
enum rk_status cluster_change(struct node *node, enum rk_raft_conf_op op, uint64_t id);
/* Saves the state machine at what it has applied and drops the log before it. */
void cluster_compact(struct cluster *cluster, struct node *node);
/* Steps a message made by hand. */
enum rk_status cluster_step(struct node *node, struct rk_raft_message message);
struct rk_raft_status cluster_status(const struct node *node);
#endif
