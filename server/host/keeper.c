#include "host/keeper.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

/* From the leadership of group 0 to the service: the store is claimed for the term and
 * read, what it is goes into the log, and only then is anybody served. The mark in the log
 * is how a later leader notices that the store lost what this one is about to write. */

enum {
    RECORD_META = 1,      /* the first byte of the machine's own record */
    FENCE_STEP = 1 << 20, /* of fences a second, as births count them */
};
static const uint64_t YEAR_2020 = 1577836800; /* in seconds since 1970 */
static const char MARK_KEY[] = "store";

enum rk_status rk_keeper_new(struct rk_host *host, uint32_t hold_ms)
{
    struct rk_keeper *keeper = rk_calloc(1, sizeof(*keeper));
    if (keeper == NULL) return RK_ENOMEM;
    keeper->host = host;
    keeper->hold_span_ms = hold_ms;
    rk_buf_init(&keeper->records);
    rk_buf_init(&keeper->changed);
    rk_buf_init(&keeper->answers);
    rk_arena_init(&keeper->views);
    rk_list_init(&keeper->waiting);
    rk_list_init(&keeper->reads);
    host->keeper = keeper;
    return RK_OK;
}

static void records_drop(struct rk_keeper *keeper)
{
    rk_buf_fini(&keeper->records);
    rk_buf_init(&keeper->records);
    rk_free(keeper->places);
    keeper->places = NULL;
    keeper->place_count = keeper->place_capacity = 0;
}

void rk_keeper_free(struct rk_keeper *keeper)
{
    if (keeper == NULL) return;
    rk_machine_free(keeper->machine);
    records_drop(keeper);
    rk_buf_fini(&keeper->records);
    rk_buf_fini(&keeper->changed);
    rk_buf_fini(&keeper->answers);
    rk_arena_fini(&keeper->views);
    rk_free(keeper->changes);
    rk_free(keeper);
}

uint64_t rk_keeper_time(const struct rk_keeper *keeper)
{
    return keeper->base_ms + (rk_host_now(keeper->host) - keeper->base_boot_ms);
}

uint64_t rk_keeper_number(struct rk_keeper *keeper)
{
    uint64_t number;
    do {
        number = rk_hash_mix(keeper->host->boot_id, keeper->term);
        number = rk_hash_mix(number, ++keeper->minted) >> 11;
    } while (number == 0);
    return number;
}

/* --- the leadership ------------------------------------------------------------------ */

void rk_keeper_lead(struct rk_keeper *keeper)
{
    keeper->state = RK_KEEPER_LOADING;
    keeper->term = rk_raft_term(keeper->host->groups[0]->raft);
    keeper->is_asked = false;
    keeper->is_up = true; /* until the store says otherwise */
    keeper->is_full = false;
    keeper->again_ms = 0;
    keeper->pause_ms = RK_KEEPER_PAUSE_MS;
    keeper->reason[0] = '\0';
}

/* What is out may still be done by the store; its term decides whether. Calls in it are
 * sent back by rk_group_calls_unlead, as those that are in a lost log. */
static void give_up(struct rk_keeper *keeper)
{
    rk_machine_free(keeper->machine);
    keeper->machine = NULL;
    records_drop(keeper);
    rk_buf_reset(&keeper->answers);
    keeper->number++;
    keeper->is_asked = keeper->has_batch = keeper->is_stored = false;
    keeper->is_changed = keeper->is_whole_due = false;
    keeper->hold_ms = 0;
    keeper->applied = 0;
}

void rk_keeper_unlead(struct rk_keeper *keeper)
{
    struct rk_group *group = keeper->host->groups[0];
    give_up(keeper);
    keeper->state = RK_KEEPER_OFF;
    rk_list_each_safe (link, &keeper->waiting)
        rk_call_route(RK_CONTAINER(link, struct rk_call, link));
    rk_list_each_safe (link, &keeper->reads) {
        rk_list_remove(link);
        rk_list_push_back(&group->reads_ready, link);
    }
}

