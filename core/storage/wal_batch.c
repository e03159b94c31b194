#include "base/alloc.h"
#include "base/assert.h"
#include "storage/wal_format.h"

enum {
    KEPT_BYTES = 1 << 20,
    RUN_BYTES = 32 << 10, /* read back in one piece, so runs are broken here */
};

void rk_wal_batch_init(struct rk_wal_batch *batch)
{
    *batch = (struct rk_wal_batch){0};
    rk_buf_init(&batch->buf);
}

void rk_wal_batch_fini(struct rk_wal_batch *batch)
{
    rk_buf_fini(&batch->buf);
    rk_free(batch->items);
    rk_free(batch->runs);
    *batch = (struct rk_wal_batch){0};
}

void rk_wal_batch_reset(struct rk_wal_batch *batch)
{
    if (batch->buf.capacity > KEPT_BYTES) {
        rk_buf_fini(&batch->buf);
        rk_buf_init(&batch->buf);
    }
    rk_buf_reset(&batch->buf);
    batch->item_count = 0;
    batch->run_count = 0;
    batch->record_count = 0;
    batch->result = (struct rk_wal_result){0};
}

size_t rk_wal_batch_size(const struct rk_wal_batch *batch)
{
    return batch->buf.size;
}

/* Room for `size` bytes, and more items and runs, so that nothing after it can fail. */
static enum rk_status reserve(struct rk_wal_batch *batch, size_t size, uint32_t items)
{
    size_t head = batch->buf.size == 0 ? RK_WAL_BATCH_HEAD : 0;
    if (batch->buf.size + head + size > RK_WAL_BATCH_MAX) return RK_ELIMIT;
    if (batch->item_count + items > batch->item_capacity) {
        uint32_t capacity = (batch->item_count + items) * 2;
        struct rk_wal_item *list = rk_realloc_array(batch->items, capacity, sizeof(*list));
        if (list == NULL) return RK_ENOMEM;
        batch->items = list;
        batch->item_capacity = capacity;
    }
    if (batch->run_count + items > batch->run_capacity) {
        uint32_t capacity = (batch->run_count + items) * 2;
        struct rk_wal_run *list = rk_realloc_array(batch->runs, capacity, sizeof(*list));
        if (list == NULL) return RK_ENOMEM;
        batch->runs = list;
        batch->run_capacity = capacity;
    }
    /* The writer pads to a sector; its room is taken here so that it need not allocate. */
    if (rk_buf_reserve(&batch->buf, head + size + RK_WAL_SECTOR) != RK_OK) {
        batch->buf.is_failed = false;
        return RK_ENOMEM;
    }
    if (head > 0) memset(rk_buf_extend(&batch->buf, head), 0, head);
    return RK_OK;
}

/* Adds a record for which there is room. */
static void add(struct rk_wal_batch *batch, const struct rk_wal_record *record,
                struct rk_wal_item item)
{
    item.kind = (uint8_t)record->kind;
    item.group = record->group;
    item.index = record->index;
    item.term = record->term;
    rk_wal_record_write(&batch->buf, record);
    item.size = (uint32_t)record->blob.size;
    item.offset = (uint32_t)(batch->buf.size - record->blob.size);
    batch->items[batch->item_count++] = item;
    batch->record_count++;
}

static enum rk_status add_one(struct rk_wal_batch *batch,
                              const struct rk_wal_record *record)
{
    RK_ASSERT(record->group < RK_WAL_GROUPS_MAX);
    if (record->blob.size > RK_WAL_BLOB_MAX) return RK_ESIZE;
    enum rk_status status = reserve(batch, record->blob.size + RK_WAL_RECORD_OVERHEAD, 1);
    if (status != RK_OK) return status;
    add(batch, record, (struct rk_wal_item){.extra = record->commit, .vote = record->vote});
    return RK_OK;
}

/* The run that the entry continues, or NULL. */
static struct rk_wal_run *open_run(const struct rk_wal_batch *batch, uint32_t group,
                                   const struct rk_raft_entry *entry)
{
    if (batch->item_count == 0) return NULL;
    const struct rk_wal_item *item = &batch->items[batch->item_count - 1];
    if (item->kind != RK_WAL_ENTRY || item->group != group) return NULL;
    struct rk_wal_run *run = &batch->runs[batch->run_count - 1];
    bool is_next = run->term == entry->term && run->first + run->count == entry->index;
    return is_next && run->size < RUN_BYTES ? run : NULL;
}

