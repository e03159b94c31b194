#include "sim.h"

#include "base/alloc.h"
#include "base/assert.h"
#include "base/hash.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

enum { WALL_MS = 1800000, TURN_US = 300, TIMER_US = 1000000 };

void *sim_alloc(size_t count, size_t size)
{
    void *memory = calloc(count == 0 ? 1 : count, size);
    RK_ASSERT(memory != NULL);
    return memory;
}

void sim_trace(struct sim *sim, uint64_t value)
{
    sim->trace = rk_hash_mix(rk_hash_mix(sim->trace, sim->now_us), value);
}

/* --- events -------------------------------------------------------------------------- */

static bool event_before(const struct rk_heap_node *a, const struct rk_heap_node *b)
{
    const struct sim_event *left = RK_CONTAINER_CONST(a, struct sim_event, heap);
    const struct sim_event *right = RK_CONTAINER_CONST(b, struct sim_event, heap);
    if (left->time_us != right->time_us) return left->time_us < right->time_us;
    return left->order < right->order;
}

static struct sim_event *schedule(struct sim *sim, uint64_t delay_us, struct sim_node *node,
                                  sim_action action, void *context, uint64_t number)
{
    struct sim_event *event = sim_alloc(1, sizeof(*event));
    event->time_us = sim->now_us + delay_us;
    event->order = ++sim->orders;
    event->node = node;
    event->life = node == NULL ? 0 : node->life;
    event->action = action;
    event->context = context;
    event->number = number;
    rk_list_init(&event->link);
    RK_ASSERT(rk_heap_push(&sim->events, &event->heap) == RK_OK);
    return event;
}

struct sim_event *sim_after(struct sim *sim, uint64_t delay_us, struct sim_node *node,
                            sim_action action, void *context, uint64_t number)
{
    RK_ASSERT(node != NULL);
    return schedule(sim, delay_us, node, action, context, number);
}

struct sim_event *sim_world_after(struct sim *sim, uint64_t delay_us, struct sim_node *node,
                                  sim_action action, void *context, uint64_t number)
{
    struct sim_event *event = schedule(sim, delay_us, node, action, context, number);
    event->is_of_world = true;
    return event;
}

static void event_free(struct sim_event *event, bool has_run)
{
    if (!has_run && event->drop != NULL) event->drop(event->context);
    free(event);
}

static void event_run(struct sim *sim, struct sim_event *event)
{
    struct sim_node *node = event->node;
    if (!event->is_of_world) {
        if (event->life != node->life) {
            event_free(event, false);
            return;
        }
        if (node->is_paused) {
            rk_list_push_back(&node->backlog, &event->link);
            return;
        }
    }
    sim->counts.steps++;
    event->action(sim, node, event->context, event->number);
    event_free(event, true);
}

static bool run_next(struct sim *sim)
{
    struct rk_heap_node *top = rk_heap_pop(&sim->events);
    if (top == NULL) return false;
    struct sim_event *event = RK_CONTAINER(top, struct sim_event, heap);
    RK_ASSERT(event->time_us >= sim->now_us);
    sim->now_us = event->time_us;
    event_run(sim, event);
    return true;
}

void sim_run_until(struct sim *sim, uint64_t time_us)
{
    for (;;) {
        struct rk_heap_node *top = rk_heap_top(&sim->events);
        if (top == NULL) break;
        if (RK_CONTAINER(top, struct sim_event, heap)->time_us > time_us) break;
        (void)run_next(sim);
    }
    sim->now_us = time_us;
}

/* --- a node's turn ------------------------------------------------------------------- */

bool sim_node_is_up(const struct sim_node *node)
{
    return node->host != NULL && !node->has_fallen;
}

uint64_t sim_node_boot_us(const struct sim_node *node)
{
    uint64_t passed = node->sim->now_us - node->clock_from_us;
    return node->clock_base_us + passed / 1000000 * node->rate_ppm +
           passed % 1000000 * node->rate_ppm / 1000000;
}

static struct rk_host_time time_of(struct sim_node *node)
{
    uint64_t boot_ms = sim_node_boot_us(node) / 1000;
    int64_t wall = (int64_t)(WALL_MS * UINT64_C(1000000) + node->sim->now_us / 1000);
    node->boot_ms = boot_ms;
    return (struct rk_host_time){boot_ms, (uint64_t)(wall + node->wall_lead_ms)};
}

static void restart(struct sim *sim, struct sim_node *node, void *context, uint64_t number)
{
    (void)sim;
    (void)context;
    if (node->life == number && node->host == NULL && !node->is_absent)
        sim_node_start(node);
}

