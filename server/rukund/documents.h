/* documents.h - what the node tells about itself, as JSON texts. */
#ifndef RK_RUKUND_DOCUMENTS_H
#define RK_RUKUND_DOCUMENTS_H

#include "base/bytes.h"

struct rk_worker;

/* Nodes, groups with their leaders, and the slot map: GET /cluster, cluster.info and, with
 * `node` and `protocol`, the answer to an RPC hello. */
void rk_document_cluster(struct rk_buf *out, struct rk_worker *worker, bool is_hello);
/* GET /raft/state: group 0 on top, then all groups. */
void rk_document_raft(struct rk_buf *out, struct rk_worker *worker);
/* GET /health and /readyz: true when the node has a quorum and is not stopping. */
bool rk_document_health(struct rk_buf *out, struct rk_worker *worker);
/* The status page. */
struct rk_slice rk_document_ui(void);
#endif
