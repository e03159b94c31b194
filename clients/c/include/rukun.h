/* rukun.h - Rukun's client library: locks, queues and caches.
 *
 * One client has one I/O thread that does the network, renews sessions and reconnects, so
 * a busy application never loses a lock. All functions are thread-safe unless said
 * otherwise. Text arguments are NUL-terminated UTF-8, 1 to 512 bytes, borrowed for the
 * call. Durations are milliseconds. What comes back through `out` is the caller's, to be
 * given to its `_free`; a child (lock, deliveries, value) retains its client, so the
 * order of frees does not matter, and freeing NULL is fine. `err` may be NULL. Nothing
 * here aborts the process: programmer errors return RUKUN_EINVAL.
 *
 * Option structs: call `_init` first; it sets struct_size and the defaults. */
#ifndef RUKUN_H
#define RUKUN_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#if defined(SWIG)
#define RUKUN_API
#define RUKUN_MUST_CHECK
#else
#define RUKUN_API        __attribute__((visibility("default")))
#define RUKUN_MUST_CHECK __attribute__((warn_unused_result))
#endif

/* The wire's codes; fixed for ever. Those that only the client gives are at the end. */
typedef enum rukun_status {
    RUKUN_OK = 0,
    RUKUN_EINVAL = -1,
    RUKUN_ENOMEM = -2,
    RUKUN_EEXIST = -3,
    RUKUN_ENOENT = -4,
    RUKUN_ELIMIT = -5,
    RUKUN_ERANGE = -6,
    RUKUN_EHELD = -7,
    RUKUN_ETIMEOUT = -8,
    RUKUN_EDEADLOCK = -9,
    RUKUN_ENOTOWNER = -10,
    RUKUN_ESTALE = -11,
    RUKUN_EGONE = -12,
    RUKUN_ESESSION = -13,
    RUKUN_EVERSION = -14,
    RUKUN_ESIZE = -15,
    RUKUN_EMEDIA = -16,
    RUKUN_ENOTLEADER = -17,
    RUKUN_EBUSY = -18,
    RUKUN_EUNAVAILABLE = -19,
    RUKUN_EUNKNOWN = -20,
    RUKUN_EFULL = -21,
    RUKUN_EAUTH = -22,
    RUKUN_EDENIED = -23,
    RUKUN_EMETHOD = -24,
    RUKUN_ECONVERT = -25,
    RUKUN_ECANCELLED = -26,
    RUKUN_EFENCE = -27,
    RUKUN_EVOID = -28,
    RUKUN_ECORRUPT = -29,
    RUKUN_EIO = -30,
    RUKUN_EPROTO = -31,
    RUKUN_ECLOSED = -32,
    RUKUN_EDROPPED = -33,
    RUKUN_ECONNECT = -34, /* no endpoint could be reached before the deadline */
    RUKUN_EFORK = -35,    /* the client was made before fork() */
    RUKUN_EPAUSED = -36,
    RUKUN_EUNSUPPORTED = -37,
    RUKUN_ELOST = -38 /* the lock is lost, or may be: its lease ran out by this clock */
} rukun_status;

typedef enum rukun_outcome { RUKUN_NOT_DONE = 0, RUKUN_OUTCOME_UNKNOWN = 1 } rukun_outcome;

typedef enum rukun_encoding {
    RUKUN_JSON = 1,    /* a JSON text */
    RUKUN_MSGPACK = 2, /* one msgpack object */
    RUKUN_RAW = 3      /* bytes of no known form */
} rukun_encoding;

typedef enum rukun_mode { RUKUN_EXCLUSIVE = 0, RUKUN_SHARED = 1 } rukun_mode;

#define RUKUN_WAIT_FOREVER UINT64_MAX
#define RUKUN_ID_SIZE      64 /* room for a message or delivery id with its NUL */

typedef struct rukun_client rukun_client;
typedef struct rukun_lock rukun_lock;
typedef struct rukun_deliveries rukun_deliveries;
typedef struct rukun_value rukun_value;
typedef struct rukun_text rukun_text;

/* Filled by a failed call; set struct_size (rukun_error_init) once before the first use. */
typedef struct rukun_error {
    uint32_t struct_size;
    rukun_status code;
    int retryable;
    int outcome; /* rukun_outcome */
    uint64_t request_id;
    uint64_t retry_after_ms;
    char node[64];
    char field[64];
    char message[256];
} rukun_error;