/* What a fatal error does to the process, as soon as the call that met it is over. */
static void fall(struct sim *sim, struct sim_node *node, void *context, uint64_t number)
{
    (void)context;
    (void)number;
    sim_node_kill(node, RK_MEMFS_CRASH_RANDOM, false);
    sim_world_after(sim, 1000 * sim_between(sim, 50, 2000), node, restart, NULL,
                    node->life);
}

void sim_node_fall(struct sim_node *node, enum rk_status status, const char *text)
{
    if (node->has_fallen) return;
    /* Its reserve is used up, too, by what could not be refused. */
    bool is_full = status == RK_EFULL && node->is_limited && node->is_full &&
                   node->reserve.level == RK_RESERVE_CRITICAL;
    if (!node->may_fail && !is_full)
        sim_fail(node->sim, "%s can not go on: %s: %s", node->name, rk_status_text(status),
                 text);
    sim_say(node->sim, "%s falls: %s", node->name, text);
    node->has_fallen = true;
    if (node->may_fail)
        node->sim->counts.io_errors++;
    else
        node->sim->counts.full_ends++;
    sim_world_after(node->sim, 0, node, fall, NULL, 0);
}

static void on_fatal(void *context, enum rk_status status, const char *text)
{
    sim_node_fall(context, status, text);
}

static void flush(struct sim *sim, struct sim_node *node, void *context, uint64_t number);

void sim_node_touch(struct sim_node *node)
{
    struct sim *sim = node->sim;
    if (node->is_turn_open || !sim_node_is_up(node)) return;
    node->is_turn_open = true;
    node->turn_us = sim->now_us;
    rk_host_tick(node->host, time_of(node));
    sim_after(sim, sim_below(sim, TURN_US), node, flush, NULL, 0);
}

static void timer(struct sim *sim, struct sim_node *node, void *context, uint64_t number)
{
    (void)sim;
    (void)context;
    if (number == node->timer) sim_node_touch(node);
}

static void timer_arm(struct sim_node *node)
{
    struct sim *sim = node->sim;
    uint64_t next_ms = rk_host_next_tick(node->host);
    uint64_t boot_us = sim_node_boot_us(node), delay = TIMER_US;
    if (next_ms <= boot_us / 1000)
        delay = sim_between(sim, 20, 200);
    else if (next_ms * 1000 - boot_us < TIMER_US)
        delay = next_ms * 1000 - boot_us + sim_below(sim, 500);
    sim_after(sim, delay, node, timer, NULL, ++node->timer);
}

static void stopped(struct sim_node *node)
{
    struct sim *sim = node->sim;
    node->is_stopping = false;
    sim->counts.stops++;
    sim_node_kill(node, RK_MEMFS_CRASH_KEEP_ALL, false);
    sim_world_after(sim, 1000 * sim_between(sim, 10, 2000), node, restart, NULL,
                    node->life);
}

static void flush(struct sim *sim, struct sim_node *node, void *context, uint64_t number)
{
    (void)sim;
    (void)context;
    (void)number;
    if (!sim_node_is_up(node)) return;
    rk_host_flush(node->host);
    node->is_turn_open = false;
    if (node->has_fallen) return;
    sim_check_flushed(node);
    sim_net_follow(node);
    if (node->is_stopping && rk_host_is_idle(node->host))
        stopped(node);
    else
        timer_arm(node);
}

/* --- life of a node ------------------------------------------------------------------ */

static void on_send(void *context, const char *name, enum rk_host_link link,
                    struct rk_slice frame)
{
    sim_net_send(context, name, link, frame);
}

static void on_write(void *context, struct rk_wal *wal, struct rk_wal_batch *batch)
{
    sim_disk_write(context, wal, batch);
}

static void on_work(void *context, struct rk_host_work *work)
{
    sim_disk_work(context, work);
}

static void on_reply(void *context, uint64_t call, const struct rk_reply *reply)
{
    sim_clients_reply(context, call, reply);
}

static void on_log(void *context, enum rk_log_level level, const char *text)
{
    struct sim_node *node = context;
    (void)level;
    sim_say(node->sim, "%s: %s", node->name, text);
}

static void clock_begin(struct sim_node *node, bool is_new_boot)
{
    struct sim *sim = node->sim;
    uint64_t base =
        is_new_boot ? 1000 * sim_between(sim, 1000, 100000) : sim_node_boot_us(node);
    node->clock_base_us = base;
    node->clock_from_us = sim->now_us;
    node->rate_ppm =
        1000000 + sim_between(sim, 0, 2 * sim->config.drift_ppm) - sim->config.drift_ppm;
    if (sim->config.has_leases) /* they stand or fall by it */
        node->rate_ppm = sim_chance(sim, 50) ? 1000000 - sim->config.drift_ppm
                                             : 1000000 + sim->config.drift_ppm;
    if (node->rate_ppm < 999000 || node->rate_ppm > 1001000) sim->counts.skewed++;
}

