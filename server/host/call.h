/* call.h - a call from where it comes in to its answer, as the files of server/host see it:
 * at the node that was asked, on its way to the leader, there. Part of host_internal.h,
 * which says what each file is for. */
#ifndef RK_HOST_CALL_H
#define RK_HOST_CALL_H

#include "base/bytes.h"
#include "base/heap.h"
#include "base/list.h"
#include "base/map.h"
#include "raft/raft.h"
#include "state/machine.h"

struct rk_host;
struct rk_group;
struct rk_member;

enum rk_forward_answer {
    RK_FORWARD_ANSWERED = 0, /* with the reply */
    RK_FORWARD_REFUSED = 1,  /* not the leader; nothing was appended */
    RK_FORWARD_LOST = 2,     /* it was appended, then the leadership ended */
};

enum rk_call_state {
    RK_CALL_ROUTING = 1, /* in group->routing: no leader yet, or its turn has not come */
    RK_CALL_FORWARDED,   /* in member->forwarded */
    RK_CALL_PROPOSED,    /* in group->proposed: in the log, perhaps waiting there */
    RK_CALL_READING,     /* in a list of reads */
    RK_CALL_PARKED,      /* in topic->parked */
    RK_CALL_MOVING,      /* cluster.transfer, until the leader changed; in group->moving */
    RK_CALL_GATHER,      /* in no list: its parts are */
};

struct rk_call {
    struct rk_map_node id_node; /* in group->calls: the first with this client and seq */
    struct rk_call *next_same;  /* others with the same client and seq */
    struct rk_map_node number_node; /* in host->numbers: calls of clients */
    struct rk_heap_node timer;      /* in host->timers, by wake_ms */
    struct rk_list link;            /* in the list of its state */
    struct rk_list origin_link;     /* in origin->taken */
    struct rk_group *group;
    struct rk_member *origin; /* the node that forwarded it; NULL: came in here */
    struct rk_member *target; /* the node to which it was forwarded */
    struct rk_lane *lane;     /* gave client and seq; NULL: the caller did */
    struct rk_topic *topic;   /* a consume that is parked or in the log */
    struct rk_gather *gather; /* the call that this is a part of, or its own if GATHER */
    struct rk_call *next_free;
    uint64_t number; /* the caller's; 0: the host's own call, a part, or a forwarded one */
    uint64_t origin_id;   /* the id that the origin gave, */
    uint64_t origin_send; /* and the last one of its sends that came */
    uint64_t wake_ms;     /* boot time */
    uint64_t deadline_ms; /* boot time */
    uint64_t wait_ms;     /* boot time until which a consume waits; 0: not at all */
    uint64_t retry_ms;    /* boot time before which it is not sent again */
    uint64_t seq;
    uint64_t first_unanswered;
    uint64_t min_index;  /* reads: the answer needs this index applied */
    uint64_t want_index; /* reads: of the caller's position; 0: none */
    uint64_t
        log_index; /* writes: what was in the log when it was to be refused; 0: not yet */
    uint64_t generation; /* of the slot: together the id on peer links */
    uint32_t slot;       /* in host->call_slots */
    uint32_t part;       /* of gather */
    uint32_t sends;      /* times that it was sent or appended with unknown outcome */
    uint32_t forwards;   /* times that it was sent to a leader */
    uint8_t op;          /* enum rk_op */
    uint8_t state;       /* enum rk_call_state */
    uint8_t client_size;
    bool is_write;
    bool is_bulk;
    bool has_wait;
    bool can_forward;
    bool is_dropped; /* the client went away; the outcome still has to be undone */
    bool is_pending; /* the state machine said that it waits */
    bool may_repeat; /* of a forwarded one: it may have been in the log before */
    bool was_asked;  /* a consume that has been in the log from here */
    bool in_log;     /* a consume counted in topic->in_log */
    bool is_probe;   /* a consume being confirmed to find nothing */
    bool in_map;
    uint8_t key[RK_CLIENT_NAME_MAX + 8]; /* client, seq */
    uint8_t number_key[8];
    struct rk_buf request; /* rk_request_encode form */
};

