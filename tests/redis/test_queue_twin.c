/* Random calls of every kind on the state machine and on Redis: tests/redis/twin.c compares
 * each answer. There is no model here; what either engine should say is tested elsewhere.
 */
#include "../unit/state/data_bench.h"

#include "base/random.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

enum { IDS_MAX = 256, BATCH = 4, STEPS = 1500, SEEDS = 6, SEQS = 600, LATE = 40 };

static const char *const topics[] = {"a",      "b:{x}",      "c{x}",      "x",
                                     "a/dead", "b:{x}/dead", "c{x}/dead", "none"};
static const char *const names[] = {"k1", "k2", "k3"};

struct dice {
    struct bench *bench;
    struct rk_random random;
    char ids[IDS_MAX][RK_DELIVERY_ID_SIZE]; /* of messages and deliveries, oldest go */
    uint32_t id_count;
    char data[32];
};

static uint64_t pick(struct dice *dice, uint64_t bound)
{
    return rk_random_below(&dice->random, bound);
}

static bool once_in(struct dice *dice, uint64_t times)
{
    return pick(dice, times) == 0;
}

static struct rk_slice any_topic(struct dice *dice)
{
    return text_slice(topics[once_in(dice, 4) ? pick(dice, 8) : pick(dice, 4)]);
}

static struct rk_slice any_name(struct dice *dice)
{
    return text_slice(names[pick(dice, 3)]);
}

static void learn(struct dice *dice, struct rk_slice id)
{
    if (id.size == 0 || id.size >= RK_DELIVERY_ID_SIZE) return;
    char *out = dice->ids[dice->id_count++ % IDS_MAX];
    memcpy(out, id.data, id.size);
    out[id.size] = '\0';
}

static void call(struct dice *dice, struct rk_request *request)
{
    const struct rk_reply *reply = bench_call(dice->bench, request);
    for (uint32_t i = 0; i < reply->ids.count; i++)
        learn(dice, reply->ids.items[i]);
    for (uint32_t i = 0; i < reply->message_count; i++)
        learn(dice, reply->messages[i].id);
}

static struct rk_request request_of(struct dice *dice, enum rk_op op)
{
    struct rk_request request;
    rk_request_init(&request, op);
    request.topic = any_topic(dice);
    RK_SET(&request, TOPIC);
    return request;
}

static void any_message(struct dice *dice, struct rk_message_in *in,
                        struct rk_header *header)
{
    uint64_t now = dice->bench->now;
    *in = (struct rk_message_in){.data = {text_slice(dice->data), RK_ENCODING_JSON}};
    if (once_in(dice, 3)) in->priority = (uint8_t)pick(dice, 10);
    if (once_in(dice, 3)) in->group = any_name(dice);
    if (once_in(dice, 4)) in->delay_ms = 1 + pick(dice, 900);
    if (once_in(dice, 8)) in->deliver_at = now - 300 + pick(dice, 900);
    if (once_in(dice, 5)) in->ttl_ms = 1 + pick(dice, 2500);
    if (once_in(dice, 4)) in->publish_id = any_name(dice);
    if (once_in(dice, 4)) {
        in->unique_key = any_name(dice);
        in->unique_scope = (uint8_t)(1 + pick(dice, 3));
    }
    if (!once_in(dice, 4)) return;
    *header = (struct rk_header){any_name(dice), text_slice("some text")};
    in->headers = (struct rk_headers){header, 1};
}

