/* wal.h - the one write-ahead log of a node, shared by all its groups.
 *
 * Two halves. The loop thread encodes all groups' new records into one struct
 * rk_wal_batch; the disk thread places it in a segment, writes it and syncs it. The
 * format is docs/storage-format.md.
 *
 * Threads, exactly:
 * - struct rk_wal belongs to the disk thread from the first rk_wal_write on (before that
 *   to whoever opened it). There are no locks inside.
 * - struct rk_wal_batch belongs to one side at a time. The loop fills it and hands it over
 *   by a queue (whose lock or atomic orders memory); rk_wal_write fills `result` and the
 *   places of its runs; the queue hands it back; the loop then calls
 *   rk_entry_log_stored for each group and rk_wal_batch_reset. Several batches may be on
 *   their way; they complete in the order of rk_wal_write.
 * - struct rk_wal_segment is made by the disk thread and reached by the loop only through
 *   the places in a batch that was handed back (or from rk_wal_open). Its file handle is
 *   not changed or closed while any entry in it is not compacted: the loop drops its own
 *   places before it hands over the batch with the compaction, so no lock is needed.
 *   The loop reads nothing else of it.
 *
 * Errors: any status but RK_OK from rk_wal_write means that nothing of the batch or
 * of a later one may be acknowledged; the log refuses all further work with RK_ECLOSED and
 * the host must end the process at once (fsync is never retried). */
#ifndef RK_STORAGE_WAL_H
#define RK_STORAGE_WAL_H

#include "raft/raft.h" /* types only */
#include "storage/error.h"
#include "storage/fs.h"

enum {
    RK_WAL_VERSION = 1,
    RK_WAL_GROUPS_MAX = 256,             /* group ids are 0 .. 255 */
    RK_WAL_ENTRY_MAX = (4 << 20) + 4096, /* bytes of one entry's data */
    RK_WAL_BLOB_MAX = 1 << 20,           /* configuration, meta and node meta bytes */
    RK_WAL_BATCH_MAX = 48 << 20,         /* encoded bytes of one batch */
    RK_WAL_SEGMENT_FIRST = 4 << 20,      /* size of the first four segments */
    RK_WAL_SEGMENT_LATER = 64 << 20,     /* size of those after */
    RK_WAL_SEGMENTS_MIN = 4,             /* the log may always use that many */
};

struct rk_wal;
struct rk_wal_segment;
struct rk_entry_log;

/* Where a run of entries of one group and one term, with consecutive indexes, stands. */
struct rk_wal_run {
    struct rk_wal_segment *segment; /* NULL until written */
    uint64_t offset;                /* in the file, of the first record */
    uint64_t first;                 /* index */
    uint64_t term;
    uint32_t count;
    uint32_t group;
    uint32_t size; /* encoded bytes, all records of the run */
    uint32_t crc;  /* CRC32C of them, checked on every read back */
};

/* How full the log is, as of a completed batch. */
struct rk_wal_space {
    uint64_t file_bytes;  /* all segment files, spare ones too */
    uint64_t used_bytes;  /* the files from the oldest needed segment to the current one */
    uint64_t limit_bytes; /* max(4 * live_bytes of the batch, four segments) */
    bool is_over;         /* the group below should be snapshotted and compacted now */
    uint32_t group;       /* holds entries in the oldest segment (others may, too) */
    uint64_t index;       /* compacting `group` to this index removes its hold */
};

struct rk_wal_result {
    uint64_t sequence; /* the batch's number; 0 for an empty one that wrote nothing */
    uint64_t written_bytes;
    struct rk_wal_space space;
};

/* Step of the encoder in order; the writer follows it to keep its own picture. Private. */
struct rk_wal_item {
    uint8_t kind;
    uint32_t group;
    uint64_t index;
    uint64_t term;
    uint64_t vote;
    uint64_t extra;  /* hard state: commit; entries: which run */
    uint32_t offset; /* in buf, of the blob */
    uint32_t size;
};

