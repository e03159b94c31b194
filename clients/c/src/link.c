/* link.c - one RPC connection to a node: msgpack-rpc, pipelined, answered out of order. */
#include "internal.h"

#include <event2/buffer.h>
#include <event2/bufferevent.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"

#define BY_ID_FIRST        256
#define RECONNECT_FIRST_MS 20
#define RECONNECT_MAX_MS   1000

/* --- msgpack, just what an envelope needs */

static void pack_text(struct rk_buf *out, const char *text, size_t size)
{
    if (size < 32) {
        rk_buf_u8(out, (uint8_t)(0xa0 | size));
    } else if (size < 256) {
        rk_buf_u8(out, 0xd9);
        rk_buf_u8(out, (uint8_t)size);
    } else {
        rk_buf_u8(out, 0xda);
        rk_buf_u8(out, (uint8_t)(size >> 8));
        rk_buf_u8(out, (uint8_t)size);
    }
    rk_buf_append(out, text, size);
}

static void pack_key(struct rk_buf *out, const char *key)
{
    pack_text(out, key, strlen(key));
}

static void pack_uint(struct rk_buf *out, uint64_t value)
{
    if (value < 128) {
        rk_buf_u8(out, (uint8_t)value);
        return;
    }
    rk_buf_u8(out, 0xcf);
    for (int shift = 56; shift >= 0; shift -= 8)
        rk_buf_u8(out, (uint8_t)(value >> shift));
}

static void pack_map(struct rk_buf *out, uint32_t count)
{
    if (count < 16) {
        rk_buf_u8(out, (uint8_t)(0x80 | count));
        return;
    }
    rk_buf_u8(out, 0xde);
    rk_buf_u8(out, (uint8_t)(count >> 8));
    rk_buf_u8(out, (uint8_t)count);
}

static void pack_request(struct rk_buf *out, uint64_t id, const char *method)
{
    rk_buf_u8(out, 0x94);
    rk_buf_u8(out, 0);
    pack_uint(out, id);
    pack_key(out, method);
    rk_buf_u8(out, 0x91);
}

/* An unsigned integer at *at; false: it is none. */
static bool take_uint(struct rk_slice *at, uint64_t *out)
{
    if (at->size == 0) return false;
    uint8_t first = at->data[0];
    size_t size = 0;
    if (first < 0x80) {
        *out = first;
    } else if (first >= 0xcc && first <= 0xcf) {
        size = (size_t)1 << (first - 0xcc);
        if (at->size < 1 + size) return false;
        *out = 0;
        for (size_t i = 0; i < size; i++)
            *out = *out << 8 | at->data[1 + i];
    } else {
        return false;
    }
    *at = rk_slice_of(at->data + 1 + size, at->size - 1 - size);
    return true;
}

/* Any object at *at. */
static bool take_object(struct rk_slice *at, struct rk_slice *out)
{
    size_t size = 0;
    if (rk_msgpack_measure(*at, &size) != RK_OK) return false;
    *out = rk_slice_of(at->data, size);
    *at = rk_slice_of(at->data + size, at->size - size);
    return true;
}

/* --- calls by id */

static bool by_id_grow(struct rukun_client *client)
{
    uint32_t size = client->by_id_size == 0 ? BY_ID_FIRST : client->by_id_size * 2;
    struct rk_call **table = rk_calloc(size, sizeof(struct rk_call *));
    if (table == NULL) return false;
    for (uint32_t i = 0; i < client->by_id_size; i++) {
        struct rk_call *call = client->by_id[i];
        if (call != NULL) table[call->rpc_id & (size - 1)] = call;
    }
    rk_free(client->by_id);
    client->by_id = table;
    client->by_id_size = size;
    return true;
}

/* Ids are ours to choose: one whose place is free is always near. */
static bool by_id_add(struct rukun_client *client, struct rk_call *call)
{
    if (client->by_id_count * 2 >= client->by_id_size && !by_id_grow(client)) return false;
    if (client->next_rpc_id < RK_RPC_FIRST) client->next_rpc_id = RK_RPC_FIRST;
    while (client->by_id[client->next_rpc_id & (client->by_id_size - 1)] != NULL)
        client->next_rpc_id++;
    call->rpc_id = client->next_rpc_id++;
    client->by_id[call->rpc_id & (client->by_id_size - 1)] = call;
    client->by_id_count++;
    return true;
}

static struct rk_call *by_id_find(const struct rukun_client *client, uint64_t id)
{
    if (client->by_id_size == 0) return NULL;
    struct rk_call *call = client->by_id[id & (client->by_id_size - 1)];
    return call != NULL && call->rpc_id == id ? call : NULL;
}

