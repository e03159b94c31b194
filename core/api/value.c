/* A user's value from one encoding into another. */
#include "api/in.h"
#include "api/out.h"

#include <math.h>
#include <stdio.h>

/* The way to the part being converted, for the error that names it. */
struct path {
    char *text; /* or NULL */
    size_t size;
    size_t used;
};

static size_t path_push(struct path *path, struct rk_slice key, uint32_t index, bool is_key)
{
    size_t before = path->used;
    if (path->text == NULL || path->used >= path->size) return before;
    size_t left = path->size - path->used;
    int added;
    if (is_key)
        added = snprintf(path->text + path->used, left, ".%.*s",
                         (int)(key.size < 32 ? key.size : 32), (const char *)key.data);
    else
        added = snprintf(path->text + path->used, left, "[%u]", index);
    path->used += (size_t)added < left ? (size_t)added : left - 1;
    return before;
}

static enum rk_status refuse(struct path *path, const char *why)
{
    if (path->text == NULL) return RK_ECONVERT;
    snprintf(path->text + path->used, path->size - path->used, ": %s", why);
    return RK_ECONVERT;
}

static enum rk_status write_in(struct rk_out *out, const struct rk_in *in,
                               struct path *path);

static enum rk_status write_map(struct rk_out *out, const struct rk_in *in,
                                struct path *path)
{
    struct rk_in_walk walk;
    struct rk_in item;
    struct rk_slice key;
    struct rk_out_map map = {0};
    enum rk_status status = RK_OK;
    if (!out->is_msgpack) {
        rk_out_map_begin(out, &map, false);
    } else if (in->count < 16) {
        rk_out_byte(out, (uint8_t)(0x80 | in->count));
    } else {
        uint8_t header[5] = {0xdf, (uint8_t)(in->count >> 24), (uint8_t)(in->count >> 16),
                             (uint8_t)(in->count >> 8), (uint8_t)in->count};
        rk_out_bytes(out, header, sizeof(header));
    }
    rk_in_walk_init(&walk, in);
    while (status == RK_OK && rk_in_next(&walk, &key, &item)) {
        if (walk.is_bad_key) return refuse(path, "a key is not a string");
        if (!out->is_msgpack && !rk_slice_is_utf8(key))
            return refuse(path, "a key is not UTF-8");
        size_t before = path_push(path, key, 0, true);
        rk_out_user_key(out, &map, key);
        status = write_in(out, &item, path);
        if (status == RK_OK) path->used = before;
    }
    if (!out->is_msgpack) rk_out_map_end(out, &map);
    return status;
}

static enum rk_status write_list(struct rk_out *out, const struct rk_in *in,
                                 struct path *path)
{
    struct rk_in_walk walk;
    struct rk_in item;
    struct rk_slice key;
    enum rk_status status = RK_OK;
    rk_out_list_begin(out, in->count);
    rk_in_walk_init(&walk, in);
    while (status == RK_OK && rk_in_next(&walk, &key, &item)) {
        size_t before = path_push(path, key, walk.index - 1, false);
        rk_out_item(out, walk.index - 1);
        status = write_in(out, &item, path);
        if (status == RK_OK) path->used = before;
    }
    rk_out_list_end(out);
    return status;
}

/* JSON allows U+0000 in strings, rk_slice_is_utf8 does not: pieces between are checked. */
static bool is_json_text(struct rk_slice text)
{
    size_t from = 0;
    for (size_t i = 0; i <= text.size; i++) {
        if (i < text.size && text.data[i] != 0) continue;
        if (i > from && !rk_slice_is_utf8(rk_slice_of(text.data + from, i - from)))
            return false;
        from = i + 1;
    }
    return true;
}

