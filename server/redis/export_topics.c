/* Topics and their messages, in publish order. */
#include "redis/export_internal.h"
#include "redis/queues_internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { PAGE = 256, SUFFIX_SIZE = 16 };

/* --- the list of topics --------------------------------------------------------------- */

static enum rk_status topic_add(struct rk_export *export, struct rk_slice name)
{
    rk_buf_reset(&export->text);
    rk_topic_key(&export->text, export->prefix, "q:", name);
    struct rk_slice key = rk_buf_slice(&export->text);
    if (rk_buf_check(&export->text) != RK_OK) return rk_export_memory(export);
    if (rk_map_find(&export->by_key, key) != NULL) return RK_OK;
    struct rk_export_topic *topic = rk_calloc(1, sizeof(*topic) + name.size + key.size);
    if (topic == NULL) return rk_export_memory(export);
    memcpy(topic->bytes, name.data, name.size);
    memcpy(topic->bytes + name.size, key.data, key.size);
    topic->name = rk_slice_of(topic->bytes, name.size);
    topic->key = topic->node.key = rk_slice_of(topic->bytes + name.size, key.size);
    if (rk_map_insert(&export->by_key, &topic->node) != RK_OK) {
        rk_free(topic);
        return rk_export_memory(export);
    }
    *export->last = topic;
    export->last = &topic->next;
    return RK_OK;
}

void rk_export_topics_free(struct rk_export *export)
{
    while (export->topics != NULL) {
        struct rk_export_topic *topic = export->topics;
        export->topics = topic->next;
        rk_free(topic);
    }
    rk_map_fini(&export->by_key);
}

/* The topic of its dead letters may exist before it is listed. */
static enum rk_status dead_add(struct rk_export *export, struct rk_slice name)
{
    if (rk_topic_base(name).size != name.size) return RK_OK;
    rk_buf_reset(&export->key);
    rk_buf_append(&export->key, name.data, name.size);
    rk_buf_append(&export->key, RK_TOPIC_DEAD_SUFFIX.data, RK_TOPIC_DEAD_SUFFIX.size);
    if (rk_buf_check(&export->key) != RK_OK) return rk_export_memory(export);
    return topic_add(export, rk_buf_slice(&export->key));
}

static void on_names(void *context, const struct redisReply *reply)
{
    struct rk_export *export = context;
    if (reply->type != REDIS_REPLY_ARRAY || reply->elements != 2) return;
    const struct redisReply *pairs = reply->element[1];
    export->cursor = rk_export_number(reply->element[0]);
    for (size_t i = 0; i + 1 < pairs->elements; i += 2) {
        struct rk_slice name = rk_export_text(pairs->element[i]);
        if (topic_add(export, name) != RK_OK) return;
        if (dead_add(export, name) != RK_OK) return;
    }
}

static enum rk_status names_read(struct rk_export *export)
{
    enum rk_status status = RK_OK;
    export->cursor = 0;
    do {
        char cursor[24];
        int size =
            snprintf(cursor, sizeof(cursor), "%llu", (unsigned long long)export->cursor);
        rk_buf_reset(&export->key);
        rk_buf_printf(&export->key, "%s{q:topics}", export->prefix);
        const struct rk_slice args[] = {
            RK_SLICE_LITERAL("HSCAN"), rk_buf_slice(&export->key),
            rk_slice_of(cursor, (size_t)size), RK_SLICE_LITERAL("COUNT"),
            RK_SLICE_LITERAL("1000")};
        if (rk_buf_check(&export->key) != RK_OK) return rk_export_memory(export);
        status = rk_export_ask(export, args, 5, on_names, export);
        if (status == RK_OK) status = rk_offline_drain(export->offline);
    } while (status == RK_OK && export->cursor != 0);
    return status;
}

/* --- a topic -------------------------------------------------------------------------- */

static void on_flight(void *context, const struct redisReply *reply)
{
    struct rk_export *export = context;
    export->cursor = rk_export_number(reply);
}

static uint64_t number_of(const struct redisReply *info, const char *name)
{
    return rk_export_number(rk_export_field(info, name));
}

/* What is in flight was not handed out, as after a restore. */
static void on_info(void *context, const struct redisReply *info)
{
    struct rk_export *export = context;
    uint64_t delivered = number_of(info, "delivered");
    struct rk_content content = {
        .kind = RK_CONTENT_TOPIC,
        .name = export->topic->name,
        .topic = {.visibility_ms = number_of(info, "visibility_ms"),
                  .deliveries_max = number_of(info, "deliveries_max"),
                  .retry_ms = number_of(info, "retry_ms"),
                  .retry_max_ms = number_of(info, "retry_max_ms"),
                  .dedup_ms = number_of(info, "dedup_ms"),
                  .ttl_ms = number_of(info, "ttl_ms"),
                  .messages_max = number_of(info, "messages_max"),
                  .bytes_max = number_of(info, "bytes_max"),
                  .published = number_of(info, "published"),
                  .delivered = delivered > export->cursor ? delivered - export->cursor : 0,
                  .acked = number_of(info, "acked"),
                  .failed = number_of(info, "failed"),
                  .expired = number_of(info, "expired"),
                  .last = number_of(info, "last"),
                  .is_paused = number_of(info, "paused") != 0},
    };
    if (rk_export_field(info, "order") == NULL) return; /* it was listed, and never made */
    rk_export_give(export, &content, RK_SLICE_EMPTY);
}

