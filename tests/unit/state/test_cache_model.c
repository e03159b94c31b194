/* Random calls on the machine and on a simple model of it, answer by answer, eviction
 * included: the model keeps its queues as arrays and shares no code with the machine. Now
 * and then the machine is replaced by its own snapshot. */
#include "data_bench.h"

#include "base/hash.h"
#include "base/random.h"
#include "state/caches.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

enum { KEYS = 60, SMALL = 0, MAIN = 1, VALUE_MAX = 6000, BOUND = 70000 };

struct model_entry {
    bool is_there;
    bool was_evicted; /* from small: it is a ghost from then on */
    size_t size;
    char fill;
    uint64_t version;
    uint64_t expires_at;
    uint64_t soft_at;
    uint64_t floor;
    int queue;
    int frequency;
};

struct model {
    struct bench *bench;
    struct rk_random random;
    bool is_lru;
    struct model_entry entries[KEYS];
    int queues[2][KEYS]; /* keys, oldest first */
    int counts[2];
    uint64_t evicted, expired;
    char names[KEYS][16];
    char value[VALUE_MAX + 1];
};

static uint64_t pick(struct model *model, uint64_t bound)
{
    return rk_random_below(&model->random, bound);
}

/* --- the model */

static uint64_t cost(const struct model_entry *entry)
{
    return RK_ENTRY_BYTES + 16 + (entry->size + 15) / 16 * 16; /* all names are short */
}

static uint64_t bytes_in(const struct model *model, int queue)
{
    uint64_t sum = 0;
    for (int i = 0; i < model->counts[queue]; i++)
        sum += cost(&model->entries[model->queues[queue][i]]);
    return sum;
}

static void leave(struct model *model, int key)
{
    int queue = model->entries[key].queue;
    int *keys = model->queues[queue];
    int at = 0;
    while (keys[at] != key)
        at++;
    model->counts[queue]--;
    memmove(keys + at, keys + at + 1, (size_t)(model->counts[queue] - at) * sizeof(int));
}

static void join(struct model *model, int key, int queue)
{
    model->entries[key].queue = queue;
    model->queues[queue][model->counts[queue]++] = key;
}

static void drop(struct model *model, int key)
{
    struct model_entry *entry = &model->entries[key];
    leave(model, key);
    entry->is_there = false;
    if (entry->version > entry->floor) entry->floor = entry->version;
}

static void use(struct model *model, int key)
{
    struct model_entry *entry = &model->entries[key];
    if (model->is_lru) {
        leave(model, key);
        join(model, key, entry->queue);
    }
    if (entry->frequency < 3) entry->frequency++;
}

/* The oldest of a queue but for `keep`; -1: none. */
static int oldest(const struct model *model, int queue, int keep)
{
    for (int i = 0; i < model->counts[queue]; i++)
        if (model->queues[queue][i] != keep) return model->queues[queue][i];
    return -1;
}

static void shrink(struct model *model, int keep)
{
    while (bytes_in(model, SMALL) + bytes_in(model, MAIN) > BOUND) {
        int small = oldest(model, SMALL, keep);
        int large = oldest(model, MAIN, keep);
        if (model->is_lru) {
            drop(model, large);
            model->evicted++;
        } else if (small >= 0 && (bytes_in(model, SMALL) > BOUND / 10 || large < 0)) {
            struct model_entry *entry = &model->entries[small];
            if (entry->frequency > 0) {
                entry->frequency = 0;
                leave(model, small);
                join(model, small, MAIN);
                continue;
            }
            entry->was_evicted = true;
            drop(model, small);
            model->evicted++;
        } else if (model->entries[large].frequency > 0) {
            model->entries[large].frequency--;
            leave(model, large);
            join(model, large, MAIN);
        } else {
            drop(model, large);
            model->evicted++;
        }
    }
}

static bool is_live(const struct model *model, int key)
{
    const struct model_entry *entry = &model->entries[key];
    return entry->is_there &&
           (entry->expires_at == 0 || model->bench->now < entry->expires_at);
}

static void model_expire(struct model *model)
{
    for (int key = 0; key < KEYS; key++) {
        if (!model->entries[key].is_there || is_live(model, key)) continue;
        drop(model, key);
        model->expired++;
    }
}

static void model_put(struct model *model, int key, struct model_entry next)
{
    struct model_entry *entry = &model->entries[key];
    if (entry->is_there && !is_live(model, key)) {
        drop(model, key);
        model->expired++;
    }
    if (entry->is_there) {
        use(model, key);
    } else {
        entry->is_there = true;
        entry->frequency = 0;
        join(model, key, model->is_lru || entry->was_evicted ? MAIN : SMALL);
    }
    entry->size = next.size;
    entry->fill = next.fill;
    entry->expires_at = next.expires_at;
    entry->soft_at = next.soft_at;
    entry->version = model->bench->index;
    shrink(model, key);
}

