/* The form of requests in logs and on peer links, version 1:
 *
 * u8 version, u8 operation, u8 flags (1 plural, 2 some fields are defaults), varint fields
 * (a bit each, by number), [varint which of them are defaults], then the fields in the
 * order of their numbers. Texts are blobs, unsigned numbers varints, signed ones zigzag,
 * bools and words a byte, values u8 encoding and a blob, lists a varint count and items.
 * A message: u8 parts, value, then the parts that are there. Defaults are written too, so
 * that a later default changes no old entry. An id, key or resource that stands for a
 * plural form is not written beside it. */
#include "api/request_parts.h"

enum { FLAG_BULK = 1, FLAG_DEFAULTED = 2 };

enum {
    MESSAGE_PUBLISH_ID = 1,
    MESSAGE_UNIQUE = 2,
    MESSAGE_DELAY = 4,
    MESSAGE_DELIVER_AT = 8,
    MESSAGE_PRIORITY = 16,
    MESSAGE_GROUP = 32,
    MESSAGE_TTL = 64,
    MESSAGE_HEADERS = 128,
};

static void put_value(struct rk_buf *out, const struct rk_value *value)
{
    rk_buf_u8(out, value->encoding);
    rk_buf_blob(out, value->bytes);
}

static void put_message(struct rk_buf *out, const struct rk_message_in *message)
{
    uint8_t parts = 0;
    if (message->publish_id.size > 0) parts |= MESSAGE_PUBLISH_ID;
    if (message->unique_key.size > 0) parts |= MESSAGE_UNIQUE;
    if (message->delay_ms != 0) parts |= MESSAGE_DELAY;
    if (message->deliver_at != 0) parts |= MESSAGE_DELIVER_AT;
    if (message->priority != 0) parts |= MESSAGE_PRIORITY;
    if (message->group.size > 0) parts |= MESSAGE_GROUP;
    if (message->ttl_ms != 0) parts |= MESSAGE_TTL;
    if (message->headers.count > 0) parts |= MESSAGE_HEADERS;
    rk_buf_u8(out, parts);
    put_value(out, &message->data);
    if ((parts & MESSAGE_PUBLISH_ID) != 0) rk_buf_blob(out, message->publish_id);
    if ((parts & MESSAGE_UNIQUE) != 0) {
        rk_buf_blob(out, message->unique_key);
        rk_buf_u8(out, message->unique_scope);
    }
    if ((parts & MESSAGE_DELAY) != 0) rk_buf_varint(out, message->delay_ms);
    if ((parts & MESSAGE_DELIVER_AT) != 0) rk_buf_varint(out, message->deliver_at);
    if ((parts & MESSAGE_PRIORITY) != 0) rk_buf_u8(out, message->priority);
    if ((parts & MESSAGE_GROUP) != 0) rk_buf_blob(out, message->group);
    if ((parts & MESSAGE_TTL) != 0) rk_buf_varint(out, message->ttl_ms);
    if ((parts & MESSAGE_HEADERS) == 0) return;
    rk_buf_varint(out, message->headers.count);
    for (uint32_t i = 0; i < message->headers.count; i++) {
        rk_buf_blob(out, message->headers.items[i].name);
        rk_buf_blob(out, message->headers.items[i].value);
    }
}

static void put_list(struct rk_buf *out, const struct rk_field_info *info,
                     const struct rk_request *request)
{
    const struct rk_strings *strings =
        (const void *)((const uint8_t *)request + info->offset);
    switch (info->kind) {
    case RK_KIND_MESSAGES:
        rk_buf_varint(out, request->message_count);
        for (uint32_t i = 0; i < request->message_count; i++)
            put_message(out, &request->messages[i]);
        return;
    case RK_KIND_RESOURCES:
        rk_buf_varint(out, request->resource_count);
        for (uint32_t i = 0; i < request->resource_count; i++) {
            rk_buf_blob(out, request->resources[i].resource);
            rk_buf_u8(out, request->resources[i].mode);
        }
        return;
    case RK_KIND_DUE:
        rk_buf_varint(out, request->due_count);
        for (uint32_t i = 0; i < request->due_count; i++) {
            rk_buf_u8(out, request->due[i].kind);
            rk_buf_varint(out, request->due[i].id);
            rk_buf_varint(out, request->due[i].generation);
        }
        return;
    default:
        rk_buf_varint(out, strings->count);
        for (uint32_t i = 0; i < strings->count; i++)
            rk_buf_blob(out, strings->items[i]);
    }
}

