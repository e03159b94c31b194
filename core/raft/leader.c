/* What a leader does: append, replicate, commit, hand over. */
#include "raft/internal.h"

bool rk_raft_has_committed_in_term(const struct rk_raft *raft)
{
    return raft->role == RK_RAFT_LEADER &&
           rk_raft_log_term_or_zero(&raft->log, raft->log.committed) == raft->term;
}

bool rk_raft_advance_commit(struct rk_raft *raft)
{
    uint64_t index = rk_raft_tracker_committed(&raft->tracker);
    RK_ASSERT(raft->role == RK_RAFT_LEADER);
    if (index <= raft->log.committed) return false;
    /* Rule 3, Raft thesis figure 3.7: entries of former terms are committed by an entry of
     * this one that stands on them, never by counting. */
    if (!rk_raft_log_matches(&raft->log, index, raft->term) &&
        !RK_MUTANT(commit_older_terms))
        return false;
    bool is_inside = rk_raft_log_commit_to(&raft->log, index);
    RK_ASSERT(is_inside &&
              (rk_raft_has_committed_in_term(raft) || RK_MUTANT(commit_older_terms)));
    return true;
}

enum rk_status rk_raft_leader_append(struct rk_raft *raft,
                                     const struct rk_raft_entry *entries, size_t count)
{
    uint64_t last = rk_raft_log_last(&raft->log);
    uint64_t payload = 0;
    for (size_t i = 0; i < count; i++)
        payload += entries[i].data.size;
    /* Rule 21. Empty entries always fit: the no-op and leaving a joint membership. */
    uint64_t limit = raft->options.max_uncommitted_bytes;
    if (limit != 0 && raft->uncommitted_bytes > 0 && payload > 0 &&
        (payload > limit || raft->uncommitted_bytes > limit - payload) &&
        !RK_MUTANT(uncommitted_unbounded))
        return RK_EBUSY;

    enum rk_status status = rk_raft_log_reserve(&raft->log, last, count, (size_t)payload);
    if (status != RK_OK) return status;
    rk_raft_log_append(&raft->log, last, raft->term, entries, count);
    raft->uncommitted_bytes += payload;

    /* Rule 2: the own acknowledgement comes back when the entries are durable. */
    rk_raft_send(raft, (struct rk_raft_message){.type = RK_RAFT_MSG_APP_RESP,
                                                .to = raft->id,
                                                .index = last + count});
    if (RK_MUTANT(leader_counts_undurable)) {
        (void)rk_raft_peer_update(rk_raft_tracker_find(&raft->tracker, raft->id),
                                  last + count);
        (void)rk_raft_advance_commit(raft);
    }
    return RK_OK;
}

enum rk_status rk_raft_conf_check(const struct rk_raft *raft, bool is_leave)
{
    bool is_joint = raft->tracker.conf.voters_outgoing.count > 0;
    if (raft->options.is_conf_unchecked) return RK_OK;
    if (raft->pending_conf_index > raft->log.applied && !RK_MUTANT(two_changes_at_once))
        return RK_EBUSY;
    if (!rk_raft_has_committed_in_term(raft) && !RK_MUTANT(change_before_noop))
        return RK_EBUSY; /* rule 15 */
    return is_joint == is_leave ? RK_OK : RK_EPAUSED;
}

/* A copy of entries in which membership changes that may not be are empty entries: the
 * others of the proposal are not their fault. NULL without memory. */
static struct rk_raft_entry *
check_changes(struct rk_raft *raft, const struct rk_raft_entry *entries, size_t count)
{
    struct rk_raft_entry *checked =
        rk_arena_calloc(&raft->scratch, count, sizeof(*checked));
    if (checked == NULL) return NULL;
    for (size_t i = 0; i < count; i++) {
        checked[i] = entries[i];
        if (entries[i].type == RK_RAFT_ENTRY_NORMAL) continue;
        struct rk_raft_conf_change change;
        enum rk_status status = rk_raft_conf_change_decode(&change, entries[i].data);
        if (status == RK_OK) status = rk_raft_conf_check(raft, change.count == 0);
        if (status == RK_OK)
            raft->pending_conf_index = rk_raft_log_last(&raft->log) + i + 1;
        else
            checked[i] = (struct rk_raft_entry){.type = RK_RAFT_ENTRY_NORMAL};
    }
    return checked;
}

/* Rule 15, of what stands at the end of the log by now: one change, after all others were
 * applied (the last one was at index `pending`) and something was committed in the term. */
