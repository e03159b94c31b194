#include "host/keeper.h"

#include <inttypes.h>
#include <stdio.h>

/* While it serves: calls gather while a batch is out, are applied together when it is
 * stored, and what they changed is the next batch. Nothing is sent, and no answer leaves,
 * unless a majority was heard within an election timeout: a leader that slept through its
 * successor's election finds out before it does anything. */

bool rk_keeper_owns(const struct rk_group *group, enum rk_op op)
{
    const struct rk_op_info *info = rk_op_info(op);
    if (group->id != 0 || group->host->keeper == NULL || info == NULL) return false;
    struct rk_slice area = rk_slice_of(info->name, info->area_size);
    if (info->is_internal) return op == RK_OP_CALL_CANCEL || op == RK_OP_LOCK_RETURN;
    return rk_slice_is_equal(area, RK_SLICE_LITERAL("lock")) ||
           rk_slice_is_equal(area, RK_SLICE_LITERAL("session"));
}

/* --- calls --------------------------------------------------------------------------- */

void rk_keeper_take(struct rk_call *call)
{
    struct rk_host *host = call->group->host;
    uint64_t now = rk_host_now(host);
    rk_list_remove(&call->link);
    rk_list_push_back(&host->keeper->waiting, &call->link);
    if (call->origin == NULL || call->deadline_ms <= now) return;
    /* Its origin should hear that it was not done before it gives up itself. */
    uint64_t margin = (call->deadline_ms - now) / 4;
    if (margin > RK_KEEPER_MARGIN_MS) margin = RK_KEEPER_MARGIN_MS;
    call->deadline_ms -= margin;
    rk_call_wake_at(call, call->deadline_ms);
}

void rk_keeper_refuse(struct rk_call *call)
{
    const struct rk_keeper *keeper = call->group->host->keeper;
    rk_call_fail(call, RK_EUNAVAILABLE, "the store of locks did not answer in time%s%.180s",
                 keeper->reason[0] != '\0' ? ": " : "", keeper->reason);
}

static bool is_idle(const struct rk_keeper *keeper)
{
    return keeper->state == RK_KEEPER_SERVING && !keeper->has_batch && !keeper->is_changed;
}

static void read_answer(struct rk_keeper *keeper, struct rk_call *call)
{
    struct rk_host *host = keeper->host;
    struct rk_request request;
    struct rk_reply reply;
    if (call->op == RK_OP_SESSION_KEEPALIVE) {
        rk_call_keepalive(call);
        return;
    }
    enum rk_status status =
        rk_request_decode(&request, rk_buf_slice(&call->request), &host->arena);
    rk_host_reply_init(&reply, (enum rk_op)call->op);
    if (status == RK_OK)
        status = rk_machine_query(keeper->machine, &request, rk_keeper_time(keeper),
                                  &host->replies, &reply);
    host->metrics.reads++;
    if (status != RK_OK)
        rk_call_fail(call, status, "%s", rk_status_text(status));
    else
        rk_call_answer(call, &reply);
}

void rk_keeper_read(struct rk_call *call)
{
    struct rk_keeper *keeper = call->group->host->keeper;
    if (keeper->state == RK_KEEPER_OFF) {
        rk_call_route(call);
    } else if (is_idle(keeper)) {
        read_answer(keeper, call);
    } else {
        rk_list_remove(&call->link);
        rk_list_push_back(&keeper->reads, &call->link);
    }
}

static void reads_answer(struct rk_keeper *keeper)
{
    while (!rk_list_is_empty(&keeper->reads)) {
        struct rk_call *call = RK_CONTAINER(keeper->reads.next, struct rk_call, link);
        rk_list_remove(&call->link);
        read_answer(keeper, call);
    }
}

/* --- the machine --------------------------------------------------------------------- */

