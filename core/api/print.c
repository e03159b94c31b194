/* The table in print: OpenAPI as JSON and as YAML, and the reference in Markdown. */
#include "api/schema.h"

#include <inttypes.h>
#include <stdlib.h>

static int dump_append(const char *data, size_t size, void *out)
{
    rk_buf_append(out, data, size);
    return ((struct rk_buf *)out)->is_failed ? -1 : 0;
}

static void dump(struct rk_buf *out, const json_t *json, size_t flags)
{
    if (json_dump_callback(json, dump_append, out, flags) != 0) out->is_failed = true;
}

void rk_api_print_openapi(struct rk_buf *out)
{
    json_t *document = rk_schema_openapi();
    dump(out, document, JSON_COMPACT);
    json_decref(document);
}

static void indent(struct rk_buf *out, int depth)
{
    for (int i = 0; i < depth; i++)
        rk_buf_append_string(out, "  ");
}

static bool is_empty(const json_t *json)
{
    return (json_is_object(json) && json_object_size(json) == 0) ||
           (json_is_array(json) && json_array_size(json) == 0);
}

static void yaml_key(struct rk_buf *out, const char *key)
{
    bool is_plain = key[0] != '\0' && (key[0] < '0' || key[0] > '9');
    for (const char *at = key; *at != '\0'; at++) {
        char c = *at;
        bool is_word = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_' ||
                       c == '/' || c == '-' || (c >= '0' && c <= '9');
        if (!is_word && !(c == '.' && at > key)) is_plain = false;
    }
    rk_buf_printf(out, is_plain ? "%s:" : "\"%s\":", key);
}

/* Block style; every string in double quotes, which YAML reads as JSON does. */
static void yaml(struct rk_buf *out, const json_t *json, int depth)
{
    if (is_empty(json) || (!json_is_object(json) && !json_is_array(json))) {
        rk_buf_append_string(out, " ");
        dump(out, json, JSON_ENCODE_ANY | JSON_COMPACT);
        rk_buf_append_string(out, "\n");
        return;
    }
    rk_buf_append_string(out, "\n");
    if (json_is_array(json)) {
        for (size_t i = 0; i < json_array_size(json); i++) {
            indent(out, depth);
            rk_buf_append_string(out, "-");
            yaml(out, json_array_get(json, i), depth + 1);
        }
        return;
    }
    const char *key;
    json_t *value;
    json_object_foreach((json_t *)(uintptr_t)json, key, value)
    {
        indent(out, depth);
        yaml_key(out, key);
        yaml(out, value, depth + 1);
    }
}

void rk_api_print_yaml(struct rk_buf *out)
{
    json_t *document = rk_schema_openapi();
    rk_buf_append_string(out, "# Generated from the table of operations by rk_api_docs.");
    yaml(out, document, 0);
    json_decref(document);
}

static const char *type_text(const struct rk_field_info *info)
{
    switch (info->kind) {
    case RK_KIND_TEXT:
    case RK_KIND_WORD:
    case RK_KIND_POSITION: return "string";
    case RK_KIND_BOOL: return "boolean";
    case RK_KIND_VALUE: return "any";
    case RK_KIND_STRINGS: return "strings";
    case RK_KIND_MESSAGES:
    case RK_KIND_RESOURCES: return "objects";
    case RK_KIND_HEADERS:
    case RK_KIND_UNIQUE: return "object";
    default: return "integer";
    }
}

static void print_words(struct rk_buf *out, const char *const *words)
{
    bool is_first = true;
    for (size_t i = 0; words[i] != NULL; i++) {
        if (words[i][0] == '\0') continue;
        rk_buf_printf(out, "%s%s", is_first ? "" : ", ", words[i]);
        is_first = false;
    }
}

static void print_bounds(struct rk_buf *out, const struct rk_field_rule *rule)
{
    const struct rk_field_info *info = rk_rule_info(rule);
    switch (info->kind) {
    case RK_KIND_BOOL:
    case RK_KIND_UNIQUE: return;
    case RK_KIND_I64:
    case RK_KIND_I32:
        rk_buf_printf(out, "%" PRId64 " to %" PRId64, (int64_t)rule->min,
                      (int64_t)rule->max);
        return;
    case RK_KIND_WORD: print_words(out, info->words); return;
    case RK_KIND_TEXT:
        if (info->words != NULL) {
            print_words(out, info->words);
            return;
        }
        break;
    default: break;
    }
    const char *unit = "";
    if (info->kind == RK_KIND_TEXT || info->kind == RK_KIND_VALUE ||
        info->kind == RK_KIND_POSITION)
        unit = " bytes";
    if (info->kind == RK_KIND_STRINGS || info->kind == RK_KIND_MESSAGES ||
        info->kind == RK_KIND_RESOURCES || info->kind == RK_KIND_HEADERS)
        unit = " items";
    rk_buf_printf(out, "%" PRIu64 " to %" PRIu64 "%s", rule->min, rule->max, unit);
}

static void print_default(struct rk_buf *out, const struct rk_field_rule *rule)
{
    const struct rk_field_info *info = rk_rule_info(rule);
    if ((rule->flags & RK_RULE_REQUIRED) != 0) {
        rk_buf_append_string(out, "required");
        return;
    }
    if ((rule->flags & RK_RULE_ONE_OF) != 0) {
        rk_buf_append_string(out, "one of the two");
        return;
    }
    switch (info->kind) {
    case RK_KIND_WORD: rk_buf_append_string(out, info->words[rule->fallback]); return;
    case RK_KIND_BOOL:
        rk_buf_append_string(out, rule->fallback != 0 ? "true" : "false");
        return;
    case RK_KIND_U64:
    case RK_KIND_U8:
        if (rule->fallback >= rule->min && rule->fallback != 0)
            rk_buf_printf(out, "%" PRIu64, rule->fallback);
        return;
    default: return;
    }
}

