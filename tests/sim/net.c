#include "sim.h"

#include "base/assert.h"
#include "base/hash.h"

#include <stdlib.h>

struct packet {
    struct rk_list link;
    struct sim_conn *conn;
    uint64_t epoch;
    uint64_t to_life;
    size_t size;
    uint8_t bytes[];
};

static struct sim_node *sender(struct sim *sim, const struct sim_conn *conn)
{
    return &sim->nodes[conn->from];
}

static struct sim_node *receiver(struct sim *sim, const struct sim_conn *conn)
{
    return &sim->nodes[conn->to];
}

static uint64_t delay_us(struct sim *sim)
{
    uint64_t delay = sim_between(sim, sim->config.net_min_us, sim->config.net_max_us);
    return sim_chance(sim, 1) ? 10 * delay : delay;
}

static bool is_cut(const struct sim *sim, const struct sim_conn *conn)
{
    return sim->cut[conn->from][conn->to] > 0;
}

static bool is_cut_at_all(const struct sim *sim, const struct sim_conn *conn)
{
    return is_cut(sim, conn) || sim->cut[conn->to][conn->from] > 0;
}

/* Like the timers of rukund, in proportion to the election timeout. */
static uint64_t attempt_us(const struct sim *sim)
{
    return 2000 * (uint64_t)sim->config.election_ms;
}

static uint64_t stall_limit_us(const struct sim *sim)
{
    return 3000 * (uint64_t)sim->config.election_ms;
}

static void deliver(struct sim *sim, struct sim_node *node, void *context, uint64_t number)
{
    struct packet *packet = context;
    (void)node;
    (void)number;
    struct sim_conn *conn = packet->conn;
    if (packet->epoch < conn->receiver_from) {
        sim->counts.frames_lost++;
        free(packet);
        return;
    }
    bool is_last_words = packet->epoch != conn->epoch || conn->state != CONN_UP;
    if (is_last_words && is_cut(sim, conn)) {
        sim->counts.frames_lost++;
        free(packet);
        return;
    }
    if (!is_last_words && (is_cut(sim, conn) || !rk_list_is_empty(&conn->stalled))) {
        rk_list_push_back(&conn->stalled, &packet->link);
        return;
    }
    sim_messages_pass(sim, conn, rk_slice_of(packet->bytes, packet->size));
    free(packet);
}

static void arrive(struct sim *sim, struct sim_conn *conn, struct packet *packet,
                   uint64_t delay)
{
    uint64_t at = sim->now_us + delay;
    if (at <= conn->arrival_us) at = conn->arrival_us + 1;
    conn->arrival_us = at;
    sim_after(sim, at - sim->now_us, receiver(sim, conn), deliver, packet, 0)->drop = free;
}

void sim_net_send(struct sim_node *from, const char *name, enum rk_host_link link,
                  struct rk_slice frame)
{
    struct sim *sim = from->sim;
    uint32_t to = (uint32_t)(name[1] - '1');
    RK_ASSERT(to < sim->config.slots && to != from->at);
    struct sim_conn *conn = &sim->conns[from->at][to][link];
    sim_check_frame(from, frame);
    sim_trace(sim, rk_hash_mix(rk_hash(frame), from->at * 64 + to * 8 + (uint32_t)link));
    if (conn->state != CONN_UP) return;
    if (!sim_node_is_up(&sim->nodes[to])) return;
    struct packet *packet = sim_alloc(1, sizeof(*packet) + frame.size);
    rk_list_init(&packet->link);
    packet->conn = conn;
    packet->epoch = conn->epoch;
    packet->size = frame.size;
    memcpy(packet->bytes, frame.data, frame.size);
    sim->counts.packets++;
    arrive(sim, conn, packet, delay_us(sim));
}

static void stalled_drop(struct sim *sim, struct sim_conn *conn)
{
    rk_list_each_safe (link, &conn->stalled) {
        sim->counts.frames_lost++;
        rk_list_remove(link);
        free(RK_CONTAINER(link, struct packet, link));
    }
}

/* --- connecting ---------------------------------------------------------------------- */

static void connect_begin(struct sim *sim, struct sim_node *node, void *context,
                          uint64_t number);

