/* store_internal.h - what store*.c, queues*.c and caches*.c share. Private to server/redis.
 *
 * A call goes: taken -> the meta data of Redis is known -> started by its area -> scripts
 * -> answered. It keeps its request, so that it can be started more than once. A call over
 * several topics or keys has parts, calls of their own, which its area puts together. */
#ifndef RK_REDIS_STORE_INTERNAL_H
#define RK_REDIS_STORE_INTERNAL_H

#include "base/alloc.h"
#include "base/arena.h"
#include "base/assert.h"
#include "base/heap.h"
#include "base/list.h"
#include "base/map.h"
#include "redis/store.h"

#include <event2/event.h>

enum {
    RK_STORE_CLIENT_SIZE = 64, /* bytes of a client's id */
    RK_STORE_LANES_MAX = 1 << 17,
    RK_STORE_KEY_SIZE = 4096, /* room for a key: prefix, escaped name, ending */
    RK_STORE_ARGS_MAX = 16384,
};

enum rk_store_script_id {
    RK_SCRIPT_META,
    RK_SCRIPT_TOPICS,
    RK_SCRIPT_PUBLISH,
    RK_SCRIPT_CONSUME,
    RK_SCRIPT_SETTLE,
    RK_SCRIPT_ADMIN,
    RK_SCRIPT_READ,
    RK_SCRIPT_COUNT
};

struct rk_ask;

/* An answer of Redis to a call's script or command. reply is lent. */
typedef void rk_ask_heard(struct rk_ask *call, const struct redisReply *reply);
/* A part of the call was answered; *reply is lent. After the last one: is_last. */
typedef void rk_ask_part(struct rk_ask *call, struct rk_ask *part,
                         const struct rk_reply *reply, bool is_last);

struct rk_ask {
    struct rk_store *store;
    struct rk_map_node node; /* by number */
    uint8_t number_key[8];
    struct rk_list all;        /* in store->asks */
    struct rk_list link;       /* in the store's list of calls that wait for meta data */
    struct rk_heap_node timer; /* store->timers, by wake_ms */
    uint64_t wake_ms;
    uint64_t number; /* 0: of no client, or dropped */
    uint64_t redis_id;
    uint64_t came_ms;     /* by rk_store_now */
    uint64_t deadline_ms; /* likewise */
    uint64_t wait_ms;     /* consume: until when it waits; 0: not at all */
    struct rk_buf bytes;  /* the request's, and what it points to */
    struct rk_arena arena;
    struct rk_request request;
    char client[RK_STORE_CLIENT_SIZE + 1];
    uint8_t client_size;
    uint32_t lane; /* + 1, of a call without an id of its own */
    bool is_write;
    bool is_dropped;
    bool is_sent; /* a script of it was sent at least once */
    uint64_t
        listed; /* number under which its topic was entered into the list; 0: it was not */
    uint8_t begins; /* anew */
    rk_ask_heard *answered;
    void (*finished)(struct rk_ask *call, const struct rk_reply *reply); /* own calls */
    void (*known)(void *context); /* asks nothing: see rk_store_when_known */
    void *context;                /* of finished or known */

    /* Parts. */
    struct rk_ask *whole;
    rk_ask_part *part_done;
    uint32_t open_parts;
    uint32_t part; /* which one of the whole it is */
    bool has_failed;
    bool has_done;  /* a part of it, or may have been */
    void *gathered; /* the area's, in arena */

    /* Queues. */
    struct rk_store_topic *topic; /* held: see rk_topic_hold */
    struct rk_list parked;        /* in topic->parked */
    bool is_looking;              /* its script is one of topic->looks */
    bool was_parked;
};

struct rk_lane {
    uint64_t seq;
};

struct rk_queue_store; /* queues_internal.h */

struct rk_store {
    struct event_base *base;
    struct rk_redis *redis;
    const char *prefix;
    size_t prefix_size;
    uint32_t wait;
    struct rk_store_io io;
    struct rk_redis_script scripts[RK_SCRIPT_COUNT];
    char *script_texts[RK_SCRIPT_COUNT]; /* owned */
    struct event *tick;
    struct rk_map calls; /* with a number */
    struct rk_list asks; /* all */
    uint32_t open;
    struct rk_list waiting; /* for the meta data */
    struct rk_heap timers;
    struct rk_arena replies; /* of the answer being made */
    struct rk_arena args;    /* of the script being called */
    uint64_t tick_ms;        /* when the timer fires */
    struct rk_buf scratch;
    struct rk_lane *lanes;
    uint32_t *free_lanes;
    uint32_t lane_count, free_lane_count;
    char lane_name[32];
    struct rk_buf meta_key; /* of rukun:meta, with the prefix */
    uint64_t history;       /* 0: the meta data is not known */
    uint64_t last_history;  /* before that */
    uint64_t meta_id;       /* its command under way */
    uint64_t meta_retry_ms;
    uint64_t meta_asked_ms; /* when Redis was asked for it last */
    uint64_t meta_known_ms; /* when it said so last */
    char refusal[256];
    char said[256];   /* of it, in the log, */
    uint64_t said_ms; /* and when */
    struct rk_store_stats stats;
    struct rk_queue_store *queues;
};

