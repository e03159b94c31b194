/* Consumers: those who find nothing wait at this node, first come first served; Redis is
 * told that their topic is awaited, and says on a channel when to look again. */
#include "redis/queues_internal.h"

enum { LOOKS_MAX = 64, LOOK_AGAIN_MS = 500 };

static void look(struct rk_ask *call);

static void look_by(struct rk_store *store, struct rk_store_topic *topic, uint64_t at_ms)
{
    struct rk_heap *looks = &store->queues->looks;
    if (rk_heap_has(&topic->look_node)) {
        if (topic->look_ms <= at_ms) return;
        topic->look_ms = at_ms;
        rk_heap_update(looks, &topic->look_node);
    } else {
        topic->look_ms = at_ms;
        if (rk_heap_push(looks, &topic->look_node) != RK_OK) return;
    }
    rk_store_tick_by(store, at_ms);
}

void rk_topic_look_by(struct rk_store *store, struct rk_store_topic *topic, uint64_t at_ms)
{
    if (topic->parked_count != 0) look_by(store, topic, at_ms);
}

/* --- waiting ----------------------------------------------------------------------- */

void rk_consume_park_end(struct rk_ask *call)
{
    struct rk_store_topic *topic = call->topic;
    rk_list_remove(&call->parked);
    topic->parked_count--;
    call->store->stats.parked--;
    if (topic->parked_count == 0)
        rk_heap_remove(&call->store->queues->looks, &topic->look_node);
}

/* One that waited before keeps its place. */
static void park(struct rk_ask *call)
{
    struct rk_store_topic *topic = call->topic;
    if (call->was_parked)
        rk_list_push_front(&topic->parked, &call->parked);
    else
        rk_list_push_back(&topic->parked, &call->parked);
    call->was_parked = true;
    topic->parked_count++;
    call->store->stats.parked++;
    rk_ask_wake_at(call,
                   call->wait_ms < call->deadline_ms ? call->wait_ms : call->deadline_ms);
    if (topic->looks == 0) look_by(call->store, topic, rk_store_now() + RK_AWAIT_AGAIN_MS);
}

static void look_first(struct rk_store_topic *topic)
{
    struct rk_ask *call = RK_CONTAINER(topic->parked.next, struct rk_ask, parked);
    rk_consume_park_end(call);
    rk_heap_remove(&call->store->timers, &call->timer);
    look(call);
}

void rk_topic_woken(struct rk_store *store, struct rk_store_topic *topic)
{
    (void)store;
    if (topic->looks != 0)
        topic->is_woken = true;
    else if (topic->parked_count != 0)
        look_first(topic);
}

void rk_topic_looked(struct rk_ask *call)
{
    struct rk_store_topic *topic = call->topic;
    call->is_looking = false;
    topic->looks--;
    if (topic->looks != 0 || topic->parked_count == 0) return;
    look_by(call->store, topic, rk_store_now() + (topic->is_woken ? 0 : LOOK_AGAIN_MS));
    topic->is_woken = false;
}

void rk_queues_woken(struct rk_ask *call)
{
    if (call->wait_ms > call->deadline_ms) {
        rk_ask_fail(call, RK_EUNAVAILABLE, NULL, "the deadline passed");
        return;
    }
    struct rk_reply out;
    memset(&out, 0, sizeof(out));
    out.is_bulk = RK_HAS(&call->request, MAX);
    rk_ask_answer(call, &out);
}

/* --- looking ----------------------------------------------------------------------- */

static void hand_back(struct rk_ask *call, const struct rk_reply *reply)
{
    struct rk_slice ids[RK_BATCH_MAX];
    struct rk_request request;
    uint32_t count =
        reply->message_count < RK_BATCH_MAX ? reply->message_count : RK_BATCH_MAX;
    for (uint32_t i = 0; i < count; i++)
        ids[i] = reply->messages[i].id;
    rk_request_init(&request, RK_OP_QUEUE_RETURN);
    request.topic = call->request.topic;
    request.is_bulk = true;
    request.ids = (struct rk_strings){ids, count};
    RK_SET(&request, TOPIC);
    RK_SET(&request, IDS);
    struct rk_ask *own = rk_ask_own(
        call->store, &request, rk_store_now() + RK_STORE_DEADLINE_MARGIN_MS, NULL, NULL);
    call->store->stats.returned += count;
    if (own != NULL) rk_ask_begin(own); /* else they come back when their time is over */
}

