/* wal.c - what the write-ahead log makes of a disk: batches of entries of some sizes, each
 * written and synced, beside bare fdatasync of one sector and one page on a zero-filled
 * file in the same run. bench_wal DIR [SECONDS] prints one line of JSON for each. */
#include "base/alloc.h"
#include "storage/entry_log.h"

#include <stdio.h>
#include <stdlib.h>
#include <time.h>

static double now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + (double)time.tv_nsec / 1e9;
}

static void check(enum rk_status status, const struct rk_storage_error *error)
{
    if (status == RK_OK) return;
    fprintf(stderr, "bench_wal: %s: %s\n", rk_status_text(status), error->message);
    exit(1);
}

static void report(const char *name, uint64_t batches, uint64_t entries, uint64_t bytes,
                   double seconds)
{
    printf("{\"bench\":\"%s\",\"syncs_per_s\":%.0f,\"entries_per_s\":%.0f,"
           "\"mib_per_s\":%.1f}\n",
           name, (double)batches / seconds, (double)entries / seconds,
           (double)bytes / 1048576 / seconds);
    (void)fflush(stdout);
}

static void bench_bare(const char *dir, size_t block, double seconds)
{
    enum { FILE_SIZE = 16 << 20 };
    struct rk_fs *fs = rk_fs_posix();
    struct rk_storage_error error = {.message = "bare file"};
    struct rk_file *file = NULL;
    char path[RK_FS_PATH_MAX];
    static uint8_t zeros[FILE_SIZE];
    check(rk_fs_join(path, dir, "bare.tmp"), &error);
    check(fs->open(fs, &file, path, RK_FS_WRITE | RK_FS_CREATE | RK_FS_TRUNCATE), &error);
    check(fs->pwrite(file, 0, zeros, FILE_SIZE), &error);
    check(fs->datasync(file), &error);
    uint64_t count = 0;
    double start = now();
    for (uint64_t offset = 0; now() - start < seconds; count++) {
        check(fs->pwrite(file, offset, zeros, block), &error);
        check(fs->datasync(file), &error);
        offset = (offset + block) % FILE_SIZE;
    }
    char name[64];
    (void)snprintf(name, sizeof(name), "bare %zu bytes", block);
    report(name, count, 0, count * block, now() - start);
    fs->close(file);
    check(fs->unlink(fs, path), &error);
}

struct bench {
    struct rk_wal *wal;
    struct rk_entry_log *log;
    struct rk_wal_batch batch;
    uint64_t next;
    uint64_t marked;
};

static void one_batch(struct bench *bench, uint32_t entries, struct rk_slice data)
{
    struct rk_storage_error error = {.message = "no memory"};
    for (uint32_t i = 0; i < entries; i++) {
        struct rk_raft_entry entry = {bench->next++, 1, data, 0};
        check(rk_entry_log_append(bench->log, &entry, 1), &error);
        check(rk_wal_batch_entries(&bench->batch, 0, &entry, 1), &error);
    }
    check(rk_wal_write(bench->wal, &bench->batch, &error), &error);
    check(rk_entry_log_stored(bench->log, &bench->batch), &error);
    struct rk_wal_space space = bench->batch.result.space;
    rk_wal_batch_reset(&bench->batch);
    if (space.is_over && space.index > bench->marked) {
        uint64_t index = bench->marked = bench->next - 1;
        check(rk_wal_batch_mark(&bench->batch, 0, index, 1, RK_SLICE_EMPTY), &error);
        check(rk_wal_batch_compact(&bench->batch, 0, index, 1), &error);
        rk_entry_log_compact(bench->log, index);
    }
    rk_entry_log_trim(bench->log);
    bool is_more = false;
    check(rk_wal_tend(bench->wal, false, &is_more, &error), &error);
}

static void bench_log(struct bench *bench, uint32_t entries, size_t size, double seconds)
{
    uint8_t *data = rk_calloc(1, size);
    if (data == NULL) exit(1);
    uint64_t count = 0;
    double start = now();
    for (; now() - start < seconds; count++)
        one_batch(bench, entries, rk_slice_of(data, size));
    char name[64];
    (void)snprintf(name, sizeof(name), "log %u x %zu bytes", entries, size);
    report(name, count, count * entries, count * entries * size, now() - start);
    rk_free(data);
}

int main(int argc, char **argv)
{
    static const struct {
        uint32_t entries;
        size_t size;
    } cases[] = {{1, 128}, {16, 128}, {64, 128}, {256, 128}, {64, 1024}, {1, 1 << 20}};
    if (argc < 2) {
        fprintf(stderr, "usage: bench_wal DIR [SECONDS]\n");
        return 2;
    }
    double seconds = argc > 2 ? strtod(argv[2], NULL) : 2;
    char dir[RK_FS_PATH_MAX];
    struct rk_storage_error error = {.message = ""};
    struct rk_wal_options options;
    static struct rk_wal_recovered found;
    struct bench bench = {0};
    check(rk_fs_make_dir(rk_fs_posix(), argv[1]), &error);
    bench_bare(argv[1], 512, seconds);
    bench_bare(argv[1], 4096, seconds);
    check(rk_fs_join(dir, argv[1], "wal"), &error);
    rk_wal_options_init(&options);
    options.id = (uint64_t)time(NULL);
    double start = now();
    check(rk_wal_open(&bench.wal, rk_fs_posix(), dir, &options, &found, &error), &error);
    printf("{\"bench\":\"open\",\"seconds\":%.3f,\"batches\":%llu}\n", now() - start,
           (unsigned long long)found.batch_count);
    bench.log = found.groups[0].log;
    found.groups[0].log = NULL;
    if (bench.log == NULL) bench.log = rk_entry_log_new(0, RK_ENTRY_LOG_CACHE_DEFAULT);
    if (bench.log == NULL) return 1;
    bench.next = rk_entry_log_last(bench.log) + 1;
    rk_wal_recovered_fini(&found);
    rk_wal_batch_init(&bench.batch);
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
        bench_log(&bench, cases[i].entries, cases[i].size, seconds);
    struct rk_wal_stats stats;
    rk_wal_stats(bench.wal, &stats);
    printf("{\"bench\":\"stats\",\"segments_opened\":%llu,\"recycled\":%llu,"
           "\"fill_stalls\":%llu}\n",
           (unsigned long long)stats.segments_opened,
           (unsigned long long)stats.segments_recycled,
           (unsigned long long)stats.fill_stalls);
    rk_wal_batch_fini(&bench.batch);
    rk_entry_log_free(bench.log);
    rk_wal_free(bench.wal);
    return 0;
}
