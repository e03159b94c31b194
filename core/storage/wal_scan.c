#include "storage/wal_scan.h"

#include "base/alloc.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

struct listing {
    struct rk_wal_scan *scan;
    const char *dir;
};

/* "00000012.wal" */
static bool parse_name(const char *name, uint32_t *out)
{
    if (strlen(name) != 12 || strcmp(name + 8, ".wal") != 0) return false;
    uint32_t number = 0;
    for (int i = 0; i < 8; i++) {
        if (name[i] < '0' || name[i] > '9') return false;
        number = number * 10 + (uint32_t)(name[i] - '0');
    }
    *out = number;
    return true;
}

static enum rk_status list_each(void *context, const char *name)
{
    struct listing *listing = context;
    struct rk_wal_scan *scan = listing->scan;
    uint32_t number = 0;
    if (strcmp(name, "id") == 0) scan->has_id = true;
    if (!parse_name(name, &number)) return RK_OK;
    if (scan->count == scan->capacity) {
        uint32_t capacity = scan->capacity == 0 ? 8 : scan->capacity * 2;
        struct rk_wal_scan_file *files =
            rk_realloc_array(scan->files, capacity, sizeof(*files));
        if (files == NULL) return RK_ENOMEM;
        scan->files = files;
        scan->capacity = capacity;
    }
    struct rk_wal_scan_file *file = &scan->files[scan->count];
    *file = (struct rk_wal_scan_file){.number = number};
    enum rk_status status = rk_fs_join(file->path, listing->dir, name);
    if (status == RK_OK) scan->count++;
    return status;
}

static enum rk_status read_id(struct rk_wal_scan *scan, const char *dir,
                              struct rk_storage_error *error)
{
    char path[RK_FS_PATH_MAX];
    enum rk_status status = rk_fs_join(path, dir, "id");
    if (status != RK_OK) return status;
    struct rk_buf bytes;
    rk_buf_init(&bytes);
    uint32_t version = 0;
    status = rk_fs_read_file(scan->fs, &bytes, path, 4096);
    if (status == RK_OK)
        status = rk_wal_id_decode(&scan->id, &version, rk_buf_slice(&bytes));
    rk_buf_fini(&bytes);
    if (status == RK_EPROTO)
        return rk_storage_fail(error, status,
                               "%s: format version %" PRIu32
                               " is not known; this program reads version %d",
                               path, version, RK_WAL_VERSION);
    if (status == RK_ECORRUPT)
        return rk_storage_fail(error, status, "%s: offset 0: damaged", path);
    if (status != RK_OK)
        return rk_storage_fail(error, status, "%s: cannot be read: %s", path,
                               rk_status_text(status));
    return RK_OK;
}

static bool is_zero(const uint8_t *bytes, size_t size)
{
    for (size_t i = 0; i < size; i++)
        if (bytes[i] != 0) return false;
    return true;
}

static enum rk_status read_head(struct rk_wal_scan *scan, struct rk_wal_scan_file *file,
                                struct rk_storage_error *error)
{
    struct rk_fs *fs = scan->fs;
    struct rk_file *handle = NULL;
    uint8_t bytes[RK_WAL_SEGMENT_HEAD] = {0};
    size_t read = 0;
    uint32_t version = 0;
    enum rk_status status = fs->open(fs, &handle, file->path, 0);
    if (status == RK_OK) {
        status = fs->size(handle, &file->size);
        if (status == RK_OK) status = fs->pread(handle, &read, 0, bytes, sizeof(bytes));
        fs->close(handle);
    }
    if (status != RK_OK)
        return rk_storage_fail(error, status, "%s: cannot be read: %s", file->path,
                               rk_status_text(status));
    status = rk_wal_segment_head_decode(&file->head, &version, bytes);
    if (status == RK_EPROTO)
        return rk_storage_fail(error, status,
                               "%s: format version %" PRIu32
                               " is not known; this program reads version %d",
                               file->path, version, RK_WAL_VERSION);
    file->has_head = status == RK_OK;
    file->is_blank = is_zero(bytes, sizeof(bytes));
    if (file->has_head && scan->has_id && file->head.id != scan->id)
        return rk_storage_fail(error, RK_ECORRUPT,
                               "%s: belongs to log %016" PRIx64 ", not to %016" PRIx64,
                               file->path, file->head.id, scan->id);
    return RK_OK;
}

