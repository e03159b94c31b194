/* What topics promise about time, groups, dedup, limits and reads, one rule a test. */
#include "queue_bench.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

/* --- delay and time to live */

static void test_delay_and_deliver_at(void **state)
{
    struct bench *bench = *state;
    q_publish(bench, "t", "1", (struct rk_message_in){.delay_ms = 1000});
    q_publish(bench, "t", "2", (struct rk_message_in){.deliver_at = bench->now + 500});
    q_publish(bench, "t", "3", (struct rk_message_in){.deliver_at = bench->now - 500});
    assert_int_equal(q_info(bench, "t")->delayed, 2);
    q_take(bench, "t", "3", NULL);
    q_take(bench, "t", NULL, NULL);
    bench_pass(bench, 500);
    q_take(bench, "t", "2", NULL);
    q_take(bench, "t", NULL, NULL);
    bench_pass(bench, 500);
    q_take(bench, "t", "1", NULL);
}

/* Due while no leader was there: late, and once. A duration begins again, a point
 * in time does not. */
static void test_due_without_a_leader(void **state)
{
    struct bench *bench = *state;
    if (bench_twin() != NULL) skip();
    q_publish(bench, "t", "1", (struct rk_message_in){.delay_ms = 1000});
    q_publish(bench, "t", "2", (struct rk_message_in){.deliver_at = bench->now + 1000});
    bench_pass_dead(bench, 5000);
    rk_machine_lead(bench->machine, bench->now);
    bench_pass(bench, 1);
    q_take(bench, "t", "2", NULL);
    q_take(bench, "t", NULL, NULL);
    bench_pass(bench, 999);
    q_take(bench, "t", "1", NULL);
    q_take(bench, "t", NULL, NULL);
}

static void test_time_to_live(void **state)
{
    struct bench *bench = *state;
    q_publish(bench, "t", "1", (struct rk_message_in){.ttl_ms = 1000});
    q_publish(bench, "t", "2", (struct rk_message_in){.ttl_ms = 1000});
    q_put(bench, "3");
    id_text id;
    q_take(bench, "t", "1", id);
    bench_pass(bench, 1000);
    assert_int_equal(q_info(bench, "t")->expired, 1);
    q_take(bench, "t", "3", NULL);
    bench_pass(bench, 30000); /* the first one comes back too late */
    assert_int_equal(q_info(bench, "t")->expired, 2);
    assert_int_equal(q_ack(bench, id), RK_EGONE);
}

/* The leader has not proposed the expiry yet: apply knows the time by itself. */
static void test_expired_message_is_not_handed_out(void **state)
{
    struct bench *bench = *state;
    q_publish(bench, "t", "1", (struct rk_message_in){.ttl_ms = 1000});
    bench_pass_dead(bench, 1000);
    q_take(bench, "t", NULL, NULL);
    assert_int_equal(q_info(bench, "t")->expired, 1);
    assert_int_equal(q_info(bench, "t")->bytes, 0);
}

/* --- ordering groups */

