#include "host/keeper.h"

#include "base/mutant.h"

#include <stdarg.h>
#include <stdio.h>

enum {
    META_MAX = 1 << 20,
    SIDE_BYTES = 256 << 20,
    SLICE_BYTES = 16 << 10, /* a fraction of a millisecond */
};

static bool set_text(char *out, size_t size, const char *text)
{
    int length = snprintf(out, size, "%s", text == NULL ? "" : text);
    return length >= 0 && (size_t)length < size;
}

void rk_host_log(struct rk_host *host, enum rk_log_level level, const char *format, ...)
{
    char text[512];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof(text), format, arguments);
    va_end(arguments);
    host->io.log(host->io.context, level, text);
}

void rk_host_fatal(struct rk_host *host, enum rk_status status, const char *format, ...)
{
    char text[512];
    va_list arguments;
    if (host->is_dead) return;
    host->is_dead = true;
    va_start(arguments, format);
    vsnprintf(text, sizeof(text), format, arguments);
    va_end(arguments);
    host->io.fatal(host->io.context, status, text);
}

static enum rk_status fail(char *error, enum rk_status status, const char *text)
{
    if (error != NULL) snprintf(error, 256, "%.255s", text);
    return status;
}

static enum rk_status options_take(struct rk_host *host,
                                   const struct rk_host_options *options, char *error)
{
    if (options->name == NULL || options->name[0] == '\0' ||
        !set_text(host->name, sizeof(host->name), options->name))
        return fail(error, RK_EINVAL, "name: 1 to 64 bytes");
    if (!set_text(host->cluster_wish, sizeof(host->cluster_wish), options->cluster))
        return fail(error, RK_EINVAL, "cluster: at most 64 bytes");
    host->group_count = options->group_count == 0 ? 9 : options->group_count;
    if (host->group_count > RK_HOST_GROUPS_MAX)
        return fail(error, RK_EINVAL, "groups: at most 64");
    host->election_timeout_ms =
        options->election_timeout_ms == 0 ? 1000 : options->election_timeout_ms;
    host->heartbeat_ms = options->heartbeat_ms == 0 ? 100 : options->heartbeat_ms;
    if (host->heartbeat_ms * 2 > host->election_timeout_ms)
        return fail(error, RK_EINVAL,
                    "election-timeout-ms must be at least twice heartbeat-ms");
    host->tick_ms = host->heartbeat_ms < 4 ? 1 : host->heartbeat_ms / 4;
    host->fence_floor = options->fence_floor;
    host->snapshot_bytes = options->snapshot_bytes;
    host->side_bytes = options->side_bytes != 0 ? options->side_bytes : SIDE_BYTES;
    host->slice_bytes = options->slice_bytes != 0 ? options->slice_bytes : SLICE_BYTES;
    host->has_slices = options->has_slices;
    host->verify_ms = options->verify_ms;
    host->has_lease_reads = options->has_lease_reads;
    host->uncommitted_bytes = options->uncommitted_bytes;
    host->machine_version =
        options->machine_version != 0 ? options->machine_version : RK_MACHINE_VERSION;
    host->fs = options->fs;
    return RK_OK;
}

static enum rk_status folders_make(struct rk_host *host, const char *data, char *error)
{
    char path[RK_FS_PATH_MAX];
    enum rk_status status = rk_fs_make_dir(host->fs, data);
    if (status != RK_OK) return fail(error, status, "data: the folder can not be made");
    if (rk_fs_join(path, data, "lock") != RK_OK ||
        rk_fs_join(host->wal_dir, data, "wal") != RK_OK ||
        rk_fs_join(host->snapshot_dir, data, "snap") != RK_OK)
        return fail(error, RK_ERANGE, "data: the path is too long");
    status = host->fs->lock(host->fs, &host->lock, path);
    if (status == RK_EBUSY)
        return fail(error, status, "data: another process uses the folder");
    if (status == RK_EDENIED)
        return fail(error, status,
                    "data: the folder is not writable: read-only or not ours");
    if (status != RK_OK) return fail(error, status, "data: the folder can not be locked");
    status = rk_fs_make_dir(host->fs, host->snapshot_dir);
    if (status != RK_OK) return fail(error, status, "data: no folder for snapshots");
    return RK_OK;
}

