/* alloc.h - allocation that tests can make fail.
 *
 * All of Rukun's own C code allocates through these; NULL means RK_ENOMEM. Sizes are
 * checked for overflow. Thread-safe. */
#ifndef RK_BASE_ALLOC_H
#define RK_BASE_ALLOC_H

#include <stddef.h>
#include <stdint.h>

void *rk_malloc(size_t size);
void *rk_calloc(size_t count, size_t size);
void *rk_realloc(void *pointer, size_t size);
void *rk_realloc_array(void *pointer, size_t count, size_t size);
void *rk_memdup(const void *data, size_t size); /* also for size 0: a one-byte block */
char *rk_strdup(const char *text);
void rk_free(void *pointer); /* NULL is fine */

/* For tests: the allocation number `after` from now (0 = the next) fails, and every
 * later one too if `is_sticky`. after < 0 switches failures off. This thread only. */
void rk_alloc_fail(int64_t after, int is_sticky);
/* For tests: how many allocations this thread made since the last call. */
uint64_t rk_alloc_take_count(void);
#endif
