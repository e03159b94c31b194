#include "host/host_internal.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

/* The least share of a cache that a group bounds (state/caches.h has the same). */
#define SHARE_MIN (64u << 10)

/* Calls over several groups: ids and keys are dealt to their groups, lists and counters
 * are asked of every group; the answers are put together in the order of the request. */

static enum rk_status slot_of_id(struct rk_slice id, uint32_t *slot)
{
    struct rk_delivery_id delivery;
    enum rk_status status = rk_delivery_id_parse(&delivery, id);
    if (status != RK_OK) return status;
    if (delivery.slot >= RK_SLOT_COUNT) return RK_ERANGE;
    *slot = delivery.slot;
    return RK_OK;
}

static bool is_by_id(enum rk_op op)
{
    return op == RK_OP_QUEUE_ACK || op == RK_OP_QUEUE_NACK || op == RK_OP_QUEUE_EXTEND ||
           op == RK_OP_QUEUE_DELETE || op == RK_OP_QUEUE_RETURN;
}

static enum rk_status route_ids(struct rk_host *host, const struct rk_request *request,
                                uint32_t *group, struct rk_reply *error)
{
    for (uint32_t i = 0; i < request->ids.count; i++) {
        uint32_t slot;
        enum rk_status status = slot_of_id(request->ids.items[i], &slot);
        if (status != RK_OK) {
            error->field = rk_slice_of_string(request->is_bulk ? "ids" : "id");
            snprintf(error->text, sizeof(error->text), "%s: not a delivery or message id",
                     request->is_bulk ? "ids" : "id");
            return status;
        }
        uint32_t at = host->slots.group[slot];
        if (i > 0 && at != *group) {
            *group = RK_ROUTE_MANY;
            return RK_OK;
        }
        *group = at;
    }
    return RK_OK;
}

static uint32_t route_keys(const struct rk_host *host, const struct rk_request *request)
{
    if (request->keys.count == 0) return rk_slot_map_group(&host->slots, request->key);
    uint32_t group = rk_slot_map_group(&host->slots, request->keys.items[0]);
    for (uint32_t i = 1; i < request->keys.count; i++)
        if (rk_slot_map_group(&host->slots, request->keys.items[i]) != group)
            return RK_ROUTE_MANY;
    return group;
}

enum rk_status rk_host_route(struct rk_host *host, const struct rk_request *request,
                             uint32_t *group, struct rk_reply *error)
{
    *group = 0;
    if (request->op == RK_OP_CLUSTER_TRANSFER) {
        if (!RK_HAS(request, GROUP_ID)) {
            *group = RK_ROUTE_MANY;
        } else if (request->group_id > host->group_count) {
            error->field = RK_SLICE_LITERAL("group");
            snprintf(error->text, sizeof(error->text), "group: 0 to %" PRIu32,
                     host->group_count);
            return RK_ERANGE;
        } else {
            *group = (uint32_t)request->group_id;
        }
        return RK_OK;
    }
    if (is_by_id(request->op)) return route_ids(host, request, group, error);
    switch (rk_op_info(request->op)->group) {
    case RK_GROUP_TOPIC:
        *group = request->topic.size == 0
                     ? RK_ROUTE_MANY
                     : rk_slot_map_group(&host->slots, rk_topic_base(request->topic));
        break;
    case RK_GROUP_KEY: *group = route_keys(host, request); break;
    case RK_GROUP_ALL: *group = RK_ROUTE_MANY; break;
    default: break;
    }
    return RK_OK;
}

/* --- splitting ----------------------------------------------------------------------- */

void rk_gather_free(struct rk_gather *gather)
{
    for (uint32_t i = 0; i < gather->part_count; i++) {
        rk_buf_fini(&gather->parts[i].reply);
        rk_free(gather->parts[i].places);
    }
    rk_free(gather);
}

static struct rk_gather *gather_new(uint32_t part_count)
{
    struct rk_gather *gather =
        rk_calloc(1, sizeof(*gather) + part_count * sizeof(gather->parts[0]));
    if (gather == NULL) return NULL;
    gather->part_count = part_count;
    for (uint32_t i = 0; i < part_count; i++)
        rk_buf_init(&gather->parts[i].reply);
    return gather;
}

static enum rk_status part_start(struct rk_gather *gather, uint32_t part,
                                 struct rk_group *group, const struct rk_request *request,
                                 uint64_t deadline_ms)
{
    struct rk_call *call;
    enum rk_status status = rk_call_new(&call, group, request);
    if (status != RK_OK) return status;
    call->gather = gather;
    call->part = part;
    gather->parts[part].call = call;
    gather->open_count++;
    rk_call_start(call, request, deadline_ms);
    return RK_OK;
}

