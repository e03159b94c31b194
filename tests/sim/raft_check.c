/* What must hold inside the nodes, checked after every turn and on every frame. */
#include "sim.h"

#include "base/assert.h"
#include "host/host_internal.h"

#include <inttypes.h>
#include <stdlib.h>

enum { HASH_EACH = 4 };

/* --- logs by entry terms ------------------------------------------------------------- */

static void shadow_reserve(struct sim_shadow *shadow, uint64_t index)
{
    if (index < shadow->capacity) return;
    uint64_t capacity = shadow->capacity == 0 ? 256 : shadow->capacity;
    while (capacity <= index)
        capacity *= 2;
    shadow->terms = realloc(shadow->terms, capacity * sizeof(*shadow->terms));
    RK_ASSERT(shadow->terms != NULL);
    memset(shadow->terms + shadow->capacity, 0,
           (capacity - shadow->capacity) * sizeof(*shadow->terms));
    shadow->capacity = capacity;
}

/* Equal terms at one index of one log mean equal logs up to there. The index of the first
 * entry that was not there before. */
static uint64_t shadow_take(struct sim_shadow *shadow, const struct rk_entry_log *log)
{
    uint64_t first = rk_entry_log_first(log), last = rk_entry_log_last(log), term;
    uint64_t from = last + 1;
    shadow_reserve(shadow, last);
    for (uint64_t i = last; i + 1 >= first && i > 0; i--) {
        if (rk_entry_log_term(log, &term, i) != RK_OK) break;
        if (i <= shadow->last && i >= shadow->first && shadow->terms[i] == term) break;
        shadow->terms[i] = term;
        if (i >= first) from = i;
    }
    shadow->first = first;
    shadow->last = last;
    return from;
}

static void shadow_copy(struct sim_shadow *to, const struct sim_shadow *from)
{
    shadow_reserve(to, from->last);
    for (uint64_t i = from->last; i + 1 >= from->first && i > 0; i--) {
        if (i <= to->last && i >= to->first && to->terms[i] == from->terms[i]) break;
        to->terms[i] = from->terms[i];
    }
    to->first = from->first;
    to->last = from->last;
}

static bool shadow_fits(const struct sim_shadow *shadow, const struct rk_entry_log *log)
{
    uint64_t last = rk_entry_log_last(log), term = 0;
    if (last != shadow->last) return false;
    if (last == 0) return true;
    return rk_entry_log_term(log, &term, last) == RK_OK && shadow->terms[last] == term;
}

bool sim_shadow_has(const struct sim_shadow *shadow, uint64_t index, uint64_t term)
{
    return shadow->last >= index && (index < shadow->first || shadow->terms[index] == term);
}

void sim_check_given(struct sim_node *node)
{
    for (uint32_t id = 0; node->host->is_running && id <= node->host->group_count; id++)
        (void)shadow_take(&node->views[id].given, node->host->groups[id]->log);
}

void sim_check_stored(struct sim_node *node)
{
    for (uint32_t id = 0; node->host->is_running && id <= node->host->group_count; id++)
        shadow_copy(&node->views[id].durable, &node->views[id].given);
}

static void opened_group(struct sim_node *node, uint32_t id)
{
    struct sim_group_view *view = &node->views[id];
    const struct rk_group *group = node->host->groups[id];
    struct rk_raft_status status;
    rk_raft_status(group->raft, &status);
    const struct rk_raft_hard_state *hard = &status.hard_state;
    if (hard->term < view->voted_term ||
        (hard->term == view->voted_term && view->voted_for != 0 &&
         hard->vote != view->voted_for))
        sim_broken(node->sim, SIM_RULE_VOTE,
                   "%s group %u forgot its vote: for %" PRIu64 " in term %" PRIu64
                   ", after the restart %" PRIu64 " in %" PRIu64,
                   node->name, id, view->voted_for, view->voted_term, hard->vote,
                   hard->term);
    if (!shadow_fits(&view->durable, group->log) && !shadow_fits(&view->given, group->log))
        sim_fail(node->sim,
                 "%s group %u recovered a log up to %" PRIu64 ", durable was %" PRIu64
                 ", under way %" PRIu64,
                 node->name, id, rk_entry_log_last(group->log), view->durable.last,
                 view->given.last);
    (void)shadow_take(&view->given, group->log);
    (void)shadow_take(&view->seen, group->log);
    shadow_copy(&view->durable, &view->given);
    sim_matching_take(node, id, view->given.first);
    view->term = hard->term;
    view->vote = hard->vote;
    view->commit = hard->commit;
    view->applied = rk_machine_index(group->machine);
    view->is_leader = false;
    sim_ballots_opened(node, id);
}

