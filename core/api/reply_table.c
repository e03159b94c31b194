/* What replies look like: the lines that lists are made of, and the operations' shapes. */
#include "api/table.h"

#include <stddef.h>

#define PART_OF(owner, kind_, member, wire, when_)                                         \
    {                                                                                      \
        .name = (wire), .offset = offsetof(struct owner, member),                          \
        .name_size = sizeof(wire) - 1, .kind = RK_PART_##kind_, .when = RK_WHEN_##when_    \
    }
#define COUNT_OF(array) (sizeof(array) / sizeof((array)[0]))
#define SHAPE(name_, owner, ...)                                                           \
    static const struct rk_part parts_##name_[] = {__VA_ARGS__};                           \
    static const struct rk_shape shape_##name_ = {                                         \
        .name = #name_,                                                                    \
        .parts = parts_##name_,                                                            \
        .count = COUNT_OF(parts_##name_),                                                  \
        .item_size = sizeof(struct owner),                                                 \
    }

#define HOLDER(kind, member, when) PART_OF(rk_holder, kind, member, #member, when)
#define HOLDER_PARTS                                                                       \
    HOLDER(TEXT, owner, ALWAYS), HOLDER(MODE, mode, ALWAYS), HOLDER(U64, fence, ALWAYS),   \
        HOLDER(TEXT, session, SET), HOLDER(U64, lease_left_ms, SET),                       \
        HOLDER(U32, count, SET)
SHAPE(holder, rk_holder, HOLDER_PARTS);

#define WAITER(kind, member, when) PART_OF(rk_waiter, kind, member, #member, when)
SHAPE(waiter, rk_waiter, WAITER(TEXT, owner, ALWAYS), WAITER(MODE, mode, ALWAYS),
      WAITER(U64, waited_ms, ALWAYS), WAITER(I32, priority, SET));

#define LISTED(kind, member, wire, when) PART_OF(rk_listed, kind, member, wire, when)
SHAPE(session_line, rk_listed, LISTED(TEXT, name, "session", ALWAYS),
      LISTED(U64, ttl_ms, "ttl_ms", ALWAYS), LISTED(U64, holder_count, "locks", ALWAYS));
SHAPE(lock_line, rk_listed, LISTED(TEXT, name, "resource", ALWAYS),
      LISTED(MODE, mode, "mode", ALWAYS), LISTED(U64, fence, "fence", ALWAYS),
      LISTED(U64, holder_count, "holders", ALWAYS),
      LISTED(U64, waiter_count, "waiters", ALWAYS));
SHAPE(topic_line, rk_listed, LISTED(TEXT, name, "topic", ALWAYS),
      LISTED(U64, message_count, "messages", ALWAYS));

#define EDGE(kind, member, when) PART_OF(rk_wait_edge, kind, member, #member, when)
SHAPE(edge, rk_wait_edge, EDGE(TEXT, owner, ALWAYS), EDGE(TEXT, resource, ALWAYS),
      EDGE(TEXT, by, ALWAYS));

#define DELIVERY(kind, member, when) PART_OF(rk_delivery_out, kind, member, #member, when)
#define DELIVERY_EXTRAS                                                                    \
    DELIVERY(U32, attempt, ALWAYS), DELIVERY(U8, priority, SET),                           \
        DELIVERY(TEXT, group, SET), DELIVERY(HEADERS, headers, SET)
SHAPE(delivery, rk_delivery_out, DELIVERY(TEXT, id, ALWAYS),
      DELIVERY(TEXT, message_id, ALWAYS), DELIVERY(VALUE, message, ALWAYS),
      DELIVERY_EXTRAS);
SHAPE(peek_line, rk_delivery_out, DELIVERY(TEXT, id, SET),
      DELIVERY(TEXT, message_id, ALWAYS), DELIVERY(VALUE, message, ALWAYS),
      DELIVERY(TEXT, state, ALWAYS), DELIVERY_EXTRAS);

#define RESULT(kind, member, wire, when) PART_OF(rk_result, kind, member, wire, when)
#define RESULT_ID                        RESULT(TEXT, id, "id", ALWAYS)
#define RESULT_CODE                      RESULT(CODE, status, "code", SET)
SHAPE(ack_line, rk_result, RESULT_ID, RESULT(IS_OK, status, "ack", ALWAYS), RESULT_CODE);
SHAPE(ok_line, rk_result, RESULT_ID, RESULT(IS_OK, status, "ok", ALWAYS), RESULT_CODE);
SHAPE(delete_line, rk_result, RESULT_ID, RESULT(BOOL, deleted, "deleted", ALWAYS),
      RESULT_CODE);
