#include "workload.h"

#include "api/table.h"
#include "base/alloc.h"
#include "base/assert.h"
#include "state/caches.h"
#include "state/members.h"
#include "state/queues.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

enum { START_MS = 1700000000, IDLE_AT = 250, EVICTED_MIN = 20, FAILURES_MIN = 3 };

static uint64_t below(struct workload *workload, uint64_t bound)
{
    return rk_random_below(&workload->random, bound);
}

static void pool_put(struct workload_pool *pool, struct rk_slice text)
{
    if (text.size == 0 || text.size >= WORKLOAD_TEXT) return;
    char *at = pool->texts[pool->count++ % WORKLOAD_POOL];
    memcpy(at, text.data, text.size);
    at[text.size] = '\0';
}

/* Mostly of the latest ones. */
static const char *pool_pick(struct workload *workload, const struct workload_pool *pool)
{
    uint64_t have = pool->count < WORKLOAD_POOL ? pool->count : WORKLOAD_POOL;
    if (have == 0) return "none";
    uint64_t back = below(workload, below(workload, have) + 1);
    return pool->texts[(pool->count - 1 - back) % WORKLOAD_POOL];
}

static const struct workload_grant *grant_pick(struct workload *workload)
{
    static const struct workload_grant none = {"r0", "alice", 1};
    uint64_t have =
        workload->grant_count < WORKLOAD_POOL ? workload->grant_count : WORKLOAD_POOL;
    if (have == 0) return &none;
    uint64_t back = below(workload, below(workload, have) + 1);
    return &workload->grants[(workload->grant_count - 1 - back) % WORKLOAD_POOL];
}

static const struct workload_sent *sent_pick(struct workload *workload)
{
    uint64_t have =
        workload->sent_count < WORKLOAD_SENT ? workload->sent_count : WORKLOAD_SENT;
    RK_ASSERT(have > 0);
    return &workload
                ->sent[(workload->sent_count - 1 - below(workload, have)) % WORKLOAD_SENT];
}

static void put_word(struct workload *workload, struct rk_buf *out, char what,
                     const struct workload_grant *grant)
{
    static const char *const owners[] = {"alice", "bob", "carol", "dave", "eve"};
    switch (what) {
    case 'r': rk_buf_printf(out, "r%u", (unsigned)below(workload, 5)); break;
    case 'o': rk_buf_append_string(out, owners[below(workload, 5)]); break;
    case 't': rk_buf_printf(out, "t%u", (unsigned)below(workload, 4)); break;
    case 'k': rk_buf_printf(out, "k%u", (unsigned)below(workload, 20)); break;
    case 'c': rk_buf_printf(out, "c%u", (unsigned)below(workload, 2)); break;
    case 's': rk_buf_append_string(out, pool_pick(workload, &workload->sessions)); break;
    case 'd': rk_buf_append_string(out, pool_pick(workload, &workload->deliveries)); break;
    case 'm': rk_buf_append_string(out, pool_pick(workload, &workload->messages)); break;
    case 'T': rk_buf_append_string(out, pool_pick(workload, &workload->tokens)); break;
    case 'n': rk_buf_printf(out, "%u", 1 + (unsigned)below(workload, 9)); break;
    case 'N': rk_buf_printf(out, "%u", 600 + (unsigned)below(workload, 60000)); break;
    case 'w': rk_buf_printf(out, "%" PRIu64, workload->now + below(workload, 9000)); break;
    case 'R': rk_buf_append_string(out, grant->resource); break;
    case 'O': rk_buf_append_string(out, grant->owner); break;
    case 'F': rk_buf_printf(out, "%" PRIu64, grant->fence); break;
    case 'K': rk_buf_append_string(out, workload->last_key); break;
    case 'V': rk_buf_printf(out, "%" PRIu64, workload->last_version); break;
    default: RK_ASSERT(false);
    }
}

static struct rk_slice expand(struct workload *workload, struct rk_buf *out,
                              const char *json)
{
    const struct workload_grant *grant = grant_pick(workload);
    const struct workload_sent *sent =
        workload->sent_count > 0 ? sent_pick(workload) : &workload->sent[0];
    for (; *json != '\0'; json++) {
        if (*json != '$') {
            rk_buf_u8(out, (uint8_t)*json);
            continue;
        }
        json++;
        if (*json == 'C')
            rk_buf_printf(out, "client-%u", sent->client);
        else if (*json == 'Q')
            rk_buf_printf(out, "%" PRIu64, sent->seq + 1 - below(workload, 2));
        else
            put_word(workload, out, *json, grant);
    }
    return rk_buf_slice(out);
}

