#include "rukund/lock_store.h"

#include "base/alloc.h"
#include "rukund/lock_args.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

enum {
    ASK_MS = 2000,       /* then the host asks again */
    SCAN_COUNT = 1000,   /* records of one answer, about */
    PART_SIZE = 2 << 20, /* of the arguments of one script, about */
    PART_CHANGES = 2000, /* in one part of what takes several */
    KEY_COUNT = 5,
};

extern const char rk_lua_lock[];
extern const uint32_t rk_lua_lock_size;

/* What is under way. A whole batch takes several steps, from begin to the views, and so
 * does one too large for one write. */
enum step {
    STEP_IDLE,
    STEP_CLAIM,
    STEP_SCAN,
    STEP_VERIFY,
    STEP_WRITE,
    STEP_BEGIN,
    STEP_STAGE,
    STEP_COMMIT,
    STEP_VIEWS
};

struct rk_lock_store {
    struct rk_lock_store_io io;
    struct rk_redis *redis;
    struct rk_redis_script script;
    char *keys[KEY_COUNT]; /* owned */
    struct rk_slice key_slices[KEY_COUNT];
    uint32_t wait;
    enum step step;
    uint64_t asked; /* of redis; 0: none */
    struct rk_host_store_claim claim;
    struct rk_host_store_batch batch;
    bool is_full;      /* so the last step of the batch said */
    uint32_t at, next; /* changes of the batch in the part that is out */
    struct rk_host_store_found found;
    uint64_t found_count;
    char loss[128];
    char identity[128];
    char text[256];
    struct rk_lock_args args; /* being made */
};

static void claim_answered(void *context, const struct rk_redis_result *result);
static void scan_answered(void *context, const struct rk_redis_result *result);
static void write_answered(void *context, const struct rk_redis_result *result);

/* --- life ---------------------------------------------------------------------------- */

enum rk_status rk_lock_store_new(struct rk_lock_store **out,
                                 const struct rk_lock_store_options *options)
{
    static const char *const names[KEY_COUNT] = {"meta", "records", "staging", "names",
                                                 "never"};
    struct rk_lock_store *store = rk_calloc(1, sizeof(*store));
    if (store == NULL) return RK_ENOMEM;
    store->io = options->io;
    store->redis = options->redis;
    store->wait = options->wait;
    store->script = (struct rk_redis_script){
        .name = "lock", .text = rk_lua_lock, .size = rk_lua_lock_size};
    rk_redis_script_init(&store->script);
    rk_lock_args_init(&store->args);
    for (int i = 0; i < KEY_COUNT; i++) {
        size_t size = strlen(options->prefix) + sizeof("rukun:{lock}:") + strlen(names[i]);
        store->keys[i] = rk_malloc(size);
        if (store->keys[i] == NULL) {
            rk_lock_store_free(store);
            return RK_ENOMEM;
        }
        (void)snprintf(store->keys[i], size, "%srukun:{lock}:%s", options->prefix,
                       names[i]);
        store->key_slices[i] = rk_slice_of_string(store->keys[i]);
    }
    *out = store;
    return RK_OK;
}

static void forget(struct rk_lock_store *store)
{
    if (store->asked != 0) rk_redis_forget(store->redis, store->asked);
    store->asked = 0;
    store->step = STEP_IDLE;
}

void rk_lock_store_free(struct rk_lock_store *store)
{
    if (store == NULL) return;
    forget(store);
    for (int i = 0; i < KEY_COUNT; i++)
        rk_free(store->keys[i]);
    rk_lock_args_fini(&store->args);
    rk_free(store);
}

/* --- asking -------------------------------------------------------------------------- */

