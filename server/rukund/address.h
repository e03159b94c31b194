/* address.h - "host:port" texts and node names. */
#ifndef RK_RUKUND_ADDRESS_H
#define RK_RUKUND_ADDRESS_H

#include "base/status.h"

enum {
    RK_ADDRESS_MAX = 272, /* with brackets, port and NUL */
    RK_HOST_NAME_MAX = 255,
    RK_NODE_NAME_MAX = 63,
};

struct rk_address {
    char host[RK_HOST_NAME_MAX + 1]; /* without brackets; "" means every address */
    uint16_t port;
};

/* "host:port", "[::1]:port" or ":port". RK_EINVAL. */
RK_MUST_CHECK enum rk_status rk_address_parse(struct rk_address *out, const char *text);
/* The text of it, with brackets where the host has colons. */
void rk_address_print(char out[RK_ADDRESS_MAX], const struct rk_address *address);
/* Stands for every address of the machine: never told to others. */
bool rk_address_is_any(const struct rk_address *address);
bool rk_address_is_loopback(const struct rk_address *address);

/* 1 to RK_NODE_NAME_MAX letters, digits, '.', '_', '-'. */
bool rk_node_name_is_valid(const char *name);
#endif
