#include "api/schema.h"

#include <stdio.h>

static json_t *request_schema(struct rk_rules list);

/* A string with bounds in bytes: JSON Schema counts characters, so only the upper one,
 * which can be no more, and the lower one, which is 0 or 1, are said. */
static json_t *text_schema(uint64_t min, uint64_t max)
{
    return json_pack("{s:s, s:I, s:I}", "type", "string", "minLength", (json_int_t)min,
                     "maxLength", (json_int_t)max);
}

static json_t *words_schema(const char *const *words)
{
    json_t *list = json_array();
    for (size_t i = 0; words[i] != NULL; i++)
        if (words[i][0] != '\0') json_array_append_new(list, json_string(words[i]));
    return json_pack("{s:s, s:o}", "type", "string", "enum", list);
}

static json_t *integer_schema(const struct rk_field_rule *rule)
{
    return json_pack("{s:s, s:I, s:I}", "type", "integer", "minimum", (json_int_t)rule->min,
                     "maximum", (json_int_t)rule->max);
}

static json_t *list_schema(const struct rk_field_rule *rule, json_t *items)
{
    return json_pack("{s:s, s:I, s:I, s:o}", "type", "array", "minItems",
                     (json_int_t)rule->min, "maxItems", (json_int_t)rule->max, "items",
                     items);
}

static json_t *field_schema(const struct rk_field_rule *rule)
{
    const struct rk_field_info *info = rk_rule_info(rule);
    switch (info->kind) {
    case RK_KIND_TEXT:
        return info->words != NULL ? words_schema(info->words)
                                   : text_schema(rule->min, rule->max);
    case RK_KIND_WORD: return words_schema(info->words);
    case RK_KIND_BOOL: return json_pack("{s:s}", "type", "boolean");
    case RK_KIND_VALUE: return json_object();
    case RK_KIND_STRINGS: return list_schema(rule, text_schema(1, RK_NAME_MAX));
    case RK_KIND_MESSAGES: return list_schema(rule, request_schema(rk_rules_message));
    case RK_KIND_RESOURCES: return list_schema(rule, request_schema(rk_rules_resource));
    case RK_KIND_UNIQUE: return request_schema(rk_rules_unique);
    case RK_KIND_HEADERS:
        return json_pack("{s:s, s:I, s:o}", "type", "object", "maxProperties",
                         (json_int_t)rule->max, "additionalProperties",
                         text_schema(0, RK_HEADER_VALUE_MAX));
    case RK_KIND_POSITION: return json_pack("{s:s}", "type", "string");
    default: return integer_schema(rule);
    }
}

static json_t *default_of(const struct rk_field_rule *rule)
{
    const struct rk_field_info *info = rk_rule_info(rule);
    switch (info->kind) {
    case RK_KIND_WORD:
        return info->words[rule->fallback][0] == '\0'
                   ? NULL
                   : json_string(info->words[rule->fallback]);
    case RK_KIND_BOOL: return json_boolean(rule->fallback != 0);
    case RK_KIND_U64:
    case RK_KIND_U8:
        /* A default below the bound says: not given. */
        if (rule->fallback < rule->min || rule->fallback == 0) return NULL;
        return json_integer((json_int_t)rule->fallback);
    default: return NULL;
    }
}

static json_t *described(const struct rk_field_rule *rule)
{
    const struct rk_field_info *info = rk_rule_info(rule);
    json_t *schema = field_schema(rule);
    json_object_set_new(schema, "description", json_string(info->doc));
    json_t *fallback = (rule->flags & RK_RULE_REQUIRED) != 0 ? NULL : default_of(rule);
    if (fallback != NULL) json_object_set_new(schema, "default", fallback);
    return schema;
}

