/* Memberships: what the entries of a group make of it, who counts in it, and who a number
 * stands for. Kept apart from the code under test: sets are bits by number. */
#include "sim.h"

#include "base/assert.h"
#include "base/hash.h"
#include "host/host_internal.h"

#include <inttypes.h>
#include <stdlib.h>

enum { ENTRIES_BYTES = 1 << 20 };

static uint64_t bit(const struct sim *sim, uint64_t number)
{
    if (number == 0 || number >= SIM_NUMBERS_MAX)
        sim_fail(sim, "number %" PRIu64 " is out of all bounds", number);
    return UINT64_C(1) << number;
}

static uint64_t bits(const struct sim *sim, const struct rk_raft_members *members)
{
    uint64_t set = 0;
    for (uint32_t i = 0; i < members->count; i++)
        set |= bit(sim, members->ids[i]);
    return set;
}

static bool is_majority(uint64_t voters, uint64_t set)
{
    return 2 * __builtin_popcountll(voters & set) > __builtin_popcountll(voters);
}

bool sim_conf_is_quorum(const struct sim_conf *conf, uint64_t set)
{
    return is_majority(conf->voters, set) &&
           (conf->outgoing == 0 || is_majority(conf->outgoing, set));
}

/* --- what a group's entries say ------------------------------------------------------ */

static struct sim_conf *conf_at(struct sim_history *history, uint64_t index)
{
    uint32_t at = history->conf_count;
    while (at > 0 && history->confs[at - 1].index > index)
        at--;
    return at == 0 ? NULL : &history->confs[at - 1];
}

const struct sim_conf *sim_conf_last(struct sim *sim, uint32_t id)
{
    return conf_at(&sim->histories[id], UINT64_MAX);
}

static void conf_push(struct sim *sim, uint32_t id, const struct sim_conf *conf)
{
    struct sim_history *history = &sim->histories[id];
    if (history->conf_count == history->conf_capacity) {
        history->conf_capacity = 2 * history->conf_capacity + 8;
        history->confs =
            realloc(history->confs, history->conf_capacity * sizeof(*history->confs));
        RK_ASSERT(history->confs != NULL);
    }
    history->confs[history->conf_count] = *conf;
    history->confs[history->conf_count++].since_us = sim->now_us;
}

static void conf_birth(struct sim *sim, uint32_t id)
{
    struct sim_conf first = {0};
    for (uint64_t number = 1; number <= sim->config.nodes; number++)
        first.voters |= bit(sim, number);
    conf_push(sim, id, &first);
}

/* Any two quorums, one before and one after, have a node in common. */
static void overlap_check(const struct sim *sim, uint32_t id, const struct sim_conf *before,
                          const struct sim_conf *after)
{
    uint64_t all = before->voters | before->outgoing | after->voters | after->outgoing;
    for (uint64_t set = all; set != 0; set = (set - 1) & all)
        if (sim_conf_is_quorum(before, set) && sim_conf_is_quorum(after, all & ~set))
            sim_fail(sim,
                     "group %u, entry %" PRIu64 ": a quorum before the change and one "
                     "after it have no node in common",
                     id, after->index);
}

static void single_apply(const struct sim *sim, struct sim_conf *conf,
                         const struct rk_raft_conf_single *single)
{
    uint64_t one = bit(sim, single->id);
    switch (single->op) {
    case RK_RAFT_ADD_VOTER:
        conf->voters |= one;
        conf->learners &= ~one;
        conf->next &= ~one;
        break;
    case RK_RAFT_ADD_LEARNER:
        conf->voters &= ~one;
        if ((conf->outgoing & one) != 0)
            conf->next |= one;
        else
            conf->learners |= one;
        break;
    case RK_RAFT_REMOVE:
        conf->voters &= ~one;
        conf->learners &= ~one;
        conf->next &= ~one;
        break;
    case RK_RAFT_UPDATE: break;
    }
}

