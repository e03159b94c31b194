#include "host/host_internal.h"

#include <inttypes.h>

/* A follower that needs entries which are gone gets the newest snapshot's file in chunks,
 * over a link of its own; what it has received survives a broken link. */

enum { GIVE_UP_MS = 20000, AGAIN_MS = 1000 };

enum ack { ACK_GOING = 0, ACK_DONE = 1, ACK_FAILED = 2 };

/* --- sending ------------------------------------------------------------------------- */

static void send_end(struct rk_group *group, struct rk_member *to, bool is_done)
{
    struct rk_snapshot_send *send = &group->sends[to->at];
    if (send->source == NULL) return;
    rk_snapshot_source_free(send->source);
    rk_buf_fini(&send->message);
    memset(send, 0, sizeof(*send));
    if (is_done) group->host->metrics.snapshots_sent++;
    rk_raft_report_snapshot(group->raft, to->number, is_done);
}

void rk_group_send_close(struct rk_group *group, struct rk_member *to)
{
    send_end(group, to, false);
    group->holds[to->at] = 0;
}

static const struct rk_raft_progress *progress_of(const struct rk_raft_status *status,
                                                  const struct rk_member *member)
{
    for (uint32_t i = 0; i < status->progress_count; i++)
        if (status->progress[i].id == member->number) return &status->progress[i];
    return NULL;
}

/* Without this a slow follower would be sent one snapshot after the other: when it has one,
 * what follows would be gone again. */
uint64_t rk_group_held_index(struct rk_group *group, uint64_t index, uint64_t size_max)
{
    struct rk_host *host = group->host;
    struct rk_raft_status status;
    rk_raft_status(group->raft, &status);
    bool is_too_much = rk_entry_log_bytes(group->log) > size_max;
    uint64_t wanted = index;
    for (uint32_t i = 0; i < host->member_count; i++) {
        const struct rk_member *to = host->members[i];
        uint64_t *hold = &group->holds[to->at];
        if (*hold == 0) continue;
        const struct rk_raft_progress *progress = progress_of(&status, to);
        bool is_sending = group->sends[to->at].source != NULL;
        if (progress == NULL || is_too_much ||
            (!is_sending && (progress->match >= wanted || !rk_member_is_up(host, to)))) {
            *hold = 0;
            continue;
        }
        if (progress->match > *hold) *hold = progress->match;
        if (*hold < index) index = *hold;
    }
    return index;
}

void rk_group_snapshot_send(struct rk_group *group, const struct rk_raft_message *message)
{
    struct rk_host *host = group->host;
    struct rk_member *to = rk_host_member_by_number(host, message->to);
    struct rk_snapshot_send *send = &group->sends[to->at];
    struct rk_storage_error why = {""};
    struct rk_snapshot_id id = {group->id, message->snapshot->index,
                                message->snapshot->term};
    send_end(group, to, false);
    rk_buf_init(&send->message);
    rk_raft_message_encode(&send->message, message);
    enum rk_status status = rk_buf_check(&send->message);
    if (status == RK_OK)
        status = rk_snapshot_source_open(&send->source, &send->size, host->fs,
                                         host->snapshot_dir, id, &why);
    if (status != RK_OK) {
        rk_buf_fini(&send->message);
        memset(send, 0, sizeof(*send));
        rk_host_log(host, RK_LOG_WARN, "group %u: no snapshot for %s: %s", group->id,
                    to->name, why.message);
        rk_raft_report_snapshot(group->raft, to->number, false);
        rk_group_suspect(group);
        return;
    }
    send->id = id;
    send->moved_ms = rk_host_now(host);
    group->holds[to->at] = id.index;
    rk_host_log(host, RK_LOG_INFO, "group %u: sends snapshot %" PRIu64 " to %s", group->id,
                id.index, to->name);
}

/* SNAP_CHUNK: varint group, u64 index, term, offset, size of the file, blob raft message,
 * then the bytes. */
