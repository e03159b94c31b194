/* Snapshot files: what is written is read, damage anywhere is found, receiving resumes, and
 * a crash at any operation leaves the old snapshot or the new one. */
#include "base/alloc.h"
#include "base/random.h"
#include "storage/memfs.h"
#include "storage/snapshot_format.h"
#include "storage/entry_log.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <cmocka.h>

static const char dir[] = "snap";

enum {
    LARGE = 300
}; /* records: above 2 MiB, so some of it is written back before its end */

static uint8_t *record_data(uint64_t number, size_t *size)
{
    static uint8_t data[RK_SNAPSHOT_RECORD_MAX];
    *size = number % 50 == 7 ? 300000 : (size_t)(number * 37 % 900);
    for (size_t i = 0; i < *size; i++)
        data[i] = (uint8_t)(number + i * 3);
    return data;
}

/* Writes `count` records; gives the first status that is not RK_OK. */
static enum rk_status save(struct rk_fs *fs, struct rk_snapshot_id id, uint64_t count)
{
    struct rk_snapshot_encoder encoder;
    struct rk_snapshot_file *file = NULL;
    struct rk_storage_error error = {.message = ""};
    struct rk_snapshot_header header = {
        .id = id, .history = 77, .conf = RK_SLICE_LITERAL("conf")};
    enum rk_status status = rk_snapshot_file_create(&file, fs, dir, id, &error);
    if (status != RK_OK) return status;
    assert_int_equal(rk_snapshot_encoder_init(&encoder, &header), RK_OK);
    for (uint64_t i = 0; status == RK_OK && i <= count; i++) {
        size_t size = 0;
        const uint8_t *data = record_data(i, &size);
        if (i == count)
            assert_int_equal(rk_snapshot_encoder_finish(&encoder), RK_OK);
        else
            assert_int_equal(rk_snapshot_encoder_add(&encoder, rk_slice_of(data, size)),
                             RK_OK);
        if (i < count && !rk_snapshot_encoder_is_full(&encoder)) continue;
        struct rk_snapshot_block block;
        rk_snapshot_encoder_take(&encoder, &block);
        status = rk_snapshot_file_write(file, &block, &error);
        rk_buf_fini(&block.bytes);
    }
    rk_snapshot_encoder_fini(&encoder);
    if (status == RK_OK) return rk_snapshot_file_finish(file, &error);
    assert_true(error.message[0] != '\0');
    rk_snapshot_file_abort(file);
    return status;
}

static void check(struct rk_fs *fs, struct rk_snapshot_id id, uint64_t count)
{
    struct rk_snapshot_reader *reader = NULL;
    struct rk_storage_error error = {.message = ""};
    if (rk_snapshot_reader_open(&reader, fs, dir, id, &error) != RK_OK)
        fail_msg("%s", error.message);
    const struct rk_snapshot_header *header = rk_snapshot_reader_header(reader);
    assert_int_equal(header->history, 77);
    assert_true(rk_slice_is_equal(header->conf, RK_SLICE_LITERAL("conf")));
    for (uint64_t i = 0;; i++) {
        struct rk_slice record;
        bool is_end = false;
        assert_int_equal(rk_snapshot_reader_next(reader, &record, &is_end, &error), RK_OK);
        if (is_end) {
            assert_int_equal(i, count);
            break;
        }
        size_t size = 0;
        const uint8_t *data = record_data(i, &size);
        assert_true(rk_slice_is_equal(record, rk_slice_of(data, size)));
    }
    rk_snapshot_reader_free(reader);
}