void sim_check_opened(struct sim_node *node)
{
    if (!node->host->is_running) {
        for (uint32_t id = 0; id < SIM_GROUPS_MAX; id++)
            if (node->views[id].durable.last != 0 || node->views[id].voted_term != 0)
                sim_fail(node->sim, "%s forgot that it is a member", node->name);
        return;
    }
    sim_members_node(node);
    for (uint32_t id = 0; id <= node->host->group_count; id++)
        opened_group(node, id);
}

/* --- frames -------------------------------------------------------------------------- */

static void leader_seen(struct sim *sim, uint32_t id, uint64_t term, uint64_t number)
{
    struct sim_history *history = &sim->histories[id];
    if (term >= history->leader_capacity) {
        uint64_t capacity = 2 * term + 64;
        history->leaders = realloc(history->leaders, capacity * sizeof(*history->leaders));
        RK_ASSERT(history->leaders != NULL);
        memset(history->leaders + history->leader_capacity, 0,
               (capacity - history->leader_capacity) * sizeof(*history->leaders));
        history->leader_capacity = capacity;
    }
    if (history->leaders[term] == 0) history->leaders[term] = number;
    if (history->leaders[term] != number)
        sim_broken(sim, SIM_RULE_ELECTION,
                   "group %u has two leaders in term %" PRIu64 ": number %" PRIu64
                   " and number %" PRIu64,
                   id, term, history->leaders[term], number);
}

static void vote_seen(struct sim_node *node, uint32_t id, uint64_t term, uint64_t for_whom)
{
    struct sim_group_view *view = &node->views[id];
    if (term < view->voted_term) return;
    if (term == view->voted_term && view->voted_for != for_whom)
        sim_broken(node->sim, SIM_RULE_VOTE,
                   "%s votes twice in group %u, term %" PRIu64 ": for number %" PRIu64
                   " and number %" PRIu64,
                   node->name, id, term, view->voted_for, for_whom);
    view->voted_term = term;
    view->voted_for = for_whom;
}

static void ack_seen(struct sim_node *node, uint32_t id,
                     const struct rk_raft_message *message)
{
    struct sim_group_view *view = &node->views[id];
    const struct rk_group *group = node->host->groups[id];
    uint64_t term, index = message->index;
    /* An answer to a former leader binds nobody: the log may have changed since. */
    if (message->term != rk_raft_term(group->raft) ||
        rk_entry_log_term(group->log, &term, index) != RK_OK)
        return;
    if (!sim_shadow_has(&view->durable, index, term))
        sim_fail(node->sim,
                 "%s group %u acknowledges entry %" PRIu64 " of term %" PRIu64
                 " before it is durable",
                 node->name, id, index, term);
}

/* Rule 12: who is to lead has all that its leader has; or it follows a later one, of whom
 * this one has not heard. */
static void transfer_seen(struct sim_node *node, uint32_t id, uint64_t to)
{
    struct sim *sim = node->sim;
    const struct rk_entry_log *log = node->host->groups[id]->log;
    uint64_t last = rk_entry_log_last(log), term = 0;
    if (rk_entry_log_term(log, &term, last) == RK_OK &&
        !sim_members_held(sim, to, id, last, term) &&
        sim_members_term(sim, to, id) <= rk_raft_term(node->host->groups[id]->raft))
        sim_fail(sim,
                 "%s group %u hands over to number %" PRIu64 ", which lacks entry %" PRIu64,
                 node->name, id, to, last);
}

