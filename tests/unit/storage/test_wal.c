/* The write-ahead log without failures: what goes in comes out, space is bounded, bytes of
 * the format are those of the document, foreign formats are refused by name. */
#include "driver.h"

#include "base/alloc.h"
#include "base/crc32c.h"
#include "storage/wal_format.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <cmocka.h>

static void reopen(struct driver *driver)
{
    struct rk_storage_error error = {.message = ""};
    driver_close(driver);
    if (driver_open(driver, &error) != RK_OK) fail_msg("%s", error.message);
}

static void test_birth(void **state)
{
    (void)state;
    struct driver driver;
    driver_init(&driver, 1);
    assert_int_equal(driver_open(&driver, NULL), RK_OK);
    assert_true(driver.found.is_new);
    assert_int_equal(driver.found.id, 3);
    driver_check(&driver, false);
    reopen(&driver);
    assert_false(driver.found.is_new);
    assert_int_equal(driver.found.id, 3);
    assert_int_equal(driver.found.last_sequence, 1);
    driver_check(&driver, false);
    driver_fini(&driver);
}

static void test_all_kinds(void **state)
{
    (void)state;
    struct driver driver;
    driver_init(&driver, 2);
    assert_int_equal(driver_open(&driver, NULL), RK_OK);
    driver_append(&driver, 0, 1, 20, 100);
    driver_append(&driver, 2, 3, 1, 0);
    driver_hard(&driver, 0, (struct rk_raft_hard_state){2, 3, 10});
    assert_int_equal(driver_write(&driver), RK_OK);
    driver_truncate(&driver, 0, 15);
    driver_append(&driver, 0, 2, 3, 2000);
    driver_snapshot(&driver, 0, 10);
    assert_int_equal(driver_write(&driver), RK_OK);
    reopen(&driver);
    driver_check(&driver, false);
    driver_install(&driver, 2, 1000, 5);
    driver_append(&driver, 2, 6, 2, 10);
    assert_int_equal(driver_write(&driver), RK_OK);
    reopen(&driver);
    driver_check(&driver, false);
    assert_int_equal(driver.found.groups[2].mark_index, 1000);
    driver_fini(&driver);
}

/* An entry as large as allowed goes into a segment that is far too small for it. */
static void test_large_entry(void **state)
{
    (void)state;
    struct driver driver;
    driver_init(&driver, 3);
    assert_int_equal(driver_open(&driver, NULL), RK_OK);
    uint8_t *data = rk_calloc(1, RK_WAL_ENTRY_MAX + 1);
    assert_non_null(data);
    data[RK_WAL_ENTRY_MAX - 1] = 7;
    struct rk_raft_entry entry = {1, 1, {data, RK_WAL_ENTRY_MAX + 1}, 0};
    assert_int_equal(rk_wal_batch_entries(&driver.batch, 1, &entry, 1), RK_ESIZE);
    assert_true(rk_wal_batch_is_empty(&driver.batch));
    entry.data.size--;
    assert_int_equal(rk_entry_log_append(driver.logs[1], &entry, 1), RK_OK);
    assert_int_equal(rk_wal_batch_entries(&driver.batch, 1, &entry, 1), RK_OK);
    assert_int_equal(driver_write(&driver), RK_OK);
    reopen(&driver);
    struct rk_arena arena;
    rk_arena_init(&arena);
    const struct rk_raft_entry *entries = NULL;
    size_t count = 0;
    assert_int_equal(
        rk_entry_log_entries(driver.logs[1], 1, 2, 0, &arena, &entries, &count, NULL),
        RK_OK);
    assert_int_equal(count, 1);
    assert_true(rk_slice_is_equal(entries[0].data, entry.data));
    rk_arena_fini(&arena);
    rk_free(data);
    driver_fini(&driver);
}

