#include "state/snapshot.h"

#include "base/alloc.h"
#include "base/assert.h"
#include "base/hash.h"
#include "base/mutant.h"
#include "state/timers.h"

enum { TIMER_ARMED = 1, TIMER_ABSOLUTE = 2 };

/* A record encoded before its turn. */
struct saved {
    struct rk_heap_node node;
    uint64_t id;
    size_t size;
    uint8_t data[];
};

static bool saved_before(const struct rk_heap_node *a, const struct rk_heap_node *b)
{
    return RK_CONTAINER_CONST(a, struct saved, node)->id <
           RK_CONTAINER_CONST(b, struct saved, node)->id;
}

void rk_snapshot_init(struct rk_machine *machine)
{
    rk_heap_init(&machine->snapshot.side, saved_before);
    rk_buf_init(&machine->snapshot.meta);
}

void rk_record_meta(const struct rk_machine *machine, struct rk_buf *out)
{
    rk_buf_u8(out, RK_OBJECT_META);
    rk_buf_u8(out, RK_RECORD_VERSION);
    rk_buf_varint(out, machine->version);
    rk_buf_varint(out, machine->group);
    rk_buf_varint(out, machine->time_ms);
    rk_buf_varint(out, machine->history);
    rk_buf_varint(out, machine->fence);
    rk_buf_varint(out, machine->object_id);
    rk_buf_varint(out, machine->bytes);
    rk_buf_varint(out, machine->object_count);
    rk_buf_blob(out, rk_buf_slice(&machine->members));
}

void rk_record_object(const struct rk_machine *machine, const struct rk_object *object,
                      struct rk_buf *out)
{
    const struct rk_timer *timer = &object->timer;
    bool is_armed = rk_timer_is_armed(object);
    rk_buf_u8(out, object->kind);
    rk_buf_varint(out, object->id);
    rk_buf_varint(out, object->generation);
    rk_buf_u8(out, (uint8_t)((is_armed ? TIMER_ARMED : 0) |
                             (is_armed && timer->is_absolute ? TIMER_ABSOLUTE : 0)));
    if (is_armed) rk_buf_varint(out, timer->duration_ms);
    machine->classes[object->kind]->encode(machine, object, out);
}

static struct rk_object *object_at(struct rk_list *link)
{
    return RK_CONTAINER(link, struct rk_object, link);
}

enum rk_status rk_machine_snapshot_begin(struct rk_machine *machine)
{
    struct rk_snapshot_run *run = &machine->snapshot;
    if (run->is_running) return RK_EBUSY;
    rk_buf_reset(&run->meta);
    rk_record_meta(machine, &run->meta);
    if (rk_buf_check(&run->meta) != RK_OK) return RK_ENOMEM;
    run->is_running = true;
    run->is_failed = false;
    run->is_meta_out = false;
    run->number++;
    run->cursor = machine->objects.next;
    run->end_id = machine->object_id;
    run->out_size = 0;
    run->all_size = machine->bytes;
    return RK_OK;
}

void rk_machine_snapshot_end(struct rk_machine *machine)
{
    while (!rk_machine_snapshot_discard(machine, UINT32_MAX)) {
    }
}

bool rk_machine_snapshot_discard(struct rk_machine *machine, uint32_t max)
{
    struct rk_snapshot_run *run = &machine->snapshot;
    run->cursor = &machine->objects; /* nothing more is kept */
    for (; run->side.count > 0 && max > 0; max--) {
        /* The last one of the array: no order is needed any more. */
        struct rk_heap_node *node = run->side.nodes[run->side.count - 1];
        struct saved *saved = RK_CONTAINER(node, struct saved, node);
        rk_heap_remove(&run->side, node);
        run->side_size -= sizeof(*saved) + saved->size;
        rk_free(saved);
    }
    if (run->side.count > 0) return false;
    rk_heap_fini(&run->side);
    rk_buf_fini(&run->meta);
    run->is_running = false;
    return true;
}

void rk_machine_snapshot_progress(const struct rk_machine *machine,
                                  struct rk_snapshot_progress *out)
{
    const struct rk_snapshot_run *run = &machine->snapshot;
    *out = (struct rk_snapshot_progress){run->side_size, run->out_size, run->all_size};
}

