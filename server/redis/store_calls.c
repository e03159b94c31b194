#include "redis/store_internal.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>

enum { BEGINS_MAX = 3 };

/* --- lanes: ids of calls that brought none ----------------------------------------- */

/* One call at a time uses a lane, so that a topic keeps one answer for each: what is asked
 * again after a lost connection finds it. A script that comes late finds a higher number,
 * and does nothing. */
static bool lanes_grow(struct rk_store *store)
{
    uint32_t count = store->lane_count == 0 ? 64 : store->lane_count * 2;
    if (count > RK_STORE_LANES_MAX) return false;
    struct rk_lane *lanes = rk_realloc_array(store->lanes, count, sizeof(*lanes));
    if (lanes == NULL) return false;
    store->lanes = lanes;
    uint32_t *free_lanes = rk_realloc_array(store->free_lanes, count, sizeof(*free_lanes));
    if (free_lanes == NULL) return false;
    store->free_lanes = free_lanes;
    for (uint32_t i = count; i > store->lane_count; i--) {
        lanes[i - 1] = (struct rk_lane){0};
        free_lanes[store->free_lane_count++] = i - 1;
    }
    store->lane_count = count;
    return true;
}

static bool lane_take(struct rk_ask *call)
{
    struct rk_store *store = call->store;
    if (store->free_lane_count == 0 && !lanes_grow(store)) return false;
    uint32_t lane = store->free_lanes[--store->free_lane_count];
    call->lane = lane + 1;
    call->request.seq = call->request.first_unanswered = ++store->lanes[lane].seq;
    int size =
        snprintf(call->client, sizeof(call->client), "%s.%" PRIu32, store->lane_name, lane);
    call->client_size = (uint8_t)size;
    return true;
}

/* --- calls ------------------------------------------------------------------------- */

static bool is_queue_op(enum rk_op op)
{
    return (op >= RK_OP_QUEUE_PUBLISH && op <= RK_OP_QUEUE_REDRIVE) ||
           op == RK_OP_QUEUE_RETURN;
}

static enum rk_status request_copy(struct rk_ask *call, const struct rk_request *request)
{
    rk_request_encode(&call->bytes, request);
    if (rk_buf_check(&call->bytes) != RK_OK) return RK_ENOMEM;
    enum rk_status status =
        rk_request_decode(&call->request, rk_buf_slice(&call->bytes), &call->arena);
    call->request.seq = request->seq;
    call->request.first_unanswered = request->first_unanswered;
    return status;
}

static struct rk_ask *ask_new(struct rk_store *store, const struct rk_request *request,
                              uint64_t deadline_ms)
{
    struct rk_ask *call = NULL;
    if (store->open < RK_STORE_CALLS_MAX &&
        rk_heap_reserve(&store->timers, store->open + 1) == RK_OK)
        call = rk_calloc(1, sizeof(*call));
    if (call == NULL) return NULL;
    call->store = store;
    call->came_ms = rk_store_now();
    call->deadline_ms = deadline_ms;
    call->is_write = rk_op_info(request->op)->is_write;
    rk_buf_init(&call->bytes);
    rk_arena_init(&call->arena);
    rk_list_push_back(&store->asks, &call->all);
    rk_list_init(&call->link);
    rk_list_init(&call->parked);
    store->open++;
    if (request_copy(call, request) == RK_OK) return call;
    rk_ask_free(call);
    return NULL;
}

struct rk_ask *rk_ask_own(struct rk_store *store, const struct rk_request *request,
                          uint64_t deadline_ms,
                          void (*finished)(struct rk_ask *, const struct rk_reply *),
                          void *context)
{
    struct rk_ask *call = ask_new(store, request, deadline_ms);
    if (call == NULL) return NULL;
    call->finished = finished;
    call->context = context;
    if (!call->is_write || lane_take(call)) return call;
    rk_ask_free(call);
    return NULL;
}

struct rk_ask *rk_ask_part_new(struct rk_ask *whole, const struct rk_request *request,
                               uint32_t part)
{
    struct rk_ask *call = ask_new(whole->store, request, whole->deadline_ms);
    if (call == NULL) return NULL;
    memcpy(call->client, whole->client, sizeof(call->client));
    call->client_size = whole->client_size;
    call->request.seq = whole->request.seq;
    call->request.first_unanswered = whole->request.first_unanswered;
    call->whole = whole;
    call->part = part;
    whole->open_parts++;
    return call;
}

