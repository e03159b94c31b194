#include "body.h"

#include <msgpack.h>

json_t *body_text(size_t size)
{
    char *text = malloc(size + 1);
    memset(text, 'x', size);
    json_t *json = json_stringn(text, size);
    free(text);
    return json;
}

static json_t *object_of(struct rk_rules list)
{
    json_t *object = json_object();
    for (uint32_t i = 0; i < list.count; i++)
        json_object_set_new(object, rk_field_info(list.rules[i].field)->name,
                            body_sample(&list.rules[i]));
    return object;
}

json_t *body_sample(const struct rk_field_rule *rule)
{
    const struct rk_field_info *info = rk_field_info(rule->field);
    switch (info->kind) {
    case RK_KIND_TEXT:
    case RK_KIND_WORD: {
        if (info->words == NULL) return json_sprintf("a %s", info->name);
        size_t last = 0;
        while (info->words[last + 1] != NULL)
            last++;
        return json_string(info->words[last]);
    }
    case RK_KIND_BOOL: return json_true();
    case RK_KIND_VALUE:
        return json_pack("{s:[i,f,n,b], s:s}", "a", 1, 2.5, 1, "b", "\xc3\xa9");
    case RK_KIND_STRINGS: return json_pack("[s,s]", "one", "two");
    case RK_KIND_MESSAGES: return json_pack("[o]", object_of(rk_rules_message));
    case RK_KIND_RESOURCES: return json_pack("[o]", object_of(rk_rules_resource));
    case RK_KIND_HEADERS: return json_pack("{s:s,s:s}", "trace", "1", "empty", "");
    case RK_KIND_UNIQUE: return object_of(rk_rules_unique);
    case RK_KIND_POSITION: return json_string("1f:0=5,3=70000");
    default: return json_integer((json_int_t)(rule->max < 77 ? rule->max : 77));
    }
}

json_t *body_minimal(const struct rk_op_info *info)
{
    json_t *body = json_object();
    bool has_form = false;
    for (uint32_t i = 0; i < info->rule_count; i++) {
        const struct rk_field_rule *rule = &info->rules[i];
        bool is_form = (rule->flags & RK_RULE_ONE_OF) != 0 && !has_form;
        if ((rule->flags & RK_RULE_REQUIRED) == 0 && !is_form) continue;
        has_form |= is_form;
        json_t *sample = body_sample(rule);
        if (json_is_integer(sample)) json_integer_set(sample, (json_int_t)rule->max);
        json_object_set_new(body, rk_field_info(rule->field)->name, sample);
    }
    return body;
}

static void set_in_bounds(json_t *body, const struct rk_field_rule *rule)
{
    json_t *sample = body_sample(rule);
    if (json_is_integer(sample) && rk_field_info(rule->field)->kind == RK_KIND_U64 &&
        rule->min > 77)
        json_integer_set(sample, (json_int_t)rule->min);
    json_object_set_new(body, rk_field_info(rule->field)->name, sample);
}

json_t *body_full(const struct rk_op_info *info, bool is_plural)
{
    json_t *body = json_object();
    bool has_form = false;
    for (uint32_t i = 0; i < info->rule_count; i++) {
        const struct rk_field_rule *rule = &info->rules[i];
        if ((rule->flags & RK_RULE_ONE_OF) != 0) {
            bool is_second = has_form;
            has_form = true;
            if (is_second != is_plural) continue;
        }
        bool is_item = rk_field_owner(rule->field) != RK_OWNER_REQUEST;
        bool is_single_only =
            rule->field == RK_FIELD_MODE || rule->field == RK_FIELD_IF_VERSION;
        if (is_plural && (is_item || is_single_only)) continue;
        set_in_bounds(body, rule);
    }
    for (uint32_t i = info->op == RK_OP_LOCK_CANCEL ? 2 : 0; i < rk_rules_call.count; i++)
        set_in_bounds(body, &rk_rules_call.rules[i]);
    return body;
}

static void pack(msgpack_packer *packer, const json_t *json)
{
    switch (json_typeof(json)) {
    case JSON_OBJECT: {
        const char *key;
        json_t *value;
        msgpack_pack_map(packer, json_object_size(json));
        json_object_foreach((json_t *)(uintptr_t)json, key, value)
        {
            msgpack_pack_str_with_body(packer, key, strlen(key));
            pack(packer, value);
        }
        return;
    }
    case JSON_ARRAY:
        msgpack_pack_array(packer, json_array_size(json));
        for (size_t i = 0; i < json_array_size(json); i++)
            pack(packer, json_array_get(json, i));
        return;
    case JSON_STRING:
        msgpack_pack_str_with_body(packer, json_string_value(json),
                                   json_string_length(json));
        return;
    case JSON_INTEGER: msgpack_pack_int64(packer, json_integer_value(json)); return;
    case JSON_REAL: msgpack_pack_double(packer, json_real_value(json)); return;
    case JSON_TRUE: msgpack_pack_true(packer); return;
    case JSON_FALSE: msgpack_pack_false(packer); return;
    default: msgpack_pack_nil(packer);
    }
}

struct rk_slice body_encode(const json_t *json, enum rk_encoding encoding,
                            struct rk_arena *arena)
{
    if (encoding == RK_ENCODING_JSON) {
        char *text = json_dumps(json, JSON_COMPACT);
        struct rk_slice bytes = rk_arena_copy(arena, rk_slice_of_string(text));
        free(text);
        return bytes;
    }
    msgpack_sbuffer buffer;
    msgpack_packer packer;
    msgpack_sbuffer_init(&buffer);
    msgpack_packer_init(&packer, &buffer, msgpack_sbuffer_write);
    pack(&packer, json);
    struct rk_slice bytes = rk_arena_copy(arena, rk_slice_of(buffer.data, buffer.size));
    msgpack_sbuffer_destroy(&buffer);
    return bytes;
}

enum rk_status body_decode(struct rk_request *out, enum rk_op op, struct rk_slice body,
                           enum rk_encoding encoding, struct rk_arena *arena,
                           struct rk_api_error *error)
{
    return encoding == RK_ENCODING_JSON
               ? rk_request_from_json(out, op, body, arena, error)
               : rk_request_from_msgpack(out, op, body, arena, error);
}

static const char *as_text(struct rk_buf *buf, struct rk_arena *arena)
{
    rk_buf_u8(buf, 0);
    assert_int_equal(rk_buf_check(buf), RK_OK);
    struct rk_slice text = rk_arena_copy(arena, rk_buf_slice(buf));
    rk_buf_fini(buf);
    return (const char *)text.data;
}

const char *body_print(const struct rk_request *request, struct rk_arena *arena)
{
    struct rk_buf buf;
    rk_buf_init(&buf);
    rk_request_to_json(&buf, request);
    return as_text(&buf, arena);
}

const char *body_hex(struct rk_slice bytes, struct rk_arena *arena)
{
    struct rk_buf buf;
    rk_buf_init(&buf);
    for (size_t i = 0; i < bytes.size; i++)
        rk_buf_printf(&buf, "%02x", bytes.data[i]);
    return as_text(&buf, arena);
}

struct rk_slice body_unhex(const char *hex, struct rk_arena *arena)
{
    size_t size = strlen(hex) / 2;
    uint8_t *bytes = rk_arena_alloc(arena, size + 1);
    for (size_t i = 0; i < size; i++) {
        char pair[3] = {hex[2 * i], hex[2 * i + 1], '\0'};
        bytes[i] = (uint8_t)strtoul(pair, NULL, 16);
    }
    return rk_slice_of(bytes, size);
}