static void change_apply(struct sim *sim, uint32_t id, const struct rk_raft_entry *entry)
{
    struct rk_raft_conf_change change;
    const struct sim_conf *before = sim_conf_last(sim, id);
    struct sim_conf conf = *before;
    if (rk_raft_conf_change_decode(&change, entry->data) != RK_OK)
        sim_fail(sim, "group %u: entry %" PRIu64 " is no membership change", id,
                 entry->index);
    conf.index = entry->index;
    bool is_joint = change.transition != RK_RAFT_TRANSITION_AUTO || change.count > 1;
    if ((conf.outgoing != 0) != (change.count == 0))
        sim_fail(sim, "group %u: entry %" PRIu64 " changes a joint membership", id,
                 entry->index);
    if (is_joint) conf.outgoing = conf.voters;
    for (uint32_t i = 0; i < change.count; i++)
        single_apply(sim, &conf, &change.changes[i]);
    if (change.count == 0) {
        conf.learners |= conf.next;
        conf.next = conf.outgoing = 0;
    }
    overlap_check(sim, id, before, &conf);
    conf_push(sim, id, &conf);
    sim->counts.changes++;
    sim->counts.joint += is_joint;
    sim_say(sim,
            "group %u: voters %" PRIx64 "/%" PRIx64 ", learners %" PRIx64 " from %" PRIu64,
            id, conf.voters, conf.outgoing, conf.learners, conf.index);
}

/* Entries lo .. hi that change the membership, in order. */
static void each_change(struct sim_node *node, uint32_t id, uint64_t lo, uint64_t hi,
                        void (*take)(struct sim_node *node, uint32_t id,
                                     const struct rk_raft_entry *entry))
{
    struct sim *sim = node->sim;
    struct rk_entry_log *log = node->host->groups[id]->log;
    struct rk_storage_error error = {""};
    struct rk_arena arena;
    rk_arena_init(&arena);
    while (lo <= hi) {
        const struct rk_raft_entry *entries;
        size_t count;
        if (rk_entry_log_entries(log, lo, hi + 1, ENTRIES_BYTES, &arena, &entries, &count,
                                 &error) != RK_OK)
            sim_fail(sim, "%s group %u: entry %" PRIu64 " can not be read: %s", node->name,
                     id, lo, error.message);
        for (size_t i = 0; i < count; i++)
            if (entries[i].type != RK_RAFT_ENTRY_NORMAL) take(node, id, &entries[i]);
        lo += count;
        rk_arena_reset(&arena);
    }
    rk_arena_fini(&arena);
}

static void committed_take(struct sim_node *node, uint32_t id,
                           const struct rk_raft_entry *entry)
{
    if (entry->index > sim_conf_last(node->sim, id)->index)
        change_apply(node->sim, id, entry);
}

void sim_members_committed(struct sim_node *node, uint32_t id, uint64_t commit)
{
    struct sim_history *history = &node->sim->histories[id];
    const struct rk_entry_log *log = node->host->groups[id]->log;
    if (history->conf_count == 0) conf_birth(node->sim, id);
    /* What raft has may be further than what it has handed out. */
    if (commit > rk_entry_log_last(log)) commit = rk_entry_log_last(log);
    if (commit <= history->conf_seen || rk_entry_log_first(log) > history->conf_seen + 1)
        return;
    each_change(node, id, history->conf_seen + 1, commit, committed_take);
    history->conf_seen = commit;
}

/* --- who counts ---------------------------------------------------------------------- */

/* A disk that is lost has held what its node said: answers on their way speak of it. */
bool sim_members_held(struct sim *sim, uint64_t number, uint32_t id, uint64_t index,
                      uint64_t term)
{
    const struct sim_number *at = &sim->members.numbers[number];
    if (at->is_lost) return sim_shadow_has(&at->durable[id], index, term);
    return at->slot != 0 &&
           sim_shadow_has(&sim->nodes[at->slot - 1].views[id].durable, index, term);
}

uint64_t sim_members_term(const struct sim *sim, uint64_t number, uint32_t id)
{
    const struct sim_number *at = &sim->members.numbers[number];
    return at->is_lost || at->slot == 0 ? 0 : sim->nodes[at->slot - 1].views[id].term;
}

static bool is_durable(struct sim *sim, const struct sim_conf *conf, uint32_t id,
                       uint64_t index, uint64_t term)
{
    uint64_t set = 0;
    for (uint64_t number = 1; number < SIM_NUMBERS_MAX; number++)
        if (((conf->voters | conf->outgoing) >> number & 1) != 0 &&
            sim_members_held(sim, number, id, index, term))
            set |= UINT64_C(1) << number;
    return sim_conf_is_quorum(conf, set);
}

