/* lock.c - locks: handles with an owner of their own, known to be held by this clock. */
#include "internal.h"

#include <stdio.h>
#include <string.h>

#include "base/alloc.h"

#define OWNER_SIZE (RK_NAME_MAX + 1)

struct rukun_lock {
    struct rukun_client *client; /* retained */
    char *resource;
    char owner[OWNER_SIZE];
    char session[80];        /* "" for a lease of its own */
    uint64_t session_number; /* of the client, at the grant */
    uint64_t fence;
    uint64_t safe_until_ms; /* without a session */
    uint64_t lease_ms;
    atomic_bool is_released;
};

/* What is left to do when nobody knows whether a lock was granted: cancel the wait, and
 * release what was granted. Its number stays open, so that the node still knows it. */
struct undo {
    struct rukun_client *client; /* retained */
    struct rk_open open;
    char *resource;
    char owner[OWNER_SIZE];
    char session[80];
};

void rukun_lock_opts_init(rukun_lock_opts *opts)
{
    if (opts == NULL) return;
    memset(opts, 0, sizeof(*opts));
    opts->struct_size = sizeof(*opts);
    opts->mode = RUKUN_EXCLUSIVE;
    opts->wait_ms = RUKUN_WAIT_FOREVER;
}

static void undo_free(struct undo *undo)
{
    if (undo == NULL) return;
    struct rukun_client *client = undo->client;
    pthread_mutex_lock(&client->lock);
    rk_list_remove(&undo->open.link);
    pthread_mutex_unlock(&client->lock);
    rk_free(undo->resource);
    rk_free(undo);
    rk_client_release(client);
}

static struct rk_request release_request(const char *resource, const char *owner,
                                         const char *session, uint64_t fence)
{
    struct rk_request request;
    memset(&request, 0, sizeof(request));
    request.op = RK_OP_LOCK_RELEASE;
    request.resource = rk_slice_of_string(resource);
    RK_SET(&request, RESOURCE);
    request.owner = rk_slice_of_string(owner);
    RK_SET(&request, OWNER);
    if (session[0] != '\0') {
        request.session = rk_slice_of_string(session);
        RK_SET(&request, SESSION);
    }
    if (fence != 0) {
        request.fence = fence;
        RK_SET(&request, FENCE);
    }
    request.forward = true;
    return request;
}

static void released_done(struct rk_call *call, void *context)
{
    (void)context;
    rk_call_free(call);
}

static void undo_done(struct rk_call *call, void *context)
{
    struct undo *undo = context;
    struct rk_arena arena;
    rk_arena_init(&arena);
    struct rk_reply reply;
    if (rk_call_decode(call, &arena, &reply) == RK_OK && reply.status == RK_OK &&
        reply.granted) {
        struct rk_request request =
            release_request(undo->resource, undo->owner, undo->session, reply.fence);
        (void)rk_call_background(undo->client, &request, released_done, NULL);
    }
    rk_arena_fini(&arena);
    rk_call_free(call);
    undo_free(undo);
}

static void undo_start(struct undo *undo)
{
    struct rk_request request;
    memset(&request, 0, sizeof(request));
    request.op = RK_OP_LOCK_CANCEL;
    request.target_client = rk_slice_of_string(undo->client->id);
    RK_SET(&request, TARGET_CLIENT);
    request.target_seq = undo->open.seq;
    RK_SET(&request, TARGET_SEQ);
    request.forward = true;
    if (rk_call_background(undo->client, &request, undo_done, undo) != RK_OK)
        undo_free(undo);
}

static struct undo *undo_new(struct rukun_client *client, const struct rukun_lock *lock)
{
    struct undo *undo = rk_calloc(1, sizeof(*undo));
    if (undo == NULL) return NULL;
    undo->client = client;
    rk_client_retain(client);
    undo->resource = rk_strdup(lock->resource);
    if (undo->resource == NULL) {
        undo_free(undo);
        return NULL;
    }
    memcpy(undo->owner, lock->owner, sizeof(undo->owner));
    memcpy(undo->session, lock->session, sizeof(undo->session));
    return undo;
}

