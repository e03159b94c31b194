#include "host/host_internal.h"

#include <inttypes.h>

/* A follower that needs entries which are gone gets the newest snapshot's file in chunks,
 * over a link of its own; what it has received survives a broken link. The files are read
 * and written by the transfer lane, a chunk or what has come at a time, so that a disk that
 * is slow or hangs holds up nothing but the transfer itself. */

enum { GIVE_UP_MS = 20000, AGAIN_MS = 1000, TRANSFERS = RK_HOST_PEERS_MAX + 1 };

enum { WINDOW_SIZE = RK_HOST_CHUNK_WINDOW * RK_HOST_CHUNK_SIZE };

enum ack { ACK_GOING = 0, ACK_DONE = 1, ACK_FAILED = 2 };

/* --- sending ------------------------------------------------------------------------- */

/* Leaves what the transfer lane has to close. */
static void send_clear(struct rk_snapshot_send *send)
{
    rk_host_file_end(&send->file);
    struct rk_host_file file = send->file;
    rk_buf_fini(&send->message);
    memset(send, 0, sizeof(*send));
    send->file = file;
}

static void send_end(struct rk_group *group, struct rk_snapshot_send *send, bool is_done)
{
    struct rk_member *to = send->to;
    if (to == NULL) return;
    send_clear(send);
    if (is_done) group->host->metrics.snapshots_sent++;
    rk_raft_report_snapshot(group->raft, to->number, is_done);
}

void rk_group_send_close(struct rk_group *group, struct rk_member *to)
{
    send_end(group, &group->sends[to->at], false);
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
        bool is_sending = group->sends[to->at].to != NULL;
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
    send_end(group, send, false);
    rk_buf_init(&send->message);
    rk_raft_message_encode(&send->message, message);
    if (rk_buf_check(&send->message) != RK_OK) {
        rk_buf_fini(&send->message);
        rk_raft_report_snapshot(group->raft, to->number, false);
        return;
    }
    send->to = to;
    send->id = (struct rk_snapshot_id){group->id, message->snapshot->index,
                                       message->snapshot->term};
    send->moved_ms = rk_host_now(host);
    group->holds[to->at] = send->id.index;
    rk_host_log(host, RK_LOG_INFO, "group %u: sends snapshot %" PRIu64 " to %s", group->id,
                send->id.index, to->name);
}

/* SNAP_CHUNK: varint group, u64 index, term, offset, size of the file, blob raft message,
 * then the bytes. */
static void chunk_put(struct rk_group *group, struct rk_snapshot_send *send,
                      struct rk_slice bytes)
{
    struct rk_host *host = group->host;
    struct rk_buf *out =
        rk_host_section(host, send->to, RK_LINK_SNAPSHOT, RK_SECTION_SNAP_CHUNK);
    rk_buf_varint(out, group->id);
    rk_buf_u64(out, send->id.index);
    rk_buf_u64(out, send->id.term);
    rk_buf_u64(out, send->sent);
    rk_buf_u64(out, send->size);
    rk_buf_blob(out, rk_buf_slice(&send->message));
    rk_buf_append_slice(out, bytes);
    rk_host_section_end(host, send->to, RK_LINK_SNAPSHOT);
    send->sent += bytes.size;
    host->metrics.snapshot_bytes_sent += bytes.size;
}

static bool is_connected(const struct rk_snapshot_send *send)
{
    return send->to->links[RK_LINK_SNAPSHOT].is_up;
}

/* The file can not be opened, or is not what it was when it was opened. */
static void read_fail(struct rk_group *group, struct rk_snapshot_send *send,
                      const struct rk_host_work *work)
{
    struct rk_host *host = group->host;
    send->read_ms = rk_host_now(host) + AGAIN_MS;
    if (work->status != RK_ENOMEM && send->id.index == group->mark_index)
        rk_group_suspect(group);
    if (send->size != 0) return; /* perhaps it can be read later */
    /* A newer one may have taken its place meanwhile. */
    if (send->id.index == group->mark_index)
        rk_host_log(host, RK_LOG_WARN, "group %u: no snapshot for %s: %s", group->id,
                    send->to->name, work->error.message);
    send_end(group, send, false);
}

void rk_group_chunk_read(struct rk_group *group, struct rk_host_work *work)
{
    struct rk_snapshot_send *send = &group->sends[work->at];
    if (work->status != RK_OK) {
        read_fail(group, send, work);
        return;
    }
    send->size = work->file_size;
    /* Something else may be wanted by now: it goes on where the receiver is. */
    if (work->offset == send->sent && is_connected(send) && work->size > 0)
        chunk_put(group, send, rk_buf_slice(&work->block.bytes));
}

