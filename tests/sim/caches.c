/* Cache entries as registers and counters. Versions order the writes of a key, so that
 * reads and writes are checked against real time by them: nobody reads or gets a version
 * below what was known when the call began. */
#include "client.h"

#include "base/assert.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

enum write_state { WRITE_OPEN, WRITE_OK, WRITE_FAILED };

struct write {
    enum write_state state; /* open: also of unknown outcome */
    uint32_t key;
    bool is_delete, is_counter;
    uint64_t version; /* 0: not known */
    uint64_t after;   /* of a compare-and-set that was done: the version before */
    int64_t number;   /* of a counter */
};

struct key {
    uint64_t floor; /* the highest version that a finished call showed */
    bool is_absent; /* it was a removal */
    int64_t count_floor;
    uint64_t adds, adds_ok;
};

struct sim_caches {
    struct key *keys; /* and as many counters behind them */
    struct write *writes;
    uint64_t count, capacity;
};

void caches_init(struct sim *sim)
{
    sim->caches = sim_alloc(1, sizeof(*sim->caches));
    sim->caches->keys = sim_alloc(2 * sim->config.keys, sizeof(*sim->caches->keys));
    RK_ASSERT(sim->config.keys <= CLIENT_KEYS_MAX);
}

void caches_free(struct sim *sim)
{
    if (sim->caches == NULL) return;
    free(sim->caches->keys);
    free(sim->caches->writes);
    free(sim->caches);
}

static uint64_t write_new(struct sim *sim, uint32_t key)
{
    struct sim_caches *caches = sim->caches;
    if (caches->count == caches->capacity) {
        caches->capacity = 2 * caches->capacity + 64;
        caches->writes =
            realloc(caches->writes, caches->capacity * sizeof(*caches->writes));
        RK_ASSERT(caches->writes != NULL);
    }
    caches->writes[caches->count] = (struct write){.key = key};
    return caches->count++;
}

static void raise_floor(struct sim *sim, uint32_t key, uint64_t version, bool is_absent)
{
    struct key *at = &sim->caches->keys[key];
    if (version <= at->floor) return;
    at->floor = version;
    at->is_absent = is_absent;
}

/* The write turns out to have this version: no other one has it, none stands between a
 * compare-and-set and what it compared with. */
static void version_learn(struct sim *sim, uint64_t number, uint64_t version)
{
    struct sim_caches *caches = sim->caches;
    struct write *write = &caches->writes[number];
    if (write->version != 0 && write->version != version)
        sim_fail(sim,
                 "write %" PRIu64 " of k%u was done twice: version %" PRIu64
                 " and %" PRIu64,
                 number, write->key, write->version, version);
    write->version = version;
    for (uint64_t i = 0; i < caches->count; i++) {
        const struct write *other = &caches->writes[i];
        if (i == number || other->key != write->key || other->version == 0) continue;
        if (other->version == version)
            sim_fail(sim, "writes %" PRIu64 " and %" PRIu64 " of k%u have version %" PRIu64,
                     number, i, write->key, version);
        const struct write *late = other->version > version ? other : write;
        const struct write *early = late == other ? write : other;
        if (late->after != 0 && early->version > late->after)
            sim_fail(sim,
                     "version %" PRIu64 " of k%u was put over %" PRIu64 ", but %" PRIu64
                     " was there",
                     late->version, write->key, late->after, early->version);
    }
}

/* --- writes -------------------------------------------------------------------------- */

static void absent_check(struct sim_client *client, uint32_t key, uint64_t floor,
                         const char *what)
{
    struct sim *sim = client->sim;
    if (floor == 0) return;
    for (uint64_t i = 0; i < sim->caches->count; i++) {
        const struct write *write = &sim->caches->writes[i];
        if (write->key != key || !write->is_delete || write->state == WRITE_FAILED)
            continue;
        if (write->version == 0 || write->version >= floor) return;
    }
    sim_broken(sim, SIM_RULE_KEPT,
               "%s of %s finds no k%u, whose version %" PRIu64 " was there", what,
               client->name, key, floor);
}

