/* snapshot.h - inside core/state: the stream of records, its saving side and its loading.
 *
 * A record: u8 kind, varint id, varint generation, u8 timer (1 armed, 2 absolute), varint
 * duration if armed, then the body of its class. The machine's own record comes first. */
#ifndef RK_STATE_SNAPSHOT_H
#define RK_STATE_SNAPSHOT_H

#include "state/object.h"

enum {
    RK_RECORD_VERSION = 1,
    RK_SNAPSHOT_SIDE_MAX = 256 << 20, /* bytes saved early; beyond it the snapshot fails */
};

void rk_snapshot_init(struct rk_machine *machine);
/* Before a change or removal: keeps the object's record as of begin, once, if the cursor
 * has not passed it. Failure ends the snapshot, not the apply. */
void rk_snapshot_save(struct rk_machine *machine, struct rk_object *object);
/* The object leaves the list: the cursor does not stay on it. */
void rk_snapshot_skip(struct rk_machine *machine, struct rk_object *object);
#endif
