#include "rukund/lock_args.h"

#include "base/alloc.h"
#include "redis/names.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

void rk_lock_args_init(struct rk_lock_args *args)
{
    memset(args, 0, sizeof(*args));
    rk_arena_init(&args->arena);
}

void rk_lock_args_fini(struct rk_lock_args *args)
{
    rk_arena_fini(&args->arena);
    rk_free(args->items);
}

void rk_lock_args_reset(struct rk_lock_args *args)
{
    rk_arena_reset(&args->arena);
    args->count = 0;
    args->size = 0;
    args->is_starved = false;
}

void rk_lock_args_put(struct rk_lock_args *args, struct rk_slice arg)
{
    if (args->count == args->capacity) {
        uint32_t capacity = args->capacity == 0 ? 256 : args->capacity * 2;
        struct rk_slice *items = rk_realloc_array(args->items, capacity, sizeof(*items));
        if (items == NULL) {
            args->is_starved = true;
            return;
        }
        args->items = items;
        args->capacity = capacity;
    }
    args->items[args->count++] = arg;
    args->size += arg.size + RK_LOCK_ARGS_HEAD;
}

void rk_lock_args_put_text(struct rk_lock_args *args, const char *text)
{
    rk_lock_args_put(args, rk_slice_of_string(text));
}

static void put_copy(struct rk_lock_args *args, struct rk_slice bytes)
{
    struct rk_slice copy = rk_arena_copy(&args->arena, bytes);
    if (copy.data == NULL && bytes.size != 0) args->is_starved = true;
    rk_lock_args_put(args, copy);
}

void rk_lock_args_put_number(struct rk_lock_args *args, uint64_t number)
{
    char text[24];
    int size = snprintf(text, sizeof(text), "%" PRIu64, number);
    put_copy(args, rk_slice_of(text, (size_t)size));
}

static void put_field(struct rk_lock_args *args, const struct rk_host_store_change *change)
{
    char text[32];
    int size = snprintf(text, sizeof(text), "%u:%" PRIu64, change->kind, change->id);
    put_copy(args, rk_slice_of(text, (size_t)size));
}

static void put_names(struct rk_lock_args *args, const struct rk_slice *names,
                      uint32_t count)
{
    rk_lock_args_put_number(args, count);
    for (uint32_t i = 0; i < count; i++)
        rk_lock_args_put(args, names[i]);
}

/* A free lock has no hash, only who waits for it. */
void rk_lock_args_put_view(struct rk_lock_args *args, uint64_t id,
                           const struct rk_lock_view *view)
{
    struct rk_buf name;
    rk_buf_init(&name);
    rk_redis_name_escape(&name, view->name);
    if (rk_buf_check(&name) != RK_OK) args->is_starved = true;
    rk_lock_args_put_text(args, "V");
    rk_lock_args_put_number(args, id);
    put_copy(args, rk_buf_slice(&name));
    rk_buf_fini(&name);
    if (view->holder_count == 0) {
        rk_lock_args_put_number(args, 0);
    } else {
        const struct {
            const char *field;
            uint64_t value;
        } rows[] = {{"fence", view->fence},           {"lease_ms", view->lease_ms},
                    {"granted_ms", view->granted_ms}, {"holders", view->holder_count},
                    {"waiters", view->waiter_count},  {"limit", view->limit}};
        uint32_t count = sizeof(rows) / sizeof(rows[0]);
        rk_lock_args_put_number(args, count + 2 + (view->session.size != 0));
        rk_lock_args_put_text(args, "mode");
        rk_lock_args_put_text(args, view->mode == RK_MODE_SHARED ? "shared" : "exclusive");
        rk_lock_args_put_text(args, "owner");
        rk_lock_args_put(args, view->owners[0]);
        if (view->session.size != 0) {
            rk_lock_args_put_text(args, "session");
            rk_lock_args_put(args, view->session);
        }
        for (uint32_t i = 0; i < count; i++) {
            rk_lock_args_put_text(args, rows[i].field);
            rk_lock_args_put_number(args, rows[i].value);
        }
    }
    put_names(args, view->owners, view->owners_shown);
    put_names(args, view->waiters, view->waiters_shown);
}

void rk_lock_args_put_change(struct rk_lock_args *args,
                             const struct rk_host_store_change *change)
{
    rk_lock_args_put_text(args, "P");
    put_field(args, change);
    rk_lock_args_put(args, change->record);
}
