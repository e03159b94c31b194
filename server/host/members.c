#include "host/host_internal.h"

#include <inttypes.h>

/* The nodes as this one knows them: of --peers before birth, of the member table after. The
 * table comes with what group 0 applies, and from others when this node was away for so
 * long that it would not know those who could tell it. */

enum { GHOST_MS = 60000, TABLE_AGAIN_MS = 1000 };

struct rk_member *rk_host_member_by_name(const struct rk_host *host, struct rk_slice name)
{
    for (uint32_t i = 0; i < host->member_count; i++)
        if (rk_slice_is_equal(rk_slice_of_string(host->members[i]->name), name))
            return host->members[i];
    return NULL;
}

struct rk_member *rk_host_member_by_number(const struct rk_host *host, uint64_t number)
{
    for (uint32_t i = 0; number != 0 && i < host->member_count; i++)
        if (host->members[i]->number == number) return host->members[i];
    return NULL;
}

bool rk_member_is_up(const struct rk_host *host, const struct rk_member *member)
{
    return member == host->self ||
           (member->heard_ms != 0 &&
            rk_host_now(host) - member->heard_ms <= host->election_timeout_ms);
}

bool rk_host_text_take(char *out, size_t size, struct rk_slice text)
{
    if (text.size >= size || (text.size > 0 && memchr(text.data, 0, text.size) != NULL))
        return false;
    if (text.size > 0) memcpy(out, text.data, text.size);
    out[text.size] = '\0';
    return true;
}

static struct rk_slice text_of(const char *text)
{
    return text == NULL ? RK_SLICE_EMPTY : rk_slice_of_string(text);
}

/* --- who is known -------------------------------------------------------------------- */

/* A snapshot from it is on another thread or half installed: its sender must stay. */
static bool is_in_use(const struct rk_host *host, const struct rk_member *member)
{
    for (uint32_t id = 0; host->is_running && id <= host->group_count; id++)
        if (host->groups[id]->receive.state != RK_RECEIVE_NONE &&
            host->groups[id]->receive.from == member)
            return true;
    return false;
}

/* What was under way under its old number ends. */
static void renumber(struct rk_host *host, struct rk_member *member, uint64_t number)
{
    if (member->number == number) return;
    for (uint32_t id = 0; host->is_running && id <= host->group_count; id++)
        rk_group_send_close(host->groups[id], member);
    member->number = number;
    member->disk = 0;
    member->heard_ms = 0;
    member->wall_lead_ms = 0;
    member->probe_ms = 0;
    member->is_damaged = false;
}

static bool evict(struct rk_host *host, struct rk_member *member)
{
    uint32_t at = 0;
    if (is_in_use(host, member)) return false;
    renumber(host, member, 0);
    rk_member_link_lost(host, member);
    rk_member_home_lost(host, member);
    while (host->members[at] != member)
        at++;
    host->member_count--;
    memmove(&host->members[at], &host->members[at + 1],
            (host->member_count - at) * sizeof(host->members[0]));
    for (int link = 0; link < RK_LINK_COUNT; link++)
        rk_buf_fini(&member->links[link].out);
    rk_free(member);
    host->members_version++;
    return true;
}

static bool evict_one(struct rk_host *host)
{
    for (uint32_t i = 0; i < host->member_count; i++) {
        struct rk_member *member = host->members[i];
        if (member != host->self && member->number == 0 && evict(host, member)) return true;
    }
    return false;
}

static uint32_t free_place(const struct rk_host *host)
{
    uint32_t at = 0;
    for (uint32_t i = 0; i < host->member_count; i++) {
        if (host->members[i]->at != at) continue;
        at++;
        i = UINT32_MAX; /* from the start: a few members */
    }
    return at;
}

/* Finds or adds; members stay sorted by name. RK_EINVAL: a bad name. RK_ELIMIT: too many.
 */
