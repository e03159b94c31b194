/* The guide of a Sentinel group: asks the Sentinels in turn which server is the master, and
 * listens for +switch-master. What it says is checked against the server's own role. */
#include "redis/redis_internal.h"

#include "base/assert.h"

#include <stdio.h>
#include <stdlib.h>

enum { ASK_AGAIN_US = 250000 };

static bool aim(struct rk_redis_link *link)
{
    struct rk_redis *redis = link->redis;
    const struct rk_redis_url *url = redis->url;
    const struct rk_redis_address *address =
        &url->addresses[redis->guide_at++ % url->address_count];
    (void)snprintf(link->host, sizeof(link->host), "%s", address->host);
    link->port = address->port;
    return true;
}

/* Both in one write, so that no switch falls between the answer and the subscription. */
static void up(struct rk_redis_link *link)
{
    const char *master = link->redis->url->master;
    link->is_pushing = true;
    if (!rk_redis_link_say(
            link, CALL_GUIDE, 3,
            (const char *const[]){"SENTINEL", "get-master-addr-by-name", master}) ||
        !rk_redis_link_shout(link, 2, (const char *const[]){"SUBSCRIBE", "+switch-master"}))
        rk_redis_link_fail(link, "out of memory");
}

static void down(struct rk_redis_link *link, bool was_up)
{
    (void)link; /* the next attempt goes to the next Sentinel */
    (void)was_up;
}

static void take_master(struct rk_redis_link *guide, struct rk_slice host,
                        struct rk_slice port_text)
{
    struct rk_redis *redis = guide->redis;
    struct rk_redis_link *master = redis->nodes[0];
    char digits[8] = "";
    if (port_text.size < sizeof(digits) && port_text.size > 0)
        memcpy(digits, port_text.data, port_text.size);
    unsigned long port = strtoul(digits, NULL, 10);
    if (host.size == 0 || host.size > RK_REDIS_HOST_MAX || port == 0 || port > UINT16_MAX ||
        memchr(host.data, '\0', host.size) != NULL) {
        rk_redis_link_fail(guide, "it names no usable address of the master");
        return;
    }
    redis->guided_us = rk_redis_now();
    bool is_same = strlen(master->host) == host.size && master->port == port &&
                   memcmp(master->host, host.data, host.size) == 0;
    if (is_same) {
        /* Where a person must mend something, that link's own pauses hold. */
        if (!master->is_denied) rk_redis_link_start(master, ASK_AGAIN_US);
        return;
    }
    bool is_first = master->host[0] == '\0';
    if (!is_first) {
        redis->stats.failovers++;
        rk_redis_log(redis, RK_REDIS_WARN, "Sentinel names another master: %.*s:%lu",
                     (int)host.size, (const char *)host.data, port);
        rk_redis_link_stop(master, "another server became the master");
        rk_redis_note_state(redis);
    }
    memcpy(master->host, host.data, host.size);
    master->host[host.size] = '\0';
    master->port = (uint16_t)port;
    rk_redis_link_start(master, 0);
    rk_redis_pubsub_move(redis, "another server became the master");
}

static void reply(struct rk_redis_link *link, const struct redisReply *answer)
{
    if (answer->type == REDIS_REPLY_ERROR)
        rk_redis_link_fail(link, "%.200s", answer->str);
    else if (answer->type != REDIS_REPLY_ARRAY || answer->elements != 2 ||
             !rk_redis_is_text(answer->element[0]) || !rk_redis_is_text(answer->element[1]))
        rk_redis_link_fail(link, "it knows no master of the name %.100s",
                           link->redis->url->master);
    else
        take_master(link, rk_redis_text(answer->element[0]),
                    rk_redis_text(answer->element[1]));
}

/* "name old-host old-port host port" */
static void push(struct rk_redis_link *link, const struct redisReply *answer)
{
    if (answer->type == REDIS_REPLY_ERROR) {
        rk_redis_link_fail(link, "%.200s", answer->str);
        return;
    }
    if (answer->type != REDIS_REPLY_ARRAY || answer->elements != 3 ||
        !rk_redis_is_text(answer->element[0]) || !rk_redis_is_text(answer->element[2]) ||
        !rk_slice_is_equal(rk_redis_text(answer->element[0]), RK_SLICE_LITERAL("message")))
        return;
    struct rk_slice text = rk_redis_text(answer->element[2]);
    struct rk_slice words[5] = {{0}};
    size_t count = 0;
    for (size_t at = 0, from = 0; at <= text.size && count < 5; at++) {
        if (at < text.size && text.data[at] != ' ') continue;
        words[count++] = rk_slice_of(text.data + from, at - from);
        from = at + 1;
    }
    if (count == 5 &&
        rk_slice_is_equal(words[0], rk_slice_of_string(link->redis->url->master)))
        take_master(link, words[3], words[4]);
}

/* A Sentinel that listens for messages answers nothing else: the next one is asked. */
static void ask(struct rk_redis_link *link)
{
    rk_redis_link_stop(link, "asking the next");
    rk_redis_link_start(link, 0);
}

const struct link_role rk_redis_sentinel_role = {
    .name = "Sentinel",
    .ask_again_us = ASK_AGAIN_US,
    .aim = aim,
    .up = up,
    .down = down,
    .reply = reply,
    .push = push,
    .ask = ask,
};
