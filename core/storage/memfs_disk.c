#include "storage/memfs_private.h"

#include "base/alloc.h"

void rk_memfs_inode_release(struct inode *inode)
{
    if (inode == NULL || --inode->references > 0) return;
    rk_free(inode->data);
    rk_free(inode->dirty);
    rk_free(inode->saved);
    rk_free(inode);
}

struct inode *rk_memfs_inode_retain(struct inode *inode)
{
    if (inode != NULL) inode->references++;
    return inode;
}

enum rk_status rk_memfs_inode_reserve(struct inode *inode, uint64_t size)
{
    if (size <= inode->capacity) return RK_OK;
    uint64_t capacity = inode->capacity == 0 ? 4096 : inode->capacity;
    while (capacity < size)
        capacity *= 2;
    uint8_t *data = rk_realloc(inode->data, capacity);
    if (data == NULL) return RK_ENOMEM;
    inode->data = data;
    uint8_t *dirty = rk_realloc(inode->dirty, capacity / RK_MEMFS_SECTOR);
    if (dirty == NULL) return RK_ENOMEM;
    inode->dirty = dirty;
    memset(data + inode->capacity, 0, capacity - inode->capacity);
    memset(dirty + inode->capacity / RK_MEMFS_SECTOR, 0,
           (capacity - inode->capacity) / RK_MEMFS_SECTOR);
    inode->capacity = capacity;
    return RK_OK;
}

static enum rk_status sector_save(struct inode *inode, uint64_t sector)
{
    if (inode->dirty[sector]) return RK_OK;
    if (inode->saved_count == inode->saved_capacity) {
        uint32_t capacity = inode->saved_capacity == 0 ? 16 : inode->saved_capacity * 2;
        struct saved *saved = rk_realloc_array(inode->saved, capacity, sizeof(*saved));
        if (saved == NULL) return RK_ENOMEM;
        inode->saved = saved;
        inode->saved_capacity = capacity;
    }
    struct saved *saved = &inode->saved[inode->saved_count++];
    saved->sector = sector;
    memcpy(saved->bytes, inode->data + sector * RK_MEMFS_SECTOR, RK_MEMFS_SECTOR);
    inode->dirty[sector] = 1;
    return RK_OK;
}

enum rk_status rk_memfs_inode_write(struct inode *inode, uint64_t offset, const void *data,
                                    size_t size)
{
    if (size == 0) return RK_OK;
    enum rk_status status = rk_memfs_inode_reserve(inode, offset + size);
    uint64_t end = (offset + size - 1) / RK_MEMFS_SECTOR;
    for (uint64_t s = offset / RK_MEMFS_SECTOR; status == RK_OK && s <= end; s++)
        status = sector_save(inode, s);
    if (status != RK_OK) return status;
    memcpy(inode->data + offset, data, size);
    if (offset + size > inode->size) inode->size = offset + size;
    return RK_OK;
}

void rk_memfs_inode_settle(struct inode *inode)
{
    for (uint32_t i = 0; i < inode->saved_count; i++)
        inode->dirty[inode->saved[i].sector] = 0;
    inode->saved_count = 0;
    inode->durable_size = inode->size;
}

static void sector_crash(struct rk_memfs *memfs, struct inode *inode,
                         const struct saved *saved, enum rk_memfs_crash_mode mode)
{
    uint8_t *now = inode->data + saved->sector * RK_MEMFS_SECTOR;
    uint64_t pick =
        mode == RK_MEMFS_CRASH_LOSE_ALL ? 0 : rk_random_below(&memfs->random, 5);
    if (mode == RK_MEMFS_CRASH_KEEP_ALL || pick >= 3) return;
    if (pick < 2) {
        memcpy(now, saved->bytes, RK_MEMFS_SECTOR);
    } else { /* torn: a part of the new, the rest of the old, or the other way round */
        size_t cut = (size_t)rk_random_below(&memfs->random, RK_MEMFS_SECTOR);
        if (rk_random_below(&memfs->random, 2) == 0)
            memcpy(now + cut, saved->bytes + cut, RK_MEMFS_SECTOR - cut);
        else
            memcpy(now, saved->bytes, cut);
    }
}

void rk_memfs_inode_crash(struct rk_memfs *memfs, struct inode *inode,
                          enum rk_memfs_crash_mode mode)
{
    inode->is_locked = false;
    for (uint32_t i = 0; i < inode->saved_count; i++)
        sector_crash(memfs, inode, &inode->saved[i], mode);
    uint64_t size = inode->size;
    if (mode == RK_MEMFS_CRASH_LOSE_ALL && size > inode->durable_size)
        size = inode->durable_size;
    if (mode == RK_MEMFS_CRASH_RANDOM && size > inode->durable_size)
        size = inode->durable_size +
               rk_random_below(&memfs->random, size - inode->durable_size + 1);
    if (size < inode->size) memset(inode->data + size, 0, inode->size - size);
    inode->size = size;
    rk_memfs_inode_settle(inode);
}

