#include "redis/caches_internal.h"

#include <event2/event.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <time.h>

enum {
    FREE_CALLS_MAX = 1024,
};

extern const char rk_lua_cache_get[], rk_lua_cache_put[], rk_lua_cache_delete[],
    rk_lua_cache_touch[], rk_lua_cache_add[];
extern const uint32_t rk_lua_cache_get_size, rk_lua_cache_put_size,
    rk_lua_cache_delete_size, rk_lua_cache_touch_size, rk_lua_cache_add_size;

uint64_t rk_redis_caches_now(void)
{
    struct timespec now;
    (void)clock_gettime(CLOCK_BOOTTIME, &now);
    return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

/* --- timers -------------------------------------------------------------------------- */

static bool wakes_before(const struct rk_heap_node *a, const struct rk_heap_node *b)
{
    const struct rk_cache_call *left = RK_CONTAINER_CONST(a, struct rk_cache_call, timer);
    const struct rk_cache_call *right = RK_CONTAINER_CONST(b, struct rk_cache_call, timer);
    return left->wake_ms < right->wake_ms;
}

void rk_caches_timer_set(struct rk_redis_caches *caches)
{
    uint64_t now = rk_redis_caches_now();
    uint64_t at = caches->tick_ms;
    const struct rk_heap_node *top = rk_heap_top(&caches->timers);
    if (top != NULL) {
        uint64_t wake = RK_CONTAINER_CONST(top, struct rk_cache_call, timer)->wake_ms;
        if (wake < at) at = wake;
    }
    uint64_t left = at > now ? at - now : 0;
    struct timeval delay = {(time_t)(left / 1000), (suseconds_t)(left % 1000 * 1000)};
    (void)event_add(caches->timer, &delay);
}

void rk_cache_call_wake_at(struct rk_cache_call *call, uint64_t at_ms)
{
    struct rk_redis_caches *caches = call->caches;
    call->wake_ms = at_ms;
    rk_heap_remove(&caches->timers, &call->timer);
    /* Room for every call was reserved when it came. */
    RK_ASSERT(rk_heap_push(&caches->timers, &call->timer) == RK_OK);
    if (rk_heap_top(&caches->timers) == &call->timer) rk_caches_timer_set(caches);
}

/* --- calls --------------------------------------------------------------------------- */

static struct rk_cache_call *call_take(struct rk_redis_caches *caches)
{
    struct rk_cache_call *call = caches->free_calls;
    if (call != NULL) {
        caches->free_calls = call->next_free;
        caches->free_count--;
        return call;
    }
    call = rk_calloc(1, sizeof(*call));
    if (call == NULL) return NULL;
    call->caches = caches;
    rk_arena_init(&call->arena);
    rk_buf_init(&call->copy);
    return call;
}

static void call_put(struct rk_cache_call *call)
{
    struct rk_redis_caches *caches = call->caches;
    struct rk_arena arena = call->arena;
    struct rk_buf copy = call->copy;
    if (caches->free_count >= FREE_CALLS_MAX || copy.capacity > 65536) {
        rk_arena_fini(&call->arena);
        rk_buf_fini(&call->copy);
        rk_free(call);
        return;
    }
    rk_arena_reset(&arena);
    rk_buf_reset(&copy);
    *call = (struct rk_cache_call){.caches = caches, .arena = arena, .copy = copy};
    call->next_free = caches->free_calls;
    caches->free_calls = call;
    caches->free_count++;
}

/* Takes it out of everything; what is under way for it is forgotten. */
static void call_end(struct rk_cache_call *call)
{
    struct rk_redis_caches *caches = call->caches;
    for (uint32_t i = 0; i < call->part_count; i++)
        if (call->parts[i].eval != 0) rk_redis_forget(caches->redis, call->parts[i].eval);
    if (call->scan != 0) rk_redis_forget(caches->redis, call->scan);
    rk_free(call->batch);
    if (call->number != 0) rk_map_remove(&caches->calls, &call->node);
    rk_heap_remove(&caches->timers, &call->timer);
    rk_list_remove(&call->link);
    call_put(call);
}

void rk_cache_call_answer(struct rk_cache_call *call, struct rk_reply *reply)
{
    struct rk_redis_caches *caches = call->caches;
    uint64_t number = call->number;
    reply->op = call->request.op;
    if (reply->position_index != 0) reply->position_history = caches->history;
    rk_map_remove(&caches->calls, &call->node);
    call->number = 0; /* it is gone for the one who may drop it within the answer */
    caches->io.reply(caches->io.context, number, reply);
    call_end(call);
}

void rk_cache_call_fail(struct rk_cache_call *call, enum rk_status status,
                        const char *field, const char *format, ...)
{
    va_list arguments;
    if (call->failure.status != RK_OK) return;
    struct rk_reply *reply = &call->failure;
    reply->status = status;
    if (field != NULL) reply->field = rk_slice_of_string(field);
    if (status == RK_EUNAVAILABLE) reply->retry_after_ms = 1000;
    va_start(arguments, format);
    (void)vsnprintf(reply->text, sizeof(reply->text), format, arguments);
    va_end(arguments);
}

/* What was changed of several keys stays, and so does what a script wrote before it failed.
 */
static void fail_whole(struct rk_cache_call *call)
{
    struct rk_reply *reply = &call->failure;
    bool is_open = rk_op_info(call->request.op)->is_write && call->has_done;
    if (is_open && reply->status == RK_EUNAVAILABLE) {
        reply->status = RK_EUNKNOWN;
        reply->retry_after_ms = 0;
    }
    reply->outcome =
        is_open || reply->status == RK_EUNKNOWN ? RK_OUTCOME_UNKNOWN : RK_OUTCOME_NOT_DONE;
    rk_cache_call_answer(call, reply);
}

void rk_cache_call_check(struct rk_cache_call *call)
{
    if (call->open_count != 0) return;
    if (call->failure.status != RK_OK) {
        fail_whole(call);
        return;
    }
    switch (call->request.op) {
    case RK_OP_CACHE_GET: rk_cache_read_done(call); break;
    case RK_OP_CACHE_INVALIDATE: rk_cache_scan_done(call); break;
    default: rk_cache_write_done(call); break;
    }
}

bool rk_cache_part_eval(struct rk_cache_part *part, struct rk_redis_script *script,
                        uint32_t key_count, const struct rk_slice *args, uint32_t arg_count,
                        rk_redis_done *done)
{
    struct rk_cache_call *call = part->call;
    struct rk_redis_caches *caches = call->caches;
    struct rk_slice keys[4];
    bool is_failed = caches->text.is_failed;
    for (uint32_t i = 0; i < key_count; i++) {
        keys[i] = rk_buf_slice(&caches->keys[i]);
        is_failed = is_failed || caches->keys[i].is_failed;
    }
    uint64_t now = rk_redis_caches_now();
    bool is_write = rk_op_info(call->request.op)->is_write;
    struct rk_redis_eval eval = {
        .script = script,
        .keys = keys,
        .key_count = key_count,
        .args = args,
        .arg_count = arg_count,
        .ask = {.done = done,
                .context = part,
                .deadline_ms =
                    call->deadline_ms > now ? (uint32_t)(call->deadline_ms - now) : 1,
                .may_repeat = !is_write || call->client.size != 0 ||
                              call->request.op == RK_OP_CACHE_TOUCH,
                .wait_replicas = is_write ? caches->wait : 0},
    };
    part->asked_ms = now;
    part->eval = is_failed ? 0 : rk_redis_eval(caches->redis, &eval);
    if (part->eval == 0) {
        rk_cache_call_fail(call, is_failed ? RK_ENOMEM : RK_EBUSY, NULL,
                           is_failed ? "out of memory"
                                     : "too many Redis commands are under way");
        return false;
    }
    call->open_count++;
    return true;
}

/* Whether the command of the call that ended so may have changed something. */
static bool may_be_done(const struct rk_redis_result *result)
{
    switch (result->status) {
    case RK_EUNAVAILABLE:
    case RK_EFULL:
    case RK_ESIZE: return false;
    default: return true;
    }
}

bool rk_cache_part_done(struct rk_cache_part *part, const struct rk_redis_result *result)
{
    struct rk_cache_call *call = part->call;
    bool is_write = rk_op_info(call->request.op)->is_write;
    uint32_t wait = is_write ? call->caches->wait : 0;
    part->eval = 0;
    call->open_count--;
    if (result->status != RK_OK) {
        bool is_lost_read = result->status == RK_EUNKNOWN && !is_write;
        call->has_done = call->has_done || may_be_done(result);
        rk_cache_call_fail(call, is_lost_read ? RK_EUNAVAILABLE : result->status, NULL,
                           "Redis: %s", result->text);
        return false;
    }
    if (wait == 0 || (result->replicas >= 0 && (uint32_t)result->replicas >= wait))
        return true;
    call->has_done = true;
    if (result->replicas < 0)
        rk_cache_call_fail(call, RK_EUNKNOWN, NULL,
                           "done, but Redis was lost before it said how many replicas have "
                           "it: a failover may lose it");
    else
        rk_cache_call_fail(call, RK_EUNKNOWN, NULL,
                           "done, but only %" PRId32 " of %" PRIu32
                           " replicas have it: a failover may lose it",
                           result->replicas, wait);
    return false;
}

bool rk_cache_part_came(struct rk_cache_part *part, const struct rk_redis_result *result)
{
    struct rk_cache_call *call = part->call;
    if (!rk_cache_part_done(part, result)) return false;
    if (result->reply->type == REDIS_REPLY_ARRAY) return true;
    call->has_done = true;
    rk_cache_call_fail(call, RK_EIO, NULL, "Redis answered a script with no list");
    return false;
}

/* --- the face ------------------------------------------------------------------------ */

static void refuse(struct rk_redis_caches *caches, uint64_t number, enum rk_op op,
                   enum rk_status status, const char *text)
{
    struct rk_reply reply = {.op = op, .status = status};
    (void)snprintf(reply.text, sizeof(reply.text), "%s", text);
    caches->io.reply(caches->io.context, number, &reply);
}

static void stats_answer(struct rk_redis_caches *caches, uint64_t number,
                         const struct rk_request *request)
{
    struct rk_lru_stats lru = caches->lru.stats;
    if (request->cache.size != 0) {
        struct rk_slice cache = request->cache;
        if (rk_slice_is_equal(cache, RK_SLICE_LITERAL("default"))) cache = RK_SLICE_EMPTY;
        rk_lru_cache_stats(&caches->lru, cache, &lru);
    }
    struct rk_cache_stats stats = {
        .entries = lru.entries,
        .bytes = lru.bytes,
        .bytes_max = lru.bytes_max,
        .hits = lru.hits,
        .misses = lru.misses,
        .evicted = lru.evicted,
        .expired = lru.expired,
    };
    struct rk_reply reply = {.op = request->op, .cache_stats = &stats};
    caches->io.reply(caches->io.context, number, &reply);
}

/* A call that waits outlives the memory of what came. */
static enum rk_status position_copy(struct rk_cache_call *call,
                                    const struct rk_position *position)
{
    struct rk_position *out = &call->request.position;
    *out = *position;
    if (position->count == 0) return RK_OK;
    out->items = rk_arena_calloc(&call->arena, position->count, sizeof(*out->items));
    if (out->items == NULL) return RK_ENOMEM;
    memcpy(out->items, position->items, position->count * sizeof(*out->items));
    return RK_OK;
}

static enum rk_status call_fill(struct rk_cache_call *call,
                                const struct rk_request *request)
{
    rk_request_encode(&call->copy, request);
    enum rk_status status = rk_buf_check(&call->copy);
    if (status == RK_OK)
        status = rk_request_decode(&call->request, rk_buf_slice(&call->copy), &call->arena);
    if (status != RK_OK) return status;
    status = position_copy(call, &request->position);
    if (status != RK_OK) return status;
    call->client = rk_arena_copy(&call->arena, request->client);
    if (call->client.size != request->client.size) return RK_ENOMEM;
    call->seq = request->seq;
    uint32_t count = call->request.keys.count != 0 ? call->request.keys.count : 1;
    call->parts = rk_arena_calloc(&call->arena, count, sizeof(*call->parts));
    call->entries = rk_arena_calloc(&call->arena, count, sizeof(*call->entries));
    call->results = rk_arena_calloc(&call->arena, count, sizeof(*call->results));
    if (call->parts == NULL || call->entries == NULL || call->results == NULL)
        return RK_ENOMEM;
    call->part_count = count;
    for (uint32_t i = 0; i < count; i++) {
        call->parts[i].call = call;
        call->parts[i].key =
            call->request.keys.count != 0 ? call->request.keys.items[i] : call->request.key;
    }
    return RK_OK;
}

void rk_cache_call_start(struct rk_cache_call *call)
{
    switch (call->request.op) {
    case RK_OP_CACHE_GET: rk_cache_read_start(call); break;
    case RK_OP_CACHE_INVALIDATE: rk_cache_scan_start(call); break;
    case RK_OP_CACHE_CONFIGURE: rk_cache_configure_start(call); break;
    default: rk_cache_write_start(call); break;
    }
}

/* Whose data Redis holds must be known first, and what a cache's entries live by default.
 */
static bool is_ready(const struct rk_cache_call *call)
{
    enum rk_op op = call->request.op;
    if (call->caches->history == 0) return false;
    return call->caches->has_settings || (op != RK_OP_CACHE_PUT && op != RK_OP_CACHE_ADD);
}

void rk_redis_caches_call(struct rk_redis_caches *caches, uint64_t number,
                          const struct rk_request *request, uint32_t deadline_ms)
{
    if (request->op == RK_OP_CACHE_STATS) {
        stats_answer(caches, number, request);
        return;
    }
    if (request->op == RK_OP_CACHE_GET && rk_caches_read_now(caches, number, request))
        return;
    struct rk_cache_call *call =
        caches->calls.count < RK_CACHES_CALLS_MAX ? call_take(caches) : NULL;
    if (call == NULL) {
        refuse(caches, number, request->op, RK_EBUSY, "too many calls are under way");
        return;
    }
    enum rk_status status = call_fill(call, request);
    rk_put_u64(call->number_key, number);
    call->node.key = rk_slice_of(call->number_key, sizeof(call->number_key));
    if (status == RK_OK) status = rk_heap_reserve(&caches->timers, caches->calls.count + 1);
    if (status == RK_OK) status = rk_map_insert(&caches->calls, &call->node);
    if (status != RK_OK) {
        call->part_count = 0;
        call_end(call);
        refuse(caches, number, request->op, status, "out of memory");
        return;
    }
    call->number = number;
    uint64_t now = rk_redis_caches_now();
    call->deadline_ms = now + deadline_ms;
    call->wait_ms = now + call->request.wait_ms;
    if (is_ready(call)) {
        rk_cache_call_start(call);
    } else {
        rk_list_push_back(&caches->unready, &call->link);
        rk_cache_call_wake_at(call, call->deadline_ms);
    }
}

/* Answers may let others come in: those who wait are put aside before the first one. */
static void take_unready(struct rk_redis_caches *caches, struct rk_list *out, bool is_now)
{
    rk_list_each_safe (link, &caches->unready) {
        if (is_ready(RK_CONTAINER(link, struct rk_cache_call, link)) != is_now) continue;
        rk_list_remove(link);
        rk_list_push_back(out, link);
    }
}

void rk_caches_start_ready(struct rk_redis_caches *caches)
{
    struct rk_list ready;
    rk_list_init(&ready);
    take_unready(caches, &ready, true);
    while (!rk_list_is_empty(&ready)) {
        struct rk_cache_call *call = RK_CONTAINER(ready.next, struct rk_cache_call, link);
        rk_list_remove(&call->link);
        rk_heap_remove(&caches->timers, &call->timer);
        rk_cache_call_start(call);
    }
}

static struct rk_cache_call *call_find(const struct rk_redis_caches *caches,
                                       uint64_t number)
{
    uint8_t key[8];
    rk_put_u64(key, number);
    struct rk_map_node *node = rk_map_find(&caches->calls, rk_slice_of(key, sizeof(key)));
    return node != NULL ? RK_CONTAINER(node, struct rk_cache_call, node) : NULL;
}

void rk_redis_caches_drop(struct rk_redis_caches *caches, uint64_t number)
{
    struct rk_cache_call *call = call_find(caches, number);
    if (call == NULL) return;
    if (call->is_filling) caches->filling--;
    call_end(call);
}

void rk_redis_caches_history(struct rk_redis_caches *caches, uint64_t history)
{
    if (history == caches->history) return;
    caches->history = history;
    rk_redis_caches_reset(caches);
    rk_caches_start_ready(caches);
}

void rk_redis_caches_refuse(struct rk_redis_caches *caches, const char *why)
{
    struct rk_list refused;
    rk_list_init(&refused);
    take_unready(caches, &refused, false);
    while (!rk_list_is_empty(&refused)) {
        struct rk_cache_call *call = RK_CONTAINER(refused.next, struct rk_cache_call, link);
        rk_list_remove(&call->link);
        rk_cache_call_fail(call, RK_EUNAVAILABLE, NULL, "%s", why);
        rk_cache_call_check(call);
    }
}

void rk_redis_caches_reset(struct rk_redis_caches *caches)
{
    rk_lru_empty(&caches->lru);
    caches->settings_ms = 0;
    caches->tick_ms = 0;
    rk_caches_timer_set(caches);
}

void rk_redis_caches_stats(const struct rk_redis_caches *caches,
                           struct rk_redis_caches_stats *out)
{
    *out = (struct rk_redis_caches_stats){
        .lru = caches->lru.stats,
        .silences = caches->silences,
        .calls = (uint32_t)caches->calls.count,
        .filling = caches->filling,
        .is_live = caches->is_live,
    };
}

/* Whoever's time has come: the wait for a value, or for the settings. */
static void on_timer(evutil_socket_t unused, short what, void *context)
{
    struct rk_redis_caches *caches = context;
    uint64_t now = rk_redis_caches_now();
    (void)unused;
    (void)what;
    for (;;) {
        struct rk_heap_node *top = rk_heap_top(&caches->timers);
        struct rk_cache_call *call =
            top != NULL ? RK_CONTAINER(top, struct rk_cache_call, timer) : NULL;
        if (call == NULL || call->wake_ms > now) break;
        rk_heap_remove(&caches->timers, top);
        if (call->is_filling) {
            rk_cache_read_wake(call);
        } else {
            rk_cache_call_fail(call, RK_EUNAVAILABLE, NULL, "Redis: %s",
                               rk_redis_is_up(caches->redis)
                                   ? "did not tell in time whose data it holds"
                                   : rk_redis_reason(caches->redis));
            rk_cache_call_check(call);
        }
    }
    rk_caches_bus_run(caches, now);
    rk_caches_timer_set(caches);
}

/* --- life ---------------------------------------------------------------------------- */

static void scripts_init(struct rk_redis_caches *caches)
{
    caches->get =
        (struct rk_redis_script){"cache_get", rk_lua_cache_get, rk_lua_cache_get_size, ""};
    caches->put =
        (struct rk_redis_script){"cache_put", rk_lua_cache_put, rk_lua_cache_put_size, ""};
    caches->remove = (struct rk_redis_script){"cache_delete", rk_lua_cache_delete,
                                              rk_lua_cache_delete_size, ""};
    caches->touch = (struct rk_redis_script){"cache_touch", rk_lua_cache_touch,
                                             rk_lua_cache_touch_size, ""};
    caches->add =
        (struct rk_redis_script){"cache_add", rk_lua_cache_add, rk_lua_cache_add_size, ""};
    rk_redis_script_init(&caches->get);
    rk_redis_script_init(&caches->put);
    rk_redis_script_init(&caches->remove);
    rk_redis_script_init(&caches->touch);
    rk_redis_script_init(&caches->add);
}

static char *prefixed(const char *prefix, const char *name)
{
    size_t size = strlen(prefix) + strlen(name) + 1;
    char *text = rk_malloc(size);
    if (text != NULL) (void)snprintf(text, size, "%s%s", prefix, name);
    return text;
}

enum rk_status rk_redis_caches_new(struct rk_redis_caches **out,
                                   const struct rk_redis_caches_options *options)
{
    struct rk_redis_caches *caches = rk_calloc(1, sizeof(*caches));
    if (caches == NULL) return RK_ENOMEM;
    caches->io = options->io;
    caches->redis = options->redis;
    caches->wait = options->wait;
    rk_map_init(&caches->calls);
    rk_map_init(&caches->settings);
    rk_heap_init(&caches->timers, wakes_before);
    rk_list_init(&caches->unready);
    for (uint32_t i = 0; i < RK_CACHES_WAITING; i++)
        rk_list_init(&caches->waiting[i]);
    for (uint32_t i = 0; i < 4; i++)
        rk_buf_init(&caches->keys[i]);
    rk_buf_init(&caches->text);
    scripts_init(caches);
    caches->node = rk_strdup(options->node);
    caches->prefix = rk_strdup(options->prefix);
    caches->channel = prefixed(options->prefix, "cache:cluster");
    caches->settings_key = prefixed(options->prefix, "cache:settings");
    caches->timer = event_new(options->base, -1, 0, on_timer, caches);
    bool is_whole = caches->node != NULL && caches->prefix != NULL &&
                    caches->channel != NULL && caches->settings_key != NULL &&
                    caches->timer != NULL;
    enum rk_status status =
        is_whole ? rk_lru_init(&caches->lru, options->lru_bytes) : RK_ENOMEM;
    if (status == RK_OK) status = rk_caches_bus_open(caches);
    if (status != RK_OK) {
        rk_redis_caches_free(caches);
        return status;
    }
    rk_caches_timer_set(caches);
    *out = caches;
    return RK_OK;
}

void rk_redis_caches_free(struct rk_redis_caches *caches)
{
    if (caches == NULL) return;
    rk_caches_bus_close(caches);
    struct rk_map_cursor cursor;
    rk_map_each (node, &caches->calls, &cursor)
        call_end(RK_CONTAINER(node, struct rk_cache_call, node));
    while (caches->free_calls != NULL) {
        struct rk_cache_call *call = caches->free_calls;
        caches->free_calls = call->next_free;
        rk_arena_fini(&call->arena);
        rk_buf_fini(&call->copy);
        rk_free(call);
    }
    if (caches->timer != NULL) event_free(caches->timer);
    rk_lru_fini(&caches->lru);
    rk_map_fini(&caches->calls);
    rk_heap_fini(&caches->timers);
    for (uint32_t i = 0; i < 4; i++)
        rk_buf_fini(&caches->keys[i]);
    rk_buf_fini(&caches->text);
    rk_free(caches->node);
    rk_free(caches->prefix);
    rk_free(caches->channel);
    rk_free(caches->settings_key);
    rk_free(caches);
}
