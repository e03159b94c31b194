#include "base/heap.h"

#include "base/alloc.h"
#include "base/list.h"
#include "base/random.h"

#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>

#include <cmocka.h>

enum { ITEM_COUNT = 300, STEP_COUNT = 30000 };

struct item {
    uint64_t key;
    struct rk_heap_node node;
};

static struct item *item_of(const struct rk_heap_node *node)
{
    struct rk_heap_node *plain = (struct rk_heap_node *)(uintptr_t)node;
    return RK_CONTAINER(plain, struct item, node);
}

/* Equal keys are told apart by address, so the order is total. */
static bool is_before(const struct rk_heap_node *a, const struct rk_heap_node *b)
{
    uint64_t a_key = item_of(a)->key, b_key = item_of(b)->key;
    return a_key != b_key ? a_key < b_key : a < b;
}

/* The model: the least of those that say they are in, found by looking at all. */
static struct item *least(struct item *items)
{
    struct item *best = NULL;
    for (int i = 0; i < ITEM_COUNT; i++) {
        if (!rk_heap_has(&items[i].node)) continue;
        if (best == NULL || is_before(&items[i].node, &best->node)) best = &items[i];
    }
    return best;
}

static void step(struct rk_heap *heap, struct item *items, struct rk_random *random)
{
    struct item *item = &items[rk_random_below(random, ITEM_COUNT)];
    switch (rk_random_below(random, 5)) {
    case 0:
    case 1:
        if (rk_heap_has(&item->node)) break;
        item->key = rk_random_below(random, 100);
        assert_int_equal(rk_heap_push(heap, &item->node), RK_OK);
        break;
    case 2:
        rk_heap_remove(heap, &item->node);
        assert_false(rk_heap_has(&item->node));
        break;
    case 3:
        if (!rk_heap_has(&item->node)) break;
        item->key = rk_random_below(random, 100);
        rk_heap_update(heap, &item->node);
        break;
    default: {
        struct item *expected = least(items);
        struct rk_heap_node *popped = rk_heap_pop(heap);
        assert_ptr_equal(popped, expected != NULL ? &expected->node : NULL);
        if (popped != NULL) assert_false(rk_heap_has(popped));
    }
    }
}

static void test_against_model(void **state)
{
    (void)state;
    static struct item items[ITEM_COUNT];
    struct rk_heap heap;
    struct rk_random random;
    rk_heap_init(&heap, is_before);
    rk_random_init(&random, 42);
    for (int i = 0; i < STEP_COUNT; i++) {
        step(&heap, items, &random);
        struct item *expected = least(items);
        assert_ptr_equal(rk_heap_top(&heap), expected != NULL ? &expected->node : NULL);
    }
    uint64_t previous = 0;
    for (struct rk_heap_node *node; (node = rk_heap_pop(&heap)) != NULL;) {
        assert_true(item_of(node)->key >= previous);
        previous = item_of(node)->key;
    }
    assert_int_equal(heap.count, 0);
    rk_heap_fini(&heap);
    rk_heap_fini(&heap);
}

static void test_without_memory(void **state)
{
    (void)state;
    struct item items[20] = {{0, {0}}};
    struct rk_heap heap;
    rk_heap_init(&heap, is_before);
    assert_null(rk_heap_top(&heap));
    assert_null(rk_heap_pop(&heap));
    rk_alloc_fail(0, 1);
    assert_int_equal(rk_heap_push(&heap, &items[0].node), RK_ENOMEM);
    assert_int_equal(rk_heap_reserve(&heap, SIZE_MAX), RK_ENOMEM);
    assert_false(rk_heap_has(&items[0].node));
    rk_alloc_fail(-1, 0);

    assert_int_equal(rk_heap_reserve(&heap, 20), RK_OK);
    rk_alloc_fail(0, 1);
    for (int i = 0; i < 20; i++) {
        items[i].key = (uint64_t)(20 - i);
        assert_int_equal(rk_heap_push(&heap, &items[i].node), RK_OK);
    }
    rk_alloc_fail(-1, 0);
    assert_ptr_equal(rk_heap_top(&heap), &items[19].node);
    rk_heap_fini(&heap);
    assert_false(rk_heap_has(&items[3].node));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_against_model),
        cmocka_unit_test(test_without_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
