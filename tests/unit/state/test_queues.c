/* What topics promise about order and deliveries, one rule a test. */
#include "queue_bench.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

/* --- order */

static void test_publish_consume_ack(void **state)
{
    struct bench *bench = *state;
    const struct rk_reply *reply = q_publish(bench, "t", "1", (struct rk_message_in){0});
    assert_true(reply->ok);
    id_text message, delivery;
    q_keep(message, reply->id);
    assert_int_equal(message[0], 'm');
    assert_int_equal(q_ready(bench, "t"), 1);
    reply = q_consume(bench, "t", 0);
    assert_int_equal(reply->message_count, 1);
    assert_false(reply->is_bulk);
    assert_int_equal(reply->messages[0].attempt, 1);
    assert_true(is_text(reply->messages[0].message_id, message));
    q_keep(delivery, reply->messages[0].id);
    assert_int_equal(q_ready(bench, "t"), 0);
    assert_int_equal(q_info(bench, "t")->in_flight, 1);
    struct rk_reply acked =
        *q_by_id(bench, RK_OP_QUEUE_ACK, delivery, (struct rk_request){0});
    assert_int_equal(acked.status, RK_OK);
    assert_true(acked.ack);
    assert_int_equal(q_info(bench, "t")->in_flight, 0);
    assert_int_equal(q_info(bench, "t")->acked, 1);
    assert_int_equal(q_info(bench, "t")->bytes, 0);
    assert_int_equal(q_ack(bench, delivery), RK_EGONE);
    q_take(bench, "t", NULL, NULL);
    q_take(bench, "unknown", NULL, NULL);
}

static void test_priority_then_publish_order(void **state)
{
    struct bench *bench = *state;
    const char *data[] = {"\"a\"", "\"b\"", "\"c\"", "\"d\"", "\"e\""};
    const uint8_t priorities[] = {0, 9, 5, 9, 0};
    for (int i = 0; i < 5; i++)
        q_publish(bench, "t", data[i], (struct rk_message_in){.priority = priorities[i]});
    const struct rk_reply *reply = q_consume(bench, "t", 10);
    assert_true(reply->is_bulk);
    assert_int_equal(reply->message_count, 5);
    const int order[] = {1, 3, 2, 0, 4};
    for (int i = 0; i < 5; i++)
        assert_true(is_text(reply->messages[i].message.bytes, data[order[i]]));
}

/* A message that comes back keeps its priority and its place. */
static void test_returned_message_keeps_its_place(void **state)
{
    struct bench *bench = *state;
    const char *data[] = {"0", "1", "2", "3", "4"};
    id_text ids[5];
    for (int i = 0; i < 5; i++)
        q_put(bench, data[i]);
    for (int i = 0; i < 4; i++)
        q_take(bench, "t", data[i], ids[i]);
    assert_int_equal(q_nack_after(bench, ids[2], 0), RK_OK);
    assert_int_equal(q_nack_after(bench, ids[0], 0), RK_OK);
    assert_int_equal(q_nack_after(bench, ids[3], 0), RK_OK);
    assert_int_equal(q_nack_after(bench, ids[1], 500), RK_OK);
    bench_restore(bench);
    q_take(bench, "t", "0", NULL);
    bench_pass(bench, 500);
    q_take(bench, "t", "1", NULL);
    q_take(bench, "t", "2", NULL);
    q_take(bench, "t", "3", NULL);
    q_take(bench, "t", "4", NULL);
}

/* --- deliveries */

static void test_ack_of_an_outdated_delivery_is_stale(void **state)
{
    struct bench *bench = *state;
    q_put(bench, "1");
    id_text first, second;
    q_take(bench, "t", "1", first);
    bench_pass(bench, 29999);
    q_take(bench, "t", NULL, NULL);
    bench_pass(bench, 1);
    q_take(bench, "t", "1", second);
    assert_int_equal(q_ack(bench, first), RK_ESTALE);
    assert_int_equal(q_nack(bench, first), RK_ESTALE);
    assert_int_equal(q_extend(bench, first, 1000), RK_ESTALE);
    assert_int_equal(q_ack(bench, second), RK_OK);
}

