#include "base/alloc.h"
#include "base/assert.h"
#include "storage/wal_private.h"

#include <inttypes.h>
#include <stdio.h>

static const char fill_name[] = "fill.tmp";

enum rk_status rk_wal_segment_path(const struct rk_wal *wal, char out[RK_FS_PATH_MAX],
                                   uint32_t number)
{
    char name[32];
    (void)snprintf(name, sizeof(name), "%08" PRIu32 ".wal", number);
    return rk_fs_join(out, wal->dir, name);
}

void rk_wal_segment_free(struct rk_wal *wal, struct rk_wal_segment *segment)
{
    if (segment == NULL) return;
    wal->fs->close(segment->file);
    rk_free(segment);
}

void rk_wal_add_spare(struct rk_wal *wal, struct rk_wal_segment *segment)
{
    segment->sequence = 0;
    rk_list_push_back(&wal->spare, &segment->link);
    wal->spare_count++;
    wal->spare_bytes += segment->size;
}

uint64_t rk_wal_limit(const struct rk_wal *wal, uint64_t live_bytes)
{
    uint64_t least = RK_WAL_SEGMENTS_MIN * wal->options.segment_first;
    return live_bytes > least / 4 ? live_bytes * 4 : least;
}

/* Whether a large segment fits and leaves as much again. */
static bool has_space(const struct rk_wal *wal, uint64_t size)
{
    struct rk_fs_space space;
    return wal->fs->space(wal->fs, &space, wal->dir) == RK_OK &&
           space.free_bytes / 2 >= size;
}

/* Large segments where the bound leaves room for them, or where the log is large anyway; on
 * a disk that runs full small ones, which may still fit. */
static uint64_t next_size(const struct rk_wal *wal)
{
    uint32_t count = wal->used_count + wal->spare_count;
    uint64_t first = wal->options.segment_first;
    uint64_t later = wal->options.segment_later;
    uint64_t bytes = wal->used_bytes + wal->spare_bytes;
    if (count < RK_WAL_SEGMENTS_MIN) return first;
    bool is_large =
        bytes >= 2 * later || bytes + later <= rk_wal_limit(wal, wal->live_bytes);
    return is_large && has_space(wal, later) ? later : first;
}

static enum rk_status fill_begin(struct rk_wal *wal, struct rk_storage_error *error)
{
    struct rk_wal_segment *segment = rk_calloc(1, sizeof(*segment));
    if (segment == NULL)
        return rk_storage_fail(error, RK_ENOMEM, "no memory for a segment");
    segment->number = wal->next_number;
    enum rk_status status = rk_fs_join(segment->path, wal->dir, fill_name);
    if (status == RK_OK)
        status = wal->fs->open(wal->fs, &segment->file, segment->path,
                               RK_FS_WRITE | RK_FS_CREATE | RK_FS_TRUNCATE);
    if (status != RK_OK) {
        rk_storage_fail(error, status, "cannot create %s: %s", segment->path,
                        rk_status_text(status));
        rk_free(segment);
        return status;
    }
    wal->fill = (struct rk_wal_fill){.segment = segment, .size = next_size(wal)};
    return RK_OK;
}

static void fill_give_up(struct rk_wal *wal)
{
    (void)wal->fs->unlink(wal->fs, wal->fill.segment->path);
    rk_wal_segment_free(wal, wal->fill.segment);
    wal->fill = (struct rk_wal_fill){0};
}

/* The whole file is zeros and synced: it takes its name. */
static enum rk_status fill_end(struct rk_wal *wal)
{
    struct rk_wal_segment *segment = wal->fill.segment;
    char path[RK_FS_PATH_MAX];
    enum rk_status status = rk_wal_segment_path(wal, path, segment->number);
    if (status == RK_OK) status = wal->fs->rename(wal->fs, segment->path, path);
    if (status == RK_OK) status = wal->fs->sync_dir(wal->fs, wal->dir);
    if (status != RK_OK) return status;
    memcpy(segment->path, path, sizeof(path));
    segment->size = wal->fill.size;
    wal->next_number++;
    wal->fill = (struct rk_wal_fill){0};
    rk_wal_add_spare(wal, segment);
    return RK_OK;
}

