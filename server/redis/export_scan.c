/* What is found by its key only: windows and fences of topics, caches and their fences. */
#include "redis/export_internal.h"
#include "redis/names.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

/* A key under way; it is freed with its answer, or with the page. */
struct found {
    struct rk_export *export;
    struct found *next;
    enum rk_content_kind kind;
    struct rk_buf name, key; /* of the content */
    uint64_t pttl;           /* + 1; 0: no end */
    bool flag;               /* is_unique, is_named */
};

struct page {
    struct rk_export *export;
    struct found *first;
    uint64_t cursor;
};

/* --- answers -------------------------------------------------------------------------- */

static void on_window(void *context, const struct redisReply *reply)
{
    struct found *found = context;
    struct rk_slice value = rk_export_text(reply);
    const char *space = value.size != 0 ? memchr(value.data, ' ', value.size) : NULL;
    if (space == NULL) return; /* its time came */
    size_t at = (size_t)((const uint8_t *)space - value.data) + 1;
    const struct rk_content content = {
        .kind = RK_CONTENT_WINDOW,
        .name = rk_buf_slice(&found->name),
        .key = rk_buf_slice(&found->key),
        .window = {.expires_at = rk_export_number(reply), .is_unique = found->flag},
    };
    rk_export_give(found->export, &content, rk_slice_of(value.data + at, value.size - at));
}

static void on_topic_fence(void *context, const struct redisReply *reply)
{
    struct found *found = context;
    if (reply->type != REDIS_REPLY_STRING) return;
    const struct rk_content content = {
        .kind = RK_CONTENT_TOPIC_FENCE,
        .name = rk_buf_slice(&found->name),
        .key = rk_buf_slice(&found->key),
        .fence = {.highest = rk_export_number(reply), .is_named = found->flag},
    };
    rk_export_give(found->export, &content, RK_SLICE_EMPTY);
}

/* Redis keeps a fence with a name for each key, the embedded engine for the cache: the
 * highest of all keys counts there. */
static void on_cache_fences(void *context, const struct redisReply *reply)
{
    struct found *found = context;
    if (reply->type != REDIS_REPLY_ARRAY) return;
    for (size_t i = 0; i + 1 < reply->elements; i += 2) {
        struct rk_slice name = rk_export_text(reply->element[i]);
        const struct rk_content content = {
            .kind = RK_CONTENT_CACHE_FENCE,
            .name = rk_buf_slice(&found->name),
            .key = name.size != 0 ? name : rk_buf_slice(&found->key),
            .fence = {.highest = rk_export_number(reply->element[i + 1]),
                      .is_named = name.size != 0},
        };
        /* The key tells the group. */
        rk_export_give(found->export, &content, rk_buf_slice(&found->key));
    }
}

static uint8_t encoding_of(struct rk_slice word)
{
    if (rk_slice_is_equal(word, RK_SLICE_LITERAL("json"))) return 1;
    if (rk_slice_is_equal(word, RK_SLICE_LITERAL("msgpack"))) return 2;
    return rk_slice_is_equal(word, RK_SLICE_LITERAL("raw")) ? 3 : 0;
}

static void on_pttl(void *context, const struct redisReply *reply)
{
    struct found *found = context;
    found->pttl = reply->type == REDIS_REPLY_INTEGER && reply->integer >= 0
                      ? (uint64_t)reply->integer + 1
                      : 0;
}

static void on_entry(void *context, const struct redisReply *reply)
{
    struct found *found = context;
    struct rk_export *export = found->export;
    const struct redisReply *value = rk_export_field(reply, "value");
    struct rk_content content = {
        .kind = RK_CONTENT_ENTRY,
        .name = rk_buf_slice(&found->name),
        .key = rk_buf_slice(&found->key),
        .value = rk_export_text(value),
        .encoding = encoding_of(rk_export_text(rk_export_field(reply, "encoding"))),
        .entry = {.version = rk_export_number(rk_export_field(reply, "version")),
                  .soft_at =
                      (rk_export_number(rk_export_field(reply, "soft")) + 999) / 1000},
    };
    if (reply->type != REDIS_REPLY_ARRAY || reply->elements == 0)
        return; /* its time came */
    if (value == NULL || content.encoding == 0) {
        export->stats.broken++;
        return;
    }
    if (found->pttl != 0) content.entry.expires_at = export->clock_us / 1000 + found->pttl;
    rk_export_give(export, &content, RK_SLICE_EMPTY);
}

