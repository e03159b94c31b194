#include "raft/tracker.h"

#include "base/alloc.h"
#include "base/assert.h"
#include "base/mutant.h"

#include <string.h>

static uint64_t max_u64(uint64_t a, uint64_t b)
{
    return a > b ? a : b;
}
static uint64_t min_u64(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

void rk_raft_tracker_init(struct rk_raft_tracker *tracker, uint32_t max_inflight,
                          uint64_t max_inflight_bytes)
{
    memset(tracker, 0, sizeof(*tracker));
    tracker->max_inflight = max_inflight;
    tracker->max_inflight_bytes = max_inflight_bytes;
}

void rk_raft_tracker_fini(struct rk_raft_tracker *tracker)
{
    for (uint32_t i = 0; i < tracker->count; i++)
        rk_free(tracker->peers[i].inflights.flights);
    memset(tracker, 0, sizeof(*tracker));
}

static const struct rk_raft_peer *find_const(const struct rk_raft_tracker *tracker,
                                             uint64_t id)
{
    for (uint32_t i = 0; i < tracker->count; i++)
        if (tracker->peers[i].id == id) return &tracker->peers[i];
    return NULL;
}

struct rk_raft_peer *rk_raft_tracker_find(struct rk_raft_tracker *tracker, uint64_t id)
{
    for (uint32_t i = 0; i < tracker->count; i++)
        if (tracker->peers[i].id == id) return &tracker->peers[i];
    return NULL;
}

struct rk_raft_peer *rk_raft_tracker_insert(struct rk_raft_tracker *tracker, uint64_t id)
{
    RK_ASSERT(rk_raft_tracker_find(tracker, id) == NULL);
    if (tracker->count == RK_RAFT_MEMBERS_MAX) return NULL;
    uint32_t at = 0;
    while (at < tracker->count && tracker->peers[at].id < id)
        at++;
    memmove(&tracker->peers[at + 1], &tracker->peers[at],
            (tracker->count - at) * sizeof(tracker->peers[0]));
    tracker->count++;
    memset(&tracker->peers[at], 0, sizeof(tracker->peers[at]));
    tracker->peers[at].id = id;
    return &tracker->peers[at];
}

void rk_raft_tracker_delete(struct rk_raft_tracker *tracker, uint64_t id)
{
    struct rk_raft_peer *peer = rk_raft_tracker_find(tracker, id);
    if (peer == NULL) return;
    uint32_t at = (uint32_t)(peer - tracker->peers);
    tracker->count--;
    memmove(peer, peer + 1, (tracker->count - at) * sizeof(*peer));
}

void rk_raft_tracker_replace(struct rk_raft_tracker *tracker,
                             const struct rk_raft_tracker *next)
{
    for (uint32_t i = 0; i < tracker->count; i++) {
        struct rk_raft_flight *flights = tracker->peers[i].inflights.flights;
        bool is_kept = false;
        for (uint32_t k = 0; k < next->count; k++)
            is_kept = is_kept || next->peers[k].inflights.flights == flights;
        if (!is_kept) rk_free(flights);
    }
    *tracker = *next;
}

bool rk_raft_tracker_is_singleton(const struct rk_raft_tracker *tracker, uint64_t self)
{
    const struct rk_raft_conf_state *conf = &tracker->conf;
    return conf->voters.count == 1 && conf->voters_outgoing.count == 0 &&
           conf->voters.ids[0] == self;
}

static bool acked_match(const void *context, uint64_t id, uint64_t *out)
{
    const struct rk_raft_peer *peer = find_const(context, id);
    if (peer == NULL) return false;
    *out = peer->match;
    return true;
}

/* The planted bug: as many nodes as make a majority of the voters, whoever they are. */
static uint64_t committed_by_anyone(const struct rk_raft_tracker *tracker)
{
    struct rk_raft_members all = {0};
    for (uint32_t i = 0; i < tracker->count; i++)
        all.ids[all.count++] = tracker->peers[i].id;
    while (all.count > tracker->conf.voters.count) {
        uint32_t least = 0;
        for (uint32_t i = 1; i < all.count; i++)
            if (find_const(tracker, all.ids[i])->match <
                find_const(tracker, all.ids[least])->match)
                least = i;
        all.ids[least] = all.ids[--all.count];
    }
    return rk_raft_majority_index(&all, acked_match, tracker);
}

uint64_t rk_raft_tracker_committed(const struct rk_raft_tracker *tracker)
{
    if (RK_MUTANT(learner_counts)) return committed_by_anyone(tracker);
    return rk_raft_joint_index(&tracker->conf, acked_match, tracker);
}

static bool acked_read(const void *context, uint64_t id, uint64_t *out)
{
    const struct rk_raft_peer *peer = find_const(context, id);
    if (peer == NULL) return false;
    *out = peer->read_ack;
    return true;
}

uint64_t rk_raft_tracker_read_confirmed(const struct rk_raft_tracker *tracker)
{
    return rk_raft_joint_index(&tracker->conf, acked_read, tracker);
}

static enum rk_raft_vote voted_active(const void *context, uint64_t id)
{
    const struct rk_raft_peer *peer = find_const(context, id);
    if (peer == NULL || peer->is_learner) return RK_RAFT_VOTE_NONE;
    return peer->is_active ? RK_RAFT_VOTE_YES : RK_RAFT_VOTE_NO;
}

bool rk_raft_tracker_is_quorum_active(const struct rk_raft_tracker *tracker)
{
    return rk_raft_joint_vote(&tracker->conf, voted_active, tracker) == RK_RAFT_VOTE_WON;
}

void rk_raft_tracker_reset_votes(struct rk_raft_tracker *tracker)
{
    for (uint32_t i = 0; i < tracker->count; i++)
        tracker->peers[i].vote = RK_RAFT_VOTE_NONE;
}

static enum rk_raft_vote voted_ballot(const void *context, uint64_t id)
{
    const struct rk_raft_peer *peer = find_const(context, id);
    return peer != NULL ? peer->vote : RK_RAFT_VOTE_NONE;
}

enum rk_raft_vote_result rk_raft_tracker_poll(struct rk_raft_tracker *tracker, uint64_t id,
                                              bool is_granted)
{
    struct rk_raft_peer *peer = rk_raft_tracker_find(tracker, id);
    if (peer != NULL && peer->vote == RK_RAFT_VOTE_NONE)
        peer->vote = is_granted ? RK_RAFT_VOTE_YES : RK_RAFT_VOTE_NO;
    return rk_raft_joint_vote(&tracker->conf, voted_ballot, tracker);
}

bool rk_raft_tracker_is_full(const struct rk_raft_tracker *tracker,
                             const struct rk_raft_peer *peer)
{
    return peer->inflights.count == tracker->max_inflight ||
           (tracker->max_inflight_bytes != 0 &&
            peer->inflights.bytes >= tracker->max_inflight_bytes);
}

static void reset_flights(struct rk_raft_peer *peer)
{
    peer->inflights.start = 0;
    peer->inflights.count = 0;
    peer->inflights.bytes = 0;
}

void rk_raft_peer_reset(struct rk_raft_peer *peer, uint64_t next)
{
    reset_flights(peer);
    peer->match = 0;
    peer->next = next;
    peer->sent_commit = 0;
    peer->pending_snapshot = 0;
    peer->read_ack = 0;
    peer->state = RK_RAFT_PROBE;
    peer->vote = RK_RAFT_VOTE_NONE;
    peer->is_active = false;
    peer->is_flow_paused = false;
}

static void enter_state(struct rk_raft_peer *peer, enum rk_raft_progress_state state)
{
    peer->is_flow_paused = false;
    peer->pending_snapshot = 0;
    peer->state = state;
    reset_flights(peer);
}

void rk_raft_peer_become_probe(struct rk_raft_peer *peer)
{
    /* After a snapshot that arrived, the probe starts behind it. */
    uint64_t next = peer->match + 1;
    if (peer->state == RK_RAFT_SNAPSHOT) next = max_u64(next, peer->pending_snapshot + 1);
    enter_state(peer, RK_RAFT_PROBE);
    peer->next = next;
    peer->sent_commit = min_u64(peer->sent_commit, next - 1);
}

void rk_raft_peer_become_replicate(struct rk_raft_peer *peer)
{
    enter_state(peer, RK_RAFT_REPLICATE);
    peer->next = peer->match + 1;
}

void rk_raft_peer_become_snapshot(struct rk_raft_peer *peer, uint64_t index)
{
    enter_state(peer, RK_RAFT_SNAPSHOT);
    peer->pending_snapshot = index;
    peer->next = index + 1;
    peer->sent_commit = index;
}

bool rk_raft_peer_is_paused(const struct rk_raft_peer *peer)
{
    return peer->state == RK_RAFT_SNAPSHOT || peer->is_flow_paused;
}

enum rk_status rk_raft_peer_reserve(const struct rk_raft_tracker *tracker,
                                    struct rk_raft_peer *peer)
{
    struct rk_raft_inflights *in = &peer->inflights;
    if (in->count < in->capacity || rk_raft_tracker_is_full(tracker, peer)) return RK_OK;
    uint64_t capacity =
        min_u64(max_u64(4, (uint64_t)in->capacity * 2), tracker->max_inflight);
    struct rk_raft_flight *flights =
        rk_realloc_array(NULL, (size_t)capacity, sizeof(*flights));
    if (flights == NULL) return RK_ENOMEM;
    for (uint32_t i = 0; i < in->count; i++)
        flights[i] = in->flights[(in->start + i) % in->capacity];
    rk_free(in->flights);
    in->flights = flights;
    in->capacity = (uint32_t)capacity;
    in->start = 0;
    return RK_OK;
}

static void add_flight(struct rk_raft_peer *peer, uint64_t index, uint64_t bytes)
{
    struct rk_raft_inflights *in = &peer->inflights;
    RK_ASSERT(in->count < in->capacity);
    uint32_t at = (uint32_t)(((uint64_t)in->start + in->count) % in->capacity);
    in->flights[at] = (struct rk_raft_flight){index, bytes};
    in->count++;
    in->bytes += bytes;
}

void rk_raft_peer_sent(const struct rk_raft_tracker *tracker, struct rk_raft_peer *peer,
                       size_t entry_count, uint64_t bytes)
{
    RK_ASSERT(peer->state != RK_RAFT_SNAPSHOT);
    if (peer->state == RK_RAFT_PROBE) {
        if (entry_count > 0) peer->is_flow_paused = true;
        return;
    }
    if (entry_count > 0) {
        peer->next += entry_count;
        add_flight(peer, peer->next - 1, bytes);
    }
    /* A full window lets one append pass a heartbeat, as a probe. */
    peer->is_flow_paused = rk_raft_tracker_is_full(tracker, peer);
}

bool rk_raft_peer_can_bump(const struct rk_raft_peer *peer, uint64_t commit)
{
    return commit > peer->sent_commit && peer->sent_commit < peer->next - 1;
}

bool rk_raft_peer_update(struct rk_raft_peer *peer, uint64_t index)
{
    if (index <= peer->match) return false;
    peer->match = index;
    peer->next = max_u64(peer->next, index + 1);
    peer->is_flow_paused = false;
    return true;
}

bool rk_raft_peer_decrease(struct rk_raft_peer *peer, uint64_t rejected, uint64_t hint)
{
    if (peer->state == RK_RAFT_REPLICATE) {
        if (rejected <= peer->match) return false;
        peer->next = peer->match + 1;
        peer->sent_commit = min_u64(peer->sent_commit, peer->next - 1);
        return true;
    }
    if (peer->next - 1 != rejected) return false;
    peer->next = max_u64(min_u64(rejected, hint + 1), peer->match + 1);
    peer->sent_commit = min_u64(peer->sent_commit, peer->next - 1);
    peer->is_flow_paused = false;
    return true;
}

void rk_raft_peer_free_flights(struct rk_raft_peer *peer, uint64_t index)
{
    struct rk_raft_inflights *in = &peer->inflights;
    while (in->count > 0 && in->flights[in->start].index <= index) {
        in->bytes -= in->flights[in->start].bytes;
        in->start = (in->start + 1) % in->capacity;
        in->count--;
    }
}

void rk_raft_peer_describe(const struct rk_raft_tracker *tracker,
                           const struct rk_raft_peer *peer, struct rk_raft_progress *out)
{
    *out = (struct rk_raft_progress){
        .id = peer->id,
        .match = peer->match,
        .next = peer->next,
        .pending_snapshot = peer->pending_snapshot,
        .state = peer->state,
        .is_learner = peer->is_learner,
        .is_active = peer->is_active,
        .is_paused = rk_raft_peer_is_paused(peer),
        .is_full = rk_raft_tracker_is_full(tracker, peer),
        .inflight_count = peer->inflights.count,
    };
}
