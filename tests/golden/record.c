/* Records the golden files of a release: golden_record FOLDER, which must not exist. Of the
 * same sources two runs write the same bytes. */
#include "golden.h"
#include "workload.h"

#include "../unit/host/cluster.h"
#include "base/alloc.h"
#include "raft/wire.h"
#include "storage/inspect.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

enum { ENTRIES = 1600, SNAPSHOT_AT = 1000 };

static const char *folder;
static struct rk_buf expected;

__attribute__((noreturn)) static void die(const char *what, enum rk_status status)
{
    (void)fprintf(stderr, "golden_record: %s: %s\n", what, rk_status_text(status));
    exit(1);
}

static void check(const char *what, enum rk_status status)
{
    if (status != RK_OK) die(what, status);
}

static void write_out(const char *name, const struct rk_buf *bytes)
{
    char path[1024];
    (void)snprintf(path, sizeof(path), "%s/%s", folder, name);
    check(name, rk_buf_check(bytes));
    FILE *file = fopen(path, "wbx");
    if (file == NULL || fwrite(bytes->data, 1, bytes->size, file) != bytes->size ||
        fclose(file) != 0)
        die(path, RK_EIO);
    (void)printf("%7zu %s\n", bytes->size, path);
}

static void write_packed(const char *name, const struct rk_buf *bytes)
{
    struct rk_buf packed;
    rk_buf_init(&packed);
    golden_pack_bytes(&packed, rk_buf_slice(bytes));
    write_out(name, &packed);
    rk_buf_fini(&packed);
}

/* --- logs and snapshots of single groups --------------------------------------------- */

struct recording {
    struct workload workload;
    struct rk_buf entries;
    uint64_t count;
    bool has_snapshot;
};

static uint64_t hash_of(struct rk_machine *machine)
{
    uint64_t hash = 0;
    check("hash", rk_machine_hash(machine, &hash));
    return hash;
}

static void write_snapshot(struct recording *recording)
{
    struct workload *workload = &recording->workload;
    struct rk_snapshot_encoder encoder;
    struct rk_snapshot_block block;
    struct rk_buf records, conf;
    struct rk_raft_conf_state members = {.voters = {3, {1, 2, 3}}};
    char name[32];
    bool is_done = false;
    rk_buf_init(&records);
    rk_buf_init(&conf);
    rk_raft_conf_state_encode(&conf, &members);
    struct rk_snapshot_header header = {
        .id = {workload->group, workload->index, GOLDEN_SNAPSHOT_TERM},
        .history = rk_machine_history(workload->machine),
        .conf = rk_buf_slice(&conf)};
    check("snapshot", rk_snapshot_encoder_init(&encoder, &header));
    check("snapshot", rk_machine_snapshot_begin(workload->machine));
    while (!is_done)
        check("records",
              rk_machine_snapshot_step(workload->machine, &records, 65536, &is_done));
    rk_machine_snapshot_end(workload->machine);
    struct rk_reader reader;
    rk_reader_init(&reader, rk_buf_slice(&records));
    while (rk_reader_left(&reader) > 0)
        check("record", rk_snapshot_encoder_add(&encoder, rk_read_blob(&reader)));
    check("snapshot", rk_snapshot_encoder_finish(&encoder));
    rk_snapshot_encoder_take(&encoder, &block);
    (void)snprintf(name, sizeof(name), "group%u.snap", workload->group);
    write_packed(name, &block.bytes);
    rk_buf_printf(&expected, "snapshot %u %" PRIu64 " %016" PRIx64 "\n", workload->group,
                  workload->index, hash_of(workload->machine));
    rk_buf_fini(&block.bytes);
    rk_snapshot_encoder_fini(&encoder);
    rk_buf_fini(&records);
    rk_buf_fini(&conf);
}

