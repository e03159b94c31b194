/* sim.h - a whole cluster in one process: the shipped host, raft, log and state machines on
 * a simulated clock, network and disks.
 *
 * One seed decides everything, so that it replays. run.c is its life; world.c the clock and
 * the nodes, net.c the connections between them, messages.c what raft bears beyond what
 * connections do, disk.c what a node writes and what a crash leaves of it, faults.c what
 * goes wrong, raft_check.c, matching.c, bounds.c and ballots.c what must hold inside,
 * members.c and operator.c who takes part, client.c and the workloads locks.c, queues.c,
 * caches.c what clients do and what they must see, probes.c that the cluster goes on once
 * faults are over. */
#ifndef RK_TEST_SIM_H
#define RK_TEST_SIM_H

#include "base/heap.h"
#include "base/list.h"
#include "base/map.h"
#include "base/random.h"
#include "host/host.h"
#include "storage/memfs.h"
#include "storage/reserve.h"

#include <stdbool.h>
#include <stdint.h>

enum {
    SIM_NODES_MAX = 7,
    SIM_GROUPS_MAX = 4, /* group 0 included */
    SIM_CLIENTS_MAX = 12,
    SIM_NUMBERS_MAX = 64,  /* that the cluster ever gives to its nodes */
    SIM_TERMS_KEPT = 8,    /* of what a candidate asked for */
    SIM_TABLES_MAX = 1024, /* versions of the member table */
    SIM_ROWS_MAX = 16,
    SIM_ATTEMPTS_MAX = 8, /* calls under way for one operation */
};

struct sim;
struct sim_node;

/* What Raft and its users live by. Each can be left out of a run (--without), to see who
 * else finds a planted bug. */
enum sim_rule {
#define SIM_RULE(rule, text) SIM_RULE_##rule,
#include "rules.def"
#undef SIM_RULE
    SIM_RULES
};

/* What a seed decides at its start. */
struct sim_config {
    uint32_t nodes, slots; /* members at birth; names of nodes that there are */
    uint32_t groups, clients;
    uint32_t election_ms, heartbeat_ms;
    uint64_t snapshot_bytes, segment_bytes;
    uint64_t net_min_us, net_max_us;
    uint64_t disk_min_us, disk_max_us;
    uint64_t drift_ppm;         /* clocks run by up to this too fast or too slow */
    uint64_t fault_ms;          /* mean time between faults */
    uint64_t faults;            /* bits of enum fault */
    uint64_t gap_ms;            /* mean pause of a client between operations */
    uint64_t run_ms;            /* under faults */
    uint64_t uncommitted_bytes; /* of a leader's proposals; 0: the host's own bound */
    uint64_t reserve_bytes;     /* each disk keeps back; 0: disks never fill up */
    bool has_leases;            /* reads trust clocks; no early vote */
    uint32_t resources, topics, keys;
    bool has_message_faults; /* of every thousand messages so many: */
    uint64_t lost_per_mille, twice_per_mille, late_per_mille, short_per_mille;
};

typedef void (*sim_action)(struct sim *sim, struct sim_node *node, void *context,
                           uint64_t number);

struct sim_event {
    struct rk_heap_node heap;
    struct rk_list link; /* in a paused node's backlog */
    uint64_t time_us, order;
    sim_action action;
    struct sim_node *node; /* NULL: of the world */
    uint64_t life;         /* of the node; it must still live it */
    void *context;
    uint64_t number;
    void (*drop)(void *context); /* frees context when the event never runs; may be NULL */
    bool is_of_world;            /* runs although the node is down or paused */
};

/* The log of one group on one node, as it was given to the disk: entry terms by index. */
struct sim_shadow {
    uint64_t *terms;
    uint64_t first, last, capacity; /* terms[i] holds for first <= i <= last */
};

struct sim_asked { /* a vote, by a candidate */
    uint64_t number, term;
    bool must_refuse, may_grant;
};