static void message_seen(struct sim_node *node, uint32_t id,
                         const struct rk_raft_message *message)
{
    struct sim *sim = node->sim;
    uint64_t number = node->number;
    switch (message->type) {
    case RK_RAFT_MSG_VOTE: sim_ballots_campaign(sim, id, message->term); break;
    case RK_RAFT_MSG_PRE_VOTE_RESP:
        if (!message->reject) sim_ballots_granted(node, id, message);
        break;
    case RK_RAFT_MSG_VOTE_RESP:
        if (message->reject) break;
        sim_ballots_granted(node, id, message);
        vote_seen(node, id, message->term, message->to);
        sim_armed_check(node, ARMED_VOTE, 800);
        break;
    case RK_RAFT_MSG_APP:
    case RK_RAFT_MSG_HEARTBEAT:
    case RK_RAFT_MSG_SNAP:
    case RK_RAFT_MSG_TIMEOUT_NOW:
        if (message->type == RK_RAFT_MSG_TIMEOUT_NOW) {
            transfer_seen(node, id, message->to);
            sim_faults_handed_over(node);
        }
        leader_seen(sim, id, message->term, number);
        vote_seen(node, id, message->term, number);
        if (message->entry_count > 0) sim_armed_check(node, ARMED_APPEND, 800);
        break;
    case RK_RAFT_MSG_APP_RESP:
        if (message->reject) break;
        ack_seen(node, id, message);
        sim_armed_check(node, ARMED_ACK, 800);
        break;
    default: break;
    }
}

static void raft_section(struct sim_node *node, const struct sim_section *section)
{
    struct sim *sim = node->sim;
    struct rk_raft_message message;
    uint32_t id;
    if (!sim_section_message(sim, section, &id, &message))
        sim_fail(sim, "%s sends a message that can not be read", node->name);
    message_seen(node, id, &message);
    rk_arena_reset(&sim->arena);
}

void sim_check_frame(struct sim_node *from, struct rk_slice frame)
{
    struct rk_reader in;
    struct rk_slice header;
    struct sim_section section;
    sim_members_node(from);
    (void)sim_frame_open(&in, frame, &header);
    while (sim_frame_next(&in, &section))
        if (section.kind == RK_SECTION_RAFT) raft_section(from, &section);
    if (in.is_failed) sim_fail(from->sim, "%s sends a malformed frame", from->name);
}

/* --- after each turn ----------------------------------------------------------------- */

static void history_reserve(struct sim_history *history, uint64_t index)
{
    if (history->count == 0) history->count = 1;
    if (index < history->capacity) return;
    uint64_t capacity = 2 * index + 256;
    history->entries = realloc(history->entries, capacity * sizeof(*history->entries));
    RK_ASSERT(history->entries != NULL);
    memset(history->entries + history->capacity, 0,
           (capacity - history->capacity) * sizeof(*history->entries));
    history->capacity = capacity;
}

static void committed_check(struct sim_node *node, uint32_t id,
                            const struct rk_raft_status *status)
{
    struct sim *sim = node->sim;
    struct sim_history *history = &sim->histories[id];
    const struct rk_entry_log *log = node->host->groups[id]->log;
    history_reserve(history, status->hard_state.commit);
    for (uint64_t i = node->views[id].commit + 1; i <= status->hard_state.commit; i++) {
        struct sim_committed *entry = &history->entries[i];
        uint64_t term;
        /* A snapshot that raft has and the log not yet: what stands there is of no account.
         */
        if (i < status->first_index) continue;
        if (rk_entry_log_term(log, &term, i) != RK_OK) continue; /* in a snapshot */
        if (entry->term != 0 && entry->term != term)
            sim_broken(sim, SIM_RULE_STATE,
                       "group %u: %s commits entry %" PRIu64 " of term %" PRIu64
                       ", others of term %" PRIu64,
                       id, node->name, i, term, entry->term);
        if (entry->term != 0) continue;
        entry->term = term;
        entry->seen_term = status->hard_state.term;
        sim_members_durable(node, id, i, term);
    }
    if (history->count <= status->hard_state.commit)
        history->count = status->hard_state.commit + 1;
}

