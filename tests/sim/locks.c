/* Locks as their holders see them: nobody believes in a lock that another believes in,
 * nobody loses one within its lease, and fences rise. */
#include "client.h"

#include "base/assert.h"
#include "host/host_internal.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

struct grant {
    uint64_t fence;
    char owner[CLIENT_TEXT_MAX];
};

struct sim_locks {
    uint64_t *highest; /* by resource: the highest fence whose grant was answered */
    struct grant *grants;
    uint64_t grant_count, grant_capacity;
};

void locks_init(struct sim *sim)
{
    sim->locks = sim_alloc(1, sizeof(*sim->locks));
    sim->locks->highest = sim_alloc(sim->config.resources, sizeof(*sim->locks->highest));
}

void locks_free(struct sim *sim)
{
    if (sim->locks == NULL) return;
    free(sim->locks->highest);
    free(sim->locks->grants);
    free(sim->locks);
}

/* --- belief -------------------------------------------------------------------------- */

static uint64_t until(const struct sim_client *client)
{
    const struct sim_hold *hold = &client->hold;
    if (!hold->is_held) return 0;
    return hold->is_in_session ? client->session.until_us : hold->until_us;
}

static bool conflict(const struct sim_hold *a, const struct sim_hold *b)
{
    for (uint32_t i = 0; i < a->count; i++)
        for (uint32_t k = 0; k < b->count; k++)
            if (a->places[i] == b->places[k] && !(a->is_shared[i] && b->is_shared[k]))
                return true;
    return false;
}

static void belief_check(struct sim_client *client)
{
    struct sim *sim = client->sim;
    if (until(client) <= sim->now_us) return;
    for (uint32_t i = 0; i < sim->config.clients; i++) {
        struct sim_client *other = &sim->clients[i];
        if (other == client || until(other) <= sim->now_us ||
            !conflict(&client->hold, &other->hold))
            continue;
        sim_broken(sim, SIM_RULE_HOLDERS,
                   "%s (fence %" PRIu64 ") and %s (fence %" PRIu64 ") hold lock r%u",
                   client->hold.owner, client->hold.fence, other->hold.owner,
                   other->hold.fence, client->hold.places[0]);
    }
}

/* --- acquire ------------------------------------------------------------------------- */

static void fence_check(struct sim *sim, const struct sim_op *op, uint64_t fence)
{
    struct sim_locks *locks = sim->locks;
    const char *owner = (const char *)op->request.owner.data;
    if (fence <= op->floor)
        sim_broken(sim, SIM_RULE_FENCES,
                   "%s got fence %" PRIu64 " after %" PRIu64 " had been given", owner,
                   fence, op->floor);
    for (uint64_t i = 0; i < locks->grant_count; i++)
        if (locks->grants[i].fence == fence && strcmp(locks->grants[i].owner, owner) != 0)
            sim_broken(sim, SIM_RULE_FENCES, "fence %" PRIu64 " was given to %s and to %s",
                       fence, locks->grants[i].owner, owner);
    if (locks->grant_count == locks->grant_capacity) {
        locks->grant_capacity = 2 * locks->grant_capacity + 64;
        locks->grants =
            realloc(locks->grants, locks->grant_capacity * sizeof(*locks->grants));
        RK_ASSERT(locks->grants != NULL);
    }
    struct grant *grant = &locks->grants[locks->grant_count++];
    grant->fence = fence;
    (void)snprintf(grant->owner, sizeof(grant->owner), "%s", owner);
}

static uint32_t place_of(const struct rk_slice resource)
{
    return (uint32_t)(resource.data[1] - '0');
}

