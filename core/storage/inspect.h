/* inspect.h - prints and verifies a data folder without changing it. */
#ifndef RK_STORAGE_INSPECT_H
#define RK_STORAGE_INSPECT_H

#include "storage/wal.h"

struct rk_storage_inspect_options {
    uint32_t struct_size;
    bool has_batches; /* one line a batch */
    bool has_records; /* one line a record, too */
    int64_t group;    /* only records of this group; -1: all */
};
void rk_storage_inspect_options_init(struct rk_storage_inspect_options *options);

/* Appends text (lines ending in \n) to out: segments in order with their batches, each
 * group's state as of the end, snapshots with their checks, and every fault found.
 * wal_dir and snapshot_dir as given to rk_wal_open and the snapshot functions; a missing
 * snapshot_dir is fine. *out_faults: how many faults (a torn tail is none).
 * RK_OK also with faults. RK_ENOENT: no log there. RK_EIO, RK_ENOMEM, RK_EPROTO. */
RK_MUST_CHECK enum rk_status
rk_storage_inspect(struct rk_fs *fs, const char *wal_dir, const char *snapshot_dir,
                   const struct rk_storage_inspect_options *options, struct rk_buf *out,
                   uint64_t *out_faults, struct rk_storage_error *error);
#endif
