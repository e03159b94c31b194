#include "rukund/calls.h"

#include "base/alloc.h"
#include "base/assert.h"
#include "rukund/documents.h"
#include "rukund/worker.h"

#include <stdarg.h>
#include <stdio.h>

void rk_calls_init(struct rk_calls *calls)
{
    memset(calls, 0, sizeof(*calls));
}

void rk_calls_fini(struct rk_calls *calls)
{
    rk_free(calls->slots);
    rk_free(calls->generations);
    rk_free(calls->free_places);
    memset(calls, 0, sizeof(*calls));
}

uint32_t rk_calls_count(const struct rk_calls *calls)
{
    return calls->slot_count - calls->free_count;
}

static enum rk_status grow(struct rk_calls *calls)
{
    if (calls->slot_count == RK_CALLS_MAX) return RK_EBUSY;
    uint32_t count = calls->slot_count == 0 ? 256 : calls->slot_count * 2;
    struct rk_call **slots = rk_realloc_array(calls->slots, count, sizeof(*slots));
    if (slots == NULL) return RK_ENOMEM;
    calls->slots = slots;
    uint32_t *generations =
        rk_realloc_array(calls->generations, count, sizeof(*generations));
    if (generations == NULL) return RK_ENOMEM;
    calls->generations = generations;
    uint32_t *places = rk_realloc_array(calls->free_places, count, sizeof(*places));
    if (places == NULL) return RK_ENOMEM;
    calls->free_places = places;
    for (uint32_t i = count; i > calls->slot_count; i--) {
        slots[i - 1] = NULL;
        generations[i - 1] = 0;
        places[calls->free_count++] = i - 1;
    }
    calls->slot_count = count;
    return RK_OK;
}

static enum rk_status add(struct rk_calls *calls, struct rk_call *call)
{
    if (calls->free_count == 0) {
        enum rk_status status = grow(calls);
        if (status != RK_OK) return status;
    }
    uint32_t place = calls->free_places[--calls->free_count];
    calls->slots[place] = call;
    call->number = (uint64_t)calls->generations[place] << 32 | (place + 1);
    return RK_OK;
}

static struct rk_call *find(const struct rk_calls *calls, uint64_t number)
{
    uint32_t place = (uint32_t)number - 1;
    if (place >= calls->slot_count || calls->slots[place] == NULL) return NULL;
    return calls->generations[place] == number >> 32 ? calls->slots[place] : NULL;
}

static void remove_call(struct rk_calls *calls, struct rk_call *call)
{
    uint32_t place = (uint32_t)call->number - 1;
    calls->slots[place] = NULL;
    calls->generations[place]++;
    calls->free_places[calls->free_count++] = place;
    call->number = 0;
}

void rk_reply_problem(struct rk_reply *reply, enum rk_op op, enum rk_status status,
                      const char *field, const char *format, ...)
{
    va_list arguments;
    memset(reply, 0, sizeof(*reply));
    reply->op = op;
    reply->status = status;
    if (field != NULL) reply->field = rk_slice_of_string(field);
    va_start(arguments, format);
    (void)vsnprintf(reply->text, sizeof(reply->text), format, arguments);
    va_end(arguments);
}

static void finish(struct rk_worker *worker, struct rk_call *call,
                   const struct rk_reply *reply)
{
    struct rk_reply named;
    bool is_stats = call->op == RK_OP_QUEUE_STATS || call->op == RK_OP_CACHE_STATS;
    if (is_stats && reply->status == RK_OK) {
        named = *reply;
        rk_buf_reset(&worker->scratch);
        worker->engine->print_durability(worker, &worker->scratch);
        named.durability = rk_buf_slice(&worker->scratch);
        reply = &named;
    }
    if (call->number != 0) remove_call(&worker->calls, call);
    rk_metrics_call(&worker->metrics, (enum rk_door)call->door, (enum rk_op)call->op,
                    reply->status, rk_worker_us() - call->started_us);
    call->done(call, reply);
}

