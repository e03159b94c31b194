/* redis.h - one deployment of Redis or Valkey: a server, a Sentinel group or a Cluster.
 *
 * Commands are copied, routed by key, pipelined over one link to each master, and answered
 * exactly once by their deadline. What a lost connection left open is reported as unknown,
 * what Redis certainly did not do is tried again until the deadline. Nothing here blocks
 * (name lookups neither, given an evdns base). Loop thread only. */
#ifndef RK_REDIS_REDIS_H
#define RK_REDIS_REDIS_H

#include "base/bytes.h"
#include "base/list.h"
#include "redis/url.h"

#include <hiredis/hiredis.h>

struct event_base;
struct evdns_base;
struct rk_redis; /* opaque */

enum {
    RK_REDIS_COMMAND_MAX = 64 << 20, /* bytes of one command */
    RK_REDIS_REPLY_MAX = 64 << 20,   /* bytes of one reply; more closes the link */
    RK_REDIS_ARGS_MAX = 1 << 20,
    RK_REDIS_PENDING_MAX = 1 << 17,         /* commands not yet answered */
    RK_REDIS_PENDING_BYTES_MAX = 256 << 20, /* of them together */
    RK_REDIS_CHANNELS_MAX = 1024,
    RK_REDIS_NODES_MAX = 256, /* masters of a Cluster */
    RK_REDIS_SLOTS = 16384,
    RK_REDIS_TEXT_MAX = 256, /* of errors, with NUL */
};

enum rk_redis_level { RK_REDIS_INFO, RK_REDIS_WARN, RK_REDIS_ERROR };

/* What a master said of itself when it was connected to; what stands in its configuration
 * is read again every check-ms of the URL. */
struct rk_redis_server {
    char address[RK_REDIS_HOST_MAX + 16]; /* "host:port", brackets around IPv6 */
    char run_id[41];                      /* another one after each start of the process */
    char replid[41]; /* of the data set's history; changes at a failover */
    char version[16];
    char policy[24];    /* maxmemory-policy; "" if it may not be read */
    char fsync[12];     /* appendfsync; "" if it may not be read */
    uint64_t maxmemory; /* 0: no bound */
    uint32_t replicas;  /* connected to it */
    bool is_valkey;
    bool is_aof; /* appendonly yes; false, too, if it may not be read */
};

/* What the deployment's user is told. Called from the loop, never within a function of this
 * header. Any function of this header but rk_redis_free may be called within. */
struct rk_redis_io {
    void *context;
    /* One line, without a password; something that goes on is said once, then rarely. */
    void (*log)(void *context, enum rk_redis_level level, const char *text);
    /* True once every master is connected (in a Cluster: and all slots have one), false
     * when that ended. At first it is not. */
    void (*state)(void *context, bool is_up);
    /* A master was connected to, again or for the first time; told before any command
     * leaves on that connection. Compare run_id and replid with what they were to notice a
     * restart or a failover. server is lent for the call. May be NULL. */
    void (*server)(void *context, const struct rk_redis_server *server);
    /* Other masters than before, or what one of them said of its configuration was read
     * again: rk_redis_master has it. After server for a new one, and before any command
     * leaves there. May be NULL. */
    void (*facts)(void *context);
};

struct rk_redis_options {
    uint32_t struct_size;
    struct event_base *base;        /* borrowed */
    struct evdns_base *dns;         /* borrowed; NULL: looking up a name blocks the loop */
    const struct rk_redis_url *url; /* borrowed until rk_redis_free */
    const char *client_name;        /* CLIENT SETNAME; NULL: none. Copied */
    uint64_t seed;                  /* of the jitter in pauses */
    struct rk_redis_io io;
};

struct rk_redis_result {
    /* RK_OK: reply is Redis's answer, never an error reply.
     * RK_EUNAVAILABLE: certainly not done: not connected, LOADING, CLUSTERDOWN, READONLY,
     *   MASTERDOWN, MISCONF, BUSY, TRYAGAIN, NOREPLICAS, ... until the deadline.
     * RK_EUNKNOWN: it was sent, and no answer came: it may have been done, or be done yet.
     * RK_EFULL: OOM: Redis is at maxmemory. Not done.
     * RK_EDENIED: NOPERM: the user of the URL may not do that. Not done, unless a script
     *   ran into it.
     * RK_ESIZE: Redis refused its size. Not done.
     * RK_EIO: any other error reply, in text: WRONGTYPE, a script's own error, ... A script
     *   that writes before it fails has written. */
    enum rk_status status;
    const struct redisReply *reply; /* lent for the call; NULL unless RK_OK */
    const char *text; /* lent; "" for RK_OK, else what Redis or the link said */
    /* Replicas that have the write, if wait_replicas was asked for. May be fewer than that:
     * then the write is on the master only, and the caller decides what that is worth.
     * -1: not asked for, or the answer to WAIT never came. */
    int32_t replicas;
};
typedef void rk_redis_done(void *context, const struct rk_redis_result *result);

/* For both kinds of command. A zeroed one with done set is right for most. */
struct rk_redis_ask {
    rk_redis_done *done; /* NULL: nobody wants to know */
    void *context;
    uint32_t deadline_ms; /* from now; 0: the URL's timeout-ms */
    /* Harmless when done twice: after a lost connection it is sent again, and is unknown
     * only when the deadline passes. */
    bool may_repeat;
    uint32_t wait_replicas; /* WAIT for so many replicas before done, 0: none */
    uint32_t node;          /* 1 to rk_redis_node_count: that master instead of the key's */
};

struct rk_redis_command {
    const struct rk_slice *args; /* all of it: {"HGET", key, field} */
    uint32_t arg_count;
    struct rk_slice key; /* routes in a Cluster; empty: any master will do */
    struct rk_redis_ask ask;
};

