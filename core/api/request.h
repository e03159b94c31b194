/* request.h - one request struct for every operation, whatever it came in as.
 *
 * JSON, msgpack, the raw paths, the log and the peer links all decode into this; the
 * table in operations.def says which fields an operation has and within which bounds.
 * All slices and arrays are borrowed from the decoded input or the decode's arena. */
#ifndef RK_API_REQUEST_H
#define RK_API_REQUEST_H

#include "base/bytes.h"

enum {
    RK_NAME_MAX = 512,          /* bytes of UTF-8 in any name */
    RK_BATCH_MAX = 1000,        /* ids, keys, messages, resources in one call */
    RK_VALUE_MAX = 3145728,     /* bytes of a value; a node may allow fewer */
    RK_DEPTH_MAX = 64,          /* nesting of JSON or msgpack */
    RK_MSGPACK_MAX = 16777216,  /* bytes of one msgpack object: a call or its answer */
    RK_DEADLINE_MAX_MS = 600000 /* a request is dropped after this in any case */
};

/* Fixed for ever: they stand in logs. Internal operations never come from clients. */
enum rk_op {
    RK_OP_NONE = 0,
    RK_OP_SESSION_OPEN = 1,
    RK_OP_SESSION_KEEPALIVE = 2, /* never in the log: confirmed by a quorum round */
    RK_OP_SESSION_CLOSE = 3,
    RK_OP_SESSION_LIST = 4,
    RK_OP_LOCK_ACQUIRE = 10,
    RK_OP_LOCK_RENEW = 11,
    RK_OP_LOCK_RELEASE = 12,
    RK_OP_LOCK_CANCEL = 13,
    RK_OP_LOCK_CHECK = 14,
    RK_OP_LOCK_INFO = 15,
    RK_OP_LOCK_LIST = 16,
    RK_OP_LOCK_BREAK = 17,
    RK_OP_LOCK_GRAPH = 18,
    RK_OP_QUEUE_PUBLISH = 30,
    RK_OP_QUEUE_CONSUME = 31,
    RK_OP_QUEUE_ACK = 32,
    RK_OP_QUEUE_NACK = 33,
    RK_OP_QUEUE_EXTEND = 34,
    RK_OP_QUEUE_PEEK = 35,
    RK_OP_QUEUE_INFO = 36,
    RK_OP_QUEUE_DELETE = 37,
    RK_OP_QUEUE_LIST = 38,
    RK_OP_QUEUE_STATS = 39,
    RK_OP_QUEUE_CONFIGURE = 40,
    RK_OP_QUEUE_PAUSE = 41,
    RK_OP_QUEUE_RESUME = 42,
    RK_OP_QUEUE_PURGE = 43,
    RK_OP_QUEUE_REDRIVE = 44,
    RK_OP_CACHE_GET = 60,
    RK_OP_CACHE_PUT = 61,
    RK_OP_CACHE_DELETE = 62,
    RK_OP_CACHE_TOUCH = 63,
    RK_OP_CACHE_ADD = 64,
    RK_OP_CACHE_INVALIDATE = 65,
    RK_OP_CACHE_CONFIGURE = 66,
    RK_OP_CACHE_STATS = 67,
    RK_OP_CLUSTER_INFO = 80,
    RK_OP_CLUSTER_ADD = 81,
    RK_OP_CLUSTER_PROMOTE = 82,
    RK_OP_CLUSTER_REMOVE = 83,
    RK_OP_CLUSTER_REPLACE = 84,
    RK_OP_CLUSTER_TRANSFER = 85,
    /* Internal. */
    RK_OP_CALL_CANCEL = 100, /* cancel(client, seq): target_client, target_seq */
    RK_OP_DUE = 101,         /* due[]: timers that ran out at the leader */
    RK_OP_TOUCH = 102,       /* cache, keys[]: recency of reads, batched */
    RK_OP_BIRTH = 103,       /* history, fence_floor: first entry of a history */
    RK_OP_MACHINE_VERSION = 104,
    RK_OP_QUEUE_RETURN = 105, /* ids[]: deliveries that never left; uncounted */
    RK_OP_MEMBERS = 106,      /* value: the encoded member table (group 0) */
    RK_OP_LOCK_RETURN = 107,  /* resource, owner, fence: a grant whose client left */
    RK_OP_ELAPSED = 108,      /* due[], number: ms of their time that a leader saw pass */
    RK_OP_MAX = 128
};

enum rk_encoding {
    RK_ENCODING_NONE = 0,
    RK_ENCODING_JSON,
    RK_ENCODING_MSGPACK,
    RK_ENCODING_RAW
};

/* A user's value: bytes as they came, and what they are. */
struct rk_value {
    struct rk_slice bytes;
    uint8_t encoding; /* enum rk_encoding; NONE: absent (in replies: null) */
};

enum rk_mode { RK_MODE_EXCLUSIVE = 0, RK_MODE_SHARED = 1 };

