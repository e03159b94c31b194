/* host.h - the deterministic half of a node: every group of it, without a socket,
 * thread or clock. Events come in, effects go out through struct rk_host_io; the
 * simulator and rukund drive the same code.
 *
 * A turn: any number of receive, call, drop, tick, written; then one rk_host_flush, which
 * runs every group's ready, hands at most one batch to the disk, at most one frame per
 * peer and link to the network, and answers calls. Single-threaded. */
#ifndef RK_HOST_HOST_H
#define RK_HOST_HOST_H

#include "api/api.h"
#include "host/store.h"
#include "storage/fs.h"
#include "storage/wal.h"

enum {
    RK_HOST_PEERS_MAX = 9,
    RK_HOST_GROUPS_MAX = 64, /* data groups */
    RK_HOST_FRAME_MAX = 16777216,
    RK_HOST_REQUEST_MAX = 4 << 20, /* bytes of one write, as it stands in the log */
    RK_HOST_PROTOCOL = 2,          /* version of peer frames */
    RK_HOST_LANES = 3              /* of work */
};

struct rk_host;
struct rk_host_work; /* work on snapshots that would hold the loop up */

/* A peer link is one connection. Control: heartbeats, votes, reads. Bulk: appends and
 * forwarded calls. Snapshot: chunks. The transport keeps order within a link only. */
enum rk_host_link {
    RK_LINK_CONTROL = 0,
    RK_LINK_BULK = 1,
    RK_LINK_SNAPSHOT = 2,
    RK_LINK_COUNT
};

struct rk_host_time {
    uint64_t boot_ms; /* CLOCK_BOOTTIME: never goes back */
    uint64_t wall_ms; /* CLOCK_REALTIME since 1970 */
};

struct rk_host_peer {
    const char *name;
    const char *peer; /* advertised addresses, "host:port" */
    const char *http;
    const char *rpc;
};

struct rk_host_options {
    uint32_t struct_size;
    const char *name;         /* this node's */
    const char *data;         /* folder; made if missing */
    const char *cluster;      /* wished cluster name; "" for any */
    struct rk_host_peer self; /* this node's advertised addresses */
    const struct rk_host_peer
        *peers; /* of --peers, this node included; http, rpc may be "" */
    uint32_t peer_count;
    uint32_t group_count;         /* data groups, used at bootstrap only; default 9 */
    uint32_t election_timeout_ms; /* default 1000 */
    uint32_t heartbeat_ms;        /* default 100 */
    uint64_t fence_floor;
    uint64_t seed; /* of elections, cluster id, history, disk id */
    uint64_t
        snapshot_bytes; /* log bytes of a group after which it is snapshotted; 0: default */
    uint64_t side_bytes;        /* kept aside for a snapshot under way, about; 0: default */
    uint64_t slice_bytes;       /* of a snapshot encoded at once, about; 0: default */
    uint64_t segment_bytes;     /* of the log's files, see rk_wal_options; 0: default */
    uint64_t verify_ms;         /* all snapshots are read back within so long; 0: never */
    uint64_t uncommitted_bytes; /* of one group's proposals at most; 0: default */
    /* Reads and keepalives are answered without a round as long as nobody else can lead, by
     * clocks that differ by 5 % at most; who leads after a failure is then decided by the
     * election timeout alone. Not offered by rukund. */
    bool has_lease_reads;
    uint32_t machine_version; /* newest that this node takes part in; 0: all it knows */
    bool has_slices;          /* see rk_host_slice */
    /* Sessions and locks are kept in a store, see store.h: io has its two effects. */
    bool has_store;
    /* How long grants are held back when the store may have lost some; 0: not at all. */
    uint32_t store_hold_ms;
    struct rk_fs *fs;
};

enum rk_log_level { RK_LOG_DEBUG, RK_LOG_INFO, RK_LOG_WARN, RK_LOG_ERROR };

