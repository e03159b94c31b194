/* tracker.h - what a node knows of each member: how far it follows, its votes, and the
 * flow of appends to it. */
#ifndef RK_RAFT_TRACKER_H
#define RK_RAFT_TRACKER_H

#include "raft/quorum.h"

struct rk_raft_flight {
    uint64_t index; /* of the last entry in the message */
    uint64_t bytes;
};

/* Appends on the way, oldest first, in a ring that grows to what is used. */
struct rk_raft_inflights {
    struct rk_raft_flight *flights; /* owned */
    uint32_t start;
    uint32_t count;
    uint32_t capacity;
    uint64_t bytes;
};

struct rk_raft_peer {
    uint64_t id;
    uint64_t match; /* durable there; match < next */
    uint64_t next;  /* everything in between is on the way */
    uint64_t sent_commit;
    uint64_t pending_snapshot;
    uint64_t read_ack; /* the last read round it answered */
    enum rk_raft_progress_state state;
    enum rk_raft_vote vote;
    bool is_learner;
    bool is_active;
    bool is_flow_paused;
    struct rk_raft_inflights inflights;
};

struct rk_raft_tracker {
    struct rk_raft_conf_state conf;
    uint32_t count;
    uint32_t max_inflight;
    uint64_t max_inflight_bytes;                    /* 0: no limit */
    struct rk_raft_peer peers[RK_RAFT_MEMBERS_MAX]; /* ascending ids */
};

void rk_raft_tracker_init(struct rk_raft_tracker *tracker, uint32_t max_inflight,
                          uint64_t max_inflight_bytes);
void rk_raft_tracker_fini(struct rk_raft_tracker *tracker);
struct rk_raft_peer *rk_raft_tracker_find(struct rk_raft_tracker *tracker, uint64_t id);
/* A new peer, in its place; NULL if there is no room. */
struct rk_raft_peer *rk_raft_tracker_insert(struct rk_raft_tracker *tracker, uint64_t id);
void rk_raft_tracker_delete(struct rk_raft_tracker *tracker, uint64_t id);
/* Puts next in the place of tracker and frees what only the old one had. */
void rk_raft_tracker_replace(struct rk_raft_tracker *tracker,
                             const struct rk_raft_tracker *next);
bool rk_raft_tracker_is_singleton(const struct rk_raft_tracker *tracker, uint64_t self);
uint64_t rk_raft_tracker_committed(const struct rk_raft_tracker *tracker);
uint64_t rk_raft_tracker_read_confirmed(const struct rk_raft_tracker *tracker);
bool rk_raft_tracker_is_quorum_active(const struct rk_raft_tracker *tracker);
void rk_raft_tracker_reset_votes(struct rk_raft_tracker *tracker);
/* The first vote of a node counts. */
enum rk_raft_vote_result rk_raft_tracker_poll(struct rk_raft_tracker *tracker, uint64_t id,
                                              bool is_granted);

bool rk_raft_tracker_is_full(const struct rk_raft_tracker *tracker,
                             const struct rk_raft_peer *peer);
/* Forgets everything about how far the peer is. */
void rk_raft_peer_reset(struct rk_raft_peer *peer, uint64_t next);
void rk_raft_peer_become_probe(struct rk_raft_peer *peer);
void rk_raft_peer_become_replicate(struct rk_raft_peer *peer);
void rk_raft_peer_become_snapshot(struct rk_raft_peer *peer, uint64_t index);
bool rk_raft_peer_is_paused(const struct rk_raft_peer *peer);
/* Room for one more flight; RK_ENOMEM. */
RK_MUST_CHECK enum rk_status rk_raft_peer_reserve(const struct rk_raft_tracker *tracker,
                                                  struct rk_raft_peer *peer);
void rk_raft_peer_sent(const struct rk_raft_tracker *tracker, struct rk_raft_peer *peer,
                       size_t entry_count, uint64_t bytes);
/* True if sending this commit index could move the peer's. */
bool rk_raft_peer_can_bump(const struct rk_raft_peer *peer, uint64_t commit);
/* An acknowledgement; false if it is an old one. */
bool rk_raft_peer_update(struct rk_raft_peer *peer, uint64_t index);
/* A rejection of the append after `rejected`; false if it is an old one. */
bool rk_raft_peer_decrease(struct rk_raft_peer *peer, uint64_t rejected, uint64_t hint);
void rk_raft_peer_free_flights(struct rk_raft_peer *peer, uint64_t index);
void rk_raft_peer_describe(const struct rk_raft_tracker *tracker,
                           const struct rk_raft_peer *peer, struct rk_raft_progress *out);
#endif