static void test_group_has_one_in_flight(void **state)
{
    struct bench *bench = *state;
    struct rk_message_in in = {.group = RK_SLICE_LITERAL("g")};
    q_publish(bench, "t", "\"g1\"", in);
    q_publish(bench, "t", "\"g2\"", in);
    q_put(bench, "\"x\"");
    q_publish(bench, "t", "\"g3\"", in);
    assert_int_equal(q_ready(bench, "t"), 2);
    id_text id;
    q_take(bench, "t", "\"g1\"", id);
    q_take(bench, "t", "\"x\"", NULL);
    q_take(bench, "t", NULL, NULL);
    assert_int_equal(q_nack_after(bench, id, 1000), RK_OK);
    q_take(bench, "t", NULL, NULL); /* the delayed head blocks */
    bench_restore(bench);
    q_take(bench, "t", NULL, NULL);
    bench_pass(bench, 1000);
    q_take(bench, "t", "\"g1\"", id);
    bench_pass(bench, 25000);
    assert_int_equal(q_extend(bench, id, 10000), RK_OK);
    bench_pass(bench, 10000); /* x and g1 are back, g1 at its head */
    q_take(bench, "t", "\"g1\"", id);
    bench_forget_events(bench);
    assert_int_equal(q_ack(bench, id), RK_OK);
    assert_int_equal(bench_count_events(bench, RK_EVENT_TOPIC_READY, "t"), 1);
    q_take(bench, "t", "\"g2\"", id);
    q_take(bench, "t", "\"x\"", NULL);
    assert_int_equal(q_nack_after(bench, id, 0), RK_OK);
    q_take(bench, "t", "\"g2\"", id);
    struct rk_request more = {.dead = true};
    RK_SET(&more, DEAD);
    assert_int_equal(q_by_id(bench, RK_OP_QUEUE_NACK, id, more)->status, RK_OK);
    q_take(bench, "t", "\"g3\"", id);
}

static void test_batch_takes_one_of_a_group(void **state)
{
    struct bench *bench = *state;
    for (int i = 0; i < 4; i++) {
        q_publish(bench, "t", "1", (struct rk_message_in){.group = RK_SLICE_LITERAL("a")});
        q_publish(bench, "t", "2", (struct rk_message_in){.group = RK_SLICE_LITERAL("b")});
    }
    assert_int_equal(q_consume(bench, "t", 100)->message_count, 2);
}

/* --- dedup */

static void test_publish_id_gives_the_first_id(void **state)
{
    struct bench *bench = *state;
    struct rk_message_in in = {.publish_id = RK_SLICE_LITERAL("order-1")};
    id_text first, id;
    q_keep(first, q_publish(bench, "t", "1", in)->id);
    assert_true(is_text(q_publish(bench, "t", "2", in)->id, first));
    assert_int_equal(q_info(bench, "t")->published, 1);
    q_take(bench, "t", "1", id);
    assert_int_equal(q_ack(bench, id), RK_OK);
    bench_restore(bench);
    bench_pass(bench, 299999);
    assert_true(
        is_text(q_publish(bench, "t", "3", in)->id, first)); /* gone, but remembered */
    bench_pass_dead(bench, 1);
    assert_false(is_text(q_publish(bench, "t", "4", in)->id, first));
    q_take(bench, "t", "4", NULL);
    /* Another topic has ids of its own. */
    assert_false(is_text(q_publish(bench, "u", "5", in)->id, first));
}