/* Effects. Called from within rk_host_* functions; must not call back into the host. */
struct rk_host_io {
    void *context;
    /* One frame for the peer called `name` (see `--peers`); borrowed. Lost if not
     * connected. */
    void (*send)(void *context, const char *name, enum rk_host_link link,
                 struct rk_slice frame);
    /* Hand the batch to the disk thread: rk_wal_write there, then rk_host_written here.
     * At most one is under way; the batch is lent until written. */
    void (*write)(void *context, struct rk_wal *wal, struct rk_wal_batch *batch);
    /* Optional. Do rk_host_work_run(work) on some thread (not the loop's; not the disk
     * thread either, where it would hold up the log), then rk_host_work_done on the loop.
     * Of each lane at most one is under way, and none waits for another lane: what is on
     * its way to a peer must not wait until a large state is loaded. NULL: it runs within
     * the flush. */
    void (*work)(void *context, struct rk_host_work *work);
    /* The answer to a call; the reply is borrowed. Each call is answered exactly once,
     * except those that were dropped. */
    void (*reply)(void *context, uint64_t call, const struct rk_reply *reply);
    void (*log)(void *context, enum rk_log_level level, const char *text);
    /* The node can not go on (log I/O failed, state lost step, foreign data): end it. */
    void (*fatal)(void *context, enum rk_status status, const char *text);
    /* With a store only, see store.h. One of the two is out at most; a new claim or batch
     * takes the place of one that was not answered. */
    void (*store_claim)(void *context, const struct rk_host_store_claim *claim);
    void (*store_write)(void *context, const struct rk_host_store_batch *batch);
};

/* Opens data, recovers log and snapshots, and stands ready; sends nothing before the first
 * tick. error (may be NULL, 256 bytes) gets the reason. RK_ECORRUPT: data that fails its
 * checksums; RK_EBUSY: another process uses the folder; RK_EUNSUPPORTED: newer format. */
RK_MUST_CHECK enum rk_status rk_host_open(struct rk_host **out,
                                          const struct rk_host_options *options,
                                          const struct rk_host_io *io, char *error);
/* Drops everything; durable state stays. Nothing is answered any more. Neither a batch nor
 * work may be under way on another thread. */
void rk_host_close(struct rk_host *host);

/* Time has passed: call at least every heartbeat_ms / 4, before other events of a turn. */
void rk_host_tick(struct rk_host *host, struct rk_host_time now);
/* The next moment (boot_ms) at which a tick has something to do. */
uint64_t rk_host_next_tick(const struct rk_host *host);

/* A frame from the peer at the other end of a link. Anything malformed, of another cluster,
 * node, disk or group is dropped and counted. from is the name that the link's hello gave.
 */
void rk_host_receive(struct rk_host *host, const char *from, enum rk_host_link link,
                     struct rk_slice frame);
/* Evidence about the connection to a peer, as the transport sees it. is_refused: this was
 * an attempt to connect, and the peer or the way to it is why it failed. Early vote needs
 * that, and that neither control nor bulk is up after one of them was. */
void rk_host_link_up(struct rk_host *host, const char *name, enum rk_host_link link);
void rk_host_link_down(struct rk_host *host, const char *name, enum rk_host_link link,
                       bool is_refused);

/* A client's request, decoded and checked. `call` is the caller's number for it, unique
 * among live calls, not 0. The request is borrowed. Answered through io->reply, perhaps
 * already within this call. Bulk cache calls are split over groups here. */
void rk_host_call(struct rk_host *host, uint64_t call, const struct rk_request *request);
/* The client went away: waits are cancelled through the log, hand-outs returned. No answer.
 */
void rk_host_drop(struct rk_host *host, uint64_t call);

/* The disk thread finished the batch given to io->write. */
void rk_host_written(struct rk_host *host, enum rk_status status);

/* See rk_host_io.work. */
uint32_t rk_host_work_lane(const struct rk_host_work *work); /* 0 to RK_HOST_LANES - 1 */
void rk_host_work_run(struct rk_host_work *work);
/* After it ran: nobody waits for what follows, so the disk may be left to others for a
 * while before rk_host_work_done. */
bool rk_host_work_has_time(const struct rk_host_work *work);
void rk_host_work_done(struct rk_host *host, struct rk_host_work *work);

/* Small parts of the snapshot that is being taken, each a fraction of a millisecond unless
 * a single record is large. With options.has_slices they are taken by this alone, when and
 * for as long as a turn has time; else each flush takes one. */
enum rk_host_slices {
    RK_SLICES_NONE,   /* nothing for now */
    RK_SLICES_MORE,   /* when there is time */
    RK_SLICES_URGENT, /* each turn: entries are about to wait for the snapshot */
};
enum rk_host_slices rk_host_slices(const struct rk_host *host);
/* Takes one, if there is one; what is left. */
enum rk_host_slices rk_host_slice(struct rk_host *host);

/* A backup of all groups, see storage/backup.h; each group's part holds at least what was
 * answered before begin. One at a time. program names who writes it; copied.
 * RK_EUNAVAILABLE: the node serves no groups. RK_EBUSY: there is one. RK_ENOMEM. */
