/* Queues and caches together: snapshots while entries are applied, damaged records, and
 * memory that gives out at every place. */
#include "data_bench.h"

#include "base/alloc.h"
#include "base/assert.h"
#include "base/random.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

/* Random calls of every kind; what they answer is for other tests. */
struct load {
    struct bench *bench;
    struct rk_random random;
    char deliveries[16][RK_DELIVERY_ID_SIZE]; /* the last ones */
    uint32_t delivery_count;
    char value[3000];
};

static uint64_t pick(struct load *load, uint64_t bound)
{
    return rk_random_below(&load->random, bound);
}

static void load_init(struct load *load, uint64_t seed)
{
    memset(load, 0, sizeof(*load));
    load->bench = bench_new();
    rk_random_init(&load->random, seed);
    memset(load->value, '1', sizeof(load->value));
}

static void do_configure(struct load *load)
{
    struct rk_request queue = {.op = RK_OP_QUEUE_CONFIGURE,
                               .topic = RK_SLICE_LITERAL("t0"),
                               .deliveries_max = 2,
                               .visibility_ms = 500};
    RK_SET(&queue, TOPIC);
    RK_SET(&queue, DELIVERIES_MAX);
    RK_SET(&queue, VISIBILITY_MS);
    (void)bench_call(load->bench, &queue);
    struct rk_request cache = {.op = RK_OP_CACHE_CONFIGURE, .bytes_max = 65536};
    RK_SET(&cache, BYTES_MAX);
    cache.policy =
        pick(load, 2) == 0 ? RK_SLICE_LITERAL("lru") : RK_SLICE_LITERAL("s3fifo");
    RK_SET(&cache, POLICY);
    (void)bench_call(load->bench, &cache);
}

static struct rk_slice topic_of(struct load *load)
{
    static const char *const names[] = {"t0", "t1", "t0/dead"};
    return text_slice(names[pick(load, 3)]);
}

static void do_publish(struct load *load)
{
    char publish_id[16], unique[16];
    snprintf(publish_id, sizeof(publish_id), "p%d", (int)pick(load, 30));
    snprintf(unique, sizeof(unique), "u%d", (int)pick(load, 30));
    struct rk_header header = {RK_SLICE_LITERAL("name"), RK_SLICE_LITERAL("text")};
    struct rk_message_in in = {
        .data = {rk_slice_of(load->value, pick(load, 50)), RK_ENCODING_RAW},
        .priority = (uint8_t)pick(load, 10),
        .delay_ms = pick(load, 3) == 0 ? pick(load, 300) : 0,
        .ttl_ms = pick(load, 3) == 0 ? 1 + pick(load, 2000) : 0,
    };
    if (pick(load, 2) == 0) in.group = RK_SLICE_LITERAL("g");
    if (pick(load, 3) == 0) in.publish_id = text_slice(publish_id);
    if (pick(load, 3) == 0) {
        in.unique_key = text_slice(unique);
        in.unique_scope = (uint8_t)(1 + pick(load, 3));
    }
    if (pick(load, 3) == 0) in.headers = (struct rk_headers){&header, 1};
    struct rk_request request = {.op = RK_OP_QUEUE_PUBLISH,
                                 .topic = topic_of(load),
                                 .messages = &in,
                                 .message_count = 1};
    RK_SET(&request, TOPIC);
    RK_SET(&request, MESSAGES);
    if (pick(load, 4) == 0) {
        request.fence = 1 + pick(load, 5);
        RK_SET(&request, FENCE);
    }
    (void)bench_call(load->bench, &request);
}

static void do_consume(struct load *load)
{
    struct rk_request request = {.op = RK_OP_QUEUE_CONSUME, .topic = topic_of(load)};
    RK_SET(&request, TOPIC);
    const struct rk_reply *reply = bench_call(load->bench, &request);
    if (!load->bench->has_reply || reply->message_count == 0) return;
    struct rk_slice id = reply->messages[0].id;
    char *out = load->deliveries[load->delivery_count++ % 16];
    memcpy(out, id.data, id.size);
    out[id.size] = '\0';
}

