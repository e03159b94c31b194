/* hash.h - XXH3-64 with seed 0, the hash of slots, maps and state digests. */
#ifndef RK_BASE_HASH_H
#define RK_BASE_HASH_H

#include "base/bytes.h"

uint64_t rk_hash(struct rk_slice data);
uint64_t rk_hash_seeded(struct rk_slice data, uint64_t seed);
/* Mixes value into a running digest; order matters. */
uint64_t rk_hash_mix(uint64_t digest, uint64_t value);
#endif
