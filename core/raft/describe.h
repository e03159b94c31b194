/* describe.h - raft's things as text, for traces and logs.
 *
 * The format is that of etcd-io/raft, so that its recorded traces can be compared. */
#ifndef RK_RAFT_DESCRIBE_H
#define RK_RAFT_DESCRIBE_H

#include "raft/raft.h"

const char *rk_raft_role_name(enum rk_raft_role role);
const char *rk_raft_type_name(uint8_t type); /* "unknown" beyond the list */
/* False if no message type has this name. */
bool rk_raft_type_of_name(const char *name, uint8_t *out);

void rk_raft_describe_entry(struct rk_buf *out, const struct rk_raft_entry *entry);
/* One a line. */
void rk_raft_describe_entries(struct rk_buf *out, const struct rk_raft_entry *entries,
                              size_t count);
/* Without a newline at the end; every line starts with indent. */
void rk_raft_describe_message(struct rk_buf *out, const char *indent,
                              const struct rk_raft_message *message);
void rk_raft_describe_hard_state(struct rk_buf *out, const struct rk_raft_hard_state *hard);
void rk_raft_describe_snapshot(struct rk_buf *out, const struct rk_raft_snapshot *snapshot);
/* "(1 2 3)", numbers in hexadecimal. */
void rk_raft_describe_members(struct rk_buf *out, const struct rk_raft_members *members);
/* "voters=(1 2)&&(1) learners=(3)". */
void rk_raft_describe_conf(struct rk_buf *out, const struct rk_raft_conf_state *conf);
void rk_raft_describe_progress(struct rk_buf *out, const struct rk_raft_progress *progress);
#endif
