/* raft.h - consensus for one group: events in, effects out.
 *
 * No clock (time is rk_raft_tick), no I/O, no threads, no randomness but a seeded
 * generator: the same calls give the same effects. Not thread-safe: one owner calls.
 * What comes in is borrowed for the call. What goes out through rk_raft_ready is lent
 * until the next rk_raft_ready; all other calls may be made meanwhile. */
#ifndef RK_RAFT_RAFT_H
#define RK_RAFT_RAFT_H

#include "base/arena.h"
#include "base/bytes.h"
#include "base/status.h"

enum {
    RK_RAFT_MEMBERS_MAX = 32,             /* voters of both halves and learners together */
    RK_RAFT_APPENDS_MAX = 128,            /* readies handed out and not yet persisted */
    RK_RAFT_APPLIES_MAX = 128,            /* readies whose entries are not yet applied */
    RK_RAFT_CONTEXT_SIZE_MAX = 64 * 1024, /* of a membership change */
    RK_RAFT_APPEND_OVERHEAD = 64, /* what an entry counts for in max_append_bytes, on top
                                   * of its data: its numbers in any log */
};

/* No node has number 0. */
#define RK_RAFT_NONE     ((uint64_t)0)
#define RK_RAFT_NO_LIMIT UINT64_MAX

enum rk_raft_entry_type {
    RK_RAFT_ENTRY_NORMAL = 0,  /* with empty data: a new leader's no-op */
    RK_RAFT_ENTRY_CONF = 1,    /* one membership change by the simple protocol */
    RK_RAFT_ENTRY_CONF_V2 = 2, /* any membership change; empty data leaves a joint one */
};

struct rk_raft_entry {
    uint64_t index;
    uint64_t term;
    struct rk_slice data;
    uint8_t type; /* enum rk_raft_entry_type */
};

struct rk_raft_hard_state {
    uint64_t term;
    uint64_t vote;
    uint64_t commit;
};

struct rk_raft_members {
    uint32_t count;
    uint64_t ids[RK_RAFT_MEMBERS_MAX]; /* ascending */
};

/* A membership. It is joint while voters_outgoing is not empty. */
struct rk_raft_conf_state {
    struct rk_raft_members voters;
    struct rk_raft_members voters_outgoing;
    struct rk_raft_members learners;
    struct rk_raft_members learners_next; /* learners as soon as the joint state ends */
    bool auto_leave;
};

/* What raft knows of a snapshot. Its content travels by other means. */
struct rk_raft_snapshot {
    uint64_t index; /* 0: none */
    uint64_t term;
    struct rk_raft_conf_state conf;
};

enum rk_raft_message_type { /* the numbers are those of the wire */
                            RK_RAFT_MSG_HUP = 0,
                            RK_RAFT_MSG_BEAT = 1,
                            RK_RAFT_MSG_PROP = 2,
                            RK_RAFT_MSG_APP = 3,
                            RK_RAFT_MSG_APP_RESP = 4,
                            RK_RAFT_MSG_VOTE = 5,
                            RK_RAFT_MSG_VOTE_RESP = 6,
                            RK_RAFT_MSG_SNAP = 7,
                            RK_RAFT_MSG_HEARTBEAT = 8,
                            RK_RAFT_MSG_HEARTBEAT_RESP = 9,
                            RK_RAFT_MSG_UNREACHABLE = 10,
                            RK_RAFT_MSG_SNAP_STATUS = 11,
                            RK_RAFT_MSG_CHECK_QUORUM = 12,
                            RK_RAFT_MSG_TRANSFER_LEADER = 13,
                            RK_RAFT_MSG_TIMEOUT_NOW = 14,
                            RK_RAFT_MSG_READ_INDEX = 15,
                            RK_RAFT_MSG_READ_INDEX_RESP = 16,
                            RK_RAFT_MSG_PRE_VOTE = 17,
                            RK_RAFT_MSG_PRE_VOTE_RESP = 18,
                            RK_RAFT_MSG_STORAGE_APPEND = 19,
                            RK_RAFT_MSG_STORAGE_APPEND_RESP = 20,
                            RK_RAFT_MSG_STORAGE_APPLY = 21,
                            RK_RAFT_MSG_STORAGE_APPLY_RESP = 22,
                            RK_RAFT_MSG_FORGET_LEADER = 23,
                            RK_RAFT_MSG_TYPES,
};

enum rk_raft_campaign { /* why a vote is asked for */
                        RK_RAFT_CAMPAIGN_NORMAL = 0,
                        RK_RAFT_CAMPAIGN_TRANSFER = 1, /* the leader itself asked for it */
                        RK_RAFT_CAMPAIGN_EARLY =
                            2, /* on evidence that the leader is gone */
};

