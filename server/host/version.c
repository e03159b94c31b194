#include "host/host_internal.h"

#include <inttypes.h>
#include <stdio.h>

/* Versions of the state machine: raised when all can follow, refused where one can not. */

enum rk_status rk_group_machine_new(const struct rk_group *group, struct rk_machine **out)
{
    const struct rk_machine_options options = {
        .struct_size = sizeof(options),
        .group = group->id,
        .version_max = group->host->machine_version,
    };
    return rk_machine_new(out, &options);
}

/* Lowers *version to what all of these know; false: one of them has not said. */
static bool known_by(const struct rk_host *host, const struct rk_raft_members *set,
                     uint32_t *version)
{
    for (uint32_t i = 0; i < set->count; i++) {
        const struct rk_member *member = rk_host_member_by_number(host, set->ids[i]);
        if (member == host->self) continue;
        if (member == NULL || member->machine_version == 0) return false;
        if (member->machine_version < *version) *version = member->machine_version;
    }
    return true;
}

/* Learners count too: an entry that they can not apply would end them. */
void rk_group_version_check(struct rk_group *group)
{
    struct rk_host *host = group->host;
    struct rk_request request;
    uint32_t version = host->machine_version;
    if (!group->is_serving || version <= rk_machine_version(group->machine)) return;
    if (!known_by(host, &group->conf.voters, &version) ||
        !known_by(host, &group->conf.voters_outgoing, &version) ||
        !known_by(host, &group->conf.learners, &version) ||
        version <= rk_machine_version(group->machine))
        return;
    memset(&request, 0, sizeof(request));
    request.op = RK_OP_MACHINE_VERSION;
    request.number = version;
    RK_SET(&request, NUMBER);
    rk_buf_reset(&host->scratch);
    rk_request_encode(&host->scratch, &request);
    rk_group_own(group, &host->scratch);
}

void rk_group_entry_fatal(struct rk_group *group, const struct rk_raft_entry *entry,
                          enum rk_status status)
{
    char why[RK_MACHINE_WHY_SIZE] = "";
    if (entry->type == RK_RAFT_ENTRY_NORMAL)
        rk_machine_explain_entry(group->machine, entry->data, why);
    else if (status == RK_EUNSUPPORTED)
        (void)snprintf(why, sizeof(why), "membership change of version %u; unknown here",
                       entry->data.size > 0 ? entry->data.data[0] : 0);
    rk_host_fatal(group->host, status, "group %u: entry %" PRIu64 " can not be applied: %s",
                  group->id, entry->index, why[0] != '\0' ? why : rk_status_text(status));
}

enum rk_status rk_group_record_fail(const struct rk_group *group,
                                    const struct rk_machine *machine,
                                    struct rk_slice record, uint64_t index,
                                    enum rk_status status, struct rk_storage_error *error)
{
    char why[RK_MACHINE_WHY_SIZE];
    rk_machine_explain_record(machine, record, why);
    return rk_storage_fail(error, status == RK_EPROTO ? RK_ECORRUPT : status,
                           "group %u: a record of snapshot %" PRIu64 " does not load: %s",
                           group->id, index, why[0] != '\0' ? why : rk_status_text(status));
}