/* A client id that this node gives to calls that come without one, for one call at a time:
 * so each keeps at most one remembered answer. */
struct rk_lane {
    struct rk_lane *next_free;
    uint64_t seq; /* the last one used */
    uint8_t name_size;
    char name[RK_CLIENT_NAME_MAX];
};

/* Consumes of one topic at its leader. */
struct rk_topic {
    struct rk_map_node node; /* in group->topics */
    struct rk_list woken;    /* in group->woken while it is to be looked at */
    struct rk_list parked;   /* struct rk_call, first come first */
    uint32_t in_log;         /* consumes proposed and not answered */
    uint32_t parked_count;
    uint8_t name[];
};

/* A call over several groups. */
struct rk_gather_part {
    struct rk_call *call; /* NULL: answered */
    struct rk_buf reply;  /* rk_reply_encode form, once answered */
    struct rk_position_item position;
    uint64_t position_history;
    uint32_t *places; /* where its lines stand in the whole; NULL: lists */
    uint32_t place_count;
};

struct rk_gather {
    struct rk_call *call;
    uint64_t limit;
    uint32_t part_count;
    uint32_t open_count;
    uint32_t line_count;
    bool is_bulk;
    struct rk_gather_part parts[];
};

/* calls.c */
enum rk_status rk_host_calls_init(struct rk_host *host);
enum rk_status rk_call_new(struct rk_call **out, struct rk_group *group,
                           const struct rk_request *request);
enum rk_status rk_call_enter(struct rk_call *call); /* into the group's map by id */
void rk_call_free(struct rk_call *call);
void rk_call_route(struct rk_call *call); /* (back) into group->routing */
void rk_call_wake_at(struct rk_call *call, uint64_t boot_ms);
/* Answers and frees the call. The group's position is filled in. */
void rk_call_answer(struct rk_call *call, struct rk_reply *reply);
__attribute__((format(printf, 3, 4))) void
rk_call_fail(struct rk_call *call, enum rk_status status, const char *format, ...);
/* The same request was applied, or is about to be, here or by an earlier leader: it must
 * get the answer to that, and "not done" would be untrue. */
bool rk_call_is_repeated(const struct rk_call *call, const struct rk_machine *machine);
void rk_host_reply_init(struct rk_reply *reply, enum rk_op op);
void rk_host_deliver(struct rk_host *host, struct rk_call *call,
                     const struct rk_reply *reply);
struct rk_call *rk_host_call_by_id(const struct rk_host *host, uint64_t id);
uint64_t rk_call_id(const struct rk_call *call);
/* Sends what is in routing on its way, as far as possible. */
void rk_group_dispatch(struct rk_group *group);
/* The leadership ended, or a leader is known: calls go where they belong now. */
void rk_group_calls_unlead(struct rk_group *group);
void rk_group_calls_leader_changed(struct rk_group *group);
enum rk_status rk_call_number(struct rk_call *call, uint64_t number);
uint64_t rk_host_deadline(const struct rk_host *host, const struct rk_request *request);
/* Sends a new call on its way. */
void rk_call_start(struct rk_call *call, const struct rk_request *request,
                   uint64_t deadline_ms);
/* The call of a forward that came before from the same node, if it is still open. */
struct rk_call *rk_group_forward_find(struct rk_group *group, const struct rk_member *from,
                                      struct rk_slice client, uint64_t seq,
                                      uint64_t origin_id);
/* The first of its calls; the others hang on next_same. NULL: none. */
struct rk_call *rk_group_call_find(struct rk_group *group, struct rk_slice client,
                                   uint64_t seq);
bool rk_group_has_call(struct rk_group *group, struct rk_slice client, uint64_t seq);
/* Machine output. */
void rk_group_on_reply(void *context, struct rk_slice client, uint64_t seq,
                       const struct rk_reply *reply);
void rk_group_on_pending(void *context, struct rk_slice client, uint64_t seq,
                         uint64_t home);
