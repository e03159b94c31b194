/* stress.c - librukun as a busy application uses it, for the sanitizers and for faults.
 *
 *     client_stress ENDPOINTS SECONDS [THREADS]
 *
 * One client, many threads. Each counts under a lock in plain memory (so that two holders
 * at once would be seen), moves messages through a topic, and reads what it wrote; one
 * interrupts the others now and then. At the end the client is closed while calls are
 * under way. Prints what was done; exit 1 and a line each for what must not be. */
#include "rukun.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { RESOURCES = 4, THREADS_MAX = 64 };

struct shared {
    rukun_client *client;
    uint64_t end_ms;
    atomic_int holders[RESOURCES];
    _Atomic uint64_t fences[RESOURCES];
    atomic_ulong locks, messages, reads, refused, unknown, broken;
    atomic_bool is_ending;
};

struct worker {
    struct shared *shared;
    pthread_t thread;
    int number;
};

static uint64_t now_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

static void pause_ms(long ms)
{
    struct timespec span = {ms / 1000, (ms % 1000) * 1000000};
    nanosleep(&span, NULL);
}

static void broken(struct shared *shared, const char *what, const char *why)
{
    atomic_fetch_add(&shared->broken, 1);
    fprintf(stderr, "client_stress: %s: %s\n", what, why);
}

/* What a call may answer while nodes die, callers are interrupted and the client ends. */
static void refused(struct shared *shared, const char *what, const rukun_error *err)
{
    switch (err->code) {
    case RUKUN_EUNKNOWN: atomic_fetch_add(&shared->unknown, 1); return;
    case RUKUN_ECANCELLED:
    case RUKUN_ECLOSED:
    case RUKUN_ECONNECT:
    case RUKUN_EUNAVAILABLE:
    case RUKUN_ETIMEOUT:
    case RUKUN_EHELD:
    case RUKUN_ENOTOWNER:
    case RUKUN_ESESSION:
    case RUKUN_ESTALE: atomic_fetch_add(&shared->refused, 1); return;
    default: broken(shared, what, err->message); return;
    }
}

static void lock_once(struct shared *shared, int number)
{
    char name[32];
    int which = number % RESOURCES;
    (void)snprintf(name, sizeof(name), "stress/%d", which);
    rukun_lock_opts opts;
    rukun_lock_opts_init(&opts);
    opts.wait_ms = 3000;
    rukun_error err;
    rukun_error_init(&err);
    rukun_lock *lock = NULL;
    if (rukun_lock_acquire(&lock, shared->client, name, &opts, &err) != RUKUN_OK) {
        refused(shared, "lock", &err);
        return;
    }
    if (atomic_fetch_add(&shared->holders[which], 1) != 0 &&
        rukun_lock_check(lock, NULL) == RUKUN_OK)
        broken(shared, name, "two hold it at once");
    uint64_t fence = rukun_lock_fence(lock);
    uint64_t before = atomic_exchange(&shared->fences[which], fence);
    if (before >= fence) broken(shared, name, "its fence did not rise");
    atomic_fetch_sub(&shared->holders[which], 1);
    if (rukun_lock_release(lock, &err) != RUKUN_OK) refused(shared, "release", &err);
    rukun_lock_free(lock);
    atomic_fetch_add(&shared->locks, 1);
}

static void queue_once(struct shared *shared, int number, unsigned round)
{
    char topic[32], text[64];
    (void)snprintf(topic, sizeof(topic), "stress-%d", number % 8);
    (void)snprintf(text, sizeof(text), "{\"worker\":%d,\"round\":%u}", number, round);
    rukun_message message = {text, strlen(text), RUKUN_JSON};
    rukun_error err;
    rukun_error_init(&err);
    char id[RUKUN_ID_SIZE];
    if (rukun_queue_publish(shared->client, topic, &message, NULL, id, &err) != RUKUN_OK) {
        refused(shared, "publish", &err);
        return;
    }
    rukun_consume_opts opts;
    rukun_consume_opts_init(&opts);
    opts.max = 4;
    opts.wait_ms = 500;
    rukun_deliveries *deliveries = NULL;
    if (rukun_queue_consume(&deliveries, shared->client, topic, &opts, &err) != RUKUN_OK) {
        refused(shared, "consume", &err);
        return;
    }
    for (size_t i = 0; i < rukun_deliveries_count(deliveries); i++) {
        if (rukun_queue_ack(shared->client, rukun_delivery_id(deliveries, i), &err) !=
            RUKUN_OK)
            refused(shared, "ack", &err);
        else
            atomic_fetch_add(&shared->messages, 1);
    }
    rukun_deliveries_free(deliveries);
}