static void on_settings(void *context, const struct redisReply *reply)
{
    struct rk_export *export = context;
    if (reply->type != REDIS_REPLY_ARRAY) return;
    for (size_t i = 0; i + 1 < reply->elements; i += 2) {
        const struct rk_content content = {
            .kind = RK_CONTENT_CACHE,
            .name = rk_export_text(reply->element[i]),
            .cache = {.ttl_ms = rk_export_number(reply->element[i + 1])},
        };
        rk_export_give(export, &content, RK_SLICE_EMPTY);
    }
}

static void on_time(void *context, const struct redisReply *reply)
{
    struct rk_export *export = context;
    if (reply->type != REDIS_REPLY_ARRAY || reply->elements != 2) return;
    export->clock_us =
        rk_export_number(reply->element[0]) * 1000000 + rk_export_number(reply->element[1]);
}

/* --- keys ----------------------------------------------------------------------------- */

static struct found *found_new(struct page *page, enum rk_content_kind kind)
{
    struct found *found = rk_calloc(1, sizeof(*found));
    if (found == NULL) {
        (void)rk_export_memory(page->export);
        return NULL;
    }
    found->export = page->export;
    found->kind = kind;
    rk_buf_init(&found->name);
    rk_buf_init(&found->key);
    found->next = page->first;
    page->first = found;
    return found;
}

static bool begins(struct rk_slice *text, const char *with)
{
    size_t size = strlen(with);
    if (text->size < size || memcmp(text->data, with, size) != 0) return false;
    *text = rk_slice_of(text->data + size, text->size - size);
    return true;
}

static size_t find(struct rk_slice text, char byte)
{
    const uint8_t *at = text.size != 0 ? memchr(text.data, byte, text.size) : NULL;
    return at != NULL ? (size_t)(at - text.data) : text.size;
}

static void ask(struct found *found, const char *command, struct rk_slice key,
                rk_offline_heard *heard)
{
    const struct rk_slice args[] = {rk_slice_of_string(command), key};
    if (rk_buf_check(&found->name) != RK_OK || rk_buf_check(&found->key) != RK_OK)
        (void)rk_export_memory(found->export);
    else
        (void)rk_export_ask(found->export, args, 2, heard, found);
}

/* `q:{...}`, more of the name where that has a tag, `:dead` where it holds dead letters:
 * so far goes the name of the topic's ready list. */
static size_t base_size(struct rk_slice key, size_t prefix_size)
{
    size_t size = prefix_size;
    struct rk_slice rest = rk_slice_of(key.data + size, key.size - size);
    size += find(rest, '}');
    rest = rk_slice_of(key.data + size, key.size - size);
    size += find(rest, ':');
    rest = rk_slice_of(key.data + size, key.size - size);
    while (begins(&rest, ":dead") && (rest.size == 0 || rest.data[0] == ':'))
        size += strlen(":dead");
    return size;
}

static void of_topic(struct page *page, struct rk_slice key)
{
    struct rk_export *export = page->export;
    size_t size = base_size(key, export->prefix_size);
    struct rk_slice rest = rk_slice_of(key.data + size, key.size - size);
    bool is_id = begins(&rest, ":id:");
    bool is_window = !is_id && begins(&rest, ":window:");
    bool is_fence = !is_id && !is_window && begins(&rest, ":fence");
    if (begins(&rest, ":client:")) export->stats.answers++;
    if (!is_id && !is_window && !is_fence) return;
    struct rk_map_node *node = rk_map_find(&export->by_key, rk_slice_of(key.data, size));
    if (node == NULL) return;
    struct found *found =
        found_new(page, is_fence ? RK_CONTENT_TOPIC_FENCE : RK_CONTENT_WINDOW);
    if (found == NULL) return;
    struct rk_slice name = RK_CONTAINER(node, struct rk_export_topic, node)->name;
    found->flag = is_window || (is_fence && begins(&rest, ":"));
    rk_buf_append(&found->name, name.data, name.size);
    rk_buf_append(&found->key, rest.data, rest.size);
    ask(found, "GET", key, is_fence ? on_topic_fence : on_window);
}

/* `{key}` or `name:{key}`, and what belongs to it. */
static void of_cache(struct page *page, struct rk_slice key, struct rk_slice rest)
{
    struct rk_export *export = page->export;
    size_t open = find(rest, '{');
    size_t close = find(rest, '}');
    if (close >= rest.size || open > close) return; /* cache:settings */
    struct rk_slice after = rk_slice_of(rest.data + close + 1, rest.size - close - 1);
    bool is_fences = rk_slice_is_equal(after, RK_SLICE_LITERAL(":fences"));
    if (begins(&after, ":request:")) export->stats.answers++;
    if (!is_fences && after.size != 0) return;
    struct found *found =
        found_new(page, is_fences ? RK_CONTENT_CACHE_FENCE : RK_CONTENT_ENTRY);
    if (found == NULL) return;
    struct rk_slice name =
        open > 0 ? rk_slice_of(rest.data, open - 1) : RK_SLICE_LITERAL("default");
    if (rk_redis_name_unescape(&found->name, name) != RK_OK ||
        rk_redis_name_unescape(
            &found->key, rk_slice_of(rest.data + open + 1, close - open - 1)) != RK_OK) {
        export->stats.broken++;
        return;
    }
    if (!is_fences) ask(found, "PTTL", key, on_pttl);
    ask(found, "HGETALL", key, is_fences ? on_cache_fences : on_entry);
}

