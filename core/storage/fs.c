#include "storage/fs.h"

#include <stdio.h>

enum rk_status rk_fs_join(char out[RK_FS_PATH_MAX], const char *dir, const char *name)
{
    int length = snprintf(out, RK_FS_PATH_MAX, "%s/%s", dir, name);
    return length < 0 || length >= RK_FS_PATH_MAX ? RK_ERANGE : RK_OK;
}

enum rk_status rk_fs_read_full(struct rk_file *file, uint64_t offset, void *data,
                               size_t size)
{
    size_t read = 0;
    enum rk_status status = file->fs->pread(file, &read, offset, data, size);
    if (status != RK_OK) return status;
    return read == size ? RK_OK : RK_ECORRUPT;
}

enum rk_status rk_fs_read_file(struct rk_fs *fs, struct rk_buf *out, const char *path,
                               size_t max)
{
    struct rk_file *file = NULL;
    enum rk_status status = fs->open(fs, &file, path, 0);
    if (status != RK_OK) return status;
    uint64_t size = 0;
    status = fs->size(file, &size);
    if (status != RK_OK) goto out;
    status = size > max ? RK_ESIZE : RK_ENOMEM;
    if (size > max || rk_buf_reserve(out, (size_t)size + 1) != RK_OK) goto out;
    size_t read = 0;
    status = fs->pread(file, &read, 0, out->data + out->size, (size_t)size);
    if (status == RK_OK) out->size += read;
out:
    fs->close(file);
    return status;
}

enum rk_status rk_fs_write_file(struct rk_fs *fs, const char *dir, const char *name,
                                struct rk_slice content)
{
    char path[RK_FS_PATH_MAX];
    char temporary[RK_FS_PATH_MAX];
    char name_tmp[RK_FS_NAME_MAX + 1];
    int length = snprintf(name_tmp, sizeof(name_tmp), "%s.tmp", name);
    if (length < 0 || (size_t)length >= sizeof(name_tmp)) return RK_ERANGE;
    enum rk_status status = rk_fs_join(path, dir, name);
    if (status == RK_OK) status = rk_fs_join(temporary, dir, name_tmp);
    if (status != RK_OK) return status;

    struct rk_file *file = NULL;
    status = fs->open(fs, &file, temporary, RK_FS_WRITE | RK_FS_CREATE | RK_FS_TRUNCATE);
    if (status != RK_OK) return status;
    if (content.size > 0) status = fs->pwrite(file, 0, content.data, content.size);
    if (status == RK_OK) status = fs->datasync(file);
    fs->close(file);
    if (status == RK_OK) status = fs->rename(fs, temporary, path);
    if (status != RK_OK) {
        (void)fs->unlink(fs, temporary);
        return status;
    }
    return fs->sync_dir(fs, dir);
}

enum rk_status rk_fs_make_dir(struct rk_fs *fs, const char *path)
{
    enum rk_status status = fs->mkdir(fs, path);
    if (status == RK_EEXIST) return RK_OK;
    if (status != RK_OK) return status;
    char parent[RK_FS_PATH_MAX];
    size_t length = strlen(path);
    while (length > 1 && path[length - 1] == '/')
        length--;
    while (length > 0 && path[length - 1] != '/')
        length--;
    while (length > 1 && path[length - 1] == '/')
        length--;
    if (length >= sizeof(parent)) return RK_ERANGE;
    memcpy(parent, path, length);
    parent[length] = '\0';
    return fs->sync_dir(fs, length == 0 ? "." : parent);
}
