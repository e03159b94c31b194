#include "storage/backup.h"

#include "base/alloc.h"
#include "base/assert.h"
#include "base/crc32c.h"
#include "base/hash.h"
#include "storage/snapshot_format.h"

#include <inttypes.h>
#include <stdio.h>

enum {
    PART_SIZE = 28,
    END_FIXED = 20, /* of the last block, beside its parts */
    HEADER_MAX = 64 + 3 * (RK_BACKUP_TEXT_MAX + 2),
    COPY_SIZE = 256 << 10,
};

/* --- encoder ------------------------------------------------------------------------- */

/* Seals the block that begins at `at`. */
static enum rk_status seal(struct rk_backup_encoder *encoder, struct rk_buf *out, size_t at,
                           const struct rk_snapshot_block_head *kind)
{
    if (rk_buf_check(out) != RK_OK) return RK_ENOMEM;
    struct rk_snapshot_block_head head = *kind;
    head.size = (uint32_t)(out->size - at - RK_SNAPSHOT_BLOCK_HEAD);
    rk_snapshot_seal(out->data + at, &head, &encoder->chain);
    encoder->bytes += out->size - at;
    return RK_OK;
}

static size_t block_begin(struct rk_buf *out)
{
    size_t at = out->size;
    uint8_t *head = rk_buf_extend(out, RK_SNAPSHOT_BLOCK_HEAD);
    if (head != NULL) memset(head, 0, RK_SNAPSHOT_BLOCK_HEAD);
    return at;
}

enum rk_status rk_backup_begin(struct rk_backup_encoder *encoder,
                               const struct rk_backup_header *header, struct rk_buf *out)
{
    if (header->group_count == 0 || header->group_count > RK_BACKUP_GROUPS_MAX ||
        header->cluster.size > RK_BACKUP_TEXT_MAX ||
        header->node.size > RK_BACKUP_TEXT_MAX || header->program.size > RK_BACKUP_TEXT_MAX)
        return RK_ESIZE;
    memset(encoder, 0, sizeof(*encoder));
    encoder->id = header->id;
    encoder->group_count = header->group_count;
    size_t at = block_begin(out);
    rk_buf_u32(out, RK_BACKUP_VERSION);
    rk_buf_u32(out, header->group_count);
    rk_buf_u64(out, header->id);
    rk_buf_u64(out, header->cluster_high);
    rk_buf_u64(out, header->cluster_low);
    rk_buf_u64(out, header->history);
    rk_buf_u64(out, header->saved_ms);
    rk_buf_blob(out, header->cluster);
    rk_buf_blob(out, header->node);
    rk_buf_blob(out, header->program);
    const struct rk_snapshot_block_head kind = {.kind = RK_SNAPSHOT_BACKUP};
    return seal(encoder, out, at, &kind);
}

void rk_backup_part(struct rk_backup_encoder *encoder, struct rk_snapshot_id id)
{
    RK_ASSERT(id.group == encoder->part_count && id.group < encoder->group_count);
    encoder->parts[encoder->part_count++] =
        (struct rk_backup_part){.index = id.index, .term = id.term};
}

void rk_backup_bytes(struct rk_backup_encoder *encoder, struct rk_slice bytes)
{
    RK_ASSERT(encoder->part_count > 0);
    struct rk_backup_part *part = &encoder->parts[encoder->part_count - 1];
    part->crc = rk_crc32c(part->crc, bytes.data, bytes.size);
    part->bytes += bytes.size;
    encoder->bytes += bytes.size;
}

enum rk_status rk_backup_end(struct rk_backup_encoder *encoder, struct rk_buf *out)
{
    RK_ASSERT(encoder->part_count == encoder->group_count);
    uint64_t bytes = encoder->bytes;
    size_t at = block_begin(out);
    rk_buf_u64(out, encoder->id);
    rk_buf_u64(out, bytes);
    rk_buf_u32(out, encoder->part_count);
    for (uint32_t i = 0; i < encoder->part_count; i++) {
        rk_buf_u64(out, encoder->parts[i].index);
        rk_buf_u64(out, encoder->parts[i].term);
        rk_buf_u64(out, encoder->parts[i].bytes);
        rk_buf_u32(out, encoder->parts[i].crc);
    }
    const struct rk_snapshot_block_head kind = {.kind = RK_SNAPSHOT_BACKUP_END,
                                                .number = 1};
    return seal(encoder, out, at, &kind);
}

