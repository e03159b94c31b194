/* fs.h - every system call that storage makes, behind one table.
 *
 * rk_fs_posix() is the real one. Tests and the simulator use memfs.h, which loses what
 * was not synced, tears writes, flips bits, fills up and fails. Statuses, everywhere:
 * RK_EIO any failure of the device or a call not listed; RK_EFULL no space or quota;
 * RK_ENOENT, RK_EEXIST, RK_EDENIED, RK_ENOMEM as their names say; RK_EBUSY a lock held by
 * another process. Paths are NUL-terminated and below RK_FS_PATH_MAX bytes.
 *
 * Threads: the table itself is constant. Different files may be used from different
 * threads; one file may be read by several threads and written by one at the same time
 * as long as their byte ranges differ. memfs is for one thread only. */
#ifndef RK_STORAGE_FS_H
#define RK_STORAGE_FS_H

#include "base/bytes.h"

enum { RK_FS_PATH_MAX = 1024, RK_FS_NAME_MAX = 255 };

enum rk_fs_flag {
    RK_FS_WRITE = 1,     /* read and write; without it read only */
    RK_FS_CREATE = 2,    /* make it if missing (mode 0640) */
    RK_FS_EXCLUSIVE = 4, /* with CREATE: RK_EEXIST if it is there */
    RK_FS_TRUNCATE = 8,  /* with WRITE: cut to 0 bytes */
};

struct rk_fs;

/* An open file; each implementation puts its own fields behind this head. */
struct rk_file {
    struct rk_fs *fs;
};

struct rk_fs_space {
    uint64_t total_bytes;
    uint64_t free_bytes; /* for this process, without what is kept for root */
};

/* Called for each name in a folder except "." and "..". Another status than RK_OK ends the
 * walk and becomes the result of `list`. */
typedef enum rk_status (*rk_fs_list_each)(void *context, const char *name);

struct rk_fs {
    /* *out is the caller's, to be given to `close`. */
    enum rk_status (*open)(struct rk_fs *fs, struct rk_file **out, const char *path,
                           unsigned flags);
    void (*close)(struct rk_file *file); /* NULL is fine; drops its lock; never syncs */
    /* *out: bytes read, below size only at the end of the file. Restarts after EINTR. */
    enum rk_status (*pread)(struct rk_file *file, size_t *out, uint64_t offset, void *data,
                            size_t size);
    /* All of it or an error; grows the file when it reaches past the end. */
    enum rk_status (*pwrite)(struct rk_file *file, uint64_t offset, const void *data,
                             size_t size);
    enum rk_status (*datasync)(struct rk_file *file); /* data and size; never retried */
    /* Those bytes go to the device now and are waited for, so that a later sync, of this or
     * another file, has less to wait for. Durable they are with the next datasync only.
     * Does nothing where the system cannot. RK_EIO, RK_EFULL: some of the file is lost. */
    enum rk_status (*write_back)(struct rk_file *file, uint64_t offset, uint64_t size);
    enum rk_status (*size)(struct rk_file *file, uint64_t *out);
    enum rk_status (*truncate)(struct rk_file *file, uint64_t size);
    enum rk_status (*sync_dir)(struct rk_fs *fs, const char *path);
    enum rk_status (*rename)(struct rk_fs *fs, const char *from, const char *to);
    enum rk_status (*unlink)(struct rk_fs *fs, const char *path);
    enum rk_status (*mkdir)(struct rk_fs *fs, const char *path); /* RK_EEXIST */
    enum rk_status (*list)(struct rk_fs *fs, const char *path, rk_fs_list_each each,
                           void *context);
    enum rk_status (*space)(struct rk_fs *fs, struct rk_fs_space *out, const char *path);
    /* Creates the file if needed and holds it for this process until close. RK_EBUSY. */
    enum rk_status (*lock)(struct rk_fs *fs, struct rk_file **out, const char *path);
};

/* The operating system's. One constant object, valid for ever. */
struct rk_fs *rk_fs_posix(void);

/* Helpers over any implementation. */

/* "dir/name" into out. RK_ERANGE: longer than RK_FS_PATH_MAX - 1. */
RK_MUST_CHECK enum rk_status rk_fs_join(char out[RK_FS_PATH_MAX], const char *dir,
                                        const char *name);
/* pread of exactly size bytes. RK_ECORRUPT: the file ends before. */
RK_MUST_CHECK enum rk_status rk_fs_read_full(struct rk_file *file, uint64_t offset,
                                             void *data, size_t size);
/* Appends the whole file to out. RK_ESIZE: more than max bytes. RK_ENOMEM. */
RK_MUST_CHECK enum rk_status rk_fs_read_file(struct rk_fs *fs, struct rk_buf *out,
                                             const char *path, size_t max);
/* Replaces dir/name atomically and durably: dir/name.tmp, datasync, rename, sync_dir. */
RK_MUST_CHECK enum rk_status rk_fs_write_file(struct rk_fs *fs, const char *dir,
                                              const char *name, struct rk_slice content);
/* mkdir that is content with an existing folder; the parent is synced. */
RK_MUST_CHECK enum rk_status rk_fs_make_dir(struct rk_fs *fs, const char *path);
#endif
