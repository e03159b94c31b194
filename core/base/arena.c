#include "base/arena.h"

#include "base/alloc.h"

enum {
    ARENA_ALIGN = 16,
    ARENA_BLOCK_MIN = 4096,
    ARENA_BLOCK_MAX = 256 * 1024, /* a larger request gets a block of its own size */
};

struct rk_arena_block {
    struct rk_arena_block *next; /* older */
    size_t size;                 /* of data */
    _Alignas(ARENA_ALIGN) uint8_t data[];
};

static void use_block(struct rk_arena *arena, struct rk_arena_block *block)
{
    arena->at = block->data;
    arena->end = block->data + block->size;
}

/* A new block with room for size bytes becomes the current one. */
static bool grow(struct rk_arena *arena, size_t size)
{
    size_t block_size = ARENA_BLOCK_MIN;
    if (arena->blocks != NULL) block_size = arena->blocks->size * 2;
    if (block_size > ARENA_BLOCK_MAX) block_size = ARENA_BLOCK_MAX;
    if (block_size < size) block_size = size;
    if (block_size > SIZE_MAX - sizeof(struct rk_arena_block)) return false;

    struct rk_arena_block *block = rk_malloc(sizeof(*block) + block_size);
    if (block == NULL) return false;
    block->next = arena->blocks;
    block->size = block_size;
    arena->blocks = block;
    arena->total += block_size;
    use_block(arena, block);
    return true;
}

void rk_arena_init(struct rk_arena *arena)
{
    *arena = (struct rk_arena){NULL, NULL, NULL, 0};
}

void rk_arena_fini(struct rk_arena *arena)
{
    struct rk_arena_block *block = arena->blocks;
    while (block != NULL) {
        struct rk_arena_block *next = block->next;
        rk_free(block);
        block = next;
    }
    rk_arena_init(arena);
}

void rk_arena_reset(struct rk_arena *arena)
{
    struct rk_arena_block *block = arena->blocks;
    if (block == NULL) return;
    while (block->next != NULL) {
        struct rk_arena_block *next = block->next;
        rk_free(block);
        block = next;
    }
    arena->blocks = block;
    arena->total = block->size;
    use_block(arena, block);
}

void *rk_arena_alloc(struct rk_arena *arena, size_t size)
{
    if (size > SIZE_MAX - ARENA_ALIGN) return NULL;
    size = size == 0 ? ARENA_ALIGN : (size + ARENA_ALIGN - 1) & ~(size_t)(ARENA_ALIGN - 1);
    if ((size_t)(arena->end - arena->at) < size && !grow(arena, size)) return NULL;
    uint8_t *memory = arena->at;
    arena->at += size;
    return memory;
}

void *rk_arena_calloc(struct rk_arena *arena, size_t count, size_t size)
{
    size_t total;
    if (__builtin_mul_overflow(count, size, &total)) return NULL;
    void *memory = rk_arena_alloc(arena, total);
    if (memory != NULL) memset(memory, 0, total);
    return memory;
}

struct rk_slice rk_arena_copy(struct rk_arena *arena, struct rk_slice slice)
{
    if (slice.size == 0) return RK_SLICE_EMPTY;
    uint8_t *copy = rk_arena_alloc(arena, slice.size);
    if (copy == NULL) return RK_SLICE_EMPTY;
    memcpy(copy, slice.data, slice.size);
    return rk_slice_of(copy, slice.size);
}
