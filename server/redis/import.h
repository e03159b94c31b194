/* import.h - contents of the embedded engine go into a Redis that holds none.
 *
 * From begin to end the meta data of Redis name no cluster, so that nodes refuse what is
 * not whole; at the end the first cluster to come makes it its own, under a new history.
 * Keys are written by the scripts that the engine's calls are made of. */
#ifndef RK_REDIS_IMPORT_H
#define RK_REDIS_IMPORT_H

#include "api/content.h"
#include "redis/offline.h"

/* What did not come along, by reason. */
enum rk_import_left {
    RK_IMPORT_ENTRY_EXPIRED,
    RK_IMPORT_WINDOW_OVER,
    RK_IMPORT_CACHE_BOUND,
    RK_IMPORT_CACHE_POLICY,
    RK_IMPORT_CACHE_FENCE, /* with a name: Redis keeps those for each key */
    RK_IMPORT_LEFTS
};

struct rk_import;

struct rk_import_stats {
    uint64_t taken[RK_CONTENT_KINDS];
    uint64_t delayed, dead; /* of messages */
    uint64_t left[RK_IMPORT_LEFTS];
};

/* Looks whether Redis is empty. RK_EEXIST: it is not: offline->error says whose data there
 * are. Else statuses of Redis. is_dry: nothing is written. */
RK_MUST_CHECK enum rk_status rk_import_begin(struct rk_import **out,
                                             struct rk_offline *offline, uint64_t history,
                                             bool is_dry);
/* A rk_content_take: topics come before what stands in them. */
enum rk_status rk_import_take(void *context, const struct rk_content *content);
/* All is there. Waits until Redis's clock is above the versions of all entries. RK_ERANGE:
 * it is far behind them. */
RK_MUST_CHECK enum rk_status rk_import_end(struct rk_import *import);
void rk_import_free(struct rk_import *import); /* NULL is fine */
const struct rk_import_stats *rk_import_stats(const struct rk_import *import);
/* Words for people: "messages", "cache entries that had expired". */
const char *rk_import_kind(enum rk_content_kind kind);
const char *rk_import_why(enum rk_import_left left);
#endif