void rk_keeper_put_off(struct rk_keeper *keeper, enum rk_status status, const char *text)
{
    struct rk_host *host = keeper->host;
    char reason[sizeof(keeper->reason)];
    snprintf(reason, sizeof(reason), "%.250s",
             text != NULL && text[0] != '\0' ? text : rk_status_text(status));
    if (keeper->is_up || strcmp(reason, keeper->reason) != 0)
        rk_host_log(host, RK_LOG_WARN, "locks: the store does not do its work: %s", reason);
    memcpy(keeper->reason, reason, sizeof(reason));
    keeper->is_up = false;
    keeper->again_ms = rk_host_now(host) + keeper->pause_ms;
    keeper->pause_ms *= 2;
    if (keeper->pause_ms > RK_KEEPER_PAUSE_MAX_MS)
        keeper->pause_ms = RK_KEEPER_PAUSE_MAX_MS;
    host->metrics.store_failures++;
}

void rk_keeper_done(struct rk_keeper *keeper)
{
    if (!keeper->is_up)
        rk_host_log(keeper->host, RK_LOG_INFO, "locks: the store does its work again");
    keeper->is_up = true;
    keeper->again_ms = 0;
    keeper->pause_ms = RK_KEEPER_PAUSE_MS;
    keeper->reason[0] = '\0';
}

/* A newer leader, or another history of the cluster, has the store: what this one decided
 * and the store does not have is nobody's. */
void rk_keeper_fenced(struct rk_keeper *keeper, const char *text)
{
    rk_host_log(keeper->host, RK_LOG_ERROR, "locks: %s",
                text != NULL && text[0] != '\0' ? text : "another leader has the store");
    rk_keeper_put_off(keeper, RK_EFENCE, text);
    if (keeper->state == RK_KEEPER_LOADING) return;
    give_up(keeper);
    keeper->state = RK_KEEPER_LOADING;
    keeper->again_ms = rk_host_now(keeper->host) + keeper->host->election_timeout_ms;
    rk_group_calls_unlead(keeper->host->groups[0]);
}

/* --- the mark in the log ------------------------------------------------------------- */

/* MARK: varint term, fence, doubted, blob identity, varint is_holding (absent: 0); the
 * value of a cache entry of group 0. What follows is not looked at. */
static void mark_read(struct rk_keeper *keeper, struct rk_keeper_mark *out)
{
    struct rk_host *host = keeper->host;
    struct rk_request request;
    struct rk_reply reply;
    struct rk_reader in;
    memset(out, 0, sizeof(*out));
    rk_request_init(&request, RK_OP_CACHE_GET);
    request.key = rk_slice_of_string(MARK_KEY);
    RK_SET(&request, KEY);
    if (rk_request_check(&request, NULL) != RK_OK ||
        rk_machine_query(host->groups[0]->machine, &request, rk_group_time(host->groups[0]),
                         &host->replies, &reply) != RK_OK ||
        !reply.found)
        return;
    rk_reader_init(&in, reply.value.bytes);
    uint64_t term = rk_read_varint(&in);
    uint64_t fence = rk_read_varint(&in);
    uint64_t doubted = rk_read_varint(&in);
    struct rk_slice identity = rk_read_blob(&in);
    uint64_t is_holding = rk_reader_left(&in) > 0 ? rk_read_varint(&in) : 0;
    if (in.is_failed || identity.size > sizeof(out->identity)) return;
    out->term = term;
    out->fence = fence;
    out->doubted = doubted;
    out->is_holding = is_holding != 0;
    out->identity_size = (uint8_t)identity.size;
    if (identity.size > 0) memcpy(out->identity, identity.data, identity.size);
}

static bool mark_is_equal(const struct rk_keeper_mark *a, const struct rk_keeper_mark *b)
{
    return a->term == b->term && a->fence == b->fence && a->doubted == b->doubted &&
           a->is_holding == b->is_holding && a->identity_size == b->identity_size &&
           memcmp(a->identity, b->identity, a->identity_size) == 0;
}