/* What the node answers or refuses by itself; true if it did. */
static bool answer_here(struct rk_worker *worker, struct rk_call *call,
                        const struct rk_request *request)
{
    struct rk_reply reply;
    if (request->op == RK_OP_CLUSTER_INFO) {
        rk_reply_problem(&reply, request->op, RK_OK, NULL, "%s", "");
        rk_buf_reset(&worker->scratch);
        rk_document_cluster(&worker->scratch, worker, false);
        reply.document.bytes = rk_buf_slice(&worker->scratch);
        reply.document.encoding = RK_ENCODING_JSON;
    } else if (worker->is_stopping) {
        rk_reply_problem(&reply, request->op, RK_EUNAVAILABLE, NULL, "node %s is stopping",
                         worker->config->name);
    } else {
        return false;
    }
    finish(worker, call, &reply);
    return true;
}

/* The table bounds what the log can hold, the setting what this node takes. */
static bool refuse_size(struct rk_worker *worker, struct rk_call *call,
                        const struct rk_request *request)
{
    uint64_t bound = worker->config->max_value_bytes;
    const char *field = "value";
    size_t size = request->value.bytes.size;
    char item[32];
    for (uint32_t i = 0; size <= bound && i < request->message_count; i++) {
        size = request->messages[i].data.bytes.size;
        (void)snprintf(item, sizeof(item), request->is_bulk ? "messages[%u].data" : "data",
                       i);
        field = item;
    }
    if (size <= bound) return false;
    struct rk_reply reply;
    rk_reply_problem(&reply, request->op, RK_ESIZE, field,
                     "%s: %zu bytes, allowed are %llu", field, size,
                     (unsigned long long)bound);
    finish(worker, call, &reply);
    return true;
}

void rk_calls_start(struct rk_worker *worker, struct rk_call *call, enum rk_door door,
                    struct rk_request *request)
{
    RK_ASSERT(call->number == 0);
    call->door = (uint8_t)door;
    call->op = (uint8_t)request->op;
    call->started_us = rk_worker_us();
    if (!worker->config->forward) request->forward = false;
    if (answer_here(worker, call, request) || refuse_size(worker, call, request)) return;

    enum rk_status status = add(&worker->calls, call);
    if (status != RK_OK) {
        struct rk_reply reply;
        rk_reply_problem(&reply, request->op, status, NULL, "%u calls are under way",
                         rk_calls_count(&worker->calls));
        finish(worker, call, &reply);
        return;
    }
    worker->engine->call(worker, call->number, request);
}

void rk_calls_drop(struct rk_worker *worker, struct rk_call *call)
{
    if (call->number == 0) return;
    uint64_t number = call->number;
    remove_call(&worker->calls, call);
    worker->metrics.dropped++;
    worker->engine->drop(worker, number);
}

void rk_calls_answer(struct rk_worker *worker, uint64_t number,
                     const struct rk_reply *reply)
{
    struct rk_call *call = find(&worker->calls, number);
    if (call != NULL) finish(worker, call, reply);
}

void rk_calls_end(struct rk_worker *worker)
{
    struct rk_calls *calls = &worker->calls;
    for (uint32_t i = 0; i < calls->slot_count; i++) {
        struct rk_call *call = calls->slots[i];
        struct rk_reply reply;
        if (call == NULL) continue;
        const struct rk_op_info *info = rk_op_info((enum rk_op)call->op);
        rk_reply_problem(&reply, (enum rk_op)call->op,
                         info->is_write ? RK_EUNKNOWN : RK_EUNAVAILABLE, NULL,
                         "node %s ended before the answer", worker->config->name);
        reply.outcome = info->is_write ? RK_OUTCOME_UNKNOWN : RK_OUTCOME_NOT_DONE;
        finish(worker, call, &reply);
    }
}
