#include "redis/redis_internal.h"

#include "base/alloc.h"
#include "base/assert.h"

#include <event2/event.h>
#include <openssl/sha.h>
#include <stdarg.h>
#include <stdio.h>
#include <time.h>

uint64_t rk_redis_now(void)
{
    struct timespec now;
    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * SECOND_US + (uint64_t)now.tv_nsec / 1000;
}

uint64_t rk_redis_jitter(struct rk_redis *redis, uint64_t below_us)
{
    return below_us == 0 ? 0 : rk_random_below(&redis->random, below_us);
}

void rk_redis_log(struct rk_redis *redis, enum rk_redis_level level, const char *format,
                  ...)
{
    char text[768];
    va_list arguments;
    va_start(arguments, format);
    (void)vsnprintf(text, sizeof(text), format, arguments);
    va_end(arguments);
    if (redis->io.log != NULL) redis->io.log(redis->io.context, level, text);
}

/* ---- time --------------------------------------------------------------------------- */

static bool timer_before(const struct rk_heap_node *a, const struct rk_heap_node *b)
{
    return RK_CONTAINER_CONST(a, struct rk_redis_timer, node)->at_us <
           RK_CONTAINER_CONST(b, struct rk_redis_timer, node)->at_us;
}

/* libevent is told only when the first of all timers comes sooner than it knows. */
static void arm(struct rk_redis *redis)
{
    const struct rk_heap_node *top = rk_heap_top(&redis->timers);
    if (top == NULL) return;
    uint64_t at_us = RK_CONTAINER_CONST(top, struct rk_redis_timer, node)->at_us;
    if (redis->armed_us != 0 && redis->armed_us <= at_us) return;
    uint64_t now = rk_redis_now();
    uint64_t left_us = at_us > now ? at_us - now : 0;
    struct timeval delay = {(time_t)(left_us / SECOND_US),
                            (suseconds_t)(left_us % SECOND_US)};
    if (event_add(redis->timer_event, &delay) == 0) redis->armed_us = at_us;
}

void rk_redis_wake_at(struct rk_redis *redis, struct rk_redis_timer *timer, uint64_t at_us)
{
    timer->at_us = at_us;
    if (rk_heap_has(&timer->node)) {
        rk_heap_update(&redis->timers, &timer->node);
    } else {
        /* There is room: it was reserved with the object. */
        enum rk_status status = rk_heap_push(&redis->timers, &timer->node);
        RK_ASSERT(status == RK_OK);
    }
    arm(redis);
}

void rk_redis_unwake(struct rk_redis *redis, struct rk_redis_timer *timer)
{
    rk_heap_remove(&redis->timers, &timer->node);
}

static void on_timer(evutil_socket_t fd, short what, void *context)
{
    struct rk_redis *redis = context;
    uint64_t now = rk_redis_now();
    struct rk_heap_node *top;
    (void)fd;
    (void)what;
    redis->armed_us = 0;
    while ((top = rk_heap_top(&redis->timers)) != NULL) {
        struct rk_redis_timer *timer = RK_CONTAINER(top, struct rk_redis_timer, node);
        if (timer->at_us > now) break;
        rk_redis_unwake(redis, timer);
        if (timer->is_link)
            rk_redis_link_timer(RK_CONTAINER(timer, struct rk_redis_link, timer), now);
        else
            rk_redis_call_timer(redis, RK_CONTAINER(timer, struct rk_redis_call, timer),
                                now);
    }
    arm(redis);
}

/* ---- the end of a turn -------------------------------------------------------------- */

void rk_redis_touch(struct rk_redis *redis)
{
    if (redis->is_flush_due) return;
    redis->is_flush_due = true;
    /* Runs behind the callbacks that are active already. */
    event_active(redis->flush_event, EV_WRITE, 0);
}

static void on_flush(evutil_socket_t fd, short what, void *context)
{
    struct rk_redis *redis = context;
    (void)fd;
    (void)what;
    redis->is_flush_due = false;
    struct rk_list dirty;
    rk_list_init(&dirty);
    while (!rk_list_is_empty(&redis->dirty)) {
        struct rk_list *first = rk_list_first(&redis->dirty);
        rk_list_remove(first);
        rk_list_push_back(&dirty, first);
    }
    while (!rk_list_is_empty(&dirty)) {
        struct rk_redis_link *link =
            RK_CONTAINER(rk_list_first(&dirty), struct rk_redis_link, in_dirty);
        rk_list_remove(&link->in_dirty);
        rk_redis_link_flush(link);
    }
    while (!rk_list_is_empty(&redis->doomed)) {
        struct rk_redis_link *link =
            RK_CONTAINER(rk_list_first(&redis->doomed), struct rk_redis_link, in_doomed);
        rk_redis_link_free(link);
    }
}

