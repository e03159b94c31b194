#include "host/host_internal.h"
#include "host/keeper.h"

#include "base/mutant.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>

void rk_call_route(struct rk_call *call)
{
    rk_list_remove(&call->link);
    call->state = RK_CALL_ROUTING;
    call->target = NULL;
    call->retry_ms = 0;
    rk_list_push_back(&call->group->routing, &call->link);
    call->group->is_dirty = true;
}

/* --- answers ------------------------------------------------------------------------- */

void rk_host_reply_init(struct rk_reply *reply, enum rk_op op)
{
    memset(reply, 0, sizeof(*reply));
    reply->op = op;
}

static void position_fill(const struct rk_group *group, struct rk_reply *reply)
{
    uint64_t index = rk_machine_index(group->machine);
    if (group->applying > index) index = group->applying;
    /* An answer that came from the leader brings the leader's position. */
    if (reply->position_history != 0 && reply->position_index > index) return;
    reply->position_group = group->id;
    reply->position_index = index;
    reply->position_history = rk_machine_history(group->machine);
}

void rk_call_answer(struct rk_call *call, struct rk_reply *reply)
{
    struct rk_host *host = call->group->host;
    if (call->is_dropped) {
        rk_call_undo(call, reply);
        rk_call_free(call);
        return;
    }
    position_fill(call->group, reply);
    if (call->op == RK_OP_CALL_CANCEL && call->origin == NULL)
        rk_call_cancelled(call, reply);
    if (call->gather != NULL) {
        rk_gather_part_answered(call, reply);
        return;
    }
    if (call->origin != NULL) {
        rk_forward_reply(call, reply);
    } else if (call->number != 0) {
        if (reply->status != RK_OK) host->metrics.calls_failed++;
        host->io.reply(host->io.context, call->number, reply);
    }
    rk_call_free(call);
}

void rk_call_fail(struct rk_call *call, enum rk_status status, const char *format, ...)
{
    struct rk_reply reply;
    va_list arguments;
    rk_host_reply_init(&reply, (enum rk_op)call->op);
    reply.status = status;
    reply.outcome = status == RK_EUNKNOWN ? RK_OUTCOME_UNKNOWN : RK_OUTCOME_NOT_DONE;
    va_start(arguments, format);
    vsnprintf(reply.text, sizeof(reply.text), format, arguments);
    va_end(arguments);
    rk_call_answer(call, &reply);
}

struct rk_call *rk_group_call_find(struct rk_group *group, struct rk_slice client,
                                   uint64_t seq)
{
    uint8_t key[RK_CLIENT_NAME_MAX + 8];
    if (group->calls.count == 0 || client.size == 0 || client.size > RK_CLIENT_NAME_MAX)
        return NULL;
    memcpy(key, client.data, client.size);
    rk_put_u64(key + client.size, seq);
    struct rk_map_node *node =
        rk_map_find(&group->calls, rk_slice_of(key, client.size + 8));
    return node == NULL ? NULL : RK_CONTAINER(node, struct rk_call, id_node);
}

bool rk_group_has_call(struct rk_group *group, struct rk_slice client, uint64_t seq)
{
    return rk_group_call_find(group, client, seq) != NULL;
}

struct rk_call *rk_group_forward_find(struct rk_group *group, const struct rk_member *from,
                                      struct rk_slice client, uint64_t seq,
                                      uint64_t origin_id)
{
    for (struct rk_call *call = rk_group_call_find(group, client, seq); call != NULL;
         call = call->next_same)
        if (call->origin == from && call->origin_id == origin_id) return call;
    return NULL;
}

/* A consume that found nothing and may go on waiting. */
static bool goes_on_waiting(const struct rk_call *call, const struct rk_reply *reply)
{
    return call->op == RK_OP_QUEUE_CONSUME && reply->status == RK_OK &&
           reply->message_count == 0 && call->wait_ms > rk_host_now(call->group->host) &&
           !call->is_dropped;
}

void rk_group_on_reply(void *context, struct rk_slice client, uint64_t seq,
                       const struct rk_reply *reply)
{
    struct rk_group *group = context;
    struct rk_call *call = rk_group_call_find(group, client, seq);
    while (call != NULL) {
        struct rk_call *next = call->next_same;
        if (goes_on_waiting(call, reply)) {
            /* Forwarded: the leader parks it again. */
            if (call->state == RK_CALL_PROPOSED) {
                rk_call_consumed(call);
                rk_call_route(call);
            }
        } else {
            struct rk_reply copy = *reply;
            rk_call_answer(call, &copy);
        }
        call = next;
    }
}

