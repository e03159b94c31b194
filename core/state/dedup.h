/* dedup.h - inside core/state: clients and the answers kept for them.
 *
 * A mutation is named (client, seq). Its answer is kept until the client says, by its
 * first unanswered seq, that it has it; until then the same request gets the same answer.
 * A waiting acquire has a pending answer, a cancelled request one that says so. */
#ifndef RK_STATE_DEDUP_H
#define RK_STATE_DEDUP_H

#include "state/object.h"

struct rk_client {
    struct rk_object object;
    struct rk_map_node node; /* machine->clients; key is the name */
    struct rk_list answers;  /* by seq */
    uint64_t first_unanswered;
    uint64_t active_ms; /* group time of its last request */
    uint32_t answer_count;
    uint32_t pending_count;
    uint8_t name[]; /* node.key.size bytes */
};

extern const struct rk_object_class rk_dedup_classes[]; /* ends with {0} */

/* Before the handler. *is_done: the entry was answered, re-attached or refused and there
 * is nothing to execute; else *client takes the answer. apply->reply may be filled. */
RK_MUST_CHECK enum rk_status rk_dedup_begin(struct rk_machine *machine,
                                            struct rk_apply *apply,
                                            struct rk_client **client, bool *is_done);
/* After the handler: remembers the answer, or that it is pending. */
RK_MUST_CHECK enum rk_status rk_dedup_end(struct rk_machine *machine,
                                          struct rk_apply *apply, struct rk_client *client);
/* RK_OP_CALL_CANCEL and RK_OP_LOCK_CANCEL. */
RK_MUST_CHECK enum rk_status rk_dedup_cancel(struct rk_machine *machine,
                                             struct rk_apply *apply);

/* The history ends: clients of group 0 are forgotten, whose answers are grants and sessions
 * of that history; of others what they consumed. Nothing may be pending. */
RK_MUST_CHECK enum rk_status rk_dedup_retire(struct rk_machine *machine,
                                             struct rk_apply *apply);
#endif
