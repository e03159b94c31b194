#include "raft/log.h"

#include "base/alloc.h"
#include "base/assert.h"
#include "base/mutant.h"

#include <string.h>

enum { BLOCK_SIZE = 64 * 1024 };

/* Data of neighbouring entries; freed when the last of them has left the window. */
struct rk_raft_block {
    struct rk_raft_block *next; /* among the dead */
    size_t capacity;
    size_t used;
    size_t live; /* entries of the window with data in it */
    uint8_t data[];
};

struct rk_raft_array {
    struct rk_raft_array *next; /* among the dead */
    size_t capacity;
    struct rk_raft_block **blocks; /* one a slot; NULL without data */
    struct rk_raft_entry entries[];
};

static uint64_t varint_size(uint64_t value)
{
    uint64_t size = 1;
    for (; value >= 128; value >>= 7)
        size++;
    return size;
}

uint64_t rk_raft_entry_size(const struct rk_raft_entry *entry)
{
    uint64_t size = 2 + varint_size(entry->term) + varint_size(entry->index);
    if (entry->type != RK_RAFT_ENTRY_NORMAL) size += 2;
    if (entry->data.data != NULL)
        size += 1 + varint_size(entry->data.size) + entry->data.size;
    return size;
}

void rk_raft_log_init(struct rk_raft_log *log, const struct rk_raft_store *store,
                      uint64_t max_applying_bytes, uint64_t max_cached_bytes)
{
    memset(log, 0, sizeof(*log));
    log->store = *store;
    uint64_t last = store->last_index(store->context);
    log->window_first = log->offset = log->offset_handed = last + 1;
    log->committed = store->first_index(store->context) - 1;
    log->applying = log->applied = log->committed;
    log->max_applying_bytes = max_applying_bytes;
    log->max_cached_bytes = max_cached_bytes;
}

static void free_blocks(struct rk_raft_block *block)
{
    while (block != NULL) {
        struct rk_raft_block *next = block->next;
        rk_free(block);
        block = next;
    }
}

static void free_arrays(struct rk_raft_array *array)
{
    while (array != NULL) {
        struct rk_raft_array *next = array->next;
        rk_free(array);
        array = next;
    }
}

static void bury_block(struct rk_raft_log *log, struct rk_raft_block *block)
{
    block->next = log->dead[0];
    log->dead[0] = block;
}

/* The slot's entry leaves the window. */
static void release_slot(struct rk_raft_log *log, size_t slot)
{
    log->cached_bytes -= rk_raft_entry_size(&log->array->entries[slot]);
    struct rk_raft_block *block = log->array->blocks[slot];
    if (block == NULL) return;
    RK_ASSERT(block->live > 0);
    if (--block->live == 0 && block != log->block) bury_block(log, block);
}

void rk_raft_log_fini(struct rk_raft_log *log)
{
    for (size_t i = 0; i < log->count; i++)
        release_slot(log, log->head + i);
    rk_free(log->array);
    rk_free(log->block);
    for (int i = 0; i < 2; i++) {
        free_blocks(log->dead[i]);
        free_arrays(log->dead_arrays[i]);
    }
    memset(log, 0, sizeof(*log));
}

void rk_raft_log_turn(struct rk_raft_log *log)
{
    free_blocks(log->dead[1]);
    free_arrays(log->dead_arrays[1]);
    log->dead[1] = log->dead[0];
    log->dead_arrays[1] = log->dead_arrays[0];
    log->dead[0] = NULL;
    log->dead_arrays[0] = NULL;
}

void rk_raft_log_trim(struct rk_raft_log *log, uint64_t keep_from)
{
    while (log->cached_bytes > log->max_cached_bytes && log->count > 0 &&
           log->window_first < keep_from && log->window_first < log->offset) {
        release_slot(log, log->head);
        log->head++;
        log->count--;
        log->window_first++;
    }
}

uint64_t rk_raft_log_first(const struct rk_raft_log *log)
{
    if (log->snapshot.index != 0) return log->snapshot.index + 1;
    return log->store.first_index(log->store.context);
}

const struct rk_raft_entry *rk_raft_log_at(const struct rk_raft_log *log, uint64_t index)
{
    RK_ASSERT(index >= log->window_first && index <= rk_raft_log_last(log));
    return &log->array->entries[log->head + (size_t)(index - log->window_first)];
}

