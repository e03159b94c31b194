/* delivery_id.h - the text names of messages, deliveries and fill tokens.
 *
 * A message id names version, slot, history and message number; a delivery id the attempt
 * too; all end in check digits, so a publish id or a typing error is no delivery id. The
 * text is a letter for the kind ('m', 'd', 'f') and base32 in lower case (RFC 4648, no
 * padding) of: u8 version, the parts as varints, 3 bytes of the CRC-32C of what stands
 * before them, the letter included. There is one text for each id. */
#ifndef RK_API_DELIVERY_ID_H
#define RK_API_DELIVERY_ID_H

#include "base/bytes.h"

enum {
    RK_DELIVERY_ID_VERSION = 1,
    RK_DELIVERY_ID_SIZE = 64, /* room for any of the texts, with its NUL */
};

struct rk_delivery_id {
    uint16_t slot;    /* of the topic: where ack is sent */
    uint64_t history; /* in which it was made */
    uint64_t message; /* number, unique in the group for ever */
    uint32_t attempt; /* 0 in a message id */
};

/* Prints into out (RK_DELIVERY_ID_SIZE bytes), returns the size without NUL. */
size_t rk_delivery_id_print(char *out, const struct rk_delivery_id *id);
/* RK_ERANGE: not such an id (syntax, check digits, version). */
RK_MUST_CHECK enum rk_status rk_delivery_id_parse(struct rk_delivery_id *out,
                                                  struct rk_slice text);

/* The right to put a key that was missing: what the group had applied at the grant. */
struct rk_fill_token {
    uint32_t key_hash; /* of cache and key, so that it fits no other */
    uint64_t history;
    uint64_t index;
};

size_t rk_fill_token_print(char *out, const struct rk_fill_token *token);
RK_MUST_CHECK enum rk_status rk_fill_token_parse(struct rk_fill_token *out,
                                                 struct rk_slice text);
#endif
