/* Flipped bits: each is refused with file and offset, or harmless; never other data. */
#include "driver.h"

#include "base/alloc.h"
#include "storage/inspect.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

static void fill(struct driver *driver, uint64_t seed, int steps)
{
    driver_init(driver, seed);
    assert_int_equal(driver_open(driver, NULL), RK_OK);
    for (int i = 0; i < steps; i++)
        assert_int_equal(driver_step(driver), RK_OK);
    bool is_more = true;
    while (is_more)
        assert_int_equal(rk_wal_tend(driver->wal, true, &is_more, NULL), RK_OK);
    driver_close(driver);
}

/* Opens a copy with one bit flipped. True if it was refused. */
static bool is_refused(struct driver *driver, const char *path, uint64_t offset,
                       unsigned bit)
{
    struct rk_memfs *intact = driver->memfs;
    driver->memfs = rk_memfs_clone(intact);
    assert_non_null(driver->memfs);
    assert_int_equal(rk_memfs_flip(driver->memfs, path, offset, bit), RK_OK);
    struct rk_storage_error error = {.message = ""};
    enum rk_status status = driver_open(driver, &error);
    if (status == RK_OK) {
        driver_check(driver, false);
    } else {
        assert_true(status == RK_ECORRUPT || status == RK_EPROTO);
        assert_non_null(strstr(error.message, "wal"));
    }
    driver_close(driver);
    rk_memfs_free(driver->memfs);
    driver->memfs = intact;
    return status != RK_OK;
}

static enum rk_status size_each(void *context, const char *name)
{
    struct rk_buf *names = context;
    rk_buf_append(names, name, strlen(name) + 1);
    return rk_buf_check(names);
}

static void test_flips(void **state)
{
    (void)state;
    uint64_t refused = 0;
    uint64_t harmless = 0;
    for (uint64_t seed = 1; seed <= 3; seed++) {
        struct driver driver;
        fill(&driver, seed, 40);
        struct rk_fs *fs = rk_memfs_fs(driver.memfs);
        struct rk_buf names = {0};
        assert_int_equal(fs->list(fs, "wal", size_each, &names), RK_OK);
        for (size_t at = 0; at < names.size; at += strlen((char *)names.data + at) + 1) {
            char path[RK_FS_PATH_MAX];
            assert_int_equal(rk_fs_join(path, "wal", (char *)names.data + at), RK_OK);
            struct rk_file *file = NULL;
            uint64_t size = 0;
            assert_int_equal(fs->open(fs, &file, path, 0), RK_OK);
            assert_int_equal(fs->size(file, &size), RK_OK);
            fs->close(file);
            uint64_t step = size < 100 ? 1 : 61;
            for (uint64_t offset = 0; offset < size; offset += step) {
                if (is_refused(&driver, path, offset, (unsigned)(offset % 8)))
                    refused++;
                else
                    harmless++;
            }
        }
        rk_buf_fini(&names);
        driver_fini(&driver);
    }
    assert_true(refused > 100);
    assert_true(harmless > 100); /* padding, spare segments */
}

/* Where every byte matters: the last ordinary batch, once an idle one vouches for it, and
 * not before. */
static void test_note_proves(void **state)
{
    (void)state;
    for (int has_note = 0; has_note < 2; has_note++) {
        struct driver driver;
        driver_init(&driver, 5);
        assert_int_equal(driver_open(&driver, NULL), RK_OK);
        driver_append(&driver, 0, 1, 1, 50);
        assert_int_equal(driver_write(&driver), RK_OK);
        driver_append(&driver, 0, 1, 1, 50);
        assert_int_equal(driver_write(&driver), RK_OK);
        bool is_more = false;
        if (has_note)
            assert_int_equal(rk_wal_tend(driver.wal, true, &is_more, NULL), RK_OK);
        driver_close(&driver);
        assert_int_equal(rk_memfs_flip(driver.memfs, "wal/00000001.wal", 1536 + 60, 1),
                         RK_OK);
        struct rk_storage_error error = {.message = ""};
        enum rk_status status = driver_open(&driver, &error);
        assert_int_equal(status, has_note ? RK_ECORRUPT : RK_OK);
        if (has_note)
            assert_string_equal(error.message,
                                "wal/00000001.wal: offset 1536: batch 3 is damaged or "
                                "missing, but batch 4 at offset 2048 says that it was "
                                "durable");
        else
            assert_int_equal(rk_entry_log_last(driver.logs[0]), 1);
        driver_fini(&driver);
    }
}

