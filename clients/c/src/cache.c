/* cache.c - cache calls, and the general call by name. */
#include "internal.h"

#include <stdio.h>
#include <string.h>

#include "base/alloc.h"

struct rukun_value {
    struct rk_call *call; /* holds the bytes */
    struct rk_arena arena;
    struct rk_slice data;
    rukun_encoding encoding;
    uint64_t version;
    int is_stale;
};

struct rukun_text {
    size_t size;
    char data[];
};

void rukun_put_opts_init(rukun_put_opts *opts)
{
    if (opts == NULL) return;
    memset(opts, 0, sizeof(*opts));
    opts->struct_size = sizeof(*opts);
}

static enum rk_status begin(struct rk_request *request, enum rk_op op, rukun_client *client,
                            const char *cache, const char *key, rukun_error *err)
{
    enum rk_status status = rk_client_check(client, err);
    if (status != RK_OK) return status;
    if (key == NULL) return rk_error_set(err, RK_EINVAL, "key is NULL");
    memset(request, 0, sizeof(*request));
    request->op = op;
    request->forward = true;
    request->key = rk_slice_of_string(key);
    RK_SET(request, KEY);
    if (cache != NULL && cache[0] != '\0') {
        request->cache = rk_slice_of_string(cache);
        RK_SET(request, CACHE);
    }
    return RK_OK;
}

static enum rk_status put_opts_take(struct rk_request *request, const rukun_put_opts *opts,
                                    rukun_error *err)
{
    if (opts->struct_size != sizeof(*opts))
        return rk_error_set(err, RK_EINVAL, "opts: struct_size is %u, not %zu",
                            opts->struct_size, sizeof(*opts));
#define TAKE(member, NAME)                                                                 \
    if (opts->member != 0) {                                                               \
        request->member = opts->member;                                                    \
        RK_SET(request, NAME);                                                             \
    }
    TAKE(ttl_ms, TTL_MS)
    TAKE(soft_ttl_ms, SOFT_TTL_MS)
    TAKE(if_version, IF_VERSION)
    TAKE(fence, FENCE)
#undef TAKE
    if (opts->if_absent) {
        request->if_absent = true;
        RK_SET(request, IF_ABSENT);
    }
    if (opts->fence_name != NULL) {
        request->fence_name = rk_slice_of_string(opts->fence_name);
        RK_SET(request, FENCE_NAME);
    }
    return RK_OK;
}

rukun_status rukun_cache_put(rukun_client *client, const char *cache, const char *key,
                             const rukun_message *value, const rukun_put_opts *opts,
                             uint64_t *version, rukun_error *err)
{
    struct rk_request request;
    enum rk_status status = begin(&request, RK_OP_CACHE_PUT, client, cache, key, err);
    if (status != RK_OK) return (rukun_status)status;
    if (value == NULL || (value->data == NULL && value->size != 0))
        return (rukun_status)rk_error_set(err, RK_EINVAL, "value is NULL");
    if (value->encoding < RUKUN_JSON || value->encoding > RUKUN_RAW)
        return (rukun_status)rk_error_set(err, RK_ERANGE, "encoding: %d is not in 1..3",
                                          (int)value->encoding);
    request.value.bytes = rk_slice_of(value->data, value->size);
    request.value.encoding = (uint8_t)value->encoding;
    RK_SET(&request, VALUE);
    if (opts != NULL) status = put_opts_take(&request, opts, err);
    if (status != RK_OK) return (rukun_status)status;
    struct rk_arena arena;
    rk_arena_init(&arena);
    struct rk_reply reply;
    struct rk_call *call = NULL;
    status = rk_call_run(&call, client, &request, 0, &arena, &reply, err);
    if (status == RK_OK && version != NULL) *version = reply.version;
    rk_call_free(call);
    rk_arena_fini(&arena);
    return (rukun_status)status;
}

rukun_status rukun_cache_get(rukun_value **out, rukun_client *client, const char *cache,
                             const char *key, rukun_error *err)
{
    if (out == NULL) return (rukun_status)rk_error_set(err, RK_EINVAL, "out is NULL");
    *out = NULL;
    struct rk_request request;
    enum rk_status status = begin(&request, RK_OP_CACHE_GET, client, cache, key, err);
    if (status != RK_OK) return (rukun_status)status;
    request.keys.items = &request.key;
    request.keys.count = 1;
    struct rk_arena arena;
    rk_arena_init(&arena);
    struct rk_reply reply;
    struct rk_call *call = NULL;
    status = rk_call_run(&call, client, &request, 0, &arena, &reply, err);
    if (status == RK_OK && reply.found)
        status = rk_call_value(client, &reply.value, &arena);
    if (status == RK_OK && reply.found) {
        rukun_value *value = rk_calloc(1, sizeof(*value));
        if (value == NULL) {
            status = rk_error_set(err, RK_ENOMEM, "out of memory");
        } else {
            value->call = call;
            call = NULL;
            value->arena = arena; /* moved */
            rk_arena_init(&arena);
            value->data = reply.value.bytes;
            value->encoding = (rukun_encoding)reply.value.encoding;
            value->version = reply.version;
            value->is_stale = reply.stale;
            *out = value;
        }
    }
    rk_call_free(call);
    rk_arena_fini(&arena);
    return (rukun_status)status;
}

const void *rukun_value_data(const rukun_value *value, size_t *size)
{
    if (size != NULL) *size = value != NULL ? value->data.size : 0;
    return value != NULL && value->data.data != NULL ? (const void *)value->data.data : "";
}