static bool is_change_alone(const struct rk_raft *raft, const struct rk_raft_entry *entries,
                            size_t count, uint64_t pending)
{
    size_t changes = 0;
    for (size_t i = 0; i < count; i++)
        changes += entries[i].type != RK_RAFT_ENTRY_NORMAL;
    if (changes == 0 || raft->options.is_conf_unchecked) return true;
    return ((changes == 1 && pending <= raft->log.applied) ||
            RK_MUTANT(two_changes_at_once)) &&
           (rk_raft_has_committed_in_term(raft) || RK_MUTANT(change_before_noop));
}

enum rk_status rk_raft_leader_propose(struct rk_raft *raft,
                                      const struct rk_raft_entry *entries, size_t count)
{
    RK_ASSERT(raft->role == RK_RAFT_LEADER);
    if (rk_raft_tracker_find(&raft->tracker, raft->id) == NULL) return RK_EDROPPED;
    if (raft->transferee != RK_RAFT_NONE) return RK_EDROPPED; /* rule 12 */

    bool has_change = false;
    uint64_t pending = raft->pending_conf_index;
    for (size_t i = 0; i < count; i++)
        has_change = has_change || entries[i].type != RK_RAFT_ENTRY_NORMAL;
    if (has_change) {
        entries = check_changes(raft, entries, count);
        if (entries == NULL) return RK_ENOMEM;
    }
    enum rk_status status = rk_raft_leader_append(raft, entries, count);
    if (status != RK_OK) return status;
    RK_ASSERT(is_change_alone(raft, entries, count, pending));
    rk_raft_broadcast_append(raft);
    return RK_OK;
}

static bool send_snapshot(struct rk_raft *raft, struct rk_raft_peer *peer)
{
    if (!peer->is_active) return false;
    struct rk_raft_snapshot *snapshot = rk_arena_calloc(&raft->arena, 1, sizeof(*snapshot));
    if (snapshot == NULL) return false;
    enum rk_status status = RK_OK;
    if (rk_raft_log_has_snapshot(&raft->log))
        *snapshot = raft->log.snapshot;
    else
        status = raft->log.store.snapshot(raft->log.store.context, snapshot);
    /* One that does not know the receiver would be refused there. */
    if (status != RK_OK || snapshot->index == 0 ||
        !rk_raft_conf_has_member(&snapshot->conf, peer->id)) {
        raft->wanted_snapshot = raft->log.applied;
        return false; /* tried again with the next heartbeat */
    }

    raft->wanted_snapshot = 0;
    rk_raft_peer_become_snapshot(peer, snapshot->index);
    rk_raft_send(raft, (struct rk_raft_message){
                           .type = RK_RAFT_MSG_SNAP, .to = peer->id, .snapshot = snapshot});
    return true;
}

bool rk_raft_send_append(struct rk_raft *raft, uint64_t to, bool is_empty_sent)
{
    struct rk_raft_peer *peer = rk_raft_tracker_find(&raft->tracker, to);
    struct rk_raft_log *log = &raft->log;
    if (peer == NULL || rk_raft_peer_is_paused(peer)) return false;
    /* Without room the progress must not count on a message that was never sent. */
    if (rk_raft_queue_reserve(&raft->out, 1) != RK_OK) return false;
    if (rk_raft_peer_reserve(&raft->tracker, peer) != RK_OK) return false;

    uint64_t prev = peer->next - 1;
    uint64_t prev_term = 0;
    enum rk_status status = rk_raft_log_term(log, prev, &prev_term);
    if (status != RK_OK)
        return status == RK_EGONE || status == RK_ENOENT ? send_snapshot(raft, peer)
                                                         : false;

    /* A full window still lets empty appends pass: were all the others lost, the answer to
     * this one tells. */
    struct rk_raft_slice slice = {.lo = peer->next};
    bool is_full = rk_raft_tracker_is_full(&raft->tracker, peer);
    if ((peer->state != RK_RAFT_REPLICATE || !is_full) &&
        peer->next <= rk_raft_log_last(log))
        status = rk_raft_log_slice(log, peer->next, rk_raft_log_last(log) + 1,
                                   raft->options.max_message_bytes, &raft->arena, &slice);
    if (status != RK_OK) slice.count = 0;
    if (slice.count == 0 && !is_empty_sent) return false;
    if (status == RK_EGONE) return send_snapshot(raft, peer);
    if (status != RK_OK) return false;

    rk_raft_send(raft, (struct rk_raft_message){.type = RK_RAFT_MSG_APP,
                                                .to = to,
                                                .index = prev,
                                                .log_term = prev_term,
                                                .commit = log->committed,
                                                .entries = slice.entries,
                                                .entry_count = slice.count});
    rk_raft_peer_sent(&raft->tracker, peer, slice.count, slice.payload);
    peer->sent_commit = log->committed;
    return true;
}