static void on_reply(void *context, struct rk_slice client, uint64_t seq,
                     const struct rk_reply *reply)
{
    struct rk_keeper *keeper = context;
    struct rk_reply said = *reply;
    struct rk_buf bytes;
    rk_buf_init(&bytes);
    if (said.status == RK_EUNAVAILABLE && keeper->hold_ms > rk_host_now(keeper->host))
        said.retry_after_ms = keeper->hold_ms - rk_host_now(keeper->host);
    rk_reply_encode(&bytes, &said);
    if (rk_buf_check(&bytes) != RK_OK) keeper->answers.is_failed = true;
    rk_buf_blob(&keeper->answers, client);
    rk_buf_varint(&keeper->answers, seq);
    rk_buf_blob(&keeper->answers, rk_buf_slice(&bytes));
    rk_buf_fini(&bytes);
}

static void on_pending(void *context, struct rk_slice client, uint64_t seq, uint64_t home)
{
    const struct rk_keeper *keeper = context;
    rk_group_on_pending(keeper->host->groups[0], client, seq, home);
}

/* The next command to apply, in the host's scratch. */
static enum rk_status prepare(struct rk_keeper *keeper, const struct rk_command *command)
{
    struct rk_buf *scratch = &keeper->host->scratch;
    rk_buf_reset(scratch);
    rk_command_encode(scratch, command);
    return rk_buf_check(scratch);
}

static enum rk_status apply(struct rk_keeper *keeper)
{
    struct rk_host *host = keeper->host;
    const struct rk_machine_output output = {keeper, on_reply, on_pending, NULL};
    enum rk_status status = rk_machine_apply(keeper->machine, ++keeper->index,
                                             rk_buf_slice(&host->scratch), &output);
    if (status == RK_OK) status = rk_buf_check(&keeper->answers);
    keeper->is_changed = true;
    if (status != RK_OK)
        rk_host_fatal(host, status, "locks: what was asked can not be applied: %s",
                      rk_status_text(status));
    return status;
}

static enum rk_status own_apply(struct rk_keeper *keeper, const struct rk_request *request)
{
    struct rk_buf bytes;
    rk_buf_init(&bytes);
    rk_request_encode(&bytes, request);
    const struct rk_command command = {.stamp_ms = rk_keeper_time(keeper),
                                       .request = rk_buf_slice(&bytes)};
    enum rk_status status = rk_buf_check(&bytes);
    if (status == RK_OK) status = prepare(keeper, &command);
    if (status == RK_OK) status = apply(keeper);
    rk_buf_fini(&bytes);
    return status;
}

enum rk_status rk_keeper_birth(struct rk_keeper *keeper, uint64_t history,
                               uint64_t fence_floor)
{
    struct rk_request request;
    memset(&request, 0, sizeof(request));
    request.op = RK_OP_BIRTH;
    request.history = history;
    request.fence_floor = fence_floor; /* and the seconds of its stamp */
    if (request.fence_floor < keeper->host->fence_floor)
        request.fence_floor = keeper->host->fence_floor;
    RK_SET(&request, HISTORY);
    RK_SET(&request, FENCE_FLOOR);
    return own_apply(keeper, &request);
}

/* As in the embedded engine behaviour changes only once all members know it. */
static void version_follow(struct rk_keeper *keeper)
{
    uint32_t version = rk_machine_version(keeper->host->groups[0]->machine);
    struct rk_request request;
    if (version <= rk_machine_version(keeper->machine)) return;
    memset(&request, 0, sizeof(request));
    request.op = RK_OP_MACHINE_VERSION;
    request.number = version;
    RK_SET(&request, NUMBER);
    (void)own_apply(keeper, &request);
}

static void due_apply(struct rk_keeper *keeper)
{
    struct rk_buf request;
    uint64_t time = rk_keeper_time(keeper);
    uint64_t now = time > RK_HOST_DUE_LATE_MS ? time - RK_HOST_DUE_LATE_MS : 0;
    if (rk_machine_next_due(keeper->machine) > now) return;
    rk_buf_init(&request);
    while (!keeper->host->is_dead &&
           rk_machine_changes_count(keeper->machine) < RK_KEEPER_OBJECTS_MAX) {
        rk_buf_reset(&request);
        if (rk_machine_due(keeper->machine, now, RK_HOST_DUE_MAX, &request) == 0) break;
        const struct rk_command command = {.stamp_ms = time,
                                           .request = rk_buf_slice(&request)};
        /* Without memory they come again after a while, as entries that were lost. */
        if (rk_buf_check(&request) != RK_OK || prepare(keeper, &command) != RK_OK) break;
        (void)apply(keeper);
    }
    rk_buf_fini(&request);
}

