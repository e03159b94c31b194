/* background.h - a thread for work that is too long for the loop and not the disk
 * thread's. One piece is under way at most. All functions: loop thread. */
#ifndef RK_RUKUND_BACKGROUND_H
#define RK_RUKUND_BACKGROUND_H

#include "base/status.h"

struct event_base;
struct rk_background;

struct rk_background_options {
    struct event_base *base;
    const char *name; /* of the thread; below 16 bytes */
    void *context;
    /* Called on the loop after each piece. */
    void (*done)(void *context, void *work);
};

/* Starts the thread. RK_ENOMEM, RK_EIO. */
RK_MUST_CHECK enum rk_status rk_background_new(struct rk_background **out,
                                               const struct rk_background_options *options);
/* Waits for the piece under way, without telling of it, and ends the thread. NULL is fine.
 */
void rk_background_free(struct rk_background *background);
/* Runs run(work) on the thread. None is under way (asserted). */
void rk_background_run(struct rk_background *background, void (*run)(void *work),
                       void *work);
#endif
