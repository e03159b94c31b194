/* fences.h - the highest fence that writers have shown, for queue.publish and cache.put.
 *
 * Kept for each topic or cache and fence name, apart from messages and entries: deleting,
 * evicting or acknowledging those forgets no fence. It goes a day after its last use, which
 * is longer than any call may be under way. Without a fence name a cache's fences count for
 * the key, a topic's for the whole topic. */
#ifndef RK_STATE_FENCES_H
#define RK_STATE_FENCES_H

#include "state/object.h"

enum {
    RK_FENCES_MAX = 65536, /* a group */
    RK_FENCE_IDLE_MS = 86400000,
};

struct rk_fence; /* opaque */

struct rk_fences {
    struct rk_map by_name;
};

enum rk_fence_area { RK_FENCE_TOPIC = 0, RK_FENCE_CACHE = 1 }; /* stand in records */

void rk_fences_init(struct rk_fences *fences);
void rk_fences_fini(struct rk_fences *fences); /* the objects are the machine's */

/* Whether the request's fence may pass; true also if it has none. False: the reply is set
 * to RK_EFENCE, or to RK_ELIMIT when RK_FENCES_MAX names are known already. `place` is the
 * topic or cache, `key` the cache key. Changes nothing. RK_ENOMEM. */
RK_MUST_CHECK enum rk_status rk_fence_check(struct rk_machine *machine,
                                            struct rk_apply *apply, enum rk_fence_area area,
                                            struct rk_slice place, struct rk_slice key,
                                            bool *is_passed);
/* Notes the request's fence, if it has one, once the write is done. RK_ENOMEM. */
RK_MUST_CHECK enum rk_status rk_fence_note(struct rk_machine *machine,
                                           struct rk_apply *apply, enum rk_fence_area area,
                                           struct rk_slice place, struct rk_slice key);

/* A fence that was seen elsewhere; the higher one counts. RK_ENOMEM. */
RK_MUST_CHECK enum rk_status rk_fence_fill(struct rk_machine *machine,
                                           enum rk_fence_area area, bool is_named,
                                           struct rk_slice place, struct rk_slice key,
                                           uint64_t highest);
/* Its name, of which fences.c knows the parts, and the highest one seen. */
struct rk_slice rk_fence_name(const struct rk_fence *fence);
uint64_t rk_fence_highest(const struct rk_fence *fence);
/* Its class of objects. */
void rk_fence_encode(const struct rk_machine *machine, const struct rk_object *object,
                     struct rk_buf *out);
enum rk_status rk_fence_restore(struct rk_machine *machine, struct rk_reader *body,
                                uint64_t id, struct rk_object **out);
enum rk_status rk_fence_due(struct rk_machine *machine, struct rk_apply *apply,
                            struct rk_object *object);
void rk_fence_free(struct rk_machine *machine, struct rk_object *object);
#endif
