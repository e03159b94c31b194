/* The form of replies in dedup records, snapshots and on peer links.
 *
 * u8 version, u8 operation, zigzag status, varint parts, then the parts that are set, in
 * the order of rk_shape_reply_log. A bool has no bytes: that it is there says true. Lines
 * of lists have all their parts. */
#include "api/table.h"
#include "base/assert.h"

#include <stdio.h>

enum { LOG_VERSION = 1, LINES_MAX = 65536, STATS_SIZE_MAX = 256 };

static void *at_of(const struct rk_part *part, const void *base)
{
    return (void *)((uintptr_t)base + part->offset);
}

static uint32_t *count_of(const struct rk_part *part, const void *base)
{
    return (void *)((uintptr_t)base + part->count_offset);
}

static void *pointer_of(const struct rk_part *part, const void *base)
{
    void *pointer;
    memcpy(&pointer, at_of(part, base), sizeof(pointer));
    return pointer;
}

static bool is_set(const struct rk_part *part, const void *base)
{
    const void *at = at_of(part, base);
    switch (part->kind) {
    case RK_PART_BOOL: return *(const bool *)at;
    case RK_PART_U8:
    case RK_PART_LINE: return *(const uint8_t *)at != 0;
    case RK_PART_U32: return *(const uint32_t *)at != 0;
    case RK_PART_U64:
    case RK_PART_I64: return *(const uint64_t *)at != 0;
    case RK_PART_TEXT: return ((const struct rk_slice *)at)->size > 0;
    case RK_PART_VALUE: return ((const struct rk_value *)at)->encoding != RK_ENCODING_NONE;
    case RK_PART_STRINGS: return ((const struct rk_strings *)at)->count > 0;
    case RK_PART_LIST: return *count_of(part, base) > 0;
    default: RK_ASSERT(part->kind == RK_PART_INLINE); return pointer_of(part, base) != NULL;
    }
}

static void put_value(struct rk_buf *out, const struct rk_value *value)
{
    rk_buf_u8(out, value->encoding);
    if (value->encoding != RK_ENCODING_NONE) rk_buf_blob(out, value->bytes);
}

static void put_strings(struct rk_buf *out, const struct rk_strings *strings)
{
    rk_buf_varint(out, strings->count);
    for (uint32_t i = 0; i < strings->count; i++)
        rk_buf_blob(out, strings->items[i]);
}

static void put_headers(struct rk_buf *out, const struct rk_headers *headers)
{
    rk_buf_varint(out, headers->count);
    for (uint32_t i = 0; i < headers->count; i++) {
        rk_buf_blob(out, headers->items[i].name);
        rk_buf_blob(out, headers->items[i].value);
    }
}

static void put_part(struct rk_buf *out, const struct rk_part *part, const void *base,
                     bool is_line)
{
    const void *at = at_of(part, base);
    switch (part->kind) {
    case RK_PART_BOOL:
        if (is_line) rk_buf_u8(out, *(const bool *)at);
        return;
    case RK_PART_U8:
    case RK_PART_MODE: rk_buf_u8(out, *(const uint8_t *)at); return;
    case RK_PART_U32: rk_buf_varint(out, *(const uint32_t *)at); return;
    case RK_PART_I32: rk_buf_zigzag(out, *(const int32_t *)at); return;
    case RK_PART_U64: rk_buf_varint(out, *(const uint64_t *)at); return;
    case RK_PART_I64: rk_buf_zigzag(out, *(const int64_t *)at); return;
    case RK_PART_TEXT: rk_buf_blob(out, *(const struct rk_slice *)at); return;
    case RK_PART_LINE: rk_buf_blob(out, rk_slice_of_string(at)); return;
    case RK_PART_VALUE: put_value(out, at); return;
    case RK_PART_STRINGS: put_strings(out, at); return;
    case RK_PART_HEADERS: put_headers(out, at); return;
    case RK_PART_STATUS: rk_buf_zigzag(out, *(const enum rk_status *)at); return;
    default: break;
    }
    RK_ASSERT(part->kind == RK_PART_LIST || part->kind == RK_PART_INLINE);
    uint32_t lines = 1;
    if (part->kind == RK_PART_LIST) {
        lines = *count_of(part, base);
        rk_buf_varint(out, lines);
    }
    const uint8_t *items = pointer_of(part, base);
    for (uint32_t i = 0; i < lines; i++)
        for (uint32_t j = 0; j < part->shape->count; j++)
            put_part(out, &part->shape->parts[j],
                     items + (size_t)i * part->shape->item_size, true);
}

void rk_reply_encode(struct rk_buf *out, const struct rk_reply *reply)
{
    const struct rk_shape *shape = &rk_shape_reply_log;
    uint64_t parts = 0;
    for (uint32_t i = 0; i < shape->count; i++)
        if (is_set(&shape->parts[i], reply)) parts |= UINT64_C(1) << i;
    rk_buf_u8(out, LOG_VERSION);
    rk_buf_u8(out, (uint8_t)reply->op);
    rk_buf_zigzag(out, reply->status);
    rk_buf_varint(out, parts);
    for (; parts != 0; parts &= parts - 1)
        put_part(out, &shape->parts[__builtin_ctzll(parts)], reply, false);
}

static void *take_items(struct rk_reader *reader, struct rk_arena *arena, size_t item_size,
                        uint32_t *count, bool *is_full)
{
    uint64_t claimed = rk_read_varint(reader);
    if (claimed > rk_reader_left(reader) || claimed > LINES_MAX) reader->is_failed = true;
    *count = 0;
    if (reader->is_failed || claimed == 0) return NULL;
    void *items = rk_arena_calloc(arena, claimed, item_size);
    if (items == NULL)
        *is_full = true;
    else
        *count = (uint32_t)claimed;
    return items;
}

