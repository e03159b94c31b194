#include "redis/store_internal.h"

#include "base/random.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

enum {
    TICK_MS = 100,
    META_RETRY_MS = 200,
    META_DEADLINE_MS = 5000,
    META_FRESH_MS = 1000,
    SAY_AGAIN_MS = 60000,
};

extern const char rk_lua_clock[], rk_lua_store_meta[], rk_lua_store_topics[];
extern const char rk_lua_queue_publish[], rk_lua_queue_consume[], rk_lua_queue_settle[];
extern const char rk_lua_queue_admin[], rk_lua_queue_read[];
extern const uint32_t rk_lua_clock_size, rk_lua_store_meta_size, rk_lua_store_topics_size;
extern const uint32_t rk_lua_queue_publish_size, rk_lua_queue_consume_size;
extern const uint32_t rk_lua_queue_settle_size, rk_lua_queue_admin_size;
extern const uint32_t rk_lua_queue_read_size;

struct embedded {
    const char *name;
    const char *text;
    const uint32_t *size;
    bool has_clock;
};

static const struct embedded embedded[RK_SCRIPT_COUNT] = {
    [RK_SCRIPT_META] = {"store_meta", rk_lua_store_meta, &rk_lua_store_meta_size, false},
    [RK_SCRIPT_TOPICS] = {"store_topics", rk_lua_store_topics, &rk_lua_store_topics_size,
                          false},
    [RK_SCRIPT_PUBLISH] = {"queue_publish", rk_lua_queue_publish,
                           &rk_lua_queue_publish_size, true},
    [RK_SCRIPT_CONSUME] = {"queue_consume", rk_lua_queue_consume,
                           &rk_lua_queue_consume_size, true},
    [RK_SCRIPT_SETTLE] = {"queue_settle", rk_lua_queue_settle, &rk_lua_queue_settle_size,
                          true},
    [RK_SCRIPT_ADMIN] = {"queue_admin", rk_lua_queue_admin, &rk_lua_queue_admin_size, true},
    [RK_SCRIPT_READ] = {"queue_read", rk_lua_queue_read, &rk_lua_queue_read_size, true},
};

