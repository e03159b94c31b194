/* metrics.h - what the node counts, and /metrics in the Prometheus text format. */
#ifndef RK_RUKUND_METRICS_H
#define RK_RUKUND_METRICS_H

#include "rukund/calls.h"

struct rk_worker;

enum {
    RK_METRICS_CLASSES = 5, /* session, lock, queue, cache, cluster */
    RK_METRICS_BUCKETS = 16,
    RK_METRICS_STATUSES = 64,      /* RK_OK and the codes -1 .. -63 */
    RK_METRICS_HALF_US = 30000000, /* of the window of what was longest */
};

struct rk_histogram {
    uint64_t buckets[RK_METRICS_BUCKETS + 1]; /* the last has no bound */
    uint64_t sum_us;
};

/* The longest of a moving window: of its present half, and of the one before. */
struct rk_longest {
    uint64_t present_us, before_us;
};

struct rk_metrics {
#define RK_METRIC(field, name, kind, help) uint64_t field;
#include "rukund/metrics.def"
#undef RK_METRIC
    uint64_t calls[RK_DOOR_COUNT][RK_OP_MAX][RK_METRICS_STATUSES];
    struct rk_histogram latency[RK_METRICS_CLASSES];
    struct rk_histogram turn, turn_run; /* of the event loop, waiting excluded */
    struct rk_longest turn_wall, turn_cpu;
    uint64_t turn_half_us; /* when the present half of their window began */
};

/* One answered call. */
void rk_metrics_call(struct rk_metrics *metrics, enum rk_door door, enum rk_op op,
                     enum rk_status status, uint64_t duration_us);
/* One turn of the event loop that ended at now_us: how long it took, and how long this
 * thread ran in it, which is less where the machine is short of processors. */
void rk_metrics_turn(struct rk_metrics *metrics, uint64_t now_us, uint64_t wall_us,
                     uint64_t cpu_us);
/* The whole text of /metrics. */
void rk_metrics_print(struct rk_buf *out, struct rk_worker *worker);
#endif
