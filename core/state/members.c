#include "state/members.h"

#include "base/assert.h"
#include "base/mutant.h"
#include "state/object.h"

void rk_member_table_encode(struct rk_buf *out, const struct rk_member_table *table)
{
    rk_buf_u8(out, RK_MEMBER_TABLE_FORMAT);
    rk_buf_varint(out, table->version);
    rk_buf_varint(out, table->next_number);
    rk_buf_varint(out, table->birth_count);
    rk_buf_varint(out, table->count);
    for (uint32_t i = 0; i < table->count; i++) {
        const struct rk_member_row *row = &table->rows[i];
        rk_buf_varint(out, row->number);
        rk_buf_u64(out, row->disk);
        rk_buf_u8(out, row->wish);
        rk_buf_blob(out, row->name);
        rk_buf_blob(out, row->peer);
        rk_buf_blob(out, row->http);
        rk_buf_blob(out, row->rpc);
    }
}

static bool is_text(struct rk_slice text, size_t max)
{
    return text.size <= max &&
           (text.size == 0 || memchr(text.data, '\0', text.size) == NULL);
}

static bool row_is_valid(const struct rk_member_table *table, uint32_t at)
{
    const struct rk_member_row *row = &table->rows[at];
    return row->number > (at == 0 ? 0 : table->rows[at - 1].number) &&
           row->number < table->next_number && row->wish <= RK_MEMBER_LEAVING &&
           row->name.size > 0 && is_text(row->name, RK_MEMBERS_NAME_MAX) &&
           is_text(row->peer, RK_MEMBERS_ADDRESS_MAX) &&
           is_text(row->http, RK_MEMBERS_ADDRESS_MAX) &&
           is_text(row->rpc, RK_MEMBERS_ADDRESS_MAX);
}

static void row_read(struct rk_reader *in, struct rk_member_row *row, uint8_t format)
{
    row->number = rk_read_varint(in);
    row->disk = rk_read_u64(in);
    row->wish = format == 1 ? RK_MEMBER_VOTER : rk_read_u8(in);
    row->name = rk_read_blob(in);
    row->peer = rk_read_blob(in);
    row->http = rk_read_blob(in);
    row->rpc = rk_read_blob(in);
}

enum rk_status rk_member_table_decode(struct rk_member_table *out, struct rk_slice data)
{
    struct rk_reader in;
    memset(out, 0, sizeof(*out));
    rk_reader_init(&in, data);
    uint8_t format = rk_read_u8(&in);
    if (format == RK_MEMBER_TABLE_FORMAT) {
        out->version = rk_read_varint(&in);
        out->next_number = rk_read_varint(&in);
        out->birth_count = rk_read_varint(&in);
    }
    uint64_t count = rk_read_varint(&in);
    if (format == 1) {
        out->version = 1;
        out->next_number = count + 1;
        out->birth_count = count;
    }
    if (!in.is_failed && format > RK_MEMBER_TABLE_FORMAT) return RK_EUNSUPPORTED;
    if (in.is_failed || format == 0 || count > RK_MEMBERS_ROWS_MAX ||
        out->birth_count == 0 || out->birth_count > RK_MEMBERS_ROWS_MAX ||
        out->birth_count >= out->next_number)
        return RK_EPROTO;
    for (uint32_t i = 0; i < count; i++) {
        row_read(&in, &out->rows[i], format);
        if (in.is_failed || !row_is_valid(out, i)) return RK_EPROTO;
        out->count = i + 1;
    }
    return rk_reader_check(&in, true);
}

struct rk_member_row *rk_member_table_find(struct rk_member_table *table,
                                           struct rk_slice name)
{
    for (uint32_t i = 0; i < table->count; i++)
        if (table->rows[i].wish != RK_MEMBER_LEAVING &&
            rk_slice_is_equal(table->rows[i].name, name))
            return &table->rows[i];
    return NULL;
}

struct rk_member_row *rk_member_table_number(struct rk_member_table *table, uint64_t number)
{
    for (uint32_t i = 0; i < table->count; i++)
        if (table->rows[i].number == number) return &table->rows[i];
    return NULL;
}

void rk_member_table_drop(struct rk_member_table *table, uint64_t number)
{
    struct rk_member_row *row = rk_member_table_number(table, number);
    if (row == NULL) return;
    uint32_t at = (uint32_t)(row - table->rows);
    table->count--;
    memmove(row, row + 1, (table->count - at) * sizeof(*row));
}

bool rk_member_table_has_disk(const struct rk_member_table *table, uint64_t disk)
{
    for (uint32_t i = 0; i < table->count; i++)
        if (table->rows[i].disk == disk) return true;
    return false;
}