struct rk_wal_batch {
    struct rk_buf buf;         /* header room, then records */
    struct rk_wal_item *items; /* owned */
    struct rk_wal_run *runs;   /* owned; in order of items */
    uint32_t item_count;
    uint32_t item_capacity;
    uint32_t run_count;
    uint32_t run_capacity;
    uint32_t record_count;
    uint64_t live_bytes; /* set by the host: bytes of state that snapshots would hold */
    struct rk_wal_result result;
};

void rk_wal_batch_init(struct rk_wal_batch *batch);
void rk_wal_batch_fini(struct rk_wal_batch *batch);
/* Empty again; memory is kept up to 1 MiB, a larger buffer is given back. */
void rk_wal_batch_reset(struct rk_wal_batch *batch);
static inline bool rk_wal_batch_is_empty(const struct rk_wal_batch *batch)
{
    return batch->record_count == 0;
}
/* Encoded size so far: the host stops collecting when it nears RK_WAL_BATCH_MAX. */
size_t rk_wal_batch_size(const struct rk_wal_batch *batch);

/* The records. Loop thread. All borrow their arguments; on an error the batch is as it was.
 * group < RK_WAL_GROUPS_MAX (asserted). RK_ENOMEM; RK_ELIMIT: the batch would pass
 * RK_WAL_BATCH_MAX, hand it over first; RK_ESIZE: data above its own bound. Records of a
 * batch take effect in the order of these calls, all or none. */

/* Entries with consecutive indexes, following what was added for the group before: a
 * conflicting tail must have been cut with rk_wal_batch_truncate. */
RK_MUST_CHECK enum rk_status rk_wal_batch_entries(struct rk_wal_batch *batch,
                                                  uint32_t group,
                                                  const struct rk_raft_entry *entries,
                                                  size_t count);
RK_MUST_CHECK enum rk_status rk_wal_batch_hard_state(struct rk_wal_batch *batch,
                                                     uint32_t group,
                                                     struct rk_raft_hard_state state);
/* Entries from index `from` on are gone. */
RK_MUST_CHECK enum rk_status rk_wal_batch_truncate(struct rk_wal_batch *batch,
                                                   uint32_t group, uint64_t from);
/* Names the group's newest snapshot, whose file is already durable under its name
 * (snapshot.h), and the configuration as of it. Does not drop entries. */
RK_MUST_CHECK enum rk_status rk_wal_batch_mark(struct rk_wal_batch *batch, uint32_t group,
                                               uint64_t index, uint64_t term,
                                               struct rk_slice conf);
/* Entries up to and including index (whose term is `term`) are no longer needed. Never
 * above the group's mark: the same batch or an earlier one carries it. */
RK_MUST_CHECK enum rk_status rk_wal_batch_compact(struct rk_wal_batch *batch,
                                                  uint32_t group, uint64_t index,
                                                  uint64_t term);
/* A snapshot from the leader was installed: all entries of the group are gone and its log
 * begins after index. Like mark, with an empty log. */
RK_MUST_CHECK enum rk_status rk_wal_batch_install(struct rk_wal_batch *batch,
                                                  uint32_t group, uint64_t index,
                                                  uint64_t term, struct rk_slice conf);
/* A blob of the group that replaces the one before (current configuration, or whatever the
 * host wants back at the start). */
RK_MUST_CHECK enum rk_status rk_wal_batch_meta(struct rk_wal_batch *batch, uint32_t group,
                                               struct rk_slice meta);
/* The node's blob (cluster id, disk id, number, history ...); replaces the one before. */
RK_MUST_CHECK enum rk_status rk_wal_batch_node(struct rk_wal_batch *batch,
                                               struct rk_slice node);

/* Opening. */

struct rk_wal_options {
    uint32_t struct_size;
    uint64_t id;            /* random; used only when the log is born here. Not 0 */
    uint64_t segment_first; /* bytes, a multiple of 4096, at least 16 KiB */
    uint64_t segment_later; /* likewise, not below segment_first */
    uint64_t cache_bytes;   /* of each entry log, see entry_log.h */
};
void rk_wal_options_init(struct rk_wal_options *options); /* defaults; id 0: must be set */