/* False: no memory now. */
static bool call_apply(struct rk_keeper *keeper, struct rk_call *call)
{
    struct rk_group *group = call->group;
    struct rk_command command;
    rk_call_command(call, rk_keeper_time(keeper), &command);
    if (prepare(keeper, &command) != RK_OK) return false;
    call->state = RK_CALL_PROPOSED;
    call->sends++;
    rk_list_remove(&call->link);
    rk_list_push_back(&group->proposed, &call->link);
    keeper->applied++;
    return apply(keeper) == RK_OK;
}

static bool is_refused(const struct rk_keeper *keeper, const struct rk_call *call)
{
    return keeper->is_full && rk_op_info((enum rk_op)call->op)->grows &&
           !rk_call_is_repeated(call, keeper->machine);
}

static void calls_apply(struct rk_keeper *keeper)
{
    while (!rk_list_is_empty(&keeper->waiting) && keeper->applied < RK_KEEPER_CALLS_MAX &&
           rk_machine_changes_count(keeper->machine) < RK_KEEPER_OBJECTS_MAX &&
           !keeper->host->is_dead) {
        struct rk_call *call = RK_CONTAINER(keeper->waiting.next, struct rk_call, link);
        if (is_refused(keeper, call))
            rk_call_fail(call, RK_EFULL, "the store of locks is full");
        else if (!call_apply(keeper, call))
            return;
    }
}

/* --- batches ------------------------------------------------------------------------- */

static enum rk_status changes_fill(struct rk_keeper *keeper, uint32_t count)
{
    struct rk_machine_change change;
    struct rk_reader in;
    uint32_t at = 0;
    rk_arena_reset(&keeper->views);
    rk_reader_init(&in, rk_buf_slice(&keeper->changed));
    while (rk_machine_change_read(&in, &change)) {
        RK_ASSERT(at < count);
        struct rk_lock_view *view = NULL;
        if (change.id != 0 && change.record.size != 0) {
            struct rk_lock_view found;
            enum rk_status status = rk_machine_lock_view(
                keeper->machine, change.id, RK_HOST_STORE_SHOWN, &keeper->views, &found);
            if (status == RK_ENOMEM) return status;
            if (status == RK_OK) {
                view = rk_arena_alloc(&keeper->views, sizeof(*view));
                if (view == NULL) return RK_ENOMEM;
                *view = found;
            }
        }
        keeper->changes[at++] =
            (struct rk_host_store_change){change.kind, change.id, change.record, view};
    }
    keeper->batch.change_count = at;
    return RK_OK;
}

static enum rk_status changes_collect(struct rk_keeper *keeper)
{
    uint64_t count = 1 + rk_machine_changes_count(keeper->machine);
    if (count > keeper->change_capacity) {
        uint32_t capacity = keeper->change_capacity < 64 ? 64 : keeper->change_capacity;
        while (capacity < count)
            capacity *= 2;
        struct rk_host_store_change *changes =
            rk_realloc_array(keeper->changes, capacity, sizeof(*changes));
        if (changes == NULL) return RK_ENOMEM;
        keeper->changes = changes;
        keeper->change_capacity = capacity;
    }
    rk_buf_reset(&keeper->changed);
    enum rk_status status = rk_machine_changes_put(keeper->machine, &keeper->changed);
    return status == RK_OK ? changes_fill(keeper, (uint32_t)count) : status;
}

static void batch_send(struct rk_keeper *keeper)
{
    struct rk_host *host = keeper->host;
    keeper->batch.number = ++keeper->number;
    keeper->is_asked = true;
    keeper->asked_ms = rk_host_now(host);
    host->io.store_write(host->io.context, &keeper->batch);
}

