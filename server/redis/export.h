/* export.h - what a Redis holds that no node uses: topics, caches, and records of locks.
 *
 * All is read once, in pages, with commands that change nothing. */
#ifndef RK_REDIS_EXPORT_H
#define RK_REDIS_EXPORT_H

#include "api/content.h"
#include "redis/offline.h"

struct rk_export;

struct rk_export_io {
    void *context;
    /* Topics come before their messages, messages before windows. id: the text of a
     * message's id; of a window that of its message; else empty. Lent. */
    enum rk_status (*take)(void *context, const struct rk_content *content,
                           struct rk_slice id);
    /* A record of sessions and locks, with its number, in no order. */
    enum rk_status (*record)(void *context, uint64_t id, struct rk_slice record);
};

struct rk_export_stats {
    uint64_t answers; /* hashes and keys with clients' answers, which stay behind */
    uint64_t broken;  /* keys that are not what the engine writes */
};

/* RK_ENOENT: there are no data. RK_EUNSUPPORTED: of another format. RK_EBUSY: nodes are
 * connected, or the data are not whole: offline->error. */
RK_MUST_CHECK enum rk_status rk_export_begin(struct rk_export **out,
                                             struct rk_offline *offline,
                                             const struct rk_export_io *io);
RK_MUST_CHECK enum rk_status rk_export_run(struct rk_export *export);
void rk_export_free(struct rk_export *export); /* NULL is fine */
uint64_t rk_export_history(const struct rk_export *export);
uint64_t rk_export_clock_us(const struct rk_export *export); /* Redis's, at the end */
const struct rk_export_stats *rk_export_stats(const struct rk_export *export);
#endif
