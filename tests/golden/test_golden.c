/* Every release's logs replay to the states that it recorded; its snapshots load; its
 * nodes' folders open. A difference means that a cluster of mixed versions would fall
 * apart: behaviour changes by a machine version only (docs/contributing.md). */
#include "golden.h"

#include "base/alloc.h"
#include "host/host.h"
#include "state/machine.h"
#include "storage/memfs.h"

#include <dirent.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

enum { RELEASES_MAX = 64, FACTS_MAX = 65536 };

/* A line of `expected`. */
struct fact {
    char what[16];
    uint32_t group;
    uint64_t index;
    uint64_t value;
};

struct release {
    char name[64];
    struct fact *facts;
    uint32_t fact_count;
};

static struct release releases[RELEASES_MAX];
static uint32_t release_count;

static void read_file(struct rk_buf *out, const char *release, const char *name)
{
    char path[1024];
    uint8_t bytes[4096];
    size_t got;
    (void)snprintf(path, sizeof(path), "%s/%s/%s", GOLDEN_FOLDER, release, name);
    FILE *file = fopen(path, "rbe");
    if (file == NULL) fail_msg("%s is missing", path);
    rk_buf_init(out);
    while ((got = fread(bytes, 1, sizeof(bytes), file)) > 0)
        rk_buf_append(out, bytes, got);
    (void)fclose(file);
    assert_int_equal(rk_buf_check(out), RK_OK);
}

static void read_packed(struct rk_buf *out, const char *release, const char *name)
{
    struct rk_buf packed;
    struct rk_reader reader;
    read_file(&packed, release, name);
    rk_buf_init(out);
    rk_reader_init(&reader, rk_buf_slice(&packed));
    assert_int_equal(golden_unpack_bytes(out, &reader), RK_OK);
    assert_int_equal(rk_reader_check(&reader, true), RK_OK);
    rk_buf_fini(&packed);
}

static void read_facts(struct release *release)
{
    struct rk_buf text;
    read_file(&text, release->name, "expected");
    rk_buf_u8(&text, 0);
    release->facts = rk_calloc(FACTS_MAX, sizeof(*release->facts));
    assert_non_null(release->facts);
    for (char *line = (char *)text.data; *line != '\0'; line = strchr(line, '\n') + 1) {
        assert_true(release->fact_count < FACTS_MAX);
        struct fact *fact = &release->facts[release->fact_count++];
        size_t size = strcspn(line, " ");
        assert_true(size < sizeof(fact->what));
        memcpy(fact->what, line, size);
        char *at = line + size;
        fact->group = (uint32_t)strtoul(at, &at, 10);
        fact->index = strtoull(at, &at, 10);
        fact->value = strtoull(at, &at, 16);
        assert_int_equal(*at, '\n');
    }
    rk_buf_fini(&text);
}

static const struct fact *find(const struct release *release, const char *what,
                               uint32_t group, uint64_t index)
{
    for (uint32_t i = 0; i < release->fact_count; i++) {
        const struct fact *fact = &release->facts[i];
        if (strcmp(fact->what, what) == 0 && fact->group == group &&
            (index == 0 || fact->index == index))
            return fact;
    }
    return NULL;
}

static int open_releases(void **state)
{
    (void)state;
    DIR *folder = opendir(GOLDEN_FOLDER);
    struct dirent *at;
    assert_non_null(folder);
    while ((at = readdir(folder)) != NULL) {
        if (at->d_type != DT_DIR || at->d_name[0] == '.') continue;
        assert_true(release_count < RELEASES_MAX);
        struct release *release = &releases[release_count++];
        (void)snprintf(release->name, sizeof(release->name), "%.63s", at->d_name);
        read_facts(release);
    }
    (void)closedir(folder);
    assert_true(release_count > 0);
    return 0;
}

static int close_releases(void **state)
{
    (void)state;
    for (uint32_t i = 0; i < release_count; i++)
        rk_free(releases[i].facts);
    return 0;
}

