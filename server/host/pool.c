#include "host/host_internal.h"

#include <inttypes.h>
#include <stdio.h>

/* --- pool, lanes, maps --------------------------------------------------------------- */

static bool wakes_before(const struct rk_heap_node *a, const struct rk_heap_node *b)
{
    const struct rk_call *first = RK_CONTAINER_CONST(a, struct rk_call, timer);
    const struct rk_call *second = RK_CONTAINER_CONST(b, struct rk_call, timer);
    if (first->wake_ms != second->wake_ms) return first->wake_ms < second->wake_ms;
    return first->slot < second->slot;
}

enum rk_status rk_host_calls_init(struct rk_host *host)
{
    rk_heap_init(&host->timers, wakes_before);
    return RK_OK;
}

static struct rk_call *pool_take(struct rk_host *host)
{
    struct rk_call *call = host->free_calls;
    if (call != NULL) {
        host->free_calls = call->next_free;
        return call;
    }
    if (host->call_slot_count == host->call_slot_capacity) {
        uint32_t capacity =
            host->call_slot_capacity == 0 ? 64 : host->call_slot_capacity * 2;
        struct rk_call **slots =
            rk_realloc_array(host->call_slots, capacity, sizeof(*slots));
        if (slots == NULL) return NULL;
        host->call_slots = slots;
        host->call_slot_capacity = capacity;
    }
    call = rk_calloc(1, sizeof(*call));
    if (call == NULL) return NULL;
    rk_buf_init(&call->request);
    call->slot = host->call_slot_count;
    /* Answers to calls of a former life of this node may still come. */
    call->generation = host->boot_id;
    host->call_slots[host->call_slot_count++] = call;
    return call;
}

static void pool_put(struct rk_host *host, struct rk_call *call)
{
    struct rk_buf request = call->request;
    uint32_t slot = call->slot;
    uint64_t generation = call->generation + 1;
    if (request.capacity > 4096) {
        rk_buf_fini(&request);
        rk_buf_init(&request);
    }
    rk_buf_reset(&request);
    memset(call, 0, sizeof(*call));
    call->request = request;
    call->slot = slot;
    call->generation = generation;
    call->next_free = host->free_calls;
    host->free_calls = call;
}

enum { SLOT_BITS = 20 };
_Static_assert(RK_HOST_CALLS_MAX < 1 << SLOT_BITS, "a slot fits into a call's id");

uint64_t rk_call_id(const struct rk_call *call)
{
    return call->generation << SLOT_BITS | call->slot;
}

struct rk_call *rk_host_call_by_id(const struct rk_host *host, uint64_t id)
{
    uint64_t slot = id & ((UINT64_C(1) << SLOT_BITS) - 1);
    if (slot >= host->call_slot_count) return NULL;
    struct rk_call *call = host->call_slots[slot];
    return call->state != 0 && rk_call_id(call) == id ? call : NULL;
}

static struct rk_lane *lane_take(struct rk_host *host)
{
    struct rk_lane *lane = host->free_lanes;
    if (lane != NULL) {
        host->free_lanes = lane->next_free;
        return lane;
    }
    if (host->lane_count == host->lane_capacity) {
        uint32_t capacity = host->lane_capacity == 0 ? 64 : host->lane_capacity * 2;
        struct rk_lane **lanes = rk_realloc_array(host->lanes, capacity, sizeof(*lanes));
        if (lanes == NULL) return NULL;
        host->lanes = lanes;
        host->lane_capacity = capacity;
    }
    lane = rk_calloc(1, sizeof(*lane));
    if (lane == NULL) return NULL;
    lane->name_size = (uint8_t)snprintf(lane->name, sizeof(lane->name),
                                        "n%" PRIu64 ".%08" PRIx32 ".%" PRIu32, host->number,
                                        (uint32_t)host->boot_id, host->lane_count);
    host->lanes[host->lane_count++] = lane;
    return lane;
}

static void id_set(struct rk_call *call, struct rk_slice client, uint64_t seq)
{
    RK_ASSERT(client.size > 0 && client.size <= RK_CLIENT_NAME_MAX);
    memcpy(call->key, client.data, client.size);
    rk_put_u64(call->key + client.size, seq);
    call->client_size = (uint8_t)client.size;
    call->seq = seq;
}

static struct rk_slice id_key(const struct rk_call *call)
{
    return rk_slice_of(call->key, (size_t)call->client_size + 8);
}

