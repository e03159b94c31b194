/* What is in docs/ is what the table prints; `rk_api_docs yaml`, `reference` and
 * `engines` make it anew. */
#include "body.h"

static void compare(const char *name, void (*print)(struct rk_buf *out))
{
    char path[512];
    snprintf(path, sizeof(path), "%s/%s", RK_DOCS_DIR, name);
    FILE *file = fopen(path, "rb");
    if (file == NULL) fail_msg("%s is missing", path);
    struct rk_buf stored, made;
    rk_buf_init(&stored);
    rk_buf_init(&made);
    char part[4096];
    for (size_t size; (size = fread(part, 1, sizeof(part), file)) > 0;)
        rk_buf_append(&stored, part, size);
    fclose(file);
    print(&made);
    assert_int_equal(rk_buf_check(&made), RK_OK);
    if (!rk_slice_is_equal(rk_buf_slice(&stored), rk_buf_slice(&made)))
        fail_msg("%s is not what rk_api_docs prints", name);
    rk_buf_fini(&stored);
    rk_buf_fini(&made);
}

static void test_the_stored_documents_are_current(void **state)
{
    (void)state;
    compare("api_spec.yaml", rk_api_print_yaml);
    compare("api-reference.md", rk_api_print_reference);
    compare("engines.md", rk_api_print_engines);
}

static void test_openapi_refers_to_what_it_holds(void **state)
{
    (void)state;
    struct rk_buf out;
    rk_buf_init(&out);
    rk_api_print_openapi(&out);
    json_t *root =
        json_loadb((const char *)out.data, out.size, JSON_REJECT_DUPLICATES, NULL);
    assert_non_null(root);
    const json_t *schemas = json_object_get(json_object_get(root, "components"), "schemas");
    body_each_op(info)
    {
        assert_non_null(json_object_get(json_object_get(root, "paths"), info->path));
        assert_non_null(json_object_get(schemas, info->name));
    }
    const char *at = (const char *)out.data;
    rk_buf_u8(&out, 0);
    at = (const char *)out.data;
    static const char begin[] = "\"$ref\":\"#/components/";
    while ((at = strstr(at, begin)) != NULL) {
        at += sizeof(begin) - 1;
        const char *slash = strchr(at, '/'), *quote = strchr(at, '"');
        assert_true(slash != NULL && quote != NULL && slash < quote);
        char kind[32] = "", name[64] = "";
        assert_true(slash - at < 32 && quote - slash < 64);
        memcpy(kind, at, (size_t)(slash - at));
        memcpy(name, slash + 1, (size_t)(quote - slash - 1));
        const json_t *list = json_object_get(json_object_get(root, "components"), kind);
        if (json_object_get(list, name) == NULL) fail_msg("%s/%s", kind, name);
    }
    json_decref(root);
    rk_buf_fini(&out);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_the_stored_documents_are_current),
        cmocka_unit_test(test_openapi_refers_to_what_it_holds),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