struct rk_raft_message {
    uint8_t type;     /* enum rk_raft_message_type */
    uint8_t campaign; /* enum rk_raft_campaign, of vote requests */
    bool reject;
    uint64_t from;
    uint64_t to;
    uint64_t term;
    uint64_t log_term; /* term of the entry at index */
    uint64_t index;    /* of appends: the entry before the first of entries */
    uint64_t commit;
    uint64_t reject_hint;
    uint64_t context; /* heartbeats: the read round; reads: the caller's request */
    const struct rk_raft_entry *entries;
    size_t entry_count;
    const struct rk_raft_snapshot *snapshot; /* of RK_RAFT_MSG_SNAP, else NULL */
};

/* The durable log, owned by the host. Entries are asked for only once they were reported by
 * rk_raft_persisted (or were there at rk_raft_open): all later ones are kept in memory
 * here. So it does not matter whether the functions know what was handed out since. */
struct rk_raft_store {
    void *context;
    uint64_t (*first_index)(void *context); /* of the first entry kept; snapshot's + 1 */
    uint64_t (*last_index)(void *context);  /* first_index - 1 when the log is empty */
    /* The term of an entry; first_index - 1 is answered too.
     * RK_EGONE: compacted. RK_ENOENT: beyond the end. */
    enum rk_status (*term)(void *context, uint64_t index, uint64_t *out);
    /* Entries lo..hi-1 from the start, at least one, then as many as keep the sum of
     * rk_raft_entry_size within max_bytes. Array and data go into arena (or are memory
     * that stays valid for as long as the arena would keep it).
     * RK_EGONE: lo was compacted. RK_ENOMEM. Other errors mean "not now". */
    enum rk_status (*entries)(void *context, uint64_t lo, uint64_t hi, uint64_t max_bytes,
                              struct rk_arena *arena, const struct rk_raft_entry **out,
                              size_t *count);
    /* The newest snapshot that could be sent. RK_EBUSY: none at the moment. It is sent only
     * to those that its membership knows: see rk_raft_wanted_snapshot. */
    enum rk_status (*snapshot)(void *context, struct rk_raft_snapshot *out);
};

enum rk_raft_read_mode {
    RK_RAFT_READ_SAFE = 0,  /* a quorum confirms the leadership for each batch of reads */
    RK_RAFT_READ_LEASE = 1, /* trusts clocks within drift_ticks; needs check_quorum */
};

struct rk_raft_options {
    uint32_t struct_size;
    uint64_t id;              /* of this node, not 0 */
    uint64_t seed;            /* of the generator; differ by node and group */
    uint32_t election_tick;   /* ticks without a leader before a campaign */
    uint32_t election_jitter; /* random ticks on top, 0..this-1; at least 1 */
    uint32_t heartbeat_tick;  /* less than election_tick */
    uint32_t prevote_retry;   /* a pre-candidate asks again after so many ticks; 0: never */
    uint32_t early_jitter;    /* early vote: random ticks to wait, 0..this */
    uint32_t drift_ticks;     /* lease reads: what clocks may differ in election_tick */
    uint32_t restart_ticks;   /* lease reads: so long after its start a node acts as if it
                               * heard a leader, as it may have just before; election_tick,
                               * unless no node ever starts again */
    uint32_t
        disk_stall_ticks; /* outstanding append so long: the leader steps down; 0: off */
    uint32_t max_inflight_messages; /* appends on the way to one follower */
    uint64_t max_inflight_bytes;    /* likewise; 0: no limit */
    uint64_t max_message_bytes;     /* entries of one append; one entry always fits */
    uint64_t max_uncommitted_bytes; /* proposals are refused beyond; 0: no limit */
    uint64_t
        max_committed_bytes_per_ready; /* handed out and not yet applied; 0: as above */
    uint64_t max_append_bytes;  /* entries of one ready, to be written; one entry always
                                 * fits, the others come with the next; 0: no limit */
    uint64_t max_cached_bytes;  /* durable entries kept in memory for followers and apply */
    uint32_t max_pending_reads; /* reads waiting for confirmation */
    enum rk_raft_read_mode read_mode;
    bool check_quorum;
    bool pre_vote;
    bool early_vote; /* needs pre_vote; excludes lease reads */
    bool step_down_on_removal;
    bool must_not_vote; /* data failed a checksum: neither votes nor leads */
    /* Hand out committed entries before they are durable here. The log must then not be
     * dropped beyond status.durable_index. */
    bool apply_unstable;
    bool forward_proposals; /* a follower sends proposals to its leader */
    bool is_eager;          /* send an append a proposal instead of one a ready */
    bool is_conf_unchecked; /* no checks when a membership change is proposed */
    bool host_keeps_after;  /* see rk_raft_ready.after; for test drivers */
    /* State read back by the host at start. */
    struct rk_raft_hard_state hard_state;
    struct rk_raft_conf_state conf; /* as of applied */
    uint64_t applied;
};

