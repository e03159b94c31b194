/* names.h - users' names as parts of Redis keys: %, :, { and } are %-escaped, so that a key
 * can be read and taken apart again, and its hash tag is the name and nothing else. */
#ifndef RK_REDIS_NAMES_H
#define RK_REDIS_NAMES_H

#include "base/bytes.h"

void rk_redis_name_escape(struct rk_buf *out, struct rk_slice name);
/* RK_EINVAL: not what escape makes; out is as it was. */
RK_MUST_CHECK enum rk_status rk_redis_name_unescape(struct rk_buf *out,
                                                    struct rk_slice text);
/* The same for the pattern of SCAN MATCH: *, ?, [, ] and \ stand for themselves too. */
void rk_redis_name_pattern(struct rk_buf *out, struct rk_slice name);
/* Appends the key of a cache's entry; an empty cache is the default one. */
void rk_redis_cache_key(struct rk_buf *out, const char *prefix, struct rk_slice cache,
                        struct rk_slice key);
#endif