static bool chunk_send(struct rk_group *group, struct rk_member *to)
{
    struct rk_host *host = group->host;
    struct rk_snapshot_send *send = &group->sends[to->at];
    uint64_t left = send->size - send->sent;
    size_t size = left < RK_HOST_CHUNK_SIZE ? (size_t)left : RK_HOST_CHUNK_SIZE;
    size_t got = 0;
    struct rk_buf *out = rk_host_section(host, to, RK_LINK_SNAPSHOT, RK_SECTION_SNAP_CHUNK);
    rk_buf_varint(out, group->id);
    rk_buf_u64(out, send->id.index);
    rk_buf_u64(out, send->id.term);
    rk_buf_u64(out, send->sent);
    rk_buf_u64(out, send->size);
    rk_buf_blob(out, rk_buf_slice(&send->message));
    uint8_t *data = size == 0 ? NULL : rk_buf_extend(out, size);
    enum rk_status status = RK_OK;
    if (size > 0)
        status = data == NULL
                     ? RK_ENOMEM
                     : rk_snapshot_source_read(send->source, &got, send->sent, data, size);
    if (status == RK_OK && got == size)
        send->sent += size;
    else
        out->is_failed = true;
    rk_host_section_end(host, to, RK_LINK_SNAPSHOT);
    if (status != RK_OK || got != size) rk_group_suspect(group);
    return status == RK_OK && got == size;
}

void rk_group_sends_run(struct rk_group *group)
{
    struct rk_host *host = group->host;
    for (uint32_t i = 0; i < host->member_count; i++) {
        struct rk_member *to = host->members[i];
        struct rk_snapshot_send *send = &group->sends[to->at];
        if (send->source == NULL) continue;
        uint64_t idle = rk_host_now(host) - send->moved_ms;
        if (idle > GIVE_UP_MS || !rk_group_is_leader(group)) {
            send_end(group, to, false);
            continue;
        }
        if (idle > AGAIN_MS && rk_host_now(host) > send->again_ms) {
            send->again_ms = rk_host_now(host) + AGAIN_MS;
            /* Probably lost with a link; where all arrived, the verdict was: an empty chunk
             * asks for it. */
            send->sent = send->acked;
            if (send->sent == send->size) (void)chunk_send(group, to);
        }
        while (send->sent < send->size &&
               send->sent - send->acked < RK_HOST_CHUNK_WINDOW * RK_HOST_CHUNK_SIZE)
            if (!chunk_send(group, to)) break;
    }
}

/* SNAP_ACK: varint group, u64 index, term, u64 next offset, u8 how it goes. */
void rk_snapshot_ack_receive(struct rk_host *host, struct rk_member *from,
                             struct rk_slice body)
{
    struct rk_reader in;
    rk_reader_init(&in, body);
    uint64_t id = rk_read_varint(&in);
    uint64_t index = rk_read_u64(&in);
    uint64_t term = rk_read_u64(&in);
    uint64_t offset = rk_read_u64(&in);
    uint8_t how = rk_read_u8(&in);
    if (in.is_failed || id > host->group_count) {
        host->metrics.frames_dropped++;
        return;
    }
    struct rk_group *group = host->groups[id];
    struct rk_snapshot_send *send = &group->sends[from->at];
    if (send->source == NULL || send->id.index != index || send->id.term != term ||
        offset > send->size)
        return;
    send->moved_ms = rk_host_now(host);
    if (how != ACK_GOING) {
        if (how == ACK_FAILED) rk_group_suspect(group);
        send_end(group, from, how == ACK_DONE);
        return;
    }
    send->acked = offset;
    if (send->sent < offset) send->sent = offset;
}

/* --- receiving ----------------------------------------------------------------------- */

static void ack(struct rk_group *group, struct rk_member *to, struct rk_snapshot_id id,
                uint64_t offset, enum ack how)
{
    struct rk_buf *out =
        rk_host_section(group->host, to, RK_LINK_SNAPSHOT, RK_SECTION_SNAP_ACK);
    rk_buf_varint(out, group->id);
    rk_buf_u64(out, id.index);
    rk_buf_u64(out, id.term);
    rk_buf_u64(out, offset);
    rk_buf_u8(out, (uint8_t)how);
    rk_host_section_end(group->host, to, RK_LINK_SNAPSHOT);
}

/* Freeing a large state takes long: it is done elsewhere, but for a second one that comes
 * before the first is gone. */
static void machine_drop(struct rk_group *group, struct rk_machine *machine)
{
    if (group->dying == NULL)
        group->dying = machine;
    else
        rk_machine_free(machine);
}

static void receive_end(struct rk_group *group)
{
    struct rk_snapshot_receive *receive = &group->receive;
    rk_snapshot_sink_free(receive->sink);
    machine_drop(group, receive->machine);
    rk_buf_fini(&receive->message);
    memset(receive, 0, sizeof(*receive));
}

