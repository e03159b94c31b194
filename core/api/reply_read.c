/* Replies on the client side: what the shape names is taken, what it does not is ignored,
 * so that a newer node may say more. */
#include "api/in.h"
#include "api/out.h"
#include "api/table.h"

#include <stddef.h>
#include <stdio.h>

struct read {
    struct rk_reply *out;
    struct rk_arena *arena;
};

static void *at_of(const struct rk_part *part, void *base)
{
    return (uint8_t *)base + part->offset;
}

static enum rk_status take_text(struct read *read, const struct rk_in *in,
                                struct rk_slice *out)
{
    if (in->type != RK_IN_TEXT) return RK_EPROTO;
    *out = in->text;
    if (in->json == NULL || in->text.size == 0) return RK_OK;
    *out = rk_arena_copy(read->arena, in->text);
    return out->data == NULL ? RK_ENOMEM : RK_OK;
}

/* JSON values point into the text of the body, not into the tree. */
static enum rk_status take_value(struct read *read, const struct rk_in *in, bool is_base64,
                                 struct rk_value *out)
{
    if (is_base64) {
        if (in->type != RK_IN_TEXT) return RK_EPROTO;
        out->encoding = RK_ENCODING_RAW;
        enum rk_status status = rk_base64_decode(&out->bytes, in->text, read->arena);
        return status == RK_EINVAL ? RK_EPROTO : status;
    }
    if (in->json != NULL)
        *out = (struct rk_value){in->raw, RK_ENCODING_JSON};
    else if (in->type == RK_IN_BYTES)
        *out = (struct rk_value){in->text, RK_ENCODING_RAW};
    else
        *out = (struct rk_value){in->raw, RK_ENCODING_MSGPACK};
    return RK_OK;
}

static enum rk_status take_strings(struct read *read, const struct rk_in *in,
                                   struct rk_strings *out)
{
    if (in->type != RK_IN_ARRAY) return RK_EPROTO;
    out->count = 0;
    out->items = rk_arena_calloc(read->arena, in->count + 1u, sizeof(*out->items));
    if (out->items == NULL) return RK_ENOMEM;
    struct rk_in_walk walk;
    struct rk_in item;
    struct rk_slice key;
    enum rk_status status = RK_OK;
    rk_in_walk_init(&walk, in);
    while (status == RK_OK && rk_in_next(&walk, &key, &item))
        status = take_text(read, &item, &out->items[out->count++]);
    return status;
}

static enum rk_status take_headers(struct read *read, const struct rk_in *in,
                                   struct rk_headers *out)
{
    if (in->type != RK_IN_MAP) return RK_EPROTO;
    out->count = 0;
    out->items = rk_arena_calloc(read->arena, in->count + 1u, sizeof(*out->items));
    if (out->items == NULL) return RK_ENOMEM;
    struct rk_in_walk walk;
    struct rk_in item, key_in = {.type = RK_IN_TEXT, .json = in->json};
    enum rk_status status = RK_OK;
    rk_in_walk_init(&walk, in);
    while (status == RK_OK && rk_in_next(&walk, &key_in.text, &item)) {
        struct rk_header *header = &out->items[out->count++];
        status = take_text(read, &key_in, &header->name);
        if (status == RK_OK) status = take_text(read, &item, &header->value);
    }
    return status;
}

static enum rk_status take_number(const struct rk_part *part, const struct rk_in *in,
                                  void *at)
{
    bool is_negative = in->type == RK_IN_NEGATIVE;
    if (in->type != RK_IN_UINT && !is_negative) return RK_EPROTO;
    int64_t value = (int64_t)in->number;
    bool fits = is_negative || in->number <= INT64_MAX;
    switch (part->kind) {
    case RK_PART_U8:
        if (is_negative || in->number > UINT8_MAX) return RK_EPROTO;
        *(uint8_t *)at = (uint8_t)in->number;
        return RK_OK;
    case RK_PART_U32:
        if (is_negative || in->number > UINT32_MAX) return RK_EPROTO;
        *(uint32_t *)at = (uint32_t)in->number;
        return RK_OK;
    case RK_PART_I32:
        if (!fits || value < INT32_MIN || value > INT32_MAX) return RK_EPROTO;
        *(int32_t *)at = (int32_t)value;
        return RK_OK;
    case RK_PART_I64:
        if (!fits) return RK_EPROTO;
        *(int64_t *)at = value;
        return RK_OK;
    default:
        if (is_negative) return RK_EPROTO;
        *(uint64_t *)at = in->number;
        return RK_OK;
    }
}