static enum rk_status opts_check(const rukun_lock_opts *opts, rukun_error *err)
{
    if (opts->struct_size != sizeof(*opts))
        return rk_error_set(err, RK_EINVAL, "opts: struct_size is %u, not %zu",
                            opts->struct_size, sizeof(*opts));
    if (opts->mode != RUKUN_EXCLUSIVE && opts->mode != RUKUN_SHARED)
        return rk_error_set(err, RK_ERANGE, "mode: %d is neither exclusive nor shared",
                            (int)opts->mode);
    if (opts->owner != NULL && strlen(opts->owner) >= OWNER_SIZE)
        return rk_error_set(err, RK_ERANGE, "owner: longer than %d bytes", RK_NAME_MAX);
    return RK_OK;
}

static struct rukun_lock *lock_new(struct rukun_client *client, const char *resource,
                                   const rukun_lock_opts *opts)
{
    struct rukun_lock *lock = rk_calloc(1, sizeof(*lock));
    if (lock == NULL) return NULL;
    lock->resource = rk_strdup(resource);
    if (lock->resource == NULL) {
        rk_free(lock);
        return NULL;
    }
    lock->client = client;
    rk_client_retain(client);
    atomic_init(&lock->is_released, true); /* nothing to give back yet */
    if (opts->owner != NULL) {
        (void)snprintf(lock->owner, sizeof(lock->owner), "%s", opts->owner);
        return lock;
    }
    pthread_mutex_lock(&client->lock);
    uint64_t number = ++client->owner_count;
    pthread_mutex_unlock(&client->lock);
    (void)snprintf(lock->owner, sizeof(lock->owner), "%s/%s.%llu", client->name, client->id,
                   (unsigned long long)number);
    return lock;
}

static void lock_destroy(struct rukun_lock *lock)
{
    struct rukun_client *client = lock->client;
    rk_free(lock->resource);
    rk_free(lock);
    rk_client_release(client);
}

static void request_fill(struct rk_request *request, const struct rukun_lock *lock,
                         const rukun_lock_opts *opts, struct rk_resource_in *item)
{
    memset(request, 0, sizeof(*request));
    request->op = RK_OP_LOCK_ACQUIRE;
    request->forward = true;
    request->resource = rk_slice_of_string(lock->resource);
    RK_SET(request, RESOURCE);
    item->resource = request->resource;
    item->mode = (uint8_t)opts->mode;
    request->resources = item;
    request->resource_count = 1;
    request->owner = rk_slice_of_string(lock->owner);
    RK_SET(request, OWNER);
    request->mode = (uint8_t)opts->mode;
    RK_SET(request, MODE);
    if (lock->session[0] != '\0') {
        request->session = rk_slice_of_string(lock->session);
        RK_SET(request, SESSION);
    } else {
        request->lease_ms = opts->lease_ms;
        RK_SET(request, LEASE_MS);
    }
    if (opts->wait_ms != 0) {
        request->wait_ms =
            opts->wait_ms < RK_DEADLINE_MAX_MS ? opts->wait_ms : RK_DEADLINE_MAX_MS;
        RK_SET(request, WAIT_MS);
    }
#define TAKE(member, NAME)                                                                 \
    if (opts->member != 0) {                                                               \
        request->member = opts->member;                                                    \
        RK_SET(request, NAME);                                                             \
    }
    TAKE(priority, PRIORITY)
    TAKE(min_hold_ms, MIN_HOLD_MS)
    TAKE(max_hold_ms, MAX_HOLD_MS)
    TAKE(lock_delay_ms, LOCK_DELAY_MS)
#undef TAKE
}

/* Starts the lease anew, so that it is known from when it counts. On an error the lock
 * is given back in the background. */
static enum rk_status lease_renew(struct rukun_lock *lock, rukun_error *err)
{
    struct rk_request request =
        release_request(lock->resource, lock->owner, lock->session, lock->fence);
    request.op = RK_OP_LOCK_RENEW;
    request.lease_ms = lock->lease_ms;
    RK_SET(&request, LEASE_MS);
    uint64_t started_ms = rk_now_ms();
    struct rk_arena arena;
    rk_arena_init(&arena);
    struct rk_reply reply;
    struct rk_call *call = NULL;
    enum rk_status status =
        rk_call_run(&call, lock->client, &request, 0, &arena, &reply, err);
    if (status == RK_OK) {
        uint64_t drift = lock->lease_ms / 10 > 200 ? lock->lease_ms / 10 : 200;
        lock->safe_until_ms =
            started_ms + (lock->lease_ms > drift ? lock->lease_ms - drift : 0);
    } else {
        request = release_request(lock->resource, lock->owner, lock->session, lock->fence);
        (void)rk_call_background(lock->client, &request, released_done, NULL);
        atomic_store(&lock->is_released, true);
    }
    rk_call_free(call);
    rk_arena_fini(&arena);
    return status;
}