enum rk_status rk_raft_log_term(const struct rk_raft_log *log, uint64_t index,
                                uint64_t *out)
{
    if (index > rk_raft_log_last(log)) return RK_ENOENT;
    if (index >= log->offset) {
        *out = rk_raft_log_at(log, index)->term;
        return RK_OK;
    }
    if (log->snapshot.index != 0 && log->snapshot.index == index) {
        *out = log->snapshot.term;
        return RK_OK;
    }
    if (index + 1 < rk_raft_log_first(log)) return RK_EGONE;
    if (index >= log->window_first) {
        *out = rk_raft_log_at(log, index)->term;
        return RK_OK;
    }
    return log->store.term(log->store.context, index, out);
}

uint64_t rk_raft_log_term_or_zero(const struct rk_raft_log *log, uint64_t index)
{
    uint64_t term;
    return rk_raft_log_term(log, index, &term) == RK_OK ? term : 0;
}

uint64_t rk_raft_log_last_term(const struct rk_raft_log *log)
{
    uint64_t term = 0;
    enum rk_status status = rk_raft_log_term(log, rk_raft_log_last(log), &term);
    RK_ASSERT(status == RK_OK);
    return term;
}

bool rk_raft_log_matches(const struct rk_raft_log *log, uint64_t index, uint64_t term)
{
    uint64_t ours;
    return rk_raft_log_term(log, index, &ours) == RK_OK && ours == term;
}

bool rk_raft_log_is_up_to_date(const struct rk_raft_log *log, uint64_t index, uint64_t term)
{
    uint64_t ours = rk_raft_log_last_term(log);
    return term > ours || (term == ours && index >= rk_raft_log_last(log));
}

uint64_t rk_raft_log_conflict_by_term(const struct rk_raft_log *log, uint64_t index,
                                      uint64_t term, uint64_t *out_term)
{
    for (; index > 0; index--) {
        uint64_t ours;
        if (rk_raft_log_term(log, index, &ours) != RK_OK) {
            *out_term = 0;
            return index;
        }
        if (ours <= term) {
            *out_term = ours;
            return index;
        }
    }
    *out_term = 0;
    return 0;
}

/* A new array for the window, keeping its first `keep` entries. The old one stays readable
 * for the messages and readies that point to it. */
static enum rk_status move_array(struct rk_raft_log *log, size_t keep, size_t capacity)
{
    size_t slot_size = sizeof(struct rk_raft_entry) + sizeof(struct rk_raft_block *);
    struct rk_raft_array *array = NULL;
    if (capacity < (SIZE_MAX - sizeof(*array)) / slot_size)
        array = rk_malloc(sizeof(*array) + capacity * slot_size);
    if (array == NULL) return RK_ENOMEM;
    array->next = NULL;
    array->capacity = capacity;
    array->blocks = (struct rk_raft_block **)(void *)(array->entries + capacity);
    struct rk_raft_array *old = log->array;
    if (old != NULL) {
        memcpy(array->entries, old->entries + log->head, keep * sizeof(*array->entries));
        memcpy(array->blocks, old->blocks + log->head,
               keep * sizeof(struct rk_raft_block *));
        old->next = log->dead_arrays[0];
        log->dead_arrays[0] = old;
    }
    log->array = array;
    log->head = 0;
    return RK_OK;
}

static enum rk_status reserve_data(struct rk_raft_log *log, size_t size)
{
    if (size == 0) return RK_OK;
    if (log->block != NULL && size <= log->block->capacity - log->block->used) return RK_OK;
    size_t capacity = size > BLOCK_SIZE ? size : BLOCK_SIZE;
    if (capacity > SIZE_MAX - sizeof(struct rk_raft_block)) return RK_ENOMEM;
    struct rk_raft_block *block = rk_malloc(sizeof(*block) + capacity);
    if (block == NULL) return RK_ENOMEM;
    block->next = NULL;
    block->capacity = capacity;
    block->used = 0;
    block->live = 0;
    if (log->block != NULL && log->block->live == 0) bury_block(log, log->block);
    log->block = block;
    return RK_OK;
}

