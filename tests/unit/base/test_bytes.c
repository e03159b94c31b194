#include "base/bytes.h"

#include "base/alloc.h"

#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>

#include <cmocka.h>

static void test_slices(void **state)
{
    (void)state;
    struct rk_slice ab = RK_SLICE_LITERAL("ab");
    struct rk_slice abc = RK_SLICE_LITERAL("abc");
    assert_true(rk_slice_compare(ab, abc) < 0);
    assert_true(rk_slice_compare(abc, ab) > 0);
    assert_int_equal(rk_slice_compare(abc, rk_slice_of_string("abc")), 0);
    assert_true(rk_slice_compare(RK_SLICE_LITERAL("\xff"), ab) > 0);
    assert_true(rk_slice_compare(RK_SLICE_EMPTY, ab) < 0);
    assert_int_equal(rk_slice_compare(RK_SLICE_EMPTY, RK_SLICE_EMPTY), 0);
    assert_true(rk_slice_has_prefix(abc, ab));
    assert_true(rk_slice_has_prefix(abc, RK_SLICE_EMPTY));
    assert_true(rk_slice_has_prefix(RK_SLICE_EMPTY, RK_SLICE_EMPTY));
    assert_false(rk_slice_has_prefix(ab, abc));
    assert_false(rk_slice_has_prefix(abc, RK_SLICE_LITERAL("b")));
    assert_false(rk_slice_is_equal(ab, abc));
}

static void append_all(struct rk_buf *buf)
{
    rk_buf_u8(buf, 0xfe);
    rk_buf_u16(buf, 0x1234);
    rk_buf_u32(buf, 0x89abcdef);
    rk_buf_u64(buf, UINT64_C(0x0123456789abcdef));
    rk_buf_varint(buf, 300);
    rk_buf_zigzag(buf, -65);
    rk_buf_blob(buf, RK_SLICE_LITERAL("blob"));
    rk_buf_blob(buf, RK_SLICE_EMPTY);
    rk_buf_append_string(buf, "tail");
    for (int i = 0; i < 100; i++)
        rk_buf_u64(buf, (uint64_t)i);
}

static void check_all(struct rk_slice bytes)
{
    struct rk_reader reader;
    rk_reader_init(&reader, bytes);
    assert_int_equal(rk_read_u8(&reader), 0xfe);
    assert_int_equal(rk_read_u16(&reader), 0x1234);
    assert_int_equal(rk_read_u32(&reader), 0x89abcdef);
    assert_int_equal(rk_read_u64(&reader), UINT64_C(0x0123456789abcdef));
    assert_int_equal(rk_read_varint(&reader), 300);
    assert_int_equal(rk_read_zigzag(&reader), -65);
    assert_true(rk_slice_is_equal(rk_read_blob(&reader), RK_SLICE_LITERAL("blob")));
    assert_int_equal(rk_read_blob(&reader).size, 0);
    assert_true(rk_slice_is_equal(rk_read_bytes(&reader, 4), RK_SLICE_LITERAL("tail")));
    assert_int_equal(rk_reader_check(&reader, true), RK_EPROTO);
    for (int i = 0; i < 100; i++)
        assert_int_equal(rk_read_u64(&reader), i);
    assert_int_equal(rk_reader_check(&reader, true), RK_OK);
}

static void test_round_trip(void **state)
{
    (void)state;
    struct rk_buf buf;
    rk_buf_init(&buf);
    append_all(&buf);
    assert_int_equal(rk_buf_check(&buf), RK_OK);
    check_all(rk_buf_slice(&buf));
    static const uint8_t head[] = {0xfe, 0x34, 0x12, 0xef, 0xcd, 0xab, 0x89};
    assert_memory_equal(buf.data, head, sizeof(head));

    size_t capacity = buf.capacity;
    rk_buf_reset(&buf);
    append_all(&buf);
    assert_int_equal(buf.capacity, capacity);
    rk_buf_fini(&buf);
    rk_buf_fini(&buf);
}

/* Each allocation of a run of appends fails in turn: what is there is a prefix of what
 * was meant, nothing follows the failure, and a reset makes the buffer whole again. */
static void test_append_without_memory(void **state)
{
    (void)state;
    struct rk_buf whole, buf;
    rk_buf_init(&whole);
    append_all(&whole);
    for (int64_t after = 0;; after++) {
        rk_buf_init(&buf);
        rk_alloc_fail(after, 0);
        append_all(&buf);
        rk_alloc_fail(-1, 0);
        if (rk_buf_check(&buf) == RK_OK) {
            assert_true(after >= 4);
            rk_buf_fini(&buf);
            break;
        }
        assert_int_equal(rk_buf_check(&buf), RK_ENOMEM);
        assert_true(buf.size < whole.size);
        assert_true(rk_slice_has_prefix(rk_buf_slice(&whole), rk_buf_slice(&buf)));
        rk_buf_reset(&buf);
        append_all(&buf);
        assert_int_equal(rk_buf_check(&buf), RK_OK);
        assert_true(rk_slice_is_equal(rk_buf_slice(&whole), rk_buf_slice(&buf)));
        rk_buf_fini(&buf);
    }
    rk_buf_fini(&whole);
}