static struct rk_host_store_batch batch_base(const struct rk_keeper *keeper)
{
    return (struct rk_host_store_batch){
        .term = keeper->term,
        .history = rk_machine_history(keeper->host->groups[0]->machine),
        .after_seq = keeper->seq,
        .after_id = keeper->id,
        .seq = keeper->seq,
        .id = keeper->id,
        .index = keeper->index,
        .changes = keeper->changes};
}

/* Without memory it is tried again; until then nothing is applied or read. */
static void batch_make(struct rk_keeper *keeper, bool is_whole)
{
    struct rk_host *host = keeper->host;
    uint64_t seq = keeper->batch.seq > keeper->seq ? keeper->batch.seq : keeper->seq;
    keeper->batch = batch_base(keeper);
    keeper->batch.is_whole = is_whole;
    keeper->batch.seq = (is_whole ? seq : keeper->seq) + 1;
    keeper->batch.id = rk_keeper_number(keeper);
    if (changes_collect(keeper) != RK_OK) {
        rk_host_log(host, RK_LOG_WARN, "locks: out of memory for a batch");
        return;
    }
    keeper->batch.changes = keeper->changes;
    rk_machine_changes_taken(keeper->machine);
    keeper->has_batch = true;
    keeper->is_changed = false;
    host->metrics.store_batches++;
    host->metrics.store_changes += keeper->batch.change_count;
    batch_send(keeper);
}

/* Looks whether the store is there and still has what this leader wrote. */
static void store_check(struct rk_keeper *keeper)
{
    if (rk_host_now(keeper->host) - keeper->asked_ms < RK_KEEPER_CHECK_MS) return;
    keeper->batch = batch_base(keeper);
    keeper->has_batch = true;
    batch_send(keeper);
}

static void answers_leave(struct rk_keeper *keeper)
{
    struct rk_host *host = keeper->host;
    struct rk_buf answers = keeper->answers;
    struct rk_reader in;
    rk_buf_init(&keeper->answers);
    rk_reader_init(&in, rk_buf_slice(&answers));
    while (rk_reader_left(&in) > 0) {
        struct rk_reply reply;
        struct rk_slice client = rk_read_blob(&in);
        uint64_t seq = rk_read_varint(&in);
        struct rk_slice bytes = rk_read_blob(&in);
        /* Without memory the client's retry finds it among the answers that are kept. */
        if (rk_reply_decode(&reply, bytes, &host->arena) == RK_OK)
            rk_group_on_reply(host->groups[0], client, seq, &reply);
    }
    rk_buf_reset(&answers);
    rk_buf_fini(&keeper->answers);
    keeper->answers = answers;
}

static void batch_done(struct rk_keeper *keeper)
{
    keeper->seq = keeper->batch.seq;
    keeper->id = keeper->batch.id;
    keeper->has_batch = keeper->is_stored = false;
    keeper->applied = 0;
    answers_leave(keeper);
}

/* The store is not where this leader left it, and nobody else may have written: it lost
 * what it had. This leader knows all of it and writes it back. */
static void store_lost(struct rk_keeper *keeper, const char *text)
{
    struct rk_host *host = keeper->host;
    rk_host_log(host, RK_LOG_ERROR,
                "locks: the store lost writes (%s): this leader writes back what it knows",
                text != NULL && text[0] != '\0' ? text : "it is not where it was left");
    rk_keeper_hold(keeper);
    keeper->has_batch = false;
    keeper->is_whole_due = true;
}

static void full_take(struct rk_keeper *keeper, bool is_full)
{
    if (is_full && !keeper->is_full)
        rk_host_log(keeper->host, RK_LOG_WARN,
                    "locks: the store is full: what needs room is refused");
    if (!is_full && keeper->is_full)
        rk_host_log(keeper->host, RK_LOG_INFO, "locks: the store has room again");
    keeper->is_full = is_full;
}

