/* Content negotiation: headers as a client may write them, NUL-terminated as libevent
 * hands them over. */
#include "fuzz.h"

#include "rukund/media.h"

#include <stdlib.h>

/* A chunk as a text; NULL for an empty one. */
static char *take_text(struct rk_reader *in)
{
    struct rk_slice chunk = fuzz_chunk(in);
    if (chunk.size == 0) return NULL;
    char *text = calloc(1, chunk.size + 1);
    memcpy(text, chunk.data, chunk.size);
    return text;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct rk_reader in;
    struct rk_media body_media, answer;
    rk_reader_init(&in, rk_slice_of(data, size));
    char *type = take_text(&in), *origin = take_text(&in), *accept = take_text(&in);
    struct rk_slice body = rk_slice_of(in.at, rk_reader_left(&in));
    enum rk_status status = rk_media_of_body(&body_media, type, origin, body);
    RK_ASSERT(status == RK_OK || status == RK_EMEDIA);
    if (status == RK_OK) {
        /* No page of another site gets here with a type that needs no permission. */
        RK_ASSERT(origin == NULL || type != NULL);
        status = rk_media_of_accept(&answer, accept, &body_media);
        RK_ASSERT(status == RK_OK || status == RK_ECONVERT);
        RK_ASSERT(answer.encoding == RK_ENCODING_JSON ||
                  answer.encoding == RK_ENCODING_MSGPACK);
        RK_ASSERT(strncmp(answer.problem, "application/problem+", 20) == 0);
        /* What the answer is called, the client takes as a request. */
        struct rk_media again;
        RK_ASSERT(rk_media_of_body(&again, answer.type, "x", body) == RK_OK);
        RK_ASSERT(again.encoding == answer.encoding);
    }
    free(type);
    free(origin);
    free(accept);
    return 0;
}
