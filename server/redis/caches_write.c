#include "redis/caches_internal.h"
#include "api/delivery_id.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

/* Decimal numbers as arguments of scripts. */
struct number {
    char text[24];
};

static struct rk_slice print(struct number *out, uint64_t value)
{
    int size = snprintf(out->text, sizeof(out->text), "%" PRIu64, value);
    return rk_slice_of(out->text, (size_t)size);
}

static struct rk_slice print_signed(struct number *out, int64_t value)
{
    int size = snprintf(out->text, sizeof(out->text), "%" PRId64, value);
    return rk_slice_of(out->text, (size_t)size);
}

static struct rk_slice word_of(uint8_t encoding)
{
    static const char *const words[] = {"", "json", "msgpack", "raw"};
    return rk_slice_of_string(words[encoding]);
}

static struct rk_slice flag(bool is_set)
{
    return is_set ? RK_SLICE_LITERAL("1") : RK_SLICE_EMPTY;
}

/* The key was changed to `version`: copies of before go, and the answer says so. */
static void changed(struct rk_cache_part *part, uint64_t version)
{
    struct rk_cache_call *call = part->call;
    struct rk_redis_caches *caches = call->caches;
    call->has_done = true;
    part->position = version;
    rk_lru_invalidate(&caches->lru, rk_cache_call_cache(call), part->key, version);
}

/* --- cache.put ----------------------------------------------------------------------- */

/* The time of the grant, or false: the token is none of this key and history. */
static bool token_time(const struct rk_cache_call *call, uint64_t *out)
{
    struct rk_fill_token token;
    struct rk_slice cache = rk_cache_call_cache(call);
    struct rk_slice key = call->parts[0].key;
    if (rk_fill_token_parse(&token, call->request.fill_token) != RK_OK) return false;
    *out = token.index;
    return token.history == call->caches->history &&
           token.key_hash == (uint32_t)rk_hash_seeded(key, rk_hash(cache));
}

static void put_refused(struct rk_cache_call *call, const struct redisReply *reply)
{
    uint64_t number = rk_cache_reply_number(reply, 1);
    if (rk_cache_reply_is(reply, "fence")) {
        call->failure.fence = number;
        rk_cache_call_fail(call, RK_EFENCE, "fence", "fence %" PRIu64 " is below %" PRIu64,
                           call->request.fence, number);
    } else if (rk_cache_reply_is(reply, "exists")) {
        call->failure.version = number;
        rk_cache_call_fail(call, RK_EEXIST, "if_absent",
                           "the key has an entry of version %" PRIu64, number);
    } else if (rk_cache_reply_is(reply, "version")) {
        call->failure.version = number;
        rk_cache_call_fail(call, RK_EVERSION, "if_version",
                           "the version is %" PRIu64 ", not %" PRIu64, number,
                           call->request.if_version);
    } else {
        rk_cache_call_fail(call, RK_EVOID, "fill_token",
                           "the key was changed or deleted since the token was given");
    }
}

static void on_put(void *context, const struct rk_redis_result *result)
{
    struct rk_cache_part *part = context;
    struct rk_cache_call *call = part->call;
    if (rk_cache_part_came(part, result)) {
        if (rk_cache_reply_is(result->reply, "ok"))
            changed(part, rk_cache_reply_number(result->reply, 1));
        else
            put_refused(call, result->reply);
    }
    rk_cache_call_check(call);
}

static void put_start(struct rk_cache_call *call)
{
    const struct rk_request *request = &call->request;
    struct rk_redis_caches *caches = call->caches;
    struct rk_cache_part *part = &call->parts[0];
    struct rk_slice cache = rk_cache_call_cache(call);
    struct number numbers[6];
    uint64_t token = 0;
    if (RK_HAS(request, FILL_TOKEN) && !token_time(call, &token)) {
        struct rk_fill_token unused;
        bool is_token = rk_fill_token_parse(&unused, request->fill_token) == RK_OK;
        rk_cache_call_fail(call, is_token ? RK_EVOID : RK_ERANGE, "fill_token",
                           is_token
                               ? "the key was changed or deleted since the token was given"
                               : "this is no fill token");
        rk_cache_call_check(call);
        return;
    }
    uint64_t ttl_ms =
        RK_HAS(request, TTL_MS) ? request->ttl_ms : rk_caches_setting_ttl(caches, cache);
    (void)rk_caches_key(caches, 0, cache, part->key, "");
    (void)rk_caches_key(caches, 1, cache, part->key, ":fill");
    (void)rk_caches_key(caches, 2, cache, part->key, ":fences");
    (void)rk_caches_request_key(call, 3, part->key);
    const struct rk_slice args[] = {
        rk_slice_of_string(caches->channel),
        rk_caches_message(caches, cache, part->key),
        request->value.bytes,
        word_of(request->value.encoding),
        print(&numbers[0], ttl_ms),
        print(&numbers[1], request->soft_ttl_ms),
        RK_HAS(request, IF_VERSION) ? print(&numbers[2], request->if_version)
                                    : RK_SLICE_EMPTY,
        flag(request->if_absent),
        token != 0 ? print(&numbers[3], token) : RK_SLICE_EMPTY,
        RK_HAS(request, FENCE) ? print(&numbers[4], request->fence) : RK_SLICE_EMPTY,
        request->fence_name,
        print(&numbers[5], rk_cache_call_keep_ms(call)),
    };
    (void)rk_cache_part_eval(part, &caches->put, 4, args, sizeof(args) / sizeof(args[0]),
                             on_put);
    rk_cache_call_check(call);
}

