/* How a link gets its connection: names, addresses, TLS; and what libevent reports. */
#include "redis/redis_internal.h"

#include "base/alloc.h"

#include <errno.h>
#include <event2/buffer.h>
#include <event2/bufferevent.h>
#include <event2/bufferevent_ssl.h>
#include <event2/dns.h>
#include <event2/event.h>
#include <event2/util.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <sys/socket.h>

enum {
    READ_MAX = 128 << 10,
    WRITE_MAX = 256 << 10,
};

/* Lives until libevent called back, which may be after its link gave it up. */
struct link_lookup {
    struct rk_redis_link *link; /* NULL: given up */
    struct evdns_getaddrinfo_request *request;
};

static void on_read(struct bufferevent *bev, void *context)
{
    (void)bev;
    rk_redis_link_read(context);
}

static void connect_next(struct rk_redis_link *link);

/* The connection is there: from now on bytes may leave. */
static void on_connected(struct rk_redis_link *link)
{
    int fd = bufferevent_getfd(link->bev);
    int yes = 1;
    (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof(yes));
    (void)setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &yes, sizeof(yes));
    link->state = LINK_GREETING;
    link->last_in_us = rk_redis_now();
    if (!rk_redis_greet(link)) rk_redis_link_fail(link, "out of memory");
}

static void on_event(struct bufferevent *bev, short what, void *context)
{
    struct rk_redis_link *link = context;
    char reason[160];
    if (what & BEV_EVENT_CONNECTED) {
        on_connected(link);
        return;
    }
    int error = EVUTIL_SOCKET_ERROR();
    bool is_denied = false;
    if (what & BEV_EVENT_EOF) {
        /* Redis says why before it closes: that was read already. */
        (void)snprintf(reason, sizeof(reason), "closed by the server");
    } else {
        (void)snprintf(reason, sizeof(reason), "%s",
                       error == 0 ? "connection failed"
                                  : evutil_socket_error_to_string(error));
    }
    if (link->redis->tls != NULL)
        rk_redis_tls_reason(reason, sizeof(reason), bev, &is_denied);
    if (link->state == LINK_CONNECTING && !is_denied && rk_redis_link_try_next(link))
        return;
    link->is_denied = is_denied;
    rk_redis_link_fail(link, "%s", reason);
}

static struct bufferevent *new_bufferevent(struct rk_redis_link *link)
{
    struct rk_redis *redis = link->redis;
    if (redis->tls == NULL)
        return bufferevent_socket_new(redis->base, -1, BEV_OPT_CLOSE_ON_FREE);
    SSL *ssl = rk_redis_tls_start(redis->tls, redis->url, link->host);
    if (ssl == NULL) return NULL;
    struct bufferevent *bev = bufferevent_openssl_socket_new(
        redis->base, -1, ssl, BUFFEREVENT_SSL_CONNECTING, BEV_OPT_CLOSE_ON_FREE);
    if (bev == NULL) SSL_free(ssl);
    return bev;
}

static void connect_next(struct rk_redis_link *link)
{
    uint64_t epoch = link->epoch;
    link->state = LINK_CONNECTING;
    link->bev = new_bufferevent(link);
    if (link->bev == NULL) {
        rk_redis_link_fail(link, "out of memory");
        return;
    }
    struct sockaddr *address = (struct sockaddr *)&link->addresses[link->address_at++];
    int size = address->sa_family == AF_INET6 ? (int)sizeof(struct sockaddr_in6)
                                              : (int)sizeof(struct sockaddr_in);
    bufferevent_setcb(link->bev, on_read, NULL, on_event, link);
    (void)bufferevent_set_max_single_read(link->bev, READ_MAX);
    (void)bufferevent_set_max_single_write(link->bev, WRITE_MAX);
    if (bufferevent_enable(link->bev, EV_READ | EV_WRITE) != 0 ||
        bufferevent_socket_connect(link->bev, address, size) != 0) {
        /* on_event may have told already. */
        if (link->epoch == epoch && link->state == LINK_CONNECTING)
            rk_redis_link_fail(link, "%s", strerror(errno));
    }
}

static void wake_at_attempts_end(struct rk_redis_link *link)
{
    uint64_t attempt_us = (uint64_t)link->redis->url->timeout_ms * 1000;
    if (attempt_us < SECOND_US / 2) attempt_us = SECOND_US / 2;
    if (attempt_us > 5 * SECOND_US) attempt_us = 5 * SECOND_US;
    rk_redis_wake_at(link->redis, &link->timer, rk_redis_now() + attempt_us);
}

