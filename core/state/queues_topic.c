#include "base/alloc.h"
#include "base/assert.h"
#include "base/slot.h"
#include "state/queues.h"

static struct rk_message *message_of_ready_link(struct rk_list *link)
{
    return RK_CONTAINER(link, struct rk_message, ready_link);
}

static struct rk_message *message_of_ready_node(struct rk_heap_node *node)
{
    return RK_CONTAINER(node, struct rk_message, ready_node);
}

static struct rk_message *message_of_group_link(struct rk_list *link)
{
    return RK_CONTAINER(link, struct rk_message, group_link);
}

static bool is_before(const struct rk_message *a, const struct rk_message *b)
{
    if (a->priority != b->priority) return a->priority > b->priority;
    return a->order < b->order;
}

static bool heap_before(const struct rk_heap_node *a, const struct rk_heap_node *b)
{
    const char *left = (const char *)a - offsetof(struct rk_message, ready_node);
    const char *right = (const char *)b - offsetof(struct rk_message, ready_node);
    return is_before((const void *)left, (const void *)right);
}

struct rk_topic *rk_topic_find(const struct rk_machine *machine, struct rk_slice name)
{
    struct rk_map_node *node = rk_map_find(&machine->queues->topics, name);
    return node != NULL ? RK_CONTAINER(node, struct rk_topic, node) : NULL;
}

static void topic_init(struct rk_topic *topic, struct rk_slice name)
{
    memcpy(topic->name, name.data, name.size);
    topic->name_size = name.size;
    topic->node.key = topic->name_node.name = rk_topic_name(topic);
    topic->is_dead = rk_topic_base(name).size != name.size;
    topic->slot = (uint16_t)rk_slot_of_topic(name);
    topic->settings = (struct rk_topic_settings){
        .visibility_ms = RK_TOPIC_VISIBILITY_MS,
        .deliveries_max = topic->is_dead ? 0 : RK_TOPIC_DELIVERIES_MAX,
        .retry_ms = RK_TOPIC_RETRY_MS,
        .retry_max_ms = RK_TOPIC_RETRY_MAX_MS,
        .dedup_ms = RK_TOPIC_DEDUP_MS,
    };
    rk_list_init(&topic->messages);
    rk_list_init(&topic->purged);
    rk_map_init(&topic->groups);
    rk_heap_init(&topic->returned, heap_before);
    for (int i = 0; i < RK_PRIORITY_COUNT; i++)
        rk_list_init(&topic->fifo[i]);
}

enum rk_status rk_topic_enter(struct rk_machine *machine, struct rk_slice name, uint64_t id,
                              struct rk_topic **out)
{
    struct rk_topic *topic = rk_calloc(1, sizeof(*topic) + name.size);
    if (topic == NULL) return RK_ENOMEM;
    topic_init(topic, name);
    enum rk_status status = rk_map_insert(&machine->queues->topics, &topic->node);
    if (status == RK_OK) {
        status = rk_object_enter(machine, &topic->object, RK_OBJECT_TOPIC, id);
        if (status != RK_OK) rk_map_remove(&machine->queues->topics, &topic->node);
    }
    if (status != RK_OK) {
        rk_free(topic);
        return status == RK_EEXIST ? RK_EPROTO : status;
    }
    rk_names_insert(&machine->queues->names, &topic->name_node);
    rk_object_count(machine, &topic->object, (uint32_t)(RK_TOPIC_BYTES + name.size));
    *out = topic;
    return RK_OK;
}

struct rk_topic *rk_topic_dead(const struct rk_machine *machine,
                               const struct rk_topic *topic)
{
    if (topic->is_dead) return NULL;
    struct rk_slice suffix = RK_TOPIC_DEAD_SUFFIX;
    uint8_t name[2 * RK_NAME_MAX];
    RK_ASSERT(topic->name_size + suffix.size <= sizeof(name));
    memcpy(name, topic->name, topic->name_size);
    memcpy(name + topic->name_size, suffix.data, suffix.size);
    return rk_topic_find(machine, rk_slice_of(name, topic->name_size + suffix.size));
}