void rk_ask_free(struct rk_ask *call)
{
    struct rk_store *store = call->store;
    rk_queues_left(call);
    rk_list_remove(&call->all);
    rk_list_remove(&call->link);
    rk_heap_remove(&store->timers, &call->timer);
    if (call->number != 0) rk_map_remove(&store->calls, &call->node);
    if (call->redis_id != 0) rk_redis_forget(store->redis, call->redis_id);
    if (call->lane != 0) store->free_lanes[store->free_lane_count++] = call->lane - 1;
    rk_buf_fini(&call->bytes);
    rk_arena_fini(&call->arena);
    store->open--;
    rk_free(call);
}

void rk_asks_free(struct rk_store *store)
{
    rk_list_each_safe (link, &store->asks)
        rk_ask_free(RK_CONTAINER(link, struct rk_ask, all));
}

/* --- answers ----------------------------------------------------------------------- */

static void part_answer(struct rk_ask *part, const struct rk_reply *reply)
{
    struct rk_ask *whole = part->whole;
    whole->open_parts--;
    if (reply->status == RK_OK || reply->outcome == RK_OUTCOME_UNKNOWN)
        whole->has_done = true;
    whole->part_done(whole, part, reply, whole->open_parts == 0);
}

void rk_ask_answer(struct rk_ask *call, struct rk_reply *reply)
{
    struct rk_store *store = call->store;
    reply->op = call->request.op;
    /* What the answer is made of may belong to the call: it goes last. */
    rk_list_remove(&call->link);
    rk_heap_remove(&store->timers, &call->timer);
    rk_queues_waited(call);
    if (call->whole != NULL) {
        part_answer(call, reply);
    } else if (call->number != 0) {
        uint64_t number = call->number;
        rk_map_remove(&store->calls, &call->node);
        call->number = 0;
        if (reply->status != RK_OK) store->stats.failed++;
        store->io.reply(store->io.context, number, reply);
    } else if (call->finished != NULL) {
        call->finished(call, reply);
    }
    rk_ask_free(call);
}

void rk_ask_fail(struct rk_ask *call, enum rk_status status, const char *field,
                 const char *format, ...)
{
    struct rk_reply reply;
    va_list arguments;
    memset(&reply, 0, sizeof(reply));
    reply.status = status;
    if (field != NULL) reply.field = rk_slice_of_string(field);
    if (status == RK_EUNAVAILABLE || status == RK_EFULL) reply.retry_after_ms = 1000;
    /* A script is done as a whole or not at all, unless it fails in its midst: what it
     * wrote until then stays. */
    if (status == RK_EUNKNOWN || (status == RK_EIO && call->is_write && call->is_sent))
        reply.outcome = RK_OUTCOME_UNKNOWN;
    va_start(arguments, format);
    (void)vsnprintf(reply.text, sizeof(reply.text), format, arguments);
    va_end(arguments);
    rk_ask_answer(call, &reply);
}

static void fail_as(struct rk_ask *call, const struct rk_redis_result *result)
{
    switch (result->status) {
    case RK_EUNAVAILABLE:
        rk_ask_fail(call, RK_EUNAVAILABLE, NULL, "Redis does not answer: %s", result->text);
        return;
    case RK_EUNKNOWN:
        rk_ask_fail(call, call->is_write ? RK_EUNKNOWN : RK_EUNAVAILABLE, NULL,
                    "no answer of Redis within the deadline%s%s%s",
                    call->is_write ? "; the outcome is unknown" : "",
                    result->text[0] != '\0' ? ": " : "", result->text);
        return;
    case RK_EFULL:
        rk_ask_fail(call, RK_EFULL, NULL, "Redis is full: %s", result->text);
        return;
    case RK_ESIZE:
        rk_ask_fail(call, RK_ESIZE, NULL, "too large for Redis: %s", result->text);
        return;
    default: rk_ask_fail(call, RK_EIO, NULL, "Redis refused: %s", result->text); return;
    }
}

static void heard(void *context, const struct rk_redis_result *result)
{
    struct rk_ask *call = context;
    uint32_t wait = call->is_write ? call->store->wait : 0;
    call->redis_id = 0;
    rk_arena_reset(&call->store->replies);
    if (result->status != RK_OK)
        fail_as(call, result);
    else if (wait != 0 && result->replicas < 0)
        rk_ask_fail(call, RK_EUNKNOWN, NULL,
                    "done, but Redis was lost before it said how many replicas have it: a "
                    "failover may lose it");
    else if (wait != 0 && (uint32_t)result->replicas < wait)
        rk_ask_fail(call, RK_EUNKNOWN, NULL,
                    "done, but only %" PRId32 " of %" PRIu32
                    " replicas have it: a failover may lose it",
                    result->replicas, wait);
    else
        call->answered(call, result->reply);
}