static enum rk_status status_of(const struct rk_in *in)
{
    char wire[64];
    if (in->type != RK_IN_TEXT || in->text.size >= sizeof(wire)) return RK_EPROTO;
    memcpy(wire, in->text.data, in->text.size);
    wire[in->text.size] = '\0';
    return rk_status_of_wire(wire);
}

static enum rk_status take_mode(const struct rk_in *in, uint8_t *mode)
{
    if (in->type != RK_IN_TEXT) return RK_EPROTO;
    bool is_shared = rk_slice_is_equal(in->text, RK_SLICE_LITERAL("shared"));
    if (!is_shared && !rk_slice_is_equal(in->text, RK_SLICE_LITERAL("exclusive")))
        return RK_EPROTO;
    *mode = is_shared ? RK_MODE_SHARED : RK_MODE_EXCLUSIVE;
    return RK_OK;
}

static enum rk_status take_lines(struct read *read, const struct rk_part *part,
                                 const struct rk_in *in, void *base);

static enum rk_status take_part(struct read *read, const struct rk_part *part,
                                const struct rk_in *in, bool is_base64, void *base)
{
    void *at = at_of(part, base);
    enum rk_status *status = at;
    switch (part->kind) {
    case RK_PART_BOOL:
        if (in->type != RK_IN_BOOL) return RK_EPROTO;
        *(bool *)at = in->number != 0;
        return RK_OK;
    case RK_PART_IS_OK: /* the code, if there is one, says more; it may come first */
        if (in->type != RK_IN_BOOL) return RK_EPROTO;
        if (in->number == 0 && *status == RK_OK) *status = RK_EUNKNOWN;
        return RK_OK;
    case RK_PART_CODE: *status = status_of(in); return RK_OK;
    case RK_PART_TEXT: return take_text(read, in, at);
    case RK_PART_MODE: return take_mode(in, at);
    case RK_PART_VALUE: return take_value(read, in, is_base64, at);
    case RK_PART_STRINGS: return take_strings(read, in, at);
    case RK_PART_HEADERS: return take_headers(read, in, at);
    case RK_PART_LIST: return take_lines(read, part, in, base);
    default: return take_number(part, in, at);
    }
}

static bool is_base64_of(const struct rk_part *part, struct rk_slice key)
{
    static const char end[] = "_base64";
    return part->kind == RK_PART_VALUE && key.size == part->name_size + sizeof(end) - 1 &&
           memcmp(key.data, part->name, part->name_size) == 0 &&
           memcmp(key.data + part->name_size, end, sizeof(end) - 1) == 0;
}

/* The part that key names, in shape or in what it holds inline; *base becomes the object
 * that the part is in. */
static const struct rk_part *find_part(struct read *read, const struct rk_shape *shape,
                                       struct rk_slice key, bool is_json, void **base,
                                       bool *is_base64, enum rk_status *status)
{
    for (uint32_t i = 0; i < shape->count; i++) {
        const struct rk_part *part = &shape->parts[i];
        if (part->kind == RK_PART_INLINE || part->kind == RK_PART_FIRST) {
            void *inner;
            memcpy(&inner, at_of(part, *base), sizeof(inner));
            void *here = inner;
            const struct rk_part *found =
                find_part(read, part->shape, key, is_json, &here, is_base64, status);
            if (found == NULL) continue;
            if (inner == NULL) {
                inner = rk_arena_calloc(read->arena, 1, part->shape->item_size);
                if (inner == NULL) *status = RK_ENOMEM;
                memcpy(at_of(part, *base), &inner, sizeof(inner));
            }
            *base = inner;
            return found;
        }
        *is_base64 = is_json && is_base64_of(part, key);
        if (*is_base64 || (key.size == part->name_size && key.size > 0 &&
                           memcmp(key.data, part->name, key.size) == 0))
            return part;
    }
    return NULL;
}