static void broadcast_now(struct rk_raft *raft)
{
    for (uint32_t i = 0; i < raft->tracker.count; i++)
        if (raft->tracker.peers[i].id != raft->id)
            (void)rk_raft_send_append(raft, raft->tracker.peers[i].id, true);
}

void rk_raft_broadcast_append(struct rk_raft *raft)
{
    if (raft->options.is_eager)
        broadcast_now(raft);
    else
        raft->is_append_due = true;
}

void rk_raft_flush_appends(struct rk_raft *raft)
{
    if (!raft->is_append_due || raft->role != RK_RAFT_LEADER) return;
    raft->is_append_due = false;
    for (uint32_t i = 0; i < raft->tracker.count; i++) {
        struct rk_raft_peer *peer = &raft->tracker.peers[i];
        if (peer->id == raft->id) continue;
        bool is_empty_sent = rk_raft_peer_can_bump(peer, raft->log.committed);
        while (rk_raft_send_append(raft, peer->id, is_empty_sent))
            is_empty_sent = false;
    }
}

void rk_raft_broadcast_heartbeat(struct rk_raft *raft)
{
    uint64_t context = rk_raft_reads_context(raft);
    for (uint32_t i = 0; i < raft->tracker.count; i++) {
        struct rk_raft_peer *peer = &raft->tracker.peers[i];
        if (peer->id == raft->id) continue;
        /* Rule 8: an index that is not known to match there must not be committed there. */
        uint64_t commit =
            peer->match < raft->log.committed ? peer->match : raft->log.committed;
        if (RK_MUTANT(heartbeat_commit_unchecked)) commit = raft->log.committed;
        RK_ASSERT(commit <= peer->match || RK_MUTANT(heartbeat_commit_unchecked));
        rk_raft_send(raft, (struct rk_raft_message){.type = RK_RAFT_MSG_HEARTBEAT,
                                                    .to = peer->id,
                                                    .commit = commit,
                                                    .context = context});
        peer->sent_commit = commit;
    }
}

void rk_raft_check_quorum(struct rk_raft *raft)
{
    RK_ASSERT(raft->role == RK_RAFT_LEADER);
    /* Rule 11. */
    if (!rk_raft_tracker_is_quorum_active(&raft->tracker) && !RK_MUTANT(no_check_quorum))
        rk_raft_become_follower(raft, raft->term, RK_RAFT_NONE);
    for (uint32_t i = 0; i < raft->tracker.count; i++)
        if (raft->tracker.peers[i].id != raft->id) raft->tracker.peers[i].is_active = false;
}

static void handle_rejection(struct rk_raft *raft, struct rk_raft_peer *peer,
                             const struct rk_raft_message *message)
{
    /* The hint is the highest entry of the follower whose term is at most the one probed.
     * Entries of ours with a higher term than the hint's cannot match: skip them all. */
    uint64_t probe = message->reject_hint;
    uint64_t ignored;
    if (message->log_term > 0)
        probe =
            rk_raft_log_conflict_by_term(&raft->log, probe, message->log_term, &ignored);
    if (!rk_raft_peer_decrease(peer, message->index, probe)) return;
    if (peer->state == RK_RAFT_REPLICATE) rk_raft_peer_become_probe(peer);
    (void)rk_raft_send_append(raft, peer->id, true);
}

static void send_timeout_now(struct rk_raft *raft, const struct rk_raft_peer *to)
{
    RK_ASSERT(!to->is_learner && (to->match == rk_raft_log_last(&raft->log) ||
                                  RK_MUTANT(transfer_too_early))); /* rule 12 */
    rk_raft_send(raft,
                 (struct rk_raft_message){.type = RK_RAFT_MSG_TIMEOUT_NOW, .to = to->id});
}

static void move_peer(struct rk_raft *raft, struct rk_raft_peer *peer, uint64_t index)
{
    switch (peer->state) {
    case RK_RAFT_PROBE: rk_raft_peer_become_replicate(peer); break;
    case RK_RAFT_SNAPSHOT:
        /* Any snapshot will do that lets the log continue, whoever sent it. */
        if (peer->match + 1 < rk_raft_log_first(&raft->log)) break;
        rk_raft_peer_become_probe(peer);
        rk_raft_peer_become_replicate(peer);
        break;
    case RK_RAFT_REPLICATE: rk_raft_peer_free_flights(peer, index); break;
    }
}