void rk_host_stored(struct rk_host *host, const struct rk_host_store_answer *answer)
{
    struct rk_keeper *keeper = host->keeper;
    if (host->is_dead || keeper == NULL || !keeper->is_asked ||
        keeper->number != answer->number || !keeper->has_batch)
        return;
    keeper->is_asked = false;
    switch (answer->status) {
    case RK_OK:
        host->metrics.store_ms += rk_host_now(host) - keeper->asked_ms;
        host->metrics.store_answers++;
        rk_keeper_done(keeper);
        full_take(keeper, answer->is_full);
        keeper->is_stored = true;
        if (answer->identity.size > 0) rk_keeper_mark_take(keeper, answer->identity);
        break;
    case RK_EFENCE: rk_keeper_fenced(keeper, answer->text); break;
    case RK_EVERSION: store_lost(keeper, answer->text); break;
    default: rk_keeper_put_off(keeper, answer->status, answer->text); break;
    }
}

/* --- a turn -------------------------------------------------------------------------- */

static void batch_go_on(struct rk_keeper *keeper)
{
    if (keeper->is_stored)
        batch_done(keeper);
    else if (!keeper->is_asked && rk_host_now(keeper->host) >= keeper->again_ms)
        batch_send(keeper);
}

void rk_keeper_run(struct rk_keeper *keeper)
{
    struct rk_host *host = keeper->host;
    struct rk_group *group = host->groups[0];
    if (keeper->state == RK_KEEPER_OFF || !rk_group_is_leader(group)) return;
    rk_keeper_silence_check(keeper);
    if (keeper->state != RK_KEEPER_SERVING && !rk_keeper_start(keeper)) return;
    if (!rk_group_has_contact(group)) return;
    if (keeper->has_batch) batch_go_on(keeper);
    if (keeper->has_batch || keeper->state != RK_KEEPER_SERVING) return;
    bool is_marked = rk_keeper_is_marked(keeper);
    if (is_idle(keeper) && !keeper->is_whole_due) {
        reads_answer(keeper);
        rk_keeper_hold_end(keeper);
        version_follow(keeper);
        due_apply(keeper);
        calls_apply(keeper);
    }
    if (host->is_dead) return;
    if (keeper->is_whole_due) {
        /* Once it is back nothing in the store tells a successor of the hold. */
        if (!is_marked) return;
        if (rk_machine_changes_all(keeper->machine) != RK_OK) return;
        batch_make(keeper, true);
        if (keeper->has_batch) keeper->is_whole_due = false;
    } else if (keeper->is_changed) {
        batch_make(keeper, false);
    } else {
        store_check(keeper);
    }
}

uint64_t rk_keeper_due_ms(const struct rk_keeper *keeper)
{
    const struct rk_host *host = keeper->host;
    if (!is_idle(keeper)) return UINT64_MAX;
    uint64_t due = rk_machine_next_due(keeper->machine);
    if (due == UINT64_MAX) return UINT64_MAX;
    uint64_t now = rk_keeper_time(keeper);
    due += RK_HOST_DUE_LATE_MS;
    return due > now ? rk_host_now(host) + (due - now) : rk_host_now(host) + host->tick_ms;
}

bool rk_host_store_status(const struct rk_host *host, struct rk_host_store_status *out)
{
    const struct rk_keeper *keeper = host->keeper;
    memset(out, 0, sizeof(*out));
    if (keeper == NULL) return false;
    uint64_t now = rk_host_now(host);
    out->is_keeping = keeper->state == RK_KEEPER_SERVING;
    out->is_up = keeper->state != RK_KEEPER_OFF && keeper->is_up;
    out->is_full = out->is_keeping && keeper->is_full;
    out->is_holding = keeper->hold_ms != 0;
    out->hold_ms = keeper->hold_ms > now ? keeper->hold_ms - now : 0;
    out->seq = keeper->seq;
    out->reason = keeper->reason;
    if (keeper->state == RK_KEEPER_LOADING && keeper->reason[0] == '\0')
        out->reason = "the store is being read";
    if (keeper->machine == NULL) return true;
    out->objects = rk_machine_object_count(keeper->machine);
    return true;
}

const struct rk_machine *rk_host_store_machine(const struct rk_host *host)
{
    const struct rk_keeper *keeper = host->keeper;
    return keeper != NULL && keeper->state == RK_KEEPER_SERVING ? keeper->machine : NULL;
}
