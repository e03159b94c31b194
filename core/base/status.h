/* status.h - what a function that can fail returns.
 *
 * Codes are negative, fixed and listed in status.def, which also feeds problem
 * documents, RPC errors and the errors of the bindings. */
#ifndef RK_BASE_STATUS_H
#define RK_BASE_STATUS_H

#include <stdbool.h>
#include <stdint.h>

#define RK_MUST_CHECK __attribute__((warn_unused_result))

enum rk_status {
    RK_OK = 0,
#define RK_STATUS(name, code, wire, http, retryable, title) RK_##name = (code),
#include "base/status.def"
#undef RK_STATUS
};

struct rk_status_info {
    enum rk_status code;
    const char *name;  /* "EHELD" */
    const char *wire;  /* "held" */
    const char *title; /* "held" */
    uint16_t http;
    bool is_retryable;
};

/* The table's row; never NULL: RK_OK and unknown codes have rows of their own. */
const struct rk_status_info *rk_status_info(enum rk_status status);

/* The code with that wire name; RK_EPROTO if there is none. wire is NUL-terminated. */
enum rk_status rk_status_of_wire(const char *wire);

/* The wire name: a short form of rk_status_info(status)->wire. */
const char *rk_status_text(enum rk_status status);
#endif
