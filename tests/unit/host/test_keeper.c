/* Sessions and locks in a store that is slow, fails, loses answers and forgets. */
#include "cluster.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

enum { HOLD_MS = 4000 };

static struct cluster *cluster;
static struct fake_store *store;

static int setup(void **state)
{
    (void)state;
    cluster = cluster_new((struct cluster_options){
        .nodes = 3, .groups = 2, .has_store = true, .hold_ms = HOLD_MS});
    store = cluster->store;
    cluster_settle(cluster, 3000);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    cluster_free(cluster);
    return 0;
}

#define TAKE(resource, owner) "{\"resource\":\"" resource "\",\"owner\":\"" owner "\"}"
#define WAIT(resource, owner)                                                              \
    "{\"resource\":\"" resource "\",\"owner\":\"" owner "\",\"wait_ms\":30000}"

static uint32_t leader(void)
{
    int at = cluster_leader(cluster, 0);
    assert_true(at >= 0);
    return (uint32_t)at;
}

static uint64_t granted(uint32_t node, const char *json)
{
    const struct rk_reply *reply = cluster_ask(cluster, node, RK_OP_LOCK_ACQUIRE, json);
    if (!reply->granted) fail_msg("%s: %s", json, reply->text);
    return reply->fence;
}

static struct rk_host_store_status status_of(uint32_t node)
{
    struct rk_host_store_status status;
    assert_true(rk_host_store_status(cluster->nodes[node].host, &status));
    return status;
}

static const struct rk_host_metrics *metrics_of(uint32_t node)
{
    return rk_host_metrics(cluster->nodes[node].host);
}

static void kill_leader(void)
{
    uint32_t dead = leader();
    cluster_kill(cluster, dead, RK_MEMFS_CRASH_LOSE_ALL);
    cluster_settle(cluster, 5000);
    cluster_start(cluster, dead);
    cluster_run(cluster, 200);
    cluster_settle(cluster, 5000);
}

static void test_nothing_is_answered_before_it_is_stored(void **state)
{
    (void)state;
    uint32_t at = leader();
    (void)granted(at, TAKE("a", "x"));
    store->delay_ms = 200;
    uint64_t write =
        cluster_call(cluster, (at + 1) % 3, RK_OP_LOCK_ACQUIRE, TAKE("r", "x"));
    cluster_run(cluster, 20);
    uint64_t seq = store->state.seq;
    /* Nor does a read show it. */
    uint64_t read = cluster_call(cluster, at, RK_OP_LOCK_CHECK, TAKE("r", "x"));
    while (store->state.seq == seq) {
        cluster_step(cluster);
        assert_false(cluster_has_answer(cluster, write) ||
                     cluster_has_answer(cluster, read));
    }
    assert_true(cluster_answer(cluster, write, 300)->granted);
    assert_true(cluster_answer(cluster, read, 300)->held);
    /* Those that come while a batch is out go together. */
    uint64_t batches = store->batches, calls[20];
    for (int i = 0; i < 20; i++) {
        char text[64];
        snprintf(text, sizeof(text), TAKE("r%d", "x"), i);
        calls[i] = cluster_call(cluster, at, RK_OP_LOCK_ACQUIRE, text);
        cluster_run(cluster, 3);
    }
    for (int i = 0; i < 20; i++)
        assert_true(cluster_answer(cluster, calls[i], 1000)->granted);
    assert_true(store->batches - batches <= 3);
}

static void test_a_store_that_is_away(void **state)
{
    (void)state;
    uint32_t at = leader();
    uint64_t fence = granted(at, TAKE("r", "x"));
    store->is_away = true;
    struct rk_request *request =
        cluster_request(cluster, RK_OP_LOCK_RELEASE, TAKE("r", "x"));
    request->deadline_ms = 2000;
    uint64_t in_batch = cluster_send(cluster, at, request);
    cluster_run(cluster, 20);
    uint64_t waiting = cluster_send(cluster, at, request);
    uint64_t elsewhere = cluster_send(cluster, (at + 1) % 3, request);
    cluster_run(cluster, 100);
    struct rk_host_status node;
    rk_host_status(cluster->nodes[at].host, &node);
    assert_false(node.has_quorum);
    assert_false(status_of(at).is_up);
    assert_true(status_of(at).reason[0] != '\0');
    /* What was sent may be done yet; what was not is known not to be. */
    assert_int_equal(cluster_answer(cluster, waiting, 2100)->status, RK_EUNAVAILABLE);
    assert_int_equal(cluster_answer(cluster, elsewhere, 100)->status, RK_EUNAVAILABLE);
    assert_int_equal(cluster_answer(cluster, in_batch, 100)->status, RK_EUNKNOWN);
    store->is_away = false;
    cluster_settle(cluster, 2000);
    assert_true(granted(at, TAKE("r", "y")) > fence);
    assert_int_equal(metrics_of(at)->store_regresses, 0);
}

