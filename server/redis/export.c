#include "redis/export_internal.h"

#include "redis/store.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* --- small ---------------------------------------------------------------------------- */

void rk_export_give(struct rk_export *export, const struct rk_content *content,
                    struct rk_slice id)
{
    if (export->offline->status != RK_OK) return;
    enum rk_status status = export->io.take(export->io.context, content, id);
    if (status == RK_OK) return;
    (void)rk_offline_fail(export->offline, status, "%.*s: %s",
                          content->name.size < 100 ? (int)content->name.size : 100,
                          (const char *)content->name.data, rk_status_text(status));
}

enum rk_status rk_export_memory(struct rk_export *export)
{
    return rk_offline_fail(export->offline, RK_ENOMEM, "out of memory");
}

enum rk_status rk_export_ask(struct rk_export *export, const struct rk_slice *args,
                             uint32_t count, rk_offline_heard *heard, void *context)
{
    const struct rk_redis_command command = {
        .args = args, .arg_count = count, .key = count > 1 ? args[1] : RK_SLICE_EMPTY};
    return rk_offline_send(export->offline, &command, heard, context);
}

struct rk_slice rk_export_text(const struct redisReply *reply)
{
    if (reply == NULL || reply->type != REDIS_REPLY_STRING) return RK_SLICE_EMPTY;
    return rk_slice_of(reply->str, reply->len);
}

uint64_t rk_export_number(const struct redisReply *reply)
{
    if (reply == NULL) return 0;
    if (reply->type == REDIS_REPLY_INTEGER)
        return reply->integer > 0 ? (uint64_t)reply->integer : 0;
    return reply->type == REDIS_REPLY_STRING ? strtoull(reply->str, NULL, 10) : 0;
}

const struct redisReply *rk_export_field(const struct redisReply *hash, const char *name)
{
    if (hash->type != REDIS_REPLY_ARRAY) return NULL;
    for (size_t i = 0; i + 1 < hash->elements; i += 2)
        if (rk_slice_is_equal(rk_export_text(hash->element[i]), rk_slice_of_string(name)))
            return hash->element[i + 1];
    return NULL;
}

static struct rk_slice named(struct rk_export *export, const char *name)
{
    rk_buf_reset(&export->key);
    rk_buf_printf(&export->key, "%s%s", export->prefix, name);
    return rk_buf_slice(&export->key);
}

/* --- before --------------------------------------------------------------------------- */

static void on_meta(void *context, const struct redisReply *reply)
{
    struct rk_export *export = context;
    struct rk_slice cluster = rk_export_text(rk_export_field(reply, "cluster"));
    uint64_t format = rk_export_number(rk_export_field(reply, "format"));
    export->history = rk_export_number(rk_export_field(reply, "history"));
    if (reply->type != REDIS_REPLY_ARRAY || reply->elements == 0)
        (void)rk_offline_fail(export->offline, RK_ENOENT,
                              "Redis holds no data under that prefix and database");
    else if (format != RK_STORE_FORMAT)
        (void)rk_offline_fail(export->offline, RK_EUNSUPPORTED,
                              "Redis holds data of format %llu; this program knows %d",
                              (unsigned long long)format, RK_STORE_FORMAT);
    else if (rk_slice_is_equal(cluster, rk_slice_of_string(RK_STORE_UNFINISHED)))
        (void)rk_offline_fail(export->offline, RK_EBUSY,
                              "Redis holds data whose move was not finished");
}

static void on_clients(void *context, const struct redisReply *reply)
{
    struct rk_export *export = context;
    const char *at =
        reply->type == REDIS_REPLY_STRING ? strstr(reply->str, " name=rukund-") : NULL;
    if (at == NULL) return;
    at += strlen(" name=rukund-");
    (void)rk_offline_fail(export->offline, RK_EBUSY,
                          "node %.*s is connected to Redis: stop all nodes first",
                          (int)strcspn(at, " \n"), at);
}