static enum rk_status topic_read(struct rk_export *export)
{
    struct rk_slice args[] = {RK_SLICE_LITERAL("HLEN"), RK_SLICE_EMPTY};
    rk_buf_reset(&export->key);
    rk_topic_key(&export->key, export->prefix, "q:inflight:", export->topic->name);
    args[1] = rk_buf_slice(&export->key);
    if (rk_buf_check(&export->key) != RK_OK) return rk_export_memory(export);
    enum rk_status status = rk_export_ask(export, args, 2, on_flight, export);
    if (status == RK_OK) status = rk_offline_drain(export->offline);
    if (status != RK_OK) return status;
    rk_buf_reset(&export->key);
    rk_buf_append(&export->key, export->topic->key.data, export->topic->key.size);
    rk_buf_append_string(&export->key, ":info");
    args[0] = RK_SLICE_LITERAL("HGETALL");
    args[1] = rk_buf_slice(&export->key);
    if (rk_buf_check(&export->key) != RK_OK) return rk_export_memory(export);
    status = rk_export_ask(export, args, 2, on_info, export);
    return status == RK_OK ? rk_offline_drain(export->offline) : status;
}

/* --- messages ------------------------------------------------------------------------- */

/* What message_save of queue.lua writes: four letters, twelve numbers, then group, unique
 * key and home with the sizes that the last two numbers say. */
static bool state_parse(struct rk_slice text, struct rk_content_message *out, char *state)
{
    enum { LETTERS = 4, NUMBERS = 12 };
    const char *at = (const char *)text.data, *end = at + text.size;
    uint64_t numbers[NUMBERS];
    if (text.size < LETTERS + 1) return false;
    *state = at[0];
    out->is_settled = at[2] == 's';
    at += LETTERS;
    for (int i = 0; i < NUMBERS; i++) {
        if (at >= end || *at++ != ' ') return false;
        const char *from = at;
        numbers[i] = 0;
        for (; at < end && *at >= '0' && *at <= '9'; at++)
            numbers[i] = numbers[i] * 10 + (uint64_t)(*at - '0');
        if (at == from || at - from > 18) return false;
    }
    if (at >= end || *at++ != ' ') return false;
    uint64_t left = (uint64_t)(end - at);
    if (numbers[10] > left || numbers[11] > left - numbers[10]) return false;
    out->number = numbers[0];
    out->priority = (uint8_t)(numbers[2] < 10 ? numbers[2] : 9);
    out->expires_at = numbers[3];
    out->attempt = (uint32_t)numbers[4];
    out->deliveries = (uint32_t)numbers[5];
    out->failures = (uint32_t)numbers[6];
    out->unique_scope = (uint8_t)numbers[9];
    out->group = rk_slice_of(at, numbers[10]);
    out->unique_key = rk_slice_of(at + numbers[10], numbers[11]);
    return true;
}

static bool body_parse(struct rk_slice body, struct rk_content *out)
{
    struct rk_reader reader;
    rk_reader_init(&reader, body);
    out->encoding = rk_read_u8(&reader);
    out->value = rk_read_blob(&reader);
    if (rk_reader_check(&reader, false) != RK_OK) return false;
    size_t left = rk_reader_left(&reader);
    out->message.headers = rk_slice_of(body.data + body.size - left, left);
    return true;
}

/* One message: its id, state, body, and when it is due. */
struct line {
    struct rk_export *export;
    struct rk_buf id, state, body;
    uint64_t due;
};

static void on_due(void *context, const struct redisReply *reply)
{
    struct line *line = context;
    line->due = reply->type == REDIS_REPLY_STRING ? strtoull(reply->str, NULL, 10) : 0;
}

static void hold(struct rk_buf *out, const struct redisReply *reply)
{
    struct rk_slice text = rk_export_text(reply);
    rk_buf_reset(out);
    rk_buf_append(out, text.data, text.size);
}

static void on_ids(void *context, const struct redisReply *reply)
{
    struct line *lines = context;
    for (size_t i = 0; i < PAGE; i++)
        hold(&lines[i].id, i < reply->elements ? reply->element[i] : NULL);
}

static void on_states(void *context, const struct redisReply *reply)
{
    struct line *lines = context;
    for (size_t i = 0; i < PAGE && i < reply->elements; i++)
        hold(&lines[i].state, reply->element[i]);
}

static void on_body(void *context, const struct redisReply *reply)
{
    struct line *line = context;
    hold(&line->body, reply);
}

