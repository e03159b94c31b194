/* What goes wrong, and that it ends. Each seed uses some kinds of faults only, so that
 * runs differ more than by luck. */
#include "sim.h"

#include "base/assert.h"

enum fault {
    FAULT_KILL,      /* the process dies, what it wrote stays */
    FAULT_POWER,     /* what was not synced is lost or torn */
    FAULT_POWER_ALL, /* of all nodes at once */
    FAULT_PAUSE,
    FAULT_PARTITION, /* one side does not hear the other */
    FAULT_ONE_WAY,   /* one node is heard, but does not hear, or the other way round */
    FAULT_BRIDGE,    /* two nodes do not reach each other, others reach both */
    FAULT_RESET,
    FAULT_SLOW_DISK,
    FAULT_STUCK_DISK,
    FAULT_BAD_DISK, /* an operation fails: the node must end */
    FAULT_WALL,     /* a wall clock jumps */
    FAULT_STOP,     /* asked to stop, comes again */
    FAULT_ARMED,    /* dies of what it does next */
    FAULT_DEPOSE, /* a leader alone with a stuck disk: what it writes is not the others' */
    FAULT_FULL,   /* somebody else takes the room on its disk */
    FAULT_STRANGERS, /* frames that it must not take */
    FAULT_MESSAGES,  /* single messages are lost, doubled, late, or shorter; all the time */
    FAULT_ECHO,    /* a leader is alone and hears old answers, so that it goes on to lead */
    FAULT_MEMBERS, /* nodes are added, promoted, removed */
    FAULT_WIPE,    /* comes back with an empty disk, to be replaced */
    FAULT_FLIP,    /* a bit flips while the node is down: likewise, or unharmed */
    FAULT_COUNT
};

static bool has(const struct sim *sim, enum fault fault)
{
    return (sim->config.faults >> fault & 1) != 0;
}

uint64_t sim_faults_pick(struct sim *sim)
{
    uint64_t faults = 0;
    if (sim_chance(sim, 3)) return 0;
    for (int fault = 0; fault < FAULT_COUNT; fault++) {
        uint64_t percent = fault >= FAULT_MEMBERS                            ? 25
                           : fault == FAULT_POWER_ALL || fault == FAULT_ECHO ? 20
                                                                             : 45;
        if (sim_chance(sim, percent)) faults |= UINT64_C(1) << fault;
    }
    if (sim->config.has_leases)
        faults |= UINT64_C(1) << FAULT_PARTITION | UINT64_C(1) << FAULT_ONE_WAY;
    return faults;
}

static uint64_t election_us(const struct sim *sim)
{
    return 1000 * (uint64_t)sim->config.election_ms;
}

/* Leaders are hurt more often than others. */
static struct sim_node *pick(struct sim *sim)
{
    if (sim_chance(sim, 60)) return sim_some_leader(sim);
    return &sim->nodes[sim_below(sim, sim->config.slots)];
}

static uint32_t healthy(const struct sim *sim)
{
    uint32_t count = 0;
    for (uint32_t i = 0; i < sim->config.slots; i++)
        if (sim_node_is_up(&sim->nodes[i]) && !sim->nodes[i].is_paused) count++;
    return count;
}

/* Most of the time a majority goes on, so that the others have something to miss. */
static bool may_take_down(struct sim *sim)
{
    return healthy(sim) > sim->config.slots / 2 + 1 || sim_chance(sim, 25);
}

/* --- ends of faults ------------------------------------------------------------------ */

static void start_again(struct sim *sim, struct sim_node *node, void *context,
                        uint64_t number)
{
    (void)context;
    (void)number;
    if (node->host == NULL && !node->is_absent && !sim->is_healed) sim_node_start(node);
}

static void resume(struct sim *sim, struct sim_node *node, void *context, uint64_t number)
{
    (void)sim;
    (void)context;
    if (node->life == number) sim_node_resume(node);
}

static void uncut(struct sim *sim, struct sim_node *node, void *context, uint64_t number)
{
    (void)node;
    (void)context;
    uint32_t from = (uint32_t)(number / SIM_NODES_MAX),
             to = (uint32_t)number % SIM_NODES_MAX;
    if (sim->cut[from][to] > 0) sim_net_cut(sim, from, to, false);
}

