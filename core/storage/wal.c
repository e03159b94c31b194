#include "storage/wal.h"

#include "base/assert.h"
#include "base/mutant.h"
#include "base/crc32c.h"
#include "storage/wal_private.h"

#include <inttypes.h>

enum { FILL_STEP_MIN = 256 << 10 };

static struct rk_wal_record record_of(const struct rk_wal_batch *batch,
                                      const struct rk_wal_item *item)
{
    struct rk_wal_record record = {
        .kind = (enum rk_wal_kind)item->kind,
        .group = item->group,
        .index = item->index,
        .term = item->term,
        .vote = item->vote,
        .blob = {batch->buf.data + item->offset, item->size},
    };
    if (item->kind == RK_WAL_ENTRY)
        record.count = batch->runs[item->extra].count;
    else
        record.commit = item->extra;
    return record;
}

/* Entries from `from` on are gone from all segments. */
static void cut_segments(struct rk_wal *wal, uint32_t group, uint64_t from)
{
    rk_list_each (link, &wal->used) {
        struct rk_wal_segment *segment = rk_wal_segment_of(link);
        if (segment->last[group] >= from) segment->last[group] = from - 1;
    }
}

enum rk_status rk_wal_take_items(struct rk_wal *wal, const struct rk_wal_batch *batch,
                                 struct rk_wal_segment *segment,
                                 struct rk_storage_error *error)
{
    for (uint32_t i = 0; i < batch->item_count; i++) {
        const struct rk_wal_record record = record_of(batch, &batch->items[i]);
        enum rk_status status = rk_wal_state_apply(&wal->state, &record, error);
        if (status == RK_ENOMEM)
            rk_storage_fail(error, status, "no memory to follow the log");
        if (status != RK_OK) return status;
        if (record.group >= wal->group_end) wal->group_end = record.group + 1;
        if (record.kind == RK_WAL_ENTRY)
            segment->last[record.group] = record.index + record.count - 1;
        else if (record.kind == RK_WAL_TRUNCATE)
            cut_segments(wal, record.group, record.index);
        else if (record.kind == RK_WAL_INSTALL)
            cut_segments(wal, record.group, 1);
    }
    return RK_OK;
}

void rk_wal_place_runs(struct rk_wal_batch *batch, struct rk_wal_segment *segment,
                       uint64_t offset)
{
    for (uint32_t i = 0; i < batch->run_count; i++) {
        struct rk_wal_run *run = &batch->runs[i];
        run->crc = rk_crc32c(0, batch->buf.data + run->offset, run->size);
        run->offset += offset;
        run->segment = segment;
    }
}

/* Seals, pads and writes buf, which begins with room for the head, and syncs. */
static enum rk_status put(struct rk_wal *wal, struct rk_buf *buf, uint32_t count,
                          struct rk_storage_error *error)
{
    struct rk_wal_segment *segment = rk_wal_current(wal);
    RK_ASSERT(!wal->is_failed); /* rule 19 */
    struct rk_wal_batch_head head = {
        .sequence = wal->next,
        .durable = wal->durable,
        .oldest = wal->oldest,
        .size = (uint32_t)(buf->size - RK_WAL_BATCH_HEAD),
        .count = count,
    };
    size_t padding = (size_t)rk_wal_batch_room(head.size) - buf->size;
    uint8_t *end = rk_buf_extend(buf, padding);
    RK_ASSERT(end != NULL || padding == 0); /* reserved by the encoder */
    if (padding > 0) memset(end, 0, padding);
    rk_wal_batch_seal(buf->data, &head, segment->salt);

    enum rk_status status =
        wal->fs->pwrite(segment->file, wal->offset, buf->data, buf->size);
    if (status == RK_OK && !RK_MUTANT(log_not_synced))
        status = wal->fs->datasync(segment->file);
    if (status != RK_OK)
        return rk_storage_fail(
            error, status,
            "cannot write batch %" PRIu64 " (%zu bytes) at offset %" PRIu64 " of %s: %s",
            head.sequence, buf->size, wal->offset, segment->path, rk_status_text(status));
    wal->offset += buf->size;
    if (wal->offset > segment->size) {
        wal->used_bytes += wal->offset - segment->size;
        segment->size = wal->offset;
    }
    wal->durable = wal->next++;
    wal->oldest_noted = head.oldest;
    wal->last_written = buf->size;
    wal->stats.bytes += buf->size;
    wal->stats.syncs++;
    return RK_OK;
}

static enum rk_status make_room(struct rk_wal *wal, size_t size,
                                struct rk_storage_error *error)
{
    uint64_t room = rk_wal_batch_room(size - RK_WAL_BATCH_HEAD);
    if (wal->offset + room <= rk_wal_current(wal)->size) return RK_OK;
    return rk_wal_roll(wal, error);
}

static enum rk_status write_batch(struct rk_wal *wal, struct rk_wal_batch *batch,
                                  struct rk_storage_error *error)
{
    wal->live_bytes = batch->live_bytes;
    enum rk_status status = make_room(wal, batch->buf.size, error);
    if (status != RK_OK) return status;
    struct rk_wal_segment *segment = rk_wal_current(wal);
    status = rk_wal_take_items(wal, batch, segment, error);
    if (status != RK_OK) return status;
    rk_wal_place_runs(batch, segment, wal->offset);
    status = put(wal, &batch->buf, batch->record_count, error);
    if (status != RK_OK) return status;
    wal->needs_note = true;
    wal->stats.batches++;
    rk_wal_recycle(wal);
    rk_wal_find_oldest(wal);
    return RK_OK;
}

