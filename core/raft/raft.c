#include "raft/raft.h"

#include "raft/confchange.h"
#include "raft/internal.h"

#include "base/alloc.h"

void rk_raft_options_init(struct rk_raft_options *options)
{
    memset(options, 0, sizeof(*options));
    options->struct_size = sizeof(*options);
    options->election_tick = 100;
    options->election_jitter = 50;
    options->heartbeat_tick = 10;
    options->prevote_retry = 25;
    options->early_jitter = 2;
    options->drift_ticks = 15;
    options->restart_ticks = 100;
    options->disk_stall_ticks = 300;
    options->max_inflight_messages = 256;
    options->max_inflight_bytes = 32 * 1024 * 1024;
    options->max_message_bytes = 1024 * 1024;
    options->max_uncommitted_bytes = 64 * 1024 * 1024;
    options->max_committed_bytes_per_ready = 4 * 1024 * 1024;
    options->max_cached_bytes = 8 * 1024 * 1024;
    options->max_pending_reads = 16 * 1024;
    options->check_quorum = true;
    options->pre_vote = true;
    options->step_down_on_removal = true;
}

static bool is_valid(const struct rk_raft_options *options)
{
    if (options->struct_size != sizeof(*options)) return false;
    if (options->id == RK_RAFT_NONE || options->id >= RK_RAFT_APPLY_THREAD) return false;
    if (options->heartbeat_tick == 0 || options->election_jitter == 0) return false;
    if (options->election_tick <= options->heartbeat_tick) return false;
    if (options->max_inflight_messages == 0 || options->max_pending_reads == 0)
        return false;
    if (options->max_inflight_bytes != 0 &&
        options->max_inflight_bytes < options->max_message_bytes)
        return false;
    bool has_lease = options->read_mode == RK_RAFT_READ_LEASE;
    /* Such a host would send answers that wait for entries of a later ready. */
    if (options->max_append_bytes != 0 && options->host_keeps_after) return false;
    if (has_lease && (!options->check_quorum || options->early_vote)) return false; /* 14 */
    if (has_lease && options->drift_ticks >= options->election_tick) return false;
    return !options->early_vote || options->pre_vote;
}

static enum rk_status restore_state(struct rk_raft *raft)
{
    const struct rk_raft_options *options = &raft->options;
    struct rk_raft_log *log = &raft->log;
    struct rk_raft_changer changer;
    rk_raft_changer_init(&changer, &raft->tracker, rk_raft_log_last(log));
    enum rk_status status = rk_raft_change_restore(&changer, &options->conf);
    if (status != RK_OK) return RK_ECORRUPT;
    raft->tracker = changer.tracker;
    const struct rk_raft_peer *self = rk_raft_tracker_find(&raft->tracker, raft->id);
    raft->is_learner = self != NULL && self->is_learner;

    const struct rk_raft_hard_state *hard = &options->hard_state;
    if (hard->term != 0 || hard->vote != 0 || hard->commit != 0) {
        if (hard->commit < log->committed || hard->commit > rk_raft_log_last(log))
            return RK_ECORRUPT;
        if (rk_raft_log_last_term(log) > hard->term) return RK_ECORRUPT;
        log->committed = hard->commit;
    }
    raft->term = hard->term;
    raft->vote = hard->vote;
    if (options->applied != 0) {
        if (options->applied < log->applied || options->applied > log->committed)
            return RK_ECORRUPT;
        rk_raft_log_applied(log, options->applied, 0);
    }
    return RK_OK;
}

static void arm_early(struct rk_raft *raft)
{
    raft->has_evidence = true;
    raft->is_early_armed = true;
    raft->early_tries = RK_RAFT_EARLY_TRIES;
    raft->early_wait =
        (uint32_t)rk_random_below(&raft->random, (uint64_t)raft->options.early_jitter + 1);
}

