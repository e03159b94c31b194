/* queues.h - inside core/state: topics, their messages and publish dedup.
 *
 * A message is ready, delayed or in flight; of an ordering group only the oldest can be
 * handed out. What can be handed out ("poppable") stands in the topic's ready structure:
 * a list for each priority for what comes in publish order, as nearly all does, and a heap
 * for what came back between others. No operation on a message is O(n) in messages. */
#ifndef RK_STATE_QUEUES_H
#define RK_STATE_QUEUES_H

#include "state/fences.h"
#include "state/names.h"
#include "state/object.h"

enum {
    RK_TOPICS_MAX = 100000,         /* a group; dead letters' topics come on top */
    RK_CONSUME_BYTES_MAX = 1 << 20, /* of bodies in one answer, after the first message */
    RK_PRIORITY_COUNT = 10,
    RK_PURGE_SLICE = 4096, /* messages removed by one entry; a purge of more goes on */

    RK_TOPIC_VISIBILITY_MS = 30000, /* the settings of a topic that nobody configured */
    RK_TOPIC_DELIVERIES_MAX = 16,
    RK_TOPIC_RETRY_MS = 1000,
    RK_TOPIC_RETRY_MAX_MS = 300000,
    RK_TOPIC_DEDUP_MS = 300000,

    /* Logical bytes beside keys and bodies, near what the allocator gives: version 1. */
    RK_TOPIC_BYTES = 768,
    RK_MESSAGE_BYTES = 320,
    RK_DEDUP_BYTES = 224,
};

enum rk_message_state { /* stand in records */
                        RK_MESSAGE_READY = 0,
                        RK_MESSAGE_DELAYED = 1,
                        RK_MESSAGE_IN_FLIGHT = 2,
};

struct rk_topic_settings {
    uint64_t visibility_ms;
    uint64_t deliveries_max; /* 0: no bound (dead letters never die again) */
    uint64_t retry_ms;
    uint64_t retry_max_ms;
    uint64_t dedup_ms;
    uint64_t ttl_ms;       /* 0: none */
    uint64_t messages_max; /* 0: none */
    uint64_t bytes_max;    /* 0: none */
};

struct rk_topic {
    struct rk_object object; /* first */
    struct rk_map_node node;
    struct rk_name_node name_node;
    struct rk_topic_settings settings;
    uint64_t order;        /* the last one given to a message */
    uint64_t purged_order; /* messages up to it are gone; their memory follows in slices */
    uint64_t published, delivered, acked, failed, expired;
    bool is_paused;
    bool is_dead; /* holds dead letters: the name ends so */
    uint16_t slot;

    /* Derived. */
    uint64_t bytes;
    uint64_t message_count;
    uint64_t state_counts[3]; /* by enum rk_message_state */
    uint64_t poppable;
    uint64_t event_index;    /* the entry that said so last that something is ready */
    struct rk_list messages; /* by order */
    struct rk_list purged;   /* to be removed; counted nowhere, but block their groups */
    struct rk_map groups;    /* struct rk_order_group by key */
    struct rk_list fifo[RK_PRIORITY_COUNT];
    struct rk_heap returned;
    size_t name_size;
    uint8_t name[];
};

/* The messages of a topic that share an ordering key. Exists while there is one. */
struct rk_order_group {
    struct rk_map_node node;
    struct rk_list messages; /* by order; the first blocks the others */
    size_t key_size;
    uint8_t key[];
};

/* A publish id in its window (scope RK_UNIQUE_NONE), or a unique key. */
struct rk_dedup {
    struct rk_object object; /* first */
    struct rk_map_node node;
    uint64_t message;    /* number of the first one; it may be gone */
    uint64_t expires_at; /* 0: goes with its message */
    uint8_t scope;       /* enum rk_unique_scope */
    size_t key_size;
    uint8_t key[]; /* u64 topic id, u8 whether it is a unique key, the key */
};

struct rk_message {
    struct rk_object object; /* first; its id is the message number */
    struct rk_topic *topic;
    struct rk_order_group *group; /* NULL: none */
    struct rk_dedup *unique;      /* the unique key that goes with it, or NULL */
    struct rk_list topic_link;
    struct rk_list group_link;
    struct rk_list ready_link;      /* in a fifo list of the topic, */
    struct rk_heap_node ready_node; /* or in its heap, or neither */
    uint64_t topic_id;
    uint64_t order; /* in publish order within the topic */
    uint64_t published_ms;
    uint64_t expires_at; /* group time; 0: never */
    uint32_t attempt;    /* hand-outs: what delivery ids carry; never goes back */
    uint32_t deliveries; /* hand-outs that count towards the dead letters */
    uint32_t failures;
    uint8_t state;   /* enum rk_message_state */
    bool is_settled; /* the last delivery was given back: nothing is accepted for it */
    uint8_t priority;
    uint8_t encoding;
    uint32_t data_size;
    uint32_t headers_size;
    uint32_t group_size;
    uint8_t bytes[]; /* data, headers (encoded), group key */
};

