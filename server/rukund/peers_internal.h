/* peers_internal.h - shared by the sending and the receiving half of peers.h. */
#ifndef RK_RUKUND_PEERS_INTERNAL_H
#define RK_RUKUND_PEERS_INTERNAL_H

#include "rukund/peers.h"
#include "rukund/worker.h"

#include <event2/event.h>
#include <event2/util.h>

struct evconnlistener;
struct evdns_getaddrinfo_request;

enum {
    PEER_FRAME_HEAD = 8, /* u32 size, u32 crc32c */
    PEER_MAGIC = 0x4c504b52,
    PEER_VERSION = 1,
};

enum out_state { OUT_WAITING, OUT_RESOLVING, OUT_CONNECTING, OUT_GREETING, OUT_UP };

/* A connection that this node makes; sends only. */
struct peer_out {
    struct rk_stream stream;
    struct rk_peers *peers;
    struct rk_list link_out;         /* in peers->outs */
    struct rk_config_peer node;      /* as the host knows it now */
    char configured[RK_ADDRESS_MAX]; /* of --peers; "": not there */
    enum rk_host_link link;
    enum out_state state;
    struct event *timer;   /* next attempt, or the attempt's time limit */
    struct event *connect; /* writable: connected or failed */
    struct evdns_getaddrinfo_request *resolving;
    int fd; /* while connecting */
    uint32_t backoff_ms;
    uint32_t attempts; /* since the last success */
    char reason[160];
    char logged[160]; /* the last reason that was logged */
};

/* A connection that a peer made; receives only. */
struct peer_in {
    struct rk_stream stream;
    struct rk_peers *peers;
    struct rk_list link_in; /* in peers->incoming */
    bool is_greeted;
    bool is_refused; /* closes once the refusal has left */
    enum rk_host_link link;
    char name[RK_NODE_NAME_MAX + 1];
};

struct rk_peers {
    struct rk_worker *worker;
    struct evconnlistener *listener;
    struct rk_list outs;
    uint64_t members_seen; /* rk_host_members_version */
    struct rk_list incoming;
    uint32_t incoming_count;
};

/* Appends one frame: head and payload. */
void rk_peer_frame(struct rk_buf *out, struct rk_slice payload);
/* Takes the first frame of in. RK_EBUSY: not all of it is there; RK_ESIZE: above max;
 * RK_ECORRUPT: the checksum is wrong. */
RK_MUST_CHECK enum rk_status rk_peer_unframe(struct rk_slice *payload, size_t *used,
                                             struct rk_slice in, size_t max);
const char *rk_peer_link_name(enum rk_host_link link);

RK_MUST_CHECK enum rk_status rk_peer_listen(struct rk_peers *peers, int listener);
void rk_peer_in_close(struct peer_in *in);
/* The node connected to this one, so it is up: links to it that wait for their next attempt
 * make it now. */
void rk_peers_wake(struct rk_peers *peers, const char *name);
#endif