enum rk_status rk_raft_open(struct rk_raft **out, const struct rk_raft_options *options,
                            const struct rk_raft_store *store)
{
    if (!is_valid(options)) return RK_EINVAL;
    struct rk_raft *raft = rk_calloc(1, sizeof(*raft));
    if (raft == NULL) return RK_ENOMEM;
    raft->options = *options;
    raft->id = options->id;
    raft->now = 1;
    rk_random_init(&raft->random, options->seed);
    rk_arena_init(&raft->arena);
    rk_arena_init(&raft->lent_arena);
    rk_arena_init(&raft->scratch);
    rk_raft_tracker_init(&raft->tracker, options->max_inflight_messages,
                         options->max_inflight_bytes);
    uint64_t applying = options->max_committed_bytes_per_ready;
    if (applying == 0) applying = options->max_message_bytes;
    rk_raft_log_init(&raft->log, store, applying, options->max_cached_bytes);
    enum rk_status status = restore_state(raft);
    if (status == RK_OK) status = rk_raft_prepare(raft);
    if (status != RK_OK) {
        rk_raft_free(raft);
        return status;
    }
    rk_raft_become_follower(raft, raft->term, RK_RAFT_NONE);
    raft->last_hard =
        (struct rk_raft_hard_state){raft->term, raft->vote, raft->log.committed};
    raft->durable_term = raft->term;
    raft->durable_vote = raft->vote;
    /* A first start without a known leader is evidence enough. */
    if (options->early_vote) arm_early(raft);
    *out = raft;
    return RK_OK;
}

void rk_raft_free(struct rk_raft *raft)
{
    if (raft == NULL) return;
    rk_raft_log_fini(&raft->log);
    rk_raft_tracker_fini(&raft->tracker);
    rk_arena_fini(&raft->arena);
    rk_arena_fini(&raft->lent_arena);
    rk_arena_fini(&raft->scratch);
    rk_free(raft->reads.items);
    rk_free(raft->out.items);
    rk_free(raft->after.items);
    rk_free(raft->held.items);
    rk_free(raft->lent.items);
    rk_free(raft->lent_after.items);
    rk_free(raft->released.items);
    rk_free(raft->lent_reads.items);
    rk_free(raft);
}

bool rk_raft_is_local_type(uint8_t type)
{
    switch (type) {
    case RK_RAFT_MSG_HUP:
    case RK_RAFT_MSG_BEAT:
    case RK_RAFT_MSG_UNREACHABLE:
    case RK_RAFT_MSG_SNAP_STATUS:
    case RK_RAFT_MSG_CHECK_QUORUM:
    case RK_RAFT_MSG_STORAGE_APPEND:
    case RK_RAFT_MSG_STORAGE_APPEND_RESP:
    case RK_RAFT_MSG_STORAGE_APPLY:
    case RK_RAFT_MSG_STORAGE_APPLY_RESP:
    case RK_RAFT_MSG_FORGET_LEADER: return true;
    default: return type >= RK_RAFT_MSG_TYPES;
    }
}

bool rk_raft_is_response_type(uint8_t type)
{
    return type == RK_RAFT_MSG_APP_RESP || type == RK_RAFT_MSG_VOTE_RESP ||
           type == RK_RAFT_MSG_HEARTBEAT_RESP || type == RK_RAFT_MSG_READ_INDEX_RESP ||
           type == RK_RAFT_MSG_PRE_VOTE_RESP;
}

/* The election timeout passed, or an early vote is due. */
static void tick_election(struct rk_raft *raft)
{
    raft->election_elapsed++;
    if (raft->is_early_armed) {
        if (raft->early_wait == 0)
            rk_raft_hup(raft, true,
                        raft->has_evidence ? RK_RAFT_CAMPAIGN_EARLY
                                           : RK_RAFT_CAMPAIGN_NORMAL);
        else
            raft->early_wait--;
    }
    if (!rk_raft_is_promotable(raft)) return;
    if (raft->election_elapsed >= raft->election_timeout) {
        raft->election_elapsed = 0;
        raft->early_tries = RK_RAFT_EARLY_TRIES;
        rk_raft_hup(raft, raft->options.pre_vote, RK_RAFT_CAMPAIGN_NORMAL);
        return;
    }
    uint32_t retry = raft->options.prevote_retry;
    if (retry != 0 && raft->role != RK_RAFT_FOLLOWER && raft->election_elapsed % retry == 0)
        rk_raft_repeat_requests(raft);
}

