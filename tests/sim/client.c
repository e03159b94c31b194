#include "client.h"

#include "base/alloc.h"
#include "base/assert.h"
#include "base/hash.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

struct answer {
    struct sim_op *op;
    uint64_t call;
    struct rk_buf bytes;
    /* The position goes beside the reply, as in the answers of rukund. */
    uint64_t history;
    struct rk_position_item positions[SIM_GROUPS_MAX];
    uint32_t position_count;
};

static void next_after(struct sim_client *client, uint64_t delay_us);

/* --- operations ---------------------------------------------------------------------- */

static void op_release(void *context)
{
    struct sim_op *op = context;
    if (--op->references == 0) free(op);
}

static struct sim_op *op_retain(struct sim_op *op)
{
    op->references++;
    return op;
}

struct sim_op *op_new(struct sim_client *client, enum rk_op kind, op_done done)
{
    struct sim_op *op = sim_alloc(1, sizeof(*op));
    op->client = client;
    op->references = 1;
    op->done = done;
    rk_request_init(&op->request, kind);
    op->is_keepalive = kind == RK_OP_SESSION_KEEPALIVE;
    if (op->is_keepalive) {
        RK_ASSERT(client->keepalive == NULL);
        client->keepalive = op;
    } else {
        RK_ASSERT(client->op == NULL);
        client->op = op;
        op->is_probe = client->at > client->sim->config.clients;
        op->is_anonymous = !op->is_probe && sim_chance(client->sim, 20);
    }
    if (!op->is_keepalive && !op->is_anonymous) {
        op->request.client = rk_slice_of_string(client->name);
        op->request.seq = ++client->seq;
        op->request.first_unanswered = client->seq;
    }
    return op;
}

struct rk_slice op_text(struct sim_op *op, const char *format, ...)
{
    va_list arguments;
    RK_ASSERT(op->text_count < sizeof(op->texts) / sizeof(op->texts[0]));
    char *out = op->texts[op->text_count++];
    va_start(arguments, format);
    int size = vsnprintf(out, CLIENT_TEXT_MAX, format, arguments);
    va_end(arguments);
    RK_ASSERT(size >= 0 && size < CLIENT_TEXT_MAX);
    return rk_slice_of_string(out);
}

uint64_t client_belief_us(const struct sim_client *client, uint64_t from_us, uint64_t ms)
{
    uint64_t margin = ms / 10 > 200 ? ms / 10 : 200;
    return ms <= margin ? from_us : from_us + (ms - margin) * 1000000000 / client->rate_ppm;
}

static void op_over(struct sim_op *op, enum op_outcome outcome,
                    const struct rk_reply *reply)
{
    struct sim_client *client = op->client;
    struct sim *sim = client->sim;
    op->is_over = true;
    if (op->is_keepalive)
        client->keepalive = NULL;
    else
        client->op = NULL;
    if (outcome == OP_UNKNOWN)
        sim->counts.unknown++;
    else if (reply->status == RK_OK)
        sim->counts.ok++;
    else
        sim->counts.refused++;
    if (sim->is_verbose)
        sim_say(sim, "%s: %s seq %u: %s %s", client->name, rk_op_info(op->request.op)->name,
                (unsigned)op->request.seq,
                outcome == OP_UNKNOWN ? "unknown" : rk_status_text(reply->status),
                outcome == OP_UNKNOWN ? "" : reply->text);
    sim_trace(sim, outcome == OP_UNKNOWN ? 7777 : (uint64_t)(int64_t)reply->status);
    op->done(client, op, outcome, reply);
    if (sim->is_draining && outcome == OP_ANSWERED) client->drained++;
    if (!op->is_keepalive)
        next_after(client,
                   sim_below(sim, 2000 * (sim->is_draining ? 5 : sim->config.gap_ms)));
    op_release(op);
}

/* --- attempts ------------------------------------------------------------------------ */

static void attempt_begin(struct sim_op *op);

