#include "driver.h"

#include "base/alloc.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

static struct rk_slice slice_u64(uint64_t value, uint8_t bytes[8])
{
    rk_put_u64(bytes, value);
    return rk_slice_of(bytes, value == 0 ? 0 : 8);
}

void driver_data(uint8_t *out, uint32_t group, uint64_t index, uint32_t term, uint32_t size)
{
    struct rk_random random;
    rk_random_init(&random, index * 1000003 + term * 101 + group);
    for (uint32_t i = 0; i < size; i++)
        out[i] = i % 8 == 0 ? (uint8_t)rk_random_next(&random) : (uint8_t)(out[i - 1] + i);
}

void driver_init(struct driver *driver, uint64_t seed)
{
    *driver = (struct driver){0};
    rk_random_init(&driver->random, seed);
    driver->memfs = rk_memfs_new(seed);
    driver->durable = rk_calloc(1, sizeof(struct model));
    driver->pending = rk_calloc(1, sizeof(struct model));
    assert_non_null(driver->memfs);
    assert_non_null(driver->durable);
    assert_non_null(driver->pending);
    for (uint32_t g = 0; g < DRIVER_GROUPS; g++)
        driver->durable->groups[g].first = driver->pending->groups[g].first = 1;
    rk_wal_batch_init(&driver->batch);
    rk_wal_options_init(&driver->options);
    driver->options.id = seed * 2 + 1;
    driver->options.segment_first = 16 << 10;
    driver->options.segment_later = 64 << 10;
    driver->options.cache_bytes = 4 << 10;
    driver->is_compacting = true;
}

enum rk_status driver_open(struct driver *driver, struct rk_storage_error *error)
{
    enum rk_status status = rk_wal_open(&driver->wal, rk_memfs_fs(driver->memfs), "wal",
                                        &driver->options, &driver->found, error);
    if (status != RK_OK) return status;
    for (uint32_t g = 0; g < DRIVER_GROUPS; g++) {
        driver->logs[g] = driver->found.groups[g].log;
        driver->found.groups[g].log = NULL;
        if (driver->logs[g] == NULL) driver->logs[g] = rk_entry_log_new(g, 4 << 10);
        assert_non_null(driver->logs[g]);
    }
    return RK_OK;
}

void driver_close(struct driver *driver)
{
    rk_wal_free(driver->wal);
    driver->wal = NULL;
    rk_wal_recovered_fini(&driver->found);
    for (uint32_t g = 0; g < DRIVER_GROUPS; g++) {
        rk_entry_log_free(driver->logs[g]);
        driver->logs[g] = NULL;
    }
    rk_wal_batch_reset(&driver->batch);
}

void driver_fini(struct driver *driver)
{
    driver_close(driver);
    rk_wal_batch_fini(&driver->batch);
    rk_memfs_free(driver->memfs);
    rk_free(driver->durable);
    rk_free(driver->pending);
}

void driver_append(struct driver *driver, uint32_t group, uint32_t term, uint32_t count,
                   uint32_t size)
{
    static uint8_t data[DRIVER_DATA_MAX];
    struct model_group *model = &driver->pending->groups[group];
    for (uint32_t i = 0; i < count; i++) {
        uint64_t index = model->last + 1;
        assert_true(index < DRIVER_ENTRIES_MAX);
        driver_data(data, group, index, term, size);
        struct rk_raft_entry entry = {index, term, {data, size}, (uint8_t)(index % 3)};
        assert_int_equal(rk_entry_log_append(driver->logs[group], &entry, 1), RK_OK);
        assert_int_equal(rk_wal_batch_entries(&driver->batch, group, &entry, 1), RK_OK);
        model->entries[index] = (struct model_entry){term, size};
        model->last = index;
        model->is_present = true;
    }
}

void driver_truncate(struct driver *driver, uint32_t group, uint64_t from)
{
    rk_entry_log_truncate(driver->logs[group], from);
    assert_int_equal(rk_wal_batch_truncate(&driver->batch, group, from), RK_OK);
    struct model_group *model = &driver->pending->groups[group];
    if (from <= model->last) model->last = from - 1;
    model->is_present = true;
}

static uint64_t model_term(const struct model_group *model, uint64_t index)
{
    return index == model->first - 1 ? model->base_term : model->entries[index].term;
}

