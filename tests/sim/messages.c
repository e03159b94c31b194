/* What consensus bears of a network, beyond what a connection does to its frames.
 *
 * A connection keeps order and doubles nothing, so frames are neither reordered nor doubled
 * here; but a frame may come late, after others of another link, or be lost with its
 * connection. Raft itself promises more (core/raft/raft.h): single messages may be lost,
 * come twice, come after ones that were sent later, or come after their sender has long
 * gone on. And a leader may send fewer entries than it has. So messages are taken out of
 * their frames and treated like that, over restarts and partitions. */
#include "sim.h"

#include "base/assert.h"
#include "host/host_internal.h"

#include <stdlib.h>

struct late { /* a frame with one message */
    uint32_t from, to, link;
    size_t size;
    uint8_t bytes[];
};

/* The last answer to a heartbeat that came over each pair of nodes. */
struct sim_echo {
    size_t size;
    uint8_t bytes[256];
};

/* --- frames taken apart -------------------------------------------------------------- */

bool sim_frame_open(struct rk_reader *in, struct rk_slice frame, struct rk_slice *header)
{
    rk_reader_init(in, frame);
    (void)rk_read_bytes(in, 1 + 6 * 8);
    (void)rk_read_blob(in);
    *header = rk_slice_of(frame.data, frame.size - rk_reader_left(in));
    return !in->is_failed;
}

bool sim_frame_next(struct rk_reader *in, struct sim_section *out)
{
    if (in->is_failed || rk_reader_left(in) == 0) return false;
    out->kind = rk_read_u16(in);
    uint32_t size = rk_read_u32(in);
    out->body = rk_read_bytes(in, size);
    return !in->is_failed;
}

bool sim_section_message(struct sim *sim, const struct sim_section *section,
                         uint32_t *group, struct rk_raft_message *out)
{
    struct rk_reader in;
    rk_reader_init(&in, section->body);
    uint64_t id = rk_read_varint(&in);
    *group = (uint32_t)id;
    return !in.is_failed && id <= sim->config.groups &&
           rk_raft_message_decode(out, &sim->arena, &in) == RK_OK;
}

static void section_write(struct rk_buf *out, const struct sim_section *section)
{
    rk_buf_u16(out, section->kind);
    rk_buf_u32(out, (uint32_t)section->body.size);
    rk_buf_append_slice(out, section->body);
}

/* --- what happens to messages -------------------------------------------------------- */

static void hand_over(struct sim *sim, uint32_t from, uint32_t to, uint32_t link,
                      struct rk_slice frame)
{
    struct sim_node *node = &sim->nodes[to];
    node->heard_us[from] = sim->now_us;
    sim_node_touch(node);
    sim_ballots_received(node, sim->nodes[from].name, frame);
    rk_host_receive(node->host, sim->nodes[from].name, (enum rk_host_link)link, frame);
}

static void arrives(struct sim *sim, struct sim_node *node, void *context, uint64_t number)
{
    struct late *late = context;
    struct sim_node *to = &sim->nodes[late->to];
    (void)node;
    (void)number;
    if (sim_node_is_up(to) && !to->is_paused)
        hand_over(sim, late->from, late->to, late->link,
                  rk_slice_of(late->bytes, late->size));
    free(late);
}

static void send_later(struct sim *sim, const struct late *place, struct rk_slice header,
                       struct rk_slice section, uint64_t delay_us)
{
    struct late *late = sim_alloc(1, sizeof(*late) + header.size + section.size);
    *late = *place;
    late->size = header.size + section.size;
    memcpy(late->bytes, header.data, header.size);
    if (section.size > 0) memcpy(late->bytes + header.size, section.data, section.size);
    sim_world_after(sim, delay_us, NULL, arrives, late, 0)->drop = free;
}

static bool happens(struct sim *sim, uint64_t per_mille)
{
    return sim_below(sim, 1000) < per_mille;
}

/* The same append with fewer entries, as another leader might have sent it. */
static bool shorten(struct sim *sim, const struct sim_section *section, struct rk_buf *out)
{
    struct rk_raft_message message;
    struct rk_buf body;
    uint32_t group;
    if (!sim_section_message(sim, section, &group, &message) ||
        message.type != RK_RAFT_MSG_APP || message.entry_count == 0)
        return false;
    message.entry_count = (size_t)sim_below(sim, message.entry_count);
    rk_buf_init(&body);
    rk_buf_varint(&body, group);
    rk_raft_message_encode(&body, &message);
    section_write(out, &(struct sim_section){section->kind, rk_buf_slice(&body)});
    rk_buf_fini(&body);
    return true;
}

