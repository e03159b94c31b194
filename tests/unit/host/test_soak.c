/* Everything at once, by seed: calls of all kinds while nodes crash, links break, disks
 * stall and clients leave. HOST_SEEDS=from-to runs others than the few of every day. */
#include "cluster.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

enum { RESOURCES = 4, CLIENTS = 24, EVENTS = 4000 };

struct client {
    uint64_t call; /* 0: idle */
    uint32_t node;
    uint32_t life; /* of the node, when the call was made */
    uint32_t kind;
    uint32_t resource;
    uint64_t fence; /* held; 0: none */
    uint64_t began_ms;
    uint64_t losses;  /* of the store, when the call was made */
    uint64_t version; /* of the cache entry last put or read */
};

struct soak {
    struct cluster *cluster;
    struct rk_random random;
    struct client clients[CLIENTS];
    uint32_t lives[3];
    uint64_t fences[RESOURCES]; /* the highest seen */
    int holders[RESOURCES];     /* -1: nobody known */
    uint64_t versions[RESOURCES];
    uint32_t published, consumed;
    uint32_t answered;
    struct fake_state saved; /* of the store, to go back to; records NULL: none */
    uint64_t losses;         /* times that the store lost what it had */
};

enum kind { ACQUIRE, RELEASE, PUBLISH, CONSUME, PUT, GET, KINDS };

static uint64_t below(struct soak *soak, uint64_t bound)
{
    return rk_random_below(&soak->random, bound);
}

static void start(struct soak *soak, uint32_t at)
{
    struct client *client = &soak->clients[at];
    char text[160];
    static const enum rk_op ops[KINDS] = {RK_OP_LOCK_ACQUIRE,  RK_OP_LOCK_RELEASE,
                                          RK_OP_QUEUE_PUBLISH, RK_OP_QUEUE_CONSUME,
                                          RK_OP_CACHE_PUT,     RK_OP_CACHE_GET};
    client->node = (uint32_t)below(soak, 3);
    if (soak->cluster->nodes[client->node].host == NULL) return;
    client->kind = client->fence != 0 ? RELEASE : (uint32_t)below(soak, KINDS);
    if (client->kind == RELEASE && client->fence == 0) client->kind = ACQUIRE;
    if (client->kind != RELEASE) client->resource = (uint32_t)below(soak, RESOURCES);
    switch (client->kind) {
    case ACQUIRE:
        snprintf(
            text, sizeof(text),
            "{\"resource\":\"r%u\",\"owner\":\"c%u\",\"wait_ms\":%u,\"lease_ms\":600000}",
            client->resource, at, below(soak, 2) ? 0 : (unsigned)below(soak, 3000));
        break;
    case RELEASE:
        soak->holders[client->resource] = -1; /* given up now, whatever becomes of it */
        snprintf(text, sizeof(text),
                 "{\"resource\":\"r%u\",\"owner\":\"c%u\",\"fence\":%llu}",
                 client->resource, at, (unsigned long long)client->fence);
        break;
    case PUBLISH:
        snprintf(text, sizeof(text), "{\"topic\":\"t%u\",\"data\":%u}", client->resource,
                 soak->published++);
        break;
    case CONSUME:
        snprintf(text, sizeof(text), "{\"topic\":\"t%u\",\"wait_ms\":%u}", client->resource,
                 below(soak, 2) ? 0 : (unsigned)below(soak, 3000));
        break;
    case PUT:
        snprintf(text, sizeof(text), "{\"k\":\"k%u\",\"v\":%u}", client->resource, at);
        break;
    default: snprintf(text, sizeof(text), "{\"k\":\"k%u\"}", client->resource); break;
    }
    client->version = soak->versions[client->resource];
    client->began_ms = soak->cluster->now_ms;
    client->losses = soak->losses;
    client->life = soak->lives[client->node];
    client->call = cluster_call(soak->cluster, client->node, ops[client->kind], text);
}

static void granted(struct soak *soak, uint32_t at, const struct rk_reply *reply)
{
    struct client *client = &soak->clients[at];
    int holder = soak->holders[client->resource];
    /* Leases outlast the run: nobody else may hold it, and fences rise. Grants that a store
     * may have lost stand no longer; fences rise over them all the same. */
    if (holder >= 0 && soak->clients[holder].losses == soak->losses)
        assert_int_equal(holder, -1);
    assert_true(reply->fence > soak->fences[client->resource]);
    soak->fences[client->resource] = reply->fence;
    soak->holders[client->resource] = (int)at;
    client->fence = reply->fence;
}

static void take(struct soak *soak, uint32_t at)
{
    struct client *client = &soak->clients[at];
    const struct rk_reply *reply = cluster_answer(soak->cluster, client->call, 0);
    client->call = 0;
    soak->answered++;
    switch (client->kind) {
    case ACQUIRE:
        if (reply->status == RK_OK) granted(soak, at, reply);
        break;
    case RELEASE:
        /* Unknown: tried again. Not owner: the first try was done. */
        if (reply->status != RK_OK && reply->status != RK_ENOTOWNER) break;
        client->fence = 0;
        break;
    case CONSUME:
        if (reply->status == RK_OK) soak->consumed += reply->message_count;
        break;
    case PUT:
        if (reply->status == RK_OK && reply->version > soak->versions[client->resource])
            soak->versions[client->resource] = reply->version;
        break;
    case GET:
        /* Never older than what any client had seen when the call began. */
        if (reply->status != RK_OK) break;
        assert_true(reply->version >= client->version);
        if (reply->version > soak->versions[client->resource])
            soak->versions[client->resource] = reply->version;
        break;
    default: break;
    }
}

