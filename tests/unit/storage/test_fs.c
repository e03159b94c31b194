/* Both file systems behave alike while nothing fails; memfs fails as asked; the reserve
 * keeps space back; inspect finds what is wrong. */
#include "driver.h"
#include "storage/inspect.h"
#include "storage/reserve.h"
#include "storage/snapshot.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
#include <cmocka.h>

static enum rk_status count_each(void *context, const char *name)
{
    (void)name;
    ++*(int *)context;
    return RK_OK;
}

static void exercise(struct rk_fs *fs, const char *root)
{
    char path[RK_FS_PATH_MAX];
    char other[RK_FS_PATH_MAX];
    char sub[RK_FS_PATH_MAX];
    struct rk_file *file = NULL;
    struct rk_file *second = NULL;
    assert_int_equal(rk_fs_join(path, root, "a"), RK_OK);
    assert_int_equal(rk_fs_join(other, root, "b"), RK_OK);
    assert_int_equal(rk_fs_join(sub, root, "sub"), RK_OK);
    assert_int_equal(fs->open(fs, &file, path, 0), RK_ENOENT);
    assert_int_equal(fs->open(fs, &file, path, RK_FS_WRITE | RK_FS_CREATE), RK_OK);
    assert_int_equal(
        fs->open(fs, &second, path, RK_FS_WRITE | RK_FS_CREATE | RK_FS_EXCLUSIVE),
        RK_EEXIST);
    assert_int_equal(fs->pwrite(file, 1000, "hello", 5), RK_OK);
    uint64_t size = 0;
    assert_int_equal(fs->size(file, &size), RK_OK);
    assert_int_equal(size, 1005);
    char data[10];
    size_t count = 0;
    assert_int_equal(fs->pread(file, &count, 998, data, 10), RK_OK);
    assert_int_equal(count, 7);
    assert_memory_equal(data, "\0\0hello", 7);
    assert_int_equal(rk_fs_read_full(file, 998, data, 10), RK_ECORRUPT);
    assert_int_equal(fs->pread(file, &count, 5000, data, 10), RK_OK);
    assert_int_equal(count, 0);
    assert_int_equal(fs->truncate(file, 1002), RK_OK);
    assert_int_equal(fs->truncate(file, 1005), RK_OK);
    assert_int_equal(rk_fs_read_full(file, 1000, data, 5), RK_OK);
    assert_memory_equal(data, "he\0\0\0", 5);
    assert_int_equal(fs->write_back(file, 1000, 5), RK_OK);
    assert_int_equal(fs->datasync(file), RK_OK);
    fs->close(file);
    fs->close(NULL);
    assert_int_equal(fs->rename(fs, path, other), RK_OK);
    assert_int_equal(fs->rename(fs, path, other), RK_ENOENT);
    assert_int_equal(fs->sync_dir(fs, root), RK_OK);
    assert_int_equal(rk_fs_make_dir(fs, sub), RK_OK);
    assert_int_equal(rk_fs_make_dir(fs, sub), RK_OK);
    assert_int_equal(fs->mkdir(fs, sub), RK_EEXIST);
    int names = 0;
    assert_int_equal(fs->list(fs, root, count_each, &names), RK_OK);
    assert_int_equal(names, 2);
    assert_int_equal(fs->list(fs, path, count_each, &names), RK_ENOENT);
    assert_int_equal(rk_fs_write_file(fs, sub, "c", RK_SLICE_LITERAL("content")), RK_OK);
    assert_int_equal(rk_fs_join(path, sub, "c"), RK_OK);
    struct rk_buf buf = {0};
    assert_int_equal(rk_fs_read_file(fs, &buf, path, 6), RK_ESIZE);
    assert_int_equal(rk_fs_read_file(fs, &buf, path, 7), RK_OK);
    assert_true(rk_slice_is_equal(rk_buf_slice(&buf), RK_SLICE_LITERAL("content")));
    rk_buf_fini(&buf);
    assert_int_equal(fs->unlink(fs, other), RK_OK);
    assert_int_equal(fs->unlink(fs, other), RK_ENOENT);
    struct rk_fs_space space;
    assert_int_equal(fs->space(fs, &space, root), RK_OK);
    assert_true(space.free_bytes > 0 && space.free_bytes <= space.total_bytes);
    assert_int_equal(rk_fs_join(path, root, "lock"), RK_OK);
    assert_int_equal(fs->lock(fs, &file, path), RK_OK);
    assert_int_equal(fs->lock(fs, &second, path), RK_EBUSY);
    fs->close(file);
    assert_int_equal(fs->lock(fs, &file, path), RK_OK);
    fs->close(file);
}

