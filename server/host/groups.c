#include "host/keeper.h"

#include "base/mutant.h"

#include <inttypes.h>

/* Entries that raft keeps at hand for followers that keep up; for others the entry log
 * has more, and the disk the rest. A node has this for each group. */
#define RAFT_CACHE_SIZE (256u << 10)

/* Lease reads: what clocks may differ, and ticks of which only a part has passed. */
enum { DRIFT_PERCENT = 5, DRIFT_TICKS = 3 };

/* --- raft's view of the log ---------------------------------------------------------- */

static uint64_t store_first(void *context)
{
    const struct rk_group *group = context;
    return rk_entry_log_first(group->log);
}

static uint64_t store_last(void *context)
{
    const struct rk_group *group = context;
    return rk_entry_log_last(group->log);
}

static enum rk_status store_term(void *context, uint64_t index, uint64_t *out)
{
    const struct rk_group *group = context;
    return rk_entry_log_term(group->log, out, index);
}

static enum rk_status store_entries(void *context, uint64_t lo, uint64_t hi,
                                    uint64_t max_bytes, struct rk_arena *arena,
                                    const struct rk_raft_entry **out, size_t *count)
{
    struct rk_group *group = context;
    struct rk_storage_error why = {""};
    enum rk_status status =
        rk_entry_log_entries(group->log, lo, hi, max_bytes, arena, out, count, &why);
    if (status == RK_ECORRUPT || status == RK_EIO)
        rk_host_fatal(group->host, status, "group %u: %s", group->id, why.message);
    return status;
}

static enum rk_status store_snapshot(void *context, struct rk_raft_snapshot *out)
{
    struct rk_group *group = context;
    if (group->mark_index == 0 || group->mark_index + 1 < rk_entry_log_first(group->log)) {
        rk_host_snapshot_wish(group->host, group, 0);
        return RK_EBUSY;
    }
    out->index = group->mark_index;
    out->term = group->mark_term;
    out->conf = group->mark_conf;
    return RK_OK;
}

/* --- life ---------------------------------------------------------------------------- */

enum rk_status rk_group_new(struct rk_group **out, struct rk_host *host, uint32_t id)
{
    struct rk_group *group = rk_calloc(1, sizeof(*group));
    if (group == NULL) return RK_ENOMEM;
    group->host = host;
    group->id = id;
    rk_map_init(&group->calls);
    rk_map_init(&group->topics);
    rk_list_init(&group->routing);
    rk_list_init(&group->proposed);
    rk_list_init(&group->moving);
    rk_list_init(&group->reads_new);
    rk_list_init(&group->reads_ready);
    rk_list_init(&group->woken);
    for (int i = 0; i < RK_HOST_READ_ROUNDS; i++)
        rk_list_init(&group->rounds[i].calls);
    rk_buf_init(&group->proposals);
    rk_buf_init(&group->own);
    rk_buf_init(&group->sizes);
    *out = group;
    return RK_OK;
}

static void raft_options(const struct rk_group *group, struct rk_raft_options *options)
{
    struct rk_host *host = group->host;
    rk_raft_options_init(options);
    options->id = host->number;
    options->seed = rk_hash_mix(rk_random_next(&host->random), group->id);
    options->heartbeat_tick = host->heartbeat_ms / host->tick_ms;
    /* The setting bounds the silence, jitter included: a new leader stands within it. */
    uint32_t timeout = (host->election_timeout_ms + host->tick_ms - 1) / host->tick_ms;
    options->election_tick = (2 * timeout + 2) / 3;
    options->election_jitter =
        timeout > options->election_tick ? timeout - options->election_tick : 1;
    options->prevote_retry = options->election_tick / 2;
    options->early_jitter = (20 + host->tick_ms - 1) / host->tick_ms;
    options->disk_stall_ticks = 3 * timeout;
    options->max_append_bytes = RK_HOST_APPEND_MAX;
    options->max_cached_bytes = RAFT_CACHE_SIZE;
    options->max_committed_bytes_per_ready = RK_HOST_APPLY_SIZE;
    options->check_quorum = true;
    options->pre_vote = true;
    options->early_vote = !host->has_lease_reads;
    options->step_down_on_removal = !RK_MUTANT(removed_leads);
    options->read_mode = host->has_lease_reads ? RK_RAFT_READ_LEASE : RK_RAFT_READ_SAFE;
    options->restart_ticks = options->election_tick;
    options->drift_ticks = options->election_tick * DRIFT_PERCENT / 100 + DRIFT_TICKS;
    if (host->uncommitted_bytes != 0)
        options->max_uncommitted_bytes = host->uncommitted_bytes;
}