static void test_batch_limits(void **state)
{
    (void)state;
    struct rk_wal_batch batch;
    rk_wal_batch_init(&batch);
    size_t size = 4 << 20;
    uint8_t *data = rk_calloc(1, size);
    assert_non_null(data);
    struct rk_raft_entry entry = {1, 1, {data, size}, 0};
    enum rk_status status = RK_OK;
    while (status == RK_OK) {
        status = rk_wal_batch_entries(&batch, 0, &entry, 1);
        entry.index++;
    }
    assert_int_equal(status, RK_ELIMIT);
    assert_int_equal(batch.record_count, 11);
    assert_true(rk_wal_batch_size(&batch) <= RK_WAL_BATCH_MAX);
    assert_int_equal(rk_wal_batch_meta(&batch, 0, rk_slice_of(data, RK_WAL_BLOB_MAX + 1)),
                     RK_ESIZE);
    rk_wal_batch_reset(&batch);
    assert_true(rk_wal_batch_is_empty(&batch));
    assert_int_equal(batch.buf.capacity, 0);
    rk_wal_batch_fini(&batch);
    rk_free(data);
}

/* Records that contradict the log are refused before anything is written. */
static void test_refused_records(void **state)
{
    (void)state;
    for (int i = 0; i < 6; i++) {
        struct driver driver;
        struct rk_storage_error error = {.message = ""};
        driver_init(&driver, 4);
        assert_int_equal(driver_open(&driver, NULL), RK_OK);
        driver_append(&driver, 0, 1, 10, 10);
        driver_hard(&driver, 0, (struct rk_raft_hard_state){5, 0, 6});
        assert_int_equal(driver_write(&driver), RK_OK);
        struct rk_wal_batch *batch = &driver.batch;
        struct rk_raft_entry entry = {12, 1, RK_SLICE_EMPTY, 0};
        struct rk_raft_hard_state hard = {4, 0, 6};
        enum rk_status added[] = {
            i == 0 ? rk_wal_batch_truncate(batch, 0, 6) : RK_OK, /* at commit (rule 6) */
            i == 1 ? rk_wal_batch_entries(batch, 0, &entry, 1) : RK_OK,
            i == 2 ? rk_wal_batch_compact(batch, 0, 5, 1) : RK_OK, /* no mark (rule 17) */
            i == 3 ? rk_wal_batch_hard_state(batch, 0, hard) : RK_OK,
            i == 4 ? rk_wal_batch_mark(batch, 0, 11, 1, RK_SLICE_EMPTY) : RK_OK,
            i == 5 ? rk_wal_batch_compact(batch, 1, 1, 1) : RK_OK,
        };
        assert_int_equal(added[i], RK_OK);
        assert_int_equal(rk_wal_write(driver.wal, batch, &error), RK_EINVAL);
        assert_true(error.message[0] != '\0');
        assert_int_equal(rk_wal_write(driver.wal, batch, NULL), RK_ECLOSED);
        reopen(&driver);
        driver_check(&driver, false);
        driver_fini(&driver);
    }
}

/* One busy group, one that holds the oldest segment with a single entry. */
static void test_space_is_bounded(void **state)
{
    (void)state;
    struct driver driver;
    driver_init(&driver, 5);
    assert_int_equal(driver_open(&driver, NULL), RK_OK);
    driver_append(&driver, 1, 1, 1, 10);
    uint64_t most = 0;
    for (int i = 0; i < 3000; i++) {
        driver_append(&driver, 0, (uint32_t)driver.pending->groups[0].hard.term + 1, 1,
                      500);
        if (driver.space.is_over) driver_make_space(&driver);
        assert_int_equal(driver_write(&driver), RK_OK);
        bool is_more = true;
        while (is_more)
            assert_int_equal(rk_wal_tend(driver.wal, i % 10 == 0, &is_more, NULL), RK_OK);
        assert_int_equal(driver.space.limit_bytes, 4 * driver.options.segment_first);
        assert_true(driver.space.file_bytes <= driver.space.limit_bytes);
        if (driver.space.file_bytes > most) most = driver.space.file_bytes;
    }
    struct rk_wal_stats stats;
    rk_wal_stats(driver.wal, &stats);
    assert_true(stats.segments_recycled > 50);
    assert_int_equal(stats.fill_stalls, 1); /* the very first one */
    assert_true(driver.pending->groups[1].first > 1);
    assert_true(rk_memfs_used(driver.memfs) <= most + 64);
    reopen(&driver);
    driver_check(&driver, false);
    driver_fini(&driver);
}

