#include "raft/confchange.h"

#include "base/assert.h"
#include "base/mutant.h"

#include <stdio.h>

static enum rk_status refuse(struct rk_raft_changer *changer, const char *text)
{
    snprintf(changer->error, sizeof(changer->error), "%s", text);
    return RK_EINVAL;
}

static enum rk_status refuse_id(struct rk_raft_changer *changer, const char *before,
                                uint64_t id, const char *after)
{
    snprintf(changer->error, sizeof(changer->error), "%s%llu%s", before,
             (unsigned long long)id, after);
    return RK_EINVAL;
}

static bool is_joint(const struct rk_raft_conf_state *conf)
{
    return conf->voters_outgoing.count > 0;
}

/* Each member has a peer, and nobody is voter and learner at the same time. */
static enum rk_status check(struct rk_raft_changer *changer)
{
    struct rk_raft_tracker *tracker = &changer->tracker;
    struct rk_raft_conf_state *conf = &tracker->conf;
    const struct rk_raft_members *sets[] = {&conf->voters, &conf->voters_outgoing,
                                            &conf->learners, &conf->learners_next};
    for (size_t s = 0; s < 4; s++)
        for (uint32_t i = 0; i < sets[s]->count; i++)
            if (rk_raft_tracker_find(tracker, sets[s]->ids[i]) == NULL)
                return refuse_id(changer, "no progress for ", sets[s]->ids[i], "");

    for (uint32_t i = 0; i < conf->learners_next.count; i++) {
        uint64_t id = conf->learners_next.ids[i];
        if (!rk_raft_members_has(&conf->voters_outgoing, id))
            return refuse_id(changer, "", id, " is in LearnersNext, but not Voters[1]");
        if (rk_raft_tracker_find(tracker, id)->is_learner)
            return refuse_id(changer, "", id,
                             " is in LearnersNext, but is already marked as learner");
    }
    for (uint32_t i = 0; i < conf->learners.count; i++) {
        uint64_t id = conf->learners.ids[i];
        if (rk_raft_members_has(&conf->voters_outgoing, id))
            return refuse_id(changer, "", id, " is in Learners and Voters[1]");
        if (rk_raft_members_has(&conf->voters, id))
            return refuse_id(changer, "", id, " is in Learners and Voters[0]");
        if (!rk_raft_tracker_find(tracker, id)->is_learner)
            return refuse_id(changer, "", id,
                             " is in Learners, but is not marked as learner");
    }
    if (!is_joint(conf) && conf->learners_next.count > 0)
        return refuse(changer, "cfg.LearnersNext must be nil when not joint");
    if (!is_joint(conf) && conf->auto_leave)
        return refuse(changer, "AutoLeave must be false when not joint");
    return RK_OK;
}

void rk_raft_changer_init(struct rk_raft_changer *changer,
                          const struct rk_raft_tracker *tracker, uint64_t last_index)
{
    changer->tracker = *tracker;
    changer->last_index = last_index;
    changer->error[0] = '\0';
}

static enum rk_status add_peer(struct rk_raft_changer *changer, uint64_t id,
                               bool is_learner)
{
    struct rk_raft_conf_state *conf = &changer->tracker.conf;
    struct rk_raft_peer *peer = rk_raft_tracker_insert(&changer->tracker, id);
    if (peer == NULL) return RK_ELIMIT;
    /* Probing from the last index costs one rejection where the node is empty. Active, or
     * a check of the quorum before its first answer would count against it. */
    peer->next = changer->last_index > 1 ? changer->last_index : 1;
    peer->is_learner = is_learner;
    peer->is_active = true;
    return rk_raft_members_add(is_learner ? &conf->learners : &conf->voters, id);
}

static enum rk_status make_voter(struct rk_raft_changer *changer, uint64_t id)
{
    struct rk_raft_conf_state *conf = &changer->tracker.conf;
    struct rk_raft_peer *peer = rk_raft_tracker_find(&changer->tracker, id);
    if (peer == NULL) return add_peer(changer, id, false);
    peer->is_learner = false;
    rk_raft_members_remove(&conf->learners, id);
    rk_raft_members_remove(&conf->learners_next, id);
    return rk_raft_members_add(&conf->voters, id);
}

static void remove_member(struct rk_raft_changer *changer, uint64_t id)
{
    struct rk_raft_conf_state *conf = &changer->tracker.conf;
    if (rk_raft_tracker_find(&changer->tracker, id) == NULL) return;
    if (!RK_MUTANT(removed_counts)) rk_raft_members_remove(&conf->voters, id);
    rk_raft_members_remove(&conf->learners, id);
    rk_raft_members_remove(&conf->learners_next, id);
    /* A voter of the outgoing half is followed until that half is gone. */
    if (!rk_raft_members_has(&conf->voters_outgoing, id))
        rk_raft_tracker_delete(&changer->tracker, id);
}

static enum rk_status make_learner(struct rk_raft_changer *changer, uint64_t id)
{
    struct rk_raft_conf_state *conf = &changer->tracker.conf;
    struct rk_raft_peer *peer = rk_raft_tracker_find(&changer->tracker, id);
    if (peer == NULL) return add_peer(changer, id, true);
    if (peer->is_learner) return RK_OK;
    rk_raft_members_remove(&conf->voters, id);
    rk_raft_members_remove(&conf->learners_next, id);
    /* Nobody is voter and learner at once: one that still votes in the outgoing half
     * becomes a learner when the joint state ends. */
    if (rk_raft_members_has(&conf->voters_outgoing, id))
        return rk_raft_members_add(&conf->learners_next, id);
    peer->is_learner = true;
    return rk_raft_members_add(&conf->learners, id);
}

