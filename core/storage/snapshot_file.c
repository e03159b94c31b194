#include "base/alloc.h"
#include "base/mutant.h"
#include "storage/snapshot_format.h"

#include <inttypes.h>

enum { BACK_SIZE = 1 << 20 };

struct rk_snapshot_file {
    struct rk_fs *fs;
    struct rk_file *file;
    uint64_t size;
    uint64_t back_size; /* of it that was given to the device */
    char dir[RK_FS_PATH_MAX];
    char path[RK_FS_PATH_MAX];
    char final[RK_FS_PATH_MAX];
};

static enum rk_status fail(struct rk_storage_error *error, enum rk_status status,
                           const char *path, const char *what)
{
    return rk_storage_fail(error, status, "%s: %s: %s", path, what, rk_status_text(status));
}

/* A large file does not wait in memory for its end: whoever syncs then, the log above all,
 * would wait for all of it. */
static enum rk_status write_back(struct rk_file *file, uint64_t *back_size, uint64_t size)
{
    if (size - *back_size < BACK_SIZE) return RK_OK;
    uint64_t from = *back_size;
    *back_size = size;
    return file->fs->write_back(file, from, size - from);
}

enum rk_status rk_snapshot_file_create(struct rk_snapshot_file **out, struct rk_fs *fs,
                                       const char *dir, struct rk_snapshot_id id,
                                       struct rk_storage_error *error)
{
    struct rk_snapshot_file *file = rk_calloc(1, sizeof(*file));
    if (file == NULL) return fail(error, RK_ENOMEM, dir, "no memory for a snapshot");
    file->fs = fs;
    enum rk_status status = rk_snapshot_path(file->path, dir, id, RK_SNAPSHOT_TMP);
    if (status == RK_OK) status = rk_snapshot_path(file->final, dir, id, RK_SNAPSHOT_FINAL);
    if (status == RK_OK) memcpy(file->dir, dir, strlen(dir) + 1);
    if (status == RK_OK) status = rk_fs_make_dir(fs, dir);
    if (status == RK_OK)
        status = fs->open(fs, &file->file, file->path,
                          RK_FS_WRITE | RK_FS_CREATE | RK_FS_TRUNCATE);
    if (status != RK_OK) {
        fail(error, status, file->path, "cannot be created");
        rk_free(file);
        return status;
    }
    *out = file;
    return RK_OK;
}

enum rk_status rk_snapshot_file_write(struct rk_snapshot_file *file,
                                      const struct rk_snapshot_block *block,
                                      struct rk_storage_error *error)
{
    if (block->bytes.size == 0) return RK_OK;
    enum rk_status status =
        file->fs->pwrite(file->file, file->size, block->bytes.data, block->bytes.size);
    if (status != RK_OK) return fail(error, status, file->path, "cannot be written");
    file->size += block->bytes.size;
    status = write_back(file->file, &file->back_size, file->size);
    if (status != RK_OK) fail(error, status, file->path, "cannot be written");
    return status;
}

void rk_snapshot_file_abort(struct rk_snapshot_file *file)
{
    if (file == NULL) return;
    file->fs->close(file->file);
    (void)file->fs->unlink(file->fs, file->path);
    rk_free(file);
}

enum rk_status rk_snapshot_file_finish(struct rk_snapshot_file *file,
                                       struct rk_storage_error *error)
{
    struct rk_fs *fs = file->fs;
    enum rk_status status =
        RK_MUTANT(snapshot_not_synced) ? RK_OK : fs->datasync(file->file);
    if (status == RK_OK) status = fs->rename(fs, file->path, file->final);
    if (status != RK_OK) {
        fail(error, status, file->path, "cannot be finished");
        rk_snapshot_file_abort(file);
        return status;
    }
    status = RK_MUTANT(snapshot_name_not_synced) ? RK_OK : fs->sync_dir(fs, file->dir);
    if (status != RK_OK) fail(error, status, file->dir, "cannot be synced");
    fs->close(file->file);
    rk_free(file);
    return status;
}

