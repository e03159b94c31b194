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
struct evconnlistener;
struct evdns_base;
struct rk_peers;
struct rk_http;
struct rk_rpc;
struct rk_redis_engine;

enum { RK_WORKER_LISTENERS = 3, RK_WORKER_RESERVED = 128 };

struct rk_worker {
    const struct rk_config *config;
    struct rk_log log;
    struct event_base *base;
    struct evdns_base *dns;
    struct rk_host *host;
    const struct rk_engine *engine;
    struct rk_redis_engine *redis; /* the redis engine's own; NULL with the embedded one */
    struct rk_disk *disk;
    struct rk_background *lanes[RK_HOST_LANES]; /* a thread each for work of the host */
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
    struct rk_buf scratch;    /* of the document being made */
    struct rk_buf slots_text; /* part of a document, of this version of the slot map: */
    uint64_t slots_version;
    struct event *timer;
    struct event *signals[2];
    struct evconnlistener *listeners[RK_WORKER_LISTENERS];
    char http_address[RK_ADDRESS_MAX]; /* as told to others */
    char rpc_address[RK_ADDRESS_MAX];
    char peer_address[RK_ADDRESS_MAX];
    int descriptor_max;  /* for clients; those above are for files and peers */
    uint64_t stop_by_us; /* while stopping: give up waiting then */
    int exit_code;
    bool is_turn_open;
    uint64_t turn_us;  /* when it began */
    uint64_t cpu_us;   /* processor time of this thread at the end of the last one */
    uint64_t slice_us; /* before which no slices are taken that are not urgent */
    bool is_full;      /* as told to the host */
    bool is_restless;  /* do not sleep before the next turn */
    bool is_stopping;
    bool is_resting; /* HTTP takes no connections: there are too many */
    bool is_over;
};

/* Runs a node until it is told to stop; the process's exit code. */
int rk_worker_run(const struct rk_config *config);

/* Opens the turn: sets the host's clock, once a turn. */
void rk_worker_touch(struct rk_worker *worker);
/* CLOCK_MONOTONIC in microseconds. */
uint64_t rk_worker_us(void);

/* Guards a listener: when accept fails, as for want of descriptors, it rests until
 * rk_worker_listen_again instead of failing in every turn. Undone before it is freed. */
void rk_worker_guard(struct rk_worker *worker, struct evconnlistener *listener);
void rk_worker_unguard(struct rk_worker *worker, struct evconnlistener *listener);
void rk_worker_listen_again(struct rk_worker *worker);
/* As many descriptors as the system allows; RK_WORKER_RESERVED of them are not for clients.
 */
void rk_worker_raise_limits(struct rk_worker *worker);
/* Whether clients use all descriptors that are for them. */
bool rk_worker_is_crowded(const struct rk_worker *worker);

/* Makes a listening socket on "host:port"; *address becomes what was bound, with the
 * real port. -1 after logging why. */
int rk_worker_listen(struct rk_worker *worker, const char *what, const char *text,
                     struct rk_address *address);
#endif
