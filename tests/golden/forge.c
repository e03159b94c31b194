/* Makes the folder of a stopped node into what a newer program might have left:
 * golden_forge DATA GROUP WHAT. Prints the index that it forged. */
#include "api/api.h"
#include "base/alloc.h"
#include "base/crc32c.h"
#include "raft/wire.h"
#include "state/machine.h"
#include "state/object.h"
#include "storage/entry_log.h"
#include "storage/snapshot.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

enum { LATER = 9 }; /* the version that is forged */

static struct rk_storage_error why;
static char wal_dir[RK_FS_PATH_MAX], snapshot_dir[RK_FS_PATH_MAX];

static void check(const char *what, enum rk_status status)
{
    if (status == RK_OK) return;
    (void)fprintf(stderr, "golden_forge: %s: %s %s\n", what, rk_status_text(status),
                  why.message);
    exit(1);
}

/* --- heads of files ------------------------------------------------------------------ */

/* Puts version at `at` and mends the checksum at 4, which covers [8, size). */
static void patch(const char *dir, const char *name, size_t at, size_t size)
{
    struct rk_fs *fs = rk_fs_posix();
    struct rk_file *file = NULL;
    char path[RK_FS_PATH_MAX];
    uint8_t *bytes = rk_malloc(size);
    if (bytes == NULL) check("memory", RK_ENOMEM);
    check(name, rk_fs_join(path, dir, name));
    check(path, fs->open(fs, &file, path, RK_FS_WRITE));
    check(path, rk_fs_read_full(file, 0, bytes, size));
    if (rk_take_u32(bytes) != 0) { /* a spare file has no head */
        rk_put_u32(bytes + at, LATER);
        rk_put_u32(bytes + 4, rk_crc32c(0, bytes + 8, size - 8));
        check(path, fs->pwrite(file, 0, bytes, size));
    }
    fs->close(file);
    rk_free(bytes);
}

static enum rk_status patch_segment(void *context, const char *name)
{
    size_t size = strlen(name);
    (void)context;
    if (size > 4 && strcmp(name + size - 4, ".wal") == 0) patch(wal_dir, name, 8, 512);
    return RK_OK;
}

/* --- entries ------------------------------------------------------------------------- */

static void command(struct rk_buf *out, const char *what)
{
    struct rk_buf bytes;
    struct rk_request request;
    bool is_table = strcmp(what, "member-table") == 0;
    const uint8_t table[] = {LATER, 0, 0};
    rk_request_init(&request, is_table ? RK_OP_MEMBERS : RK_OP_MACHINE_VERSION);
    request.number = LATER;
    request.value = (struct rk_value){rk_slice_of(table, sizeof(table)), RK_ENCODING_RAW};
    request.present = is_table ? RK_FIELD_BIT_VALUE : RK_FIELD_BIT_NUMBER;
    rk_buf_init(&bytes);
    rk_request_encode(&bytes, &request);
    check("request", rk_buf_check(&bytes));
    if (strcmp(what, "request-version") == 0) bytes.data[0] = LATER;
    if (strcmp(what, "operation") == 0) bytes.data[1] = RK_OP_MAX - 1;
    struct rk_command command = {.stamp_ms = 1, .request = rk_buf_slice(&bytes)};
    rk_command_encode(out, &command);
    check("command", rk_buf_check(out));
    if (strcmp(what, "command-version") == 0) out->data[0] = LATER;
    rk_buf_fini(&bytes);
}

static void add_entry(struct rk_wal_batch *batch, uint32_t group,
                      const struct rk_wal_group *found, const char *what)
{
    struct rk_buf data;
    rk_buf_init(&data);
    struct rk_raft_entry entry = {.index = rk_entry_log_last(found->log) + 1,
                                  .term = found->hard.term,
                                  .type = RK_RAFT_ENTRY_NORMAL};
    if (strcmp(what, "membership") == 0) {
        entry.type = RK_RAFT_ENTRY_CONF_V2;
        rk_buf_u32(&data, LATER);
    } else {
        command(&data, what);
    }
    entry.data = rk_buf_slice(&data);
    struct rk_raft_hard_state hard = found->hard;
    hard.commit = entry.index;
    check("entry", rk_wal_batch_entries(batch, group, &entry, 1));
    check("commit", rk_wal_batch_hard_state(batch, group, hard));
    (void)printf("%" PRIu64 "\n", entry.index);
    rk_buf_fini(&data);
}

/* --- snapshots ----------------------------------------------------------------------- */

/* The machine's own record, as core/state writes it, of an empty group. */
static void meta_record(struct rk_buf *out, uint32_t group, const char *what)
{
    rk_buf_u8(out, RK_OBJECT_META);
    rk_buf_u8(out, strcmp(what, "record-version") == 0 ? LATER : 1);
    rk_buf_varint(out, strcmp(what, "snapshot-machine") == 0 ? LATER : 1);
    rk_buf_varint(out, group);
    for (int i = 0; i < 6; i++) /* time, history, fence, object id, bytes, objects */
        rk_buf_varint(out, i == 3 ? 1 : 0);
    rk_buf_blob(out, RK_SLICE_EMPTY);
}