static enum rk_status conf_open(struct rk_group *group, const struct rk_wal_group *found)
{
    if (found == NULL || found->mark_index == 0) {
        rk_host_first_conf(group->host, &group->conf);
        group->mark_conf = group->conf;
        return RK_OK;
    }
    struct rk_reader in;
    rk_reader_init(&in, rk_buf_slice(&found->mark_conf));
    if (rk_raft_conf_state_decode(&group->conf, &in) != RK_OK) return RK_ECORRUPT;
    group->mark_conf = group->conf;
    group->mark_index = found->mark_index;
    group->mark_term = found->mark_term;
    return RK_OK;
}

static enum rk_status machine_open(struct rk_group *group, struct rk_storage_error *error)
{
    if (group->mark_index != 0) {
        struct rk_snapshot_id id = {group->id, group->mark_index, group->mark_term};
        return rk_group_restore(group, &group->machine, id, error);
    }
    return rk_group_machine_new(group, &group->machine);
}

enum rk_status rk_group_open(struct rk_group *group, struct rk_wal_group *found,
                             struct rk_storage_error *error)
{
    struct rk_raft_options options;
    const struct rk_raft_store store = {group,      store_first,   store_last,
                                        store_term, store_entries, store_snapshot};
    if (found != NULL) {
        group->log = found->log;
        found->log = NULL;
    } else {
        group->log = rk_entry_log_new(group->id, RK_ENTRY_LOG_CACHE_DEFAULT);
    }
    if (group->log == NULL) return RK_ENOMEM;
    enum rk_status status = conf_open(group, found);
    if (status != RK_OK)
        return rk_storage_fail(error, status,
                               "group %u: the membership in the log can not be read",
                               group->id);
    status = machine_open(group, error);
    if (status != RK_OK) return status;
    raft_options(group, &options);
    if (found != NULL) options.hard_state = found->hard;
    options.conf = group->conf;
    options.applied = group->mark_index;
    if (RK_MUTANT(applied_twice) && group->mark_index >= rk_entry_log_first(group->log))
        options.applied--;
    /* Files left by a snapshot that was not finished. */
    struct rk_snapshot_clean clean = {
        .keep = {group->id, group->mark_index, group->mark_term}};
    status = rk_snapshot_clean(group->host->fs, group->host->snapshot_dir, &clean);
    if (status != RK_OK)
        rk_host_log(group->host, RK_LOG_WARN, "group %u: old snapshots stay: %s", group->id,
                    rk_status_text(status));
    status = rk_raft_open(&group->raft, &options, &store);
    if (status != RK_OK) {
        rk_storage_fail(error, status,
                        "group %u: log, vote and snapshot do not fit together", group->id);
        return status;
    }
    group->term = rk_raft_term(group->raft);
    group->bytes_since_mark = rk_entry_log_bytes(group->log);
    group->entries_since_mark =
        rk_entry_log_last(group->log) + 1 - rk_entry_log_first(group->log);
    group->stamp_ms = rk_machine_time(group->machine);
    group->stamp_boot_ms = rk_host_now(group->host);
    return RK_OK;
}

void rk_group_free(struct rk_group *group)
{
    if (group == NULL) return;
    rk_group_transfers_close(group);
    rk_group_topics_free(group);
    rk_raft_free(group->raft);
    rk_machine_free(group->machine);
    rk_machine_free(group->dying);
    rk_entry_log_free(group->log);
    rk_map_fini(&group->calls);
    rk_map_fini(&group->topics);
    rk_buf_fini(&group->proposals);
    rk_buf_fini(&group->own);
    rk_buf_fini(&group->sizes);
    rk_free(group);
}

bool rk_group_is_leader(const struct rk_group *group)
{
    return rk_raft_is_leader(group->raft);
}

struct rk_member *rk_group_leader(const struct rk_group *group)
{
    return rk_host_member_by_number(group->host, rk_raft_leader(group->raft));
}