struct rk_wal_group {
    bool is_present; /* any record of it was found */
    struct rk_raft_hard_state hard;
    uint64_t mark_index; /* newest snapshot; 0: none */
    uint64_t mark_term;
    struct rk_buf mark_conf;
    struct rk_buf meta;
    struct rk_entry_log *log; /* never NULL for a present group; take it by setting NULL */
};

/* What was found; owned by the caller, freed by rk_wal_recovered_fini. */
struct rk_wal_recovered {
    bool is_new;        /* the log was born by this call: the data folder was empty */
    uint64_t id;        /* the log's own random id */
    struct rk_buf node; /* empty if never written */
    struct rk_wal_group groups[RK_WAL_GROUPS_MAX];
    uint64_t batch_count;
    uint64_t dropped_bytes; /* of a torn tail */
    uint64_t last_sequence;
};
void rk_wal_recovered_fini(struct rk_wal_recovered *recovered);

/* Opens or creates the log in folder `dir` (made if missing; its parent exists; the host
 * holds the lock of the data folder). Reads everything, drops a torn tail, and leaves all
 * that it reports synced. *recovered must not be initialised before; on success it needs
 * fini. Groups that are not present get their log with rk_entry_log_new.
 * RK_ECORRUPT: damage that is not a torn tail; error names file and offset. RK_EPROTO: a
 * format version this program does not know. RK_EIO, RK_EFULL, RK_ENOMEM. On any error
 * nothing is left open and no record that counts was touched (an unfinished next segment
 * may have been removed and dropped batches erased). Blocks; any thread. */
RK_MUST_CHECK enum rk_status rk_wal_open(struct rk_wal **out, struct rk_fs *fs,
                                         const char *dir,
                                         const struct rk_wal_options *options,
                                         struct rk_wal_recovered *recovered,
                                         struct rk_storage_error *error);
/* Closes the files; does not write. Entry logs made by rk_wal_open must not read from the
 * disk afterwards. NULL is fine. */
void rk_wal_free(struct rk_wal *wal);

/* Disk thread. */

/* Writes the batch and syncs it: on RK_OK all of it is durable and batch->result and the
 * places of its runs are filled. An empty batch is fine and writes nothing.
 * RK_EINVAL: a record contradicts the log (an entry that does not follow, a truncation at
 * or below commit, a compaction above the mark ...): a bug of the host, found before
 * anything was written. RK_EIO, RK_EFULL, RK_ENOMEM. All: see "Errors" above.
 * RK_ECLOSED: failed before. */
RK_MUST_CHECK enum rk_status rk_wal_write(struct rk_wal *wal, struct rk_wal_batch *batch,
                                          struct rk_storage_error *error);

/* Care between batches, in small steps: fills the next segment with zeros, removes segments
 * above the bound, and, when is_idle, records the last durable number so that damage to it
 * is told from a torn tail. Call it once with is_idle false after each batch was handed
 * back (it works only as much as keeps the next segment ahead), and with is_idle true,
 * until *out_more is false, when no batch came for RK_WAL_IDLE_MS.
 * RK_EFULL: no room for the next segment; not fatal yet, tell the host to refuse growth.
 * RK_EIO, RK_ENOMEM: as from rk_wal_write. */
enum { RK_WAL_IDLE_MS = 20 };
RK_MUST_CHECK enum rk_status rk_wal_tend(struct rk_wal *wal, bool is_idle, bool *out_more,
                                         struct rk_storage_error *error);

/* As in the result of the last batch, with live_bytes as given now. */
void rk_wal_space(const struct rk_wal *wal, uint64_t live_bytes, struct rk_wal_space *out);

struct rk_wal_stats {
    uint64_t batches;
    uint64_t idle_batches;
    uint64_t bytes; /* handed to pwrite, padding and headers counted */
    uint64_t syncs;
    uint64_t segments_opened;
    uint64_t segments_recycled;
    uint64_t fill_stalls; /* times the next segment was not ready and had to be filled */
};
void rk_wal_stats(const struct rk_wal *wal, struct rk_wal_stats *out);
#endif