enum rk_status rk_wal_fill_step(struct rk_wal *wal, uint64_t bytes,
                                struct rk_storage_error *error)
{
    enum rk_status status = RK_OK;
    if (wal->fill.segment == NULL) {
        status = fill_begin(wal, error);
        if (status != RK_OK) return status;
    }
    struct rk_wal_fill *fill = &wal->fill;
    struct rk_file *file = fill->segment->file;
    uint64_t end = fill->size - fill->done < bytes ? fill->size : fill->done + bytes;
    while (status == RK_OK && fill->done < end) {
        uint64_t left = end - fill->done;
        size_t size = left < RK_WAL_ZEROS ? (size_t)left : RK_WAL_ZEROS;
        status = wal->fs->pwrite(file, fill->done, wal->zeros, size);
        if (status == RK_OK) fill->done += size;
    }
    /* Each piece is synced at once: a large dirty file would stall the log's own sync. */
    if (status == RK_OK) status = wal->fs->datasync(file);
    if (status == RK_OK && fill->done == fill->size) status = fill_end(wal);
    if (status != RK_OK) {
        rk_storage_fail(error, status,
                        "cannot fill %s with zeros up to byte %" PRIu64 ": %s",
                        fill->segment->path, end, rk_status_text(status));
        fill_give_up(wal);
    }
    return status;
}

/* A spare segment, made now if none is ready. */
static enum rk_status take_spare(struct rk_wal *wal, struct rk_wal_segment **out,
                                 struct rk_storage_error *error)
{
    if (rk_list_is_empty(&wal->spare)) wal->stats.fill_stalls++;
    while (rk_list_is_empty(&wal->spare)) {
        /* A large one may have been begun when there was more space. */
        bool is_large = wal->fill.size > wal->options.segment_first;
        enum rk_status status = rk_wal_fill_step(wal, UINT64_MAX, error);
        if (status == RK_EFULL && is_large) continue;
        if (status != RK_OK) return status;
    }
    struct rk_wal_segment *segment = rk_wal_segment_of(rk_list_first(&wal->spare));
    rk_list_remove(&segment->link);
    wal->spare_count--;
    wal->spare_bytes -= segment->size;
    *out = segment;
    return RK_OK;
}

/* The head and the opening batch into wal->opening. */
static enum rk_status encode_opening(struct rk_wal *wal,
                                     const struct rk_wal_segment *segment)
{
    struct rk_buf *buf = &wal->opening;
    rk_buf_reset(buf);
    uint8_t *head = rk_buf_extend(buf, RK_WAL_SEGMENT_HEAD + RK_WAL_BATCH_HEAD);
    if (head == NULL) return RK_ENOMEM;
    uint32_t count = 0;
    rk_wal_state_write(&wal->state, buf, &count);
    if (rk_buf_check(buf) != RK_OK) return RK_ENOMEM;
    size_t size = buf->size - RK_WAL_SEGMENT_HEAD - RK_WAL_BATCH_HEAD;
    size_t room = (size_t)rk_wal_batch_room(size) - RK_WAL_BATCH_HEAD;
    uint8_t *padding = rk_buf_extend(buf, room - size);
    if (padding == NULL && room > size) return RK_ENOMEM;
    if (room > size) memset(padding, 0, room - size);
    rk_wal_segment_head_encode(
        buf->data, &(struct rk_wal_segment_head){wal->id, segment->sequence, wal->next});
    rk_wal_batch_seal(buf->data + RK_WAL_SEGMENT_HEAD,
                      &(struct rk_wal_batch_head){.sequence = wal->next,
                                                  .durable = wal->durable,
                                                  .oldest = wal->oldest,
                                                  .size = (uint32_t)size,
                                                  .count = count,
                                                  .flags = RK_WAL_FLAG_OPENING},
                      segment->salt);
    return RK_OK;
}

