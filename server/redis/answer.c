/* How a command ends: answered, tried again elsewhere or later, or given up. */
#include "redis/redis_internal.h"

#include "base/assert.h"

#include <stdio.h>

enum {
    PAUSE_MIN_US = 10000,
    PAUSE_MAX_US = SECOND_US / 2,
    REDIRECTS_AT_ONCE = 5, /* in a row; then with pauses */
    ATTEMPTS_COUNTED = 16,
};

static void count_end(struct rk_redis *redis, enum rk_status status)
{
    struct rk_redis_stats *stats = &redis->stats;
    switch (status) {
    case RK_OK: stats->ok++; break;
    case RK_EUNAVAILABLE: stats->not_done++; break;
    case RK_EUNKNOWN: stats->unknown++; break;
    default: stats->refused++; break;
    }
}

static void finish(struct rk_redis *redis, struct rk_redis_call *call,
                   const struct rk_redis_result *result)
{
    bool is_sent = call->place == CALL_SENT;
    RK_ASSERT(!call->is_over);
    call->is_over = true;
    redis->stats.pending--;
    redis->pending_bytes -= call->bytes.size;
    count_end(redis, result->status);
    rk_redis_unwake(redis, &call->timer);
    /* Its answer may come yet, and must find it. */
    if (!is_sent) rk_redis_call_unlink(redis, call);
    if (call->done != NULL) call->done(call->context, result);
    if (!is_sent) rk_redis_call_put(redis, call);
}

static void finish_text(struct rk_redis *redis, struct rk_redis_call *call,
                        enum rk_status status, const char *text)
{
    struct rk_redis_result result = {.status = status, .text = text, .replicas = -1};
    /* An earlier sending may have been done, whatever became of the last one. */
    if (call->is_open && status == RK_EUNAVAILABLE) result.status = RK_EUNKNOWN;
    finish(redis, call, &result);
}

static void finish_reply(struct rk_redis *redis, struct rk_redis_call *call,
                         const struct redisReply *reply, int32_t replicas)
{
    struct rk_redis_result result = {
        .status = RK_OK, .reply = reply, .text = "", .replicas = replicas};
    finish(redis, call, &result);
}

/* ---- where to ----------------------------------------------------------------------- */

struct rk_redis_link *rk_redis_aim(struct rk_redis *redis, const struct rk_redis_call *call)
{
    if (call->node != 0)
        return call->node <= redis->node_count ? redis->nodes[call->node - 1] : NULL;
    if (!rk_redis_is_cluster(redis)) return redis->nodes[0];
    if (call->slot != CALL_ANY_SLOT) return redis->slots[call->slot];
    for (uint32_t i = 0; i < redis->node_count; i++)
        if (redis->nodes[i]->state == LINK_UP && !redis->nodes[i]->is_leaving)
            return redis->nodes[i];
    return NULL;
}

void rk_redis_route(struct rk_redis *redis, struct rk_redis_call *call)
{
    struct rk_redis_link *link = rk_redis_aim(redis, call);
    if (link != NULL) {
        rk_redis_link_give(link, call);
        return;
    }
    call->place = CALL_QUEUED;
    rk_list_push_back(&redis->queue, &call->link_in);
    if (redis->guide != NULL && call->node == 0) rk_redis_ask_guide(redis);
}

static void note_text(struct rk_redis_call *call, struct rk_slice text)
{
    size_t size = text.size < sizeof(call->text) - 1 ? text.size : sizeof(call->text) - 1;
    if (size > 0) memcpy(call->text, text.data, size);
    call->text[size] = '\0';
}

/* Full jitter, and the bound doubles. */
static void pause(struct rk_redis *redis, struct rk_redis_call *call)
{
    uint64_t most = (uint64_t)PAUSE_MIN_US << (call->attempts < 8 ? call->attempts : 8);
    if (most > PAUSE_MAX_US) most = PAUSE_MAX_US;
    if (call->attempts < ATTEMPTS_COUNTED) call->attempts++;
    uint64_t at_us = rk_redis_now() + PAUSE_MIN_US / 4 + rk_redis_jitter(redis, most);
    redis->stats.repeated++;
    call->has_text = false;
    call->is_asking = false;
    call->place = CALL_PAUSED;
    rk_redis_wake_at(redis, &call->timer,
                     at_us < call->deadline_us ? at_us : call->deadline_us);
}

/* ---- errors ------------------------------------------------------------------------- */

static void redirect(struct rk_redis_link *link, struct rk_redis_call *call,
                     struct rk_slice text, enum rk_redis_verdict verdict)
{
    struct rk_redis *redis = link->redis;
    char host[RK_REDIS_HOST_MAX + 1];
    uint32_t slot;
    uint16_t port;
    note_text(call, text);
    if (!rk_redis_is_cluster(redis) ||
        rk_redis_read_redirect(text, &slot, host, &port) != RK_OK) {
        finish_text(redis, call, RK_EIO, call->text);
        return;
    }
    redis->stats.redirects++;
    struct rk_redis_link *other =
        rk_redis_cluster_node(redis, host[0] != '\0' ? host : link->host, port);
    if (verdict == RK_REDIS_MOVED) {
        if (other != NULL) redis->slots[slot] = other;
        rk_redis_ask_guide(redis);
    }
    if (other == NULL || call->node != 0 || ++call->redirects > REDIRECTS_AT_ONCE) {
        call->redirects = 0;
        pause(redis, call);
        return;
    }
    redis->stats.repeated++;
    call->has_text = false;
    call->is_asking = verdict == RK_REDIS_ASK;
    rk_redis_link_give(other, call);
}