static void do_publish(struct dice *dice)
{
    struct rk_message_in messages[BATCH];
    struct rk_header headers[BATCH];
    struct rk_request request = request_of(dice, RK_OP_QUEUE_PUBLISH);
    request.is_bulk = once_in(dice, 3);
    request.messages = messages;
    request.message_count = request.is_bulk ? 1 + (uint32_t)pick(dice, BATCH) : 1;
    snprintf(dice->data, sizeof(dice->data), "%llu", (unsigned long long)dice->bench->seq);
    for (uint32_t i = 0; i < request.message_count; i++)
        any_message(dice, &messages[i], &headers[i]);
    RK_SET(&request, MESSAGES);
    if (once_in(dice, 6)) {
        request.fence = 1 + pick(dice, 40);
        RK_SET(&request, FENCE);
    }
    if (once_in(dice, 2) && RK_HAS(&request, FENCE)) {
        request.fence_name = any_name(dice);
        RK_SET(&request, FENCE_NAME);
    }
    call(dice, &request);
    if (once_in(dice, 10)) /* the same again */
        (void)bench_call_as(dice->bench, &request, dice->bench->seq, dice->bench->seq);
}

static void do_consume(struct dice *dice)
{
    struct rk_request request = request_of(dice, RK_OP_QUEUE_CONSUME);
    if (once_in(dice, 2)) {
        request.max = 1 + pick(dice, BATCH);
        RK_SET(&request, MAX);
    }
    if (once_in(dice, 2)) {
        request.visibility_ms = 100 + pick(dice, 1500);
        RK_SET(&request, VISIBILITY_MS);
    }
    call(dice, &request);
    if (once_in(dice, 10))
        (void)bench_call_as(dice->bench, &request, dice->bench->seq, dice->bench->seq);
}

static void do_settle(struct dice *dice)
{
    static const enum rk_op ops[] = {
        RK_OP_QUEUE_ACK,    RK_OP_QUEUE_ACK,    RK_OP_QUEUE_NACK,  RK_OP_QUEUE_NACK,
        RK_OP_QUEUE_EXTEND, RK_OP_QUEUE_RETURN, RK_OP_QUEUE_DELETE};
    if (dice->id_count == 0) return;
    struct rk_slice ids[BATCH];
    struct rk_request request;
    rk_request_init(&request, ops[pick(dice, 7)]);
    /* The lines of one call are of one topic: those of several are several calls on Redis.
     */
    request.is_bulk = once_in(dice, 3);
    if (request.op == RK_OP_QUEUE_RETURN) request.is_bulk = true;
    uint32_t known = dice->id_count < IDS_MAX ? dice->id_count : IDS_MAX;
    uint32_t near = known < 12 || once_in(dice, 4) ? known : 12;
    ids[0] =
        text_slice(dice->ids[(dice->id_count - 1 - (uint32_t)pick(dice, near)) % IDS_MAX]);
    request.ids = (struct rk_strings){ids, 1};
    if (request.is_bulk && once_in(dice, 2)) ids[request.ids.count++] = ids[0];
    if (request.is_bulk) RK_SET(&request, IDS);
    if (!request.is_bulk) {
        request.id = ids[0];
        RK_SET(&request, ID);
    }
    if (request.op == RK_OP_QUEUE_NACK && once_in(dice, 2)) {
        request.delay_ms = pick(dice, 2) * pick(dice, 600);
        RK_SET(&request, DELAY_MS);
    }
    if (request.op == RK_OP_QUEUE_NACK && once_in(dice, 4)) {
        request.dead = true;
        RK_SET(&request, DEAD);
    }
    if (request.op == RK_OP_QUEUE_EXTEND) {
        request.visibility_ms = 100 + pick(dice, 900);
        RK_SET(&request, VISIBILITY_MS);
    }
    call(dice, &request);
}

#define MAYBE(field, NAME, value)                                                          \
    do {                                                                                   \
        if (once_in(dice, 3)) {                                                            \
            request.field = (value);                                                       \
            RK_SET(&request, NAME);                                                        \
        }                                                                                  \
    } while (0)