/* --peers: of the first nodes all of them, of one that joins later the members of now. */
static uint32_t peers_fill(const struct sim_node *node, struct rk_host_peer *peers)
{
    const struct sim *sim = node->sim;
    uint32_t count = 0;
    for (uint32_t i = 0; i < sim->config.slots; i++)
        if (i == node->at ||
            (node->is_joiner ? sim_members_row(sim, i) != NULL : i < sim->config.nodes))
            peers[count++] = sim->peers[i];
    return count;
}

static void options_fill(struct sim_node *node, struct rk_host_options *options,
                         struct rk_host_peer *peers)
{
    struct sim *sim = node->sim;
    *options = (struct rk_host_options){
        .struct_size = sizeof(*options),
        .name = node->name,
        .data = "data",
        .self = sim->peers[node->at],
        .peers = peers,
        .peer_count = peers_fill(node, peers),
        .group_count = sim->config.groups,
        .election_timeout_ms = sim->config.election_ms,
        .heartbeat_ms = sim->config.heartbeat_ms,
        .seed = rk_random_next(&sim->random),
        .snapshot_bytes = sim->config.snapshot_bytes,
        /* Read back all the time, while they are taken, sent, received and replaced. */
        .verify_ms = sim->config.snapshot_bytes % 2 == 0 ? 1000 : 0,
        /* At times hardly anything fits beside a snapshot, and entries wait for it. */
        .side_bytes = sim->config.snapshot_bytes % 3 == 0 ? 64 : 0,
        .slice_bytes = sim->config.snapshot_bytes % 3 == 0 ? 1 : 0,
        .segment_bytes = sim->config.segment_bytes,
        .uncommitted_bytes = sim->config.uncommitted_bytes,
        .has_lease_reads = sim->config.has_leases,
        .fs = rk_memfs_fs(node->disk),
    };
}

/* The power fails while the node reads its log: the next start finds what that left. */
static bool fails_at_start(struct sim_node *node, enum rk_status status)
{
    struct sim *sim = node->sim;
    rk_memfs_crash_at(node->disk, 0);
    if (!rk_memfs_is_down(node->disk)) return false;
    RK_ASSERT(status != RK_OK || node->host != NULL);
    sim_say(sim, "%s loses power while it starts", node->name);
    rk_memfs_restart(node->disk, (enum rk_memfs_crash_mode)sim_below(sim, 3));
    if (node->host != NULL) rk_host_close(node->host);
    node->host = NULL;
    node->life++;
    sim_world_after(sim, 1000 * sim_between(sim, 10, 300), node, restart, NULL, node->life);
    return true;
}

void sim_node_start(struct sim_node *node)
{
    struct sim *sim = node->sim;
    const struct rk_host_io io = {.context = node,
                                  .send = on_send,
                                  .write = on_write,
                                  .work = on_work,
                                  .reply = on_reply,
                                  .log = on_log,
                                  .fatal = on_fatal};
    struct rk_host_options options;
    struct rk_host_peer peers[SIM_NODES_MAX];
    char error[256] = "";
    RK_ASSERT(node->host == NULL);
    node->life++;
    node->has_fallen = node->may_fail = node->is_turn_open = false;
    node->is_paused = node->is_stopping = false;
    node->table_version = node->members_seen = 0;
    node->armed = ARMED_NONE;
    node->batch = NULL;
    memset(node->work, 0, sizeof(node->work));
    memset(node->heard_us, 0, sizeof(node->heard_us));
    node->unpaused_us = sim->now_us;
    clock_begin(node, node->is_silent);
    node->is_silent = false;
    options_fill(node, &options, peers);
    if (!sim->is_healed && sim_chance(sim, 15))
        rk_memfs_crash_at(node->disk,
                          rk_memfs_op_count(node->disk) + sim_between(sim, 1, 12));
    enum rk_status status = rk_host_open(&node->host, &options, &io, error);
    if (status != RK_OK) node->host = NULL;
    if (fails_at_start(node, status)) return;
    if (status == RK_ECORRUPT && node->is_flipped) {
        sim_say(sim, "%s is refused: %s", node->name, error);
        sim->counts.flips_found++;
        node->is_absent = true;
        sim_members_lose(node);
        return;
    }
    if (status == RK_EFULL && node->is_limited) {
        sim_say(sim, "%s finds no room to start: %s", node->name, error);
        sim_world_after(sim, 1000 * sim_between(sim, 10, 300), node, restart, NULL,
                        node->life);
        return;
    }
    if (status != RK_OK)
        sim_fail(sim, "%s does not start: %s: %s", node->name, rk_status_text(status),
                 error);
    sim_say(sim, "%s starts", node->name);
    sim_trace(sim, node->life);
    sim_check_opened(node);
    sim_net_started(node);
    sim_net_follow(node);
    sim_node_touch(node);
    sim_disk_watch(node);
}

