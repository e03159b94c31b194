/* contents.h - the queues and caches of a machine, one thing at a time. */
#ifndef RK_STATE_CONTENTS_H
#define RK_STATE_CONTENTS_H

#include "api/content.h"
#include "state/machine.h"

/* Gives all that a data group's machine holds of topics and caches: topics first, then what
 * stands in them, then caches. What is in flight is given as ready: retire the machine
 * first (rk_machine_retire), so that it counts as before. What was purged is not given. The
 * status is the last one of take. */
RK_MUST_CHECK enum rk_status rk_machine_contents(const struct rk_machine *machine,
                                                 rk_content_take *take, void *context);
#endif