static void test_round_trip(void **state)
{
    (void)state;
    struct rk_memfs *memfs = rk_memfs_new(1);
    struct rk_fs *fs = rk_memfs_fs(memfs);
    uint64_t counts[] = {0, 1, 2, 10, 500, 2000};
    for (size_t i = 0; i < sizeof(counts) / sizeof(counts[0]); i++) {
        struct rk_snapshot_id id = {3, 100 + i, 7};
        assert_int_equal(save(fs, id, counts[i]), RK_OK);
        check(fs, id, counts[i]);
        struct rk_snapshot_summary summary;
        assert_int_equal(rk_snapshot_verify(fs, dir, id, &summary, NULL), RK_OK);
        assert_int_equal(summary.record_count, counts[i]);
    }
    struct rk_snapshot_reader *reader = NULL;
    struct rk_snapshot_id none = {3, 99, 7};
    assert_int_equal(rk_snapshot_reader_open(&reader, fs, dir, none, NULL), RK_ENOENT);
    rk_memfs_free(memfs);
}

static void test_names(void **state)
{
    (void)state;
    char name[RK_SNAPSHOT_NAME_SIZE];
    struct rk_snapshot_id id = {3, UINT64_MAX, 7};
    enum rk_snapshot_suffix suffix;
    rk_snapshot_name(name, id);
    assert_string_equal(name, "00003-18446744073709551615-00000000000000000007.snap");
    struct rk_snapshot_id parsed;
    assert_true(rk_snapshot_name_parse(name, &parsed, &suffix));
    assert_int_equal(parsed.index, UINT64_MAX);
    assert_int_equal(suffix, RK_SNAPSHOT_FINAL);
    assert_false(rk_snapshot_name_parse(
        "00003-18446744073709551616-00000000000000000007.snap", &parsed, &suffix));
    assert_false(rk_snapshot_name_parse("00003.snap", &parsed, &suffix));
    assert_false(rk_snapshot_name_parse("", &parsed, &suffix));
}

/* The bytes of version 1, as written by the first release. */
static const uint8_t golden[] = {
#include "golden_snapshot.inc"
};

static void test_golden(void **state)
{
    (void)state;
    struct rk_snapshot_encoder encoder;
    struct rk_snapshot_block block;
    struct rk_snapshot_id id = {2, 300, 5};
    struct rk_snapshot_header header = {
        .id = id, .history = 0x0102030405060708, .conf = RK_SLICE_LITERAL("conf")};
    assert_int_equal(rk_snapshot_encoder_init(&encoder, &header), RK_OK);
    assert_int_equal(rk_snapshot_encoder_add(&encoder, RK_SLICE_LITERAL("one")), RK_OK);
    assert_int_equal(rk_snapshot_encoder_add(&encoder, RK_SLICE_EMPTY), RK_OK);
    assert_int_equal(rk_snapshot_encoder_finish(&encoder), RK_OK);
    rk_snapshot_encoder_take(&encoder, &block);
    bool is_same =
        rk_slice_is_equal(rk_buf_slice(&block.bytes), rk_slice_of(golden, sizeof(golden)));
    if (!is_same)
        for (size_t i = 0; i < block.bytes.size; i++)
            printf("0x%02x,%s", block.bytes.data[i], i % 16 == 15 ? "\n" : " ");
    assert_true(is_same);
    rk_buf_fini(&block.bytes);
    rk_snapshot_encoder_fini(&encoder);

    struct rk_memfs *memfs = rk_memfs_new(1);
    struct rk_fs *fs = rk_memfs_fs(memfs);
    char name[RK_SNAPSHOT_NAME_SIZE];
    rk_snapshot_name(name, id);
    assert_int_equal(rk_fs_make_dir(fs, dir), RK_OK);
    uint8_t bytes[sizeof(golden)];
    memcpy(bytes, golden, sizeof(golden));
    assert_int_equal(rk_fs_write_file(fs, dir, name, rk_slice_of(bytes, sizeof(bytes))),
                     RK_OK);
    struct rk_snapshot_summary summary;
    assert_int_equal(rk_snapshot_verify(fs, dir, id, &summary, NULL), RK_OK);
    assert_int_equal(summary.record_count, 2);
    assert_int_equal(summary.history, 0x0102030405060708);

    /* A later version is refused by name. */
    uint32_t chain = 0;
    rk_put_u32(bytes + RK_SNAPSHOT_BLOCK_HEAD, 9);
    struct rk_snapshot_block_head head = {.kind = RK_SNAPSHOT_HEADER,
                                          .size = rk_take_u32(bytes + 12)};
    rk_snapshot_seal(bytes, &head, &chain);
    assert_int_equal(rk_fs_write_file(fs, dir, name, rk_slice_of(bytes, sizeof(bytes))),
                     RK_OK);
    struct rk_storage_error error = {.message = ""};
    assert_int_equal(rk_snapshot_verify(fs, dir, id, NULL, &error), RK_EPROTO);
    assert_non_null(strstr(error.message, "format version 9 is not known"));
    rk_memfs_free(memfs);
}