/* --- what the group answers ---------------------------------------------------------- */

static void copy_name(char out[16], struct rk_slice name)
{
    size_t size = name.size < 15 ? name.size : 15;
    if (size > 0) memcpy(out, name.data, size);
    out[size] = '\0';
}

static void note_grant(struct workload *workload, struct rk_slice client, uint64_t seq,
                       const struct rk_reply *reply)
{
    for (uint32_t i = 0; i < WORKLOAD_SENT && i < workload->sent_count; i++) {
        const struct workload_sent *sent = &workload->sent[i];
        char name[16];
        (void)snprintf(name, sizeof(name), "client-%u", sent->client);
        if (sent->seq != seq || sent->resource[0] == '\0' ||
            !rk_slice_is_equal(client, rk_slice_of_string(name)))
            continue;
        struct workload_grant *grant =
            &workload->grants[workload->grant_count++ % WORKLOAD_POOL];
        memcpy(grant->resource, sent->resource, sizeof(grant->resource));
        memcpy(grant->owner, sent->owner, sizeof(grant->owner));
        grant->fence = reply->fence;
        return;
    }
}

static void on_reply(void *context, struct rk_slice client, uint64_t seq,
                     const struct rk_reply *reply)
{
    struct workload *workload = context;
    workload->answered[-reply->status]++;
    if (reply->status != RK_OK) return;
    workload->done[reply->op]++;
    pool_put(&workload->sessions, reply->session);
    if (reply->granted && reply->fence != 0) note_grant(workload, client, seq, reply);
    if (reply->op == RK_OP_QUEUE_PUBLISH) {
        pool_put(&workload->messages, reply->id);
        for (uint32_t i = 0; i < reply->ids.count; i++)
            pool_put(&workload->messages, reply->ids.items[i]);
    }
    for (uint32_t i = 0; i < reply->message_count; i++)
        pool_put(&workload->deliveries, reply->messages[i].id);
    if (reply->op == RK_OP_CACHE_PUT) workload->last_version = reply->version;
}

/* --- entries ------------------------------------------------------------------------- */

static void append(struct workload *workload, struct rk_slice data)
{
    const struct rk_machine_output output = {workload, on_reply, NULL, NULL};
    workload->index++;
    enum rk_status status =
        rk_machine_apply(workload->machine, workload->index, data, &output);
    if (status != RK_OK) {
        (void)fprintf(stderr, "group %u, entry %" PRIu64 ": %s\n", workload->group,
                      workload->index, rk_status_text(status));
        abort();
    }
    rk_list_each (link, &workload->machine->objects) {
        const struct rk_object *object = RK_CONTAINER(link, struct rk_object, link);
        workload->kinds[object->kind] = true;
        if (object->kind != RK_OBJECT_MESSAGE) continue;
        uint32_t failures = RK_CONTAINER_CONST(object, struct rk_message, object)->failures;
        if (failures > workload->failures) workload->failures = failures;
    }
    workload->entry(workload->context, data);
}

static void append_command(struct workload *workload, const struct rk_command *command)
{
    struct rk_buf data;
    rk_buf_init(&data);
    rk_command_encode(&data, command);
    RK_ASSERT(rk_buf_check(&data) == RK_OK);
    append(workload, rk_buf_slice(&data));
    rk_buf_fini(&data);
}

static void append_own(struct workload *workload, struct rk_slice request)
{
    struct rk_command command = {.stamp_ms = workload->now, .request = request};
    append_command(workload, &command);
}

static void send(struct workload *workload, const struct workload_sent *sent)
{
    char client[16];
    (void)snprintf(client, sizeof(client), "client-%u", sent->client);
    struct rk_command command = {
        .client = rk_slice_of_string(client),
        .seq = sent->seq,
        .first_unanswered = workload->firsts[sent->client],
        .stamp_ms = workload->now,
        .deadline_ms = sent->deadline_ms,
        .home = 1 + sent->client % 3,
        .request = rk_buf_slice(&sent->request),
    };
    append_command(workload, &command);
}