static void test_posix(void **state)
{
    (void)state;
    char root[] = "/tmp/rukun-fs-XXXXXX";
    assert_non_null(mkdtemp(root));
    exercise(rk_fs_posix(), root);
    char path[RK_FS_PATH_MAX];
    const char *names[] = {"sub/c", "sub", "lock"};
    for (int i = 0; i < 3; i++) {
        assert_int_equal(rk_fs_join(path, root, names[i]), RK_OK);
        assert_int_equal(i == 1 ? rmdir(path) : unlink(path), 0);
    }
    assert_int_equal(rmdir(root), 0);
}

static void test_memfs(void **state)
{
    (void)state;
    struct rk_memfs *memfs = rk_memfs_new(1);
    struct rk_fs *fs = rk_memfs_fs(memfs);
    assert_int_equal(rk_fs_make_dir(fs, "root"), RK_OK);
    exercise(fs, "root");
    rk_memfs_free(memfs);
}

/* Unsynced sectors and names are lost, synced ones are not; over many seeds everything that
 * may happen to a sector does. */
static void test_memfs_crash(void **state)
{
    (void)state;
    int kept = 0;
    int lost = 0;
    int torn = 0;
    int names = 0;
    for (uint64_t seed = 0; seed < 200; seed++) {
        struct rk_memfs *memfs = rk_memfs_new(seed);
        struct rk_fs *fs = rk_memfs_fs(memfs);
        uint8_t old[512];
        uint8_t new[512];
        uint8_t now[512];
        memset(old, 'o', sizeof(old));
        memset(new, 'n', sizeof(new));
        struct rk_file *file = NULL;
        assert_int_equal(rk_fs_make_dir(fs, "d"), RK_OK);
        assert_int_equal(fs->open(fs, &file, "d/f", RK_FS_WRITE | RK_FS_CREATE), RK_OK);
        assert_int_equal(fs->pwrite(file, 0, old, 512), RK_OK);
        assert_int_equal(fs->pwrite(file, 512, old, 512), RK_OK);
        assert_int_equal(fs->datasync(file), RK_OK);
        assert_int_equal(fs->sync_dir(fs, "."), RK_OK);
        assert_int_equal(fs->sync_dir(fs, "d"), RK_OK);
        assert_int_equal(fs->pwrite(file, 512, new, 512), RK_OK);
        assert_int_equal(fs->rename(fs, "d/f", "d/g"), RK_OK);
        rk_memfs_crash(memfs, RK_MEMFS_CRASH_RANDOM);
        assert_int_equal(fs->pwrite(file, 0, new, 512), RK_EIO); /* a handle of before */
        fs->close(file);
        bool has_new = fs->open(fs, &file, "d/g", 0) == RK_OK;
        if (!has_new) assert_int_equal(fs->open(fs, &file, "d/f", 0), RK_OK);
        names += has_new;
        assert_int_equal(rk_fs_read_full(file, 0, now, 512), RK_OK);
        assert_memory_equal(now, old, 512);
        assert_int_equal(rk_fs_read_full(file, 512, now, 512), RK_OK);
        if (memcmp(now, new, 512) == 0)
            kept++;
        else if (memcmp(now, old, 512) == 0)
            lost++;
        else
            torn++;
        fs->close(file);
        rk_memfs_free(memfs);
    }
    assert_true(kept > 20 && lost > 20 && torn > 10 && names > 40 && names < 160);
}