/* Redis may have lost what it held: whose data it holds is asked again. */
void rk_store_forget(struct rk_store *store);
/* Asks whose data Redis holds, if that is not known and it is time to. */
void rk_store_look(struct rk_store *store);
/* Forgets unless it was asked for a moment ago; whether it did. */
bool rk_store_doubt(struct rk_store *store);
/* Forgets unless it was asked for after the call came; whether it did. What was known
 * before may be of data that Redis has lost since, without a word to anyone. */
bool rk_ask_doubt(const struct rk_ask *call);
void rk_asks_free(struct rk_store *store);
uint64_t rk_store_now(void); /* ms, CLOCK_BOOTTIME */
__attribute__((format(printf, 3, 4))) void
rk_store_log(struct rk_store *store, enum rk_redis_level level, const char *format, ...);

/* Appends `part` of a key with `%`, `:`, `{` and `}` %-escaped. */
void rk_store_escape(struct rk_buf *out, struct rk_slice part);

/* --- calls */

/* A call of the store's own, without an id; finished (may be NULL) gets its answer. The
 * request is copied. NULL: no memory. Start it with rk_ask_begin. */
struct rk_ask *rk_ask_own(struct rk_store *store, const struct rk_request *request,
                          uint64_t deadline_ms,
                          void (*finished)(struct rk_ask *, const struct rk_reply *),
                          void *context);
/* A part of `whole`, with its ids and deadline. NULL: no memory. */
struct rk_ask *rk_ask_part_new(struct rk_ask *whole, const struct rk_request *request,
                               uint32_t part);
void rk_ask_begin(struct rk_ask *call);
/* Redis is not what it was: begins anew once it is known what it is. */
void rk_ask_again(struct rk_ask *call);
/* At which moment rk_ask_woken is called, unless answered before. */
void rk_ask_wake_at(struct rk_ask *call, uint64_t at_ms);
void rk_ask_answer(struct rk_ask *call, struct rk_reply *reply); /* frees the call */
__attribute__((format(printf, 4, 5))) void rk_ask_fail(struct rk_ask *call,
                                                       enum rk_status status,
                                                       const char *field,
                                                       const char *format, ...);
void rk_ask_free(struct rk_ask *call);
/* Its ids as a script takes them: text of client, seq, first_unanswered, ms to keep. A read
 * has none. */
void rk_ask_ids(struct rk_ask *call, struct rk_slice out[4]);

/* Runs the script; `answered` gets what it says. What goes wrong is the call's answer.
 * Calls without a key may run on any master. Everything is copied. */
void rk_ask_eval(struct rk_ask *call, enum rk_store_script_id script,
                 const struct rk_slice *keys, uint32_t key_count,
                 const struct rk_slice *args, uint32_t arg_count, rk_ask_heard *answered);
void rk_ask_command(struct rk_ask *call, const struct rk_slice *args, uint32_t arg_count,
                    rk_ask_heard *answered);

/* The store's timer fires at that moment or before. */
void rk_store_tick_by(struct rk_store *store, uint64_t at_ms);
/* A number as text, in the store's arena of arguments. */
struct rk_slice rk_store_text(struct rk_store *store, uint64_t number);

/* --- areas */

RK_MUST_CHECK enum rk_status rk_queues_open(struct rk_store *store);
void rk_queues_close(struct rk_store *store);
/* The meta data is known. */
void rk_queues_start(struct rk_ask *call);
/* The time given to rk_ask_wake_at came. */
void rk_queues_woken(struct rk_ask *call);
/* Its client went away; true: it is done with. */
bool rk_queues_dropped(struct rk_ask *call);
/* What is remembered of Redis may be wrong. */
void rk_queues_forget(struct rk_store *store);
/* Does what is due; returns when to be called again at the latest. */
uint64_t rk_queues_tick(struct rk_store *store, uint64_t now);
/* The call waits for nothing any more. */
void rk_queues_waited(struct rk_ask *call);
/* The call ends: its topic is let go. */
void rk_queues_left(struct rk_ask *call);
#endif