/* --- reader -------------------------------------------------------------------------- */

struct rk_backup_reader {
    struct rk_fs *fs;
    struct rk_file *file;
    char path[RK_FS_PATH_MAX];
    struct rk_backup_header header; /* texts point into first */
    struct rk_backup_part parts[RK_BACKUP_GROUPS_MAX];
    uint64_t offsets[RK_BACKUP_GROUPS_MAX];
    struct rk_buf first, last; /* the two blocks */
    uint64_t size;
    uint64_t digest;
    uint32_t chain;
};

static enum rk_status damage(const struct rk_backup_reader *reader, uint64_t offset,
                             const char *what, struct rk_storage_error *error)
{
    return rk_storage_fail(error, RK_ECORRUPT, "%s: offset %" PRIu64 ": %s", reader->path,
                           offset, what);
}

/* What a block has to be. */
struct expected {
    uint64_t offset;
    uint32_t size_max;
    struct rk_snapshot_block_head head; /* kind, number */
    const char *what;
};

static enum rk_status block_read(struct rk_backup_reader *reader,
                                 const struct expected *expected, struct rk_buf *block,
                                 struct rk_storage_error *error)
{
    struct rk_snapshot_block_head head;
    uint8_t bytes[RK_SNAPSHOT_BLOCK_HEAD];
    uint64_t offset = expected->offset;
    if (offset > reader->size || reader->size - offset < sizeof(bytes))
        return damage(reader, reader->size, "the file ends before its last block", error);
    enum rk_status status = rk_fs_read_full(reader->file, offset, bytes, sizeof(bytes));
    if (status == RK_OK) status = rk_snapshot_head_read(&head, bytes);
    if (status == RK_OK &&
        (head.kind != expected->head.kind || head.number != expected->head.number ||
         head.count != 0 || head.size > expected->size_max ||
         head.size > reader->size - offset - sizeof(bytes)))
        status = RK_ECORRUPT;
    if (status == RK_ECORRUPT) return damage(reader, offset, expected->what, error);
    if (status == RK_OK) {
        rk_buf_append(block, bytes, sizeof(bytes));
        uint8_t *payload = rk_buf_extend(block, head.size);
        if (payload == NULL)
            return rk_storage_fail(error, RK_ENOMEM, "no memory for a block");
        status = rk_fs_read_full(reader->file, offset + sizeof(bytes), payload, head.size);
    }
    if (status != RK_OK)
        return rk_storage_fail(error, status, "%s: offset %" PRIu64 ": cannot be read: %s",
                               reader->path, offset, rk_status_text(status));
    reader->chain = rk_snapshot_crc(block->data, block->size, reader->chain);
    if (reader->chain != head.crc)
        return damage(reader, offset, "the block fails its checksum", error);
    return RK_OK;
}

static struct rk_reader payload_of(const struct rk_buf *block)
{
    struct rk_reader in;
    rk_reader_init(&in, rk_slice_of(block->data + RK_SNAPSHOT_BLOCK_HEAD,
                                    block->size - RK_SNAPSHOT_BLOCK_HEAD));
    return in;
}