static void mark_propose(struct rk_keeper *keeper)
{
    struct rk_host *host = keeper->host;
    struct rk_request request;
    struct rk_buf value;
    rk_buf_init(&value);
    rk_buf_varint(&value, keeper->mark.term);
    rk_buf_varint(&value, keeper->mark.fence);
    rk_buf_varint(&value, keeper->mark.doubted);
    rk_buf_blob(&value, rk_slice_of(keeper->mark.identity, keeper->mark.identity_size));
    rk_buf_varint(&value, keeper->mark.is_holding);
    rk_request_init(&request, RK_OP_CACHE_PUT);
    request.key = rk_slice_of_string(MARK_KEY);
    request.value.bytes = rk_buf_slice(&value);
    request.value.encoding = RK_ENCODING_RAW;
    RK_SET(&request, KEY);
    RK_SET(&request, VALUE);
    rk_buf_reset(&host->scratch);
    if (rk_buf_check(&value) == RK_OK && rk_request_check(&request, NULL) == RK_OK)
        rk_request_encode(&host->scratch, &request);
    if (host->scratch.size > 0) rk_group_own(host->groups[0], &host->scratch);
    rk_buf_fini(&value);
    keeper->marked_ms = rk_host_now(host);
}

bool rk_keeper_is_marked(struct rk_keeper *keeper)
{
    struct rk_keeper_mark mark;
    if (keeper->is_marked) return true;
    mark_read(keeper, &mark);
    keeper->is_marked = mark_is_equal(&mark, &keeper->mark);
    if (!keeper->is_marked &&
        (keeper->marked_ms == 0 || rk_host_now(keeper->host) - keeper->marked_ms >= 1000))
        mark_propose(keeper);
    return keeper->is_marked;
}

void rk_keeper_mark_take(struct rk_keeper *keeper, struct rk_slice identity)
{
    struct rk_keeper_mark mark = {.term = keeper->term,
                                  .fence = keeper->lead_fence,
                                  .doubted = keeper->doubted,
                                  .is_holding = keeper->hold_ms != 0};
    if (identity.size > sizeof(mark.identity)) identity.size = sizeof(mark.identity);
    mark.identity_size = (uint8_t)identity.size;
    if (identity.size > 0) memcpy(mark.identity, identity.data, identity.size);
    if (mark_is_equal(&mark, &keeper->mark)) return;
    keeper->mark = mark;
    keeper->marked_ms = 0;
    keeper->is_marked = false;
}

/* --- loading ------------------------------------------------------------------------- */

static void claim(struct rk_keeper *keeper)
{
    struct rk_host *host = keeper->host;
    struct rk_keeper_mark mark;
    mark_read(keeper, &mark);
    const struct rk_host_store_claim claim = {
        .number = ++keeper->number,
        .term = keeper->term,
        .history = rk_machine_history(host->groups[0]->machine),
        .marked = mark.term};
    records_drop(keeper);
    keeper->is_asked = true;
    keeper->asked_ms = rk_host_now(host);
    host->io.store_claim(host->io.context, &claim);
}

static bool record_id(struct rk_slice record, uint64_t *id)
{
    struct rk_reader in;
    rk_reader_init(&in, record);
    *id = 0;
    if (rk_read_u8(&in) != RECORD_META) *id = rk_read_varint(&in);
    return !in.is_failed;
}

static bool place_add(struct rk_keeper *keeper, uint64_t id, struct rk_slice record)
{
    if (keeper->place_count == keeper->place_capacity) {
        size_t capacity = keeper->place_capacity == 0 ? 256 : keeper->place_capacity * 2;
        struct rk_keeper_record *places =
            rk_realloc_array(keeper->places, capacity, sizeof(*places));
        if (places == NULL) return false;
        keeper->places = places;
        keeper->place_capacity = capacity;
    }
    keeper->places[keeper->place_count++] =
        (struct rk_keeper_record){id, keeper->records.size, record.size};
    rk_buf_append_slice(&keeper->records, record);
    return !keeper->records.is_failed;
}

static bool is_awaited(const struct rk_keeper *keeper, uint64_t number)
{
    return keeper != NULL && keeper->is_asked && keeper->number == number;
}

void rk_host_store_record(struct rk_host *host, uint64_t number, struct rk_slice record)
{
    struct rk_keeper *keeper = host->keeper;
    uint64_t id;
    if (host->is_dead || !is_awaited(keeper, number) || keeper->state != RK_KEEPER_LOADING)
        return;
    /* One that can not be read shows in what is missing. */
    if (!record_id(record, &id)) return;
    if (!place_add(keeper, id, record)) keeper->records.is_failed = true;
    keeper->asked_ms = rk_host_now(host);
}

static int place_compare(const void *a, const void *b)
{
    const struct rk_keeper_record *left = a, *right = b;
    return left->id < right->id ? -1 : left->id > right->id;
}

