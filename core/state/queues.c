#include "state/queues.h"

#include "base/alloc.h"
#include "base/slot.h"
#include "state/snapshot.h"

#include <stdlib.h>

_Static_assert(sizeof(struct rk_message) <= RK_MESSAGE_BYTES,
               "logical bytes follow memory");
_Static_assert(sizeof(struct rk_topic) <= RK_TOPIC_BYTES, "logical bytes follow memory");
_Static_assert(sizeof(struct rk_dedup) <= RK_DEDUP_BYTES, "logical bytes follow memory");

enum rk_status rk_queues_new(struct rk_queues **out)
{
    struct rk_queues *queues = rk_calloc(1, sizeof(*queues));
    if (queues == NULL) return RK_ENOMEM;
    rk_map_init(&queues->topics);
    rk_map_init(&queues->dedups);
    rk_fences_init(&queues->fences);
    *out = queues;
    return RK_OK;
}

/* The objects are freed by the machine, before or after: neither looks at the other. */
void rk_queues_free(struct rk_machine *machine, struct rk_queues *queues)
{
    (void)machine;
    if (queues == NULL) return;
    rk_map_fini(&queues->topics);
    rk_map_fini(&queues->dedups);
    rk_fences_fini(&queues->fences);
    rk_free(queues);
}

/* --- records */

static void settings_encode(struct rk_buf *out, const struct rk_topic_settings *settings)
{
    rk_buf_varint(out, settings->visibility_ms);
    rk_buf_varint(out, settings->deliveries_max);
    rk_buf_varint(out, settings->retry_ms);
    rk_buf_varint(out, settings->retry_max_ms);
    rk_buf_varint(out, settings->dedup_ms);
    rk_buf_varint(out, settings->ttl_ms);
    rk_buf_varint(out, settings->messages_max);
    rk_buf_varint(out, settings->bytes_max);
}

static void settings_decode(struct rk_reader *body, struct rk_topic_settings *settings)
{
    settings->visibility_ms = rk_read_varint(body);
    settings->deliveries_max = rk_read_varint(body);
    settings->retry_ms = rk_read_varint(body);
    settings->retry_max_ms = rk_read_varint(body);
    settings->dedup_ms = rk_read_varint(body);
    settings->ttl_ms = rk_read_varint(body);
    settings->messages_max = rk_read_varint(body);
    settings->bytes_max = rk_read_varint(body);
}

static void topic_encode(const struct rk_machine *machine, const struct rk_object *object,
                         struct rk_buf *out)
{
    (void)machine;
    const struct rk_topic *topic = (const void *)object;
    rk_buf_blob(out, rk_topic_name(topic));
    rk_buf_u8(out, topic->is_paused);
    settings_encode(out, &topic->settings);
    rk_buf_varint(out, topic->order);
    rk_buf_varint(out, topic->purged_order);
    rk_buf_varint(out, topic->published);
    rk_buf_varint(out, topic->delivered);
    rk_buf_varint(out, topic->acked);
    rk_buf_varint(out, topic->failed);
    rk_buf_varint(out, topic->expired);
}

static enum rk_status topic_restore(struct rk_machine *machine, struct rk_reader *body,
                                    uint64_t id, struct rk_object **out)
{
    struct rk_slice name = rk_read_blob(body);
    uint8_t is_paused = rk_read_u8(body);
    struct rk_topic_settings settings;
    settings_decode(body, &settings);
    uint64_t counts[7];
    for (int i = 0; i < 7; i++)
        counts[i] = rk_read_varint(body);
    enum rk_status status = rk_reader_check(body, true);
    if (status != RK_OK) return status;
    if (name.size == 0 || name.size > RK_NAME_MAX + RK_TOPIC_DEAD_SUFFIX.size ||
        is_paused > 1 || counts[1] > counts[0])
        return RK_EPROTO;
    struct rk_topic *topic;
    status = rk_topic_enter(machine, name, id, &topic);
    if (status != RK_OK) return status;
    topic->is_paused = is_paused;
    topic->settings = settings;
    topic->order = counts[0];
    topic->purged_order = counts[1];
    topic->published = counts[2];
    topic->delivered = counts[3];
    topic->acked = counts[4];
    topic->failed = counts[5];
    topic->expired = counts[6];
    *out = &topic->object;
    return RK_OK;
}

