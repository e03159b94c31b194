#include "host/keeper.h"

#include <inttypes.h>
#include <stdio.h>

static const char *role_text(const struct rk_group *group, enum rk_raft_role role)
{
    for (uint32_t i = 0; i < group->conf.learners.count; i++)
        if (group->conf.learners.ids[i] == group->host->number) return "learner";
    switch (role) {
    case RK_RAFT_LEADER: return "leader";
    case RK_RAFT_CANDIDATE: return "candidate";
    case RK_RAFT_PRE_CANDIDATE: return "pre-candidate";
    default: return "follower";
    }
}

static void group_status(const struct rk_group *group, struct rk_host_group_status *out)
{
    struct rk_raft_status status;
    rk_raft_status(group->raft, &status);
    const struct rk_member *leader = rk_host_member_by_number(group->host, status.leader);
    *out = (struct rk_host_group_status){
        .id = group->id,
        .role = role_text(group, status.role),
        .leader = leader == NULL ? "" : leader->name,
        .term = status.hard_state.term,
        .commit = status.hard_state.commit,
        .applied = rk_machine_index(group->machine),
        .last_index = status.last_index,
        .first_index = status.first_index,
        .voter_count = group->conf.voters.count,
        .learner_count = group->conf.learners.count,
        .bytes = rk_machine_bytes(group->machine),
        .objects = rk_machine_object_count(group->machine),
        .machine_version = rk_machine_version(group->machine),
    };
}

/* A leader must hear a majority, a follower its leader. Who keeps locks in a store must
 * have it, too. */
static bool has_quorum(const struct rk_host *host)
{
    const struct rk_keeper *keeper = host->keeper;
    if (keeper != NULL && keeper->state != RK_KEEPER_OFF &&
        (keeper->state != RK_KEEPER_SERVING || !keeper->is_up))
        return false;
    for (uint32_t id = 0; id <= host->group_count; id++) {
        const struct rk_group *group = host->groups[id];
        const struct rk_member *leader = rk_group_leader(group);
        if (leader == NULL || !rk_member_is_up(host, leader)) return false;
        if (leader == host->self && (!group->is_serving || !rk_group_has_contact(group)))
            return false;
    }
    return true;
}

static void nodes_fill(struct rk_host *host, struct rk_host_status *out)
{
    struct rk_host_node_status *nodes =
        rk_realloc_array(host->node_status, host->member_count, sizeof(*nodes));
    if (nodes == NULL) return;
    host->node_status = nodes;
    for (uint32_t i = 0; i < host->member_count; i++) {
        const struct rk_member *member = host->members[i];
        nodes[i] = (struct rk_host_node_status){
            .name = member->name,
            .number = member->number,
            .http = member->http,
            .rpc = member->rpc,
            .peer = member->peer,
            .is_up = rk_member_is_up(host, member),
            .is_damaged = member->is_damaged,
            .role = rk_member_role(host, member),
        };
    }
    out->nodes = nodes;
    out->node_count = host->member_count;
}

const char *rk_host_refusal(const struct rk_host *host)
{
    return host->refused[0] != '\0' ? host->refused : host->restore.differs;
}

void rk_host_status(struct rk_host *host, struct rk_host_status *out)
{
    memset(out, 0, sizeof(*out));
    out->name = host->name;
    out->number = host->is_running ? host->number : 0;
    out->is_damaged = rk_host_is_damaged(host);
    out->cluster = "";
    out->slots = host->slots.group;
    if (host->is_stopping)
        out->state = "stopping";
    else if (host->is_removed)
        out->state = "removed";
    else if (rk_host_is_damaged(host)) {
        snprintf(host->state_text, sizeof(host->state_text),
                 "damaged: %s; replace it with: rukun cluster replace %s", host->damage,
                 host->name);
        out->state = host->state_text;
    } else if (host->is_running)
        out->state = "running";
    else if (rk_host_refusal(host)[0] == '\0')
        out->state = "joining";
    else {
        snprintf(host->state_text, sizeof(host->state_text), "refused: %s",
                 rk_host_refusal(host));
        out->state = host->state_text;
    }
    nodes_fill(host, out);
    if (!host->is_running) return;
    snprintf(host->cluster_text, sizeof(host->cluster_text), "%016" PRIx64 "%016" PRIx64,
             host->cluster.high, host->cluster.low);
    out->cluster = host->cluster_text;
    out->history = rk_machine_history(host->groups[0]->machine);
    out->map_version = (uint32_t)host->slots.version;
    out->has_quorum = !host->is_removed && has_quorum(host);
    out->members_version = host->table_version;
    out->is_reconciled = rk_host_is_reconciled(host);
    struct rk_host_group_status *groups =
        rk_realloc_array(host->group_status, host->group_count + 1, sizeof(*groups));
    if (groups == NULL) return;
    host->group_status = groups;
    for (uint32_t id = 0; id <= host->group_count; id++)
        group_status(host->groups[id], &groups[id]);
    out->groups = groups;
    out->group_count = host->group_count + 1;
}

enum rk_status rk_host_group_hash(struct rk_host *host, uint32_t group, uint64_t *applied,
                                  uint64_t *out)
{
    if (!host->is_running || group > host->group_count) return RK_ENOENT;
    *applied = rk_machine_index(host->groups[group]->machine);
    return rk_machine_hash(host->groups[group]->machine, out);
}

const struct rk_host_metrics *rk_host_metrics(const struct rk_host *host)
{
    return &host->metrics;
}

const struct rk_machine *rk_host_machine(const struct rk_host *host, uint32_t group)
{
    if (!host->is_running || group > host->group_count) return NULL;
    return host->groups[group]->machine;
}

uint32_t rk_host_group_of(const struct rk_host *host, uint32_t slot)
{
    return slot < RK_SLOT_COUNT ? host->slots.group[slot] : 0;
}

bool rk_host_leads(const struct rk_host *host, uint32_t group)
{
    return host->is_running && group <= host->group_count &&
           host->groups[group]->is_serving;
}

uint64_t rk_host_history(const struct rk_host *host)
{
    return host->is_running ? rk_machine_history(host->groups[0]->machine) : 0;
}