static void add_rules(json_t *properties, json_t *required, json_t *one_of,
                      struct rk_rules list)
{
    for (uint32_t i = 0; i < list.count; i++) {
        const struct rk_field_rule *rule = &list.rules[i];
        const struct rk_field_info *info = rk_rule_info(rule);
        json_object_set_new(properties, info->name, described(rule));
        if (info->alias_size > 0 && json_object_get(properties, info->alias) == NULL) {
            char text[64];
            snprintf(text, sizeof(text), "Alias of %s.", info->name);
            json_object_set_new(properties, info->alias,
                                json_pack("{s:s}", "description", text));
        }
        if (info->kind == RK_KIND_VALUE) {
            char name[48];
            snprintf(name, sizeof(name), "%s_base64", info->name);
            json_object_set_new(properties, name,
                                json_pack("{s:s, s:s, s:s}", "type", "string",
                                          "contentEncoding", "base64", "description",
                                          "Raw bytes instead, in JSON."));
        }
        /* A field with an alias or a raw form cannot be required by its name alone. */
        bool is_plain = info->alias_size == 0 && info->kind != RK_KIND_VALUE;
        if ((rule->flags & RK_RULE_REQUIRED) != 0 && is_plain)
            json_array_append_new(required, json_string(info->name));
        if ((rule->flags & RK_RULE_ONE_OF) != 0)
            json_array_append_new(one_of, json_string(info->name));
    }
}

static json_t *request_schema(struct rk_rules list)
{
    json_t *properties = json_object(), *required = json_array(), *one_of = json_array();
    add_rules(properties, required, one_of, list);
    json_t *schema = json_pack("{s:s, s:o, s:b}", "type", "object", "properties",
                               properties, "additionalProperties", 0);
    if (json_array_size(required) > 0) json_object_set(schema, "required", required);
    if (json_array_size(one_of) == 2) {
        char text[96];
        snprintf(text, sizeof(text), "Exactly one of %s and %s is given.",
                 json_string_value(json_array_get(one_of, 0)),
                 json_string_value(json_array_get(one_of, 1)));
        json_object_set_new(schema, "description", json_string(text));
    }
    json_decref(required);
    json_decref(one_of);
    return schema;
}

const char *rk_part_doc(const char *name)
{
    static const struct {
        const char *name;
        const char *doc;
    } docs[] = {
#define RK_PART_DOC(name_, doc_) {name_, doc_},
#include "api/part_docs.def"
    };
    for (size_t i = 0; i < sizeof(docs) / sizeof(docs[0]); i++)
        if (strcmp(docs[i].name, name) == 0) return docs[i].doc;
    return NULL;
}

static json_t *shape_schema(const struct rk_shape *shape);

static json_t *part_schema(const struct rk_part *part)
{
    switch (part->kind) {
    case RK_PART_BOOL:
    case RK_PART_IS_OK: return json_pack("{s:s}", "type", "boolean");
    case RK_PART_TEXT:
    case RK_PART_CODE: return json_pack("{s:s}", "type", "string");
    case RK_PART_MODE:
        return json_pack("{s:s, s:[s, s]}", "type", "string", "enum", "exclusive",
                         "shared");
    case RK_PART_VALUE: return json_object();
    case RK_PART_STRINGS:
        return json_pack("{s:s, s:{s:s}}", "type", "array", "items", "type", "string");
    case RK_PART_HEADERS:
        return json_pack("{s:s, s:{s:s}}", "type", "object", "additionalProperties", "type",
                         "string");
    case RK_PART_LIST:
        return json_pack("{s:s, s:o}", "type", "array", "items", shape_schema(part->shape));
    default: return json_pack("{s:s}", "type", "integer");
    }
}

/* The names in `always` are those that every such object has. */
static void add_parts(json_t *properties, json_t *always, const struct rk_shape *shape)
{
    for (uint32_t i = 0; i < shape->count; i++) {
        const struct rk_part *part = &shape->parts[i];
        if (part->kind == RK_PART_INLINE || part->kind == RK_PART_FIRST) {
            json_t *ignored = json_array();
            add_parts(properties, part->kind == RK_PART_INLINE ? always : ignored,
                      part->shape);
            json_decref(ignored);
            continue;
        }
        json_t *schema = part_schema(part);
        const char *doc = rk_part_doc(part->name);
        if (doc != NULL) json_object_set_new(schema, "description", json_string(doc));
        json_object_set_new(properties, part->name, schema);
        if (part->when == RK_WHEN_ALWAYS)
            json_array_append_new(always, json_string(part->name));
    }
}

