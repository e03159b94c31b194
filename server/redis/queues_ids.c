/* Calls by message or delivery id: ack, nack, extend, return, delete. The ids name their
 * topics by number; those of several topics are settled topic by topic. */
#include "redis/queues_internal.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

struct line {
    uint64_t topic; /* number; 0: the line has its status already */
    uint64_t number;
    uint64_t history;
    uint16_t slot;
    uint32_t attempt;
    uint32_t part; /* of the whole */
};

/* In the call's arena. */
struct settling {
    struct rk_result *results;
    struct line *lines;
    uint32_t count;
    uint64_t topic;          /* of all lines that have one; 0: of several */
    bool has_topics;         /* some line has one */
    struct rk_reply failure; /* of a part */
};

static const char *reason_of(enum rk_op op, enum rk_status status)
{
    switch (status) {
    case RK_ERANGE:
        return op == RK_OP_QUEUE_DELETE ? "this is no message or delivery id"
                                        : "this is no delivery id";
    case RK_ESTALE: return "a later delivery exists, or this one was given back";
    case RK_EGONE: return "the message is gone";
    default: return "refused";
    }
}

static void settled_answer(struct rk_ask *call)
{
    const struct rk_request *request = &call->request;
    const struct settling *settling = call->gathered;
    struct rk_reply out;
    bool is_all = true;
    for (uint32_t i = 0; i < settling->count; i++)
        is_all = is_all && settling->results[i].status == RK_OK;
    if (request->op != RK_OP_QUEUE_RETURN && !request->is_bulk && settling->count == 1 &&
        !is_all && call->whole == NULL) {
        enum rk_status status = settling->results[0].status;
        rk_ask_fail(call, status, "id", "%s", reason_of(request->op, status));
        return;
    }
    memset(&out, 0, sizeof(out));
    out.is_bulk = request->is_bulk;
    out.ack = request->op == RK_OP_QUEUE_ACK && is_all;
    out.deleted = request->op == RK_OP_QUEUE_DELETE && is_all;
    out.ok =
        (request->op == RK_OP_QUEUE_NACK || request->op == RK_OP_QUEUE_EXTEND) && is_all;
    if (request->op == RK_OP_QUEUE_EXTEND) out.visibility_ms = request->visibility_ms;
    out.results = settling->results;
    out.result_count = settling->count;
    rk_ask_answer(call, &out);
}

static void set_status(struct rk_ask *call, struct settling *settling, uint32_t line,
                       enum rk_status status)
{
    settling->results[line].status = status;
    settling->results[line].deleted =
        call->request.op == RK_OP_QUEUE_DELETE && status == RK_OK;
}

/* --- one topic --------------------------------------------------------------------- */

static void settled(struct rk_ask *call, const struct redisReply *reply)
{
    struct settling *settling = call->gathered;
    bool needs_listing;
    if (!rk_script_ok(call, reply, &needs_listing)) return;
    size_t at = 3;
    for (uint32_t i = 0; i < settling->count; i++) {
        if (settling->lines[i].topic == 0) continue;
        int64_t status = at < reply->elements ? reply->element[at]->integer : RK_EIO;
        set_status(call, settling, i, (enum rk_status)status);
        at++;
    }
    settled_answer(call);
}

static const char *op_name(enum rk_op op)
{
    switch (op) {
    case RK_OP_QUEUE_ACK: return "ack";
    case RK_OP_QUEUE_NACK: return "nack";
    case RK_OP_QUEUE_EXTEND: return "extend";
    case RK_OP_QUEUE_DELETE: return "delete";
    default: return "return";
    }
}

static void add_line(struct rk_args *args, const struct line *line)
{
    char text[RK_DELIVERY_ID_SIZE];
    struct rk_delivery_id id = {
        .slot = line->slot, .history = line->history, .message = line->number};
    struct rk_slice copy = rk_arena_copy(
        &args->store->args, rk_slice_of(text, rk_delivery_id_print(text, &id)));
    if (copy.data == NULL) args->items = NULL;
    rk_args_add(args, copy);
    rk_args_number(args, line->attempt);
}

