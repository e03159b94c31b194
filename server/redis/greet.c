/* What is said first on a new connection: who we are, and who are you. */
#include "redis/redis_internal.h"

#include <stdio.h>

static bool say_auth(struct rk_redis_link *link)
{
    const struct rk_redis_url *url = link->redis->url;
    bool is_sentinel = link->role == &rk_redis_sentinel_role;
    const char *user = is_sentinel ? url->sentinel_user : url->user;
    const char *password = is_sentinel ? url->sentinel_password : url->password;
    if (user[0] != '\0')
        return rk_redis_link_say(link, CALL_AUTH, 3,
                                 (const char *const[]){"AUTH", user, password});
    return password[0] == '\0' ||
           rk_redis_link_say(link, CALL_AUTH, 2, (const char *const[]){"AUTH", password});
}

bool rk_redis_greet(struct rk_redis_link *link)
{
    struct rk_redis *redis = link->redis;
    char db[16];
    bool is_said = say_auth(link);
    if (is_said && link->role->is_data && redis->url->db != 0) {
        (void)snprintf(db, sizeof(db), "%u", redis->url->db);
        is_said =
            rk_redis_link_say(link, CALL_SELECT, 2, (const char *const[]){"SELECT", db});
    }
    if (is_said && link->role->is_data)
        is_said = rk_redis_greet_again(link) &&
                  rk_redis_link_say(link, CALL_ROLE, 1, (const char *const[]){"ROLE"});
    /* The last one: its answer, whatever it is, ends the greeting. */
    const char *name = redis->client_name != NULL ? redis->client_name : "";
    return is_said && rk_redis_link_say(link, CALL_NAME, 3,
                                        (const char *const[]){"CLIENT", "SETNAME", name});
}

bool rk_redis_greet_again(struct rk_redis_link *link)
{
    return rk_redis_link_say(link, CALL_INFO, 1, (const char *const[]){"INFO"}) &&
           rk_redis_link_say(link, CALL_FSYNC, 3,
                             (const char *const[]){"CONFIG", "GET", "appendfsync"});
}

static void take_info(struct rk_redis_link *link, const struct redisReply *reply)
{
    bool is_loading = false;
    if (!rk_redis_is_text(reply)) return;
    rk_redis_read_info(&link->server, rk_redis_text(reply), &link->is_replica, &is_loading);
    if (is_loading) {
        rk_redis_link_fail(link, "LOADING: Redis is reading its data set");
    } else if (!rk_redis_is_cluster(link->redis) &&
               rk_slice_is_equal(rk_redis_info_field(rk_redis_text(reply), "redis_mode"),
                                 RK_SLICE_LITERAL("cluster"))) {
        link->is_denied = true;
        rk_redis_link_fail(link, "it is a node of a Cluster: the URL must begin with "
                                 "redis+cluster://");
    }
}

/* ["appendfsync", word] */
static void take_fsync(struct rk_redis_link *link, const struct redisReply *reply)
{
    struct rk_slice word = RK_SLICE_EMPTY;
    if (reply->type == REDIS_REPLY_ARRAY && reply->elements == 2 &&
        rk_redis_is_text(reply->element[1]))
        word = rk_redis_text(reply->element[1]);
    if (word.size >= sizeof(link->server.fsync)) word = RK_SLICE_EMPTY;
    if (word.size > 0) memcpy(link->server.fsync, word.data, word.size);
    link->server.fsync[word.size] = '\0';
}

/* While it serves: who it is and whose data it follows stay as they were found, since they
 * are compared with what they were at the last connection. */
static void take_facts(struct rk_redis_link *link, const struct rk_redis_call *call,
                       const struct redisReply *reply)
{
    struct rk_redis_server fresh = {.policy = ""};
    bool is_loading;
    if (call->kind == CALL_FSYNC) {
        take_fsync(link, reply);
        rk_redis_note_facts(link->redis);
        return;
    }
    /* An error says that it cannot tell now, as while a script runs for long. */
    if (!rk_redis_is_text(reply)) return;
    rk_redis_read_info(&fresh, rk_redis_text(reply), &link->is_replica, &is_loading);
    memcpy(link->server.policy, fresh.policy, sizeof(fresh.policy));
    link->server.maxmemory = fresh.maxmemory;
    link->server.replicas = fresh.replicas;
    link->server.is_aof = fresh.is_aof;
    if (!link->is_replica) return;
    rk_redis_ask_guide(link->redis);
    rk_redis_link_fail(link, "it is a replica");
}

static void take_role(struct rk_redis_link *link, const struct redisReply *reply)
{
    if (reply->type != REDIS_REPLY_ARRAY || reply->elements == 0 ||
        !rk_redis_is_text(reply->element[0]))
        return;
    link->is_replica =
        !rk_slice_is_equal(rk_redis_text(reply->element[0]), RK_SLICE_LITERAL("master"));
}

/* Users who may not ask INFO or CLIENT can do without, and so can old servers. What CONFIG
 * says is for people only. */
static bool is_bearable(const struct rk_redis_call *call, struct rk_slice text)
{
    if (call->kind == CALL_FSYNC) return true;
    if (call->kind == CALL_AUTH || call->kind == CALL_SELECT) return false;
    return rk_slice_has_prefix(text, RK_SLICE_LITERAL("NOPERM")) ||
           rk_slice_has_prefix(text, RK_SLICE_LITERAL("ERR unknown"));
}

void rk_redis_greeted(struct rk_redis_link *link, const struct rk_redis_call *call,
                      const struct redisReply *reply)
{
    uint64_t epoch = link->epoch;
    if (link->state == LINK_UP) {
        take_facts(link, call, reply);
        return;
    }
    if (reply->type == REDIS_REPLY_ERROR) {
        struct rk_slice text = rk_redis_text(reply);
        enum rk_status status;
        if (!is_bearable(call, text)) {
            /* Only a person mends a wrong password or database: no haste, but loud. */
            link->is_denied = call->kind == CALL_AUTH || call->kind == CALL_SELECT ||
                              rk_redis_judge(text, &status) == RK_REDIS_LEAVE;
            rk_redis_link_fail(link, "%.*s", (int)(text.size < 200 ? text.size : 200),
                               (const char *)text.data);
            return;
        }
    } else if (call->kind == CALL_INFO) {
        take_info(link, reply);
    } else if (call->kind == CALL_FSYNC) {
        take_fsync(link, reply);
    } else if (call->kind == CALL_ROLE) {
        take_role(link, reply);
    }
    if (call->kind == CALL_NAME && link->epoch == epoch) rk_redis_link_is_up(link);
}