static void treat(struct sim *sim, const struct late *place, struct rk_slice header,
                  const struct sim_section *section, struct rk_buf *out)
{
    const struct sim_config *config = &sim->config;
    uint64_t delay = sim_below(sim, 2500 * (uint64_t)config->election_ms);
    struct rk_slice whole =
        rk_slice_of(section->body.data - 6, section->body.size + 6); /* with its head */
    if (happens(sim, config->lost_per_mille)) {
        sim->counts.messages_lost++;
        return;
    }
    if (happens(sim, config->twice_per_mille)) {
        sim->counts.messages_twice++;
        send_later(sim, place, header, whole, delay);
    } else if (happens(sim, config->late_per_mille)) {
        sim->counts.messages_late++;
        send_later(sim, place, header, whole, delay / (1 + sim_below(sim, 50)));
        return;
    }
    if (happens(sim, config->short_per_mille) && shorten(sim, section, out)) {
        sim->counts.messages_short++;
        return;
    }
    section_write(out, section);
}

static void echo_keep(struct sim *sim, uint32_t from, uint32_t to, struct rk_slice header,
                      const struct sim_section *section)
{
    struct rk_raft_message message;
    uint32_t group;
    if (!sim_section_message(sim, section, &group, &message) ||
        message.type != RK_RAFT_MSG_HEARTBEAT_RESP)
        return;
    struct sim_echo *echo =
        &sim->echoes[(to * SIM_NODES_MAX + from) * SIM_GROUPS_MAX + group];
    echo->size = header.size + section->body.size + 6;
    RK_ASSERT(echo->size <= sizeof(echo->bytes));
    memcpy(echo->bytes, header.data, header.size);
    memcpy(echo->bytes + header.size, section->body.data - 6, section->body.size + 6);
}

void sim_messages_pass(struct sim *sim, const struct sim_conn *conn, struct rk_slice frame)
{
    struct late place = {conn->from, conn->to, conn->link, 0};
    struct rk_reader in;
    struct rk_slice header;
    struct sim_section section;
    struct rk_buf out;
    bool is_left = sim->is_healed || !sim->config.has_message_faults;
    rk_buf_init(&out);
    if (!sim_frame_open(&in, frame, &header)) sim_fail(sim, "a frame lost its header");
    if (!is_left) rk_buf_append_slice(&out, header);
    while (sim_frame_next(&in, &section)) {
        bool is_raft = section.kind == RK_SECTION_RAFT;
        if (is_raft && sim->echoes != NULL)
            echo_keep(sim, conn->from, conn->to, header, &section);
        if (is_left) continue;
        if (is_raft)
            treat(sim, &place, header, &section, &out);
        else
            section_write(&out, &section);
        rk_arena_reset(&sim->arena);
    }
    rk_arena_reset(&sim->arena);
    if (is_left)
        hand_over(sim, conn->from, conn->to, conn->link, frame);
    else if (out.size > header.size)
        hand_over(sim, conn->from, conn->to, conn->link, rk_buf_slice(&out));
    rk_buf_fini(&out);
}

/* --- echoes -------------------------------------------------------------------------- */

static void echo(struct sim *sim, struct sim_node *node, void *context, uint64_t number)
{
    (void)context;
    if (sim->is_healed || sim->now_us > number || !sim_node_is_up(node) || node->is_paused)
        return;
    for (uint32_t from = 0; from < sim->config.slots; from++)
        for (uint32_t group = 0; group <= sim->config.groups; group++) {
            const struct sim_echo *last =
                &sim->echoes[(node->at * SIM_NODES_MAX + from) * SIM_GROUPS_MAX + group];
            if (last->size == 0) continue;
            sim->counts.echoes++;
            send_later(sim, &(struct late){from, node->at, RK_LINK_CONTROL, 0},
                       rk_slice_of(last->bytes, last->size), RK_SLICE_EMPTY,
                       sim_below(sim, 1000 * (uint64_t)sim->config.heartbeat_ms));
        }
    sim_world_after(sim, 1000 * (uint64_t)sim->config.heartbeat_ms, node, echo, NULL,
                    number);
}

void sim_messages_echo(struct sim_node *node, uint64_t us)
{
    echo(node->sim, node, NULL, node->sim->now_us + us);
}

/* --- the run ------------------------------------------------------------------------- */

void sim_messages_start(struct sim *sim, bool is_faulty, bool has_echoes)
{
    struct sim_config *config = &sim->config;
    config->has_message_faults = is_faulty;
    config->lost_per_mille = sim_chance(sim, 60) ? sim_below(sim, 50) : 0;
    config->twice_per_mille = sim_chance(sim, 60) ? sim_below(sim, 100) : 0;
    config->late_per_mille = sim_chance(sim, 60) ? sim_below(sim, 50) : 0;
    config->short_per_mille = sim_chance(sim, 60) ? sim_below(sim, 300) : 0;
    if (!has_echoes) return;
    sim->echoes = sim_alloc((size_t)SIM_NODES_MAX * SIM_NODES_MAX * SIM_GROUPS_MAX,
                            sizeof(*sim->echoes));
}