struct sim_group_view { /* of one node */
    uint64_t term, vote, commit, applied;
    bool is_leader;
    uint64_t lead_us;                          /* since when */
    struct sim_shadow seen;                    /* after the last turn */
    struct sim_shadow given;                   /* to the disk */
    struct sim_shadow durable;                 /* and completed */
    uint64_t voted_term, voted_for;            /* as said on the wire */
    uint64_t heard_ms, heard_from, heard_term; /* from its leader, by its own clock */
    bool has_evidence;                         /* that this leader is gone */
    /* By number and term: an answer leaves when it is durable, after later requests. */
    struct sim_asked asked[2][SIM_NUMBERS_MAX][SIM_TERMS_KEPT];
    /* As the leader of change_term: entries up to change_seen were looked at, the last one
     * that changes the membership is change_index. */
    uint64_t change_term, change_seen, change_index;
    /* As the leader of own_term: entries up to own_last were looked at; is_counted once
     * raft's count of what is not committed is exact. */
    uint64_t own_term, own_last;
    bool is_counted;
};

/* The node dies right after it did this. */
enum sim_armed {
    ARMED_NONE,
    ARMED_VOTE,
    ARMED_ACK,
    ARMED_APPEND,
    ARMED_REPLY,
    ARMED_WRITE,
    ARMED_WORK,
};

struct sim_node {
    struct sim *sim;
    uint32_t at;
    char name[16];
    uint64_t number;                      /* under which it takes part; 0: not yet */
    uint64_t table_version, members_seen; /* of the host's, when last looked at */
    struct rk_memfs *disk;
    struct rk_host *host; /* NULL: down */
    uint64_t life;        /* raised at each start and each end */
    uint64_t wipes;
    bool is_paused, is_turn_open, is_stopping;
    bool is_silent;  /* down without anyone to refuse connections */
    bool is_absent;  /* nobody starts it: a spare, or its disk is corrupt */
    bool is_lost;    /* the number that it had is gone with its disk */
    bool is_joiner;  /* started with the members of now as its peers */
    bool is_flipped; /* its data may be refused by our doing */
    bool may_fail;   /* its disk fails by our doing */
    bool has_fallen; /* fatal was reported */
    bool is_cleanly_idle;
    struct rk_list backlog; /* of a paused node */
    uint64_t timer;         /* number of the timer that counts */
    uint64_t turn_us;       /* when the last turn began */
    uint64_t rate_ppm;      /* 1,000,000: exact */
    uint64_t clock_from_us, clock_base_us, boot_ms;
    int64_t wall_lead_ms;
    uint64_t disk_min_us, disk_max_us, disk_stuck_until_us;
    struct rk_wal *wal;
    struct rk_wal_batch *batch; /* at the disk */
    uint64_t batch_us;          /* since when */
    bool is_batch_written;      /* and not yet reported */
    uint64_t tend;
    struct rk_host_work *work[RK_HOST_LANES];
    struct rk_reserve reserve;
    bool has_reserve;       /* it is open */
    bool is_refused;        /* the log met a full disk since the last look */
    bool is_full, was_full; /* as told to the host; also before the last turn */
    bool is_limited;        /* its disk has little room, by our doing */
    uint64_t capacity;      /* then, in all */
    uint64_t heard_us[SIM_NODES_MAX];
    uint64_t unpaused_us;
    enum sim_armed armed;
    struct sim_group_view views[SIM_GROUPS_MAX];
    char fatal[300];
};

enum conn_state { CONN_DOWN, CONN_CONNECTING, CONN_UP };

struct sim_conn { /* what `from` sends to `to` over one link */
    enum conn_state state;
    bool is_wanted; /* its sender knows such a peer */
    uint32_t from, to, link;
    uint64_t epoch;         /* of the connection; packets carry it */
    uint64_t receiver_from; /* the receiver takes packets of this epoch and later */
    uint64_t attempt;       /* number of what was scheduled last */
    uint64_t arrival_us;    /* of the last packet */
    uint64_t stall_us;      /* since when it is cut; 0: not */
    uint64_t backoff_us;
    struct rk_list stalled; /* packets that wait for the end of a cut */
};

struct sim_committed {
    uint64_t term;      /* of the entry */
    uint64_t seen_term; /* term of the node at which its commit was first seen */
    uint64_t hash;      /* of the state after it; 0: not taken */
};

struct sim_matched {         /* an entry that some log had, committed or not */
    uint64_t term, previous; /* the term of the entry before it */
    uint64_t hash, size;     /* of its data */
    uint32_t older;          /* what others had at this index: its place and 1; 0: none */
};