/* Leader completeness: what was committed in an earlier term is in a new leader's log. */
static void new_leader_check(struct sim_node *node, uint32_t id, uint64_t term)
{
    struct sim *sim = node->sim;
    struct sim_history *history = &sim->histories[id];
    const struct rk_entry_log *log = node->host->groups[id]->log;
    leader_seen(sim, id, term, node->number);
    for (uint64_t i = history->count; i-- > 1;) {
        const struct sim_committed *entry = &history->entries[i];
        uint64_t have = 0;
        if (entry->term == 0 || entry->seen_term >= term) continue;
        if (i < rk_entry_log_first(log)) return;
        if (rk_entry_log_term(log, &have, i) != RK_OK || have != entry->term)
            sim_broken(sim, SIM_RULE_COMPLETENESS,
                       "group %u: %s leads term %" PRIu64 " without entry %" PRIu64
                       " of term %" PRIu64,
                       id, node->name, term, i, entry->term);
        return; /* equal here: equal before, too */
    }
}

static void contact_check(struct sim_node *node, uint32_t id)
{
    struct sim *sim = node->sim;
    uint64_t limit = 3500 * (uint64_t)sim->config.election_ms;
    uint64_t since = node->views[id].lead_us > node->unpaused_us ? node->views[id].lead_us
                                                                 : node->unpaused_us;
    if (sim->now_us - since < limit) return;
    if (!sim_members_heard(node, id, limit))
        sim_fail(sim, "%s leads group %u without having heard a majority", node->name, id);
}

/* What a leader counts on is there, unless its node follows a later one by now. */
static void match_check(struct sim_node *node, uint32_t id,
                        const struct rk_raft_status *status)
{
    struct sim *sim = node->sim;
    const struct rk_entry_log *log = node->host->groups[id]->log;
    for (uint32_t i = 0; i < status->progress_count; i++) {
        const struct rk_raft_progress *progress = &status->progress[i];
        uint64_t term = 0;
        if (progress->match == 0 ||
            rk_entry_log_term(log, &term, progress->match) != RK_OK ||
            sim_members_held(sim, progress->id, id, progress->match, term) ||
            sim_members_term(sim, progress->id, id) > status->hard_state.term)
            continue;
        sim_fail(sim,
                 "%s group %u counts on entry %" PRIu64 " of term %" PRIu64
                 " at number %" PRIu64 ", which does not have it",
                 node->name, id, progress->match, term, progress->id);
    }
}

/* Rule 14: who answers reads by its lease has no successor. What came before a pause may
 * still be answered after it. */
static void lease_check(struct sim_node *node, uint32_t id,
                        const struct rk_raft_status *status)
{
    struct sim *sim = node->sim;
    const struct sim_history *history = &sim->histories[id];
    if (!status->has_lease || node->unpaused_us >= node->turn_us) return;
    for (uint64_t term = status->hard_state.term + 1; term < history->leader_capacity;
         term++)
        if (history->leaders[term] != 0)
            sim_fail(sim,
                     "%s answers reads of group %u by its lease of term %" PRIu64
                     ", number %" PRIu64 " leads term %" PRIu64,
                     node->name, id, status->hard_state.term, history->leaders[term], term);
}

/* Rule 20: a leader that waits for its disk for long is one no more. */
static void disk_check(struct sim_node *node, uint32_t id)
{
    struct sim *sim = node->sim;
    uint64_t since = node->batch_us;
    if (node->batch == NULL || node->host->groups[id]->writing == 0) return;
    if (node->unpaused_us > since) since = node->unpaused_us;
    if (sim->now_us - since > 5000 * (uint64_t)sim->config.election_ms)
        sim_fail(sim, "%s leads group %u while its disk does not answer", node->name, id);
}

static void hash_check(struct sim_node *node, uint32_t id, uint64_t applied, bool is_last)
{
    struct sim *sim = node->sim;
    struct sim_history *history = &sim->histories[id];
    uint64_t hash = 0, index = 0;
    history_reserve(history, applied);
    struct sim_committed *entry = &history->entries[applied];
    if (applied == 0 || (applied % HASH_EACH != 0 && !is_last)) return;
    if (rk_host_group_hash(node->host, id, &index, &hash) != RK_OK || index != applied)
        sim_fail(sim, "%s group %u: no hash at %" PRIu64, node->name, id, applied);
    sim->counts.hashes++;
    if (hash == 0) hash = 1;
    if (entry->hash == 0) entry->hash = hash;
    if (entry->hash != hash)
        sim_broken(sim, SIM_RULE_STATE,
                   "%s group %u: the state after entry %" PRIu64 " differs", node->name, id,
                   applied);
}