/* What a power failure leaves of a write of which only the first sectors arrived. */
static void tear(struct driver *driver, const char *path, uint64_t from, uint64_t to)
{
    struct rk_fs *fs = rk_memfs_fs(driver->memfs);
    struct rk_file *file = NULL;
    static const uint8_t zeros[512];
    assert_int_equal(fs->open(fs, &file, path, RK_FS_WRITE), RK_OK);
    for (uint64_t offset = from; offset < to; offset += sizeof(zeros))
        assert_int_equal(fs->pwrite(file, offset, zeros, sizeof(zeros)), RK_OK);
    assert_int_equal(fs->datasync(file), RK_OK);
    fs->close(file);
}

static uint64_t faults(struct driver *driver)
{
    struct rk_storage_inspect_options options;
    struct rk_storage_error error;
    struct rk_buf out = {0};
    uint64_t count = 0;
    rk_storage_inspect_options_init(&options);
    assert_int_equal(rk_storage_inspect(rk_memfs_fs(driver->memfs), "wal", "snap", &options,
                                        &out, &count, &error),
                     RK_OK);
    rk_buf_fini(&out);
    return count;
}

/* The last batch is torn, and the one before it, which was durable, is damaged: what there
 * is of the last one's head still tells. */
static void test_a_torn_batch_proves(void **state)
{
    (void)state;
    for (int is_flipped = 0; is_flipped < 2; is_flipped++) {
        struct driver driver;
        driver_init(&driver, 5);
        assert_int_equal(driver_open(&driver, NULL), RK_OK);
        driver_append(&driver, 0, 1, 1, 50); /* batch 2 at 1024 */
        assert_int_equal(driver_write(&driver), RK_OK);
        driver_append(&driver, 0, 1, 1, 50); /* 3 at 1536 */
        assert_int_equal(driver_write(&driver), RK_OK);
        driver_append(&driver, 0, 1, 1, 2000); /* 4 at 2048 */
        assert_int_equal(driver_write(&driver), RK_OK);
        driver_close(&driver);
        tear(&driver, "wal/00000001.wal", 2048 + 512, 2048 + 2560);
        if (is_flipped)
            assert_int_equal(rk_memfs_flip(driver.memfs, "wal/00000001.wal", 1536 + 60, 1),
                             RK_OK);
        assert_int_equal(faults(&driver), is_flipped);
        struct rk_storage_error error = {.message = ""};
        enum rk_status status = driver_open(&driver, &error);
        assert_int_equal(status, is_flipped ? RK_ECORRUPT : RK_OK);
        if (is_flipped)
            assert_string_equal(error.message,
                                "wal/00000001.wal: offset 1536: batch 3 is damaged or "
                                "missing, but batch 4 at offset 2048 says that it was "
                                "durable");
        else
            assert_int_equal(rk_entry_log_last(driver.logs[0]), 2);
        driver_fini(&driver);
    }
}

/* Where a batch begins in the file after which none does. */
static uint64_t last_batch(struct driver *driver, const char *path)
{
    struct rk_fs *fs = rk_memfs_fs(driver->memfs);
    struct rk_buf bytes = {0};
    uint64_t last = 0;
    assert_int_equal(rk_fs_read_file(fs, &bytes, path, 1 << 20), RK_OK);
    for (uint64_t offset = 512; offset < bytes.size; offset += 512)
        if (memcmp(bytes.data + offset, "RKWB", 4) == 0) last = offset;
    rk_buf_fini(&bytes);
    return last;
}

/* Likewise where the next segment was being opened: of it the head arrived, or the opening
 * batch's head, too. */
