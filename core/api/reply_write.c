/* Replies as JSON or msgpack, straight into the output buffer. */
#include "api/out.h"
#include "api/table.h"
#include "base/assert.h"

#include <stdio.h>

static const void *at_of(const struct rk_part *part, const void *base)
{
    return (const uint8_t *)base + part->offset;
}

static uint32_t count_of(const struct rk_part *part, const void *base)
{
    return *(const uint32_t *)(const void *)((const uint8_t *)base + part->count_offset);
}

static const void *pointer_of(const struct rk_part *part, const void *base)
{
    const void *pointer;
    memcpy(&pointer, at_of(part, base), sizeof(pointer));
    return pointer;
}

static bool is_set(const struct rk_part *part, const void *base)
{
    const void *at = at_of(part, base);
    switch (part->kind) {
    case RK_PART_BOOL: return *(const bool *)at;
    case RK_PART_U8:
    case RK_PART_MODE: return *(const uint8_t *)at != 0;
    case RK_PART_U32:
    case RK_PART_I32:
    case RK_PART_IS_OK:
    case RK_PART_CODE: return *(const uint32_t *)at != 0;
    case RK_PART_U64:
    case RK_PART_I64: return *(const uint64_t *)at != 0;
    case RK_PART_TEXT: return ((const struct rk_slice *)at)->size > 0;
    case RK_PART_VALUE: return ((const struct rk_value *)at)->encoding != RK_ENCODING_NONE;
    case RK_PART_STRINGS: return ((const struct rk_strings *)at)->count > 0;
    case RK_PART_HEADERS: return ((const struct rk_headers *)at)->count > 0;
    case RK_PART_LIST:
    case RK_PART_FIRST: return count_of(part, base) > 0;
    case RK_PART_INLINE: return pointer_of(part, base) != NULL;
    default: return true;
    }
}

static bool is_shown(const struct rk_part *part, const struct rk_reply *reply,
                     const void *base)
{
    switch (part->when) {
    case RK_WHEN_ALWAYS: return true;
    case RK_WHEN_SET: return is_set(part, base);
    case RK_WHEN_SINGLE: return !reply->is_bulk;
    case RK_WHEN_BULK: return reply->is_bulk;
    case RK_WHEN_FOUND: return reply->found && !reply->is_bulk;
    case RK_WHEN_IF_HELD: return reply->holder_count > 0;
    case RK_WHEN_LINE_FOUND: return ((const struct rk_entry_out *)base)->found;
    default: return true;
    }
}

static struct rk_slice mode_text(uint8_t mode)
{
    return mode == RK_MODE_SHARED ? RK_SLICE_LITERAL("shared")
                                  : RK_SLICE_LITERAL("exclusive");
}

static void write_strings(struct rk_out *out, const struct rk_strings *strings)
{
    rk_out_list_begin(out, strings->count);
    for (uint32_t i = 0; i < strings->count; i++) {
        rk_out_item(out, i);
        rk_out_text(out, strings->items[i]);
    }
    rk_out_list_end(out);
}

static void write_headers(struct rk_out *out, const struct rk_headers *headers)
{
    struct rk_out_map map;
    rk_out_map_begin(out, &map, true);
    for (uint32_t i = 0; i < headers->count; i++) {
        rk_out_user_key(out, &map, headers->items[i].name);
        rk_out_text(out, headers->items[i].value);
    }
    rk_out_map_end(out, &map);
}

static void write_scalar(struct rk_out *out, const struct rk_part *part, const void *base)
{
    const void *at = at_of(part, base);
    switch (part->kind) {
    case RK_PART_BOOL: rk_out_bool(out, *(const bool *)at); return;
    case RK_PART_U8: rk_out_uint(out, *(const uint8_t *)at); return;
    case RK_PART_U32: rk_out_uint(out, *(const uint32_t *)at); return;
    case RK_PART_I32: rk_out_int(out, *(const int32_t *)at); return;
    case RK_PART_U64: rk_out_uint(out, *(const uint64_t *)at); return;
    case RK_PART_I64: rk_out_int(out, *(const int64_t *)at); return;
    case RK_PART_TEXT: rk_out_text(out, *(const struct rk_slice *)at); return;
    case RK_PART_MODE: rk_out_text(out, mode_text(*(const uint8_t *)at)); return;
    case RK_PART_STRINGS: write_strings(out, at); return;
    case RK_PART_HEADERS: write_headers(out, at); return;
    case RK_PART_IS_OK: rk_out_bool(out, *(const enum rk_status *)at == RK_OK); return;
    default:
        RK_ASSERT(part->kind == RK_PART_CODE);
        rk_out_text(out, rk_slice_of_string(rk_status_text(*(const enum rk_status *)at)));
    }
}

