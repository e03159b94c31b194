#include "host/host_internal.h"

#include "base/mutant.h"

#include <inttypes.h>

/* Snapshots of groups, one a node at a time: records are taken from the machine in slices
 * between turns, written as blocks, made durable, marked in the log; then the log before
 * them goes. */

enum {
    SLICE_BYTES = 64 << 10, /* of records encoded in one turn: below a millisecond */
    THRESHOLD_MIN = 16 << 20,
    RETRY_MS = 10000,
    HOLD_SIZE = 64 << 20, /* of log, kept for slow followers above what it may grow by */
};

/* --- file work, on whatever thread --------------------------------------------------- */

void rk_host_work_run(struct rk_host_work *work)
{
    switch (work->kind) {
    case RK_WORK_CREATE:
        work->status = rk_snapshot_file_create(&work->file, work->fs, work->dir, work->id,
                                               &work->error);
        break;
    case RK_WORK_WRITE:
        work->status = rk_snapshot_file_write(work->file, &work->block, &work->error);
        break;
    case RK_WORK_FINISH:
        work->status = rk_snapshot_file_finish(work->file, &work->error);
        work->file = NULL;
        break;
    case RK_WORK_RECEIVED:
        work->status = rk_snapshot_sink_finish(work->sink, &work->error);
        work->sink = NULL;
        if (work->status == RK_OK)
            work->status =
                rk_group_restore(work->group, &work->machine, work->id, &work->error);
        break;
    case RK_WORK_CLEAN: {
        struct rk_snapshot_clean clean = {.keep = work->id, .keep_newer = true};
        work->status = rk_snapshot_clean(work->fs, work->dir, &clean);
        break;
    }
    case RK_WORK_FREE:
        rk_machine_free(work->machine);
        work->machine = NULL;
        break;
    case RK_WORK_VERIFY: {
        struct rk_snapshot_summary summary;
        work->status =
            rk_snapshot_verify(work->fs, work->dir, work->id, &summary, &work->error);
        break;
    }
    case RK_WORK_RESTORE:
        work->status = rk_restore_convert(work->restore, &work->error);
        break;
    case RK_WORK_NONE: break;
    }
}

void rk_host_work_start(struct rk_host *host, enum rk_work_kind kind)
{
    RK_ASSERT(!host->is_working);
    host->is_working = true;
    host->work.kind = kind;
    host->work.fs = host->fs;
    host->work.dir = host->snapshot_dir;
    if (host->io.work != NULL) {
        host->io.work(host->io.context, &host->work);
        return;
    }
    rk_host_work_run(&host->work);
    rk_host_work_done(host);
}

/* --- taking -------------------------------------------------------------------------- */

static uint64_t threshold(const struct rk_group *group)
{
    uint64_t configured = group->host->snapshot_bytes;
    if (configured != 0) return configured;
    uint64_t live = 4 * rk_machine_bytes(group->machine);
    return live > THRESHOLD_MIN ? live : THRESHOLD_MIN;
}

static void give_up(struct rk_host *host)
{
    struct rk_snapshot_taking *taking = &host->taking;
    if (taking->state == RK_TAKING_RECORDS) {
        if (!taking->is_void) rk_machine_snapshot_end(taking->group->machine);
        rk_snapshot_encoder_fini(&taking->encoder);
        rk_snapshot_file_abort(host->work.file);
        host->work.file = NULL;
    }
    taking->state = RK_TAKING_NONE;
    taking->is_void = false;
    taking->retry_ms = rk_host_now(host) + RETRY_MS;
}

static void failed(struct rk_host *host, enum rk_status status, const char *why)
{
    rk_host_log(host, RK_LOG_WARN, "group %u: snapshot given up: %s: %s",
                host->taking.group->id, rk_status_text(status), why);
    give_up(host);
}

