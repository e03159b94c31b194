/* internal.h - the state of a raft and what its parts call of each other. */
#ifndef RK_RAFT_INTERNAL_H
#define RK_RAFT_INTERNAL_H

#include "raft/log.h"

#include "raft/raft.h"
#include "raft/tracker.h"

#include "base/assert.h"
#include "base/mutant.h"
#include "base/random.h"

/* Senders and receivers inside a node, as in etcd-io/raft's traces. */
#define RK_RAFT_APPEND_THREAD UINT64_MAX
#define RK_RAFT_APPLY_THREAD  (UINT64_MAX - 1)

enum {
    RK_RAFT_LEASE_ROUNDS = 8,
    RK_RAFT_EARLY_TRIES = 8,
    RK_RAFT_ROOM = 3 * RK_RAFT_MEMBERS_MAX, /* messages one call surely can leave behind */
};

struct rk_raft_queue {
    struct rk_raft_message *items; /* owned */
    size_t head;
    size_t count; /* from head on */
    size_t capacity;
};

/* A ready with an append that is not yet known to be durable. */
struct rk_raft_pending {
    uint64_t number;
    uint64_t term;
    uint64_t vote;
    uint64_t index; /* 0: no entries */
    uint64_t log_term;
    uint64_t snapshot_index; /* 0: none */
    size_t after_count;      /* messages of `held` that wait for it */
};

struct rk_raft_batch { /* entries handed out for apply */
    uint64_t last;
    uint64_t bytes;
    uint64_t payload;
};

struct rk_raft_read {
    uint64_t request;
    uint64_t from;  /* who asked; this node itself for local reads */
    uint64_t round; /* the heartbeat round that confirms it; 0: not begun */
    uint64_t index;
};

struct rk_raft_reads {
    struct rk_raft_read *items; /* owned; in order of arrival */
    size_t count;
    size_t capacity;
    size_t begun;         /* the first so many have a round */
    uint64_t round;       /* the last number used; rises for the life of the raft */
    uint64_t lease_start; /* tick at which the last confirmed round began; 0: none */
    bool is_lease_void;   /* a transfer began in this term */
    struct {
        uint64_t round;
        uint64_t tick;
    } lease_rounds[RK_RAFT_LEASE_ROUNDS];
};

struct rk_raft_read_list {
    struct rk_raft_read_state *items; /* owned */
    size_t count;
    size_t capacity;
};

struct rk_raft {
    struct rk_raft_options options;
    uint64_t id;
    uint64_t term;
    uint64_t vote;
    uint64_t leader;
    enum rk_raft_role role;
    bool is_learner;
    struct rk_raft_log log;
    struct rk_raft_tracker tracker;
    struct rk_random random;

    uint64_t now; /* ticks since open, from 1 */
    uint32_t election_elapsed;
    uint32_t heartbeat_elapsed;
    uint32_t election_timeout; /* with this round's jitter */
    uint32_t stall_elapsed;    /* ticks since an outstanding append made progress */

    enum rk_raft_campaign campaign; /* of the campaign under way */
    bool has_evidence;              /* early vote: the leader is probably gone */
    bool is_early_armed; /* a campaign before the timeout: on evidence, or once more */
    uint32_t early_wait;
    uint32_t early_tries; /* campaigns left on this evidence or timeout */

    uint64_t transferee;
    uint64_t pending_conf_index; /* no membership change is proposed before it is applied */
    uint64_t uncommitted_bytes;
    uint64_t wanted_snapshot; /* a follower waits for one of at least this index; 0: none */
    bool is_append_due; /* followers are to be sent what is new at the end of the turn */

    struct rk_raft_reads reads;

    struct rk_raft_queue out;   /* to be sent now */
    struct rk_raft_queue after; /* to be sent when what is written so far is durable */
    struct rk_raft_queue held;  /* handed to an outstanding append */
    struct rk_raft_read_list released;

    uint64_t last_number;
    struct rk_raft_pending pending[RK_RAFT_APPENDS_MAX]; /* ring */
    size_t pending_head;
    size_t pending_count;
    bool is_append_held;                               /* by the host */
    struct rk_raft_batch batches[RK_RAFT_APPLIES_MAX]; /* ring */
    size_t batch_head;
    size_t batch_count;
    bool is_apply_held; /* nothing is handed out for apply */

    struct rk_raft_hard_state last_hard; /* as of the last ready */
    uint64_t durable_term;               /* as last reported by rk_raft_persisted */
    uint64_t durable_vote;
    uint64_t last_leader;
    enum rk_raft_role last_role;

    struct rk_arena arena;      /* what `out` points to */
    struct rk_arena lent_arena; /* what the last ready points to */
    struct rk_arena scratch;    /* for the length of a call */
    struct rk_raft_queue lent;
    struct rk_raft_queue lent_after;
    struct rk_raft_read_list lent_reads;
    struct rk_raft_snapshot lent_snapshot;
};

