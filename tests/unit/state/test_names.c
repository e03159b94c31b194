#include "state/names.h"

#include "base/random.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

enum { COUNT = 400 };

struct item {
    struct rk_name_node node;
    char text[8];
    bool is_in;
};

static const struct item *naive_next(const struct item *items, const char *prefix,
                                     const char *after)
{
    const struct item *best = NULL;
    for (int i = 0; i < COUNT; i++) {
        const struct item *item = &items[i];
        if (!item->is_in || strncmp(item->text, prefix, strlen(prefix)) != 0) continue;
        if (strcmp(item->text, after) <= 0) continue;
        if (best == NULL || strcmp(item->text, best->text) < 0) best = item;
    }
    return best;
}

static void test_agrees_with_a_search(void **state)
{
    (void)state;
    static struct item items[COUNT];
    struct rk_random random;
    rk_random_init(&random, 3);
    struct rk_names names = {NULL};
    for (int i = 0; i < COUNT; i++) {
        snprintf(items[i].text, sizeof(items[i].text), "%x", i * 7);
        items[i].node.name = rk_slice_of_string(items[i].text);
    }
    for (int step = 0; step < 5000; step++) {
        struct item *item = &items[rk_random_below(&random, COUNT)];
        if (item->is_in)
            rk_names_remove(&names, &item->node);
        else
            rk_names_insert(&names, &item->node);
        item->is_in = !item->is_in;
        const char *prefix = items[rk_random_below(&random, COUNT)].text;
        char head[2] = {prefix[0], '\0'};
        const char *after =
            step % 3 == 0 ? "" : items[rk_random_below(&random, COUNT)].text;
        if (step % 2 == 0) head[0] = '\0';
        const struct rk_name_node *node =
            rk_names_next(&names, rk_slice_of_string(head), rk_slice_of_string(after));
        const struct item *expected = naive_next(items, head, after);
        if (expected == NULL)
            assert_null(node);
        else
            assert_ptr_equal(node, &expected->node);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_agrees_with_a_search),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
