/* Queues: what was published is delivered and acknowledged in the end, nothing comes after
 * its acknowledgement, and nothing comes twice within its visibility timeout. */
#include "client.h"

#include "base/assert.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

enum publish { PUBLISH_OPEN, PUBLISH_OK, PUBLISH_FAILED };

struct message {
    enum publish publish;
    uint32_t topic;
    uint32_t deliveries;
    uint64_t acked_us;  /* when the answer came; 0: not */
    bool may_be_acked;  /* an ack with unknown outcome is under way */
    uint64_t quiet_us;  /* before that no other delivery may come */
    uint64_t latest_us; /* when the latest delivery was answered */
    uint32_t latest_attempt;
    char id[96]; /* the message's, once known */
};

struct sim_queues {
    struct message *messages;
    uint64_t count, capacity;
};

void queues_init(struct sim *sim)
{
    sim->queues = sim_alloc(1, sizeof(*sim->queues));
}

void queues_free(struct sim *sim)
{
    if (sim->queues == NULL) return;
    free(sim->queues->messages);
    free(sim->queues);
}

static struct message *message_of(struct sim *sim, uint64_t number)
{
    RK_ASSERT(number < sim->queues->count);
    return &sim->queues->messages[number];
}

static void id_check(struct sim *sim, uint64_t number, struct rk_slice id)
{
    struct message *message = message_of(sim, number);
    RK_ASSERT(id.size < sizeof(message->id));
    if (message->id[0] == '\0')
        memcpy(message->id, id.data, id.size);
    else if (!rk_slice_is_equal(rk_slice_of_string(message->id), id))
        sim_fail(sim, "message %" PRIu64 " was published twice: as %s and %.*s", number,
                 message->id, (int)id.size, (const char *)id.data);
}

/* --- publish ------------------------------------------------------------------------- */

static void published(struct sim_client *client, struct sim_op *op, enum op_outcome outcome,
                      const struct rk_reply *reply)
{
    struct message *message = message_of(client->sim, op->number);
    if (outcome == OP_UNKNOWN) return;
    message->publish = reply->status == RK_OK ? PUBLISH_OK : PUBLISH_FAILED;
    if (reply->status == RK_OK) id_check(client->sim, op->number, reply->id);
}

static void publish(struct sim_client *client)
{
    struct sim *sim = client->sim;
    struct sim_queues *queues = sim->queues;
    if (queues->count == queues->capacity) {
        queues->capacity = 2 * queues->capacity + 64;
        queues->messages =
            realloc(queues->messages, queues->capacity * sizeof(*queues->messages));
        RK_ASSERT(queues->messages != NULL);
    }
    struct sim_op *op = op_new(client, RK_OP_QUEUE_PUBLISH, published);
    op->number = queues->count++;
    struct message *message = message_of(sim, op->number);
    memset(message, 0, sizeof(*message));
    message->topic = (uint32_t)sim_below(sim, sim->config.topics);
    op->request.topic = op_text(op, "t%u", message->topic);
    op->message.data.bytes = op_text(op, "%" PRIu64, op->number);
    op->message.data.encoding = RK_ENCODING_RAW;
    if (sim_chance(sim, 30)) op->message.publish_id = op_text(op, "p%" PRIu64, op->number);
    if (sim_chance(sim, 10)) op->message.delay_ms = sim_between(sim, 1, 500);
    op->message.priority = sim_chance(sim, 20) ? (uint8_t)sim_below(sim, 10) : 0;
    op->request.messages = &op->message;
    op->request.message_count = 1;
    op_send(op);
}

/* --- consume ------------------------------------------------------------------------- */

static void delivered(struct sim_client *client, struct sim_op *op,
                      const struct rk_delivery_out *out, struct sim_delivery *delivery)
{
    struct sim *sim = client->sim;
    char text[32] = "";
    size_t size = out->message.bytes.size;
    memcpy(text, out->message.bytes.data, size < 31 ? size : 31);
    uint64_t number = strtoull(text, NULL, 10);
    if (number >= sim->queues->count) sim_fail(sim, "message %s was never published", text);
    struct message *message = message_of(sim, number);
    if (message->publish == PUBLISH_FAILED || message->topic != op->place)
        sim_fail(sim, "message %s should not be in topic %u", text, op->place);
    id_check(sim, number, out->message_id);
    if (message->acked_us != 0 && message->acked_us < op->start_us)
        sim_fail(sim, "message %s is delivered after it was acknowledged", text);
    bool is_latest = out->attempt >= message->latest_attempt; /* else its answer was late */
    if (is_latest && message->quiet_us > sim->now_us)
        sim_fail(sim,
                 "message %s is delivered again (attempt %u) within its visibility timeout",
                 text, out->attempt);
    sim_say(sim, "%s: message %s, attempt %u, visible in %u ms", client->name, text,
            out->attempt, (unsigned)op->request.visibility_ms);
    sim->counts.deliveries++;
    message->deliveries++;
    *delivery = (struct sim_delivery){.message = number + 1, .attempt = out->attempt};
    if (is_latest) {
        message->latest_us = sim->now_us;
        message->latest_attempt = out->attempt;
        /* A tenth for clocks that differ. What was dropped on its way may go back at once.
         */
        message->quiet_us =
            op->was_asked_twice ? 0 : op->start_us + op->request.visibility_ms * 900;
        delivery->quiet_us = message->quiet_us;
    }
    RK_ASSERT(out->id.size < sizeof(delivery->id));
    memcpy(delivery->id, out->id.data, out->id.size);
}

