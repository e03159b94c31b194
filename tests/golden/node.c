/* A node's folder, read as a starting node reads it. */
#include "golden.h"

#include "base/alloc.h"
#include "base/hash.h"
#include "state/machine.h"
#include "storage/entry_log.h"

static enum rk_status new_machine(struct rk_machine **out, uint32_t group)
{
    struct rk_machine_options options = {.struct_size = sizeof(options), .group = group};
    return rk_machine_new(out, &options);
}

enum rk_status golden_restore(struct rk_machine **out, struct rk_fs *fs, const char *dir,
                              struct rk_snapshot_id id, struct rk_storage_error *error)
{
    struct rk_snapshot_reader *reader = NULL;
    struct rk_machine *machine = NULL;
    bool is_end = false;
    enum rk_status status = rk_snapshot_reader_open(&reader, fs, dir, id, error);
    if (status == RK_OK) status = new_machine(&machine, id.group);
    while (status == RK_OK && !is_end) {
        struct rk_slice record;
        status = rk_snapshot_reader_next(reader, &record, &is_end, error);
        if (status == RK_OK && !is_end) status = rk_machine_restore(machine, record);
    }
    if (status == RK_OK) status = rk_machine_restore_finish(machine, id.index);
    rk_snapshot_reader_free(reader);
    if (status != RK_OK) {
        rk_machine_free(machine);
        return status;
    }
    *out = machine;
    return RK_OK;
}

static enum rk_status replay(struct golden_node_group *out, struct rk_machine *machine,
                             const struct rk_wal_group *found,
                             struct rk_storage_error *error)
{
    struct rk_arena arena;
    const struct rk_raft_entry *entries = NULL;
    size_t count = 0;
    enum rk_status status = RK_OK;
    rk_arena_init(&arena);
    for (uint64_t at = out->first; status == RK_OK && at <= out->last; at++) {
        rk_arena_reset(&arena);
        status = rk_entry_log_entries(found->log, at, at + 1, 1 << 20, &arena, &entries,
                                      &count, error);
        if (status != RK_OK) break;
        out->digest = rk_hash_mix(out->digest, entries[0].index);
        out->digest = rk_hash_mix(out->digest, entries[0].term);
        out->digest = rk_hash_mix(out->digest, (uint64_t)entries[0].type);
        out->digest = rk_hash_mix(out->digest, rk_hash(entries[0].data));
        bool is_new = at > found->mark_index;
        bool is_normal = entries[0].type == RK_RAFT_ENTRY_NORMAL;
        if (is_new)
            status = rk_machine_apply(machine, at,
                                      is_normal ? entries[0].data : RK_SLICE_EMPTY, NULL);
    }
    rk_arena_fini(&arena);
    return status == RK_OK ? rk_machine_hash(machine, &out->hash) : status;
}

static enum rk_status read_group(struct golden_node_group *out, struct rk_fs *fs,
                                 uint32_t group, const struct rk_wal_group *found,
                                 struct rk_storage_error *error)
{
    struct rk_machine *machine = NULL;
    struct rk_snapshot_id id = {group, found->mark_index, found->mark_term};
    if (!found->is_present) return RK_ENOENT;
    enum rk_status status = found->mark_index == 0
                                ? new_machine(&machine, group)
                                : golden_restore(&machine, fs, "data/snap", id, error);
    if (status != RK_OK) return status;
    out->first = rk_entry_log_first(found->log);
    out->last = rk_entry_log_last(found->log);
    out->digest = rk_hash_mix(found->hard.term, found->hard.vote);
    out->digest = rk_hash_mix(out->digest, found->hard.commit);
    out->digest = rk_hash_mix(out->digest, found->mark_index);
    out->digest = rk_hash_mix(out->digest, found->mark_term);
    out->digest = rk_hash_mix(out->digest, rk_hash(rk_buf_slice(&found->mark_conf)));
    status = replay(out, machine, found, error);
    rk_machine_free(machine);
    return status;
}

enum rk_status golden_node_read(struct rk_fs *fs,
                                struct golden_node_group out[GOLDEN_NODE_GROUPS],
                                uint64_t *node, struct rk_storage_error *error)
{
    struct rk_wal *wal = NULL;
    struct rk_wal_options options;
    struct rk_wal_recovered *found = rk_calloc(1, sizeof(*found));
    if (found == NULL) return RK_ENOMEM;
    rk_wal_options_init(&options);
    options.id = 1;
    enum rk_status status = rk_wal_open(&wal, fs, "data/wal", &options, found, error);
    if (status == RK_OK) {
        *node = rk_hash(rk_buf_slice(&found->node));
        for (uint32_t i = 0; status == RK_OK && i < GOLDEN_NODE_GROUPS; i++)
            status = read_group(&out[i], fs, i, &found->groups[i], error);
        rk_wal_recovered_fini(found);
    }
    rk_wal_free(wal);
    rk_free(found);
    return status;
}