RK_MUST_CHECK enum rk_status rk_host_backup_begin(struct rk_host *host,
                                                  const char *program);
/* Appends the next bytes to out until it holds about `size`; perhaps nothing: then there
 * are some in a later turn. *is_done after the last ones. Any error ends the backup, and
 * error (256 bytes) says why. RK_EUNAVAILABLE: no majority for 10 s, or no snapshot
 * for 30 s. */
RK_MUST_CHECK enum rk_status rk_host_backup_read(struct rk_host *host, struct rk_buf *out,
                                                 size_t size, bool *is_done, char *error);
/* Done or given up; nothing if there is none. */
void rk_host_backup_end(struct rk_host *host);

/* The disk or memory watermark: while set, operations that grow the state are refused here
 * as the leader (RK_EFULL) before they reach the log. */
void rk_host_set_full(struct rk_host *host, bool is_full);

/* Ends the turn. */
void rk_host_flush(struct rk_host *host);

/* Begins a graceful stop: takes no new leadership, hands over what it leads.
 * rk_host_is_idle: nothing is led here any more, or no one could take it for 2 s. */
void rk_host_stop(struct rk_host *host);
bool rk_host_is_idle(const struct rk_host *host);

/* What the node knows, for the GET endpoints; valid until the next event. */
struct rk_host_group_status {
    uint32_t id;
    const char *role;   /* "leader", "follower", "candidate", "learner", "pre-candidate" */
    const char *leader; /* name or "" */
    uint64_t term, commit, applied, last_index, first_index;
    uint64_t hash; /* filled by rk_host_group_hash only */
    uint64_t bytes, objects;
    uint32_t voter_count, learner_count; /* as applied; of a joint change the new ones */
    uint32_t machine_version;            /* behaviour in force */
};

struct rk_host_node_status {
    const char *name;
    uint64_t number;
    const char *http, *rpc, *peer;
    bool is_up;      /* heard within an election timeout */
    bool is_damaged; /* its data failed a checksum: it neither votes nor leads */
    /* In all groups "voter", at least "learner"; "joining" until then; "leaving";
     * "removed": only told so for a while; "" before birth. */
    const char *role;
};

struct rk_host_status {
    const char *name;
    uint64_t number;
    const char *cluster; /* id, hex; "" before birth */
    uint64_t history;
    uint32_t map_version;
    bool has_quorum; /* every group has a leader that was confirmed by a majority */
    const struct rk_host_group_status *groups; /* 0 first */
    uint32_t group_count;                      /* with group 0 */
    const struct rk_host_node_status *nodes;
    uint32_t node_count;
    const uint16_t *slots; /* 4096: slot -> group */
    /* "joining", "running", "stopping", "removed", "refused: ...", "damaged: ..." */
    const char *state;
    bool is_damaged;
    uint64_t members_version; /* of the member table */
    bool is_reconciled;       /* all groups have the membership that the table wishes */
};
void rk_host_status(struct rk_host *host, struct rk_host_status *out);
/* Raised when the nodes to be connected with, or their addresses, change; see
 * rk_host_status.nodes. */
uint64_t rk_host_members_version(const struct rk_host *host);
/* The group that serves a slot (0 to 4095); 0 before birth. */
uint32_t rk_host_group_of(const struct rk_host *host, uint32_t slot);
/* Whether this node leads it, as far as it knows. */
bool rk_host_leads(const struct rk_host *host, uint32_t group);
/* The history of the cluster; 0 before birth. */
uint64_t rk_host_history(const struct rk_host *host);
/* State hash of a group at its applied index. O(n). */
RK_MUST_CHECK enum rk_status rk_host_group_hash(struct rk_host *host, uint32_t group,
                                                uint64_t *applied, uint64_t *out);

/* Counters for /metrics: one table in host_metrics.def (name, help, kind). */
struct rk_host_metrics {
#define RK_HOST_METRIC(field, name, kind, help) uint64_t field;
#define RK_HOST_METRIC_MS                       RK_HOST_METRIC
#include "host/host_metrics.def"
#undef RK_HOST_METRIC_MS
#undef RK_HOST_METRIC
};
const struct rk_host_metrics *rk_host_metrics(const struct rk_host *host);

/* What the simulator may look at. */
const struct rk_machine *rk_host_machine(const struct rk_host *host, uint32_t group);
#endif
