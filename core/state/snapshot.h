/* snapshot.h - inside core/state: the stream of records, its saving side and its loading.
 *
 * A record: u8 kind, varint id, varint generation, u8 timer (1 armed, 2 absolute), varint
 * duration if armed, then the body of its class. The machine's own record comes first. */
#ifndef RK_STATE_SNAPSHOT_H
#define RK_STATE_SNAPSHOT_H

#include "state/object.h"

enum { RK_RECORD_VERSION = 1 };

/* Fields that are narrower than their encodings. What does not fit fails the reader: a
 * record has one form, so that a restored machine has the hash of the saved one. */
static inline uint32_t rk_record_u32(struct rk_reader *body)
{
    uint64_t value = rk_read_varint(body);
    if (value > UINT32_MAX) body->is_failed = true;
    return (uint32_t)value;
}

static inline int32_t rk_record_i32(struct rk_reader *body)
{
    int64_t value = rk_read_zigzag(body);
    if (value < INT32_MIN || value > INT32_MAX) body->is_failed = true;
    return (int32_t)value;
}

/* Flags of which only those in `known` may be set; a bool knows 1. */
static inline uint8_t rk_record_flags(struct rk_reader *body, uint8_t known)
{
    uint8_t value = rk_read_u8(body);
    if ((value & ~known) != 0) body->is_failed = true;
    return value;
}

/* A record as the stream has it. */
void rk_record_meta(const struct rk_machine *machine, struct rk_buf *out);
void rk_record_object(const struct rk_machine *machine, const struct rk_object *object,
                      struct rk_buf *out);

void rk_snapshot_init(struct rk_machine *machine);
/* Before a change or removal: keeps the object's record as of begin, once, if the cursor
 * has not passed it. Without memory the snapshot ends, not the apply. */
void rk_snapshot_save(struct rk_machine *machine, struct rk_object *object);
/* The object leaves the list: the cursor does not stay on it. */
void rk_snapshot_skip(struct rk_machine *machine, struct rk_object *object);
#endif
