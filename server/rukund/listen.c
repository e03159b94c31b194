/* Listening sockets, and what to do when no more connections can be taken. */
#include "rukund/worker.h"

#include <errno.h>
#include <event2/event.h>
#include <event2/listener.h>
#include <fcntl.h>
#include <limits.h>
#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

/* Its context is the owner's, so it can do no more than rest. */
static void on_accept_failed(struct evconnlistener *listener, void *context)
{
    (void)context;
    (void)evconnlistener_disable(listener);
}

void rk_worker_guard(struct rk_worker *worker, struct evconnlistener *listener)
{
    evconnlistener_set_error_cb(listener, on_accept_failed);
    for (int i = 0; i < RK_WORKER_LISTENERS; i++) {
        if (worker->listeners[i] != NULL) continue;
        worker->listeners[i] = listener;
        return;
    }
}

void rk_worker_unguard(struct rk_worker *worker, struct evconnlistener *listener)
{
    for (int i = 0; i < RK_WORKER_LISTENERS; i++)
        if (worker->listeners[i] == listener) worker->listeners[i] = NULL;
}

void rk_worker_raise_limits(struct rk_worker *worker)
{
    struct rlimit limit;
    worker->descriptor_max = INT_MAX;
    if (getrlimit(RLIMIT_NOFILE, &limit) != 0) return;
    limit.rlim_cur = limit.rlim_max;
    (void)setrlimit(RLIMIT_NOFILE, &limit);
    if (getrlimit(RLIMIT_NOFILE, &limit) != 0 || limit.rlim_cur >= INT_MAX) return;
    int all = (int)limit.rlim_cur;
    worker->descriptor_max =
        all - (all > 2 * RK_WORKER_RESERVED ? RK_WORKER_RESERVED : all / 2);
}

bool rk_worker_is_crowded(const struct rk_worker *worker)
{
    if (worker->listeners[0] == NULL) return false;
    /* A new descriptor is the lowest that is free. */
    int lowest = fcntl(evconnlistener_get_fd(worker->listeners[0]), F_DUPFD_CLOEXEC, 0);
    if (lowest < 0) return true;
    (void)close(lowest);
    return lowest >= worker->descriptor_max;
}

void rk_worker_listen_again(struct rk_worker *worker)
{
    if (worker->is_resting && rk_worker_is_crowded(worker)) return;
    worker->is_resting = false;
    for (int i = 0; i < RK_WORKER_LISTENERS; i++)
        if (worker->listeners[i] != NULL) (void)evconnlistener_enable(worker->listeners[i]);
}

int rk_worker_listen(struct rk_worker *worker, const char *what, const char *text,
                     struct rk_address *address)
{
    char port[8], shown[RK_ADDRESS_MAX];
    struct addrinfo hints = {0}, *found = NULL;
    const char *reason = NULL;
    int fd = -1, yes = 1;
    if (rk_address_parse(address, text) != RK_OK) return -1; /* checked with the settings */
    (void)snprintf(port, sizeof(port), "%u", (unsigned)address->port);
    hints.ai_socktype = SOCK_STREAM;
    hints.ai_flags = AI_PASSIVE;
    bool has_host = address->host[0] != '\0' && strcmp(address->host, "*") != 0;
    int result = getaddrinfo(has_host ? address->host : NULL, port, &hints, &found);
    if (result != 0) {
        reason = gai_strerror(result);
    } else {
        fd = socket(found->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
        if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof(yes)) != 0 ||
            bind(fd, found->ai_addr, found->ai_addrlen) != 0 || listen(fd, 512) != 0)
            reason = strerror(errno);
        freeaddrinfo(found);
    }
    if (reason != NULL) {
        rk_log_event(&worker->log, RK_LOG_ERROR, "can not listen", RK_LOG_TEXT("for", what),
                     RK_LOG_TEXT("address", text), RK_LOG_TEXT("reason", reason));
        if (fd >= 0) (void)close(fd);
        return -1;
    }
    struct sockaddr_storage bound;
    socklen_t size = sizeof(bound);
    char number[8];
    if (getsockname(fd, (struct sockaddr *)&bound, &size) == 0 &&
        getnameinfo((struct sockaddr *)&bound, size, NULL, 0, number, sizeof(number),
                    NI_NUMERICSERV) == 0)
        address->port = (uint16_t)strtoul(number, NULL, 10);
    rk_address_print(shown, address);
    rk_log_event(&worker->log, RK_LOG_INFO, "listening", RK_LOG_TEXT("for", what),
                 RK_LOG_TEXT("address", shown));
    return fd;
}
