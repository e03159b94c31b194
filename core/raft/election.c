/* Roles and elections (Raft thesis, sections 3.4, 4.2.3, 9.6). */
#include "raft/internal.h"

enum { UNAPPLIED_LOOKED_AT = 1024 }; /* entries, before a campaign */

static void reset_election_timeout(struct rk_raft *raft)
{
    raft->election_timeout =
        raft->options.election_tick +
        (uint32_t)rk_random_below(&raft->random, raft->options.election_jitter);
}

static void disarm_early(struct rk_raft *raft)
{
    raft->has_evidence = false;
    raft->is_early_armed = false;
}

static void reset(struct rk_raft *raft, uint64_t term)
{
    RK_ASSERT(term >= raft->term); /* rule 16 */
    if (raft->term != term || RK_MUTANT(vote_cleared_on_stepdown)) {
        raft->term = term;
        raft->vote = RK_RAFT_NONE;
    }
    raft->leader = RK_RAFT_NONE;
    raft->election_elapsed = 0;
    raft->heartbeat_elapsed = 0;
    reset_election_timeout(raft);
    raft->transferee = RK_RAFT_NONE;
    raft->is_append_due = false;
    raft->campaign = RK_RAFT_CAMPAIGN_NORMAL;

    uint64_t last = rk_raft_log_last(&raft->log);
    for (uint32_t i = 0; i < raft->tracker.count; i++) {
        struct rk_raft_peer *peer = &raft->tracker.peers[i];
        rk_raft_peer_reset(peer, last + 1);
        /* Rule 2: of its own log, too, a leader counts only what is durable. */
        if (peer->id == raft->id) peer->match = raft->log.offset - 1;
    }
    raft->pending_conf_index = 0;
    raft->wanted_snapshot = 0;
    raft->uncommitted_bytes = 0;
    rk_raft_reads_lost(raft);
}

void rk_raft_become_follower(struct rk_raft *raft, uint64_t term, uint64_t leader)
{
    uint64_t kept = term == raft->term ? raft->vote : RK_RAFT_NONE;
    reset(raft, term);
    RK_ASSERT(raft->vote == kept || RK_MUTANT(vote_cleared_on_stepdown)); /* rule 9 */
    raft->leader = leader;
    raft->role = RK_RAFT_FOLLOWER;
    if (leader != RK_RAFT_NONE) disarm_early(raft);
}

static void become_candidate(struct rk_raft *raft)
{
    RK_ASSERT(raft->role != RK_RAFT_LEADER);
    reset(raft, raft->term + 1);
    raft->vote = raft->id;
    raft->role = RK_RAFT_CANDIDATE;
}

/* Changes neither term nor vote: rule 10. */
static void become_pre_candidate(struct rk_raft *raft)
{
    RK_ASSERT(raft->role != RK_RAFT_LEADER);
    rk_raft_tracker_reset_votes(&raft->tracker);
    raft->leader = RK_RAFT_NONE;
    raft->role = RK_RAFT_PRE_CANDIDATE;
}

void rk_raft_become_leader(struct rk_raft *raft)
{
    RK_ASSERT(raft->role != RK_RAFT_FOLLOWER && raft->vote == raft->id);
    reset(raft, raft->term);
    disarm_early(raft);
    raft->leader = raft->id;
    raft->role = RK_RAFT_LEADER;
    struct rk_raft_peer *self = rk_raft_tracker_find(&raft->tracker, raft->id);
    RK_ASSERT(self != NULL);
    rk_raft_peer_become_replicate(self);
    self->is_active = true;
    /* There may be a membership change in the tail: wait until all of it is applied. */
    raft->pending_conf_index = rk_raft_log_last(&raft->log);
    /* Rule 3: only an entry of this term commits what former terms left behind. */
    struct rk_raft_entry noop = {.type = RK_RAFT_ENTRY_NORMAL};
    enum rk_status status = rk_raft_leader_append(raft, &noop, 1);
    RK_ASSERT(status == RK_OK); /* rk_raft_prepare made room */
}

bool rk_raft_is_stalled(const struct rk_raft *raft)
{
    uint32_t limit = raft->options.disk_stall_ticks;
    return limit != 0 && raft->stall_elapsed >= limit;
}