/* Every byte matters, and so do the length and the order of blocks. */
static void test_damage(void **state)
{
    (void)state;
    struct rk_memfs *memfs = rk_memfs_new(2);
    struct rk_fs *fs = rk_memfs_fs(memfs);
    struct rk_snapshot_id id = {1, 5, 2};
    char path[RK_FS_PATH_MAX];
    assert_int_equal(save(fs, id, 6), RK_OK);
    assert_int_equal(rk_snapshot_path(path, dir, id, RK_SNAPSHOT_FINAL), RK_OK);
    struct rk_buf bytes = {0};
    assert_int_equal(rk_fs_read_file(fs, &bytes, path, 1 << 20), RK_OK);
    for (size_t i = 0; i < bytes.size; i++) {
        struct rk_storage_error error = {.message = ""};
        assert_int_equal(rk_memfs_flip(memfs, path, i, i % 8), RK_OK);
        enum rk_status status = rk_snapshot_verify(fs, dir, id, NULL, &error);
        assert_int_equal(status, RK_ECORRUPT);
        assert_non_null(strstr(error.message, path));
        assert_int_equal(rk_memfs_flip(memfs, path, i, i % 8), RK_OK);
    }
    struct rk_file *file = NULL;
    assert_int_equal(fs->open(fs, &file, path, RK_FS_WRITE), RK_OK);
    assert_int_equal(fs->pwrite(file, bytes.size, "x", 1), RK_OK);
    assert_int_equal(rk_snapshot_verify(fs, dir, id, NULL, NULL), RK_ECORRUPT);
    for (size_t size = bytes.size; size-- > 0;) {
        assert_int_equal(fs->truncate(file, size), RK_OK);
        assert_int_equal(rk_snapshot_verify(fs, dir, id, NULL, NULL), RK_ECORRUPT);
    }
    fs->close(file);
    rk_buf_fini(&bytes);
    rk_memfs_free(memfs);
}

static bool has_file(struct rk_fs *fs, struct rk_snapshot_id id,
                     enum rk_snapshot_suffix suffix)
{
    char path[RK_FS_PATH_MAX];
    struct rk_file *file = NULL;
    assert_int_equal(rk_snapshot_path(path, dir, id, suffix), RK_OK);
    enum rk_status status = fs->open(fs, &file, path, 0);
    if (status == RK_OK) fs->close(file);
    return status == RK_OK;
}

