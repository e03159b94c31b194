/* redis_internal.h - shared by the sources of redis.h.
 *
 * A call is one command on its way: queued without a link, waiting at its link, sent, held
 * for WAIT, or pausing before it is tried again. A link is one connection, made again and
 * again; what it is for is its role: commands to a master, subscriptions, or the guide, who
 * says which server is the master (Sentinel) or which master has which slot (Cluster). */
#ifndef RK_REDIS_INTERNAL_H
#define RK_REDIS_INTERNAL_H

#include "base/heap.h"
#include "base/random.h"
#include "redis/redis.h"
#include "redis/reply.h"

#include <netinet/in.h>
#include <openssl/ssl.h>

struct bufferevent;
struct event;
struct link_lookup;

enum {
    LINK_PIPELINE_MAX = 1024,           /* commands sent and not answered */
    LINK_PIPELINE_BYTES_MAX = 16 << 20, /* of them; one alone may be larger */
    LINK_SCRIPTS_MAX = 64,
    LINK_ADDRESSES_MAX = 8, /* of one name */
    CALL_TEXT_MAX = 128,
    CALL_BYTES_KEEP = 4096, /* memory that an idle call keeps */
    CALL_ANY_SLOT = RK_REDIS_SLOTS,
    SECOND_US = 1000000,
};

struct rk_redis_timer {
    struct rk_heap_node node;
    uint64_t at_us; /* CLOCK_MONOTONIC */
    bool is_link;
};

enum call_kind {
    CALL_USER,
    CALL_SKIP, /* ASKING, PING: the answer is of no interest */
    CALL_AUTH,
    CALL_SELECT,
    CALL_INFO,
    CALL_FSYNC,
    CALL_ROLE,
    CALL_NAME, /* the last of the greeting */
    CALL_WAIT,
    CALL_GUIDE,
};

enum call_place {
    CALL_IDLE,    /* in redis->idle */
    CALL_QUEUED,  /* in redis->queue: no link for it is known */
    CALL_WAITING, /* in link->waiting */
    CALL_SENT,    /* in link->sent */
    CALL_HELD,    /* in link->held: answered, WAIT is not */
    CALL_PAUSED,  /* in no list: its timer sends it again */
};

struct rk_redis_call {
    struct rk_redis_timer timer;
    struct rk_list link_in; /* by place */
    struct rk_redis_link *link;
    uint32_t index; /* in redis->calls */
    uint64_t generation;
    enum call_kind kind;
    enum call_place place;
    bool is_over; /* done was called or is not wanted: only its answer is awaited */
    bool may_repeat;
    bool is_open;   /* it was sent before, and how that ended is not known */
    bool is_asking; /* ASKING goes before it */
    bool has_text;  /* a script's: sent as EVAL */
    uint8_t redirects;
    uint8_t attempts;
    uint32_t slot;
    uint32_t node;
    uint32_t wait_replicas;
    uint32_t arg_count;
    uint64_t deadline_us;
    uint64_t sent_us;
    uint64_t sent_number; /* among all that the link sent */
    uint64_t pause_us;
    struct rk_redis_script *script;
    rk_redis_done *done;
    void *context;
    struct rk_buf bytes;  /* the command; a script's without EVAL and text or EVALSHA */
    struct rk_arena kept; /* of the reply while held */
    const struct redisReply *reply;
    char text[CALL_TEXT_MAX]; /* why it was not done the last time */
};

enum link_state {
    LINK_OFF,     /* not wanted, or without an address */
    LINK_RESTING, /* the timer begins an attempt */
    LINK_RESOLVING,
    LINK_CONNECTING, /* TLS included */
    LINK_GREETING,
    LINK_UP,
};

struct link_role {
    const char *name;      /* for logs */
    bool is_data;          /* SELECT the database, ask INFO, CONFIG and ROLE */
    uint64_t ask_again_us; /* a guide's: at least so long between two questions */
    /* Sets link's host and port for the attempt; false: there is none now. */
    bool (*aim)(struct rk_redis_link *link);
    void (*up)(struct rk_redis_link *link);
    void (*down)(struct rk_redis_link *link, bool was_up);
    void (*reply)(struct rk_redis_link *link, const struct redisReply *reply);
    void (*push)(struct rk_redis_link *link, const struct redisReply *reply);
    void (*ask)(struct rk_redis_link *link); /* a guide that is up, once more */
};