static void tick_leader(struct rk_raft *raft)
{
    raft->heartbeat_elapsed++;
    raft->election_elapsed++;
    /* Rule 20: heartbeats would keep a leader in office that can commit nothing. */
    if (rk_raft_is_stalled(raft) && !RK_MUTANT(leads_with_stuck_disk)) {
        rk_raft_become_follower(raft, raft->term, RK_RAFT_NONE);
        return;
    }
    if (raft->election_elapsed >= raft->options.election_tick) {
        raft->election_elapsed = 0;
        if (raft->options.check_quorum) rk_raft_check_quorum(raft);
        raft->transferee = RK_RAFT_NONE; /* rule 12 */
    }
    if (raft->role != RK_RAFT_LEADER) return;
    if (raft->heartbeat_elapsed >= raft->options.heartbeat_tick) {
        raft->heartbeat_elapsed = 0;
        RK_ASSERT(!rk_raft_is_stalled(raft) || RK_MUTANT(leads_with_stuck_disk));
        rk_raft_broadcast_heartbeat(raft);
        /* It may have been refused when its time came, and an idle group applies nothing
         * that would be another occasion. */
        if (!raft->options.is_eager) rk_raft_leave_joint(raft);
    }
}

enum rk_status rk_raft_tick(struct rk_raft *raft)
{
    raft->now++;
    if (rk_raft_waits_for_disk(raft))
        raft->stall_elapsed++;
    else
        raft->stall_elapsed = 0;
    enum rk_status status = rk_raft_prepare(raft);
    if (status != RK_OK) {
        raft->election_elapsed++;
        return status;
    }
    if (raft->role == RK_RAFT_LEADER)
        tick_leader(raft);
    else
        tick_election(raft);
    return RK_OK;
}

void rk_raft_skip(struct rk_raft *raft, uint64_t ticks)
{
    if (!RK_MUTANT(lease_while_stopped)) raft->now += ticks;
}

/* Rules on terms, before the message is looked at. False: it is dealt with. */
static bool pass_term(struct rk_raft *raft, const struct rk_raft_message *message)
{
    uint8_t type = message->type;
    bool is_from_leader = type == RK_RAFT_MSG_APP || type == RK_RAFT_MSG_HEARTBEAT ||
                          type == RK_RAFT_MSG_SNAP;
    if (message->term == 0 || message->term == raft->term) return true;
    if (message->term > raft->term) {
        bool is_request = type == RK_RAFT_MSG_VOTE || type == RK_RAFT_MSG_PRE_VOTE;
        if (is_request && rk_raft_is_in_lease(raft, message)) return false; /* rule 11 */
        /* Rule 10: a pre-vote and its grant speak of a term that has not begun. */
        bool is_future = type == RK_RAFT_MSG_PRE_VOTE ||
                         (type == RK_RAFT_MSG_PRE_VOTE_RESP && !message->reject);
        if (!is_future || (RK_MUTANT(prevote_changes_term) && type == RK_RAFT_MSG_PRE_VOTE))
            rk_raft_become_follower(raft, message->term,
                                    is_from_leader ? message->from : RK_RAFT_NONE);
        return true;
    }
    if (RK_MUTANT(old_appends_taken) && type == RK_RAFT_MSG_APP) return true;
    if ((raft->options.check_quorum || raft->options.pre_vote) &&
        (type == RK_RAFT_MSG_HEARTBEAT || type == RK_RAFT_MSG_APP)) {
        /* A leader of a former term that this node left behind: it learns the new one from
         * the answer, else this node could neither follow it nor win. */
        rk_raft_send(raft, (struct rk_raft_message){.type = RK_RAFT_MSG_APP_RESP,
                                                    .to = message->from});
    } else if (type == RK_RAFT_MSG_PRE_VOTE && !raft->options.must_not_vote) {
        rk_raft_send(raft, (struct rk_raft_message){.type = RK_RAFT_MSG_PRE_VOTE_RESP,
                                                    .to = message->from,
                                                    .term = raft->term,
                                                    .reject = true});
    } else if (type == RK_RAFT_MSG_STORAGE_APPEND_RESP) {
        return true; /* rk_raft_append_done looks at the term */
    }
    return false;
}

