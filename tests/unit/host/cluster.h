/* cluster.h - nodes in one process for the tests of the host: simulated time, a network in
 * memory that keeps order, disks of memfs. The same seed gives the same run. */
#ifndef RK_TEST_HOST_CLUSTER_H
#define RK_TEST_HOST_CLUSTER_H

#include "base/random.h"
#include "fake_store.h"
#include "host/host.h"
#include "state/machine.h"
#include "storage/memfs.h"
#include "watch_fs.h"

enum { CLUSTER_NODES_MAX = 7, CLUSTER_CALLS_MAX = 200000 };

struct cluster;

struct node {
    struct cluster *cluster;
    struct rk_memfs *disk;
    struct rk_host *host; /* NULL: down */
    struct rk_wal *wal;
    struct rk_wal_batch *batch; /* at the disk */
    uint64_t batch_done_ms;
    struct rk_host_work *work[RK_HOST_LANES]; /* under way */
    uint64_t work_done_ms[RK_HOST_LANES];
    uint64_t work_ms[RK_HOST_LANES]; /* how long work of a lane takes */
    struct watch_fs watch;           /* what the host sees of the disk */
    char name[16];
    char fatal[256];
    char warning[256]; /* the last one logged */
    uint32_t warnings;
    bool is_chatty;
    bool reaches_nobody; /* its links never come up; what it sends arrives all the same */
    uint64_t wipes;
    int64_t wall_lead_ms;     /* of its wall clock */
    uint32_t machine_version; /* of its program; 0: the newest */
    uint32_t peer_count;      /* its --peers name the first so many nodes */
    uint64_t members_seen;    /* rk_host_members_version as of the last step */
    struct rk_host_options options;
};

struct packet {
    struct packet *next;
    struct rk_buf bytes;
    uint32_t from, to;
    enum rk_host_link link;
    uint64_t due_ms; /* arrives in the first step that is not before */
};

struct answer {
    bool is_given;
    uint32_t count;     /* times given */
    uint32_t positions; /* groups whose position it names */
    struct rk_buf bytes;
};

/* Allocations that fail: those that one node's host makes, not those of the test. */
struct starving {
    uint32_t node;
    uint64_t left;  /* allocations before the first one that fails */
    uint64_t fails; /* how many fail from there on; 0: none, they are counted */
    uint64_t made;
    bool is_counting;
    bool is_inside;
};

struct cluster {
    struct node nodes[CLUSTER_NODES_MAX];
    uint32_t count;
    uint64_t now_ms;
    uint64_t disk_ms;     /* how long a batch takes */
    uint64_t snapshot_ms; /* how long frames of snapshots travel */
    struct packet *first, **last;
    bool cut[CLUSTER_NODES_MAX][CLUSTER_NODES_MAX];
    struct answer *answers;
    uint64_t calls;
    uint64_t snapshot_bytes, side_bytes, slice_bytes, segment_bytes, verify_ms;
    uint32_t groups;
    bool has_slices; /* of nodes that start */
    uint32_t slices; /* calls of rk_host_slice that a turn has time for */
    void (*spoil)(struct cluster *cluster, struct packet *packet); /* or NULL */
    struct rk_random random;
    uint64_t spoiled;
    struct starving starving;
    struct rk_arena arena; /* of requests and replies handed out */
    struct rk_host_peer peers[CLUSTER_NODES_MAX];
    uint64_t packets, bytes;
    uint64_t works, leisurely; /* done in the lane of snapshots; with time for a rest */
    struct fake_store *store;  /* NULL: locks are in the log */
    uint32_t hold_ms;
};

struct cluster_options {
    uint32_t nodes, groups;
    uint64_t snapshot_bytes, side_bytes, slice_bytes, segment_bytes, verify_ms;
    bool has_store;   /* also where built with CLUSTER_STORE */
    uint32_t hold_ms; /* how long grants are held back when it lost some */
};

struct cluster *cluster_new(struct cluster_options options);
void cluster_free(struct cluster *cluster);
/* One node more, started with an empty disk. Returns which. */
uint32_t cluster_grow(struct cluster *cluster);
void cluster_start(struct cluster *cluster, uint32_t node);
/* Tries to start it; what rk_host_open says, error is of 256 bytes. */
enum rk_status cluster_try_start(struct cluster *cluster, uint32_t node, char *error);
/* Ends the process; what the disk keeps is decided by mode. Others' reconnects fail. */
void cluster_kill(struct cluster *cluster, uint32_t node, enum rk_memfs_crash_mode mode);
/* A new disk, as after rm -r of the data folder; the node is down. */
void cluster_wipe(struct cluster *cluster, uint32_t node);
void cluster_cut(struct cluster *cluster, uint32_t a, uint32_t b, bool is_cut);
/* Lets time pass. */
void cluster_run(struct cluster *cluster, uint64_t ms);
/* One turn of every node; time passes by one millisecond. */
void cluster_step(struct cluster *cluster);
/* From now on: after `after` further allocations of the node's host, `fails` fail. What its
 * disk allocates counts, too. */
void cluster_starve(struct cluster *cluster, uint32_t node, uint64_t after, uint64_t fails);
/* Runs until every group has a serving leader known to all running nodes; fails after
 * max_ms. Returns how long it took. */
uint64_t cluster_settle(struct cluster *cluster, uint64_t max_ms);
/* The node that leads a group; -1 unless all running nodes that know one agree. */
int cluster_leader(struct cluster *cluster, uint32_t group);

/* A call at a node; json is the body. */
uint64_t cluster_call(struct cluster *cluster, uint32_t node, enum rk_op op,
                      const char *json);
struct rk_request *cluster_request(struct cluster *cluster, enum rk_op op,
                                   const char *json);
uint64_t cluster_send(struct cluster *cluster, uint32_t node,
                      const struct rk_request *request);
void cluster_drop(struct cluster *cluster, uint32_t node, uint64_t call);
bool cluster_has_answer(const struct cluster *cluster, uint64_t call);
/* Runs until the call is answered; fails after max_ms. */
const struct rk_reply *cluster_answer(struct cluster *cluster, uint64_t call,
                                      uint64_t max_ms);
/* Both at once, 15 s. */
const struct rk_reply *cluster_ask(struct cluster *cluster, uint32_t node, enum rk_op op,
                                   const char *json);
/* Every group has the same state on all running nodes. */
void cluster_check_equal(struct cluster *cluster);
#endif
