/* internal.h - inside librukun: the client, its calls, links and picture of the cluster.
 *
 * Two kinds of threads. Callers build a struct rk_call, hand it over and wait for it.
 * The one I/O thread owns everything marked (io): links, routing, retries, session.
 * What both touch is under client->lock, marked (lock). */
#ifndef RUKUN_INTERNAL_H
#define RUKUN_INTERNAL_H

#include "api/api.h"
#include "base/heap.h"
#include "base/list.h"
#include "base/random.h"
#include "rukun.h"

#include <event2/event.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/types.h>

enum {
    RK_ENDPOINTS_MAX = 32,
    RK_NODES_MAX = 16,
    RK_LINKS_MAX = 64,
    RK_GROUPS_MAX = 257, /* group ids 0 .. 256 */
    RK_SLOTS = 4096,
    RK_ADDRESS_SIZE = 264, /* "host:port" with its NUL */
    RK_CALLS_MAX = 65536,  /* calls under way in one client */
    RK_LINK_INPUT_MAX = 64 << 20,
    RK_RETRY_FIRST_MS = 10,
    RK_RETRY_MAX_MS = 500,
    RK_REFRESH_MS = 40, /* between questions for the cluster while it is wanted */
    RK_CONNECT_MS = 1000,
    RK_CLOSE_MS = 1000,
    RK_RPC_HELLO = 0, /* rpc ids below RK_RPC_FIRST are the link's own */
    RK_RPC_CLUSTER = 1,
    RK_RPC_FIRST = 16,
    RK_DOCUMENT_PERIOD_MS = 5000, /* the cluster is asked for at least so often */
    RK_UNREACHABLE_MS = 500,      /* a leader out of reach so long: let others forward */
};

/* --- calls */

enum rk_call_state {
    RK_CALL_NEW = 0,
    RK_CALL_QUEUED, /* waits for a leader, a link or its retry time */
    RK_CALL_SENT,
    RK_CALL_DONE
};

struct rk_link;
struct rk_call;

typedef void (*rk_call_done)(struct rk_call *call, void *context);

/* A number of a write whose fate is not known yet (lock). */
struct rk_open {
    struct rk_list link; /* in client->unanswered, ascending */
    uint64_t seq;        /* 0: a read */
};

struct rk_call {
    struct rk_list link;       /* in client->queued or in its link's sent list (io) */
    struct rk_heap_node timer; /* by deadline (io) */
    struct rk_list submit;     /* in client->submitted (lock) */
    struct rk_list abandon;    /* in client->abandoned (lock) */
    struct rk_open open;       /* its number among the unanswered (lock) */
    struct rk_open *undo;      /* NULL, or another that keeps the same number open (lock) */
    struct rukun_client *client; /* retained */
    enum rk_op op;
    bool is_write;
    uint32_t group;       /* UINT32_MAX: any node */
    struct rk_buf fields; /* msgpack map entries without the map's header */
    uint32_t field_count;
    uint64_t started_ms;
    uint64_t deadline_ms; /* monotonic; UINT64_MAX: none */
    /* (io) */
    uint64_t rpc_id;
    uint64_t sent_ms;  /* the newest attempt */
    uint64_t retry_ms; /* not before */
    uint32_t attempts;
    atomic_bool was_sent; /* once at least: may have happened */
    bool may_forward;     /* this attempt lets the node forward */
    struct rk_link *via;
    char last_node[64];
    enum rk_status last_status; /* of the newest refused attempt, for the error text */
    char last_text[128];
    rk_call_done done; /* (io) NULL: a caller waits */
    void *done_context;
    enum rk_call_state state;
    /* The answer: the thread's until is_done, then the waiter's. */
    bool is_done;          /* (lock) */
    bool is_abandoned;     /* the caller gave up; nobody waits */
    enum rk_status status; /* RK_OK: body is the result; else text, or a problem in body */
    bool is_problem;
    struct rk_buf body; /* msgpack */
    char text[256];
    pthread_cond_t wake;
    bool has_wake;
};

/* --- links: one RPC connection a node */

enum rk_link_state { RK_LINK_IDLE = 0, RK_LINK_CONNECTING, RK_LINK_HELLO, RK_LINK_READY };

