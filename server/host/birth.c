#include "host/host_internal.h"

#include "base/mutant.h"

#include <inttypes.h>
#include <stdio.h>

/* Identity and birth. A folder gets a random disk id when it is made, and a number only
 * from its cluster; before that the node has no groups, so it can not vote. */

enum {
    IDENTITY_PLAIN = 1,
    IDENTITY_VERSION = 2, /* of a history that began from a backup */
};
enum { NODE_DAMAGED = 1 }; /* a flag of the section NODE */

/* Node record of the log: u8 version, u64 disk, u64 cluster high, low, blob cluster name,
 * u64 history, varint number, varint data groups, blob member table; from version 2 on u64
 * digest of the backup, u64 index floor. */
void rk_host_identity_encode(const struct rk_host *host, struct rk_buf *out)
{
    bool is_restored = host->number != 0 && host->restore.digest != 0;
    rk_buf_u8(out, is_restored ? IDENTITY_VERSION : IDENTITY_PLAIN);
    rk_buf_u64(out, host->disk);
    rk_buf_u64(out, host->cluster.high);
    rk_buf_u64(out, host->cluster.low);
    rk_buf_blob(out, rk_slice_of_string(host->cluster_name));
    rk_buf_u64(out, host->history);
    rk_buf_varint(out, host->number);
    rk_buf_varint(out, host->number == 0 ? 0 : host->group_count);
    rk_buf_blob(out, rk_buf_slice(&host->table));
    if (!is_restored) return;
    rk_buf_u64(out, host->restore.digest);
    rk_buf_u64(out, host->restore.index_floor);
}

static enum rk_status damaged(struct rk_storage_error *why)
{
    return rk_storage_fail(why, RK_ECORRUPT, "node record: malformed");
}

enum rk_status rk_host_identity_load(struct rk_host *host, struct rk_slice node,
                                     struct rk_storage_error *why)
{
    struct rk_reader in;
    rk_reader_init(&in, node);
    uint8_t version = rk_read_u8(&in);
    if (version > IDENTITY_VERSION)
        return rk_storage_fail(why, RK_EUNSUPPORTED,
                               "node record: version %u; this program knows up to %d",
                               version, IDENTITY_VERSION);
    host->disk = rk_read_u64(&in);
    host->cluster.high = rk_read_u64(&in);
    host->cluster.low = rk_read_u64(&in);
    struct rk_slice name = rk_read_blob(&in);
    host->history = rk_read_u64(&in);
    uint64_t number = rk_read_varint(&in);
    uint64_t group_count = rk_read_varint(&in);
    struct rk_slice table = rk_read_blob(&in);
    if (version >= IDENTITY_VERSION) {
        host->restore.digest = rk_read_u64(&in);
        host->restore.index_floor = rk_read_u64(&in);
    }
    if (rk_reader_check(&in, true) != RK_OK || version == 0 || host->disk == 0)
        return damaged(why);
    if (number == 0) return RK_OK;
    if (group_count == 0 || group_count > RK_HOST_GROUPS_MAX ||
        !rk_host_text_take(host->cluster_name, sizeof(host->cluster_name), name))
        return damaged(why);
    if (table.size > 0 && table.data[0] > RK_MEMBER_TABLE_FORMAT)
        return rk_storage_fail(why, RK_EUNSUPPORTED,
                               "node record: member table version %u; this program knows "
                               "up to %d",
                               table.data[0], RK_MEMBER_TABLE_FORMAT);
    host->number = number;
    host->group_count = (uint32_t)group_count;
    enum rk_status status = rk_host_table_take(host, table);
    if (status != RK_OK)
        return rk_storage_fail(why, status == RK_EPROTO ? RK_ECORRUPT : status,
                               "node record: the member table does not load");
    struct rk_member_table rows;
    const struct rk_member_row *row = rk_member_table_decode(&rows, table) == RK_OK
                                          ? rk_member_table_number(&rows, number)
                                          : NULL;
    if (row != NULL && !rk_slice_is_equal(row->name, rk_slice_of_string(host->name)))
        return rk_storage_fail(why, RK_EINVAL, "the data folder belongs to node %.*s",
                               (int)row->name.size, (const char *)row->name.data);
    return RK_OK;
}