static void cut_for(struct sim *sim, uint32_t from, uint32_t to, uint64_t us)
{
    if (from == to) return;
    sim_net_cut(sim, from, to, true);
    sim_world_after(sim, us, NULL, uncut, NULL, from * SIM_NODES_MAX + to);
}

static void disk_well(struct sim *sim, struct sim_node *node, void *context,
                      uint64_t number)
{
    (void)context;
    (void)number;
    node->disk_min_us = sim->config.disk_min_us;
    node->disk_max_us = sim->config.disk_max_us;
}

static void has_room(struct sim *sim, struct sim_node *node, void *context, uint64_t number)
{
    (void)sim;
    (void)context;
    (void)number;
    node->is_limited = false;
    rk_memfs_set_capacity(node->disk, 0);
}

/* --- faults -------------------------------------------------------------------------- */

static uint64_t down_us(struct sim *sim)
{
    return sim_chance(sim, 50)
               ? sim_between(sim, 1000, election_us(sim) / 4)
               : sim_between(sim, election_us(sim) / 4, 5 * election_us(sim));
}

static void crash(struct sim *sim, struct sim_node *node, bool is_power)
{
    if (node->host == NULL) return;
    enum rk_memfs_crash_mode mode = RK_MEMFS_CRASH_KEEP_ALL;
    if (is_power)
        mode = sim_chance(sim, 50) ? RK_MEMFS_CRASH_LOSE_ALL : RK_MEMFS_CRASH_RANDOM;
    sim_node_kill(node, mode, is_power && sim_chance(sim, 50));
    sim_world_after(sim, down_us(sim), node, start_again, NULL, 0);
}

static void partition(struct sim *sim)
{
    uint64_t side = 0, us = sim_between(sim, election_us(sim) / 8, 6 * election_us(sim));
    if (sim_chance(sim, 60))
        side = UINT64_C(1) << pick(sim)->at; /* one alone */
    else
        side = 1 + sim_below(sim, (UINT64_C(1) << sim->config.slots) - 2);
    sim_say(sim, "partition %x", (unsigned)side);
    for (uint32_t from = 0; from < sim->config.slots; from++)
        for (uint32_t to = 0; to < sim->config.slots; to++)
            if ((side >> from & 1) != (side >> to & 1)) cut_for(sim, from, to, us);
}

/* Its lease is to end before the others may choose another one. */
static void leader_alone(struct sim *sim)
{
    struct sim_node *node = sim_some_leader(sim);
    uint64_t us = sim_between(sim, election_us(sim), 2 * election_us(sim));
    for (uint32_t i = 0; i < sim->config.slots; i++) {
        cut_for(sim, i, node->at, us);
        cut_for(sim, node->at, i, us);
    }
}

static void depose(struct sim *sim)
{
    struct sim_node *node = sim_some_leader(sim);
    uint64_t us = sim_between(sim, election_us(sim), 3 * election_us(sim));
    sim->counts.stuck_disks++;
    sim_say(sim, "%s is alone, and its disk is stuck", node->name);
    for (uint32_t i = 0; i < sim->config.slots; i++) {
        cut_for(sim, i, node->at, us);
        cut_for(sim, node->at, i, us);
    }
    node->disk_stuck_until_us = sim->now_us + us + sim_below(sim, 2 * election_us(sim));
}

static void lonely_leader(struct sim *sim)
{
    struct sim_node *node = sim_some_leader(sim);
    uint64_t us = sim_between(sim, election_us(sim), 5 * election_us(sim));
    sim_say(sim, "%s is alone and hears echoes", node->name);
    for (uint32_t i = 0; i < sim->config.slots; i++) {
        cut_for(sim, i, node->at, us);
        cut_for(sim, node->at, i, us);
    }
    sim_messages_echo(node, us);
}

static void one_way(struct sim *sim)
{
    uint32_t at = pick(sim)->at;
    uint64_t us = sim_between(sim, election_us(sim) / 8, 6 * election_us(sim));
    bool is_deaf = sim_chance(sim, 50);
    sim_say(sim, "n%u is %s", at + 1, is_deaf ? "deaf" : "mute");
    for (uint32_t i = 0; i < sim->config.slots; i++)
        if (sim_chance(sim, 80)) cut_for(sim, is_deaf ? i : at, is_deaf ? at : i, us);
}