uint32_t rk_message_cost(size_t data_size, size_t headers_size, size_t group_size)
{
    size_t size = data_size + headers_size + group_size;
    return (uint32_t)(RK_MESSAGE_BYTES + (size + 15) / 16 * 16);
}

void rk_topic_tell_ready(struct rk_apply *apply, struct rk_topic *topic)
{
    if (apply == NULL || topic->is_paused || topic->poppable == 0) return;
    if (topic->event_index == apply->index) return;
    topic->event_index = apply->index;
    struct rk_event event = {.kind = RK_EVENT_TOPIC_READY, .topic = rk_topic_name(topic)};
    rk_event_emit(apply, &event);
}

struct rk_message *rk_message_first_ready(const struct rk_topic *topic)
{
    struct rk_heap_node *top = rk_heap_top(&topic->returned);
    struct rk_message *best = top != NULL ? message_of_ready_node(top) : NULL;
    for (int priority = RK_PRIORITY_COUNT - 1; priority >= 0; priority--) {
        struct rk_list *link = rk_list_first(&topic->fifo[priority]);
        if (link == NULL) continue;
        struct rk_message *message = message_of_ready_link(link);
        return best == NULL || is_before(message, best) ? message : best;
    }
    return best;
}

static bool is_in_ready(const struct rk_message *message)
{
    return rk_list_is_linked(&message->ready_link) || rk_heap_has(&message->ready_node);
}

/* At either end of its priority's list where publish order allows, else into the heap. */
static enum rk_status ready_insert(struct rk_apply *apply, struct rk_message *message)
{
    RK_ASSERT(!is_in_ready(message));
    struct rk_topic *topic = message->topic;
    struct rk_list *fifo = &topic->fifo[message->priority];
    if (rk_list_is_empty(fifo) ||
        message_of_ready_link(fifo->prev)->order < message->order) {
        rk_list_push_back(fifo, &message->ready_link);
    } else if (message->order < message_of_ready_link(fifo->next)->order) {
        rk_list_push_front(fifo, &message->ready_link);
    } else {
        enum rk_status status = rk_heap_push(&topic->returned, &message->ready_node);
        if (status != RK_OK) return status;
    }
    topic->poppable++;
    rk_topic_tell_ready(apply, topic);
    return RK_OK;
}

static void ready_remove(struct rk_message *message)
{
    if (!is_in_ready(message)) return;
    rk_list_remove(&message->ready_link);
    rk_heap_remove(&message->topic->returned, &message->ready_node);
    message->topic->poppable--;
}

static bool is_poppable(const struct rk_message *message)
{
    return message->state == RK_MESSAGE_READY && !rk_message_is_purged(message) &&
           (message->group == NULL ||
            message->group->messages.next == &message->group_link);
}

static enum rk_status group_of(struct rk_topic *topic, struct rk_slice key,
                               struct rk_order_group **out)
{
    struct rk_map_node *node = rk_map_find(&topic->groups, key);
    if (node != NULL) {
        *out = RK_CONTAINER(node, struct rk_order_group, node);
        return RK_OK;
    }
    struct rk_order_group *group = rk_calloc(1, sizeof(*group) + key.size);
    if (group == NULL) return RK_ENOMEM;
    memcpy(group->key, key.data, key.size);
    group->key_size = key.size;
    group->node.key = rk_slice_of(group->key, key.size);
    rk_list_init(&group->messages);
    enum rk_status status = rk_map_insert(&topic->groups, &group->node);
    if (status != RK_OK) {
        rk_free(group);
        return status;
    }
    *out = group;
    return RK_OK;
}

enum rk_status rk_message_attach(struct rk_apply *apply, struct rk_message *message,
                                 struct rk_topic *topic)
{
    message->topic = topic;
    message->topic_id = topic->object.id;
    struct rk_slice key = rk_message_group(message);
    if (key.size != 0) {
        enum rk_status status = group_of(topic, key, &message->group);
        if (status != RK_OK) return status;
        rk_list_push_back(&message->group->messages, &message->group_link);
    }
    if (rk_message_is_purged(message)) {
        rk_list_push_back(&topic->purged, &message->topic_link);
        return RK_OK;
    }
    rk_list_push_back(&topic->messages, &message->topic_link);
    topic->message_count++;
    topic->bytes += message->object.bytes;
    topic->state_counts[message->state]++;
    return is_poppable(message) ? ready_insert(apply, message) : RK_OK;
}