/* outbox.c */
/* Room so that the call cannot fail half way. RK_ENOMEM: nothing changed. */
RK_MUST_CHECK enum rk_status rk_raft_prepare(struct rk_raft *raft);
bool rk_raft_queue_push(struct rk_raft_queue *queue, const struct rk_raft_message *message);
RK_MUST_CHECK enum rk_status rk_raft_queue_reserve(struct rk_raft_queue *queue,
                                                   size_t more);
void rk_raft_queue_clear(struct rk_raft_queue *queue);
/* Fills in sender and term and puts it where its type belongs. */
void rk_raft_send(struct rk_raft *raft, struct rk_raft_message message);
/* Before the log is cut behind `after`: appends on the way out keep their entries. */
void rk_raft_pin_messages(struct rk_raft *raft, uint64_t after);
void rk_raft_release_read(struct rk_raft *raft, struct rk_raft_read_state read);

/* raft.c: the one entry for messages, own ones too */
enum rk_status rk_raft_step_local(struct rk_raft *raft,
                                  const struct rk_raft_message *message);
void rk_raft_set_election_timeout(struct rk_raft *raft, uint32_t ticks); /* for tests */
bool rk_raft_is_local_type(uint8_t type);
bool rk_raft_is_response_type(uint8_t type);

/* election.c */
void rk_raft_become_follower(struct rk_raft *raft, uint64_t term, uint64_t leader);
void rk_raft_become_leader(struct rk_raft *raft);
bool rk_raft_is_promotable(const struct rk_raft *raft);
/* Rule 20: what is to be written made no progress for too long. */
bool rk_raft_is_stalled(const struct rk_raft *raft);
void rk_raft_hup(struct rk_raft *raft, bool is_pre_vote, enum rk_raft_campaign campaign);
void rk_raft_repeat_requests(struct rk_raft *raft);
void rk_raft_handle_vote(struct rk_raft *raft, const struct rk_raft_message *message);
void rk_raft_handle_vote_resp(struct rk_raft *raft, const struct rk_raft_message *message);
/* Rule 11: the request is to be ignored, a leader is heard. */
bool rk_raft_is_in_lease(const struct rk_raft *raft, const struct rk_raft_message *message);

/* leader.c */
enum rk_status rk_raft_leader_append(struct rk_raft *raft,
                                     const struct rk_raft_entry *entries, size_t count);
enum rk_status rk_raft_leader_propose(struct rk_raft *raft,
                                      const struct rk_raft_entry *entries, size_t count);
/* What speaks against proposing the change now: RK_OK, RK_EBUSY, RK_EPAUSED. */
enum rk_status rk_raft_conf_check(const struct rk_raft *raft, bool is_leave);
bool rk_raft_send_append(struct rk_raft *raft, uint64_t to, bool is_empty_sent);
void rk_raft_broadcast_append(struct rk_raft *raft);
void rk_raft_flush_appends(struct rk_raft *raft);
void rk_raft_broadcast_heartbeat(struct rk_raft *raft);
bool rk_raft_advance_commit(struct rk_raft *raft);
void rk_raft_leader_step(struct rk_raft *raft, const struct rk_raft_message *message);
void rk_raft_check_quorum(struct rk_raft *raft);

/* follower.c */
enum rk_status rk_raft_handle_append(struct rk_raft *raft,
                                     const struct rk_raft_message *message);
enum rk_status rk_raft_handle_heartbeat(struct rk_raft *raft,
                                        const struct rk_raft_message *message);
enum rk_status rk_raft_handle_snapshot(struct rk_raft *raft,
                                       const struct rk_raft_message *message);

/* reads.c */
RK_MUST_CHECK enum rk_status rk_raft_reads_add(struct rk_raft *raft, uint64_t request,
                                               uint64_t from);
bool rk_raft_has_lease(const struct rk_raft *raft);
bool rk_raft_reads_are_due(const struct rk_raft *raft);
void rk_raft_reads_flush(struct rk_raft *raft);
/* The context of a heartbeat sent now, after counting it as a round if need be. */
uint64_t rk_raft_reads_context(struct rk_raft *raft);
void rk_raft_reads_acked(struct rk_raft *raft, struct rk_raft_peer *peer, uint64_t round);
void rk_raft_reads_lost(struct rk_raft *raft);

/* membership.c */
void rk_raft_switch_tracker(struct rk_raft *raft, const struct rk_raft_tracker *next);
/* Puts a membership change into effect. RK_EINVAL: it can not be. */
enum rk_status rk_raft_put_change(struct rk_raft *raft,
                                  const struct rk_raft_conf_change *change);

/* ready.c */
void rk_raft_applied_to(struct rk_raft *raft, uint64_t index, uint64_t bytes);
/* Proposes to leave a joint membership that is to be left by itself, if that can be now. */
void rk_raft_leave_joint(struct rk_raft *raft);
void rk_raft_append_done(struct rk_raft *raft, const struct rk_raft_pending *done);
void rk_raft_apply_done(struct rk_raft *raft, uint64_t index);
/* An append is outstanding, or has to wait before it can be. */
bool rk_raft_waits_for_disk(const struct rk_raft *raft);
#endif