static enum rk_status restore(struct rk_keeper *keeper, uint64_t index)
{
    struct rk_machine *machine = keeper->machine;
    if (keeper->place_count > 1)
        qsort(keeper->places, keeper->place_count, sizeof(*keeper->places), place_compare);
    for (size_t i = 0; i < keeper->place_count; i++) {
        const struct rk_keeper_record *place = &keeper->places[i];
        if (i > 0 && place->id == place[-1].id) continue; /* told twice */
        struct rk_slice record = rk_slice_of(keeper->records.data + place->at, place->size);
        enum rk_status status = rk_machine_restore(machine, record);
        char why[RK_MACHINE_WHY_SIZE] = "";
        if (status == RK_EUNSUPPORTED) rk_machine_explain_record(machine, record, why);
        if (status == RK_OK) continue;
        rk_keeper_put_off(keeper, status,
                          why[0] != '\0' ? why : "a record of the store does not load");
        return status;
    }
    if (keeper->place_count == 0) return RK_OK;
    enum rk_status status = rk_machine_restore_finish(machine, index);
    if (status != RK_OK)
        rk_keeper_put_off(keeper, status,
                          "records are missing in the store, or of another state");
    return status;
}

/* What it says of the hold is new. */
static void mark_again(struct rk_keeper *keeper)
{
    const struct rk_keeper_mark was = keeper->mark;
    rk_keeper_mark_take(keeper, rk_slice_of(was.identity, was.identity_size));
}

/* --- the takeover -------------------------------------------------------------------- */

/* What the last leader left in the log is not what the store says. */
static const char *loss_of(const struct rk_keeper_mark *mark,
                           const struct rk_host_store_found *found)
{
    if (found->loss != NULL) return found->loss;
    if (mark->term == 0) return NULL;
    if (!rk_slice_is_equal(found->identity,
                           rk_slice_of(mark->identity, mark->identity_size)))
        return "it was restarted, or a replica took its place, since the last leader";
    return NULL;
}

static void hold_begin(struct rk_keeper *keeper)
{
    struct rk_host *host = keeper->host;
    if (keeper->hold_span_ms == 0) return;
    keeper->hold_ms = rk_host_now(host) + keeper->hold_span_ms;
    rk_machine_hold_grants(keeper->machine, true);
    rk_host_log(host, RK_LOG_ERROR, "locks: no grants for %" PRIu64 " ms",
                keeper->hold_span_ms);
}

void rk_keeper_hold(struct rk_keeper *keeper)
{
    keeper->host->metrics.store_regresses++;
    hold_begin(keeper);
    if (keeper->state == RK_KEEPER_SERVING) mark_again(keeper);
}

void rk_keeper_hold_end(struct rk_keeper *keeper)
{
    if (keeper->hold_ms == 0 || rk_host_now(keeper->host) < keeper->hold_ms) return;
    rk_machine_hold_grants(keeper->machine, false);
    if (rk_keeper_birth(keeper, rk_machine_history(keeper->machine), 0) != RK_OK) return;
    keeper->hold_ms = 0;
    mark_again(keeper);
    rk_host_log(keeper->host, RK_LOG_INFO, "locks: grants are made again");
}

/* Above all that an earlier leader gave, whatever the store lost of it: those began at the
 * mark's or at the seconds of some birth since, the last of them this very second, and gave
 * fewer than a step in one. */
static uint64_t fence_floor(const struct rk_keeper *keeper,
                            const struct rk_keeper_mark *mark)
{
    uint64_t now = keeper->base_ms / 1000;
    uint64_t floor = now > YEAR_2020 ? (now - YEAR_2020 + 1) * FENCE_STEP : 0;
    uint64_t marked = mark->term != 0 ? mark->fence + FENCE_STEP : 0;
    return floor > marked ? floor : marked;
}

