/* table.h - how operations.def is read, and the shapes of replies. Private to core/api. */
#ifndef RK_API_TABLE_H
#define RK_API_TABLE_H

#include "api/api.h"

enum {
    RK_CLIENT_MAX = 64,
    RK_DUE_MAX = 65536,  /* items of internal lists */
    RK_HEADERS_MAX = 64, /* of a message */
    RK_HEADER_VALUE_MAX = 4096,
    RK_POSITION_TEXT_MAX = 8192,
    RK_POSITION_ITEMS_MAX = 1024,
};
#define RK_DAY_MS   UINT64_C(86400000)
#define RK_WEEK_MS  (7 * RK_DAY_MS)
#define RK_MONTH_MS (30 * RK_DAY_MS)
#define RK_YEAR_MS  (365 * RK_DAY_MS)
/* Exact as a double: JSON readers and Lua keep it. */
#define RK_EXACT_MAX ((UINT64_C(1) << 53) - 1)

enum { RK_WRITE = 1, RK_GROWS = 2, RK_INTERNAL = 4 };

/* A list of rules for one kind of object: a message, an item of resources, the call. */
struct rk_rules {
    const struct rk_field_rule *rules;
    uint32_t count;
};
extern const struct rk_rules rk_rules_call;
extern const struct rk_rules rk_rules_message;
extern const struct rk_rules rk_rules_resource;
extern const struct rk_rules rk_rules_unique;

/* All fields by number; those without a name are none. */
extern const struct rk_field_info rk_field_infos[RK_FIELD_END];

static inline const struct rk_field_info *rk_rule_info(const struct rk_field_rule *rule)
{
    return &rk_field_infos[rule->field];
}

enum rk_owner { RK_OWNER_REQUEST, RK_OWNER_MESSAGE, RK_OWNER_RESOURCE };
static inline enum rk_owner rk_field_owner(uint8_t field)
{
    if (field < 80) return RK_OWNER_REQUEST;
    return field < 96 ? RK_OWNER_MESSAGE : RK_OWNER_RESOURCE;
}
static inline bool rk_field_is_tracked(uint8_t field)
{
    return field < 64;
}

/* What is shown of a reply, or of one line in it. */
enum rk_part_kind {
    RK_PART_BOOL = 1,
    RK_PART_U8,
    RK_PART_U32,
    RK_PART_I32,
    RK_PART_U64,
    RK_PART_I64,
    RK_PART_TEXT,
    RK_PART_MODE,
    RK_PART_VALUE,
    RK_PART_STRINGS,
    RK_PART_HEADERS,
    RK_PART_IS_OK,    /* status as a bool */
    RK_PART_CODE,     /* status as its wire name, shown unless RK_OK */
    RK_PART_LIST,     /* pointer and count of lines */
    RK_PART_FIRST,    /* the parts of the first line, or "message": null */
    RK_PART_INLINE,   /* the parts of a struct behind a pointer */
    RK_PART_DOCUMENT, /* the whole body */
    RK_PART_STATUS,   /* log only */
    RK_PART_LINE,     /* log only: a char array */
};

enum rk_part_when {
    RK_WHEN_ALWAYS,
    RK_WHEN_SET,        /* not zero, not empty */
    RK_WHEN_SINGLE,     /* unless is_bulk */
    RK_WHEN_BULK,       /* if is_bulk */
    RK_WHEN_FOUND,      /* single and found */
    RK_WHEN_IF_HELD,    /* if there are holders */
    RK_WHEN_LINE_FOUND, /* in an entry that was found */
};

struct rk_shape;

struct rk_part {
    const char *name;
    uint16_t offset;
    uint16_t count_offset; /* LIST, FIRST */
    uint8_t name_size;
    uint8_t kind;                 /* enum rk_part_kind */
    uint8_t when;                 /* enum rk_part_when */
    const struct rk_shape *shape; /* LIST, FIRST, INLINE */
};

struct rk_shape {
    const char *name;
    const struct rk_part *parts;
    uint32_t count;
    uint32_t item_size;
};

/* What the reply of an operation shows. */
const struct rk_shape *rk_reply_shape(enum rk_op op);
/* Everything in a reply, in the order of the log form; a part's place is its number. */
extern const struct rk_shape rk_shape_reply_log;
/* Lines that a problem document can carry. */
extern const struct rk_shape rk_shape_problem_holder;
extern const struct rk_shape rk_shape_edge;
#endif
