#include "redis/caches_internal.h"
#include "api/delivery_id.h"

#include <stdio.h>
#include <stdlib.h>

/* What cache_get.lua answers. */
enum answer {
    ANSWER_NOW,
    ANSWER_FOUND,
    ANSWER_VALUE,
    ANSWER_ENCODING,
    ANSWER_VERSION,
    ANSWER_TTL,
    ANSWER_SOFT,
    ANSWER_TOKEN,
    ANSWER_BUSY,
};

static uint8_t encoding_of(struct rk_slice word)
{
    if (rk_slice_is_equal(word, RK_SLICE_LITERAL("json"))) return RK_ENCODING_JSON;
    if (rk_slice_is_equal(word, RK_SLICE_LITERAL("msgpack"))) return RK_ENCODING_MSGPACK;
    return RK_ENCODING_RAW;
}

/* As the state machine has it, so that a token fits no other key. */
static uint32_t key_hash(struct rk_slice cache, struct rk_slice key)
{
    return (uint32_t)rk_hash_seeded(key, rk_hash(cache));
}

/* --- from copies --------------------------------------------------------------------- */

/* Whether a copy may answer, and since when it must have been read. */
static bool may_copy(const struct rk_redis_caches *caches, const struct rk_request *request,
                     struct rk_slice key, uint64_t *after_us)
{
    const struct rk_position *position = &request->position;
    *after_us = 0;
    if (!caches->is_live || caches->history == 0) return false;
    if (request->consistency == RK_CONSISTENCY_LOCAL) return true;
    if (request->consistency == RK_CONSISTENCY_LINEARIZABLE) return false;
    if (position->history != caches->history) return false;
    uint32_t group = caches->io.group(caches->io.context, key);
    for (uint32_t i = 0; i < position->count; i++)
        if (position->items[i].group == group) *after_us = position->items[i].index;
    return true;
}

static bool find_copy(struct rk_redis_caches *caches, const struct rk_request *request,
                      struct rk_slice cache, struct rk_slice key, struct rk_entry_out *out,
                      uint64_t *position)
{
    uint64_t now = rk_redis_caches_now();
    uint64_t after_us;
    if (!may_copy(caches, request, key, &after_us)) return false;
    const struct rk_lru_copy *copy = rk_lru_find(&caches->lru, cache, key, after_us, now);
    if (copy == NULL) return false;
    bool is_stale = now >= copy->soft_ms;
    bool is_found = copy->encoding != RK_ENCODING_NONE;
    /* Who takes part in filling is settled in Redis. */
    if (request->fill_ms != 0 && (!is_found || is_stale)) return false;
    *out = (struct rk_entry_out){.key = key, .found = is_found, .stale = is_stale};
    if (is_found) {
        out->value = (struct rk_value){copy->value, copy->encoding};
        out->version = copy->version;
    }
    *position = is_found ? copy->version : copy->read_us;
    return true;
}

static void reply_single(struct rk_reply *reply, const struct rk_entry_out *entry)
{
    reply->found = entry->found;
    reply->stale = entry->stale;
    reply->value = entry->value;
    reply->version = entry->version;
}

bool rk_caches_read_now(struct rk_redis_caches *caches, uint64_t number,
                        const struct rk_request *request)
{
    struct rk_slice cache = request->cache;
    struct rk_entry_out entry;
    struct rk_reply reply = {.op = RK_OP_CACHE_GET, .entries = &entry, .entry_count = 1};
    if (request->is_bulk || request->keys.count > 1) return false;
    struct rk_slice key = request->keys.count == 1 ? request->keys.items[0] : request->key;
    if (rk_slice_is_equal(cache, RK_SLICE_LITERAL("default"))) cache = RK_SLICE_EMPTY;
    if (!find_copy(caches, request, cache, key, &entry, &reply.position_index))
        return false;
    reply_single(&reply, &entry);
    reply.position_group = caches->io.group(caches->io.context, key);
    reply.position_history = caches->history;
    caches->io.reply(caches->io.context, number, &reply);
    return true;
}

/* --- from Redis ---------------------------------------------------------------------- */

static uint64_t time_left(const struct redisReply *reply, size_t at, uint64_t from_ms)
{
    const struct redisReply *item = at < reply->elements ? reply->element[at] : NULL;
    if (item == NULL || item->type != REDIS_REPLY_INTEGER || item->integer < 0)
        return UINT64_MAX;
    return from_ms + (uint64_t)item->integer;
}