void rk_call_detach(struct rk_call *call)
{
    struct rukun_client *client = call->client;
    if (call->via == NULL) return;
    if (by_id_find(client, call->rpc_id) == call) {
        client->by_id[call->rpc_id & (client->by_id_size - 1)] = NULL;
        client->by_id_count--;
    }
    call->via = NULL;
    rk_list_remove(&call->link);
}

/* --- life of a link */

struct rk_link *rk_link_of(struct rukun_client *client, const char *address)
{
    for (uint32_t i = 0; i < client->link_count; i++)
        if (strcmp(client->links[i]->address, address) == 0) return client->links[i];
    if (client->link_count == RK_LINKS_MAX || strlen(address) >= RK_ADDRESS_SIZE)
        return NULL;
    struct rk_link *link = rk_calloc(1, sizeof(*link));
    if (link == NULL) return NULL;
    link->client = client;
    (void)snprintf(link->address, sizeof(link->address), "%s", address);
    rk_list_init(&link->sent);
    client->links[client->link_count++] = link;
    return link;
}

void rk_link_free(struct rk_link *link)
{
    if (link == NULL) return;
    if (link->stream != NULL) bufferevent_free(link->stream);
    rk_free(link);
}

void rk_link_close(struct rk_link *link, const char *why)
{
    struct rukun_client *client = link->client;
    if (link->stream == NULL) return;
    bufferevent_free(link->stream);
    link->stream = NULL;
    bool was_ready = link->state == RK_LINK_READY;
    link->state = RK_LINK_IDLE;
    link->has_asked = false;
    uint64_t now = rk_now_ms();
    if (was_ready) link->failures = 0;
    uint64_t delay = (uint64_t)RECONNECT_FIRST_MS
                     << (link->failures < 6 ? link->failures : 6);
    if (delay > RECONNECT_MAX_MS) delay = RECONNECT_MAX_MS;
    link->failures++;
    link->retry_ms = now + delay / 2 + rk_random_below(&client->random, delay / 2 + 1);
    if (link->down_ms == 0) link->down_ms = now;
    pthread_mutex_lock(&client->lock);
    (void)snprintf(client->open_text, sizeof(client->open_text), "%.100s: %.120s",
                   link->address, why);
    pthread_mutex_unlock(&client->lock);
    rk_list_each_safe (at, &link->sent) {
        struct rk_call *call = RK_CONTAINER(at, struct rk_call, link);
        rk_call_detach(call);
        (void)snprintf(call->last_text, sizeof(call->last_text),
                       "connection to %.60s lost: %.40s",
                       link->node[0] != '\0' ? link->node : link->address, why);
        rk_route_retry(call, true);
    }
    rk_route_want_refresh(client, now);
}

static void send_hello(struct rk_link *link)
{
    struct rukun_client *client = link->client;
    struct rk_buf out;
    rk_buf_init(&out);
    pack_request(&out, RK_RPC_HELLO, "hello");
    bool has_token = client->token[0] != '\0';
    pack_map(&out, has_token ? 3 : 2);
    pack_key(&out, "protocol");
    pack_uint(&out, 1);
    pack_key(&out, "client");
    pack_key(&out, client->name);
    if (has_token) {
        pack_key(&out, "token");
        pack_key(&out, client->token);
    }
    if (rk_buf_check(&out) == RK_OK) bufferevent_write(link->stream, out.data, out.size);
    rk_buf_fini(&out);
}

void rk_link_ask(struct rk_link *link, uint64_t now)
{
    if (link->state != RK_LINK_READY || link->has_asked) return;
    struct rk_buf out;
    rk_buf_init(&out);
    pack_request(&out, RK_RPC_CLUSTER, "cluster.info");
    pack_map(&out, 0);
    if (rk_buf_check(&out) == RK_OK) {
        bufferevent_write(link->stream, out.data, out.size);
        link->has_asked = true;
        link->asked_ms = now;
    }
    rk_buf_fini(&out);
}

/* --- input */

static void hello_answered(struct rk_link *link, bool is_problem, struct rk_slice body)
{
    struct rukun_client *client = link->client;
    if (is_problem) {
        struct rk_arena arena;
        rk_arena_init(&arena);
        struct rk_reply reply;
        memset(&reply, 0, sizeof(reply));
        bool is_known =
            rk_reply_from_msgpack(&reply, RK_OP_CLUSTER_INFO, true, body, &arena) == RK_OK;
        pthread_mutex_lock(&client->lock);
        client->open_status = is_known ? reply.status : RK_EPROTO;
        pthread_mutex_unlock(&client->lock);
        rk_link_close(link, is_known ? reply.text : "hello refused");
        rk_arena_fini(&arena);
        pthread_cond_broadcast(&client->changed);
        return;
    }
    link->state = RK_LINK_READY;
    link->down_ms = 0;
    client->is_pump_wanted = true;
    if (rk_topology_take_msgpack(client, body) != RK_OK)
        rk_link_close(link, "hello was answered without a cluster document");
}

