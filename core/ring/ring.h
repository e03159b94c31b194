/* ring.h - consistent hashing: which member (a group, a node) serves a key.
 *
 * The owner depends on the set of member ids alone, never on the order in which they
 * were added, so every node with the same set agrees without talking. A member that
 * leaves moves only its own keys; one that comes takes its share from all others. */
#ifndef RK_RING_RING_H
#define RK_RING_RING_H

#include "base/bytes.h"
#include "base/status.h"

enum {
    RK_RING_MEMBERS_MAX = 256,
    RK_RING_POINTS =
        64, /* per member; of 5 members the fullest has about 1.15x its share */
};

struct rk_ring {
    struct rk_ring_point *points; /* owned; sorted by hash, then member */
    uint32_t member_count;
};

void rk_ring_init(struct rk_ring *ring);
void rk_ring_fini(struct rk_ring *ring);

/* Adds a member, whose id is not 0. On any error the ring is as it was before the call.
 * RK_EEXIST: it is there already. RK_ELIMIT: RK_RING_MEMBERS_MAX reached. RK_ENOMEM. */
RK_MUST_CHECK enum rk_status rk_ring_add(struct rk_ring *ring, uint64_t member);

/* Removes a member; needs no memory. RK_ENOENT: it is not there. */
RK_MUST_CHECK enum rk_status rk_ring_remove(struct rk_ring *ring, uint64_t member);

bool rk_ring_has(const struct rk_ring *ring, uint64_t member);

/* The owner of a key, 0 if the ring is empty: no member has id 0. */
uint64_t rk_ring_owner(const struct rk_ring *ring, struct rk_slice key);

/* The owner and those who would own the key if the ones before them left, in that order:
 * at most `max` ids go to `out`, each member once. Returns how many. */
uint32_t rk_ring_owners(uint64_t *out, uint32_t max, const struct rk_ring *ring,
                        struct rk_slice key);

/* A walk round the ring: the place where a hash stands, and who is there. Places go on
 * without end, place + 1 is the next point; the ring is not empty. */
uint32_t rk_ring_place(const struct rk_ring *ring, uint64_t hash);
uint64_t rk_ring_member_at(const struct rk_ring *ring, uint32_t place);
#endif