static struct sim_attempt *attempt_find(struct sim_op *op, uint64_t call)
{
    for (uint32_t i = 0; i < SIM_ATTEMPTS_MAX; i++)
        if (op->attempts[i].call == call) return &op->attempts[i];
    return NULL;
}

static void again(struct sim *sim, struct sim_node *node, void *context, uint64_t number)
{
    struct sim_op *op = context;
    (void)node;
    if (!op->is_over && op->attempt_count == number) {
        if (sim->now_us > op->give_up_us || op->is_lost)
            op_over(op, OP_UNKNOWN, NULL);
        else
            attempt_begin(op);
    }
    op_release(op);
}

static void again_after(struct sim_op *op, uint64_t delay_us)
{
    struct sim *sim = op->client->sim;
    sim_world_after(sim, delay_us, NULL, again, op_retain(op), op->attempt_count)->drop =
        op_release;
}

static void drop_call(struct sim *sim, struct sim_node *node, void *context,
                      uint64_t number)
{
    (void)sim;
    (void)context;
    sim_node_touch(node);
    rk_host_drop(node->host, number);
}

static void timed_out(struct sim *sim, struct sim_node *node, void *context,
                      uint64_t number)
{
    struct sim_op *op = context;
    (void)node;
    struct sim_attempt *attempt = op->is_over ? NULL : attempt_find(op, number);
    if (attempt != NULL) {
        struct sim_node *at = attempt->node;
        if (op->is_probe || sim_chance(sim, 50)) {
            if (sim_node_is_up(at) && at->life == attempt->life)
                sim_after(sim, sim_between(sim, 50, 1000), at, drop_call, NULL, number);
            attempt->call = 0;
        }
        op->is_lost = op->is_anonymous;
        again_after(op, sim_below(sim, 20000));
    }
    op_release(op);
}

static void call_arrives(struct sim *sim, struct sim_node *node, void *context,
                         uint64_t number)
{
    struct sim_op *op = context;
    sim->counts.calls++;
    sim_node_touch(node);
    rk_host_call(node->host, number, &op->request);
    op_release(op);
}

static void call_travels(struct sim *sim, struct sim_node *node, void *context,
                         uint64_t number)
{
    struct sim_op *op = context;
    struct sim_attempt *attempt = attempt_find(op, number);
    if (sim_node_is_up(node)) {
        if (attempt != NULL) attempt->life = node->life;
        sim_after(sim, 0, node, call_arrives, op, number)->drop = op_release;
        return;
    }
    if (attempt != NULL && !op->is_over) {
        attempt->call = 0;
        again_after(op, sim_between(sim, 500, 30000));
    }
    op_release(op);
}

static void attempt_begin(struct sim_op *op)
{
    struct sim_client *client = op->client;
    struct sim *sim = client->sim;
    struct sim_attempt *attempt = attempt_find(op, 0);
    if (attempt == NULL) {
        op_over(op, OP_UNKNOWN, NULL);
        return;
    }
    if (op->attempt_count++ > 0) {
        op->was_asked_twice = true;
        client->favourite = (uint32_t)sim_below(sim, sim->config.slots);
    }
    uint32_t to = sim_chance(sim, 85) ? client->favourite
                                      : (uint32_t)sim_below(sim, sim->config.slots);
    attempt->call = ++sim->calls;
    attempt->node = &sim->nodes[to];
    attempt->life = attempt->node->life;
    sim_world_after(sim, sim_between(sim, 50, 1000), attempt->node, call_travels,
                    op_retain(op), attempt->call)
        ->drop = op_release;
    uint64_t patience = op->request.wait_ms + sim_between(sim, sim->config.election_ms,
                                                          4 * sim->config.election_ms);
    if (op->is_probe) patience = sim->config.election_ms / 2;
    sim_world_after(sim, 1000 * patience, NULL, timed_out, op_retain(op), attempt->call)
        ->drop = op_release;
}

