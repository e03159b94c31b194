/* A snapshot file of any bytes: verified, read, received in pieces, and encoded again.
 *
 * Input: a byte of flags, then the file. With flag 1 blocks get right checksums, with flag
 * 2 the last block right counts, so that what stands behind them is reached. */
#include "fuzz.h"

#include "base/hash.h"
#include "fuzz_snapshot.h"
#include "storage/memfs.h"
#include "storage/snapshot_format.h"

enum { FLAG_SEAL = 1, FLAG_COUNT = 2, HASH_SEED = 5 };

static const char dir[] = "snap";
static const struct rk_snapshot_id fuzz_id = {FUZZ_SNAPSHOT_GROUP, FUZZ_SNAPSHOT_INDEX,
                                              FUZZ_SNAPSHOT_TERM};

/* Records of a block as they will be counted by the reader. */
static void count_records(struct rk_slice block, uint32_t left, uint64_t *count,
                          uint64_t *bytes)
{
    struct rk_reader reader;
    rk_reader_init(&reader, block);
    for (; left > 0 && rk_reader_left(&reader) > 0; left--) {
        *bytes += rk_read_blob(&reader).size;
        *count += 1;
    }
}

static void seal(struct rk_buf *file, bool has_counts)
{
    uint32_t chain = 0, number = 0;
    uint64_t count = 0, bytes = 0;
    for (size_t at = 0; file->size - at >= RK_SNAPSHOT_BLOCK_HEAD; number++) {
        uint8_t *block = file->data + at;
        struct rk_snapshot_block_head head = {
            .kind = (enum rk_snapshot_kind)rk_take_u32(block + 8),
            .size = rk_take_u32(block + 12),
            .count = rk_take_u32(block + 16),
            .number = number,
        };
        size_t left = file->size - at - RK_SNAPSHOT_BLOCK_HEAD;
        if (head.size > left) head.size = (uint32_t)left;
        uint8_t *payload = block + RK_SNAPSHOT_BLOCK_HEAD;
        if (head.kind == RK_SNAPSHOT_RECORDS)
            count_records(rk_slice_of(payload, head.size), head.count, &count, &bytes);
        if (has_counts && head.kind == RK_SNAPSHOT_END &&
            head.size == RK_SNAPSHOT_END_SIZE) {
            rk_put_u64(payload, count);
            rk_put_u64(payload + 8, bytes);
            rk_put_u64(payload + 16, number + 1u);
        }
        rk_snapshot_seal(block, &head, &chain);
        at += RK_SNAPSHOT_BLOCK_HEAD + (size_t)head.size;
    }
}

static void put_file(struct rk_fs *fs, struct rk_slice content)
{
    char path[RK_FS_PATH_MAX];
    struct rk_file *file = NULL;
    RK_ASSERT(fs->mkdir(fs, dir) == RK_OK);
    RK_ASSERT(rk_snapshot_path(path, dir, fuzz_id, RK_SNAPSHOT_FINAL) == RK_OK);
    RK_ASSERT(fs->open(fs, &file, path, RK_FS_WRITE | RK_FS_CREATE) == RK_OK);
    if (content.size > 0)
        RK_ASSERT(fs->pwrite(file, 0, content.data, content.size) == RK_OK);
    fs->close(file);
}

/* Its records into encoder (may be NULL) and a digest. */
static enum rk_status read_all(struct rk_fs *fs, struct rk_snapshot_summary *out,
                               uint64_t *digest, struct rk_snapshot_encoder *encoder)
{
    struct rk_snapshot_reader *reader = NULL;
    struct rk_slice record;
    bool is_end = false;
    enum rk_status status = rk_snapshot_reader_open(&reader, fs, dir, fuzz_id, NULL);
    if (status != RK_OK) return status;
    const struct rk_snapshot_header *header = rk_snapshot_reader_header(reader);
    *out = (struct rk_snapshot_summary){.history = header->history,
                                        .conf_bytes = header->conf.size};
    *digest = rk_hash_seeded(header->conf, HASH_SEED);
    if (encoder != NULL) RK_ASSERT(rk_snapshot_encoder_init(encoder, header) == RK_OK);
    for (;;) {
        status = rk_snapshot_reader_next(reader, &record, &is_end, NULL);
        if (status != RK_OK || is_end) break;
        out->record_count++;
        out->record_bytes += record.size;
        *digest = rk_hash_mix(*digest, rk_hash(record));
        if (encoder != NULL) RK_ASSERT(rk_snapshot_encoder_add(encoder, record) == RK_OK);
    }
    rk_snapshot_reader_free(reader);
    return status;
}