static void test_late_ack_before_redelivery_is_accepted(void **state)
{
    struct bench *bench = *state;
    q_put(bench, "1");
    id_text id;
    q_take(bench, "t", "1", id);
    bench_pass(bench, 40000);
    assert_int_equal(q_ready(bench, "t"), 1);
    assert_int_equal(q_ack(bench, id), RK_OK);
    assert_int_equal(q_ready(bench, "t"), 0);
    q_take(bench, "t", NULL, NULL);
}

static void test_late_extend_takes_the_message_back(void **state)
{
    struct bench *bench = *state;
    q_put(bench, "1");
    id_text id;
    q_take(bench, "t", "1", id);
    bench_pass(bench, 40000);
    assert_int_equal(q_extend(bench, id, 5000), RK_OK);
    q_take(bench, "t", NULL, NULL);
    bench_pass(bench, 4999);
    q_take(bench, "t", NULL, NULL);
    assert_int_equal(q_ack(bench, id), RK_OK);
}

static void test_given_back_delivery_is_over(void **state)
{
    struct bench *bench = *state;
    q_put(bench, "1");
    id_text id;
    q_take(bench, "t", "1", id);
    assert_int_equal(q_nack_after(bench, id, 0), RK_OK);
    assert_int_equal(q_ack(bench, id), RK_ESTALE);
    assert_int_equal(q_nack(bench, id), RK_ESTALE);
    bench_restore(bench);
    assert_int_equal(q_ack(bench, id), RK_ESTALE);
    q_take(bench, "t", "1", NULL);
}

static void test_what_is_no_delivery_id(void **state)
{
    struct bench *bench = *state;
    id_text message;
    q_keep(message, q_publish(bench, "t", "1", (struct rk_message_in){0})->id);
    assert_int_equal(q_ack(bench, message), RK_ERANGE);
    assert_int_equal(q_ack(bench, "order-17"), RK_ERANGE);
    assert_int_equal(q_ack(bench, "d"), RK_ERANGE);
}

static void test_foreign_history_is_gone(void **state)
{
    struct bench *bench = *state;
    q_put(bench, "1");
    id_text id;
    q_take(bench, "t", "1", id);
    struct rk_delivery_id parts;
    assert_int_equal(rk_delivery_id_parse(&parts, text_slice(id)), RK_OK);
    assert_int_equal(parts.history, 77);
    parts.history = 76;
    rk_delivery_id_print(id, &parts);
    assert_int_equal(q_ack(bench, id), RK_EGONE);
    parts.history = 77;
    parts.attempt = 9;
    rk_delivery_id_print(id, &parts);
    assert_int_equal(q_ack(bench, id), RK_EGONE);
    parts.attempt = 1;
    parts.message += 1000;
    rk_delivery_id_print(id, &parts);
    assert_int_equal(q_ack(bench, id), RK_EGONE);
}

static void test_extend_starts_the_visibility_anew(void **state)
{
    struct bench *bench = *state;
    q_put(bench, "1");
    id_text id;
    q_take(bench, "t", "1", id);
    for (int i = 0; i < 5; i++) {
        bench_pass(bench, 20000);
        assert_int_equal(q_extend(bench, id, 30000), RK_OK);
    }
    q_take(bench, "t", NULL, NULL);
    bench_pass(bench, 30000);
    q_take(bench, "t", "1", NULL);
}

static void test_bulk_answers_line_by_line(void **state)
{
    struct bench *bench = *state;
    q_put(bench, "1");
    q_put(bench, "2");
    id_text first, second;
    q_take(bench, "t", "1", first);
    q_take(bench, "t", "2", second);
    struct rk_slice ids[4] = {text_slice(first), text_slice("junk"), text_slice(first),
                              text_slice(second)};
    struct rk_request request = {.op = RK_OP_QUEUE_ACK, .ids = {ids, 4}, .is_bulk = true};
    RK_SET(&request, IDS);
    const struct rk_reply *reply = bench_call(bench, &request);
    assert_int_equal(reply->status, RK_OK);
    assert_true(reply->is_bulk);
    assert_false(reply->ack);
    assert_int_equal(reply->result_count, 4);
    assert_int_equal(reply->results[0].status, RK_OK);
    assert_int_equal(reply->results[1].status, RK_ERANGE);
    assert_int_equal(reply->results[2].status, RK_EGONE);
    assert_int_equal(reply->results[3].status, RK_OK);
    assert_int_equal(q_info(bench, "t")->acked, 2);
}

