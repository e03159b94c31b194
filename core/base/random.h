/* random.h - a seeded generator (splitmix64, Steele et al. 2014): same seed, same numbers.
 */
#ifndef RK_BASE_RANDOM_H
#define RK_BASE_RANDOM_H

#include <stdint.h>

struct rk_random {
    uint64_t state;
};

void rk_random_init(struct rk_random *random, uint64_t seed);
uint64_t rk_random_next(struct rk_random *random);
/* Uniform in [0, bound); bound > 0. */
uint64_t rk_random_below(struct rk_random *random, uint64_t bound);
#endif
