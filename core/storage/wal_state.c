#include "storage/wal_state.h"

#include <inttypes.h>

void rk_wal_state_init(struct rk_wal_state *state)
{
    *state = (struct rk_wal_state){0};
}

void rk_wal_state_fini(struct rk_wal_state *state)
{
    for (uint32_t i = 0; i < RK_WAL_GROUPS_MAX; i++) {
        rk_buf_fini(&state->groups[i].mark_conf);
        rk_buf_fini(&state->groups[i].meta);
    }
    rk_buf_fini(&state->node);
    rk_wal_state_init(state);
}

static enum rk_status blob_set(struct rk_buf *buf, struct rk_slice blob)
{
    if (blob.size > buf->size && rk_buf_reserve(buf, blob.size - buf->size) != RK_OK)
        return RK_ENOMEM;
    buf->size = 0;
    rk_buf_append_slice(buf, blob);
    return RK_OK;
}

static enum rk_status refuse(struct rk_storage_error *error,
                             const struct rk_wal_record *record, const char *reason,
                             uint64_t value)
{
    return rk_storage_fail(error, RK_EINVAL,
                           "group %" PRIu32 ": record of kind %d with index %" PRIu64
                           ", term %" PRIu64 ": %s %" PRIu64,
                           record->group, (int)record->kind, record->index, record->term,
                           reason, value);
}

static enum rk_status mark_set(struct rk_wal_group_state *group,
                               const struct rk_wal_record *record)
{
    enum rk_status status = blob_set(&group->mark_conf, record->blob);
    if (status != RK_OK) return status;
    group->mark_index = record->index;
    group->mark_term = record->term;
    return RK_OK;
}

static enum rk_status check(const struct rk_wal_group_state *group,
                            const struct rk_wal_record *record,
                            struct rk_storage_error *error)
{
    switch (record->kind) {
    case RK_WAL_ENTRY:
        if (record->index != group->last + 1)
            return refuse(error, record, "does not follow", group->last);
        break;
    case RK_WAL_HARD:
        if (record->term < group->hard.term)
            return refuse(error, record, "is below term", group->hard.term);
        break;
    case RK_WAL_TRUNCATE:
        if (record->index <= group->hard.commit)
            return refuse(error, record, "is not above commit", group->hard.commit);
        if (record->index <= group->mark_index)
            return refuse(error, record, "is not above the snapshot at", group->mark_index);
        break;
    case RK_WAL_COMPACT:
        if (record->index > group->mark_index)
            return refuse(error, record, "is above the snapshot at", group->mark_index);
        if (record->index > group->last)
            return refuse(error, record, "is above the last entry", group->last);
        if (record->index < group->compact_index)
            return refuse(error, record, "is compacted up to", group->compact_index);
        break;
    case RK_WAL_MARK:
        if (record->index > group->last)
            return refuse(error, record, "is above the last entry", group->last);
        if (record->index < group->mark_index)
            return refuse(error, record, "is below the snapshot at", group->mark_index);
        break;
    case RK_WAL_INSTALL:
        if (record->index < group->mark_index)
            return refuse(error, record, "is below the snapshot at", group->mark_index);
        break;
    case RK_WAL_META:
    case RK_WAL_NODE: break;
    case RK_WAL_LAST: return refuse(error, record, "stands in an ordinary batch", 0);
    }
    return RK_OK;
}

enum rk_status rk_wal_state_apply(struct rk_wal_state *state,
                                  const struct rk_wal_record *record,
                                  struct rk_storage_error *error)
{
    struct rk_wal_group_state *group = &state->groups[record->group];
    enum rk_status status = check(group, record, error);
    if (status != RK_OK) return status;
    switch (record->kind) {
    case RK_WAL_ENTRY: group->last = record->index + record->count - 1; break;
    case RK_WAL_HARD:
        group->hard =
            (struct rk_raft_hard_state){record->term, record->vote, record->commit};
        break;
    case RK_WAL_TRUNCATE:
        if (record->index <= group->last) group->last = record->index - 1;
        break;
    case RK_WAL_COMPACT:
        group->compact_index = record->index;
        group->compact_term = record->term;
        break;
    case RK_WAL_MARK: status = mark_set(group, record); break;
    case RK_WAL_INSTALL:
        status = mark_set(group, record);
        if (status != RK_OK) break;
        group->compact_index = group->last = record->index;
        group->compact_term = record->term;
        break;
    case RK_WAL_META: status = blob_set(&group->meta, record->blob); break;
    case RK_WAL_NODE: return blob_set(&state->node, record->blob);
    case RK_WAL_LAST: break;
    }
    if (status == RK_OK) group->is_present = true;
    return status;
}

enum rk_status rk_wal_state_restore(struct rk_wal_state *state,
                                    const struct rk_wal_record *record,
                                    struct rk_storage_error *error)
{
    struct rk_wal_group_state *group = &state->groups[record->group];
    switch (record->kind) {
    case RK_WAL_LAST:
        group->is_present = true;
        group->last = record->index;
        return RK_OK;
    case RK_WAL_HARD:
    case RK_WAL_COMPACT:
    case RK_WAL_MARK:
    case RK_WAL_META:
    case RK_WAL_NODE: return rk_wal_state_apply(state, record, error);
    case RK_WAL_ENTRY:
    case RK_WAL_TRUNCATE:
    case RK_WAL_INSTALL: break;
    }
    return refuse(error, record, "stands in an opening batch", 0);
}

void rk_wal_state_write(const struct rk_wal_state *state, struct rk_buf *buf,
                        uint32_t *count)
{
    *count = 0;
    for (uint32_t i = 0; i < RK_WAL_GROUPS_MAX; i++) {
        const struct rk_wal_group_state *group = &state->groups[i];
        if (!group->is_present) continue;
        struct rk_wal_record records[] = {
            {.kind = RK_WAL_LAST, .index = group->last},
            {.kind = RK_WAL_HARD,
             .term = group->hard.term,
             .vote = group->hard.vote,
             .commit = group->hard.commit},
            {.kind = RK_WAL_MARK,
             .index = group->mark_index,
             .term = group->mark_term,
             .blob = rk_buf_slice(&group->mark_conf)},
            {.kind = RK_WAL_COMPACT,
             .index = group->compact_index,
             .term = group->compact_term},
            {.kind = RK_WAL_META, .blob = rk_buf_slice(&group->meta)},
        };
        for (size_t j = 0; j < sizeof(records) / sizeof(records[0]); j++) {
            records[j].group = i;
            rk_wal_record_write(buf, &records[j]);
            ++*count;
        }
    }
    struct rk_wal_record node = {.kind = RK_WAL_NODE, .blob = rk_buf_slice(&state->node)};
    rk_wal_record_write(buf, &node);
    ++*count;
}
