/* What topics promise, one rule a test. */
#include "data_bench.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

typedef char id_text[RK_DELIVERY_ID_SIZE];

static void keep(id_text out, struct rk_slice id)
{
    assert_in_range(id.size, 1, RK_DELIVERY_ID_SIZE - 1);
    memcpy(out, id.data, id.size);
    out[id.size] = '\0';
}

static const struct rk_reply *publish(struct bench *bench, const char *topic,
                                      const char *data, struct rk_message_in in)
{
    in.data = (struct rk_value){text_slice(data), RK_ENCODING_JSON};
    struct rk_request request = {.op = RK_OP_QUEUE_PUBLISH,
                                 .topic = text_slice(topic),
                                 .messages = &in,
                                 .message_count = 1};
    RK_SET(&request, TOPIC);
    RK_SET(&request, MESSAGES);
    return bench_call(bench, &request);
}

static void put(struct bench *bench, const char *data)
{
    assert_int_equal(publish(bench, "t", data, (struct rk_message_in){0})->status, RK_OK);
}

static struct rk_request consume_request(const char *topic, uint64_t max)
{
    struct rk_request request = {
        .op = RK_OP_QUEUE_CONSUME, .topic = text_slice(topic), .max = max};
    RK_SET(&request, TOPIC);
    if (max != 0) RK_SET(&request, MAX);
    return request;
}

static const struct rk_reply *consume(struct bench *bench, const char *topic, uint64_t max)
{
    struct rk_request request = consume_request(topic, max);
    return bench_call(bench, &request);
}

/* Takes the next message, which must be `data`; its delivery goes to out (may be NULL). */
static void take(struct bench *bench, const char *topic, const char *data, char *out)
{
    const struct rk_reply *reply = consume(bench, topic, 0);
    assert_int_equal(reply->status, RK_OK);
    if (data == NULL) {
        assert_int_equal(reply->message_count, 0);
        return;
    }
    assert_int_equal(reply->message_count, 1);
    assert_memory_equal(reply->messages[0].message.bytes.data, data, strlen(data));
    if (out != NULL) keep(out, reply->messages[0].id);
}

static const struct rk_reply *by_id(struct bench *bench, enum rk_op op, const char *id,
                                    struct rk_request more)
{
    struct rk_slice ids[1] = {text_slice(id)};
    more.op = op;
    more.ids = (struct rk_strings){ids, 1};
    more.id = ids[0];
    RK_SET(&more, ID);
    return bench_call(bench, &more);
}

static enum rk_status ack(struct bench *bench, const char *id)
{
    return by_id(bench, RK_OP_QUEUE_ACK, id, (struct rk_request){0})->status;
}

static enum rk_status nack(struct bench *bench, const char *id)
{
    return by_id(bench, RK_OP_QUEUE_NACK, id, (struct rk_request){0})->status;
}

static enum rk_status nack_after(struct bench *bench, const char *id, uint64_t delay_ms)
{
    struct rk_request more = {.delay_ms = delay_ms};
    RK_SET(&more, DELAY_MS);
    return by_id(bench, RK_OP_QUEUE_NACK, id, more)->status;
}

static enum rk_status extend(struct bench *bench, const char *id, uint64_t visibility_ms)
{
    struct rk_request more = {.visibility_ms = visibility_ms};
    RK_SET(&more, VISIBILITY_MS);
    return by_id(bench, RK_OP_QUEUE_EXTEND, id, more)->status;
}

static const struct rk_topic_stats *info(struct bench *bench, const char *topic)
{
    struct rk_request request = {.op = RK_OP_QUEUE_INFO, .topic = text_slice(topic)};
    const struct rk_reply *reply = bench_query(bench, &request);
    assert_int_equal(reply->status, RK_OK);
    return reply->topic_stats;
}

static enum rk_status simple(struct bench *bench, enum rk_op op, const char *topic)
{
    struct rk_request request = {.op = op, .topic = text_slice(topic)};
    RK_SET(&request, TOPIC);
    return bench_call(bench, &request)->status;
}

static struct rk_request configure_request(const char *topic)
{
    struct rk_request request = {.op = RK_OP_QUEUE_CONFIGURE, .topic = text_slice(topic)};
    RK_SET(&request, TOPIC);
    return request;
}

static uint64_t ready(struct bench *bench, const char *topic)
{
    return rk_machine_ready_count(bench->machine, text_slice(topic));
}

static int setup(void **state)
{
    *state = bench_new();
    return 0;
}

static int teardown(void **state)
{
    struct bench *bench = *state;
    bench_check_replay(bench);
    bench_free(bench);
    return 0;
}

/* --- order */

static void test_publish_consume_ack(void **state)
{
    struct bench *bench = *state;
    const struct rk_reply *reply = publish(bench, "t", "1", (struct rk_message_in){0});
    assert_true(reply->ok);
    id_text message, delivery;
    keep(message, reply->id);
    assert_int_equal(message[0], 'm');
    assert_int_equal(ready(bench, "t"), 1);
    reply = consume(bench, "t", 0);
    assert_int_equal(reply->message_count, 1);
    assert_false(reply->is_bulk);
    assert_int_equal(reply->messages[0].attempt, 1);
    assert_true(is_text(reply->messages[0].message_id, message));
    keep(delivery, reply->messages[0].id);
    assert_int_equal(ready(bench, "t"), 0);
    assert_int_equal(info(bench, "t")->in_flight, 1);
    struct rk_reply acked = *by_id(bench, RK_OP_QUEUE_ACK, delivery, (struct rk_request){0});
    assert_int_equal(acked.status, RK_OK);
    assert_true(acked.ack);
    assert_int_equal(info(bench, "t")->in_flight, 0);
    assert_int_equal(info(bench, "t")->acked, 1);
    assert_int_equal(info(bench, "t")->bytes, 0);
    assert_int_equal(ack(bench, delivery), RK_EGONE);
    take(bench, "t", NULL, NULL);
    take(bench, "unknown", NULL, NULL);
}

