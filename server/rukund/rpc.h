/* rpc.h - the msgpack-rpc door: pipelined calls, answered in any order. docs/protocol.md
 * describes it. Loop thread only. */
#ifndef RK_RUKUND_RPC_H
#define RK_RUKUND_RPC_H

#include "base/status.h"

struct rk_worker;
struct rk_rpc;

enum {
    RK_RPC_PROTOCOL = 1,
    RK_RPC_OUT_PAUSE = 4 << 20, /* bytes waiting to leave above which reading stops */
    RK_RPC_OUT_MAX = 256 << 20, /* a client that takes no answers is cut off above this */
    RK_RPC_OUT_AIM =
        32 << 20, /* large answers: fewer calls under way, to stay below this */
};

/* Takes over the listening socket and serves. */
RK_MUST_CHECK enum rk_status rk_rpc_new(struct rk_rpc **out, struct rk_worker *worker,
                                        int listener);
/* No further connections; what is under way goes on. */
void rk_rpc_stop(struct rk_rpc *rpc);
/* Closes everything, without answers; open calls are dropped. NULL is fine. */
void rk_rpc_free(struct rk_rpc *rpc);
#endif