static void test_reserve_and_printf(void **state)
{
    (void)state;
    struct rk_buf buf;
    rk_buf_init(&buf);
    assert_int_equal(rk_buf_reserve(&buf, SIZE_MAX), RK_ENOMEM);
    assert_int_equal(rk_buf_check(&buf), RK_OK);
    assert_non_null(rk_buf_extend(&buf, 0));
    rk_buf_printf(&buf, "%s=%d", "n", 7);
    rk_buf_printf(&buf, "%0200d", 1);
    assert_int_equal(buf.size, 203);
    assert_memory_equal(buf.data, "n=70", 4);
    assert_int_equal(buf.data[202], '1');

    rk_alloc_fail(0, 0);
    rk_buf_printf(&buf, "%0500d", 1);
    rk_alloc_fail(-1, 0);
    assert_int_equal(buf.size, 203);
    assert_int_equal(rk_buf_check(&buf), RK_ENOMEM);
    rk_buf_fini(&buf);
}

static void test_varint_edges(void **state)
{
    (void)state;
    static const struct {
        uint64_t value;
        size_t size;
    } cases[] = {
        {0, 1},           {1, 1},
        {0x7f, 1},        {0x80, 2},
        {0x3fff, 2},      {0x4000, 3},
        {UINT32_MAX, 5},  {UINT64_C(1) << 56, 9},
        {INT64_MAX, 9},   {UINT64_C(1) << 63, 10},
        {UINT64_MAX, 10},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct rk_buf buf;
        struct rk_reader reader;
        rk_buf_init(&buf);
        rk_buf_varint(&buf, cases[i].value);
        assert_int_equal(buf.size, cases[i].size);
        rk_reader_init(&reader, rk_buf_slice(&buf));
        assert_int_equal(rk_read_varint(&reader), cases[i].value);
        assert_int_equal(rk_reader_check(&reader, true), RK_OK);
        rk_buf_fini(&buf);
    }
    static const int64_t signs[] = {0, -1, 1, -64, 64, INT64_MAX, INT64_MIN};
    for (size_t i = 0; i < sizeof(signs) / sizeof(signs[0]); i++) {
        struct rk_buf buf;
        struct rk_reader reader;
        rk_buf_init(&buf);
        rk_buf_zigzag(&buf, signs[i]);
        rk_reader_init(&reader, rk_buf_slice(&buf));
        assert_int_equal(rk_read_zigzag(&reader), signs[i]);
        rk_buf_fini(&buf);
    }
}

static void check_bad_varint(const void *data, size_t size)
{
    struct rk_reader reader;
    rk_reader_init(&reader, rk_slice_of(data, size));
    assert_int_equal(rk_read_varint(&reader), 0);
    assert_int_equal(rk_reader_check(&reader, false), RK_EPROTO);
    assert_int_equal(rk_reader_left(&reader), 0);
}

static void test_varint_refused(void **state)
{
    (void)state;
    check_bad_varint("", 0);
    check_bad_varint("\x80", 1);
    check_bad_varint("\x80\x00", 2);
    check_bad_varint("\xff\x80\x00", 3);
    /* 65 bits, and a tenth byte that asks for an eleventh */
    check_bad_varint("\xff\xff\xff\xff\xff\xff\xff\xff\xff\x02", 10);
    check_bad_varint("\xff\xff\xff\xff\xff\xff\xff\xff\xff\x81\x01", 11);
}

static void test_reads_past_the_end(void **state)
{
    (void)state;
    struct rk_reader reader;
    rk_reader_init(&reader, RK_SLICE_LITERAL("abc"));
    assert_int_equal(rk_read_u32(&reader), 0);
    assert_int_equal(rk_read_u8(&reader), 0);
    assert_int_equal(rk_read_bytes(&reader, 0).size, 0);
    assert_int_equal(rk_reader_check(&reader, false), RK_EPROTO);

    /* A blob that claims more than there is, up to 2^64-1. */
    static const char *const blobs[] = {"\x04"
                                        "abc",
                                        "\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01"};
    for (size_t i = 0; i < 2; i++) {
        rk_reader_init(&reader, rk_slice_of_string(blobs[i]));
        assert_null(rk_read_blob(&reader).data);
        assert_int_equal(rk_reader_check(&reader, false), RK_EPROTO);
    }

    rk_reader_init(&reader, RK_SLICE_EMPTY);
    assert_int_equal(rk_read_bytes(&reader, 0).size, 0);
    assert_int_equal(rk_reader_check(&reader, true), RK_OK);
}

/* Every truncation of a good message fails and reads nothing outside of its bytes: each
 * is copied to memory of exactly its size, where the sanitizer sees one byte too many. */
static void test_truncations(void **state)
{
    (void)state;
    struct rk_buf buf;
    rk_buf_init(&buf);
    append_all(&buf);
    for (size_t size = 0; size < buf.size; size++) {
        uint8_t *copy = rk_memdup(buf.data, size);
        struct rk_reader reader;
        rk_reader_init(&reader, rk_slice_of(copy, size));
        rk_read_u8(&reader);
        rk_read_u16(&reader);
        rk_read_u32(&reader);
        rk_read_u64(&reader);
        rk_read_varint(&reader);
        rk_read_zigzag(&reader);
        rk_read_blob(&reader);
        rk_read_blob(&reader);
        rk_read_bytes(&reader, 4);
        for (int i = 0; i < 100; i++)
            rk_read_u64(&reader);
        assert_int_equal(rk_reader_check(&reader, false), RK_EPROTO);
        rk_free(copy);
    }
    rk_buf_fini(&buf);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_slices),
        cmocka_unit_test(test_round_trip),
        cmocka_unit_test(test_append_without_memory),
        cmocka_unit_test(test_reserve_and_printf),
        cmocka_unit_test(test_varint_edges),
        cmocka_unit_test(test_varint_refused),
        cmocka_unit_test(test_reads_past_the_end),
        cmocka_unit_test(test_truncations),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
