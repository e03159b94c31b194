/* The guide of a Cluster: asks one of the nodes which master has which slots. */
#include "redis/redis_internal.h"

#include "base/assert.h"

#include <stdio.h>

enum {
    ASK_AGAIN_US = 100000,
    DOUBT_US = 2 * SECOND_US,     /* asked again so soon: the node may know old things */
    REFRESH_US = 30 * SECOND_US,  /* while all is well */
    UNCOVERED_US = SECOND_US / 2, /* while slots have no master */
};

/* The masters that are known, then the addresses of the URL. */
static bool aim(struct rk_redis_link *link)
{
    struct rk_redis *redis = link->redis;
    const struct rk_redis_url *url = redis->url;
    uint32_t at = redis->guide_at++ % (redis->node_count + url->address_count);
    if (at < redis->node_count) {
        memcpy(link->host, redis->nodes[at]->host, sizeof(link->host));
        link->port = redis->nodes[at]->port;
    } else {
        const struct rk_redis_address *address = &url->addresses[at - redis->node_count];
        (void)snprintf(link->host, sizeof(link->host), "%s", address->host);
        link->port = address->port;
    }
    return true;
}

static void say_slots(struct rk_redis_link *link)
{
    if (!rk_redis_link_say(link, CALL_GUIDE, 2, (const char *const[]){"CLUSTER", "SLOTS"}))
        rk_redis_link_fail(link, "out of memory");
}

static void up(struct rk_redis_link *link)
{
    say_slots(link);
}

static void down(struct rk_redis_link *link, bool was_up)
{
    (void)link; /* the next attempt goes to the next node */
    (void)was_up;
}

static struct rk_redis_link *find_node(struct rk_redis *redis, const char *host,
                                       uint16_t port)
{
    for (uint32_t i = 0; i < redis->node_count; i++)
        if (redis->nodes[i]->port == port && strcmp(redis->nodes[i]->host, host) == 0)
            return redis->nodes[i];
    return NULL;
}

struct rk_redis_link *rk_redis_cluster_node(struct rk_redis *redis, const char *host,
                                            uint16_t port)
{
    struct rk_redis_link *node = find_node(redis, host, port);
    if (node != NULL) return node;
    if (redis->node_count == RK_REDIS_NODES_MAX || strlen(host) > RK_REDIS_HOST_MAX)
        return NULL;
    node = rk_redis_link_new(redis, &rk_redis_master_role);
    if (node == NULL) return NULL;
    memcpy(node->host, host, strlen(host) + 1);
    node->port = port;
    redis->nodes[redis->node_count++] = node;
    rk_redis_link_start(node, 0);
    return node;
}

/* ---- the map ------------------------------------------------------------------------ */

/* [first slot, last slot, [host, port, ...], replicas ...] */
static bool read_range(const struct redisReply *range, const struct redisReply **master,
                       uint32_t *first, uint32_t *last)
{
    if (range->type != REDIS_REPLY_ARRAY || range->elements < 3) return false;
    const struct redisReply *from = range->element[0];
    const struct redisReply *to = range->element[1];
    *master = range->element[2];
    if (from->type != REDIS_REPLY_INTEGER || to->type != REDIS_REPLY_INTEGER) return false;
    if (from->integer < 0 || to->integer < from->integer || to->integer >= RK_REDIS_SLOTS)
        return false;
    if ((*master)->type != REDIS_REPLY_ARRAY || (*master)->elements < 2) return false;
    const struct redisReply *host = (*master)->element[0];
    const struct redisReply *port = (*master)->element[1];
    if (port->type != REDIS_REPLY_INTEGER || port->integer < 1 ||
        port->integer > UINT16_MAX)
        return false;
    if (host->type != REDIS_REPLY_NIL && !rk_redis_is_text(host)) return false;
    *first = (uint32_t)from->integer;
    *last = (uint32_t)to->integer;
    return true;
}

static void take_range(struct rk_redis_link *guide, const struct redisReply *master,
                       uint32_t first, uint32_t last)
{
    struct rk_redis *redis = guide->redis;
    struct rk_slice host = rk_redis_text(master->element[0]);
    char name[RK_REDIS_HOST_MAX + 1];
    /* "" or nil: the address that we reached it by. "?": it does not know itself. */
    if (host.size == 0 || rk_slice_is_equal(host, RK_SLICE_LITERAL("?")))
        host = rk_slice_of_string(guide->host);
    if (host.size >= sizeof(name)) return;
    memcpy(name, host.data, host.size);
    name[host.size] = '\0';
    struct rk_redis_link *node =
        rk_redis_cluster_node(redis, name, (uint16_t)master->element[1]->integer);
    if (node == NULL) return;
    node->is_listed = true;
    for (uint32_t slot = first; slot <= last; slot++)
        redis->slots[slot] = node;
}

