#include "redis/queues_internal.h"

#include "base/crc32c.h"

enum {
    COMMON_ARGS = 8,
    EACH_ARGS = 11, /* of a message, in publish */
    FENCE_IDLE_MS = 86400000,
    MESSAGE_BYTES = 320, /* as core/state counts them beside body, headers and group */
};

/* --- arguments --------------------------------------------------------------------- */

void rk_args_add(struct rk_args *args, struct rk_slice item)
{
    if (args->items == NULL) return;
    RK_ASSERT(args->count < args->capacity);
    args->items[args->count++] = item;
}

void rk_args_text(struct rk_args *args, const char *text)
{
    rk_args_add(args, rk_slice_of_string(text));
}

void rk_args_number(struct rk_args *args, uint64_t number)
{
    struct rk_slice text = rk_store_text(args->store, number);
    if (text.size == 0) args->items = NULL;
    rk_args_add(args, text);
}

void rk_args_begin(struct rk_args *args, struct rk_ask *call, const char *op,
                   uint32_t capacity)
{
    struct rk_store *store = call->store;
    struct rk_slice ids[4];
    rk_arena_reset(&store->args);
    *args = (struct rk_args){.store = store, .capacity = COMMON_ARGS + capacity};
    args->items = rk_arena_calloc(&store->args, args->capacity, sizeof(*args->items));
    rk_args_text(args, op);
    rk_args_text(args, call->topic->is_dead ? "1" : "0");
    rk_args_number(args, store->prefix_size);
    rk_args_add(args, store->queues->channel);
    rk_ask_ids(call, ids);
    for (int i = 0; i < 4; i++) {
        if (i > 0 && ids[i].size == 0) args->items = NULL;
        rk_args_add(args, ids[i]);
    }
}

void rk_args_eval(struct rk_args *args, struct rk_ask *call, enum rk_store_script_id script,
                  const struct rk_store_topic *other, rk_ask_heard *answered)
{
    const struct rk_store_topic *topic = call->topic;
    struct rk_slice keys[6] = {topic->key, topic->flight, topic->none};
    uint32_t count = 3;
    if (args->items == NULL) {
        rk_ask_fail(call, RK_ENOMEM, NULL, "out of memory");
        return;
    }
    if (other != NULL) keys[count++] = other->key;
    if (call->listed != 0 && !rk_redis_is_cluster(call->store->redis)) {
        keys[count++] = call->store->queues->topics_keys[0];
        keys[count++] = rk_buf_slice(&call->store->meta_key);
    }
    rk_ask_eval(call, script, keys, count, args->items, args->count, answered);
}

/* --- the list of topics ------------------------------------------------------------ */

void rk_topic_list(struct rk_ask *call, struct rk_slice name, rk_ask_heard *answered)
{
    struct rk_store *store = call->store;
    rk_arena_reset(&store->args);
    struct rk_slice args[] = {RK_SLICE_LITERAL("add"), name,
                              rk_store_text(store, RK_STORE_TOPICS_MAX)};
    rk_ask_eval(call, RK_SCRIPT_TOPICS, store->queues->topics_keys, 3, args, 3, answered);
}

uint64_t rk_topic_listed(struct rk_ask *call, const struct redisReply *reply)
{
    if (reply->type == REDIS_REPLY_INTEGER && reply->integer > 0)
        return (uint64_t)reply->integer;
    rk_ask_fail(call, RK_ELIMIT, "topic", "%d topics exist already", RK_STORE_TOPICS_MAX);
    return 0;
}

/* --- calls on one topic ------------------------------------------------------------ */

static void run(struct rk_ask *call);

static struct rk_store_topic *made_topic(struct rk_ask *call)
{
    const struct rk_request *request = &call->request;
    if (request->op != RK_OP_QUEUE_REDRIVE) return call->topic;
    return rk_topic_make(
        call->store, request->to.size != 0 ? request->to : rk_topic_base(request->topic));
}

static void listed(struct rk_ask *call, const struct redisReply *reply)
{
    call->listed = rk_topic_listed(call, reply);
    if (call->listed == 0) return;
    struct rk_store_topic *topic = made_topic(call);
    if (topic != NULL) rk_topic_numbered(call->store, topic, call->listed);
    run(call);
}

/* The call may make the topic, which then needs a number first. If it had one, Redis lost
 * what it held: whose data it holds now is asked before anything is made there. */