void rk_redis_drain_queue(struct rk_redis *redis)
{
    struct rk_list queue;
    rk_list_init(&queue);
    while (!rk_list_is_empty(&redis->queue)) {
        struct rk_list *first = rk_list_first(&redis->queue);
        rk_list_remove(first);
        rk_list_push_back(&queue, first);
    }
    while (!rk_list_is_empty(&queue)) {
        struct rk_redis_call *call =
            RK_CONTAINER(rk_list_first(&queue), struct rk_redis_call, link_in);
        rk_redis_call_unlink(redis, call);
        rk_redis_route(redis, call);
    }
}

/* ---- state -------------------------------------------------------------------------- */

static const struct rk_redis_link *first_down(const struct rk_redis *redis)
{
    for (uint32_t i = 0; i < redis->node_count; i++)
        if (redis->nodes[i]->state != LINK_UP) return redis->nodes[i];
    return NULL;
}

void rk_redis_note_state(struct rk_redis *redis)
{
    bool is_up = redis->node_count > 0 && redis->is_covered && first_down(redis) == NULL;
    if (is_up == redis->is_up) return;
    redis->is_up = is_up;
    if (redis->io.state != NULL) redis->io.state(redis->io.context, is_up);
}

void rk_redis_note_facts(struct rk_redis *redis)
{
    if (redis->io.facts != NULL) redis->io.facts(redis->io.context);
}

bool rk_redis_is_cluster(const struct rk_redis *redis)
{
    return redis->url->kind == RK_REDIS_CLUSTER;
}

bool rk_redis_is_up(const struct rk_redis *redis)
{
    return redis->is_up;
}

const char *rk_redis_reason(const struct rk_redis *redis)
{
    if (redis->is_up) return "";
    const struct rk_redis_link *node = first_down(redis);
    if (node != NULL && node->reason[0] != '\0') return node->reason;
    if (redis->guide != NULL && redis->guide->reason[0] != '\0')
        return redis->guide->reason;
    return redis->is_covered || redis->node_count == 0 ? "not connected yet"
                                                       : "slots without a master";
}

void rk_redis_ask_guide(struct rk_redis *redis)
{
    struct rk_redis_link *guide = redis->guide;
    if (guide == NULL || guide->state != LINK_UP) return; /* it asks when it is connected */
    uint64_t now = rk_redis_now();
    uint64_t again_us = guide->role->ask_again_us;
    uint64_t at_us = redis->guided_us + again_us + rk_redis_jitter(redis, again_us);
    if (at_us < now) at_us = now;
    if (redis->guide_due_us != 0 && redis->guide_due_us <= at_us) return;
    redis->guide_due_us = at_us;
    rk_redis_wake_at(redis, &guide->timer, at_us);
}

const struct rk_redis_server *rk_redis_server_of(const struct rk_redis *redis,
                                                 struct rk_slice key)
{
    const struct rk_redis_link *link = NULL;
    if (!rk_redis_is_cluster(redis))
        link = redis->nodes[0];
    else if (key.size > 0)
        link = redis->slots[rk_redis_slot(key)];
    else
        for (uint32_t i = 0; i < redis->node_count && link == NULL; i++)
            if (redis->nodes[i]->state == LINK_UP) link = redis->nodes[i];
    return link != NULL && link->state == LINK_UP ? &link->server : NULL;
}

uint32_t rk_redis_node_count(const struct rk_redis *redis)
{
    return redis->node_count;
}

const struct rk_redis_server *rk_redis_master(const struct rk_redis *redis, uint32_t number)
{
    RK_ASSERT(number > 0);
    const struct rk_redis_link *link =
        number <= redis->node_count ? redis->nodes[number - 1] : NULL;
    return link != NULL && link->state == LINK_UP ? &link->server : NULL;
}

void rk_redis_stats(const struct rk_redis *redis, struct rk_redis_stats *out)
{
    *out = redis->stats;
}

/* ---- commands ----------------------------------------------------------------------- */

static size_t args_size(const struct rk_slice *args, uint32_t count)
{
    size_t size = 0;
    for (uint32_t i = 0; i < count; i++) {
        RK_ASSERT(args[i].size <= RK_REDIS_COMMAND_MAX - size);
        size += args[i].size;
    }
    return size + (size_t)count * 16 + 64;
}

