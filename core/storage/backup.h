/* backup.h - a backup: the snapshots of all groups of a cluster in one file, between a
 * block that says of what, and one that says where each stands. docs/storage-format.md.
 *
 * Encoder: makes the blocks around the snapshots, whose bytes pass through it; no I/O. */
#ifndef RK_STORAGE_BACKUP_H
#define RK_STORAGE_BACKUP_H

#include "storage/snapshot.h"

enum {
    RK_BACKUP_VERSION = 1,
    RK_BACKUP_GROUPS_MAX = 256,
    RK_BACKUP_TEXT_MAX = 128, /* bytes of each text in the header */
};

struct rk_backup_header {
    uint64_t id; /* random: no two backups have the same */
    uint64_t cluster_high, cluster_low;
    uint64_t history;
    uint64_t saved_ms;    /* wall clock, since 1970 */
    uint32_t group_count; /* with group 0 */
    struct rk_slice cluster;
    struct rk_slice node;    /* that wrote it */
    struct rk_slice program; /* and its version */
};

struct rk_backup_part {
    uint64_t index;
    uint64_t term;
    uint64_t bytes;
    uint32_t crc;
};

struct rk_backup_encoder {
    struct rk_backup_part parts[RK_BACKUP_GROUPS_MAX];
    uint64_t id;
    uint64_t bytes; /* so far */
    uint32_t group_count;
    uint32_t part_count;
    uint32_t chain;
};

/* Appends the first block to out. RK_ENOMEM; RK_ESIZE: too many groups or too long a text.
 */
RK_MUST_CHECK enum rk_status rk_backup_begin(struct rk_backup_encoder *encoder,
                                             const struct rk_backup_header *header,
                                             struct rk_buf *out);
/* The next group's snapshot file follows, in order of groups (asserted), as any number of
 * pieces. */
void rk_backup_part(struct rk_backup_encoder *encoder, struct rk_snapshot_id id);
void rk_backup_bytes(struct rk_backup_encoder *encoder, struct rk_slice bytes);
/* Appends the last block to out, after all groups (asserted). RK_ENOMEM. */
RK_MUST_CHECK enum rk_status rk_backup_end(struct rk_backup_encoder *encoder,
                                           struct rk_buf *out);

/* Reader. */

struct rk_backup_reader;

/* Reads and checks the first and the last block, nothing between. RK_ENOENT; RK_EPROTO:
 * a newer format; RK_ECORRUPT: error names file and offset; RK_EIO, RK_ENOMEM. */
RK_MUST_CHECK enum rk_status rk_backup_reader_open(struct rk_backup_reader **out,
                                                   struct rk_fs *fs, const char *path,
                                                   struct rk_storage_error *error);
void rk_backup_reader_free(struct rk_backup_reader *reader); /* NULL is fine */
/* Lent until free. */
const struct rk_backup_header *
rk_backup_reader_header(const struct rk_backup_reader *reader);
const struct rk_backup_part *rk_backup_reader_part(const struct rk_backup_reader *reader,
                                                   uint32_t group);
/* Of all that the backup holds; never 0. Copies of one backup have the same. */
uint64_t rk_backup_reader_digest(const struct rk_backup_reader *reader);
uint64_t rk_backup_reader_size(const struct rk_backup_reader *reader);
/* The group's snapshot, to be read with rk_snapshot_reader_next and freed; at its end
 * rk_backup_snapshot_check must be asked, too. */
RK_MUST_CHECK enum rk_status rk_backup_snapshot_open(const struct rk_backup_reader *reader,
                                                     struct rk_snapshot_reader **out,
                                                     uint32_t group,
                                                     struct rk_storage_error *error);
/* RK_ECORRUPT: it is another snapshot than the last block says. */
RK_MUST_CHECK enum rk_status
rk_backup_snapshot_check(const struct rk_backup_reader *reader, uint32_t group,
                         const struct rk_snapshot_reader *snapshot,
                         struct rk_storage_error *error);

/* Whether the file begins like a backup. */
bool rk_backup_is_one(struct rk_fs *fs, const char *path);
/* Copies the backup to dir/name: to dir/name.tmp, datasync, rename, sync of the folder.
 * RK_EEXIST: it is there. RK_EIO, RK_EFULL, RK_ENOMEM. */
RK_MUST_CHECK enum rk_status rk_backup_copy(struct rk_fs *fs, const char *path,
                                            const char *dir, const char *name,
                                            struct rk_storage_error *error);
#endif
