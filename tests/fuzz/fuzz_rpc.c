/* The outer form of msgpack-rpc. A message that comes in pieces is found as one that comes
 * at once; one that was taken apart and is written again means the same. */
#include "fuzz.h"

#include "api/api.h"
#include "rukund/rpc_message.h"

enum { MESSAGE_MAX = 4096 };

/* sizes: how many bytes come at a time; the last one is repeated. */
static enum rk_status scan_pieces(size_t *size, struct rk_slice in, struct rk_slice sizes)
{
    struct rk_rpc_scan scan = {0};
    size_t have = 0, turn = 0;
    for (;;) {
        enum rk_status status = rk_rpc_scan(&scan, rk_slice_of(in.data, have), MESSAGE_MAX);
        *size = scan.at;
        RK_ASSERT(scan.at <= have);
        if (status != RK_EBUSY || have == in.size) return status;
        size_t step = 1u + sizes.data[turn] % 32u;
        if (turn + 1 < sizes.size) turn++;
        have = in.size - have < step ? in.size : have + step;
    }
}

static void write_again(const struct rk_rpc_message *message)
{
    struct rk_rpc_message back;
    struct rk_buf out;
    bool is_request = message->kind == RK_RPC_REQUEST;
    rk_buf_init(&out);
    rk_rpc_write_array(&out, is_request ? 4 : 3);
    rk_rpc_write_uint(&out, (uint64_t)message->kind);
    if (is_request) rk_rpc_write_uint(&out, message->id);
    rk_rpc_write_text(&out, message->method);
    rk_rpc_write_array(&out, message->params.size == 0 ? 0 : 1);
    rk_buf_append_slice(&out, message->params);
    RK_ASSERT(rk_buf_check(&out) == RK_OK);
    RK_ASSERT(rk_rpc_message_parse(&back, rk_buf_slice(&out)) == RK_OK);
    RK_ASSERT(back.kind == message->kind && back.id == message->id);
    RK_ASSERT(rk_slice_is_equal(back.method, message->method));
    RK_ASSERT(rk_slice_is_equal(back.params, message->params));
    rk_buf_fini(&out);
}

/* What the depth-bounded measure takes has the same size here. */
static void compare_measures(struct rk_slice in, enum rk_status status, size_t size)
{
    size_t measured = 0;
    enum rk_status other = rk_msgpack_measure(in, &measured);
    if (other == RK_OK && measured <= MESSAGE_MAX)
        RK_ASSERT(status == RK_OK && size == measured);
    if (other == RK_EBUSY) RK_ASSERT(status == RK_EBUSY || status == RK_ESIZE);
    if (status != RK_OK) return;
    RK_ASSERT(other == RK_OK || other == RK_EINVAL); /* too deep */
    if (other != RK_OK) return;
    RK_ASSERT(rk_msgpack_measure(rk_slice_of(in.data, size), &measured) == RK_OK);
    RK_ASSERT(rk_msgpack_measure(rk_slice_of(in.data, size - 1), &measured) == RK_EBUSY);
}

/* One more pair at the end of a map, as an answer gets its position. */
static void add_pair(struct rk_slice map)
{
    struct rk_buf out;
    size_t size;
    rk_buf_init(&out);
    rk_buf_u8(&out, 0xc0);
    rk_buf_append_slice(&out, map);
    rk_rpc_map_add_text(&out, 1, "position", RK_SLICE_LITERAL("ab:1=2"));
    struct rk_slice all = rk_slice_of(out.data + 1, out.size - 1);
    RK_ASSERT(rk_msgpack_measure(all, &size) == RK_OK && size == all.size);
    rk_buf_fini(&out);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct rk_reader reader;
    rk_reader_init(&reader, rk_slice_of(data, size));
    struct rk_slice sizes = fuzz_chunk(&reader);
    struct rk_slice in = rk_slice_of(reader.at, rk_reader_left(&reader));
    if (sizes.size == 0 || in.size == 0) return 0;
    struct rk_rpc_scan scan = {0};
    size_t in_pieces;
    enum rk_status status = rk_rpc_scan(&scan, in, MESSAGE_MAX);
    RK_ASSERT(status == scan_pieces(&in_pieces, in, sizes));
    compare_measures(in, status, scan.at);
    if (status != RK_OK) return 0;
    RK_ASSERT(scan.at == in_pieces);
    struct rk_slice whole = rk_slice_of(in.data, scan.at);
    size_t measured;
    if (rk_msgpack_measure(whole, &measured) == RK_OK && (whole.data[0] & 0xf0) == 0x80)
        add_pair(whole);
    uint64_t number;
    (void)!rk_rpc_read_uint(&number, whole);
    struct rk_rpc_message message;
    if (rk_rpc_message_parse(&message, whole) == RK_OK) write_again(&message);
    return 0;
}