static enum rk_status first_read(struct rk_backup_reader *reader,
                                 struct rk_storage_error *error)
{
    const struct expected expected = {
        0, HEADER_MAX, {.kind = RK_SNAPSHOT_BACKUP}, "no backup begins here"};
    struct rk_backup_header *header = &reader->header;
    enum rk_status status = block_read(reader, &expected, &reader->first, error);
    if (status != RK_OK) return status;
    struct rk_reader in = payload_of(&reader->first);
    uint32_t version = rk_read_u32(&in);
    if (!in.is_failed && version > RK_BACKUP_VERSION)
        return rk_storage_fail(error, RK_EPROTO,
                               "%s: backup format version %" PRIu32
                               " is not known; this program reads version %d",
                               reader->path, version, RK_BACKUP_VERSION);
    header->group_count = rk_read_u32(&in);
    header->id = rk_read_u64(&in);
    header->cluster_high = rk_read_u64(&in);
    header->cluster_low = rk_read_u64(&in);
    header->history = rk_read_u64(&in);
    header->saved_ms = rk_read_u64(&in);
    header->cluster = rk_read_blob(&in);
    header->node = rk_read_blob(&in);
    header->program = rk_read_blob(&in);
    if (rk_reader_check(&in, true) != RK_OK || version == 0 || header->group_count == 0 ||
        header->group_count > RK_BACKUP_GROUPS_MAX ||
        header->cluster.size > RK_BACKUP_TEXT_MAX ||
        header->node.size > RK_BACKUP_TEXT_MAX || header->program.size > RK_BACKUP_TEXT_MAX)
        return damage(reader, 0, "the header is malformed", error);
    return RK_OK;
}

static enum rk_status last_read(struct rk_backup_reader *reader,
                                struct rk_storage_error *error)
{
    uint32_t size = END_FIXED + PART_SIZE * reader->header.group_count;
    uint64_t at = reader->first.size;
    struct expected expected = {reader->size - RK_SNAPSHOT_BLOCK_HEAD - size,
                                size,
                                {.kind = RK_SNAPSHOT_BACKUP_END, .number = 1},
                                "no last block: the file is cut off or damaged"};
    if (reader->size < at + RK_SNAPSHOT_BLOCK_HEAD + size)
        return damage(reader, reader->size, "the file ends before its last block", error);
    enum rk_status status = block_read(reader, &expected, &reader->last, error);
    if (status != RK_OK) return status;
    struct rk_reader in = payload_of(&reader->last);
    bool is_right = rk_read_u64(&in) == reader->header.id;
    is_right = rk_read_u64(&in) == expected.offset && is_right;
    is_right = rk_read_u32(&in) == reader->header.group_count && is_right;
    for (uint32_t i = 0; is_right && i < reader->header.group_count; i++) {
        struct rk_backup_part *part = &reader->parts[i];
        part->index = rk_read_u64(&in);
        part->term = rk_read_u64(&in);
        part->bytes = rk_read_u64(&in);
        part->crc = rk_read_u32(&in);
        reader->offsets[i] = at;
        is_right = part->bytes > 0 && part->bytes <= expected.offset - at;
        at += part->bytes;
    }
    if (!is_right || at != expected.offset || rk_reader_check(&in, true) != RK_OK)
        return damage(reader, expected.offset, "the last block is malformed", error);
    reader->digest = rk_hash(rk_buf_slice(&reader->last));
    if (reader->digest == 0) reader->digest = 1;
    return RK_OK;
}

enum rk_status rk_backup_reader_open(struct rk_backup_reader **out, struct rk_fs *fs,
                                     const char *path, struct rk_storage_error *error)
{
    if (strlen(path) >= RK_FS_PATH_MAX)
        return rk_storage_fail(error, RK_ERANGE, "%.64s...: the path is too long", path);
    struct rk_backup_reader *reader = rk_calloc(1, sizeof(*reader));
    if (reader == NULL) return rk_storage_fail(error, RK_ENOMEM, "no memory for a reader");
    reader->fs = fs;
    memcpy(reader->path, path, strlen(path) + 1);
    rk_buf_init(&reader->first);
    rk_buf_init(&reader->last);
    enum rk_status status = fs->open(fs, &reader->file, path, 0);
    if (status == RK_OK) status = fs->size(reader->file, &reader->size);
    if (status != RK_OK)
        rk_storage_fail(error, status, "%s: cannot be opened: %s", path,
                        rk_status_text(status));
    if (status == RK_OK) status = first_read(reader, error);
    if (status == RK_OK) status = last_read(reader, error);
    if (status != RK_OK) {
        rk_backup_reader_free(reader);
        return status;
    }
    *out = reader;
    return RK_OK;
}

void rk_backup_reader_free(struct rk_backup_reader *reader)
{
    if (reader == NULL) return;
    reader->fs->close(reader->file);
    rk_buf_fini(&reader->first);
    rk_buf_fini(&reader->last);
    rk_free(reader);
}

