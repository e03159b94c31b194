/* Bodies of clients into a request, by the table. */
#include "api/in.h"
#include "api/out.h"
#include "api/request_parts.h"

#include <stdio.h>

enum { LISTS = 2 };

struct read {
    struct rk_request *out;
    struct rk_arena *arena;
    struct rk_place place;
    struct rk_message_in *single; /* queue.publish: what the call says of its one message */
    uint64_t seen; /* rules of the object being read, by place in its lists */
};

static enum rk_status no_memory(const struct read *read)
{
    return rk_fault(&read->place, RK_ENOMEM, "", "no memory for the request");
}

static enum rk_status wrong_type(const struct read *read, const char *name,
                                 const char *wanted, const struct rk_in *in)
{
    return rk_fault(&read->place, RK_EINVAL, name, "must be %s, not %s", wanted,
                    rk_in_type_text(in->type));
}

/* The tree of JSON goes away after reading, the bytes of msgpack stay. */
static enum rk_status read_text(struct read *read, const char *name, const struct rk_in *in,
                                struct rk_slice *out)
{
    if (in->type != RK_IN_TEXT) return wrong_type(read, name, "a string", in);
    if (in->text.size == 0) {
        *out = RK_SLICE_LITERAL("");
        return RK_OK;
    }
    if (in->json == NULL) {
        *out = in->text;
        return RK_OK;
    }
    *out = rk_arena_copy(read->arena, in->text);
    return out->data == NULL ? no_memory(read) : RK_OK;
}

static enum rk_status read_number(struct read *read, const struct rk_field_rule *rule,
                                  const struct rk_in *in, void *base)
{
    const struct rk_field_info *info = rk_rule_info(rule);
    if (in->type != RK_IN_UINT && in->type != RK_IN_NEGATIVE)
        return wrong_type(read, info->name, "an integer", in);
    enum rk_status status =
        rk_check_number(&read->place, rule, in->type == RK_IN_NEGATIVE, in->number);
    if (status == RK_OK) rk_field_set_number(info, base, in->number);
    return status;
}

static enum rk_status read_word(struct read *read, const struct rk_field_info *info,
                                const struct rk_in *in, void *base)
{
    if (in->type != RK_IN_TEXT) return wrong_type(read, info->name, "a string", in);
    int word = rk_field_word(info, in->text);
    if (word < 0) return rk_fault_words(&read->place, info);
    rk_field_set_number(info, base, (uint64_t)word);
    return RK_OK;
}

/* Binary at the top of a value is raw bytes; anything else stays msgpack. */
static void read_value(const struct rk_in *in, struct rk_value *out)
{
    if (in->json != NULL)
        *out = (struct rk_value){in->raw, RK_ENCODING_JSON};
    else if (in->type == RK_IN_BYTES)
        *out = (struct rk_value){in->text, RK_ENCODING_RAW};
    else
        *out = (struct rk_value){in->raw, RK_ENCODING_MSGPACK};
}

static enum rk_status read_base64(struct read *read, const struct rk_field_info *info,
                                  const struct rk_in *in, struct rk_value *out)
{
    if (in->type != RK_IN_TEXT)
        return wrong_type(read, info->name, "base64 in a string", in);
    struct rk_slice bytes;
    enum rk_status status = rk_base64_decode(&bytes, in->text, read->arena);
    if (status == RK_ENOMEM) return no_memory(read);
    if (status != RK_OK) return rk_fault(&read->place, RK_EINVAL, info->name, "not base64");
    *out = (struct rk_value){bytes, RK_ENCODING_RAW};
    return RK_OK;
}

/* Before a list is allocated: an array, of a length within the rule. */
static enum rk_status check_list(struct read *read, const struct rk_field_rule *rule,
                                 const struct rk_in *in)
{
    const char *name = rk_rule_info(rule)->name;
    if (in->type != RK_IN_ARRAY) return wrong_type(read, name, "an array", in);
    if (in->count >= rule->min && in->count <= rule->max) return RK_OK;
    return rk_fault(&read->place, RK_ERANGE, name, "%u items, allowed are %llu to %llu",
                    in->count, (unsigned long long)rule->min,
                    (unsigned long long)rule->max);
}

static enum rk_status read_strings(struct read *read, const struct rk_field_rule *rule,
                                   const struct rk_in *in, struct rk_strings *out)
{
    enum rk_status status = check_list(read, rule, in);
    if (status != RK_OK) return status;
    out->items = rk_arena_calloc(read->arena, in->count, sizeof(*out->items));
    if (out->items == NULL) return no_memory(read);
    struct rk_in_walk walk;
    struct rk_in item;
    struct rk_slice key;
    rk_in_walk_init(&walk, in);
    while (status == RK_OK && rk_in_next(&walk, &key, &item)) {
        char name[40];
        if (item.type != RK_IN_TEXT)
            snprintf(name, sizeof(name), "%s[%u]", rk_rule_info(rule)->name, out->count);
        status = read_text(read, name, &item, &out->items[out->count]);
        out->count++;
    }
    return status;
}