static void topic_free(struct rk_machine *machine, struct rk_object *object)
{
    (void)machine;
    struct rk_topic *topic = RK_CONTAINER(object, struct rk_topic, object);
    struct rk_map_cursor cursor;
    struct rk_map_node *node = rk_map_first(&topic->groups, &cursor);
    while (node != NULL) {
        struct rk_order_group *group = RK_CONTAINER(node, struct rk_order_group, node);
        node = rk_map_next(&topic->groups, &cursor);
        rk_free(group);
    }
    rk_map_fini(&topic->groups);
    topic->returned.count = 0; /* its members may be freed already */
    rk_heap_fini(&topic->returned);
    rk_free(topic);
}

static void message_encode(const struct rk_machine *machine, const struct rk_object *object,
                           struct rk_buf *out)
{
    (void)machine;
    const struct rk_message *message = (const void *)object;
    rk_buf_varint(out, message->topic_id);
    rk_buf_varint(out, message->order);
    rk_buf_varint(out, message->published_ms);
    rk_buf_varint(out, message->expires_at);
    rk_buf_varint(out, message->attempt);
    rk_buf_varint(out, message->deliveries);
    rk_buf_varint(out, message->failures);
    rk_buf_u8(out, message->state);
    rk_buf_u8(out, message->is_settled);
    rk_buf_u8(out, message->priority);
    rk_buf_u8(out, message->encoding);
    rk_buf_blob(out, rk_message_data(message));
    rk_buf_blob(out, rk_message_headers(message));
    rk_buf_blob(out, rk_message_group(message));
}

static enum rk_status message_check(const struct rk_message *fields)
{
    bool is_known = fields->state <= RK_MESSAGE_IN_FLIGHT &&
                    fields->priority < RK_PRIORITY_COUNT &&
                    fields->encoding <= RK_ENCODING_RAW;
    return is_known && fields->order != 0 && fields->group_size <= RK_NAME_MAX ? RK_OK
                                                                               : RK_EPROTO;
}

enum rk_status rk_message_enter(struct rk_machine *machine, const struct rk_message *fields,
                                const struct rk_slice parts[3], uint64_t id,
                                struct rk_object **out)
{
    size_t size = parts[0].size + parts[1].size + parts[2].size;
    struct rk_message *message = rk_calloc(1, sizeof(*message) + size);
    if (message == NULL) return RK_ENOMEM;
    *message = *fields;
    uint8_t *at = message->bytes;
    for (int i = 0; i < 3; i++) {
        if (parts[i].size != 0) memcpy(at, parts[i].data, parts[i].size);
        at += parts[i].size;
    }
    enum rk_status status =
        rk_object_enter(machine, &message->object, RK_OBJECT_MESSAGE, id);
    if (status != RK_OK) {
        rk_free(message);
        return status;
    }
    rk_object_count(machine, &message->object,
                    rk_message_cost(parts[0].size, parts[1].size, parts[2].size));
    *out = &message->object;
    return RK_OK;
}

static enum rk_status message_restore(struct rk_machine *machine, struct rk_reader *body,
                                      uint64_t id, struct rk_object **out)
{
    struct rk_message fields;
    memset(&fields, 0, sizeof(fields));
    fields.topic_id = rk_read_varint(body);
    fields.order = rk_read_varint(body);
    fields.published_ms = rk_read_varint(body);
    fields.expires_at = rk_read_varint(body);
    fields.attempt = rk_record_u32(body);
    fields.deliveries = rk_record_u32(body);
    fields.failures = rk_record_u32(body);
    fields.state = rk_read_u8(body);
    fields.is_settled = rk_record_flags(body, 1) != 0;
    fields.priority = rk_read_u8(body);
    fields.encoding = rk_read_u8(body);
    struct rk_slice parts[3];
    for (int i = 0; i < 3; i++)
        parts[i] = rk_read_blob(body);
    fields.data_size = (uint32_t)parts[0].size;
    fields.headers_size = (uint32_t)parts[1].size;
    fields.group_size = (uint32_t)parts[2].size;
    enum rk_status status = rk_reader_check(body, true);
    if (status == RK_OK) status = message_check(&fields);
    return status == RK_OK ? rk_message_enter(machine, &fields, parts, id, out) : status;
}

static void message_free(struct rk_machine *machine, struct rk_object *object)
{
    (void)machine;
    rk_free(RK_CONTAINER(object, struct rk_message, object));
}

/* --- after a restore */