enum rk_status rk_raft_log_reserve(struct rk_raft_log *log, uint64_t after, size_t count,
                                   size_t data_size)
{
    enum rk_status status = reserve_data(log, data_size);
    if (status != RK_OK) return status;
    bool is_cut = after < rk_raft_log_last(log);
    size_t capacity = log->array != NULL ? log->array->capacity : 0;
    if (!is_cut && log->head + log->count + count <= capacity) return RK_OK;

    /* A cut never overwrites slots: messages may point to them. The whole window moves;
     * rk_raft_log_append then forgets its end. */
    size_t needed = log->count + count;
    size_t wanted = capacity > 64 ? capacity : 64;
    while (wanted < needed + needed / 2)
        wanted *= 2;
    return move_array(log, log->count, wanted);
}

static void cut_behind(struct rk_raft_log *log, uint64_t after)
{
    while (log->count > 0 && rk_raft_log_last(log) > after) {
        release_slot(log, log->head + log->count - 1);
        log->count--;
    }
    if (rk_raft_log_last(log) > after) log->window_first = after + 1;
    if (log->offset > after + 1) log->offset = after + 1;
    if (log->offset_handed > after + 1) log->offset_handed = after + 1;
}

void rk_raft_log_append(struct rk_raft_log *log, uint64_t after, uint64_t term_or_zero,
                        const struct rk_raft_entry *entries, size_t count)
{
    RK_ASSERT(after >= log->committed || RK_MUTANT(truncate_committed));
    RK_ASSERT(after <= rk_raft_log_last(log));
    cut_behind(log, after);
    for (size_t i = 0; i < count; i++) {
        size_t slot = log->head + log->count;
        RK_ASSERT(log->array != NULL && slot < log->array->capacity);
        struct rk_raft_entry entry = entries[i];
        struct rk_raft_block *block = NULL;
        entry.index = after + 1 + i;
        if (term_or_zero != 0) entry.term = term_or_zero;
        if (entry.data.size == 0) {
            entry.data = RK_SLICE_EMPTY;
        } else {
            block = log->block;
            RK_ASSERT(block != NULL && entry.data.size <= block->capacity - block->used);
            uint8_t *data = block->data + block->used;
            memcpy(data, entry.data.data, entry.data.size);
            entry.data.data = data;
            block->used += entry.data.size;
            block->live++;
        }
        log->array->entries[slot] = entry;
        log->array->blocks[slot] = block;
        log->cached_bytes += rk_raft_entry_size(&entry);
        log->count++;
    }
}

/* Takes entries of the window from index lo on, while they keep *left. */
static size_t take_within(const struct rk_raft_log *log, uint64_t lo, uint64_t hi,
                          uint64_t max_bytes, bool is_first_free, struct rk_raft_slice *out)
{
    size_t count = 0;
    for (uint64_t index = lo; index < hi; index++) {
        const struct rk_raft_entry *entry = rk_raft_log_at(log, index);
        uint64_t size = rk_raft_entry_size(entry);
        bool is_over = size > max_bytes || out->bytes > max_bytes - size;
        if (is_over && !(is_first_free && count == 0)) break;
        out->bytes += size;
        out->payload += entry->data.size;
        count++;
    }
    return count;
}

enum rk_status rk_raft_log_slice(const struct rk_raft_log *log, uint64_t lo, uint64_t hi,
                                 uint64_t max_bytes, struct rk_arena *arena,
                                 struct rk_raft_slice *out)
{
    *out = (struct rk_raft_slice){.lo = lo};
    RK_ASSERT(lo <= hi && hi <= rk_raft_log_last(log) + 1);
    if (lo < rk_raft_log_first(log)) return RK_EGONE;
    if (lo == hi) return RK_OK;
    if (lo >= log->window_first) {
        out->count = take_within(log, lo, hi, max_bytes, true, out);
        return RK_OK;
    }

    uint64_t cut = hi < log->window_first ? hi : log->window_first;
    const struct rk_raft_entry *stored = NULL;
    size_t stored_count = 0;
    enum rk_status status = log->store.entries(log->store.context, lo, cut, max_bytes,
                                               arena, &stored, &stored_count);
    if (status != RK_OK) return status;
    RK_ASSERT(stored_count > 0 && stored_count <= cut - lo && stored[0].index == lo);
    for (size_t i = 0; i < stored_count; i++) {
        out->bytes += rk_raft_entry_size(&stored[i]);
        out->payload += stored[i].data.size;
    }
    out->entries = stored;
    out->count = stored_count;
    if (stored_count < cut - lo || hi <= cut || out->bytes >= max_bytes) return RK_OK;

