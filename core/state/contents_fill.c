/* Contents come into a fresh machine, which is then saved as any other. */
#include "base/slot.h"
#include "state/caches.h"
#include "state/contents.h"
#include "state/queues.h"

void rk_machine_fill_begin(struct rk_machine *machine, uint64_t index, uint64_t now_ms)
{
    machine->index = index;
    machine->time_ms = now_ms;
}

static enum rk_status topic_fill(struct rk_machine *machine,
                                 const struct rk_content *content)
{
    const struct rk_content_topic *from = &content->topic;
    struct rk_topic *topic = NULL;
    if (content->name.size == 0 ||
        content->name.size > RK_NAME_MAX + RK_TOPIC_DEAD_SUFFIX.size)
        return RK_ERANGE;
    if (rk_topic_find(machine, content->name) != NULL) return RK_OK;
    enum rk_status status = rk_topic_enter(machine, content->name, 0, &topic);
    if (status != RK_OK) return status;
    topic->settings = (struct rk_topic_settings){
        .visibility_ms = from->visibility_ms,
        .deliveries_max = from->deliveries_max,
        .retry_ms = from->retry_ms,
        .retry_max_ms = from->retry_max_ms,
        .dedup_ms = from->dedup_ms,
        .ttl_ms = from->ttl_ms,
        .messages_max = from->messages_max,
        .bytes_max = from->bytes_max,
    };
    topic->published = from->published;
    topic->delivered = from->delivered;
    topic->acked = from->acked;
    topic->failed = from->failed;
    topic->expired = from->expired;
    topic->is_paused = from->is_paused;
    return RK_OK;
}

static void message_time(struct rk_machine *machine, struct rk_message *message,
                         const struct rk_content_message *from)
{
    struct rk_object *object = &message->object;
    if (from->is_delayed && from->is_absolute)
        rk_timer_start_at(machine, object, from->delay);
    else if (from->is_delayed)
        rk_timer_start(machine, object, machine->time_ms, from->delay);
    else if (from->expires_at != 0)
        rk_timer_start_at(machine, object, from->expires_at);
}

static enum rk_status message_fill(struct rk_machine *machine,
                                   const struct rk_content *content, uint64_t *number)
{
    const struct rk_content_message *from = &content->message;
    const struct rk_slice parts[3] = {content->value, from->headers, from->group};
    struct rk_topic *topic = rk_topic_find(machine, content->name);
    struct rk_object *object = NULL;
    bool is_held = from->unique_scope != RK_UNIQUE_NONE;
    if (topic == NULL || from->group.size > RK_NAME_MAX ||
        from->unique_key.size > RK_NAME_MAX || from->priority >= RK_PRIORITY_COUNT ||
        content->encoding > RK_ENCODING_RAW || content->value.size > UINT32_MAX ||
        (is_held && from->unique_scope != RK_UNIQUE_QUEUED &&
         from->unique_scope != RK_UNIQUE_ACKED))
        return RK_ERANGE;
    const struct rk_message fields = {
        .order = topic->order + 1,
        .published_ms = machine->time_ms,
        .expires_at = from->expires_at,
        .attempt = from->attempt,
        .deliveries = from->deliveries,
        .failures = from->failures,
        .state = from->is_delayed ? RK_MESSAGE_DELAYED : RK_MESSAGE_READY,
        .is_settled = from->is_settled,
        .priority = from->priority,
        .encoding = content->encoding,
        .data_size = (uint32_t)content->value.size,
        .headers_size = (uint32_t)from->headers.size,
        .group_size = (uint32_t)from->group.size,
    };
    enum rk_status status = rk_message_enter(machine, &fields, parts, 0, &object);
    if (status != RK_OK) return status;
    struct rk_message *message = RK_CONTAINER(object, struct rk_message, object);
    topic->order++;
    *number = object->id;
    message_time(machine, message, from);
    status = rk_message_attach(NULL, message, topic);
    if (status == RK_OK && is_held)
        status = rk_dedup_remember(machine, NULL, topic,
                                   (enum rk_unique_scope)from->unique_scope,
                                   from->unique_key, object->id, message);
    return status;
}

