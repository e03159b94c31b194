/* Calls: their memory, and their bytes. Redis's formatter in hiredis allocates for each
 * command; these are written into memory that a call keeps. */
#include "redis/redis_internal.h"

#include "base/alloc.h"
#include "base/assert.h"

#include <stdio.h>

enum {
    INDEX_BITS = 24,
    CALLS_GROW = 64,
    SHA_SIZE = 40,
};

static struct rk_redis_call *new_call(struct rk_redis *redis)
{
    if (redis->call_count == redis->call_capacity) {
        if (redis->call_capacity >> (INDEX_BITS - 1) != 0) return NULL;
        uint32_t capacity = redis->call_capacity * 2 + CALLS_GROW;
        struct rk_redis_call **calls =
            rk_realloc_array(redis->calls, capacity, sizeof(struct rk_redis_call *));
        if (calls == NULL) return NULL;
        redis->calls = calls;
        redis->call_capacity = capacity;
    }
    /* Its timer can always be set, then, and those of all links. */
    if (rk_heap_reserve(&redis->timers, redis->call_count + 1 + 2 * RK_REDIS_NODES_MAX) !=
        RK_OK)
        return NULL;
    struct rk_redis_call *call = rk_calloc(1, sizeof(*call));
    if (call == NULL) return NULL;
    rk_buf_init(&call->bytes);
    rk_arena_init(&call->kept);
    rk_list_init(&call->link_in);
    call->index = redis->call_count;
    call->generation = 1;
    redis->calls[redis->call_count++] = call;
    return call;
}

struct rk_redis_call *rk_redis_call_take(struct rk_redis *redis)
{
    struct rk_redis_call *call;
    if (rk_list_is_empty(&redis->idle)) {
        call = new_call(redis);
        if (call == NULL) return NULL;
    } else {
        call = RK_CONTAINER(rk_list_first(&redis->idle), struct rk_redis_call, link_in);
        rk_list_remove(&call->link_in);
    }
    struct rk_redis_call fresh = {.index = call->index,
                                  .generation = call->generation,
                                  .bytes = call->bytes,
                                  .kept = call->kept,
                                  .place = CALL_PAUSED,
                                  .slot = CALL_ANY_SLOT};
    *call = fresh;
    rk_list_init(&call->link_in);
    return call;
}

void rk_redis_call_unlink(struct rk_redis *redis, struct rk_redis_call *call)
{
    struct rk_redis_link *link = call->link;
    if (call->place == CALL_SENT) {
        link->sent_count--;
        link->sent_bytes -= rk_redis_call_size(call);
    }
    (void)redis;
    rk_list_remove(&call->link_in);
    call->place = CALL_PAUSED;
    call->link = NULL;
}

void rk_redis_call_put(struct rk_redis *redis, struct rk_redis_call *call)
{
    rk_redis_call_unlink(redis, call);
    rk_redis_unwake(redis, &call->timer);
    call->generation++;
    call->place = CALL_IDLE;
    rk_arena_fini(&call->kept);
    if (call->bytes.capacity > CALL_BYTES_KEEP) {
        rk_buf_fini(&call->bytes);
        rk_buf_init(&call->bytes);
    }
    rk_buf_reset(&call->bytes);
    rk_list_push_front(&redis->idle, &call->link_in);
}

uint64_t rk_redis_call_id(const struct rk_redis_call *call)
{
    return call->generation << INDEX_BITS | (call->index + 1);
}

struct rk_redis_call *rk_redis_call_of(const struct rk_redis *redis, uint64_t id)
{
    uint64_t index = id & ((1u << INDEX_BITS) - 1);
    if (index == 0 || index > redis->call_count) return NULL;
    struct rk_redis_call *call = redis->calls[index - 1];
    bool is_it = call->generation == id >> INDEX_BITS && call->place != CALL_IDLE &&
                 call->kind == CALL_USER && !call->is_over;
    return is_it ? call : NULL;
}

/* ---- bytes -------------------------------------------------------------------------- */

static void write_count(struct rk_buf *out, char mark, uint64_t count)
{
    char text[24];
    size_t at = sizeof(text);
    text[--at] = '\n';
    text[--at] = '\r';
    do {
        text[--at] = (char)('0' + count % 10);
        count /= 10;
    } while (count > 0);
    text[--at] = mark;
    rk_buf_append(out, text + at, sizeof(text) - at);
}

void rk_redis_write_head(struct rk_buf *out, uint32_t arg_count)
{
    write_count(out, '*', arg_count);
}

void rk_redis_write_arg(struct rk_buf *out, struct rk_slice arg)
{
    write_count(out, '$', arg.size);
    rk_buf_append_slice(out, arg);
    rk_buf_append(out, "\r\n", 2);
}

/* An upper bound of what rk_redis_write_call writes. */
size_t rk_redis_call_size(const struct rk_redis_call *call)
{
    size_t head = 64;
    if (call->script != NULL) head += call->has_text ? call->script->size + 32 : SHA_SIZE;
    return call->bytes.size + head;
}

void rk_redis_write_call(struct rk_buf *out, const struct rk_redis_call *call)
{
    const struct rk_redis_script *script = call->script;
    if (script != NULL) {
        rk_redis_write_head(out, call->arg_count);
        if (call->has_text) {
            rk_redis_write_arg(out, RK_SLICE_LITERAL("EVAL"));
            rk_redis_write_arg(out, rk_slice_of(script->text, script->size));
        } else {
            rk_redis_write_arg(out, RK_SLICE_LITERAL("EVALSHA"));
            rk_redis_write_arg(out, rk_slice_of(script->sha, SHA_SIZE));
        }
    }
    rk_buf_append_slice(out, rk_buf_slice(&call->bytes));
}
