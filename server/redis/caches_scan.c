#include "redis/caches_internal.h"
#include "redis/names.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

/* cache.invalidate: every master is searched for keys of the cache, and each one found is
 * removed as cache.delete does it. What is put meanwhile may stay. */

/* A Cluster may move an entry to a master that was searched already: another round finds
 * it, and the last one has found nothing, or there were enough. */
enum { SCAN_COUNT = 500, SCAN_ROUNDS_MAX = 5 };

/* The prefix is the operator's own text: only what SCAN would read as a pattern is quoted.
 */
static void append_pattern(struct rk_buf *out, const struct rk_cache_call *call)
{
    const char *prefix = call->caches->prefix;
    struct rk_slice cache = rk_cache_call_cache(call);
    for (; *prefix != '\0'; prefix++) {
        if (strchr("*?[]\\", *prefix) != NULL) rk_buf_u8(out, '\\');
        rk_buf_u8(out, (uint8_t)*prefix);
    }
    rk_buf_append_string(out, "cache:");
    if (cache.size != 0) {
        rk_redis_name_pattern(out, cache);
        rk_buf_u8(out, ':');
    }
    rk_buf_u8(out, '{');
    rk_redis_name_pattern(out, call->request.prefix);
    rk_buf_u8(out, '*');
}

/* The key of an entry, or of a right to fill one, in the call's memory; empty: neither. */
static struct rk_slice key_of(struct rk_cache_call *call, struct rk_slice text,
                              bool *is_entry)
{
    struct rk_redis_caches *caches = call->caches;
    struct rk_buf *head = &caches->keys[0];
    struct rk_slice fill = RK_SLICE_LITERAL(":fill");
    rk_buf_reset(head);
    rk_buf_append_string(head, caches->prefix);
    rk_buf_append_string(head, "cache:");
    if (rk_cache_call_cache(call).size != 0) {
        rk_redis_name_escape(head, rk_cache_call_cache(call));
        rk_buf_u8(head, ':');
    }
    rk_buf_u8(head, '{');
    if (head->is_failed || !rk_slice_has_prefix(text, rk_buf_slice(head)))
        return RK_SLICE_EMPTY;
    text = rk_slice_of(text.data + head->size, text.size - head->size);
    *is_entry = text.size != 0 && text.data[text.size - 1] == '}';
    if (!*is_entry) {
        if (text.size <= fill.size ||
            !rk_slice_is_equal(rk_slice_of(text.data + text.size - fill.size, fill.size),
                               fill))
            return RK_SLICE_EMPTY;
        text.size -= fill.size;
    }
    if (text.size < 2 || text.data[text.size - 1] != '}') return RK_SLICE_EMPTY;
    text.size--;
    rk_buf_reset(&caches->text);
    if (rk_redis_name_unescape(&caches->text, text) != RK_OK) return RK_SLICE_EMPTY;
    return rk_buf_slice(&caches->text);
}

static void on_removed(void *context, const struct rk_redis_result *result)
{
    struct rk_cache_part *part = context;
    struct rk_cache_call *call = part->call;
    if (rk_cache_part_came(part, result)) {
        call->has_done = true;
        call->removed += rk_cache_reply_number(result->reply, 2);
        rk_lru_invalidate(&call->caches->lru, rk_cache_call_cache(call), part->key,
                          rk_cache_reply_number(result->reply, 1));
    }
    rk_cache_call_check(call);
}

static bool remove_one(struct rk_cache_part *part)
{
    struct rk_cache_call *call = part->call;
    struct rk_redis_caches *caches = call->caches;
    struct rk_slice cache = rk_cache_call_cache(call);
    (void)rk_caches_key(caches, 0, cache, part->key, "");
    (void)rk_caches_key(caches, 1, cache, part->key, ":fill");
    (void)rk_caches_key(caches, 2, cache, part->key, ":request:");
    const struct rk_slice args[] = {
        rk_slice_of_string(caches->channel),
        rk_caches_message(caches, cache, part->key),
        RK_SLICE_EMPTY,
        RK_SLICE_LITERAL("0"),
    };
    return rk_cache_part_eval(part, &caches->remove, 3, args, 4, on_removed);
}