static json_t *shape_schema(const struct rk_shape *shape)
{
    json_t *properties = json_object(), *always = json_array();
    add_parts(properties, always, shape);
    json_t *schema = json_pack("{s:s, s:o}", "type", "object", "properties", properties);
    if (json_array_size(always) > 0) json_object_set(schema, "required", always);
    json_decref(always);
    return schema;
}

static json_t *reference_to(const char *kind, const char *name, const char *end)
{
    char text[96];
    snprintf(text, sizeof(text), "#/components/%s/%s%s", kind, name, end);
    return json_pack("{s:s}", "$ref", text);
}

static json_t *both_encodings(const char *name, const char *end)
{
    return json_pack("{s:{s:o}, s:{s:o}}", "application/json", "schema",
                     reference_to("schemas", name, end), "application/vnd.msgpack",
                     "schema", reference_to("schemas", name, end));
}

static const struct {
    const char *name;
    const char *doc;
} call_headers[] = {
    {"Idempotency-Key", "Request id, <client>/<seq> or any string: a retry is harmless."},
    {"Rukun-Deadline-Ms", "The call is dropped so long after its reception."},
    {"Rukun-Position", "What the caller has seen, as a reply gave it."},
    {"Rukun-Forward", "false: 421 with the leader's address instead of forwarding."},
};
enum { CALL_HEADERS = sizeof(call_headers) / sizeof(call_headers[0]) };

static json_t *header_components(void)
{
    json_t *all = json_object();
    for (size_t i = 0; i < CALL_HEADERS; i++)
        json_object_set_new(all, call_headers[i].name,
                            json_pack("{s:s, s:s, s:s, s:{s:s}}", "name",
                                      call_headers[i].name, "in", "header", "description",
                                      call_headers[i].doc, "schema", "type", "string"));
    return all;
}

static json_t *header_references(void)
{
    json_t *list = json_array();
    for (size_t i = 0; i < CALL_HEADERS; i++)
        json_array_append_new(list, reference_to("parameters", call_headers[i].name, ""));
    return list;
}

static json_t *operation_schema(const struct rk_op_info *info)
{
    char area[32];
    snprintf(area, sizeof(area), "%.*s", (int)info->area_size, info->name);
    json_t *answer = json_pack(
        "{s:s, s:{s:{s:s, s:{s:s}}}, s:o}", "description", "Done.", "headers",
        "Rukun-Position", "description", "What the caller has seen with this answer.",
        "schema", "type", "string", "content", both_encodings(info->name, ".reply"));
    json_t *post = json_pack(
        "{s:s, s:s, s:[s], s:o, s:{s:b, s:o}, s:{s:o, s:o}}", "operationId", info->name,
        "summary", info->summary, "tags", area, "parameters", header_references(),
        "requestBody", "required", 1, "content", both_encodings(info->name, ""),
        "responses", "200", answer, "default", reference_to("responses", "Problem", ""));
    return json_pack("{s:o}", "post", post);
}

/* The fields of the call beside the operation's own. */
static json_t *body_schema(const struct rk_op_info *info)
{
    json_t *schema = request_schema((struct rk_rules){info->rules, info->rule_count});
    json_object_del(schema, "additionalProperties");
    json_object_set_new(schema, "allOf",
                        json_pack("[o]", reference_to("schemas", "Call", "")));
    json_object_set_new(schema, "unevaluatedProperties", json_false());
    return schema;
}

