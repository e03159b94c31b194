/* Calls of every kind, at every node. */
#include "cluster.h"

#include "base/slot.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

static struct cluster *cluster;

static int setup(void **state)
{
    (void)state;
    cluster = cluster_new((struct cluster_options){.nodes = 3, .groups = 8});
    cluster_settle(cluster, 3000);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    cluster_free(cluster);
    return 0;
}

static void test_locks_at_every_node(void **state)
{
    (void)state;
    uint64_t fence = 0;
    for (uint32_t i = 0; i < 3; i++) {
        const struct rk_reply *reply = cluster_ask(
            cluster, i, RK_OP_LOCK_ACQUIRE, "{\"resource\":\"r\",\"owner\":\"alice\"}");
        assert_int_equal(reply->status, RK_OK);
        assert_true(reply->granted);
        assert_true(reply->fence > fence);
        fence = reply->fence;
        assert_int_not_equal(reply->position_history, 0);
        assert_int_not_equal(reply->position_index, 0);
        for (uint32_t k = 0; k < 3; k++) {
            reply = cluster_ask(cluster, k, RK_OP_LOCK_ACQUIRE,
                                "{\"resource\":\"r\",\"owner\":\"bob\"}");
            assert_int_equal(reply->status, RK_EHELD);
            assert_int_equal(reply->holder_count, 1);
            reply = cluster_ask(cluster, k, RK_OP_LOCK_CHECK,
                                "{\"resource\":\"r\",\"owner\":\"alice\"}");
            assert_true(reply->held);
        }
        reply = cluster_ask(cluster, (i + 1) % 3, RK_OP_LOCK_RELEASE,
                            "{\"resource\":\"r\",\"owner\":\"alice\"}");
        assert_int_equal(reply->status, RK_OK);
        assert_true(reply->released);
        reply = cluster_ask(cluster, i, RK_OP_LOCK_RELEASE,
                            "{\"resource\":\"r\",\"owner\":\"alice\"}");
        assert_int_equal(reply->status, RK_ENOTOWNER);
    }
}

static void test_queue_cycle_at_every_node(void **state)
{
    (void)state;
    for (uint32_t i = 0; i < 3; i++) {
        char text[256];
        const struct rk_reply *reply = cluster_ask(cluster, i, RK_OP_QUEUE_PUBLISH,
                                                   "{\"topic\":\"t\",\"data\":{\"a\":1}}");
        assert_int_equal(reply->status, RK_OK);
        reply = cluster_ask(cluster, (i + 1) % 3, RK_OP_QUEUE_CONSUME,
                            "{\"topic\":\"t\",\"consumer\":\"c\"}");
        assert_int_equal(reply->status, RK_OK);
        assert_int_equal(reply->message_count, 1);
        snprintf(text, sizeof(text), "{\"id\":\"%.*s\"}", (int)reply->messages[0].id.size,
                 (const char *)reply->messages[0].id.data);
        reply = cluster_ask(cluster, (i + 2) % 3, RK_OP_QUEUE_ACK, text);
        assert_int_equal(reply->status, RK_OK);
        assert_true(reply->ack);
        reply = cluster_ask(cluster, i, RK_OP_QUEUE_CONSUME, "{\"topic\":\"t\"}");
        assert_int_equal(reply->status, RK_OK);
        assert_int_equal(reply->message_count, 0);
    }
    const struct rk_reply *reply =
        cluster_ask(cluster, 0, RK_OP_QUEUE_ACK, "{\"id\":\"no-delivery\"}");
    assert_int_equal(reply->status, RK_ERANGE);
}

static void test_put_then_get_elsewhere(void **state)
{
    (void)state;
    for (uint32_t i = 0; i < 60; i++) {
        char text[128];
        snprintf(text, sizeof(text), "{\"k\":\"key%u\",\"v\":%u}", i, i);
        const struct rk_reply *reply = cluster_ask(cluster, i % 3, RK_OP_CACHE_PUT, text);
        assert_int_equal(reply->status, RK_OK);
        uint64_t version = reply->version;
        snprintf(text, sizeof(text), "{\"k\":\"key%u\"}", i);
        reply = cluster_ask(cluster, (i + 1) % 3, RK_OP_CACHE_GET, text);
        assert_true(reply->found);
        assert_int_equal(reply->version, version);
    }
}

