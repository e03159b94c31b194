/* machine.h - the deterministic state machine of one group.
 *
 * apply(entry) -> replies, events. No clock, no randomness, no pointer or hash order:
 * the same entries give the same state, replies and hash on every node. Group 0 holds
 * sessions and locks, data groups queues and caches; every group holds dedup records. */
#ifndef RK_STATE_MACHINE_H
#define RK_STATE_MACHINE_H

#include "api/api.h"
#include "base/arena.h"
#include "state/command.h"

enum {
    RK_MACHINE_VERSION_FIRST = 1, /* with which every history begins, for ever */
    RK_MACHINE_VERSION = 1,       /* the newest behaviour that this build knows */
    RK_CLIENT_NAME_MAX = 64,      /* bytes of a client id */
    RK_CLIENT_IDLE_MS = 3600000,  /* an idle client's dedup records go after this */
    RK_CLIENTS_MAX = 65536,       /* a group; more are refused, none is forgotten */
    RK_CLIENT_REPLIES_MAX = 4096, /* kept for one client; more are refused (busy) */
    RK_MACHINE_WHY_SIZE = 128     /* room for a line of rk_machine_explain_* */
};

struct rk_machine;

struct rk_machine_options {
    uint32_t struct_size;
    uint32_t group;
    uint32_t version_max; /* the newest behaviour taken part in; 0: all that is known */
};

enum rk_event_kind {
    RK_EVENT_LOCK_LOST = 1, /* owner, session, resource, fence: involuntary loss */
    RK_EVENT_TOPIC_READY,   /* topic has a message that can be handed out */
    RK_EVENT_INVALIDATE,    /* cache, key, version */
    RK_EVENT_SESSION_ENDED, /* session */
    RK_EVENT_MEMBERS,       /* bytes: the member table changed */
};

/* Borrowed for the call. */
struct rk_event {
    enum rk_event_kind kind;
    uint64_t index;
    uint32_t ordinal; /* within the entry */
    struct rk_slice owner, session, resource, topic, cache, key, bytes;
    uint64_t fence;
    uint64_t version;
};

/* Where apply sends its effects. All pointers are borrowed for the call. The callbacks
 * must not call back into the machine. */
struct rk_machine_output {
    void *context;
    /* The answer to (client, seq): to this entry's request, or to an earlier one that
     * waited (a granted, timed out, cancelled or deadlocked acquire). Entries without a
     * client, the leader's own, are not answered. */
    void (*reply)(void *context, struct rk_slice client, uint64_t seq,
                  const struct rk_reply *reply);
    /* (client, seq) now waits, or waits already and asked again from node `home`. */
    void (*pending)(void *context, struct rk_slice client, uint64_t seq, uint64_t home);
    void (*event)(void *context, const struct rk_event *event);
};

RK_MUST_CHECK enum rk_status rk_machine_new(struct rk_machine **out,
                                            const struct rk_machine_options *options);
void rk_machine_free(struct rk_machine *machine); /* NULL is fine */

/* Applies the next entry. Empty data (a leader's no-op) only moves the index.
 * RK_OK: done, also when the answer is an error. RK_EUNSUPPORTED: an operation or version
 * this build does not know; RK_EPROTO: undecodable; RK_ENOMEM: the node must stop, since
 * its state no longer follows the log. output may be NULL (replay).
 *
 * Behaviour is that of version 1 until an RK_OP_MACHINE_VERSION raises it: handlers switch
 * on rk_machine_version alone, so an old log replays to the old state for ever. */
RK_MUST_CHECK enum rk_status rk_machine_apply(struct rk_machine *machine, uint64_t index,
                                              struct rk_slice data,
                                              const struct rk_machine_output *output);
/* Why an entry's data, or a record given to rk_machine_restore, is RK_EUNSUPPORTED: one
 * line that names the version or operation. Empty if it is not. */
void rk_machine_explain_entry(const struct rk_machine *machine, struct rk_slice data,
                              char out[RK_MACHINE_WHY_SIZE]);
void rk_machine_explain_record(const struct rk_machine *machine, struct rk_slice record,
                               char out[RK_MACHINE_WHY_SIZE]);

uint64_t rk_machine_index(const struct rk_machine *machine);   /* last applied */
uint64_t rk_machine_time(const struct rk_machine *machine);    /* last stamp, ms */
uint64_t rk_machine_history(const struct rk_machine *machine); /* 0 before birth */
uint32_t rk_machine_version(const struct rk_machine *machine); /* behaviour in force */
uint64_t rk_machine_fence(const struct rk_machine *machine);   /* the last one given */
/* Logical bytes of all live objects, a versioned function of their records. */
uint64_t rk_machine_bytes(const struct rk_machine *machine);
uint64_t rk_machine_object_count(const struct rk_machine *machine);

