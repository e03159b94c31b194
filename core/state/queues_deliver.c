#include "base/alloc.h"
#include "base/assert.h"
#include "base/mutant.h"
#include "base/slot.h"
#include "api/delivery_id.h"
#include "state/queues.h"

/* What a delivery id names now, or why it names nothing. */
struct named {
    enum rk_status status;
    struct rk_message *message; /* with RK_OK */
};

/* --- from ids to messages */

/* A delivery that a call may still act on: the last one of its message, and not given back
 * since. One that timed out counts until the message is handed out again: what a late ack
 * says is then still true, and believing it saves a duplicate. Among the dead letters only
 * the ack is still of use. */
static struct named delivery_find(const struct rk_machine *machine, struct rk_slice text,
                                  bool is_ack)
{
    struct rk_delivery_id id;
    enum rk_status status = rk_delivery_id_parse(&id, text);
    if (status != RK_OK) return (struct named){status, NULL};
    if (id.attempt == 0) return (struct named){RK_ERANGE, NULL};
    if (id.history != machine->history) return (struct named){RK_EGONE, NULL};
    struct rk_object *object = rk_object_find(machine, RK_OBJECT_MESSAGE, id.message);
    if (object == NULL) return (struct named){RK_EGONE, NULL};
    struct rk_message *message = RK_CONTAINER(object, struct rk_message, object);
    if (rk_message_is_purged(message)) return (struct named){RK_EGONE, NULL};
    bool is_stale = id.attempt < message->attempt || message->is_settled;
    if (is_stale && !RK_MUTANT(stale_ack)) return (struct named){RK_ESTALE, NULL};
    if (id.attempt > message->attempt) return (struct named){RK_EGONE, NULL};
    if (!is_ack && message->topic->is_dead && message->state != RK_MESSAGE_IN_FLIGHT)
        return (struct named){RK_ESTALE, NULL};
    return (struct named){RK_OK, message};
}

static const char *reason_of(enum rk_status status)
{
    switch (status) {
    case RK_ERANGE: return "this is no delivery id";
    case RK_ESTALE: return "a later delivery exists, or this one was given back";
    case RK_EGONE: return "the message is gone";
    default: return "refused";
    }
}

typedef enum rk_status (*settle_one)(struct rk_machine *machine, struct rk_apply *apply,
                                     struct rk_message *message);

/* Runs one over all ids. Single form: a failure is the answer; plural: a line an id.
 * *is_all: every id went through. */
static enum rk_status settle_all(struct rk_machine *machine, struct rk_apply *apply,
                                 settle_one one, bool *is_all)
{
    const struct rk_request *request = apply->request;
    uint32_t count = request->ids.count;
    struct rk_result *results = rk_arena_calloc(apply->arena, count + 1, sizeof(*results));
    if (results == NULL) return RK_ENOMEM;
    *is_all = true;
    for (uint32_t i = 0; i < count; i++) {
        struct named named =
            delivery_find(machine, request->ids.items[i], request->op == RK_OP_QUEUE_ACK);
        results[i] =
            (struct rk_result){.id = request->ids.items[i], .status = named.status};
        if (named.status != RK_OK) {
            *is_all = false;
            continue;
        }
        struct rk_topic *topic = named.message->topic;
        enum rk_status status = rk_object_touch(machine, &topic->object);
        if (status == RK_OK) status = rk_object_touch(machine, &named.message->object);
        if (status == RK_OK) status = one(machine, apply, named.message);
        if (status != RK_OK) return status;
    }
    apply->reply->is_bulk = request->is_bulk;
    if (!request->is_bulk && count == 1 && results[0].status != RK_OK)
        return rk_refuse(apply->reply, results[0].status, "id", "%s",
                         reason_of(results[0].status));
    apply->reply->results = results;
    apply->reply->result_count = count;
    return RK_OK;
}

/* --- hand-out */

static enum rk_status hand_out(struct rk_machine *machine, struct rk_apply *apply,
                               struct rk_message *message, uint64_t visibility_ms)
{
    enum rk_status status = rk_object_touch(machine, &message->object);
    if (status != RK_OK) return status;
    if (message->unique != NULL && message->unique->scope == RK_UNIQUE_QUEUED) {
        status = rk_dedup_release(machine, message);
        if (status != RK_OK) return status;
    }
    message->attempt++;
    message->deliveries++;
    message->is_settled = false;
    message->topic->delivered++;
    rk_timer_start(machine, &message->object, apply->now, visibility_ms);
    return rk_message_move(apply, message, RK_MESSAGE_IN_FLIGHT);
}

