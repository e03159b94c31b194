/* timers.h - inside core/state: what the leader does with the objects' timers.
 *
 * Every node keeps all timers in one heap; only the leader acts on it, by proposing what
 * ran out. Deadlines are each node's own opinion and never part of state or hash. */
#ifndef RK_STATE_TIMERS_H
#define RK_STATE_TIMERS_H

#include "state/object.h"

enum { RK_DUE_BATCH = 256 }; /* timers in one due entry */

void rk_timers_init(struct rk_machine *machine);
/* As the record says; a duration begins again at the machine's time. Same generation. */
void rk_timer_restore(struct rk_machine *machine, struct rk_object *object,
                      bool is_absolute, uint64_t duration_ms);
/* True while this leader's proposal to let it run out is under way. */
bool rk_timer_is_proposed(const struct rk_machine *machine, const struct rk_object *object);
/* Leader only, same generation: the full duration from now. False: it is stopped, or its
 * end is proposed, or part of it was written off, so that it first has to be proposed that
 * it begins again. */
bool rk_timer_prolong(struct rk_machine *machine, struct rk_object *object, uint64_t now,
                      uint64_t full_ms);
/* RK_OP_DUE: timers whose generation still is the proposed one run out. */
RK_MUST_CHECK enum rk_status rk_timers_apply_due(struct rk_machine *machine,
                                                 struct rk_apply *apply);
/* RK_OP_ELAPSED: the next leader begins with what is left of them. */
RK_MUST_CHECK enum rk_status rk_timers_apply_elapsed(struct rk_machine *machine,
                                                     struct rk_apply *apply);
#endif
