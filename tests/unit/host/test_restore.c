/* Backups read from a running cluster, and the histories that begin from them. */
#include "cluster.h"

#include "api/delivery_id.h"
#include "host/restore.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

enum { GROUPS = 2, KEYS = 120 };

struct saved {
    struct rk_buf file;
    char delivery[RK_DELIVERY_ID_SIZE]; /* in flight */
    uint64_t fence;                     /* higher than all given out */
    uint64_t history;
    uint64_t position_index; /* of group 1, behind the backup */
};

static void save(struct cluster *cluster, uint32_t node, struct rk_buf *out)
{
    struct rk_host *host = cluster->nodes[node].host;
    struct watch_fs *watch = &cluster->nodes[node].watch;
    char error[256] = "";
    bool is_done = false;
    assert_int_equal(rk_host_backup_begin(host, "test"), RK_OK);
    assert_int_equal(rk_host_backup_begin(host, "test"), RK_EBUSY);
    for (int turn = 0; !is_done; turn++) {
        watch->is_forbidden = true;
        enum rk_status status =
            rk_host_backup_read(host, out, out->size + 5000, &is_done, error);
        watch->is_forbidden = false;
        assert_string_equal(watch->found, "");
        if (status != RK_OK) fail_msg("%s: %s", rk_status_text(status), error);
        assert_true(turn < 20000);
        cluster_step(cluster);
    }
    rk_host_backup_end(host);
}

static const struct rk_reply *ask(struct cluster *cluster, uint32_t node, enum rk_op op,
                                  const char *json)
{
    const struct rk_reply *reply = cluster_ask(cluster, node, op, json);
    if (reply->status != RK_OK) fail_msg("%s: %s", json, reply->text);
    return reply;
}

/* Locks, a message in flight, one that is ready, entries. */
static void fill(struct cluster *cluster, struct saved *saved)
{
    char json[128];
    for (uint32_t i = 0; i < KEYS; i++) {
        snprintf(json, sizeof(json), "{\"k\":\"key%u\",\"v\":%u}", i, i);
        (void)ask(cluster, i % cluster->count, RK_OP_CACHE_PUT, json);
    }
    (void)ask(cluster, 0, RK_OP_LOCK_ACQUIRE,
              "{\"resource\":\"held\",\"owner\":\"alice\",\"lease_ms\":600000}");
    (void)ask(cluster, 0, RK_OP_QUEUE_PUBLISH, "{\"topic\":\"t\",\"data\":1}");
    (void)ask(cluster, 0, RK_OP_QUEUE_PUBLISH, "{\"topic\":\"t\",\"data\":2}");
    const struct rk_reply *reply =
        ask(cluster, 0, RK_OP_QUEUE_CONSUME, "{\"topic\":\"t\"}");
    snprintf(saved->delivery, sizeof(saved->delivery), "%.*s",
             (int)reply->messages[0].id.size, (const char *)reply->messages[0].id.data);
}

static struct cluster *open_saved(struct saved *saved, uint32_t nodes)
{
    memset(saved, 0, sizeof(*saved));
    struct cluster *cluster = cluster_new((struct cluster_options){
        .nodes = nodes, .groups = GROUPS, .snapshot_bytes = 1 << 20});
    cluster_settle(cluster, 3000);
    fill(cluster, saved);
    rk_buf_init(&saved->file);
    save(cluster, nodes - 1, &saved->file);
    return cluster;
}

/* A cluster, saved by a follower; what happens later is lost with it. */
static void saved_make(struct saved *saved)
{
    struct cluster *cluster = open_saved(saved, 3);
    const struct rk_reply *reply = NULL;
    for (int i = 0; i < 20; i++) {
        reply = ask(cluster, 0, RK_OP_LOCK_ACQUIRE,
                    "{\"resource\":\"later\",\"owner\":\"bob\"}");
        (void)ask(cluster, 0, RK_OP_LOCK_RELEASE,
                  "{\"resource\":\"later\",\"owner\":\"bob\"}");
    }
    saved->fence = reply->fence;
    saved->history = reply->position_history;
    for (uint32_t i = 0; i < 50; i++)
        reply = ask(cluster, 0, RK_OP_CACHE_PUT, "{\"k\":\"key1\",\"v\":\"lost\"}");
    saved->position_index = reply->position_index;
    cluster_free(cluster);
}

