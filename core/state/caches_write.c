#include "base/alloc.h"
#include "base/mutant.h"
#include "state/caches.h"
#include "api/delivery_id.h"

#include <stdio.h>

/* What a write leaves in the entry. */
struct content {
    struct rk_value value;
    uint64_t expires_at;
    uint64_t soft_at;
};

/* The cache of the request, touched, entered if it is new; NULL if there are too many. */
static enum rk_status cache_ensure(struct rk_machine *machine, struct rk_slice name,
                                   struct rk_cache **out)
{
    *out = rk_cache_find(machine, name);
    if (*out != NULL) return rk_object_touch(machine, &(*out)->object);
    if (machine->caches->by_name.count >= RK_CACHES_MAX) return RK_OK;
    return rk_cache_enter(machine, name, 0, out);
}

static enum rk_status refuse_cache(struct rk_apply *apply)
{
    return rk_refuse(apply->reply, RK_ELIMIT, "cache", "%d caches exist already",
                     RK_CACHES_MAX);
}

/* The entry as the time of this log entry has it: an expired one is none. */
static struct rk_entry *live_find(const struct rk_cache *cache, struct rk_slice key,
                                  uint64_t now)
{
    struct rk_entry *entry = cache != NULL ? rk_entry_find(cache, key) : NULL;
    return entry != NULL && !rk_entry_is_expired(entry, now) ? entry : NULL;
}

static void time_entry(struct rk_machine *machine, struct rk_entry *entry,
                       uint64_t expires_at)
{
    entry->expires_at = expires_at;
    if (expires_at != 0)
        rk_timer_start_at(machine, &entry->object, expires_at);
    else
        rk_timer_stop(machine, &entry->object);
}

static enum rk_status entry_new(struct rk_machine *machine, struct rk_cache *cache,
                                struct rk_slice key, struct rk_slice value,
                                struct rk_entry **out)
{
    enum rk_status status = rk_entry_enter(machine, key, value, 0, out);
    if (status != RK_OK) return status;
    (*out)->cache = cache;
    (*out)->cache_id = cache->object.id;
    status = rk_map_insert(&cache->entries, &(*out)->node);
    if (status != RK_OK) return status;
    rk_cache_admit(cache, *out);
    return RK_OK;
}

/* A new value in its place: the queue and the position there stay. */
static enum rk_status entry_replace(struct rk_machine *machine, struct rk_entry *entry,
                                    struct rk_slice value)
{
    enum rk_status status = rk_object_touch(machine, &entry->object);
    if (status == RK_OK) status = rk_cache_note_use(machine, entry);
    if (status != RK_OK) return status;
    uint8_t *copy = rk_memdup(value.data, value.size);
    if (copy == NULL) return RK_ENOMEM;
    rk_free(entry->value);
    entry->value = copy;
    entry->value_size = (uint32_t)value.size;
    uint64_t *bytes = &entry->cache->queue_bytes[entry->queue];
    *bytes -= entry->object.bytes;
    rk_object_count(machine, &entry->object, rk_entry_cost(entry->key_size, value.size));
    *bytes += entry->object.bytes;
    return RK_OK;
}

/* Writes the key in a touched cache, tells near caches, and evicts what is over. */
static enum rk_status store(struct rk_machine *machine, struct rk_apply *apply,
                            struct rk_cache *cache, const struct content *content)
{
    struct rk_slice key = apply->request->key;
    struct rk_entry *entry = rk_entry_find(cache, key);
    enum rk_status status = RK_OK;
    if (entry != NULL && rk_entry_is_expired(entry, apply->now)) {
        cache->expired++;
        status = rk_entry_remove(machine, apply, entry, 0);
        entry = NULL;
    }
    if (status == RK_OK)
        status = entry == NULL
                     ? entry_new(machine, cache, key, content->value.bytes, &entry)
                     : entry_replace(machine, entry, content->value.bytes);
    if (status != RK_OK) return status;
    entry->encoding = content->value.encoding;
    entry->version = apply->index;
    entry->soft_at = content->soft_at;
    time_entry(machine, entry, content->expires_at);
    rk_cache_tell(apply, cache, rk_entry_key(entry), entry->version);
    apply->reply->ok = true;
    apply->reply->version = entry->version;
    return rk_cache_shrink(machine, apply, cache, entry);
}