static void write_snapshot(const struct rk_snapshot_header *header, const char *what)
{
    struct rk_snapshot_encoder encoder;
    struct rk_snapshot_block block;
    struct rk_snapshot_file *file = NULL;
    struct rk_buf record;
    rk_buf_init(&record);
    meta_record(&record, header->id.group, what);
    check("encoder", rk_snapshot_encoder_init(&encoder, header));
    check("record", rk_snapshot_encoder_add(&encoder, rk_buf_slice(&record)));
    if (strcmp(what, "record-kind") == 0) {
        rk_buf_reset(&record);
        rk_buf_u8(&record, RK_OBJECT_KIND_MAX - 1);
        rk_buf_varint(&record, 1); /* id, generation, no timer */
        rk_buf_varint(&record, 1);
        rk_buf_u8(&record, 0);
        check("record", rk_snapshot_encoder_add(&encoder, rk_buf_slice(&record)));
    }
    check("encoder", rk_snapshot_encoder_finish(&encoder));
    rk_snapshot_encoder_take(&encoder, &block);
    struct rk_fs *fs = rk_fs_posix();
    check("file", rk_snapshot_file_create(&file, fs, snapshot_dir, header->id, &why));
    check("file", rk_snapshot_file_write(file, &block, &why));
    check("file", rk_snapshot_file_finish(file, &why));
    if (strcmp(what, "snapshot-format") == 0) {
        char name[RK_SNAPSHOT_NAME_SIZE];
        rk_snapshot_name(name, header->id);
        patch(snapshot_dir, name, 24, 24 + rk_take_u32(block.bytes.data + 12));
    }
    rk_buf_fini(&block.bytes);
    rk_snapshot_encoder_fini(&encoder);
    rk_buf_fini(&record);
}

static void add_snapshot(struct rk_wal_batch *batch, uint32_t group,
                         const struct rk_wal_group *found, const char *what)
{
    struct rk_raft_conf_state members = {.voters = {1, {1}}};
    struct rk_buf conf;
    struct rk_snapshot_header header = {.id = {group, rk_entry_log_last(found->log), 0}};
    rk_buf_init(&conf);
    rk_raft_conf_state_encode(&conf, &members);
    header.conf = rk_buf_slice(&conf);
    check("term", rk_entry_log_term(found->log, &header.id.term, header.id.index));
    write_snapshot(&header, what);
    check("mark",
          rk_wal_batch_mark(batch, group, header.id.index, header.id.term, header.conf));
    (void)printf("%" PRIu64 "\n", header.id.index);
    rk_buf_fini(&conf);
}

static void add_node(struct rk_wal_batch *batch, const struct rk_wal_recovered *found)
{
    struct rk_buf node;
    rk_buf_init(&node);
    rk_buf_append_slice(&node, rk_buf_slice(&found->node));
    check("node", rk_buf_check(&node));
    node.data[0] = LATER;
    check("node", rk_wal_batch_node(batch, rk_buf_slice(&node)));
    rk_buf_fini(&node);
}

/* --- a batch more -------------------------------------------------------------------- */

static void write_batch(uint32_t group, const char *what)
{
    static const char *const snapshots[] = {"snapshot-machine", "snapshot-format",
                                            "record-version", "record-kind"};
    struct rk_wal *wal = NULL;
    struct rk_wal_options options;
    struct rk_wal_batch batch;
    bool is_snapshot = false;
    struct rk_wal_recovered *found = rk_calloc(1, sizeof(*found));
    if (found == NULL) check("memory", RK_ENOMEM);
    rk_wal_options_init(&options);
    options.id = 1;
    check("log", rk_wal_open(&wal, rk_fs_posix(), wal_dir, &options, found, &why));
    if (!found->groups[group].is_present) check("group", RK_ENOENT);
    rk_wal_batch_init(&batch);
    for (size_t i = 0; i < sizeof(snapshots) / sizeof(snapshots[0]); i++)
        is_snapshot = is_snapshot || strcmp(what, snapshots[i]) == 0;
    if (strcmp(what, "node-record") == 0)
        add_node(&batch, found);
    else if (is_snapshot)
        add_snapshot(&batch, group, &found->groups[group], what);
    else
        add_entry(&batch, group, &found->groups[group], what);
    check("batch", rk_wal_write(wal, &batch, &why));
    rk_wal_batch_fini(&batch);
    rk_wal_recovered_fini(found);
    rk_wal_free(wal);
    rk_free(found);
}

int main(int argc, char **argv)
{
    if (argc != 4) {
        (void)fprintf(stderr, "usage: golden_forge DATA GROUP WHAT\n");
        return 2;
    }
    unsigned long group = strtoul(argv[2], NULL, 10);
    check("path", rk_fs_join(wal_dir, argv[1], "wal"));
    check("path", rk_fs_join(snapshot_dir, argv[1], "snap"));
    if (group >= RK_WAL_GROUPS_MAX) check("group", RK_ERANGE);
    struct rk_fs *fs = rk_fs_posix();
    if (strcmp(argv[3], "log-version") == 0)
        patch(wal_dir, "id", 8, 32);
    else if (strcmp(argv[3], "segment-version") == 0)
        check("list", fs->list(fs, wal_dir, patch_segment, NULL));
    else
        write_batch((uint32_t)group, argv[3]);
    return 0;
}
