#include "redis/import.h"

#include "base/alloc.h"
#include "base/assert.h"
#include "base/map.h"
#include "redis/names.h"
#include "redis/queues_internal.h"

#include <event2/event.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

extern const char rk_lua_clock[];
extern const uint32_t rk_lua_clock_size;
extern const char rk_lua_import[];
extern const uint32_t rk_lua_import_size;
extern const char rk_lua_store_topics[];
extern const uint32_t rk_lua_store_topics_size;
extern const char rk_lua_queue_import[];
extern const uint32_t rk_lua_queue_import_size;
extern const char rk_lua_cache_import[];
extern const uint32_t rk_lua_cache_import_size;

enum {
    MESSAGE_BYTES = 320, /* as core/state counts them beside body, headers and group */
    FENCE_IDLE_MS = 86400000,
    VERSIONS_AHEAD_MS = 60000, /* of Redis's clock, at most */
    ARGS_MAX = 48,
    NUMBER_SIZE = 24,
};

struct topic {
    struct rk_map_node node;
    uint64_t number;
    uint8_t name[];
};

struct rk_import {
    struct rk_offline *offline;
    const char *prefix;
    uint64_t history;
    bool is_dry;
    uint64_t clock_us; /* Redis's, as it was at the beginning */
    uint64_t highest;  /* version of an entry */
    uint64_t answer;   /* a number that Redis gave */
    char whose[128];   /* what import.lua said */
    struct rk_map topics;
    struct rk_map caches; /* counted, though several groups hold them */
    struct rk_redis_script meta, list, queue, cache;
    char *queue_text; /* owned */
    struct rk_buf keys, text;
    struct rk_import_stats stats;
};

static const char *const kinds[] = {
    [RK_CONTENT_TOPIC] = "topics",
    [RK_CONTENT_MESSAGE] = "messages",
    [RK_CONTENT_WINDOW] = "publish ids and unique keys in their windows",
    [RK_CONTENT_TOPIC_FENCE] = "fences of topics",
    [RK_CONTENT_CACHE] = "settings of caches",
    [RK_CONTENT_ENTRY] = "cache entries",
    [RK_CONTENT_CACHE_FENCE] = "fences of cache keys",
};

static const char *const reasons[] = {
    [RK_IMPORT_ENTRY_EXPIRED] = "cache entries that have expired",
    [RK_IMPORT_WINDOW_OVER] = "publish ids and unique keys whose window is over",
    [RK_IMPORT_CACHE_BOUND] =
        "bounds of caches (bytes_max): maxmemory of Redis bounds them",
    [RK_IMPORT_CACHE_POLICY] = "policies of caches (policy): Redis does not evict",
    [RK_IMPORT_CACHE_FENCE] =
        "fences of caches with a name (fence_name): Redis keeps those for each key",
};

const char *rk_import_kind(enum rk_content_kind kind)
{
    return kinds[kind];
}

const char *rk_import_why(enum rk_import_left left)
{
    return reasons[left];
}

const struct rk_import_stats *rk_import_stats(const struct rk_import *import)
{
    return &import->stats;
}

/* --- arguments ------------------------------------------------------------------------ */

struct args {
    struct rk_slice items[ARGS_MAX];
    char numbers[ARGS_MAX][NUMBER_SIZE];
    uint32_t count;
};

static void add(struct args *args, struct rk_slice item)
{
    RK_ASSERT(args->count < ARGS_MAX);
    args->items[args->count++] = item;
}

static void add_text(struct args *args, const char *text)
{
    add(args, rk_slice_of_string(text));
}

static void add_number(struct args *args, uint64_t number)
{
    char *text = args->numbers[args->count];
    int size = snprintf(text, NUMBER_SIZE, "%" PRIu64, number);
    add(args, rk_slice_of(text, (size_t)size));
}

static enum rk_status memory(struct rk_import *import)
{
    return rk_offline_fail(import->offline, RK_ENOMEM, "out of memory");
}

