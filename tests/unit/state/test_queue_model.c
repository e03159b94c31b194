/* Random calls on the machine and on a simple model of it, answer by answer.
 *
 * The model keeps all messages in one array and looks through it for everything. It shares
 * no code with the machine. Now and then the machine is replaced by its own snapshot. */
#include "data_bench.h"

#include "base/assert.h"
#include "base/random.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

enum { READY, DELAYED, IN_FLIGHT, GONE };
enum {
    MESSAGES_MAX = 4096,
    DELIVERIES_MAX = 4096,
    TOPICS = 2, /* and the dead letters of each, at index + TOPICS */
    GROUPS = 3, /* 0: none */
    WORN_OUT = 4,
    RETRY_MS = 200,
    RETRY_MAX_MS = 700,
    VISIBILITY_MS = 1000,
};

static const char *const topic_names[] = {"t0", "t1", "t0/dead", "t1/dead"};
static const char *const group_names[] = {"", "g1", "g2"};

struct model_message {
    int topic;
    int state;
    int priority;
    int group;
    uint64_t number; /* the machine's, learnt from the id that it gave */
    uint64_t order;
    uint64_t at;       /* DELAYED, IN_FLIGHT: when that ends, */
    uint64_t duration; /* and how long it lasts; 0: `at` is a time of the clock */
    uint64_t expires_at;
    uint64_t
        set; /* when the timer was set: of two at one time the lower number goes first */
    uint32_t attempt, deliveries, failures;
    bool is_settled;
    char data[16];
};

struct model_delivery {
    char id[RK_DELIVERY_ID_SIZE];
    int message;
    uint32_t attempt;
};

struct model {
    struct bench *bench;
    struct rk_random random;
    struct model_message messages[MESSAGES_MAX];
    int message_count;
    struct model_delivery deliveries[DELIVERIES_MAX];
    int delivery_count;
    uint64_t orders[2 * TOPICS];
};

static uint64_t pick(struct model *model, uint64_t bound)
{
    return rk_random_below(&model->random, bound);
}

/* --- the model */

static bool is_blocked(const struct model *model, const struct model_message *message)
{
    if (message->group == 0) return false;
    for (int i = 0; i < model->message_count; i++) {
        const struct model_message *other = &model->messages[i];
        if (other->state != GONE && other->topic == message->topic &&
            other->group == message->group && other->order < message->order)
            return true;
    }
    return false;
}

static struct model_message *model_first(struct model *model, int topic)
{
    struct model_message *best = NULL;
    for (int i = 0; i < model->message_count; i++) {
        struct model_message *message = &model->messages[i];
        if (message->topic != topic || message->state != READY) continue;
        if (is_blocked(model, message)) continue;
        if (best == NULL || message->priority > best->priority ||
            (message->priority == best->priority && message->order < best->order))
            best = message;
    }
    return best;
}

/* The same, but those whose time is over go on the way. */
static struct model_message *model_take(struct model *model, int topic)
{
    for (;;) {
        struct model_message *message = model_first(model, topic);
        if (message == NULL || message->expires_at == 0 ||
            model->bench->now < message->expires_at)
            return message;
        message->state = GONE;
    }
}

static void model_bury(struct model *model, struct model_message *message)
{
    message->topic += TOPICS;
    message->order = ++model->orders[message->topic];
    message->state = READY;
    message->expires_at = 0;
}

static bool is_worn_out(const struct model_message *message)
{
    return message->topic < TOPICS && message->deliveries >= WORN_OUT;
}

/* When something happens to the message by itself, 0: never. */
static uint64_t model_due(const struct model_message *message)
{
    if (message->state == GONE) return 0;
    return message->state == READY ? message->expires_at : message->at;
}

static void model_fire(struct model *model, struct model_message *message, uint64_t now)
{
    if (message->state == IN_FLIGHT) {
        message->failures++;
        if (is_worn_out(message))
            model_bury(model, message);
        else
            message->state = READY;
    } else if (message->state == DELAYED &&
               (message->expires_at == 0 || now < message->expires_at)) {
        message->state = READY;
    } else {
        message->state = GONE;
    }
}

