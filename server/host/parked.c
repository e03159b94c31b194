#include "host/host_internal.h"

/* Consumes that wait stand here, at the leader, and cost the log nothing: one is proposed
 * when its topic has a message for it. */

enum { IDLE_TOPICS_MAX = 1024 };

static struct rk_topic *topic_find(const struct rk_group *group, struct rk_slice name)
{
    struct rk_map_node *node = rk_map_find(&group->topics, name);
    return node == NULL ? NULL : RK_CONTAINER(node, struct rk_topic, node);
}

static struct rk_topic *topic_make(struct rk_group *group, struct rk_slice name)
{
    struct rk_topic *topic = topic_find(group, name);
    if (topic != NULL) return topic;
    topic = rk_calloc(1, sizeof(*topic) + name.size + 1);
    if (topic == NULL) return NULL;
    memcpy(topic->name, name.data, name.size);
    topic->node.key = rk_slice_of(topic->name, name.size);
    rk_list_init(&topic->woken);
    rk_list_init(&topic->parked);
    if (rk_map_insert(&group->topics, &topic->node) == RK_OK) return topic;
    rk_free(topic);
    return NULL;
}

static void topic_release(struct rk_group *group, struct rk_topic *topic)
{
    if (topic->in_log > 0 || !rk_list_is_empty(&topic->parked) ||
        group->topics.count <= IDLE_TOPICS_MAX)
        return;
    rk_list_remove(&topic->woken);
    rk_map_remove(&group->topics, &topic->node);
    rk_free(topic);
}

void rk_group_topics_free(struct rk_group *group)
{
    struct rk_map_cursor cursor;
    rk_map_each (node, &group->topics, &cursor)
        rk_free(RK_CONTAINER(node, struct rk_topic, node));
}

bool rk_call_may_repeat(const struct rk_call *call)
{
    return call->may_repeat || (call->origin == NULL && call->lane == NULL) ||
           call->sends > 0;
}

static void into_log(struct rk_call *call, struct rk_topic *topic)
{
    topic->in_log++;
    call->topic = topic;
    call->in_log = true;
    call->was_asked = true;
    rk_call_propose(call);
}

static void park(struct rk_call *call, struct rk_topic *topic)
{
    call->topic = topic;
    call->state = RK_CALL_PARKED;
    rk_list_remove(&call->link);
    rk_list_push_back(&topic->parked, &call->link);
    topic->parked_count++;
    rk_call_wake_at(call,
                    call->wait_ms < call->deadline_ms ? call->wait_ms : call->deadline_ms);
}

static uint64_t ready_for(const struct rk_group *group, const struct rk_topic *topic)
{
    uint64_t ready = rk_machine_ready_count(group->machine, topic->node.key);
    return ready > topic->in_log ? ready - topic->in_log : 0;
}

void rk_call_consume(struct rk_call *call, const struct rk_request *request)
{
    struct rk_group *group = call->group;
    struct rk_topic *topic = topic_make(group, request->topic);
    bool waits = call->wait_ms > rk_host_now(group->host);
    if (topic == NULL) {
        rk_call_fail(call, RK_ENOMEM, "out of memory");
        return;
    }
    /* A repeat may have an answer already: only the log knows. */
    if (!call->was_asked && rk_call_may_repeat(call)) {
        into_log(call, topic);
    } else if (rk_list_is_empty(&topic->parked) && ready_for(group, topic) > 0) {
        into_log(call, topic);
    } else if (waits) {
        park(call, topic);
    } else if (call->is_probe ||
               rk_machine_ready_count(group->machine, topic->node.key) > 0) {
        into_log(call, topic);
    } else {
        /* Probably nothing there: that is a read. */
        call->is_probe = true;
        rk_call_read(call);
    }
}

void rk_call_consume_probed(struct rk_call *call)
{
    struct rk_group *group = call->group;
    struct rk_request request;
    struct rk_reply reply;
    enum rk_status status =
        rk_request_decode(&request, rk_buf_slice(&call->request), &group->host->arena);
    if (status != RK_OK) {
        rk_call_fail(call, status, "request can not be read again");
    } else if (rk_machine_ready_count(group->machine, request.topic) > 0) {
        rk_call_route(call); /* is_probe stays: next time it goes into the log */
    } else {
        rk_host_reply_init(&reply, RK_OP_QUEUE_CONSUME);
        reply.is_bulk = call->is_bulk;
        rk_call_answer(call, &reply);
    }
}

void rk_call_unpark(struct rk_call *call)
{
    struct rk_topic *topic = call->topic;
    if (call->state != RK_CALL_PARKED) return;
    call->state = RK_CALL_ROUTING;
    call->topic = NULL;
    rk_list_remove(&call->link);
    topic->parked_count--;
    rk_call_wake_at(call, call->deadline_ms);
    topic_release(call->group, topic);
}

static void wake(struct rk_group *group, struct rk_topic *topic)
{
    if (rk_list_is_empty(&topic->parked) || rk_list_is_linked(&topic->woken)) return;
    rk_list_push_back(&group->woken, &topic->woken);
}

void rk_call_consumed(struct rk_call *call)
{
    struct rk_topic *topic = call->topic;
    if (!call->in_log) return;
    call->in_log = false;
    call->topic = NULL;
    topic->in_log--;
    wake(call->group, topic);
    topic_release(call->group, topic);
}

void rk_group_topic_ready(struct rk_group *group, struct rk_slice name)
{
    if (group->topics.count == 0) return;
    struct rk_topic *topic = topic_find(group, name);
    if (topic != NULL) wake(group, topic);
}

void rk_group_topics_wake(struct rk_group *group)
{
    while (!rk_list_is_empty(&group->woken)) {
        struct rk_topic *topic = RK_CONTAINER(group->woken.next, struct rk_topic, woken);
        rk_list_remove(&topic->woken);
        while (group->is_serving && !rk_list_is_empty(&topic->parked) &&
               ready_for(group, topic) > 0) {
            struct rk_call *call = RK_CONTAINER(topic->parked.next, struct rk_call, link);
            topic->parked_count--;
            rk_call_wake_at(call, call->deadline_ms);
            into_log(call, topic);
        }
    }
    if (group->batch_calls > 0) rk_group_propose(group);
}