static void put_field(struct rk_buf *out, const struct rk_field_info *info,
                      const struct rk_request *request)
{
    const void *at = (const uint8_t *)request + info->offset;
    switch (info->kind) {
    case RK_KIND_TEXT: rk_buf_blob(out, *(const struct rk_slice *)at); return;
    case RK_KIND_VALUE: put_value(out, at); return;
    case RK_KIND_U64: rk_buf_varint(out, rk_field_number(info, request)); return;
    case RK_KIND_I64:
    case RK_KIND_I32: rk_buf_zigzag(out, (int64_t)rk_field_number(info, request)); return;
    case RK_KIND_U8:
    case RK_KIND_BOOL:
    case RK_KIND_WORD: rk_buf_u8(out, (uint8_t)rk_field_number(info, request)); return;
    default: put_list(out, info, request);
    }
}

/* The single forms that `fields` holds in the plural. */
static uint64_t singles_of(uint64_t fields)
{
    uint64_t singles = 0;
    if ((fields & RK_FIELD_BIT_IDS) != 0) singles |= RK_FIELD_BIT_ID;
    if ((fields & RK_FIELD_BIT_KEYS) != 0) singles |= RK_FIELD_BIT_KEY;
    if ((fields & RK_FIELD_BIT_RESOURCES) != 0) singles |= RK_FIELD_BIT_RESOURCE;
    return singles;
}

void rk_request_encode(struct rk_buf *out, const struct rk_request *request)
{
    const struct rk_op_info *info = rk_op_info(request->op);
    uint64_t fields = 0;
    for (uint32_t i = 0; info != NULL && i < info->rule_count; i++) {
        uint8_t field = info->rules[i].field;
        if (!rk_field_is_tracked(field)) continue;
        bool is_set = (request->present >> field & 1) != 0 ||
                      rk_field_is_valued(rk_field_info(field), request);
        fields |= (uint64_t)is_set << field;
    }
    if (!request->is_bulk) fields &= ~singles_of(fields);
    uint64_t defaulted = fields & ~request->present;

    rk_buf_u8(out, RK_REQUEST_LOG_VERSION);
    rk_buf_u8(out, (uint8_t)request->op);
    rk_buf_u8(out, (uint8_t)((request->is_bulk ? FLAG_BULK : 0) |
                             (defaulted != 0 ? FLAG_DEFAULTED : 0)));
    rk_buf_varint(out, fields);
    if (defaulted != 0) rk_buf_varint(out, defaulted);
    for (uint64_t left = fields; left != 0; left &= left - 1)
        put_field(out, rk_field_info((enum rk_field)__builtin_ctzll(left)), request);
}

/* How many items follow: each takes at least a byte, so the bytes left bound them. */
static bool take_count(struct rk_reader *reader, struct rk_arena *arena, size_t item_size,
                       uint32_t *count, void **items)
{
    uint64_t claimed = rk_read_varint(reader);
    *count = 0;
    *items = NULL;
    if (claimed > rk_reader_left(reader) || claimed > RK_DUE_MAX) reader->is_failed = true;
    if (reader->is_failed || claimed == 0) return true;
    *items = rk_arena_calloc(arena, claimed, item_size);
    if (*items == NULL) return false;
    *count = (uint32_t)claimed;
    return true;
}

static struct rk_value take_value(struct rk_reader *reader)
{
    struct rk_value value = {.encoding = rk_read_u8(reader)};
    value.bytes = rk_read_blob(reader);
    if (value.encoding == RK_ENCODING_NONE || value.encoding > RK_ENCODING_RAW)
        reader->is_failed = true;
    return value;
}

static uint8_t take_below(struct rk_reader *reader, uint8_t bound)
{
    uint8_t value = rk_read_u8(reader);
    if (value < bound) return value;
    reader->is_failed = true;
    return 0;
}

