/* host_internal.h - what the files of server/host share: the host, its members, its groups
 * and, from call.h, the calls. Nothing outside server/host includes it.
 *
 * host.c open, close, turn; frames.c peer frames; birth.c identity and birth;
 * members.c who is known; reconcile.c what the groups make of the member table; groups.c
 * raft, log and machine of a group; pool.c, calls.c the calls and where they stand; bulk.c
 * calls split over groups; forward.c calls on their way to and from other nodes; reads.c
 * reads and keepalives; parked.c consumes that wait; clock.c group time; work.c what other
 * threads do; snapshots.c, transfer.c snapshots taken, sent, received; damage.c data that
 * failed a checksum; backup.c backups read from here; restore.c a history that begins from
 * one; balance.c leader placement; version.c the machine version; status.c what others see;
 * keeper.c, keeper_run.c sessions and locks whose records are in a store. */
#ifndef RK_HOST_HOST_INTERNAL_H
#define RK_HOST_HOST_INTERNAL_H

#include "base/alloc.h"
#include "base/arena.h"
#include "base/assert.h"
#include "base/hash.h"
#include "base/heap.h"
#include "base/list.h"
#include "base/map.h"
#include "base/random.h"
#include "host/call.h"
#include "host/host.h"
#include "host/work.h"
#include "raft/raft.h"
#include "raft/wire.h"
#include "ring/slots.h"
#include "api/delivery_id.h"
#include "state/machine.h"
#include "state/members.h"
#include "storage/backup.h"
#include "storage/entry_log.h"
#include "storage/snapshot.h"

enum {
    RK_HOST_CALLS_MAX = 131072,    /* open calls of clients and other nodes together */
    RK_HOST_FRAME_SEND = 1 << 20,  /* a frame that grows beyond is sent at once */
    RK_HOST_PROPOSE_MAX = 1 << 20, /* bytes given to raft in one go */
    RK_HOST_BATCH_SOFT = 24 << 20, /* no further append goes into a batch beyond */
    RK_HOST_APPEND_MAX =
        8 << 20, /* of a ready's entries; those beyond come with the next */
    RK_HOST_READY_MAX = 10 << 20, /* a ready in a batch: entries, snapshot, hard state */
    RK_HOST_READ_ROUNDS = 2,      /* read rounds under way, a group */
    RK_HOST_DEADLINE_MARGIN_MS = 10000,
    RK_HOST_HOME_LOST_MS = 2000, /* a wait without its home is cancelled after */
    RK_HOST_CLOCK_MAX_MS = 5000, /* a node further off the median does not lead */
    RK_HOST_DUE_MAX = 500,       /* timers in one entry */
    RK_HOST_DUE_BATCHES = 4,     /* such entries of a group in one turn */
    RK_HOST_DUE_LATE_MS = 2,     /* the clock of a turn is behind calls that come in it */
    RK_HOST_TOUCH_MS = 100,
    RK_HOST_CHUNK_SIZE = 256 << 10, /* of a snapshot on its way */
    RK_HOST_CHUNK_WINDOW = 4,
    RK_HOST_PASSES = 8,            /* over all groups in one flush */
    RK_HOST_APPLY_SIZE = 64 << 10, /* applied in one flush; a millisecond or two */
    RK_HOST_NAME_MAX = 64,         /* bytes of a node's name */
    RK_HOST_ADDRESS_MAX = 256,
    RK_HOST_PROBE_FRESH_MS = 3000,
};

/* What stands in a section of a peer frame; docs/protocol.md. */
enum rk_section {
    RK_SECTION_RAFT = 1,
    RK_SECTION_FORWARD = 2,
    RK_SECTION_FORWARD_REPLY = 3,
    RK_SECTION_FORWARD_DROP = 4,
    RK_SECTION_NODE = 5, /* addresses of the sender */
    RK_SECTION_SNAP_CHUNK = 6,
    RK_SECTION_SNAP_ACK = 7,
    RK_SECTION_HOLD = 8,   /* a leader was placed by hand */
    RK_SECTION_PROBED = 9, /* a new disk asks under a name that awaits one */
    RK_SECTION_BIRTH_PROBE = 16,
    RK_SECTION_BIRTH_ADOPT = 17,
    RK_SECTION_BIRTH_REFUSED = 18,
    RK_SECTION_TABLE = 19, /* the sender's member table */
};

