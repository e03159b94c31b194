#include "fuzz_host.h"

struct cluster *fuzz_host_cluster(void (*spoil)(struct cluster *, struct packet *))
{
    struct cluster *cluster =
        cluster_new((struct cluster_options){.nodes = 3, .groups = 2});
    cluster->spoil = spoil;
    cluster_settle(cluster, 30000);
    (void)cluster_ask(cluster, 0, RK_OP_CACHE_PUT, "{\"key\":\"k\",\"value\":1}");
    (void)cluster_ask(cluster, 1, RK_OP_QUEUE_PUBLISH, "{\"topic\":\"t\",\"data\":[1]}");
    (void)cluster_ask(cluster, 2, RK_OP_LOCK_ACQUIRE,
                      "{\"resource\":\"r\",\"owner\":\"o\",\"lease_ms\":60000}");
    return cluster;
}