static void test_transfer(void **state)
{
    (void)state;
    struct rk_memfs *from = rk_memfs_new(3);
    struct rk_memfs *to = rk_memfs_new(4);
    struct rk_fs *fs = rk_memfs_fs(to);
    struct rk_snapshot_id id = {1, 50, 2};
    struct rk_snapshot_id other = {1, 40, 2};
    assert_int_equal(save(rk_memfs_fs(from), id, 300), RK_OK);
    struct rk_snapshot_source *source = NULL;
    uint64_t size = 0;
    assert_int_equal(
        rk_snapshot_source_open(&source, &size, rk_memfs_fs(from), dir, id, NULL), RK_OK);
    struct rk_snapshot_sink *sink = NULL;
    assert_int_equal(rk_snapshot_sink_open(&sink, fs, dir, other, NULL), RK_OK);
    rk_snapshot_sink_free(sink);
    assert_true(has_file(fs, other, RK_SNAPSHOT_RECV));
    assert_int_equal(rk_snapshot_sink_open(&sink, fs, dir, id, NULL), RK_OK);
    assert_false(has_file(fs, other, RK_SNAPSHOT_RECV)); /* replaced by the newer attempt */
    uint8_t data[10000];
    struct rk_random random;
    rk_random_init(&random, 5);
    while (rk_snapshot_sink_offset(sink) < size) {
        uint64_t offset = rk_snapshot_sink_offset(sink);
        uint64_t back = rk_random_below(&random, offset + 1 < 500 ? offset + 1 : 500);
        size_t count = 0;
        assert_int_equal(
            rk_snapshot_source_read(source, &count, offset - back, data, sizeof(data)),
            RK_OK);
        assert_int_equal(
            rk_snapshot_sink_write(sink, offset - back, rk_slice_of(data, count), NULL),
            RK_OK);
        assert_int_equal(rk_snapshot_sink_write(sink, rk_snapshot_sink_offset(sink) + 1,
                                                rk_slice_of(data, 1), NULL),
                         RK_ERANGE);
        if (rk_random_below(&random, 5) == 0) { /* the link broke: go on where it was */
            rk_snapshot_sink_free(sink);
            assert_int_equal(rk_snapshot_sink_open(&sink, fs, dir, id, NULL), RK_OK);
            assert_true(rk_snapshot_sink_offset(sink) > 0);
        }
    }
    assert_false(has_file(fs, id, RK_SNAPSHOT_FINAL));
    assert_int_equal(rk_snapshot_sink_finish(sink, NULL), RK_OK);
    check(fs, id, 300);

    /* A flipped bit on the way: refused, and the next attempt starts from nothing. */
    struct rk_snapshot_clean clean = {.keep = {1, 0, 0}, .remove_received = true};
    assert_int_equal(rk_snapshot_clean(fs, dir, &clean), RK_OK);
    assert_int_equal(rk_snapshot_sink_open(&sink, fs, dir, id, NULL), RK_OK);
    for (uint64_t offset = 0; offset < size;) {
        size_t count = 0;
        assert_int_equal(
            rk_snapshot_source_read(source, &count, offset, data, sizeof(data)), RK_OK);
        if (offset == 0) data[777] ^= 4;
        assert_int_equal(
            rk_snapshot_sink_write(sink, offset, rk_slice_of(data, count), NULL), RK_OK);
        offset += count;
    }
    assert_int_equal(rk_snapshot_sink_finish(sink, NULL), RK_ECORRUPT);
    assert_false(has_file(fs, id, RK_SNAPSHOT_FINAL));
    assert_int_equal(rk_snapshot_sink_open(&sink, fs, dir, id, NULL), RK_OK);
    assert_int_equal(rk_snapshot_sink_offset(sink), 0);
    rk_snapshot_sink_free(sink);
    rk_snapshot_source_free(source);
    rk_memfs_free(from);
    rk_memfs_free(to);
}