void rk_host_first_conf(const struct rk_host *host, struct rk_raft_conf_state *out)
{
    struct rk_member_table table;
    memset(out, 0, sizeof(*out));
    if (rk_member_table_decode(&table, rk_buf_slice(&host->table)) != RK_OK) return;
    for (uint64_t number = 1; number <= table.birth_count; number++)
        out->voters.ids[out->voters.count++] = number;
}

enum rk_status rk_host_identity_write(struct rk_host *host)
{
    rk_buf_reset(&host->scratch);
    rk_host_identity_encode(host, &host->scratch);
    enum rk_status status = rk_buf_check(&host->scratch);
    if (status == RK_OK)
        status = rk_wal_batch_node(host->filling, rk_buf_slice(&host->scratch));
    if (status == RK_OK) host->is_urgent = true;
    return status;
}

static void adopt_write(struct rk_host *host)
{
    enum rk_status status = rk_host_identity_write(host);
    if (status == RK_OK && host->restore.is_running) status = rk_host_restore_mark(host);
    if (status != RK_OK)
        rk_host_fatal(host, status, "the identity can not be recorded");
    else
        host->is_adopting = true;
}

/* has_backup: its groups do not begin empty. */
static void adopt(struct rk_host *host, bool has_backup)
{
    if (has_backup)
        rk_host_restore_start(host);
    else
        adopt_write(host);
}

void rk_host_birth_restored(struct rk_host *host, enum rk_status status, const char *why)
{
    if (status != RK_OK)
        rk_host_fatal(host, status, "the backup can not be restored: %s", why);
    else
        adopt_write(host);
}

static bool names_agree(const char *a, const char *b)
{
    return a[0] == '\0' || b[0] == '\0' || strcmp(a, b) == 0;
}

/* Every named peer is empty and says so now, or is to begin from the same backup, and this
 * node's name comes first. */
static bool may_mint(const struct rk_host *host)
{
    if (host->members[0] != host->self || host->refused[0] != '\0') return false;
    for (uint32_t i = 1; i < host->member_count; i++) {
        const struct rk_member *member = host->members[i];
        if (member->probe_ms == 0 ||
            rk_host_now(host) - member->probe_ms > RK_HOST_PROBE_FRESH_MS ||
            member->probe_backup != host->restore.digest ||
            !names_agree(member->probe_cluster, host->cluster_wish))
            return false;
    }
    return true;
}

static void mint(struct rk_host *host)
{
    do {
        host->cluster.high = rk_random_next(&host->random);
        host->cluster.low = rk_random_next(&host->random);
        host->history = rk_random_next(&host->random) >> 1;
    } while (host->cluster.high == 0 || host->history == 0);
    if (host->restore.digest != 0) {
        host->group_count = host->restore.group_count;
        host->restore.index_floor = rk_host_time_floor(host);
    }
    struct rk_member_table table = {.version = 1,
                                    .next_number = host->member_count + 1,
                                    .birth_count = host->member_count,
                                    .count = host->member_count};
    for (uint32_t i = 0; i < host->member_count; i++) {
        const struct rk_member *member = host->members[i];
        table.rows[i] = (struct rk_member_row){
            .number = i + 1,
            .disk = member == host->self ? host->disk : member->probe_disk,
            .name = rk_slice_of_string(member->name),
            .peer = rk_slice_of_string(member->peer),
            .http = rk_slice_of_string(member->http),
            .rpc = rk_slice_of_string(member->rpc),
        };
        if (member == host->self) host->number = i + 1;
    }
    memcpy(host->cluster_name, host->cluster_wish, sizeof(host->cluster_name));
    rk_buf_reset(&host->scratch);
    rk_member_table_encode(&host->scratch, &table);
    enum rk_status status = rk_buf_check(&host->scratch);
    if (status == RK_OK) status = rk_host_table_take(host, rk_buf_slice(&host->scratch));
    if (status != RK_OK) {
        rk_host_fatal(host, status, "out of memory at the birth of the cluster");
        return;
    }
    adopt(host, host->restore.digest != 0);
}

static bool is_unborn(const struct rk_host *host)
{
    return !host->is_running && !host->is_adopting && !host->is_adopt_writing &&
           !host->restore.is_running;
}