static void put_file(struct node *node, const char *path, struct rk_slice bytes)
{
    struct rk_fs *fs = rk_memfs_fs(node->disk);
    struct rk_file *file = NULL;
    assert_int_equal(fs->open(fs, &file, path, RK_FS_WRITE | RK_FS_CREATE | RK_FS_TRUNCATE),
                     RK_OK);
    assert_int_equal(fs->pwrite(file, 0, bytes.data, bytes.size), RK_OK);
    assert_int_equal(fs->datasync(file), RK_OK);
    fs->close(file);
    assert_int_equal(fs->sync_dir(fs, "."), RK_OK);
}

static void prepare(struct node *node, const struct saved *saved)
{
    struct rk_storage_error error = {""};
    put_file(node, "file", rk_buf_slice(&saved->file));
    enum rk_status status =
        rk_restore_prepare(rk_memfs_fs(node->disk), "file", "data", &error);
    if (status != RK_OK) fail_msg("%s: %s", rk_status_text(status), error.message);
}

/* Nodes with empty disks, down. */
static struct cluster *open_empty(uint32_t nodes)
{
    /* Another number of groups than the backup's, which counts. */
    struct cluster *cluster = cluster_new((struct cluster_options){
        .nodes = nodes, .groups = GROUPS + 3, .snapshot_bytes = 1 << 20});
    for (uint32_t i = 0; i < nodes; i++) {
        cluster_kill(cluster, i, RK_MEMFS_CRASH_LOSE_ALL);
        cluster_wipe(cluster, i);
    }
    return cluster;
}

static struct cluster *open_restored(uint32_t nodes, const struct saved *saved)
{
    struct cluster *cluster = open_empty(nodes);
    for (uint32_t i = 0; i < nodes; i++)
        prepare(&cluster->nodes[i], saved);
    for (uint32_t i = 0; i < nodes; i++)
        cluster_start(cluster, i);
    cluster->groups = GROUPS;
    cluster_settle(cluster, 4000);
    return cluster;
}

static void check_entries(struct cluster *cluster)
{
    char json[64], value[16];
    for (uint32_t i = 0; i < KEYS; i++) {
        snprintf(json, sizeof(json), "{\"k\":\"key%u\"}", i);
        const struct rk_reply *reply =
            ask(cluster, i % cluster->count, RK_OP_CACHE_GET, json);
        assert_true(reply->found);
        snprintf(value, sizeof(value), "%u", i);
        assert_true(rk_slice_is_equal(reply->value.bytes, rk_slice_of_string(value)));
    }
}

/* Sessions, locks and deliveries of the old history are foreign; the rest is there. */
static void check_restored(struct cluster *cluster, const struct saved *saved)
{
    char json[256];
    check_entries(cluster);
    snprintf(json, sizeof(json), "{\"id\":\"%s\"}", saved->delivery);
    const struct rk_reply *reply = cluster_ask(cluster, 0, RK_OP_QUEUE_ACK, json);
    assert_int_equal(reply->status, RK_EGONE);
    reply = ask(cluster, 0, RK_OP_QUEUE_INFO, "{\"topic\":\"t\"}");
    assert_int_equal(reply->topic_stats->ready, 2);
    reply = ask(cluster, 0, RK_OP_LOCK_ACQUIRE,
                "{\"resource\":\"held\",\"owner\":\"carol\",\"wait_ms\":0}");
    assert_true(reply->granted);
    assert_true(reply->fence > saved->fence);
    assert_true(reply->position_history != saved->history);
    /* A position of before, beyond what the new history would know, is dropped. */
    struct rk_request *get = cluster_request(cluster, RK_OP_CACHE_GET, "{\"k\":\"key1\"}");
    struct rk_position_item item = {1, UINT64_C(1) << 52};
    get->position.history = saved->history;
    get->position.items = &item;
    get->position.count = 1;
    reply = cluster_answer(cluster, cluster_send(cluster, 0, get), 3000);
    assert_int_equal(reply->status, RK_OK);
    /* Versions go on above those of the lost end. */
    reply = ask(cluster, 0, RK_OP_CACHE_PUT, "{\"k\":\"new\",\"v\":1}");
    assert_true(reply->version > saved->position_index);
    assert_true(reply->version < UINT64_C(1) << 53);
    cluster_run(cluster, 500);
    cluster_check_equal(cluster);
}

