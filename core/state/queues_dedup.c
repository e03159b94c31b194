#include "base/alloc.h"
#include "base/assert.h"
#include "state/queues.h"

enum { KEY_HEAD = 9, KEY_MAX = KEY_HEAD + RK_NAME_MAX };

static struct rk_slice key_build(uint8_t out[KEY_MAX], uint64_t topic_id, bool is_unique,
                                 struct rk_slice key)
{
    RK_ASSERT(key.size <= RK_NAME_MAX);
    rk_put_u64(out, topic_id);
    out[8] = is_unique;
    if (key.size != 0) memcpy(out + KEY_HEAD, key.data, key.size);
    return rk_slice_of(out, KEY_HEAD + key.size);
}

static struct rk_dedup *find_any(const struct rk_machine *machine,
                                 const struct rk_topic *topic, bool is_unique,
                                 struct rk_slice key)
{
    uint8_t bytes[KEY_MAX];
    struct rk_map_node *node = rk_map_find(
        &machine->queues->dedups, key_build(bytes, topic->object.id, is_unique, key));
    return node != NULL ? RK_CONTAINER(node, struct rk_dedup, node) : NULL;
}

/* The message with which the key goes, NULL if it stands for a window. */
static struct rk_message *holder_of(const struct rk_machine *machine,
                                    const struct rk_dedup *dedup)
{
    if (dedup->scope != RK_UNIQUE_QUEUED && dedup->scope != RK_UNIQUE_ACKED) return NULL;
    struct rk_object *object = rk_object_find(machine, RK_OBJECT_MESSAGE, dedup->message);
    return object != NULL ? RK_CONTAINER(object, struct rk_message, object) : NULL;
}

struct rk_dedup *rk_dedup_find(const struct rk_machine *machine,
                               const struct rk_topic *topic, bool is_unique,
                               struct rk_slice key, uint64_t now)
{
    struct rk_dedup *dedup = find_any(machine, topic, is_unique, key);
    if (dedup == NULL || (dedup->expires_at != 0 && now >= dedup->expires_at)) return NULL;
    const struct rk_message *holder = holder_of(machine, dedup);
    return holder == NULL || !rk_message_is_purged(holder) ? dedup : NULL;
}

static enum rk_status dedup_remove(struct rk_machine *machine, struct rk_dedup *dedup)
{
    enum rk_status status = rk_object_touch(machine, &dedup->object);
    if (status != RK_OK) return status;
    rk_map_remove(&machine->queues->dedups, &dedup->node);
    rk_object_leave(machine, &dedup->object);
    rk_free(dedup);
    return RK_OK;
}

static enum rk_status dedup_enter(struct rk_machine *machine, struct rk_slice key,
                                  uint64_t id, struct rk_dedup **out)
{
    struct rk_dedup *dedup = rk_calloc(1, sizeof(*dedup) + key.size);
    if (dedup == NULL) return RK_ENOMEM;
    memcpy(dedup->key, key.data, key.size);
    dedup->key_size = key.size;
    dedup->node.key = rk_slice_of(dedup->key, key.size);
    enum rk_status status = rk_map_insert(&machine->queues->dedups, &dedup->node);
    if (status == RK_OK) {
        status = rk_object_enter(machine, &dedup->object, RK_OBJECT_DEDUP, id);
        if (status != RK_OK) rk_map_remove(&machine->queues->dedups, &dedup->node);
    }
    if (status != RK_OK) {
        rk_free(dedup);
        return status == RK_EEXIST ? RK_EPROTO : status;
    }
    rk_object_count(machine, &dedup->object, (uint32_t)(RK_DEDUP_BYTES + key.size));
    *out = dedup;
    return RK_OK;
}

