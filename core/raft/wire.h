/* wire.h - raft messages and memberships as bytes, for peer frames and logs.
 *
 * Each encoding starts with its version. Decoders trust no count: what they reserve is
 * bounded by the bytes that are there. */
#ifndef RK_RAFT_WIRE_H
#define RK_RAFT_WIRE_H

#include "raft/raft.h"

enum { RK_RAFT_WIRE_VERSION = 1 };

/* Appends the message; check the buffer with rk_buf_check. Storage and other local
 * messages are never sent: asserted. */
void rk_raft_message_encode(struct rk_buf *out, const struct rk_raft_message *message);
/* Entries and snapshot go into arena, entry data points into the reader's input.
 * RK_EPROTO: unknown version or type, or malformed. RK_ENOMEM. */
RK_MUST_CHECK enum rk_status rk_raft_message_decode(struct rk_raft_message *out,
                                                    struct rk_arena *arena,
                                                    struct rk_reader *reader);

void rk_raft_conf_state_encode(struct rk_buf *out, const struct rk_raft_conf_state *conf);
/* RK_EPROTO: malformed, a number 0, or lists not ascending. */
RK_MUST_CHECK enum rk_status rk_raft_conf_state_decode(struct rk_raft_conf_state *out,
                                                       struct rk_reader *reader);

void rk_raft_snapshot_encode(struct rk_buf *out, const struct rk_raft_snapshot *snapshot);
RK_MUST_CHECK enum rk_status rk_raft_snapshot_decode(struct rk_raft_snapshot *out,
                                                     struct rk_reader *reader);
#endif
