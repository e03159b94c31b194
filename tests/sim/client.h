/* client.h - the simulated clients: one call at a time and client, asked again under the
 * same (client, seq) at other nodes until it is answered or given up, and keepalives
 * beside it. */
#ifndef RK_TEST_SIM_CLIENT_H
#define RK_TEST_SIM_CLIENT_H

#include "sim.h"

enum { CLIENT_DELIVERIES_MAX = 3, CLIENT_KEYS_MAX = 8, CLIENT_TEXT_MAX = 96 };

enum op_outcome {
    OP_ANSWERED, /* reply->status says how */
    OP_UNKNOWN,  /* given up: done, not done, or done later */
};

struct sim_op;
typedef void (*op_done)(struct sim_client *client, struct sim_op *op,
                        enum op_outcome outcome, const struct rk_reply *reply);

struct sim_attempt {
    uint64_t call; /* 0: over */
    struct sim_node *node;
    uint64_t life;
};

struct sim_op {
    struct sim_client *client;
    uint32_t references;
    bool is_over, is_keepalive;
    bool is_probe;        /* of probes.c: asks again soon, and to the end */
    bool is_anonymous;    /* without client and seq: asked again only if surely not done */
    bool is_lost;         /* anonymous, and nobody knows what became of it */
    bool was_asked_twice; /* or its connection was dropped: deliveries may go back */
    uint64_t start_us, give_up_us;
    uint32_t attempt_count; /* all ever made */
    struct sim_attempt attempts[SIM_ATTEMPTS_MAX];
    struct rk_request request;
    struct rk_position_item positions[SIM_GROUPS_MAX];
    struct rk_resource_in resources[2];
    struct rk_message_in message;
    char texts[8][CLIENT_TEXT_MAX]; /* what the request's slices point at */
    uint32_t text_count;
    op_done done;
    uint64_t number, floor, extra; /* the workload's */
    uint32_t place;
    struct rk_slice keys[CLIENT_KEYS_MAX];
    uint64_t floors[CLIENT_KEYS_MAX];
    bool were_absent[CLIENT_KEYS_MAX];
};

struct sim_hold {
    bool is_held, is_in_session, is_shared[2];
    uint32_t places[2], count; /* resources */
    uint64_t fence, until_us, lease_ms;
    char owner[CLIENT_TEXT_MAX];
};

struct sim_session {
    char id[CLIENT_TEXT_MAX]; /* "": none */
    uint64_t until_us, ttl_ms, gone_us;
};

struct sim_delivery {
    uint64_t message; /* number + 1; 0: none */
    uint32_t attempt;
    uint64_t quiet_us;
    char id[CLIENT_TEXT_MAX];
};

struct sim_client {
    struct sim *sim;
    uint32_t at;
    char name[16];
    uint64_t seq, cycle;
    uint32_t favourite;
    uint64_t rate_ppm;
    struct sim_op *op, *keepalive; /* under way; NULL: none */
    uint64_t history, positions[SIM_GROUPS_MAX];
    struct sim_hold hold;
    struct sim_session session;
    struct sim_delivery deliveries[CLIENT_DELIVERIES_MAX];
    uint64_t seen[CLIENT_KEYS_MAX]; /* version */
    uint32_t drained;               /* calls answered while draining */
    bool has_progress;              /* of a probe: it was answered */
};

/* A new operation of the client; fill in op->request, then op_send. */
struct sim_op *op_new(struct sim_client *client, enum rk_op op, op_done done);
/* A text that lives as long as the operation. */
__attribute__((format(printf, 2, 3))) struct rk_slice op_text(struct sim_op *op,
                                                              const char *format, ...);
void op_send(struct sim_op *op);
/* Time until which the client may believe in a lease of ms that began not before from. */
uint64_t client_belief_us(const struct sim_client *client, uint64_t from_us, uint64_t ms);

/* The workloads: each begins an operation if it has something to do. */
void locks_init(struct sim *sim);
void locks_free(struct sim *sim);
bool locks_next(struct sim_client *client);
bool locks_go_on(struct sim_client *client); /* with what is held */
void locks_keepalive(struct sim_client *client);
void locks_state(struct sim_node *node);
void locks_left(struct sim *sim);

void queues_init(struct sim *sim);
void queues_free(struct sim *sim);
bool queues_next(struct sim_client *client);
bool queues_go_on(struct sim_client *client);
bool queues_drain(struct sim_client *client);
bool queues_are_empty(const struct sim *sim);
void queues_end(struct sim *sim);
void queues_configure(struct sim_client *client, uint32_t topic);

void caches_init(struct sim *sim);
void caches_free(struct sim *sim);
void caches_next(struct sim_client *client);
void caches_end(struct sim *sim);
#endif