/* As a client's next request; internal ones with own are the leader's. */
static void ask(struct workload *workload, const struct rk_request *request)
{
    workload->fields[request->op] |= request->present;
    struct workload_sent *sent = &workload->sent[workload->sent_count % WORKLOAD_SENT];
    rk_buf_reset(&sent->request);
    rk_request_encode(&sent->request, request);
    RK_ASSERT(rk_buf_check(&sent->request) == RK_OK);
    sent->client = (uint32_t)below(workload, WORKLOAD_CLIENTS);
    sent->seq = ++workload->seqs[sent->client];
    uint64_t first = sent->seq - below(workload, sent->seq < 6 ? sent->seq : 6);
    if (first > workload->firsts[sent->client]) workload->firsts[sent->client] = first;
    sent->deadline_ms = workload->now + 30000;
    if (below(workload, 40) == 0) sent->deadline_ms = workload->now - 1;
    if (below(workload, 10) == 0) sent->deadline_ms = 0;
    sent->resource[0] = '\0';
    if (request->op == RK_OP_LOCK_ACQUIRE && request->resource_count > 0) {
        copy_name(sent->resource, request->resources[0].resource);
        copy_name(sent->owner, request->owner);
    }
    workload->sent_count++;
    send(workload, sent);
}

static void own(struct workload *workload, const struct rk_request *request)
{
    struct rk_buf bytes;
    workload->fields[request->op] |= request->present;
    workload->done[request->op]++;
    rk_buf_init(&bytes);
    rk_request_encode(&bytes, request);
    RK_ASSERT(rk_buf_check(&bytes) == RK_OK);
    append_own(workload, rk_buf_slice(&bytes));
    rk_buf_fini(&bytes);
}

/* What fills a cache; zeros, which the recorded files do not spell out. */
static void large_put(struct workload *workload)
{
    enum { LARGE_MAX = 7600 };
    struct rk_request request;
    struct rk_api_error error = {0};
    char key[16], cache[16];
    uint8_t *bytes = rk_arena_calloc(&workload->arena, 1, LARGE_MAX);
    if (bytes == NULL) abort();
    bytes[0] = (uint8_t)below(workload, 256);
    (void)snprintf(key, sizeof(key), "k%u", (unsigned)below(workload, 20));
    (void)snprintf(cache, sizeof(cache), "c%u", (unsigned)below(workload, 2));
    rk_request_init(&request, RK_OP_CACHE_PUT);
    request.key = rk_slice_of_string(key);
    request.cache = rk_slice_of_string(cache);
    request.value = (struct rk_value){
        rk_slice_of(bytes, LARGE_MAX / 2 + below(workload, LARGE_MAX / 2)),
        RK_ENCODING_RAW};
    if (rk_request_check(&request, &error) != RK_OK) abort();
    ask(workload, &request);
}

static bool can(const struct workload *workload, enum rk_op op)
{
    const struct rk_op_handler *handler = workload->machine->handlers[op];
    return handler != NULL && handler->apply != NULL;
}

static void from_table(struct workload *workload)
{
    size_t count = 0;
    const struct workload_shape *shapes = workload_shapes(workload->group, &count);
    const struct workload_shape *shape = &shapes[below(workload, count)];
    if (!can(workload, shape->op)) return;
    /* What empties much comes seldom. */
    if ((shape->op == RK_OP_QUEUE_PURGE || shape->op == RK_OP_CACHE_INVALIDATE ||
         shape->op == RK_OP_QUEUE_PAUSE || shape->op == RK_OP_LOCK_BREAK) &&
        below(workload, 3) != 0)
        return;
    struct rk_buf json;
    struct rk_request request;
    struct rk_api_error error = {0};
    rk_buf_init(&json);
    struct rk_slice body = expand(workload, &json, shape->json);
    if (rk_request_from_json(&request, shape->op, body, &workload->arena, &error) !=
        RK_OK) {
        (void)fprintf(stderr, "%.*s: %s %s\n", (int)body.size, (const char *)body.data,
                      error.field, error.text);
        abort();
    }
    ask(workload, &request);
    if (request.op == RK_OP_CACHE_PUT && request.cache.size == 0)
        copy_name(workload->last_key, request.key);
    rk_buf_fini(&json);
}

/* --- what nodes and leaders do by themselves ----------------------------------------- */

