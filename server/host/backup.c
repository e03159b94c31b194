#include "host/host_internal.h"

#include <stdio.h>

/* A backup is this node's own snapshots, sent one after the other. Each is one that was
 * made after a majority confirmed where its group is, so what was answered before is in it.
 * What is sent is a file: a slow reader holds nothing up. */

enum {
    CONFIRM_MS = 10000,
    SNAPSHOT_MS = 30000,
    AWAY_MS = 1000,
    PIECE_SIZE = 256 << 10,
};

/* Leaves what the transfer lane has to close. */
static void clear(struct rk_host_backup *backup)
{
    rk_host_file_end(&backup->file);
    struct rk_host_file file = backup->file;
    rk_free(backup->encoder);
    rk_buf_fini(&backup->piece);
    memset(backup, 0, sizeof(*backup));
    backup->file = file;
}

enum rk_status rk_host_backup_begin(struct rk_host *host, const char *program)
{
    struct rk_host_backup *backup = &host->backup;
    if (!host->is_running || host->is_removed || host->is_dead) return RK_EUNAVAILABLE;
    if (backup->encoder != NULL) return RK_EBUSY;
    backup->encoder = rk_calloc(1, sizeof(*backup->encoder));
    if (backup->encoder == NULL) return RK_ENOMEM;
    rk_buf_init(&backup->piece);
    (void)snprintf(backup->program, sizeof(backup->program), "%s", program);
    backup->moved_ms = backup->read_ms = rk_host_now(host);
    return RK_OK;
}

void rk_host_backup_end(struct rk_host *host)
{
    clear(&host->backup);
}

void rk_host_backup_close(struct rk_host *host)
{
    clear(&host->backup);
    rk_host_file_close(&host->backup.file);
}

void rk_host_backup_confirmed(struct rk_host *host, const struct rk_raft_read_state *read)
{
    struct rk_host_backup *backup = &host->backup;
    if (backup->request == 0 || backup->request != read->request) return;
    backup->request = 0;
    backup->is_confirmed = !read->is_lost;
    backup->moved_ms = rk_host_now(host);
    backup->index = read->index;
}

/* Asks for the group's index; again where that was lost on the way. */
static void ask(struct rk_host *host, struct rk_group *group)
{
    struct rk_host_backup *backup = &host->backup;
    uint64_t now = rk_host_now(host);
    /* A history that began from a backup counts from its first entry on. */
    if (rk_machine_history(group->machine) == 0) return;
    if (backup->request != 0 && now - backup->asked_ms < 3 * (uint64_t)host->heartbeat_ms)
        return;
    uint64_t request = ++host->read_request;
    if (rk_raft_read_index(group->raft, request) != RK_OK) return;
    backup->request = request;
    backup->asked_ms = now;
}

static enum rk_status header_put(struct rk_host *host, struct rk_buf *out)
{
    struct rk_host_backup *backup = &host->backup;
    struct rk_backup_header header = {
        .cluster_high = host->cluster.high,
        .cluster_low = host->cluster.low,
        .history = host->history,
        .saved_ms = host->now.wall_ms,
        .group_count = host->group_count + 1,
        .cluster = rk_slice_of_string(host->cluster_name),
        .node = rk_slice_of_string(host->name),
        .program = rk_slice_of_string(backup->program),
    };
    while (header.id == 0)
        header.id = rk_random_next(&host->random);
    return rk_backup_begin(backup->encoder, &header, out);
}

/* A snapshot that is new enough, or the wish for one. RK_EBUSY: not yet. */
static enum rk_status part_begin(struct rk_host *host, struct rk_group *group)
{
    struct rk_host_backup *backup = &host->backup;
    if (!backup->is_confirmed) {
        ask(host, group);
        return RK_EBUSY;
    }
    if (group->mark_index < backup->index) {
        if (rk_machine_index(group->machine) >= backup->index) {
            rk_host_snapshot_wish(host, group, 0);
            host->has_more = true;
        }
        return RK_EBUSY;
    }
    backup->id = (struct rk_snapshot_id){group->id, group->mark_index, group->mark_term};
    backup->size = backup->taken = 0;
    return RK_OK;
}

static void part_end(struct rk_host_backup *backup)
{
    rk_host_file_end(&backup->file);
    backup->id.index = 0;
    rk_buf_reset(&backup->piece);
}

