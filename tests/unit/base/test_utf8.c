#include "base/bytes.h"

#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>

#include <cmocka.h>

static void test_good(void **state)
{
    (void)state;
    static const char *const texts[] = {
        "",
        "plain",
        "\x01\x7f",
        "\xc2\x80",
        "\xdf\xbf",
        "\xe0\xa0\x80",
        "\xed\x9f\xbf",
        "\xee\x80\x80",
        "\xef\xbf\xbf",
        "\xf0\x90\x80\x80",
        "\xf4\x8f\xbf\xbf",
        "a\xc3\xa9\xe2\x82\xac\xf0\x9f\x8c\xb1z",
    };
    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++)
        assert_true(rk_slice_is_utf8(rk_slice_of_string(texts[i])));
    assert_true(rk_slice_is_utf8(RK_SLICE_EMPTY));
}

static void test_bad(void **state)
{
    (void)state;
    static const char *const texts[] = {
        "\x80",     /* a tail without a head */
        "\xc0\xaf", /* overlong, as are c1, e0 9f and f0 8f */
        "\xc1\xbf",
        "\xe0\x9f\xbf",
        "\xf0\x8f\xbf\xbf",
        "\xed\xa0\x80",     /* a surrogate */
        "\xf4\x90\x80\x80", /* above U+10FFFF */
        "\xf5\x80\x80\x80",
        "\xff",
        "\xc3", /* cut short */
        "\xe2\x82",
        "\xf0\x9f\x8c",
        "\xe2\x82z",
        "\xc3\xc3\xa9",
    };
    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++)
        assert_false(rk_slice_is_utf8(rk_slice_of_string(texts[i])));
    assert_false(rk_slice_is_utf8(RK_SLICE_LITERAL("a\0b")));
}

/* All code points, encoded here and independently: good unless a surrogate. */
static void test_every_code_point(void **state)
{
    (void)state;
    for (uint32_t point = 1; point <= 0x10ffff; point++) {
        uint8_t text[4];
        size_t size;
        if (point < 0x80) {
            text[0] = (uint8_t)point;
            size = 1;
        } else if (point < 0x800) {
            text[0] = (uint8_t)(0xc0 | point >> 6);
            size = 2;
        } else if (point < 0x10000) {
            text[0] = (uint8_t)(0xe0 | point >> 12);
            size = 3;
        } else {
            text[0] = (uint8_t)(0xf0 | point >> 18);
            size = 4;
        }
        for (size_t i = 1; i < size; i++)
            text[i] = (uint8_t)(0x80 | (point >> (6 * (size - 1 - i)) & 0x3f));
        bool is_surrogate = point >= 0xd800 && point <= 0xdfff;
        if (rk_slice_is_utf8(rk_slice_of(text, size)) == is_surrogate)
            fail_msg("U+%04X is judged wrongly", point);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_good),
        cmocka_unit_test(test_bad),
        cmocka_unit_test(test_every_code_point),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