static bool take_message(struct rk_reader *reader, struct rk_message_in *out,
                         struct rk_arena *arena)
{
    uint8_t parts = rk_read_u8(reader);
    out->data = take_value(reader);
    if ((parts & MESSAGE_PUBLISH_ID) != 0) out->publish_id = rk_read_blob(reader);
    if ((parts & MESSAGE_UNIQUE) != 0) {
        out->unique_key = rk_read_blob(reader);
        out->unique_scope = take_below(reader, RK_UNIQUE_WINDOW + 1);
    }
    if ((parts & MESSAGE_DELAY) != 0) out->delay_ms = rk_read_varint(reader);
    if ((parts & MESSAGE_DELIVER_AT) != 0) out->deliver_at = rk_read_varint(reader);
    if ((parts & MESSAGE_PRIORITY) != 0) out->priority = take_below(reader, 10);
    if ((parts & MESSAGE_GROUP) != 0) out->group = rk_read_blob(reader);
    if ((parts & MESSAGE_TTL) != 0) out->ttl_ms = rk_read_varint(reader);
    if ((parts & MESSAGE_HEADERS) == 0) return true;
    void *items;
    if (!take_count(reader, arena, sizeof(struct rk_header), &out->headers.count, &items))
        return false;
    out->headers.items = items;
    for (uint32_t i = 0; i < out->headers.count; i++) {
        out->headers.items[i].name = rk_read_blob(reader);
        out->headers.items[i].value = rk_read_blob(reader);
    }
    return true;
}

static bool take_messages(struct rk_reader *reader, struct rk_request *out,
                          struct rk_arena *arena)
{
    void *items;
    if (!take_count(reader, arena, sizeof(*out->messages), &out->message_count, &items))
        return false;
    out->messages = items;
    for (uint32_t i = 0; i < out->message_count && !reader->is_failed; i++)
        if (!take_message(reader, &out->messages[i], arena)) return false;
    return true;
}

/* False: no memory. */
static bool take_list(struct rk_reader *reader, const struct rk_field_info *info,
                      struct rk_request *out, struct rk_arena *arena)
{
    void *items;
    struct rk_strings *strings = (void *)((uint8_t *)out + info->offset);
    switch (info->kind) {
    case RK_KIND_MESSAGES: return take_messages(reader, out, arena);
    case RK_KIND_RESOURCES:
        if (!take_count(reader, arena, sizeof(*out->resources), &out->resource_count,
                        &items))
            return false;
        out->resources = items;
        for (uint32_t i = 0; i < out->resource_count; i++) {
            out->resources[i].resource = rk_read_blob(reader);
            out->resources[i].mode = take_below(reader, RK_MODE_SHARED + 1);
        }
        return true;
    case RK_KIND_DUE:
        if (!take_count(reader, arena, sizeof(*out->due), &out->due_count, &items))
            return false;
        out->due = items;
        for (uint32_t i = 0; i < out->due_count; i++) {
            out->due[i].kind = rk_read_u8(reader);
            out->due[i].id = rk_read_varint(reader);
            out->due[i].generation = rk_read_varint(reader);
        }
        return true;
    default:
        if (!take_count(reader, arena, sizeof(*strings->items), &strings->count, &items))
            return false;
        strings->items = items;
        for (uint32_t i = 0; i < strings->count; i++)
            strings->items[i] = rk_read_blob(reader);
        return true;
    }
}

static uint8_t word_bound(const struct rk_field_info *info)
{
    uint8_t bound = 0;
    while (info->words[bound] != NULL)
        bound++;
    return bound;
}