static void test_reserve(void **state)
{
    (void)state;
    struct rk_memfs *memfs = rk_memfs_new(1);
    struct rk_fs *fs = rk_memfs_fs(memfs);
    struct rk_reserve reserve;
    enum rk_reserve_level level = RK_RESERVE_CRITICAL;
    bool is_more = true;
    const uint64_t size = 4 << 20;
    rk_memfs_set_capacity(memfs, 40 << 20);
    assert_int_equal(rk_fs_make_dir(fs, "data"), RK_OK);
    assert_int_equal(rk_reserve_open(&reserve, fs, "data", size, NULL), RK_OK);
    while (is_more)
        assert_int_equal(rk_reserve_poll(&reserve, false, &level, &is_more, NULL), RK_OK);
    assert_int_equal(level, RK_RESERVE_OK);
    assert_int_equal(rk_memfs_used(memfs), size);
    struct rk_file *file = NULL;
    assert_int_equal(fs->open(fs, &file, "data/log", RK_FS_WRITE | RK_FS_CREATE), RK_OK);
    assert_int_equal(fs->truncate(file, 33 << 20), RK_OK);
    assert_int_equal(rk_reserve_poll(&reserve, false, &level, &is_more, NULL), RK_OK);
    assert_int_equal(level, RK_RESERVE_LOW);
    assert_int_equal(rk_memfs_used(memfs), (33 << 20) + size);
    assert_int_equal(fs->truncate(file, (35 << 20) + (1 << 19)), RK_OK);
    assert_int_equal(rk_reserve_poll(&reserve, false, &level, &is_more, NULL), RK_OK);
    assert_int_equal(level, RK_RESERVE_CRITICAL);
    assert_int_equal(rk_memfs_used(memfs), (35 << 20) + (1 << 19)); /* given back */
    assert_int_equal(rk_reserve_poll(&reserve, false, &level, &is_more, NULL), RK_OK);
    assert_int_equal(level, RK_RESERVE_CRITICAL);
    assert_int_equal(fs->truncate(file, 10 << 20), RK_OK);
    is_more = true;
    while (is_more)
        assert_int_equal(rk_reserve_poll(&reserve, false, &level, &is_more, NULL), RK_OK);
    assert_int_equal(level, RK_RESERVE_OK);
    assert_int_equal(rk_memfs_used(memfs), (10 << 20) + size);
    rk_reserve_close(&reserve);
    assert_int_equal(rk_reserve_open(&reserve, fs, "data", size, NULL), RK_OK);
    assert_int_equal(reserve.filled, size);
    assert_int_equal(rk_reserve_poll(&reserve, true, &level, &is_more, NULL), RK_OK);
    assert_int_equal(level, RK_RESERVE_CRITICAL); /* a write was refused all the same */
    rk_reserve_close(&reserve);
    fs->close(file);
    rk_memfs_free(memfs);
}

static enum rk_status (*open_before)(struct rk_fs *fs, struct rk_file **out,
                                     const char *path, unsigned flags);

static enum rk_status open_but_the_reserve(struct rk_fs *fs, struct rk_file **out,
                                           const char *path, unsigned flags)
{
    if (strcmp(path, "data/reserve") == 0) return RK_EDENIED;
    return open_before(fs, out, path, flags);
}

static enum rk_status no_space_known(struct rk_fs *fs, struct rk_fs_space *out,
                                     const char *path)
{
    (void)fs, (void)out, (void)path;
    return RK_EIO;
}

