#include "host/keeper.h"

#include "base/mutant.h"

#include <inttypes.h>

/* Reads. With a position, from what is applied here; without, after ReadIndex: one round
 * for all reads of a group that came while the last one was under way. Keepalives and empty
 * consumes are confirmed by the same rounds. */

/* What the caller has seen of this group; 0: nothing, or of another history. */
static uint64_t position_index(const struct rk_group *group,
                               const struct rk_request *request)
{
    if (request->consistency == RK_CONSISTENCY_LINEARIZABLE ||
        request->position.history == 0 ||
        request->position.history != rk_machine_history(group->machine))
        return 0;
    for (uint32_t i = 0; i < request->position.count; i++)
        if (request->position.items[i].group == group->id)
            return request->position.items[i].index;
    return 0;
}

static void query(struct rk_group *group, const struct rk_request *request,
                  struct rk_reply *reply)
{
    struct rk_host *host = group->host;
    rk_host_reply_init(reply, request->op);
    enum rk_status status = rk_machine_query(group->machine, request, rk_group_time(group),
                                             &host->replies, reply);
    host->metrics.reads++;
    if (status == RK_OK) return;
    rk_host_reply_init(reply, request->op);
    reply->status = status;
}

/* A restored group has a state before its new history has begun. Reads wait for that: ids
 * in their answers name it. */
static bool is_unborn(const struct rk_group *group)
{
    return rk_machine_history(group->machine) == 0;
}

bool rk_group_read_now(struct rk_group *group, uint64_t number,
                       const struct rk_request *request)
{
    struct rk_host *host = group->host;
    struct rk_reply reply;
    if (request->op == RK_OP_SESSION_KEEPALIVE || request->op == RK_OP_CLUSTER_TRANSFER ||
        rk_keeper_owns(group, request->op) || is_unborn(group))
        return false;
    uint64_t applied = rk_machine_index(group->machine);
    if (request->consistency != RK_CONSISTENCY_LOCAL) {
        uint64_t index = position_index(group, request);
        if (index == 0 || (index > applied && !RK_MUTANT(read_ignores_position)))
            return false;
    }
    query(group, request, &reply);
    reply.position_group = group->id;
    reply.position_index = applied;
    reply.position_history = rk_machine_history(group->machine);
    if (reply.status != RK_OK) host->metrics.calls_failed++;
    host->io.reply(host->io.context, number, &reply);
    return true;
}

void rk_call_read(struct rk_call *call)
{
    call->state = RK_CALL_READING;
    call->min_index = UINT64_MAX;
    rk_list_remove(&call->link);
    rk_list_push_back(&call->group->reads_new, &call->link);
}

/* A new read: those that this node may answer as it is need no round. */
void rk_call_read_start(struct rk_call *call, const struct rk_request *request)
{
    struct rk_group *group = call->group;
    call->want_index = position_index(group, request);
    rk_call_read(call);
    if (request->consistency != RK_CONSISTENCY_LOCAL &&
        (call->want_index == 0 || call->want_index > rk_machine_index(group->machine)))
        return;
    call->min_index = 0;
    rk_list_remove(&call->link);
    rk_list_push_back(&group->reads_ready, &call->link);
}

static void move_all(struct rk_list *to, struct rk_list *from)
{
    rk_list_each_safe (link, from) {
        rk_list_remove(link);
        rk_list_push_back(to, link);
    }
}

void rk_group_reads_start(struct rk_group *group)
{
    struct rk_host *host = group->host;
    rk_group_reads_applied(group);
    if (rk_list_is_empty(&group->reads_new)) return;
    for (int i = 0; i < RK_HOST_READ_ROUNDS; i++) {
        struct rk_read_round *round = &group->rounds[i];
        if (round->request != 0) continue;
        uint64_t request = ++host->read_request;
        if (rk_raft_read_index(group->raft, request) != RK_OK) return; /* next tick */
        round->request = request;
        round->asked_ms = rk_host_now(host);
        move_all(&round->calls, &group->reads_new);
        host->metrics.read_rounds++;
        return;
    }
}