/* --- scripts ----------------------------------------------------------------------- */

void rk_ask_ids(struct rk_ask *call, struct rk_slice out[4])
{
    struct rk_store *store = call->store;
    if (!call->is_write) {
        out[0] = RK_SLICE_EMPTY;
        out[1] = out[2] = out[3] = RK_SLICE_LITERAL("0");
        return;
    }
    uint64_t now = rk_store_now();
    uint64_t left = call->deadline_ms > now ? call->deadline_ms - now : 0;
    bool is_own = call->lane != 0 || (call->whole != NULL && call->whole->lane != 0);
    out[0] = rk_slice_of(call->client, call->client_size);
    out[1] = rk_store_text(store, call->request.seq);
    out[2] = rk_store_text(store, call->request.first_unanswered);
    out[3] = rk_store_text(store,
                           is_own ? left + RK_STORE_DEADLINE_MARGIN_MS : RK_STORE_KEEP_MS);
}

static bool ask_begin(struct rk_ask *call, rk_ask_heard *answered, struct rk_redis_ask *ask)
{
    uint64_t now = rk_store_now();
    RK_ASSERT(call->redis_id == 0);
    if (call->deadline_ms <= now) {
        rk_ask_fail(call, RK_EUNAVAILABLE, NULL, "the deadline passed");
        return false;
    }
    call->answered = answered;
    *ask = (struct rk_redis_ask){.done = heard,
                                 .context = call,
                                 .deadline_ms = (uint32_t)(call->deadline_ms - now),
                                 .may_repeat = true,
                                 .wait_replicas = call->is_write ? call->store->wait : 0};
    return true;
}

static void sent(struct rk_ask *call, uint64_t id)
{
    call->redis_id = id;
    call->is_sent = true;
    if (id == 0) rk_ask_fail(call, RK_EBUSY, NULL, "too many calls wait for Redis");
}

void rk_ask_eval(struct rk_ask *call, enum rk_store_script_id script,
                 const struct rk_slice *keys, uint32_t key_count,
                 const struct rk_slice *args, uint32_t arg_count, rk_ask_heard *answered)
{
    struct rk_redis_eval eval = {.script = &call->store->scripts[script],
                                 .keys = keys,
                                 .key_count = key_count,
                                 .args = args,
                                 .arg_count = arg_count};
    if (!ask_begin(call, answered, &eval.ask)) return;
    call->store->stats.scripts++;
    sent(call, rk_redis_eval(call->store->redis, &eval));
}

void rk_ask_command(struct rk_ask *call, const struct rk_slice *args, uint32_t arg_count,
                    rk_ask_heard *answered)
{
    struct rk_redis_command command = {
        .args = args, .arg_count = arg_count, .key = args[1]};
    if (!ask_begin(call, answered, &command.ask)) return;
    sent(call, rk_redis_send(call->store->redis, &command));
}

/* --- what comes in ----------------------------------------------------------------- */

void rk_ask_begin(struct rk_ask *call)
{
    struct rk_store *store = call->store;
    if (store->refusal[0] != '\0') {
        rk_ask_fail(call, RK_EUNAVAILABLE, NULL, "%s", store->refusal);
    } else if (store->history == 0) {
        rk_list_remove(&call->link);
        rk_list_push_back(&store->waiting, &call->link);
        rk_ask_wake_at(call, call->deadline_ms);
        rk_store_look(store);
    } else if (call->known != NULL) {
        rk_ask_answer(call, &(struct rk_reply){.status = RK_OK});
    } else if (is_queue_op(call->request.op)) {
        rk_queues_start(call);
    } else {
        rk_ask_fail(call, RK_EUNSUPPORTED, NULL, "%s: not offered by the redis engine",
                    rk_op_info(call->request.op)->name);
    }
}

bool rk_store_is_known(const struct rk_store *store)
{
    return store->history != 0 && store->refusal[0] == '\0';
}

static void now_known(struct rk_ask *call, const struct rk_reply *reply)
{
    (void)reply;
    call->known(call->context);
}