enum rk_consistency {
    RK_CONSISTENCY_DEFAULT = 0,
    RK_CONSISTENCY_LOCAL,
    RK_CONSISTENCY_LINEARIZABLE
};

enum rk_unique_scope {
    RK_UNIQUE_NONE = 0,
    RK_UNIQUE_QUEUED,
    RK_UNIQUE_ACKED,
    RK_UNIQUE_WINDOW
};

struct rk_strings {
    struct rk_slice *items;
    uint32_t count;
};

struct rk_header {
    struct rk_slice name;
    struct rk_slice value;
};

struct rk_headers {
    struct rk_header *items;
    uint32_t count;
};

/* An item of queue.publish {messages}; the single form is decoded into messages[0]. */
struct rk_message_in {
    struct rk_value data;
    struct rk_slice publish_id;
    struct rk_slice unique_key;
    uint8_t unique_scope; /* enum rk_unique_scope */
    uint8_t priority;     /* 0-9, 9 first */
    struct rk_slice group;
    uint64_t delay_ms;
    uint64_t deliver_at; /* ms since 1970 in group time; 0: unset */
    uint64_t ttl_ms;     /* 0: the topic's */
    struct rk_headers headers;
};

/* An item of lock.acquire {resources}; the single form is decoded into resources[0]. */
struct rk_resource_in {
    struct rk_slice resource;
    uint8_t mode; /* enum rk_mode */
};

/* An item of RK_OP_DUE and RK_OP_ELAPSED. */
struct rk_due_in {
    uint8_t kind; /* enum rk_object_kind of state */
    uint64_t id;
    uint64_t generation;
};

struct rk_position_item {
    uint32_t group;
    uint64_t index;
};

/* What a client has seen. As text: "<history hex>:<group>=<index>,<group>=<index>". */
struct rk_position {
    uint64_t history; /* 0: no position */
    struct rk_position_item *items;
    uint32_t count;
};

/* Whether a field was given: RK_HAS(request, IF_VERSION), names as in fields.def. Defaults
 * are already filled in where it was not. */
#define RK_HAS(request, field) (((request)->present & RK_FIELD_BIT_##field) != 0)

struct rk_request {
    enum rk_op op;
    uint64_t present; /* RK_FIELD_BIT_*, generated from fields.def */

    /* The call: any operation may carry these. */
    struct rk_slice client; /* empty: the receiving node gives one */
    uint64_t seq;
    uint64_t first_unanswered;
    uint64_t deadline_ms; /* from reception; 0: the operation's default */
    struct rk_position position;
    bool forward; /* default true; false: 421 instead of forwarding */

    /* Names. */
    struct rk_slice resource;
    struct rk_slice owner;
    struct rk_slice session;
    struct rk_slice topic;
    struct rk_slice consumer;
    struct rk_slice cache;
    struct rk_slice key;
    struct rk_slice id;
    struct rk_slice name;
    struct rk_slice fence_name;
    struct rk_slice fill_token;
    struct rk_slice prefix;
    struct rk_slice after;
    struct rk_slice to;            /* cluster.transfer: node name; queue.redrive: topic */
    struct rk_slice target_client; /* "client" of lock.cancel, call.cancel */
    struct rk_slice peer;          /* addresses of cluster.add and replace */
    struct rk_slice http;
    struct rk_slice rpc;
    struct rk_slice policy; /* cache.configure: "s3fifo" or "lru" */

    /* Lists. */
    struct rk_strings ids;  /* the single form `id` is decoded into ids too */
    struct rk_strings keys; /* likewise `key` for cache.get and cache.delete */
    struct rk_message_in *messages;
    uint32_t message_count;
    struct rk_resource_in *resources;
    uint32_t resource_count;
    struct rk_resource_in single_resource; /* for rk_request_check: see there */
    struct rk_due_in *due;
    uint32_t due_count;
    bool is_bulk; /* the plural form was used: answer in the plural */

    struct rk_value value;

    /* Numbers. */
    uint64_t ttl_ms;
    uint64_t soft_ttl_ms;
    uint64_t lease_ms;
    uint64_t wait_ms;
    uint64_t min_hold_ms;
    uint64_t max_hold_ms;
    uint64_t lock_delay_ms;
    uint64_t delay_ms;
    uint64_t visibility_ms;
    uint64_t fill_ms;
    uint64_t fence;
    uint64_t if_version;
    uint64_t target_seq;
    uint64_t limit;
    uint64_t max;
    uint64_t number;   /* node number; machine version */
    uint64_t group_id; /* "group" of cluster.transfer */
    uint64_t history;
    uint64_t fence_floor;
    uint64_t deliveries_max;
    uint64_t retry_ms;
    uint64_t retry_max_ms;
    uint64_t dedup_ms;
    uint64_t messages_max;
    uint64_t bytes_max;
    int64_t delta;
    int64_t initial;
    int32_t priority;
    uint8_t mode;        /* enum rk_mode */
    uint8_t consistency; /* enum rk_consistency */
    bool if_absent;
    bool reentrant;
    bool dead;
};
#endif
