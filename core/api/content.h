/* content.h - what both engines hold of queues and caches, one thing at a time.
 *
 * It is how data goes from one engine to the other: the machine of a group gives and takes
 * such things (state/contents.h), and so does Redis (redis/import.h). All slices are
 * borrowed. Times are ms since 1970, 0 where there is none. */
#ifndef RK_API_CONTENT_H
#define RK_API_CONTENT_H

#include "base/bytes.h"

enum rk_content_kind {
    RK_CONTENT_TOPIC,   /* before what stands in it */
    RK_CONTENT_MESSAGE, /* of one topic: in publish order */
    RK_CONTENT_WINDOW,  /* a publish id or unique key that stands for a message */
    RK_CONTENT_TOPIC_FENCE,
    RK_CONTENT_CACHE, /* before its entries */
    RK_CONTENT_ENTRY,
    RK_CONTENT_CACHE_FENCE,
    RK_CONTENT_KINDS
};

struct rk_content_topic {
    uint64_t visibility_ms, deliveries_max, retry_ms, retry_max_ms, dedup_ms, ttl_ms;
    uint64_t messages_max, bytes_max;
    uint64_t published, delivered, acked, failed, expired;
    uint64_t last; /* no message of it has a higher number */
    bool is_paused;
};

struct rk_content_message {
    uint64_t number;
    struct rk_slice headers; /* encoded; empty: none */
    struct rk_slice group;
    struct rk_slice unique_key; /* goes with the message */
    uint64_t expires_at;
    uint64_t delay; /* 0: it is ready, else when it is: is_absolute tells what it says */
    uint32_t attempt, deliveries, failures;
    uint8_t priority;
    uint8_t unique_scope; /* enum rk_unique_scope; 0: no such key */
    bool is_delayed, is_absolute;
    bool is_settled;
};

struct rk_content_window {
    struct rk_slice home; /* the topic of the message, which may be gone */
    uint64_t number;
    uint64_t expires_at;
    bool is_unique; /* a unique key, else a publish id */
};

struct rk_content_cache {
    uint64_t ttl_ms;
    uint64_t bytes_max; /* of the group that says so; 0: the usual */
    bool has_policy;    /* another one than the usual */
};

struct rk_content_entry {
    uint64_t version;
    uint64_t expires_at;
    uint64_t soft_at;
};

struct rk_content_fence {
    uint64_t highest;
    bool is_named; /* key is the fence's name; else, in a cache, an entry's key */
};

struct rk_content {
    enum rk_content_kind kind;
    struct rk_slice name;  /* of the topic or cache */
    struct rk_slice key;   /* of an entry, a window or a fence */
    struct rk_slice value; /* of a message or entry */
    uint8_t encoding;      /* enum rk_encoding, of value */
    union {
        struct rk_content_topic topic;
        struct rk_content_message message;
        struct rk_content_window window;
        struct rk_content_cache cache;
        struct rk_content_entry entry;
        struct rk_content_fence fence;
    };
};

/* Anything but RK_OK ends what gives it. */
typedef enum rk_status rk_content_take(void *context, const struct rk_content *content);
#endif
