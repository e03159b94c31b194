/* client_world.h - a client, a fake server for it, and what became of commands. */
#ifndef RK_TESTS_REDIS_CLIENT_WORLD_H
#define RK_TESTS_REDIS_CLIENT_WORLD_H

#include "fake.h"

enum { ENDS_MAX = 4096 };

struct world;

struct end {
    struct world *world;
    uint32_t count; /* times that done was called */
    enum rk_status status;
    int32_t replicas;
    char text[RK_REDIS_TEXT_MAX]; /* the reply's, or the error's */
};

struct world {
    struct event_base *base;
    struct fake fake;
    struct rk_redis_url url;
    struct rk_redis *redis;
    bool is_within; /* a function of the client: no callback may come */
    uint32_t ended;
    uint32_t step; /* of the test's script */
    struct end ends[ENDS_MAX];
    uint32_t end_count;
    uint32_t messages;
    uint32_t channel_ups;
    uint32_t servers;
    uint32_t facts;
    char seen[4096]; /* commands, a line each */
};

uint64_t now_ms(void);
/* Adds a line to world->seen. */
void note_seen(struct world *world, const char *text);
/* Connects a client to a fake server: scheme://127.0.0.1:<port>rest. */
void world_init(struct world *world, const char *scheme, const char *rest,
                fake_command *command);
void world_fini(struct world *world);
/* Notes a result in its struct end. */
void on_done(void *context, const struct rk_redis_result *result);
/* Sends a command of one or two words. NULL: it was not taken. id may be NULL. */
struct end *send_words(struct world *world, const char *verb, const char *key,
                       struct rk_redis_ask ask, uint64_t *id);
/* The same for one word, which is taken. */
struct end *ask_for(struct world *world, const char *verb, uint32_t deadline_ms,
                    bool may_repeat);
/* Turns the loop until all that was sent has ended, each once. */
void finish(struct world *world);
/* Turns the loop until the counter is there. */
void turn_until(struct world *world, const uint32_t *counter, uint32_t wanted);
#endif
