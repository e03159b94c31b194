/* migrate_file.h - contents become a backup of the embedded engine: a machine for each
 * group, filled, and saved into one file. */
#ifndef RK_RUKUND_MIGRATE_FILE_H
#define RK_RUKUND_MIGRATE_FILE_H

#include "api/content.h"
#include "base/map.h"
#include "host/host.h"
#include "ring/slots.h"
#include "storage/error.h"

enum { RK_MIGRATE_GROUPS = 9 /* unless it is said: as of a node */ };

struct rk_migrate_record; /* of sessions and locks */

struct rk_migrate_file {
    uint32_t group_count; /* of data */
    struct rk_slot_map slots;
    struct rk_machine *machines[RK_HOST_GROUPS_MAX + 1];
    struct rk_map messages; /* id text -> number in its group, for windows */
    struct rk_migrate_record *records;
    size_t record_count, record_capacity;
    uint64_t taken[RK_CONTENT_KINDS];
};

struct rk_migrate_source {
    uint64_t history;
    uint64_t clock_us; /* indexes begin here: versions are not above it */
    uint64_t id;       /* of the file; random */
    bool is_dry;
};

RK_MUST_CHECK enum rk_status rk_migrate_file_new(struct rk_migrate_file **out,
                                                 uint32_t group_count);
void rk_migrate_file_free(struct rk_migrate_file *file); /* NULL is fine */
/* As struct rk_export_io has it. */
enum rk_status rk_migrate_file_take(void *context, const struct rk_content *content,
                                    struct rk_slice id);
enum rk_status rk_migrate_file_record(void *context, uint64_t id, struct rk_slice record);
/* path.part, synced, verified as a restore does, renamed. Nothing is left of it after an
 * error. RK_ECORRUPT: records of locks do not load. */
RK_MUST_CHECK enum rk_status rk_migrate_file_write(struct rk_migrate_file *file,
                                                   const char *path,
                                                   const struct rk_migrate_source *source,
                                                   struct rk_storage_error *error);
#endif
