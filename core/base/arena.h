/* arena.h - memory that is given back all at once: one request, one decode, one apply. */
#ifndef RK_BASE_ARENA_H
#define RK_BASE_ARENA_H

#include "base/bytes.h"

struct rk_arena_block;

struct rk_arena {
    struct rk_arena_block *blocks; /* owned, newest first */
    uint8_t *at;
    uint8_t *end;
    size_t total; /* bytes reserved */
};

void rk_arena_init(struct rk_arena *arena);
void rk_arena_fini(struct rk_arena *arena);
/* Frees all but the first block, which is kept for reuse. */
void rk_arena_reset(struct rk_arena *arena);
/* Aligned to 16, not initialised; NULL without memory. */
void *rk_arena_alloc(struct rk_arena *arena, size_t size);
void *rk_arena_calloc(struct rk_arena *arena, size_t count, size_t size);
/* A copy in the arena. On failure data is NULL and size 0, while slice.size was not 0. */
struct rk_slice rk_arena_copy(struct rk_arena *arena, struct rk_slice slice);
#endif