void rk_call_keepalive(struct rk_call *call)
{
    struct rk_group *group = call->group;
    struct rk_host *host = group->host;
    struct rk_request request;
    struct rk_reply reply;
    uint64_t ttl_ms = 0;
    enum rk_status status =
        rk_request_decode(&request, rk_buf_slice(&call->request), &host->arena);
    bool is_kept = rk_keeper_owns(group, RK_OP_SESSION_KEEPALIVE);
    if (status == RK_OK)
        status = rk_machine_keepalive(
            is_kept ? host->keeper->machine : group->machine, request.session,
            is_kept ? rk_keeper_time(host->keeper) : rk_group_time(group), &ttl_ms);
    if (status == RK_EBUSY) {
        /* Its expiry is in the log: what that decides comes first. */
        rk_call_route(call);
        call->retry_ms = rk_host_now(host) + host->tick_ms;
    } else if (status != RK_OK) {
        rk_call_fail(call, status, "%s",
                     status == RK_ESESSION ? "the session has expired or was never opened"
                                           : "request can not be read again");
    } else {
        rk_host_reply_init(&reply, RK_OP_SESSION_KEEPALIVE);
        reply.ok = true;
        reply.ttl_ms = ttl_ms;
        rk_call_answer(call, &reply);
    }
}

static void finish(struct rk_call *call)
{
    struct rk_group *group = call->group;
    struct rk_request request;
    struct rk_reply reply;
    if (rk_keeper_owns(group, (enum rk_op)call->op)) {
        rk_keeper_read(call);
        return;
    }
    if (call->op == RK_OP_SESSION_KEEPALIVE) {
        rk_call_keepalive(call);
        return;
    }
    if (call->is_probe) {
        rk_call_consume_probed(call);
        return;
    }
    enum rk_status status =
        rk_request_decode(&request, rk_buf_slice(&call->request), &group->host->arena);
    if (status != RK_OK) {
        rk_call_fail(call, status, "request can not be read again");
        return;
    }
    query(group, &request, &reply);
    rk_call_answer(call, &reply);
}

static void released(struct rk_group *group, struct rk_read_round *round, uint64_t index)
{
    uint64_t applied = rk_machine_index(group->machine);
    struct rk_list calls;
    rk_list_init(&calls);
    move_all(&calls, &round->calls);
    while (!rk_list_is_empty(&calls)) {
        struct rk_call *call = RK_CONTAINER(calls.next, struct rk_call, link);
        rk_list_remove(&call->link);
        if (call->want_index > index) {
            rk_call_fail(call, RK_ERANGE,
                         "position: group %u is at %" PRIu64 ", not yet at %" PRIu64,
                         group->id, index, call->want_index);
            continue;
        }
        call->min_index = index;
        if ((index <= applied || RK_MUTANT(read_before_apply)) && !is_unborn(group))
            finish(call);
        else
            rk_list_push_back(&group->reads_ready, &call->link);
    }
}

void rk_group_reads_released(struct rk_group *group, const struct rk_raft_read_state *reads,
                             size_t count)
{
    for (size_t i = 0; i < count; i++) {
        rk_host_backup_confirmed(group->host, &reads[i]);
        rk_group_conf_confirmed(group, &reads[i]);
        for (int k = 0; k < RK_HOST_READ_ROUNDS; k++) {
            struct rk_read_round *round = &group->rounds[k];
            if (round->request == 0 || round->request != reads[i].request) continue;
            round->request = 0;
            if (reads[i].is_lost)
                move_all(&group->reads_new, &round->calls);
            else
                released(group, round, reads[i].index);
        }
    }
}

void rk_group_reads_applied(struct rk_group *group)
{
    uint64_t applied = rk_machine_index(group->machine);
    struct rk_list calls;
    if (rk_list_is_empty(&group->reads_ready) || is_unborn(group)) return;
    rk_list_init(&calls);
    move_all(&calls, &group->reads_ready);
    while (!rk_list_is_empty(&calls)) {
        struct rk_call *call = RK_CONTAINER(calls.next, struct rk_call, link);
        rk_list_remove(&call->link);
        if (call->min_index <= applied)
            finish(call);
        else
            rk_list_push_back(&group->reads_ready, &call->link);
    }
}

/* A round passed on to the leader may be lost on the way: ask again. */
void rk_group_reads_tick(struct rk_group *group)
{
    struct rk_host *host = group->host;
    for (int i = 0; i < RK_HOST_READ_ROUNDS; i++) {
        struct rk_read_round *round = &group->rounds[i];
        if (round->request == 0 ||
            rk_host_now(host) - round->asked_ms < 3 * (uint64_t)host->heartbeat_ms)
            continue;
        round->request = 0;
        move_all(&group->reads_new, &round->calls);
    }
}