static enum rk_status member_make(struct rk_member **out, struct rk_host *host,
                                  struct rk_slice name)
{
    struct rk_member *member = rk_host_member_by_name(host, name);
    *out = member;
    if (member != NULL) return RK_OK;
    if (name.size == 0) return RK_EINVAL;
    if (host->member_count == RK_HOST_PEERS_MAX && (host->number == 0 || !evict_one(host)))
        return RK_ELIMIT;
    member = rk_calloc(1, sizeof(*member));
    if (member == NULL) return RK_ENOMEM;
    if (!rk_host_text_take(member->name, sizeof(member->name), name)) {
        rk_free(member);
        return RK_EINVAL;
    }
    rk_list_init(&member->forwarded);
    rk_list_init(&member->taken);
    for (int link = 0; link < RK_LINK_COUNT; link++)
        rk_buf_init(&member->links[link].out);
    member->at = free_place(host);
    uint32_t at = host->member_count++;
    for (; at > 0 && strcmp(host->members[at - 1]->name, member->name) > 0; at--)
        host->members[at] = host->members[at - 1];
    host->members[at] = member;
    host->members_version++;
    *out = member;
    return RK_OK;
}

bool rk_member_addresses_take(struct rk_member *member, struct rk_slice peer,
                              struct rk_slice http, struct rk_slice rpc)
{
    return rk_host_text_take(member->peer, sizeof(member->peer), peer) &&
           rk_host_text_take(member->http, sizeof(member->http), http) &&
           rk_host_text_take(member->rpc, sizeof(member->rpc), rpc);
}

enum rk_status rk_host_members_of_options(struct rk_host *host,
                                          const struct rk_host_options *options)
{
    enum rk_status status;
    for (uint32_t i = 0; i < options->peer_count; i++) {
        const struct rk_host_peer *peer = &options->peers[i];
        struct rk_member *member;
        status = member_make(&member, host, text_of(peer->name));
        if (status != RK_OK) return status == RK_ENOMEM ? status : RK_EINVAL;
        if (!rk_member_addresses_take(member, text_of(peer->peer), text_of(peer->http),
                                      text_of(peer->rpc)))
            return RK_EINVAL;
    }
    status = member_make(&host->self, host, rk_slice_of_string(host->name));
    if (status != RK_OK) return status == RK_ENOMEM ? status : RK_EINVAL;
    if (!rk_member_addresses_take(host->self, text_of(options->self.peer),
                                  text_of(options->self.http), text_of(options->self.rpc)))
        return RK_EINVAL;
    return RK_OK;
}

/* --- the table ----------------------------------------------------------------------- */

/* An address that the table changed; what the node itself told meanwhile stays. */
static void address_take(char *address, struct rk_slice before, struct rk_slice now)
{
    if (now.size > 0 && (address[0] == '\0' || !rk_slice_is_equal(before, now)))
        (void)rk_host_text_take(address, RK_HOST_ADDRESS_MAX, now);
}

static enum rk_status row_take(struct rk_host *host, struct rk_member_table *table,
                               const struct rk_member_row *row,
                               const struct rk_member_row *before)
{
    const struct rk_member_row none = {0};
    bool is_own = rk_slice_is_equal(row->name, rk_slice_of_string(host->name));
    if (is_own && row->number != host->number) return RK_OK;
    if (row->wish == RK_MEMBER_LEAVING && rk_member_table_find(table, row->name) != NULL)
        return RK_OK; /* replaced: the name belongs to another number now */
    struct rk_member *member;
    enum rk_status status = member_make(&member, host, row->name);
    if (status != RK_OK) return status;
    renumber(host, member, row->number);
    member->disk = row->disk;
    member->wish = row->wish;
    member->gone_ms = 0;
    if (is_own) return RK_OK;
    if (before == NULL) before = &none;
    address_take(member->peer, before->peer, row->peer);
    address_take(member->http, before->http, row->http);
    address_take(member->rpc, before->rpc, row->rpc);
    return RK_OK;
}

static bool has_name(const struct rk_member_table *table, const char *name)
{
    for (uint32_t i = 0; i < table->count; i++)
        if (rk_slice_is_equal(table->rows[i].name, rk_slice_of_string(name))) return true;
    return false;
}

