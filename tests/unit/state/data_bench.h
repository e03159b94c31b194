/* data_bench.h - drives a data group's machine the way its leader does: entries with
 * client, seq and stamp, and timers proposed when they run out. */
#ifndef RK_TESTS_DATA_BENCH_H
#define RK_TESTS_DATA_BENCH_H

#include "api/delivery_id.h"
#include "state/machine.h"

enum { BENCH_EVENTS_MAX = 4096, BENCH_TEXT_MAX = 64 };

struct bench_event {
    enum rk_event_kind kind;
    char name[BENCH_TEXT_MAX]; /* topic or cache */
    char key[BENCH_TEXT_MAX];
    uint64_t version;
};

struct bench {
    struct rk_machine *machine;
    uint64_t index;
    uint64_t now;
    uint64_t seq;
    struct rk_arena arena; /* of the last reply */
    struct rk_reply reply;
    bool has_reply;
    bool is_broken;    /* an apply failed (only where memory is made to fail) */
    struct rk_buf log; /* all entries: u64 index, blob */
    struct bench_event events[BENCH_EVENTS_MAX]; /* since bench_forget_events */
    uint32_t event_count;
};

/* Another engine that is given every call too, and compares its answers with the machine's:
 * see tests/redis/twin.c. */
struct bench_twin {
    void (*open)(struct bench *bench);
    void (*close)(struct bench *bench);
    /* reply is the machine's. */
    void (*call)(struct bench *bench, const struct rk_request *request, uint64_t seq,
                 uint64_t first_unanswered, const struct rk_reply *reply);
};
/* NULL: none is linked in. A twin does not follow what only the machine does: restores, and
 * times without a leader. */
const struct bench_twin *bench_twin(void);

struct bench *bench_new(void);
void bench_free(struct bench *bench);
/* Applies the request as the next one of client "c". The reply lives until the next call.
 */
const struct rk_reply *bench_call(struct bench *bench, struct rk_request *request);
/* The same with a given seq: a retry, when it was used. */
const struct rk_reply *bench_call_as(struct bench *bench, struct rk_request *request,
                                     uint64_t seq, uint64_t first_unanswered);
const struct rk_reply *bench_query(struct bench *bench, const struct rk_request *request);
/* Lets time pass; every timer that runs out on the way fires at its time. */
void bench_pass(struct bench *bench, uint64_t ms);
/* Time passes without a leader: nothing is proposed. */
void bench_pass_dead(struct bench *bench, uint64_t ms);
/* Snapshot, restore into a new machine, compare digests, go on with the new one. */
void bench_restore(struct bench *bench);
/* Replays the whole log into a fresh machine and compares digests. */
void bench_check_replay(struct bench *bench);
uint64_t bench_hash(struct bench *bench);
void bench_forget_events(struct bench *bench);
uint32_t bench_count_events(const struct bench *bench, enum rk_event_kind kind,
                            const char *name);

struct rk_slice text_slice(const char *text);
bool is_text(struct rk_slice slice, const char *text);
#endif
