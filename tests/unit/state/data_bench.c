#include "data_bench.h"

#include "base/alloc.h"
#include "base/assert.h"

#include <stdio.h>
#include <stdlib.h>

static const uint64_t START_MS = UINT64_C(1700000000000);

__attribute__((weak)) const struct bench_twin *bench_twin(void)
{
    return NULL;
}

static void on_reply(void *context, struct rk_slice client, uint64_t seq,
                     const struct rk_reply *reply)
{
    struct bench *bench = context;
    (void)client;
    (void)seq;
    struct rk_buf buf;
    rk_buf_init(&buf);
    rk_reply_encode(&buf, reply);
    struct rk_slice copy = rk_arena_copy(&bench->arena, rk_buf_slice(&buf));
    if (rk_buf_check(&buf) == RK_OK && copy.data != NULL) {
        enum rk_status status = rk_reply_decode(&bench->reply, copy, &bench->arena);
        bench->has_reply = status == RK_OK;
        RK_ASSERT(status == RK_OK || status == RK_ENOMEM);
    }
    rk_buf_fini(&buf);
    bench->is_broken = bench->is_broken || !bench->has_reply;
}

static void copy_text(char *out, struct rk_slice slice)
{
    size_t size = slice.size < BENCH_TEXT_MAX - 1 ? slice.size : BENCH_TEXT_MAX - 1;
    if (size != 0) memcpy(out, slice.data, size);
    out[size] = '\0';
}

static void on_event(void *context, const struct rk_event *event)
{
    struct bench *bench = context;
    RK_ASSERT(event->index == bench->index);
    if (bench->event_count == BENCH_EVENTS_MAX) return;
    struct bench_event *out = &bench->events[bench->event_count++];
    out->kind = event->kind;
    out->version = event->version;
    bool is_topic = event->kind == RK_EVENT_TOPIC_READY;
    copy_text(out->name, is_topic ? event->topic : event->cache);
    copy_text(out->key, event->key);
}

static void apply_as(struct bench *bench, struct rk_slice request, struct rk_slice client,
                     uint64_t seq, uint64_t first_unanswered)
{
    struct rk_command command = {
        .client = client,
        .seq = seq,
        .first_unanswered = first_unanswered,
        .stamp_ms = bench->now,
        .request = request,
    };
    struct rk_buf buf;
    rk_buf_init(&buf);
    rk_command_encode(&buf, &command);
    struct rk_machine_output output = {
        .context = bench, .reply = on_reply, .event = on_event};
    bench->index++;
    enum rk_status status = rk_buf_check(&buf);
    if (status == RK_OK)
        status =
            rk_machine_apply(bench->machine, bench->index, rk_buf_slice(&buf), &output);
    RK_ASSERT(status == RK_OK || status == RK_ENOMEM);
    bench->is_broken = bench->is_broken || status != RK_OK;
    rk_buf_u64(&bench->log, bench->index);
    rk_buf_blob(&bench->log, rk_buf_slice(&buf));
    rk_buf_fini(&buf);
}

struct bench *bench_new(void)
{
    struct bench *bench = calloc(1, sizeof(*bench));
    RK_ASSERT(bench != NULL);
    struct rk_machine_options options = {.struct_size = sizeof(options), .group = 1};
    if (rk_machine_new(&bench->machine, &options) != RK_OK) {
        free(bench);
        return NULL;
    }
    bench->now = START_MS;
    rk_arena_init(&bench->arena);
    rk_buf_init(&bench->log);
    struct rk_request birth = {.op = RK_OP_BIRTH, .history = 77};
    RK_SET(&birth, HISTORY);
    struct rk_buf buf;
    rk_buf_init(&buf);
    rk_request_encode(&buf, &birth);
    apply_as(bench, rk_buf_slice(&buf), RK_SLICE_EMPTY, 0, 0);
    rk_buf_fini(&buf);
    rk_machine_lead(bench->machine, bench->now);
    if (bench_twin() != NULL) bench_twin()->open(bench);
    return bench;
}

void bench_free(struct bench *bench)
{
    if (bench == NULL) return;
    if (bench_twin() != NULL) bench_twin()->close(bench);
    rk_machine_free(bench->machine);
    rk_arena_fini(&bench->arena);
    rk_buf_fini(&bench->log);
    free(bench);
}

const struct rk_reply *bench_call_as(struct bench *bench, struct rk_request *request,
                                     uint64_t seq, uint64_t first_unanswered)
{
    struct rk_buf buf;
    rk_buf_init(&buf);
    rk_request_encode(&buf, request);
    rk_arena_reset(&bench->arena);
    memset(&bench->reply, 0, sizeof(bench->reply));
    bench->has_reply = false;
    struct rk_slice client = RK_SLICE_LITERAL("c");
    if (rk_buf_check(&buf) == RK_OK)
        apply_as(bench, rk_buf_slice(&buf), client, seq, first_unanswered);
    else
        bench->is_broken = true;
    rk_buf_fini(&buf);
    if (bench_twin() != NULL)
        bench_twin()->call(bench, request, seq, first_unanswered, &bench->reply);
    return &bench->reply;
}