/* --- calls on both */

static struct rk_request request_of(struct model *model, enum rk_op op, int key)
{
    struct rk_request request = {.op = op, .key = text_slice(model->names[key])};
    RK_SET(&request, KEY);
    return request;
}

static enum rk_status expected_of_put(const struct model *model, int key,
                                      const struct rk_request *request)
{
    uint64_t version = is_live(model, key) ? model->entries[key].version : 0;
    if (request->if_absent && version != 0) return RK_EEXIST;
    if (RK_HAS(request, IF_VERSION) && request->if_version != version) return RK_EVERSION;
    return RK_OK;
}

static void do_put(struct model *model)
{
    int key = (int)pick(model, KEYS);
    struct rk_request request = request_of(model, RK_OP_CACHE_PUT, key);
    struct model_entry next = {.size = pick(model, VALUE_MAX),
                               .fill = (char)('a' + pick(model, 26))};
    memset(model->value, next.fill, next.size);
    request.value =
        (struct rk_value){rk_slice_of(model->value, next.size), RK_ENCODING_RAW};
    RK_SET(&request, VALUE);
    if (pick(model, 4) == 0) {
        request.ttl_ms = 1 + pick(model, 500);
        RK_SET(&request, TTL_MS);
        next.expires_at = model->bench->now + request.ttl_ms;
    }
    if (pick(model, 4) == 0) {
        request.soft_ttl_ms = 1 + pick(model, 200);
        RK_SET(&request, SOFT_TTL_MS);
        next.soft_at = model->bench->now + request.soft_ttl_ms;
    }
    if (pick(model, 6) == 0) {
        request.if_absent = true;
        RK_SET(&request, IF_ABSENT);
    } else if (pick(model, 6) == 0) {
        request.if_version = pick(model, 2) == 0 ? model->entries[key].version : 0;
        RK_SET(&request, IF_VERSION);
    }
    enum rk_status expected = expected_of_put(model, key, &request);
    const struct rk_reply *reply = bench_call(model->bench, &request);
    assert_int_equal(reply->status, expected);
    if (expected == RK_OK) {
        assert_int_equal(reply->version, model->bench->index);
        model_put(model, key, next);
    }
}

static void do_get(struct model *model)
{
    int key = (int)pick(model, KEYS);
    const struct model_entry *entry = &model->entries[key];
    struct rk_request request = request_of(model, RK_OP_CACHE_GET, key);
    const struct rk_reply *reply = bench_query(model->bench, &request);
    assert_int_equal(reply->found, is_live(model, key));
    if (!reply->found) return;
    assert_int_equal(reply->version, entry->version);
    assert_int_equal(reply->stale,
                     entry->soft_at != 0 && model->bench->now >= entry->soft_at);
    assert_int_equal(reply->value.bytes.size, entry->size);
    if (entry->size != 0) assert_int_equal(reply->value.bytes.data[0], entry->fill);
}

static void do_delete(struct model *model)
{
    int key = (int)pick(model, KEYS);
    struct rk_request request = request_of(model, RK_OP_CACHE_DELETE, key);
    bool was_live = is_live(model, key);
    const struct rk_reply *reply = bench_call(model->bench, &request);
    assert_int_equal(reply->status, RK_OK);
    assert_int_equal(reply->deleted, was_live);
    if (model->entries[key].is_there) drop(model, key);
    model->entries[key].floor = model->bench->index;
}

/* A batch of recency with some keys, known or not. */
static void do_touches(struct model *model)
{
    struct rk_slice keys[8];
    int picked[8];
    uint32_t count = 1 + (uint32_t)pick(model, 8);
    for (uint32_t i = 0; i < count; i++) {
        picked[i] = (int)pick(model, KEYS / 3);
        keys[i] = text_slice(model->names[picked[i]]);
    }
    struct rk_request request = {.op = RK_OP_TOUCH, .keys = {keys, count}, .is_bulk = true};
    RK_SET(&request, KEYS);
    (void)bench_call(model->bench, &request);
    for (uint32_t i = 0; i < count; i++)
        if (model->entries[picked[i]].is_there) use(model, picked[i]);
}

