/* session.c - the one session of a client, opened with its first lock and kept alive by
 * the I/O thread. The client's own lease ends at send time + ttl - the drift bound. */
#include "internal.h"

#include <stdio.h>
#include <string.h>

#define DRIFT_MIN_MS 200

/* What clocks may differ: max(ttl / 10, 200 ms). */
static uint64_t lease_of(uint64_t ttl_ms)
{
    uint64_t drift = ttl_ms / 10 > DRIFT_MIN_MS ? ttl_ms / 10 : DRIFT_MIN_MS;
    return ttl_ms > drift ? ttl_ms - drift : 0;
}

static enum rk_status open_session(struct rukun_client *client, rukun_error *err)
{
    struct rk_request request;
    memset(&request, 0, sizeof(request));
    request.op = RK_OP_SESSION_OPEN;
    request.ttl_ms = client->session_ttl_ms;
    RK_SET(&request, TTL_MS);
    request.name = rk_slice_of_string(client->name);
    RK_SET(&request, NAME);
    request.forward = true;
    struct rk_arena arena;
    rk_arena_init(&arena);
    struct rk_reply reply;
    struct rk_call *call = NULL;
    enum rk_status status = rk_call_run(&call, client, &request, 0, &arena, &reply, err);
    pthread_mutex_lock(&client->lock);
    if (status == RK_OK && reply.session.size >= sizeof(client->session.id))
        status = rk_error_set(err, RK_EPROTO, "session id is too long");
    if (status == RK_OK) {
        memcpy(client->session.id, reply.session.data, reply.session.size);
        client->session.id[reply.session.size] = '\0';
        client->session.number++;
        client->session.ttl_ms = reply.ttl_ms;
        /* Counted from the first attempt: a retry is answered from the first one's record.
         */
        client->session.safe_until_ms = call->started_ms + lease_of(reply.ttl_ms);
        client->session.state = RK_SESSION_OPEN;
        client->keepalive_ms = rk_now_ms() + reply.ttl_ms / 3;
    } else {
        client->session.state = RK_SESSION_NONE;
    }
    pthread_cond_broadcast(&client->changed);
    pthread_mutex_unlock(&client->lock);
    rk_call_free(call);
    rk_arena_fini(&arena);
    if (status == RK_OK) rk_client_wake(client);
    return status;
}

enum rk_status rk_session_ensure(struct rukun_client *client, char id[80], uint64_t *number,
                                 rukun_error *err)
{
    for (;;) {
        pthread_mutex_lock(&client->lock);
        while (client->session.state == RK_SESSION_OPENING && !client->is_closed)
            pthread_cond_wait(&client->changed, &client->lock);
        if (client->is_closed || client->is_closing) {
            pthread_mutex_unlock(&client->lock);
            return rk_error_set(err, RK_ECLOSED, "client is closed");
        }
        if (client->session.state == RK_SESSION_OPEN) {
            memcpy(id, client->session.id, sizeof(client->session.id));
            *number = client->session.number;
            pthread_mutex_unlock(&client->lock);
            return RK_OK;
        }
        client->session.state = RK_SESSION_OPENING;
        pthread_mutex_unlock(&client->lock);
        enum rk_status status = open_session(client, err);
        if (status != RK_OK) return status;
    }
}

/* (lock) */
static void lose(struct rukun_client *client)
{
    client->session.state = RK_SESSION_LOST;
    client->session.number++;
    client->session.safe_until_ms = 0;
    pthread_cond_broadcast(&client->changed);
}

/* (lock) Ends a session whose lease is over by this clock. Whoever looks first decides, for
 * good: a lock that was once reported lost never comes back, whatever answer arrives. */
static void expire(struct rukun_client *client, uint64_t now)
{
    if (client->session.state != RK_SESSION_OPEN || now < client->session.safe_until_ms)
        return;
    memcpy(client->session.ended_id, client->session.id, sizeof(client->session.ended_id));
    lose(client);
}

uint64_t rk_session_left_ms(struct rukun_client *client, uint64_t number)
{
    pthread_mutex_lock(&client->lock);
    uint64_t now = rk_now_ms();
    expire(client, now);
    bool is_same =
        client->session.state == RK_SESSION_OPEN && client->session.number == number;
    uint64_t left_ms = is_same ? client->session.safe_until_ms - now : 0;
    pthread_mutex_unlock(&client->lock);
    return left_ms;
}

