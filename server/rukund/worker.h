/* worker.h - one event loop with everything that hangs off it; there are no globals.
 *
 * A turn: libevent calls back whatever is ready, then the host is flushed exactly once,
 * then every connection with output gets one write. Whoever enters the host calls
 * rk_worker_touch first, so that its clock is set before the first event of the turn. */
#ifndef RK_RUKUND_WORKER_H
#define RK_RUKUND_WORKER_H

#include "base/arena.h"
#include "base/random.h"
#include "host/host.h"
#include "rukund/background.h"
#include "rukund/calls.h"
#include "rukund/config.h"
#include "rukund/disk.h"
#include "rukund/engine.h"
#include "rukund/log.h"
#include "rukund/metrics.h"
#include "rukund/stream.h"

struct event;
struct event_base;
struct evdns_base;
struct rk_peers;
struct rk_http;
struct rk_rpc;

struct rk_worker {
    const struct rk_config *config;
    struct rk_log log;
    struct event_base *base;
    struct evdns_base *dns;
    struct rk_host *host;
    const struct rk_engine *engine;
    struct rk_disk *disk;
    struct rk_background *background;
    struct rk_peers *peers;
    struct rk_http *http;
    struct rk_rpc *rpc;
    struct rk_streams streams;
    struct rk_calls calls;
    struct rk_metrics metrics;
    struct rk_random random;
    struct rk_arena arena;       /* of the request being decoded */
    struct rk_arena reply_arena; /* of the reply being encoded */
    struct rk_buf reply_buf;
    struct rk_buf scratch; /* of the document being made */
    struct event *timer;
    struct event *signals[2];
    char http_address[RK_ADDRESS_MAX]; /* as told to others */
    char rpc_address[RK_ADDRESS_MAX];
    char peer_address[RK_ADDRESS_MAX];
    uint64_t stop_by_us; /* while stopping: give up waiting then */
    int exit_code;
    bool is_turn_open;
    bool is_full;     /* as told to the host */
    bool is_restless; /* do not sleep before the next turn */
    bool is_stopping;
    bool is_over;
};

/* Runs a node until it is told to stop; the process's exit code. */
int rk_worker_run(const struct rk_config *config);

/* Opens the turn: sets the host's clock, once a turn. */
void rk_worker_touch(struct rk_worker *worker);
/* CLOCK_MONOTONIC in microseconds. */
uint64_t rk_worker_us(void);

/* Makes a listening socket on "host:port"; *address becomes what was bound, with the
 * real port. -1 after logging why. */
int rk_worker_listen(struct rk_worker *worker, const char *what, const char *text,
                     struct rk_address *address);
#endif