static void test_position_waits_and_is_checked(void **state)
{
    (void)state;
    const struct rk_reply *put =
        cluster_ask(cluster, 0, RK_OP_CACHE_PUT, "{\"k\":\"p\",\"v\":1}");
    struct rk_position_item item = {put->position_group, put->position_index};
    struct rk_request *get = cluster_request(cluster, RK_OP_CACHE_GET, "{\"k\":\"p\"}");
    get->position.history = put->position_history;
    get->position.items = &item;
    get->position.count = 1;
    for (uint32_t i = 0; i < 3; i++) {
        const struct rk_reply *reply =
            cluster_answer(cluster, cluster_send(cluster, i, get), 1000);
        assert_true(reply->found);
    }
    /* Applied there: answered at once, without asking anyone. */
    cluster_run(cluster, 300);
    uint64_t call = cluster_send(cluster, 2, get);
    assert_true(cluster_has_answer(cluster, call));
    item.index += 100000;
    assert_int_equal(cluster_answer(cluster, cluster_send(cluster, 1, get), 1000)->status,
                     RK_ERANGE);
    get->position.history++;
    assert_true(cluster_answer(cluster, cluster_send(cluster, 1, get), 1000)->found);
}

static void test_bulk_over_groups_keeps_order(void **state)
{
    (void)state;
    char text[4096];
    for (uint32_t i = 0; i < 20; i++) {
        snprintf(text, sizeof(text), "{\"k\":\"b%u\",\"v\":%u}", i, i);
        assert_int_equal(cluster_ask(cluster, 0, RK_OP_CACHE_PUT, text)->status, RK_OK);
    }
    size_t at = (size_t)snprintf(text, sizeof(text), "{\"keys\":[");
    for (uint32_t i = 0; i < 21; i++)
        at += (size_t)snprintf(text + at, sizeof(text) - at, "%s\"b%u\"", i > 0 ? "," : "",
                               i);
    snprintf(text + at, sizeof(text) - at, "]}");
    const struct rk_reply *reply = cluster_ask(cluster, 1, RK_OP_CACHE_GET, text);
    assert_int_equal(reply->status, RK_OK);
    assert_int_equal(reply->entry_count, 21);
    for (uint32_t i = 0; i < 20; i++) {
        char value[8];
        int size = snprintf(value, sizeof(value), "%u", i);
        assert_true(reply->entries[i].found);
        assert_int_equal(reply->entries[i].value.bytes.size, size);
        assert_memory_equal(reply->entries[i].value.bytes.data, value, (size_t)size);
    }
    assert_false(reply->entries[20].found);
    reply = cluster_ask(cluster, 2, RK_OP_CACHE_DELETE, text);
    assert_int_equal(reply->result_count, 21);
    assert_true(cluster->answers[cluster->calls].positions > 1);
    assert_true(reply->results[0].deleted);
    assert_false(reply->results[20].deleted);
}

static void test_lists_are_merged(void **state)
{
    (void)state;
    char text[128];
    for (uint32_t i = 0; i < 30; i++) {
        snprintf(text, sizeof(text), "{\"topic\":\"list%02u\",\"data\":1}", i);
        assert_int_equal(cluster_ask(cluster, i % 3, RK_OP_QUEUE_PUBLISH, text)->status,
                         RK_OK);
    }
    const struct rk_reply *reply =
        cluster_ask(cluster, 0, RK_OP_QUEUE_LIST, "{\"prefix\":\"list\",\"limit\":20}");
    assert_int_equal(reply->status, RK_OK);
    assert_int_equal(reply->listed_count, 20);
    for (uint32_t i = 0; i < 20; i++) {
        snprintf(text, sizeof(text), "list%02u", i);
        assert_memory_equal(reply->listed[i].name.data, text, 6);
    }
    assert_memory_equal(reply->after.data, "list19", 6);
    reply = cluster_ask(cluster, 1, RK_OP_QUEUE_LIST,
                        "{\"prefix\":\"list\",\"limit\":20,\"after\":\"list19\"}");
    assert_int_equal(reply->listed_count, 10);
    assert_int_equal(reply->after.size, 0);
    reply = cluster_ask(cluster, 1, RK_OP_QUEUE_STATS, "{}");
    assert_int_equal(reply->status, RK_OK);
    assert_true(reply->topic_stats->published >= 30);
}