RUKUN_API void rukun_error_init(rukun_error *err);
/* "held", "not_owner" ...: the wire name; never NULL. */
RUKUN_API const char *rukun_status_name(rukun_status status);
RUKUN_API const char *rukun_version(void); /* "0.1.0" */

/* --- client */

typedef struct rukun_options {
    uint32_t struct_size;
    const char *endpoints;   /* "host:port,host:port" (RPC) or "http://host:port";
                              * NULL: RUKUN_ENDPOINTS, else 127.0.0.1:7500 */
    const char *name;        /* shown in session lists; NULL: program and pid */
    const char *token;       /* NULL: RUKUN_TOKEN, else none */
    uint64_t session_ttl_ms; /* 10000; 1000 to 3600000 */
    uint64_t deadline_ms;    /* of a call without a wait: 10000; 1 to 600000 */
    rukun_encoding values;   /* the form in which values that are no raw bytes are handed
                              * out: RUKUN_JSON, or RUKUN_MSGPACK. What JSON cannot
                              * express comes as RUKUN_MSGPACK all the same */
    int forward;             /* 1; 0: nodes must not forward (tests) */
    /* Asked every 50 ms while a call blocks, from the blocked thread; not 0: the call
     * is cancelled and returns RUKUN_ECANCELLED. May be NULL. */
    int (*interrupted)(void *context);
    void *context;
} rukun_options;

RUKUN_API void rukun_options_init(rukun_options *opts);
/* Makes a client and its I/O thread, and learns the cluster from any endpoint.
 * RUKUN_ECONNECT: none answered within deadline_ms.  RUKUN_EINVAL, RUKUN_EAUTH. */
RUKUN_API RUKUN_MUST_CHECK rukun_status rukun_client_open(rukun_client **out,
                                                          const rukun_options *opts,
                                                          rukun_error *err);
/* Ends what is under way with RUKUN_ECLOSED, closes the session (its locks are released at
 * once), stops the thread. Waits at most 1 s for the network. Idempotent. */
RUKUN_API void rukun_client_close(rukun_client *client);
RUKUN_API void rukun_client_free(rukun_client *client); /* closes first */
/* Makes every call that blocks now in any thread return RUKUN_ECANCELLED. */
RUKUN_API void rukun_client_interrupt(rukun_client *client);

/* Any operation by name, as JSON both ways: request and answer as in the API reference.
 * {"type": ...} problem documents become errors. The general way to everything that has no
 * function of its own here (configure, stats, info, list ...). */
RUKUN_API RUKUN_MUST_CHECK rukun_status rukun_call(rukun_text **out, rukun_client *client,
                                                   const char *operation,
                                                   const char *request, rukun_error *err);
RUKUN_API const char *rukun_text_data(const rukun_text *text); /* NUL-terminated */
RUKUN_API size_t rukun_text_size(const rukun_text *text);
RUKUN_API void rukun_text_free(rukun_text *text);

/* The cluster as the client knows it now: the document of GET /cluster. No network. */
RUKUN_API RUKUN_MUST_CHECK rukun_status rukun_client_cluster(rukun_text **out,
                                                             rukun_client *client,
                                                             rukun_error *err);

/* --- locks */

typedef struct rukun_lock_opts {
    uint32_t struct_size;
    rukun_mode mode;        /* RUKUN_EXCLUSIVE */
    uint64_t wait_ms;       /* 0: try; RUKUN_WAIT_FOREVER */
    uint64_t lease_ms;      /* 0: tied to the client's session; else a lease of its own that
                             * is not renewed: 100 to 86400000 */
    const char *owner;      /* NULL: a new one, so that each handle excludes the others */
    int priority;           /* 0; the lowest is a deadlock's victim; -1000 to 1000 */
    uint64_t min_hold_ms;   /* 0 */
    uint64_t max_hold_ms;   /* 0: none */
    uint64_t lock_delay_ms; /* 0 */
} rukun_lock_opts;

typedef enum rukun_lock_state {
    RUKUN_LOCK_SAFE = 0,     /* the lease has at least a third left */
    RUKUN_LOCK_JEOPARDY = 1, /* renewals fail; the lease has not run out */
    RUKUN_LOCK_LOST = 2,     /* ran out by this client's clock, or the server said so */
    RUKUN_LOCK_RELEASED = 3
} rukun_lock_state;