static void settle(struct rk_ask *call)
{
    const struct rk_request *request = &call->request;
    struct settling *settling = call->gathered;
    struct rk_args args;
    rk_args_begin(&args, call, op_name(request->op), 3 + 2 * settling->count);
    if (request->op == RK_OP_QUEUE_NACK && RK_HAS(request, DELAY_MS))
        rk_args_number(&args, request->delay_ms);
    else
        rk_args_text(&args, "");
    rk_args_text(&args, request->dead ? "1" : "0");
    rk_args_number(&args, request->visibility_ms);
    for (uint32_t i = 0; i < settling->count; i++)
        if (settling->lines[i].topic != 0) add_line(&args, &settling->lines[i]);
    rk_args_eval(&args, call, RK_SCRIPT_SETTLE, NULL, settled);
}

/* Lines of another slot than their topic's are no ids that were given out. */
static void topic_known(struct rk_ask *call, struct rk_slice name)
{
    struct settling *settling = call->gathered;
    struct rk_store_topic *topic = name.size != 0 ? rk_topic_hold(call, name) : NULL;
    bool has_some = false;
    if (name.size != 0 && topic == NULL) {
        rk_ask_fail(call, RK_ENOMEM, NULL, "out of memory");
        return;
    }
    if (topic != NULL) rk_topic_numbered(call->store, topic, settling->topic);
    for (uint32_t i = 0; i < settling->count; i++) {
        struct line *line = &settling->lines[i];
        if (line->topic == 0) continue;
        if (topic != NULL && line->slot == topic->slot) {
            has_some = true;
            continue;
        }
        line->topic = 0;
        set_status(call, settling, i, RK_EGONE);
    }
    if (has_some)
        settle(call);
    else
        settled_answer(call);
}

static void named(struct rk_ask *call, const struct redisReply *reply)
{
    topic_known(call, rk_answer_text(reply));
}

static void find_topic(struct rk_ask *call)
{
    struct rk_store *store = call->store;
    const struct settling *settling = call->gathered;
    struct rk_store_topic *topic = rk_topic_of_number(store, settling->topic);
    if (topic != NULL) {
        topic_known(call, topic->name);
        return;
    }
    rk_arena_reset(&store->args);
    struct rk_slice args[] = {RK_SLICE_LITERAL("HGET"), store->queues->topics_keys[1],
                              rk_store_text(store, settling->topic)};
    if (args[2].size == 0) {
        rk_ask_fail(call, RK_ENOMEM, NULL, "out of memory");
        return;
    }
    rk_ask_command(call, args, 3, named);
}

/* --- several ----------------------------------------------------------------------- */

static void part_done(struct rk_ask *whole, struct rk_ask *part,
                      const struct rk_reply *reply, bool is_last)
{
    struct settling *settling = whole->gathered;
    uint32_t at = 0;
    if (part != NULL && reply->status != RK_OK) {
        if (!whole->has_failed) settling->failure = *reply;
        settling->failure.field = RK_SLICE_EMPTY;
        whole->has_failed = true;
    }
    for (uint32_t i = 0; part != NULL && i < settling->count; i++) {
        if (settling->lines[i].topic == 0 || settling->lines[i].part != part->part)
            continue;
        if (at < reply->result_count)
            set_status(whole, settling, i, reply->results[at].status);
        at++;
    }
    if (!is_last) return;
    if (!whole->has_failed) {
        settled_answer(whole);
        return;
    }
    /* Done elsewhere: nobody can say it was not. */
    if (whole->has_done) settling->failure.outcome = RK_OUTCOME_UNKNOWN;
    rk_ask_answer(whole, &settling->failure);
}

static bool part_start(struct rk_ask *whole, uint32_t part, struct rk_slice *ids)
{
    const struct settling *settling = whole->gathered;
    struct rk_request share = whole->request;
    uint32_t count = 0;
    for (uint32_t i = 0; i < settling->count; i++)
        if (settling->lines[i].topic != 0 && settling->lines[i].part == part)
            ids[count++] = whole->request.ids.items[i];
    share.ids = (struct rk_strings){ids, count};
    share.is_bulk = true;
    share.present &= ~(uint64_t)RK_FIELD_BIT_ID;
    RK_SET(&share, IDS);
    struct rk_ask *call = rk_ask_part_new(whole, &share, part);
    if (call == NULL) return false;
    rk_ask_begin(call);
    return true;
}

