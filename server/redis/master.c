/* Links that carry commands: each leads to one master. */
#include "redis/redis_internal.h"

static bool aim(struct rk_redis_link *link)
{
    const struct rk_redis_url *url = link->redis->url;
    if (url->kind == RK_REDIS_SINGLE) {
        memcpy(link->host, url->addresses[0].host, strlen(url->addresses[0].host) + 1);
        link->port = url->addresses[0].port;
    }
    return link->host[0] != '\0';
}

static void up(struct rk_redis_link *link)
{
    struct rk_redis *redis = link->redis;
    if (link->is_replica) {
        rk_redis_ask_guide(redis);
        rk_redis_link_fail(link, "it is a replica");
        return;
    }
    rk_redis_link_address(link->server.address, sizeof(link->server.address), link);
    rk_redis_log(redis, RK_REDIS_INFO, "connected to the master %s, %s %s, run id %.8s",
                 link->server.address, link->server.is_valkey ? "Valkey" : "Redis",
                 link->server.version[0] != '\0' ? link->server.version
                                                 : "of unknown version",
                 link->server.run_id[0] != '\0' ? link->server.run_id : "unknown");
    uint64_t epoch = link->epoch;
    if (redis->io.server != NULL) redis->io.server(redis->io.context, &link->server);
    rk_redis_note_state(redis);
    rk_redis_note_facts(redis);
    if (link->epoch != epoch) return;
    rk_redis_link_pump(link);
    rk_redis_drain_queue(redis);
}

static void down(struct rk_redis_link *link, bool was_up)
{
    (void)was_up;
    rk_redis_ask_guide(link->redis);
}

static void reply(struct rk_redis_link *link, const struct redisReply *answer)
{
    (void)link;
    (void)answer; /* nothing is asked here in the deployment's name */
}

const struct link_role rk_redis_master_role = {
    .name = "master",
    .is_data = true,
    .aim = aim,
    .up = up,
    .down = down,
    .reply = reply,
    .push = reply,
};