static void clients_run(struct soak *soak)
{
    for (uint32_t at = 0; at < CLIENTS; at++) {
        struct client *client = &soak->clients[at];
        if (client->call == 0) {
            if (below(soak, 4) == 0) start(soak, at);
            continue;
        }
        bool is_dead = soak->lives[client->node] != client->life;
        /* Nobody will say: it may be done or not. */
        if (is_dead && !cluster_has_answer(soak->cluster, client->call)) client->call = 0;
    }
    for (uint32_t at = 0; at < CLIENTS; at++)
        if (soak->clients[at].call != 0 &&
            cluster_has_answer(soak->cluster, soak->clients[at].call))
            take(soak, at);
}

/* What a store can do to those who count on it. */
static void store_fault(struct soak *soak)
{
    struct fake_store *store = soak->cluster->store;
    store->delay_ms = below(soak, 4) == 0 ? below(soak, 400) : below(soak, 6);
    store->refuse_percent = below(soak, 3) == 0 ? 30 : 0;
    store->lose_percent = below(soak, 3) == 0 ? 30 : 0;
    store->is_away = below(soak, 6) == 0;
    switch (below(soak, 12)) {
    case 0:
        fake_store_empty(store, below(soak, 2) == 0);
        soak->losses++;
        break;
    case 1:
        if (soak->saved.records == NULL) break;
        /* No server goes back to an older state but at a start or a failover. */
        fake_store_go_back(store, soak->saved, true);
        soak->saved.records = NULL;
        soak->losses++;
        break;
    case 2:
    case 3:
        if (soak->saved.records == NULL) soak->saved = fake_store_copy(store);
        break;
    default: break;
    }
}

static void fault(struct soak *soak)
{
    struct cluster *cluster = soak->cluster;
    uint32_t node = (uint32_t)below(soak, 3);
    uint32_t other = (node + 1 + (uint32_t)below(soak, 2)) % 3;
    switch (below(soak, 8)) {
    case 0:
    case 1:
        if (cluster->nodes[node].host == NULL) break;
        cluster_kill(cluster, node, (enum rk_memfs_crash_mode)below(soak, 3));
        soak->lives[node]++;
        break;
    case 2:
    case 3:
    case 4:
        for (uint32_t i = 0; i < 3; i++)
            if (cluster->nodes[i].host == NULL) cluster_start(cluster, i);
        break;
    case 5: cluster_cut(cluster, node, other, true); break;
    case 6:
        for (uint32_t i = 0; i < 3; i++)
            cluster_cut(cluster, i, (i + 1) % 3, false);
        break;
    default: {
        uint32_t at = (uint32_t)below(soak, CLIENTS);
        struct client *client = &soak->clients[at];
        if (client->call == 0 || cluster->nodes[client->node].host == NULL ||
            soak->lives[client->node] != client->life || client->kind == RELEASE ||
            cluster_has_answer(cluster, client->call))
            break;
        cluster_drop(cluster, client->node, client->call);
        client->call = 0;
        break;
    }
    }
    cluster->disk_ms = 1 + (below(soak, 6) == 0 ? below(soak, 200) : 0);
}

static void soak_run(uint64_t seed)
{
    struct soak soak = {.holders = {-1, -1, -1, -1}};
    rk_random_init(&soak.random, seed);
    soak.cluster = cluster_new((struct cluster_options){
        .nodes = 3, .groups = 3, .snapshot_bytes = 4096 + below(&soak, 60000)});
    cluster_settle(soak.cluster, 3000);
    for (uint32_t i = 0; i < EVENTS; i++) {
        cluster_run(soak.cluster, 1 + below(&soak, 4));
        clients_run(&soak);
        if (below(&soak, 100) == 0) fault(&soak);
        if (soak.cluster->store != NULL && below(&soak, 100) == 0) store_fault(&soak);
    }
    for (uint32_t i = 0; i < 3; i++) {
        cluster_cut(soak.cluster, i, (i + 1) % 3, false);
        if (soak.cluster->nodes[i].host == NULL) cluster_start(soak.cluster, i);
    }
    soak.cluster->disk_ms = 1;
    if (soak.cluster->store != NULL) fake_store_mend(soak.cluster->store);
    cluster_settle(soak.cluster, 10000);
    /* All that is open ends. */
    cluster_run(soak.cluster, 15000);
    for (uint32_t at = 0; at < CLIENTS; at++)
        if (soak.clients[at].call != 0 &&
            soak.lives[soak.clients[at].node] == soak.clients[at].life)
            assert_true(cluster_has_answer(soak.cluster, soak.clients[at].call));
    cluster_settle(soak.cluster, 10000);
    cluster_run(soak.cluster, 1000);
    cluster_check_equal(soak.cluster);
    assert_true(soak.answered > 200);
    for (uint32_t i = 0; i < 3; i++)
        assert_int_equal(rk_host_metrics(soak.cluster->nodes[i].host)->calls_waiting, 0);
    if (soak.saved.records != NULL) fake_state_fini(&soak.saved);
    cluster_free(soak.cluster);
}

static void test_seeds(void **state)
{
    unsigned long from = 1, to = 6;
    const char *seeds = getenv("HOST_SEEDS");
    (void)state;
    if (seeds != NULL) {
        char *rest = NULL;
        from = to = strtoul(seeds, &rest, 10);
        if (rest == seeds) fail();
        if (*rest == '-') to = strtoul(rest + 1, NULL, 10);
    }
    for (unsigned long seed = from; seed <= to; seed++) {
        if (seeds != NULL) fprintf(stderr, "seed %lu\n", seed);
        soak_run(seed);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_seeds)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
