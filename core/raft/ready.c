/* Effects out, completions in. */
#include "raft/internal.h"

static bool is_hard_changed(const struct rk_raft *raft)
{
    return raft->term != raft->last_hard.term || raft->vote != raft->last_hard.vote ||
           raft->log.committed != raft->last_hard.commit;
}

static bool is_vote_changed(const struct rk_raft *raft)
{
    return raft->term != raft->last_hard.term || raft->vote != raft->last_hard.vote;
}

static bool has_new_entries(const struct rk_raft *raft)
{
    return raft->log.offset_handed <= rk_raft_log_last(&raft->log);
}

static bool has_new_snapshot(const struct rk_raft *raft)
{
    return rk_raft_log_has_snapshot(&raft->log) && !raft->log.is_snapshot_handed;
}

static bool has_appliable(const struct rk_raft *raft)
{
    return !raft->is_apply_held && raft->batch_count < RK_RAFT_APPLIES_MAX &&
           rk_raft_log_has_appliable(&raft->log, raft->options.apply_unstable);
}

static bool is_append_open(const struct rk_raft *raft)
{
    if (raft->is_append_held) return false;
    return raft->options.host_keeps_after || raft->pending_count < RK_RAFT_APPENDS_MAX;
}

static bool wants_append(const struct rk_raft *raft)
{
    return has_new_entries(raft) || is_hard_changed(raft) || has_new_snapshot(raft) ||
           raft->after.count > 0;
}

bool rk_raft_waits_for_disk(const struct rk_raft *raft)
{
    return raft->pending_count > 0 || (raft->is_append_held && wants_append(raft));
}

void rk_raft_hold_appends(struct rk_raft *raft, bool is_held)
{
    raft->is_append_held = is_held;
}

bool rk_raft_has_ready(const struct rk_raft *raft)
{
    if (raft->leader != raft->last_leader || raft->role != raft->last_role) return true;
    if (raft->out.count > 0 || raft->released.count > 0 || has_appliable(raft)) return true;
    if (raft->is_append_due || rk_raft_reads_are_due(raft)) return true;
    return is_append_open(raft) && wants_append(raft);
}

/* What waits only for things that are durable already need not wait for another write. */
static void release_free_answers(struct rk_raft *raft)
{
    bool is_free = !raft->options.host_keeps_after && raft->pending_count == 0 &&
                   !has_new_entries(raft) && !has_new_snapshot(raft) &&
                   !is_vote_changed(raft);
    if (!is_free) return;
    RK_ASSERT(!rk_raft_log_has_undurable(&raft->log)); /* rule 7: nothing slipped through */
    size_t count = raft->after.count;
    for (size_t i = 0; i < count; i++) {
        struct rk_raft_message message = raft->after.items[raft->after.head];
        raft->after.head++;
        raft->after.count--;
        if (message.to == raft->id)
            (void)rk_raft_step_local(raft, &message);
        else
            (void)rk_raft_queue_push(&raft->out, &message);
    }
}

/* Appends that point into the window get their entries; it does not move until the next
 * ready. */
static void resolve_messages(struct rk_raft *raft)
{
    for (size_t i = 0; i < raft->out.count; i++) {
        struct rk_raft_message *message = &raft->out.items[raft->out.head + i];
        if (message->entry_count > 0 && message->entries == NULL)
            message->entries = rk_raft_log_at(&raft->log, message->index + 1);
    }
}

/* Rules 1 and 2: what an answer promises is on this disk, as far as the host said. */
static void check_promises(const struct rk_raft *raft)
{
    for (size_t i = 0; i < raft->out.count; i++) {
        const struct rk_raft_message *message = &raft->out.items[raft->out.head + i];
        bool is_vote = message->type == RK_RAFT_MSG_VOTE_RESP;
        bool is_ack = message->type == RK_RAFT_MSG_APP_RESP;
        if (!is_vote && !is_ack) continue;
        RK_ASSERT(message->term <= raft->durable_term || RK_MUTANT(vote_before_durable) ||
                  RK_MUTANT(ack_before_durable));
        if (message->reject || message->term < raft->durable_term) continue;
        RK_ASSERT(!is_vote || message->to == raft->durable_vote ||
                  RK_MUTANT(vote_before_durable));
        RK_ASSERT(!is_ack || message->index < raft->log.offset ||
                  message->term < raft->term || RK_MUTANT(ack_before_durable));
    }
}

