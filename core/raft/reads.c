/* Linearizable reads (Raft thesis, section 6.4): a read is served at the commit index that
 * the leader had when it came, once a quorum confirmed in a later round that the leader was
 * still the leader. One round confirms all reads that came before it. */
#include "raft/internal.h"

#include "base/alloc.h"

enum rk_status rk_raft_reads_add(struct rk_raft *raft, uint64_t request, uint64_t from)
{
    struct rk_raft_reads *reads = &raft->reads;
    if (reads->count >= raft->options.max_pending_reads) return RK_EBUSY;
    if (reads->count == reads->capacity) {
        size_t capacity = reads->capacity == 0 ? 16 : reads->capacity * 2;
        struct rk_raft_read *items =
            rk_realloc_array(reads->items, capacity, sizeof(*items));
        if (items == NULL) return RK_ENOMEM;
        reads->items = items;
        reads->capacity = capacity;
    }
    reads->items[reads->count++] = (struct rk_raft_read){.request = request, .from = from};
    return RK_OK;
}

static void answer(struct rk_raft *raft, const struct rk_raft_read *read, uint64_t index)
{
    if (read->from == raft->id) {
        rk_raft_release_read(raft,
                             (struct rk_raft_read_state){read->request, index, false});
        return;
    }
    rk_raft_send(raft, (struct rk_raft_message){.type = RK_RAFT_MSG_READ_INDEX_RESP,
                                                .to = read->from,
                                                .index = index,
                                                .context = read->request});
}

static void drop_first(struct rk_raft_reads *reads, size_t count)
{
    for (size_t i = count; i < reads->count; i++)
        reads->items[i - count] = reads->items[i];
    reads->count -= count;
    reads->begun = reads->begun > count ? reads->begun - count : 0;
}

static void answer_all(struct rk_raft *raft)
{
    for (size_t i = 0; i < raft->reads.count; i++)
        answer(raft, &raft->reads.items[i], raft->log.committed);
    drop_first(&raft->reads, raft->reads.count);
}

bool rk_raft_has_lease(const struct rk_raft *raft)
{
    const struct rk_raft_reads *reads = &raft->reads;
    if (raft->options.read_mode != RK_RAFT_READ_LEASE) return false;
    if (reads->lease_start == 0 || reads->is_lease_void) return false;
    RK_ASSERT((raft->transferee == RK_RAFT_NONE || RK_MUTANT(lease_survives_transfer)) &&
              !raft->options.early_vote); /* rule 14 */
    /* Voters ignore candidates for election_tick since they heard the round, which was
     * after it began. Rule 14: their clocks may be faster. */
    uint64_t drift = RK_MUTANT(lease_ignores_drift) ? 0 : raft->options.drift_ticks;
    return raft->now - reads->lease_start + drift < raft->options.election_tick;
}

bool rk_raft_reads_are_due(const struct rk_raft *raft)
{
    return raft->role == RK_RAFT_LEADER && raft->reads.begun < raft->reads.count &&
           (rk_raft_has_committed_in_term(raft) || RK_MUTANT(read_before_noop));
}

/* Rule 13: the number is new, and all reads that it will confirm have come. */
static uint64_t begin_round(struct rk_raft *raft)
{
    struct rk_raft_reads *reads = &raft->reads;
    RK_ASSERT(reads->begun == reads->count || rk_raft_has_committed_in_term(raft) ||
              RK_MUTANT(read_before_noop)); /* rule 4 */
    reads->round++;
    for (; reads->begun < reads->count; reads->begun++) {
        reads->items[reads->begun].round = reads->round;
        reads->items[reads->begun].index = raft->log.committed;
    }
    reads->lease_rounds[reads->round % RK_RAFT_LEASE_ROUNDS].round = reads->round;
    reads->lease_rounds[reads->round % RK_RAFT_LEASE_ROUNDS].tick = raft->now;
    struct rk_raft_peer *self = rk_raft_tracker_find(&raft->tracker, raft->id);
    if (self != NULL) self->read_ack = reads->round;
    return reads->round;
}

void rk_raft_reads_flush(struct rk_raft *raft)
{
    if (!rk_raft_reads_are_due(raft)) return;
    if (rk_raft_tracker_is_singleton(&raft->tracker, raft->id) || rk_raft_has_lease(raft) ||
        RK_MUTANT(read_without_quorum)) {
        answer_all(raft);
        return;
    }
    (void)begin_round(raft);
    rk_raft_broadcast_heartbeat(raft);
}

uint64_t rk_raft_reads_context(struct rk_raft *raft)
{
    /* For a lease each heartbeat counts. Reads before the no-op stay outside: their index
     * is not known yet. */
    bool is_lease_round = raft->options.read_mode == RK_RAFT_READ_LEASE &&
                          raft->reads.begun == raft->reads.count;
    if (rk_raft_reads_are_due(raft) || is_lease_round) return begin_round(raft);
    return raft->reads.begun > 0 ? raft->reads.round : 0;
}

static void renew_lease(struct rk_raft *raft, uint64_t confirmed)
{
    for (size_t i = 0; i < RK_RAFT_LEASE_ROUNDS; i++)
        if (raft->reads.lease_rounds[i].round != 0 &&
            raft->reads.lease_rounds[i].round <= confirmed &&
            raft->reads.lease_rounds[i].tick > raft->reads.lease_start)
            raft->reads.lease_start = raft->reads.lease_rounds[i].tick;
}

void rk_raft_reads_acked(struct rk_raft *raft, struct rk_raft_peer *peer, uint64_t round)
{
    struct rk_raft_reads *reads = &raft->reads;
    if (RK_MUTANT(read_round_unchecked)) round = reads->round;
    if (round == 0 || round > reads->round) return;
    if (round > peer->read_ack) peer->read_ack = round;
    uint64_t confirmed = rk_raft_tracker_read_confirmed(&raft->tracker);
    renew_lease(raft, confirmed);
    size_t count = 0;
    while (count < reads->begun && reads->items[count].round <= confirmed) {
        RK_ASSERT(reads->items[count].round != 0 && raft->role == RK_RAFT_LEADER);
        answer(raft, &reads->items[count], reads->items[count].index);
        count++;
    }
    if (count > 0) drop_first(reads, count);
}

void rk_raft_reads_lost(struct rk_raft *raft)
{
    struct rk_raft_reads *reads = &raft->reads;
    for (size_t i = 0; i < reads->count; i++)
        if (reads->items[i].from == raft->id)
            rk_raft_release_read(
                raft, (struct rk_raft_read_state){reads->items[i].request, 0, true});
    reads->count = 0;
    reads->begun = 0;
    reads->lease_start = 0;
    reads->is_lease_void = false;
    for (size_t i = 0; i < RK_RAFT_LEASE_ROUNDS; i++)
        reads->lease_rounds[i].round = 0;
}