static void do_settle(struct load *load)
{
    uint64_t known = load->delivery_count < 16 ? load->delivery_count : 16;
    if (known == 0) return;
    const char *delivery = load->deliveries[pick(load, known)];
    static const enum rk_op ops[] = {RK_OP_QUEUE_ACK, RK_OP_QUEUE_NACK, RK_OP_QUEUE_EXTEND,
                                     RK_OP_QUEUE_RETURN};
    struct rk_slice ids[1] = {text_slice(delivery)};
    struct rk_request request = {
        .op = ops[pick(load, 4)], .ids = {ids, 1}, .is_bulk = true, .visibility_ms = 700};
    RK_SET(&request, IDS);
    (void)bench_call(load->bench, &request);
}

static void do_sweep(struct load *load)
{
    static const enum rk_op ops[] = {RK_OP_QUEUE_PAUSE, RK_OP_QUEUE_RESUME,
                                     RK_OP_QUEUE_REDRIVE, RK_OP_QUEUE_PURGE};
    struct rk_request request = {.op = ops[pick(load, 4)], .topic = topic_of(load)};
    RK_SET(&request, TOPIC);
    (void)bench_call(load->bench, &request);
}

static void do_cache(struct load *load)
{
    static const enum rk_op ops[] = {RK_OP_CACHE_PUT,   RK_OP_CACHE_PUT, RK_OP_CACHE_PUT,
                                     RK_OP_CACHE_PUT,   RK_OP_CACHE_ADD, RK_OP_CACHE_DELETE,
                                     RK_OP_CACHE_TOUCH, RK_OP_TOUCH};
    char key[16];
    snprintf(key, sizeof(key), "k%d", (int)pick(load, 60));
    struct rk_slice keys[1] = {text_slice(key)};
    struct rk_request request = {.op = ops[pick(load, 8)], .key = keys[0]};
    RK_SET(&request, KEY);
    request.value =
        (struct rk_value){rk_slice_of(load->value, pick(load, 3000)), RK_ENCODING_RAW};
    request.delta = 1;
    if (pick(load, 3) == 0 || request.op == RK_OP_CACHE_TOUCH) {
        request.ttl_ms = 1 + pick(load, 1000);
        RK_SET(&request, TTL_MS);
    }
    if (request.op == RK_OP_TOUCH) {
        request.is_bulk = true;
        request.keys = (struct rk_strings){keys, 1};
        RK_SET(&request, KEYS);
    }
    (void)bench_call(load->bench, &request);
}

static void step(struct load *load)
{
    uint64_t what = pick(load, 100);
    if (what < 25) {
        do_publish(load);
    } else if (what < 40) {
        do_consume(load);
    } else if (what < 58) {
        do_settle(load);
    } else if (what < 59) {
        do_sweep(load);
    } else if (what < 92) {
        do_cache(load);
    } else {
        bench_pass(load->bench, pick(load, 100));
    }
}

static struct rk_machine *machine_new(void)
{
    struct rk_machine_options options = {.struct_size = sizeof(options), .group = 1};
    struct rk_machine *machine = NULL;
    assert_int_equal(rk_machine_new(&machine, &options), RK_OK);
    return machine;
}

/* --- snapshots */

static void restore_all(struct rk_machine *machine, struct rk_slice records, uint64_t index)
{
    struct rk_reader reader;
    rk_reader_init(&reader, records);
    while (rk_reader_left(&reader) != 0)
        assert_int_equal(rk_machine_restore(machine, rk_read_blob(&reader)), RK_OK);
    assert_int_equal(rk_machine_restore_finish(machine, index), RK_OK);
}

/* The state as of begin, though entries are applied between the steps. */
static void test_snapshot_while_entries_are_applied(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 16; seed++) {
        struct load load;
        load_init(&load, seed);
        do_configure(&load);
        for (int i = 0; i < 1500; i++)
            step(&load);
        uint64_t hash = bench_hash(load.bench);
        uint64_t index = load.bench->index;
        struct rk_buf buf;
        rk_buf_init(&buf);
        assert_int_equal(rk_machine_snapshot_begin(load.bench->machine), RK_OK);
        for (bool is_done = false; !is_done;) {
            for (int i = 0; i < 5; i++)
                step(&load);
            assert_int_equal(
                rk_machine_snapshot_step(load.bench->machine, &buf, 300, &is_done), RK_OK);
        }
        rk_machine_snapshot_end(load.bench->machine);
        struct rk_machine *machine = machine_new();
        restore_all(machine, rk_buf_slice(&buf), index);
        uint64_t restored = 0;
        assert_int_equal(rk_machine_hash(machine, &restored), RK_OK);
        assert_int_equal(restored, hash);
        rk_machine_free(machine);
        rk_buf_fini(&buf);
        bench_check_replay(load.bench);
        bench_free(load.bench);
    }
}