/* --- cache.delete -------------------------------------------------------------------- */

static void on_delete(void *context, const struct rk_redis_result *result)
{
    struct rk_cache_part *part = context;
    struct rk_cache_call *call = part->call;
    struct rk_result *line = &call->results[part - call->parts];
    if (rk_cache_part_came(part, result)) {
        line->id = part->key;
        line->version = rk_cache_reply_number(result->reply, 1);
        if (rk_cache_reply_is(result->reply, "ok")) {
            line->deleted = rk_cache_reply_number(result->reply, 2) != 0;
            changed(part, line->version);
        } else if (call->request.is_bulk) {
            line->status = RK_EVERSION;
        } else {
            put_refused(call, result->reply);
        }
    }
    rk_cache_call_check(call);
}

static void delete_start(struct rk_cache_call *call)
{
    const struct rk_request *request = &call->request;
    struct rk_redis_caches *caches = call->caches;
    struct rk_slice cache = rk_cache_call_cache(call);
    struct number numbers[2];
    for (uint32_t i = 0; i < call->part_count; i++) {
        struct rk_cache_part *part = &call->parts[i];
        (void)rk_caches_key(caches, 0, cache, part->key, "");
        (void)rk_caches_key(caches, 1, cache, part->key, ":fill");
        (void)rk_caches_request_key(call, 2, part->key);
        const struct rk_slice args[] = {
            rk_slice_of_string(caches->channel),
            rk_caches_message(caches, cache, part->key),
            RK_HAS(request, IF_VERSION) ? print(&numbers[0], request->if_version)
                                        : RK_SLICE_EMPTY,
            print(&numbers[1], rk_cache_call_keep_ms(call)),
        };
        if (!rk_cache_part_eval(part, &caches->remove, 3, args, 4, on_delete)) break;
    }
    rk_cache_call_check(call);
}

/* --- cache.touch --------------------------------------------------------------------- */

static void on_touch(void *context, const struct rk_redis_result *result)
{
    struct rk_cache_part *part = context;
    struct rk_cache_call *call = part->call;
    if (rk_cache_part_came(part, result)) {
        const struct redisReply *first =
            result->reply->elements != 0 ? result->reply->element[0] : NULL;
        call->results[0].deleted = first != NULL && first->integer != 0;
        call->results[0].version = rk_cache_reply_number(result->reply, 1);
        changed(part, call->results[0].version);
    }
    rk_cache_call_check(call);
}

static void touch_start(struct rk_cache_call *call)
{
    struct rk_redis_caches *caches = call->caches;
    struct rk_cache_part *part = &call->parts[0];
    struct rk_slice cache = rk_cache_call_cache(call);
    struct number numbers[2];
    (void)rk_caches_key(caches, 0, cache, part->key, "");
    (void)rk_caches_request_key(call, 1, part->key);
    const struct rk_slice args[] = {
        rk_slice_of_string(caches->channel),
        rk_caches_message(caches, cache, part->key),
        print(&numbers[0], call->request.ttl_ms),
        print(&numbers[1], rk_cache_call_keep_ms(call)),
    };
    (void)rk_cache_part_eval(part, &caches->touch, 2, args, 4, on_touch);
    rk_cache_call_check(call);
}

/* --- cache.add ----------------------------------------------------------------------- */

static bool parse_number(struct rk_slice text, int64_t *out)
{
    char copy[24];
    char *end;
    if (text.size == 0 || text.size >= sizeof(copy)) return false;
    if (text.data[0] != '-' && (text.data[0] < '0' || text.data[0] > '9')) return false;
    memcpy(copy, text.data, text.size);
    copy[text.size] = '\0';
    errno = 0;
    long long value = strtoll(copy, &end, 10);
    *out = value;
    return errno == 0 && end == copy + text.size;
}

static bool add_ask(struct rk_cache_call *call, struct rk_slice converted,
                    uint64_t converted_version);

