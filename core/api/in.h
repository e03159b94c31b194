/* in.h - one way to read a parsed body, whether it was JSON or msgpack.
 *
 * JSON is parsed and checked by jansson; each node also knows its text, so that a user's
 * value is kept as the bytes that came, not as a re-dump that rounds its numbers.
 * msgpack is read where it lies. Private to core/api. */
#ifndef RK_API_IN_H
#define RK_API_IN_H

#include "api/api.h"

#include <jansson.h>

enum rk_in_type {
    RK_IN_NIL = 1,
    RK_IN_BOOL,     /* number is 0 or 1 */
    RK_IN_UINT,     /* number */
    RK_IN_NEGATIVE, /* number in two's complement */
    RK_IN_REAL,     /* real */
    RK_IN_TEXT,     /* text */
    RK_IN_BYTES,    /* text; msgpack bin */
    RK_IN_EXT,      /* msgpack extension */
    RK_IN_ARRAY,    /* count items */
    RK_IN_MAP,      /* count pairs */
};

struct rk_in {
    uint8_t type; /* enum rk_in_type */
    uint32_t count;
    uint64_t number;
    double real;
    struct rk_slice text; /* of JSON: lives as long as the tree */
    struct rk_slice raw;  /* the node as it stands in the input */
    size_t head_size;     /* msgpack: bytes before the first item or the payload */
    json_t *json;         /* NULL: msgpack */
};

/* One msgpack header and, of a scalar, its payload; raw is set for scalars only.
 * RK_EBUSY: at ends within it. RK_EINVAL: the reserved byte c1. */
enum rk_status rk_in_head(struct rk_in *out, const uint8_t *at, size_t left);

/* bytes must be exactly one object. RK_EINVAL with text in *error, or RK_OK. */
enum rk_status rk_in_open_msgpack(struct rk_in *out, struct rk_slice bytes,
                                  struct rk_api_error *error);

/* The tree goes to *root: json_decref it when out is no longer read, also after an
 * error. RK_EINVAL, RK_ENOMEM, text in *error. */
enum rk_status rk_in_open_json(struct rk_in *out, json_t **root, struct rk_slice text,
                               struct rk_api_error *error);

struct rk_in_walk {
    const struct rk_in *of;
    const uint8_t *at;
    void *iterator;  /* jansson's, of an object */
    uint32_t index;  /* of the item that comes next */
    bool is_bad_key; /* a key that is not a text */
};

/* in: an array or a map. */
void rk_in_walk_init(struct rk_in_walk *walk, const struct rk_in *in);
/* False at the end. key is empty for arrays and after a bad key. */
bool rk_in_next(struct rk_in_walk *walk, struct rk_slice *key, struct rk_in *item);

/* "a string", "an integer" ... */
const char *rk_in_type_text(enum rk_in_type type);
#endif