/* A new folder gets its disk id, durable before anything is said to anyone. */
static enum rk_status disk_mint(struct rk_host *host, struct rk_storage_error *why)
{
    do
        host->disk = rk_random_next(&host->random);
    while (host->disk == 0);
    struct rk_wal_batch *batch = host->filling;
    rk_buf_reset(&host->scratch);
    rk_host_identity_encode(host, &host->scratch);
    enum rk_status status = rk_buf_check(&host->scratch);
    if (status == RK_OK) status = rk_wal_batch_node(batch, rk_buf_slice(&host->scratch));
    if (status == RK_OK) status = rk_wal_write(host->wal, batch, why);
    rk_wal_batch_reset(batch);
    return status;
}

static enum rk_status groups_recover(struct rk_host *host, struct rk_wal_recovered *found,
                                     struct rk_storage_error *why)
{
    for (uint32_t id = 0; id <= host->group_count; id++) {
        enum rk_status status = rk_group_new(&host->groups[id], host, id);
        if (status == RK_OK)
            status = rk_group_open(host->groups[id],
                                   found->groups[id].is_present ? &found->groups[id] : NULL,
                                   why);
        if (status != RK_OK) return status;
    }
    host->is_running = true;
    rk_host_members_applied(host);
    return rk_slot_map_lay(&host->slots, host->group_count);
}

static enum rk_status recover(struct rk_host *host, const struct rk_host_options *options,
                              struct rk_storage_error *why)
{
    struct rk_wal_options wal_options;
    rk_wal_options_init(&wal_options);
    if (options->segment_bytes != 0)
        wal_options.segment_first = wal_options.segment_later = options->segment_bytes;
    do
        wal_options.id = rk_random_next(&host->random);
    while (wal_options.id == 0);
    struct rk_wal_recovered *found = rk_calloc(1, sizeof(*found));
    if (found == NULL) return RK_ENOMEM;
    enum rk_status status =
        rk_wal_open(&host->wal, host->fs, host->wal_dir, &wal_options, found, why);
    if (status != RK_OK) {
        rk_free(found);
        return status;
    }
    /* The seed may be the same at every start: what must differ between two lives of a node
     * (names of clients, numbers of reads) also depends on how far the log got. */
    rk_random_init(&host->random, rk_hash_mix(rk_hash_mix(options->seed, found->id),
                                              found->last_sequence));
    host->boot_id = rk_random_next(&host->random);
    host->read_request = rk_random_next(&host->random) >> 16 << 8;
    if (found->node.size != 0)
        status = rk_host_identity_load(host, rk_buf_slice(&found->node), why);
    else
        status = disk_mint(host, why);
    if (status == RK_OK) status = rk_host_restore_open(host, options->data, why);
    if (status == RK_OK && host->number != 0) status = groups_recover(host, found, why);
    rk_wal_recovered_fini(found);
    rk_free(found);
    return status;
}

enum rk_status rk_host_open(struct rk_host **out, const struct rk_host_options *options,
                            const struct rk_host_io *io, char *error)
{
    struct rk_storage_error why = {"data can not be opened"};
    RK_ASSERT(options->struct_size == sizeof(*options) && options->fs != NULL);
    struct rk_host *host = rk_calloc(1, sizeof(*host));
    if (host == NULL) return fail(error, RK_ENOMEM, "out of memory");
    host->io = *io;
    rk_wal_batch_init(&host->batches[0]);
    rk_wal_batch_init(&host->batches[1]);
    host->filling = &host->batches[0];
    rk_host_work_init(host);
    rk_buf_init(&host->table);
    rk_buf_init(&host->scratch);
    rk_arena_init(&host->arena);
    rk_arena_init(&host->replies);
    rk_map_init(&host->numbers);
    rk_random_init(&host->random, options->seed);

    enum rk_status status = options_take(host, options, error);
    if (status == RK_OK) status = rk_host_calls_init(host);
    if (status == RK_OK && options->has_store)
        status = rk_keeper_new(host, options->store_hold_ms);
    if (status == RK_OK) {
        status = rk_host_members_of_options(host, options);
        if (status != RK_OK && status != RK_ENOMEM)
            fail(error, status, "peers: a bad list, or without this node");
    }
    if (status == RK_OK) status = folders_make(host, options->data, error);
    if (status == RK_OK) {
        status = recover(host, options, &why);
        if (status != RK_OK) fail(error, status, why.message);
    }
    if (status != RK_OK) {
        rk_host_close(host);
        return status == RK_ENOMEM ? fail(error, status, "out of memory") : status;
    }
    *out = host;
    return RK_OK;
}

