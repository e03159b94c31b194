#include "base/slot.h"
#include "state/queues.h"

static enum rk_status refuse_unknown(struct rk_apply *apply)
{
    return rk_refuse(apply->reply, RK_ENOENT, "topic", "there is no such topic");
}

/* The topic of the request, entered if it is new. *out is NULL when that was refused. */
static enum rk_status topic_ensure(struct rk_machine *machine, struct rk_apply *apply,
                                   struct rk_topic **out)
{
    *out = rk_topic_find(machine, apply->request->topic);
    if (*out != NULL) return rk_object_touch(machine, &(*out)->object);
    if (apply->request->topic.size == 0) return refuse_unknown(apply);
    if (machine->queues->topics.count >= RK_TOPICS_MAX)
        return rk_refuse(apply->reply, RK_ELIMIT, "topic", "%d topics exist already",
                         RK_TOPICS_MAX);
    return rk_topic_enter(machine, apply->request->topic, 0, out);
}

static void set_if(bool is_given, uint64_t *setting, uint64_t value)
{
    if (is_given) *setting = value;
}

enum rk_status rk_queue_configure(struct rk_machine *machine, struct rk_apply *apply)
{
    const struct rk_request *request = apply->request;
    struct rk_topic *topic;
    enum rk_status status = topic_ensure(machine, apply, &topic);
    if (status != RK_OK || topic == NULL) return status;
    struct rk_topic_settings next = topic->settings;
    set_if(RK_HAS(request, VISIBILITY_MS), &next.visibility_ms, request->visibility_ms);
    set_if(RK_HAS(request, DELIVERIES_MAX), &next.deliveries_max, request->deliveries_max);
    set_if(RK_HAS(request, RETRY_MS), &next.retry_ms, request->retry_ms);
    set_if(RK_HAS(request, RETRY_MAX_MS), &next.retry_max_ms, request->retry_max_ms);
    set_if(RK_HAS(request, DEDUP_MS), &next.dedup_ms, request->dedup_ms);
    set_if(RK_HAS(request, TTL_MS), &next.ttl_ms, request->ttl_ms);
    set_if(RK_HAS(request, MESSAGES_MAX), &next.messages_max, request->messages_max);
    set_if(RK_HAS(request, BYTES_MAX), &next.bytes_max, request->bytes_max);
    if (topic->is_dead) next.deliveries_max = 0;
    if (next.retry_max_ms < next.retry_ms)
        return rk_refuse(apply->reply, RK_ERANGE, "retry_max_ms",
                         "retry_max_ms %llu is below retry_ms %llu",
                         (unsigned long long)next.retry_max_ms,
                         (unsigned long long)next.retry_ms);
    topic->settings = next;
    apply->reply->ok = true;
    return RK_OK;
}

enum rk_status rk_queue_pause(struct rk_machine *machine, struct rk_apply *apply)
{
    struct rk_topic *topic;
    enum rk_status status = topic_ensure(machine, apply, &topic);
    if (status != RK_OK || topic == NULL) return status;
    topic->is_paused = true;
    apply->reply->ok = true;
    return RK_OK;
}

enum rk_status rk_queue_resume(struct rk_machine *machine, struct rk_apply *apply)
{
    struct rk_topic *topic = rk_topic_find(machine, apply->request->topic);
    if (topic == NULL) return refuse_unknown(apply);
    enum rk_status status = rk_object_touch(machine, &topic->object);
    if (status != RK_OK) return status;
    topic->is_paused = false;
    rk_topic_tell_ready(apply, topic);
    apply->reply->ok = true;
    return RK_OK;
}

