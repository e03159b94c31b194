#include "host/host_internal.h"

#include <inttypes.h>

/* Who leads which group. Groups are dealt to the members in order of their names; leaders
 * move towards that by transfer, one at a time and never soon after a change. */

enum {
    SETTLE_MS = 5000, /* after a change of leader, or the start */
    HOLD_MS = 600000, /* after a leader was placed by hand */
    CATCH_UP_ENTRIES = 1024,
};

static bool is_voter(const struct rk_group *group, const struct rk_member *member)
{
    for (uint32_t i = 0; i < group->conf.voters.count; i++)
        if (group->conf.voters.ids[i] == member->number) return true;
    return false;
}

static bool may_keep(const struct rk_group *group, const struct rk_member *member)
{
    return member->wish != RK_MEMBER_LEAVING && !member->is_damaged &&
           is_voter(group, member);
}

/* The members in the order in which they are to lead the group: `place` 0 is the first. */
static struct rk_member *in_line(const struct rk_group *group, uint32_t place)
{
    uint32_t count = 0;
    for (uint32_t i = 0; i < group->host->member_count; i++)
        count += may_keep(group, group->host->members[i]);
    if (place >= count) return NULL;
    uint32_t wanted = (group->id + place) % count;
    for (uint32_t i = 0; i < group->host->member_count; i++) {
        struct rk_member *member = group->host->members[i];
        if (may_keep(group, member) && wanted-- == 0) return member;
    }
    return NULL;
}

struct rk_member *rk_group_preferred(const struct rk_group *group)
{
    return in_line(group, 0);
}

uint32_t rk_group_place(const struct rk_group *group)
{
    uint32_t place = 0;
    for (struct rk_member *member = in_line(group, 0);
         member != NULL && member != group->host->self; member = in_line(group, place))
        place++;
    return place;
}

/* The voter that stays, this node excepted, that is up, keeps time and has most of the log;
 * one whose clock is off only where there is no other. */
static struct rk_member *successor(const struct rk_group *group,
                                   const struct rk_raft_status *status)
{
    const struct rk_host *host = group->host;
    struct rk_member *best = NULL;
    uint64_t best_match = 0;
    bool is_best_fit = false;
    for (uint32_t i = 0; i < status->progress_count; i++) {
        const struct rk_raft_progress *progress = &status->progress[i];
        struct rk_member *member = rk_host_member_by_number(host, progress->id);
        if (member == NULL || member == host->self || progress->is_learner ||
            member->wish == RK_MEMBER_LEAVING || member->is_damaged ||
            !rk_member_is_up(host, member))
            continue;
        bool is_fit = rk_host_is_clock_fit(host, member);
        bool is_better = is_fit == is_best_fit ? progress->match > best_match : is_fit;
        if (best != NULL && !is_better) continue;
        best = member;
        best_match = progress->match;
        is_best_fit = is_fit;
    }
    return best;
}

static bool is_caught_up(const struct rk_raft_status *status,
                         const struct rk_member *member)
{
    for (uint32_t i = 0; i < status->progress_count; i++)
        if (status->progress[i].id == member->number)
            return status->progress[i].match + CATCH_UP_ENTRIES >= status->last_index;
    return false;
}

bool rk_group_hand_over(struct rk_group *group, struct rk_member *to)
{
    if (rk_raft_transfer(group->raft, to->number) != RK_OK) return false;
    group->transfer_ms = rk_host_now(group->host);
    rk_host_log(group->host, RK_LOG_INFO, "group %u: hands the leadership to %s", group->id,
                to->name);
    return true;
}

static bool balance_one(struct rk_group *group)
{
    struct rk_host *host = group->host;
    struct rk_raft_status status;
    uint64_t now = rk_host_now(host);
    if (!group->is_serving) return false;
    if (host->is_clock_off) {
        rk_raft_status(group->raft, &status);
        struct rk_member *to = successor(group, &status);
        return status.transferee == 0 && to != NULL && rk_host_is_clock_fit(host, to) &&
               rk_group_hand_over(group, to);
    }
    struct rk_member *wanted = rk_group_preferred(group);
    if (wanted == NULL || wanted == host->self || now < group->hold_ms ||
        now - group->changed_ms < SETTLE_MS || now - group->transfer_ms < SETTLE_MS ||
        !rk_member_is_up(host, wanted) || !rk_host_is_clock_fit(host, wanted))
        return false;
    rk_raft_status(group->raft, &status);
    return status.transferee == 0 && is_caught_up(&status, wanted) &&
           rk_group_hand_over(group, wanted);
}

