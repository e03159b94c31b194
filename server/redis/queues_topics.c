/* Topics as this node knows them, the names of their keys, and the store's tick. */
#include "redis/queues_internal.h"

enum { SWEEP_MS = 1000 };

/* --- topics ------------------------------------------------------------------------ */

static struct rk_store_topic *topic_of_key(struct rk_queue_store *queues,
                                           struct rk_slice key)
{
    struct rk_map_node *node = rk_map_find(&queues->topics, key);
    return node != NULL ? RK_CONTAINER(node, struct rk_store_topic, node) : NULL;
}

struct rk_slice rk_topic_tag(struct rk_slice name)
{
    const uint8_t *open = name.size == 0 ? NULL : memchr(name.data, '{', name.size);
    if (open == NULL) return RK_SLICE_EMPTY;
    size_t rest = name.size - (size_t)(open - name.data) - 1;
    const uint8_t *close = rest == 0 ? NULL : memchr(open + 1, '}', rest);
    if (close == NULL) return RK_SLICE_EMPTY;
    return rk_slice_of(open + 1, (size_t)(close - open) - 1);
}

void rk_topic_key(struct rk_buf *out, const char *prefix, const char *area,
                  struct rk_slice name)
{
    struct rk_slice base = rk_topic_base(name);
    struct rk_slice tag = rk_topic_tag(base);
    rk_buf_printf(out, "%s%s{", prefix, area);
    rk_store_escape(out, tag.size != 0 ? tag : base);
    rk_buf_append_string(out, "}");
    if (tag.size != 0) rk_store_escape(out, base);
    for (size_t size = base.size; size < name.size; size += RK_TOPIC_DEAD_SUFFIX.size)
        rk_buf_append_string(out, ":dead");
}

static struct rk_store_topic *topic_new(struct rk_store *store, struct rk_slice name,
                                        struct rk_slice key)
{
    struct rk_slice area = RK_SLICE_LITERAL("q:");
    struct rk_slice flight = RK_SLICE_LITERAL("q:inflight:");
    struct rk_slice none = RK_TOPIC_NONE_SUFFIX;
    size_t size = name.size + 2 * key.size + none.size + flight.size - area.size;
    struct rk_store_topic *topic = rk_calloc(1, sizeof(*topic) + size);
    if (topic == NULL) return NULL;
    uint8_t *at = topic->bytes;
    memcpy(at, name.data, name.size);
    topic->name = rk_slice_of(at, name.size);
    at += name.size;
    memcpy(at, key.data, key.size);
    memcpy(at + key.size, none.data, none.size);
    topic->key = rk_slice_of(at, key.size);
    topic->none = rk_slice_of(at, key.size + none.size);
    at += topic->none.size;
    size_t rest = store->prefix_size + area.size;
    memcpy(at, key.data, store->prefix_size);
    memcpy(at + store->prefix_size, flight.data, flight.size);
    memcpy(at + store->prefix_size + flight.size, key.data + rest, key.size - rest);
    topic->flight = rk_slice_of(at, key.size + flight.size - area.size);
    topic->is_dead = rk_topic_base(name).size != name.size;
    topic->slot = (uint16_t)rk_slot_of_topic(name);
    rk_list_init(&topic->parked);
    topic->node.key = topic->key;
    if (rk_map_insert(&store->queues->topics, &topic->node) == RK_OK) return topic;
    rk_free(topic);
    return NULL;
}

struct rk_store_topic *rk_topic_make(struct rk_store *store, struct rk_slice name)
{
    rk_buf_reset(&store->scratch);
    rk_topic_key(&store->scratch, store->prefix, "q:", name);
    if (rk_buf_check(&store->scratch) != RK_OK) return NULL;
    struct rk_slice key = rk_buf_slice(&store->scratch);
    struct rk_store_topic *topic = topic_of_key(store->queues, key);
    return topic != NULL ? topic : topic_new(store, name, key);
}

static void topic_free(struct rk_queue_store *queues, struct rk_store_topic *topic)
{
    if (topic->number != 0) rk_map_remove(&queues->numbers, &topic->number_node);
    rk_heap_remove(&queues->looks, &topic->look_node);
    rk_map_remove(&queues->topics, &topic->node);
    rk_free(topic);
}

static void topic_release(struct rk_ask *call)
{
    struct rk_store_topic *topic = call->topic;
    struct rk_queue_store *queues = call->store->queues;
    call->topic = NULL;
    if (topic == NULL || --topic->holds != 0) return;
    if (queues->topics.count > RK_STORE_TOPICS_KNOWN) topic_free(queues, topic);
}

struct rk_store_topic *rk_topic_hold(struct rk_ask *call, struct rk_slice name)
{
    struct rk_store_topic *topic = rk_topic_make(call->store, name);
    if (topic == NULL || topic == call->topic) return topic;
    topic_release(call);
    topic->holds++;
    call->topic = topic;
    return topic;
}

struct rk_store_topic *rk_topic_of_number(struct rk_store *store, uint64_t number)
{
    uint8_t key[8];
    rk_put_u64(key, number);
    struct rk_map_node *node =
        rk_map_find(&store->queues->numbers, rk_slice_of(key, sizeof(key)));
    return node != NULL ? RK_CONTAINER(node, struct rk_store_topic, number_node) : NULL;
}

