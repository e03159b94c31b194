/* Messages on their way out, in two queues: those that may travel while the disk works,
 * and those that promise something which has to be durable first (rules 1 and 2). */
#include "raft/internal.h"

#include "base/alloc.h"

#include <string.h>

enum rk_status rk_raft_queue_reserve(struct rk_raft_queue *queue, size_t more)
{
    if (queue->head + queue->count + more <= queue->capacity) return RK_OK;
    if (queue->head > 0) {
        memmove(queue->items, queue->items + queue->head,
                queue->count * sizeof(*queue->items));
        queue->head = 0;
        if (queue->count + more <= queue->capacity) return RK_OK;
    }
    size_t capacity = queue->capacity * 2 > queue->count + more ? queue->capacity * 2
                                                                : queue->count + more;
    struct rk_raft_message *items =
        rk_realloc_array(queue->items, capacity, sizeof(*items));
    if (items == NULL) return RK_ENOMEM;
    queue->items = items;
    queue->capacity = capacity;
    return RK_OK;
}

bool rk_raft_queue_push(struct rk_raft_queue *queue, const struct rk_raft_message *message)
{
    if (rk_raft_queue_reserve(queue, 1) != RK_OK) return false;
    queue->items[queue->head + queue->count++] = *message;
    return true;
}

void rk_raft_queue_clear(struct rk_raft_queue *queue)
{
    queue->head = 0;
    queue->count = 0;
}

static enum rk_status reserve_reads(struct rk_raft_read_list *list, size_t more)
{
    if (list->count + more <= list->capacity) return RK_OK;
    size_t capacity = (list->count + more) * 2;
    struct rk_raft_read_state *items =
        rk_realloc_array(list->items, capacity, sizeof(*items));
    if (items == NULL) return RK_ENOMEM;
    list->items = items;
    list->capacity = capacity;
    return RK_OK;
}

enum rk_status rk_raft_prepare(struct rk_raft *raft)
{
    /* Own answers in `held` come back as steps that leave at most one more each. */
    enum rk_status status =
        rk_raft_queue_reserve(&raft->out, RK_RAFT_ROOM + raft->held.count);
    if (status == RK_OK)
        status =
            rk_raft_queue_reserve(&raft->after, 4 + raft->held.count + raft->after.count);
    if (status == RK_OK) status = reserve_reads(&raft->released, 1 + raft->reads.count);
    if (status == RK_OK)
        status = rk_raft_log_reserve(&raft->log, rk_raft_log_last(&raft->log), 1, 0);
    rk_arena_reset(&raft->scratch);
    return status;
}

void rk_raft_release_read(struct rk_raft *raft, struct rk_raft_read_state read)
{
    if (reserve_reads(&raft->released, 1) != RK_OK) return; /* as if lost on the way */
    raft->released.items[raft->released.count++] = read;
}

static bool waits_for_disk(uint8_t type)
{
    if (type == RK_RAFT_MSG_VOTE_RESP && RK_MUTANT(vote_before_durable)) return false;
    if (type == RK_RAFT_MSG_APP_RESP && RK_MUTANT(ack_before_durable)) return false;
    return type == RK_RAFT_MSG_APP_RESP || type == RK_RAFT_MSG_VOTE_RESP ||
           type == RK_RAFT_MSG_PRE_VOTE_RESP;
}

/* A leader that is not asked for a trace acknowledges to itself once a turn. */
static bool merge_own_ack(struct rk_raft *raft, const struct rk_raft_message *message)
{
    if (raft->options.is_eager || raft->after.count == 0) return false;
    struct rk_raft_message *last =
        &raft->after.items[raft->after.head + raft->after.count - 1];
    if (message->type != RK_RAFT_MSG_APP_RESP || message->to != raft->id ||
        last->type != message->type || last->to != raft->id || last->term != message->term)
        return false;
    last->index = message->index;
    return true;
}

void rk_raft_send(struct rk_raft *raft, struct rk_raft_message message)
{
    uint8_t type = message.type;
    bool is_ballot = type == RK_RAFT_MSG_VOTE || type == RK_RAFT_MSG_VOTE_RESP ||
                     type == RK_RAFT_MSG_PRE_VOTE || type == RK_RAFT_MSG_PRE_VOTE_RESP;
    if (message.from == RK_RAFT_NONE) message.from = raft->id;
    RK_ASSERT(is_ballot == (message.term != 0));
    /* Forwarded proposals and reads belong to no term. */
    if (!is_ballot && type != RK_RAFT_MSG_PROP && type != RK_RAFT_MSG_READ_INDEX)
        message.term = raft->term;

    if (waits_for_disk(type) || message.to == raft->id) {
        RK_ASSERT(type == RK_RAFT_MSG_APP_RESP || type == RK_RAFT_MSG_VOTE_RESP ||
                  type == RK_RAFT_MSG_PRE_VOTE_RESP);
        if (merge_own_ack(raft, &message)) return;
        bool is_kept = rk_raft_queue_push(&raft->after, &message);
        RK_ASSERT(is_kept || message.to != raft->id); /* rk_raft_prepare made room */
        return;
    }
    (void)rk_raft_queue_push(&raft->out, &message); /* without memory: as if lost */
}

void rk_raft_pin_messages(struct rk_raft *raft, uint64_t after)
{
    for (size_t i = 0; i < raft->out.count; i++) {
        struct rk_raft_message *message = &raft->out.items[raft->out.head + i];
        if (message->entry_count > 0 && message->entries == NULL &&
            message->index + message->entry_count > after)
            message->entries = rk_raft_log_at(&raft->log, message->index + 1);
    }
}
