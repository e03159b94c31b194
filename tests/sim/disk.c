#include "sim.h"

#include "base/assert.h"

enum { IDLE_US = 1000 * RK_WAL_IDLE_MS };

static void armed_death(struct sim *sim, struct sim_node *node, void *context,
                        uint64_t number)
{
    (void)context;
    (void)number;
    sim->counts.armed++;
    sim_node_kill(node,
                  sim_chance(sim, 50) ? RK_MEMFS_CRASH_LOSE_ALL : RK_MEMFS_CRASH_RANDOM,
                  sim_chance(sim, 60));
}

void sim_armed_check(struct sim_node *node, enum sim_armed armed, uint64_t most_us)
{
    struct sim *sim = node->sim;
    if (node->armed != armed || (armed != ARMED_VOTE && sim_chance(sim, 50))) return;
    node->armed = ARMED_NONE;
    sim_after(sim, sim_below(sim, most_us), node, armed_death, NULL, 0);
}

/* --- room on the disk, as the disk thread of rukund looks after it -------------------- */

static void set_full(struct sim_node *node, bool is_full)
{
    if (node->is_full == is_full) return;
    node->is_full = is_full;
    sim_say(node->sim, "%s: its disk %s", node->name, is_full ? "is full" : "has room");
    sim_node_touch(node);
    rk_host_set_full(node->host, is_full);
}

static void look(struct sim_node *node)
{
    const struct sim *sim = node->sim;
    struct rk_storage_error error = {""};
    enum rk_reserve_level level = RK_RESERVE_OK;
    bool has_more;
    if (sim->now_us < node->disk_stuck_until_us) return;
    if (!node->has_reserve) {
        enum rk_status status = rk_reserve_open(&node->reserve, rk_memfs_fs(node->disk),
                                                "data", sim->config.reserve_bytes, &error);
        RK_ASSERT(status != RK_ERANGE);
        node->has_reserve = true;
    }
    (void)!rk_reserve_poll(&node->reserve, node->is_refused, &level, &has_more, &error);
    node->is_refused = false;
    set_full(node, level != RK_RESERVE_OK);
}

static void watch(struct sim *sim, struct sim_node *node, void *context, uint64_t number)
{
    (void)context;
    (void)number;
    if (!sim_node_is_up(node)) return;
    sim_after(sim, 250 * (uint64_t)sim->config.election_ms, node, watch, NULL, 0);
    look(node);
}

void sim_disk_watch(struct sim_node *node)
{
    node->has_reserve = node->is_refused = node->is_full = node->was_full = false;
    if (sim_faults_fill_disks(node->sim)) watch(node->sim, node, NULL, 0);
}

/* What the log's own care says. */
static void cared(struct sim_node *node, enum rk_status status,
                  const struct rk_storage_error *error)
{
    if (status == RK_OK || !sim_node_is_up(node)) return;
    if (status != RK_EFULL || !sim_faults_fill_disks(node->sim)) {
        if (status != RK_EFULL) sim_node_fall(node, status, error->message);
        return;
    }
    node->is_refused = true;
    set_full(node, true);
    if (node->reserve.level != RK_RESERVE_CRITICAL) look(node);
}

/* --- the log ------------------------------------------------------------------------- */

static void idle(struct sim *sim, struct sim_node *node, void *context, uint64_t number)
{
    struct rk_storage_error error = {""};
    bool has_more = false;
    (void)context;
    if (number != node->tend || node->batch != NULL || !sim_node_is_up(node)) return;
    enum rk_status status = rk_wal_tend(node->wal, true, &has_more, &error);
    cared(node, status, &error);
    if (status == RK_OK && has_more) {
        sim_after(sim, sim_between(sim, 50, 500), node, idle, NULL, number);
        return;
    }
    node->is_cleanly_idle = status == RK_OK;
}

static void written(struct sim *sim, struct sim_node *node, void *context, uint64_t number)
{
    struct rk_storage_error error = {""};
    bool has_more;
    enum rk_status status = (enum rk_status)(int64_t)number;
    (void)context;
    if (!sim_node_is_up(node)) return;
    sim_node_touch(node);
    node->batch = NULL;
    if (status == RK_OK) sim_check_stored(node);
    /* The disk thread tends the log before it takes the next batch. */
    enum rk_status care =
        status == RK_OK ? rk_wal_tend(node->wal, false, &has_more, &error) : RK_OK;
    rk_host_written(node->host, status);
    cared(node, care, &error);
    sim_after(sim, IDLE_US, node, idle, NULL, ++node->tend);
}

