#include "storage/inspect.h"

#include "base/alloc.h"
#include "base/assert.h"
#include "storage/snapshot_format.h"
#include "storage/wal_scan.h"
#include "storage/wal_state.h"

#include <inttypes.h>

static const char *const kinds[] = {
    [RK_WAL_ENTRY] = "entry",       [RK_WAL_HARD] = "hard-state",
    [RK_WAL_TRUNCATE] = "truncate", [RK_WAL_COMPACT] = "compact",
    [RK_WAL_MARK] = "mark",         [RK_WAL_INSTALL] = "install",
    [RK_WAL_META] = "meta",         [RK_WAL_NODE] = "node",
    [RK_WAL_LAST] = "last",
};

struct inspection {
    struct rk_fs *fs;
    const struct rk_storage_inspect_options *options;
    struct rk_buf *out;
    uint64_t faults;
    struct rk_wal_state *state; /* owned */
    struct rk_buf bytes;
    uint64_t next; /* number of the first batch that was not found */
    uint64_t end;  /* its offset in the last segment */
    uint64_t entries;
};

void rk_storage_inspect_options_init(struct rk_storage_inspect_options *options)
{
    *options =
        (struct rk_storage_inspect_options){.struct_size = sizeof(*options), .group = -1};
}

static void fault(struct inspection *inspection, const char *path, uint64_t offset,
                  const char *what)
{
    inspection->faults++;
    rk_buf_printf(inspection->out, "FAULT %s: offset %" PRIu64 ": %s\n", path, offset,
                  what);
}

static void print_record(struct inspection *inspection, const struct rk_wal_record *record)
{
    const struct rk_storage_inspect_options *options = inspection->options;
    if (!options->has_records) return;
    if (options->group >= 0 && (uint64_t)options->group != record->group) return;
    struct rk_buf *out = inspection->out;
    rk_buf_printf(out, "    %s", kinds[record->kind]);
    if (record->kind != RK_WAL_NODE) rk_buf_printf(out, " group %" PRIu32, record->group);
    switch (record->kind) {
    case RK_WAL_ENTRY:
        rk_buf_printf(out, " index %" PRIu64 " term %" PRIu64 " type %u", record->index,
                      record->term, record->type);
        break;
    case RK_WAL_HARD:
        rk_buf_printf(out, " term %" PRIu64 " vote %" PRIu64 " commit %" PRIu64,
                      record->term, record->vote, record->commit);
        break;
    case RK_WAL_TRUNCATE:
    case RK_WAL_LAST: rk_buf_printf(out, " index %" PRIu64, record->index); break;
    case RK_WAL_COMPACT:
    case RK_WAL_MARK:
    case RK_WAL_INSTALL:
        rk_buf_printf(out, " index %" PRIu64 " term %" PRIu64, record->index, record->term);
        break;
    case RK_WAL_META:
    case RK_WAL_NODE: break;
    }
    if (record->blob.data != NULL) rk_buf_printf(out, " bytes %zu", record->blob.size);
    rk_buf_append_string(out, "\n");
}

static enum rk_status take_records(struct inspection *inspection, const char *path,
                                   const struct rk_wal_batch_head *head,
                                   struct rk_slice records, uint64_t offset, bool is_oldest)
{
    bool is_opening = (head->flags & RK_WAL_FLAG_OPENING) != 0;
    struct rk_reader reader;
    rk_reader_init(&reader, records);
    while (rk_reader_left(&reader) > 0) {
        struct rk_wal_record record;
        if (!rk_wal_record_read(&reader, &record)) {
            fault(inspection, path, offset, "malformed record");
            return RK_OK;
        }
        print_record(inspection, &record);
        if (record.kind == RK_WAL_ENTRY) inspection->entries++;
        if (is_opening && !is_oldest) continue;
        struct rk_storage_error error = {.message = ""};
        enum rk_status status =
            is_opening ? rk_wal_state_restore(inspection->state, &record, &error)
                       : rk_wal_state_apply(inspection->state, &record, &error);
        if (status == RK_ENOMEM) return status;
        if (status != RK_OK) fault(inspection, path, offset, error.message);
    }
    return RK_OK;
}

static enum rk_status inspect_tail(struct inspection *inspection, const char *path,
                                   const struct rk_wal_cursor *cursor)
{
    struct rk_wal_leftover leftover;
    enum rk_status status = rk_wal_cursor_leftover(cursor, &leftover);
    if (leftover.is_proof)
        fault(inspection, path, cursor->offset,
              "damaged or missing batch, which a later one says was durable");
    else if (leftover.count > 0)
        rk_buf_printf(inspection->out, "  torn tail at offset %" PRIu64 "\n",
                      cursor->offset);
    rk_buf_fini(&leftover.offsets);
    return status;
}

