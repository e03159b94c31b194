#include "host/host_internal.h"

#include "base/mutant.h"

/* A frame, docs/protocol.md: a header that says who speaks, then sections.
 *   u8 protocol, u64 cluster high, u64 cluster low, u64
 * disk, u64 from, u64 to, u64 wall ms, blob name;  then each section: u16 kind, u32 size,
 * body. */
static void header_write(struct rk_host *host, const struct rk_member *member,
                         struct rk_buf *out)
{
    rk_buf_u8(out, RK_HOST_PROTOCOL);
    rk_buf_u64(out, host->is_running ? host->cluster.high : 0);
    rk_buf_u64(out, host->is_running ? host->cluster.low : 0);
    rk_buf_u64(out, host->disk);
    rk_buf_u64(out, host->is_running ? host->number : 0);
    rk_buf_u64(out, host->is_running ? member->number : 0);
    rk_buf_u64(out, host->now.wall_ms);
    rk_buf_blob(out, rk_slice_of_string(host->name));
}

static void link_send(struct rk_host *host, struct rk_member *member, int link)
{
    struct rk_buf *out = &member->links[link].out;
    if (out->size == 0) return;
    if (!out->is_failed)
        host->io.send(host->io.context, member->name, (enum rk_host_link)link,
                      rk_buf_slice(out));
    rk_buf_reset(out);
    if (out->capacity > 2 * RK_HOST_FRAME_SEND) {
        rk_buf_fini(out);
        rk_buf_init(out);
    }
}

struct rk_buf *rk_host_section(struct rk_host *host, struct rk_member *member,
                               enum rk_host_link link, enum rk_section kind)
{
    struct rk_member_link *at = &member->links[link];
    RK_ASSERT(!at->has_section && member != host->self);
    if (at->out.size == 0) header_write(host, member, &at->out);
    rk_buf_u16(&at->out, (uint16_t)kind);
    rk_buf_u32(&at->out, 0);
    at->section_at = at->out.size; /* of no meaning without memory */
    at->has_section = true;
    return &at->out;
}

void rk_host_section_end(struct rk_host *host, struct rk_member *member,
                         enum rk_host_link link)
{
    struct rk_member_link *at = &member->links[link];
    RK_ASSERT(at->has_section);
    if (at->out.is_failed) {
        /* Out of memory: the frame is lost, as a network may lose it. */
        rk_buf_reset(&at->out);
    } else {
        rk_put_u32(at->out.data + at->section_at - 4,
                   (uint32_t)(at->out.size - at->section_at));
    }
    at->has_section = false;
    if (at->out.size >= RK_HOST_FRAME_SEND) link_send(host, member, (int)link);
}

void rk_host_frames_send(struct rk_host *host)
{
    for (uint32_t i = 0; i < host->member_count; i++)
        for (int link = 0; link < RK_LINK_COUNT; link++)
            link_send(host, host->members[i], link);
}

struct header {
    struct rk_cluster_id cluster;
    uint64_t disk, from, to, wall_ms;
    struct rk_slice name;
};

static bool header_read(struct rk_reader *in, struct header *out)
{
    (void)rk_read_u8(in); /* the protocol */
    out->cluster.high = rk_read_u64(in);
    out->cluster.low = rk_read_u64(in);
    out->disk = rk_read_u64(in);
    out->from = rk_read_u64(in);
    out->to = rk_read_u64(in);
    out->wall_ms = rk_read_u64(in);
    out->name = rk_read_blob(in);
    return !in->is_failed;
}

/* Of our cluster, from the member that it says it is, for us. */
static bool header_is_ours(const struct rk_host *host, const struct header *header,
                           const struct rk_member *from)
{
    if (RK_MUTANT(strangers_heard) && host->is_running && from->number != 0) return true;
    return host->is_running && header->cluster.high == host->cluster.high &&
           header->cluster.low == host->cluster.low && from->number != 0 &&
           header->from == from->number && header->disk == from->disk &&
           header->to == host->number;
}

static void raft_section(struct rk_host *host, struct rk_member *from, struct rk_slice body)
{
    struct rk_reader in;
    rk_reader_init(&in, body);
    uint64_t id = rk_read_varint(&in);
    if (in.is_failed || id > host->group_count) {
        host->metrics.frames_dropped++;
        return;
    }
    rk_group_receive(host->groups[id], from, rk_slice_of(in.at, rk_reader_left(&in)));
}