void rk_snapshot_skip(struct rk_machine *machine, struct rk_object *object)
{
    if (machine->snapshot.cursor == &object->link)
        machine->snapshot.cursor = object->link.next;
}

/* True if the object was there at begin and its record is still to come. */
static bool is_ahead(const struct rk_machine *machine, const struct rk_object *object)
{
    const struct rk_snapshot_run *run = &machine->snapshot;
    if (object->id > run->end_id || object->saved_in == run->number) return false;
    if (run->cursor == &machine->objects) return false;
    return object->id >= object_at(run->cursor)->id;
}

void rk_snapshot_save(struct rk_machine *machine, struct rk_object *object)
{
    struct rk_snapshot_run *run = &machine->snapshot;
    if (run->is_failed || !is_ahead(machine, object)) return;
    struct rk_buf record;
    rk_buf_init(&record);
    rk_record_object(machine, object, &record);
    struct saved *saved = NULL;
    if (rk_buf_check(&record) == RK_OK) saved = rk_malloc(sizeof(*saved) + record.size);
    if (saved != NULL) {
        saved->node.position = 0;
        saved->id = object->id;
        saved->size = record.size;
        memcpy(saved->data, record.data, record.size);
    }
    rk_buf_fini(&record);
    if (saved == NULL || rk_heap_push(&run->side, &saved->node) != RK_OK) {
        rk_free(saved);
        run->is_failed = true;
        return;
    }
    run->side_size += sizeof(*saved) + saved->size;
    object->saved_in = run->number;
}

/* The next object whose record the cursor has to encode, NULL at the end. */
static struct rk_object *next_object(struct rk_machine *machine)
{
    struct rk_snapshot_run *run = &machine->snapshot;
    while (run->cursor != &machine->objects) {
        struct rk_object *object = object_at(run->cursor);
        if (object->id > run->end_id) {
            run->cursor = &machine->objects;
            break;
        }
        if (object->saved_in != run->number) return object;
        run->cursor = run->cursor->next;
    }
    return NULL;
}

/* Appends the next record, as a blob. False: there is none. */
static bool put_record(struct rk_machine *machine, struct rk_buf *out,
                       struct rk_buf *record)
{
    struct rk_snapshot_run *run = &machine->snapshot;
    if (!run->is_meta_out) {
        rk_buf_blob(out, rk_buf_slice(&run->meta));
        run->is_meta_out = true;
        return true;
    }
    struct rk_object *object = next_object(machine);
    struct rk_heap_node *top = rk_heap_top(&run->side);
    struct saved *saved = top != NULL ? RK_CONTAINER(top, struct saved, node) : NULL;
    if (saved != NULL && (object == NULL || saved->id < object->id)) {
        rk_buf_blob(out, rk_slice_of(saved->data, saved->size));
        rk_heap_pop(&run->side);
        run->side_size -= sizeof(*saved) + saved->size;
        rk_free(saved);
        return true;
    }
    while (RK_MUTANT(answers_not_in_snapshot) && object != NULL &&
           object->kind == RK_OBJECT_ANSWER) {
        run->cursor = run->cursor->next;
        object = next_object(machine);
    }
    if (object == NULL) return false;
    rk_buf_reset(record);
    rk_record_object(machine, object, record);
    if (record->is_failed) run->is_failed = true;
    rk_buf_blob(out, rk_buf_slice(record));
    run->cursor = run->cursor->next;
    return true;
}

enum rk_status rk_machine_snapshot_step(struct rk_machine *machine, struct rk_buf *out,
                                        size_t budget, bool *is_done)
{
    RK_ASSERT(machine->snapshot.is_running);
    size_t size = out->size;
    struct rk_buf record;
    rk_buf_init(&record);
    bool has_more = true;
    while (has_more && out->size - size < budget && !out->is_failed &&
           !machine->snapshot.is_failed)
        has_more = put_record(machine, out, &record);
    rk_buf_fini(&record);
    *is_done = !has_more;
    machine->snapshot.out_size += out->size - size;
    if (machine->snapshot.is_failed) return RK_ENOMEM;
    return rk_buf_check(out);
}