/* What Redis has, kept as a copy and, for the answer, in the call's memory. */
static void take_entry(struct rk_cache_part *part, const struct redisReply *reply)
{
    struct rk_cache_call *call = part->call;
    struct rk_redis_caches *caches = call->caches;
    struct rk_entry_out *entry = &call->entries[part - call->parts];
    bool is_found = rk_cache_reply_number(reply, ANSWER_FOUND) != 0;
    struct rk_lru_copy copy = {
        .value = rk_cache_reply_text(reply, ANSWER_VALUE),
        .version = rk_cache_reply_number(reply, ANSWER_VERSION),
        .read_us = rk_cache_reply_number(reply, ANSWER_NOW),
        /* From when it was asked: not later than Redis counted. */
        .expires_ms = time_left(reply, ANSWER_TTL, part->asked_ms),
        .soft_ms = time_left(reply, ANSWER_SOFT, part->asked_ms),
        .encoding = is_found ? encoding_of(rk_cache_reply_text(reply, ANSWER_ENCODING))
                             : RK_ENCODING_NONE,
    };
    if (caches->is_live)
        rk_lru_keep(&caches->lru, part->ticket, rk_cache_call_cache(call), part->key,
                    &copy);
    *entry = (struct rk_entry_out){.key = part->key, .found = is_found};
    part->position = is_found ? copy.version : copy.read_us;
    if (!is_found) return;
    entry->version = copy.version;
    entry->stale = copy.soft_ms == part->asked_ms;
    entry->value =
        (struct rk_value){rk_arena_copy(&call->arena, copy.value), copy.encoding};
    if (entry->value.bytes.size != copy.value.size)
        rk_cache_call_fail(call, RK_ENOMEM, NULL, "out of memory");
}

static void on_read(void *context, const struct rk_redis_result *result)
{
    struct rk_cache_part *part = context;
    struct rk_cache_call *call = part->call;
    if (rk_cache_part_came(part, result)) {
        take_entry(part, result->reply);
        part->token = rk_cache_reply_number(result->reply, ANSWER_TOKEN);
        part->busy_ms = rk_cache_reply_number(result->reply, ANSWER_BUSY);
    }
    rk_cache_call_check(call);
}

static bool part_ask(struct rk_cache_part *part)
{
    struct rk_cache_call *call = part->call;
    struct rk_redis_caches *caches = call->caches;
    struct rk_slice cache = rk_cache_call_cache(call);
    char fill[24];
    uint64_t fill_ms = call->request.is_bulk ? 0 : call->request.fill_ms;
    int size = snprintf(fill, sizeof(fill), "%llu", (unsigned long long)fill_ms);
    struct rk_slice args[1] = {rk_slice_of(fill, (size_t)size)};
    (void)rk_caches_key(caches, 0, cache, part->key, "");
    (void)rk_caches_key(caches, 1, cache, part->key, ":fill");
    part->ticket = rk_lru_ticket(&caches->lru, cache, part->key);
    return rk_cache_part_eval(part, &caches->get, 2, args, 1, on_read);
}

void rk_cache_read_start(struct rk_cache_call *call)
{
    struct rk_redis_caches *caches = call->caches;
    struct rk_slice cache = rk_cache_call_cache(call);
    for (uint32_t i = 0; i < call->part_count; i++) {
        struct rk_cache_part *part = &call->parts[i];
        struct rk_entry_out *entry = &call->entries[i];
        if (call->part_count > 1 &&
            find_copy(caches, &call->request, cache, part->key, entry, &part->position)) {
            struct rk_slice value = entry->value.bytes;
            entry->value.bytes = rk_arena_copy(&call->arena, value);
            if (entry->value.bytes.size != value.size)
                rk_cache_call_fail(call, RK_ENOMEM, NULL, "out of memory");
            continue;
        }
        if (!part_ask(part)) break;
    }
    rk_cache_call_check(call);
}

/* --- filling ------------------------------------------------------------------------- */

static struct rk_list *waiting_of(struct rk_redis_caches *caches, struct rk_slice cache,
                                  struct rk_slice key)
{
    return &caches->waiting[key_hash(cache, key) % RK_CACHES_WAITING];
}

