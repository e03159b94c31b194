/* io.c - the I/O thread: one loop that takes calls in, drives links, and ends calls. */
#include "internal.h"

#include <event2/buffer.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/alloc.h"

static bool deadline_before(const struct rk_heap_node *a, const struct rk_heap_node *b)
{
    const struct rk_call *left = RK_CONTAINER_CONST(a, struct rk_call, timer);
    const struct rk_call *right = RK_CONTAINER_CONST(b, struct rk_call, timer);
    return left->deadline_ms < right->deadline_ms;
}

/* Leaves all of the thread's books, then wakes the caller, or runs done, or frees. */
static void call_end(struct rk_call *call)
{
    struct rukun_client *client = call->client;
    rk_call_detach(call);
    rk_list_remove(&call->link);
    if (rk_heap_has(&call->timer)) {
        rk_heap_remove(&client->deadlines, &call->timer);
        client->call_count--;
    }
    if (call->done != NULL) {
        call->state = RK_CALL_DONE;
        call->done(call, call->done_context);
        return;
    }
    call->state = RK_CALL_DONE;
    pthread_mutex_lock(&client->lock);
    call->is_done = true;
    bool is_abandoned = call->is_abandoned;
    rk_list_remove(&call->abandon);
    if (!is_abandoned) pthread_cond_signal(&call->wake);
    pthread_mutex_unlock(&client->lock);
    if (is_abandoned) rk_call_free(call);
}

void rk_io_finish(struct rk_call *call, enum rk_status status, const char *text)
{
    call->status = status;
    (void)snprintf(call->text, sizeof(call->text), "%s", text);
    call_end(call);
}

void rk_io_answer(struct rk_call *call, bool is_problem, struct rk_slice body)
{
    rk_buf_append_slice(&call->body, body);
    call->is_problem = is_problem;
    call->status = rk_buf_check(&call->body);
    if (call->status != RK_OK)
        (void)snprintf(call->text, sizeof(call->text), "out of memory");
    call_end(call);
}

void rk_io_queue(struct rk_call *call)
{
    struct rukun_client *client = call->client;
    if (!rk_heap_has(&call->timer)) {
        if (client->call_count >= RK_CALLS_MAX) {
            rk_io_finish(call, RK_EBUSY, "too many calls under way in this client");
            return;
        }
        if (rk_heap_push(&client->deadlines, &call->timer) != RK_OK) {
            rk_io_finish(call, RK_ENOMEM, "out of memory");
            return;
        }
        client->call_count++;
    }
    call->state = RK_CALL_QUEUED;
    rk_list_remove(&call->link);
    rk_list_push_back(&client->queued, &call->link);
    client->is_pump_wanted = true;
}

static void take_submitted(struct rukun_client *client)
{
    struct rk_list taken;
    rk_list_init(&taken);
    pthread_mutex_lock(&client->lock);
    while (!rk_list_is_empty(&client->submitted)) {
        struct rk_list *link = client->submitted.next;
        rk_list_remove(link);
        rk_list_push_back(&taken, link);
    }
    pthread_mutex_unlock(&client->lock);
    rk_list_each_safe (link, &taken) {
        struct rk_call *call = RK_CONTAINER(link, struct rk_call, submit);
        rk_list_remove(link);
        rk_io_queue(call);
    }
}

static void take_abandoned(struct rukun_client *client)
{
    for (;;) {
        pthread_mutex_lock(&client->lock);
        struct rk_list *link = rk_list_first(&client->abandoned);
        if (link != NULL) rk_list_remove(link);
        pthread_mutex_unlock(&client->lock);
        if (link == NULL) return;
        struct rk_call *call = RK_CONTAINER(link, struct rk_call, abandon);
        rk_link_abandon(call);
        rk_io_finish(call, RK_ECANCELLED, "cancelled by the caller");
    }
}

static void expire(struct rukun_client *client, uint64_t now)
{
    for (;;) {
        struct rk_heap_node *top = rk_heap_top(&client->deadlines);
        if (top == NULL) return;
        struct rk_call *call = RK_CONTAINER(top, struct rk_call, timer);
        if (call->deadline_ms > now) return;
        char text[256];
        uint64_t span = now - call->started_ms;
        if (call->was_sent && call->is_write) {
            (void)snprintf(text, sizeof(text), "no answer within %llu ms%s%s",
                           (unsigned long long)span, call->last_text[0] != '\0' ? ": " : "",
                           call->last_text);
            rk_link_abandon(call);
            rk_io_finish(call, RK_EUNKNOWN, text);
            continue;
        }
        enum rk_status status =
            call->last_status != RK_OK ? call->last_status : RK_ECONNECT;
        (void)snprintf(
            text, sizeof(text), "not done within %llu ms: %s", (unsigned long long)span,
            call->last_text[0] != '\0' ? call->last_text : "no node could be asked");
        rk_link_abandon(call);
        rk_io_finish(call, status, text);
    }
}