static enum rk_status apply(struct rk_raft_changer *changer,
                            const struct rk_raft_conf_single *changes, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        enum rk_status status = RK_OK;
        if (changes[i].id == RK_RAFT_NONE) continue;
        switch (changes[i].op) {
        case RK_RAFT_ADD_VOTER: status = make_voter(changer, changes[i].id); break;
        case RK_RAFT_ADD_LEARNER: status = make_learner(changer, changes[i].id); break;
        case RK_RAFT_REMOVE: remove_member(changer, changes[i].id); break;
        case RK_RAFT_UPDATE: break;
        default: return refuse_id(changer, "unexpected conf type ", changes[i].op, "");
        }
        if (status != RK_OK) return status;
    }
    if (changer->tracker.conf.voters.count == 0)
        return refuse(changer, "removed all voters");
    return RK_OK;
}

enum rk_status rk_raft_change_simple(struct rk_raft_changer *changer,
                                     const struct rk_raft_conf_single *changes,
                                     size_t count)
{
    enum rk_status status = check(changer);
    if (status != RK_OK) return status;
    if (is_joint(&changer->tracker.conf))
        return refuse(changer, "can't apply simple config change in joint config");
    struct rk_raft_members before = changer->tracker.conf.voters;
    status = apply(changer, changes, count);
    if (status != RK_OK) return status;
    if (rk_raft_members_difference(&before, &changer->tracker.conf.voters) > 1 &&
        !RK_MUTANT(change_not_joint))
        return refuse(changer, "more than one voter changed without entering joint config");
    return check(changer);
}

enum rk_status rk_raft_change_enter_joint(struct rk_raft_changer *changer, bool auto_leave,
                                          const struct rk_raft_conf_single *changes,
                                          size_t count)
{
    struct rk_raft_conf_state *conf = &changer->tracker.conf;
    enum rk_status status = check(changer);
    if (status != RK_OK) return status;
    if (is_joint(conf)) return refuse(changer, "config is already joint");
    if (conf->voters.count == 0)
        return refuse(changer, "can't make a zero-voter config joint");
    conf->voters_outgoing = conf->voters;
    status = apply(changer, changes, count);
    if (status != RK_OK) return status;
    conf->auto_leave = auto_leave;
    return check(changer);
}

enum rk_status rk_raft_change_leave_joint(struct rk_raft_changer *changer)
{
    struct rk_raft_conf_state *conf = &changer->tracker.conf;
    enum rk_status status = check(changer);
    if (status != RK_OK) return status;
    if (!is_joint(conf)) return refuse(changer, "can't leave a non-joint config");

    for (uint32_t i = 0; i < conf->learners_next.count; i++) {
        uint64_t id = conf->learners_next.ids[i];
        status = rk_raft_members_add(&conf->learners, id);
        if (status != RK_OK) return status;
        rk_raft_tracker_find(&changer->tracker, id)->is_learner = true;
    }
    conf->learners_next.count = 0;
    for (uint32_t i = 0; i < conf->voters_outgoing.count; i++) {
        uint64_t id = conf->voters_outgoing.ids[i];
        if (!rk_raft_members_has(&conf->voters, id) &&
            !rk_raft_members_has(&conf->learners, id))
            rk_raft_tracker_delete(&changer->tracker, id);
    }
    conf->voters_outgoing.count = 0;
    conf->auto_leave = false;
    return check(changer);
}

enum rk_status rk_raft_change(struct rk_raft_changer *changer,
                              const struct rk_raft_conf_change *change)
{
    if (change->transition == RK_RAFT_TRANSITION_AUTO && change->count == 0)
        return rk_raft_change_leave_joint(changer);
    if ((change->transition != RK_RAFT_TRANSITION_AUTO || change->count > 1) &&
        !RK_MUTANT(change_not_joint))
        return rk_raft_change_enter_joint(
            changer, change->transition != RK_RAFT_TRANSITION_JOINT_EXPLICIT,
            change->changes, change->count);
    return rk_raft_change_simple(changer, change->changes, change->count);
}

/* A peer for each id of the set, where there is none yet. */
static enum rk_status restore_set(struct rk_raft_changer *changer,
                                  const struct rk_raft_members *set, bool is_learner)
{
    if (set->count > RK_RAFT_MEMBERS_MAX) return RK_ELIMIT;
    for (uint32_t i = 0; i < set->count; i++) {
        if (set->ids[i] == RK_RAFT_NONE) return refuse(changer, "no node has number 0");
        if (i > 0 && set->ids[i - 1] >= set->ids[i])
            return refuse(changer, "numbers are not ascending");
        if (rk_raft_tracker_find(&changer->tracker, set->ids[i]) != NULL) continue;
        struct rk_raft_peer *peer = rk_raft_tracker_insert(&changer->tracker, set->ids[i]);
        if (peer == NULL) return RK_ELIMIT;
        peer->next = changer->last_index > 1 ? changer->last_index : 1;
        peer->is_learner = is_learner;
        peer->is_active = true;
    }
    return RK_OK;
}

enum rk_status rk_raft_change_restore(struct rk_raft_changer *changer,
                                      const struct rk_raft_conf_state *conf)
{
    RK_ASSERT(changer->tracker.count == 0);
    enum rk_status status = restore_set(changer, &conf->voters_outgoing, false);
    if (status == RK_OK) status = restore_set(changer, &conf->voters, false);
    if (status == RK_OK) status = restore_set(changer, &conf->learners, true);
    if (status == RK_OK && conf->learners_next.count > RK_RAFT_MEMBERS_MAX)
        status = RK_ELIMIT;
    if (status != RK_OK) return status;
    if (conf->voters.count == 0 && changer->tracker.count > 0)
        return refuse(changer, "removed all voters");
    changer->tracker.conf = *conf;
    return check(changer);
}
