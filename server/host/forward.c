#include "host/keeper.h"

enum { FLAG_MAY_REPEAT = 1, FLAG_HAS_WAIT = 2, FORWARD_AGAIN_MS = 3000 };

/* FORWARD: u64 id, varint send, varint group, term, u8 flags, blob client, varint seq,
 * first unanswered, deadline left, wait left, blob request. */
void rk_call_forward(struct rk_call *call, struct rk_member *leader)
{
    struct rk_host *host = call->group->host;
    uint64_t now = rk_host_now(host);
    struct rk_buf *out = rk_host_section(host, leader, RK_LINK_BULK, RK_SECTION_FORWARD);
    rk_buf_u64(out, rk_call_id(call));
    rk_buf_varint(out, ++call->forwards);
    rk_buf_varint(out, call->group->id);
    rk_buf_varint(out, rk_raft_term(call->group->raft));
    rk_buf_u8(out, (uint8_t)((rk_call_may_repeat(call) ? FLAG_MAY_REPEAT : 0) |
                             (call->has_wait ? FLAG_HAS_WAIT : 0)));
    rk_buf_blob(out, rk_slice_of(call->key, call->client_size));
    rk_buf_varint(out, call->seq);
    rk_buf_varint(out, call->first_unanswered);
    rk_buf_varint(out, call->deadline_ms > now ? call->deadline_ms - now : 1);
    rk_buf_varint(out, call->wait_ms > now ? call->wait_ms - now : 0);
    rk_buf_blob(out, rk_buf_slice(&call->request));
    rk_host_section_end(host, leader, RK_LINK_BULK);
    rk_list_remove(&call->link);
    rk_list_push_back(&leader->forwarded, &call->link);
    call->state = RK_CALL_FORWARDED;
    call->log_index = 0;
    call->target = leader;
    call->sends++;
    call->retry_ms = now + FORWARD_AGAIN_MS;
    host->metrics.forwarded++;
}

static struct rk_forward_id forward_id_read(struct rk_reader *in)
{
    uint64_t call = rk_read_u64(in);
    return (struct rk_forward_id){call, rk_read_varint(in)};
}

static struct rk_call *taken_find(const struct rk_member *from, uint64_t id)
{
    rk_list_each (link, &from->taken) {
        struct rk_call *call = RK_CONTAINER(link, struct rk_call, origin_link);
        if (call->origin_id == id) return call;
    }
    return NULL;
}

static bool may_be_forwarded(const struct rk_group *group, const struct rk_request *request)
{
    const struct rk_op_info *info = rk_op_info(request->op);
    if (rk_keeper_owns(group, request->op)) return true;
    return info != NULL && (info->is_write || request->op == RK_OP_SESSION_KEEPALIVE ||
                            request->op == RK_OP_CLUSTER_TRANSFER);
}

void rk_forward_receive(struct rk_host *host, struct rk_member *from, struct rk_slice body)
{
    struct rk_request request;
    struct rk_reader in;
    struct rk_call *call;
    rk_reader_init(&in, body);
    struct rk_forward_id id = forward_id_read(&in);
    uint64_t group_id = rk_read_varint(&in);
    uint64_t term = rk_read_varint(&in);
    uint8_t flags = rk_read_u8(&in);
    struct rk_slice client = rk_read_blob(&in);
    uint64_t seq = rk_read_varint(&in);
    uint64_t first_unanswered = rk_read_varint(&in);
    uint64_t deadline = rk_read_varint(&in);
    uint64_t wait = rk_read_varint(&in);
    struct rk_slice bytes = rk_read_blob(&in);
    if (rk_reader_check(&in, true) != RK_OK || group_id > host->group_count ||
        client.size > RK_CLIENT_NAME_MAX ||
        rk_request_decode(&request, bytes, &host->arena) != RK_OK ||
        !may_be_forwarded(host->groups[group_id], &request) ||
        (rk_op_info(request.op)->is_write && (client.size == 0 || seq == 0))) {
        host->metrics.frames_dropped++;
        return;
    }
    struct rk_group *group = host->groups[group_id];
    /* Of an older term: it stood still on the way while others led, and its origin may have
     * told its caller what one of those answered. */
    if (!rk_group_is_leader(group) || term < rk_raft_term(group->raft)) {
        rk_forward_refuse(host, from, id, RK_FORWARD_REFUSED);
        return;
    }
    request.client = client;
    request.seq = seq;
    request.first_unanswered = first_unanswered;
    request.forward = true;
    call = rk_group_forward_find(group, from, client, seq, id.call);
    if (call != NULL) {
        if (id.send > call->origin_send) call->origin_send = id.send;
        return;
    }
    if (rk_call_new(&call, group, &request) != RK_OK) {
        rk_forward_refuse(host, from, id, RK_FORWARD_REFUSED);
        return;
    }
    if (deadline > RK_DEADLINE_MAX_MS) deadline = RK_DEADLINE_MAX_MS;
    call->origin = from;
    call->origin_id = id.call;
    call->origin_send = id.send;
    call->may_repeat = (flags & FLAG_MAY_REPEAT) != 0;
    call->has_wait = (flags & FLAG_HAS_WAIT) != 0;
    rk_list_push_back(&from->taken, &call->origin_link);
    rk_call_start(call, &request, rk_host_now(host) + deadline);
    call->wait_ms = wait == 0 ? 0 : rk_host_now(host) + wait;
}