struct rk_queues {
    struct rk_map topics; /* by name */
    struct rk_names names;
    struct rk_map dedups;
    struct rk_fences fences; /* of caches too */
};

/* --- queues_topic.c: topics and where their messages stand */

struct rk_topic *rk_topic_find(const struct rk_machine *machine, struct rk_slice name);
/* Enters a topic with default settings. RK_ENOMEM. */
RK_MUST_CHECK enum rk_status rk_topic_enter(struct rk_machine *machine,
                                            struct rk_slice name, uint64_t id,
                                            struct rk_topic **out);
static inline struct rk_slice rk_topic_name(const struct rk_topic *topic)
{
    return rk_slice_of(topic->name, topic->name_size);
}
/* The topic of its dead letters, NULL if there is none yet or it holds such itself. */
struct rk_topic *rk_topic_dead(const struct rk_machine *machine,
                               const struct rk_topic *topic);

static inline struct rk_slice rk_message_data(const struct rk_message *message)
{
    return rk_slice_of(message->bytes, message->data_size);
}
static inline struct rk_slice rk_message_headers(const struct rk_message *message)
{
    return rk_slice_of(message->bytes + message->data_size, message->headers_size);
}
static inline struct rk_slice rk_message_group(const struct rk_message *message)
{
    return rk_slice_of(message->bytes + message->data_size + message->headers_size,
                       message->group_size);
}
/* Its logical bytes for those sizes. */
uint32_t rk_message_cost(size_t data_size, size_t headers_size, size_t group_size);
/* First in the topic's ready order, NULL if nothing can be handed out. */
struct rk_message *rk_message_first_ready(const struct rk_topic *topic);
/* Puts a message, whose order and state are set, at the end of a topic. apply may be NULL:
 * no event then (restore). RK_ENOMEM. */
RK_MUST_CHECK enum rk_status rk_message_attach(struct rk_apply *apply,
                                               struct rk_message *message,
                                               struct rk_topic *topic);
/* Takes it out of its topic; the next of its group may become ready. RK_ENOMEM. */
RK_MUST_CHECK enum rk_status rk_message_detach(struct rk_apply *apply,
                                               struct rk_message *message);
/* Changes the state and what follows from it; not the timer. RK_ENOMEM. */
RK_MUST_CHECK enum rk_status rk_message_move(struct rk_apply *apply,
                                             struct rk_message *message,
                                             enum rk_message_state state);
/* Detaches, leaves and frees. RK_ENOMEM. */
RK_MUST_CHECK enum rk_status rk_message_remove(struct rk_machine *machine,
                                               struct rk_apply *apply,
                                               struct rk_message *message);
/* Makes a touched message ready and times its expiry. RK_ENOMEM. */
RK_MUST_CHECK enum rk_status rk_message_make_ready(struct rk_machine *machine,
                                                   struct rk_apply *apply,
                                                   struct rk_message *message);
static inline bool rk_message_is_expired(const struct rk_message *message, uint64_t now)
{
    return message->expires_at != 0 && now >= message->expires_at;
}
/* Purged and not removed yet: gone for every call. */
static inline bool rk_message_is_purged(const struct rk_message *message)
{
    return message->order <= message->topic->purged_order;
}
/* Purges all messages of a touched topic: O(1). Then sweep. */
void rk_topic_purge(struct rk_topic *topic);
/* Removes a slice of what was purged, and times the next. RK_ENOMEM. */
RK_MUST_CHECK enum rk_status rk_topic_sweep(struct rk_machine *machine,
                                            struct rk_apply *apply, struct rk_topic *topic);
enum rk_status rk_topic_due(struct rk_machine *machine, struct rk_apply *apply,
                            struct rk_object *object);
/* Tells that the topic has something to hand out, once an entry. */
void rk_topic_tell_ready(struct rk_apply *apply, struct rk_topic *topic);

/* Enters a message, in no topic yet, with the fields (all but object) and copies of data,
 * headers and group. RK_ENOMEM. */
RK_MUST_CHECK enum rk_status rk_message_enter(struct rk_machine *machine,
                                              const struct rk_message *fields,
                                              const struct rk_slice parts[3], uint64_t id,
                                              struct rk_object **out);

/* --- queues_dedup.c */

/* The live record of that key (is_unique: of a unique key, else of a publish id), or NULL.
 * One whose window is over is NULL too, even while it is still there. */
