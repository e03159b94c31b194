/* http_internal.h - shared by the files of the HTTP door. */
#ifndef RK_RUKUND_HTTP_INTERNAL_H
#define RK_RUKUND_HTTP_INTERNAL_H

#include "base/list.h"
#include "rukund/http.h"
#include "rukund/media.h"
#include "rukund/worker.h"

#include <event2/buffer.h>
#include <event2/event.h>
#include <event2/http.h>
#include <event2/keyvalq_struct.h>

struct bufferevent;
struct http_call;

struct rk_http {
    struct rk_worker *worker;
    struct evhttp *server;
    struct evhttp_bound_socket *socket;
    struct rk_list calls;       /* struct http_call */
    struct http_backup *backup; /* that is being read; NULL: none */
};

/* A call that came in by HTTP. */
struct http_call {
    struct rk_call call;
    struct rk_list link; /* in http->calls */
    struct rk_http *http;
    struct evhttp_request *request;
    struct event *closed; /* tells that the client left during a wait, or NULL */
    struct rk_media answer;
    /* Sends the answer in its own form, or NULL for the operation's document. */
    void (*reply)(struct http_call *call, const struct rk_reply *reply);
};

/* A request on its way to becoming a call or an answer. */
struct http_request {
    struct rk_http *http;
    struct evhttp_request *request;
    const char *path; /* without /v1, still percent-encoded */
    enum evhttp_cmd_type method;
    struct rk_media answer;
};

const char *rk_http_header(struct evhttp_request *request, const char *name);
struct rk_slice rk_http_body(struct evhttp_request *request);
/* Sends status, type and body; other headers were added before. */
void rk_http_send(struct evhttp_request *request, int code, const char *type,
                  struct rk_slice body);
/* Sends a reply's document or problem, in the encoding of media. */
void rk_http_reply(struct rk_http *http, struct evhttp_request *request,
                   const struct rk_media *media, const struct rk_reply *reply);
/* Sends a problem document; arguments as rk_reply_problem. */
__attribute__((format(printf, 4, 5))) void rk_http_problem(struct http_request *in,
                                                           enum rk_status status,
                                                           const char *field,
                                                           const char *format, ...);
/* Refuses the method; allow lists what is allowed. */
void rk_http_refuse_method(struct http_request *in, const char *allow);
/* The headers that every reply of a call carries. */
void rk_http_reply_headers(struct rk_http *http, struct evhttp_request *request,
                           const struct rk_reply *reply);

/* Starts the call; the request is decoded and checked but for what headers say. */
void rk_http_start(struct http_request *in, struct rk_request *request,
                   void (*reply)(struct http_call *call, const struct rk_reply *reply));

/* Each answers the request if the path is its own; false otherwise. */
bool rk_http_page(struct http_request *in);
bool rk_http_raw(struct http_request *in);
bool rk_http_backup(struct http_request *in);
bool rk_http_operation(struct http_request *in);

void rk_http_backup_free(struct rk_http *http);
/* Accepts nothing until rk_worker_listen_again finds room. */
void rk_http_rest(struct rk_http *http);
/* Makes a connection's bufferevent, whose error pages are problem documents. */
struct bufferevent *rk_http_bufferevent(struct event_base *base, void *http);
#endif
