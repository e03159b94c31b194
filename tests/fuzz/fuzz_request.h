/* fuzz_request.h - the first byte names the operation, the rest is its body. What is
 * taken must come back the same through the log. */
#ifndef RK_TESTS_FUZZ_FUZZ_REQUEST_H
#define RK_TESTS_FUZZ_FUZZ_REQUEST_H

#include "api/api.h"
#include "base/assert.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static inline void fuzz_log_round_trip(const struct rk_request *request,
                                       struct rk_arena *arena)
{
    struct rk_buf first, second;
    struct rk_request back;
    rk_buf_init(&first);
    rk_buf_init(&second);
    rk_request_encode(&first, request);
    RK_ASSERT(rk_request_decode(&back, rk_buf_slice(&first), arena) == RK_OK);
    RK_ASSERT(back.present == request->present);
    rk_request_encode(&second, &back);
    RK_ASSERT(rk_slice_is_equal(rk_buf_slice(&first), rk_buf_slice(&second)));
    rk_buf_fini(&first);
    rk_buf_fini(&second);
}

/* And through the encodings of clients, where the other one has such a form. */
static inline void fuzz_client_round_trip(const struct rk_request *request,
                                          struct rk_arena *arena, bool is_msgpack)
{
    struct rk_buf body;
    struct rk_request back;
    struct rk_api_error error;
    rk_buf_init(&body);
    if (is_msgpack)
        rk_request_to_msgpack(&body, request);
    else
        rk_request_to_json(&body, request);
    if (rk_buf_check(&body) == RK_OK) {
        enum rk_status status =
            is_msgpack ? rk_request_from_msgpack(&back, request->op, rk_buf_slice(&body),
                                                 arena, &error)
                       : rk_request_from_json(&back, request->op, rk_buf_slice(&body),
                                              arena, &error);
        /* A value may grow over its bound in the other encoding. */
        RK_ASSERT(status == RK_OK || status == RK_ESIZE || status == RK_EINVAL);
    }
    rk_buf_fini(&body);
}
#endif