void rk_group_on_pending(void *context, struct rk_slice client, uint64_t seq, uint64_t home)
{
    (void)home;
    for (struct rk_call *call = rk_group_call_find(context, client, seq); call != NULL;
         call = call->next_same)
        call->is_pending = true;
}

void rk_group_on_event(void *context, const struct rk_event *event)
{
    struct rk_group *group = context;
    if (event->kind == RK_EVENT_TOPIC_READY) rk_group_topic_ready(group, event->topic);
    if (event->kind == RK_EVENT_MEMBERS) group->host->has_new_table = true;
}

/* --- the way to the leader ----------------------------------------------------------- */

void rk_call_command(const struct rk_call *call, uint64_t stamp_ms, struct rk_command *out)
{
    const struct rk_host *host = call->group->host;
    uint64_t now = rk_host_now(host);
    uint64_t left = call->deadline_ms > now ? call->deadline_ms - now : 1;
    *out = (struct rk_command){
        .client = rk_slice_of(call->key, call->client_size),
        .seq = call->seq,
        .first_unanswered = call->first_unanswered,
        .stamp_ms = stamp_ms,
        .deadline_ms = stamp_ms + left,
        .home = call->origin != NULL ? call->origin->number : host->number,
        .request = rk_buf_slice(&call->request),
    };
}

void rk_call_propose(struct rk_call *call)
{
    struct rk_group *group = call->group;
    struct rk_command command;
    rk_call_command(call, rk_group_time(group), &command);
    size_t before = group->proposals.size;
    rk_command_encode(&group->proposals, &command);
    rk_buf_u32(&group->sizes, (uint32_t)(group->proposals.size - before));
    call->state = RK_CALL_PROPOSED;
    call->sends++;
    call->log_index = 0;
    rk_list_remove(&call->link);
    rk_list_push_back(&group->proposed, &call->link);
    group->batch_calls++;
    if (group->proposals.size >= RK_HOST_PROPOSE_MAX) rk_group_propose(group);
}

bool rk_call_is_repeated(const struct rk_call *call, const struct rk_machine *machine)
{
    struct rk_slice client = rk_slice_of(call->key, call->client_size);
    if (!rk_call_may_repeat(call)) return false;
    for (const struct rk_call *other = rk_group_call_find(call->group, client, call->seq);
         other != NULL; other = other->next_same)
        if (other != call && other->state == RK_CALL_PROPOSED) return true;
    return rk_machine_remembers(machine, client, call->seq);
}

/* Its answer may still be to come: whether the log has it is known once all is applied that
 * was in it when the call came. The call that brought it there may be gone, by its deadline
 * or with its home. */
static bool may_be_in_log(struct rk_call *call)
{
    const struct rk_group *group = call->group;
    if (!rk_call_may_repeat(call)) return false;
    if (call->log_index == 0) call->log_index = rk_raft_last_index(group->raft);
    return rk_machine_index(group->machine) < call->log_index;
}

static void lead(struct rk_call *call)
{
    struct rk_group *group = call->group;
    struct rk_host *host = group->host;
    struct rk_request request;
    if (call->op == RK_OP_SESSION_KEEPALIVE) {
        if (RK_MUTANT(keepalive_unconfirmed))
            rk_call_keepalive(call);
        else
            rk_call_read(call);
        return;
    }
    if (rk_keeper_owns(group, (enum rk_op)call->op)) {
        if (call->is_write)
            rk_keeper_take(call);
        else
            rk_call_read(call);
        return;
    }
    if (host->is_full && !RK_MUTANT(full_ignored) &&
        rk_op_info((enum rk_op)call->op)->grows &&
        !rk_call_is_repeated(call, group->machine)) {
        if (may_be_in_log(call))
            call->retry_ms = rk_host_now(host) + host->tick_ms;
        else
            rk_call_fail(call, RK_EFULL, "the leader's disk or memory is full");
        return;
    }
    if (call->op != RK_OP_QUEUE_CONSUME && call->op != RK_OP_CLUSTER_TRANSFER) {
        rk_call_propose(call);
        return;
    }
    enum rk_status status =
        rk_request_decode(&request, rk_buf_slice(&call->request), &host->arena);
    if (status != RK_OK)
        rk_call_fail(call, status, "request can not be read again");
    else if (call->op == RK_OP_QUEUE_CONSUME)
        rk_call_consume(call, &request);
    else
        rk_group_transfer_call(call, &request);
}

