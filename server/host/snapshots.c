#include "host/host_internal.h"

#include "base/mutant.h"

#include <inttypes.h>

/* Snapshots of groups, one a node at a time: records are taken from the machine in slices
 * between turns, written as blocks, made durable, marked in the log; then the log before
 * them goes. */

enum {
    SLICE_DISCARDS = 256, /* records freed at once, of a snapshot that was given up */
    SCRATCH_MAX = 256 << 10,
    THRESHOLD_MIN = 16 << 20,
    RETRY_MS = 10000,
    HOLD_SIZE = 64 << 20, /* of log, kept for slow followers above what it may grow by */
};

/* --- taking -------------------------------------------------------------------------- */

static uint64_t threshold(const struct rk_group *group)
{
    uint64_t configured = group->host->snapshot_bytes;
    if (configured != 0) return configured;
    uint64_t live = 4 * rk_machine_bytes(group->machine);
    return live > THRESHOLD_MIN ? live : THRESHOLD_MIN;
}

static void blocks_drop(struct rk_snapshot_taking *taking)
{
    rk_snapshot_encoder_fini(&taking->encoder);
    for (; taking->ready_count > 0; taking->ready_count--) {
        rk_buf_fini(&taking->ready[taking->ready_at]);
        taking->ready_at = (taking->ready_at + 1) % RK_HOST_BLOCKS;
    }
}

/* What it left goes in the turns that follow. */
static void give_up(struct rk_host *host)
{
    struct rk_snapshot_taking *taking = &host->taking;
    blocks_drop(taking);
    taking->state = RK_TAKING_ENDING;
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
    struct rk_host_work *work = &host->works[RK_LANE_TAKING];
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
    taking->is_encoded = false;
    taking->has_machine = true;
    taking->bytes_before = group->bytes_since_mark;
    taking->entries_before = group->entries_since_mark;
    work->id = header.id;
    rk_host_work_start(host, work, RK_WORK_CREATE);
}