static void add_refused(struct rk_cache_call *call, const struct redisReply *reply)
{
    struct rk_value value = {rk_cache_reply_text(reply, 2), RK_ENCODING_RAW};
    int64_t number;
    if (rk_cache_reply_is(reply, "range")) {
        rk_cache_call_fail(call, RK_ERANGE, "delta", "the sum is beyond 64 bits with sign");
        return;
    }
    if (rk_slice_is_equal(rk_cache_reply_text(reply, 3), RK_SLICE_LITERAL("msgpack"))) {
        value.encoding = RK_ENCODING_MSGPACK;
        if (rk_value_convert(&value, value, RK_ENCODING_JSON, &call->arena) != RK_OK)
            value.encoding = RK_ENCODING_RAW;
    }
    if (value.encoding == RK_ENCODING_JSON && parse_number(value.bytes, &number))
        (void)add_ask(call, value.bytes, rk_cache_reply_number(reply, 1));
    else
        rk_cache_call_fail(call, RK_ECONVERT, "key", "the entry is no whole number");
}

static void on_add(void *context, const struct rk_redis_result *result)
{
    struct rk_cache_part *part = context;
    struct rk_cache_call *call = part->call;
    if (rk_cache_part_came(part, result)) {
        if (rk_cache_reply_is(result->reply, "ok")) {
            int64_t number = 0;
            changed(part, rk_cache_reply_number(result->reply, 1));
            if (!parse_number(rk_cache_reply_text(result->reply, 2), &number))
                rk_cache_call_fail(call, RK_EIO, NULL, "Redis answered no number");
            call->request.delta = number;
        } else {
            add_refused(call, result->reply);
        }
    }
    rk_cache_call_check(call);
}

static bool add_ask(struct rk_cache_call *call, struct rk_slice converted,
                    uint64_t converted_version)
{
    const struct rk_request *request = &call->request;
    struct rk_redis_caches *caches = call->caches;
    struct rk_cache_part *part = &call->parts[0];
    struct rk_slice cache = rk_cache_call_cache(call);
    struct number numbers[5];
    int64_t first;
    bool has_first = !__builtin_add_overflow(request->initial, request->delta, &first);
    uint64_t ttl_ms =
        RK_HAS(request, TTL_MS) ? request->ttl_ms : rk_caches_setting_ttl(caches, cache);
    (void)rk_caches_key(caches, 0, cache, part->key, "");
    (void)rk_caches_key(caches, 1, cache, part->key, ":fill");
    (void)rk_caches_request_key(call, 2, part->key);
    const struct rk_slice args[] = {
        rk_slice_of_string(caches->channel),
        rk_caches_message(caches, cache, part->key),
        print_signed(&numbers[0], request->delta),
        has_first ? print_signed(&numbers[1], first) : RK_SLICE_EMPTY,
        print(&numbers[2], ttl_ms),
        print(&numbers[3], rk_cache_call_keep_ms(call)),
        converted,
        converted.size != 0 ? print(&numbers[4], converted_version) : RK_SLICE_EMPTY,
    };
    return rk_cache_part_eval(part, &caches->add, 3, args, 8, on_add);
}

/* --- all of them --------------------------------------------------------------------- */

void rk_cache_write_start(struct rk_cache_call *call)
{
    switch (call->request.op) {
    case RK_OP_CACHE_PUT: put_start(call); return;
    case RK_OP_CACHE_DELETE: delete_start(call); return;
    case RK_OP_CACHE_TOUCH: touch_start(call); return;
    case RK_OP_CACHE_ADD: (void)add_ask(call, RK_SLICE_EMPTY, 0); break;
    default:
        rk_cache_call_fail(call, RK_EUNSUPPORTED, NULL, "%s is not offered",
                           rk_op_info(call->request.op)->name);
        break;
    }
    rk_cache_call_check(call);
}

void rk_cache_write_done(struct rk_cache_call *call)
{
    struct rk_reply reply = {.is_bulk = call->request.is_bulk};
    switch (call->request.op) {
    case RK_OP_CACHE_PUT: reply.ok = true; break;
    case RK_OP_CACHE_TOUCH: reply.touched = call->results[0].deleted; break;
    case RK_OP_CACHE_ADD: reply.number_value = call->request.delta; break;
    case RK_OP_CACHE_CONFIGURE: reply.ok = true; break;
    default:
        reply.results = call->results;
        reply.result_count = call->part_count;
        reply.deleted = call->results[0].deleted;
        break;
    }
    reply.version = call->parts[0].position;
    if (call->request.op != RK_OP_CACHE_CONFIGURE) rk_cache_positions_fill(call, &reply);
    rk_cache_call_answer(call, &reply);
}
