#include "rukund/rpc_message.h"

#include "api/api.h"

static uint64_t take_big_endian(struct rk_reader *reader, unsigned bytes)
{
    uint64_t value = 0;
    while (bytes-- > 0)
        value = value << 8 | rk_read_u8(reader);
    return value;
}

static uint64_t take_array(struct rk_reader *reader)
{
    uint8_t head = rk_read_u8(reader);
    if ((head & 0xf0) == 0x90) return head & 0x0f;
    if (head == 0xdc) return take_big_endian(reader, 2);
    if (head == 0xdd) return take_big_endian(reader, 4);
    reader->is_failed = true;
    return 0;
}

static uint64_t take_uint(struct rk_reader *reader)
{
    uint8_t head = rk_read_u8(reader);
    if (head < 0x80) return head;
    if (head >= 0xcc && head <= 0xcf) return take_big_endian(reader, 1u << (head - 0xcc));
    reader->is_failed = true;
    return 0;
}

static struct rk_slice take_text(struct rk_reader *reader)
{
    uint8_t head = rk_read_u8(reader);
    if ((head & 0xe0) == 0xa0) return rk_read_bytes(reader, head & 0x1f);
    if (head >= 0xd9 && head <= 0xdb)
        return rk_read_bytes(reader, (size_t)take_big_endian(reader, 1u << (head - 0xd9)));
    if (head >= 0xc4 && head <= 0xc6)
        return rk_read_bytes(reader, (size_t)take_big_endian(reader, 1u << (head - 0xc4)));
    reader->is_failed = true;
    return RK_SLICE_EMPTY;
}

/* An item's own bytes, without what it contains, and how many items it contains. False:
 * the header is not all there, or malformed (*size is then 0). */
static bool measure_item(struct rk_slice in, uint64_t *size, uint64_t *items)
{
    /* From 0xc0 on: bytes of the length after the head, bytes that follow. */
    static const uint8_t fixed[32] = {
        0, 0, 0, 0, 0, 0, 0, 0, 0,  0, 4, 8, 1, 2, 4, 8, /* nil ... uint 64 */
        1, 2, 4, 8, 2, 3, 5, 9, 17, 0, 0, 0, 0, 0, 0, 0, /* int 8 ... fixext 16 */
    };
    uint8_t head = in.data[0];
    unsigned width = 0; /* bytes of a length */
    *items = 0;
    *size = 1;
    if (head < 0x80 || head >= 0xe0) return true;
    if (head < 0xa0) {
        *items = head < 0x90 ? 2u * (head & 0x0f) : head & 0x0f;
        return true;
    }
    if (head < 0xc0) {
        *size = 1u + (head & 0x1f);
        return true;
    }
    if (head == 0xc1) {
        *size = 0;
        return false;
    }
    bool is_extension = head >= 0xc7 && head <= 0xc9;
    if (head >= 0xc4 && head <= 0xc6) width = 1u << (head - 0xc4);
    if (is_extension) width = 1u << (head - 0xc7);
    if (head >= 0xd9 && head <= 0xdb) width = 1u << (head - 0xd9);
    if (head >= 0xdc) width = head & 1 ? 4 : 2;
    if (in.size < 1 + width) return false;
    struct rk_reader reader;
    rk_reader_init(&reader, rk_slice_of(in.data + 1, width));
    uint64_t length = take_big_endian(&reader, width);
    if (head >= 0xdc)
        *items = head >= 0xde ? 2 * length : length;
    else
        *size += length + is_extension + fixed[head - 0xc0];
    *size += width;
    return true;
}

enum rk_status rk_rpc_scan(struct rk_rpc_scan *scan, struct rk_slice in, size_t max)
{
    if (scan->items == 0) scan->items = 1;
    while (scan->items > 0) {
        uint64_t size, items;
        /* Every item has a byte at least. */
        if (scan->items > max || scan->at > max - scan->items) return RK_ESIZE;
        if (scan->at == in.size) return RK_EBUSY;
        if (!measure_item(rk_slice_of(in.data + scan->at, in.size - scan->at), &size,
                          &items))
            return size == 0 ? RK_EINVAL : RK_EBUSY;
        if (size > max - scan->at) return RK_ESIZE;
        if (size > in.size - scan->at) return RK_EBUSY;
        scan->at += (size_t)size;
        scan->items += items - 1;
    }
    return RK_OK;
}