static void consumed(struct sim_client *client, struct sim_op *op, enum op_outcome outcome,
                     const struct rk_reply *reply)
{
    if (outcome != OP_ANSWERED || reply->status != RK_OK) return;
    if (reply->message_count > op->request.max)
        sim_fail(client->sim, "more messages than asked for");
    for (uint32_t i = 0; i < reply->message_count; i++)
        delivered(client, op, &reply->messages[i], &client->deliveries[i]);
}

static void consume(struct sim_client *client, uint32_t topic)
{
    struct sim *sim = client->sim;
    struct sim_op *op = op_new(client, RK_OP_QUEUE_CONSUME, consumed);
    op->place = topic;
    op->request.topic = op_text(op, "t%u", topic);
    op->request.max = sim_chance(sim, 50) ? 1 : CLIENT_DELIVERIES_MAX;
    if (op->request.max > 1) {
        RK_SET(&op->request, MAX);
        op->request.is_bulk = true;
    }
    op->request.wait_ms = sim_chance(sim, 50) ? 0 : sim_between(sim, 100, 2000);
    RK_SET(&op->request, WAIT_MS);
    op->request.visibility_ms = sim_between(sim, 300, 2500);
    RK_SET(&op->request, VISIBILITY_MS);
    op_send(op);
}

/* --- ack, nack, extend --------------------------------------------------------------- */

static bool is_gone(const struct rk_reply *reply)
{
    return reply->status == RK_ESTALE || reply->status == RK_EGONE ||
           reply->status == RK_ENOENT;
}

static void gone_check(struct sim_client *client, struct sim_op *op,
                       const struct rk_reply *reply)
{
    if (is_gone(reply) && client->sim->now_us < op->floor)
        sim_fail(client->sim, "delivery %s is %s within its visibility timeout",
                 op->texts[0], rk_status_text(reply->status));
}

static void acked(struct sim_client *client, struct sim_op *op, enum op_outcome outcome,
                  const struct rk_reply *reply)
{
    struct sim *sim = client->sim;
    struct message *message = message_of(sim, op->number);
    if (outcome != OP_ANSWERED) {
        message->may_be_acked = true;
        return;
    }
    gone_check(client, op, reply);
    if (reply->status != RK_OK) return;
    if (!reply->ack) sim_fail(sim, "an ack is answered neither so nor so");
    if (message->latest_attempt > op->extra && message->latest_us < op->start_us)
        sim_fail(sim, "the ack of delivery %s is taken after attempt %u", op->texts[0],
                 message->latest_attempt);
    sim->counts.acks++;
    if (message->acked_us == 0) message->acked_us = sim->now_us;
}

static void nacked(struct sim_client *client, struct sim_op *op, enum op_outcome outcome,
                   const struct rk_reply *reply)
{
    if (outcome == OP_ANSWERED) gone_check(client, op, reply);
}

static void extended(struct sim_client *client, struct sim_op *op, enum op_outcome outcome,
                     const struct rk_reply *reply)
{
    struct message *message = message_of(client->sim, op->number);
    if (outcome != OP_ANSWERED) return;
    gone_check(client, op, reply);
    if (reply->status != RK_OK || op->was_asked_twice || op->floor == 0) return;
    uint64_t quiet = op->start_us + 900 * op->request.visibility_ms;
    message->quiet_us = quiet;
    for (int i = 0; i < CLIENT_DELIVERIES_MAX; i++)
        if (client->deliveries[i].message == op->number + 1)
            client->deliveries[i].quiet_us = quiet;
}

