#include "storage/fs.h"

#include "base/alloc.h"
#include "base/list.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

struct posix_file {
    struct rk_file file;
    int descriptor;
};

static enum rk_status status_of_errno(int number)
{
    switch (number) {
    case ENOENT: return RK_ENOENT;
    case EEXIST: return RK_EEXIST;
    case ENOSPC:
    case EDQUOT:
    case EFBIG: return RK_EFULL;
    case EACCES:
    case EPERM:
    case EROFS: return RK_EDENIED;
    case ENOMEM: return RK_ENOMEM;
    default: return RK_EIO;
    }
}

static int descriptor_of(struct rk_file *file)
{
    return RK_CONTAINER(file, struct posix_file, file)->descriptor;
}

static enum rk_status file_new(struct rk_fs *fs, struct rk_file **out, int descriptor)
{
    struct posix_file *file = rk_malloc(sizeof(*file));
    if (file == NULL) {
        (void)close(descriptor);
        return RK_ENOMEM;
    }
    *file = (struct posix_file){.file = {.fs = fs}, .descriptor = descriptor};
    *out = &file->file;
    return RK_OK;
}

static enum rk_status posix_open(struct rk_fs *fs, struct rk_file **out, const char *path,
                                 unsigned flags)
{
    int bits = O_CLOEXEC | (flags & RK_FS_WRITE ? O_RDWR : O_RDONLY);
    if (flags & RK_FS_CREATE) bits |= O_CREAT;
    if (flags & RK_FS_EXCLUSIVE) bits |= O_EXCL;
    if (flags & RK_FS_TRUNCATE) bits |= O_TRUNC;
    int descriptor;
    do
        descriptor = open(path, bits, 0640);
    while (descriptor < 0 && errno == EINTR);
    if (descriptor < 0) return status_of_errno(errno);
    return file_new(fs, out, descriptor);
}

static void posix_close(struct rk_file *file)
{
    if (file == NULL) return;
    struct posix_file *self = RK_CONTAINER(file, struct posix_file, file);
    (void)close(self->descriptor); /* what must be durable has been synced before */
    rk_free(self);
}

static enum rk_status posix_pread(struct rk_file *file, size_t *out, uint64_t offset,
                                  void *data, size_t size)
{
    size_t done = 0;
    while (done < size) {
        ssize_t count = pread(descriptor_of(file), (uint8_t *)data + done, size - done,
                              (off_t)(offset + done));
        if (count < 0 && errno == EINTR) continue;
        if (count < 0) return status_of_errno(errno);
        if (count == 0) break;
        done += (size_t)count;
    }
    *out = done;
    return RK_OK;
}

static enum rk_status posix_pwrite(struct rk_file *file, uint64_t offset, const void *data,
                                   size_t size)
{
    size_t done = 0;
    while (done < size) {
        ssize_t count = pwrite(descriptor_of(file), (const uint8_t *)data + done,
                               size - done, (off_t)(offset + done));
        if (count < 0 && errno == EINTR) continue;
        if (count < 0) return status_of_errno(errno);
        if (count == 0) return RK_EIO;
        done += (size_t)count;
    }
    return RK_OK;
}

/* Not repeated, whatever the error: after a failed sync the page may be lost and clean. */
static enum rk_status posix_datasync(struct rk_file *file)
{
    return fdatasync(descriptor_of(file)) == 0 ? RK_OK : status_of_errno(errno);
}

/* An error of the device that it meets is told here and nowhere else. Whatever else goes
 * wrong, in a sandbox without the call for one, costs only what it was to save. */
static enum rk_status posix_write_back(struct rk_file *file, uint64_t offset, uint64_t size)
{
    const unsigned how =
        SYNC_FILE_RANGE_WAIT_BEFORE | SYNC_FILE_RANGE_WRITE | SYNC_FILE_RANGE_WAIT_AFTER;
    if (sync_file_range(descriptor_of(file), (off_t)offset, (off_t)size, how) == 0)
        return RK_OK;
    bool is_lost = errno == EIO || errno == ENOSPC || errno == EDQUOT;
    return is_lost ? status_of_errno(errno) : RK_OK;
}

