/* evhttp answers what it can not parse, and what is over its bounds, by itself, with an
 * HTML page and without asking anybody. This turns those pages into problem documents: a
 * watcher on each connection's output sees the page, complete, before it leaves. */
#include "rukund/http_internal.h"

#include <event2/bufferevent.h>
#include <stdio.h>
#include <stdlib.h>

static const char page_end[] = "</BODY></HTML>\n";
enum { PAGE_MAX = 1024, PAGE_END = sizeof(page_end) - 1 };

/* The status that stands for an HTTP code of evhttp's own. */
static enum rk_status status_of(long code, const char **text)
{
    switch (code) {
    case 413: *text = "the body is larger than this node takes"; return RK_ESIZE;
    case 417: *text = "only 100-continue can be expected"; return RK_EINVAL;
    case 501: *text = "no such method"; return RK_EMETHOD;
    default:
        *text = "the request line or a header is malformed or too long";
        return RK_EINVAL;
    }
}

static void replace_page(struct rk_http *http, struct evbuffer *output, long code)
{
    struct rk_worker *worker = http->worker;
    struct rk_reply reply;
    const char *text;
    enum rk_status status = status_of(code, &text);
    rk_reply_problem(&reply, RK_OP_NONE, status, code == 413 ? "Content-Length" : NULL,
                     "%s", text);
    rk_buf_reset(&worker->reply_buf);
    rk_arena_reset(&worker->reply_arena);
    if (rk_reply_to_json(&worker->reply_buf, &reply, &worker->reply_arena) != RK_OK) return;
    worker->metrics.bad_requests++;
    /* A bufferevent keeps the front of its output frozen but for its own writes. */
    (void)evbuffer_unfreeze(output, 1);
    (void)evbuffer_drain(output, evbuffer_get_length(output));
    (void)evbuffer_freeze(output, 1);
    (void)evbuffer_add_printf(output,
                              "HTTP/1.1 %u %s\r\nContent-Type: %s\r\nConnection: close\r\n"
                              "Content-Length: %zu\r\n\r\n",
                              rk_status_info(status)->http, rk_status_info(status)->title,
                              rk_media_json.problem, worker->reply_buf.size);
    (void)evbuffer_add(output, worker->reply_buf.data, worker->reply_buf.size);
}

/* The first bytes without touching them, which also a frozen buffer allows. */
static bool peek(struct evbuffer *output, char *out, size_t size)
{
    struct evbuffer_iovec parts[8];
    int count = evbuffer_peek(output, (ssize_t)size, NULL, parts, 8);
    size_t used = 0;
    for (int i = 0; i < count && i < 8 && used < size; i++) {
        size_t part = parts[i].iov_len < size - used ? parts[i].iov_len : size - used;
        memcpy(out + used, parts[i].iov_base, part);
        used += part;
    }
    return used == size;
}

static void on_output(struct evbuffer *output, const struct evbuffer_cb_info *info,
                      void *context)
{
    char page[PAGE_MAX + 1];
    size_t size = evbuffer_get_length(output);
    if (info->n_added < PAGE_END || info->orig_size == 0 || size > PAGE_MAX ||
        size < PAGE_END)
        return;
    if (!peek(output, page, size)) return;
    page[size] = '\0';
    if (strncmp(page, "HTTP/1.", 7) != 0 || page[7] == '\0') return;
    if (strcmp(page + size - PAGE_END, page_end) != 0) return;
    if (strstr(page, "<HTML><HEAD>\n<TITLE>") == NULL) return;
    replace_page(context, output, strtol(page + 9, NULL, 10));
}

struct bufferevent *rk_http_bufferevent(struct event_base *base, void *context)
{
    struct rk_http *http = context;
    struct bufferevent *buffer = bufferevent_socket_new(base, -1, 0);
    /* Made for a connection that was just accepted: the moment to look whether that was
     * the last one there is room for. */
    if (rk_worker_is_crowded(http->worker)) rk_http_rest(http);
    if (buffer == NULL) return NULL;
    http->worker->metrics.http_accepted++;
    (void)evbuffer_add_cb(bufferevent_get_output(buffer), on_output, http);
    return buffer;
}