static struct rk_slice plain_key(struct rk_import *import, const char *name)
{
    rk_buf_reset(&import->keys);
    rk_buf_printf(&import->keys, "%s%s", import->prefix, name);
    return rk_buf_slice(&import->keys);
}

/* --- begin and end -------------------------------------------------------------------- */

static void on_whose(void *context, const struct redisReply *reply)
{
    struct rk_import *import = context;
    (void)snprintf(import->whose, sizeof(import->whose), "%.*s",
                   reply->type == REDIS_REPLY_STRING ? (int)reply->len : 1,
                   reply->type == REDIS_REPLY_STRING ? reply->str : "?");
}

static void on_number(void *context, const struct redisReply *reply)
{
    struct rk_import *import = context;
    import->answer = reply->type == REDIS_REPLY_INTEGER && reply->integer > 0
                         ? (uint64_t)reply->integer
                         : 0;
}

static void on_time(void *context, const struct redisReply *reply)
{
    struct rk_import *import = context;
    if (reply->type != REDIS_REPLY_ARRAY || reply->elements != 2) return;
    import->clock_us = strtoull(reply->element[0]->str, NULL, 10) * 1000000 +
                       strtoull(reply->element[1]->str, NULL, 10);
}

static enum rk_status meta_run(struct rk_import *import, const char *what)
{
    struct args args = {.count = 0};
    struct rk_slice key = plain_key(import, "rukun:meta");
    add_text(&args, what);
    add_number(&args, RK_STORE_FORMAT);
    add_number(&args, import->history);
    add_text(&args, RK_STORE_UNFINISHED);
    if (rk_buf_check(&import->keys) != RK_OK) return memory(import);
    const struct rk_redis_eval eval = {.script = &import->meta,
                                       .keys = &key,
                                       .key_count = 1,
                                       .args = args.items,
                                       .arg_count = args.count};
    enum rk_status status = rk_offline_eval(import->offline, &eval, on_whose, import);
    return status == RK_OK ? rk_offline_drain(import->offline) : status;
}

static enum rk_status exists(struct rk_import *import, const char *name)
{
    const struct rk_slice args[] = {RK_SLICE_LITERAL("EXISTS"), plain_key(import, name)};
    const struct rk_redis_command command = {.args = args, .arg_count = 2, .key = args[1]};
    if (rk_buf_check(&import->keys) != RK_OK) return memory(import);
    enum rk_status status = rk_offline_send(import->offline, &command, on_number, import);
    if (status == RK_OK) status = rk_offline_drain(import->offline);
    if (status != RK_OK || import->answer == 0) return status;
    return rk_offline_fail(import->offline, RK_EEXIST,
                           "Redis holds data already (%.160s%s); data are moved into an "
                           "empty prefix or database only",
                           import->prefix, name);
}

static enum rk_status clock_read(struct rk_import *import)
{
    const struct rk_slice args[] = {RK_SLICE_LITERAL("TIME")};
    const struct rk_redis_command command = {.args = args, .arg_count = 1};
    enum rk_status status = rk_offline_send(import->offline, &command, on_time, import);
    return status == RK_OK ? rk_offline_drain(import->offline) : status;
}

static enum rk_status refused(struct rk_import *import)
{
    if (import->whose[0] == '\0') return RK_OK;
    if (strcmp(import->whose, RK_STORE_UNFINISHED) == 0)
        return rk_offline_fail(import->offline, RK_EEXIST,
                               "Redis holds data whose move was not finished; remove all "
                               "keys of that prefix or database and begin again");
    return rk_offline_fail(import->offline, RK_EEXIST,
                           "Redis holds the data of cluster %.64s; data are moved into an "
                           "empty prefix or database only",
                           import->whose);
}

static void script(struct rk_redis_script *out, const char *name, const char *text,
                   size_t size)
{
    *out = (struct rk_redis_script){.name = name, .text = text, .size = size};
    rk_redis_script_init(out);
}