struct rk_raft_read_state {
    uint64_t request; /* the caller's, from rk_raft_read_index */
    uint64_t index;   /* serve the read once this index is applied */
    bool is_lost;     /* the leadership ended before confirmation; index is 0 */
};

enum rk_raft_role {
    RK_RAFT_FOLLOWER = 0,
    RK_RAFT_CANDIDATE = 1,
    RK_RAFT_LEADER = 2,
    RK_RAFT_PRE_CANDIDATE = 3,
};

/* The effects. The host's duties, in this order:
 *  1. If has_append: write, in one batch and in the order of numbers, the hard state (if
 *     has_hard_state), the snapshot (if any: its file first, rule 17; the log then starts
 *     after it) and the entries. entries[0].index may be at or below the store's last
 *     index: everything from there on is dropped first. When the batch is durable:
 *     rk_raft_persisted(number). If must_sync is false and there is no snapshot, no sync is
 *     needed: report it as soon as all former numbers are.
 *  2. Send `messages` at once, in order; they travel while the disk works. Loss, delay and
 *     duplication are fine. For RK_RAFT_MSG_SNAP the host transfers the content itself; the
 *     receiving host steps the message when it has it all (with the index it then has), the
 *     sending one calls rk_raft_report_snapshot when the transfer ended, well or not:
 * nothing else is sent to that node before it is heard of.
 *  3. Messages that must wait for the disk are kept inside and appear in `messages` of a
 *     ready after rk_raft_persisted. `after` shows them only for host_keeps_after.
 *  4. Install the snapshot into the state machine; rk_raft_persisted of its number stands
 * for both, durable and installed.
 *  5. Apply `committed` in order; for membership entries call rk_raft_apply_conf. Then
 *     rk_raft_applied(last index), now or later.
 *  6. Serve `reads` once their index is applied. */
struct rk_raft_ready {
    uint64_t number; /* of this append; 0 without one */
    bool has_append;
    bool must_sync;
    bool has_hard_state;
    bool has_soft_state; /* leader or role differ from the last ready */
    enum rk_raft_role role;
    uint64_t leader;
    struct rk_raft_hard_state hard_state;
    const struct rk_raft_snapshot *snapshot; /* NULL: none */
    const struct rk_raft_entry *entries;
    size_t entry_count;
    const struct rk_raft_message *messages;
    size_t message_count;
    const struct rk_raft_message *after;
    size_t after_count;
    const struct rk_raft_entry *committed;
    size_t committed_count;
    const struct rk_raft_read_state *reads;
    size_t read_count;
    /* What rk_raft_persisted(number) stands for (rule 7): the log up to (index, log_term),
     * written in term. 0 index: no entries. */
    uint64_t done_term;
    uint64_t done_index;
    uint64_t done_log_term;
    bool has_done;
};

enum rk_raft_progress_state {
    RK_RAFT_PROBE = 0,     /* where its log ends is unknown: one append a heartbeat */
    RK_RAFT_REPLICATE = 1, /* appends are pipelined */
    RK_RAFT_SNAPSHOT = 2,  /* it needs a snapshot first */
};

struct rk_raft_progress {
    uint64_t id;
    uint64_t match; /* known to be durable there */
    uint64_t next;
    uint64_t pending_snapshot;
    enum rk_raft_progress_state state;
    bool is_learner;
    bool is_active; /* heard since the last check of the quorum */
    bool is_paused;
    bool is_full; /* inflight limit reached */
    uint32_t inflight_count;
};

struct rk_raft_status {
    uint64_t id;
    uint64_t leader;
    uint64_t transferee;
    enum rk_raft_role role;
    struct rk_raft_hard_state hard_state;
    uint64_t applied;
    uint64_t first_index;
    uint64_t last_index;
    uint64_t durable_index; /* this node's own log on disk */
    /* Rule 4: the leader's no-op is committed. Before, no read, membership change, expiry
     * or keepalive may be answered. */
    bool has_committed_in_term;
    bool has_lease; /* lease reads: nobody else can lead by now, reads are answered at once
                     */
    struct rk_raft_conf_state conf;
    uint32_t progress_count;                               /* 0 unless leader */
    struct rk_raft_progress progress[RK_RAFT_MEMBERS_MAX]; /* ascending ids */
};