static enum rk_status status_for(enum rk_op op, const char *json)
{
    return cluster_ask(cluster, leader(), op, json)->status;
}

/* Nothing that frees is refused, and nothing that was decided. */
static void test_a_store_that_is_full(void **state)
{
    (void)state;
    char session[64], text[128];
    struct rk_request *first = cluster_request(cluster, RK_OP_LOCK_ACQUIRE, TAKE("r", "x"));
    first->client = rk_slice_of_string("client");
    first->seq = 1;
    uint64_t fence =
        cluster_answer(cluster, cluster_send(cluster, leader(), first), 1000)->fence;
    const struct rk_reply *reply =
        cluster_ask(cluster, 0, RK_OP_SESSION_OPEN, "{\"ttl_ms\":20000}");
    snprintf(session, sizeof(session), "\"session\":\"%.*s\"", (int)reply->session.size,
             (const char *)reply->session.data);
    snprintf(text, sizeof(text), "{\"resource\":\"tied\",\"owner\":\"x\",%s}", session);
    (void)granted(0, text);
    (void)granted(0, "{\"resource\":\"short\",\"owner\":\"x\",\"lease_ms\":3000}");
    struct rk_request *waits = cluster_request(cluster, RK_OP_LOCK_ACQUIRE, WAIT("r", "w"));
    waits->client = first->client;
    waits->seq = 2;
    uint64_t cancelled = cluster_send(cluster, leader(), waits);
    uint32_t home = (leader() + 1) % 3;
    uint64_t wait = cluster_call(cluster, home, RK_OP_LOCK_ACQUIRE, WAIT("r", "y"));
    cluster_run(cluster, 100);
    store->is_full = true;
    cluster_run(cluster, 1100); /* it looks once a second */
    assert_true(status_of(leader()).is_full);
    reply = cluster_ask(cluster, 0, RK_OP_LOCK_ACQUIRE, TAKE("s", "y"));
    assert_int_equal(reply->status, RK_EFULL);
    assert_int_equal(reply->outcome, RK_OUTCOME_NOT_DONE);
    assert_int_equal(status_for(RK_OP_SESSION_OPEN, "{\"ttl_ms\":2000}"), RK_EFULL);
    /* A request of before has its answer. */
    reply = cluster_answer(cluster, cluster_send(cluster, leader(), first), 1000);
    assert_true(reply->granted && reply->fence == fence);
    assert_int_equal(status_for(RK_OP_LOCK_RENEW, TAKE("r", "x")), RK_OK);
    assert_int_equal(status_for(RK_OP_LOCK_CANCEL, "{\"client\":\"client\",\"seq\":2}"),
                     RK_OK);
    assert_int_equal(cluster_answer(cluster, cancelled, 1000)->status, RK_ECANCELLED);
    /* Also where the leader is new, and learns of it yet. */
    kill_leader();
    cluster_run(cluster, 1100);
    assert_int_equal(status_for(RK_OP_LOCK_ACQUIRE, TAKE("s", "y")), RK_EFULL);
    snprintf(text, sizeof(text), "{%s}", session);
    assert_int_equal(status_for(RK_OP_SESSION_CLOSE, text), RK_OK);
    assert_int_equal(status_for(RK_OP_LOCK_RELEASE, TAKE("r", "x")), RK_OK);
    cluster_run(cluster, 4000);
    reply = cluster_ask(cluster, leader(), RK_OP_LOCK_LIST, "{}");
    assert_int_equal(reply->listed_count, 1); /* r, which was waited for */
    assert_true(cluster_ask(cluster, 0, RK_OP_LOCK_CHECK, TAKE("r", "y"))->held);
    assert_true(cluster_answer(cluster, wait, 0)->granted);
    store->is_full = false;
    cluster_run(cluster, 1100);
    assert_int_equal(status_for(RK_OP_LOCK_ACQUIRE, TAKE("s", "y")), RK_OK);
    assert_false(status_of(leader()).is_full);
}