void rk_host_close(struct rk_host *host)
{
    if (host == NULL) return;
    rk_host_snapshots_close(host);
    rk_host_backup_close(host);
    rk_host_work_close(host);
    rk_host_calls_free(host);
    rk_keeper_free(host->keeper);
    for (uint32_t id = 0; id <= RK_HOST_GROUPS_MAX; id++)
        rk_group_free(host->groups[id]);
    for (uint32_t i = 0; i < host->member_count; i++) {
        for (int link = 0; link < RK_LINK_COUNT; link++)
            rk_buf_fini(&host->members[i]->links[link].out);
        rk_free(host->members[i]);
    }
    rk_wal_batch_fini(&host->batches[0]);
    rk_wal_batch_fini(&host->batches[1]);
    rk_wal_free(host->wal);
    if (host->lock != NULL) host->fs->close(host->lock);
    rk_buf_fini(&host->table);
    rk_buf_fini(&host->scratch);
    rk_arena_fini(&host->arena);
    rk_arena_fini(&host->replies);
    rk_free(host->group_status);
    rk_free(host->node_status);
    rk_free(host);
}

/* Work of each heartbeat, and of each second. */
static void beat(struct rk_host *host)
{
    uint64_t now = rk_host_now(host);
    if (now < host->beat_ms) return;
    host->beat_ms = now + host->heartbeat_ms;
    rk_host_birth_beat(host);
    if (!host->is_running) return;
    if (host->is_removed) return;
    rk_host_clock_check(host);
    if (host->is_stopping) rk_host_stop_run(host);
    if (rk_host_is_damaged(host)) rk_host_damaged_run(host);
    rk_host_reconcile(host);
    for (uint32_t id = 0; id <= host->group_count; id++) {
        rk_group_reads_tick(host->groups[id]);
        rk_group_moving_check(host->groups[id]);
    }
    if (now < host->second_ms) return;
    host->second_ms = now + 1000;
    for (uint32_t i = 0; i < host->member_count; i++) {
        struct rk_member *member = host->members[i];
        if (member == host->self) continue;
        rk_host_node_section(host, member);
        /* It may not know this node even by name. */
        if (member->number != 0 && !rk_member_is_up(host, member))
            rk_host_table_send(host, member);
        rk_member_forward_again(host, member);
        /* One that started again may be heard before the link to it is up. */
        if (member->down_ms != 0 && now - member->down_ms >= RK_HOST_HOME_LOST_MS &&
            now - member->heard_ms >= RK_HOST_HOME_LOST_MS)
            rk_member_home_lost(host, member);
    }
    for (uint32_t id = 0; id <= host->group_count; id++) {
        rk_host_birth_propose(host->groups[id]);
        rk_group_version_check(host->groups[id]);
    }
    rk_host_ghosts_check(host);
    rk_group_homes_check(host->groups[0]);
    rk_host_balance(host);
}

void rk_host_tick(struct rk_host *host, struct rk_host_time now)
{
    if (host->is_dead) return;
    if (!host->has_time) {
        host->has_time = true;
        host->now = now;
        host->started_ms = now.boot_ms;
        host->ticked_ms = now.boot_ms;
        /* Two lives of a node must not number their reads or name their clients alike, also
         * with equal seeds and when the disk lost all that the first one wrote. */
        uint64_t moment = rk_hash_mix(now.boot_ms, now.wall_ms);
        host->read_request ^= moment << 32;
        host->boot_id = rk_hash_mix(host->boot_id, moment);
        for (uint32_t id = 0; host->is_running && id <= host->group_count; id++)
            host->groups[id]->stamp_boot_ms = now.boot_ms;
    }
    RK_ASSERT(now.boot_ms >= host->now.boot_ms);
    host->now = now;
    uint64_t ticks = (now.boot_ms - host->ticked_ms) / host->tick_ms;
    if (ticks > 0) {
        host->ticked_ms += ticks * host->tick_ms;
        /* After a pause of the whole process a follower first hears what came meanwhile. */
        uint64_t skipped = ticks > 8 ? ticks - 8 : 0;
        ticks -= skipped;
        for (uint32_t id = 0; host->is_running && id <= host->group_count; id++) {
            rk_raft_skip(host->groups[id]->raft, skipped);
            for (uint64_t i = 0; i < ticks && !host->is_removed; i++)
                rk_group_tick(host->groups[id]);
            host->groups[id]->is_dirty = true;
        }
        if (!rk_wal_batch_is_empty(host->filling)) host->is_urgent = true;
    }
    beat(host);
    for (uint32_t id = 0; host->is_running && id <= host->group_count; id++)
        rk_group_timers(host->groups[id]);
    rk_host_calls_wake(host);
}

