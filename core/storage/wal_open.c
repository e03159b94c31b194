#include "base/alloc.h"
#include "base/assert.h"
#include "base/mutant.h"
#include "storage/entry_log_private.h"
#include "storage/wal_private.h"
#include "storage/wal_scan.h"

#include <inttypes.h>

void rk_wal_options_init(struct rk_wal_options *options)
{
    *options = (struct rk_wal_options){
        .struct_size = sizeof(*options),
        .segment_first = RK_WAL_SEGMENT_FIRST,
        .segment_later = RK_WAL_SEGMENT_LATER,
        .cache_bytes = RK_ENTRY_LOG_CACHE_DEFAULT,
    };
}

void rk_wal_recovered_fini(struct rk_wal_recovered *recovered)
{
    for (uint32_t i = 0; i < RK_WAL_GROUPS_MAX; i++) {
        rk_buf_fini(&recovered->groups[i].mark_conf);
        rk_buf_fini(&recovered->groups[i].meta);
        rk_entry_log_free(recovered->groups[i].log);
    }
    rk_buf_fini(&recovered->node);
    *recovered = (struct rk_wal_recovered){0};
}

struct rk_wal *rk_wal_alloc(struct rk_fs *fs, const char *dir,
                            const struct rk_wal_options *options)
{
    struct rk_wal *wal = rk_calloc(1, sizeof(*wal));
    if (wal == NULL) return NULL;
    wal->fs = fs;
    wal->options = *options;
    wal->next_number = 1;
    wal->next = 1;
    rk_wal_state_init(&wal->state);
    rk_list_init(&wal->used);
    rk_list_init(&wal->spare);
    rk_buf_init(&wal->opening);
    wal->zeros = rk_calloc(1, RK_WAL_ZEROS);
    size_t length = strlen(dir);
    if (wal->zeros == NULL || length >= sizeof(wal->dir)) {
        rk_wal_free(wal);
        return NULL;
    }
    memcpy(wal->dir, dir, length + 1);
    return wal;
}

static void free_list(struct rk_wal *wal, struct rk_list *list)
{
    rk_list_each_safe (link, list) {
        rk_list_remove(link);
        rk_wal_segment_free(wal, rk_wal_segment_of(link));
    }
}

void rk_wal_free(struct rk_wal *wal)
{
    if (wal == NULL) return;
    free_list(wal, &wal->used);
    free_list(wal, &wal->spare);
    rk_wal_segment_free(wal, wal->fill.segment);
    rk_wal_state_fini(&wal->state);
    rk_buf_fini(&wal->opening);
    rk_free(wal->zeros);
    rk_free(wal);
}

/* Recovery under way. */
struct recovery {
    struct rk_wal *wal;
    struct rk_wal_scan *scan;
    struct rk_wal_recovered *out;
    struct rk_wal_batch batch; /* each batch, encoded anew: the writer's code takes it */
    struct rk_buf bytes;       /* the segment */
    struct rk_buf opening;     /* what an opening batch should say */
    struct rk_storage_error *error;
    const struct rk_wal_scan_file *file;
    struct rk_wal_segment *segment;
};

static enum rk_status damage(struct recovery *recovery, uint64_t offset, const char *what)
{
    return rk_storage_fail(recovery->error, RK_ECORRUPT, "%s: offset %" PRIu64 ": %s",
                           recovery->file->path, offset, what);
}

static enum rk_status open_segment(struct recovery *recovery,
                                   const struct rk_wal_scan_file *file,
                                   struct rk_wal_segment **out)
{
    struct rk_wal *wal = recovery->wal;
    struct rk_wal_segment *segment = rk_calloc(1, sizeof(*segment));
    if (segment == NULL)
        return rk_storage_fail(recovery->error, RK_ENOMEM, "no memory for a segment");
    memcpy(segment->path, file->path, sizeof(segment->path));
    segment->number = file->number;
    segment->size = file->size;
    enum rk_status status = wal->fs->open(wal->fs, &segment->file, file->path, RK_FS_WRITE);
    if (status != RK_OK) {
        rk_free(segment);
        return rk_storage_fail(recovery->error, status, "%s: cannot be opened: %s",
                               file->path, rk_status_text(status));
    }
    if (file->number >= wal->next_number) wal->next_number = file->number + 1;
    *out = segment;
    return RK_OK;
}

