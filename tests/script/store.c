#include "script/store.h"

#include "base/alloc.h"
#include "base/assert.h"

static void reserve(struct mem_store *store, size_t count)
{
    if (count <= store->capacity) return;
    store->capacity = count * 2;
    store->entries =
        rk_realloc_array(store->entries, store->capacity, sizeof(*store->entries));
    RK_ASSERT(store->entries != NULL);
}

void mem_store_init(struct mem_store *store, struct rk_arena *arena)
{
    memset(store, 0, sizeof(*store));
    store->arena = arena;
    reserve(store, 8);
    store->entries[0] = (struct rk_raft_entry){0};
    store->count = 1;
}

void mem_store_fini(struct mem_store *store)
{
    rk_free(store->entries);
    memset(store, 0, sizeof(*store));
}

static uint64_t offset_of(const struct mem_store *store)
{
    return store->entries[0].index;
}

static uint64_t first_index(void *context)
{
    return offset_of(context) + 1;
}

static uint64_t last_index(void *context)
{
    const struct mem_store *store = context;
    return offset_of(store) + store->count - 1;
}

static enum rk_status term(void *context, uint64_t index, uint64_t *out)
{
    const struct mem_store *store = context;
    if (index < offset_of(store)) return RK_EGONE;
    if (index - offset_of(store) >= store->count) return RK_ENOENT;
    *out = store->entries[index - offset_of(store)].term;
    return RK_OK;
}

static enum rk_status entries(void *context, uint64_t lo, uint64_t hi, uint64_t max_bytes,
                              struct rk_arena *arena, const struct rk_raft_entry **out,
                              size_t *count)
{
    const struct mem_store *store = context;
    if (lo <= offset_of(store)) return RK_EGONE;
    RK_ASSERT(lo < hi && hi <= last_index(context) + 1);
    const struct rk_raft_entry *first = &store->entries[lo - offset_of(store)];
    uint64_t size = 0;
    size_t taken = 0;
    while (taken < hi - lo) {
        size += rk_raft_entry_size(&first[taken]);
        if (taken > 0 && size > max_bytes) break;
        taken++;
    }
    struct rk_raft_entry *copy = rk_arena_calloc(arena, taken, sizeof(*copy));
    if (copy == NULL) return RK_ENOMEM;
    memcpy(copy, first, taken * sizeof(*copy));
    *out = copy;
    *count = taken;
    return RK_OK;
}

static enum rk_status snapshot(void *context, struct rk_raft_snapshot *out)
{
    const struct mem_store *store = context;
    if (store->newest == NULL) return RK_EBUSY;
    *out = *store->newest;
    return RK_OK;
}

struct rk_raft_store mem_store_face(struct mem_store *store)
{
    return (struct rk_raft_store){.context = store,
                                  .first_index = first_index,
                                  .last_index = last_index,
                                  .term = term,
                                  .entries = entries,
                                  .snapshot = snapshot};
}

const char *mem_store_apply_snapshot(struct mem_store *store,
                                     const struct rk_raft_snapshot *applied)
{
    if (store->snapshot_index != 0 && store->snapshot_index >= applied->index)
        return "requested index is older than the existing snapshot";
    store->snapshot_index = applied->index;
    store->conf = applied->conf;
    store->entries[0] =
        (struct rk_raft_entry){.index = applied->index, .term = applied->term};
    store->count = 1;
    return NULL;
}

const char *mem_store_compact(struct mem_store *store, uint64_t index)
{
    if (index <= offset_of(store))
        return "requested index is unavailable due to compaction";
    if (index > last_index(store)) return "compact is out of bound";
    size_t drop = (size_t)(index - offset_of(store));
    memmove(store->entries, store->entries + drop,
            (store->count - drop) * sizeof(*store->entries));
    store->count -= drop;
    store->entries[0].data = RK_SLICE_EMPTY;
    store->entries[0].type = RK_RAFT_ENTRY_NORMAL;
    return NULL;
}

void mem_store_append(struct mem_store *store, const struct rk_raft_entry *added,
                      size_t count)
{
    uint64_t first = first_index(store);
    while (count > 0 && added[0].index < first) {
        added++;
        count--;
    }
    if (count == 0) return;
    RK_ASSERT(added[0].index <= last_index(store) + 1);
    store->count = (size_t)(added[0].index - offset_of(store));
    reserve(store, store->count + count);
    for (size_t i = 0; i < count; i++) {
        struct rk_raft_entry *entry = &store->entries[store->count++];
        *entry = added[i];
        entry->data = rk_arena_copy(store->arena, added[i].data);
        if (entry->data.size == 0) entry->data = RK_SLICE_EMPTY;
    }
}
