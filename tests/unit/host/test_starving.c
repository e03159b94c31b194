/* Allocations of one node fail, each in turn, through the life of a cluster: birth, calls
 * of every kind, snapshots, transfers of the leadership, a member that comes and goes, a
 * restart. The node goes on, or ends and says that memory is why; then nothing is lost, no
 * call is without its one answer, and all agree.
 *
 * RK_STARVE_STEP=n: each n-th allocation. RK_STARVE=node,after,fails: one case, with
 * HOST_LOG=1 and what was answered. */
#include "cluster.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

enum { CALL_MS = 2000, KEYS = 40 };

struct sent {
    uint32_t node, life;
    uint64_t call;
};

struct run {
    struct cluster *cluster;
    uint32_t victim;
    uint32_t life;       /* of the victim */
    bool is_starved_out; /* its process ended */
    struct sent sent[512];
    uint32_t sent_count;
};

static const char *where = ""; /* the case, for messages */

static void start_victim(struct run *run)
{
    char error[256] = "";
    enum rk_status status = cluster_try_start(run->cluster, run->victim, error);
    if (status == RK_OK) return;
    if (status != RK_ENOMEM) fail_msg("%s: start: %s", where, error);
    assert_true(error[0] != '\0');
    run->is_starved_out = true;
    cluster_starve(run->cluster, run->victim, 0, 0);
    cluster_start(run->cluster, run->victim);
}

static void restart_victim(struct run *run)
{
    struct node *node = &run->cluster->nodes[run->victim];
    cluster_kill(run->cluster, run->victim, RK_MEMFS_CRASH_RANDOM);
    node->fatal[0] = '\0';
    run->life++;
    start_victim(run);
}

static void step(struct run *run)
{
    const char *wanted = rk_status_text(RK_ENOMEM);
    struct node *node = &run->cluster->nodes[run->victim];
    cluster_step(run->cluster);
    if (node->fatal[0] == '\0') return;
    if (strncmp(node->fatal, wanted, strlen(wanted)) != 0)
        fail_msg("%s: the node ends: %s", where, node->fatal);
    if (getenv("HOST_LOG") != NULL) printf("%s: ended: %s\n", where, node->fatal);
    run->is_starved_out = true;
    cluster_starve(run->cluster, run->victim, 0, 0);
    restart_victim(run);
}

static void run_ms(struct run *run, uint64_t ms)
{
    for (uint64_t i = 0; i < ms; i++)
        step(run);
}

static uint64_t call(struct run *run, uint32_t node, enum rk_op op, const char *json)
{
    struct rk_request *request = cluster_request(run->cluster, op, json);
    request->deadline_ms = CALL_MS;
    uint64_t number = cluster_send(run->cluster, node, request);
    assert_true(run->sent_count < 512);
    run->sent[run->sent_count++] =
        (struct sent){node, node == run->victim ? run->life : 0, number};
    return number;
}

static void call_and_wait(struct run *run, uint32_t node, enum rk_op op, const char *json)
{
    uint64_t number = call(run, node, op, json);
    for (int i = 0; i < CALL_MS + 100 && !cluster_has_answer(run->cluster, number); i++)
        step(run);
}

static void settle(struct run *run, uint64_t ms)
{
    for (uint64_t i = 0; i < ms; i++) {
        bool is_led = true;
        for (uint32_t group = 0; group <= run->cluster->groups; group++)
            is_led = is_led && cluster_leader(run->cluster, group) >= 0;
        if (is_led) break;
        run_ms(run, 10);
    }
    run_ms(run, 100);
}