static enum rk_status scripts_init(struct rk_import *import)
{
    size_t size = rk_lua_clock_size + rk_lua_queue_import_size;
    import->queue_text = rk_malloc(size);
    if (import->queue_text == NULL) return RK_ENOMEM;
    memcpy(import->queue_text, rk_lua_clock, rk_lua_clock_size);
    memcpy(import->queue_text + rk_lua_clock_size, rk_lua_queue_import,
           rk_lua_queue_import_size);
    script(&import->meta, "import", rk_lua_import, rk_lua_import_size);
    script(&import->list, "topics", rk_lua_store_topics, rk_lua_store_topics_size);
    script(&import->queue, "queue_import", import->queue_text, size);
    script(&import->cache, "cache_import", rk_lua_cache_import, rk_lua_cache_import_size);
    return RK_OK;
}

enum rk_status rk_import_begin(struct rk_import **out, struct rk_offline *offline,
                               uint64_t history, bool is_dry)
{
    struct rk_import *import = rk_calloc(1, sizeof(*import));
    if (import == NULL) return rk_offline_fail(offline, RK_ENOMEM, "out of memory");
    *out = import;
    import->offline = offline;
    import->prefix = offline->url.prefix;
    import->history = history;
    import->is_dry = is_dry;
    rk_map_init(&import->topics);
    rk_map_init(&import->caches);
    rk_buf_init(&import->keys);
    rk_buf_init(&import->text);
    if (scripts_init(import) != RK_OK) return memory(import);
    enum rk_status status = clock_read(import);
    if (status == RK_OK) status = meta_run(import, "look");
    if (status == RK_OK) status = refused(import);
    if (status == RK_OK) status = exists(import, "{q:topics}");
    if (status == RK_OK) status = exists(import, "rukun:{lock}:meta");
    if (status != RK_OK || is_dry) return status;
    status = meta_run(import, "begin");
    return status == RK_OK ? refused(import) : status;
}

enum rk_status rk_import_end(struct rk_import *import)
{
    enum rk_status status = rk_offline_drain(import->offline);
    if (status != RK_OK || import->is_dry) return status;
    /* A version that Redis gives next is above those that came along, also of a key that is
     * deleted first: versions are its clock. */
    for (;;) {
        struct timeval pause = {0, 100000};
        status = clock_read(import);
        if (status != RK_OK || import->clock_us > import->highest) break;
        (void)event_base_loopexit(import->offline->base, &pause);
        if (event_base_dispatch(import->offline->base) < 0) return RK_EIO;
    }
    if (status == RK_OK) status = meta_run(import, "end");
    return status == RK_OK ? refused(import) : status;
}

static void names_free(struct rk_map *map)
{
    struct rk_map_cursor cursor;
    struct rk_map_node *node = rk_map_first(map, &cursor);
    while (node != NULL) {
        struct topic *topic = RK_CONTAINER(node, struct topic, node);
        node = rk_map_next(map, &cursor);
        rk_free(topic);
    }
    rk_map_fini(map);
}

void rk_import_free(struct rk_import *import)
{
    if (import == NULL) return;
    names_free(&import->topics);
    names_free(&import->caches);
    rk_buf_fini(&import->keys);
    rk_buf_fini(&import->text);
    rk_free(import->queue_text);
    rk_free(import);
}

/* --- topics --------------------------------------------------------------------------- */

static const struct topic *topic_find(const struct rk_import *import, struct rk_slice name)
{
    struct rk_map_node *node = rk_map_find(&import->topics, name);
    return node != NULL ? RK_CONTAINER(node, struct topic, node) : NULL;
}

static bool is_dead(struct rk_slice name)
{
    return rk_topic_base(name).size != name.size;
}

/* The topic whose number the ids of a topic's messages have: dead letters keep those of the
 * topic in which they died. NULL: it is not there. */
