#include "state/machine.h"

#include "base/alloc.h"
#include "base/assert.h"
#include "base/mutant.h"
#include "state/changes.h"
#include "state/dedup.h"
#include "state/locks.h"
#include "state/sessions.h"
#include "state/snapshot.h"
#include "state/timers.h"

#include <stdarg.h>
#include <stdio.h>

static const uint64_t YEAR_2020_MS = UINT64_C(1577836800000);
enum { FENCE_SHIFT = 20 };

static enum rk_status apply_birth(struct rk_machine *machine, struct rk_apply *apply)
{
    uint64_t floor = apply->request->fence_floor;
    uint64_t seconds = apply->now > YEAR_2020_MS ? (apply->now - YEAR_2020_MS) / 1000 : 0;
    if (floor < seconds << FENCE_SHIFT) floor = seconds << FENCE_SHIFT;
    if (machine->fence < floor) machine->fence = floor;
    machine->history = apply->request->history;
    apply->reply->ok = true;
    return rk_locks_settle(machine, apply); /* grants may have been held back before it */
}

/* Behaviour and defaults switch only here, at the same entry on every node. */
static enum rk_status apply_version(struct rk_machine *machine, struct rk_apply *apply)
{
    if (apply->request->number > machine->version_max) return RK_EUNSUPPORTED;
    if (apply->request->number > machine->version)
        machine->version = (uint32_t)apply->request->number;
    apply->reply->ok = true;
    return RK_OK;
}

static const struct rk_op_handler machine_handlers[] = {
    {RK_OP_DUE, rk_timers_apply_due, NULL},
    {RK_OP_ELAPSED, rk_timers_apply_elapsed, NULL},
    {RK_OP_BIRTH, apply_birth, NULL},
    {RK_OP_MACHINE_VERSION, apply_version, NULL},
    {RK_OP_CALL_CANCEL, rk_dedup_cancel, NULL},
    {RK_OP_LOCK_CANCEL, rk_dedup_cancel, NULL},
    {RK_OP_NONE, NULL, NULL},
};

static void add_handlers(struct rk_machine *machine, const struct rk_op_handler *handlers)
{
    for (; handlers->op != RK_OP_NONE; handlers++) {
        RK_ASSERT(machine->handlers[handlers->op] == NULL);
        machine->handlers[handlers->op] = handlers;
    }
}

static void add_classes(struct rk_machine *machine, const struct rk_object_class *classes)
{
    for (; classes->kind != 0; classes++) {
        RK_ASSERT(machine->classes[classes->kind] == NULL);
        machine->classes[classes->kind] = classes;
    }
}

enum rk_status rk_machine_new(struct rk_machine **out,
                              const struct rk_machine_options *options)
{
    struct rk_machine *machine = rk_calloc(1, sizeof(*machine));
    if (machine == NULL) return RK_ENOMEM;
    machine->group = options->group;
    machine->version = RK_MACHINE_VERSION_FIRST;
    machine->version_max =
        options->version_max != 0 ? options->version_max : RK_MACHINE_VERSION;
    rk_buf_init(&machine->members);
    rk_buf_init(&machine->scratch);
    rk_list_init(&machine->objects);
    rk_map_init(&machine->clients);
    rk_map_init(&machine->answers);
    rk_arena_init(&machine->arena);
    rk_timers_init(machine);
    rk_snapshot_init(machine);
    add_handlers(machine, machine_handlers);
    add_handlers(machine, rk_member_handlers);
    add_handlers(machine, rk_session_handlers);
    add_handlers(machine, rk_lock_handlers);
    add_handlers(machine, rk_queue_handlers);
    add_handlers(machine, rk_cache_handlers);
    add_classes(machine, rk_dedup_classes);
    add_classes(machine, rk_session_classes);
    add_classes(machine, rk_lock_classes);
    add_classes(machine, rk_queue_classes);
    add_classes(machine, rk_cache_classes);
    enum rk_status status = rk_sessions_new(&machine->sessions);
    if (status == RK_OK) status = rk_locks_new(&machine->locks);
    if (status == RK_OK) status = rk_queues_new(&machine->queues);
    if (status == RK_OK) status = rk_caches_new(&machine->caches);
    if (status != RK_OK) {
        rk_machine_free(machine);
        return status;
    }
    *out = machine;
    return RK_OK;
}

void rk_machine_free(struct rk_machine *machine)
{
    if (machine == NULL) return;
    rk_machine_snapshot_end(machine);
    rk_changes_free(machine);
    rk_list_each_safe (link, &machine->objects) {
        struct rk_object *object = RK_CONTAINER(link, struct rk_object, link);
        machine->classes[object->kind]->free(machine, object);
    }
    if (machine->caches != NULL) rk_caches_free(machine, machine->caches);
    if (machine->queues != NULL) rk_queues_free(machine, machine->queues);
    if (machine->locks != NULL) rk_locks_free(machine, machine->locks);
    if (machine->sessions != NULL) rk_sessions_free(machine, machine->sessions);
    rk_heap_fini(&machine->snapshot.side);
    rk_free(machine->timers.nodes); /* its members are gone already */
    rk_map_fini(&machine->clients);
    rk_map_fini(&machine->answers);
    rk_arena_fini(&machine->arena);
    rk_buf_fini(&machine->scratch);
    rk_buf_fini(&machine->members);
    rk_free(machine->ids);
    rk_free(machine);
}

