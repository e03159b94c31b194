/* sessions.h - inside core/state: leases that clients keep alive and tie their locks to.
 *
 * A session's id is never used again. When it ends, closed or expired, its waits end and
 * its locks are given back in the same apply. */
#ifndef RK_STATE_SESSIONS_H
#define RK_STATE_SESSIONS_H

#include "state/names.h"
#include "state/object.h"

enum { RK_SESSION_ID_MAX = 32 }; /* bytes of an id, with NUL */

struct rk_session {
    struct rk_object object;
    struct rk_map_node node;   /* by id */
    struct rk_name_node order; /* for lists */
    struct rk_list grants;     /* struct rk_grant, oldest first */
    struct rk_list waits;      /* struct rk_wait, oldest first */
    uint64_t ttl_ms;
    uint32_t grant_count;
    uint32_t wait_count;
    uint32_t name_size;
    char id[RK_SESSION_ID_MAX]; /* node.key.size bytes */
    uint8_t name[];
};

/* NULL: there is none of that id. */
struct rk_session *rk_session_find(const struct rk_machine *machine, struct rk_slice id);
static inline struct rk_slice rk_session_id(const struct rk_session *session)
{
    return session->node.key;
}
/* As a keepalive, but through the log. */
RK_MUST_CHECK enum rk_status rk_session_renew(struct rk_machine *machine,
                                              struct rk_session *session, uint64_t now);
/* It goes, with what it holds and waits for; what it held is settled. */
RK_MUST_CHECK enum rk_status rk_session_end(struct rk_machine *machine,
                                            struct rk_apply *apply,
                                            struct rk_session *session, bool is_expired);
#endif