/* Nobody compacts: the log grows, in larger segments, and shrinks again afterwards. */
static void test_grows_and_shrinks(void **state)
{
    (void)state;
    struct driver driver;
    driver_init(&driver, 6);
    assert_int_equal(driver_open(&driver, NULL), RK_OK);
    bool is_more = false;
    for (int i = 0; i < 60; i++) {
        driver_append(&driver, 0, 1, 1, 10000);
        assert_int_equal(driver_write(&driver), RK_OK);
        assert_int_equal(rk_wal_tend(driver.wal, false, &is_more, NULL), RK_OK);
    }
    assert_true(driver.space.is_over);
    assert_int_equal(driver.space.group, 0);
    assert_true(driver.space.file_bytes > 600000);
    driver_hard(&driver, 0, (struct rk_raft_hard_state){1, 0, 60});
    driver_snapshot(&driver, 0, 60);
    assert_int_equal(driver_write(&driver), RK_OK);
    for (int i = 0; i < 100; i++)
        assert_int_equal(rk_wal_tend(driver.wal, true, &is_more, NULL), RK_OK);
    rk_wal_space(driver.wal, 0, &driver.space);
    assert_true(driver.space.file_bytes <= driver.space.limit_bytes + 64 * 1024);
    reopen(&driver);
    driver_check(&driver, false);
    driver_fini(&driver);
}

static void test_full_disk(void **state)
{
    (void)state;
    struct driver driver;
    struct rk_storage_error error = {.message = ""};
    driver_init(&driver, 7);
    assert_int_equal(driver_open(&driver, NULL), RK_OK);
    rk_memfs_set_capacity(driver.memfs, 40 << 10);
    bool is_more = false;
    assert_int_equal(rk_wal_tend(driver.wal, true, &is_more, NULL), RK_OK);
    assert_true(rk_memfs_used(driver.memfs) <= 40 << 10);
    enum rk_status status = RK_OK;
    bool has_warned = false;
    while (status == RK_OK) {
        driver_append(&driver, 0, 1, 1, 900);
        status = driver_write(&driver);
        if (status == RK_OK && rk_wal_tend(driver.wal, false, &is_more, &error) == RK_EFULL)
            has_warned = true;
    }
    assert_int_equal(status, RK_EFULL);
    assert_true(has_warned); /* long before the end */
    rk_memfs_set_capacity(driver.memfs, 0);
    reopen(&driver);
    driver_check(&driver, false);
    driver_fini(&driver);
}

/* A large log fills large segments ahead; where none fits any more small ones do. */
static void test_small_segments_on_a_nearly_full_disk(void **state)
{
    (void)state;
    struct driver driver;
    driver_init(&driver, 11);
    assert_int_equal(driver_open(&driver, NULL), RK_OK);
    uint64_t first = driver.options.segment_first;
    bool is_more = false;
    for (int i = 0; i < 60; i++) {
        driver_append(&driver, 0, 1, 1, 10000);
        assert_int_equal(driver_write(&driver), RK_OK);
        assert_int_equal(rk_wal_tend(driver.wal, false, &is_more, NULL), RK_OK);
    }
    assert_true(driver.space.file_bytes >= 2 * driver.options.segment_later);
    rk_memfs_set_capacity(driver.memfs, rk_memfs_used(driver.memfs) + 3 * first);
    struct rk_wal_stats before, after;
    rk_wal_stats(driver.wal, &before);
    enum rk_status status = RK_OK;
    while (status == RK_OK) {
        driver_append(&driver, 0, 1, 1, 900);
        status = driver_write(&driver);
        if (status == RK_OK) (void)!rk_wal_tend(driver.wal, false, &is_more, NULL);
    }
    assert_int_equal(status, RK_EFULL);
    rk_wal_stats(driver.wal, &after);
    assert_in_range(after.segments_opened - before.segments_opened, 2, 4);
    rk_memfs_set_capacity(driver.memfs, 0);
    reopen(&driver);
    driver_check(&driver, false);
    driver_fini(&driver);
}

/* The bytes of version 1, as written by the first release. */
static const uint8_t golden_head[] = {
#include "golden_segment.inc"
};