static int compare_files(const void *a, const void *b)
{
    const struct rk_wal_scan_file *x = a;
    const struct rk_wal_scan_file *y = b;
    if (x->head.sequence != y->head.sequence)
        return x->head.sequence < y->head.sequence ? -1 : 1;
    return x->number < y->number ? -1 : x->number > y->number;
}

enum rk_status rk_wal_scan_dir(struct rk_wal_scan *scan, struct rk_fs *fs, const char *dir,
                               struct rk_storage_error *error)
{
    *scan = (struct rk_wal_scan){.fs = fs};
    struct listing listing = {scan, dir};
    enum rk_status status = fs->list(fs, dir, list_each, &listing);
    if (status != RK_OK)
        return rk_storage_fail(error, status, "%s: cannot be listed: %s", dir,
                               rk_status_text(status));
    if (scan->has_id) status = read_id(scan, dir, error);
    for (uint32_t i = 0; status == RK_OK && i < scan->count; i++)
        status = read_head(scan, &scan->files[i], error);
    if (status != RK_OK || scan->count == 0) return status;
    qsort(scan->files, scan->count, sizeof(*scan->files), compare_files);
    for (uint32_t i = 1; i < scan->count; i++)
        if (scan->files[i].has_head &&
            scan->files[i].head.sequence == scan->files[i - 1].head.sequence)
            return rk_storage_fail(
                error, RK_ECORRUPT, "%s and %s: both are segment %" PRIu64,
                scan->files[i - 1].path, scan->files[i].path, scan->files[i].head.sequence);
    return RK_OK;
}

void rk_wal_scan_fini(struct rk_wal_scan *scan)
{
    rk_free(scan->files);
    *scan = (struct rk_wal_scan){0};
}

enum rk_status rk_wal_scan_load(const struct rk_wal_scan *scan,
                                const struct rk_wal_scan_file *file, struct rk_buf *out,
                                struct rk_storage_error *error)
{
    rk_buf_reset(out);
    enum rk_status status = rk_fs_read_file(scan->fs, out, file->path, (size_t)UINT32_MAX);
    if (status != RK_OK)
        return rk_storage_fail(error, status, "%s: cannot be read: %s", file->path,
                               rk_status_text(status));
    return RK_OK;
}

void rk_wal_cursor_init(struct rk_wal_cursor *cursor, const struct rk_wal_scan *scan,
                        const struct rk_wal_segment_head *head, struct rk_slice bytes)
{
    *cursor = (struct rk_wal_cursor){
        .bytes = bytes,
        .salt = rk_wal_salt(scan->id, head->sequence),
        .offset = RK_WAL_SEGMENT_HEAD,
        .next = head->first_batch,
    };
}

static struct rk_slice rest(const struct rk_wal_cursor *cursor, uint64_t offset)
{
    if (offset >= cursor->bytes.size) return RK_SLICE_EMPTY;
    return rk_slice_of(cursor->bytes.data + offset, cursor->bytes.size - (size_t)offset);
}

bool rk_wal_cursor_next(struct rk_wal_cursor *cursor, struct rk_wal_batch_head *out,
                        uint64_t *offset)
{
    if (!rk_wal_batch_parse(out, rest(cursor, cursor->offset), cursor->salt)) return false;
    if (out->sequence != cursor->next) return false;
    *offset = cursor->offset;
    cursor->offset += rk_wal_batch_room(out->size);
    cursor->next++;
    return true;
}

enum rk_status rk_wal_cursor_leftover(const struct rk_wal_cursor *cursor,
                                      struct rk_wal_leftover *out)
{
    *out = (struct rk_wal_leftover){0};
    rk_buf_init(&out->offsets);
    for (uint64_t offset = cursor->offset; offset < cursor->bytes.size;
         offset += RK_WAL_SECTOR) {
        struct rk_wal_batch_head head;
        struct rk_slice bytes = rest(cursor, offset);
        if (!rk_wal_batch_head_parse(&head, bytes, cursor->salt)) continue;
        if (head.sequence < cursor->next) continue;
        /* A head tells also where its batch was torn: it is within one sector. One of
         * before an earlier recovery speaks of nothing that is missing now, since what was
         * durable then was kept. */
        if (!out->is_proof && head.durable >= cursor->next) {
            out->is_proof = true;
            out->proof_offset = offset;
            out->proof_sequence = head.sequence;
        }
        if (!rk_wal_batch_parse(&head, bytes, cursor->salt)) continue;
        if (out->count++ == 0) out->first_offset = offset;
        rk_buf_u64(&out->offsets, offset);
    }
    return rk_buf_check(&out->offsets);
}

