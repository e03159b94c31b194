/* entry_log.h - one group's log as the loop sees it.
 *
 * Recent entries are held in memory, older ones are read back from the write-ahead log by
 * place and verified. What is appended is visible at once; whether it is durable is Raft's
 * to know. Loop thread only.
 *
 * Ownership: append copies the data. Data handed out from memory is lent until the next
 * rk_entry_log_trim; append, truncate, compact and install leave lent bytes where they
 * are. The host calls trim at the end of a loop turn, when nothing that Raft lent it is
 * in use any more; it also gives memory above the bound back. */
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
 * max_bytes (the first one is always given). The array, and data read from the disk, are in
 * arena; data from memory is lent until trim. Fits struct rk_raft_store.
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
/* Ends all loans and frees memory above the bound. */
void rk_entry_log_trim(struct rk_entry_log *log);
#endif
