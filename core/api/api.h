/* api.h - the table of operations and the codecs that it drives.
 *
 * One table (operations.def, fields.def) names every operation, path, field, bound,
 * default, alias and reply field; decoding, validation, JSON, msgpack, the log payload,
 * client stubs, /openapi.json and the generated reference all come from it. */
#ifndef RK_API_API_H
#define RK_API_API_H

#include "api/fields.h"
#include "api/reply.h"
#include "api/request.h"
#include "base/arena.h"

enum rk_group_kind {
    RK_GROUP_NONE = 0, /* answered by the node itself */
    RK_GROUP_ZERO,     /* sessions, locks, cluster */
    RK_GROUP_TOPIC,    /* slot of `topic` (or of the delivery id) */
    RK_GROUP_KEY,      /* slot of `key`; bulk is split by group */
    RK_GROUP_ALL,      /* asked of every group and merged (lists, stats without a name) */
};

struct rk_field_rule;

struct rk_op_info {
    enum rk_op op;
    const char *name; /* "lock.acquire" */
    const char *path; /* "/lock/acquire" */
    enum rk_group_kind group;
    bool is_write;    /* goes through the log */
    bool is_internal; /* never from a client */
    bool grows;       /* refused when storage or memory is full */
    const struct rk_field_rule *rules;
    uint32_t rule_count;
    uint8_t name_size;
    uint8_t area_size; /* "lock" of "lock.acquire" */
    const char *summary;
};

/* NULL if there is none. */
const struct rk_op_info *rk_op_info(enum rk_op op);
const struct rk_op_info *rk_op_by_name(struct rk_slice name);
const struct rk_op_info *rk_op_by_path(struct rk_slice path); /* also under /v1 */

/* The group kind of this very request: queue.stats without a topic asks all groups. */
enum rk_group_kind rk_request_group(const struct rk_request *request);

/* Zeroes it, and forward is true: how a request built in C begins. */
void rk_request_init(struct rk_request *request, enum rk_op op);

/* What went wrong with one input, for the problem document. */
struct rk_api_error {
    enum rk_status status;
    char field[64];
    char text[256];
};

/* Decode a body into *out and check every field against the table: unknown fields,
 * missing ones, types and bounds are errors that name the field. Memory comes from arena;
 * slices may point into body. RK_EINVAL malformed, RK_ERANGE bound, RK_ESIZE, RK_ENOMEM. */
RK_MUST_CHECK enum rk_status rk_request_from_json(struct rk_request *out, enum rk_op op,
                                                  struct rk_slice body,
                                                  struct rk_arena *arena,
                                                  struct rk_api_error *error);
RK_MUST_CHECK enum rk_status rk_request_from_msgpack(struct rk_request *out, enum rk_op op,
                                                     struct rk_slice body,
                                                     struct rk_arena *arena,
                                                     struct rk_api_error *error);
/* For requests built in C (raw paths, client) after rk_request_init: fills defaults, checks
 * bounds. A field counts as given if it is not zero (a slice: not NULL) or RK_SET. Of id,
 * key and resource the plural form is made to point into *request, which must then stay
 * where it is; messages are the caller's in both forms. error may be NULL. RK_EINVAL,
 * RK_ERANGE, RK_ESIZE as above. */
RK_MUST_CHECK enum rk_status rk_request_check(struct rk_request *request,
                                              struct rk_api_error *error);
/* Client side, after rk_request_check: what is given and is not the default, as a map. A
 * value that has no such form marks out as failed. */
void rk_request_to_msgpack(struct rk_buf *out, const struct rk_request *request);
void rk_request_to_json(struct rk_buf *out, const struct rk_request *request);

/* Compact binary form for the log and peer links, of a request that was checked; see
 * request_log.c and reply_log.c. The call fields (client, seq ...) are not in it. Decoding
 * trusts nothing: RK_EPROTO malformed, or a required field is not there, RK_EUNSUPPORTED
 * another version or an operation or field that is not known, RK_ENOMEM. */
enum { RK_REQUEST_LOG_VERSION = 1 };
void rk_request_encode(struct rk_buf *out, const struct rk_request *request);
RK_MUST_CHECK enum rk_status
rk_request_decode(struct rk_request *out, struct rk_slice bytes, struct rk_arena *arena);
void rk_reply_encode(struct rk_buf *out, const struct rk_reply *reply);
RK_MUST_CHECK enum rk_status rk_reply_decode(struct rk_reply *out, struct rk_slice bytes,
                                             struct rk_arena *arena);

/* Appends a reply: the fields that the operation shows, or the problem document if status
 * is not RK_OK. Values are converted to the encoding. RK_ECONVERT: one could not be, and a
 * problem document that names the place stands in out instead of the answer: its HTTP
 * status is RK_ECONVERT's. RK_ENOMEM: out is not to be used. */
RK_MUST_CHECK enum rk_status
rk_reply_to_json(struct rk_buf *out, const struct rk_reply *reply, struct rk_arena *arena);
RK_MUST_CHECK enum rk_status rk_reply_to_msgpack(struct rk_buf *out,
                                                 const struct rk_reply *reply,
                                                 struct rk_arena *arena);
/* Client side: is_problem says which of the two the body is. What the table does not know
 * is skipped: a newer node may say more. RK_EPROTO: no such reply. RK_ENOMEM. */
RK_MUST_CHECK enum rk_status rk_reply_from_msgpack(struct rk_reply *out, enum rk_op op,
                                                   bool is_problem, struct rk_slice body,
                                                   struct rk_arena *arena);
RK_MUST_CHECK enum rk_status rk_reply_from_json(struct rk_reply *out, enum rk_op op,
                                                bool is_problem, struct rk_slice body,
                                                struct rk_arena *arena);

/* Converts a value; out points into arena or at the input. Raw bytes as JSON are a base64
 * text, as msgpack binary; the raw form of a msgpack text or binary is its content, of
 * anything else its bytes. RK_ECONVERT: no such form. RK_ENOMEM. */
RK_MUST_CHECK enum rk_status rk_value_convert(struct rk_value *out, struct rk_value in,
                                              enum rk_encoding to, struct rk_arena *arena);

/* Bounds before any unpacking: headers against the bytes left, depth, total. The size of
 * the first object goes to *size. RK_EINVAL malformed, deeper than RK_DEPTH_MAX or larger
 * than RK_MSGPACK_MAX, RK_EBUSY: not complete yet. */
RK_MUST_CHECK enum rk_status rk_msgpack_measure(struct rk_slice bytes, size_t *size);

/* "<history hex>:<g>=<i>,..." both ways. */
RK_MUST_CHECK enum rk_status
rk_position_parse(struct rk_position *out, struct rk_slice text, struct rk_arena *arena);
void rk_position_print(struct rk_buf *out, const struct rk_position *position);

/* /openapi.json (OpenAPI 3.1) and docs/api_spec.yaml and the Markdown reference. */
void rk_api_print_openapi(struct rk_buf *out);
void rk_api_print_yaml(struct rk_buf *out);
void rk_api_print_reference(struct rk_buf *out);

/* Why the redis engine refuses the request, and the field that it may not have; NULL if it
 * does not. Both texts are static. See engines.def. */
const char *rk_redis_refusal(const struct rk_request *request, const char **field);
/* docs/engines.md: what both engines offer. */
void rk_api_print_engines(struct rk_buf *out);
#endif