    struct rk_raft_slice both = *out;
    size_t more = take_within(log, cut, hi, max_bytes, false, &both);
    if (more == 0) return RK_OK;
    struct rk_raft_entry *joined =
        rk_arena_calloc(arena, stored_count + more, sizeof(*joined));
    if (joined == NULL) return RK_OK; /* the stored part alone is as good */
    memcpy(joined, stored, stored_count * sizeof(*joined));
    memcpy(joined + stored_count, rk_raft_log_at(log, cut), more * sizeof(*joined));
    *out = both;
    out->entries = joined;
    out->count = stored_count + more;
    return RK_OK;
}

bool rk_raft_log_commit_to(struct rk_raft_log *log, uint64_t index)
{
    if (index <= log->committed) return true;
    if (index > rk_raft_log_last(log)) return false;
    log->committed = index;
    return true;
}

void rk_raft_log_durable_to(struct rk_raft_log *log, uint64_t index, uint64_t term)
{
    if (index < log->offset || index > rk_raft_log_last(log)) return;
    if (rk_raft_log_at(log, index)->term != term && !RK_MUTANT(stale_completion)) return;
    log->offset = index + 1;
    if (log->offset_handed < log->offset) log->offset_handed = log->offset;
}

void rk_raft_log_snapshot_done(struct rk_raft_log *log, uint64_t index)
{
    if (log->snapshot.index != index) return;
    memset(&log->snapshot, 0, sizeof(log->snapshot));
    log->is_snapshot_handed = false;
}

void rk_raft_log_restore(struct rk_raft_log *log, const struct rk_raft_snapshot *snapshot)
{
    RK_ASSERT(snapshot->index > log->committed); /* rule 16 */
    while (log->count > 0) {
        log->count--;
        release_slot(log, log->head + log->count);
    }
    /* The slots may be pointed to: new entries go behind them. */
    if (log->array != NULL) log->head = log->array->capacity;
    log->committed = snapshot->index;
    log->window_first = log->offset = log->offset_handed = snapshot->index + 1;
    log->snapshot = *snapshot;
    log->is_snapshot_handed = false;
}

uint64_t rk_raft_log_append_end(const struct rk_raft_log *log, uint64_t max_bytes)
{
    uint64_t last = rk_raft_log_last(log);
    uint64_t bytes = 0;
    if (max_bytes == 0) return last;
    for (uint64_t index = log->offset_handed; index <= last; index++) {
        bytes += rk_raft_log_at(log, index)->data.size + RK_RAFT_APPEND_OVERHEAD;
        if (bytes > max_bytes && index > log->offset_handed) return index - 1;
    }
    return last;
}

void rk_raft_log_handed_out(struct rk_raft_log *log, uint64_t last)
{
    if (rk_raft_log_has_undurable(log)) log->offset_handed = last + 1;
    if (log->snapshot.index != 0) log->is_snapshot_handed = true;
}

uint64_t rk_raft_log_appliable(const struct rk_raft_log *log, bool allow_undurable)
{
    uint64_t last_durable = log->offset - 1;
    if (!allow_undurable && last_durable < log->committed) return last_durable;
    return log->committed;
}

bool rk_raft_log_has_appliable(const struct rk_raft_log *log, bool allow_undurable)
{
    /* With a snapshot to install, nothing else is applied before it. */
    if (log->is_applying_paused || log->snapshot.index != 0) return false;
    return log->applying < rk_raft_log_appliable(log, allow_undurable);
}

void rk_raft_log_applying(struct rk_raft_log *log, uint64_t index, uint64_t bytes,
                          bool allow_undurable)
{
    RK_ASSERT(index <= log->committed && index > log->applying);
    log->applying = index;
    log->applying_bytes += bytes;
    /* Handing out less than there is means that the limit was met. */
    log->is_applying_paused = log->applying_bytes >= log->max_applying_bytes ||
                              index < rk_raft_log_appliable(log, allow_undurable);
}

void rk_raft_log_applied(struct rk_raft_log *log, uint64_t index, uint64_t bytes)
{
    RK_ASSERT(index <= log->committed && index >= log->applied);
    log->applied = index;
    if (log->applying < index) log->applying = index;
    log->applying_bytes -= bytes < log->applying_bytes ? bytes : log->applying_bytes;
    log->is_applying_paused = log->applying_bytes >= log->max_applying_bytes;
}
