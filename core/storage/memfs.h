/* memfs.h - a disk in memory that misbehaves on request, for tests and the simulator.
 *
 * What a crash does: each 512-byte sector written since the file's last datasync is, by the
 * seed, kept, lost or torn in the middle; a size that grew unsynced is kept or lost; names
 * created, renamed or removed since the folder's last sync_dir survive as a prefix of
 * their order. One thread only. Linked by tests alone (target rk_memfs). */
#ifndef RK_STORAGE_MEMFS_H
#define RK_STORAGE_MEMFS_H

#include "storage/fs.h"

enum { RK_MEMFS_SECTOR = 512 };

struct rk_memfs;

enum rk_memfs_crash_mode {
    RK_MEMFS_CRASH_RANDOM,   /* by seed: sectors kept, lost or torn */
    RK_MEMFS_CRASH_LOSE_ALL, /* nothing unsynced survives */
    RK_MEMFS_CRASH_KEEP_ALL, /* all of it survives, as after kill -9 */
};

/* NULL without memory. */
struct rk_memfs *rk_memfs_new(uint64_t seed);
void rk_memfs_free(struct rk_memfs *memfs); /* all files must be closed */
/* The table to hand to storage; lives as long as memfs. */
struct rk_fs *rk_memfs_fs(struct rk_memfs *memfs);

/* Power failure now: unsynced state is decided by mode, locks are gone. Every file that is
 * open stays open but fails with RK_EIO until it is closed; new opens work. */
void rk_memfs_crash(struct rk_memfs *memfs, enum rk_memfs_crash_mode mode);

/* Operations are counted from 1: open, pwrite, datasync, write_back, truncate,
 * sync_dir, rename, unlink, mkdir, lock. Reads, size and list are not counted. */
uint64_t rk_memfs_op_count(const struct rk_memfs *memfs);
/* Counted operation number `at` (of all since new) fails with status and does nothing, or a
 * pwrite does part of its work; once, or for ever if is_sticky. at 0 switches it off. */
void rk_memfs_fail_at(struct rk_memfs *memfs, uint64_t at, enum rk_status status,
                      bool is_sticky);
/* At operation number `at` power fails: the operation is done partly by the seed, it and
 * all later ones give RK_EIO, opens too, until rk_memfs_restart. at 0 switches it off. */
void rk_memfs_crash_at(struct rk_memfs *memfs, uint64_t at);
bool rk_memfs_is_down(const struct rk_memfs *memfs);
/* Decides what survived (see rk_memfs_crash) and takes operations again. */
void rk_memfs_restart(struct rk_memfs *memfs, enum rk_memfs_crash_mode mode);

/* Bytes for all files; beyond it RK_EFULL. 0: no bound. */
void rk_memfs_set_capacity(struct rk_memfs *memfs, uint64_t bytes);
/* Flips one bit of the durable and the current content. RK_ENOENT, RK_ERANGE. */
RK_MUST_CHECK enum rk_status rk_memfs_flip(struct rk_memfs *memfs, const char *path,
                                           uint64_t offset, unsigned bit);
/* Each pread has one in `per` chances to deliver one flipped bit; 0 switches it off. */
void rk_memfs_set_read_flips(struct rk_memfs *memfs, uint64_t per);

/* Cost of operations on the simulated clock: each datasync and sync_dir, and each KiB
 * written. rk_memfs_take_cost_us gives and clears what has added up. */
void rk_memfs_set_cost(struct rk_memfs *memfs, uint64_t sync_us, uint64_t write_us_per_kib);
uint64_t rk_memfs_take_cost_us(struct rk_memfs *memfs);

/* A copy of the disk as it is now with nothing unsynced (files open in the source are not
 * open in it). NULL without memory. */
struct rk_memfs *rk_memfs_clone(const struct rk_memfs *memfs);
/* Bytes that all files hold. */
uint64_t rk_memfs_used(const struct rk_memfs *memfs);
#endif