static enum rk_status inspect_segment(struct inspection *inspection,
                                      const struct rk_wal_scan *scan, uint32_t at,
                                      struct rk_storage_error *error)
{
    const struct rk_wal_scan_file *file = &scan->files[at];
    enum rk_status status = rk_wal_scan_load(scan, file, &inspection->bytes, error);
    if (status != RK_OK) return status;
    if (at > scan->from && file->head.first_batch != inspection->next)
        fault(inspection, scan->files[at - 1].path, scan->files[at - 1].size,
              "batches before the next segment are damaged or missing");
    struct rk_wal_cursor cursor;
    struct rk_wal_batch_head head;
    uint64_t offset = 0;
    uint64_t entries = inspection->entries;
    rk_wal_cursor_init(&cursor, scan, &file->head, rk_buf_slice(&inspection->bytes));
    rk_buf_printf(inspection->out,
                  "segment %" PRIu64 " %s size %" PRIu64 " first batch %" PRIu64 "\n",
                  file->head.sequence, file->path, file->size, file->head.first_batch);
    while (status == RK_OK && rk_wal_cursor_next(&cursor, &head, &offset)) {
        if (inspection->options->has_batches)
            rk_buf_printf(inspection->out,
                          "  batch %" PRIu64 " offset %" PRIu64 " bytes %" PRIu32
                          " records %" PRIu32 " durable %" PRIu64 " oldest segment %" PRIu64
                          "%s\n",
                          head.sequence, offset, head.size, head.count, head.durable,
                          head.oldest, head.flags & RK_WAL_FLAG_OPENING ? " opening" : "");
        struct rk_slice records =
            rk_slice_of(inspection->bytes.data + offset + RK_WAL_BATCH_HEAD, head.size);
        status =
            take_records(inspection, file->path, &head, records, offset, at == scan->from);
    }
    rk_buf_printf(inspection->out,
                  "  ends at offset %" PRIu64 ", last batch %" PRIu64 ", entries %" PRIu64
                  "\n",
                  cursor.offset, cursor.next - 1, inspection->entries - entries);
    inspection->next = cursor.next;
    inspection->end = cursor.offset;
    if (status == RK_OK && at == scan->to)
        status = inspect_tail(inspection, file->path, &cursor);
    return status;
}

static void print_groups(struct inspection *inspection)
{
    for (uint32_t i = 0; i < RK_WAL_GROUPS_MAX; i++) {
        const struct rk_wal_group_state *group = &inspection->state->groups[i];
        if (!group->is_present) continue;
        if (inspection->options->group >= 0 && (uint64_t)inspection->options->group != i)
            continue;
        rk_buf_printf(
            inspection->out,
            "group %" PRIu32 " term %" PRIu64 " vote %" PRIu64 " commit %" PRIu64
            " entries %" PRIu64 "..%" PRIu64 " snapshot %" PRIu64 " term %" PRIu64 "\n",
            i, group->hard.term, group->hard.vote, group->hard.commit,
            group->compact_index + 1, group->last, group->mark_index, group->mark_term);
    }
}

struct snapshot_listing {
    struct inspection *inspection;
    const char *dir;
    bool has_mark[RK_WAL_GROUPS_MAX];
};

static enum rk_status snapshot_each(void *context, const char *name)
{
    struct snapshot_listing *listing = context;
    struct inspection *inspection = listing->inspection;
    struct rk_snapshot_id id;
    enum rk_snapshot_suffix suffix;
    if (!rk_snapshot_name_parse(name, &id, &suffix)) return RK_OK;
    if (suffix != RK_SNAPSHOT_FINAL) {
        rk_buf_printf(inspection->out, "snapshot %s unfinished\n", name);
        return RK_OK;
    }
    struct rk_snapshot_summary summary = {0};
    struct rk_storage_error error = {.message = ""};
    enum rk_status status =
        rk_snapshot_verify(inspection->fs, listing->dir, id, &summary, &error);
    if (status == RK_ENOMEM) return status;
    if (status != RK_OK) {
        inspection->faults++;
        rk_buf_printf(inspection->out, "FAULT %s\n", error.message);
        return RK_OK;
    }
    bool is_marked = false;
    if (id.group < RK_WAL_GROUPS_MAX) {
        const struct rk_wal_group_state *group = &inspection->state->groups[id.group];
        is_marked = group->mark_index == id.index && group->mark_term == id.term;
        if (is_marked) listing->has_mark[id.group] = true;
    }
    rk_buf_printf(inspection->out,
                  "snapshot %s history %" PRIu64 " records %" PRIu64 " bytes %" PRIu64
                  "%s\n",
                  name, summary.history, summary.record_count, summary.file_bytes,
                  is_marked ? "" : " not marked in the log");
    return RK_OK;
}

