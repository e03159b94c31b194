/* waits.h - inside core/state: what dedup asks of a waiting acquire (RK_OBJECT_WAIT). */
#ifndef RK_STATE_WAITS_H
#define RK_STATE_WAITS_H

#include "state/object.h"

/* Ends the wait; its request is answered `cancelled`. Frees the wait. */
RK_MUST_CHECK enum rk_status rk_wait_cancel(struct rk_machine *machine,
                                            struct rk_apply *apply, struct rk_object *wait);
/* The client's connection is at another node now. */
RK_MUST_CHECK enum rk_status rk_wait_rehome(struct rk_machine *machine,
                                            struct rk_object *wait, uint64_t home);
#endif