bool rk_group_has_contact(const struct rk_group *group)
{
    const struct rk_host *host = group->host;
    uint32_t heard = 0;
    for (uint32_t i = 0; i < group->conf.voters.count; i++) {
        const struct rk_member *member =
            rk_host_member_by_number(host, group->conf.voters.ids[i]);
        if (member == NULL) continue;
        if (member == host->self ||
            (member->heard_ms != 0 &&
             rk_host_now(host) - member->heard_ms <= host->election_timeout_ms))
            heard++;
    }
    return heard > group->conf.voters.count / 2;
}

/* At the start, when all would campaign at once, nobody does before it could win; then the
 * node that the group is dealt to goes first, and each next one a heartbeat later: those
 * before it may be away, or their logs behind. */
static bool must_let_others_go_first(struct rk_group *group)
{
    const struct rk_host *host = group->host;
    uint64_t now = rk_host_now(host);
    if (rk_raft_leader(group->raft) != RK_RAFT_NONE ||
        now - host->started_ms >= 4 * (uint64_t)host->heartbeat_ms)
        return false;
    if (!rk_group_has_contact(group)) return true;
    if (group->contact_ms == 0) group->contact_ms = now;
    return now - group->contact_ms < rk_group_place(group) * (uint64_t)host->heartbeat_ms;
}

void rk_group_tick(struct rk_group *group)
{
    if (must_let_others_go_first(group)) return;
    /* Without memory the tick counted and what was due comes next time. */
    (void)rk_raft_tick(group->raft);
}

/* --- effects of raft ----------------------------------------------------------------- */

/* A batch is never too full for a ready: rk_group_run takes no append when it is over the
 * soft bound, and what one brings is bounded. Marks of snapshots, one at a time, have the
 * rest. */
_Static_assert(RK_HOST_BATCH_SOFT + RK_HOST_READY_MAX + RK_WAL_BLOB_MAX <= RK_WAL_BATCH_MAX,
               "a ready fits into a batch that is not over the soft bound");
_Static_assert(RK_WAL_ENTRY_MAX + RK_RAFT_APPEND_OVERHEAD <= RK_HOST_APPEND_MAX,
               "the largest entry is within the bound of a ready");
_Static_assert(RK_HOST_APPEND_MAX + RK_WAL_BLOB_MAX + (64 << 10) <= RK_HOST_READY_MAX,
               "entries, a membership and small records");

static bool append(struct rk_group *group, const struct rk_raft_ready *ready)
{
    struct rk_host *host = group->host;
    size_t before = rk_wal_batch_size(host->filling);
    enum rk_status status = RK_OK;
    if (ready->snapshot != NULL) status = rk_group_install(group, ready->snapshot);
    if (status == RK_OK && ready->entry_count > 0) {
        uint64_t from = ready->entries[0].index;
        if (from <= rk_entry_log_last(group->log)) {
            rk_entry_log_truncate(group->log, from);
            status = rk_wal_batch_truncate(host->filling, group->id, from);
        }
        if (status == RK_OK)
            status = rk_entry_log_append(group->log, ready->entries, ready->entry_count);
        if (status == RK_OK)
            status = rk_wal_batch_entries(host->filling, group->id, ready->entries,
                                          ready->entry_count);
        for (size_t i = 0; i < ready->entry_count; i++)
            host->metrics.entry_bytes += ready->entries[i].data.size;
    }
    /* Last, since its commit may cover entries that took the place of others: the batch is
     * durable as a whole or not at all. */
    if (status == RK_OK && ready->has_hard_state)
        status = rk_wal_batch_hard_state(host->filling, group->id, ready->hard_state);
    if (status != RK_OK) {
        rk_host_fatal(host, status, "group %u: the log can not take what raft appends: %s",
                      group->id, rk_status_text(status));
        return false;
    }
    RK_ASSERT(rk_wal_batch_size(host->filling) - before <= RK_HOST_READY_MAX);
    group->collecting = ready->number;
    if (ready->must_sync) host->is_urgent = true;
    return true;
}

static enum rk_host_link link_of(const struct rk_raft_message *message)
{
    return message->type == RK_RAFT_MSG_APP || message->type == RK_RAFT_MSG_APP_RESP
               ? RK_LINK_BULK
               : RK_LINK_CONTROL;
}