static void cluster_answered(struct rk_link *link, bool is_problem, struct rk_slice body)
{
    link->has_asked = false;
    if (!is_problem && rk_topology_take_msgpack(link->client, body) != RK_OK)
        rk_link_close(link, "cluster.info was answered without a cluster document");
}

/* One object [1, id, error, result]; notifications are for later versions. */
static bool take_message(struct rk_link *link, struct rk_slice message)
{
    struct rukun_client *client = link->client;
    if (message.size < 2 || (message.data[0] & 0xf0) != 0x90) return false;
    uint32_t count = message.data[0] & 0x0f;
    struct rk_slice at = rk_slice_of(message.data + 1, message.size - 1);
    uint64_t kind = 0;
    uint64_t id = 0;
    if (!take_uint(&at, &kind)) return false;
    if (kind == 2) return true;
    struct rk_slice error;
    struct rk_slice result;
    if (kind != 1 || count != 4 || !take_uint(&at, &id) || !take_object(&at, &error) ||
        !take_object(&at, &result))
        return false;
    bool is_problem = error.size != 1 || error.data[0] != 0xc0;
    struct rk_slice body = is_problem ? error : result;
    if (id == RK_RPC_HELLO && link->state == RK_LINK_HELLO) {
        hello_answered(link, is_problem, body);
        return true;
    }
    if (id == RK_RPC_CLUSTER) {
        cluster_answered(link, is_problem, body);
        return true;
    }
    struct rk_call *call = by_id_find(client, id);
    if (call == NULL || call->via != link) return true; /* given up meanwhile */
    rk_call_detach(call);
    (void)snprintf(call->last_node, sizeof(call->last_node), "%s", link->node);
    if (is_problem)
        rk_route_problem(call, body);
    else
        rk_io_answer(call, false, body);
    return true;
}

static void on_read(struct bufferevent *stream, void *context)
{
    struct rk_link *link = context;
    struct evbuffer *input = bufferevent_get_input(stream);
    link->last_heard_ms = rk_now_ms();
    size_t size = evbuffer_get_length(input);
    if (size > RK_LINK_INPUT_MAX) {
        rk_link_close(link, "an answer is too large");
        return;
    }
    struct rk_slice left = rk_slice_of(evbuffer_pullup(input, -1), size);
    size_t used = 0;
    while (left.size > 0) {
        size_t one = 0;
        enum rk_status status = rk_msgpack_measure(left, &one);
        if (status == RK_EBUSY) break;
        if (status != RK_OK || !take_message(link, rk_slice_of(left.data, one))) {
            rk_link_close(link, "what came is no msgpack-rpc");
            return;
        }
        if (link->stream != stream) return; /* closed meanwhile */
        used += one;
        left = rk_slice_of(left.data + one, left.size - one);
    }
    evbuffer_drain(input, used);
}

static void on_event(struct bufferevent *stream, short what, void *context)
{
    struct rk_link *link = context;
    if (what & BEV_EVENT_CONNECTED) {
        int on = 1;
        (void)setsockopt(bufferevent_getfd(stream), IPPROTO_TCP, TCP_NODELAY, &on,
                         sizeof(on));
        link->state = RK_LINK_HELLO;
        bufferevent_set_timeouts(stream, NULL, NULL);
        send_hello(link);
        return;
    }
    if (what & BEV_EVENT_TIMEOUT) {
        rk_link_close(link, "connecting timed out");
        return;
    }
    if (what & BEV_EVENT_ERROR) {
        rk_link_close(link, evutil_socket_error_to_string(EVUTIL_SOCKET_ERROR()));
        return;
    }
    if (what & BEV_EVENT_EOF) rk_link_close(link, "closed by the node");
}

