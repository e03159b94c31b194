#include "rukund/rpc.h"

#include "base/alloc.h"
#include "rukund/documents.h"
#include "rukund/rpc_message.h"
#include "rukund/worker.h"

#include <event2/event.h>
#include <event2/listener.h>
#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>

enum {
    SPARE_MAX = 4096,
    USER_TIMEOUT_MS = 30000,
    LINGER_MS = 1000,
    REPLY_SIZE_GUESS = 128 << 10 /* until answers tell */
};

struct rk_rpc {
    struct rk_worker *worker;
    struct evconnlistener *listener;
    struct rk_list connections;
    struct rk_list spare; /* freed calls, for the next */
    uint32_t spare_count;
    struct rk_buf hello_text, hello_packed; /* the last answer to a hello, as msgpack too */
};

struct rpc_connection {
    struct rk_stream stream;
    struct rk_rpc *rpc;
    struct rk_list link;  /* in rpc->connections */
    struct rk_list calls; /* struct rpc_call */
    uint32_t in_flight;
    uint32_t busy_count;     /* of them, those that do not wait for something to happen */
    size_t reply_size;       /* of the largest answers of late */
    struct rk_rpc_scan scan; /* of the message that is coming in */
    bool is_greeted;
    bool is_closing;      /* what comes in is thrown away */
    struct event *linger; /* while closing: the end of patience */
};

struct rpc_call {
    struct rk_call call;
    struct rk_list link; /* in connection->calls, or rpc->spare */
    struct rpc_connection *connection;
    uint64_t id;
    bool is_notification;
    bool is_wait;
};

static void free_call(struct rk_rpc *rpc, struct rpc_call *call)
{
    rk_list_remove(&call->link);
    if (rpc->spare_count == SPARE_MAX) {
        rk_free(call);
        return;
    }
    rk_list_push_front(&rpc->spare, &call->link);
    rpc->spare_count++;
}

static struct rpc_call *new_call(struct rk_rpc *rpc)
{
    struct rk_list *link = rk_list_first(&rpc->spare);
    struct rpc_call *call;
    if (link == NULL) return rk_calloc(1, sizeof(*call));
    call = RK_CONTAINER(link, struct rpc_call, link);
    rk_list_remove(link);
    rpc->spare_count--;
    memset(call, 0, sizeof(*call));
    return call;
}

static void close_connection(struct rpc_connection *connection)
{
    struct rk_rpc *rpc = connection->rpc;
    rk_list_each_safe (link, &connection->calls) {
        struct rpc_call *call = RK_CONTAINER(link, struct rpc_call, link);
        rk_calls_drop(rpc->worker, &call->call);
        free_call(rpc, call);
    }
    rk_list_remove(&connection->link);
    if (connection->linger != NULL) event_free(connection->linger);
    rpc->worker->metrics.rpc_connections--;
    rk_stream_close(&connection->stream);
    rk_free(connection);
}

static void on_linger(evutil_socket_t fd, short what, void *context)
{
    struct rpc_connection *connection = context;
    struct linger reset = {1, 0};
    (void)fd;
    (void)what;
    (void)setsockopt(connection->stream.fd, SOL_SOCKET, SO_LINGER, &reset, sizeof(reset));
    close_connection(connection);
}

/* Ends a connection without entering the host: its calls are dropped when the client has
 * closed too, or when patience ends. Until then input is read and thrown away, since
 * closing over unread bytes would reset the connection and could destroy the answer that
 * says why. */
static void begin_close(struct rpc_connection *connection, unsigned patience_ms)
{
    struct timeval patience = {patience_ms / 1000,
                               (suseconds_t)(patience_ms % 1000 * 1000)};
    connection->is_closing = true;
    rk_stream_resume(&connection->stream);
    rk_stream_touch(&connection->stream);
    if (connection->linger == NULL)
        connection->linger =
            event_new(connection->rpc->worker->base, -1, 0, on_linger, connection);
    if (connection->linger == NULL || event_add(connection->linger, &patience) != 0)
        (void)shutdown(connection->stream.fd, SHUT_RDWR);
}