enum rk_raft_conf_op {
    RK_RAFT_ADD_VOTER = 0,
    RK_RAFT_REMOVE = 1,
    RK_RAFT_UPDATE = 2, /* changes nothing here */
    RK_RAFT_ADD_LEARNER = 3,
};

enum rk_raft_transition {
    RK_RAFT_TRANSITION_AUTO = 0, /* simple if one change, else joint, left by itself */
    RK_RAFT_TRANSITION_JOINT_IMPLICIT = 1, /* joint, left by itself */
    RK_RAFT_TRANSITION_JOINT_EXPLICIT = 2, /* joint until an empty change is proposed */
};

struct rk_raft_conf_single {
    enum rk_raft_conf_op op;
    uint64_t id; /* 0: ignored */
};

struct rk_raft_conf_change {
    enum rk_raft_transition transition;
    uint32_t count;
    struct rk_raft_conf_single changes[RK_RAFT_MEMBERS_MAX];
    struct rk_slice context; /* the host's; travels with the entry */
};

struct rk_raft; /* opaque */

/* Defaults for ticks of 10 ms: election 1000 ms + 0..500, heartbeat 100 ms. */
void rk_raft_options_init(struct rk_raft_options *options);

/* store is kept by value; its context must outlive the raft. A first membership that is not
 * in the log belongs to a snapshot: a cluster is born with snapshot index 1, term 1 and a
 * hard state of term 1, commit 1, so that whoever joins later gets it with a snapshot.
 * RK_EINVAL: options contradict. RK_ENOMEM. RK_ECORRUPT: hard state, membership, applied
 * and store do not fit together: the node must not start. */
RK_MUST_CHECK enum rk_status rk_raft_open(struct rk_raft **out,
                                          const struct rk_raft_options *options,
                                          const struct rk_raft_store *store);
void rk_raft_free(struct rk_raft *raft);

/* One tick of time passed. RK_ENOMEM: the tick counted, what was due is tried next time. */
enum rk_status rk_raft_tick(struct rk_raft *raft);
/* So many more passed in which nothing could be done, as while the process was stopped.
 * They bring no election nearer, but a lease to its end. */
void rk_raft_skip(struct rk_raft *raft, uint64_t ticks);

/* A message from a peer, already checked to be of this cluster and group. Unfit messages
 * are ignored as if lost.
 * RK_EINVAL: a local message type. RK_ENOENT: an answer from a node that is no member.
 * RK_EPROTO: entries not in order. RK_EDROPPED: a forwarded proposal was refused.
 * RK_ENOMEM: as if the message was lost.
 * RK_ECORRUPT: the leader counts on entries that this node acknowledged and no longer has:
 * its log was lost, the process must end. */
RK_MUST_CHECK enum rk_status rk_raft_step(struct rk_raft *raft,
                                          const struct rk_raft_message *message);

/* Appends count entries of data (copied) in one go; *first_index (may be NULL) is set to
 * the index of the first. They are committed when they come back in `committed` under the
 * term that rk_raft_status shows now; under another term at that index they are lost.
 * RK_ENOTLEADER. RK_EDROPPED: transfer under way or this node was removed.
 * RK_EBUSY: max_uncommitted_bytes reached. RK_ENOMEM. All: nothing was appended. */
RK_MUST_CHECK enum rk_status rk_raft_propose(struct rk_raft *raft,
                                             const struct rk_slice *data, size_t count,
                                             uint64_t *first_index);

/* Proposes a membership change; count 0 leaves a joint one.
 * As rk_raft_propose, and RK_EBUSY: another change is not applied yet, or nothing is
 * committed in this term. RK_EPAUSED: the joint state must be left first, or it is asked
 * to leave without being joint. */
RK_MUST_CHECK enum rk_status rk_raft_propose_conf(struct rk_raft *raft,
                                                  const struct rk_raft_conf_change *change,
                                                  uint64_t *index);

/* Puts a committed membership entry into effect; out (may be NULL) is the new membership.
 * On an error the change has no effect, on any node: it is the same for all.
 * RK_EPROTO: data malformed. RK_EINVAL: not possible in the present membership. */
RK_MUST_CHECK enum rk_status rk_raft_apply_conf(struct rk_raft *raft,
                                                const struct rk_raft_entry *entry,
                                                struct rk_raft_conf_state *out);
void rk_raft_conf(const struct rk_raft *raft, struct rk_raft_conf_state *out);