static enum rk_status clients_check(struct rk_export *export)
{
    const struct rk_slice args[] = {RK_SLICE_LITERAL("CLIENT"), RK_SLICE_LITERAL("LIST")};
    enum rk_status status = RK_OK;
    uint32_t count = rk_redis_node_count(export->offline->redis);
    for (uint32_t i = 1; status == RK_OK && i <= count; i++) {
        const struct rk_redis_command command = {
            .args = args, .arg_count = 2, .ask = {.node = i}};
        status = rk_offline_send(export->offline, &command, on_clients, export);
    }
    return status == RK_OK ? rk_offline_drain(export->offline) : status;
}

enum rk_status rk_export_begin(struct rk_export **out, struct rk_offline *offline,
                               const struct rk_export_io *io)
{
    struct rk_export *export = rk_calloc(1, sizeof(*export));
    if (export == NULL) return rk_offline_fail(offline, RK_ENOMEM, "out of memory");
    *out = export;
    export->offline = offline;
    export->io = *io;
    export->prefix = offline->url.prefix;
    export->prefix_size = strlen(export->prefix);
    export->last = &export->topics;
    rk_map_init(&export->by_key);
    rk_buf_init(&export->text);
    rk_buf_init(&export->key);
    const struct rk_slice args[] = {RK_SLICE_LITERAL("HGETALL"),
                                    named(export, "rukun:meta")};
    if (rk_buf_check(&export->key) != RK_OK) return rk_export_memory(export);
    enum rk_status status = rk_export_ask(export, args, 2, on_meta, export);
    if (status == RK_OK) status = rk_offline_drain(offline);
    return status == RK_OK ? clients_check(export) : status;
}

void rk_export_free(struct rk_export *export)
{
    if (export == NULL) return;
    rk_export_topics_free(export);
    rk_buf_fini(&export->text);
    rk_buf_fini(&export->key);
    rk_free(export);
}

uint64_t rk_export_history(const struct rk_export *export)
{
    return export->history;
}

uint64_t rk_export_clock_us(const struct rk_export *export)
{
    return export->clock_us;
}

const struct rk_export_stats *rk_export_stats(const struct rk_export *export)
{
    return &export->stats;
}

/* --- records of locks ----------------------------------------------------------------- */

static void on_records(void *context, const struct redisReply *reply)
{
    struct rk_export *export = context;
    if (reply->type != REDIS_REPLY_ARRAY || reply->elements != 2) return;
    const struct redisReply *pairs = reply->element[1];
    export->cursor = rk_export_number(reply->element[0]);
    for (size_t i = 0; i + 1 < pairs->elements; i += 2) {
        const char *colon = strchr(pairs->element[i]->str, ':');
        uint64_t id = colon != NULL ? strtoull(colon + 1, NULL, 10) : 0;
        enum rk_status status = export->io.record(export->io.context, id,
                                                  rk_export_text(pairs->element[i + 1]));
        if (status != RK_OK)
            (void)rk_offline_fail(export->offline, status, "records of locks: %s",
                                  rk_status_text(status));
    }
}

static enum rk_status records_run(struct rk_export *export)
{
    enum rk_status status = RK_OK;
    export->cursor = 0;
    do {
        char cursor[24];
        int size =
            snprintf(cursor, sizeof(cursor), "%llu", (unsigned long long)export->cursor);
        const struct rk_slice args[] = {
            RK_SLICE_LITERAL("HSCAN"), named(export, "rukun:{lock}:records"),
            rk_slice_of(cursor, (size_t)size), RK_SLICE_LITERAL("COUNT"),
            RK_SLICE_LITERAL("1000")};
        if (rk_buf_check(&export->key) != RK_OK) return rk_export_memory(export);
        status = rk_export_ask(export, args, 5, on_records, export);
        if (status == RK_OK) status = rk_offline_drain(export->offline);
    } while (status == RK_OK && export->cursor != 0);
    return status;
}

enum rk_status rk_export_run(struct rk_export *export)
{
    enum rk_status status = records_run(export);
    if (status == RK_OK) status = rk_export_topics(export);
    if (status == RK_OK) status = rk_export_scan(export);
    /* A node that came meanwhile may have changed what was read. */
    return status == RK_OK ? clients_check(export) : status;
}
