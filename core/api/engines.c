#include "api/api.h"

struct refusal {
    enum rk_op op;
    enum rk_field field;
    uint64_t bit;
    const char *why;
};

struct difference {
    enum rk_op op;
    const char *how;
};

static const struct refusal refusals[] = {
#define RK_REDIS_REFUSES(op, field, why)                                                   \
    {RK_OP_##op, RK_FIELD_##field, RK_FIELD_BIT_##field, why},
#include "api/engines.def"
};

static const struct difference differences[] = {
#define RK_REDIS_DIFFERS(op, how) {RK_OP_##op, how},
#include "api/engines.def"
};

enum {
    REFUSALS = sizeof(refusals) / sizeof(refusals[0]),
    DIFFERENCES = sizeof(differences) / sizeof(differences[0]),
};

const char *rk_redis_refusal(const struct rk_request *request, const char **field)
{
    for (size_t i = 0; i < REFUSALS; i++) {
        if (refusals[i].op != request->op || (request->present & refusals[i].bit) == 0)
            continue;
        *field = rk_field_info(refusals[i].field)->name;
        return refusals[i].why;
    }
    return NULL;
}

static void print_operation(struct rk_buf *out, const struct rk_op_info *info)
{
    const char *comma = "";
    rk_buf_printf(out, "| `%s` | yes | yes | ", info->name);
    for (size_t i = 0; i < DIFFERENCES; i++) {
        if (differences[i].op != info->op) continue;
        rk_buf_printf(out, "%s%s", comma, differences[i].how);
        comma = "; ";
    }
    for (size_t i = 0; i < REFUSALS; i++) {
        if (refusals[i].op != info->op) continue;
        rk_buf_printf(out, "%s`%s` is refused: %s", comma,
                      rk_field_info(refusals[i].field)->name, refusals[i].why);
        comma = "; ";
    }
    rk_buf_append_string(out, " |\n");
}

void rk_api_print_engines(struct rk_buf *out)
{
    rk_buf_append_string(
        out,
        "# What the engines offer\n\n"
        "Generated from the table of operations by `rk_api_docs`.\n\n"
        "The same calls with the same meaning, whether the state is in the nodes' "
        "replicated log or in Redis. What the redis engine does not hold it refuses as "
        "`unsupported`, naming the field. What an answered call is worth differs: the "
        "embedded engine has it on a majority of disks, the redis engine has what Redis "
        "keeps (see [redis.md](redis.md)).\n\n"
        "| call | embedded | redis | with redis |\n|---|---|---|---|\n");
    for (int op = 0; op < RK_OP_MAX; op++) {
        const struct rk_op_info *info = rk_op_info((enum rk_op)op);
        if (info != NULL && !info->is_internal) print_operation(out, info);
    }
}