static struct rk_redis_call *begin_call(struct rk_redis *redis,
                                        const struct rk_redis_ask *ask, size_t size)
{
    if (redis->stats.pending >= RK_REDIS_PENDING_MAX ||
        redis->pending_bytes + size > RK_REDIS_PENDING_BYTES_MAX)
        return NULL;
    struct rk_redis_call *call = rk_redis_call_take(redis);
    if (call == NULL) return NULL;
    if (rk_buf_reserve(&call->bytes, size) != RK_OK) {
        rk_redis_call_put(redis, call);
        return NULL;
    }
    uint32_t deadline_ms =
        ask->deadline_ms != 0 ? ask->deadline_ms : redis->url->timeout_ms;
    call->deadline_us = rk_redis_now() + (uint64_t)deadline_ms * 1000;
    call->done = ask->done;
    call->context = ask->context;
    call->may_repeat = ask->may_repeat;
    call->wait_replicas = ask->wait_replicas;
    call->node = ask->node;
    return call;
}

static uint64_t launch(struct rk_redis *redis, struct rk_redis_call *call,
                       struct rk_slice key)
{
    call->slot =
        rk_redis_is_cluster(redis) && key.size > 0 ? rk_redis_slot(key) : CALL_ANY_SLOT;
    redis->stats.commands++;
    redis->stats.pending++;
    redis->pending_bytes += call->bytes.size;
    if (call->node > redis->node_count)
        call->deadline_us = rk_redis_now(); /* there is no such master */
    rk_redis_wake_at(redis, &call->timer, call->deadline_us);
    uint64_t id = rk_redis_call_id(call);
    rk_redis_route(redis, call);
    return id;
}

uint64_t rk_redis_send(struct rk_redis *redis, const struct rk_redis_command *command)
{
    RK_ASSERT(command->arg_count > 0 && command->arg_count <= RK_REDIS_ARGS_MAX);
    size_t size = args_size(command->args, command->arg_count);
    struct rk_redis_call *call = begin_call(redis, &command->ask, size);
    if (call == NULL) return 0;
    rk_redis_write_head(&call->bytes, command->arg_count);
    for (uint32_t i = 0; i < command->arg_count; i++)
        rk_redis_write_arg(&call->bytes, command->args[i]);
    return launch(redis, call, command->key);
}

uint64_t rk_redis_eval(struct rk_redis *redis, const struct rk_redis_eval *eval)
{
    RK_ASSERT(eval->script->sha[0] != '\0');
    RK_ASSERT(eval->key_count < RK_REDIS_ARGS_MAX && eval->arg_count < RK_REDIS_ARGS_MAX);
    char count[16];
    size_t size = args_size(eval->keys, eval->key_count) +
                  args_size(eval->args, eval->arg_count) + sizeof(count);
    struct rk_redis_call *call = begin_call(redis, &eval->ask, size);
    if (call == NULL) return 0;
    call->script = eval->script;
    call->arg_count = 3 + eval->key_count + eval->arg_count;
    (void)snprintf(count, sizeof(count), "%u", eval->key_count);
    rk_redis_write_arg(&call->bytes, rk_slice_of_string(count));
    for (uint32_t i = 0; i < eval->key_count; i++)
        rk_redis_write_arg(&call->bytes, eval->keys[i]);
    for (uint32_t i = 0; i < eval->arg_count; i++)
        rk_redis_write_arg(&call->bytes, eval->args[i]);
    return launch(redis, call, eval->key_count > 0 ? eval->keys[0] : RK_SLICE_EMPTY);
}

void rk_redis_forget(struct rk_redis *redis, uint64_t id)
{
    struct rk_redis_call *call = rk_redis_call_of(redis, id);
    if (call == NULL) return;
    redis->stats.pending--;
    redis->pending_bytes -= call->bytes.size;
    call->is_over = true;
    rk_redis_unwake(redis, &call->timer);
    if (call->place != CALL_SENT) rk_redis_call_put(redis, call);
}

void rk_redis_script_init(struct rk_redis_script *script)
{
    static const char digits[] = "0123456789abcdef";
    unsigned char sha[SHA_DIGEST_LENGTH];
    (void)SHA1((const unsigned char *)script->text, script->size, sha);
    for (size_t i = 0; i < sizeof(sha); i++) {
        script->sha[2 * i] = digits[sha[i] >> 4];
        script->sha[2 * i + 1] = digits[sha[i] & 15];
    }
    script->sha[2 * sizeof(sha)] = '\0';
}

/* ---- life --------------------------------------------------------------------------- */

