#include "host/host_internal.h"

#include <inttypes.h>
#include <stdio.h>

/* Snapshot files are read back now and then, and when a follower did not take the one that
 * it was sent. A node whose data failed a checksum neither votes nor leads (rule 18 of the
 * design): it follows and serves, until it is replaced under a new number. What it has in
 * memory is sound, but it could not come back with these data. */

enum { SUSPECT_AGAIN_MS = 5000 };

bool rk_host_is_damaged(const struct rk_host *host)
{
    return host->damage[0] != '\0';
}

/* --- reading back -------------------------------------------------------------------- */

void rk_group_suspect(struct rk_group *group)
{
    uint64_t now = rk_host_now(group->host);
    if (group->suspect_ms != 0 && now - group->suspect_ms < SUSPECT_AGAIN_MS) return;
    group->suspect_ms = now;
    group->is_suspect = true;
}

static struct rk_group *next_to_verify(struct rk_host *host)
{
    for (uint32_t id = 0; id <= host->group_count; id++)
        if (host->groups[id]->is_suspect) return host->groups[id];
    if (host->verify_ms == 0 || rk_host_now(host) < host->verify_at_ms) return NULL;
    host->verify_at_ms = rk_host_now(host) + host->verify_ms / (host->group_count + 1);
    host->verify_group = (host->verify_group + 1) % (host->group_count + 1);
    return host->groups[host->verify_group];
}

bool rk_host_verify_begin(struct rk_host *host)
{
    struct rk_host_work *work = rk_host_work_idle(host, RK_LANE_LONG);
    if (work == NULL || rk_host_is_damaged(host)) return false;
    struct rk_group *group = next_to_verify(host);
    if (group == NULL) return false;
    group->is_suspect = false;
    if (group->mark_index == 0) return false; /* none yet */
    work->id = (struct rk_snapshot_id){group->id, group->mark_index, group->mark_term};
    rk_host_work_start(host, work, RK_WORK_VERIFY);
    return true;
}

void rk_host_verified(struct rk_host *host, const struct rk_host_work *work)
{
    const struct rk_group *group = host->groups[work->id.group];
    if (work->status == RK_OK) host->metrics.snapshots_verified++;
    if (work->status == RK_OK || group->mark_index != work->id.index) return;
    /* The log names it: a file that is gone is as bad as one that is wrong. */
    if (work->status == RK_ECORRUPT || work->status == RK_ENOENT)
        rk_host_damaged(host, work->error.message);
    else
        rk_host_log(host, RK_LOG_WARN, "group %u: the snapshot was not read back: %s",
                    group->id, work->error.message);
}

/* --- damaged ------------------------------------------------------------------------- */

void rk_host_damaged(struct rk_host *host, const char *why)
{
    if (rk_host_is_damaged(host)) return;
    (void)snprintf(host->damage, sizeof(host->damage), "%.*s",
                   (int)sizeof(host->damage) - 1, why);
    host->metrics.damaged = 1;
    host->self->is_damaged = true;
    rk_host_log(host, RK_LOG_ERROR,
                "data on disk are damaged: %s; this node neither votes nor leads any more; "
                "replace it with: rukun cluster replace %s",
                why, host->name);
    for (uint32_t id = 0; id <= host->group_count; id++)
        rk_raft_forbid_votes(host->groups[id]->raft);
    /* At once, so that nobody hands a leadership back. */
    for (uint32_t i = 0; i < host->member_count; i++)
        if (host->members[i] != host->self) rk_host_node_section(host, host->members[i]);
}

static bool are_enough(const struct rk_host *host, const struct rk_raft_members *voters)
{
    uint32_t sound = 0;
    for (uint32_t i = 0; i < voters->count; i++) {
        const struct rk_member *member = rk_host_member_by_number(host, voters->ids[i]);
        /* A link that fell says sooner than silence that a node is gone. */
        sound += member != NULL && member != host->self && !member->is_damaged &&
                 rk_member_is_up(host, member) && member->links[RK_LINK_BULK].is_up;
    }
    return sound > voters->count / 2;
}

/* Hands over what it leads. While the others alone could not elect anyone it goes on: then
 * there would be no leader at all. */
void rk_host_damaged_run(struct rk_host *host)
{
    for (uint32_t id = 0; id <= host->group_count; id++) {
        struct rk_group *group = host->groups[id];
        const struct rk_raft_members *outgoing = &group->conf.voters_outgoing;
        if (rk_group_is_leader(group) && are_enough(host, &group->conf.voters) &&
            (outgoing->count == 0 || are_enough(host, outgoing)))
            (void)rk_group_step_aside(group);
    }
}
