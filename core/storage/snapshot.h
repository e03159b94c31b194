/* snapshot.h - snapshot files: one group's state as a stream of records, in blocks that
 * are checked by CRC32C. The format is docs/storage-format.md.
 *
 * Order of finishing (rule 17): all blocks written, datasync, rename to the final name,
 * sync of the folder (all by rk_snapshot_file_finish, on the disk thread); then
 * rk_wal_batch_mark in a batch (rk_wal_batch_compact may be in the same one: a batch is
 * atomic); when that batch is durable, rk_snapshot_clean removes the older files. A crash
 * at any point leaves either the old mark with the old file or the new with the new.
 *
 * Threads: each struct belongs to one thread at a time and shares nothing with the others.
 * The encoder lives on the loop, the file on the disk thread; blocks travel between them.
 */
#ifndef RK_STORAGE_SNAPSHOT_H
#define RK_STORAGE_SNAPSHOT_H

#include "storage/error.h"
#include "storage/fs.h"

enum {
    RK_SNAPSHOT_VERSION = 1,
    RK_SNAPSHOT_BLOCK_SIZE = 256 << 10, /* a block is closed when it reaches this */
    RK_SNAPSHOT_RECORD_MAX = 8 << 20,   /* bytes of one record */
    RK_SNAPSHOT_CONF_MAX = 1 << 20,
    RK_SNAPSHOT_NAME_SIZE = 64, /* room for a file's name with its NUL */
};

/* Which snapshot. */
struct rk_snapshot_id {
    uint32_t group;
    uint64_t index; /* last entry that it contains */
    uint64_t term;
};

struct rk_snapshot_header {
    struct rk_snapshot_id id;
    uint64_t history;
    struct rk_slice conf; /* membership as of index, the host's encoding */
};

/* "00003-00000000000000001234-00000000000000000007.snap" */
void rk_snapshot_name(char out[RK_SNAPSHOT_NAME_SIZE], struct rk_snapshot_id id);

/* Encoder: loop thread, no I/O. */

/* Bytes for the disk thread. */
struct rk_snapshot_block {
    struct rk_buf bytes;
};

struct rk_snapshot_encoder {
    struct rk_buf bytes;  /* sealed blocks, then the open one */
    size_t open_at;       /* where the open block begins in bytes, if there is one */
    uint32_t block_count; /* sealed */
    uint32_t open_records;
    uint32_t chain; /* CRC of the last sealed block: a block fits only at its place */
    uint64_t record_count;
    uint64_t record_bytes;
    bool has_open;
    bool is_finished;
};

/* Begins with a block that holds the header. conf is copied. RK_ENOMEM; RK_ESIZE. */
RK_MUST_CHECK enum rk_status
rk_snapshot_encoder_init(struct rk_snapshot_encoder *encoder,
                         const struct rk_snapshot_header *header);
void rk_snapshot_encoder_fini(struct rk_snapshot_encoder *encoder);
/* Adds a record (copied). RK_ESIZE: above RK_SNAPSHOT_RECORD_MAX. RK_ENOMEM: as it was. */
RK_MUST_CHECK enum rk_status rk_snapshot_encoder_add(struct rk_snapshot_encoder *encoder,
                                                     struct rk_slice record);
/* True when a full block waits: take it before adding more (adding works, blocks grow). */
bool rk_snapshot_encoder_is_full(const struct rk_snapshot_encoder *encoder);
/* Seals what has been added into *out (which becomes the caller's, freed by rk_buf_fini of
 * its bytes) and begins the next block. Empty bytes when there is nothing. */
void rk_snapshot_encoder_take(struct rk_snapshot_encoder *encoder,
                              struct rk_snapshot_block *out);
/* No more records: the block taken next is the last one. RK_ENOMEM: try again. */
RK_MUST_CHECK enum rk_status
rk_snapshot_encoder_finish(struct rk_snapshot_encoder *encoder);

/* File being written: disk thread. */

struct rk_snapshot_file;

/* Creates dir/<name>.tmp, removing a leftover. RK_EIO, RK_EFULL, RK_ENOMEM: nothing is
 * left. Unlike the log, a failing snapshot does not end the process: it is given up. */
RK_MUST_CHECK enum rk_status rk_snapshot_file_create(struct rk_snapshot_file **out,
                                                     struct rk_fs *fs, const char *dir,
                                                     struct rk_snapshot_id id,
                                                     struct rk_storage_error *error);
/* Appends a block's bytes. After an error only rk_snapshot_file_abort. */
RK_MUST_CHECK enum rk_status rk_snapshot_file_write(struct rk_snapshot_file *file,
                                                    const struct rk_snapshot_block *block,
                                                    struct rk_storage_error *error);
/* datasync, rename, sync of the folder; frees file in any case. */
RK_MUST_CHECK enum rk_status rk_snapshot_file_finish(struct rk_snapshot_file *file,
                                                     struct rk_storage_error *error);
