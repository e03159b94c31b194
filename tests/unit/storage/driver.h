/* driver.h - a random host of the write-ahead log, and the model of what it must find
 * again after a crash. Shared by the storage tests. */
#ifndef RK_TESTS_STORAGE_DRIVER_H
#define RK_TESTS_STORAGE_DRIVER_H

#include "base/random.h"
#include "storage/entry_log.h"
#include "storage/memfs.h"

enum {
    DRIVER_GROUPS = 3,
    DRIVER_ENTRIES_MAX = 4096,
    DRIVER_DATA_MAX = 24 << 10,
};

struct model_entry {
    uint32_t term;
    uint32_t size;
};

struct model_group {
    bool is_present;
    struct rk_raft_hard_state hard;
    uint64_t first; /* compacted index + 1 */
    uint64_t last;
    uint64_t base_term;
    uint64_t mark_index;
    uint64_t mark_term;
    uint64_t mark_conf;                             /* the blob is its 8 bytes */
    uint64_t meta;                                  /* likewise; 0: none */
    struct model_entry entries[DRIVER_ENTRIES_MAX]; /* by index */
};

struct model {
    uint64_t node; /* 0: none */
    struct model_group groups[DRIVER_GROUPS];
};

struct driver {
    struct rk_random random;
    struct rk_memfs *memfs;
    struct rk_wal *wal;
    struct rk_entry_log *logs[DRIVER_GROUPS];
    struct rk_wal_batch batch;
    struct model *durable; /* what has been acknowledged */
    struct model *pending; /* what the batch on its way would make of it */
    struct rk_wal_options options;
    struct rk_wal_space space;
    struct rk_wal_recovered found; /* of the last open, without the logs */
    bool is_compacting;            /* follows space.is_over */
};

void driver_init(struct driver *driver, uint64_t seed);
void driver_fini(struct driver *driver);
enum rk_status driver_open(struct driver *driver, struct rk_storage_error *error);
void driver_close(struct driver *driver);
/* A random batch, written and taken note of. RK_OK or what the log said. */
enum rk_status driver_step(struct driver *driver);
/* Compares what was found with the durable or, if may_be_pending, the pending model; both
 * are then what was found. Fails the test on a difference. */
void driver_check(struct driver *driver, bool may_be_pending);
/* The data of an entry, always the same for the same place. */
void driver_data(uint8_t *out, uint32_t group, uint64_t index, uint32_t term,
                 uint32_t size);
/* Single operations on logs, batch and pending model. */
void driver_append(struct driver *driver, uint32_t group, uint32_t term, uint32_t count,
                   uint32_t size);
void driver_truncate(struct driver *driver, uint32_t group, uint64_t from);
void driver_snapshot(struct driver *driver, uint32_t group, uint64_t index);
void driver_hard(struct driver *driver, uint32_t group, struct rk_raft_hard_state hard);
void driver_install(struct driver *driver, uint32_t group, uint64_t index, uint64_t term);
enum rk_status driver_write(struct driver *driver);
/* What a host does that is told to free log space (driver->space). */
void driver_make_space(struct driver *driver);
#endif