enum { GOLDEN_SIZE = 512 + 512 + 512 };

static void test_golden_write(void **state)
{
    (void)state;
    struct driver driver;
    driver_init(&driver, 8);
    driver.options.id = 0x1122334455667788;
    assert_int_equal(driver_open(&driver, NULL), RK_OK);
    assert_int_equal(rk_wal_batch_node(&driver.batch, RK_SLICE_LITERAL("node")), RK_OK);
    assert_int_equal(rk_wal_batch_meta(&driver.batch, 2, RK_SLICE_LITERAL("meta")), RK_OK);
    driver_append(&driver, 1, 5, 2, 20);
    driver_hard(&driver, 1, (struct rk_raft_hard_state){300, 2, 1});
    driver_truncate(&driver, 1, 2);
    driver_snapshot(&driver, 1, 1);
    driver_install(&driver, 0, 1000, 7);
    assert_int_equal(rk_wal_write(driver.wal, &driver.batch, NULL), RK_OK);
    struct rk_buf bytes = {0};
    assert_int_equal(
        rk_fs_read_file(rk_memfs_fs(driver.memfs), &bytes, "wal/00000001.wal", 1 << 20),
        RK_OK);
    assert_true(bytes.size >= GOLDEN_SIZE);
    bool is_same = sizeof(golden_head) == GOLDEN_SIZE &&
                   memcmp(bytes.data, golden_head, GOLDEN_SIZE) == 0;
    if (!is_same)
        for (size_t i = 0; i < GOLDEN_SIZE; i++)
            printf("0x%02x,%s", bytes.data[i], i % 16 == 15 ? "\n" : " ");
    assert_true(is_same);
    rk_buf_fini(&bytes);
    driver_fini(&driver);
}

static void put_file(struct driver *driver, const char *name, const void *data, size_t size)
{
    struct rk_fs *fs = rk_memfs_fs(driver->memfs);
    assert_int_equal(rk_fs_make_dir(fs, "wal"), RK_OK);
    assert_int_equal(rk_fs_write_file(fs, "wal", name, rk_slice_of(data, size)), RK_OK);
}

static void test_golden_read(void **state)
{
    (void)state;
    struct driver driver;
    driver_init(&driver, 9);
    uint8_t id[RK_WAL_ID_SIZE];
    rk_wal_id_encode(id, 0x1122334455667788);
    assert_int_equal(rk_take_u32(id + 4), 0x1035db8e);
    put_file(&driver, "id", id, sizeof(id));
    put_file(&driver, "00000001.wal", golden_head, sizeof(golden_head));
    assert_int_equal(driver_open(&driver, NULL), RK_OK);
    const struct rk_wal_recovered *found = &driver.found;
    assert_int_equal(found->last_sequence, 2);
    assert_true(rk_slice_is_equal(rk_buf_slice(&found->node), RK_SLICE_LITERAL("node")));
    assert_true(
        rk_slice_is_equal(rk_buf_slice(&found->groups[2].meta), RK_SLICE_LITERAL("meta")));
    assert_int_equal(found->groups[1].hard.term, 300);
    assert_int_equal(found->groups[1].hard.vote, 2);
    assert_int_equal(found->groups[1].hard.commit, 1);
    assert_int_equal(found->groups[1].mark_index, 1);
    assert_int_equal(rk_entry_log_last(driver.logs[1]), 1);
    assert_int_equal(rk_entry_log_first(driver.logs[0]), 1001);
    driver_fini(&driver);
}

static void test_unknown_version(void **state)
{
    (void)state;
    struct driver driver;
    struct rk_storage_error error = {.message = ""};
    driver_init(&driver, 10);
    uint8_t id[RK_WAL_ID_SIZE];
    rk_wal_id_encode(id, 0x1122334455667788);
    put_file(&driver, "id", id, sizeof(id));
    uint8_t bytes[GOLDEN_SIZE];
    memcpy(bytes, golden_head, sizeof(bytes));
    rk_put_u32(bytes + 8, 2);
    rk_put_u32(bytes + 4, rk_crc32c(0, bytes + 8, 504));
    put_file(&driver, "00000001.wal", bytes, sizeof(bytes));
    assert_int_equal(driver_open(&driver, &error), RK_EPROTO);
    assert_string_equal(error.message, "wal/00000001.wal: format version 2 is not known; "
                                       "this program reads version 1");
    driver_fini(&driver);
}

