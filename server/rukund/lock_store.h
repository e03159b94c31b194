/* lock_store.h - the store of locks and sessions (host/store.h) in Redis.
 *
 * `rukun:{lock}:records` has the records by "kind:id", `rukun:{lock}:meta` whose they are
 * and up to which batch; `{lock}:<resource>`, `:owners` and `:waiters` are a view of each
 * lock for people, written in the same script. All keys are in one slot. Loop thread only.
 */
#ifndef RK_RUKUND_LOCK_STORE_H
#define RK_RUKUND_LOCK_STORE_H

#include "host/store.h"
#include "redis/redis.h"

enum { RK_LOCK_STORE_FORMAT = 1 /* of the keys; stands in rukun:{lock}:meta */ };

struct rk_lock_store;

/* Called from the loop, never within a function of this header. */
struct rk_lock_store_io {
    void *context;
    void (*record)(void *context, uint64_t number, struct rk_slice record);
    void (*loaded)(void *context, const struct rk_host_store_answer *answer,
                   const struct rk_host_store_found *found);
    void (*stored)(void *context, const struct rk_host_store_answer *answer);
    /* The id of the cluster, a text; why Redis must not be used, or "". */
    const char *(*cluster)(void *context);
    const char *(*refusal)(void *context);
};

struct rk_lock_store_options {
    uint32_t struct_size;
    struct rk_redis *redis;
    const char *prefix; /* of all keys; borrowed */
    uint32_t wait;      /* replicas that must have a batch before it is stored */
    struct rk_lock_store_io io;
};

RK_MUST_CHECK enum rk_status rk_lock_store_new(struct rk_lock_store **out,
                                               const struct rk_lock_store_options *options);
/* NULL is fine. Before the redis it uses. */
void rk_lock_store_free(struct rk_lock_store *store);
/* The two effects of the host. What was asked before and is not answered is forgotten. The
 * batch is used until the answer. */
void rk_lock_store_claim(struct rk_lock_store *store,
                         const struct rk_host_store_claim *claim);
void rk_lock_store_write(struct rk_lock_store *store,
                         const struct rk_host_store_batch *batch);
#endif
