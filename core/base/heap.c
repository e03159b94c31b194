#include "base/heap.h"

#include "base/alloc.h"
#include "base/assert.h"

void rk_heap_init(struct rk_heap *heap, rk_heap_before before)
{
    *heap = (struct rk_heap){NULL, 0, 0, before};
}

void rk_heap_fini(struct rk_heap *heap)
{
    for (size_t i = 0; i < heap->count; i++)
        heap->nodes[i]->position = 0;
    rk_free(heap->nodes);
    rk_heap_init(heap, heap->before);
}

static void place(struct rk_heap *heap, size_t at, struct rk_heap_node *node)
{
    heap->nodes[at] = node;
    node->position = at + 1;
}

/* Moves the node, whose slot `at` counts as empty, towards the top. */
static size_t sift_up(struct rk_heap *heap, size_t at, struct rk_heap_node *node)
{
    while (at > 0) {
        size_t parent = (at - 1) / 2;
        if (!heap->before(node, heap->nodes[parent])) break;
        place(heap, at, heap->nodes[parent]);
        at = parent;
    }
    place(heap, at, node);
    return at;
}

static void sift_down(struct rk_heap *heap, size_t at, struct rk_heap_node *node)
{
    for (;;) {
        size_t child = 2 * at + 1;
        if (child >= heap->count) break;
        if (child + 1 < heap->count &&
            heap->before(heap->nodes[child + 1], heap->nodes[child]))
            child++;
        if (!heap->before(heap->nodes[child], node)) break;
        place(heap, at, heap->nodes[child]);
        at = child;
    }
    place(heap, at, node);
}

static size_t index_of(const struct rk_heap *heap, const struct rk_heap_node *node)
{
    size_t at = node->position - 1;
    RK_ASSERT(at < heap->count && heap->nodes[at] == node);
    return at;
}

enum rk_status rk_heap_reserve(struct rk_heap *heap, size_t count)
{
    if (count <= heap->capacity) return RK_OK;
    size_t capacity = heap->capacity < 8 ? 8 : heap->capacity;
    while (capacity < count) {
        if (capacity > SIZE_MAX / 2) return RK_ENOMEM;
        capacity *= 2;
    }
    struct rk_heap_node **nodes = rk_realloc_array(heap->nodes, capacity, sizeof(*nodes));
    if (nodes == NULL) return RK_ENOMEM;
    heap->nodes = nodes;
    heap->capacity = capacity;
    return RK_OK;
}

enum rk_status rk_heap_push(struct rk_heap *heap, struct rk_heap_node *node)
{
    RK_ASSERT(node->position == 0);
    enum rk_status status = rk_heap_reserve(heap, heap->count + 1);
    if (status != RK_OK) return status;
    heap->count++;
    sift_up(heap, heap->count - 1, node);
    return RK_OK;
}

struct rk_heap_node *rk_heap_top(const struct rk_heap *heap)
{
    return heap->count != 0 ? heap->nodes[0] : NULL;
}

struct rk_heap_node *rk_heap_pop(struct rk_heap *heap)
{
    struct rk_heap_node *top = rk_heap_top(heap);
    if (top != NULL) rk_heap_remove(heap, top);
    return top;
}

void rk_heap_remove(struct rk_heap *heap, struct rk_heap_node *node)
{
    if (node->position == 0) return;
    size_t at = index_of(heap, node);
    heap->count--;
    struct rk_heap_node *last = heap->nodes[heap->count];
    node->position = 0;
    if (last == node) return;
    /* The last member fills the hole; it may belong above or below it. */
    if (sift_up(heap, at, last) == at) sift_down(heap, at, last);
}

void rk_heap_update(struct rk_heap *heap, struct rk_heap_node *node)
{
    size_t at = index_of(heap, node);
    if (sift_up(heap, at, node) == at) sift_down(heap, at, node);
}