/* Answers that are lost, and refusals: each batch once, each call answered once. */
static void test_outcomes_that_are_unknown(void **state)
{
    (void)state;
    uint64_t fence = 0;
    store->lose_percent = 50;
    store->refuse_percent = 30;
    for (int i = 0; i < 40; i++) {
        uint32_t node = (uint32_t)i % 3;
        uint64_t next = granted(node, TAKE("r", "x"));
        assert_true(next > fence);
        fence = next;
        const struct rk_reply *reply =
            cluster_ask(cluster, (node + 1) % 3, RK_OP_LOCK_RELEASE, TAKE("r", "x"));
        assert_true(reply->released);
    }
    assert_true(store->repeated > 5);
    assert_int_equal(metrics_of(leader())->store_regresses, 0);
}

static void test_locks_outlive_their_leaders(void **state)
{
    (void)state;
    struct rk_request *first = cluster_request(cluster, RK_OP_LOCK_ACQUIRE, TAKE("r", "x"));
    first->client = rk_slice_of_string("client");
    first->seq = 1;
    uint64_t fence =
        cluster_answer(cluster, cluster_send(cluster, leader(), first), 1000)->fence;
    for (uint64_t round = 0; round < 6; round++) {
        kill_leader();
        uint32_t at = leader();
        /* The same request has the same answer. */
        const struct rk_reply *reply =
            cluster_answer(cluster, cluster_send(cluster, (at + 1) % 3, first), 2000);
        assert_true(reply->granted && reply->fence == fence);
        assert_int_equal(
            cluster_ask(cluster, at, RK_OP_LOCK_ACQUIRE, TAKE("r", "y"))->status, RK_EHELD);
        char name[64];
        snprintf(name, sizeof(name), TAKE("o%u", "y"), (unsigned)round);
        assert_true(granted(at, name) > fence);
    }
    assert_true(cluster_ask(cluster, 0, RK_OP_LOCK_RELEASE, TAKE("r", "x"))->released);
}

/* A wait stands in the store: a new leader goes on with it. */
static void test_waits_outlive_their_leaders(void **state)
{
    (void)state;
    uint32_t at = leader(), home = (at + 1) % 3;
    uint64_t fence = granted(at, TAKE("r", "x"));
    uint64_t wait = cluster_call(cluster, home, RK_OP_LOCK_ACQUIRE, WAIT("r", "y"));
    cluster_run(cluster, 100);
    cluster_kill(cluster, at, RK_MEMFS_CRASH_LOSE_ALL);
    cluster_settle(cluster, 5000);
    cluster_run(cluster, 3000); /* it is not taken for homeless */
    assert_false(cluster_has_answer(cluster, wait));
    assert_true(cluster_ask(cluster, home, RK_OP_LOCK_RELEASE, TAKE("r", "x"))->released);
    const struct rk_reply *reply = cluster_answer(cluster, wait, 1000);
    assert_true(reply->granted && reply->fence > fence);
}

static void test_sessions(void **state)
{
    (void)state;
    char text[128];
    const struct rk_reply *reply =
        cluster_ask(cluster, 0, RK_OP_SESSION_OPEN, "{\"ttl_ms\":2000}");
    assert_int_equal(reply->status, RK_OK);
    snprintf(text, sizeof(text), "{\"session\":\"%.*s\"}", (int)reply->session.size,
             (const char *)reply->session.data);
    char take[160];
    snprintf(take, sizeof(take),
             "{\"resource\":\"r\",\"owner\":\"x\",\"session\":\"%.*s\"}",
             (int)reply->session.size, (const char *)reply->session.data);
    uint64_t fence = granted(1, take);
    uint64_t batches = 0;
    for (int i = 0; i < 6; i++) {
        cluster_run(cluster, 900);
        if (i == 1) batches = store->batches;
        if (i == 3) assert_int_equal(store->batches, batches); /* they cost no writes */
        if (i == 4) kill_leader();
        reply = cluster_ask(cluster, (uint32_t)i % 3, RK_OP_SESSION_KEEPALIVE, text);
        assert_int_equal(reply->status, RK_OK);
        assert_int_equal(reply->ttl_ms, 2000);
    }
    assert_int_equal(cluster_ask(cluster, 0, RK_OP_SESSION_LIST, "{}")->listed_count, 1);
    assert_int_equal(
        cluster_ask(cluster, 0, RK_OP_LOCK_INFO, "{\"resource\":\"r\"}")->holder_count, 1);
    uint64_t began = cluster->now_ms;
    reply = cluster_ask(cluster, 2, RK_OP_LOCK_ACQUIRE, WAIT("r", "y"));
    assert_true(reply->granted && reply->fence > fence);
    assert_in_range(cluster->now_ms - began, 1500, 2300);
    assert_int_equal(cluster_ask(cluster, 0, RK_OP_SESSION_KEEPALIVE, text)->status,
                     RK_ESESSION);
}