/* In flight ones too: what their holders say later finds them gone. */
enum rk_status rk_queue_purge(struct rk_machine *machine, struct rk_apply *apply)
{
    struct rk_topic *topic = rk_topic_find(machine, apply->request->topic);
    if (topic == NULL) return refuse_unknown(apply);
    apply->reply->ok = true;
    if (apply->request->dead && !topic->is_dead) topic = rk_topic_dead(machine, topic);
    if (topic == NULL) return RK_OK;
    enum rk_status status = rk_object_touch(machine, &topic->object);
    if (status != RK_OK) return status;
    apply->reply->count = topic->message_count;
    rk_topic_purge(topic);
    return rk_topic_sweep(machine, apply, topic);
}

static enum rk_status revive(struct rk_machine *machine, struct rk_apply *apply,
                             struct rk_message *message, struct rk_topic *to)
{
    enum rk_status status = rk_object_touch(machine, &message->object);
    if (status == RK_OK) status = rk_message_detach(apply, message);
    if (status != RK_OK) return status;
    message->deliveries = 0;
    message->failures = 0;
    message->is_settled = true;
    message->order = ++to->order;
    message->expires_at = to->settings.ttl_ms != 0 ? apply->now + to->settings.ttl_ms : 0;
    if (message->expires_at != 0)
        rk_timer_start_at(machine, &message->object, message->expires_at);
    else
        rk_timer_stop(machine, &message->object);
    message->state = RK_MESSAGE_READY;
    return rk_message_attach(apply, message, to);
}

static bool is_full(const struct rk_topic *topic, const struct rk_message *message)
{
    const struct rk_topic_settings *settings = &topic->settings;
    return (settings->messages_max != 0 &&
            topic->message_count >= settings->messages_max) ||
           (settings->bytes_max != 0 &&
            topic->bytes + message->object.bytes > settings->bytes_max);
}

/* Oldest first, as far as the target has room. Those in flight stay with who reads the
 * dead letters. */
static enum rk_status redrive(struct rk_machine *machine, struct rk_apply *apply,
                              struct rk_topic *from, struct rk_topic *to)
{
    uint64_t limit = apply->request->limit != 0 ? apply->request->limit : RK_BATCH_MAX;
    enum rk_status status = rk_object_touch(machine, &from->object);
    if (status == RK_OK) status = rk_object_touch(machine, &to->object);
    if (status != RK_OK) return status;
    rk_list_each_safe (link, &from->messages) {
        struct rk_message *message = RK_CONTAINER(link, struct rk_message, topic_link);
        if (apply->reply->count >= limit || is_full(to, message)) break;
        if (message->state == RK_MESSAGE_IN_FLIGHT) continue;
        status = revive(machine, apply, message, to);
        if (status != RK_OK) return status;
        apply->reply->count++;
    }
    return RK_OK;
}

enum rk_status rk_queue_redrive(struct rk_machine *machine, struct rk_apply *apply)
{
    const struct rk_request *request = apply->request;
    struct rk_slice base = rk_topic_base(request->topic);
    struct rk_slice to_name = request->to.size != 0 ? request->to : base;
    if (rk_slot_of_topic(to_name) != rk_slot_of_topic(base))
        return rk_refuse(apply->reply, RK_ERANGE, "to",
                         "dead letters go to topics of the same {tag} only");
    if (rk_topic_base(to_name).size != to_name.size)
        return rk_refuse(apply->reply, RK_ERANGE, "to",
                         "dead letters cannot go to dead letters");
    struct rk_topic *from = rk_topic_find(machine, request->topic);
    if (from != NULL && !from->is_dead) from = rk_topic_dead(machine, from);
    if (from == NULL && rk_topic_find(machine, base) == NULL) return refuse_unknown(apply);
    apply->reply->ok = true;
    if (from == NULL) return RK_OK;

    struct rk_topic *to = rk_topic_find(machine, to_name);
    if (to == NULL) {
        if (machine->queues->topics.count >= RK_TOPICS_MAX)
            return rk_refuse(apply->reply, RK_ELIMIT, "to", "%d topics exist already",
                             RK_TOPICS_MAX);
        enum rk_status status = rk_topic_enter(machine, to_name, 0, &to);
        if (status != RK_OK) return status;
    }
    return redrive(machine, apply, from, to);
}