static void receive_fail(struct rk_group *group, enum rk_status status, const char *why)
{
    /* The group has gone on to what this program does not know: it can not follow. */
    if (status == RK_EUNSUPPORTED) {
        rk_host_fatal(group->host, status, "from node %s: %s", group->receive.from->name,
                      why);
        return;
    }
    rk_host_log(group->host, RK_LOG_WARN, "group %u: received snapshot given up: %s: %s",
                group->id, rk_status_text(status), why);
    ack(group, group->receive.from, group->receive.id, 0, ACK_FAILED);
    receive_end(group);
}

static bool receive_begin(struct rk_group *group, struct rk_member *from,
                          struct rk_snapshot_id id)
{
    struct rk_host *host = group->host;
    struct rk_snapshot_receive *receive = &group->receive;
    struct rk_storage_error why = {""};
    receive_end(group);
    enum rk_status status =
        rk_snapshot_sink_open(&receive->sink, host->fs, host->snapshot_dir, id, &why);
    if (status != RK_OK) {
        rk_host_log(host, RK_LOG_WARN, "group %u: no file for a snapshot: %s", group->id,
                    why.message);
        ack(group, from, id, 0, ACK_FAILED);
        return false;
    }
    rk_buf_init(&receive->message);
    receive->id = id;
    receive->from = from;
    receive->state = RK_RECEIVING;
    return true;
}

struct chunk {
    uint64_t group, offset, size;
    struct rk_snapshot_id id;
    struct rk_slice message, bytes;
};

static bool chunk_decode(struct chunk *out, struct rk_slice body)
{
    struct rk_reader in;
    rk_reader_init(&in, body);
    out->group = rk_read_varint(&in);
    out->id.index = rk_read_u64(&in);
    out->id.term = rk_read_u64(&in);
    out->offset = rk_read_u64(&in);
    out->size = rk_read_u64(&in);
    out->message = rk_read_blob(&in);
    out->bytes = rk_slice_of(in.at, rk_reader_left(&in));
    out->id.group = (uint32_t)out->group;
    return !in.is_failed && out->id.index != 0 && out->offset <= out->size &&
           out->bytes.size <= out->size - out->offset;
}

void rk_snapshot_chunk_receive(struct rk_host *host, struct rk_member *from,
                               struct rk_slice body)
{
    struct chunk chunk;
    struct rk_storage_error why = {""};
    if (!chunk_decode(&chunk, body) || chunk.group > host->group_count) {
        host->metrics.frames_dropped++;
        return;
    }
    struct rk_group *group = host->groups[chunk.group];
    struct rk_snapshot_receive *receive = &group->receive;
    bool is_same = receive->state != RK_RECEIVE_NONE && receive->from == from &&
                   receive->id.index == chunk.id.index && receive->id.term == chunk.id.term;
    if (chunk.id.index <= rk_machine_index(group->machine)) {
        ack(group, from, chunk.id, chunk.size, ACK_DONE);
        return;
    }
    if (!is_same) {
        /* The file of one being finished is on another thread; raft is about to say
         * whether it installs one that it was given. */
        if (receive->state == RK_RECEIVE_FINISHING || receive->state == RK_RECEIVE_STEPPED)
            return;
        if (!receive_begin(group, from, chunk.id)) return;
    }
    receive->moved_ms = rk_host_now(host);
    if (receive->state != RK_RECEIVING) {
        ack(group, from, chunk.id, chunk.size, ACK_GOING);
        return;
    }
    enum rk_status status =
        rk_snapshot_sink_write(receive->sink, chunk.offset, chunk.bytes, &why);
    if (status != RK_OK && status != RK_ERANGE) {
        receive_fail(group, status, why.message);
        return;
    }
    uint64_t offset = rk_snapshot_sink_offset(receive->sink);
    ack(group, from, chunk.id, offset > chunk.size ? chunk.size : offset, ACK_GOING);
    if (offset < chunk.size) return;
    rk_buf_reset(&receive->message);
    rk_buf_append_slice(&receive->message, chunk.message);
    receive->state = RK_RECEIVE_COMPLETE;
}

