/* object.h - inside core/state: what every persistent object shares, and the machine.
 *
 * Every object stands in one creation-ordered list, has a number that is never used
 * again, and one timer. Before it is changed or removed, rk_object_touch lets a running
 * snapshot encode it as it was. Derived order (ready queues, wait graph) is rebuilt. */
#ifndef RK_STATE_OBJECT_H
#define RK_STATE_OBJECT_H

#include "base/heap.h"
#include "base/list.h"
#include "base/map.h"
#include "state/machine.h"

/* Fixed for ever: they stand in snapshots and logs. */
enum rk_object_kind {
    RK_OBJECT_META = 1, /* the machine itself: counters, history, version, members */
    RK_OBJECT_CLIENT = 2,
    RK_OBJECT_ANSWER = 3, /* one remembered reply of a client */
    RK_OBJECT_SESSION = 10,
    RK_OBJECT_LOCK = 11,  /* a resource with its settings and counters */
    RK_OBJECT_GRANT = 12, /* a hold, over one or several resources */
    RK_OBJECT_WAIT = 13,  /* a waiting acquire */
    RK_OBJECT_TOPIC = 20,
    RK_OBJECT_MESSAGE = 21,
    RK_OBJECT_DEDUP = 22, /* a publish id or unique key in its window */
    RK_OBJECT_CACHE = 30, /* a namespace with its bound */
    RK_OBJECT_ENTRY = 31,
    RK_OBJECT_FENCE = 32, /* the highest fence seen under a name */
    RK_OBJECT_KIND_MAX = 64
};

struct rk_timer {
    struct rk_heap_node node; /* in the heap: armed */
    uint64_t deadline_ms;     /* this node's opinion; only the leader acts on it */
    uint64_t duration_ms;     /* replicated; with is_absolute the group time itself */
    uint64_t look_ms;         /* when the leader is to look at it: its place in the heap */
    uint64_t counted_ms;      /* up to then the time that passed is in duration_ms */
    bool is_absolute;         /* does not restart with a leader */
    bool begins_again;        /* leader only: to be written down; see RK_OP_ELAPSED */
    uint32_t proposed_lead;   /* leader only: the lead_count in which it was proposed */
    uint32_t noted_lead;      /* likewise an RK_OP_ELAPSED that is not applied yet */
};

struct rk_object {
    struct rk_list link;       /* creation order */
    struct rk_object *id_next; /* chain of the machine's id table */
    uint64_t id;               /* never used again in this group */
    uint64_t generation;       /* raised whenever the timer is set or cleared */
    struct rk_timer timer;
    uint32_t bytes;    /* logical bytes now counted for it */
    uint32_t saved_in; /* number of the snapshot whose side buffer has it */
    uint8_t kind;
    bool is_changed; /* marked in the change feed */
};

struct rk_apply; /* one entry being applied */

/* What a kind of object can do. */
struct rk_object_class {
    uint8_t kind;
    const char *name;
    /* Appends the record's body (id, generation, kind and timer are framed by the caller).
     */
    void (*encode)(const struct rk_machine *machine, const struct rk_object *object,
                   struct rk_buf *out);
    /* Makes the object from a record's body, enters it with `id` and puts it where it
     * belongs. Records come in creation order, so older objects are there already.
     * `object` fields (generation, timer) are set by the caller after. */
    enum rk_status (*restore)(struct rk_machine *machine, struct rk_reader *body,
                              uint64_t id, struct rk_object **out);
    /* Its timer ran out: generation is checked, the object touched and the timer stopped
     * already. NULL: has no timer. */
    enum rk_status (*due)(struct rk_machine *machine, struct rk_apply *apply,
                          struct rk_object *object);
    /* The machine goes: gives the memory back and looks at no other object. */
    void (*free)(struct rk_machine *machine, struct rk_object *object);
};