static void probe_send(struct rk_host *host, struct rk_member *to)
{
    struct rk_buf *out = rk_host_section(host, to, RK_LINK_CONTROL, RK_SECTION_BIRTH_PROBE);
    rk_buf_blob(out, rk_slice_of_string(host->cluster_wish));
    rk_buf_blob(out, rk_slice_of_string(host->self->peer));
    rk_buf_blob(out, rk_slice_of_string(host->self->http));
    rk_buf_blob(out, rk_slice_of_string(host->self->rpc));
    rk_buf_u64(out, host->restore.digest);
    rk_host_section_end(host, to, RK_LINK_CONTROL);
}

/* An empty node asks all; a lone node has nobody to ask. */
void rk_host_birth_beat(struct rk_host *host)
{
    if (!is_unborn(host)) return;
    rk_host_restore_compare(host);
    for (uint32_t i = 0; i < host->member_count; i++)
        if (host->members[i] != host->self) probe_send(host, host->members[i]);
    if (may_mint(host)) mint(host);
}

/* Neither birth nor a first election waits for the next beat: a node that can be reached is
 * asked, or told who speaks, at once. */
void rk_host_member_greet(struct rk_host *host, struct rk_member *member)
{
    if (is_unborn(host))
        probe_send(host, member);
    else if (host->is_running && !host->is_removed)
        rk_host_node_section(host, member);
}

static void adopt_offer(struct rk_host *host, struct rk_member *to)
{
    struct rk_buf *out = rk_host_section(host, to, RK_LINK_CONTROL, RK_SECTION_BIRTH_ADOPT);
    rk_buf_u64(out, host->cluster.high);
    rk_buf_u64(out, host->cluster.low);
    rk_buf_blob(out, rk_slice_of_string(host->cluster_name));
    rk_buf_u64(out, host->history);
    rk_buf_varint(out, host->group_count);
    rk_buf_blob(out, rk_buf_slice(&host->table));
    rk_buf_u64(out, host->restore.digest);
    rk_buf_u64(out, host->restore.index_floor);
    rk_host_section_end(host, to, RK_LINK_CONTROL);
}

static enum rk_status group_begin(struct rk_host *host, uint32_t id,
                                  struct rk_storage_error *why)
{
    struct rk_wal_group found = {0};
    bool has_backup = host->restore.is_running;
    enum rk_status status = rk_group_new(&host->groups[id], host, id);
    if (status == RK_OK && has_backup) status = rk_host_restore_found(host, id, &found);
    if (status == RK_OK)
        status = rk_group_open(host->groups[id], has_backup ? &found : NULL, why);
    rk_buf_fini(&found.mark_conf);
    rk_entry_log_free(found.log);
    return status;
}

/* The identity is durable: the node begins to take part. */
void rk_host_birth_written(struct rk_host *host)
{
    for (uint32_t id = 0; id <= host->group_count; id++) {
        struct rk_storage_error why = {"out of memory"};
        enum rk_status status = group_begin(host, id, &why);
        if (status != RK_OK) {
            rk_host_fatal(host, status, "group %u can not be opened: %s", id, why.message);
            return;
        }
    }
    enum rk_status status = rk_slot_map_lay(&host->slots, host->group_count);
    if (status != RK_OK) {
        rk_host_fatal(host, status, "no slot map");
        return;
    }
    if (host->restore.is_running) rk_host_restore_done(host);
    host->is_running = true;
    host->refused[0] = '\0';
    host->started_ms = rk_host_now(host);
    rk_host_log(host, RK_LOG_INFO,
                "joined cluster %016" PRIx64 "%016" PRIx64 " as number %" PRIu64,
                host->cluster.high, host->cluster.low, host->number);
    for (uint32_t i = 0; i < host->member_count; i++) {
        struct rk_member *member = host->members[i];
        if (member == host->self) continue;
        if (member->probe_disk != 0 && member->probe_disk == member->disk)
            adopt_offer(host, member);
        rk_host_member_greet(host, member);
    }
}

static void refuse(struct rk_host *host, struct rk_member *to, const char *text)
{
    struct rk_buf *out =
        rk_host_section(host, to, RK_LINK_CONTROL, RK_SECTION_BIRTH_REFUSED);
    rk_buf_blob(out, rk_slice_of_string(text));
    rk_host_section_end(host, to, RK_LINK_CONTROL);
}

/* A probe of a node that is awaited under its name; the leader of group 0 binds the disk to
 * the number. */
