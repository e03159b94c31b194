/* reply.h - Redis's bytes as replies: hiredis's reader, with our memory and bounds.
 *
 * A reply's parts lie in an arena that the next reply takes over, so a reply costs no
 * allocation once the arena has grown. Works with hiredis 0.14 and 1.x. */
#ifndef RK_REDIS_REPLY_H
#define RK_REDIS_REPLY_H

#include "base/arena.h"
#include "redis/redis.h"

#include <hiredis/read.h>

struct rk_redis_reader {
    redisReader *parser;
    struct rk_arena arena; /* of the reply being read */
    size_t reply_max;      /* bytes of a reply, as sent and as kept */
    bool is_lent;          /* the arena's reply was given out, the next one may reuse it */
};

/* RK_ENOMEM. reply_max is RK_REDIS_REPLY_MAX but in tests. */
RK_MUST_CHECK enum rk_status rk_redis_reader_init(struct rk_redis_reader *reader,
                                                  size_t reply_max);
/* Zeroed, or finished before: fine. */
void rk_redis_reader_fini(struct rk_redis_reader *reader);

/* Feeds at most this much at a time: the parser moves what is left after each reply. */
enum { RK_REDIS_FEED_MAX = 16 << 10 };
RK_MUST_CHECK enum rk_status rk_redis_reader_feed(struct rk_redis_reader *reader,
                                                  struct rk_slice bytes);

/* The next reply, or NULL when more bytes are needed; lent until the next call of next, or
 * for good to who takes the arena over with rk_redis_reader_keep.
 * RK_EPROTO: these are no replies. RK_ESIZE: a reply above the bound. RK_ENOMEM. After an
 * error the reader can only be finished. */
RK_MUST_CHECK enum rk_status rk_redis_reader_next(struct rk_redis_reader *reader,
                                                  const struct redisReply **reply);
/* The memory of the reply that was given out last is the caller's now. */
struct rk_arena rk_redis_reader_keep(struct rk_redis_reader *reader);

/* What an error reply asks for. */
enum rk_redis_verdict {
    RK_REDIS_ANSWER,  /* an error of the command's own */
    RK_REDIS_AGAIN,   /* not done, may be later, here */
    RK_REDIS_LEAVE,   /* not done: this is no master, or no longer lets us in */
    RK_REDIS_REFRESH, /* not done: the Cluster is not whole */
    RK_REDIS_MOVED,
    RK_REDIS_ASK,
    RK_REDIS_NOSCRIPT,
};

/* Of an error's text; *status is how the command ends if it does: RK_EUNAVAILABLE for all
 * that may be tried again. */
enum rk_redis_verdict rk_redis_judge(struct rk_slice text, enum rk_status *status);

/* "MOVED 3999 127.0.0.1:6381": the slot, and the address in host and *port. An empty host
 * means the one that answered. RK_EPROTO. */
RK_MUST_CHECK enum rk_status rk_redis_read_redirect(struct rk_slice text, uint32_t *slot,
                                                    char host[RK_REDIS_HOST_MAX + 1],
                                                    uint16_t *port);

/* The value of "name:value" in the text of INFO; empty if there is none. */
struct rk_slice rk_redis_info_field(struct rk_slice info, const char *name);
/* Fills what INFO tells, leaving address alone; *is_replica and *is_loading as well. */
void rk_redis_read_info(struct rk_redis_server *server, struct rk_slice info,
                        bool *is_replica, bool *is_loading);

static inline struct rk_slice rk_redis_text(const struct redisReply *reply)
{
    return rk_slice_of(reply->str, reply->str == NULL ? 0 : reply->len);
}
static inline bool rk_redis_is_text(const struct redisReply *reply)
{
    return reply->type == REDIS_REPLY_STRING || reply->type == REDIS_REPLY_STATUS;
}
#endif
