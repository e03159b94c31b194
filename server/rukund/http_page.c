/* The documents of the node: GET endpoints. */
#include "rukund/http_internal.h"

#include "rukund/documents.h"

struct page {
    const char *path;
    /* Appends the document; false: status 503. */
    bool (*print)(struct rk_buf *out, struct rk_worker *worker);
    const char *type; /* NULL: JSON, or msgpack where that is asked for */
};

static bool print_raft(struct rk_buf *out, struct rk_worker *worker)
{
    rk_document_raft(out, worker);
    return true;
}

static bool print_cluster(struct rk_buf *out, struct rk_worker *worker)
{
    rk_document_cluster(out, worker, false);
    return true;
}

static bool print_live(struct rk_buf *out, struct rk_worker *worker)
{
    rk_buf_append_string(out, "{\"status\":\"ok\",\"node\":");
    rk_json_text(out, worker->config->name);
    rk_buf_append_string(out, "}");
    return true;
}

static bool print_metrics(struct rk_buf *out, struct rk_worker *worker)
{
    rk_metrics_print(out, worker);
    return true;
}

static bool print_openapi(struct rk_buf *out, struct rk_worker *worker)
{
    (void)worker;
    rk_api_print_openapi(out);
    return true;
}

static bool print_ui(struct rk_buf *out, struct rk_worker *worker)
{
    (void)worker;
    rk_buf_append_slice(out, rk_document_ui());
    return true;
}

static const struct page pages[] = {
    {"/raft/state", print_raft, NULL},
    {"/health", rk_document_health, NULL},
    {"/readyz", rk_document_health, NULL},
    {"/livez", print_live, NULL},
    {"/cluster", print_cluster, NULL},
    {"/metrics", print_metrics, "text/plain; version=0.0.4; charset=utf-8"},
    {"/openapi.json", print_openapi, "application/json"},
    {"/ui", print_ui, "text/html; charset=utf-8"},
    {"/", print_ui, "text/html; charset=utf-8"},
};

static void send_page(struct http_request *in, const struct page *page)
{
    struct rk_worker *worker = in->http->worker;
    struct rk_buf *text = &worker->scratch;
    const char *type = page->type;
    rk_buf_reset(text);
    bool is_ok = page->print(text, worker);
    struct rk_slice body = rk_buf_slice(text);
    if (text->is_failed) {
        rk_http_problem(in, RK_ENOMEM, NULL, "no memory for %s", page->path);
        return;
    }
    if (type == NULL) type = rk_media_json.type;
    if (page->type == NULL && in->answer.encoding == RK_ENCODING_MSGPACK) {
        struct rk_value json = {body, RK_ENCODING_JSON}, packed;
        rk_arena_reset(&worker->reply_arena);
        if (rk_value_convert(&packed, json, RK_ENCODING_MSGPACK, &worker->reply_arena) ==
            RK_OK) {
            body = packed.bytes;
            type = in->answer.type;
        }
    }
    if (page->print == print_ui)
        (void)evhttp_add_header(evhttp_request_get_output_headers(in->request),
                                "Content-Security-Policy",
                                "default-src 'none'; connect-src 'self'; "
                                "style-src 'unsafe-inline'; script-src 'unsafe-inline'");
    if (!is_ok)
        (void)evhttp_add_header(evhttp_request_get_output_headers(in->request),
                                "Retry-After", "1");
    rk_http_send(in->request, is_ok ? 200 : 503, type, body);
}

bool rk_http_page(struct http_request *in)
{
    for (size_t i = 0; i < sizeof(pages) / sizeof(pages[0]); i++) {
        if (strcmp(in->path, pages[i].path) != 0) continue;
        if (in->method != EVHTTP_REQ_GET && in->method != EVHTTP_REQ_HEAD)
            rk_http_refuse_method(in, "GET, HEAD");
        else
            send_page(in, &pages[i]);
        return true;
    }
    return false;
}
