/* Every bound and every type of every field, driven by the table. */
#include "body.h"

struct fixture {
    struct rk_arena arena;
    struct rk_request request;
    struct rk_api_error error;
    uint32_t checks;
};

static int set_up(void **state)
{
    struct fixture *fixture = calloc(1, sizeof(*fixture));
    rk_arena_init(&fixture->arena);
    *state = fixture;
    return 0;
}

static int tear_down(void **state)
{
    struct fixture *fixture = *state;
    rk_arena_fini(&fixture->arena);
    free(fixture);
    return 0;
}

/* Both encodings say the same: expected, and if it is an error, at field. body is taken. */
static void expect(struct fixture *fixture, enum rk_op op, json_t *body,
                   enum rk_status expected, const char *field)
{
    for (int encoding = RK_ENCODING_JSON; encoding <= RK_ENCODING_MSGPACK; encoding++) {
        rk_arena_reset(&fixture->arena);
        struct rk_slice bytes =
            body_encode(body, (enum rk_encoding)encoding, &fixture->arena);
        enum rk_status status =
            body_decode(&fixture->request, op, bytes, (enum rk_encoding)encoding,
                        &fixture->arena, &fixture->error);
        fixture->checks++;
        if (status != expected)
            fail_msg("%s %s, encoding %d: %s (%s), not %s", rk_op_info(op)->name, field,
                     encoding, rk_status_text(status),
                     status == RK_OK ? "" : fixture->error.text, rk_status_text(expected));
        if (expected == RK_OK) continue;
        assert_int_equal(fixture->error.status, expected);
        assert_string_equal(fixture->error.field, field);
        assert_true(strlen(fixture->error.text) > strlen(field) + 4);
    }
    json_decref(body);
}

/* How a field is put into a body of the operation: at its top or into an item. */
struct spot {
    const struct rk_op_info *info;
    const struct rk_field_rule *rule;
    const char *list; /* "messages": in the one item of it */
    const char *sub;  /* "unique" */
};

static json_t *body_with(const struct spot *spot, json_t *value)
{
    json_t *body = body_minimal(spot->info);
    const char *name = rk_field_info(spot->rule->field)->name;
    json_t *target = body;
    if (spot->list != NULL) {
        bool is_messages = strcmp(spot->list, "messages") == 0;
        json_object_del(body, is_messages ? "data" : "resource");
        target = is_messages ? json_pack("{s:i}", "data", 1)
                             : json_pack("{s:s}", "resource", "r");
        json_object_set_new(body, spot->list, json_pack("[o]", target));
    }
    if (spot->sub != NULL) {
        json_t *inner = json_pack("{s:s}", "key", "k");
        json_object_set_new(target, spot->sub, inner);
        target = inner;
    }
    /* The plural form replaces the single one. */
    if (spot->list == NULL && (spot->rule->flags & RK_RULE_ONE_OF) != 0) {
        for (uint32_t i = 0; i < spot->info->rule_count; i++)
            if ((spot->info->rules[i].flags & RK_RULE_ONE_OF) != 0)
                json_object_del(body, rk_field_info(spot->info->rules[i].field)->name);
    }
    json_object_set_new(target, name, value);
    return body;
}

static void expect_at(struct fixture *fixture, const struct spot *spot, json_t *value,
                      enum rk_status expected)
{
    char field[64];
    snprintf(field, sizeof(field), "%s%s%s%s%s", spot->list == NULL ? "" : spot->list,
             spot->list == NULL ? "" : "[0].", spot->sub == NULL ? "" : spot->sub,
             spot->sub == NULL ? "" : ".", rk_field_info(spot->rule->field)->name);
    expect(fixture, spot->info->op, body_with(spot, value), expected, field);
}