/* Applies the entries after `machine`'s index and compares wherever a hash was recorded. */
static uint32_t replay(const struct release *release, uint32_t group,
                       struct rk_machine *machine)
{
    char name[32];
    struct rk_buf file;
    struct rk_reader reader;
    uint32_t found_group = 0, checks = 0;
    uint64_t count = 0;
    (void)snprintf(name, sizeof(name), "group%u.log", group);
    read_packed(&file, release->name, name);
    assert_int_equal(golden_log_open(&reader, rk_buf_slice(&file), &found_group, &count),
                     RK_OK);
    assert_int_equal(found_group, group);
    uint64_t from = rk_machine_index(machine);
    for (uint64_t index = 1; index <= count; index++) {
        struct rk_slice data = rk_read_blob(&reader);
        if (index <= from) continue;
        enum rk_status status = rk_machine_apply(machine, index, data, NULL);
        if (status != RK_OK)
            fail_msg("%s: group %u: entry %u: %s", release->name, group, (unsigned)index,
                     rk_status_text(status));
        const struct fact *fact = find(release, "hash", group, index);
        uint64_t hash = 0;
        if (fact == NULL) continue;
        assert_int_equal(rk_machine_hash(machine, &hash), RK_OK);
        if (hash != fact->value)
            fail_msg(
                "%s: group %u: another state than recorded after one of the entries %u "
                "to %u",
                release->name, group, (unsigned)(index - GOLDEN_CHECK_ENTRIES + 1),
                (unsigned)index);
        checks++;
    }
    assert_int_equal(rk_reader_check(&reader, true), RK_OK);
    assert_non_null(find(release, "hash", group, count)); /* the last state is compared */
    rk_buf_fini(&file);
    return checks;
}

static void test_logs_replay_to_the_recorded_states(void **state)
{
    (void)state;
    for (uint32_t i = 0; i < release_count; i++)
        for (uint32_t group = 0; group < GOLDEN_GROUPS; group++) {
            struct rk_machine_options options = {.struct_size = sizeof(options),
                                                 .group = group};
            struct rk_machine *machine = NULL;
            assert_int_equal(rk_machine_new(&machine, &options), RK_OK);
            assert_true(replay(&releases[i], group, machine) > 100);
            rk_machine_free(machine);
        }
}

static void put_file(struct rk_fs *fs, const char *path, struct rk_slice bytes)
{
    struct rk_file *file = NULL;
    assert_int_equal(fs->open(fs, &file, path, RK_FS_WRITE | RK_FS_CREATE), RK_OK);
    assert_int_equal(fs->pwrite(file, 0, bytes.data, bytes.size), RK_OK);
    fs->close(file);
}

static void load_snapshot(const struct release *release, uint32_t group)
{
    const struct fact *fact = find(release, "snapshot", group, 0);
    assert_non_null(fact);
    struct rk_memfs *memfs = rk_memfs_new(1);
    struct rk_fs *fs = rk_memfs_fs(memfs);
    struct rk_snapshot_id id = {group, fact->index, GOLDEN_SNAPSHOT_TERM};
    char name[32], place[RK_SNAPSHOT_NAME_SIZE], path[RK_FS_PATH_MAX];
    struct rk_buf file;
    (void)snprintf(name, sizeof(name), "group%u.snap", group);
    read_packed(&file, release->name, name);
    rk_snapshot_name(place, id);
    assert_int_equal(rk_fs_join(path, "snap", place), RK_OK);
    assert_int_equal(fs->mkdir(fs, "snap"), RK_OK);
    put_file(fs, path, rk_buf_slice(&file));

    struct rk_storage_error why = {""};
    struct rk_machine *machine = NULL;
    uint64_t hash = 0;
    enum rk_status status = golden_restore(&machine, fs, "snap", id, &why);
    if (status != RK_OK)
        fail_msg("%s: group %u: the snapshot does not load: %s %s", release->name, group,
                 rk_status_text(status), why.message);
    assert_int_equal(rk_machine_hash(machine, &hash), RK_OK);
    if (hash != fact->value)
        fail_msg("%s: group %u: the snapshot loads to another state", release->name, group);
    /* The loaded machine goes on as the one did that it was taken of. */
    assert_true(replay(release, group, machine) > 10);
    rk_machine_free(machine);
    rk_buf_fini(&file);
    rk_memfs_free(memfs);
}