static void write_parts(struct rk_out *out, struct rk_out_map *map,
                        const struct rk_shape *shape, const struct rk_reply *reply,
                        const void *base);

/* A conversion that fails in a line names the line. */
static void name_line(struct rk_out *out, const char *list, uint32_t index)
{
    char inner[sizeof(out->place)];
    memcpy(inner, out->place, sizeof(inner));
    snprintf(out->place, sizeof(out->place), "%.20s[%u].%.80s", list, index, inner);
}

static void write_lines(struct rk_out *out, const struct rk_part *part,
                        const struct rk_reply *reply, const void *items, uint32_t count)
{
    rk_out_list_begin(out, count);
    for (uint32_t i = 0; i < count && out->status == RK_OK; i++) {
        struct rk_out_map map;
        rk_out_item(out, i);
        rk_out_map_begin(out, &map, false);
        write_parts(out, &map, part->shape, reply,
                    (const uint8_t *)items + (size_t)i * part->shape->item_size);
        rk_out_map_end(out, &map);
        if (out->status != RK_OK) name_line(out, part->name, i);
    }
    rk_out_list_end(out);
}

/* The single form of consume: the message's own parts, or that there is none. */
static void write_first(struct rk_out *out, struct rk_out_map *map,
                        const struct rk_part *part, const struct rk_reply *reply)
{
    if (count_of(part, reply) > 0) {
        write_parts(out, map, part->shape, reply, pointer_of(part, reply));
        return;
    }
    rk_out_key(out, map, "message", 7);
    rk_out_nil(out);
}

static void write_parts(struct rk_out *out, struct rk_out_map *map,
                        const struct rk_shape *shape, const struct rk_reply *reply,
                        const void *base)
{
    for (uint32_t i = 0; i < shape->count; i++) {
        const struct rk_part *part = &shape->parts[i];
        if (!is_shown(part, reply, base)) continue;
        switch (part->kind) {
        case RK_PART_FIRST: write_first(out, map, part, reply); break;
        case RK_PART_INLINE:
            write_parts(out, map, part->shape, reply, pointer_of(part, base));
            break;
        case RK_PART_VALUE:
            rk_out_value(out, map, part->name, part->name_size,
                         *(const struct rk_value *)at_of(part, base));
            break;
        case RK_PART_LIST:
            rk_out_key(out, map, part->name, part->name_size);
            write_lines(out, part, reply, pointer_of(part, base), count_of(part, base));
            break;
        default:
            rk_out_key(out, map, part->name, part->name_size);
            write_scalar(out, part, base);
        }
    }
}

static void member_text(struct rk_out *out, struct rk_out_map *map, const char *name,
                        struct rk_slice text)
{
    rk_out_key(out, map, name, strlen(name));
    rk_out_text(out, text);
}

static void member_bool(struct rk_out *out, struct rk_out_map *map, const char *name,
                        bool value)
{
    rk_out_key(out, map, name, strlen(name));
    rk_out_bool(out, value);
}

static void member_uint(struct rk_out *out, struct rk_out_map *map, const char *name,
                        uint64_t value)
{
    rk_out_key(out, map, name, strlen(name));
    rk_out_uint(out, value);
}

static void member_list(struct rk_out *out, struct rk_out_map *map, const char *name,
                        const struct rk_shape *shape, const void *items, uint32_t count,
                        const struct rk_reply *reply)
{
    const struct rk_part part = {.name = name, .shape = shape};
    rk_out_key(out, map, name, strlen(name));
    write_lines(out, &part, reply, items, count);
}