static void check_numbers(struct fixture *fixture, const struct spot *spot)
{
    const struct rk_field_rule *rule = spot->rule;
    int64_t min = (int64_t)rule->min, max = (int64_t)rule->max;
    expect_at(fixture, spot, json_integer(min), RK_OK);
    expect_at(fixture, spot, json_integer(max), RK_OK);
    if (min > INT64_MIN) expect_at(fixture, spot, json_integer(min - 1), RK_ERANGE);
    if (max < INT64_MAX) expect_at(fixture, spot, json_integer(max + 1), RK_ERANGE);
    if (max < INT64_MAX) expect_at(fixture, spot, json_integer(INT64_MAX), RK_ERANGE);
    if (min > INT64_MIN) expect_at(fixture, spot, json_integer(INT64_MIN), RK_ERANGE);
}

static void check_texts(struct fixture *fixture, const struct spot *spot)
{
    const struct rk_field_rule *rule = spot->rule;
    if (rk_field_info(rule->field)->words != NULL) {
        expect_at(fixture, spot, body_sample(rule), RK_OK);
        expect_at(fixture, spot, json_string("other"), RK_ERANGE);
        expect_at(fixture, spot, json_string(""), RK_ERANGE);
        return;
    }
    if (rule->min > 0) expect_at(fixture, spot, body_text(rule->min - 1), RK_ERANGE);
    expect_at(fixture, spot, body_text(rule->min), RK_OK);
    expect_at(fixture, spot, body_text(rule->max), RK_OK);
    expect_at(fixture, spot, body_text(rule->max + 1), RK_ERANGE);
    expect_at(fixture, spot, json_stringn("a\0b", 3), RK_EINVAL);
}

static json_t *list_of(const struct rk_field_rule *rule, size_t count)
{
    json_t *list = json_array();
    for (size_t i = 0; i < count; i++) {
        json_t *item;
        switch (rk_field_info(rule->field)->kind) {
        case RK_KIND_STRINGS: item = json_sprintf("%zu", i); break;
        case RK_KIND_MESSAGES: item = json_pack("{s:i}", "data", (int)i); break;
        default: item = json_pack("{s:o}", "resource", json_sprintf("%zu", i));
        }
        json_array_append_new(list, item);
    }
    return list;
}

static void check_lists(struct fixture *fixture, const struct spot *spot)
{
    expect_at(fixture, spot, list_of(spot->rule, 0), RK_ERANGE);
    expect_at(fixture, spot, list_of(spot->rule, 1), RK_OK);
    expect_at(fixture, spot, list_of(spot->rule, spot->rule->max), RK_OK);
    expect_at(fixture, spot, list_of(spot->rule, spot->rule->max + 1), RK_ERANGE);
    const char *name = rk_field_info(spot->rule->field)->name;
    if (rk_field_info(spot->rule->field)->kind != RK_KIND_STRINGS) return;
    char field[64];
    snprintf(field, sizeof(field), "%s[1]", name);
    enum rk_op op = spot->info->op;
    expect(fixture, op, body_with(spot, json_pack("[s,i]", "a", 1)), RK_EINVAL, field);
    expect(fixture, op, body_with(spot, json_pack("[s,s]", "a", "")), RK_ERANGE, field);
    expect(fixture, op,
           body_with(spot, json_pack("[s,o]", "a", body_text(RK_NAME_MAX + 1))), RK_ERANGE,
           field);
}

static void check_headers(struct fixture *fixture, const struct spot *spot)
{
    json_t *headers = json_object();
    for (int i = 0; i < RK_HEADERS_MAX; i++) {
        char name[8];
        snprintf(name, sizeof(name), "h%d", i);
        json_object_set_new(headers, name, json_string(""));
    }
    expect_at(fixture, spot, json_deep_copy(headers), RK_OK);
    json_object_set_new(headers, "more", json_string(""));
    expect_at(fixture, spot, headers, RK_ERANGE);
    expect_at(fixture, spot, json_pack("{s:o}", "h", body_text(RK_HEADER_VALUE_MAX)),
              RK_OK);
    expect_at(fixture, spot, json_pack("{s:o}", "h", body_text(RK_HEADER_VALUE_MAX + 1)),
              RK_ERANGE);
    expect_at(fixture, spot, json_pack("{s:s}", "", "v"), RK_ERANGE);
    expect_at(fixture, spot, json_pack("{s:i}", "h", 1), RK_EINVAL);
}

