/* offline.h - a deployment of Redis for a command that moves data: it waits for answers.
 *
 * The loop runs within these functions. Commands are pipelined within bounds; the first one
 * that fails ends it all. */
#ifndef RK_REDIS_OFFLINE_H
#define RK_REDIS_OFFLINE_H

#include "redis/redis.h"

enum {
    RK_OFFLINE_COMMANDS = 512, /* under way at once, and their */
    RK_OFFLINE_BYTES = 16 << 20,
    RK_OFFLINE_DEADLINE_MS = 60000,
};

struct rk_offline {
    struct event_base *base;
    struct evdns_base *dns;
    struct rk_redis *redis;
    struct rk_redis_url url;
    struct rk_list sent;
    uint32_t open;       /* commands */
    uint64_t open_bytes; /* since nothing was open */
    enum rk_status status;
    struct rk_redis_error error;
};

/* Gets an answer; lent. Called within the functions below. */
typedef void rk_offline_heard(void *context, const struct redisReply *reply);

/* Connects. RK_EINVAL: the URL; RK_EUNAVAILABLE: within the URL's timeout-ms Redis was not
 * up; RK_ENOMEM. offline->error says why; followed by rk_offline_close in any case. */
RK_MUST_CHECK enum rk_status rk_offline_open(struct rk_offline *offline, const char *url,
                                             const char *client_name);
void rk_offline_close(struct rk_offline *offline);
/* Runs a command or script that may be repeated; heard may be NULL. The status of the first
 * that failed, this one or one before. */
RK_MUST_CHECK enum rk_status rk_offline_send(struct rk_offline *offline,
                                             const struct rk_redis_command *command,
                                             rk_offline_heard *heard, void *context);
RK_MUST_CHECK enum rk_status rk_offline_eval(struct rk_offline *offline,
                                             const struct rk_redis_eval *eval,
                                             rk_offline_heard *heard, void *context);
/* Until all are answered. */
RK_MUST_CHECK enum rk_status rk_offline_drain(struct rk_offline *offline);
/* Notes a failure, unless there is one; returns what was noted. */
__attribute__((format(printf, 3, 4))) enum rk_status
rk_offline_fail(struct rk_offline *offline, enum rk_status status, const char *format, ...);
#endif
