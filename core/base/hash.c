#include "base/hash.h"

/* Compiled in whole, so that short keys cost no call and nothing of xxhash is exported. */
#define XXH_INLINE_ALL
#include <xxhash.h>

uint64_t rk_hash(struct rk_slice data)
{
    return XXH3_64bits(data.data, data.size);
}

uint64_t rk_hash_seeded(struct rk_slice data, uint64_t seed)
{
    return XXH3_64bits_withSeed(data.data, data.size, seed);
}

uint64_t rk_hash_mix(uint64_t digest, uint64_t value)
{
    uint8_t bytes[16];
    rk_put_u64(bytes, digest);
    rk_put_u64(bytes + 8, value);
    return XXH3_64bits(bytes, sizeof(bytes));
}