static void list_first(struct rk_ask *call)
{
    struct rk_store_topic *topic = made_topic(call);
    if (call->listed != 0 || topic == NULL) {
        rk_ask_fail(call, RK_EIO, "topic", "the topic has no number");
    } else if (topic->number != 0) {
        rk_topic_numbered(call->store, topic, 0);
        rk_ask_again(call);
    } else if (rk_ask_doubt(call)) {
        rk_ask_begin(call);
    } else {
        rk_topic_list(call, topic->name, listed);
    }
}

static void add_made(struct rk_args *args, const struct rk_ask *call,
                     const struct rk_store_topic *topic)
{
    rk_args_add(args, topic->name);
    if (call->listed != 0)
        rk_args_number(args, call->listed);
    else
        rk_args_text(args, "");
    rk_args_number(args, call->store->history);
}

static void published(struct rk_ask *call, const struct redisReply *reply)
{
    bool needs_listing;
    if (!rk_script_ok(call, reply, &needs_listing)) {
        if (needs_listing) list_first(call);
        return;
    }
    struct rk_reply out;
    memset(&out, 0, sizeof(out));
    uint32_t count = (uint32_t)(reply->elements - 3);
    struct rk_slice *ids = rk_arena_calloc(&call->store->replies, count + 1, sizeof(*ids));
    if (ids == NULL) {
        rk_ask_fail(call, RK_ENOMEM, NULL, "out of memory");
        return;
    }
    for (uint32_t i = 0; i < count; i++)
        ids[i] = rk_answer_text(reply->element[3 + i]);
    out.ok = true;
    out.is_bulk = call->request.is_bulk;
    out.id = ids[0];
    out.ids = (struct rk_strings){ids, count};
    rk_ask_answer(call, &out);
}

struct id_head {
    uint32_t bits, bit_count; /* that do not fill a digit */
};

/* How the texts of this topic's message ids begin, before the number; its check digits are
 * the script's affair. */
static void add_id_head(struct rk_args *args, const struct rk_store_topic *topic,
                        struct id_head *out)
{
    struct rk_store *store = args->store;
    char text[RK_DELIVERY_ID_SIZE];
    struct rk_delivery_id id = {.slot = topic->slot, .history = store->history};
    (void)rk_delivery_id_print(text, &id);
    rk_buf_reset(&store->scratch);
    rk_buf_u8(&store->scratch, 'm');
    rk_buf_u8(&store->scratch, RK_DELIVERY_ID_VERSION);
    rk_buf_varint(&store->scratch, topic->slot);
    rk_buf_varint(&store->scratch, store->history);
    struct rk_slice bytes = rk_buf_slice(&store->scratch);
    *out = (struct id_head){0};
    size_t bits = 8 * (bytes.size - 1);
    struct rk_slice head = rk_arena_copy(&store->args, rk_slice_of(text, 1 + bits / 5));
    if (rk_buf_check(&store->scratch) != RK_OK || head.data == NULL) {
        args->items = NULL;
        return;
    }
    out->bit_count = bits % 5;
    out->bits = bytes.data[bytes.size - 1] & ((1u << out->bit_count) - 1);
    rk_args_add(args, head);
    rk_args_number(args, rk_crc32c(0, bytes.data, bytes.size));
}

static void add_message(struct rk_args *args, const struct rk_message_in *in)
{
    struct rk_store *store = args->store;
    rk_buf_reset(&store->scratch);
    rk_body_encode(&store->scratch, in);
    struct rk_slice body = rk_arena_copy(&store->args, rk_buf_slice(&store->scratch));
    if (rk_buf_check(&store->scratch) != RK_OK || body.data == NULL) {
        args->items = NULL;
        return;
    }
    uint64_t size =
        in->data.bytes.size + rk_body_headers_size(in->headers) + in->group.size;
    rk_args_add(args, body);
    rk_args_number(args, MESSAGE_BYTES + (size + 15) / 16 * 16);
    rk_args_number(args, in->data.bytes.size);
    rk_args_number(args, in->priority < 10 ? in->priority : 9);
    rk_args_add(args, in->group);
    rk_args_number(args, in->delay_ms);
    rk_args_number(args, in->deliver_at);
    rk_args_number(args, in->ttl_ms);
    rk_args_add(args, in->publish_id);
    rk_args_number(args, in->unique_scope);
    rk_args_add(args, in->unique_key);
}

