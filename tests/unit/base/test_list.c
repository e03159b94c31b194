#include "base/list.h"

#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>

#include <cmocka.h>

struct item {
    int value;
    struct rk_list link;
};

static int value_of(struct rk_list *link)
{
    return RK_CONTAINER(link, struct item, link)->value;
}

static void test_order(void **state)
{
    (void)state;
    struct rk_list head;
    struct item items[4] = {
        {0, {NULL, NULL}}, {1, {NULL, NULL}}, {2, {NULL, NULL}}, {3, {NULL, NULL}}};
    rk_list_init(&head);
    assert_true(rk_list_is_empty(&head));
    assert_null(rk_list_first(&head));
    rk_list_push_back(&head, &items[1].link);
    rk_list_push_back(&head, &items[2].link);
    rk_list_push_front(&head, &items[0].link);
    rk_list_push_back(&head, &items[3].link);
    assert_int_equal(value_of(rk_list_first(&head)), 0);
    int expected = 0;
    rk_list_each (link, &head)
        assert_int_equal(value_of(link), expected++);
    assert_int_equal(expected, 4);
}

static void test_removal(void **state)
{
    (void)state;
    struct rk_list head;
    struct item items[4] = {
        {0, {NULL, NULL}}, {1, {NULL, NULL}}, {2, {NULL, NULL}}, {3, {NULL, NULL}}};
    rk_list_init(&head);
    rk_list_remove(&items[0].link); /* never linked */
    assert_false(rk_list_is_linked(&items[0].link));
    for (int i = 0; i < 4; i++)
        rk_list_push_back(&head, &items[i].link);
    assert_true(rk_list_is_linked(&items[0].link));
    rk_list_each_safe (link, &head) {
        if (value_of(link) % 2 == 0) rk_list_remove(link);
    }
    rk_list_remove(&items[0].link); /* a second time */
    int seen[2], count = 0;
    rk_list_each (link, &head)
        seen[count++] = value_of(link);
    assert_int_equal(count, 2);
    assert_int_equal(seen[0], 1);
    assert_int_equal(seen[1], 3);
    assert_false(rk_list_is_linked(&items[2].link));
    rk_list_remove(&items[1].link);
    rk_list_remove(&items[3].link);
    assert_true(rk_list_is_empty(&head));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_order),
        cmocka_unit_test(test_removal),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
