#include "host/host_internal.h"

#include "base/mutant.h"

#include <inttypes.h>

/* Each group's leader moves its membership towards the member table, one change at a time:
 * a new node learns, has caught up, votes; one that leaves hands over, then is removed,
 * from group 0 last. The leader of group 0 keeps the table itself up to date: disks of
 * nodes that came, addresses that moved, rows that no group counts on any more. */

enum { CATCH_UP_ENTRIES = 1024, PROPOSE_AGAIN_MS = 1000 };

static bool is_in(const struct rk_raft_members *members, uint64_t number)
{
    for (uint32_t i = 0; i < members->count; i++)
        if (members->ids[i] == number) return true;
    return false;
}

static bool knows(const struct rk_group *group, uint64_t number)
{
    return is_in(&group->conf.voters, number) ||
           is_in(&group->conf.voters_outgoing, number) ||
           is_in(&group->conf.learners, number) ||
           is_in(&group->conf.learners_next, number);
}

static bool is_leaving(struct rk_member_table *table, uint64_t number)
{
    const struct rk_member_row *row = rk_member_table_number(table, number);
    return row == NULL ? rk_member_table_is_gone(table, number)
                       : row->wish == RK_MEMBER_LEAVING;
}

/* --- one group ----------------------------------------------------------------------- */

static bool is_caught_up(const struct rk_raft_status *status, uint64_t number)
{
    for (uint32_t i = 0; i < status->progress_count; i++) {
        const struct rk_raft_progress *progress = &status->progress[i];
        if (progress->id == number)
            return progress->is_active && progress->state == RK_RAFT_REPLICATE &&
                   progress->match + CATCH_UP_ENTRIES >= status->last_index;
    }
    return false;
}

static void change_add(struct rk_raft_conf_change *change, enum rk_raft_conf_op op,
                       uint64_t number)
{
    change->changes[change->count++] = (struct rk_raft_conf_single){op, number};
}

/* After the change a majority of the voters is up: a change that would stop the group
 * waits. */
static bool is_safe(const struct rk_group *group, const struct rk_raft_status *status,
                    const struct rk_raft_conf_change *change)
{
    const struct rk_host *host = group->host;
    struct rk_raft_members voters = group->conf.voters;
    uint32_t up = 0;
    for (uint32_t i = 0; i < change->count; i++) {
        uint64_t number = change->changes[i].id;
        if (change->changes[i].op == RK_RAFT_ADD_VOTER && !is_in(&voters, number))
            voters.ids[voters.count++] = number;
        if (change->changes[i].op != RK_RAFT_REMOVE) continue;
        for (uint32_t at = 0; at < voters.count; at++)
            if (voters.ids[at] == number) voters.ids[at] = voters.ids[--voters.count];
    }
    for (uint32_t i = 0; i < voters.count; i++) {
        const struct rk_member *member = rk_host_member_by_number(host, voters.ids[i]);
        if (member == NULL) continue;
        /* A link that fell says sooner than silence that a node is gone. */
        up += member == host->self ||
              (rk_member_is_up(host, member) && member->links[RK_LINK_BULK].is_up &&
               is_caught_up(status, member->number));
    }
    return up > voters.count / 2;
}

/* The number under which a node of that name votes here and leaves; 0: none. */
static uint64_t predecessor(const struct rk_group *group,
                            const struct rk_member_table *table,
                            const struct rk_member_row *row)
{
    for (uint32_t i = 0; i < table->count; i++) {
        const struct rk_member_row *old = &table->rows[i];
        if (old->wish == RK_MEMBER_LEAVING && rk_slice_is_equal(old->name, row->name) &&
            old->number != group->host->number && is_in(&group->conf.voters, old->number))
            return old->number;
    }
    return 0;
}

