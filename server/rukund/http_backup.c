/* GET /snapshot: a backup, as the host makes it, at the pace of its reader. */
#include "rukund/http_internal.h"

#include "base/alloc.h"

#include <stdio.h>

enum { PIECE_SIZE = 256 << 10 };

struct http_backup {
    struct rk_http *http;
    struct http_request in;
    bool has_begun;  /* the status line is out */
    bool is_leaving; /* a piece is on its way to the socket */
};

static void backup_free(struct http_backup *backup)
{
    struct evhttp_connection *connection =
        evhttp_request_get_connection(backup->in.request);
    if (connection != NULL) evhttp_connection_set_closecb(connection, NULL, NULL);
    backup->http->backup = NULL;
    rk_host_backup_end(backup->http->worker->host);
    rk_free(backup);
}

/* The client left. evhttp frees what it still knows of; a request that was being answered
 * it has let go of. */
static void on_closed(struct evhttp_connection *connection, void *context)
{
    struct http_backup *backup = context;
    struct evhttp_request *request = backup->in.request;
    (void)connection;
    rk_log_line(&backup->http->worker->log, RK_LOG_WARN,
                "a backup was given up: its reader left");
    bool is_ours = evhttp_request_get_connection(request) == NULL;
    backup_free(backup);
    if (is_ours) evhttp_request_free(request);
}

static void on_left(struct evhttp_connection *connection, void *context)
{
    struct rk_http *http = context;
    (void)connection;
    if (http->backup != NULL) http->backup->is_leaving = false;
}

static void fail(struct http_backup *backup, enum rk_status status, const char *text)
{
    struct http_request in = backup->in;
    bool has_begun = backup->has_begun;
    rk_log_event(&in.http->worker->log, RK_LOG_WARN, "a backup was given up",
                 RK_LOG_TEXT("reason", text));
    backup_free(backup);
    if (!has_begun)
        rk_http_problem(&in, status, NULL, "%s", text);
    else /* half an answer can only be cut off */
        evhttp_connection_free(evhttp_request_get_connection(in.request));
}

static void send_piece(struct http_backup *backup, struct rk_slice bytes, bool is_done)
{
    struct evhttp_request *request = backup->in.request;
    struct rk_http *http = backup->http;
    struct evbuffer *piece = evbuffer_new();
    if (piece == NULL || evbuffer_add(piece, bytes.data, bytes.size) != 0) {
        if (piece != NULL) evbuffer_free(piece);
        fail(backup, RK_ENOMEM, "no memory for a piece");
        return;
    }
    if (!backup->has_begun) {
        backup->has_begun = true;
        evhttp_send_reply_start(request, 200, "OK");
    }
    backup->is_leaving = true;
    evhttp_send_reply_chunk_with_cb(request, piece, on_left, http);
    evbuffer_free(piece);
    if (!is_done) return;
    backup_free(backup);
    evhttp_send_reply_end(request);
}

void rk_http_backup_run(struct rk_http *http)
{
    struct http_backup *backup = http->backup;
    struct rk_buf *bytes = &http->worker->scratch;
    char error[256] = "";
    bool is_done = false;
    if (backup == NULL || backup->is_leaving) return;
    rk_buf_reset(bytes);
    enum rk_status status =
        rk_host_backup_read(http->worker->host, bytes, PIECE_SIZE, &is_done, error);
    if (status != RK_OK)
        fail(backup, status, error);
    else if (bytes->size > 0 || is_done)
        send_piece(backup, rk_buf_slice(bytes), is_done);
}

static void begin(struct http_request *in)
{
    struct rk_http *http = in->http;
    struct http_backup *backup = rk_calloc(1, sizeof(*backup));
    if (backup == NULL) {
        rk_http_problem(in, RK_ENOMEM, NULL, "no memory for a backup");
        return;
    }
    rk_worker_touch(http->worker);
    enum rk_status status = rk_host_backup_begin(http->worker->host, "rukund " RK_VERSION);
    if (status != RK_OK) {
        rk_free(backup);
        rk_http_problem(in, status, NULL, "%s",
                        status == RK_EBUSY ? "a backup is being read from this node already"
                                           : "the node serves no groups");
        return;
    }
    backup->http = http;
    backup->in = *in;
    http->backup = backup;
    struct evkeyvalq *headers = evhttp_request_get_output_headers(in->request);
    (void)evhttp_add_header(headers, "Content-Type", "application/octet-stream");
    (void)evhttp_add_header(headers, "Cache-Control", "no-store");
    evhttp_connection_set_closecb(evhttp_request_get_connection(in->request), on_closed,
                                  backup);
}

bool rk_http_backup(struct http_request *in)
{
    if (strcmp(in->path, "/snapshot") != 0) return false;
    if (in->method != EVHTTP_REQ_GET)
        rk_http_refuse_method(in, "GET");
    else if (in->http->worker->engine != &rk_engine_embedded)
        rk_http_problem(in, RK_EUNSUPPORTED, NULL,
                        "the state is not held by the nodes: back up what holds it");
    else
        begin(in);
    return true;
}

void rk_http_backup_free(struct rk_http *http)
{
    if (http->backup != NULL) backup_free(http->backup);
}