static enum rk_status take_over(struct rk_keeper *keeper,
                                const struct rk_host_store_found *found)
{
    struct rk_host *host = keeper->host;
    struct rk_group *group = host->groups[0];
    struct rk_machine *machine = keeper->machine;
    struct rk_keeper_mark mark;
    mark_read(keeper, &mark);
    const char *loss = loss_of(&mark, found);
    keeper->seq = found->seq;
    keeper->id = found->id;
    keeper->index = rk_machine_index(machine);
    keeper->base_boot_ms = rk_host_now(host);
    keeper->base_ms = rk_group_time(group);
    if (rk_machine_time(machine) > keeper->base_ms)
        keeper->base_ms = rk_machine_time(machine);
    rk_machine_lead(machine, keeper->base_ms);
    enum rk_status status = rk_machine_changes_all(machine);
    if (status != RK_OK) return status;
    rk_machine_changes_taken(machine);
    /* Whoever waited for a grant that was held back is served by the birth below. */
    rk_machine_hold_grants(machine, true);
    rk_machine_hold_grants(machine, false);
    uint64_t history = rk_machine_history(machine);
    if (loss != NULL) {
        rk_host_log(host, RK_LOG_ERROR, "locks: the store may have lost grants: %s", loss);
        rk_keeper_hold(keeper);
    } else if (mark.is_holding) {
        /* In full: clocks of two leaders can not be compared. */
        rk_host_log(host, RK_LOG_INFO, "locks: the last leader held grants back");
        hold_begin(keeper);
    }
    /* Numbers of sessions that were lost must not name new ones. */
    if (loss != NULL || history == 0) history = rk_keeper_number(keeper);
    uint64_t floor = fence_floor(keeper, &mark);
    keeper->doubted = loss != NULL ? rk_machine_fence(machine) : mark.doubted;
    rk_machine_doubt_grants(machine, keeper->doubted);
    status = rk_keeper_birth(keeper, history, floor);
    keeper->lead_fence = rk_machine_fence(machine);
    return status;
}

static void load_failed(struct rk_keeper *keeper)
{
    rk_machine_free(keeper->machine);
    keeper->machine = NULL;
}

void rk_host_store_loaded(struct rk_host *host, const struct rk_host_store_answer *answer,
                          const struct rk_host_store_found *found)
{
    struct rk_keeper *keeper = host->keeper;
    if (host->is_dead || !is_awaited(keeper, answer->number) ||
        keeper->state != RK_KEEPER_LOADING)
        return;
    keeper->is_asked = false;
    if (answer->status != RK_OK) {
        if (answer->status == RK_EFENCE)
            rk_keeper_fenced(keeper, answer->text);
        else
            rk_keeper_put_off(keeper, answer->status, answer->text);
        return;
    }
    enum rk_status status = keeper->records.is_failed ? RK_ENOMEM : RK_OK;
    if (status == RK_OK) status = rk_group_machine_new(host->groups[0], &keeper->machine);
    if (status != RK_OK) {
        rk_keeper_put_off(keeper, status, NULL);
        return;
    }
    status = restore(keeper, found->index);
    records_drop(keeper);
    if (status != RK_OK) {
        load_failed(keeper);
        return;
    }
    rk_keeper_done(keeper);
    status = take_over(keeper, found);
    if (status != RK_OK) {
        load_failed(keeper);
        rk_keeper_put_off(keeper, status, NULL);
        return;
    }
    rk_keeper_mark_take(keeper, found->identity);
    keeper->state = RK_KEEPER_MARKING;
}

void rk_keeper_silence_check(struct rk_keeper *keeper)
{
    if (!keeper->is_asked ||
        rk_host_now(keeper->host) - keeper->asked_ms < RK_KEEPER_SILENCE_MS)
        return;
    keeper->is_asked = false;
    rk_keeper_put_off(keeper, RK_EUNKNOWN, "no answer at all");
}

bool rk_keeper_start(struct rk_keeper *keeper)
{
    struct rk_host *host = keeper->host;
    uint64_t now = rk_host_now(host);
    bool is_born = rk_machine_history(host->groups[0]->machine) != 0;
    if (keeper->state == RK_KEEPER_LOADING && !keeper->is_asked && is_born &&
        now >= keeper->again_ms)
        claim(keeper);
    if (keeper->state != RK_KEEPER_MARKING || !rk_keeper_is_marked(keeper)) return false;
    keeper->state = RK_KEEPER_SERVING;
    keeper->lead_ms = now;
    rk_host_log(host, RK_LOG_INFO,
                "locks: kept in the store by this node for term %" PRIu64
                ", from seq %" PRIu64,
                keeper->term, keeper->seq);
    return true;
}
