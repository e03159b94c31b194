#include "state/fences.h"

#include "base/alloc.h"
#include "base/assert.h"
#include "state/queues.h"

enum { FENCE_BYTES = 224 }; /* logical bytes beside the name: machine version 1 */

struct rk_fence {
    struct rk_object object;
    struct rk_map_node node;
    uint64_t highest;
    size_t name_size;
    uint8_t name[];
};

static struct rk_fence *fence_of_node(struct rk_map_node *node)
{
    return RK_CONTAINER(node, struct rk_fence, node);
}

static struct rk_fence *fence_of_object(struct rk_object *object)
{
    return RK_CONTAINER(object, struct rk_fence, object);
}

void rk_fences_init(struct rk_fences *fences)
{
    rk_map_init(&fences->by_name);
}

void rk_fences_fini(struct rk_fences *fences)
{
    rk_map_fini(&fences->by_name);
}

/* Area, place, whether the fence name was given, and the fence name or key. */
static enum rk_status name_build(struct rk_slice *out, struct rk_arena *arena,
                                 enum rk_fence_area area, bool is_named,
                                 struct rk_slice place, struct rk_slice last)
{
    size_t size = 2 + 4 + place.size + last.size;
    uint8_t *name = rk_arena_alloc(arena, size);
    if (name == NULL) return RK_ENOMEM;
    name[0] = (uint8_t)area;
    name[1] = is_named;
    rk_put_u32(name + 2, (uint32_t)place.size);
    if (place.size != 0) memcpy(name + 6, place.data, place.size);
    if (last.size != 0) memcpy(name + 6 + place.size, last.data, last.size);
    *out = rk_slice_of(name, size);
    return RK_OK;
}

static enum rk_status name_of(struct rk_slice *out, struct rk_apply *apply,
                              enum rk_fence_area area, struct rk_slice place,
                              struct rk_slice key)
{
    bool is_named = RK_HAS(apply->request, FENCE_NAME);
    return name_build(out, apply->arena, area, is_named, place,
                      is_named ? apply->request->fence_name : key);
}

static struct rk_fence *fence_find(const struct rk_machine *machine, struct rk_slice name)
{
    struct rk_map_node *node = rk_map_find(&machine->queues->fences.by_name, name);
    return node != NULL ? fence_of_node(node) : NULL;
}

enum rk_status rk_fence_check(struct rk_machine *machine, struct rk_apply *apply,
                              enum rk_fence_area area, struct rk_slice place,
                              struct rk_slice key, bool *is_passed)
{
    *is_passed = true;
    if (!RK_HAS(apply->request, FENCE)) return RK_OK;
    struct rk_slice name;
    enum rk_status status = name_of(&name, apply, area, place, key);
    if (status != RK_OK) return status;
    const struct rk_fence *fence = fence_find(machine, name);
    if (fence == NULL) {
        if (machine->queues->fences.by_name.count < RK_FENCES_MAX) return RK_OK;
        *is_passed = false;
        return rk_refuse(apply->reply, RK_ELIMIT, "fence",
                         "%d fences are remembered already", RK_FENCES_MAX);
    }
    if (apply->request->fence >= fence->highest) return RK_OK;
    *is_passed = false;
    apply->reply->fence = fence->highest;
    return rk_refuse(apply->reply, RK_EFENCE, "fence", "fence %llu is below %llu",
                     (unsigned long long)apply->request->fence,
                     (unsigned long long)fence->highest);
}

