#include "storage/memfs.h"

#include "base/alloc.h"
#include "base/assert.h"
#include "base/list.h"
#include "storage/memfs_private.h"

struct memfs_file {
    struct rk_file file;
    struct inode *inode;
    uint64_t epoch;
    bool is_writable;
    bool is_lock;
};

/* What a counted operation is to do. */
enum verdict { GO, GO_THEN_DOWN, PART_THEN_DOWN, FAIL, FAIL_AFTER_PART };

static struct rk_memfs *memfs_of(struct rk_fs *fs)
{
    return RK_CONTAINER(fs, struct rk_memfs, fs);
}

static enum verdict count_op(struct rk_memfs *memfs)
{
    memfs->ops++;
    if (memfs->is_down) return FAIL;
    if (memfs->crash_at != 0 && memfs->ops >= memfs->crash_at) {
        memfs->crash_at = 0;
        memfs->is_down = true;
        uint64_t pick = rk_random_below(&memfs->random, 3);
        return pick == 0 ? GO_THEN_DOWN : pick == 1 ? PART_THEN_DOWN : FAIL;
    }
    if (memfs->fail_at != 0 && memfs->ops >= memfs->fail_at) {
        if (!memfs->is_fail_sticky) memfs->fail_at = 0;
        return rk_random_below(&memfs->random, 2) == 0 ? FAIL : FAIL_AFTER_PART;
    }
    return GO;
}

static enum rk_status verdict_status(const struct rk_memfs *memfs, enum verdict verdict)
{
    if (memfs->is_down) return RK_EIO;
    return verdict == GO ? RK_OK : memfs->fail_status;
}

uint64_t rk_memfs_used(const struct rk_memfs *memfs)
{
    uint64_t sum = 0;
    for (uint32_t i = 0; i < memfs->names.count; i++)
        sum += memfs->names.list[i].inode->size;
    return sum;
}

static enum rk_status file_new(struct rk_memfs *memfs, struct rk_file **out,
                               struct inode *inode, bool is_writable, bool is_lock)
{
    struct memfs_file *file = rk_malloc(sizeof(*file));
    if (file == NULL) return RK_ENOMEM;
    *file = (struct memfs_file){.file = {.fs = &memfs->fs},
                                .inode = rk_memfs_inode_retain(inode),
                                .epoch = memfs->epoch,
                                .is_writable = is_writable,
                                .is_lock = is_lock};
    *out = &file->file;
    return RK_OK;
}

static bool has_parent(const struct rk_memfs *memfs, const char *path)
{
    const char *slash = strrchr(path, '/');
    if (slash == NULL || slash == path) return true;
    char parent[RK_FS_PATH_MAX];
    size_t size = (size_t)(slash - path);
    if (size >= sizeof(parent)) return false;
    memcpy(parent, path, size);
    parent[size] = '\0';
    const struct name *name = rk_memfs_names_find(&memfs->names, parent);
    return name != NULL && name->inode->is_dir;
}

static enum rk_status inode_create(struct rk_memfs *memfs, const char *path, bool is_dir)
{
    if (!has_parent(memfs, path)) return RK_ENOENT;
    struct inode *inode = rk_calloc(1, sizeof(*inode));
    if (inode == NULL) return RK_ENOMEM;
    inode->references = 1;
    inode->is_dir = is_dir;
    enum rk_status status = rk_memfs_step_add(memfs, path, inode, false);
    rk_memfs_inode_release(inode);
    return status;
}

