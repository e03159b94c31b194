/* sample_reply.h - replies with everything in them, for the tests of core/api. */
#ifndef RK_TESTS_UNIT_API_SAMPLE_REPLY_H
#define RK_TESTS_UNIT_API_SAMPLE_REPLY_H

#include "body.h"

/* Fills every field that the log form knows; arrays are static. */
void sample_reply_fill(struct rk_reply *out, enum rk_op op);

const char *sample_reply_json(const struct rk_reply *reply, struct rk_arena *arena);
struct rk_slice sample_reply_msgpack(const struct rk_reply *reply, struct rk_arena *arena);
#endif