static void restore_into(uint32_t nodes)
{
    struct saved saved;
    struct rk_host_status status;
    saved_make(&saved);
    struct cluster *cluster = open_restored(nodes, &saved);
    for (uint32_t i = 0; i < nodes; i++) {
        rk_host_status(cluster->nodes[i].host, &status);
        assert_string_equal(status.state, "running");
        assert_int_equal(status.group_count, GROUPS + 1);
        assert_int_equal(status.number, i + 1);
    }
    check_restored(cluster, &saved);
    /* What it began from is not needed any more. */
    for (uint32_t i = 0; i < nodes; i++)
        cluster_kill(cluster, i, RK_MEMFS_CRASH_LOSE_ALL);
    for (uint32_t i = 0; i < nodes; i++) {
        struct rk_fs *fs = rk_memfs_fs(cluster->nodes[i].disk);
        struct rk_file *file = NULL;
        assert_int_equal(fs->open(fs, &file, "data/backup", 0), RK_ENOENT);
        cluster_start(cluster, i);
    }
    cluster_settle(cluster, 5000);
    check_entries(cluster);
    cluster_free(cluster);
    rk_buf_fini(&saved.file);
}

static void test_restored_into_three(void **state)
{
    (void)state;
    restore_into(3);
}

static void test_restored_into_five(void **state)
{
    (void)state;
    restore_into(5);
}

static void test_restored_into_one(void **state)
{
    (void)state;
    restore_into(1);
}

/* The groups have their state some moments before their history begins: nothing is read
 * from it under none. */
static void test_reads_wait_for_the_new_history(void **state)
{
    (void)state;
    struct saved saved;
    struct rk_host_status status;
    uint64_t first = 0, last = 0;
    saved_make(&saved);
    struct cluster *cluster = open_empty(3);
    for (uint32_t i = 0; i < 3; i++)
        prepare(&cluster->nodes[i], &saved);
    for (uint32_t i = 0; i < 3; i++)
        cluster_start(cluster, i);
    cluster->groups = GROUPS;
    for (int turn = 0; turn < 2000; turn++) {
        cluster_step(cluster);
        rk_host_status(cluster->nodes[1].host, &status);
        if (status.history != 0) break;
        if (status.number == 0) continue;
        last = cluster_call(cluster, 1, RK_OP_CACHE_GET,
                            "{\"k\":\"key1\",\"consistency\":\"local\"}");
        if (first == 0) first = last;
    }
    assert_true(first != 0 && last > first);
    cluster_settle(cluster, 4000);
    rk_host_status(cluster->nodes[1].host, &status);
    assert_int_not_equal(status.history, saved.history);
    for (uint64_t call = first; call <= last; call++) {
        const struct rk_reply *reply = cluster_answer(cluster, call, 3000);
        assert_int_equal(reply->status, RK_OK);
        assert_true(reply->found);
        assert_int_equal(reply->position_history, status.history);
    }
    cluster_free(cluster);
    rk_buf_fini(&saved.file);
}

/* What was answered before the save began is in it, also when a follower that lags behind
 * is asked; and it saves again. */
static void test_backup_has_all_that_was_answered(void **state)
{
    (void)state;
    struct saved saved;
    struct rk_buf again;
    struct cluster *cluster = open_saved(&saved, 3);
    int leader = cluster_leader(cluster, 1);
    uint32_t late = ((uint32_t)leader + 1) % 3;
    cluster_cut(cluster, (uint32_t)leader, late, true);
    (void)ask(cluster, (uint32_t)leader, RK_OP_CACHE_PUT, "{\"k\":\"key1\",\"v\":\"x\"}");
    cluster_cut(cluster, (uint32_t)leader, late, false);
    rk_buf_init(&again);
    save(cluster, late, &again);
    assert_int_equal(rk_host_metrics(cluster->nodes[late].host)->backups,
                     late == 2 ? 2 : 1);
    cluster_free(cluster);
    rk_buf_fini(&saved.file);
    saved.file = again;
    cluster = open_restored(1, &saved);
    const struct rk_reply *reply = ask(cluster, 0, RK_OP_CACHE_GET, "{\"k\":\"key1\"}");
    assert_true(rk_slice_is_equal(reply->value.bytes, RK_SLICE_LITERAL("\"x\"")));
    cluster_free(cluster);
    rk_buf_fini(&saved.file);
}