static uint64_t due_boot_ms(const struct rk_group *group)
{
    if (!group->is_serving) return UINT64_MAX;
    uint64_t due = rk_machine_next_due(group->machine);
    uint64_t now = rk_group_time(group);
    if (due == UINT64_MAX) return UINT64_MAX;
    due += RK_HOST_DUE_LATE_MS;
    uint64_t boot = rk_host_now(group->host);
    /* Where expiry has to wait for a majority the next tick is soon enough. */
    return due > now ? boot + (due - now) : boot + group->host->tick_ms;
}

uint64_t rk_host_next_tick(const struct rk_host *host)
{
    if (host->is_dead) return UINT64_MAX;
    if (!host->has_time || host->has_more) return rk_host_now(host);
    uint64_t next = host->ticked_ms + host->tick_ms;
    if (!host->is_running) next = host->beat_ms;
    struct rk_heap_node *top = rk_heap_top(&host->timers);
    if (top != NULL) {
        const struct rk_call *call = RK_CONTAINER(top, struct rk_call, timer);
        if (call->wake_ms < next) next = call->wake_ms;
    }
    for (uint32_t id = 0; host->is_running && id <= host->group_count; id++) {
        uint64_t due = due_boot_ms(host->groups[id]);
        if (due < next) next = due;
    }
    if (host->is_running && host->keeper != NULL) {
        uint64_t due = rk_keeper_due_ms(host->keeper);
        if (due < next) next = due;
    }
    return next;
}

/* Whether a node that can not be reached again is gone, as far as this one can tell: it was
 * reached before, and neither of the two links by which a leader is heard is left. */
static bool is_lost(const struct rk_member *member)
{
    return member->was_reached && !member->links[RK_LINK_CONTROL].is_up &&
           !member->links[RK_LINK_BULK].is_up;
}

void rk_host_link_up(struct rk_host *host, const char *name, enum rk_host_link link)
{
    struct rk_member *member = rk_host_member_by_name(host, rk_slice_of_string(name));
    if (member == NULL || host->is_dead) return;
    member->links[link].is_up = true;
    if (link != RK_LINK_SNAPSHOT) member->was_reached = true;
    if (link == RK_LINK_CONTROL && member != host->self) rk_host_member_greet(host, member);
    if (link != RK_LINK_BULK) return;
    member->down_ms = 0;
    for (uint32_t id = 0; host->is_running && id <= host->group_count; id++)
        host->groups[id]->is_dirty = true;
}

void rk_host_link_down(struct rk_host *host, const char *name, enum rk_host_link link,
                       bool is_refused)
{
    struct rk_member *member = rk_host_member_by_name(host, rk_slice_of_string(name));
    if (member == NULL || member == host->self || host->is_dead) return;
    bool was_up = member->links[link].is_up;
    member->links[link].is_up = false;
    rk_buf_reset(&member->links[link].out);
    member->links[link].has_section = false;
    /* It may come back as another program. */
    if (link == RK_LINK_CONTROL) member->machine_version = 0;
    for (uint32_t id = 0; host->is_running && id <= host->group_count; id++) {
        struct rk_group *group = host->groups[id];
        if (is_refused && is_lost(member) && rk_raft_leader(group->raft) == member->number)
            rk_raft_leader_lost_evidence(group->raft);
        if (was_up && rk_group_is_leader(group) && link == RK_LINK_BULK)
            rk_raft_report_unreachable(group->raft, member->number);
    }
    if (link == RK_LINK_BULK && was_up) {
        member->down_ms = rk_host_now(host);
        rk_member_link_lost(host, member);
    }
}

void rk_host_written(struct rk_host *host, enum rk_status status)
{
    struct rk_wal_batch *batch = host->writing;
    RK_ASSERT(batch != NULL);
    if (host->is_dead) return;
    if (status != RK_OK && !RK_MUTANT(write_error_ignored)) {
        rk_host_fatal(host, status, "the log can not be written: %s",
                      rk_status_text(status));
        return;
    }
    host->metrics.batches++;
    host->metrics.log_bytes += batch->result.written_bytes;
    host->metrics.log_space = batch->result.space.file_bytes;
    host->metrics.log_limit = batch->result.space.limit_bytes;
    for (uint32_t id = 0; host->is_running && id <= host->group_count; id++)
        rk_group_written(host->groups[id]);
    if (host->is_dead) return;
    if (host->is_running && batch->result.space.is_over &&
        batch->result.space.group <= host->group_count)
        rk_host_snapshot_wish(host, host->groups[batch->result.space.group],
                              batch->result.space.index);
    rk_wal_batch_reset(batch);
    host->writing = NULL;
    rk_host_snapshot_written(host, batch);
    if (host->is_adopt_writing) {
        host->is_adopt_writing = false;
        rk_host_birth_written(host);
    }
}