static void probe_note(struct rk_host *host, struct rk_member *from, uint64_t disk)
{
    from->is_told = true;
    from->probe_ms = rk_host_now(host);
    from->probe_disk = disk;
}

/* PROBED: u64 disk, blobs name, peer, http, rpc. The new node need not reach the leader of
 * group 0 itself. */
static void probe_relay(struct rk_host *host, const struct rk_member *from)
{
    struct rk_member *leader = rk_group_leader(host->groups[0]);
    if (leader == NULL || leader == host->self) return;
    struct rk_buf *out = rk_host_section(host, leader, RK_LINK_CONTROL, RK_SECTION_PROBED);
    rk_buf_u64(out, from->probe_disk);
    rk_buf_blob(out, rk_slice_of_string(from->name));
    rk_buf_blob(out, rk_slice_of_string(from->peer));
    rk_buf_blob(out, rk_slice_of_string(from->http));
    rk_buf_blob(out, rk_slice_of_string(from->rpc));
    rk_host_section_end(host, leader, RK_LINK_CONTROL);
}

void rk_host_probed_receive(struct rk_host *host, struct rk_slice body)
{
    struct rk_reader in;
    rk_reader_init(&in, body);
    uint64_t disk = rk_read_u64(&in);
    struct rk_slice name = rk_read_blob(&in);
    struct rk_slice peer = rk_read_blob(&in);
    struct rk_slice http = rk_read_blob(&in);
    struct rk_slice rpc = rk_read_blob(&in);
    struct rk_member *member = in.is_failed ? NULL : rk_host_member_by_name(host, name);
    if (member == NULL || member->number == 0 || member->disk != 0 || disk == 0) {
        host->metrics.frames_dropped++;
        return;
    }
    if (rk_member_addresses_take(member, peer, http, rpc)) probe_note(host, member, disk);
}

/* The planted bug: an empty disk comes back under the number that has voted before. */
static void disk_rebind(struct rk_host *host, struct rk_member *from, uint64_t disk)
{
    struct rk_member_table table;
    if (rk_member_table_decode(&table, rk_buf_slice(&host->table)) != RK_OK) return;
    struct rk_member_row *row = rk_member_table_number(&table, from->number);
    if (row == NULL) return;
    row->disk = from->disk = disk;
    rk_buf_reset(&host->scratch);
    rk_member_table_encode(&host->scratch, &table);
    rk_buf_reset(&host->table);
    rk_buf_append_slice(&host->table, rk_buf_slice(&host->scratch));
}

/* It has a number that leaves: it may take part under that one yet, and never under two. */
static bool is_spent(const struct rk_host *host, uint64_t disk)
{
    struct rk_member_table table;
    return rk_member_table_decode(&table, rk_buf_slice(&host->table)) == RK_OK &&
           rk_member_table_has_disk(&table, disk);
}

/* What its folder must have been prepared with: those who were there at the birth of a
 * restored history begin from its backup, everybody else begins empty. */
static uint64_t first_backup(const struct rk_host *host, const struct rk_member *from)
{
    struct rk_member_table table;
    bool is_first = from->number != 0 &&
                    rk_member_table_decode(&table, rk_buf_slice(&host->table)) == RK_OK &&
                    from->number <= table.birth_count;
    return is_first ? host->restore.digest : 0;
}

