/* load.h - a load of puts on a cluster whose members change, for the tests of membership:
 * what was answered must never be lost. */
#ifndef RK_TEST_HOST_LOAD_H
#define RK_TEST_HOST_LOAD_H

#include "cluster.h"

enum { LOAD_KEYS = 97 };

/* A load of puts, each key with rising numbers; what was answered must never be lost. */
struct load {
    struct cluster *cluster;
    uint64_t calls[LOAD_KEYS]; /* under way; 0: none */
    uint32_t asked[LOAD_KEYS];
    uint32_t acknowledged[LOAD_KEYS];
    uint32_t next, done;
};

/* snapshot_bytes as in struct cluster_options. */
void load_open(struct load *load, uint32_t nodes, uint64_t snapshot_bytes);
/* Nothing answered was lost, and all nodes have the same. */
void load_close(struct load *load);
/* Lets time pass, with puts at all nodes. */
void load_run(struct load *load, uint64_t ms);
/* After a node died: its calls get no answer. */
void load_forget(struct load *load);
/* A call that must succeed. */
void load_ask(struct load *load, uint32_t node, enum rk_op op, const char *json);
/* One node more, until there are so many voters. */
void load_add(struct load *load, uint32_t asked, uint32_t voters);
/* The node learns that it was removed; then its process ends. */
void load_drop(struct load *load, uint32_t node);
/* All groups have the membership, of so many voters, as node `asked` sees it. */
bool load_is_done(struct cluster *cluster, uint32_t asked, uint32_t voters);
void load_wait_members(struct load *load, uint32_t asked, uint32_t voters);

struct rk_host_status cluster_status(struct cluster *cluster, uint32_t node);
/* NULL: there is none of that name. */
const struct rk_host_node_status *cluster_node(const struct rk_host_status *status,
                                               const char *name);
#endif
