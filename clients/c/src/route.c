/* route.c - which node gets a call: straight to the group's leader, a hint followed, the
 * cluster asked again when in doubt, and other nodes to forward when the leader cannot be
 * reached from here. */
#include "internal.h"

#include <event2/buffer.h>
#include <event2/http.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"

#define HTTP_TIMEOUT_S 2
#define HTTP_BODY_MAX  (4 << 20)

void rk_route_want_refresh(struct rukun_client *client, uint64_t at_ms)
{
    if (at_ms < client->refresh_ms) client->refresh_ms = at_ms;
}

/* Full jitter (Brooker, "Exponential backoff and jitter"). */
static uint64_t backoff(struct rk_call *call)
{
    uint32_t step = call->attempts < 6 ? call->attempts : 6;
    uint64_t span = (uint64_t)RK_RETRY_FIRST_MS << step;
    if (span > RK_RETRY_MAX_MS) span = RK_RETRY_MAX_MS;
    return 1 + rk_random_below(&call->client->random, span);
}

void rk_route_retry(struct rk_call *call, bool is_at_once)
{
    call->retry_ms = is_at_once ? 0 : rk_now_ms() + backoff(call);
    rk_io_queue(call);
}

static void note_refusal(struct rk_call *call, const struct rk_reply *reply)
{
    call->last_status = reply->status;
    (void)snprintf(call->last_text, sizeof(call->last_text), "%.60s%s%.60s",
                   call->last_node, call->last_node[0] != '\0' ? ": " : "",
                   reply->text[0] != '\0' ? reply->text : rk_status_text(reply->status));
}

/* The node ended this wait since a connection fell, not because anyone asked for it: it
 * is certain that nothing was granted, so the same call goes out under a new number. */
static bool renumber(struct rk_call *call)
{
    struct rukun_client *client = call->client;
    bool can_wait = call->op == RK_OP_LOCK_ACQUIRE || call->op == RK_OP_QUEUE_CONSUME;
    if (!can_wait || call->attempts < 2) return false;
    pthread_mutex_lock(&client->lock);
    if (call->is_abandoned) {
        pthread_mutex_unlock(&client->lock);
        return false;
    }
    rk_list_remove(&call->open.link);
    call->open.seq = client->next_seq++;
    rk_list_push_back(&client->unanswered, &call->open.link);
    if (call->undo != NULL) {
        rk_list_remove(&call->undo->link);
        call->undo->seq = call->open.seq;
        rk_list_push_back(&client->unanswered, &call->undo->link);
    }
    pthread_mutex_unlock(&client->lock);
    return true;
}

void rk_route_problem(struct rk_call *call, struct rk_slice body)
{
    struct rukun_client *client = call->client;
    struct rk_arena arena;
    rk_arena_init(&arena);
    struct rk_reply reply;
    memset(&reply, 0, sizeof(reply));
    enum rk_status status = rk_reply_from_msgpack(&reply, call->op, true, body, &arena);
    if (status != RK_OK) {
        rk_io_finish(call, RK_EPROTO, "the node's answer cannot be decoded");
        rk_arena_fini(&arena);
        return;
    }
    uint64_t now = rk_now_ms();
    switch (reply.status) {
    case RK_ENOTLEADER: {
        note_refusal(call, &reply);
        bool is_news = rk_topology_hint(client, call->group, reply.leader);
        if (!is_news) rk_route_want_refresh(client, now + RK_REFRESH_MS / 2);
        rk_route_retry(call, is_news);
        break;
    }
    case RK_EUNAVAILABLE:
    case RK_EDROPPED:
    case RK_EUNKNOWN:
        note_refusal(call, &reply);
        rk_route_want_refresh(client, now);
        rk_route_retry(call, false);
        break;
    case RK_EBUSY:
        note_refusal(call, &reply);
        rk_route_retry(call, false);
        break;
    case RK_ECANCELLED:
        if (renumber(call)) {
            rk_route_retry(call, false);
            break;
        }
        rk_io_answer(call, true, body);
        break;
    default: rk_io_answer(call, true, body); break;
    }
    rk_arena_fini(&arena);
}

static struct rk_link *any_ready(struct rukun_client *client, const struct rk_link *but)
{
    for (uint32_t i = 0; i < client->link_count; i++) {
        struct rk_link *link = client->links[(client->asked + i) % client->link_count];
        if (link != but && link->state == RK_LINK_READY) return link;
    }
    return NULL;
}

