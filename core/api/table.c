#include "api/table.h"

#include <stddef.h>

static const char *const rk_words_mode[] = {"exclusive", "shared", NULL};
static const char *const rk_words_consistency[] = {"", "local", "linearizable", NULL};
static const char *const rk_words_scope[] = {"", "queued", "acked", "window", NULL};
static const char *const rk_words_policy[] = {"s3fifo", "lru", NULL};

#define FIELD_INFO(id, number, owner, member, kind_, wire, alias_, words_, doc_)           \
    [number] = {.name = (wire),                                                            \
                .alias = (alias_),                                                         \
                .words = (words_),                                                         \
                .doc = (doc_),                                                             \
                .offset = offsetof(struct owner, member),                                  \
                .name_size = sizeof(wire) - 1,                                             \
                .alias_size = sizeof(alias_) - 1,                                          \
                .kind = RK_KIND_##kind_,                                                   \
                .field = (number)},

const struct rk_field_info rk_field_infos[RK_FIELD_END] = {
#define RK_FIELD       FIELD_INFO
#define RK_FIELD_PLAIN FIELD_INFO
#include "api/fields.def"
};

const struct rk_field_info *rk_field_info(enum rk_field field)
{
    if ((unsigned)field >= RK_FIELD_END || rk_field_infos[field].name == NULL) return NULL;
    return &rk_field_infos[field];
}

#define RK_TEXT(name, flags_, min_, max_)                                                  \
    {                                                                                      \
        .field = RK_FIELD_##name, .flags = (flags_), .min = (min_), .max = (max_)          \
    }
#define RK_NAME(name, flags_) RK_TEXT(name, flags_, 1, RK_NAME_MAX)
#define RK_BYTES              RK_TEXT
#define RK_LIST               RK_TEXT
#define RK_UINT(name, flags_, min_, max_, fallback_)                                       \
    {                                                                                      \
        .field = RK_FIELD_##name, .flags = (flags_), .min = (min_), .max = (max_),         \
        .fallback = (fallback_)                                                            \
    }
#define RK_INT(name, flags_, min_, max_, fallback_)                                        \
    {                                                                                      \
        .field = RK_FIELD_##name, .flags = (flags_), .min = (uint64_t)(min_),              \
        .max = (uint64_t)(max_), .fallback = (uint64_t)(fallback_)                         \
    }
#define RK_BOOL(name, flags_, fallback_) RK_UINT(name, flags_, 0, 1, fallback_)
#define RK_WORD(name, flags_, fallback_) RK_UINT(name, flags_, 0, UINT8_MAX, fallback_)

#define RK_MESSAGE_OPTIONS                                                                 \
    RK_NAME(PUBLISH_ID, 0), {.field = RK_FIELD_UNIQUE},                                    \
        RK_UINT(MESSAGE_DELAY_MS, 0, 0, RK_MONTH_MS, 0),                                   \
        RK_UINT(DELIVER_AT, 0, 0, RK_EXACT_MAX, 0), RK_UINT(MESSAGE_PRIORITY, 0, 0, 9, 0), \
        RK_NAME(MESSAGE_GROUP, 0), RK_UINT(MESSAGE_TTL_MS, 0, 0, RK_YEAR_MS, 0),           \
        RK_LIST(HEADERS, 0, 0, RK_HEADERS_MAX)

#define COUNT_OF(array)   (sizeof(array) / sizeof((array)[0]))
#define RULES(name, list) const struct rk_rules name = {list, COUNT_OF(list)}

