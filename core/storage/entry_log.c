#include "storage/entry_log.h"

#include "base/alloc.h"
#include "base/assert.h"
#include "base/crc32c.h"
#include "storage/entry_log_private.h"
#include "storage/wal_private.h"

#include <inttypes.h>

enum {
    CHUNK_BYTES = 64 << 10,
    ENTRY_COST = 32, /* what an entry counts besides its data; see entries() */
};

/* Memory that holds the data of entries with rising indexes. */
struct chunk {
    struct chunk *next;
    uint32_t live; /* cached entries in it */
    uint32_t used;
    uint32_t size;
    uint8_t bytes[];
};

struct cached {
    uint64_t term;
    const uint8_t *data;
    struct chunk *chunk; /* NULL for empty data */
    uint32_t size;
    uint8_t type;
};

/* A run on disk; only its first `used` entries are still the log's. */
struct place {
    struct rk_wal_run run;
    uint32_t used;
};

/* A truncation whose record has not come back from the disk: places for entries at or
 * above `limit` that come before it belong to entries that are gone (rule 7). */
struct cut {
    enum rk_wal_kind kind;
    uint64_t index; /* as in the record */
    uint64_t limit;
};

struct rk_entry_log {
    uint32_t group;
    uint64_t first;
    uint64_t last;
    uint64_t base_term; /* of first - 1 */
    size_t cache_bytes;
    /* A ring of cached entries: cache_first .. last. */
    struct cached *ring;
    uint64_t ring_size; /* power of two */
    uint64_t cache_first;
    size_t cached_bytes;
    struct chunk *chunks; /* oldest first */
    struct chunk *chunk;  /* the last one, being filled */
    bool has_dead_chunks;
    /* Places, in order of index: place_at .. place_count - 1. */
    struct place *places;
    uint32_t place_at;
    uint32_t place_count;
    uint32_t place_capacity;
    uint64_t place_bytes;
    uint64_t unstored_bytes;
    struct cut *cuts;
    uint32_t cut_count;
    uint32_t cut_capacity;
    bool is_cut_last; /* nothing was appended since the last cut */
};

struct rk_entry_log *rk_entry_log_new(uint32_t group, size_t cache_bytes)
{
    struct rk_entry_log *log = rk_calloc(1, sizeof(*log));
    if (log == NULL) return NULL;
    log->group = group;
    log->cache_bytes = cache_bytes;
    log->first = log->cache_first = 1;
    log->cut_capacity = 4; /* always room for one more than there are */
    log->cuts = rk_calloc(log->cut_capacity, sizeof(*log->cuts));
    if (log->cuts == NULL) {
        rk_free(log);
        return NULL;
    }
    return log;
}

void rk_entry_log_free(struct rk_entry_log *log)
{
    if (log == NULL) return;
    while (log->chunks != NULL) {
        struct chunk *chunk = log->chunks;
        log->chunks = chunk->next;
        rk_free(chunk);
    }
    rk_free(log->ring);
    rk_free(log->places);
    rk_free(log->cuts);
    rk_free(log);
}

uint32_t rk_entry_log_group(const struct rk_entry_log *log)
{
    return log->group;
}

uint64_t rk_entry_log_first(const struct rk_entry_log *log)
{
    return log->first;
}

uint64_t rk_entry_log_last(const struct rk_entry_log *log)
{
    return log->last;
}

static struct cached *cached_at(const struct rk_entry_log *log, uint64_t index)
{
    return &log->ring[index & (log->ring_size - 1)];
}

static uint64_t place_end(const struct place *place)
{
    return place->run.first + place->used;
}

/* The last index whose place is known. */
static uint64_t stored_to(const struct rk_entry_log *log)
{
    if (log->place_at == log->place_count) return log->first - 1;
    return place_end(&log->places[log->place_count - 1]) - 1;
}

/* The place of an index that has one. */
static const struct place *place_find(const struct rk_entry_log *log, uint64_t index)
{
    uint32_t low = log->place_at;
    uint32_t high = log->place_count;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (place_end(&log->places[middle]) <= index)
            low = middle + 1;
        else
            high = middle;
    }
    RK_ASSERT(low < log->place_count && log->places[low].run.first <= index);
    return &log->places[low];
}

static uint64_t term_at(const struct rk_entry_log *log, uint64_t index)
{
    if (index == log->first - 1) return log->base_term;
    if (index >= log->cache_first) return cached_at(log, index)->term;
    return place_find(log, index)->run.term;
}