/* The link on which the call can go out now; NULL: later. */
static struct rk_link *pick(struct rk_call *call, uint64_t now, bool *may_forward)
{
    struct rukun_client *client = call->client;
    *may_forward = false;
    if (client->topology.group_count == 0) return NULL;
    if (call->group == UINT32_MAX) {
        *may_forward = client->is_forwarding;
        return any_ready(client, NULL);
    }
    const char *leader =
        call->group < RK_GROUPS_MAX ? client->topology.leaders[call->group] : "";
    const struct rk_node *node = rk_topology_node(client, leader);
    if (node == NULL) {
        rk_route_want_refresh(client, now + RK_REFRESH_MS);
        return NULL;
    }
    struct rk_link *link = rk_link_of(client, node->rpc);
    if (link == NULL) return NULL;
    if (link->state == RK_LINK_READY) return link;
    rk_link_connect(link, now);
    rk_route_want_refresh(client, now + RK_REFRESH_MS);
    /* The others see the leader and this client does not: a broken path, so forward. */
    if (client->is_forwarding && link->down_ms != 0 && node->is_up &&
        now - link->down_ms > RK_UNREACHABLE_MS) {
        *may_forward = true;
        return any_ready(client, link);
    }
    return NULL;
}

void rk_route_pump(struct rukun_client *client, uint64_t now)
{
    if (rk_list_is_empty(&client->queued)) return;
    rk_list_each_safe (at, &client->queued) {
        struct rk_call *call = RK_CONTAINER(at, struct rk_call, link);
        if (call->retry_ms > now) continue;
        bool may_forward = false;
        struct rk_link *link = pick(call, now, &may_forward);
        if (link != NULL) rk_link_send(link, call, may_forward);
    }
}

void rk_route_refresh(struct rukun_client *client, uint64_t now)
{
    if (now < client->refresh_ms) return;
    client->refresh_ms = now + RK_DOCUMENT_PERIOD_MS;
    bool has_asked = false;
    for (uint32_t i = 0; i < client->link_count; i++) {
        uint32_t place = (client->asked + 1 + i) % client->link_count;
        struct rk_link *link = client->links[place];
        if (link->state != RK_LINK_READY) continue;
        if (link->has_asked && now - link->asked_ms < RK_CONNECT_MS) continue;
        link->has_asked = false;
        rk_link_ask(link, now);
        client->asked = place;
        has_asked = true;
        break;
    }
    if (has_asked && client->topology.group_count != 0) return;
    for (uint32_t i = 0; i < client->link_count; i++)
        if (client->links[i]->is_known) rk_link_connect(client->links[i], now);
    if (!has_asked) rk_route_want_refresh(client, now + RK_REFRESH_MS);
}

/* --- endpoints that speak HTTP: asked once for /cluster, at the start */

static void on_http(struct evhttp_request *request, void *context)
{
    struct rukun_client *client = context;
    const char *problem = "no answer over HTTP";
    if (request != NULL && evhttp_request_get_response_code(request) == 200) {
        struct evbuffer *body = evhttp_request_get_input_buffer(request);
        size_t size = evbuffer_get_length(body);
        struct rk_slice text = rk_slice_of(evbuffer_pullup(body, -1), size);
        if (rk_topology_take(client, text) == RK_OK) {
            rk_route_want_refresh(client, rk_now_ms());
            return;
        }
        problem = "/cluster is no cluster document";
    }
    pthread_mutex_lock(&client->lock);
    (void)snprintf(client->open_text, sizeof(client->open_text), "%s", problem);
    pthread_mutex_unlock(&client->lock);
}

void rk_route_learn_http(struct rukun_client *client)
{
    for (uint32_t i = 0; i < client->http_count; i++) {
        char host[RK_ADDRESS_SIZE];
        (void)snprintf(host, sizeof(host), "%s", client->http_endpoints[i]);
        char *colon = strrchr(host, ':');
        *colon = '\0';
        struct evhttp_connection *connection = evhttp_connection_base_new(
            client->base, NULL, host, (uint16_t)strtoul(colon + 1, NULL, 10));
        if (connection == NULL) continue;
        evhttp_connection_set_timeout(connection, HTTP_TIMEOUT_S);
        evhttp_connection_set_max_body_size(connection, HTTP_BODY_MAX);
        evhttp_connection_free_on_completion(connection);
        struct evhttp_request *request = evhttp_request_new(on_http, client);
        if (request == NULL) {
            evhttp_connection_free(connection);
            continue;
        }
        evhttp_add_header(evhttp_request_get_output_headers(request), "Host",
                          client->http_endpoints[i]);
        (void)evhttp_make_request(connection, request, EVHTTP_REQ_GET, "/cluster");
    }
}