static enum rk_status memfs_open(struct rk_fs *fs, struct rk_file **out, const char *path,
                                 unsigned flags)
{
    struct rk_memfs *memfs = memfs_of(fs);
    enum verdict verdict = count_op(memfs);
    if (verdict != GO && verdict != GO_THEN_DOWN) return verdict_status(memfs, verdict);
    struct name *name = rk_memfs_names_find(&memfs->names, path);
    if (name == NULL) {
        if (!(flags & RK_FS_CREATE)) return memfs->is_down ? RK_EIO : RK_ENOENT;
        enum rk_status status = inode_create(memfs, path, false);
        if (status != RK_OK) return status;
        name = rk_memfs_names_find(&memfs->names, path);
    } else if (name->inode->is_dir) {
        return RK_EIO;
    } else if ((flags & RK_FS_CREATE) && (flags & RK_FS_EXCLUSIVE)) {
        return RK_EEXIST;
    }
    if (memfs->is_down) return RK_EIO;
    enum rk_status status = file_new(memfs, out, name->inode, flags & RK_FS_WRITE, false);
    if (status == RK_OK && (flags & RK_FS_TRUNCATE) && name->inode->size > 0) {
        status = fs->truncate(*out, 0);
        if (status != RK_OK) fs->close(*out);
    }
    return status;
}

static void memfs_close(struct rk_file *file)
{
    if (file == NULL) return;
    struct memfs_file *self = RK_CONTAINER(file, struct memfs_file, file);
    if (self->is_lock && self->epoch == memfs_of(file->fs)->epoch)
        self->inode->is_locked = false;
    rk_memfs_inode_release(self->inode);
    rk_free(self);
}

/* The inode, or NULL when the disk is down or crashed since the file was opened. */
static struct inode *inode_of(struct rk_file *file)
{
    struct memfs_file *self = RK_CONTAINER(file, struct memfs_file, file);
    const struct rk_memfs *memfs = memfs_of(file->fs);
    return memfs->is_down || self->epoch != memfs->epoch ? NULL : self->inode;
}

static enum rk_status memfs_pread(struct rk_file *file, size_t *out, uint64_t offset,
                                  void *data, size_t size)
{
    const struct inode *inode = inode_of(file);
    if (inode == NULL) return RK_EIO;
    size_t count = 0;
    if (offset < inode->size)
        count = inode->size - offset < size ? (size_t)(inode->size - offset) : size;
    if (count > 0) memcpy(data, inode->data + offset, count);
    struct rk_memfs *memfs = memfs_of(file->fs);
    if (memfs->read_flips != 0 && count > 0 &&
        rk_random_below(&memfs->random, memfs->read_flips) == 0) {
        uint64_t bit = rk_random_below(&memfs->random, (uint64_t)count * 8);
        ((uint8_t *)data)[bit / 8] ^= (uint8_t)(1u << (bit % 8));
    }
    *out = count;
    return RK_OK;
}

static enum rk_status memfs_pwrite(struct rk_file *file, uint64_t offset, const void *data,
                                   size_t size)
{
    struct rk_memfs *memfs = memfs_of(file->fs);
    struct inode *inode = inode_of(file);
    enum verdict verdict = count_op(memfs);
    if (inode == NULL) return RK_EIO;
    if (verdict == FAIL) return verdict_status(memfs, verdict);
    if (!RK_CONTAINER(file, struct memfs_file, file)->is_writable) return RK_EIO;
    bool is_full = false;
    if (memfs->capacity != 0 && offset + size > inode->size) {
        uint64_t used = rk_memfs_used(memfs) - inode->size;
        uint64_t room = used < memfs->capacity ? memfs->capacity - used : 0;
        is_full = offset + size > room;
        if (is_full) size = offset < room ? (size_t)(room - offset) : 0;
    }
    if (verdict == PART_THEN_DOWN || verdict == FAIL_AFTER_PART)
        size = (size_t)rk_random_below(&memfs->random, (uint64_t)size + 1);
    enum rk_status status = rk_memfs_inode_write(inode, offset, data, size);
    memfs->cost_bytes += size;
    if (status != RK_OK) return status;
    return is_full && verdict == GO ? RK_EFULL : verdict_status(memfs, verdict);
}

static enum rk_status memfs_datasync(struct rk_file *file)
{
    struct rk_memfs *memfs = memfs_of(file->fs);
    struct inode *inode = inode_of(file);
    enum verdict verdict = count_op(memfs);
    if (inode == NULL) return RK_EIO;
    if (verdict == GO || verdict == GO_THEN_DOWN) rk_memfs_inode_settle(inode);
    memfs->cost_us += memfs->sync_us;
    return verdict_status(memfs, verdict);
}