static void args_begin(struct rk_lock_store *store, const char *operation, uint64_t term,
                       uint64_t history)
{
    rk_lock_args_reset(&store->args);
    rk_lock_args_put_text(&store->args, operation);
    rk_lock_args_put_number(&store->args, RK_LOCK_STORE_FORMAT);
    rk_lock_args_put_text(&store->args, store->io.cluster(store->io.context));
    rk_lock_args_put_number(&store->args, term);
    rk_lock_args_put_number(&store->args, history);
}

static struct rk_slice identity_of(struct rk_lock_store *store)
{
    const struct rk_redis_server *server =
        rk_redis_server_of(store->redis, store->key_slices[0]);
    if (server == NULL) return RK_SLICE_EMPTY;
    (void)snprintf(store->identity, sizeof(store->identity), "%s/%s", server->run_id,
                   server->replid);
    return rk_slice_of_string(store->identity);
}

static void answer(struct rk_lock_store *store, enum rk_status status, const char *text)
{
    bool is_claim = store->step <= STEP_VERIFY;
    struct rk_host_store_answer answer = {.number = is_claim ? store->claim.number
                                                             : store->batch.number,
                                          .status = status,
                                          .text = text};
    if (status == RK_OK) answer.identity = identity_of(store);
    if (status == RK_OK && !is_claim) answer.is_full = store->is_full;
    store->found.identity = answer.identity;
    store->step = STEP_IDLE;
    if (is_claim)
        store->io.loaded(store->io.context, &answer, &store->found);
    else
        store->io.stored(store->io.context, &answer);
}

/* Nothing is answered within the host's effect: what can not be sent at all is sent as a
 * command that does nothing and answered when that comes back. */
static void ask_nothing(struct rk_lock_store *store, rk_redis_done *done);

static void starved(void *context, const struct rk_redis_result *result)
{
    struct rk_lock_store *store = context;
    (void)result;
    store->asked = 0;
    answer(store, RK_ENOMEM, "out of memory");
}

static void ask_nothing(struct rk_lock_store *store, rk_redis_done *done)
{
    const struct rk_slice ping = RK_SLICE_LITERAL("PING");
    const struct rk_redis_command command = {
        .args = &ping,
        .arg_count = 1,
        .ask = {.done = done, .context = store, .deadline_ms = 100, .may_repeat = true}};
    store->asked = rk_redis_send(store->redis, &command);
}

static void ask(struct rk_lock_store *store, rk_redis_done *done)
{
    const struct rk_redis_eval eval = {
        .script = &store->script,
        .keys = store->key_slices,
        .key_count = KEY_COUNT,
        .args = store->args.items,
        .arg_count = store->args.count,
        .ask = {.done = done,
                .context = store,
                .deadline_ms = ASK_MS,
                .wait_replicas = done == write_answered ? store->wait : 0}};
    if (store->args.is_starved || store->args.size > RK_REDIS_COMMAND_MAX) {
        ask_nothing(store, starved);
        return;
    }
    store->asked = rk_redis_eval(store->redis, &eval);
    if (store->asked == 0) ask_nothing(store, starved);
}

static struct rk_slice text_of(const struct redisReply *reply, size_t at)
{
    if (reply->type != REDIS_REPLY_ARRAY || reply->elements <= at) return RK_SLICE_EMPTY;
    const struct redisReply *part = reply->element[at];
    if (part->type != REDIS_REPLY_STRING && part->type != REDIS_REPLY_STATUS)
        return RK_SLICE_EMPTY;
    return rk_slice_of(part->str, (size_t)part->len);
}

static uint64_t number_of(const struct redisReply *reply, size_t at)
{
    if (reply->type != REDIS_REPLY_ARRAY || reply->elements <= at) return 0;
    const struct redisReply *part = reply->element[at];
    if (part->type == REDIS_REPLY_INTEGER) return (uint64_t)part->integer;
    return part->type == REDIS_REPLY_STRING ? strtoull(part->str, NULL, 10) : 0;
}

