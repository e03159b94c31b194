/* log.h - a node's view of its log: the durable store below, a window in memory on top.
 *
 * The window holds every entry that is not yet durable and, up to a limit, durable ones
 * for followers and for apply; it is contiguous and ends at the last entry. Memory that
 * leaves the window stays readable until two turns later, since what went out in a ready
 * may still point to it. */
#ifndef RK_RAFT_LOG_H
#define RK_RAFT_LOG_H

#include "raft/raft.h"

struct rk_raft_block;
struct rk_raft_array;

struct rk_raft_log {
    struct rk_raft_store store;
    struct rk_raft_array *array; /* the window's slots; NULL until first used */
    size_t head;                 /* the window's first slot */
    size_t count;
    uint64_t window_first;            /* index of the first entry in the window */
    uint64_t offset;                  /* first entry not known to be durable */
    uint64_t offset_handed;           /* first entry not yet handed out for append */
    struct rk_raft_snapshot snapshot; /* to be installed; index 0: none */
    bool is_snapshot_handed;

    uint64_t committed;
    uint64_t applying; /* handed out for apply */
    uint64_t applied;
    uint64_t applying_bytes;
    uint64_t max_applying_bytes;
    bool is_applying_paused;

    struct rk_raft_block *block;   /* where data of new entries goes */
    struct rk_raft_block *dead[2]; /* by turn: left the window in this one, in the last */
    struct rk_raft_array *dead_arrays[2];
    uint64_t cached_bytes;
    uint64_t max_cached_bytes;
};

/* Entries as lent memory, or a range that is still to be resolved in the window. */
struct rk_raft_slice {
    const struct rk_raft_entry *entries; /* NULL: lo.. in the window */
    uint64_t lo;
    size_t count;
    uint64_t payload; /* bytes of data in all */
    uint64_t bytes;   /* sum of rk_raft_entry_size */
};

void rk_raft_log_init(struct rk_raft_log *log, const struct rk_raft_store *store,
                      uint64_t max_applying_bytes, uint64_t max_cached_bytes);
void rk_raft_log_fini(struct rk_raft_log *log);
/* A ready was made: what died before the last one is freed now. */
void rk_raft_log_turn(struct rk_raft_log *log);
/* Drops durable entries beyond the limit, none from keep_from on. */
void rk_raft_log_trim(struct rk_raft_log *log, uint64_t keep_from);

uint64_t rk_raft_log_first(const struct rk_raft_log *log);
static inline uint64_t rk_raft_log_last(const struct rk_raft_log *log)
{
    return log->window_first + log->count - 1;
}
/* RK_EGONE: compacted. RK_ENOENT: beyond the end. */
RK_MUST_CHECK enum rk_status rk_raft_log_term(const struct rk_raft_log *log, uint64_t index,
                                              uint64_t *out);
uint64_t rk_raft_log_term_or_zero(const struct rk_raft_log *log, uint64_t index);
uint64_t rk_raft_log_last_term(const struct rk_raft_log *log);
bool rk_raft_log_matches(const struct rk_raft_log *log, uint64_t index, uint64_t term);
/* Raft section 5.4.1: a log whose end is (index, term) has all that ours has. */
bool rk_raft_log_is_up_to_date(const struct rk_raft_log *log, uint64_t index,
                               uint64_t term);
/* The highest index at or below `index` whose term is at most `term` or unknown; *out_term
 * is 0 when unknown. */
uint64_t rk_raft_log_conflict_by_term(const struct rk_raft_log *log, uint64_t index,
                                      uint64_t term, uint64_t *out_term);

/* Room for count entries with so much data in all, appended after index `after`. Nothing
 * that can be seen changes. */
RK_MUST_CHECK enum rk_status rk_raft_log_reserve(struct rk_raft_log *log, uint64_t after,
                                                 size_t count, size_t data_size);
/* Drops everything behind `after` and appends copies; after rk_raft_log_reserve with the
 * same arguments it cannot fail. Never below committed: rule 6. */
void rk_raft_log_append(struct rk_raft_log *log, uint64_t after, uint64_t term_or_zero,
                        const struct rk_raft_entry *entries, size_t count);
/* Entries lo..hi-1, at least one, within max_bytes. Those below the window are read from
 * the store into arena. RK_EGONE, RK_ENOMEM or what the store says. */
RK_MUST_CHECK enum rk_status rk_raft_log_slice(const struct rk_raft_log *log, uint64_t lo,
                                               uint64_t hi, uint64_t max_bytes,
                                               struct rk_arena *arena,
                                               struct rk_raft_slice *out);
const struct rk_raft_entry *rk_raft_log_at(const struct rk_raft_log *log, uint64_t index);

/* Never decreases. False if index lies beyond the end. */
RK_MUST_CHECK bool rk_raft_log_commit_to(struct rk_raft_log *log, uint64_t index);
static inline bool rk_raft_log_has_undurable(const struct rk_raft_log *log)
{
    return log->offset <= rk_raft_log_last(log);
}
static inline bool rk_raft_log_has_snapshot(const struct rk_raft_log *log)
{
    return log->snapshot.index != 0;
}
/* Everything up to (index, term) is durable; ignored if that entry is another by now. */
void rk_raft_log_durable_to(struct rk_raft_log *log, uint64_t index, uint64_t term);
void rk_raft_log_snapshot_done(struct rk_raft_log *log, uint64_t index);
void rk_raft_log_restore(struct rk_raft_log *log, const struct rk_raft_snapshot *snapshot);
/* The last entry that goes with the next append: all there are, or the first and as many
 * more as stay within max_bytes with RK_RAFT_APPEND_OVERHEAD for each; 0: no limit. */
uint64_t rk_raft_log_append_end(const struct rk_raft_log *log, uint64_t max_bytes);
/* Entries up to `last` and the snapshot are handed out for append. */
void rk_raft_log_handed_out(struct rk_raft_log *log, uint64_t last);

/* The last index that may be handed out for apply. */
uint64_t rk_raft_log_appliable(const struct rk_raft_log *log, bool allow_undurable);
bool rk_raft_log_has_appliable(const struct rk_raft_log *log, bool allow_undurable);
void rk_raft_log_applying(struct rk_raft_log *log, uint64_t index, uint64_t bytes,
                          bool allow_undurable);
void rk_raft_log_applied(struct rk_raft_log *log, uint64_t index, uint64_t bytes);
#endif