enum rk_status rk_message_detach(struct rk_apply *apply, struct rk_message *message)
{
    struct rk_topic *topic = message->topic;
    struct rk_order_group *group = message->group;
    rk_list_remove(&message->topic_link);
    if (!rk_message_is_purged(message)) {
        ready_remove(message);
        topic->message_count--;
        topic->bytes -= message->object.bytes;
        topic->state_counts[message->state]--;
    }
    message->topic = NULL;
    message->group = NULL;
    if (group == NULL) return RK_OK;

    rk_list_remove(&message->group_link);
    struct rk_list *first = rk_list_first(&group->messages);
    if (first == NULL) {
        rk_map_remove(&topic->groups, &group->node);
        rk_free(group);
        return RK_OK;
    }
    struct rk_message *next = message_of_group_link(first);
    if (!is_poppable(next) || is_in_ready(next)) return RK_OK;
    return ready_insert(apply, next);
}

enum rk_status rk_message_move(struct rk_apply *apply, struct rk_message *message,
                               enum rk_message_state state)
{
    ready_remove(message);
    message->topic->state_counts[message->state]--;
    message->state = (uint8_t)state;
    message->topic->state_counts[state]++;
    return is_poppable(message) ? ready_insert(apply, message) : RK_OK;
}

enum rk_status rk_message_remove(struct rk_machine *machine, struct rk_apply *apply,
                                 struct rk_message *message)
{
    enum rk_status status = rk_object_touch(machine, &message->object);
    if (status == RK_OK) status = rk_dedup_release(machine, message);
    if (status == RK_OK) status = rk_message_detach(apply, message);
    if (status != RK_OK) return status;
    rk_object_leave(machine, &message->object);
    rk_free(message);
    return RK_OK;
}

enum rk_status rk_message_make_ready(struct rk_machine *machine, struct rk_apply *apply,
                                     struct rk_message *message)
{
    if (message->expires_at != 0)
        rk_timer_start_at(machine, &message->object, message->expires_at);
    else
        rk_timer_stop(machine, &message->object);
    return rk_message_move(apply, message, RK_MESSAGE_READY);
}

/* The ready structures forget their members without looking at them: nobody asks a purged
 * message where it stands. */
void rk_topic_purge(struct rk_topic *topic)
{
    topic->purged_order = topic->order;
    if (!rk_list_is_empty(&topic->messages)) {
        struct rk_list *first = topic->messages.next;
        struct rk_list *last = topic->messages.prev;
        first->prev = topic->purged.prev;
        topic->purged.prev->next = first;
        last->next = &topic->purged;
        topic->purged.prev = last;
        rk_list_init(&topic->messages);
    }
    for (int i = 0; i < RK_PRIORITY_COUNT; i++)
        rk_list_init(&topic->fifo[i]);
    topic->returned.count = 0;
    topic->message_count = topic->bytes = topic->poppable = 0;
    memset(topic->state_counts, 0, sizeof(topic->state_counts));
}

enum rk_status rk_topic_sweep(struct rk_machine *machine, struct rk_apply *apply,
                              struct rk_topic *topic)
{
    for (int i = 0; i < RK_PURGE_SLICE; i++) {
        struct rk_list *link = rk_list_first(&topic->purged);
        if (link == NULL) return RK_OK;
        enum rk_status status = rk_message_remove(
            machine, apply, RK_CONTAINER(link, struct rk_message, topic_link));
        if (status != RK_OK) return status;
    }
    if (!rk_list_is_empty(&topic->purged))
        rk_timer_start(machine, &topic->object, apply->now, 0);
    return RK_OK;
}

enum rk_status rk_topic_due(struct rk_machine *machine, struct rk_apply *apply,
                            struct rk_object *object)
{
    return rk_topic_sweep(machine, apply, RK_CONTAINER(object, struct rk_topic, object));
}