enum rk_status rk_wal_roll(struct rk_wal *wal, struct rk_storage_error *error)
{
    struct rk_wal_segment *segment = NULL;
    RK_ASSERT(!wal->is_failed); /* rule 19 */
    enum rk_status status = take_spare(wal, &segment, error);
    if (status != RK_OK) return status;
    uint64_t sequence =
        rk_list_is_empty(&wal->used) ? 1 : rk_wal_current(wal)->sequence + 1;
    bool is_recycled = segment->first_batch != 0;
    segment->sequence = sequence;
    segment->salt = rk_wal_salt(wal->id, sequence);
    segment->first_batch = wal->next;
    memset(segment->last, 0, sizeof(segment->last));
    if (rk_list_is_empty(&wal->used)) wal->oldest = sequence;
    status = encode_opening(wal, segment);
    if (status == RK_OK)
        status = wal->fs->pwrite(segment->file, 0, wal->opening.data, wal->opening.size);
    if (status != RK_OK) {
        rk_storage_fail(error, status, "cannot open segment %" PRIu64 " in %s: %s",
                        sequence, segment->path, rk_status_text(status));
        rk_wal_segment_free(wal, segment);
        return status;
    }
    if (wal->opening.size > segment->size) segment->size = wal->opening.size;
    rk_list_push_back(&wal->used, &segment->link);
    wal->used_count++;
    wal->used_bytes += segment->size;
    wal->offset = wal->opening.size;
    wal->next++;
    wal->stats.bytes += wal->opening.size;
    wal->stats.segments_opened++;
    if (is_recycled) wal->stats.segments_recycled++;
    return RK_OK;
}

static bool is_needed(const struct rk_wal *wal, const struct rk_wal_segment *segment)
{
    for (uint32_t i = 0; i < wal->group_end; i++)
        if (segment->last[i] > wal->state.groups[i].compact_index) return true;
    return false;
}

void rk_wal_find_oldest(struct rk_wal *wal)
{
    const struct rk_wal_segment *current = rk_wal_current(wal);
    rk_list_each (link, &wal->used) {
        const struct rk_wal_segment *segment = rk_wal_segment_of(link);
        if (segment->sequence < wal->oldest) continue;
        wal->oldest = segment->sequence;
        if (segment == current || is_needed(wal, segment)) return;
    }
}

void rk_wal_recycle(struct rk_wal *wal)
{
    while (!rk_list_is_empty(&wal->used)) {
        struct rk_wal_segment *segment = rk_wal_segment_of(rk_list_first(&wal->used));
        if (segment->sequence >= wal->oldest_noted) return;
        rk_list_remove(&segment->link);
        wal->used_count--;
        wal->used_bytes -= segment->size;
        rk_wal_add_spare(wal, segment);
    }
}

enum rk_status rk_wal_shrink(struct rk_wal *wal, bool *out_removed,
                             struct rk_storage_error *error)
{
    *out_removed = false;
    uint64_t bytes = wal->used_bytes + wal->spare_bytes;
    if (wal->spare_count < 2 || bytes <= rk_wal_limit(wal, wal->live_bytes)) return RK_OK;
    /* The largest goes: what is left over from a burst. */
    struct rk_wal_segment *largest = NULL;
    rk_list_each (link, &wal->spare) {
        struct rk_wal_segment *segment = rk_wal_segment_of(link);
        if (largest == NULL || segment->size > largest->size) largest = segment;
    }
    RK_ASSERT(largest != NULL);
    enum rk_status status = wal->fs->unlink(wal->fs, largest->path);
    if (status == RK_OK) status = wal->fs->sync_dir(wal->fs, wal->dir);
    if (status != RK_OK)
        return rk_storage_fail(error, status, "cannot remove %s: %s", largest->path,
                               rk_status_text(status));
    rk_list_remove(&largest->link);
    wal->spare_count--;
    wal->spare_bytes -= largest->size;
    rk_wal_segment_free(wal, largest);
    *out_removed = true;
    return RK_OK;
}