static void bring_script(struct rk_redis_link *link, struct rk_redis_call *call,
                         struct rk_slice text)
{
    note_text(call, text);
    if (call->script == NULL) {
        finish_text(link->redis, call, RK_EIO, call->text);
        return;
    }
    call->has_text = true;
    link->redis->stats.repeated++;
    rk_redis_link_give(link, call);
}

static void answer_error(struct rk_redis_link *link, struct rk_redis_call *call,
                         struct rk_slice text)
{
    struct rk_redis *redis = link->redis;
    enum rk_status status;
    char copy[RK_REDIS_TEXT_MAX];
    size_t size = text.size < sizeof(copy) - 1 ? text.size : sizeof(copy) - 1;
    if (size > 0) memcpy(copy, text.data, size);
    copy[size] = '\0';
    switch (rk_redis_judge(text, &status)) {
    case RK_REDIS_ANSWER: finish_text(redis, call, status, copy); return;
    case RK_REDIS_MOVED: redirect(link, call, text, RK_REDIS_MOVED); return;
    case RK_REDIS_ASK: redirect(link, call, text, RK_REDIS_ASK); return;
    case RK_REDIS_NOSCRIPT: bring_script(link, call, text); return;
    case RK_REDIS_AGAIN: break;
    case RK_REDIS_REFRESH: rk_redis_ask_guide(redis); break;
    case RK_REDIS_LEAVE:
        rk_redis_ask_guide(redis);
        note_text(call, text);
        pause(redis, call);
        rk_redis_link_leave(link, copy);
        return;
    }
    note_text(call, text);
    pause(redis, call);
}

void rk_redis_answer(struct rk_redis_link *link, struct rk_redis_call *call,
                     const struct redisReply *reply)
{
    if (reply->type == REDIS_REPLY_ERROR) {
        answer_error(link, call, rk_redis_text(reply));
    } else if (call->wait_replicas == 0) {
        finish_reply(link->redis, call, reply, -1);
    } else {
        rk_arena_fini(&call->kept);
        call->kept = rk_redis_reader_keep(&link->reader);
        call->reply = reply;
        call->link = link;
        call->place = CALL_HELD;
        rk_list_push_back(&link->held, &call->link_in);
    }
}

void rk_redis_answer_wait(struct rk_redis_link *link, const struct rk_redis_call *wait,
                          const struct redisReply *reply)
{
    int32_t replicas = reply->type == REDIS_REPLY_INTEGER ? (int32_t)reply->integer : -1;
    uint64_t number = wait->sent_number;
    while (!rk_list_is_empty(&link->held)) {
        struct rk_redis_call *call =
            RK_CONTAINER(rk_list_first(&link->held), struct rk_redis_call, link_in);
        if (call->sent_number > number) return;
        finish_reply(link->redis, call, call->reply, replicas);
    }
}

/* ---- the end without an answer ------------------------------------------------------ */

void rk_redis_lose(struct rk_redis *redis, struct rk_redis_call *call, const char *reason)
{
    if (call->place == CALL_HELD) {
        finish_reply(redis, call, call->reply, -1);
        return;
    }
    rk_redis_call_unlink(redis, call);
    if (call->kind != CALL_USER || call->is_over) {
        rk_redis_call_put(redis, call);
    } else if (call->may_repeat) {
        redis->stats.repeated++;
        call->is_open = true;
        call->has_text = false;
        call->is_asking = false;
        note_text(call, rk_slice_of_string(reason));
        rk_redis_route(redis, call);
    } else {
        char text[RK_REDIS_TEXT_MAX];
        (void)snprintf(text, sizeof(text), "sent, and then: %.200s", reason);
        finish_text(redis, call, RK_EUNKNOWN, text);
    }
}

static void expire(struct rk_redis *redis, struct rk_redis_call *call)
{
    char text[RK_REDIS_TEXT_MAX];
    struct rk_redis_link *link = call->link;
    if (call->place == CALL_HELD) {
        finish_reply(redis, call, call->reply, -1);
    } else if (call->place == CALL_SENT) {
        finish_text(redis, call, RK_EUNKNOWN, "sent, and no answer by the deadline");
        link->is_overdue = true;
        if (link->state == LINK_UP) rk_redis_wake_at(redis, &link->timer, rk_redis_now());
    } else {
        const char *why =
            link != NULL && link->reason[0] != '\0' ? link->reason : rk_redis_reason(redis);
        if (call->node > redis->node_count) why = "there is no master of that number";
        if (link != NULL && link->state == LINK_UP) why = "too much was sent before it";
        (void)snprintf(text, sizeof(text), "not done by the deadline: %.200s",
                       call->text[0] != '\0' ? call->text : why);
        finish_text(redis, call, RK_EUNAVAILABLE, text);
    }
}

void rk_redis_call_timer(struct rk_redis *redis, struct rk_redis_call *call, uint64_t now)
{
    if (now >= call->deadline_us) {
        expire(redis, call);
        return;
    }
    rk_redis_wake_at(redis, &call->timer, call->deadline_us);
    if (call->place == CALL_PAUSED) rk_redis_route(redis, call);
}
