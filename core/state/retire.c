/* A history ends, and its state becomes the beginning of another one. */
#include "state/dedup.h"
#include "state/locks.h"
#include "state/queues.h"

/* The lost end of the history may have given out fences, too: in the same second, perhaps,
 * as the next one begins. */
enum { FENCE_STEP = 1 << 20 };

/* First all waits, so that nothing that is given back is granted to one of them. */
static enum rk_status end_waits(struct rk_machine *machine, struct rk_apply *apply)
{
    struct rk_list *waits = &machine->locks->waits;
    enum rk_status status = RK_OK;
    while (status == RK_OK && !rk_list_is_empty(waits)) {
        struct rk_wait *wait = RK_CONTAINER(waits->next, struct rk_wait, link);
        struct rk_reply reply;
        memset(&reply, 0, sizeof(reply));
        reply.op = RK_OP_LOCK_ACQUIRE;
        reply.is_bulk = wait->is_bulk;
        status = rk_refuse(&reply, RK_ECANCELLED, NULL, "the history ended");
        if (status == RK_OK) status = rk_wait_finish(machine, apply, wait, &reply);
    }
    return status;
}

static enum rk_status end_object(struct rk_machine *machine, struct rk_apply *apply,
                                 struct rk_object *object)
{
    if (object->kind == RK_OBJECT_GRANT)
        return rk_grant_retire(machine, apply,
                               RK_CONTAINER(object, struct rk_grant, object));
    if (object->kind == RK_OBJECT_SESSION)
        return rk_session_end(machine, apply,
                              RK_CONTAINER(object, struct rk_session, object), true);
    return rk_message_retire(machine, apply,
                             RK_CONTAINER(object, struct rk_message, object));
}

/* None removes another object of the list: grants leave their locks to be settled, and
 * sessions come when they hold nothing any more. */
static enum rk_status end_objects(struct rk_machine *machine, struct rk_apply *apply,
                                  uint8_t kind)
{
    enum rk_status status = RK_OK;
    rk_list_each_safe (link, &machine->objects) {
        struct rk_object *object = RK_CONTAINER(link, struct rk_object, link);
        if (status == RK_OK && object->kind == kind)
            status = end_object(machine, apply, object);
    }
    return status;
}

enum rk_status rk_machine_retire(struct rk_machine *machine)
{
    const struct rk_command command = {.stamp_ms = machine->time_ms};
    struct rk_reply reply;
    struct rk_apply apply = {.index = machine->index,
                             .now = machine->time_ms,
                             .command = &command,
                             .arena = &machine->arena,
                             .reply = &reply};
    memset(&reply, 0, sizeof(reply));
    rk_arena_reset(&machine->arena);
    enum rk_status status = end_waits(machine, &apply);
    if (status == RK_OK) status = end_objects(machine, &apply, RK_OBJECT_GRANT);
    if (status == RK_OK) status = rk_locks_settle(machine, &apply);
    if (status == RK_OK) status = end_objects(machine, &apply, RK_OBJECT_SESSION);
    if (status == RK_OK) status = end_objects(machine, &apply, RK_OBJECT_MESSAGE);
    if (status == RK_OK) status = rk_dedup_retire(machine, &apply);
    if (machine->group == 0) machine->fence += FENCE_STEP;
    machine->history = 0;
    rk_buf_reset(&machine->members);
    return status;
}