/* By a membership that was in force at this node during its last turn. */
void sim_members_durable(struct sim_node *node, uint32_t id, uint64_t index, uint64_t term)
{
    struct sim *sim = node->sim;
    struct sim_history *history = &sim->histories[id];
    uint64_t applied = rk_machine_index(node->host->groups[id]->machine);
    uint32_t at = history->conf_count;
    while (at > 0 && history->confs[at - 1].index > applied)
        at--;
    for (; at > 0; at--) {
        if (is_durable(sim, &history->confs[at - 1], id, index, term)) return;
        if (history->confs[at - 1].index <= node->views[id].applied) break;
    }
    sim_fail(sim,
             "group %u: entry %" PRIu64 " of term %" PRIu64
             " is committed and not durable on a majority",
             id, index, term);
}

bool sim_members_heard(struct sim_node *node, uint32_t id, uint64_t limit_us)
{
    struct sim *sim = node->sim;
    struct sim_history *history = &sim->histories[id];
    const struct sim_conf *conf = conf_at(history, node->views[id].applied);
    uint64_t set = bit(sim, node->number);
    if (conf == NULL || sim->now_us - sim_conf_last(sim, id)->since_us < limit_us)
        return true;
    for (uint64_t number = 1; number < SIM_NUMBERS_MAX; number++) {
        uint32_t slot = sim->members.numbers[number].slot;
        if (slot != 0 && slot != node->at + 1 &&
            sim->now_us - node->heard_us[slot - 1] < limit_us)
            set |= bit(sim, number);
    }
    return sim_conf_is_quorum(conf, set);
}

/* --- each node's view ---------------------------------------------------------------- */

static bool conf_is(const struct sim *sim, const struct rk_raft_conf_state *have,
                    const struct sim_conf *want)
{
    return bits(sim, &have->voters) == want->voters &&
           bits(sim, &have->voters_outgoing) == want->outgoing &&
           bits(sim, &have->learners) == want->learners &&
           bits(sim, &have->learners_next) == want->next;
}

static void view_fits(struct sim_node *node, uint32_t id, uint64_t applied)
{
    const struct sim *sim = node->sim;
    const struct rk_raft_conf_state *have = &node->host->groups[id]->conf;
    const struct sim_conf *want = conf_at(&node->sim->histories[id], applied);
    struct rk_raft_conf_state of_raft;
    rk_raft_conf(node->host->groups[id]->raft, &of_raft);
    if (want == NULL || (conf_is(sim, have, want) && conf_is(sim, &of_raft, want))) return;
    sim_fail(sim,
             "%s group %u at entry %" PRIu64 ": voters %" PRIx64 "/%" PRIx64
             ", learners %" PRIx64 "; its entries say %" PRIx64 "/%" PRIx64 ", %" PRIx64,
             node->name, id, applied, bits(sim, &have->voters),
             bits(sim, &have->voters_outgoing), bits(sim, &have->learners), want->voters,
             want->outgoing, want->learners);
}

/* A leader proposed it: nothing else may be under way, and it must know what is committed.
 */
static void proposed_take(struct sim_node *node, uint32_t id,
                          const struct rk_raft_entry *entry)
{
    struct sim *sim = node->sim;
    struct sim_group_view *view = &node->views[id];
    const struct rk_group *group = node->host->groups[id];
    uint64_t commit = rk_raft_committed(group->raft), term = 0;
    uint64_t former = view->change_index;
    view->change_index = entry->index;
    if (entry->term != rk_raft_term(group->raft)) return;
    if (former > rk_machine_index(group->machine))
        sim_fail(sim,
                 "%s group %u changes the membership by entry %" PRIu64
                 " while entry %" PRIu64 " does",
                 node->name, id, entry->index, former);
    if (rk_entry_log_term(group->log, &term, commit) == RK_OK && term != entry->term)
        sim_fail(sim,
                 "%s group %u changes the membership by entry %" PRIu64
                 " with nothing committed in term %" PRIu64,
                 node->name, id, entry->index, entry->term);
}