static enum rk_status take_shape(struct read *read, const struct rk_shape *shape,
                                 const struct rk_in *in, void *base)
{
    if (in->type != RK_IN_MAP) return RK_EPROTO;
    struct rk_in_walk walk;
    struct rk_in item;
    struct rk_slice key;
    enum rk_status status = RK_OK;
    rk_in_walk_init(&walk, in);
    while (status == RK_OK && rk_in_next(&walk, &key, &item)) {
        bool is_base64 = false;
        void *in_base = base;
        const struct rk_part *part =
            find_part(read, shape, key, in->json != NULL, &in_base, &is_base64, &status);
        if (part != NULL && status == RK_OK)
            status = take_part(read, part, &item, is_base64, in_base);
    }
    return status;
}

static enum rk_status take_lines(struct read *read, const struct rk_part *part,
                                 const struct rk_in *in, void *base)
{
    if (in->type != RK_IN_ARRAY) return RK_EPROTO;
    uint32_t *count = (void *)((uint8_t *)base + part->count_offset);
    uint8_t *items = rk_arena_calloc(read->arena, in->count + 1u, part->shape->item_size);
    if (items == NULL) return RK_ENOMEM;
    memcpy(at_of(part, base), &items, sizeof(items));
    *count = in->count;
    struct rk_in_walk walk;
    struct rk_in item;
    struct rk_slice key;
    enum rk_status status = RK_OK;
    rk_in_walk_init(&walk, in);
    while (status == RK_OK && rk_in_next(&walk, &key, &item))
        status = take_shape(read, part->shape, &item,
                            items + (size_t)(walk.index - 1) * part->shape->item_size);
    return status;
}

/* The plural form is known by its list, the single form of consume by its id. */
static void note_form(const struct rk_in *in, struct rk_reply *out)
{
    struct rk_in_walk walk;
    struct rk_in item;
    struct rk_slice key;
    rk_in_walk_init(&walk, in);
    while (rk_in_next(&walk, &key, &item)) {
        const struct rk_shape *shape = rk_reply_shape(out->op);
        for (uint32_t i = 0; i < shape->count; i++) {
            const struct rk_part *part = &shape->parts[i];
            if (part->when == RK_WHEN_BULK &&
                rk_slice_is_equal(key, rk_slice_of(part->name, part->name_size)))
                out->is_bulk = true;
        }
    }
    bool is_single =
        out->op == RK_OP_QUEUE_CONSUME && !out->is_bulk && out->messages != NULL;
    if (is_single && out->messages[0].id.size > 0) out->message_count = 1;
}

static enum rk_status take_problem_member(struct read *read, struct rk_slice key,
                                          const struct rk_in *in)
{
    static const struct rk_part holders = {.offset = offsetof(struct rk_reply, holders),
                                           .count_offset =
                                               offsetof(struct rk_reply, holder_count),
                                           .shape = &rk_shape_problem_holder};
    static const struct rk_part cycle = {.offset = offsetof(struct rk_reply, edges),
                                         .count_offset =
                                             offsetof(struct rk_reply, edge_count),
                                         .shape = &rk_shape_edge};
    static const struct rk_part number = {.kind = RK_PART_U64};
    struct rk_reply *out = read->out;
#define IS(name) rk_slice_is_equal(key, RK_SLICE_LITERAL(name))
    if (IS("code")) {
        out->status = status_of(in);
        return RK_OK;
    }
    if (IS("outcome")) {
        if (in->type != RK_IN_TEXT) return RK_EPROTO;
        bool is_unknown = rk_slice_is_equal(in->text, RK_SLICE_LITERAL("unknown"));
        out->outcome = is_unknown ? RK_OUTCOME_UNKNOWN : RK_OUTCOME_NOT_DONE;
        return RK_OK;
    }
    if (IS("detail")) {
        if (in->type != RK_IN_TEXT) return RK_EPROTO;
        snprintf(out->text, sizeof(out->text), "%.*s",
                 (int)(in->text.size < 255 ? in->text.size : 255),
                 (const char *)in->text.data);
        return RK_OK;
    }
    if (IS("field")) return take_text(read, in, &out->field);
    if (IS("leader")) return take_text(read, in, &out->leader);
    if (IS("version")) return take_number(&number, in, &out->version);
    if (IS("retry_after_ms")) return take_number(&number, in, &out->retry_after_ms);
    if (IS("holders")) return take_lines(read, &holders, in, out);
    if (IS("cycle")) return take_lines(read, &cycle, in, out);
#undef IS
    return RK_OK;
}

