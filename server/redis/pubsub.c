/* The link that listens: all subscriptions of a deployment share one connection. */
#include "redis/redis_internal.h"

#include "base/assert.h"

static struct rk_redis_subscription *subscription_of(struct rk_list *link)
{
    return RK_CONTAINER(link, struct rk_redis_subscription, link);
}

/* Walks all subscriptions; any may go while their owners are told. */
static struct rk_redis_subscription *next_subscription(struct rk_redis *redis)
{
    struct rk_list *at = redis->subscription_next;
    if (at == NULL || at == &redis->subscriptions) {
        redis->subscription_next = NULL;
        return NULL;
    }
    redis->subscription_next = at->next;
    return subscription_of(at);
}

static void tell(struct rk_redis_subscription *subscription, bool is_up)
{
    if (subscription->is_up == is_up) return;
    subscription->is_up = is_up;
    if (subscription->state != NULL) subscription->state(subscription->context, is_up);
}

static bool ask(struct rk_redis_link *link, struct rk_redis_subscription *subscription)
{
    const char *const args[] = {"SUBSCRIBE", subscription->channel};
    if (!rk_redis_link_shout(link, 2, args)) return false;
    subscription->asked = ++link->asked;
    return true;
}

/* A Cluster's nodes pass messages on to each other: any live one will do. */
static bool aim(struct rk_redis_link *link)
{
    struct rk_redis *redis = link->redis;
    const struct rk_redis_link *target = NULL;
    if (rk_list_is_empty(&redis->subscriptions)) return false;
    for (uint32_t i = 0; i < redis->node_count; i++) {
        const struct rk_redis_link *node =
            redis->nodes[(link->epoch + i) % redis->node_count];
        bool is_better =
            target == NULL || (target->state != LINK_UP && node->state == LINK_UP);
        if (node->host[0] != '\0' && is_better) target = node;
    }
    if (target == NULL) return false;
    memcpy(link->host, target->host, sizeof(link->host));
    link->port = target->port;
    return true;
}

static void up(struct rk_redis_link *link)
{
    struct rk_redis *redis = link->redis;
    link->is_pushing = true;
    rk_list_each (at, &redis->subscriptions) {
        struct rk_redis_subscription *subscription = subscription_of(at);
        if (ask(link, subscription)) continue;
        rk_redis_link_fail(link, "out of memory");
        return;
    }
}

static void down(struct rk_redis_link *link, bool was_up)
{
    struct rk_redis *redis = link->redis;
    (void)was_up;
    RK_ASSERT(redis->subscription_next == NULL);
    redis->subscription_next = redis->subscriptions.next;
    struct rk_redis_subscription *subscription;
    while ((subscription = next_subscription(redis)) != NULL) {
        subscription->asked = 0;
        tell(subscription, false);
    }
}

static bool is_word(const struct redisReply *reply, const char *word)
{
    return rk_redis_is_text(reply) &&
           rk_slice_is_equal(rk_redis_text(reply), rk_slice_of_string(word));
}

static void push(struct rk_redis_link *link, const struct redisReply *reply)
{
    struct rk_redis *redis = link->redis;
    uint64_t epoch = link->epoch;
    if (reply->type == REDIS_REPLY_ERROR) {
        rk_redis_link_fail(link, "%.200s", reply->str);
        return;
    }
    if (reply->type != REDIS_REPLY_ARRAY || reply->elements < 3) return; /* PONG */
    bool is_message = is_word(reply->element[0], "message");
    if (!is_message && !is_word(reply->element[0], "subscribe")) return;
    if (!is_message) link->confirmed++;
    if (!rk_redis_is_text(reply->element[1])) return;
    if (is_message && !rk_redis_is_text(reply->element[2])) return;

    struct rk_slice channel = rk_redis_text(reply->element[1]);
    struct rk_redis_subscription *subscription;
    redis->subscription_next = redis->subscriptions.next;
    while (link->epoch == epoch && (subscription = next_subscription(redis)) != NULL) {
        if (!rk_slice_is_equal(channel, rk_slice_of_string(subscription->channel)))
            continue;
        if (!is_message && subscription->asked <= link->confirmed) {
            tell(subscription, true);
        } else if (is_message && subscription->is_up) {
            redis->stats.messages++;
            subscription->message(subscription->context, rk_redis_text(reply->element[2]));
        }
    }
    redis->subscription_next = NULL;
}

void rk_redis_pubsub_move(struct rk_redis *redis, const char *reason)
{
    struct rk_redis_link *link = redis->pubsub;
    if (link->state == LINK_OFF)
        rk_redis_link_start(link, 0);
    else if (link->state != LINK_RESTING)
        rk_redis_link_fail(link, "%s", reason);
}

static void reply(struct rk_redis_link *link, const struct redisReply *answer)
{
    (void)link;
    (void)answer; /* nothing is asked here in the deployment's name */
}

const struct link_role rk_redis_pubsub_role = {
    .name = "subscriptions at",
    .aim = aim,
    .up = up,
    .down = down,
    .reply = reply,
    .push = push,
};

enum rk_status rk_redis_subscribe(struct rk_redis *redis,
                                  struct rk_redis_subscription *subscription)
{
    if (rk_list_is_linked(&subscription->link)) return RK_EEXIST;
    if (redis->subscription_count == RK_REDIS_CHANNELS_MAX) return RK_ELIMIT;
    redis->subscription_count++;
    subscription->is_up = false;
    subscription->asked = 0;
    rk_list_push_back(&redis->subscriptions, &subscription->link);
    if (redis->pubsub->state == LINK_OFF) rk_redis_link_start(redis->pubsub, 0);
    if (redis->pubsub->state != LINK_UP || ask(redis->pubsub, subscription)) return RK_OK;
    rk_redis_unsubscribe(redis, subscription);
    return RK_ENOMEM;
}

void rk_redis_unsubscribe(struct rk_redis *redis,
                          struct rk_redis_subscription *subscription)
{
    if (!rk_list_is_linked(&subscription->link)) return;
    if (redis->subscription_next == &subscription->link)
        redis->subscription_next = subscription->link.next;
    rk_list_remove(&subscription->link);
    redis->subscription_count--;
    subscription->is_up = false;
    rk_list_each (at, &redis->subscriptions)
        if (strcmp(subscription_of(at)->channel, subscription->channel) == 0) return;
    /* Without memory it stays subscribed, and its messages find no listener. */
    if (redis->pubsub->state == LINK_UP)
        (void)rk_redis_link_shout(
            redis->pubsub, 2, (const char *const[]){"UNSUBSCRIBE", subscription->channel});
}