/* True: the script did it. Otherwise the host was told why not. */
static bool is_done(struct rk_lock_store *store, const struct rk_redis_result *result)
{
    store->asked = 0;
    if (result->status != RK_OK) {
        (void)snprintf(store->text, sizeof(store->text), "Redis: %.200s",
                       result->text[0] != '\0' ? result->text
                                               : rk_status_text(result->status));
        answer(store, result->status, store->text);
        return false;
    }
    struct rk_slice word = text_of(result->reply, 0), why = text_of(result->reply, 1);
    char about[129];
    size_t size = why.size < sizeof(about) - 1 ? why.size : sizeof(about) - 1;
    if (size > 0) memcpy(about, why.data, size);
    about[size] = '\0';
    if (rk_slice_is_equal(word, RK_SLICE_LITERAL("ok"))) return true;
    enum rk_status status = RK_EUNSUPPORTED;
    if (rk_slice_is_equal(word, RK_SLICE_LITERAL("fenced"))) {
        status = RK_EFENCE;
        (void)snprintf(store->text, sizeof(store->text),
                       "Redis refuses this leader's locks: %s", about);
    } else if (rk_slice_is_equal(word, RK_SLICE_LITERAL("regress"))) {
        status = RK_EVERSION;
        (void)snprintf(store->text, sizeof(store->text), "%s", about);
    } else if (rk_slice_is_equal(word, RK_SLICE_LITERAL("again"))) {
        status = RK_EUNAVAILABLE;
        (void)snprintf(store->text, sizeof(store->text), "Redis: %s", about);
    } else if (rk_slice_is_equal(word, RK_SLICE_LITERAL("foreign"))) {
        (void)snprintf(store->text, sizeof(store->text),
                       "Redis holds the locks of cluster %s; another prefix or database "
                       "keeps them apart",
                       about);
    } else {
        (void)snprintf(store->text, sizeof(store->text),
                       "Redis holds locks of format %s; this node knows %d", about,
                       RK_LOCK_STORE_FORMAT);
    }
    answer(store, status, store->text);
    return false;
}

static void refused(void *context, const struct rk_redis_result *result)
{
    struct rk_lock_store *store = context;
    (void)result;
    store->asked = 0;
    answer(store, RK_EUNAVAILABLE, store->io.refusal(store->io.context));
}

static bool is_refused(struct rk_lock_store *store)
{
    if (store->io.refusal(store->io.context)[0] == '\0') return false;
    ask_nothing(store, refused);
    return true;
}

/* --- loading ------------------------------------------------------------------------- */

static void scan(struct rk_lock_store *store, struct rk_slice cursor)
{
    char count[16];
    int size = snprintf(count, sizeof(count), "%d", SCAN_COUNT);
    const struct rk_slice args[] = {RK_SLICE_LITERAL("HSCAN"), store->key_slices[1], cursor,
                                    RK_SLICE_LITERAL("COUNT"),
                                    rk_slice_of(count, (size_t)size)};
    const struct rk_redis_command command = {
        .args = args,
        .arg_count = sizeof(args) / sizeof(args[0]),
        .key = store->key_slices[1],
        .ask = {.done = scan_answered, .context = store, .deadline_ms = ASK_MS}};
    store->asked = rk_redis_send(store->redis, &command);
    if (store->asked == 0) ask_nothing(store, starved);
}

/* Nobody with a lower term may write from here on; one with a higher term finds this leader
 * deposed. A server that changed in between shows in the claim of the same term again. */
static void claim_send(struct rk_lock_store *store)
{
    args_begin(store, "claim", store->claim.term, store->claim.history);
    rk_lock_args_put_number(&store->args, store->claim.marked);
    ask(store, claim_answered);
}

static void found_take(struct rk_lock_store *store, const struct redisReply *reply)
{
    struct rk_slice loss = text_of(reply, 5);
    store->found = (struct rk_host_store_found){.seq = number_of(reply, 1),
                                                .id = number_of(reply, 2),
                                                .index = number_of(reply, 3)};
    store->found_count = number_of(reply, 4);
    if (loss.size == 0) return;
    (void)snprintf(store->loss, sizeof(store->loss), "%.*s", (int)loss.size,
                   (const char *)loss.data);
    store->found.loss = store->loss;
}