static void timers(struct workload *workload)
{
    for (;;) {
        struct rk_buf due;
        rk_buf_init(&due);
        uint32_t count = rk_machine_due(workload->machine, workload->now, 16, &due);
        if (count > 0) {
            uint8_t op = due.data[1];
            workload->fields[op] |= RK_FIELD_BIT_DUE | RK_FIELD_BIT_NUMBER;
            workload->done[op]++;
            append_own(workload, rk_buf_slice(&due));
        }
        rk_buf_fini(&due);
        if (count == 0) return;
    }
}

static void reads(struct workload *workload)
{
    static const char *const shapes[] = {"{\"key\":\"$k\"}",
                                         "{\"key\":\"$k\",\"cache\":\"$c\"}",
                                         "{\"key\":\"k1\",\"fill_ms\":1000}"};
    struct rk_request request;
    struct rk_reply reply;
    struct rk_api_error error = {0};
    struct rk_buf json;
    rk_buf_init(&json);
    struct rk_slice body = expand(workload, &json, shapes[below(workload, 3)]);
    if (rk_request_from_json(&request, RK_OP_CACHE_GET, body, &workload->arena, &error) !=
            RK_OK ||
        rk_machine_query(workload->machine, &request, workload->now, &workload->arena,
                         &reply) != RK_OK)
        abort();
    pool_put(&workload->tokens, reply.fill_token);
    rk_buf_fini(&json);
}

static void recency(struct workload *workload)
{
    struct rk_buf touch;
    rk_buf_init(&touch);
    if (rk_machine_touch_take(workload->machine, &touch)) {
        struct rk_request request;
        if (rk_request_decode(&request, rk_buf_slice(&touch), &workload->arena) != RK_OK)
            abort();
        workload->fields[RK_OP_TOUCH] |= request.present;
        workload->done[RK_OP_TOUCH]++;
        append_own(workload, rk_buf_slice(&touch));
    }
    rk_buf_fini(&touch);
}

static void undo(struct workload *workload)
{
    struct rk_request request;
    struct rk_slice ids[2];
    const struct workload_grant *grant = grant_pick(workload);
    const struct workload_sent *sent = sent_pick(workload);
    char client[16];
    if (workload->group != 0) {
        rk_request_init(&request, RK_OP_QUEUE_RETURN);
        ids[0] = rk_slice_of_string(pool_pick(workload, &workload->deliveries));
        ids[1] = rk_slice_of_string(pool_pick(workload, &workload->deliveries));
        request.ids.items = ids;
        request.ids.count = 2;
        request.topic = rk_slice_of_string("t1");
        RK_SET(&request, IDS);
        RK_SET(&request, TOPIC);
    } else if (below(workload, 2) == 0) {
        rk_request_init(&request, RK_OP_LOCK_RETURN);
        request.resource = rk_slice_of_string(grant->resource);
        request.owner = rk_slice_of_string(grant->owner);
        request.fence = grant->fence;
        RK_SET(&request, RESOURCE);
        RK_SET(&request, OWNER);
        RK_SET(&request, FENCE);
        if (below(workload, 3) == 0) {
            request.session = rk_slice_of_string(pool_pick(workload, &workload->sessions));
            RK_SET(&request, SESSION);
        }
    } else {
        rk_request_init(&request, RK_OP_CALL_CANCEL);
        (void)snprintf(client, sizeof(client), "client-%u", sent->client);
        request.target_client = rk_slice_of_string(client);
        request.target_seq = sent->seq + below(workload, 2);
        RK_SET(&request, TARGET_CLIENT);
        RK_SET(&request, TARGET_SEQ);
    }
    if (request.op == RK_OP_CALL_CANCEL)
        own(workload, &request);
    else
        ask(workload, &request);
}

static void number_entry(struct workload *workload, enum rk_op op, uint64_t number)
{
    struct rk_request request;
    rk_request_init(&request, op);
    if (op == RK_OP_BIRTH) {
        request.history = number;
        request.fence_floor = 1000;
        RK_SET(&request, HISTORY);
        RK_SET(&request, FENCE_FLOOR);
    } else {
        request.number = number;
        RK_SET(&request, NUMBER);
    }
    own(workload, &request);
}

