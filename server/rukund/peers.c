/* The sending half: connections that this node makes. */
#include "rukund/peers_internal.h"

#include "base/alloc.h"
#include "base/crc32c.h"

#include <errno.h>
#include <event2/dns.h>
#include <event2/listener.h>
#include <netdb.h>
#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>

enum {
    BACKOFF_MIN_MS = 50,
    BACKOFF_MAX_MS = 1000,
    ATTEMPT_MS = 2000, /* for resolving, connecting and greeting together */
};

static const size_t pending_max[RK_LINK_COUNT] = {
    [RK_LINK_CONTROL] = 4 << 20,
    [RK_LINK_BULK] = 64 << 20,
    [RK_LINK_SNAPSHOT] = 32 << 20,
};

void rk_peer_frame(struct rk_buf *out, struct rk_slice payload)
{
    if (rk_buf_reserve(out, PEER_FRAME_HEAD + payload.size) != RK_OK) return;
    rk_buf_u32(out, (uint32_t)payload.size);
    rk_buf_u32(out, rk_crc32c(0, payload.data, payload.size));
    rk_buf_append_slice(out, payload);
}

enum rk_status rk_peer_unframe(struct rk_slice *payload, size_t *used, struct rk_slice in,
                               size_t max)
{
    if (in.size < PEER_FRAME_HEAD) return RK_EBUSY;
    uint32_t size = rk_take_u32(in.data);
    if (size > max) return RK_ESIZE;
    if (in.size - PEER_FRAME_HEAD < size) return RK_EBUSY;
    *payload = rk_slice_of(in.data + PEER_FRAME_HEAD, size);
    *used = PEER_FRAME_HEAD + (size_t)size;
    if (rk_crc32c(0, payload->data, size) != rk_take_u32(in.data + 4)) return RK_ECORRUPT;
    return RK_OK;
}

const char *rk_peer_link_name(enum rk_host_link link)
{
    static const char *const names[RK_LINK_COUNT] = {"control", "bulk", "snapshot"};
    return names[link];
}

static void set_timer(struct peer_out *out, uint64_t ms)
{
    struct timeval delay = {(time_t)(ms / 1000), (suseconds_t)(ms % 1000 * 1000)};
    (void)event_add(out->timer, &delay);
}

static void let_go(struct peer_out *out)
{
    if (out->resolving != NULL) {
        struct evdns_getaddrinfo_request *resolving = out->resolving;
        out->resolving = NULL;
        evdns_getaddrinfo_cancel(resolving);
    }
    if (out->connect != NULL) event_free(out->connect);
    out->connect = NULL;
    if (out->fd >= 0) (void)close(out->fd);
    out->fd = -1;
    rk_stream_close(&out->stream);
}

/* Each new reason is logged once: a peer that is down for hours is one line. */
static void log_reason(struct peer_out *out)
{
    if (out->link != RK_LINK_CONTROL || strcmp(out->reason, out->logged) == 0) return;
    memcpy(out->logged, out->reason, sizeof(out->logged));
    rk_log_event(&out->peers->worker->log, RK_LOG_WARN, "peer not reached",
                 RK_LOG_TEXT("peer", out->node.name),
                 RK_LOG_TEXT("address", out->node.peer),
                 RK_LOG_TEXT("reason", out->reason));
}

/* For out->reason; is_ours: it says nothing about the peer. */
static void end(struct peer_out *out, bool is_ours)
{
    struct rk_worker *worker = out->peers->worker;
    bool was_up = out->state == OUT_UP;
    let_go(out);
    out->state = OUT_WAITING;
    if (was_up) {
        worker->metrics.peer_links_up--;
        worker->metrics.peer_link_losses++;
        out->attempts = 0;
        out->backoff_ms = 0;
        rk_log_event(&worker->log, RK_LOG_INFO, "peer link lost",
                     RK_LOG_TEXT("peer", out->node.name),
                     RK_LOG_TEXT("link", rk_peer_link_name(out->link)),
                     RK_LOG_TEXT("reason", out->reason));
    } else {
        out->attempts++;
        log_reason(out);
    }
    rk_worker_touch(worker);
    rk_host_link_down(worker->host, out->node.name, out->link, !was_up && !is_ours);
    uint32_t pause = out->backoff_ms;
    if (pause > 1) pause = pause / 2 + (uint32_t)rk_random_below(&worker->random, pause);
    out->backoff_ms = out->backoff_ms == 0 ? BACKOFF_MIN_MS : out->backoff_ms * 2;
    if (out->backoff_ms > BACKOFF_MAX_MS) out->backoff_ms = BACKOFF_MAX_MS;
    set_timer(out, pause);
}