enum rk_status rk_queue_consume(struct rk_machine *machine, struct rk_apply *apply)
{
    const struct rk_request *request = apply->request;
    struct rk_reply *reply = apply->reply;
    reply->is_bulk = RK_HAS(request, MAX);
    struct rk_topic *topic = rk_topic_find(machine, request->topic);
    if (topic == NULL || topic->is_paused || topic->poppable == 0) {
        apply->is_forgotten = true;
        return RK_OK;
    }
    uint64_t max = RK_HAS(request, MAX) ? request->max : 1;
    if (max > RK_BATCH_MAX) max = RK_BATCH_MAX;
    if (max > topic->message_count) max = topic->message_count;
    uint64_t visibility_ms = RK_HAS(request, VISIBILITY_MS) ? request->visibility_ms
                                                            : topic->settings.visibility_ms;
    reply->messages = rk_arena_calloc(apply->arena, max + 1, sizeof(*reply->messages));
    if (reply->messages == NULL) return RK_ENOMEM;
    enum rk_status status = rk_object_touch(machine, &topic->object);
    size_t bytes = 0;
    while (status == RK_OK && reply->message_count < max) {
        struct rk_message *message = rk_message_first_ready(topic);
        if (message == NULL) break;
        if (rk_message_is_expired(message, apply->now)) {
            topic->expired++;
            status = rk_message_remove(machine, apply, message);
            continue;
        }
        bytes += message->data_size;
        if (reply->message_count != 0 && bytes > RK_CONSUME_BYTES_MAX) break;
        status = hand_out(machine, apply, message, visibility_ms);
        if (status == RK_OK)
            status = rk_message_show(machine, message, true, apply->arena,
                                     &reply->messages[reply->message_count]);
        reply->message_count++;
    }
    apply->is_forgotten = reply->message_count == 0;
    return status;
}

/* --- what becomes of a delivery */

/* Into the topic's dead letters, in the same entry: body and history stay, the message
 * number too, so a late ack still finds it. Their time to live ends with their life. */
static enum rk_status bury(struct rk_machine *machine, struct rk_apply *apply,
                           struct rk_message *message)
{
    struct rk_topic *topic = message->topic;
    struct rk_topic *dead = rk_topic_dead(machine, topic);
    enum rk_status status = RK_OK;
    if (dead == NULL) {
        struct rk_slice suffix = RK_TOPIC_DEAD_SUFFIX;
        uint8_t name[2 * RK_NAME_MAX];
        RK_ASSERT(topic->name_size + suffix.size <= sizeof(name));
        memcpy(name, topic->name, topic->name_size);
        memcpy(name + topic->name_size, suffix.data, suffix.size);
        status = rk_topic_enter(machine, rk_slice_of(name, topic->name_size + suffix.size),
                                0, &dead);
    }
    if (status == RK_OK) status = rk_object_touch(machine, &dead->object);
    if (status == RK_OK) status = rk_dedup_release(machine, message);
    if (status == RK_OK) status = rk_message_detach(apply, message);
    if (status != RK_OK) return status;
    message->order = ++dead->order;
    message->state = RK_MESSAGE_READY;
    message->expires_at =
        dead->settings.ttl_ms != 0 ? apply->now + dead->settings.ttl_ms : 0;
    if (message->expires_at != 0)
        rk_timer_start_at(machine, &message->object, message->expires_at);
    else
        rk_timer_stop(machine, &message->object);
    dead->published++;
    return rk_message_attach(apply, message, dead);
}

static uint64_t backoff_ms(const struct rk_message *message)
{
    const struct rk_topic_settings *settings = &message->topic->settings;
    uint64_t delay_ms = settings->retry_ms;
    for (uint32_t i = 1; i < message->failures && delay_ms < settings->retry_max_ms; i++)
        delay_ms *= 2;
    return delay_ms < settings->retry_max_ms ? delay_ms : settings->retry_max_ms;
}

static bool is_worn_out(const struct rk_message *message)
{
    const struct rk_topic *topic = message->topic;
    return topic->settings.deliveries_max != 0 && !topic->is_dead &&
           message->deliveries >= topic->settings.deliveries_max;
}

static void count_failure(struct rk_message *message)
{
    if (message->failures != UINT32_MAX) message->failures++;
    message->topic->failed++;
}

static enum rk_status ack_one(struct rk_machine *machine, struct rk_apply *apply,
                              struct rk_message *message)
{
    message->topic->acked++;
    return rk_message_remove(machine, apply, message);
}

static enum rk_status nack_one(struct rk_machine *machine, struct rk_apply *apply,
                               struct rk_message *message)
{
    /* An expiry has counted the failure already when the message is no more in flight. */
    if (message->state == RK_MESSAGE_IN_FLIGHT) count_failure(message);
    message->is_settled = true;
    bool is_bury = apply->request->dead && !message->topic->is_dead;
    if (is_bury || is_worn_out(message)) return bury(machine, apply, message);
    uint64_t delay_ms =
        RK_HAS(apply->request, DELAY_MS) ? apply->request->delay_ms : backoff_ms(message);
    if (delay_ms == 0) return rk_message_make_ready(machine, apply, message);
    rk_timer_start(machine, &message->object, apply->now, delay_ms);
    return rk_message_move(apply, message, RK_MESSAGE_DELAYED);
}

static enum rk_status extend_one(struct rk_machine *machine, struct rk_apply *apply,
                                 struct rk_message *message)
{
    rk_timer_start(machine, &message->object, apply->now, apply->request->visibility_ms);
    return rk_message_move(apply, message, RK_MESSAGE_IN_FLIGHT);
}