/* Time at the leader. None of this is replicated. `now` is group time in ms.
 *
 * lead: this node leads and its no-op is applied. Every duration (lease, ttl, wait,
 * visibility, delay) begins again at `now`, as it is written down: of long ones a leader
 * notes now and then how much is over (RK_OP_ELAPSED). Absolute times stay. */
void rk_machine_lead(struct rk_machine *machine, uint64_t now);
/* When rk_machine_due may have something to say; UINT64_MAX if never. */
uint64_t rk_machine_next_due(const struct rk_machine *machine);
/* Appends to out one encoded request with up to max timers and returns how many: RK_OP_DUE
 * with those that have run out, which are marked proposed, or RK_OP_ELAPSED. Call again
 * until 0, and later when rk_machine_next_due is still not after now: a call does a bounded
 * amount of work, and a new leader has every timer to look at. */
uint32_t rk_machine_due(struct rk_machine *machine, uint64_t now, uint32_t max,
                        struct rk_buf *out);
/* A quorum round that began after the keepalive came is confirmed: the session lives
 * from `now`. RK_ESESSION: there is none. RK_EBUSY: an entry about it is proposed, its
 * expiry or that its ttl begins again; ask again when that is applied. */
RK_MUST_CHECK enum rk_status rk_machine_keepalive(struct rk_machine *machine,
                                                  struct rk_slice session, uint64_t now,
                                                  uint64_t *ttl_ms);

/* Whether an answer to (client, seq) is kept, or one is pending: the request was applied.
 */
bool rk_machine_remembers(const struct rk_machine *machine, struct rk_slice client,
                          uint64_t seq);

/* Reads: lock.check|info|list|graph, session.list, queue.peek|info|list|stats,
 * cache.get|stats. The reply's slices point into the machine or arena: use it before the
 * next apply. now is group time (hard TTLs count by it). Records recency for touch_take. */
RK_MUST_CHECK enum rk_status rk_machine_query(struct rk_machine *machine,
                                              const struct rk_request *request,
                                              uint64_t now, struct rk_arena *arena,
                                              struct rk_reply *reply);
/* How many messages of topic could be handed out now. */
uint64_t rk_machine_ready_count(const struct rk_machine *machine, struct rk_slice topic);
/* Appends one encoded RK_OP_TOUCH request with the recency of reads since the last call.
 * False: nothing to say. */
bool rk_machine_touch_take(struct rk_machine *machine, struct rk_buf *out);
/* Calls visit for every waiting acquire, in no particular order (a new leader checks
 * homes). */
void rk_machine_waits_each(const struct rk_machine *machine,
                           void (*visit)(void *context, struct rk_slice client,
                                         uint64_t seq, uint64_t home),
                           void *context);
/* The member table last set (group 0); empty if never. Valid until the next apply. */
struct rk_slice rk_machine_members(const struct rk_machine *machine);

/* Snapshots: the stream of all records as of begin, while apply goes on in between.
 * One at a time: begin gives RK_EBUSY otherwise. step appends whole records, each a blob,
 * until about `budget` bytes were added or all are out (*is_done). RK_ENOMEM ends it.
 * What apply changes before its turn is kept aside as it was: the caller bounds that, by
 * taking more steps or applying less. */
RK_MUST_CHECK enum rk_status rk_machine_snapshot_begin(struct rk_machine *machine);
RK_MUST_CHECK enum rk_status rk_machine_snapshot_step(struct rk_machine *machine,
                                                      struct rk_buf *out, size_t budget,
                                                      bool *is_done);
struct rk_snapshot_progress {
    uint64_t side_bytes; /* kept aside */
    uint64_t out_bytes;  /* of the records given so far */
    uint64_t all_bytes;  /* of all of them, about */
};
void rk_machine_snapshot_progress(const struct rk_machine *machine,
                                  struct rk_snapshot_progress *out);
void rk_machine_snapshot_end(struct rk_machine *machine); /* done or given up; idempotent */
/* The same for one that was given up with much aside, a little at a time: true when at most
 * `max` more records were to be freed. */
bool rk_machine_snapshot_discard(struct rk_machine *machine, uint32_t max);

