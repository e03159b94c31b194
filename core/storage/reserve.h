/* reserve.h - a file of zeros that keeps some of the disk back, so that "full" is a refused
 * proposal long before it is a failed write of the log (rule 19).
 *
 * Levels: OK; LOW, the host refuses proposals that grow the state, while deletes, expiries,
 * Raft's own records and snapshots (which free log) go on; CRITICAL, the reserve itself
 * has been given back to the file system for those, and everything that can wait is
 * refused. The reserve is made again once twice its size is free. Disk thread only. */
#ifndef RK_STORAGE_RESERVE_H
#define RK_STORAGE_RESERVE_H

#include "storage/error.h"
#include "storage/fs.h"

enum {
    RK_RESERVE_DEFAULT = 32 << 20, /* bytes */
    RK_RESERVE_POLL_MS = 1000,     /* how often the host should poll */
};

enum rk_reserve_level {
    RK_RESERVE_OK = 0,
    RK_RESERVE_LOW = 1,
    RK_RESERVE_CRITICAL = 2,
};

struct rk_reserve {
    struct rk_fs *fs;
    char dir[RK_FS_PATH_MAX];
    char path[RK_FS_PATH_MAX];
    struct rk_file *file; /* while being filled */
    uint64_t size;
    uint64_t filled;
    bool is_taken; /* what there was of the file is known */
    enum rk_reserve_level level;
};

/* The file is dir/reserve; what is there of it is taken over. size 0: no reserve file,
 * levels by free space alone (LOW below 32 MiB, never CRITICAL). RK_ERANGE: of no use. The
 * file can not be opened (RK_EIO, RK_EDENIED ...): tried again with each poll. */
RK_MUST_CHECK enum rk_status rk_reserve_open(struct rk_reserve *reserve, struct rk_fs *fs,
                                             const char *dir, uint64_t size,
                                             struct rk_storage_error *error);
void rk_reserve_close(struct rk_reserve *reserve); /* the file stays */
/* Looks at the free space, works on the file (at most 1 MiB of writing a call) and gives
 * the level; is_refused: the log's filling or a snapshot met RK_EFULL since the last poll.
 * *out_more: call again soon. RK_EIO and what else the file system says: the file can not
 * be kept, *out is by the free space alone; or that can not be told, and *out is as it was,
 * LOW at least after a refusal. */
RK_MUST_CHECK enum rk_status rk_reserve_poll(struct rk_reserve *reserve, bool is_refused,
                                             enum rk_reserve_level *out, bool *out_more,
                                             struct rk_storage_error *error);
#endif