static void not_leader(struct rk_call *call, const struct rk_member *leader)
{
    struct rk_reply reply;
    rk_host_reply_init(&reply, (enum rk_op)call->op);
    reply.status = RK_ENOTLEADER;
    reply.leader = rk_slice_of_string(leader->rpc);
    snprintf(reply.text, sizeof(reply.text), "group %" PRIu32 " is led by %s",
             call->group->id, leader->name);
    rk_call_answer(call, &reply);
}

/* The forwarded call ends here without an answer. */
static void send_refused(struct rk_call *call)
{
    const struct rk_forward_id id = {call->origin_id, call->origin_send};
    rk_forward_refuse(call->group->host, call->origin, id,
                      call->sends > 0 ? RK_FORWARD_LOST : RK_FORWARD_REFUSED);
    rk_call_free(call);
}

void rk_group_dispatch(struct rk_group *group)
{
    struct rk_host *host = group->host;
    if (!group->is_dirty) return;
    group->is_dirty = false;
    if (group->is_serving) rk_group_own_encode(group);
    struct rk_member *leader = rk_group_leader(group);
    rk_list_each_safe (link, &group->routing) {
        struct rk_call *call = RK_CONTAINER(link, struct rk_call, link);
        if (call->is_dropped || call->retry_ms > rk_host_now(host)) continue;
        if (group->is_serving) {
            lead(call);
        } else if (leader == host->self) {
            continue; /* until its first entry is applied */
        } else if (call->origin != NULL) {
            send_refused(call);
        } else if (leader != NULL) {
            if (!call->can_forward)
                not_leader(call, leader);
            else if (leader->links[RK_LINK_BULK].is_up)
                rk_call_forward(call, leader);
        }
    }
    rk_group_propose(group);
}

/* Calls that this node took as the leader go back to where they came from. */
static void send_back(struct rk_call *call)
{
    rk_call_consumed(call);
    rk_call_unpark(call);
    call->is_probe = false;
    if (call->origin == NULL) {
        rk_call_route(call);
        return;
    }
    send_refused(call);
}

static void reads_send_back(struct rk_list *calls)
{
    rk_list_each_safe (link, calls) {
        struct rk_call *call = RK_CONTAINER(link, struct rk_call, link);
        if (call->op == RK_OP_SESSION_KEEPALIVE || call->is_probe ||
            rk_keeper_owns(call->group, (enum rk_op)call->op))
            send_back(call);
    }
}

void rk_group_calls_unlead(struct rk_group *group)
{
    struct rk_map_cursor cursor;
    rk_buf_reset(&group->own);
    rk_list_each_safe (link, &group->proposed) {
        struct rk_call *call = RK_CONTAINER(link, struct rk_call, link);
        if (call->is_dropped && call->origin != NULL)
            rk_call_free(call);
        else
            send_back(call);
    }
    for (;;) {
        struct rk_call *parked = NULL;
        rk_map_each (node, &group->topics, &cursor) {
            struct rk_topic *topic = RK_CONTAINER(node, struct rk_topic, node);
            if (rk_list_is_empty(&topic->parked)) continue;
            parked = RK_CONTAINER(topic->parked.next, struct rk_call, link);
            break;
        }
        if (parked == NULL) break;
        send_back(parked);
    }
    reads_send_back(&group->reads_new);
    reads_send_back(&group->reads_ready);
    for (int i = 0; i < RK_HOST_READ_ROUNDS; i++)
        reads_send_back(&group->rounds[i].calls);
}

void rk_group_calls_leader_changed(struct rk_group *group)
{
    struct rk_host *host = group->host;
    for (uint32_t i = 0; i < host->member_count; i++) {
        struct rk_member *member = host->members[i];
        if (member->number == group->leader) continue;
        rk_list_each_safe (link, &member->forwarded) {
            struct rk_call *call = RK_CONTAINER(link, struct rk_call, link);
            if (call->group == group) rk_call_route(call);
        }
    }
}

/* --- what comes in ------------------------------------------------------------------- */

static void answer_error(struct rk_host *host, uint64_t number, struct rk_reply *reply)
{
    host->metrics.calls_failed++;
    host->io.reply(host->io.context, number, reply);
}