/* [1, id, error, nil] or [1, id, nil, result], written in place. */
static void write_reply(struct rpc_connection *connection, bool has_id, uint64_t id,
                        const struct rk_reply *reply)
{
    struct rk_worker *worker = connection->rpc->worker;
    struct rk_buf *out = &connection->stream.out;
    size_t start = out->size;
    rk_rpc_write_array(out, 4);
    rk_rpc_write_uint(out, 1);
    if (has_id)
        rk_rpc_write_uint(out, id);
    else
        rk_rpc_write_nil(out);
    size_t error_at = out->size;
    if (reply->status == RK_OK) rk_rpc_write_nil(out);
    size_t body_at = out->size;
    rk_arena_reset(&worker->reply_arena);
    enum rk_status status = rk_reply_to_msgpack(out, reply, &worker->reply_arena);
    if (status == RK_ECONVERT && reply->status == RK_OK) {
        /* The encoder left a problem document: it takes the error's place. */
        memmove(out->data + error_at, out->data + body_at, out->size - body_at);
        out->size -= body_at - error_at;
        body_at = error_at;
    }
    bool is_problem = reply->status != RK_OK || status != RK_OK;
    if (reply->position_history != 0 && !is_problem) {
        struct rk_position_item one;
        struct rk_position position = rk_reply_position(reply, &one);
        rk_buf_reset(&worker->reply_buf);
        rk_position_print(&worker->reply_buf, &position);
        rk_rpc_map_add_text(out, body_at, "position", rk_buf_slice(&worker->reply_buf));
    }
    if (is_problem) rk_rpc_write_nil(out);
    if (out->is_failed) {
        /* Without memory for the answer only the end of the connection is left. */
        out->size = start;
        begin_close(connection, 0);
    }
    size_t size = out->size - start, faded = connection->reply_size / 8 * 7;
    connection->reply_size = size > faded ? size : faded;
    rk_stream_touch(&connection->stream);
}

/* How many calls that do not wait may be under way: fewer where answers are large. */
static uint32_t busy_max(const struct rpc_connection *connection)
{
    return (uint32_t)(RK_RPC_OUT_AIM / (connection->reply_size + 1) + 8);
}

static void check_load(struct rpc_connection *connection)
{
    uint64_t most = connection->rpc->worker->config->max_in_flight;
    uint32_t busy_most = busy_max(connection);
    size_t pending = rk_stream_pending(&connection->stream);
    if (connection->is_closing) return;
    if (pending > RK_RPC_OUT_MAX) {
        begin_close(connection, 0);
        return;
    }
    if (connection->in_flight >= most || connection->busy_count >= busy_most ||
        pending > RK_RPC_OUT_PAUSE)
        rk_stream_pause(&connection->stream);
    else if (connection->in_flight <= most / 2 && connection->busy_count <= busy_most / 2)
        rk_stream_resume(&connection->stream);
}

static void on_done(struct rk_call *base, const struct rk_reply *reply)
{
    struct rpc_call *call = RK_CONTAINER(base, struct rpc_call, call);
    struct rpc_connection *connection = call->connection;
    if (!call->is_notification) write_reply(connection, true, call->id, reply);
    connection->in_flight--;
    if (!call->is_wait) connection->busy_count--;
    free_call(connection->rpc, call);
    check_load(connection);
}

__attribute__((format(printf, 6, 7))) static void
refuse(struct rpc_connection *connection, const struct rk_rpc_message *message,
       enum rk_op op, enum rk_status status, const char *field, const char *format, ...)
{
    struct rk_reply reply;
    va_list arguments;
    connection->rpc->worker->metrics.bad_requests++;
    if (message != NULL && message->kind == RK_RPC_NOTIFICATION) return;
    rk_reply_problem(&reply, op, status, field, "%s", "");
    va_start(arguments, format);
    (void)vsnprintf(reply.text, sizeof(reply.text), format, arguments);
    va_end(arguments);
    write_reply(connection, message != NULL, message != NULL ? message->id : 0, &reply);
}