struct sim_conf { /* a membership, from index on; sets are bits by number */
    uint64_t index, since_us;
    uint64_t voters, outgoing, learners, next;
};

struct sim_number { /* that the cluster gave to a node */
    uint32_t slot;  /* and 1; 0: not yet seen */
    uint64_t disk;  /* 0: none came yet */
    bool is_lost;
    struct sim_shadow durable[SIM_GROUPS_MAX]; /* what it held when it was lost */
};

struct sim_row {
    uint64_t number, disk;
    uint32_t slot;
    uint8_t wish;
};

struct sim_members {
    struct sim_number numbers[SIM_NUMBERS_MAX];
    uint64_t tables[SIM_TABLES_MAX]; /* hash by version; 0: not seen */
    uint64_t version;                /* of the newest, which follows */
    struct sim_row rows[SIM_ROWS_MAX];
    uint32_t row_count;
    uint64_t present, gone; /* numbers in it, and no longer in any */
};

struct sim_history { /* of one group */
    struct sim_committed *entries;
    uint64_t count, capacity; /* entries 1 .. count - 1 are committed */
    uint64_t shown;           /* the highest index that any node ever applied */
    struct sim_matched *matched;
    uint32_t matched_count, matched_capacity;
    uint32_t *matched_at; /* by index: the place of the newest and 1; 0: none */
    uint64_t matched_end; /* as many indexes */
    uint64_t *leaders;    /* number by term; 0: none seen */
    uint64_t leader_capacity;
    uint8_t *campaigns; /* by term: somebody was a candidate */
    uint64_t campaign_capacity;
    struct sim_conf *confs; /* as the committed entries up to conf_seen say */
    uint32_t conf_count, conf_capacity;
    uint64_t conf_seen;
};

struct sim_counts {
#define SIM_COUNT(field, text) uint64_t field;
#define SIM_COUNTS_WORK
#include "counts.def"
#undef SIM_COUNT
#undef SIM_COUNTS_WORK
};

/* A section of a peer frame; body.data - 6 is where its head stands. */
struct sim_section {
    uint16_t kind;
    struct rk_slice body;
};

struct sim_locks;
struct sim_queues;
struct sim_caches;
struct sim_client;

struct sim {
    uint64_t seed;
    struct sim_config config;
    struct rk_random random;
    uint64_t now_us, orders, trace;
    bool is_verbose, is_healed, is_draining, is_ending;
    uint64_t healed_us;
    struct rk_heap events;
    struct sim_node nodes[SIM_NODES_MAX];
    struct sim_conn conns[SIM_NODES_MAX][SIM_NODES_MAX][RK_LINK_COUNT];
    uint32_t cut[SIM_NODES_MAX][SIM_NODES_MAX]; /* how many faults cut this direction */
    struct sim_history histories[SIM_GROUPS_MAX];
    struct sim_echo *echoes; /* NULL: the seed has none */
    struct rk_arena arena;
    struct rk_host_peer peers[SIM_NODES_MAX];
    struct sim_members members;
    struct sim_client *clients; /* and behind them the operator */
    uint64_t calls;             /* numbers given */
    struct sim_locks *locks;
    struct sim_queues *queues;
    struct sim_caches *caches;
    struct sim_counts counts;
};

/* main.c: the rule that was broken; prints seed, time and command and ends the process. */
__attribute__((noreturn, format(printf, 2, 3))) void sim_fail(const struct sim *sim,
                                                              const char *format, ...);
/* Likewise, unless this rule was left out. */
__attribute__((format(printf, 3, 4))) void
sim_broken(const struct sim *sim, enum sim_rule rule, const char *format, ...);
bool sim_is_heeded(enum sim_rule rule);
__attribute__((format(printf, 2, 3))) void sim_say(const struct sim *sim,
                                                   const char *format, ...);
static inline uint64_t sim_below(struct sim *sim, uint64_t bound)
{
    return rk_random_below(&sim->random, bound);
}
static inline uint64_t sim_between(struct sim *sim, uint64_t low, uint64_t high)
{
    return low + rk_random_below(&sim->random, high - low + 1);
}
static inline bool sim_chance(struct sim *sim, uint64_t percent)
{
    return rk_random_below(&sim->random, 100) < percent;
}
void *sim_alloc(size_t count, size_t size); /* zeroed, never NULL */
void sim_trace(struct sim *sim, uint64_t value);

