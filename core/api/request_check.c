/* Bounds, defaults and the forms that belong together: the same for every encoding. */
#include "api/request_parts.h"

#include "base/hash.h"

#include <inttypes.h>
#include <stdio.h>

void rk_request_init(struct rk_request *request, enum rk_op op)
{
    memset(request, 0, sizeof(*request));
    request->op = op;
    request->forward = true;
}

uint64_t rk_field_number(const struct rk_field_info *info, const void *base)
{
    const uint8_t *at = (const uint8_t *)base + info->offset;
    switch (info->kind) {
    case RK_KIND_U64:
    case RK_KIND_I64: {
        uint64_t value;
        memcpy(&value, at, sizeof(value));
        return value;
    }
    case RK_KIND_I32: {
        int32_t value;
        memcpy(&value, at, sizeof(value));
        return (uint64_t)(int64_t)value;
    }
    default: return *at;
    }
}

void rk_field_set_number(const struct rk_field_info *info, void *base, uint64_t number)
{
    uint8_t *at = (uint8_t *)base + info->offset;
    switch (info->kind) {
    case RK_KIND_U64:
    case RK_KIND_I64: memcpy(at, &number, sizeof(number)); return;
    case RK_KIND_I32: {
        int32_t value = (int32_t)(int64_t)number;
        memcpy(at, &value, sizeof(value));
        return;
    }
    default: *at = (uint8_t)number;
    }
}

bool rk_field_is_number(const struct rk_field_info *info)
{
    switch (info->kind) {
    case RK_KIND_U64:
    case RK_KIND_U8:
    case RK_KIND_I64:
    case RK_KIND_I32:
    case RK_KIND_BOOL:
    case RK_KIND_WORD: return true;
    default: return false;
    }
}

bool rk_field_is_valued(const struct rk_field_info *info, const void *base)
{
    const void *at = (const uint8_t *)base + info->offset;
    const struct rk_request *request = base;
    const struct rk_message_in *message = base;
    switch (info->kind) {
    case RK_KIND_TEXT: return ((const struct rk_slice *)at)->data != NULL;
    case RK_KIND_VALUE: return ((const struct rk_value *)at)->encoding != RK_ENCODING_NONE;
    case RK_KIND_STRINGS: return ((const struct rk_strings *)at)->count != 0;
    case RK_KIND_MESSAGES: return request->message_count != 0;
    case RK_KIND_RESOURCES: return request->resource_count != 0;
    case RK_KIND_DUE: return request->due_count != 0;
    case RK_KIND_POSITION: return request->position.history != 0;
    case RK_KIND_HEADERS: return message->headers.count != 0;
    case RK_KIND_UNIQUE: return message->unique_key.data != NULL;
    default: return rk_field_number(info, base) != 0;
    }
}

/* What was read has its bit; what was built in C may have a value only. */
static bool is_given(const struct rk_place *place, const struct rk_field_rule *rule,
                     const void *base)
{
    if (rk_field_is_tracked(rule->field)) {
        bool is_present =
            (((const struct rk_request *)base)->present >> rule->field & 1) != 0;
        if (is_present || place->is_read) return is_present;
    }
    return rk_field_is_valued(rk_rule_info(rule), base);
}

enum rk_status rk_check_number(const struct rk_place *place,
                               const struct rk_field_rule *rule, bool is_negative,
                               uint64_t number)
{
    const struct rk_field_info *info = rk_rule_info(rule);
    if (info->kind == RK_KIND_I64 || info->kind == RK_KIND_I32) {
        int64_t value = (int64_t)number, min = (int64_t)rule->min, max = (int64_t)rule->max;
        bool fits = is_negative || number <= INT64_MAX;
        if (fits && value >= min && value <= max) return RK_OK;
        char text[32];
        snprintf(text, sizeof(text), fits ? "%" PRId64 : "%" PRIu64, number);
        return rk_fault(place, RK_ERANGE, info->name,
                        "%s is out of bounds, %" PRId64 " to %" PRId64, text, min, max);
    }
    if (!is_negative && number >= rule->min && number <= rule->max) return RK_OK;
    char text[32];
    snprintf(text, sizeof(text), is_negative ? "%" PRId64 : "%" PRIu64, number);
    return rk_fault(place, RK_ERANGE, info->name,
                    "%s is out of bounds, %" PRIu64 " to %" PRIu64, text, rule->min,
                    rule->max);
}

static enum rk_status check_count(const struct rk_place *place,
                                  const struct rk_field_rule *rule, uint64_t count,
                                  const char *unit)
{
    if (count >= rule->min && count <= rule->max) return RK_OK;
    return rk_fault(place, RK_ERANGE, rk_rule_info(rule)->name,
                    "%" PRIu64 " %s, allowed are %" PRIu64 " to %" PRIu64, count, unit,
                    rule->min, rule->max);
}