/* Its node tells the client so, and gives back what it never heard of. */
static void test_a_grant_whose_answer_is_lost(void **state)
{
    (void)state;
    uint32_t at = leader(), home = (at + 1) % 3;
    (void)granted(at, TAKE("a", "x"));
    store->delay_ms = 200;
    struct rk_request *request =
        cluster_request(cluster, RK_OP_LOCK_ACQUIRE, TAKE("r", "x"));
    request->deadline_ms = 1000;
    uint64_t seq = store->state.seq, call = cluster_send(cluster, home, request);
    while (store->state.seq == seq)
        cluster_step(cluster);
    cluster_cut(cluster, at, home, true);
    assert_int_equal(cluster_answer(cluster, call, 2000)->status, RK_EUNKNOWN);
    store->delay_ms = 2;
    assert_true(cluster_ask(cluster, at, RK_OP_LOCK_CHECK, TAKE("r", "x"))->held);
    cluster_run(cluster, 3000); /* the leader gives the home up */
    cluster_cut(cluster, at, home, false);
    cluster_run(cluster, 2000);
    assert_int_equal(metrics_of(home)->calls_waiting, 0);
    assert_false(cluster_ask(cluster, at, RK_OP_LOCK_CHECK, TAKE("r", "x"))->held);
}

/* The leader lives and knows everything: what it wrote comes back. */
static void test_an_emptied_store_is_filled_again(void **state)
{
    (void)state;
    uint32_t at = leader();
    uint64_t fence = granted(at, TAKE("r", "x"));
    for (int round = 0; round < 2; round++) {
        fake_store_empty(store, round == 1);
        cluster_run(cluster, 1500); /* it looks now and then */
        assert_int_equal(store->wholes, round + 1);
        assert_int_equal(metrics_of(at)->store_regresses, round + 1);
        assert_true(status_of(at).is_holding);
        assert_true(cluster_ask(cluster, 0, RK_OP_LOCK_CHECK, TAKE("r", "x"))->held);
        /* Nobody is granted anything for a while, but who waits is served after it. */
        const struct rk_reply *reply =
            cluster_ask(cluster, 1, RK_OP_LOCK_ACQUIRE, TAKE("s", "y"));
        assert_int_equal(reply->status, RK_EUNAVAILABLE);
        assert_int_equal(reply->outcome, RK_OUTCOME_NOT_DONE);
        uint64_t wait = cluster_call(cluster, 1, RK_OP_LOCK_ACQUIRE, WAIT("s", "y"));
        cluster_run(cluster, HOLD_MS - 2500);
        assert_false(cluster_has_answer(cluster, wait));
        reply = cluster_answer(cluster, wait, 3000);
        assert_true(reply->granted && reply->fence > fence);
        fence = reply->fence;
        assert_false(status_of(at).is_holding);
        assert_true(cluster_ask(cluster, 0, RK_OP_LOCK_RELEASE, TAKE("s", "y"))->released);
    }
    /* What was written back is what a successor finds. */
    kill_leader();
    assert_true(cluster_ask(cluster, 0, RK_OP_LOCK_CHECK, TAKE("r", "x"))->held);
}

