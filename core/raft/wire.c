#include "raft/wire.h"

#include "raft/internal.h"

enum {
    FLAG_REJECT = 1,
    FLAG_SNAPSHOT = 2,
    FLAG_NUMBERED =
        4, /* entries carry no index of their own: they follow on the message's */
    FLAGS_ALL = 7,
    ENTRY_SIZE_MIN = 3, /* type, term, size */
};

static void encode_members(struct rk_buf *out, const struct rk_raft_members *members)
{
    rk_buf_varint(out, members->count);
    for (uint32_t i = 0; i < members->count; i++)
        rk_buf_varint(out, members->ids[i]);
}

static bool decode_members(struct rk_raft_members *out, struct rk_reader *reader)
{
    uint64_t count = rk_read_varint(reader);
    if (count > RK_RAFT_MEMBERS_MAX) return false;
    out->count = (uint32_t)count;
    for (uint32_t i = 0; i < out->count; i++) {
        out->ids[i] = rk_read_varint(reader);
        if (out->ids[i] == 0 || (i > 0 && out->ids[i] <= out->ids[i - 1])) return false;
    }
    return true;
}

void rk_raft_conf_state_encode(struct rk_buf *out, const struct rk_raft_conf_state *conf)
{
    rk_buf_u8(out, RK_RAFT_WIRE_VERSION);
    encode_members(out, &conf->voters);
    encode_members(out, &conf->voters_outgoing);
    encode_members(out, &conf->learners);
    encode_members(out, &conf->learners_next);
    rk_buf_u8(out, conf->auto_leave);
}

enum rk_status rk_raft_conf_state_decode(struct rk_raft_conf_state *out,
                                         struct rk_reader *reader)
{
    memset(out, 0, sizeof(*out));
    if (rk_read_u8(reader) != RK_RAFT_WIRE_VERSION) return RK_EPROTO;
    if (!decode_members(&out->voters, reader) ||
        !decode_members(&out->voters_outgoing, reader) ||
        !decode_members(&out->learners, reader) ||
        !decode_members(&out->learners_next, reader))
        return RK_EPROTO;
    uint8_t auto_leave = rk_read_u8(reader);
    if (auto_leave > 1) return RK_EPROTO;
    out->auto_leave = auto_leave == 1;
    return rk_reader_check(reader, false);
}

void rk_raft_snapshot_encode(struct rk_buf *out, const struct rk_raft_snapshot *snapshot)
{
    rk_buf_varint(out, snapshot->index);
    rk_buf_varint(out, snapshot->term);
    rk_raft_conf_state_encode(out, &snapshot->conf);
}

enum rk_status rk_raft_snapshot_decode(struct rk_raft_snapshot *out,
                                       struct rk_reader *reader)
{
    out->index = rk_read_varint(reader);
    out->term = rk_read_varint(reader);
    if (out->index == 0 && !reader->is_failed) return RK_EPROTO;
    return rk_raft_conf_state_decode(&out->conf, reader);
}

void rk_raft_message_encode(struct rk_buf *out, const struct rk_raft_message *message)
{
    RK_ASSERT(!rk_raft_is_local_type(message->type));
    RK_ASSERT(message->entry_count == 0 || message->type == RK_RAFT_MSG_APP ||
              message->type == RK_RAFT_MSG_PROP);
    uint8_t flags = 0;
    if (message->reject) flags |= FLAG_REJECT;
    if (message->snapshot != NULL) flags |= FLAG_SNAPSHOT;
    if (message->type == RK_RAFT_MSG_APP) flags |= FLAG_NUMBERED;
    rk_buf_u8(out, RK_RAFT_WIRE_VERSION);
    rk_buf_u8(out, message->type);
    rk_buf_u8(out, flags);
    rk_buf_u8(out, message->campaign);
    rk_buf_varint(out, message->from);
    rk_buf_varint(out, message->to);
    rk_buf_varint(out, message->term);
    rk_buf_varint(out, message->log_term);
    rk_buf_varint(out, message->index);
    rk_buf_varint(out, message->commit);
    rk_buf_varint(out, message->reject_hint);
    rk_buf_varint(out, message->context);
    rk_buf_varint(out, message->entry_count);
    for (size_t i = 0; i < message->entry_count; i++) {
        const struct rk_raft_entry *entry = &message->entries[i];
        RK_ASSERT(message->type != RK_RAFT_MSG_APP ||
                  entry->index == message->index + 1 + i);
        rk_buf_u8(out, entry->type);
        rk_buf_varint(out, entry->term);
        rk_buf_blob(out, entry->data);
    }
    if (message->snapshot != NULL) rk_raft_snapshot_encode(out, message->snapshot);
}