static void acquired(struct sim_client *client, struct sim_op *op, enum op_outcome outcome,
                     const struct rk_reply *reply)
{
    struct sim *sim = client->sim;
    struct sim_hold *hold = &client->hold;
    if (outcome != OP_ANSWERED || reply->status != RK_OK) return;
    if (!reply->granted) sim_fail(sim, "an acquire is answered neither so nor so");
    sim->counts.grants++;
    fence_check(sim, op, reply->fence);
    *hold = (struct sim_hold){.is_held = true, .fence = reply->fence};
    hold->lease_ms = op->request.lease_ms;
    hold->until_us = client_belief_us(client, op->start_us, hold->lease_ms);
    hold->is_in_session = op->extra != 0;
    /* Its session was given up meanwhile, and the lock with it. */
    if (hold->is_in_session &&
        !rk_slice_is_equal(op->request.session, rk_slice_of_string(client->session.id)))
        hold->is_held = false;
    hold->count = op->request.resource_count;
    (void)snprintf(hold->owner, sizeof(hold->owner), "%s",
                   (const char *)op->request.owner.data);
    for (uint32_t i = 0; i < hold->count; i++) {
        hold->places[i] = place_of(op->request.resources[i].resource);
        hold->is_shared[i] = op->request.resources[i].mode == RK_MODE_SHARED;
        if (sim->locks->highest[hold->places[i]] < hold->fence)
            sim->locks->highest[hold->places[i]] = hold->fence;
    }
    belief_check(client);
}

static void resources_pick(struct sim_client *client, struct sim_op *op)
{
    struct sim *sim = client->sim;
    uint32_t count = sim->config.resources > 1 && sim_chance(sim, 15) ? 2 : 1;
    uint32_t place = (uint32_t)sim_below(sim, sim->config.resources);
    for (uint32_t i = 0; i < count; i++) {
        op->resources[i].resource = op_text(op, "r%u", place);
        op->resources[i].mode = sim_chance(sim, 25) ? RK_MODE_SHARED : RK_MODE_EXCLUSIVE;
        if (op->floor < sim->locks->highest[place]) op->floor = sim->locks->highest[place];
        place = (place + 1) % sim->config.resources;
    }
    if (count == 1) {
        op->request.resource = op->resources[0].resource;
        op->request.mode = op->resources[0].mode;
        RK_SET(&op->request, MODE);
        return;
    }
    op->request.resources = op->resources;
    op->request.resource_count = count;
    op->request.is_bulk = true;
    RK_SET(&op->request, RESOURCES);
}

static void acquire(struct sim_client *client)
{
    struct sim *sim = client->sim;
    struct sim_op *op = op_new(client, RK_OP_LOCK_ACQUIRE, acquired);
    op->request.owner = op_text(op, "%s.%u", client->name, (unsigned)++client->cycle);
    resources_pick(client, op);
    op->request.wait_ms = sim_chance(sim, 50) ? 0 : sim_between(sim, 100, 3000);
    RK_SET(&op->request, WAIT_MS);
    if (client->session.id[0] != '\0' && until(client) == 0 &&
        client->session.until_us > sim->now_us) {
        op->request.session = op_text(op, "%s", client->session.id);
        RK_SET(&op->request, SESSION);
        op->extra = 1;
    } else {
        op->request.lease_ms = sim_between(sim, 500, 4000);
        RK_SET(&op->request, LEASE_MS);
    }
    op_send(op);
}

/* --- sessions ------------------------------------------------------------------------ */

static void opened(struct sim_client *client, struct sim_op *op, enum op_outcome outcome,
                   const struct rk_reply *reply)
{
    if (outcome != OP_ANSWERED || reply->status != RK_OK) return;
    RK_ASSERT(reply->session.size < sizeof(client->session.id));
    client->session = (struct sim_session){.ttl_ms = op->request.ttl_ms};
    memcpy(client->session.id, reply->session.data, reply->session.size);
    client->session.until_us =
        client_belief_us(client, op->start_us, client->session.ttl_ms);
}

