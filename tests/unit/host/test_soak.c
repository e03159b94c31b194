/* Everything at once, by seed: calls of all kinds while nodes crash, links break, disks
 * stall and clients leave. HOST_SEEDS=from-to runs others than the few of every day. */
#include "cluster.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

enum {
    RESOURCES = 4,
    CLIENTS = 24,
    EVENTS = 4000,
    LEASE_MS = 600000, /* outlasts the run */
    /* With a store that loses grants they must end within the run, and are held back for
     * as long as the longest lease, not a millisecond more. */
    STORE_EVENTS = 24000,
    STORE_LEASE_MS = 2000,
    STORE_HOLD_MS = 2000,
};

struct client {
    uint64_t call; /* 0: idle */
    uint32_t node;
    uint32_t life; /* of the node, when the call was made */
    uint32_t kind;
    uint32_t resource;
    uint64_t fence;      /* held; 0: none */
    uint64_t until_ms;   /* for so long at least, as the client counts */
    uint64_t release_ms; /* when it means to give it back */
    uint64_t began_ms;
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
    uint64_t kill_ms;        /* the leader dies then; 0: no plan */
    bool is_loss_due;        /* once a claim is done, before it is answered */
    uint32_t lease_ms;
    uint32_t grants;
};

enum kind { ACQUIRE, RELEASE, PUBLISH, CONSUME, PUT, GET, KINDS, RENEW = KINDS };

static uint64_t below(struct soak *soak, uint64_t bound)
{
    return rk_random_below(&soak->random, bound);
}

/* False: it holds a lock, and has no call to make. */
static bool choose(struct soak *soak, struct client *client)
{
    if (client->fence == 0) {
        client->kind = (uint32_t)below(soak, KINDS);
        if (client->kind == RELEASE) client->kind = ACQUIRE;
        client->resource = (uint32_t)below(soak, RESOURCES);
        return true;
    }
    client->kind = RELEASE;
    if (soak->cluster->now_ms >= client->release_ms) return true;
    client->kind = RENEW;
    return below(soak, 20) == 0;
}