/* The value of a key of a msgpack map; false if it is not there. */
static bool map_find(struct rk_slice map, const char *name, struct rk_slice *out)
{
    if (map.size == 0) return false;
    uint8_t head = map.data[0];
    size_t at = (head & 0xf0) == 0x80 ? 1 : head == 0xde ? 3 : 0;
    if (at == 0) return false;
    struct rk_slice wanted = rk_slice_of_string(name);
    while (at < map.size) {
        size_t key_size = 0, value_size = 0;
        struct rk_slice rest = rk_slice_of(map.data + at, map.size - at);
        if (rk_msgpack_measure(rest, &key_size) != RK_OK) return false;
        struct rk_slice after = rk_slice_of(rest.data + key_size, rest.size - key_size);
        if (rk_msgpack_measure(after, &value_size) != RK_OK) return false;
        if (key_size == wanted.size + 1 && wanted.size < 32 &&
            rest.data[0] == (0xa0 | wanted.size) &&
            memcmp(rest.data + 1, wanted.data, wanted.size) == 0) {
            *out = rk_slice_of(after.data, value_size);
            return true;
        }
        at += key_size + value_size;
    }
    return false;
}

/* With its slots the document is large, and after a failure many clients ask at once: what
 * has not changed is not converted again. */
static struct rk_value hello_document(struct rk_rpc *rpc)
{
    struct rk_worker *worker = rpc->worker;
    struct rk_value packed;
    rk_buf_reset(&worker->scratch);
    rk_document_cluster(&worker->scratch, worker, true);
    struct rk_value text = {rk_buf_slice(&worker->scratch), RK_ENCODING_JSON};
    if (!rk_slice_is_equal(text.bytes, rk_buf_slice(&rpc->hello_text))) {
        rk_buf_reset(&rpc->hello_text);
        rk_buf_reset(&rpc->hello_packed);
        rk_arena_reset(&worker->reply_arena);
        if (rk_value_convert(&packed, text, RK_ENCODING_MSGPACK, &worker->reply_arena) !=
            RK_OK)
            return text;
        rk_buf_append_slice(&rpc->hello_packed, packed.bytes);
        rk_buf_append_slice(&rpc->hello_text, text.bytes);
        if (rpc->hello_text.is_failed || rpc->hello_packed.is_failed) {
            rk_buf_reset(&rpc->hello_text);
            return text;
        }
    }
    return (struct rk_value){rk_buf_slice(&rpc->hello_packed), RK_ENCODING_MSGPACK};
}

static void greet(struct rpc_connection *connection, const struct rk_rpc_message *message)
{
    struct rk_slice protocol;
    if (!rk_slice_is_equal(message->method, RK_SLICE_LITERAL("hello")) ||
        message->kind != RK_RPC_REQUEST) {
        refuse(connection, message, RK_OP_NONE, RK_EPROTO, NULL, "the first call is hello");
        begin_close(connection, LINGER_MS);
        return;
    }
    if (!map_find(message->params, "protocol", &protocol) || protocol.size != 1 ||
        protocol.data[0] != RK_RPC_PROTOCOL) {
        refuse(connection, message, RK_OP_NONE, RK_EPROTO, "protocol",
               "protocol %d is spoken here", (int)RK_RPC_PROTOCOL);
        begin_close(connection, LINGER_MS);
        return;
    }
    connection->is_greeted = true;
    struct rk_reply reply;
    rk_reply_problem(&reply, RK_OP_CLUSTER_INFO, RK_OK, NULL, "%s", "");
    reply.document = hello_document(connection->rpc);
    write_reply(connection, true, message->id, &reply);
}

