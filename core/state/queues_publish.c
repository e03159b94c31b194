#include "base/alloc.h"
#include "base/slot.h"
#include "state/queues.h"

/* The first message that this one repeats, by publish id or unique key; 0 if it is new.
 * Decided here, inside the log, so that two nodes cannot decide differently. */
static uint64_t repeated(const struct rk_machine *machine, const struct rk_topic *topic,
                         const struct rk_message_in *in, uint64_t now)
{
    const struct rk_dedup *dedup = NULL;
    if (in->publish_id.size != 0)
        dedup = rk_dedup_find(machine, topic, false, in->publish_id, now);
    if (dedup == NULL && in->unique_scope != RK_UNIQUE_NONE)
        dedup = rk_dedup_find(machine, topic, true, in->unique_key, now);
    return dedup != NULL ? dedup->message : 0;
}

static void encode_headers(struct rk_buf *out, struct rk_headers headers)
{
    rk_buf_varint(out, headers.count);
    for (uint32_t i = 0; i < headers.count; i++) {
        rk_buf_blob(out, headers.items[i].name);
        rk_buf_blob(out, headers.items[i].value);
    }
}

static size_t varint_size(uint64_t value)
{
    size_t size = 1;
    for (; value >= 0x80; value >>= 7)
        size++;
    return size;
}

static size_t headers_size(struct rk_headers headers)
{
    if (headers.count == 0) return 0;
    size_t size = varint_size(headers.count);
    for (uint32_t i = 0; i < headers.count; i++)
        size += varint_size(headers.items[i].name.size) + headers.items[i].name.size +
                varint_size(headers.items[i].value.size) + headers.items[i].value.size;
    return size;
}

static uint64_t cost_of(const struct rk_message_in *in)
{
    return rk_message_cost(in->data.bytes.size, headers_size(in->headers), in->group.size);
}

/* Header and all parts in one block. */
static enum rk_status message_alloc(struct rk_message **out, const struct rk_message_in *in)
{
    size_t data_size = in->data.bytes.size;
    size_t head_size = headers_size(in->headers);
    struct rk_message *message =
        rk_calloc(1, sizeof(*message) + data_size + head_size + in->group.size);
    if (message == NULL) return RK_ENOMEM;
    uint8_t *at = message->bytes;
    if (data_size != 0) memcpy(at, in->data.bytes.data, data_size);
    at += data_size;
    if (head_size != 0) {
        struct rk_buf buf;
        rk_buf_init(&buf);
        encode_headers(&buf, in->headers);
        if (rk_buf_check(&buf) != RK_OK) {
            rk_buf_fini(&buf);
            rk_free(message);
            return RK_ENOMEM;
        }
        memcpy(at, buf.data, head_size);
        rk_buf_fini(&buf);
        at += head_size;
    }
    if (in->group.size != 0) memcpy(at, in->group.data, in->group.size);
    message->data_size = (uint32_t)data_size;
    message->headers_size = (uint32_t)head_size;
    message->group_size = (uint32_t)in->group.size;
    message->encoding = in->data.encoding;
    message->priority =
        in->priority < RK_PRIORITY_COUNT ? in->priority : RK_PRIORITY_COUNT - 1;
    *out = message;
    return RK_OK;
}

static void start_timer(struct rk_machine *machine, struct rk_apply *apply,
                        const struct rk_message_in *in, struct rk_message *message)
{
    if (in->deliver_at > apply->now) {
        message->state = RK_MESSAGE_DELAYED;
        rk_timer_start_at(machine, &message->object, in->deliver_at);
    } else if (in->deliver_at == 0 && in->delay_ms != 0) {
        message->state = RK_MESSAGE_DELAYED;
        rk_timer_start(machine, &message->object, apply->now, in->delay_ms);
    } else if (message->expires_at != 0) {
        rk_timer_start_at(machine, &message->object, message->expires_at);
    }
}

static enum rk_status message_enter(struct rk_machine *machine, struct rk_apply *apply,
                                    struct rk_topic *topic, const struct rk_message_in *in,
                                    struct rk_message **out)
{
    struct rk_message *message;
    enum rk_status status = message_alloc(&message, in);
    if (status != RK_OK) return status;
    status = rk_object_enter(machine, &message->object, RK_OBJECT_MESSAGE, 0);
    if (status != RK_OK) {
        rk_free(message);
        return status;
    }
    rk_object_count(machine, &message->object, (uint32_t)cost_of(in));
    uint64_t ttl_ms = in->ttl_ms != 0 ? in->ttl_ms : topic->settings.ttl_ms;
    message->published_ms = apply->now;
    message->expires_at = ttl_ms != 0 ? apply->now + ttl_ms : 0;
    message->order = ++topic->order;
    start_timer(machine, apply, in, message);
    *out = message;
    return rk_message_attach(apply, message, topic);
}