static struct rk_value take_value(struct rk_reader *reader)
{
    struct rk_value value = {.encoding = rk_read_u8(reader)};
    if (value.encoding != RK_ENCODING_NONE) value.bytes = rk_read_blob(reader);
    if (value.encoding > RK_ENCODING_RAW) reader->is_failed = true;
    return value;
}

static uint64_t take_below(struct rk_reader *reader, uint64_t value, uint64_t bound)
{
    if (value < bound) return value;
    reader->is_failed = true;
    return 0;
}

static void take_line(struct rk_reader *reader, char *to)
{
    struct rk_slice text = rk_read_blob(reader);
    const size_t size = sizeof(((struct rk_reply *)0)->text);
    text.size = (size_t)take_below(reader, text.size, size);
    if (text.size > 0) memcpy(to, text.data, text.size);
    to[text.size] = '\0';
}

static int64_t take_int(struct rk_reader *reader, int64_t min, int64_t max)
{
    int64_t value = rk_read_zigzag(reader);
    if (value >= min && value <= max) return value;
    reader->is_failed = true;
    return 0;
}

struct take {
    struct rk_reader *reader;
    struct rk_arena *arena;
    bool is_full; /* no memory */
};

static void take_lists(struct take *take, const struct rk_part *part, void *base);

static void take_part(struct take *take, const struct rk_part *part, void *base,
                      bool is_line)
{
    struct rk_reader *reader = take->reader;
    void *at = at_of(part, base);
    switch (part->kind) {
    case RK_PART_BOOL:
        *(bool *)at = is_line ? take_below(reader, rk_read_u8(reader), 2) != 0 : true;
        return;
    case RK_PART_U8: *(uint8_t *)at = rk_read_u8(reader); return;
    case RK_PART_MODE:
        *(uint8_t *)at =
            (uint8_t)take_below(reader, rk_read_u8(reader), RK_MODE_SHARED + 1);
        return;
    case RK_PART_U32:
        *(uint32_t *)at =
            (uint32_t)take_below(reader, rk_read_varint(reader), (uint64_t)UINT32_MAX + 1);
        return;
    case RK_PART_I32:
        *(int32_t *)at = (int32_t)take_int(reader, INT32_MIN, INT32_MAX);
        return;
    case RK_PART_U64: *(uint64_t *)at = rk_read_varint(reader); return;
    case RK_PART_I64: *(int64_t *)at = rk_read_zigzag(reader); return;
    case RK_PART_TEXT: *(struct rk_slice *)at = rk_read_blob(reader); return;
    case RK_PART_LINE: take_line(reader, at); return;
    case RK_PART_VALUE: *(struct rk_value *)at = take_value(reader); return;
    case RK_PART_STATUS:
        *(enum rk_status *)at = (enum rk_status)take_int(reader, -1000, 0);
        return;
    default: take_lists(take, part, base);
    }
}

static void take_lists(struct take *take, const struct rk_part *part, void *base)
{
    struct rk_reader *reader = take->reader;
    void *at = at_of(part, base);
    if (part->kind == RK_PART_STRINGS) {
        struct rk_strings *strings = at;
        strings->items = take_items(reader, take->arena, sizeof(*strings->items),
                                    &strings->count, &take->is_full);
        for (uint32_t i = 0; i < strings->count; i++)
            strings->items[i] = rk_read_blob(reader);
        return;
    }
    if (part->kind == RK_PART_HEADERS) {
        struct rk_headers *headers = at;
        headers->items = take_items(reader, take->arena, sizeof(*headers->items),
                                    &headers->count, &take->is_full);
        for (uint32_t i = 0; i < headers->count; i++) {
            headers->items[i].name = rk_read_blob(reader);
            headers->items[i].value = rk_read_blob(reader);
        }
        return;
    }
    uint32_t count = 1;
    uint8_t *items;
    if (part->kind == RK_PART_LIST) {
        items =
            take_items(reader, take->arena, part->shape->item_size, &count, &take->is_full);
        *count_of(part, base) = count;
    } else {
        items = rk_arena_calloc(take->arena, 1, part->shape->item_size);
        take->is_full |= items == NULL;
        if (items == NULL) count = 0;
    }
    memcpy(at, &items, sizeof(items));
    for (uint32_t i = 0; i < count && !reader->is_failed && !take->is_full; i++)
        for (uint32_t j = 0; j < part->shape->count; j++)
            take_part(take, &part->shape->parts[j],
                      items + (size_t)i * part->shape->item_size, true);
}

enum rk_status rk_reply_decode(struct rk_reply *out, struct rk_slice bytes,
                               struct rk_arena *arena)
{
    const struct rk_shape *shape = &rk_shape_reply_log;
    struct rk_reader reader;
    rk_reader_init(&reader, bytes);
    uint8_t version = rk_read_u8(&reader);
    uint8_t op = rk_read_u8(&reader);
    if (reader.is_failed || version == 0) return RK_EPROTO;
    if (version != LOG_VERSION || op >= RK_OP_MAX) return RK_EUNSUPPORTED;
    memset(out, 0, sizeof(*out));
    out->op = (enum rk_op)op;
    out->status = (enum rk_status)take_int(&reader, -1000, 0);
    uint64_t parts = rk_read_varint(&reader);
    if (reader.is_failed || parts >> shape->count != 0) return RK_EPROTO;
    struct take take = {.reader = &reader, .arena = arena};
    for (; parts != 0 && !reader.is_failed; parts &= parts - 1)
        take_part(&take, &shape->parts[__builtin_ctzll(parts)], out, false);
    if (take.is_full) return RK_ENOMEM;
    return rk_reader_check(&reader, true);
}