struct rk_dedup *rk_dedup_find(const struct rk_machine *machine,
                               const struct rk_topic *topic, bool is_unique,
                               struct rk_slice key, uint64_t now);
/* Remembers the key for `message` (a number); an outdated record is replaced. Scope QUEUED
 * and ACKED live with `holder`. RK_ENOMEM. */
RK_MUST_CHECK enum rk_status
rk_dedup_remember(struct rk_machine *machine, struct rk_apply *apply,
                  struct rk_topic *topic, enum rk_unique_scope scope, struct rk_slice key,
                  uint64_t message, struct rk_message *holder);
/* Remembers a publish id or unique key for a window that ends at a given time, unless it is
 * known. RK_ENOMEM. */
RK_MUST_CHECK enum rk_status rk_dedup_fill(struct rk_machine *machine,
                                           struct rk_topic *topic, bool is_unique,
                                           struct rk_slice key, uint64_t message,
                                           uint64_t expires_at);
/* Gives up the unique key that goes with the message, if any. RK_ENOMEM. */
RK_MUST_CHECK enum rk_status rk_dedup_release(struct rk_machine *machine,
                                              struct rk_message *message);
RK_MUST_CHECK enum rk_status rk_dedup_restored(struct rk_machine *machine,
                                               struct rk_dedup *dedup);
/* Its class of objects. */
void rk_dedup_encode(const struct rk_machine *machine, const struct rk_object *object,
                     struct rk_buf *out);
enum rk_status rk_dedup_restore(struct rk_machine *machine, struct rk_reader *body,
                                uint64_t id, struct rk_object **out);
enum rk_status rk_dedup_due(struct rk_machine *machine, struct rk_apply *apply,
                            struct rk_object *object);
void rk_dedup_free(struct rk_machine *machine, struct rk_object *object);

/* --- queues_publish.c */

enum rk_status rk_queue_publish(struct rk_machine *machine, struct rk_apply *apply);

/* --- queues_deliver.c: hand-out and what becomes of it */

enum rk_status rk_queue_consume(struct rk_machine *machine, struct rk_apply *apply);
enum rk_status rk_queue_ack(struct rk_machine *machine, struct rk_apply *apply);
enum rk_status rk_queue_nack(struct rk_machine *machine, struct rk_apply *apply);
enum rk_status rk_queue_extend(struct rk_machine *machine, struct rk_apply *apply);
enum rk_status rk_queue_return(struct rk_machine *machine, struct rk_apply *apply);
enum rk_status rk_queue_delete(struct rk_machine *machine, struct rk_apply *apply);
/* Its history ends: in flight, it is ready again, and was not handed out. RK_ENOMEM. */
RK_MUST_CHECK enum rk_status rk_message_retire(struct rk_machine *machine,
                                               struct rk_apply *apply,
                                               struct rk_message *message);
enum rk_status rk_message_due(struct rk_machine *machine, struct rk_apply *apply,
                              struct rk_object *object);

/* --- queues_admin.c */

enum rk_status rk_queue_configure(struct rk_machine *machine, struct rk_apply *apply);
enum rk_status rk_queue_pause(struct rk_machine *machine, struct rk_apply *apply);
enum rk_status rk_queue_resume(struct rk_machine *machine, struct rk_apply *apply);
enum rk_status rk_queue_purge(struct rk_machine *machine, struct rk_apply *apply);
enum rk_status rk_queue_redrive(struct rk_machine *machine, struct rk_apply *apply);

/* --- queues_read.c */

/* Fills a line for consume (is_delivery: with the delivery's id) or peek. RK_ENOMEM. */
RK_MUST_CHECK enum rk_status rk_message_show(const struct rk_machine *machine,
                                             const struct rk_message *message,
                                             bool is_delivery, struct rk_arena *arena,
                                             struct rk_delivery_out *out);
/* The text of a message id, in arena; empty without memory. */
struct rk_slice rk_message_id_text(const struct rk_machine *machine,
                                   const struct rk_topic *topic, uint64_t number,
                                   uint32_t attempt, struct rk_arena *arena);
enum rk_status rk_queue_peek(struct rk_machine *machine, const struct rk_request *request,
                             uint64_t now, struct rk_arena *arena, struct rk_reply *reply);
enum rk_status rk_queue_info(struct rk_machine *machine, const struct rk_request *request,
                             uint64_t now, struct rk_arena *arena, struct rk_reply *reply);
enum rk_status rk_queue_list(struct rk_machine *machine, const struct rk_request *request,
                             uint64_t now, struct rk_arena *arena, struct rk_reply *reply);
enum rk_status rk_queue_stats(struct rk_machine *machine, const struct rk_request *request,
                              uint64_t now, struct rk_arena *arena, struct rk_reply *reply);
#endif