static void on_entry(void *context, struct rk_slice data)
{
    struct recording *recording = context;
    struct workload *workload = &recording->workload;
    rk_buf_blob(&recording->entries, data);
    recording->count++;
    if (workload->index % GOLDEN_CHECK_ENTRIES == 0)
        rk_buf_printf(&expected, "hash %u %" PRIu64 " %016" PRIx64 "\n", workload->group,
                      workload->index, hash_of(workload->machine));
    if (workload->index < SNAPSHOT_AT || recording->has_snapshot ||
        !workload_has_all_kinds(workload))
        return;
    recording->has_snapshot = true;
    write_snapshot(recording);
}

static void record_group(uint32_t group)
{
    struct recording *recording = rk_calloc(1, sizeof(*recording));
    struct rk_buf file;
    char name[32];
    if (recording == NULL) die("memory", RK_ENOMEM);
    struct workload *workload = &recording->workload;
    workload->entry = on_entry;
    workload->context = recording;
    workload_open(workload, group, 1 + group);
    while (recording->count < ENTRIES)
        workload_step(workload);
    rk_buf_printf(&expected, "hash %u %" PRIu64 " %016" PRIx64 "\n", group, workload->index,
                  hash_of(workload->machine));
    if (!recording->has_snapshot) die("no moment for the snapshot", RK_EINVAL);
    if (workload_gaps(workload) > 0) die("the history does not cover all", RK_EINVAL);
    rk_buf_init(&file);
    golden_log_begin(&file, group, recording->count);
    rk_buf_append_slice(&file, rk_buf_slice(&recording->entries));
    (void)snprintf(name, sizeof(name), "group%u.log", group);
    write_packed(name, &file);
    rk_buf_fini(&file);
    rk_buf_fini(&recording->entries);
    workload_close(workload);
    rk_free(recording);
}

/* --- a node's folder ----------------------------------------------------------------- */

/* Calls of all kinds; answers do not matter. */
static void traffic(struct cluster *cluster, uint32_t node, uint32_t from, uint32_t to)
{
    char text[256];
    for (uint32_t i = from; i < to; i++) {
        (void)snprintf(text, sizeof(text), "{\"k\":\"key%u\",\"v\":\"%024u\"}", i % 40, i);
        (void)cluster_call(cluster, node, RK_OP_CACHE_PUT, text);
        (void)snprintf(text, sizeof(text), "{\"topic\":\"t%u\",\"data\":%u}", i % 3, i);
        (void)cluster_call(cluster, node, RK_OP_QUEUE_PUBLISH, text);
        (void)snprintf(text, sizeof(text), "{\"topic\":\"t%u\"}", (i + 1) % 3);
        (void)cluster_call(cluster, node, RK_OP_QUEUE_CONSUME, text);
        (void)snprintf(text, sizeof(text),
                       "{\"resource\":\"r%u\",\"owner\":\"o%u\",\"wait_ms\":500,"
                       "\"lease_ms\":900}",
                       i % 4, i);
        (void)cluster_call(cluster, node, RK_OP_LOCK_ACQUIRE, text);
        cluster_run(cluster, 15);
    }
    cluster_run(cluster, 600);
}

/* Node 3 leads, appends alone and is overruled: its log is cut; then it stays away until
 * the others have dropped what it needs: it gets snapshots. */
static struct cluster *make_history(void)
{
    struct cluster *cluster = cluster_new((struct cluster_options){
        .nodes = 3, .groups = GOLDEN_NODE_GROUPS - 1, .snapshot_bytes = 6000});
    cluster_settle(cluster, 5000);
    cluster_run(cluster, 3000);
    traffic(cluster, 0, 0, 10);
    cluster_cut(cluster, 0, 2, true);
    cluster_cut(cluster, 1, 2, true);
    traffic(cluster, 2, 10, 14);
    traffic(cluster, 0, 14, 16);
    cluster_cut(cluster, 0, 2, false);
    cluster_cut(cluster, 1, 2, false);
    cluster_settle(cluster, 10000);
    traffic(cluster, 2, 16, 20);
    cluster_kill(cluster, 2, RK_MEMFS_CRASH_KEEP_ALL);
    traffic(cluster, 0, 20, 70);
    cluster_start(cluster, 2);
    cluster_settle(cluster, 10000);
    cluster_run(cluster, 4000);
    traffic(cluster, 1, 70, 75);
    cluster_run(cluster, 4000);
    cluster_check_equal(cluster);
    return cluster;
}