/* Store and leader go together: locks are lost, fences and exclusion are not. */
static void test_a_loss_without_a_witness(void **state)
{
    (void)state;
    uint64_t fence = 0;
    for (int round = 0; round < 3; round++) {
        uint64_t next = granted(leader(), TAKE("r", "x"));
        assert_true(next > fence);
        fence = next;
        struct fake_state old = {0};
        if (round == 1) old = fake_store_copy(store);
        next = granted(leader(), TAKE("s", "x"));
        assert_true(next > fence);
        fence = next;
        uint32_t dead = leader();
        cluster_kill(cluster, dead, RK_MEMFS_CRASH_LOSE_ALL);
        if (round == 0) fake_store_empty(store, false);
        if (round == 1) fake_store_go_back(store, old, true);
        if (round == 2) fake_store_empty(store, true);
        cluster_settle(cluster, 5000);
        cluster_start(cluster, dead);
        cluster_run(cluster, 200);
        cluster_settle(cluster, 5000);
        uint32_t at = leader();
        assert_int_equal(metrics_of(at)->store_regresses, 1);
        assert_int_equal(
            cluster_ask(cluster, at, RK_OP_LOCK_ACQUIRE, TAKE("s", "y"))->status,
            RK_EUNAVAILABLE);
        /* A stale holder is not told that it still holds. */
        if (round == 1)
            assert_int_equal(
                cluster_ask(cluster, at, RK_OP_LOCK_ACQUIRE, TAKE("r", "x"))->status,
                RK_EUNAVAILABLE);
        cluster_run(cluster, HOLD_MS);
        next = granted(at, TAKE("s", "y"));
        assert_true(next > fence);
        fence = next;
        assert_true(cluster_ask(cluster, at, RK_OP_LOCK_RELEASE, TAKE("s", "y"))->released);
    }
}

/* A hold is in the log: leaders that die within it take nothing of it along. */
static void test_a_hold_outlives_its_leaders(void **state)
{
    (void)state;
    for (int round = 0; round < 2; round++) {
        bool has_witness = round == 1;
        uint64_t fence = granted(leader(), TAKE("r", "x"));
        uint32_t dead = leader();
        if (!has_witness) cluster_kill(cluster, dead, RK_MEMFS_CRASH_LOSE_ALL);
        fake_store_empty(store, false);
        if (!has_witness) cluster_settle(cluster, 5000);
        if (!has_witness) cluster_start(cluster, dead);
        cluster_run(cluster, 1500);
        assert_int_equal(metrics_of(leader())->store_regresses, 1);
        for (int times = 0; times < 2; times++) {
            assert_true(status_of(leader()).is_holding);
            cluster_run(cluster, HOLD_MS / 4);
            kill_leader();
        }
        uint32_t at = leader();
        assert_int_equal(metrics_of(at)->store_regresses, 0);
        assert_in_range(status_of(at).hold_ms, HOLD_MS / 2, HOLD_MS);
        const struct rk_reply *reply =
            cluster_ask(cluster, at, RK_OP_LOCK_ACQUIRE, TAKE("s", "y"));
        assert_int_equal(reply->status, RK_EUNAVAILABLE);
        cluster_run(cluster, HOLD_MS);
        assert_true(granted(at, TAKE("s", "y")) > fence);
        assert_true(cluster_ask(cluster, at, RK_OP_LOCK_RELEASE, TAKE("s", "y"))->released);
        /* Nor does the next one hold what has ended. */
        kill_leader();
        assert_false(status_of(leader()).is_holding);
    }
}

/* A store that is filled again looks as if it never lost anything. */
static void test_a_write_back_waits_for_the_log(void **state)
{
    (void)state;
    uint32_t at = leader();
    (void)granted(at, TAKE("r", "x"));
    cluster->disk_ms = 700;
    fake_store_empty(store, false);
    while (metrics_of(at)->store_regresses == 0)
        cluster_step(cluster);
    cluster_run(cluster, 100);
    assert_int_equal(store->wholes, 0);
    cluster->disk_ms = 1;
    kill_leader();
    at = leader();
    assert_true(status_of(at).is_holding);
    cluster_run(cluster, 1500);
    assert_int_equal(cluster_ask(cluster, at, RK_OP_LOCK_ACQUIRE, TAKE("r", "y"))->status,
                     RK_EUNAVAILABLE);
}

/* Runs until a claim is done and its answer is on the way; whose it is. */
static uint32_t claimer(void)
{
    for (int i = 0; i < 5000; i++) {
        cluster_step(cluster);
        for (uint32_t k = 0; k < store->asked_count; k++) {
            const struct fake_asked *asked = &store->asked[k];
            if (!asked->is_claim || !asked->is_done || asked->is_answered) continue;
            for (uint32_t node = 0; node < 3; node++)
                if (cluster->nodes[node].host == asked->asker) return node;
        }
    }
    fail_msg("nobody claims the store");
    return 0;
}

/* The store is empty, its leader gone, and what its successors first ask of it ... */
enum trouble {
    HAS_NO_ANSWER,
    IS_DONE_LATE,
    SEES_IT_HAPPEN,
    DIES_WITH_THE_LEADER,
    TROUBLES
};