/* What was read is one state, and the one that was claimed. */
static bool is_as_found(const struct rk_lock_store *store, const struct redisReply *reply)
{
    return number_of(reply, 1) == store->found.seq &&
           number_of(reply, 2) == store->found.id &&
           number_of(reply, 4) == store->found_count &&
           (text_of(reply, 5).size != 0) == (store->found.loss != NULL);
}

static void claim_answered(void *context, const struct rk_redis_result *result)
{
    struct rk_lock_store *store = context;
    if (!is_done(store, result)) return;
    if (store->step == STEP_VERIFY) {
        if (is_as_found(store, result->reply))
            answer(store, RK_OK, "");
        else
            answer(store, RK_EUNAVAILABLE, "Redis changed while locks were read");
        return;
    }
    found_take(store, result->reply);
    if (store->found_count == 0) {
        answer(store, RK_OK, "");
        return;
    }
    store->step = STEP_SCAN;
    scan(store, RK_SLICE_LITERAL("0"));
}

static void scan_answered(void *context, const struct rk_redis_result *result)
{
    struct rk_lock_store *store = context;
    store->asked = 0;
    const struct redisReply *reply = result->reply;
    if (result->status != RK_OK) {
        (void)is_done(store, result);
        return;
    }
    if (reply->type != REDIS_REPLY_ARRAY || reply->elements != 2 ||
        reply->element[1]->type != REDIS_REPLY_ARRAY) {
        answer(store, RK_EPROTO, "Redis: no answer to HSCAN");
        return;
    }
    for (size_t i = 1; i < reply->element[1]->elements; i += 2)
        store->io.record(store->io.context, store->claim.number,
                         text_of(reply->element[1], i));
    struct rk_slice cursor = text_of(reply, 0);
    if (!rk_slice_is_equal(cursor, RK_SLICE_LITERAL("0"))) {
        scan(store, cursor);
        return;
    }
    store->step = STEP_VERIFY;
    claim_send(store);
}

void rk_lock_store_claim(struct rk_lock_store *store,
                         const struct rk_host_store_claim *claim)
{
    forget(store);
    store->claim = *claim;
    store->found = (struct rk_host_store_found){0};
    store->step = STEP_CLAIM;
    if (!is_refused(store)) claim_send(store);
}

/* --- writing ------------------------------------------------------------------------- */

static void put_numbers(struct rk_lock_store *store, const uint64_t *numbers,
                        uint32_t count)
{
    for (uint32_t i = 0; i < count; i++)
        rk_lock_args_put_number(&store->args, numbers[i]);
}

/* False: it is too large for one script, and nothing was sent. */
static bool write_send(struct rk_lock_store *store)
{
    const struct rk_host_store_batch *batch = &store->batch;
    const uint64_t numbers[] = {batch->after_seq, batch->after_id, batch->seq, batch->id,
                                batch->index};
    args_begin(store, "write", batch->term, batch->history);
    put_numbers(store, numbers, sizeof(numbers) / sizeof(numbers[0]));
    for (uint32_t i = 0; i < batch->change_count; i++) {
        if (store->args.size >= PART_SIZE) return false;
        rk_lock_args_put_change(&store->args, &batch->changes[i]);
        if (batch->changes[i].view != NULL)
            rk_lock_args_put_view(&store->args, batch->changes[i].id,
                                  batch->changes[i].view);
    }
    ask(store, write_answered);
    return true;
}

static bool is_full(const struct rk_lock_store *store)
{
    return store->args.size >= PART_SIZE || store->next - store->at >= PART_CHANGES;
}

