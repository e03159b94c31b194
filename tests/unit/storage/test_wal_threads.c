/* The contract on threads, as a host uses it: a loop that encodes and reads back, a disk
 * thread that writes and tends. For the thread sanitizer. */
#include "storage/entry_log.h"

#include <ftw.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
#include <cmocka.h>

enum { BATCHES = 4, ROUNDS = 400 };

/* Two queues under one lock. */
struct shared {
    pthread_mutex_t lock;
    pthread_cond_t wake;
    struct rk_wal_batch *waiting[BATCHES];
    struct rk_wal_batch *done[BATCHES];
    int waiting_count;
    int done_count;
    bool is_ended;
    struct rk_wal *wal;
};

static struct rk_wal_batch *pop(struct rk_wal_batch **queue, int *count)
{
    struct rk_wal_batch *batch = queue[0];
    --*count;
    for (int i = 0; i < *count; i++)
        queue[i] = queue[i + 1];
    return batch;
}

static void *disk(void *context)
{
    struct shared *shared = context;
    for (;;) {
        pthread_mutex_lock(&shared->lock);
        while (shared->waiting_count == 0 && !shared->is_ended)
            pthread_cond_wait(&shared->wake, &shared->lock);
        if (shared->waiting_count == 0) {
            pthread_mutex_unlock(&shared->lock);
            return NULL;
        }
        struct rk_wal_batch *batch = pop(shared->waiting, &shared->waiting_count);
        pthread_mutex_unlock(&shared->lock);
        enum rk_status status = rk_wal_write(shared->wal, batch, NULL);
        if (status != RK_OK) abort();
        pthread_mutex_lock(&shared->lock);
        shared->done[shared->done_count++] = batch;
        pthread_cond_broadcast(&shared->wake);
        pthread_mutex_unlock(&shared->lock);
        bool is_more = false;
        status = rk_wal_tend(shared->wal, false, &is_more, NULL);
        if (status != RK_OK) abort();
    }
}

static int remove_one(const char *path, const struct stat *about, int kind,
                      struct FTW *place)
{
    (void)about;
    (void)kind;
    (void)place;
    return remove(path);
}

static void remove_each_in(const char *root)
{
    assert_int_equal(nftw(root, remove_one, 8, FTW_DEPTH | FTW_PHYS), 0);
}

struct loop {
    struct shared *shared;
    struct rk_entry_log *log;
    struct rk_wal_space space;
    uint64_t marked;
};

static void take_done(struct loop *loop, struct rk_wal_batch **spare, int *spare_count,
                      bool is_waiting)
{
    struct shared *shared = loop->shared;
    pthread_mutex_lock(&shared->lock);
    while (is_waiting && shared->done_count == 0)
        pthread_cond_wait(&shared->wake, &shared->lock);
    while (shared->done_count > 0) {
        struct rk_wal_batch *batch = pop(shared->done, &shared->done_count);
        loop->space = batch->result.space;
        assert_int_equal(rk_entry_log_stored(loop->log, batch), RK_OK);
        rk_wal_batch_reset(batch);
        spare[(*spare_count)++] = batch;
    }
    pthread_mutex_unlock(&shared->lock);
    rk_entry_log_trim(loop->log);
}

static void read_back(struct loop *loop, uint64_t lo)
{
    struct rk_arena arena;
    const struct rk_raft_entry *entries = NULL;
    size_t count = 0;
    struct rk_storage_error error = {.message = ""};
    rk_arena_init(&arena);
    enum rk_status status =
        rk_entry_log_entries(loop->log, lo, rk_entry_log_last(loop->log) + 1, 20000, &arena,
                             &entries, &count, &error);
    if (status != RK_OK) fail_msg("%s", error.message);
    for (size_t i = 0; i < count; i++)
        assert_int_equal(entries[i].data.data[0], (uint8_t)(lo + i));
    rk_arena_fini(&arena);
}

static void test_two_threads(void **state)
{
    (void)state;
    char root[] = "/tmp/rukun-wal-XXXXXX";
    char dir[RK_FS_PATH_MAX];
    assert_non_null(mkdtemp(root));
    assert_int_equal(rk_fs_join(dir, root, "wal"), RK_OK);
    struct rk_wal_options options;
    struct rk_wal_recovered found;
    struct shared shared = {.lock = PTHREAD_MUTEX_INITIALIZER,
                            .wake = PTHREAD_COND_INITIALIZER};
    rk_wal_options_init(&options);
    options.id = 1;
    options.segment_first = options.segment_later = 64 << 10;
    assert_int_equal(rk_wal_open(&shared.wal, rk_fs_posix(), dir, &options, &found, NULL),
                     RK_OK);
    rk_wal_recovered_fini(&found);
    struct loop loop = {.shared = &shared, .log = rk_entry_log_new(0, 0)};
    struct rk_wal_batch batches[BATCHES];
    struct rk_wal_batch *spare[BATCHES];
    int spare_count = BATCHES;
    for (int i = 0; i < BATCHES; i++) {
        rk_wal_batch_init(&batches[i]);
        spare[i] = &batches[i];
    }
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, disk, &shared), 0);
    for (int round = 0; round < ROUNDS; round++) {
        take_done(&loop, spare, &spare_count, spare_count == 0);
        struct rk_wal_batch *batch = spare[--spare_count];
        for (int i = 0; i < 5; i++) {
            uint64_t index = rk_entry_log_last(loop.log) + 1;
            uint8_t data[300] = {(uint8_t)index};
            struct rk_raft_entry entry = {index, 1, {data, sizeof(data)}, 0};
            assert_int_equal(rk_entry_log_append(loop.log, &entry, 1), RK_OK);
            assert_int_equal(rk_wal_batch_entries(batch, 0, &entry, 1), RK_OK);
        }
        if (loop.space.is_over && loop.space.index > loop.marked) {
            loop.marked = loop.space.index;
            assert_int_equal(rk_wal_batch_mark(batch, 0, loop.marked, 1, RK_SLICE_EMPTY),
                             RK_OK);
            assert_int_equal(rk_wal_batch_compact(batch, 0, loop.marked, 1), RK_OK);
            rk_entry_log_compact(loop.log, loop.marked);
        }
        pthread_mutex_lock(&shared.lock);
        shared.waiting[shared.waiting_count++] = batch;
        pthread_cond_broadcast(&shared.wake);
        pthread_mutex_unlock(&shared.lock);
        read_back(&loop, rk_entry_log_first(loop.log));
    }
    pthread_mutex_lock(&shared.lock);
    shared.is_ended = true;
    pthread_cond_broadcast(&shared.wake);
    pthread_mutex_unlock(&shared.lock);
    assert_int_equal(pthread_join(thread, NULL), 0);
    struct rk_wal_stats stats;
    rk_wal_stats(shared.wal, &stats);
    assert_true(stats.segments_recycled > 3);
    assert_true(loop.marked > 0);
    rk_entry_log_free(loop.log);
    for (int i = 0; i < BATCHES; i++)
        rk_wal_batch_fini(&batches[i]);
    rk_wal_free(shared.wal);
    remove_each_in(root);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_two_threads)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
