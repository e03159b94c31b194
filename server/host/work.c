#include "host/host_internal.h"

/* What would hold the loop up is done elsewhere: file work of snapshots, and what takes as
 * long as a state is large. The host hands a job out and gets its end; of each lane at most
 * one job is under way. */

/* --- on whatever thread -------------------------------------------------------------- */

static enum rk_status read_run(struct rk_host_work *work)
{
    enum rk_status status = RK_OK;
    size_t got = 0;
    if (work->source == NULL)
        status = rk_snapshot_source_open(&work->source, &work->file_size, work->fs,
                                         work->dir, work->id, &work->error);
    if (status != RK_OK) return status;
    uint64_t left = work->file_size > work->offset ? work->file_size - work->offset : 0;
    if (work->size > left) work->size = left;
    if (work->size == 0) return RK_OK;
    uint8_t *bytes = rk_buf_extend(&work->block.bytes, (size_t)work->size);
    if (bytes == NULL) return rk_storage_fail(&work->error, RK_ENOMEM, "out of memory");
    status = rk_snapshot_source_read(work->source, &got, work->offset, bytes,
                                     (size_t)work->size);
    if (status == RK_OK && got != work->size) status = RK_ECORRUPT;
    if (status != RK_OK)
        rk_storage_fail(&work->error, status, "group %u: its snapshot can not be read",
                        work->id.group);
    return status;
}

static enum rk_status store_run(struct rk_host_work *work)
{
    enum rk_status status = RK_OK;
    if (work->sink == NULL)
        status =
            rk_snapshot_sink_open(&work->sink, work->fs, work->dir, work->id, &work->error);
    if (status == RK_OK && work->block.bytes.size > 0)
        status = rk_snapshot_sink_write(work->sink, work->offset,
                                        rk_buf_slice(&work->block.bytes), &work->error);
    if (status == RK_OK) work->file_size = rk_snapshot_sink_offset(work->sink);
    return status;
}

static void close_run(struct rk_host_work *work)
{
    rk_snapshot_source_free(work->source);
    rk_snapshot_sink_free(work->sink);
    work->source = NULL;
    work->sink = NULL;
}

static enum rk_status received_run(struct rk_host_work *work)
{
    enum rk_status status = rk_snapshot_sink_finish(work->sink, &work->error);
    work->sink = NULL;
    if (status == RK_OK)
        status = rk_group_restore(work->group, &work->machine, work->id, &work->error);
    return status;
}

static enum rk_status finish_run(struct rk_host_work *work)
{
    enum rk_status status = rk_snapshot_file_finish(work->taken, &work->error);
    work->taken = NULL;
    return status;
}

static enum rk_status clean_run(struct rk_host_work *work)
{
    const struct rk_snapshot_clean clean = {.keep = work->id, .keep_newer = true};
    return rk_snapshot_clean(work->fs, work->dir, &clean);
}

static enum rk_status verify_run(struct rk_host_work *work)
{
    struct rk_snapshot_summary summary;
    return rk_snapshot_verify(work->fs, work->dir, work->id, &summary, &work->error);
}

void rk_host_work_run(struct rk_host_work *work)
{
    work->status = RK_OK;
    switch (work->kind) {
    case RK_WORK_CREATE:
        work->status = rk_snapshot_file_create(&work->taken, work->fs, work->dir, work->id,
                                               &work->error);
        break;
    case RK_WORK_WRITE:
        work->status = rk_snapshot_file_write(work->taken, &work->block, &work->error);
        break;
    case RK_WORK_FINISH: work->status = finish_run(work); break;
    case RK_WORK_ABORT:
        rk_snapshot_file_abort(work->taken);
        work->taken = NULL;
        break;
    case RK_WORK_READ: work->status = read_run(work); break;
    case RK_WORK_STORE: work->status = store_run(work); break;
    case RK_WORK_CLOSE: close_run(work); break;
    case RK_WORK_RECEIVED: work->status = received_run(work); break;
    case RK_WORK_CLEAN: work->status = clean_run(work); break;
    case RK_WORK_FREE:
        rk_machine_free(work->machine);
        work->machine = NULL;
        break;
    case RK_WORK_VERIFY: work->status = verify_run(work); break;
    case RK_WORK_RESTORE:
        work->status = rk_restore_convert(work->restore, &work->error);
        break;
    case RK_WORK_FORGET:
        work->status = rk_restore_forget(work->restore, work->fs, &work->error);
        break;
    case RK_WORK_NONE: break;
    }
}

bool rk_host_work_has_time(const struct rk_host_work *work)
{
    return work->kind == RK_WORK_WRITE && !work->is_urgent;
}

uint32_t rk_host_work_lane(const struct rk_host_work *work)
{
    return (uint32_t)work->lane;
}

/* --- handing out --------------------------------------------------------------------- */