static uint32_t group_of_line(const struct rk_host *host, const struct rk_request *request,
                              uint32_t line)
{
    uint32_t slot = 0;
    if (is_by_id(request->op)) {
        /* Checked by rk_host_route. */
        if (slot_of_id(request->ids.items[line], &slot) != RK_OK) return 1;
        return host->slots.group[slot];
    }
    return rk_slot_map_group(&host->slots, request->keys.items[line]);
}

static enum rk_status deal_lines(struct rk_host *host, struct rk_gather **out,
                                 const struct rk_request *request, uint64_t deadline_ms)
{
    bool has_ids = is_by_id(request->op);
    const struct rk_strings *lines = has_ids ? &request->ids : &request->keys;
    uint32_t counts[RK_HOST_GROUPS_MAX + 1] = {0};
    uint32_t part_count = 0;
    for (uint32_t i = 0; i < lines->count; i++)
        part_count += counts[group_of_line(host, request, i)]++ == 0;
    struct rk_gather *gather = *out = gather_new(part_count);
    if (gather == NULL) return RK_ENOMEM;
    gather->line_count = lines->count;
    uint32_t part = 0;
    for (uint32_t id = 1; id <= host->group_count; id++) {
        if (counts[id] == 0) continue;
        struct rk_request share = *request;
        struct rk_slice *items =
            rk_arena_alloc(&host->replies, counts[id] * sizeof(*items));
        uint32_t *places = rk_malloc(counts[id] * sizeof(*places));
        gather->parts[part].places = places;
        if (items == NULL || places == NULL) return RK_ENOMEM;
        uint32_t count = 0;
        for (uint32_t i = 0; i < lines->count; i++) {
            if (group_of_line(host, request, i) != id) continue;
            items[count] = lines->items[i];
            places[count++] = i;
        }
        gather->parts[part].place_count = count;
        *(has_ids ? &share.ids : &share.keys) = (struct rk_strings){items, count};
        enum rk_status status =
            part_start(gather, part++, host->groups[id], &share, deadline_ms);
        if (status != RK_OK) return status;
    }
    return RK_OK;
}

static enum rk_status deal_all(struct rk_host *host, struct rk_gather **out,
                               const struct rk_request *request, uint64_t deadline_ms)
{
    bool is_transfer = request->op == RK_OP_CLUSTER_TRANSFER;
    uint32_t first = is_transfer ? 0 : 1;
    struct rk_gather *gather = *out = gather_new(host->group_count + 1 - first);
    if (gather == NULL) return RK_ENOMEM;
    /* A cache lives in all groups: each bounds its share. */
    struct rk_request share = *request;
    if (request->op == RK_OP_CACHE_CONFIGURE) share.bytes_max /= host->group_count;
    for (uint32_t id = first; id <= host->group_count; id++) {
        enum rk_status status =
            part_start(gather, id - first, host->groups[id], &share, deadline_ms);
        if (status != RK_OK) return status;
    }
    return RK_OK;
}

static void gather_fail(struct rk_host *host, struct rk_call *call,
                        struct rk_gather *gather, enum rk_status status)
{
    if (gather != NULL) {
        for (uint32_t i = 0; i < gather->part_count; i++)
            if (gather->parts[i].call != NULL) rk_call_free(gather->parts[i].call);
        rk_gather_free(gather);
    }
    call->gather = NULL;
    (void)host;
    rk_call_fail(call, status, "out of memory, or too many calls wait");
}

static bool is_share_too_small(const struct rk_host *host, const struct rk_request *request)
{
    return request->op == RK_OP_CACHE_CONFIGURE && request->bytes_max != 0 &&
           request->bytes_max / host->group_count < SHARE_MIN;
}