static void publish(struct rk_ask *call)
{
    const struct rk_request *request = &call->request;
    struct rk_args args;
    struct id_head head;
    if (request->message_count == 0) {
        rk_ask_fail(call, RK_EINVAL, "messages", "there is nothing to publish");
        return;
    }
    rk_args_begin(&args, call, "publish", 12 + request->message_count * EACH_ARGS);
    add_made(&args, call, call->topic);
    add_id_head(&args, call->topic, &head);
    if (RK_HAS(request, FENCE))
        rk_args_number(&args, request->fence);
    else
        rk_args_text(&args, "");
    rk_args_text(&args, RK_HAS(request, FENCE_NAME) ? "1" : "0");
    rk_args_add(&args, request->fence_name);
    rk_args_number(&args, FENCE_IDLE_MS);
    rk_args_text(&args, call->begins != 0 ? "1" : "0");
    rk_args_number(&args, head.bits);
    rk_args_number(&args, head.bit_count);
    for (uint32_t i = 0; i < request->message_count; i++)
        add_message(&args, &request->messages[i]);
    rk_args_eval(&args, call, RK_SCRIPT_PUBLISH, NULL, published);
}

static void ruled(struct rk_ask *call, const struct redisReply *reply)
{
    bool needs_listing;
    if (!rk_script_ok(call, reply, &needs_listing)) {
        if (needs_listing) list_first(call);
        return;
    }
    struct rk_reply out;
    memset(&out, 0, sizeof(out));
    out.ok = true;
    out.count = rk_answer_number(reply, 3);
    rk_ask_answer(call, &out);
}

static void add_settings(struct rk_args *args, const struct rk_request *request)
{
    const struct {
        const char *name;
        uint64_t value;
        bool is_given;
    } settings[] = {
        {"visibility_ms", request->visibility_ms, RK_HAS(request, VISIBILITY_MS)},
        {"deliveries_max", request->deliveries_max, RK_HAS(request, DELIVERIES_MAX)},
        {"retry_ms", request->retry_ms, RK_HAS(request, RETRY_MS)},
        {"retry_max_ms", request->retry_max_ms, RK_HAS(request, RETRY_MAX_MS)},
        {"dedup_ms", request->dedup_ms, RK_HAS(request, DEDUP_MS)},
        {"ttl_ms", request->ttl_ms, RK_HAS(request, TTL_MS)},
        {"messages_max", request->messages_max, RK_HAS(request, MESSAGES_MAX)},
        {"bytes_max", request->bytes_max, RK_HAS(request, BYTES_MAX)},
    };
    for (size_t i = 0; i < sizeof(settings) / sizeof(settings[0]); i++) {
        if (!settings[i].is_given) continue;
        rk_args_text(args, settings[i].name);
        rk_args_number(args, settings[i].value);
    }
}

static void rule(struct rk_ask *call, const char *op)
{
    const struct rk_request *request = &call->request;
    const struct rk_store_topic *made = made_topic(call);
    struct rk_args args;
    if (made == NULL) {
        rk_ask_fail(call, RK_ENOMEM, NULL, "out of memory");
        return;
    }
    rk_args_begin(&args, call, op, 5 + 16);
    add_made(&args, call, made);
    rk_args_text(&args, request->dead ? "1" : "0");
    rk_args_number(&args, request->limit != 0 ? request->limit : RK_BATCH_MAX);
    if (request->op == RK_OP_QUEUE_CONFIGURE) add_settings(&args, request);
    rk_args_eval(&args, call, RK_SCRIPT_ADMIN,
                 request->op == RK_OP_QUEUE_REDRIVE ? made : NULL, ruled);
}

static void redrive(struct rk_ask *call)
{
    const struct rk_request *request = &call->request;
    struct rk_slice base = rk_topic_base(request->topic);
    struct rk_slice to = request->to.size != 0 ? request->to : base;
    struct rk_slice tag = rk_topic_tag(base);
    /* Told apart by their tags, not by what slot those give: what may go where must not
     * hang on a hash. */
    bool is_near = rk_slice_is_equal(to, base) ||
                   (tag.size != 0 && rk_slice_is_equal(rk_topic_tag(to), tag)) ||
                   (tag.size != 0 && rk_slice_is_equal(to, tag)) ||
                   (tag.size == 0 && rk_slice_is_equal(rk_topic_tag(to), base));
    if (rk_topic_base(to).size != to.size)
        rk_ask_fail(call, RK_ERANGE, "to", "dead letters cannot go to dead letters");
    else if (!is_near)
        rk_ask_fail(call, RK_ERANGE, "to",
                    "dead letters go to topics of the same {tag} only");
    else
        rule(call, "redrive");
}

static void shown(struct rk_ask *call, const struct redisReply *reply)
{
    struct rk_topic_stats stats;
    struct rk_reply out;
    bool needs_listing;
    if (!rk_script_ok(call, reply, &needs_listing)) return;
    memset(&out, 0, sizeof(out));
    rk_stats_read(reply, &stats);
    out.topic = call->topic->name;
    out.topic_stats = &stats;
    rk_ask_answer(call, &out);
}

