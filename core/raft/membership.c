/* Membership changes: their data in entries, and what follows from them (Raft thesis,
 * chapter 4; in effect on apply, as in etcd-io/raft). */
#include "raft/confchange.h"
#include "raft/internal.h"

enum { CONF_VERSION = 1 };

enum rk_status rk_raft_conf_change_encode(struct rk_buf *out,
                                          const struct rk_raft_conf_change *change)
{
    if (change->count > RK_RAFT_MEMBERS_MAX ||
        change->context.size > RK_RAFT_CONTEXT_SIZE_MAX)
        return RK_ELIMIT;
    /* Leaving a joint membership is no data at all: such an entry always fits. */
    if (change->count == 0 && change->transition == RK_RAFT_TRANSITION_AUTO &&
        change->context.size == 0)
        return rk_buf_check(out);
    rk_buf_u8(out, CONF_VERSION);
    rk_buf_u8(out, (uint8_t)change->transition);
    rk_buf_varint(out, change->count);
    for (uint32_t i = 0; i < change->count; i++) {
        rk_buf_u8(out, (uint8_t)change->changes[i].op);
        rk_buf_varint(out, change->changes[i].id);
    }
    rk_buf_blob(out, change->context);
    return rk_buf_check(out);
}

enum rk_status rk_raft_conf_change_decode(struct rk_raft_conf_change *out,
                                          struct rk_slice data)
{
    memset(out, 0, sizeof(*out));
    if (data.size == 0) return RK_OK;
    struct rk_reader reader;
    rk_reader_init(&reader, data);
    uint8_t version = rk_read_u8(&reader);
    uint8_t transition = rk_read_u8(&reader);
    uint64_t count = rk_read_varint(&reader);
    if (!reader.is_failed && version > CONF_VERSION) return RK_EUNSUPPORTED;
    if (reader.is_failed || version == 0 ||
        transition > RK_RAFT_TRANSITION_JOINT_EXPLICIT || count > RK_RAFT_MEMBERS_MAX)
        return RK_EPROTO;
    for (uint64_t i = 0; i < count; i++) {
        uint8_t op = rk_read_u8(&reader);
        if (op > RK_RAFT_ADD_LEARNER) return RK_EPROTO;
        out->changes[i].op = (enum rk_raft_conf_op)op;
        out->changes[i].id = rk_read_varint(&reader);
    }
    out->transition = (enum rk_raft_transition)transition;
    out->count = (uint32_t)count;
    out->context = rk_read_blob(&reader);
    if (out->context.size > RK_RAFT_CONTEXT_SIZE_MAX) return RK_EPROTO;
    return rk_reader_check(&reader, true);
}

void rk_raft_conf(const struct rk_raft *raft, struct rk_raft_conf_state *out)
{
    *out = raft->tracker.conf;
}

void rk_raft_switch_tracker(struct rk_raft *raft, const struct rk_raft_tracker *next)
{
    rk_raft_tracker_replace(&raft->tracker, next);
    raft->reads.lease_start = 0; /* others decide now who leads: their answers count */
    const struct rk_raft_peer *self = rk_raft_tracker_find(&raft->tracker, raft->id);
    raft->is_learner = self != NULL && self->is_learner;
    if (raft->role != RK_RAFT_LEADER) return;
    if (self == NULL || raft->is_learner) {
        if (raft->options.step_down_on_removal)
            rk_raft_become_follower(raft, raft->term, RK_RAFT_NONE);
        return;
    }
    if (raft->tracker.conf.voters.count == 0) return;

    if (rk_raft_advance_commit(raft)) {
        rk_raft_broadcast_append(raft);
    } else {
        /* A new member should not wait for the next heartbeat. */
        for (uint32_t i = 0; i < raft->tracker.count; i++)
            if (raft->tracker.peers[i].id != raft->id)
                (void)rk_raft_send_append(raft, raft->tracker.peers[i].id, false);
    }
    if (raft->transferee != RK_RAFT_NONE &&
        !rk_raft_conf_has_voter(&raft->tracker.conf, raft->transferee))
        raft->transferee = RK_RAFT_NONE;
}

enum rk_status rk_raft_put_change(struct rk_raft *raft,
                                  const struct rk_raft_conf_change *change)
{
    struct rk_raft_changer changer;
    rk_raft_changer_init(&changer, &raft->tracker, rk_raft_log_last(&raft->log));
    enum rk_status status = rk_raft_change(&changer, change);
    if (status == RK_ELIMIT) return RK_EINVAL;
    if (status == RK_OK) rk_raft_switch_tracker(raft, &changer.tracker);
    return status;
}

enum rk_status rk_raft_apply_conf(struct rk_raft *raft, const struct rk_raft_entry *entry,
                                  struct rk_raft_conf_state *out)
{
    struct rk_raft_conf_change change;
    enum rk_status status = rk_raft_prepare(raft);
    if (status != RK_OK) return status;
    RK_ASSERT(entry->type != RK_RAFT_ENTRY_NORMAL && entry->index <= raft->log.committed);
    status = rk_raft_conf_change_decode(&change, entry->data);
    if (status != RK_OK) return status;

    status = rk_raft_put_change(raft, &change);
    if (out != NULL) *out = raft->tracker.conf;
    return status;
}