void rk_snapshot_file_abort(struct rk_snapshot_file *file); /* removes it; NULL is fine */

/* Reader: any one thread. */

struct rk_snapshot_reader;

/* Opens dir/<name of id> and checks its header against id. RK_ENOENT; RK_EPROTO: unknown
 * format version; RK_ECORRUPT: error names file and offset; RK_EIO, RK_ENOMEM. */
RK_MUST_CHECK enum rk_status rk_snapshot_reader_open(struct rk_snapshot_reader **out,
                                                     struct rk_fs *fs, const char *dir,
                                                     struct rk_snapshot_id id,
                                                     struct rk_storage_error *error);
void rk_snapshot_reader_free(struct rk_snapshot_reader *reader);
/* Lent until free. */
const struct rk_snapshot_header *
rk_snapshot_reader_header(const struct rk_snapshot_reader *reader);
/* The next record, lent until the next call; *out_end (and no record) after the last one,
 * once the trailer's counts have been checked: only then the snapshot is whole. */
RK_MUST_CHECK enum rk_status rk_snapshot_reader_next(struct rk_snapshot_reader *reader,
                                                     struct rk_slice *out, bool *out_end,
                                                     struct rk_storage_error *error);
/* Reads all of the file and counts. */
struct rk_snapshot_summary {
    uint64_t history;
    uint64_t conf_bytes;
    uint64_t record_count;
    uint64_t record_bytes;
    uint64_t file_bytes;
    uint64_t block_count;
};
RK_MUST_CHECK enum rk_status rk_snapshot_verify(struct rk_fs *fs, const char *dir,
                                                struct rk_snapshot_id id,
                                                struct rk_snapshot_summary *out,
                                                struct rk_storage_error *error);

/* Sending: the raw file in chunks. */

struct rk_snapshot_source;

/* *out_size: the file's bytes. The file stays readable after rk_snapshot_clean removed it.
 */
RK_MUST_CHECK enum rk_status rk_snapshot_source_open(struct rk_snapshot_source **out,
                                                     uint64_t *out_size, struct rk_fs *fs,
                                                     const char *dir,
                                                     struct rk_snapshot_id id,
                                                     struct rk_storage_error *error);
/* At most size bytes from offset; *out is 0 at the end. RK_EIO. */
RK_MUST_CHECK enum rk_status rk_snapshot_source_read(struct rk_snapshot_source *source,
                                                     size_t *out, uint64_t offset,
                                                     void *data, size_t size);
void rk_snapshot_source_free(struct rk_snapshot_source *source);

/* Receiving: into dir/<name>.recv, resumable after a broken link and after a restart. */

struct rk_snapshot_sink;

/* Opens what an earlier attempt for the same id left, or a new file; temporary files of
 * other ids of the group are removed. */
RK_MUST_CHECK enum rk_status rk_snapshot_sink_open(struct rk_snapshot_sink **out,
                                                   struct rk_fs *fs, const char *dir,
                                                   struct rk_snapshot_id id,
                                                   struct rk_storage_error *error);
/* The offset from which the sender is to continue. */
uint64_t rk_snapshot_sink_offset(const struct rk_snapshot_sink *sink);
/* Bytes at offset. Those below sink_offset are skipped (a repeat); a gap is RK_ERANGE. */
RK_MUST_CHECK enum rk_status rk_snapshot_sink_write(struct rk_snapshot_sink *sink,
                                                    uint64_t offset, struct rk_slice bytes,
                                                    struct rk_storage_error *error);
/* All bytes are there: verifies the whole file against id, datasync, rename, sync of the
 * folder. Then it can be installed: read it with a reader, rk_wal_batch_install, durable,
 * then rk_snapshot_clean. RK_ECORRUPT: the file was removed; start again at 0 with a new
 * sink. Frees sink in any case. */
RK_MUST_CHECK enum rk_status rk_snapshot_sink_finish(struct rk_snapshot_sink *sink,
                                                     struct rk_storage_error *error);
void rk_snapshot_sink_free(
    struct rk_snapshot_sink *sink); /* the file stays; NULL is fine */

/* Housekeeping. */

/* Removes the group's snapshot files of other ids than keep (keep.index 0: all of them;
 * with keep_newer only those below, since one that was received may wait for its mark) and
 * its .tmp files; with remove_received its .recv files too. Names that are not ours are
 * left. The folder is synced if anything was removed. RK_EIO. */
struct rk_snapshot_clean {
    struct rk_snapshot_id keep; /* keep.group is the group */
    bool keep_newer;
    bool remove_received;
};
RK_MUST_CHECK enum rk_status rk_snapshot_clean(struct rk_fs *fs, const char *dir,
                                               const struct rk_snapshot_clean *clean);
#endif
