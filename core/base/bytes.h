/* bytes.h - borrowed slices, growing buffers, and the fixed-width and varint codec
 * used by every format of wire and disk. Integers are little-endian; varints LEB128. */
#ifndef RK_BASE_BYTES_H
#define RK_BASE_BYTES_H

#include "base/status.h"

#include <stddef.h>
#include <string.h>

/* Borrowed bytes. data may be NULL only when size is 0. */
struct rk_slice {
    const uint8_t *data;
    size_t size;
};

#define RK_SLICE_EMPTY ((struct rk_slice){NULL, 0})
#define RK_SLICE_LITERAL(text)                                                             \
    ((struct rk_slice){(const uint8_t *)(text), sizeof(text) - 1})

static inline struct rk_slice rk_slice_of(const void *data, size_t size)
{
    return (struct rk_slice){(const uint8_t *)data, size};
}

static inline struct rk_slice rk_slice_of_string(const char *text)
{
    return (struct rk_slice){(const uint8_t *)text, strlen(text)};
}

static inline bool rk_slice_is_equal(struct rk_slice a, struct rk_slice b)
{
    return a.size == b.size && (a.size == 0 || memcmp(a.data, b.data, a.size) == 0);
}

/* memcmp order, shorter first on a common prefix: <0, 0, >0. */
int rk_slice_compare(struct rk_slice a, struct rk_slice b);
bool rk_slice_has_prefix(struct rk_slice slice, struct rk_slice prefix);

/* A growing buffer. A failed append leaves it unchanged except for `is_failed`, which
 * stays set until rk_buf_reset, so a run of appends needs one check at its end. */
struct rk_buf {
    uint8_t *data; /* owned */
    size_t size;
    size_t capacity;
    bool is_failed;
};

void rk_buf_init(struct rk_buf *buf);
void rk_buf_fini(struct rk_buf *buf);
void rk_buf_reset(struct rk_buf *buf); /* size 0, memory kept */
RK_MUST_CHECK enum rk_status rk_buf_reserve(struct rk_buf *buf, size_t extra);
void rk_buf_append(struct rk_buf *buf, const void *data, size_t size);
void rk_buf_append_slice(struct rk_buf *buf, struct rk_slice slice);
void rk_buf_append_string(struct rk_buf *buf, const char *text);
__attribute__((format(printf, 2, 3))) void rk_buf_printf(struct rk_buf *buf,
                                                         const char *format, ...);
/* size more bytes at the end, not initialised; NULL (and is_failed) without memory. */
uint8_t *rk_buf_extend(struct rk_buf *buf, size_t size);
void rk_buf_u8(struct rk_buf *buf, uint8_t value);
void rk_buf_u16(struct rk_buf *buf, uint16_t value);
void rk_buf_u32(struct rk_buf *buf, uint32_t value);
void rk_buf_u64(struct rk_buf *buf, uint64_t value);
void rk_buf_varint(struct rk_buf *buf, uint64_t value);
void rk_buf_zigzag(struct rk_buf *buf, int64_t value);
void rk_buf_blob(struct rk_buf *buf, struct rk_slice slice); /* varint size, bytes */
/* RK_ENOMEM if an append failed since the last reset. */
RK_MUST_CHECK enum rk_status rk_buf_check(const struct rk_buf *buf);
static inline struct rk_slice rk_buf_slice(const struct rk_buf *buf)
{
    return (struct rk_slice){buf->data, buf->size};
}

static inline void rk_put_u16(uint8_t *out, uint16_t value)
{
    for (int i = 0; i < 2; i++)
        out[i] = (uint8_t)(value >> (8 * i));
}
static inline void rk_put_u32(uint8_t *out, uint32_t value)
{
    for (int i = 0; i < 4; i++)
        out[i] = (uint8_t)(value >> (8 * i));
}
static inline void rk_put_u64(uint8_t *out, uint64_t value)
{
    for (int i = 0; i < 8; i++)
        out[i] = (uint8_t)(value >> (8 * i));
}
static inline uint16_t rk_take_u16(const uint8_t *in)
{
    return (uint16_t)(in[0] | in[1] << 8);
}
static inline uint32_t rk_take_u32(const uint8_t *in)
{
    uint32_t value = 0;
    for (int i = 0; i < 4; i++)
        value |= (uint32_t)in[i] << (8 * i);
    return value;
}
static inline uint64_t rk_take_u64(const uint8_t *in)
{
    uint64_t value = 0;
    for (int i = 0; i < 8; i++)
        value |= (uint64_t)in[i] << (8 * i);
    return value;
}

/* Reads input of unknown origin. After a read past the end, is_failed is set and all
 * later reads give zero or empty slices: one check at the end is enough. Slices point
 * into the input. */
struct rk_reader {
    const uint8_t *at;
    const uint8_t *end;
    bool is_failed;
};

void rk_reader_init(struct rk_reader *reader, struct rk_slice input);
static inline size_t rk_reader_left(const struct rk_reader *reader)
{
    return (size_t)(reader->end - reader->at);
}
uint8_t rk_read_u8(struct rk_reader *reader);
uint16_t rk_read_u16(struct rk_reader *reader);
uint32_t rk_read_u32(struct rk_reader *reader);
uint64_t rk_read_u64(struct rk_reader *reader);
uint64_t rk_read_varint(struct rk_reader *reader); /* over 64 bits or overlong: failed */
int64_t rk_read_zigzag(struct rk_reader *reader);
struct rk_slice rk_read_blob(struct rk_reader *reader);
struct rk_slice rk_read_bytes(struct rk_reader *reader, size_t size);
/* RK_EPROTO after a failed read, or with bytes left over when must_end. */
RK_MUST_CHECK enum rk_status rk_reader_check(const struct rk_reader *reader, bool must_end);

/* True for well-formed UTF-8 without NUL (RFC 3629). */
bool rk_slice_is_utf8(struct rk_slice slice);
#endif
