#include "base/alloc.h"
#include "base/crc32c.h"
#include "storage/snapshot_format.h"

#include <inttypes.h>

struct rk_snapshot_reader {
    struct rk_fs *fs;
    struct rk_file *file;
    char path[RK_FS_PATH_MAX];
    struct rk_snapshot_header header; /* conf points into conf_bytes */
    struct rk_buf conf_bytes;
    struct rk_buf block; /* payload of the current one, with its head */
    struct rk_reader at; /* in it */
    uint64_t begin;      /* of the snapshot in the file */
    uint64_t offset;     /* of the next block */
    uint64_t size;       /* where the snapshot ends */
    uint32_t crc;        /* of all bytes so far */
    uint32_t left;       /* records in this block */
    uint32_t chain;
    uint32_t block_count;
    uint64_t record_count;
    uint64_t record_bytes;
    bool is_ended;
};

static enum rk_status damage(const struct rk_snapshot_reader *reader, uint64_t offset,
                             const char *what, struct rk_storage_error *error)
{
    return rk_storage_fail(error, RK_ECORRUPT, "%s: offset %" PRIu64 ": %s", reader->path,
                           offset, what);
}

/* The next block, checked, into reader->block. */
static enum rk_status next_block(struct rk_snapshot_reader *reader,
                                 struct rk_snapshot_block_head *head,
                                 struct rk_storage_error *error)
{
    uint64_t offset = reader->offset;
    rk_buf_reset(&reader->block);
    uint8_t *bytes = rk_buf_extend(&reader->block, RK_SNAPSHOT_BLOCK_HEAD);
    if (bytes == NULL) return rk_storage_fail(error, RK_ENOMEM, "no memory for a block");
    if (offset >= reader->size)
        return damage(reader, offset, "the file ends before its last block", error);
    enum rk_status status =
        rk_fs_read_full(reader->file, offset, bytes, RK_SNAPSHOT_BLOCK_HEAD);
    if (status == RK_OK) status = rk_snapshot_head_read(head, bytes);
    if (status == RK_OK && head->size > reader->size - offset - RK_SNAPSHOT_BLOCK_HEAD)
        status = RK_ECORRUPT;
    if (status == RK_ECORRUPT) return damage(reader, offset, "no block begins here", error);
    if (status == RK_OK && rk_buf_extend(&reader->block, head->size) == NULL &&
        head->size > 0)
        return rk_storage_fail(error, RK_ENOMEM, "no memory for a block");
    bytes = reader->block.data;
    if (status == RK_OK)
        status = rk_fs_read_full(reader->file, offset + RK_SNAPSHOT_BLOCK_HEAD,
                                 bytes + RK_SNAPSHOT_BLOCK_HEAD, head->size);
    if (status != RK_OK)
        return rk_storage_fail(error, status, "%s: offset %" PRIu64 ": cannot be read: %s",
                               reader->path, offset, rk_status_text(status));
    size_t size = RK_SNAPSHOT_BLOCK_HEAD + (size_t)head->size;
    uint32_t crc = rk_snapshot_crc(bytes, size, reader->chain);
    if (crc != head->crc || head->number != reader->block_count)
        return damage(reader, offset, "the block fails its checksum", error);
    reader->chain = crc;
    reader->crc = rk_crc32c(reader->crc, bytes, size);
    reader->block_count++;
    reader->offset += size;
    rk_reader_init(&reader->at, rk_slice_of(bytes + RK_SNAPSHOT_BLOCK_HEAD, head->size));
    return RK_OK;
}

static enum rk_status read_header(struct rk_snapshot_reader *reader,
                                  struct rk_snapshot_id id, struct rk_storage_error *error)
{
    struct rk_snapshot_block_head head;
    enum rk_status status = next_block(reader, &head, error);
    if (status != RK_OK) return status;
    if (head.kind != RK_SNAPSHOT_HEADER)
        return damage(reader, reader->begin, "the first block is no header", error);
    uint32_t version = rk_read_u32(&reader->at);
    if (version != RK_SNAPSHOT_VERSION)
        return rk_storage_fail(error, RK_EPROTO,
                               "%s: format version %" PRIu32
                               " is not known; this program reads version %d",
                               reader->path, version, RK_SNAPSHOT_VERSION);
    struct rk_snapshot_header *header = &reader->header;
    header->id.group = rk_read_u32(&reader->at);
    header->id.index = rk_read_u64(&reader->at);
    header->id.term = rk_read_u64(&reader->at);
    header->history = rk_read_u64(&reader->at);
    struct rk_slice conf = rk_read_blob(&reader->at);
    if (rk_reader_check(&reader->at, true) != RK_OK)
        return damage(reader, reader->begin, "the header is malformed", error);
    if (header->id.group != id.group || header->id.index != id.index ||
        header->id.term != id.term)
        return damage(reader, reader->begin, "the header is that of another snapshot",
                      error);
    rk_buf_append_slice(&reader->conf_bytes, conf);
    if (rk_buf_check(&reader->conf_bytes) != RK_OK)
        return rk_storage_fail(error, RK_ENOMEM, "no memory for a configuration");
    header->conf = rk_buf_slice(&reader->conf_bytes);
    return RK_OK;
}