void rk_topic_numbered(struct rk_store *store, struct rk_store_topic *topic,
                       uint64_t number)
{
    if (topic->number == number) return;
    struct rk_map *numbers = &store->queues->numbers;
    struct rk_store_topic *other = rk_topic_of_number(store, number);
    if (topic->number != 0) rk_map_remove(numbers, &topic->number_node);
    topic->number = 0;
    if (number == 0) return;
    if (other != NULL) rk_topic_numbered(store, other, 0); /* it was, before a loss */
    rk_put_u64(topic->number_key, number);
    topic->number_node.key = rk_slice_of(topic->number_key, sizeof(topic->number_key));
    /* Without it the number is asked for again. */
    if (rk_map_insert(numbers, &topic->number_node) == RK_OK) topic->number = number;
}

void rk_queues_waited(struct rk_ask *call)
{
    if (call->is_looking) rk_topic_looked(call);
    if (rk_list_is_linked(&call->parked)) rk_consume_park_end(call);
}

void rk_queues_left(struct rk_ask *call)
{
    rk_queues_waited(call);
    topic_release(call);
}

/* --- the store's -------------------------------------------------------------------------
 */

static bool looks_before(const struct rk_heap_node *a, const struct rk_heap_node *b)
{
    return RK_CONTAINER_CONST(a, struct rk_store_topic, look_node)->look_ms <
           RK_CONTAINER_CONST(b, struct rk_store_topic, look_node)->look_ms;
}

static void on_wake(void *context, struct rk_slice payload)
{
    struct rk_store *store = context;
    struct rk_store_topic *topic = topic_of_key(store->queues, payload);
    if (topic != NULL) rk_topic_woken(store, topic);
}

/* What was said while the subscription was lost is made up for. */
static void on_wake_state(void *context, bool is_up)
{
    struct rk_store *store = context;
    struct rk_map_cursor cursor;
    if (!is_up) return;
    rk_map_each (node, &store->queues->topics, &cursor)
        rk_topic_look_by(store, RK_CONTAINER(node, struct rk_store_topic, node),
                         rk_store_now());
}

static enum rk_status keys_make(struct rk_store *store)
{
    struct rk_queue_store *queues = store->queues;
    static const char *const ends[] = {"q:wake", "{q:topics}", "{q:topics}:numbers",
                                       "{q:topics}:names"};
    size_t at[5] = {0};
    for (int i = 0; i < 4; i++) {
        rk_buf_printf(&queues->keys, "%s%s", store->prefix, ends[i]);
        rk_buf_u8(&queues->keys, 0);
        at[i + 1] = queues->keys.size;
    }
    enum rk_status status = rk_buf_check(&queues->keys);
    if (status != RK_OK) return status;
    for (int i = 0; i < 3; i++)
        queues->topics_keys[i] =
            rk_slice_of(queues->keys.data + at[i + 1], at[i + 2] - at[i + 1] - 1);
    queues->channel = rk_slice_of(queues->keys.data, at[1] - 1);
    return RK_OK;
}

enum rk_status rk_queues_open(struct rk_store *store)
{
    struct rk_queue_store *queues = rk_calloc(1, sizeof(*queues));
    if (queues == NULL) return RK_ENOMEM;
    store->queues = queues;
    rk_map_init(&queues->topics);
    rk_map_init(&queues->numbers);
    rk_heap_init(&queues->looks, looks_before);
    rk_buf_init(&queues->keys);
    rk_buf_init(&queues->sweep_after);
    enum rk_status status = keys_make(store);
    if (status != RK_OK) return status;
    queues->wake =
        (struct rk_redis_subscription){.channel = (const char *)queues->keys.data,
                                       .context = store,
                                       .message = on_wake,
                                       .state = on_wake_state};
    return rk_redis_subscribe(store->redis, &queues->wake);
}

void rk_queues_close(struct rk_store *store)
{
    struct rk_queue_store *queues = store->queues;
    rk_redis_unsubscribe(store->redis, &queues->wake);
    for (;;) {
        struct rk_map_cursor cursor;
        struct rk_map_node *node = rk_map_first(&queues->topics, &cursor);
        if (node == NULL) break;
        topic_free(queues, RK_CONTAINER(node, struct rk_store_topic, node));
    }
    rk_map_fini(&queues->topics);
    rk_map_fini(&queues->numbers);
    rk_heap_fini(&queues->looks);
    rk_buf_fini(&queues->keys);
    rk_buf_fini(&queues->sweep_after);
    rk_free(queues);
    store->queues = NULL;
}

void rk_queues_forget(struct rk_store *store)
{
    struct rk_map_cursor cursor;
    rk_map_each (node, &store->queues->topics, &cursor) {
        struct rk_store_topic *topic = RK_CONTAINER(node, struct rk_store_topic, node);
        if (topic->number == 0) continue;
        rk_map_remove(&store->queues->numbers, &topic->number_node);
        topic->number = 0;
    }
}

uint64_t rk_queues_tick(struct rk_store *store, uint64_t now)
{
    struct rk_queue_store *queues = store->queues;
    uint64_t next_ms = UINT64_MAX;
    for (;;) {
        struct rk_heap_node *top = rk_heap_top(&queues->looks);
        if (top == NULL) break;
        struct rk_store_topic *topic = RK_CONTAINER(top, struct rk_store_topic, look_node);
        next_ms = topic->look_ms;
        if (next_ms > now) break;
        rk_heap_remove(&queues->looks, top);
        rk_topic_woken(store, topic);
    }
    if (now >= queues->sweep_ms && queues->sweeps == 0) {
        queues->sweep_ms = now + SWEEP_MS;
        rk_sweep(store, now);
    }
    return next_ms;
}
