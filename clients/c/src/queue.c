/* queue.c - publish, consume, and what becomes of a delivery. */
#include "internal.h"

#include <stdio.h>
#include <string.h>

#include "base/alloc.h"

struct delivery {
    char id[RUKUN_ID_SIZE];
    char message_id[RUKUN_ID_SIZE];
    struct rk_slice data;
    rukun_encoding encoding;
    uint32_t attempt;
};

struct rukun_deliveries {
    struct rk_call *call; /* holds the bytes */
    struct rk_arena arena;
    size_t count;
    struct delivery items[];
};

void rukun_publish_opts_init(rukun_publish_opts *opts)
{
    if (opts == NULL) return;
    memset(opts, 0, sizeof(*opts));
    opts->struct_size = sizeof(*opts);
}

void rukun_consume_opts_init(rukun_consume_opts *opts)
{
    if (opts == NULL) return;
    memset(opts, 0, sizeof(*opts));
    opts->struct_size = sizeof(*opts);
    opts->max = 1;
}

/* Every text and struct that comes from outside, before anything is built of it. */
static enum rk_status begin(struct rk_request *request, enum rk_op op, rukun_client *client,
                            const char *name, const char *text, rukun_error *err)
{
    enum rk_status status = rk_client_check(client, err);
    if (status != RK_OK) return status;
    if (text == NULL) return rk_error_set(err, RK_EINVAL, "%s is NULL", name);
    memset(request, 0, sizeof(*request));
    request->op = op;
    request->forward = true;
    return RK_OK;
}

static enum rk_status message_fill(struct rk_message_in *out, const rukun_message *message,
                                   const rukun_publish_opts *opts, rukun_error *err)
{
    memset(out, 0, sizeof(*out));
    if (message == NULL || (message->data == NULL && message->size != 0))
        return rk_error_set(err, RK_EINVAL, "message is NULL");
    if (message->encoding < RUKUN_JSON || message->encoding > RUKUN_RAW)
        return rk_error_set(err, RK_ERANGE, "encoding: %d is not in 1..3",
                            (int)message->encoding);
    out->data.bytes = rk_slice_of(message->data, message->size);
    out->data.encoding = (uint8_t)message->encoding;
    if (opts == NULL) return RK_OK;
    if (opts->struct_size != sizeof(*opts))
        return rk_error_set(err, RK_EINVAL, "opts: struct_size is %u, not %zu",
                            opts->struct_size, sizeof(*opts));
    if (opts->priority < 0 || opts->priority > 9)
        return rk_error_set(err, RK_ERANGE, "priority: %d is not in 0..9", opts->priority);
    if (opts->publish_id != NULL) out->publish_id = rk_slice_of_string(opts->publish_id);
    if (opts->group != NULL) out->group = rk_slice_of_string(opts->group);
    out->delay_ms = opts->delay_ms;
    out->ttl_ms = opts->ttl_ms;
    out->priority = (uint8_t)opts->priority;
    return RK_OK;
}

static enum rk_status id_copy(char *out, struct rk_slice id)
{
    if (id.size >= RUKUN_ID_SIZE) return RK_EPROTO;
    memcpy(out, id.data, id.size);
    out[id.size] = '\0';
    return RK_OK;
}

rukun_status rukun_queue_publish(rukun_client *client, const char *topic,
                                 const rukun_message *message,
                                 const rukun_publish_opts *opts, char *id, rukun_error *err)
{
    struct rk_request request;
    struct rk_message_in item;
    enum rk_status status =
        begin(&request, RK_OP_QUEUE_PUBLISH, client, "topic", topic, err);
    if (status == RK_OK) status = message_fill(&item, message, opts, err);
    if (status != RK_OK) return (rukun_status)status;
    request.topic = rk_slice_of_string(topic);
    RK_SET(&request, TOPIC);
    request.messages = &item;
    request.message_count = 1;
    struct rk_arena arena;
    rk_arena_init(&arena);
    struct rk_reply reply;
    struct rk_call *call = NULL;
    status = rk_call_run(&call, client, &request, 0, &arena, &reply, err);
    if (status == RK_OK && id != NULL) {
        status = id_copy(id, reply.id);
        if (status != RK_OK) (void)rk_error_set(err, status, "the node's answer has no id");
    }
    rk_call_free(call);
    rk_arena_fini(&arena);
    return (rukun_status)status;
}