void op_send(struct sim_op *op)
{
    struct sim *sim = op->client->sim;
    struct rk_api_error error = {0};
    if (!op->is_probe && sim_chance(sim, 30))
        op->request.deadline_ms = op->request.wait_ms + sim_between(sim, 300, 3000);
    enum rk_status status = rk_request_check(&op->request, &error);
    if (status != RK_OK)
        sim_fail(sim, "a bad request of %s: %s %s", rk_op_info(op->request.op)->name,
                 error.field, error.text);
    op->start_us = sim->now_us;
    uint64_t patience = sim_chance(sim, 15) ? 500 : sim_between(sim, 3000, 20000);
    op->give_up_us = sim->now_us + 1000 * (sim->is_healed ? 60000 : patience);
    attempt_begin(op);
}

/* --- answers ------------------------------------------------------------------------- */

static bool is_final(struct sim *sim, const struct sim_op *op, const struct rk_reply *reply)
{
    if (op->request.op == RK_OP_CLUSTER_TRANSFER) return true;
    if (op->request.op >= RK_OP_CLUSTER_ADD && op->request.op <= RK_OP_CLUSTER_REPLACE &&
        (reply->status == RK_EINVAL || reply->status == RK_ELIMIT))
        return true;
    switch (reply->status) {
    case RK_OK:
    case RK_EHELD:
    case RK_ETIMEOUT:
    case RK_EDEADLOCK:
    case RK_ENOTOWNER:
    case RK_ESTALE:
    case RK_EGONE:
    case RK_ESESSION:
    case RK_EVERSION:
    case RK_EEXIST:
    case RK_ENOENT:
    case RK_ECANCELLED: return true;
    case RK_EUNAVAILABLE:
    case RK_EBUSY:
    case RK_EFULL:
    case RK_ENOTLEADER:
        if (reply->status == RK_EFULL) sim->counts.full_refused++;
        if (reply->outcome != RK_OUTCOME_NOT_DONE)
            sim_fail(sim, "%s is answered with an unknown outcome",
                     rk_status_text(reply->status));
        return false;
    case RK_EUNKNOWN: return false;
    case RK_ERANGE:
        /* A position ahead of the log: only one that is not ours, or not yet. */
        if (op->request.position.history != 0) return false;
        break;
    default: break;
    }
    sim_fail(sim, "%s of %s is answered: %s %s", rk_op_info(op->request.op)->name,
             op->client->name, rk_status_text(reply->status), reply->text);
}

static void position_keep(struct answer *answer, const struct rk_reply *reply)
{
    struct rk_position_item one;
    struct rk_position position = rk_reply_position(reply, &one);
    answer->history = position.history;
    RK_ASSERT(position.count <= SIM_GROUPS_MAX);
    answer->position_count = position.count;
    for (uint32_t i = 0; i < position.count; i++)
        answer->positions[i] = position.items[i];
}

static void position_take(struct sim_client *client, const struct answer *answer)
{
    if (answer->history == 0) return;
    if (client->history != 0 && client->history != answer->history)
        sim_fail(client->sim, "the history changed");
    client->history = answer->history;
    for (uint32_t i = 0; i < answer->position_count; i++) {
        const struct rk_position_item *item = &answer->positions[i];
        RK_ASSERT(item->group < SIM_GROUPS_MAX);
        if (client->positions[item->group] < item->index)
            client->positions[item->group] = item->index;
    }
}

static void answer_free(void *context)
{
    struct answer *answer = context;
    rk_buf_fini(&answer->bytes);
    op_release(answer->op);
    free(answer);
}