static enum rk_status take_problem(struct read *read, const struct rk_in *in)
{
    if (in->type != RK_IN_MAP) return RK_EPROTO;
    struct rk_in_walk walk;
    struct rk_in item;
    struct rk_slice key;
    enum rk_status status = RK_OK;
    rk_in_walk_init(&walk, in);
    while (status == RK_OK && rk_in_next(&walk, &key, &item))
        status = take_problem_member(read, key, &item);
    /* A problem without a code is none of ours. */
    if (status == RK_OK && read->out->status == RK_OK) status = RK_EPROTO;
    return status;
}

/* Every answer may carry `position`: where its groups stood, mostly a single one. */
static enum rk_status take_position(struct read *read, const struct rk_in *in)
{
    struct rk_in_walk walk;
    struct rk_in item;
    struct rk_slice key;
    rk_in_walk_init(&walk, in);
    while (rk_in_next(&walk, &key, &item)) {
        if (!rk_slice_is_equal(key, RK_SLICE_LITERAL("position"))) continue;
        struct rk_position position;
        if (item.type != RK_IN_TEXT) return RK_EPROTO;
        if (rk_position_parse(&position, item.text, read->arena) != RK_OK) return RK_EPROTO;
        if (position.count == 0) return RK_OK;
        read->out->position_history = position.history;
        read->out->position_group = position.items[0].group;
        read->out->position_index = position.items[0].index;
        read->out->positions = position.items;
        read->out->position_count = position.count;
        return RK_OK;
    }
    return RK_OK;
}

static enum rk_status take_reply(struct rk_reply *out, enum rk_op op, bool is_problem,
                                 const struct rk_in *in, struct rk_arena *arena)
{
    struct read read = {out, arena};
    memset(out, 0, sizeof(*out));
    out->op = op;
    if (is_problem) return take_problem(&read, in);
    const struct rk_shape *shape = rk_reply_shape(op);
    if (shape->count == 1 && shape->parts[0].kind == RK_PART_DOCUMENT)
        return take_value(&read, in, false, &out->document);
    enum rk_status status = take_shape(&read, shape, in, out);
    if (status == RK_OK) note_form(in, out);
    if (status == RK_OK) status = take_position(&read, in);
    return status;
}

enum rk_status rk_reply_from_msgpack(struct rk_reply *out, enum rk_op op, bool is_problem,
                                     struct rk_slice body, struct rk_arena *arena)
{
    struct rk_api_error error;
    struct rk_in in;
    if (rk_in_open_msgpack(&in, body, &error) != RK_OK) return RK_EPROTO;
    return take_reply(out, op, is_problem, &in, arena);
}

enum rk_status rk_reply_from_json(struct rk_reply *out, enum rk_op op, bool is_problem,
                                  struct rk_slice body, struct rk_arena *arena)
{
    struct rk_api_error error;
    struct rk_in in;
    json_t *root;
    enum rk_status status = rk_in_open_json(&in, &root, body, &error);
    if (status == RK_EINVAL) status = RK_EPROTO;
    if (status == RK_OK) status = take_reply(out, op, is_problem, &in, arena);
    json_decref(root);
    return status;
}