static const struct rk_field_rule call_rules[] = {
    RK_TEXT(CLIENT, 0, 1, RK_CLIENT_MAX),
    RK_UINT(SEQ, 0, 1, RK_EXACT_MAX, 0),
    RK_UINT(FIRST_UNANSWERED, 0, 0, RK_EXACT_MAX, 0),
    RK_UINT(DEADLINE_MS, 0, 0, RK_DEADLINE_MAX_MS, 0),
    RK_TEXT(POSITION, 0, 0, RK_POSITION_TEXT_MAX),
    RK_BOOL(FORWARD, 0, true),
};
static const struct rk_field_rule message_rules[] = {
    RK_BYTES(DATA, RK_RULE_REQUIRED, 0, RK_VALUE_MAX),
    RK_MESSAGE_OPTIONS,
};
static const struct rk_field_rule resource_rules[] = {
    RK_NAME(ITEM_RESOURCE, RK_RULE_REQUIRED),
    RK_WORD(ITEM_MODE, 0, RK_MODE_EXCLUSIVE),
};
static const struct rk_field_rule unique_rules[] = {
    RK_NAME(UNIQUE_KEY, RK_RULE_REQUIRED),
    RK_WORD(UNIQUE_SCOPE, 0, RK_UNIQUE_QUEUED),
};
RULES(rk_rules_call, call_rules);
RULES(rk_rules_message, message_rules);
RULES(rk_rules_resource, resource_rules);
RULES(rk_rules_unique, unique_rules);

#define UNWRAP(...) __VA_ARGS__
#define RK_OPERATION(id, area_, verb_, group_, flags_, fields, reply, summary_)            \
    static const struct rk_field_rule rules_##id[] = {UNWRAP fields};
#include "api/operations.def"
#undef RK_OPERATION

static const struct rk_op_info op_infos[RK_OP_MAX] = {
#define RK_OPERATION(id, area_, verb_, group_, flags_, fields, reply, summary_)            \
    [RK_OP_##id] = {.op = RK_OP_##id,                                                      \
                    .name = area_ "." verb_,                                               \
                    .path = "/" area_ "/" verb_,                                           \
                    .group = RK_GROUP_##group_,                                            \
                    .is_write = ((flags_)&RK_WRITE) != 0,                                  \
                    .is_internal = ((flags_)&RK_INTERNAL) != 0,                            \
                    .grows = ((flags_)&RK_GROWS) != 0,                                     \
                    .rules = rules_##id,                                                   \
                    .rule_count = COUNT_OF(rules_##id),                                    \
                    .name_size = sizeof(area_ verb_),                                      \
                    .area_size = sizeof(area_) - 1,                                        \
                    .summary = (summary_)},
#include "api/operations.def"
#undef RK_OPERATION
};

const struct rk_op_info *rk_op_info(enum rk_op op)
{
    if ((unsigned)op >= RK_OP_MAX || op_infos[op].name == NULL) return NULL;
    return &op_infos[op];
}

/* Where the operations of an area begin, by its first letter. */
static size_t area_first(uint8_t letter)
{
    switch (letter) {
    case 's': return RK_OP_SESSION_OPEN;
    case 'l': return RK_OP_LOCK_ACQUIRE;
    case 'q': return RK_OP_QUEUE_PUBLISH;
    case 'c': return RK_OP_CACHE_GET;
    default: return RK_OP_MAX;
    }
}

/* "<area><separator><verb>" */
static const struct rk_op_info *op_find(struct rk_slice text, uint8_t separator)
{
    for (size_t i = area_first(text.data[0]); i < RK_OP_MAX; i++) {
        const struct rk_op_info *info = &op_infos[i];
        size_t area = info->area_size, verb = area + 1;
        if (info->name_size != text.size || text.data[area] != separator) continue;
        if (memcmp(text.data + verb, info->name + verb, text.size - verb) != 0) continue;
        if (memcmp(text.data, info->name, area) != 0 || info->is_internal) continue;
        return info;
    }
    return NULL;
}

const struct rk_op_info *rk_op_by_name(struct rk_slice name)
{
    return name.size == 0 ? NULL : op_find(name, '.');
}

const struct rk_op_info *rk_op_by_path(struct rk_slice path)
{
    static const struct rk_slice version = {(const uint8_t *)"/v1/", 4};
    size_t skip = rk_slice_has_prefix(path, version) ? 4 : 1;
    if (path.size <= skip || path.data[0] != '/') return NULL;
    return op_find(rk_slice_of(path.data + skip, path.size - skip), '/');
}

enum rk_group_kind rk_request_group(const struct rk_request *request)
{
    const struct rk_op_info *info = rk_op_info(request->op);
    if (info == NULL) return RK_GROUP_NONE;
    if (request->op == RK_OP_QUEUE_STATS && request->topic.size == 0) return RK_GROUP_ALL;
    return info->group;
}
