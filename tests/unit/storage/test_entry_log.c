/* One group's log in memory: bounds, loans, places that come back late. */
#include "base/alloc.h"
#include "storage/entry_log.h"
#include "storage/memfs.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

struct fixture {
    struct rk_memfs *memfs;
    struct rk_wal *wal;
    struct rk_entry_log *log;
    struct rk_wal_batch batches[3];
    struct rk_arena arena;
};

static void setup(struct fixture *f, size_t cache_bytes)
{
    struct rk_wal_options options;
    struct rk_wal_recovered found;
    rk_wal_options_init(&options);
    options.id = 1;
    options.segment_first = options.segment_later = 64 << 10;
    *f = (struct fixture){.memfs = rk_memfs_new(1)};
    assert_int_equal(
        rk_wal_open(&f->wal, rk_memfs_fs(f->memfs), "wal", &options, &found, NULL), RK_OK);
    rk_wal_recovered_fini(&found);
    f->log = rk_entry_log_new(4, cache_bytes);
    assert_non_null(f->log);
    for (int i = 0; i < 3; i++)
        rk_wal_batch_init(&f->batches[i]);
    rk_arena_init(&f->arena);
}

static void teardown(struct fixture *f)
{
    rk_arena_fini(&f->arena);
    for (int i = 0; i < 3; i++)
        rk_wal_batch_fini(&f->batches[i]);
    rk_entry_log_free(f->log);
    rk_wal_free(f->wal);
    rk_memfs_free(f->memfs);
}

/* Entries of one byte, into the log and a batch. */
static void add(struct fixture *f, int batch, uint64_t first, uint64_t term, uint64_t count,
                char byte)
{
    for (uint64_t i = 0; i < count; i++) {
        struct rk_raft_entry entry = {first + i, term, {(const uint8_t *)&byte, 1}, 1};
        assert_int_equal(rk_entry_log_append(f->log, &entry, 1), RK_OK);
        assert_int_equal(rk_wal_batch_entries(&f->batches[batch], 4, &entry, 1), RK_OK);
    }
}

static void cut(struct fixture *f, int batch, uint64_t from)
{
    rk_entry_log_truncate(f->log, from);
    assert_int_equal(rk_wal_batch_truncate(&f->batches[batch], 4, from), RK_OK);
}

static void written(struct fixture *f, int batch)
{
    assert_int_equal(rk_wal_write(f->wal, &f->batches[batch], NULL), RK_OK);
}

static void stored(struct fixture *f, int batch)
{
    assert_int_equal(rk_entry_log_stored(f->log, &f->batches[batch]), RK_OK);
    rk_wal_batch_reset(&f->batches[batch]);
}

static void expect(struct fixture *f, uint64_t first, const char *bytes)
{
    const struct rk_raft_entry *entries = NULL;
    size_t count = 0;
    struct rk_storage_error error = {.message = ""};
    assert_int_equal(rk_entry_log_first(f->log), first);
    assert_int_equal(rk_entry_log_last(f->log), first + strlen(bytes) - 1);
    enum rk_status status =
        rk_entry_log_entries(f->log, first, first + strlen(bytes), UINT64_MAX, &f->arena,
                             &entries, &count, &error);
    if (status != RK_OK) fail_msg("%s", error.message);
    assert_int_equal(count, strlen(bytes));
    for (size_t i = 0; i < count; i++) {
        assert_int_equal(entries[i].index, first + i);
        assert_int_equal(entries[i].data.data[0], bytes[i]);
    }
    rk_arena_reset(&f->arena);
}

static void test_empty(void **state)
{
    (void)state;
    struct rk_entry_log *log = rk_entry_log_new(4, 0);
    uint64_t term = 9;
    assert_int_equal(rk_entry_log_group(log), 4);
    assert_int_equal(rk_entry_log_first(log), 1);
    assert_int_equal(rk_entry_log_last(log), 0);
    assert_int_equal(rk_entry_log_term(log, &term, 0), RK_OK);
    assert_int_equal(term, 0);
    assert_int_equal(rk_entry_log_term(log, &term, 1), RK_ENOENT);
    rk_entry_log_compact(log, 0);
    rk_entry_log_truncate(log, 1);
    rk_entry_log_trim(log);
    rk_entry_log_install(log, 10, 3);
    assert_int_equal(rk_entry_log_first(log), 11);
    assert_int_equal(rk_entry_log_term(log, &term, 9), RK_EGONE);
    assert_int_equal(rk_entry_log_term(log, &term, 10), RK_OK);
    assert_int_equal(term, 3);
    rk_entry_log_free(log);
    rk_entry_log_free(NULL);
}

/* What is not written yet stays in memory whatever the bound; then it is read back. */
static void test_cache_bound(void **state)
{
    (void)state;
    struct fixture f;
    setup(&f, 0);
    add(&f, 0, 1, 1, 5, 'a');
    rk_entry_log_trim(f.log);
    assert_true(rk_entry_log_cached_bytes(f.log) > 0);
    expect(&f, 1, "aaaaa");
    written(&f, 0);
    stored(&f, 0);
    add(&f, 1, 6, 2, 2, 'b');
    rk_entry_log_trim(f.log);
    expect(&f, 1, "aaaaabb");
    uint64_t term = 0;
    assert_int_equal(rk_entry_log_term(f.log, &term, 5), RK_OK);
    assert_int_equal(term, 1);
    written(&f, 1);
    stored(&f, 1);
    rk_entry_log_trim(f.log);
    assert_int_equal(rk_entry_log_cached_bytes(f.log), 0);
    expect(&f, 1, "aaaaabb");
    cut(&f, 2, 4); /* in the middle of a run on disk */
    add(&f, 2, 4, 3, 2, 'c');
    expect(&f, 1, "aaacc");
    written(&f, 2);
    stored(&f, 2);
    rk_entry_log_trim(f.log);
    expect(&f, 1, "aaacc");
    rk_entry_log_compact(f.log, 2);
    expect(&f, 3, "acc");
    rk_entry_log_compact(f.log, 5);
    assert_int_equal(rk_entry_log_bytes(f.log), 0);
    teardown(&f);
}

