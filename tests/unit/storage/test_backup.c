/* Backups: what is written is read, and damage of any byte is found and named. */
#include "base/alloc.h"
#include "storage/backup.h"
#include "storage/memfs.h"
#include "storage/snapshot_format.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>

enum { GROUPS = 3, RECORDS = 5 };

static const char path[] = "file";

static struct rk_snapshot_id id_of(uint32_t group)
{
    return (struct rk_snapshot_id){group, 100 + group, 7 + group};
}

/* The bytes of a group's snapshot file. */
static void snapshot_make(struct rk_buf *out, uint32_t group, uint32_t records)
{
    struct rk_snapshot_encoder encoder;
    struct rk_snapshot_block block;
    const struct rk_snapshot_header header = {
        .id = id_of(group), .history = 5, .conf = RK_SLICE_LITERAL("conf")};
    assert_int_equal(rk_snapshot_encoder_init(&encoder, &header), RK_OK);
    for (uint32_t i = 0; i < records; i++) {
        uint8_t record[20];
        memset(record, (int)(group * 16 + i), sizeof(record));
        assert_int_equal(
            rk_snapshot_encoder_add(&encoder, rk_slice_of(record, sizeof(record))), RK_OK);
    }
    assert_int_equal(rk_snapshot_encoder_finish(&encoder), RK_OK);
    rk_snapshot_encoder_take(&encoder, &block);
    rk_buf_append_slice(out, rk_buf_slice(&block.bytes));
    rk_buf_fini(&block.bytes);
    rk_snapshot_encoder_fini(&encoder);
}

static struct rk_backup_header header_make(uint64_t id)
{
    return (struct rk_backup_header){.id = id,
                                     .cluster_high = 1,
                                     .cluster_low = 2,
                                     .history = 5,
                                     .saved_ms = 1700000000123,
                                     .group_count = GROUPS,
                                     .cluster = RK_SLICE_LITERAL("main"),
                                     .node = RK_SLICE_LITERAL("n1"),
                                     .program = RK_SLICE_LITERAL("test")};
}

static void backup_make(struct rk_buf *out, uint64_t id, uint32_t records)
{
    struct rk_backup_encoder encoder;
    struct rk_backup_header header = header_make(id);
    assert_int_equal(rk_backup_begin(&encoder, &header, out), RK_OK);
    for (uint32_t i = 0; i < GROUPS; i++) {
        struct rk_buf snapshot;
        rk_buf_init(&snapshot);
        snapshot_make(&snapshot, i, records + i);
        rk_backup_part(&encoder, id_of(i));
        /* In two pieces. */
        rk_backup_bytes(&encoder, rk_slice_of(snapshot.data, 30));
        rk_backup_bytes(&encoder, rk_slice_of(snapshot.data + 30, snapshot.size - 30));
        rk_buf_append_slice(out, rk_buf_slice(&snapshot));
        rk_buf_fini(&snapshot);
    }
    assert_int_equal(rk_backup_end(&encoder, out), RK_OK);
}

static void put_file(struct rk_fs *fs, const char *name, struct rk_slice content)
{
    struct rk_file *file = NULL;
    assert_int_equal(fs->open(fs, &file, name, RK_FS_WRITE | RK_FS_CREATE | RK_FS_TRUNCATE),
                     RK_OK);
    if (content.size > 0)
        assert_int_equal(fs->pwrite(file, 0, content.data, content.size), RK_OK);
    fs->close(file);
}

/* Reads everything; counts records. */
static enum rk_status read_group(const struct rk_backup_reader *backup, uint32_t group,
                                 uint64_t *records, struct rk_storage_error *error)
{
    struct rk_snapshot_reader *snapshot = NULL;
    bool is_end = false;
    enum rk_status status = rk_backup_snapshot_open(backup, &snapshot, group, error);
    while (status == RK_OK && !is_end) {
        struct rk_slice record;
        status = rk_snapshot_reader_next(snapshot, &record, &is_end, error);
        if (status == RK_OK && !is_end) *records += 1;
    }
    if (status == RK_OK) status = rk_backup_snapshot_check(backup, group, snapshot, error);
    rk_snapshot_reader_free(snapshot);
    return status;
}