static void backlog_drop(struct sim_node *node)
{
    rk_list_each_safe (link, &node->backlog) {
        struct sim_event *event = RK_CONTAINER(link, struct sim_event, link);
        rk_list_remove(link);
        event_free(event, false);
    }
}

void sim_node_kill(struct sim_node *node, enum rk_memfs_crash_mode mode, bool is_silent)
{
    struct sim *sim = node->sim;
    if (node->host == NULL) return;
    sim_say(sim, "%s ends (%s%s)", node->name,
            mode == RK_MEMFS_CRASH_KEEP_ALL ? "killed" : "power",
            is_silent ? ", silently" : "");
    sim_trace(sim, (uint64_t)mode);
    const struct rk_host_metrics *metrics = rk_host_metrics(node->host);
    sim->counts.snapshots += metrics->snapshots;
    sim->counts.snapshots_sent += metrics->snapshots_sent;
    sim->counts.holds += metrics->snapshot_holds;
    sim->counts.elections += metrics->elections;
    if (metrics->damaged != 0) sim_fail(sim, "%s takes sound data for damaged", node->name);
    sim->counts.crashes++;
    if (mode != RK_MEMFS_CRASH_KEEP_ALL) sim->counts.powers++;
    sim_disk_crash(node, mode);
    rk_host_close(node->host);
    node->host = NULL;
    node->life++;
    node->is_paused = node->is_turn_open = node->is_stopping = node->has_fallen = false;
    node->is_silent = is_silent;
    backlog_drop(node);
    sim_net_ended(node, is_silent);
    sim_clients_node_ended(node);
    if (!sim->is_healed) return;
    /* The last of what had begun before: it comes again at once. */
    sim->healed_us = sim->now_us;
    sim_world_after(sim, 1000, node, restart, NULL, node->life);
}

void sim_node_pause(struct sim_node *node)
{
    if (!sim_node_is_up(node) || node->is_paused) return;
    sim_say(node->sim, "%s pauses", node->name);
    node->is_paused = true;
    node->sim->counts.pauses++;
}

void sim_node_resume(struct sim_node *node)
{
    struct sim *sim = node->sim;
    if (!node->is_paused) return;
    sim_say(sim, "%s goes on", node->name);
    node->is_paused = false;
    node->unpaused_us = sim->now_us;
    /* What came meanwhile is worked off in its order, in one turn or in several. */
    bool is_at_once = sim_chance(sim, 50);
    uint64_t delay = 0;
    rk_list_each_safe (link, &node->backlog) {
        struct sim_event *event = RK_CONTAINER(link, struct sim_event, link);
        rk_list_remove(link);
        event->time_us = sim->now_us + delay;
        event->order = ++sim->orders;
        RK_ASSERT(rk_heap_push(&sim->events, &event->heap) == RK_OK);
        if (!is_at_once) delay += sim_below(sim, 400);
    }
    sim_node_touch(node);
}

struct sim_node *sim_some_leader(struct sim *sim)
{
    uint32_t from = (uint32_t)sim_below(sim, sim->config.slots);
    for (uint32_t i = 0; i < sim->config.slots; i++) {
        struct sim_node *node = &sim->nodes[(from + i) % sim->config.slots];
        for (uint32_t id = 0; sim_node_is_up(node) && id <= sim->config.groups; id++)
            if (node->views[id].is_leader) return node;
    }
    return &sim->nodes[from];
}

/* --- the world ----------------------------------------------------------------------- */

