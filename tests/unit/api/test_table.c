#include "body.h"

#include "api/schema.h"

static void test_every_operation_is_found(void **state)
{
    (void)state;
    int count = 0;
    body_each_op(info)
    {
        count++;
        assert_ptr_equal(rk_op_by_name(rk_slice_of_string(info->name)), info);
        assert_ptr_equal(rk_op_by_path(rk_slice_of_string(info->path)), info);
        char path[64];
        snprintf(path, sizeof(path), "/v1%s", info->path);
        assert_ptr_equal(rk_op_by_path(rk_slice_of_string(path)), info);
        assert_true(info->name[info->area_size] == '.');
        assert_int_equal(strlen(info->name), info->name_size);
    }
    assert_int_equal(count, 42);
}

static void test_nothing_else_is_found(void **state)
{
    (void)state;
    static const char *const names[] = {"",
                                        "lock",
                                        "lock.",
                                        "lock.acquired",
                                        "lock/acquire",
                                        "internal.due",
                                        "zzz.a",
                                        "cache.acquire",
                                        "call.cancel",
                                        "lock.acquir",
                                        "lock.acquirE"};
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
        assert_null(rk_op_by_name(rk_slice_of_string(names[i])));
    static const char *const paths[] = {"",
                                        "/",
                                        "/v1/",
                                        "/v1",
                                        "/lock",
                                        "/lock/",
                                        "lock/acquire",
                                        "/lock.acquire",
                                        "/v2/lock/acquire",
                                        "/internal/touch",
                                        "/lock/acquire/"};
    for (size_t i = 0; i < sizeof(paths) / sizeof(paths[0]); i++)
        assert_null(rk_op_by_path(rk_slice_of_string(paths[i])));
    assert_null(rk_op_info(RK_OP_NONE));
    assert_null(rk_op_info(RK_OP_MAX));
    assert_null(rk_field_info(RK_FIELD_END));
}

/* Numbers stand in logs: they never move. */
static void test_field_numbers_are_fixed(void **state)
{
    (void)state;
    assert_int_equal(RK_FIELD_RESOURCE, 0);
    assert_int_equal(RK_FIELD_MESSAGES, 8);
    assert_int_equal(RK_FIELD_IF_VERSION, 21);
    assert_int_equal(RK_FIELD_BYTES_MAX, 57);
    assert_true(RK_FIELD_BIT_BYTES_MAX == UINT64_C(1) << 57);
}

static void check_rules(const struct rk_field_rule *rules, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        const struct rk_field_info *info = rk_field_info(rules[i].field);
        assert_non_null(info);
        assert_true(strlen(info->name) <= 24); /* the bound of the suggestions */
        assert_int_equal(strlen(info->name), info->name_size);
        assert_true(strlen(info->doc) > 6);
        assert_true(rules[i].field == rk_field_info(rules[i].field)->field);
        if (info->kind == RK_KIND_U64) assert_true(rules[i].min <= rules[i].max);
        for (uint32_t j = 0; j < i; j++)
            assert_string_not_equal(info->name, rk_field_info(rules[j].field)->name);
    }
}

static void test_rules_are_sound(void **state)
{
    (void)state;
    body_each_op(info)
    {
        check_rules(info->rules, info->rule_count);
        assert_true(info->rule_count + rk_rules_call.count <= 64); /* one bit each */
    }
    check_rules(rk_rules_call.rules, rk_rules_call.count);
    check_rules(rk_rules_message.rules, rk_rules_message.count);
    check_rules(rk_rules_resource.rules, rk_rules_resource.count);
    check_rules(rk_rules_unique.rules, rk_rules_unique.count);
}

static void check_shape(const struct rk_shape *shape)
{
    for (uint32_t i = 0; i < shape->count; i++) {
        const struct rk_part *part = &shape->parts[i];
        if (part->shape != NULL) check_shape(part->shape);
        if (part->name_size == 0) continue;
        if (rk_part_doc(part->name) == NULL) fail_msg("%s is not written down", part->name);
    }
}

static void test_every_part_is_written_down(void **state)
{
    (void)state;
    body_each_op(info)
    {
        assert_true(rk_reply_shape(info->op)->count > 0);
        check_shape(rk_reply_shape(info->op));
    }
    assert_true(rk_shape_reply_log.count <= 64); /* one bit each */
}

static void test_writes_and_groups(void **state)
{
    (void)state;
    assert_true(rk_op_info(RK_OP_LOCK_ACQUIRE)->is_write);
    assert_true(rk_op_info(RK_OP_LOCK_ACQUIRE)->grows);
    assert_false(rk_op_info(RK_OP_LOCK_RELEASE)->grows);
    assert_false(rk_op_info(RK_OP_QUEUE_ACK)->grows);
    assert_false(rk_op_info(RK_OP_CACHE_DELETE)->grows);
    assert_false(rk_op_info(RK_OP_SESSION_KEEPALIVE)->is_write);
    assert_true(rk_op_info(RK_OP_DUE)->is_internal);
    struct rk_request request;
    rk_request_init(&request, RK_OP_QUEUE_STATS);
    assert_int_equal(rk_request_group(&request), RK_GROUP_ALL);
    request.topic = RK_SLICE_LITERAL("t");
    assert_int_equal(rk_request_group(&request), RK_GROUP_TOPIC);
    rk_request_init(&request, RK_OP_CACHE_PUT);
    assert_int_equal(rk_request_group(&request), RK_GROUP_KEY);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_operation_is_found),
        cmocka_unit_test(test_nothing_else_is_found),
        cmocka_unit_test(test_field_numbers_are_fixed),
        cmocka_unit_test(test_rules_are_sound),
        cmocka_unit_test(test_every_part_is_written_down),
        cmocka_unit_test(test_writes_and_groups),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