static void start(struct soak *soak, uint32_t at)
{
    struct client *client = &soak->clients[at];
    char text[160];
    static const enum rk_op ops[] = {
        RK_OP_LOCK_ACQUIRE, RK_OP_LOCK_RELEASE, RK_OP_QUEUE_PUBLISH, RK_OP_QUEUE_CONSUME,
        RK_OP_CACHE_PUT,    RK_OP_CACHE_GET,    RK_OP_LOCK_RENEW};
    uint32_t wait_max_ms = soak->lease_ms < 3000 ? soak->lease_ms : 3000;
    client->node = (uint32_t)below(soak, 3);
    if (soak->cluster->nodes[client->node].host == NULL || !choose(soak, client)) return;
    switch (client->kind) {
    case ACQUIRE:
        snprintf(text, sizeof(text),
                 "{\"resource\":\"r%u\",\"owner\":\"c%u\",\"wait_ms\":%u,\"lease_ms\":%u}",
                 client->resource, at,
                 below(soak, 2) ? 0 : (unsigned)below(soak, wait_max_ms), soak->lease_ms);
        break;
    case RENEW:
    case RELEASE:
        /* Given up now, whatever becomes of it. */
        if (client->kind == RELEASE) soak->holders[client->resource] = -1;
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
    client->life = soak->lives[client->node];
    client->call = cluster_call(soak->cluster, client->node, ops[client->kind], text);
}

/* A client counts the lease from when it asked, and so never believes longer than the
 * cluster that it holds the lock. */
static void granted(struct soak *soak, uint32_t at, const struct rk_reply *reply)
{
    struct client *client = &soak->clients[at];
    int holder = soak->holders[client->resource];
    uint64_t now = soak->cluster->now_ms;
    client->until_ms = client->began_ms + soak->lease_ms;
    if (client->until_ms <= now) return; /* it may be another's by now */
    /* Nobody else holds it, whatever the store lost, and fences rise. */
    if (holder >= 0 && soak->clients[holder].until_ms > now) assert_int_equal(holder, -1);
    assert_true(reply->fence > soak->fences[client->resource]);
    soak->fences[client->resource] = reply->fence;
    soak->holders[client->resource] = (int)at;
    soak->grants++;
    client->fence = reply->fence;
    client->release_ms = now + (soak->lease_ms == LEASE_MS ? 0 : below(soak, 4000));
}

static void drop(struct soak *soak, struct client *client)
{
    int *holder = &soak->holders[client->resource];
    if (*holder >= 0 && client == &soak->clients[*holder]) *holder = -1;
    client->fence = 0;
}

/* Not the owner: what it held was lost, or its lease ended. */
static void renewed(struct soak *soak, struct client *client, const struct rk_reply *reply)
{
    if (reply->status == RK_OK)
        client->until_ms = client->began_ms + soak->lease_ms;
    else if (reply->status == RK_ENOTOWNER)
        drop(soak, client);
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
    case RENEW:
        assert_int_not_equal(reply->status, RK_EFULL);
        renewed(soak, client, reply);
        break;
    case RELEASE:
        assert_int_not_equal(reply->status, RK_EFULL);
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

static void kill_leader(struct soak *soak)
{
    int leader = cluster_leader(soak->cluster, 0);
    if (leader < 0 || soak->cluster->nodes[leader].host == NULL) return;
    cluster_kill(soak->cluster, (uint32_t)leader, (enum rk_memfs_crash_mode)below(soak, 3));
    soak->lives[leader]++;
    for (uint32_t i = 0; i < 3; i++)
        if (soak->cluster->nodes[i].host == NULL) cluster_start(soak->cluster, i);
}

/* What the store has is lost at a moment at which no leader sees it, or while the next one
 * reads it, and those that come next are in trouble, too. */
static void disaster(struct soak *soak)
{
    struct fake_store *store = soak->cluster->store;
    fake_store_mend(store);
    kill_leader(soak);
    if (soak->saved.records != NULL && below(soak, 2) == 0) {
        fake_store_go_back(store, soak->saved, true);
        soak->saved.records = NULL;
    } else {
        soak->is_loss_due = below(soak, 2) == 0;
        if (!soak->is_loss_due) fake_store_empty(store, below(soak, 2) == 0);
    }
    store->delay_ms = 2 + below(soak, 200);
    store->lose_percent = below(soak, 2) == 0 ? 60 : 0;
    store->late_percent = below(soak, 2) == 0 ? 60 : 0;
    store->late_ms = 1 + below(soak, 1500);
    soak->kill_ms = soak->cluster->now_ms + below(soak, 1500);
}

static void plans_run(struct soak *soak)
{
    struct fake_store *store = soak->cluster->store;
    for (uint32_t i = 0; i < store->asked_count && soak->is_loss_due; i++) {
        const struct fake_asked *asked = &store->asked[i];
        if (!asked->is_claim || !asked->is_done || asked->is_answered) continue;
        soak->is_loss_due = false;
        fake_store_empty(store, false);
    }
    if (soak->kill_ms == 0 || soak->kill_ms > soak->cluster->now_ms) return;
    soak->kill_ms = 0;
    kill_leader(soak);
}

/* What a store can do to those who count on it. */
static void store_fault(struct soak *soak)
{
    if (below(soak, 8) == 0) {
        disaster(soak);
        return;
    }
    struct fake_store *store = soak->cluster->store;
    store->delay_ms = below(soak, 4) == 0 ? below(soak, 400) : below(soak, 6);
    store->refuse_percent = below(soak, 3) == 0 ? 30 : 0;
    store->lose_percent = below(soak, 3) == 0 ? 30 : 0;
    store->is_away = below(soak, 6) == 0;
    store->late_percent = below(soak, 3) == 0 ? 20 : 0;
    store->late_ms = 1 + below(soak, 1500);
    store->is_full = below(soak, 8) == 0;
    switch (below(soak, 24)) {
    case 0: fake_store_empty(store, below(soak, 2) == 0); break;
    case 1:
        if (soak->saved.records == NULL) break;
        /* No server goes back to an older state but at a start or a failover. */
        fake_store_go_back(store, soak->saved, true);
        soak->saved.records = NULL;
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
    soak.cluster =
        cluster_new((struct cluster_options){.nodes = 3,
                                             .groups = 3,
                                             .snapshot_bytes = 4096 + below(&soak, 60000),
                                             .hold_ms = STORE_HOLD_MS});
    bool has_store = soak.cluster->store != NULL;
    soak.lease_ms = has_store ? STORE_LEASE_MS : LEASE_MS;
    cluster_settle(soak.cluster, 3000);
    for (uint32_t i = 0; i < (has_store ? STORE_EVENTS : EVENTS); i++) {
        cluster_run(soak.cluster, 1 + below(&soak, 4));
        clients_run(&soak);
        if (below(&soak, 100) == 0) fault(&soak);
        if (has_store && below(&soak, 400) == 0) store_fault(&soak);
        if (has_store) plans_run(&soak);
    }
    for (uint32_t i = 0; i < 3; i++) {
        cluster_cut(soak.cluster, i, (i + 1) % 3, false);
        if (soak.cluster->nodes[i].host == NULL) cluster_start(soak.cluster, i);
    }
    soak.cluster->disk_ms = 1;
    if (has_store) fake_store_mend(soak.cluster->store);
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
    assert_true(soak.grants > 0);
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