/* A machine that was restored and one that was not go on alike, entry by entry. */
static void test_restored_machine_goes_on_alike(void **state)
{
    (void)state;
    for (uint64_t seed = 100; seed < 108; seed++) {
        struct load load;
        load_init(&load, seed);
        do_configure(&load);
        for (int i = 0; i < 400; i++)
            step(&load);
        size_t log_size = load.bench->log.size;
        bench_restore(load.bench);
        for (int i = 0; i < 400; i++)
            step(&load);
        assert_true(load.bench->log.size > log_size);
        bench_check_replay(load.bench);
        bench_free(load.bench);
    }
}

/* --- damaged records */

static enum rk_status restore_damaged(struct rk_slice records, uint64_t index)
{
    struct rk_machine *machine = machine_new();
    struct rk_reader reader;
    rk_reader_init(&reader, records);
    enum rk_status status = RK_OK;
    while (status == RK_OK && rk_reader_left(&reader) != 0) {
        struct rk_slice record = rk_read_blob(&reader);
        status = reader.is_failed ? RK_EPROTO : rk_machine_restore(machine, record);
    }
    if (status == RK_OK) status = rk_machine_restore_finish(machine, index);
    uint64_t hash;
    if (status == RK_OK) status = rk_machine_hash(machine, &hash);
    rk_machine_free(machine);
    return status;
}

/* Refused or taken, but never a fault: what a checksum did not catch is input, too. */
static void test_damaged_records(void **state)
{
    (void)state;
    struct load load;
    load_init(&load, 7);
    do_configure(&load);
    for (int i = 0; i < 150; i++)
        step(&load);
    struct rk_buf buf;
    rk_buf_init(&buf);
    bool is_done = false;
    assert_int_equal(rk_machine_snapshot_begin(load.bench->machine), RK_OK);
    while (!is_done)
        assert_int_equal(
            rk_machine_snapshot_step(load.bench->machine, &buf, 1 << 20, &is_done), RK_OK);
    rk_machine_snapshot_end(load.bench->machine);
    uint64_t index = load.bench->index;
    assert_int_equal(restore_damaged(rk_buf_slice(&buf), index), RK_OK);
    int refused = 0;
    for (int i = 0; i < 1500; i++) {
        size_t at = pick(&load, buf.size);
        uint8_t kept = buf.data[at];
        buf.data[at] = (uint8_t)pick(&load, 256);
        refused += restore_damaged(rk_buf_slice(&buf), index) != RK_OK;
        buf.data[at] = kept;
    }
    assert_true(refused > 100);
    for (size_t size = 0; size + 1 < buf.size; size += 1 + buf.size / 200)
        assert_int_not_equal(restore_damaged(rk_slice_of(buf.data, size), index), RK_OK);
    rk_buf_fini(&buf);
    bench_free(load.bench);
}

/* --- memory */

/* Fails the allocation number `after` of a run. False: there were not so many. */
static bool run_short_of_memory(int64_t after)
{
    struct load load;
    load_init(&load, 5);
    do_configure(&load);
    for (int i = 0; i < 60; i++)
        step(&load);
    rk_alloc_fail(after, 0);
    for (int i = 0; i < 40 && !load.bench->is_broken; i++)
        step(&load);
    rk_alloc_fail(-1, 0);
    bool was_broken = load.bench->is_broken;
    bench_free(load.bench);
    return was_broken;
}

/* The node stops then; until it does, nothing leaks or is used after its end. */
static void test_memory_gives_out_anywhere(void **state)
{
    (void)state;
    int broken = 0;
    for (int64_t after = 0; after < 400; after++)
        broken += run_short_of_memory(after);
    assert_true(broken > 50);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_snapshot_while_entries_are_applied),
        cmocka_unit_test(test_restored_machine_goes_on_alike),
        cmocka_unit_test(test_damaged_records),
        cmocka_unit_test(test_memory_gives_out_anywhere),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
