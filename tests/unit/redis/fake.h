/* fake.h - a server in the test's own event loop that answers as the test says.
 *
 * Each command that it reads is shown to the test, which writes any bytes it likes. It
 * allocates nothing through rk_malloc, so failing allocations are the client's. */
#ifndef RK_TESTS_REDIS_FAKE_H
#define RK_TESTS_REDIS_FAKE_H

#include "redis/redis.h"

struct evconnlistener;
struct bufferevent;
struct fake;

struct fake_link {
    struct rk_list place;
    struct fake *fake;
    struct bufferevent *bev;
    struct redisReader *reader;
};

/* One command, its arguments joined by spaces. */
typedef void fake_command(struct fake_link *link, const char *text);

struct fake {
    struct event_base *base;
    struct evconnlistener *listener;
    struct rk_list links;
    uint16_t port;
    uint32_t connects;
    uint32_t commands; /* beside the greeting */
    const char *info;  /* what it answers to INFO, */
    const char *fsync; /* and to CONFIG GET appendfsync: the reply with its marks */
    fake_command *command;
    void *context;
};

void fake_init(struct fake *fake, struct event_base *base, fake_command *command,
               void *context);
void fake_fini(struct fake *fake);
void fake_write(struct fake_link *link, const char *bytes);
/* Ends the connection. */
void fake_hang_up(struct fake_link *link);
/* Ends all. */
void fake_hang_up_all(struct fake *fake);
#endif