static enum rk_status read_headers(struct read *read, const struct rk_field_rule *rule,
                                   const struct rk_in *in, struct rk_headers *out)
{
    const char *name = rk_rule_info(rule)->name;
    if (in->type != RK_IN_MAP) return wrong_type(read, name, "an object", in);
    if (in->count > rule->max)
        return rk_fault(&read->place, RK_ERANGE, name, "%u headers, allowed are 0 to %llu",
                        in->count, (unsigned long long)rule->max);
    out->items = rk_arena_calloc(read->arena, in->count, sizeof(*out->items));
    if (out->items == NULL && in->count > 0) return no_memory(read);
    struct rk_in_walk walk;
    struct rk_in item, key_in = {.type = RK_IN_TEXT, .json = in->json};
    enum rk_status status = RK_OK;
    rk_in_walk_init(&walk, in);
    while (status == RK_OK && rk_in_next(&walk, &key_in.text, &item)) {
        if (walk.is_bad_key)
            return rk_fault(&read->place, RK_EINVAL, name, "a name is not a string");
        struct rk_header *header = &out->items[out->count++];
        status = read_text(read, name, &key_in, &header->name);
        if (status == RK_OK) status = read_text(read, name, &item, &header->value);
    }
    return status;
}

static enum rk_status read_object(struct read *read, const struct rk_in *in,
                                  const struct rk_rules lists[static LISTS], void *item);

/* The items of messages or resources. */
static enum rk_status read_items(struct read *read, const struct rk_field_rule *rule,
                                 const struct rk_in *in)
{
    bool is_messages = rule->field == RK_FIELD_MESSAGES;
    size_t item_size =
        is_messages ? sizeof(struct rk_message_in) : sizeof(struct rk_resource_in);
    const struct rk_rules lists[LISTS] = {is_messages ? rk_rules_message
                                                      : rk_rules_resource};
    enum rk_status status = check_list(read, rule, in);
    if (status != RK_OK) return status;
    uint8_t *items = rk_arena_calloc(read->arena, in->count, item_size);
    if (items == NULL) return no_memory(read);

    uint64_t outer_seen = read->seen;
    struct rk_place outer = read->place;
    read->place.list = rk_rule_info(rule)->name;
    struct rk_in_walk walk;
    struct rk_in item;
    struct rk_slice key;
    rk_in_walk_init(&walk, in);
    while (status == RK_OK && rk_in_next(&walk, &key, &item)) {
        read->place.index = walk.index - 1;
        status = read_object(read, &item, lists, items + item_size * read->place.index);
    }
    read->place = outer;
    read->seen = outer_seen;
    if (is_messages) {
        read->out->messages = (struct rk_message_in *)(void *)items;
        read->out->message_count = in->count;
    } else {
        read->out->resources = (struct rk_resource_in *)(void *)items;
        read->out->resource_count = in->count;
    }
    return status;
}

static enum rk_status read_unique(struct read *read, const struct rk_in *in, void *message)
{
    const struct rk_rules lists[LISTS] = {rk_rules_unique};
    uint64_t outer_seen = read->seen;
    read->place.sub = "unique";
    enum rk_status status = read_object(read, in, lists, message);
    if (status == RK_OK && ((struct rk_message_in *)message)->unique_key.data == NULL)
        status = rk_fault(&read->place, RK_EINVAL, "key", "missing");
    read->place.sub = NULL;
    read->seen = outer_seen;
    return status;
}

static enum rk_status read_position(struct read *read, const char *name,
                                    const struct rk_in *in, struct rk_position *out)
{
    if (in->type != RK_IN_TEXT) return wrong_type(read, name, "a string", in);
    enum rk_status status = rk_position_parse(out, in->text, read->arena);
    if (status == RK_ENOMEM) return no_memory(read);
    if (status == RK_OK) return RK_OK;
    return rk_fault(&read->place, RK_EINVAL, name,
                    "must be <history hex>:<group>=<index>,... as a reply gave it");
}