rukun_status rukun_queue_publish_many(rukun_client *client, const char *topic,
                                      const rukun_message *messages, size_t count,
                                      const rukun_publish_opts *opts, char *ids,
                                      rukun_error *err)
{
    struct rk_request request;
    enum rk_status status =
        begin(&request, RK_OP_QUEUE_PUBLISH, client, "topic", topic, err);
    if (status != RK_OK) return (rukun_status)status;
    if (messages == NULL || count == 0 || count > RK_BATCH_MAX)
        return (rukun_status)rk_error_set(err, RK_ERANGE, "messages: %zu is not in 1..%d",
                                          count, RK_BATCH_MAX);
    struct rk_arena arena;
    rk_arena_init(&arena);
    struct rk_call *call = NULL;
    struct rk_message_in *items = rk_arena_calloc(&arena, count, sizeof(*items));
    status = items != NULL ? RK_OK : rk_error_set(err, RK_ENOMEM, "out of memory");
    for (size_t i = 0; status == RK_OK && i < count; i++)
        status = message_fill(&items[i], &messages[i], opts, err);
    if (status != RK_OK) goto done;
    request.topic = rk_slice_of_string(topic);
    RK_SET(&request, TOPIC);
    RK_SET(&request, MESSAGES);
    request.messages = items;
    request.message_count = (uint32_t)count;
    request.is_bulk = true;
    struct rk_reply reply;
    status = rk_call_run(&call, client, &request, 0, &arena, &reply, err);
    if (status != RK_OK || ids == NULL) goto done;
    if (reply.ids.count != count) status = RK_EPROTO;
    for (size_t i = 0; status == RK_OK && i < count; i++)
        status = id_copy(ids + i * RUKUN_ID_SIZE, reply.ids.items[i]);
    if (status != RK_OK)
        (void)rk_error_set(err, status, "the node's answer has no such ids");

done:
    rk_call_free(call);
    rk_arena_fini(&arena);
    return (rukun_status)status;
}

static enum rk_status deliveries_take(rukun_deliveries **out, struct rk_call *call,
                                      struct rk_arena *arena, const struct rk_reply *reply)
{
    size_t count = reply->message_count;
    rukun_deliveries *deliveries =
        rk_calloc(1, sizeof(*deliveries) + count * sizeof(deliveries->items[0]));
    if (deliveries == NULL) return RK_ENOMEM;
    for (size_t i = 0; i < count; i++) {
        struct rk_delivery_out *from = &reply->messages[i];
        struct delivery *to = &deliveries->items[i];
        enum rk_status status = rk_call_value(call->client, &from->message, arena);
        if (status == RK_OK) status = id_copy(to->id, from->id);
        if (status == RK_OK) status = id_copy(to->message_id, from->message_id);
        if (status != RK_OK) {
            rk_free(deliveries);
            return status;
        }
        to->data = from->message.bytes;
        to->encoding = (rukun_encoding)from->message.encoding;
        to->attempt = from->attempt;
    }
    deliveries->count = count;
    deliveries->call = call;
    deliveries->arena = *arena; /* moved */
    rk_arena_init(arena);
    *out = deliveries;
    return RK_OK;
}

static enum rk_status consume_once(rukun_deliveries **out, struct rukun_client *client,
                                   struct rk_request *request, uint64_t wait_ms,
                                   rukun_error *err)
{
    request->wait_ms = wait_ms;
    if (wait_ms != 0) RK_SET(request, WAIT_MS);
    struct rk_arena arena;
    rk_arena_init(&arena);
    struct rk_reply reply;
    struct rk_call *call = NULL;
    enum rk_status status =
        rk_call_run(&call, client, request, wait_ms, &arena, &reply, err);
    if (status == RK_OK) {
        status = deliveries_take(out, call, &arena, &reply);
        if (status != RK_OK) {
            (void)rk_error_set(err, status, "the node's answer holds no deliveries");
            rk_call_free(call);
        }
    }
    rk_arena_fini(&arena);
    return status;
}

rukun_status rukun_queue_consume(rukun_deliveries **out, rukun_client *client,
                                 const char *topic, const rukun_consume_opts *opts,
                                 rukun_error *err)
{
    if (out == NULL) return (rukun_status)rk_error_set(err, RK_EINVAL, "out is NULL");
    *out = NULL;
    rukun_consume_opts defaults;
    if (opts == NULL) {
        rukun_consume_opts_init(&defaults);
        opts = &defaults;
    }
    struct rk_request request;
    enum rk_status status =
        begin(&request, RK_OP_QUEUE_CONSUME, client, "topic", topic, err);
    if (status != RK_OK) return (rukun_status)status;
    if (opts->struct_size != sizeof(*opts))
        return (rukun_status)rk_error_set(err, RK_EINVAL,
                                          "opts: struct_size is %u, not %zu",
                                          opts->struct_size, sizeof(*opts));
    request.topic = rk_slice_of_string(topic);
    RK_SET(&request, TOPIC);
    request.consumer =
        rk_slice_of_string(opts->consumer != NULL ? opts->consumer : client->name);
    RK_SET(&request, CONSUMER);
    request.max = opts->max;
    RK_SET(&request, MAX);
    request.is_bulk = true;
    if (opts->visibility_ms != 0) {
        request.visibility_ms = opts->visibility_ms;
        RK_SET(&request, VISIBILITY_MS);
    }
    uint64_t started_ms = rk_now_ms();
    for (;;) {
        uint64_t waited_ms = rk_now_ms() - started_ms;
        uint64_t wait_ms = opts->wait_ms;
        if (wait_ms != RUKUN_WAIT_FOREVER)
            wait_ms = wait_ms > waited_ms ? wait_ms - waited_ms : 0;
        bool is_partial = wait_ms > RK_DEADLINE_MAX_MS / 2;
        struct rk_request attempt = request;
        status = consume_once(out, client, &attempt,
                              is_partial ? RK_DEADLINE_MAX_MS / 2 : wait_ms, err);
        if (status != RK_OK || !is_partial || (*out)->count > 0)
            return (rukun_status)status;
        rukun_deliveries_free(*out);
        *out = NULL;
    }
}