static void test_dedup_records_go_after_the_window(void **state)
{
    struct bench *bench = *state;
    uint64_t count = rk_machine_object_count(bench->machine);
    id_text id;
    for (int i = 0; i < 20; i++) {
        char publish_id[16];
        snprintf(publish_id, sizeof(publish_id), "p%d", i);
        q_publish(bench, "t", "1",
                  (struct rk_message_in){.publish_id = text_slice(publish_id)});
        q_take(bench, "t", "1", id);
        assert_int_equal(q_ack(bench, id), RK_OK);
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
    q_keep(first, q_publish(bench, "t", "1", unique(RK_UNIQUE_QUEUED))->id);
    assert_true(is_text(q_publish(bench, "t", "2", unique(RK_UNIQUE_QUEUED))->id, first));
    bench_restore(bench);
    q_take(bench, "t", "1", NULL);
    assert_false(is_text(q_publish(bench, "t", "3", unique(RK_UNIQUE_QUEUED))->id, first));
    assert_int_equal(q_info(bench, "t")->published, 2);
}

static void test_unique_until_acked(void **state)
{
    struct bench *bench = *state;
    id_text first, id;
    q_keep(first, q_publish(bench, "t", "1", unique(RK_UNIQUE_ACKED))->id);
    q_take(bench, "t", "1", id);
    bench_restore(bench);
    assert_true(is_text(q_publish(bench, "t", "2", unique(RK_UNIQUE_ACKED))->id, first));
    assert_int_equal(q_nack_after(bench, id, 0), RK_OK);
    assert_true(is_text(q_publish(bench, "t", "2", unique(RK_UNIQUE_ACKED))->id, first));
    q_take(bench, "t", "1", id);
    assert_int_equal(q_ack(bench, id), RK_OK);
    assert_false(is_text(q_publish(bench, "t", "3", unique(RK_UNIQUE_ACKED))->id, first));
}

static void test_unique_keys_are_no_publish_ids(void **state)
{
    struct bench *bench = *state;
    id_text first;
    q_keep(first, q_publish(bench, "t", "1", unique(RK_UNIQUE_WINDOW))->id);
    struct rk_message_in in = {.publish_id = RK_SLICE_LITERAL("k")};
    assert_false(is_text(q_publish(bench, "t", "2", in)->id, first));
    /* Refused by its unique key, a publish id is known all the same. */
    in = unique(RK_UNIQUE_WINDOW);
    in.publish_id = RK_SLICE_LITERAL("p");
    assert_true(is_text(q_publish(bench, "t", "3", in)->id, first));
    in = (struct rk_message_in){.publish_id = RK_SLICE_LITERAL("p")};
    assert_true(is_text(q_publish(bench, "t", "4", in)->id, first));
}

static void test_unique_in_a_window(void **state)
{
    struct bench *bench = *state;
    id_text first, id;
    q_keep(first, q_publish(bench, "t", "1", unique(RK_UNIQUE_WINDOW))->id);
    q_take(bench, "t", "1", id);
    assert_int_equal(q_ack(bench, id), RK_OK);
    bench_pass(bench, 299999);
    assert_true(is_text(q_publish(bench, "t", "2", unique(RK_UNIQUE_WINDOW))->id, first));
    bench_pass(bench, 1);
    assert_false(is_text(q_publish(bench, "t", "3", unique(RK_UNIQUE_WINDOW))->id, first));
}

static void test_purge_gives_unique_keys_back(void **state)
{
    struct bench *bench = *state;
    id_text first;
    q_keep(first, q_publish(bench, "t", "1", unique(RK_UNIQUE_ACKED))->id);
    assert_int_equal(q_simple(bench, RK_OP_QUEUE_PURGE, "t"), RK_OK);
    assert_false(is_text(q_publish(bench, "t", "2", unique(RK_UNIQUE_ACKED))->id, first));
}

/* A publish repeated under its request number is one message. */
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
    q_keep(second, reply->ids.items[1]);
    reply = bench_call_as(bench, &request, seq, seq);
    assert_int_equal(reply->ids.count, 2);
    assert_true(is_text(reply->ids.items[1], second));
    assert_int_equal(q_info(bench, "t")->ready, 2);
}

/* --- limits, fences, administration */

/* In apply, and what is in flight counts. All of a batch or nothing. */
static void test_limits(void **state)
{
    struct bench *bench = *state;
    struct rk_request configure = q_configure_request("t");
    configure.messages_max = 2;
    RK_SET(&configure, MESSAGES_MAX);
    assert_int_equal(bench_call(bench, &configure)->status, RK_OK);
    q_put(bench, "1");
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
    assert_int_equal(q_info(bench, "t")->ready, 1);
    q_put(bench, "2");
    id_text id;
    q_take(bench, "t", "1", id);
    struct rk_message_in one = {0};
    assert_int_equal(q_publish(bench, "t", "3", one)->status, RK_EBUSY);
    assert_int_equal(q_ack(bench, id), RK_OK);
    assert_int_equal(q_publish(bench, "t", "3", one)->status, RK_OK);
    configure.messages_max = 0;
    configure.bytes_max = 2000;
    RK_SET(&configure, BYTES_MAX);
    assert_int_equal(bench_call(bench, &configure)->status, RK_OK);
    int count = 0;
    while (count < 100 && q_publish(bench, "t", "\"0123456789\"", one)->status == RK_OK)
        count++;
    assert_in_range(count, 1, 6);
    assert_in_range(q_info(bench, "t")->bytes, 1000, 2000);
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
    assert_int_equal(q_simple(bench, RK_OP_QUEUE_PURGE, "t"), RK_OK);
    bench_restore(bench);
    assert_int_equal(publish_fenced(bench, "t", 4, "lock")->status, RK_EFENCE);
    assert_int_equal(publish_fenced(bench, "t", 9, "lock")->status, RK_OK);
    assert_int_equal(q_info(bench, "t")->ready, 1);
    bench_pass(bench, 86400000);
    assert_int_equal(publish_fenced(bench, "t", 1, "lock")->status, RK_OK);
}

