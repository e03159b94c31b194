#include "base/alloc.h"
#include "api/delivery_id.h"
#include "state/queues.h"

struct rk_slice rk_message_id_text(const struct rk_machine *machine,
                                   const struct rk_topic *topic, uint64_t number,
                                   uint32_t attempt, struct rk_arena *arena)
{
    char text[RK_DELIVERY_ID_SIZE];
    struct rk_delivery_id id = {
        .slot = topic->slot,
        .history = machine->history,
        .message = number,
        .attempt = attempt,
    };
    size_t size = rk_delivery_id_print(text, &id);
    return rk_arena_copy(arena, rk_slice_of(text, size));
}

static enum rk_status headers_decode(struct rk_slice bytes, struct rk_arena *arena,
                                     struct rk_headers *out)
{
    *out = (struct rk_headers){NULL, 0};
    if (bytes.size == 0) return RK_OK;
    struct rk_reader reader;
    rk_reader_init(&reader, bytes);
    uint64_t count = rk_read_varint(&reader);
    if (count > bytes.size) return RK_EPROTO;
    out->items = rk_arena_calloc(arena, count + 1, sizeof(*out->items));
    if (out->items == NULL) return RK_ENOMEM;
    for (uint64_t i = 0; i < count; i++) {
        out->items[i].name = rk_read_blob(&reader);
        out->items[i].value = rk_read_blob(&reader);
    }
    out->count = (uint32_t)count;
    return rk_reader_check(&reader, true);
}

static struct rk_slice state_text(const struct rk_message *message)
{
    if (message->state == RK_MESSAGE_IN_FLIGHT) return RK_SLICE_LITERAL("in_flight");
    if (message->state == RK_MESSAGE_DELAYED) return RK_SLICE_LITERAL("delayed");
    return message->topic->is_dead ? RK_SLICE_LITERAL("dead") : RK_SLICE_LITERAL("ready");
}

enum rk_status rk_message_show(const struct rk_machine *machine,
                               const struct rk_message *message, bool is_delivery,
                               struct rk_arena *arena, struct rk_delivery_out *out)
{
    const struct rk_topic *topic = message->topic;
    *out = (struct rk_delivery_out){
        .message_id = rk_message_id_text(machine, topic, message->object.id, 0, arena),
        .message = {rk_message_data(message), message->encoding},
        .attempt = message->attempt,
        .priority = message->priority,
        .group = rk_message_group(message),
        .state = state_text(message),
    };
    out->id = is_delivery ? rk_message_id_text(machine, topic, message->object.id,
                                               message->attempt, arena)
                          : out->message_id;
    if (out->id.size == 0 || out->message_id.size == 0) return RK_ENOMEM;
    return headers_decode(rk_message_headers(message), arena, &out->headers);
}

static enum rk_status refuse_unknown(struct rk_reply *reply)
{
    return rk_refuse(reply, RK_ENOENT, "topic", "there is no such topic");
}

/* The message that a text names, if it stands in that topic. */
static struct rk_message *message_in(const struct rk_machine *machine,
                                     const struct rk_topic *topic, struct rk_slice text)
{
    struct rk_delivery_id id;
    if (rk_delivery_id_parse(&id, text) != RK_OK || id.history != machine->history)
        return NULL;
    struct rk_object *object = rk_object_find(machine, RK_OBJECT_MESSAGE, id.message);
    if (object == NULL) return NULL;
    struct rk_message *message = RK_CONTAINER(object, struct rk_message, object);
    return message->topic == topic && !rk_message_is_purged(message) ? message : NULL;
}

static enum rk_status peek_one(const struct rk_machine *machine,
                               const struct rk_topic *topic, struct rk_slice text,
                               struct rk_arena *arena, struct rk_reply *reply)
{
    const struct rk_message *message = message_in(machine, topic, text);
    if (message == NULL)
        return rk_refuse(reply, RK_ENOENT, "id", "there is no such message in the topic");
    reply->messages = rk_arena_calloc(arena, 1, sizeof(*reply->messages));
    if (reply->messages == NULL) return RK_ENOMEM;
    reply->message_count = 1;
    return rk_message_show(machine, message, false, arena, reply->messages);
}

/* In publish order, from the message after `after`. */
static enum rk_status peek_page(const struct rk_machine *machine,
                                const struct rk_topic *topic,
                                const struct rk_request *request, struct rk_arena *arena,
                                struct rk_reply *reply)
{
    const struct rk_list *at = topic->messages.next;
    if (request->after.size != 0) {
        const struct rk_message *after = message_in(machine, topic, request->after);
        if (after == NULL)
            return rk_refuse(reply, RK_EGONE, "after", "that message is gone");
        at = after->topic_link.next;
    }
    uint64_t limit = request->limit != 0 ? request->limit : 100;
    if (limit > topic->message_count) limit = topic->message_count;
    reply->messages = rk_arena_calloc(arena, limit + 1, sizeof(*reply->messages));
    if (reply->messages == NULL) return RK_ENOMEM;
    size_t bytes = 0;
    for (; at != &topic->messages && reply->message_count < limit; at = at->next) {
        const char *base = (const char *)at - offsetof(struct rk_message, topic_link);
        const struct rk_message *message = (const void *)base;
        bytes += message->data_size;
        if (reply->message_count != 0 && bytes > RK_CONSUME_BYTES_MAX) break;
        enum rk_status status = rk_message_show(machine, message, false, arena,
                                                &reply->messages[reply->message_count]);
        if (status != RK_OK) return status;
        reply->message_count++;
    }
    if (at != &topic->messages && reply->message_count != 0)
        reply->after = reply->messages[reply->message_count - 1].message_id;
    return RK_OK;
}