static const struct topic *maker_of(const struct rk_import *import, struct rk_slice name)
{
    const struct topic *base = topic_find(import, rk_topic_base(name));
    return base != NULL ? base : topic_find(import, name);
}

static enum rk_status topic_number(struct rk_import *import, struct rk_slice name,
                                   uint64_t *out)
{
    static const char *const names[] = {"{q:topics}", "{q:topics}:numbers",
                                        "{q:topics}:names"};
    struct args args = {.count = 0};
    struct rk_slice keys[3];
    size_t ends[3];
    rk_buf_reset(&import->keys);
    for (int i = 0; i < 3; i++) {
        rk_buf_printf(&import->keys, "%s%s", import->prefix, names[i]);
        ends[i] = import->keys.size;
    }
    if (rk_buf_check(&import->keys) != RK_OK) return memory(import);
    for (int i = 0; i < 3; i++)
        keys[i] = rk_slice_of(import->keys.data + (i > 0 ? ends[i - 1] : 0),
                              ends[i] - (i > 0 ? ends[i - 1] : 0));
    add_text(&args, "add");
    add(&args, name);
    add_number(&args, RK_STORE_TOPICS_MAX);
    const struct rk_redis_eval eval = {.script = &import->list,
                                       .keys = keys,
                                       .key_count = 3,
                                       .args = args.items,
                                       .arg_count = args.count};
    enum rk_status status = rk_offline_eval(import->offline, &eval, on_number, import);
    if (status == RK_OK) status = rk_offline_drain(import->offline);
    if (status == RK_OK && import->answer == 0)
        status = rk_offline_fail(import->offline, RK_ELIMIT, "more than %d topics",
                                 RK_STORE_TOPICS_MAX);
    *out = import->answer;
    return status;
}

static enum rk_status name_enter(struct rk_import *import, struct rk_map *map,
                                 struct rk_slice name, uint64_t number)
{
    struct topic *topic = rk_calloc(1, sizeof(*topic) + name.size);
    if (topic == NULL) return memory(import);
    topic->number = number;
    memcpy(topic->name, name.data, name.size);
    topic->node.key = rk_slice_of(topic->name, name.size);
    if (rk_map_insert(map, &topic->node) == RK_OK) return RK_OK;
    rk_free(topic);
    return memory(import);
}

/* The arguments that all scripts of topics take. */
static void args_begin(struct rk_import *import, struct args *args, const char *what,
                       struct rk_slice name)
{
    args->count = 0;
    add_text(args, what);
    add_text(args, is_dead(name) ? "1" : "0");
    add_number(args, strlen(import->prefix));
    add_text(args, ""); /* nobody waits */
    add_text(args, ""); /* no client: three more of it */
    for (int i = 0; i < 3; i++)
        add_text(args, "0");
}

static enum rk_status topic_run(struct rk_import *import, const struct args *args,
                                struct rk_slice name)
{
    rk_buf_reset(&import->keys);
    rk_topic_key(&import->keys, import->prefix, "q:", name);
    size_t size = import->keys.size;
    rk_topic_key(&import->keys, import->prefix, "q:inflight:", name);
    size_t none = import->keys.size;
    rk_topic_key(&import->keys, import->prefix, "q:", name);
    rk_buf_append_slice(&import->keys, RK_TOPIC_NONE_SUFFIX);
    if (rk_buf_check(&import->keys) != RK_OK || rk_buf_check(&import->text) != RK_OK)
        return memory(import);
    const struct rk_slice keys[] = {
        rk_slice_of(import->keys.data, size),
        rk_slice_of(import->keys.data + size, none - size),
        rk_slice_of(import->keys.data + none, import->keys.size - none)};
    const struct rk_redis_eval eval = {.script = &import->queue,
                                       .keys = keys,
                                       .key_count = 3,
                                       .args = args->items,
                                       .arg_count = args->count};
    return rk_offline_eval(import->offline, &eval, NULL, NULL);
}