/* A log in use whose file "id" is gone is not taken for an empty folder. */
static void test_missing_id(void **state)
{
    (void)state;
    struct driver driver;
    struct rk_storage_error error = {.message = ""};
    driver_init(&driver, 11);
    assert_int_equal(driver_open(&driver, NULL), RK_OK);
    driver_append(&driver, 0, 1, 1, 10);
    assert_int_equal(driver_write(&driver), RK_OK);
    driver_close(&driver);
    struct rk_fs *fs = rk_memfs_fs(driver.memfs);
    assert_int_equal(fs->unlink(fs, "wal/id"), RK_OK);
    assert_int_equal(driver_open(&driver, &error), RK_ECORRUPT);
    assert_non_null(strstr(error.message, "\"id\""));
    driver_fini(&driver);
}

/* Every allocation of opening fails once: an error, no leak, and nothing is harmed. */
static void test_open_without_memory(void **state)
{
    (void)state;
    struct driver driver;
    driver_init(&driver, 12);
    assert_int_equal(driver_open(&driver, NULL), RK_OK);
    for (int i = 0; i < 30; i++)
        assert_int_equal(driver_step(&driver), RK_OK);
    driver_close(&driver);
    enum rk_status status = RK_ENOMEM;
    int64_t at = 0;
    for (; status != RK_OK; at++) {
        struct rk_wal *wal = NULL;
        struct rk_wal_recovered found;
        struct rk_storage_error error;
        rk_alloc_fail(at, at % 2 == 0);
        status = rk_wal_open(&wal, rk_memfs_fs(driver.memfs), "wal", &driver.options,
                             &found, &error);
        rk_alloc_fail(-1, 0);
        if (status == RK_OK) {
            rk_wal_recovered_fini(&found);
            rk_wal_free(wal);
        } else {
            assert_int_equal(status, RK_ENOMEM);
            assert_true(error.message[0] != '\0');
        }
    }
    assert_true(at > 20);
    assert_int_equal(driver_open(&driver, NULL), RK_OK);
    driver_check(&driver, false);
    driver_fini(&driver);
}

/* A batch that could not take a record is as before, and complete once there is memory. */
static void test_batch_without_memory(void **state)
{
    (void)state;
    uint8_t data[3000] = {1, 2, 3};
    struct rk_raft_entry entries[] = {{1, 1, {data, 3000}, 0}, {2, 2, {data, 2000}, 0}};
    for (int64_t at = 0; at < 8; at++) {
        struct rk_wal_batch batch;
        rk_wal_batch_init(&batch);
        rk_alloc_fail(at, 0);
        enum rk_status status = rk_wal_batch_entries(&batch, 1, entries, 2);
        if (status == RK_ENOMEM) {
            assert_true(rk_wal_batch_is_empty(&batch));
            assert_int_equal(batch.item_count, 0);
            status = rk_wal_batch_entries(&batch, 1, entries, 2);
        }
        rk_alloc_fail(-1, 0);
        assert_int_equal(status, RK_OK);
        assert_int_equal(batch.record_count, 2);
        assert_int_equal(batch.run_count, 2);
        rk_wal_batch_fini(&batch);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_birth),
        cmocka_unit_test(test_all_kinds),
        cmocka_unit_test(test_large_entry),
        cmocka_unit_test(test_batch_limits),
        cmocka_unit_test(test_refused_records),
        cmocka_unit_test(test_space_is_bounded),
        cmocka_unit_test(test_grows_and_shrinks),
        cmocka_unit_test(test_full_disk),
        cmocka_unit_test(test_small_segments_on_a_nearly_full_disk),
        cmocka_unit_test(test_golden_write),
        cmocka_unit_test(test_golden_read),
        cmocka_unit_test(test_unknown_version),
        cmocka_unit_test(test_missing_id),
        cmocka_unit_test(test_open_without_memory),
        cmocka_unit_test(test_batch_without_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
