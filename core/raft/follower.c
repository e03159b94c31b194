/* What a follower does with what its leader sends. */
#include "raft/confchange.h"
#include "raft/internal.h"

static void answer(struct rk_raft *raft, uint64_t to, uint64_t index)
{
    rk_raft_send(raft, (struct rk_raft_message){
                           .type = RK_RAFT_MSG_APP_RESP, .to = to, .index = index});
}

/* The index of the first entry that is not in the log as it stands, 0 if all are. */
static uint64_t first_new(const struct rk_raft *raft, const struct rk_raft_message *message)
{
    for (size_t i = 0; i < message->entry_count; i++)
        if (!rk_raft_log_matches(&raft->log, message->entries[i].index,
                                 message->entries[i].term) &&
            !(RK_MUTANT(conflict_kept) &&
              message->entries[i].index <= rk_raft_log_last(&raft->log)))
            return message->entries[i].index;
    return 0;
}

static enum rk_status append_from(struct rk_raft *raft,
                                  const struct rk_raft_message *message, uint64_t first)
{
    size_t skip = (size_t)(first - message->entries[0].index);
    const struct rk_raft_entry *entries = message->entries + skip;
    size_t count = message->entry_count - skip;
    size_t size = 0;
    for (size_t i = 0; i < count; i++)
        size += entries[i].data.size;
    /* Rule 6: a conflict below commit means that two leaders decided differently. */
    RK_ASSERT(first > raft->log.committed || RK_MUTANT(truncate_committed));
    if (first <= rk_raft_log_last(&raft->log)) rk_raft_pin_messages(raft, first - 1);
    enum rk_status status = rk_raft_log_reserve(&raft->log, first - 1, count, size);
    if (status != RK_OK) return status;
    rk_raft_log_append(&raft->log, first - 1, 0, entries, count);
    return RK_OK;
}

static void reject(struct rk_raft *raft, const struct rk_raft_message *message)
{
    /* The highest index up to which the logs may agree: terms above the leader's at that
     * place cannot. It saves a round for each of them. */
    uint64_t hint = rk_raft_log_last(&raft->log);
    if (message->index < hint) hint = message->index;
    uint64_t term;
    hint = rk_raft_log_conflict_by_term(&raft->log, hint, message->log_term, &term);
    rk_raft_send(raft, (struct rk_raft_message){.type = RK_RAFT_MSG_APP_RESP,
                                                .to = message->from,
                                                .index = message->index,
                                                .reject = true,
                                                .reject_hint = hint,
                                                .log_term = term});
}

enum rk_status rk_raft_handle_append(struct rk_raft *raft,
                                     const struct rk_raft_message *message)
{
    if (message->index < raft->log.committed && !RK_MUTANT(truncate_committed)) {
        answer(raft, message->from, raft->log.committed);
        return RK_OK;
    }
    if (!rk_raft_log_matches(&raft->log, message->index, message->log_term) &&
        !(RK_MUTANT(append_unmatched) && message->index <= rk_raft_log_last(&raft->log))) {
        reject(raft, message);
        return RK_OK;
    }
    uint64_t first = first_new(raft, message);
    if (RK_MUTANT(truncate_committed) && message->entry_count > 0)
        first = message->entries[0].index;
    if (first != 0) {
        enum rk_status status = append_from(raft, message, first);
        if (status != RK_OK) return status;
    }
    /* Rule 5: what lies behind the last entry of this append may still be another log. */
    uint64_t verified = message->index + message->entry_count;
    uint64_t before = raft->log.committed;
    if (RK_MUTANT(follower_commit_unverified)) verified = rk_raft_log_last(&raft->log);
    bool is_inside = rk_raft_log_commit_to(
        &raft->log, message->commit < verified ? message->commit : verified);
    RK_ASSERT(is_inside && (raft->log.committed == before ||
                            raft->log.committed <= message->index + message->entry_count ||
                            RK_MUTANT(follower_commit_unverified)));
    answer(raft, message->from, message->index + message->entry_count);
    return RK_OK;
}

enum rk_status rk_raft_handle_heartbeat(struct rk_raft *raft,
                                        const struct rk_raft_message *message)
{
    /* The leader sends no more than this node once acknowledged as durable. */
    if (!rk_raft_log_commit_to(&raft->log, message->commit)) return RK_ECORRUPT;
    rk_raft_send(raft, (struct rk_raft_message){.type = RK_RAFT_MSG_HEARTBEAT_RESP,
                                                .to = message->from,
                                                .context = message->context});
    return RK_OK;
}

/* Takes the snapshot over as the new start of the log; *is_taken is false if it is of no
 * use here. */
static enum rk_status restore(struct rk_raft *raft, const struct rk_raft_snapshot *snapshot,
                              bool *is_taken)
{
    *is_taken = false;
    if (snapshot->index <= raft->log.committed) return RK_OK; /* rule 16 */
    RK_ASSERT(raft->role == RK_RAFT_FOLLOWER);
    if (!rk_raft_conf_has_member(&snapshot->conf, raft->id)) return RK_OK;
    if (rk_raft_log_matches(&raft->log, snapshot->index, snapshot->term)) {
        bool is_inside = rk_raft_log_commit_to(&raft->log, snapshot->index);
        RK_ASSERT(is_inside);
        return RK_OK;
    }

    struct rk_raft_tracker empty;
    rk_raft_tracker_init(&empty, raft->tracker.max_inflight,
                         raft->tracker.max_inflight_bytes);
    struct rk_raft_changer changer;
    rk_raft_changer_init(&changer, &empty, snapshot->index);
    enum rk_status status = rk_raft_change_restore(&changer, &snapshot->conf);
    if (status != RK_OK) return RK_EPROTO;
    rk_raft_pin_messages(raft, 0);
    rk_raft_log_restore(&raft->log, snapshot);
    rk_raft_switch_tracker(raft, &changer.tracker);
    *is_taken = true;
    return RK_OK;
}

enum rk_status rk_raft_handle_snapshot(struct rk_raft *raft,
                                       const struct rk_raft_message *message)
{
    if (message->snapshot == NULL) return RK_EPROTO;
    bool is_taken;
    enum rk_status status = restore(raft, message->snapshot, &is_taken);
    if (status != RK_OK) return status;
    answer(raft, message->from,
           is_taken ? rk_raft_log_last(&raft->log) : raft->log.committed);
    return RK_OK;
}
