/* names.h - an index of names in byte order, for lists with prefix, limit and after.
 *
 * A treap whose ranks are hashes of the names: insertion, removal and search take
 * O(log n) steps whatever the order of arrival, and nothing needs memory of its own. */
#ifndef RK_STATE_NAMES_H
#define RK_STATE_NAMES_H

#include "base/bytes.h"

/* Embedded in the object. The name is borrowed from it while it is in the index. */
struct rk_name_node {
    struct rk_name_node *left;
    struct rk_name_node *right;
    struct rk_slice name;
    uint64_t rank;
};

struct rk_names {
    struct rk_name_node *root;
};

/* node->name is set by the caller and is not in the index yet. */
void rk_names_insert(struct rk_names *names, struct rk_name_node *node);
void rk_names_remove(struct rk_names *names, struct rk_name_node *node); /* must be in it */
/* The first of a page: >= prefix and, if after is not empty, > after. NULL if there is
 * none, or the next one does not begin with prefix. Pass the last name as `after` for the
 * one that follows it. */
struct rk_name_node *rk_names_next(const struct rk_names *names, struct rk_slice prefix,
                                   struct rk_slice after);
#endif
