#include "redis/reply.h"

#include "base/assert.h"

#include <stdlib.h>

enum {
    ARENA_KEEP = 1 << 20,  /* more than this is given back after a reply */
    BUFFER_KEEP = 1 << 20, /* of the parser */
};

static struct redisReply *make(const redisReadTask *task, int type)
{
    struct rk_redis_reader *reader = task->privdata;
    struct redisReply *reply = NULL;
    if (reader->arena.total <= reader->reply_max * 2)
        reply = rk_arena_calloc(&reader->arena, 1, sizeof(*reply));
    if (reply == NULL) return NULL;
    reply->type = type;
    if (task->parent != NULL) {
        struct redisReply *parent = task->parent->obj;
        parent->element[task->idx] = reply;
    }
    return reply;
}

static void *make_string(const redisReadTask *task, char *text, size_t size)
{
    struct rk_redis_reader *reader = task->privdata;
    struct redisReply *reply = make(task, task->type);
    char *copy = reply == NULL ? NULL : rk_arena_alloc(&reader->arena, size + 1);
    if (copy == NULL) return NULL;
    if (size > 0) memcpy(copy, text, size);
    copy[size] = '\0';
    reply->str = copy;
    reply->len = size;
    return reply;
}

static void *make_array_of(const redisReadTask *task, size_t count)
{
    struct rk_redis_reader *reader = task->privdata;
    /* A header of a few bytes must not take gigabytes. */
    if (count > reader->reply_max / sizeof(struct redisReply *)) return NULL;
    struct redisReply *reply = make(task, task->type);
    if (reply == NULL) return NULL;
    if (count > 0) {
        reply->element =
            rk_arena_calloc(&reader->arena, count, sizeof(struct redisReply *));
        if (reply->element == NULL) return NULL;
    }
    reply->elements = count;
    return reply;
}

static void *make_integer(const redisReadTask *task, long long value)
{
    struct redisReply *reply = make(task, REDIS_REPLY_INTEGER);
    if (reply != NULL) reply->integer = value;
    return reply;
}

static void *make_nil(const redisReadTask *task)
{
    return make(task, REDIS_REPLY_NIL);
}

static void free_nothing(void *reply)
{
    (void)reply; /* it is the arena's */
}

#if HIREDIS_MAJOR >= 1
static void *make_array(const redisReadTask *task, size_t count)
{
    return make_array_of(task, count);
}

static void *make_double(const redisReadTask *task, double value, char *text, size_t size)
{
    struct redisReply *reply = make_string(task, text, size);
    if (reply != NULL) reply->dval = value;
    return reply;
}

static void *make_bool(const redisReadTask *task, int value)
{
    struct redisReply *reply = make(task, REDIS_REPLY_BOOL);
    if (reply != NULL) reply->integer = value != 0;
    return reply;
}
#else
static void *make_array(const redisReadTask *task, int count)
{
    return count < 0 ? NULL : make_array_of(task, (size_t)count);
}
#endif

static redisReplyObjectFunctions makers = {
    .createString = make_string,
    .createArray = make_array,
    .createInteger = make_integer,
    .createNil = make_nil,
#if HIREDIS_MAJOR >= 1
    .createDouble = make_double,
    .createBool = make_bool,
#endif
    .freeObject = free_nothing,
};

static redisReader *new_parser(struct rk_redis_reader *reader)
{
    redisReader *parser = redisReaderCreateWithFunctions(&makers);
    if (parser == NULL) return NULL;
    parser->privdata = reader;
    /* It would give its buffer back at each lull, and 0.14 asserts that it gets a new one.
     * rk_redis_reader_next does that instead. */
    parser->maxbuf = 0;
    return parser;
}

enum rk_status rk_redis_reader_init(struct rk_redis_reader *reader, size_t reply_max)
{
    memset(reader, 0, sizeof(*reader));
    rk_arena_init(&reader->arena);
    reader->reply_max = reply_max;
    reader->parser = new_parser(reader);
    return reader->parser == NULL ? RK_ENOMEM : RK_OK;
}

void rk_redis_reader_fini(struct rk_redis_reader *reader)
{
    redisReaderFree(reader->parser);
    reader->parser = NULL;
    rk_arena_fini(&reader->arena);
}

enum rk_status rk_redis_reader_feed(struct rk_redis_reader *reader, struct rk_slice bytes)
{
    RK_ASSERT(bytes.size <= RK_REDIS_FEED_MAX);
    int done = redisReaderFeed(reader->parser, (const char *)bytes.data, bytes.size);
    return done == REDIS_OK ? RK_OK : RK_ENOMEM;
}

/* The parser waits for a string of this size; 0 if for something else. Only the head of a
 * string stays in the buffer as a whole line: every other line is taken as soon as it ends.
 */
