/* command.h - what stands in a log entry: who asked, when, and the request.
 *
 * Version 1: u8 version, blob client, varint seq, first_unanswered, stamp_ms,
 * deadline_ms, home, blob request (rk_request_encode). */
#ifndef RK_STATE_COMMAND_H
#define RK_STATE_COMMAND_H

#include "base/bytes.h"

enum { RK_COMMAND_VERSION = 1 };

struct rk_command {
    struct rk_slice client;    /* at most 64 bytes; empty for the leader's own entries */
    uint64_t seq;              /* of the client, from 1; 0 for the leader's own entries */
    uint64_t first_unanswered; /* replies of this client below it may be forgotten */
    uint64_t stamp_ms;         /* group time at append; never below the last one */
    uint64_t deadline_ms;      /* group time after which it is dropped; 0: none */
    uint64_t home;             /* node number that holds the client's connection; 0: none */
    struct rk_slice request;   /* rk_request_encode form */
};

void rk_command_encode(struct rk_buf *out, const struct rk_command *command);
/* RK_EPROTO malformed, RK_EUNSUPPORTED a newer version. Slices point into bytes. */
RK_MUST_CHECK enum rk_status rk_command_decode(struct rk_command *out,
                                               struct rk_slice bytes);
#endif
