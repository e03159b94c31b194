/* Recovery from any bytes in the segment files of a log.
 *
 * Input: a byte of flags, then each file as a chunk (zeros at its end left out). With flag
 * 1 heads and batches that are still recognised get right checksums, so that what stands
 * behind them is reached. */
#include "fuzz.h"

#include "base/crc32c.h"
#include "base/hash.h"
#include "fuzz_wal.h"
#include "storage/entry_log.h"
#include "storage/inspect.h"
#include "storage/memfs.h"
#include "storage/wal_format.h"

#include <stdio.h>

enum { FILES_MAX = 4, FLAG_SEAL = 1 };

static void seal(struct rk_buf *file)
{
    static const uint8_t batch_magic[] = "RKWB";
    uint8_t *bytes = file->data;
    rk_put_u32(bytes + 4, rk_crc32c(0, bytes + 8, RK_WAL_SEGMENT_HEAD - 8));
    uint32_t salt = rk_wal_salt(FUZZ_WAL_ID, rk_take_u64(bytes + 24));
    for (size_t at = RK_WAL_SEGMENT_HEAD; at < file->size; at += RK_WAL_SECTOR) {
        if (memcmp(bytes + at, batch_magic, 4) != 0) continue;
        uint32_t size = rk_take_u32(bytes + at + 32);
        if (size > file->size - at - RK_WAL_BATCH_HEAD) continue;
        struct rk_wal_batch_head head = {
            .sequence = rk_take_u64(bytes + at + 8),
            .durable = rk_take_u64(bytes + at + 16),
            .oldest = rk_take_u64(bytes + at + 24),
            .size = size,
            .count = rk_take_u32(bytes + at + 36),
            .flags = rk_take_u32(bytes + at + 40),
        };
        rk_wal_batch_seal(bytes + at, &head, salt);
    }
}

static void put_file(struct rk_fs *fs, const char *path, struct rk_slice content)
{
    struct rk_file *file = NULL;
    RK_ASSERT(fs->open(fs, &file, path, RK_FS_WRITE | RK_FS_CREATE) == RK_OK);
    RK_ASSERT(fs->pwrite(file, 0, content.data, content.size) == RK_OK);
    RK_ASSERT(fs->datasync(file) == RK_OK);
    fs->close(file);
}

static void lay_files(struct rk_fs *fs, struct rk_reader *in, bool is_sealed)
{
    uint8_t id[RK_WAL_ID_SIZE];
    RK_ASSERT(fs->mkdir(fs, "wal") == RK_OK);
    rk_wal_id_encode(id, FUZZ_WAL_ID);
    put_file(fs, "wal/id", rk_slice_of(id, sizeof(id)));
    for (int i = 1; i <= FILES_MAX && rk_reader_left(in) > 0; i++) {
        char path[32];
        struct rk_buf file;
        rk_buf_init(&file);
        rk_buf_append_slice(&file, fuzz_chunk(in));
        size_t size =
            file.size > FUZZ_WAL_SEGMENT ? 4 * FUZZ_WAL_SEGMENT : FUZZ_WAL_SEGMENT;
        memset(rk_buf_extend(&file, size - file.size), 0, size - file.size);
        if (is_sealed) seal(&file);
        (void)snprintf(path, sizeof(path), "wal/%08d.wal", i);
        put_file(fs, path, rk_buf_slice(&file));
        rk_buf_fini(&file);
    }
    RK_ASSERT(fs->sync_dir(fs, "wal") == RK_OK && fs->sync_dir(fs, "") == RK_OK);
}

static uint64_t mix_entries(uint64_t digest, struct rk_entry_log *log)
{
    struct rk_arena arena;
    uint64_t first = rk_entry_log_first(log), last = rk_entry_log_last(log), term = 0;
    digest = rk_hash_mix(rk_hash_mix(digest, first), last);
    RK_ASSERT(first == 0 || rk_entry_log_term(log, &term, first - 1) == RK_OK);
    digest = rk_hash_mix(digest, term);
    rk_arena_init(&arena);
    for (uint64_t at = first; at <= last && last != UINT64_MAX;) {
        const struct rk_raft_entry *entries = NULL;
        size_t count = 0;
        RK_ASSERT(rk_entry_log_entries(log, at, last + 1, 4096, &arena, &entries, &count,
                                       NULL) == RK_OK);
        RK_ASSERT(count > 0);
        for (size_t i = 0; i < count; i++) {
            RK_ASSERT(entries[i].index == at + i);
            digest = rk_hash_mix(digest, entries[i].term);
            digest = rk_hash_mix(digest, entries[i].type);
            digest = rk_hash_mix(digest, rk_hash(entries[i].data));
        }
        at += count;
        rk_arena_reset(&arena);
    }
    rk_arena_fini(&arena);
    return digest;
}