static json_t *problem_schema(void)
{
    json_t *codes = json_array();
#define RK_STATUS(name, code, wire, http, retryable, title)                                \
    json_array_append_new(codes, json_string(wire));
#include "base/status.def"
#undef RK_STATUS
    json_t *properties = json_pack(
        "{s:{s:s}, s:{s:s}, s:{s:s}, s:{s:s, s:o}, s:{s:s}, s:{s:s, s:[s, s]}, s:{s:s}, "
        "s:{s:s}, s:{s:s}, s:{s:s}, s:{s:s}, s:{s:s}}",
        "type", "type", "string", "title", "type", "string", "status", "type", "integer",
        "code", "type", "string", "enum", codes, "retryable", "type", "boolean", "outcome",
        "type", "string", "enum", "not_done", "unknown", "granted", "type", "boolean",
        "detail", "type", "string", "field", "type", "string", "version", "type", "integer",
        "leader", "type", "string", "retry_after_ms", "type", "integer");
    json_object_set_new(properties, "holders",
                        json_pack("{s:s, s:o}", "type", "array", "items",
                                  shape_schema(&rk_shape_problem_holder)));
    json_object_set_new(
        properties, "cycle",
        json_pack("{s:s, s:o}", "type", "array", "items", shape_schema(&rk_shape_edge)));
    return json_pack(
        "{s:s, s:s, s:o, s:[s, s, s, s, s, s]}", "type", "object", "description",
        "RFC 9457. What went wrong, and whether anything was done.", "properties",
        properties, "required", "type", "title", "status", "code", "retryable", "outcome");
}

static void add_pages(json_t *paths)
{
    static const struct {
        const char *path;
        const char *summary;
    } pages[] = {
        {"/cluster", "Nodes, groups with their leaders, and the slot map."},
        {"/raft/state", "Group 0 on top, then every group, as the asked node sees them."},
        {"/health", "200 with a quorum, 503 without."},
        {"/readyz", "200 with a quorum, 503 without."},
        {"/livez", "200 as long as the process serves."},
        {"/metrics", "Prometheus text."},
        {"/snapshot", "A backup of all groups, as bytes."},
        {"/openapi.json", "This document."},
    };
    for (size_t i = 0; i < sizeof(pages) / sizeof(pages[0]); i++)
        json_object_set_new(paths, pages[i].path,
                            json_pack("{s:{s:s, s:[s], s:{s:{s:s}}}}", "get", "summary",
                                      pages[i].summary, "tags", "node", "responses", "200",
                                      "description", "As said."));
}

json_t *rk_schema_openapi(void)
{
    json_t *paths = json_object(), *schemas = json_object();
    json_t *call = request_schema(rk_rules_call);
    json_object_del(call, "additionalProperties");
    json_object_set_new(schemas, "Call", call);
    json_object_set_new(schemas, "Problem", problem_schema());
    for (int op = 0; op < RK_OP_MAX; op++) {
        const struct rk_op_info *info = rk_op_info((enum rk_op)op);
        if (info == NULL || info->is_internal) continue;
        char reply[48];
        snprintf(reply, sizeof(reply), "%s.reply", info->name);
        json_object_set_new(paths, info->path, operation_schema(info));
        json_object_set_new(schemas, info->name, body_schema(info));
        json_object_set_new(schemas, reply, shape_schema(rk_reply_shape(info->op)));
    }
    add_pages(paths);
    json_t *problem = json_pack("{s:s, s:{s:{s:o}}}", "description",
                                "Not done, or the outcome is unknown: see `outcome`.",
                                "content", "application/problem+json", "schema",
                                reference_to("schemas", "Problem", ""));
    return json_pack(
        "{s:s, s:{s:s, s:s, s:s}, s:o, s:{s:o, s:o, s:{s:o}}}", "openapi", "3.1.0", "info",
        "title", "Rukun", "version", "1", "description",
        "Locks, queues and caches. Every path stands under /v1 too; bodies and "
        "answers are JSON or msgpack.",
        "paths", paths, "components", "schemas", schemas, "parameters", header_components(),
        "responses", "Problem", problem);
}