static void test_no_backup_without_a_majority(void **state)
{
    (void)state;
    struct saved saved;
    struct cluster *cluster = open_saved(&saved, 3);
    struct rk_buf out;
    char error[256] = "";
    bool is_done = false;
    enum rk_status status = RK_OK;
    rk_buf_init(&out);
    cluster_kill(cluster, 1, RK_MEMFS_CRASH_KEEP_ALL);
    cluster_kill(cluster, 2, RK_MEMFS_CRASH_KEEP_ALL);
    cluster_run(cluster, 3000);
    assert_int_equal(rk_host_backup_begin(cluster->nodes[0].host, "test"), RK_OK);
    for (int i = 0; i < 40000 && status == RK_OK; i++) {
        status = rk_host_backup_read(cluster->nodes[0].host, &out, 5000, &is_done, error);
        cluster_step(cluster);
    }
    assert_int_equal(status, RK_EUNAVAILABLE);
    assert_non_null(strstr(error, "no majority confirms"));
    assert_int_equal(out.size, 0);
    rk_host_backup_end(cluster->nodes[0].host);
    rk_buf_fini(&out);
    cluster_free(cluster);
    rk_buf_fini(&saved.file);
}

static void check_refused(struct cluster *cluster, uint32_t node, const char *text)
{
    struct rk_host_status status;
    rk_host_status(cluster->nodes[node].host, &status);
    assert_int_equal(status.number, 0);
    if (strstr(status.state, text) == NULL || strncmp(status.state, "refused: ", 9) != 0)
        fail_msg("n%u: %s", node + 1, status.state);
}

/* Only some have the backup, or not all the same one: nothing is born, and all say why. */
static void test_all_need_the_same_backup(void **state)
{
    (void)state;
    struct saved saved, other;
    saved_make(&saved);
    struct cluster *cluster = open_saved(&other, 3);
    rk_buf_reset(&other.file);
    save(cluster, 2, &other.file); /* of the same state, but another one */
    cluster_free(cluster);
    cluster = open_empty(3);
    prepare(&cluster->nodes[0], &saved);
    prepare(&cluster->nodes[1], &saved);
    for (uint32_t i = 0; i < 3; i++)
        cluster_start(cluster, i);
    cluster_run(cluster, 3000);
    check_refused(cluster, 0, "node n3 has none");
    check_refused(cluster, 1, "node n3 has none");
    check_refused(cluster, 2, "node n1 restores a backup, this node has none");
    cluster_kill(cluster, 2, RK_MEMFS_CRASH_KEEP_ALL);
    cluster_wipe(cluster, 2);
    prepare(&cluster->nodes[2], &other);
    cluster_start(cluster, 2);
    cluster_run(cluster, 3000);
    check_refused(cluster, 0, "all need copies of one file");
    check_refused(cluster, 2, "all need copies of one file");
    cluster_kill(cluster, 2, RK_MEMFS_CRASH_KEEP_ALL);
    cluster_wipe(cluster, 2);
    prepare(&cluster->nodes[2], &saved);
    cluster_start(cluster, 2);
    cluster->groups = GROUPS;
    cluster_settle(cluster, 4000);
    check_restored(cluster, &saved);
    cluster_free(cluster);
    rk_buf_fini(&saved.file);
    rk_buf_fini(&other.file);
}

/* A node that was not there when the others were born, and has lost its backup since, is
 * not taken for an empty voter; one that is replaced gets everything from the others. */