static void session_open(struct sim_client *client)
{
    struct sim_op *op = op_new(client, RK_OP_SESSION_OPEN, opened);
    op->request.ttl_ms = sim_between(client->sim, 700, 3000);
    RK_SET(&op->request, TTL_MS);
    op_send(op);
}

static void forget(struct sim_client *client)
{
    client->session.id[0] = '\0';
    client->session.until_us = 0;
    if (client->hold.is_in_session) client->hold.is_held = false;
}

static void kept_alive(struct sim_client *client, struct sim_op *op,
                       enum op_outcome outcome, const struct rk_reply *reply)
{
    struct sim *sim = client->sim;
    struct sim_session *session = &client->session;
    if (outcome != OP_ANSWERED || strcmp(session->id, op->texts[0]) != 0) return;
    if (reply->status == RK_ESESSION) {
        if (sim->now_us < session->until_us)
            sim_broken(sim, SIM_RULE_HOLDERS, "session %s of %s ended within its time",
                       session->id, client->name);
        forget(client);
    }
    if (reply->status != RK_OK) return;
    sim->counts.keepalives++;
    if (session->gone_us != 0 && session->gone_us < op->start_us)
        sim_fail(sim, "a keepalive of session %s is answered after its end", session->id);
    uint64_t now = client_belief_us(client, op->start_us, session->ttl_ms);
    if (now > session->until_us) session->until_us = now;
    belief_check(client);
}

void locks_keepalive(struct sim_client *client)
{
    struct sim *sim = client->sim;
    if (client->session.id[0] == '\0' || sim->is_ending) return;
    if (client->session.until_us < sim->now_us && sim_chance(sim, 30)) {
        forget(client);
        return;
    }
    if (sim_chance(sim, 5)) return; /* slept over */
    struct sim_op *op = op_new(client, RK_OP_SESSION_KEEPALIVE, kept_alive);
    op->request.session = op_text(op, "%s", client->session.id);
    op_send(op);
}

static bool list(struct sim_node *node, enum rk_op op, struct rk_arena *arena,
                 struct rk_reply *reply)
{
    struct rk_request request;
    struct rk_machine *machine = node->host->groups[0]->machine;
    rk_request_init(&request, op);
    memset(reply, 0, sizeof(*reply));
    return rk_request_check(&request, NULL) == RK_OK &&
           rk_machine_query(machine, &request, rk_machine_time(machine), arena, reply) ==
               RK_OK &&
           reply->after.size == 0;
}

void locks_state(struct sim_node *node)
{
    struct sim *sim = node->sim;
    struct rk_reply reply;
    struct rk_arena arena;
    rk_arena_init(&arena);
    bool is_listed = list(node, RK_OP_SESSION_LIST, &arena, &reply);
    for (uint32_t i = 0; is_listed && i < sim->config.clients; i++) {
        struct sim_session *session = &sim->clients[i].session;
        bool is_there = session->id[0] == '\0' || session->gone_us != 0;
        for (uint32_t k = 0; !is_there && k < reply.listed_count; k++)
            is_there =
                rk_slice_is_equal(reply.listed[k].name, rk_slice_of_string(session->id));
        if (!is_there) session->gone_us = sim->now_us;
    }
    rk_arena_fini(&arena);
}

void locks_left(struct sim *sim)
{
    struct rk_reply reply;
    struct rk_arena arena;
    rk_arena_init(&arena);
    for (uint32_t i = 0; i < sim->config.slots; i++) {
        if (!sim_members_has(sim, &sim->nodes[i])) continue;
        if (list(&sim->nodes[i], RK_OP_SESSION_LIST, &arena, &reply) &&
            reply.listed_count > 0)
            sim_fail(sim, "session %.*s outlives its client",
                     (int)reply.listed[0].name.size,
                     (const char *)reply.listed[0].name.data);
        if (!list(&sim->nodes[i], RK_OP_LOCK_LIST, &arena, &reply)) continue;
        for (uint32_t k = 0; k < reply.listed_count; k++)
            if (reply.listed[k].holder_count + reply.listed[k].waiter_count > 0)
                sim_fail(sim, "lock %.*s has %u holders and %u waiters without a client",
                         (int)reply.listed[k].name.size,
                         (const char *)reply.listed[k].name.data,
                         (unsigned)reply.listed[k].holder_count,
                         (unsigned)reply.listed[k].waiter_count);
    }
    rk_arena_fini(&arena);
}

