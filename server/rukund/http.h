/* http.h - the HTTP door: every operation as POST with JSON or msgpack, raw bytes under
 * /raw, and the documents of the node under GET. On evhttp. Loop thread only. */
#ifndef RK_RUKUND_HTTP_H
#define RK_RUKUND_HTTP_H

#include "base/status.h"

struct rk_worker;
struct rk_http;

enum { RK_HTTP_WAIT_MAX_MS = 60000 }; /* longest wait_ms and fill_ms over HTTP */

/* Takes over the listening socket and serves. */
RK_MUST_CHECK enum rk_status rk_http_new(struct rk_http **out, struct rk_worker *worker,
                                         int listener);
/* Passes on what a backup under way has ready; once a turn. */
void rk_http_backup_run(struct rk_http *http);
/* No further connections; what is under way goes on. */
void rk_http_stop(struct rk_http *http);
/* Closes everything, without answers; open calls are dropped. NULL is fine. */
void rk_http_free(struct rk_http *http);
#endif
