/* slot.h - from a name to one of 4096 slots.
 *
 * Which group serves a slot is the slot map's business (ring/slots.h); the number itself
 * stands in delivery ids, so it is fixed for ever: xxh3(name) % 4096, and of a{tag}b only
 * `tag` counts, so that names can be kept together. */
#ifndef RK_BASE_SLOT_H
#define RK_BASE_SLOT_H

#include "base/hash.h"

enum { RK_SLOT_COUNT = 4096 };

/* What follows a topic's name in the name of its dead letters. */
#define RK_TOPIC_DEAD_SUFFIX RK_SLICE_LITERAL("/dead")

/* The slot of a cache key. The tag is what stands between the first '{' and the first '}'
 * after it; an empty one does not count. */
static inline uint32_t rk_slot_of_name(struct rk_slice name)
{
    const uint8_t *open =
        name.size == 0 ? NULL : (const uint8_t *)memchr(name.data, '{', name.size);
    if (open != NULL) {
        size_t rest = name.size - (size_t)(open - name.data) - 1;
        const uint8_t *close =
            rest == 0 ? NULL : (const uint8_t *)memchr(open + 1, '}', rest);
        if (close != NULL && close > open + 1)
            name = rk_slice_of(open + 1, (size_t)(close - open) - 1);
    }
    return (uint32_t)(rk_hash(name) % RK_SLOT_COUNT);
}

/* The name without its "/dead" endings: dead letters stand where their topic stands. */
static inline struct rk_slice rk_topic_base(struct rk_slice topic)
{
    struct rk_slice suffix = RK_TOPIC_DEAD_SUFFIX;
    while (topic.size > suffix.size &&
           memcmp(topic.data + topic.size - suffix.size, suffix.data, suffix.size) == 0)
        topic.size -= suffix.size;
    return topic;
}

/* The slot of a topic: use this, never rk_slot_of_name, wherever a topic is routed. */
static inline uint32_t rk_slot_of_topic(struct rk_slice topic)
{
    return rk_slot_of_name(rk_topic_base(topic));
}
#endif
