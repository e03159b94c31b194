#include "state/contents.h"

#include "base/alloc.h"
#include "state/caches.h"
#include "state/queues.h"

enum {
    DEDUP_HEAD = 9, /* of a dedup's key: u64 topic id, u8 whether it is a unique key */
    FENCE_HEAD =
        6, /* of a fence's name: area, whether it is named, u32 size of the place */
};

/* --- out ------------------------------------------------------------------------------ */

static enum rk_status topic_give(const struct rk_machine *machine,
                                 const struct rk_topic *topic, rk_content_take *take,
                                 void *context)
{
    const struct rk_topic_settings *settings = &topic->settings;
    const struct rk_content content = {
        .kind = RK_CONTENT_TOPIC,
        .name = rk_topic_name(topic),
        .topic = {.visibility_ms = settings->visibility_ms,
                  .deliveries_max = settings->deliveries_max,
                  .retry_ms = settings->retry_ms,
                  .retry_max_ms = settings->retry_max_ms,
                  .dedup_ms = settings->dedup_ms,
                  .ttl_ms = settings->ttl_ms,
                  .messages_max = settings->messages_max,
                  .bytes_max = settings->bytes_max,
                  .published = topic->published,
                  .delivered = topic->delivered,
                  .acked = topic->acked,
                  .failed = topic->failed,
                  .expired = topic->expired,
                  .last = machine->object_id,
                  .is_paused = topic->is_paused},
    };
    return take(context, &content);
}

static enum rk_status message_give(const struct rk_message *message, rk_content_take *take,
                                   void *context)
{
    const struct rk_timer *timer = &message->object.timer;
    const struct rk_dedup *unique = message->unique;
    struct rk_content content = {
        .kind = RK_CONTENT_MESSAGE,
        .name = rk_topic_name(message->topic),
        .value = rk_message_data(message),
        .encoding = message->encoding,
        .message = {.number = message->object.id,
                    .headers = rk_message_headers(message),
                    .group = rk_message_group(message),
                    .expires_at = message->expires_at,
                    .attempt = message->attempt,
                    .deliveries = message->deliveries,
                    .failures = message->failures,
                    .priority = message->priority,
                    .is_delayed = message->state == RK_MESSAGE_DELAYED,
                    .is_settled = message->is_settled},
    };
    if (content.message.is_delayed) {
        content.message.delay = timer->duration_ms;
        content.message.is_absolute = timer->is_absolute;
    }
    if (unique != NULL) {
        content.message.unique_scope = unique->scope;
        content.message.unique_key =
            rk_slice_of(unique->key + DEDUP_HEAD, unique->key_size - DEDUP_HEAD);
    }
    return take(context, &content);
}

static enum rk_status messages_give(const struct rk_topic *topic, rk_content_take *take,
                                    void *context)
{
    enum rk_status status = RK_OK;
    rk_list_each (link, &topic->messages) {
        if (status != RK_OK) break;
        status =
            message_give(RK_CONTAINER(link, struct rk_message, topic_link), take, context);
    }
    return status;
}

/* Of those with a window: others go with their messages. */
static enum rk_status window_give(const struct rk_machine *machine,
                                  const struct rk_dedup *dedup, rk_content_take *take,
                                  void *context)
{
    if (dedup->expires_at == 0) return RK_OK;
    const struct rk_object *object =
        rk_object_find(machine, RK_OBJECT_TOPIC, rk_take_u64(dedup->key));
    if (object == NULL) return RK_OK;
    const struct rk_topic *topic = (const void *)object;
    const struct rk_object *held =
        rk_object_find(machine, RK_OBJECT_MESSAGE, dedup->message);
    const struct rk_topic *home =
        held != NULL ? ((const struct rk_message *)(const void *)held)->topic : topic;
    const struct rk_content content = {
        .kind = RK_CONTENT_WINDOW,
        .name = rk_topic_name(topic),
        .key = rk_slice_of(dedup->key + DEDUP_HEAD, dedup->key_size - DEDUP_HEAD),
        .window = {.home = rk_topic_name(home),
                   .number = dedup->message,
                   .expires_at = dedup->expires_at,
                   .is_unique = dedup->key[DEDUP_HEAD - 1] != 0},
    };
    return take(context, &content);
}