struct rk_snapshot_source {
    struct rk_fs *fs;
    struct rk_file *file;
};

enum rk_status rk_snapshot_source_open(struct rk_snapshot_source **out, uint64_t *out_size,
                                       struct rk_fs *fs, const char *dir,
                                       struct rk_snapshot_id id,
                                       struct rk_storage_error *error)
{
    char path[RK_FS_PATH_MAX];
    enum rk_status status = rk_snapshot_path(path, dir, id, RK_SNAPSHOT_FINAL);
    if (status != RK_OK) return fail(error, status, dir, "path too long");
    struct rk_snapshot_source *source = rk_calloc(1, sizeof(*source));
    if (source == NULL) return fail(error, RK_ENOMEM, path, "no memory to read it");
    source->fs = fs;
    status = fs->open(fs, &source->file, path, 0);
    if (status == RK_OK) status = fs->size(source->file, out_size);
    if (status != RK_OK) {
        rk_snapshot_source_free(source);
        return fail(error, status, path, "cannot be opened");
    }
    *out = source;
    return RK_OK;
}

enum rk_status rk_snapshot_source_read(struct rk_snapshot_source *source, size_t *out,
                                       uint64_t offset, void *data, size_t size)
{
    return source->fs->pread(source->file, out, offset, data, size);
}

void rk_snapshot_source_free(struct rk_snapshot_source *source)
{
    if (source == NULL) return;
    source->fs->close(source->file);
    rk_free(source);
}

/* What rk_snapshot_clean and the sink remove. */
struct cleaning {
    struct rk_fs *fs;
    const char *dir;
    struct rk_snapshot_id keep;
    bool keep_newer;
    bool remove_final;
    bool remove_tmp;
    bool remove_received;
    bool has_removed;
};

static enum rk_status clean_each(void *context, const char *name)
{
    struct cleaning *cleaning = context;
    struct rk_snapshot_id id;
    enum rk_snapshot_suffix suffix;
    if (!rk_snapshot_name_parse(name, &id, &suffix) || id.group != cleaning->keep.group)
        return RK_OK;
    bool is_kept = (id.index == cleaning->keep.index && id.term == cleaning->keep.term) ||
                   (cleaning->keep_newer && id.index > cleaning->keep.index);
    bool is_removed = suffix == RK_SNAPSHOT_TMP    ? cleaning->remove_tmp
                      : suffix == RK_SNAPSHOT_RECV ? cleaning->remove_received && !is_kept
                                                   : cleaning->remove_final && !is_kept;
    if (!is_removed) return RK_OK;
    char path[RK_FS_PATH_MAX];
    enum rk_status status = rk_fs_join(path, cleaning->dir, name);
    if (status == RK_OK) status = cleaning->fs->unlink(cleaning->fs, path);
    if (status == RK_OK) cleaning->has_removed = true;
    return status == RK_ENOENT ? RK_OK : status;
}

static enum rk_status clean(struct cleaning *cleaning)
{
    struct rk_fs *fs = cleaning->fs;
    enum rk_status status = fs->list(fs, cleaning->dir, clean_each, cleaning);
    if (status == RK_ENOENT) return RK_OK;
    if (status == RK_OK && cleaning->has_removed) status = fs->sync_dir(fs, cleaning->dir);
    return status;
}

enum rk_status rk_snapshot_clean(struct rk_fs *fs, const char *dir,
                                 const struct rk_snapshot_clean *options)
{
    struct cleaning cleaning = {
        .fs = fs,
        .dir = dir,
        .keep = options->keep,
        .keep_newer = options->keep_newer,
        .remove_final = true,
        .remove_tmp = true,
        .remove_received = options->remove_received,
    };
    return clean(&cleaning);
}