/* A token as it would have been given at some index: valid if nothing happened since. */
static void do_fill(struct model *model)
{
    int key = (int)pick(model, KEYS);
    struct rk_fill_token token = {
        .key_hash =
            rk_cache_key_hash(RK_SLICE_LITERAL("default"), text_slice(model->names[key])),
        .history = 77,
        .index = model->bench->index - pick(model, 200),
    };
    char text[RK_DELIVERY_ID_SIZE];
    rk_fill_token_print(text, &token);
    const struct model_entry *entry = &model->entries[key];
    bool is_void =
        entry->floor > token.index || (entry->is_there && entry->version > token.index);
    struct rk_request request = request_of(model, RK_OP_CACHE_PUT, key);
    request.value = (struct rk_value){RK_SLICE_LITERAL("f"), RK_ENCODING_RAW};
    RK_SET(&request, VALUE);
    request.fill_token = text_slice(text);
    RK_SET(&request, FILL_TOKEN);
    const struct rk_reply *reply = bench_call(model->bench, &request);
    assert_int_equal(reply->status, is_void ? RK_EVOID : RK_OK);
    if (!is_void) model_put(model, key, (struct model_entry){.size = 1, .fill = 'f'});
}

static void check_all(struct model *model)
{
    struct rk_request request = {.op = RK_OP_CACHE_STATS};
    const struct rk_cache_stats *stats = bench_query(model->bench, &request)->cache_stats;
    assert_int_equal(stats->bytes, bytes_in(model, SMALL) + bytes_in(model, MAIN));
    assert_int_equal(stats->entries, model->counts[SMALL] + model->counts[MAIN]);
    assert_int_equal(stats->evicted, model->evicted);
    assert_int_equal(stats->expired, model->expired);
    for (int key = 0; key < KEYS; key++) {
        struct rk_request get = request_of(model, RK_OP_CACHE_GET, key);
        assert_int_equal(bench_query(model->bench, &get)->found, is_live(model, key));
    }
}

static void step(struct model *model)
{
    uint64_t what = pick(model, 100);
    if (what < 35) {
        do_put(model);
    } else if (what < 60) {
        do_get(model);
    } else if (what < 65) {
        do_delete(model);
    } else if (what < 80) {
        do_touches(model);
    } else if (what < 90) {
        do_fill(model);
    } else if (what < 94) {
        uint64_t ms = pick(model, 100);
        bench_pass(model->bench, ms);
        model_expire(model);
    } else if (what < 97) {
        bench_pass_dead(model->bench, pick(model, 100));
    } else {
        bench_restore(model->bench);
    }
}

/* Keys that share no floor and no ghost's place: where they do, a token may be refused and
 * a ghost forgotten, and the model would have to know the hash. */
static void name_keys(struct model *model)
{
    static bool floors[RK_CACHE_FLOORS];
    static bool ghosts[RK_CACHE_GHOSTS];
    memset(floors, 0, sizeof(floors));
    memset(ghosts, 0, sizeof(ghosts));
    int count = 0;
    for (int i = 0; count < KEYS; i++) {
        char *name = model->names[count];
        snprintf(name, sizeof(model->names[0]), "key%d", i);
        bool *floor = &floors[rk_hash(text_slice(name)) % RK_CACHE_FLOORS];
        bool *ghost =
            &ghosts[rk_hash_seeded(text_slice(name), RK_OBJECT_ENTRY) % RK_CACHE_GHOSTS];
        if (*floor || *ghost) continue;
        *floor = *ghost = true;
        count++;
    }
}

static void run(uint64_t seed, bool is_lru)
{
    struct model *model = calloc(1, sizeof(*model));
    assert_non_null(model);
    model->bench = bench_new();
    model->is_lru = is_lru;
    name_keys(model);
    rk_random_init(&model->random, seed);
    struct rk_request request = {.op = RK_OP_CACHE_CONFIGURE,
                                 .bytes_max = BOUND,
                                 .policy = text_slice(is_lru ? "lru" : "s3fifo")};
    RK_SET(&request, BYTES_MAX);
    RK_SET(&request, POLICY);
    assert_int_equal(bench_call(model->bench, &request)->status, RK_OK);
    for (int i = 0; i < 1500; i++) {
        step(model);
        if (i % 10 == 0) check_all(model);
    }
    assert_true(model->evicted > 50);
    check_all(model);
    bench_check_replay(model->bench);
    bench_free(model->bench);
    free(model);
}

static void test_s3fifo_agrees_with_the_model(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 20; seed++)
        run(seed, false);
}

static void test_lru_agrees_with_the_model(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 20; seed++)
        run(seed, true);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_s3fifo_agrees_with_the_model),
        cmocka_unit_test(test_lru_agrees_with_the_model),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
