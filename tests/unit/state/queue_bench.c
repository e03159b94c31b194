#include "queue_bench.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

void q_keep(id_text out, struct rk_slice id)
{
    assert_in_range(id.size, 1, RK_DELIVERY_ID_SIZE - 1);
    memcpy(out, id.data, id.size);
    out[id.size] = '\0';
}

const struct rk_reply *q_publish(struct bench *bench, const char *topic, const char *data,
                                 struct rk_message_in in)
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

void q_put(struct bench *bench, const char *data)
{
    assert_int_equal(q_publish(bench, "t", data, (struct rk_message_in){0})->status, RK_OK);
}

struct rk_request q_consume_request(const char *topic, uint64_t max)
{
    struct rk_request request = {
        .op = RK_OP_QUEUE_CONSUME, .topic = text_slice(topic), .max = max};
    RK_SET(&request, TOPIC);
    if (max != 0) RK_SET(&request, MAX);
    return request;
}

const struct rk_reply *q_consume(struct bench *bench, const char *topic, uint64_t max)
{
    struct rk_request request = q_consume_request(topic, max);
    return bench_call(bench, &request);
}

void q_take(struct bench *bench, const char *topic, const char *data, char *out)
{
    const struct rk_reply *reply = q_consume(bench, topic, 0);
    assert_int_equal(reply->status, RK_OK);
    if (data == NULL) {
        assert_int_equal(reply->message_count, 0);
        return;
    }
    assert_int_equal(reply->message_count, 1);
    assert_memory_equal(reply->messages[0].message.bytes.data, data, strlen(data));
    if (out != NULL) q_keep(out, reply->messages[0].id);
}

const struct rk_reply *q_by_id(struct bench *bench, enum rk_op op, const char *id,
                               struct rk_request more)
{
    struct rk_slice ids[1] = {text_slice(id)};
    more.op = op;
    more.ids = (struct rk_strings){ids, 1};
    more.id = ids[0];
    RK_SET(&more, ID);
    return bench_call(bench, &more);
}

enum rk_status q_ack(struct bench *bench, const char *id)
{
    return q_by_id(bench, RK_OP_QUEUE_ACK, id, (struct rk_request){0})->status;
}

enum rk_status q_nack(struct bench *bench, const char *id)
{
    return q_by_id(bench, RK_OP_QUEUE_NACK, id, (struct rk_request){0})->status;
}

enum rk_status q_nack_after(struct bench *bench, const char *id, uint64_t delay_ms)
{
    struct rk_request more = {.delay_ms = delay_ms};
    RK_SET(&more, DELAY_MS);
    return q_by_id(bench, RK_OP_QUEUE_NACK, id, more)->status;
}

enum rk_status q_extend(struct bench *bench, const char *id, uint64_t visibility_ms)
{
    struct rk_request more = {.visibility_ms = visibility_ms};
    RK_SET(&more, VISIBILITY_MS);
    return q_by_id(bench, RK_OP_QUEUE_EXTEND, id, more)->status;
}

const struct rk_topic_stats *q_info(struct bench *bench, const char *topic)
{
    struct rk_request request = {.op = RK_OP_QUEUE_INFO, .topic = text_slice(topic)};
    const struct rk_reply *reply = bench_query(bench, &request);
    assert_int_equal(reply->status, RK_OK);
    return reply->topic_stats;
}

enum rk_status q_simple(struct bench *bench, enum rk_op op, const char *topic)
{
    struct rk_request request = {.op = op, .topic = text_slice(topic)};
    RK_SET(&request, TOPIC);
    return bench_call(bench, &request)->status;
}

struct rk_request q_configure_request(const char *topic)
{
    struct rk_request request = {.op = RK_OP_QUEUE_CONFIGURE, .topic = text_slice(topic)};
    RK_SET(&request, TOPIC);
    return request;
}

uint64_t q_ready(struct bench *bench, const char *topic)
{
    return rk_machine_ready_count(bench->machine, text_slice(topic));
}

int queue_setup(void **state)
{
    *state = bench_new();
    return 0;
}

int queue_teardown(void **state)
{
    struct bench *bench = *state;
    bench_check_replay(bench);
    bench_free(bench);
    return 0;
}