static bool wish_promote(const struct rk_group *group, struct rk_member_table *table,
                         const struct rk_raft_status *status,
                         struct rk_raft_conf_change *change)
{
    for (uint32_t i = 0; i < table->count; i++) {
        const struct rk_member_row *row = &table->rows[i];
        if (row->wish != RK_MEMBER_VOTER || !is_in(&group->conf.learners, row->number) ||
            !is_caught_up(status, row->number))
            continue;
        change->count = 0;
        change_add(change, RK_RAFT_ADD_VOTER, row->number);
        uint64_t old = predecessor(group, table, row);
        /* In one step, so that a replacement never costs a vote. */
        if (old != 0) change_add(change, RK_RAFT_REMOVE, old);
        if (is_safe(group, status, change)) return true;
    }
    return false;
}

static bool wish_learn(const struct rk_group *group, const struct rk_member_table *table,
                       struct rk_raft_conf_change *change)
{
    for (uint32_t i = 0; i < table->count; i++) {
        const struct rk_member_row *row = &table->rows[i];
        if (row->wish == RK_MEMBER_LEAVING || row->disk == 0 || knows(group, row->number))
            continue;
        change->count = 0;
        change_add(change, RK_RAFT_ADD_LEARNER, row->number);
        return true;
    }
    return false;
}

/* What this node has of another group's membership may be of long ago, and one that came
 * just now has nothing of it at all: whom that does not name the group may still need. So
 * it must be no older than the table that wishes somebody away. */
static bool is_proven(struct rk_group *group)
{
    struct rk_host *host = group->host;
    struct rk_conf_proof *proof = &group->proof;
    uint64_t now = rk_host_now(host);
    if (proof->version == host->table_version) return true;
    bool is_asked = proof->asked_version == host->table_version;
    if (is_asked && proof->index != 0) {
        if (rk_machine_index(group->machine) < proof->index) return false;
        proof->version = proof->asked_version;
        return true;
    }
    if (is_asked && proof->request != 0 &&
        now - proof->asked_ms < 3 * (uint64_t)host->heartbeat_ms)
        return false;
    uint64_t request = ++host->read_request;
    if (rk_raft_read_index(group->raft, request) == RK_OK)
        *proof = (struct rk_conf_proof){.request = request,
                                        .asked_ms = now,
                                        .asked_version = host->table_version,
                                        .version = proof->version};
    return false;
}

void rk_group_conf_confirmed(struct rk_group *group, const struct rk_raft_read_state *read)
{
    struct rk_conf_proof *proof = &group->proof;
    if (proof->request == 0 || proof->request != read->request) return;
    proof->request = 0;
    if (!read->is_lost) proof->index = read->index;
}

/* Another group than 0 counts on it, or may. */
static bool is_needed(const struct rk_host *host, uint64_t number)
{
    for (uint32_t id = 1; id <= host->group_count; id++)
        if (knows(host->groups[id], number) || !is_proven(host->groups[id])) return true;
    return false;
}

/* Group 0 goes last: as long as another one counts on the node, it stays in the table and
 * its frames are heard. */
static bool is_awaited(const struct rk_group *group, uint64_t number)
{
    return group->id == 0 && is_needed(group->host, number);
}

/* One under the same name is to take its vote over. */
static bool has_successor(const struct rk_group *group, struct rk_member_table *table,
                          uint64_t number)
{
    const struct rk_member_row *row = rk_member_table_number(table, number);
    const struct rk_member_row *next =
        row == NULL ? NULL : rk_member_table_find(table, row->name);
    return next != NULL && next->wish == RK_MEMBER_VOTER &&
           is_in(&group->conf.voters, number) && !is_in(&group->conf.voters, next->number);
}

static bool wish_remove(const struct rk_group *group, struct rk_member_table *table,
                        const struct rk_raft_status *status,
                        const struct rk_raft_members *members,
                        struct rk_raft_conf_change *change)
{
    for (uint32_t i = 0; i < members->count; i++) {
        uint64_t number = members->ids[i];
        if (number == group->host->number || !is_leaving(table, number) ||
            is_awaited(group, number) || has_successor(group, table, number))
            continue;
        change->count = 0;
        change_add(change, RK_RAFT_REMOVE, number);
        if (is_safe(group, status, change)) return true;
    }
    return false;
}