static void do_configure(struct dice *dice)
{
    struct rk_request request = request_of(dice, RK_OP_QUEUE_CONFIGURE);
    MAYBE(visibility_ms, VISIBILITY_MS, 100 + pick(dice, 2000));
    MAYBE(deliveries_max, DELIVERIES_MAX, 1 + pick(dice, 4));
    MAYBE(retry_ms, RETRY_MS, pick(dice, 300));
    MAYBE(retry_max_ms, RETRY_MAX_MS, pick(dice, 1500));
    MAYBE(dedup_ms, DEDUP_MS, pick(dice, 2) * pick(dice, 3000));
    MAYBE(ttl_ms, TTL_MS, pick(dice, 2) * (1 + pick(dice, 4000)));
    MAYBE(messages_max, MESSAGES_MAX, pick(dice, 2) * (20 + pick(dice, 30)));
    MAYBE(bytes_max, BYTES_MAX, pick(dice, 2) * (8000 + pick(dice, 9000)));
    call(dice, &request);
}

static void do_rule(struct dice *dice)
{
    static const enum rk_op ops[] = {RK_OP_QUEUE_PAUSE,   RK_OP_QUEUE_RESUME,
                                     RK_OP_QUEUE_RESUME,  RK_OP_QUEUE_PURGE,
                                     RK_OP_QUEUE_REDRIVE, RK_OP_QUEUE_REDRIVE};
    struct rk_request request = request_of(dice, ops[pick(dice, 6)]);
    if (request.op == RK_OP_QUEUE_PURGE) MAYBE(dead, DEAD, true);
    if (request.op == RK_OP_QUEUE_REDRIVE) {
        MAYBE(limit, LIMIT, 1 + pick(dice, 5));
        /* Only topics of the same tag, which slots that meet by chance do not tell. */
        bool is_tagged = request.topic.data[0] == 'b' || request.topic.data[0] == 'c';
        if (is_tagged) MAYBE(to, TO, text_slice(topics[1 + pick(dice, 3)]));
    }
    call(dice, &request);
}

static void do_read(struct dice *dice)
{
    static const enum rk_op ops[] = {RK_OP_QUEUE_INFO, RK_OP_QUEUE_STATS, RK_OP_QUEUE_PEEK,
                                     RK_OP_QUEUE_PEEK, RK_OP_QUEUE_LIST};
    struct rk_request request = request_of(dice, ops[pick(dice, 5)]);
    if (request.op == RK_OP_QUEUE_STATS && once_in(dice, 2)) request.topic = RK_SLICE_EMPTY;
    if (request.op == RK_OP_QUEUE_LIST) {
        request.topic = RK_SLICE_EMPTY;
        MAYBE(prefix, PREFIX, text_slice("b:"));
        MAYBE(after, AFTER, any_topic(dice));
        MAYBE(limit, LIMIT, 1 + pick(dice, 4));
    }
    if (request.op == RK_OP_QUEUE_PEEK) {
        MAYBE(dead, DEAD, true);
        MAYBE(limit, LIMIT, 1 + pick(dice, 4));
        if (dice->id_count != 0 && once_in(dice, 2))
            request.after = text_slice(dice->ids[pick(dice, dice->id_count) % IDS_MAX]);
    }
    (void)bench_query(dice->bench, &request);
}

static void run(uint64_t seed)
{
    struct dice *dice = calloc(1, sizeof(*dice));
    assert_non_null(dice);
    dice->bench = bench_new();
    rk_random_init(&dice->random, seed);
    for (int step = 0; step < STEPS; step++) {
        uint64_t what = pick(dice, 100);
        if (what < 25) {
            do_publish(dice);
        } else if (what < 45) {
            do_consume(dice);
        } else if (what < 68) {
            do_settle(dice);
        } else if (what < 72) {
            do_configure(dice);
        } else if (what < 77) {
            do_rule(dice);
        } else if (what < 90) {
            do_read(dice);
        } else {
            bench_pass(dice->bench, pick(dice, 400));
        }
        /* What is due already happens on Redis with the next call. */
        bench_pass(dice->bench, 0);
    }
    bench_free(dice->bench);
    free(dice);
}