static void answered(struct sim *sim, struct sim_node *node, void *context, uint64_t number)
{
    struct answer *answer = context;
    struct sim_op *op = answer->op;
    struct sim_attempt *attempt = attempt_find(op, answer->call);
    struct rk_reply reply;
    struct rk_arena arena;
    (void)node;
    (void)number;
    rk_arena_init(&arena);
    if (!op->is_over && attempt != NULL) {
        if (rk_reply_decode(&reply, rk_buf_slice(&answer->bytes), &arena) != RK_OK)
            sim_fail(sim, "an answer can not be read");
        attempt->call = 0;
        if (is_final(sim, op, &reply)) {
            if (reply.status == RK_OK) position_take(op->client, answer);
            op_over(op, OP_ANSWERED, &reply);
        } else if (reply.status == RK_EUNKNOWN &&
                   (op->is_anonymous || (sim_chance(sim, 20) && !sim->is_healed))) {
            op_over(op, OP_UNKNOWN, NULL);
        } else {
            again_after(op, sim_between(sim, 1000, 50000));
        }
    }
    rk_arena_fini(&arena);
    answer_free(answer);
}

/* The clients, the operator, and one probe a group. */
static uint32_t callers(const struct sim *sim)
{
    return sim->config.clients + 1 + sim->config.groups + 1;
}

static struct sim_op *op_of(struct sim *sim, uint64_t call)
{
    for (uint32_t i = 0; i < callers(sim); i++) {
        struct sim_client *client = &sim->clients[i];
        if (client->op != NULL && attempt_find(client->op, call) != NULL) return client->op;
        if (client->keepalive != NULL && attempt_find(client->keepalive, call) != NULL)
            return client->keepalive;
    }
    return NULL;
}

void sim_clients_reply(struct sim_node *node, uint64_t call, const struct rk_reply *reply)
{
    struct sim *sim = node->sim;
    struct sim_op *op = op_of(sim, call);
    sim_trace(sim, call * 64 + (uint64_t)(int64_t)reply->status);
    if (op == NULL) return;
    if (reply->status == RK_OK && rk_op_info(reply->op)->is_write)
        sim_armed_check(node, ARMED_REPLY, 60);
    struct answer *answer = sim_alloc(1, sizeof(*answer));
    answer->op = op_retain(op);
    answer->call = call;
    rk_buf_init(&answer->bytes);
    rk_reply_encode(&answer->bytes, reply);
    position_keep(answer, reply);
    sim_world_after(sim, sim_between(sim, 50, 1000), NULL, answered, answer, 0)->drop =
        answer_free;
}

void sim_clients_node_ended(struct sim_node *node)
{
    struct sim *sim = node->sim;
    for (uint32_t i = 0; sim->clients != NULL && i < callers(sim); i++) {
        struct sim_op *ops[2] = {sim->clients[i].op, sim->clients[i].keepalive};
        for (int k = 0; k < 2; k++) {
            if (ops[k] == NULL || sim_chance(sim, 20)) continue; /* nobody tells it */
            for (uint32_t j = 0; j < SIM_ATTEMPTS_MAX; j++) {
                struct sim_attempt *attempt = &ops[k]->attempts[j];
                if (attempt->call == 0 || attempt->node != node) continue;
                attempt->call = 0;
                ops[k]->is_lost = ops[k]->is_anonymous;
                again_after(ops[k], sim_between(sim, 500, 20000));
            }
        }
    }
}

/* --- what a client does -------------------------------------------------------------- */

static void transferred(struct sim_client *client, struct sim_op *op,
                        enum op_outcome outcome, const struct rk_reply *reply)
{
    (void)client;
    (void)op;
    (void)outcome;
    (void)reply;
}

static void transfer(struct sim_client *client)
{
    struct sim *sim = client->sim;
    struct sim_op *op = op_new(client, RK_OP_CLUSTER_TRANSFER, transferred);
    sim->counts.transfers++;
    op->request.group_id = sim_below(sim, sim->config.groups + 1);
    RK_SET(&op->request, GROUP_ID);
    op->request.to = op_text(op, "n%u", 1 + (unsigned)sim_below(sim, sim->config.slots));
    RK_SET(&op->request, TO);
    op_send(op);
}

