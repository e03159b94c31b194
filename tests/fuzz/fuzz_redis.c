/* What comes from Redis and from who sets it up: URLs, replies in pieces, errors, INFO. */
#include "fuzz.h"

#include "redis/reply.h"

#include <stdlib.h>

enum { REPLY_MAX = 64 << 10 };

static const char *copy_of(struct rk_slice text)
{
    char *copy = calloc(1, text.size + 1);
    RK_ASSERT(copy != NULL);
    if (text.size > 0) memcpy(copy, text.data, text.size);
    return copy;
}

/* What is taken holds its bounds. */
static void url(struct rk_slice bytes)
{
    union {
        const char *text;
        char *owned;
    } copy = {copy_of(bytes)};
    struct rk_redis_url first;
    struct rk_redis_error err = {""};
    char printed[RK_REDIS_URL_MAX * 2];
    if (rk_redis_url_parse(&first, copy.text, &err) == RK_OK) {
        RK_ASSERT(first.address_count > 0 && first.address_count <= RK_REDIS_ADDRESSES_MAX);
        RK_ASSERT(first.kind == RK_REDIS_SENTINEL || first.master[0] == '\0');
        RK_ASSERT(first.kind != RK_REDIS_CLUSTER || first.db == 0);
        RK_ASSERT(strlen(first.prefix) <= RK_REDIS_PREFIX_MAX);
        for (uint32_t i = 0; i < first.address_count; i++)
            RK_ASSERT(first.addresses[i].host[0] != '\0' && first.addresses[i].port != 0);
        rk_redis_url_print(printed, sizeof(printed), &first);
        RK_ASSERT(strstr(printed, "://") != NULL);
        rk_redis_url_fini(&first);
    } else {
        RK_ASSERT(err.text[0] != '\0');
    }
    free(copy.owned);
}

static void digest_reply(uint64_t *digest, const struct redisReply *reply)
{
    *digest = (*digest ^ (uint64_t)reply->type) * 1099511628211u;
    *digest = (*digest ^ (uint64_t)reply->integer) * 1099511628211u;
    for (size_t i = 0; i < reply->len; i++)
        *digest = (*digest ^ (uint8_t)reply->str[i]) * 1099511628211u;
    for (size_t i = 0; i < reply->elements; i++)
        digest_reply(digest, reply->element[i]);
}

static enum rk_status read_by(struct rk_slice bytes, size_t step, uint64_t *digest)
{
    struct rk_redis_reader reader;
    enum rk_status status = rk_redis_reader_init(&reader, REPLY_MAX);
    *digest = 14695981039346656037u;
    for (size_t at = 0; at < bytes.size && status == RK_OK; at += step) {
        size_t left = bytes.size - at < step ? bytes.size - at : step;
        const struct redisReply *reply;
        status = rk_redis_reader_feed(&reader, rk_slice_of(bytes.data + at, left));
        while (status == RK_OK &&
               (status = rk_redis_reader_next(&reader, &reply)) == RK_OK && reply != NULL) {
            digest_reply(digest, reply);
            RK_ASSERT(reader.arena.total <= 8 * REPLY_MAX);
        }
    }
    rk_redis_reader_fini(&reader);
    return status;
}

/* The same replies however the bytes are cut. */
static void replies(struct rk_slice bytes)
{
    uint64_t whole, pieces;
    size_t step = bytes.size == 0 ? 1 : bytes.data[0] % 16 + 1u;
    enum rk_status first = read_by(bytes, RK_REDIS_FEED_MAX, &whole);
    enum rk_status second = read_by(bytes, step, &pieces);
    RK_ASSERT(whole == pieces);
    RK_ASSERT((first == RK_OK) == (second == RK_OK));
}

static void errors(struct rk_slice text)
{
    enum rk_status status = RK_OK;
    char host[RK_REDIS_HOST_MAX + 1];
    uint32_t slot;
    uint16_t port;
    (void)rk_redis_judge(text, &status);
    RK_ASSERT(status != RK_OK);
    if (rk_redis_read_redirect(text, &slot, host, &port) == RK_OK)
        RK_ASSERT(slot < RK_REDIS_SLOTS && port != 0);
    RK_ASSERT(rk_redis_slot(text) < RK_REDIS_SLOTS);
}

static void info(struct rk_slice text)
{
    struct rk_redis_server server;
    bool is_replica, is_loading;
    memset(&server, 0, sizeof(server));
    rk_redis_read_info(&server, text, &is_replica, &is_loading);
    RK_ASSERT(strlen(server.run_id) < sizeof(server.run_id));
    RK_ASSERT(strlen(server.version) < sizeof(server.version));
    RK_ASSERT(strlen(server.policy) < sizeof(server.policy));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size == 0) return 0;
    static void (*const kinds[])(struct rk_slice) = {url, replies, errors, info};
    kinds[data[0] % 4](rk_slice_of(data + 1, size - 1));
    return 0;
}