struct rk_cluster_id {
    uint64_t high, low; /* both 0: none */
};

struct rk_member_link {
    struct rk_buf out; /* the frame being made */
    size_t section_at; /* of the open section */
    bool has_section;
    bool is_up;
};

/* A node as this one knows it: of --peers, of the member table, or both. This node too. */
struct rk_member {
    uint32_t at;     /* its place in the groups' sends, for as long as it is known */
    uint64_t number; /* 0 before birth, and when the table does not have it any more */
    uint64_t disk;   /* 0 unknown */
    char name[RK_HOST_NAME_MAX + 1];
    char peer[RK_HOST_ADDRESS_MAX], http[RK_HOST_ADDRESS_MAX], rpc[RK_HOST_ADDRESS_MAX];
    struct rk_member_link links[RK_LINK_COUNT];
    bool was_reached;         /* control or bulk were up once */
    struct rk_list forwarded; /* struct rk_call: sent there and not answered */
    struct rk_list taken;     /* struct rk_call: come from there and not answered */
    uint64_t heard_ms;        /* boot time of the last good frame; 0: never */
    int64_t wall_lead_ms;     /* its wall clock minus ours, as of then */
    uint64_t down_ms;         /* boot time at which the bulk link fell; 0: up or never up */
    uint64_t probe_ms;        /* boot time of its last birth probe; 0: never */
    uint64_t probe_disk;
    uint64_t probe_backup; /* digest of the backup that it is to begin from; 0: none */
    char probe_cluster[RK_HOST_NAME_MAX + 1];
    uint32_t machine_version; /* newest that it knows, as it says; 0: did not say */
    uint8_t odd_protocol;     /* another version of peer frames that it speaks; 0: none */
    uint64_t gone_ms;  /* boot time since which the table does not have it; 0: it has */
    uint64_t table_ms; /* boot time at which it was last sent the table */
    uint8_t wish;      /* enum rk_member_wish */
    bool is_told;      /* it told its addresses itself */
    bool is_damaged;   /* its data failed a checksum, as it says: it does not lead */
};

struct rk_read_round {
    uint64_t request; /* 0: free */
    uint64_t asked_ms;
    struct rk_list calls;
};

/* That this node's copy of a group's membership is no older than the member table. */
struct rk_conf_proof {
    uint64_t request; /* read round under way; 0: none */
    uint64_t asked_ms;
    uint64_t asked_version; /* of the table when it was asked for */
    uint64_t index;         /* that is to be applied here; 0: not known yet */
    uint64_t version;       /* proven for this table */
};

struct rk_group {
    struct rk_host *host;
    uint32_t id;
    struct rk_raft *raft;
    struct rk_machine *machine;
    struct rk_entry_log *log;
    struct rk_raft_conf_state conf, mark_conf;
    uint64_t mark_index, mark_term; /* newest snapshot that is durable */
    bool is_open;

    uint64_t collecting;   /* raft's number of the last append in the batch being filled */
    uint64_t writing;      /* likewise of the batch at the disk */
    uint64_t term, leader; /* as of the last ready */
    enum rk_raft_role role;
    bool is_serving;                     /* leads, and its no-op is applied */
    bool is_dirty;                       /* routing has something to try */
    uint64_t lead_boot_ms, lead_base_ms; /* group time while serving */
    uint64_t stamp_boot_ms; /* boot time at which the last new stamp was applied */
    uint64_t stamp_ms;
    uint64_t changed_ms; /* boot time of the last change of leader */
    uint64_t hold_ms;    /* boot time until which balance leaves it alone */
    uint64_t touched_ms;
    uint64_t transfer_ms; /* boot time of the last transfer begun here */
    uint64_t contact_ms;  /* boot time at which a majority was first heard; 0: never */
    uint64_t applying;    /* index and term of the entry under apply */
    uint64_t applying_term;