struct rk_snapshot_sink {
    struct rk_fs *fs;
    struct rk_file *file;
    struct rk_snapshot_id id;
    uint64_t size;
    uint64_t back_size;
    char dir[RK_FS_PATH_MAX];
    char path[RK_FS_PATH_MAX];
    char final[RK_FS_PATH_MAX];
};

enum rk_status rk_snapshot_sink_open(struct rk_snapshot_sink **out, struct rk_fs *fs,
                                     const char *dir, struct rk_snapshot_id id,
                                     struct rk_storage_error *error)
{
    struct rk_snapshot_sink *sink = rk_calloc(1, sizeof(*sink));
    if (sink == NULL) return fail(error, RK_ENOMEM, dir, "no memory to receive");
    sink->fs = fs;
    sink->id = id;
    enum rk_status status = rk_snapshot_path(sink->path, dir, id, RK_SNAPSHOT_RECV);
    if (status == RK_OK) status = rk_snapshot_path(sink->final, dir, id, RK_SNAPSHOT_FINAL);
    if (status == RK_OK) memcpy(sink->dir, dir, strlen(dir) + 1);
    if (status == RK_OK) status = rk_fs_make_dir(fs, dir);
    struct cleaning cleaning = {.fs = fs, .dir = dir, .keep = id, .remove_received = true};
    if (status == RK_OK) status = clean(&cleaning);
    if (status == RK_OK)
        status = fs->open(fs, &sink->file, sink->path, RK_FS_WRITE | RK_FS_CREATE);
    if (status == RK_OK) status = fs->size(sink->file, &sink->size);
    sink->back_size = sink->size;
    if (status != RK_OK) {
        fail(error, status, sink->path, "cannot be opened");
        rk_snapshot_sink_free(sink);
        return status;
    }
    *out = sink;
    return RK_OK;
}

uint64_t rk_snapshot_sink_offset(const struct rk_snapshot_sink *sink)
{
    return sink->size;
}

enum rk_status rk_snapshot_sink_write(struct rk_snapshot_sink *sink, uint64_t offset,
                                      struct rk_slice bytes, struct rk_storage_error *error)
{
    if (offset > sink->size)
        return rk_storage_fail(error, RK_ERANGE,
                               "%s: bytes at offset %" PRIu64 " leave a gap after %" PRIu64,
                               sink->path, offset, sink->size);
    if (offset + bytes.size <= sink->size) return RK_OK;
    size_t skip = (size_t)(sink->size - offset);
    enum rk_status status =
        sink->fs->pwrite(sink->file, sink->size, bytes.data + skip, bytes.size - skip);
    if (status != RK_OK) return fail(error, status, sink->path, "cannot be written");
    sink->size = offset + bytes.size;
    status = write_back(sink->file, &sink->back_size, sink->size);
    if (status != RK_OK) fail(error, status, sink->path, "cannot be written");
    return status;
}

void rk_snapshot_sink_free(struct rk_snapshot_sink *sink)
{
    if (sink == NULL) return;
    sink->fs->close(sink->file);
    rk_free(sink);
}

enum rk_status rk_snapshot_sink_finish(struct rk_snapshot_sink *sink,
                                       struct rk_storage_error *error)
{
    struct rk_fs *fs = sink->fs;
    enum rk_status status = fs->datasync(sink->file);
    if (status != RK_OK) fail(error, status, sink->path, "cannot be synced");
    if (status == RK_OK)
        status = rk_snapshot_verify_path(fs, sink->path, sink->id, NULL, error);
    if (status == RK_ECORRUPT || status == RK_EPROTO) (void)fs->unlink(fs, sink->path);
    if (status == RK_OK) {
        status = fs->rename(fs, sink->path, sink->final);
        if (status == RK_OK) status = fs->sync_dir(fs, sink->dir);
        if (status != RK_OK) fail(error, status, sink->path, "cannot be named");
    }
    rk_snapshot_sink_free(sink);
    return status;
}