static enum rk_status posix_size(struct rk_file *file, uint64_t *out)
{
    struct stat info;
    if (fstat(descriptor_of(file), &info) != 0) return status_of_errno(errno);
    *out = (uint64_t)info.st_size;
    return RK_OK;
}

static enum rk_status posix_truncate(struct rk_file *file, uint64_t size)
{
    int result;
    do
        result = ftruncate(descriptor_of(file), (off_t)size);
    while (result != 0 && errno == EINTR);
    return result == 0 ? RK_OK : status_of_errno(errno);
}

static enum rk_status posix_sync_dir(struct rk_fs *fs, const char *path)
{
    (void)fs;
    int descriptor = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (descriptor < 0) return status_of_errno(errno);
    enum rk_status status = fsync(descriptor) == 0 ? RK_OK : status_of_errno(errno);
    (void)close(descriptor);
    return status;
}

static enum rk_status posix_rename(struct rk_fs *fs, const char *from, const char *to)
{
    (void)fs;
    return rename(from, to) == 0 ? RK_OK : status_of_errno(errno);
}

static enum rk_status posix_unlink(struct rk_fs *fs, const char *path)
{
    (void)fs;
    return unlink(path) == 0 ? RK_OK : status_of_errno(errno);
}

static enum rk_status posix_mkdir(struct rk_fs *fs, const char *path)
{
    (void)fs;
    return mkdir(path, 0750) == 0 ? RK_OK : status_of_errno(errno);
}

static enum rk_status posix_list(struct rk_fs *fs, const char *path, rk_fs_list_each each,
                                 void *context)
{
    (void)fs;
    DIR *dir = opendir(path);
    if (dir == NULL) return status_of_errno(errno);
    enum rk_status status = RK_OK;
    while (status == RK_OK) {
        errno = 0;
        struct dirent *entry = readdir(dir);
        if (entry == NULL) {
            if (errno != 0) status = status_of_errno(errno);
            break;
        }
        if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0)
            status = each(context, entry->d_name);
    }
    (void)closedir(dir);
    return status;
}

static enum rk_status posix_space(struct rk_fs *fs, struct rk_fs_space *out,
                                  const char *path)
{
    (void)fs;
    struct statvfs info;
    if (statvfs(path, &info) != 0) return status_of_errno(errno);
    out->total_bytes = (uint64_t)info.f_blocks * info.f_frsize;
    out->free_bytes = (uint64_t)info.f_bavail * info.f_frsize;
    return RK_OK;
}

static enum rk_status posix_lock(struct rk_fs *fs, struct rk_file **out, const char *path)
{
    int descriptor = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0640);
    if (descriptor < 0) return status_of_errno(errno);
    if (flock(descriptor, LOCK_EX | LOCK_NB) != 0) {
        enum rk_status status = errno == EWOULDBLOCK ? RK_EBUSY : status_of_errno(errno);
        (void)close(descriptor);
        return status;
    }
    return file_new(fs, out, descriptor);
}

struct rk_fs *rk_fs_posix(void)
{
    static const struct rk_fs posix = {
        .open = posix_open,
        .close = posix_close,
        .pread = posix_pread,
        .pwrite = posix_pwrite,
        .datasync = posix_datasync,
        .write_back = posix_write_back,
        .size = posix_size,
        .truncate = posix_truncate,
        .sync_dir = posix_sync_dir,
        .rename = posix_rename,
        .unlink = posix_unlink,
        .mkdir = posix_mkdir,
        .list = posix_list,
        .space = posix_space,
        .lock = posix_lock,
    };
    /* Callers hold it like any other table; nobody writes to a table. */
    return (struct rk_fs *)(uintptr_t)&posix;
}