/* A retry of the same request gets the same batch. */
static void test_retried_consume_gets_the_same_batch(void **state)
{
    struct bench *bench = *state;
    for (int i = 0; i < 5; i++)
        q_put(bench, "1");
    struct rk_request request = q_consume_request("t", 3);
    uint64_t seq = ++bench->seq;
    const struct rk_reply *reply = bench_call_as(bench, &request, seq, seq);
    id_text ids[3];
    assert_int_equal(reply->message_count, 3);
    for (int i = 0; i < 3; i++)
        q_keep(ids[i], reply->messages[i].id);
    bench_restore(bench);
    reply = bench_call_as(bench, &request, seq, seq);
    assert_int_equal(reply->message_count, 3);
    for (int i = 0; i < 3; i++)
        assert_true(is_text(reply->messages[i].id, ids[i]));
    assert_int_equal(q_info(bench, "t")->in_flight, 3);
}

/* An empty answer is not remembered: the parked call asks again under its number. */
static void test_empty_consume_is_forgotten(void **state)
{
    struct bench *bench = *state;
    struct rk_request request = q_consume_request("t", 0);
    uint64_t seq = ++bench->seq;
    assert_int_equal(bench_call_as(bench, &request, seq, seq)->message_count, 0);
    struct rk_message_in in = {.data = {RK_SLICE_LITERAL("1"), RK_ENCODING_JSON}};
    struct rk_request publish_request = {.op = RK_OP_QUEUE_PUBLISH,
                                         .topic = text_slice("t"),
                                         .messages = &in,
                                         .message_count = 1};
    RK_SET(&publish_request, TOPIC);
    RK_SET(&publish_request, MESSAGES);
    assert_int_equal(bench_call_as(bench, &publish_request, ++bench->seq, seq)->status,
                     RK_OK);
    assert_int_equal(bench_call_as(bench, &request, seq, seq)->message_count, 1);
}

/* Deliveries count at hand-out, failures at nack and expiry only; what never left
 * counts as neither, but its id is used up. */
static void test_uncounted_return(void **state)
{
    struct bench *bench = *state;
    struct rk_request configure = q_configure_request("t");
    configure.deliveries_max = 2;
    RK_SET(&configure, DELIVERIES_MAX);
    assert_int_equal(bench_call(bench, &configure)->status, RK_OK);
    q_put(bench, "1");
    id_text id;
    for (int i = 0; i < 10; i++) {
        q_take(bench, "t", "1", id);
        struct rk_slice ids[1] = {text_slice(id)};
        struct rk_request request = {
            .op = RK_OP_QUEUE_RETURN, .ids = {ids, 1}, .is_bulk = true};
        RK_SET(&request, IDS);
        assert_int_equal(bench_call(bench, &request)->status, RK_OK);
        assert_int_equal(q_ack(bench, id), RK_ESTALE);
    }
    assert_int_equal(q_info(bench, "t")->failed, 0);
    assert_int_equal(q_info(bench, "t")->delivered, 0);
    const struct rk_reply *reply = q_consume(bench, "t", 0);
    assert_int_equal(reply->messages[0].attempt, 11);
    q_keep(id, reply->messages[0].id);
    assert_int_equal(q_nack_after(bench, id, 0), RK_OK);
    q_take(bench, "t", "1", id);
    assert_int_equal(q_nack_after(bench, id, 0), RK_OK);
    q_take(bench, "t", NULL, NULL);
    q_take(bench, "t/dead", "1", NULL);
}