static uint64_t awaited_size(const redisReader *parser)
{
    uint64_t size = 0;
    for (size_t at = parser->pos; at + 1 < parser->len; at++) {
        char c = parser->buf[at];
        if (c == '\r') return parser->buf[at + 1] == '\n' ? size : 0;
        if (c < '0' || c > '9') return 0;
        if (size <= UINT32_MAX) size = size * 10 + (uint64_t)(c - '0');
    }
    return 0;
}

enum rk_status rk_redis_reader_next(struct rk_redis_reader *reader,
                                    const struct redisReply **reply)
{
    redisReader *parser = reader->parser;
    void *made = NULL;
    *reply = NULL;
    if (reader->is_lent) {
        reader->is_lent = false;
        if (reader->arena.total > ARENA_KEEP)
            rk_arena_fini(&reader->arena);
        else
            rk_arena_reset(&reader->arena);
    }
    if (parser->len == 0 || parser->pos == parser->len) return RK_OK;
    if (redisReaderGetReply(parser, &made) != REDIS_OK) {
        if (parser->err == REDIS_ERR_PROTOCOL) return RK_EPROTO;
        return reader->arena.total > reader->reply_max ? RK_ESIZE : RK_ENOMEM;
    }
    if (made == NULL) {
        bool is_too_long = parser->len - parser->pos > reader->reply_max ||
                           awaited_size(parser) > reader->reply_max;
        return is_too_long ? RK_ESIZE : RK_OK;
    }
    reader->is_lent = true;
    *reply = made;
    if (parser->pos == parser->len && parser->len > BUFFER_KEEP) {
        redisReader *fresh = new_parser(reader);
        if (fresh != NULL) {
            reader->parser = fresh;
            redisReaderFree(parser);
        }
    }
    return RK_OK;
}

struct rk_arena rk_redis_reader_keep(struct rk_redis_reader *reader)
{
    struct rk_arena kept = reader->arena;
    rk_arena_init(&reader->arena);
    reader->is_lent = false;
    return kept;
}

/* ---- errors ------------------------------------------------------------------------- */

static const struct judgement {
    const char *word;
    enum rk_redis_verdict verdict;
    enum rk_status status;
} judgements[] = {
    {"LOADING", RK_REDIS_AGAIN, RK_EUNAVAILABLE},
    {"BUSY", RK_REDIS_AGAIN, RK_EUNAVAILABLE},
    {"TRYAGAIN", RK_REDIS_AGAIN, RK_EUNAVAILABLE},
    {"MISCONF", RK_REDIS_AGAIN, RK_EUNAVAILABLE},
    {"NOREPLICAS", RK_REDIS_AGAIN, RK_EUNAVAILABLE},
    {"READONLY", RK_REDIS_LEAVE, RK_EUNAVAILABLE},
    {"MASTERDOWN", RK_REDIS_LEAVE, RK_EUNAVAILABLE},
    {"NOAUTH", RK_REDIS_LEAVE, RK_EUNAVAILABLE},
    {"WRONGPASS", RK_REDIS_LEAVE, RK_EUNAVAILABLE},
    {"CLUSTERDOWN", RK_REDIS_REFRESH, RK_EUNAVAILABLE},
    {"MOVED", RK_REDIS_MOVED, RK_EUNAVAILABLE},
    {"ASK", RK_REDIS_ASK, RK_EUNAVAILABLE},
    {"NOSCRIPT", RK_REDIS_NOSCRIPT, RK_EUNAVAILABLE},
    {"OOM", RK_REDIS_ANSWER, RK_EFULL},
    {"NOPERM", RK_REDIS_ANSWER, RK_EDENIED},
};

/* Before 7.0 an error within a script came as "ERR Error running script (call to f_...):
 * @user_script:1: -OOM command not allowed ..." (6.2 without the dash): its own word comes
 * after the last place that is named. */
static struct rk_slice inner_error(struct rk_slice text)
{
    static const char head[] = "ERR Error running script";
    static const char mark[] = "user_script:";
    if (!rk_slice_has_prefix(text, rk_slice_of_string(head))) return text;
    struct rk_slice found = text;
    for (size_t at = 0; at + sizeof(mark) - 1 <= text.size; at++) {
        if (memcmp(text.data + at, mark, sizeof(mark) - 1) != 0) continue;
        found = rk_slice_of(text.data + at + sizeof(mark) - 1,
                            text.size - at - sizeof(mark) + 1);
    }
    while (found.size > 0 && found.data != text.data &&
           strchr("0123456789: -", found.data[0]) != NULL)
        found = rk_slice_of(found.data + 1, found.size - 1);
    return found;
}

static bool contains(struct rk_slice text, const char *part)
{
    size_t size = strlen(part);
    return text.size >= size && memmem(text.data, text.size, part, size) != NULL;
}