static enum rk_status topic_take(struct rk_import *import, const struct rk_content *content)
{
    const struct rk_content_topic *topic = &content->topic;
    const struct {
        const char *name;
        uint64_t value;
    } fields[] = {
        {"visibility_ms", topic->visibility_ms},
        {"deliveries_max", topic->deliveries_max},
        {"retry_ms", topic->retry_ms},
        {"retry_max_ms", topic->retry_max_ms},
        {"dedup_ms", topic->dedup_ms},
        {"ttl_ms", topic->ttl_ms},
        {"messages_max", topic->messages_max},
        {"bytes_max", topic->bytes_max},
        {"published", topic->published},
        {"delivered", topic->delivered},
        {"acked", topic->acked},
        {"failed", topic->failed},
        {"expired", topic->expired},
        {"last", topic->last},
        {"paused", topic->is_paused},
    };
    struct args args;
    uint64_t number = 1;
    if (topic->last >> RK_NUMBER_BITS != 0)
        return rk_offline_fail(import->offline, RK_ERANGE,
                               "numbers of messages are above 2^%d", RK_NUMBER_BITS);
    enum rk_status status =
        import->is_dry ? RK_OK : topic_number(import, content->name, &number);
    if (status == RK_OK)
        status = name_enter(import, &import->topics, content->name, number);
    if (status != RK_OK || import->is_dry) return status;
    args_begin(import, &args, "topic", content->name);
    add(&args, content->name);
    add_number(&args, number);
    add_number(&args, import->history);
    for (size_t i = 0; i < sizeof(fields) / sizeof(fields[0]); i++) {
        add_text(&args, fields[i].name);
        add_number(&args, fields[i].value);
    }
    return topic_run(import, &args, content->name);
}

/* The text of a message id; 0: its topic is not there. */
static size_t id_print(const struct rk_import *import, char out[RK_DELIVERY_ID_SIZE],
                       struct rk_slice name, uint64_t number)
{
    const struct topic *maker = maker_of(import, name);
    if (maker == NULL) return 0;
    const struct rk_delivery_id id = {.slot = (uint16_t)rk_slot_of_topic(name),
                                      .history = import->history,
                                      .message = maker->number << RK_NUMBER_BITS | number};
    return rk_delivery_id_print(out, &id);
}

static enum rk_status homeless(struct rk_import *import, struct rk_slice name)
{
    return rk_offline_fail(import->offline, RK_ECORRUPT, "%.*s: there is no such topic",
                           name.size < 128 ? (int)name.size : 128, (const char *)name.data);
}

/* A delay that counts from now, as after a restore, ends by Redis's clock. */
static uint64_t due_of(const struct rk_import *import,
                       const struct rk_content_message *message)
{
    return message->is_absolute ? message->delay : import->clock_us / 1000 + message->delay;
}

static enum rk_status message_take(struct rk_import *import,
                                   const struct rk_content *content)
{
    const struct rk_content_message *message = &content->message;
    char id[RK_DELIVERY_ID_SIZE];
    struct args args;
    size_t id_size = id_print(import, id, content->name, message->number);
    size_t size = content->value.size + message->headers.size + message->group.size;
    if (id_size == 0) return homeless(import, content->name);
    import->stats.delayed += message->is_delayed;
    import->stats.dead += is_dead(content->name);
    if (import->is_dry) return RK_OK;
    rk_buf_reset(&import->text);
    rk_buf_u8(&import->text, content->encoding);
    rk_buf_blob(&import->text, content->value);
    rk_buf_append(&import->text, message->headers.data, message->headers.size);
    args_begin(import, &args, "message", content->name);
    add(&args, rk_slice_of(id, id_size));
    add(&args, rk_buf_slice(&import->text));
    add_number(&args, message->number);
    add_text(&args, message->is_delayed ? "D" : "R");
    add_number(&args, message->is_delayed ? due_of(import, message) : 0);
    add_number(&args, message->priority);
    add_number(&args, message->expires_at);
    add_number(&args, message->attempt);
    add_number(&args, message->deliveries);
    add_number(&args, message->failures);
    add_text(&args, message->is_settled ? "s" : "-");
    add_number(&args, MESSAGE_BYTES + (size + 15) / 16 * 16);
    add_number(&args, content->value.size);
    add(&args, message->group);
    add_number(&args, message->unique_scope);
    add(&args, message->unique_key);
    add_text(&args, is_dead(content->name) &&
                            topic_find(import, rk_topic_base(content->name)) == NULL
                        ? "1"
                        : "0");
    return topic_run(import, &args, content->name);
}