static struct rk_wal_group *group_of(struct recovery *recovery, uint32_t id)
{
    struct rk_wal_group *group = &recovery->out->groups[id];
    if (group->log == NULL)
        group->log = rk_entry_log_new(id, (size_t)recovery->wal->options.cache_bytes);
    return group->log == NULL ? NULL : group;
}

/* The opening batch of the oldest segment: where each group's log stood then. */
static enum rk_status restore_logs(struct recovery *recovery)
{
    for (uint32_t i = 0; i < RK_WAL_GROUPS_MAX; i++) {
        const struct rk_wal_group_state *state = &recovery->wal->state.groups[i];
        if (!state->is_present) continue;
        const struct rk_wal_group *group = group_of(recovery, i);
        if (group == NULL) return RK_ENOMEM;
        bool is_known = state->last == state->compact_index;
        rk_entry_log_begin(group->log, state->last, is_known ? state->compact_term : 0);
        recovery->wal->group_end = i + 1;
    }
    return RK_OK;
}

static enum rk_status take_opening(struct recovery *recovery, struct rk_slice records,
                                   uint64_t offset, bool is_oldest)
{
    struct rk_wal_state *state = &recovery->wal->state;
    if (!is_oldest) {
        uint32_t count = 0;
        rk_buf_reset(&recovery->opening);
        rk_wal_state_write(state, &recovery->opening, &count);
        if (rk_buf_check(&recovery->opening) != RK_OK) return RK_ENOMEM;
        if (!rk_slice_is_equal(records, rk_buf_slice(&recovery->opening)))
            return damage(recovery, offset,
                          "the opening batch contradicts what came before");
        return RK_OK;
    }
    struct rk_reader reader;
    rk_reader_init(&reader, records);
    while (rk_reader_left(&reader) > 0) {
        struct rk_wal_record record;
        if (!rk_wal_record_read(&reader, &record))
            return damage(recovery, offset, "the opening batch has a malformed record");
        enum rk_status status = rk_wal_state_restore(state, &record, recovery->error);
        if (status != RK_OK) return status == RK_EINVAL ? RK_ECORRUPT : status;
    }
    return restore_logs(recovery);
}

/* The same record again through the encoder. */
static enum rk_status encode_again(struct rk_wal_batch *batch,
                                   const struct rk_wal_record *record)
{
    uint32_t group = record->group;
    struct rk_raft_entry entry = {record->index, record->term, record->blob, record->type};
    struct rk_raft_hard_state hard = {record->term, record->vote, record->commit};
    switch (record->kind) {
    case RK_WAL_ENTRY: return rk_wal_batch_entries(batch, group, &entry, 1);
    case RK_WAL_HARD: return rk_wal_batch_hard_state(batch, group, hard);
    case RK_WAL_TRUNCATE: return rk_wal_batch_truncate(batch, group, record->index);
    case RK_WAL_COMPACT:
        return rk_wal_batch_compact(batch, group, record->index, record->term);
    case RK_WAL_MARK:
        return rk_wal_batch_mark(batch, group, record->index, record->term, record->blob);
    case RK_WAL_INSTALL:
        return rk_wal_batch_install(batch, group, record->index, record->term,
                                    record->blob);
    case RK_WAL_META: return rk_wal_batch_meta(batch, group, record->blob);
    case RK_WAL_NODE: return rk_wal_batch_node(batch, record->blob);
    case RK_WAL_LAST: break;
    }
    return RK_EINVAL;
}

/* What the record does to the group's entry log. A log that begins after entries of freed
 * segments has them below its base; records about those only move the base. */