static void put_done(struct sim_client *client, struct sim_op *op, enum op_outcome outcome,
                     const struct rk_reply *reply)
{
    struct sim *sim = client->sim;
    struct write *write = &sim->caches->writes[op->number];
    if (outcome == OP_UNKNOWN) return;
    if (reply->status != RK_OK) {
        write->state = WRITE_FAILED;
        if (write->version != 0)
            sim_fail(sim, "a put of k%u that was refused is version %" PRIu64, op->place,
                     write->version);
        return;
    }
    write->state = WRITE_OK;
    if (reply->version <= op->floor)
        sim_fail(sim, "a put of k%u gives version %" PRIu64 " after %" PRIu64, op->place,
                 reply->version, op->floor);
    if (RK_HAS(&op->request, IF_VERSION)) write->after = op->request.if_version;
    version_learn(sim, op->number, reply->version);
    raise_floor(sim, op->place, reply->version, false);
    if (client->seen[op->place] < reply->version) client->seen[op->place] = reply->version;
    sim->counts.puts++;
}

static void put(struct sim_client *client, uint32_t key, bool is_compared)
{
    struct sim *sim = client->sim;
    struct sim_op *op = op_new(client, RK_OP_CACHE_PUT, put_done);
    op->place = key;
    op->number = write_new(sim, key);
    op->floor = sim->caches->keys[key].floor;
    op->request.key = op_text(op, "k%u", key);
    op->request.value.bytes = op_text(op, "%" PRIu64, op->number);
    op->request.value.encoding = RK_ENCODING_RAW;
    if (is_compared && client->seen[key] != 0) {
        op->request.if_version = client->seen[key];
        RK_SET(&op->request, IF_VERSION);
    }
    op_send(op);
}

static void delete_done(struct sim_client *client, struct sim_op *op,
                        enum op_outcome outcome, const struct rk_reply *reply)
{
    struct sim *sim = client->sim;
    struct write *write = &sim->caches->writes[op->number];
    if (outcome == OP_UNKNOWN) return;
    if (reply->status != RK_OK || !reply->deleted) {
        write->state = WRITE_FAILED;
        if (reply->status == RK_OK && op->extra == 0)
            absent_check(client, op->place, op->floor, "a delete");
        return;
    }
    write->state = WRITE_OK;
    if (reply->version <= op->floor)
        sim_fail(sim, "a delete of k%u gives version %" PRIu64 " after %" PRIu64, op->place,
                 reply->version, op->floor);
    version_learn(sim, op->number, reply->version);
    raise_floor(sim, op->place, reply->version, true);
}

static void delete_one(struct sim_client *client, uint32_t key)
{
    struct sim *sim = client->sim;
    struct sim_op *op = op_new(client, RK_OP_CACHE_DELETE, delete_done);
    op->place = key;
    op->number = write_new(sim, key);
    op->floor = sim->caches->keys[key].floor;
    op->extra = sim->caches->keys[key].is_absent;
    sim->caches->writes[op->number].is_delete = true;
    op->request.key = op_text(op, "k%u", key);
    op_send(op);
}

static void add_done(struct sim_client *client, struct sim_op *op, enum op_outcome outcome,
                     const struct rk_reply *reply)
{
    struct sim *sim = client->sim;
    struct key *key = &sim->caches->keys[op->place];
    struct write *write = &sim->caches->writes[op->number];
    if (outcome == OP_UNKNOWN || reply->status != RK_OK) return;
    write->state = WRITE_OK;
    write->number = reply->number_value;
    key->adds_ok++;
    if (write->number <= (int64_t)op->extra)
        sim_fail(sim, "counter k%u goes back: %" PRId64 " after %" PRId64, op->place,
                 write->number, (int64_t)op->extra);
    if (write->number > (int64_t)key->adds)
        sim_fail(sim, "counter k%u is %" PRId64 " after %" PRIu64 " additions", op->place,
                 write->number, key->adds);
    for (uint64_t i = 0; i < sim->caches->count; i++) {
        const struct write *other = &sim->caches->writes[i];
        if (i != op->number && other->key == op->place && other->state == WRITE_OK &&
            other->number == write->number)
            sim_fail(sim, "two additions to k%u gave %" PRId64, op->place, write->number);
    }
    version_learn(sim, op->number, reply->version);
    if (key->count_floor < write->number) key->count_floor = write->number;
}

static void add(struct sim_client *client, uint32_t key)
{
    struct sim *sim = client->sim;
    struct sim_op *op = op_new(client, RK_OP_CACHE_ADD, add_done);
    op->place = sim->config.keys + key;
    op->number = write_new(sim, op->place);
    sim->caches->writes[op->number].is_counter = true;
    op->extra = (uint64_t)sim->caches->keys[op->place].count_floor;
    sim->caches->keys[op->place].adds++;
    op->request.key = op_text(op, "k%u", op->place);
    op->request.delta = 1;
    RK_SET(&op->request, DELTA);
    op_send(op);
}

/* --- reads --------------------------------------------------------------------------- */

