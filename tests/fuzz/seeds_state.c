/* Seeds of state machines: calls for one to follow, and what it saves after them. */
#include "seeds.h"

#include "fuzz_state.h"

#include <stdio.h>

/* Kinds of steps of fuzz_machine. */
enum { CALL = 1, REPEAT = 2, PASS = 3, LEAD = 4, QUERY = 5, SNAPSHOT = 6, RENEW = 7 };

static bool is_of_group(enum rk_op op, uint32_t group)
{
    const struct rk_op_info *info = rk_op_info(op);
    if (op >= RK_OP_CLUSTER_INFO && op <= RK_OP_CLUSTER_TRANSFER) return false;
    return (info->group == RK_GROUP_ZERO) == (group == 0);
}

static void add_call(struct rk_buf *out, const struct seed_call *call, uint8_t who)
{
    bool is_write = rk_op_info(call->op)->is_write;
    rk_buf_u8(out, is_write ? CALL : QUERY);
    if (is_write) rk_buf_u8(out, who);
    rk_buf_u8(out, (uint8_t)call->op);
    seed_chunk(out, rk_slice_of_string(call->body));
}

static void add_bytes(struct rk_buf *out, const char *bytes, size_t size)
{
    rk_buf_append(out, bytes, size);
}

static void seed_calls_of(const char *name, uint32_t group, uint32_t from, uint32_t to)
{
    struct rk_buf out;
    rk_buf_init(&out);
    rk_buf_u8(&out, (uint8_t)group);
    for (uint32_t i = from; i < to && i < seed_call_count; i++) {
        if (!is_of_group(seed_calls[i].op, group)) continue;
        add_call(&out, &seed_calls[i], (uint8_t)(i % 4 + (i % 3 == 0 ? 16 : 0)));
        if (i % 4 == 1) add_bytes(&out, "\x06\x20", 2); /* a piece of a snapshot */
        if (i % 8 == 3) add_bytes(&out, "\x03\x10\x01", 3);
        if (i % 8 == 5) rk_buf_u8(&out, REPEAT);
        if (i % 8 == 4) add_bytes(&out, group == 0 ? "\x08\x84" : "\x08\x01", 2);
        if (i % 8 == 6) rk_buf_u8(&out, RENEW);
    }
    rk_buf_u8(&out, LEAD);
    add_bytes(&out, "\x03\xff\x0f\x06\xff\x06\xff", 7);
    seed_write("machine", name, rk_buf_slice(&out));
    rk_buf_fini(&out);
}

/* The machine's answers are not heard: calls that name ids of them change nothing. */
static void apply_call(struct rk_machine *machine, uint32_t number, enum rk_op op,
                       const char *body)
{
    struct rk_arena arena;
    struct rk_request request;
    struct rk_api_error error;
    struct rk_buf bytes, entry;
    rk_arena_init(&arena);
    rk_buf_init(&bytes);
    rk_buf_init(&entry);
    struct rk_command command = {.client = RK_SLICE_LITERAL("client"),
                                 .seq = number + 1,
                                 .first_unanswered = number,
                                 .stamp_ms = 1700000000 + 10 * number,
                                 .home = 1};
    if (rk_op_info(op)->is_write && strchr(body, '@') == NULL) {
        RK_ASSERT(rk_request_from_json(&request, op, rk_slice_of_string(body), &arena,
                                       &error) == RK_OK);
        rk_request_encode(&bytes, &request);
        command.request = rk_buf_slice(&bytes);
        rk_command_encode(&entry, &command);
        RK_ASSERT(rk_machine_apply(machine, rk_machine_index(machine) + 1,
                                   rk_buf_slice(&entry), NULL) == RK_OK);
    }
    rk_buf_fini(&bytes);
    rk_buf_fini(&entry);
    rk_arena_fini(&arena);
}

static void seed_records(uint32_t group, uint32_t turns)
{
    char name[32];
    struct rk_buf out;
    struct rk_machine *machine = fuzz_machine_new(group);
    for (uint32_t i = 0; i < turns; i++)
        if (is_of_group(seed_calls[i].op, group))
            apply_call(machine, i, seed_calls[i].op, seed_calls[i].body);
    rk_buf_init(&out);
    rk_buf_u8(&out, (uint8_t)group);
    fuzz_machine_save(machine, &out);
    (void)snprintf(name, sizeof(name), "group%u-%u", group, turns);
    seed_write("restore", name, rk_buf_slice(&out));
    rk_buf_fini(&out);
    rk_machine_free(machine);
}

void seeds_of_state(void)
{
    static const uint32_t turns[] = {0, 6, 20, 26, 41};
    seed_calls_of("locks", 0, 0, seed_call_count);
    seed_calls_of("queues", 1, 0, 35);
    seed_calls_of("caches", 1, 35, seed_call_count);
    seed_calls_of("data", 1, 0, seed_call_count);
    for (size_t i = 0; i < sizeof(turns) / sizeof(turns[0]); i++) {
        seed_records(0, turns[i]);
        seed_records(1, turns[i]);
    }
}
