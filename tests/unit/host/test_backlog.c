/* More waits to be written than one batch of the log may hold. */
#include "load.h"

#include "storage/wal.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

enum { VALUE = 1000 * 1000 };

static struct cluster *cluster;
static char *text; /* of a put with a value of VALUE bytes */

static int setup(void **state)
{
    (void)state;
    cluster = cluster_new((struct cluster_options){.nodes = 3, .groups = 2});
    cluster_settle(cluster, 3000);
    text = calloc(1, VALUE + 64);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    cluster->disk_ms = 2;
    cluster_settle(cluster, 5000);
    cluster_run(cluster, 2000);
    cluster_check_equal(cluster);
    cluster_free(cluster);
    free(text);
    return 0;
}

/* A put of the key, which can be sent again and again. */
static struct rk_request *put_of(const char *key)
{
    snprintf(text, VALUE + 64, "{\"k\":\"%s\",\"v\":\"%0*u\"}", key, VALUE, 7);
    return cluster_request(cluster, RK_OP_CACHE_PUT, text);
}

static void all_answered(const uint64_t *calls, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++)
        assert_int_equal(cluster_answer(cluster, calls[i], 30000)->status, RK_OK);
}

/* The group that a key belongs to, as the answer to a put of it says. */
static uint64_t group_of(const char *key)
{
    char small[64];
    snprintf(small, sizeof(small), "{\"k\":\"%s\",\"v\":1}", key);
    return cluster_ask(cluster, 0, RK_OP_CACHE_PUT, small)->position_group;
}

/* Calls for one group gather at a node while there is no leader; whoever wins has them all
 * at once, and raft takes as much as may be uncommitted: more than a batch. */
static void test_new_leader_takes_a_backlog(void **state)
{
    (void)state;
    enum { COUNT = 55 };
    uint64_t calls[COUNT];
    assert_true((uint64_t)COUNT * VALUE > RK_WAL_BATCH_MAX);
    struct rk_request *put = put_of("a");
    uint32_t leader = (uint32_t)cluster_leader(cluster, (uint32_t)group_of("a"));
    uint32_t other = (leader + 1) % 3;
    cluster->disk_ms = 300;
    cluster_cut(cluster, leader, other, true);
    cluster_cut(cluster, leader, (leader + 2) % 3, true);
    cluster_run(cluster, 50);
    for (uint32_t i = 0; i < COUNT; i++)
        calls[i] = cluster_send(cluster, other, put);
    all_answered(calls, COUNT);
    cluster_cut(cluster, leader, other, false);
    cluster_cut(cluster, leader, (leader + 2) % 3, false);
}

/* The batch being filled is nearly as full as it may be when another group has more for it
 * than fits. */
static void test_groups_share_a_batch(void **state)
{
    (void)state;
    enum { FIRST = 23, SECOND = 30 };
    char key[8];
    uint64_t calls[1 + FIRST + SECOND];
    uint32_t at = 0;
    assert_true((uint64_t)(FIRST + SECOND) * VALUE > RK_WAL_BATCH_MAX);
    uint64_t first = group_of("a");
    do
        snprintf(key, sizeof(key), "b%u", at++);
    while (group_of(key) == first);
    struct rk_request *put_first = put_of("a");
    struct rk_request *put_second = put_of(key);
    uint32_t node = (uint32_t)cluster_leader(cluster, (uint32_t)first);
    uint64_t call = cluster_call(cluster, node, RK_OP_CLUSTER_TRANSFER,
                                 node == 0   ? "{\"group\":2,\"to\":\"n1\"}"
                                 : node == 1 ? "{\"group\":2,\"to\":\"n2\"}"
                                             : "{\"group\":2,\"to\":\"n3\"}");
    (void)cluster_answer(cluster, call, 3000);
    cluster_run(cluster, 200);

    cluster->disk_ms = 300;
    calls[0] = cluster_send(cluster, node, put_first); /* keeps the disk at work */
    cluster_run(cluster, 10);
    for (uint32_t i = 0; i < FIRST; i++)
        calls[1 + i] = cluster_send(cluster, node, put_first);
    cluster_run(cluster, 10);
    for (uint32_t i = 0; i < SECOND; i++)
        calls[1 + FIRST + i] = cluster_send(cluster, node, put_second);
    all_answered(calls, 1 + FIRST + SECOND);
}

static uint64_t term_of(uint32_t node, uint32_t group)
{
    return cluster_status(cluster, node).groups[group].term;
}

/* A full batch that waits for a slow disk holds nothing up but what is to be written: the
 * leaders are heard, and reads go on. */
static void test_a_full_batch_silences_nobody(void **state)
{
    (void)state;
    enum { COUNT = 30 };
    uint64_t calls[1 + COUNT];
    struct rk_request *put = put_of("a");
    uint32_t group = (uint32_t)group_of("a");
    uint32_t node = (uint32_t)cluster_leader(cluster, group);
    uint64_t terms[3];
    for (uint32_t id = 0; id <= 2; id++)
        terms[id] = term_of(node, id);
    cluster->disk_ms = 1500;
    calls[0] = cluster_send(cluster, node, put); /* keeps the disk at work */
    cluster_run(cluster, 10);
    for (uint32_t i = 0; i < COUNT; i++)
        calls[1 + i] = cluster_send(cluster, node, put);
    cluster_run(cluster, 100);
    uint64_t began = cluster->now_ms;
    assert_true(cluster_ask(cluster, node, RK_OP_CACHE_GET, "{\"k\":\"a\"}")->found);
    assert_true(cluster->now_ms - began < 200);
    all_answered(calls, 1 + COUNT);
    for (uint32_t id = 0; id <= 2; id++)
        assert_int_equal(term_of(node, id), terms[id]);
}

/* A bulk call of so many messages; what its answer says. */
static enum rk_status publish(uint32_t node, uint32_t count)
{
    struct rk_buf json = {0};
    for (uint32_t i = 0; i < count; i++)
        rk_buf_printf(&json, "%s{\"data\":\"%0*u\"}",
                      i > 0 ? "," : "{\"topic\":\"t\",\"messages\":[", VALUE, i);
    rk_buf_append_string(&json, "]}");
    rk_buf_u8(&json, 0);
    assert_int_equal(rk_buf_check(&json), RK_OK);
    const struct rk_reply *reply =
        cluster_ask(cluster, node, RK_OP_QUEUE_PUBLISH, (const char *)json.data);
    rk_buf_fini(&json);
    if (reply->status != RK_OK) assert_int_equal(reply->outcome, RK_OUTCOME_NOT_DONE);
    return reply->status;
}

/* Bodies may be larger than what one entry of the log holds. */
static void test_requests_fit_into_an_entry(void **state)
{
    (void)state;
    for (uint32_t node = 0; node < 3; node++) {
        assert_int_equal(publish(node, 4), RK_OK);
        assert_int_equal(publish(node, 5), RK_ESIZE);
    }
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_new_leader_takes_a_backlog),
        TEST(test_groups_share_a_batch),
        TEST(test_a_full_batch_silences_nobody),
        TEST(test_requests_fit_into_an_entry),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
