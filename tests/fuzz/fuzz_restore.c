/* A machine from any records. What is taken saves as the same records, and goes on working:
 * it leads, its timers run out, it is asked.
 *
 * Input: a byte for the group, then records, each a blob. */
#include "fuzz_state.h"

#include <stdio.h>

enum { INDEX = 1000, TURNS = 8, TURN_MS = 1000000 };

static void print_record(const char *what, struct rk_slice record)
{
    fprintf(stderr, "%s:", what);
    for (size_t i = 0; i < record.size; i++)
        fprintf(stderr, " %02x", record.data[i]);
    fprintf(stderr, "\n");
}

static void print_difference(struct rk_slice saved, struct rk_slice records)
{
    struct rk_reader a, b;
    rk_reader_init(&a, saved);
    rk_reader_init(&b, records);
    while (rk_reader_left(&a) > 0 || rk_reader_left(&b) > 0) {
        struct rk_slice x = rk_read_blob(&a), y = rk_read_blob(&b);
        if (rk_slice_is_equal(x, y)) continue;
        print_record("saved", x);
        print_record("input", y);
    }
}

static void check_same(struct rk_machine *machine, uint32_t group, struct rk_slice records)
{
    struct rk_machine *twin = NULL;
    struct rk_buf saved;
    rk_buf_init(&saved);
    fuzz_machine_save(machine, &saved);
    if (!rk_slice_is_equal(rk_buf_slice(&saved), records))
        print_difference(rk_buf_slice(&saved), records);
    RK_ASSERT(rk_slice_is_equal(rk_buf_slice(&saved), records));
    RK_ASSERT(fuzz_machine_load(&twin, group, rk_buf_slice(&saved), INDEX) == RK_OK);
    RK_ASSERT(fuzz_machine_hash(twin) == fuzz_machine_hash(machine));
    rk_machine_free(twin);
    rk_buf_fini(&saved);
}

static void ask(const struct rk_op_info *info, struct rk_machine *machine)
{
    struct rk_arena arena;
    struct rk_request request;
    struct rk_reply reply;
    struct rk_api_error error;
    rk_arena_init(&arena);
    if (!info->is_write && !info->is_internal &&
        rk_request_from_json(&request, info->op, RK_SLICE_LITERAL("{}"), &arena, &error) ==
            RK_OK)
        (void)!rk_machine_query(machine, &request, rk_machine_time(machine), &arena,
                                &reply);
    rk_arena_fini(&arena);
}

static void apply(struct rk_machine *machine, uint64_t now, struct rk_slice request)
{
    struct rk_buf entry;
    struct rk_command command = {.stamp_ms = now, .request = request};
    rk_buf_init(&entry);
    rk_command_encode(&entry, &command);
    RK_ASSERT(rk_machine_apply(machine, rk_machine_index(machine) + 1, rk_buf_slice(&entry),
                               NULL) == RK_OK);
    rk_buf_fini(&entry);
}

static void go_on(struct rk_machine *machine)
{
    uint64_t now = rk_machine_time(machine);
    struct rk_buf due;
    rk_buf_init(&due);
    rk_machine_lead(machine, now);
    for (int turn = 0; turn < TURNS; turn++) {
        for (enum rk_op op = RK_OP_NONE; op < RK_OP_MAX; op++)
            if (rk_op_info(op) != NULL) ask(rk_op_info(op), machine);
        if (now < UINT64_MAX - TURN_MS) now += TURN_MS;
        rk_buf_reset(&due);
        if (rk_machine_due(machine, now, 64, &due) > 0)
            apply(machine, now, rk_buf_slice(&due));
    }
    rk_buf_fini(&due);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size == 0) return 0;
    struct rk_machine *machine = NULL;
    struct rk_slice records = rk_slice_of(data + 1, size - 1);
    uint32_t group = data[0] & 1;
    if (fuzz_machine_load(&machine, group, records, INDEX) == RK_OK) {
        check_same(machine, group, records);
        go_on(machine);
        RK_ASSERT(rk_machine_index(machine) >= INDEX);
    }
    rk_machine_free(machine);
    return 0;
}
