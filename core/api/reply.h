/* reply.h - one reply struct for every operation; the table says which fields it shows.
 *
 * All slices and arrays are borrowed from whoever filled the reply. */
#ifndef RK_API_REPLY_H
#define RK_API_REPLY_H

#include "api/request.h"

enum rk_outcome { RK_OUTCOME_NOT_DONE = 0, RK_OUTCOME_UNKNOWN = 1 };

struct rk_holder {
    struct rk_slice owner;
    struct rk_slice session;
    uint8_t mode;
    uint64_t fence;
    uint64_t lease_left_ms;
    uint32_t count; /* reentrant holds */
};

struct rk_waiter {
    struct rk_slice owner;
    uint8_t mode;
    uint64_t waited_ms;
    int32_t priority;
};

/* A lock in lock.list, a session in session.list, a topic in queue.list. */
struct rk_listed {
    struct rk_slice name;
    uint8_t mode;
    uint64_t holder_count;
    uint64_t waiter_count;
    uint64_t fence;
    uint64_t ttl_ms;
    uint64_t message_count;
};

/* An edge of lock.graph, and of a deadlock's cycle: owner waits for resource held by `by`.
 */
struct rk_wait_edge {
    struct rk_slice owner;
    struct rk_slice resource;
    struct rk_slice by;
};

struct rk_delivery_out {
    struct rk_slice id;         /* the delivery: what ack takes */
    struct rk_slice message_id; /* the message */
    struct rk_value message;
    uint32_t attempt; /* 1 at the first delivery */
    uint8_t priority;
    struct rk_slice group;
    struct rk_headers headers;
    struct rk_slice state; /* peek: "ready", "delayed", "in_flight", "dead" */
};

/* One line of a bulk ack, nack, extend, publish, delete. */
struct rk_result {
    struct rk_slice id; /* or key */
    enum rk_status status;
    uint64_t version;
    bool deleted;
};

struct rk_entry_out { /* one line of a bulk cache.get */
    struct rk_slice key;
    bool found;
    bool stale;
    struct rk_value value;
    uint64_t version;
};

struct rk_topic_stats {
    uint64_t ready, delayed, in_flight, dead, bytes;
    uint64_t published, delivered, acked, failed, expired;
    bool paused;
    uint64_t visibility_ms, deliveries_max, retry_ms, retry_max_ms, dedup_ms, ttl_ms;
    uint64_t messages_max, bytes_max;
};

struct rk_cache_stats {
    uint64_t entries, bytes, bytes_max, hits, misses, evicted, expired;
};

struct rk_reply {
    enum rk_op op;
    enum rk_status status; /* RK_OK, or a problem document is made of the error fields */

    /* Position of the group after this reply; the host fills it. */
    uint32_t position_group;
    uint64_t position_index;
    uint64_t position_history;
    /* Of an answer over several groups instead; not in the log form. */
    struct rk_position_item *positions;
    uint32_t position_count;

    /* Errors. text is one impersonal line with values; field the offending field's name. */
    char text[256];
    struct rk_slice field;
    uint8_t outcome; /* enum rk_outcome */
    uint64_t retry_after_ms;
    struct rk_slice leader; /* address of the leader where known */

    /* Answers. */
    bool granted;
    bool renewed;
    bool released;
    bool held;
    bool closed;
    bool ok;
    bool ack;
    bool found;
    bool stale;
    bool deleted;
    bool touched;
    bool cancelled;
    bool is_bulk;
    uint8_t mode;
    uint64_t fence;
    uint64_t lease_ms;
    uint64_t ttl_ms;
    uint64_t visibility_ms;
    uint64_t version;
    uint64_t count;       /* purge, redrive, invalidate: how many */
    int64_t number_value; /* cache.add */
    struct rk_slice session;
    struct rk_slice resource;
    struct rk_slice topic;
    struct rk_slice id;
    struct rk_slice fill_token;
    struct rk_slice after; /* lists: pass as `after` for the next page; empty at the end */
    struct rk_value value;

    struct rk_holder *holders;
    uint32_t holder_count;
    struct rk_waiter *waiters;
    uint32_t waiter_count;
    struct rk_wait_edge *edges; /* lock.graph; the cycle of a deadlock */
    uint32_t edge_count;
    struct rk_delivery_out *messages; /* consume, peek; [0] is the single form */
    uint32_t message_count;
    struct rk_result *results;
    uint32_t result_count;
    struct rk_entry_out *entries;
    uint32_t entry_count;
    struct rk_listed *listed;
    uint32_t listed_count;
    struct rk_strings ids; /* bulk publish */
    const struct rk_topic_stats *topic_stats;
    const struct rk_cache_stats *cache_stats;
    struct rk_slice durability; /* of stats: what an answered write is worth; not in the
                                 * log form: whoever answers says it */
    struct rk_value
        document; /* cluster.info and the like: a JSON text made by the server */
};

/* Its position as clients see it; one is room for the usual single item. */
static inline struct rk_position rk_reply_position(const struct rk_reply *reply,
                                                   struct rk_position_item *one)
{
    *one = (struct rk_position_item){reply->position_group, reply->position_index};
    if (reply->position_count == 0)
        return (struct rk_position){reply->position_history, one, 1};
    return (struct rk_position){reply->position_history, reply->positions,
                                reply->position_count};
}
#endif