static void test_session_lives_by_keepalive(void **state)
{
    (void)state;
    char text[256], lock[512];
    const struct rk_reply *reply =
        cluster_ask(cluster, 1, RK_OP_SESSION_OPEN, "{\"ttl_ms\":1000}");
    assert_int_equal(reply->status, RK_OK);
    snprintf(text, sizeof(text), "{\"session\":\"%.*s\"}", (int)reply->session.size,
             (const char *)reply->session.data);
    snprintf(lock, sizeof(lock),
             "{\"resource\":\"s\",\"owner\":\"a\",\"session\":\"%.*s\"}",
             (int)reply->session.size, (const char *)reply->session.data);
    assert_true(cluster_ask(cluster, 2, RK_OP_LOCK_ACQUIRE, lock)->granted);
    for (uint32_t i = 0; i < 10; i++) {
        cluster_run(cluster, 300);
        reply = cluster_ask(cluster, i % 3, RK_OP_SESSION_KEEPALIVE, text);
        assert_int_equal(reply->status, RK_OK);
        assert_int_equal(reply->ttl_ms, 1000);
    }
    assert_true(cluster_ask(cluster, 0, RK_OP_LOCK_CHECK, lock)->held);
    cluster_run(cluster, 1600);
    reply = cluster_ask(cluster, 0, RK_OP_SESSION_KEEPALIVE, text);
    assert_int_equal(reply->status, RK_ESESSION);
    assert_false(cluster_ask(cluster, 0, RK_OP_LOCK_CHECK, lock)->held);
}

static void test_not_leader_when_not_to_be_forwarded(void **state)
{
    (void)state;
    int leader = cluster_leader(cluster, 0);
    struct rk_request *request = cluster_request(
        cluster, RK_OP_LOCK_ACQUIRE, "{\"resource\":\"f\",\"owner\":\"alice\"}");
    request->forward = false;
    const struct rk_reply *reply = cluster_answer(
        cluster, cluster_send(cluster, (uint32_t)(leader + 1) % 3, request), 1000);
    assert_int_equal(reply->status, RK_ENOTLEADER);
    assert_memory_equal(reply->leader.data, "127.0.0.1:7500", 14);
    reply = cluster_answer(cluster, cluster_send(cluster, leader, request), 1000);
    assert_true(reply->granted);
}

static void test_same_id_same_answer(void **state)
{
    (void)state;
    struct rk_request *request = cluster_request(cluster, RK_OP_QUEUE_PUBLISH,
                                                 "{\"topic\":\"once\",\"data\":\"x\"}");
    request->client = RK_SLICE_LITERAL("me");
    request->seq = 1;
    uint64_t calls[3];
    for (uint32_t i = 0; i < 3; i++)
        calls[i] = cluster_send(cluster, i, request);
    const struct rk_reply *first = cluster_answer(cluster, calls[0], 1000);
    for (uint32_t i = 1; i < 3; i++) {
        const struct rk_reply *reply = cluster_answer(cluster, calls[i], 1000);
        assert_true(rk_slice_is_equal(reply->id, first->id));
    }
    const struct rk_reply *reply =
        cluster_ask(cluster, 0, RK_OP_QUEUE_INFO, "{\"topic\":\"once\"}");
    assert_int_equal(reply->topic_stats->ready, 1);
    request->seq = 0;
    reply = cluster_answer(cluster, cluster_send(cluster, 0, request), 1000);
    assert_int_equal(reply->status, RK_EINVAL);
}