bool rk_member_table_is_gone(struct rk_member_table *table, uint64_t number)
{
    return number < table->next_number && rk_member_table_number(table, number) == NULL;
}

/* --- operations ---------------------------------------------------------------------- */

static enum rk_status table_set(struct rk_machine *machine, struct rk_apply *apply,
                                struct rk_slice table)
{
    rk_buf_reset(&machine->members);
    rk_buf_append_slice(&machine->members, table);
    if (rk_buf_check(&machine->members) != RK_OK) return RK_ENOMEM;
    struct rk_event event = {.kind = RK_EVENT_MEMBERS,
                             .bytes = rk_buf_slice(&machine->members)};
    rk_event_emit(apply, &event);
    apply->reply->ok = true;
    return RK_OK;
}

/* A whole table takes effect only as the successor of the present one: two leaders, or a
 * leader and an operator, never undo each other's change. */
static enum rk_status apply_members(struct rk_machine *machine, struct rk_apply *apply)
{
    struct rk_member_table now, next;
    struct rk_slice value = apply->request->value.bytes;
    /* Of format 1 there was only one, at birth, and nothing looked into it here. */
    if (value.size > 0 && value.data[0] == 1) return table_set(machine, apply, value);
    enum rk_status status = rk_member_table_decode(&next, value);
    if (status == RK_EUNSUPPORTED) return status; /* of a newer program */
    if (status != RK_OK)
        return rk_refuse(apply->reply, RK_EINVAL, "value", "no member table");
    if (rk_member_table_decode(&now, rk_buf_slice(&machine->members)) == RK_OK &&
        next.version != now.version + 1)
        return rk_refuse(apply->reply, RK_EVERSION, NULL, "the member table has changed");
    return table_set(machine, apply, value);
}

static enum rk_status table_open(struct rk_machine *machine, struct rk_apply *apply,
                                 struct rk_member_table *out)
{
    if (rk_member_table_decode(out, rk_buf_slice(&machine->members)) == RK_OK) return RK_OK;
    (void)rk_refuse(apply->reply, RK_EUNAVAILABLE, NULL, "the cluster has no members yet");
    return RK_EUNAVAILABLE;
}

static enum rk_status table_close(struct rk_machine *machine, struct rk_apply *apply,
                                  struct rk_member_table *table)
{
    struct rk_buf next;
    rk_buf_init(&next);
    table->version++;
    rk_member_table_encode(&next, table);
    enum rk_status status = rk_buf_check(&next);
    if (status == RK_OK) status = table_set(machine, apply, rk_buf_slice(&next));
    rk_buf_fini(&next);
    return status;
}

static bool is_name(struct rk_slice name)
{
    static const char letters[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
                                  "0123456789._-";
    if (name.size == 0 || name.size > RK_MEMBERS_NAME_MAX) return false;
    for (size_t i = 0; i < name.size; i++)
        if (memchr(letters, name.data[i], sizeof(letters) - 1) == NULL) return false;
    return true;
}

/* "host:port" with a port of digits. */
static bool is_address(struct rk_slice text)
{
    if (!is_text(text, RK_MEMBERS_ADDRESS_MAX)) return false;
    size_t digits = 0;
    while (digits < text.size && text.data[text.size - 1 - digits] >= '0' &&
           text.data[text.size - 1 - digits] <= '9')
        digits++;
    return digits >= 1 && digits <= 5 && text.size > digits + 1 &&
           text.data[text.size - 1 - digits] == ':';
}

/* The addresses of the request are fit, where given. The answer says if not. */
static bool addresses_check(struct rk_apply *apply)
{
    const struct {
        const char *field;
        struct rk_slice text;
    } all[] = {{"peer", apply->request->peer},
               {"http", apply->request->http},
               {"rpc", apply->request->rpc}};
    for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++) {
        if (all[i].text.size == 0 || is_address(all[i].text)) continue;
        (void)rk_refuse(apply->reply, RK_ERANGE, all[i].field, "%s: host:port is needed",
                        all[i].field);
        return false;
    }
    return true;
}

static struct rk_member_row *row_named(struct rk_apply *apply,
                                       struct rk_member_table *table)
{
    struct rk_slice name = apply->request->name;
    struct rk_member_row *row = rk_member_table_find(table, name);
    if (row == NULL)
        (void)rk_refuse(
            apply->reply, RK_ENOENT, "name", "node %.*s is not a member",
            (int)(name.size < RK_MEMBERS_NAME_MAX ? name.size : RK_MEMBERS_NAME_MAX),
            (const char *)name.data);
    return row;
}