/* One message, or the number of the one that it repeats. */
static enum rk_status publish_one(struct rk_machine *machine, struct rk_apply *apply,
                                  struct rk_topic *topic, const struct rk_message_in *in,
                                  uint64_t *number)
{
    *number = repeated(machine, topic, in, apply->now);
    struct rk_message *message = NULL;
    enum rk_status status = RK_OK;
    if (*number == 0) {
        status = message_enter(machine, apply, topic, in, &message);
        if (status != RK_OK) return status;
        *number = message->object.id;
        topic->published++;
        if (in->unique_scope != RK_UNIQUE_NONE)
            status = rk_dedup_remember(machine, apply, topic,
                                       (enum rk_unique_scope)in->unique_scope,
                                       in->unique_key, *number, message);
    }
    if (status != RK_OK || in->publish_id.size == 0) return status;
    /* Also when a unique key refused it: a later repeat gets the same answer. */
    if (rk_dedup_find(machine, topic, false, in->publish_id, apply->now) != NULL)
        return RK_OK;
    return rk_dedup_remember(machine, apply, topic, RK_UNIQUE_NONE, in->publish_id, *number,
                             NULL);
}

/* Limits are checked for the whole call before anything changes: all or nothing. */
static bool has_room(const struct rk_machine *machine, struct rk_apply *apply,
                     const struct rk_topic *topic)
{
    const struct rk_request *request = apply->request;
    uint64_t count = 0;
    uint64_t bytes = 0;
    for (uint32_t i = 0; i < request->message_count; i++) {
        if (repeated(machine, topic, &request->messages[i], apply->now) != 0) continue;
        count++;
        bytes += cost_of(&request->messages[i]);
    }
    const struct rk_topic_settings *settings = &topic->settings;
    if (count != 0 && settings->messages_max != 0 &&
        topic->message_count + count > settings->messages_max) {
        (void)rk_refuse(apply->reply, RK_EBUSY, "topic",
                        "the topic holds %llu of at most %llu messages",
                        (unsigned long long)topic->message_count,
                        (unsigned long long)settings->messages_max);
        return false;
    }
    if (count != 0 && settings->bytes_max != 0 &&
        topic->bytes + bytes > settings->bytes_max) {
        (void)rk_refuse(
            apply->reply, RK_EBUSY, "topic", "the topic holds %llu of at most %llu bytes",
            (unsigned long long)topic->bytes, (unsigned long long)settings->bytes_max);
        return false;
    }
    return true;
}

static enum rk_status publish_all(struct rk_machine *machine, struct rk_apply *apply,
                                  struct rk_topic *topic)
{
    const struct rk_request *request = apply->request;
    struct rk_slice *ids =
        rk_arena_calloc(apply->arena, request->message_count, sizeof(*ids));
    if (ids == NULL) return RK_ENOMEM;
    enum rk_status status = rk_object_touch(machine, &topic->object);
    for (uint32_t i = 0; status == RK_OK && i < request->message_count; i++) {
        uint64_t number = 0;
        status = publish_one(machine, apply, topic, &request->messages[i], &number);
        if (status != RK_OK) break;
        ids[i] = rk_message_id_text(machine, topic, number, 0, apply->arena);
        if (ids[i].size == 0) status = RK_ENOMEM;
    }
    if (status != RK_OK) return status;
    apply->reply->ok = true;
    apply->reply->is_bulk = request->is_bulk;
    apply->reply->id = ids[0];
    apply->reply->ids = (struct rk_strings){ids, request->message_count};
    return RK_OK;
}

enum rk_status rk_queue_publish(struct rk_machine *machine, struct rk_apply *apply)
{
    const struct rk_request *request = apply->request;
    if (request->topic.size == 0 || request->message_count == 0)
        return rk_refuse(apply->reply, RK_EINVAL, "messages",
                         "there is nothing to publish");
    bool is_passed;
    enum rk_status status = rk_fence_check(machine, apply, RK_FENCE_TOPIC, request->topic,
                                           RK_SLICE_EMPTY, &is_passed);
    if (status != RK_OK || !is_passed) return status;

    struct rk_topic *topic = rk_topic_find(machine, request->topic);
    if (topic == NULL) {
        if (machine->queues->topics.count >= RK_TOPICS_MAX)
            return rk_refuse(apply->reply, RK_ELIMIT, "topic", "%d topics exist already",
                             RK_TOPICS_MAX);
        status = rk_topic_enter(machine, request->topic, 0, &topic);
        if (status != RK_OK) return status;
    }
    if (!has_room(machine, apply, topic)) return RK_OK;
    status = publish_all(machine, apply, topic);
    if (status != RK_OK) return status;
    return rk_fence_note(machine, apply, RK_FENCE_TOPIC, request->topic, RK_SLICE_EMPTY);
}