/* world.c */
struct sim *sim_new(uint64_t seed, const struct sim_config *fixed);
void sim_free(struct sim *sim);
/* The first nodes start soon. */
void sim_world_start(struct sim *sim);
void sim_run_until(struct sim *sim, uint64_t time_us);
/* An event of a node: skipped if the node died meanwhile, late if it is paused. */
struct sim_event *sim_after(struct sim *sim, uint64_t delay_us, struct sim_node *node,
                            sim_action action, void *context, uint64_t number);
/* An event of the world, about a node or none. */
struct sim_event *sim_world_after(struct sim *sim, uint64_t delay_us, struct sim_node *node,
                                  sim_action action, void *context, uint64_t number);
void sim_node_start(struct sim_node *node);
/* Ends the node; the disk keeps what mode says. */
void sim_node_kill(struct sim_node *node, enum rk_memfs_crash_mode mode, bool is_silent);
/* It says that it can not go on. */
void sim_node_fall(struct sim_node *node, enum rk_status status, const char *text);
void sim_node_pause(struct sim_node *node);
void sim_node_resume(struct sim_node *node);
/* Begins a turn of the node unless one is open. */
void sim_node_touch(struct sim_node *node);
bool sim_node_is_up(const struct sim_node *node);
uint64_t sim_node_boot_us(const struct sim_node *node);
/* A node that leads some group; a random one if there is none. */
struct sim_node *sim_some_leader(struct sim *sim);

/* run.c */
/* The whole life of a seed. */
void sim_run(struct sim *sim);

/* net.c */
void sim_net_init(struct sim *sim);
void sim_net_free(struct sim *sim);
void sim_net_send(struct sim_node *from, const char *name, enum rk_host_link link,
                  struct rk_slice frame);
void sim_net_started(struct sim_node *node);
/* Connects with the nodes that the host knows, and with no others. */
void sim_net_follow(struct sim_node *node);
void sim_net_ended(struct sim_node *node, bool is_silent);
void sim_net_cut(struct sim *sim, uint32_t from, uint32_t to, bool is_cut);
/* Breaks a connection; the sender notices after a while. */
void sim_net_reset(struct sim *sim, struct sim_conn *conn, uint64_t after_us);

/* messages.c */
bool sim_frame_open(struct rk_reader *in, struct rk_slice frame, struct rk_slice *header);
bool sim_frame_next(struct rk_reader *in, struct sim_section *out);
/* Into the world's arena; false: it can not be read. */
bool sim_section_message(struct sim *sim, const struct sim_section *section,
                         uint32_t *group, struct rk_raft_message *out);
void sim_messages_start(struct sim *sim, bool is_faulty, bool has_echoes);
/* A frame has arrived: its receiver gets what the network leaves of it. */
void sim_messages_pass(struct sim *sim, const struct sim_conn *conn, struct rk_slice frame);
/* For so long the node hears nothing but what it has heard before. */
void sim_messages_echo(struct sim_node *node, uint64_t us);

/* disk.c */
/* Dies within most_us if it was armed for this. */
void sim_armed_check(struct sim_node *node, enum sim_armed armed, uint64_t most_us);
void sim_disk_write(struct sim_node *node, struct rk_wal *wal, struct rk_wal_batch *batch);
void sim_disk_work(struct sim_node *node, struct rk_host_work *work);
bool sim_disk_has_work(const struct sim_node *node);
/* Looks at the room on the disk now and then, from now on. */
void sim_disk_watch(struct sim_node *node);
/* Decides what the batch and the work under way leave behind; before the host is closed. */
void sim_disk_crash(struct sim_node *node, enum rk_memfs_crash_mode mode);

/* faults.c */
uint64_t sim_faults_pick(struct sim *sim);
void sim_faults_start(struct sim *sim);
void sim_faults_heal(struct sim *sim);
bool sim_faults_have_members(const struct sim *sim);
bool sim_faults_fill_disks(const struct sim *sim);
/* The node has just asked another one to take its place. */
void sim_faults_handed_over(struct sim_node *node);
/* Ends the node, which comes back with an empty disk, as one that is to join. */
void sim_node_wipe(struct sim_node *node);
/* Losing it leaves every group a majority, and nobody is about to change that. */
bool sim_node_may_be_lost(struct sim_node *node);

