/* memfs_private.h - the disk in memory below its file-system table. */
#ifndef RK_STORAGE_MEMFS_PRIVATE_H
#define RK_STORAGE_MEMFS_PRIVATE_H

#include "base/random.h"
#include "storage/memfs.h"

/* What a sector held when the file was last synced. */
struct saved {
    uint64_t sector;
    uint8_t bytes[RK_MEMFS_SECTOR];
};

struct inode {
    uint32_t references; /* names, durable names, pending steps and open files */
    bool is_dir;
    bool is_locked;
    uint8_t *data;
    uint64_t size;
    uint64_t capacity;
    uint64_t durable_size;
    uint8_t *dirty; /* one a sector of capacity */
    struct saved *saved;
    uint32_t saved_count;
    uint32_t saved_capacity;
};

struct name {
    char *path;
    struct inode *inode;
};

struct names {
    struct name *list;
    uint32_t count;
    uint32_t capacity;
};

/* A change of a folder that is not synced: path now means inode (NULL: it is gone). A
 * rename is two steps that survive together. */
struct step {
    char *path;
    struct inode *inode;
    bool has_follower;
};

struct rk_memfs {
    struct rk_fs fs;
    struct rk_random random;
    struct names names;   /* as seen now */
    struct names durable; /* as after a crash */
    struct step *steps;
    uint32_t step_count;
    uint32_t step_capacity;
    uint64_t epoch; /* raised by a crash: files opened before fail */
    uint64_t ops;
    uint64_t fail_at;
    enum rk_status fail_status;
    bool is_fail_sticky;
    uint64_t crash_at;
    bool is_down;
    uint64_t capacity;
    uint64_t read_flips;
    uint64_t sync_us;
    uint64_t write_us_per_kib;
    uint64_t cost_us;
    uint64_t cost_bytes;
};

/* Counted by names, durable names, steps and open files. NULL is fine. */
void rk_memfs_inode_release(struct inode *inode);
struct inode *rk_memfs_inode_retain(struct inode *inode);
/* Room for size bytes, zeros behind the end. RK_ENOMEM. */
enum rk_status rk_memfs_inode_reserve(struct inode *inode, uint64_t size);
/* Writes, remembering what the sectors held when last synced. RK_ENOMEM. */
enum rk_status rk_memfs_inode_write(struct inode *inode, uint64_t offset, const void *data,
                                    size_t size);
/* All of it is durable now. */
void rk_memfs_inode_settle(struct inode *inode);
/* Decides what of the unsynced content survives. */
void rk_memfs_inode_crash(struct rk_memfs *memfs, struct inode *inode,
                          enum rk_memfs_crash_mode mode);
/* A copy with nothing unsynced, with one reference; NULL without memory. */
struct inode *rk_memfs_inode_clone(const struct inode *from);

struct name *rk_memfs_names_find(const struct names *names, const char *path);
/* path means inode from now on; NULL removes it. RK_ENOMEM. */
enum rk_status rk_memfs_names_set(struct names *names, const char *path,
                                  struct inode *inode);
void rk_memfs_names_fini(struct names *names);
enum rk_status rk_memfs_names_copy(struct names *to, const struct names *from);
bool rk_memfs_is_in_dir(const char *path, const char *dir);

/* Changes a name, not durably. RK_ENOMEM. */
enum rk_status rk_memfs_step_add(struct rk_memfs *memfs, const char *path,
                                 struct inode *inode, bool has_follower);
/* Makes the first `count` steps durable, those of dir only if dir is not NULL. */
enum rk_status rk_memfs_steps_settle(struct rk_memfs *memfs, uint32_t count,
                                     const char *dir);
void rk_memfs_steps_drop(struct rk_memfs *memfs);
#endif