static void test_priority_then_publish_order(void **state)
{
    struct bench *bench = *state;
    const char *data[] = {"\"a\"", "\"b\"", "\"c\"", "\"d\"", "\"e\""};
    const uint8_t priorities[] = {0, 9, 5, 9, 0};
    for (int i = 0; i < 5; i++)
        publish(bench, "t", data[i], (struct rk_message_in){.priority = priorities[i]});
    const struct rk_reply *reply = consume(bench, "t", 10);
    assert_true(reply->is_bulk);
    assert_int_equal(reply->message_count, 5);
    const int order[] = {1, 3, 2, 0, 4};
    for (int i = 0; i < 5; i++)
        assert_true(is_text(reply->messages[i].message.bytes, data[order[i]]));
}

/* Trap 31: a message that comes back keeps its priority and its place. */
static void test_returned_message_keeps_its_place(void **state)
{
    struct bench *bench = *state;
    const char *data[] = {"0", "1", "2", "3", "4"};
    id_text ids[5];
    for (int i = 0; i < 5; i++)
        put(bench, data[i]);
    for (int i = 0; i < 4; i++)
        take(bench, "t", data[i], ids[i]);
    assert_int_equal(nack_after(bench, ids[2], 0), RK_OK);
    assert_int_equal(nack_after(bench, ids[0], 0), RK_OK);
    assert_int_equal(nack_after(bench, ids[3], 0), RK_OK);
    assert_int_equal(nack_after(bench, ids[1], 500), RK_OK);
    bench_restore(bench);
    take(bench, "t", "0", NULL);
    bench_pass(bench, 500);
    take(bench, "t", "1", NULL);
    take(bench, "t", "2", NULL);
    take(bench, "t", "3", NULL);
    take(bench, "t", "4", NULL);
}

/* --- deliveries */

/* Trap 26. */
static void test_ack_of_an_outdated_delivery_is_stale(void **state)
{
    struct bench *bench = *state;
    put(bench, "1");
    id_text first, second;
    take(bench, "t", "1", first);
    bench_pass(bench, 29999);
    take(bench, "t", NULL, NULL);
    bench_pass(bench, 1);
    take(bench, "t", "1", second);
    assert_int_equal(ack(bench, first), RK_ESTALE);
    assert_int_equal(nack(bench, first), RK_ESTALE);
    assert_int_equal(extend(bench, first, 1000), RK_ESTALE);
    assert_int_equal(ack(bench, second), RK_OK);
}

static void test_late_ack_before_redelivery_is_accepted(void **state)
{
    struct bench *bench = *state;
    put(bench, "1");
    id_text id;
    take(bench, "t", "1", id);
    bench_pass(bench, 40000);
    assert_int_equal(ready(bench, "t"), 1);
    assert_int_equal(ack(bench, id), RK_OK);
    assert_int_equal(ready(bench, "t"), 0);
    take(bench, "t", NULL, NULL);
}

static void test_late_extend_takes_the_message_back(void **state)
{
    struct bench *bench = *state;
    put(bench, "1");
    id_text id;
    take(bench, "t", "1", id);
    bench_pass(bench, 40000);
    assert_int_equal(extend(bench, id, 5000), RK_OK);
    take(bench, "t", NULL, NULL);
    bench_pass(bench, 4999);
    take(bench, "t", NULL, NULL);
    assert_int_equal(ack(bench, id), RK_OK);
}

static void test_given_back_delivery_is_over(void **state)
{
    struct bench *bench = *state;
    put(bench, "1");
    id_text id;
    take(bench, "t", "1", id);
    assert_int_equal(nack_after(bench, id, 0), RK_OK);
    assert_int_equal(ack(bench, id), RK_ESTALE);
    assert_int_equal(nack(bench, id), RK_ESTALE);
    bench_restore(bench);
    assert_int_equal(ack(bench, id), RK_ESTALE);
    take(bench, "t", "1", NULL);
}

static void test_what_is_no_delivery_id(void **state)
{
    struct bench *bench = *state;
    id_text message;
    keep(message, publish(bench, "t", "1", (struct rk_message_in){0})->id);
    assert_int_equal(ack(bench, message), RK_ERANGE);
    assert_int_equal(ack(bench, "order-17"), RK_ERANGE);
    assert_int_equal(ack(bench, "d"), RK_ERANGE);
}

static void test_foreign_history_is_gone(void **state)
{
    struct bench *bench = *state;
    put(bench, "1");
    id_text id;
    take(bench, "t", "1", id);
    struct rk_delivery_id parts;
    assert_int_equal(rk_delivery_id_parse(&parts, text_slice(id)), RK_OK);
    assert_int_equal(parts.history, 77);
    parts.history = 76;
    rk_delivery_id_print(id, &parts);
    assert_int_equal(ack(bench, id), RK_EGONE);
    parts.history = 77;
    parts.attempt = 9;
    rk_delivery_id_print(id, &parts);
    assert_int_equal(ack(bench, id), RK_EGONE);
    parts.attempt = 1;
    parts.message += 1000;
    rk_delivery_id_print(id, &parts);
    assert_int_equal(ack(bench, id), RK_EGONE);
}