enum rk_status rk_entry_log_term(const struct rk_entry_log *log, uint64_t *out,
                                 uint64_t index)
{
    if (index < log->first - 1) return RK_EGONE;
    if (index > log->last) return RK_ENOENT;
    *out = term_at(log, index);
    return RK_OK;
}

uint64_t rk_entry_log_last_term(const struct rk_entry_log *log)
{
    return term_at(log, log->last);
}

uint64_t rk_entry_log_bytes(const struct rk_entry_log *log)
{
    return log->place_bytes + log->unstored_bytes;
}

size_t rk_entry_log_cached_bytes(const struct rk_entry_log *log)
{
    return log->cached_bytes;
}

static enum rk_status ring_reserve(struct rk_entry_log *log, uint64_t count)
{
    uint64_t needed = log->last + 1 - log->cache_first + count;
    if (needed <= log->ring_size) return RK_OK;
    uint64_t size = log->ring_size == 0 ? 64 : log->ring_size;
    while (size < needed)
        size *= 2;
    struct cached *ring = rk_calloc(size, sizeof(*ring));
    if (ring == NULL) return RK_ENOMEM;
    for (uint64_t i = log->cache_first; i <= log->last; i++)
        ring[i & (size - 1)] = *cached_at(log, i);
    rk_free(log->ring);
    log->ring = ring;
    log->ring_size = size;
    return RK_OK;
}

static enum rk_status chunk_add(struct rk_entry_log *log, size_t size)
{
    if (size < CHUNK_BYTES) size = CHUNK_BYTES;
    struct chunk *chunk = rk_malloc(sizeof(*chunk) + size);
    if (chunk == NULL) return RK_ENOMEM;
    chunk->next = NULL;
    chunk->live = chunk->used = 0;
    chunk->size = (uint32_t)size;
    if (log->chunk == NULL)
        log->chunks = chunk;
    else
        log->chunk->next = chunk;
    log->chunk = chunk;
    log->has_dead_chunks = true; /* trim looks at it if nothing comes to live in it */
    return RK_OK;
}

static enum rk_status cache_put(struct rk_entry_log *log, const struct rk_raft_entry *entry)
{
    struct cached cached = {
        .term = entry->term, .size = (uint32_t)entry->data.size, .type = entry->type};
    if (cached.size > 0) {
        struct chunk *chunk = log->chunk;
        if (chunk == NULL || chunk->size - chunk->used < cached.size) {
            if (chunk_add(log, cached.size) != RK_OK) return RK_ENOMEM;
            chunk = log->chunk;
        }
        memcpy(chunk->bytes + chunk->used, entry->data.data, cached.size);
        cached.data = chunk->bytes + chunk->used;
        cached.chunk = chunk;
        chunk->used += cached.size;
        chunk->live++;
    }
    *cached_at(log, entry->index) = cached;
    log->last = entry->index;
    log->cached_bytes += cached.size + sizeof(cached);
    log->unstored_bytes += cached.size + ENTRY_COST;
    return RK_OK;
}

static void cache_drop(struct rk_entry_log *log, uint64_t index)
{
    const struct cached *cached = cached_at(log, index);
    log->cached_bytes -= cached->size + sizeof(*cached);
    if (cached->chunk != NULL && --cached->chunk->live == 0) log->has_dead_chunks = true;
}

/* Takes the entries from `from` on out of the cache; they have to be the last ones. */
static void cache_cut(struct rk_entry_log *log, uint64_t from)
{
    uint64_t stored = stored_to(log);
    uint64_t end = log->last;
    for (; end >= from && end >= log->cache_first; end--) {
        if (end > stored) log->unstored_bytes -= cached_at(log, end)->size + ENTRY_COST;
        cache_drop(log, end);
    }
    log->last = from - 1;
    if (log->cache_first > from) log->cache_first = from;
}

/* Forgets the places of entries from `from` on. */
static void places_cut(struct rk_entry_log *log, uint64_t from)
{
    while (log->place_count > log->place_at) {
        struct place *place = &log->places[log->place_count - 1];
        if (place->run.first < from) {
            if (place_end(place) > from) place->used = (uint32_t)(from - place->run.first);
            return;
        }
        log->place_bytes -= place->run.size;
        log->place_count--;
    }
}

