/* wal_scan.h - reads a log's folder without changing it: which files there are, which of
 * them make up the log, and what stands in them. Used by recovery and by inspect. Private
 * to storage. */
#ifndef RK_STORAGE_WAL_SCAN_H
#define RK_STORAGE_WAL_SCAN_H

#include "storage/wal_format.h"

struct rk_wal_scan_file {
    char path[RK_FS_PATH_MAX];
    uint32_t number;
    bool has_head;
    bool is_blank;                   /* zeros where the head belongs: never used */
    struct rk_wal_segment_head head; /* zero without one */
    uint64_t size;
};

struct rk_wal_scan {
    struct rk_fs *fs;
    struct rk_wal_scan_file *files; /* owned; by sequence, those without head first */
    uint32_t count;
    uint32_t capacity;
    uint32_t from; /* the log is files[from] .. files[to] */
    uint32_t to;
    bool has_id;
    bool has_log; /* from and to are valid */
    uint64_t id;
};

/* Batches of a segment in order. */
struct rk_wal_cursor {
    struct rk_slice bytes; /* the whole file */
    uint32_t salt;
    uint64_t offset; /* of the next batch */
    uint64_t next;   /* its sequence */
};

/* What stands behind the end of the log in a file. */
struct rk_wal_leftover {
    uint64_t count;
    uint64_t first_offset;
    bool is_proof; /* a batch's head there says that the missing one was durable */
    uint64_t proof_offset;
    uint64_t proof_sequence;
    struct rk_buf offsets; /* u64 each, of every batch found; owned */
};

/* Lists the folder, reads "id" and all heads. RK_ENOENT: no such folder. RK_EPROTO: another
 * format version. RK_ECORRUPT: bad id file, a file of another log, one sequence twice.
 * The scan needs fini in any case. */
RK_MUST_CHECK enum rk_status rk_wal_scan_dir(struct rk_wal_scan *scan, struct rk_fs *fs,
                                             const char *dir,
                                             struct rk_storage_error *error);
void rk_wal_scan_fini(struct rk_wal_scan *scan);
/* Finds from and to. RK_ECORRUPT: a segment is missing or none is whole. */
RK_MUST_CHECK enum rk_status rk_wal_scan_chain(struct rk_wal_scan *scan,
                                               struct rk_storage_error *error);
/* The whole file into out (reset first). */
RK_MUST_CHECK enum rk_status rk_wal_scan_load(const struct rk_wal_scan *scan,
                                              const struct rk_wal_scan_file *file,
                                              struct rk_buf *out,
                                              struct rk_storage_error *error);

/* The file is the start of a segment of that sequence or a later one, torn, and says that
 * batch `next`, which is missing, was durable: a segment is opened only then. */
static inline bool rk_wal_scan_is_proof(const struct rk_wal_scan_file *file,
                                        uint64_t sequence, uint64_t next)
{
    return file->has_head && file->head.sequence >= sequence &&
           file->head.first_batch > next;
}

void rk_wal_cursor_init(struct rk_wal_cursor *cursor, const struct rk_wal_scan *scan,
                        const struct rk_wal_segment_head *head, struct rk_slice bytes);
/* The next batch; *offset is where it stands. False at the end or at damage. */
bool rk_wal_cursor_next(struct rk_wal_cursor *cursor, struct rk_wal_batch_head *out,
                        uint64_t *offset);
/* Looks from cursor->offset on for batches of this life with sequence next or above. Only
 * whole ones are counted, and may have to be erased; for the proof a head will do.
 * RK_ENOMEM. out needs rk_buf_fini of its offsets. */
RK_MUST_CHECK enum rk_status rk_wal_cursor_leftover(const struct rk_wal_cursor *cursor,
                                                    struct rk_wal_leftover *out);
#endif