static void send(struct rk_group *group, const struct rk_raft_message *message)
{
    struct rk_host *host = group->host;
    struct rk_member *to = rk_host_member_by_number(host, message->to);
    if (to == NULL && message->type == RK_RAFT_MSG_SNAP)
        rk_raft_report_snapshot(group->raft, message->to, false);
    if (to == NULL || to == host->self) return;
    if (message->type == RK_RAFT_MSG_SNAP) {
        rk_group_snapshot_send(group, message);
        return;
    }
    enum rk_host_link link = link_of(message);
    struct rk_buf *out = rk_host_section(host, to, link, RK_SECTION_RAFT);
    rk_buf_varint(out, group->id);
    rk_raft_message_encode(out, message);
    rk_host_section_end(host, to, link);
}

/* The first entry of this term is applied here: now the leader serves. */
static void serve(struct rk_group *group)
{
    group->is_serving = true;
    group->is_dirty = true;
    rk_group_clock_lead(group);
    if (!RK_MUTANT(leases_not_restarted))
        rk_machine_lead(group->machine, rk_group_time(group));
    rk_host_birth_propose(group);
    if (group->id == 0 && group->host->keeper != NULL) rk_keeper_lead(group->host->keeper);
}

static bool apply_one(struct rk_group *group, const struct rk_raft_entry *entry)
{
    struct rk_host *host = group->host;
    const struct rk_machine_output output = {group, rk_group_on_reply, rk_group_on_pending,
                                             rk_group_on_event};
    struct rk_slice data = entry->data;
    if (entry->type != RK_RAFT_ENTRY_NORMAL) {
        data = RK_SLICE_EMPTY;
        enum rk_status status = rk_raft_apply_conf(group->raft, entry, &group->conf);
        /* Refused by what stands in the log: so it is on every node. */
        if (status == RK_EINVAL || status == RK_EPROTO) {
            rk_host_log(host, RK_LOG_WARN,
                        "group %u: a membership change has no effect: %s", group->id,
                        rk_status_text(status));
        } else if (status != RK_OK) {
            rk_group_entry_fatal(group, entry, status);
            return false;
        }
    }
    group->applying = entry->index;
    group->applying_term = entry->term;
    uint32_t version = rk_machine_version(group->machine);
    enum rk_status status = rk_machine_apply(group->machine, entry->index, data, &output);
    if (status != RK_OK) {
        rk_group_entry_fatal(group, entry, status);
        return false;
    }
    if (rk_machine_version(group->machine) != version)
        rk_host_log(host, RK_LOG_INFO, "group %u: machine version %u from entry %" PRIu64,
                    group->id, rk_machine_version(group->machine), entry->index);
    uint64_t size = rk_raft_entry_size(entry);
    group->bytes_since_mark += size;
    group->entries_since_mark++;
    host->flush_size += size;
    host->metrics.applied++;
    return true;
}

static bool apply(struct rk_group *group, const struct rk_raft_ready *ready)
{
    for (size_t i = 0; i < ready->committed_count; i++) {
        const struct rk_raft_entry *entry = &ready->committed[i];
        if (!apply_one(group, entry)) return false;
        if (!group->is_serving && rk_raft_is_leader(group->raft) &&
            entry->term == rk_raft_term(group->raft))
            serve(group);
    }
    rk_group_clock_applied(group);
    const struct rk_raft_entry *last = &ready->committed[ready->committed_count - 1];
    rk_raft_applied(group->raft, last->index);
    return !group->host->is_dead;
}

/* Who leads changed, or this node's own term as the leader. */
static void leader_check(struct rk_group *group, const struct rk_raft_ready *ready)
{
    struct rk_host *host = group->host;
    uint64_t term = rk_raft_term(group->raft);
    uint64_t leader = rk_raft_leader(group->raft);
    (void)ready;
    if (term == group->term && leader == group->leader) return;
    bool was_leader = group->leader == host->number;
    bool is_leader = leader == host->number;
    bool has_changed = leader != group->leader || (is_leader && term != group->term);
    group->term = term;
    group->leader = leader;
    if (!has_changed) return;
    group->changed_ms = rk_host_now(host);
    group->is_dirty = true;
    if (was_leader) {
        group->is_serving = false;
        if (group->id == 0 && host->keeper != NULL) rk_keeper_unlead(host->keeper);
        rk_group_calls_unlead(group);
    }
    if (is_leader) {
        host->metrics.elections++;
        rk_host_log(host, RK_LOG_INFO, "group %u: leads term %" PRIu64, group->id, term);
    } else if (leader != 0) {
        rk_host_log(host, RK_LOG_DEBUG, "group %u: number %" PRIu64 " leads term %" PRIu64,
                    group->id, leader, term);
    }
    rk_group_calls_leader_changed(group);
}

