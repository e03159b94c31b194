/* peers.h - the TCP links to the other nodes.
 *
 * For each peer and link (control, bulk, snapshot) this node connects out and only sends
 * there; what it receives comes on connections that the peer made. A lost connection is
 * made again with growing, jittered pauses, the first time at once: its refusal is what an
 * early election needs to know. The format is in docs/protocol.md. Loop thread only. */
#ifndef RK_RUKUND_PEERS_H
#define RK_RUKUND_PEERS_H

#include "host/host.h"

struct rk_worker;
struct rk_peers;

enum {
    RK_PEERS_INCOMING_MAX = 64, /* connections that peers made */
    RK_PEERS_HELLO_MAX = 4096,
};

/* Takes over the listening socket; starts to accept and connect. The host must be open. */
RK_MUST_CHECK enum rk_status rk_peers_new(struct rk_peers **out, struct rk_worker *worker,
                                          int listener);
void rk_peers_free(struct rk_peers *peers); /* NULL is fine */

/* Connects with those whom the host came to know, ends what leads to those it no longer
 * knows. Nothing to do unless rk_host_members_version changed. RK_ENOMEM: call again. */
enum rk_status rk_peers_sync(struct rk_peers *peers);

/* Queues one frame for the end of the turn; counted as lost when the link is down or has
 * too much waiting. */
void rk_peers_send(struct rk_peers *peers, const char *name, enum rk_host_link link,
                   struct rk_slice frame);
#endif
