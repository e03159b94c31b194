#include "state/timers.h"

#include "base/assert.h"
#include "base/mutant.h"

/* A proposal that got lost (refused before append) is made again after this. */
enum { PROPOSE_AGAIN_MS = 2000 };

static struct rk_object *object_of(struct rk_heap_node *node)
{
    return RK_CONTAINER(node, struct rk_object, timer.node);
}

static bool timer_before(const struct rk_heap_node *a, const struct rk_heap_node *b)
{
    const struct rk_object *left = RK_CONTAINER_CONST(a, struct rk_object, timer.node);
    const struct rk_object *right = RK_CONTAINER_CONST(b, struct rk_object, timer.node);
    if (left->timer.deadline_ms != right->timer.deadline_ms)
        return left->timer.deadline_ms < right->timer.deadline_ms;
    return left->id < right->id;
}

void rk_timers_init(struct rk_machine *machine)
{
    rk_heap_init(&machine->timers, timer_before);
}

static uint64_t add_time(uint64_t a, uint64_t b)
{
    return a > UINT64_MAX - b ? UINT64_MAX : a + b;
}

static void arm(struct rk_machine *machine, struct rk_object *object, uint64_t deadline_ms)
{
    object->timer.deadline_ms = deadline_ms;
    object->timer.proposed_lead = 0;
    if (rk_heap_has(&object->timer.node)) {
        rk_heap_update(&machine->timers, &object->timer.node);
        return;
    }
    enum rk_status status = rk_heap_push(&machine->timers, &object->timer.node);
    RK_ASSERT(status == RK_OK); /* room was reserved when the object was entered */
}

void rk_timer_start(struct rk_machine *machine, struct rk_object *object, uint64_t now,
                    uint64_t duration_ms)
{
    object->generation++;
    object->timer.is_absolute = false;
    object->timer.duration_ms = duration_ms;
    arm(machine, object, add_time(now, duration_ms));
}

void rk_timer_start_at(struct rk_machine *machine, struct rk_object *object, uint64_t at)
{
    object->generation++;
    object->timer.is_absolute = true;
    object->timer.duration_ms = at;
    arm(machine, object, at);
}

void rk_timer_stop(struct rk_machine *machine, struct rk_object *object)
{
    object->generation++;
    rk_heap_remove(&machine->timers, &object->timer.node);
}

/* What the deadline is under this node's leadership: durations begun before it took over
 * count in full from there (a follower cannot know what the old leader granted). */
static uint64_t led_deadline(const struct rk_machine *machine, const struct rk_timer *timer)
{
    if (timer->is_absolute) return timer->deadline_ms;
    uint64_t restarted = add_time(machine->lead_ms, timer->duration_ms);
    return timer->deadline_ms > restarted ? timer->deadline_ms : restarted;
}

uint64_t rk_timer_left(const struct rk_object *object, uint64_t now)
{
    if (!rk_timer_is_armed(object)) return 0;
    uint64_t deadline = object->timer.deadline_ms;
    return deadline > now ? deadline - now : 0;
}

void rk_timer_restore(struct rk_machine *machine, struct rk_object *object,
                      bool is_absolute, uint64_t duration_ms)
{
    object->timer.is_absolute = is_absolute;
    object->timer.duration_ms = duration_ms;
    arm(machine, object,
        is_absolute ? duration_ms : add_time(machine->time_ms, duration_ms));
}

bool rk_timer_is_proposed(const struct rk_machine *machine, const struct rk_object *object)
{
    return machine->lead_count != 0 && object->timer.proposed_lead == machine->lead_count;
}

bool rk_timer_prolong(struct rk_machine *machine, struct rk_object *object, uint64_t now)
{
    if (!rk_timer_is_armed(object) || rk_timer_is_proposed(machine, object)) return false;
    uint64_t deadline = add_time(now, object->timer.duration_ms);
    if (deadline > object->timer.deadline_ms) {
        object->timer.deadline_ms = deadline;
        rk_heap_update(&machine->timers, &object->timer.node);
    }
    return true;
}

void rk_machine_lead(struct rk_machine *machine, uint64_t now)
{
    machine->lead_ms = now;
    machine->lead_count++; /* what an earlier leadership proposed counts no more */
}

uint64_t rk_machine_next_due(const struct rk_machine *machine)
{
    struct rk_heap_node *top = rk_heap_top(&machine->timers);
    if (top == NULL) return UINT64_MAX;
    /* Uncorrected for this leadership: others may be due before the top's later time. */
    return object_of(top)->timer.deadline_ms;
}

/* The first timer that has run out, with deadlines corrected for this leadership. */
static struct rk_object *first_due(struct rk_machine *machine, uint64_t now)
{
    for (;;) {
        struct rk_heap_node *top = rk_heap_top(&machine->timers);
        if (top == NULL) return NULL;
        struct rk_object *object = object_of(top);
        if (object->timer.deadline_ms > now) return NULL;
        uint64_t deadline = led_deadline(machine, &object->timer);
        if (deadline <= now) return object;
        object->timer.deadline_ms = deadline;
        rk_heap_update(&machine->timers, top);
    }
}

uint32_t rk_machine_due(struct rk_machine *machine, uint64_t now, uint32_t max,
                        struct rk_buf *out)
{
    struct rk_due_in due[RK_DUE_BATCH];
    struct rk_request request = {.op = RK_OP_DUE, .due = due};
    if (max > RK_DUE_BATCH) max = RK_DUE_BATCH;
    while (request.due_count < max) {
        struct rk_object *object = first_due(machine, now);
        if (object == NULL) break;
        due[request.due_count++] =
            (struct rk_due_in){object->kind, object->id, object->generation};
        object->timer.proposed_lead = machine->lead_count;
        object->timer.deadline_ms = add_time(now, PROPOSE_AGAIN_MS);
        rk_heap_update(&machine->timers, &object->timer.node);
    }
    if (request.due_count == 0) return 0;
    RK_SET(&request, DUE);
    rk_request_encode(out, &request);
    return request.due_count;
}

enum rk_status rk_timers_apply_due(struct rk_machine *machine, struct rk_apply *apply)
{
    for (uint32_t i = 0; i < apply->request->due_count; i++) {
        const struct rk_due_in *due = &apply->request->due[i];
        struct rk_object *object = rk_object_find(machine, due->kind, due->id);
        if (object == NULL || !rk_timer_is_armed(object)) continue;
        if (!RK_MUTANT(expiry_without_generation) && object->generation != due->generation)
            continue;
        const struct rk_object_class *class = machine->classes[object->kind];
        if (class->due == NULL) return RK_EPROTO;
        enum rk_status status = rk_object_touch(machine, object);
        if (status != RK_OK) return status;
        rk_timer_stop(machine, object);
        status = class->due(machine, apply, object);
        if (status != RK_OK) return status;
    }
    return RK_OK;
}