SHAPE(key_line, rk_result, RESULT(TEXT, id, "key", ALWAYS),
      RESULT(BOOL, deleted, "deleted", ALWAYS), RESULT(U64, version, "version", SET),
      RESULT_CODE);

#define ENTRY(kind, member, when) PART_OF(rk_entry_out, kind, member, #member, when)
SHAPE(entry, rk_entry_out, ENTRY(TEXT, key, ALWAYS), ENTRY(BOOL, found, ALWAYS),
      ENTRY(VALUE, value, LINE_FOUND), ENTRY(U64, version, LINE_FOUND),
      ENTRY(BOOL, stale, SET));

#define TOPIC(kind, member) PART_OF(rk_topic_stats, kind, member, #member, ALWAYS)
#define TOPIC_STATE                                                                        \
    TOPIC(U64, ready), TOPIC(U64, delayed), TOPIC(U64, in_flight), TOPIC(U64, dead),       \
        TOPIC(U64, bytes)
#define TOPIC_COUNTS                                                                       \
    TOPIC(U64, published), TOPIC(U64, delivered), TOPIC(U64, acked), TOPIC(U64, failed),   \
        TOPIC(U64, expired)
#define TOPIC_SETTINGS                                                                     \
    TOPIC(BOOL, paused), TOPIC(U64, visibility_ms), TOPIC(U64, deliveries_max),            \
        TOPIC(U64, retry_ms), TOPIC(U64, retry_max_ms), TOPIC(U64, dedup_ms),              \
        TOPIC(U64, ttl_ms), TOPIC(U64, messages_max), TOPIC(U64, bytes_max)
SHAPE(topic_info, rk_topic_stats, TOPIC_STATE, TOPIC_SETTINGS);
SHAPE(topic_counts, rk_topic_stats, TOPIC_STATE, TOPIC_COUNTS);
SHAPE(topic_all, rk_topic_stats, TOPIC_STATE, TOPIC_COUNTS, TOPIC_SETTINGS);

#define CACHE(member) PART_OF(rk_cache_stats, U64, member, #member, ALWAYS)
SHAPE(cache_counts, rk_cache_stats, CACHE(entries), CACHE(bytes), CACHE(bytes_max),
      CACHE(hits), CACHE(misses), CACHE(evicted), CACHE(expired));

static const struct rk_part problem_holder_parts[] = {HOLDER(TEXT, owner, ALWAYS),
                                                      HOLDER(MODE, mode, ALWAYS)};
const struct rk_shape rk_shape_problem_holder = {"problem_holder", problem_holder_parts,
                                                 COUNT_OF(problem_holder_parts),
                                                 sizeof(struct rk_holder)};
const struct rk_shape rk_shape_edge = {"edge", parts_edge, COUNT_OF(parts_edge),
                                       sizeof(struct rk_wait_edge)};

/* Replies. */
#define RK_SHOW_AS(kind, member, wire, when) PART_OF(rk_reply, kind, member, wire, when)
#define RK_SHOW(kind, member, when)          RK_SHOW_AS(kind, member, #member, when)
#define RK_SHOW_FORM(kind, member, form)     RK_SHOW_AS(kind, member, #member, form)
#define RK_SHOW_FOUND(kind, member)          RK_SHOW_AS(kind, member, #member, FOUND)
#define LIST_OF(kind_, member, count_, wire, lines_, when_)                                \
    {                                                                                      \
        .name = (wire), .offset = offsetof(struct rk_reply, member),                       \
        .count_offset = offsetof(struct rk_reply, count_), .name_size = sizeof(wire) - 1,  \
        .kind = RK_PART_##kind_, .when = RK_WHEN_##when_, .shape = &shape_##lines_         \
    }
#define RK_SHOW_LIST(member, count, wire, shape, when)                                     \
    LIST_OF(LIST, member, count, wire, shape, when)
#define RK_SHOW_FIRST(member, count, shape) LIST_OF(FIRST, member, count, "", shape, SINGLE)
#define RK_SHOW_STATS(member, shape)        LIST_OF(INLINE, member, edge_count, "", shape, SET)
#define RK_SHOW_DOCUMENT                    RK_SHOW_AS(DOCUMENT, document, "", ALWAYS)