/* [2, "cancel", [id]]: nobody waits for that request any more. It gets no answer; what it
 * would have been given is kept for others. */
static void abandon(struct rpc_connection *connection, struct rk_slice params)
{
    uint64_t id;
    if (rk_rpc_read_uint(&id, params) != RK_OK) {
        connection->rpc->worker->metrics.bad_requests++;
        return;
    }
    rk_list_each_safe (link, &connection->calls) {
        struct rpc_call *call = RK_CONTAINER(link, struct rpc_call, link);
        if (call->is_notification || call->id != id) continue;
        rk_calls_drop(connection->rpc->worker, &call->call);
        connection->in_flight--;
        free_call(connection->rpc, call);
        check_load(connection);
        return;
    }
}

static void start(struct rpc_connection *connection, const struct rk_rpc_message *message)
{
    struct rk_rpc *rpc = connection->rpc;
    struct rk_worker *worker = rpc->worker;
    if (message->kind == RK_RPC_NOTIFICATION &&
        rk_slice_is_equal(message->method, RK_SLICE_LITERAL("cancel"))) {
        abandon(connection, message->params);
        return;
    }
    const struct rk_op_info *info = rk_op_by_name(message->method);
    struct rk_request request;
    struct rk_api_error error = {RK_OK, "", ""};
    if (info == NULL || info->is_internal) {
        refuse(connection, message, RK_OP_NONE, RK_ENOENT, NULL, "there is no call %.*s",
               (int)(message->method.size < 64 ? message->method.size : 64),
               (const char *)message->method.data);
        return;
    }
    struct rk_slice params =
        message->params.size > 0 ? message->params : RK_SLICE_LITERAL("\x80");
    rk_arena_reset(&worker->arena);
    enum rk_status status =
        rk_request_from_msgpack(&request, info->op, params, &worker->arena, &error);
    if (status != RK_OK) {
        refuse(connection, message, info->op, status,
               error.field[0] != '\0' ? error.field : NULL, "%s", error.text);
        return;
    }
    struct rpc_call *call = new_call(rpc);
    if (call == NULL) {
        refuse(connection, message, info->op, RK_ENOMEM, NULL, "no memory for the call");
        return;
    }
    call->call.done = on_done;
    call->connection = connection;
    call->id = message->id;
    call->is_notification = message->kind == RK_RPC_NOTIFICATION;
    call->is_wait = request.wait_ms > 0 || request.fill_ms > 0;
    connection->in_flight++;
    if (!call->is_wait) connection->busy_count++;
    rk_list_push_back(&connection->calls, &call->link);
    rk_calls_start(worker, &call->call, RK_DOOR_RPC, &request);
}

/* One message of `in`; the bytes used, 0 when there is no whole one or no use going on. */
static size_t take_message(struct rpc_connection *connection, struct rk_slice in)
{
    const struct rk_config *config = connection->rpc->worker->config;
    struct rk_rpc_message message;
    size_t size = 0;
    enum rk_status status = rk_rpc_scan(&connection->scan, in, config->max_body_bytes);
    if (status == RK_EBUSY) return 0;
    connection->scan = (struct rk_rpc_scan){0, 0};
    if (status == RK_ESIZE) {
        refuse(connection, NULL, RK_OP_NONE, RK_ESIZE, NULL,
               "a message is above %llu bytes", (unsigned long long)config->max_body_bytes);
        begin_close(connection, LINGER_MS);
        return 0;
    }
    if (status == RK_OK) status = rk_msgpack_measure(in, &size); /* depth, and all else */
    if (status == RK_OK)
        status = rk_rpc_message_parse(&message, rk_slice_of(in.data, size));
    if (status != RK_OK) {
        refuse(connection, NULL, RK_OP_NONE, RK_EINVAL, NULL,
               "what came is no msgpack-rpc request");
        begin_close(connection, LINGER_MS);
        return 0;
    }
    if (connection->is_greeted)
        start(connection, &message);
    else
        greet(connection, &message);
    return size;
}

