#include "base/status.h"

#include <string.h>

static const struct rk_status_info status_rows[] = {
#define RK_STATUS(name, code, wire, http, retryable, title)                                \
    {RK_##name, #name, wire, title, http, retryable},
#include "base/status.def"
#undef RK_STATUS
};

static const struct rk_status_info ok_row = {RK_OK, "OK", "ok", "ok", 200, false};

/* What a code that this build does not know looks like: an error, and not to be retried. */
static const struct rk_status_info unknown_row = {RK_EPROTO,        "?", "unknown_status",
                                                  "unknown status", 500, false};

enum { STATUS_ROW_COUNT = sizeof(status_rows) / sizeof(status_rows[0]) };

/* Codes run from -1 downwards without a hole, so a row's place follows from its code. */
#define RK_STATUS(name, code, wire, http, retryable, title)                                \
    _Static_assert((code) < 0 && -(code) <= STATUS_ROW_COUNT, "codes have no holes");
#include "base/status.def"
#undef RK_STATUS

const struct rk_status_info *rk_status_info(enum rk_status status)
{
    if (status == RK_OK) return &ok_row;
    if (status > 0 || status < -STATUS_ROW_COUNT) return &unknown_row;
    return &status_rows[-(int)status - 1];
}

enum rk_status rk_status_of_wire(const char *wire)
{
    if (strcmp(wire, ok_row.wire) == 0) return RK_OK;
    for (int i = 0; i < STATUS_ROW_COUNT; i++)
        if (strcmp(wire, status_rows[i].wire) == 0) return status_rows[i].code;
    return RK_EPROTO;
}

const char *rk_status_text(enum rk_status status)
{
    return rk_status_info(status)->wire;
}