/* The folder holds every kind of record that a node writes. */
static void check_records(struct rk_fs *fs)
{
    static const char *const kinds[] = {" entry ",   " hard-state ", " truncate ",
                                        " compact ", " mark ",       " install ",
                                        " node ",    " last "};
    struct rk_storage_inspect_options options;
    struct rk_storage_error why = {""};
    struct rk_buf text;
    uint64_t faults = 0;
    uint32_t missing = 0;
    rk_storage_inspect_options_init(&options);
    options.has_batches = options.has_records = true;
    rk_buf_init(&text);
    check("inspect",
          rk_storage_inspect(fs, "data/wal", "data/snap", &options, &text, &faults, &why));
    rk_buf_u8(&text, 0);
    if (getenv("GOLDEN_INSPECT") != NULL) (void)fputs((const char *)text.data, stderr);
    for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++) {
        if (strstr((const char *)text.data, kinds[i]) != NULL) continue;
        (void)fprintf(stderr, "golden_record: no record%sin the node's log\n", kinds[i]);
        missing++;
    }
    if (missing > 0 || faults > 0) die("the node's log", RK_EINVAL);
    rk_buf_fini(&text);
}

static void record_node(void)
{
    static const char *const folders[] = {"data/wal", "data/snap"};
    struct cluster *cluster = make_history();
    struct rk_host *host = cluster->nodes[2].host;
    struct rk_fs *fs = rk_memfs_fs(cluster->nodes[2].disk);
    struct rk_buf packed;
    for (uint32_t group = 0; group < GOLDEN_NODE_GROUPS; group++) {
        uint64_t index, hash;
        check("hash", rk_host_group_hash(host, group, &index, &hash));
        rk_buf_printf(&expected, "node %u %" PRIu64 " %016" PRIx64 "\n", group, index,
                      hash);
    }
    cluster_kill(cluster, 2, RK_MEMFS_CRASH_KEEP_ALL);
    check_records(fs);
    struct rk_memfs *copy = rk_memfs_clone(cluster->nodes[2].disk);
    struct golden_node_group groups[GOLDEN_NODE_GROUPS];
    struct rk_storage_error why = {""};
    uint64_t node;
    check("the node's folder", golden_node_read(rk_memfs_fs(copy), groups, &node, &why));
    rk_buf_printf(&expected, "identity 0 0 %016" PRIx64 "\n", node);
    for (uint32_t group = 0; group < GOLDEN_NODE_GROUPS; group++) {
        rk_buf_printf(&expected, "first %u %" PRIu64 " 0\n", group, groups[group].first);
        rk_buf_printf(&expected, "entries %u %" PRIu64 " %016" PRIx64 "\n", group,
                      groups[group].last, groups[group].digest);
    }
    rk_memfs_free(copy);
    rk_buf_init(&packed);
    check("pack", golden_pack(&packed, fs, folders, 2));
    write_out("node.folder", &packed);
    rk_buf_fini(&packed);
    cluster_free(cluster);
}

int main(int argc, char **argv)
{
    if (argc != 2) {
        (void)fprintf(stderr, "usage: golden_record FOLDER\n");
        return 2;
    }
    folder = argv[1];
    if (mkdir(folder, 0777) != 0) {
        (void)fprintf(stderr, "golden_record: %s can not be made; is it there already?\n",
                      folder);
        return 1;
    }
    rk_buf_init(&expected);
    for (uint32_t group = 0; group < GOLDEN_GROUPS; group++)
        record_group(group);
    record_node();
    write_out("expected", &expected);
    rk_buf_fini(&expected);
    return 0;
}