const struct rk_reply *bench_call(struct bench *bench, struct rk_request *request)
{
    bench->seq++;
    const struct rk_reply *reply = bench_call_as(bench, request, bench->seq, bench->seq);
    RK_ASSERT(bench->has_reply || bench->is_broken);
    return reply;
}

const struct rk_reply *bench_query(struct bench *bench, const struct rk_request *request)
{
    rk_arena_reset(&bench->arena);
    enum rk_status status =
        rk_machine_query(bench->machine, request, bench->now, &bench->arena, &bench->reply);
    RK_ASSERT(status == RK_OK || status == RK_ENOMEM);
    bench->is_broken = bench->is_broken || status != RK_OK;
    if (bench_twin() != NULL) bench_twin()->call(bench, request, 0, 0, &bench->reply);
    return &bench->reply;
}

static void fire(struct bench *bench)
{
    struct rk_buf buf;
    rk_buf_init(&buf);
    while (!bench->is_broken &&
           rk_machine_due(bench->machine, bench->now, 100, &buf) != 0) {
        bench->is_broken = rk_buf_check(&buf) != RK_OK;
        if (bench->is_broken) break;
        apply_as(bench, rk_buf_slice(&buf), RK_SLICE_EMPTY, 0, 0);
        rk_buf_reset(&buf);
    }
    rk_buf_fini(&buf);
}

void bench_pass(struct bench *bench, uint64_t ms)
{
    uint64_t until = bench->now + ms;
    for (;;) {
        uint64_t due = rk_machine_next_due(bench->machine);
        if (due > until || bench->is_broken) break;
        if (due > bench->now) bench->now = due;
        fire(bench);
    }
    bench->now = until;
}

void bench_pass_dead(struct bench *bench, uint64_t ms)
{
    bench->now += ms;
}

uint64_t bench_hash(struct bench *bench)
{
    uint64_t hash = 0;
    RK_ASSERT(rk_machine_hash(bench->machine, &hash) == RK_OK);
    return hash;
}

void bench_restore(struct bench *bench)
{
    if (bench_twin() != NULL) return; /* durations would begin again, but not the twin's */
    struct rk_machine_options options = {.struct_size = sizeof(options), .group = 1};
    struct rk_machine *machine;
    RK_ASSERT(rk_machine_new(&machine, &options) == RK_OK);
    struct rk_buf buf;
    rk_buf_init(&buf);
    RK_ASSERT(rk_machine_snapshot_begin(bench->machine) == RK_OK);
    bool is_done = false;
    while (!is_done)
        RK_ASSERT(rk_machine_snapshot_step(bench->machine, &buf, 1000, &is_done) == RK_OK);
    rk_machine_snapshot_end(bench->machine);
    struct rk_reader reader;
    rk_reader_init(&reader, rk_buf_slice(&buf));
    while (rk_reader_left(&reader) != 0)
        RK_ASSERT(rk_machine_restore(machine, rk_read_blob(&reader)) == RK_OK);
    RK_ASSERT(rk_machine_restore_finish(machine, bench->index) == RK_OK);
    rk_buf_fini(&buf);
    uint64_t hash = bench_hash(bench);
    uint64_t bytes = rk_machine_bytes(bench->machine);
    rk_machine_free(bench->machine);
    bench->machine = machine;
    RK_ASSERT(bench_hash(bench) == hash);
    RK_ASSERT(rk_machine_bytes(machine) == bytes);
    rk_machine_lead(machine, bench->now);
}

void bench_check_replay(struct bench *bench)
{
    struct rk_machine_options options = {.struct_size = sizeof(options), .group = 1};
    struct rk_machine *machine;
    RK_ASSERT(rk_machine_new(&machine, &options) == RK_OK);
    struct rk_reader reader;
    rk_reader_init(&reader, rk_buf_slice(&bench->log));
    while (rk_reader_left(&reader) != 0) {
        uint64_t index = rk_read_u64(&reader);
        RK_ASSERT(rk_machine_apply(machine, index, rk_read_blob(&reader), NULL) == RK_OK);
    }
    uint64_t hash = 0;
    RK_ASSERT(rk_machine_hash(machine, &hash) == RK_OK);
    RK_ASSERT(hash == bench_hash(bench));
    rk_machine_free(machine);
}

void bench_forget_events(struct bench *bench)
{
    bench->event_count = 0;
}

uint32_t bench_count_events(const struct bench *bench, enum rk_event_kind kind,
                            const char *name)
{
    uint32_t count = 0;
    for (uint32_t i = 0; i < bench->event_count; i++)
        count += bench->events[i].kind == kind && strcmp(bench->events[i].name, name) == 0;
    return count;
}

struct rk_slice text_slice(const char *text)
{
    return rk_slice_of_string(text);
}

bool is_text(struct rk_slice slice, const char *text)
{
    return rk_slice_is_equal(slice, rk_slice_of_string(text));
}