static enum rk_status restore_meta(struct rk_machine *machine, struct rk_reader *reader)
{
    if (machine->is_restoring) return RK_EPROTO;
    uint8_t version = rk_read_u8(reader);
    if (version > RK_RECORD_VERSION) return RK_EUNSUPPORTED;
    uint64_t behaviour = rk_read_varint(reader);
    uint64_t group = rk_read_varint(reader);
    machine->time_ms = rk_read_varint(reader);
    machine->history = rk_read_varint(reader);
    machine->fence = rk_read_varint(reader);
    machine->object_id = rk_read_varint(reader);
    machine->restored_bytes = rk_read_varint(reader);
    machine->restored_count = rk_read_varint(reader);
    struct rk_slice members = rk_read_blob(reader);
    if (rk_reader_check(reader, true) != RK_OK || version == 0 || behaviour == 0 ||
        group != machine->group)
        return RK_EPROTO;
    if (behaviour > machine->version_max) return RK_EUNSUPPORTED;
    machine->version = (uint32_t)behaviour;
    machine->is_restoring = true;
    rk_buf_append_slice(&machine->members, members);
    return rk_buf_check(&machine->members);
}

static uint64_t last_id(const struct rk_machine *machine)
{
    return rk_list_is_empty(&machine->objects) ? 0 : object_at(machine->objects.prev)->id;
}

enum rk_status rk_machine_restore(struct rk_machine *machine, struct rk_slice record)
{
    struct rk_reader reader;
    rk_reader_init(&reader, record);
    uint8_t kind = rk_read_u8(&reader);
    if (kind == RK_OBJECT_META) return restore_meta(machine, &reader);
    if (!machine->is_restoring) return RK_EPROTO; /* the machine's record comes first */
    uint64_t id = rk_read_varint(&reader);
    uint64_t generation = rk_read_varint(&reader);
    uint8_t timer = rk_read_u8(&reader);
    uint64_t duration_ms = (timer & TIMER_ARMED) != 0 ? rk_read_varint(&reader) : 0;
    if (reader.is_failed || timer == TIMER_ABSOLUTE ||
        timer > (TIMER_ARMED | TIMER_ABSOLUTE))
        return RK_EPROTO;
    if (kind >= RK_OBJECT_KIND_MAX || machine->classes[kind] == NULL)
        return RK_EUNSUPPORTED;
    if (id <= last_id(machine) || id > machine->object_id) return RK_EPROTO;

    struct rk_object *object = NULL;
    enum rk_status status = machine->classes[kind]->restore(machine, &reader, id, &object);
    if (status != RK_OK) return status;
    RK_ASSERT(object != NULL && object->id == id && object->kind == kind);
    object->generation = generation;
    if ((timer & TIMER_ARMED) != 0)
        rk_timer_restore(machine, object, (timer & TIMER_ABSOLUTE) != 0, duration_ms);
    return rk_reader_check(&reader, true);
}

enum rk_status rk_machine_restore_finish(struct rk_machine *machine, uint64_t index)
{
    if (!machine->is_restoring) return RK_EPROTO;
    enum rk_status status = rk_locks_restored(machine);
    if (status == RK_OK) status = rk_queues_restored(machine);
    if (status == RK_OK) status = rk_caches_restored(machine);
    if (status != RK_OK) return status;
    if (machine->object_count != machine->restored_count) return RK_EPROTO;
    if (machine->bytes != machine->restored_bytes) return RK_EPROTO;
    machine->is_restoring = false;
    machine->index = index;
    return RK_OK;
}

enum rk_status rk_machine_hash(struct rk_machine *machine, uint64_t *out)
{
    struct rk_buf record;
    rk_buf_init(&record);
    rk_record_meta(machine, &record);
    uint64_t digest = rk_hash_seeded(rk_buf_slice(&record), 0);
    rk_list_each (link, &machine->objects) {
        rk_buf_reset(&record);
        rk_record_object(machine, object_at(link), &record);
        if (record.is_failed) break;
        digest = rk_hash_seeded(rk_buf_slice(&record), digest);
    }
    enum rk_status status = rk_buf_check(&record);
    rk_buf_fini(&record);
    if (status == RK_OK) *out = digest;
    return status;
}
