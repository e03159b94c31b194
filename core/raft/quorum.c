#include "raft/quorum.h"

#include "base/assert.h"
#include "base/mutant.h"

#include <string.h>

/* The place of id, or where it would stand. */
static uint32_t place_of(const struct rk_raft_members *members, uint64_t id)
{
    uint32_t at = 0;
    while (at < members->count && members->ids[at] < id)
        at++;
    return at;
}

bool rk_raft_members_has(const struct rk_raft_members *members, uint64_t id)
{
    uint32_t at = place_of(members, id);
    return at < members->count && members->ids[at] == id;
}

enum rk_status rk_raft_members_add(struct rk_raft_members *members, uint64_t id)
{
    uint32_t at = place_of(members, id);
    if (at < members->count && members->ids[at] == id) return RK_OK;
    if (members->count == RK_RAFT_MEMBERS_MAX) return RK_ELIMIT;
    memmove(&members->ids[at + 1], &members->ids[at],
            (members->count - at) * sizeof(members->ids[0]));
    members->ids[at] = id;
    members->count++;
    return RK_OK;
}

void rk_raft_members_remove(struct rk_raft_members *members, uint64_t id)
{
    uint32_t at = place_of(members, id);
    if (at == members->count || members->ids[at] != id) return;
    members->count--;
    memmove(&members->ids[at], &members->ids[at + 1],
            (members->count - at) * sizeof(members->ids[0]));
}

uint32_t rk_raft_members_difference(const struct rk_raft_members *a,
                                    const struct rk_raft_members *b)
{
    uint32_t count = 0;
    for (uint32_t i = 0; i < a->count; i++)
        count += !rk_raft_members_has(b, a->ids[i]);
    for (uint32_t i = 0; i < b->count; i++)
        count += !rk_raft_members_has(a, b->ids[i]);
    return count;
}

bool rk_raft_conf_has_voter(const struct rk_raft_conf_state *conf, uint64_t id)
{
    return rk_raft_members_has(&conf->voters, id) ||
           rk_raft_members_has(&conf->voters_outgoing, id);
}

bool rk_raft_conf_has_member(const struct rk_raft_conf_state *conf, uint64_t id)
{
    return rk_raft_conf_has_voter(conf, id) || rk_raft_members_has(&conf->learners, id);
}

uint64_t rk_raft_majority_index(const struct rk_raft_members *members, rk_raft_acked acked,
                                const void *context)
{
    uint32_t count = members->count;
    RK_ASSERT(count <= RK_RAFT_MEMBERS_MAX);
    if (count == 0) return UINT64_MAX;

    /* Sorted by insertion, lowest first; a member that said nothing counts as 0. */
    uint64_t sorted[RK_RAFT_MEMBERS_MAX];
    for (uint32_t i = 0; i < count; i++) {
        uint64_t index = 0;
        if (!acked(context, members->ids[i], &index)) index = 0;
        uint32_t at = i;
        while (at > 0 && sorted[at - 1] > index) {
            sorted[at] = sorted[at - 1];
            at--;
        }
        sorted[at] = index;
    }
    return sorted[count - (count / 2 + 1)];
}

uint64_t rk_raft_joint_index(const struct rk_raft_conf_state *conf, rk_raft_acked acked,
                             const void *context)
{
    uint64_t incoming = rk_raft_majority_index(&conf->voters, acked, context);
    uint64_t outgoing = rk_raft_majority_index(&conf->voters_outgoing, acked, context);
    return incoming < outgoing ? incoming : outgoing;
}

enum rk_raft_vote_result rk_raft_majority_vote(const struct rk_raft_members *members,
                                               rk_raft_voted voted, const void *context)
{
    if (members->count == 0) return RK_RAFT_VOTE_WON;
    uint32_t granted = 0;
    uint32_t missing = 0;
    for (uint32_t i = 0; i < members->count; i++) {
        enum rk_raft_vote vote = voted(context, members->ids[i]);
        granted += vote == RK_RAFT_VOTE_YES;
        missing += vote == RK_RAFT_VOTE_NONE;
    }
    uint32_t needed = members->count / 2 + !RK_MUTANT(half_elects);
    if (granted >= needed) return RK_RAFT_VOTE_WON;
    return granted + missing >= needed ? RK_RAFT_VOTE_PENDING : RK_RAFT_VOTE_LOST;
}

enum rk_raft_vote_result rk_raft_joint_vote(const struct rk_raft_conf_state *conf,
                                            rk_raft_voted voted, const void *context)
{
    enum rk_raft_vote_result incoming =
        rk_raft_majority_vote(&conf->voters, voted, context);
    enum rk_raft_vote_result outgoing =
        rk_raft_majority_vote(&conf->voters_outgoing, voted, context);
    if (incoming == outgoing) return incoming;
    if (incoming == RK_RAFT_VOTE_LOST || outgoing == RK_RAFT_VOTE_LOST)
        return RK_RAFT_VOTE_LOST;
    return RK_RAFT_VOTE_PENDING;
}
