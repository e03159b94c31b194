/* Log matching: entries of one index and term are one entry in all logs that have it, and
 * what stands before it has one term in all of them. Raft's proofs begin with it; nothing
 * else looks at entries that are not committed. */
#include "sim.h"

#include "base/assert.h"
#include "base/hash.h"
#include "host/host_internal.h"

#include <inttypes.h>
#include <stdlib.h>

enum { ENTRIES_BYTES = 1 << 20 };

const struct sim_matched *sim_matching_find(const struct sim *sim, uint32_t id,
                                            uint64_t index, uint64_t term)
{
    const struct sim_history *history = &sim->histories[id];
    uint32_t at = index < history->matched_end ? history->matched_at[index] : 0;
    while (at != 0 && history->matched[at - 1].term != term)
        at = history->matched[at - 1].older;
    return at == 0 ? NULL : &history->matched[at - 1];
}

static void reserve(struct sim_history *history, uint64_t index)
{
    if (index >= history->matched_end) {
        uint64_t end = 2 * index + 256;
        history->matched_at =
            realloc(history->matched_at, end * sizeof(*history->matched_at));
        RK_ASSERT(history->matched_at != NULL);
        memset(history->matched_at + history->matched_end, 0,
               (end - history->matched_end) * sizeof(*history->matched_at));
        history->matched_end = end;
    }
    if (history->matched_count < history->matched_capacity) return;
    history->matched_capacity = 2 * history->matched_capacity + 256;
    history->matched =
        realloc(history->matched, history->matched_capacity * sizeof(*history->matched));
    RK_ASSERT(history->matched != NULL);
}

static void take(struct sim_node *node, uint32_t id, const struct rk_raft_entry *entry)
{
    struct sim *sim = node->sim;
    struct sim_history *history = &sim->histories[id];
    struct sim_matched now = {.term = entry->term,
                              .hash = rk_hash_mix(rk_hash(entry->data), entry->type),
                              .size = entry->data.size};
    if (rk_entry_log_term(node->host->groups[id]->log, &now.previous, entry->index - 1) !=
        RK_OK)
        sim_fail(sim, "%s group %u: nothing stands before entry %" PRIu64, node->name, id,
                 entry->index);
    const struct sim_matched *known = sim_matching_find(sim, id, entry->index, entry->term);
    if (known != NULL) {
        if (known->previous != now.previous || known->hash != now.hash)
            sim_broken(sim, SIM_RULE_MATCHING,
                       "%s group %u: entry %" PRIu64 " of term %" PRIu64
                       " differs from another node's: %s",
                       node->name, id, entry->index, entry->term,
                       known->hash != now.hash ? "its data" : "what stands before it");
        return;
    }
    reserve(history, entry->index);
    now.older = history->matched_at[entry->index];
    history->matched[history->matched_count++] = now;
    history->matched_at[entry->index] = history->matched_count;
}

void sim_matching_take(struct sim_node *node, uint32_t id, uint64_t from)
{
    struct rk_entry_log *log = node->host->groups[id]->log;
    struct rk_storage_error error = {""};
    struct rk_arena *arena = &node->sim->arena;
    uint64_t end = rk_entry_log_last(log) + 1;
    while (from < end) {
        const struct rk_raft_entry *entries;
        size_t count;
        if (rk_entry_log_entries(log, from, end, ENTRIES_BYTES, arena, &entries, &count,
                                 &error) != RK_OK)
            sim_fail(node->sim, "%s group %u: entry %" PRIu64 " can not be read: %s",
                     node->name, id, from, error.message);
        for (size_t i = 0; i < count; i++)
            take(node, id, &entries[i]);
        from += count;
        rk_arena_reset(arena);
    }
}

void sim_matching_free(struct sim *sim)
{
    for (uint32_t id = 0; id < SIM_GROUPS_MAX; id++) {
        free(sim->histories[id].matched);
        free(sim->histories[id].matched_at);
    }
}