static void write_now(struct sim *sim, struct sim_node *node, void *context,
                      uint64_t number)
{
    struct rk_storage_error error = {""};
    (void)context;
    (void)number;
    if (sim->now_us < node->disk_stuck_until_us) {
        sim_after(sim, node->disk_stuck_until_us - sim->now_us, node, write_now, NULL, 0);
        return;
    }
    enum rk_status status = rk_wal_write(node->wal, node->batch, &error);
    node->is_batch_written = true;
    if (status != RK_OK && !node->may_fail && status != RK_EFULL)
        sim_node_fall(node, status, error.message);
    sim_after(sim, sim_below(sim, 100), node, written, NULL, (uint64_t)(int64_t)status);
}

void sim_disk_write(struct sim_node *node, struct rk_wal *wal, struct rk_wal_batch *batch)
{
    struct sim *sim = node->sim;
    RK_ASSERT(node->batch == NULL);
    node->wal = wal;
    node->batch = batch;
    node->batch_us = sim->now_us;
    node->is_batch_written = false;
    node->tend++;
    node->is_cleanly_idle = false;
    sim_check_given(node);
    uint64_t delay = sim_between(sim, node->disk_min_us, node->disk_max_us);
    sim_after(sim, delay, node, write_now, NULL, 0);
    sim_armed_check(node, ARMED_WRITE, delay + 100);
}

static void work_done(struct sim *sim, struct sim_node *node, void *context,
                      uint64_t number)
{
    struct rk_host_work *work = context;
    (void)number;
    if (sim->now_us < node->disk_stuck_until_us) {
        sim_after(sim, node->disk_stuck_until_us - sim->now_us, node, work_done, work, 0);
        return;
    }
    sim_node_touch(node);
    node->work[rk_host_work_lane(work)] = NULL;
    rk_host_work_run(work);
    rk_host_work_done(node->host, work);
    sim_armed_check(node, ARMED_WORK, 3000);
}

void sim_disk_work(struct sim_node *node, struct rk_host_work *work)
{
    struct sim *sim = node->sim;
    uint32_t lane = rk_host_work_lane(work);
    RK_ASSERT(lane < RK_HOST_LANES && node->work[lane] == NULL);
    node->work[lane] = work;
    sim_after(sim, sim_between(sim, node->disk_min_us, 2 * node->disk_max_us), node,
              work_done, work, 0);
}

bool sim_disk_has_work(const struct sim_node *node)
{
    for (int lane = 0; lane < RK_HOST_LANES; lane++)
        if (node->work[lane] != NULL) return true;
    return false;
}

void sim_disk_crash(struct sim_node *node, enum rk_memfs_crash_mode mode)
{
    struct sim *sim = node->sim;
    struct rk_memfs *disk = node->disk;
    struct rk_storage_error error = {""};
    rk_memfs_fail_at(disk, 0, RK_OK, false);
    /* What is under way stops somewhere in its middle. */
    bool has_work = sim_disk_has_work(node) && sim_chance(sim, 50);
    bool has_batch = node->batch != NULL && !node->is_batch_written && sim_chance(sim, 60);
    if (has_batch || has_work)
        rk_memfs_crash_at(disk, rk_memfs_op_count(disk) + sim_between(sim, 1, 4));
    for (int lane = 0; has_work && lane < RK_HOST_LANES; lane++)
        if (node->work[lane] != NULL) rk_host_work_run(node->work[lane]);
    if (has_batch) (void)!rk_wal_write(node->wal, node->batch, &error);
    rk_memfs_crash_at(disk, 0);
    if (rk_memfs_is_down(disk)) sim->counts.torn++;
    if (rk_memfs_is_down(disk))
        rk_memfs_restart(disk, mode);
    else
        rk_memfs_crash(disk, mode);
    node->batch = NULL;
    memset(node->work, 0, sizeof(node->work));
    node->tend++;
    if (node->has_reserve) rk_reserve_close(&node->reserve);
    node->has_reserve = false;
}