static enum rk_status window_take(struct rk_import *import,
                                  const struct rk_content *content)
{
    const struct rk_content_window *window = &content->window;
    char id[RK_DELIVERY_ID_SIZE];
    struct args args;
    size_t id_size = id_print(import, id, window->home, window->number);
    if (id_size == 0) return homeless(import, window->home);
    if (import->is_dry) return RK_OK;
    rk_buf_reset(&import->text);
    rk_buf_append_string(&import->text, window->is_unique ? ":window:" : ":id:");
    rk_buf_append(&import->text, content->key.data, content->key.size);
    args_begin(import, &args, "window", content->name);
    add(&args, rk_buf_slice(&import->text));
    add(&args, rk_slice_of(id, id_size));
    add_number(&args, window->expires_at);
    return topic_run(import, &args, content->name);
}

static enum rk_status topic_fence_take(struct rk_import *import,
                                       const struct rk_content *content)
{
    struct args args;
    if (import->is_dry) return RK_OK;
    rk_buf_reset(&import->text);
    rk_buf_append_string(&import->text, content->fence.is_named ? ":fence:" : ":fence");
    if (content->fence.is_named)
        rk_buf_append(&import->text, content->key.data, content->key.size);
    args_begin(import, &args, "fence", content->name);
    add(&args, rk_buf_slice(&import->text));
    add_number(&args, content->fence.highest);
    add_number(&args, FENCE_IDLE_MS);
    return topic_run(import, &args, content->name);
}

/* --- caches --------------------------------------------------------------------------- */

static enum rk_status cache_take(struct rk_import *import, const struct rk_content *content)
{
    const struct rk_content_cache *cache = &content->cache;
    struct args args = {.count = 0};
    if (rk_map_find(&import->caches, content->name) != NULL) return RK_OK;
    if (name_enter(import, &import->caches, content->name, 0) != RK_OK)
        return import->offline->status;
    import->stats.taken[RK_CONTENT_CACHE] += cache->ttl_ms != 0;
    import->stats.left[RK_IMPORT_CACHE_BOUND] += cache->bytes_max != 0;
    import->stats.left[RK_IMPORT_CACHE_POLICY] += cache->has_policy;
    if (import->is_dry || cache->ttl_ms == 0) return RK_OK;
    struct rk_slice key = plain_key(import, "cache:settings");
    if (rk_buf_check(&import->keys) != RK_OK) return memory(import);
    add_text(&args, "HSET");
    add(&args, key);
    add(&args, content->name);
    add_number(&args, cache->ttl_ms);
    const struct rk_redis_command command = {
        .args = args.items, .arg_count = args.count, .key = key};
    return rk_offline_send(import->offline, &command, NULL, NULL);
}