/* It never left the node: it counts neither as a delivery nor as a failure. Its id stays
 * used, so the next delivery has a higher attempt. */
static enum rk_status return_one(struct rk_machine *machine, struct rk_apply *apply,
                                 struct rk_message *message)
{
    if (message->state != RK_MESSAGE_IN_FLIGHT) return RK_OK;
    message->is_settled = true;
    message->deliveries--;
    message->topic->delivered--;
    return rk_message_make_ready(machine, apply, message);
}

enum rk_status rk_message_retire(struct rk_machine *machine, struct rk_apply *apply,
                                 struct rk_message *message)
{
    if (message->state != RK_MESSAGE_IN_FLIGHT || rk_message_is_purged(message))
        return RK_OK;
    enum rk_status status = rk_object_touch(machine, &message->topic->object);
    if (status == RK_OK) status = rk_object_touch(machine, &message->object);
    return status == RK_OK ? return_one(machine, apply, message) : status;
}

enum rk_status rk_queue_ack(struct rk_machine *machine, struct rk_apply *apply)
{
    return settle_all(machine, apply, ack_one, &apply->reply->ack);
}

enum rk_status rk_queue_nack(struct rk_machine *machine, struct rk_apply *apply)
{
    return settle_all(machine, apply, nack_one, &apply->reply->ok);
}

enum rk_status rk_queue_extend(struct rk_machine *machine, struct rk_apply *apply)
{
    apply->reply->visibility_ms = apply->request->visibility_ms;
    return settle_all(machine, apply, extend_one, &apply->reply->ok);
}

enum rk_status rk_queue_return(struct rk_machine *machine, struct rk_apply *apply)
{
    bool is_all;
    enum rk_status status = settle_all(machine, apply, return_one, &is_all);
    apply->reply->status = RK_OK;
    return status;
}

/* By message or delivery id, whatever the state. */
static struct named message_find(const struct rk_machine *machine, struct rk_slice text)
{
    struct rk_delivery_id id;
    enum rk_status status = rk_delivery_id_parse(&id, text);
    if (status != RK_OK) return (struct named){status, NULL};
    if (id.history != machine->history) return (struct named){RK_EGONE, NULL};
    struct rk_object *object = rk_object_find(machine, RK_OBJECT_MESSAGE, id.message);
    if (object == NULL) return (struct named){RK_EGONE, NULL};
    struct rk_message *message = RK_CONTAINER(object, struct rk_message, object);
    if (rk_message_is_purged(message)) return (struct named){RK_EGONE, NULL};
    return (struct named){RK_OK, message};
}

enum rk_status rk_queue_delete(struct rk_machine *machine, struct rk_apply *apply)
{
    const struct rk_request *request = apply->request;
    uint32_t count = request->ids.count;
    struct rk_result *results = rk_arena_calloc(apply->arena, count + 1, sizeof(*results));
    if (results == NULL) return RK_ENOMEM;
    apply->reply->deleted = true;
    for (uint32_t i = 0; i < count; i++) {
        struct named named = message_find(machine, request->ids.items[i]);
        results[i] =
            (struct rk_result){.id = request->ids.items[i], .status = named.status};
        results[i].deleted = named.status == RK_OK;
        apply->reply->deleted = apply->reply->deleted && results[i].deleted;
        if (named.status != RK_OK) continue;
        enum rk_status status = rk_object_touch(machine, &named.message->topic->object);
        if (status == RK_OK) status = rk_message_remove(machine, apply, named.message);
        if (status != RK_OK) return status;
    }
    apply->reply->is_bulk = request->is_bulk;
    if (!request->is_bulk && count == 1 && results[0].status != RK_OK)
        return rk_refuse(apply->reply, results[0].status, "id", "%s",
                         results[0].status == RK_EGONE
                             ? "the message is gone"
                             : "this is no message or delivery id");
    apply->reply->results = results;
    apply->reply->result_count = count;
    return RK_OK;
}

static enum rk_status visibility_over(struct rk_machine *machine, struct rk_apply *apply,
                                      struct rk_message *message)
{
    count_failure(message);
    if (RK_MUTANT(timed_out_dropped)) return rk_message_remove(machine, apply, message);
    if (is_worn_out(message)) return bury(machine, apply, message);
    return rk_message_make_ready(machine, apply, message);
}

enum rk_status rk_message_due(struct rk_machine *machine, struct rk_apply *apply,
                              struct rk_object *object)
{
    struct rk_message *message = RK_CONTAINER(object, struct rk_message, object);
    struct rk_topic *topic = message->topic;
    enum rk_status status = rk_object_touch(machine, &topic->object);
    if (status == RK_OK) status = rk_object_touch(machine, object);
    if (status != RK_OK) return status;
    if (rk_message_is_purged(message)) return rk_message_remove(machine, apply, message);
    if (message->state == RK_MESSAGE_IN_FLIGHT)
        return visibility_over(machine, apply, message);
    if (message->state == RK_MESSAGE_DELAYED && !rk_message_is_expired(message, apply->now))
        return rk_message_make_ready(machine, apply, message);
    topic->expired++;
    return rk_message_remove(machine, apply, message);
}
