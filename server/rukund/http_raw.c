/* Raw bytes: /raw/queue/<topic> and /raw/cache/<cache>/<key>.
 *
 * The body is the value, as it is; what JSON would carry beside it is in headers
 * (Rukun-*) or, for GET and DELETE, in the query. "-" is the cache without a name. */
#include "rukund/http_internal.h"

#include <errno.h>
#include <sys/queue.h>
#include <stdio.h>
#include <stdlib.h>

struct raw {
    struct http_request *in;
    struct rk_request *request;
    struct evkeyvalq query;
    bool is_refused;
};

static const char *parameter(struct raw *raw, const char *query_name,
                             const char *header_name)
{
    const char *text =
        query_name != NULL ? evhttp_find_header(&raw->query, query_name) : NULL;
    return text != NULL ? text : rk_http_header(raw->in->request, header_name);
}

static void refuse(struct raw *raw, const char *field, const char *text)
{
    if (raw->is_refused) return;
    raw->is_refused = true;
    rk_http_problem(raw->in, RK_EINVAL, field, "\"%.80s\" is no number", text);
}

static bool take_number(struct raw *raw, uint64_t *out, const char *query_name,
                        const char *header_name)
{
    const char *text = parameter(raw, query_name, header_name);
    char *end;
    if (text == NULL) return false;
    errno = 0;
    *out = strtoull(text, &end, 10);
    if (text[0] >= '0' && text[0] <= '9' && *end == '\0' && errno == 0) return true;
    refuse(raw, query_name != NULL ? query_name : header_name, text);
    return false;
}

static bool take_text(struct raw *raw, struct rk_slice *out, const char *query_name,
                      const char *header_name)
{
    const char *text = parameter(raw, query_name, header_name);
    if (text == NULL) return false;
    *out = rk_slice_of_string(text);
    return true;
}

/* A part of the path, percent-decoded into the arena. */
static bool take_part(struct raw *raw, struct rk_slice *out, const char *text, size_t size)
{
    struct rk_slice copy =
        rk_arena_copy(&raw->in->http->worker->arena, rk_slice_of(text, size));
    char *at = (char *)rk_arena_alloc(&raw->in->http->worker->arena, size + 1);
    if (at == NULL || (size > 0 && copy.data == NULL)) return false;
    size_t used = 0;
    for (size_t i = 0; i < size; i++) {
        unsigned value;
        char digits[3] = {0};
        if (copy.data[i] != '%') {
            at[used++] = (char)copy.data[i];
            continue;
        }
        if (i + 2 >= size) return false;
        digits[0] = (char)copy.data[i + 1];
        digits[1] = (char)copy.data[i + 2];
        if (strspn(digits, "0123456789abcdefABCDEF") != 2) return false;
        value = (unsigned)strtoul(digits, NULL, 16);
        at[used++] = (char)value;
        i += 2;
    }
    *out = rk_slice_of(at, used);
    return true;
}

static void add_header(struct evhttp_request *request, const char *name,
                       struct rk_slice text)
{
    char copy[RK_NAME_MAX + 1];
    if (text.size == 0 || text.size > RK_NAME_MAX) return;
    memcpy(copy, text.data, text.size);
    copy[text.size] = '\0';
    (void)evhttp_add_header(evhttp_request_get_output_headers(request), name, copy);
}

static void add_number_header(struct evhttp_request *request, const char *name,
                              uint64_t number, bool is_quoted)
{
    char text[32];
    (void)snprintf(text, sizeof(text), is_quoted ? "\"%llu\"" : "%llu",
                   (unsigned long long)number);
    (void)evhttp_add_header(evhttp_request_get_output_headers(request), name, text);
}

static const char *type_of(struct rk_value value)
{
    return value.encoding == RK_ENCODING_JSON      ? rk_media_json.type
           : value.encoding == RK_ENCODING_MSGPACK ? rk_media_msgpack.type
                                                   : "application/octet-stream";
}

static void reply_message(struct http_call *call, const struct rk_reply *reply)
{
    struct evhttp_request *request = call->request;
    rk_http_reply_headers(call->http, request, reply);
    if (reply->message_count == 0) {
        rk_http_send(request, 204, NULL, RK_SLICE_EMPTY);
        return;
    }
    const struct rk_delivery_out *message = &reply->messages[0];
    add_header(request, "Rukun-Id", message->id);
    add_header(request, "Rukun-Message-Id", message->message_id);
    add_number_header(request, "Rukun-Attempt", message->attempt, false);
    for (uint32_t i = 0; i < message->headers.count; i++) {
        char name[RK_NAME_MAX + 32];
        struct rk_header header = message->headers.items[i];
        if (header.name.size > RK_NAME_MAX) continue;
        (void)snprintf(name, sizeof(name), "Rukun-Header-%.*s", (int)header.name.size,
                       (const char *)header.name.data);
        add_header(request, name, header.value);
    }
    rk_http_send(request, 200, type_of(message->message), message->message.bytes);
}