/* One request, which waits at most as long as one request can. */
static enum rk_status acquire_once(struct rukun_lock *lock, const rukun_lock_opts *opts,
                                   uint64_t wait_ms, rukun_error *err)
{
    struct rukun_client *client = lock->client;
    rukun_lock_opts bounded = *opts;
    bounded.wait_ms = wait_ms;
    struct rk_request request;
    struct rk_resource_in item;
    request_fill(&request, lock, &bounded, &item);
    struct undo *undo = undo_new(client, lock);
    if (undo == NULL) return rk_error_set(err, RK_ENOMEM, "out of memory");
    struct rk_call *call = NULL;
    enum rk_status status = rk_call_new(&call, client, &request, wait_ms, err);
    if (status != RK_OK) {
        undo_free(undo);
        return status;
    }
    pthread_mutex_lock(&client->lock);
    undo->open.seq = call->open.seq;
    rk_list_insert_between(&undo->open.link, &call->open.link, call->open.link.next);
    pthread_mutex_unlock(&client->lock);
    call->undo = &undo->open;
    uint64_t started_ms = call->started_ms;
    bool has_waited = false;
    struct rk_arena arena;
    rk_arena_init(&arena);
    struct rk_reply reply;
    status = rk_call_wait(call, &arena, &reply, err);
    if (status == RK_OK) {
        lock->fence = reply.fence;
        lock->lease_ms = reply.lease_ms;
        uint64_t drift = reply.lease_ms / 10 > 200 ? reply.lease_ms / 10 : 200;
        lock->safe_until_ms =
            started_ms + (reply.lease_ms > drift ? reply.lease_ms - drift : 0);
        atomic_store(&lock->is_released, false);
        has_waited = rk_now_ms() - started_ms > drift / 2;
        rk_call_free(call);
    }
    rk_arena_fini(&arena);
    if (status == RK_EUNKNOWN || status == RK_ECANCELLED || status == RK_EPROTO)
        undo_start(undo);
    else
        undo_free(undo);
    /* A lease of its own began at the grant, of which only the answer is known here. */
    if (status == RK_OK && lock->session[0] == '\0' && has_waited)
        status = lease_renew(lock, err);
    return status;
}

static enum rk_status acquire(struct rukun_lock *lock, const rukun_lock_opts *opts,
                              rukun_error *err)
{
    struct rukun_client *client = lock->client;
    uint64_t started_ms = rk_now_ms();
    for (;;) {
        if (opts->lease_ms == 0) {
            enum rk_status status =
                rk_session_ensure(client, lock->session, &lock->session_number, err);
            if (status != RK_OK) return status;
        }
        uint64_t waited_ms = rk_now_ms() - started_ms;
        uint64_t wait_ms = opts->wait_ms;
        if (wait_ms != RUKUN_WAIT_FOREVER)
            wait_ms = wait_ms > waited_ms ? wait_ms - waited_ms : 0;
        bool is_partial = wait_ms > RK_DEADLINE_MAX_MS;
        enum rk_status status =
            acquire_once(lock, opts, is_partial ? RK_DEADLINE_MAX_MS : wait_ms, err);
        if (status == RK_ETIMEOUT && is_partial) continue;
        if (status == RK_ESESSION && opts->lease_ms == 0)
            rk_session_lose(client, lock->session_number);
        return status;
    }
}

