/* client.c - life of a client, its options, errors and the small public functions. */
#include "internal.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/random.h>
#include <time.h>
#include <unistd.h>

#include "base/alloc.h"

#define SESSION_TTL_MIN_MS 1000
#define SESSION_TTL_MAX_MS 3600000

uint64_t rk_now_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_BOOTTIME, &now);
    return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

void rukun_error_init(rukun_error *err)
{
    if (err == NULL) return;
    memset(err, 0, sizeof(*err));
    err->struct_size = sizeof(*err);
}

const char *rukun_status_name(rukun_status status)
{
    return rk_status_info((enum rk_status)status)->wire;
}

const char *rukun_version(void)
{
    return RUKUN_VERSION_TEXT;
}

void rukun_options_init(rukun_options *opts)
{
    if (opts == NULL) return;
    memset(opts, 0, sizeof(*opts));
    opts->struct_size = sizeof(*opts);
    opts->session_ttl_ms = 10000;
    opts->deadline_ms = 10000;
    opts->forward = 1;
    opts->values = RUKUN_JSON;
}

enum rk_status rk_error_set(rukun_error *err, enum rk_status status, const char *format,
                            ...)
{
    if (err == NULL || err->struct_size < sizeof(*err)) return status;
    rukun_error_init(err);
    err->code = (rukun_status)status;
    err->retryable = rk_status_info(status)->is_retryable;
    err->outcome = status == RK_EUNKNOWN ? RUKUN_OUTCOME_UNKNOWN : RUKUN_NOT_DONE;
    va_list args;
    va_start(args, format);
    (void)vsnprintf(err->message, sizeof(err->message), format, args);
    va_end(args);
    return status;
}

enum rk_status rk_error_of_api(rukun_error *err, const struct rk_api_error *error)
{
    (void)rk_error_set(err, error->status, "%s", error->text);
    if (err != NULL && err->struct_size >= sizeof(*err))
        (void)snprintf(err->field, sizeof(err->field), "%s", error->field);
    return error->status;
}

void rk_client_retain(struct rukun_client *client)
{
    atomic_fetch_add(&client->references, 1);
}

void rk_client_release(struct rukun_client *client)
{
    if (atomic_fetch_sub(&client->references, 1) != 1) return;
    if (client->wake_fd >= 0) close(client->wake_fd);
    pthread_mutex_destroy(&client->lock);
    pthread_cond_destroy(&client->changed);
    rk_free(client);
}

enum rk_status rk_client_check(const struct rukun_client *client, rukun_error *err)
{
    if (client == NULL) return rk_error_set(err, RK_EINVAL, "client is NULL");
    if (client->pid != getpid())
        return rk_error_set(
            err, RK_EFORK,
            "client of process %ld used in process %ld: open a new one after "
            "fork()",
            (long)client->pid, (long)getpid());
    return RK_OK;
}

void rk_client_wake(struct rukun_client *client)
{
    uint64_t one = 1;
    ssize_t written = write(client->wake_fd, &one, sizeof(one));
    (void)written; /* EAGAIN: the counter is full, so the thread is awake already */
}

/* One endpoint of the list: "host:port" or "http://host:port". */
static enum rk_status endpoint_add(struct rukun_client *client, const char *text,
                                   size_t size, rukun_error *err)
{
    char address[RK_ADDRESS_SIZE];
    bool is_http = size > 7 && memcmp(text, "http://", 7) == 0;
    if (is_http) {
        text += 7;
        size -= 7;
        while (size > 0 && text[size - 1] == '/')
            size--;
    }
    const char *colon = (const char *)memrchr(text, ':', size);
    if (size >= sizeof(address) || size == 0 || colon == NULL || colon == text)
        return rk_error_set(err, RK_EINVAL,
                            "endpoints: \"%.*s\" is not host:port or http://host:port",
                            (int)(size < 80 ? size : 80), text);
    memcpy(address, text, size);
    address[size] = '\0';
    char *end = NULL;
    unsigned long port = strtoul(address + (colon - text) + 1, &end, 10);
    if (*end != '\0' || port == 0 || port > 65535)
        return rk_error_set(err, RK_EINVAL,
                            "endpoints: the port of \"%s\" is not in 1..65535", address);
    if (is_http) {
        if (client->http_count == RK_ENDPOINTS_MAX)
            return rk_error_set(err, RK_EINVAL, "endpoints: more than %d",
                                RK_ENDPOINTS_MAX);
        memcpy(client->http_endpoints[client->http_count++], address, size + 1);
        return RK_OK;
    }
    if (client->link_count >= RK_ENDPOINTS_MAX)
        return rk_error_set(err, RK_EINVAL, "endpoints: more than %d", RK_ENDPOINTS_MAX);
    struct rk_link *link = rk_link_of(client, address);
    if (link == NULL) return rk_error_set(err, RK_ENOMEM, "out of memory");
    link->is_known = true;
    return RK_OK;
}