/* Two cuts with no entry appended between them are as good as one. Otherwise append has
 * kept room for it. */
static void cut_add(struct rk_entry_log *log, struct cut cut)
{
    if (log->is_cut_last && log->cut_count > 0) {
        struct cut *last = &log->cuts[log->cut_count - 1];
        if (last->limit < cut.limit) cut.limit = last->limit;
        *last = cut;
        return;
    }
    RK_ASSERT(log->cut_count < log->cut_capacity);
    log->cuts[log->cut_count++] = cut;
    log->is_cut_last = true;
}

static enum rk_status cuts_reserve(struct rk_entry_log *log)
{
    if (log->cut_count < log->cut_capacity) return RK_OK;
    uint32_t capacity = log->cut_capacity * 2;
    struct cut *cuts = rk_realloc_array(log->cuts, capacity, sizeof(*cuts));
    if (cuts == NULL) return RK_ENOMEM;
    log->cuts = cuts;
    log->cut_capacity = capacity;
    return RK_OK;
}

enum rk_status rk_entry_log_append(struct rk_entry_log *log,
                                   const struct rk_raft_entry *entries, size_t count)
{
    if (count == 0) return RK_OK;
    RK_ASSERT(entries[0].index == log->last + 1);
    if (ring_reserve(log, count) != RK_OK || cuts_reserve(log) != RK_OK) return RK_ENOMEM;
    uint64_t from = log->last + 1;
    uint64_t term = term_at(log, log->last);
    for (size_t i = 0; i < count; i++) {
        RK_ASSERT(entries[i].index == from + i && entries[i].term >= term);
        RK_ASSERT(entries[i].data.size <= RK_WAL_ENTRY_MAX);
        term = entries[i].term;
        if (cache_put(log, &entries[i]) != RK_OK) {
            cache_cut(log, from);
            return RK_ENOMEM;
        }
    }
    log->is_cut_last = false;
    return RK_OK;
}

void rk_entry_log_truncate(struct rk_entry_log *log, uint64_t from)
{
    RK_ASSERT(from >= log->first);
    if (from > log->last) return;
    cache_cut(log, from);
    places_cut(log, from);
    cut_add(log, (struct cut){RK_WAL_TRUNCATE, from, from});
}

void rk_entry_log_compact(struct rk_entry_log *log, uint64_t index)
{
    if (index < log->first) return;
    RK_ASSERT(index <= log->last);
    uint64_t term = term_at(log, index);
    uint64_t stored = stored_to(log);
    for (uint64_t i = log->cache_first; i <= index; i++) {
        if (i > stored) log->unstored_bytes -= cached_at(log, i)->size + ENTRY_COST;
        cache_drop(log, i);
    }
    if (log->cache_first <= index) log->cache_first = index + 1;
    while (log->place_at < log->place_count &&
           place_end(&log->places[log->place_at]) <= index + 1) {
        log->place_bytes -= log->places[log->place_at].run.size;
        log->place_at++;
    }
    if (log->place_at == log->place_count) log->place_at = log->place_count = 0;
    log->first = index + 1;
    log->base_term = term;
}

void rk_entry_log_begin(struct rk_entry_log *log, uint64_t index, uint64_t term)
{
    cache_cut(log, log->cache_first);
    log->place_at = log->place_count = 0;
    log->place_bytes = log->unstored_bytes = 0;
    log->last = index;
    log->first = log->cache_first = index + 1;
    log->base_term = term;
}

void rk_entry_log_cut_below(struct rk_entry_log *log, uint64_t from)
{
    rk_entry_log_begin(log, from - 1, 0);
    cut_add(log, (struct cut){RK_WAL_TRUNCATE, from, from});
}

void rk_entry_log_set_base_term(struct rk_entry_log *log, uint64_t term)
{
    log->base_term = term;
}

void rk_entry_log_install(struct rk_entry_log *log, uint64_t index, uint64_t term)
{
    rk_entry_log_begin(log, index, term);
    cut_add(log, (struct cut){RK_WAL_INSTALL, index, 0});
}

