/* calls.h - the calls under way at this node, whichever door they came in by.
 *
 * Each gets a number for the engine; the answer finds its way back by the number. What
 * concerns every call stands here: counting, timing, refusals of a node that stops,
 * and the calls that the node answers itself. Loop thread only. */
#ifndef RK_RUKUND_CALLS_H
#define RK_RUKUND_CALLS_H

#include "api/api.h"

struct rk_worker;

enum rk_door { RK_DOOR_HTTP = 0, RK_DOOR_RPC = 1, RK_DOOR_COUNT };

/* Embedded in the door's own struct. */
struct rk_call {
    /* The answer; borrowed. Called once, unless dropped; perhaps within rk_calls_start.
     * Must not start, drop or answer calls. */
    void (*done)(struct rk_call *call, const struct rk_reply *reply);
    uint64_t number; /* 0: not under way */
    uint64_t started_us;
    uint8_t door; /* enum rk_door */
    uint8_t op;
};

struct rk_calls {
    struct rk_call **slots; /* by number: low 32 bits are the place + 1 */
    uint32_t *generations;
    uint32_t *free_places; /* a stack */
    uint32_t slot_count;
    uint32_t free_count;
};

enum { RK_CALLS_MAX = 1 << 20 };

void rk_calls_init(struct rk_calls *calls);
void rk_calls_fini(struct rk_calls *calls);
uint32_t rk_calls_count(const struct rk_calls *calls);

/* Starts a call; call->done is called once. The request is borrowed and changed only in
 * `forward`. */
void rk_calls_start(struct rk_worker *worker, struct rk_call *call, enum rk_door door,
                    struct rk_request *request);
/* The client went away; done is not called. Fine when it was answered already. */
void rk_calls_drop(struct rk_worker *worker, struct rk_call *call);
/* By the engine. Unknown numbers are ignored: the call was dropped. */
void rk_calls_answer(struct rk_worker *worker, uint64_t number,
                     const struct rk_reply *reply);
/* Answers all that is open, when the node ends: writes have an unknown outcome. */
void rk_calls_end(struct rk_worker *worker);

/* An error reply: status, text and, if not NULL, the field. Arguments are borrowed. */
__attribute__((format(printf, 5, 6))) void
rk_reply_problem(struct rk_reply *reply, enum rk_op op, enum rk_status status,
                 const char *field, const char *format, ...);
#endif
