/* wal_state.h - every group's numbers as of a place in the log: what a segment's opening
 * batch says, what replay rebuilds, and what refuses records that contradict it.
 * Private to storage. */
#ifndef RK_STORAGE_WAL_STATE_H
#define RK_STORAGE_WAL_STATE_H

#include "storage/wal_format.h"

struct rk_wal_group_state {
    bool is_present;
    struct rk_raft_hard_state hard;
    uint64_t last; /* index of the last entry */
    uint64_t compact_index;
    uint64_t compact_term;
    uint64_t mark_index;
    uint64_t mark_term;
    struct rk_buf mark_conf;
    struct rk_buf meta;
};

struct rk_wal_state {
    struct rk_wal_group_state groups[RK_WAL_GROUPS_MAX];
    struct rk_buf node;
};

void rk_wal_state_init(struct rk_wal_state *state);
void rk_wal_state_fini(struct rk_wal_state *state);
/* Takes a record of an ordinary batch. RK_EINVAL: it contradicts the state, why in error.
 * RK_ENOMEM. On both the state is as before. */
RK_MUST_CHECK enum rk_status rk_wal_state_apply(struct rk_wal_state *state,
                                                const struct rk_wal_record *record,
                                                struct rk_storage_error *error);
/* Takes a record of an opening batch, whose records set the state. As apply. */
RK_MUST_CHECK enum rk_status rk_wal_state_restore(struct rk_wal_state *state,
                                                  const struct rk_wal_record *record,
                                                  struct rk_storage_error *error);
/* Appends the records of an opening batch; *count: how many. Failure shows in buf. */
void rk_wal_state_write(const struct rk_wal_state *state, struct rk_buf *buf,
                        uint32_t *count);
#endif