static struct sim_op *delivery_op(struct sim_client *client, enum rk_op kind, op_done done,
                                  struct sim_delivery *delivery)
{
    struct sim_op *op = op_new(client, kind, done);
    op->number = delivery->message - 1;
    op->extra = delivery->attempt;
    op->floor = delivery->quiet_us;
    op->request.id = op_text(op, "%s", delivery->id);
    return op;
}

bool queues_go_on(struct sim_client *client)
{
    struct sim *sim = client->sim;
    struct sim_delivery *delivery = NULL;
    for (int i = 0; i < CLIENT_DELIVERIES_MAX; i++)
        if (client->deliveries[i].message != 0) delivery = &client->deliveries[i];
    if (delivery == NULL) return false;
    struct message *message = message_of(sim, delivery->message - 1);
    uint64_t pick = sim->is_draining ? 0 : sim_below(sim, 100);
    struct sim_op *op;
    if (pick < 50) {
        op = delivery_op(client, RK_OP_QUEUE_ACK, acked, delivery);
        delivery->message = 0;
    } else if (pick < 65) {
        op = delivery_op(client, RK_OP_QUEUE_NACK, nacked, delivery);
        op->request.delay_ms = sim_chance(sim, 50) ? 0 : sim_between(sim, 1, 300);
        RK_SET(&op->request, DELAY_MS);
        delivery->message = 0;
        if (message->quiet_us == delivery->quiet_us) message->quiet_us = 0;
    } else if (pick < 75) {
        op = delivery_op(client, RK_OP_QUEUE_EXTEND, extended, delivery);
        op->request.visibility_ms = sim_between(sim, 300, 2500);
        RK_SET(&op->request, VISIBILITY_MS);
        uint64_t quiet = sim->now_us + 900 * op->request.visibility_ms;
        bool is_latest = message->latest_attempt == delivery->attempt;
        if (is_latest && quiet < message->quiet_us) message->quiet_us = quiet;
        if (quiet < delivery->quiet_us) delivery->quiet_us = quiet;
        op->floor = delivery->quiet_us;
        if (!is_latest) op->floor = 0;
    } else {
        if (pick < 85) delivery->message = 0; /* never heard of again */
        return false;
    }
    op_send(op);
    return true;
}

/* --- the rest ------------------------------------------------------------------------ */

static void configured(struct sim_client *client, struct sim_op *op,
                       enum op_outcome outcome, const struct rk_reply *reply)
{
    (void)client;
    (void)op;
    (void)outcome;
    (void)reply;
}

void queues_configure(struct sim_client *client, uint32_t topic)
{
    struct sim_op *op = op_new(client, RK_OP_QUEUE_CONFIGURE, configured);
    op->request.topic = op_text(op, "t%u", topic);
    op->request.deliveries_max = 1000000;
    op->request.retry_ms = 50;
    op->request.retry_max_ms = 200;
    RK_SET(&op->request, DELIVERIES_MAX);
    RK_SET(&op->request, RETRY_MS);
    RK_SET(&op->request, RETRY_MAX_MS);
    op_send(op);
    op->give_up_us = UINT64_MAX;
}

bool queues_next(struct sim_client *client)
{
    struct sim *sim = client->sim;
    for (int i = 0; i < CLIENT_DELIVERIES_MAX; i++)
        if (client->deliveries[i].message != 0) return false;
    if (sim_chance(sim, 50))
        publish(client);
    else
        consume(client, (uint32_t)sim_below(sim, sim->config.topics));
    return true;
}

static bool is_open(const struct message *message)
{
    return message->publish == PUBLISH_OK && message->acked_us == 0 &&
           !message->may_be_acked && sim_is_heeded(SIM_RULE_KEPT);
}

bool queues_drain(struct sim_client *client)
{
    struct sim *sim = client->sim;
    for (uint64_t i = 0; i < sim->queues->count; i++) {
        const struct message *message = message_of(sim, i);
        if (!is_open(message) || sim_chance(sim, 20)) continue;
        consume(client, message->topic);
        return true;
    }
    return false;
}

bool queues_are_empty(const struct sim *sim)
{
    for (uint64_t i = 0; i < sim->queues->count; i++)
        if (is_open(&sim->queues->messages[i])) return false;
    return true;
}

void queues_end(struct sim *sim)
{
    for (uint64_t i = 0; i < sim->queues->count; i++)
        if (is_open(message_of(sim, i)))
            sim_broken(sim, SIM_RULE_KEPT,
                       "message %" PRIu64 " of topic t%u is lost: published, delivered %u "
                       "times, never acknowledged",
                       i, message_of(sim, i)->topic, message_of(sim, i)->deliveries);
}