bool rk_raft_is_promotable(const struct rk_raft *raft)
{
    const struct rk_raft_conf_state *conf = &raft->tracker.conf;
    /* Rules 16, 18 and 20: not with a snapshot to install, lost data or a hung disk. */
    return (rk_raft_conf_has_voter(conf, raft->id) || RK_MUTANT(learner_campaigns)) &&
           !raft->options.must_not_vote && !rk_raft_log_has_snapshot(&raft->log) &&
           !rk_raft_is_stalled(raft);
}

/* Rule 15. What can not be read, or is more than is looked at in one go, counts as a
 * change: it is looked at again next time, and a node that has that much to apply, as after
 * a start, could not serve yet. */
static bool may_have_unapplied_change(struct rk_raft *raft)
{
    uint64_t lo = raft->log.applied + 1, hi = raft->log.committed + 1;
    struct rk_raft_slice slice;
    if (lo == hi) return false;
    if (hi - lo > UNAPPLIED_LOOKED_AT) return true;
    if (rk_raft_log_slice(&raft->log, lo, hi, raft->log.max_applying_bytes, &raft->scratch,
                          &slice) != RK_OK)
        return true;
    const struct rk_raft_entry *entries =
        slice.entries != NULL ? slice.entries : rk_raft_log_at(&raft->log, lo);
    bool has_change = slice.count < hi - lo;
    for (size_t i = 0; i < slice.count; i++)
        if (entries[i].type != RK_RAFT_ENTRY_NORMAL) has_change = true;
    rk_arena_reset(&raft->scratch);
    return has_change;
}

static void request_votes(struct rk_raft *raft)
{
    bool is_pre = raft->role == RK_RAFT_PRE_CANDIDATE;
    uint64_t term = is_pre ? raft->term + 1 : raft->term;
    for (uint32_t i = 0; i < raft->tracker.count; i++) {
        const struct rk_raft_peer *peer = &raft->tracker.peers[i];
        if (!rk_raft_conf_has_voter(&raft->tracker.conf, peer->id)) continue;
        if (peer->vote != RK_RAFT_VOTE_NONE) continue;
        if (peer->id == raft->id) {
            /* Rule 1: the own vote counts when it is durable; it comes back as a step. */
            rk_raft_send(raft,
                         (struct rk_raft_message){.type = is_pre ? RK_RAFT_MSG_PRE_VOTE_RESP
                                                                 : RK_RAFT_MSG_VOTE_RESP,
                                                  .to = raft->id,
                                                  .term = term});
            continue;
        }
        rk_raft_send(raft, (struct rk_raft_message){
                               .type = is_pre ? RK_RAFT_MSG_PRE_VOTE : RK_RAFT_MSG_VOTE,
                               .campaign = (uint8_t)raft->campaign,
                               .to = peer->id,
                               .term = term,
                               .index = rk_raft_log_last(&raft->log),
                               .log_term = rk_raft_log_last_term(&raft->log)});
    }
}

/* Two that start in the same tick split the votes: they try again well before an election
 * timeout, the first of them alone. Without early vote they wait for the timeout, as in the
 * thesis. */
static void arm_retry(struct rk_raft *raft)
{
    uint64_t jitter = raft->options.early_jitter;
    if (!raft->options.early_vote || raft->early_tries == 0) return;
    raft->early_tries--;
    raft->is_early_armed = true;
    raft->early_wait =
        (uint32_t)(2 * jitter + rk_random_below(&raft->random, 4 * jitter + 1));
}

static void start_campaign(struct rk_raft *raft, bool is_pre_vote,
                           enum rk_raft_campaign campaign)
{
    RK_ASSERT(!raft->options.must_not_vote); /* rule 18 */
    if (is_pre_vote)
        become_pre_candidate(raft);
    else
        become_candidate(raft);
    raft->campaign = campaign;
    request_votes(raft);
    if (campaign != RK_RAFT_CAMPAIGN_TRANSFER) arm_retry(raft);
}

void rk_raft_hup(struct rk_raft *raft, bool is_pre_vote, enum rk_raft_campaign campaign)
{
    if (raft->role == RK_RAFT_LEADER || !rk_raft_is_promotable(raft)) return;
    if (may_have_unapplied_change(raft)) return;
    raft->is_early_armed = false;
    start_campaign(raft, is_pre_vote, campaign);
}