static void view_check(struct sim_node *node, uint32_t id)
{
    struct sim *sim = node->sim;
    struct rk_group *group = node->host->groups[id];
    struct sim_group_view *view = &node->views[id];
    struct rk_raft_status status;
    rk_raft_status(group->raft, &status);
    const struct rk_raft_hard_state *hard = &status.hard_state;
    uint64_t applied = rk_machine_index(group->machine);
    bool is_leader = status.role == RK_RAFT_LEADER;
    if (hard->term < view->term || hard->commit < view->commit || applied < view->applied)
        sim_fail(sim, "%s group %u goes back in term, commit or applied", node->name, id);
    if (hard->term == view->term && view->vote != 0 && hard->vote != view->vote)
        sim_broken(sim, SIM_RULE_VOTE, "%s group %u changes its vote within term %" PRIu64,
                   node->name, id, hard->term);
    if (hard->commit > status.last_index || applied > hard->commit)
        sim_fail(sim, "%s group %u: applied %" PRIu64 ", commit %" PRIu64 ", last %" PRIu64,
                 node->name, id, applied, hard->commit, status.last_index);
    if (is_leader && (!view->is_leader || view->term != hard->term)) {
        new_leader_check(node, id, hard->term);
        view->lead_us = sim->now_us;
    } else if (is_leader && hard->commit > view->commit) {
        uint64_t term = 0;
        if (rk_entry_log_term(group->log, &term, hard->commit) == RK_OK &&
            term != hard->term)
            sim_fail(sim,
                     "%s group %u commits entry %" PRIu64 " of term %" PRIu64
                     " by counting in term %" PRIu64,
                     node->name, id, hard->commit, term, hard->term);
    }
    sim_matching_take(node, id, shadow_take(&view->seen, group->log));
    if (is_leader || status.role == RK_RAFT_CANDIDATE)
        sim_ballots_campaign(sim, id, hard->term);
    if (hard->term > view->term) sim_ballots_term(node, id, hard->term);
    sim_members_committed(node, id, hard->commit);
    if (status.leader != RK_RAFT_NONE) leader_seen(sim, id, hard->term, status.leader);
    committed_check(node, id, &status);
    sim_members_view(node, id, status.role);
    sim_bounds_view(node, id, &status);
    if (applied != view->applied) hash_check(node, id, applied, false);
    view->term = hard->term;
    view->vote = hard->vote;
    view->commit = hard->commit;
    view->is_leader = is_leader;
    view->applied = applied;
    /* One that was replaced while it ran is deaf from then on, with whatever role it has.
     */
    if (!is_leader || node->host->is_removed) return;
    contact_check(node, id);
    lease_check(node, id, &status);
    disk_check(node, id);
    match_check(node, id, &status);
}

void sim_check_flushed(struct sim_node *node)
{
    struct sim_history *history = &node->sim->histories[0];
    if (!node->host->is_running) return;
    sim_members_node(node);
    for (uint32_t id = 0; id <= node->host->group_count; id++)
        view_check(node, id);
    node->was_full = node->host->is_full;
    if (node->views[0].applied <= history->shown) return;
    history->shown = node->views[0].applied;
    sim_clients_state(node);
}

void sim_check_end(struct sim *sim)
{
    for (uint32_t id = 0; id <= sim->config.groups; id++) {
        for (uint32_t i = 0; i < sim->config.slots; i++) {
            struct sim_node *node = &sim->nodes[i];
            if (!sim_members_has(sim, node)) continue;
            if (!sim_node_is_up(node)) sim_fail(sim, "%s is down at the end", node->name);
            hash_check(node, id, node->views[id].applied, true);
        }
    }
}

void sim_check_free(struct sim *sim)
{
    sim_members_free(sim);
    sim_matching_free(sim);
    for (uint32_t id = 0; id < SIM_GROUPS_MAX; id++) {
        for (uint32_t i = 0; i < SIM_NODES_MAX; i++) {
            free(sim->nodes[i].views[id].seen.terms);
            free(sim->nodes[i].views[id].given.terms);
            free(sim->nodes[i].views[id].durable.terms);
        }
        free(sim->histories[id].entries);
        free(sim->histories[id].leaders);
        free(sim->histories[id].campaigns);
        free(sim->histories[id].confs);
    }
}
