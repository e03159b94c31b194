/* fuzz_state.h - snapshots of state machines, for the targets that have some. */
#ifndef RK_TESTS_FUZZ_FUZZ_STATE_H
#define RK_TESTS_FUZZ_FUZZ_STATE_H

#include "fuzz.h"

#include "state/machine.h"

static inline struct rk_machine *fuzz_machine_new(uint32_t group)
{
    struct rk_machine_options options = {.struct_size = sizeof(options), .group = group};
    struct rk_machine *machine = NULL;
    RK_ASSERT(rk_machine_new(&machine, &options) == RK_OK);
    return machine;
}

static inline uint64_t fuzz_machine_hash(struct rk_machine *machine)
{
    uint64_t hash = 0;
    RK_ASSERT(rk_machine_hash(machine, &hash) == RK_OK);
    return hash;
}

/* All records of a machine that has no snapshot under way. */
static inline void fuzz_machine_save(struct rk_machine *machine, struct rk_buf *out)
{
    bool is_done = false;
    RK_ASSERT(rk_machine_snapshot_begin(machine) == RK_OK);
    while (!is_done)
        RK_ASSERT(rk_machine_snapshot_step(machine, out, 4096, &is_done) == RK_OK);
    rk_machine_snapshot_end(machine);
}

/* Blobs of records into a fresh machine; on an error *out is to be freed all the same. */
static inline enum rk_status fuzz_machine_load(struct rk_machine **out, uint32_t group,
                                               struct rk_slice records, uint64_t index)
{
    struct rk_reader reader;
    enum rk_status status = RK_OK;
    *out = fuzz_machine_new(group);
    rk_reader_init(&reader, records);
    while (status == RK_OK && rk_reader_left(&reader) > 0) {
        struct rk_slice record = rk_read_blob(&reader);
        status = reader.is_failed ? RK_EPROTO : rk_machine_restore(*out, record);
    }
    return status == RK_OK ? rk_machine_restore_finish(*out, index) : status;
}
#endif