static void test_the_last_one_comes_with_its_backup_or_not_at_all(void **state)
{
    (void)state;
    struct saved saved;
    struct rk_host_status status;
    saved_make(&saved);
    struct cluster *cluster = open_empty(3);
    for (uint32_t i = 0; i < 3; i++)
        prepare(&cluster->nodes[i], &saved);
    for (uint32_t i = 0; i < 3; i++)
        cluster_start(cluster, i);
    do {
        cluster_step(cluster);
        rk_host_status(cluster->nodes[0].host, &status);
    } while (status.number == 0);
    /* The first is born; what it tells the third is lost. */
    cluster_kill(cluster, 2, RK_MEMFS_CRASH_KEEP_ALL);
    cluster->groups = GROUPS;
    cluster_settle(cluster, 5000);
    struct rk_fs *fs = rk_memfs_fs(cluster->nodes[2].disk);
    assert_int_equal(fs->rename(fs, "data/backup", "elsewhere"), RK_OK);
    cluster_start(cluster, 2);
    cluster_run(cluster, 2000);
    check_refused(cluster, 2, "was to begin from the backup");
    cluster_kill(cluster, 2, RK_MEMFS_CRASH_KEEP_ALL);
    assert_int_equal(fs->rename(fs, "elsewhere", "data/backup"), RK_OK);
    cluster_start(cluster, 2);
    cluster_settle(cluster, 5000);
    check_restored(cluster, &saved);
    /* A later member begins empty: with a backup it is refused. */
    cluster_kill(cluster, 1, RK_MEMFS_CRASH_KEEP_ALL);
    cluster_settle(cluster, 5000);
    (void)ask(cluster, 0, RK_OP_CLUSTER_REPLACE, "{\"name\":\"n2\"}");
    cluster_wipe(cluster, 1);
    prepare(&cluster->nodes[1], &saved);
    cluster_start(cluster, 1);
    cluster_run(cluster, 2000);
    check_refused(cluster, 1, "the cluster is there already");
    cluster_kill(cluster, 1, RK_MEMFS_CRASH_KEEP_ALL);
    cluster_wipe(cluster, 1);
    cluster_start(cluster, 1);
    cluster_run(cluster, 4000);
    cluster_settle(cluster, 5000);
    check_entries(cluster);
    cluster_check_equal(cluster);
    cluster_free(cluster);
    rk_buf_fini(&saved.file);
}

/* Power fails at each operation of the birth: nothing is half restored. */
static void test_power_may_fail_at_any_moment(void **state)
{
    (void)state;
    struct saved saved;
    saved_make(&saved);
    bool has_survived = false;
    for (uint64_t at = 1; !has_survived; at++) {
        struct cluster *cluster = open_empty(1);
        struct node *node = &cluster->nodes[0];
        char error[256] = "";
        node->is_chatty = true;
        prepare(node, &saved);
        rk_memfs_crash_at(node->disk, rk_memfs_op_count(node->disk) + at);
        if (cluster_try_start(cluster, 0, error) == RK_OK) {
            cluster_run(cluster, 1500);
            has_survived = !rk_memfs_is_down(node->disk);
            cluster_kill(cluster, 0, RK_MEMFS_CRASH_RANDOM);
        }
        rk_memfs_crash_at(node->disk, 0);
        rk_memfs_restart(node->disk, RK_MEMFS_CRASH_RANDOM);
        node->fatal[0] = '\0';
        node->is_chatty = false;
        cluster_start(cluster, 0);
        cluster->groups = GROUPS;
        cluster_settle(cluster, 4000);
        check_restored(cluster, &saved);
        cluster_free(cluster);
        assert_true(at < 400);
    }
    rk_buf_fini(&saved.file);
}

static enum rk_status prepare_fails(struct node *node, const char *text)
{
    struct rk_storage_error error = {""};
    enum rk_status status =
        rk_restore_prepare(rk_memfs_fs(node->disk), "file", "data", &error);
    if (strstr(error.message, text) == NULL) fail_msg("%s", error.message);
    return status;
}

/* The file with the machine's version, in group 1's first record, as a later program would
 * write it. */