static void begin(struct rk_host *host, struct rk_group *group, uint64_t force_index)
{
    struct rk_snapshot_taking *taking = &host->taking;
    struct rk_snapshot_header header = {
        .id = {group->id, rk_machine_index(group->machine), 0},
        .history = rk_machine_history(group->machine)};
    if (header.id.index <= group->mark_index || header.id.index == 0 ||
        rk_entry_log_term(group->log, &header.id.term, header.id.index) != RK_OK)
        return;
    if (rk_machine_snapshot_begin(group->machine) != RK_OK) return;
    rk_buf_reset(&host->scratch);
    rk_raft_conf_state_encode(&host->scratch, &group->conf);
    header.conf = rk_buf_slice(&host->scratch);
    enum rk_status status = rk_buf_check(&host->scratch);
    if (status == RK_OK) status = rk_snapshot_encoder_init(&taking->encoder, &header);
    if (status != RK_OK) {
        rk_machine_snapshot_end(group->machine);
        return;
    }
    taking->state = RK_TAKING_RECORDS;
    taking->group = group;
    taking->id = header.id;
    taking->conf = RK_MUTANT(members_not_in_snapshot) ? group->mark_conf : group->conf;
    taking->force_index = force_index;
    taking->is_encoded = taking->is_last_taken = taking->is_void = false;
    taking->bytes_before = group->bytes_since_mark;
    taking->entries_before = group->entries_since_mark;
    host->work.id = header.id;
    rk_host_work_start(host, RK_WORK_CREATE);
}

static enum rk_status encode_slice(struct rk_host *host)
{
    struct rk_snapshot_taking *taking = &host->taking;
    struct rk_reader in;
    bool is_done = false;
    rk_buf_reset(&host->scratch);
    enum rk_status status = rk_machine_snapshot_step(taking->group->machine, &host->scratch,
                                                     SLICE_BYTES, &is_done);
    if (status == RK_OK) status = rk_buf_check(&host->scratch);
    rk_reader_init(&in, rk_buf_slice(&host->scratch));
    while (status == RK_OK && rk_reader_left(&in) > 0) {
        struct rk_slice record = rk_read_blob(&in);
        RK_ASSERT(!in.is_failed);
        status = rk_snapshot_encoder_add(&taking->encoder, record);
    }
    if (status == RK_OK && is_done) {
        status = rk_snapshot_encoder_finish(&taking->encoder);
        taking->is_encoded = status == RK_OK;
    }
    if (host->scratch.capacity > 4 * SLICE_BYTES) {
        rk_buf_fini(&host->scratch);
        rk_buf_init(&host->scratch);
    }
    return status;
}

/* Some entries before the mark stay for followers that lag a little: about a quarter of
 * what the log may grow by. */
static uint64_t compact_index(const struct rk_snapshot_taking *taking)
{
    const struct rk_group *group = taking->group;
    uint64_t average =
        taking->entries_before == 0 ? 1 : taking->bytes_before / taking->entries_before + 1;
    uint64_t tail = threshold(group) / 4 / average;
    uint64_t index = taking->id.index > tail ? taking->id.index - tail : 0;
    if (taking->force_index > index) index = taking->force_index;
    return index > taking->id.index ? taking->id.index : index;
}

/* Compacts in the log batch that is being filled. */
static enum rk_status compact(struct rk_group *group, uint64_t index)
{
    uint64_t term;
    index = rk_group_held_index(group, index, threshold(group) + HOLD_SIZE);
    RK_ASSERT(index <= group->mark_index); /* rule 17: a snapshot has what is dropped */
    if (index < rk_entry_log_first(group->log)) return RK_OK;
    enum rk_status status = rk_entry_log_term(group->log, &term, index);
    if (status != RK_OK) return status;
    rk_entry_log_compact(group->log, index);
    return rk_wal_batch_compact(group->host->filling, group->id, index, term);
}