/* A crash may lose what was written back, and what was not may survive it, as before. */
static enum rk_status memfs_write_back(struct rk_file *file, uint64_t offset, uint64_t size)
{
    struct rk_memfs *memfs = memfs_of(file->fs);
    (void)offset;
    (void)size;
    enum verdict verdict = count_op(memfs);
    return inode_of(file) == NULL ? RK_EIO : verdict_status(memfs, verdict);
}

static enum rk_status memfs_size(struct rk_file *file, uint64_t *out)
{
    const struct inode *inode = inode_of(file);
    if (inode == NULL) return RK_EIO;
    *out = inode->size;
    return RK_OK;
}

/* Cutting is durable at once here; growing is like writing zeros. */
static enum rk_status memfs_truncate(struct rk_file *file, uint64_t size)
{
    struct rk_memfs *memfs = memfs_of(file->fs);
    struct inode *inode = inode_of(file);
    enum verdict verdict = count_op(memfs);
    if (inode == NULL) return RK_EIO;
    if (verdict != GO && verdict != GO_THEN_DOWN) return verdict_status(memfs, verdict);
    enum rk_status status = rk_memfs_inode_reserve(inode, size);
    if (status != RK_OK) return status;
    if (size < inode->size) {
        uint32_t kept = 0;
        for (uint32_t i = 0; i < inode->saved_count; i++) {
            uint64_t sector = inode->saved[i].sector;
            if (sector * RK_MEMFS_SECTOR < size)
                inode->saved[kept++] = inode->saved[i];
            else
                inode->dirty[sector] = 0;
        }
        inode->saved_count = kept;
        memset(inode->data + size, 0, inode->size - size);
        if (inode->durable_size > size) inode->durable_size = size;
    }
    inode->size = size;
    return verdict_status(memfs, verdict);
}

static enum rk_status memfs_sync_dir(struct rk_fs *fs, const char *path)
{
    struct rk_memfs *memfs = memfs_of(fs);
    enum verdict verdict = count_op(memfs);
    memfs->cost_us += memfs->sync_us;
    if (verdict == GO || verdict == GO_THEN_DOWN) {
        enum rk_status status = rk_memfs_steps_settle(memfs, memfs->step_count, path);
        if (status != RK_OK) return status;
    }
    return verdict_status(memfs, verdict);
}

static enum rk_status memfs_rename(struct rk_fs *fs, const char *from, const char *to)
{
    struct rk_memfs *memfs = memfs_of(fs);
    enum verdict verdict = count_op(memfs);
    if (verdict != GO && verdict != GO_THEN_DOWN) return verdict_status(memfs, verdict);
    struct name *name = rk_memfs_names_find(&memfs->names, from);
    if (name == NULL) return RK_ENOENT;
    struct inode *inode = rk_memfs_inode_retain(name->inode);
    enum rk_status status = rk_memfs_step_add(memfs, to, inode, true);
    if (status == RK_OK) status = rk_memfs_step_add(memfs, from, NULL, false);
    rk_memfs_inode_release(inode);
    return status == RK_OK ? verdict_status(memfs, verdict) : status;
}

static enum rk_status memfs_unlink(struct rk_fs *fs, const char *path)
{
    struct rk_memfs *memfs = memfs_of(fs);
    enum verdict verdict = count_op(memfs);
    if (verdict != GO && verdict != GO_THEN_DOWN) return verdict_status(memfs, verdict);
    if (rk_memfs_names_find(&memfs->names, path) == NULL) return RK_ENOENT;
    enum rk_status status = rk_memfs_step_add(memfs, path, NULL, false);
    return status == RK_OK ? verdict_status(memfs, verdict) : status;
}