static void test_purge_with_messages_in_flight(void **state)
{
    struct bench *bench = *state;
    id_text id;
    for (int i = 0; i < 3; i++)
        q_publish(bench, "t", "1", (struct rk_message_in){.group = RK_SLICE_LITERAL("g")});
    q_put(bench, "2");
    q_publish(bench, "t", "3", (struct rk_message_in){.delay_ms = 1000});
    q_take(bench, "t", "1", id);
    bench_forget_events(bench);
    struct rk_request request = {.op = RK_OP_QUEUE_PURGE, .topic = text_slice("t")};
    RK_SET(&request, TOPIC);
    assert_int_equal(bench_call(bench, &request)->count, 5);
    assert_int_equal(bench->event_count, 0);
    assert_int_equal(q_ack(bench, id), RK_EGONE);
    assert_int_equal(q_nack(bench, id), RK_EGONE);
    assert_int_equal(q_info(bench, "t")->bytes, 0);
    assert_int_equal(q_ready(bench, "t"), 0);
    bench_pass(bench, 100000);
    q_take(bench, "t", NULL, NULL);
    assert_int_equal(q_simple(bench, RK_OP_QUEUE_PURGE, "unknown"), RK_ENOENT);
}

static void publish_many(struct bench *bench, int calls)
{
    static struct rk_message_in in[1000];
    for (int i = 0; i < 1000; i++)
        in[i].data = (struct rk_value){RK_SLICE_LITERAL("1"), RK_ENCODING_JSON};
    in[0].group = RK_SLICE_LITERAL("g");
    struct rk_request request = {.op = RK_OP_QUEUE_PUBLISH,
                                 .topic = text_slice("t"),
                                 .messages = in,
                                 .message_count = 1000,
                                 .is_bulk = true};
    RK_SET(&request, TOPIC);
    RK_SET(&request, MESSAGES);
    for (int i = 0; i < calls; i++)
        assert_int_equal(bench_call(bench, &request)->ids.count, 1000);
}