/* When something is to be done without an event. */
static uint64_t next_wake(struct rukun_client *client, uint64_t now)
{
    uint64_t next = now + 1000;
    struct rk_heap_node *top = rk_heap_top(&client->deadlines);
    if (top != NULL) {
        const struct rk_call *call = RK_CONTAINER(top, struct rk_call, timer);
        if (call->deadline_ms < next) next = call->deadline_ms;
    }
    uint64_t session = rk_session_next(client);
    if (session < next) next = session;
    if (client->refresh_ms < next) next = client->refresh_ms;
    if (!rk_list_is_empty(&client->queued) && now + RK_RETRY_FIRST_MS < next)
        next = now + RK_RETRY_FIRST_MS;
    return next;
}

static void turn(struct rukun_client *client)
{
    uint64_t now = rk_now_ms();
    take_submitted(client);
    take_abandoned(client);
    expire(client, now);
    rk_session_tick(client, now);
    rk_route_refresh(client, now);
    rk_route_pump(client, now);
}

static void on_wake(evutil_socket_t fd, short what, void *context)
{
    (void)what;
    (void)context;
    uint64_t count = 0;
    ssize_t size = read(fd, &count, sizeof(count));
    (void)size; /* EAGAIN: nothing was there */
}

static void on_timer(evutil_socket_t fd, short what, void *context)
{
    (void)fd;
    (void)what;
    (void)context;
}

/* Ends what callers wait for; what runs in the background (releases) may still go out. */
static void end_callers(struct rukun_client *client)
{
    struct rk_heap *heap = &client->deadlines;
    for (size_t i = 0; i < heap->count;) {
        struct rk_call *call = RK_CONTAINER(heap->nodes[i], struct rk_call, timer);
        if (call->done != NULL) {
            i++;
            continue;
        }
        rk_link_abandon(call);
        rk_io_finish(call, RK_ECLOSED, "client is closed");
        i = 0;
    }
}

static void loop_once(struct rukun_client *client, uint64_t until)
{
    uint64_t now = rk_now_ms();
    uint64_t next = next_wake(client, now);
    if (next > until) next = until;
    uint64_t left = next > now ? next - now : 0;
    struct timeval span = {(time_t)(left / 1000), (suseconds_t)(left % 1000) * 1000};
    event_add(client->timer, &span);
    event_base_loop(client->base, EVLOOP_ONCE);
    turn(client);
}

static bool is_closing(struct rukun_client *client)
{
    pthread_mutex_lock(&client->lock);
    bool result = client->is_closing;
    pthread_mutex_unlock(&client->lock);
    return result;
}

static void shut_down(struct rukun_client *client)
{
    take_submitted(client);
    end_callers(client);
    rk_session_close(client);
    uint64_t until = rk_now_ms() + RK_CLOSE_MS;
    take_submitted(client);
    rk_route_pump(client, rk_now_ms());
    while (rk_now_ms() < until && client->deadlines.count > 0)
        loop_once(client, until);
    pthread_mutex_lock(&client->lock);
    client->is_closed = true;
    pthread_mutex_unlock(&client->lock);
    take_submitted(client);
    take_abandoned(client);
    while (rk_heap_top(&client->deadlines) != NULL) {
        struct rk_heap_node *top = rk_heap_top(&client->deadlines);
        rk_io_finish(RK_CONTAINER(top, struct rk_call, timer), RK_ECLOSED,
                     "client is closed");
    }
    for (uint32_t i = 0; i < client->link_count; i++)
        rk_link_close(client->links[i], "closed");
}

void *rk_io_main(void *context)
{
    struct rukun_client *client = context;
    pthread_setname_np(pthread_self(), "rukun-io");
    rk_heap_init(&client->deadlines, deadline_before);
    client->refresh_ms = 0;
    struct event_config *config = event_config_new();
    if (config != NULL) {
        event_config_set_flag(config, EVENT_BASE_FLAG_NOLOCK);
        client->base = event_base_new_with_config(config);
        event_config_free(config);
    }
    if (client->base == NULL) goto fail;
    client->wake_event =
        event_new(client->base, client->wake_fd, EV_READ | EV_PERSIST, on_wake, client);
    client->timer = event_new(client->base, -1, 0, on_timer, client);
    if (client->wake_event == NULL || client->timer == NULL) goto fail;
    if (event_add(client->wake_event, NULL) != 0) goto fail;
    rk_route_learn_http(client);
    turn(client);
    while (!is_closing(client))
        loop_once(client, UINT64_MAX);
    shut_down(client);

fail:
    pthread_mutex_lock(&client->lock);
    client->is_closed = true;
    if (client->base == NULL) {
        client->open_status = RK_ENOMEM;
        (void)snprintf(client->open_text, sizeof(client->open_text), "no event loop");
    }
    pthread_cond_broadcast(&client->changed);
    pthread_mutex_unlock(&client->lock);
    if (client->timer != NULL) event_free(client->timer);
    if (client->wake_event != NULL) event_free(client->wake_event);
    if (client->base != NULL) event_base_free(client->base);
    rk_heap_fini(&client->deadlines);
    rk_free(client->by_id);
    client->by_id = NULL;
    return NULL;
}
