#include "raft/describe.h"

#include "raft/internal.h"

#include <inttypes.h>

static const char *const type_names[RK_RAFT_MSG_TYPES] = {
    "MsgHup",
    "MsgBeat",
    "MsgProp",
    "MsgApp",
    "MsgAppResp",
    "MsgVote",
    "MsgVoteResp",
    "MsgSnap",
    "MsgHeartbeat",
    "MsgHeartbeatResp",
    "MsgUnreachable",
    "MsgSnapStatus",
    "MsgCheckQuorum",
    "MsgTransferLeader",
    "MsgTimeoutNow",
    "MsgReadIndex",
    "MsgReadIndexResp",
    "MsgPreVote",
    "MsgPreVoteResp",
    "MsgStorageAppend",
    "MsgStorageAppendResp",
    "MsgStorageApply",
    "MsgStorageApplyResp",
    "MsgForgetLeader",
};

const char *rk_raft_role_name(enum rk_raft_role role)
{
    static const char *const names[] = {"StateFollower", "StateCandidate", "StateLeader",
                                        "StatePreCandidate"};
    return names[role];
}

const char *rk_raft_type_name(uint8_t type)
{
    return type < RK_RAFT_MSG_TYPES ? type_names[type] : "unknown";
}

bool rk_raft_type_of_name(const char *name, uint8_t *out)
{
    for (uint8_t i = 0; i < RK_RAFT_MSG_TYPES; i++) {
        if (strcmp(name, type_names[i]) != 0) continue;
        *out = i;
        return true;
    }
    return false;
}

static void describe_data(struct rk_buf *out, struct rk_slice data)
{
    rk_buf_u8(out, '"');
    for (size_t i = 0; i < data.size; i++) {
        uint8_t byte = data.data[i];
        if (byte == '"' || byte == '\\')
            rk_buf_printf(out, "\\%c", byte);
        else if (byte == '\n')
            rk_buf_append_string(out, "\\n");
        else if (byte == '\t')
            rk_buf_append_string(out, "\\t");
        else if (byte == '\r')
            rk_buf_append_string(out, "\\r");
        else if (byte < 0x20 || byte >= 0x7f)
            rk_buf_printf(out, "\\x%02x", byte);
        else
            rk_buf_u8(out, byte);
    }
    rk_buf_u8(out, '"');
}

static void describe_change(struct rk_buf *out, struct rk_slice data)
{
    static const char letters[] = {'v', 'r', 'u', 'l'};
    struct rk_raft_conf_change change;
    if (rk_raft_conf_change_decode(&change, data) != RK_OK) {
        rk_buf_append_string(out, " malformed");
        return;
    }
    for (uint32_t i = 0; i < change.count; i++)
        rk_buf_printf(out, " %c%" PRIu64, letters[change.changes[i].op],
                      change.changes[i].id);
}

void rk_raft_describe_entry(struct rk_buf *out, const struct rk_raft_entry *entry)
{
    static const char *const names[] = {"EntryNormal", "EntryConfChange",
                                        "EntryConfChangeV2"};
    const char *name =
        entry->type <= RK_RAFT_ENTRY_CONF_V2 ? names[entry->type] : "unknown";
    rk_buf_printf(out, "%" PRIu64 "/%" PRIu64 " %s", entry->term, entry->index, name);
    if (entry->type == RK_RAFT_ENTRY_NORMAL) {
        rk_buf_u8(out, ' ');
        describe_data(out, entry->data);
    } else {
        describe_change(out, entry->data);
    }
}

void rk_raft_describe_entries(struct rk_buf *out, const struct rk_raft_entry *entries,
                              size_t count)
{
    for (size_t i = 0; i < count; i++) {
        rk_raft_describe_entry(out, &entries[i]);
        rk_buf_u8(out, '\n');
    }
}

void rk_raft_describe_hard_state(struct rk_buf *out, const struct rk_raft_hard_state *hard)
{
    rk_buf_printf(out, "Term:%" PRIu64, hard->term);
    if (hard->vote != 0) rk_buf_printf(out, " Vote:%" PRIu64, hard->vote);
    rk_buf_printf(out, " Commit:%" PRIu64, hard->commit);
}

static void describe_list(struct rk_buf *out, const char *name,
                          const struct rk_raft_members *members)
{
    rk_buf_printf(out, "%s:[", name);
    for (uint32_t i = 0; i < members->count; i++)
        rk_buf_printf(out, "%s%" PRIu64, i > 0 ? " " : "", members->ids[i]);
    rk_buf_append_string(out, "] ");
}

