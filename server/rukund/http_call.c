/* From an HTTP request to a call, and from its reply to the answer. */
#include "rukund/http_internal.h"

#include "base/alloc.h"
#include "base/hash.h"

#include <event2/bufferevent.h>
#include <stdio.h>
#include <stdlib.h>
#include <strings.h>

/* As the table of operations bounds `client` and `seq`. */
enum { CLIENT_MAX = 64 };
#define SEQ_MAX ((UINT64_C(1) << 53) - 1)

static void free_call(struct http_call *call)
{
    rk_list_remove(&call->link);
    if (call->closed != NULL) event_free(call->closed);
    rk_free(call);
}

/* Leaders are known by their RPC address; who speaks HTTP is told the HTTP one. (Asking
 * for the status within an answer is no event: it changes nothing of the host.) */
static void reply_not_leader(struct http_call *call, const struct rk_reply *reply)
{
    struct rk_worker *worker = call->http->worker;
    struct rk_reply told = *reply;
    struct rk_host_status status;
    worker->engine->status(worker, &status);
    for (uint32_t i = 0; i < status.node_count; i++)
        if (rk_slice_is_equal(reply->leader, rk_slice_of_string(status.nodes[i].rpc)))
            told.leader = rk_slice_of_string(status.nodes[i].http);
    rk_http_reply(call->http, call->request, &call->answer, &told);
}

static void on_done(struct rk_call *base, const struct rk_reply *reply)
{
    struct http_call *call = RK_CONTAINER(base, struct http_call, call);
    if (call->closed != NULL) {
        event_free(call->closed);
        call->closed = NULL;
    }
    if (call->reply != NULL && reply->status == RK_OK)
        call->reply(call, reply);
    else if (reply->status == RK_ENOTLEADER)
        reply_not_leader(call, reply);
    else
        rk_http_reply(call->http, call->request, &call->answer, reply);
    free_call(call);
}

/* The client left during a wait. evhttp does not look at a parked connection, so a separate
 * event on its socket does; enabling reads there would let a second request in. */
static void on_left(evutil_socket_t fd, short what, void *context)
{
    struct http_call *call = context;
    struct evhttp_connection *connection = evhttp_request_get_connection(call->request);
    (void)fd;
    (void)what;
    rk_calls_drop(call->http->worker, &call->call);
    free_call(call);
    if (connection != NULL) evhttp_connection_free(connection); /* with the request */
}

static void watch(struct http_call *call)
{
    struct evhttp_connection *connection = evhttp_request_get_connection(call->request);
    int fd = bufferevent_getfd(evhttp_connection_get_bufferevent(connection));
    call->closed = event_new(call->http->worker->base, fd, EV_CLOSED, on_left, call);
    if (call->closed != NULL) (void)event_add(call->closed, NULL);
}

static bool take_number(const char *text, uint64_t *out)
{
    char *end;
    if (text[0] < '0' || text[0] > '9') return false;
    *out = strtoull(text, &end, 10);
    return *end == '\0' && end - text <= 19;
}

/* "<client>/<seq>" with both in their bounds. */
static bool split_key(struct rk_request *request, const char *key)
{
    const char *slash = strrchr(key, '/');
    uint64_t seq;
    if (slash == NULL || slash == key || slash - key > CLIENT_MAX) return false;
    if (!take_number(slash + 1, &seq) || seq == 0 || seq > SEQ_MAX) return false;
    request->client = rk_slice_of(key, (size_t)(slash - key));
    request->seq = seq;
    return true;
}

/* Any other text is a client of its own with one request; a long one by its digest. */
static bool take_idempotency_key(struct http_request *in, struct rk_request *request,
                                 const char *key)
{
    struct rk_slice text = rk_slice_of_string(key);
    if (text.size == 0 || text.size > RK_NAME_MAX) {
        rk_http_problem(in, RK_ERANGE, "Idempotency-Key", "%zu bytes, allowed are 1 to %d",
                        text.size, (int)RK_NAME_MAX);
        return false;
    }
    if (!rk_slice_is_utf8(text)) {
        rk_http_problem(in, RK_EINVAL, "Idempotency-Key", "not well-formed UTF-8");
        return false;
    }
    if (split_key(request, key)) return true;
    char *client = rk_arena_alloc(&in->http->worker->arena, CLIENT_MAX + 1);
    if (client == NULL) {
        rk_http_problem(in, RK_ENOMEM, NULL, "no memory for the request");
        return false;
    }
    int size = text.size + 4 <= CLIENT_MAX
                   ? snprintf(client, CLIENT_MAX + 1, "key:%s", key)
                   : snprintf(client, CLIENT_MAX + 1, "key#%016llx%016llx",
                              (unsigned long long)rk_hash_seeded(text, 1),
                              (unsigned long long)rk_hash_seeded(text, 2));
    request->client = rk_slice_of(client, (size_t)size);
    request->seq = 1;
    return true;
}