static void mark(struct rk_host *host)
{
    struct rk_snapshot_taking *taking = &host->taking;
    struct rk_group *group = taking->group;
    rk_buf_reset(&host->scratch);
    rk_raft_conf_state_encode(&host->scratch, &taking->conf);
    enum rk_status status = rk_buf_check(&host->scratch);
    if (status == RK_OK)
        status = rk_wal_batch_mark(host->filling, group->id, taking->id.index,
                                   taking->id.term, rk_buf_slice(&host->scratch));
    if (status == RK_OK) {
        group->mark_index = taking->id.index;
        group->mark_term = taking->id.term;
        group->mark_conf = taking->conf;
        status = compact(group, compact_index(taking));
    }
    if (status != RK_OK) {
        rk_host_fatal(host, status, "group %u: the snapshot can not be marked", group->id);
        return;
    }
    group->bytes_since_mark -= taking->bytes_before;
    group->entries_since_mark -= taking->entries_before;
    group->clean_batch = host->filling;
    host->is_urgent = true;
    host->metrics.snapshots++;
    taking->state = RK_TAKING_NONE;
    rk_host_log(host, RK_LOG_DEBUG, "group %u: snapshot at %" PRIu64, group->id,
                taking->id.index);
}

static void take_on(struct rk_host *host)
{
    struct rk_snapshot_taking *taking = &host->taking;
    if (!taking->is_encoded && !rk_snapshot_encoder_is_full(&taking->encoder)) {
        enum rk_status status = encode_slice(host);
        if (status != RK_OK) {
            failed(host, status, "its records");
            return;
        }
    }
    if (taking->is_last_taken) {
        rk_host_work_start(host, RK_WORK_FINISH);
    } else if (taking->is_encoded || rk_snapshot_encoder_is_full(&taking->encoder)) {
        rk_snapshot_encoder_take(&taking->encoder, &host->work.block);
        taking->is_last_taken = taking->is_encoded;
        rk_host_work_start(host, RK_WORK_WRITE);
    }
}

void rk_host_work_done(struct rk_host *host)
{
    struct rk_snapshot_taking *taking = &host->taking;
    struct rk_host_work *work = &host->work;
    enum rk_work_kind kind = work->kind;
    RK_ASSERT(host->is_working);
    host->is_working = false;
    host->has_more = true;
    work->kind = RK_WORK_NONE;
    if (kind == RK_WORK_WRITE) rk_buf_fini(&work->block.bytes);
    if (host->is_dead) return;
    if (kind == RK_WORK_VERIFY) {
        rk_host_verified(host);
        return;
    }
    if (kind == RK_WORK_CLEAN && work->status != RK_OK)
        rk_host_log(host, RK_LOG_WARN, "group %u: old snapshots stay: %s", work->id.group,
                    rk_status_text(work->status));
    if (kind == RK_WORK_CLEAN || kind == RK_WORK_FREE) {
        if (taking->is_void) give_up(host);
        return;
    }
    if (kind == RK_WORK_RESTORE) {
        rk_host_birth_restored(host, work->status, work->error.message);
        return;
    }
    if (kind == RK_WORK_RECEIVED) {
        if (taking->is_void) give_up(host);
        rk_group_received(host->groups[work->id.group], work->status);
        return;
    }
    if (taking->is_void)
        give_up(host);
    else if (work->status != RK_OK)
        failed(host, work->status, work->error.message);
    else if (kind == RK_WORK_FINISH) {
        rk_machine_snapshot_end(taking->group->machine);
        rk_snapshot_encoder_fini(&taking->encoder);
        mark(host);
    }
}

/* Its machine is about to be replaced: what was taken so far is void. */
void rk_host_snapshot_void(struct rk_host *host, const struct rk_group *group)
{
    struct rk_snapshot_taking *taking = &host->taking;
    if (taking->state == RK_TAKING_NONE || taking->group != group) return;
    rk_machine_snapshot_end(group->machine);
    taking->is_void = true;
    if (!host->is_working) give_up(host);
}

void rk_host_snapshot_wish(struct rk_host *host, struct rk_group *group, uint64_t index)
{
    if (host->wish == NULL || index > host->wish_index) {
        host->wish = group;
        host->wish_index = index;
    }
}

static struct rk_group *due(struct rk_host *host)
{
    for (uint32_t id = 0; id <= host->group_count; id++)
        if (host->groups[id]->bytes_since_mark > threshold(host->groups[id]))
            return host->groups[id];
    return NULL;
}