bool rk_host_backup_start(struct rk_host *host)
{
    struct rk_host_backup *backup = &host->backup;
    struct rk_host_work *work = &host->works[RK_LANE_TRANSFER];
    if (backup->file.is_busy) return false;
    if (backup->file.is_stale) {
        rk_host_file_start(host, &backup->file, RK_WORK_CLOSE);
        return true;
    }
    bool is_read = backup->size != 0 && backup->taken + backup->piece.size == backup->size;
    if (backup->id.index == 0 || backup->status != RK_OK || backup->piece.size > 0 ||
        is_read)
        return false;
    work->transfer = RK_TRANSFER_BACKUP;
    work->id = backup->id;
    work->offset = backup->taken;
    work->size = PIECE_SIZE;
    work->file_size = backup->size;
    rk_host_file_start(host, &backup->file, RK_WORK_READ);
    return true;
}

void rk_host_piece_read(struct rk_host *host, struct rk_host_work *work)
{
    struct rk_host_backup *backup = &host->backup;
    backup->moved_ms = rk_host_now(host);
    if (work->status == RK_ENOENT &&
        host->groups[work->id.group]->mark_index != work->id.index) {
        /* A newer one has taken its place before it was open. */
        part_end(backup);
        return;
    }
    backup->status = work->status;
    (void)snprintf(backup->why, sizeof(backup->why), "%.*s", (int)sizeof(backup->why) - 1,
                   work->error.message);
    if (work->status != RK_OK) return;
    backup->size = work->file_size;
    rk_buf_fini(&backup->piece);
    backup->piece = work->block.bytes;
    rk_buf_init(&work->block.bytes);
}

static enum rk_status piece_take(struct rk_host *host, struct rk_buf *out,
                                 struct rk_storage_error *error)
{
    struct rk_host_backup *backup = &host->backup;
    enum rk_status status = RK_OK;
    if (backup->status != RK_OK)
        return rk_storage_fail(error, backup->status, "%s", backup->why);
    if (backup->piece.size == 0) return RK_EBUSY;
    if (backup->taken == 0) {
        if (backup->id.group == 0) status = header_put(host, out);
        if (status != RK_OK) return status;
        rk_backup_part(backup->encoder, backup->id);
        backup->is_confirmed = false;
    }
    rk_buf_append_slice(out, rk_buf_slice(&backup->piece));
    if (rk_buf_check(out) != RK_OK) return RK_ENOMEM;
    rk_backup_bytes(backup->encoder, rk_buf_slice(&backup->piece));
    backup->taken += backup->piece.size;
    rk_buf_reset(&backup->piece);
    if (backup->taken < backup->size) return RK_OK;
    part_end(backup);
    backup->group++;
    return RK_OK;
}

static enum rk_status step(struct rk_host *host, struct rk_buf *out, bool *is_done,
                           struct rk_storage_error *error)
{
    struct rk_host_backup *backup = &host->backup;
    enum rk_status status;
    if (backup->group > host->group_count) {
        *is_done = true;
        host->metrics.backups++;
        return rk_backup_end(backup->encoder, out);
    }
    status = backup->id.index == 0 ? part_begin(host, host->groups[backup->group])
                                   : piece_take(host, out, error);
    uint64_t now = rk_host_now(host);
    /* A large group's snapshot takes its time. */
    if (status != RK_EBUSY || host->taking.state != RK_TAKING_NONE) backup->moved_ms = now;
    bool is_reading = backup->id.index != 0;
    uint64_t limit_ms = is_reading || backup->is_confirmed ? SNAPSHOT_MS : CONFIRM_MS;
    if (status == RK_EBUSY && now - backup->moved_ms > limit_ms)
        return rk_storage_fail(error, RK_EUNAVAILABLE, "group %u: %s", backup->group,
                               is_reading             ? "its snapshot can not be read"
                               : backup->is_confirmed ? "no snapshot could be made"
                                                      : "no majority confirms its index");
    return status;
}

enum rk_status rk_host_backup_read(struct rk_host *host, struct rk_buf *out, size_t size,
                                   bool *is_done, char *error)
{
    struct rk_host_backup *backup = &host->backup;
    struct rk_storage_error why = {"out of memory"};
    enum rk_status status = RK_OK;
    *is_done = false;
    RK_ASSERT(backup->encoder != NULL);
    /* While the reader was away nothing was waited for. */
    uint64_t now = rk_host_now(host);
    if (now - backup->read_ms > AWAY_MS) backup->moved_ms = now;
    backup->read_ms = now;
    if (host->is_removed || host->is_dead)
        status = rk_storage_fail(&why, RK_EUNAVAILABLE, "the node serves no more");
    while (status == RK_OK && !*is_done && out->size < size)
        status = step(host, out, is_done, &why);
    if (status == RK_OK || status == RK_EBUSY) return RK_OK;
    (void)snprintf(error, 256, "%.255s", why.message);
    return status;
}