static enum rk_status read_all(struct rk_fs *fs, uint64_t *records,
                               struct rk_storage_error *error)
{
    struct rk_backup_reader *backup = NULL;
    *records = 0;
    error->message[0] = '\0';
    enum rk_status status = rk_backup_reader_open(&backup, fs, path, error);
    for (uint32_t i = 0; status == RK_OK && i < GROUPS; i++)
        status = read_group(backup, i, records, error);
    rk_backup_reader_free(backup);
    return status;
}

static void test_what_is_written_is_read(void **state)
{
    (void)state;
    struct rk_memfs *memfs = rk_memfs_new(1);
    struct rk_fs *fs = rk_memfs_fs(memfs);
    struct rk_storage_error error;
    struct rk_backup_reader *backup = NULL;
    struct rk_buf file;
    uint64_t records;
    rk_buf_init(&file);
    backup_make(&file, 99, RECORDS);
    put_file(fs, path, rk_buf_slice(&file));
    assert_true(rk_backup_is_one(fs, path));
    assert_int_equal(rk_backup_reader_open(&backup, fs, path, &error), RK_OK);
    const struct rk_backup_header *header = rk_backup_reader_header(backup);
    assert_int_equal(header->id, 99);
    assert_int_equal(header->cluster_high, 1);
    assert_int_equal(header->cluster_low, 2);
    assert_int_equal(header->history, 5);
    assert_int_equal(header->saved_ms, 1700000000123);
    assert_int_equal(header->group_count, GROUPS);
    assert_true(rk_slice_is_equal(header->cluster, RK_SLICE_LITERAL("main")));
    assert_true(rk_slice_is_equal(header->node, RK_SLICE_LITERAL("n1")));
    assert_true(rk_slice_is_equal(header->program, RK_SLICE_LITERAL("test")));
    assert_int_equal(rk_backup_reader_part(backup, 2)->index, 102);
    assert_int_equal(rk_backup_reader_part(backup, 2)->term, 9);
    assert_int_equal(rk_backup_reader_size(backup), file.size);
    uint64_t digest = rk_backup_reader_digest(backup);
    rk_backup_reader_free(backup);
    assert_int_equal(read_all(fs, &records, &error), RK_OK);
    assert_int_equal(records, 3 * RECORDS + 3);
    /* The same state saved again is another backup. */
    rk_buf_reset(&file);
    backup_make(&file, 100, RECORDS);
    put_file(fs, path, rk_buf_slice(&file));
    assert_int_equal(rk_backup_reader_open(&backup, fs, path, &error), RK_OK);
    assert_int_not_equal(rk_backup_reader_digest(backup), digest);
    rk_backup_reader_free(backup);
    rk_buf_fini(&file);
    rk_memfs_free(memfs);
}

/* The place that the message names is not far from the damage: at most a block before. */
static void check_place(const char *message, size_t damaged, size_t size)
{
    const char *at = strstr(message, "offset ");
    assert_non_null(at);
    unsigned long long offset = strtoull(at + strlen("offset "), NULL, 10);
    assert_true(offset <= size);
    assert_true(offset <= damaged + 24);
    assert_true(offset + 400 > damaged);
}

static void test_every_damaged_byte_is_found(void **state)
{
    (void)state;
    struct rk_memfs *memfs = rk_memfs_new(1);
    struct rk_fs *fs = rk_memfs_fs(memfs);
    struct rk_storage_error error;
    struct rk_buf file;
    uint64_t records;
    rk_buf_init(&file);
    backup_make(&file, 99, RECORDS);
    for (size_t at = 0; at < file.size; at++) {
        for (int bit = 0; bit < 8; bit += 3) {
            file.data[at] ^= (uint8_t)(1 << bit);
            put_file(fs, path, rk_buf_slice(&file));
            enum rk_status status = read_all(fs, &records, &error);
            if (status != RK_ECORRUPT) fail_msg("byte %zu: %s", at, rk_status_text(status));
            check_place(error.message, at, file.size);
            file.data[at] ^= (uint8_t)(1 << bit);
        }
    }
    rk_buf_fini(&file);
    rk_memfs_free(memfs);
}

