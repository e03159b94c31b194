#include "rukund/background.h"

#include "base/alloc.h"
#include "base/assert.h"

#include <errno.h>
#include <event2/event.h>
#include <pthread.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <unistd.h>

struct rk_background {
    struct rk_background_options options;
    struct event *event;
    int wake;
    pthread_t thread;
    pthread_mutex_t mutex;
    pthread_cond_t signal;
    /* Under the mutex. */
    void (*run)(void *work);
    void *work;
    bool is_stopping;
    /* The loop's. */
    bool is_under_way;
};

static void *run_thread(void *context)
{
    struct rk_background *background = context;
    (void)pthread_mutex_lock(&background->mutex);
    for (;;) {
        while (background->run == NULL && !background->is_stopping)
            (void)pthread_cond_wait(&background->signal, &background->mutex);
        if (background->run == NULL) break;
        void (*run)(void *work) = background->run;
        void *work = background->work;
        background->run = NULL;
        (void)pthread_mutex_unlock(&background->mutex);
        run(work);
        uint64_t one = 1;
        while (write(background->wake, &one, sizeof(one)) < 0 && errno == EINTR) {
        }
        (void)pthread_mutex_lock(&background->mutex);
    }
    (void)pthread_mutex_unlock(&background->mutex);
    return NULL;
}

static void on_wake(evutil_socket_t fd, short what, void *context)
{
    struct rk_background *background = context;
    uint64_t ignored;
    (void)what;
    if (read(fd, &ignored, sizeof(ignored)) < 0) return;
    /* The eventfd says that the work ended; the mutex makes its results visible. */
    (void)pthread_mutex_lock(&background->mutex);
    (void)pthread_mutex_unlock(&background->mutex);
    background->is_under_way = false;
    background->options.done(background->options.context, background->work);
}

enum rk_status rk_background_new(struct rk_background **out,
                                 const struct rk_background_options *options)
{
    struct rk_background *background = rk_calloc(1, sizeof(*background));
    if (background == NULL) return RK_ENOMEM;
    background->options = *options;
    background->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (background->wake < 0) goto fail;
    background->event = event_new(options->base, background->wake, EV_READ | EV_PERSIST,
                                  on_wake, background);
    if (background->event == NULL || event_add(background->event, NULL) != 0) goto fail;
    (void)pthread_cond_init(&background->signal, NULL);
    (void)pthread_mutex_init(&background->mutex, NULL);

    sigset_t all, before;
    (void)sigfillset(&all);
    (void)pthread_sigmask(SIG_SETMASK, &all, &before);
    int error = pthread_create(&background->thread, NULL, run_thread, background);
    (void)pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (error != 0) goto fail;
    (void)pthread_setname_np(background->thread, options->name);
    *out = background;
    return RK_OK;

fail:
    if (background->event != NULL) event_free(background->event);
    if (background->wake >= 0) (void)close(background->wake);
    rk_free(background);
    return RK_EIO;
}

void rk_background_free(struct rk_background *background)
{
    if (background == NULL) return;
    (void)pthread_mutex_lock(&background->mutex);
    background->is_stopping = true;
    (void)pthread_cond_signal(&background->signal);
    (void)pthread_mutex_unlock(&background->mutex);
    (void)pthread_join(background->thread, NULL);
    (void)pthread_cond_destroy(&background->signal);
    (void)pthread_mutex_destroy(&background->mutex);
    event_free(background->event);
    (void)close(background->wake);
    rk_free(background);
}

void rk_background_run(struct rk_background *background, void (*run)(void *work),
                       void *work)
{
    RK_ASSERT(!background->is_under_way);
    background->is_under_way = true;
    (void)pthread_mutex_lock(&background->mutex);
    background->run = run;
    background->work = work;
    (void)pthread_cond_signal(&background->signal);
    (void)pthread_mutex_unlock(&background->mutex);
}