/* Everything due up to `until`, in the order of time, then of message number. */
static void model_pass(struct model *model, uint64_t until)
{
    uint64_t now = model->bench->now;
    for (;;) {
        struct model_message *first = NULL;
        for (int i = 0; i < model->message_count; i++) {
            struct model_message *message = &model->messages[i];
            uint64_t due = model_due(message);
            if (due == 0 || due > until) continue;
            if (first == NULL || due < model_due(first) ||
                (due == model_due(first) && message->number < first->number))
                first = message;
        }
        if (first == NULL) return;
        if (model_due(first) > now) now = model_due(first);
        model_fire(model, first, now);
    }
}

/* --- calls on both */

static void do_publish(struct model *model)
{
    RK_ASSERT(model->message_count < MESSAGES_MAX);
    struct model_message *message = &model->messages[model->message_count];
    *message = (struct model_message){
        .topic = (int)pick(model, TOPICS),
        .priority = (int)pick(model, 3) * 4,
        .group = (int)pick(model, GROUPS),
    };
    snprintf(message->data, sizeof(message->data), "%d", model->message_count);
    struct rk_message_in in = {
        .data = {text_slice(message->data), RK_ENCODING_JSON},
        .priority = (uint8_t)message->priority,
        .group = text_slice(group_names[message->group]),
    };
    uint64_t now = model->bench->now;
    if (pick(model, 4) == 0) {
        in.delay_ms = 1 + pick(model, 800);
        message->state = DELAYED;
        message->at = now + in.delay_ms;
        message->duration = in.delay_ms;
    } else if (pick(model, 6) == 0) {
        in.deliver_at = now + 1 + pick(model, 800);
        message->state = DELAYED;
        message->at = in.deliver_at;
    }
    if (pick(model, 5) == 0) {
        in.ttl_ms = 1 + pick(model, 3000);
        message->expires_at = now + in.ttl_ms;
    }
    message->order = ++model->orders[message->topic];
    model->message_count++;

    struct rk_request request = {.op = RK_OP_QUEUE_PUBLISH,
                                 .topic = text_slice(topic_names[message->topic]),
                                 .messages = &in,
                                 .message_count = 1};
    RK_SET(&request, TOPIC);
    RK_SET(&request, MESSAGES);
    const struct rk_reply *reply = bench_call(model->bench, &request);
    assert_int_equal(reply->status, RK_OK);
    struct rk_delivery_id id;
    assert_int_equal(rk_delivery_id_parse(&id, reply->id), RK_OK);
    message->number = id.message;
}

static void do_consume(struct model *model)
{
    int topic = (int)pick(model, 2 * TOPICS);
    struct rk_request request = {.op = RK_OP_QUEUE_CONSUME,
                                 .topic = text_slice(topic_names[topic]),
                                 .max = 1 + pick(model, 4)};
    RK_SET(&request, TOPIC);
    RK_SET(&request, MAX);
    const struct rk_reply *reply = bench_call(model->bench, &request);
    assert_int_equal(reply->status, RK_OK);
    for (uint64_t i = 0; i < request.max; i++) {
        struct model_message *message = model_take(model, topic);
        if (message == NULL) {
            assert_int_equal(reply->message_count, i);
            return;
        }
        assert_true(i < reply->message_count);
        const struct rk_delivery_out *out = &reply->messages[i];
        message->state = IN_FLIGHT;
        message->at = model->bench->now + VISIBILITY_MS;
        message->duration = VISIBILITY_MS;
        message->attempt++;
        message->deliveries++;
        message->is_settled = false;
        assert_true(is_text(out->message.bytes, message->data));
        assert_int_equal(out->attempt, message->attempt);
        struct model_delivery *delivery =
            &model->deliveries[model->delivery_count++ % DELIVERIES_MAX];
        memcpy(delivery->id, out->id.data, out->id.size);
        delivery->id[out->id.size] = '\0';
        delivery->message = (int)(message - model->messages);
        delivery->attempt = message->attempt;
    }
    assert_int_equal(reply->message_count, request.max);
}

