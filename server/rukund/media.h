/* media.h - content negotiation: what a body is, and what the answer shall be. */
#ifndef RK_RUKUND_MEDIA_H
#define RK_RUKUND_MEDIA_H

#include "api/request.h"

struct rk_media {
    uint8_t encoding;    /* RK_ENCODING_JSON or RK_ENCODING_MSGPACK */
    const char *type;    /* of an answer */
    const char *problem; /* of a problem document */
};

/* application/json, or the type of msgpack that everybody gets who named none. */
extern const struct rk_media rk_media_json;
extern const struct rk_media rk_media_msgpack;

/* By Content-Type (may be NULL). A missing or form type is JSON when the body begins with
 * '{' or is empty and no Origin header is there: a browser may send those to any site
 * without asking. RK_EMEDIA. */
RK_MUST_CHECK enum rk_status rk_media_of_body(struct rk_media *out,
                                              const char *content_type, const char *origin,
                                              struct rk_slice body);
/* By Accept (may be NULL): the wanted one of highest weight, `asked` where it will do.
 * RK_ECONVERT: neither JSON nor msgpack is accepted. */
RK_MUST_CHECK enum rk_status rk_media_of_accept(struct rk_media *out, const char *accept,
                                                const struct rk_media *asked);
#endif