static void group_reconcile(struct rk_group *group, struct rk_member_table *table)
{
    struct rk_host *host = group->host;
    struct rk_raft_status status;
    struct rk_raft_conf_change change;
    memset(&change, 0, sizeof(change));
    if (!group->is_serving &&
        (!RK_MUTANT(change_before_noop) || !rk_raft_is_leader(group->raft)))
        return;
    /* The one there is does not know a node that needs it. */
    if (rk_raft_wanted_snapshot(group->raft) > group->mark_index)
        rk_host_snapshot_wish(host, group, 0);
    if (group->conf.voters_outgoing.count > 0) return; /* left by itself */
    rk_raft_status(group->raft, &status);
    if (status.transferee != RK_RAFT_NONE) return;
    /* Who leaves hands over; are all voters to leave, it first makes one that stays. */
    if (is_leaving(table, host->number) && rk_group_step_aside(group)) return;
    if (!wish_promote(group, table, &status, &change) &&
        !wish_learn(group, table, &change) &&
        !wish_remove(group, table, &status, &group->conf.learners, &change) &&
        !wish_remove(group, table, &status, &group->conf.voters, &change))
        return;
    enum rk_status result = rk_raft_propose_conf(group->raft, &change, NULL);
    if (result == RK_OK)
        rk_host_log(host, RK_LOG_INFO, "group %u: proposes to %s number %" PRIu64,
                    group->id,
                    change.changes[0].op == RK_RAFT_ADD_VOTER     ? "promote"
                    : change.changes[0].op == RK_RAFT_ADD_LEARNER ? "add"
                                                                  : "remove",
                    change.changes[0].id);
    else if (result != RK_EBUSY)
        rk_host_log(host, RK_LOG_WARN, "group %u: a membership change must wait: %s",
                    group->id, rk_status_text(result));
}

/* --- the table ----------------------------------------------------------------------- */

static bool text_follow(struct rk_slice *row, const char *told)
{
    struct rk_slice text = rk_slice_of_string(told);
    if (text.size == 0 || rk_slice_is_equal(*row, text)) return false;
    *row = text;
    return true;
}

static bool row_follow(const struct rk_host *host, const struct rk_member_table *table,
                       struct rk_member_row *row)
{
    const struct rk_member *member = rk_host_member_by_number(host, row->number);
    bool has_changed = false;
    if (member == NULL || row->wish == RK_MEMBER_LEAVING) return false;
    if (row->disk == 0) {
        if (member->probe_ms == 0 ||
            rk_host_now(host) - member->probe_ms > RK_HOST_PROBE_FRESH_MS ||
            rk_member_table_has_disk(table, member->probe_disk))
            return false;
        row->disk = member->probe_disk;
        has_changed = true;
    }
    if (member != host->self && !member->is_told) return has_changed;
    if (text_follow(&row->peer, member->peer)) has_changed = true;
    if (text_follow(&row->http, member->http)) has_changed = true;
    if (text_follow(&row->rpc, member->rpc)) has_changed = true;
    return has_changed;
}

/* No group counts on it any more. As long as a successor under its name awaits its disk,
 * the row keeps the disk that must not come again: that node may be about to take the
 * number that leaves, and two numbers would have one disk. */
static uint64_t row_done(const struct rk_host *host, struct rk_member_table *table)
{
    for (uint32_t i = 0; i < table->count; i++) {
        const struct rk_member_row *next = rk_member_table_find(table, table->rows[i].name);
        bool is_known =
            table->rows[i].wish != RK_MEMBER_LEAVING || (next != NULL && next->disk == 0);
        if (!is_known)
            is_known = knows(host->groups[0], table->rows[i].number) ||
                       is_needed(host, table->rows[i].number);
        if (!is_known) return table->rows[i].number;
    }
    return 0;
}

