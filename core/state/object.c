#include "state/object.h"

#include "base/alloc.h"
#include "base/assert.h"
#include "state/changes.h"
#include "state/snapshot.h"

enum { ID_SLOTS_MIN = 64 };

/* Linear hashing (Litwin 1980): buckets split one at a time, so no entry pays for all. */
static size_t bucket_of(const struct rk_machine *machine, uint64_t id)
{
    size_t mask = ID_SLOTS_MIN - 1;
    while (mask < machine->id_used - 1)
        mask = mask * 2 + 1;
    size_t bucket = id & mask;
    return bucket < machine->id_used ? bucket : id & (mask >> 1);
}

static enum rk_status reserve_buckets(struct rk_machine *machine)
{
    if (machine->ids == NULL) {
        machine->ids = rk_calloc(ID_SLOTS_MIN, sizeof(struct rk_object *));
        if (machine->ids == NULL) return RK_ENOMEM;
        machine->id_slots = machine->id_used = ID_SLOTS_MIN;
    }
    if (machine->id_used < machine->id_slots) return RK_OK;
    struct rk_object **ids =
        rk_realloc_array(machine->ids, machine->id_slots * 2, sizeof(struct rk_object *));
    if (ids == NULL) return RK_ENOMEM;
    machine->ids = ids;
    machine->id_slots *= 2;
    return RK_OK;
}

/* One more bucket; it takes its share of the bucket it splits from. */
static void split_bucket(struct rk_machine *machine)
{
    size_t high = ID_SLOTS_MIN;
    while (high * 2 <= machine->id_used)
        high *= 2;
    struct rk_object *object = machine->ids[machine->id_used - high];
    struct rk_object **stays = &machine->ids[machine->id_used - high];
    struct rk_object **moves = &machine->ids[machine->id_used];
    machine->id_used++;
    *stays = *moves = NULL;
    while (object != NULL) {
        struct rk_object *next = object->id_next;
        struct rk_object **slot = (object->id & high) != 0 ? moves : stays;
        object->id_next = *slot;
        *slot = object;
        object = next;
    }
}

enum rk_status rk_object_enter(struct rk_machine *machine, struct rk_object *object,
                               uint8_t kind, uint64_t id)
{
    RK_ASSERT((id != 0) == machine->is_restoring);
    if (reserve_buckets(machine) != RK_OK) return RK_ENOMEM;
    if (rk_heap_reserve(&machine->timers, machine->object_count + 1) != RK_OK)
        return RK_ENOMEM;
    if (machine->changes.is_on && rk_changes_reserve(machine, 1) != RK_OK) return RK_ENOMEM;
    if (id == 0) id = ++machine->object_id;
    if (machine->object_count >= machine->id_used) split_bucket(machine);
    object->id = id;
    object->kind = kind;
    size_t bucket = bucket_of(machine, id);
    object->id_next = machine->ids[bucket];
    machine->ids[bucket] = object;
    rk_list_push_back(&machine->objects, &object->link);
    machine->object_count++;
    rk_changes_note(machine, object);
    return RK_OK;
}

enum rk_status rk_object_touch(struct rk_machine *machine, struct rk_object *object)
{
    if (machine->snapshot.is_running) rk_snapshot_save(machine, object);
    rk_changes_note(machine, object);
    return RK_OK;
}

void rk_object_leave(struct rk_machine *machine, struct rk_object *object)
{
    rk_heap_remove(&machine->timers, &object->timer.node);
    if (machine->snapshot.is_running) rk_snapshot_skip(machine, object);
    rk_changes_leave(machine, object);
    rk_list_remove(&object->link);
    struct rk_object **at = &machine->ids[bucket_of(machine, object->id)];
    while (*at != object) {
        RK_ASSERT(*at != NULL);
        at = &(*at)->id_next;
    }
    *at = object->id_next;
    machine->bytes -= object->bytes;
    machine->object_count--;
}

struct rk_object *rk_object_find(const struct rk_machine *machine, uint8_t kind,
                                 uint64_t id)
{
    if (machine->ids == NULL) return NULL;
    struct rk_object *object = machine->ids[bucket_of(machine, id)];
    while (object != NULL && object->id != id)
        object = object->id_next;
    return object != NULL && object->kind == kind ? object : NULL;
}

void rk_object_count(struct rk_machine *machine, struct rk_object *object, uint32_t bytes)
{
    machine->bytes = machine->bytes - object->bytes + bytes;
    object->bytes = bytes;
}