void rk_raft_repeat_requests(struct rk_raft *raft)
{
    /* The own answer is on its way through the disk already. */
    struct rk_raft_peer *self = rk_raft_tracker_find(&raft->tracker, raft->id);
    if (self == NULL) return;
    enum rk_raft_vote own = self->vote;
    self->vote = RK_RAFT_VOTE_YES;
    request_votes(raft);
    self->vote = own;
}

bool rk_raft_is_in_lease(const struct rk_raft *raft, const struct rk_raft_message *message)
{
    if (!raft->options.check_quorum || RK_MUTANT(no_vote_lease)) return false;
    if (message->campaign == RK_RAFT_CAMPAIGN_TRANSFER) return false;
    if (message->campaign == RK_RAFT_CAMPAIGN_EARLY && raft->options.early_vote &&
        (raft->has_evidence || RK_MUTANT(early_without_evidence)))
        return false;
    /* Rule 14: whom it heard just before a restart it does not know any more. */
    if (raft->options.read_mode == RK_RAFT_READ_LEASE &&
        raft->now <= raft->options.restart_ticks)
        return true;
    return raft->leader != RK_RAFT_NONE &&
           raft->election_elapsed < raft->options.election_tick;
}

void rk_raft_handle_vote(struct rk_raft *raft, const struct rk_raft_message *message)
{
    bool is_pre = message->type == RK_RAFT_MSG_PRE_VOTE;
    uint8_t answer = is_pre ? RK_RAFT_MSG_PRE_VOTE_RESP : RK_RAFT_MSG_VOTE_RESP;
    if (raft->options.must_not_vote) return;

    /* A learner votes, too: the candidate may know of its promotion before itself. */
    bool can_vote = raft->vote == message->from ||
                    (raft->vote == RK_RAFT_NONE && raft->leader == RK_RAFT_NONE) ||
                    (is_pre && message->term > raft->term);
    if (RK_MUTANT(second_vote)) can_vote = true;
    bool is_granted = can_vote && (rk_raft_log_is_up_to_date(&raft->log, message->index,
                                                             message->log_term) ||
                                   RK_MUTANT(vote_for_stale_log));
    RK_ASSERT(message->term <= raft->term || !rk_raft_is_in_lease(raft, message));
    if (!is_granted && raft->term == 0) return; /* a refusal needs a term to speak of */
    /* Rule 10: a granted pre-vote carries the term asked for, a refusal the own term. */
    rk_raft_send(raft,
                 (struct rk_raft_message){.type = answer,
                                          .to = message->from,
                                          .term = is_granted ? message->term : raft->term,
                                          .reject = !is_granted});
    if (is_granted && !is_pre) {
        RK_ASSERT(message->term == raft->term);
        raft->election_elapsed = 0;
        raft->vote = message->from;
    }
}

/* Rule 1: others may elect a candidate whose own disk has not yet kept the term. Would it
 * lead before, a crash could make it ask for, and win, the same term again without the
 * entries that it appended in it: two logs with one (index, term). */
static bool is_own_vote_durable(struct rk_raft *raft)
{
    const struct rk_raft_peer *self = rk_raft_tracker_find(&raft->tracker, raft->id);
    return (self != NULL && self->vote == RK_RAFT_VOTE_YES) ||
           RK_MUTANT(lead_before_durable);
}

void rk_raft_handle_vote_resp(struct rk_raft *raft, const struct rk_raft_message *message)
{
    /* Old answers to the pre-vote of this very campaign are no votes. */
    uint8_t expected = raft->role == RK_RAFT_PRE_CANDIDATE ? RK_RAFT_MSG_PRE_VOTE_RESP
                                                           : RK_RAFT_MSG_VOTE_RESP;
    if (message->type != expected) return;
    switch (rk_raft_tracker_poll(&raft->tracker, message->from, !message->reject)) {
    case RK_RAFT_VOTE_WON:
        if (raft->role == RK_RAFT_PRE_CANDIDATE) {
            start_campaign(raft, false, raft->campaign);
        } else if (is_own_vote_durable(raft)) {
            rk_raft_become_leader(raft);
            rk_raft_broadcast_append(raft);
        }
        break;
    case RK_RAFT_VOTE_LOST: rk_raft_become_follower(raft, raft->term, RK_RAFT_NONE); break;
    case RK_RAFT_VOTE_PENDING: break;
    }
}
