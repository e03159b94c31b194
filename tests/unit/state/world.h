/* world.h - a group's leader and a follower for the tests of the state machine.
 *
 * Every entry is applied to both; the follower is now and then made anew from a snapshot.
 * Replies, events and state hashes must agree after each entry, whatever the test is about.
 */
#ifndef RK_TEST_STATE_WORLD_H
#define RK_TEST_STATE_WORLD_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "state/machine.h"

enum { SAID_MAX = 4096, CLIENT_MAX = 64, EVENTS_MAX = 4096, START_MS = 1700000000 };

/* A reply, or a pending, that a machine gave. */
struct said {
    char client[CLIENT_MAX + 1];
    uint64_t seq;
    bool is_pending;
    uint64_t home;
    struct rk_reply reply; /* in the world's arena */
};

struct heard {
    enum rk_event_kind kind;
    char owner[64];
    char session[64];
    char resource[64];
    uint64_t fence;
    uint32_t ordinal;
};

struct ear { /* what one machine put out */
    struct rk_arena *arena;
    struct said *said; /* SAID_MAX */
    uint32_t said_count;
    struct heard *heard; /* EVENTS_MAX */
    uint32_t heard_count;
    uint64_t digest;
};

struct world {
    struct rk_machine *machine; /* the leader's */
    struct rk_machine *twin;    /* a follower's */
    struct ear ear, twin_ear;
    struct rk_arena arena;
    uint64_t index;
    uint64_t now;
    uint64_t seq;   /* last one given by world_call */
    uint64_t first; /* first_unanswered that goes with each request; 0: the seq itself */
    uint64_t deadline_ms;
    uint64_t home;
    uint32_t restore_each; /* entries between two new twins; 0: never */
    uint32_t hash_each;    /* entries between two comparisons of the whole state */
};

struct world *world_open(void);
void world_close(struct world *world); /* after a last comparison through a snapshot */

/* Applies a request of client as its request seq (0: the next number); the answer to that
 * request, or a said with is_pending. client NULL: the leader's own entry, gives NULL. */
const struct said *world_send(struct world *world, const char *client, uint64_t seq,
                              struct rk_request *request);
const struct rk_reply *world_call(struct world *world, const char *client,
                                  struct rk_request *request);
/* Applies raw bytes to both; they must agree on the status. */
enum rk_status world_apply(struct world *world, struct rk_slice data);
/* The last thing said to (client, seq) since `since` (an ear.said_count), or NULL. */
const struct said *world_said(const struct world *world, const char *client, uint64_t seq,
                              uint32_t since);
/* Time passes at the leader; what is due is applied. Returns how many timers ran out. */
uint32_t world_pass(struct world *world, uint64_t ms);
uint64_t world_hash(struct rk_machine *machine);
/* All records, and a new machine made of them. */
void world_snapshot(struct rk_machine *machine, struct rk_buf *out);
struct rk_machine *world_restore(struct rk_slice stream, uint64_t index);
struct rk_reply world_query(struct world *world, struct rk_request *request);

/* Requests. */
struct rk_slice text(const char *string);
struct rk_request ask(enum rk_op op);
struct rk_request ask_acquire(const char *resource, const char *owner, enum rk_mode mode,
                              uint64_t wait_ms);
struct rk_request ask_named(enum rk_op op, const char *resource, const char *owner,
                            uint64_t fence);
struct rk_request ask_cancel(const char *client, uint64_t seq);
/* A session's id, in the world's arena. */
const char *world_session(struct world *world, const char *client, uint64_t ttl_ms);

#define assert_text(slice, string)                                                         \
    do {                                                                                   \
        struct rk_slice have_ = (slice);                                                   \
        assert_int_equal(have_.size, strlen(string));                                      \
        assert_memory_equal(have_.data, string, strlen(string));                           \
    } while (0)
#endif