static void conn_down(struct sim *sim, struct sim_conn *conn)
{
    struct sim_node *node = sender(sim, conn);
    bool was_up = conn->state == CONN_UP;
    conn->state = CONN_DOWN;
    conn->attempt++;
    stalled_drop(sim, conn);
    conn->stall_us = 0;
    if (!sim_node_is_up(node)) return;
    if (was_up) conn->backoff_us = 0;
    sim_node_touch(node);
    if (!was_up) sim_ballots_evidence(node, receiver(sim, conn)->name);
    rk_host_link_down(node->host, receiver(sim, conn)->name, (enum rk_host_link)conn->link,
                      !was_up);
    uint64_t pause = conn->backoff_us;
    if (pause > 1) pause = pause / 2 + sim_below(sim, pause);
    uint64_t most = 1000 * (uint64_t)sim->config.election_ms;
    conn->backoff_us = conn->backoff_us == 0 ? most / 20 : conn->backoff_us * 2;
    if (conn->backoff_us > most) conn->backoff_us = most;
    if (conn->is_wanted) sim_after(sim, pause, node, connect_begin, conn, conn->attempt);
}

static void connect_end(struct sim *sim, struct sim_node *node, void *context,
                        uint64_t number)
{
    struct sim_conn *conn = context;
    struct sim_node *to = receiver(sim, conn);
    if (number != conn->attempt || conn->state != CONN_CONNECTING) return;
    bool is_late = sim->now_us - conn->stall_us >= attempt_us(sim);
    bool is_mute =
        is_cut_at_all(sim, conn) || to->is_paused || (!sim_node_is_up(to) && to->is_silent);
    if (is_mute && !is_late) {
        sim_after(sim, 20000, node, connect_end, conn, number);
        return;
    }
    if (is_mute || !sim_node_is_up(to)) {
        conn_down(sim, conn);
        return;
    }
    stalled_drop(sim, conn);
    conn->state = CONN_UP;
    conn->epoch++;
    conn->receiver_from = conn->epoch;
    conn->arrival_us = sim->now_us;
    conn->stall_us = 0;
    conn->backoff_us = 0;
    sim_node_touch(node);
    rk_host_link_up(node->host, to->name, (enum rk_host_link)conn->link);
}

static void connect_begin(struct sim *sim, struct sim_node *node, void *context,
                          uint64_t number)
{
    struct sim_conn *conn = context;
    if (number != conn->attempt || conn->state != CONN_DOWN) return;
    conn->state = CONN_CONNECTING;
    conn->stall_us = sim->now_us; /* when the attempt began */
    sim_after(sim, 2 * delay_us(sim), node, connect_end, conn, conn->attempt);
}

/* The sender's kernel gives up a connection on which nothing was acknowledged. */
static void stall_check(struct sim *sim, struct sim_node *node, void *context,
                        uint64_t number)
{
    struct sim_conn *conn = context;
    (void)node;
    if (conn->state != CONN_UP || conn->epoch != number || !is_cut_at_all(sim, conn))
        return;
    if (conn->stall_us == 0 || sim->now_us - conn->stall_us < stall_limit_us(sim)) return;
    conn->receiver_from = conn->epoch + 1;
    conn_down(sim, conn);
}

void sim_net_cut(struct sim *sim, uint32_t from, uint32_t to, bool is_on)
{
    if (from == to) return;
    if (is_on) {
        sim->cut[from][to]++;
        sim->counts.cuts++;
    } else {
        RK_ASSERT(sim->cut[from][to] > 0);
        sim->cut[from][to]--;
    }
    for (uint32_t i = 0; i < 2 * RK_LINK_COUNT; i++) {
        struct sim_conn *conn = i < RK_LINK_COUNT
                                    ? &sim->conns[from][to][i]
                                    : &sim->conns[to][from][i - RK_LINK_COUNT];
        if (conn->state != CONN_UP) continue;
        if (is_cut_at_all(sim, conn)) {
            if (conn->stall_us != 0) continue;
            conn->stall_us = sim->now_us;
            if (sim_node_is_up(sender(sim, conn)))
                sim_after(sim, stall_limit_us(sim) + 1, sender(sim, conn), stall_check,
                          conn, conn->epoch);
            continue;
        }
        conn->stall_us = 0;
        if (is_cut(sim, conn) || !sim_node_is_up(receiver(sim, conn))) continue;
        /* What was lost is sent again after a while, in its order. */
        uint64_t pause = sim_below(sim, 200 * (uint64_t)sim->config.election_ms);
        struct rk_list packets;
        rk_list_init(&packets);
        rk_list_each_safe (link, &conn->stalled) {
            rk_list_remove(link);
            rk_list_push_back(&packets, link);
        }
        rk_list_each_safe (link, &packets) {
            rk_list_remove(link);
            arrive(sim, conn, RK_CONTAINER(link, struct packet, link), pause);
        }
    }
}