static enum rk_status read_field(struct read *read, const struct rk_field_rule *rule,
                                 const struct rk_in *in, void *base)
{
    const struct rk_field_info *info = rk_rule_info(rule);
    void *at = (uint8_t *)base + info->offset;
    switch (info->kind) {
    case RK_KIND_TEXT: return read_text(read, info->name, in, at);
    case RK_KIND_BOOL:
        if (in->type != RK_IN_BOOL)
            return wrong_type(read, info->name, "true or false", in);
        *(bool *)at = in->number != 0;
        return RK_OK;
    case RK_KIND_WORD: return read_word(read, info, in, base);
    case RK_KIND_VALUE: read_value(in, at); return RK_OK;
    case RK_KIND_STRINGS: return read_strings(read, rule, in, at);
    case RK_KIND_HEADERS: return read_headers(read, rule, in, at);
    case RK_KIND_MESSAGES:
    case RK_KIND_RESOURCES: return read_items(read, rule, in);
    case RK_KIND_UNIQUE: return read_unique(read, in, base);
    case RK_KIND_POSITION: return read_position(read, info->name, in, at);
    default: return read_number(read, rule, in, base);
    }
}

static bool is_named(struct rk_slice key, const char *name, size_t size)
{
    return key.size == size && memcmp(key.data, name, size) == 0;
}

/* "value_base64" of the field "value", in JSON. */
static bool is_base64_name(const struct rk_field_info *info, struct rk_slice key)
{
    static const char end[] = "_base64";
    return info->kind == RK_KIND_VALUE && key.size == info->name_size + sizeof(end) - 1 &&
           memcmp(key.data, info->name, info->name_size) == 0 &&
           memcmp(key.data + info->name_size, end, sizeof(end) - 1) == 0;
}

static const struct rk_field_rule *find_rule(const struct rk_rules lists[static LISTS],
                                             struct rk_slice key, bool is_json,
                                             uint32_t *place, bool *is_base64)
{
    *place = 0;
    *is_base64 = false;
    for (size_t i = 0; i < LISTS; i++) {
        for (uint32_t j = 0; j < lists[i].count; j++, (*place)++) {
            const struct rk_field_rule *rule = &lists[i].rules[j];
            const struct rk_field_info *info = rk_rule_info(rule);
            if (is_named(key, info->name, info->name_size)) return rule;
            if (info->alias_size > 0 && is_named(key, info->alias, info->alias_size))
                return rule;
            if (is_json && is_base64_name(info, key)) {
                *is_base64 = true;
                return rule;
            }
        }
    }
    return NULL;
}

/* Reads one object. item: the message or resource that the fields of such belong to. */
static enum rk_status read_object(struct read *read, const struct rk_in *in,
                                  const struct rk_rules lists[static LISTS], void *item)
{
    if (in->type != RK_IN_MAP) return wrong_type(read, "", "an object", in);
    read->seen = 0;
    struct rk_in_walk walk;
    struct rk_in value;
    struct rk_slice key;
    rk_in_walk_init(&walk, in);
    while (rk_in_next(&walk, &key, &value)) {
        if (walk.is_bad_key)
            return rk_fault(&read->place, RK_EINVAL, "", "a field's name is not a string");
        uint32_t place;
        bool is_base64;
        const struct rk_field_rule *rule =
            find_rule(lists, key, in->json != NULL, &place, &is_base64);
        if (rule == NULL) return rk_fault_unknown(&read->place, key, lists, LISTS);
        const struct rk_field_info *info = rk_rule_info(rule);
        if ((read->seen >> place & 1) != 0)
            return rk_fault(&read->place, RK_EINVAL, info->name, "given twice");
        read->seen |= UINT64_C(1) << place;

        bool is_item = rk_field_owner(rule->field) != RK_OWNER_REQUEST;
        void *base = is_item ? item : read->out;
        enum rk_status status =
            is_base64
                ? read_base64(read, info, &value, (void *)((uint8_t *)base + info->offset))
                : read_field(read, rule, &value, base);
        if (status != RK_OK) return status;
        if (rk_field_is_tracked(rule->field))
            read->out->present |= UINT64_C(1) << rule->field;
    }
    return RK_OK;
}

/* The single form of queue.publish becomes messages[0]; beside `messages` it is an error.
 */
static enum rk_status take_single(struct read *read, const struct rk_op_info *info)
{
    const struct rk_field_info *first = NULL;
    for (uint32_t i = 0; i < info->rule_count && first == NULL; i++) {
        bool is_seen = (read->seen >> i & 1) != 0;
        if (is_seen && rk_field_owner(info->rules[i].field) == RK_OWNER_MESSAGE)
            first = rk_rule_info(&info->rules[i]);
    }
    if (read->out->is_bulk && first != NULL)
        return rk_fault(&read->place, RK_EINVAL, first->name,
                        "belongs to the items of messages");
    if (read->out->is_bulk) return RK_OK;
    if (read->single->data.encoding == RK_ENCODING_NONE)
        return rk_fault(&read->place, RK_EINVAL, "data", "missing; or give messages");
    read->out->messages = read->single;
    read->out->message_count = 1;
    RK_SET(read->out, MESSAGES);
    return RK_OK;
}

