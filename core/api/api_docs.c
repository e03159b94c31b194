/* rk_api_docs - prints what is generated from the table of operations: openapi, yaml,
 * reference or engines. docs/api_spec.yaml, docs/api-reference.md and docs/engines.md are
 * its output. */
#include "api/api.h"

#include <stdio.h>

static int fail(const char *text)
{
    fprintf(stderr, "rk_api_docs: %s\n", text);
    return 1;
}

int main(int argc, char **argv)
{
    static const struct {
        const char *name;
        void (*print)(struct rk_buf *out);
    } documents[] = {
        {"openapi", rk_api_print_openapi},
        {"yaml", rk_api_print_yaml},
        {"reference", rk_api_print_reference},
        {"engines", rk_api_print_engines},
    };
    for (size_t i = 0; argc == 2 && i < sizeof(documents) / sizeof(documents[0]); i++) {
        if (strcmp(argv[1], documents[i].name) != 0) continue;
        struct rk_buf out;
        rk_buf_init(&out);
        documents[i].print(&out);
        bool is_whole = rk_buf_check(&out) == RK_OK &&
                        fwrite(out.data, 1, out.size, stdout) == out.size &&
                        fflush(stdout) == 0;
        rk_buf_fini(&out);
        return is_whole ? 0 : fail("not written");
    }
    return fail("usage: rk_api_docs openapi|yaml|reference|engines");
}