static void leader_view(struct sim_node *node, uint32_t id)
{
    struct sim *sim = node->sim;
    struct sim_group_view *view = &node->views[id];
    const struct rk_entry_log *log = node->host->groups[id]->log;
    const struct sim_conf *last = sim_conf_last(sim, id);
    uint64_t term = rk_raft_term(node->host->groups[id]->raft);
    uint64_t limit = 12000 * (uint64_t)sim->config.election_ms;
    if (view->change_term != term) {
        view->change_term = term;
        view->change_seen = view->change_index = 0;
    }
    uint64_t from = view->change_seen + 1;
    if (from < rk_entry_log_first(log)) from = rk_entry_log_first(log);
    if (view->applied + 1 > from && view->change_seen == 0) from = view->applied + 1;
    if (from <= rk_entry_log_last(log))
        each_change(node, id, from, rk_entry_log_last(log), proposed_take);
    view->change_seen = rk_entry_log_last(log);
    if (((last->voters | last->outgoing) & bit(sim, node->number)) == 0 &&
        !node->host->is_removed && sim->now_us - last->since_us > limit)
        sim_fail(sim, "%s leads group %u long after it was removed", node->name, id);
}

void sim_members_view(struct sim_node *node, uint32_t id, enum rk_raft_role role)
{
    const struct rk_raft_conf_state *conf = &node->host->groups[id]->conf;
    uint64_t applied = rk_machine_index(node->host->groups[id]->machine);
    view_fits(node, id, applied);
    if (role == RK_RAFT_FOLLOWER) return;
    if (((bits(node->sim, &conf->voters) | bits(node->sim, &conf->voters_outgoing)) &
         bit(node->sim, node->number)) == 0)
        sim_fail(node->sim, "%s group %u campaigns or leads without a vote of its own",
                 node->name, id);
    if (role == RK_RAFT_LEADER) leader_view(node, id);
}

/* --- numbers ------------------------------------------------------------------------- */

static void number_is(struct sim *sim, uint64_t number, uint64_t disk, uint32_t slot)
{
    struct sim_number *at = &sim->members.numbers[number];
    (void)bit(sim, number);
    if (at->slot == 0) at->slot = slot + 1;
    if (at->disk == 0) at->disk = disk;
    if (at->slot != slot + 1 || (disk != 0 && at->disk != disk))
        sim_fail(sim, "number %" PRIu64 " was given to n%u and to n%u%s", number, at->slot,
                 slot + 1, at->slot == slot + 1 ? " with another disk" : "");
}

static uint32_t slot_of(const struct rk_member_row *row)
{
    return (uint32_t)(row->name.data[1] - '1');
}

static void table_take(struct sim *sim, struct rk_slice bytes, uint64_t version)
{
    struct sim_members *members = &sim->members;
    uint64_t hash = rk_hash(bytes), *seen = &members->tables[version % SIM_TABLES_MAX];
    struct rk_member_table table;
    RK_ASSERT(version < SIM_TABLES_MAX);
    if (*seen != 0 && *seen != hash)
        sim_fail(sim, "two member tables have version %" PRIu64, version);
    if (*seen != 0) return;
    *seen = hash;
    if (rk_member_table_decode(&table, bytes) != RK_OK)
        sim_fail(sim, "a member table can not be read");
    uint64_t present = 0;
    for (uint32_t i = 0; i < table.count; i++) {
        const struct rk_member_row *row = &table.rows[i];
        number_is(sim, row->number, row->disk, slot_of(row));
        present |= bit(sim, row->number);
        if (version > members->version && (members->gone & bit(sim, row->number)) != 0)
            sim_fail(sim, "number %" PRIu64 " is used again", row->number);
    }
    if (version <= members->version) return;
    members->gone |= members->present & ~present;
    members->present = present;
    members->version = version;
    members->row_count = table.count;
    for (uint32_t i = 0; i < table.count; i++)
        members->rows[i] = (struct sim_row){table.rows[i].number, table.rows[i].disk,
                                            slot_of(&table.rows[i]), table.rows[i].wish};
}

