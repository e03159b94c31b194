#include "ring/ring.h"

#include "base/alloc.h"
#include "base/assert.h"
#include "base/hash.h"

#include <stdlib.h>

struct rk_ring_point {
    uint64_t hash;
    uint64_t member;
};

static uint32_t point_count(const struct rk_ring *ring)
{
    return ring->member_count * RK_RING_POINTS;
}

static uint64_t point_hash(uint64_t member, uint64_t number)
{
    return rk_hash_mix(member, number);
}

/* Equal hashes of two members are so unlikely that only the order matters: total, and the
 * same everywhere. */
static int point_compare(const void *a, const void *b)
{
    const struct rk_ring_point *left = a, *right = b;
    if (left->hash != right->hash) return left->hash < right->hash ? -1 : 1;
    if (left->member != right->member) return left->member < right->member ? -1 : 1;
    return 0;
}

void rk_ring_init(struct rk_ring *ring)
{
    *ring = (struct rk_ring){NULL, 0};
}

void rk_ring_fini(struct rk_ring *ring)
{
    rk_free(ring->points);
    rk_ring_init(ring);
}

enum rk_status rk_ring_add(struct rk_ring *ring, uint64_t member)
{
    RK_ASSERT(member != 0);
    if (rk_ring_has(ring, member)) return RK_EEXIST;
    if (ring->member_count == RK_RING_MEMBERS_MAX) return RK_ELIMIT;

    uint32_t old_count = point_count(ring);
    struct rk_ring_point *points =
        rk_realloc_array(ring->points, old_count + RK_RING_POINTS, sizeof(*points));
    if (points == NULL) return RK_ENOMEM;

    for (uint64_t i = 0; i < RK_RING_POINTS; i++)
        points[old_count + i] = (struct rk_ring_point){point_hash(member, i), member};
    ring->points = points;
    ring->member_count++;
    qsort(points, point_count(ring), sizeof(*points), point_compare);
    return RK_OK;
}

enum rk_status rk_ring_remove(struct rk_ring *ring, uint64_t member)
{
    if (!rk_ring_has(ring, member)) return RK_ENOENT;
    uint32_t kept = 0;
    for (uint32_t i = 0; i < point_count(ring); i++)
        if (ring->points[i].member != member) ring->points[kept++] = ring->points[i];
    ring->member_count--;
    RK_ASSERT(kept == point_count(ring));
    return RK_OK;
}

bool rk_ring_has(const struct rk_ring *ring, uint64_t member)
{
    for (uint32_t i = 0; i < point_count(ring); i++)
        if (ring->points[i].member == member) return true;
    return false;
}

uint64_t rk_ring_owner(const struct rk_ring *ring, struct rk_slice key)
{
    if (ring->member_count == 0) return 0;
    return rk_ring_member_at(ring, rk_ring_place(ring, rk_hash(key)));
}

static bool contains(const uint64_t *members, uint32_t count, uint64_t member)
{
    for (uint32_t i = 0; i < count; i++)
        if (members[i] == member) return true;
    return false;
}

uint32_t rk_ring_owners(uint64_t *out, uint32_t max, const struct rk_ring *ring,
                        struct rk_slice key)
{
    if (ring->member_count == 0) return 0;
    if (max > ring->member_count) max = ring->member_count;
    uint32_t count = 0;
    uint32_t first = rk_ring_place(ring, rk_hash(key));
    for (uint32_t i = 0; i < point_count(ring) && count < max; i++) {
        uint64_t member = rk_ring_member_at(ring, first + i);
        if (!contains(out, count, member)) out[count++] = member;
    }
    return count;
}

uint32_t rk_ring_place(const struct rk_ring *ring, uint64_t hash)
{
    RK_ASSERT(ring->member_count != 0);
    /* The first point at or after the hash; after the last one comes the first again. */
    uint32_t low = 0, high = point_count(ring);
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (ring->points[middle].hash < hash) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low < point_count(ring) ? low : 0;
}

uint64_t rk_ring_member_at(const struct rk_ring *ring, uint32_t place)
{
    RK_ASSERT(ring->member_count != 0);
    return ring->points[place % point_count(ring)].member;
}