static void forge_version(struct node *node, const struct rk_buf *file, struct rk_buf *out)
{
    struct rk_fs *fs = rk_memfs_fs(node->disk);
    struct rk_backup_reader *backup = NULL;
    struct rk_backup_encoder encoder;
    put_file(node, "file", rk_buf_slice(file));
    assert_int_equal(rk_backup_reader_open(&backup, fs, "file", NULL), RK_OK);
    assert_int_equal(rk_backup_begin(&encoder, rk_backup_reader_header(backup), out),
                     RK_OK);
    for (uint32_t group = 0; group <= GROUPS; group++) {
        struct rk_snapshot_reader *snapshot = NULL;
        struct rk_snapshot_encoder part;
        struct rk_snapshot_block block;
        bool is_end = false;
        assert_int_equal(rk_backup_snapshot_open(backup, &snapshot, group, NULL), RK_OK);
        const struct rk_snapshot_header *header = rk_snapshot_reader_header(snapshot);
        assert_int_equal(rk_snapshot_encoder_init(&part, header), RK_OK);
        for (bool is_first = true;; is_first = false) {
            struct rk_slice record;
            uint8_t first[512];
            assert_int_equal(rk_snapshot_reader_next(snapshot, &record, &is_end, NULL),
                             RK_OK);
            if (is_end) break;
            if (is_first && group == 1) {
                assert_true(record.size <= sizeof(first));
                memcpy(first, record.data, record.size);
                first[2]++; /* kind, record version, machine version */
                record.data = first;
            }
            assert_int_equal(rk_snapshot_encoder_add(&part, record), RK_OK);
        }
        assert_int_equal(rk_snapshot_encoder_finish(&part), RK_OK);
        rk_snapshot_encoder_take(&part, &block);
        rk_backup_part(&encoder, header->id);
        rk_backup_bytes(&encoder, rk_buf_slice(&block.bytes));
        rk_buf_append_slice(out, rk_buf_slice(&block.bytes));
        rk_buf_fini(&block.bytes);
        rk_snapshot_encoder_fini(&part);
        rk_snapshot_reader_free(snapshot);
    }
    assert_int_equal(rk_backup_end(&encoder, out), RK_OK);
    rk_backup_reader_free(backup);
}

static void test_folders_and_files_that_are_refused(void **state)
{
    (void)state;
    struct saved saved;
    struct rk_buf newer;
    char error[256] = "";
    saved_make(&saved);
    struct cluster *cluster = open_empty(1);
    struct node *node = &cluster->nodes[0];
    struct rk_fs *fs = rk_memfs_fs(node->disk);
    assert_int_equal(prepare_fails(node, "file: cannot be opened"), RK_ENOENT);
    saved.file.data[saved.file.size / 2] ^= 4;
    put_file(node, "file", rk_buf_slice(&saved.file));
    assert_int_equal(prepare_fails(node, "offset "), RK_ECORRUPT);
    saved.file.data[saved.file.size / 2] ^= 4;
    rk_buf_init(&newer);
    forge_version(node, &saved.file, &newer);
    put_file(node, "file", rk_buf_slice(&newer));
    assert_int_equal(prepare_fails(node, "machine version 2; this program knows up to 1"),
                     RK_EUNSUPPORTED);
    /* None of these left anything behind. */
    prepare(node, &saved);
    assert_int_equal(prepare_fails(node, "holds data of a node already (backup)"),
                     RK_EEXIST);
    /* The backup is looked at again before anything begins from it. */
    assert_int_equal(rk_memfs_flip(node->disk, "data/backup", saved.file.size - 3, 1),
                     RK_OK);
    assert_int_equal(cluster_try_start(cluster, 0, error), RK_ECORRUPT);
    assert_non_null(strstr(error, "data/backup: offset "));
    assert_int_equal(rk_memfs_flip(node->disk, "data/backup", saved.file.size - 3, 1),
                     RK_OK);
    assert_int_equal(fs->rename(fs, "data/backup", "data/backup.tmp"), RK_OK);
    assert_int_equal(cluster_try_start(cluster, 0, error), RK_EINVAL);
    assert_non_null(strstr(error, "a restore was not finished"));
    assert_int_equal(fs->rename(fs, "data/backup.tmp", "data/backup"), RK_OK);
    cluster_start(cluster, 0);
    cluster->groups = GROUPS;
    cluster_settle(cluster, 4000);
    cluster_kill(cluster, 0, RK_MEMFS_CRASH_KEEP_ALL);
    put_file(node, "file", rk_buf_slice(&saved.file));
    assert_int_equal(prepare_fails(node, "holds data of a node already"), RK_EEXIST);
    rk_buf_fini(&newer);
    rk_buf_fini(&saved.file);
    cluster_free(cluster);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_restored_into_three),
        cmocka_unit_test(test_restored_into_five),
        cmocka_unit_test(test_restored_into_one),
        cmocka_unit_test(test_reads_wait_for_the_new_history),
        cmocka_unit_test(test_backup_has_all_that_was_answered),
        cmocka_unit_test(test_no_backup_without_a_majority),
        cmocka_unit_test(test_all_need_the_same_backup),
        cmocka_unit_test(test_the_last_one_comes_with_its_backup_or_not_at_all),
        cmocka_unit_test(test_power_may_fail_at_any_moment),
        cmocka_unit_test(test_folders_and_files_that_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