enum rk_status rk_dedup_remember(struct rk_machine *machine, struct rk_apply *apply,
                                 struct rk_topic *topic, enum rk_unique_scope scope,
                                 struct rk_slice key, uint64_t message,
                                 struct rk_message *holder)
{
    bool is_unique = scope != RK_UNIQUE_NONE;
    bool is_window = scope == RK_UNIQUE_NONE || scope == RK_UNIQUE_WINDOW;
    if (is_window && topic->settings.dedup_ms == 0) return RK_OK;
    struct rk_dedup *dedup = find_any(machine, topic, is_unique, key);
    if (dedup != NULL) {
        struct rk_message *last = holder_of(machine, dedup);
        if (last != NULL) last->unique = NULL;
        enum rk_status status = dedup_remove(machine, dedup);
        if (status != RK_OK) return status;
    }
    uint8_t bytes[KEY_MAX];
    struct rk_slice full = key_build(bytes, topic->object.id, is_unique, key);
    enum rk_status status = dedup_enter(machine, full, 0, &dedup);
    if (status != RK_OK) return status;
    dedup->scope = (uint8_t)scope;
    dedup->message = message;
    if (is_window) {
        dedup->expires_at = apply->now + topic->settings.dedup_ms;
        rk_timer_start_at(machine, &dedup->object, dedup->expires_at);
    } else {
        RK_ASSERT(holder != NULL && holder->unique == NULL);
        holder->unique = dedup;
    }
    return RK_OK;
}

enum rk_status rk_dedup_fill(struct rk_machine *machine, struct rk_topic *topic,
                             bool is_unique, struct rk_slice key, uint64_t message,
                             uint64_t expires_at)
{
    uint8_t bytes[KEY_MAX];
    struct rk_dedup *dedup = NULL;
    if (find_any(machine, topic, is_unique, key) != NULL) return RK_OK;
    struct rk_slice full = key_build(bytes, topic->object.id, is_unique, key);
    enum rk_status status = dedup_enter(machine, full, 0, &dedup);
    if (status != RK_OK) return status;
    dedup->scope = is_unique ? RK_UNIQUE_WINDOW : RK_UNIQUE_NONE;
    dedup->message = message;
    dedup->expires_at = expires_at;
    rk_timer_start_at(machine, &dedup->object, expires_at);
    return RK_OK;
}

enum rk_status rk_dedup_release(struct rk_machine *machine, struct rk_message *message)
{
    struct rk_dedup *dedup = message->unique;
    message->unique = NULL;
    return dedup != NULL ? dedup_remove(machine, dedup) : RK_OK;
}

void rk_dedup_encode(const struct rk_machine *machine, const struct rk_object *object,
                     struct rk_buf *out)
{
    (void)machine;
    const struct rk_dedup *dedup = (const void *)object;
    rk_buf_blob(out, rk_slice_of(dedup->key, dedup->key_size));
    rk_buf_varint(out, dedup->message);
    rk_buf_varint(out, dedup->expires_at);
    rk_buf_u8(out, dedup->scope);
}

enum rk_status rk_dedup_restore(struct rk_machine *machine, struct rk_reader *body,
                                uint64_t id, struct rk_object **out)
{
    struct rk_slice key = rk_read_blob(body);
    uint64_t message = rk_read_varint(body);
    uint64_t expires_at = rk_read_varint(body);
    uint8_t scope = rk_read_u8(body);
    enum rk_status status = rk_reader_check(body, true);
    if (status != RK_OK) return status;
    if (key.size < KEY_HEAD || key.size > KEY_MAX || scope > RK_UNIQUE_WINDOW)
        return RK_EPROTO;
    struct rk_dedup *dedup;
    status = dedup_enter(machine, key, id, &dedup);
    if (status != RK_OK) return status;
    dedup->message = message;
    dedup->expires_at = expires_at;
    dedup->scope = scope;
    *out = &dedup->object;
    return RK_OK;
}

enum rk_status rk_dedup_restored(struct rk_machine *machine, struct rk_dedup *dedup)
{
    if (rk_object_find(machine, RK_OBJECT_TOPIC, rk_take_u64(dedup->key)) == NULL)
        return RK_EPROTO;
    if (dedup->scope != RK_UNIQUE_QUEUED && dedup->scope != RK_UNIQUE_ACKED) return RK_OK;

    struct rk_message *message = holder_of(machine, dedup);
    if (message == NULL || message->unique != NULL) return RK_EPROTO;
    if (rk_timer_is_armed(&dedup->object)) return RK_EPROTO; /* it goes with the message */
    message->unique = dedup;
    return RK_OK;
}

enum rk_status rk_dedup_due(struct rk_machine *machine, struct rk_apply *apply,
                            struct rk_object *object)
{
    (void)apply;
    return dedup_remove(machine, RK_CONTAINER(object, struct rk_dedup, object));
}

void rk_dedup_free(struct rk_machine *machine, struct rk_object *object)
{
    (void)machine;
    rk_free(RK_CONTAINER(object, struct rk_dedup, object));
}
