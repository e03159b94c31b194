/* changes.h - inside core/state: which objects changed since somebody looked.
 *
 * A mark an object and take, however often it changed. Off by default, and then of no cost
 * beyond a flag that is asked. */
#ifndef RK_STATE_CHANGES_H
#define RK_STATE_CHANGES_H

#include "state/object.h"

/* Room for `more` objects about to enter. RK_ENOMEM: as before. */
RK_MUST_CHECK enum rk_status rk_changes_reserve(struct rk_machine *machine, uint64_t more);
/* The object was made or is about to change, or what is seen of it through others does.
 * Nothing while the feed is off. */
void rk_changes_note(struct rk_machine *machine, struct rk_object *object);
void rk_changes_leave(struct rk_machine *machine, struct rk_object *object);
void rk_changes_free(struct rk_machine *machine);
#endif