/* --- while it is held ---------------------------------------------------------------- */

static void lost_check(struct sim_client *client, struct sim_op *op,
                       const struct rk_reply *reply)
{
    if (reply->status != RK_ENOTOWNER && reply->status != RK_ENOENT &&
        reply->status != RK_ESESSION)
        return;
    if (client->sim->now_us < op->number)
        sim_broken(
            client->sim, SIM_RULE_HOLDERS, "%s lost its lock r%u within its lease: %s",
            (const char *)op->request.owner.data, op->place, rk_status_text(reply->status));
}

static void renewed(struct sim_client *client, struct sim_op *op, enum op_outcome outcome,
                    const struct rk_reply *reply)
{
    struct sim_hold *hold = &client->hold;
    if (outcome != OP_ANSWERED || !hold->is_held) return;
    op->number = until(client);
    lost_check(client, op, reply);
    if (reply->status != RK_OK) {
        hold->is_held = false;
        return;
    }
    uint64_t now = client_belief_us(client, op->start_us, hold->lease_ms);
    if (now > hold->until_us) hold->until_us = now;
    belief_check(client);
}

static void released(struct sim_client *client, struct sim_op *op, enum op_outcome outcome,
                     const struct rk_reply *reply)
{
    if (outcome == OP_ANSWERED) lost_check(client, op, reply);
}

static struct sim_op *hold_op(struct sim_client *client, enum rk_op kind, op_done done,
                              uint32_t which)
{
    const struct sim_hold *hold = &client->hold;
    struct sim_op *op = op_new(client, kind, done);
    op->place = hold->places[which];
    op->request.resource = op_text(op, "r%u", op->place);
    op->request.owner = op_text(op, "%s", hold->owner);
    op->request.fence = hold->fence;
    RK_SET(&op->request, FENCE);
    if (hold->is_in_session) {
        op->request.session = op_text(op, "%s", client->session.id);
        RK_SET(&op->request, SESSION);
    }
    op->number = until(client);
    return op;
}

bool locks_go_on(struct sim_client *client)
{
    struct sim *sim = client->sim;
    struct sim_hold *hold = &client->hold;
    if (!hold->is_held) return false;
    bool is_late = until(client) <= sim->now_us;
    uint64_t pick = sim_below(sim, 100);
    if (!sim->is_draining && !hold->is_in_session && hold->count == 1 &&
        (pick < 40 || (is_late && pick < 70))) {
        struct sim_op *op = hold_op(client, RK_OP_LOCK_RENEW, renewed, 0);
        op->request.lease_ms = hold->lease_ms;
        RK_SET(&op->request, LEASE_MS);
        op_send(op);
        return true;
    }
    if (!sim->is_draining && pick < 60) return false; /* something else meanwhile */
    if (!sim->is_draining && pick < 65) {
        hold->is_held = false; /* its holder is gone: the lease ends it */
        return false;
    }
    /* Of several resources one is released, the others end with their lease. */
    struct sim_op *op = hold_op(client, RK_OP_LOCK_RELEASE, released,
                                (uint32_t)sim_below(sim, hold->count));
    hold->is_held = false; /* no longer believed in from here on */
    op_send(op);
    return true;
}

bool locks_next(struct sim_client *client)
{
    struct sim *sim = client->sim;
    if (client->hold.is_held) return false;
    if (client->session.id[0] == '\0' && sim_chance(sim, 30))
        session_open(client);
    else
        acquire(client);
    return true;
}