static void key_take(struct page *page, struct rk_slice key)
{
    size_t prefix_size = page->export->prefix_size;
    if (key.size < prefix_size) return;
    struct rk_slice rest = rk_slice_of(key.data + prefix_size, key.size - prefix_size);
    if (begins(&rest, "q:{"))
        of_topic(page, key);
    else if (begins(&rest, "cache:"))
        of_cache(page, key, rest);
}

/* --- the walk ------------------------------------------------------------------------- */

static void on_page(void *context, const struct redisReply *reply)
{
    struct page *page = context;
    page->cursor = 0;
    if (reply->type != REDIS_REPLY_ARRAY || reply->elements != 2) return;
    page->cursor = rk_export_number(reply->element[0]);
    const struct redisReply *keys = reply->element[1];
    struct rk_export *export = page->export;
    rk_buf_reset(&export->text);
    for (size_t i = 0; i < keys->elements; i++)
        rk_buf_blob(&export->text, rk_export_text(keys->element[i]));
}

static enum rk_status page_read(struct page *page)
{
    struct rk_export *export = page->export;
    char cursor[24];
    int size = snprintf(cursor, sizeof(cursor), "%" PRIu64, page->cursor);
    const struct rk_slice time[] = {RK_SLICE_LITERAL("TIME")};
    rk_buf_reset(&export->key);
    for (size_t i = 0; i < export->prefix_size; i++) {
        if (strchr("*?[]\\", export->prefix[i]) != NULL) rk_buf_u8(&export->key, '\\');
        rk_buf_u8(&export->key, (uint8_t) export->prefix[i]);
    }
    rk_buf_u8(&export->key, '*');
    const struct rk_slice args[] = {
        RK_SLICE_LITERAL("SCAN"),  rk_slice_of(cursor, (size_t)size),
        RK_SLICE_LITERAL("MATCH"), rk_buf_slice(&export->key),
        RK_SLICE_LITERAL("COUNT"), RK_SLICE_LITERAL("256")};
    const struct rk_redis_command scan = {
        .args = args, .arg_count = 6, .ask = {.node = export->node}};
    if (rk_buf_check(&export->key) != RK_OK) return rk_export_memory(export);
    enum rk_status status = rk_export_ask(export, time, 1, on_time, export);
    if (status == RK_OK) status = rk_offline_send(export->offline, &scan, on_page, page);
    if (status == RK_OK) status = rk_offline_drain(export->offline);
    if (status == RK_OK && rk_buf_check(&export->text) != RK_OK)
        return rk_export_memory(export);
    struct rk_reader reader;
    rk_reader_init(&reader, rk_buf_slice(&export->text));
    while (export->offline->status == RK_OK && rk_reader_left(&reader) > 0)
        key_take(page, rk_read_blob(&reader));
    return rk_offline_drain(export->offline);
}

static void page_free(struct page *page)
{
    while (page->first != NULL) {
        struct found *found = page->first;
        page->first = found->next;
        rk_buf_fini(&found->name);
        rk_buf_fini(&found->key);
        rk_free(found);
    }
}

static enum rk_status settings_read(struct rk_export *export)
{
    rk_buf_reset(&export->key);
    rk_buf_printf(&export->key, "%scache:settings", export->prefix);
    const struct rk_slice args[] = {RK_SLICE_LITERAL("HGETALL"),
                                    rk_buf_slice(&export->key)};
    if (rk_buf_check(&export->key) != RK_OK) return rk_export_memory(export);
    enum rk_status status = rk_export_ask(export, args, 2, on_settings, export);
    return status == RK_OK ? rk_offline_drain(export->offline) : status;
}

enum rk_status rk_export_scan(struct rk_export *export)
{
    enum rk_status status = settings_read(export);
    uint32_t count = rk_redis_node_count(export->offline->redis);
    for (export->node = 1; status == RK_OK && export->node <= count; export->node++) {
        struct page page = {.export = export};
        do {
            status = page_read(&page);
            page_free(&page);
        } while (status == RK_OK && page.cursor != 0);
    }
    return status;
}