enum rk_status rk_rpc_message_parse(struct rk_rpc_message *out, struct rk_slice bytes)
{
    struct rk_reader reader;
    memset(out, 0, sizeof(*out));
    rk_reader_init(&reader, bytes);
    uint64_t count = take_array(&reader);
    uint64_t kind = take_uint(&reader);
    if (reader.is_failed) return RK_EINVAL;
    if (!(kind == RK_RPC_REQUEST && count == 4) &&
        !(kind == RK_RPC_NOTIFICATION && count == 3))
        return RK_EINVAL;
    out->kind = (enum rk_rpc_kind)kind;
    if (kind == RK_RPC_REQUEST) out->id = take_uint(&reader);
    out->method = take_text(&reader);
    uint64_t params = take_array(&reader);
    if (reader.is_failed || params > 1) return RK_EINVAL;
    if (params == 1) out->params = rk_slice_of(reader.at, rk_reader_left(&reader));
    return RK_OK;
}

enum rk_status rk_rpc_read_uint(uint64_t *out, struct rk_slice bytes)
{
    struct rk_reader reader;
    rk_reader_init(&reader, bytes);
    *out = take_uint(&reader);
    return reader.is_failed || rk_reader_left(&reader) != 0 ? RK_EINVAL : RK_OK;
}

void rk_rpc_write_array(struct rk_buf *out, uint32_t count)
{
    rk_buf_u8(out, (uint8_t)(0x90 | count));
}

static void write_big_endian(struct rk_buf *out, uint8_t head, uint64_t value,
                             unsigned bytes)
{
    rk_buf_u8(out, head);
    while (bytes-- > 0)
        rk_buf_u8(out, (uint8_t)(value >> (8 * bytes)));
}

void rk_rpc_write_uint(struct rk_buf *out, uint64_t value)
{
    if (value < 0x80)
        rk_buf_u8(out, (uint8_t)value);
    else if (value <= UINT8_MAX)
        write_big_endian(out, 0xcc, value, 1);
    else if (value <= UINT16_MAX)
        write_big_endian(out, 0xcd, value, 2);
    else if (value <= UINT32_MAX)
        write_big_endian(out, 0xce, value, 4);
    else
        write_big_endian(out, 0xcf, value, 8);
}

void rk_rpc_write_nil(struct rk_buf *out)
{
    rk_buf_u8(out, 0xc0);
}

void rk_rpc_write_text(struct rk_buf *out, struct rk_slice text)
{
    if (text.size < 32)
        rk_buf_u8(out, (uint8_t)(0xa0 | text.size));
    else if (text.size <= UINT8_MAX)
        write_big_endian(out, 0xd9, text.size, 1);
    else if (text.size <= UINT16_MAX)
        write_big_endian(out, 0xda, text.size, 2);
    else
        write_big_endian(out, 0xdb, text.size, 4);
    rk_buf_append_slice(out, text);
}

void rk_rpc_map_add_text(struct rk_buf *out, size_t at, const char *name,
                         struct rk_slice text)
{
    if (out->is_failed || at >= out->size) return;
    uint8_t head = out->data[at];
    if (head >= 0x80 && head < 0x8f) {
        out->data[at]++;
    } else if (head == 0x8f) {
        if (rk_buf_extend(out, 2) == NULL) return;
        memmove(out->data + at + 3, out->data + at + 1, out->size - at - 3);
        out->data[at] = 0xde;
        out->data[at + 1] = 0;
        out->data[at + 2] = 16;
    } else if (head == 0xde && out->data[at + 2] != UINT8_MAX) {
        out->data[at + 2]++;
    } else {
        return;
    }
    rk_rpc_write_text(out, rk_slice_of_string(name));
    rk_rpc_write_text(out, text);
}
