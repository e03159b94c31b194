#include "fuzz_request.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct rk_arena arena;
    struct rk_request request;
    rk_arena_init(&arena);
    if (rk_request_decode(&request, rk_slice_of(data, size), &arena) == RK_OK)
        fuzz_log_round_trip(&request, &arena);
    rk_arena_fini(&arena);
    return 0;
}