/* A key of its own: what it reads is what it wrote last, or newer if that is unknown. */
static void cache_once(struct shared *shared, int number, unsigned round)
{
    char key[32], text[32];
    (void)snprintf(key, sizeof(key), "stress-%d", number);
    (void)snprintf(text, sizeof(text), "%u", round);
    rukun_message message = {text, strlen(text), RUKUN_JSON};
    rukun_error err;
    rukun_error_init(&err);
    if (rukun_cache_put(shared->client, NULL, key, &message, NULL, NULL, &err) !=
        RUKUN_OK) {
        refused(shared, "put", &err);
        return;
    }
    rukun_value *value = NULL;
    if (rukun_cache_get(&value, shared->client, NULL, key, &err) != RUKUN_OK) {
        refused(shared, "get", &err);
        return;
    }
    size_t size = 0;
    const void *data = rukun_value_data(value, &size);
    if (value == NULL || size != strlen(text) || memcmp(data, text, size) != 0)
        broken(shared, key, "a read is older than this client's own write");
    rukun_value_free(value);
    atomic_fetch_add(&shared->reads, 1);
}

static void *work(void *context)
{
    struct worker *worker = context;
    struct shared *shared = worker->shared;
    for (unsigned round = 1; !atomic_load(&shared->is_ending); round++) {
        lock_once(shared, worker->number + (int)round);
        queue_once(shared, worker->number, round);
        cache_once(shared, worker->number, round);
    }
    return NULL;
}

/* A child has the handle but not the thread: it must be told, not hang or crash. */
static void fork_once(struct shared *shared)
{
    pid_t pid = fork();
    if (pid == 0) {
        rukun_value *value = NULL;
        rukun_status status = rukun_cache_get(&value, shared->client, NULL, "k", NULL);
        _exit(status == RUKUN_EFORK ? 0 : 1);
    }
    int result = 1;
    if (pid < 0 || waitpid(pid, &result, 0) != pid || result != 0)
        broken(shared, "fork", "the child was not told");
}

int main(int argc, char **argv)
{
    if (argc < 3) {
        fprintf(stderr, "usage: client_stress ENDPOINTS SECONDS [THREADS]\n");
        return 2;
    }
    static struct shared shared;
    static struct worker workers[THREADS_MAX];
    long threads = argc > 3 ? strtol(argv[3], NULL, 10) : 8;
    if (threads < 1 || threads > THREADS_MAX) threads = 8;
    rukun_options options;
    rukun_options_init(&options);
    options.endpoints = argv[1];
    options.session_ttl_ms = 5000;
    rukun_error err;
    rukun_error_init(&err);
    if (rukun_client_open(&shared.client, &options, &err) != RUKUN_OK) {
        fprintf(stderr, "client_stress: %s\n", err.message);
        return 1;
    }
    fork_once(&shared);
    for (long i = 0; i < threads; i++) {
        workers[i] = (struct worker){.shared = &shared, .number = (int)i};
        if (pthread_create(&workers[i].thread, NULL, work, &workers[i]) != 0) return 1;
    }
    uint64_t end_ms = now_ms() + strtoull(argv[2], NULL, 10) * 1000;
    while (now_ms() < end_ms) {
        pause_ms(700);
        rukun_client_interrupt(shared.client);
    }
    /* Close under load: all calls that wait end, none hangs. */
    rukun_client_close(shared.client);
    atomic_store(&shared.is_ending, true);
    for (long i = 0; i < threads; i++)
        (void)pthread_join(workers[i].thread, NULL);
    rukun_client_free(shared.client);
    printf("{\"locks\":%lu,\"messages\":%lu,\"reads\":%lu,\"refused\":%lu,\"unknown\":%lu,"
           "\"broken\":%lu}\n",
           shared.locks, shared.messages, shared.reads, shared.refused, shared.unknown,
           shared.broken);
    return shared.broken == 0 && shared.locks > 0 ? 0 : 1;
}