/* A large purge is done at once for every caller; the memory follows in slices. */
static void test_purge_goes_on_in_slices(void **state)
{
    struct bench *bench = *state;
    uint64_t objects = rk_machine_object_count(bench->machine);
    id_text id, old, first;
    publish_many(bench, 10);
    q_keep(first, q_publish(bench, "t", "2", unique(RK_UNIQUE_ACKED))->id);
    q_publish(bench, "t", "9", (struct rk_message_in){.priority = 9});
    q_take(bench, "t", "9", old); /* the last to be removed */
    for (int i = 0; i < 3; i++) { /* one from the middle, in the heap */
        q_take(bench, "t", "1", id);
        if (i == 1) assert_int_equal(q_nack_after(bench, id, 0), RK_OK);
    }
    struct rk_request request = {.op = RK_OP_QUEUE_PURGE, .topic = text_slice("t")};
    RK_SET(&request, TOPIC);
    assert_int_equal(bench_call(bench, &request)->count, 10002);
    assert_true(rk_machine_object_count(bench->machine) > objects + 1000);
    assert_int_equal(q_ready(bench, "t"), 0);
    assert_int_equal(q_info(bench, "t")->in_flight, 0);
    assert_int_equal(q_info(bench, "t")->bytes, 0);
    assert_int_equal(q_ack(bench, old), RK_EGONE);
    assert_false(is_text(q_publish(bench, "t", "3", unique(RK_UNIQUE_ACKED))->id, first));
    q_take(bench, "t", "3", id);
    assert_int_equal(q_ack(bench, id), RK_OK);
    assert_int_equal(bench_call(bench, &request)->count, 0);
    publish_many(bench, 9); /* a second purge while the first goes on */
    assert_int_equal(bench_call(bench, &request)->count, 9000);
    bench_restore(bench);
    q_take(bench, "t", NULL, NULL);
    q_publish(bench, "t", "3", (struct rk_message_in){0});
    q_publish(bench, "t", "4", (struct rk_message_in){.group = RK_SLICE_LITERAL("g")});
    q_take(bench, "t", "3", id);
    bench_pass(bench, 1);
    assert_in_range(rk_machine_object_count(bench->machine), objects, objects + 10);
    q_take(bench, "t", "4", NULL);
    assert_int_equal(q_ack(bench, id), RK_OK);
    bench_pass(bench, 100000);
    assert_int_equal(q_info(bench, "t")->ready, 1);
}

static void test_timers_of_purged_messages(void **state)
{
    struct bench *bench = *state;
    publish_many(bench, 10);
    q_publish(bench, "t", "9", (struct rk_message_in){.priority = 9});
    q_take(bench, "t", "9", NULL);
    assert_int_equal(q_simple(bench, RK_OP_QUEUE_PURGE, "t"), RK_OK);
    bench_pass_dead(bench, 30000); /* it times out before its slice comes */
    bench_pass(bench, 1);
    q_take(bench, "t", NULL, NULL);
    assert_int_equal(q_info(bench, "t")->ready, 0);
    assert_int_equal(q_info(bench, "t")->in_flight, 0);
    assert_int_equal(q_info(bench, "t")->failed, 0);
}

static void test_pause_and_resume(void **state)
{
    struct bench *bench = *state;
    q_put(bench, "1");
    assert_int_equal(q_simple(bench, RK_OP_QUEUE_PAUSE, "t"), RK_OK);
    bench_forget_events(bench);
    q_put(bench, "2");
    assert_int_equal(bench->event_count, 0);
    assert_int_equal(q_ready(bench, "t"), 0);
    bench_restore(bench);
    q_take(bench, "t", NULL, NULL);
    assert_true(q_info(bench, "t")->paused);
    assert_int_equal(q_simple(bench, RK_OP_QUEUE_RESUME, "t"), RK_OK);
    assert_int_equal(bench_count_events(bench, RK_EVENT_TOPIC_READY, "t"), 1);
    q_take(bench, "t", "1", NULL);
}

static void test_delete_by_either_id(void **state)
{
    struct bench *bench = *state;
    id_text message, delivery;
    q_keep(message, q_publish(bench, "t", "1", (struct rk_message_in){0})->id);
    struct rk_request none = {0};
    const struct rk_reply *reply = q_by_id(bench, RK_OP_QUEUE_DELETE, message, none);
    assert_int_equal(reply->status, RK_OK);
    assert_true(reply->deleted);
    assert_int_equal(q_by_id(bench, RK_OP_QUEUE_DELETE, message, none)->status, RK_EGONE);
    q_put(bench, "2");
    q_take(bench, "t", "2", delivery);
    assert_int_equal(q_by_id(bench, RK_OP_QUEUE_DELETE, delivery, none)->status, RK_OK);
    assert_int_equal(q_ack(bench, delivery), RK_EGONE);
    assert_int_equal(q_by_id(bench, RK_OP_QUEUE_DELETE, "junk", none)->status, RK_ERANGE);
}

