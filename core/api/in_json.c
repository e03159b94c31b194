#include "api/in.h"

#include <stdio.h>

/* The functions that skip run on text that jansson has accepted; the bound `end` only
 * makes a mistake harmless. */
static const uint8_t *skip_space(const uint8_t *at, const uint8_t *end)
{
    while (at < end && (*at == ' ' || *at == '\t' || *at == '\n' || *at == '\r'))
        at++;
    return at;
}

static const uint8_t *skip_string(const uint8_t *at, const uint8_t *end)
{
    for (at++; at < end && *at != '"'; at++)
        if (*at == '\\' && at + 1 < end) at++;
    return at < end ? at + 1 : end;
}

static const uint8_t *skip_value(const uint8_t *at, const uint8_t *end)
{
    if (at < end && *at == '"') return skip_string(at, end);
    if (at < end && (*at == '{' || *at == '[')) {
        size_t depth = 0;
        while (at < end) {
            if (*at == '"') {
                at = skip_string(at, end);
                continue;
            }
            if (*at == '{' || *at == '[') depth++;
            bool is_close = *at == '}' || *at == ']';
            at++;
            if (is_close && --depth == 0) return at;
        }
        return end;
    }
    while (at < end && strchr(",]} \t\r\n", *at) == NULL)
        at++;
    return at;
}

/* jansson recurses once a level and allows 2048: look first. */
static bool is_too_deep(struct rk_slice text)
{
    const uint8_t *at = text.data;
    const uint8_t *end = at + text.size;
    size_t depth = 0;
    while (at < end) {
        if (*at == '"') {
            at = skip_string(at, end);
            continue;
        }
        if ((*at == '{' || *at == '[') && ++depth > RK_DEPTH_MAX) return true;
        if ((*at == '}' || *at == ']') && depth > 0) depth--;
        at++;
    }
    return false;
}

static void set_json(struct rk_in *out, json_t *json, const uint8_t *at, const uint8_t *end)
{
    out->json = json;
    out->raw = rk_slice_of(at, (size_t)(skip_value(at, end) - at));
    out->count = 0;
    switch (json_typeof(json)) {
    case JSON_OBJECT:
        out->type = RK_IN_MAP;
        out->count = (uint32_t)json_object_size(json);
        break;
    case JSON_ARRAY:
        out->type = RK_IN_ARRAY;
        out->count = (uint32_t)json_array_size(json);
        break;
    case JSON_STRING:
        out->type = RK_IN_TEXT;
        out->text = rk_slice_of(json_string_value(json), json_string_length(json));
        break;
    case JSON_INTEGER:
        out->type = json_integer_value(json) < 0 ? RK_IN_NEGATIVE : RK_IN_UINT;
        out->number = (uint64_t)json_integer_value(json);
        break;
    case JSON_REAL:
        out->type = RK_IN_REAL;
        out->real = json_real_value(json);
        break;
    case JSON_TRUE:
    case JSON_FALSE:
        out->type = RK_IN_BOOL;
        out->number = json_is_true(json);
        break;
    case JSON_NULL: out->type = RK_IN_NIL; break;
    }
}

enum rk_status rk_in_open_json(struct rk_in *out, json_t **root, struct rk_slice text,
                               struct rk_api_error *error)
{
    *root = NULL;
    error->field[0] = '\0';
    error->status = RK_EINVAL;
    if (is_too_deep(text)) {
        snprintf(error->text, sizeof(error->text), "JSON nests deeper than %d levels",
                 RK_DEPTH_MAX);
        return RK_EINVAL;
    }
    json_error_t fault;
    *root = json_loadb(text.size == 0 ? "" : (const char *)text.data, text.size,
                       JSON_REJECT_DUPLICATES | JSON_DECODE_ANY | JSON_ALLOW_NUL, &fault);
    if (*root == NULL) {
        if (json_error_code(&fault) == json_error_out_of_memory) error->status = RK_ENOMEM;
        snprintf(error->text, sizeof(error->text), "JSON, line %d, column %d: %.150s",
                 fault.line, fault.column, fault.text);
        return error->status;
    }
    const uint8_t *end = text.data + text.size;
    set_json(out, *root, skip_space(text.data, end), end);
    return RK_OK;
}

void rk_in_walk_init(struct rk_in_walk *walk, const struct rk_in *in)
{
    *walk = (struct rk_in_walk){.of = in};
    walk->at = in->raw.data + (in->json != NULL ? 1 : in->head_size);
    if (in->json != NULL && in->type == RK_IN_MAP)
        walk->iterator = json_object_iter(in->json);
}

/* jansson keeps the order of members, and refuses duplicates: the n-th member of the
 * tree is the n-th in the text. */
static void next_json(struct rk_in_walk *walk, struct rk_slice *key, struct rk_in *item)
{
    const struct rk_in *of = walk->of;
    const uint8_t *end = of->raw.data + of->raw.size;
    const uint8_t *at = skip_space(walk->at, end);
    if (at < end && *at == ',') at = skip_space(at + 1, end);
    json_t *json;
    if (of->type == RK_IN_MAP) {
        at = skip_space(skip_string(at, end), end);
        at = skip_space(at + 1, end); /* the colon */
        const char *name = json_object_iter_key(walk->iterator);
        *key = rk_slice_of_string(name);
        json = json_object_iter_value(walk->iterator);
        walk->iterator = json_object_iter_next(of->json, walk->iterator);
    } else {
        json = json_array_get(of->json, walk->index);
    }
    set_json(item, json, at, end);
    walk->at = at + item->raw.size;
}

/* The whole was measured when it was opened, so that nothing can fail here. */
static void next_msgpack(struct rk_in_walk *walk, struct rk_slice *key, struct rk_in *item)
{
    const struct rk_in *of = walk->of;
    const uint8_t *end = of->raw.data + of->raw.size;
    for (int part = of->type == RK_IN_MAP ? 0 : 1; part < 2; part++) {
        size_t left = (size_t)(end - walk->at);
        if (rk_in_head(item, walk->at, left) != RK_OK) item->raw.size = left;
        if (item->type == RK_IN_ARRAY || item->type == RK_IN_MAP) {
            size_t size = left;
            if (rk_msgpack_measure(rk_slice_of(walk->at, left), &size) != RK_OK)
                size = left;
            item->raw = rk_slice_of(walk->at, size);
        }
        walk->at += item->raw.size;
        if (part == 1) break;
        if (item->type == RK_IN_TEXT)
            *key = item->text;
        else
            walk->is_bad_key = true;
    }
}

bool rk_in_next(struct rk_in_walk *walk, struct rk_slice *key, struct rk_in *item)
{
    if (walk->index == walk->of->count) return false;
    *key = RK_SLICE_EMPTY;
    walk->is_bad_key = false;
    if (walk->of->json != NULL)
        next_json(walk, key, item);
    else
        next_msgpack(walk, key, item);
    walk->index++;
    return true;
}

const char *rk_in_type_text(enum rk_in_type type)
{
    switch (type) {
    case RK_IN_NIL: return "null";
    case RK_IN_BOOL: return "a boolean";
    case RK_IN_UINT:
    case RK_IN_NEGATIVE: return "an integer";
    case RK_IN_REAL: return "a real number";
    case RK_IN_TEXT: return "a string";
    case RK_IN_BYTES: return "binary";
    case RK_IN_EXT: return "a msgpack extension";
    case RK_IN_ARRAY: return "an array";
    case RK_IN_MAP: return "an object";
    }
    return "nothing";
}