static void test_max_bytes(void **state)
{
    (void)state;
    struct fixture f;
    setup(&f, 1 << 20);
    add(&f, 0, 1, 1, 10, 'a');
    const struct rk_raft_entry *entries = NULL;
    size_t count = 0;
    for (uint64_t max = 0; max < 400; max += 11) {
        assert_int_equal(
            rk_entry_log_entries(f.log, 1, 11, max, &f.arena, &entries, &count, NULL),
            RK_OK);
        uint64_t fits = max / 33;
        assert_int_equal(count, fits == 0 ? 1 : fits > 10 ? 10 : fits);
    }
    rk_entry_log_compact(f.log, 3);
    assert_int_equal(
        rk_entry_log_entries(f.log, 3, 5, 100, &f.arena, &entries, &count, NULL), RK_EGONE);
    teardown(&f);
}

/* Rule 7: places of entries that were cut meanwhile are not taken for those of new ones,
 * even with the same index and term; and entries below the cut keep theirs. */
static void test_late_places(void **state)
{
    (void)state;
    struct fixture f;
    setup(&f, 0);
    add(&f, 0, 1, 2, 6, 'a'); /* batch 0: 1-6 */
    written(&f, 0);
    cut(&f, 1, 4);            /* while it is on its way */
    add(&f, 1, 4, 2, 3, 'b'); /* batch 1: 4-6 again */
    written(&f, 1);
    cut(&f, 2, 6);
    add(&f, 2, 6, 2, 1, 'c');
    written(&f, 2);
    stored(&f, 0);
    rk_entry_log_trim(f.log);
    expect(&f, 1, "aaabbc");
    stored(&f, 1);
    rk_entry_log_trim(f.log);
    expect(&f, 1, "aaabbc");
    assert_true(rk_entry_log_cached_bytes(f.log) > 0);
    stored(&f, 2);
    rk_entry_log_trim(f.log);
    assert_int_equal(rk_entry_log_cached_bytes(f.log), 0);
    expect(&f, 1, "aaabbc");
    teardown(&f);
}

/* The same with a snapshot installed, and with a compaction beyond what came back. */
static void test_late_places_after_install(void **state)
{
    (void)state;
    struct fixture f;
    setup(&f, 0);
    add(&f, 0, 1, 2, 6, 'a');
    written(&f, 0);
    rk_entry_log_install(f.log, 3, 2);
    assert_int_equal(rk_wal_batch_install(&f.batches[1], 4, 3, 2, RK_SLICE_EMPTY), RK_OK);
    add(&f, 1, 4, 2, 3, 'b');
    written(&f, 1);
    stored(&f, 0);
    rk_entry_log_trim(f.log);
    expect(&f, 4, "bbb");
    rk_entry_log_compact(f.log, 5);
    stored(&f, 1);
    rk_entry_log_trim(f.log);
    assert_int_equal(rk_entry_log_cached_bytes(f.log), 0);
    expect(&f, 6, "b");
    teardown(&f);
}

/* What was handed out from memory is the arena's, whatever happens to the log. */
static void test_copies(void **state)
{
    (void)state;
    struct fixture f;
    setup(&f, 0);
    add(&f, 0, 1, 1, 3, 'a');
    written(&f, 0);
    stored(&f, 0);
    assert_true(rk_entry_log_cached_bytes(f.log) > 0);
    const struct rk_raft_entry *entries = NULL;
    size_t count = 0;
    assert_int_equal(
        rk_entry_log_entries(f.log, 1, 4, 1000, &f.arena, &entries, &count, NULL), RK_OK);
    assert_int_equal(count, 3);
    cut(&f, 1, 2);
    add(&f, 1, 2, 2, 100, 'b');
    rk_entry_log_compact(f.log, 50);
    rk_entry_log_install(f.log, 200, 2);
    rk_entry_log_trim(f.log);
    for (size_t i = 0; i < count; i++)
        assert_int_equal(entries[i].data.data[0], 'a');
    teardown(&f);
}

static void test_without_memory(void **state)
{
    (void)state;
    uint8_t data[100000] = {5};
    struct rk_raft_entry entries[] = {{1, 1, {data, 10}, 0}, {2, 1, {data, 100000}, 0}};
    for (int64_t at = 0; at < 6; at++) {
        struct rk_entry_log *log = rk_entry_log_new(1, 0);
        rk_alloc_fail(at, 0);
        enum rk_status status = rk_entry_log_append(log, entries, 2);
        rk_alloc_fail(-1, 0);
        if (status != RK_OK) {
            assert_int_equal(status, RK_ENOMEM);
            assert_int_equal(rk_entry_log_last(log), 0);
            assert_int_equal(rk_entry_log_cached_bytes(log), 0);
            assert_int_equal(rk_entry_log_bytes(log), 0);
            assert_int_equal(rk_entry_log_append(log, entries, 2), RK_OK);
        }
        assert_int_equal(rk_entry_log_last(log), 2);
        rk_entry_log_free(log);
    }
    rk_alloc_fail(1, 0);
    assert_null(rk_entry_log_new(1, 0));
    rk_alloc_fail(-1, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_empty),
        cmocka_unit_test(test_cache_bound),
        cmocka_unit_test(test_max_bytes),
        cmocka_unit_test(test_late_places),
        cmocka_unit_test(test_late_places_after_install),
        cmocka_unit_test(test_copies),
        cmocka_unit_test(test_without_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