static bool take_field(struct rk_reader *reader, const struct rk_field_info *info,
                       struct rk_request *out, struct rk_arena *arena)
{
    void *at = (uint8_t *)out + info->offset;
    switch (info->kind) {
    case RK_KIND_TEXT: *(struct rk_slice *)at = rk_read_blob(reader); return true;
    case RK_KIND_VALUE: *(struct rk_value *)at = take_value(reader); return true;
    case RK_KIND_U64: rk_field_set_number(info, out, rk_read_varint(reader)); return true;
    case RK_KIND_I64:
        rk_field_set_number(info, out, (uint64_t)rk_read_zigzag(reader));
        return true;
    case RK_KIND_I32: {
        int64_t value = rk_read_zigzag(reader);
        if (value < INT32_MIN || value > INT32_MAX) reader->is_failed = true;
        rk_field_set_number(info, out, reader->is_failed ? 0 : (uint64_t)value);
        return true;
    }
    case RK_KIND_BOOL: rk_field_set_number(info, out, take_below(reader, 2)); return true;
    case RK_KIND_WORD:
        rk_field_set_number(info, out, take_below(reader, word_bound(info)));
        return true;
    case RK_KIND_U8: rk_field_set_number(info, out, rk_read_u8(reader)); return true;
    default: return take_list(reader, info, out, arena);
    }
}

static void restore_single(struct rk_request *out)
{
    if (out->is_bulk) return;
    if (out->ids.count == 1) out->id = out->ids.items[0];
    if (out->keys.count == 1) out->key = out->keys.items[0];
    if (out->resource_count == 1) out->resource = out->resources[0].resource;
    if (out->resource_count == 1) out->mode = out->resources[0].mode;
    out->present |= singles_of(out->present);
}

/* A field that the operation does not have: of a newer program. */
static bool has_foreign(const struct rk_op_info *info, uint64_t fields)
{
    for (uint32_t i = 0; i < info->rule_count; i++)
        if (rk_field_is_tracked(info->rules[i].field))
            fields &= ~(UINT64_C(1) << info->rules[i].field);
    return fields != 0;
}

/* All fields that the operation requires, and one of its two forms. */
static bool is_possible(const struct rk_op_info *info, uint64_t fields)
{
    uint64_t required = 0, one_of = 0;
    for (uint32_t i = 0; i < info->rule_count; i++) {
        const struct rk_field_rule *rule = &info->rules[i];
        if (!rk_field_is_tracked(rule->field)) continue;
        uint64_t bit = UINT64_C(1) << rule->field;
        if ((rule->flags & RK_RULE_REQUIRED) != 0) required |= bit;
        if ((rule->flags & RK_RULE_ONE_OF) != 0) one_of |= bit;
    }
    return (fields & required) == required && (one_of == 0 || (fields & one_of) != 0);
}

enum rk_status rk_request_decode(struct rk_request *out, struct rk_slice bytes,
                                 struct rk_arena *arena)
{
    struct rk_reader reader;
    rk_reader_init(&reader, bytes);
    uint8_t version = rk_read_u8(&reader);
    uint8_t op = rk_read_u8(&reader);
    if (reader.is_failed || version == 0) return RK_EPROTO;
    const struct rk_op_info *info = rk_op_info((enum rk_op)op);
    if (version != RK_REQUEST_LOG_VERSION || info == NULL) return RK_EUNSUPPORTED;
    rk_request_init(out, (enum rk_op)op);

    uint8_t flags = rk_read_u8(&reader);
    uint64_t fields = rk_read_varint(&reader);
    uint64_t defaulted = (flags & FLAG_DEFAULTED) != 0 ? rk_read_varint(&reader) : 0;
    if (reader.is_failed || flags > (FLAG_BULK | FLAG_DEFAULTED) ||
        (defaulted & ~fields) != 0)
        return RK_EPROTO;
    if (has_foreign(info, fields)) return RK_EUNSUPPORTED;
    if (!is_possible(info, fields)) return RK_EPROTO;
    out->is_bulk = (flags & FLAG_BULK) != 0;
    out->present = fields & ~defaulted;
    for (uint64_t left = fields; left != 0 && !reader.is_failed; left &= left - 1) {
        enum rk_field field = (enum rk_field)__builtin_ctzll(left);
        const struct rk_field_info *field_info = rk_field_info(field);
        if (!take_field(&reader, field_info, out, arena)) return RK_ENOMEM;
        /* What was not given and has no value either is not written. */
        if ((defaulted >> field & 1) != 0 && !rk_field_is_valued(field_info, out))
            reader.is_failed = true;
    }
    enum rk_status status = rk_reader_check(&reader, true);
    if (status == RK_OK) restore_single(out);
    return status;
}