void rk_session_lose(struct rukun_client *client, uint64_t number)
{
    pthread_mutex_lock(&client->lock);
    if (client->session.state == RK_SESSION_OPEN && client->session.number == number)
        lose(client);
    pthread_mutex_unlock(&client->lock);
}

static struct rk_request session_request(enum rk_op op, const char *id)
{
    struct rk_request request;
    memset(&request, 0, sizeof(request));
    request.op = op;
    request.session = rk_slice_of_string(id);
    RK_SET(&request, SESSION);
    request.forward = true;
    return request;
}

static void closed_done(struct rk_call *call, void *context)
{
    (void)context;
    rk_call_free(call);
}

static void keepalive_done(struct rk_call *call, void *context)
{
    struct rukun_client *client = context;
    struct rk_arena arena;
    rk_arena_init(&arena);
    struct rk_reply reply;
    enum rk_status status = rk_call_decode(call, &arena, &reply);
    if (status == RK_OK) status = reply.status;
    pthread_mutex_lock(&client->lock);
    client->is_keepalive_under_way = false;
    expire(client, rk_now_ms());
    if (client->session.state == RK_SESSION_OPEN) {
        uint64_t ttl_ms = client->session.ttl_ms;
        if (status == RK_OK) {
            uint64_t until = call->sent_ms + lease_of(ttl_ms);
            if (until > client->session.safe_until_ms)
                client->session.safe_until_ms = until;
            client->keepalive_ms = call->sent_ms + ttl_ms / 3;
        } else if (status == RK_ESESSION) {
            lose(client);
        } else {
            client->keepalive_ms = rk_now_ms() + RK_RETRY_FIRST_MS * 5;
        }
    }
    pthread_mutex_unlock(&client->lock);
    rk_arena_fini(&arena);
    rk_call_free(call);
}

void rk_session_tick(struct rukun_client *client, uint64_t now)
{
    char id[sizeof(client->session.id)];
    char ended_id[sizeof(client->session.ended_id)];
    pthread_mutex_lock(&client->lock);
    expire(client, now);
    bool is_due = client->session.state == RK_SESSION_OPEN &&
                  !client->is_keepalive_under_way && !client->is_closing &&
                  now >= client->keepalive_ms;
    memcpy(id, client->session.id, sizeof(id));
    memcpy(ended_id, client->session.ended_id, sizeof(ended_id));
    client->session.ended_id[0] = '\0';
    uint64_t deadline_ms = client->session.ttl_ms / 3;
    if (is_due) client->is_keepalive_under_way = true;
    pthread_mutex_unlock(&client->lock);
    if (ended_id[0] != '\0') {
        struct rk_request request = session_request(RK_OP_SESSION_CLOSE, ended_id);
        (void)rk_call_background(client, &request, closed_done, NULL);
    }
    if (!is_due) return;
    struct rk_request request = session_request(RK_OP_SESSION_KEEPALIVE, id);
    struct rk_call *call = NULL;
    if (rk_call_new(&call, client, &request, 0, NULL) != RK_OK) {
        pthread_mutex_lock(&client->lock);
        client->is_keepalive_under_way = false;
        client->keepalive_ms = now + RK_RETRY_MAX_MS;
        pthread_mutex_unlock(&client->lock);
        return;
    }
    call->deadline_ms = now + deadline_ms;
    call->done = keepalive_done;
    call->done_context = client;
    rk_io_queue(call);
}

uint64_t rk_session_next(struct rukun_client *client)
{
    uint64_t next = UINT64_MAX;
    pthread_mutex_lock(&client->lock);
    if (client->session.ended_id[0] != '\0') next = 0;
    if (client->session.state == RK_SESSION_OPEN) {
        next = client->session.safe_until_ms;
        if (!client->is_keepalive_under_way && client->keepalive_ms < next)
            next = client->keepalive_ms;
    }
    pthread_mutex_unlock(&client->lock);
    return next;
}

void rk_session_close(struct rukun_client *client)
{
    rk_session_tick(client, rk_now_ms()); /* one that ran out is closed, too */
    char id[sizeof(client->session.id)];
    pthread_mutex_lock(&client->lock);
    bool is_open = client->session.state == RK_SESSION_OPEN;
    memcpy(id, client->session.id, sizeof(id));
    if (is_open) lose(client);
    pthread_mutex_unlock(&client->lock);
    if (!is_open) return;
    struct rk_request request = session_request(RK_OP_SESSION_CLOSE, id);
    (void)rk_call_background(client, &request, closed_done, NULL);
}