static enum rk_status inspect_snapshots(struct inspection *inspection, const char *dir)
{
    struct snapshot_listing listing = {.inspection = inspection, .dir = dir};
    enum rk_status status =
        inspection->fs->list(inspection->fs, dir, snapshot_each, &listing);
    if (status != RK_OK && status != RK_ENOENT) return status;
    for (uint32_t i = 0; i < RK_WAL_GROUPS_MAX; i++) {
        const struct rk_wal_group_state *group = &inspection->state->groups[i];
        if (group->mark_index == 0 || listing.has_mark[i]) continue;
        inspection->faults++;
        rk_buf_printf(inspection->out,
                      "FAULT group %" PRIu32 ": no sound snapshot file for index %" PRIu64
                      ", which the log marks\n",
                      i, group->mark_index);
    }
    return RK_OK;
}

/* Files beside the chain: spare ones, unless they prove that the log's end is damaged. */
static enum rk_status inspect_spare(struct inspection *inspection,
                                    const struct rk_wal_scan *scan,
                                    const struct rk_wal_scan_file *file,
                                    struct rk_storage_error *error)
{
    enum rk_status status = rk_wal_scan_load(scan, file, &inspection->bytes, error);
    if (status != RK_OK) return status;
    rk_buf_printf(inspection->out, "spare %s size %" PRIu64 "\n", file->path, file->size);
    const struct rk_wal_scan_file *last = &scan->files[scan->to];
    struct rk_wal_segment_head head = {scan->id, last->head.sequence + 1, inspection->next};
    if (rk_wal_scan_is_proof(file, head.sequence, head.first_batch)) {
        fault(inspection, last->path, inspection->end,
              "damaged or missing batch, after which the next segment was opened");
        return RK_OK;
    }
    struct rk_wal_cursor cursor;
    rk_wal_cursor_init(&cursor, scan, &head, rk_buf_slice(&inspection->bytes));
    return inspect_tail(inspection, file->path, &cursor);
}

enum rk_status rk_storage_inspect(struct rk_fs *fs, const char *wal_dir,
                                  const char *snapshot_dir,
                                  const struct rk_storage_inspect_options *options,
                                  struct rk_buf *out, uint64_t *out_faults,
                                  struct rk_storage_error *error)
{
    RK_ASSERT(options->struct_size == sizeof(*options));
    struct inspection inspection = {.fs = fs, .options = options, .out = out};
    struct rk_wal_scan scan;
    struct rk_storage_error chain = {.message = ""};
    enum rk_status status = rk_wal_scan_dir(&scan, fs, wal_dir, &chain);
    if (status != RK_OK && status != RK_ECORRUPT)
        (void)rk_storage_fail(error, status, "%s", chain.message);
    if (status == RK_OK && !scan.has_id)
        status = rk_storage_fail(error, RK_ENOENT, "%s: holds no log", wal_dir);
    inspection.state = rk_calloc(1, sizeof(*inspection.state));
    if (inspection.state == NULL)
        status = rk_storage_fail(error, RK_ENOMEM, "no memory to inspect");
    if (status == RK_OK) {
        rk_buf_printf(out, "log %016" PRIx64 " version %d\n", scan.id, RK_WAL_VERSION);
        status = rk_wal_scan_chain(&scan, &chain);
    }
    if (status == RK_ECORRUPT && chain.message[0] != '\0') {
        inspection.faults++;
        rk_buf_printf(out, "FAULT %s\n", chain.message);
        status = RK_OK;
    }
    for (uint32_t i = scan.from; status == RK_OK && scan.has_log && i <= scan.to; i++)
        status = inspect_segment(&inspection, &scan, i, error);
    for (uint32_t i = 0; status == RK_OK && scan.has_log && i < scan.count; i++)
        if (i < scan.from || i > scan.to)
            status = inspect_spare(&inspection, &scan, &scan.files[i], error);
    if (status == RK_OK) {
        print_groups(&inspection);
        status = inspect_snapshots(&inspection, snapshot_dir);
    }
    if (status == RK_OK) status = rk_buf_check(out);
    *out_faults = inspection.faults;
    if (inspection.state != NULL) rk_wal_state_fini(inspection.state);
    rk_free(inspection.state);
    rk_buf_fini(&inspection.bytes);
    rk_wal_scan_fini(&scan);
    return status;
}
