#include "rukund/disk.h"

#include "base/alloc.h"
#include "base/assert.h"
#include "storage/reserve.h"

#include <errno.h>
#include <event2/event.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

struct rk_disk {
    struct rk_disk_options options;
    struct event *event;
    int wake;
    pthread_t thread;
    pthread_mutex_t mutex;
    pthread_cond_t signal;
    /* Under the mutex. */
    struct rk_wal *wal;
    struct rk_wal_batch *batch; /* to be written */
    bool is_stopping;
    bool is_done; /* status and text are the loop's to read */
    bool is_failed;
    enum rk_status status;
    struct rk_storage_error error;
    bool is_reserve_news; /* the two below are the loop's to read */
    enum rk_status reserve_status;
    struct rk_storage_error reserve_error;
    /* The loop's. */
    bool is_under_way;
    atomic_bool is_full;
    /* The thread's. */
    struct rk_reserve reserve;
    bool has_reserve;
    bool is_reserve_lost;
    bool is_refused;
    bool is_tended;
    uint64_t polled_ms;
};

static uint64_t monotonic_ms(void)
{
    struct timespec now;
    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

static void wake_loop(struct rk_disk *disk)
{
    uint64_t one = 1;
    while (write(disk->wake, &one, sizeof(one)) < 0 && errno == EINTR) {
    }
}

static void report(struct rk_disk *disk, enum rk_status status,
                   const struct rk_storage_error *error, bool is_failure)
{
    (void)pthread_mutex_lock(&disk->mutex);
    if (is_failure)
        disk->is_failed = true;
    else
        disk->is_done = true;
    disk->status = status;
    if (status != RK_OK) disk->error = *error;
    (void)pthread_mutex_unlock(&disk->mutex);
    wake_loop(disk);
}

/* Care between batches; false when the log is lost. */
static bool tend(struct rk_disk *disk, struct rk_wal *wal, bool is_idle)
{
    struct rk_storage_error error = {""};
    bool more = false;
    enum rk_status status = rk_wal_tend(wal, is_idle, &more, &error);
    if (is_idle) disk->is_tended = status != RK_OK || !more;
    if (status == RK_EFULL) {
        /* The log needs what was kept back, and soon. */
        if (disk->reserve.level != RK_RESERVE_CRITICAL) disk->polled_ms = 0;
        disk->is_refused = true;
        atomic_store(&disk->is_full, true);
        return true;
    }
    if (status == RK_OK) return true;
    report(disk, status, &error, true);
    return false;
}

/* Said once when the reserve can not be kept, and once when it can again. */
static void report_reserve(struct rk_disk *disk, enum rk_status status,
                           const struct rk_storage_error *error)
{
    bool is_lost = status != RK_OK;
    if (is_lost == disk->is_reserve_lost) return;
    disk->is_reserve_lost = is_lost;
    (void)pthread_mutex_lock(&disk->mutex);
    disk->is_reserve_news = true;
    disk->reserve_status = status;
    disk->reserve_error = *error;
    (void)pthread_mutex_unlock(&disk->mutex);
    wake_loop(disk);
}

static void poll_reserve(struct rk_disk *disk)
{
    struct rk_storage_error error = {""};
    enum rk_reserve_level level = RK_RESERVE_OK;
    bool more = false;
    uint64_t now_ms = monotonic_ms();
    if (now_ms - disk->polled_ms < RK_RESERVE_POLL_MS) return;
    disk->polled_ms = now_ms;
    if (!disk->has_reserve) {
        enum rk_status status =
            rk_reserve_open(&disk->reserve, disk->options.fs, disk->options.data,
                            disk->options.reserve_bytes, &error);
        disk->has_reserve = status != RK_ERANGE;
        if (!disk->has_reserve) {
            report_reserve(disk, status, &error);
            return;
        }
    }
    enum rk_status status =
        rk_reserve_poll(&disk->reserve, disk->is_refused, &level, &more, &error);
    disk->is_refused = false;
    atomic_store(&disk->is_full, level != RK_RESERVE_OK);
    report_reserve(disk, status, &error);
}

static void deadline_after(struct timespec *out, uint64_t ms)
{
    (void)clock_gettime(CLOCK_MONOTONIC, out);
    out->tv_nsec += (long)(ms % 1000) * 1000000;
    out->tv_sec += (time_t)(ms / 1000) + out->tv_nsec / 1000000000;
    out->tv_nsec %= 1000000000;
}

/* Waits for a batch with the mutex held; false: time is up, there is none. */
static bool wait_batch(struct rk_disk *disk, uint64_t ms)
{
    struct timespec deadline;
    deadline_after(&deadline, ms);
    while (disk->batch == NULL && !disk->is_stopping)
        if (pthread_cond_timedwait(&disk->signal, &disk->mutex, &deadline) == ETIMEDOUT)
            break;
    return disk->batch != NULL;
}

static bool write_batch(struct rk_disk *disk, struct rk_wal *wal,
                        struct rk_wal_batch *batch)
{
    struct rk_storage_error error = {""};
    enum rk_status status = rk_wal_write(wal, batch, &error);
    report(disk, status, &error, false);
    disk->is_tended = false;
    return status == RK_OK && tend(disk, wal, false);
}

static void *run(void *context)
{
    struct rk_disk *disk = context;
    bool is_alive = true;
    (void)pthread_mutex_lock(&disk->mutex);
    while (is_alive) {
        uint64_t wait_ms = disk->is_tended ? RK_RESERVE_POLL_MS : RK_WAL_IDLE_MS;
        bool has_batch = wait_batch(disk, wait_ms);
        if (!has_batch && disk->is_stopping) break;
        struct rk_wal_batch *batch = disk->batch;
        struct rk_wal *wal = disk->wal;
        disk->batch = NULL;
        (void)pthread_mutex_unlock(&disk->mutex);
        if (has_batch)
            is_alive = write_batch(disk, wal, batch);
        else if (wal != NULL && !disk->is_tended)
            is_alive = tend(disk, wal, true);
        if (is_alive) poll_reserve(disk);
        (void)pthread_mutex_lock(&disk->mutex);
    }
    (void)pthread_mutex_unlock(&disk->mutex);
    return NULL;
}

static void on_wake(evutil_socket_t fd, short what, void *context)
{
    struct rk_disk *disk = context;
    uint64_t ignored;
    (void)what;
    if (read(fd, &ignored, sizeof(ignored)) < 0) return;
    (void)pthread_mutex_lock(&disk->mutex);
    bool is_done = disk->is_done;
    bool is_failed = disk->is_failed;
    enum rk_status status = disk->status;
    struct rk_storage_error error = disk->error;
    bool is_news = disk->is_reserve_news;
    enum rk_status reserve_status = disk->reserve_status;
    struct rk_storage_error reserve_error = disk->reserve_error;
    disk->is_done = false;
    disk->is_failed = false;
    disk->is_reserve_news = false;
    (void)pthread_mutex_unlock(&disk->mutex);
    if (is_done) {
        disk->is_under_way = false;
        disk->options.written(disk->options.context, is_failed ? RK_OK : status,
                              error.message);
    }
    if (is_news)
        disk->options.reserve(disk->options.context, reserve_status, reserve_error.message);
    if (is_failed) disk->options.failed(disk->options.context, status, error.message);
}

enum rk_status rk_disk_new(struct rk_disk **out, const struct rk_disk_options *options)
{
    struct rk_disk *disk = rk_calloc(1, sizeof(*disk));
    if (disk == NULL) return RK_ENOMEM;
    disk->options = *options;
    disk->is_tended = true;
    atomic_init(&disk->is_full, false);
    disk->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (disk->wake < 0) goto fail;
    disk->event = event_new(options->base, disk->wake, EV_READ | EV_PERSIST, on_wake, disk);
    if (disk->event == NULL || event_add(disk->event, NULL) != 0) goto fail;

    pthread_condattr_t attributes;
    (void)pthread_condattr_init(&attributes);
    (void)pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    (void)pthread_cond_init(&disk->signal, &attributes);
    (void)pthread_condattr_destroy(&attributes);
    (void)pthread_mutex_init(&disk->mutex, NULL);

    /* Signals are the loop's business. */
    sigset_t all, before;
    (void)sigfillset(&all);
    (void)pthread_sigmask(SIG_SETMASK, &all, &before);
    int error = pthread_create(&disk->thread, NULL, run, disk);
    (void)pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (error != 0) goto fail;
    (void)pthread_setname_np(disk->thread, "disk");
    *out = disk;
    return RK_OK;

fail:
    if (disk->event != NULL) event_free(disk->event);
    if (disk->wake >= 0) (void)close(disk->wake);
    rk_free(disk);
    return RK_EIO;
}

void rk_disk_free(struct rk_disk *disk)
{
    if (disk == NULL) return;
    (void)pthread_mutex_lock(&disk->mutex);
    disk->is_stopping = true;
    (void)pthread_cond_signal(&disk->signal);
    (void)pthread_mutex_unlock(&disk->mutex);
    (void)pthread_join(disk->thread, NULL);
    if (disk->has_reserve) rk_reserve_close(&disk->reserve);
    (void)pthread_cond_destroy(&disk->signal);
    (void)pthread_mutex_destroy(&disk->mutex);
    event_free(disk->event);
    (void)close(disk->wake);
    rk_free(disk);
}

void rk_disk_write(struct rk_disk *disk, struct rk_wal *wal, struct rk_wal_batch *batch)
{
    RK_ASSERT(!disk->is_under_way);
    disk->is_under_way = true;
    (void)pthread_mutex_lock(&disk->mutex);
    disk->wal = wal;
    disk->batch = batch;
    (void)pthread_cond_signal(&disk->signal);
    (void)pthread_mutex_unlock(&disk->mutex);
}

bool rk_disk_is_full(const struct rk_disk *disk)
{
    return atomic_load(&disk->is_full);
}
