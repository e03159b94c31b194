/* fields.h - the ids of request fields and what the table says of one in an operation.
 *
 * RK_HAS(request, NAME) asks and RK_SET(request, NAME) notes that a field was given, with
 * NAME as in fields.def, e.g. RK_HAS(request, IF_VERSION). */
#ifndef RK_API_FIELDS_H
#define RK_API_FIELDS_H

#include "base/bytes.h"

enum rk_field {
#define RK_FIELD(name, number, ...)       RK_FIELD_##name = (number),
#define RK_FIELD_PLAIN(name, number, ...) RK_FIELD_##name = (number),
#include "api/fields.def"
    RK_FIELD_END
};

enum rk_field_bit {
#define RK_FIELD(name, number, ...) RK_FIELD_BIT_##name = UINT64_C(1) << (number),
#include "api/fields.def"
};

#define RK_SET(request, field) ((void)((request)->present |= RK_FIELD_BIT_##field))

enum rk_field_kind {
    RK_KIND_TEXT = 1, /* UTF-8 without NUL; bounds are bytes */
    RK_KIND_U64,      /* bounds are values */
    RK_KIND_U8,       /* likewise */
    RK_KIND_I64,      /* likewise, signed */
    RK_KIND_I32,      /* likewise, signed */
    RK_KIND_BOOL,
    RK_KIND_WORD,      /* one of the field's words, kept as its number */
    RK_KIND_VALUE,     /* anything; bounds are encoded bytes */
    RK_KIND_STRINGS,   /* bounds are the number of texts, each a name */
    RK_KIND_MESSAGES,  /* bounds are the number of messages */
    RK_KIND_RESOURCES, /* bounds are the number of locks */
    RK_KIND_HEADERS,   /* bounds are the number of pairs */
    RK_KIND_UNIQUE,    /* {key, scope} */
    RK_KIND_DUE,       /* internal */
    RK_KIND_POSITION,  /* text of a position; bounds are bytes */
};

struct rk_field_info {
    const char *name;
    const char *alias;        /* or "" */
    const char *const *words; /* NULL-terminated, NULL if any; "" is never accepted */
    const char *doc;
    uint16_t offset; /* in its owner: the request, a message or a resource */
    uint8_t name_size;
    uint8_t alias_size;
    uint8_t kind; /* enum rk_field_kind */
    uint8_t field;
};

enum {
    RK_RULE_REQUIRED = 1,
    RK_RULE_ONE_OF = 2, /* exactly one of the rules with this flag is given */
};

/* A field within an operation. For the signed kinds min, max and fallback are int64_t
 * in two's complement. */
struct rk_field_rule {
    uint8_t field; /* enum rk_field */
    uint8_t flags; /* RK_RULE_* */
    uint64_t min;
    uint64_t max;
    uint64_t fallback; /* value when not given */
};

/* NULL if there is no such field. */
const struct rk_field_info *rk_field_info(enum rk_field field);
#endif