static struct rk_slice part_key(struct rk_export *export, const char *suffix)
{
    rk_buf_reset(&export->key);
    rk_buf_append(&export->key, export->topic->key.data, export->topic->key.size);
    rk_buf_append_string(&export->key, suffix);
    return rk_buf_slice(&export->key);
}

static void line_give(struct rk_export *export, const struct line *line)
{
    struct rk_content content = {.kind = RK_CONTENT_MESSAGE, .name = export->topic->name};
    struct rk_content_message *message = &content.message;
    char state = '\0';
    if (!state_parse(rk_buf_slice(&line->state), message, &state) ||
        !body_parse(rk_buf_slice(&line->body), &content)) {
        (void)rk_offline_fail(export->offline, RK_ECORRUPT,
                              "message %.*s is not what the engine writes",
                              (int)line->id.size, (const char *)line->id.data);
        return;
    }
    if (state == 'D') {
        message->is_delayed = message->is_absolute = true;
        message->delay = line->due;
    } else if (state == 'F') {
        message->is_settled = true;
        if (message->deliveries > 0) message->deliveries--;
    }
    rk_export_give(export, &content, rk_buf_slice(&line->id));
}

static enum rk_status lines_fetch(struct rk_export *export, struct line *lines,
                                  uint32_t count)
{
    struct rk_slice args[PAGE + 2] = {RK_SLICE_LITERAL("HMGET"),
                                      part_key(export, ":state")};
    for (uint32_t i = 0; i < count; i++)
        args[i + 2] = rk_buf_slice(&lines[i].id);
    if (rk_buf_check(&export->key) != RK_OK) return rk_export_memory(export);
    enum rk_status status = rk_export_ask(export, args, count + 2, on_states, lines);
    if (status == RK_OK) status = rk_offline_drain(export->offline);
    for (uint32_t i = 0; status == RK_OK && i < count; i++) {
        const struct rk_slice body[] = {RK_SLICE_LITERAL("HGET"), part_key(export, ":msg"),
                                        rk_buf_slice(&lines[i].id)};
        status = rk_export_ask(export, body, 3, on_body, &lines[i]);
        if (status != RK_OK || lines[i].state.size == 0 || lines[i].state.data[0] != 'D')
            continue;
        const struct rk_slice due[] = {RK_SLICE_LITERAL("ZSCORE"), part_key(export, ":due"),
                                       rk_buf_slice(&lines[i].id)};
        status = rk_export_ask(export, due, 3, on_due, &lines[i]);
    }
    return status == RK_OK ? rk_offline_drain(export->offline) : status;
}

static enum rk_status page_read(struct rk_export *export, struct line *lines,
                                uint64_t first, uint32_t *count)
{
    char from[24], to[24];
    int from_size = snprintf(from, sizeof(from), "%llu", (unsigned long long)first);
    int to_size = snprintf(to, sizeof(to), "%llu", (unsigned long long)first + PAGE - 1);
    const struct rk_slice args[] = {RK_SLICE_LITERAL("ZRANGE"), part_key(export, ":order"),
                                    rk_slice_of(from, (size_t)from_size),
                                    rk_slice_of(to, (size_t)to_size)};
    if (rk_buf_check(&export->key) != RK_OK) return rk_export_memory(export);
    enum rk_status status = rk_export_ask(export, args, 4, on_ids, lines);
    if (status == RK_OK) status = rk_offline_drain(export->offline);
    *count = 0;
    while (*count < PAGE && lines[*count].id.size != 0)
        ++*count;
    if (status == RK_OK && *count > 0) status = lines_fetch(export, lines, *count);
    for (uint32_t i = 0; status == RK_OK && i < *count; i++) {
        if (rk_buf_check(&lines[i].state) != RK_OK || rk_buf_check(&lines[i].body) != RK_OK)
            return rk_export_memory(export);
        line_give(export, &lines[i]);
        status = export->offline->status;
    }
    return status;
}

static enum rk_status messages_read(struct rk_export *export, struct line *lines)
{
    uint64_t first = 0;
    for (;;) {
        uint32_t count = 0;
        enum rk_status status = page_read(export, lines, first, &count);
        if (status != RK_OK || count < PAGE) return status;
        first += count;
    }
}

enum rk_status rk_export_topics(struct rk_export *export)
{
    struct line *lines = rk_calloc(PAGE, sizeof(*lines));
    if (lines == NULL) return rk_export_memory(export);
    for (uint32_t i = 0; i < PAGE; i++) {
        rk_buf_init(&lines[i].id);
        rk_buf_init(&lines[i].state);
        rk_buf_init(&lines[i].body);
    }
    enum rk_status status = names_read(export);
    export->topic = export->topics;
    for (; status == RK_OK && export->topic != NULL; export->topic = export->topic->next) {
        status = topic_read(export);
        if (status == RK_OK) status = messages_read(export, lines);
    }
    for (uint32_t i = 0; i < PAGE; i++) {
        rk_buf_fini(&lines[i].id);
        rk_buf_fini(&lines[i].state);
        rk_buf_fini(&lines[i].body);
    }
    rk_free(lines);
    return status;
}