static enum rk_status endpoints_parse(struct rukun_client *client, const char *list,
                                      rukun_error *err)
{
    const char *at = list;
    while (*at != '\0') {
        while (*at == ' ' || *at == ',')
            at++;
        size_t size = strcspn(at, ", ");
        if (size == 0) break;
        enum rk_status status = endpoint_add(client, at, size, err);
        if (status != RK_OK) return status;
        at += size;
    }
    if (client->link_count == 0 && client->http_count == 0)
        return rk_error_set(err, RK_EINVAL, "endpoints: none given");
    return RK_OK;
}

static enum rk_status options_take(struct rukun_client *client, const rukun_options *opts,
                                   rukun_error *err)
{
    if (opts->struct_size != sizeof(*opts))
        return rk_error_set(err, RK_EINVAL, "options: struct_size is %u, not %zu",
                            opts->struct_size, sizeof(*opts));
    if (opts->session_ttl_ms < SESSION_TTL_MIN_MS ||
        opts->session_ttl_ms > SESSION_TTL_MAX_MS)
        return rk_error_set(err, RK_ERANGE, "session_ttl_ms: %llu is not in %d..%d",
                            (unsigned long long)opts->session_ttl_ms, SESSION_TTL_MIN_MS,
                            SESSION_TTL_MAX_MS);
    if (opts->deadline_ms < 1 || opts->deadline_ms > RK_DEADLINE_MAX_MS)
        return rk_error_set(err, RK_ERANGE, "deadline_ms: %llu is not in 1..%d",
                            (unsigned long long)opts->deadline_ms, RK_DEADLINE_MAX_MS);
    client->session_ttl_ms = opts->session_ttl_ms;
    client->default_deadline_ms = opts->deadline_ms;
    if (opts->values != RUKUN_JSON && opts->values != RUKUN_MSGPACK)
        return rk_error_set(err, RK_ERANGE, "values: %d is neither JSON nor msgpack",
                            (int)opts->values);
    client->values = (enum rk_encoding)opts->values;
    client->is_forwarding = opts->forward != 0;
    client->interrupted = opts->interrupted;
    client->interrupted_context = opts->context;
    const char *token = opts->token != NULL ? opts->token : getenv("RUKUN_TOKEN");
    if (token != NULL && strlen(token) >= sizeof(client->token))
        return rk_error_set(err, RK_ERANGE, "token: longer than %zu bytes",
                            sizeof(client->token) - 1);
    (void)snprintf(client->token, sizeof(client->token), "%s", token != NULL ? token : "");
    if (opts->name != NULL)
        (void)snprintf(client->name, sizeof(client->name), "%s", opts->name);
    else
        (void)snprintf(client->name, sizeof(client->name), "%s.%ld",
                       program_invocation_short_name, (long)getpid());
    const char *endpoints = opts->endpoints;
    if (endpoints == NULL) endpoints = getenv("RUKUN_ENDPOINTS");
    if (endpoints == NULL || *endpoints == '\0') endpoints = "127.0.0.1:7500";
    return endpoints_parse(client, endpoints, err);
}

static struct rukun_client *client_alloc(void)
{
    struct rukun_client *client = rk_calloc(1, sizeof(*client));
    if (client == NULL) return NULL;
    atomic_init(&client->references, 1);
    client->pid = getpid();
    client->wake_fd = -1;
    client->next_seq = 1;
    client->next_rpc_id = 1;
    rk_list_init(&client->submitted);
    rk_list_init(&client->abandoned);
    rk_list_init(&client->unanswered);
    rk_list_init(&client->queued);
    pthread_mutex_init(&client->lock, NULL);
    pthread_condattr_t attributes;
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(&client->changed, &attributes);
    pthread_condattr_destroy(&attributes);
    uint64_t seeds[2] = {0, 0};
    if (getrandom(seeds, sizeof(seeds), 0) != (ssize_t)sizeof(seeds))
        seeds[0] = rk_now_ms() ^ ((uint64_t)getpid() << 32);
    rk_random_init(&client->random, seeds[0]);
    (void)snprintf(client->id, sizeof(client->id), "c%016llx",
                   (unsigned long long)(seeds[1] ^ seeds[0]));
    return client;
}