static void own_check(struct rk_host *host, struct rk_member_table *table)
{
    const struct rk_member_row *own = rk_member_table_number(table, host->number);
    bool is_removed = own == NULL || (own->wish == RK_MEMBER_LEAVING &&
                                      rk_member_table_find(table, own->name) != NULL);
    host->self->number = host->number;
    host->self->disk = host->disk;
    host->self->wish = own == NULL ? RK_MEMBER_LEAVING : own->wish;
    if (is_removed && !host->is_removed)
        rk_host_log(host, RK_LOG_ERROR,
                    "number %" PRIu64 " was removed from the cluster: this node serves "
                    "nothing any more; to come back it needs an empty data folder",
                    host->number);
    host->is_removed = is_removed;
}

enum rk_status rk_host_table_take(struct rk_host *host, struct rk_slice bytes)
{
    struct rk_member_table table, before;
    enum rk_status status = rk_member_table_decode(&table, bytes);
    if (status != RK_OK) return status;
    if (rk_member_table_decode(&before, rk_buf_slice(&host->table)) != RK_OK)
        before.count = 0;
    /* First who goes, so that there is room for who comes. */
    for (uint32_t i = 0; i < host->member_count; i++) {
        struct rk_member *member = host->members[i];
        if (member == host->self || has_name(&table, member->name)) continue;
        renumber(host, member, 0);
        if (member->gone_ms == 0) member->gone_ms = rk_host_now(host) + 1;
    }
    for (uint32_t i = 0; i < table.count; i++) {
        status = row_take(host, &table, &table.rows[i],
                          rk_member_table_number(&before, table.rows[i].number));
        if (status != RK_OK) return status;
    }
    own_check(host, &table);
    rk_buf_reset(&host->table);
    rk_buf_append_slice(&host->table, bytes);
    host->table_version = table.version;
    host->members_version++;
    for (uint32_t id = 0; host->is_running && id <= host->group_count; id++)
        host->groups[id]->is_dirty = true;
    return rk_buf_check(&host->table);
}

/* A newer table: known here from now on, also after a restart. */
static void table_follow(struct rk_host *host, struct rk_slice bytes)
{
    struct rk_member_table table;
    if (bytes.size == 0 || rk_member_table_decode(&table, bytes) != RK_OK ||
        table.version <= host->table_version)
        return;
    enum rk_status status = rk_host_table_take(host, bytes);
    if (status == RK_OK) status = rk_host_identity_write(host);
    if (status != RK_OK)
        rk_host_fatal(host, status, "the member table can not be recorded");
}

void rk_host_members_applied(struct rk_host *host)
{
    host->has_new_table = false;
    table_follow(host, rk_machine_members(host->groups[0]->machine));
}

/* TABLE: blob member table. For a node of this cluster that is behind, or whose frame does
 * not fit what is known here: one of the two is behind, or it was removed. */
void rk_host_table_send(struct rk_host *host, struct rk_member *to)
{
    uint64_t now = rk_host_now(host);
    if (host->is_removed || (to->table_ms != 0 && now - to->table_ms < TABLE_AGAIN_MS))
        return;
    to->table_ms = now;
    struct rk_buf *out = rk_host_section(host, to, RK_LINK_CONTROL, RK_SECTION_TABLE);
    rk_buf_blob(out, rk_buf_slice(&host->table));
    rk_host_section_end(host, to, RK_LINK_CONTROL);
}

void rk_host_table_receive(struct rk_host *host, const struct rk_cluster_id *cluster,
                           struct rk_slice body)
{
    struct rk_reader in;
    rk_reader_init(&in, body);
    struct rk_slice table = rk_read_blob(&in);
    if (!host->is_running || cluster->high != host->cluster.high ||
        cluster->low != host->cluster.low || rk_reader_check(&in, true) != RK_OK) {
        host->metrics.frames_dropped++;
        return;
    }
    table_follow(host, table);
}

/* Those who are in the table no more are told so for a while, then forgotten. */
void rk_host_ghosts_check(struct rk_host *host)
{
    uint64_t now = rk_host_now(host);
    for (uint32_t i = 0; i < host->member_count; i++) {
        struct rk_member *member = host->members[i];
        if (member == host->self || member->number != 0 || member->gone_ms == 0 ||
            now < member->gone_ms + GHOST_MS)
            continue;
        if (evict(host, member)) return;
    }
}

uint64_t rk_host_members_version(const struct rk_host *host)
{
    return host->members_version;
}
