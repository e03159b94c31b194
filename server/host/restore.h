/* restore.h - a backup, checked, and made the beginning of a new history.
 *
 * `rukund restore` lays a backup into an empty folder. At the birth of the cluster each
 * node turns its copy into the first snapshots of its groups: the same on every node, since
 * nothing but the backup and what the birth decided goes in. */
#ifndef RK_HOST_RESTORE_H
#define RK_HOST_RESTORE_H

#include "host/host.h"
#include "storage/backup.h"

enum { RK_RESTORE_KINDS = 64 };

struct rk_restore_group {
    uint32_t group;
    uint64_t index, term, bytes;
    uint64_t history;
    uint64_t records;
    uint32_t machine_version;
    struct {
        const char *name; /* of the kind of record; NULL: none of that kind */
        uint64_t count;
    } kinds[RK_RESTORE_KINDS];
};

struct rk_restore_report {
    /* Of the header, with its texts; borrowed for the call. */
    void (*header)(void *context, const struct rk_backup_header *header, uint64_t digest,
                   uint64_t size);
    void (*group)(void *context, const struct rk_restore_group *group);
    void *context;
};

/* Reads all of the backup, checks its checksums, and loads each group's state. report may
 * be NULL. RK_ECORRUPT: the error names file and offset, or the group; RK_EUNSUPPORTED: a
 * newer format or machine version; RK_ENOENT, RK_EIO, RK_ENOMEM. */
RK_MUST_CHECK enum rk_status rk_restore_verify(struct rk_fs *fs, const char *path,
                                               const struct rk_restore_report *report,
                                               struct rk_storage_error *error);
/* Loads the groups of the backup one after the other and gives each machine, retired (see
 * rk_machine_retire); found says what there was before that. What machine returns, if not
 * RK_OK, ends it. Else as verify. */
RK_MUST_CHECK enum rk_status
rk_restore_load(struct rk_fs *fs, const char *path,
                enum rk_status (*machine)(void *context, struct rk_machine *machine,
                                          const struct rk_restore_group *found),
                void *context, struct rk_storage_error *error);
/* Verifies the backup and lays it into the folder (made if missing) of a node that was
 * never started. RK_EEXIST: the folder holds a node's data already. Else as verify. */
RK_MUST_CHECK enum rk_status rk_restore_prepare(struct rk_fs *fs, const char *path,
                                                const char *data,
                                                struct rk_storage_error *error);
#endif