static void test_extend_starts_the_visibility_anew(void **state)
{
    struct bench *bench = *state;
    put(bench, "1");
    id_text id;
    take(bench, "t", "1", id);
    for (int i = 0; i < 5; i++) {
        bench_pass(bench, 20000);
        assert_int_equal(extend(bench, id, 30000), RK_OK);
    }
    take(bench, "t", NULL, NULL);
    bench_pass(bench, 30000);
    take(bench, "t", "1", NULL);
}

static void test_bulk_answers_line_by_line(void **state)
{
    struct bench *bench = *state;
    put(bench, "1");
    put(bench, "2");
    id_text first, second;
    take(bench, "t", "1", first);
    take(bench, "t", "2", second);
    struct rk_slice ids[4] = {text_slice(first), text_slice("junk"), text_slice(first),
                              text_slice(second)};
    struct rk_request request = {
        .op = RK_OP_QUEUE_ACK, .ids = {ids, 4}, .is_bulk = true};
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
    assert_int_equal(info(bench, "t")->acked, 2);
}

/* Trap 29: a retry of the same request gets the same batch. */
static void test_retried_consume_gets_the_same_batch(void **state)
{
    struct bench *bench = *state;
    for (int i = 0; i < 5; i++)
        put(bench, "1");
    struct rk_request request = consume_request("t", 3);
    uint64_t seq = ++bench->seq;
    const struct rk_reply *reply = bench_call_as(bench, &request, seq, seq);
    id_text ids[3];
    assert_int_equal(reply->message_count, 3);
    for (int i = 0; i < 3; i++)
        keep(ids[i], reply->messages[i].id);
    bench_restore(bench);
    reply = bench_call_as(bench, &request, seq, seq);
    assert_int_equal(reply->message_count, 3);
    for (int i = 0; i < 3; i++)
        assert_true(is_text(reply->messages[i].id, ids[i]));
    assert_int_equal(info(bench, "t")->in_flight, 3);
}

/* An empty answer is not remembered: the parked call asks again under its number. */
static void test_empty_consume_is_forgotten(void **state)
{
    struct bench *bench = *state;
    struct rk_request request = consume_request("t", 0);
    uint64_t seq = ++bench->seq;
    assert_int_equal(bench_call_as(bench, &request, seq, seq)->message_count, 0);
    struct rk_message_in in = {.data = {RK_SLICE_LITERAL("1"), RK_ENCODING_JSON}};
    struct rk_request publish_request = {.op = RK_OP_QUEUE_PUBLISH,
                                         .topic = text_slice("t"),
                                         .messages = &in,
                                         .message_count = 1};
    RK_SET(&publish_request, TOPIC);
    RK_SET(&publish_request, MESSAGES);
    assert_int_equal(bench_call_as(bench, &publish_request, ++bench->seq, seq)->status, RK_OK);
    assert_int_equal(bench_call_as(bench, &request, seq, seq)->message_count, 1);
}

/* Trap 28: deliveries count at hand-out, failures at nack and expiry only; what never left
 * counts as neither, but its id is used up. */
static void test_uncounted_return(void **state)
{
    struct bench *bench = *state;
    struct rk_request configure = configure_request("t");
    configure.deliveries_max = 2;
    RK_SET(&configure, DELIVERIES_MAX);
    assert_int_equal(bench_call(bench, &configure)->status, RK_OK);
    put(bench, "1");
    id_text id;
    for (int i = 0; i < 10; i++) {
        take(bench, "t", "1", id);
        struct rk_slice ids[1] = {text_slice(id)};
        struct rk_request request = {
            .op = RK_OP_QUEUE_RETURN, .ids = {ids, 1}, .is_bulk = true};
        RK_SET(&request, IDS);
        assert_int_equal(bench_call(bench, &request)->status, RK_OK);
        assert_int_equal(ack(bench, id), RK_ESTALE);
    }
    assert_int_equal(info(bench, "t")->failed, 0);
    assert_int_equal(info(bench, "t")->delivered, 0);
    const struct rk_reply *reply = consume(bench, "t", 0);
    assert_int_equal(reply->messages[0].attempt, 11);
    keep(id, reply->messages[0].id);
    assert_int_equal(nack_after(bench, id, 0), RK_OK);
    take(bench, "t", "1", id);
    assert_int_equal(nack_after(bench, id, 0), RK_OK);
    take(bench, "t", NULL, NULL);
    take(bench, "t/dead", "1", NULL);
}

/* Trap 30: what is in flight is replicated; a new leader gives the full time again. */
static void test_new_leader_redelivers_nothing_early(void **state)
{
    struct bench *bench = *state;
    put(bench, "1");
    id_text id;
    take(bench, "t", "1", id);
    bench_pass_dead(bench, 60000);
    rk_machine_lead(bench->machine, bench->now);
    bench_pass(bench, 29999);
    take(bench, "t", NULL, NULL);
    bench_pass(bench, 1);
    take(bench, "t", "1", NULL);
}

/* --- retry and dead letters */