static void test_snapshots_load_and_go_on(void **state)
{
    (void)state;
    for (uint32_t i = 0; i < release_count; i++)
        for (uint32_t group = 0; group < GOLDEN_GROUPS; group++)
            load_snapshot(&releases[i], group);
}

static struct rk_memfs *node_folder(const struct release *release)
{
    struct rk_memfs *memfs = rk_memfs_new(1);
    struct rk_buf packed;
    read_file(&packed, release->name, "node.folder");
    assert_int_equal(golden_unpack(rk_memfs_fs(memfs), rk_buf_slice(&packed)), RK_OK);
    rk_buf_fini(&packed);
    return memfs;
}

static void test_a_node_s_folder_holds_the_same_entries(void **state)
{
    (void)state;
    for (uint32_t i = 0; i < release_count; i++) {
        const struct release *release = &releases[i];
        struct rk_memfs *memfs = node_folder(release);
        struct golden_node_group groups[GOLDEN_NODE_GROUPS];
        struct rk_storage_error why = {""};
        uint64_t node = 0;
        enum rk_status status = golden_node_read(rk_memfs_fs(memfs), groups, &node, &why);
        if (status != RK_OK)
            fail_msg("%s: %s %s", release->name, rk_status_text(status), why.message);
        assert_int_equal(node, find(release, "identity", 0, 0)->value);
        for (uint32_t group = 0; group < GOLDEN_NODE_GROUPS; group++) {
            assert_int_equal(groups[group].first, find(release, "first", group, 0)->index);
            const struct fact *entries = find(release, "entries", group, 0);
            assert_int_equal(groups[group].last, entries->index);
            assert_int_equal(groups[group].digest, entries->value);
            const struct fact *applied = find(release, "node", group, 0);
            assert_int_equal(groups[group].last, applied->index);
            assert_int_equal(groups[group].hash, applied->value);
        }
        rk_memfs_free(memfs);
    }
}

static void on_log(void *context, enum rk_log_level level, const char *text)
{
    (void)context;
    if (level >= RK_LOG_WARN) print_message("%s\n", text);
}

static void test_a_node_starts_on_it(void **state)
{
    (void)state;
    const struct rk_host_peer peers[] = {{"n1", "127.0.0.1:7600", "", ""},
                                         {"n2", "127.0.0.1:7600", "", ""},
                                         {"n3", "127.0.0.1:7600", "", ""}};
    const struct rk_host_io io = {.log = on_log};
    for (uint32_t i = 0; i < release_count; i++) {
        struct rk_memfs *memfs = node_folder(&releases[i]);
        struct rk_host_options options = {.struct_size = sizeof(options),
                                          .name = "n3",
                                          .data = "data",
                                          .self = peers[2],
                                          .peers = peers,
                                          .peer_count = 3,
                                          .seed = 5,
                                          .fs = rk_memfs_fs(memfs)};
        struct rk_host *host = NULL;
        struct rk_host_status status;
        char error[256] = "";
        if (rk_host_open(&host, &options, &io, error) != RK_OK)
            fail_msg("%s: %s", releases[i].name, error);
        rk_host_status(host, &status);
        assert_int_equal(status.number, 3);
        assert_int_equal(status.group_count, GOLDEN_NODE_GROUPS);
        rk_host_close(host);
        rk_memfs_free(memfs);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_logs_replay_to_the_recorded_states),
        cmocka_unit_test(test_snapshots_load_and_go_on),
        cmocka_unit_test(test_a_node_s_folder_holds_the_same_entries),
        cmocka_unit_test(test_a_node_starts_on_it),
    };
    return cmocka_run_group_tests(tests, open_releases, close_releases);
}