/* Reads a run and checks it; *out lies in arena. */
static enum rk_status run_read(const struct rk_entry_log *log, const struct rk_wal_run *run,
                               struct rk_arena *arena, struct rk_slice *out,
                               struct rk_storage_error *error)
{
    uint8_t *bytes = rk_arena_alloc(arena, run->size);
    if (bytes == NULL)
        return rk_storage_fail(error, RK_ENOMEM, "no memory to read %" PRIu32 " bytes",
                               run->size);
    const char *path = run->segment->path;
    enum rk_status status =
        rk_fs_read_full(run->segment->file, run->offset, bytes, run->size);
    if (status == RK_OK && rk_crc32c(0, bytes, run->size) != run->crc) status = RK_ECORRUPT;
    if (status != RK_OK)
        return rk_storage_fail(error, status,
                               "group %" PRIu32 ": entries from %" PRIu64
                               " on at offset %" PRIu64 " of %s: %s",
                               log->group, run->first, run->offset, path,
                               rk_status_text(status));
    *out = rk_slice_of(bytes, run->size);
    return RK_OK;
}

/* The growing answer of rk_entry_log_entries. */
struct answer {
    struct rk_arena *arena;
    struct rk_raft_entry *entries;
    size_t count;
    size_t capacity;
    uint64_t bytes;
    uint64_t max_bytes;
    bool is_full;
};

static enum rk_status answer_add(struct answer *answer, struct rk_raft_entry entry)
{
    uint64_t cost = entry.data.size + ENTRY_COST;
    if (answer->count > 0 &&
        (answer->bytes > answer->max_bytes || cost > answer->max_bytes - answer->bytes)) {
        answer->is_full = true;
        return RK_OK;
    }
    if (answer->count == answer->capacity) {
        size_t capacity = answer->capacity == 0 ? 16 : answer->capacity * 2;
        struct rk_raft_entry *entries =
            rk_arena_alloc(answer->arena, capacity * sizeof(*entries));
        if (entries == NULL) return RK_ENOMEM;
        if (answer->count > 0)
            memcpy(entries, answer->entries, answer->count * sizeof(*entries));
        answer->entries = entries;
        answer->capacity = capacity;
    }
    answer->entries[answer->count++] = entry;
    answer->bytes += cost;
    return RK_OK;
}

static enum rk_status answer_add_cached(struct answer *answer, const struct cached *cached,
                                        uint64_t index)
{
    struct rk_slice data = {cached->data, cached->size};
    enum rk_status status = answer_add(
        answer,
        (struct rk_raft_entry){
            .index = index, .term = cached->term, .data = data, .type = cached->type});
    if (status != RK_OK || answer->is_full || data.size == 0) return status;
    struct rk_slice copy = rk_arena_copy(answer->arena, data);
    if (copy.data == NULL) return RK_ENOMEM;
    answer->entries[answer->count - 1].data = copy;
    return RK_OK;
}

static enum rk_status answer_add_run(struct answer *answer, const struct rk_entry_log *log,
                                     const struct place *place, uint64_t lo, uint64_t hi,
                                     struct rk_storage_error *error)
{
    struct rk_slice bytes;
    enum rk_status status = run_read(log, &place->run, answer->arena, &bytes, error);
    struct rk_reader reader;
    if (status == RK_OK) rk_reader_init(&reader, bytes);
    for (uint32_t i = 0; status == RK_OK && !answer->is_full && i < place->used; i++) {
        struct rk_wal_record record;
        uint64_t index = place->run.first + i;
        if (!rk_wal_record_read(&reader, &record) || record.kind != RK_WAL_ENTRY ||
            record.index != index || record.group != log->group)
            return rk_storage_fail(error, RK_ECORRUPT,
                                   "group %" PRIu32 ": entry %" PRIu64
                                   " is not where %s should have it",
                                   log->group, index, place->run.segment->path);
        if (index < lo || index >= hi) continue;
        status = answer_add(answer, (struct rk_raft_entry){.index = index,
                                                           .term = record.term,
                                                           .data = record.blob,
                                                           .type = record.type});
    }
    return status;
}

