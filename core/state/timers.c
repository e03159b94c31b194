#include "state/timers.h"

#include "base/assert.h"
#include "base/mutant.h"
#include "state/sessions.h"

/* A new leader begins every duration anew: it can not know what the former one granted
 * without the log. So that leaders who come and go do not keep a dead owner's lease for
 * ever, a leader writes down how much of a long one it saw pass: at least a minute, about a
 * sixteenth. Each change of leader then costs at most such a step. */

enum {
    PROPOSE_AGAIN_MS = 2000, /* a proposal that was lost (refused before append) */
    STEP_MS = 60000,
    STEPS = 16,
    LOOKS_MAX = 4096, /* timers of an earlier leadership corrected in one call */
};

static struct rk_object *object_of(struct rk_heap_node *node)
{
    return RK_CONTAINER(node, struct rk_object, timer.node);
}

static bool timer_before(const struct rk_heap_node *a, const struct rk_heap_node *b)
{
    const struct rk_object *left = RK_CONTAINER_CONST(a, struct rk_object, timer.node);
    const struct rk_object *right = RK_CONTAINER_CONST(b, struct rk_object, timer.node);
    if (left->timer.look_ms != right->timer.look_ms)
        return left->timer.look_ms < right->timer.look_ms;
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

/* Of what runs for so long, this much is written off at a time; 0: nothing. Equal steps go
 * in one entry. */
static uint64_t step_of(const struct rk_object *object)
{
    uint64_t duration_ms = object->timer.duration_ms;
    uint64_t step = STEP_MS;
    /* Those that only bound memory may live longer. */
    if (object->timer.is_absolute || duration_ms < UINT64_C(2) * STEP_MS ||
        object->kind == RK_OBJECT_CLIENT || object->kind == RK_OBJECT_FENCE)
        return 0;
    while (2 * step <= duration_ms / STEPS)
        step *= 2;
    return step;
}

static uint64_t next_look(const struct rk_object *object)
{
    uint64_t step = step_of(object);
    uint64_t look = step == 0 ? UINT64_MAX : add_time(object->timer.counted_ms, step);
    return look < object->timer.deadline_ms ? look : object->timer.deadline_ms;
}

static void look_at(struct rk_machine *machine, struct rk_object *object, uint64_t look_ms)
{
    object->timer.look_ms = look_ms;
    rk_heap_update(&machine->timers, &object->timer.node);
}

static void arm(struct rk_machine *machine, struct rk_object *object, uint64_t now,
                uint64_t deadline_ms)
{
    object->timer.deadline_ms = deadline_ms;
    object->timer.counted_ms = now;
    object->timer.look_ms = next_look(object);
    object->timer.begins_again = false;
    object->timer.proposed_lead = object->timer.noted_lead = 0;
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
    arm(machine, object, now, add_time(now, duration_ms));
}

void rk_timer_start_at(struct rk_machine *machine, struct rk_object *object, uint64_t at)
{
    object->generation++;
    object->timer.is_absolute = true;
    object->timer.duration_ms = at;
    arm(machine, object, at, at);
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
    arm(machine, object, machine->time_ms,
        is_absolute ? duration_ms : add_time(machine->time_ms, duration_ms));
}

bool rk_timer_is_proposed(const struct rk_machine *machine, const struct rk_object *object)
{
    return machine->lead_count != 0 && object->timer.proposed_lead == machine->lead_count;
}

bool rk_timer_prolong(struct rk_machine *machine, struct rk_object *object, uint64_t now,
                      uint64_t full_ms)
{
    struct rk_timer *timer = &object->timer;
    if (!rk_timer_is_armed(object) || rk_timer_is_proposed(machine, object)) return false;
    /* What was answered now would be shorter at the next leader. */
    if (timer->duration_ms != full_ms ||
        (machine->lead_count != 0 && timer->noted_lead == machine->lead_count)) {
        if (!timer->begins_again) look_at(machine, object, 0);
        timer->begins_again = true;
        return false;
    }
    uint64_t deadline = add_time(now, full_ms);
    if (deadline > timer->deadline_ms) {
        timer->deadline_ms = deadline;
        timer->counted_ms = now;
        look_at(machine, object, next_look(object));
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
    return object_of(top)->timer.look_ms;
}

/* What there is to say of a timer. */
struct word {
    struct rk_object *object; /* NULL: nothing */
    enum rk_op op;
    uint64_t number;
};

/* The first timer with something to say, corrected for this leadership. A new leader has
 * many to correct at once: it looks at so many in one call. */
static struct word first_word(struct rk_machine *machine, uint64_t now, uint32_t *looks)
{
    for (; *looks > 0; (*looks)--) {
        struct rk_heap_node *top = rk_heap_top(&machine->timers);
        struct rk_object *object = top == NULL ? NULL : object_of(top);
        if (object == NULL || object->timer.look_ms > now) return (struct word){0};
        struct rk_timer *timer = &object->timer;
        if (timer->begins_again) return (struct word){object, RK_OP_ELAPSED, 0};
        timer->deadline_ms = led_deadline(machine, timer);
        if (timer->deadline_ms <= now) return (struct word){object, RK_OP_DUE, 0};
        /* What passed before this leadership was not seen here. */
        if (timer->counted_ms < machine->lead_ms) timer->counted_ms = machine->lead_ms;
        uint64_t step = step_of(object);
        if (step != 0 && add_time(timer->counted_ms, step) <= now)
            return (struct word){object, RK_OP_ELAPSED, step};
        look_at(machine, object, next_look(object));
    }
    return (struct word){0};
}

static void said(struct rk_machine *machine, const struct word *word, uint64_t now)
{
    struct rk_timer *timer = &word->object->timer;
    if (word->op == RK_OP_DUE) {
        timer->proposed_lead = machine->lead_count;
        timer->deadline_ms = add_time(now, PROPOSE_AGAIN_MS);
        look_at(machine, word->object, timer->deadline_ms);
        return;
    }
    /* Where this entry is lost, less is written off than could be. */
    timer->counted_ms = word->number == 0 ? now : timer->counted_ms + word->number;
    timer->begins_again = false;
    timer->noted_lead = machine->lead_count;
    look_at(machine, word->object, next_look(word->object));
}

uint32_t rk_machine_due(struct rk_machine *machine, uint64_t now, uint32_t max,
                        struct rk_buf *out)
{
    struct rk_due_in due[RK_DUE_BATCH];
    uint32_t looks = LOOKS_MAX;
    struct word word = first_word(machine, now, &looks);
    struct rk_request request = {.op = word.op, .number = word.number, .due = due};
    if (max > RK_DUE_BATCH) max = RK_DUE_BATCH;
    while (word.object != NULL && request.due_count < max && word.op == request.op &&
           word.number == request.number) {
        due[request.due_count++] =
            (struct rk_due_in){word.object->kind, word.object->id, word.object->generation};
        said(machine, &word, now);
        word = first_word(machine, now, &looks);
    }
    if (request.due_count == 0) return 0;
    RK_SET(&request, DUE);
    if (request.op == RK_OP_ELAPSED) RK_SET(&request, NUMBER);
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

enum rk_status rk_timers_apply_elapsed(struct rk_machine *machine, struct rk_apply *apply)
{
    uint64_t number = apply->request->number;
    for (uint32_t i = 0; i < apply->request->due_count; i++) {
        const struct rk_due_in *due = &apply->request->due[i];
        struct rk_object *object = rk_object_find(machine, due->kind, due->id);
        if (object == NULL || !rk_timer_is_armed(object) || object->timer.is_absolute ||
            object->generation != due->generation ||
            (number == 0 ? object->kind != RK_OBJECT_SESSION
                         : object->timer.duration_ms <= number))
            continue;
        enum rk_status status = rk_object_touch(machine, object);
        if (status != RK_OK) return status;
        object->timer.noted_lead = 0;
        if (number > 0)
            object->timer.duration_ms -= number;
        else
            object->timer.duration_ms =
                RK_CONTAINER(object, struct rk_session, object)->ttl_ms;
    }
    return RK_OK;
}