static uint32_t wished_count(const struct rk_member_table *table)
{
    uint32_t count = 0;
    for (uint32_t i = 0; i < table->count; i++)
        count += table->rows[i].wish != RK_MEMBER_LEAVING;
    return count;
}

static enum rk_status apply_add(struct rk_machine *machine, struct rk_apply *apply)
{
    const struct rk_request *request = apply->request;
    struct rk_member_table table;
    if (table_open(machine, apply, &table) != RK_OK || !addresses_check(apply))
        return RK_OK;
    if (!is_name(request->name))
        return rk_refuse(apply->reply, RK_ERANGE, "name",
                         "name: 1 to %d letters, digits, dots, dashes, underscores",
                         RK_MEMBERS_NAME_MAX);
    if (rk_member_table_find(&table, request->name) != NULL)
        return rk_refuse(apply->reply, RK_EEXIST, "name", "node %.*s is a member already",
                         (int)request->name.size, (const char *)request->name.data);
    if (table.count == RK_MEMBERS_ROWS_MAX || wished_count(&table) == RK_MEMBERS_NODES_MAX)
        return rk_refuse(apply->reply, RK_ELIMIT, NULL, "a cluster has at most %d nodes",
                         RK_MEMBERS_NODES_MAX);
    if (RK_MUTANT(number_reused))
        table.next_number = table.rows[table.count - 1].number + 1;
    table.rows[table.count++] = (struct rk_member_row){
        .number = table.next_number++,
        .wish = RK_MEMBER_LEARNER,
        .name = request->name,
        .peer = request->peer,
        .http = request->http,
        .rpc = request->rpc,
    };
    return table_close(machine, apply, &table);
}

static enum rk_status apply_promote(struct rk_machine *machine, struct rk_apply *apply)
{
    struct rk_member_table table;
    if (table_open(machine, apply, &table) != RK_OK) return RK_OK;
    struct rk_member_row *row = row_named(apply, &table);
    if (row == NULL) return RK_OK;
    apply->reply->ok = true;
    if (row->wish == RK_MEMBER_VOTER) return RK_OK;
    row->wish = RK_MEMBER_VOTER;
    return table_close(machine, apply, &table);
}

static enum rk_status apply_remove(struct rk_machine *machine, struct rk_apply *apply)
{
    struct rk_member_table table;
    uint32_t others = 0;
    if (table_open(machine, apply, &table) != RK_OK) return RK_OK;
    struct rk_member_row *row = row_named(apply, &table);
    if (row == NULL) return RK_OK;
    for (uint32_t i = 0; i < table.count; i++)
        others += &table.rows[i] != row && table.rows[i].wish == RK_MEMBER_VOTER &&
                  table.rows[i].disk != 0;
    if (row->wish == RK_MEMBER_VOTER && others == 0)
        return rk_refuse(apply->reply, RK_EINVAL, "name",
                         "the last voter can not be removed");
    row->wish = RK_MEMBER_LEAVING;
    return table_close(machine, apply, &table);
}

static enum rk_status apply_replace(struct rk_machine *machine, struct rk_apply *apply)
{
    const struct rk_request *request = apply->request;
    struct rk_member_table table;
    if (table_open(machine, apply, &table) != RK_OK || !addresses_check(apply))
        return RK_OK;
    struct rk_member_row *old = row_named(apply, &table);
    if (old == NULL) return RK_OK;
    struct rk_member_row *row = old;
    if (old->disk != 0) {
        if (table.count == RK_MEMBERS_ROWS_MAX)
            return rk_refuse(apply->reply, RK_ELIMIT, NULL,
                             "too many nodes leave at the same time");
        row = &table.rows[table.count++];
        *row = *old;
        row->number = table.next_number++;
        row->disk = 0;
        old->wish = RK_MEMBER_LEAVING;
    }
    if (request->peer.size > 0) row->peer = request->peer;
    if (request->http.size > 0) row->http = request->http;
    if (request->rpc.size > 0) row->rpc = request->rpc;
    return table_close(machine, apply, &table);
}

const struct rk_op_handler rk_member_handlers[] = {
    {RK_OP_MEMBERS, apply_members, NULL},
    {RK_OP_CLUSTER_ADD, apply_add, NULL},
    {RK_OP_CLUSTER_PROMOTE, apply_promote, NULL},
    {RK_OP_CLUSTER_REMOVE, apply_remove, NULL},
    {RK_OP_CLUSTER_REPLACE, apply_replace, NULL},
    {RK_OP_NONE, NULL, NULL},
};