static void use(struct run *run)
{
    char text[256];
    for (uint32_t i = 0; i < KEYS; i++) {
        snprintf(text, sizeof(text), "{\"k\":\"key%u\",\"v\":\"%0200u\"}", i % 7, i);
        (void)call(run, i % 3, RK_OP_CACHE_PUT, text);
        if (i % 8 == 7) run_ms(run, 10);
    }
    for (uint32_t node = 0; node < 3; node++) {
        snprintf(text, sizeof(text),
                 "{\"resource\":\"r\",\"owner\":\"o%u\",\"lease_ms\":100,\"wait_ms\":1000}",
                 node);
        (void)call(run, node, RK_OP_LOCK_ACQUIRE, text);
        (void)call(run, node, RK_OP_SESSION_OPEN, "{\"ttl_ms\":1000}");
        (void)call(run, node, RK_OP_QUEUE_PUBLISH,
                   "{\"topic\":\"t\",\"messages\":[{\"data\":1},{\"data\":[2]}]}");
        (void)call(run, node, RK_OP_QUEUE_CONSUME,
                   "{\"topic\":\"t\",\"max\":2,\"wait_ms\":300}");
        (void)call(run, node, RK_OP_QUEUE_CONSUME, "{\"topic\":\"u\",\"wait_ms\":200}");
        (void)call(run, node, RK_OP_CACHE_GET,
                   "{\"keys\":[\"key1\",\"key2\",\"key3\",\"key4\"]}");
        (void)call(run, node, RK_OP_QUEUE_LIST, "{}");
        (void)call(run, node, RK_OP_CACHE_GET,
                   "{\"k\":\"f\",\"fill_ms\":50,\"wait_ms\":50}");
        uint64_t waiting = call(run, node, RK_OP_LOCK_ACQUIRE,
                                "{\"resource\":\"r\",\"owner\":\"gone\",\"wait_ms\":1500}");
        run_ms(run, 5);
        cluster_drop(run->cluster, node, waiting);
        run->sent_count--;
        run_ms(run, 10);
    }
    run_ms(run, 500);
}

static void move(struct run *run)
{
    char text[64];
    for (uint32_t group = 0; group <= run->cluster->groups; group++)
        for (uint32_t turn = 0; turn < 2; turn++) {
            snprintf(text, sizeof(text), "{\"group\":%u,\"to\":\"n%u\"}", group,
                     turn == 0 ? run->victim + 1 : (run->victim + 1) % 3 + 1);
            call_and_wait(run, (run->victim + 2) % 3, RK_OP_CLUSTER_TRANSFER, text);
        }
}

static void change_members(struct run *run)
{
    uint32_t asked = run->victim;
    call_and_wait(run, asked, RK_OP_CLUSTER_ADD,
                  "{\"name\":\"n4\",\"peer\":\"127.0.0.1:7600\"}");
    (void)cluster_grow(run->cluster);
    run_ms(run, 200);
    call_and_wait(run, asked, RK_OP_CLUSTER_PROMOTE, "{\"name\":\"n4\"}");
    run_ms(run, 600);
    call_and_wait(run, asked, RK_OP_CLUSTER_REMOVE, "{\"name\":\"n4\"}");
    run_ms(run, 600);
    cluster_kill(run->cluster, 3, RK_MEMFS_CRASH_KEEP_ALL);
}

/* One lags so far behind that it needs a snapshot; the victim sends it, or is it. */
static void lag(struct run *run, uint32_t node)
{
    char text[256];
    uint32_t other = (node + 1) % 3;
    for (uint32_t i = 0; i < 3; i++)
        if (i != node) cluster_cut(run->cluster, node, i, true);
    for (uint32_t i = 0; i < 60; i++) {
        snprintf(text, sizeof(text), "{\"k\":\"lag%u\",\"v\":\"%0200u\"}", i % 7, i);
        (void)call(run, other, RK_OP_CACHE_PUT, text);
        if (i % 8 == 7) run_ms(run, 60);
    }
    run_ms(run, 300);
    for (uint32_t i = 0; i < 3; i++)
        if (i != node) cluster_cut(run->cluster, node, i, false);
    run_ms(run, 500);
}

static bool may_be_answered(enum rk_status status)
{
    return status == RK_OK || status == RK_ENOMEM || status == RK_EUNAVAILABLE ||
           status == RK_EUNKNOWN || status == RK_EBUSY || status == RK_EHELD ||
           status == RK_ETIMEOUT || status == RK_EEXIST || status == RK_ENOENT;
}

static void check_answers(struct run *run)
{
    run_ms(run, CALL_MS + 500);
    for (uint32_t i = 0; i < run->sent_count; i++) {
        const struct sent *sent = &run->sent[i];
        bool has_died = sent->node == run->victim && sent->life != run->life;
        if (has_died && !cluster_has_answer(run->cluster, sent->call)) continue;
        if (!cluster_has_answer(run->cluster, sent->call))
            fail_msg("%s: call %u is not answered", where, (unsigned)sent->call);
        const struct rk_reply *reply = cluster_answer(run->cluster, sent->call, 1);
        if (getenv("HOST_LOG") != NULL)
            printf("call %u: %s %s\n", (unsigned)sent->call, rk_status_text(reply->status),
                   reply->text);
        if (!may_be_answered(reply->status))
            fail_msg("%s: call %u: %s %s", where, (unsigned)sent->call,
                     rk_status_text(reply->status), reply->text);
    }
}

