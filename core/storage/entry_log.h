/* entry_log.h - one group's log as the loop sees it.
 *
 * Recent entries are held in memory, older ones are read back from the write-ahead log by
 * place and verified. What is appended is visible at once; whether it is durable is Raft's
 * to know. Loop thread only.
 *
 * Ownership: append copies the data, and what is handed out is copied into the caller's
 * arena, from memory and from disk alike: no one holds pointers into the log, so it may be
 * changed and trimmed at any time. (Raft keeps recent entries itself; it asks the log for
 * older ones, and may keep them over several turns of the loop.) */
#ifndef RK_STORAGE_ENTRY_LOG_H
#define RK_STORAGE_ENTRY_LOG_H

#include "base/arena.h"
#include "storage/wal.h"

enum { RK_ENTRY_LOG_CACHE_DEFAULT = 1 << 20 };

struct rk_entry_log;

/* An empty log that begins after index 0. cache_bytes: entries are kept in memory up to
 * this size; entries not yet written are always kept. NULL without memory. */
struct rk_entry_log *rk_entry_log_new(uint32_t group, size_t cache_bytes);
void rk_entry_log_free(struct rk_entry_log *log);

uint32_t rk_entry_log_group(const struct rk_entry_log *log);
/* The first index that can be read; last + 1 when empty. */
uint64_t rk_entry_log_first(const struct rk_entry_log *log);
/* The last index; first - 1 when empty. */
uint64_t rk_entry_log_last(const struct rk_entry_log *log);
/* Known for first - 1 (the compacted index) up to last. RK_EGONE: below that; RK_ENOENT:
 * above last. */
RK_MUST_CHECK enum rk_status rk_entry_log_term(const struct rk_entry_log *log,
                                               uint64_t *out, uint64_t index);
/* Encoded bytes of all entries that are not compacted, cached or not. */
uint64_t rk_entry_log_bytes(const struct rk_entry_log *log);
/* Bytes of entries in memory. */
size_t rk_entry_log_cached_bytes(const struct rk_entry_log *log);

/* Appends copies; entries[0].index == last + 1, the rest consecutive (asserted); terms
 * never fall (asserted). RK_ENOMEM: the log is as it was. */
RK_MUST_CHECK enum rk_status rk_entry_log_append(struct rk_entry_log *log,
                                                 const struct rk_raft_entry *entries,
                                                 size_t count);
/* Drops the entries from index `from` on; nothing if from > last. from >= first (asserted).
 */
void rk_entry_log_truncate(struct rk_entry_log *log, uint64_t from);
/* Drops the entries up to and including index; nothing if index < first. index <= last
 * (asserted). To be called before the batch with the same rk_wal_batch_compact is handed
 * over. */
void rk_entry_log_compact(struct rk_entry_log *log, uint64_t index);
/* Drops everything; the log begins after index, whose term is `term`. */
void rk_entry_log_install(struct rk_entry_log *log, uint64_t index, uint64_t term);

/* The entries lo .. hi - 1 from the start, stopping before the sum of data.size + 32 passes
 * max_bytes (the first one is always given). Array and data are in arena. Fits struct
 * rk_raft_store.
 * lo < hi <= last + 1 (asserted). RK_EGONE: lo < first. From reading back what is not in
 * memory: RK_EIO; RK_ECORRUPT: the bytes fail their checksum, so the node must stop (such a
 * node neither votes nor leads). RK_ENOMEM. error may be NULL. */
RK_MUST_CHECK enum rk_status
rk_entry_log_entries(struct rk_entry_log *log, uint64_t lo, uint64_t hi, uint64_t max_bytes,
                     struct rk_arena *arena, const struct rk_raft_entry **out,
                     size_t *out_count, struct rk_storage_error *error);

/* After a batch came back written: remembers where the group's entries stand, those that
 * are still the log's (a truncated and appended again tail keeps none of the old places).
 * RK_ENOMEM: places are missing, call again with the same batch. */
RK_MUST_CHECK enum rk_status rk_entry_log_stored(struct rk_entry_log *log,
                                                 const struct rk_wal_batch *batch);
/* Frees memory above the bound: to be called now and then, as at the end of a loop turn. */
void rk_entry_log_trim(struct rk_entry_log *log);
#endif