/* Restore into a fresh machine: every record in order, then finish with the index and
 * the check that all references hold. RK_EPROTO, RK_EUNSUPPORTED, RK_ENOMEM: throw it away.
 */
RK_MUST_CHECK enum rk_status rk_machine_restore(struct rk_machine *machine,
                                                struct rk_slice record);
RK_MUST_CHECK enum rk_status rk_machine_restore_finish(struct rk_machine *machine,
                                                       uint64_t index);

/* The change feed: what became of the records since they were last taken. A map of records
 * by (kind, id) to which each take is applied, the machine's own record among them,
 * restores to an equal machine, once its records are put in the order of their ids, the
 * machine's own first. It is off until rk_machine_changes_all, which marks all that is
 * there; then it costs 16 bytes an object. */
struct rk_machine_change {
    uint8_t kind;
    uint64_t id;            /* 0: the machine's own record, which is among all changes */
    struct rk_slice record; /* lent; empty: the object is gone */
};
/* RK_ENOMEM: as before. */
RK_MUST_CHECK enum rk_status rk_machine_changes_all(struct rk_machine *machine);
/* How many objects changed. */
uint64_t rk_machine_changes_count(const struct rk_machine *machine);
/* Appends what changed, to be read with rk_machine_change_read. Nothing is taken by it: a
 * failure (RK_ENOMEM: out is not to be used) can be followed by another try. */
RK_MUST_CHECK enum rk_status rk_machine_changes_put(struct rk_machine *machine,
                                                    struct rk_buf *out);
/* From here on counts what comes. */
void rk_machine_changes_taken(struct rk_machine *machine);
/* False at the end. */
bool rk_machine_change_read(struct rk_reader *in, struct rk_machine_change *out);

/* How a lock looks to a reader of a store that people look into: names lent by the machine,
 * arrays in the arena, until the next apply. */
struct rk_lock_view {
    struct rk_slice name;
    struct rk_slice session; /* of the first holder; empty: none */
    uint8_t mode;            /* enum rk_mode, of the holders */
    bool is_closed;          /* nobody gets it for now (min_hold_ms, lock_delay_ms) */
    uint64_t fence;          /* of the last grant */
    uint64_t limit;          /* permits of a semaphore; 0: a lock */
    uint64_t lease_ms;       /* of the first holder; 0: as long as its session */
    uint64_t granted_ms;     /* group time of the first holder's grant */
    uint32_t holder_count, waiter_count;  /* all of them */
    struct rk_slice *owners;              /* the oldest holders first */
    struct rk_slice *waiters;             /* in the order of service */
    uint32_t owners_shown, waiters_shown; /* at most `max` each */
};
/* Of the lock that is the object `id`. RK_ENOENT: there is none. RK_ENOMEM. */
RK_MUST_CHECK enum rk_status rk_machine_lock_view(const struct rk_machine *machine,
                                                  uint64_t id, uint32_t max,
                                                  struct rk_arena *arena,
                                                  struct rk_lock_view *out);
/* For a leader that may not know of all grants (its store lost some): while set nobody is
 * granted what he does not hold; who waits, waits on, and an acquire that does not wait is
 * refused as unavailable, not remembered. Not replicated. After its end the next birth
 * (RK_OP_BIRTH) serves who waits. */
void rk_machine_hold_grants(struct rk_machine *machine, bool is_held);
/* Grants up to this fence may have been given back, or lost, since: their store went back
 * in time. A holder that asks for one again gets a new fence, and not while grants are held
 * back. Not replicated. 0: none. */
void rk_machine_doubt_grants(struct rk_machine *machine, uint64_t fence);

/* What a record is, by its first byte: "lock", "message" ...; NULL: not known. */
const char *rk_machine_record_name(const struct rk_machine *machine,
                                   struct rk_slice record);

/* Of a restored machine that is to begin a new history: what belongs to the clients of the
 * old one ends. Sessions, holds and waits go, and the answers remembered for them; minimum
 * holds and lock delays stay. Messages in flight are ready again, uncounted; remembered
 * consumes go. The fence counter makes a step. What remains: dedup of writes, seen fences,
 * messages, entries, settings. The machine then has no history and no members, as before a
 * birth. Deterministic: it follows the machine version, as apply does. RK_ENOMEM: throw it
 * away. */
RK_MUST_CHECK enum rk_status rk_machine_retire(struct rk_machine *machine);

/* Digest of all records in creation order: equal on all nodes at the same index. O(n). */
RK_MUST_CHECK enum rk_status rk_machine_hash(struct rk_machine *machine, uint64_t *out);
#endif
