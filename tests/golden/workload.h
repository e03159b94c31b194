/* workload.h - a seeded history of one group: every write operation with every field, in
 * many states. The same seed and build give the same entries. */
#ifndef RK_TEST_GOLDEN_WORKLOAD_H
#define RK_TEST_GOLDEN_WORKLOAD_H

#include "base/arena.h"
#include "base/random.h"
#include "state/object.h"

enum {
    WORKLOAD_POOL = 24,
    WORKLOAD_TEXT = 160,
    WORKLOAD_CLIENTS = 8,
    WORKLOAD_SENT = 64,
    WORKLOAD_STATUSES = 64,
};

/* Names that the group gave out lately: ids, tokens, sessions. */
struct workload_pool {
    char texts[WORKLOAD_POOL][WORKLOAD_TEXT];
    uint64_t count; /* ever put; the last WORKLOAD_POOL of them are there */
};

struct workload_grant {
    char resource[16], owner[16];
    uint64_t fence;
};

/* A request that went into the log. */
struct workload_sent {
    uint32_t client;
    uint64_t seq;
    uint64_t deadline_ms;
    char resource[16], owner[16];
    struct rk_buf request;
};

struct workload {
    struct rk_machine *machine;
    uint32_t group;
    struct rk_random random;
    struct rk_arena arena; /* of one step */
    uint64_t index;
    uint64_t now;
    uint64_t seqs[WORKLOAD_CLIENTS];
    uint64_t firsts[WORKLOAD_CLIENTS];
    struct workload_pool sessions, deliveries, messages, tokens;
    struct workload_grant grants[WORKLOAD_POOL];
    uint64_t grant_count;
    struct workload_sent sent[WORKLOAD_SENT];
    uint64_t sent_count;
    uint64_t last_version; /* of a cache entry */
    char last_key[16];
    bool has_idled; /* all clients were away for so long that they were forgotten */
    /* What was covered. */
    uint64_t fields[RK_OP_MAX];           /* bits of `present` */
    uint64_t done[RK_OP_MAX];             /* times it succeeded */
    uint64_t answered[WORKLOAD_STATUSES]; /* by status, negated */
    bool kinds[RK_OBJECT_KIND_MAX];
    uint32_t failures;                                  /* most that any message had */
    void (*entry)(void *context, struct rk_slice data); /* each, in order, applied */
    void *context;
};

/* A request as JSON. $r resource, $o owner, $t topic, $k key, $c cache, $C client, $s
 * session, $d delivery, $m message, $T fill token, $n a small number, $N a large one, $F
 * fence, $R resource and $O owner of one grant, $K key and $V version of one entry, $w
 * group time soon. */
struct workload_shape {
    enum rk_op op;
    const char *json;
};
/* Those of group 0, or of data groups. */
const struct workload_shape *workload_shapes(uint32_t group, size_t *count);

void workload_open(struct workload *workload, uint32_t group, uint64_t seed);
void workload_close(struct workload *workload);
/* One moment: a request or what the leader does by itself; some entries. */
void workload_step(struct workload *workload);
/* Objects of every kind that the group can have are there now. */
bool workload_has_all_kinds(const struct workload *workload);
/* Prints what this history lacks of what the machine can do; how many things. */
uint32_t workload_gaps(const struct workload *workload);
#endif
