/* A backup file of any bytes: read to its end, and made again of what was read.
 *
 * Input: a byte of flags, then the file. With flag 1 blocks get right checksums, with flag
 * 2 the last block says of the parts what is so. */
#include "fuzz.h"

#include "base/crc32c.h"
#include "storage/backup.h"
#include "storage/memfs.h"
#include "storage/snapshot_format.h"

enum { FLAG_SEAL = 1, FLAG_COUNT = 2, LAST_FIXED = 20, PART_SIZE = 28 };

static const char path[] = "file";

/* Where the walk over the blocks is. */
struct walk {
    struct rk_buf *file;
    struct rk_backup_part parts[RK_BACKUP_GROUPS_MAX];
    uint32_t part_count;
    uint32_t outer, inner; /* chains of checksums */
    uint32_t number;       /* of the next block of the part */
    size_t part_at;
};

static void part_note(struct walk *walk, size_t end)
{
    const uint8_t *payload = walk->file->data + walk->part_at + RK_SNAPSHOT_BLOCK_HEAD;
    if (walk->part_count == RK_BACKUP_GROUPS_MAX) return;
    if (end - walk->part_at < RK_SNAPSHOT_BLOCK_HEAD + 24) return;
    walk->parts[walk->part_count++] = (struct rk_backup_part){
        .index = rk_take_u64(payload + 8),
        .term = rk_take_u64(payload + 16),
        .bytes = end - walk->part_at,
        .crc = rk_crc32c(0, walk->file->data + walk->part_at, end - walk->part_at)};
}

static void last_fill(const struct walk *walk, uint8_t *payload, size_t size, uint64_t at)
{
    if (size != LAST_FIXED + (size_t)PART_SIZE * walk->part_count) return;
    memcpy(payload, walk->file->data + RK_SNAPSHOT_BLOCK_HEAD + 8, 8);
    rk_put_u64(payload + 8, at);
    rk_put_u32(payload + 16, walk->part_count);
    for (uint32_t i = 0; i < walk->part_count; i++) {
        uint8_t *part = payload + LAST_FIXED + (size_t)PART_SIZE * i;
        rk_put_u64(part, walk->parts[i].index);
        rk_put_u64(part + 8, walk->parts[i].term);
        rk_put_u64(part + 16, walk->parts[i].bytes);
        rk_put_u32(part + 24, walk->parts[i].crc);
    }
}

static void block_seal(struct walk *walk, size_t at, struct rk_snapshot_block_head *head,
                       bool has_counts)
{
    uint8_t *block = walk->file->data + at;
    bool is_outer =
        head->kind == RK_SNAPSHOT_BACKUP || head->kind == RK_SNAPSHOT_BACKUP_END;
    if (head->kind == RK_SNAPSHOT_HEADER) {
        walk->inner = walk->number = 0;
        walk->part_at = at;
    }
    if (head->kind == RK_SNAPSHOT_BACKUP_END && has_counts)
        last_fill(walk, block + RK_SNAPSHOT_BLOCK_HEAD, head->size, at);
    if (!is_outer) head->number = walk->number++;
    rk_snapshot_seal(block, head, is_outer ? &walk->outer : &walk->inner);
    if (head->kind == RK_SNAPSHOT_END)
        part_note(walk, at + RK_SNAPSHOT_BLOCK_HEAD + head->size);
}

static void seal(struct rk_buf *file, bool has_counts)
{
    static struct walk walk;
    memset(&walk, 0, sizeof(walk));
    walk.file = file;
    for (size_t at = 0; file->size - at >= RK_SNAPSHOT_BLOCK_HEAD;) {
        const uint8_t *block = file->data + at;
        struct rk_snapshot_block_head head = {
            .kind = (enum rk_snapshot_kind)rk_take_u32(block + 8),
            .size = rk_take_u32(block + 12),
            .count = rk_take_u32(block + 16),
            .number = rk_take_u32(block + 20),
        };
        size_t left = file->size - at - RK_SNAPSHOT_BLOCK_HEAD;
        if (head.size > left) head.size = (uint32_t)left;
        block_seal(&walk, at, &head, has_counts);
        at += RK_SNAPSHOT_BLOCK_HEAD + (size_t)head.size;
    }
}

static enum rk_status part_read(const struct rk_backup_reader *backup, uint32_t group,
                                struct rk_storage_error *error)
{
    struct rk_snapshot_reader *snapshot = NULL;
    bool is_end = false;
    enum rk_status status = rk_backup_snapshot_open(backup, &snapshot, group, error);
    while (status == RK_OK && !is_end) {
        struct rk_slice record;
        status = rk_snapshot_reader_next(snapshot, &record, &is_end, error);
    }
    if (status == RK_OK) status = rk_backup_snapshot_check(backup, group, snapshot, error);
    rk_snapshot_reader_free(snapshot);
    return status;
}

/* What was taken has one encoding. */
static void make_again(const struct rk_backup_reader *backup, struct rk_slice content)
{
    static struct rk_backup_encoder encoder;
    struct rk_buf out;
    const struct rk_backup_header *header = rk_backup_reader_header(backup);
    rk_buf_init(&out);
    RK_ASSERT(rk_backup_begin(&encoder, header, &out) == RK_OK);
    for (uint32_t i = 0; i < header->group_count; i++) {
        const struct rk_backup_part *part = rk_backup_reader_part(backup, i);
        struct rk_slice bytes = rk_slice_of(content.data + out.size, (size_t)part->bytes);
        rk_backup_part(&encoder, (struct rk_snapshot_id){i, part->index, part->term});
        rk_backup_bytes(&encoder, bytes);
        rk_buf_append_slice(&out, bytes);
    }
    RK_ASSERT(rk_backup_end(&encoder, &out) == RK_OK);
    RK_ASSERT(rk_slice_is_equal(rk_buf_slice(&out), content));
    rk_buf_fini(&out);
}

static void check(struct rk_slice content)
{
    struct rk_storage_error error = {.message = ""};
    struct rk_backup_reader *backup = NULL;
    struct rk_memfs *memfs = rk_memfs_new(1);
    struct rk_fs *fs = rk_memfs_fs(memfs);
    struct rk_file *file = NULL;
    RK_ASSERT(fs->open(fs, &file, path, RK_FS_WRITE | RK_FS_CREATE) == RK_OK);
    if (content.size > 0)
        RK_ASSERT(fs->pwrite(file, 0, content.data, content.size) == RK_OK);
    fs->close(file);
    enum rk_status status = rk_backup_reader_open(&backup, fs, path, &error);
    if (status == RK_OK) {
        RK_ASSERT(rk_backup_is_one(fs, path));
        RK_ASSERT(rk_backup_reader_digest(backup) != 0);
    }
    for (uint32_t i = 0; status == RK_OK; i++) {
        if (i == rk_backup_reader_header(backup)->group_count) break;
        status = part_read(backup, i, &error);
    }
    RK_ASSERT(status == RK_OK || status == RK_ECORRUPT || status == RK_EPROTO);
    RK_ASSERT(status == RK_OK || error.message[0] != '\0');
    if (status == RK_OK) make_again(backup, content);
    rk_backup_reader_free(backup);
    rk_memfs_free(memfs);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size == 0) return 0;
    struct rk_buf file;
    rk_buf_init(&file);
    rk_buf_append(&file, data + 1, size - 1);
    if ((data[0] & FLAG_SEAL) != 0) seal(&file, (data[0] & FLAG_COUNT) != 0);
    check(rk_buf_slice(&file));
    rk_buf_fini(&file);
    return 0;
}