static enum rk_status cache_run(struct rk_import *import, const struct args *args,
                                const struct rk_content *content)
{
    struct rk_slice cache = content->name;
    if (rk_slice_is_equal(cache, RK_SLICE_LITERAL("default"))) cache = RK_SLICE_EMPTY;
    rk_buf_reset(&import->keys);
    rk_redis_cache_key(&import->keys, import->prefix, cache, content->key);
    size_t size = import->keys.size;
    rk_redis_cache_key(&import->keys, import->prefix, cache, content->key);
    rk_buf_append_string(&import->keys, ":fences");
    size_t none = import->keys.size;
    rk_redis_cache_key(&import->keys, import->prefix, cache, content->key);
    rk_buf_append_string(&import->keys, ":none");
    if (rk_buf_check(&import->keys) != RK_OK) return memory(import);
    const struct rk_slice keys[] = {
        rk_slice_of(import->keys.data, size),
        rk_slice_of(import->keys.data + size, none - size),
        rk_slice_of(import->keys.data + none, import->keys.size - none)};
    const struct rk_redis_eval eval = {.script = &import->cache,
                                       .keys = keys,
                                       .key_count = 3,
                                       .args = args->items,
                                       .arg_count = args->count};
    return rk_offline_eval(import->offline, &eval, NULL, NULL);
}

static enum rk_status entry_take(struct rk_import *import, const struct rk_content *content)
{
    static const char *const encodings[] = {"json", "json", "msgpack", "raw"};
    const struct rk_content_entry *entry = &content->entry;
    struct args args = {.count = 0};
    if (entry->version > import->clock_us + VERSIONS_AHEAD_MS * UINT64_C(1000))
        return rk_offline_fail(import->offline, RK_ERANGE,
                               "an entry's version %" PRIu64
                               " is far above Redis's clock, %" PRIu64 " us",
                               entry->version, import->clock_us);
    if (entry->version > import->highest) import->highest = entry->version;
    if (import->is_dry) return RK_OK;
    add_text(&args, "entry");
    add(&args, content->value);
    add_text(&args, encodings[content->encoding]);
    add_number(&args, entry->version);
    add_number(&args, entry->expires_at);
    add_number(&args, entry->soft_at * 1000);
    return cache_run(import, &args, content);
}

static enum rk_status cache_fence_take(struct rk_import *import,
                                       const struct rk_content *content)
{
    struct args args = {.count = 0};
    if (import->is_dry) return RK_OK;
    add_text(&args, "fence");
    add_number(&args, content->fence.highest);
    return cache_run(import, &args, content);
}

/* --- one thing ------------------------------------------------------------------------ */

/* Why it stays behind, or RK_IMPORT_LEFTS. */
static enum rk_import_left left_of(const struct rk_import *import,
                                   const struct rk_content *content)
{
    uint64_t now_ms = import->clock_us / 1000;
    switch (content->kind) {
    case RK_CONTENT_ENTRY:
        if (content->entry.expires_at != 0 && content->entry.expires_at <= now_ms)
            return RK_IMPORT_ENTRY_EXPIRED;
        break;
    case RK_CONTENT_WINDOW:
        if (content->window.expires_at <= now_ms) return RK_IMPORT_WINDOW_OVER;
        break;
    case RK_CONTENT_CACHE_FENCE:
        if (content->fence.is_named) return RK_IMPORT_CACHE_FENCE;
        break;
    default: break;
    }
    return RK_IMPORT_LEFTS;
}

enum rk_status rk_import_take(void *context, const struct rk_content *content)
{
    struct rk_import *import = context;
    enum rk_import_left left = left_of(import, content);
    if (left != RK_IMPORT_LEFTS) {
        import->stats.left[left]++;
        return RK_OK;
    }
    if (content->kind != RK_CONTENT_CACHE) import->stats.taken[content->kind]++;
    switch (content->kind) {
    case RK_CONTENT_TOPIC: return topic_take(import, content);
    case RK_CONTENT_MESSAGE: return message_take(import, content);
    case RK_CONTENT_WINDOW: return window_take(import, content);
    case RK_CONTENT_TOPIC_FENCE: return topic_fence_take(import, content);
    case RK_CONTENT_CACHE: return cache_take(import, content);
    case RK_CONTENT_ENTRY: return entry_take(import, content);
    default: return cache_fence_take(import, content);
    }
}
