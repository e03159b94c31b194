#include "base/alloc.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

/* The only mutable state of core outside its objects. It exists for tests and is a
 * thread's own, so that a test of one thread never disturbs another. */
static _Thread_local uint64_t alloc_count;
static _Thread_local int64_t fail_after = -1;
static _Thread_local bool is_fail_sticky;

/* Counts one allocation and tells whether a test wants it to fail. */
static bool must_fail(void)
{
    alloc_count++;
    if (__builtin_expect(fail_after < 0, 1)) return false;
    if (fail_after > 0) {
        fail_after--;
        return false;
    }
    if (!is_fail_sticky) fail_after = -1;
    return true;
}

void *rk_malloc(size_t size)
{
    if (must_fail()) return NULL;
    return malloc(size != 0 ? size : 1);
}

void *rk_calloc(size_t count, size_t size)
{
    size_t total;
    if (must_fail() || __builtin_mul_overflow(count, size, &total)) return NULL;
    return calloc(1, total != 0 ? total : 1);
}

void *rk_realloc(void *pointer, size_t size)
{
    if (must_fail()) return NULL;
    return realloc(pointer, size != 0 ? size : 1);
}

void *rk_realloc_array(void *pointer, size_t count, size_t size)
{
    size_t total;
    if (__builtin_mul_overflow(count, size, &total)) return NULL;
    return rk_realloc(pointer, total);
}

void *rk_memdup(const void *data, size_t size)
{
    void *copy = rk_malloc(size);
    if (copy != NULL && size != 0) memcpy(copy, data, size);
    return copy;
}

char *rk_strdup(const char *text)
{
    return rk_memdup(text, strlen(text) + 1);
}

void rk_free(void *pointer)
{
    free(pointer);
}

void rk_alloc_fail(int64_t after, int is_sticky)
{
    fail_after = after < 0 ? -1 : after;
    is_fail_sticky = is_sticky != 0;
}

uint64_t rk_alloc_take_count(void)
{
    uint64_t count = alloc_count;
    alloc_count = 0;
    return count;
}