static uint64_t live_bytes(const struct rk_host *host)
{
    uint64_t sum = 0;
    for (uint32_t id = 0; host->is_running && id <= host->group_count; id++)
        sum += rk_machine_bytes(host->groups[id]->machine);
    return sum;
}

static void batch_hand_over(struct rk_host *host)
{
    if (host->writing != NULL || !host->is_urgent || rk_wal_batch_is_empty(host->filling))
        return;
    RK_ASSERT(!host->is_dead); /* rule 19: nothing is written after a failure */
    host->writing = host->filling;
    host->filling =
        host->writing == &host->batches[0] ? &host->batches[1] : &host->batches[0];
    host->is_urgent = false;
    host->writing->live_bytes = live_bytes(host);
    for (uint32_t id = 0; host->is_running && id <= host->group_count; id++) {
        host->groups[id]->writing = host->groups[id]->collecting;
        host->groups[id]->collecting = 0;
    }
    if (host->is_adopting) {
        host->is_adopting = false;
        host->is_adopt_writing = true;
    }
    host->io.write(host->io.context, host->wal, host->writing);
}

/* An append may hold nothing but messages that wait for what is durable already. */
static void empty_appends_done(struct rk_host *host)
{
    if (host->writing != NULL || !rk_wal_batch_is_empty(host->filling)) return;
    for (uint32_t id = 0; id <= host->group_count; id++)
        rk_group_appended(host->groups[id], &host->groups[id]->collecting);
}

static bool is_sated(const struct rk_host *host)
{
    return host->is_dead || host->flush_size >= RK_HOST_APPLY_SIZE;
}

/* One pass over all groups; true if a further one may find something. Who has much to
 * apply, as after a start, does so over many turns: the next one begins where this one
 * stopped. */
static bool pass(struct rk_host *host)
{
    bool has_worked = false;
    empty_appends_done(host);
    for (uint32_t i = 0; i <= host->group_count && !is_sated(host); i++) {
        struct rk_group *group = host->groups[host->pass_at];
        host->pass_at = host->pass_at < host->group_count ? host->pass_at + 1 : 0;
        rk_group_dispatch(group);
        if (group->id == 0 && host->keeper != NULL) rk_keeper_run(host->keeper);
        rk_group_reads_start(group);
        if (rk_group_run(group)) has_worked = true;
        rk_group_topics_wake(group);
        if (group->is_dirty) has_worked = true;
    }
    return has_worked || is_sated(host);
}

void rk_host_flush(struct rk_host *host)
{
    if (host->is_dead || !host->has_time) return;
    bool has_more = false;
    if (host->is_running) {
        has_more = true;
        host->flush_size = 0;
        rk_host_snapshot_pace(host);
        for (int i = 0; i < RK_HOST_PASSES && has_more && !is_sated(host); i++)
            has_more = pass(host);
        if (!host->is_dead) rk_host_snapshots_run(host);
        if (!host->is_dead) rk_host_transfers_run(host);
    }
    if (host->is_dead) return;
    batch_hand_over(host);
    rk_host_frames_send(host);
    for (uint32_t id = 0; host->is_running && id <= host->group_count; id++)
        rk_entry_log_trim(host->groups[id]->log);
    host->has_more = has_more || (host->is_running && rk_host_snapshots_have_more(host));
    host->metrics.calls_waiting = host->call_count;
    rk_arena_reset(&host->arena);
    rk_arena_reset(&host->replies);
}

void rk_host_stop(struct rk_host *host)
{
    if (host->is_stopping) return;
    host->is_stopping = true;
    host->stop_ms = rk_host_now(host);
    if (host->is_running && !host->is_dead) rk_host_stop_run(host);
}

bool rk_host_is_idle(const struct rk_host *host)
{
    if (!host->is_running || host->is_dead || host->is_removed) return true;
    if (host->is_stopping && rk_host_now(host) - host->stop_ms >= 2000) return true;
    for (uint32_t id = 0; id <= host->group_count; id++)
        if (rk_raft_is_leader(host->groups[id]->raft)) return false;
    return true;
}

void rk_host_set_full(struct rk_host *host, bool is_full)
{
    host->is_full = is_full;
}