static void test_backoff_doubles_to_its_bound(void **state)
{
    struct bench *bench = *state;
    struct rk_request configure = configure_request("t");
    configure.retry_ms = 100;
    configure.retry_max_ms = 500;
    RK_SET(&configure, RETRY_MS);
    RK_SET(&configure, RETRY_MAX_MS);
    assert_int_equal(bench_call(bench, &configure)->status, RK_OK);
    put(bench, "1");
    const uint64_t waits[] = {100, 200, 400, 500, 500};
    for (int i = 0; i < 5; i++) {
        id_text id;
        take(bench, "t", "1", id);
        assert_int_equal(nack(bench, id), RK_OK);
        bench_pass(bench, waits[i] - 1);
        take(bench, "t", NULL, NULL);
        bench_pass(bench, 1);
        assert_int_equal(ready(bench, "t"), 1);
    }
}

/* Trap 33: one entry moves it, body and history stay. */
static void test_dead_after_sixteen_deliveries(void **state)
{
    struct bench *bench = *state;
    struct rk_header header = {RK_SLICE_LITERAL("trace"), RK_SLICE_LITERAL("77")};
    publish(bench, "t", "\"body\"", (struct rk_message_in){.headers = {&header, 1}});
    id_text id;
    for (int i = 0; i < 16; i++) {
        assert_int_equal(info(bench, "t")->dead, 0);
        take(bench, "t", "\"body\"", id);
        bench_pass(bench, 30000);
    }
    assert_int_equal(info(bench, "t")->dead, 1);
    assert_int_equal(info(bench, "t")->ready, 0);
    assert_int_equal(info(bench, "t/dead")->ready, 1);
    bench_restore(bench);
    const struct rk_reply *reply = consume(bench, "t/dead", 0);
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
    put(bench, "1");
    id_text id;
    take(bench, "t", "1", id);
    struct rk_request more = {.dead = true};
    RK_SET(&more, DEAD);
    assert_int_equal(by_id(bench, RK_OP_QUEUE_NACK, id, more)->status, RK_OK);
    for (int i = 0; i < 20; i++) {
        take(bench, "t/dead", "1", id);
        assert_int_equal(nack_after(bench, id, 0), RK_OK);
    }
    take(bench, "t/dead", "1", id);
    assert_int_equal(by_id(bench, RK_OP_QUEUE_NACK, id, more)->status, RK_OK);
    bench_pass(bench, 300000);
    assert_int_equal(info(bench, "t/dead")->ready, 1);
    struct rk_request list = {.op = RK_OP_QUEUE_LIST, .limit = 10};
    assert_int_equal(bench_query(bench, &list)->listed_count, 2);
}

/* The last delivery timed out and made it a dead letter; the work was done all the same. */
static void test_late_ack_of_a_dead_letter(void **state)
{
    struct bench *bench = *state;
    struct rk_request configure = configure_request("t");
    configure.deliveries_max = 1;
    RK_SET(&configure, DELIVERIES_MAX);
    assert_int_equal(bench_call(bench, &configure)->status, RK_OK);
    put(bench, "1");
    id_text id;
    take(bench, "t", "1", id);
    bench_pass(bench, 30000);
    assert_int_equal(info(bench, "t")->dead, 1);
    assert_int_equal(extend(bench, id, 1000), RK_ESTALE);
    assert_int_equal(nack(bench, id), RK_ESTALE);
    assert_int_equal(ack(bench, id), RK_OK);
    assert_int_equal(info(bench, "t")->dead, 0);
}

static void test_redrive(void **state)
{
    struct bench *bench = *state;
    const char *data[] = {"0", "1", "2"};
    for (int i = 0; i < 3; i++)
        put(bench, data[i]);
    struct rk_request more = {.dead = true};
    RK_SET(&more, DEAD);
    id_text id;
    for (int i = 0; i < 3; i++) {
        take(bench, "t", data[i], id);
        assert_int_equal(by_id(bench, RK_OP_QUEUE_NACK, id, more)->status, RK_OK);
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
        const struct rk_reply *reply = consume(bench, "t", 0);
        assert_true(is_text(reply->messages[0].message.bytes, data[i]));
        assert_int_equal(reply->messages[0].attempt, 2);
    }
    request.to = text_slice("elsewhere");
    RK_SET(&request, TO);
    assert_int_equal(bench_call(bench, &request)->status, RK_ERANGE);
    request.to = text_slice("t/dead");
    assert_int_equal(bench_call(bench, &request)->status, RK_ERANGE);
    assert_int_equal(simple(bench, RK_OP_QUEUE_REDRIVE, "nowhere"), RK_ENOENT);
}

/* --- delay and time to live */

static void test_delay_and_deliver_at(void **state)
{
    struct bench *bench = *state;
    publish(bench, "t", "1", (struct rk_message_in){.delay_ms = 1000});
    publish(bench, "t", "2", (struct rk_message_in){.deliver_at = bench->now + 500});
    publish(bench, "t", "3", (struct rk_message_in){.deliver_at = bench->now - 500});
    assert_int_equal(info(bench, "t")->delayed, 2);
    take(bench, "t", "3", NULL);
    take(bench, "t", NULL, NULL);
    bench_pass(bench, 500);
    take(bench, "t", "2", NULL);
    take(bench, "t", NULL, NULL);
    bench_pass(bench, 500);
    take(bench, "t", "1", NULL);
}

/* Trap 39: due while no leader was there: late, and once. A duration begins again, a point
 * in time does not. */