/* The keys that one SCAN found; the memory of those before is given back. */
static void remove_found(struct rk_cache_call *call, const struct redisReply *found)
{
    rk_free(call->batch);
    rk_arena_reset(&call->arena);
    call->part_count = 0;
    call->batch = rk_calloc(found->elements + 1, sizeof(*call->batch));
    if (call->batch == NULL) {
        rk_cache_call_fail(call, RK_ENOMEM, NULL, "out of memory");
        return;
    }
    call->parts = call->batch;
    for (size_t i = 0; i < found->elements; i++) {
        bool is_entry;
        struct rk_slice key = key_of(call, rk_cache_reply_text(found, i), &is_entry);
        if (key.size == 0) continue;
        struct rk_cache_part *part = &call->batch[call->part_count];
        part->call = call;
        part->key = rk_arena_copy(&call->arena, key);
        if (part->key.size == 0) {
            rk_cache_call_fail(call, RK_ENOMEM, NULL, "out of memory");
            return;
        }
        call->part_count++;
        if (!remove_one(part)) return;
    }
}

static void on_scanned(void *context, const struct rk_redis_result *result)
{
    struct rk_cache_call *call = context;
    call->scan = 0;
    call->open_count--;
    if (result->status != RK_OK) {
        rk_cache_call_fail(call,
                           result->status == RK_EUNKNOWN ? RK_EUNAVAILABLE : result->status,
                           NULL, "Redis: %s", result->text);
    } else if (result->reply->type != REDIS_REPLY_ARRAY || result->reply->elements != 2 ||
               result->reply->element[1]->type != REDIS_REPLY_ARRAY) {
        rk_cache_call_fail(call, RK_EIO, NULL, "Redis answered SCAN with something else");
    } else {
        struct rk_slice cursor = rk_cache_reply_text(result->reply, 0);
        char text[24] = "";
        if (cursor.size < sizeof(text)) memcpy(text, cursor.data, cursor.size);
        call->cursor = strtoull(text, NULL, 10);
        if (call->cursor == 0) call->scan_node++;
        remove_found(call, result->reply->element[1]);
    }
    rk_cache_call_check(call);
}

static void scan_on(struct rk_cache_call *call)
{
    struct rk_redis_caches *caches = call->caches;
    struct rk_buf *pattern = &caches->text;
    char cursor[24], count[12];
    uint64_t now = rk_redis_caches_now();
    if (now >= call->deadline_ms) {
        rk_cache_call_fail(call, RK_EUNKNOWN, NULL,
                           "the deadline passed when %" PRIu64 " entries were removed",
                           call->removed);
        return;
    }
    rk_buf_reset(pattern);
    append_pattern(pattern, call);
    (void)snprintf(cursor, sizeof(cursor), "%" PRIu64, call->cursor);
    (void)snprintf(count, sizeof(count), "%d", SCAN_COUNT);
    const struct rk_slice args[] = {
        RK_SLICE_LITERAL("SCAN"), rk_slice_of_string(cursor), RK_SLICE_LITERAL("MATCH"),
        rk_buf_slice(pattern),    RK_SLICE_LITERAL("COUNT"),  rk_slice_of_string(count),
    };
    struct rk_redis_command command = {
        .args = args,
        .arg_count = 6,
        .ask = {.done = on_scanned,
                .context = call,
                .deadline_ms = (uint32_t)(call->deadline_ms - now),
                .may_repeat = true,
                .node = call->scan_node},
    };
    call->scan = pattern->is_failed ? 0 : rk_redis_send(caches->redis, &command);
    if (call->scan == 0)
        rk_cache_call_fail(call, RK_EBUSY, NULL, "too many Redis commands are under way");
    else
        call->open_count++;
}

void rk_cache_scan_start(struct rk_cache_call *call)
{
    call->scan_node = 1;
    call->scan_round = 1;
    if (rk_redis_node_count(call->caches->redis) == 0)
        rk_cache_call_fail(call, RK_EUNAVAILABLE, NULL, "Redis: %s",
                           rk_redis_reason(call->caches->redis));
    else
        scan_on(call);
    rk_cache_call_check(call);
}

void rk_cache_scan_done(struct rk_cache_call *call)
{
    uint32_t count = rk_redis_node_count(call->caches->redis);
    if (call->scan_node > count && count > 1 && call->scan_round < SCAN_ROUNDS_MAX &&
        (call->scan_round == 1 || call->removed > call->removed_before)) {
        call->scan_node = 1;
        call->scan_round++;
        call->removed_before = call->removed;
    }
    if (call->scan_node <= count) {
        scan_on(call);
        if (call->open_count == 0) rk_cache_call_check(call);
        return;
    }
    struct rk_reply reply = {.ok = true, .count = call->removed};
    rk_cache_call_answer(call, &reply);
}
