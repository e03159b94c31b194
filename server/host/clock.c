#include "host/host_internal.h"

/* Group time: the last stamp plus this node's boot clock since it took over. At takeover it
 * moves forward at most to the median of a majority's wall clocks, so one node with a wrong
 * clock can not run hard deadlines out. */

/* The median of (wall clock - ours) over the nodes heard lately, this one included. False
 * if these are no majority. The lower one of two middles: never ahead of half of them. */
static bool median_lead(const struct rk_host *host, int64_t *out)
{
    int64_t leads[RK_HOST_PEERS_MAX];
    uint32_t count = 0, members = 0;
    for (uint32_t i = 0; i < host->member_count; i++) {
        const struct rk_member *member = host->members[i];
        if (member->number == 0 || member->disk == 0) continue;
        members++;
        if (member != host->self &&
            (member->heard_ms == 0 ||
             rk_host_now(host) - member->heard_ms > 2 * host->election_timeout_ms))
            continue;
        int64_t lead = member == host->self ? 0 : member->wall_lead_ms;
        uint32_t at = count++;
        for (; at > 0 && leads[at - 1] > lead; at--)
            leads[at] = leads[at - 1];
        leads[at] = lead;
    }
    if (count <= members / 2) return false;
    *out = leads[(count - 1) / 2];
    return true;
}

void rk_group_clock_lead(struct rk_group *group)
{
    struct rk_host *host = group->host;
    int64_t lead;
    group->lead_boot_ms = rk_host_now(host);
    group->lead_base_ms = rk_machine_time(group->machine);
    if (!median_lead(host, &lead)) return;
    uint64_t median = (uint64_t)((int64_t)host->now.wall_ms + lead);
    if (median > group->lead_base_ms) group->lead_base_ms = median;
}

uint64_t rk_group_time(const struct rk_group *group)
{
    uint64_t boot = rk_host_now(group->host);
    if (group->is_serving) return group->lead_base_ms + (boot - group->lead_boot_ms);
    return group->stamp_ms + (boot - group->stamp_boot_ms);
}

void rk_group_clock_applied(struct rk_group *group)
{
    uint64_t stamp = rk_machine_time(group->machine);
    if (stamp == group->stamp_ms) return;
    group->stamp_ms = stamp;
    group->stamp_boot_ms = rk_host_now(group->host);
}

/* Unsigned, since a peer may say what it likes. */
static bool is_near(int64_t a, int64_t b)
{
    uint64_t apart = a > b ? (uint64_t)a - (uint64_t)b : (uint64_t)b - (uint64_t)a;
    return apart <= RK_HOST_CLOCK_MAX_MS;
}

bool rk_host_is_clock_fit(const struct rk_host *host, const struct rk_member *member)
{
    int64_t median;
    int64_t lead = member == host->self ? 0 : member->wall_lead_ms;
    return !median_lead(host, &median) || is_near(lead, median);
}

void rk_host_clock_check(struct rk_host *host)
{
    int64_t lead;
    if (!median_lead(host, &lead)) return;
    bool is_off = !is_near(lead, 0);
    if (is_off != host->is_clock_off) {
        if (is_off)
            rk_host_log(
                host, RK_LOG_ERROR,
                "this node's clock is %lld ms off the others' median: it does not lead",
                (long long)-lead);
        else
            rk_host_log(host, RK_LOG_INFO,
                        "this node's clock agrees with the others again");
    }
    host->is_clock_off = is_off;
}