void rk_host_gather(struct rk_host *host, uint64_t number, const struct rk_request *request,
                    uint64_t deadline_ms)
{
    struct rk_gather *gather = NULL;
    struct rk_call *call;
    struct rk_request none;
    memset(&none, 0, sizeof(none));
    none.op = RK_OP_CLUSTER_INFO; /* a whole has no request of its own */
    enum rk_status status = rk_call_new(&call, host->groups[0], &none);
    if (status == RK_OK) {
        status = rk_call_number(call, number);
        if (status != RK_OK) rk_call_free(call);
    }
    if (status != RK_OK) {
        struct rk_reply reply;
        rk_host_reply_init(&reply, request->op);
        reply.status = status;
        host->io.reply(host->io.context, number, &reply);
        return;
    }
    call->op = (uint8_t)request->op;
    call->state = RK_CALL_GATHER;
    if (is_share_too_small(host, request)) {
        rk_call_fail(call, RK_ERANGE, "bytes_max: below 64 KiB for each data group");
        return;
    }
    bool has_lines =
        is_by_id(request->op) || rk_op_info(request->op)->group == RK_GROUP_KEY;
    status = has_lines ? deal_lines(host, &gather, request, deadline_ms)
                       : deal_all(host, &gather, request, deadline_ms);
    if (status != RK_OK) {
        gather_fail(host, call, gather, status);
        return;
    }
    gather->call = call;
    gather->limit = request->limit;
    gather->is_bulk = request->is_bulk;
    call->gather = gather;
}

/* --- merging ------------------------------------------------------------------------- */

static int listed_compare(const void *a, const void *b)
{
    const struct rk_listed *first = a, *second = b;
    return rk_slice_compare(first->name, second->name);
}

static bool listed_add(struct rk_arena *arena, struct rk_reply *whole,
                       const struct rk_reply *part)
{
    if (part->listed_count == 0) return true;
    uint32_t count = whole->listed_count + part->listed_count;
    struct rk_listed *listed = rk_arena_alloc(arena, count * sizeof(*listed));
    if (listed == NULL) return false;
    if (whole->listed_count > 0)
        memcpy(listed, whole->listed, whole->listed_count * sizeof(*listed));
    memcpy(listed + whole->listed_count, part->listed,
           part->listed_count * sizeof(*listed));
    whole->listed = listed;
    whole->listed_count = count;
    return true;
}

/* Counters add up; settings are those of whichever group has any. */
static bool stats_add(struct rk_arena *arena, struct rk_reply *whole,
                      const struct rk_reply *part)
{
    if (part->topic_stats != NULL) {
        struct rk_topic_stats *sum = rk_arena_calloc(arena, 1, sizeof(*sum));
        if (sum == NULL) return false;
        *sum = *part->topic_stats;
        if (whole->topic_stats != NULL) {
            const struct rk_topic_stats *old = whole->topic_stats;
            sum->ready += old->ready;
            sum->delayed += old->delayed;
            sum->in_flight += old->in_flight;
            sum->dead += old->dead;
            sum->bytes += old->bytes;
            sum->published += old->published;
            sum->delivered += old->delivered;
            sum->acked += old->acked;
            sum->failed += old->failed;
            sum->expired += old->expired;
        }
        whole->topic_stats = sum;
    }
    if (part->cache_stats != NULL) {
        struct rk_cache_stats *sum = rk_arena_calloc(arena, 1, sizeof(*sum));
        if (sum == NULL) return false;
        *sum = *part->cache_stats;
        if (whole->cache_stats != NULL) {
            const struct rk_cache_stats *old = whole->cache_stats;
            sum->entries += old->entries;
            sum->bytes += old->bytes;
            sum->bytes_max += old->bytes_max;
            sum->hits += old->hits;
            sum->misses += old->misses;
            sum->evicted += old->evicted;
            sum->expired += old->expired;
        }
        whole->cache_stats = sum;
    }
    return true;
}

static void lines_add(struct rk_reply *whole, const struct rk_gather_part *part,
                      const struct rk_reply *reply)
{
    for (uint32_t i = 0; i < part->place_count; i++) {
        if (whole->results != NULL && i < reply->result_count)
            whole->results[part->places[i]] = reply->results[i];
        if (whole->entries != NULL && i < reply->entry_count)
            whole->entries[part->places[i]] = reply->entries[i];
    }
}

static bool part_add(struct rk_arena *arena, struct rk_reply *whole,
                     const struct rk_gather_part *part, const struct rk_reply *reply)
{
    lines_add(whole, part, reply);
    whole->ok = whole->ok && reply->ok;
    whole->ack = whole->ack && reply->ack;
    whole->deleted = whole->deleted && reply->deleted;
    whole->count += reply->count;
    if (reply->visibility_ms > whole->visibility_ms)
        whole->visibility_ms = reply->visibility_ms;
    return listed_add(arena, whole, reply) && stats_add(arena, whole, reply);
}

