/* quorum.h - sets of members, and what majorities of them agree on.
 *
 * A decision of a joint membership needs both halves; an empty half agrees to all. */
#ifndef RK_RAFT_QUORUM_H
#define RK_RAFT_QUORUM_H

#include "raft/raft.h"

enum rk_raft_vote_result {
    RK_RAFT_VOTE_PENDING,
    RK_RAFT_VOTE_LOST,
    RK_RAFT_VOTE_WON,
};

enum rk_raft_vote {
    RK_RAFT_VOTE_NONE,
    RK_RAFT_VOTE_YES,
    RK_RAFT_VOTE_NO,
};

bool rk_raft_members_has(const struct rk_raft_members *members, uint64_t id);
/* RK_ELIMIT: the set is full. Adding a member again is fine. */
RK_MUST_CHECK enum rk_status rk_raft_members_add(struct rk_raft_members *members,
                                                 uint64_t id);
void rk_raft_members_remove(struct rk_raft_members *members, uint64_t id);
/* How many are in one of the sets only. */
uint32_t rk_raft_members_difference(const struct rk_raft_members *a,
                                    const struct rk_raft_members *b);
/* Voters of either half. */
bool rk_raft_conf_has_voter(const struct rk_raft_conf_state *conf, uint64_t id);
/* Voters and learners. */
bool rk_raft_conf_has_member(const struct rk_raft_conf_state *conf, uint64_t id);

/* What one member acknowledged; false if it is not known. */
typedef bool (*rk_raft_acked)(const void *context, uint64_t id, uint64_t *out);
typedef enum rk_raft_vote (*rk_raft_voted)(const void *context, uint64_t id);

/* The highest index that a majority acknowledged; UINT64_MAX of an empty set. */
uint64_t rk_raft_majority_index(const struct rk_raft_members *members, rk_raft_acked acked,
                                const void *context);
uint64_t rk_raft_joint_index(const struct rk_raft_conf_state *conf, rk_raft_acked acked,
                             const void *context);
enum rk_raft_vote_result rk_raft_majority_vote(const struct rk_raft_members *members,
                                               rk_raft_voted voted, const void *context);
enum rk_raft_vote_result rk_raft_joint_vote(const struct rk_raft_conf_state *conf,
                                            rk_raft_voted voted, const void *context);
#endif