static enum rk_status memfs_mkdir(struct rk_fs *fs, const char *path)
{
    struct rk_memfs *memfs = memfs_of(fs);
    enum verdict verdict = count_op(memfs);
    if (verdict != GO && verdict != GO_THEN_DOWN) return verdict_status(memfs, verdict);
    if (rk_memfs_names_find(&memfs->names, path) != NULL) return RK_EEXIST;
    enum rk_status status = inode_create(memfs, path, true);
    return status == RK_OK ? verdict_status(memfs, verdict) : status;
}

/* Gathers the names first: the caller's function may remove files. */
static enum rk_status memfs_list(struct rk_fs *fs, const char *path, rk_fs_list_each each,
                                 void *context)
{
    struct rk_memfs *memfs = memfs_of(fs);
    if (memfs->is_down) return RK_EIO;
    struct name *dir = rk_memfs_names_find(&memfs->names, path);
    if (dir == NULL || !dir->inode->is_dir) return RK_ENOENT;
    struct names copy = {0};
    enum rk_status status = rk_memfs_names_copy(&copy, &memfs->names);
    for (uint32_t i = 0; status == RK_OK && i < copy.count; i++)
        if (rk_memfs_is_in_dir(copy.list[i].path, path))
            status = each(context, strrchr(copy.list[i].path, '/') + 1);
    rk_memfs_names_fini(&copy);
    return status;
}

static enum rk_status memfs_space(struct rk_fs *fs, struct rk_fs_space *out,
                                  const char *path)
{
    (void)path;
    struct rk_memfs *memfs = memfs_of(fs);
    if (memfs->is_down) return RK_EIO;
    uint64_t used = rk_memfs_used(memfs);
    out->total_bytes = memfs->capacity == 0 ? UINT64_MAX / 2 : memfs->capacity;
    out->free_bytes = out->total_bytes > used ? out->total_bytes - used : 0;
    return RK_OK;
}

static enum rk_status memfs_lock(struct rk_fs *fs, struct rk_file **out, const char *path)
{
    struct rk_memfs *memfs = memfs_of(fs);
    enum verdict verdict = count_op(memfs);
    if (verdict != GO) return verdict_status(memfs, verdict);
    if (rk_memfs_names_find(&memfs->names, path) == NULL) {
        enum rk_status status = inode_create(memfs, path, false);
        if (status != RK_OK) return status;
    }
    struct inode *inode = rk_memfs_names_find(&memfs->names, path)->inode;
    if (inode->is_locked) return RK_EBUSY;
    enum rk_status status = file_new(memfs, out, inode, true, true);
    if (status == RK_OK) inode->is_locked = true;
    return status;
}

struct rk_memfs *rk_memfs_new(uint64_t seed)
{
    struct rk_memfs *memfs = rk_calloc(1, sizeof(*memfs));
    if (memfs == NULL) return NULL;
    rk_random_init(&memfs->random, seed);
    memfs->fail_status = RK_EIO;
    memfs->fs = (struct rk_fs){
        .open = memfs_open,
        .close = memfs_close,
        .pread = memfs_pread,
        .pwrite = memfs_pwrite,
        .datasync = memfs_datasync,
        .write_back = memfs_write_back,
        .size = memfs_size,
        .truncate = memfs_truncate,
        .sync_dir = memfs_sync_dir,
        .rename = memfs_rename,
        .unlink = memfs_unlink,
        .mkdir = memfs_mkdir,
        .list = memfs_list,
        .space = memfs_space,
        .lock = memfs_lock,
    };
    return memfs;
}

void rk_memfs_free(struct rk_memfs *memfs)
{
    if (memfs == NULL) return;
    rk_memfs_steps_drop(memfs);
    rk_free(memfs->steps);
    rk_memfs_names_fini(&memfs->names);
    rk_memfs_names_fini(&memfs->durable);
    rk_free(memfs);
}

struct rk_fs *rk_memfs_fs(struct rk_memfs *memfs)
{
    return &memfs->fs;
}

