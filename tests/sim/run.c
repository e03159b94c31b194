/* The life of a seed: birth, faults, healing, and that all ends well. */
#include "sim.h"

#include <inttypes.h>
#include <stdio.h>

enum { SETTLE_US = 10000 };

static bool is_settled(struct sim *sim)
{
    for (uint32_t i = 0; i < sim->config.slots; i++) {
        struct sim_node *node = &sim->nodes[i];
        struct rk_host_status status;
        if (!sim_members_has(sim, node)) continue;
        if (!sim_node_is_up(node)) return false;
        rk_host_status(node->host, &status);
        if (status.is_damaged) sim_fail(sim, "%s is %s", node->name, status.state);
        if (!status.has_quorum) return false;
    }
    return true;
}

static void states_print(struct sim *sim)
{
    for (uint32_t i = 0; i < sim->config.slots; i++) {
        struct sim_node *node = &sim->nodes[i];
        struct rk_host_status status;
        if (!sim_node_is_up(node)) continue;
        rk_host_status(node->host, &status);
        fprintf(stderr, "%s: %s%s\n", node->name, status.state,
                status.has_quorum ? "" : ", no quorum");
        for (uint32_t id = 0; id < status.group_count; id++) {
            const struct rk_host_group_status *at = &status.groups[id];
            fprintf(stderr,
                    "  group %u: %s of term %" PRIu64 " led by %s, log %" PRIu64 "-%" PRIu64
                    ", commit %" PRIu64 ", applied %" PRIu64 "\n",
                    id, at->role, at->term, at->leader, at->first_index, at->last_index,
                    at->commit, at->applied);
        }
    }
}

static void settle(struct sim *sim, uint64_t limit_ms, const char *when)
{
    uint64_t began_us = sim->now_us;
    while ((sim->is_healed && !sim_has_progress(sim)) || !is_settled(sim)) {
        uint64_t end_us =
            (sim->healed_us > began_us ? sim->healed_us : began_us) + 1000 * limit_ms;
        if (sim->now_us >= end_us) states_print(sim);
        if (sim->now_us >= end_us)
            sim_fail(sim, "%s of every group %u ms after %s",
                     is_settled(sim) ? "no answer" : "no confirmed leader",
                     (unsigned)limit_ms, when);
        sim_run_until(sim, sim->now_us + SETTLE_US);
    }
}

/* Every node has applied as much as any other. */
static bool is_level(struct sim *sim)
{
    for (uint32_t id = 0; id <= sim->config.groups; id++) {
        uint64_t applied = 0;
        for (uint32_t i = 0; i < sim->config.slots; i++) {
            const struct sim_node *node = &sim->nodes[i];
            if (!sim_members_has(sim, node)) continue;
            if (applied == 0) applied = node->views[id].applied;
            if (node->views[id].applied != applied) return false;
        }
    }
    return true;
}

void sim_run(struct sim *sim)
{
    const struct sim_config *config = &sim->config;
    sim_world_start(sim);
    if (sim_chance(sim, 70)) {
        sim_run_until(sim, sim->now_us + 600000);
        settle(sim, 20000, "the birth");
    }
    sim_clients_start(sim);
    sim_faults_start(sim);
    sim_run_until(sim, sim->now_us + 1000 * config->run_ms);
    sim_say(sim, "healing");
    sim_faults_heal(sim);
    sim->is_healed = true;
    sim->healed_us = sim->now_us;
    settle(sim, 10 * (uint64_t)config->election_ms, "healing");
    sim_say(sim, "settled");
    sim_run_until(sim, sim->now_us + 200000);
    sim->is_draining = true;
    uint64_t end_us = sim->now_us + 40000000;
    while (!sim_clients_are_done(sim)) {
        if (sim->now_us > end_us) sim_clients_end(sim);
        sim_run_until(sim, sim->now_us + 50000);
    }
    sim_clients_end(sim);
    end_us = sim->now_us + 60000000;
    while (!sim_operator_is_done(sim)) {
        if (sim->now_us > end_us) states_print(sim);
        if (sim->now_us > end_us)
            sim_fail(sim, "the groups do not reach the wished members");
        sim_run_until(sim, sim->now_us + 50000);
    }
    /* Longer than any lease, session, wait, and what a new leader adds. */
    sim->is_ending = true;
    sim_run_until(sim, sim->now_us + 12000000);
    end_us = sim->now_us + 10000 * (uint64_t)config->election_ms;
    while (!is_level(sim)) {
        if (sim->now_us > end_us) states_print(sim);
        if (sim->now_us > end_us) sim_fail(sim, "the nodes do not reach the same entry");
        sim_run_until(sim, sim->now_us + 1000);
    }
    sim_check_end(sim);
    sim_clients_left(sim);
}