enum rk_status rk_check_text(const struct rk_place *place, const struct rk_field_rule *rule,
                             struct rk_slice text)
{
    const struct rk_field_info *info = rk_rule_info(rule);
    enum rk_status status = check_count(place, rule, text.size, "bytes");
    if (status != RK_OK) return status;
    if (!rk_slice_is_utf8(text))
        return rk_fault(place, RK_EINVAL, info->name, "not well-formed UTF-8 without NUL");
    if (info->words == NULL || rk_field_word(info, text) >= 0) return RK_OK;
    return rk_fault_words(place, info);
}

int rk_field_word(const struct rk_field_info *info, struct rk_slice text)
{
    if (text.size == 0) return -1;
    for (int i = 0; info->words[i] != NULL; i++)
        if (rk_slice_is_equal(text, rk_slice_of_string(info->words[i]))) return i;
    return -1;
}

enum rk_status rk_fault_words(const struct rk_place *place,
                              const struct rk_field_info *info)
{
    char list[80] = "";
    size_t used = 0;
    for (int i = 0; info->words[i] != NULL && used < sizeof(list); i++) {
        if (info->words[i][0] == '\0') continue;
        used += (size_t)snprintf(list + used, sizeof(list) - used, "%s%s",
                                 used == 0 ? "" : ", ", info->words[i]);
    }
    return rk_fault(place, RK_ERANGE, info->name, "must be one of %s", list);
}

static uint32_t word_count(const struct rk_field_info *info)
{
    uint32_t count = 0;
    while (info->words[count] != NULL)
        count++;
    return count;
}

static enum rk_status check_strings(const struct rk_place *place,
                                    const struct rk_field_rule *rule,
                                    const struct rk_strings *strings)
{
    enum rk_status status = check_count(place, rule, strings->count, "items");
    const char *name = rk_rule_info(rule)->name;
    for (uint32_t i = 0; status == RK_OK && i < strings->count; i++) {
        struct rk_slice text = strings->items[i];
        char item[40];
        snprintf(item, sizeof(item), "%s[%u]", name, i);
        if (text.size < 1 || text.size > RK_NAME_MAX)
            return rk_fault(place, RK_ERANGE, item, "%zu bytes, allowed are 1 to %d",
                            text.size, RK_NAME_MAX);
        if (!rk_slice_is_utf8(text))
            return rk_fault(place, RK_EINVAL, item, "not well-formed UTF-8 without NUL");
    }
    return status;
}

static enum rk_status check_headers(const struct rk_place *place,
                                    const struct rk_field_rule *rule,
                                    const struct rk_headers *headers)
{
    enum rk_status status = check_count(place, rule, headers->count, "headers");
    for (uint32_t i = 0; status == RK_OK && i < headers->count; i++) {
        struct rk_slice name = headers->items[i].name, value = headers->items[i].value;
        if (name.size < 1 || name.size > RK_NAME_MAX || value.size > RK_HEADER_VALUE_MAX)
            return rk_fault(place, RK_ERANGE, "headers",
                            "header %u has a name of %zu and a value of %zu bytes, allowed "
                            "are 1 to %d and 0 to %d",
                            i, name.size, value.size, RK_NAME_MAX, RK_HEADER_VALUE_MAX);
        if (!rk_slice_is_utf8(name) || !rk_slice_is_utf8(value))
            return rk_fault(place, RK_EINVAL, "headers",
                            "header %u is not well-formed UTF-8 without NUL", i);
    }
    return status;
}

static enum rk_status check_rules(const struct rk_place *place, struct rk_rules list,
                                  void *base);

static enum rk_status check_items(const struct rk_place *place, struct rk_request *request,
                                  const struct rk_field_rule *rule)
{
    bool is_messages = rule->field == RK_FIELD_MESSAGES;
    uint32_t count = is_messages ? request->message_count : request->resource_count;
    enum rk_status status = check_count(place, rule, count, "items");
    struct rk_place item = *place;
    item.list = request->is_bulk ? rk_rule_info(rule)->name : NULL;
    for (uint32_t i = 0; status == RK_OK && i < count; i++) {
        item.index = i;
        status = is_messages
                     ? check_rules(&item, rk_rules_message, &request->messages[i])
                     : check_rules(&item, rk_rules_resource, &request->resources[i]);
    }
    return status;
}

