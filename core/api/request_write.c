/* Requests of the client side as msgpack or JSON: what is given and is not the default. */
#include "api/out.h"
#include "api/request_parts.h"

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

static void write_position(struct rk_out *out, const struct rk_position *position)
{
    struct rk_buf text;
    rk_buf_init(&text);
    rk_position_print(&text, position);
    if (text.is_failed) out->buf->is_failed = true;
    rk_out_text(out, rk_buf_slice(&text));
    rk_buf_fini(&text);
}

static void write_rules(struct rk_out *out, struct rk_out_map *map, struct rk_rules list,
                        const void *base, uint64_t skip);

static void write_items(struct rk_out *out, const struct rk_request *request,
                        bool is_messages)
{
    uint32_t count = is_messages ? request->message_count : request->resource_count;
    rk_out_list_begin(out, count);
    for (uint32_t i = 0; i < count; i++) {
        struct rk_out_map map;
        rk_out_item(out, i);
        rk_out_map_begin(out, &map, false);
        if (is_messages)
            write_rules(out, &map, rk_rules_message, &request->messages[i], 0);
        else
            write_rules(out, &map, rk_rules_resource, &request->resources[i], 0);
        rk_out_map_end(out, &map);
    }
    rk_out_list_end(out);
}

static void write_number(struct rk_out *out, const struct rk_field_info *info,
                         const void *base)
{
    uint64_t number = rk_field_number(info, base);
    switch (info->kind) {
    case RK_KIND_BOOL: rk_out_bool(out, number != 0); return;
    case RK_KIND_WORD: rk_out_text(out, rk_slice_of_string(info->words[number])); return;
    case RK_KIND_I64:
    case RK_KIND_I32: rk_out_int(out, (int64_t)number); return;
    default: rk_out_uint(out, number);
    }
}

static void write_field(struct rk_out *out, struct rk_out_map *map,
                        const struct rk_field_info *info, const void *base)
{
    const void *at = (const uint8_t *)base + info->offset;
    if (info->kind == RK_KIND_VALUE) {
        rk_out_value(out, map, info->name, info->name_size, *(const struct rk_value *)at);
        return;
    }
    rk_out_key(out, map, info->name, info->name_size);
    switch (info->kind) {
    case RK_KIND_TEXT: rk_out_text(out, *(const struct rk_slice *)at); return;
    case RK_KIND_STRINGS: write_strings(out, at); return;
    case RK_KIND_HEADERS: write_headers(out, at); return;
    case RK_KIND_POSITION: write_position(out, at); return;
    case RK_KIND_MESSAGES: write_items(out, base, true); return;
    case RK_KIND_RESOURCES: write_items(out, base, false); return;
    case RK_KIND_UNIQUE: {
        struct rk_out_map inner;
        rk_out_map_begin(out, &inner, false);
        write_rules(out, &inner, rk_rules_unique, base, 0);
        rk_out_map_end(out, &inner);
        return;
    }
    default: write_number(out, info, base);
    }
}

/* The defaults need not travel, unless they were given. */
static bool is_shown(const struct rk_field_rule *rule, const void *base)
{
    const struct rk_field_info *info = rk_rule_info(rule);
    if (rk_field_is_tracked(rule->field) &&
        (((const struct rk_request *)base)->present >> rule->field & 1) != 0)
        return true;
    if (rk_field_is_number(info) && rk_field_number(info, base) == rule->fallback)
        return false;
    /* Only forward has a default other than zero that a false must override. */
    return rk_field_is_valued(info, base) || rule->field == RK_FIELD_FORWARD;
}

/* skip: bits of fields that are shown in another form. */
static void write_rules(struct rk_out *out, struct rk_out_map *map, struct rk_rules list,
                        const void *base, uint64_t skip)
{
    for (uint32_t i = 0; i < list.count; i++) {
        const struct rk_field_rule *rule = &list.rules[i];
        bool is_skipped =
            rk_field_is_tracked(rule->field) && (skip >> rule->field & 1) != 0;
        if (!is_skipped && is_shown(rule, base))
            write_field(out, map, rk_rule_info(rule), base);
    }
}

/* The one item of a plural form that was built without is_bulk, under its single name. */
static void write_single(struct rk_out *out, struct rk_out_map *map, enum rk_field field,
                         struct rk_slice single, const struct rk_strings *plural)
{
    const struct rk_field_info *info = rk_field_info(field);
    if (single.data == NULL && plural->count > 0) single = plural->items[0];
    if (single.data == NULL) return;
    rk_out_key(out, map, info->name, info->name_size);
    rk_out_text(out, single);
}

static bool has_field(const struct rk_op_info *info, enum rk_field field)
{
    for (uint32_t i = 0; i < info->rule_count; i++)
        if (info->rules[i].field == field) return true;
    return false;
}

static void write_request(struct rk_out *out, const struct rk_request *request)
{
    const uint64_t plurals = RK_FIELD_BIT_IDS | RK_FIELD_BIT_KEYS | RK_FIELD_BIT_MESSAGES |
                             RK_FIELD_BIT_RESOURCES;
    const uint64_t singles = RK_FIELD_BIT_ID | RK_FIELD_BIT_KEY | RK_FIELD_BIT_RESOURCE;
    const struct rk_op_info *info = rk_op_info(request->op);
    if (info == NULL) return;
    struct rk_out_map map;
    rk_out_map_begin(out, &map, true);
    uint64_t skip = 0;
    bool is_bulk = request->is_bulk;
    if (has_field(info, RK_FIELD_IDS)) {
        skip |= RK_FIELD_BIT_ID;
        if (!is_bulk) write_single(out, &map, RK_FIELD_ID, request->id, &request->ids);
    }
    if (has_field(info, RK_FIELD_KEYS)) {
        skip |= RK_FIELD_BIT_KEY;
        if (!is_bulk) write_single(out, &map, RK_FIELD_KEY, request->key, &request->keys);
    }
    if (has_field(info, RK_FIELD_RESOURCES) && !is_bulk) {
        struct rk_resource_in none = {.resource = request->resource, .mode = request->mode};
        const struct rk_resource_in *one =
            request->resource_count > 0 ? request->resources : &none;
        write_rules(out, &map, rk_rules_resource, one, 0);
        skip |= RK_FIELD_BIT_MODE;
    }
    if (request->op == RK_OP_QUEUE_PUBLISH && !is_bulk && request->message_count > 0)
        write_rules(out, &map, rk_rules_message, &request->messages[0], 0);
    if (has_field(info, RK_FIELD_RESOURCES)) skip |= RK_FIELD_BIT_RESOURCE;
    skip |= is_bulk ? skip & singles : plurals;
    for (uint32_t i = 0; i < info->rule_count; i++) {
        struct rk_rules one = {&info->rules[i], 1};
        if (rk_field_owner(info->rules[i].field) == RK_OWNER_REQUEST)
            write_rules(out, &map, one, request, skip);
    }
    /* lock.cancel names the call to cancel with client and seq. */
    uint32_t own = request->op == RK_OP_LOCK_CANCEL ? 2 : 0;
    write_rules(out, &map,
                (struct rk_rules){rk_rules_call.rules + own, rk_rules_call.count - own},
                request, 0);
    rk_out_map_end(out, &map);
    if (out->status != RK_OK) out->buf->is_failed = true;
}

void rk_request_to_msgpack(struct rk_buf *out, const struct rk_request *request)
{
    write_request(&(struct rk_out){.buf = out, .is_msgpack = true}, request);
}

void rk_request_to_json(struct rk_buf *out, const struct rk_request *request)
{
    write_request(&(struct rk_out){.buf = out}, request);
}