/* Sent in pieces with a broken link in the middle: the same verdict, the same file. */
static void receive(struct rk_slice content, enum rk_status verdict, uint64_t digest)
{
    struct rk_snapshot_sink *sink = NULL;
    struct rk_snapshot_summary summary;
    uint64_t received = 0, step = content.size / 3 + 1;
    struct rk_memfs *memfs = rk_memfs_new(2);
    struct rk_fs *fs = rk_memfs_fs(memfs);
    RK_ASSERT(fs->mkdir(fs, dir) == RK_OK);
    RK_ASSERT(rk_snapshot_sink_open(&sink, fs, dir, fuzz_id, NULL) == RK_OK);
    for (int turn = 0; rk_snapshot_sink_offset(sink) < content.size; turn++) {
        uint64_t at = rk_snapshot_sink_offset(sink);
        size_t left = content.size - (size_t)at;
        struct rk_slice piece =
            rk_slice_of(content.data + at, step < left ? (size_t)step : left);
        RK_ASSERT(rk_snapshot_sink_write(sink, at, piece, NULL) == RK_OK);
        if (turn != 1) continue;
        rk_snapshot_sink_free(sink);
        RK_ASSERT(rk_snapshot_sink_open(&sink, fs, dir, fuzz_id, NULL) == RK_OK);
    }
    enum rk_status status = rk_snapshot_sink_finish(sink, NULL);
    RK_ASSERT((status == RK_OK) == (verdict == RK_OK));
    if (status == RK_OK) {
        RK_ASSERT(read_all(fs, &summary, &received, NULL) == RK_OK);
        RK_ASSERT(received == digest);
    }
    rk_memfs_free(memfs);
}

static void encode_again(struct rk_snapshot_encoder *encoder, uint64_t digest)
{
    struct rk_snapshot_block block;
    struct rk_snapshot_summary summary;
    struct rk_memfs *memfs = rk_memfs_new(3);
    struct rk_fs *fs = rk_memfs_fs(memfs);
    uint64_t again = 0;
    RK_ASSERT(rk_snapshot_encoder_finish(encoder) == RK_OK);
    rk_snapshot_encoder_take(encoder, &block);
    put_file(fs, rk_buf_slice(&block.bytes));
    rk_buf_fini(&block.bytes);
    RK_ASSERT(read_all(fs, &summary, &again, NULL) == RK_OK);
    RK_ASSERT(again == digest);
    rk_memfs_free(memfs);
}

static void check(struct rk_slice content)
{
    struct rk_snapshot_summary verified, read = {0};
    struct rk_storage_error error = {.message = ""};
    struct rk_snapshot_encoder encoder = {0};
    struct rk_memfs *memfs = rk_memfs_new(1);
    struct rk_fs *fs = rk_memfs_fs(memfs);
    uint64_t digest = 0;
    put_file(fs, content);
    enum rk_status status = rk_snapshot_verify(fs, dir, fuzz_id, &verified, &error);
    RK_ASSERT(status == RK_OK || status == RK_ECORRUPT || status == RK_EPROTO);
    RK_ASSERT(status == RK_OK || error.message[0] != '\0');
    RK_ASSERT(read_all(fs, &read, &digest, &encoder) == status);
    if (status == RK_OK) {
        RK_ASSERT(verified.file_bytes == content.size);
        RK_ASSERT(verified.history == read.history);
        RK_ASSERT(verified.conf_bytes == read.conf_bytes);
        RK_ASSERT(verified.record_count == read.record_count);
        RK_ASSERT(verified.record_bytes == read.record_bytes);
        encode_again(&encoder, digest);
    }
    rk_snapshot_encoder_fini(&encoder);
    rk_memfs_free(memfs);
    receive(content, status, digest);
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