static void reply_entry(struct http_call *call, const struct rk_reply *reply)
{
    struct evhttp_request *request = call->request;
    if (!reply->found) {
        struct rk_reply problem;
        rk_reply_problem(&problem, reply->op, RK_ENOENT, "key",
                         "the cache has no such key");
        problem.position_group = reply->position_group;
        problem.position_index = reply->position_index;
        problem.position_history = reply->position_history;
        rk_http_reply(call->http, request, &call->answer, &problem);
        return;
    }
    rk_http_reply_headers(call->http, request, reply);
    add_number_header(request, "Rukun-Version", reply->version, false);
    add_number_header(request, "ETag", reply->version, true);
    if (reply->stale) add_header(request, "Rukun-Stale", RK_SLICE_LITERAL("true"));
    rk_http_send(request, 200, type_of(reply->value), reply->value.bytes);
}

static void start(struct raw *raw,
                  void (*reply)(struct http_call *call, const struct rk_reply *reply))
{
    struct rk_api_error error = {RK_OK, "", ""};
    if (raw->is_refused) return;
    enum rk_status status = rk_request_check(raw->request, &error);
    if (status != RK_OK)
        rk_http_problem(raw->in, status, error.field[0] != '\0' ? error.field : NULL, "%s",
                        error.text);
    else
        rk_http_start(raw->in, raw->request, reply);
}

/* Rukun-Header-<name>: <value> travels with the message. */
static void take_message_headers(struct raw *raw, struct rk_message_in *message)
{
    static const char prefix[] = "rukun-header-";
    enum { PREFIX = sizeof(prefix) - 1 };
    struct evkeyvalq *headers = evhttp_request_get_input_headers(raw->in->request);
    uint32_t count = 0;
    struct evkeyval *header;
    TAILQ_FOREACH(header, headers, next)
    count++;
    struct rk_header *items =
        rk_arena_calloc(&raw->in->http->worker->arena, count + 1, sizeof(*items));
    count = 0;
    TAILQ_FOREACH(header, headers, next)
    {
        if (items == NULL || evutil_ascii_strncasecmp(header->key, prefix, PREFIX) != 0)
            continue;
        items[count].name = rk_slice_of_string(header->key + PREFIX);
        items[count++].value = rk_slice_of_string(header->value);
    }
    message->headers = (struct rk_headers){items, count};
}

static void publish(struct raw *raw)
{
    struct rk_request *request = raw->request;
    struct rk_message_in *message =
        rk_arena_calloc(&raw->in->http->worker->arena, 1, sizeof(*message));
    uint64_t priority = 0;
    if (message == NULL) {
        rk_http_problem(raw->in, RK_ENOMEM, NULL, "no memory for the request");
        return;
    }
    message->data.bytes = rk_http_body(raw->in->request);
    message->data.encoding = RK_ENCODING_RAW;
    if (take_number(raw, &priority, NULL, "Rukun-Priority"))
        message->priority = (uint8_t)(priority > 255 ? 255 : priority);
    (void)take_number(raw, &message->delay_ms, NULL, "Rukun-Delay-Ms");
    (void)take_number(raw, &message->ttl_ms, NULL, "Rukun-Ttl-Ms");
    (void)take_text(raw, &message->publish_id, NULL, "Rukun-Publish-Id");
    (void)take_text(raw, &message->group, NULL, "Rukun-Group");
    take_message_headers(raw, message);
    request->messages = message;
    request->message_count = 1;
    RK_SET(request, MESSAGES);
    start(raw, NULL);
}

static void consume(struct raw *raw)
{
    struct rk_request *request = raw->request;
    if (take_number(raw, &request->wait_ms, "wait_ms", "Rukun-Wait-Ms"))
        RK_SET(request, WAIT_MS);
    if (take_number(raw, &request->visibility_ms, "visibility_ms", "Rukun-Visibility-Ms"))
        RK_SET(request, VISIBILITY_MS);
    if (take_text(raw, &request->consumer, "consumer", "Rukun-Consumer"))
        RK_SET(request, CONSUMER);
    start(raw, reply_message);
}

static void acknowledge(struct raw *raw)
{
    if (take_text(raw, &raw->request->id, "id", "Rukun-Id")) RK_SET(raw->request, ID);
    start(raw, NULL);
}

static void serve_queue(struct raw *raw, const char *topic)
{
    struct http_request *in = raw->in;
    struct rk_request *request = raw->request;
    bool is_publish = in->method == EVHTTP_REQ_POST || in->method == EVHTTP_REQ_PUT;
    enum rk_op op = is_publish                        ? RK_OP_QUEUE_PUBLISH
                    : in->method == EVHTTP_REQ_GET    ? RK_OP_QUEUE_CONSUME
                    : in->method == EVHTTP_REQ_DELETE ? RK_OP_QUEUE_ACK
                                                      : RK_OP_NONE;
    if (op == RK_OP_NONE) {
        rk_http_refuse_method(in, "POST, PUT, GET, DELETE");
        return;
    }
    rk_request_init(request, op);
    if (!take_part(raw, &request->topic, topic, strlen(topic))) {
        rk_http_problem(in, RK_EINVAL, "topic", "the path is badly escaped");
        return;
    }
    RK_SET(request, TOPIC);
    if (is_publish)
        publish(raw);
    else if (op == RK_OP_QUEUE_CONSUME)
        consume(raw);
    else
        acknowledge(raw);
}