static uint32_t deal(struct settling *settling)
{
    uint32_t parts = 0;
    for (uint32_t i = 0; i < settling->count; i++) {
        struct line *line = &settling->lines[i];
        if (line->topic == 0) continue;
        uint32_t before = 0;
        while (before < i && settling->lines[before].topic != line->topic)
            before++;
        line->part = before < i ? settling->lines[before].part : parts++;
    }
    return parts;
}

static void settle_parts(struct rk_ask *call)
{
    struct settling *settling = call->gathered;
    struct rk_slice *ids = rk_arena_calloc(&call->arena, settling->count, sizeof(*ids));
    uint32_t parts = deal(settling);
    call->part_done = part_done;
    call->open_parts++; /* so that no answer is the last one before all have begun */
    for (uint32_t i = 0; i < parts; i++) {
        if (ids != NULL && part_start(call, i, ids)) continue;
        call->has_failed = true;
        settling->failure.status = RK_EBUSY;
        (void)snprintf(settling->failure.text, sizeof(settling->failure.text),
                       "too many calls are under way");
    }
    call->open_parts--;
    if (call->open_parts == 0) part_done(call, NULL, NULL, true);
}

/* --- ids --------------------------------------------------------------------------- */

static enum rk_status line_read(const struct rk_ask *call, struct settling *settling,
                                uint32_t at)
{
    struct rk_delivery_id id;
    struct line *line = &settling->lines[at];
    enum rk_status status = rk_delivery_id_parse(&id, call->request.ids.items[at]);
    if (status != RK_OK) return status;
    settling->results[at].id = call->request.ids.items[at];
    uint64_t topic = id.message >> RK_NUMBER_BITS;
    bool is_delete = call->request.op == RK_OP_QUEUE_DELETE;
    if (id.attempt == 0 && !is_delete)
        settling->results[at].status = RK_ERANGE;
    else if (topic == 0)
        settling->results[at].status = RK_EGONE;
    else
        line->topic = topic;
    if (line->topic == 0) return RK_OK;
    line->number = id.message;
    line->history = id.history;
    line->slot = id.slot;
    line->attempt = id.attempt;
    if (!settling->has_topics)
        settling->topic = topic;
    else if (settling->topic != topic)
        settling->topic = 0;
    settling->has_topics = true;
    return RK_OK;
}

/* Of a history that may have begun since this node asked, which then knows topics by
 * numbers that are others' now. Which messages there are Redis alone knows. */
static bool has_foreign(const struct rk_ask *call)
{
    struct rk_delivery_id id;
    for (uint32_t i = 0; i < call->request.ids.count; i++)
        if (rk_delivery_id_parse(&id, call->request.ids.items[i]) == RK_OK &&
            id.history != call->store->history)
            return true;
    return false;
}

void rk_ids_start(struct rk_ask *call)
{
    const struct rk_request *request = &call->request;
    uint32_t count = request->ids.count;
    struct settling *settling = rk_arena_calloc(&call->arena, 1, sizeof(*settling));
    if (settling != NULL) {
        settling->count = count;
        settling->results =
            rk_arena_calloc(&call->arena, count + 1, sizeof(*settling->results));
        settling->lines =
            rk_arena_calloc(&call->arena, count + 1, sizeof(*settling->lines));
    }
    if (settling == NULL || settling->results == NULL || settling->lines == NULL) {
        rk_ask_fail(call, RK_ENOMEM, NULL, "out of memory");
        return;
    }
    call->gathered = settling;
    if (has_foreign(call) && rk_ask_doubt(call)) {
        rk_ask_begin(call);
        return;
    }
    const char *field = request->is_bulk ? "ids" : "id";
    for (uint32_t i = 0; i < count; i++) {
        enum rk_status status = line_read(call, settling, i);
        if (status == RK_OK) continue;
        rk_ask_fail(call, status, field, "%s: not a delivery or message id", field);
        return;
    }
    if (!settling->has_topics)
        settled_answer(call);
    else if (settling->topic != 0)
        find_topic(call);
    else
        settle_parts(call);
}
