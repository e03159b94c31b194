/* stream.h - one TCP connection of the loop: a buffer in, a buffer out.
 *
 * What is appended to `out` during a turn leaves with one write at the end of the turn.
 * Peers and RPC stand on it; HTTP is evhttp's. Loop thread only. */
#ifndef RK_RUKUND_STREAM_H
#define RK_RUKUND_STREAM_H

#include "base/bytes.h"
#include "base/list.h"

struct event;
struct event_base;
struct rk_stream;

struct rk_stream_handler {
    /* Bytes are there. Returns how many were used up; the rest is shown again with more
     * behind it. May close the stream (the return value is then ignored). */
    size_t (*data)(struct rk_stream *stream, struct rk_slice in);
    /* The connection ended by itself: end of file or error_number. The handler closes. */
    void (*gone)(struct rk_stream *stream, int error_number);
    /* All of `out` has left and the stream was told to close then, or NULL. */
    void (*drained)(struct rk_stream *stream);
};

struct rk_streams { /* of one loop */
    struct event_base *base;
    struct rk_list dirty;
    uint64_t bytes_in;
    uint64_t bytes_out;
};

struct rk_stream {
    struct rk_streams *streams;
    const struct rk_stream_handler *handler;
    struct rk_list dirty; /* in streams->dirty while out waits for the end of the turn */
    struct event *read_event;
    struct event *write_event;
    struct event *closed_event; /* watched while paused */
    int fd;                     /* -1: closed */
    bool is_paused;
    bool is_write_armed;
    struct rk_buf in;
    struct rk_buf out;
    size_t out_at; /* bytes of out that have left */
};

void rk_streams_init(struct rk_streams *streams, struct event_base *base);
/* Writes what every dirty stream has: the end of the turn. */
void rk_streams_flush(struct rk_streams *streams);

/* Takes over a connected non-blocking socket and starts to read. RK_ENOMEM: fd is the
 * caller's still. */
RK_MUST_CHECK enum rk_status rk_stream_open(struct rk_stream *stream,
                                            struct rk_streams *streams, int fd,
                                            const struct rk_stream_handler *handler);
/* Closes the socket and frees buffers; no handler is called. Closing twice is fine, also
 * one that was zeroed and never opened. */
void rk_stream_close(struct rk_stream *stream);
static inline bool rk_stream_is_open(const struct rk_stream *stream)
{
    return stream->streams != NULL && stream->fd >= 0;
}
/* After appending to out. */
void rk_stream_touch(struct rk_stream *stream);
/* Bytes that wait to leave. */
static inline size_t rk_stream_pending(const struct rk_stream *stream)
{
    return stream->out.size - stream->out_at;
}
/* Stops reading; only the end of the connection is still noticed. */
void rk_stream_pause(struct rk_stream *stream);
/* Reads again; what is in the buffer is shown in a later turn. */
void rk_stream_resume(struct rk_stream *stream);

/* TCP_NODELAY, and the connection fails when sent bytes stay unanswered for so long. */
void rk_socket_tune(int fd, unsigned user_timeout_ms);
#endif