/* A reserve that can not be kept does not freeze what is said of the disk. */
static void test_reserve_that_fails(void **state)
{
    (void)state;
    struct rk_memfs *memfs = rk_memfs_new(1);
    struct rk_fs *fs = rk_memfs_fs(memfs);
    struct rk_reserve reserve;
    enum rk_reserve_level level = RK_RESERVE_CRITICAL;
    bool is_more = true;
    struct rk_file *file = NULL;
    rk_memfs_set_capacity(memfs, 40 << 20);
    assert_int_equal(rk_fs_make_dir(fs, "data"), RK_OK);
    assert_int_equal(fs->open(fs, &file, "data/log", RK_FS_WRITE | RK_FS_CREATE), RK_OK);
    open_before = fs->open;
    fs->open = open_but_the_reserve;
    assert_int_equal(rk_reserve_open(&reserve, fs, "data", 4 << 20, NULL), RK_EDENIED);
    assert_int_equal(rk_reserve_poll(&reserve, false, &level, &is_more, NULL), RK_EDENIED);
    assert_int_equal(level, RK_RESERVE_OK);
    assert_false(is_more);
    assert_int_equal(fs->truncate(file, 37 << 20), RK_OK);
    assert_int_equal(rk_reserve_poll(&reserve, false, &level, &is_more, NULL), RK_EDENIED);
    assert_int_equal(level, RK_RESERVE_LOW);
    assert_int_equal(fs->truncate(file, 10 << 20), RK_OK);
    assert_int_equal(rk_reserve_poll(&reserve, true, &level, &is_more, NULL), RK_EDENIED);
    assert_int_equal(level, RK_RESERVE_LOW); /* a write was refused all the same */
    enum rk_status (*space)(struct rk_fs *, struct rk_fs_space *, const char *) = fs->space;
    fs->space = no_space_known;
    assert_int_equal(rk_reserve_poll(&reserve, false, &level, &is_more, NULL), RK_EIO);
    assert_int_equal(level, RK_RESERVE_LOW);
    fs->space = space;
    assert_int_equal(rk_reserve_poll(&reserve, false, &level, &is_more, NULL), RK_EDENIED);
    assert_int_equal(level, RK_RESERVE_OK);
    fs->space = no_space_known;
    assert_int_equal(rk_reserve_poll(&reserve, true, &level, &is_more, NULL), RK_EIO);
    assert_int_equal(level, RK_RESERVE_LOW);
    fs->space = space;
    fs->open = open_before;
    is_more = true;
    while (is_more)
        assert_int_equal(rk_reserve_poll(&reserve, false, &level, &is_more, NULL), RK_OK);
    assert_int_equal(level, RK_RESERVE_OK);
    assert_int_equal(rk_memfs_used(memfs), (10 << 20) + (4 << 20));
    rk_reserve_close(&reserve);
    fs->close(file);
    rk_memfs_free(memfs);
}

static uint64_t inspect(struct driver *driver, struct rk_buf *out)
{
    struct rk_storage_inspect_options options;
    rk_storage_inspect_options_init(&options);
    options.has_batches = options.has_records = true;
    uint64_t faults = 99;
    rk_buf_reset(out);
    struct rk_storage_error error = {.message = ""};
    enum rk_status status = rk_storage_inspect(rk_memfs_fs(driver->memfs), "wal", "snap",
                                               &options, out, &faults, &error);
    if (status != RK_OK) fail_msg("%s", error.message);
    rk_buf_u8(out, 0);
    return faults;
}

static void test_inspect(void **state)
{
    (void)state;
    struct driver driver;
    struct rk_buf out = {0};
    driver_init(&driver, 3);
    driver.is_compacting = false;
    assert_int_equal(driver_open(&driver, NULL), RK_OK);
    driver_append(&driver, 1, 2, 30, 100);
    driver_hard(&driver, 1, (struct rk_raft_hard_state){2, 1, 20});
    assert_int_equal(driver_write(&driver), RK_OK);
    for (int i = 0; i < 30; i++) {
        driver_append(&driver, 0, 1, 2, 500);
        assert_int_equal(driver_write(&driver), RK_OK);
    }
    assert_int_equal(inspect(&driver, &out), 0);
    const char *text = (const char *)out.data;
    assert_non_null(
        strstr(text, "group 1 term 2 vote 1 commit 20 entries 1..30 snapshot 0"));
    assert_non_null(strstr(text, "    entry group 0 index 60 term 1 type 0 bytes 500\n"));
    assert_non_null(strstr(text, "segment 3 wal/00000003.wal"));
    driver_snapshot(&driver, 1, 20); /* without its file */
    assert_int_equal(driver_write(&driver), RK_OK);
    assert_int_equal(inspect(&driver, &out), 1);
    assert_non_null(
        strstr((const char *)out.data, "FAULT group 1: no sound snapshot file"));
    driver_close(&driver);
    assert_int_equal(rk_memfs_flip(driver.memfs, "wal/00000002.wal", 5000, 1), RK_OK);
    assert_true(inspect(&driver, &out) > 1);
    assert_non_null(strstr((const char *)out.data, "FAULT wal/00000002.wal: offset"));
    rk_buf_fini(&out);
    driver_fini(&driver);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_posix),
        cmocka_unit_test(test_memfs),
        cmocka_unit_test(test_memfs_crash),
        cmocka_unit_test(test_reserve),
        cmocka_unit_test(test_reserve_that_fails),
        cmocka_unit_test(test_inspect),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
