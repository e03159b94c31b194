#include "api/in.h"

#include "base/assert.h"

#include <stdio.h>

static uint64_t take_be(const uint8_t *at, size_t size)
{
    uint64_t value = 0;
    for (size_t i = 0; i < size; i++)
        value = value << 8 | at[i];
    return value;
}

static void set_signed(struct rk_in *out, int64_t value)
{
    out->type = value < 0 ? RK_IN_NEGATIVE : RK_IN_UINT;
    out->number = (uint64_t)value;
}

static void set_number(struct rk_in *out, uint8_t code, const uint8_t *at)
{
    _Static_assert(sizeof(float) == 4 && sizeof(double) == 8, "IEEE 754");
    switch (code) {
    case 0xca: {
        uint32_t bits = (uint32_t)take_be(at, 4);
        float value;
        memcpy(&value, &bits, 4);
        out->type = RK_IN_REAL;
        out->real = (double)value;
        return;
    }
    case 0xcb: {
        uint64_t bits = take_be(at, 8);
        memcpy(&out->real, &bits, 8);
        out->type = RK_IN_REAL;
        return;
    }
    case 0xd0: set_signed(out, (int8_t)at[0]); return;
    case 0xd1: set_signed(out, (int16_t)take_be(at, 2)); return;
    case 0xd2: set_signed(out, (int32_t)take_be(at, 4)); return;
    case 0xd3: set_signed(out, (int64_t)take_be(at, 8)); return;
    default: out->type = RK_IN_UINT; out->number = take_be(at, (size_t)1 << (code - 0xcc));
    }
}

/* The codes c0..df: bytes of fixed-size content after the code, and of a length field. */
struct code_shape {
    uint8_t type; /* 0: reserved */
    uint8_t length_size;
    uint8_t fixed_size;
};
static const struct code_shape code_shapes[32] = {
    {RK_IN_NIL, 0, 0},   {0, 0, 0},           {RK_IN_BOOL, 0, 0},  {RK_IN_BOOL, 0, 0},
    {RK_IN_BYTES, 1, 0}, {RK_IN_BYTES, 2, 0}, {RK_IN_BYTES, 4, 0}, {RK_IN_EXT, 1, 1},
    {RK_IN_EXT, 2, 1},   {RK_IN_EXT, 4, 1},   {RK_IN_REAL, 0, 4},  {RK_IN_REAL, 0, 8},
    {RK_IN_UINT, 0, 1},  {RK_IN_UINT, 0, 2},  {RK_IN_UINT, 0, 4},  {RK_IN_UINT, 0, 8},
    {RK_IN_UINT, 0, 1},  {RK_IN_UINT, 0, 2},  {RK_IN_UINT, 0, 4},  {RK_IN_UINT, 0, 8},
    {RK_IN_EXT, 0, 2},   {RK_IN_EXT, 0, 3},   {RK_IN_EXT, 0, 5},   {RK_IN_EXT, 0, 9},
    {RK_IN_EXT, 0, 17},  {RK_IN_TEXT, 1, 0},  {RK_IN_TEXT, 2, 0},  {RK_IN_TEXT, 4, 0},
    {RK_IN_ARRAY, 2, 0}, {RK_IN_ARRAY, 4, 0}, {RK_IN_MAP, 2, 0},   {RK_IN_MAP, 4, 0},
};

static enum rk_status set_text(struct rk_in *out, const uint8_t *at, size_t left,
                               size_t head, size_t size)
{
    out->head_size = head;
    if (left < head || left - head < size) return RK_EBUSY;
    out->text = rk_slice_of(at + head, size);
    out->raw = rk_slice_of(at, head + size);
    return RK_OK;
}