void rk_host_balance(struct rk_host *host)
{
    if (host->is_stopping || rk_host_now(host) - host->started_ms < SETTLE_MS) return;
    for (uint32_t id = 0; id <= host->group_count; id++)
        if (balance_one(host->groups[id])) return;
}

bool rk_group_step_aside(struct rk_group *group)
{
    struct rk_raft_status status;
    rk_raft_status(group->raft, &status);
    if (status.transferee != 0) return true;
    struct rk_member *to = successor(group, &status);
    return to != NULL && rk_group_hand_over(group, to);
}

void rk_host_stop_run(struct rk_host *host)
{
    for (uint32_t id = 0; id <= host->group_count; id++) {
        struct rk_group *group = host->groups[id];
        if (rk_group_is_leader(group)) (void)rk_group_step_aside(group);
    }
}

/* --- cluster.transfer ---------------------------------------------------------------- */

/* HOLD: varint group, varint ms. The others leave the group alone for so long. */
static void hold_send(struct rk_group *group)
{
    struct rk_host *host = group->host;
    for (uint32_t i = 0; i < host->member_count; i++) {
        struct rk_member *member = host->members[i];
        if (member == host->self || member->number == 0) continue;
        struct rk_buf *out =
            rk_host_section(host, member, RK_LINK_CONTROL, RK_SECTION_HOLD);
        rk_buf_varint(out, group->id);
        rk_buf_varint(out, HOLD_MS);
        rk_host_section_end(host, member, RK_LINK_CONTROL);
    }
    group->hold_ms = rk_host_now(host) + HOLD_MS;
}

void rk_host_hold_receive(struct rk_host *host, struct rk_slice body)
{
    struct rk_reader in;
    rk_reader_init(&in, body);
    uint64_t id = rk_read_varint(&in);
    uint64_t ms = rk_read_varint(&in);
    if (in.is_failed || id > host->group_count || ms > HOLD_MS) {
        host->metrics.frames_dropped++;
        return;
    }
    host->groups[id]->hold_ms = rk_host_now(host) + ms;
}

static void moved(struct rk_call *call)
{
    struct rk_reply reply;
    rk_host_reply_init(&reply, RK_OP_CLUSTER_TRANSFER);
    reply.ok = true;
    rk_call_answer(call, &reply);
}

void rk_group_transfer_call(struct rk_call *call, const struct rk_request *request)
{
    struct rk_group *group = call->group;
    struct rk_host *host = group->host;
    struct rk_raft_status status;
    struct rk_member *to;
    rk_raft_status(group->raft, &status);
    if (RK_HAS(request, TO)) {
        to = rk_host_member_by_name(host, request->to);
    } else {
        to = rk_group_preferred(group);
        if (to == NULL || to == host->self) to = successor(group, &status);
    }
    if (to == NULL || to->number == 0 || !is_voter(group, to)) {
        rk_call_fail(call, RK_ENOENT, "to: no such voter in group %u", group->id);
        return;
    }
    if (to == host->self) {
        moved(call);
        return;
    }
    if (to->is_damaged || !rk_member_is_up(host, to) || !rk_group_hand_over(group, to)) {
        rk_call_fail(call, RK_EUNAVAILABLE, "node %s can not take group %u now", to->name,
                     group->id);
        return;
    }
    hold_send(group);
    call->min_index = to->number;
    call->state = RK_CALL_MOVING;
    rk_list_remove(&call->link);
    rk_list_push_back(&group->moving, &call->link);
}

void rk_group_moving_check(struct rk_group *group)
{
    struct rk_host *host = group->host;
    uint64_t leader = rk_raft_leader(group->raft);
    struct rk_raft_status status;
    if (rk_list_is_empty(&group->moving) || leader == RK_RAFT_NONE) return;
    rk_raft_status(group->raft, &status);
    rk_list_each_safe (link, &group->moving) {
        struct rk_call *call = RK_CONTAINER(link, struct rk_call, link);
        if (leader == call->min_index)
            moved(call);
        else if (leader != host->number || status.transferee != call->min_index)
            rk_call_fail(call, RK_EUNAVAILABLE, "group %u: the leadership did not move",
                         group->id);
    }
}
