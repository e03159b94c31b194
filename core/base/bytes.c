#include "base/bytes.h"

#include "base/alloc.h"

#include <stdarg.h>
#include <stdio.h>

enum {
    BUF_CAPACITY_MIN = 64,
    VARINT_SIZE_MAX = 10,
};

int rk_slice_compare(struct rk_slice a, struct rk_slice b)
{
    size_t common = a.size < b.size ? a.size : b.size;
    int order = common != 0 ? memcmp(a.data, b.data, common) : 0;
    if (order != 0) return order;
    return (a.size > b.size) - (a.size < b.size);
}

bool rk_slice_has_prefix(struct rk_slice slice, struct rk_slice prefix)
{
    if (slice.size < prefix.size) return false;
    return prefix.size == 0 || memcmp(slice.data, prefix.data, prefix.size) == 0;
}

void rk_buf_init(struct rk_buf *buf)
{
    *buf = (struct rk_buf){NULL, 0, 0, false};
}

void rk_buf_fini(struct rk_buf *buf)
{
    rk_free(buf->data);
    rk_buf_init(buf);
}

void rk_buf_reset(struct rk_buf *buf)
{
    buf->size = 0;
    buf->is_failed = false;
}

enum rk_status rk_buf_reserve(struct rk_buf *buf, size_t extra)
{
    if (buf->data != NULL && buf->capacity - buf->size >= extra) return RK_OK;
    if (extra > SIZE_MAX / 2 - buf->size) return RK_ENOMEM;

    size_t capacity = buf->capacity < BUF_CAPACITY_MIN ? BUF_CAPACITY_MIN : buf->capacity;
    while (capacity < buf->size + extra)
        capacity *= 2;
    uint8_t *data = rk_realloc(buf->data, capacity);
    if (data == NULL) return RK_ENOMEM;
    buf->data = data;
    buf->capacity = capacity;
    return RK_OK;
}

uint8_t *rk_buf_extend(struct rk_buf *buf, size_t size)
{
    if (buf->is_failed || rk_buf_reserve(buf, size) != RK_OK) {
        buf->is_failed = true;
        return NULL;
    }
    uint8_t *at = buf->data + buf->size;
    buf->size += size;
    return at;
}

void rk_buf_append(struct rk_buf *buf, const void *data, size_t size)
{
    if (size == 0) return;
    uint8_t *at = rk_buf_extend(buf, size);
    if (at != NULL) memcpy(at, data, size);
}

void rk_buf_append_slice(struct rk_buf *buf, struct rk_slice slice)
{
    rk_buf_append(buf, slice.data, slice.size);
}

void rk_buf_append_string(struct rk_buf *buf, const char *text)
{
    rk_buf_append(buf, text, strlen(text));
}

void rk_buf_printf(struct rk_buf *buf, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    int size = vsnprintf(NULL, 0, format, args);
    va_end(args);
    /* One byte more for the NUL that vsnprintf insists on; it is not part of the text. */
    if (size < 0 || buf->is_failed || rk_buf_reserve(buf, (size_t)size + 1) != RK_OK) {
        buf->is_failed = true;
        return;
    }
    va_start(args, format);
    vsnprintf((char *)buf->data + buf->size, (size_t)size + 1, format, args);
    va_end(args);
    buf->size += (size_t)size;
}

void rk_buf_u8(struct rk_buf *buf, uint8_t value)
{
    uint8_t *at = rk_buf_extend(buf, 1);
    if (at != NULL) *at = value;
}

void rk_buf_u16(struct rk_buf *buf, uint16_t value)
{
    uint8_t *at = rk_buf_extend(buf, 2);
    if (at != NULL) rk_put_u16(at, value);
}

void rk_buf_u32(struct rk_buf *buf, uint32_t value)
{
    uint8_t *at = rk_buf_extend(buf, 4);
    if (at != NULL) rk_put_u32(at, value);
}

void rk_buf_u64(struct rk_buf *buf, uint64_t value)
{
    uint8_t *at = rk_buf_extend(buf, 8);
    if (at != NULL) rk_put_u64(at, value);
}

void rk_buf_varint(struct rk_buf *buf, uint64_t value)
{
    uint8_t bytes[VARINT_SIZE_MAX];
    size_t size = 0;
    while (value >= 0x80) {
        bytes[size++] = (uint8_t)(value | 0x80);
        value >>= 7;
    }
    bytes[size++] = (uint8_t)value;
    rk_buf_append(buf, bytes, size);
}

void rk_buf_zigzag(struct rk_buf *buf, int64_t value)
{
    uint64_t sign = value < 0 ? UINT64_MAX : 0;
    rk_buf_varint(buf, ((uint64_t)value << 1) ^ sign);
}

void rk_buf_blob(struct rk_buf *buf, struct rk_slice slice)
{
    /* Both or neither: a size without its bytes would be worse than nothing. */
    if (slice.size > SIZE_MAX / 2 || rk_buf_reserve(buf, slice.size + VARINT_SIZE_MAX)) {
        buf->is_failed = true;
        return;
    }
    rk_buf_varint(buf, slice.size);
    rk_buf_append_slice(buf, slice);
}

enum rk_status rk_buf_check(const struct rk_buf *buf)
{
    return buf->is_failed ? RK_ENOMEM : RK_OK;
}
