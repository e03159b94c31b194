/* Terms and votes: a term begins with a candidate and not otherwise, and who hears its
 * leader helps nobody to take its place. */
#include "sim.h"

#include "base/assert.h"
#include "host/host_internal.h"

#include <inttypes.h>
#include <stdlib.h>

/* --- terms --------------------------------------------------------------------------- */

void sim_ballots_campaign(struct sim *sim, uint32_t id, uint64_t term)
{
    struct sim_history *history = &sim->histories[id];
    if (term >= history->campaign_capacity) {
        uint64_t capacity = 2 * term + 64;
        history->campaigns = realloc(history->campaigns, capacity);
        RK_ASSERT(history->campaigns != NULL);
        memset(history->campaigns + history->campaign_capacity, 0,
               capacity - history->campaign_capacity);
        history->campaign_capacity = capacity;
    }
    history->campaigns[term] = 1;
}

void sim_ballots_term(struct sim_node *node, uint32_t id, uint64_t term)
{
    const struct sim_history *history = &node->sim->histories[id];
    if (term < history->campaign_capacity && history->campaigns[term] != 0) return;
    sim_fail(node->sim,
             "%s group %u is in term %" PRIu64 ", in which nobody is a candidate",
             node->name, id, term);
}

/* --- votes --------------------------------------------------------------------------- */

/* As the host judges a frame: of a member, for this node. */
static bool is_taken(const struct rk_host *host, const char *name, struct rk_slice header)
{
    struct rk_reader in;
    const struct rk_member *from = rk_host_member_by_name(host, rk_slice_of_string(name));
    rk_reader_init(&in, header);
    (void)rk_read_bytes(&in, 1 + 2 * 8);
    uint64_t disk = rk_read_u64(&in);
    uint64_t number = rk_read_u64(&in);
    uint64_t to = rk_read_u64(&in);
    return host->is_running && from != NULL && from->number == number && number != 0 &&
           from->disk == disk && to == host->number;
}

/* Ticks of the node since it heard its leader are fewer than it promises to be loyal for:
 * two thirds of the election timeout, the rest is jitter. */
static bool hears_leader(const struct sim_node *node, uint32_t id)
{
    const struct rk_host *host = node->host;
    const struct sim_group_view *view = &node->views[id];
    const struct rk_raft *raft = host->groups[id]->raft;
    return view->heard_from != 0 && rk_raft_leader(raft) == view->heard_from &&
           rk_raft_term(raft) == view->heard_term && !view->has_evidence &&
           rk_host_now(host) - view->heard_ms + 2 * host->tick_ms <
               2 * host->election_timeout_ms / 3;
}

static void asked(struct sim_node *node, uint32_t id, const struct rk_raft_message *message,
                  bool is_muddled)
{
    bool is_pre = message->type == RK_RAFT_MSG_PRE_VOTE;
    struct sim_asked *asked =
        &node->views[id].asked[is_pre][message->from % SIM_NUMBERS_MAX]
                              [message->term % SIM_TERMS_KEPT];
    if (asked->term != message->term || asked->number != message->from)
        *asked = (struct sim_asked){.term = message->term, .number = message->from};
    if (!is_muddled && message->campaign != RK_RAFT_CAMPAIGN_TRANSFER &&
        message->term > rk_raft_term(node->host->groups[id]->raft) &&
        hears_leader(node, id))
        asked->must_refuse = true;
    else
        asked->may_grant = true;
}

void sim_ballots_received(struct sim_node *node, const char *from, struct rk_slice frame)
{
    struct rk_reader in;
    struct rk_slice header;
    struct sim_section section;
    uint32_t muddled = 0; /* groups whose term an earlier message of this frame raised */
    if (!sim_node_is_up(node) || !sim_frame_open(&in, frame, &header) ||
        !is_taken(node->host, from, header))
        return;
    while (sim_frame_next(&in, &section)) {
        struct rk_raft_message message;
        uint32_t id;
        if (section.kind != RK_SECTION_RAFT ||
            !sim_section_message(node->sim, &section, &id, &message))
            continue;
        struct sim_group_view *view = &node->views[id];
        uint64_t term = rk_raft_term(node->host->groups[id]->raft);
        bool is_request =
            message.type == RK_RAFT_MSG_VOTE || message.type == RK_RAFT_MSG_PRE_VOTE;
        if (is_request) {
            asked(node, id, &message, (muddled >> id & 1) != 0);
        } else if (message.term > term) {
            muddled |= UINT32_C(1) << id;
        }
        if (message.term < term ||
            (message.type != RK_RAFT_MSG_APP && message.type != RK_RAFT_MSG_HEARTBEAT))
            continue;
        view->heard_ms = rk_host_now(node->host);
        view->heard_from = message.from;
        view->heard_term = message.term;
        view->has_evidence = false;
    }
    rk_arena_reset(&node->sim->arena);
}

void sim_ballots_granted(struct sim_node *node, uint32_t id,
                         const struct rk_raft_message *message)
{
    bool is_pre = message->type == RK_RAFT_MSG_PRE_VOTE_RESP;
    const struct sim_asked *asked =
        &node->views[id]
             .asked[is_pre][message->to % SIM_NUMBERS_MAX][message->term % SIM_TERMS_KEPT];
    if (asked->number == message->to && asked->term == message->term &&
        asked->must_refuse && !asked->may_grant)
        sim_fail(node->sim,
                 "%s group %u grants number %" PRIu64 " a %s of term %" PRIu64
                 " while it hears its leader",
                 node->name, id, message->to, is_pre ? "pre-vote" : "vote", message->term);
}

/* The connection to that node is gone and was refused. */
void sim_ballots_evidence(struct sim_node *node, const char *name)
{
    const struct rk_host *host = node->host;
    const struct rk_member *member = rk_host_member_by_name(host, rk_slice_of_string(name));
    for (uint32_t id = 0; host->is_running && id <= host->group_count; id++)
        if (member != NULL && rk_raft_leader(host->groups[id]->raft) == member->number)
            node->views[id].has_evidence = true;
}

void sim_ballots_opened(struct sim_node *node, uint32_t id)
{
    struct sim_group_view *view = &node->views[id];
    view->heard_from = 0;
    view->has_evidence = true;
    memset(view->asked, 0, sizeof(view->asked));
}
