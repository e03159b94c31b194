/* Seeds of logs and snapshots, written by the code that writes real ones. */
#include "seeds.h"

#include "fuzz_snapshot.h"
#include "fuzz_wal.h"
#include "storage/backup.h"
#include "storage/memfs.h"
#include "storage/snapshot.h"
#include "storage/wal.h"

#include <stdio.h>

enum { SEALED = 1, COUNTED = 2 };

static struct rk_slice without_zeros(const struct rk_buf *file)
{
    size_t size = file->size;
    while (size > 0 && file->data[size - 1] == 0)
        size--;
    return rk_slice_of(file->data, size);
}

/* All segment files of the log. */
static void seed_log(const char *name, struct rk_fs *fs)
{
    struct rk_buf out, file;
    rk_buf_init(&out);
    rk_buf_init(&file);
    rk_buf_u8(&out, SEALED);
    for (int i = 1; i <= 4; i++) {
        char path[32];
        (void)snprintf(path, sizeof(path), "wal/%08d.wal", i);
        rk_buf_reset(&file);
        if (rk_fs_read_file(fs, &file, path, 1 << 20) == RK_OK)
            seed_chunk(&out, without_zeros(&file));
    }
    seed_write("wal", name, rk_buf_slice(&out));
    rk_buf_fini(&out);
    rk_buf_fini(&file);
}

static void add_entries(struct rk_wal_batch *batch, uint32_t group, uint64_t first,
                        uint64_t term)
{
    const struct rk_raft_entry entries[] = {
        {first, term, RK_SLICE_LITERAL("some data of an entry"), RK_RAFT_ENTRY_NORMAL},
        {first + 1, term, RK_SLICE_EMPTY, RK_RAFT_ENTRY_CONF}};
    const struct rk_raft_hard_state hard = {term, 1, first};
    RK_ASSERT(rk_wal_batch_entries(batch, group, entries, 2) == RK_OK);
    RK_ASSERT(rk_wal_batch_hard_state(batch, group, hard) == RK_OK);
}

static void add_rest(struct rk_wal_batch *batch)
{
    const struct rk_raft_entry entry = {8, 3, RK_SLICE_LITERAL("x"), RK_RAFT_ENTRY_NORMAL};
    struct rk_slice blob = RK_SLICE_LITERAL("a configuration");
    RK_ASSERT(rk_wal_batch_truncate(batch, 0, 8) == RK_OK);
    RK_ASSERT(rk_wal_batch_entries(batch, 0, &entry, 1) == RK_OK);
    RK_ASSERT(rk_wal_batch_mark(batch, 0, 3, 1, blob) == RK_OK);
    RK_ASSERT(rk_wal_batch_compact(batch, 0, 3, 1) == RK_OK);
    RK_ASSERT(rk_wal_batch_meta(batch, 2, blob) == RK_OK);
    RK_ASSERT(rk_wal_batch_node(batch, blob) == RK_OK);
    RK_ASSERT(rk_wal_batch_install(batch, 2, 50, 2, blob) == RK_OK);
}

static void write_batch(struct rk_wal *wal, struct rk_wal_batch *batch)
{
    bool has_more;
    RK_ASSERT(rk_wal_write(wal, batch, NULL) == RK_OK);
    RK_ASSERT(rk_wal_tend(wal, false, &has_more, NULL) == RK_OK);
    rk_wal_batch_reset(batch);
}

static void seed_logs(void)
{
    struct rk_memfs *memfs = rk_memfs_new(1);
    struct rk_fs *fs = rk_memfs_fs(memfs);
    struct rk_wal *wal = NULL;
    struct rk_wal_recovered found;
    struct rk_wal_options options;
    struct rk_wal_batch batch;
    rk_wal_options_init(&options);
    options.id = FUZZ_WAL_ID;
    options.segment_first = options.segment_later = FUZZ_WAL_SEGMENT;
    RK_ASSERT(rk_wal_open(&wal, fs, "wal", &options, &found, NULL) == RK_OK);
    rk_wal_batch_init(&batch);
    seed_log("born", fs);
    for (uint64_t i = 0; i < 4; i++) {
        add_entries(&batch, 0, 1 + 2 * i, 1 + i / 2);
        if (i == 1) add_entries(&batch, 2, 1, 2);
        write_batch(wal, &batch);
    }
    seed_log("entries", fs);
    add_rest(&batch);
    write_batch(wal, &batch);
    seed_log("all_records", fs);
    for (uint64_t i = 0; i < 26; i++) {
        const struct rk_raft_entry entry = {9 + i, 3, RK_SLICE_EMPTY, RK_RAFT_ENTRY_NORMAL};
        RK_ASSERT(rk_wal_batch_entries(&batch, 0, &entry, 1) == RK_OK);
        write_batch(wal, &batch);
    }
    seed_log("two_segments", fs);
    rk_wal_batch_fini(&batch);
    rk_wal_recovered_fini(&found);
    rk_wal_free(wal);
    rk_memfs_free(memfs);
}

