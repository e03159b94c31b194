#include "host/keeper.h"

/* Calls whose clients went away. What has not reached the log is forgotten; what may have
 * is undone: a wait is cancelled through the log, a grant nobody can learn of is released,
 * deliveries are handed back uncounted. */

static enum rk_status internal(struct rk_group *group, struct rk_request *request)
{
    struct rk_call *call;
    request->forward = true;
    enum rk_status status = rk_call_new(&call, group, request);
    if (status == RK_OK)
        rk_call_start(call, request, rk_host_deadline(group->host, request));
    return status;
}

enum rk_status rk_group_internal(struct rk_group *group, struct rk_request *request)
{
    enum rk_status status = internal(group, request);
    if (status != RK_OK)
        rk_host_log(group->host, RK_LOG_WARN, "group %u: %s of a left call: %s", group->id,
                    rk_op_info(request->op)->name, rk_status_text(status));
    return status;
}

void rk_group_cancel(struct rk_group *group, struct rk_slice client, uint64_t seq)
{
    struct rk_request request;
    memset(&request, 0, sizeof(request));
    request.op = RK_OP_CALL_CANCEL;
    request.target_client = client;
    request.target_seq = seq;
    RK_SET(&request, TARGET_CLIENT);
    RK_SET(&request, TARGET_SEQ);
    (void)rk_group_internal(group, &request);
}

/* It stays if its owner was told of it otherwise too: it may have asked more than once. */
static void give_back(struct rk_call *call, const struct rk_request *acquire,
                      uint64_t fence)
{
    struct rk_request request;
    memset(&request, 0, sizeof(request));
    request.op = RK_OP_LOCK_RETURN;
    request.resource = acquire->resources[0].resource; /* the grant goes as a whole */
    request.owner = acquire->owner;
    request.fence = fence;
    RK_SET(&request, RESOURCE);
    RK_SET(&request, OWNER);
    RK_SET(&request, FENCE);
    if (RK_HAS(acquire, SESSION)) {
        request.session = acquire->session;
        RK_SET(&request, SESSION);
    }
    (void)rk_group_internal(call->group, &request);
}

static void hand_back(struct rk_call *call, const struct rk_request *consume,
                      const struct rk_reply *reply)
{
    struct rk_request request;
    struct rk_slice ids[RK_BATCH_MAX];
    memset(&request, 0, sizeof(request));
    request.op = RK_OP_QUEUE_RETURN;
    request.topic = consume->topic;
    request.is_bulk = true;
    uint32_t count =
        reply->message_count < RK_BATCH_MAX ? reply->message_count : RK_BATCH_MAX;
    for (uint32_t i = 0; i < count; i++)
        ids[i] = reply->messages[i].id;
    request.ids.items = ids;
    request.ids.count = count;
    RK_SET(&request, TOPIC);
    RK_SET(&request, IDS);
    (void)rk_group_internal(call->group, &request);
}

void rk_call_undo(struct rk_call *call, const struct rk_reply *reply)
{
    struct rk_request request;
    bool is_grant = call->op == RK_OP_LOCK_ACQUIRE && reply->granted &&
                    call->lane != NULL; /* with an id of its own the client may ask again */
    bool is_delivery = call->op == RK_OP_QUEUE_CONSUME && reply->message_count > 0;
    if (reply->status != RK_OK || (!is_grant && !is_delivery)) return;
    struct rk_arena arena;
    rk_arena_init(&arena);
    enum rk_status status =
        rk_request_decode(&request, rk_buf_slice(&call->request), &arena);
    if (status == RK_OK && is_grant) give_back(call, &request, reply->fence);
    if (status == RK_OK && is_delivery) hand_back(call, &request, reply);
    if (status != RK_OK)
        rk_host_log(call->group->host, RK_LOG_WARN,
                    "group %u: what a left call got stays: %s", call->group->id,
                    rk_status_text(status));
    rk_arena_fini(&arena);
}

/* Where calls are applied on each node the answer to the left call itself came before. In a
 * store only the leader applies them, and what it answers may be lost on the way. */
void rk_call_cancelled(const struct rk_call *cancel, const struct rk_reply *reply)
{
    struct rk_group *group = cancel->group;
    struct rk_request request;
    struct rk_call *left = NULL;
    struct rk_arena arena;
    rk_arena_init(&arena);
    if (rk_request_decode(&request, rk_buf_slice(&cancel->request), &arena) == RK_OK)
        left = rk_group_call_find(group, request.target_client, request.target_seq);
    while (left != NULL && !left->is_dropped)
        left = left->next_same;
    if (left != NULL && reply->status == RK_OK) {
        struct rk_reply outcome;
        rk_host_reply_init(&outcome, (enum rk_op)left->op);
        outcome.granted = reply->granted;
        outcome.fence = reply->fence;
        rk_call_answer(left, &outcome);
    } else if (left != NULL &&
               (reply->status == RK_EUNKNOWN || reply->status == RK_EUNAVAILABLE)) {
        rk_group_cancel(group, request.target_client, request.target_seq);
    }
    rk_arena_fini(&arena);
}

void rk_call_drop(struct rk_call *call)
{
    bool is_acquire = call->op == RK_OP_LOCK_ACQUIRE;
    bool is_consume = call->op == RK_OP_QUEUE_CONSUME;
    if (call->state == RK_CALL_PARKED || call->state == RK_CALL_READING ||
        call->state == RK_CALL_MOVING || !call->is_write || call->sends == 0) {
        rk_call_free(call);
        return;
    }
    call->is_dropped = true;
    if (call->state == RK_CALL_FORWARDED && is_consume) rk_forward_drop(call);
    /* An acquire that does not wait and has an id of its own: its client may come back for
     * the answer, and its lease ends it if not. */
    if (is_acquire && (call->has_wait || call->lane != NULL))
        rk_group_cancel(call->group, rk_slice_of(call->key, call->client_size), call->seq);
}

struct homeless {
    struct rk_group *group;
};

static void home_check(void *context, struct rk_slice client, uint64_t seq, uint64_t home)
{
    struct homeless *homeless = context;
    (void)home;
    if (rk_group_has_call(homeless->group, client, seq)) return;
    rk_group_cancel(homeless->group, client, seq);
}

/* At the leader every wait has a call: of a client here, or forwarded by its home. One
 * without, two seconds after the takeover, has lost its home. */
void rk_group_homes_check(struct rk_group *group)
{
    struct homeless homeless = {group};
    const struct rk_keeper *keeper = group->id == 0 ? group->host->keeper : NULL;
    if (!group->is_serving || (keeper != NULL && keeper->state != RK_KEEPER_SERVING))
        return;
    uint64_t since_ms = keeper != NULL ? keeper->lead_ms : group->lead_boot_ms;
    if (rk_host_now(group->host) - since_ms < RK_HOST_HOME_LOST_MS) return;
    rk_machine_waits_each(keeper != NULL ? keeper->machine : group->machine, home_check,
                          &homeless);
}