enum rk_status rk_in_head(struct rk_in *out, const uint8_t *at, size_t left)
{
    out->json = NULL;
    if (left == 0) return RK_EBUSY;
    uint8_t code = at[0];
    out->head_size = 1;
    out->raw = rk_slice_of(at, 1);
    if (code <= 0x7f || code >= 0xe0) {
        set_signed(out, (int8_t)code);
        return RK_OK;
    }
    if (code <= 0x9f) {
        out->type = code <= 0x8f ? RK_IN_MAP : RK_IN_ARRAY;
        out->count = code & 0x0f;
        return RK_OK;
    }
    if (code <= 0xbf) {
        out->type = RK_IN_TEXT;
        return set_text(out, at, left, 1, code & 0x1f);
    }

    const struct code_shape *shape = &code_shapes[code - 0xc0];
    if (shape->type == 0) return RK_EINVAL;
    out->type = shape->type;
    size_t head = 1 + shape->length_size;
    if (left < head + shape->fixed_size) return RK_EBUSY;
    uint64_t length = take_be(at + 1, shape->length_size);
    switch (shape->type) {
    case RK_IN_ARRAY:
    case RK_IN_MAP:
        out->count = (uint32_t)length;
        out->head_size = head;
        return RK_OK;
    case RK_IN_NIL: return RK_OK;
    case RK_IN_BOOL: out->number = code & 1; return RK_OK;
    case RK_IN_REAL:
    case RK_IN_UINT:
        set_number(out, code, at + 1);
        out->raw.size = 1 + shape->fixed_size;
        return RK_OK;
    default: return set_text(out, at, left, head, length + shape->fixed_size);
    }
}

static uint64_t child_count(const struct rk_in *in)
{
    if (in->type == RK_IN_ARRAY) return in->count;
    return in->type == RK_IN_MAP ? 2 * (uint64_t)in->count : 0;
}

enum rk_status rk_msgpack_measure(struct rk_slice bytes, size_t *size)
{
    uint64_t pending[RK_DEPTH_MAX + 1] = {1};
    uint32_t depth = 0;
    uint64_t owed = 1; /* objects still to come, each of at least one byte */
    size_t at = 0;
    for (;;) {
        while (pending[depth] == 0) {
            if (depth == 0) {
                *size = at;
                return RK_OK;
            }
            depth--;
        }
        struct rk_in in;
        enum rk_status status = rk_in_head(&in, bytes.data + at, bytes.size - at);
        if (status == RK_EINVAL) return RK_EINVAL;
        if (status != RK_OK) return at + owed > RK_MSGPACK_MAX ? RK_EINVAL : RK_EBUSY;

        pending[depth]--;
        uint64_t children = child_count(&in);
        owed += children - 1;
        bool is_container = in.type == RK_IN_ARRAY || in.type == RK_IN_MAP;
        at += is_container ? in.head_size : in.raw.size;
        if (at + owed > RK_MSGPACK_MAX) return RK_EINVAL;
        if (is_container) {
            if (depth == RK_DEPTH_MAX) return RK_EINVAL;
            pending[++depth] = children;
        }
    }
}

static void note(struct rk_api_error *error, enum rk_status status, const char *text)
{
    error->status = status;
    error->field[0] = '\0';
    snprintf(error->text, sizeof(error->text), "%s", text);
}

enum rk_status rk_in_open_msgpack(struct rk_in *out, struct rk_slice bytes,
                                  struct rk_api_error *error)
{
    size_t size = 0;
    enum rk_status status = rk_msgpack_measure(bytes, &size);
    if (status == RK_OK && size != bytes.size) {
        note(error, RK_EINVAL, "bytes follow the msgpack body");
        return RK_EINVAL;
    }
    if (status != RK_OK) {
        note(error, RK_EINVAL,
             status == RK_EBUSY ? "the msgpack body ends too early"
                                : "the body is not msgpack, too deep or too large");
        return RK_EINVAL;
    }
    status = rk_in_head(out, bytes.data, bytes.size);
    RK_ASSERT(status == RK_OK);
    out->raw = bytes;
    return RK_OK;
}