static size_t on_data(struct rk_stream *stream, struct rk_slice in)
{
    struct rpc_connection *connection = RK_CONTAINER(stream, struct rpc_connection, stream);
    size_t at = 0;
    while (at < in.size && !connection->is_closing && !stream->is_paused) {
        size_t used = take_message(connection, rk_slice_of(in.data + at, in.size - at));
        if (used == 0) break;
        at += used;
        check_load(connection);
    }
    return connection->is_closing ? in.size : at;
}

static void on_gone(struct rk_stream *stream, int error_number)
{
    (void)error_number;
    close_connection(RK_CONTAINER(stream, struct rpc_connection, stream));
}

static void on_drained(struct rk_stream *stream)
{
    struct rpc_connection *connection = RK_CONTAINER(stream, struct rpc_connection, stream);
    if (connection->is_closing)
        (void)shutdown(stream->fd, SHUT_WR);
    else
        check_load(connection);
}

static const struct rk_stream_handler handler = {on_data, on_gone, on_drained};

static void on_accept(struct evconnlistener *listener, evutil_socket_t fd,
                      struct sockaddr *address, int size, void *context)
{
    struct rk_rpc *rpc = context;
    struct rk_metrics *metrics = &rpc->worker->metrics;
    (void)listener;
    (void)address;
    (void)size;
    struct rpc_connection *connection = NULL;
    if (fd < rpc->worker->descriptor_max &&
        metrics->rpc_connections < rpc->worker->config->max_connections)
        connection = rk_calloc(1, sizeof(*connection));
    if (connection == NULL) {
        metrics->rpc_refused++;
        (void)close(fd);
        return;
    }
    connection->rpc = rpc;
    connection->reply_size = REPLY_SIZE_GUESS;
    rk_list_init(&connection->calls);
    rk_socket_tune(fd, USER_TIMEOUT_MS);
    if (rk_stream_open(&connection->stream, &rpc->worker->streams, fd, &handler) != RK_OK) {
        (void)close(fd);
        rk_free(connection);
        return;
    }
    rk_list_push_back(&rpc->connections, &connection->link);
    metrics->rpc_connections++;
    metrics->rpc_accepted++;
}

enum rk_status rk_rpc_new(struct rk_rpc **out, struct rk_worker *worker, int listener)
{
    struct rk_rpc *rpc = rk_calloc(1, sizeof(*rpc));
    if (rpc == NULL) {
        (void)close(listener);
        return RK_ENOMEM;
    }
    rpc->worker = worker;
    rk_list_init(&rpc->connections);
    rk_list_init(&rpc->spare);
    rpc->listener =
        evconnlistener_new(worker->base, on_accept, rpc,
                           LEV_OPT_CLOSE_ON_FREE | LEV_OPT_CLOSE_ON_EXEC, 0, listener);
    if (rpc->listener == NULL) {
        (void)close(listener);
        rk_free(rpc);
        return RK_ENOMEM;
    }
    rk_worker_guard(worker, rpc->listener);
    *out = rpc;
    return RK_OK;
}

void rk_rpc_stop(struct rk_rpc *rpc)
{
    if (rpc->listener == NULL) return;
    rk_worker_unguard(rpc->worker, rpc->listener);
    evconnlistener_free(rpc->listener);
    rpc->listener = NULL;
}

void rk_rpc_free(struct rk_rpc *rpc)
{
    if (rpc == NULL) return;
    rk_rpc_stop(rpc);
    rk_list_each_safe (link, &rpc->connections)
        close_connection(RK_CONTAINER(link, struct rpc_connection, link));
    rk_list_each_safe (link, &rpc->spare)
        rk_free(RK_CONTAINER(link, struct rpc_call, link));
    rk_buf_fini(&rpc->hello_text);
    rk_buf_fini(&rpc->hello_packed);
    rk_free(rpc);
}
