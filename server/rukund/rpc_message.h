/* rpc_message.h - the outer form of msgpack-rpc messages. */
#ifndef RK_RUKUND_RPC_MESSAGE_H
#define RK_RUKUND_RPC_MESSAGE_H

#include "base/bytes.h"

enum rk_rpc_kind { RK_RPC_REQUEST = 0, RK_RPC_RESPONSE = 1, RK_RPC_NOTIFICATION = 2 };

struct rk_rpc_message {
    enum rk_rpc_kind kind;
    uint64_t id; /* of a request */
    struct rk_slice method;
    struct rk_slice params; /* the msgpack map of the one parameter; empty if none */
};

/* How far the first message of an input was looked at. Zeroed before each message. */
struct rk_rpc_scan {
    size_t at;      /* whole items up to here; once complete, the message's size */
    uint64_t items; /* that are still to come; 0 before the first look */
};

/* Looks on from where the last call stopped, so that a message that comes in small pieces
 * costs no more than its size. RK_OK: complete. RK_EBUSY: more bytes are needed. RK_ESIZE:
 * it has more than max bytes, as headers tell before the bytes are there. RK_EINVAL. */
RK_MUST_CHECK enum rk_status rk_rpc_scan(struct rk_rpc_scan *scan, struct rk_slice in,
                                         size_t max);

/* Takes one complete message apart; slices point into it. RK_EINVAL: neither
 * [0, id, method, [{...}]] nor [2, method, [{...}]]. */
RK_MUST_CHECK enum rk_status rk_rpc_message_parse(struct rk_rpc_message *out,
                                                  struct rk_slice bytes);

/* The unsigned integer that the bytes are, and nothing else. RK_EINVAL. */
RK_MUST_CHECK enum rk_status rk_rpc_read_uint(uint64_t *out, struct rk_slice bytes);

/* Writers of what stands around an answer. */
void rk_rpc_write_array(struct rk_buf *out, uint32_t count); /* below 16 */
void rk_rpc_write_uint(struct rk_buf *out, uint64_t value);
void rk_rpc_write_nil(struct rk_buf *out);
void rk_rpc_write_text(struct rk_buf *out, struct rk_slice text);

/* Adds one pair with a text value at the end of the map that begins at `at` and ends at
 * the end of out. */
void rk_rpc_map_add_text(struct rk_buf *out, size_t at, const char *name,
                         struct rk_slice text);
#endif