/* What headers say about the call; answers and returns false when one is wrong. */
static bool take_headers(struct http_request *in, struct rk_request *request)
{
    const char *key = rk_http_header(in->request, "Idempotency-Key");
    const char *deadline = rk_http_header(in->request, "Rukun-Deadline-Ms");
    const char *position = rk_http_header(in->request, "Rukun-Position");
    const char *forward = rk_http_header(in->request, "Rukun-Forward");
    if (key != NULL && !take_idempotency_key(in, request, key)) return false;
    if (deadline != NULL &&
        (!take_number(deadline, &request->deadline_ms) || request->deadline_ms == 0 ||
         request->deadline_ms > RK_DEADLINE_MAX_MS)) {
        rk_http_problem(in, RK_ERANGE, "Rukun-Deadline-Ms",
                        "\"%.40s\" is no number from 1 to %d", deadline,
                        RK_DEADLINE_MAX_MS);
        return false;
    }
    if (position != NULL &&
        rk_position_parse(&request->position, rk_slice_of_string(position),
                          &in->http->worker->arena) != RK_OK) {
        rk_http_problem(in, RK_EINVAL, "Rukun-Position",
                        "\"%.80s\" is no <history>:<group>=<index>,...", position);
        return false;
    }
    if (forward != NULL) {
        bool is_on = strcasecmp(forward, "on") == 0 || strcasecmp(forward, "true") == 0;
        bool is_off = strcasecmp(forward, "off") == 0 || strcasecmp(forward, "false") == 0;
        if (!is_on && !is_off) {
            rk_http_problem(in, RK_EINVAL, "Rukun-Forward",
                            "\"%.40s\" is neither on nor off", forward);
            return false;
        }
        request->forward = is_on;
    }
    return true;
}

void rk_http_start(struct http_request *in, struct rk_request *request,
                   void (*reply)(struct http_call *call, const struct rk_reply *reply))
{
    struct rk_http *http = in->http;
    if (request->wait_ms > RK_HTTP_WAIT_MAX_MS || request->fill_ms > RK_HTTP_WAIT_MAX_MS) {
        rk_http_problem(in, RK_ERANGE,
                        request->wait_ms > RK_HTTP_WAIT_MAX_MS ? "wait_ms" : "fill_ms",
                        "at most %d over HTTP", (int)RK_HTTP_WAIT_MAX_MS);
        return;
    }
    if (!take_headers(in, request)) return;
    struct http_call *call = rk_calloc(1, sizeof(*call));
    if (call == NULL) {
        rk_http_problem(in, RK_ENOMEM, NULL, "no memory for the request");
        return;
    }
    call->call.done = on_done;
    call->http = http;
    call->request = in->request;
    call->answer = in->answer;
    call->reply = reply;
    rk_list_push_back(&http->calls, &call->link);
    /* Only what may wait is watched: each watch costs two system calls. */
    if (request->wait_ms > 0 || request->fill_ms > 0) watch(call);
    rk_calls_start(http->worker, &call->call, RK_DOOR_HTTP, request);
}

/* Where an error of decoding is named: malformed bodies have no field. */
static void refuse_body(struct http_request *in, enum rk_status status,
                        const struct rk_api_error *error)
{
    rk_http_problem(in, status, error->field[0] != '\0' ? error->field : NULL, "%s",
                    error->text[0] != '\0' ? error->text : "the body is malformed");
}

bool rk_http_operation(struct http_request *in)
{
    const struct rk_op_info *info = rk_op_by_path(rk_slice_of_string(in->path));
    struct rk_worker *worker = in->http->worker;
    struct rk_media asked;
    if (info == NULL || info->is_internal) return false;
    if (in->method != EVHTTP_REQ_POST) {
        rk_http_refuse_method(in, "POST");
        return true;
    }
    struct rk_slice body = rk_http_body(in->request);
    const char *type = rk_http_header(in->request, "Content-Type");
    if (rk_media_of_body(&asked, type, rk_http_header(in->request, "Origin"), body) !=
        RK_OK) {
        rk_http_problem(
            in, RK_EMEDIA, "Content-Type",
            "%.80s is not taken; send application/json or application/vnd.msgpack",
            type != NULL ? type : "a body without type");
        return true;
    }
    if (rk_media_of_accept(&in->answer, rk_http_header(in->request, "Accept"), &asked) !=
        RK_OK) {
        rk_http_problem(in, RK_ECONVERT, "Accept",
                        "answers are application/json or application/vnd.msgpack");
        return true;
    }
    struct rk_request request;
    struct rk_api_error error = {RK_OK, "", ""};
    rk_arena_reset(&worker->arena);
    if (body.size == 0 && asked.encoding == RK_ENCODING_JSON && type == NULL)
        body = RK_SLICE_LITERAL("{}");
    enum rk_status status =
        asked.encoding == RK_ENCODING_MSGPACK
            ? rk_request_from_msgpack(&request, info->op, body, &worker->arena, &error)
            : rk_request_from_json(&request, info->op, body, &worker->arena, &error);
    if (status != RK_OK)
        refuse_body(in, status, &error);
    else
        rk_http_start(in, &request, NULL);
    return true;
}