static uint64_t lowest_pointed(const struct rk_raft *raft)
{
    uint64_t lowest = UINT64_MAX;
    for (size_t i = 0; i < raft->out.count; i++) {
        const struct rk_raft_message *message = &raft->out.items[raft->out.head + i];
        if (message->entry_count > 0 && message->entries == NULL &&
            message->index + 1 < lowest)
            lowest = message->index + 1;
    }
    return lowest;
}

static void swap_queues(struct rk_raft_queue *a, struct rk_raft_queue *b)
{
    struct rk_raft_queue swapped = *a;
    *a = *b;
    *b = swapped;
}

/* What the last ready lent comes back; what this one lends is set aside. */
static void swap_lent(struct rk_raft *raft, struct rk_raft_ready *out)
{
    swap_queues(&raft->out, &raft->lent);
    rk_raft_queue_clear(&raft->out);
    struct rk_raft_read_list reads = raft->lent_reads;
    raft->lent_reads = raft->released;
    raft->released = reads;
    raft->released.count = 0;
    struct rk_arena arena = raft->lent_arena;
    raft->lent_arena = raft->arena;
    raft->arena = arena;
    rk_arena_reset(&raft->arena);

    out->messages = raft->lent.items + raft->lent.head;
    out->message_count = raft->lent.count;
    out->reads = raft->lent_reads.items;
    out->read_count = raft->lent_reads.count;
}

static void take_append(struct rk_raft *raft, struct rk_raft_ready *out)
{
    struct rk_raft_log *log = &raft->log;
    struct rk_raft_hard_state hard = {raft->term, raft->vote, log->committed};
    uint64_t last = rk_raft_log_append_end(log, raft->options.max_append_bytes);
    /* What is durable with this append must fit together: no commit beyond its log. */
    if (last < rk_raft_log_last(log) && hard.commit > last) hard.commit = last;
    if (is_hard_changed(raft)) {
        out->has_hard_state = true;
        out->hard_state = hard;
    }
    if (has_new_entries(raft)) {
        out->entries = rk_raft_log_at(log, log->offset_handed);
        out->entry_count = (size_t)(last + 1 - log->offset_handed);
    }
    if (has_new_snapshot(raft)) {
        raft->lent_snapshot = log->snapshot;
        out->snapshot = &raft->lent_snapshot;
    }
    out->must_sync = out->entry_count > 0 || is_vote_changed(raft);
    out->has_append = true;

    /* Rule 7: the completion speaks of the log as it is now, in this term. If the term
     * changes before, what was written may be overwritten by a later append. */
    out->done_term = raft->term;
    if (rk_raft_log_has_undurable(log)) {
        out->has_done = true;
        out->done_index = last;
        out->done_log_term = rk_raft_log_at(log, last)->term;
    }
    out->has_done = out->has_done || out->snapshot != NULL;
    out->after = raft->after.items + raft->after.head;
    out->after_count = raft->after.count;
    rk_raft_log_handed_out(log, last);
    raft->last_hard = hard;
}

/* An answer for entries that come with a later append than this one (rule 2). */
static bool is_ahead(const struct rk_raft *raft, const struct rk_raft_message *message)
{
    return has_new_entries(raft) && message->type == RK_RAFT_MSG_APP_RESP &&
           !message->reject && message->index >= raft->log.offset_handed;
}

/* Hands the answers to the append just taken; those that are ahead of it stay. The leader's
 * own is one for the whole turn, so it is given in parts: a leader that is proposed to
 * faster than its disk writes would else never count itself. */