    struct rk_map calls; /* struct rk_call by client and seq: writes and cancels */
    struct rk_list routing, proposed, moving;
    uint32_t batch_calls;    /* at the end of proposed: encoded, not yet given to raft */
    struct rk_buf proposals; /* encoded commands */
    struct rk_buf own;       /* blobs: the leader's own requests, to be proposed first */
    struct rk_buf sizes;     /* u32 each: of proposals */
    uint32_t own_count;      /* at the front of proposals, of `own` */

    struct rk_list reads_new, reads_ready; /* not asked for; asked and not yet applied */
    struct rk_read_round rounds[RK_HOST_READ_ROUNDS];
    struct rk_conf_proof proof;

    struct rk_map topics;
    struct rk_list woken;

    uint64_t bytes_since_mark, entries_since_mark;
    uint64_t suspect_ms; /* boot time at which its snapshot was last doubted; 0: never */
    bool is_suspect;     /* it is to be read back next */
    const struct rk_wal_batch *clean_batch; /* when it is durable older snapshots go */
    bool must_clean;                        /* it is: they are to be removed */
    struct rk_machine *dying;               /* to be freed */
    struct rk_snapshot_send sends[RK_HOST_PEERS_MAX];
    uint64_t holds[RK_HOST_PEERS_MAX]; /* entries above stay for that peer; 0: none */
    struct rk_snapshot_receive receive;
};

/* The backup that the folder of a node holds before its birth, and that its history then
 * begins from. */
struct rk_host_restore {
    uint64_t digest;      /* 0: none */
    uint64_t index_floor; /* of the restored groups; decided at the birth */
    uint32_t group_count; /* data groups of the backup, before the birth */
    bool is_running;      /* from the decision until the groups are open */
    bool must_forget;     /* it was restored: its file goes */
    char dir[RK_FS_PATH_MAX], path[RK_FS_PATH_MAX];
    char differs[256]; /* how another node's backup differs; "": it does not */
    /* For the work of another thread, and its results. */
    struct rk_fs *fs;
    const char *snapshot_dir;
    uint32_t machine_version;
    struct rk_raft_conf_state conf;
    struct rk_snapshot_id ids[RK_HOST_GROUPS_MAX + 1];
};

struct rk_host {
    struct rk_host_io io;
    struct rk_fs *fs;
    struct rk_file *lock;
    char name[RK_HOST_NAME_MAX + 1];
    char cluster_wish[RK_HOST_NAME_MAX + 1];
    char cluster_name[RK_HOST_NAME_MAX + 1];
    char wal_dir[RK_FS_PATH_MAX], snapshot_dir[RK_FS_PATH_MAX];
    uint32_t tick_ms, election_timeout_ms, heartbeat_ms;
    uint64_t fence_floor, snapshot_bytes, side_bytes, slice_bytes, verify_ms;
    uint32_t machine_version; /* newest that this node takes part in */
    struct rk_random random;
    struct rk_host_time now;
    uint64_t ticked_ms; /* boot time up to which raft was ticked; 0: never */
    uint64_t beat_ms;   /* boot time of the next work of each heartbeat */
    uint64_t second_ms; /* and of each second */
    bool has_time;
    bool is_dead;    /* fatal was reported */
    bool is_running; /* born or adopted */
    bool is_stopping;
    bool is_full; /* operations that grow are refused */
    bool has_lease_reads;
    uint64_t uncommitted_bytes; /* 0: raft's default */
    bool is_clock_off;
    bool is_removed;    /* the table has this node's number no more */
    bool has_new_table; /* group 0 has applied one */
    bool has_more;      /* the last flush left work */
    bool has_slices;    /* see rk_host_slice */
    uint64_t stop_ms;
    uint64_t started_ms;
    uint64_t flush_size; /* bytes of entries applied in this flush */
    uint32_t pass_at;    /* the group that is next */
    char refused[256];
    char damage[256]; /* what of its data failed a checksum; "": nothing */