void rk_forward_refuse(struct rk_host *host, struct rk_member *to, struct rk_forward_id id,
                       enum rk_forward_answer answer)
{
    struct rk_buf *out = rk_host_section(host, to, RK_LINK_BULK, RK_SECTION_FORWARD_REPLY);
    rk_buf_u64(out, id.call);
    rk_buf_varint(out, id.send);
    rk_buf_u8(out, (uint8_t)answer);
    rk_host_section_end(host, to, RK_LINK_BULK);
}

/* FORWARD_REPLY: u64 id, varint send, u8 answer; if answered: varint index, u64 history,
 * reply. */
void rk_forward_reply(struct rk_call *call, const struct rk_reply *reply)
{
    struct rk_host *host = call->group->host;
    struct rk_buf *out =
        rk_host_section(host, call->origin, RK_LINK_BULK, RK_SECTION_FORWARD_REPLY);
    rk_buf_u64(out, call->origin_id);
    rk_buf_varint(out, call->origin_send);
    rk_buf_u8(out, RK_FORWARD_ANSWERED);
    rk_buf_varint(out, reply->position_index);
    rk_buf_u64(out, reply->position_history);
    rk_reply_encode(out, reply);
    rk_host_section_end(host, call->origin, RK_LINK_BULK);
}

void rk_forward_reply_receive(struct rk_host *host, struct rk_member *from,
                              struct rk_slice body)
{
    struct rk_reply reply;
    struct rk_reader in;
    rk_reader_init(&in, body);
    struct rk_forward_id id = forward_id_read(&in);
    struct rk_call *call = rk_host_call_by_id(host, id.call);
    uint8_t answer = rk_read_u8(&in);
    if (in.is_failed) {
        host->metrics.frames_dropped++;
        return;
    }
    /* Answered already by what was applied here, or sent elsewhere meanwhile. */
    if (call == NULL || call->state != RK_CALL_FORWARDED || call->target != from) return;
    if (answer != RK_FORWARD_ANSWERED) {
        if (answer == RK_FORWARD_REFUSED) call->sends--;
        if (id.send != call->forwards) return;
        if (call->is_dropped && call->sends == 0) {
            rk_call_free(call);
            return;
        }
        rk_call_route(call);
        call->retry_ms = rk_host_now(host) + host->tick_ms;
        return;
    }
    uint64_t index = rk_read_varint(&in);
    uint64_t history = rk_read_u64(&in);
    rk_host_reply_init(&reply, (enum rk_op)call->op);
    if (in.is_failed || rk_reply_decode(&reply, rk_slice_of(in.at, rk_reader_left(&in)),
                                        &host->arena) != RK_OK) {
        host->metrics.frames_dropped++;
        return;
    }
    /* That it was not done says nothing of where it was sent since: it may be yet. */
    if (reply.status != RK_OK && id.send != call->forwards) return;
    reply.position_group = call->group->id;
    reply.position_index = index;
    reply.position_history = history;
    rk_call_answer(call, &reply);
}

void rk_forward_drop(struct rk_call *call)
{
    struct rk_host *host = call->group->host;
    struct rk_buf *out =
        rk_host_section(host, call->target, RK_LINK_BULK, RK_SECTION_FORWARD_DROP);
    rk_buf_u64(out, rk_call_id(call));
    rk_host_section_end(host, call->target, RK_LINK_BULK);
}

/* The origin's client went away. What is in the log is answered all the same: the origin
 * hands back what comes. */
void rk_forward_drop_receive(struct rk_host *host, struct rk_member *from,
                             struct rk_slice body)
{
    struct rk_reader in;
    rk_reader_init(&in, body);
    uint64_t id = rk_read_u64(&in);
    if (in.is_failed) {
        host->metrics.frames_dropped++;
        return;
    }
    struct rk_call *call = taken_find(from, id);
    if (call == NULL || call->state == RK_CALL_PROPOSED) return;
    rk_forward_refuse(host, from, (struct rk_forward_id){id, call->origin_send},
                      RK_FORWARD_REFUSED);
    rk_call_free(call);
}

void rk_member_forward_again(struct rk_host *host, struct rk_member *member)
{
    if (!member->links[RK_LINK_BULK].is_up) return;
    rk_list_each_safe (link, &member->forwarded) {
        struct rk_call *call = RK_CONTAINER(link, struct rk_call, link);
        if (call->retry_ms <= rk_host_now(host) && !call->is_dropped) rk_call_route(call);
    }
}

void rk_member_link_lost(struct rk_host *host, struct rk_member *member)
{
    rk_list_each_safe (link, &member->forwarded) {
        struct rk_call *call = RK_CONTAINER(link, struct rk_call, link);
        rk_call_route(call);
    }
    rk_list_each_safe (origin_link, &member->taken) {
        struct rk_call *call = RK_CONTAINER(origin_link, struct rk_call, origin_link);
        if (call->state == RK_CALL_PARKED) rk_call_free(call);
    }
    (void)host;
}

void rk_member_home_lost(struct rk_host *host, struct rk_member *member)
{
    rk_list_each_safe (origin_link, &member->taken) {
        struct rk_call *call = RK_CONTAINER(origin_link, struct rk_call, origin_link);
        if (call->op == RK_OP_QUEUE_CONSUME && call->state == RK_CALL_PROPOSED) {
            call->origin = NULL;
            call->is_dropped = true;
            rk_list_remove(&call->origin_link);
        } else {
            rk_call_free(call); /* a wait without a call is cancelled */
        }
    }
    (void)host;
}
