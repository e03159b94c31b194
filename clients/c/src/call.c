/* call.c - the callers' side of a call: build, hand over, wait, decode. */
#include "internal.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

#include "base/alloc.h"

#define WAIT_SLICE_MS 50

/* Moves the entries of a msgpack map out of it: at sending the call's own fields join them.
 */
static enum rk_status fields_take(struct rk_call *call, const struct rk_buf *map)
{
    if (map->size == 0) return RK_ENOMEM;
    size_t header = 1;
    uint8_t first = map->data[0];
    if ((first & 0xf0) == 0x80) {
        call->field_count = first & 0x0f;
    } else if (first == 0xde && map->size >= 3) {
        call->field_count = (uint32_t)map->data[1] << 8 | map->data[2];
        header = 3;
    } else {
        return RK_EPROTO;
    }
    rk_buf_append(&call->fields, map->data + header, map->size - header);
    return rk_buf_check(&call->fields);
}

static uint64_t deadline_of(const struct rukun_client *client, uint64_t now,
                            uint64_t wait_ms)
{
    if (wait_ms == RUKUN_WAIT_FOREVER) return UINT64_MAX;
    uint64_t span = client->default_deadline_ms + wait_ms;
    return span < wait_ms ? UINT64_MAX : now + span;
}

static void seq_take(struct rukun_client *client, struct rk_call *call)
{
    pthread_mutex_lock(&client->lock);
    call->open.seq = client->next_seq++;
    rk_list_push_back(&client->unanswered, &call->open.link);
    pthread_mutex_unlock(&client->lock);
}

enum rk_status rk_call_new(struct rk_call **out, struct rukun_client *client,
                           struct rk_request *request, uint64_t wait_ms, rukun_error *err)
{
    *out = NULL;
    struct rk_api_error problem;
    memset(&problem, 0, sizeof(problem));
    enum rk_status status = rk_request_check(request, &problem);
    if (status != RK_OK) {
        problem.status = status;
        return rk_error_of_api(err, &problem);
    }
    const struct rk_op_info *info = rk_op_info(request->op);
    struct rk_call *call = rk_calloc(1, sizeof(*call));
    if (call == NULL) return rk_error_set(err, RK_ENOMEM, "out of memory");
    call->client = client;
    rk_client_retain(client);
    rk_buf_init(&call->fields);
    rk_buf_init(&call->body);
    call->op = request->op;
    call->is_write = info->is_write;
    call->started_ms = rk_now_ms();
    call->deadline_ms = deadline_of(client, call->started_ms, wait_ms);
    pthread_mutex_lock(&client->lock);
    call->group = rk_topology_group(client, request, info);
    pthread_mutex_unlock(&client->lock);
    struct rk_buf map;
    rk_buf_init(&map);
    rk_request_to_msgpack(&map, request);
    status = rk_buf_check(&map);
    if (status == RK_OK) status = fields_take(call, &map);
    rk_buf_fini(&map);
    if (status != RK_OK) {
        rk_call_free(call);
        return rk_error_set(err, status, "request cannot be encoded");
    }
    if (call->is_write) seq_take(client, call);
    *out = call;
    return RK_OK;
}

void rk_call_free(struct rk_call *call)
{
    if (call == NULL) return;
    struct rukun_client *client = call->client;
    pthread_mutex_lock(&client->lock);
    rk_list_remove(&call->open.link);
    pthread_mutex_unlock(&client->lock);
    rk_buf_fini(&call->fields);
    rk_buf_fini(&call->body);
    if (call->has_wake) pthread_cond_destroy(&call->wake);
    rk_free(call);
    rk_client_release(client);
}

void rk_call_submit(struct rk_call *call)
{
    struct rukun_client *client = call->client;
    pthread_mutex_lock(&client->lock);
    if (client->is_closed) {
        pthread_mutex_unlock(&client->lock);
        rk_io_finish(call, RK_ECLOSED, "client is closed");
        return;
    }
    bool is_first = rk_list_is_empty(&client->submitted);
    rk_list_push_back(&client->submitted, &call->submit);
    pthread_mutex_unlock(&client->lock);
    if (is_first) rk_client_wake(client);
}

static void timespec_after(struct timespec *out, uint64_t ms)
{
    clock_gettime(CLOCK_MONOTONIC, out);
    out->tv_nsec += (long)ms * 1000000;
    out->tv_sec += out->tv_nsec / 1000000000;
    out->tv_nsec %= 1000000000;
}

/* (lock) Waits until the call is done or the caller was interrupted. */
static bool wait_done(struct rk_call *call, uint64_t interrupts)
{
    struct rukun_client *client = call->client;
    while (!call->is_done) {
        if (client->interrupts != interrupts) return false;
        if (client->interrupted == NULL) {
            struct timespec at;
            timespec_after(&at, 1000);
            pthread_cond_timedwait(&call->wake, &client->lock, &at);
            continue;
        }
        struct timespec at;
        timespec_after(&at, WAIT_SLICE_MS);
        pthread_cond_timedwait(&call->wake, &client->lock, &at);
        if (call->is_done) break;
        pthread_mutex_unlock(&client->lock);
        int is_interrupted = client->interrupted(client->interrupted_context);
        pthread_mutex_lock(&client->lock);
        if (is_interrupted && !call->is_done) return false;
    }
    return true;
}

static enum rk_status run(struct rk_call *call, rukun_error *err)
{
    struct rukun_client *client = call->client;
    pthread_condattr_t attributes;
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(&call->wake, &attributes);
    pthread_condattr_destroy(&attributes);
    call->has_wake = true;