enum rk_status rk_entry_log_entries(struct rk_entry_log *log, uint64_t lo, uint64_t hi,
                                    uint64_t max_bytes, struct rk_arena *arena,
                                    const struct rk_raft_entry **out, size_t *out_count,
                                    struct rk_storage_error *error)
{
    RK_ASSERT(lo < hi && hi <= log->last + 1);
    if (lo < log->first)
        return rk_storage_fail(error, RK_EGONE,
                               "group %" PRIu32 ": entry %" PRIu64 " is compacted",
                               log->group, lo);
    struct answer answer = {.arena = arena, .max_bytes = max_bytes};
    enum rk_status status = RK_OK;
    while (status == RK_OK && lo < hi && !answer.is_full) {
        if (lo < log->cache_first) {
            const struct place *place = place_find(log, lo);
            uint64_t end =
                place_end(place) < log->cache_first ? place_end(place) : log->cache_first;
            if (end > hi) end = hi;
            status = answer_add_run(&answer, log, place, lo, end, error);
            lo = end;
        } else {
            status = answer_add_cached(&answer, cached_at(log, lo), lo);
            lo++;
        }
    }
    if (status == RK_ENOMEM) rk_storage_fail(error, status, "no memory for entries");
    if (status != RK_OK) return status;
    *out = answer.entries;
    *out_count = answer.count;
    return RK_OK;
}

/* Room for one more place, the dropped ones in front used again. */
static enum rk_status places_reserve(struct rk_entry_log *log, uint32_t count)
{
    if (log->place_count + count <= log->place_capacity) return RK_OK;
    uint32_t live = log->place_count - log->place_at;
    if (log->place_at > 0 && live > 0)
        memmove(log->places, log->places + log->place_at, live * sizeof(*log->places));
    log->place_at = 0;
    log->place_count = live;
    if (live + count <= log->place_capacity / 2) return RK_OK;
    uint32_t capacity = (live + count) * 2;
    struct place *places = rk_realloc_array(log->places, capacity, sizeof(*places));
    if (places == NULL) return RK_ENOMEM;
    log->places = places;
    log->place_capacity = capacity;
    return RK_OK;
}

static uint64_t cuts_limit(const struct rk_entry_log *log)
{
    uint64_t limit = UINT64_MAX;
    for (uint32_t i = 0; i < log->cut_count; i++)
        if (log->cuts[i].limit < limit) limit = log->cuts[i].limit;
    return limit;
}

/* The part of a run that is new to the log, still its own, and in line with what it has. */
static void place_add(struct rk_entry_log *log, const struct rk_wal_run *run)
{
    uint64_t limit = cuts_limit(log);
    uint64_t next = stored_to(log) + 1;
    uint64_t end = run->first + run->count;
    if (end > log->last + 1) end = log->last + 1;
    if (end > limit) end = limit;
    if (run->first > next || end <= next) return;
    for (uint64_t i = next; i < end; i++) {
        const struct cached *cached = cached_at(log, i);
        RK_ASSERT(i >= log->cache_first); /* what has no place is never dropped */
        RK_ASSERT(cached->term == run->term);
        log->unstored_bytes -= cached->size + ENTRY_COST;
    }
    log->places[log->place_count++] =
        (struct place){.run = *run, .used = (uint32_t)(end - run->first)};
    log->place_bytes += run->size;
}

enum rk_status rk_entry_log_stored(struct rk_entry_log *log,
                                   const struct rk_wal_batch *batch)
{
    uint32_t runs = 0;
    for (uint32_t i = 0; i < batch->run_count; i++)
        if (batch->runs[i].group == log->group) runs++;
    if (runs > 0 && places_reserve(log, runs) != RK_OK) return RK_ENOMEM;
    for (uint32_t i = 0; i < batch->item_count; i++) {
        const struct rk_wal_item *item = &batch->items[i];
        if (item->group != log->group) continue;
        if (item->kind == RK_WAL_ENTRY) {
            place_add(log, &batch->runs[item->extra]);
        } else if (log->cut_count > 0 && item->kind == (uint8_t)log->cuts[0].kind &&
                   item->index == log->cuts[0].index) {
            log->cut_count--;
            memmove(log->cuts, log->cuts + 1, log->cut_count * sizeof(*log->cuts));
        }
    }
    return RK_OK;
}

void rk_entry_log_trim(struct rk_entry_log *log)
{
    uint64_t stored = stored_to(log);
    while (log->cached_bytes > log->cache_bytes && log->cache_first <= stored)
        cache_drop(log, log->cache_first++);
    if (!log->has_dead_chunks) return;
    log->has_dead_chunks = false;
    struct chunk **link = &log->chunks;
    log->chunk = NULL;
    while (*link != NULL) {
        struct chunk *chunk = *link;
        if (chunk->live == 0) {
            *link = chunk->next;
            rk_free(chunk);
        } else {
            log->chunk = chunk;
            link = &chunk->next;
        }
    }
}
