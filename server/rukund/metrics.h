/* metrics.h - what the node counts, and /metrics in the Prometheus text format. */
#ifndef RK_RUKUND_METRICS_H
#define RK_RUKUND_METRICS_H

#include "rukund/calls.h"

struct rk_worker;

enum {
    RK_METRICS_CLASSES = 5, /* session, lock, queue, cache, cluster */
    RK_METRICS_BUCKETS = 16,
    RK_METRICS_STATUSES = 64, /* RK_OK and the codes -1 .. -63 */
};

struct rk_histogram {
    uint64_t buckets[RK_METRICS_BUCKETS + 1]; /* the last has no bound */
    uint64_t sum_us;
};

struct rk_metrics {
#define RK_METRIC(field, name, kind, help) uint64_t field;
#include "rukund/metrics.def"
#undef RK_METRIC
    uint64_t calls[RK_DOOR_COUNT][RK_OP_MAX][RK_METRICS_STATUSES];
    struct rk_histogram latency[RK_METRICS_CLASSES];
};

/* One answered call. */
void rk_metrics_call(struct rk_metrics *metrics, enum rk_door door, enum rk_op op,
                     enum rk_status status, uint64_t duration_us);
/* The whole text of /metrics. */
void rk_metrics_print(struct rk_buf *out, struct rk_worker *worker);
#endif