static bool run_once(struct rk_group *group)
{
    struct rk_host *host = group->host;
    struct rk_raft_ready ready;
    enum rk_status status = rk_raft_ready(group->raft, &ready);
    if (host->is_dead) return false;
    if (status != RK_OK) {
        rk_host_log(host, RK_LOG_WARN, "group %u: no effects now: %s", group->id,
                    rk_status_text(status));
        return false;
    }
    leader_check(group, &ready);
    if (ready.has_append && !append(group, &ready)) return false;
    for (size_t i = 0; i < ready.message_count; i++)
        send(group, &ready.messages[i]);
    if (ready.committed_count > 0 && !apply(group, &ready)) return false;
    if (host->has_new_table) rk_host_members_applied(host);
    if (ready.read_count > 0) rk_group_reads_released(group, ready.reads, ready.read_count);
    if (ready.committed_count > 0) rk_group_reads_applied(group);
    return true;
}

bool rk_group_run(struct rk_group *group)
{
    bool has_run = false;
    bool is_full = rk_wal_batch_size(group->host->filling) >= RK_HOST_BATCH_SOFT;
    rk_raft_hold_appends(group->raft, is_full);
    /* What a ready's effects make ready in turn (a lone voter's commit) comes in the next
     * pass, fairly after the other groups. */
    if (rk_raft_has_ready(group->raft)) has_run = run_once(group);
    if (group->host->is_dead) return false;
    rk_group_sends_run(group);
    return rk_group_receive_run(group) || has_run;
}

void rk_group_appended(struct rk_group *group, uint64_t *number)
{
    uint64_t done = *number;
    if (done == 0) return;
    *number = 0;
    enum rk_status status = rk_raft_persisted(group->raft, done);
    if (status == RK_ENOMEM && group->collecting == 0) group->collecting = done; /* again */
    if (status != RK_OK && status != RK_ENOMEM)
        rk_host_fatal(group->host, status, "group %u: raft refuses what is durable: %s",
                      group->id, rk_status_text(status));
}

void rk_group_written(struct rk_group *group)
{
    struct rk_host *host = group->host;
    enum rk_status status;
    if (group->writing == 0) return;
    int tries = 0;
    do
        status = rk_entry_log_stored(group->log, host->writing);
    while (status == RK_ENOMEM && ++tries < 3);
    if (status != RK_OK)
        rk_host_fatal(host, status, "group %u: places of written entries are lost: %s",
                      group->id, rk_status_text(status));
    else
        rk_group_appended(group, &group->writing);
}

/* No entry is larger than the log takes: who leads has written it. */
static bool has_large_entry(const struct rk_raft_message *message)
{
    for (size_t i = 0; i < message->entry_count; i++)
        if (message->entries[i].data.size > RK_WAL_ENTRY_MAX) return true;
    return false;
}

void rk_group_receive(struct rk_group *group, struct rk_member *from, struct rk_slice bytes)
{
    struct rk_host *host = group->host;
    struct rk_raft_message message;
    struct rk_reader in;
    rk_reader_init(&in, bytes);
    enum rk_status status = rk_raft_message_decode(&message, &host->arena, &in);
    if (status == RK_ENOMEM) return;
    /* Snapshots come in chunks, and every message from who sent the frame. */
    if (status != RK_OK || message.from != from->number || message.to != host->number ||
        message.type == RK_RAFT_MSG_SNAP || has_large_entry(&message)) {
        host->metrics.frames_dropped++;
        return;
    }
    status = rk_raft_step(group->raft, &message);
    if (status == RK_ECORRUPT)
        rk_host_fatal(host, status,
                      "group %u: the leader counts on entries that this disk lost; replace "
                      "the node with: rukun cluster replace %s",
                      group->id, host->name);
    else if (status == RK_EPROTO || status == RK_EINVAL || status == RK_ENOENT)
        host->metrics.frames_dropped++;
}

/* --- proposals ----------------------------------------------------------------------- */