static void section(struct rk_host *host, struct rk_member *from, uint16_t kind,
                    struct rk_slice body)
{
    switch (kind) {
    case RK_SECTION_RAFT: raft_section(host, from, body); break;
    case RK_SECTION_FORWARD: rk_forward_receive(host, from, body); break;
    case RK_SECTION_FORWARD_REPLY: rk_forward_reply_receive(host, from, body); break;
    case RK_SECTION_FORWARD_DROP: rk_forward_drop_receive(host, from, body); break;
    case RK_SECTION_NODE: rk_host_node_receive(host, from, body); break;
    case RK_SECTION_SNAP_CHUNK: rk_snapshot_chunk_receive(host, from, body); break;
    case RK_SECTION_SNAP_ACK: rk_snapshot_ack_receive(host, from, body); break;
    case RK_SECTION_PROBED: rk_host_probed_receive(host, body); break;
    case RK_SECTION_HOLD: rk_host_hold_receive(host, body); break;
    default: host->metrics.frames_dropped++; break; /* of a newer version */
    }
}

/* What stands behind the version is unknown then. Said once, not with each frame. */
static bool is_spoken(struct rk_host *host, struct rk_member *member, struct rk_slice frame)
{
    uint8_t protocol = frame.size > 0 ? frame.data[0] : 0;
    if (protocol == RK_HOST_PROTOCOL) {
        member->odd_protocol = 0;
        return true;
    }
    if (member->odd_protocol != protocol)
        rk_host_log(host, RK_LOG_WARN,
                    "peer %s sends frames of protocol version %u, this node knows %d: they "
                    "are dropped",
                    member->name, protocol, RK_HOST_PROTOCOL);
    member->odd_protocol = protocol;
    return false;
}

/* From one whose name is not known here: it may tell that it is this node that is behind.
 */
static void stranger_receive(struct rk_host *host, const char *from, struct rk_slice frame)
{
    struct header header;
    struct rk_reader in;
    rk_reader_init(&in, frame);
    bool is_read = frame.size > 0 && frame.size <= RK_HOST_FRAME_MAX &&
                   frame.data[0] == RK_HOST_PROTOCOL && header_read(&in, &header) &&
                   rk_slice_is_equal(header.name, rk_slice_of_string(from));
    while (is_read && rk_reader_left(&in) > 0 && !host->is_dead) {
        uint16_t kind = rk_read_u16(&in);
        uint32_t size = rk_read_u32(&in);
        struct rk_slice body = rk_read_bytes(&in, size);
        if (in.is_failed) break;
        if (kind != RK_SECTION_TABLE) continue;
        rk_host_table_receive(host, &header.cluster, body);
        return;
    }
    host->metrics.frames_dropped++;
}

void rk_host_receive(struct rk_host *host, const char *from, enum rk_host_link link,
                     struct rk_slice frame)
{
    struct header header;
    struct rk_reader in;
    (void)link;
    if (host->is_dead || !host->has_time) return;
    struct rk_member *member = rk_host_member_by_name(host, rk_slice_of_string(from));
    if (member == NULL) {
        stranger_receive(host, from, frame);
        return;
    }
    rk_reader_init(&in, frame);
    if (member == host->self || frame.size > RK_HOST_FRAME_MAX ||
        !is_spoken(host, member, frame) || !header_read(&in, &header) ||
        !rk_slice_is_equal(header.name, rk_slice_of_string(from))) {
        host->metrics.frames_dropped++;
        return;
    }
    bool is_ours = header_is_ours(host, &header, member);
    if (is_ours) {
        if (member->heard_ms == 0) rk_host_member_greet(host, member);
        member->heard_ms = rk_host_now(host);
        member->wall_lead_ms = (int64_t)(header.wall_ms - host->now.wall_ms);
    } else if (host->is_running && header.cluster.high == host->cluster.high &&
               header.cluster.low == host->cluster.low) {
        rk_host_table_send(host, member);
    }
    while (rk_reader_left(&in) > 0 && !host->is_dead) {
        uint16_t kind = rk_read_u16(&in);
        uint32_t size = rk_read_u32(&in);
        struct rk_slice body = rk_read_bytes(&in, size);
        if (in.is_failed) {
            host->metrics.frames_dropped++;
            break;
        }
        if (kind >= RK_SECTION_BIRTH_PROBE)
            rk_host_birth_receive(host, member, header.disk, &header.cluster, kind, body);
        else if (is_ours)
            section(host, member, kind, body);
        else
            host->metrics.frames_dropped++;
        /* A newer table may have made room by forgetting this very node. */
        if (kind == RK_SECTION_TABLE &&
            rk_host_member_by_name(host, rk_slice_of_string(from)) != member)
            break;
    }
    rk_arena_reset(&host->arena);
}