/* A string of n bytes has n + 2 in JSON and n + 5 in msgpack. */
static void check_values(struct fixture *fixture, const struct spot *spot)
{
    expect_at(fixture, spot, body_text(spot->rule->max - 5), RK_OK);
    expect_at(fixture, spot, body_text(spot->rule->max - 1), RK_ESIZE);
    expect_at(fixture, spot, json_null(), RK_OK);
}

static bool is_right_type(const struct rk_field_info *info, const json_t *json)
{
    switch (info->kind) {
    case RK_KIND_VALUE: return true;
    case RK_KIND_TEXT:
    case RK_KIND_WORD:
    case RK_KIND_POSITION: return json_is_string(json);
    case RK_KIND_BOOL: return json_is_boolean(json);
    case RK_KIND_STRINGS:
    case RK_KIND_MESSAGES:
    case RK_KIND_RESOURCES: return json_is_array(json);
    case RK_KIND_HEADERS:
    case RK_KIND_UNIQUE: return json_is_object(json);
    default: return json_is_integer(json);
    }
}

static void check_types(struct fixture *fixture, const struct spot *spot)
{
    json_t *values[] = {json_null(),    json_true(),      json_integer(1), json_real(1.5),
                        json_real(1.0), json_string("x"), json_array(),    json_object()};
    for (size_t i = 0; i < sizeof(values) / sizeof(values[0]); i++) {
        if (is_right_type(rk_field_info(spot->rule->field), values[i]))
            json_decref(values[i]);
        else
            expect_at(fixture, spot, values[i], RK_EINVAL);
    }
}

static void check_spot(struct fixture *fixture, const struct spot *spot)
{
    check_types(fixture, spot);
    switch (rk_field_info(spot->rule->field)->kind) {
    case RK_KIND_TEXT:
    case RK_KIND_WORD: check_texts(fixture, spot); return;
    case RK_KIND_STRINGS:
    case RK_KIND_MESSAGES:
    case RK_KIND_RESOURCES: check_lists(fixture, spot); return;
    case RK_KIND_HEADERS: check_headers(fixture, spot); return;
    case RK_KIND_VALUE: check_values(fixture, spot); return;
    case RK_KIND_BOOL:
        expect_at(fixture, spot, json_true(), RK_OK);
        expect_at(fixture, spot, json_false(), RK_OK);
        return;
    case RK_KIND_UNIQUE: expect_at(fixture, spot, body_sample(spot->rule), RK_OK); return;
    case RK_KIND_POSITION:
        expect_at(fixture, spot, json_string("0:"), RK_EINVAL);
        expect_at(fixture, spot, json_string("1f:"), RK_OK);
        return;
    default: check_numbers(fixture, spot);
    }
}

static void check_list(struct fixture *fixture, const struct rk_op_info *info,
                       struct rk_rules rules, const char *list, const char *sub)
{
    for (uint32_t i = 0; i < rules.count; i++)
        check_spot(fixture, &(struct spot){info, &rules.rules[i], list, sub});
}

static void test_fields_of_operations(void **state)
{
    struct fixture *fixture = *state;
    body_each_op(info)
    {
        expect(fixture, info->op, body_minimal(info), RK_OK, "");
        check_list(fixture, info, (struct rk_rules){info->rules, info->rule_count}, NULL,
                   NULL);
    }
    assert_true(fixture->checks > 3000);
}

static void test_fields_of_the_call(void **state)
{
    struct fixture *fixture = *state;
    check_list(fixture, rk_op_info(RK_OP_LOCK_INFO), rk_rules_call, NULL, NULL);
    check_list(fixture, rk_op_info(RK_OP_QUEUE_PUBLISH), rk_rules_call, NULL, NULL);
}

