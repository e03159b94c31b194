/* engine.h - the seam between the doors of a node (HTTP, RPC) and who holds the state.
 *
 * The embedded engine is rk_host: the replicated log of this cluster. Another engine fills
 * the same table. Loop thread only. */
#ifndef RK_RUKUND_ENGINE_H
#define RK_RUKUND_ENGINE_H

#include "api/api.h"
#include "host/host.h"

struct rk_worker;

struct rk_engine {
    const char *name;
    /* When the loop stands, before any door opens; NULL: nothing to do. Says why not in
     * the log. */
    enum rk_status (*open)(struct rk_worker *worker);
    void (*close)(struct rk_worker *worker); /* also after a failed open; or NULL */
    /* Starts a call; answered once through rk_calls_answer(worker, number, reply), perhaps
     * within this function. The request is borrowed. */
    void (*call)(struct rk_worker *worker, uint64_t number,
                 const struct rk_request *request);
    /* The client went away: no answer is given. */
    void (*drop)(struct rk_worker *worker, uint64_t number);
    void (*status)(struct rk_worker *worker, struct rk_host_status *out);
    /* What keeps it from serving although the nodes have a quorum, one line; "": nothing.
     * NULL: nothing ever does. */
    const char *(*reason)(struct rk_worker *worker);
    /* What an answered write is worth, one line for stats. */
    void (*print_durability)(struct rk_worker *worker, struct rk_buf *out);
    /* What the engine adds to /metrics; or NULL. */
    void (*print_metrics)(struct rk_worker *worker, struct rk_buf *out);
    /* The store of sessions and locks, see host/store.h; NULL: they are in the log. */
    void (*store_claim)(struct rk_worker *worker, const struct rk_host_store_claim *claim);
    void (*store_write)(struct rk_worker *worker, const struct rk_host_store_batch *batch);
};

extern const struct rk_engine rk_engine_embedded;
extern const struct rk_engine rk_engine_redis;
#endif