static size_t hold_answers(struct rk_raft *raft)
{
    struct rk_raft_queue *after = &raft->after;
    size_t count = after->count;
    size_t held = raft->held.count;
    after->count = 0;
    for (size_t i = 0; i < count; i++) {
        struct rk_raft_message message = after->items[after->head + i];
        if (is_ahead(raft, &message)) {
            after->items[after->head + after->count++] = message;
            if (message.to != raft->id || message.term != raft->term) continue;
            message.index = raft->log.offset_handed - 1;
        }
        bool is_kept = rk_raft_queue_push(&raft->held, &message);
        RK_ASSERT(is_kept); /* reserved by rk_raft_ready */
    }
    return raft->held.count - held;
}

static void keep_pending(struct rk_raft *raft, struct rk_raft_ready *out)
{
    RK_ASSERT(raft->pending_count < RK_RAFT_APPENDS_MAX);
    size_t at = (raft->pending_head + raft->pending_count) % RK_RAFT_APPENDS_MAX;
    if (raft->pending_count == 0) raft->stall_elapsed = 0;
    out->number = ++raft->last_number;
    raft->pending[at] = (struct rk_raft_pending){
        .number = out->number,
        .term = out->done_term,
        .vote = raft->vote,
        .index = out->done_index,
        .log_term = out->done_log_term,
        .snapshot_index = out->snapshot != NULL ? out->snapshot->index : 0,
        .after_count = hold_answers(raft),
    };
    raft->pending_count++;
    out->after = NULL;
    out->after_count = 0;
}

static void take_committed(struct rk_raft *raft, const struct rk_raft_slice *slice,
                           struct rk_raft_ready *out)
{
    if (slice->count == 0) return;
    out->committed =
        slice->entries != NULL ? slice->entries : rk_raft_log_at(&raft->log, slice->lo);
    out->committed_count = slice->count;
    uint64_t last = slice->lo + slice->count - 1;
    rk_raft_log_applying(&raft->log, last, slice->bytes, raft->options.apply_unstable);
    size_t at = (raft->batch_head + raft->batch_count) % RK_RAFT_APPLIES_MAX;
    raft->batches[at] = (struct rk_raft_batch){last, slice->bytes, slice->payload};
    raft->batch_count++;
}

/* Everything of a ready that can fail. */
static enum rk_status fetch(struct rk_raft *raft, struct rk_raft_slice *committed)
{
    struct rk_raft_log *log = &raft->log;
    *committed = (struct rk_raft_slice){0};
    enum rk_status status = rk_raft_queue_reserve(&raft->held, raft->after.count);
    if (status != RK_OK || !has_appliable(raft)) return status;
    RK_ASSERT(log->max_applying_bytes > log->applying_bytes);
    uint64_t hi = rk_raft_log_appliable(log, raft->options.apply_unstable) + 1;
    return rk_raft_log_slice(log, log->applying + 1, hi,
                             log->max_applying_bytes - log->applying_bytes, &raft->arena,
                             committed);
}

enum rk_status rk_raft_ready(struct rk_raft *raft, struct rk_raft_ready *out)
{
    memset(out, 0, sizeof(*out));
    enum rk_status status = rk_raft_prepare(raft);
    if (status != RK_OK) return status;
    release_free_answers(raft);
    rk_raft_flush_appends(raft);
    rk_raft_reads_flush(raft);
    rk_raft_log_trim(&raft->log, lowest_pointed(raft));

    struct rk_raft_slice committed;
    status = fetch(raft, &committed);
    if (status != RK_OK) return status;
    resolve_messages(raft);
    check_promises(raft);
    take_committed(raft, &committed, out);
    out->has_soft_state =
        raft->leader != raft->last_leader || raft->role != raft->last_role;
    out->leader = raft->last_leader = raft->leader;
    out->role = raft->last_role = raft->role;
    if (is_append_open(raft) && wants_append(raft)) {
        take_append(raft, out);
        if (raft->options.host_keeps_after) {
            swap_queues(&raft->after, &raft->lent_after);
            rk_raft_queue_clear(&raft->after);
        } else {
            keep_pending(raft, out);
        }
    }
    swap_lent(raft, out);
    rk_raft_log_turn(&raft->log);
    return RK_OK;
}

