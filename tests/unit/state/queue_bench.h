/* queue_bench.h - the calls on topics that their tests are made of. */
#ifndef RK_TESTS_QUEUE_BENCH_H
#define RK_TESTS_QUEUE_BENCH_H

#include "data_bench.h"

typedef char id_text[RK_DELIVERY_ID_SIZE];

/* Copies an id out of a reply, which lives until the next call only. */
void q_keep(id_text out, struct rk_slice id);
/* Publishes one message; `in` says all but its data. */
const struct rk_reply *q_publish(struct bench *bench, const char *topic, const char *data,
                                 struct rk_message_in in);
/* A plain message to topic "t", which must be taken. */
void q_put(struct bench *bench, const char *data);
struct rk_request q_consume_request(const char *topic, uint64_t max);
const struct rk_reply *q_consume(struct bench *bench, const char *topic, uint64_t max);
/* Takes the next message, which must be `data`; its delivery goes to out (may be NULL). */
void q_take(struct bench *bench, const char *topic, const char *data, char *out);
/* op on one id, in the single form; more holds its other fields. */
const struct rk_reply *q_by_id(struct bench *bench, enum rk_op op, const char *id,
                               struct rk_request more);
enum rk_status q_ack(struct bench *bench, const char *id);
enum rk_status q_nack(struct bench *bench, const char *id);
enum rk_status q_nack_after(struct bench *bench, const char *id, uint64_t delay_ms);
enum rk_status q_extend(struct bench *bench, const char *id, uint64_t visibility_ms);
const struct rk_topic_stats *q_info(struct bench *bench, const char *topic);
/* An operation that has a topic only. */
enum rk_status q_simple(struct bench *bench, enum rk_op op, const char *topic);
struct rk_request q_configure_request(const char *topic);
/* How many messages could be handed out. */
uint64_t q_ready(struct bench *bench, const char *topic);

int queue_setup(void **state);
/* Replays the log and compares. */
int queue_teardown(void **state);
#define QUEUE_TEST(name) cmocka_unit_test_setup_teardown(name, queue_setup, queue_teardown)
#endif