/* The leader's: the table at birth, later without a node that has left. */
static void members_entry(struct workload *workload)
{
    static const char *const names[] = {"n1", "n2", "n3"};
    struct rk_request request;
    struct rk_member_table table;
    struct rk_buf bytes;
    if (rk_member_table_decode(&table, rk_machine_members(workload->machine)) != RK_OK) {
        table = (struct rk_member_table){.next_number = 4, .birth_count = 3, .count = 3};
        for (uint32_t i = 0; i < 3; i++)
            table.rows[i] = (struct rk_member_row){.number = i + 1,
                                                   .disk = 100 + i,
                                                   .name = rk_slice_of_string(names[i]),
                                                   .peer = RK_SLICE_LITERAL("a:1"),
                                                   .http = RK_SLICE_LITERAL("a:2"),
                                                   .rpc = RK_SLICE_LITERAL("a:3")};
    }
    for (uint32_t i = 0; i < table.count; i++) {
        if (table.rows[i].wish != RK_MEMBER_LEAVING) continue;
        rk_member_table_drop(&table, table.rows[i].number);
        break;
    }
    table.version++;
    rk_buf_init(&bytes);
    rk_member_table_encode(&bytes, &table);
    RK_ASSERT(rk_buf_check(&bytes) == RK_OK);
    rk_request_init(&request, RK_OP_MEMBERS);
    request.value = (struct rk_value){rk_buf_slice(&bytes), RK_ENCODING_RAW};
    RK_SET(&request, VALUE);
    own(workload, &request);
    rk_buf_fini(&bytes);
}

/* --- life ---------------------------------------------------------------------------- */

void workload_open(struct workload *workload, uint32_t group, uint64_t seed)
{
    struct rk_machine_options options = {.struct_size = sizeof(options), .group = group};
    workload->group = group;
    workload->now = START_MS;
    rk_random_init(&workload->random, seed);
    rk_arena_init(&workload->arena);
    memcpy(workload->last_key, "k0", 3);
    for (uint32_t i = 0; i < WORKLOAD_SENT; i++)
        rk_buf_init(&workload->sent[i].request);
    if (rk_machine_new(&workload->machine, &options) != RK_OK) abort();
    append(workload, RK_SLICE_EMPTY);
    rk_machine_lead(workload->machine, workload->now);
    number_entry(workload, RK_OP_BIRTH, 4711);
    if (group == 0) members_entry(workload);
    number_entry(workload, RK_OP_MACHINE_VERSION, RK_MACHINE_VERSION);
}

void workload_close(struct workload *workload)
{
    for (uint32_t i = 0; i < WORKLOAD_SENT; i++)
        rk_buf_fini(&workload->sent[i].request);
    rk_machine_free(workload->machine);
    rk_arena_fini(&workload->arena);
}

void workload_step(struct workload *workload)
{
    rk_arena_reset(&workload->arena);
    workload->now += below(workload, 4) == 0 ? below(workload, 1500) : below(workload, 40);
    uint64_t chance = below(workload, 1000);
    if (chance < 3) workload->now += 20000 + below(workload, 60000);
    if (workload->index > IDLE_AT && !workload->has_idled) {
        workload->has_idled = true;
        workload->now += UINT64_C(2) * RK_CLIENT_IDLE_MS;
    }
    timers(workload);
    for (int i = 0; workload->group != 0 && i < 3; i++)
        reads(workload);
    if (chance < 12 && chance > 8) { /* a new leader's first entry */
        append(workload, RK_SLICE_EMPTY);
        rk_machine_lead(workload->machine, workload->now);
    } else if (chance < 18 && workload->group == 0) {
        members_entry(workload);
    } else if (chance < 80 && workload->sent_count > 0) {
        send(workload, sent_pick(workload)); /* asked again */
    } else if (chance < 130 && workload->sent_count > 0) {
        undo(workload);
    } else if (chance < 200 && workload->group != 0) {
        recency(workload);
    } else if (chance < 340 && workload->group != 0) {
        large_put(workload);
    } else {
        from_table(workload);
    }
}

static uint32_t lacks(const struct workload *workload, const struct rk_op_info *info)
{
    uint32_t count = 0;
    if (workload->done[info->op] == 0) {
        (void)fprintf(stderr, "%s never succeeds\n", info->name);
        count++;
    }
    for (uint32_t i = 0; i < info->rule_count; i++) {
        const struct rk_field_rule *rule = &info->rules[i];
        if (!rk_field_is_tracked(rule->field) ||
            (workload->fields[info->op] & UINT64_C(1) << rule->field) != 0)
            continue;
        (void)fprintf(stderr, "%s lacks its field %s\n", info->name,
                      rk_rule_info(rule)->name);
        count++;
    }
    return count;
}