enum rk_status rk_wal_batch_entries(struct rk_wal_batch *batch, uint32_t group,
                                    const struct rk_raft_entry *entries, size_t count)
{
    RK_ASSERT(group < RK_WAL_GROUPS_MAX);
    size_t size = 0;
    for (size_t i = 0; i < count; i++) {
        RK_ASSERT(entries[i].index == entries[0].index + i);
        if (entries[i].data.size > RK_WAL_ENTRY_MAX) return RK_ESIZE;
        size += entries[i].data.size + RK_WAL_RECORD_OVERHEAD;
        if (size > RK_WAL_BATCH_MAX) return RK_ELIMIT;
    }
    if (count == 0) return RK_OK;
    enum rk_status status = reserve(batch, size, (uint32_t)count);
    if (status != RK_OK) return status;
    for (size_t i = 0; i < count; i++) {
        const struct rk_raft_entry *entry = &entries[i];
        struct rk_wal_run *run = open_run(batch, group, entry);
        size_t start = batch->buf.size;
        struct rk_wal_record record = {.kind = RK_WAL_ENTRY,
                                       .group = group,
                                       .index = entry->index,
                                       .term = entry->term,
                                       .type = entry->type,
                                       .blob = entry->data};
        if (run == NULL) {
            run = &batch->runs[batch->run_count++];
            *run = (struct rk_wal_run){.offset = start,
                                       .first = entry->index,
                                       .term = entry->term,
                                       .group = group};
            add(batch, &record, (struct rk_wal_item){.extra = batch->run_count - 1});
        } else {
            rk_wal_record_write(&batch->buf, &record);
            batch->record_count++;
        }
        run->count++;
        run->size += (uint32_t)(batch->buf.size - start);
    }
    return RK_OK;
}

enum rk_status rk_wal_batch_hard_state(struct rk_wal_batch *batch, uint32_t group,
                                       struct rk_raft_hard_state state)
{
    return add_one(batch, &(struct rk_wal_record){.kind = RK_WAL_HARD,
                                                  .group = group,
                                                  .term = state.term,
                                                  .vote = state.vote,
                                                  .commit = state.commit});
}

enum rk_status rk_wal_batch_truncate(struct rk_wal_batch *batch, uint32_t group,
                                     uint64_t from)
{
    return add_one(batch, &(struct rk_wal_record){
                              .kind = RK_WAL_TRUNCATE, .group = group, .index = from});
}

enum rk_status rk_wal_batch_mark(struct rk_wal_batch *batch, uint32_t group, uint64_t index,
                                 uint64_t term, struct rk_slice conf)
{
    return add_one(batch, &(struct rk_wal_record){.kind = RK_WAL_MARK,
                                                  .group = group,
                                                  .index = index,
                                                  .term = term,
                                                  .blob = conf});
}

enum rk_status rk_wal_batch_compact(struct rk_wal_batch *batch, uint32_t group,
                                    uint64_t index, uint64_t term)
{
    return add_one(
        batch, &(struct rk_wal_record){
                   .kind = RK_WAL_COMPACT, .group = group, .index = index, .term = term});
}

enum rk_status rk_wal_batch_install(struct rk_wal_batch *batch, uint32_t group,
                                    uint64_t index, uint64_t term, struct rk_slice conf)
{
    return add_one(batch, &(struct rk_wal_record){.kind = RK_WAL_INSTALL,
                                                  .group = group,
                                                  .index = index,
                                                  .term = term,
                                                  .blob = conf});
}

enum rk_status rk_wal_batch_meta(struct rk_wal_batch *batch, uint32_t group,
                                 struct rk_slice meta)
{
    return add_one(
        batch, &(struct rk_wal_record){.kind = RK_WAL_META, .group = group, .blob = meta});
}

enum rk_status rk_wal_batch_node(struct rk_wal_batch *batch, struct rk_slice node)
{
    return add_one(batch, &(struct rk_wal_record){.kind = RK_WAL_NODE, .blob = node});
}