static void bridge(struct sim *sim)
{
    uint32_t a = pick(sim)->at;
    uint32_t b =
        (a + 1 + (uint32_t)sim_below(sim, sim->config.slots - 1)) % sim->config.slots;
    uint64_t us = sim_between(sim, election_us(sim) / 8, 8 * election_us(sim));
    sim_say(sim, "n%u and n%u are cut", a + 1, b + 1);
    cut_for(sim, a, b, us);
    if (sim_chance(sim, 70)) cut_for(sim, b, a, us);
}

static void resets(struct sim *sim)
{
    uint64_t count = sim_between(sim, 1, 6);
    for (uint64_t i = 0; i < count; i++) {
        struct sim_conn *conn =
            &sim->conns[sim_below(sim, sim->config.slots)]
                       [sim_below(sim, sim->config.slots)][sim_below(sim, RK_LINK_COUNT)];
        if (conn->from == conn->to) continue;
        sim->counts.resets++;
        sim_net_reset(sim, conn, sim_below(sim, 3000));
    }
}

static void disk_fault(struct sim *sim, struct sim_node *node, enum fault fault)
{
    if (!sim_node_is_up(node)) return;
    if (fault == FAULT_SLOW_DISK) {
        sim->counts.slow_disks++;
        node->disk_min_us = sim_between(sim, 1000, 20000);
        node->disk_max_us =
            node->disk_min_us + sim_between(sim, 1000, election_us(sim) / 2);
        sim_world_after(sim, sim_between(sim, 1, 10) * election_us(sim), node, disk_well,
                        NULL, 0);
    } else if (fault == FAULT_STUCK_DISK) {
        sim->counts.stuck_disks++;
        sim_say(sim, "%s: its disk is stuck", node->name);
        node->disk_stuck_until_us =
            sim->now_us + sim_between(sim, election_us(sim) / 4, 4 * election_us(sim));
    } else if (may_take_down(sim)) {
        sim_say(sim, "%s: its disk fails", node->name);
        node->may_fail = true;
        rk_memfs_fail_at(node->disk, rk_memfs_op_count(node->disk) + sim_between(sim, 1, 6),
                         sim_chance(sim, 80) ? RK_EIO : RK_EFULL, true);
    }
}

static void wall_jump(struct sim *sim, struct sim_node *node)
{
    int64_t most = sim_chance(sim, 70) ? 3000 : 60000;
    sim->counts.jumps++;
    node->wall_lead_ms += (int64_t)sim_below(sim, 2 * (uint64_t)most) - most;
}

static void arm(struct sim *sim, struct sim_node *node)
{
    if (!sim_node_is_up(node) || !may_take_down(sim)) return;
    node->armed = (enum sim_armed)sim_between(sim, ARMED_VOTE, ARMED_WORK);
    /* Votes are rare: make some. */
    struct sim_node *leader = sim_some_leader(sim);
    if (node->armed == ARMED_VOTE && leader != node)
        crash(sim, leader, sim_chance(sim, 50));
    sim_world_after(sim, down_us(sim) + election_us(sim), node, start_again, NULL, 0);
    sim_world_after(sim, down_us(sim) + 4 * election_us(sim), node, start_again, NULL, 0);
}

bool sim_faults_have_members(const struct sim *sim)
{
    return has(sim, FAULT_MEMBERS);
}

/* One at a time: the next only once the cluster has replaced the one before. */
bool sim_node_may_be_lost(struct sim_node *node)
{
    struct sim *sim = node->sim;
    for (uint32_t i = 0; i < sim->config.slots; i++)
        if (sim->nodes[i].is_lost || (&sim->nodes[i] != node && sim->nodes[i].is_flipped))
            return false;
    return node->host != NULL && node->number != 0 && node->views[0].durable.last > 10 &&
           sim_members_are_settled(sim) && sim_members_can_lose(sim, node);
}

void sim_node_wipe(struct sim_node *node)
{
    struct sim *sim = node->sim;
    if (node->host != NULL) sim_node_kill(node, RK_MEMFS_CRASH_KEEP_ALL, false);
    sim_say(sim, "%s gets a new disk", node->name);
    rk_memfs_free(node->disk);
    node->disk = rk_memfs_new(rk_random_next(&sim->random));
    RK_ASSERT(node->disk != NULL);
    node->is_limited = false;
    sim_members_lose(node);
    node->is_joiner = true;
    node->is_absent = node->is_flipped = false;
    sim->counts.wipes++;
    if (node->host == NULL) sim_node_start(node);
}

