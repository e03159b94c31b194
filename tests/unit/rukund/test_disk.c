/* The disk thread, on a disk in memory that runs full. */
#include "rukund/disk.h"

#include "base/alloc.h"
#include "storage/memfs.h"

#include <event2/event.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

enum { SEGMENT = 16 << 10, RESERVE = 64 << 10, DATA = 1500 };

struct bench {
    struct event_base *base;
    struct rk_memfs *memfs;
    struct rk_wal *wal;
    struct rk_disk *disk;
    struct rk_wal_batch batch;
    uint64_t last; /* index of the last entry written */
    enum rk_status status;
};

static void on_written(void *context, enum rk_status status, const char *text)
{
    struct bench *bench = context;
    (void)text;
    bench->status = status;
    event_base_loopbreak(bench->base);
}

static void on_reserve(void *context, enum rk_status status, const char *text)
{
    (void)context;
    (void)text;
    assert_int_equal(status, RK_OK);
}

static void on_failed(void *context, enum rk_status status, const char *text)
{
    on_written(context, status, text);
}

static void bench_open(struct bench *bench, uint64_t capacity)
{
    struct rk_storage_error error = {""};
    struct rk_wal_options options;
    struct rk_wal_recovered *found = rk_calloc(1, sizeof(*found));
    *bench = (struct bench){.base = event_base_new(), .memfs = rk_memfs_new(7)};
    assert_true(found != NULL && bench->base != NULL && bench->memfs != NULL);
    struct rk_fs *fs = rk_memfs_fs(bench->memfs);
    assert_int_equal(rk_fs_make_dir(fs, "data"), RK_OK);
    rk_wal_options_init(&options);
    options.id = 1;
    options.segment_first = options.segment_later = SEGMENT;
    assert_int_equal(rk_wal_open(&bench->wal, fs, "data/wal", &options, found, &error),
                     RK_OK);
    rk_wal_recovered_fini(found);
    rk_free(found);
    rk_wal_batch_init(&bench->batch);
    rk_memfs_set_capacity(bench->memfs, capacity);
    const struct rk_disk_options given = {.base = bench->base,
                                          .fs = fs,
                                          .data = "data",
                                          .reserve_bytes = RESERVE,
                                          .context = bench,
                                          .written = on_written,
                                          .reserve = on_reserve,
                                          .failed = on_failed};
    assert_int_equal(rk_disk_new(&bench->disk, &given), RK_OK);
}

static void bench_close(struct bench *bench)
{
    rk_disk_free(bench->disk);
    rk_wal_free(bench->wal);
    rk_wal_batch_fini(&bench->batch);
    rk_memfs_free(bench->memfs);
    event_base_free(bench->base);
}

static enum rk_status write_one(struct bench *bench)
{
    static const uint8_t zeros[DATA];
    const struct rk_raft_entry entry = {
        .index = ++bench->last, .term = 1, .data = {zeros, DATA}};
    rk_wal_batch_reset(&bench->batch);
    assert_int_equal(rk_wal_batch_entries(&bench->batch, 0, &entry, 1), RK_OK);
    rk_disk_write(bench->disk, bench->wal, &bench->batch);
    (void)event_base_dispatch(bench->base);
    return bench->status;
}

/* The log gets the reserve as soon as it finds the disk full, not when it is next looked
 * at: all of this is over before that. */
static void test_the_reserve_is_for_the_log(void **state)
{
    struct bench bench;
    (void)state;
    bench_open(&bench, 10 * SEGMENT);
    /* Four segments stand beside it, the fifth one is filled in its place. */
    while (!rk_disk_is_full(bench.disk) && bench.last < 1000)
        assert_int_equal(write_one(&bench), RK_OK);
    assert_true(rk_disk_is_full(bench.disk));
    uint64_t last = bench.last;
    while (bench.last < last + 2 * SEGMENT / DATA)
        assert_int_equal(write_one(&bench), RK_OK);
    assert_true(rk_disk_is_full(bench.disk));
    bench_close(&bench);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_the_reserve_is_for_the_log),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
