/* keeper.h - inside server/host: sessions and locks whose records are in a store.
 *
 * While this node leads group 0 the keeper has the machine of sessions and locks. Calls are
 * applied to it only while no batch is out, so that between batches it is what the store
 * has; their answers leave once the store has what they say. Reads wait likewise. */
#ifndef RK_HOST_KEEPER_H
#define RK_HOST_KEEPER_H

#include "host/host_internal.h"

enum {
    RK_KEEPER_CALLS_MAX = 2048,    /* in one batch */
    RK_KEEPER_OBJECTS_MAX = 16384, /* changed: no further call goes into the batch */
    RK_KEEPER_PAUSE_MS = 50,       /* before the store is asked again; doubles */
    RK_KEEPER_PAUSE_MAX_MS = 1000,
    RK_KEEPER_SILENCE_MS = 60000, /* of the store: then it is asked again */
    RK_KEEPER_CHECK_MS = 1000,    /* between looks at an idle store */
    RK_KEEPER_IDENTITY_MAX = 128,
    RK_KEEPER_HOLD_MS = 30000, /* the usual lease of a lock */
    RK_KEEPER_MARGIN_MS = 200, /* forwarded calls are refused so much early */
};

enum rk_keeper_state {
    RK_KEEPER_OFF = 0, /* does not lead */
    RK_KEEPER_LOADING,
    RK_KEEPER_MARKING, /* the log is to know which store this is before anyone is served */
    RK_KEEPER_SERVING,
};

/* What the log of group 0 remembers of the store, in an entry of its own. */
struct rk_keeper_mark {
    uint64_t term;
    uint64_t fence;   /* the last one given before that term's first */
    uint64_t doubted; /* up to it grants were given before the store last lost some */
    bool is_holding;  /* that was not long ago: grants were held back, and still are */
    uint8_t identity_size;
    uint8_t identity[RK_KEEPER_IDENTITY_MAX];
};

struct rk_keeper_record {
    uint64_t id;
    size_t at, size; /* in records */
};

struct rk_keeper {
    struct rk_host *host;
    enum rk_keeper_state state;
    struct rk_machine *machine; /* NULL while off */
    uint64_t term;
    uint64_t number; /* of the last effect */
    uint64_t minted; /* numbers */
    bool is_asked;   /* and it is not answered */
    bool is_up;
    bool is_full;      /* as of its last answer */
    uint64_t asked_ms; /* boot times */
    uint64_t again_ms; /* nothing is asked before */
    uint32_t pause_ms;
    char reason[256];

    uint64_t seq, id, index; /* what the store has, and the machine between batches */
    uint64_t base_boot_ms, base_ms; /* time of the machine */
    uint64_t lead_ms;               /* boot time since which it serves */
    uint64_t hold_ms; /* boot time until which grants are held back; 0: they are not */
    uint64_t hold_span_ms;
    uint64_t lead_fence, doubted;
    struct rk_keeper_mark mark; /* what the log is to know, and whether it does */
    bool is_marked;
    uint64_t marked_ms; /* boot time at which that was proposed */

    struct rk_buf records; /* being loaded */
    struct rk_keeper_record *places;
    size_t place_count, place_capacity;

    bool is_changed;   /* the machine, since the last batch */
    bool is_whole_due; /* the store lost what it had: the next batch is all there is */
    bool has_batch;
    bool is_stored; /* but no majority was heard since */
    struct rk_host_store_batch batch;
    struct rk_host_store_change *changes;
    uint32_t change_capacity;
    struct rk_buf changed; /* what changes point into */
    struct rk_arena views;
    struct rk_buf answers;  /* blobs client, varint seq, blob reply: leave with the batch */
    struct rk_list waiting; /* struct rk_call: writes, to be applied */
    struct rk_list reads;   /* struct rk_call: confirmed, to be answered between batches */
    uint32_t applied;       /* calls in the batch */
};

/* keeper.c: from the leadership to the service. */
enum rk_status rk_keeper_new(struct rk_host *host, uint32_t hold_ms);
void rk_keeper_free(struct rk_keeper *keeper);
/* Group 0 is led here, its first entry applied. */
void rk_keeper_lead(struct rk_keeper *keeper);
void rk_keeper_unlead(struct rk_keeper *keeper);
void rk_keeper_silence_check(struct rk_keeper *keeper);
/* True if this moved it on. */
bool rk_keeper_start(struct rk_keeper *keeper);
/* One that no other leader and no other life of this node gives, below 2^53, not 0. */
uint64_t rk_keeper_number(struct rk_keeper *keeper);
uint64_t rk_keeper_time(const struct rk_keeper *keeper);
/* The store may have lost grants: none are made for a while, fences go up. The log is to
 * know it before the store is written to: then its end is seen by no later leader. */
void rk_keeper_hold(struct rk_keeper *keeper);
void rk_keeper_hold_end(struct rk_keeper *keeper); /* when it is time */
void rk_keeper_mark_take(struct rk_keeper *keeper, struct rk_slice identity);
bool rk_keeper_is_marked(struct rk_keeper *keeper); /* false: it is on its way */
/* The store did what was asked; did not: it is asked again after a pause; refused since
 * another has it. */
void rk_keeper_done(struct rk_keeper *keeper);
void rk_keeper_put_off(struct rk_keeper *keeper, enum rk_status status, const char *text);
void rk_keeper_fenced(struct rk_keeper *keeper, const char *text);

/* keeper_run.c: while it serves. */
bool rk_keeper_owns(const struct rk_group *group, enum rk_op op);
/* A call that the keeper owns has reached the leader: a write, or a confirmed read. */
void rk_keeper_take(struct rk_call *call);
void rk_keeper_read(struct rk_call *call);
/* Its deadline passed before it was applied. */
void rk_keeper_refuse(struct rk_call *call);
/* In each pass of a flush. */
void rk_keeper_run(struct rk_keeper *keeper);
enum rk_status rk_keeper_birth(struct rk_keeper *keeper, uint64_t history,
                               uint64_t fence_floor);
uint64_t rk_keeper_due_ms(const struct rk_keeper *keeper); /* boot time */
#endif
