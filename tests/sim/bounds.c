/* What a node takes in: a leader's proposals up to a bound, nothing that grows while its
 * disk is full, and no frames of strangers. */
#include "sim.h"

#include "base/assert.h"
#include "host/host_internal.h"
#include "state/command.h"

#include <inttypes.h>

enum { ENTRIES_BYTES = 1 << 20, FOREIGN = 77 };

/* --- proposals that are not applied -------------------------------------------------- */

static uint64_t own_bytes(const struct sim *sim, uint32_t id, uint64_t term, uint64_t from,
                          uint64_t to)
{
    uint64_t bytes = 0;
    for (uint64_t i = from; i <= to; i++) {
        const struct sim_matched *entry = sim_matching_find(sim, id, i, term);
        if (entry != NULL) bytes += entry->size;
    }
    return bytes;
}

/* Rule 21. Raft refuses whole proposals, so one alone may pass the bound. What is said here
 * holds whatever of this turn was applied before the last of it was proposed. */
static void uncommitted_check(struct sim_node *node, uint32_t id,
                              const struct rk_raft_status *status)
{
    const struct sim *sim = node->sim;
    struct sim_group_view *view = &node->views[id];
    uint64_t limit = sim->config.uncommitted_bytes, term = status->hard_state.term;
    uint64_t old = view->own_last > status->applied ? view->own_last : status->applied;
    uint64_t before = own_bytes(sim, id, term, status->applied + 1, old);
    uint64_t added = own_bytes(sim, id, term, old + 1, status->last_index);
    /* With all applied raft's own count is exact; entries of former terms may lessen it. */
    if (before + added == 0 && status->has_committed_in_term &&
        status->applied >= status->hard_state.commit)
        view->is_counted = true;
    if (view->is_counted && before > 0 && added > 0 && before + added > limit)
        sim_fail(sim,
                 "%s leads group %u with %" PRIu64 " bytes that are not committed, at most "
                 "%" PRIu64 " are allowed",
                 node->name, id, before + added, limit);
}

/* --- what grows ---------------------------------------------------------------------- */

static const struct rk_raft_entry *entries_get(struct sim_node *node, uint32_t id,
                                               uint64_t from, uint64_t to, size_t *count)
{
    const struct rk_raft_entry *entries = NULL;
    struct rk_storage_error error = {""};
    *count = 0;
    if (from > to) return NULL;
    if (rk_entry_log_entries(node->host->groups[id]->log, from, to + 1, ENTRIES_BYTES,
                             &node->sim->arena, &entries, count, &error) != RK_OK)
        sim_fail(node->sim, "%s group %u: entry %" PRIu64 " can not be read: %s",
                 node->name, id, from, error.message);
    return entries;
}

static bool is_of_client(const struct rk_raft_entry *entry, struct rk_command *out)
{
    return entry->type == RK_RAFT_ENTRY_NORMAL && entry->data.size > 0 &&
           rk_command_decode(out, entry->data) == RK_OK && out->client.size > 0;
}

/* It is asked again: the answer stands in the log already, or will. */
static bool is_known(struct sim_node *node, uint32_t id,
                     const struct rk_raft_entry *entries, size_t count,
                     const struct rk_command *command)
{
    struct rk_command other;
    for (size_t i = 0; i < count; i++)
        if (is_of_client(&entries[i], &other) && other.seq == command->seq &&
            rk_slice_is_equal(other.client, command->client))
            return true;
    return rk_machine_remembers(node->host->groups[id]->machine, command->client,
                                command->seq);
}

/* Rule 19: full is refused before it is met. */
static void full_check(struct sim_node *node, uint32_t id,
                       const struct rk_raft_status *status)
{
    struct sim *sim = node->sim;
    uint64_t seen = node->views[id].own_last;
    /* What raft has not given to the log yet can not be read there. */
    uint64_t last = rk_entry_log_last(node->host->groups[id]->log);
    size_t count;
    if (!node->was_full || !node->host->is_full || seen >= last) return;
    uint64_t from = status->applied < seen ? status->applied + 1 : seen + 1;
    if (from < status->first_index) from = status->first_index;
    const struct rk_raft_entry *entries = entries_get(node, id, from, last, &count);
    for (size_t i = 0; i < count; i++) {
        struct rk_command command;
        struct rk_request request;
        if (entries[i].index <= seen || !is_of_client(&entries[i], &command) ||
            rk_request_decode(&request, command.request, &sim->arena) != RK_OK ||
            !rk_op_info(request.op)->grows || is_known(node, id, entries, i, &command))
            continue;
        sim_fail(sim, "%s group %u takes %s while its disk is full", node->name, id,
                 rk_op_info(request.op)->name);
    }
    rk_arena_reset(&sim->arena);
}

void sim_bounds_view(struct sim_node *node, uint32_t id,
                     const struct rk_raft_status *status)
{
    struct sim_group_view *view = &node->views[id];
    if (status->role != RK_RAFT_LEADER) {
        view->own_term = 0;
        return;
    }
    if (view->own_term == status->hard_state.term) {
        if (node->sim->config.uncommitted_bytes != 0) uncommitted_check(node, id, status);
        full_check(node, id, status);
    } else {
        view->own_term = status->hard_state.term;
        view->is_counted = false;
    }
    view->own_last = status->last_index;
}

/* --- strangers ----------------------------------------------------------------------- */