struct rk_redis_link {
    struct rk_redis_timer timer;
    struct rk_redis *redis;
    const struct link_role *role;
    struct rk_list in_dirty;  /* redis->dirty */
    struct rk_list in_doomed; /* redis->leaving, and redis->doomed at last */
    char host[RK_REDIS_HOST_MAX + 1];
    uint16_t port;
    enum link_state state;
    bool is_leaving; /* takes no more commands, closes when the last one is answered */
    bool is_doomed;  /* and is freed then */
    bool is_listed;  /* in the Cluster's map that is being read */
    bool is_pushing; /* what answers no call is a message */
    bool is_denied;  /* the last attempt failed by what only a person mends */
    bool is_overdue; /* a command's deadline passed, and nothing came since */
    uint64_t epoch;  /* counts connections: told apart within callbacks */
    uint64_t backoff_us;
    struct link_lookup *lookup; /* while resolving */
    struct sockaddr_storage addresses[LINK_ADDRESSES_MAX];
    uint32_t address_count;
    uint32_t address_at;
    struct bufferevent *bev;
    struct rk_redis_reader reader;
    struct rk_buf out;
    struct rk_list waiting;
    struct rk_list sent;
    struct rk_list held;
    uint32_t sent_count;
    size_t sent_bytes;
    uint64_t sent_number;
    uint64_t last_in_us;
    uint64_t up_us;
    uint64_t asked;     /* subscriptions asked for on this connection */
    uint64_t confirmed; /* of them */
    uint64_t pinged_us; /* while pushing: when PING left, 0: answered */
    uint64_t facts_us;  /* when its configuration is read again */
    uint32_t wait_most; /* asked for by commands since the last flush */
    struct {
        const struct rk_redis_script *script;
        uint64_t number; /* of the EVAL that brought its text */
    } scripts[LINK_SCRIPTS_MAX];
    uint32_t script_count;
    struct rk_redis_server server;
    bool is_replica;
    char reason[RK_REDIS_TEXT_MAX];
    char logged[RK_REDIS_TEXT_MAX];
    uint64_t logged_us;
};

struct rk_redis {
    struct event_base *base;
    struct evdns_base *dns;
    const struct rk_redis_url *url;
    struct rk_redis_io io;
    char *client_name; /* or NULL */
    struct rk_random random;
    SSL_CTX *tls; /* or NULL */
    struct event *flush_event;
    struct event *timer_event;
    bool is_flush_due;
    uint64_t armed_us; /* 0: not */
    struct rk_heap timers;

    struct rk_redis_call **calls; /* all there are, idle ones too */
    uint32_t call_count;
    uint32_t call_capacity;
    struct rk_list idle;
    struct rk_list queue;
    size_t pending_bytes;

    struct rk_list dirty;   /* links with bytes to write */
    struct rk_list leaving; /* links of masters that are none any more */
    struct rk_list doomed;  /* to be freed at the end of the turn */
    struct rk_redis_link *nodes[RK_REDIS_NODES_MAX];
    uint32_t node_count;
    struct rk_redis_link **slots; /* Cluster: RK_REDIS_SLOTS of them */
    bool is_covered;              /* every slot has a master */
    struct rk_redis_link *pubsub;
    struct rk_redis_link *guide; /* NULL: single */
    uint32_t guide_at;           /* which address is next */
    uint64_t guided_us;          /* the last answer */
    uint64_t guide_due_us;       /* when it asks again; 0: when told to */

    struct rk_list subscriptions;
    uint32_t subscription_count;
    struct rk_list *subscription_next; /* of the walk under way */

    bool is_up;
    struct rk_redis_stats stats;
};

/* redis.c */
uint64_t rk_redis_now(void);
__attribute__((format(printf, 3, 4))) void
rk_redis_log(struct rk_redis *redis, enum rk_redis_level level, const char *format, ...);
void rk_redis_wake_at(struct rk_redis *redis, struct rk_redis_timer *timer, uint64_t at_us);
void rk_redis_unwake(struct rk_redis *redis, struct rk_redis_timer *timer);
/* The end of the turn is to flush. */
void rk_redis_touch(struct rk_redis *redis);
/* Tells io.state if it changed. */
void rk_redis_note_state(struct rk_redis *redis);
/* Tells io.facts. */
void rk_redis_note_facts(struct rk_redis *redis);
/* Sends every queued call to the link that it has now. */
void rk_redis_drain_queue(struct rk_redis *redis);
uint64_t rk_redis_jitter(struct rk_redis *redis, uint64_t below_us);

/* call.c */
struct rk_redis_call *rk_redis_call_take(struct rk_redis *redis);
void rk_redis_call_put(struct rk_redis *redis, struct rk_redis_call *call);
/* In no list of a link or of redis. */
void rk_redis_call_unlink(struct rk_redis *redis, struct rk_redis_call *call);
/* Appends one command, or the rest of one whose head is written elsewhere. */
void rk_redis_write_head(struct rk_buf *out, uint32_t arg_count);
void rk_redis_write_arg(struct rk_buf *out, struct rk_slice arg);
void rk_redis_write_call(struct rk_buf *out, const struct rk_redis_call *call);
size_t rk_redis_call_size(const struct rk_redis_call *call);
struct rk_redis_call *rk_redis_call_of(const struct rk_redis *redis, uint64_t id);
uint64_t rk_redis_call_id(const struct rk_redis_call *call);

