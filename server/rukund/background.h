/* background.h - a thread for work that is too long for the loop and not the disk
 * thread's. One piece is under way at most. All functions: loop thread. */
#ifndef RK_RUKUND_BACKGROUND_H
#define RK_RUKUND_BACKGROUND_H

#include "base/status.h"

struct event_base;
struct rk_background;

/* Starts the thread. done is called on the loop after each piece. RK_ENOMEM, RK_EIO. */
RK_MUST_CHECK enum rk_status rk_background_new(struct rk_background **out,
                                               struct event_base *base,
                                               void (*done)(void *context), void *context);
/* Waits for the piece under way, without telling of it, and ends the thread. NULL is fine.
 */
void rk_background_free(struct rk_background *background);
/* Runs run(work) on the thread. None is under way (asserted). */
void rk_background_run(struct rk_background *background, void (*run)(void *work),
                       void *work);
#endif