static enum rk_status deliveries_read(struct rk_ask *call, const struct redisReply *reply,
                                      struct rk_reply *out)
{
    struct rk_store *store = call->store;
    size_t count = reply->elements > 5 ? reply->elements - 5 : 0;
    memset(out, 0, sizeof(*out));
    out->is_bulk = RK_HAS(&call->request, MAX);
    out->messages = rk_arena_calloc(&store->replies, count + 1, sizeof(*out->messages));
    if (out->messages == NULL) return RK_ENOMEM;
    for (size_t i = 0; i < count; i++) {
        enum rk_status status =
            rk_message_read(store, reply->element[5 + i], true, false, &out->messages[i]);
        if (status != RK_OK) return status;
        out->message_count++;
    }
    return RK_OK;
}

/* What was said while a look was under way may have come after it. */
static void look_if_woken(struct rk_store *store, struct rk_store_topic *topic)
{
    if (topic->looks != 0) return;
    if (topic->is_woken) rk_topic_look_by(store, topic, rk_store_now());
    topic->is_woken = false;
}

/* `left` more may be handed out: as many of those who wait look at once. */
static void look_on(struct rk_store *store, struct rk_store_topic *topic, uint64_t left)
{
    while (left > topic->looks && topic->parked_count != 0 && topic->looks < LOOKS_MAX)
        look_first(topic);
    look_if_woken(store, topic);
}

static void found(struct rk_ask *call, const struct redisReply *reply, uint64_t left)
{
    struct rk_store_topic *topic = call->topic;
    struct rk_store *store = call->store;
    struct rk_reply out;
    enum rk_status status = deliveries_read(call, reply, &out);
    if (status == RK_OK && call->is_dropped) hand_back(call, &out);
    topic->holds++;
    if (status == RK_OK)
        rk_ask_answer(call, &out);
    else
        rk_ask_unreadable(call, status);
    topic->holds--;
    look_on(store, topic, left);
}

static void looked(struct rk_ask *call, const struct redisReply *reply)
{
    struct rk_store_topic *topic = call->topic;
    struct rk_store *store = call->store;
    bool needs_listing;
    if (!rk_script_ok(call, reply, &needs_listing)) return;
    call->is_looking = false;
    topic->looks--;
    if (reply->elements > 5) {
        found(call, reply, rk_answer_number(reply, 3));
        return;
    }
    uint64_t now = rk_store_now();
    if (call->is_dropped || call->wait_ms <= now) {
        struct rk_reply out;
        memset(&out, 0, sizeof(out));
        out.is_bulk = RK_HAS(&call->request, MAX);
        topic->holds++;
        rk_ask_answer(call, &out);
        topic->holds--;
        rk_topic_look_by(store, topic, now);
        return;
    }
    park(call);
    /* A timer that ran out a moment ago is carried out by the next look. */
    int64_t due = reply->elements > 4 ? reply->element[4]->integer : -1;
    if (due >= 0) look_by(store, topic, now + (uint64_t)due + 1);
    look_if_woken(store, topic);
}

static void look(struct rk_ask *call)
{
    const struct rk_request *request = &call->request;
    struct rk_args args;
    rk_args_begin(&args, call, "consume", 5);
    rk_args_number(&args, RK_HAS(request, MAX) ? request->max : 1);
    if (RK_HAS(request, VISIBILITY_MS))
        rk_args_number(&args, request->visibility_ms);
    else
        rk_args_text(&args, "");
    rk_args_number(&args, RK_CONSUME_BYTES_MAX);
    rk_args_add(&args, request->consumer);
    if (call->wait_ms > rk_store_now())
        rk_args_number(&args, RK_AWAIT_MS);
    else
        rk_args_text(&args, "");
    call->is_looking = true;
    call->topic->looks++;
    rk_args_eval(&args, call, RK_SCRIPT_CONSUME, NULL, looked);
}

/* Who comes to wait stands behind those who do, unless an earlier answer to the same
 * request may be there. */
void rk_consume_start(struct rk_ask *call)
{
    bool waits = call->wait_ms > rk_store_now();
    if (waits && call->lane != 0 && call->topic->parked_count != 0)
        park(call);
    else
        look(call);
}