const struct rk_backup_header *
rk_backup_reader_header(const struct rk_backup_reader *reader)
{
    return &reader->header;
}

const struct rk_backup_part *rk_backup_reader_part(const struct rk_backup_reader *reader,
                                                   uint32_t group)
{
    RK_ASSERT(group < reader->header.group_count);
    return &reader->parts[group];
}

uint64_t rk_backup_reader_digest(const struct rk_backup_reader *reader)
{
    return reader->digest;
}

uint64_t rk_backup_reader_size(const struct rk_backup_reader *reader)
{
    return reader->size;
}

enum rk_status rk_backup_snapshot_open(const struct rk_backup_reader *reader,
                                       struct rk_snapshot_reader **out, uint32_t group,
                                       struct rk_storage_error *error)
{
    RK_ASSERT(group < reader->header.group_count);
    const struct rk_backup_part *part = &reader->parts[group];
    const struct rk_snapshot_part place = {
        {group, part->index, part->term}, reader->offsets[group], part->bytes};
    return rk_snapshot_reader_open_part(out, reader->fs, reader->path, &place, error);
}

enum rk_status rk_backup_snapshot_check(const struct rk_backup_reader *reader,
                                        uint32_t group,
                                        const struct rk_snapshot_reader *snapshot,
                                        struct rk_storage_error *error)
{
    if (rk_snapshot_reader_crc(snapshot) == reader->parts[group].crc) return RK_OK;
    return damage(reader, reader->offsets[group],
                  "the snapshot is another one than the last block says", error);
}

bool rk_backup_is_one(struct rk_fs *fs, const char *path)
{
    struct rk_snapshot_block_head head;
    uint8_t bytes[RK_SNAPSHOT_BLOCK_HEAD];
    struct rk_file *file = NULL;
    if (fs->open(fs, &file, path, 0) != RK_OK) return false;
    bool is_one = rk_fs_read_full(file, 0, bytes, sizeof(bytes)) == RK_OK &&
                  rk_snapshot_head_read(&head, bytes) == RK_OK &&
                  head.kind == RK_SNAPSHOT_BACKUP;
    fs->close(file);
    return is_one;
}

/* --- copies -------------------------------------------------------------------------- */

static enum rk_status copy_bytes(struct rk_file *from, struct rk_file *to)
{
    uint8_t *bytes = rk_malloc(COPY_SIZE);
    uint64_t offset = 0;
    size_t got = COPY_SIZE;
    enum rk_status status = bytes == NULL ? RK_ENOMEM : RK_OK;
    while (status == RK_OK && got == COPY_SIZE) {
        status = from->fs->pread(from, &got, offset, bytes, COPY_SIZE);
        if (status == RK_OK && got > 0) status = to->fs->pwrite(to, offset, bytes, got);
        offset += got;
    }
    rk_free(bytes);
    return status;
}

enum rk_status rk_backup_copy(struct rk_fs *fs, const char *path, const char *dir,
                              const char *name, struct rk_storage_error *error)
{
    char final[RK_FS_PATH_MAX], unfinished[RK_FS_PATH_MAX + 8];
    struct rk_file *from = NULL, *to = NULL;
    enum rk_status status = rk_fs_join(final, dir, name);
    if (status == RK_OK) status = fs->open(fs, &from, path, 0);
    if (status != RK_OK)
        return rk_storage_fail(error, status, "%s: cannot be opened: %s", path,
                               rk_status_text(status));
    (void)snprintf(unfinished, sizeof(unfinished), "%s.tmp", final);
    status = fs->open(fs, &to, unfinished, RK_FS_WRITE | RK_FS_CREATE | RK_FS_EXCLUSIVE);
    if (status == RK_OK) status = copy_bytes(from, to);
    if (status == RK_OK) status = fs->datasync(to);
    if (status == RK_OK) status = fs->rename(fs, unfinished, final);
    if (status == RK_OK) status = fs->sync_dir(fs, dir);
    fs->close(from);
    fs->close(to);
    if (status != RK_OK)
        return rk_storage_fail(error, status, "%s: cannot be written: %s", final,
                               rk_status_text(status));
    return RK_OK;
}