rukun_encoding rukun_value_encoding(const rukun_value *value)
{
    return value != NULL ? value->encoding : RUKUN_RAW;
}

uint64_t rukun_value_version(const rukun_value *value)
{
    return value != NULL ? value->version : 0;
}

int rukun_value_is_stale(const rukun_value *value)
{
    return value != NULL && value->is_stale;
}

void rukun_value_free(rukun_value *value)
{
    if (value == NULL) return;
    rk_call_free(value->call);
    rk_arena_fini(&value->arena);
    rk_free(value);
}

rukun_status rukun_cache_delete(rukun_client *client, const char *cache, const char *key,
                                uint64_t if_version, int *deleted, rukun_error *err)
{
    struct rk_request request;
    enum rk_status status = begin(&request, RK_OP_CACHE_DELETE, client, cache, key, err);
    if (status != RK_OK) return (rukun_status)status;
    request.keys.items = &request.key;
    request.keys.count = 1;
    if (if_version != 0) {
        request.if_version = if_version;
        RK_SET(&request, IF_VERSION);
    }
    struct rk_arena arena;
    rk_arena_init(&arena);
    struct rk_reply reply;
    struct rk_call *call = NULL;
    status = rk_call_run(&call, client, &request, 0, &arena, &reply, err);
    if (status == RK_OK && deleted != NULL) *deleted = reply.deleted;
    rk_call_free(call);
    rk_arena_fini(&arena);
    return (rukun_status)status;
}

rukun_status rukun_cache_add(rukun_client *client, const char *cache, const char *key,
                             int64_t delta, int64_t initial, uint64_t ttl_ms,
                             int64_t *value, rukun_error *err)
{
    struct rk_request request;
    enum rk_status status = begin(&request, RK_OP_CACHE_ADD, client, cache, key, err);
    if (status != RK_OK) return (rukun_status)status;
    request.delta = delta;
    RK_SET(&request, DELTA);
    request.initial = initial;
    RK_SET(&request, INITIAL);
    if (ttl_ms != 0) {
        request.ttl_ms = ttl_ms;
        RK_SET(&request, TTL_MS);
    }
    struct rk_arena arena;
    rk_arena_init(&arena);
    struct rk_reply reply;
    struct rk_call *call = NULL;
    status = rk_call_run(&call, client, &request, 0, &arena, &reply, err);
    if (status == RK_OK && value != NULL) *value = reply.number_value;
    rk_call_free(call);
    rk_arena_fini(&arena);
    return (rukun_status)status;
}

/* --- the general call */

static enum rk_status text_new(rukun_text **out, struct rk_slice slice)
{
    rukun_text *text = rk_malloc(sizeof(*text) + slice.size + 1);
    if (text == NULL) return RK_ENOMEM;
    memcpy(text->data, slice.data, slice.size);
    text->data[slice.size] = '\0';
    text->size = slice.size;
    *out = text;
    return RK_OK;
}

static uint64_t wait_of(const struct rk_request *request)
{
    return request->wait_ms < RK_DEADLINE_MAX_MS ? request->wait_ms : RK_DEADLINE_MAX_MS;
}

rukun_status rukun_call(rukun_text **out, rukun_client *client, const char *operation,
                        const char *json, rukun_error *err)
{
    if (out == NULL) return (rukun_status)rk_error_set(err, RK_EINVAL, "out is NULL");
    *out = NULL;
    enum rk_status status = rk_client_check(client, err);
    if (status != RK_OK) return (rukun_status)status;
    if (operation == NULL || json == NULL)
        return (rukun_status)rk_error_set(err, RK_EINVAL, "operation or request is NULL");
    const struct rk_op_info *info = rk_op_by_name(rk_slice_of_string(operation));
    if (info == NULL || info->is_internal)
        return (rukun_status)rk_error_set(err, RK_ENOENT, "operation: there is no %.80s",
                                          operation);
    struct rk_arena arena;
    rk_arena_init(&arena);
    struct rk_request request;
    struct rk_api_error problem;
    memset(&problem, 0, sizeof(problem));
    struct rk_call *call = NULL;
    struct rk_buf text;
    rk_buf_init(&text);
    status = rk_request_from_json(&request, info->op, rk_slice_of_string(json), &arena,
                                  &problem);
    if (status != RK_OK) {
        problem.status = status;
        (void)rk_error_of_api(err, &problem);
        goto done;
    }
    struct rk_reply reply;
    status = rk_call_run(&call, client, &request, wait_of(&request), &arena, &reply, err);
    if (status != RK_OK) goto done;
    status = rk_reply_to_json(&text, &reply, &arena);
    if (status == RK_OK) status = rk_buf_check(&text);
    if (status == RK_OK) status = text_new(out, rk_buf_slice(&text));
    if (status != RK_OK)
        (void)rk_error_set(err, status, "the answer cannot be written as JSON");

done:
    rk_buf_fini(&text);
    rk_call_free(call);
    rk_arena_fini(&arena);
    return (rukun_status)status;
}

const char *rukun_text_data(const rukun_text *text)
{
    return text != NULL ? text->data : "";
}

size_t rukun_text_size(const rukun_text *text)
{
    return text != NULL ? text->size : 0;
}

void rukun_text_free(rukun_text *text)
{
    rk_free(text);
}

rukun_status rukun_client_cluster(rukun_text **out, rukun_client *client, rukun_error *err)
{
    return rukun_call(out, client, "cluster.info", "{}", err);
}