static void test_every_length_but_the_whole_is_refused(void **state)
{
    (void)state;
    struct rk_memfs *memfs = rk_memfs_new(1);
    struct rk_fs *fs = rk_memfs_fs(memfs);
    struct rk_storage_error error;
    struct rk_buf file;
    uint64_t records;
    rk_buf_init(&file);
    backup_make(&file, 99, RECORDS);
    size_t size = file.size;
    for (size_t at = 0; at < size; at++) {
        put_file(fs, path, rk_slice_of(file.data, at));
        assert_int_equal(read_all(fs, &records, &error), RK_ECORRUPT);
        assert_non_null(strstr(error.message, "offset "));
    }
    rk_buf_u8(&file, 0);
    put_file(fs, path, rk_buf_slice(&file));
    assert_int_equal(read_all(fs, &records, &error), RK_ECORRUPT);
    rk_buf_fini(&file);
    rk_memfs_free(memfs);
}

/* A sound snapshot of another moment in the place of one: each block is right. */
static void test_a_snapshot_of_another_backup_is_found(void **state)
{
    (void)state;
    struct rk_memfs *memfs = rk_memfs_new(1);
    struct rk_fs *fs = rk_memfs_fs(memfs);
    struct rk_storage_error error;
    struct rk_buf file, snapshot;
    uint64_t records;
    rk_buf_init(&file);
    rk_buf_init(&snapshot);
    backup_make(&file, 99, RECORDS);
    snapshot_make(&snapshot, 0, RECORDS);
    size_t at = 0;
    while (memcmp(file.data + at, snapshot.data, snapshot.size) != 0)
        at++;
    /* Same size, other records. */
    uint8_t *record = snapshot.data + snapshot.size - 60;
    record[0] ^= 1;
    uint32_t chain = 0;
    for (size_t block = 0, number = 0; block < snapshot.size; number++) {
        struct rk_snapshot_block_head head;
        assert_int_equal(rk_snapshot_head_read(&head, snapshot.data + block), RK_OK);
        rk_snapshot_seal(snapshot.data + block, &head, &chain);
        block += RK_SNAPSHOT_BLOCK_HEAD + head.size;
    }
    memcpy(file.data + at, snapshot.data, snapshot.size);
    put_file(fs, path, rk_buf_slice(&file));
    assert_int_equal(read_all(fs, &records, &error), RK_ECORRUPT);
    assert_non_null(strstr(error.message, "another one"));
    rk_buf_fini(&file);
    rk_buf_fini(&snapshot);
    rk_memfs_free(memfs);
}

/* A byte that no checksum covers: between the last snapshot and the last block. */
static void test_every_byte_belongs_to_something(void **state)
{
    (void)state;
    struct rk_memfs *memfs = rk_memfs_new(1);
    struct rk_fs *fs = rk_memfs_fs(memfs);
    struct rk_backup_encoder encoder;
    struct rk_storage_error error;
    struct rk_buf file, snapshot;
    uint64_t records;
    rk_buf_init(&file);
    rk_buf_init(&snapshot);
    struct rk_backup_header header = header_make(1);
    header.group_count = 1;
    assert_int_equal(rk_backup_begin(&encoder, &header, &file), RK_OK);
    snapshot_make(&snapshot, 0, RECORDS);
    rk_backup_part(&encoder, id_of(0));
    rk_backup_bytes(&encoder, rk_buf_slice(&snapshot));
    rk_buf_append_slice(&file, rk_buf_slice(&snapshot));
    rk_buf_u8(&file, 'x');
    encoder.bytes++;
    assert_int_equal(rk_backup_end(&encoder, &file), RK_OK);
    put_file(fs, path, rk_buf_slice(&file));
    assert_int_equal(read_all(fs, &records, &error), RK_ECORRUPT);
    assert_non_null(strstr(error.message, "the last block is malformed"));
    rk_buf_fini(&file);
    rk_buf_fini(&snapshot);
    rk_memfs_free(memfs);
}

