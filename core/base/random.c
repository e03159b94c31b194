#include "base/random.h"

#include "base/assert.h"

void rk_random_init(struct rk_random *random, uint64_t seed)
{
    random->state = seed;
}

uint64_t rk_random_next(struct rk_random *random)
{
    uint64_t value = random->state += UINT64_C(0x9e3779b97f4a7c15);
    value = (value ^ (value >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    value = (value ^ (value >> 27)) * UINT64_C(0x94d049bb133111eb);
    return value ^ (value >> 31);
}

uint64_t rk_random_below(struct rk_random *random, uint64_t bound)
{
    RK_ASSERT(bound > 0);
    /* Numbers below 2^64 mod bound are drawn again, else small results were likelier. */
    uint64_t threshold = (0 - bound) % bound;
    uint64_t value;
    do {
        value = rk_random_next(random);
    } while (value < threshold);
    return value % bound;
}