void rk_link_connect(struct rk_link *link, uint64_t now)
{
    struct rukun_client *client = link->client;
    if (link->stream != NULL || now < link->retry_ms) return;
    char host[RK_ADDRESS_SIZE];
    (void)snprintf(host, sizeof(host), "%s", link->address);
    char *colon = strrchr(host, ':');
    if (colon == NULL) return;
    *colon = '\0';
    int port = (int)strtol(colon + 1, NULL, 10);
    char *name = host;
    if (*name == '[' && colon[-1] == ']') {
        name++;
        colon[-1] = '\0';
    }
    link->stream = bufferevent_socket_new(client->base, -1, BEV_OPT_CLOSE_ON_FREE);
    if (link->stream == NULL) return;
    link->state = RK_LINK_CONNECTING;
    struct timeval limit = {RK_CONNECT_MS / 1000, (RK_CONNECT_MS % 1000) * 1000};
    bufferevent_setcb(link->stream, on_read, NULL, on_event, link);
    bufferevent_set_timeouts(link->stream, NULL, &limit);
    bufferevent_enable(link->stream, EV_READ | EV_WRITE);
    if (bufferevent_socket_connect_hostname(link->stream, NULL, AF_UNSPEC, name, port) !=
            0 &&
        link->stream != NULL)
        rk_link_close(link, "address cannot be resolved");
}

/* --- output */

static void pack_call_fields(struct rk_buf *out, struct rk_call *call, uint64_t now,
                             bool may_forward)
{
    struct rukun_client *client = call->client;
    uint64_t left = call->deadline_ms > now ? call->deadline_ms - now : 1;
    if (left > RK_DEADLINE_MAX_MS) left = RK_DEADLINE_MAX_MS;
    pthread_mutex_lock(&client->lock);
    bool has_position = !call->is_write && call->group < RK_GROUPS_MAX &&
                        client->positions[call->group] != 0 &&
                        client->position_history != 0;
    uint64_t history = client->position_history;
    uint64_t index = has_position ? client->positions[call->group] : 0;
    const struct rk_list *first = rk_list_first(&client->unanswered);
    uint64_t first_seq = first == NULL
                             ? call->open.seq
                             : RK_CONTAINER_CONST(first, struct rk_open, link)->seq;
    pthread_mutex_unlock(&client->lock);
    /* lock.cancel's own fields are client and seq, those of the call it ends; to repeat it
     * changes nothing, so it needs no number. */
    bool has_number = call->is_write && call->op != RK_OP_LOCK_CANCEL;
    pack_map(out, call->field_count + 1 + (has_number ? 3 : 0) + (has_position ? 1 : 0) +
                      (may_forward ? 0 : 1));
    rk_buf_append_slice(out, rk_buf_slice(&call->fields));
    pack_key(out, "deadline_ms");
    pack_uint(out, left);
    if (has_number) {
        pack_key(out, "client");
        pack_key(out, client->id);
        pack_key(out, "seq");
        pack_uint(out, call->open.seq);
        pack_key(out, "first_unanswered");
        pack_uint(out, first_seq < call->open.seq ? first_seq : call->open.seq);
    }
    if (has_position) {
        char text[64];
        int size = snprintf(text, sizeof(text), "%llx:%u=%llu", (unsigned long long)history,
                            call->group, (unsigned long long)index);
        pack_key(out, "position");
        pack_text(out, text, (size_t)size);
    }
    if (!may_forward) {
        pack_key(out, "forward");
        rk_buf_u8(out, 0xc2);
    }
}

void rk_link_send(struct rk_link *link, struct rk_call *call, bool may_forward)
{
    struct rukun_client *client = call->client;
    if (!by_id_add(client, call)) {
        rk_io_finish(call, RK_ENOMEM, "out of memory");
        return;
    }
    call->via = link;
    struct rk_buf out;
    rk_buf_init(&out);
    uint64_t now = rk_now_ms();
    pack_request(&out, call->rpc_id, rk_op_info(call->op)->name);
    pack_call_fields(&out, call, now, may_forward);
    bool is_written = rk_buf_check(&out) == RK_OK &&
                      bufferevent_write(link->stream, out.data, out.size) == 0;
    rk_buf_fini(&out);
    if (!is_written) {
        rk_io_finish(call, RK_ENOMEM, "out of memory");
        return;
    }
    rk_list_remove(&call->link);
    rk_list_push_back(&link->sent, &call->link);
    call->state = RK_CALL_SENT;
    call->was_sent = true;
    call->sent_ms = now;
    call->attempts++;
}

void rk_link_abandon(struct rk_call *call)
{
    struct rk_link *link = call->via;
    if (link == NULL) return;
    struct rk_buf out;
    rk_buf_init(&out);
    rk_buf_u8(&out, 0x93);
    rk_buf_u8(&out, 2);
    pack_key(&out, "cancel");
    rk_buf_u8(&out, 0x91);
    pack_uint(&out, call->rpc_id);
    if (rk_buf_check(&out) == RK_OK && link->stream != NULL)
        bufferevent_write(link->stream, out.data, out.size);
    rk_buf_fini(&out);
    rk_call_detach(call);
}