static void test_a_newer_version_is_named(void **state)
{
    (void)state;
    struct rk_memfs *memfs = rk_memfs_new(1);
    struct rk_fs *fs = rk_memfs_fs(memfs);
    struct rk_storage_error error;
    struct rk_snapshot_block_head head;
    struct rk_buf file;
    uint64_t records;
    uint32_t chain = 0;
    rk_buf_init(&file);
    backup_make(&file, 99, RECORDS);
    rk_put_u32(file.data + RK_SNAPSHOT_BLOCK_HEAD, RK_BACKUP_VERSION + 1);
    assert_int_equal(rk_snapshot_head_read(&head, file.data), RK_OK);
    rk_snapshot_seal(file.data, &head, &chain);
    put_file(fs, path, rk_buf_slice(&file));
    assert_int_equal(read_all(fs, &records, &error), RK_EPROTO);
    assert_non_null(strstr(error.message, "version 2 is not known"));
    rk_buf_fini(&file);
    rk_memfs_free(memfs);
}

static void test_bounds_of_the_header(void **state)
{
    (void)state;
    static char text[RK_BACKUP_TEXT_MAX + 1];
    struct rk_backup_encoder encoder;
    struct rk_buf out;
    rk_buf_init(&out);
    struct rk_backup_header header = header_make(1);
    header.group_count = RK_BACKUP_GROUPS_MAX + 1;
    assert_int_equal(rk_backup_begin(&encoder, &header, &out), RK_ESIZE);
    header = header_make(1);
    header.cluster = rk_slice_of(text, sizeof(text));
    assert_int_equal(rk_backup_begin(&encoder, &header, &out), RK_ESIZE);
    assert_int_equal(out.size, 0);
    rk_buf_fini(&out);
}

static void test_copies(void **state)
{
    (void)state;
    struct rk_memfs *memfs = rk_memfs_new(1);
    struct rk_fs *fs = rk_memfs_fs(memfs);
    struct rk_storage_error error;
    struct rk_buf file, copy;
    rk_buf_init(&file);
    rk_buf_init(&copy);
    backup_make(&file, 99, 20000); /* several pieces */
    put_file(fs, path, rk_buf_slice(&file));
    assert_int_equal(fs->mkdir(fs, "dir"), RK_OK);
    assert_int_equal(fs->sync_dir(fs, "."), RK_OK);
    assert_int_equal(rk_backup_copy(fs, path, "dir", "copy", &error), RK_OK);
    rk_memfs_crash(memfs, RK_MEMFS_CRASH_LOSE_ALL);
    assert_int_equal(rk_fs_read_file(fs, &copy, "dir/copy", 16 << 20), RK_OK);
    assert_true(rk_slice_is_equal(rk_buf_slice(&copy), rk_buf_slice(&file)));
    rk_buf_fini(&file);
    rk_buf_fini(&copy);
    rk_memfs_free(memfs);
}

static void test_memory_may_run_out_anywhere(void **state)
{
    (void)state;
    struct rk_memfs *memfs = rk_memfs_new(1);
    struct rk_fs *fs = rk_memfs_fs(memfs);
    struct rk_storage_error error;
    struct rk_buf file;
    uint64_t records;
    enum rk_status status = RK_ENOMEM;
    rk_buf_init(&file);
    backup_make(&file, 99, RECORDS);
    put_file(fs, path, rk_buf_slice(&file));
    for (int64_t after = 0; status != RK_OK; after++) {
        rk_alloc_fail(after, 0);
        status = read_all(fs, &records, &error);
        rk_alloc_fail(-1, 0);
        assert_true(status == RK_OK || status == RK_ENOMEM);
        assert_true(after < 1000);
    }
    rk_buf_fini(&file);
    rk_memfs_free(memfs);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_what_is_written_is_read),
        cmocka_unit_test(test_every_damaged_byte_is_found),
        cmocka_unit_test(test_every_length_but_the_whole_is_refused),
        cmocka_unit_test(test_a_snapshot_of_another_backup_is_found),
        cmocka_unit_test(test_every_byte_belongs_to_something),
        cmocka_unit_test(test_a_newer_version_is_named),
        cmocka_unit_test(test_bounds_of_the_header),
        cmocka_unit_test(test_copies),
        cmocka_unit_test(test_memory_may_run_out_anywhere),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
