#include "rukund/migrate.h"

#include "base/random.h"
#include "host/restore.h"
#include "redis/export.h"
#include "redis/import.h"
#include "rukund/migrate_file.h"
#include "state/contents.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static const char usage_text[] =
    "usage: rukund migrate FILE --to REDIS-URL [--dry-run]\n"
    "       rukund migrate REDIS-URL --to FILE [--groups N] [--dry-run]\n"
    "FILE is a backup (rukun snapshot save, restore). To Redis: the prefix or database is "
    "empty. From Redis: all nodes are stopped, and there is no such file yet.\n";

struct move {
    const char *from, *to;
    uint64_t groups; /* of the file to write */
    bool is_dry;
    struct rk_offline offline;
    struct rk_import *import;
    uint64_t fence;              /* the last one given */
    struct rk_restore_group old; /* counts of all groups, before they were retired */
};

/* --- from a backup to Redis ----------------------------------------------------------- */

static enum rk_status group_move(void *context, struct rk_machine *machine,
                                 const struct rk_restore_group *found)
{
    struct move *move = context;
    for (int i = 0; i < RK_RESTORE_KINDS; i++) {
        if (found->kinds[i].count == 0) continue;
        move->old.kinds[i].name = found->kinds[i].name;
        move->old.kinds[i].count += found->kinds[i].count;
    }
    if (found->group != 0)
        return rk_machine_contents(machine, rk_import_take, move->import);
    move->fence = rk_machine_fence(machine);
    return RK_OK;
}

static void print_count(uint64_t count, const char *what)
{
    if (count != 0) (void)printf("  %" PRIu64 " %s\n", count, what);
}

/* Records that belong to the clients of the old history. */
static void print_ended(const struct move *move)
{
    static const struct {
        const char *kind, *text;
    } rows[] = {
        {"session", "sessions: clients open new ones"},
        {"lock", "locks, with who holds them and waits: clients acquire anew"},
        {"answer", "answers to clients' requests, for repeats"},
    };
    for (size_t row = 0; row < sizeof(rows) / sizeof(rows[0]); row++)
        for (int i = 0; i < RK_RESTORE_KINDS; i++)
            if (move->old.kinds[i].name != NULL &&
                strcmp(move->old.kinds[i].name, rows[row].kind) == 0)
                print_count(move->old.kinds[i].count, rows[row].text);
}

static void print_moved(const struct move *move)
{
    const struct rk_import_stats *stats = rk_import_stats(move->import);
    (void)printf(move->is_dry ? "would be moved:\n" : "moved:\n");
    for (int i = 0; i < RK_CONTENT_KINDS; i++) {
        if (i == RK_CONTENT_MESSAGE)
            (void)printf("  %" PRIu64 " %s (%" PRIu64 " delayed, %" PRIu64
                         " dead letters)\n",
                         stats->taken[i], rk_import_kind((enum rk_content_kind)i),
                         stats->delayed, stats->dead);
        else
            (void)printf("  %" PRIu64 " %s\n", stats->taken[i],
                         rk_import_kind((enum rk_content_kind)i));
    }
    (void)printf("stays behind:\n");
    for (int i = 0; i < RK_IMPORT_LEFTS; i++)
        print_count(stats->left[i], rk_import_why((enum rk_import_left)i));
    print_ended(move);
    (void)printf("start the nodes with --fence-floor %" PRIu64
                 ", so that fences of locks go on above the old ones\n",
                 move->fence);
    if (!move->is_dry) (void)printf("done\n");
}

/* Below 2^63, as histories of clusters; never 0. */
static uint64_t history_new(void)
{
    struct rk_random random;
    struct timespec now;
    (void)clock_gettime(CLOCK_REALTIME, &now);
    rk_random_init(&random, (uint64_t)now.tv_nsec ^ (uint64_t)getpid() << 32);
    rk_random_init(&random, rk_random_next(&random) ^ (uint64_t)now.tv_sec);
    return rk_random_next(&random) >> 1 | 1;
}

static int complain(enum rk_status status, const char *text)
{
    (void)fflush(stdout);
    (void)fprintf(stderr, "rukund: %s: %s\n", rk_status_text(status), text);
    switch (status) {
    case RK_ECORRUPT:
    case RK_EUNSUPPORTED:
    case RK_ERANGE:
    case RK_ELIMIT:
    case RK_EBUSY:
    case RK_EEXIST: return 1;
    default: return 2;
    }
}