struct rk_link {
    struct rukun_client *client;
    struct bufferevent *stream; /* NULL when idle */
    enum rk_link_state state;
    char address[RK_ADDRESS_SIZE];
    char node[64];     /* name, once known */
    uint64_t retry_ms; /* no connect before */
    uint64_t down_ms;  /* since when it cannot be reached; 0: it can */
    uint32_t failures;
    uint64_t last_heard_ms;
    bool is_known;  /* named by the newest cluster document or by the options */
    bool has_asked; /* a cluster.info of ours is under way on it */
    uint64_t asked_ms;
    struct rk_list sent; /* calls without an answer */
};

struct rk_node {
    char name[64];
    char rpc[RK_ADDRESS_SIZE];
    bool is_up;
};

struct rk_topology {
    uint64_t version; /* raised at each change here */
    char cluster[40];
    uint64_t history;
    struct rk_node nodes[RK_NODES_MAX];
    uint32_t node_count;
    char leaders[RK_GROUPS_MAX][64]; /* name, "" unknown */
    uint64_t terms[RK_GROUPS_MAX];
    uint32_t group_count; /* with group 0; 0: nothing known yet */
    uint16_t slots[RK_SLOTS];
};

/* --- session */

enum rk_session_state {
    RK_SESSION_NONE = 0,
    RK_SESSION_OPENING,
    RK_SESSION_OPEN,
    RK_SESSION_LOST
};

struct rukun_client {
    atomic_int references;
    pid_t pid;
    char name[128];
    char token[256];
    char id[40]; /* of requests: random */
    uint64_t session_ttl_ms;
    uint64_t default_deadline_ms;
    bool is_forwarding;
    enum rk_encoding values; /* the form in which callers want them */
    int (*interrupted)(void *context);
    void *interrupted_context;

    pthread_t thread;
    bool has_thread;
    int wake_fd;
    pthread_mutex_t lock;
    pthread_cond_t changed; /* topology learnt, session opened, closed */

    /* (lock) */
    struct rk_list submitted;
    struct rk_list abandoned; /* submit links of calls whose caller gave up */
    bool is_closing;
    bool is_closed;
    uint64_t next_seq;
    uint64_t interrupts;
    uint64_t owner_count;
    struct rk_list unanswered; /* writes in the order of seq */
    uint64_t positions[RK_GROUPS_MAX];
    uint64_t position_history;
    struct rk_topology topology; /* written by the I/O thread, under lock */
    struct {
        enum rk_session_state state;
        char id[80];
        uint64_t number; /* raised with every session: locks remember theirs */
        uint64_t ttl_ms;
        uint64_t safe_until_ms; /* boot time: send time + ttl - drift bound */
        char ended_id[80];      /* one that ran out and is to be closed; "": none */
    } session;
    uint64_t keepalive_ms; /* when the next one is due */
    bool is_keepalive_under_way;
    char open_text[256]; /* why no endpoint answered, for RUKUN_ECONNECT */
    enum rk_status open_status;

    /* (io) */
    struct event_base *base;
    struct event *wake_event;
    struct event *timer;
    struct rk_link *links[RK_LINKS_MAX];
    uint32_t link_count;
    struct rk_call **by_id; /* calls sent, at rpc_id & (by_id_size - 1) */
    uint32_t by_id_size;
    uint32_t by_id_count;
    uint32_t asked; /* link that was asked last for the cluster */
    struct rk_list queued;
    struct rk_heap deadlines;
    struct rk_random random;
    uint64_t next_rpc_id;
    uint64_t refresh_ms; /* when to ask for the cluster again; UINT64_MAX: not wanted */
    char http_endpoints[RK_ENDPOINTS_MAX][RK_ADDRESS_SIZE];
    uint32_t http_count;
    uint32_t call_count;
    bool is_pump_wanted;
};

/* client.c */
uint64_t rk_now_ms(void); /* CLOCK_BOOTTIME */
void rk_client_retain(struct rukun_client *client);
void rk_client_release(struct rukun_client *client);
enum rk_status rk_client_check(const struct rukun_client *client, rukun_error *err);
void rk_client_wake(struct rukun_client *client);

/* call.c: the callers' side. */
/* A call for the request, its group, id and deadline set. wait_ms is added to the deadline.
 */
enum rk_status rk_call_new(struct rk_call **out, struct rukun_client *client,
                           struct rk_request *request, uint64_t wait_ms, rukun_error *err);