static void info(struct rk_ask *call)
{
    struct rk_args args;
    rk_args_begin(&args, call, "info", 0);
    rk_args_eval(&args, call, RK_SCRIPT_READ, NULL, shown);
}

static void peeked(struct rk_ask *call, const struct redisReply *reply)
{
    struct rk_store *store = call->store;
    struct rk_reply out;
    bool needs_listing;
    if (!rk_script_ok(call, reply, &needs_listing)) return;
    memset(&out, 0, sizeof(out));
    out.is_bulk = true;
    size_t count = reply->elements > 4 ? reply->elements - 4 : 0;
    out.messages = rk_arena_calloc(&store->replies, count + 1, sizeof(*out.messages));
    enum rk_status status = out.messages != NULL ? RK_OK : RK_ENOMEM;
    bool is_dead = call->topic->is_dead || call->request.dead;
    for (size_t i = 0; status == RK_OK && i < count; i++)
        status = rk_message_read(store, reply->element[4 + i], false, is_dead,
                                 &out.messages[out.message_count++]);
    if (status != RK_OK) {
        rk_ask_unreadable(call, status);
        return;
    }
    if (rk_answer_number(reply, 3) != 0 && count != 0)
        out.after = out.messages[count - 1].message_id;
    rk_ask_answer(call, &out);
}

/* The text of a message's id, as Redis has it, of a message or delivery id. A text that is
 * none finds no message. */
static void add_message_id(struct rk_args *args, struct rk_slice text)
{
    struct rk_delivery_id id;
    char out[RK_DELIVERY_ID_SIZE];
    if (text.size == 0 || rk_delivery_id_parse(&id, text) != RK_OK) {
        rk_args_add(args, text);
        return;
    }
    id.attempt = 0;
    struct rk_slice copy =
        rk_arena_copy(&args->store->args, rk_slice_of(out, rk_delivery_id_print(out, &id)));
    if (copy.data == NULL) args->items = NULL;
    rk_args_add(args, copy);
}

static void peek(struct rk_ask *call)
{
    const struct rk_request *request = &call->request;
    struct rk_args args;
    rk_args_begin(&args, call, "peek", 5);
    rk_args_text(&args, request->dead ? "1" : "0");
    add_message_id(&args, request->id);
    add_message_id(&args, request->after);
    rk_args_number(&args, request->limit != 0 ? request->limit : 100);
    rk_args_number(&args, RK_CONSUME_BYTES_MAX);
    rk_args_eval(&args, call, RK_SCRIPT_READ, NULL, peeked);
}

static void run(struct rk_ask *call)
{
    if (call->store->history == 0) {
        rk_ask_begin(call); /* it was forgotten meanwhile */
        return;
    }
    switch (call->request.op) {
    case RK_OP_QUEUE_PUBLISH: publish(call); return;
    case RK_OP_QUEUE_CONSUME: rk_consume_start(call); return;
    case RK_OP_QUEUE_CONFIGURE: rule(call, "configure"); return;
    case RK_OP_QUEUE_PAUSE: rule(call, "pause"); return;
    case RK_OP_QUEUE_RESUME: rule(call, "resume"); return;
    case RK_OP_QUEUE_PURGE: rule(call, "purge"); return;
    case RK_OP_QUEUE_REDRIVE: redrive(call); return;
    case RK_OP_QUEUE_PEEK: peek(call); return;
    default: info(call);
    }
}

void rk_queues_start(struct rk_ask *call)
{
    const struct rk_request *request = &call->request;
    switch (request->op) {
    case RK_OP_QUEUE_ACK:
    case RK_OP_QUEUE_NACK:
    case RK_OP_QUEUE_EXTEND:
    case RK_OP_QUEUE_DELETE:
    case RK_OP_QUEUE_RETURN: rk_ids_start(call); return;
    case RK_OP_QUEUE_LIST: rk_walk_start(call); return;
    case RK_OP_QUEUE_STATS:
        if (request->topic.size == 0) {
            rk_walk_start(call);
            return;
        }
        break;
    default: break;
    }
    if (rk_topic_hold(call, request->topic) == NULL)
        rk_ask_fail(call, RK_ENOMEM, NULL, "out of memory");
    else
        run(call);
}

bool rk_queues_dropped(struct rk_ask *call)
{
    /* What was sent may be done: a consume gives back what it got then. */
    return call->redis_id == 0 && call->open_parts == 0;
}