/* Raft is told, now that the whole state is there. */
static void step(struct rk_group *group)
{
    struct rk_host *host = group->host;
    struct rk_snapshot_receive *receive = &group->receive;
    struct rk_raft_message message;
    struct rk_reader in;
    rk_reader_init(&in, rk_buf_slice(&receive->message));
    enum rk_status status = rk_raft_message_decode(&message, &host->arena, &in);
    if (status == RK_OK &&
        (message.type != RK_RAFT_MSG_SNAP || message.snapshot == NULL ||
         message.from != receive->from->number || message.to != host->number ||
         message.snapshot->index != receive->id.index))
        status = RK_EPROTO;
    if (status == RK_OK) status = rk_raft_step(group->raft, &message);
    if (status != RK_OK) {
        receive_fail(group, status, "raft does not take it");
        return;
    }
    receive->state = RK_RECEIVE_STEPPED;
}

/* The file is verified, durable and loaded, or not. */
void rk_group_received(struct rk_group *group, enum rk_status status)
{
    struct rk_host *host = group->host;
    struct rk_snapshot_receive *receive = &group->receive;
    receive->machine = host->work.machine;
    host->work.machine = NULL;
    if (status == RK_EPROTO) status = RK_EUNSUPPORTED; /* another format of the file */
    if (status != RK_OK)
        receive_fail(group, status, host->work.error.message);
    else
        step(group);
}

bool rk_group_receive_run(struct rk_group *group)
{
    struct rk_host *host = group->host;
    struct rk_snapshot_receive *receive = &group->receive;
    switch (receive->state) {
    case RK_RECEIVE_COMPLETE:
        if (host->is_working) return false;
        receive->state = RK_RECEIVE_FINISHING;
        host->work.id = receive->id;
        host->work.group = group;
        host->work.sink = receive->sink;
        receive->sink = NULL;
        rk_host_work_start(host, RK_WORK_RECEIVED);
        return true;
    case RK_RECEIVE_STEPPED:
        if (rk_raft_taken_snapshot(group->raft) == receive->id.index) return false;
        /* Raft had its say in the ready before: it did not want it. */
        if (rk_raft_has_ready(group->raft)) return true;
        ack(group, receive->from, receive->id, 0, ACK_FAILED);
        receive_end(group);
        return true;
    case RK_RECEIVING:
        if (rk_host_now(host) - receive->moved_ms > GIVE_UP_MS) receive_end(group);
        return false;
    default: return false;
    }
}

enum rk_status rk_group_install(struct rk_group *group,
                                const struct rk_raft_snapshot *snapshot)
{
    struct rk_host *host = group->host;
    struct rk_snapshot_receive *receive = &group->receive;
    if (receive->state != RK_RECEIVE_STEPPED || receive->id.index != snapshot->index)
        return RK_ECORRUPT;
    rk_host_snapshot_void(host, group);
    rk_buf_reset(&host->scratch);
    rk_raft_conf_state_encode(&host->scratch, &snapshot->conf);
    enum rk_status status = rk_buf_check(&host->scratch);
    if (status == RK_OK)
        status = rk_wal_batch_install(host->filling, group->id, snapshot->index,
                                      snapshot->term, rk_buf_slice(&host->scratch));
    if (status != RK_OK) return status;
    rk_entry_log_install(group->log, snapshot->index, snapshot->term);
    machine_drop(group, group->machine);
    group->machine = receive->machine;
    receive->machine = NULL;
    group->conf = group->mark_conf = snapshot->conf;
    group->mark_index = snapshot->index;
    group->mark_term = snapshot->term;
    group->bytes_since_mark = group->entries_since_mark = 0;
    group->clean_batch = host->filling;
    host->is_urgent = true;
    rk_group_clock_applied(group);
    if (group->id == 0) host->has_new_table = true;
    ack(group, receive->from, receive->id, 0, ACK_DONE);
    receive_end(group);
    rk_host_log(host, RK_LOG_INFO, "group %u: installed snapshot %" PRIu64, group->id,
                snapshot->index);
    return RK_OK; /* raft counts it as applied once the batch is durable */
}

void rk_group_transfers_close(struct rk_group *group)
{
    for (uint32_t i = 0; i < RK_HOST_PEERS_MAX; i++) {
        if (group->sends[i].source == NULL) continue;
        rk_snapshot_source_free(group->sends[i].source);
        rk_buf_fini(&group->sends[i].message);
    }
    receive_end(group);
}