static void probe_receive(struct rk_host *host, struct rk_member *from, uint64_t disk,
                          struct rk_slice body)
{
    struct rk_reader in;
    char text[256], wish[RK_HOST_NAME_MAX + 1];
    rk_reader_init(&in, body);
    struct rk_slice cluster = rk_read_blob(&in);
    struct rk_slice peer = rk_read_blob(&in);
    struct rk_slice http = rk_read_blob(&in);
    struct rk_slice rpc = rk_read_blob(&in);
    uint64_t backup = rk_read_u64(&in);
    if (rk_reader_check(&in, true) != RK_OK ||
        !rk_host_text_take(wish, sizeof(wish), cluster) || disk == 0) {
        host->metrics.frames_dropped++;
        return;
    }
    from->probe_backup = backup;
    bool is_awaited = host->is_running && from->number != 0 && from->disk == 0 &&
                      backup == 0 && names_agree(wish, host->cluster_name) &&
                      !is_spent(host, disk);
    if (!host->is_running || is_awaited) {
        if (!rk_member_addresses_take(from, peer, http, rpc)) return;
        probe_note(host, from, disk);
        memcpy(from->probe_cluster, wish, sizeof(wish));
        if (is_awaited) probe_relay(host, from);
        if (is_unborn(host) && may_mint(host)) mint(host);
        return;
    }
    if (RK_MUTANT(empty_disk_votes) && from->number != 0) disk_rebind(host, from, disk);
    if (!names_agree(wish, host->cluster_name))
        snprintf(text, sizeof(text), "this is cluster %s, not %s", host->cluster_name,
                 wish);
    else if (from->number == 0)
        snprintf(text, sizeof(text),
                 "node %s is not a member; add it with: rukun cluster add %s", from->name,
                 from->name);
    else if (backup != first_backup(host, from))
        snprintf(text, sizeof(text),
                 backup == 0 ? "node %s was to begin from the backup that it does not have "
                               "any more; replace it with: rukun cluster replace %s"
                             : "node %s has a backup to restore, but the cluster is there "
                               "already; empty its folder (and if it was a member: rukun "
                               "cluster replace %s)",
                 from->name, from->name);
    else if (from->disk == 0)
        snprintf(text, sizeof(text),
                 "the disk of node %s was replaced, too: it needs an empty data folder",
                 from->name);
    else if (from->disk != disk)
        snprintf(text, sizeof(text),
                 "node %s is known with another disk; replace it with: rukun cluster "
                 "replace %s",
                 from->name, from->name);
    else {
        adopt_offer(host, from);
        return;
    }
    refuse(host, from, text);
}

static void adopt_receive(struct rk_host *host, struct rk_slice body)
{
    struct rk_reader in;
    struct rk_member_table rows;
    struct rk_cluster_id cluster;
    char name[RK_HOST_NAME_MAX + 1];
    if (!is_unborn(host)) return;
    rk_reader_init(&in, body);
    cluster.high = rk_read_u64(&in);
    cluster.low = rk_read_u64(&in);
    struct rk_slice cluster_name = rk_read_blob(&in);
    uint64_t history = rk_read_u64(&in);
    uint64_t group_count = rk_read_varint(&in);
    struct rk_slice table = rk_read_blob(&in);
    uint64_t backup = rk_read_u64(&in);
    uint64_t index_floor = rk_read_u64(&in);
    if (rk_reader_check(&in, true) != RK_OK || group_count == 0 ||
        group_count > RK_HOST_GROUPS_MAX || cluster.high == 0 || history == 0 ||
        !rk_host_text_take(name, sizeof(name), cluster_name) ||
        !names_agree(name, host->cluster_wish)) {
        host->metrics.frames_dropped++;
        return;
    }
    struct rk_member_row *own = NULL;
    if (rk_member_table_decode(&rows, table) == RK_OK)
        own = rk_member_table_find(&rows, rk_slice_of_string(host->name));
    /* Meant for another disk: perhaps for what this folder was before it was wiped. */
    bool has_backup = backup != 0 && own != NULL && own->number <= rows.birth_count;
    if (own == NULL || own->disk != host->disk ||
        host->restore.digest != (has_backup ? backup : 0) ||
        (has_backup && group_count != host->restore.group_count)) {
        host->metrics.frames_dropped++;
        return;
    }
    host->number = own->number;
    if (rk_host_table_take(host, table) != RK_OK) {
        host->metrics.frames_dropped++;
        host->number = 0;
        return;
    }
    host->cluster = cluster;
    host->history = history;
    host->group_count = (uint32_t)group_count;
    memcpy(host->cluster_name, name, sizeof(name));
    host->restore.digest = backup;
    host->restore.index_floor = index_floor;
    adopt(host, has_backup);
}

static void refused_receive(struct rk_host *host, struct rk_slice body)
{
    struct rk_reader in;
    char text[sizeof(host->refused)];
    if (!is_unborn(host)) return;
    rk_reader_init(&in, body);
    if (!rk_host_text_take(text, sizeof(text), rk_read_blob(&in)) || in.is_failed) return;
    if (strcmp(text, host->refused) == 0) return;
    memcpy(host->refused, text, sizeof(text));
    rk_host_log(host, RK_LOG_ERROR, "refused: %s", text);
}