static enum rk_status encode_slice(struct rk_host *host)
{
    struct rk_snapshot_taking *taking = &host->taking;
    struct rk_reader in;
    bool is_done = false;
    rk_buf_reset(&host->scratch);
    enum rk_status status = rk_machine_snapshot_step(taking->group->machine, &host->scratch,
                                                     host->slice_bytes, &is_done);
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
    if (host->scratch.capacity > SCRATCH_MAX) {
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

/* Blocks may wait for a disk that is slower than the encoder. */
static bool has_room(const struct rk_snapshot_taking *taking)
{
    return taking->state == RK_TAKING_RECORDS && !taking->is_encoded &&
           taking->ready_count < RK_HOST_BLOCKS;
}

/* Where a block ends is decided by the records alone, not by how fast the disk is: nodes
 * that take a snapshot at the same entry have the same file, byte for byte, and one that
 * was sent by halves by one of them can be sent on by another. */
static void block_take(struct rk_snapshot_taking *taking)
{
    struct rk_snapshot_block block;
    if (!taking->is_encoded && !rk_snapshot_encoder_is_full(&taking->encoder)) return;
    RK_ASSERT(taking->ready_count < RK_HOST_BLOCKS);
    rk_snapshot_encoder_take(&taking->encoder, &block);
    taking->ready[(taking->ready_at + taking->ready_count++) % RK_HOST_BLOCKS] =
        block.bytes;
}

static void encode_on(struct rk_host *host)
{
    enum rk_status status = encode_slice(host);
    if (status == RK_OK)
        block_take(&host->taking);
    else
        failed(host, status, "its records");
}

/* What is written meanwhile fills the side faster than it empties. */
static bool is_aside_filling(const struct rk_host *host)
{
    struct rk_snapshot_progress progress;
    rk_machine_snapshot_progress(host->taking.group->machine, &progress);
    return progress.side_bytes > host->side_bytes / 4;
}

static void write_on(struct rk_host *host)
{
    struct rk_snapshot_taking *taking = &host->taking;
    struct rk_host_work *work = rk_host_work_idle(host, RK_LANE_TAKING);
    if (work == NULL || taking->state != RK_TAKING_RECORDS) return;
    if (taking->ready_count > 0) {
        work->block.bytes = taking->ready[taking->ready_at];
        taking->ready_at = (taking->ready_at + 1) % RK_HOST_BLOCKS;
        taking->ready_count--;
        work->is_urgent = is_aside_filling(host);
        rk_host_work_start(host, work, RK_WORK_WRITE);
    } else if (taking->is_encoded) {
        rk_host_work_start(host, work, RK_WORK_FINISH);
    }
}

/* --- slices -------------------------------------------------------------------------- */

/* There is something to do for which no disk has to be waited for. */
static bool has_slice(const struct rk_snapshot_taking *taking)
{
    return has_room(taking) || (taking->state == RK_TAKING_ENDING && taking->has_machine);
}

static void slice(struct rk_host *host)
{
    struct rk_snapshot_taking *taking = &host->taking;
    if (taking->state == RK_TAKING_RECORDS)
        encode_on(host);
    else
        taking->has_machine =
            !rk_machine_snapshot_discard(taking->group->machine, SLICE_DISCARDS);
}

/* What the side may hold: half of the bound, and of the other half as much as there is of
 * the snapshot. So the writes that change much of a large state slow down to the pace at
 * which it ends, and do not stop before. */
static uint64_t aside_max(const struct rk_host *host,
                          const struct rk_snapshot_progress *progress)
{
    uint64_t half = host->side_bytes / 2;
    if (progress->out_bytes >= progress->all_bytes) return 2 * half;
    return half + (uint64_t)((double)half * (double)progress->out_bytes /
                             (double)progress->all_bytes);
}

static bool is_aside_full(const struct rk_host *host)
{
    const struct rk_snapshot_taking *taking = &host->taking;
    struct rk_snapshot_progress progress;
    if (taking->state != RK_TAKING_RECORDS || taking->is_encoded) return false;
    rk_machine_snapshot_progress(taking->group->machine, &progress);
    return progress.side_bytes > aside_max(host, &progress);
}

enum rk_host_slices rk_host_slices(const struct rk_host *host)
{
    const struct rk_snapshot_taking *taking = &host->taking;
    if (host->is_dead || !has_slice(taking)) return RK_SLICES_NONE;
    if (taking->state != RK_TAKING_RECORDS) return RK_SLICES_MORE;
    return is_aside_filling(host) ? RK_SLICES_URGENT : RK_SLICES_MORE;
}

enum rk_host_slices rk_host_slice(struct rk_host *host)
{
    if (host->is_dead || !has_slice(&host->taking)) return RK_SLICES_NONE;
    slice(host);
    write_on(host);
    return rk_host_slices(host);
}

void rk_host_snapshot_pace(struct rk_host *host)
{
    struct rk_snapshot_taking *taking = &host->taking;
    struct rk_group *group = is_aside_full(host) ? taking->group : NULL;
    if (taking->held == group) return;
    if (taking->held != NULL) rk_raft_hold_apply(taking->held->raft, false);
    if (group != NULL) {
        rk_raft_hold_apply(group->raft, true);
        host->metrics.snapshot_holds++;
    }
    taking->held = group;
}

static void take_on(struct rk_host *host)
{
    if (!host->has_slices && has_slice(&host->taking)) slice(host);
    write_on(host);
}

static void end_on(struct rk_host *host)
{
    struct rk_snapshot_taking *taking = &host->taking;
    struct rk_host_work *work = rk_host_work_idle(host, RK_LANE_TAKING);
    if (!host->has_slices && has_slice(taking)) slice(host);
    if (taking->has_machine || work == NULL) return;
    if (work->taken != NULL)
        rk_host_work_start(host, work, RK_WORK_ABORT);
    else
        taking->state = RK_TAKING_NONE;
}

void rk_host_taken(struct rk_host *host, enum rk_work_kind kind)
{
    struct rk_snapshot_taking *taking = &host->taking;
    struct rk_host_work *work = &host->works[RK_LANE_TAKING];
    if (taking->state != RK_TAKING_RECORDS) return;
    if (work->status != RK_OK) {
        failed(host, work->status, work->error.message);
    } else if (kind == RK_WORK_FINISH) {
        rk_machine_snapshot_end(taking->group->machine);
        rk_snapshot_encoder_fini(&taking->encoder);
        mark(host);
    }
}

/* Its machine is about to go, with all that it kept for it: what was taken is void. */
void rk_host_snapshot_void(struct rk_host *host, const struct rk_group *group)
{
    struct rk_snapshot_taking *taking = &host->taking;
    if (taking->state == RK_TAKING_NONE || taking->group != group) return;
    taking->has_machine = false;
    if (taking->state == RK_TAKING_RECORDS) give_up(host);
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

/* Old files of a group go while none of its new ones is made: that would go with them. */
static bool may_clean(const struct rk_host *host, const struct rk_group *group)
{
    return group->must_clean &&
           (host->taking.state == RK_TAKING_NONE || host->taking.group != group);
}

static bool is_cleaning(const struct rk_host *host, const struct rk_group *group)
{
    const struct rk_host_work *work = &host->works[RK_LANE_LONG];
    return work->is_busy && work->kind == RK_WORK_CLEAN && work->id.group == group->id;
}

/* What takes long and has time: removing large files, freeing a state that was replaced. */
static bool tidy_begin(struct rk_host *host)
{
    struct rk_host_work *work = rk_host_work_idle(host, RK_LANE_LONG);
    if (work == NULL) return true;
    for (uint32_t id = 0; id <= host->group_count; id++) {
        struct rk_group *group = host->groups[id];
        if (may_clean(host, group)) {
            group->must_clean = false;
            work->id = (struct rk_snapshot_id){id, group->mark_index, group->mark_term};
            rk_host_work_start(host, work, RK_WORK_CLEAN);
            return true;
        }
        if (group->dying != NULL) {
            work->machine = group->dying;
            group->dying = NULL;
            rk_host_work_start(host, work, RK_WORK_FREE);
            return true;
        }
    }
    if (!host->restore.must_forget) return false;
    host->restore.must_forget = false;
    work->restore = &host->restore;
    rk_host_work_start(host, work, RK_WORK_FORGET);
    return true;
}

/* What the log wishes comes before what is due by size. */
static void begin_next(struct rk_host *host)
{
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
    if (group != NULL && group->clean_batch == NULL && !group->must_clean &&
        !is_cleaning(host, group))
        begin(host, group, index);
}

void rk_host_snapshots_run(struct rk_host *host)
{
    struct rk_snapshot_taking *taking = &host->taking;
    bool has_begun = tidy_begin(host);
    switch (taking->state) {
    case RK_TAKING_RECORDS: take_on(host); break;
    case RK_TAKING_ENDING: end_on(host); break;
    case RK_TAKING_NONE:
        if (!has_begun) (void)rk_host_verify_begin(host);
        if (rk_host_now(host) >= taking->retry_ms) begin_next(host);
        break;
    }
}

bool rk_host_snapshots_have_more(const struct rk_host *host)
{
    const struct rk_snapshot_taking *taking = &host->taking;
    bool may_go_on = taking->held != NULL && !is_aside_full(host);
    if (may_go_on) return true;
    if (has_slice(taking)) return !host->has_slices;
    return taking->state != RK_TAKING_NONE && !host->works[RK_LANE_TAKING].is_busy;
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
    struct rk_snapshot_taking *taking = &host->taking;
    if (taking->state == RK_TAKING_RECORDS) blocks_drop(taking);
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