__attribute__((format(printf, 2, 3))) static void fail(struct peer_out *out,
                                                       const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    (void)vsnprintf(out->reason, sizeof(out->reason), format, arguments);
    va_end(arguments);
    end(out, false);
}

static void fail_here(struct peer_out *out, const char *reason)
{
    (void)snprintf(out->reason, sizeof(out->reason), "%s", reason);
    end(out, true);
}

static void send_hello(struct peer_out *out)
{
    const struct rk_config *config = out->peers->worker->config;
    struct rk_buf hello;
    rk_buf_init(&hello);
    rk_buf_u32(&hello, PEER_MAGIC);
    rk_buf_u8(&hello, PEER_VERSION);
    rk_buf_u8(&hello, (uint8_t)out->link);
    rk_buf_blob(&hello, rk_slice_of_string(config->cluster));
    rk_buf_blob(&hello, rk_slice_of_string(config->name));
    rk_buf_blob(&hello, rk_slice_of_string(out->node.name));
    rk_peer_frame(&out->stream.out, rk_buf_slice(&hello));
    rk_buf_fini(&hello);
    rk_stream_touch(&out->stream);
}

/* The only thing that is ever received here: the answer to the hello. */
static size_t on_answer(struct rk_stream *stream, struct rk_slice in)
{
    struct peer_out *out = RK_CONTAINER(stream, struct peer_out, stream);
    struct rk_worker *worker = out->peers->worker;
    struct rk_slice payload;
    size_t used = 0;
    if (out->state != OUT_GREETING) {
        fail(out, "unexpected bytes");
        return 0;
    }
    enum rk_status status = rk_peer_unframe(&payload, &used, in, RK_PEERS_HELLO_MAX);
    if (status == RK_EBUSY) return 0;
    struct rk_reader reader;
    rk_reader_init(&reader, payload);
    uint8_t code = status == RK_OK ? rk_read_u8(&reader) : 1;
    struct rk_slice text = status == RK_OK ? rk_read_blob(&reader) : RK_SLICE_EMPTY;
    if (status != RK_OK || reader.is_failed) {
        fail(out, "what answers is no node of rukun");
        return 0;
    }
    if (code != 0) {
        fail(out, "refused: %.*s", (int)(text.size < 128 ? text.size : 128),
             (const char *)text.data);
        return 0;
    }
    (void)event_del(out->timer);
    out->state = OUT_UP;
    out->attempts = 0;
    out->backoff_ms = 0;
    out->logged[0] = '\0';
    worker->metrics.peer_links_up++;
    rk_log_event(&worker->log, RK_LOG_INFO, "peer link up",
                 RK_LOG_TEXT("peer", out->node.name),
                 RK_LOG_TEXT("link", rk_peer_link_name(out->link)));
    rk_worker_touch(worker);
    rk_host_link_up(worker->host, out->node.name, out->link);
    return used;
}

static void on_gone(struct rk_stream *stream, int error_number)
{
    struct peer_out *out = RK_CONTAINER(stream, struct peer_out, stream);
    fail(out, "%s", error_number == 0 ? "closed by the peer" : strerror(error_number));
}

static const struct rk_stream_handler out_handler = {on_answer, on_gone, NULL};

static void on_connected(evutil_socket_t fd, short what, void *context)
{
    struct peer_out *out = context;
    struct rk_worker *worker = out->peers->worker;
    int error = 0;
    socklen_t size = sizeof(error);
    (void)what;
    if (getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &size) != 0) error = errno;
    if (error != 0) {
        fail(out, "%s", strerror(error));
        return;
    }
    rk_socket_tune(fd, (unsigned)worker->config->election_timeout_ms * 3);
    if (rk_stream_open(&out->stream, &worker->streams, fd, &out_handler) != RK_OK) {
        fail_here(out, "no memory");
        return;
    }
    out->fd = -1; /* the stream's now */
    event_free(out->connect);
    out->connect = NULL;
    out->state = OUT_GREETING;
    send_hello(out);
}