enum rk_status rk_call_new(struct rk_call **out, struct rk_group *group,
                           const struct rk_request *request)
{
    struct rk_host *host = group->host;
    const struct rk_op_info *info = rk_op_info(request->op);
    if (host->call_count >= RK_HOST_CALLS_MAX) return RK_EBUSY;
    struct rk_call *call = pool_take(host);
    if (call == NULL) return RK_ENOMEM;
    call->group = group;
    call->op = (uint8_t)request->op;
    call->is_write = info->is_write;
    call->can_forward = request->forward;
    call->has_wait = request->wait_ms > 0;
    call->is_bulk = request->is_bulk;
    call->state = RK_CALL_ROUTING;
    rk_list_init(&call->link);
    rk_list_init(&call->origin_link);
    host->call_count++;
    rk_request_encode(&call->request, request);
    enum rk_status status = rk_buf_check(&call->request);
    /* More is no entry of the log. */
    if (status == RK_OK && call->is_write && call->request.size > RK_HOST_REQUEST_MAX)
        status = RK_ESIZE;
    /* A call without its deadline would never be answered. */
    if (status == RK_OK) status = rk_heap_reserve(&host->timers, host->call_count);
    if (status == RK_OK && call->is_write) {
        if (request->client.size != 0) {
            id_set(call, request->client, request->seq);
            call->first_unanswered = request->first_unanswered;
        } else {
            call->lane = lane_take(host);
            if (call->lane == NULL) status = RK_ENOMEM;
        }
        if (call->lane != NULL) {
            id_set(call, rk_slice_of(call->lane->name, call->lane->name_size),
                   ++call->lane->seq);
            call->first_unanswered = call->seq;
        }
        if (status == RK_OK) status = rk_call_enter(call);
    }
    if (status != RK_OK) {
        rk_call_free(call);
        return status;
    }
    *out = call;
    return RK_OK;
}

enum rk_status rk_call_enter(struct rk_call *call)
{
    struct rk_map *map = &call->group->calls;
    struct rk_map_node *node = rk_map_find(map, id_key(call));
    if (node != NULL) {
        struct rk_call *first = RK_CONTAINER(node, struct rk_call, id_node);
        call->next_same = first->next_same;
        first->next_same = call;
    } else {
        call->id_node.key = id_key(call);
        enum rk_status status = rk_map_insert(map, &call->id_node);
        if (status != RK_OK) return status;
    }
    call->in_map = true;
    return RK_OK;
}

static void map_leave(struct rk_call *call)
{
    struct rk_map *map = &call->group->calls;
    if (!call->in_map) return;
    call->in_map = false;
    struct rk_map_node *node = rk_map_find(map, id_key(call));
    if (node == NULL) return;
    struct rk_call *first = RK_CONTAINER(node, struct rk_call, id_node);
    if (first != call) {
        while (first->next_same != call)
            first = first->next_same;
        first->next_same = call->next_same;
        return;
    }
    rk_map_remove(map, node);
    struct rk_call *next = call->next_same;
    if (next == NULL) return;
    next->id_node.key = id_key(next);
    if (rk_map_insert(map, &next->id_node) == RK_OK) return;
    /* Without memory the others are not found any more: their deadlines end them. */
    for (; next != NULL; next = next->next_same)
        next->in_map = false;
}

void rk_call_free(struct rk_call *call)
{
    struct rk_host *host = call->group->host;
    rk_call_consumed(call);
    rk_call_unpark(call);
    map_leave(call);
    if (call->number != 0 && call->number_node.key.size != 0)
        rk_map_remove(&host->numbers, &call->number_node);
    rk_heap_remove(&host->timers, &call->timer);
    rk_list_remove(&call->link);
    rk_list_remove(&call->origin_link);
    if (call->lane != NULL) {
        call->lane->next_free = host->free_lanes;
        host->free_lanes = call->lane;
    }
    host->call_count--;
    pool_put(host, call);
}

void rk_host_calls_free(struct rk_host *host)
{
    rk_heap_fini(&host->timers); /* it marks its members */
    for (uint32_t i = 0; i < host->call_slot_count; i++) {
        struct rk_call *call = host->call_slots[i];
        if (call->state == RK_CALL_GATHER) rk_gather_free(call->gather);
        rk_buf_fini(&call->request);
        rk_free(call);
    }
    for (uint32_t i = 0; i < host->lane_count; i++)
        rk_free(host->lanes[i]);
    rk_free(host->call_slots);
    rk_free(host->lanes);
    rk_map_fini(&host->numbers);
    host->call_slot_count = host->lane_count = 0;
}

void rk_call_wake_at(struct rk_call *call, uint64_t boot_ms)
{
    struct rk_host *host = call->group->host;
    call->wake_ms = boot_ms;
    if (rk_heap_has(&call->timer))
        rk_heap_update(&host->timers, &call->timer);
    else {
        enum rk_status status = rk_heap_push(&host->timers, &call->timer);
        RK_ASSERT(status == RK_OK); /* rk_call_new made room */
    }
}