static enum rk_status fence_give(const struct rk_fence *fence, rk_content_take *take,
                                 void *context)
{
    struct rk_slice name = rk_fence_name(fence);
    uint32_t size = name.size >= FENCE_HEAD ? rk_take_u32(name.data + 2) : 0;
    if (name.size < FENCE_HEAD || size > name.size - FENCE_HEAD) return RK_OK;
    const struct rk_content content = {
        .kind = name.data[0] == RK_FENCE_TOPIC ? RK_CONTENT_TOPIC_FENCE
                                               : RK_CONTENT_CACHE_FENCE,
        .name = rk_slice_of(name.data + FENCE_HEAD, size),
        .key = rk_slice_of(name.data + FENCE_HEAD + size, name.size - FENCE_HEAD - size),
        .fence = {.highest = rk_fence_highest(fence), .is_named = name.data[1] != 0},
    };
    return take(context, &content);
}

static enum rk_status cache_give(const struct rk_cache *cache, rk_content_take *take,
                                 void *context)
{
    const struct rk_content content = {
        .kind = RK_CONTENT_CACHE,
        .name = rk_cache_name(cache),
        .cache = {.ttl_ms = cache->ttl_ms,
                  .bytes_max =
                      cache->bytes_max != RK_CACHE_BYTES_MAX ? cache->bytes_max : 0,
                  .has_policy = cache->policy != RK_CACHE_S3FIFO},
    };
    return take(context, &content);
}

static enum rk_status entry_give(const struct rk_entry *entry, rk_content_take *take,
                                 void *context)
{
    const struct rk_content content = {
        .kind = RK_CONTENT_ENTRY,
        .name = rk_cache_name(entry->cache),
        .key = rk_entry_key(entry),
        .value = rk_slice_of(entry->value, entry->value_size),
        .encoding = entry->encoding,
        .entry = {.version = entry->version,
                  .expires_at = entry->expires_at,
                  .soft_at = entry->soft_at},
    };
    return take(context, &content);
}

static enum rk_status object_give(const struct rk_machine *machine,
                                  const struct rk_object *object, rk_content_take *take,
                                  void *context)
{
    const void *as = object;
    switch (object->kind) {
    case RK_OBJECT_TOPIC: return topic_give(machine, as, take, context);
    case RK_OBJECT_DEDUP: return window_give(machine, as, take, context);
    case RK_OBJECT_FENCE: return fence_give(as, take, context);
    case RK_OBJECT_CACHE: return cache_give(as, take, context);
    default: return entry_give(as, take, context);
    }
}

static enum rk_status kind_give(const struct rk_machine *machine, uint8_t kind,
                                rk_content_take *take, void *context)
{
    enum rk_status status = RK_OK;
    rk_list_each (link, &machine->objects) {
        const struct rk_object *object = RK_CONTAINER(link, struct rk_object, link);
        if (status != RK_OK) break;
        if (object->kind == kind) status = object_give(machine, object, take, context);
    }
    return status;
}

enum rk_status rk_machine_contents(const struct rk_machine *machine, rk_content_take *take,
                                   void *context)
{
    static const uint8_t kinds[] = {RK_OBJECT_DEDUP, RK_OBJECT_CACHE, RK_OBJECT_ENTRY,
                                    RK_OBJECT_FENCE};
    enum rk_status status = kind_give(machine, RK_OBJECT_TOPIC, take, context);
    rk_list_each (link, &machine->objects) {
        const struct rk_object *object = RK_CONTAINER(link, struct rk_object, link);
        if (status != RK_OK) break;
        if (object->kind == RK_OBJECT_TOPIC)
            status = messages_give((const void *)object, take, context);
    }
    for (size_t i = 0; status == RK_OK && i < sizeof(kinds); i++)
        status = kind_give(machine, kinds[i], take, context);
    return status;
}
