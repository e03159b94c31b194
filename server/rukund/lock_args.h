/* lock_args.h - arguments for the script of locks: numbers, records, the view of a lock.
 *
 * A failed allocation shows in is_starved only, so that callers put on and look once. */
#ifndef RK_RUKUND_LOCK_ARGS_H
#define RK_RUKUND_LOCK_ARGS_H

#include "base/arena.h"
#include "host/store.h"

enum { RK_LOCK_ARGS_HEAD = 16 /* bytes of each argument beside its own, about */ };

struct rk_lock_args {
    struct rk_arena arena; /* of those that are copied */
    struct rk_slice *items;
    uint32_t count, capacity;
    size_t size;     /* bytes of them all, with a head each */
    bool is_starved; /* some are missing */
};

void rk_lock_args_init(struct rk_lock_args *args);
void rk_lock_args_fini(struct rk_lock_args *args);
/* None, again. */
void rk_lock_args_reset(struct rk_lock_args *args);
/* Lent until the reset: the bytes, the text. Numbers are copied. */
void rk_lock_args_put(struct rk_lock_args *args, struct rk_slice arg);
void rk_lock_args_put_text(struct rk_lock_args *args, const char *text);
void rk_lock_args_put_number(struct rk_lock_args *args, uint64_t number);
/* A record that comes or goes. */
void rk_lock_args_put_change(struct rk_lock_args *args,
                             const struct rk_host_store_change *change);
/* How the lock that is the object `id` looks. */
void rk_lock_args_put_view(struct rk_lock_args *args, uint64_t id,
                           const struct rk_lock_view *view);
#endif
