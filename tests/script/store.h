/* store.h - a log in memory that behaves as etcd-io/raft's MemoryStorage. */
#ifndef RK_TESTS_SCRIPT_STORE_H
#define RK_TESTS_SCRIPT_STORE_H

#include "raft/raft.h"

struct mem_store {
    struct rk_arena *arena;        /* for entry data; outlives the store */
    struct rk_raft_entry *entries; /* owned; [0] stands for the snapshot's last entry */
    size_t count;
    size_t capacity;
    uint64_t snapshot_index;
    struct rk_raft_conf_state conf;        /* of the snapshot applied last */
    const struct rk_raft_snapshot *newest; /* what is sent to others */
};

void mem_store_init(struct mem_store *store, struct rk_arena *arena);
void mem_store_fini(struct mem_store *store);
struct rk_raft_store mem_store_face(struct mem_store *store);
/* NULL, or the text of the error. */
const char *mem_store_apply_snapshot(struct mem_store *store,
                                     const struct rk_raft_snapshot *snapshot);
const char *mem_store_compact(struct mem_store *store, uint64_t index);
void mem_store_append(struct mem_store *store, const struct rk_raft_entry *entries,
                      size_t count);
#endif