void rk_host_birth_receive(struct rk_host *host, struct rk_member *from, uint64_t disk,
                           const struct rk_cluster_id *cluster, uint16_t kind,
                           struct rk_slice body)
{
    bool is_born = cluster->high != 0;
    if (kind == RK_SECTION_BIRTH_PROBE && !is_born)
        probe_receive(host, from, disk, body);
    else if (kind == RK_SECTION_BIRTH_ADOPT && is_born)
        adopt_receive(host, body);
    else if (kind == RK_SECTION_BIRTH_REFUSED && is_born)
        refused_receive(host, body);
    else if (kind == RK_SECTION_TABLE && is_born)
        rk_host_table_receive(host, cluster, body);
    else
        host->metrics.frames_dropped++;
}

void rk_host_node_section(struct rk_host *host, struct rk_member *to)
{
    struct rk_buf *out = rk_host_section(host, to, RK_LINK_CONTROL, RK_SECTION_NODE);
    rk_buf_blob(out, rk_slice_of_string(host->self->peer));
    rk_buf_blob(out, rk_slice_of_string(host->self->http));
    rk_buf_blob(out, rk_slice_of_string(host->self->rpc));
    rk_buf_varint(out, host->machine_version);
    rk_buf_varint(out, rk_host_is_damaged(host) ? NODE_DAMAGED : 0);
    rk_buf_varint(out, host->table_version);
    rk_host_section_end(host, to, RK_LINK_CONTROL);
}

void rk_host_node_receive(struct rk_host *host, struct rk_member *from,
                          struct rk_slice body)
{
    struct rk_reader in;
    rk_reader_init(&in, body);
    struct rk_slice peer = rk_read_blob(&in);
    struct rk_slice http = rk_read_blob(&in);
    struct rk_slice rpc = rk_read_blob(&in);
    uint64_t machine_version = rk_read_varint(&in);
    uint64_t flags = rk_reader_left(&in) > 0 ? rk_read_varint(&in) : 0;
    uint64_t table_version =
        rk_reader_left(&in) > 0 ? rk_read_varint(&in) : host->table_version;
    char before[RK_HOST_ADDRESS_MAX];
    memcpy(before, from->peer, sizeof(before));
    if (in.is_failed || machine_version == 0 ||
        !rk_member_addresses_take(from, peer, http, rpc)) {
        host->metrics.frames_dropped++;
        return;
    }
    from->is_told = true;
    from->is_damaged = (flags & NODE_DAMAGED) != 0;
    /* It may not know the very leader whose entries would tell it. */
    if (table_version < host->table_version) rk_host_table_send(host, from);
    if (strcmp(before, from->peer) != 0) host->members_version++;
    from->machine_version =
        machine_version < UINT32_MAX ? (uint32_t)machine_version : UINT32_MAX;
}

static void birth_propose(struct rk_group *group)
{
    struct rk_host *host = group->host;
    struct rk_request request;
    memset(&request, 0, sizeof(request));
    request.op = RK_OP_BIRTH;
    request.history = host->history;
    RK_SET(&request, HISTORY);
    if (group->id == 0) {
        /* So that fences also rise over lost histories. */
        uint64_t floor = rk_host_time_floor(host);
        request.fence_floor = host->fence_floor > floor ? host->fence_floor : floor;
        RK_SET(&request, FENCE_FLOOR);
    }
    rk_buf_reset(&host->scratch);
    rk_request_encode(&host->scratch, &request);
    rk_group_own(group, &host->scratch);
}

static void first_table_propose(struct rk_group *group)
{
    struct rk_host *host = group->host;
    struct rk_request request;
    memset(&request, 0, sizeof(request));
    request.op = RK_OP_MEMBERS;
    request.value.bytes = rk_buf_slice(&host->table);
    request.value.encoding = RK_ENCODING_RAW;
    RK_SET(&request, VALUE);
    rk_buf_reset(&host->scratch);
    rk_request_encode(&host->scratch, &request);
    rk_group_own(group, &host->scratch);
}

void rk_host_birth_propose(struct rk_group *group)
{
    if (!group->is_serving) return;
    if (rk_machine_history(group->machine) == 0) birth_propose(group);
    if (group->id == 0 && rk_machine_members(group->machine).size == 0)
        first_table_propose(group);
}
