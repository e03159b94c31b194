#include "fuzz_request.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size == 0) return 0;
    struct rk_arena arena;
    struct rk_request request;
    struct rk_api_error error;
    rk_arena_init(&arena);
    enum rk_status status = rk_request_from_msgpack(
        &request, (enum rk_op)data[0], rk_slice_of(data + 1, size - 1), &arena, &error);
    if (status == RK_OK) {
        fuzz_log_round_trip(&request, &arena);
        fuzz_client_round_trip(&request, &arena, false);
        fuzz_client_round_trip(&request, &arena, true);
    } else {
        RK_ASSERT(error.status == status && error.text[0] != '\0');
    }
    rk_arena_fini(&arena);
    return 0;
}
