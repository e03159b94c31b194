#include "rukund/address.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum rk_status rk_address_parse(struct rk_address *out, const char *text)
{
    const char *host = text;
    const char *host_end;
    const char *port;
    if (text[0] == '[') {
        host = text + 1;
        host_end = strchr(host, ']');
        if (host_end == NULL || host_end[1] != ':') return RK_EINVAL;
        port = host_end + 2;
    } else {
        host_end = strrchr(text, ':');
        if (host_end == NULL || memchr(text, ':', (size_t)(host_end - text)) != NULL)
            return RK_EINVAL;
        port = host_end + 1;
    }
    size_t host_size = (size_t)(host_end - host);
    if (host_size > RK_HOST_NAME_MAX || strlen(port) > 5) return RK_EINVAL;
    if (port[0] == '\0' || strspn(port, "0123456789") != strlen(port)) return RK_EINVAL;
    unsigned long number = strtoul(port, NULL, 10);
    if (number > 65535) return RK_EINVAL;
    for (size_t i = 0; i < host_size; i++)
        if ((unsigned char)host[i] <= ' ' || strchr(",=/\"'\\", host[i]) != NULL)
            return RK_EINVAL;
    memcpy(out->host, host, host_size);
    out->host[host_size] = '\0';
    out->port = (uint16_t)number;
    return RK_OK;
}

void rk_address_print(char out[RK_ADDRESS_MAX], const struct rk_address *address)
{
    bool has_colon = strchr(address->host, ':') != NULL;
    (void)snprintf(out, RK_ADDRESS_MAX, has_colon ? "[%s]:%u" : "%s:%u", address->host,
                   (unsigned)address->port);
}

bool rk_address_is_any(const struct rk_address *address)
{
    struct in_addr v4;
    struct in6_addr v6;
    if (address->host[0] == '\0' || strcmp(address->host, "*") == 0) return true;
    if (inet_pton(AF_INET, address->host, &v4) == 1) return v4.s_addr == 0;
    return inet_pton(AF_INET6, address->host, &v6) == 1 && IN6_IS_ADDR_UNSPECIFIED(&v6);
}

bool rk_address_is_loopback(const struct rk_address *address)
{
    struct in_addr v4;
    struct in6_addr v6;
    if (strcmp(address->host, "localhost") == 0) return true;
    if (inet_pton(AF_INET, address->host, &v4) == 1) return ntohl(v4.s_addr) >> 24 == 127;
    return inet_pton(AF_INET6, address->host, &v6) == 1 && IN6_IS_ADDR_LOOPBACK(&v6);
}

bool rk_node_name_is_valid(const char *name)
{
    size_t size = strlen(name);
    if (size == 0 || size > RK_NODE_NAME_MAX) return false;
    return strspn(name, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
                        "0123456789._-") == size;
}