/* One entry being applied, and its answer. */
struct rk_apply {
    uint64_t index;
    uint32_t ordinal; /* of the next event */
    uint64_t now;     /* the entry's stamp */
    const struct rk_command *command;
    const struct rk_request *request;
    const struct rk_machine_output *output; /* may be NULL */
    struct rk_arena *arena;                 /* until the end of this apply */
    struct rk_reply *reply;                 /* the answer to this entry's request */
    bool is_pending;        /* set by a handler: no answer now, it comes later */
    struct rk_object *wait; /* with is_pending: what waits (RK_OBJECT_WAIT) */
    bool is_forgotten;      /* set by a handler: the answer is not to be remembered (empty
                               consume) */
};

/* --- offered by machine/dedup/timers (object.c, machine.c, dedup.c) to locks, queues,
 * caches */

/* Enters a new object (memory is the caller's, zeroed): gives it its id unless restoring
 * (id != 0), puts it in the list and id table. RK_ENOMEM: nothing changed. */
RK_MUST_CHECK enum rk_status rk_object_enter(struct rk_machine *machine,
                                             struct rk_object *object, uint8_t kind,
                                             uint64_t id);
/* Must be called before the first change of an object in an apply, and before removal. */
RK_MUST_CHECK enum rk_status rk_object_touch(struct rk_machine *machine,
                                             struct rk_object *object);
/* Leaves list, id table and timer; counted bytes go. Call touch first. Does not free. */
void rk_object_leave(struct rk_machine *machine, struct rk_object *object);
/* NULL if there is none of that kind. */
struct rk_object *rk_object_find(const struct rk_machine *machine, uint8_t kind,
                                 uint64_t id);
/* Counts `bytes` logical bytes for the object from now on (instead of before). */
void rk_object_count(struct rk_machine *machine, struct rk_object *object, uint32_t bytes);

/* The timer: duration from apply->now, or an absolute group time. Raises generation.
 * Memory for the heap was reserved by enter: cannot fail. */
void rk_timer_start(struct rk_machine *machine, struct rk_object *object, uint64_t now,
                    uint64_t duration_ms);
void rk_timer_start_at(struct rk_machine *machine, struct rk_object *object, uint64_t at);
void rk_timer_stop(struct rk_machine *machine, struct rk_object *object);
/* Milliseconds left by this node's opinion: for reads only, never in an apply. */
uint64_t rk_timer_left(const struct rk_object *object, uint64_t now);
static inline bool rk_timer_is_armed(const struct rk_object *object)
{
    return rk_heap_has(&object->timer.node);
}

/* Answers a request that was pending: remembers the answer and calls output->reply. */
RK_MUST_CHECK enum rk_status rk_answer_pending(struct rk_machine *machine,
                                               struct rk_apply *apply,
                                               struct rk_slice client, uint64_t seq,
                                               struct rk_reply *reply);
/* Sets status, field and a formatted text in the reply; returns RK_OK, so that a handler
 * can `return rk_refuse(...)`: a refused request is a successful apply. */
__attribute__((format(printf, 4, 5))) enum rk_status rk_refuse(struct rk_reply *reply,
                                                               enum rk_status status,
                                                               const char *field,
                                                               const char *format, ...);
void rk_event_emit(struct rk_apply *apply,
                   struct rk_event *event); /* index, ordinal set here */

/* --- offered by locks.c, queues*.c, caches*.c to the machine */

struct rk_sessions;
struct rk_locks;
struct rk_queues;
struct rk_caches;

RK_MUST_CHECK enum rk_status rk_sessions_new(struct rk_sessions **out);
void rk_sessions_free(struct rk_machine *machine, struct rk_sessions *sessions);

RK_MUST_CHECK enum rk_status rk_locks_new(struct rk_locks **out);
void rk_locks_free(struct rk_machine *machine, struct rk_locks *locks);
RK_MUST_CHECK enum rk_status rk_queues_new(struct rk_queues **out);
void rk_queues_free(struct rk_machine *machine, struct rk_queues *queues);
RK_MUST_CHECK enum rk_status rk_caches_new(struct rk_caches **out);
void rk_caches_free(struct rk_machine *machine, struct rk_caches *caches);

/* Handlers of the operations of each area; the machine's table says which op goes where.
 * They fill apply->reply. Anything but RK_OK stops the node (memory). */