enum stranger {
    STRANGER_CLUSTER, /* of another cluster */
    STRANGER_DISK,    /* of a member's name and number with another disk */
    STRANGER_FROM,    /* under another member's number */
    STRANGER_TO,      /* meant for another node */
    STRANGER_LINK,    /* says another name than its link */
    STRANGER_NAME,    /* whom nobody knows */
    STRANGER_PROTOCOL,
    STRANGER_GROUP,   /* a member speaks of a group that there is not */
    STRANGER_MESSAGE, /* a member speaks for another one */
    STRANGER_KINDS
};

static void forge(struct sim *sim, const struct rk_host *host,
                  const struct rk_member *member, enum stranger kind, struct rk_buf *out)
{
    uint64_t odd = 1 + sim_below(sim, 1000);
    uint64_t group = sim_below(sim, host->group_count + 1);
    const struct rk_raft *raft = host->groups[group]->raft;
    bool is_other_name = kind == STRANGER_LINK || kind == STRANGER_NAME;
    /* Were it taken, the node would follow: no such term has begun. */
    struct rk_raft_message message = {
        .type = sim_chance(sim, 50) ? RK_RAFT_MSG_HEARTBEAT : RK_RAFT_MSG_VOTE,
        .from = member->number + (kind == STRANGER_MESSAGE ? odd : 0),
        .to = host->number,
        .term = rk_raft_term(raft) + 1 + sim_below(sim, 3),
        .index = UINT64_C(1) << 40,
        .log_term = UINT64_C(1) << 40};
    rk_buf_u8(out, kind == STRANGER_PROTOCOL ? FOREIGN : RK_HOST_PROTOCOL);
    rk_buf_u64(out, host->cluster.high ^ (kind == STRANGER_CLUSTER ? odd : 0));
    rk_buf_u64(out, host->cluster.low);
    rk_buf_u64(out, member->disk ^ (kind == STRANGER_DISK ? odd : 0));
    rk_buf_u64(out, member->number + (kind == STRANGER_FROM ? odd : 0));
    rk_buf_u64(out, host->number + (kind == STRANGER_TO ? odd : 0));
    rk_buf_u64(out, host->now.wall_ms);
    rk_buf_blob(out, is_other_name ? RK_SLICE_LITERAL("stranger")
                                   : rk_slice_of_string(member->name));
    rk_buf_u16(out, RK_SECTION_RAFT);
    rk_buf_u32(out, 0);
    size_t at = out->size;
    rk_buf_varint(out, kind == STRANGER_GROUP ? host->group_count + odd : group);
    rk_raft_message_encode(out, &message);
    RK_ASSERT(rk_buf_check(out) == RK_OK);
    rk_put_u32(out->data + at - 4, (uint32_t)(out->size - at));
}

/* Whose frames it takes at this moment; NULL: nobody's. */
static const struct rk_member *speaker(struct sim_node *node)
{
    struct sim *sim = node->sim;
    struct sim_node *from = &sim->nodes[sim_below(sim, sim->config.slots)];
    if (from == node || !sim_node_is_up(from) || !from->host->is_running ||
        from->is_paused || sim->cut[from->at][node->at] > 0)
        return NULL;
    const struct rk_member *member =
        rk_host_member_by_name(node->host, rk_slice_of_string(from->name));
    return member != NULL && member->number != 0 && member->number == from->number &&
                   member->disk == from->host->disk
               ? member
               : NULL;
}

static void state_of(const struct rk_host *host, uint64_t state[SIM_GROUPS_MAX][5])
{
    for (uint32_t id = 0; id <= host->group_count; id++) {
        struct rk_raft_status status;
        rk_raft_status(host->groups[id]->raft, &status);
        state[id][0] = status.hard_state.term;
        state[id][1] = status.hard_state.vote;
        state[id][2] = status.hard_state.commit;
        state[id][3] = status.leader;
        state[id][4] = status.last_index;
    }
}

/* Rule 21: it is dropped, and that is counted. */
void sim_stranger_speaks(struct sim_node *node)
{
    struct sim *sim = node->sim;
    enum stranger kind = (enum stranger)sim_below(sim, STRANGER_KINDS);
    uint64_t before[SIM_GROUPS_MAX][5] = {0}, after[SIM_GROUPS_MAX][5] = {0};
    struct rk_buf frame;
    if (!sim_node_is_up(node) || node->is_paused || !node->host->is_running) return;
    struct rk_host *host = node->host;
    const struct rk_member *member = speaker(node);
    if (member == NULL) return;
    sim_node_touch(node);
    rk_buf_init(&frame);
    forge(sim, host, member, kind, &frame);
    state_of(host, before);
    uint64_t dropped = rk_host_metrics(host)->frames_dropped;
    rk_host_receive(host, kind == STRANGER_NAME ? "stranger" : member->name,
                    RK_LINK_CONTROL, rk_buf_slice(&frame));
    rk_buf_fini(&frame);
    state_of(host, after);
    sim->counts.strangers++;
    if (memcmp(before, after, sizeof(before)) != 0)
        sim_fail(sim, "%s listens to a stranger of kind %d", node->name, (int)kind);
    if (rk_host_metrics(host)->frames_dropped != dropped + 1)
        sim_fail(sim, "%s does not count what a stranger of kind %d said", node->name,
                 (int)kind);
}