__attribute__((format(printf, 5, 6))) static void refuse(struct rk_host *host,
                                                         uint64_t number, enum rk_op op,
                                                         enum rk_status status,
                                                         const char *format, ...)
{
    struct rk_reply reply;
    va_list arguments;
    rk_host_reply_init(&reply, op);
    reply.status = status;
    va_start(arguments, format);
    vsnprintf(reply.text, sizeof(reply.text), format, arguments);
    va_end(arguments);
    answer_error(host, number, &reply);
}

uint64_t rk_host_deadline(const struct rk_host *host, const struct rk_request *request)
{
    uint64_t span = request->deadline_ms != 0
                        ? request->deadline_ms
                        : request->wait_ms + RK_HOST_DEADLINE_MARGIN_MS;
    if (span > RK_DEADLINE_MAX_MS) span = RK_DEADLINE_MAX_MS;
    return rk_host_now(host) + span;
}

void rk_call_start(struct rk_call *call, const struct rk_request *request,
                   uint64_t deadline_ms)
{
    uint64_t now = rk_host_now(call->group->host);
    call->deadline_ms = deadline_ms;
    rk_call_wake_at(call, deadline_ms);
    if (request->op == RK_OP_QUEUE_CONSUME && request->wait_ms > 0)
        call->wait_ms = now + request->wait_ms;
    if (!call->is_write && request->op != RK_OP_SESSION_KEEPALIVE &&
        request->op != RK_OP_CLUSTER_TRANSFER && !rk_keeper_owns(call->group, request->op))
        rk_call_read_start(call, request);
    else
        rk_call_route(call);
}

static bool is_refused(struct rk_host *host, uint64_t number,
                       const struct rk_request *request, const struct rk_op_info *info)
{
    enum rk_op op = request->op;
    if (info == NULL || info->is_internal || info->group == RK_GROUP_NONE)
        refuse(host, number, op, RK_EUNSUPPORTED, "not an operation of the groups");
    else if (request->client.size > RK_CLIENT_NAME_MAX)
        refuse(host, number, op, RK_ERANGE, "client: at most %d bytes", RK_CLIENT_NAME_MAX);
    else if (request->client.size != 0 && request->seq == 0 && info->is_write)
        refuse(host, number, op, RK_EINVAL, "seq: a request with client needs it");
    else if (host->is_removed)
        refuse(host, number, op, RK_EUNAVAILABLE, "node %s was removed from the cluster",
               host->name);
    else if (!host->is_running)
        refuse(host, number, op, RK_EUNAVAILABLE, "%s",
               rk_host_refusal(host)[0] != '\0' ? rk_host_refusal(host)
                                                : "the node has not joined yet");
    else
        return false;
    return true;
}

/* What a command adds to its request: version, client, five varints, two sizes. */
_Static_assert(RK_HOST_REQUEST_MAX + RK_CLIENT_NAME_MAX + 1 + 7 * 10 <= RK_WAL_ENTRY_MAX,
               "a request of the largest size fits into an entry");

void rk_host_call(struct rk_host *host, uint64_t number, const struct rk_request *request)
{
    const struct rk_op_info *info = rk_op_info(request->op);
    struct rk_call *call;
    struct rk_reply reply;
    uint32_t id;
    RK_ASSERT(number != 0);
    host->metrics.calls++;
    if (host->is_dead || is_refused(host, number, request, info)) return;
    rk_host_reply_init(&reply, request->op);
    reply.status = rk_host_route(host, request, &id, &reply);
    if (reply.status != RK_OK) {
        answer_error(host, number, &reply);
        return;
    }
    uint64_t deadline_ms = rk_host_deadline(host, request);
    if (id == RK_ROUTE_MANY) {
        rk_host_gather(host, number, request, deadline_ms);
        return;
    }
    if (!info->is_write && rk_group_read_now(host->groups[id], number, request)) return;
    enum rk_status status = rk_call_new(&call, host->groups[id], request);
    if (status == RK_OK) {
        status = rk_call_number(call, number);
        if (status != RK_OK) rk_call_free(call);
    }
    if (status == RK_ESIZE) {
        refuse(host, number, request->op, status,
               "%s: more than %d bytes in one call; send them in several",
               request->op == RK_OP_QUEUE_PUBLISH ? "messages" : "the call",
               RK_HOST_REQUEST_MAX);
        return;
    }
    if (status != RK_OK) {
        refuse(host, number, request->op, status, "%s",
               status == RK_EBUSY ? "too many calls wait" : "out of memory");
        return;
    }
    rk_call_start(call, request, deadline_ms);
}

