/* heap.h - an intrusive binary min-heap with removal of any member in O(log n). */
#ifndef RK_BASE_HEAP_H
#define RK_BASE_HEAP_H

#include "base/status.h"

#include <stddef.h>

/* Embedded in the object. position is 0 when it is in no heap, else its place + 1. */
struct rk_heap_node {
    size_t position;
};

/* True if a comes before b. A total order gives the same pops on every node. */
typedef bool (*rk_heap_before)(const struct rk_heap_node *a, const struct rk_heap_node *b);

struct rk_heap {
    struct rk_heap_node **nodes; /* owned array of borrowed members */
    size_t count;
    size_t capacity;
    rk_heap_before before;
};

void rk_heap_init(struct rk_heap *heap, rk_heap_before before);
void rk_heap_fini(struct rk_heap *heap); /* members stay the caller's */
/* RK_ENOMEM: the heap is unchanged. */
RK_MUST_CHECK enum rk_status rk_heap_push(struct rk_heap *heap, struct rk_heap_node *node);
/* Room for `count` members in all, so that as many pushes cannot fail. */
RK_MUST_CHECK enum rk_status rk_heap_reserve(struct rk_heap *heap, size_t count);
struct rk_heap_node *rk_heap_top(const struct rk_heap *heap);         /* NULL when empty */
struct rk_heap_node *rk_heap_pop(struct rk_heap *heap);               /* NULL when empty */
void rk_heap_remove(struct rk_heap *heap, struct rk_heap_node *node); /* if it is in it */
void rk_heap_update(struct rk_heap *heap, struct rk_heap_node *node); /* its key changed */
static inline bool rk_heap_has(const struct rk_heap_node *node)
{
    return node->position != 0;
}
#endif