static bool has_size(struct rk_apply *apply, const struct rk_cache *cache,
                     size_t value_size)
{
    uint64_t share = cache != NULL ? cache->bytes_max : RK_CACHE_BYTES_MAX;
    uint64_t cost = rk_entry_cost(apply->request->key.size, value_size);
    if (cost <= share / RK_CACHE_ITEM_DIVISOR) return true;
    (void)rk_refuse(apply->reply, RK_ESIZE, "value",
                    "the entry takes %llu bytes, at most %llu may be one of this cache",
                    (unsigned long long)cost,
                    (unsigned long long)(share / RK_CACHE_ITEM_DIVISOR));
    return false;
}

/* --- cache.put */

static bool has_token(const struct rk_machine *machine, struct rk_apply *apply,
                      const struct rk_cache *cache)
{
    const struct rk_request *request = apply->request;
    if (!RK_HAS(request, FILL_TOKEN)) return true;
    struct rk_fill_token token;
    if (rk_fill_token_parse(&token, request->fill_token) != RK_OK) {
        (void)rk_refuse(apply->reply, RK_ERANGE, "fill_token", "this is no fill token");
        return false;
    }
    const struct rk_entry *entry =
        cache != NULL ? rk_entry_find(cache, request->key) : NULL;
    bool is_void =
        token.key_hash != rk_cache_key_hash(rk_cache_name_of(request), request->key) ||
        token.history != machine->history ||
        (cache != NULL && rk_cache_floor(cache, request->key) > token.index) ||
        (entry != NULL && entry->version > token.index);
    if (!is_void) return true;
    (void)rk_refuse(apply->reply, RK_EVOID, "fill_token",
                    "the key was changed or deleted since the token was given");
    return false;
}

static bool has_version(struct rk_apply *apply, const struct rk_entry *live)
{
    const struct rk_request *request = apply->request;
    uint64_t version = live != NULL ? live->version : 0;
    if (!RK_HAS(request, IF_VERSION) || request->if_version == version ||
        RK_MUTANT(version_unchecked))
        return true;
    apply->reply->version = version;
    (void)rk_refuse(apply->reply, RK_EVERSION, "if_version",
                    "the version is %llu, not %llu", (unsigned long long)version,
                    (unsigned long long)request->if_version);
    return false;
}

static bool may_put(const struct rk_machine *machine, struct rk_apply *apply,
                    const struct rk_cache *cache)
{
    const struct rk_request *request = apply->request;
    const struct rk_entry *live = live_find(cache, request->key, apply->now);
    if (request->if_absent && live != NULL) {
        apply->reply->version = live->version;
        (void)rk_refuse(apply->reply, RK_EEXIST, "if_absent",
                        "the key has an entry of version %llu",
                        (unsigned long long)live->version);
        return false;
    }
    return has_version(apply, live) && has_token(machine, apply, cache) &&
           has_size(apply, cache, request->value.bytes.size);
}

enum rk_status rk_cache_put(struct rk_machine *machine, struct rk_apply *apply)
{
    const struct rk_request *request = apply->request;
    struct rk_slice name = rk_cache_name_of(request);
    bool is_passed;
    enum rk_status status =
        rk_fence_check(machine, apply, RK_FENCE_CACHE, name, request->key, &is_passed);
    if (status != RK_OK || !is_passed) return status;
    struct rk_cache *cache = rk_cache_find(machine, name);
    if (!may_put(machine, apply, cache)) return RK_OK;
    status = cache_ensure(machine, name, &cache);
    if (status != RK_OK) return status;
    if (cache == NULL) return refuse_cache(apply);

    uint64_t ttl_ms = RK_HAS(request, TTL_MS) ? request->ttl_ms : cache->ttl_ms;
    struct content content = {
        .value = request->value,
        .expires_at = ttl_ms != 0 ? apply->now + ttl_ms : 0,
        .soft_at = request->soft_ttl_ms != 0 ? apply->now + request->soft_ttl_ms : 0,
    };
    status = store(machine, apply, cache, &content);
    if (status != RK_OK) return status;
    return rk_fence_note(machine, apply, RK_FENCE_CACHE, name, request->key);
}

/* --- cache.add */

/* A whole decimal number as JSON writes it. */
static bool parse_number(struct rk_slice text, int64_t *out)
{
    size_t at = 0;
    bool is_negative = text.size != 0 && text.data[0] == '-';
    if (is_negative) at = 1;
    if (at == text.size) return false;
    int64_t value = 0;
    for (; at < text.size; at++) {
        int digit = text.data[at] - '0';
        if (digit < 0 || digit > 9) return false;
        if (__builtin_mul_overflow(value, (int64_t)10, &value)) return false;
        if (__builtin_sub_overflow(value, (int64_t)digit, &value)) return false;
    }
    if (!is_negative && __builtin_sub_overflow((int64_t)0, value, &value)) return false;
    *out = value;
    return true;
}