static enum rk_status replay(struct recovery *recovery, const struct rk_wal_record *record,
                             uint64_t offset)
{
    if (record->kind == RK_WAL_NODE) return RK_OK;
    const struct rk_wal_group *group = group_of(recovery, record->group);
    if (group == NULL) return RK_ENOMEM;
    struct rk_entry_log *log = group->log;
    uint64_t base = rk_entry_log_first(log) - 1;
    switch (record->kind) {
    case RK_WAL_ENTRY: {
        struct rk_raft_entry entry = {record->index, record->term, record->blob,
                                      record->type};
        if (record->index != rk_entry_log_last(log) + 1)
            return damage(recovery, offset, "an entry does not follow the one before");
        if (record->term < rk_entry_log_last_term(log))
            return damage(recovery, offset, "an entry's term is below the one before");
        return rk_entry_log_append(log, &entry, 1);
    }
    case RK_WAL_TRUNCATE:
        if (record->index > base)
            rk_entry_log_truncate(log, record->index);
        else
            rk_entry_log_cut_below(log, record->index);
        return RK_OK;
    case RK_WAL_COMPACT:
        if (record->index > rk_entry_log_last(log))
            return damage(recovery, offset, "a compaction is above the last entry");
        if (record->index > base) rk_entry_log_compact(log, record->index);
        return RK_OK;
    case RK_WAL_INSTALL:
        rk_entry_log_install(log, record->index, record->term);
        return RK_OK;
    case RK_WAL_HARD:
    case RK_WAL_MARK:
    case RK_WAL_META:
    case RK_WAL_NODE:
    case RK_WAL_LAST: break;
    }
    return RK_OK;
}

static enum rk_status stored(struct recovery *recovery)
{
    struct rk_wal_batch *batch = &recovery->batch;
    bool is_done[RK_WAL_GROUPS_MAX] = {false};
    for (uint32_t i = 0; i < batch->item_count; i++) {
        uint32_t id = batch->items[i].group;
        if (is_done[id] || batch->items[i].kind == RK_WAL_NODE) continue;
        is_done[id] = true;
        struct rk_entry_log *log = recovery->out->groups[id].log;
        if (rk_entry_log_stored(log, batch) != RK_OK) return RK_ENOMEM;
        rk_entry_log_trim(log);
    }
    return RK_OK;
}

static enum rk_status take_batch(struct recovery *recovery, struct rk_slice records,
                                 uint64_t offset)
{
    struct rk_wal *wal = recovery->wal;
    struct rk_wal_batch *batch = &recovery->batch;
    rk_wal_batch_reset(batch);
    struct rk_reader reader;
    rk_reader_init(&reader, records);
    enum rk_status status = RK_OK;
    while (status == RK_OK && rk_reader_left(&reader) > 0) {
        struct rk_wal_record record;
        if (!rk_wal_record_read(&reader, &record))
            return damage(recovery, offset, "the batch has a malformed record");
        status = encode_again(batch, &record);
        if (status == RK_OK) status = replay(recovery, &record, offset);
        if (status == RK_EINVAL || status == RK_ESIZE || status == RK_ELIMIT)
            return damage(recovery, offset, "the batch has a record out of bounds");
    }
    if (status != RK_OK || records.size == 0) return status;
    struct rk_slice again = rk_slice_of(batch->buf.data + RK_WAL_BATCH_HEAD,
                                        batch->buf.size - RK_WAL_BATCH_HEAD);
    if (!rk_slice_is_equal(records, again))
        return damage(recovery, offset, "the batch is not encoded as this program does");
    struct rk_storage_error reason = {.message = ""};
    status = rk_wal_take_items(wal, batch, recovery->segment, &reason);
    if (status == RK_EINVAL) return damage(recovery, offset, reason.message);
    if (status != RK_OK) return status;
    rk_wal_place_runs(batch, recovery->segment, offset);
    return stored(recovery);
}

/* Writes zeros over the heads of dropped batches, so that none of them can ever come to
 * follow a new one; and over the segment's own head if has_head. */
static enum rk_status erase(struct recovery *recovery, struct rk_wal_segment *segment,
                            const struct rk_buf *offsets, bool has_head)
{
    struct rk_wal *wal = recovery->wal;
    enum rk_status status = RK_OK;
    if (has_head) status = wal->fs->pwrite(segment->file, 0, wal->zeros, RK_WAL_SECTOR);
    for (size_t i = 0; status == RK_OK && i < offsets->size; i += 8)
        status = wal->fs->pwrite(segment->file, rk_take_u64(offsets->data + i), wal->zeros,
                                 RK_WAL_SECTOR);
    if (status == RK_OK && (has_head || offsets->size > 0))
        status = wal->fs->datasync(segment->file);
    if (status != RK_OK)
        return rk_storage_fail(recovery->error, status, "%s: cannot erase a torn tail: %s",
                               segment->path, rk_status_text(status));
    return RK_OK;
}