void rk_group_on_event(void *context, const struct rk_event *event);
/* Timers of calls that ran out. */
void rk_host_calls_wake(struct rk_host *host);
void rk_host_calls_free(struct rk_host *host);
void rk_call_propose(struct rk_call *call);
/* What stands in the log for the call. */
void rk_call_command(const struct rk_call *call, uint64_t stamp_ms, struct rk_command *out);

/* undo.c: calls whose clients went away, and waits whose homes did. */
void rk_call_drop(struct rk_call *call);
/* Cancels (client, seq) through the log. */
void rk_group_cancel(struct rk_group *group, struct rk_slice client, uint64_t seq);
/* A reply came for a dropped call: gives back what it granted. */
void rk_call_undo(struct rk_call *call, const struct rk_reply *reply);
/* The cancel of a left call is answered, with what became of that, or was not done. */
void rk_call_cancelled(const struct rk_call *cancel, const struct rk_reply *reply);
void rk_group_homes_check(struct rk_group *group);
enum rk_status rk_group_internal(struct rk_group *group, struct rk_request *request);

/* bulk.c */
enum { RK_ROUTE_MANY = UINT32_MAX };
/* The group that a request belongs to, RK_ROUTE_MANY if to several. RK_ERANGE: names
 * something impossible, error says what. */
enum rk_status rk_host_route(struct rk_host *host, const struct rk_request *request,
                             uint32_t *group, struct rk_reply *error);
void rk_host_gather(struct rk_host *host, uint64_t number, const struct rk_request *request,
                    uint64_t deadline_ms);
void rk_gather_part_answered(struct rk_call *call, const struct rk_reply *reply);
void rk_gather_free(struct rk_gather *gather);

/* forward.c */

/* Which call of its origin, and which of the times that it was sent. */
struct rk_forward_id {
    uint64_t call, send;
};

void rk_call_forward(struct rk_call *call, struct rk_member *leader);
void rk_forward_receive(struct rk_host *host, struct rk_member *from, struct rk_slice body);
void rk_forward_reply_receive(struct rk_host *host, struct rk_member *from,
                              struct rk_slice body);
void rk_forward_drop_receive(struct rk_host *host, struct rk_member *from,
                             struct rk_slice body);
void rk_forward_refuse(struct rk_host *host, struct rk_member *to, struct rk_forward_id id,
                       enum rk_forward_answer answer);
void rk_forward_reply(struct rk_call *call, const struct rk_reply *reply);
void rk_forward_drop(struct rk_call *call);
/* What was forwarded a while ago and is not answered goes again: a frame may be lost with
 * the link of one direction. The leader takes no notice where it has the call. */
void rk_member_forward_again(struct rk_host *host, struct rk_member *member);
void rk_member_link_lost(struct rk_host *host, struct rk_member *member);
void rk_member_home_lost(struct rk_host *host, struct rk_member *member);

/* reads.c */
void rk_call_read(struct rk_call *call);
/* A quorum round that began after the keepalive came is confirmed: the session lives on. */
void rk_call_keepalive(struct rk_call *call);
void rk_call_read_start(struct rk_call *call, const struct rk_request *request);
/* Answers at once from the local state if the request allows; false: it does not. */
bool rk_group_read_now(struct rk_group *group, uint64_t number,
                       const struct rk_request *request);
void rk_group_reads_start(struct rk_group *group);
void rk_group_reads_released(struct rk_group *group, const struct rk_raft_read_state *reads,
                             size_t count);
void rk_group_reads_applied(struct rk_group *group);
void rk_group_reads_tick(struct rk_group *group);

/* parked.c */
void rk_call_consume(struct rk_call *call, const struct rk_request *request);
void rk_call_consume_probed(struct rk_call *call);
void rk_call_unpark(struct rk_call *call);
/* Its request may have an answer in the log already. */
bool rk_call_may_repeat(const struct rk_call *call);
/* A consume that was in the log is answered or lost. */
void rk_call_consumed(struct rk_call *call);
void rk_group_topic_ready(struct rk_group *group, struct rk_slice topic);
void rk_group_topics_wake(struct rk_group *group);
void rk_group_topics_free(struct rk_group *group);
#endif