static enum rk_status step_from_leader(struct rk_raft *raft,
                                       const struct rk_raft_message *message)
{
    if (raft->role == RK_RAFT_LEADER) return RK_OK; /* two in one term: not of this log */
    if (raft->role != RK_RAFT_FOLLOWER)
        rk_raft_become_follower(raft, raft->term, message->from);
    raft->election_elapsed = 0;
    raft->leader = message->from;
    raft->has_evidence = false;
    raft->is_early_armed = false;
    if (message->type == RK_RAFT_MSG_APP) return rk_raft_handle_append(raft, message);
    if (message->type == RK_RAFT_MSG_HEARTBEAT)
        return rk_raft_handle_heartbeat(raft, message);
    return rk_raft_handle_snapshot(raft, message);
}

static void forward(struct rk_raft *raft, const struct rk_raft_message *message)
{
    struct rk_raft_message forwarded = *message;
    forwarded.to = raft->leader;
    forwarded.term = 0;
    if (message->entry_count > 0) {
        struct rk_raft_entry *entries =
            rk_arena_calloc(&raft->arena, message->entry_count, sizeof(*entries));
        if (entries == NULL) return;
        for (size_t i = 0; i < message->entry_count; i++) {
            entries[i] = message->entries[i];
            entries[i].data = rk_arena_copy(&raft->arena, message->entries[i].data);
            if (entries[i].data.size != message->entries[i].data.size) return;
        }
        forwarded.entries = entries;
    }
    rk_raft_send(raft, forwarded);
}

static enum rk_status step_proposal(struct rk_raft *raft,
                                    const struct rk_raft_message *message)
{
    if (message->entry_count == 0) return RK_EPROTO;
    if (raft->role == RK_RAFT_LEADER) {
        enum rk_status status =
            rk_raft_leader_propose(raft, message->entries, message->entry_count);
        return status == RK_EBUSY ? RK_EDROPPED : status;
    }
    if (raft->role != RK_RAFT_FOLLOWER || raft->leader == RK_RAFT_NONE ||
        !raft->options.forward_proposals)
        return RK_EDROPPED;
    forward(raft, message);
    return RK_OK;
}

static enum rk_status step_read(struct rk_raft *raft, const struct rk_raft_message *message)
{
    if (raft->role == RK_RAFT_LEADER) {
        uint64_t from = message->from == RK_RAFT_NONE ? raft->id : message->from;
        enum rk_status status = rk_raft_reads_add(raft, message->context, from);
        if (status == RK_OK && raft->options.is_eager) rk_raft_reads_flush(raft);
        return status;
    }
    if (raft->role == RK_RAFT_FOLLOWER && raft->leader != RK_RAFT_NONE)
        forward(raft, message);
    return RK_OK;
}

static enum rk_status step_storage(struct rk_raft *raft,
                                   const struct rk_raft_message *message)
{
    if (message->type == RK_RAFT_MSG_STORAGE_APPEND_RESP) {
        struct rk_raft_pending done = {
            .term = message->term, .index = message->index, .log_term = message->log_term};
        if (message->snapshot != NULL) done.snapshot_index = message->snapshot->index;
        rk_raft_append_done(raft, &done);
    } else if (message->entry_count > 0) {
        rk_raft_apply_done(raft, message->entries[message->entry_count - 1].index);
        rk_raft_leave_joint(raft);
    }
    return RK_OK;
}

static void step_follower(struct rk_raft *raft, const struct rk_raft_message *message)
{
    switch (message->type) {
    case RK_RAFT_MSG_TRANSFER_LEADER:
        if (raft->leader != RK_RAFT_NONE) forward(raft, message);
        break;
    case RK_RAFT_MSG_FORGET_LEADER:
        if (raft->options.read_mode != RK_RAFT_READ_LEASE) raft->leader = RK_RAFT_NONE;
        break;
    case RK_RAFT_MSG_TIMEOUT_NOW:
        /* No pre-vote: the leader itself asks, nobody comes back from a partition. */
        rk_raft_hup(raft, false, RK_RAFT_CAMPAIGN_TRANSFER);
        break;
    case RK_RAFT_MSG_READ_INDEX_RESP:
        rk_raft_release_read(
            raft, (struct rk_raft_read_state){message->context, message->index, false});
        break;
    default: break;
    }
}