/* raft_check.c */
void sim_check_frame(struct sim_node *from, struct rk_slice frame);
void sim_check_opened(struct sim_node *node);
void sim_check_given(struct sim_node *node);  /* a batch goes to the disk */
void sim_check_stored(struct sim_node *node); /* and is durable */
void sim_check_flushed(struct sim_node *node);
void sim_check_end(struct sim *sim);
void sim_check_free(struct sim *sim);

bool sim_shadow_has(const struct sim_shadow *shadow, uint64_t index, uint64_t term);

/* matching.c */
/* The node's log has these entries now. */
void sim_matching_take(struct sim_node *node, uint32_t id, uint64_t from);
const struct sim_matched *sim_matching_find(const struct sim *sim, uint32_t id,
                                            uint64_t index, uint64_t term);
void sim_matching_free(struct sim *sim);

/* members.c */
bool sim_conf_is_quorum(const struct sim_conf *conf, uint64_t set);
const struct sim_conf *sim_conf_last(struct sim *sim, uint32_t id); /* NULL: none yet */
/* The node shows entries up to commit as committed. */
void sim_members_committed(struct sim_node *node, uint32_t id, uint64_t commit);
void sim_members_durable(struct sim_node *node, uint32_t id, uint64_t index, uint64_t term);
/* A majority was heard within the limit, or may not have been for so long. */
bool sim_members_heard(struct sim_node *node, uint32_t id, uint64_t limit_us);
void sim_members_view(struct sim_node *node, uint32_t id, enum rk_raft_role role);
void sim_members_node(struct sim_node *node);
void sim_members_lose(struct sim_node *node);
void sim_members_free(struct sim *sim);
const struct sim_row *sim_members_row(const struct sim *sim, uint32_t slot);
bool sim_members_has(struct sim *sim, const struct sim_node *node);
bool sim_members_count_on(struct sim *sim, const struct sim_node *node);
bool sim_members_are_settled(struct sim *sim);
/* What that node says that it has of the group is, or was, on its disk. */
bool sim_members_held(struct sim *sim, uint64_t number, uint32_t id, uint64_t index,
                      uint64_t term);
/* As it was last seen there; 0: unknown. */
uint64_t sim_members_term(const struct sim *sim, uint64_t number, uint32_t id);
bool sim_members_can_lose(struct sim *sim, const struct sim_node *node);

/* bounds.c */
void sim_bounds_view(struct sim_node *node, uint32_t id,
                     const struct rk_raft_status *status);
/* The node is sent a frame that it must not take. */
void sim_stranger_speaks(struct sim_node *node);

/* ballots.c */
void sim_ballots_campaign(struct sim *sim, uint32_t id, uint64_t term);
void sim_ballots_term(struct sim_node *node, uint32_t id, uint64_t term);
void sim_ballots_received(struct sim_node *node, const char *from, struct rk_slice frame);
void sim_ballots_granted(struct sim_node *node, uint32_t id,
                         const struct rk_raft_message *message);
void sim_ballots_evidence(struct sim_node *node, const char *name);
void sim_ballots_opened(struct sim_node *node, uint32_t id);

/* operator.c */
void sim_operator_next(struct sim_client *client);
bool sim_operator_is_done(struct sim *sim);

/* client.c */
void sim_clients_start(struct sim *sim);
void sim_clients_free(struct sim *sim);
void sim_clients_reply(struct sim_node *node, uint64_t call, const struct rk_reply *reply);
void sim_clients_node_ended(struct sim_node *node);
/* Everything that clients still wait for is over and every queue is empty. */
bool sim_clients_are_done(struct sim *sim);
/* What must have come true by now: fails if it has not. */
void sim_clients_end(struct sim *sim);
/* No client has said anything for long: nothing may be held or waited for. */
void sim_clients_left(struct sim *sim);
/* The state of group 0 went on, and this node is the first to show it. */
void sim_clients_state(struct sim_node *node);

/* probes.c */
/* Asks once for a write of each group: they are all answered. */
bool sim_has_progress(struct sim *sim);
#endif