enum rk_redis_verdict rk_redis_judge(struct rk_slice text, enum rk_status *status)
{
    struct rk_slice word = inner_error(text);
    size_t size = 0;
    while (size < word.size && word.data[size] >= 'A' && word.data[size] <= 'Z')
        size++;
    if (size == word.size || word.data[size] == ' ') {
        word.size = size;
        for (size_t i = 0; i < sizeof(judgements) / sizeof(judgements[0]); i++) {
            if (!rk_slice_is_equal(word, rk_slice_of_string(judgements[i].word))) continue;
            *status = judgements[i].status;
            return judgements[i].verdict;
        }
    }
    *status = contains(text, "exceeds maximum allowed") || contains(text, "too big")
                  ? RK_ESIZE
                  : RK_EIO;
    return RK_REDIS_ANSWER;
}

static bool read_number(struct rk_slice text, uint64_t most, uint64_t *out)
{
    uint64_t value = 0;
    if (text.size == 0 || text.size > 18) return false;
    for (size_t i = 0; i < text.size; i++) {
        if (text.data[i] < '0' || text.data[i] > '9') return false;
        value = value * 10 + (uint64_t)(text.data[i] - '0');
    }
    *out = value;
    return value <= most;
}

enum rk_status rk_redis_read_redirect(struct rk_slice text, uint32_t *slot,
                                      char host[RK_REDIS_HOST_MAX + 1], uint16_t *port)
{
    struct rk_slice parts[3] = {{0}};
    uint64_t slot_number, port_number;
    size_t count = 0;
    for (size_t at = 0, from = 0; at <= text.size; at++) {
        if (at < text.size && text.data[at] != ' ') continue;
        if (count < 3) parts[count++] = rk_slice_of(text.data + from, at - from);
        from = at + 1;
    }
    if (count < 3 || !read_number(parts[1], RK_REDIS_SLOTS - 1, &slot_number))
        return RK_EPROTO;
    size_t colon = parts[2].size;
    while (colon > 0 && parts[2].data[colon - 1] != ':')
        colon--;
    if (colon == 0 || colon - 1 > RK_REDIS_HOST_MAX) return RK_EPROTO;
    struct rk_slice digits = rk_slice_of(parts[2].data + colon, parts[2].size - colon);
    if (!read_number(digits, UINT16_MAX, &port_number) || port_number == 0)
        return RK_EPROTO;
    if (memchr(parts[2].data, '\0', colon - 1) != NULL) return RK_EPROTO;
    memcpy(host, parts[2].data, colon - 1);
    host[colon - 1] = '\0';
    *slot = (uint32_t)slot_number;
    *port = (uint16_t)port_number;
    return RK_OK;
}

/* ---- INFO --------------------------------------------------------------------------- */

struct rk_slice rk_redis_info_field(struct rk_slice info, const char *name)
{
    size_t name_size = strlen(name);
    if (info.size == 0) return RK_SLICE_EMPTY;
    const uint8_t *at = info.data;
    const uint8_t *end = info.data + info.size;
    while (at < end) {
        const uint8_t *stop = memchr(at, '\n', (size_t)(end - at));
        if (stop == NULL) stop = end;
        size_t size = (size_t)(stop - at);
        if (size > 0 && at[size - 1] == '\r') size--;
        if (size > name_size && at[name_size] == ':' && memcmp(at, name, name_size) == 0)
            return rk_slice_of(at + name_size + 1, size - name_size - 1);
        at = stop + 1;
    }
    return RK_SLICE_EMPTY;
}

static void take_text(char *out, size_t size, struct rk_slice info, const char *name)
{
    struct rk_slice value = rk_redis_info_field(info, name);
    if (value.size >= size) value.size = size - 1;
    if (value.size > 0) memcpy(out, value.data, value.size);
    out[value.size] = '\0';
}

static uint64_t take_number(struct rk_slice info, const char *name)
{
    uint64_t value = 0;
    return read_number(rk_redis_info_field(info, name), UINT64_MAX, &value) ? value : 0;
}

void rk_redis_read_info(struct rk_redis_server *server, struct rk_slice info,
                        bool *is_replica, bool *is_loading)
{
    take_text(server->run_id, sizeof(server->run_id), info, "run_id");
    take_text(server->replid, sizeof(server->replid), info, "master_replid");
    take_text(server->version, sizeof(server->version), info, "valkey_version");
    server->is_valkey = server->version[0] != '\0';
    if (!server->is_valkey)
        take_text(server->version, sizeof(server->version), info, "redis_version");
    take_text(server->policy, sizeof(server->policy), info, "maxmemory_policy");
    server->maxmemory = take_number(info, "maxmemory");
    server->replicas = (uint32_t)take_number(info, "connected_slaves");
    server->is_aof = take_number(info, "aof_enabled") != 0;
    *is_loading = take_number(info, "loading") != 0;
    *is_replica =
        rk_slice_is_equal(rk_redis_info_field(info, "role"), RK_SLICE_LITERAL("slave"));
}
