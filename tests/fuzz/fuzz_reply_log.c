#include "fuzz_request.h"

static void print(const struct rk_reply *reply, struct rk_arena *arena, bool is_msgpack)
{
    struct rk_buf out;
    struct rk_reply back;
    rk_buf_init(&out);
    enum rk_status status = is_msgpack ? rk_reply_to_msgpack(&out, reply, arena)
                                       : rk_reply_to_json(&out, reply, arena);
    RK_ASSERT(status == RK_OK || status == RK_ECONVERT);
    bool is_problem = status != RK_OK || reply->status != RK_OK;
    struct rk_slice body = rk_buf_slice(&out);
    /* Texts from peers need not be UTF-8, so that JSON may be refused again. */
    (void)!(is_msgpack ? rk_reply_from_msgpack(&back, reply->op, is_problem, body, arena)
                       : rk_reply_from_json(&back, reply->op, is_problem, body, arena));
    rk_buf_fini(&out);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct rk_arena arena;
    struct rk_reply reply, back;
    rk_arena_init(&arena);
    if (rk_reply_decode(&reply, rk_slice_of(data, size), &arena) == RK_OK) {
        struct rk_buf first;
        rk_buf_init(&first);
        rk_reply_encode(&first, &reply);
        RK_ASSERT(rk_reply_decode(&back, rk_buf_slice(&first), &arena) == RK_OK);
        rk_buf_fini(&first);
        print(&reply, &arena, false);
        print(&reply, &arena, true);
    }
    rk_arena_fini(&arena);
    return 0;
}