static enum rk_status write_in(struct rk_out *out, const struct rk_in *in,
                               struct path *path)
{
    switch (in->type) {
    case RK_IN_NIL: rk_out_nil(out); return RK_OK;
    case RK_IN_BOOL: rk_out_bool(out, in->number != 0); return RK_OK;
    case RK_IN_UINT: rk_out_uint(out, in->number); return RK_OK;
    case RK_IN_NEGATIVE: rk_out_int(out, (int64_t)in->number); return RK_OK;
    case RK_IN_REAL:
        if (!out->is_msgpack && !isfinite(in->real))
            return refuse(path, "not a finite number");
        rk_out_real(out, in->real);
        return RK_OK;
    case RK_IN_TEXT:
        if (!out->is_msgpack && !is_json_text(in->text)) return refuse(path, "not UTF-8");
        rk_out_text(out, in->text);
        return RK_OK;
    case RK_IN_BYTES: return refuse(path, "binary within a value");
    case RK_IN_EXT: return refuse(path, "a msgpack extension");
    case RK_IN_ARRAY: return write_list(out, in, path);
    default: return write_map(out, in, path);
    }
}

static enum rk_status msgpack_to_json(struct rk_out *out, struct rk_slice bytes,
                                      struct path *path)
{
    struct rk_api_error error;
    struct rk_in in;
    if (rk_in_open_msgpack(&in, bytes, &error) != RK_OK)
        return refuse(path, "not well-formed msgpack");
    if (in.type == RK_IN_BYTES) {
        rk_out_binary(out, in.text);
        return RK_OK;
    }
    return write_in(out, &in, path);
}

static enum rk_status json_to_msgpack(struct rk_out *out, struct rk_slice bytes,
                                      struct path *path)
{
    struct rk_api_error error;
    struct rk_in in;
    json_t *root;
    enum rk_status status = rk_in_open_json(&in, &root, bytes, &error);
    if (status == RK_EINVAL) status = refuse(path, "not well-formed JSON");
    if (status == RK_OK) status = write_in(out, &in, path);
    json_decref(root);
    return status;
}

enum rk_status rk_value_write(struct rk_out *out, struct rk_value value, char *place,
                              size_t place_size)
{
    struct path path = {place, place_size, 0};
    enum rk_encoding own = out->is_msgpack ? RK_ENCODING_MSGPACK : RK_ENCODING_JSON;
    if (value.encoding == own) {
        rk_out_bytes(out, value.bytes.data, value.bytes.size);
        return RK_OK;
    }
    switch (value.encoding) {
    case RK_ENCODING_JSON: return json_to_msgpack(out, value.bytes, &path);
    case RK_ENCODING_MSGPACK: return msgpack_to_json(out, value.bytes, &path);
    case RK_ENCODING_RAW: rk_out_binary(out, value.bytes); return RK_OK;
    default: rk_out_nil(out); return RK_OK;
    }
}

/* The bytes within: of a msgpack text or binary its content, else the value as it is. */
static struct rk_value to_raw(struct rk_value in)
{
    struct rk_in head;
    if (in.encoding == RK_ENCODING_MSGPACK &&
        rk_in_head(&head, in.bytes.data, in.bytes.size) == RK_OK &&
        (head.type == RK_IN_TEXT || head.type == RK_IN_BYTES) &&
        head.raw.size == in.bytes.size)
        return (struct rk_value){head.text, RK_ENCODING_RAW};
    return (struct rk_value){in.bytes, RK_ENCODING_RAW};
}

enum rk_status rk_value_convert(struct rk_value *out, struct rk_value in,
                                enum rk_encoding to, struct rk_arena *arena)
{
    if (in.encoding == to || in.encoding == RK_ENCODING_NONE) {
        *out = in;
        return RK_OK;
    }
    if (to == RK_ENCODING_RAW) {
        *out = to_raw(in);
        return RK_OK;
    }
    struct rk_buf buf;
    rk_buf_init(&buf);
    struct rk_out writer = {
        .buf = &buf, .arena = arena, .is_msgpack = to == RK_ENCODING_MSGPACK};
    enum rk_status status = rk_value_write(&writer, in, NULL, 0);
    if (status == RK_OK) status = rk_buf_check(&buf);
    if (status == RK_OK) {
        struct rk_slice bytes = rk_arena_copy(arena, rk_buf_slice(&buf));
        if (bytes.data == NULL) status = RK_ENOMEM;
        *out = (struct rk_value){bytes, (uint8_t)to};
    }
    rk_buf_fini(&buf);
    return status;
}
