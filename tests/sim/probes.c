/* Progress: once all faults are over a write to each group is answered in time. Its caller
 * is no patient one, so that what is measured is the cluster. */
#include "client.h"

#include "base/assert.h"
#include "base/slot.h"

#include <stdio.h>

enum { NAMES_TRIED = 100000 };

static void answered(struct sim_client *client, struct sim_op *op, enum op_outcome outcome,
                     const struct rk_reply *reply)
{
    struct sim *sim = client->sim;
    (void)op;
    if (outcome != OP_ANSWERED || reply->status != RK_OK)
        sim_fail(sim, "the first write after healing is answered: %s",
                 outcome == OP_ANSWERED ? reply->text : "not at all");
    client->has_progress = true;
    sim_say(sim, "group %u writes %u ms after healing",
            client->at - sim->config.clients - 1,
            (unsigned)(sim->now_us - sim->healed_us) / 1000);
}

static struct sim_client *probe_of(struct sim *sim, uint32_t group)
{
    return &sim->clients[sim->config.clients + 1 + group];
}

/* Some node that knows which group serves what; NULL: the cluster is not born yet. */
static const struct rk_host *guide(const struct sim *sim)
{
    for (uint32_t i = 0; i < sim->config.slots; i++)
        if (sim_node_is_up(&sim->nodes[i]) && rk_host_group_of(sim->nodes[i].host, 0) != 0)
            return sim->nodes[i].host;
    return NULL;
}

static struct rk_slice key_of(struct sim *sim, struct sim_op *op, uint32_t group)
{
    const struct rk_host *host = guide(sim);
    char name[16];
    for (unsigned i = 0; i < NAMES_TRIED; i++) {
        (void)snprintf(name, sizeof(name), "probe%u", i);
        if (rk_host_group_of(host, rk_slot_of_name(rk_slice_of_string(name))) == group)
            return op_text(op, "%s", name);
    }
    sim_fail(sim, "group %u has no slots", group);
}

static void lock_probe(struct sim_client *client)
{
    struct sim_op *op = op_new(client, RK_OP_LOCK_ACQUIRE, answered);
    op->request.resource = op_text(op, "probe");
    op->request.owner = op_text(op, "probe");
    op->request.lease_ms = 500;
    RK_SET(&op->request, LEASE_MS);
    op_send(op);
}

static void cache_probe(struct sim_client *client, uint32_t group)
{
    struct sim_op *op = op_new(client, RK_OP_CACHE_PUT, answered);
    op->request.key = key_of(client->sim, op, group);
    op->request.value.bytes = op_text(op, "here");
    op->request.value.encoding = RK_ENCODING_RAW;
    op_send(op);
}

static void start(struct sim *sim)
{
    lock_probe(probe_of(sim, 0));
    for (uint32_t group = 1; group <= sim->config.groups; group++)
        cache_probe(probe_of(sim, group), group);
}

bool sim_has_progress(struct sim *sim)
{
    bool has_begun = probe_of(sim, 0)->seq > 0, has_progress = has_begun;
    if (!has_begun && guide(sim) != NULL) start(sim);
    for (uint32_t group = 0; group <= sim->config.groups; group++)
        has_progress &= probe_of(sim, group)->has_progress;
    return has_progress;
}
