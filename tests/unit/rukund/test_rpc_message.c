#include "api/api.h"
#include "rukund/rpc_message.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#define BYTES(text) rk_slice_of((text), sizeof(text) - 1)

static void parses_requests(void **state)
{
    struct rk_rpc_message message;
    (void)state;
    assert_int_equal(rk_rpc_message_parse(&message, BYTES("\x94\x00\x05\xa1x\x91\x80")),
                     RK_OK);
    assert_int_equal(message.kind, RK_RPC_REQUEST);
    assert_int_equal(message.id, 5);
    assert_true(rk_slice_is_equal(message.method, RK_SLICE_LITERAL("x")));
    assert_true(rk_slice_is_equal(message.params, BYTES("\x80")));
    /* The long forms of everything. */
    assert_int_equal(
        rk_rpc_message_parse(
            &message, BYTES("\xdc\x00\x04\xcc\x00\xce\x01\x02\x03\x04\xd9\x02yz\xdd\x00"
                            "\x00\x00\x01\x81\xa1k\x01")),
        RK_OK);
    assert_int_equal(message.id, 0x01020304);
    assert_true(rk_slice_is_equal(message.method, RK_SLICE_LITERAL("yz")));
    assert_int_equal(message.params.size, 4);
    assert_int_equal(rk_rpc_message_parse(&message, BYTES("\x93\x02\xa1n\x90")), RK_OK);
    assert_int_equal(message.kind, RK_RPC_NOTIFICATION);
    assert_int_equal(message.params.size, 0);
}

static void refuses_others(void **state)
{
    struct rk_rpc_message message;
    (void)state;
    assert_int_equal(rk_rpc_message_parse(&message, BYTES("")), RK_EINVAL);
    assert_int_equal(rk_rpc_message_parse(&message, BYTES("\x80")), RK_EINVAL);
    assert_int_equal(rk_rpc_message_parse(&message, BYTES("\x94\x01\x05\xc0\xc0")),
                     RK_EINVAL);
    assert_int_equal(rk_rpc_message_parse(&message, BYTES("\x93\x00\x05\xa1x")), RK_EINVAL);
    assert_int_equal(rk_rpc_message_parse(&message, BYTES("\x94\x00\xff\xa1x\x90")),
                     RK_EINVAL);
    assert_int_equal(rk_rpc_message_parse(&message, BYTES("\x94\x00\x05\x07\x90")),
                     RK_EINVAL);
    assert_int_equal(rk_rpc_message_parse(&message, BYTES("\x94\x00\x05\xa1x\x92\x80\x80")),
                     RK_EINVAL);
    assert_int_equal(
        rk_rpc_message_parse(&message, BYTES("\x94\x00\x05\xdb\xff\xff\xff\xffx")),
        RK_EINVAL);
}

/* Every kind of item, fed byte by byte: complete exactly at the end, wherever it is cut. */
static void scans_in_pieces(void **state)
{
    static const char message[] =
        "\xdc\x00\x10\x01\xff\xc0\xc2\xca\x01\x02\x03\x04\xcb\x01\x02\x03\x04\x05\x06\x07"
        "\x08\xcc"
        "\x01"
        "\xcd\x01\x02\xce\x01\x02\x03\x04\xcf\x01\x02\x03\x04\x05\x06\x07\x08"
        "\xa3xyz\xd9\x02xy\xda\x00\x01x\xc4\x03xyz\x82\x01\x02\x03\x04"
        "\xdc\x00\x07\xd0\x01\xd1\x01\x02\xd3\x01\x02\x03\x04\x05\x06\x07\x08\xd4\x01\x02"
        "\xd7\x01\x02\x03\x04\x05\x06\x07\x08\x09\xc7\x02\x01xy\xde\x00\x01\xa1k\xdd\x00"
        "\x00"
        "\x00\x01\xc3";
    struct rk_rpc_scan scan = {0, 0};
    (void)state;
    size_t size = sizeof(message) - 1, measured = 0;
    struct rk_slice all = rk_slice_of(message, size);
    assert_int_equal(rk_msgpack_measure(all, &measured), RK_OK);
    assert_int_equal(measured, size);
    for (size_t i = 0; i < size; i++)
        assert_int_equal(rk_rpc_scan(&scan, rk_slice_of(message, i), 1000), RK_EBUSY);
    assert_int_equal(rk_rpc_scan(&scan, all, 1000), RK_OK);
    assert_int_equal(scan.at, size);
    scan = (struct rk_rpc_scan){0, 0};
    assert_int_equal(rk_rpc_scan(&scan, all, size), RK_OK);
    scan = (struct rk_rpc_scan){0, 0};
    assert_int_equal(rk_rpc_scan(&scan, all, size - 1), RK_ESIZE);
}