static void connect_to(struct peer_out *out, const struct evutil_addrinfo *addresses)
{
    uint32_t count = 0;
    for (const struct evutil_addrinfo *at = addresses; at != NULL; at = at->ai_next)
        count++;
    uint32_t pick = count > 0 ? out->attempts % count : 0;
    while (pick-- > 0)
        addresses = addresses->ai_next;
    if (addresses == NULL) {
        fail(out, "the name has no address");
        return;
    }
    out->state = OUT_CONNECTING;
    out->fd = socket(addresses->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (out->fd < 0) {
        fail_here(out, strerror(errno));
        return;
    }
    if (connect(out->fd, addresses->ai_addr, (socklen_t)addresses->ai_addrlen) != 0 &&
        errno != EINPROGRESS) {
        fail(out, "%s", strerror(errno));
        return;
    }
    out->connect =
        event_new(out->peers->worker->base, out->fd, EV_WRITE, on_connected, out);
    if (out->connect == NULL || event_add(out->connect, NULL) != 0)
        fail_here(out, "no memory");
}

static void on_resolved(int result, struct evutil_addrinfo *addresses, void *context)
{
    struct peer_out *out = context;
    out->resolving = NULL;
    if (result == EVUTIL_EAI_CANCEL) return;
    if (result != 0)
        fail(out, "%s", evutil_gai_strerror(result));
    else
        connect_to(out, addresses);
    if (addresses != NULL) evutil_freeaddrinfo(addresses);
}

static void start(struct peer_out *out)
{
    struct rk_worker *worker = out->peers->worker;
    struct rk_address address;
    char port[8];
    struct evutil_addrinfo hints = {0}, *found = NULL;
    /* A node that moved tells its new address to those whom it reaches; one that all others
     * were told of by --peers is where that says. */
    bool is_other = out->configured[0] != '\0' && (out->attempts & 1) != 0;
    if (rk_address_parse(&address, is_other ? out->configured : out->node.peer) != RK_OK) {
        fail_here(out, "no address is known");
        return;
    }
    (void)snprintf(port, sizeof(port), "%u", (unsigned)address.port);
    hints.ai_family = AF_UNSPEC;
    hints.ai_socktype = SOCK_STREAM;
    hints.ai_protocol = IPPROTO_TCP;
    hints.ai_flags = EVUTIL_AI_NUMERICHOST;
    set_timer(out, ATTEMPT_MS);
    if (evutil_getaddrinfo(address.host, port, &hints, &found) == 0) {
        connect_to(out, found);
        evutil_freeaddrinfo(found);
        return;
    }
    hints.ai_flags = 0;
    out->state = OUT_RESOLVING;
    if (worker->dns == NULL) {
        fail_here(out, "no name service");
        return;
    }
    /* Names are looked up at each attempt, the hosts file too: containers move. */
    evdns_base_clear_host_addresses(worker->dns);
    (void)evdns_base_load_hosts(worker->dns, "/etc/hosts");
    struct evdns_getaddrinfo_request *request =
        evdns_getaddrinfo(worker->dns, address.host, port, &hints, on_resolved, out);
    /* The callback may have run already; then there is nothing to cancel. */
    if (out->state == OUT_RESOLVING) out->resolving = request;
}

static void on_timer(evutil_socket_t fd, short what, void *context)
{
    struct peer_out *out = context;
    (void)fd;
    (void)what;
    if (out->state == OUT_WAITING)
        start(out);
    else if (out->state != OUT_UP)
        fail(out, "no answer within %d ms", (int)ATTEMPT_MS);
}

/* --- who is connected ---------------------------------------------------------------- */

static struct peer_out *find_out(struct rk_peers *peers, const char *name,
                                 enum rk_host_link link)
{
    rk_list_each (at, &peers->outs) {
        struct peer_out *out = RK_CONTAINER(at, struct peer_out, link_out);
        if (out->link == link && strcmp(out->node.name, name) == 0) return out;
    }
    return NULL;
}

static void out_free(struct peer_out *out)
{
    if (out->state == OUT_UP) out->peers->worker->metrics.peer_links_up--;
    let_go(out);
    if (out->timer != NULL) event_free(out->timer);
    rk_list_remove(&out->link_out);
    rk_free(out);
}

static enum rk_status out_new(struct rk_peers *peers, const char *name,
                              enum rk_host_link link)
{
    const struct rk_config *config = peers->worker->config;
    struct peer_out *out = rk_calloc(1, sizeof(*out));
    if (out == NULL) return RK_ENOMEM;
    out->timer = event_new(peers->worker->base, -1, 0, on_timer, out);
    if (out->timer == NULL) {
        rk_free(out);
        return RK_ENOMEM;
    }
    out->peers = peers;
    out->link = link;
    out->fd = -1;
    (void)snprintf(out->node.name, sizeof(out->node.name), "%s", name);
    for (uint32_t i = 0; i < config->node_count; i++)
        if (strcmp(config->nodes[i].name, name) == 0)
            memcpy(out->configured, config->nodes[i].peer, sizeof(out->configured));
    rk_list_push_back(&peers->outs, &out->link_out);
    return RK_OK;
}

/* A connection that stands is kept: what changed may be the spelling. */
static void out_follow(struct peer_out *out, const char *address)
{
    if (out->state == OUT_UP)
        rk_host_link_up(out->peers->worker->host, out->node.name, out->link);
    if (strcmp(out->node.peer, address) == 0) return;
    (void)snprintf(out->node.peer, sizeof(out->node.peer), "%s", address);
    if (out->state != OUT_WAITING) return;
    out->backoff_ms = 0;
    set_timer(out, 0);
}

void rk_peers_wake(struct rk_peers *peers, const char *name)
{
    rk_list_each (at, &peers->outs) {
        struct peer_out *out = RK_CONTAINER(at, struct peer_out, link_out);
        if (out->state != OUT_WAITING || strcmp(out->node.name, name) != 0) continue;
        out->backoff_ms = 0;
        set_timer(out, 0);
    }
}

static bool has_node(const struct rk_host_status *status, const char *name)
{
    for (uint32_t i = 0; i < status->node_count; i++)
        if (strcmp(status->nodes[i].name, name) == 0) return true;
    return false;
}

enum rk_status rk_peers_sync(struct rk_peers *peers)
{
    struct rk_worker *worker = peers->worker;
    uint64_t version = rk_host_members_version(worker->host);
    struct rk_host_status status;
    if (version == peers->members_seen) return RK_OK;
    rk_host_status(worker->host, &status);
    rk_list_each_safe (at, &peers->outs) {
        struct peer_out *out = RK_CONTAINER(at, struct peer_out, link_out);
        if (!has_node(&status, out->node.name)) out_free(out);
    }
    for (uint32_t i = 0; i < status.node_count; i++) {
        const struct rk_host_node_status *node = &status.nodes[i];
        if (strcmp(node->name, worker->config->name) == 0) continue;
        for (int link = 0; link < RK_LINK_COUNT; link++) {
            struct peer_out *out = find_out(peers, node->name, (enum rk_host_link)link);
            if (out == NULL && out_new(peers, node->name, (enum rk_host_link)link) != RK_OK)
                return RK_ENOMEM; /* tried again in the next turn */
            out = find_out(peers, node->name, (enum rk_host_link)link);
            out_follow(out, node->peer);
        }
    }
    peers->members_seen = version;
    return RK_OK;
}

enum rk_status rk_peers_new(struct rk_peers **out, struct rk_worker *worker, int listener)
{
    struct rk_peers *peers = rk_calloc(1, sizeof(*peers));
    if (peers == NULL) {
        (void)close(listener);
        return RK_ENOMEM;
    }
    peers->worker = worker;
    rk_list_init(&peers->incoming);
    rk_list_init(&peers->outs);
    enum rk_status status = rk_peer_listen(peers, listener);
    if (status == RK_OK) status = rk_peers_sync(peers);
    if (status != RK_OK) {
        rk_peers_free(peers);
        return status;
    }
    *out = peers;
    return RK_OK;
}

void rk_peers_free(struct rk_peers *peers)
{
    if (peers == NULL) return;
    if (peers->listener != NULL) {
        rk_worker_unguard(peers->worker, peers->listener);
        evconnlistener_free(peers->listener);
    }
    rk_list_each_safe (link, &peers->outs)
        out_free(RK_CONTAINER(link, struct peer_out, link_out));
    rk_list_each_safe (link, &peers->incoming)
        rk_peer_in_close(RK_CONTAINER(link, struct peer_in, link_in));
    rk_free(peers);
}

void rk_peers_send(struct rk_peers *peers, const char *name, enum rk_host_link link,
                   struct rk_slice frame)
{
    struct rk_metrics *metrics = &peers->worker->metrics;
    struct peer_out *out = find_out(peers, name, link);
    if (out == NULL || out->state != OUT_UP || frame.size > RK_HOST_FRAME_MAX ||
        rk_stream_pending(&out->stream) + frame.size > pending_max[link] ||
        rk_buf_reserve(&out->stream.out, PEER_FRAME_HEAD + frame.size) != RK_OK) {
        metrics->peer_frames_lost++;
        return;
    }
    rk_peer_frame(&out->stream.out, frame);
    rk_stream_touch(&out->stream);
    metrics->peer_frames_sent++;
}