static void print_fields(struct rk_buf *out, struct rk_rules list)
{
    rk_buf_append_string(out,
                         "| field | type | bounds | default | |\n|---|---|---|---|---|\n");
    for (uint32_t i = 0; i < list.count; i++) {
        const struct rk_field_rule *rule = &list.rules[i];
        const struct rk_field_info *info = rk_rule_info(rule);
        rk_buf_printf(out, "| `%s`", info->name);
        if (info->alias_size > 0) rk_buf_printf(out, ", `%s`", info->alias);
        rk_buf_printf(out, " | %s | ", type_text(info));
        print_bounds(out, rule);
        rk_buf_append_string(out, " | ");
        print_default(out, rule);
        rk_buf_printf(out, " | %s |\n", info->doc);
    }
    rk_buf_append_string(out, "\n");
}

static const char *when_text(enum rk_part_when when)
{
    switch (when) {
    case RK_WHEN_SET: return "where there is one";
    case RK_WHEN_SINGLE: return "single form";
    case RK_WHEN_BULK: return "plural form";
    case RK_WHEN_FOUND:
    case RK_WHEN_LINE_FOUND: return "if found";
    case RK_WHEN_IF_HELD: return "if held";
    default: return "";
    }
}

static void print_parts(struct rk_buf *out, const struct rk_shape *shape,
                        const char *within)
{
    for (uint32_t i = 0; i < shape->count; i++) {
        const struct rk_part *part = &shape->parts[i];
        if (part->kind == RK_PART_INLINE || part->kind == RK_PART_FIRST) {
            print_parts(out, part->shape, within);
            continue;
        }
        const char *doc = rk_part_doc(part->name);
        rk_buf_printf(out, "| `%s%s` | %s | %s |\n", within, part->name,
                      when_text((enum rk_part_when)part->when), doc == NULL ? "" : doc);
        if (part->kind != RK_PART_LIST) continue;
        char inner[64];
        size_t size = strlen(part->name);
        if (size + 4 > sizeof(inner)) continue;
        memcpy(inner, part->name, size);
        memcpy(inner + size, "[].", 4);
        print_parts(out, part->shape, inner);
    }
}

static void print_operation(struct rk_buf *out, const struct rk_op_info *info)
{
    const struct rk_shape *shape = rk_reply_shape(info->op);
    rk_buf_printf(out, "### %s\n\n`POST %s` - %s\n\n", info->name, info->path,
                  info->summary);
    if (info->rule_count > 0)
        print_fields(out, (struct rk_rules){info->rules, info->rule_count});
    if (shape->count == 1 && shape->parts[0].kind == RK_PART_DOCUMENT) {
        rk_buf_append_string(out, "The answer is a document of its own.\n\n");
        return;
    }
    rk_buf_append_string(out, "| answer | | |\n|---|---|---|\n");
    print_parts(out, shape, "");
    rk_buf_append_string(out, "\n");
}

static void print_errors(struct rk_buf *out)
{
    rk_buf_append_string(out,
                         "## Errors\n\nAn error is a problem document (RFC 9457): `type`, "
                         "`title`, `status`, `code`, `retryable`, `outcome` (`not_done` or "
                         "`unknown`), and where known `detail`, `field`, `holders`, "
                         "`cycle`, `version`, `leader`, `retry_after_ms`.\n\n"
                         "| code | status | retryable | |\n|---|---|---|---|\n");
#define RK_STATUS(name, code, wire, http, retryable, title)                                \
    rk_buf_printf(out, "| `%s` | %d | %s | %s |\n", wire, http,                            \
                  (retryable) ? "yes" : "no", title);
#include "base/status.def"
#undef RK_STATUS
}

void rk_api_print_reference(struct rk_buf *out)
{
    rk_buf_append_string(
        out,
        "# The API\n\nGenerated from the table of operations by `rk_api_docs`.\n\n"
        "Every call is `POST /<area>/<verb>`, also under `/v1`, and the method "
        "`<area>.<verb>` in RPC, with a map as JSON or msgpack. Unknown fields are errors. "
        "A value is kept as it came and converted when it is read in another encoding. "
        "Raw bytes are binary in msgpack and `<name>_base64` in JSON, both ways; what has "
        "no form in JSON (binary within a value, extensions, keys that are no strings, "
        "infinities) is `not_acceptable` and names the place. Integers in JSON go up to "
        "2^63-1; larger ones and numbers beyond a double are refused.\n\n## The call\n\n"
        "Any call may carry these beside its own fields.\n\n");
    print_fields(out, rk_rules_call);
    rk_buf_append_string(out, "A message of `queue.publish`:\n\n");
    print_fields(out, rk_rules_message);
    rk_buf_append_string(out, "Its `unique`:\n\n");
    print_fields(out, rk_rules_unique);
    rk_buf_append_string(out, "An item of `lock.acquire`'s `resources`:\n\n");
    print_fields(out, rk_rules_resource);
    const char *area = "";
    for (int op = 0; op < RK_OP_MAX; op++) {
        const struct rk_op_info *info = rk_op_info((enum rk_op)op);
        if (info == NULL || info->is_internal) continue;
        if (strncmp(area, info->name, info->area_size) != 0)
            rk_buf_printf(out, "## %.*s\n\n", (int)info->area_size, info->name);
        area = info->name;
        print_operation(out, info);
    }
    print_errors(out);
}