/* With enough memory again all is as if there had always been enough. */
static void check_all(struct run *run)
{
    struct cluster *cluster = run->cluster;
    char text[128];
    cluster_starve(cluster, run->victim, 0, 0);
    check_answers(run);
    cluster_settle(cluster, 8000);
    for (uint32_t node = 0; node < 3; node++) {
        snprintf(text, sizeof(text), "{\"k\":\"end%u\",\"v\":%u}", node, node);
        assert_int_equal(cluster_ask(cluster, node, RK_OP_CACHE_PUT, text)->status, RK_OK);
        snprintf(text, sizeof(text), "{\"resource\":\"end%u\",\"owner\":\"o\"}", node);
        const struct rk_reply *reply = cluster_ask(cluster, node, RK_OP_LOCK_ACQUIRE, text);
        assert_int_equal(reply->status, RK_OK);
        assert_true(reply->fence > (uint64_t)1 << 20); /* the history has begun */
        snprintf(text, sizeof(text), "{\"k\":\"end%u\"}", node);
        assert_true(cluster_ask(cluster, (node + 1) % 3, RK_OP_CACHE_GET, text)->found);
    }
    cluster_run(cluster, 500);
    cluster_check_equal(cluster);
}

static void (*const stages[])(struct run *run) = {use, move, change_members, NULL, NULL};
enum { STAGES = 5 };

/* False: there were not so many allocations. */
static bool starve(uint32_t victim, uint64_t after, uint64_t fails, uint64_t *made)
{
    static struct run run;
    memset(&run, 0, sizeof(run));
    run.victim = victim;
    run.cluster = cluster_new(
        (struct cluster_options){.nodes = 3, .groups = 1, .snapshot_bytes = 4096});
    cluster_kill(run.cluster, victim, RK_MEMFS_CRASH_KEEP_ALL);
    cluster_wipe(run.cluster, victim);
    run.cluster->nodes[victim].is_chatty = true;
    cluster_starve(run.cluster, victim, after, fails);
    start_victim(&run);
    settle(&run, 300);
    bool has_failed = false;
    for (uint32_t i = 0; i < STAGES && !has_failed; i++) {
        if (i == 3) lag(&run, victim);
        if (i == 4) lag(&run, (victim + 1) % 3);
        if (stages[i] != NULL) stages[i](&run);
        if (i == 2) restart_victim(&run);
        has_failed = fails > 0 && run.cluster->starving.fails == 0;
    }
    *made = run.cluster->starving.made;
    check_all(&run);
    cluster_free(run.cluster);
    return has_failed;
}

static void sweep(uint32_t victim, uint64_t step_size, uint64_t fails)
{
    char text[64];
    uint64_t made, total;
    (void)starve(victim, 0, 0, &total);
    for (uint64_t after = 0; after < total; after += step_size) {
        snprintf(text, sizeof(text), "RK_STARVE=%u,%llu,%llu", victim,
                 (unsigned long long)after, (unsigned long long)fails);
        where = text;
        if (getenv("HOST_LOG") != NULL) printf("%s\n", where);
        (void)starve(victim, after, fails, &made);
    }
    printf("node %u makes %llu allocations; each %llu. failed, %llu at a time\n",
           victim + 1, (unsigned long long)total, (unsigned long long)step_size,
           (unsigned long long)fails);
}

static uint64_t step_size(uint64_t usual)
{
    const char *text = getenv("RK_STARVE_STEP");
    return text == NULL ? usual : strtoull(text, NULL, 10);
}

static void test_one_case(void **state)
{
    (void)state;
    uint64_t numbers[3] = {0}, made;
    char *at = getenv("RK_STARVE");
    if (at == NULL) skip();
    where = at;
    for (int i = 0; i < 3; i++) {
        numbers[i] = strtoull(at, &at, 10);
        assert_true(*at == (i < 2 ? ',' : '\0'));
        at += i < 2;
    }
    assert_true(numbers[0] < 3);
    (void)starve((uint32_t)numbers[0], numbers[1], numbers[2], &made);
}

static void test_one_allocation_fails(void **state)
{
    (void)state;
    if (getenv("RK_STARVE") != NULL) skip();
    sweep(0, step_size(13), 1);
    sweep(1, step_size(17), 1);
}

static void test_many_in_a_row_fail(void **state)
{
    (void)state;
    if (getenv("RK_STARVE") != NULL) skip();
    sweep(0, step_size(31), 40);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_one_case),
        cmocka_unit_test(test_one_allocation_fails),
        cmocka_unit_test(test_many_in_a_row_fail),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