/* What of a whole state is not there needs no saying. */
static bool has_record(const struct rk_lock_store *store,
                       const struct rk_host_store_change *change)
{
    return !store->batch.is_whole || change->record.size != 0;
}

/* The next part, from change `next` on. */
static void part_send(struct rk_lock_store *store, bool is_view)
{
    const struct rk_host_store_batch *batch = &store->batch;
    args_begin(store, is_view ? "views" : "stage", batch->term, batch->history);
    rk_lock_args_put_number(&store->args, batch->id);
    store->at = store->next;
    for (; store->next < batch->change_count && !is_full(store); store->next++) {
        const struct rk_host_store_change *change = &batch->changes[store->next];
        if (is_view && change->view != NULL)
            rk_lock_args_put_view(&store->args, change->id, change->view);
        else if (!is_view && has_record(store, change))
            rk_lock_args_put_change(&store->args, change);
    }
    ask(store, write_answered);
}

static void begin_send(struct rk_lock_store *store)
{
    const struct rk_host_store_batch *batch = &store->batch;
    const uint64_t numbers[] = {batch->after_seq, batch->after_id, batch->seq, batch->id};
    args_begin(store, batch->is_whole ? "begin" : "prepare", batch->term, batch->history);
    put_numbers(store, numbers, sizeof(numbers) / sizeof(numbers[0]));
    ask(store, write_answered);
}

static void commit_send(struct rk_lock_store *store)
{
    const struct rk_host_store_batch *batch = &store->batch;
    uint64_t count = 0;
    for (uint32_t i = 0; i < batch->change_count; i++)
        count += has_record(store, &batch->changes[i]);
    const uint64_t numbers[] = {batch->id, batch->seq,       batch->index,
                                count,     batch->after_seq, batch->after_id};
    args_begin(store, batch->is_whole ? "commit" : "apply", batch->term, batch->history);
    put_numbers(store, numbers, sizeof(numbers) / sizeof(numbers[0]));
    ask(store, write_answered);
}

static void parts_go_on(struct rk_lock_store *store, const struct redisReply *reply)
{
    bool is_last = store->next == store->batch.change_count;
    if (store->step == STEP_BEGIN &&
        rk_slice_is_equal(text_of(reply, 1), RK_SLICE_LITERAL("done"))) {
        store->step = STEP_COMMIT; /* by the same batch before; its views perhaps not */
    } else if (store->step == STEP_BEGIN || (store->step == STEP_STAGE && !is_last)) {
        store->step = STEP_STAGE;
        part_send(store, false);
        return;
    } else if (store->step == STEP_STAGE) {
        store->step = STEP_COMMIT;
        commit_send(store);
        return;
    }
    if (store->step == STEP_COMMIT) {
        store->step = STEP_VIEWS;
        store->next = 0;
        is_last = false;
    }
    if (is_last)
        answer(store, RK_OK, "");
    else
        part_send(store, true);
}

static void write_answered(void *context, const struct rk_redis_result *result)
{
    struct rk_lock_store *store = context;
    bool is_short = store->wait != 0 && result->status == RK_OK &&
                    (result->replicas < 0 || (uint32_t)result->replicas < store->wait);
    if (!is_done(store, result)) return;
    store->is_full = number_of(result->reply, 2) != 0;
    if (is_short)
        answer(store, RK_EUNKNOWN, "fewer replicas than wait= asks for have it");
    else if (store->step == STEP_WRITE)
        answer(store, RK_OK, "");
    else
        parts_go_on(store, result->reply);
}

void rk_lock_store_write(struct rk_lock_store *store,
                         const struct rk_host_store_batch *batch)
{
    forget(store);
    store->batch = *batch;
    store->at = store->next = 0;
    store->step = batch->is_whole ? STEP_BEGIN : STEP_WRITE;
    if (is_refused(store)) return;
    if (!batch->is_whole && write_send(store)) return;
    store->step = STEP_BEGIN;
    begin_send(store);
}