static void wipe(struct sim_node *node)
{
    if (sim_node_may_be_lost(node)) sim_node_wipe(node);
}

struct flip { /* a file, picked from all there are */
    struct sim *sim;
    uint32_t seen;
    char name[RK_FS_NAME_MAX + 1];
};

static enum rk_status flip_file(void *context, const char *name)
{
    struct flip *flip = context;
    size_t size = strlen(name);
    if (size <= 4 ||
        (strcmp(name + size - 4, ".wal") != 0 && strcmp(name + size - 5, ".snap") != 0))
        return RK_OK;
    if (sim_below(flip->sim, ++flip->seen) == 0) memcpy(flip->name, name, size + 1);
    return RK_OK;
}

/* Only where recovery can tell: the last batch was noted as durable. */
static void flip(struct sim *sim, struct sim_node *node)
{
    const char *folder = sim_chance(sim, 60) ? "data/wal" : "data/snap";
    struct flip at = {.sim = sim};
    char path[RK_FS_PATH_MAX];
    struct rk_file *file;
    uint64_t size = 0;
    if (!sim_node_may_be_lost(node) || !node->is_cleanly_idle || sim_disk_has_work(node))
        return;
    sim_node_kill(node, RK_MEMFS_CRASH_KEEP_ALL, false);
    struct rk_fs *fs = rk_memfs_fs(node->disk);
    RK_ASSERT(fs->list(fs, folder, flip_file, &at) == RK_OK);
    if (at.seen > 0) {
        RK_ASSERT(rk_fs_join(path, folder, at.name) == RK_OK);
        RK_ASSERT(fs->open(fs, &file, path, 0) == RK_OK);
        RK_ASSERT(fs->size(file, &size) == RK_OK);
        fs->close(file);
    }
    if (size > 0) {
        RK_ASSERT(rk_memfs_flip(node->disk, path, sim_below(sim, size),
                                (unsigned)sim_below(sim, 8)) == RK_OK);
        sim_say(sim, "%s: a bit flips in %s", node->name, at.name);
        sim->counts.flips++;
        node->is_flipped = true;
    }
    if (node->host == NULL) sim_node_start(node);
}

static void pause_one(struct sim *sim, struct sim_node *node)
{
    if (!may_take_down(sim)) return;
    sim_node_pause(node);
    sim_world_after(sim, sim_between(sim, election_us(sim) / 20, 5 * election_us(sim)),
                    node, resume, NULL, node->life);
}

static void stop(struct sim *sim, struct sim_node *node)
{
    if (!sim_node_is_up(node) || node->is_paused || node->is_stopping) return;
    (void)sim;
    sim_say(node->sim, "%s is asked to stop", node->name);
    sim_node_touch(node);
    rk_host_stop(node->host);
    node->is_stopping = true;
}

bool sim_faults_fill_disks(const struct sim *sim)
{
    return has(sim, FAULT_FULL);
}

/* What the node frees somebody else takes as well, but for its reserve. */
static void fill_up(struct sim *sim, struct sim_node *node, void *context, uint64_t number)
{
    (void)context;
    uint64_t most = rk_memfs_used(node->disk) + number;
    if (!node->is_limited ||
        (node->has_reserve && node->reserve.filled < sim->config.reserve_bytes))
        return;
    if (node->capacity > most) node->capacity = most;
    rk_memfs_set_capacity(node->disk, node->capacity);
    sim_world_after(sim, election_us(sim) / 20, node, fill_up, NULL, number);
}

/* The room that is left is little, or less than can be, or none but the reserve. */
static void full(struct sim *sim, struct sim_node *node)
{
    uint64_t reserve = sim->config.reserve_bytes;
    if (!sim_node_is_up(node) || node->is_limited || !node->has_reserve ||
        node->reserve.filled < reserve)
        return;
    uint64_t room = sim_chance(sim, 25)   ? 0
                    : sim_chance(sim, 50) ? sim_below(sim, reserve / 4)
                                          : sim_between(sim, reserve / 4, reserve);
    sim_say(sim, "%s: its disk has %u bytes left", node->name, (unsigned)room);
    sim->counts.full++;
    node->is_limited = true;
    node->capacity = UINT64_MAX;
    fill_up(sim, node, NULL, room);
    sim_world_after(sim, sim_between(sim, 1, 20) * election_us(sim), node, has_room, NULL,
                    0);
}

