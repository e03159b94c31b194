#include "fake_store.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

static void state_init(struct fake_state *state)
{
    memset(state, 0, sizeof(*state));
    state->records = calloc(FAKE_RECORDS_MAX, sizeof(*state->records));
}

void fake_state_fini(struct fake_state *state)
{
    for (uint32_t i = 0; i < state->count; i++)
        rk_buf_fini(&state->records[i].bytes);
    free(state->records);
}

struct fake_store *fake_store_new(uint64_t seed)
{
    struct fake_store *store = calloc(1, sizeof(*store));
    state_init(&store->state);
    rk_random_init(&store->random, seed);
    snprintf(store->identity, sizeof(store->identity), "run-%u", 1u);
    store->delay_ms = 2;
    return store;
}

static void asked_fini(struct fake_asked *asked)
{
    rk_buf_fini(&asked->changes);
    rk_buf_fini(&asked->records);
}

void fake_store_free(struct fake_store *store)
{
    if (store == NULL) return;
    for (uint32_t i = 0; i < store->asked_count; i++)
        asked_fini(&store->asked[i]);
    fake_state_fini(&store->state);
    free(store);
}

static struct fake_asked *ask(struct fake_store *store, struct rk_host **host,
                              uint64_t now_ms)
{
    assert_true(store->asked_count < FAKE_ASKED_MAX);
    struct fake_asked *asked = &store->asked[store->asked_count++];
    memset(asked, 0, sizeof(*asked));
    asked->host = host;
    asked->asker = *host;
    asked->do_ms = now_ms + store->delay_ms / 2;
    asked->answer_ms = now_ms + store->delay_ms;
    asked->status = RK_EUNKNOWN;
    return asked;
}

static bool chance(struct fake_store *store, uint32_t percent)
{
    return percent != 0 && rk_random_below(&store->random, 100) < percent;
}

/* It stood in a row at the server while the asker gave it up. */
static void perhaps_late(struct fake_store *store, struct fake_asked *asked)
{
    if (!chance(store, store->late_percent)) return;
    asked->do_ms = asked->answer_ms + 1 + rk_random_below(&store->random, store->late_ms);
}

void fake_store_claim(struct fake_store *store, struct rk_host **host, uint64_t now_ms,
                      const struct rk_host_store_claim *claim)
{
    struct fake_asked *asked = ask(store, host, now_ms);
    asked->is_claim = true;
    asked->claim = *claim;
    perhaps_late(store, asked);
}

/* CHANGE: u8 kind, u64 id, blob record. */
void fake_store_write(struct fake_store *store, struct rk_host **host, uint64_t now_ms,
                      const struct rk_host_store_batch *batch)
{
    struct fake_asked *asked = ask(store, host, now_ms);
    asked->batch = *batch;
    for (uint32_t i = 0; i < batch->change_count; i++) {
        const struct rk_host_store_change *change = &batch->changes[i];
        rk_buf_u8(&asked->changes, change->kind);
        rk_buf_u64(&asked->changes, change->id);
        rk_buf_blob(&asked->changes, change->record);
        if (change->view != NULL) assert_true(change->view->name.size > 0);
    }
    asked->batch.changes = NULL;
    /* A whole state comes in steps: one that is late finds that they began anew. */
    if (!batch->is_whole) perhaps_late(store, asked);
    if (store->on_batch != NULL) store->on_batch(store->context, batch);
}

static void put(struct fake_state *state, uint8_t kind, uint64_t id, struct rk_slice bytes)
{
    struct fake_record *record = NULL;
    for (uint32_t i = 0; i < state->count && record == NULL; i++)
        if (state->records[i].id == id && state->records[i].kind == kind)
            record = &state->records[i];
    if (bytes.size == 0) {
        if (record == NULL) return;
        rk_buf_fini(&record->bytes);
        *record = state->records[--state->count];
        return;
    }
    if (record == NULL) {
        assert_true(state->count < FAKE_RECORDS_MAX);
        record = &state->records[state->count++];
        *record = (struct fake_record){.kind = kind, .id = id};
    }
    rk_buf_reset(&record->bytes);
    rk_buf_append_slice(&record->bytes, bytes);
}

static void records_clear(struct fake_state *state)
{
    while (state->count > 0)
        rk_buf_fini(&state->records[--state->count].bytes);
}

static enum rk_status batch_do(struct fake_store *store, struct fake_asked *asked)
{
    struct fake_state *state = &store->state;
    const struct rk_host_store_batch *batch = &asked->batch;
    if (state->is_there && state->history == batch->history && state->term > batch->term) {
        store->fenced++;
        return RK_EFENCE;
    }
    if (state->is_there && state->seq == batch->seq && state->id == batch->id) {
        if (batch->change_count > 0) store->repeated++;
        return RK_OK;
    }
    if (!batch->is_whole &&
        (!state->is_there || state->term != batch->term || state->seq != batch->after_seq ||
         state->id != batch->after_id)) {
        store->regressed++;
        return RK_EVERSION;
    }
    if (batch->is_whole) {
        store->wholes++;
        records_clear(state);
    }
    struct rk_reader in;
    rk_reader_init(&in, rk_buf_slice(&asked->changes));
    while (rk_reader_left(&in) > 0) {
        uint8_t kind = rk_read_u8(&in);
        uint64_t id = rk_read_u64(&in);
        put(state, kind, id, rk_read_blob(&in));
    }
    state->is_there = true;
    state->term = batch->term;
    state->kept = (int64_t)batch->term;
    state->history = batch->history;
    state->seq = batch->seq;
    state->id = batch->id;
    state->index = batch->index;
    store->batches++;
    return RK_OK;
}