static void handle_append_resp(struct rk_raft *raft, struct rk_raft_peer *peer,
                               const struct rk_raft_message *message)
{
    uint64_t id = peer->id;
    bool is_self = id == raft->id;
    peer->is_active = true;
    if (message->reject) {
        handle_rejection(raft, peer, message);
        return;
    }
    /* Nobody can hold more than the leader: such an answer is not of this log. */
    if (message->index > rk_raft_log_last(&raft->log)) return;
    RK_ASSERT(!is_self || message->index < raft->log.offset || /* rule 2 */
              raft->options.host_keeps_after || RK_MUTANT(ack_before_durable));
    if (!rk_raft_peer_update(peer, message->index) &&
        !(peer->match == message->index && peer->state == RK_RAFT_PROBE))
        return;
    move_peer(raft, peer, message->index);

    if (rk_raft_advance_commit(raft)) {
        if (raft->options.is_eager) rk_raft_reads_flush(raft);
        rk_raft_broadcast_append(raft);
    } else if (!is_self && rk_raft_peer_can_bump(peer, raft->log.committed)) {
        if (raft->options.is_eager)
            (void)rk_raft_send_append(raft, id, true);
        else
            raft->is_append_due = true;
    }
    /* The answer may have opened the window for more than one append. */
    while (!is_self && rk_raft_send_append(raft, id, false))
        ;
    if (id == raft->transferee && peer->match == rk_raft_log_last(&raft->log))
        send_timeout_now(raft, peer);
}

static void handle_heartbeat_resp(struct rk_raft *raft, struct rk_raft_peer *peer,
                                  const struct rk_raft_message *message)
{
    peer->is_active = true;
    peer->is_flow_paused = false;
    if (peer->match < rk_raft_log_last(&raft->log) || peer->state == RK_RAFT_PROBE)
        (void)rk_raft_send_append(raft, peer->id, true);
    rk_raft_reads_acked(raft, peer, message->context);
}

static void handle_snapshot_status(struct rk_raft_peer *peer, bool is_failed)
{
    if (peer->state != RK_RAFT_SNAPSHOT) return;
    /* After a failure the probe starts at what is known, not behind the snapshot. */
    if (is_failed) peer->pending_snapshot = 0;
    rk_raft_peer_become_probe(peer);
    /* Sent: its answer comes by itself. Failed: the next heartbeat tries again. */
    peer->is_flow_paused = true;
}

static void handle_transfer(struct rk_raft *raft, struct rk_raft_peer *peer)
{
    if (peer->is_learner || peer->id == raft->transferee) return;
    raft->transferee = RK_RAFT_NONE;
    if (peer->id == raft->id) return;
    /* Rule 12: an election timeout for it, counted from now. Rule 14: no lease any more in
     * this term, since the forced election does not respect it. */
    raft->election_elapsed = 0;
    raft->transferee = peer->id;
    raft->reads.is_lease_void = !RK_MUTANT(lease_survives_transfer);
    if (peer->match == rk_raft_log_last(&raft->log) || RK_MUTANT(transfer_too_early))
        send_timeout_now(raft, peer);
    else
        (void)rk_raft_send_append(raft, peer->id, true);
}

void rk_raft_leader_step(struct rk_raft *raft, const struct rk_raft_message *message)
{
    struct rk_raft_peer *peer = rk_raft_tracker_find(&raft->tracker, message->from);
    RK_ASSERT(raft->role == RK_RAFT_LEADER);
    if (peer == NULL) return;
    switch (message->type) {
    case RK_RAFT_MSG_APP_RESP: handle_append_resp(raft, peer, message); break;
    case RK_RAFT_MSG_HEARTBEAT_RESP: handle_heartbeat_resp(raft, peer, message); break;
    case RK_RAFT_MSG_SNAP_STATUS: handle_snapshot_status(peer, message->reject); break;
    case RK_RAFT_MSG_UNREACHABLE:
        /* What was sent in advance is probably lost. */
        if (peer->state == RK_RAFT_REPLICATE) rk_raft_peer_become_probe(peer);
        break;
    case RK_RAFT_MSG_TRANSFER_LEADER: handle_transfer(raft, peer); break;
    default: break;
    }
}