static void read_check(struct sim_client *client, const struct sim_op *op, uint32_t at,
                       const struct rk_entry_out *entry)
{
    struct sim *sim = client->sim;
    char text[32] = "";
    uint32_t place = op->place + at;
    bool is_session = op->request.position.history != 0;
    sim->counts.reads++;
    if (!entry->found) {
        if (!op->were_absent[at]) absent_check(client, place, op->floors[at], "a read");
        return;
    }
    size_t size = entry->value.bytes.size;
    memcpy(text, entry->value.bytes.data, size < 31 ? size : 31);
    uint64_t number = strtoull(text, NULL, 10);
    if (number >= sim->caches->count || sim->caches->writes[number].key != place ||
        sim->caches->writes[number].is_delete ||
        sim->caches->writes[number].state == WRITE_FAILED)
        sim_fail(sim, "%s reads %s in k%u, which nobody put there", client->name, text,
                 place);
    if (entry->version < op->floors[at])
        sim_fail(sim,
                 "%s reads version %" PRIu64 " of k%u, but %" PRIu64 " was there before%s",
                 client->name, entry->version, place, op->floors[at],
                 is_session ? " for its position" : "");
    version_learn(sim, number, entry->version);
    if (!is_session) raise_floor(sim, place, entry->version, false);
    if (client->seen[place] < entry->version) client->seen[place] = entry->version;
}

static void get_done(struct sim_client *client, struct sim_op *op, enum op_outcome outcome,
                     const struct rk_reply *reply)
{
    if (outcome != OP_ANSWERED || reply->status != RK_OK) return;
    if (!op->request.is_bulk) {
        const struct rk_entry_out entry = {
            .found = reply->found, .value = reply->value, .version = reply->version};
        read_check(client, op, 0, &entry);
        return;
    }
    if (reply->entry_count != op->request.keys.count)
        sim_fail(client->sim, "%u entries for %u keys", reply->entry_count,
                 op->request.keys.count);
    for (uint32_t i = 0; i < reply->entry_count; i++)
        read_check(client, op, i, &reply->entries[i]);
}

static void get(struct sim_client *client, uint32_t key, uint32_t count)
{
    struct sim *sim = client->sim;
    struct sim_op *op = op_new(client, RK_OP_CACHE_GET, get_done);
    bool is_session = client->history != 0 && sim_chance(sim, 40);
    op->place = key;
    for (uint32_t i = 0; i < count; i++) {
        const struct key *at = &sim->caches->keys[key + i];
        op->keys[i] = op_text(op, "k%u", key + i);
        /* With a position only as new as what this client has seen. */
        op->floors[i] = is_session ? client->seen[key + i] : at->floor;
        op->were_absent[i] = !is_session && at->is_absent;
    }
    op->request.key = count == 1 ? op->keys[0] : RK_SLICE_EMPTY;
    if (count > 1) {
        op->request.keys = (struct rk_strings){op->keys, count};
        op->request.is_bulk = true;
        RK_SET(&op->request, KEYS);
    }
    if (is_session) {
        op->request.position.history = client->history;
        op->request.position.items = op->positions;
        op->request.position.count = sim->config.groups + 1;
        for (uint32_t i = 0; i <= sim->config.groups; i++)
            op->positions[i] = (struct rk_position_item){i, client->positions[i]};
    } else if (sim_chance(sim, 50)) {
        op->request.consistency = RK_CONSISTENCY_LINEARIZABLE;
        RK_SET(&op->request, CONSISTENCY);
    }
    op_send(op);
}

void caches_next(struct sim_client *client)
{
    struct sim *sim = client->sim;
    uint32_t key = (uint32_t)sim_below(sim, sim->config.keys);
    uint64_t pick = sim_below(sim, 100);
    if (pick < 12)
        get(client, 0, sim->config.keys);
    else if (pick < 45)
        get(client, key, 1);
    else if (pick < 65)
        put(client, key, false);
    else if (pick < 78)
        put(client, key, true);
    else if (pick < 85)
        delete_one(client, key);
    else
        add(client, key);
}

void caches_end(struct sim *sim)
{
    for (uint32_t i = sim->config.keys; i < 2 * sim->config.keys; i++) {
        const struct key *key = &sim->caches->keys[i];
        if ((uint64_t)key->count_floor < key->adds_ok)
            sim_broken(sim, SIM_RULE_KEPT,
                       "counter k%u is %" PRId64 " after %" PRIu64 " answered additions", i,
                       key->count_floor, key->adds_ok);
    }
}
