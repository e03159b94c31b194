/* The operator: adds, promotes, removes nodes by the calls that a person makes, and
 * replaces those whose disks are gone. Mostly it looks at what the cluster says, seldom at
 * the answers to its calls. */
#include "client.h"

#include "base/assert.h"
#include "host/host_internal.h"

#include <inttypes.h>

enum { VOTERS_MIN = 3 };

static void done(struct sim_client *client, struct sim_op *op, enum op_outcome outcome,
                 const struct rk_reply *reply)
{
    (void)op;
    if (outcome == OP_ANSWERED && reply->status == RK_OK)
        client->sim->counts.member_calls++;
}

static void ask(struct sim_client *client, enum rk_op kind, uint32_t slot)
{
    struct sim_op *op = op_new(client, kind, done);
    op->request.name = op_text(op, "n%u", slot + 1);
    RK_SET(&op->request, NAME);
    if (kind == RK_OP_CLUSTER_ADD) {
        op->request.peer = op_text(op, "127.0.0.%u:7600", slot + 1);
        RK_SET(&op->request, PEER);
    }
    sim_say(client->sim, "the operator asks for %s n%u", rk_op_info(kind)->name, slot + 1);
    op_send(op);
}

static uint32_t wished(const struct sim *sim, uint8_t wish)
{
    uint32_t count = 0;
    for (uint32_t i = 0; i < sim->members.row_count; i++)
        count += sim->members.rows[i].wish == wish;
    return count;
}

/* Its disk is empty, and nobody refused it yet. */
static bool is_fresh(const struct sim_node *node)
{
    return node->is_joiner && node->number == 0 && !node->is_absent;
}

/* The row waits for a node, and this one is told that it can not be it. */
static bool is_refused(const struct sim_node *node)
{
    return node->host != NULL && !node->host->is_running &&
           strstr(node->host->refused, "empty data folder") != NULL;
}

/* --- what was lost ------------------------------------------------------------------- */

/* A row waits for a node that never came, or came and was lost meanwhile. */
static bool mend_row(struct sim *sim, const struct sim_row *row)
{
    struct sim_node *node = &sim->nodes[row->slot];
    if (row->wish == RK_MEMBER_LEAVING || row->disk != 0 ||
        (is_fresh(node) && !is_refused(node)))
        return false;
    if (node->number != 0 && !sim_members_can_lose(sim, node)) return false;
    sim_node_wipe(node);
    return true;
}

static bool mend(struct sim_client *client)
{
    struct sim *sim = client->sim;
    for (uint32_t i = 0; i < sim->members.row_count; i++)
        if (mend_row(sim, &sim->members.rows[i])) return true;
    for (uint32_t i = 0; i < sim->config.slots; i++) {
        struct sim_node *node = &sim->nodes[i];
        const struct sim_row *row = sim_members_row(sim, i);
        if (!node->is_lost) continue;
        if (!is_fresh(node)) sim_node_wipe(node);
        if (row == NULL) {
            node->is_lost = false; /* it was removed: nobody waits for it */
            continue;
        }
        if (row->disk == 0) continue; /* replaced, and soon there */
        ask(client, RK_OP_CLUSTER_REPLACE, i);
        return true;
    }
    return false;
}

/* --- what changes -------------------------------------------------------------------- */

static void add(struct sim_client *client, uint32_t slot)
{
    struct sim_node *node = &client->sim->nodes[slot];
    if (sim_members_count_on(client->sim, node)) return; /* it is still on its way out */
    if (!is_fresh(node)) sim_node_wipe(node);
    node->is_lost = false;
    ask(client, RK_OP_CLUSTER_ADD, slot);
}

static void change(struct sim_client *client)
{
    struct sim *sim = client->sim;
    uint32_t slot = (uint32_t)sim_below(sim, sim->config.slots);
    const struct sim_row *row = sim_members_row(sim, slot);
    if (row == NULL) {
        add(client, slot);
        return;
    }
    if (row->wish == RK_MEMBER_LEARNER && sim_chance(sim, 70)) {
        ask(client, RK_OP_CLUSTER_PROMOTE, slot);
        return;
    }
    if (row->wish == RK_MEMBER_LEARNER || wished(sim, RK_MEMBER_VOTER) > VOTERS_MIN) {
        ask(client, RK_OP_CLUSTER_REMOVE, slot);
        return;
    }
    if (sim_chance(sim, 30) && sim_node_may_be_lost(&sim->nodes[slot]))
        sim_node_wipe(&sim->nodes[slot]);
}

void sim_operator_next(struct sim_client *client)
{
    struct sim *sim = client->sim;
    if (sim->members.version == 0) return; /* not born yet */
    if ((sim->is_healed || sim_chance(sim, 70)) && mend(client)) return;
    if (!sim->is_healed && sim_faults_have_members(sim)) change(client);
}

bool sim_operator_is_done(struct sim *sim)
{
    for (uint32_t i = 0; i < sim->config.slots; i++)
        if (sim->nodes[i].is_lost) return false;
    return sim->clients[sim->config.clients].op == NULL && sim_members_are_settled(sim);
}