static enum rk_status check_value(const struct rk_place *place,
                                  const struct rk_field_rule *rule,
                                  const struct rk_value *value)
{
    const char *name = rk_rule_info(rule)->name;
    if (value->encoding > RK_ENCODING_RAW || value->encoding == RK_ENCODING_NONE)
        return rk_fault(place, RK_EINVAL, name, "no value");
    if (value->bytes.size <= rule->max) return RK_OK;
    return rk_fault(place, RK_ESIZE, name, "%zu bytes, allowed are %" PRIu64,
                    value->bytes.size, rule->max);
}

static enum rk_status check_field(const struct rk_place *place,
                                  const struct rk_field_rule *rule, void *base)
{
    const struct rk_field_info *info = rk_rule_info(rule);
    const void *at = (const uint8_t *)base + info->offset;
    switch (info->kind) {
    case RK_KIND_TEXT: return rk_check_text(place, rule, *(const struct rk_slice *)at);
    case RK_KIND_VALUE: return check_value(place, rule, at);
    case RK_KIND_STRINGS: return check_strings(place, rule, at);
    case RK_KIND_HEADERS: return check_headers(place, rule, at);
    case RK_KIND_MESSAGES:
    case RK_KIND_RESOURCES: return check_items(place, base, rule);
    case RK_KIND_DUE:
        return check_count(place, rule, ((struct rk_request *)base)->due_count, "items");
    case RK_KIND_POSITION: return RK_OK;
    case RK_KIND_UNIQUE: {
        struct rk_place inner = *place;
        inner.sub = info->name;
        return check_rules(&inner, rk_rules_unique, base);
    }
    case RK_KIND_BOOL: return RK_OK;
    case RK_KIND_WORD:
        if (rk_field_number(info, base) < word_count(info)) return RK_OK;
        return rk_fault_words(place, info);
    default: {
        uint64_t number = rk_field_number(info, base);
        bool is_signed = info->kind == RK_KIND_I64 || info->kind == RK_KIND_I32;
        return rk_check_number(place, rule, is_signed && (int64_t)number < 0, number);
    }
    }
}

/* Bounds of what is given; the default, or an error, for what is not. base is the object
 * that all the rules' fields are in. */
static enum rk_status check_rules(const struct rk_place *place, struct rk_rules list,
                                  void *base)
{
    for (uint32_t i = 0; i < list.count; i++) {
        const struct rk_field_rule *rule = &list.rules[i];
        if (is_given(place, rule, base)) {
            enum rk_status status = check_field(place, rule, base);
            if (status != RK_OK) return status;
            continue;
        }
        if ((rule->flags & RK_RULE_REQUIRED) != 0)
            return rk_fault(place, RK_EINVAL, rk_rule_info(rule)->name, "missing");
        /* forward, the one flag whose default is true, begins so: see rk_request_init. */
        const struct rk_field_info *info = rk_rule_info(rule);
        if (rule->fallback != 0 && info->kind != RK_KIND_BOOL)
            rk_field_set_number(info, base, rule->fallback);
    }
    return RK_OK;
}

/* Those rules of an operation that are about the request itself. The fields of a single
 * message are checked as an item of `messages`. */
static enum rk_status check_request_rules(const struct rk_place *place,
                                          const struct rk_op_info *info,
                                          struct rk_request *request)
{
    for (uint32_t i = 0; i < info->rule_count; i++) {
        if (rk_field_owner(info->rules[i].field) != RK_OWNER_REQUEST) continue;
        struct rk_rules one = {&info->rules[i], 1};
        enum rk_status status = check_rules(place, one, request);
        if (status != RK_OK) return status;
    }
    return check_rules(place, rk_rules_call, request);
}

/* id is ids[0], key is keys[0], resource is resources[0]. */
static void fill_plural(struct rk_request *request)
{
    if (request->ids.count == 0 && request->id.data != NULL)
        request->ids = (struct rk_strings){&request->id, 1};
    if (request->keys.count == 0 && request->key.data != NULL)
        request->keys = (struct rk_strings){&request->key, 1};
    bool is_own =
        request->resource_count == 0 || request->resources == &request->single_resource;
    if (is_own && request->resource.data != NULL) {
        request->single_resource =
            (struct rk_resource_in){.resource = request->resource, .mode = request->mode};
        request->resources = &request->single_resource;
        request->resource_count = 1;
    }
}

/* Given in either form is given in the plural. */
static void note_plural(struct rk_request *request)
{
    if (request->ids.count > 0) RK_SET(request, IDS);
    if (request->keys.count > 0) RK_SET(request, KEYS);
    if (request->resource_count > 0) RK_SET(request, RESOURCES);
    if (request->message_count > 0) RK_SET(request, MESSAGES);
}