enum rk_status rk_queue_peek(struct rk_machine *machine, const struct rk_request *request,
                             uint64_t now, struct rk_arena *arena, struct rk_reply *reply)
{
    (void)now;
    reply->is_bulk = true;
    const struct rk_topic *topic = rk_topic_find(machine, request->topic);
    if (topic == NULL) return refuse_unknown(reply);
    if (request->dead && !topic->is_dead) topic = rk_topic_dead(machine, topic);
    if (topic == NULL) return RK_OK;
    if (request->id.size != 0) return peek_one(machine, topic, request->id, arena, reply);
    return peek_page(machine, topic, request, arena, reply);
}

static void stats_of(const struct rk_machine *machine, const struct rk_topic *topic,
                     struct rk_topic_stats *out)
{
    const struct rk_topic *dead = topic->is_dead ? topic : rk_topic_dead(machine, topic);
    const struct rk_topic_settings *settings = &topic->settings;
    *out = (struct rk_topic_stats){
        .ready = topic->state_counts[RK_MESSAGE_READY],
        .delayed = topic->state_counts[RK_MESSAGE_DELAYED],
        .in_flight = topic->state_counts[RK_MESSAGE_IN_FLIGHT],
        .dead = dead != NULL ? dead->message_count : 0,
        .bytes = topic->bytes,
        .published = topic->published,
        .delivered = topic->delivered,
        .acked = topic->acked,
        .failed = topic->failed,
        .expired = topic->expired,
        .paused = topic->is_paused,
        .visibility_ms = settings->visibility_ms,
        .deliveries_max = settings->deliveries_max,
        .retry_ms = settings->retry_ms,
        .retry_max_ms = settings->retry_max_ms,
        .dedup_ms = settings->dedup_ms,
        .ttl_ms = settings->ttl_ms,
        .messages_max = settings->messages_max,
        .bytes_max = settings->bytes_max,
    };
}

enum rk_status rk_queue_info(struct rk_machine *machine, const struct rk_request *request,
                             uint64_t now, struct rk_arena *arena, struct rk_reply *reply)
{
    (void)now;
    const struct rk_topic *topic = rk_topic_find(machine, request->topic);
    if (topic == NULL) return refuse_unknown(reply);
    struct rk_topic_stats *stats = rk_arena_calloc(arena, 1, sizeof(*stats));
    if (stats == NULL) return RK_ENOMEM;
    stats_of(machine, topic, stats);
    reply->topic = rk_topic_name(topic);
    reply->topic_stats = stats;
    return RK_OK;
}

enum rk_status rk_queue_list(struct rk_machine *machine, const struct rk_request *request,
                             uint64_t now, struct rk_arena *arena, struct rk_reply *reply)
{
    (void)now;
    uint64_t limit = request->limit != 0 ? request->limit : 100;
    if (limit > machine->queues->topics.count) limit = machine->queues->topics.count;
    reply->is_bulk = true;
    reply->listed = rk_arena_calloc(arena, limit + 1, sizeof(*reply->listed));
    if (reply->listed == NULL) return RK_ENOMEM;
    const struct rk_names *names = &machine->queues->names;
    struct rk_name_node *node = rk_names_next(names, request->prefix, request->after);
    while (node != NULL && reply->listed_count < limit) {
        const struct rk_topic *topic = RK_CONTAINER(node, struct rk_topic, name_node);
        reply->listed[reply->listed_count++] = (struct rk_listed){
            .name = rk_topic_name(topic),
            .message_count = topic->message_count,
        };
        node = rk_names_next(names, request->prefix, node->name);
    }
    if (node != NULL && reply->listed_count != 0)
        reply->after = reply->listed[reply->listed_count - 1].name;
    return RK_OK;
}

static void stats_add(struct rk_topic_stats *sum, const struct rk_topic *topic)
{
    sum->ready += topic->is_dead ? 0 : topic->state_counts[RK_MESSAGE_READY];
    sum->dead += topic->is_dead ? topic->message_count : 0;
    sum->delayed += topic->state_counts[RK_MESSAGE_DELAYED];
    sum->in_flight += topic->state_counts[RK_MESSAGE_IN_FLIGHT];
    sum->bytes += topic->bytes;
    sum->published += topic->is_dead ? 0 : topic->published;
    sum->delivered += topic->delivered;
    sum->acked += topic->acked;
    sum->failed += topic->failed;
    sum->expired += topic->expired;
}

enum rk_status rk_queue_stats(struct rk_machine *machine, const struct rk_request *request,
                              uint64_t now, struct rk_arena *arena, struct rk_reply *reply)
{
    if (request->topic.size != 0) return rk_queue_info(machine, request, now, arena, reply);
    struct rk_topic_stats *stats = rk_arena_calloc(arena, 1, sizeof(*stats));
    if (stats == NULL) return RK_ENOMEM;
    struct rk_map_cursor cursor;
    rk_map_each (node, &machine->queues->topics, &cursor)
        stats_add(stats, RK_CONTAINER(node, struct rk_topic, node));
    reply->topic_stats = stats;
    return RK_OK;
}

uint64_t rk_machine_ready_count(const struct rk_machine *machine, struct rk_slice topic)
{
    const struct rk_topic *found = rk_topic_find(machine, topic);
    return found == NULL || found->is_paused ? 0 : found->poppable;
}