/* answer.c */
/* Where the call belongs now; NULL: not known. */
struct rk_redis_link *rk_redis_aim(struct rk_redis *redis,
                                   const struct rk_redis_call *call);
/* To its link, or to the queue. */
void rk_redis_route(struct rk_redis *redis, struct rk_redis_call *call);
/* The reply to a user's call, which is out of link->sent. */
void rk_redis_answer(struct rk_redis_link *link, struct rk_redis_call *call,
                     const struct redisReply *reply);
/* The reply to WAIT: completes what was held for it. */
void rk_redis_answer_wait(struct rk_redis_link *link, const struct rk_redis_call *wait,
                          const struct redisReply *reply);
/* The connection on which it was sent is gone. */
void rk_redis_lose(struct rk_redis *redis, struct rk_redis_call *call, const char *reason);
/* Its timer: the end of a pause, or its deadline. */
void rk_redis_call_timer(struct rk_redis *redis, struct rk_redis_call *call, uint64_t now);

/* link.c */
struct rk_redis_link *rk_redis_link_new(struct rk_redis *redis,
                                        const struct link_role *role);
void rk_redis_link_free(struct rk_redis_link *link);
/* Begins to connect after the delay, if it is off or resting. */
void rk_redis_link_start(struct rk_redis_link *link, uint64_t delay_us);
/* Ends the connection, and rests before the next attempt. */
__attribute__((format(printf, 2, 3))) void rk_redis_link_fail(struct rk_redis_link *link,
                                                              const char *format, ...);
/* Ends the connection for good: off, no role is told. Its calls go where they belong. */
void rk_redis_link_stop(struct rk_redis_link *link, const char *reason);
/* No more commands; fails once all are answered. */
void rk_redis_link_leave(struct rk_redis_link *link, const char *reason);
/* Sends the call, or lets it wait here. */
void rk_redis_link_give(struct rk_redis_link *link, struct rk_redis_call *call);
/* Sends what waits, as far as the pipeline takes it. */
void rk_redis_link_pump(struct rk_redis_link *link);
void rk_redis_link_flush(struct rk_redis_link *link);
void rk_redis_link_timer(struct rk_redis_link *link, uint64_t now);
/* A command of the link's own. False without memory. */
bool rk_redis_link_say(struct rk_redis_link *link, enum call_kind kind, uint32_t arg_count,
                       const char *const args[]);
/* The same without a call that awaits the answer. */
bool rk_redis_link_shout(struct rk_redis_link *link, uint32_t arg_count,
                         const char *const args[]);
/* "host:port" into out. */
void rk_redis_link_address(char *out, size_t size, const struct rk_redis_link *link);

/* connect.c */
/* Begins an attempt: resolves, connects, and greets. */
void rk_redis_link_begin(struct rk_redis_link *link);
/* Another address of the name, while connecting; false: there is none. */
bool rk_redis_link_try_next(struct rk_redis_link *link);
/* Ends the connection or the attempt at one; calls are left alone. */
void rk_redis_link_close(struct rk_redis_link *link);
/* Greeted: commands may leave. */
void rk_redis_link_is_up(struct rk_redis_link *link);
/* Takes what came in: replies to what was sent, and messages. */
void rk_redis_link_read(struct rk_redis_link *link);

/* greet.c */
bool rk_redis_greet(struct rk_redis_link *link);
/* Asks for the configuration once more. False without memory. */
bool rk_redis_greet_again(struct rk_redis_link *link);
/* The reply to one of the commands that these sent. May fail the link. */
void rk_redis_greeted(struct rk_redis_link *link, const struct rk_redis_call *call,
                      const struct redisReply *reply);

/* tls.c */
RK_MUST_CHECK enum rk_status rk_redis_tls_new(SSL_CTX **out, const struct rk_redis_url *url,
                                              struct rk_redis_error *err);
/* For one connection; NULL without memory. */
SSL *rk_redis_tls_start(SSL_CTX *tls, const struct rk_redis_url *url, const char *host);
/* Why a TLS connection failed; *is_denied: trying again will not help. */
void rk_redis_tls_reason(char *out, size_t size, struct bufferevent *bev, bool *is_denied);

/* master.c */
extern const struct link_role rk_redis_master_role;

/* pubsub.c */
extern const struct link_role rk_redis_pubsub_role;
/* The servers changed: subscribes where it should. */
void rk_redis_pubsub_move(struct rk_redis *redis, const char *reason);

/* sentinel.c, cluster.c */
extern const struct link_role rk_redis_sentinel_role;
extern const struct link_role rk_redis_cluster_role;
/* Asks anew, soon: what is known seems to be wrong. Nothing for a single server. */
void rk_redis_ask_guide(struct rk_redis *redis);
/* The slot is on that server now; its link, NULL without memory or room. */
struct rk_redis_link *rk_redis_cluster_node(struct rk_redis *redis, const char *host,
                                            uint16_t port);
#endif