static void test_clean(void **state)
{
    (void)state;
    struct rk_memfs *memfs = rk_memfs_new(6);
    struct rk_fs *fs = rk_memfs_fs(memfs);
    struct rk_snapshot_id one = {1, 10, 2};
    struct rk_snapshot_id two = {1, 20, 2};
    struct rk_snapshot_id other = {2, 10, 2};
    assert_int_equal(save(fs, one, 3), RK_OK);
    assert_int_equal(save(fs, two, 3), RK_OK);
    assert_int_equal(save(fs, other, 3), RK_OK);
    assert_int_equal(rk_fs_write_file(fs, dir, "notes", RK_SLICE_LITERAL("mine")), RK_OK);
    struct rk_snapshot_clean clean = {.keep = one, .keep_newer = true};
    assert_int_equal(rk_snapshot_clean(fs, dir, &clean), RK_OK);
    assert_true(has_file(fs, one, RK_SNAPSHOT_FINAL));
    assert_true(has_file(fs, two, RK_SNAPSHOT_FINAL));
    clean = (struct rk_snapshot_clean){.keep = two, .keep_newer = true};
    assert_int_equal(rk_snapshot_clean(fs, dir, &clean), RK_OK);
    assert_false(has_file(fs, one, RK_SNAPSHOT_FINAL));
    assert_int_equal(save(fs, one, 3), RK_OK);
    clean = (struct rk_snapshot_clean){.keep = two};
    assert_int_equal(rk_snapshot_clean(fs, dir, &clean), RK_OK);
    assert_false(has_file(fs, one, RK_SNAPSHOT_FINAL));
    assert_true(has_file(fs, two, RK_SNAPSHOT_FINAL));
    assert_true(has_file(fs, other, RK_SNAPSHOT_FINAL));
    struct rk_buf bytes = {0};
    assert_int_equal(rk_fs_read_file(fs, &bytes, "snap/notes", 10), RK_OK);
    rk_buf_fini(&bytes);
    rk_memfs_free(memfs);
}

/* Rule 17: file, sync, rename, folder, mark and compaction in the log, removal of the old
 * file. After a crash anywhere the mark names a file that is whole, and no entry above it
 * is missing. */
static enum rk_status snapshot_in_order(struct rk_memfs *memfs, struct rk_wal *wal,
                                        struct rk_entry_log *log, uint64_t index)
{
    struct rk_fs *fs = rk_memfs_fs(memfs);
    struct rk_snapshot_id id = {0, index, 1};
    enum rk_status status = save(fs, id, index);
    if (status != RK_OK) return status;
    struct rk_wal_batch batch;
    rk_wal_batch_init(&batch);
    assert_int_equal(rk_wal_batch_mark(&batch, 0, index, 1, RK_SLICE_EMPTY), RK_OK);
    assert_int_equal(rk_wal_batch_compact(&batch, 0, index, 1), RK_OK);
    rk_entry_log_compact(log, index);
    status = rk_wal_write(wal, &batch, NULL);
    rk_wal_batch_fini(&batch);
    if (status != RK_OK) return status;
    return rk_snapshot_clean(fs, dir, &(struct rk_snapshot_clean){.keep = id});
}

static enum rk_status live(struct rk_memfs *memfs, const struct rk_wal_options *options,
                           uint64_t *acknowledged)
{
    struct rk_wal *wal = NULL;
    struct rk_wal_recovered found;
    enum rk_status status =
        rk_wal_open(&wal, rk_memfs_fs(memfs), "wal", options, &found, NULL);
    if (status != RK_OK) return status;
    struct rk_entry_log *log = found.groups[0].log;
    found.groups[0].log = NULL;
    if (log == NULL) log = rk_entry_log_new(0, 1000);
    struct rk_wal_batch batch;
    rk_wal_batch_init(&batch);
    for (uint64_t i = 1; status == RK_OK && i <= 30; i++) {
        struct rk_raft_entry entry = {i, 1, RK_SLICE_LITERAL("entry"), 0};
        assert_int_equal(rk_entry_log_append(log, &entry, 1), RK_OK);
        assert_int_equal(rk_wal_batch_entries(&batch, 0, &entry, 1), RK_OK);
        status = rk_wal_write(wal, &batch, NULL);
        if (status == RK_OK) assert_int_equal(rk_entry_log_stored(log, &batch), RK_OK);
        rk_wal_batch_reset(&batch);
        if (status == RK_OK) *acknowledged = i;
        if (status == RK_OK && i % 10 == 0)
            status = snapshot_in_order(memfs, wal, log, i - 2);
    }
    rk_wal_batch_fini(&batch);
    rk_entry_log_free(log);
    rk_wal_recovered_fini(&found);
    rk_wal_free(wal);
    return status;
}