static void reset_noticed(struct sim *sim, struct sim_node *node, void *context,
                          uint64_t number)
{
    struct sim_conn *conn = context;
    (void)node;
    if (conn->state == CONN_UP && conn->epoch == number) conn_down(sim, conn);
}

void sim_net_reset(struct sim *sim, struct sim_conn *conn, uint64_t after_us)
{
    struct sim_node *node = sender(sim, conn);
    if (conn->state != CONN_UP) return;
    conn->receiver_from = conn->epoch + 1;
    stalled_drop(sim, conn);
    if (sim_node_is_up(node))
        sim_after(sim, after_us, node, reset_noticed, conn, conn->epoch);
}

/* --- nodes that come and go ---------------------------------------------------------- */

void sim_net_started(struct sim_node *node)
{
    struct sim *sim = node->sim;
    for (uint32_t i = 0; i < sim->config.slots; i++) {
        if (i == node->at) continue;
        for (uint32_t link = 0; link < RK_LINK_COUNT; link++) {
            struct sim_conn *out = &sim->conns[node->at][i][link];
            struct sim_conn *in = &sim->conns[i][node->at][link];
            out->state = CONN_DOWN;
            out->attempt++;
            out->is_wanted = false;
            out->backoff_us = 0;
            stalled_drop(sim, out);
            /* The peer spoke to a machine that is gone: the new one says so. */
            sim_net_reset(sim, in, delay_us(sim));
        }
    }
}

static void follow(struct sim_node *node, struct sim_conn *conn, bool is_known)
{
    struct sim *sim = node->sim;
    if (is_known && conn->state == CONN_UP)
        rk_host_link_up(node->host, receiver(sim, conn)->name,
                        (enum rk_host_link)conn->link);
    if (is_known == conn->is_wanted) return;
    conn->is_wanted = is_known;
    conn->state = CONN_DOWN;
    conn->attempt++;
    conn->backoff_us = conn->stall_us = 0;
    stalled_drop(sim, conn);
    if (is_known)
        sim_after(sim, sim_below(sim, 2000), node, connect_begin, conn, conn->attempt);
}

void sim_net_follow(struct sim_node *node)
{
    struct sim *sim = node->sim;
    struct rk_host_status status;
    uint64_t version = rk_host_members_version(node->host);
    if (version == node->members_seen) return;
    node->members_seen = version;
    rk_host_status(node->host, &status);
    for (uint32_t i = 0; i < sim->config.slots; i++) {
        bool is_known = false;
        if (i == node->at) continue;
        for (uint32_t k = 0; k < status.node_count; k++)
            is_known |= strcmp(status.nodes[k].name, sim->nodes[i].name) == 0;
        for (uint32_t link = 0; link < RK_LINK_COUNT; link++)
            follow(node, &sim->conns[node->at][i][link], is_known);
    }
    sim_node_touch(node);
}

void sim_net_ended(struct sim_node *node, bool is_silent)
{
    struct sim *sim = node->sim;
    for (uint32_t i = 0; i < sim->config.slots; i++) {
        if (i == node->at) continue;
        /* What a killed process had sent may still arrive. */
        bool is_lost = is_silent || sim_chance(sim, 50);
        for (uint32_t link = 0; link < RK_LINK_COUNT; link++) {
            struct sim_conn *out = &sim->conns[node->at][i][link];
            struct sim_conn *in = &sim->conns[i][node->at][link];
            if (is_lost) out->receiver_from = out->epoch + 1;
            out->state = CONN_DOWN;
            out->attempt++;
            out->stall_us = 0;
            stalled_drop(sim, out);
            sim_net_reset(sim, in, is_silent ? stall_limit_us(sim) : delay_us(sim));
        }
    }
}

void sim_net_init(struct sim *sim)
{
    for (uint32_t from = 0; from < SIM_NODES_MAX; from++)
        for (uint32_t to = 0; to < SIM_NODES_MAX; to++)
            for (uint32_t link = 0; link < RK_LINK_COUNT; link++) {
                struct sim_conn *conn = &sim->conns[from][to][link];
                *conn = (struct sim_conn){.from = from, .to = to, .link = link};
                rk_list_init(&conn->stalled);
            }
}

void sim_net_free(struct sim *sim)
{
    for (uint32_t from = 0; from < SIM_NODES_MAX; from++)
        for (uint32_t to = 0; to < SIM_NODES_MAX; to++)
            for (uint32_t link = 0; link < RK_LINK_COUNT; link++)
                stalled_drop(sim, &sim->conns[from][to][link]);
}