static enum rk_status decode_entries(struct rk_raft_message *out, struct rk_arena *arena,
                                     struct rk_reader *reader, bool is_numbered)
{
    uint64_t count = rk_read_varint(reader);
    if (reader->is_failed || count > rk_reader_left(reader) / ENTRY_SIZE_MIN)
        return RK_EPROTO;
    if (count == 0) return RK_OK;
    if (out->type != RK_RAFT_MSG_APP && out->type != RK_RAFT_MSG_PROP) return RK_EPROTO;
    if (is_numbered && out->index > UINT64_MAX - count) return RK_EPROTO;
    struct rk_raft_entry *entries = rk_arena_calloc(arena, (size_t)count, sizeof(*entries));
    if (entries == NULL) return RK_ENOMEM;
    for (uint64_t i = 0; i < count; i++) {
        entries[i].type = rk_read_u8(reader);
        entries[i].term = rk_read_varint(reader);
        entries[i].data = rk_read_blob(reader);
        entries[i].index = is_numbered ? out->index + 1 + i : 0;
        if (entries[i].data.size == 0) entries[i].data = RK_SLICE_EMPTY;
        if (reader->is_failed || entries[i].type > RK_RAFT_ENTRY_CONF_V2) return RK_EPROTO;
    }
    out->entries = entries;
    out->entry_count = (size_t)count;
    return RK_OK;
}

static enum rk_status decode_snapshot(struct rk_raft_message *out, struct rk_arena *arena,
                                      struct rk_reader *reader)
{
    if (out->type != RK_RAFT_MSG_SNAP) return RK_EPROTO;
    struct rk_raft_snapshot *snapshot = rk_arena_calloc(arena, 1, sizeof(*snapshot));
    if (snapshot == NULL) return RK_ENOMEM;
    out->snapshot = snapshot;
    return rk_raft_snapshot_decode(snapshot, reader);
}

enum rk_status rk_raft_message_decode(struct rk_raft_message *out, struct rk_arena *arena,
                                      struct rk_reader *reader)
{
    memset(out, 0, sizeof(*out));
    uint8_t version = rk_read_u8(reader);
    out->type = rk_read_u8(reader);
    uint8_t flags = rk_read_u8(reader);
    out->campaign = rk_read_u8(reader);
    if (reader->is_failed || version != RK_RAFT_WIRE_VERSION ||
        rk_raft_is_local_type(out->type) || flags > FLAGS_ALL ||
        out->campaign > RK_RAFT_CAMPAIGN_EARLY)
        return RK_EPROTO;
    bool is_numbered = (flags & FLAG_NUMBERED) != 0;
    if (is_numbered != (out->type == RK_RAFT_MSG_APP)) return RK_EPROTO;
    out->reject = (flags & FLAG_REJECT) != 0;
    out->from = rk_read_varint(reader);
    out->to = rk_read_varint(reader);
    out->term = rk_read_varint(reader);
    out->log_term = rk_read_varint(reader);
    out->index = rk_read_varint(reader);
    out->commit = rk_read_varint(reader);
    out->reject_hint = rk_read_varint(reader);
    out->context = rk_read_varint(reader);
    enum rk_status status = decode_entries(out, arena, reader, is_numbered);
    if (status == RK_OK && (flags & FLAG_SNAPSHOT) != 0)
        status = decode_snapshot(out, arena, reader);
    if (status != RK_OK) return status;
    return rk_reader_check(reader, false);
}
