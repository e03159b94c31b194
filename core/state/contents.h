/* contents.h - the queues and caches of a machine, out of it and into a fresh one. */
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
/* The machine, a fresh one, is to hold contents as of that index and group time. */
void rk_machine_fill_begin(struct rk_machine *machine, uint64_t index, uint64_t now_ms);
/* Takes one thing; topics and caches come before what stands in them. A message gets a new
 * number, *number; of a window it is the number of its message in this machine, or 0 for
 * one that is gone. A cache is made large enough for its entries. What is there already
 * stays (a fence: the higher one). RK_ERANGE: not within bounds, or without its topic or
 * cache; RK_ENOMEM: throw the machine away. */
RK_MUST_CHECK enum rk_status rk_machine_fill(struct rk_machine *machine,
                                             const struct rk_content *content,
                                             uint64_t *number);
#endif