static void test_a_torn_segment_proves(void **state)
{
    (void)state;
    static const uint8_t node[1500];
    for (int is_flipped = 0; is_flipped < 2; is_flipped++) {
        for (uint64_t whole = 512; whole <= 1024; whole += 512) {
            struct driver driver;
            driver_init(&driver, 6);
            assert_int_equal(driver_open(&driver, NULL), RK_OK);
            /* So that the opening batch is longer than a sector. */
            assert_int_equal(
                rk_wal_batch_node(&driver.batch, rk_slice_of(node, sizeof(node))), RK_OK);
            while (driver.space.used_bytes <= driver.options.segment_first) {
                driver_append(&driver, 0, 1, 1, 1000);
                assert_int_equal(driver_write(&driver), RK_OK);
            }
            uint64_t last = rk_entry_log_last(driver.logs[0]);
            driver_close(&driver);
            uint64_t offset = last_batch(&driver, "wal/00000001.wal");
            tear(&driver, "wal/00000002.wal", whole, driver.options.segment_first);
            if (is_flipped)
                assert_int_equal(
                    rk_memfs_flip(driver.memfs, "wal/00000001.wal", offset + 60, 1), RK_OK);
            assert_int_equal(faults(&driver), is_flipped);
            struct rk_storage_error error = {.message = ""};
            enum rk_status status = driver_open(&driver, &error);
            assert_int_equal(status, is_flipped ? RK_ECORRUPT : RK_OK);
            if (is_flipped)
                assert_non_null(strstr(error.message, "is damaged or missing, but"));
            else
                assert_int_equal(rk_entry_log_last(driver.logs[0]), last - 1);
            driver_fini(&driver);
        }
    }
}

static void test_missing_segment(void **state)
{
    (void)state;
    struct driver driver;
    driver_init(&driver, 6);
    assert_int_equal(driver_open(&driver, NULL), RK_OK);
    for (int i = 0; i < 40; i++) {
        driver_append(&driver, 0, 1, 1, 1000);
        assert_int_equal(driver_write(&driver), RK_OK);
    }
    driver_close(&driver);
    struct rk_fs *fs = rk_memfs_fs(driver.memfs);
    assert_int_equal(fs->unlink(fs, "wal/00000002.wal"), RK_OK);
    struct rk_storage_error error = {.message = ""};
    assert_int_equal(driver_open(&driver, &error), RK_ECORRUPT);
    assert_non_null(strstr(error.message, "segment 2 of the log is missing"));
    driver_fini(&driver);
}

/* Entries that are read back later are checked again. */
static void test_flip_under_way(void **state)
{
    (void)state;
    struct driver driver;
    driver_init(&driver, 7);
    driver.options.cache_bytes = 0;
    assert_int_equal(driver_open(&driver, NULL), RK_OK);
    for (int i = 0; i < 100; i++)
        driver_append(&driver, 0, 1, 1, 100);
    assert_int_equal(driver_write(&driver), RK_OK);
    assert_true(rk_entry_log_cached_bytes(driver.logs[0]) < 5000);
    assert_int_equal(rk_memfs_flip(driver.memfs, "wal/00000001.wal", 1200, 3), RK_OK);
    struct rk_arena arena;
    rk_arena_init(&arena);
    const struct rk_raft_entry *entries = NULL;
    size_t count = 0;
    struct rk_storage_error error = {.message = ""};
    assert_int_equal(rk_entry_log_entries(driver.logs[0], 1, 5, 1 << 20, &arena, &entries,
                                          &count, &error),
                     RK_ECORRUPT);
    assert_non_null(strstr(error.message, "wal/00000001.wal"));
    rk_arena_fini(&arena);
    driver_fini(&driver);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_flips),
        cmocka_unit_test(test_note_proves),
        cmocka_unit_test(test_a_torn_batch_proves),
        cmocka_unit_test(test_a_torn_segment_proves),
        cmocka_unit_test(test_missing_segment),
        cmocka_unit_test(test_flip_under_way),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