/* A script from any text. rk_redis_embed(variable NAME part.lua ...) of CMake compiles
 * files in, one after the other: `extern const char rk_lua_NAME[]; extern const uint32_t
 * rk_lua_NAME_size;`. */
struct rk_redis_script {
    const char *name; /* for logs */
    const char *text;
    size_t size;
    char sha[41]; /* set by rk_redis_script_init */
};

struct rk_redis_eval {
    struct rk_redis_script *script; /* initialised; outlives the answer */
    const struct rk_slice *keys;    /* all in one slot; the first one routes */
    uint32_t key_count;             /* 0: any master */
    const struct rk_slice *args;
    uint32_t arg_count;
    struct rk_redis_ask ask;
};

/* A channel's listener. Zeroed and set, it is registered by rk_redis_subscribe and must
 * stay in its place until rk_redis_unsubscribe or rk_redis_free. */
struct rk_redis_subscription {
    const char *channel; /* borrowed; the whole name, prefix and all */
    void *context;
    void (*message)(void *context, struct rk_slice payload); /* lent for the call */
    /* True once Redis confirmed the subscription: what is published from then on arrives.
     * False when its connection was lost: what is published meanwhile never arrives. */
    void (*state)(void *context, bool is_up);
    bool is_up; /* read only, as what follows */
    uint64_t asked;
    struct rk_list link;
};

struct rk_redis_stats {
    uint64_t commands; /* taken by rk_redis_send and rk_redis_eval */
    uint64_t sent;     /* written to links, repetitions among them */
    uint64_t ok;       /* answered, by status of the result */
    uint64_t refused;  /* RK_EIO, RK_EFULL, RK_EDENIED, RK_ESIZE */
    uint64_t not_done; /* RK_EUNAVAILABLE */
    uint64_t unknown;  /* RK_EUNKNOWN */
    uint64_t repeated; /* sent again: refused for now, redirected, or lost and may_repeat */
    uint64_t redirects; /* MOVED and ASK */
    uint64_t scripts_loaded;
    uint64_t connects;  /* links that came up */
    uint64_t losses;    /* links that were up and went down */
    uint64_t failovers; /* a master's place was taken by another server */
    uint64_t messages;  /* of subscriptions */
    uint64_t bytes_in;
    uint64_t bytes_out;
    uint32_t pending; /* commands not yet answered */
    uint32_t links_up;
};

/* Starts to connect. options->url and what io points to outlive it.
 * RK_EINVAL: a file of the URL's TLS parameters cannot be used: err->text. RK_ENOMEM. */
RK_MUST_CHECK enum rk_status rk_redis_new(struct rk_redis **out,
                                          const struct rk_redis_options *options,
                                          struct rk_redis_error *err);
/* Closes everything; no callback is made, commands not yet answered are forgotten. Not
 * within a callback. NULL is fine. */
void rk_redis_free(struct rk_redis *redis);

/* Copies the command and queues it; it leaves at the end of this turn of the loop, with one
 * write for all that go to the same master. done is called once, later, never within this
 * function. Commands for one key leave in the order of these calls; one that is repeated
 * may come after later ones. Returns its id, or 0: RK_REDIS_PENDING_MAX or _BYTES_MAX
 * reached, or no memory: done is not called, and it is certainly not done. Sizes above the
 * bounds, or no argument, assert. */
uint64_t rk_redis_send(struct rk_redis *redis, const struct rk_redis_command *command);
/* The same for EVALSHA; a server that does not know the script is given it. */
uint64_t rk_redis_eval(struct rk_redis *redis, const struct rk_redis_eval *eval);
/* No callback any more. What was not sent yet is not sent. An id that was answered is fine.
 */
void rk_redis_forget(struct rk_redis *redis, uint64_t id);

/* Sets script->sha from its text. */
void rk_redis_script_init(struct rk_redis_script *script);

/* state(true) follows once Redis confirmed. In a Cluster any live node serves it, another
 * one when that dies. RK_ELIMIT: RK_REDIS_CHANNELS_MAX. RK_EEXIST: registered already;
 * several subscriptions of one channel are fine. */
RK_MUST_CHECK enum rk_status rk_redis_subscribe(struct rk_redis *redis,
                                                struct rk_redis_subscription *subscription);
/* No callback any more, also when called within one. One not registered is fine. */
void rk_redis_unsubscribe(struct rk_redis *redis,
                          struct rk_redis_subscription *subscription);

/* What io.state told last. */
bool rk_redis_is_up(const struct rk_redis *redis);
/* Why it is not up, one line; "" when it is. Lent until the next turn. */
const char *rk_redis_reason(const struct rk_redis *redis);
/* The master that serves the key now; NULL while it is not connected. Lent until the next
 * turn. An empty key: any master. */
const struct rk_redis_server *rk_redis_server_of(const struct rk_redis *redis,
                                                 struct rk_slice key);
/* Whether keys of one call may have different masters. */
bool rk_redis_is_cluster(const struct rk_redis *redis);
/* Masters known: 1 unless a Cluster; 0 before its map is known. The numbering for
 * rk_redis_ask.node holds until the map changes. */
uint32_t rk_redis_node_count(const struct rk_redis *redis);
/* The master of that number, from 1; NULL while it is not connected. Lent until the next
 * turn. */
const struct rk_redis_server *rk_redis_master(const struct rk_redis *redis,
                                              uint32_t number);
void rk_redis_stats(const struct rk_redis *redis, struct rk_redis_stats *out);

/* The slot of a key in a Cluster: CRC16 (XMODEM) of what stands in the first {...} that is
 * not empty, or of all of it. */
uint32_t rk_redis_slot(struct rk_slice key);
#endif
