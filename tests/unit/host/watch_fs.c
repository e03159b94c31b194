#include "watch_fs.h"

#include <stdio.h>
#include <stdlib.h>

struct watch_file {
    struct rk_file file;
    struct rk_file *inner;
    bool is_watched;
};

static struct watch_fs *watch_of(struct rk_fs *fs)
{
    return (struct watch_fs *)(void *)fs;
}

static struct watch_file *file_of(struct rk_file *file)
{
    return (struct watch_file *)(void *)file;
}

static void note(struct watch_fs *watch, const char *what, const char *path)
{
    if (!watch->is_forbidden || watch->found[0] != '\0') return;
    (void)snprintf(watch->found, sizeof(watch->found), "%s %s", what, path);
}

static bool is_watched(const char *path)
{
    return strstr(path, "/snap") != NULL || strstr(path, "/backup") != NULL;
}

static void path_note(struct rk_fs *fs, const char *what, const char *path)
{
    if (is_watched(path)) note(watch_of(fs), what, path);
}

static void file_note(struct rk_file *file, const char *what)
{
    if (file_of(file)->is_watched) note(watch_of(file->fs), what, "an open file");
}

static enum rk_status wrap(struct rk_fs *fs, struct rk_file **out, struct rk_file *inner,
                           const char *path)
{
    struct watch_file *file = calloc(1, sizeof(*file));
    file->file.fs = fs;
    file->inner = inner;
    file->is_watched = is_watched(path);
    *out = &file->file;
    return RK_OK;
}

static enum rk_status on_open(struct rk_fs *fs, struct rk_file **out, const char *path,
                              unsigned flags)
{
    struct rk_fs *inner = watch_of(fs)->inner;
    struct rk_file *file = NULL;
    path_note(fs, "open", path);
    enum rk_status status = inner->open(inner, &file, path, flags);
    return status == RK_OK ? wrap(fs, out, file, path) : status;
}

static enum rk_status on_lock(struct rk_fs *fs, struct rk_file **out, const char *path)
{
    struct rk_fs *inner = watch_of(fs)->inner;
    struct rk_file *file = NULL;
    enum rk_status status = inner->lock(inner, &file, path);
    return status == RK_OK ? wrap(fs, out, file, path) : status;
}

static void on_close(struct rk_file *file)
{
    if (file == NULL) return;
    file_note(file, "close");
    struct rk_file *inner = file_of(file)->inner;
    inner->fs->close(inner);
    free(file_of(file));
}

static enum rk_status on_pread(struct rk_file *file, size_t *out, uint64_t offset,
                               void *data, size_t size)
{
    struct rk_file *inner = file_of(file)->inner;
    file_note(file, "read");
    return inner->fs->pread(inner, out, offset, data, size);
}

static enum rk_status on_pwrite(struct rk_file *file, uint64_t offset, const void *data,
                                size_t size)
{
    struct rk_file *inner = file_of(file)->inner;
    file_note(file, "write");
    return inner->fs->pwrite(inner, offset, data, size);
}

static enum rk_status on_datasync(struct rk_file *file)
{
    struct rk_file *inner = file_of(file)->inner;
    file_note(file, "sync");
    return inner->fs->datasync(inner);
}

static enum rk_status on_write_back(struct rk_file *file, uint64_t offset, uint64_t size)
{
    struct rk_file *inner = file_of(file)->inner;
    file_note(file, "write back");
    return inner->fs->write_back(inner, offset, size);
}

static enum rk_status on_size(struct rk_file *file, uint64_t *out)
{
    struct rk_file *inner = file_of(file)->inner;
    file_note(file, "ask the size of");
    return inner->fs->size(inner, out);
}

static enum rk_status on_truncate(struct rk_file *file, uint64_t size)
{
    struct rk_file *inner = file_of(file)->inner;
    file_note(file, "truncate");
    return inner->fs->truncate(inner, size);
}

static enum rk_status on_sync_dir(struct rk_fs *fs, const char *path)
{
    struct rk_fs *inner = watch_of(fs)->inner;
    path_note(fs, "sync", path);
    return inner->sync_dir(inner, path);
}

static enum rk_status on_rename(struct rk_fs *fs, const char *from, const char *to)
{
    struct rk_fs *inner = watch_of(fs)->inner;
    path_note(fs, "rename", from);
    return inner->rename(inner, from, to);
}

static enum rk_status on_unlink(struct rk_fs *fs, const char *path)
{
    struct rk_fs *inner = watch_of(fs)->inner;
    path_note(fs, "remove", path);
    return inner->unlink(inner, path);
}

static enum rk_status on_mkdir(struct rk_fs *fs, const char *path)
{
    struct rk_fs *inner = watch_of(fs)->inner;
    path_note(fs, "make", path);
    return inner->mkdir(inner, path);
}

static enum rk_status on_list(struct rk_fs *fs, const char *path, rk_fs_list_each each,
                              void *context)
{
    struct rk_fs *inner = watch_of(fs)->inner;
    path_note(fs, "list", path);
    return inner->list(inner, path, each, context);
}

static enum rk_status on_space(struct rk_fs *fs, struct rk_fs_space *out, const char *path)
{
    struct rk_fs *inner = watch_of(fs)->inner;
    path_note(fs, "ask for space in", path);
    return inner->space(inner, out, path);
}

void watch_fs_init(struct watch_fs *watch, struct rk_fs *inner)
{
    static const struct rk_fs table = {
        .open = on_open,
        .close = on_close,
        .pread = on_pread,
        .pwrite = on_pwrite,
        .datasync = on_datasync,
        .write_back = on_write_back,
        .size = on_size,
        .truncate = on_truncate,
        .sync_dir = on_sync_dir,
        .rename = on_rename,
        .unlink = on_unlink,
        .mkdir = on_mkdir,
        .list = on_list,
        .space = on_space,
        .lock = on_lock,
    };
    memset(watch, 0, sizeof(*watch));
    watch->fs = table;
    watch->inner = inner;
}