static enum rk_status model_settle(struct model *model, enum rk_op op,
                                   const struct model_delivery *delivery, uint64_t delay_ms,
                                   bool has_delay)
{
    struct model_message *message = &model->messages[delivery->message];
    uint64_t now = model->bench->now;
    if (message->state == GONE) return RK_EGONE;
    if (delivery->attempt < message->attempt || message->is_settled) return RK_ESTALE;
    bool was_in_flight = message->state == IN_FLIGHT;
    if (op == RK_OP_QUEUE_ACK) {
        message->state = GONE;
        return RK_OK;
    }
    if (message->topic >= TOPICS && !was_in_flight) return RK_ESTALE;
    if (op == RK_OP_QUEUE_EXTEND) {
        message->state = IN_FLIGHT;
        message->at = now + delay_ms;
        message->duration = delay_ms;
        return RK_OK;
    }
    if (op == RK_OP_QUEUE_RETURN) {
        if (!was_in_flight) return RK_OK;
        message->deliveries--;
        message->is_settled = true;
        message->state = READY;
        return RK_OK;
    }
    if (was_in_flight) message->failures++;
    message->is_settled = true;
    if (is_worn_out(message)) {
        model_bury(model, message);
        return RK_OK;
    }
    uint64_t backoff = RETRY_MS;
    if (message->topic >= TOPICS) backoff = 1000;
    uint64_t most = message->topic >= TOPICS ? 300000 : RETRY_MAX_MS;
    for (uint32_t i = 1; i < message->failures; i++)
        backoff = backoff * 2 < most ? backoff * 2 : most;
    uint64_t wait = has_delay ? delay_ms : backoff;
    message->state = wait == 0 ? READY : DELAYED;
    message->at = now + wait;
    message->duration = wait;
    return RK_OK;
}

static void do_settle(struct model *model)
{
    if (model->delivery_count == 0) return;
    /* Mostly a recent one, at times any that ever was. */
    uint64_t known =
        (uint64_t)(model->delivery_count < DELIVERIES_MAX ? model->delivery_count
                                                          : DELIVERIES_MAX);
    uint64_t back = pick(model, pick(model, 4) == 0 || known < 12 ? known : 12);
    const struct model_delivery *delivery =
        &model->deliveries[((uint64_t)model->delivery_count - 1 - back) % DELIVERIES_MAX];
    static const enum rk_op ops[] = {RK_OP_QUEUE_ACK,    RK_OP_QUEUE_ACK,
                                     RK_OP_QUEUE_ACK,    RK_OP_QUEUE_NACK,
                                     RK_OP_QUEUE_EXTEND, RK_OP_QUEUE_RETURN};
    struct rk_slice ids[1] = {text_slice(delivery->id)};
    struct rk_request request = {
        .op = ops[pick(model, 6)], .ids = {ids, 1}, .is_bulk = true};
    RK_SET(&request, IDS);
    bool has_delay = pick(model, 2) == 0;
    uint64_t delay_ms = pick(model, 3) * 300;
    if (request.op == RK_OP_QUEUE_NACK && has_delay) {
        request.delay_ms = delay_ms;
        RK_SET(&request, DELAY_MS);
    }
    if (request.op == RK_OP_QUEUE_EXTEND) {
        delay_ms += 100;
        request.visibility_ms = delay_ms;
        RK_SET(&request, VISIBILITY_MS);
    }
    enum rk_status expected =
        model_settle(model, request.op, delivery, delay_ms, has_delay);
    const struct rk_reply *reply = bench_call(model->bench, &request);
    assert_int_equal(reply->status, RK_OK);
    if (request.op == RK_OP_QUEUE_RETURN) return;
    assert_int_equal(reply->result_count, 1);
    assert_int_equal(reply->results[0].status, expected);
}

static void do_redrive(struct model *model)
{
    int topic = (int)pick(model, TOPICS);
    uint64_t limit = 1 + pick(model, 5);
    struct rk_request request = {
        .op = RK_OP_QUEUE_REDRIVE, .topic = text_slice(topic_names[topic]), .limit = limit};
    RK_SET(&request, TOPIC);
    RK_SET(&request, LIMIT);
    uint64_t count = 0;
    while (count < limit) {
        struct model_message *first = NULL;
        for (int i = 0; i < model->message_count; i++) {
            struct model_message *message = &model->messages[i];
            if (message->topic == topic + TOPICS && message->state != GONE &&
                message->state != IN_FLIGHT &&
                (first == NULL || message->order < first->order))
                first = message;
        }
        if (first == NULL) break;
        first->topic = topic;
        first->order = ++model->orders[topic];
        first->state = READY;
        first->deliveries = first->failures = 0;
        first->is_settled = true;
        first->expires_at = 0;
        count++;
    }
    assert_int_equal(bench_call(model->bench, &request)->count, count);
}

