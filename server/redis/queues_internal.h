/* queues_internal.h - what queues*.c share. Private to server/redis. */
#ifndef RK_REDIS_QUEUES_INTERNAL_H
#define RK_REDIS_QUEUES_INTERNAL_H

#include "api/delivery_id.h"
#include "base/slot.h"
#include "redis/store_internal.h"

enum {
    RK_STORE_TOPICS_MAX = 1000000,  /* in one Redis; more are refused */
    RK_STORE_TOPICS_KNOWN = 65536,  /* remembered by a node while nobody uses them */
    RK_CONSUME_BYTES_MAX = 1 << 20, /* of bodies in one answer, after the first message */
    RK_NUMBER_BITS = 40,            /* of a message's number within its topic */
    RK_AWAIT_MS = 30000,            /* Redis knows so long that a topic is waited for, */
    RK_AWAIT_AGAIN_MS = 10000,      /* and is told again after this */
};

/* How the key ends that scripts of a topic name beside those that they use. */
#define RK_TOPIC_NONE_SUFFIX RK_SLICE_LITERAL(":none")

/* A topic as this node knows it. */
struct rk_store_topic {
    struct rk_map_node node; /* by key */
    struct rk_map_node number_node;
    uint8_t number_key[8];
    struct rk_heap_node look_node; /* in queues->looks: somebody is parked */
    uint64_t look_ms;
    uint64_t number; /* 0: not known */
    uint32_t holds;  /* calls that use it */
    uint32_t looks;  /* scripts under way for consumers who wait, or came to wait */
    bool is_woken;   /* while a look was under way */
    bool is_dead;    /* holds dead letters */
    uint16_t slot;
    struct rk_list parked; /* struct rk_ask, first come first */
    uint32_t parked_count;
    struct rk_slice name;   /* they stand in `bytes` */
    struct rk_slice key;    /* of its ready list: begins all its other keys */
    struct rk_slice none;   /* key that never exists: see lua/queue.lua */
    struct rk_slice flight; /* key of its deliveries */
    uint8_t bytes[];
};

struct rk_queue_store {
    struct rk_map topics;
    struct rk_map numbers;
    struct rk_heap looks;
    struct rk_redis_subscription wake;
    struct rk_slice channel;
    struct rk_slice topics_keys[3]; /* of the list of topics: name, number, order */
    struct rk_buf keys;             /* where those stand */
    uint64_t sweep_ms;
    uint32_t sweeps; /* scripts of a sweep under way, and one for the page */
    struct rk_buf sweep_after;
};

/* The arguments of a script, in the store's arena; what is common comes first. */
struct rk_args {
    struct rk_store *store;
    struct rk_slice *items; /* NULL: no memory */
    uint32_t count, capacity;
};

/* --- queues_topics.c */

/* What stands between the first '{' and the first '}' after it, or empty. */
struct rk_slice rk_topic_tag(struct rk_slice name);
/* Appends `q:{name}`; of a name with a tag `q:{tag}name`, so that topics of one tag stand
 * in one slot of Redis, too. Dead letters end in `:dead`. area: "q:" or "q:inflight:". */
void rk_topic_key(struct rk_buf *out, const char *prefix, const char *area,
                  struct rk_slice name);
/* Known, or made: NULL without memory. Lent until the loop turns, unless held. */
struct rk_store_topic *rk_topic_make(struct rk_store *store, struct rk_slice name);
/* Known, or made: NULL without memory. Held until the call ends. */
struct rk_store_topic *rk_topic_hold(struct rk_ask *call, struct rk_slice name);
struct rk_store_topic *rk_topic_of_number(struct rk_store *store, uint64_t number);
/* Its number is that; 0: not known. */
void rk_topic_numbered(struct rk_store *store, struct rk_store_topic *topic,
                       uint64_t number);

/* --- queues.c */

void rk_args_begin(struct rk_args *args, struct rk_ask *call, const char *op,
                   uint32_t capacity);
void rk_args_add(struct rk_args *args, struct rk_slice item);
void rk_args_text(struct rk_args *args, const char *text);
void rk_args_number(struct rk_args *args, uint64_t number);
/* Runs the script on the call's topic; `other` may be NULL. */
void rk_args_eval(struct rk_args *args, struct rk_ask *call, enum rk_store_script_id script,
                  const struct rk_store_topic *other, rk_ask_heard *answered);
/* Enters `name` into the list of topics, for the call, which goes on in `answered`. */
void rk_topic_list(struct rk_ask *call, struct rk_slice name, rk_ask_heard *answered);
/* The number in the answer to that; 0: the call was answered with why there is none. */
uint64_t rk_topic_listed(struct rk_ask *call, const struct redisReply *reply);

/* --- queues_consume.c */

void rk_consume_start(struct rk_ask *call);
/* The topic may have something for those who wait. */
void rk_topic_woken(struct rk_store *store, struct rk_store_topic *topic);
/* Those who wait for it, if any, look at that moment. */
void rk_topic_look_by(struct rk_store *store, struct rk_store_topic *topic, uint64_t at_ms);
/* A look ended without an answer of the script. */
void rk_topic_looked(struct rk_ask *call);
void rk_consume_park_end(struct rk_ask *call);

/* --- queues_ids.c */

void rk_ids_start(struct rk_ask *call);

/* --- queues_walk.c */

void rk_walk_start(struct rk_ask *call); /* list; stats of all topics */
void rk_topic_announce(struct rk_store *store, const struct rk_store_topic *topic);
void rk_sweep(struct rk_store *store, uint64_t now);

/* --- queues_reply.c */

/* How a script's answer begins. True: it did what it was asked for, and what it says comes
 * from element 3 on. False: the call was answered with the refusal; *needs_listing is set
 * instead if the topic has to be listed first. */
bool rk_script_ok(struct rk_ask *call, const struct redisReply *reply, bool *needs_listing);
uint64_t rk_answer_number(const struct redisReply *reply, size_t at);
struct rk_slice rk_answer_text(const struct redisReply *reply);
/* The body of a message as Redis keeps it, and back. */
void rk_body_encode(struct rk_buf *out, const struct rk_message_in *in);
uint64_t rk_body_headers_size(struct rk_headers headers);
/* From one of a consume or peek. RK_EPROTO: not what the scripts write. */
RK_MUST_CHECK enum rk_status rk_message_read(struct rk_store *store,
                                             const struct redisReply *line,
                                             bool is_delivery, bool is_dead,
                                             struct rk_delivery_out *out);
/* That went wrong: the call's answer. */
void rk_ask_unreadable(struct rk_ask *call, enum rk_status status);
void rk_stats_read(const struct redisReply *reply, struct rk_topic_stats *out);
#endif