enum rk_status rk_wal_write(struct rk_wal *wal, struct rk_wal_batch *batch,
                            struct rk_storage_error *error)
{
    batch->result = (struct rk_wal_result){0};
    if (wal->is_failed)
        return rk_storage_fail(error, RK_ECLOSED, "the log in %s failed before", wal->dir);
    if (!rk_wal_batch_is_empty(batch)) {
        enum rk_status status = write_batch(wal, batch, error);
        if (status != RK_OK) {
            wal->is_failed = true;
            return status;
        }
        batch->result.sequence = wal->durable;
        batch->result.written_bytes = wal->last_written;
    }
    rk_wal_space(wal, batch->live_bytes, &batch->result.space);
    return RK_OK;
}

/* An empty batch: from now on damage to the one before it is proof of corruption. */
static enum rk_status write_note(struct rk_wal *wal, struct rk_storage_error *error)
{
    struct rk_buf buf;
    rk_buf_init(&buf);
    enum rk_status status = RK_ENOMEM;
    if (rk_buf_reserve(&buf, RK_WAL_SECTOR) == RK_OK) {
        memset(rk_buf_extend(&buf, RK_WAL_BATCH_HEAD), 0, RK_WAL_BATCH_HEAD);
        status = make_room(wal, buf.size, error);
        if (status == RK_OK) status = put(wal, &buf, 0, error);
    }
    rk_buf_fini(&buf);
    if (status != RK_OK) return status;
    wal->needs_note = false;
    wal->stats.idle_batches++;
    rk_wal_recycle(wal);
    rk_wal_find_oldest(wal);
    return RK_OK;
}

static bool wants_fill(const struct rk_wal *wal, bool is_idle)
{
    if (wal->spare_count > 0) return false;
    return is_idle || wal->offset > rk_wal_current(wal)->size / 2;
}

static enum rk_status tend(struct rk_wal *wal, bool is_idle, bool *out_more,
                           struct rk_storage_error *error)
{
    bool is_note_due = wal->needs_note || wal->oldest > wal->oldest_noted;
    bool has_room = wal->offset + RK_WAL_SECTOR <= rk_wal_current(wal)->size;
    enum rk_status status = RK_OK;
    if (is_idle && is_note_due && (has_room || wal->spare_count > 0)) {
        *out_more = true;
        status = write_note(wal, error);
        if (status != RK_OK) wal->is_failed = true;
        return status;
    }
    bool is_removed = false;
    status = rk_wal_shrink(wal, &is_removed, error);
    if (status != RK_OK || is_removed) {
        *out_more = is_idle && is_removed;
        return status;
    }
    if (!wants_fill(wal, is_idle)) return RK_OK;
    uint64_t step = is_idle ? RK_WAL_ZEROS : 2 * wal->last_written;
    status = rk_wal_fill_step(wal, step < FILL_STEP_MIN ? FILL_STEP_MIN : step, error);
    *out_more = is_idle && status == RK_OK && wal->spare_count == 0;
    return status;
}

enum rk_status rk_wal_tend(struct rk_wal *wal, bool is_idle, bool *out_more,
                           struct rk_storage_error *error)
{
    *out_more = false;
    if (wal->is_failed)
        return rk_storage_fail(error, RK_ECLOSED, "the log in %s failed before", wal->dir);
    enum rk_status status = tend(wal, is_idle, out_more, error);
    if (status != RK_OK && status != RK_EFULL) wal->is_failed = true;
    if (status != RK_OK) *out_more = false;
    return status;
}

/* The first group that has entries in the oldest segment it needs. */
static void find_holder(const struct rk_wal *wal, struct rk_wal_space *out)
{
    rk_list_each (link, &wal->used) {
        const struct rk_wal_segment *segment = rk_wal_segment_of(link);
        if (segment->sequence < wal->oldest || segment == rk_wal_current(wal)) continue;
        for (uint32_t i = 0; i < wal->group_end; i++) {
            if (segment->last[i] <= wal->state.groups[i].compact_index) continue;
            out->is_over = true;
            out->group = i;
            out->index = segment->last[i];
            return;
        }
        return;
    }
}

void rk_wal_space(const struct rk_wal *wal, uint64_t live_bytes, struct rk_wal_space *out)
{
    *out = (struct rk_wal_space){
        .file_bytes = wal->used_bytes + wal->spare_bytes,
        .used_bytes = wal->used_bytes,
        .limit_bytes = rk_wal_limit(wal, live_bytes),
    };
    /* The current segment once more and a spare one: room for the log to go on while the
     * snapshot is being written. */
    uint64_t ahead = rk_wal_current(wal)->size + wal->options.segment_first;
    if (wal->used_bytes + ahead > out->limit_bytes) find_holder(wal, out);
}

void rk_wal_stats(const struct rk_wal *wal, struct rk_wal_stats *out)
{
    *out = wal->stats;
}
