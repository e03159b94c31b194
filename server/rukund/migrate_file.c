#include "rukund/migrate_file.h"

#include "base/alloc.h"
#include "base/list.h"
#include "base/slot.h"
#include "host/restore.h"
#include "raft/wire.h"
#include "state/contents.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { SLICE_BYTES = 256 << 10, FIRST_TERM = 1 };

struct rk_migrate_record {
    uint64_t id;
    struct rk_buf bytes;
};

struct message {
    struct rk_map_node node;
    uint64_t number;
    uint8_t id[];
};

static uint64_t wall_ms(void)
{
    struct timespec now;
    (void)clock_gettime(CLOCK_REALTIME, &now);
    return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

/* --- life ----------------------------------------------------------------------------- */

enum rk_status rk_migrate_file_new(struct rk_migrate_file **out, uint32_t group_count)
{
    struct rk_migrate_file *file = rk_calloc(1, sizeof(*file));
    if (file == NULL) return RK_ENOMEM;
    file->group_count = group_count;
    rk_map_init(&file->messages);
    enum rk_status status = rk_slot_map_lay(&file->slots, group_count);
    for (uint32_t i = 0; status == RK_OK && i <= group_count; i++) {
        const struct rk_machine_options options = {.struct_size = sizeof(options),
                                                   .group = i};
        status = rk_machine_new(&file->machines[i], &options);
        if (status == RK_OK) rk_machine_fill_begin(file->machines[i], 1, wall_ms());
    }
    if (status != RK_OK) {
        rk_migrate_file_free(file);
        return status;
    }
    *out = file;
    return RK_OK;
}

void rk_migrate_file_free(struct rk_migrate_file *file)
{
    if (file == NULL) return;
    struct rk_map_cursor cursor;
    struct rk_map_node *node = rk_map_first(&file->messages, &cursor);
    while (node != NULL) {
        struct message *message = RK_CONTAINER(node, struct message, node);
        node = rk_map_next(&file->messages, &cursor);
        rk_free(message);
    }
    rk_map_fini(&file->messages);
    for (uint32_t i = 0; i <= file->group_count; i++)
        rk_machine_free(file->machines[i]);
    for (size_t i = 0; i < file->record_count; i++)
        rk_buf_fini(&file->records[i].bytes);
    rk_free(file->records);
    rk_free(file);
}

/* --- contents ------------------------------------------------------------------------- */

static enum rk_status message_note(struct rk_migrate_file *file, struct rk_slice id,
                                   uint64_t number)
{
    struct message *message = rk_calloc(1, sizeof(*message) + id.size);
    if (message == NULL) return RK_ENOMEM;
    memcpy(message->id, id.data, id.size);
    message->node.key = rk_slice_of(message->id, id.size);
    message->number = number;
    enum rk_status status = rk_map_insert(&file->messages, &message->node);
    if (status != RK_OK) rk_free(message);
    return status == RK_EEXIST ? RK_ECORRUPT : status;
}

static struct rk_machine *machine_of(struct rk_migrate_file *file,
                                     const struct rk_content *content, struct rk_slice id)
{
    struct rk_slice name = rk_topic_base(content->name);
    if (content->kind == RK_CONTENT_ENTRY) name = content->key;
    if (content->kind == RK_CONTENT_CACHE_FENCE) name = id;
    return file->machines[rk_slot_map_group(&file->slots, name)];
}

/* Every group has the settings of every cache. */
static enum rk_status cache_take(struct rk_migrate_file *file,
                                 const struct rk_content *content)
{
    enum rk_status status = RK_OK;
    uint64_t number = 0;
    file->taken[RK_CONTENT_CACHE]++;
    for (uint32_t i = 1; status == RK_OK && i <= file->group_count; i++)
        status = rk_machine_fill(file->machines[i], content, &number);
    return status;
}

/* A cache that nobody configured begins with its first entry. */
static enum rk_status entry_begin(struct rk_machine *machine,
                                  const struct rk_content *content)
{
    const struct rk_content cache = {.kind = RK_CONTENT_CACHE, .name = content->name};
    uint64_t number = 0;
    return rk_machine_fill(machine, &cache, &number);
}

enum rk_status rk_migrate_file_take(void *context, const struct rk_content *content,
                                    struct rk_slice id)
{
    struct rk_migrate_file *file = context;
    uint64_t number = 0;
    enum rk_status status = RK_OK;
    if (content->kind == RK_CONTENT_CACHE) return cache_take(file, content);
    struct rk_machine *machine = machine_of(file, content, id);
    if (content->kind == RK_CONTENT_ENTRY) status = entry_begin(machine, content);
    if (content->kind == RK_CONTENT_WINDOW) {
        struct rk_map_node *node = rk_map_find(&file->messages, id);
        if (node != NULL) number = RK_CONTAINER(node, struct message, node)->number;
    }
    if (status == RK_OK) status = rk_machine_fill(machine, content, &number);
    if (status != RK_OK) return status;
    file->taken[content->kind]++;
    return content->kind == RK_CONTENT_MESSAGE ? message_note(file, id, number) : RK_OK;
}

enum rk_status rk_migrate_file_record(void *context, uint64_t id, struct rk_slice record)
{
    struct rk_migrate_file *file = context;
    if (file->record_count == file->record_capacity) {
        size_t capacity = file->record_capacity == 0 ? 1024 : 2 * file->record_capacity;
        struct rk_migrate_record *grown =
            rk_realloc_array(file->records, capacity, sizeof(*grown));
        if (grown == NULL) return RK_ENOMEM;
        file->records = grown;
        file->record_capacity = capacity;
    }
    struct rk_migrate_record *at = &file->records[file->record_count++];
    at->id = id;
    rk_buf_init(&at->bytes);
    rk_buf_append(&at->bytes, record.data, record.size);
    return rk_buf_check(&at->bytes);
}

/* --- locks ---------------------------------------------------------------------------- */

static int by_id(const void *a, const void *b)
{
    uint64_t left = ((const struct rk_migrate_record *)a)->id;
    uint64_t right = ((const struct rk_migrate_record *)b)->id;
    return left < right ? -1 : left > right;
}

/* The machine's own record is the first one. HSCAN may show a record twice. */
static enum rk_status locks_load(struct rk_migrate_file *file,
                                 struct rk_storage_error *error)
{
    enum rk_status status = RK_OK;
    if (file->record_count == 0) return RK_OK;
    qsort(file->records, file->record_count, sizeof(*file->records), by_id);
    for (size_t i = 0; status == RK_OK && i < file->record_count; i++) {
        if (i > 0 && file->records[i].id == file->records[i - 1].id) continue;
        status =
            rk_machine_restore(file->machines[0], rk_buf_slice(&file->records[i].bytes));
    }
    if (status == RK_OK) status = rk_machine_restore_finish(file->machines[0], 1);
    if (status == RK_OK) return RK_OK;
    return rk_storage_fail(error, status == RK_EPROTO ? RK_ECORRUPT : status,
                           "the records of locks do not load: %s", rk_status_text(status));
}

/* --- the file ------------------------------------------------------------------------- */

struct writer {
    int fd;
    const char *path;
    struct rk_backup_encoder *encoder;
    struct rk_storage_error *error;
};

static enum rk_status put(struct writer *writer, struct rk_slice bytes)
{
    while (bytes.size > 0) {
        ssize_t done = write(writer->fd, bytes.data, bytes.size);
        if (done < 0 && errno == EINTR) continue;
        if (done <= 0)
            return rk_storage_fail(writer->error, errno == ENOSPC ? RK_EFULL : RK_EIO,
                                   "%s: %s", writer->path, strerror(errno));
        bytes = rk_slice_of(bytes.data + done, bytes.size - (size_t)done);
    }
    return RK_OK;
}

static enum rk_status block_put(struct writer *writer, struct rk_snapshot_encoder *encoder)
{
    struct rk_snapshot_block block;
    rk_snapshot_encoder_take(encoder, &block);
    enum rk_status status = put(writer, rk_buf_slice(&block.bytes));
    rk_backup_bytes(writer->encoder, rk_buf_slice(&block.bytes));
    rk_buf_fini(&block.bytes);
    return status;
}

static enum rk_status records_put(struct writer *writer, struct rk_machine *machine,
                                  struct rk_snapshot_encoder *encoder)
{
    struct rk_buf slice;
    bool is_done = false;
    rk_buf_init(&slice);
    enum rk_status status = rk_machine_snapshot_begin(machine);
    while (status == RK_OK && !is_done) {
        struct rk_reader in;
        rk_buf_reset(&slice);
        status = rk_machine_snapshot_step(machine, &slice, SLICE_BYTES, &is_done);
        rk_reader_init(&in, rk_buf_slice(&slice));
        while (status == RK_OK && rk_reader_left(&in) > 0)
            status = rk_snapshot_encoder_add(encoder, rk_read_blob(&in));
        if (status == RK_OK && is_done) status = rk_snapshot_encoder_finish(encoder);
        if (status == RK_OK) status = block_put(writer, encoder);
    }
    rk_machine_snapshot_end(machine);
    rk_buf_fini(&slice);
    return status;
}

static enum rk_status group_put(struct writer *writer, struct rk_migrate_file *file,
                                uint32_t group, uint64_t index)
{
    struct rk_snapshot_encoder encoder = {0};
    const struct rk_raft_conf_state conf = {0};
    struct rk_buf bytes;
    rk_buf_init(&bytes);
    rk_raft_conf_state_encode(&bytes, &conf);
    const struct rk_snapshot_header header = {.id = {group, index, FIRST_TERM},
                                              .conf = rk_buf_slice(&bytes)};
    rk_backup_part(writer->encoder, header.id);
    if (group != 0) rk_machine_fill_begin(file->machines[group], index, wall_ms());
    enum rk_status status = rk_buf_check(&bytes);
    if (status == RK_OK) status = rk_snapshot_encoder_init(&encoder, &header);
    if (status == RK_OK) status = records_put(writer, file->machines[group], &encoder);
    rk_snapshot_encoder_fini(&encoder);
    rk_buf_fini(&bytes);
    return status;
}

static enum rk_status all_put(struct writer *writer, struct rk_migrate_file *file,
                              const struct rk_migrate_source *source)
{
    struct rk_buf out;
    const struct rk_backup_header header = {
        .id = source->id,
        .history = source->history,
        .saved_ms = wall_ms(),
        .group_count = file->group_count + 1,
        .cluster = RK_SLICE_LITERAL("redis"),
        .node = RK_SLICE_LITERAL("migrate"),
        .program = RK_SLICE_LITERAL("rukund " RK_VERSION),
    };
    rk_buf_init(&out);
    enum rk_status status = rk_backup_begin(writer->encoder, &header, &out);
    if (status == RK_OK) status = put(writer, rk_buf_slice(&out));
    for (uint32_t i = 0; status == RK_OK && i <= file->group_count; i++)
        status = group_put(writer, file, i, i == 0 ? 1 : source->clock_us);
    rk_buf_reset(&out);
    if (status == RK_OK) status = rk_backup_end(writer->encoder, &out);
    if (status == RK_OK) status = put(writer, rk_buf_slice(&out));
    rk_buf_fini(&out);
    return status;
}

static enum rk_status sync_and_check(struct writer *writer)
{
    if (fsync(writer->fd) != 0)
        return rk_storage_fail(writer->error, RK_EIO, "%s: %s", writer->path,
                               strerror(errno));
    return rk_restore_verify(rk_fs_posix(), writer->path, NULL, writer->error);
}

/* Beside the file, so that the name stands for a whole one only. */
static enum rk_status finish(const char *from, const char *to,
                             struct rk_storage_error *error)
{
    if (link(from, to) != 0)
        return rk_storage_fail(error, errno == EEXIST ? RK_EEXIST : RK_EIO, "%s: %s", to,
                               strerror(errno));
    const char *slash = strrchr(to, '/');
    char folder[RK_FS_PATH_MAX] = ".";
    if (slash != NULL)
        (void)snprintf(folder, sizeof(folder), "%.*s", (int)(slash - to) + 1, to);
    struct rk_fs *fs = rk_fs_posix();
    if (fs->sync_dir(fs, folder) == RK_OK) return RK_OK;
    return rk_storage_fail(error, RK_EIO, "%s: can not be synced", folder);
}

enum rk_status rk_migrate_file_write(struct rk_migrate_file *file, const char *path,
                                     const struct rk_migrate_source *source,
                                     struct rk_storage_error *error)
{
    char part[RK_FS_PATH_MAX];
    enum rk_status status = locks_load(file, error);
    if (status != RK_OK || source->is_dry) return status;
    int size = snprintf(part, sizeof(part), "%s.part", path);
    if (size < 0 || (size_t)size >= sizeof(part))
        return rk_storage_fail(error, RK_ERANGE, "%s: the path is too long", path);
    struct writer writer = {.path = part, .error = error};
    writer.encoder = rk_calloc(1, sizeof(*writer.encoder));
    if (writer.encoder == NULL) return rk_storage_fail(error, RK_ENOMEM, "out of memory");
    writer.fd = open(part, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (writer.fd < 0) {
        status = rk_storage_fail(error, RK_EIO, "%s: %s", part, strerror(errno));
    } else {
        (void)rk_storage_fail(error, RK_ENOMEM, "out of memory");
        status = all_put(&writer, file, source);
        if (status == RK_OK) status = sync_and_check(&writer);
        (void)close(writer.fd);
        if (status == RK_OK) status = finish(part, path, error);
        (void)unlink(part);
    }
    rk_free(writer.encoder);
    return status;
}
