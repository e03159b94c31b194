#include "state/changes.h"

#include "base/alloc.h"
#include "base/assert.h"
#include "state/snapshot.h"

/* The feed holds one mark for each object that changed, and an object knows that it is
 * marked. Room is made when an object enters: for it and for every one that may yet change,
 * so that a change is never lost for want of memory. */

enum { MARKS_MIN = 64 };

enum rk_status rk_changes_reserve(struct rk_machine *machine, uint64_t more)
{
    struct rk_changes *changes = &machine->changes;
    uint64_t needed = changes->count + (machine->object_count - changes->live) + more;
    if (needed <= changes->capacity) return RK_OK;
    uint64_t capacity = changes->capacity < MARKS_MIN ? MARKS_MIN : changes->capacity;
    while (capacity < needed)
        capacity *= 2;
    struct rk_change_mark *marks =
        rk_realloc_array(changes->marks, capacity, sizeof(*marks));
    if (marks == NULL) return RK_ENOMEM;
    changes->marks = marks;
    changes->capacity = capacity;
    return RK_OK;
}

void rk_changes_note(struct rk_machine *machine, struct rk_object *object)
{
    struct rk_changes *changes = &machine->changes;
    if (!changes->is_on || object->is_changed) return;
    RK_ASSERT(changes->count < changes->capacity);
    changes->marks[changes->count++] = (struct rk_change_mark){object->id, object->kind};
    changes->live++;
    object->is_changed = true;
}

void rk_changes_leave(struct rk_machine *machine, struct rk_object *object)
{
    if (!machine->changes.is_on) return;
    rk_changes_note(machine, object);
    machine->changes.live--;
}

void rk_changes_free(struct rk_machine *machine)
{
    rk_free(machine->changes.marks);
    machine->changes = (struct rk_changes){0};
}

enum rk_status rk_machine_changes_all(struct rk_machine *machine)
{
    struct rk_changes *changes = &machine->changes;
    enum rk_status status = rk_changes_reserve(machine, 0);
    if (status != RK_OK) return status;
    changes->is_on = true;
    rk_list_each (link, &machine->objects)
        rk_changes_note(machine, RK_CONTAINER(link, struct rk_object, link));
    return RK_OK;
}

uint64_t rk_machine_changes_count(const struct rk_machine *machine)
{
    return machine->changes.count;
}

/* CHANGE: u8 kind, varint id, blob record, empty if the object is gone. */
static void put_change(struct rk_buf *out, const struct rk_change_mark *mark,
                       struct rk_slice record)
{
    rk_buf_u8(out, mark->kind);
    rk_buf_varint(out, mark->id);
    rk_buf_blob(out, record);
}

enum rk_status rk_machine_changes_put(struct rk_machine *machine, struct rk_buf *out)
{
    struct rk_changes *changes = &machine->changes;
    RK_ASSERT(changes->is_on);
    struct rk_buf record;
    rk_buf_init(&record);
    rk_record_meta(machine, &record);
    const struct rk_change_mark meta = {0, RK_OBJECT_META};
    put_change(out, &meta, rk_buf_slice(&record));
    for (uint64_t i = 0; i < changes->count && !record.is_failed; i++) {
        const struct rk_change_mark *mark = &changes->marks[i];
        struct rk_object *object = rk_object_find(machine, mark->kind, mark->id);
        rk_buf_reset(&record);
        if (object != NULL) rk_record_object(machine, object, &record);
        put_change(out, mark, rk_buf_slice(&record));
    }
    enum rk_status status = rk_buf_check(&record);
    rk_buf_fini(&record);
    return status == RK_OK ? rk_buf_check(out) : status;
}

void rk_machine_changes_taken(struct rk_machine *machine)
{
    struct rk_changes *changes = &machine->changes;
    for (uint64_t i = 0; i < changes->count; i++) {
        const struct rk_change_mark *mark = &changes->marks[i];
        struct rk_object *object = rk_object_find(machine, mark->kind, mark->id);
        if (object != NULL) object->is_changed = false;
    }
    changes->count = changes->live = 0;
}

bool rk_machine_change_read(struct rk_reader *in, struct rk_machine_change *out)
{
    if (rk_reader_left(in) == 0) return false;
    out->kind = rk_read_u8(in);
    out->id = rk_read_varint(in);
    out->record = rk_read_blob(in);
    return !in->is_failed;
}
