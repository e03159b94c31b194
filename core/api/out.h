/* out.h - writes maps, lists and scalars as JSON or msgpack straight into a buffer.
 *
 * The number of pairs of a map need not be known beforehand: msgpack headers are filled
 * in at the end. Private to core/api. */
#ifndef RK_API_OUT_H
#define RK_API_OUT_H

#include "api/api.h"

#include <inttypes.h>

struct rk_out {
    struct rk_buf *buf;
    struct rk_arena *arena; /* for conversions */
    bool is_msgpack;
    enum rk_status status; /* the first failed conversion */
    char place[128];       /* of it */
};

/* An open map. */
struct rk_out_map {
    size_t header_at;
    uint32_t count;
    bool is_wide; /* msgpack: may have more than 15 pairs */
};

static inline void rk_out_bytes(struct rk_out *out, const void *data, size_t size)
{
    struct rk_buf *buf = out->buf;
    if (buf->capacity - buf->size >= size && size > 0) {
        memcpy(buf->data + buf->size, data, size);
        buf->size += size;
        return;
    }
    rk_buf_append(buf, data, size);
}

static inline void rk_out_byte(struct rk_out *out, uint8_t byte)
{
    rk_out_bytes(out, &byte, 1);
}

void rk_out_map_begin(struct rk_out *out, struct rk_out_map *map, bool is_wide);
void rk_out_map_end(struct rk_out *out, const struct rk_out_map *map);
/* name is plain: nothing in it needs an escape. */
void rk_out_key(struct rk_out *out, struct rk_out_map *map, const char *name, size_t size);
void rk_out_list_begin(struct rk_out *out, uint32_t count);
void rk_out_item(struct rk_out *out, uint32_t index); /* before each item of a list */
void rk_out_list_end(struct rk_out *out);

void rk_out_uint(struct rk_out *out, uint64_t value);
void rk_out_int(struct rk_out *out, int64_t value);
void rk_out_bool(struct rk_out *out, bool value);
void rk_out_nil(struct rk_out *out);
void rk_out_real(struct rk_out *out, double value); /* finite, if JSON */
void rk_out_text(struct rk_out *out, struct rk_slice text);
void rk_out_binary(struct rk_out *out, struct rk_slice bytes); /* JSON: base64 */
/* A key that a user gave: escaped. */
void rk_out_user_key(struct rk_out *out, struct rk_out_map *map, struct rk_slice name);
/* A field with a value in the encoding of out; in JSON raw becomes "<name>_base64". A
 * failed conversion is noted in out->status. */
void rk_out_value(struct rk_out *out, struct rk_out_map *map, const char *name, size_t size,
                  struct rk_value value);

/* value.c: appends value converted to JSON or msgpack; place (of place_size, may be NULL)
 * gets where it failed, "$.a[3]". RK_ECONVERT, RK_ENOMEM; the buffer may hold a part. */
enum rk_status rk_value_write(struct rk_out *out, struct rk_value value, char *place,
                              size_t place_size);

/* base64.c: RK_EINVAL, RK_ENOMEM. */
enum rk_status rk_base64_decode(struct rk_slice *out, struct rk_slice text,
                                struct rk_arena *arena);
void rk_base64_write(struct rk_buf *out, struct rk_slice bytes);
#endif