static enum rk_status make_links(struct rk_redis *redis)
{
    static const struct link_role *const guides[] = {
        [RK_REDIS_SENTINEL] = &rk_redis_sentinel_role,
        [RK_REDIS_CLUSTER] = &rk_redis_cluster_role,
    };
    enum rk_redis_kind kind = redis->url->kind;
    redis->pubsub = rk_redis_link_new(redis, &rk_redis_pubsub_role);
    if (redis->pubsub == NULL) return RK_ENOMEM;
    if (kind == RK_REDIS_CLUSTER) {
        redis->slots = rk_calloc(RK_REDIS_SLOTS, sizeof(struct rk_redis_link *));
        if (redis->slots == NULL) return RK_ENOMEM;
    } else {
        redis->nodes[0] = rk_redis_link_new(redis, &rk_redis_master_role);
        if (redis->nodes[0] == NULL) return RK_ENOMEM;
        redis->node_count = 1;
        redis->is_covered = true;
    }
    if (kind != RK_REDIS_SINGLE) {
        redis->guide = rk_redis_link_new(redis, guides[kind]);
        if (redis->guide == NULL) return RK_ENOMEM;
        redis->guide_at = (uint32_t)rk_redis_jitter(redis, redis->url->address_count);
    }
    return RK_OK;
}

static enum rk_status make_events(struct rk_redis *redis)
{
    redis->flush_event = event_new(redis->base, -1, 0, on_flush, redis);
    redis->timer_event = event_new(redis->base, -1, EV_TIMEOUT, on_timer, redis);
    if (redis->flush_event == NULL || redis->timer_event == NULL) return RK_ENOMEM;
    return rk_heap_reserve(&redis->timers, 2 * RK_REDIS_NODES_MAX);
}

enum rk_status rk_redis_new(struct rk_redis **out, const struct rk_redis_options *options,
                            struct rk_redis_error *err)
{
    RK_ASSERT(options->struct_size == sizeof(*options));
    enum rk_status status = RK_ENOMEM;
    struct rk_redis *redis = rk_calloc(1, sizeof(*redis));
    if (redis == NULL) goto fail;
    redis->base = options->base;
    redis->dns = options->dns;
    redis->url = options->url;
    redis->io = options->io;
    rk_random_init(&redis->random, options->seed);
    rk_heap_init(&redis->timers, timer_before);
    rk_list_init(&redis->idle);
    rk_list_init(&redis->queue);
    rk_list_init(&redis->dirty);
    rk_list_init(&redis->leaving);
    rk_list_init(&redis->doomed);
    rk_list_init(&redis->subscriptions);
    if (options->client_name != NULL) {
        redis->client_name = rk_strdup(options->client_name);
        if (redis->client_name == NULL) goto fail;
    }
    if (make_links(redis) != RK_OK || make_events(redis) != RK_OK) goto fail;
    if (options->url->is_tls) {
        status = rk_redis_tls_new(&redis->tls, options->url, err);
        if (status == RK_EINVAL) goto fail_said;
        if (status != RK_OK) goto fail;
    }
    rk_redis_link_start(redis->guide != NULL ? redis->guide : redis->nodes[0], 0);
    *out = redis;
    return RK_OK;

fail:
    if (err != NULL) (void)snprintf(err->text, sizeof(err->text), "out of memory");
fail_said:
    rk_redis_free(redis);
    return status;
}

void rk_redis_free(struct rk_redis *redis)
{
    if (redis == NULL) return;
    rk_heap_fini(&redis->timers); /* lets go of its members, so it is first */
    while (redis->subscriptions.next != NULL && !rk_list_is_empty(&redis->subscriptions))
        rk_list_remove(rk_list_first(&redis->subscriptions));
    for (uint32_t i = 0; i < redis->node_count; i++)
        rk_redis_link_free(redis->nodes[i]);
    rk_redis_link_free(redis->pubsub);
    rk_redis_link_free(redis->guide);
    while (!rk_list_is_empty(&redis->leaving))
        rk_redis_link_free(
            RK_CONTAINER(rk_list_first(&redis->leaving), struct rk_redis_link, in_doomed));
    while (!rk_list_is_empty(&redis->doomed))
        rk_redis_link_free(
            RK_CONTAINER(rk_list_first(&redis->doomed), struct rk_redis_link, in_doomed));
    for (uint32_t i = 0; i < redis->call_count; i++) {
        rk_buf_fini(&redis->calls[i]->bytes);
        rk_arena_fini(&redis->calls[i]->kept);
        rk_free(redis->calls[i]);
    }
    rk_free(redis->calls);
    if (redis->flush_event != NULL) event_free(redis->flush_event);
    if (redis->timer_event != NULL) event_free(redis->timer_event);
    SSL_CTX_free(redis->tls);
    rk_free(redis->slots);
    rk_free(redis->client_name);
    rk_free(redis);
}
