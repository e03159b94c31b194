#include "redis/caches_internal.h"
#include "redis/names.h"

#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>

/* The channel of invalidations. Pub/sub loses what is sent while the connection is down, so
 * every node sends a tick there each half second; who does not hear its own has no copies
 * until it does again. */

enum { SETTINGS_MAX = 4096 };

/* --- settings ------------------------------------------------------------------------ */

static void settings_clear(struct rk_redis_caches *caches)
{
    struct rk_map_cursor cursor;
    rk_map_each (node, &caches->settings, &cursor)
        rk_free(RK_CONTAINER(node, struct rk_cache_setting, node));
    rk_map_fini(&caches->settings);
    rk_map_init(&caches->settings);
}

static enum rk_status setting_add(struct rk_redis_caches *caches, struct rk_slice name,
                                  struct rk_slice ttl)
{
    char text[24] = "";
    struct rk_cache_setting *setting = rk_calloc(1, sizeof(*setting) + name.size);
    if (setting == NULL) return RK_ENOMEM;
    if (ttl.size < sizeof(text)) memcpy(text, ttl.data, ttl.size);
    setting->ttl_ms = strtoull(text, NULL, 10);
    memcpy(setting->name, name.data, name.size);
    setting->node.key = rk_slice_of(setting->name, name.size);
    enum rk_status status = rk_map_insert(&caches->settings, &setting->node);
    if (status != RK_OK) rk_free(setting);
    return status == RK_EEXIST ? RK_OK : status;
}

static enum rk_status settings_take(struct rk_redis_caches *caches,
                                    const struct redisReply *reply)
{
    enum rk_status status = RK_OK;
    settings_clear(caches);
    if (reply->type != REDIS_REPLY_ARRAY) return RK_EPROTO;
    for (size_t i = 0; i + 1 < reply->elements && status == RK_OK; i += 2)
        if (rk_cache_reply_text(reply, i).size != 0)
            status = setting_add(caches, rk_cache_reply_text(reply, i),
                                 rk_cache_reply_text(reply, i + 1));
    return status;
}

static void on_settings(void *context, const struct rk_redis_result *result)
{
    struct rk_redis_caches *caches = context;
    caches->settings_id = 0;
    if (result->status != RK_OK || settings_take(caches, result->reply) != RK_OK) {
        caches->settings_ms = rk_redis_caches_now() + RK_CACHES_TICK_MS;
        return;
    }
    caches->has_settings = true;
    rk_caches_start_ready(caches);
}

static void settings_ask(struct rk_redis_caches *caches, uint64_t now_ms)
{
    const struct rk_slice args[] = {RK_SLICE_LITERAL("HGETALL"),
                                    rk_slice_of_string(caches->settings_key)};
    struct rk_redis_command command = {
        .args = args,
        .arg_count = 2,
        .key = args[1],
        .ask = {.done = on_settings,
                .context = caches,
                .deadline_ms = RK_CACHES_SETTINGS_MS,
                .may_repeat = true},
    };
    caches->settings_id = rk_redis_send(caches->redis, &command);
    caches->settings_ms = now_ms + RK_CACHES_SETTINGS_MS;
}

uint64_t rk_caches_setting_ttl(const struct rk_redis_caches *caches, struct rk_slice cache)
{
    if (cache.size == 0) cache = RK_SLICE_LITERAL("default");
    struct rk_map_node *node = rk_map_find(&caches->settings, cache);
    return node != NULL ? RK_CONTAINER(node, struct rk_cache_setting, node)->ttl_ms : 0;
}

static void publish(struct rk_redis_caches *caches, struct rk_slice message)
{
    const struct rk_slice args[] = {RK_SLICE_LITERAL("PUBLISH"),
                                    rk_slice_of_string(caches->channel), message};
    struct rk_redis_command command = {
        .args = args, .arg_count = 3, .ask = {.deadline_ms = RK_CACHES_TICK_MS}};
    (void)rk_redis_send(caches->redis, &command);
}

/* --- cache.configure ----------------------------------------------------------------- */

static void on_configured(void *context, const struct rk_redis_result *result)
{
    struct rk_cache_part *part = context;
    struct rk_cache_call *call = part->call;
    struct rk_redis_caches *caches = call->caches;
    struct rk_slice name = rk_cache_call_cache(call);
    (void)rk_cache_part_done(part, result);
    if (result->status == RK_OK) {
        struct rk_map_node *node;
        char text[24];
        if (name.size == 0) name = RK_SLICE_LITERAL("default");
        node = rk_map_find(&caches->settings, name);
        if (node != NULL) {
            RK_CONTAINER(node, struct rk_cache_setting, node)->ttl_ms =
                call->request.ttl_ms;
        } else {
            int size = snprintf(text, sizeof(text), "%" PRIu64, call->request.ttl_ms);
            (void)setting_add(caches, name, rk_slice_of(text, (size_t)size));
        }
        publish(caches, RK_SLICE_LITERAL("{\"op\":\"configure\"}"));
    }
    rk_cache_call_check(call);
}

/* What bounds memory is Redis's own maxmemory: only the default life is a setting here. */
static bool is_offered(struct rk_cache_call *call)
{
    const struct rk_request *request = &call->request;
    const char *field = RK_HAS(request, BYTES_MAX) ? "bytes_max"
                        : RK_HAS(request, POLICY)  ? "policy"
                                                   : NULL;
    if (field == NULL) return true;
    rk_cache_call_fail(call, RK_EUNSUPPORTED, field,
                       "%s: the redis engine does not evict; Redis's maxmemory bounds it",
                       field);
    return false;
}

