/* body.h - bodies of requests for the tests of core/api, made from the table itself. */
#ifndef RK_TESTS_UNIT_API_BODY_H
#define RK_TESTS_UNIT_API_BODY_H

#include "api/table.h"
#include "base/alloc.h"
#include "base/arena.h"

#include <jansson.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

/* A value that the rule allows. */
json_t *body_sample(const struct rk_field_rule *rule);
/* What the operation must have, in the single form if it has two. */
json_t *body_minimal(const struct rk_op_info *info);
/* Everything that it may have, in the single or the plural form. */
json_t *body_full(const struct rk_op_info *info, bool is_plural);
/* n times 'x'. */
json_t *body_text(size_t size);

/* The tree in an encoding, in memory of the arena. */
struct rk_slice body_encode(const json_t *json, enum rk_encoding encoding,
                            struct rk_arena *arena);
enum rk_status body_decode(struct rk_request *out, enum rk_op op, struct rk_slice body,
                           enum rk_encoding encoding, struct rk_arena *arena,
                           struct rk_api_error *error);

/* The request as JSON text of the arena, NUL-terminated: equal texts, equal requests. */
const char *body_print(const struct rk_request *request, struct rk_arena *arena);
const char *body_hex(struct rk_slice bytes, struct rk_arena *arena);
struct rk_slice body_unhex(const char *hex, struct rk_arena *arena);

#define body_each_op(info)                                                                 \
    for (const struct rk_op_info *info = NULL, *const *unused = NULL; unused == NULL;      \
         unused = &info)                                                                   \
        for (int op_ = 0; op_ < RK_OP_MAX; op_++)                                          \
            if ((info = rk_op_info((enum rk_op)op_)) != NULL && !info->is_internal)
#endif
