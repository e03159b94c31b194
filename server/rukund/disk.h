/* disk.h - the thread that writes the log, so that fsync never stops the loop.
 *
 * One batch is under way at most. The loop hands it over, the thread runs rk_wal_write and
 * wakes the loop through an eventfd. Between batches the thread tends the log's spare
 * segments and keeps the disk reserve. All functions: loop thread. */
#ifndef RK_RUKUND_DISK_H
#define RK_RUKUND_DISK_H

#include "storage/error.h"
#include "storage/wal.h"

struct event_base;
struct rk_disk;

struct rk_disk_options {
    struct event_base *base;
    struct rk_fs *fs;
    const char *data; /* folder of the reserve */
    uint64_t reserve_bytes;
    void *context;
    /* The batch given to rk_disk_write is done. */
    void (*written)(void *context, enum rk_status status, const char *text);
    /* The reserve can not be kept, and fullness is told by the free space alone; or, with
     * RK_OK, it can again. */
    void (*reserve)(void *context, enum rk_status status, const char *text);
    /* Care of the log failed: no later write can be trusted. */
    void (*failed)(void *context, enum rk_status status, const char *text);
};

/* Starts the thread. RK_ENOMEM, RK_EIO. */
RK_MUST_CHECK enum rk_status rk_disk_new(struct rk_disk **out,
                                         const struct rk_disk_options *options);
/* Waits for the batch under way, without telling of it, and ends the thread. NULL is fine.
 */
void rk_disk_free(struct rk_disk *disk);
/* Lends the batch to the thread until `written`. None is under way (asserted). */
void rk_disk_write(struct rk_disk *disk, struct rk_wal *wal, struct rk_wal_batch *batch);
/* The disk is so full that what grows is to be refused. */
bool rk_disk_is_full(const struct rk_disk *disk);
#endif
