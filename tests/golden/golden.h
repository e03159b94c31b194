/* golden.h - what a release recorded: logs, snapshots and a node's folder as files, and
 * `expected`, one line a fact. The recorder writes them, the test reads them for ever. */
#ifndef RK_TEST_GOLDEN_GOLDEN_H
#define RK_TEST_GOLDEN_GOLDEN_H

#include "base/bytes.h"
#include "storage/snapshot.h"

enum {
    GOLDEN_GROUPS = 2,        /* logs recorded: group 0 and a data group */
    GOLDEN_CHECK_ENTRIES = 8, /* entries between two hashes in `expected` */
    GOLDEN_SNAPSHOT_TERM = 3,
    GOLDEN_FILE_MAX = 1 << 22,
    GOLDEN_NODE_GROUPS = 3, /* of the recorded node, with group 0 */
};

/* Bytes with their zeros left out: varint size, then until it is reached varint zeros, blob
 * bytes. Logs and snapshots stand so in their files, all of a folder's files in one. */
void golden_pack_bytes(struct rk_buf *out, struct rk_slice bytes);
RK_MUST_CHECK enum rk_status golden_unpack_bytes(struct rk_buf *out,
                                                 struct rk_reader *reader);

/* A log: "RKGL", u8 1, varint group, varint count, then count blobs: the data of the
 * entries from index 1 on. */
void golden_log_begin(struct rk_buf *out, uint32_t group, uint64_t count);
RK_MUST_CHECK enum rk_status golden_log_open(struct rk_reader *reader, struct rk_slice file,
                                             uint32_t *group, uint64_t *count);

/* A folder: "RKGF", u8 1, varint count of files; each: blob path, its bytes packed. Folders
 * within it stand by their files. */
RK_MUST_CHECK enum rk_status golden_pack(struct rk_buf *out, struct rk_fs *fs,
                                         const char *const *folders, size_t folder_count);
RK_MUST_CHECK enum rk_status golden_unpack(struct rk_fs *fs, struct rk_slice packed);

/* What the log and the snapshots of a node's folder hold of one group. */
struct golden_node_group {
    uint64_t first, last; /* entries in the log */
    uint64_t digest;      /* of them, of term, vote, commit and the snapshot's place */
    uint64_t hash;        /* of the state: the snapshot, and the entries after it */
};
/* Opens data/wal and data/snap on fs. *node: digest of the node's own record. */
RK_MUST_CHECK enum rk_status
golden_node_read(struct rk_fs *fs, struct golden_node_group out[GOLDEN_NODE_GROUPS],
                 uint64_t *node, struct rk_storage_error *error);
/* Loads dir/<name of id> into a new machine. */
struct rk_machine;
RK_MUST_CHECK enum rk_status golden_restore(struct rk_machine **out, struct rk_fs *fs,
                                            const char *dir, struct rk_snapshot_id id,
                                            struct rk_storage_error *error);
#endif
