/* fuzz.h - what the targets share: inputs that are a run of bytes and chunks.
 *
 * A target asserts what its decoder promises, not only that nothing crashes. */
#ifndef RK_TESTS_FUZZ_FUZZ_H
#define RK_TESTS_FUZZ_FUZZ_H

#include "base/assert.h"
#include "base/bytes.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* 0 at the end of the input. */
static inline uint8_t fuzz_byte(struct rk_reader *in)
{
    return rk_reader_left(in) == 0 ? 0 : rk_read_u8(in);
}

/* A u16 size, then as many bytes or all that are left. */
static inline struct rk_slice fuzz_chunk(struct rk_reader *in)
{
    size_t size = fuzz_byte(in);
    size |= (size_t)fuzz_byte(in) << 8;
    size_t left = rk_reader_left(in);
    return rk_read_bytes(in, size < left ? size : left);
}
#endif