void driver_snapshot(struct driver *driver, uint32_t group, uint64_t index)
{
    struct model_group *model = &driver->pending->groups[group];
    uint64_t term = model_term(model, index);
    uint8_t bytes[8];
    model->mark_conf = index * 7 + 1;
    assert_int_equal(rk_wal_batch_mark(&driver->batch, group, index, term,
                                       slice_u64(model->mark_conf, bytes)),
                     RK_OK);
    assert_int_equal(rk_wal_batch_compact(&driver->batch, group, index, term), RK_OK);
    rk_entry_log_compact(driver->logs[group], index);
    model->mark_index = index;
    model->mark_term = term;
    model->base_term = term;
    model->first = index + 1;
    model->is_present = true;
}

void driver_hard(struct driver *driver, uint32_t group, struct rk_raft_hard_state hard)
{
    struct model_group *model = &driver->pending->groups[group];
    assert_int_equal(rk_wal_batch_hard_state(&driver->batch, group, hard), RK_OK);
    model->hard = hard;
    model->is_present = true;
}

void driver_install(struct driver *driver, uint32_t group, uint64_t index, uint64_t term)
{
    struct model_group *model = &driver->pending->groups[group];
    uint8_t bytes[8];
    model->mark_conf = index * 7 + 1;
    assert_int_equal(rk_wal_batch_install(&driver->batch, group, index, term,
                                          slice_u64(model->mark_conf, bytes)),
                     RK_OK);
    rk_entry_log_install(driver->logs[group], index, term);
    model->mark_index = model->last = index;
    model->first = index + 1;
    model->mark_term = model->base_term = term;
    model->is_present = true;
}

enum rk_status driver_write(struct driver *driver)
{
    struct rk_storage_error error = {.message = ""};
    enum rk_status status = rk_wal_write(driver->wal, &driver->batch, &error);
    if (status != RK_OK) {
        assert_true(error.message[0] != '\0');
        return status;
    }
    *driver->durable = *driver->pending;
    driver->space = driver->batch.result.space;
    for (uint32_t g = 0; g < DRIVER_GROUPS; g++)
        assert_int_equal(rk_entry_log_stored(driver->logs[g], &driver->batch), RK_OK);
    for (uint32_t g = 0; g < DRIVER_GROUPS; g++)
        rk_entry_log_trim(driver->logs[g]);
    rk_wal_batch_reset(&driver->batch);
    return RK_OK;
}

static uint64_t below(struct driver *driver, uint64_t bound)
{
    return rk_random_below(&driver->random, bound);
}

static void random_change(struct driver *driver)
{
    uint32_t g = (uint32_t)below(driver, DRIVER_GROUPS);
    struct model_group *model = &driver->pending->groups[g];
    uint32_t term = (uint32_t)(model->hard.term + 1);
    uint64_t safe =
        model->hard.commit > model->mark_index ? model->hard.commit : model->mark_index;
    uint8_t bytes[8];
    switch (below(driver, 12)) {
    case 0: /* a new term, a commit index somewhere */
        driver_hard(driver, g,
                    (struct rk_raft_hard_state){
                        model->hard.term + below(driver, 2), below(driver, 4),
                        safe + below(driver, model->last - safe + 1)});
        break;
    case 1:
        if (model->last > safe)
            driver_truncate(driver, g, safe + 1 + below(driver, model->last - safe));
        break;
    case 2:
        if (model->hard.commit >= model->first && model->hard.commit > model->mark_index)
            driver_snapshot(driver, g, model->hard.commit);
        break;
    case 3:
        if (below(driver, 6) == 0) {
            driver_install(driver, g, model->last + below(driver, 5), term);
            driver_hard(driver, g, (struct rk_raft_hard_state){term, 0, model->last});
        }
        break;
    case 4:
        model->meta = rk_random_next(&driver->random) | 1;
        model->is_present = true;
        assert_int_equal(
            rk_wal_batch_meta(&driver->batch, g, slice_u64(model->meta, bytes)), RK_OK);
        break;
    case 5:
        driver->pending->node = rk_random_next(&driver->random) | 1;
        assert_int_equal(
            rk_wal_batch_node(&driver->batch, slice_u64(driver->pending->node, bytes)),
            RK_OK);
        break;
    case 6: driver_append(driver, g, term, 1, (uint32_t)below(driver, 6000)); break;
    default:
        driver_append(driver, g, term, (uint32_t)below(driver, 5),
                      (uint32_t)below(driver, 300));
    }
}

