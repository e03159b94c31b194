/* The embedded engine: every call goes to this node's host. */
#include "rukund/engine.h"
#include "rukund/worker.h"

static void call(struct rk_worker *worker, uint64_t number,
                 const struct rk_request *request)
{
    rk_worker_touch(worker);
    rk_host_call(worker->host, number, request);
}

static void drop(struct rk_worker *worker, uint64_t number)
{
    rk_worker_touch(worker);
    rk_host_drop(worker->host, number);
}

static void status(struct rk_worker *worker, struct rk_host_status *out)
{
    rk_host_status(worker->host, out);
}

static void print_durability(struct rk_worker *worker, struct rk_buf *out)
{
    (void)worker;
    rk_buf_append_string(out, "fsync on a majority");
}

const struct rk_engine rk_engine_embedded = {
    .name = "embedded",
    .call = call,
    .drop = drop,
    .status = status,
    .print_durability = print_durability,
};