/* It may not hear that somebody else leads now. */
void sim_faults_handed_over(struct sim_node *node)
{
    struct sim *sim = node->sim;
    if (!sim->config.has_leases || sim->is_healed || sim_chance(sim, 50)) return;
    uint64_t us = sim_between(sim, election_us(sim) / 4, election_us(sim));
    for (uint32_t i = 0; i < sim->config.slots; i++)
        cut_for(sim, i, node->at, us);
}

static void inflict(struct sim *sim, enum fault fault)
{
    struct sim_node *node = pick(sim);
    switch (fault) {
    case FAULT_KILL:
    case FAULT_POWER:
        if (may_take_down(sim)) crash(sim, node, fault == FAULT_POWER);
        break;
    case FAULT_POWER_ALL:
        for (uint32_t i = 0; i < sim->config.slots; i++)
            crash(sim, &sim->nodes[i], true);
        break;
    case FAULT_PAUSE: pause_one(sim, node); break;
    case FAULT_PARTITION: partition(sim); break;
    case FAULT_ONE_WAY: one_way(sim); break;
    case FAULT_BRIDGE: bridge(sim); break;
    case FAULT_RESET: resets(sim); break;
    case FAULT_SLOW_DISK:
    case FAULT_STUCK_DISK:
    case FAULT_BAD_DISK: disk_fault(sim, node, fault); break;
    case FAULT_WALL: wall_jump(sim, node); break;
    case FAULT_STOP: stop(sim, node); break;
    case FAULT_ARMED: arm(sim, node); break;
    case FAULT_DEPOSE: depose(sim); break;
    case FAULT_FULL: full(sim, node); break;
    case FAULT_STRANGERS:
        for (uint64_t i = 1 + sim_below(sim, 8); i > 0; i--)
            sim_stranger_speaks(node);
        break;
    case FAULT_ECHO: lonely_leader(sim); break;
    case FAULT_MESSAGES:
    case FAULT_MEMBERS: break;
    case FAULT_WIPE: wipe(node); break;
    case FAULT_FLIP: flip(sim, node); break;
    case FAULT_COUNT: break;
    }
}

static void next(struct sim *sim, struct sim_node *node, void *context, uint64_t number)
{
    enum fault faults[FAULT_COUNT];
    uint32_t count = 0;
    (void)node;
    (void)context;
    (void)number;
    if (sim->is_healed || sim->config.faults == 0) return;
    for (int fault = 0; fault < FAULT_COUNT; fault++)
        if (has(sim, (enum fault)fault) && fault != FAULT_MESSAGES &&
            fault != FAULT_MEMBERS)
            faults[count++] = (enum fault)fault;
    if (count == 0) return;
    if (sim->config.has_leases && sim_chance(sim, 30))
        leader_alone(sim);
    else
        inflict(sim, faults[sim_below(sim, count)]);
    sim_world_after(sim, sim_between(sim, 0, 2000 * sim->config.fault_ms), NULL, next, NULL,
                    0);
}

void sim_faults_start(struct sim *sim)
{
    sim_messages_start(sim, has(sim, FAULT_MESSAGES), has(sim, FAULT_ECHO));
    sim_world_after(sim, 1000 * sim->config.fault_ms, NULL, next, NULL, 0);
}

void sim_faults_heal(struct sim *sim)
{
    for (uint32_t from = 0; from < sim->config.slots; from++)
        for (uint32_t to = 0; to < sim->config.slots; to++)
            while (sim->cut[from][to] > 0)
                sim_net_cut(sim, from, to, false);
    for (uint32_t i = 0; i < sim->config.slots; i++) {
        struct sim_node *node = &sim->nodes[i];
        disk_well(sim, node, NULL, 0);
        node->disk_stuck_until_us = 0;
        node->wall_lead_ms = 0;
        node->armed = ARMED_NONE;
        rk_memfs_fail_at(node->disk, 0, RK_OK, false);
        has_room(sim, node, NULL, 0);
        sim_node_resume(node);
    }
    sim->is_healed = true;
    for (uint32_t i = 0; i < sim->config.slots; i++) {
        struct sim_node *node = &sim->nodes[i];
        if (node->host == NULL && !node->is_absent) sim_node_start(node);
    }
}