/* A full leader refuses growth as not done: so not what is done already. */
static void test_full_leader_repeats_answers(void **state)
{
    (void)state;
    struct rk_request *request =
        cluster_request(cluster, RK_OP_QUEUE_PUBLISH, "{\"topic\":\"full\",\"data\":1}");
    request->client = RK_SLICE_LITERAL("filler");
    request->seq = request->first_unanswered = 1;
    char first[64];
    const struct rk_reply *reply =
        cluster_answer(cluster, cluster_send(cluster, 0, request), 5000);
    assert_int_equal(reply->status, RK_OK);
    snprintf(first, sizeof(first), "%.*s", (int)reply->id.size,
             (const char *)reply->id.data);
    for (uint32_t i = 0; i < 3; i++)
        rk_host_set_full(cluster->nodes[i].host, true);
    for (uint32_t i = 0; i < 3; i++) {
        reply = cluster_answer(cluster, cluster_send(cluster, i, request), 5000);
        assert_int_equal(reply->status, RK_OK);
        assert_true(rk_slice_is_equal(reply->id, rk_slice_of_string(first)));
    }
    request->seq = 2;
    reply = cluster_answer(cluster, cluster_send(cluster, 1, request), 5000);
    assert_int_equal(reply->status, RK_EFULL);
    assert_int_equal(reply->outcome, RK_OUTCOME_NOT_DONE);
    for (uint32_t i = 0; i < 3; i++)
        rk_host_set_full(cluster->nodes[i].host, false);
}

static uint32_t group_of(const char *topic)
{
    return rk_host_group_of(cluster->nodes[0].host,
                            rk_slot_of_topic(rk_slice_of_string(topic)));
}

static uint32_t leader_of(uint32_t group)
{
    int leader = cluster_leader(cluster, group);
    assert_true(leader >= 0);
    return (uint32_t)leader;
}

/* Likewise what is in its log, though the call that brought it there is over. */
static void test_full_leader_knows_its_log(void **state)
{
    (void)state;
    uint32_t group = group_of("full"), leader = leader_of(group);
    uint64_t disk_ms = cluster->disk_ms;
    cluster->disk_ms = 300;
    struct rk_request *request =
        cluster_request(cluster, RK_OP_QUEUE_PUBLISH, "{\"topic\":\"full\",\"data\":1}");
    request->client = RK_SLICE_LITERAL("late");
    request->seq = request->first_unanswered = 1;
    request->deadline_ms = 100;
    const struct rk_reply *reply =
        cluster_answer(cluster, cluster_send(cluster, leader, request), 5000);
    assert_int_equal(reply->status, RK_EUNKNOWN);
    rk_host_set_full(cluster->nodes[leader].host, true);
    request->deadline_ms = 5000;
    reply = cluster_answer(cluster, cluster_send(cluster, leader, request), 5000);
    assert_int_equal(reply->status, RK_OK);
    /* What is not there is refused without waiting for what comes after it. */
    request->seq = 2;
    reply = cluster_answer(cluster, cluster_send(cluster, leader, request), 5000);
    assert_int_equal(reply->status, RK_EFULL);
    assert_int_equal(cluster_leader(cluster, group), leader);
    rk_host_set_full(cluster->nodes[leader].host, false);
    cluster->disk_ms = disk_ms;
}

enum {
    AGAIN_MS = 4100, /* by then a forward without an answer was sent again */
    STANDS_MS = 15000,
};

static uint32_t held_from, held_to, held_ms;

static void hold(struct cluster *on, struct packet *packet)
{
    if (packet->from == held_from && packet->to == held_to && packet->link == RK_LINK_BULK)
        packet->due_ms = on->now_ms + held_ms;
}

/* A refusal that comes late is none of what was sent since. */
static void test_late_refusal_is_no_answer(void **state)
{
    (void)state;
    uint32_t group = group_of("late"), leader = leader_of(group);
    held_from = leader;
    held_to = held_from == 0 ? 1 : 0;
    rk_host_set_full(cluster->nodes[leader].host, true);
    held_ms = AGAIN_MS;
    cluster->spoil = hold;
    uint64_t call = cluster_call(cluster, held_to, RK_OP_QUEUE_PUBLISH,
                                 "{\"topic\":\"late\",\"data\":1,\"deadline_ms\":20000}");
    cluster_run(cluster, 20);
    rk_host_set_full(cluster->nodes[leader].host, false);
    assert_int_equal(cluster_answer(cluster, call, 20000)->status, RK_OK);
    cluster->spoil = NULL;
    assert_int_equal(cluster_leader(cluster, group), leader);
    const struct rk_reply *reply =
        cluster_ask(cluster, held_from, RK_OP_QUEUE_PEEK, "{\"topic\":\"late\"}");
    assert_int_equal(reply->message_count, 1);
}

