#include "state/names.h"

#include "base/assert.h"
#include "base/hash.h"

static bool is_above(const struct rk_name_node *a, const struct rk_name_node *b)
{
    return a->rank > b->rank;
}

static void split(struct rk_name_node *root, struct rk_slice name,
                  struct rk_name_node **less, struct rk_name_node **more)
{
    while (root != NULL) {
        if (rk_slice_compare(root->name, name) < 0) {
            *less = root;
            less = &root->right;
            root = root->right;
        } else {
            *more = root;
            more = &root->left;
            root = root->left;
        }
    }
    *less = NULL;
    *more = NULL;
}

static void merge(struct rk_name_node **out, struct rk_name_node *less,
                  struct rk_name_node *more)
{
    while (less != NULL && more != NULL) {
        if (is_above(less, more)) {
            *out = less;
            out = &less->right;
            less = less->right;
        } else {
            *out = more;
            out = &more->left;
            more = more->left;
        }
    }
    *out = less != NULL ? less : more;
}

void rk_names_insert(struct rk_names *names, struct rk_name_node *node)
{
    node->rank = rk_hash(node->name);
    struct rk_name_node **at = &names->root;
    while (*at != NULL && is_above(*at, node)) {
        int order = rk_slice_compare(node->name, (*at)->name);
        RK_ASSERT(order != 0);
        at = order < 0 ? &(*at)->left : &(*at)->right;
    }
    split(*at, node->name, &node->left, &node->right);
    *at = node;
}

void rk_names_remove(struct rk_names *names, struct rk_name_node *node)
{
    struct rk_name_node **at = &names->root;
    while (*at != node) {
        RK_ASSERT(*at != NULL);
        at = rk_slice_compare(node->name, (*at)->name) < 0 ? &(*at)->left : &(*at)->right;
    }
    merge(at, node->left, node->right);
    node->left = node->right = NULL;
}

struct rk_name_node *rk_names_next(const struct rk_names *names, struct rk_slice prefix,
                                   struct rk_slice after)
{
    bool is_after = after.size != 0 && rk_slice_compare(after, prefix) >= 0;
    struct rk_slice from = is_after ? after : prefix;
    struct rk_name_node *best = NULL;
    for (struct rk_name_node *at = names->root; at != NULL;) {
        int order = rk_slice_compare(at->name, from);
        if (order > 0 || (order == 0 && !is_after)) {
            best = at;
            at = at->left;
        } else {
            at = at->right;
        }
    }
    if (best == NULL || !rk_slice_has_prefix(best->name, prefix)) return NULL;
    return best;
}