/* Another caller fills the key: its value, its end or our own wakes the call. */
static void wait_for_value(struct rk_cache_call *call, uint64_t busy_ms)
{
    struct rk_redis_caches *caches = call->caches;
    uint64_t again = rk_redis_caches_now() + busy_ms + 1;
    rk_list_push_back(waiting_of(caches, rk_cache_call_cache(call), call->parts[0].key),
                      &call->link);
    call->is_filling = true;
    caches->filling++;
    rk_cache_call_wake_at(call, again < call->wait_ms ? again : call->wait_ms);
}

void rk_cache_read_wake(struct rk_cache_call *call)
{
    struct rk_redis_caches *caches = call->caches;
    rk_list_remove(&call->link);
    rk_heap_remove(&caches->timers, &call->timer);
    call->is_filling = false;
    caches->filling--;
    (void)part_ask(&call->parts[0]);
    rk_cache_call_check(call);
}

void rk_caches_wake(struct rk_redis_caches *caches, struct rk_slice cache,
                    struct rk_slice key)
{
    struct rk_list woken;
    rk_list_init(&woken);
    rk_list_each_safe (link, waiting_of(caches, cache, key)) {
        struct rk_cache_call *call = RK_CONTAINER(link, struct rk_cache_call, link);
        if (!rk_slice_is_equal(call->parts[0].key, key) ||
            !rk_slice_is_equal(rk_cache_call_cache(call), cache))
            continue;
        rk_list_remove(link);
        rk_list_push_back(&woken, link);
    }
    while (!rk_list_is_empty(&woken))
        rk_cache_read_wake(RK_CONTAINER(woken.next, struct rk_cache_call, link));
}

static void give_token(const struct rk_cache_call *call, struct rk_reply *reply,
                       char text[RK_DELIVERY_ID_SIZE])
{
    struct rk_slice cache = rk_cache_call_cache(call);
    struct rk_fill_token token = {
        .key_hash = key_hash(cache, call->parts[0].key),
        .history = call->caches->history,
        .index = call->parts[0].token,
    };
    reply->fill_token = rk_slice_of(text, rk_fill_token_print(text, &token));
}

/* --- the answer ---------------------------------------------------------------------- */

static int by_group(const void *a, const void *b)
{
    uint32_t left = ((const struct rk_position_item *)a)->group;
    uint32_t right = ((const struct rk_position_item *)b)->group;
    return left < right ? -1 : left > right;
}

void rk_cache_positions_fill(struct rk_cache_call *call, struct rk_reply *reply)
{
    struct rk_redis_caches *caches = call->caches;
    struct rk_position_item *items =
        rk_arena_calloc(&call->arena, call->part_count, sizeof(*items));
    if (items == NULL) return; /* without a position the next read asks Redis */
    for (uint32_t i = 0; i < call->part_count; i++) {
        items[i].group = caches->io.group(caches->io.context, call->parts[i].key);
        items[i].index = call->parts[i].position;
    }
    qsort(items, call->part_count, sizeof(*items), by_group);
    uint32_t count = 0;
    for (uint32_t i = 0; i < call->part_count; i++) {
        if (count == 0 || items[count - 1].group != items[i].group)
            items[count++] = items[i];
        else if (items[count - 1].index < items[i].index)
            items[count - 1].index = items[i].index;
    }
    reply->positions = items;
    reply->position_count = count;
    reply->position_group = items[0].group;
    reply->position_index = items[0].index;
}

void rk_cache_read_done(struct rk_cache_call *call)
{
    const struct rk_cache_part *first = &call->parts[0];
    const struct rk_entry_out *entry = &call->entries[0];
    bool is_missing = !entry->found && first->busy_ms != 0;
    if (is_missing && rk_redis_caches_now() < call->wait_ms) {
        wait_for_value(call, first->busy_ms);
        return;
    }
    char text[RK_DELIVERY_ID_SIZE];
    struct rk_reply reply = {
        .entries = call->entries,
        .entry_count = call->part_count,
        .is_bulk = call->request.is_bulk,
    };
    if (!reply.is_bulk) {
        reply_single(&reply, entry);
        if (first->token != 0) give_token(call, &reply, text);
    }
    rk_cache_positions_fill(call, &reply);
    rk_cache_call_answer(call, &reply);
}