enum rk_status driver_step(struct driver *driver)
{
    uint64_t count = 1 + below(driver, 4);
    for (uint64_t i = 0; i < count; i++)
        random_change(driver);
    if (driver->is_compacting && driver->space.is_over) driver_make_space(driver);
    enum rk_status status = driver_write(driver);
    bool is_more = true;
    bool is_idle = below(driver, 8) == 0;
    for (int i = 0; status == RK_OK && is_more && i < 4; i++)
        status = rk_wal_tend(driver->wal, is_idle, &is_more, NULL);
    return status;
}

static bool is_blob(const struct rk_buf *buf, uint64_t value)
{
    uint8_t bytes[8];
    return rk_slice_is_equal(rk_buf_slice(buf), slice_u64(value, bytes));
}

static bool has_entries(struct driver *driver, uint32_t g, const struct model_group *model)
{
    static uint8_t data[DRIVER_DATA_MAX];
    struct rk_entry_log *log = driver->logs[g];
    if (rk_entry_log_first(log) != model->first || rk_entry_log_last(log) != model->last)
        return false;
    uint64_t term = 0;
    if (rk_entry_log_term(log, &term, model->first - 1) != RK_OK) return false;
    if (term != model->base_term) return false;
    struct rk_arena arena;
    rk_arena_init(&arena);
    bool is_equal = true;
    for (uint64_t lo = model->first; is_equal && lo <= model->last;) {
        const struct rk_raft_entry *entries = NULL;
        size_t count = 0;
        struct rk_storage_error error = {.message = ""};
        enum rk_status status = rk_entry_log_entries(log, lo, model->last + 1, 5000, &arena,
                                                     &entries, &count, &error);
        if (status != RK_OK) fail_msg("%s", error.message);
        assert_true(count > 0);
        for (size_t i = 0; is_equal && i < count; i++, lo++) {
            const struct model_entry *entry = &model->entries[lo];
            driver_data(data, g, lo, entry->term, entry->size);
            is_equal = entries[i].index == lo && entries[i].term == entry->term &&
                       entries[i].type == lo % 3 &&
                       rk_slice_is_equal(entries[i].data, rk_slice_of(data, entry->size));
            assert_int_equal(rk_entry_log_term(log, &term, lo), RK_OK);
            is_equal = is_equal && term == entry->term;
        }
        rk_arena_reset(&arena);
    }
    rk_arena_fini(&arena);
    return is_equal;
}

/* NULL, or which part differs. */
static const char *difference(struct driver *driver, const struct model *model)
{
    if (!is_blob(&driver->found.node, model->node)) return "node";
    for (uint32_t g = 0; g < DRIVER_GROUPS; g++) {
        const struct model_group *want = &model->groups[g];
        const struct rk_wal_group *found = &driver->found.groups[g];
        if (found->is_present != want->is_present) return "presence";
        if (!want->is_present) continue;
        if (memcmp(&found->hard, &want->hard, sizeof(want->hard)) != 0) return "hard state";
        if (found->mark_index != want->mark_index || found->mark_term != want->mark_term)
            return "mark";
        if (!is_blob(&found->mark_conf, want->mark_conf)) return "configuration";
        if (!is_blob(&found->meta, want->meta)) return "meta";
        if (!has_entries(driver, g, want)) return "entries";
    }
    return NULL;
}

void driver_check(struct driver *driver, bool may_be_pending)
{
    const char *what = difference(driver, driver->durable);
    if (what == NULL) {
        *driver->pending = *driver->durable;
        return;
    }
    const char *other = may_be_pending ? difference(driver, driver->pending) : what;
    if (other != NULL)
        fail_msg("found is not what was acknowledged (%s), nor what was under way (%s)",
                 what, other);
    *driver->durable = *driver->pending;
}

void driver_make_space(struct driver *driver)
{
    uint32_t g = driver->space.group;
    struct model_group *model = &driver->pending->groups[g];
    uint64_t index = driver->space.index;
    if (index > model->last) index = model->last;
    if (index < model->first) return;
    if (model->hard.commit < index)
        driver_hard(driver, g, (struct rk_raft_hard_state){model->hard.term + 1, 0, index});
    driver_snapshot(driver, g, index);
}