RUKUN_API void rukun_lock_opts_init(rukun_lock_opts *opts);
/* Takes the named lock. opts may be NULL for the defaults.
 * RUKUN_EHELD: held, and opts->wait_ms is 0.  RUKUN_ETIMEOUT: not granted within wait_ms.
 * RUKUN_EDEADLOCK: waiting would close a cycle; err->message names it.
 * RUKUN_ESESSION: the client's session expired; every lock it held is already gone.
 * RUKUN_EUNKNOWN: no answer before the deadline; the request is cancelled, so a late grant
 * cannot stay. */
RUKUN_API RUKUN_MUST_CHECK rukun_status rukun_lock_acquire(rukun_lock **out,
                                                           rukun_client *client,
                                                           const char *resource,
                                                           const rukun_lock_opts *opts,
                                                           rukun_error *err);
/* The fence: it rises with every grant. Send it along with each write that the lock
 * protects, and let the receiver refuse any fence below the highest it has seen. < 2^53. */
RUKUN_API uint64_t rukun_lock_fence(const rukun_lock *lock);
RUKUN_API const char *rukun_lock_resource(const rukun_lock *lock);
RUKUN_API const char *rukun_lock_owner(const rukun_lock *lock);
/* By this client's clock; no I/O. */
RUKUN_API rukun_lock_state rukun_lock_state_now(const rukun_lock *lock);
RUKUN_API uint64_t rukun_lock_left_ms(const rukun_lock *lock); /* of the lease; 0: lost */
/* RUKUN_OK while held by this client's clock, else RUKUN_ELOST. No I/O. */
RUKUN_API RUKUN_MUST_CHECK rukun_status rukun_lock_check(const rukun_lock *lock,
                                                         rukun_error *err);
/* RUKUN_ENOTOWNER: it was lost before. */
RUKUN_API RUKUN_MUST_CHECK rukun_status rukun_lock_release(rukun_lock *lock,
                                                           rukun_error *err);
RUKUN_API void rukun_lock_free(rukun_lock *lock); /* never blocks; a held lock's release is
                                                   * queued */

/* --- queues */

typedef struct rukun_publish_opts {
    uint32_t struct_size;
    const char *publish_id; /* NULL: none; a second publish of the same id within the
                             * topic's window returns the first one's message id */
    const char *group;      /* ordering group; NULL: none */
    uint64_t delay_ms;
    uint64_t ttl_ms; /* 0: the topic's */
    int priority;    /* 0 to 9, 9 first */
} rukun_publish_opts;

typedef struct rukun_message {
    const void *data;
    size_t size;
    rukun_encoding encoding;
} rukun_message;

typedef struct rukun_consume_opts {
    uint32_t struct_size;
    const char *consumer;   /* NULL: the client's name */
    uint32_t max;           /* 1; to 1000 */
    uint64_t wait_ms;       /* 0: what is there now; RUKUN_WAIT_FOREVER */
    uint64_t visibility_ms; /* 0: the topic's (30000) */
} rukun_consume_opts;

RUKUN_API void rukun_publish_opts_init(rukun_publish_opts *opts);
RUKUN_API void rukun_consume_opts_init(rukun_consume_opts *opts);

/* RUKUN_OK: durable. id (RUKUN_ID_SIZE bytes, may be NULL) gets the message id.
 * RUKUN_EUNKNOWN: perhaps published; the same call with the same publish_id is harmless. */
RUKUN_API RUKUN_MUST_CHECK rukun_status rukun_queue_publish(rukun_client *client,
                                                            const char *topic,
                                                            const rukun_message *message,
                                                            const rukun_publish_opts *opts,
                                                            char *id, rukun_error *err);
/* All or none, in this order. count 1 to 1000. ids: count times RUKUN_ID_SIZE bytes, or
 * NULL. */
RUKUN_API RUKUN_MUST_CHECK rukun_status rukun_queue_publish_many(
    rukun_client *client, const char *topic, const rukun_message *messages, size_t count,
    const rukun_publish_opts *opts, char *ids, rukun_error *err);
/* What there was, perhaps nothing (count 0). RUKUN_EPAUSED. */
RUKUN_API RUKUN_MUST_CHECK rukun_status rukun_queue_consume(rukun_deliveries **out,
                                                            rukun_client *client,
                                                            const char *topic,
                                                            const rukun_consume_opts *opts,
                                                            rukun_error *err);