static void put(struct raw *raw)
{
    struct rk_request *request = raw->request;
    const char *if_none = rk_http_header(raw->in->request, "If-None-Match");
    request->value.bytes = rk_http_body(raw->in->request);
    request->value.encoding = RK_ENCODING_RAW;
    RK_SET(request, VALUE);
    if (take_number(raw, &request->ttl_ms, NULL, "Rukun-Ttl-Ms")) RK_SET(request, TTL_MS);
    if (take_number(raw, &request->soft_ttl_ms, NULL, "Rukun-Soft-Ttl-Ms"))
        RK_SET(request, SOFT_TTL_MS);
    if (take_text(raw, &request->fill_token, NULL, "Rukun-Fill-Token"))
        RK_SET(request, FILL_TOKEN);
    if (take_number(raw, &request->fence, NULL, "Rukun-Fence")) RK_SET(request, FENCE);
    if (take_text(raw, &request->fence_name, NULL, "Rukun-Fence-Name"))
        RK_SET(request, FENCE_NAME);
    if (if_none != NULL && strcmp(if_none, "*") == 0) {
        request->if_absent = true;
        RK_SET(request, IF_ABSENT);
    }
}

/* If-Match with the quoted version, or Rukun-If-Version. */
static void take_if_version(struct raw *raw)
{
    struct rk_request *request = raw->request;
    const char *match = rk_http_header(raw->in->request, "If-Match");
    if (take_number(raw, &request->if_version, NULL, "Rukun-If-Version")) {
        RK_SET(request, IF_VERSION);
    } else if (match != NULL) {
        char *end;
        request->if_version = strtoull(match + (match[0] == '"'), &end, 10);
        if (*end != '"' || match[0] != '"')
            refuse(raw, "If-Match", match);
        else
            RK_SET(request, IF_VERSION);
    }
}

static void serve_cache(struct raw *raw, const char *path)
{
    struct http_request *in = raw->in;
    struct rk_request *request = raw->request;
    const char *slash = strchr(path, '/');
    bool is_put = in->method == EVHTTP_REQ_POST || in->method == EVHTTP_REQ_PUT;
    enum rk_op op = is_put                            ? RK_OP_CACHE_PUT
                    : in->method == EVHTTP_REQ_GET    ? RK_OP_CACHE_GET
                    : in->method == EVHTTP_REQ_DELETE ? RK_OP_CACHE_DELETE
                                                      : RK_OP_NONE;
    if (op == RK_OP_NONE) {
        rk_http_refuse_method(in, "PUT, POST, GET, DELETE");
        return;
    }
    if (slash == NULL || slash == path) {
        rk_http_problem(in, RK_ENOENT, NULL, "the path is /raw/cache/<cache>/<key>");
        return;
    }
    rk_request_init(request, op);
    if (!take_part(raw, &request->cache, path, (size_t)(slash - path)) ||
        !take_part(raw, &request->key, slash + 1, strlen(slash + 1))) {
        rk_http_problem(in, RK_EINVAL, "key", "the path is badly escaped");
        return;
    }
    RK_SET(request, KEY);
    if (rk_slice_is_equal(request->cache, RK_SLICE_LITERAL("-")))
        request->cache = RK_SLICE_EMPTY;
    else
        RK_SET(request, CACHE);
    if (is_put) put(raw);
    if (op != RK_OP_CACHE_GET) take_if_version(raw);
    start(raw, op == RK_OP_CACHE_GET ? reply_entry : NULL);
}

bool rk_http_raw(struct http_request *in)
{
    static const char queue[] = "/raw/queue/", cache[] = "/raw/cache/";
    struct rk_request request;
    struct raw raw = {.in = in, .request = &request};
    bool is_queue = strncmp(in->path, queue, sizeof(queue) - 1) == 0;
    if (!is_queue && strncmp(in->path, cache, sizeof(cache) - 1) != 0) return false;
    /* A form or script of another site can send any body here: only without an Origin. */
    if (rk_http_header(in->request, "Origin") != NULL) {
        rk_http_problem(in, RK_EDENIED, "Origin", "raw paths are not served to web pages");
        return true;
    }
    const char *query = evhttp_uri_get_query(evhttp_request_get_evhttp_uri(in->request));
    TAILQ_INIT(&raw.query);
    if (query != NULL && evhttp_parse_query_str(query, &raw.query) != 0) {
        rk_http_problem(in, RK_EINVAL, NULL, "the query is malformed");
        return true;
    }
    rk_arena_reset(&in->http->worker->arena);
    if (is_queue)
        serve_queue(&raw, in->path + sizeof(queue) - 1);
    else
        serve_cache(&raw, in->path + sizeof(cache) - 1);
    evhttp_clear_headers(&raw.query);
    return true;
}