/* The plural forms that the single ones stand for, in the arena, so that the request may
 * be moved. */
static enum rk_status make_plural(struct read *read)
{
    struct rk_request *out = read->out;
    bool has_ids = false, has_keys = false;
    const struct rk_op_info *info = rk_op_info(out->op);
    for (uint32_t i = 0; i < info->rule_count; i++) {
        has_ids |= info->rules[i].field == RK_FIELD_IDS;
        has_keys |= info->rules[i].field == RK_FIELD_KEYS;
    }
    struct rk_slice single = has_ids ? out->id : out->key;
    struct rk_strings *plural = has_ids ? &out->ids : &out->keys;
    if ((has_ids || has_keys) && !out->is_bulk && single.data != NULL) {
        plural->items = rk_arena_alloc(read->arena, sizeof(single));
        if (plural->items == NULL) return no_memory(read);
        plural->items[0] = single;
        plural->count = 1;
    }
    if (out->op == RK_OP_LOCK_ACQUIRE && !out->is_bulk && out->resource.data != NULL) {
        out->resources = rk_arena_alloc(read->arena, sizeof(*out->resources));
        if (out->resources == NULL) return no_memory(read);
        out->resources[0] = (struct rk_resource_in){out->resource, out->mode};
        out->resource_count = 1;
    }
    return RK_OK;
}

static enum rk_status read_body(struct rk_request *out, enum rk_op op,
                                const struct rk_in *in, struct rk_arena *arena,
                                struct rk_api_error *error)
{
    const struct rk_op_info *info = rk_op_info(op);
    struct read read = {
        .out = out, .arena = arena, .place = {.error = error, .is_read = true}};
    struct rk_message_in *single = NULL;
    if (op == RK_OP_QUEUE_PUBLISH) {
        single = rk_arena_calloc(arena, 1, sizeof(*single));
        if (single == NULL) return no_memory(&read);
        read.single = single;
    }
    struct rk_rules lists[LISTS] = {{info->rules, info->rule_count}, rk_rules_call};
    /* There client and seq name the call to cancel. */
    if (op == RK_OP_LOCK_CANCEL)
        lists[1] = (struct rk_rules){lists[1].rules + 2, lists[1].count - 2};
    enum rk_status status = read_object(&read, in, lists, single);
    if (status != RK_OK) return status;

    const uint64_t plural = RK_FIELD_BIT_IDS | RK_FIELD_BIT_KEYS | RK_FIELD_BIT_MESSAGES |
                            RK_FIELD_BIT_RESOURCES;
    out->is_bulk =
        (out->present & plural) != 0 || (op == RK_OP_QUEUE_CONSUME && RK_HAS(out, MAX));
    if (single != NULL) status = take_single(&read, info);
    if (status == RK_OK) status = make_plural(&read);
    return status == RK_OK ? rk_request_check_at(&read.place, out) : status;
}

static const struct rk_op_info *begin(struct rk_request *out, enum rk_op op,
                                      struct rk_api_error *error)
{
    rk_request_init(out, op);
    const struct rk_op_info *info = rk_op_info(op);
    if (info != NULL && !info->is_internal) return info;
    struct rk_place place = {.error = error};
    (void)rk_fault(&place, RK_EINVAL, "op", "no such operation");
    return NULL;
}

enum rk_status rk_request_from_msgpack(struct rk_request *out, enum rk_op op,
                                       struct rk_slice body, struct rk_arena *arena,
                                       struct rk_api_error *error)
{
    static const uint8_t empty[] = {0x80};
    struct rk_api_error ignored;
    if (error == NULL) error = &ignored;
    if (begin(out, op, error) == NULL) return RK_EINVAL;
    if (body.size == 0) body = rk_slice_of(empty, 1);
    struct rk_in in;
    enum rk_status status = rk_in_open_msgpack(&in, body, error);
    return status == RK_OK ? read_body(out, op, &in, arena, error) : status;
}

enum rk_status rk_request_from_json(struct rk_request *out, enum rk_op op,
                                    struct rk_slice body, struct rk_arena *arena,
                                    struct rk_api_error *error)
{
    struct rk_api_error ignored;
    if (error == NULL) error = &ignored;
    if (begin(out, op, error) == NULL) return RK_EINVAL;
    if (body.size == 0) body = RK_SLICE_LITERAL("{}");
    struct rk_in in;
    json_t *root;
    enum rk_status status = rk_in_open_json(&in, &root, body, error);
    if (status == RK_OK) status = read_body(out, op, &in, arena, error);
    json_decref(root);
    return status;
}
