/* The receiving half: connections that peers make. */
#include "rukund/peers_internal.h"

#include "base/alloc.h"

#include <event2/listener.h>
#include <stdio.h>
#include <unistd.h>

void rk_peer_in_close(struct peer_in *in)
{
    rk_list_remove(&in->link_in);
    in->peers->incoming_count--;
    rk_stream_close(&in->stream);
    rk_free(in);
}

static void answer(struct peer_in *in, const char *refusal)
{
    struct rk_buf payload;
    rk_buf_init(&payload);
    rk_buf_u8(&payload, refusal[0] != '\0');
    rk_buf_blob(&payload, rk_slice_of_string(refusal));
    rk_peer_frame(&in->stream.out, rk_buf_slice(&payload));
    rk_buf_fini(&payload);
    rk_stream_touch(&in->stream);
    in->is_refused = refusal[0] != '\0';
    in->is_greeted = !in->is_refused;
}

/* A link has one connection: a new one takes the place of one that the peer gave up. */
static void close_older(struct peer_in *in)
{
    rk_list_each_safe (link, &in->peers->incoming) {
        struct peer_in *other = RK_CONTAINER(link, struct peer_in, link_in);
        if (other != in && other->is_greeted && other->link == in->link &&
            strcmp(other->name, in->name) == 0)
            rk_peer_in_close(other);
    }
}

static void greet(struct peer_in *in, struct rk_slice payload)
{
    const struct rk_config *config = in->peers->worker->config;
    char text[256] = "";
    struct rk_reader reader;
    rk_reader_init(&reader, payload);
    uint32_t magic = rk_read_u32(&reader);
    uint8_t version = rk_read_u8(&reader);
    uint8_t link = rk_read_u8(&reader);
    struct rk_slice cluster = rk_read_blob(&reader);
    struct rk_slice name = rk_read_blob(&reader);
    struct rk_slice to = rk_read_blob(&reader);
    struct rk_slice own_cluster = rk_slice_of_string(config->cluster);
    if (name.size <= RK_NODE_NAME_MAX) {
        if (name.size > 0) memcpy(in->name, name.data, name.size);
        in->name[name.size] = '\0';
    }
    if (magic == PEER_MAGIC && version != PEER_VERSION)
        (void)snprintf(text, sizeof(text),
                       "version %u of the peer protocol is not spoken, only %d",
                       (unsigned)version, (int)PEER_VERSION);
    else if (magic != PEER_MAGIC || rk_reader_check(&reader, false) != RK_OK ||
             link >= RK_LINK_COUNT || !rk_node_name_is_valid(in->name))
        (void)snprintf(text, sizeof(text), "malformed hello");
    else if (!rk_slice_is_equal(to, rk_slice_of_string(config->name)))
        (void)snprintf(text, sizeof(text), "this is node %s", config->name);
    else if (strcmp(in->name, config->name) == 0)
        (void)snprintf(text, sizeof(text), "two nodes are called %s", config->name);
    else if (cluster.size > 0 && own_cluster.size > 0 &&
             !rk_slice_is_equal(cluster, own_cluster))
        (void)snprintf(text, sizeof(text), "this is cluster %.64s", config->cluster);
    in->link = (enum rk_host_link)(link < RK_LINK_COUNT ? link : 0);
    answer(in, text);
    if (in->is_greeted) {
        close_older(in);
        rk_peers_wake(in->peers, in->name);
        return;
    }
    in->peers->worker->metrics.peers_refused++;
    rk_log_event(&in->peers->worker->log, RK_LOG_WARN, "peer refused",
                 RK_LOG_TEXT("peer", in->name), RK_LOG_TEXT("reason", text));
}

static size_t on_frames(struct rk_stream *stream, struct rk_slice input)
{
    struct peer_in *in = RK_CONTAINER(stream, struct peer_in, stream);
    struct rk_worker *worker = in->peers->worker;
    size_t at = 0;
    while (at < input.size && !in->is_refused) {
        struct rk_slice payload;
        size_t used = 0;
        enum rk_status status =
            rk_peer_unframe(&payload, &used, rk_slice_of(input.data + at, input.size - at),
                            in->is_greeted ? RK_HOST_FRAME_MAX : RK_PEERS_HELLO_MAX);
        if (status == RK_EBUSY) break;
        if (status != RK_OK) {
            rk_log_event(&worker->log, RK_LOG_WARN, "peer sent a bad frame",
                         RK_LOG_TEXT("peer", in->name),
                         RK_LOG_TEXT("reason", rk_status_text(status)));
            rk_peer_in_close(in);
            return 0;
        }
        at += used;
        if (!in->is_greeted) {
            greet(in, payload);
            continue;
        }
        worker->metrics.peer_frames_received++;
        rk_worker_touch(worker);
        rk_host_receive(worker->host, in->name, in->link, payload);
    }
    return in->is_refused ? input.size : at;
}

static void on_gone(struct rk_stream *stream, int error_number)
{
    (void)error_number;
    rk_peer_in_close(RK_CONTAINER(stream, struct peer_in, stream));
}

/* The refusal has left: end the sending side; the peer closes, or the bound drops it. */
static void on_drained(struct rk_stream *stream)
{
    struct peer_in *in = RK_CONTAINER(stream, struct peer_in, stream);
    if (in->is_refused) rk_peer_in_close(in);
}

static const struct rk_stream_handler in_handler = {on_frames, on_gone, on_drained};

/* Strangers that never say hello must not keep peers out: the oldest of them goes. */
static void make_room(struct rk_peers *peers)
{
    if (peers->incoming_count < RK_PEERS_INCOMING_MAX) return;
    rk_list_each_safe (link, &peers->incoming) {
        struct peer_in *in = RK_CONTAINER(link, struct peer_in, link_in);
        if (in->is_greeted) continue;
        rk_peer_in_close(in);
        return;
    }
}

static void on_accept(struct evconnlistener *listener, evutil_socket_t fd,
                      struct sockaddr *address, int size, void *context)
{
    struct rk_peers *peers = context;
    (void)listener;
    (void)address;
    (void)size;
    make_room(peers);
    struct peer_in *in =
        peers->incoming_count < RK_PEERS_INCOMING_MAX ? rk_calloc(1, sizeof(*in)) : NULL;
    if (in == NULL) {
        (void)close(fd);
        return;
    }
    in->peers = peers;
    rk_socket_tune(fd, (unsigned)peers->worker->config->election_timeout_ms * 3);
    if (rk_stream_open(&in->stream, &peers->worker->streams, fd, &in_handler) != RK_OK) {
        (void)close(fd);
        rk_free(in);
        return;
    }
    rk_list_push_back(&peers->incoming, &in->link_in);
    peers->incoming_count++;
}

enum rk_status rk_peer_listen(struct rk_peers *peers, int listener)
{
    peers->listener =
        evconnlistener_new(peers->worker->base, on_accept, peers,
                           LEV_OPT_CLOSE_ON_FREE | LEV_OPT_CLOSE_ON_EXEC, 0, listener);
    if (peers->listener == NULL) {
        (void)close(listener);
        return RK_ENOMEM;
    }
    rk_worker_guard(peers->worker, peers->listener);
    return RK_OK;
}