uint64_t rk_store_now(void)
{
    struct timespec now;
    (void)clock_gettime(CLOCK_BOOTTIME, &now);
    return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

void rk_store_log(struct rk_store *store, enum rk_redis_level level, const char *format,
                  ...)
{
    char text[512];
    va_list arguments;
    va_start(arguments, format);
    (void)vsnprintf(text, sizeof(text), format, arguments);
    va_end(arguments);
    store->io.log(store->io.context, level, text);
}

void rk_store_escape(struct rk_buf *out, struct rk_slice part)
{
    for (size_t i = 0; i < part.size; i++) {
        char byte = (char)part.data[i];
        if (byte == '%' || byte == ':' || byte == '{' || byte == '}')
            rk_buf_printf(out, "%%%02X", (unsigned)byte);
        else
            rk_buf_append(out, &byte, 1);
    }
}

struct rk_slice rk_store_text(struct rk_store *store, uint64_t number)
{
    char text[24];
    int size = snprintf(text, sizeof(text), "%" PRIu64, number);
    return rk_arena_copy(&store->args, rk_slice_of(text, (size_t)size));
}

/* --- whose data it is -------------------------------------------------------------- */

static void meta_again(struct rk_store *store)
{
    store->meta_retry_ms = rk_store_now() + META_RETRY_MS;
}

static uint64_t number_of(const struct redisReply *reply)
{
    return reply->type == REDIS_REPLY_STRING ? strtoull(reply->str, NULL, 10) : 0;
}

/* What goes on is said once, and then rarely. */
static void say_refusal(struct rk_store *store)
{
    uint64_t now = rk_store_now();
    if (strcmp(store->said, store->refusal) == 0 && now < store->said_ms + SAY_AGAIN_MS)
        return;
    memcpy(store->said, store->refusal, sizeof(store->said));
    store->said_ms = now;
    rk_store_log(store, RK_REDIS_ERROR, "%s", store->refusal);
}

static void meta_known(struct rk_store *store, const struct redisReply *reply)
{
    const char *cluster = store->io.cluster(store->io.context);
    const struct redisReply *held = reply->element[1];
    uint64_t format = number_of(reply->element[0]);
    store->refusal[0] = '\0';
    if (format != RK_STORE_FORMAT)
        (void)snprintf(store->refusal, sizeof(store->refusal),
                       "Redis holds data of format %" PRIu64 "; this node knows %d", format,
                       RK_STORE_FORMAT);
    else if (held->type == REDIS_REPLY_STRING &&
             strcmp(held->str, RK_STORE_UNFINISHED) == 0)
        (void)snprintf(store->refusal, sizeof(store->refusal),
                       "Redis holds data that are being moved there, or whose move was "
                       "not finished");
    else if (held->type != REDIS_REPLY_STRING || strcmp(held->str, cluster) != 0)
        (void)snprintf(store->refusal, sizeof(store->refusal),
                       "Redis holds the data of cluster %.64s, this is %.64s; another "
                       "prefix or database keeps them apart",
                       held->type == REDIS_REPLY_STRING ? held->str : "?", cluster);
    uint64_t history = number_of(reply->element[2]);
    if (history == 0 && store->refusal[0] == '\0')
        (void)snprintf(store->refusal, sizeof(store->refusal),
                       "%srukun:meta has no history", store->prefix);
    if (store->refusal[0] != '\0') {
        say_refusal(store);
        meta_again(store);
    } else {
        store->said[0] = '\0';
        if (history != store->last_history) rk_queues_forget(store);
        store->history = store->last_history = history;
        store->meta_known_ms = rk_store_now();
    }
    struct rk_list ready;
    rk_list_init(&ready);
    while (!rk_list_is_empty(&store->waiting)) {
        struct rk_list *link = store->waiting.next;
        rk_list_remove(link);
        rk_list_push_back(&ready, link);
    }
    while (!rk_list_is_empty(&ready)) {
        struct rk_ask *call = RK_CONTAINER(ready.next, struct rk_ask, link);
        rk_list_remove(&call->link);
        rk_ask_begin(call);
    }
}

static void meta_heard(void *context, const struct rk_redis_result *result)
{
    struct rk_store *store = context;
    const struct redisReply *reply = result->reply;
    store->meta_id = 0;
    if (result->status == RK_OK && reply->type == REDIS_REPLY_ARRAY && reply->elements == 3)
        meta_known(store, reply);
    else
        meta_again(store);
}

static void meta_ask(struct rk_store *store)
{
    const char *cluster = store->io.cluster(store->io.context);
    if (store->meta_id != 0 || cluster[0] == '\0') return;
    struct rk_random random;
    struct timespec now;
    (void)clock_gettime(CLOCK_REALTIME, &now);
    rk_random_init(&random, (uint64_t)now.tv_nsec ^ (uint64_t)(uintptr_t)store);
    rk_random_init(&random, rk_random_next(&random) ^ (uint64_t)now.tv_sec);
    char history[24];
    /* Below 2^63, as those of clusters; never 0. */
    (void)snprintf(history, sizeof(history), "%" PRIu64, rk_random_next(&random) >> 1 | 1);
    struct rk_slice key = rk_buf_slice(&store->meta_key);
    struct rk_slice args[] = {RK_SLICE_LITERAL("1"), rk_slice_of_string(cluster),
                              rk_slice_of_string(history)};
    _Static_assert(RK_STORE_FORMAT == 1, "args[0] is the format");
    struct rk_redis_eval eval = {
        .script = &store->scripts[RK_SCRIPT_META],
        .keys = &key,
        .key_count = 1,
        .args = args,
        .arg_count = 3,
        .ask = {.done = meta_heard,
                .context = store,
                .deadline_ms = META_DEADLINE_MS,
                .may_repeat = true},
    };
    store->meta_asked_ms = rk_store_now();
    store->meta_id = rk_redis_eval(store->redis, &eval);
}

void rk_store_look(struct rk_store *store)
{
    if (store->history == 0 && rk_store_now() >= store->meta_retry_ms) meta_ask(store);
}

void rk_store_server(struct rk_store *store, const struct rk_redis_server *server)
{
    (void)server; /* it may be the same as before, and still have lost what it had */
    rk_store_forget(store);
}

void rk_store_forget(struct rk_store *store)
{
    store->history = 0;
    store->meta_retry_ms = 0;
}

bool rk_store_doubt(struct rk_store *store)
{
    if (rk_store_now() < store->meta_known_ms + META_FRESH_MS) return false;
    rk_store_forget(store);
    return true;
}

bool rk_ask_doubt(const struct rk_ask *call)
{
    if (call->store->meta_asked_ms > call->came_ms) return false;
    rk_store_forget(call->store);
    return true;
}

const char *rk_store_refusal(const struct rk_store *store)
{
    return store->refusal;
}

/* --- time ------------------------------------------------------------------------------
 */

static bool wakes_before(const struct rk_heap_node *a, const struct rk_heap_node *b)
{
    return RK_CONTAINER_CONST(a, struct rk_ask, timer)->wake_ms <
           RK_CONTAINER_CONST(b, struct rk_ask, timer)->wake_ms;
}

static void tick_arm(struct rk_store *store, uint64_t at_ms)
{
    uint64_t now = rk_store_now();
    uint64_t ms = at_ms > now ? at_ms - now : 0;
    store->tick_ms = at_ms;
    struct timeval span = {.tv_sec = (time_t)(ms / 1000),
                           .tv_usec = (suseconds_t)(ms % 1000 * 1000)};
    (void)evtimer_add(store->tick, &span);
}

static void woken(struct rk_ask *call)
{
    if (rk_list_is_linked(&call->link)) {
        const char *why = rk_redis_reason(call->store->redis);
        rk_ask_fail(call, RK_EUNAVAILABLE, NULL, "Redis does not answer%s%s",
                    why[0] != '\0' ? ": " : "", why);
        return;
    }
    rk_queues_woken(call);
}

static void on_tick(evutil_socket_t fd, short what, void *context)
{
    struct rk_store *store = context;
    (void)fd;
    (void)what;
    uint64_t now = rk_store_now();
    for (;;) {
        struct rk_heap_node *top = rk_heap_top(&store->timers);
        if (top == NULL) break;
        struct rk_ask *call = RK_CONTAINER(top, struct rk_ask, timer);
        if (call->wake_ms > now) break;
        rk_heap_remove(&store->timers, top);
        woken(call);
    }
    rk_store_look(store);
    uint64_t next_ms = now + TICK_MS;
    if (store->history != 0) {
        uint64_t queues_ms = rk_queues_tick(store, now);
        if (queues_ms < next_ms) next_ms = queues_ms;
    }
    struct rk_heap_node *top = rk_heap_top(&store->timers);
    if (top != NULL) {
        uint64_t wake_ms = RK_CONTAINER(top, struct rk_ask, timer)->wake_ms;
        if (wake_ms < next_ms) next_ms = wake_ms;
    }
    tick_arm(store, next_ms);
}

void rk_store_tick_by(struct rk_store *store, uint64_t at_ms)
{
    if (at_ms < store->tick_ms) tick_arm(store, at_ms);
}

void rk_ask_wake_at(struct rk_ask *call, uint64_t at_ms)
{
    struct rk_store *store = call->store;
    call->wake_ms = at_ms;
    if (rk_heap_has(&call->timer)) {
        rk_heap_update(&store->timers, &call->timer);
    } else {
        enum rk_status status = rk_heap_push(&store->timers, &call->timer);
        RK_ASSERT(status == RK_OK); /* the room was reserved: see ask_new */
    }
    rk_store_tick_by(store, at_ms);
}

/* --- life --------------------------------------------------------------------------------
 */

static enum rk_status script_make(struct rk_store *store, enum rk_store_script_id id,
                                  const char *clock)
{
    const struct embedded *from = &embedded[id];
    size_t clock_size = 0;
    if (from->has_clock) clock_size = clock != NULL ? strlen(clock) : rk_lua_clock_size;
    size_t size = clock_size + *from->size;
    char *text = rk_malloc(size + 1);
    if (text == NULL) return RK_ENOMEM;
    if (clock_size != 0) memcpy(text, clock != NULL ? clock : rk_lua_clock, clock_size);
    memcpy(text + clock_size, from->text, *from->size);
    text[size] = '\0';
    store->script_texts[id] = text;
    store->scripts[id] =
        (struct rk_redis_script){.name = from->name, .text = text, .size = size};
    rk_redis_script_init(&store->scripts[id]);
    return RK_OK;
}

static enum rk_status store_init(struct rk_store *store,
                                 const struct rk_store_options *options)
{
    for (int i = 0; i < RK_SCRIPT_COUNT; i++) {
        enum rk_status status =
            script_make(store, (enum rk_store_script_id)i, options->clock);
        if (status != RK_OK) return status;
    }
    rk_buf_printf(&store->meta_key, "%srukun:meta", store->prefix);
    if (rk_buf_check(&store->meta_key) != RK_OK) return RK_ENOMEM;
    store->tick = evtimer_new(options->base, on_tick, store);
    if (store->tick == NULL) return RK_ENOMEM;
    struct rk_random random;
    rk_random_init(&random, options->seed);
    (void)snprintf(store->lane_name, sizeof(store->lane_name), "node-%016" PRIx64,
                   rk_random_next(&random));
    tick_arm(store, 0);
    return rk_queues_open(store);
}

enum rk_status rk_store_new(struct rk_store **out, const struct rk_store_options *options)
{
    RK_ASSERT(options->struct_size == sizeof(*options));
    struct rk_store *store = rk_calloc(1, sizeof(*store));
    if (store == NULL) return RK_ENOMEM;
    store->base = options->base;
    store->redis = options->redis;
    store->prefix = options->prefix;
    store->prefix_size = strlen(options->prefix);
    store->wait = options->wait;
    store->io = options->io;
    rk_map_init(&store->calls);
    rk_list_init(&store->asks);
    rk_list_init(&store->waiting);
    rk_heap_init(&store->timers, wakes_before);
    rk_arena_init(&store->replies);
    rk_arena_init(&store->args);
    rk_buf_init(&store->scratch);
    rk_buf_init(&store->meta_key);
    enum rk_status status = store_init(store, options);
    if (status != RK_OK) {
        rk_store_free(store);
        return status;
    }
    *out = store;
    return RK_OK;
}

void rk_store_free(struct rk_store *store)
{
    if (store == NULL) return;
    rk_asks_free(store);
    if (store->queues != NULL) rk_queues_close(store);
    if (store->meta_id != 0) rk_redis_forget(store->redis, store->meta_id);
    if (store->tick != NULL) event_free(store->tick);
    for (int i = 0; i < RK_SCRIPT_COUNT; i++)
        rk_free(store->script_texts[i]);
    rk_map_fini(&store->calls);
    rk_heap_fini(&store->timers);
    rk_arena_fini(&store->replies);
    rk_arena_fini(&store->args);
    rk_buf_fini(&store->scratch);
    rk_buf_fini(&store->meta_key);
    rk_free(store->lanes);
    rk_free(store->free_lanes);
    rk_free(store);
}

void rk_store_stats(const struct rk_store *store, struct rk_store_stats *out)
{
    *out = store->stats;
    out->open = store->open;
}