void rk_host_work_init(struct rk_host *host)
{
    for (int lane = 0; lane < RK_HOST_LANES; lane++) {
        host->works[lane].lane = (enum rk_work_lane)lane;
        rk_buf_init(&host->works[lane].block.bytes);
    }
}

struct rk_host_work *rk_host_work_idle(struct rk_host *host, enum rk_work_lane lane)
{
    return host->works[lane].is_busy ? NULL : &host->works[lane];
}

void rk_host_work_start(struct rk_host *host, struct rk_host_work *work,
                        enum rk_work_kind kind)
{
    RK_ASSERT(!work->is_busy);
    work->is_busy = true;
    work->kind = kind;
    work->fs = host->fs;
    work->dir = host->snapshot_dir;
    if (host->io.work != NULL) {
        host->io.work(host->io.context, work);
        return;
    }
    rk_host_work_run(work);
    rk_host_work_done(host, work);
}

/* --- files on their way -------------------------------------------------------------- */

void rk_host_file_start(struct rk_host *host, struct rk_host_file *file,
                        enum rk_work_kind kind)
{
    struct rk_host_work *work = &host->works[RK_LANE_TRANSFER];
    RK_ASSERT(!file->is_busy && work->source == NULL && work->sink == NULL);
    file->is_busy = true;
    work->file = file;
    work->use = file->use;
    work->source = file->source;
    work->sink = file->sink;
    file->source = NULL;
    file->sink = NULL;
    rk_host_work_start(host, work, kind);
}

void rk_host_file_end(struct rk_host_file *file)
{
    file->use++;
    file->is_stale = file->source != NULL || file->sink != NULL;
}

void rk_host_file_close(struct rk_host_file *file)
{
    rk_snapshot_source_free(file->source);
    rk_snapshot_sink_free(file->sink);
    file->source = NULL;
    file->sink = NULL;
}

static void transferred(struct rk_host *host, struct rk_host_work *work,
                        enum rk_work_kind kind)
{
    struct rk_host_file *file = work->file;
    file->is_busy = false;
    file->source = work->source;
    file->sink = work->sink;
    work->source = NULL;
    work->sink = NULL;
    bool is_open = file->source != NULL || file->sink != NULL;
    file->is_stale = is_open && work->use != file->use;
    if (kind == RK_WORK_CLOSE || work->use != file->use) return;
    switch (work->transfer) {
    case RK_TRANSFER_SEND: rk_group_chunk_read(host->groups[work->id.group], work); break;
    case RK_TRANSFER_RECEIVE:
        rk_group_chunk_stored(host->groups[work->id.group], work);
        break;
    case RK_TRANSFER_BACKUP: rk_host_piece_read(host, work); break;
    }
}

/* --- their ends ---------------------------------------------------------------------- */

static void long_done(struct rk_host *host, struct rk_host_work *work,
                      enum rk_work_kind kind)
{
    switch (kind) {
    case RK_WORK_VERIFY: rk_host_verified(host, work); break;
    case RK_WORK_RESTORE:
        rk_host_birth_restored(host, work->status, work->error.message);
        break;
    case RK_WORK_RECEIVED: rk_group_received(host->groups[work->id.group], work); break;
    case RK_WORK_CLEAN:
        if (work->status != RK_OK)
            rk_host_log(host, RK_LOG_WARN, "group %u: old snapshots stay: %s",
                        work->id.group, rk_status_text(work->status));
        break;
    case RK_WORK_FORGET:
        if (work->status != RK_OK)
            rk_host_log(host, RK_LOG_WARN, "%s", work->error.message);
        break;
    default: break;
    }
}

void rk_host_work_done(struct rk_host *host, struct rk_host_work *work)
{
    enum rk_work_kind kind = work->kind;
    RK_ASSERT(work->is_busy);
    work->is_busy = false;
    work->kind = RK_WORK_NONE;
    host->has_more = true;
    switch (host->is_dead ? -1 : (int)work->lane) {
    case RK_LANE_TAKING: rk_host_taken(host, kind); break;
    case RK_LANE_TRANSFER: transferred(host, work, kind); break;
    case RK_LANE_LONG: long_done(host, work, kind); break;
    default: break;
    }
    /* Of the transfer lane the bytes were taken, or are of no use any more. */
    if (!work->is_busy) rk_buf_fini(&work->block.bytes);
}

void rk_host_work_close(struct rk_host *host)
{
    for (int lane = 0; lane < RK_HOST_LANES; lane++) {
        struct rk_host_work *work = &host->works[lane];
        rk_snapshot_file_abort(work->taken);
        rk_snapshot_source_free(work->source);
        rk_snapshot_sink_free(work->sink);
        rk_machine_free(work->machine);
        rk_buf_fini(&work->block.bytes);
    }
}
