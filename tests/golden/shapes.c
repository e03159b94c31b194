#include "workload.h"

static const struct workload_shape zero_shapes[] = {
    {RK_OP_SESSION_OPEN, "{\"ttl_ms\":99$N,\"name\":\"node $n\"}"},
    {RK_OP_SESSION_OPEN, "{}"},
    {RK_OP_SESSION_CLOSE, "{\"session\":\"$s\"}"},
    {RK_OP_LOCK_ACQUIRE, "{\"resource\":\"$r\",\"owner\":\"$o\"}"},
    {RK_OP_LOCK_ACQUIRE,
     "{\"resource\":\"$r\",\"owner\":\"$o\",\"mode\":\"shared\",\"wait_ms\":$N}"},
    {RK_OP_LOCK_ACQUIRE,
     "{\"resource\":\"$r\",\"owner\":\"$o\",\"wait_ms\":$N,\"priority\":$n}"},
    {RK_OP_LOCK_ACQUIRE,
     "{\"resource\":\"$r\",\"owner\":\"$o\",\"session\":\"$s\",\"wait_ms\":$N}"},
    {RK_OP_LOCK_ACQUIRE,
     "{\"resource\":\"$r\",\"owner\":\"$o\",\"session\":\"$s\",\"reentrant\":true}"},
    {RK_OP_LOCK_ACQUIRE, "{\"resource\":\"$r\",\"owner\":\"$o\",\"reentrant\":true,"
                         "\"lease_ms\":$N}"},
    {RK_OP_LOCK_ACQUIRE, "{\"resource\":\"$r\",\"owner\":\"$o\",\"lease_ms\":$N,"
                         "\"min_hold_ms\":$n,\"max_hold_ms\":$N,\"lock_delay_ms\":$n}"},
    {RK_OP_LOCK_ACQUIRE, "{\"resources\":[{\"resource\":\"$r\"},{\"resource\":\"x$n\","
                         "\"mode\":\"shared\"}],\"owner\":\"$o\",\"wait_ms\":$N}"},
    {RK_OP_LOCK_ACQUIRE,
     "{\"resource\":\"sem$n\",\"owner\":\"$o\",\"limit\":2,\"wait_ms\":$N}"},
    {RK_OP_LOCK_RENEW,
     "{\"resource\":\"$R\",\"owner\":\"$O\",\"fence\":$F,\"lease_ms\":$N}"},
    {RK_OP_LOCK_RENEW, "{\"resource\":\"$R\",\"owner\":\"$O\",\"session\":\"$s\"}"},
    {RK_OP_LOCK_RELEASE, "{\"resource\":\"$R\",\"owner\":\"$O\",\"fence\":$F}"},
    {RK_OP_LOCK_RELEASE, "{\"resource\":\"$R\",\"owner\":\"$O\"}"},
    {RK_OP_LOCK_RELEASE, "{\"resource\":\"$R\",\"owner\":\"$O\",\"session\":\"$s\"}"},
    {RK_OP_LOCK_CANCEL, "{\"client\":\"$C\",\"seq\":$Q}"},
    {RK_OP_LOCK_BREAK, "{\"resource\":\"$R\",\"fence\":$F}"},
    {RK_OP_LOCK_BREAK, "{\"resource\":\"$r\"}"},
    {RK_OP_CLUSTER_ADD, "{\"name\":\"n$n\",\"peer\":\"127.0.0.1:$N\",\"http\":"
                        "\"127.0.0.1:$N\",\"rpc\":\"127.0.0.1:$N\"}"},
    {RK_OP_CLUSTER_PROMOTE, "{\"name\":\"n$n\"}"},
    {RK_OP_CLUSTER_REMOVE, "{\"name\":\"n$n\"}"},
    {RK_OP_CLUSTER_REPLACE, "{\"name\":\"n$n\",\"peer\":\"127.0.0.1:$N\",\"http\":"
                            "\"127.0.0.1:$N\",\"rpc\":\"127.0.0.1:$N\"}"},
};