static void test_crash_in_order(void **state)
{
    (void)state;
    struct rk_wal_options options;
    rk_wal_options_init(&options);
    options.id = 9;
    options.segment_first = options.segment_later = 16 << 10;
    bool is_crashed = true;
    for (uint64_t at = 1; is_crashed; at++) {
        uint64_t acknowledged = 0;
        struct rk_memfs *memfs = rk_memfs_new(at);
        struct rk_fs *fs = rk_memfs_fs(memfs);
        rk_memfs_crash_at(memfs, at);
        is_crashed = live(memfs, &options, &acknowledged) != RK_OK;
        rk_memfs_crash_at(memfs, 0);
        rk_memfs_restart(memfs, RK_MEMFS_CRASH_RANDOM);
        struct rk_wal *wal = NULL;
        struct rk_wal_recovered found;
        struct rk_storage_error error = {.message = ""};
        if (rk_wal_open(&wal, fs, "wal", &options, &found, &error) != RK_OK)
            fail_msg("crash at %d: %s", (int)at, error.message);
        const struct rk_wal_group *group = &found.groups[0];
        if (group->is_present) {
            uint64_t last = rk_entry_log_last(group->log);
            assert_true(last == acknowledged || last == acknowledged + 1);
            assert_int_equal(rk_entry_log_first(group->log), group->mark_index + 1);
        } else {
            assert_int_equal(acknowledged, 0);
        }
        if (group->mark_index > 0)
            check(fs, (struct rk_snapshot_id){0, group->mark_index, 1}, group->mark_index);
        rk_wal_recovered_fini(&found);
        rk_wal_free(wal);
        rk_memfs_free(memfs);
    }
}

static uint64_t back_size, back_calls;

static enum rk_status note_write_back(struct rk_file *file, uint64_t offset, uint64_t size)
{
    (void)file;
    assert_int_equal(offset, back_size);
    assert_true(size >= 1 << 20);
    back_size = offset + size;
    back_calls++;
    return RK_OK;
}

static enum rk_status fail_write_back(struct rk_file *file, uint64_t offset, uint64_t size)
{
    (void)file;
    (void)offset;
    (void)size;
    return RK_EIO;
}

/* All of it but less than a mebibyte is on its way to the device before its end. */
static void test_written_back(void **state)
{
    (void)state;
    struct rk_snapshot_id id = {0, 5, 1};
    struct rk_memfs *from = rk_memfs_new(1), *to = rk_memfs_new(2);
    struct rk_fs *fs = rk_memfs_fs(from);
    fs->write_back = note_write_back;
    rk_memfs_fs(to)->write_back = note_write_back;
    back_size = back_calls = 0;
    assert_int_equal(save(fs, id, LARGE), RK_OK);
    assert_true(back_calls >= 1);
    uint64_t size = 0, offset = 0;
    struct rk_snapshot_source *source = NULL;
    assert_int_equal(rk_snapshot_source_open(&source, &size, fs, dir, id, NULL), RK_OK);
    assert_in_range(back_size, size - (1 << 20), size);

    back_size = back_calls = 0;
    struct rk_snapshot_sink *sink = NULL;
    assert_int_equal(rk_snapshot_sink_open(&sink, rk_memfs_fs(to), dir, id, NULL), RK_OK);
    while (offset < size) {
        uint8_t piece[50000];
        size_t got = 0;
        assert_int_equal(
            rk_snapshot_source_read(source, &got, offset, piece, sizeof(piece)), RK_OK);
        assert_int_equal(
            rk_snapshot_sink_write(sink, offset, rk_slice_of(piece, got), NULL), RK_OK);
        offset += got;
    }
    assert_in_range(back_size, size - (1 << 20), size);
    assert_int_equal(rk_snapshot_sink_finish(sink, NULL), RK_OK);

    /* What the device could not take is not said to be there. */
    struct rk_storage_error error = {.message = ""};
    static uint8_t much[1 << 20];
    id.index++;
    rk_memfs_fs(to)->write_back = fail_write_back;
    assert_int_equal(rk_snapshot_sink_open(&sink, rk_memfs_fs(to), dir, id, NULL), RK_OK);
    assert_int_equal(
        rk_snapshot_sink_write(sink, 0, rk_slice_of(much, sizeof(much)), &error), RK_EIO);
    assert_true(error.message[0] != '\0');
    rk_snapshot_sink_free(sink);
    rk_snapshot_source_free(source);
    rk_memfs_free(from);
    rk_memfs_free(to);
}

