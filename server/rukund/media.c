#include "rukund/media.h"

#include <stdlib.h>
#include <strings.h>

const struct rk_media rk_media_json = {RK_ENCODING_JSON, "application/json",
                                       "application/problem+json"};
const struct rk_media rk_media_msgpack = {RK_ENCODING_MSGPACK, "application/vnd.msgpack",
                                          "application/problem+msgpack"};

static const struct rk_media known[] = {
    {RK_ENCODING_JSON, "application/json", "application/problem+json"},
    {RK_ENCODING_JSON, "application/problem+json", "application/problem+json"},
    {RK_ENCODING_JSON, "text/json", "application/problem+json"},
    {RK_ENCODING_MSGPACK, "application/vnd.msgpack", "application/problem+msgpack"},
    {RK_ENCODING_MSGPACK, "application/msgpack", "application/problem+msgpack"},
    {RK_ENCODING_MSGPACK, "application/x-msgpack", "application/problem+msgpack"},
    {RK_ENCODING_MSGPACK, "application/problem+msgpack", "application/problem+msgpack"},
};

static bool is_type(const char *text, size_t size, const char *type)
{
    return strlen(type) == size && strncasecmp(text, type, size) == 0;
}

/* The type without parameters and blanks; *rest is what follows, at ';', ',' or the end. */
static size_t take_type(const char **text, const char **rest)
{
    *text += strspn(*text, " \t");
    size_t size = strcspn(*text, " \t;,");
    *rest = *text + size;
    *rest += strspn(*rest, " \t");
    return size;
}

static const struct rk_media *find_media(const char *text, size_t size)
{
    for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++)
        if (is_type(text, size, known[i].type)) return &known[i];
    return NULL;
}

enum rk_status rk_media_of_body(struct rk_media *out, const char *content_type,
                                const char *origin, struct rk_slice body)
{
    const char *rest;
    size_t size = 0;
    if (content_type != NULL) size = take_type(&content_type, &rest);
    const struct rk_media *media = size > 0 ? find_media(content_type, size) : NULL;
    *out = media != NULL ? *media : rk_media_json;
    if (media != NULL) return RK_OK;
    if (origin != NULL) return RK_EMEDIA;
    if (size > 0 && !is_type(content_type, size, "application/x-www-form-urlencoded"))
        return RK_EMEDIA;
    size_t at = 0;
    while (at < body.size && strchr(" \t\r\n", body.data[at]) != NULL && body.data[at] != 0)
        at++;
    return at == body.size || body.data[at] == '{' ? RK_OK : RK_EMEDIA;
}

/* The weight "q" of a type's parameters, in thousandths. */
static unsigned take_weight(const char **text)
{
    unsigned weight = 1000;
    while (**text == ';') {
        *text += 1 + strspn(*text + 1, " \t");
        if ((**text == 'q' || **text == 'Q') && (*text)[1] == '=') {
            double number = strtod(*text + 2, NULL);
            weight = number >= 1 ? 1000 : number > 0 ? (unsigned)(number * 1000) : 0;
        }
        *text += strcspn(*text, ";,");
    }
    return weight;
}

enum rk_status rk_media_of_accept(struct rk_media *out, const char *accept,
                                  const struct rk_media *asked)
{
    const struct rk_media *best = NULL;
    unsigned best_weight = 0;
    if (accept == NULL || accept[0] == '\0') {
        *out = *asked;
        return RK_OK;
    }
    while (*accept != '\0') {
        const char *text = accept;
        size_t size = take_type(&text, &accept);
        unsigned weight = take_weight(&accept);
        const struct rk_media *media =
            is_type(text, size, "*/*") || is_type(text, size, "application/*")
                ? asked
                : find_media(text, size);
        bool is_better =
            weight > best_weight || (weight == best_weight && weight > 0 && media != NULL &&
                                     media->encoding == asked->encoding &&
                                     (best == NULL || best->encoding != asked->encoding));
        if (media != NULL && is_better) {
            best = media;
            best_weight = weight;
        }
        accept += strspn(accept, ", \t");
        if (size == 0 && *accept != '\0' && strchr(";,", *accept) != NULL) accept++;
    }
    if (best == NULL) {
        *out = *asked;
        return RK_ECONVERT;
    }
    *out = *best;
    if (strncmp(out->type, "application/problem+", 20) == 0 ||
        strcmp(out->type, "text/json") == 0)
        out->type =
            out->encoding == RK_ENCODING_JSON ? rk_media_json.type : rk_media_msgpack.type;
    return RK_OK;
}