static bool number_of(const struct rk_entry *entry, struct rk_arena *arena, int64_t *out)
{
    struct rk_value value = {rk_slice_of(entry->value, entry->value_size), entry->encoding};
    if (value.encoding == RK_ENCODING_MSGPACK &&
        rk_value_convert(&value, value, RK_ENCODING_JSON, arena) != RK_OK)
        return false;
    return value.encoding == RK_ENCODING_JSON && parse_number(value.bytes, out);
}

enum rk_status rk_cache_add(struct rk_machine *machine, struct rk_apply *apply)
{
    const struct rk_request *request = apply->request;
    struct rk_slice name = rk_cache_name_of(request);
    struct rk_cache *cache = rk_cache_find(machine, name);
    const struct rk_entry *live = live_find(cache, request->key, apply->now);
    int64_t number = request->initial;
    if (live != NULL && !number_of(live, apply->arena, &number))
        return rk_refuse(apply->reply, RK_ECONVERT, "key", "the entry is no whole number");
    if (__builtin_add_overflow(number, request->delta, &number))
        return rk_refuse(apply->reply, RK_ERANGE, "delta",
                         "the sum is beyond 64 bits with sign");
    char text[24];
    int size = snprintf(text, sizeof(text), "%lld", (long long)number);
    if (!has_size(apply, cache, (size_t)size)) return RK_OK;
    enum rk_status status = cache_ensure(machine, name, &cache);
    if (status != RK_OK) return status;
    if (cache == NULL) return refuse_cache(apply);

    uint64_t ttl_ms = RK_HAS(request, TTL_MS) ? request->ttl_ms : cache->ttl_ms;
    struct content content = {
        .value = {rk_slice_of(text, (size_t)size), RK_ENCODING_JSON},
        .expires_at = ttl_ms != 0 ? apply->now + ttl_ms : 0,
    };
    if (live != NULL) {
        content.expires_at = live->expires_at;
        content.soft_at = live->soft_at;
    }
    apply->reply->number_value = number;
    return store(machine, apply, cache, &content);
}

/* --- cache.delete, cache.touch */

/* A delete counts for fill tokens and near caches also where there is no entry. */
static enum rk_status delete_one(struct rk_machine *machine, struct rk_apply *apply,
                                 struct rk_cache *cache, struct rk_slice key,
                                 bool *is_deleted)
{
    enum rk_status status = rk_cache_raise_floor(machine, cache, key, apply->index);
    if (status != RK_OK) return status;
    struct rk_entry *entry = rk_entry_find(cache, key);
    *is_deleted = entry != NULL && !rk_entry_is_expired(entry, apply->now);
    if (entry != NULL) return rk_entry_remove(machine, apply, entry, apply->index);
    rk_cache_tell(apply, cache, key, apply->index);
    return RK_OK;
}

static enum rk_status delete_all(struct rk_machine *machine, struct rk_apply *apply,
                                 struct rk_cache *cache, struct rk_strings keys)
{
    const struct rk_request *request = apply->request;
    struct rk_result *results =
        rk_arena_calloc(apply->arena, keys.count + 1, sizeof(*results));
    if (results == NULL) return RK_ENOMEM;
    for (uint32_t i = 0; i < keys.count; i++) {
        struct rk_slice key = keys.items[i];
        const struct rk_entry *live = live_find(cache, key, apply->now);
        uint64_t version = live != NULL ? live->version : 0;
        results[i] = (struct rk_result){.id = key, .version = version};
        if (RK_HAS(request, IF_VERSION) && request->if_version != version) {
            results[i].status = RK_EVERSION;
            continue;
        }
        results[i].version = apply->index;
        if (cache == NULL) continue;
        enum rk_status status = delete_one(machine, apply, cache, key, &results[i].deleted);
        if (status != RK_OK) return status;
    }
    apply->reply->is_bulk = request->is_bulk;
    apply->reply->results = results;
    apply->reply->result_count = keys.count;
    apply->reply->deleted = results[0].deleted;
    apply->reply->version = results[0].version;
    return RK_OK;
}

enum rk_status rk_cache_delete(struct rk_machine *machine, struct rk_apply *apply)
{
    const struct rk_request *request = apply->request;
    struct rk_slice key = request->key;
    struct rk_strings keys = request->keys;
    if (keys.count == 0) keys = (struct rk_strings){&key, 1};
    struct rk_slice name = rk_cache_name_of(request);
    if (!request->is_bulk) {
        const struct rk_entry *live =
            live_find(rk_cache_find(machine, name), keys.items[0], apply->now);
        if (!has_version(apply, live)) return RK_OK;
    }
    struct rk_cache *cache;
    enum rk_status status = cache_ensure(machine, name, &cache);
    return status == RK_OK ? delete_all(machine, apply, cache, keys) : status;
}

