/* changes.h - membership changes as they are written in the files: "v1 l2 r3 u4". */
#ifndef RK_TESTS_SCRIPT_CHANGES_H
#define RK_TESTS_SCRIPT_CHANGES_H

#include "raft/raft.h"

/* False: out has the text of the error. */
bool parse_changes(const char *text, struct rk_raft_conf_change *change,
                   struct rk_buf *out);
#endif
