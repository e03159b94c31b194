#include "rukund/http_internal.h"

#include "base/alloc.h"

#include <event2/listener.h>
#include <stdarg.h>
#include <stdio.h>
#include <unistd.h>

enum { IDLE_SECONDS = 120 };

const char *rk_http_header(struct evhttp_request *request, const char *name)
{
    return evhttp_find_header(evhttp_request_get_input_headers(request), name);
}

struct rk_slice rk_http_body(struct evhttp_request *request)
{
    struct evbuffer *buffer = evhttp_request_get_input_buffer(request);
    size_t size = evbuffer_get_length(buffer);
    const unsigned char *data = size > 0 ? evbuffer_pullup(buffer, -1) : NULL;
    return rk_slice_of(data, data != NULL ? size : 0);
}

static const char *reason_of(int code)
{
    static const struct {
        int code;
        const char *reason;
    } reasons[] = {
        {200, "OK"},
        {204, "No Content"},
        {400, "Bad Request"},
        {401, "Unauthorized"},
        {403, "Forbidden"},
        {404, "Not Found"},
        {405, "Method Not Allowed"},
        {406, "Not Acceptable"},
        {409, "Conflict"},
        {410, "Gone"},
        {412, "Precondition Failed"},
        {413, "Content Too Large"},
        {415, "Unsupported Media Type"},
        {421, "Misdirected Request"},
        {422, "Unprocessable Content"},
        {429, "Too Many Requests"},
        {500, "Internal Server Error"},
        {501, "Not Offered"},
        {503, "Service Unavailable"},
        {504, "Gateway Timeout"},
        {507, "Insufficient Storage"},
    };
    for (size_t i = 0; i < sizeof(reasons) / sizeof(reasons[0]); i++)
        if (reasons[i].code == code) return reasons[i].reason;
    return "Error";
}

void rk_http_send(struct evhttp_request *request, int code, const char *type,
                  struct rk_slice body)
{
    struct evkeyvalq *headers = evhttp_request_get_output_headers(request);
    if (type != NULL) (void)evhttp_add_header(headers, "Content-Type", type);
    (void)evhttp_add_header(headers, "Cache-Control", "no-store");
    if (body.size > 0)
        (void)evbuffer_add(evhttp_request_get_output_buffer(request), body.data, body.size);
    evhttp_send_reply(request, code, reason_of(code), NULL);
}

void rk_http_reply_headers(struct rk_http *http, struct evhttp_request *request,
                           const struct rk_reply *reply)
{
    struct evkeyvalq *headers = evhttp_request_get_output_headers(request);
    struct rk_buf *text = &http->worker->reply_buf;
    if (reply->position_history != 0) {
        struct rk_position_item one;
        struct rk_position position = rk_reply_position(reply, &one);
        rk_buf_reset(text);
        rk_position_print(text, &position);
        rk_buf_u8(text, 0);
        if (!text->is_failed)
            (void)evhttp_add_header(headers, "Rukun-Position", (const char *)text->data);
    }
    bool is_retry = reply->status == RK_EUNAVAILABLE || reply->status == RK_EBUSY ||
                    reply->status == RK_EFULL;
    if (is_retry) {
        char seconds[24];
        uint64_t after = (reply->retry_after_ms + 999) / 1000;
        (void)snprintf(seconds, sizeof(seconds), "%llu",
                       (unsigned long long)(after > 0 ? after : 1));
        (void)evhttp_add_header(headers, "Retry-After", seconds);
    }
}

static enum rk_status encode(struct rk_http *http, const struct rk_media *media,
                             const struct rk_reply *reply)
{
    struct rk_worker *worker = http->worker;
    rk_buf_reset(&worker->reply_buf);
    rk_arena_reset(&worker->reply_arena);
    return media->encoding == RK_ENCODING_MSGPACK
               ? rk_reply_to_msgpack(&worker->reply_buf, reply, &worker->reply_arena)
               : rk_reply_to_json(&worker->reply_buf, reply, &worker->reply_arena);
}

void rk_http_reply(struct rk_http *http, struct evhttp_request *request,
                   const struct rk_media *media, const struct rk_reply *reply)
{
    rk_http_reply_headers(http, request, reply);
    enum rk_status encoded = encode(http, media, reply);
    enum rk_status status = encoded == RK_OK ? reply->status : encoded;
    struct rk_slice body = rk_buf_slice(&http->worker->reply_buf);
    if (encoded != RK_OK && encoded != RK_ECONVERT) body = RK_SLICE_EMPTY;
    rk_http_send(request, status == RK_OK ? 200 : rk_status_info(status)->http,
                 status == RK_OK ? media->type : media->problem, body);
}