#define UNWRAP(...)                         __VA_ARGS__
#define RK_OPERATION(id, area, verb, group, flags, fields, reply, summary)                 \
    static const struct rk_part reply_##id[] = {UNWRAP reply};
#include "api/operations.def"
#undef RK_OPERATION

static const struct rk_shape reply_shapes[RK_OP_MAX] = {
#define RK_OPERATION(id, area, verb, group, flags, fields, reply, summary)                 \
    [RK_OP_##                                                                              \
        id] = {area "." verb, reply_##id, COUNT_OF(reply_##id), sizeof(struct rk_reply)},
#include "api/operations.def"
#undef RK_OPERATION
};

const struct rk_shape *rk_reply_shape(enum rk_op op)
{
    static const struct rk_shape none = {.name = "none"};
    return (unsigned)op < RK_OP_MAX ? &reply_shapes[op] : &none;
}

/* The log form: everything of every line. Places are fixed for ever; add at the end. */
SHAPE(log_holder, rk_holder, HOLDER_PARTS);
SHAPE(log_listed, rk_listed, LISTED(TEXT, name, "name", ALWAYS),
      LISTED(U8, mode, "mode", ALWAYS), LISTED(U64, holder_count, "holders", ALWAYS),
      LISTED(U64, waiter_count, "waiters", ALWAYS), LISTED(U64, fence, "fence", ALWAYS),
      LISTED(U64, ttl_ms, "ttl_ms", ALWAYS),
      LISTED(U64, message_count, "messages", ALWAYS));
SHAPE(log_delivery, rk_delivery_out, DELIVERY(TEXT, id, ALWAYS),
      DELIVERY(TEXT, message_id, ALWAYS), DELIVERY(VALUE, message, ALWAYS), DELIVERY_EXTRAS,
      DELIVERY(TEXT, state, ALWAYS));
SHAPE(log_result, rk_result, RESULT_ID, RESULT(STATUS, status, "status", ALWAYS),
      RESULT(U64, version, "version", ALWAYS), RESULT(BOOL, deleted, "deleted", ALWAYS));

#define LOG(kind, member)              RK_SHOW_AS(kind, member, #member, SET)
#define LOG_LIST(member, count, shape) LIST_OF(LIST, member, count, #member, shape, SET)
#define LOG_INLINE(member, shape)      LIST_OF(INLINE, member, edge_count, #member, shape, SET)
static const struct rk_part reply_log_parts[] = {
    LOG(BOOL, granted),
    LOG(BOOL, ok),
    LOG(BOOL, ack),
    LOG(BOOL, found),
    LOG(BOOL, released),
    LOG(U64, fence),
    LOG(U64, lease_ms),
    LOG(U64, version),
    LOG(VALUE, value),
    LOG(TEXT, id),
    LOG_LIST(messages, message_count, log_delivery),
    LOG(STRINGS, ids),
    LOG_LIST(results, result_count, log_result),
    LOG_LIST(entries, entry_count, entry),
    LOG(BOOL, is_bulk),
    LOG(BOOL, renewed),
    LOG(BOOL, held),
    LOG(BOOL, closed),
    LOG(BOOL, stale),
    LOG(BOOL, deleted),
    LOG(BOOL, touched),
    LOG(BOOL, cancelled),
    LOG(U8, mode),
    LOG(U64, ttl_ms),
    LOG(U64, visibility_ms),
    LOG(U64, count),
    LOG(I64, number_value),
    LOG(TEXT, session),
    LOG(TEXT, resource),
    LOG(TEXT, topic),
    LOG(TEXT, fill_token),
    LOG(TEXT, after),
    LOG_LIST(holders, holder_count, log_holder),
    LOG_LIST(waiters, waiter_count, waiter),
    LOG_LIST(edges, edge_count, edge),
    LOG_LIST(listed, listed_count, log_listed),
    LOG_INLINE(topic_stats, topic_all),
    LOG_INLINE(cache_stats, cache_counts),
    LOG(VALUE, document),
    LOG(LINE, text),
    LOG(TEXT, field),
    LOG(U8, outcome),
    LOG(U64, retry_after_ms),
    LOG(TEXT, leader),
    LOG(U32, position_group),
    LOG(U64, position_index),
    LOG(U64, position_history),
};
const struct rk_shape rk_shape_reply_log = {
    "reply", reply_log_parts, COUNT_OF(reply_log_parts), sizeof(struct rk_reply)};