static void test_fields_of_items(void **state)
{
    struct fixture *fixture = *state;
    const struct rk_op_info *publish = rk_op_info(RK_OP_QUEUE_PUBLISH);
    check_list(fixture, publish, rk_rules_message, "messages", NULL);
    check_list(fixture, publish, rk_rules_unique, NULL, "unique");
    check_list(fixture, publish, rk_rules_unique, "messages", "unique");
    check_list(fixture, rk_op_info(RK_OP_LOCK_ACQUIRE), rk_rules_resource, "resources",
               NULL);
}

static void test_required_fields(void **state)
{
    struct fixture *fixture = *state;
    body_each_op(info)
    {
        for (uint32_t i = 0; i < info->rule_count; i++) {
            if ((info->rules[i].flags & RK_RULE_REQUIRED) == 0) continue;
            const char *name = rk_field_info(info->rules[i].field)->name;
            json_t *body = body_minimal(info);
            json_object_del(body, name);
            expect(fixture, info->op, body, RK_EINVAL, name);
        }
    }
    expect(fixture, RK_OP_QUEUE_ACK, json_object(), RK_EINVAL, "id");
    expect(fixture, RK_OP_QUEUE_PUBLISH, json_pack("{s:s}", "topic", "t"), RK_EINVAL,
           "data");
    expect(fixture, RK_OP_LOCK_ACQUIRE, json_pack("{s:s}", "owner", "o"), RK_EINVAL,
           "resource");
}

static void test_what_is_about_two_fields(void **state)
{
    struct fixture *fixture = *state;
    expect(fixture, RK_OP_QUEUE_ACK, json_pack("{s:s,s:[s]}", "id", "a", "ids", "b"),
           RK_EINVAL, "ids");
    expect(fixture, RK_OP_QUEUE_PUBLISH,
           json_pack("{s:s,s:i,s:[{s:i}]}", "topic", "t", "data", 1, "messages", "data", 2),
           RK_EINVAL, "data");
    expect(fixture, RK_OP_QUEUE_PUBLISH,
           json_pack("{s:s,s:i,s:[{s:i}]}", "topic", "t", "delay_ms", 1, "messages", "data",
                     2),
           RK_EINVAL, "delay_ms");
    expect(fixture, RK_OP_CACHE_PUT,
           json_pack("{s:s,s:i,s:i,s:i}", "k", "a", "v", 1, "ttl_ms", 5, "soft_ttl_ms", 6),
           RK_ERANGE, "soft_ttl_ms");
    expect(fixture, RK_OP_CACHE_DELETE,
           json_pack("{s:[s],s:i}", "keys", "a", "if_version", 6), RK_EINVAL, "if_version");
    expect(fixture, RK_OP_LOCK_ACQUIRE,
           json_pack("{s:s,s:[{s:s}],s:s}", "owner", "o", "resources", "resource", "r",
                     "mode", "shared"),
           RK_EINVAL, "mode");
    expect(fixture, RK_OP_LOCK_ACQUIRE,
           json_pack("{s:s,s:[{s:s},{s:s},{s:s}]}", "owner", "o", "resources", "resource",
                     "r", "resource", "q", "resource", "r"),
           RK_EINVAL, "resources[2].resource");
    expect(fixture, RK_OP_LOCK_ACQUIRE,
           json_pack("{s:s,s:s,s:i,s:i}", "owner", "o", "resource", "r", "min_hold_ms", 6,
                     "max_hold_ms", 5),
           RK_ERANGE, "max_hold_ms");
    expect(fixture, RK_OP_CACHE_PUT,
           json_pack("{s:s,s:s,s:i}", "k", "a", "key", "b", "v", 1), RK_EINVAL, "key");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_fields_of_operations, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_fields_of_the_call, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_fields_of_items, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_required_fields, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_what_is_about_two_fields, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