    /* Identity, durable. */
    uint64_t disk;
    struct rk_cluster_id cluster;
    uint64_t history;
    uint64_t number;
    uint32_t group_count; /* data groups */
    bool is_adopting;     /* the identity is in a batch, not yet durable */
    bool is_adopt_writing;
    struct rk_buf table; /* the member table, the newest that this node knows */
    uint64_t table_version;
    uint64_t members_version;  /* raised when who or where members are changes */
    uint64_t proposed_version; /* of the last table proposed here, and when */
    uint64_t proposed_ms;

    struct rk_member *members[RK_HOST_PEERS_MAX]; /* owned, by name */
    uint32_t member_count;
    struct rk_member *self;

    struct rk_group *groups[RK_HOST_GROUPS_MAX + 1]; /* 0 .. group_count while running */
    struct rk_slot_map slots;

    struct rk_wal *wal;
    struct rk_wal_batch batches[2];
    struct rk_wal_batch *filling;
    struct rk_wal_batch *writing; /* NULL: none at the disk */
    bool is_urgent;               /* filling must be durable soon */

    struct rk_call **call_slots; /* owned, by slot */
    uint32_t call_slot_count, call_slot_capacity;
    struct rk_call *free_calls;
    uint32_t call_count;
    struct rk_map numbers;
    struct rk_heap timers;
    struct rk_lane *free_lanes;
    struct rk_lane **lanes; /* all of them, owned */
    uint32_t lane_count, lane_capacity;
    uint64_t boot_id;
    uint64_t read_request; /* the last one used */

    struct rk_host_restore restore;
    struct rk_host_backup backup;
    struct rk_keeper *keeper; /* NULL: sessions and locks are in the log */

    struct rk_snapshot_taking taking;
    struct rk_host_work works[RK_HOST_LANES];
    uint32_t transfer_at;  /* whose turn it is in the transfer lane */
    struct rk_group *wish; /* to be snapshotted next; NULL: none */
    uint64_t wish_index;   /* and compacted up to here */
    uint64_t verify_at_ms; /* boot time at which the next snapshot is read back */
    uint32_t verify_group; /* the last one read back in turn */

    struct rk_arena arena;   /* decodes; reset at the end of each event */
    struct rk_arena replies; /* queries and merges */
    struct rk_buf scratch;
    struct rk_host_metrics metrics;
    struct rk_host_group_status *group_status;
    struct rk_host_node_status *node_status;
    char cluster_text[40];
    char state_text[384];
};

/* host.c */
__attribute__((format(printf, 3, 4))) void
rk_host_log(struct rk_host *host, enum rk_log_level level, const char *format, ...);
__attribute__((format(printf, 3, 4))) void
rk_host_fatal(struct rk_host *host, enum rk_status status, const char *format, ...);
static inline uint64_t rk_host_now(const struct rk_host *host)
{
    return host->now.boot_ms;
}

/* status.c: why the node does not join; "" where nothing is known against it. */
const char *rk_host_refusal(const struct rk_host *host);

/* frames.c: sections gather in one frame a member and link; all are sent at the end of the
 * turn. The buffer is open until the end of the section. */
struct rk_buf *rk_host_section(struct rk_host *host, struct rk_member *member,
                               enum rk_host_link link, enum rk_section kind);
void rk_host_section_end(struct rk_host *host, struct rk_member *member,
                         enum rk_host_link link);
void rk_host_frames_send(struct rk_host *host);

/* birth.c */
enum rk_status rk_host_identity_load(struct rk_host *host, struct rk_slice node,
                                     struct rk_storage_error *why);