static enum rk_status fence_enter(struct rk_machine *machine, struct rk_slice name,
                                  uint64_t id, struct rk_fence **out)
{
    struct rk_fence *fence = rk_calloc(1, sizeof(*fence) + name.size);
    if (fence == NULL) return RK_ENOMEM;
    memcpy(fence->name, name.data, name.size);
    fence->name_size = name.size;
    fence->node.key = rk_slice_of(fence->name, name.size);
    enum rk_status status = rk_map_insert(&machine->queues->fences.by_name, &fence->node);
    if (status != RK_OK) {
        rk_free(fence);
        return status == RK_EEXIST ? RK_EPROTO : status;
    }
    status = rk_object_enter(machine, &fence->object, RK_OBJECT_FENCE, id);
    if (status != RK_OK) {
        rk_map_remove(&machine->queues->fences.by_name, &fence->node);
        rk_free(fence);
        return status;
    }
    rk_object_count(machine, &fence->object, (uint32_t)(FENCE_BYTES + name.size));
    *out = fence;
    return RK_OK;
}

enum rk_status rk_fence_note(struct rk_machine *machine, struct rk_apply *apply,
                             enum rk_fence_area area, struct rk_slice place,
                             struct rk_slice key)
{
    if (!RK_HAS(apply->request, FENCE)) return RK_OK;
    struct rk_slice name;
    enum rk_status status = name_of(&name, apply, area, place, key);
    if (status != RK_OK) return status;
    struct rk_fence *fence = fence_find(machine, name);
    status = fence == NULL ? fence_enter(machine, name, 0, &fence)
                           : rk_object_touch(machine, &fence->object);
    if (status != RK_OK) return status;
    if (apply->request->fence > fence->highest) fence->highest = apply->request->fence;
    rk_timer_start(machine, &fence->object, apply->now, RK_FENCE_IDLE_MS);
    return RK_OK;
}

enum rk_status rk_fence_fill(struct rk_machine *machine, enum rk_fence_area area,
                             bool is_named, struct rk_slice place, struct rk_slice key,
                             uint64_t highest)
{
    struct rk_slice name;
    rk_arena_reset(&machine->arena);
    enum rk_status status = name_build(&name, &machine->arena, area, is_named, place, key);
    if (status != RK_OK) return status;
    struct rk_fence *fence = fence_find(machine, name);
    if (fence == NULL) status = fence_enter(machine, name, 0, &fence);
    if (status != RK_OK) return status;
    if (highest > fence->highest) fence->highest = highest;
    rk_timer_start(machine, &fence->object, machine->time_ms, RK_FENCE_IDLE_MS);
    return RK_OK;
}

struct rk_slice rk_fence_name(const struct rk_fence *fence)
{
    return rk_slice_of(fence->name, fence->name_size);
}

uint64_t rk_fence_highest(const struct rk_fence *fence)
{
    return fence->highest;
}

void rk_fence_encode(const struct rk_machine *machine, const struct rk_object *object,
                     struct rk_buf *out)
{
    (void)machine;
    const struct rk_fence *fence = (const void *)object;
    rk_buf_blob(out, rk_slice_of(fence->name, fence->name_size));
    rk_buf_varint(out, fence->highest);
}

enum rk_status rk_fence_restore(struct rk_machine *machine, struct rk_reader *body,
                                uint64_t id, struct rk_object **out)
{
    struct rk_slice name = rk_read_blob(body);
    uint64_t highest = rk_read_varint(body);
    enum rk_status status = rk_reader_check(body, true);
    if (status != RK_OK) return status;
    if (name.size == 0) return RK_EPROTO;
    struct rk_fence *fence;
    status = fence_enter(machine, name, id, &fence);
    if (status != RK_OK) return status;
    fence->highest = highest;
    *out = &fence->object;
    return RK_OK;
}

void rk_fence_free(struct rk_machine *machine, struct rk_object *object)
{
    (void)machine;
    rk_free(fence_of_object(object));
}

enum rk_status rk_fence_due(struct rk_machine *machine, struct rk_apply *apply,
                            struct rk_object *object)
{
    (void)apply;
    struct rk_fence *fence = fence_of_object(object);
    rk_map_remove(&machine->queues->fences.by_name, &fence->node);
    rk_object_leave(machine, object);
    rk_free(fence);
    return RK_OK;
}