static void check_counts(struct model *model)
{
    for (int topic = 0; topic < 2 * TOPICS; topic++) {
        uint64_t counts[4] = {0};
        uint64_t poppable = 0;
        for (int i = 0; i < model->message_count; i++) {
            const struct model_message *message = &model->messages[i];
            if (message->topic != topic) continue;
            counts[message->state]++;
            poppable += message->state == READY && !is_blocked(model, message);
        }
        struct rk_slice name = text_slice(topic_names[topic]);
        assert_int_equal(rk_machine_ready_count(model->bench->machine, name), poppable);
        struct rk_request request = {.op = RK_OP_QUEUE_INFO, .topic = name};
        const struct rk_reply *reply = bench_query(model->bench, &request);
        if (reply->status != RK_OK) {
            assert_int_equal(counts[READY] + counts[DELAYED] + counts[IN_FLIGHT], 0);
            continue;
        }
        assert_int_equal(reply->topic_stats->ready, counts[READY]);
        assert_int_equal(reply->topic_stats->delayed, counts[DELAYED]);
        assert_int_equal(reply->topic_stats->in_flight, counts[IN_FLIGHT]);
    }
}

/* Durations begin again in the machine that takes over. */
static void do_restore(struct model *model)
{
    if (bench_twin() != NULL) return;
    for (int i = 0; i < model->message_count; i++) {
        struct model_message *message = &model->messages[i];
        bool is_running = message->state == DELAYED || message->state == IN_FLIGHT;
        if (is_running && message->duration != 0)
            message->at = model->bench->now + message->duration;
    }
    bench_restore(model->bench);
}

static void configure(struct model *model)
{
    for (int topic = 0; topic < TOPICS; topic++) {
        struct rk_request request = {.op = RK_OP_QUEUE_CONFIGURE,
                                     .topic = text_slice(topic_names[topic]),
                                     .visibility_ms = VISIBILITY_MS,
                                     .deliveries_max = WORN_OUT,
                                     .retry_ms = RETRY_MS,
                                     .retry_max_ms = RETRY_MAX_MS};
        RK_SET(&request, TOPIC);
        RK_SET(&request, VISIBILITY_MS);
        RK_SET(&request, DELIVERIES_MAX);
        RK_SET(&request, RETRY_MS);
        RK_SET(&request, RETRY_MAX_MS);
        assert_int_equal(bench_call(model->bench, &request)->status, RK_OK);
        /* The dead letters' topic too, so that its visibility is the model's. */
        request.topic = text_slice(topic_names[topic + TOPICS]);
        request.present &= ~(uint64_t)(RK_FIELD_BIT_DELIVERIES_MAX | RK_FIELD_BIT_RETRY_MS |
                                       RK_FIELD_BIT_RETRY_MAX_MS);
        request.deliveries_max = request.retry_ms = request.retry_max_ms = 0;
        assert_int_equal(bench_call(model->bench, &request)->status, RK_OK);
    }
}

static void run(uint64_t seed, int steps)
{
    struct model *model = calloc(1, sizeof(*model));
    assert_non_null(model);
    model->bench = bench_new();
    rk_random_init(&model->random, seed);
    configure(model);
    for (int step = 0; step < steps; step++) {
        uint64_t what = pick(model, 100);
        if (what < 25) {
            do_publish(model);
        } else if (what < 55) {
            do_consume(model);
        } else if (what < 85) {
            do_settle(model);
        } else if (what < 96) {
            uint64_t ms = pick(model, 400);
            model_pass(model, model->bench->now + ms);
            bench_pass(model->bench, ms);
        } else if (what < 98) {
            do_redrive(model);
        } else {
            do_restore(model);
        }
        if (bench_twin() != NULL) {
            /* What is due already happens there with the next call. */
            model_pass(model, model->bench->now);
            bench_pass(model->bench, 0);
        }
        if (step % 7 == 0) check_counts(model);
    }
    check_counts(model);
    bench_check_replay(model->bench);
    bench_free(model->bench);
    free(model);
}

static void test_machine_agrees_with_the_model(void **state)
{
    (void)state;
    uint64_t seeds = bench_twin() != NULL ? 5 : 40; /* a twin takes its time */
    for (uint64_t seed = 1; seed <= seeds; seed++)
        run(seed, 1500);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_machine_agrees_with_the_model),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