void rk_host_identity_encode(const struct rk_host *host, struct rk_buf *out);
enum rk_status rk_host_identity_write(struct rk_host *host); /* into the next batch */
void rk_host_birth_beat(struct rk_host *host);
/* The node can be reached, or was heard for the first time: it is told who this one is. */
void rk_host_member_greet(struct rk_host *host, struct rk_member *member);
void rk_host_birth_receive(struct rk_host *host, struct rk_member *from, uint64_t disk,
                           const struct rk_cluster_id *cluster, uint16_t kind,
                           struct rk_slice body);
void rk_host_birth_written(struct rk_host *host);
void rk_host_probed_receive(struct rk_host *host, struct rk_slice body);
void rk_host_node_section(struct rk_host *host, struct rk_member *to);
void rk_host_node_receive(struct rk_host *host, struct rk_member *from,
                          struct rk_slice body);
/* A group's first membership: the voters at the birth of the cluster. It stands in no log
 * entry, so every node that joins learns it from the member table. */
void rk_host_first_conf(const struct rk_host *host, struct rk_raft_conf_state *out);
/* The backup was turned into the first snapshots, or not. */
void rk_host_birth_restored(struct rk_host *host, enum rk_status status, const char *why);
/* Makes a fresh cluster's first entries if this group has none yet: when it begins to
 * serve, and each second until they are applied. */
void rk_host_birth_propose(struct rk_group *group);

/* restore.c */
/* At the start: looks whether the folder holds a backup to begin from. */
enum rk_status rk_host_restore_open(struct rk_host *host, const char *data,
                                    struct rk_storage_error *error);
/* Before the birth: whether all nodes are to begin from the same. */
void rk_host_restore_compare(struct rk_host *host);
/* Turns the backup into the groups' first snapshots; then rk_host_birth_restored. */
void rk_host_restore_start(struct rk_host *host);
enum rk_status rk_restore_convert(struct rk_host_restore *restore,
                                  struct rk_storage_error *error); /* any thread */
enum rk_status rk_host_restore_mark(struct rk_host *host);         /* in the next batch */
/* As recovery would find it; to be freed as that. */
enum rk_status rk_host_restore_found(const struct rk_host *host, uint32_t group,
                                     struct rk_wal_group *out);
void rk_host_restore_done(struct rk_host *host); /* all of it is durable */
enum rk_status rk_restore_forget(const struct rk_host_restore *restore, struct rk_fs *fs,
                                 struct rk_storage_error *error); /* any thread */
/* Seconds since 2020, times 2^20: above what any earlier history can have counted up to. */
uint64_t rk_host_time_floor(const struct rk_host *host);

/* members.c */
struct rk_member *rk_host_member_by_name(const struct rk_host *host, struct rk_slice name);
struct rk_member *rk_host_member_by_number(const struct rk_host *host, uint64_t number);
bool rk_member_is_up(const struct rk_host *host, const struct rk_member *member);
bool rk_member_addresses_take(struct rk_member *member, struct rk_slice peer,
                              struct rk_slice http, struct rk_slice rpc);
bool rk_host_text_take(char *out, size_t size, struct rk_slice text);
enum rk_status rk_host_members_of_options(struct rk_host *host,
                                          const struct rk_host_options *options);
enum rk_status rk_host_table_take(struct rk_host *host, struct rk_slice table);
/* Group 0 has a table that may be newer than what this node follows. */
void rk_host_members_applied(struct rk_host *host);
void rk_host_table_send(struct rk_host *host, struct rk_member *to);
void rk_host_table_receive(struct rk_host *host, const struct rk_cluster_id *cluster,
                           struct rk_slice body);
void rk_host_ghosts_check(struct rk_host *host);

/* reconcile.c */
void rk_host_reconcile(struct rk_host *host); /* at each heartbeat */
void rk_group_conf_confirmed(struct rk_group *group, const struct rk_raft_read_state *read);
const char *rk_member_role(const struct rk_host *host, const struct rk_member *member);
bool rk_host_is_reconciled(const struct rk_host *host);