static uint64_t digest_of(const struct rk_wal_recovered *found)
{
    uint64_t digest = rk_hash(rk_buf_slice(&found->node));
    for (uint32_t i = 0; i < RK_WAL_GROUPS_MAX; i++) {
        const struct rk_wal_group *group = &found->groups[i];
        if (!group->is_present) continue;
        digest = rk_hash_mix(digest, i);
        digest = rk_hash_mix(digest, group->hard.term);
        digest = rk_hash_mix(digest, group->hard.vote);
        digest = rk_hash_mix(digest, group->hard.commit);
        digest = rk_hash_mix(digest, group->mark_index);
        digest = rk_hash_mix(digest, group->mark_term);
        digest = rk_hash_mix(digest, rk_hash(rk_buf_slice(&group->mark_conf)));
        digest = rk_hash_mix(digest, rk_hash(rk_buf_slice(&group->meta)));
        digest = mix_entries(digest, group->log);
    }
    return digest;
}

static enum rk_status open_log(struct rk_wal **wal, struct rk_fs *fs,
                               struct rk_wal_recovered *found)
{
    struct rk_storage_error error;
    struct rk_wal_options options;
    rk_wal_options_init(&options);
    options.id = FUZZ_WAL_ID;
    options.segment_first = options.segment_later = FUZZ_WAL_SEGMENT;
    options.cache_bytes = 512;
    enum rk_status status = rk_wal_open(wal, fs, "wal", &options, found, &error);
    RK_ASSERT(status == RK_OK || error.message[0] != '\0');
    return status;
}

/* A log that was recovered takes a batch and has it, and all else, at the next start. */
static void write_more(struct rk_wal *wal, struct rk_fs *fs, uint64_t *digest)
{
    struct rk_wal_batch batch;
    struct rk_wal_recovered found;
    struct rk_storage_error error;
    struct rk_slice node = RK_SLICE_LITERAL("another node's blob");
    rk_wal_batch_init(&batch);
    RK_ASSERT(rk_wal_batch_node(&batch, node) == RK_OK);
    enum rk_status status = rk_wal_write(wal, &batch, &error);
    if (status != RK_OK) fprintf(stderr, "%s: %s\n", rk_status_text(status), error.message);
    rk_wal_batch_fini(&batch);
    rk_wal_free(wal);
    RK_ASSERT(status == RK_OK);
    RK_ASSERT(open_log(&wal, fs, &found) == RK_OK);
    RK_ASSERT(rk_slice_is_equal(rk_buf_slice(&found.node), node));
    *digest = digest_of(&found);
    rk_wal_recovered_fini(&found);
    rk_wal_free(wal);
}

static void recover(struct rk_fs *fs)
{
    struct rk_wal *wal = NULL;
    struct rk_wal_recovered found;
    struct rk_buf text;
    struct rk_storage_inspect_options options;
    uint64_t faults = 0, digest;
    rk_storage_inspect_options_init(&options);
    options.has_batches = options.has_records = true;
    rk_buf_init(&text);
    enum rk_status inspected =
        rk_storage_inspect(fs, "wal", "snapshots", &options, &text, &faults, NULL);
    rk_buf_fini(&text);
    enum rk_status status = open_log(&wal, fs, &found);
    if (status != RK_OK) {
        RK_ASSERT(status == RK_ECORRUPT || status == RK_EPROTO);
        return;
    }
    RK_ASSERT(inspected == RK_OK);
    uint64_t first = digest_of(&found);
    rk_wal_recovered_fini(&found);
    rk_wal_free(wal);
    RK_ASSERT(open_log(&wal, fs, &found) == RK_OK);
    RK_ASSERT(found.dropped_bytes == 0);
    RK_ASSERT(digest_of(&found) == first);
    rk_buf_reset(&found.node);
    rk_buf_append_string(&found.node, "another node's blob");
    uint64_t expected = digest_of(&found);
    write_more(wal, fs, &digest);
    rk_wal_recovered_fini(&found);
    RK_ASSERT(digest == expected);
}

/* Records alone, without the files around them. */
static void read_records(struct rk_slice bytes)
{
    struct rk_reader reader;
    struct rk_wal_record record;
    struct rk_buf again;
    rk_buf_init(&again);
    rk_reader_init(&reader, bytes);
    while (rk_reader_left(&reader) > 0 && rk_wal_record_read(&reader, &record))
        rk_wal_record_write(&again, &record);
    RK_ASSERT(again.size <= bytes.size);
    RK_ASSERT(rk_slice_is_equal(rk_buf_slice(&again), rk_slice_of(bytes.data, again.size)));
    rk_buf_fini(&again);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct rk_reader in;
    if (size == 0) return 0;
    rk_reader_init(&in, rk_slice_of(data, size));
    uint8_t flags = fuzz_byte(&in);
    struct rk_memfs *memfs = rk_memfs_new(1);
    lay_files(rk_memfs_fs(memfs), &in, (flags & FLAG_SEAL) != 0);
    recover(rk_memfs_fs(memfs));
    rk_memfs_free(memfs);
    read_records(rk_slice_of(data, size));
    return 0;
}