rukun_status rukun_lock_acquire(rukun_lock **out, rukun_client *client,
                                const char *resource, const rukun_lock_opts *opts,
                                rukun_error *err)
{
    if (out == NULL) return (rukun_status)rk_error_set(err, RK_EINVAL, "out is NULL");
    *out = NULL;
    enum rk_status status = rk_client_check(client, err);
    if (status != RK_OK) return (rukun_status)status;
    if (resource == NULL)
        return (rukun_status)rk_error_set(err, RK_EINVAL, "resource is NULL");
    rukun_lock_opts defaults;
    if (opts == NULL) {
        rukun_lock_opts_init(&defaults);
        opts = &defaults;
    }
    status = opts_check(opts, err);
    if (status != RK_OK) return (rukun_status)status;
    struct rukun_lock *lock = lock_new(client, resource, opts);
    if (lock == NULL) return (rukun_status)rk_error_set(err, RK_ENOMEM, "out of memory");
    status = acquire(lock, opts, err);
    if (status == RK_OK)
        *out = lock;
    else
        lock_destroy(lock);
    return (rukun_status)status;
}

uint64_t rukun_lock_fence(const rukun_lock *lock)
{
    return lock != NULL ? lock->fence : 0;
}

const char *rukun_lock_resource(const rukun_lock *lock)
{
    return lock != NULL ? lock->resource : "";
}

const char *rukun_lock_owner(const rukun_lock *lock)
{
    return lock != NULL ? lock->owner : "";
}

uint64_t rukun_lock_left_ms(const rukun_lock *lock)
{
    if (lock == NULL || atomic_load(&lock->is_released)) return 0;
    if (lock->session[0] != '\0')
        return rk_session_left_ms(lock->client, lock->session_number);
    uint64_t now = rk_now_ms();
    return lock->safe_until_ms > now ? lock->safe_until_ms - now : 0;
}

rukun_lock_state rukun_lock_state_now(const rukun_lock *lock)
{
    if (lock == NULL) return RUKUN_LOCK_RELEASED;
    if (atomic_load(&lock->is_released)) return RUKUN_LOCK_RELEASED;
    uint64_t left = rukun_lock_left_ms(lock);
    if (left == 0) return RUKUN_LOCK_LOST;
    uint64_t span =
        lock->session[0] != '\0' ? lock->client->session_ttl_ms : lock->lease_ms;
    return left < span / 3 ? RUKUN_LOCK_JEOPARDY : RUKUN_LOCK_SAFE;
}

rukun_status rukun_lock_check(const rukun_lock *lock, rukun_error *err)
{
    if (lock == NULL) return (rukun_status)rk_error_set(err, RK_EINVAL, "lock is NULL");
    enum rk_status status = rk_client_check(lock->client, err);
    if (status != RK_OK) return (rukun_status)status;
    if (rukun_lock_left_ms(lock) > 0) return RUKUN_OK;
    return (rukun_status)rk_error_set(
        err, RK_ELOST, "lock %.128s with fence %llu is %s", lock->resource,
        (unsigned long long)lock->fence,
        atomic_load(&lock->is_released) ? "released" : "lost: its lease ran out");
}

rukun_status rukun_lock_release(rukun_lock *lock, rukun_error *err)
{
    if (lock == NULL) return (rukun_status)rk_error_set(err, RK_EINVAL, "lock is NULL");
    enum rk_status status = rk_client_check(lock->client, err);
    if (status != RK_OK) return (rukun_status)status;
    if (atomic_exchange(&lock->is_released, true))
        return (rukun_status)rk_error_set(
            err, RK_ENOTOWNER, "lock %.128s is released already", lock->resource);
    struct rk_request request =
        release_request(lock->resource, lock->owner, lock->session, lock->fence);
    struct rk_arena arena;
    rk_arena_init(&arena);
    struct rk_reply reply;
    struct rk_call *call = NULL;
    status = rk_call_run(&call, lock->client, &request, 0, &arena, &reply, err);
    rk_call_free(call);
    rk_arena_fini(&arena);
    if (status == RK_ECANCELLED) /* the caller stops waiting; the lock goes all the same */
        (void)rk_call_background(lock->client, &request, released_done, NULL);
    return (rukun_status)status;
}

void rukun_lock_free(rukun_lock *lock)
{
    if (lock == NULL || rk_client_check(lock->client, NULL) != RK_OK) return;
    if (!atomic_exchange(&lock->is_released, true)) {
        struct rk_request request =
            release_request(lock->resource, lock->owner, lock->session, lock->fence);
        (void)rk_call_background(lock->client, &request, released_done, NULL);
    }
    lock_destroy(lock);
}