static bool is_of_zero(const struct rk_op_info *info)
{
    return info->group == RK_GROUP_ZERO || info->op == RK_OP_CALL_CANCEL;
}

static bool is_of_group(const struct workload *workload, uint32_t kind)
{
    static const uint8_t zero_kinds[] = {RK_OBJECT_SESSION, RK_OBJECT_LOCK, RK_OBJECT_GRANT,
                                         RK_OBJECT_WAIT};
    if (workload->machine->classes[kind] == NULL) return false;
    if (kind == RK_OBJECT_CLIENT || kind == RK_OBJECT_ANSWER) return true;
    bool is_zero = memchr(zero_kinds, (int)kind, sizeof(zero_kinds)) != NULL;
    return is_zero == (workload->group == 0);
}

bool workload_has_all_kinds(const struct workload *workload)
{
    bool has[RK_OBJECT_KIND_MAX] = {false};
    rk_list_each (link, &workload->machine->objects)
        has[RK_CONTAINER(link, struct rk_object, link)->kind] = true;
    for (uint32_t kind = RK_OBJECT_META + 1; kind < RK_OBJECT_KIND_MAX; kind++)
        if (is_of_group(workload, kind) && !has[kind]) return false;
    return true;
}

/* Answers that show that the history got to where such answers are given. */
static uint32_t lacks_answers(const struct workload *workload)
{
    static const enum rk_status zero[] = {RK_EHELD,     RK_ETIMEOUT, RK_EDEADLOCK,
                                          RK_ENOTOWNER, RK_ESESSION, RK_ECANCELLED};
    static const enum rk_status data[] = {RK_ESTALE, RK_EGONE,  RK_EVERSION, RK_EBUSY,
                                          RK_EFENCE, RK_EEXIST, RK_EVOID};
    const enum rk_status *wanted = workload->group == 0 ? zero : data;
    size_t wanted_count = workload->group == 0 ? sizeof(zero) / sizeof(zero[0])
                                               : sizeof(data) / sizeof(data[0]);
    uint64_t evicted = 0;
    uint32_t count = 0;
    for (size_t i = 0; i < wanted_count; i++) {
        if (workload->answered[-wanted[i]] > 0) continue;
        (void)fprintf(stderr, "nothing is ever answered with %s\n",
                      rk_status_text(wanted[i]));
        count++;
    }
    rk_list_each (link, &workload->machine->objects) {
        const struct rk_object *object = RK_CONTAINER(link, struct rk_object, link);
        if (object->kind == RK_OBJECT_CACHE)
            evicted += RK_CONTAINER_CONST(object, struct rk_cache, object)->evicted;
    }
    if (workload->group != 0 && evicted < EVICTED_MIN) {
        (void)fprintf(stderr, "only %" PRIu64 " entries are ever evicted\n", evicted);
        count++;
    }
    if (workload->group != 0 && workload->failures < FAILURES_MIN) {
        (void)fprintf(stderr, "no message fails more than %u times\n", workload->failures);
        count++;
    }
    return count;
}

uint32_t workload_gaps(const struct workload *workload)
{
    uint32_t count = lacks_answers(workload);
    for (uint32_t op = 0; op < RK_OP_MAX; op++) {
        const struct rk_op_info *info = rk_op_info((enum rk_op)op);
        if (info == NULL || !can(workload, info->op)) continue;
        bool is_both = op == RK_OP_DUE || op == RK_OP_ELAPSED || op == RK_OP_BIRTH ||
                       op == RK_OP_MACHINE_VERSION;
        if (is_both || is_of_zero(info) == (workload->group == 0))
            count += lacks(workload, info);
    }
    for (uint32_t kind = RK_OBJECT_META + 1; kind < RK_OBJECT_KIND_MAX; kind++) {
        if (!is_of_group(workload, kind) || workload->kinds[kind]) continue;
        (void)fprintf(stderr, "no %s ever\n", workload->machine->classes[kind]->name);
        count++;
    }
    return count;
}