enum rk_status rk_call_number(struct rk_call *call, uint64_t number)
{
    rk_put_u64(call->number_key, number);
    call->number_node.key = rk_slice_of(call->number_key, sizeof(call->number_key));
    enum rk_status status = rk_map_insert(&call->group->host->numbers, &call->number_node);
    RK_ASSERT(status != RK_EEXIST);
    if (status != RK_OK)
        call->number_node.key = RK_SLICE_EMPTY;
    else
        call->number = number;
    return status;
}

void rk_host_drop(struct rk_host *host, uint64_t number)
{
    uint8_t key[8];
    rk_put_u64(key, number);
    struct rk_map_node *node = rk_map_find(&host->numbers, rk_slice_of(key, sizeof(key)));
    if (node == NULL || host->is_dead) return;
    struct rk_call *call = RK_CONTAINER(node, struct rk_call, number_node);
    rk_map_remove(&host->numbers, node);
    call->number = 0;
    if (call->state != RK_CALL_GATHER) {
        rk_call_drop(call);
        return;
    }
    struct rk_gather *gather = call->gather;
    for (uint32_t i = 0; i < gather->part_count; i++) {
        struct rk_call *part = gather->parts[i].call;
        if (part == NULL) continue;
        part->gather = NULL;
        rk_call_drop(part);
    }
    rk_gather_free(gather);
    rk_call_free(call);
}

/* --- deadlines ----------------------------------------------------------------------- */

/* Its client is told that nobody knows; the call stays to give back what may still come. */
static void unknown_acquire(struct rk_call *call)
{
    struct rk_host *host = call->group->host;
    struct rk_reply reply;
    rk_host_reply_init(&reply, RK_OP_LOCK_ACQUIRE);
    reply.status = RK_EUNKNOWN;
    reply.outcome = RK_OUTCOME_UNKNOWN;
    snprintf(reply.text, sizeof(reply.text),
             "no answer within the deadline; it is cancelled, so that no late grant stays");
    host->metrics.calls_failed++;
    if (call->number != 0) {
        host->io.reply(host->io.context, call->number, &reply);
        rk_map_remove(&host->numbers, &call->number_node);
        call->number = 0;
    }
    call->deadline_ms = rk_host_now(host) + RK_DEADLINE_MAX_MS;
    rk_call_wake_at(call, call->deadline_ms);
    rk_call_drop(call);
}

static void run_out(struct rk_call *call)
{
    struct rk_keeper *keeper = call->group->host->keeper;
    if (!call->is_dropped && call->sends == 0 && keeper != NULL &&
        keeper->state != RK_KEEPER_OFF && rk_keeper_owns(call->group, (enum rk_op)call->op))
        rk_keeper_refuse(call);
    else if (call->is_dropped || call->origin != NULL) {
        rk_call_free(call); /* the origin has a deadline of its own */
    } else if (!call->is_write || call->sends == 0) {
        rk_call_fail(call, RK_EUNAVAILABLE, "group %" PRIu32 " has no leader that answers",
                     call->group->id);
    } else if (call->op == RK_OP_LOCK_ACQUIRE) {
        unknown_acquire(call);
    } else {
        rk_call_fail(call, RK_EUNKNOWN,
                     "no answer within the deadline; the outcome is unknown");
    }
}

void rk_host_calls_wake(struct rk_host *host)
{
    for (;;) {
        struct rk_heap_node *top = rk_heap_top(&host->timers);
        if (top == NULL) return;
        struct rk_call *call = RK_CONTAINER(top, struct rk_call, timer);
        if (call->wake_ms > rk_host_now(host)) return;
        if (call->state == RK_CALL_PARKED && call->wait_ms <= rk_host_now(host)) {
            struct rk_reply reply;
            rk_host_reply_init(&reply, RK_OP_QUEUE_CONSUME);
            reply.is_bulk = call->is_bulk;
            rk_call_answer(call, &reply);
        } else if (call->deadline_ms > rk_host_now(host)) {
            rk_call_wake_at(call, call->deadline_ms);
        } else {
            run_out(call);
        }
    }
}