static bool send_start(struct rk_group *group, uint32_t at)
{
    struct rk_host *host = group->host;
    struct rk_host_work *work = &host->works[RK_LANE_TRANSFER];
    struct rk_snapshot_send *send = &group->sends[at];
    if (send->file.is_busy) return false;
    if (send->file.is_stale) {
        rk_host_file_start(host, &send->file, RK_WORK_CLOSE);
        return true;
    }
    if (send->to == NULL || !is_connected(send) || rk_host_now(host) < send->read_ms)
        return false;
    bool is_all_sent = send->size != 0 && send->sent == send->size;
    if (is_all_sent || send->sent - send->acked >= WINDOW_SIZE) return false;
    work->transfer = RK_TRANSFER_SEND;
    work->id = send->id;
    work->at = at;
    work->offset = send->sent;
    work->size = RK_HOST_CHUNK_SIZE;
    work->file_size = send->size;
    rk_host_file_start(host, &send->file, RK_WORK_READ);
    return true;
}

void rk_group_sends_run(struct rk_group *group)
{
    struct rk_host *host = group->host;
    uint64_t now = rk_host_now(host);
    for (uint32_t at = 0; at < RK_HOST_PEERS_MAX; at++) {
        struct rk_snapshot_send *send = &group->sends[at];
        if (send->to == NULL) continue;
        uint64_t idle = now - send->moved_ms;
        if (idle > GIVE_UP_MS || !rk_group_is_leader(group)) {
            send_end(group, send, false);
            continue;
        }
        /* What was under way is lost with the link. */
        if (!is_connected(send)) send->sent = send->acked;
        if (idle <= AGAIN_MS || now <= send->again_ms || !is_connected(send)) continue;
        send->again_ms = now + AGAIN_MS;
        /* Probably lost with a link; where all arrived, the verdict was: an empty chunk
         * asks for it. */
        send->sent = send->acked;
        if (send->size != 0 && send->sent == send->size)
            chunk_put(group, send, RK_SLICE_EMPTY);
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
    if (send->to == NULL || send->id.index != index || send->id.term != term ||
        offset > send->size)
        return;
    send->moved_ms = rk_host_now(host);
    if (how != ACK_GOING) {
        if (how == ACK_FAILED) rk_group_suspect(group);
        send_end(group, send, how == ACK_DONE);
        return;
    }
    /* Before: it lost what it had, as after a power cut. Beyond: it has some of before. */
    if (offset < send->acked || offset > send->sent) send->sent = offset;
    send->acked = offset;
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

/* Freeing a large state takes long: it is done elsewhere. */
static void machine_drop(struct rk_group *group, struct rk_machine *machine)
{
    if (machine == NULL) return;
    RK_ASSERT(group->dying == NULL); /* finish_start waits for it */
    group->dying = machine;
}

static void receive_end(struct rk_group *group)
{
    struct rk_snapshot_receive *receive = &group->receive;
    rk_host_file_end(&receive->file);
    struct rk_host_file file = receive->file;
    machine_drop(group, receive->machine);
    rk_buf_fini(&receive->message);
    rk_buf_fini(&receive->waiting);
    memset(receive, 0, sizeof(*receive));
    receive->file = file;
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

static void receive_begin(struct rk_group *group, struct rk_member *from,
                          const struct chunk *chunk)
{
    struct rk_snapshot_receive *receive = &group->receive;
    receive_end(group);
    rk_buf_init(&receive->message);
    rk_buf_init(&receive->waiting);
    receive->id = chunk->id;
    receive->from = from;
    receive->size = chunk->size;
    receive->state = RK_RECEIVING;
}

static void received_ack(struct rk_group *group)
{
    const struct rk_snapshot_receive *receive = &group->receive;
    uint64_t offset = receive->stored < receive->size ? receive->stored : receive->size;
    ack(group, receive->from, receive->id, offset, ACK_GOING);
}

/* What comes next in the file waits for the transfer lane: at most as much as a sender has
 * under way without an acknowledgement. */
static void chunk_take(struct rk_group *group, const struct chunk *chunk)
{
    struct rk_snapshot_receive *receive = &group->receive;
    /* Where the file ends is not known yet: it is likely that the sender goes on there. */
    if (!receive->is_open && receive->waiting.size == 0) receive->stored = chunk->offset;
    uint64_t held = receive->storing + receive->waiting.size;
    uint64_t next = receive->stored + held;
    if (chunk->offset > next || chunk->offset + chunk->bytes.size <= next) {
        if (receive->is_open) received_ack(group);
        return;
    }
    size_t skip = (size_t)(next - chunk->offset);
    struct rk_slice bytes = rk_slice_of(chunk->bytes.data + skip, chunk->bytes.size - skip);
    if (held + bytes.size > WINDOW_SIZE) return;
    rk_buf_reset(&receive->message);
    rk_buf_append_slice(&receive->message, chunk->message);
    rk_buf_append_slice(&receive->waiting, bytes);
    if (rk_buf_check(&receive->message) == RK_OK && !receive->waiting.is_failed) return;
    receive_fail(group, RK_ENOMEM, "no memory for what comes");
}

void rk_snapshot_chunk_receive(struct rk_host *host, struct rk_member *from,
                               struct rk_slice body)
{
    struct chunk chunk;
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
        receive_begin(group, from, &chunk);
    }
    receive->moved_ms = rk_host_now(host);
    if (receive->state != RK_RECEIVING)
        ack(group, from, chunk.id, chunk.size, ACK_GOING);
    else
        chunk_take(group, &chunk);
}

/* The file ends here: what a former attempt has left need not be stored again, and what
 * does not follow it is of no use. */
static void waiting_fit(struct rk_snapshot_receive *receive, uint64_t end)
{
    struct rk_buf *waiting = &receive->waiting;
    uint64_t from = receive->stored;
    bool fits = end >= from && end - from < waiting->size;
    size_t skip = fits ? (size_t)(end - from) : waiting->size;
    if (skip == 0) return;
    memmove(waiting->data, waiting->data + skip, waiting->size - skip);
    waiting->size -= skip;
}

void rk_group_chunk_stored(struct rk_group *group, struct rk_host_work *work)
{
    struct rk_snapshot_receive *receive = &group->receive;
    RK_ASSERT(receive->state == RK_RECEIVING);
    receive->storing = 0;
    if (work->status != RK_OK) {
        receive_fail(group, work->status, work->error.message);
        return;
    }
    if (!receive->is_open) waiting_fit(receive, work->file_size);
    receive->stored = work->file_size;
    receive->is_open = true;
    received_ack(group);
    if (receive->stored >= receive->size) receive->state = RK_RECEIVE_COMPLETE;
}

static bool receive_start(struct rk_group *group)
{
    struct rk_host *host = group->host;
    struct rk_host_work *work = &host->works[RK_LANE_TRANSFER];
    struct rk_snapshot_receive *receive = &group->receive;
    if (receive->file.is_busy) return false;
    if (receive->file.is_stale) {
        rk_host_file_start(host, &receive->file, RK_WORK_CLOSE);
        return true;
    }
    bool has_job =
        receive->state == RK_RECEIVING && (!receive->is_open || receive->waiting.size > 0);
    if (!has_job) return false;
    work->transfer = RK_TRANSFER_RECEIVE;
    work->id = receive->id;
    work->offset = receive->stored;
    if (receive->is_open) {
        work->block.bytes = receive->waiting;
        rk_buf_init(&receive->waiting);
        receive->storing = work->block.bytes.size;
    }
    rk_host_file_start(host, &receive->file, RK_WORK_STORE);
    return true;
}

/* --- whose turn it is ---------------------------------------------------------------- */

static bool transfer_start(struct rk_host *host, uint32_t at)
{
    uint32_t id = at / TRANSFERS, send = at % TRANSFERS;
    if (id > host->group_count) return rk_host_backup_start(host);
    if (send == RK_HOST_PEERS_MAX) return receive_start(host->groups[id]);
    return send_start(host->groups[id], send);
}

void rk_host_transfers_run(struct rk_host *host)
{
    uint32_t count = (host->group_count + 1) * TRANSFERS + 1;
    for (uint32_t idle = 0; idle < count && !host->works[RK_LANE_TRANSFER].is_busy;) {
        host->transfer_at = (host->transfer_at + 1) % count;
        idle = transfer_start(host, host->transfer_at) ? 0 : idle + 1;
        if (host->is_dead) return;
    }
}

/* --- what was received --------------------------------------------------------------- */

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
void rk_group_received(struct rk_group *group, struct rk_host_work *work)
{
    enum rk_status status = work->status;
    group->receive.machine = work->machine;
    work->machine = NULL;
    if (status == RK_EPROTO) status = RK_EUNSUPPORTED; /* another format of the file */
    if (status != RK_OK)
        receive_fail(group, status, work->error.message);
    else
        step(group);
}

/* A state that was replaced goes first, so that there is never a second one. */
static bool finish_start(struct rk_group *group)
{
    struct rk_snapshot_receive *receive = &group->receive;
    struct rk_host_work *work = rk_host_work_idle(group->host, RK_LANE_LONG);
    if (work == NULL || group->dying != NULL) return false;
    receive->state = RK_RECEIVE_FINISHING;
    work->id = receive->id;
    work->group = group;
    work->sink = receive->file.sink;
    receive->file.sink = NULL;
    rk_host_work_start(group->host, work, RK_WORK_RECEIVED);
    return true;
}

bool rk_group_receive_run(struct rk_group *group)
{
    struct rk_host *host = group->host;
    struct rk_snapshot_receive *receive = &group->receive;
    switch (receive->state) {
    case RK_RECEIVE_COMPLETE: return finish_start(group);
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
        send_clear(&group->sends[i]);
        rk_host_file_close(&group->sends[i].file);
    }
    receive_end(group);
    rk_host_file_close(&group->receive.file);
}