static void next(struct sim *sim, struct sim_node *node, void *context, uint64_t number)
{
    struct sim_client *client = context;
    (void)node;
    (void)number;
    if (client->op != NULL || sim->is_ending) return;
    if (client->at > sim->config.clients) return; /* a probe asks once */
    if (client->at == sim->config.clients) {
        sim_operator_next(client);
        if (client->op == NULL)
            next_after(client, sim_below(sim, 4000 * (uint64_t)sim->config.election_ms));
        return;
    }
    if (locks_go_on(client) || queues_go_on(client)) return;
    if (sim->is_draining) {
        if (queues_drain(client)) return;
        if (client->drained < 12)
            caches_next(client);
        else
            next_after(client, 50000);
        return;
    }
    uint64_t pick = sim_below(sim, 101);
    if (pick == 100) {
        transfer(client);
        return;
    }
    if (pick < 40 && locks_next(client)) return;
    if (pick < 70 && queues_next(client)) return;
    caches_next(client);
}

static void next_after(struct sim_client *client, uint64_t delay_us)
{
    sim_world_after(client->sim, delay_us, NULL, next, client, 0);
}

static void keepalive(struct sim *sim, struct sim_node *node, void *context,
                      uint64_t number)
{
    struct sim_client *client = context;
    (void)node;
    (void)number;
    if (client->keepalive == NULL) locks_keepalive(client);
    uint64_t ttl_ms = client->session.id[0] != '\0' ? client->session.ttl_ms : 1000;
    sim_world_after(sim, 250 * ttl_ms, NULL, keepalive, client, 0);
}

void sim_clients_start(struct sim *sim)
{
    sim->clients = sim_alloc(callers(sim), sizeof(*sim->clients));
    locks_init(sim);
    queues_init(sim);
    caches_init(sim);
    for (uint32_t i = 0; i < callers(sim); i++) {
        struct sim_client *client = &sim->clients[i];
        client->sim = sim;
        client->at = i;
        (void)snprintf(client->name, sizeof(client->name), "c%u", i + 1);
        client->favourite = (uint32_t)sim_below(sim, sim->config.slots);
        client->rate_ppm = 1000000 + sim_between(sim, 0, 2 * sim->config.drift_ppm) -
                           sim->config.drift_ppm;
        if (i < sim->config.clients)
            sim_world_after(sim, sim_below(sim, 300000), NULL, keepalive, client, 0);
        if (i < sim->config.topics)
            queues_configure(client, i);
        else
            next_after(client, sim_below(sim, 100000));
    }
}

void sim_clients_free(struct sim *sim)
{
    if (sim->clients == NULL) return;
    for (uint32_t i = 0; i < callers(sim); i++) {
        if (sim->clients[i].op != NULL) op_release(sim->clients[i].op);
        if (sim->clients[i].keepalive != NULL) op_release(sim->clients[i].keepalive);
    }
    locks_free(sim);
    queues_free(sim);
    caches_free(sim);
    free(sim->clients);
}

bool sim_clients_are_done(struct sim *sim)
{
    if (!queues_are_empty(sim)) return false;
    for (uint32_t i = 0; i < sim->config.clients; i++)
        if (sim->clients[i].op != NULL || sim->clients[i].drained < 12) return false;
    return true;
}

void sim_clients_end(struct sim *sim)
{
    queues_end(sim);
    caches_end(sim);
    for (uint32_t i = 0; i < sim->config.clients; i++)
        if (sim->clients[i].op != NULL || sim->clients[i].drained < 12)
            sim_fail(sim, "%s is not served after healing: %s", sim->clients[i].name,
                     sim->clients[i].op == NULL
                         ? "idle"
                         : rk_op_info(sim->clients[i].op->request.op)->name);
}

void sim_clients_left(struct sim *sim)
{
    locks_left(sim);
}

void sim_clients_state(struct sim_node *node)
{
    if (node->sim->clients != NULL) locks_state(node);
}