void rk_raft_leave_joint(struct rk_raft *raft)
{
    /* Nothing in it: it cannot be refused for its size. */
    struct rk_raft_entry leave = {.type = RK_RAFT_ENTRY_CONF_V2};
    if (!raft->tracker.conf.auto_leave || raft->role != RK_RAFT_LEADER ||
        raft->log.applied < raft->pending_conf_index)
        return;
    if (rk_raft_conf_check(raft, true) == RK_OK)
        (void)rk_raft_leader_propose(raft, &leave, 1);
}

void rk_raft_applied_to(struct rk_raft *raft, uint64_t index, uint64_t bytes)
{
    if (index < raft->log.applied) index = raft->log.applied;
    rk_raft_log_applied(&raft->log, index, bytes);
}

void rk_raft_apply_done(struct rk_raft *raft, uint64_t index)
{
    uint64_t bytes = 0;
    uint64_t payload = 0;
    while (raft->batch_count > 0 && raft->batches[raft->batch_head].last <= index) {
        bytes += raft->batches[raft->batch_head].bytes;
        payload += raft->batches[raft->batch_head].payload;
        raft->batch_head = (raft->batch_head + 1) % RK_RAFT_APPLIES_MAX;
        raft->batch_count--;
    }
    rk_raft_applied_to(raft, index, bytes);
    raft->uncommitted_bytes -=
        payload < raft->uncommitted_bytes ? payload : raft->uncommitted_bytes;
}

void rk_raft_applied(struct rk_raft *raft, uint64_t index)
{
    RK_ASSERT(index <= raft->log.applying);
    rk_raft_apply_done(raft, index);
    /* Without memory it is tried again with the next heartbeat. */
    if (rk_raft_prepare(raft) == RK_OK) rk_raft_leave_joint(raft);
}

void rk_raft_hold_apply(struct rk_raft *raft, bool is_held)
{
    raft->is_apply_held = is_held;
}

void rk_raft_append_done(struct rk_raft *raft, const struct rk_raft_pending *done)
{
    /* Rule 7. In another term the log may have been cut and written again since, even with
     * the same entries: later writes are still on their way over this one. */
    if (done->term == raft->term || RK_MUTANT(stale_completion)) {
        if (done->index != 0)
            rk_raft_log_durable_to(&raft->log, done->index, done->log_term);
    }
    /* A snapshot is committed state: it stays right in any term. */
    if (done->snapshot_index != 0) {
        rk_raft_log_snapshot_done(&raft->log, done->snapshot_index);
        rk_raft_applied_to(raft, done->snapshot_index, 0);
    }
}

enum rk_status rk_raft_persisted(struct rk_raft *raft, uint64_t number)
{
    RK_ASSERT(number <= raft->last_number);
    enum rk_status status = rk_raft_prepare(raft);
    if (status != RK_OK) return status;
    while (raft->pending_count > 0 && raft->pending[raft->pending_head].number <= number) {
        struct rk_raft_pending done = raft->pending[raft->pending_head];
        raft->stall_elapsed = 0;
        raft->pending_head = (raft->pending_head + 1) % RK_RAFT_APPENDS_MAX;
        raft->pending_count--;
        raft->durable_term = done.term;
        raft->durable_vote = done.vote;
        rk_raft_append_done(raft, &done);
        for (size_t i = 0; i < done.after_count; i++) {
            struct rk_raft_message message = raft->held.items[raft->held.head];
            raft->held.head++;
            raft->held.count--;
            if (message.to == raft->id)
                (void)rk_raft_step_local(raft, &message);
            else
                (void)rk_raft_queue_push(&raft->out, &message);
        }
    }
    return RK_OK;
}
