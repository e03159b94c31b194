#include "golden.h"

#include "base/assert.h"
#include "base/hash.h"

#include <stdio.h>

enum { FORMAT = 1, ZEROS_MIN = 24 };

static void head(struct rk_buf *out, const char magic[4])
{
    rk_buf_append(out, magic, 4);
    rk_buf_u8(out, FORMAT);
}

static bool has_head(struct rk_reader *reader, const char magic[4])
{
    struct rk_slice found = rk_read_bytes(reader, 4);
    return rk_read_u8(reader) == FORMAT && rk_slice_is_equal(found, rk_slice_of(magic, 4));
}

void golden_log_begin(struct rk_buf *out, uint32_t group, uint64_t count)
{
    head(out, "RKGL");
    rk_buf_varint(out, group);
    rk_buf_varint(out, count);
}

enum rk_status golden_log_open(struct rk_reader *reader, struct rk_slice file,
                               uint32_t *group, uint64_t *count)
{
    rk_reader_init(reader, file);
    if (!has_head(reader, "RKGL")) return RK_EPROTO;
    *group = (uint32_t)rk_read_varint(reader);
    *count = rk_read_varint(reader);
    return rk_reader_check(reader, false);
}

struct packing {
    struct rk_buf *out;
    struct rk_fs *fs;
    const char *folder;
    uint32_t count;
    char names[64][RK_FS_NAME_MAX + 1];
};

static enum rk_status note_name(void *context, const char *name)
{
    struct packing *packing = context;
    RK_ASSERT(packing->count < 64);
    uint32_t at = packing->count++;
    for (; at > 0 && strcmp(packing->names[at - 1], name) > 0; at--)
        memcpy(packing->names[at], packing->names[at - 1], sizeof(packing->names[at]));
    (void)snprintf(packing->names[at], sizeof(packing->names[at]), "%s", name);
    return RK_OK;
}

static size_t zeros_at(struct rk_slice bytes, size_t at)
{
    size_t end = at;
    while (end < bytes.size && bytes.data[end] == 0)
        end++;
    return end - at;
}

void golden_pack_bytes(struct rk_buf *out, struct rk_slice bytes)
{
    rk_buf_varint(out, bytes.size);
    for (size_t at = 0; at < bytes.size;) {
        size_t zeros = zeros_at(bytes, at);
        size_t end = at + zeros;
        while (end < bytes.size) {
            size_t gap = zeros_at(bytes, end);
            if (gap >= ZEROS_MIN || end + gap == bytes.size) break;
            end += gap + 1;
        }
        if (end > bytes.size) end = bytes.size;
        rk_buf_varint(out, zeros);
        rk_buf_blob(out, rk_slice_of(bytes.data + at + zeros, end - at - zeros));
        at = end;
    }
}

static enum rk_status pack_folder(struct packing *packing)
{
    packing->count = 0;
    enum rk_status status =
        packing->fs->list(packing->fs, packing->folder, note_name, packing);
    for (uint32_t i = 0; status == RK_OK && i < packing->count; i++) {
        char path[RK_FS_PATH_MAX];
        struct rk_buf bytes;
        rk_buf_init(&bytes);
        status = rk_fs_join(path, packing->folder, packing->names[i]);
        if (status == RK_OK)
            status = rk_fs_read_file(packing->fs, &bytes, path, GOLDEN_FILE_MAX);
        if (status == RK_OK) {
            rk_buf_blob(packing->out, rk_slice_of_string(path));
            golden_pack_bytes(packing->out, rk_buf_slice(&bytes));
        }
        rk_buf_fini(&bytes);
    }
    return status;
}

enum rk_status golden_pack(struct rk_buf *out, struct rk_fs *fs, const char *const *folders,
                           size_t folder_count)
{
    struct rk_buf files;
    struct packing packing = {.out = &files, .fs = fs};
    enum rk_status status = RK_OK;
    uint32_t count = 0;
    rk_buf_init(&files);
    for (size_t i = 0; status == RK_OK && i < folder_count; i++) {
        packing.folder = folders[i];
        status = pack_folder(&packing);
        count += packing.count;
    }
    head(out, "RKGF");
    rk_buf_varint(out, count);
    rk_buf_append_slice(out, rk_buf_slice(&files));
    rk_buf_fini(&files);
    return status == RK_OK ? rk_buf_check(out) : status;
}

static enum rk_status make_parents(struct rk_fs *fs, char *path)
{
    for (char *at = path; *at != '\0'; at++) {
        if (*at != '/' || at == path) continue;
        *at = '\0';
        enum rk_status status = fs->mkdir(fs, path);
        *at = '/';
        if (status != RK_OK && status != RK_EEXIST) return status;
    }
    return RK_OK;
}

enum rk_status golden_unpack_bytes(struct rk_buf *out, struct rk_reader *reader)
{
    uint64_t size = rk_read_varint(reader);
    if (reader->is_failed || size > GOLDEN_FILE_MAX) return RK_EPROTO;
    while (out->size < size && !out->is_failed) {
        uint64_t zeros = rk_read_varint(reader);
        if (reader->is_failed || zeros > size - out->size) return RK_EPROTO;
        uint8_t *gap = rk_buf_extend(out, zeros);
        if (gap != NULL) memset(gap, 0, zeros);
        struct rk_slice bytes = rk_read_blob(reader);
        if (reader->is_failed || out->size + bytes.size > size) return RK_EPROTO;
        rk_buf_append_slice(out, bytes);
    }
    return rk_buf_check(out);
}

static enum rk_status unpack_file(struct rk_fs *fs, struct rk_reader *reader)
{
    char path[RK_FS_PATH_MAX];
    struct rk_buf bytes;
    struct rk_file *file = NULL;
    struct rk_slice name = rk_read_blob(reader);
    if (reader->is_failed || name.size == 0 || name.size >= sizeof(path)) return RK_EPROTO;
    memcpy(path, name.data, name.size);
    path[name.size] = '\0';
    rk_buf_init(&bytes);
    enum rk_status status = golden_unpack_bytes(&bytes, reader);
    if (status == RK_OK) status = make_parents(fs, path);
    if (status == RK_OK)
        status = fs->open(fs, &file, path, RK_FS_WRITE | RK_FS_CREATE | RK_FS_TRUNCATE);
    if (status == RK_OK) status = fs->pwrite(file, 0, bytes.data, bytes.size);
    if (status == RK_OK) status = fs->datasync(file);
    fs->close(file);
    rk_buf_fini(&bytes);
    return status;
}

enum rk_status golden_unpack(struct rk_fs *fs, struct rk_slice packed)
{
    struct rk_reader reader;
    rk_reader_init(&reader, packed);
    if (!has_head(&reader, "RKGF")) return RK_EPROTO;
    uint64_t count = rk_read_varint(&reader);
    enum rk_status status = RK_OK;
    for (uint64_t i = 0; status == RK_OK && i < count; i++)
        status = unpack_file(fs, &reader);
    return status == RK_OK ? rk_reader_check(&reader, true) : status;
}