enum rk_status rk_refuse(struct rk_reply *reply, enum rk_status status, const char *field,
                         const char *format, ...)
{
    reply->status = status;
    reply->outcome = RK_OUTCOME_NOT_DONE;
    reply->field = field != NULL ? rk_slice_of_string(field) : RK_SLICE_EMPTY;
    va_list arguments;
    va_start(arguments, format);
    (void)vsnprintf(reply->text, sizeof(reply->text), format, arguments);
    va_end(arguments);
    return RK_OK;
}

void rk_event_emit(struct rk_apply *apply, struct rk_event *event)
{
    event->index = apply->index;
    event->ordinal = apply->ordinal++;
    const struct rk_machine_output *output = apply->output;
    if (output != NULL && output->event != NULL) output->event(output->context, event);
}

/* The request itself, or what dedup has to say instead. */
static enum rk_status carry_out(struct rk_machine *machine, struct rk_apply *apply,
                                rk_apply_handler handler)
{
    const struct rk_command *command = apply->command;
    if (command->client.size == 0) return handler(machine, apply);
    if (command->seq == 0)
        return rk_refuse(apply->reply, RK_EINVAL, "seq", "requests are counted from 1");
    struct rk_client *client = NULL;
    bool is_done = false;
    enum rk_status status = rk_dedup_begin(machine, apply, &client, &is_done);
    if (status != RK_OK || is_done) return status;
    status = handler(machine, apply);
    return status == RK_OK ? rk_dedup_end(machine, apply, client) : status;
}

static enum rk_status apply_command(struct rk_machine *machine, struct rk_apply *apply,
                                    const struct rk_command *command)
{
    struct rk_request request;
    enum rk_status status = rk_request_decode(&request, command->request, &machine->arena);
    if (status != RK_OK) return status;
    if (request.op >= RK_OP_MAX) return RK_EUNSUPPORTED;
    const struct rk_op_handler *handler = machine->handlers[request.op];
    if (handler == NULL || handler->apply == NULL) return RK_EUNSUPPORTED;

    struct rk_reply reply;
    memset(&reply, 0, sizeof(reply));
    reply.op = request.op;
    reply.is_bulk = request.is_bulk;
    apply->request = &request;
    apply->reply = &reply;
    status = carry_out(machine, apply, handler->apply);
    if (status != RK_OK || apply->is_pending || command->client.size == 0) return status;
    const struct rk_machine_output *output = apply->output;
    if (output != NULL && output->reply != NULL)
        output->reply(output->context, command->client, command->seq, &reply);
    return RK_OK;
}

enum rk_status rk_machine_apply(struct rk_machine *machine, uint64_t index,
                                struct rk_slice data,
                                const struct rk_machine_output *output)
{
    RK_ASSERT(!machine->is_restoring);
    RK_ASSERT(index > machine->index || RK_MUTANT(applied_twice));
    if (data.size != 0) {
        struct rk_command command;
        enum rk_status status = rk_command_decode(&command, data);
        if (status != RK_OK) return status;
        /* Else it would be answered from what is remembered, and change nothing. */
        if (RK_MUTANT(applied_twice) && index == machine->index)
            command.client = RK_SLICE_EMPTY;
        if (command.stamp_ms > machine->time_ms) machine->time_ms = command.stamp_ms;
        rk_arena_reset(&machine->arena);
        struct rk_apply apply = {.index = index,
                                 .now = machine->time_ms,
                                 .command = &command,
                                 .output = output,
                                 .arena = &machine->arena};
        machine->index = index; /* handlers take versions from it */
        status = apply_command(machine, &apply, &command);
        if (status != RK_OK) return status;
    }
    machine->index = index;
    return RK_OK;
}

enum rk_status rk_machine_query(struct rk_machine *machine,
                                const struct rk_request *request, uint64_t now,
                                struct rk_arena *arena, struct rk_reply *reply)
{
    memset(reply, 0, sizeof(*reply));
    reply->op = request->op;
    reply->is_bulk = request->is_bulk;
    if (request->op >= RK_OP_MAX) return RK_EUNSUPPORTED;
    const struct rk_op_handler *handler = machine->handlers[request->op];
    if (handler == NULL || handler->query == NULL) return RK_EUNSUPPORTED;
    return handler->query(machine, request, now, arena, reply);
}

enum rk_status rk_machine_keepalive(struct rk_machine *machine, struct rk_slice id,
                                    uint64_t now, uint64_t *ttl_ms)
{
    struct rk_session *session = rk_session_find(machine, id);
    if (session == NULL) return RK_ESESSION;
    *ttl_ms = session->ttl_ms;
    return rk_timer_prolong(machine, &session->object, now, session->ttl_ms) ? RK_OK
                                                                             : RK_EBUSY;
}

uint64_t rk_machine_index(const struct rk_machine *machine)
{
    return machine->index;
}

uint64_t rk_machine_time(const struct rk_machine *machine)
{
    return machine->time_ms;
}

uint64_t rk_machine_history(const struct rk_machine *machine)
{
    return machine->history;
}

uint32_t rk_machine_version(const struct rk_machine *machine)
{
    return machine->version;
}

uint64_t rk_machine_fence(const struct rk_machine *machine)
{
    return machine->fence;
}

uint64_t rk_machine_bytes(const struct rk_machine *machine)
{
    return machine->bytes;
}

uint64_t rk_machine_object_count(const struct rk_machine *machine)
{
    return machine->object_count;
}

struct rk_slice rk_machine_members(const struct rk_machine *machine)
{
    return rk_buf_slice(&machine->members);
}
