/* What the host asks for, besides messages and time. */
#include "raft/internal.h"

static enum rk_status step_own(struct rk_raft *raft, struct rk_raft_message message)
{
    enum rk_status status = rk_raft_prepare(raft);
    if (status != RK_OK) return status;
    return rk_raft_step_local(raft, &message);
}

static enum rk_status forward_proposal(struct rk_raft *raft,
                                       const struct rk_raft_entry *entries, size_t count)
{
    if (!raft->options.forward_proposals) return RK_ENOTLEADER;
    return step_own(raft, (struct rk_raft_message){.type = RK_RAFT_MSG_PROP,
                                                   .from = raft->id,
                                                   .entries = entries,
                                                   .entry_count = count});
}

enum rk_status rk_raft_propose(struct rk_raft *raft, const struct rk_slice *data,
                               size_t count, uint64_t *first_index)
{
    RK_ASSERT(count > 0);
    enum rk_status status = rk_raft_prepare(raft);
    if (status != RK_OK) return status;
    struct rk_raft_entry one;
    struct rk_raft_entry *entries = &one;
    if (count > 1) entries = rk_arena_calloc(&raft->scratch, count, sizeof(*entries));
    if (entries == NULL) return RK_ENOMEM;
    for (size_t i = 0; i < count; i++)
        entries[i] = (struct rk_raft_entry){.type = RK_RAFT_ENTRY_NORMAL, .data = data[i]};
    if (raft->role != RK_RAFT_LEADER) {
        if (first_index != NULL) *first_index = 0;
        return forward_proposal(raft, entries, count);
    }
    uint64_t first = rk_raft_log_last(&raft->log) + 1;
    status = rk_raft_leader_propose(raft, entries, count);
    if (status == RK_OK && first_index != NULL) *first_index = first;
    return status;
}

enum rk_status rk_raft_propose_conf(struct rk_raft *raft,
                                    const struct rk_raft_conf_change *change,
                                    uint64_t *index)
{
    if (raft->role != RK_RAFT_LEADER) return RK_ENOTLEADER;
    enum rk_status status = rk_raft_prepare(raft);
    if (status != RK_OK) return status;
    status = rk_raft_conf_check(raft, change->count == 0 &&
                                          change->transition == RK_RAFT_TRANSITION_AUTO);
    if (status != RK_OK) return status;

    struct rk_buf data;
    rk_buf_init(&data);
    status = rk_raft_conf_change_encode(&data, change);
    uint64_t next = rk_raft_log_last(&raft->log) + 1;
    if (status == RK_OK) {
        struct rk_raft_entry entry = {.type = RK_RAFT_ENTRY_CONF_V2,
                                      .data = rk_buf_slice(&data)};
        status = rk_raft_leader_propose(raft, &entry, 1);
        if (RK_MUTANT(change_before_commit) && status == RK_OK)
            (void)rk_raft_put_change(raft, change);
    }
    rk_buf_fini(&data);
    if (status == RK_OK && index != NULL) *index = next;
    return status;
}

enum rk_status rk_raft_read_index(struct rk_raft *raft, uint64_t request)
{
    if (raft->leader == RK_RAFT_NONE) return RK_ENOTLEADER;
    return step_own(raft, (struct rk_raft_message){.type = RK_RAFT_MSG_READ_INDEX,
                                                   .from = raft->id,
                                                   .context = request});
}

enum rk_status rk_raft_transfer(struct rk_raft *raft, uint64_t to)
{
    if (raft->role != RK_RAFT_LEADER) return RK_ENOTLEADER;
    if (to == raft->id) return RK_EEXIST;
    const struct rk_raft_peer *peer = rk_raft_tracker_find(&raft->tracker, to);
    if (peer == NULL || peer->is_learner) return RK_ENOENT;
    return step_own(
        raft, (struct rk_raft_message){.type = RK_RAFT_MSG_TRANSFER_LEADER, .from = to});
}

enum rk_status rk_raft_forget_leader(struct rk_raft *raft)
{
    return step_own(raft, (struct rk_raft_message){.type = RK_RAFT_MSG_FORGET_LEADER});
}

enum rk_status rk_raft_campaign(struct rk_raft *raft)
{
    return step_own(raft, (struct rk_raft_message){.type = RK_RAFT_MSG_HUP});
}

void rk_raft_forbid_votes(struct rk_raft *raft)
{
    raft->options.must_not_vote = true;
    if (raft->role == RK_RAFT_CANDIDATE || raft->role == RK_RAFT_PRE_CANDIDATE)
        rk_raft_become_follower(raft, raft->term, RK_RAFT_NONE);
}

/* Reports only move the progress, which takes no memory: nothing would repeat them. */
void rk_raft_report_unreachable(struct rk_raft *raft, uint64_t id)
{
    (void)rk_raft_step_local(
        raft, &(struct rk_raft_message){.type = RK_RAFT_MSG_UNREACHABLE, .from = id});
}

void rk_raft_report_snapshot(struct rk_raft *raft, uint64_t id, bool is_done)
{
    (void)rk_raft_step_local(
        raft, &(struct rk_raft_message){
                  .type = RK_RAFT_MSG_SNAP_STATUS, .from = id, .reject = !is_done});
}

uint64_t rk_raft_term(const struct rk_raft *raft)
{
    return raft->term;
}
uint64_t rk_raft_leader(const struct rk_raft *raft)
{
    return raft->leader;
}
bool rk_raft_is_leader(const struct rk_raft *raft)
{
    return raft->role == RK_RAFT_LEADER;
}
uint64_t rk_raft_committed(const struct rk_raft *raft)
{
    return raft->log.committed;
}

uint64_t rk_raft_last_index(const struct rk_raft *raft)
{
    return rk_raft_log_last(&raft->log);
}

uint64_t rk_raft_wanted_snapshot(const struct rk_raft *raft)
{
    return raft->role == RK_RAFT_LEADER ? raft->wanted_snapshot : 0;
}

uint64_t rk_raft_taken_snapshot(const struct rk_raft *raft)
{
    return raft->log.is_snapshot_handed ? 0 : raft->log.snapshot.index;
}

void rk_raft_status(const struct rk_raft *raft, struct rk_raft_status *out)
{
    memset(out, 0, sizeof(*out));
    out->id = raft->id;
    out->leader = raft->leader;
    out->transferee = raft->transferee;
    out->role = raft->role;
    out->hard_state =
        (struct rk_raft_hard_state){raft->term, raft->vote, raft->log.committed};
    out->applied = raft->log.applied;
    out->first_index = rk_raft_log_first(&raft->log);
    out->last_index = rk_raft_log_last(&raft->log);
    out->durable_index = raft->log.offset - 1;
    out->has_committed_in_term = rk_raft_has_committed_in_term(raft);
    out->conf = raft->tracker.conf;
    if (raft->role != RK_RAFT_LEADER) return;
    out->has_lease = out->has_committed_in_term && rk_raft_has_lease(raft);
    out->progress_count = raft->tracker.count;
    for (uint32_t i = 0; i < raft->tracker.count; i++)
        rk_raft_peer_describe(&raft->tracker, &raft->tracker.peers[i], &out->progress[i]);
}