static void test_due_without_a_leader(void **state)
{
    struct bench *bench = *state;
    publish(bench, "t", "1", (struct rk_message_in){.delay_ms = 1000});
    publish(bench, "t", "2", (struct rk_message_in){.deliver_at = bench->now + 1000});
    bench_pass_dead(bench, 5000);
    rk_machine_lead(bench->machine, bench->now);
    bench_pass(bench, 1);
    take(bench, "t", "2", NULL);
    take(bench, "t", NULL, NULL);
    bench_pass(bench, 999);
    take(bench, "t", "1", NULL);
    take(bench, "t", NULL, NULL);
}

static void test_time_to_live(void **state)
{
    struct bench *bench = *state;
    publish(bench, "t", "1", (struct rk_message_in){.ttl_ms = 1000});
    publish(bench, "t", "2", (struct rk_message_in){.ttl_ms = 1000});
    put(bench, "3");
    id_text id;
    take(bench, "t", "1", id);
    bench_pass(bench, 1000);
    assert_int_equal(info(bench, "t")->expired, 1);
    take(bench, "t", "3", NULL);
    bench_pass(bench, 30000); /* the first one comes back too late */
    assert_int_equal(info(bench, "t")->expired, 2);
    assert_int_equal(ack(bench, id), RK_EGONE);
}

/* The leader has not proposed the expiry yet: apply knows the time by itself. */
static void test_expired_message_is_not_handed_out(void **state)
{
    struct bench *bench = *state;
    publish(bench, "t", "1", (struct rk_message_in){.ttl_ms = 1000});
    bench_pass_dead(bench, 1000);
    take(bench, "t", NULL, NULL);
    assert_int_equal(info(bench, "t")->expired, 1);
    assert_int_equal(info(bench, "t")->bytes, 0);
}

/* --- ordering groups */

/* Trap 34. */
static void test_group_has_one_in_flight(void **state)
{
    struct bench *bench = *state;
    struct rk_message_in in = {.group = RK_SLICE_LITERAL("g")};
    publish(bench, "t", "\"g1\"", in);
    publish(bench, "t", "\"g2\"", in);
    put(bench, "\"x\"");
    publish(bench, "t", "\"g3\"", in);
    assert_int_equal(ready(bench, "t"), 2);
    id_text id;
    take(bench, "t", "\"g1\"", id);
    take(bench, "t", "\"x\"", NULL);
    take(bench, "t", NULL, NULL);
    assert_int_equal(nack_after(bench, id, 1000), RK_OK);
    take(bench, "t", NULL, NULL); /* the delayed head blocks */
    bench_restore(bench);
    take(bench, "t", NULL, NULL);
    bench_pass(bench, 1000);
    take(bench, "t", "\"g1\"", id);
    bench_pass(bench, 25000);
    assert_int_equal(extend(bench, id, 10000), RK_OK);
    bench_pass(bench, 10000); /* x and g1 are back, g1 at its head */
    take(bench, "t", "\"g1\"", id);
    bench_forget_events(bench);
    assert_int_equal(ack(bench, id), RK_OK);
    assert_int_equal(bench_count_events(bench, RK_EVENT_TOPIC_READY, "t"), 1);
    take(bench, "t", "\"g2\"", id);
    take(bench, "t", "\"x\"", NULL);
    assert_int_equal(nack_after(bench, id, 0), RK_OK);
    take(bench, "t", "\"g2\"", id);
    struct rk_request more = {.dead = true};
    RK_SET(&more, DEAD);
    assert_int_equal(by_id(bench, RK_OP_QUEUE_NACK, id, more)->status, RK_OK);
    take(bench, "t", "\"g3\"", id);
}

static void test_batch_takes_one_of_a_group(void **state)
{
    struct bench *bench = *state;
    for (int i = 0; i < 4; i++) {
        publish(bench, "t", "1", (struct rk_message_in){.group = RK_SLICE_LITERAL("a")});
        publish(bench, "t", "2", (struct rk_message_in){.group = RK_SLICE_LITERAL("b")});
    }
    assert_int_equal(consume(bench, "t", 100)->message_count, 2);
}

/* --- dedup */

/* Trap 32. */
static void test_publish_id_gives_the_first_id(void **state)
{
    struct bench *bench = *state;
    struct rk_message_in in = {.publish_id = RK_SLICE_LITERAL("order-1")};
    id_text first, id;
    keep(first, publish(bench, "t", "1", in)->id);
    assert_true(is_text(publish(bench, "t", "2", in)->id, first));
    assert_int_equal(info(bench, "t")->published, 1);
    take(bench, "t", "1", id);
    assert_int_equal(ack(bench, id), RK_OK);
    bench_restore(bench);
    bench_pass(bench, 299999);
    assert_true(is_text(publish(bench, "t", "3", in)->id, first)); /* gone, but remembered */
    bench_pass_dead(bench, 1);
    assert_false(is_text(publish(bench, "t", "4", in)->id, first));
    take(bench, "t", "4", NULL);
    /* Another topic has ids of its own. */
    assert_false(is_text(publish(bench, "u", "5", in)->id, first));
}

static void test_dedup_records_go_after_the_window(void **state)
{
    struct bench *bench = *state;
    uint64_t count = rk_machine_object_count(bench->machine);
    id_text id;
    for (int i = 0; i < 20; i++) {
        char publish_id[16];
        snprintf(publish_id, sizeof(publish_id), "p%d", i);
        publish(bench, "t", "1", (struct rk_message_in){.publish_id = text_slice(publish_id)});
        take(bench, "t", "1", id);
        assert_int_equal(ack(bench, id), RK_OK);
    }
    assert_in_range(rk_machine_object_count(bench->machine), count + 20, count + 25);
    bench_pass(bench, 300000);
    assert_in_range(rk_machine_object_count(bench->machine), count, count + 5);
}

