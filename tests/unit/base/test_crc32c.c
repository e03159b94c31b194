#include "base/crc32c.h"

#include "base/random.h"

#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>

#include <cmocka.h>
#include <string.h>

/* RFC 3720 appendix B.4, in the byte order of a little-endian number. */
static void test_vectors(void **state)
{
    (void)state;
    uint8_t data[32];
    assert_int_equal(rk_crc32c(0, "123456789", 9), 0xe3069283);
    assert_int_equal(rk_crc32c(0, "", 0), 0);
    memset(data, 0, sizeof(data));
    assert_int_equal(rk_crc32c(0, data, sizeof(data)), 0x8a9136aa);
    memset(data, 0xff, sizeof(data));
    assert_int_equal(rk_crc32c(0, data, sizeof(data)), 0x62a8ab43);
    for (int i = 0; i < 32; i++)
        data[i] = (uint8_t)i;
    assert_int_equal(rk_crc32c(0, data, sizeof(data)), 0x46dd794e);
    assert_int_equal(rk_crc32c_portable(0, data, sizeof(data)), 0x46dd794e);
    for (int i = 0; i < 32; i++)
        data[i] = (uint8_t)(31 - i);
    assert_int_equal(rk_crc32c(0, data, sizeof(data)), 0x113fdb5c);
}

static void test_both_forms_agree_at_every_split(void **state)
{
    (void)state;
    uint8_t data[100];
    struct rk_random random;
    rk_random_init(&random, 1);
    for (size_t i = 0; i < sizeof(data); i++)
        data[i] = (uint8_t)rk_random_next(&random);
    uint32_t whole = rk_crc32c(0, data, sizeof(data));
    for (size_t split = 0; split <= sizeof(data); split++) {
        uint32_t crc = rk_crc32c(0, data, split);
        assert_int_equal(crc, rk_crc32c_portable(0, data, split));
        assert_int_equal(rk_crc32c(crc, data + split, sizeof(data) - split), whole);
    }
}

static void test_each_flipped_bit_shows(void **state)
{
    (void)state;
    uint8_t data[40] = "a batch of the log, say";
    uint32_t whole = rk_crc32c(0, data, sizeof(data));
    for (size_t bit = 0; bit < sizeof(data) * 8; bit++) {
        data[bit / 8] ^= (uint8_t)(1 << (bit % 8));
        assert_int_not_equal(rk_crc32c(0, data, sizeof(data)), whole);
        data[bit / 8] ^= (uint8_t)(1 << (bit % 8));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_vectors),
        cmocka_unit_test(test_both_forms_agree_at_every_split),
        cmocka_unit_test(test_each_flipped_bit_shows),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