/* What is in flight is replicated; a new leader gives the full time again. */
static void test_new_leader_redelivers_nothing_early(void **state)
{
    struct bench *bench = *state;
    if (bench_twin() != NULL) skip();
    q_put(bench, "1");
    id_text id;
    q_take(bench, "t", "1", id);
    bench_pass_dead(bench, 60000);
    rk_machine_lead(bench->machine, bench->now);
    bench_pass(bench, 29999);
    q_take(bench, "t", NULL, NULL);
    bench_pass(bench, 1);
    q_take(bench, "t", "1", NULL);
}

/* --- retry and dead letters */

static void test_backoff_doubles_to_its_bound(void **state)
{
    struct bench *bench = *state;
    struct rk_request configure = q_configure_request("t");
    configure.retry_ms = 100;
    configure.retry_max_ms = 500;
    RK_SET(&configure, RETRY_MS);
    RK_SET(&configure, RETRY_MAX_MS);
    assert_int_equal(bench_call(bench, &configure)->status, RK_OK);
    q_put(bench, "1");
    const uint64_t waits[] = {100, 200, 400, 500, 500};
    for (int i = 0; i < 5; i++) {
        id_text id;
        q_take(bench, "t", "1", id);
        assert_int_equal(q_nack(bench, id), RK_OK);
        bench_pass(bench, waits[i] - 1);
        q_take(bench, "t", NULL, NULL);
        bench_pass(bench, 1);
        assert_int_equal(q_ready(bench, "t"), 1);
    }
}

/* One entry moves it, body and history stay. */
static void test_dead_after_sixteen_deliveries(void **state)
{
    struct bench *bench = *state;
    struct rk_header header = {RK_SLICE_LITERAL("trace"), RK_SLICE_LITERAL("77")};
    q_publish(bench, "t", "\"body\"", (struct rk_message_in){.headers = {&header, 1}});
    id_text id;
    for (int i = 0; i < 16; i++) {
        assert_int_equal(q_info(bench, "t")->dead, 0);
        q_take(bench, "t", "\"body\"", id);
        bench_pass(bench, 30000);
    }
    assert_int_equal(q_info(bench, "t")->dead, 1);
    assert_int_equal(q_info(bench, "t")->ready, 0);
    assert_int_equal(q_info(bench, "t/dead")->ready, 1);
    bench_restore(bench);
    const struct rk_reply *reply = q_consume(bench, "t/dead", 0);
    assert_int_equal(reply->message_count, 1);
    assert_true(is_text(reply->messages[0].message.bytes, "\"body\""));
    assert_int_equal(reply->messages[0].attempt, 17);
    assert_int_equal(reply->messages[0].headers.count, 1);
    assert_true(is_text(reply->messages[0].headers.items[0].name, "trace"));
    assert_true(is_text(reply->messages[0].headers.items[0].value, "77"));
    struct rk_delivery_id old, new;
    assert_int_equal(rk_delivery_id_parse(&old, text_slice(id)), RK_OK);
    assert_int_equal(rk_delivery_id_parse(&new, reply->messages[0].id), RK_OK);
    assert_int_equal(old.message, new.message);
    assert_int_equal(old.slot, new.slot);
}

static void test_dead_letters_do_not_die_again(void **state)
{
    struct bench *bench = *state;
    q_put(bench, "1");
    id_text id;
    q_take(bench, "t", "1", id);
    struct rk_request more = {.dead = true};
    RK_SET(&more, DEAD);
    assert_int_equal(q_by_id(bench, RK_OP_QUEUE_NACK, id, more)->status, RK_OK);
    for (int i = 0; i < 20; i++) {
        q_take(bench, "t/dead", "1", id);
        assert_int_equal(q_nack_after(bench, id, 0), RK_OK);
    }
    q_take(bench, "t/dead", "1", id);
    assert_int_equal(q_by_id(bench, RK_OP_QUEUE_NACK, id, more)->status, RK_OK);
    bench_pass(bench, 300000);
    assert_int_equal(q_info(bench, "t/dead")->ready, 1);
    struct rk_request list = {.op = RK_OP_QUEUE_LIST, .limit = 10};
    assert_int_equal(bench_query(bench, &list)->listed_count, 2);
}