/* Asks for an index at which a read is linearizable. The answer comes in `reads`; a read
 * passed on to the leader may be lost on the way: ask again after a while.
 * RK_ENOTLEADER: no leader is known. RK_EBUSY: max_pending_reads reached. RK_ENOMEM. */
RK_MUST_CHECK enum rk_status rk_raft_read_index(struct rk_raft *raft, uint64_t request);

/* Hands the leadership to a voter, which first catches up. Proposals are refused until it
 * happened or an election timeout went by; status.transferee tells.
 * RK_ENOTLEADER. RK_ENOENT: no such voter. RK_EEXIST: it leads already. RK_ENOMEM. */
RK_MUST_CHECK enum rk_status rk_raft_transfer(struct rk_raft *raft, uint64_t to);

/* A follower forgets its leader, so that it grants votes at once. Nothing with leases. */
enum rk_status rk_raft_forget_leader(struct rk_raft *raft);
/* Campaigns now, by pre-vote if configured. */
enum rk_status rk_raft_campaign(struct rk_raft *raft);
/* Early vote: the links to the leader were reset or closed and connecting again was refused
 * or failed. Voids itself when the leader is heard again. No effect without early_vote. */
void rk_raft_leader_lost_evidence(struct rk_raft *raft);
/* Data of this node failed a checksum (rule 18): from now on it neither votes nor
 * campaigns, as with options.must_not_vote. A leader leads on until it has handed over. */
void rk_raft_forbid_votes(struct rk_raft *raft);
/* The last message to that peer probably got lost. */
void rk_raft_report_unreachable(struct rk_raft *raft, uint64_t id);
/* How sending the snapshot to that peer ended. */
void rk_raft_report_snapshot(struct rk_raft *raft, uint64_t id, bool is_done);

/* While held, readies bring no append, as while too many are outstanding: the host has no
 * room for one. All that needs none goes on. It counts as a disk that makes no progress. */
void rk_raft_hold_appends(struct rk_raft *raft, bool is_held);
bool rk_raft_has_ready(const struct rk_raft *raft);
/* Takes the effects since the last ready. RK_ENOMEM or an error of the store: nothing was
 * taken, the former ready is no longer lent, call again. */
RK_MUST_CHECK enum rk_status rk_raft_ready(struct rk_raft *raft, struct rk_raft_ready *out);

/* All appends up to this ready's number are durable. Numbers of long ago are ignored. What
 * it proves is decided by the (index, term) the ready was issued for: entries replaced
 * meanwhile are not marked durable (rule 7). */
enum rk_status rk_raft_persisted(struct rk_raft *raft, uint64_t number);
/* The state machine is at index, which was handed out in `committed` or as a snapshot. */
void rk_raft_applied(struct rk_raft *raft, uint64_t index);
/* While held no more entries come in `committed`: they wait in the log. At a leader they
 * count as uncommitted, so that before long proposals are refused. */
void rk_raft_hold_apply(struct rk_raft *raft, bool is_held);

uint64_t rk_raft_term(const struct rk_raft *raft);
uint64_t rk_raft_leader(const struct rk_raft *raft); /* 0: unknown */
bool rk_raft_is_leader(const struct rk_raft *raft);
uint64_t rk_raft_committed(const struct rk_raft *raft);
uint64_t rk_raft_last_index(const struct rk_raft *raft);
/* Rule 4; false unless leader. */
bool rk_raft_has_committed_in_term(const struct rk_raft *raft);
void rk_raft_status(const struct rk_raft *raft, struct rk_raft_status *out);
/* A follower needs a snapshot and the store's will not do, it is too old to know that
 * member: take one of at least this index. 0: nobody waits. */
uint64_t rk_raft_wanted_snapshot(const struct rk_raft *raft);
/* Index of a snapshot that was stepped and taken, and is not yet handed out in a ready:
 * that may have to wait for earlier appends. 0: none. */
uint64_t rk_raft_taken_snapshot(const struct rk_raft *raft);

/* What an entry counts for in all byte limits: its data and its numbers. */
uint64_t rk_raft_entry_size(const struct rk_raft_entry *entry);

/* The data of a membership entry. RK_ELIMIT: over RK_RAFT_MEMBERS_MAX changes or
 * RK_RAFT_CONTEXT_SIZE_MAX. RK_ENOMEM. */
RK_MUST_CHECK enum rk_status
rk_raft_conf_change_encode(struct rk_buf *out, const struct rk_raft_conf_change *change);
/* out->context points into data. RK_EPROTO. */
RK_MUST_CHECK enum rk_status rk_raft_conf_change_decode(struct rk_raft_conf_change *out,
                                                        struct rk_slice data);
#endif