void rk_memfs_crash(struct rk_memfs *memfs, enum rk_memfs_crash_mode mode)
{
    memfs->epoch++;
    uint32_t count = mode == RK_MEMFS_CRASH_KEEP_ALL ? memfs->step_count : 0;
    if (mode == RK_MEMFS_CRASH_RANDOM)
        count = (uint32_t)rk_random_below(&memfs->random, (uint64_t)memfs->step_count + 1);
    if (count > 0 && memfs->steps[count - 1].has_follower) count++;
    enum rk_status status = rk_memfs_steps_settle(memfs, count, NULL);
    RK_ASSERT(status == RK_OK);
    rk_memfs_steps_drop(memfs);
    struct names names = {0};
    status = rk_memfs_names_copy(&names, &memfs->durable);
    RK_ASSERT(status == RK_OK);
    rk_memfs_names_fini(&memfs->names);
    memfs->names = names;
    for (uint32_t i = 0; i < names.count; i++)
        rk_memfs_inode_crash(memfs, names.list[i].inode, mode);
}

uint64_t rk_memfs_op_count(const struct rk_memfs *memfs)
{
    return memfs->ops;
}

void rk_memfs_fail_at(struct rk_memfs *memfs, uint64_t at, enum rk_status status,
                      bool is_sticky)
{
    memfs->fail_at = at;
    memfs->fail_status = status;
    memfs->is_fail_sticky = is_sticky;
}

void rk_memfs_crash_at(struct rk_memfs *memfs, uint64_t at)
{
    memfs->crash_at = at;
}

bool rk_memfs_is_down(const struct rk_memfs *memfs)
{
    return memfs->is_down;
}

void rk_memfs_restart(struct rk_memfs *memfs, enum rk_memfs_crash_mode mode)
{
    rk_memfs_crash(memfs, mode);
    memfs->is_down = false;
}

void rk_memfs_set_capacity(struct rk_memfs *memfs, uint64_t bytes)
{
    memfs->capacity = bytes;
}

enum rk_status rk_memfs_flip(struct rk_memfs *memfs, const char *path, uint64_t offset,
                             unsigned bit)
{
    struct name *name = rk_memfs_names_find(&memfs->names, path);
    if (name == NULL) return RK_ENOENT;
    struct inode *inode = name->inode;
    if (offset >= inode->size || bit > 7) return RK_ERANGE;
    uint8_t mask = (uint8_t)(1u << bit);
    inode->data[offset] ^= mask;
    for (uint32_t i = 0; i < inode->saved_count; i++)
        if (inode->saved[i].sector == offset / RK_MEMFS_SECTOR)
            inode->saved[i].bytes[offset % RK_MEMFS_SECTOR] ^= mask;
    return RK_OK;
}

void rk_memfs_set_read_flips(struct rk_memfs *memfs, uint64_t per)
{
    memfs->read_flips = per;
}

void rk_memfs_set_cost(struct rk_memfs *memfs, uint64_t sync_us, uint64_t write_us_per_kib)
{
    memfs->sync_us = sync_us;
    memfs->write_us_per_kib = write_us_per_kib;
}

uint64_t rk_memfs_take_cost_us(struct rk_memfs *memfs)
{
    uint64_t cost = memfs->cost_us + memfs->cost_bytes / 1024 * memfs->write_us_per_kib;
    memfs->cost_us = 0;
    memfs->cost_bytes %= 1024;
    return cost;
}

struct rk_memfs *rk_memfs_clone(const struct rk_memfs *memfs)
{
    struct rk_memfs *clone = rk_memfs_new(memfs->random.state);
    if (clone == NULL) return NULL;
    for (uint32_t i = 0; i < memfs->names.count; i++) {
        struct inode *inode = rk_memfs_inode_clone(memfs->names.list[i].inode);
        enum rk_status status = inode == NULL ? RK_ENOMEM : RK_OK;
        const char *path = memfs->names.list[i].path;
        if (status == RK_OK) status = rk_memfs_names_set(&clone->names, path, inode);
        if (status == RK_OK) status = rk_memfs_names_set(&clone->durable, path, inode);
        rk_memfs_inode_release(inode);
        if (status != RK_OK) {
            rk_memfs_free(clone);
            return NULL;
        }
    }
    clone->capacity = memfs->capacity;
    return clone;
}
