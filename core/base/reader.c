#include "base/bytes.h"

/* The reading half of bytes.h. Every read goes through take(), which checks the bounds. */

void rk_reader_init(struct rk_reader *reader, struct rk_slice input)
{
    reader->at = input.data;
    reader->end = input.size != 0 ? input.data + input.size : input.data;
    reader->is_failed = false;
}

/* The next size bytes, or NULL with the reader failed and nothing left in it. */
static const uint8_t *take(struct rk_reader *reader, size_t size)
{
    if (reader->is_failed || rk_reader_left(reader) < size) {
        reader->is_failed = true;
        reader->at = reader->end;
        return NULL;
    }
    const uint8_t *at = reader->at;
    reader->at = size != 0 ? at + size : at;
    return at;
}

static void fail(struct rk_reader *reader)
{
    reader->is_failed = true;
    reader->at = reader->end;
}

uint8_t rk_read_u8(struct rk_reader *reader)
{
    const uint8_t *at = take(reader, 1);
    return at != NULL ? *at : 0;
}

uint16_t rk_read_u16(struct rk_reader *reader)
{
    const uint8_t *at = take(reader, 2);
    return at != NULL ? rk_take_u16(at) : 0;
}

uint32_t rk_read_u32(struct rk_reader *reader)
{
    const uint8_t *at = take(reader, 4);
    return at != NULL ? rk_take_u32(at) : 0;
}

uint64_t rk_read_u64(struct rk_reader *reader)
{
    const uint8_t *at = take(reader, 8);
    return at != NULL ? rk_take_u64(at) : 0;
}

uint64_t rk_read_varint(struct rk_reader *reader)
{
    uint64_t value = 0;
    for (unsigned shift = 0; shift < 64; shift += 7) {
        const uint8_t *at = take(reader, 1);
        if (at == NULL) return 0;
        /* The tenth byte holds one bit; a last byte of zero is an overlong form. */
        if ((shift == 63 && *at > 1) || (shift > 0 && *at == 0)) break;
        value |= (uint64_t)(*at & 0x7f) << shift;
        if (*at < 0x80) return value;
    }
    fail(reader);
    return 0;
}

int64_t rk_read_zigzag(struct rk_reader *reader)
{
    uint64_t value = rk_read_varint(reader);
    uint64_t sign = (value & 1) != 0 ? UINT64_MAX : 0;
    return (int64_t)((value >> 1) ^ sign);
}

struct rk_slice rk_read_blob(struct rk_reader *reader)
{
    uint64_t size = rk_read_varint(reader);
    if (size > rk_reader_left(reader)) {
        fail(reader);
        return RK_SLICE_EMPTY;
    }
    return rk_read_bytes(reader, (size_t)size);
}

struct rk_slice rk_read_bytes(struct rk_reader *reader, size_t size)
{
    const uint8_t *at = take(reader, size);
    return at != NULL ? rk_slice_of(at, size) : RK_SLICE_EMPTY;
}

enum rk_status rk_reader_check(const struct rk_reader *reader, bool must_end)
{
    if (reader->is_failed) return RK_EPROTO;
    if (must_end && reader->at != reader->end) return RK_EPROTO;
    return RK_OK;
}