static void scan_refuses_by_headers(void **state)
{
    static const struct {
        struct rk_slice bytes;
        enum rk_status status;
    } rows[] = {
        {{(const uint8_t *)"\xdd\x0f\xff\xff\xff", 5}, RK_ESIZE},
        {{(const uint8_t *)"\xdf\xff\xff\xff\xff", 5}, RK_ESIZE},
        {{(const uint8_t *)"\xdb\xff\xff\xff\xff", 5}, RK_ESIZE},
        {{(const uint8_t *)"\xc6\x00\x00\x04\x00", 5}, RK_ESIZE},
        {{(const uint8_t *)"\xc6\x00\x00\x03\x00", 5}, RK_EBUSY},
        {{(const uint8_t *)"\x91\xc1", 2}, RK_EINVAL},
    };
    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct rk_rpc_scan scan = {0, 0};
        assert_int_equal(rk_rpc_scan(&scan, rows[i].bytes, 1000), rows[i].status);
    }
}

static void writes(void **state)
{
    struct rk_buf out;
    (void)state;
    rk_buf_init(&out);
    rk_rpc_write_array(&out, 4);
    rk_rpc_write_uint(&out, 1);
    rk_rpc_write_uint(&out, 200);
    rk_rpc_write_uint(&out, 65535);
    rk_rpc_write_uint(&out, UINT32_MAX);
    rk_rpc_write_uint(&out, UINT64_MAX);
    rk_rpc_write_nil(&out);
    rk_rpc_write_text(&out, RK_SLICE_LITERAL("ab"));
    assert_true(rk_slice_is_equal(
        rk_buf_slice(&out), BYTES("\x94\x01\xcc\xc8\xcd\xff\xff\xce\xff\xff\xff\xff\xcf"
                                  "\xff\xff\xff\xff\xff\xff\xff\xff\xc0\xa2"
                                  "ab")));
    rk_buf_fini(&out);
}

/* Adding a pair to maps of 0 up to 17 pairs, each "k" -> 1. */
static void adds_to_maps(void **state)
{
    (void)state;
    for (uint8_t count = 0; count < 18; count++) {
        struct rk_buf out;
        rk_buf_init(&out);
        rk_buf_u8(&out, 0xc0);
        if (count < 16) {
            rk_buf_u8(&out, (uint8_t)(0x80 | count));
        } else {
            rk_buf_append(&out, "\xde\x00", 2);
            rk_buf_u8(&out, count);
        }
        for (uint8_t i = 0; i < count; i++)
            rk_buf_append(&out, "\xa1k\x01", 3);
        rk_rpc_map_add_text(&out, 1, "p", RK_SLICE_LITERAL("v"));
        size_t head = count < 15 ? 1 : 3;
        assert_int_equal(out.size, 1 + head + 3u * count + 4);
        assert_int_equal(out.data[1], count < 15 ? 0x80 | (count + 1) : 0xde);
        if (count >= 15) assert_int_equal(out.data[3], count + 1);
        for (uint8_t i = 0; i < count; i++)
            assert_memory_equal(out.data + 1 + head + 3u * i, "\xa1k\x01", 3);
        assert_memory_equal(out.data + out.size - 4, "\xa1p\xa1v", 4);
        rk_buf_fini(&out);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(parses_requests), cmocka_unit_test(refuses_others),
        cmocka_unit_test(scans_in_pieces), cmocka_unit_test(scan_refuses_by_headers),
        cmocka_unit_test(writes),          cmocka_unit_test(adds_to_maps),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