static enum rk_status check_tail(struct recovery *recovery,
                                 const struct rk_wal_cursor *cursor, bool has_head)
{
    struct rk_wal_leftover leftover;
    enum rk_status status = rk_wal_cursor_leftover(cursor, &leftover);
    if (status == RK_OK && leftover.is_proof && !RK_MUTANT(damage_is_torn_tail))
        status = rk_storage_fail(recovery->error, RK_ECORRUPT,
                                 "%s: offset %" PRIu64 ": batch %" PRIu64
                                 " is damaged or missing, but batch %" PRIu64
                                 " at offset %" PRIu64 " says that it was durable",
                                 recovery->file->path, cursor->offset, cursor->next,
                                 leftover.proof_sequence, leftover.proof_offset);
    if (status == RK_OK)
        status = erase(recovery, recovery->segment, &leftover.offsets, has_head);
    if (status == RK_OK && leftover.count > 0)
        recovery->out->dropped_bytes += cursor->bytes.size - leftover.first_offset;
    rk_buf_fini(&leftover.offsets);
    return status;
}

static enum rk_status not_followed(const struct recovery *recovery, const char *path,
                                   uint64_t first_batch)
{
    const struct rk_wal *wal = recovery->wal;
    return rk_storage_fail(
        recovery->error, RK_ECORRUPT,
        "%s: offset %" PRIu64 ": batch %" PRIu64
        " is damaged or missing, but the next segment begins with %" PRIu64,
        path, wal->offset, wal->next, first_batch);
}

static enum rk_status take_segment(struct recovery *recovery, uint32_t at)
{
    const struct rk_wal_scan *scan = recovery->scan;
    struct rk_wal *wal = recovery->wal;
    const struct rk_wal_scan_file *file = recovery->file = &scan->files[at];
    enum rk_status status = open_segment(recovery, file, &recovery->segment);
    if (status != RK_OK) return status;
    struct rk_wal_segment *segment = recovery->segment;
    segment->sequence = file->head.sequence;
    segment->first_batch = file->head.first_batch;
    segment->salt = rk_wal_salt(scan->id, segment->sequence);
    rk_list_push_back(&wal->used, &segment->link);
    wal->used_count++;
    wal->used_bytes += segment->size;

    bool is_oldest = at == scan->from;
    if (!is_oldest && file->head.first_batch != wal->next)
        return not_followed(recovery, scan->files[at - 1].path, file->head.first_batch);
    status = rk_wal_scan_load(scan, file, &recovery->bytes, recovery->error);
    if (status != RK_OK) return status;
    struct rk_wal_cursor cursor;
    struct rk_wal_batch_head head;
    uint64_t offset = 0;
    rk_wal_cursor_init(&cursor, scan, &file->head, rk_buf_slice(&recovery->bytes));
    while (status == RK_OK && rk_wal_cursor_next(&cursor, &head, &offset)) {
        struct rk_slice records =
            rk_slice_of(recovery->bytes.data + offset + RK_WAL_BATCH_HEAD, head.size);
        bool is_first = head.sequence == file->head.first_batch;
        if (is_first != ((head.flags & RK_WAL_FLAG_OPENING) != 0))
            return damage(recovery, offset, "an opening batch is missing or out of place");
        status = is_first ? take_opening(recovery, records, offset, is_oldest)
                          : take_batch(recovery, records, offset);
        wal->oldest = wal->oldest_noted = head.oldest;
        wal->needs_note = head.count > 0;
        recovery->out->batch_count++;
    }
    wal->next = cursor.next;
    wal->offset = cursor.offset;
    if (status != RK_OK) return status;
    if (at == scan->to) status = check_tail(recovery, &cursor, false);
    return status == RK_OK ? wal->fs->datasync(segment->file) : status;
}

/* A file that is not of the log: it may hold the torn start of the next segment, or proof
 * that the next segment was durable and is damaged. Becomes a spare one. */
