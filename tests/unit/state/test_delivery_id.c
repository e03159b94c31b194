#include "api/delivery_id.h"

#include "base/random.h"
#include "base/slot.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

static void expect_back(const struct rk_delivery_id *id)
{
    char text[RK_DELIVERY_ID_SIZE];
    size_t size = rk_delivery_id_print(text, id);
    assert_int_equal(size, strlen(text));
    assert_true(size < RK_DELIVERY_ID_SIZE);
    struct rk_delivery_id back;
    assert_int_equal(rk_delivery_id_parse(&back, rk_slice_of(text, size)), RK_OK);
    assert_int_equal(back.slot, id->slot);
    assert_int_equal(back.history, id->history);
    assert_int_equal(back.message, id->message);
    assert_int_equal(back.attempt, id->attempt);
}

static void test_round_trip(void **state)
{
    (void)state;
    struct rk_random random;
    rk_random_init(&random, 1);
    for (int i = 0; i < 2000; i++) {
        struct rk_delivery_id id = {
            .slot = (uint16_t)rk_random_below(&random, RK_SLOT_COUNT),
            .history = rk_random_next(&random) >> rk_random_below(&random, 64),
            .message = rk_random_next(&random) >> rk_random_below(&random, 64),
            .attempt =
                (uint32_t)(rk_random_next(&random) >> 32 >> rk_random_below(&random, 32)),
        };
        expect_back(&id);
    }
    expect_back(
        &(struct rk_delivery_id){RK_SLOT_COUNT - 1, UINT64_MAX, UINT64_MAX, UINT32_MAX});
    expect_back(&(struct rk_delivery_id){0, 0, 0, 0});
}

/* Ids stand in the hands of clients: their text is fixed for ever. */
static void test_text_is_fixed(void **state)
{
    (void)state;
    char text[RK_DELIVERY_ID_SIZE];
    struct rk_delivery_id id = {
        .slot = 1234, .history = 77, .message = 1000000, .attempt = 3};
    rk_delivery_id_print(text, &id);
    assert_string_equal(text, "dahjastoaqq6qh7b6zy");
}

static void expect_refused(const char *text, size_t size)
{
    struct rk_delivery_id id;
    assert_int_equal(rk_delivery_id_parse(&id, rk_slice_of(text, size)), RK_ERANGE);
}

static void test_any_changed_letter_is_refused(void **state)
{
    (void)state;
    char text[RK_DELIVERY_ID_SIZE];
    struct rk_delivery_id id = {.slot = 77, .history = 123456, .message = 42, .attempt = 1};
    size_t size = rk_delivery_id_print(text, &id);
    for (size_t at = 0; at < size; at++) {
        char kept = text[at];
        for (int c = 1; c < 256; c++) {
            if ((char)c == kept) continue;
            text[at] = (char)c;
            expect_refused(text, size);
        }
        text[at] = kept;
    }
    for (size_t cut = 0; cut < size; cut++)
        expect_refused(text, cut);
    text[size] = 'a';
    expect_refused(text, size + 1);
}

static void test_what_is_no_id(void **state)
{
    (void)state;
    expect_refused("", 0);
    expect_refused("m", 1);
    expect_refused("order-4711", 10);
    char long_text[200];
    memset(long_text, 'a', sizeof(long_text));
    long_text[0] = 'd';
    expect_refused(long_text, sizeof(long_text));
}

static void test_kinds_are_told_apart(void **state)
{
    (void)state;
    char text[RK_DELIVERY_ID_SIZE];
    struct rk_fill_token token = {.key_hash = 9, .history = 77, .index = 12};
    size_t size = rk_fill_token_print(text, &token);
    expect_refused(text, size);
    struct rk_fill_token back;
    assert_int_equal(rk_fill_token_parse(&back, rk_slice_of(text, size)), RK_OK);
    assert_int_equal(back.key_hash, 9);
    assert_int_equal(back.history, 77);
    assert_int_equal(back.index, 12);
    struct rk_delivery_id id = {.slot = 1, .history = 77, .message = 12};
    size = rk_delivery_id_print(text, &id);
    assert_int_equal(rk_fill_token_parse(&back, rk_slice_of(text, size)), RK_ERANGE);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_round_trip),
        cmocka_unit_test(test_text_is_fixed),
        cmocka_unit_test(test_any_changed_letter_is_refused),
        cmocka_unit_test(test_what_is_no_id),
        cmocka_unit_test(test_kinds_are_told_apart),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