/* It is no master any more. What was sent to it is still answered, perhaps. */
static void drop_node(struct rk_redis *redis, uint32_t at)
{
    struct rk_redis_link *node = redis->nodes[at];
    redis->node_count--;
    memmove(&redis->nodes[at], &redis->nodes[at + 1],
            (redis->node_count - at) * sizeof(redis->nodes[0]));
    redis->stats.failovers++;
    node->is_doomed = true;
    rk_list_push_back(&redis->leaving, &node->in_doomed);
    rk_redis_link_leave(node, "it is no longer a master of the Cluster");
}

/* What waits at one link may belong to another by now. */
static void reroute(struct rk_redis *redis, struct rk_redis_link *link)
{
    struct rk_list waiting;
    rk_list_init(&waiting);
    while (!rk_list_is_empty(&link->waiting)) {
        struct rk_list *first = rk_list_first(&link->waiting);
        rk_list_remove(first);
        rk_list_push_back(&waiting, first);
    }
    while (!rk_list_is_empty(&waiting)) {
        struct rk_redis_call *call =
            RK_CONTAINER(rk_list_first(&waiting), struct rk_redis_call, link_in);
        rk_redis_call_unlink(redis, call);
        call->is_asking = false;
        rk_redis_route(redis, call);
    }
}

/* A node that left the Cluster may live on, and no message reaches it any more. */
static void follow_messages(struct rk_redis *redis)
{
    struct rk_redis_link *pubsub = redis->pubsub;
    if (pubsub->state == LINK_OFF)
        rk_redis_link_start(pubsub, 0);
    else if (pubsub->state == LINK_UP && redis->node_count > 0 &&
             find_node(redis, pubsub->host, pubsub->port) == NULL)
        rk_redis_pubsub_move(redis, "it is no longer a master of the Cluster");
}

static void take_map(struct rk_redis_link *guide, const struct redisReply *map)
{
    struct rk_redis *redis = guide->redis;
    for (uint32_t i = 0; i < redis->node_count; i++)
        redis->nodes[i]->is_listed = false;
    memset(redis->slots, 0, RK_REDIS_SLOTS * sizeof(struct rk_redis_link *));
    for (size_t i = 0; i < map->elements; i++) {
        const struct redisReply *master;
        uint32_t first, last;
        if (read_range(map->element[i], &master, &first, &last))
            take_range(guide, master, first, last);
    }
    redis->is_covered = true;
    for (uint32_t slot = 0; slot < RK_REDIS_SLOTS && redis->is_covered; slot++)
        redis->is_covered = redis->slots[slot] != NULL;
    for (uint32_t i = redis->node_count; i > 0; i--)
        if (!redis->nodes[i - 1]->is_listed) drop_node(redis, i - 1);
    for (uint32_t i = 0; i < redis->node_count; i++)
        reroute(redis, redis->nodes[i]);
}

static void reply(struct rk_redis_link *link, const struct redisReply *answer)
{
    struct rk_redis *redis = link->redis;
    if (answer->type == REDIS_REPLY_ERROR) {
        enum rk_status status;
        /* No Cluster, or not for this user. */
        link->is_denied = rk_redis_judge(rk_redis_text(answer), &status) == RK_REDIS_ANSWER;
        rk_redis_link_fail(link, "%.200s", answer->str);
        return;
    }
    if (answer->type != REDIS_REPLY_ARRAY) {
        rk_redis_link_fail(link, "its map of the slots is none");
        return;
    }
    take_map(link, answer);
    redis->guided_us = rk_redis_now();
    redis->guide_due_us =
        redis->guided_us + (redis->is_covered ? REFRESH_US : UNCOVERED_US);
    rk_redis_wake_at(redis, &link->timer, redis->guided_us + ASK_AGAIN_US);
    follow_messages(redis);
    rk_redis_note_state(redis);
    rk_redis_note_facts(redis);
    rk_redis_drain_queue(redis);
}

static void push(struct rk_redis_link *link, const struct redisReply *answer)
{
    (void)link;
    (void)answer; /* it subscribes to nothing */
}

static void ask(struct rk_redis_link *link)
{
    if (rk_redis_now() - link->redis->guided_us >= DOUBT_US) {
        say_slots(link);
        return;
    }
    rk_redis_link_stop(link, "asking the next");
    rk_redis_link_start(link, 0);
}

const struct link_role rk_redis_cluster_role = {
    .name = "Cluster's map from",
    .ask_again_us = ASK_AGAIN_US,
    .aim = aim,
    .up = up,
    .down = down,
    .reply = reply,
    .push = push,
    .ask = ask,
};