static void config_pick(struct sim *sim, bool has_leases)
{
    struct sim_config *config = &sim->config;
    static const uint32_t timeouts[3] = {200, 300, 1000};
    config->nodes = sim_chance(sim, 75) ? 3 : 5;
    config->groups = 1 + (uint32_t)sim_below(sim, 3);
    config->clients = 5 + (uint32_t)sim_below(sim, 6);
    config->election_ms = timeouts[sim_below(sim, 3)];
    config->heartbeat_ms = config->election_ms / 10;
    config->snapshot_bytes = sim_chance(sim, 80) ? sim_between(sim, 2000, 20000) : 200000;
    config->segment_bytes = 4096 * sim_between(sim, 4, 16);
    config->net_min_us = sim_between(sim, 50, 300);
    config->net_max_us =
        config->net_min_us +
        (sim_chance(sim, 70) ? sim_between(sim, 100, 2000) : sim_between(sim, 2000, 20000));
    config->disk_min_us = sim_between(sim, 100, 500);
    config->disk_max_us =
        config->disk_min_us +
        (sim_chance(sim, 70) ? sim_between(sim, 100, 2000) : sim_between(sim, 2000, 20000));
    config->drift_ppm = sim_chance(sim, 50) ? sim_below(sim, 25000) : 100;
    config->fault_ms = config->election_ms * sim_between(sim, 1, 6) / 2;
    config->has_leases = sim_chance(sim, 10) || has_leases;
    if (config->has_leases) config->drift_ppm = 25000;
    config->uncommitted_bytes = sim_chance(sim, 30) ? sim_between(sim, 200, 3000) : 0;
    config->faults = sim_faults_pick(sim);
    if (sim_faults_fill_disks(sim)) config->segment_bytes = 16384;
    config->reserve_bytes = 8 * config->segment_bytes;
    config->slots = config->nodes;
    if (sim_faults_have_members(sim)) config->slots += 1 + (uint32_t)sim_below(sim, 2);
    config->gap_ms = sim_between(sim, 2, 40);
    config->run_ms = config->election_ms < 1000 ? sim_between(sim, 3000, 6000)
                                                : sim_between(sim, 8000, 14000);
    config->resources = 1 + (uint32_t)sim_below(sim, 3);
    config->topics = 1 + (uint32_t)sim_below(sim, 2);
    config->keys = 1 + (uint32_t)sim_below(sim, 4);
}

struct sim *sim_new(uint64_t seed, const struct sim_config *fixed)
{
    struct sim *sim = sim_alloc(1, sizeof(*sim));
    sim->seed = seed;
    sim->now_us = 1000000;
    rk_random_init(&sim->random, rk_hash_mix(seed, 0x72756b756e));
    rk_heap_init(&sim->events, event_before);
    rk_arena_init(&sim->arena);
    config_pick(sim, fixed->has_leases);
    if (fixed->nodes != 0) {
        sim->config.slots += fixed->nodes - sim->config.nodes;
        sim->config.nodes = fixed->nodes;
    }
    if (fixed->run_ms != 0) sim->config.run_ms = fixed->run_ms;
    for (uint32_t i = 0; i < sim->config.slots; i++) {
        struct sim_node *node = &sim->nodes[i];
        node->sim = sim;
        node->at = i;
        (void)snprintf(node->name, sizeof(node->name), "n%u", i + 1);
        node->disk = rk_memfs_new(rk_random_next(&sim->random));
        RK_ASSERT(node->disk != NULL);
        node->disk_min_us = sim->config.disk_min_us;
        node->disk_max_us = sim->config.disk_max_us;
        node->rate_ppm = 1000000;
        node->is_silent = true; /* the first boot */
        node->wall_lead_ms = (int64_t)sim_below(sim, 600) - 300;
        rk_list_init(&node->backlog);
        node->is_absent = i >= sim->config.nodes;
        sim->peers[i] = (struct rk_host_peer){node->name, "127.0.0.1:7600",
                                              "127.0.0.1:7400", "127.0.0.1:7500"};
    }
    sim_net_init(sim);
    return sim;
}

void sim_world_start(struct sim *sim)
{
    for (uint32_t i = 0; i < sim->config.nodes; i++)
        sim_world_after(sim, sim_below(sim, 500000), &sim->nodes[i], restart, NULL, 0);
}

void sim_free(struct sim *sim)
{
    struct rk_heap_node *top;
    for (uint32_t i = 0; i < sim->config.slots; i++) {
        struct sim_node *node = &sim->nodes[i];
        if (node->host != NULL) sim_node_kill(node, RK_MEMFS_CRASH_KEEP_ALL, false);
        backlog_drop(node);
        rk_memfs_free(node->disk);
    }
    while ((top = rk_heap_pop(&sim->events)) != NULL)
        event_free(RK_CONTAINER(top, struct sim_event, heap), false);
    sim_net_free(sim);
    free(sim->echoes);
    rk_heap_fini(&sim->events);
    sim_clients_free(sim);
    sim_check_free(sim);
    rk_arena_fini(&sim->arena);
    free(sim);
}