void rk_call_free(struct rk_call *call);
void rk_call_submit(struct rk_call *call);
/* Submits, waits, decodes into *reply (memory in arena and call). Takes the call: on an
 * error it is freed, or left to the I/O thread. On RK_OK free it after the reply was used.
 */
enum rk_status rk_call_wait(struct rk_call *call, struct rk_arena *arena,
                            struct rk_reply *reply, rukun_error *err);
/* New and wait in one. */
enum rk_status rk_call_run(struct rk_call **out, struct rukun_client *client,
                           struct rk_request *request, uint64_t wait_ms,
                           struct rk_arena *arena, struct rk_reply *reply,
                           rukun_error *err);
enum rk_status rk_call_decode(struct rk_call *call, struct rk_arena *arena,
                              struct rk_reply *reply);
/* *value in the form that the client's callers want, where it has that form. RK_ENOMEM. */
enum rk_status rk_call_value(const struct rukun_client *client, struct rk_value *value,
                             struct rk_arena *arena);
enum rk_status rk_error_of_reply(rukun_error *err, const struct rk_call *call,
                                 const struct rk_reply *reply);
enum rk_status rk_error_set(rukun_error *err, enum rk_status status, const char *format,
                            ...) __attribute__((format(printf, 3, 4)));
enum rk_status rk_error_of_api(rukun_error *err, const struct rk_api_error *error);
/* A call without a waiter; done runs in the I/O thread and frees it. */
enum rk_status rk_call_background(struct rukun_client *client, struct rk_request *request,
                                  rk_call_done done, void *context);

/* io.c: the thread. All functions below run in it. */
void *rk_io_main(void *client);
void rk_io_queue(struct rk_call *call);
/* Ends the call without an answer from a node; also from rk_call_submit. */
void rk_io_finish(struct rk_call *call, enum rk_status status, const char *text);
/* Ends the call with the node's answer, a problem document or a result. */
void rk_io_answer(struct rk_call *call, bool is_problem, struct rk_slice body);

/* route.c: which node gets a call, and what to do with refusals. */
void rk_route_pump(struct rukun_client *client, uint64_t now);
void rk_route_refresh(struct rukun_client *client, uint64_t now);
void rk_route_want_refresh(struct rukun_client *client, uint64_t at_ms);
void rk_route_problem(struct rk_call *call, struct rk_slice body);
void rk_route_retry(struct rk_call *call, bool is_at_once);
void rk_route_learn_http(struct rukun_client *client);

/* link.c */
struct rk_link *rk_link_of(struct rukun_client *client, const char *address);
void rk_link_connect(struct rk_link *link, uint64_t now);
void rk_link_send(struct rk_link *link, struct rk_call *call, bool may_forward);
void rk_link_ask(struct rk_link *link, uint64_t now);
/* Tells the node that nobody waits for the call any more, and forgets it. */
void rk_link_abandon(struct rk_call *call);
void rk_link_close(struct rk_link *link, const char *why);
void rk_link_free(struct rk_link *link);
void rk_call_detach(struct rk_call *call); /* from its link's books */

/* topology.c */
/* A cluster document in JSON. RK_EPROTO: not one. */
enum rk_status rk_topology_take(struct rukun_client *client, struct rk_slice json);
enum rk_status rk_topology_take_msgpack(struct rukun_client *client,
                                        struct rk_slice document);
/* (lock) The group of a request; UINT32_MAX: any node, or not known yet. */
uint32_t rk_topology_group(const struct rukun_client *client,
                           const struct rk_request *request, const struct rk_op_info *info);
const struct rk_node *rk_topology_node(const struct rukun_client *client, const char *name);
/* A refusal named this leader, by name or address. True if that is news. */
bool rk_topology_hint(struct rukun_client *client, uint32_t group, struct rk_slice leader);

/* session.c */
enum rk_status rk_session_ensure(struct rukun_client *client, char id[80], uint64_t *number,
                                 rukun_error *err);
/* The session ended at the server: its locks are lost. */
void rk_session_lose(struct rukun_client *client, uint64_t number);
/* What is left of the lease of that session by this clock; 0 once and for all when it ran
 * out, when it was lost, or when it is not the client's session any more. */
uint64_t rk_session_left_ms(struct rukun_client *client, uint64_t number);
void rk_session_tick(struct rukun_client *client, uint64_t now); /* (io) */
uint64_t rk_session_next(struct rukun_client *client);           /* (io) */
void rk_session_close(struct rukun_client *client);              /* (io) */
#endif