static const struct workload_shape data_shapes[] = {
    {RK_OP_QUEUE_PUBLISH, "{\"topic\":\"$t\",\"data\":{\"n\":$N}}"},
    {RK_OP_QUEUE_PUBLISH, "{\"topic\":\"$t\",\"data\":\"$N\",\"priority\":$n}"},
    {RK_OP_QUEUE_PUBLISH, "{\"topic\":\"$t\",\"data\":$N,\"group\":\"g$n\"}"},
    {RK_OP_QUEUE_PUBLISH, "{\"topic\":\"$t\",\"data\":[$n],\"publish_id\":\"p$n\"}"},
    {RK_OP_QUEUE_PUBLISH,
     "{\"topic\":\"$t\",\"data\":1,\"unique\":{\"key\":\"u$n\",\"scope\":\"queued\"}}"},
    {RK_OP_QUEUE_PUBLISH,
     "{\"topic\":\"$t\",\"data\":2,\"unique\":{\"key\":\"u$n\",\"scope\":\"acked\"}}"},
    {RK_OP_QUEUE_PUBLISH,
     "{\"topic\":\"$t\",\"data\":3,\"unique\":{\"key\":\"u$n\",\"scope\":\"window\"}}"},
    {RK_OP_QUEUE_PUBLISH, "{\"topic\":\"$t\",\"data\":null,\"delay_ms\":99$N,\"ttl_ms\":$N,"
                          "\"headers\":{\"a\":\"b$n\"}}"},
    {RK_OP_QUEUE_PUBLISH, "{\"topic\":\"$t\",\"data\":true,\"deliver_at\":$w}"},
    {RK_OP_QUEUE_PUBLISH,
     "{\"topic\":\"$t\",\"data\":5,\"fence\":$n,\"fence_name\":\"f$n\"}"},
    {RK_OP_QUEUE_PUBLISH, "{\"topic\":\"$t\",\"messages\":[{\"data\":$n},{\"data\":$N,"
                          "\"priority\":9},{\"data\":0,\"group\":\"g\",\"delay_ms\":$n}]}"},
    {RK_OP_QUEUE_CONSUME,
     "{\"topic\":\"$t\",\"consumer\":\"w$n\",\"max\":$n,\"wait_ms\":$n,"
     "\"visibility_ms\":$N}"},
    {RK_OP_QUEUE_CONSUME, "{\"topic\":\"$t\"}"},
    {RK_OP_QUEUE_CONSUME, "{\"topic\":\"t1\",\"max\":$n}"},
    {RK_OP_QUEUE_CONSUME, "{\"topic\":\"t1\"}"},
    {RK_OP_QUEUE_CONSUME, "{\"topic\":\"$t\",\"max\":5}"},
    {RK_OP_QUEUE_CONSUME, "{\"topic\":\"$t/dead\"}"},
    {RK_OP_QUEUE_ACK, "{\"id\":\"$d\"}"},
    {RK_OP_QUEUE_ACK, "{\"ids\":[\"$d\",\"$d\"],\"topic\":\"$t\"}"},
    {RK_OP_QUEUE_NACK, "{\"id\":\"$d\"}"},
    {RK_OP_QUEUE_NACK, "{\"ids\":[\"$d\",\"$d\",\"$d\"]}"},
    {RK_OP_QUEUE_NACK, "{\"id\":\"$d\",\"delay_ms\":$N}"},
    {RK_OP_QUEUE_NACK, "{\"ids\":[\"$d\",\"$d\"],\"topic\":\"$t\",\"dead\":true}"},
    {RK_OP_QUEUE_EXTEND, "{\"id\":\"$d\",\"visibility_ms\":$N}"},
    {RK_OP_QUEUE_EXTEND, "{\"ids\":[\"$d\"],\"topic\":\"$t\",\"visibility_ms\":$N}"},
    {RK_OP_QUEUE_DELETE, "{\"id\":\"$m\"}"},
    {RK_OP_QUEUE_DELETE, "{\"ids\":[\"$m\",\"$d\"],\"topic\":\"$t\"}"},
    {RK_OP_QUEUE_CONFIGURE, "{\"topic\":\"$t\",\"visibility_ms\":$n00,\"deliveries_max\":5,"
                            "\"retry_ms\":$n00,\"retry_max_ms\":9$N}"},
    {RK_OP_QUEUE_CONFIGURE, "{\"topic\":\"$t\",\"dedup_ms\":$N,\"ttl_ms\":9$N,"
                            "\"messages_max\":1$n,\"bytes_max\":9$N}"},
    {RK_OP_QUEUE_PAUSE, "{\"topic\":\"$t\"}"},
    {RK_OP_QUEUE_RESUME, "{\"topic\":\"$t\"}"},
    {RK_OP_QUEUE_PURGE, "{\"topic\":\"t3\"}"},
    {RK_OP_QUEUE_PURGE, "{\"topic\":\"$t\",\"dead\":true}"},
    {RK_OP_QUEUE_REDRIVE, "{\"topic\":\"$t\",\"to\":\"$t\",\"limit\":$n}"},
    {RK_OP_QUEUE_REDRIVE, "{\"topic\":\"$t\"}"},
    {RK_OP_CACHE_PUT, "{\"key\":\"$k\",\"value\":$N}"},
    {RK_OP_CACHE_PUT, "{\"key\":\"$k\",\"value\":\"a value of some length: $N\","
                      "\"cache\":\"$c\",\"ttl_ms\":$N,\"soft_ttl_ms\":$n}"},
    {RK_OP_CACHE_PUT, "{\"key\":\"$k\",\"value\":$n,\"cache\":\"$c\"}"},
    {RK_OP_CACHE_PUT, "{\"key\":\"$K\",\"value\":[1,$n],\"if_version\":$V}"},
    {RK_OP_CACHE_PUT, "{\"key\":\"$k\",\"value\":null,\"if_absent\":true,\"ttl_ms\":$N}"},
    {RK_OP_CACHE_PUT, "{\"key\":\"k1\",\"value\":\"filled\",\"fill_token\":\"$T\"}"},
    {RK_OP_CACHE_PUT, "{\"key\":\"$k\",\"value\":7,\"fence\":$n,\"fence_name\":\"f$n\"}"},
    {RK_OP_CACHE_DELETE, "{\"key\":\"$k\",\"cache\":\"$c\"}"},
    {RK_OP_CACHE_DELETE, "{\"key\":\"$K\",\"if_version\":$V}"},
    {RK_OP_CACHE_DELETE, "{\"keys\":[\"$k\",\"$k\"]}"},
    {RK_OP_CACHE_TOUCH, "{\"key\":\"$k\",\"cache\":\"$c\",\"ttl_ms\":$N}"},
    {RK_OP_CACHE_TOUCH, "{\"key\":\"$K\",\"ttl_ms\":$N}"},
    {RK_OP_CACHE_ADD, "{\"key\":\"count$n\",\"delta\":$n,\"initial\":$n,\"cache\":\"$c\","
                      "\"ttl_ms\":$N}"},
    {RK_OP_CACHE_ADD, "{\"key\":\"count$n\",\"delta\":-$n}"},
    {RK_OP_CACHE_INVALIDATE, "{\"cache\":\"$c\",\"prefix\":\"k1\"}"},
    {RK_OP_CACHE_CONFIGURE,
     "{\"cache\":\"$c\",\"bytes_max\":6000,\"policy\":\"lru\",\"ttl_ms\":9$N}"},
    {RK_OP_CACHE_CONFIGURE, "{\"cache\":\"$c\",\"bytes_max\":6000,\"policy\":\"s3fifo\"}"},
};

const struct workload_shape *workload_shapes(uint32_t group, size_t *count)
{
    *count = group == 0 ? sizeof(zero_shapes) / sizeof(zero_shapes[0])
                        : sizeof(data_shapes) / sizeof(data_shapes[0]);
    return group == 0 ? zero_shapes : data_shapes;
}