enum rk_status rk_store_when_known(struct rk_store *store, void (*known)(void *context),
                                   void *context)
{
    const struct rk_request request = {.op = RK_OP_CACHE_STATS};
    struct rk_ask *call = rk_ask_own(store, &request, rk_store_now() + RK_DEADLINE_MAX_MS,
                                     now_known, context);
    if (call == NULL) return RK_ENOMEM;
    call->known = known;
    rk_ask_begin(call);
    return RK_OK;
}

void rk_store_check(struct rk_store *store)
{
    (void)rk_store_doubt(store);
}

void rk_ask_again(struct rk_ask *call)
{
    if (call->begins == BEGINS_MAX) {
        rk_ask_fail(call, RK_EIO, NULL, "Redis says one thing and another");
        return;
    }
    call->begins++;
    call->listed = 0;
    rk_queues_waited(call);
    rk_store_forget(call->store);
    rk_ask_begin(call);
}

static uint64_t deadline_of(const struct rk_request *request)
{
    uint64_t span = request->deadline_ms != 0
                        ? request->deadline_ms
                        : request->wait_ms + RK_STORE_DEADLINE_MARGIN_MS;
    if (span > RK_DEADLINE_MAX_MS) span = RK_DEADLINE_MAX_MS;
    return rk_store_now() + span;
}

__attribute__((format(printf, 5, 6))) static void
refuse(struct rk_store *store, uint64_t number, const struct rk_request *request,
       enum rk_status status, const char *format, ...)
{
    struct rk_reply reply;
    va_list arguments;
    memset(&reply, 0, sizeof(reply));
    reply.op = request->op;
    reply.status = status;
    va_start(arguments, format);
    (void)vsnprintf(reply.text, sizeof(reply.text), format, arguments);
    va_end(arguments);
    store->stats.failed++;
    store->io.reply(store->io.context, number, &reply);
}

static enum rk_status take_ids(struct rk_ask *call, const struct rk_request *request)
{
    if (!call->is_write) return RK_OK;
    if (request->client.size == 0) return lane_take(call) ? RK_OK : RK_EBUSY;
    memcpy(call->client, request->client.data, request->client.size);
    call->client_size = (uint8_t)request->client.size;
    return RK_OK;
}

static enum rk_status number_take(struct rk_ask *call, uint64_t number)
{
    rk_put_u64(call->number_key, number);
    call->node.key = rk_slice_of(call->number_key, sizeof(call->number_key));
    enum rk_status status = rk_map_insert(&call->store->calls, &call->node);
    RK_ASSERT(status != RK_EEXIST);
    if (status == RK_OK) call->number = number;
    return status;
}

void rk_store_call(struct rk_store *store, uint64_t number,
                   const struct rk_request *request)
{
    RK_ASSERT(number != 0);
    store->stats.calls++;
    if (request->client.size > RK_STORE_CLIENT_SIZE) {
        refuse(store, number, request, RK_ERANGE, "client: at most %d bytes",
               RK_STORE_CLIENT_SIZE);
        return;
    }
    if (request->client.size != 0 && request->seq == 0 &&
        rk_op_info(request->op)->is_write) {
        refuse(store, number, request, RK_EINVAL, "seq: a request with client needs it");
        return;
    }
    struct rk_ask *call = ask_new(store, request, deadline_of(request));
    enum rk_status status = call != NULL ? RK_OK : RK_EBUSY;
    if (status == RK_OK) status = take_ids(call, request);
    if (status == RK_OK) status = number_take(call, number);
    if (status != RK_OK) {
        if (call != NULL) rk_ask_free(call);
        refuse(store, number, request, status, "too many calls are under way");
        return;
    }
    if (request->wait_ms != 0) call->wait_ms = rk_store_now() + request->wait_ms;
    rk_ask_begin(call);
}

void rk_store_drop(struct rk_store *store, uint64_t number)
{
    uint8_t key[8];
    rk_put_u64(key, number);
    struct rk_map_node *node = rk_map_find(&store->calls, rk_slice_of(key, sizeof(key)));
    if (node == NULL) return;
    struct rk_ask *call = RK_CONTAINER(node, struct rk_ask, node);
    rk_map_remove(&store->calls, node);
    call->number = 0;
    call->is_dropped = true;
    if (rk_list_is_linked(&call->link) || rk_queues_dropped(call)) rk_ask_free(call);
}