static void lose_all(enum trouble trouble)
{
    uint32_t dead = leader(), next = dead;
    cluster_kill(cluster, dead, RK_MEMFS_CRASH_LOSE_ALL);
    cluster_start(cluster, dead);
    if (trouble != SEES_IT_HAPPEN) fake_store_empty(store, false);
    uint64_t claims = store->claims;
    store->lose_percent = trouble == HAS_NO_ANSWER ? 100 : 0;
    store->late_percent = trouble == IS_DONE_LATE ? 100 : 0;
    store->late_ms = 300;
    if (trouble == HAS_NO_ANSWER || trouble == IS_DONE_LATE) {
        while (store->claims < claims + 3)
            cluster_step(cluster);
    } else {
        store->delay_ms = 400;
        next = claimer();
        if (trouble == SEES_IT_HAPPEN) fake_store_empty(store, false);
    }
    if (trouble == DIES_WITH_THE_LEADER) {
        cluster_kill(cluster, next, RK_MEMFS_CRASH_LOSE_ALL);
        cluster_start(cluster, next);
    }
    fake_store_mend(store);
    cluster_run(cluster, 200);
    cluster_settle(cluster, 5000);
}

static void test_a_loss_is_told_to_every_claim(void **state)
{
    (void)state;
    for (int trouble = 0; trouble < TROUBLES; trouble++) {
        uint64_t fence = granted(leader(), TAKE("r", "x"));
        lose_all((enum trouble)trouble);
        uint32_t at = leader();
        assert_int_equal(metrics_of(at)->store_regresses, 1);
        assert_int_equal(
            cluster_ask(cluster, at, RK_OP_LOCK_ACQUIRE, TAKE("r", "y"))->status,
            RK_EUNAVAILABLE);
        cluster_run(cluster, HOLD_MS);
        uint64_t next = granted(at, TAKE("r", "y"));
        assert_true(next > fence);
        assert_true(cluster_ask(cluster, at, RK_OP_LOCK_RELEASE, TAKE("r", "y"))->released);
        /* Once it is made good nobody is told of it. */
        kill_leader();
        assert_int_equal(metrics_of(leader())->store_regresses, 0);
    }
}

/* Several losses within the second by which births count fences. */
static void test_fences_rise_within_a_second(void **state)
{
    (void)state;
    uint64_t fence = 0, began = 0;
    cluster_free(cluster);
    cluster =
        cluster_new((struct cluster_options){.nodes = 3, .groups = 1, .has_store = true});
    store = cluster->store;
    cluster_settle(cluster, 3000);
    while (cluster->now_ms % 1000 > 20)
        cluster_step(cluster);
    began = cluster->now_ms;
    for (int round = 0; round < 3; round++) {
        uint32_t at = leader();
        for (int i = 0; i < 5; i++) {
            char text[64];
            snprintf(text, sizeof(text), TAKE("r%d", "x"), i);
            uint64_t next = granted(at, text);
            assert_true(next > fence);
            fence = next;
        }
        cluster_kill(cluster, at, RK_MEMFS_CRASH_LOSE_ALL);
        fake_store_empty(store, false);
        cluster_settle(cluster, 500);
        cluster_start(cluster, at);
        cluster_run(cluster, 150);
        cluster_settle(cluster, 500);
    }
    assert_true(cluster->now_ms - began < 980);
}

/* Its batch arrives after its successor has claimed the store. */
static void test_a_deposed_leader_writes_nothing(void **state)
{
    (void)state;
    uint32_t old = leader(), a = (old + 1) % 3, b = (old + 2) % 3;
    store->delay_ms = 6000; /* on its way for three seconds */
    uint64_t late = cluster_call(cluster, old, RK_OP_LOCK_ACQUIRE, TAKE("r", "x"));
    cluster_run(cluster, 5);
    store->delay_ms = 2;
    cluster_cut(cluster, old, a, true);
    cluster_cut(cluster, old, b, true);
    cluster_run(cluster, 2500);
    uint64_t fence = granted(a, TAKE("r", "y"));
    uint64_t fenced = store->fenced;
    cluster_run(cluster, 2000);
    assert_int_equal(store->fenced, fenced + 1);
    cluster_cut(cluster, old, a, false);
    cluster_cut(cluster, old, b, false);
    const struct rk_reply *reply = cluster_answer(cluster, late, 9000);
    assert_int_equal(reply->status, RK_EHELD);
    assert_true(cluster_ask(cluster, b, RK_OP_LOCK_CHECK, TAKE("r", "y"))->held);
    assert_true(fence > 0);
    assert_int_equal(metrics_of(leader())->store_regresses, 0);
}

