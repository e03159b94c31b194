#include "redis/offline.h"

#include "base/alloc.h"

#include <event2/dns.h>
#include <event2/event.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

struct sent {
    struct rk_list link; /* in offline->sent */
    struct rk_offline *offline;
    rk_offline_heard *heard;
    void *context;
};

enum rk_status rk_offline_fail(struct rk_offline *offline, enum rk_status status,
                               const char *format, ...)
{
    if (offline->status != RK_OK) return offline->status;
    va_list arguments;
    va_start(arguments, format);
    (void)vsnprintf(offline->error.text, sizeof(offline->error.text), format, arguments);
    va_end(arguments);
    offline->status = status;
    return status;
}

static void on_log(void *context, enum rk_redis_level level, const char *text)
{
    (void)context;
    if (level != RK_REDIS_INFO) (void)fprintf(stderr, "rukund: %s\n", text);
}

static void on_state(void *context, bool is_up)
{
    struct rk_offline *offline = context;
    (void)is_up;
    (void)event_base_loopbreak(offline->base);
}

static void on_time(evutil_socket_t fd, short what, void *context)
{
    (void)fd;
    (void)what;
    *(bool *)context = true;
}

static enum rk_status wait_up(struct rk_offline *offline)
{
    uint32_t ms = offline->url.timeout_ms;
    struct timeval span = {ms / 1000, (int)(ms % 1000) * 1000};
    bool is_over = false;
    struct event *timer = event_new(offline->base, -1, 0, on_time, &is_over);
    if (timer == NULL || event_add(timer, &span) != 0) {
        if (timer != NULL) event_free(timer);
        return RK_ENOMEM;
    }
    while (!is_over && !rk_redis_is_up(offline->redis))
        if (event_base_loop(offline->base, EVLOOP_ONCE) < 0) break;
    event_free(timer);
    if (rk_redis_is_up(offline->redis)) return RK_OK;
    return rk_offline_fail(offline, RK_EUNAVAILABLE, "Redis: %.200s",
                           rk_redis_reason(offline->redis));
}

enum rk_status rk_offline_open(struct rk_offline *offline, const char *url,
                               const char *client_name)
{
    struct timespec now;
    memset(offline, 0, sizeof(*offline));
    rk_list_init(&offline->sent);
    enum rk_status status = rk_redis_url_parse(&offline->url, url, &offline->error);
    if (status != RK_OK) return offline->status = status;
    offline->base = event_base_new();
    if (offline->base != NULL)
        offline->dns = evdns_base_new(offline->base, EVDNS_BASE_INITIALIZE_NAMESERVERS |
                                                         EVDNS_BASE_DISABLE_WHEN_INACTIVE);
    if (offline->base == NULL) return rk_offline_fail(offline, RK_ENOMEM, "out of memory");
    (void)clock_gettime(CLOCK_REALTIME, &now);
    struct rk_redis_options options = {
        .struct_size = sizeof(options),
        .base = offline->base,
        .dns = offline->dns,
        .url = &offline->url,
        .client_name = client_name,
        .seed = (uint64_t)now.tv_nsec,
        .io = {offline, on_log, on_state, NULL, NULL},
    };
    status = rk_redis_new(&offline->redis, &options, &offline->error);
    if (status == RK_OK) status = wait_up(offline);
    return offline->status = status;
}

void rk_offline_close(struct rk_offline *offline)
{
    rk_redis_free(offline->redis);
    while (offline->base != NULL && !rk_list_is_empty(&offline->sent)) {
        struct sent *sent = RK_CONTAINER(offline->sent.next, struct sent, link);
        rk_list_remove(&sent->link);
        rk_free(sent);
    }
    if (offline->dns != NULL) evdns_base_free(offline->dns, 0);
    if (offline->base != NULL) event_base_free(offline->base);
    rk_redis_url_fini(&offline->url);
    memset(offline, 0, sizeof(*offline));
}

static void on_done(void *context, const struct rk_redis_result *result)
{
    struct sent *sent = context;
    struct rk_offline *offline = sent->offline;
    if (--offline->open == 0) offline->open_bytes = 0;
    if (result->status != RK_OK)
        (void)rk_offline_fail(offline, result->status, "Redis: %.200s", result->text);
    else if (sent->heard != NULL && offline->status == RK_OK)
        sent->heard(sent->context, result->reply);
    rk_list_remove(&sent->link);
    rk_free(sent);
}

static enum rk_status run(struct rk_offline *offline, uint32_t commands)
{
    while (offline->open > commands ||
           (offline->open > 0 && offline->open_bytes > RK_OFFLINE_BYTES))
        if (event_base_loop(offline->base, EVLOOP_ONCE) < 0)
            return rk_offline_fail(offline, RK_EIO, "the event loop failed");
    return offline->status;
}

static enum rk_status room(struct rk_offline *offline, struct sent **out, size_t bytes)
{
    enum rk_status status = run(offline, RK_OFFLINE_COMMANDS - 1);
    if (status != RK_OK) return status;
    *out = rk_calloc(1, sizeof(**out));
    if (*out == NULL) return rk_offline_fail(offline, RK_ENOMEM, "out of memory");
    rk_list_push_back(&offline->sent, &(*out)->link);
    offline->open_bytes += bytes;
    return RK_OK;
}

static size_t size_of(const struct rk_slice *args, uint32_t count)
{
    size_t size = 0;
    for (uint32_t i = 0; i < count; i++)
        size += args[i].size;
    return size;
}

static struct rk_redis_ask ask_of(const struct rk_redis_ask *wish, struct sent *sent)
{
    struct rk_redis_ask ask = *wish;
    ask.done = on_done;
    ask.context = sent;
    ask.deadline_ms = RK_OFFLINE_DEADLINE_MS;
    ask.may_repeat = true;
    return ask;
}

static enum rk_status sent_check(struct sent *sent, uint64_t id)
{
    struct rk_offline *offline = sent->offline;
    if (id != 0) {
        offline->open++;
        return offline->status;
    }
    rk_list_remove(&sent->link);
    rk_free(sent);
    return rk_offline_fail(offline, RK_ENOMEM, "out of memory");
}

enum rk_status rk_offline_send(struct rk_offline *offline,
                               const struct rk_redis_command *command,
                               rk_offline_heard *heard, void *context)
{
    struct sent *sent = NULL;
    struct rk_redis_command own = *command;
    enum rk_status status = room(offline, &sent, size_of(own.args, own.arg_count));
    if (status != RK_OK) return status;
    sent->offline = offline;
    sent->heard = heard;
    sent->context = context;
    own.ask = ask_of(&command->ask, sent);
    return sent_check(sent, rk_redis_send(offline->redis, &own));
}

enum rk_status rk_offline_eval(struct rk_offline *offline, const struct rk_redis_eval *eval,
                               rk_offline_heard *heard, void *context)
{
    struct sent *sent = NULL;
    struct rk_redis_eval own = *eval;
    enum rk_status status = room(offline, &sent, size_of(own.args, own.arg_count));
    if (status != RK_OK) return status;
    sent->offline = offline;
    sent->heard = heard;
    sent->context = context;
    own.ask = ask_of(&eval->ask, sent);
    return sent_check(sent, rk_redis_eval(offline->redis, &own));
}

enum rk_status rk_offline_drain(struct rk_offline *offline)
{
    return run(offline, 0);
}