void rk_group_own(struct rk_group *group, const struct rk_buf *request)
{
    size_t before = group->own.size;
    RK_ASSERT(request->size <= RK_HOST_REQUEST_MAX);
    if (!request->is_failed) rk_buf_blob(&group->own, rk_buf_slice(request));
    if (request->is_failed || group->own.is_failed) {
        /* Half a request would be an entry that no node can apply. All of them are proposed
         * again after a while. */
        group->own.size = before;
        group->own.is_failed = false;
        rk_host_log(group->host, RK_LOG_WARN, "group %u: out of memory for own entries",
                    group->id);
    }
    group->is_dirty = true;
}

static void own_encode(struct rk_group *group)
{
    struct rk_reader in;
    RK_ASSERT(group->sizes.size == 0);
    rk_reader_init(&in, rk_buf_slice(&group->own));
    while (rk_reader_left(&in) > 0) {
        struct rk_command command = {.stamp_ms = rk_group_time(group),
                                     .request = rk_read_blob(&in)};
        size_t before = group->proposals.size;
        rk_command_encode(&group->proposals, &command);
        rk_buf_u32(&group->sizes, (uint32_t)(group->proposals.size - before));
        group->own_count++;
    }
}

static enum rk_status propose(struct rk_group *group, size_t count)
{
    struct rk_slice *slices =
        rk_arena_alloc(&group->host->replies, (count + 1) * sizeof(*slices));
    if (slices == NULL || rk_buf_check(&group->proposals) != RK_OK ||
        rk_buf_check(&group->sizes) != RK_OK)
        return RK_ENOMEM;
    size_t at = 0;
    for (size_t i = 0; i < count; i++) {
        uint32_t size = rk_take_u32(group->sizes.data + 4 * i);
        slices[i] = rk_slice_of(group->proposals.data + at, size);
        at += size;
    }
    return rk_raft_propose(group->raft, slices, count, NULL);
}

void rk_group_propose(struct rk_group *group)
{
    struct rk_host *host = group->host;
    size_t count = group->own_count + group->batch_calls;
    if (count == 0) return;
    enum rk_status status = propose(group, count);
    if (status == RK_OK) {
        host->metrics.proposals += count;
        if (group->own_count > 0) rk_buf_reset(&group->own);
    } else {
        /* Nothing was appended: the calls wait for their next turn, in their order. */
        for (; group->batch_calls > 0; group->batch_calls--) {
            struct rk_call *call = RK_CONTAINER(group->proposed.prev, struct rk_call, link);
            call->sends--;
            rk_call_consumed(call);
            call->state = RK_CALL_ROUTING;
            call->retry_ms = rk_host_now(host) + host->tick_ms;
            rk_list_remove(&call->link);
            rk_list_push_front(&group->routing, &call->link);
        }
    }
    group->batch_calls = 0;
    group->own_count = 0;
    rk_buf_reset(&group->proposals);
    rk_buf_reset(&group->sizes);
}

/* The leader's timers: only what a majority would still let it do. */
void rk_group_timers(struct rk_group *group)
{
    struct rk_host *host = group->host;
    if (!group->is_serving &&
        (!RK_MUTANT(expiry_before_noop) || !rk_group_is_leader(group)))
        return;
    uint64_t time = rk_group_time(group);
    uint64_t now = time > RK_HOST_DUE_LATE_MS ? time - RK_HOST_DUE_LATE_MS : 0;
    if (RK_MUTANT(expiry_early)) now += 1000;
    if (rk_machine_next_due(group->machine) <= now && rk_group_has_contact(group)) {
        for (int i = 0; i < RK_HOST_DUE_BATCHES; i++) {
            rk_buf_reset(&host->scratch);
            if (rk_machine_due(group->machine, now, RK_HOST_DUE_MAX, &host->scratch) == 0)
                break;
            rk_group_own(group, &host->scratch);
        }
    }
    if (rk_host_now(host) - group->touched_ms >= RK_HOST_TOUCH_MS) {
        group->touched_ms = rk_host_now(host);
        rk_buf_reset(&host->scratch);
        if (rk_machine_touch_take(group->machine, &host->scratch))
            rk_group_own(group, &host->scratch);
    }
}

void rk_group_own_encode(struct rk_group *group)
{
    if (group->own.size > 0 && group->own_count == 0) own_encode(group);
}