static enum rk_status claim_do(struct fake_store *store,
                               const struct rk_host_store_claim *claim,
                               struct rk_host_store_found *out)
{
    struct fake_state *state = &store->state;
    if (state->is_there && state->history == claim->history && state->term > claim->term)
        return RK_EFENCE;
    if (!state->is_there) {
        state->seq = state->id = state->index = 0;
        state->kept = 0;
    } else if (state->history != claim->history) {
        state->kept = -1;
    }
    *out = (struct rk_host_store_found){
        .seq = state->seq, .id = state->id, .index = state->index};
    if (state->kept < (int64_t)claim->marked)
        out->loss = "it is older";
    else if (claim->marked > 0 && state->count == 0)
        out->loss = "it is empty";
    else if (state->count > 0)
        state->kept = (int64_t)claim->term;
    state->is_there = true;
    state->term = claim->term;
    state->history = claim->history;
    return RK_OK;
}

/* In any order, and not at once. */
static void records_read(struct fake_store *store, struct fake_asked *asked, uint32_t left)
{
    uint32_t count = store->state.count;
    if (asked->records_left > count) asked->records_left = count;
    for (; asked->records_left > left; asked->records_left--)
        rk_buf_blob(&asked->records,
                    rk_buf_slice(&store->state.records[asked->records_left - 1].bytes));
}

static enum rk_status claim_begin(struct fake_store *store, struct fake_asked *asked)
{
    enum rk_status status = claim_do(store, &asked->claim, &asked->found);
    if (status != RK_OK) return status;
    store->claims++;
    asked->records_left = store->state.count;
    records_read(store, asked, store->state.count / 2);
    return RK_OK;
}

/* The rest of the records; then the same claim again tells whether all are of one state. */
static enum rk_status claim_end(struct fake_store *store, struct fake_asked *asked)
{
    struct rk_host_store_found found = {0};
    if (store->is_away) return RK_EUNAVAILABLE;
    records_read(store, asked, 0);
    memcpy(asked->identity, store->identity, sizeof(asked->identity));
    enum rk_status status = claim_do(store, &asked->claim, &found);
    if (status != RK_OK) return status;
    bool is_same = found.seq == asked->found.seq && found.id == asked->found.id &&
                   (found.loss != NULL) == (asked->found.loss != NULL);
    return is_same ? RK_OK : RK_EUNAVAILABLE;
}

static void carry_out(struct fake_store *store, struct fake_asked *asked)
{
    asked->is_done = true;
    memcpy(asked->identity, store->identity, sizeof(asked->identity));
    asked->status = RK_EUNAVAILABLE;
    if (store->is_away || chance(store, store->refuse_percent)) return;
    asked->status = asked->is_claim ? claim_begin(store, asked) : batch_do(store, asked);
    if (chance(store, store->lose_percent)) asked->status = RK_EUNKNOWN;
}

static void answer(struct fake_store *store, struct fake_asked *asked)
{
    if (asked->is_claim && asked->status == RK_OK) asked->status = claim_end(store, asked);
    struct rk_host_store_answer answer = {.status = asked->status, .text = ""};
    struct rk_slice identity = rk_slice_of_string(asked->identity);
    if (*asked->host == NULL || *asked->host != asked->asker) return;
    if (!asked->is_claim) {
        answer.number = asked->batch.number;
        if (answer.status == RK_OK) answer.identity = identity;
        answer.is_full = answer.status == RK_OK && store->is_full;
        rk_host_stored(*asked->host, &answer);
        return;
    }
    struct rk_reader in;
    answer.number = asked->claim.number;
    rk_reader_init(&in, rk_buf_slice(&asked->records));
    while (answer.status == RK_OK && rk_reader_left(&in) > 0)
        rk_host_store_record(*asked->host, answer.number, rk_read_blob(&in));
    asked->found.identity = identity;
    rk_host_store_loaded(*asked->host, &answer, &asked->found);
}

void fake_store_run(struct fake_store *store, uint64_t now_ms)
{
    for (uint32_t i = 0; i < store->asked_count; i++)
        if (!store->asked[i].is_done && store->asked[i].do_ms <= now_ms)
            carry_out(store, &store->asked[i]);
    for (uint32_t i = 0; i < store->asked_count;) {
        struct fake_asked *asked = &store->asked[i];
        if (!asked->is_answered && asked->answer_ms <= now_ms) {
            asked->is_answered = true;
            answer(store, asked);
        }
        if (!asked->is_answered || !asked->is_done) {
            i++;
            continue;
        }
        asked_fini(asked);
        memmove(asked, asked + 1, (--store->asked_count - i) * sizeof(*asked));
    }
}

static void restarted(struct fake_store *store)
{
    unsigned long run = strtoul(store->identity + strlen("run-"), NULL, 10);
    snprintf(store->identity, sizeof(store->identity), "run-%lu", run + 1);
}

void fake_store_empty(struct fake_store *store, bool is_restarted)
{
    fake_state_fini(&store->state);
    state_init(&store->state);
    if (is_restarted) restarted(store);
}

struct fake_state fake_store_copy(const struct fake_store *store)
{
    struct fake_state copy;
    state_init(&copy);
    struct fake_record *records = copy.records;
    copy = store->state;
    copy.records = records;
    copy.count = 0;
    for (uint32_t i = 0; i < store->state.count; i++)
        put(&copy, store->state.records[i].kind, store->state.records[i].id,
            rk_buf_slice(&store->state.records[i].bytes));
    return copy;
}

void fake_store_go_back(struct fake_store *store, struct fake_state state,
                        bool is_restarted)
{
    fake_state_fini(&store->state);
    store->state = state;
    if (is_restarted) restarted(store);
}

void fake_store_mend(struct fake_store *store)
{
    store->delay_ms = 2;
    store->refuse_percent = store->lose_percent = store->late_percent = 0;
    store->is_away = store->is_full = false;
}