enum rk_status rk_cache_touch(struct rk_machine *machine, struct rk_apply *apply)
{
    const struct rk_request *request = apply->request;
    struct rk_cache *cache = rk_cache_find(machine, rk_cache_name_of(request));
    struct rk_entry *entry = live_find(cache, request->key, apply->now);
    if (entry == NULL) return RK_OK;
    enum rk_status status = rk_object_touch(machine, &cache->object);
    if (status == RK_OK) status = rk_object_touch(machine, &entry->object);
    if (status == RK_OK) status = rk_cache_note_use(machine, entry);
    if (status != RK_OK) return status;
    time_entry(machine, entry, request->ttl_ms != 0 ? apply->now + request->ttl_ms : 0);
    /* Near caches count the remaining life: they must ask again. */
    rk_cache_tell(apply, cache, rk_entry_key(entry), entry->version);
    apply->reply->touched = true;
    apply->reply->version = entry->version;
    return RK_OK;
}

enum rk_status rk_entry_due(struct rk_machine *machine, struct rk_apply *apply,
                            struct rk_object *object)
{
    struct rk_entry *entry = RK_CONTAINER(object, struct rk_entry, object);
    enum rk_status status = rk_object_touch(machine, &entry->cache->object);
    if (status != RK_OK) return status;
    entry->cache->expired++;
    return rk_entry_remove(machine, apply, entry, entry->version);
}

/* --- whole caches */

static enum rk_status clear_queue(struct rk_machine *machine, struct rk_apply *apply,
                                  struct rk_list *queue)
{
    struct rk_slice prefix = apply->request->prefix;
    rk_list_each_safe (link, queue) {
        struct rk_entry *entry = RK_CONTAINER(link, struct rk_entry, queue_link);
        if (!rk_slice_has_prefix(rk_entry_key(entry), prefix)) continue;
        if (!rk_entry_is_expired(entry, apply->now)) apply->reply->count++;
        enum rk_status status =
            rk_entry_remove(machine, apply, entry, prefix.size != 0 ? apply->index : 0);
        if (status != RK_OK) return status;
    }
    return RK_OK;
}

enum rk_status rk_cache_invalidate(struct rk_machine *machine, struct rk_apply *apply)
{
    struct rk_cache *cache;
    enum rk_status status = cache_ensure(machine, rk_cache_name_of(apply->request), &cache);
    if (status != RK_OK) return status;
    apply->reply->ok = true;
    if (cache == NULL) return RK_OK;
    cache->floor_all = apply->index;
    status = clear_queue(machine, apply, &cache->queues[RK_CACHE_SMALL]);
    if (status == RK_OK)
        status = clear_queue(machine, apply, &cache->queues[RK_CACHE_MAIN]);
    if (status == RK_OK && apply->request->prefix.size == 0)
        rk_cache_tell(apply, cache, RK_SLICE_EMPTY, apply->index);
    return status;
}

enum rk_status rk_cache_configure(struct rk_machine *machine, struct rk_apply *apply)
{
    const struct rk_request *request = apply->request;
    bool is_lru = rk_slice_is_equal(request->policy, RK_SLICE_LITERAL("lru"));
    if (RK_HAS(request, POLICY) && !is_lru &&
        !rk_slice_is_equal(request->policy, RK_SLICE_LITERAL("s3fifo")))
        return rk_refuse(apply->reply, RK_ERANGE, "policy", "policy is s3fifo or lru");
    struct rk_cache *cache;
    enum rk_status status = cache_ensure(machine, rk_cache_name_of(request), &cache);
    if (status != RK_OK) return status;
    if (cache == NULL) return refuse_cache(apply);
    if (RK_HAS(request, POLICY)) cache->policy = is_lru ? RK_CACHE_LRU : RK_CACHE_S3FIFO;
    if (RK_HAS(request, TTL_MS)) cache->ttl_ms = request->ttl_ms;
    if (RK_HAS(request, BYTES_MAX)) {
        uint64_t bytes = request->bytes_max != 0 ? request->bytes_max : RK_CACHE_BYTES_MAX;
        cache->bytes_max = bytes < RK_CACHE_BYTES_MIN ? RK_CACHE_BYTES_MIN : bytes;
    }
    apply->reply->ok = true;
    return rk_cache_shrink(machine, apply, cache, NULL);
}
