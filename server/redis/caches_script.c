/* What the scripts of cache.* are given, and what they answer. */
#include "redis/caches_internal.h"
#include "redis/names.h"

#include <inttypes.h>

/* --- names --------------------------------------------------------------------------- */

struct rk_slice rk_cache_call_cache(const struct rk_cache_call *call)
{
    struct rk_slice cache = call->request.cache;
    return rk_slice_is_equal(cache, RK_SLICE_LITERAL("default")) ? RK_SLICE_EMPTY : cache;
}

struct rk_slice rk_caches_key(struct rk_redis_caches *caches, uint32_t at,
                              struct rk_slice cache, struct rk_slice key,
                              const char *suffix)
{
    struct rk_buf *out = &caches->keys[at];
    rk_buf_reset(out);
    rk_redis_cache_key(out, caches->prefix, cache, key);
    rk_buf_append_string(out, suffix);
    return rk_buf_slice(out);
}

struct rk_slice rk_caches_request_key(const struct rk_cache_call *call, uint32_t at,
                                      struct rk_slice key)
{
    struct rk_redis_caches *caches = call->caches;
    struct rk_buf *out = &caches->keys[at];
    (void)rk_caches_key(caches, at, rk_cache_call_cache(call), key, ":request:");
    rk_redis_name_escape(out, call->client);
    rk_buf_printf(out, "/%" PRIu64, call->seq);
    return rk_buf_slice(out);
}

uint64_t rk_cache_call_keep_ms(const struct rk_cache_call *call)
{
    return call->client.size != 0 ? RK_CACHES_KEEP_MS : 0;
}

/* A JSON text: names are UTF-8 without NUL. */
static void json_text(struct rk_buf *out, struct rk_slice text)
{
    rk_buf_u8(out, '"');
    for (size_t i = 0; i < text.size; i++) {
        uint8_t byte = text.data[i];
        if (byte == '"' || byte == '\\')
            rk_buf_printf(out, "\\%c", byte);
        else if (byte < 0x20)
            rk_buf_printf(out, "\\u%04x", byte);
        else
            rk_buf_u8(out, byte);
    }
    rk_buf_u8(out, '"');
}

struct rk_slice rk_caches_message(struct rk_redis_caches *caches, struct rk_slice cache,
                                  struct rk_slice key)
{
    struct rk_buf *out = &caches->text;
    rk_buf_reset(out);
    rk_buf_append_string(out, "{\"op\":\"invalidate\",\"key\":");
    json_text(out, key);
    if (cache.size != 0) {
        rk_buf_append_string(out, ",\"cache\":");
        json_text(out, cache);
    }
    rk_buf_append_string(out, ",\"version\":");
    return rk_buf_slice(out);
}

/* --- answers of scripts -------------------------------------------------------------- */

static const struct redisReply *item_of(const struct redisReply *reply, size_t at)
{
    if (reply->type != REDIS_REPLY_ARRAY || at >= reply->elements) return NULL;
    return reply->element[at];
}

uint64_t rk_cache_reply_number(const struct redisReply *reply, size_t at)
{
    const struct redisReply *item = item_of(reply, at);
    if (item == NULL || item->type != REDIS_REPLY_INTEGER || item->integer < 0) return 0;
    return (uint64_t)item->integer;
}

struct rk_slice rk_cache_reply_text(const struct redisReply *reply, size_t at)
{
    const struct redisReply *item = item_of(reply, at);
    if (item == NULL || item->str == NULL) return RK_SLICE_EMPTY;
    return rk_slice_of(item->str, item->len);
}

bool rk_cache_reply_is(const struct redisReply *reply, const char *word)
{
    return rk_slice_is_equal(rk_cache_reply_text(reply, 0), rk_slice_of_string(word));
}