static void step_by_role(struct rk_raft *raft, const struct rk_raft_message *message)
{
    if (raft->role == RK_RAFT_LEADER)
        rk_raft_leader_step(raft, message);
    else if (message->type == RK_RAFT_MSG_VOTE_RESP ||
             message->type == RK_RAFT_MSG_PRE_VOTE_RESP) {
        if (raft->role != RK_RAFT_FOLLOWER) rk_raft_handle_vote_resp(raft, message);
    } else if (raft->role == RK_RAFT_FOLLOWER)
        step_follower(raft, message);
}

static void step_pre_vote(struct rk_raft *raft, const struct rk_raft_message *message)
{
    uint64_t term = raft->term;
    uint64_t vote = raft->vote;
    if (pass_term(raft, message)) rk_raft_handle_vote(raft, message);
    RK_ASSERT((raft->term == term && raft->vote == vote) || /* rule 10 */
              RK_MUTANT(prevote_changes_term));
}

enum rk_status rk_raft_step_local(struct rk_raft *raft,
                                  const struct rk_raft_message *message)
{
    if (message->type == RK_RAFT_MSG_PRE_VOTE) {
        step_pre_vote(raft, message);
        return RK_OK;
    }
    if (!pass_term(raft, message)) return RK_OK;
    switch (message->type) {
    case RK_RAFT_MSG_HUP:
        rk_raft_hup(raft, raft->options.pre_vote, RK_RAFT_CAMPAIGN_NORMAL);
        return RK_OK;
    case RK_RAFT_MSG_VOTE: rk_raft_handle_vote(raft, message); return RK_OK;
    case RK_RAFT_MSG_APP:
    case RK_RAFT_MSG_HEARTBEAT:
    case RK_RAFT_MSG_SNAP: return step_from_leader(raft, message);
    case RK_RAFT_MSG_PROP: return step_proposal(raft, message);
    case RK_RAFT_MSG_READ_INDEX: return step_read(raft, message);
    case RK_RAFT_MSG_STORAGE_APPEND_RESP:
    case RK_RAFT_MSG_STORAGE_APPLY_RESP: return step_storage(raft, message);
    default: step_by_role(raft, message); return RK_OK;
    }
}

/* What a correct peer never sends. */
static enum rk_status check_message(const struct rk_raft_message *message)
{
    uint8_t type = message->type;
    if (message->from == RK_RAFT_NONE) return RK_EPROTO;
    if ((message->term == 0) !=
        (type == RK_RAFT_MSG_PROP || type == RK_RAFT_MSG_READ_INDEX))
        return RK_EPROTO;
    if (type != RK_RAFT_MSG_APP) return RK_OK;
    uint64_t index = message->index;
    uint64_t term = message->log_term;
    for (size_t i = 0; i < message->entry_count; i++) {
        const struct rk_raft_entry *entry = &message->entries[i];
        if (entry->index != ++index || entry->term < term || entry->term == 0)
            return RK_EPROTO;
        if (entry->type > RK_RAFT_ENTRY_CONF_V2) return RK_EPROTO;
        term = entry->term;
    }
    return term > message->term ? RK_EPROTO : RK_OK;
}

enum rk_status rk_raft_step(struct rk_raft *raft, const struct rk_raft_message *message)
{
    if (rk_raft_is_local_type(message->type)) return RK_EINVAL;
    if (rk_raft_is_response_type(message->type) &&
        rk_raft_tracker_find(&raft->tracker, message->from) == NULL)
        return RK_ENOENT;
    enum rk_status status = check_message(message);
    if (status == RK_OK) status = rk_raft_prepare(raft);
    if (status != RK_OK) return status;
    return rk_raft_step_local(raft, message);
}

void rk_raft_set_election_timeout(struct rk_raft *raft, uint32_t ticks)
{
    raft->election_timeout = ticks;
}

void rk_raft_leader_lost_evidence(struct rk_raft *raft)
{
    if (!raft->options.early_vote || raft->role == RK_RAFT_LEADER) return;
    arm_early(raft);
}