/* A leader that sleeps sends nothing when it wakes, not even what was due. */
static void test_a_leader_that_slept(void **state)
{
    (void)state;
    uint32_t old = leader();
    (void)granted(old, "{\"resource\":\"r\",\"owner\":\"x\",\"lease_ms\":1000}");
    struct rk_host *asleep = cluster->nodes[old].host;
    cluster->nodes[old].host = NULL;
    for (uint32_t i = 0; i < 3; i++)
        if (i != old)
            rk_host_link_down(cluster->nodes[i].host, cluster->nodes[old].name,
                              RK_LINK_BULK, false);
    cluster_run(cluster, 3000);
    uint32_t now = leader();
    assert_int_not_equal(now, old);
    cluster->nodes[old].host = asleep;
    uint64_t call = cluster_call(cluster, old, RK_OP_LOCK_ACQUIRE, TAKE("s", "z"));
    for (int i = 0; i < 10; i++) {
        uint32_t before = store->asked_count;
        cluster_step(cluster);
        for (uint32_t k = before; k < store->asked_count; k++)
            assert_true(store->asked[k].asker != asleep);
    }
    for (uint32_t i = 0; i < 3; i++)
        if (i != old) {
            rk_host_link_up(cluster->nodes[i].host, cluster->nodes[old].name, RK_LINK_BULK);
            rk_host_link_up(asleep, cluster->nodes[i].name, RK_LINK_BULK);
        }
    assert_true(cluster_answer(cluster, call, 5000)->granted);
    assert_int_equal(store->fenced, 0);
}

/* What does not load is not served, and said. */
static void test_records_that_are_damaged(void **state)
{
    (void)state;
    (void)granted(leader(), TAKE("r", "x"));
    uint32_t dead = leader();
    cluster_kill(cluster, dead, RK_MEMFS_CRASH_LOSE_ALL);
    uint32_t last = store->state.count - 1;
    struct fake_record lost = store->state.records[last];
    store->state.count--;
    cluster_run(cluster, 5000);
    uint32_t at = leader();
    assert_false(status_of(at).is_keeping);
    assert_non_null(strstr(status_of(at).reason, "record"));
    struct rk_request *request =
        cluster_request(cluster, RK_OP_LOCK_ACQUIRE, TAKE("s", "x"));
    request->deadline_ms = 500;
    const struct rk_reply *reply =
        cluster_answer(cluster, cluster_send(cluster, at, request), 1000);
    assert_int_equal(reply->status, RK_EUNAVAILABLE);
    store->state.records[store->state.count++] = lost;
    cluster_settle(cluster, 3000);
    assert_true(cluster_ask(cluster, at, RK_OP_LOCK_CHECK, TAKE("r", "x"))->held);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_nothing_is_answered_before_it_is_stored, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(test_a_store_that_is_away, setup, teardown),
        cmocka_unit_test_setup_teardown(test_a_store_that_is_full, setup, teardown),
        cmocka_unit_test_setup_teardown(test_outcomes_that_are_unknown, setup, teardown),
        cmocka_unit_test_setup_teardown(test_locks_outlive_their_leaders, setup, teardown),
        cmocka_unit_test_setup_teardown(test_waits_outlive_their_leaders, setup, teardown),
        cmocka_unit_test_setup_teardown(test_sessions, setup, teardown),
        cmocka_unit_test_setup_teardown(test_a_grant_whose_answer_is_lost, setup, teardown),
        cmocka_unit_test_setup_teardown(test_an_emptied_store_is_filled_again, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(test_a_loss_without_a_witness, setup, teardown),
        cmocka_unit_test_setup_teardown(test_a_hold_outlives_its_leaders, setup, teardown),
        cmocka_unit_test_setup_teardown(test_a_write_back_waits_for_the_log, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(test_a_loss_is_told_to_every_claim, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(test_fences_rise_within_a_second, setup, teardown),
        cmocka_unit_test_setup_teardown(test_a_deposed_leader_writes_nothing, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(test_a_leader_that_slept, setup, teardown),
        cmocka_unit_test_setup_teardown(test_records_that_are_damaged, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