static struct rk_message_in unique(enum rk_unique_scope scope)
{
    return (struct rk_message_in){.unique_key = RK_SLICE_LITERAL("k"),
                                  .unique_scope = (uint8_t)scope};
}

static void test_unique_while_queued(void **state)
{
    struct bench *bench = *state;
    id_text first;
    keep(first, publish(bench, "t", "1", unique(RK_UNIQUE_QUEUED))->id);
    assert_true(is_text(publish(bench, "t", "2", unique(RK_UNIQUE_QUEUED))->id, first));
    bench_restore(bench);
    take(bench, "t", "1", NULL);
    assert_false(is_text(publish(bench, "t", "3", unique(RK_UNIQUE_QUEUED))->id, first));
    assert_int_equal(info(bench, "t")->published, 2);
}

static void test_unique_until_acked(void **state)
{
    struct bench *bench = *state;
    id_text first, id;
    keep(first, publish(bench, "t", "1", unique(RK_UNIQUE_ACKED))->id);
    take(bench, "t", "1", id);
    bench_restore(bench);
    assert_true(is_text(publish(bench, "t", "2", unique(RK_UNIQUE_ACKED))->id, first));
    assert_int_equal(nack_after(bench, id, 0), RK_OK);
    assert_true(is_text(publish(bench, "t", "2", unique(RK_UNIQUE_ACKED))->id, first));
    take(bench, "t", "1", id);
    assert_int_equal(ack(bench, id), RK_OK);
    assert_false(is_text(publish(bench, "t", "3", unique(RK_UNIQUE_ACKED))->id, first));
}

static void test_unique_in_a_window(void **state)
{
    struct bench *bench = *state;
    id_text first, id;
    keep(first, publish(bench, "t", "1", unique(RK_UNIQUE_WINDOW))->id);
    take(bench, "t", "1", id);
    assert_int_equal(ack(bench, id), RK_OK);
    bench_pass(bench, 299999);
    assert_true(is_text(publish(bench, "t", "2", unique(RK_UNIQUE_WINDOW))->id, first));
    bench_pass(bench, 1);
    assert_false(is_text(publish(bench, "t", "3", unique(RK_UNIQUE_WINDOW))->id, first));
}

static void test_purge_gives_unique_keys_back(void **state)
{
    struct bench *bench = *state;
    id_text first;
    keep(first, publish(bench, "t", "1", unique(RK_UNIQUE_ACKED))->id);
    assert_int_equal(simple(bench, RK_OP_QUEUE_PURGE, "t"), RK_OK);
    assert_false(is_text(publish(bench, "t", "2", unique(RK_UNIQUE_ACKED))->id, first));
}

/* Trap 37: a publish repeated under its request number is one message. */
static void test_retried_publish(void **state)
{
    struct bench *bench = *state;
    struct rk_message_in in[2] = {
        {.data = {RK_SLICE_LITERAL("1"), RK_ENCODING_JSON}},
        {.data = {RK_SLICE_LITERAL("2"), RK_ENCODING_JSON}},
    };
    struct rk_request request = {.op = RK_OP_QUEUE_PUBLISH,
                                 .topic = text_slice("t"),
                                 .messages = in,
                                 .message_count = 2,
                                 .is_bulk = true};
    RK_SET(&request, TOPIC);
    RK_SET(&request, MESSAGES);
    uint64_t seq = ++bench->seq;
    const struct rk_reply *reply = bench_call_as(bench, &request, seq, seq);
    assert_int_equal(reply->ids.count, 2);
    id_text second;
    keep(second, reply->ids.items[1]);
    reply = bench_call_as(bench, &request, seq, seq);
    assert_int_equal(reply->ids.count, 2);
    assert_true(is_text(reply->ids.items[1], second));
    assert_int_equal(info(bench, "t")->ready, 2);
}

/* --- limits, fences, administration */

/* Trap 35: in apply, and what is in flight counts. All of a batch or nothing. */
static void test_limits(void **state)
{
    struct bench *bench = *state;
    struct rk_request configure = configure_request("t");
    configure.messages_max = 2;
    RK_SET(&configure, MESSAGES_MAX);
    assert_int_equal(bench_call(bench, &configure)->status, RK_OK);
    put(bench, "1");
    struct rk_message_in in[2] = {
        {.data = {RK_SLICE_LITERAL("2"), RK_ENCODING_JSON}},
        {.data = {RK_SLICE_LITERAL("3"), RK_ENCODING_JSON}},
    };
    struct rk_request request = {.op = RK_OP_QUEUE_PUBLISH,
                                 .topic = text_slice("t"),
                                 .messages = in,
                                 .message_count = 2,
                                 .is_bulk = true};
    RK_SET(&request, TOPIC);
    RK_SET(&request, MESSAGES);
    assert_int_equal(bench_call(bench, &request)->status, RK_EBUSY);
    assert_int_equal(info(bench, "t")->ready, 1);
    put(bench, "2");
    id_text id;
    take(bench, "t", "1", id);
    struct rk_message_in one = {0};
    assert_int_equal(publish(bench, "t", "3", one)->status, RK_EBUSY);
    assert_int_equal(ack(bench, id), RK_OK);
    assert_int_equal(publish(bench, "t", "3", one)->status, RK_OK);
    configure.messages_max = 0;
    configure.bytes_max = 2000;
    RK_SET(&configure, BYTES_MAX);
    assert_int_equal(bench_call(bench, &configure)->status, RK_OK);
    int count = 0;
    while (count < 100 && publish(bench, "t", "\"0123456789\"", one)->status == RK_OK)
        count++;
    assert_in_range(count, 1, 6);
    assert_in_range(info(bench, "t")->bytes, 1000, 2000);
}