/* The last `oldest` that the file's batches give; 0 without a whole batch at its start. */
static enum rk_status last_oldest(const struct rk_wal_scan *scan,
                                  const struct rk_wal_scan_file *file, struct rk_buf *buf,
                                  uint64_t *out, struct rk_storage_error *error)
{
    *out = 0;
    enum rk_status status = rk_wal_scan_load(scan, file, buf, error);
    if (status != RK_OK) return status;
    struct rk_wal_cursor cursor;
    struct rk_wal_batch_head head;
    uint64_t offset = 0;
    rk_wal_cursor_init(&cursor, scan, &file->head, rk_buf_slice(buf));
    while (rk_wal_cursor_next(&cursor, &head, &offset))
        *out = head.oldest;
    return RK_OK;
}

/* One that was in use once and has no sound head now; NULL: none. */
static const struct rk_wal_scan_file *headless(const struct rk_wal_scan *scan)
{
    for (uint32_t i = 0; i < scan->count; i++)
        if (!scan->files[i].has_head && !scan->files[i].is_blank) return &scan->files[i];
    return NULL;
}

static enum rk_status none_whole(const struct rk_wal_scan *scan,
                                 struct rk_storage_error *error)
{
    const struct rk_wal_scan_file *file = headless(scan);
    const struct rk_wal_scan_file *last =
        scan->count == 0 ? NULL : &scan->files[scan->count - 1];
    if (last != NULL && last->has_head)
        return rk_storage_fail(error, RK_ECORRUPT,
                               "%s: offset %d: the opening batch is damaged", last->path,
                               RK_WAL_SEGMENT_HEAD);
    if (file != NULL)
        return rk_storage_fail(error, RK_ECORRUPT,
                               "%s: offset 0: the segment's head is damaged", file->path);
    return rk_storage_fail(error, RK_ECORRUPT,
                           "no segment of the log has a whole batch at its start");
}

static enum rk_status missing(const struct rk_wal_scan *scan, uint64_t sequence,
                              uint32_t by, struct rk_storage_error *error)
{
    const struct rk_wal_scan_file *file = headless(scan);
    if (file != NULL)
        return rk_storage_fail(error, RK_ECORRUPT,
                               "%s: offset 0: the segment's head is damaged; %s needs "
                               "segment %" PRIu64 " of the log",
                               file->path, scan->files[by].path, sequence);
    return rk_storage_fail(error, RK_ECORRUPT,
                           "segment %" PRIu64
                           " of the log is missing or its head is damaged; %s needs it",
                           sequence, scan->files[by].path);
}

enum rk_status rk_wal_scan_chain(struct rk_wal_scan *scan, struct rk_storage_error *error)
{
    struct rk_buf buf;
    rk_buf_init(&buf);
    uint64_t oldest = 0;
    enum rk_status status = RK_OK;
    uint32_t to = scan->count;
    uint32_t heads = 0;
    /* Only the newest can be torn at its very start: it is then no part of the log yet. */
    while (to > 0 && scan->files[to - 1].has_head && oldest == 0 && heads < 2) {
        status = last_oldest(scan, &scan->files[--to], &buf, &oldest, error);
        if (status != RK_OK) goto out;
        heads++;
    }
    if (oldest == 0) {
        status = none_whole(scan, error);
        goto out;
    }
    const struct rk_wal_scan_file *newest = &scan->files[to];
    if (oldest > newest->head.sequence) {
        status = rk_storage_fail(error, RK_ECORRUPT,
                                 "%s: names segment %" PRIu64
                                 " as the oldest needed, but is itself %" PRIu64,
                                 newest->path, oldest, newest->head.sequence);
        goto out;
    }
    if (heads == 2 && scan->files[to + 1].head.sequence != newest->head.sequence + 1) {
        status = missing(scan, newest->head.sequence + 1, to + 1, error);
        goto out;
    }
    uint32_t from = to;
    for (uint64_t sequence = newest->head.sequence; sequence > oldest; sequence--) {
        if (from == 0 || scan->files[from - 1].head.sequence != sequence - 1) {
            status = missing(scan, sequence - 1, to, error);
            goto out;
        }
        from--;
    }
    scan->from = from;
    scan->to = to;
    scan->has_log = true;
out:
    rk_buf_fini(&buf);
    return status;
}