static void test_settings(void **state)
{
    struct bench *bench = *state;
    struct rk_request configure = q_configure_request("t");
    configure.visibility_ms = 1000;
    configure.ttl_ms = 5000;
    RK_SET(&configure, VISIBILITY_MS);
    RK_SET(&configure, TTL_MS);
    assert_int_equal(bench_call(bench, &configure)->status, RK_OK);
    q_put(bench, "1");
    bench_restore(bench);
    q_take(bench, "t", "1", NULL);
    bench_pass(bench, 1000);
    q_take(bench, "t", "1", NULL);
    bench_pass(bench, 4000);
    q_take(bench, "t", NULL, NULL);
    assert_int_equal(q_info(bench, "t")->deliveries_max, 16);
    configure = q_configure_request("t");
    configure.retry_max_ms = 10;
    RK_SET(&configure, RETRY_MAX_MS);
    assert_int_equal(bench_call(bench, &configure)->status, RK_ERANGE);
    assert_int_equal(q_info(bench, "t")->retry_max_ms, 300000);
    assert_int_equal(q_info(bench, "t")->visibility_ms, 1000);
}

static void test_events_wake_consumers(void **state)
{
    struct bench *bench = *state;
    q_put(bench, "1");
    assert_int_equal(bench_count_events(bench, RK_EVENT_TOPIC_READY, "t"), 1);
    id_text id;
    q_take(bench, "t", "1", id);
    bench_forget_events(bench);
    q_publish(bench, "t", "2", (struct rk_message_in){.delay_ms = 1000});
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
    q_put(bench, "0");
    q_publish(bench, "t", "1", (struct rk_message_in){.delay_ms = 1000});
    q_publish(bench, "t", "2", (struct rk_message_in){.priority = 3});
    q_take(bench, "t", "2", NULL);
    struct rk_request request = {
        .op = RK_OP_QUEUE_PEEK, .topic = text_slice("t"), .limit = 2};
    const struct rk_reply *reply = bench_query(bench, &request);
    assert_int_equal(reply->message_count, 2);
    assert_true(is_text(reply->messages[0].state, "ready"));
    assert_true(is_text(reply->messages[1].state, "delayed"));
    id_text after;
    q_keep(after, reply->after);
    request.after = text_slice(after);
    reply = bench_query(bench, &request);
    assert_int_equal(reply->message_count, 1);
    assert_true(is_text(reply->messages[0].state, "in_flight"));
    assert_int_equal(reply->messages[0].priority, 3);
    assert_int_equal(reply->messages[0].id.data[0], 'm'); /* never the right to ack */
    assert_int_equal(reply->after.size, 0);
    assert_int_equal(q_info(bench, "t")->in_flight, 1);
}

static void test_list_in_name_order(void **state)
{
    struct bench *bench = *state;
    const char *names[] = {"b", "a/2", "a/1", "c", "a", "a/3"};
    for (int i = 0; i < 6; i++)
        q_publish(bench, names[i], "1", (struct rk_message_in){0});
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

int main(void)
{
    const struct CMUnitTest tests[] = {
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
        QUEUE_TEST(test_unique_keys_are_no_publish_ids),
        QUEUE_TEST(test_unique_in_a_window),
        QUEUE_TEST(test_purge_gives_unique_keys_back),
        QUEUE_TEST(test_retried_publish),
        QUEUE_TEST(test_limits),
        QUEUE_TEST(test_lower_fence_is_refused),
        QUEUE_TEST(test_purge_with_messages_in_flight),
        QUEUE_TEST(test_purge_goes_on_in_slices),
        QUEUE_TEST(test_timers_of_purged_messages),
        QUEUE_TEST(test_pause_and_resume),
        QUEUE_TEST(test_delete_by_either_id),
        QUEUE_TEST(test_settings),
        QUEUE_TEST(test_events_wake_consumers),
        QUEUE_TEST(test_peek_shows_pages),
        QUEUE_TEST(test_list_in_name_order),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