static void test_two_engines_one_answer(void **state)
{
    (void)state;
    const char *only = getenv("RUKUN_SEED");
    if (only != NULL) {
        run(strtoull(only, NULL, 10));
        return;
    }
    for (uint64_t seed = 1; seed <= SEEDS; seed++)
        run(seed);
}

static void test_one_answer_without_memory(void **state)
{
    (void)state;
    (void)setenv("RUKUN_TWIN_FAILS", "1", 1);
    for (uint64_t seed = 1; seed <= 3; seed++)
        run(seed);
    (void)unsetenv("RUKUN_TWIN_FAILS");
}

/* --- requests that come in any order -------------------------------------------------- */

enum past { UNSEEN, PUBLISHED, CONSUMED };

/* Of one topic's client: what became of its requests. */
struct bounds {
    uint8_t past[SEQS + 8];
    uint64_t top;   /* the highest seq so far */
    uint64_t first; /* the highest first_unanswered so far */
};

/* A repeat brings no higher bound: Redis notes that with the next new request, the machine
 * at once. */
static uint64_t any_bound(struct dice *dice, const struct bounds *bounds, uint64_t seq)
{
    if (bounds->past[seq] != UNSEEN) return 1 + pick(dice, bounds->first);
    uint64_t least = seq > LATE ? seq - LATE : 1;
    return least + pick(dice, seq - least + 1);
}

static void ask_at(struct dice *dice, struct bounds *bounds, struct rk_request *request,
                   uint64_t seq)
{
    uint64_t first = any_bound(dice, bounds, seq);
    (void)bench_call_as(dice->bench, request, seq, first);
    if (seq > bounds->top) bounds->top = seq;
    if (first > bounds->first) bounds->first = first;
    if (bounds->past[seq] == UNSEEN && seq >= bounds->first)
        bounds->past[seq] =
            request->op == RK_OP_QUEUE_PUBLISH ? (uint8_t)PUBLISHED : (uint8_t)CONSUMED;
}

/* The next request, or one of before: a repeat, one that was overtaken, or one whose answer
 * the client does not need any more. */
static void do_late(struct dice *dice, struct bounds *bounds)
{
    struct rk_message_in message;
    struct rk_header header;
    struct rk_request request;
    uint64_t seq = bounds->top + 1 + pick(dice, 3);
    if (bounds->top != 0 && once_in(dice, 2))
        seq = bounds->top - pick(dice, bounds->top < LATE ? bounds->top : LATE);
    bool is_repeat = seq >= bounds->first && bounds->past[seq] != UNSEEN;
    if (is_repeat && bounds->past[seq] == CONSUMED) return;
    rk_request_init(&request, RK_OP_QUEUE_PUBLISH);
    if (!is_repeat && once_in(dice, 3)) request.op = RK_OP_QUEUE_CONSUME;
    request.topic = text_slice(topics[0]);
    RK_SET(&request, TOPIC);
    if (request.op == RK_OP_QUEUE_PUBLISH) {
        snprintf(dice->data, sizeof(dice->data), "%llu", (unsigned long long)seq);
        any_message(dice, &message, &header);
        request.messages = &message;
        request.message_count = 1;
        RK_SET(&request, MESSAGES);
    }
    ask_at(dice, bounds, &request, seq);
}

static void test_no_request_is_done_twice(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= SEEDS; seed++) {
        struct bounds bounds = {.first = 1};
        struct dice *dice = calloc(1, sizeof(*dice));
        assert_non_null(dice);
        dice->bench = bench_new();
        rk_random_init(&dice->random, seed);
        while (bounds.top < SEQS)
            do_late(dice, &bounds);
        bench_free(dice->bench);
        free(dice);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_two_engines_one_answer),
                                       cmocka_unit_test(test_no_request_is_done_twice),
                                       cmocka_unit_test(test_one_answer_without_memory)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