static void seed_snapshot(const char *name, uint32_t records)
{
    const struct rk_snapshot_header header = {
        .id = {FUZZ_SNAPSHOT_GROUP, FUZZ_SNAPSHOT_INDEX, FUZZ_SNAPSHOT_TERM},
        .history = 77,
        .conf = RK_SLICE_LITERAL("conf")};
    struct rk_snapshot_encoder encoder;
    struct rk_snapshot_block block;
    struct rk_buf out;
    rk_buf_init(&out);
    rk_buf_u8(&out, SEALED | COUNTED);
    RK_ASSERT(rk_snapshot_encoder_init(&encoder, &header) == RK_OK);
    for (uint32_t i = 0; i < records; i++) {
        struct rk_slice record = RK_SLICE_LITERAL("a record of some length");
        record.size = i * 3 % record.size;
        RK_ASSERT(rk_snapshot_encoder_add(&encoder, record) == RK_OK);
        if (i % 3 != 2) continue;
        rk_snapshot_encoder_take(&encoder, &block);
        rk_buf_append_slice(&out, rk_buf_slice(&block.bytes));
        rk_buf_fini(&block.bytes);
    }
    RK_ASSERT(rk_snapshot_encoder_finish(&encoder) == RK_OK);
    rk_snapshot_encoder_take(&encoder, &block);
    rk_buf_append_slice(&out, rk_buf_slice(&block.bytes));
    rk_buf_fini(&block.bytes);
    rk_snapshot_encoder_fini(&encoder);
    seed_write("snapshot", name, rk_buf_slice(&out));
    rk_buf_fini(&out);
}

static void seed_part(struct rk_backup_encoder *backup, uint32_t group, struct rk_buf *out)
{
    const struct rk_snapshot_header header = {.id = {group, 100 + group, 7}, .history = 77};
    struct rk_snapshot_encoder encoder;
    struct rk_snapshot_block block;
    RK_ASSERT(rk_snapshot_encoder_init(&encoder, &header) == RK_OK);
    for (uint32_t i = 0; i < group; i++)
        RK_ASSERT(rk_snapshot_encoder_add(&encoder, RK_SLICE_LITERAL("record")) == RK_OK);
    RK_ASSERT(rk_snapshot_encoder_finish(&encoder) == RK_OK);
    rk_snapshot_encoder_take(&encoder, &block);
    rk_backup_part(backup, header.id);
    rk_backup_bytes(backup, rk_buf_slice(&block.bytes));
    rk_buf_append_slice(out, rk_buf_slice(&block.bytes));
    rk_buf_fini(&block.bytes);
    rk_snapshot_encoder_fini(&encoder);
}

static void seed_backup(const char *name, uint32_t group_count)
{
    static struct rk_backup_encoder encoder;
    const struct rk_backup_header header = {.id = 9,
                                            .cluster_high = 1,
                                            .history = 77,
                                            .group_count = group_count,
                                            .node = RK_SLICE_LITERAL("n1"),
                                            .program = RK_SLICE_LITERAL("rukund")};
    struct rk_buf out;
    rk_buf_init(&out);
    rk_buf_u8(&out, SEALED | COUNTED);
    RK_ASSERT(rk_backup_begin(&encoder, &header, &out) == RK_OK);
    for (uint32_t i = 0; i < group_count; i++)
        seed_part(&encoder, i, &out);
    RK_ASSERT(rk_backup_end(&encoder, &out) == RK_OK);
    seed_write("backup", name, rk_buf_slice(&out));
    rk_buf_fini(&out);
}

void seeds_of_storage(void)
{
    seed_backup("one", 1);
    seed_backup("three", 3);
    seed_logs();
    seed_snapshot("empty", 0);
    seed_snapshot("records", 7);
}
