/* wal_private.h - the inside of the write-ahead log, shared by its own sources. */
#ifndef RK_STORAGE_WAL_PRIVATE_H
#define RK_STORAGE_WAL_PRIVATE_H

#include "base/list.h"
#include "storage/wal_state.h"

/* One file, through its lives. */
struct rk_wal_segment {
    struct rk_list link; /* in used or spare */
    struct rk_file *file;
    uint64_t sequence; /* of this life; 0: a spare one */
    uint64_t size;
    uint64_t first_batch;
    uint32_t salt;
    uint32_t number;                  /* in the file's name */
    uint64_t last[RK_WAL_GROUPS_MAX]; /* highest entry of each group that stands here */
    char path[RK_FS_PATH_MAX];
};

/* The next segment while it is filled with zeros. */
struct rk_wal_fill {
    struct rk_wal_segment *segment; /* NULL: none under way */
    uint64_t size;
    uint64_t done;
};

struct rk_wal {
    struct rk_fs *fs;
    char dir[RK_FS_PATH_MAX];
    struct rk_wal_options options;
    uint64_t id;
    struct rk_wal_state state;
    struct rk_list used;  /* oldest first; the last one is written to */
    struct rk_list spare; /* ready to be opened */
    uint32_t used_count;
    uint32_t spare_count;
    uint32_t next_number;
    uint32_t group_end; /* 1 + the highest group seen */
    uint64_t used_bytes;
    uint64_t spare_bytes;
    uint64_t offset;       /* in the current segment, of the next batch */
    uint64_t next;         /* sequence of the next batch */
    uint64_t durable;      /* last synced batch */
    uint64_t oldest;       /* sequence of the oldest segment that is needed */
    uint64_t oldest_noted; /* as a durable batch says: older files may be used again */
    uint64_t live_bytes;
    uint64_t last_written;
    bool needs_note; /* the last batch is not yet vouched for by a later one */
    bool is_failed;
    struct rk_wal_fill fill;
    struct rk_buf opening; /* head and opening batch of a new segment */
    uint8_t *zeros;
    struct rk_wal_stats stats;
};

enum { RK_WAL_ZEROS = 1 << 20 };

static inline struct rk_wal_segment *rk_wal_segment_of(struct rk_list *link)
{
    return RK_CONTAINER(link, struct rk_wal_segment, link);
}
static inline struct rk_wal_segment *rk_wal_current(const struct rk_wal *wal)
{
    return rk_wal_segment_of(wal->used.prev);
}

/* wal_segment.c */

/* "00000012.wal" in the folder. */
RK_MUST_CHECK enum rk_status rk_wal_segment_path(const struct rk_wal *wal,
                                                 char out[RK_FS_PATH_MAX], uint32_t number);
void rk_wal_segment_free(struct rk_wal *wal, struct rk_wal_segment *segment);
void rk_wal_add_spare(struct rk_wal *wal, struct rk_wal_segment *segment);
/* Writes up to `bytes` of zeros to the next segment, beginning one if none is under way; a
 * finished one is spare. RK_EFULL: given up, nothing is left. */
RK_MUST_CHECK enum rk_status rk_wal_fill_step(struct rk_wal *wal, uint64_t bytes,
                                              struct rk_storage_error *error);
/* Begins the next segment: its head and opening batch are written, not synced. */
RK_MUST_CHECK enum rk_status rk_wal_roll(struct rk_wal *wal,
                                         struct rk_storage_error *error);
/* Makes files that recovery no longer needs spare. */
void rk_wal_recycle(struct rk_wal *wal);
/* Finds the oldest segment that is needed. */
void rk_wal_find_oldest(struct rk_wal *wal);
/* Removes one spare file above the bound. */
RK_MUST_CHECK enum rk_status rk_wal_shrink(struct rk_wal *wal, bool *out_removed,
                                           struct rk_storage_error *error);
uint64_t rk_wal_limit(const struct rk_wal *wal, uint64_t live_bytes);

/* wal.c */

/* Keeps the writer's picture: the batch stands in `segment`. RK_EINVAL, RK_ENOMEM. */
RK_MUST_CHECK enum rk_status rk_wal_take_items(struct rk_wal *wal,
                                               const struct rk_wal_batch *batch,
                                               struct rk_wal_segment *segment,
                                               struct rk_storage_error *error);
/* Tells the runs where they are: the batch begins at offset of segment. */
void rk_wal_place_runs(struct rk_wal_batch *batch, struct rk_wal_segment *segment,
                       uint64_t offset);

/* wal_open.c */

/* A log object without files. NULL without memory. */
struct rk_wal *rk_wal_alloc(struct rk_fs *fs, const char *dir,
                            const struct rk_wal_options *options);
#endif