/* What a refusal of a lock says beside the status. */
static void write_refusal(struct rk_out *out, struct rk_out_map *map,
                          const struct rk_reply *reply)
{
    bool is_refused = reply->status == RK_EHELD || reply->status == RK_ETIMEOUT ||
                      reply->status == RK_EDEADLOCK;
    if (reply->op == RK_OP_LOCK_ACQUIRE && is_refused)
        member_bool(out, map, "granted", false);
    if (reply->status == RK_EHELD || reply->holder_count > 0)
        member_list(out, map, "holders", &rk_shape_problem_holder, reply->holders,
                    reply->holder_count, reply);
    if (reply->status == RK_EDEADLOCK || reply->edge_count > 0)
        member_list(out, map, "cycle", &rk_shape_edge, reply->edges, reply->edge_count,
                    reply);
}

/* RFC 9457. */
static void write_problem(struct rk_out *out, const struct rk_reply *reply)
{
    const struct rk_status_info *info = rk_status_info(reply->status);
    struct rk_out_map map;
    char type[64];
    snprintf(type, sizeof(type), "urn:rukun:%s", info->wire);
    rk_out_map_begin(out, &map, true);
    member_text(out, &map, "type", rk_slice_of_string(type));
    member_text(out, &map, "title", rk_slice_of_string(info->title));
    member_uint(out, &map, "status", info->http);
    member_text(out, &map, "code", rk_slice_of_string(info->wire));
    member_bool(out, &map, "retryable", info->is_retryable);
    bool is_unknown = reply->outcome == RK_OUTCOME_UNKNOWN || reply->status == RK_EUNKNOWN;
    member_text(out, &map, "outcome",
                is_unknown ? RK_SLICE_LITERAL("unknown") : RK_SLICE_LITERAL("not_done"));
    write_refusal(out, &map, reply);
    if (reply->text[0] != '\0')
        member_text(out, &map, "detail", rk_slice_of_string(reply->text));
    if (reply->field.size > 0) member_text(out, &map, "field", reply->field);
    if (reply->version != 0) member_uint(out, &map, "version", reply->version);
    if (reply->leader.size > 0) member_text(out, &map, "leader", reply->leader);
    if (reply->retry_after_ms != 0)
        member_uint(out, &map, "retry_after_ms", reply->retry_after_ms);
    rk_out_map_end(out, &map);
}

static void write_answer(struct rk_out *out, const struct rk_reply *reply)
{
    const struct rk_shape *shape = rk_reply_shape(reply->op);
    struct rk_out_map map;
    if (shape->count == 1 && shape->parts[0].kind == RK_PART_DOCUMENT) {
        char place[96] = "";
        out->status = rk_value_write(out, reply->document, place, sizeof(place));
        snprintf(out->place, sizeof(out->place), "document%s", place);
        return;
    }
    rk_out_map_begin(out, &map, true);
    write_parts(out, &map, shape, reply, reply);
    rk_out_map_end(out, &map);
}

static enum rk_status write_reply(struct rk_buf *buf, const struct rk_reply *reply,
                                  struct rk_arena *arena, bool is_msgpack)
{
    struct rk_out out = {.buf = buf, .arena = arena, .is_msgpack = is_msgpack};
    size_t start = buf->size;
    if (reply->status != RK_OK) {
        write_problem(&out, reply);
        return rk_buf_check(buf);
    }
    write_answer(&out, reply);
    if (rk_buf_check(buf) != RK_OK || out.status == RK_OK) return rk_buf_check(buf);
    if (out.status != RK_ECONVERT) return out.status;

    /* Nothing of it can have been done by a read; a write is done all the same. */
    buf->size = start;
    out.status = RK_OK;
    struct rk_reply refusal = {.op = reply->op, .status = RK_ECONVERT};
    const char *end = strchr(out.place, ':');
    size_t size = end == NULL ? strlen(out.place) : (size_t)(end - out.place);
    refusal.field = rk_slice_of(out.place, size);
    snprintf(refusal.text, sizeof(refusal.text), "%s; ask for %s instead", out.place,
             is_msgpack ? "JSON" : "msgpack");
    write_problem(&out, &refusal);
    return rk_buf_check(buf) == RK_OK ? RK_ECONVERT : RK_ENOMEM;
}

enum rk_status rk_reply_to_json(struct rk_buf *out, const struct rk_reply *reply,
                                struct rk_arena *arena)
{
    return write_reply(out, reply, arena, false);
}

enum rk_status rk_reply_to_msgpack(struct rk_buf *out, const struct rk_reply *reply,
                                   struct rk_arena *arena)
{
    return write_reply(out, reply, arena, true);
}