static enum rk_status take_spare(struct recovery *recovery,
                                 const struct rk_wal_scan_file *file)
{
    struct rk_wal *wal = recovery->wal;
    uint64_t sequence = rk_wal_current(wal)->sequence + 1;
    recovery->file = file;
    enum rk_status status =
        rk_wal_scan_load(recovery->scan, file, &recovery->bytes, recovery->error);
    if (status == RK_OK && rk_wal_scan_is_proof(file, sequence, wal->next) &&
        !RK_MUTANT(damage_is_torn_tail))
        status = not_followed(recovery, rk_wal_current(wal)->path, file->head.first_batch);
    if (status == RK_OK) status = open_segment(recovery, file, &recovery->segment);
    if (status != RK_OK) return status;
    struct rk_wal_cursor cursor;
    struct rk_wal_segment_head head = {wal->id, sequence, wal->next};
    rk_wal_cursor_init(&cursor, recovery->scan, &head, rk_buf_slice(&recovery->bytes));
    bool is_newer = file->has_head && file->head.sequence >= sequence;
    status = check_tail(recovery, &cursor, is_newer);
    if (status != RK_OK) {
        rk_wal_segment_free(wal, recovery->segment);
        return status;
    }
    recovery->segment->first_batch = file->has_head ? file->head.first_batch : 0;
    rk_wal_add_spare(wal, recovery->segment);
    return RK_OK;
}

/* The groups' states for the host, and the last check: no entry is missing. */
static enum rk_status report(struct recovery *recovery)
{
    struct rk_wal_recovered *out = recovery->out;
    struct rk_wal *wal = recovery->wal;
    for (uint32_t i = 0; i < RK_WAL_GROUPS_MAX; i++) {
        const struct rk_wal_group_state *state = &wal->state.groups[i];
        struct rk_wal_group *group = &out->groups[i];
        if (!state->is_present) continue;
        group = group_of(recovery, i);
        if (group == NULL) return RK_ENOMEM;
        uint64_t base = rk_entry_log_first(group->log) - 1;
        if (base != state->compact_index || rk_entry_log_last(group->log) != state->last)
            return rk_storage_fail(recovery->error, RK_ECORRUPT,
                                   "%s: group %" PRIu32 ": entries after %" PRIu64
                                   " up to %" PRIu64 " are missing: the log has %" PRIu64
                                   " to %" PRIu64,
                                   wal->dir, i, state->compact_index, state->last, base + 1,
                                   rk_entry_log_last(group->log));
        rk_entry_log_set_base_term(group->log, state->compact_term);
        group->is_present = true;
        group->hard = state->hard;
        group->mark_index = state->mark_index;
        group->mark_term = state->mark_term;
        rk_buf_append_slice(&group->mark_conf, rk_buf_slice(&state->mark_conf));
        rk_buf_append_slice(&group->meta, rk_buf_slice(&state->meta));
        if (rk_buf_check(&group->mark_conf) != RK_OK || rk_buf_check(&group->meta) != RK_OK)
            return RK_ENOMEM;
    }
    rk_buf_append_slice(&out->node, rk_buf_slice(&wal->state.node));
    out->id = wal->id;
    out->last_sequence = wal->durable;
    return rk_buf_check(&out->node);
}

static enum rk_status recover(struct recovery *recovery)
{
    struct rk_wal_scan *scan = recovery->scan;
    struct rk_wal *wal = recovery->wal;
    wal->id = scan->id;
    enum rk_status status = rk_wal_scan_chain(scan, recovery->error);
    if (status != RK_OK) return status;
    for (uint32_t i = scan->from; status == RK_OK && i <= scan->to; i++)
        status = take_segment(recovery, i);
    for (uint32_t i = 0; status == RK_OK && i < scan->count; i++)
        if (i < scan->from || i > scan->to) status = take_spare(recovery, &scan->files[i]);
    if (status != RK_OK) return status;
    wal->durable = wal->next - 1;
    rk_wal_recycle(wal);
    rk_wal_find_oldest(wal);
    return report(recovery);
}

/* Without the file "id" the log was never in use, unless there is more than its birth. */
static enum rk_status check_unborn(struct recovery *recovery)
{
    struct rk_wal_scan *scan = recovery->scan;
    for (uint32_t i = 0; i < scan->count; i++) {
        const struct rk_wal_scan_file *file = &scan->files[i];
        bool is_used = file->has_head && file->head.sequence != 1;
        if (file->has_head && !is_used) {
            scan->id = file->head.id;
            enum rk_status status =
                rk_wal_scan_load(scan, file, &recovery->bytes, recovery->error);
            if (status != RK_OK) return status;
            struct rk_wal_cursor cursor;
            struct rk_wal_leftover leftover;
            rk_wal_cursor_init(&cursor, scan, &file->head, rk_buf_slice(&recovery->bytes));
            cursor.next++; /* the opening batch alone is no use */
            status = rk_wal_cursor_leftover(&cursor, &leftover);
            is_used = leftover.count > 0;
            rk_buf_fini(&leftover.offsets);
            if (status != RK_OK) return status;
        }
        if (is_used)
            return rk_storage_fail(
                recovery->error, RK_ECORRUPT,
                "%s: holds a log in use, but the file \"id\" beside it is "
                "missing",
                file->path);
    }
    return RK_OK;
}