    pthread_mutex_lock(&client->lock);
    uint64_t interrupts = client->interrupts;
    pthread_mutex_unlock(&client->lock);
    rk_call_submit(call);
    pthread_mutex_lock(&client->lock);
    if (!wait_done(call, interrupts)) {
        call->is_abandoned = true; /* the I/O thread frees it */
        bool was_sent = call->was_sent;
        rk_list_push_back(&client->abandoned, &call->abandon);
        pthread_mutex_unlock(&client->lock);
        rk_client_wake(client);
        (void)rk_error_set(err, RK_ECANCELLED, "cancelled by the caller");
        if (err != NULL && err->struct_size >= sizeof(*err) && was_sent)
            err->outcome = RUKUN_OUTCOME_UNKNOWN;
        return RK_ECANCELLED;
    }
    pthread_mutex_unlock(&client->lock);
    return RK_OK;
}

/* What this client has seen: later reads are not older. */
static void position_take(struct rukun_client *client, const struct rk_reply *reply)
{
    struct rk_position_item one;
    struct rk_position position = rk_reply_position(reply, &one);
    if (position.history == 0) return;
    pthread_mutex_lock(&client->lock);
    if (client->position_history != reply->position_history) {
        memset(client->positions, 0, sizeof(client->positions));
        client->position_history = reply->position_history;
    }
    for (uint32_t i = 0; i < position.count; i++) {
        if (position.items[i].group >= RK_GROUPS_MAX) continue;
        uint64_t *at = &client->positions[position.items[i].group];
        if (position.items[i].index > *at) *at = position.items[i].index;
    }
    pthread_mutex_unlock(&client->lock);
}

enum rk_status rk_call_decode(struct rk_call *call, struct rk_arena *arena,
                              struct rk_reply *reply)
{
    memset(reply, 0, sizeof(*reply));
    reply->op = call->op;
    if (call->status != RK_OK) {
        reply->status = call->status;
        (void)snprintf(reply->text, sizeof(reply->text), "%s", call->text);
        reply->outcome =
            call->status == RK_EUNKNOWN ? RK_OUTCOME_UNKNOWN : RK_OUTCOME_NOT_DONE;
        return RK_OK;
    }
    enum rk_status status = rk_reply_from_msgpack(reply, call->op, call->is_problem,
                                                  rk_buf_slice(&call->body), arena);
    if (status == RK_OK) position_take(call->client, reply);
    return status;
}

enum rk_status rk_call_value(const struct rukun_client *client, struct rk_value *value,
                             struct rk_arena *arena)
{
    bool is_document =
        value->encoding == RK_ENCODING_JSON || value->encoding == RK_ENCODING_MSGPACK;
    if (!is_document || value->encoding == client->values) return RK_OK;
    struct rk_value converted;
    enum rk_status status = rk_value_convert(&converted, *value, client->values, arena);
    if (status == RK_OK) *value = converted;
    return status == RK_ECONVERT ? RK_OK : status;
}

enum rk_status rk_error_of_reply(rukun_error *err, const struct rk_call *call,
                                 const struct rk_reply *reply)
{
    enum rk_status status = reply->status;
    (void)rk_error_set(err, status, "%s",
                       reply->text[0] != '\0' ? reply->text
                                              : rk_status_info(status)->title);
    if (err == NULL || err->struct_size < sizeof(*err)) return status;
    err->request_id = call->open.seq;
    err->outcome =
        reply->outcome == RK_OUTCOME_UNKNOWN ? RUKUN_OUTCOME_UNKNOWN : RUKUN_NOT_DONE;
    err->retry_after_ms = reply->retry_after_ms;
    (void)snprintf(err->node, sizeof(err->node), "%s", call->last_node);
    (void)snprintf(err->field, sizeof(err->field), "%.*s", (int)reply->field.size,
                   (const char *)reply->field.data);
    return status;
}

enum rk_status rk_call_wait(struct rk_call *call, struct rk_arena *arena,
                            struct rk_reply *reply, rukun_error *err)
{
    enum rk_status status = run(call, err);
    if (status != RK_OK) return status; /* abandoned: not ours any more */
    status = rk_call_decode(call, arena, reply);
    if (status != RK_OK)
        (void)rk_error_set(err, status, "the node's answer cannot be decoded");
    else if (reply->status != RK_OK)
        status = rk_error_of_reply(err, call, reply);
    if (status != RK_OK) rk_call_free(call);
    return status;
}

enum rk_status rk_call_run(struct rk_call **out, struct rukun_client *client,
                           struct rk_request *request, uint64_t wait_ms,
                           struct rk_arena *arena, struct rk_reply *reply, rukun_error *err)
{
    *out = NULL;
    struct rk_call *call = NULL;
    enum rk_status status = rk_call_new(&call, client, request, wait_ms, err);
    if (status != RK_OK) return status;
    status = rk_call_wait(call, arena, reply, err);
    if (status == RK_OK) *out = call;
    return status;
}

enum rk_status rk_call_background(struct rukun_client *client, struct rk_request *request,
                                  rk_call_done done, void *context)
{
    struct rk_call *call = NULL;
    enum rk_status status = rk_call_new(&call, client, request, 0, NULL);
    if (status != RK_OK) return status;
    call->done = done;
    call->done_context = context;
    rk_call_submit(call);
    return RK_OK;
}