/* groups.c */
enum rk_status rk_group_new(struct rk_group **out, struct rk_host *host, uint32_t id);
/* Opens log, machine and raft with what recovery found; found may be NULL: a new group. */
enum rk_status rk_group_open(struct rk_group *group, struct rk_wal_group *found,
                             struct rk_storage_error *error);
void rk_group_free(struct rk_group *group);
void rk_group_tick(struct rk_group *group);
/* Runs readies; true if it did something. */
bool rk_group_run(struct rk_group *group);
void rk_group_written(struct rk_group *group);
/* Tells raft that its append is durable and clears *number; nothing if it is 0. */
void rk_group_appended(struct rk_group *group, uint64_t *number);
/* Gives the encoded proposals to raft. */
void rk_group_propose(struct rk_group *group);
void rk_group_receive(struct rk_group *group, struct rk_member *from,
                      struct rk_slice message);
bool rk_group_is_leader(const struct rk_group *group);
struct rk_member *rk_group_leader(const struct rk_group *group); /* NULL: none or unknown */
/* A leader's own request, to be proposed with the next ones. */
void rk_group_own(struct rk_group *group, const struct rk_buf *request);
void rk_group_own_encode(struct rk_group *group); /* into the next proposals */
void rk_group_timers(struct rk_group *group);
/* Members of the group heard within an election timeout are a majority. */
bool rk_group_has_contact(const struct rk_group *group);

/* clock.c */
uint64_t rk_group_time(const struct rk_group *group);
void rk_group_clock_lead(struct rk_group *group);
void rk_group_clock_applied(struct rk_group *group);
void rk_host_clock_check(struct rk_host *host);
/* Its clock is near the median of those heard. True where there is none to compare with. */
bool rk_host_is_clock_fit(const struct rk_host *host, const struct rk_member *member);

/* damage.c */
bool rk_host_is_damaged(const struct rk_host *host);
void rk_group_suspect(struct rk_group *group); /* its snapshot file may be damaged */
/* Has a snapshot read back, if one is due; rk_host_verified takes the verdict. */
bool rk_host_verify_begin(struct rk_host *host);
void rk_host_verified(struct rk_host *host, const struct rk_host_work *work);
/* From now on this node neither votes nor leads; why names file and offset. */
void rk_host_damaged(struct rk_host *host, const char *why);
void rk_host_damaged_run(struct rk_host *host); /* each heartbeat, while damaged */

/* version.c */
enum rk_status rk_group_machine_new(const struct rk_group *group, struct rk_machine **out);
/* Each second: the leader raises the machine version once all members know a newer one. */
void rk_group_version_check(struct rk_group *group);
/* The entry that can not be applied, or the record that does not load, ends the node. */
void rk_group_entry_fatal(struct rk_group *group, const struct rk_raft_entry *entry,
                          enum rk_status status);
enum rk_status rk_group_record_fail(const struct rk_group *group,
                                    const struct rk_machine *machine,
                                    struct rk_slice record, uint64_t index,
                                    enum rk_status status, struct rk_storage_error *error);

/* balance.c */
void rk_host_balance(struct rk_host *host);
/* The member that the group is dealt to; NULL: none is a voter. */
struct rk_member *rk_group_preferred(const struct rk_group *group);
/* How many are to lead it before this node. */
uint32_t rk_group_place(const struct rk_group *group);
void rk_group_transfer_call(struct rk_call *call, const struct rk_request *request);
void rk_group_moving_check(struct rk_group *group);
void rk_host_stop_run(struct rk_host *host);
void rk_host_hold_receive(struct rk_host *host, struct rk_slice body);
bool rk_group_hand_over(struct rk_group *group, struct rk_member *to);
/* To whoever has most of the log. False: there is nobody. */
bool rk_group_step_aside(struct rk_group *group);
#endif