static enum rk_status window_fill(struct rk_machine *machine,
                                  const struct rk_content *content, uint64_t *number)
{
    struct rk_topic *topic = rk_topic_find(machine, content->name);
    if (topic == NULL || content->key.size > RK_NAME_MAX || content->window.expires_at == 0)
        return RK_ERANGE;
    if (*number == 0) *number = ++machine->object_id; /* that no message gets any more */
    return rk_dedup_fill(machine, topic, content->window.is_unique, content->key, *number,
                         content->window.expires_at);
}

static enum rk_status cache_fill(struct rk_machine *machine,
                                 const struct rk_content *content)
{
    struct rk_cache *cache = rk_cache_find(machine, content->name);
    if (content->name.size == 0 || content->name.size > RK_NAME_MAX) return RK_ERANGE;
    enum rk_status status = RK_OK;
    if (cache == NULL) status = rk_cache_enter(machine, content->name, 0, &cache);
    if (status == RK_OK && content->cache.ttl_ms != 0)
        cache->ttl_ms = content->cache.ttl_ms;
    return status;
}

/* Nothing that came is evicted for want of room, nor what is put in its place. */
static void cache_grow(struct rk_cache *cache, const struct rk_entry *entry)
{
    uint64_t bytes = cache->queue_bytes[RK_CACHE_SMALL] + cache->queue_bytes[RK_CACHE_MAIN];
    uint64_t least = (uint64_t)entry->object.bytes * RK_CACHE_ITEM_DIVISOR;
    if (bytes > cache->bytes_max / 4 * 3) cache->bytes_max += cache->bytes_max / 2;
    if (least > cache->bytes_max) cache->bytes_max = least;
}

static enum rk_status entry_fill(struct rk_machine *machine,
                                 const struct rk_content *content)
{
    struct rk_cache *cache = rk_cache_find(machine, content->name);
    struct rk_entry *entry = NULL;
    if (cache == NULL || content->key.size > RK_NAME_MAX ||
        content->encoding > RK_ENCODING_RAW || content->value.size > UINT32_MAX)
        return RK_ERANGE;
    if (rk_entry_find(cache, content->key) != NULL) return RK_OK;
    enum rk_status status =
        rk_entry_enter(machine, content->key, content->value, 0, &entry);
    if (status != RK_OK) return status;
    entry->cache = cache;
    entry->cache_id = cache->object.id;
    status = rk_map_insert(&cache->entries, &entry->node);
    if (status != RK_OK) return status;
    rk_cache_admit(cache, entry);
    cache_grow(cache, entry);
    entry->version = content->entry.version;
    entry->expires_at = content->entry.expires_at;
    entry->soft_at = content->entry.soft_at;
    entry->encoding = content->encoding;
    if (entry->expires_at != 0)
        rk_timer_start_at(machine, &entry->object, entry->expires_at);
    return RK_OK;
}

enum rk_status rk_machine_fill(struct rk_machine *machine, const struct rk_content *content,
                               uint64_t *number)
{
    switch (content->kind) {
    case RK_CONTENT_TOPIC: return topic_fill(machine, content);
    case RK_CONTENT_MESSAGE: return message_fill(machine, content, number);
    case RK_CONTENT_WINDOW: return window_fill(machine, content, number);
    case RK_CONTENT_CACHE: return cache_fill(machine, content);
    case RK_CONTENT_ENTRY: return entry_fill(machine, content);
    default: break;
    }
    bool is_topic = content->kind == RK_CONTENT_TOPIC_FENCE;
    return rk_fence_fill(machine, is_topic ? RK_FENCE_TOPIC : RK_FENCE_CACHE,
                         content->fence.is_named, content->name, content->key,
                         content->fence.highest);
}