static void table_propose(struct rk_host *host, const struct rk_member_table *table)
{
    struct rk_request request;
    struct rk_buf value;
    memset(&request, 0, sizeof(request));
    rk_buf_init(&value);
    rk_member_table_encode(&value, table);
    request.op = RK_OP_MEMBERS;
    request.value.bytes = rk_buf_slice(&value);
    request.value.encoding = RK_ENCODING_RAW;
    RK_SET(&request, VALUE);
    rk_buf_reset(&host->scratch);
    rk_request_encode(&host->scratch, &request);
    if (!value.is_failed) rk_group_own(host->groups[0], &host->scratch);
    rk_buf_fini(&value);
    host->proposed_version = table->version;
    host->proposed_ms = rk_host_now(host);
}

static void table_reconcile(struct rk_host *host)
{
    struct rk_group *group = host->groups[0];
    struct rk_member_table table;
    bool has_changed = false;
    if (!group->is_serving ||
        rk_member_table_decode(&table, rk_machine_members(group->machine)) != RK_OK ||
        table.version < host->table_version)
        return;
    if (host->proposed_version == table.version + 1 &&
        rk_host_now(host) - host->proposed_ms < PROPOSE_AGAIN_MS)
        return;
    for (uint32_t i = 0; i < table.count; i++)
        if (row_follow(host, &table, &table.rows[i])) has_changed = true;
    for (uint64_t done = row_done(host, &table); done != 0; done = row_done(host, &table)) {
        rk_member_table_drop(&table, done);
        has_changed = true;
    }
    if (!has_changed) return;
    table.version++;
    table_propose(host, &table);
}

void rk_host_reconcile(struct rk_host *host)
{
    struct rk_member_table table;
    if (host->is_stopping || host->is_removed ||
        rk_member_table_decode(&table, rk_buf_slice(&host->table)) != RK_OK)
        return;
    for (uint32_t id = 0; id <= host->group_count && !host->is_dead; id++)
        group_reconcile(host->groups[id], &table);
    table_reconcile(host);
}

/* --- what others see ----------------------------------------------------------------- */

const char *rk_member_role(const struct rk_host *host, const struct rk_member *member)
{
    bool is_voter = true, is_learner = true;
    if (!host->is_running) return "";
    if (member->number == 0 || (member == host->self && host->is_removed)) return "removed";
    if (member->wish == RK_MEMBER_LEAVING) return "leaving";
    for (uint32_t id = 0; id <= host->group_count; id++) {
        const struct rk_group *group = host->groups[id];
        if (!is_in(&group->conf.voters, member->number)) is_voter = false;
        if (!knows(group, member->number)) is_learner = false;
    }
    return is_voter ? "voter" : is_learner ? "learner" : "joining";
}

static bool group_is_reconciled(const struct rk_group *group, struct rk_member_table *table)
{
    const struct rk_raft_conf_state *conf = &group->conf;
    uint32_t voters = 0, learners = 0;
    if (conf->voters_outgoing.count > 0) return false;
    for (uint32_t i = 0; i < table->count; i++) {
        const struct rk_member_row *row = &table->rows[i];
        bool is_voter = row->wish == RK_MEMBER_VOTER;
        if (!is_in(is_voter ? &conf->voters : &conf->learners, row->number)) return false;
        voters += is_voter;
        learners += !is_voter;
    }
    return conf->voters.count == voters && conf->learners.count == learners;
}

bool rk_host_is_reconciled(const struct rk_host *host)
{
    struct rk_member_table table;
    if (!host->is_running ||
        rk_member_table_decode(&table, rk_buf_slice(&host->table)) != RK_OK)
        return false;
    for (uint32_t id = 0; id <= host->group_count; id++)
        if (!group_is_reconciled(host->groups[id], &table)) return false;
    return true;
}
