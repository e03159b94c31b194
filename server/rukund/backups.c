#include "rukund/backups.h"

#include "host/restore.h"

#include <inttypes.h>
#include <stdio.h>
#include <time.h>

struct shown {
    struct rk_restore_group total;
    uint32_t group_count;
};

static void show_header(void *context, const struct rk_backup_header *header,
                        uint64_t digest, uint64_t size)
{
    struct shown *shown = context;
    char saved[32] = "";
    time_t seconds = (time_t)(header->saved_ms / 1000);
    struct tm utc;
    if (gmtime_r(&seconds, &utc) != NULL)
        (void)strftime(saved, sizeof(saved), "%Y-%m-%dT%H:%M:%SZ", &utc);
    shown->group_count = header->group_count;
    (void)printf("backup %016" PRIx64 " bytes %" PRIu64 "\n", digest, size);
    (void)printf("cluster %016" PRIx64 "%016" PRIx64 "%s%.*s history %" PRIx64 "\n",
                 header->cluster_high, header->cluster_low,
                 header->cluster.size > 0 ? " name " : "", (int)header->cluster.size,
                 (const char *)header->cluster.data, header->history);
    (void)printf("saved %s by node %.*s, %.*s\n", saved, (int)header->node.size,
                 (const char *)header->node.data, (int)header->program.size,
                 (const char *)header->program.data);
}

static void show_kinds(const struct rk_restore_group *group)
{
    const char *comma = " ";
    for (int i = 0; i < RK_RESTORE_KINDS; i++) {
        if (group->kinds[i].count == 0 || group->kinds[i].name == NULL) continue;
        if (strcmp(group->kinds[i].name, "machine") == 0) continue;
        (void)printf("%s%s %" PRIu64, comma, group->kinds[i].name, group->kinds[i].count);
        comma = ", ";
    }
    (void)printf("%s\n", comma[0] == ',' ? "" : " nothing");
}

static void show_group(void *context, const struct rk_restore_group *group)
{
    struct shown *shown = context;
    (void)printf("group %" PRIu32 " index %" PRIu64 " term %" PRIu64
                 " machine version %" PRIu32 " bytes %" PRIu64 ":",
                 group->group, group->index, group->term, group->machine_version,
                 group->bytes);
    show_kinds(group);
    for (int i = 0; i < RK_RESTORE_KINDS; i++) {
        if (group->kinds[i].count == 0) continue;
        shown->total.kinds[i].name = group->kinds[i].name;
        shown->total.kinds[i].count += group->kinds[i].count;
    }
}

static int exit_code(enum rk_status status)
{
    switch (status) {
    case RK_OK: return 0;
    case RK_ECORRUPT:
    case RK_EUNSUPPORTED:
    case RK_EEXIST: return 1;
    default: return 2;
    }
}

static int fail(enum rk_status status, const struct rk_storage_error *error)
{
    (void)fprintf(stderr, "rukund: %s: %s\n", rk_status_text(status), error->message);
    return exit_code(status);
}

int rk_backup_show(const char *path)
{
    struct rk_storage_error error = {""};
    struct shown shown = {0};
    const struct rk_restore_report report = {show_header, show_group, &shown};
    enum rk_status status = rk_restore_verify(rk_fs_posix(), path, &report, &error);
    if (status != RK_OK) {
        (void)fflush(stdout);
        return fail(status, &error);
    }
    (void)printf("%" PRIu32 " groups:", shown.group_count);
    show_kinds(&shown.total);
    (void)printf("sound\n");
    return 0;
}

int rk_verify_main(int argc, char *const *argv)
{
    if (argc == 1 && argv[0][0] != '-') return rk_backup_show(argv[0]);
    (void)fputs("usage: rukund verify FILE\n", stderr);
    return 2;
}

int rk_restore_main(int argc, char *const *argv)
{
    struct rk_storage_error error = {""};
    const char *path = NULL, *data = NULL;
    bool is_wrong = false;
    for (int i = 0; i < argc; i++) {
        if (strcmp(argv[i], "--data") == 0 && i + 1 < argc)
            data = argv[++i];
        else if (strncmp(argv[i], "--data=", 7) == 0)
            data = argv[i] + 7;
        else if (argv[i][0] != '-' && path == NULL)
            path = argv[i];
        else
            is_wrong = true;
    }
    if (is_wrong || path == NULL || data == NULL || data[0] == '\0') {
        (void)fputs("usage: rukund restore FILE --data DIR\n", stderr);
        return 2;
    }
    enum rk_status status = rk_restore_prepare(rk_fs_posix(), path, data, &error);
    if (status != RK_OK) return fail(status, &error);
    (void)printf("%s is laid into %s; do this on every node, with copies of the same file, "
                 "then start them all\n",
                 path, data);
    return 0;
}