enum rk_status rk_snapshot_reader_open_part(struct rk_snapshot_reader **out,
                                            struct rk_fs *fs, const char *path,
                                            const struct rk_snapshot_part *part,
                                            struct rk_storage_error *error)
{
    struct rk_snapshot_reader *reader = rk_calloc(1, sizeof(*reader));
    if (reader == NULL) return rk_storage_fail(error, RK_ENOMEM, "no memory for a reader");
    reader->fs = fs;
    memcpy(reader->path, path, strlen(path) + 1);
    enum rk_status status = fs->open(fs, &reader->file, path, 0);
    if (status == RK_OK) status = fs->size(reader->file, &reader->size);
    if (status != RK_OK)
        rk_storage_fail(error, status, "%s: cannot be opened: %s", path,
                        rk_status_text(status));
    if (status == RK_OK && part->bytes != 0) {
        reader->begin = reader->offset = part->offset;
        if (part->offset > reader->size || part->bytes > reader->size - part->offset)
            status =
                damage(reader, reader->size, "the file ends before its last block", error);
        reader->size = part->offset + part->bytes;
    }
    if (status == RK_OK) status = read_header(reader, part->id, error);
    if (status != RK_OK) {
        rk_snapshot_reader_free(reader);
        return status;
    }
    *out = reader;
    return RK_OK;
}

enum rk_status rk_snapshot_reader_open_path(struct rk_snapshot_reader **out,
                                            struct rk_fs *fs, const char *path,
                                            struct rk_snapshot_id id,
                                            struct rk_storage_error *error)
{
    const struct rk_snapshot_part whole = {.id = id};
    return rk_snapshot_reader_open_part(out, fs, path, &whole, error);
}

uint32_t rk_snapshot_reader_crc(const struct rk_snapshot_reader *reader)
{
    return reader->crc;
}

enum rk_status rk_snapshot_reader_open(struct rk_snapshot_reader **out, struct rk_fs *fs,
                                       const char *dir, struct rk_snapshot_id id,
                                       struct rk_storage_error *error)
{
    char path[RK_FS_PATH_MAX];
    enum rk_status status = rk_snapshot_path(path, dir, id, RK_SNAPSHOT_FINAL);
    if (status != RK_OK) return rk_storage_fail(error, status, "%s: path too long", dir);
    return rk_snapshot_reader_open_path(out, fs, path, id, error);
}

void rk_snapshot_reader_free(struct rk_snapshot_reader *reader)
{
    if (reader == NULL) return;
    reader->fs->close(reader->file);
    rk_buf_fini(&reader->conf_bytes);
    rk_buf_fini(&reader->block);
    rk_free(reader);
}

const struct rk_snapshot_header *
rk_snapshot_reader_header(const struct rk_snapshot_reader *reader)
{
    return &reader->header;
}

static enum rk_status take_end(struct rk_snapshot_reader *reader, uint64_t offset,
                               struct rk_storage_error *error)
{
    bool is_right = rk_read_u64(&reader->at) == reader->record_count;
    is_right = rk_read_u64(&reader->at) == reader->record_bytes && is_right;
    is_right = rk_read_u64(&reader->at) == reader->block_count && is_right;
    if (!is_right || rk_reader_check(&reader->at, true) != RK_OK)
        return damage(reader, offset, "the last block's counts are wrong", error);
    if (reader->offset != reader->size)
        return damage(reader, reader->offset, "bytes follow the last block", error);
    reader->is_ended = true;
    return RK_OK;
}

enum rk_status rk_snapshot_reader_next(struct rk_snapshot_reader *reader,
                                       struct rk_slice *out, bool *out_end,
                                       struct rk_storage_error *error)
{
    *out_end = false;
    while (reader->left == 0 && !reader->is_ended) {
        struct rk_snapshot_block_head head;
        uint64_t offset = reader->offset;
        enum rk_status status = next_block(reader, &head, error);
        if (status != RK_OK) return status;
        if (head.kind == RK_SNAPSHOT_END) {
            status = take_end(reader, offset, error);
            if (status != RK_OK) return status;
        } else if (head.kind != RK_SNAPSHOT_RECORDS || head.count == 0) {
            return damage(reader, offset, "a block of records was expected", error);
        }
        reader->left = head.kind == RK_SNAPSHOT_END ? 0 : head.count;
    }
    if (reader->is_ended) {
        *out_end = true;
        return RK_OK;
    }
    *out = rk_read_blob(&reader->at);
    reader->left--;
    if (rk_reader_check(&reader->at, reader->left == 0) != RK_OK)
        return damage(reader, reader->offset, "records of the block before are malformed",
                      error);
    reader->record_count++;
    reader->record_bytes += out->size;
    return RK_OK;
}

enum rk_status rk_snapshot_verify_path(struct rk_fs *fs, const char *path,
                                       struct rk_snapshot_id id,
                                       struct rk_snapshot_summary *out,
                                       struct rk_storage_error *error)
{
    struct rk_snapshot_reader *reader = NULL;
    enum rk_status status = rk_snapshot_reader_open_path(&reader, fs, path, id, error);
    if (status != RK_OK) return status;
    bool is_end = false;
    while (status == RK_OK && !is_end) {
        struct rk_slice record;
        status = rk_snapshot_reader_next(reader, &record, &is_end, error);
    }
    if (out != NULL)
        *out = (struct rk_snapshot_summary){
            .history = reader->header.history,
            .conf_bytes = reader->header.conf.size,
            .record_count = reader->record_count,
            .record_bytes = reader->record_bytes,
            .file_bytes = reader->size,
            .block_count = reader->block_count,
        };
    rk_snapshot_reader_free(reader);
    return status;
}

enum rk_status rk_snapshot_verify(struct rk_fs *fs, const char *dir,
                                  struct rk_snapshot_id id, struct rk_snapshot_summary *out,
                                  struct rk_storage_error *error)
{
    char path[RK_FS_PATH_MAX];
    enum rk_status status = rk_snapshot_path(path, dir, id, RK_SNAPSHOT_FINAL);
    if (status != RK_OK) return rk_storage_fail(error, status, "%s: path too long", dir);
    return rk_snapshot_verify_path(fs, path, id, out, error);
}