static void lead_at(uint32_t group, uint32_t node)
{
    char text[64];
    snprintf(text, sizeof(text), "{\"group\":%u,\"to\":\"n%u\"}", group, node + 1);
    const struct rk_reply *reply = cluster_ask(cluster, node, RK_OP_CLUSTER_TRANSFER, text);
    assert_int_equal(reply->status, RK_OK);
    cluster_settle(cluster, 1000);
    assert_int_equal(leader_of(group), node);
}

/* A forward stands still on its way; another leader says that nothing was done, and so it
 * stays, though the first leads again when the forward arrives. */
static void test_forward_to_an_earlier_leadership(void **state)
{
    (void)state;
    uint32_t group = group_of("stands"), first = leader_of(group);
    uint32_t second = (first + 1) % 3;
    uint64_t began = cluster->now_ms;
    held_from = (first + 2) % 3;
    held_to = first;
    held_ms = STANDS_MS;
    cluster->spoil = hold;
    uint64_t call = cluster_call(cluster, held_from, RK_OP_QUEUE_PUBLISH,
                                 "{\"topic\":\"stands\",\"data\":1,\"deadline_ms\":30000}");
    cluster_run(cluster, 1);
    cluster->spoil = NULL;
    rk_host_set_full(cluster->nodes[second].host, true);
    lead_at(group, second);
    assert_int_equal(cluster_answer(cluster, call, 5000)->status, RK_EFULL);
    rk_host_set_full(cluster->nodes[second].host, false);
    lead_at(group, first);
    assert_true(cluster->now_ms < began + STANDS_MS);
    cluster_run(cluster, STANDS_MS);
    assert_int_equal(leader_of(group), first);
    const struct rk_reply *reply =
        cluster_ask(cluster, first, RK_OP_QUEUE_PEEK, "{\"topic\":\"stands\"}");
    assert_int_equal(reply->message_count, 0);
}

static void test_transfer_moves_the_leader(void **state)
{
    (void)state;
    char text[128];
    int leader = cluster_leader(cluster, 3);
    int to = (leader + 1) % 3;
    snprintf(text, sizeof(text), "{\"group\":3,\"to\":\"n%d\"}", to + 1);
    const struct rk_reply *reply =
        cluster_ask(cluster, (uint32_t)(leader + 2) % 3, RK_OP_CLUSTER_TRANSFER, text);
    assert_int_equal(reply->status, RK_OK);
    cluster_settle(cluster, 1000);
    assert_int_equal(cluster_leader(cluster, 3), to);
    /* Placed by hand: it stays. */
    cluster_run(cluster, 12000);
    assert_int_equal(cluster_leader(cluster, 3), to);
}

static void test_all_nodes_agree(void **state)
{
    (void)state;
    cluster_run(cluster, 1000);
    cluster_check_equal(cluster);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_locks_at_every_node),
        cmocka_unit_test(test_queue_cycle_at_every_node),
        cmocka_unit_test(test_put_then_get_elsewhere),
        cmocka_unit_test(test_position_waits_and_is_checked),
        cmocka_unit_test(test_bulk_over_groups_keeps_order),
        cmocka_unit_test(test_lists_are_merged),
        cmocka_unit_test(test_session_lives_by_keepalive),
        cmocka_unit_test(test_not_leader_when_not_to_be_forwarded),
        cmocka_unit_test(test_same_id_same_answer),
        cmocka_unit_test(test_full_leader_repeats_answers),
        cmocka_unit_test(test_full_leader_knows_its_log),
        cmocka_unit_test(test_late_refusal_is_no_answer),
        cmocka_unit_test(test_forward_to_an_earlier_leadership),
        cmocka_unit_test(test_transfer_moves_the_leader),
        cmocka_unit_test(test_all_nodes_agree),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