static void configure_send(struct rk_cache_call *call)
{
    struct rk_redis_caches *caches = call->caches;
    struct rk_cache_part *part = &call->parts[0];
    struct rk_slice name = rk_cache_call_cache(call);
    char ttl[24];
    uint64_t now = rk_redis_caches_now();
    int size = snprintf(ttl, sizeof(ttl), "%" PRIu64, call->request.ttl_ms);
    const struct rk_slice args[] = {
        RK_SLICE_LITERAL("HSET"),
        rk_slice_of_string(caches->settings_key),
        name.size != 0 ? name : RK_SLICE_LITERAL("default"),
        rk_slice_of(ttl, (size_t)size),
    };
    struct rk_redis_command command = {
        .args = args,
        .arg_count = 4,
        .key = args[1],
        .ask = {.done = on_configured,
                .context = part,
                .deadline_ms =
                    call->deadline_ms > now ? (uint32_t)(call->deadline_ms - now) : 1,
                .may_repeat = true,
                .wait_replicas = caches->wait},
    };
    part->eval = rk_redis_send(caches->redis, &command);
    if (part->eval == 0)
        rk_cache_call_fail(call, RK_EBUSY, NULL, "too many Redis commands are under way");
    else
        call->open_count++;
}

void rk_cache_configure_start(struct rk_cache_call *call)
{
    if (is_offered(call) && RK_HAS(&call->request, TTL_MS)) configure_send(call);
    rk_cache_call_check(call);
}

/* --- the channel --------------------------------------------------------------------- */

static struct rk_slice text_of(const json_t *object, const char *name)
{
    const json_t *text = json_object_get(object, name);
    if (!json_is_string(text)) return RK_SLICE_EMPTY;
    return rk_slice_of(json_string_value(text), json_string_length(text));
}

static bool is_word(const json_t *object, const char *name, const char *word)
{
    return rk_slice_is_equal(text_of(object, name), rk_slice_of_string(word));
}

static void on_invalidation(struct rk_redis_caches *caches, const json_t *message)
{
    struct rk_slice key = text_of(message, "key");
    struct rk_slice cache = text_of(message, "cache");
    const json_t *version = json_object_get(message, "version");
    if (key.size == 0) return;
    /* Without a version: whoever wrote it by hand means all of them. */
    rk_lru_invalidate(&caches->lru, cache, key,
                      json_is_integer(version) ? (uint64_t)json_integer_value(version)
                                               : UINT64_MAX);
    rk_caches_wake(caches, cache, key);
}

static void on_message(void *context, struct rk_slice payload)
{
    struct rk_redis_caches *caches = context;
    json_t *message =
        json_loadb((const char *)payload.data, payload.size, JSON_REJECT_DUPLICATES, NULL);
    if (is_word(message, "op", "invalidate")) {
        on_invalidation(caches, message);
    } else if (is_word(message, "op", "configure")) {
        caches->settings_ms = 0;
        rk_caches_timer_set(caches);
    } else if (is_word(message, "op", "tick") && is_word(message, "node", caches->node)) {
        caches->heard_ms = rk_redis_caches_now();
        caches->is_live = caches->bus.is_up;
    }
    json_decref(message);
}

static void go_silent(struct rk_redis_caches *caches)
{
    if (caches->is_live) caches->silences++;
    caches->is_live = false;
    rk_lru_empty(&caches->lru);
}

static void on_bus(void *context, bool is_up)
{
    struct rk_redis_caches *caches = context;
    /* What was published while it was down was not heard. */
    go_silent(caches);
    if (!is_up) return;
    caches->tick_ms = 0;
    caches->settings_ms = 0;
    rk_caches_timer_set(caches);
}

void rk_caches_bus_run(struct rk_redis_caches *caches, uint64_t now_ms)
{
    if (caches->is_live && now_ms >= caches->heard_ms + RK_CACHES_SILENT_MS) {
        caches->io.log(caches->io.context, RK_REDIS_WARN,
                       "invalidations are not heard: caches are read from Redis");
        go_silent(caches);
    }
    if (now_ms < caches->tick_ms && now_ms < caches->settings_ms) return;
    if (now_ms >= caches->tick_ms) {
        rk_buf_reset(&caches->text);
        /* A node's name holds nothing that JSON would escape. */
        rk_buf_printf(&caches->text,
                      "{\"op\":\"tick\",\"node\":\"%s\",\"tick\":%" PRIu64 "}",
                      caches->node, ++caches->tick);
        caches->tick_ms = now_ms + RK_CACHES_TICK_MS;
        if (caches->bus.is_up && !caches->text.is_failed)
            publish(caches, rk_buf_slice(&caches->text));
    }
    if (now_ms >= caches->settings_ms && caches->settings_id == 0 &&
        rk_redis_is_up(caches->redis))
        settings_ask(caches, now_ms);
}

enum rk_status rk_caches_bus_open(struct rk_redis_caches *caches)
{
    caches->bus = (struct rk_redis_subscription){.channel = caches->channel,
                                                 .context = caches,
                                                 .message = on_message,
                                                 .state = on_bus};
    return rk_redis_subscribe(caches->redis, &caches->bus);
}

void rk_caches_bus_close(struct rk_redis_caches *caches)
{
    rk_redis_unsubscribe(caches->redis, &caches->bus);
    if (caches->settings_id != 0) rk_redis_forget(caches->redis, caches->settings_id);
    settings_clear(caches);
    rk_map_fini(&caches->settings);
}