/* The first segment, durable, and then the file "id", which makes the log count. */
static enum rk_status give_birth(struct recovery *recovery)
{
    struct rk_wal *wal = recovery->wal;
    struct rk_storage_error *error = recovery->error;
    enum rk_status status = check_unborn(recovery);
    for (uint32_t i = 0; status == RK_OK && i < recovery->scan->count; i++)
        status = wal->fs->unlink(wal->fs, recovery->scan->files[i].path);
    if (status != RK_OK) return status;
    RK_ASSERT(wal->options.id != 0);
    wal->id = wal->options.id;
    status = rk_wal_roll(wal, error);
    if (status == RK_OK) status = wal->fs->datasync(rk_wal_current(wal)->file);
    if (status != RK_OK) return status;
    wal->durable = wal->next - 1;
    wal->oldest_noted = wal->oldest;
    uint8_t bytes[RK_WAL_ID_SIZE];
    rk_wal_id_encode(bytes, wal->id);
    status = rk_fs_write_file(wal->fs, wal->dir, "id", rk_slice_of(bytes, sizeof(bytes)));
    if (status != RK_OK)
        return rk_storage_fail(error, status, "%s/id: cannot be written: %s", wal->dir,
                               rk_status_text(status));
    recovery->out->is_new = true;
    return report(recovery);
}

static enum rk_status open_dir(struct recovery *recovery)
{
    struct rk_wal *wal = recovery->wal;
    char fill[RK_FS_PATH_MAX];
    enum rk_status status = rk_fs_make_dir(wal->fs, wal->dir);
    if (status != RK_OK)
        return rk_storage_fail(recovery->error, status, "%s: cannot be made: %s", wal->dir,
                               rk_status_text(status));
    status = rk_fs_join(fill, wal->dir, "fill.tmp");
    if (status == RK_OK) status = wal->fs->unlink(wal->fs, fill);
    if (status != RK_OK && status != RK_ENOENT)
        return rk_storage_fail(recovery->error, status, "%s: cannot be removed: %s", fill,
                               rk_status_text(status));
    status = rk_wal_scan_dir(recovery->scan, wal->fs, wal->dir, recovery->error);
    if (status != RK_OK) return status;
    return recovery->scan->has_id ? recover(recovery) : give_birth(recovery);
}

enum rk_status rk_wal_open(struct rk_wal **out, struct rk_fs *fs, const char *dir,
                           const struct rk_wal_options *options,
                           struct rk_wal_recovered *recovered,
                           struct rk_storage_error *error)
{
    RK_ASSERT(options->struct_size == sizeof(*options));
    RK_ASSERT(options->segment_first % 4096 == 0 && options->segment_first >= 16384);
    RK_ASSERT(options->segment_later % 4096 == 0 &&
              options->segment_later >= options->segment_first);
    *recovered = (struct rk_wal_recovered){0};
    if (error != NULL) error->message[0] = '\0';
    struct rk_wal_scan scan = {0};
    struct recovery recovery = {
        .wal = rk_wal_alloc(fs, dir, options),
        .scan = &scan,
        .out = recovered,
        .error = error,
    };
    rk_wal_batch_init(&recovery.batch);
    enum rk_status status = recovery.wal == NULL ? RK_ENOMEM : open_dir(&recovery);
    rk_wal_batch_fini(&recovery.batch);
    rk_buf_fini(&recovery.bytes);
    rk_buf_fini(&recovery.opening);
    rk_wal_scan_fini(&scan);
    if (status == RK_OK) {
        *out = recovery.wal;
        return RK_OK;
    }
    if (error != NULL && error->message[0] == '\0')
        rk_storage_fail(error, status, "%s: %s", dir, rk_status_text(status));
    rk_wal_recovered_fini(recovered);
    rk_wal_free(recovery.wal);
    return status;
}