void rk_http_problem(struct http_request *in, enum rk_status status, const char *field,
                     const char *format, ...)
{
    struct rk_reply reply;
    va_list arguments;
    rk_reply_problem(&reply, RK_OP_NONE, status, field, "%s", "");
    va_start(arguments, format);
    (void)vsnprintf(reply.text, sizeof(reply.text), format, arguments);
    va_end(arguments);
    in->http->worker->metrics.bad_requests++;
    rk_http_reply(in->http, in->request, &in->answer, &reply);
}

void rk_http_refuse_method(struct http_request *in, const char *allow)
{
    (void)evhttp_add_header(evhttp_request_get_output_headers(in->request), "Allow", allow);
    rk_http_problem(in, RK_EMETHOD, NULL, "%.200s is served by %s only", in->path, allow);
}

static void on_request(struct evhttp_request *request, void *context)
{
    struct http_request in = {
        .http = context,
        .request = request,
        .method = evhttp_request_get_command(request),
        .answer = rk_media_json,
    };
    const struct evhttp_uri *uri = evhttp_request_get_evhttp_uri(request);
    const char *path = uri != NULL ? evhttp_uri_get_path(uri) : NULL;
    in.path = path != NULL && path[0] != '\0' ? path : "/";
    if (strncmp(in.path, "/v1/", 4) == 0) in.path += 3;
    /* Errors before the body is looked at speak what the client said it understands. */
    if (rk_media_of_accept(&in.answer, rk_http_header(request, "Accept"), &rk_media_json) !=
        RK_OK)
        in.answer = rk_media_json;
    if (rk_http_operation(&in) || rk_http_page(&in) || rk_http_raw(&in) ||
        rk_http_backup(&in))
        return;
    rk_http_problem(&in, RK_ENOENT, NULL, "there is nothing at %.200s", in.path);
}

enum rk_status rk_http_new(struct rk_http **out, struct rk_worker *worker, int listener)
{
    const struct rk_config *config = worker->config;
    struct rk_http *http = rk_calloc(1, sizeof(*http));
    if (http == NULL) goto fail;
    http->worker = worker;
    rk_list_init(&http->calls);
    http->server = evhttp_new(worker->base);
    if (http->server == NULL) goto fail;
    evhttp_set_max_body_size(http->server, (ssize_t)config->max_body_bytes);
    evhttp_set_max_headers_size(http->server, (ssize_t)config->max_header_bytes);
    evhttp_set_timeout(http->server, IDLE_SECONDS);
    evhttp_set_default_content_type(http->server, NULL);
    /* All methods reach on_request, which refuses by path. */
    evhttp_set_allowed_methods(
        http->server, EVHTTP_REQ_GET | EVHTTP_REQ_POST | EVHTTP_REQ_HEAD | EVHTTP_REQ_PUT |
                          EVHTTP_REQ_DELETE | EVHTTP_REQ_OPTIONS | EVHTTP_REQ_TRACE |
                          EVHTTP_REQ_CONNECT | EVHTTP_REQ_PATCH);
    evhttp_set_gencb(http->server, on_request, http);
    evhttp_set_bevcb(http->server, rk_http_bufferevent, http);
    struct evconnlistener *listening =
        evconnlistener_new(worker->base, NULL, NULL,
                           LEV_OPT_CLOSE_ON_FREE | LEV_OPT_CLOSE_ON_EXEC, 0, listener);
    if (listening == NULL) goto fail;
    listener = -1;
    http->socket = evhttp_bind_listener(http->server, listening);
    if (http->socket == NULL) {
        evconnlistener_free(listening);
        goto fail;
    }
    rk_worker_guard(worker, listening);
    *out = http;
    return RK_OK;

fail:
    if (listener >= 0) (void)close(listener);
    rk_http_free(http);
    return RK_ENOMEM;
}

void rk_http_rest(struct rk_http *http)
{
    http->worker->is_resting = true;
    if (http->socket != NULL)
        (void)evconnlistener_disable(evhttp_bound_socket_get_listener(http->socket));
}

void rk_http_stop(struct rk_http *http)
{
    if (http->socket == NULL) return;
    rk_worker_unguard(http->worker, evhttp_bound_socket_get_listener(http->socket));
    evhttp_del_accept_socket(http->server, http->socket);
    http->socket = NULL;
}

void rk_http_free(struct rk_http *http)
{
    if (http == NULL) return;
    rk_http_stop(http);
    rk_http_backup_free(http);
    rk_list_each_safe (link, &http->calls) {
        struct http_call *call = RK_CONTAINER(link, struct http_call, link);
        rk_calls_drop(http->worker, &call->call);
        rk_list_remove(&call->link);
        if (call->closed != NULL) event_free(call->closed);
        rk_free(call);
    }
    if (http->server != NULL) evhttp_free(http->server);
    rk_free(http);
}