void sim_members_node(struct sim_node *node)
{
    struct sim *sim = node->sim;
    const struct rk_host *host = node->host;
    if (!host->is_running) return;
    if (node->number != host->number) {
        node->number = host->number;
        node->is_lost = false;
        if (sim->now_us > 0 && node->is_joiner)
            sim_say(sim, "%s takes part as number %" PRIu64, node->name, node->number);
    }
    number_is(sim, host->number, host->disk, node->at);
    if (sim->members.numbers[host->number].is_lost)
        sim_fail(sim, "%s takes part under number %" PRIu64 ", whose disk is lost",
                 node->name, host->number);
    if (host->table_version == node->table_version) return;
    node->table_version = host->table_version;
    table_take(sim, rk_buf_slice(&host->table), host->table_version);
}

/* The disk of the node is gone, and what its number promised with it. */
void sim_members_lose(struct sim_node *node)
{
    struct sim_number *lost = &node->sim->members.numbers[node->number];
    for (uint32_t id = 0; id < SIM_GROUPS_MAX; id++) {
        struct sim_group_view *view = &node->views[id];
        free(view->seen.terms);
        free(view->given.terms);
        if (node->number != 0)
            lost->durable[id] = view->durable;
        else
            free(view->durable.terms);
        memset(view, 0, sizeof(*view));
    }
    if (node->number != 0) node->is_lost = lost->is_lost = true;
    node->number = node->table_version = 0;
}

void sim_members_free(struct sim *sim)
{
    for (uint32_t number = 0; number < SIM_NUMBERS_MAX; number++)
        for (uint32_t id = 0; id < SIM_GROUPS_MAX; id++)
            free(sim->members.numbers[number].durable[id].terms);
}

/* --- who is a member now ------------------------------------------------------------- */

const struct sim_row *sim_members_row(const struct sim *sim, uint32_t slot)
{
    for (uint32_t i = 0; i < sim->members.row_count; i++)
        if (sim->members.rows[i].slot == slot &&
            sim->members.rows[i].wish != RK_MEMBER_LEAVING)
            return &sim->members.rows[i];
    return NULL;
}

/* Wished for, and known to all groups. */
bool sim_members_has(struct sim *sim, const struct sim_node *node)
{
    const struct sim_row *row = sim_members_row(sim, node->at);
    if (sim->members.version == 0) return node->at < sim->config.nodes;
    if (row == NULL || row->number != node->number) return false;
    for (uint32_t id = 0; id <= sim->config.groups; id++) {
        const struct sim_conf *conf = sim_conf_last(sim, id);
        if (conf == NULL ||
            ((conf->voters | conf->outgoing | conf->learners) >> row->number & 1) == 0)
            return false;
    }
    return true;
}

/* Some group has its number as a member. */
bool sim_members_count_on(struct sim *sim, const struct sim_node *node)
{
    for (uint32_t id = 0; node->number != 0 && id <= sim->config.groups; id++) {
        const struct sim_conf *conf = sim_conf_last(sim, id);
        if (conf == NULL ||
            ((conf->voters | conf->outgoing | conf->learners) >> node->number & 1) != 0)
            return true;
    }
    return false;
}

/* All groups have the membership that the newest table wishes, and nothing is under way. */
bool sim_members_are_settled(struct sim *sim)
{
    uint64_t voters = 0, learners = 0;
    for (uint32_t i = 0; i < sim->members.row_count; i++) {
        const struct sim_row *row = &sim->members.rows[i];
        if (row->wish == RK_MEMBER_LEAVING || row->disk == 0) return false;
        *(row->wish == RK_MEMBER_VOTER ? &voters : &learners) |= bit(sim, row->number);
    }
    for (uint32_t id = 0; id <= sim->config.groups; id++) {
        const struct sim_conf *conf = sim_conf_last(sim, id);
        if (conf == NULL || conf->voters != voters || conf->learners != learners ||
            conf->outgoing != 0)
            return false;
    }
    return sim->members.version != 0;
}

/* Without this node, too, every group has a majority whose disks are whole. */
bool sim_members_can_lose(struct sim *sim, const struct sim_node *node)
{
    for (uint32_t id = 0; id <= sim->config.groups; id++) {
        const struct sim_conf *conf = sim_conf_last(sim, id);
        uint64_t left = 0;
        if (conf == NULL) return false;
        for (uint32_t i = 0; i < sim->config.slots; i++)
            if (&sim->nodes[i] != node && sim->nodes[i].number != 0)
                left |= bit(sim, sim->nodes[i].number);
        if (!sim_conf_is_quorum(conf, left)) return false;
    }
    return true;
}