static const struct rk_reply *publish_fenced(struct bench *bench, const char *topic,
                                             uint64_t fence, const char *name)
{
    struct rk_message_in in = {.data = {RK_SLICE_LITERAL("1"), RK_ENCODING_JSON}};
    struct rk_request request = {.op = RK_OP_QUEUE_PUBLISH,
                                 .topic = text_slice(topic),
                                 .messages = &in,
                                 .message_count = 1,
                                 .fence = fence};
    RK_SET(&request, TOPIC);
    RK_SET(&request, MESSAGES);
    RK_SET(&request, FENCE);
    if (name != NULL) {
        request.fence_name = text_slice(name);
        RK_SET(&request, FENCE_NAME);
    }
    return bench_call(bench, &request);
}

static void test_lower_fence_is_refused(void **state)
{
    struct bench *bench = *state;
    assert_int_equal(publish_fenced(bench, "t", 5, "lock")->status, RK_OK);
    assert_int_equal(publish_fenced(bench, "t", 5, "lock")->status, RK_OK);
    assert_int_equal(publish_fenced(bench, "t", 4, "lock")->status, RK_EFENCE);
    assert_int_equal(publish_fenced(bench, "t", 4, NULL)->status, RK_OK);
    assert_int_equal(publish_fenced(bench, "t", 3, NULL)->status, RK_EFENCE);
    assert_int_equal(publish_fenced(bench, "u", 1, "lock")->status, RK_OK);
    assert_int_equal(simple(bench, RK_OP_QUEUE_PURGE, "t"), RK_OK);
    bench_restore(bench);
    assert_int_equal(publish_fenced(bench, "t", 4, "lock")->status, RK_EFENCE);
    assert_int_equal(publish_fenced(bench, "t", 9, "lock")->status, RK_OK);
    assert_int_equal(info(bench, "t")->ready, 1);
    bench_pass(bench, 86400000);
    assert_int_equal(publish_fenced(bench, "t", 1, "lock")->status, RK_OK);
}

/* Trap 36. */
static void test_purge_with_messages_in_flight(void **state)
{
    struct bench *bench = *state;
    id_text id;
    for (int i = 0; i < 3; i++)
        publish(bench, "t", "1", (struct rk_message_in){.group = RK_SLICE_LITERAL("g")});
    put(bench, "2");
    publish(bench, "t", "3", (struct rk_message_in){.delay_ms = 1000});
    take(bench, "t", "1", id);
    bench_forget_events(bench);
    struct rk_request request = {.op = RK_OP_QUEUE_PURGE, .topic = text_slice("t")};
    RK_SET(&request, TOPIC);
    assert_int_equal(bench_call(bench, &request)->count, 5);
    assert_int_equal(bench->event_count, 0);
    assert_int_equal(ack(bench, id), RK_EGONE);
    assert_int_equal(nack(bench, id), RK_EGONE);
    assert_int_equal(info(bench, "t")->bytes, 0);
    assert_int_equal(ready(bench, "t"), 0);
    bench_pass(bench, 100000);
    take(bench, "t", NULL, NULL);
    assert_int_equal(simple(bench, RK_OP_QUEUE_PURGE, "unknown"), RK_ENOENT);
}

static void test_pause_and_resume(void **state)
{
    struct bench *bench = *state;
    put(bench, "1");
    assert_int_equal(simple(bench, RK_OP_QUEUE_PAUSE, "t"), RK_OK);
    bench_forget_events(bench);
    put(bench, "2");
    assert_int_equal(bench->event_count, 0);
    assert_int_equal(ready(bench, "t"), 0);
    bench_restore(bench);
    take(bench, "t", NULL, NULL);
    assert_true(info(bench, "t")->paused);
    assert_int_equal(simple(bench, RK_OP_QUEUE_RESUME, "t"), RK_OK);
    assert_int_equal(bench_count_events(bench, RK_EVENT_TOPIC_READY, "t"), 1);
    take(bench, "t", "1", NULL);
}

static void test_delete_by_either_id(void **state)
{
    struct bench *bench = *state;
    id_text message, delivery;
    keep(message, publish(bench, "t", "1", (struct rk_message_in){0})->id);
    struct rk_request none = {0};
    const struct rk_reply *reply = by_id(bench, RK_OP_QUEUE_DELETE, message, none);
    assert_int_equal(reply->status, RK_OK);
    assert_true(reply->deleted);
    assert_int_equal(by_id(bench, RK_OP_QUEUE_DELETE, message, none)->status, RK_EGONE);
    put(bench, "2");
    take(bench, "t", "2", delivery);
    assert_int_equal(by_id(bench, RK_OP_QUEUE_DELETE, delivery, none)->status, RK_OK);
    assert_int_equal(ack(bench, delivery), RK_EGONE);
    assert_int_equal(by_id(bench, RK_OP_QUEUE_DELETE, "junk", none)->status, RK_ERANGE);
}