/* A snapshot that meets an error is given up without trace. */
static void test_write_errors(void **state)
{
    (void)state;
    struct rk_snapshot_id id = {0, 5, 1};
    bool is_over = false;
    for (uint64_t at = 1; !is_over; at++) {
        struct rk_memfs *memfs = rk_memfs_new(at);
        struct rk_fs *fs = rk_memfs_fs(memfs);
        rk_memfs_fail_at(memfs, at, at % 2 == 0 ? RK_EIO : RK_EFULL, false);
        enum rk_status status = save(fs, id, LARGE);
        is_over = rk_memfs_op_count(memfs) < at;
        rk_memfs_fail_at(memfs, 0, RK_OK, false);
        if (status != RK_OK) {
            assert_false(is_over);
            assert_false(has_file(fs, id, RK_SNAPSHOT_TMP));
            assert_int_equal(save(fs, id, LARGE), RK_OK);
        }
        check(fs, id, LARGE);
        rk_memfs_free(memfs);
    }
}

static void test_without_memory(void **state)
{
    (void)state;
    struct rk_snapshot_header header = {.id = {0, 1, 1}, .conf = RK_SLICE_LITERAL("c")};
    struct rk_snapshot_encoder encoder;
    uint8_t data[5000] = {0};
    for (int64_t at = 0; at < 3; at++) {
        rk_alloc_fail(at, 0);
        enum rk_status status = rk_snapshot_encoder_init(&encoder, &header);
        if (status == RK_OK) {
            status = rk_snapshot_encoder_add(&encoder, rk_slice_of(data, sizeof(data)));
            if (status == RK_ENOMEM) {
                assert_int_equal(encoder.record_count, 0);
                status = rk_snapshot_encoder_add(&encoder, rk_slice_of(data, sizeof(data)));
            }
        } else {
            assert_int_equal(status, RK_ENOMEM);
            status = RK_OK;
        }
        rk_alloc_fail(-1, 0);
        assert_int_equal(status, RK_OK);
        rk_snapshot_encoder_fini(&encoder);
    }
    struct rk_memfs *memfs = rk_memfs_new(1);
    struct rk_fs *fs = rk_memfs_fs(memfs);
    struct rk_snapshot_id id = {0, 5, 1};
    assert_int_equal(save(fs, id, 20), RK_OK);
    enum rk_status status = RK_ENOMEM;
    for (int64_t at = 0; status != RK_OK; at++) {
        rk_alloc_fail(at, 0);
        status = rk_snapshot_verify(fs, dir, id, NULL, NULL);
        rk_alloc_fail(-1, 0);
        assert_true(status == RK_OK || status == RK_ENOMEM);
    }
    rk_memfs_free(memfs);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_round_trip),     cmocka_unit_test(test_names),
        cmocka_unit_test(test_golden),         cmocka_unit_test(test_damage),
        cmocka_unit_test(test_transfer),       cmocka_unit_test(test_clean),
        cmocka_unit_test(test_crash_in_order), cmocka_unit_test(test_write_errors),
        cmocka_unit_test(test_without_memory), cmocka_unit_test(test_written_back),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