bool rk_redis_link_try_next(struct rk_redis_link *link)
{
    if (link->address_at == link->address_count) return false;
    bufferevent_free(link->bev);
    link->bev = NULL;
    wake_at_attempts_end(link);
    connect_next(link);
    return true;
}

static void take_addresses(struct rk_redis_link *link, const struct evutil_addrinfo *list)
{
    link->address_count = link->address_at = 0;
    for (; list != NULL && link->address_count < LINK_ADDRESSES_MAX; list = list->ai_next) {
        if (list->ai_family != AF_INET && list->ai_family != AF_INET6) continue;
        memcpy(&link->addresses[link->address_count++], list->ai_addr, list->ai_addrlen);
    }
    if (link->address_count == 0)
        rk_redis_link_fail(link, "the name has no address");
    else
        connect_next(link);
}

static void on_resolved(int result, struct evutil_addrinfo *list, void *context)
{
    struct link_lookup *lookup = context;
    struct rk_redis_link *link = lookup->link;
    rk_free(lookup);
    if (link != NULL) {
        link->lookup = NULL;
        if (result != 0)
            rk_redis_link_fail(link, "%s", evutil_gai_strerror(result));
        else
            take_addresses(link, list);
    }
    if (list != NULL) evutil_freeaddrinfo(list);
}

static void resolve(struct rk_redis_link *link)
{
    struct evutil_addrinfo hints = {.ai_family = AF_UNSPEC,
                                    .ai_socktype = SOCK_STREAM,
                                    .ai_protocol = IPPROTO_TCP,
                                    .ai_flags = EVUTIL_AI_NUMERICHOST};
    struct evutil_addrinfo *list = NULL;
    char port[8];
    (void)snprintf(port, sizeof(port), "%u", (unsigned)link->port);
    int result = evutil_getaddrinfo(link->host, port, &hints, &list);
    hints.ai_flags = 0;
    if (result != 0 && link->redis->dns == NULL)
        result = evutil_getaddrinfo(link->host, port, &hints, &list);
    if (result == 0) {
        take_addresses(link, list);
        evutil_freeaddrinfo(list);
        return;
    }
    if (link->redis->dns == NULL) {
        rk_redis_link_fail(link, "%s", evutil_gai_strerror(result));
        return;
    }
    struct link_lookup *lookup = rk_calloc(1, sizeof(*lookup));
    if (lookup == NULL) {
        rk_redis_link_fail(link, "out of memory");
        return;
    }
    lookup->link = link;
    link->lookup = lookup;
    uint64_t epoch = link->epoch;
    struct evdns_getaddrinfo_request *request =
        evdns_getaddrinfo(link->redis->dns, link->host, port, &hints, on_resolved, lookup);
    /* NULL: it called back already, and the lookup is gone. */
    if (request != NULL && link->epoch == epoch && link->lookup == lookup)
        lookup->request = request;
}

void rk_redis_link_begin(struct rk_redis_link *link)
{
    link->epoch++;
    link->is_denied = link->is_replica = false;
    memset(&link->server, 0, sizeof(link->server));
    if (!link->role->aim(link)) {
        link->state = LINK_OFF;
        return;
    }
    link->state = LINK_RESOLVING;
    wake_at_attempts_end(link);
    rk_redis_reader_fini(&link->reader);
    if (rk_redis_reader_init(&link->reader, RK_REDIS_REPLY_MAX) != RK_OK)
        rk_redis_link_fail(link, "out of memory");
    else
        resolve(link);
}

void rk_redis_link_close(struct rk_redis_link *link)
{
    link->epoch++;
    if (link->lookup != NULL) {
        struct link_lookup *lookup = link->lookup;
        link->lookup = NULL;
        lookup->link = NULL;
        if (lookup->request != NULL) evdns_getaddrinfo_cancel(lookup->request);
    }
    if (link->bev != NULL) {
        bufferevent_setcb(link->bev, NULL, NULL, NULL, NULL);
        bufferevent_free(link->bev);
    }
    link->bev = NULL;
    rk_buf_fini(&link->out);
    rk_buf_init(&link->out);
    rk_list_remove(&link->in_dirty);
    link->wait_most = 0;
    link->script_count = 0;
    link->is_pushing = false;
    link->is_leaving = false;
    link->is_overdue = false;
    link->pinged_us = 0;
    link->asked = link->confirmed = 0;
}