static void test_settings(void **state)
{
    struct bench *bench = *state;
    struct rk_request configure = configure_request("t");
    configure.visibility_ms = 1000;
    configure.ttl_ms = 5000;
    RK_SET(&configure, VISIBILITY_MS);
    RK_SET(&configure, TTL_MS);
    assert_int_equal(bench_call(bench, &configure)->status, RK_OK);
    put(bench, "1");
    bench_restore(bench);
    take(bench, "t", "1", NULL);
    bench_pass(bench, 1000);
    take(bench, "t", "1", NULL);
    bench_pass(bench, 4000);
    take(bench, "t", NULL, NULL);
    assert_int_equal(info(bench, "t")->deliveries_max, 16);
    configure = configure_request("t");
    configure.retry_max_ms = 10;
    RK_SET(&configure, RETRY_MAX_MS);
    assert_int_equal(bench_call(bench, &configure)->status, RK_ERANGE);
    assert_int_equal(info(bench, "t")->retry_max_ms, 300000);
    assert_int_equal(info(bench, "t")->visibility_ms, 1000);
}

static void test_events_wake_consumers(void **state)
{
    struct bench *bench = *state;
    put(bench, "1");
    assert_int_equal(bench_count_events(bench, RK_EVENT_TOPIC_READY, "t"), 1);
    id_text id;
    take(bench, "t", "1", id);
    bench_forget_events(bench);
    publish(bench, "t", "2", (struct rk_message_in){.delay_ms = 1000});
    assert_int_equal(bench->event_count, 0);
    bench_pass(bench, 1000);
    assert_int_equal(bench_count_events(bench, RK_EVENT_TOPIC_READY, "t"), 1);
    bench_pass(bench, 29000);
    assert_int_equal(bench_count_events(bench, RK_EVENT_TOPIC_READY, "t"), 2);
}

/* --- reads */

static void test_peek_shows_pages(void **state)
{
    struct bench *bench = *state;
    put(bench, "0");
    publish(bench, "t", "1", (struct rk_message_in){.delay_ms = 1000});
    publish(bench, "t", "2", (struct rk_message_in){.priority = 3});
    take(bench, "t", "2", NULL);
    struct rk_request request = {
        .op = RK_OP_QUEUE_PEEK, .topic = text_slice("t"), .limit = 2};
    const struct rk_reply *reply = bench_query(bench, &request);
    assert_int_equal(reply->message_count, 2);
    assert_true(is_text(reply->messages[0].state, "ready"));
    assert_true(is_text(reply->messages[1].state, "delayed"));
    id_text after;
    keep(after, reply->after);
    request.after = text_slice(after);
    reply = bench_query(bench, &request);
    assert_int_equal(reply->message_count, 1);
    assert_true(is_text(reply->messages[0].state, "in_flight"));
    assert_int_equal(reply->messages[0].priority, 3);
    assert_int_equal(reply->messages[0].id.data[0], 'm'); /* never the right to ack */
    assert_int_equal(reply->after.size, 0);
    assert_int_equal(info(bench, "t")->in_flight, 1);
}

static void test_list_in_name_order(void **state)
{
    struct bench *bench = *state;
    const char *names[] = {"b", "a/2", "a/1", "c", "a", "a/3"};
    for (int i = 0; i < 6; i++)
        publish(bench, names[i], "1", (struct rk_message_in){0});
    struct rk_request request = {
        .op = RK_OP_QUEUE_LIST, .limit = 2, .prefix = text_slice("a")};
    const struct rk_reply *reply = bench_query(bench, &request);
    assert_int_equal(reply->listed_count, 2);
    assert_true(is_text(reply->listed[0].name, "a"));
    assert_true(is_text(reply->listed[1].name, "a/1"));
    assert_true(is_text(reply->after, "a/1"));
    request.after = text_slice("a/1");
    reply = bench_query(bench, &request);
    assert_int_equal(reply->listed_count, 2);
    assert_true(is_text(reply->listed[1].name, "a/3"));
    assert_int_equal(reply->after.size, 0);
    struct rk_request stats = {.op = RK_OP_QUEUE_STATS};
    assert_int_equal(bench_query(bench, &stats)->topic_stats->ready, 6);
}

#define QUEUE_TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

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
        QUEUE_TEST(test_delay_and_deliver_at),
        QUEUE_TEST(test_due_without_a_leader),
        QUEUE_TEST(test_time_to_live),
        QUEUE_TEST(test_expired_message_is_not_handed_out),
        QUEUE_TEST(test_group_has_one_in_flight),
        QUEUE_TEST(test_batch_takes_one_of_a_group),
        QUEUE_TEST(test_publish_id_gives_the_first_id),
        QUEUE_TEST(test_dedup_records_go_after_the_window),
        QUEUE_TEST(test_unique_while_queued),
        QUEUE_TEST(test_unique_until_acked),
        QUEUE_TEST(test_unique_in_a_window),
        QUEUE_TEST(test_purge_gives_unique_keys_back),
        QUEUE_TEST(test_retried_publish),
        QUEUE_TEST(test_limits),
        QUEUE_TEST(test_lower_fence_is_refused),
        QUEUE_TEST(test_purge_with_messages_in_flight),
        QUEUE_TEST(test_pause_and_resume),
        QUEUE_TEST(test_delete_by_either_id),
        QUEUE_TEST(test_settings),
        QUEUE_TEST(test_events_wake_consumers),
        QUEUE_TEST(test_peek_shows_pages),
        QUEUE_TEST(test_list_in_name_order),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