static enum rk_status whole_init(struct rk_gather *gather, struct rk_arena *arena,
                                 struct rk_reply *whole)
{
    enum rk_op op = (enum rk_op)gather->call->op;
    rk_host_reply_init(whole, op);
    whole->is_bulk = gather->is_bulk;
    whole->ok = whole->ack = whole->deleted = true;
    if (gather->line_count == 0) return RK_OK;
    if (op == RK_OP_CACHE_GET) {
        whole->entries =
            rk_arena_calloc(arena, gather->line_count, sizeof(*whole->entries));
        whole->entry_count = gather->line_count;
        return whole->entries == NULL ? RK_ENOMEM : RK_OK;
    }
    whole->results = rk_arena_calloc(arena, gather->line_count, sizeof(*whole->results));
    whole->result_count = gather->line_count;
    return whole->results == NULL ? RK_ENOMEM : RK_OK;
}

/* An error of a part is the answer of the whole; with writes done elsewhere it is not
 * known what happened, unless nothing was done anywhere. */
static void error_take(struct rk_reply *whole, const struct rk_reply *part, bool has_done)
{
    enum rk_op op = whole->op;
    *whole = *part;
    whole->op = op;
    if (has_done && rk_op_info(op)->is_write) whole->outcome = RK_OUTCOME_UNKNOWN;
}

/* Where each group stood, so that later reads of the client see what this call did. */
static void positions_add(const struct rk_gather *gather, struct rk_reply *whole)
{
    struct rk_host *host = gather->call->group->host;
    struct rk_position_item *items =
        rk_arena_alloc(&host->replies, gather->part_count * sizeof(*items));
    uint32_t count = 0;
    whole->position_history = 0;
    for (uint32_t i = 0; i < gather->part_count && items != NULL; i++) {
        const struct rk_gather_part *part = &gather->parts[i];
        if (part->position_history == 0) continue;
        whole->position_history = part->position_history;
        items[count++] = part->position;
    }
    if (count == 0) return;
    whole->positions = items;
    whole->position_count = count;
    whole->position_group = items[0].group;
    whole->position_index = items[0].index;
}

static void gather_finish(struct rk_gather *gather)
{
    struct rk_call *call = gather->call;
    struct rk_host *host = call->group->host;
    struct rk_reply whole, reply, failure;
    bool has_done = false, has_failed = false;
    enum rk_status status = whole_init(gather, &host->replies, &whole);
    for (uint32_t i = 0; i < gather->part_count && status == RK_OK; i++) {
        struct rk_gather_part *part = &gather->parts[i];
        status = rk_buf_check(&part->reply);
        if (status == RK_OK)
            status = rk_reply_decode(&reply, rk_buf_slice(&part->reply), &host->replies);
        if (status != RK_OK) break;
        if (reply.status != RK_OK) {
            has_failed = true;
            failure = reply;
        } else {
            has_done = true;
            if (!part_add(&host->replies, &whole, part, &reply)) status = RK_ENOMEM;
        }
    }
    if (status != RK_OK) {
        /* All parts were answered: of writes nobody will know what was done. */
        rk_host_reply_init(&whole, (enum rk_op)call->op);
        whole.status = status;
        if (rk_op_info(whole.op)->is_write) whole.outcome = RK_OUTCOME_UNKNOWN;
    } else if (has_failed) {
        error_take(&whole, &failure, has_done);
    } else if (whole.listed_count > 0) {
        qsort(whole.listed, whole.listed_count, sizeof(*whole.listed), listed_compare);
        if (gather->limit > 0 && whole.listed_count >= gather->limit) {
            bool has_more = whole.listed_count > gather->limit || whole.after.size > 0;
            whole.listed_count = (uint32_t)gather->limit;
            if (has_more) whole.after = whole.listed[whole.listed_count - 1].name;
        }
    }
    if (whole.status != RK_OK) host->metrics.calls_failed++;
    positions_add(gather, &whole);
    call->gather = NULL;
    if (call->number != 0) host->io.reply(host->io.context, call->number, &whole);
    rk_gather_free(gather);
    rk_call_free(call);
}

void rk_gather_part_answered(struct rk_call *call, const struct rk_reply *reply)
{
    struct rk_gather *gather = call->gather;
    struct rk_gather_part *part = &gather->parts[call->part];
    rk_buf_reset(&part->reply);
    rk_reply_encode(&part->reply, reply);
    part->position =
        (struct rk_position_item){reply->position_group, reply->position_index};
    part->position_history = reply->position_history;
    part->call = NULL;
    call->gather = NULL;
    rk_call_free(call);
    if (--gather->open_count == 0) gather_finish(gather);
}