static bool has_rule(const struct rk_op_info *info, enum rk_field field)
{
    for (uint32_t i = 0; i < info->rule_count; i++)
        if (info->rules[i].field == field) return true;
    return false;
}

/* Both forms of an operation that has two: exactly one is given. */
static enum rk_status check_one_of(const struct rk_place *place,
                                   const struct rk_op_info *info,
                                   struct rk_request *request)
{
    const char *names[2] = {NULL, NULL};
    size_t given = 0, known = 0;
    for (uint32_t i = 0; i < info->rule_count; i++) {
        const struct rk_field_rule *rule = &info->rules[i];
        if ((rule->flags & RK_RULE_ONE_OF) == 0) continue;
        if (known < 2) names[known++] = rk_rule_info(rule)->name;
        if (rk_field_owner(rule->field) == RK_OWNER_REQUEST &&
            is_given(place, rule, request))
            given++;
    }
    if (known == 0 || given == 1) return RK_OK;
    /* In C the plural may be filled beside the single form that it stands for. */
    if (given == 2 && !request->is_bulk) return RK_OK;
    if (given > 1) return rk_fault(place, RK_EINVAL, names[1], "given beside %s", names[0]);
    return rk_fault(place, RK_EINVAL, names[0], "missing; or give %s", names[1]);
}

/* Finds a resource that is named twice by way of a table on the stack. */
static enum rk_status check_duplicates(const struct rk_place *place,
                                       const struct rk_request *request)
{
    enum { SLOTS = 2048 };
    _Static_assert(SLOTS > 2 * RK_BATCH_MAX, "the table stays half empty");
    uint16_t slots[SLOTS];
    if (request->resource_count < 2) return RK_OK;
    memset(slots, 0, sizeof(slots));
    for (uint32_t i = 0; i < request->resource_count; i++) {
        struct rk_slice name = request->resources[i].resource;
        uint32_t at = rk_hash(name) % SLOTS;
        for (; slots[at] != 0; at = (at + 1) % SLOTS) {
            if (!rk_slice_is_equal(name, request->resources[slots[at] - 1].resource))
                continue;
            struct rk_place item = *place;
            item.list = "resources";
            item.index = i;
            return rk_fault(&item, RK_EINVAL, "resource", "named twice");
        }
        slots[at] = (uint16_t)(i + 1);
    }
    return RK_OK;
}

/* What is about more than one field. */
static enum rk_status check_together(const struct rk_place *place,
                                     struct rk_request *request)
{
    if (request->op == RK_OP_CACHE_PUT && request->soft_ttl_ms > request->ttl_ms &&
        request->ttl_ms != 0)
        return rk_fault(place, RK_ERANGE, "soft_ttl_ms",
                        "%" PRIu64 " is above ttl_ms, %" PRIu64, request->soft_ttl_ms,
                        request->ttl_ms);
    if (request->op == RK_OP_CACHE_DELETE && request->is_bulk &&
        RK_HAS(request, IF_VERSION))
        return rk_fault(place, RK_EINVAL, "if_version", "goes with key, not with keys");
    if (request->op == RK_OP_LOCK_ACQUIRE && request->is_bulk && RK_HAS(request, MODE))
        return rk_fault(place, RK_EINVAL, "mode", "belongs to the items of resources");
    if (request->op == RK_OP_LOCK_ACQUIRE && request->max_hold_ms != 0 &&
        request->max_hold_ms < request->min_hold_ms)
        return rk_fault(place, RK_ERANGE, "max_hold_ms",
                        "%" PRIu64 " is below min_hold_ms, %" PRIu64, request->max_hold_ms,
                        request->min_hold_ms);
    return check_duplicates(place, request);
}

enum rk_status rk_request_check_at(const struct rk_place *place, struct rk_request *request)
{
    const struct rk_op_info *info = rk_op_info(request->op);
    if (info == NULL) return rk_fault(place, RK_EINVAL, "op", "no such operation");
    enum rk_status status = check_one_of(place, info, request);
    if (status != RK_OK) return status;

    if (has_rule(info, RK_FIELD_IDS) || has_rule(info, RK_FIELD_KEYS) ||
        has_rule(info, RK_FIELD_RESOURCES))
        fill_plural(request);
    note_plural(request);
    status = check_request_rules(place, info, request);
    if (status != RK_OK) return status;
    return check_together(place, request);
}

enum rk_status rk_request_check(struct rk_request *request, struct rk_api_error *error)
{
    struct rk_api_error ignored;
    struct rk_place place = {.error = error == NULL ? &ignored : error};
    return rk_request_check_at(&place, request);
}