typedef enum rk_status (*rk_apply_handler)(struct rk_machine *machine,
                                           struct rk_apply *apply);
typedef enum rk_status (*rk_query_handler)(struct rk_machine *machine,
                                           const struct rk_request *request, uint64_t now,
                                           struct rk_arena *arena, struct rk_reply *reply);

struct rk_op_handler {
    enum rk_op op;
    rk_apply_handler apply; /* NULL: a read */
    rk_query_handler query; /* NULL: a write */
};

extern const struct rk_op_handler rk_session_handlers[]; /* each ends with {RK_OP_NONE} */
extern const struct rk_op_handler rk_member_handlers[];
extern const struct rk_op_handler rk_lock_handlers[];
extern const struct rk_op_handler rk_queue_handlers[];
extern const struct rk_op_handler rk_cache_handlers[];
extern const struct rk_object_class rk_session_classes[]; /* each ends with {0} */
extern const struct rk_object_class rk_lock_classes[];
extern const struct rk_object_class rk_queue_classes[];
extern const struct rk_object_class rk_cache_classes[];
/* After a restore: rebuild what is derived, check references. RK_EPROTO: they do not hold.
 */
RK_MUST_CHECK enum rk_status rk_locks_restored(struct rk_machine *machine);
RK_MUST_CHECK enum rk_status rk_queues_restored(struct rk_machine *machine);
RK_MUST_CHECK enum rk_status rk_caches_restored(struct rk_machine *machine);

/* The running snapshot. Its stream stands in creation order whatever changes meanwhile. */
struct rk_snapshot_run {
    bool is_running;
    bool is_failed;         /* no memory */
    bool is_meta_out;       /* the machine's own record was given */
    uint32_t number;        /* of this snapshot */
    struct rk_list *cursor; /* next object to encode; the list's head at the end */
    uint64_t end_id;        /* objects above it are newer than the snapshot */
    struct rk_heap side;    /* records encoded early, before a change, by id */
    size_t side_size;       /* bytes of these */
    uint64_t out_size;      /* bytes of the records that were given */
    uint64_t all_size;      /* of the machine as of begin */
    struct rk_buf meta;     /* the machine's own record as of begin */
};

struct rk_change_mark {
    uint64_t id;
    uint8_t kind;
};

/* The change feed. */
struct rk_changes {
    bool is_on;
    struct rk_change_mark *marks; /* owned */
    uint64_t count, capacity;
    uint64_t live; /* objects marked that are still there */
};

struct rk_machine {
    uint32_t group;
    uint32_t version;     /* behaviour in force */
    uint32_t version_max; /* the newest one known here */
    uint64_t index;
    uint64_t time_ms; /* last stamp */
    uint64_t history;
    uint64_t fence;     /* group 0: the last one given */
    uint64_t object_id; /* the last one given */
    uint64_t bytes;
    uint64_t object_count;
    struct rk_buf members;
    struct rk_list objects; /* creation order */
    struct rk_object **ids; /* id table, grows incrementally or in power-of-two steps */
    size_t id_slots;        /* capacity of ids */
    size_t id_used;         /* buckets in use (linear hashing) */
    struct rk_heap timers;
    uint64_t lead_ms;      /* group time at which this node took over */
    uint32_t lead_count;   /* how often it did */
    struct rk_map clients; /* struct rk_client by name */
    struct rk_map answers; /* struct rk_answer by client's object id and seq */
    struct rk_arena arena; /* of the apply under way */
    struct rk_buf scratch; /* encoding of answers */
    struct rk_snapshot_run snapshot;
    struct rk_changes changes;
    const struct rk_op_handler *handlers[RK_OP_MAX];
    const struct rk_object_class *classes[RK_OBJECT_KIND_MAX];
    uint64_t doubted; /* a fence, see rk_machine_doubt_grants */
    bool is_restoring;
    bool is_holding;         /* grants are held back, see rk_machine_hold_grants */
    uint64_t restored_bytes; /* what the restored machine's own record promises */
    uint64_t restored_count;
    struct rk_sessions *sessions;
    struct rk_locks *locks;
    struct rk_queues *queues;
    struct rk_caches *caches;
};
#endif
