/* interaction.h - what the commands over a cluster in memory share: those of
 * etcd-io/raft's files, and our own. */
#ifndef RK_TESTS_SCRIPT_INTERACTION_H
#define RK_TESTS_SCRIPT_INTERACTION_H

#include "script/datadriven.h"
#include "script/env.h"

struct interaction {
    struct env env;
    char error[160]; /* text of an error that had to be put together */
};

struct interaction_command {
    const char *name;
    /* NULL or the text of an error, which ends the output. */
    const char *(*handle)(struct interaction *state, const struct dd_case *c);
};

/* The number-th bare word is a node; NULL if it is none. */
struct env_node *interaction_node(struct interaction *state, const struct dd_case *c,
                                  size_t number);
const char *interaction_refuse(struct interaction *state, const char *before,
                               const char *what);
/* The changes of the input lines, and transition=; NULL or the text of an error. */
const char *interaction_changes(struct interaction *state, const struct dd_case *c,
                                struct rk_raft_conf_change *change, bool *is_v1);

extern const struct interaction_command interaction_own[]; /* up to one without a name */
/* Sets an option of add-nodes that only we have. False: not one of them. */
bool interaction_own_option(struct interaction *state, struct env_kind *kind,
                            const char *key, const char *value, const char **error);
#endif