struct inode *rk_memfs_inode_clone(const struct inode *from)
{
    struct inode *inode = rk_calloc(1, sizeof(*inode));
    if (inode == NULL) return NULL;
    inode->references = 1;
    inode->is_dir = from->is_dir;
    if (rk_memfs_inode_write(inode, 0, from->data, (size_t)from->size) != RK_OK) {
        rk_memfs_inode_release(inode);
        return NULL;
    }
    rk_memfs_inode_settle(inode);
    return inode;
}

struct name *rk_memfs_names_find(const struct names *names, const char *path)
{
    for (uint32_t i = 0; i < names->count; i++)
        if (strcmp(names->list[i].path, path) == 0) return &names->list[i];
    return NULL;
}

enum rk_status rk_memfs_names_set(struct names *names, const char *path,
                                  struct inode *inode)
{
    struct name *name = rk_memfs_names_find(names, path);
    if (name != NULL) {
        struct inode *old = name->inode;
        if (inode != NULL) {
            name->inode = rk_memfs_inode_retain(inode);
        } else {
            rk_free(name->path);
            *name = names->list[--names->count];
        }
        rk_memfs_inode_release(old);
        return RK_OK;
    }
    if (inode == NULL) return RK_OK;
    if (names->count == names->capacity) {
        uint32_t capacity = names->capacity == 0 ? 16 : names->capacity * 2;
        struct name *list = rk_realloc_array(names->list, capacity, sizeof(*list));
        if (list == NULL) return RK_ENOMEM;
        names->list = list;
        names->capacity = capacity;
    }
    char *copy = rk_strdup(path);
    if (copy == NULL) return RK_ENOMEM;
    names->list[names->count++] = (struct name){copy, rk_memfs_inode_retain(inode)};
    return RK_OK;
}

void rk_memfs_names_fini(struct names *names)
{
    for (uint32_t i = 0; i < names->count; i++) {
        rk_free(names->list[i].path);
        rk_memfs_inode_release(names->list[i].inode);
    }
    rk_free(names->list);
    *names = (struct names){0};
}

enum rk_status rk_memfs_names_copy(struct names *to, const struct names *from)
{
    for (uint32_t i = 0; i < from->count; i++) {
        enum rk_status status =
            rk_memfs_names_set(to, from->list[i].path, from->list[i].inode);
        if (status != RK_OK) return status;
    }
    return RK_OK;
}

enum rk_status rk_memfs_step_add(struct rk_memfs *memfs, const char *path,
                                 struct inode *inode, bool has_follower)
{
    if (memfs->step_count == memfs->step_capacity) {
        uint32_t capacity = memfs->step_capacity == 0 ? 16 : memfs->step_capacity * 2;
        struct step *steps = rk_realloc_array(memfs->steps, capacity, sizeof(*steps));
        if (steps == NULL) return RK_ENOMEM;
        memfs->steps = steps;
        memfs->step_capacity = capacity;
    }
    char *copy = rk_strdup(path);
    if (copy == NULL) return RK_ENOMEM;
    memfs->steps[memfs->step_count++] =
        (struct step){copy, rk_memfs_inode_retain(inode), has_follower};
    return rk_memfs_names_set(&memfs->names, path, inode);
}

bool rk_memfs_is_in_dir(const char *path, const char *dir)
{
    if (strcmp(dir, ".") == 0) return strchr(path, '/') == NULL;
    size_t size = strlen(dir);
    while (size > 0 && dir[size - 1] == '/')
        size--;
    return strncmp(path, dir, size) == 0 && path[size] == '/' &&
           strchr(path + size + 1, '/') == NULL;
}

enum rk_status rk_memfs_steps_settle(struct rk_memfs *memfs, uint32_t count,
                                     const char *dir)
{
    uint32_t kept = 0;
    enum rk_status status = RK_OK;
    for (uint32_t i = 0; i < memfs->step_count; i++) {
        struct step *step = &memfs->steps[i];
        bool is_taken = i < count && (dir == NULL || rk_memfs_is_in_dir(step->path, dir));
        if (!is_taken) {
            memfs->steps[kept++] = *step;
            continue;
        }
        if (status == RK_OK)
            status = rk_memfs_names_set(&memfs->durable, step->path, step->inode);
        rk_free(step->path);
        rk_memfs_inode_release(step->inode);
    }
    memfs->step_count = kept;
    return status;
}

void rk_memfs_steps_drop(struct rk_memfs *memfs)
{
    for (uint32_t i = 0; i < memfs->step_count; i++) {
        rk_free(memfs->steps[i].path);
        rk_memfs_inode_release(memfs->steps[i].inode);
    }
    memfs->step_count = 0;
}
