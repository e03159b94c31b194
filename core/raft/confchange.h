/* confchange.h - how a membership becomes the next one (Raft thesis, chapter 4).
 *
 * The functions work on a copy of a tracker: on an error the copy is thrown away. */
#ifndef RK_RAFT_CONFCHANGE_H
#define RK_RAFT_CONFCHANGE_H

#include "raft/tracker.h"

struct rk_raft_changer {
    struct rk_raft_tracker tracker; /* shares memory with the original until replaced */
    uint64_t last_index;
    char error[96]; /* what is wrong, after RK_EINVAL */
};

void rk_raft_changer_init(struct rk_raft_changer *changer,
                          const struct rk_raft_tracker *tracker, uint64_t last_index);
/* At most one voter changes. RK_EINVAL: changer->error tells. RK_ELIMIT: too many. */
RK_MUST_CHECK enum rk_status
rk_raft_change_simple(struct rk_raft_changer *changer,
                      const struct rk_raft_conf_single *changes, size_t count);
RK_MUST_CHECK enum rk_status
rk_raft_change_enter_joint(struct rk_raft_changer *changer, bool auto_leave,
                           const struct rk_raft_conf_single *changes, size_t count);
RK_MUST_CHECK enum rk_status rk_raft_change_leave_joint(struct rk_raft_changer *changer);
/* Whichever of the three the change stands for. */
RK_MUST_CHECK enum rk_status rk_raft_change(struct rk_raft_changer *changer,
                                            const struct rk_raft_conf_change *change);
/* The tracker of a membership read back; changer's tracker must have no members. */
RK_MUST_CHECK enum rk_status rk_raft_change_restore(struct rk_raft_changer *changer,
                                                    const struct rk_raft_conf_state *conf);
#endif