static enum rk_status to_redis(struct move *move, struct rk_storage_error *error)
{
    struct rk_offline *offline = &move->offline;
    /* The file first: what is damaged is to be known before anything is written. */
    enum rk_status status = rk_restore_verify(rk_fs_posix(), move->from, NULL, error);
    if (status != RK_OK) return status;
    status = rk_offline_open(offline, move->to, "rukun-migrate");
    if (status == RK_OK)
        status = rk_import_begin(&move->import, offline, history_new(), move->is_dry);
    if (status == RK_OK)
        status = rk_restore_load(rk_fs_posix(), move->from, group_move, move, error);
    if (status == RK_OK) status = rk_import_end(move->import);
    if (offline->status != RK_OK)
        (void)rk_storage_fail(error, offline->status, "%s", offline->error.text);
    if (status == RK_OK) print_moved(move);
    return status;
}

/* --- from Redis to a backup ----------------------------------------------------------- */

static void print_written(const struct move *move, const struct rk_migrate_file *file,
                          const struct rk_export_stats *stats)
{
    (void)printf(move->is_dry ? "would be moved:\n" : "moved:\n");
    for (int i = 0; i < RK_CONTENT_KINDS; i++)
        (void)printf("  %" PRIu64 " %s\n", file->taken[i],
                     rk_import_kind((enum rk_content_kind)i));
    (void)printf("  %" PRIu64 " records of sessions and locks, which end at the restore\n",
                 file->record_count);
    (void)printf("stays behind:\n");
    print_count(stats->answers, "clients' answers to requests, for repeats");
    print_count(stats->broken, "keys that are not what the engine writes");
    if (!move->is_dry)
        (void)printf(
            "written to %s; begin with it: rukun snapshot restore FILE --data DIR\n",
            move->to);
}

static enum rk_status to_file(struct move *move, struct rk_storage_error *error)
{
    struct rk_offline *offline = &move->offline;
    struct rk_migrate_file *file = NULL;
    struct rk_export *export = NULL;
    struct rk_export_io io = {NULL, rk_migrate_file_take, rk_migrate_file_record};
    if (access(move->to, F_OK) == 0)
        return rk_storage_fail(error, RK_EEXIST, "%s: there is such a file", move->to);
    enum rk_status status = rk_migrate_file_new(&file, (uint32_t)move->groups);
    if (status != RK_OK) return rk_storage_fail(error, status, "out of memory");
    io.context = file;
    status = rk_offline_open(offline, move->from, "rukun-migrate");
    if (status == RK_OK) status = rk_export_begin(&export, offline, &io);
    if (status == RK_OK) status = rk_export_run(export);
    if (offline->status != RK_OK)
        (void)rk_storage_fail(error, offline->status, "%s", offline->error.text);
    if (status == RK_OK) {
        const struct rk_migrate_source source = {.history = rk_export_history(export),
                                                 .clock_us = rk_export_clock_us(export),
                                                 .id = history_new(),
                                                 .is_dry = move->is_dry};
        status = rk_migrate_file_write(file, move->to, &source, error);
    }
    if (status == RK_OK) print_written(move, file, rk_export_stats(export));
    rk_export_free(export);
    rk_migrate_file_free(file);
    return status;
}

/* --- the command ---------------------------------------------------------------------- */

static bool is_url(const char *text)
{
    return strncmp(text, "redis", 5) == 0 && strstr(text, "://") != NULL;
}

static bool parse(struct move *move, int argc, char *const *argv)
{
    for (int i = 0; i < argc; i++) {
        if (strcmp(argv[i], "--to") == 0 && i + 1 < argc)
            move->to = argv[++i];
        else if (strncmp(argv[i], "--to=", 5) == 0)
            move->to = argv[i] + 5;
        else if (strcmp(argv[i], "--groups") == 0 && i + 1 < argc)
            move->groups = strtoull(argv[++i], NULL, 10);
        else if (strcmp(argv[i], "--dry-run") == 0)
            move->is_dry = true;
        else if (argv[i][0] != '-' && move->from == NULL)
            move->from = argv[i];
        else
            return false;
    }
    return move->from != NULL && move->to != NULL && is_url(move->from) != is_url(move->to);
}

int rk_migrate_main(int argc, char *const *argv)
{
    struct move move = {.groups = RK_MIGRATE_GROUPS};
    struct rk_storage_error error = {""};
    if (!parse(&move, argc, argv)) {
        (void)fputs(usage_text, stderr);
        return 2;
    }
    if (move.groups == 0 || move.groups > RK_HOST_GROUPS_MAX) {
        (void)fprintf(stderr, "rukund: groups: must be a number from 1 to %d\n",
                      RK_HOST_GROUPS_MAX);
        return 2;
    }
    enum rk_status status =
        is_url(move.to) ? to_redis(&move, &error) : to_file(&move, &error);
    rk_import_free(move.import);
    rk_offline_close(&move.offline);
    return status == RK_OK ? 0 : complain(status, error.message);
}