RUKUN_API size_t rukun_deliveries_count(const rukun_deliveries *deliveries);
/* Of delivery `index` < count; pointers are lent until the free. */
RUKUN_API const char *rukun_delivery_id(const rukun_deliveries *deliveries, size_t index);
RUKUN_API const char *rukun_delivery_message_id(const rukun_deliveries *deliveries,
                                                size_t index);
RUKUN_API uint32_t rukun_delivery_attempt(const rukun_deliveries *deliveries, size_t index);
RUKUN_API const void *rukun_delivery_data(const rukun_deliveries *deliveries, size_t index,
                                          size_t *size);
RUKUN_API rukun_encoding rukun_delivery_encoding(const rukun_deliveries *deliveries,
                                                 size_t index);
RUKUN_API void rukun_deliveries_free(rukun_deliveries *deliveries); /* acks nothing */

/* id: a delivery's. RUKUN_ESTALE: a later delivery of the message exists; it is not acked.
 * RUKUN_EGONE: the message is no more.  RUKUN_ERANGE: not a delivery id. */
RUKUN_API RUKUN_MUST_CHECK rukun_status rukun_queue_ack(rukun_client *client,
                                                        const char *id, rukun_error *err);
/* Gives it back. delay_ms: until it is ready again; RUKUN_WAIT_FOREVER: the topic's
 * backoff. */
RUKUN_API RUKUN_MUST_CHECK rukun_status rukun_queue_nack(rukun_client *client,
                                                         const char *id, uint64_t delay_ms,
                                                         rukun_error *err);
RUKUN_API RUKUN_MUST_CHECK rukun_status rukun_queue_extend(rukun_client *client,
                                                           const char *id,
                                                           uint64_t visibility_ms,
                                                           rukun_error *err);

/* --- caches. cache: the namespace, NULL or "" for the default one. */

typedef struct rukun_put_opts {
    uint32_t struct_size;
    uint64_t ttl_ms;      /* 0: none */
    uint64_t soft_ttl_ms; /* 0: none; below ttl_ms */
    uint64_t if_version;  /* 0: any */
    int if_absent;
    uint64_t fence;         /* 0: none */
    const char *fence_name; /* NULL: the key's own */
} rukun_put_opts;

RUKUN_API void rukun_put_opts_init(rukun_put_opts *opts);

/* version may be NULL. RUKUN_EVERSION: it has another than if_version.
 * RUKUN_EEXIST: if_absent, and it is there.  RUKUN_EFENCE.  RUKUN_ESIZE. */
RUKUN_API RUKUN_MUST_CHECK rukun_status rukun_cache_put(
    rukun_client *client, const char *cache, const char *key, const rukun_message *value,
    const rukun_put_opts *opts, uint64_t *version, rukun_error *err);
/* *out is NULL when there is no such key (and the status RUKUN_OK). Never older than what
 * this client has seen or written. */
RUKUN_API RUKUN_MUST_CHECK rukun_status rukun_cache_get(rukun_value **out,
                                                        rukun_client *client,
                                                        const char *cache, const char *key,
                                                        rukun_error *err);
RUKUN_API const void *rukun_value_data(const rukun_value *value, size_t *size);
RUKUN_API rukun_encoding rukun_value_encoding(const rukun_value *value);
RUKUN_API uint64_t rukun_value_version(const rukun_value *value);
RUKUN_API int rukun_value_is_stale(const rukun_value *value);
RUKUN_API void rukun_value_free(rukun_value *value);
/* if_version 0: any. deleted (may be NULL): whether it was there. */
RUKUN_API RUKUN_MUST_CHECK rukun_status rukun_cache_delete(rukun_client *client,
                                                           const char *cache,
                                                           const char *key,
                                                           uint64_t if_version,
                                                           int *deleted, rukun_error *err);
/* Adds delta to a counter, which begins at `initial` when absent (ttl_ms 0: none).
 * RUKUN_ECONVERT: the value is no integer.  RUKUN_ERANGE: it would overflow. */
RUKUN_API RUKUN_MUST_CHECK rukun_status rukun_cache_add(rukun_client *client,
                                                        const char *cache, const char *key,
                                                        int64_t delta, int64_t initial,
                                                        uint64_t ttl_ms, int64_t *value,
                                                        rukun_error *err);

#ifdef __cplusplus
}
#endif
#endif
