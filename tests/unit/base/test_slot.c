#include "base/slot.h"

#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>

#include <cmocka.h>

static uint32_t slot_of(const char *name)
{
    return rk_slot_of_name(rk_slice_of_string(name));
}

static uint32_t topic_slot(const char *name)
{
    return rk_slot_of_topic(rk_slice_of_string(name));
}

static void test_tags(void **state)
{
    (void)state;
    assert_int_equal(slot_of("orders{42}"), slot_of("42"));
    assert_int_equal(slot_of("{42}.paid"), slot_of("42"));
    assert_int_equal(slot_of("a{42}b{43}"), slot_of("42"));
    assert_int_equal(slot_of("a{{42}}b"), slot_of("{42"));
    assert_int_equal(slot_of("}a{42}"), slot_of("42"));
    static const char *const whole[] = {"",  "a",  "a{}b",    "a{b", "a}b",
                                        "{", "{}", "a{}{42}", "a}{"};
    for (size_t i = 0; i < sizeof(whole) / sizeof(whole[0]); i++) {
        uint64_t hash = rk_hash(rk_slice_of_string(whole[i]));
        assert_int_equal(slot_of(whole[i]), hash % RK_SLOT_COUNT);
    }
}

/* Stored data and delivery ids hold these numbers: they may never change. */
static void test_fixed_slots(void **state)
{
    (void)state;
    assert_int_equal(slot_of("abc"), UINT64_C(0x78af5f94892f3950) % 4096);
    assert_int_equal(slot_of("a"), UINT64_C(0xe6c632b61e964e1f) % 4096);
}

/* Dead letters stay in the group of their topic, however often they die. */
static void test_topics(void **state)
{
    (void)state;
    assert_int_equal(topic_slot("orders"), slot_of("orders"));
    assert_int_equal(topic_slot("orders/dead"), slot_of("orders"));
    assert_int_equal(topic_slot("orders/dead/dead"), slot_of("orders"));
    assert_int_equal(topic_slot("{eu}orders/dead"), slot_of("eu"));
    assert_int_equal(topic_slot("orders/deader"), slot_of("orders/deader"));
    assert_int_equal(topic_slot("dead"), slot_of("dead"));
    assert_int_equal(topic_slot("/dead"), slot_of("/dead"));
    assert_int_equal(topic_slot(""), slot_of(""));
    assert_int_not_equal(slot_of("orders/dead"), slot_of("orders"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_tags),
        cmocka_unit_test(test_fixed_slots),
        cmocka_unit_test(test_topics),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