static int by_topic_and_order(const void *a, const void *b)
{
    const struct rk_message *left = *(struct rk_message *const *)a;
    const struct rk_message *right = *(struct rk_message *const *)b;
    if (left->topic_id != right->topic_id) return left->topic_id < right->topic_id ? -1 : 1;
    if (left->order != right->order) return left->order < right->order ? -1 : 1;
    return 0;
}

static enum rk_status attach_restored(struct rk_machine *machine,
                                      struct rk_message *message)
{
    struct rk_object *object = rk_object_find(machine, RK_OBJECT_TOPIC, message->topic_id);
    if (object == NULL) return RK_EPROTO;
    struct rk_topic *topic = RK_CONTAINER(object, struct rk_topic, object);
    if (message->order > topic->order) return RK_EPROTO;
    if (!rk_list_is_empty(&topic->messages) &&
        RK_CONTAINER(topic->messages.prev, struct rk_message, topic_link)->order >=
            message->order)
        return RK_EPROTO;
    return rk_message_attach(NULL, message, topic);
}

/* Messages are attached in publish order, whatever order their records stood in: one that
 * was moved to the dead letters is older than the topic in which it stands. */
enum rk_status rk_queues_restored(struct rk_machine *machine)
{
    size_t count = 0;
    rk_list_each (link, &machine->objects)
        count += RK_CONTAINER(link, struct rk_object, link)->kind == RK_OBJECT_MESSAGE;
    struct rk_message **messages = rk_calloc(count + 1, sizeof(struct rk_message *));
    if (messages == NULL) return RK_ENOMEM;
    count = 0;
    rk_list_each (link, &machine->objects) {
        struct rk_object *object = RK_CONTAINER(link, struct rk_object, link);
        if (object->kind == RK_OBJECT_MESSAGE)
            messages[count++] = RK_CONTAINER(object, struct rk_message, object);
    }
    qsort(messages, count, sizeof(struct rk_message *), by_topic_and_order);
    enum rk_status status = RK_OK;
    for (size_t i = 0; status == RK_OK && i < count; i++)
        status = attach_restored(machine, messages[i]);
    rk_free(messages);
    rk_list_each (link, &machine->objects) {
        if (status != RK_OK) break;
        struct rk_object *object = RK_CONTAINER(link, struct rk_object, link);
        if (object->kind == RK_OBJECT_DEDUP)
            status =
                rk_dedup_restored(machine, RK_CONTAINER(object, struct rk_dedup, object));
    }
    return status;
}

/* --- tables */

const struct rk_op_handler rk_queue_handlers[] = {
    {RK_OP_QUEUE_PUBLISH, rk_queue_publish, NULL},
    {RK_OP_QUEUE_CONSUME, rk_queue_consume, NULL},
    {RK_OP_QUEUE_ACK, rk_queue_ack, NULL},
    {RK_OP_QUEUE_NACK, rk_queue_nack, NULL},
    {RK_OP_QUEUE_EXTEND, rk_queue_extend, NULL},
    {RK_OP_QUEUE_RETURN, rk_queue_return, NULL},
    {RK_OP_QUEUE_DELETE, rk_queue_delete, NULL},
    {RK_OP_QUEUE_CONFIGURE, rk_queue_configure, NULL},
    {RK_OP_QUEUE_PAUSE, rk_queue_pause, NULL},
    {RK_OP_QUEUE_RESUME, rk_queue_resume, NULL},
    {RK_OP_QUEUE_PURGE, rk_queue_purge, NULL},
    {RK_OP_QUEUE_REDRIVE, rk_queue_redrive, NULL},
    {RK_OP_QUEUE_PEEK, NULL, rk_queue_peek},
    {RK_OP_QUEUE_INFO, NULL, rk_queue_info},
    {RK_OP_QUEUE_LIST, NULL, rk_queue_list},
    {RK_OP_QUEUE_STATS, NULL, rk_queue_stats},
    {RK_OP_NONE, NULL, NULL},
};

const struct rk_object_class rk_queue_classes[] = {
    {RK_OBJECT_TOPIC, "topic", topic_encode, topic_restore, rk_topic_due, topic_free},
    {RK_OBJECT_MESSAGE, "message", message_encode, message_restore, rk_message_due,
     message_free},
    {RK_OBJECT_DEDUP, "dedup", rk_dedup_encode, rk_dedup_restore, rk_dedup_due,
     rk_dedup_free},
    {RK_OBJECT_FENCE, "fence", rk_fence_encode, rk_fence_restore, rk_fence_due,
     rk_fence_free},
    {0},
};
