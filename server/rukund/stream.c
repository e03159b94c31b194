#include "rukund/stream.h"

#include "base/assert.h"

#include <errno.h>
#include <event2/event.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <unistd.h>

enum {
    READ_CHUNK = 64 << 10,
    READ_CHUNK_LARGE = 1 << 20, /* once the buffer holds part of something big */
    KEEP_BYTES = 256 << 10,     /* empty buffers above this are given back */
};

void rk_streams_init(struct rk_streams *streams, struct event_base *base)
{
    memset(streams, 0, sizeof(*streams));
    streams->base = base;
    rk_list_init(&streams->dirty);
}

static void give_back(struct rk_buf *buf)
{
    rk_buf_reset(buf);
    if (buf->capacity > KEEP_BYTES) {
        rk_buf_fini(buf);
        rk_buf_init(buf);
    }
}

static void show_input(struct rk_stream *stream)
{
    if (stream->in.size == 0 || stream->is_paused) return;
    size_t used = stream->handler->data(stream, rk_buf_slice(&stream->in));
    if (!rk_stream_is_open(stream) || used == 0) return;
    RK_ASSERT(used <= stream->in.size);
    size_t left = stream->in.size - used;
    if (left == 0) {
        give_back(&stream->in);
    } else {
        memmove(stream->in.data, stream->in.data + used, left);
        stream->in.size = left;
    }
}

static void on_read(evutil_socket_t fd, short what, void *context)
{
    struct rk_stream *stream = context;
    (void)what;
    size_t chunk = stream->in.size >= READ_CHUNK ? READ_CHUNK_LARGE : READ_CHUNK;
    if (rk_buf_reserve(&stream->in, chunk) != RK_OK) {
        stream->handler->gone(stream, ENOMEM);
        return;
    }
    ssize_t size = read(fd, stream->in.data + stream->in.size, chunk);
    if (size > 0) {
        stream->in.size += (size_t)size;
        stream->streams->bytes_in += (uint64_t)size;
    } else if (size == 0 || (errno != EAGAIN && errno != EINTR)) {
        stream->handler->gone(stream, size == 0 ? 0 : errno);
        return;
    }
    show_input(stream);
}

static void on_closed(evutil_socket_t fd, short what, void *context)
{
    struct rk_stream *stream = context;
    (void)fd;
    (void)what;
    if (stream->is_paused) stream->handler->gone(stream, 0);
}

static void write_out(struct rk_stream *stream)
{
    while (stream->out_at < stream->out.size) {
        ssize_t size = send(stream->fd, stream->out.data + stream->out_at,
                            stream->out.size - stream->out_at, MSG_NOSIGNAL);
        if (size < 0 && errno == EINTR) continue;
        if (size < 0) {
            if (errno == EAGAIN) break;
            /* The reader sees the end in the next turn and tells the owner. */
            (void)shutdown(stream->fd, SHUT_RDWR);
            give_back(&stream->out);
            stream->out_at = 0;
            return;
        }
        stream->out_at += (size_t)size;
        stream->streams->bytes_out += (uint64_t)size;
    }
    if (stream->out_at < stream->out.size) {
        if (!stream->is_write_armed && event_add(stream->write_event, NULL) == 0)
            stream->is_write_armed = true;
        return;
    }
    give_back(&stream->out);
    stream->out_at = 0;
    if (stream->is_write_armed) (void)event_del(stream->write_event);
    stream->is_write_armed = false;
    if (stream->handler->drained != NULL) stream->handler->drained(stream);
}

static void on_write(evutil_socket_t fd, short what, void *context)
{
    (void)fd;
    (void)what;
    write_out(context);
}

void rk_streams_flush(struct rk_streams *streams)
{
    while (!rk_list_is_empty(&streams->dirty)) {
        struct rk_stream *stream =
            RK_CONTAINER(rk_list_first(&streams->dirty), struct rk_stream, dirty);
        rk_list_remove(&stream->dirty);
        /* While the socket is full its own event writes. */
        if (!stream->is_write_armed) write_out(stream);
    }
}

enum rk_status rk_stream_open(struct rk_stream *stream, struct rk_streams *streams, int fd,
                              const struct rk_stream_handler *handler)
{
    memset(stream, 0, sizeof(*stream));
    stream->streams = streams;
    stream->handler = handler;
    stream->fd = -1;
    rk_list_init(&stream->dirty);
    rk_buf_init(&stream->in);
    rk_buf_init(&stream->out);
    stream->read_event =
        event_new(streams->base, fd, EV_READ | EV_PERSIST, on_read, stream);
    stream->write_event =
        event_new(streams->base, fd, EV_WRITE | EV_PERSIST, on_write, stream);
    stream->closed_event =
        event_new(streams->base, fd, EV_CLOSED | EV_PERSIST, on_closed, stream);
    if (stream->read_event == NULL || stream->write_event == NULL ||
        stream->closed_event == NULL || event_add(stream->read_event, NULL) != 0) {
        rk_stream_close(stream);
        return RK_ENOMEM;
    }
    stream->fd = fd;
    return RK_OK;
}

static void free_event(struct event **event)
{
    if (*event != NULL) event_free(*event);
    *event = NULL;
}

void rk_stream_close(struct rk_stream *stream)
{
    if (stream->streams == NULL) return;
    free_event(&stream->read_event);
    free_event(&stream->write_event);
    free_event(&stream->closed_event);
    rk_list_remove(&stream->dirty);
    rk_buf_fini(&stream->in);
    rk_buf_fini(&stream->out);
    stream->out_at = 0;
    if (stream->fd >= 0) (void)close(stream->fd);
    stream->fd = -1;
    stream->streams = NULL;
}

void rk_stream_touch(struct rk_stream *stream)
{
    if (!rk_stream_is_open(stream) || rk_list_is_linked(&stream->dirty)) return;
    rk_list_push_back(&stream->streams->dirty, &stream->dirty);
}

void rk_stream_pause(struct rk_stream *stream)
{
    if (stream->is_paused || !rk_stream_is_open(stream)) return;
    stream->is_paused = true;
    (void)event_del(stream->read_event);
    (void)event_add(stream->closed_event, NULL);
}

void rk_stream_resume(struct rk_stream *stream)
{
    if (!stream->is_paused || !rk_stream_is_open(stream)) return;
    stream->is_paused = false;
    (void)event_del(stream->closed_event);
    (void)event_add(stream->read_event, NULL);
    event_active(stream->read_event, EV_READ, 0);
}

void rk_socket_tune(int fd, unsigned user_timeout_ms)
{
    int yes = 1;
    (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof(yes));
    (void)setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &yes, sizeof(yes));
    (void)setsockopt(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &user_timeout_ms,
                     sizeof(user_timeout_ms));
}