/* The last delivery timed out and made it a dead letter; the work was done all the same. */
static void test_late_ack_of_a_dead_letter(void **state)
{
    struct bench *bench = *state;
    struct rk_request configure = q_configure_request("t");
    configure.deliveries_max = 1;
    RK_SET(&configure, DELIVERIES_MAX);
    assert_int_equal(bench_call(bench, &configure)->status, RK_OK);
    q_put(bench, "1");
    id_text id;
    q_take(bench, "t", "1", id);
    bench_pass(bench, 30000);
    assert_int_equal(q_info(bench, "t")->dead, 1);
    assert_int_equal(q_extend(bench, id, 1000), RK_ESTALE);
    assert_int_equal(q_nack(bench, id), RK_ESTALE);
    assert_int_equal(q_ack(bench, id), RK_OK);
    assert_int_equal(q_info(bench, "t")->dead, 0);
}

static void test_redrive(void **state)
{
    struct bench *bench = *state;
    const char *data[] = {"0", "1", "2"};
    for (int i = 0; i < 3; i++)
        q_put(bench, data[i]);
    struct rk_request more = {.dead = true};
    RK_SET(&more, DEAD);
    id_text id;
    for (int i = 0; i < 3; i++) {
        q_take(bench, "t", data[i], id);
        assert_int_equal(q_by_id(bench, RK_OP_QUEUE_NACK, id, more)->status, RK_OK);
    }
    struct rk_request request = {
        .op = RK_OP_QUEUE_REDRIVE, .topic = text_slice("t"), .limit = 2};
    RK_SET(&request, TOPIC);
    RK_SET(&request, LIMIT);
    bench_forget_events(bench);
    assert_int_equal(bench_call(bench, &request)->count, 2);
    assert_int_equal(bench_count_events(bench, RK_EVENT_TOPIC_READY, "t"), 1);
    request.topic = text_slice("t/dead");
    assert_int_equal(bench_call(bench, &request)->count, 1);
    assert_int_equal(bench_call(bench, &request)->count, 0);
    bench_restore(bench);
    for (int i = 0; i < 3; i++) {
        const struct rk_reply *reply = q_consume(bench, "t", 0);
        assert_true(is_text(reply->messages[0].message.bytes, data[i]));
        assert_int_equal(reply->messages[0].attempt, 2);
    }
    request.to = text_slice("elsewhere");
    RK_SET(&request, TO);
    assert_int_equal(bench_call(bench, &request)->status, RK_ERANGE);
    request.to = text_slice("t/dead");
    assert_int_equal(bench_call(bench, &request)->status, RK_ERANGE);
    assert_int_equal(q_simple(bench, RK_OP_QUEUE_REDRIVE, "nowhere"), RK_ENOENT);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        QUEUE_TEST(test_publish_consume_ack),
        QUEUE_TEST(test_priority_then_publish_order),
        QUEUE_TEST(test_returned_message_keeps_its_place),
        QUEUE_TEST(test_ack_of_an_outdated_delivery_is_stale),
        QUEUE_TEST(test_late_ack_before_redelivery_is_accepted),
        QUEUE_TEST(test_late_extend_takes_the_message_back),
        QUEUE_TEST(test_given_back_delivery_is_over),
        QUEUE_TEST(test_what_is_no_delivery_id),
        QUEUE_TEST(test_foreign_history_is_gone),
        QUEUE_TEST(test_extend_starts_the_visibility_anew),
        QUEUE_TEST(test_bulk_answers_line_by_line),
        QUEUE_TEST(test_retried_consume_gets_the_same_batch),
        QUEUE_TEST(test_empty_consume_is_forgotten),
        QUEUE_TEST(test_uncounted_return),
        QUEUE_TEST(test_new_leader_redelivers_nothing_early),
        QUEUE_TEST(test_backoff_doubles_to_its_bound),
        QUEUE_TEST(test_dead_after_sixteen_deliveries),
        QUEUE_TEST(test_dead_letters_do_not_die_again),
        QUEUE_TEST(test_late_ack_of_a_dead_letter),
        QUEUE_TEST(test_redrive),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
