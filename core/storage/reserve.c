#include "storage/reserve.h"

#include "base/mutant.h"

#include <inttypes.h>

enum { STEP = 1 << 20, ZEROS = 64 << 10 };

static const uint8_t zeros[ZEROS];

static enum rk_status fail(const struct rk_reserve *reserve, enum rk_status status,
                           struct rk_storage_error *error)
{
    return rk_storage_fail(error, status, "%s: %s", reserve->path, rk_status_text(status));
}

/* What is there of the file from an earlier life. */
static enum rk_status take_over(struct rk_reserve *reserve, struct rk_storage_error *error)
{
    struct rk_fs *fs = reserve->fs;
    if (reserve->is_taken || reserve->size == 0) return RK_OK;
    enum rk_status status = fs->open(fs, &reserve->file, reserve->path, RK_FS_WRITE);
    if (status == RK_OK) status = fs->size(reserve->file, &reserve->filled);
    if (status != RK_OK && status != RK_ENOENT) {
        rk_reserve_close(reserve);
        reserve->filled = 0;
        return fail(reserve, status, error);
    }
    if (reserve->filled > reserve->size) reserve->filled = reserve->size;
    reserve->is_taken = true;
    return RK_OK;
}

enum rk_status rk_reserve_open(struct rk_reserve *reserve, struct rk_fs *fs,
                               const char *dir, uint64_t size,
                               struct rk_storage_error *error)
{
    *reserve = (struct rk_reserve){.fs = fs, .size = size};
    enum rk_status status = rk_fs_join(reserve->path, dir, "reserve");
    if (status != RK_OK) return rk_storage_fail(error, status, "%s: path too long", dir);
    memcpy(reserve->dir, dir, strlen(dir) + 1);
    return take_over(reserve, error);
}

void rk_reserve_close(struct rk_reserve *reserve)
{
    reserve->fs->close(reserve->file);
    reserve->file = NULL;
}

/* Gives the file's space back. */
static enum rk_status release(struct rk_reserve *reserve, struct rk_storage_error *error)
{
    rk_reserve_close(reserve);
    reserve->filled = 0;
    enum rk_status status = reserve->fs->unlink(reserve->fs, reserve->path);
    if (status == RK_ENOENT) return RK_OK;
    if (status == RK_OK) status = reserve->fs->sync_dir(reserve->fs, reserve->dir);
    return status == RK_OK ? RK_OK : fail(reserve, status, error);
}

/* One step of filling. A disk that is full meanwhile ends it quietly. */
static enum rk_status fill(struct rk_reserve *reserve, struct rk_storage_error *error)
{
    struct rk_fs *fs = reserve->fs;
    enum rk_status status = RK_OK;
    if (reserve->file == NULL) {
        status = fs->open(fs, &reserve->file, reserve->path, RK_FS_WRITE | RK_FS_CREATE);
        if (status == RK_OK) status = fs->sync_dir(fs, reserve->dir);
    }
    uint64_t end = reserve->filled + STEP;
    if (end > reserve->size) end = reserve->size;
    while (status == RK_OK && reserve->filled < end) {
        uint64_t left = end - reserve->filled;
        size_t size = left < ZEROS ? (size_t)left : ZEROS;
        status = fs->pwrite(reserve->file, reserve->filled, zeros, size);
        if (status == RK_OK) reserve->filled += size;
    }
    if (status == RK_OK) status = fs->datasync(reserve->file);
    if (status == RK_EFULL) return release(reserve, error);
    return status == RK_OK ? RK_OK : fail(reserve, status, error);
}

enum rk_status rk_reserve_poll(struct rk_reserve *reserve, bool is_refused,
                               enum rk_reserve_level *out, bool *out_more,
                               struct rk_storage_error *error)
{
    struct rk_fs_space space;
    *out_more = false;
    if (RK_MUTANT(reserve_ignored)) is_refused = false;
    if (is_refused && reserve->level == RK_RESERVE_OK) reserve->level = RK_RESERVE_LOW;
    *out = reserve->level;
    enum rk_status status = reserve->fs->space(reserve->fs, &space, reserve->dir);
    if (status != RK_OK) return fail(reserve, status, error);
    if (RK_MUTANT(reserve_ignored)) space.free_bytes = UINT64_MAX;
    uint64_t low = reserve->size == 0 ? RK_RESERVE_DEFAULT : reserve->size;
    status = take_over(reserve, error);
    bool is_missing = reserve->filled < reserve->size;
    if (status != RK_OK) {
        bool is_low = space.free_bytes < low || is_refused;
        reserve->level = is_low ? RK_RESERVE_LOW : RK_RESERVE_OK;
    } else if (space.free_bytes < low / 4 || is_refused) {
        reserve->level = RK_RESERVE_LOW;
        if (reserve->size > 0) {
            reserve->level = RK_RESERVE_CRITICAL;
            status = release(reserve, error);
        }
    } else if (reserve->level == RK_RESERVE_CRITICAL &&
               (space.free_bytes < 2 * low || RK_MUTANT(full_for_ever))) {
        /* What was given back is being used; it is not taken away again yet. */
    } else if (is_missing && space.free_bytes >= 2 * (reserve->size - reserve->filled)) {
        status = fill(reserve, error);
        *out_more = status == RK_OK && reserve->filled < reserve->size;
        reserve->level = space.free_bytes < low ? RK_RESERVE_LOW : RK_RESERVE_OK;
    } else {
        reserve->level = space.free_bytes < low ? RK_RESERVE_LOW : RK_RESERVE_OK;
    }
    *out = reserve->level;
    return status;
}