void rk_raft_describe_snapshot(struct rk_buf *out, const struct rk_raft_snapshot *snapshot)
{
    const struct rk_raft_conf_state *conf = &snapshot->conf;
    rk_buf_printf(out, "Index:%" PRIu64 " Term:%" PRIu64 " ConfState:", snapshot->index,
                  snapshot->term);
    describe_list(out, "Voters", &conf->voters);
    describe_list(out, "VotersOutgoing", &conf->voters_outgoing);
    describe_list(out, "Learners", &conf->learners);
    describe_list(out, "LearnersNext", &conf->learners_next);
    rk_buf_printf(out, "AutoLeave:%s", conf->auto_leave ? "true" : "false");
}

void rk_raft_describe_members(struct rk_buf *out, const struct rk_raft_members *members)
{
    rk_buf_u8(out, '(');
    for (uint32_t i = 0; i < members->count; i++)
        rk_buf_printf(out, "%s%" PRIx64, i > 0 ? " " : "", members->ids[i]);
    rk_buf_u8(out, ')');
}

void rk_raft_describe_conf(struct rk_buf *out, const struct rk_raft_conf_state *conf)
{
    rk_buf_append_string(out, "voters=");
    rk_raft_describe_members(out, &conf->voters);
    if (conf->voters_outgoing.count > 0) {
        rk_buf_append_string(out, "&&");
        rk_raft_describe_members(out, &conf->voters_outgoing);
    }
    if (conf->learners.count > 0) {
        rk_buf_append_string(out, " learners=");
        rk_raft_describe_members(out, &conf->learners);
    }
    if (conf->learners_next.count > 0) {
        rk_buf_append_string(out, " learners_next=");
        rk_raft_describe_members(out, &conf->learners_next);
    }
    if (conf->auto_leave) rk_buf_append_string(out, " autoleave");
}

void rk_raft_describe_progress(struct rk_buf *out, const struct rk_raft_progress *progress)
{
    static const char *const names[] = {"StateProbe", "StateReplicate", "StateSnapshot"};
    rk_buf_printf(out, "%s match=%" PRIu64 " next=%" PRIu64, names[progress->state],
                  progress->match, progress->next);
    if (progress->is_learner) rk_buf_append_string(out, " learner");
    if (progress->is_paused) rk_buf_append_string(out, " paused");
    if (progress->pending_snapshot > 0)
        rk_buf_printf(out, " pendingSnap=%" PRIu64, progress->pending_snapshot);
    if (!progress->is_active) rk_buf_append_string(out, " inactive");
    if (progress->inflight_count > 0) {
        rk_buf_printf(out, " inflight=%" PRIu32, progress->inflight_count);
        if (progress->is_full) rk_buf_append_string(out, "[full]");
    }
}

static void describe_target(struct rk_buf *out, uint64_t id)
{
    if (id == RK_RAFT_NONE)
        rk_buf_append_string(out, "None");
    else if (id == RK_RAFT_APPEND_THREAD)
        rk_buf_append_string(out, "AppendThread");
    else if (id == RK_RAFT_APPLY_THREAD)
        rk_buf_append_string(out, "ApplyThread");
    else
        rk_buf_printf(out, "%" PRIx64, id);
}

void rk_raft_describe_message(struct rk_buf *out, const char *indent,
                              const struct rk_raft_message *message)
{
    rk_buf_append_string(out, indent);
    describe_target(out, message->from);
    rk_buf_append_string(out, "->");
    describe_target(out, message->to);
    rk_buf_printf(out, " %s Term:%" PRIu64 " Log:%" PRIu64 "/%" PRIu64,
                  rk_raft_type_name(message->type), message->term, message->log_term,
                  message->index);
    if (message->reject)
        rk_buf_printf(out, " Rejected (Hint: %" PRIu64 ")", message->reject_hint);
    if (message->commit != 0) rk_buf_printf(out, " Commit:%" PRIu64, message->commit);
    /* Only traces have such messages; they carry the vote as context. */
    if (message->type == RK_RAFT_MSG_STORAGE_APPEND && message->context != 0)
        rk_buf_printf(out, " Vote:%" PRIu64, message->context);
    if (message->entry_count == 1) {
        rk_buf_append_string(out, " Entries:[");
        rk_raft_describe_entry(out, &message->entries[0]);
        rk_buf_u8(out, ']');
    } else if (message->entry_count > 1) {
        rk_buf_append_string(out, " Entries:[");
        for (size_t i = 0; i < message->entry_count; i++) {
            rk_buf_printf(out, "\n%s  ", indent);
            rk_raft_describe_entry(out, &message->entries[i]);
        }
        rk_buf_printf(out, "\n%s]", indent);
    }
    if (message->snapshot != NULL && message->snapshot->index != 0) {
        rk_buf_printf(out, "\n%s  Snapshot: ", indent);
        rk_raft_describe_snapshot(out, message->snapshot);
    }
}