size_t rukun_deliveries_count(const rukun_deliveries *deliveries)
{
    return deliveries != NULL ? deliveries->count : 0;
}

static const struct delivery *delivery_at(const rukun_deliveries *deliveries, size_t index)
{
    static const struct delivery none;
    if (deliveries == NULL || index >= deliveries->count) return &none;
    return &deliveries->items[index];
}

const char *rukun_delivery_id(const rukun_deliveries *deliveries, size_t index)
{
    return delivery_at(deliveries, index)->id;
}

const char *rukun_delivery_message_id(const rukun_deliveries *deliveries, size_t index)
{
    return delivery_at(deliveries, index)->message_id;
}

uint32_t rukun_delivery_attempt(const rukun_deliveries *deliveries, size_t index)
{
    return delivery_at(deliveries, index)->attempt;
}

const void *rukun_delivery_data(const rukun_deliveries *deliveries, size_t index,
                                size_t *size)
{
    const struct delivery *delivery = delivery_at(deliveries, index);
    if (size != NULL) *size = delivery->data.size;
    return delivery->data.data != NULL ? (const void *)delivery->data.data : "";
}

rukun_encoding rukun_delivery_encoding(const rukun_deliveries *deliveries, size_t index)
{
    return delivery_at(deliveries, index)->encoding;
}

void rukun_deliveries_free(rukun_deliveries *deliveries)
{
    if (deliveries == NULL) return;
    rk_call_free(deliveries->call);
    rk_arena_fini(&deliveries->arena);
    rk_free(deliveries);
}

/* ack, nack and extend: one id, and an answer that says only whether. */
static enum rk_status settle(rukun_client *client, struct rk_request *request,
                             struct rk_slice *id, rukun_error *err)
{
    request->id = *id;
    RK_SET(request, ID);
    request->ids.items = id;
    request->ids.count = 1;
    struct rk_arena arena;
    rk_arena_init(&arena);
    struct rk_reply reply;
    struct rk_call *call = NULL;
    enum rk_status status = rk_call_run(&call, client, request, 0, &arena, &reply, err);
    rk_call_free(call);
    rk_arena_fini(&arena);
    return status;
}

rukun_status rukun_queue_ack(rukun_client *client, const char *id, rukun_error *err)
{
    struct rk_request request;
    enum rk_status status = begin(&request, RK_OP_QUEUE_ACK, client, "id", id, err);
    if (status != RK_OK) return (rukun_status)status;
    struct rk_slice slice = rk_slice_of_string(id);
    return (rukun_status)settle(client, &request, &slice, err);
}

rukun_status rukun_queue_nack(rukun_client *client, const char *id, uint64_t delay_ms,
                              rukun_error *err)
{
    struct rk_request request;
    enum rk_status status = begin(&request, RK_OP_QUEUE_NACK, client, "id", id, err);
    if (status != RK_OK) return (rukun_status)status;
    if (delay_ms != RUKUN_WAIT_FOREVER) {
        request.delay_ms = delay_ms;
        RK_SET(&request, DELAY_MS);
    }
    struct rk_slice slice = rk_slice_of_string(id);
    return (rukun_status)settle(client, &request, &slice, err);
}

rukun_status rukun_queue_extend(rukun_client *client, const char *id,
                                uint64_t visibility_ms, rukun_error *err)
{
    struct rk_request request;
    enum rk_status status = begin(&request, RK_OP_QUEUE_EXTEND, client, "id", id, err);
    if (status != RK_OK) return (rukun_status)status;
    request.visibility_ms = visibility_ms;
    RK_SET(&request, VISIBILITY_MS);
    struct rk_slice slice = rk_slice_of_string(id);
    return (rukun_status)settle(client, &request, &slice, err);
}