/* Until the first cluster document came or the deadline passed. */
static enum rk_status wait_for_cluster(struct rukun_client *client, rukun_error *err)
{
    uint64_t until = rk_now_ms() + client->default_deadline_ms;
    enum rk_status status = RK_OK;
    pthread_mutex_lock(&client->lock);
    while (client->topology.group_count == 0 && client->open_status != RK_EAUTH &&
           client->open_status != RK_EPROTO) {
        uint64_t now = rk_now_ms();
        if (now >= until) break;
        uint64_t slice = until - now < 50 ? until - now : 50;
        struct timespec at;
        clock_gettime(CLOCK_MONOTONIC, &at);
        at.tv_nsec += (long)slice * 1000000;
        at.tv_sec += at.tv_nsec / 1000000000;
        at.tv_nsec %= 1000000000;
        pthread_cond_timedwait(&client->changed, &client->lock, &at);
        if (client->interrupted != NULL) {
            pthread_mutex_unlock(&client->lock);
            int is_interrupted = client->interrupted(client->interrupted_context);
            pthread_mutex_lock(&client->lock);
            if (is_interrupted) {
                status = rk_error_set(err, RK_ECANCELLED, "interrupted");
                break;
            }
        }
    }
    if (status == RK_OK && client->topology.group_count == 0) {
        status = client->open_status == RK_OK ? RK_ECONNECT : client->open_status;
        (void)rk_error_set(err, status, "no endpoint answered within %llu ms: %s",
                           (unsigned long long)client->default_deadline_ms,
                           client->open_text[0] != '\0' ? client->open_text : "no answer");
    }
    pthread_mutex_unlock(&client->lock);
    return status;
}

rukun_status rukun_client_open(rukun_client **out, const rukun_options *opts,
                               rukun_error *err)
{
    if (out == NULL) return (rukun_status)rk_error_set(err, RK_EINVAL, "out is NULL");
    *out = NULL;
    rukun_options defaults;
    if (opts == NULL) {
        rukun_options_init(&defaults);
        opts = &defaults;
    }
    struct rukun_client *client = client_alloc();
    if (client == NULL) return (rukun_status)rk_error_set(err, RK_ENOMEM, "out of memory");
    enum rk_status status = options_take(client, opts, err);
    if (status != RK_OK) goto fail;
    client->wake_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    if (client->wake_fd < 0) {
        status = rk_error_set(err, RK_ELIMIT, "eventfd: %s", strerror(errno));
        goto fail;
    }
    int failed = pthread_create(&client->thread, NULL, rk_io_main, client);
    if (failed != 0) {
        status = rk_error_set(err, RK_ELIMIT, "thread: %s", strerror(failed));
        goto fail;
    }
    client->has_thread = true;
    status = wait_for_cluster(client, err);
    if (status != RK_OK) goto fail;
    *out = client;
    return RUKUN_OK;

fail:
    rukun_client_free(client);
    return (rukun_status)status;
}

void rukun_client_close(rukun_client *client)
{
    if (client == NULL || client->pid != getpid()) return;
    pthread_mutex_lock(&client->lock);
    bool is_first = !client->is_closing;
    client->is_closing = true;
    pthread_mutex_unlock(&client->lock);
    if (!is_first) return;
    if (client->has_thread) {
        rk_client_wake(client);
        pthread_join(client->thread, NULL);
    }
    for (uint32_t i = 0; i < client->link_count; i++)
        rk_link_free(client->links[i]);
    client->link_count = 0;
}

void rukun_client_free(rukun_client *client)
{
    if (client == NULL) return;
    /* After a fork the thread is not here: its memory is left to the process' end. */
    if (client->pid != getpid()) return;
    rukun_client_close(client);
    rk_client_release(client);
}

void rukun_client_interrupt(rukun_client *client)
{
    if (rk_client_check(client, NULL) != RK_OK) return;
    pthread_mutex_lock(&client->lock);
    client->interrupts++;
    pthread_mutex_unlock(&client->lock);
}