/* What takes long and has time: removing large files, freeing a state that was replaced. */
static bool tidy_begin(struct rk_host *host)
{
    for (uint32_t id = 0; id <= host->group_count; id++) {
        struct rk_group *group = host->groups[id];
        if (group->must_clean) {
            group->must_clean = false;
            host->work.id =
                (struct rk_snapshot_id){id, group->mark_index, group->mark_term};
            rk_host_work_start(host, RK_WORK_CLEAN);
            return true;
        }
        if (group->dying != NULL) {
            host->work.machine = group->dying;
            group->dying = NULL;
            rk_host_work_start(host, RK_WORK_FREE);
            return true;
        }
    }
    return false;
}

void rk_host_snapshots_run(struct rk_host *host)
{
    struct rk_snapshot_taking *taking = &host->taking;
    if (host->is_working || tidy_begin(host)) return;
    if (taking->state == RK_TAKING_RECORDS) {
        take_on(host);
        return;
    }
    if (rk_host_verify_begin(host)) return;
    if (rk_host_now(host) < taking->retry_ms) return;
    struct rk_group *group = host->wish;
    uint64_t index = group == NULL ? 0 : host->wish_index;
    host->wish = NULL;
    host->wish_index = 0;
    if (group != NULL && index != 0 && index <= group->mark_index) {
        enum rk_status status = compact(group, index);
        if (status != RK_OK)
            rk_host_fatal(host, status, "group %u: the log can not be compacted",
                          group->id);
        return;
    }
    if (group == NULL) group = due(host);
    if (group != NULL && group->clean_batch == NULL && !group->must_clean)
        begin(host, group, index);
}

bool rk_host_snapshots_have_more(const struct rk_host *host)
{
    return !host->is_working && host->taking.state == RK_TAKING_RECORDS;
}

/* A batch with marks or installations is durable: older files may go. */
void rk_host_snapshot_written(struct rk_host *host, const struct rk_wal_batch *batch)
{
    for (uint32_t id = 0; host->is_running && id <= host->group_count; id++) {
        struct rk_group *group = host->groups[id];
        if (group->clean_batch != batch) continue;
        group->clean_batch = NULL;
        group->must_clean = true;
    }
}

void rk_host_snapshots_close(struct rk_host *host)
{
    host->is_working = false;
    if (host->work.kind == RK_WORK_WRITE) rk_buf_fini(&host->work.block.bytes);
    if (host->work.kind == RK_WORK_RECEIVED) rk_snapshot_sink_free(host->work.sink);
    rk_machine_free(host->work.machine);
    host->work.machine = NULL;
    if (host->taking.state != RK_TAKING_NONE) give_up(host);
}

/* --- restoring ----------------------------------------------------------------------- */

enum rk_status rk_group_restore(const struct rk_group *group, struct rk_machine **out,
                                struct rk_snapshot_id id, struct rk_storage_error *error)
{
    const struct rk_host *host = group->host;
    struct rk_snapshot_reader *reader = NULL;
    struct rk_machine *machine = NULL;
    bool is_end = false;
    enum rk_status status =
        rk_snapshot_reader_open(&reader, host->fs, host->snapshot_dir, id, error);
    if (status == RK_ENOENT) status = RK_ECORRUPT; /* the log names it */
    if (status == RK_OK) status = rk_group_machine_new(group, &machine);
    while (status == RK_OK && !is_end) {
        struct rk_slice record;
        status = rk_snapshot_reader_next(reader, &record, &is_end, error);
        if (status != RK_OK || is_end) break;
        status = rk_machine_restore(machine, record);
        if (status != RK_OK)
            status = rk_group_record_fail(group, machine, record, id.index, status, error);
    }
    if (status == RK_OK) {
        status = rk_machine_restore_finish(machine, id.index);
        if (status == RK_EPROTO)
            status =
                rk_storage_fail(error, RK_ECORRUPT,
                                "group %u: records of the snapshot do not fit", group->id);
    }
    rk_snapshot_reader_free(reader);
    if (status != RK_OK) {
        rk_machine_free(machine);
        return status;
    }
    *out = machine;
    return RK_OK;
}
