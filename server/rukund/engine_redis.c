/* The redis engine: queues and caches are Redis's, run from whichever node was asked.
 * Sessions and locks are decided by the leader's host, which keeps their records in Redis.
 * What concerns the cluster itself is the host's, as with the embedded engine. */
#include "rukund/engine.h"

#include "base/alloc.h"
#include "base/slot.h"
#include "redis/caches.h"
#include "redis/store.h"
#include "rukund/lock_store.h"
#include "rukund/worker.h"

#include <stdio.h>

enum { MARGIN_MS = 10000 }; /* past wait_ms, for calls without a deadline, as the host's */

struct rk_redis_engine {
    struct rk_worker *worker;
    struct rk_redis_url url;
    struct rk_redis *redis;
    struct rk_redis_caches *caches;
    struct rk_store *store; /* of queues */
    struct rk_lock_store *locks;
    char client_name[RK_NODE_NAME_MAX + 8];
    char policy[512];     /* why Redis must not be used: it evicts; "": it does not */
    bool is_known;        /* since it was connected to, Redis said whose data it holds */
    bool is_known_wanted; /* calls of caches wait for that */
};

/* Why calls are refused although Redis answers; "": they are not. */
static const char *refusal_of(const struct rk_redis_engine *engine)
{
    return engine->policy[0] != '\0' ? engine->policy : rk_store_refusal(engine->store);
}

/* --- Redis speaks -------------------------------------------------------------------- */

static void on_log(void *context, enum rk_redis_level level, const char *text)
{
    static const enum rk_log_level levels[] = {RK_LOG_INFO, RK_LOG_WARN, RK_LOG_ERROR};
    struct rk_redis_engine *engine = context;
    rk_log_line(&engine->worker->log, levels[level], text);
}

static void on_state(void *context, bool is_up)
{
    struct rk_redis_engine *engine = context;
    char text[512];
    rk_redis_url_print(text, sizeof(text), &engine->url);
    if (is_up)
        rk_log_event(&engine->worker->log, RK_LOG_INFO, "connected to Redis",
                     RK_LOG_TEXT("url", text));
    else
        rk_log_event(&engine->worker->log, RK_LOG_WARN, "Redis is away: calls wait for it",
                     RK_LOG_TEXT("url", text),
                     RK_LOG_TEXT("reason", rk_redis_reason(engine->redis)));
}

/* A Redis that evicts would lose what was promised: refused, not warned of. */
static void check_policy(struct rk_redis_engine *engine)
{
    char why[sizeof(engine->policy)] = "";
    for (uint32_t i = 1; i <= rk_redis_node_count(engine->redis) && why[0] == '\0'; i++) {
        const struct rk_redis_server *server = rk_redis_master(engine->redis, i);
        if (server != NULL && server->policy[0] != '\0' &&
            strcmp(server->policy, "noeviction") != 0)
            (void)snprintf(why, sizeof(why),
                           "Redis at %s has maxmemory-policy %s, which forgets what it "
                           "holds; set it to noeviction",
                           server->address, server->policy);
    }
    /* A master that can not be asked now is taken for what it was. */
    if (why[0] == '\0' && !rk_redis_is_up(engine->redis)) return;
    if (strcmp(why, engine->policy) == 0) return;
    memcpy(engine->policy, why, sizeof(why));
    if (why[0] != '\0')
        rk_log_line(&engine->worker->log, RK_LOG_ERROR, why);
    else
        rk_log_line(&engine->worker->log, RK_LOG_INFO,
                    "maxmemory-policy is noeviction now: calls are taken again");
}

static void on_facts(void *context)
{
    struct rk_redis_engine *engine = context;
    check_policy(engine);
    rk_store_check(engine->store);
}

static void on_server(void *context, const struct rk_redis_server *server)
{
    struct rk_redis_engine *engine = context;
    if (server->policy[0] == '\0')
        rk_log_event(&engine->worker->log, RK_LOG_WARN,
                     "maxmemory-policy may not be read; it must be noeviction",
                     RK_LOG_TEXT("server", server->address));
    /* It may be another Redis than before: the copies go, and calls wait until it is known
     * whose data it holds. */
    rk_redis_caches_history(engine->caches, 0);
    rk_redis_caches_reset(engine->caches);
    rk_store_server(engine->store, server);
    engine->is_known = false;
}

/* --- the caches ask ------------------------------------------------------------------ */

static void on_reply(void *context, uint64_t number, const struct rk_reply *reply)
{
    struct rk_redis_engine *engine = context;
    rk_calls_answer(engine->worker, number, reply);
}

static uint32_t deadline_of(const struct rk_request *request)
{
    uint64_t span =
        request->deadline_ms != 0 ? request->deadline_ms : request->wait_ms + MARGIN_MS;
    return (uint32_t)(span < RK_DEADLINE_MAX_MS ? span : RK_DEADLINE_MAX_MS);
}

/* Doubts do not stop the caches: until Redis says otherwise it is what it was. */
static bool is_known(struct rk_redis_engine *engine)
{
    engine->is_known = engine->is_known || rk_store_is_known(engine->store);
    return engine->is_known;
}

static void on_known(void *context)
{
    struct rk_redis_engine *engine = context;
    engine->is_known_wanted = false;
    rk_worker_touch(engine->worker);
    if (refusal_of(engine)[0] != '\0')
        rk_redis_caches_refuse(engine->caches, refusal_of(engine));
    else if (is_known(engine))
        rk_redis_caches_history(engine->caches, rk_host_history(engine->worker->host));
}

static void call_cache(struct rk_redis_engine *engine, uint64_t number,
                       const struct rk_request *request)
{
    if (is_known(engine)) {
        rk_redis_caches_history(engine->caches, rk_host_history(engine->worker->host));
    } else if (!engine->is_known_wanted) {
        engine->is_known_wanted = true;
        if (rk_store_when_known(engine->store, on_known, engine) != RK_OK)
            engine->is_known_wanted = false;
    }
    rk_redis_caches_call(engine->caches, number, request, deadline_of(request));
}

static uint32_t group_of(void *context, struct rk_slice key)
{
    struct rk_redis_engine *engine = context;
    return rk_host_group_of(engine->worker->host, rk_slot_of_name(key));
}

/* --- the queues ask ------------------------------------------------------------------ */

static const char *cluster_of(void *context)
{
    struct rk_redis_engine *engine = context;
    struct rk_host_status status;
    rk_host_status(engine->worker->host, &status);
    return status.cluster;
}

static bool is_led_here(void *context, uint32_t slot)
{
    struct rk_redis_engine *engine = context;
    const struct rk_host *host = engine->worker->host;
    return rk_host_leads(host, rk_host_group_of(host, slot));
}

/* --- the engine ---------------------------------------------------------------------- */

static void refuse(struct rk_worker *worker, uint64_t number, enum rk_op op,
                   enum rk_status status, const char *field, const char *text)
{
    struct rk_reply reply;
    rk_reply_problem(&reply, op, status, field, "%s", text);
    if (status == RK_EUNAVAILABLE) reply.retry_after_ms = 1000;
    rk_calls_answer(worker, number, &reply);
}

static bool is_area(enum rk_op op, const char *area)
{
    const struct rk_op_info *info = rk_op_info(op);
    return info->area_size == strlen(area) &&
           memcmp(info->name, area, info->area_size) == 0;
}

static void call(struct rk_worker *worker, uint64_t number,
                 const struct rk_request *request)
{
    struct rk_redis_engine *engine = worker->redis;
    const char *field = NULL;
    const char *why = rk_redis_refusal(request, &field);
    const char *refusal = refusal_of(engine);
    rk_worker_touch(worker);
    if (is_area(request->op, "cluster") ||
        (refusal[0] == '\0' &&
         (is_area(request->op, "lock") || is_area(request->op, "session")))) {
        rk_host_call(worker->host, number, request);
    } else if (why != NULL) {
        char text[256];
        (void)snprintf(text, sizeof(text), "%s: not with the redis engine: %s", field, why);
        refuse(worker, number, request->op, RK_EUNSUPPORTED, field, text);
    } else if (refusal[0] != '\0') {
        refuse(worker, number, request->op, RK_EUNAVAILABLE, NULL, refusal);
    } else if (is_area(request->op, "cache")) {
        call_cache(engine, number, request);
    } else if (is_area(request->op, "queue")) {
        rk_store_call(engine->store, number, request);
    } else {
        refuse(worker, number, request->op, RK_EUNSUPPORTED, NULL,
               "not with the redis engine");
    }
}

static void drop(struct rk_worker *worker, uint64_t number)
{
    rk_worker_touch(worker);
    rk_redis_caches_drop(worker->redis->caches, number);
    rk_store_drop(worker->redis->store, number);
    rk_host_drop(worker->host, number);
}

/* Why calls on data are not served, "": they are. */
static const char *reason(struct rk_worker *worker)
{
    struct rk_redis_engine *engine = worker->redis;
    const char *refusal = refusal_of(engine);
    if (!rk_redis_is_up(engine->redis)) return rk_redis_reason(engine->redis);
    if (refusal[0] != '\0') return refusal;
    return is_known(engine) ? "" : "Redis has not said yet whose data it holds";
}

static void status(struct rk_worker *worker, struct rk_host_status *out)
{
    rk_host_status(worker->host, out);
    out->has_quorum = out->has_quorum && reason(worker)[0] == '\0';
}

static enum rk_status open_caches(struct rk_redis_engine *engine)
{
    struct rk_worker *worker = engine->worker;
    struct rk_redis_caches_options options = {
        .struct_size = sizeof(options),
        .base = worker->base,
        .redis = engine->redis,
        .prefix = engine->url.prefix,
        .node = worker->config->name,
        .lru_bytes = worker->config->lru_bytes,
        .wait = engine->url.wait,
        .io = {engine, on_reply, group_of, on_log},
    };
    return rk_redis_caches_new(&engine->caches, &options);
}

static enum rk_status open_store(struct rk_redis_engine *engine)
{
    struct rk_worker *worker = engine->worker;
    struct rk_store_options options = {
        .struct_size = sizeof(options),
        .base = worker->base,
        .redis = engine->redis,
        .prefix = engine->url.prefix,
        .wait = engine->url.wait,
        .seed = rk_random_next(&worker->random),
        .io = {engine, on_reply, on_log, cluster_of, is_led_here},
    };
    return rk_store_new(&engine->store, &options);
}

/* --- the keeper of locks -------------------------------------------------------------- */

static void on_record(void *context, uint64_t number, struct rk_slice record)
{
    struct rk_redis_engine *engine = context;
    rk_worker_touch(engine->worker);
    rk_host_store_record(engine->worker->host, number, record);
}

static void on_loaded(void *context, const struct rk_host_store_answer *answer,
                      const struct rk_host_store_found *found)
{
    struct rk_redis_engine *engine = context;
    rk_worker_touch(engine->worker);
    rk_host_store_loaded(engine->worker->host, answer, found);
}

static void on_stored(void *context, const struct rk_host_store_answer *answer)
{
    struct rk_redis_engine *engine = context;
    rk_worker_touch(engine->worker);
    rk_host_stored(engine->worker->host, answer);
}

static const char *why_not(void *context)
{
    return refusal_of(context);
}

static enum rk_status open_locks(struct rk_redis_engine *engine)
{
    const struct rk_lock_store_options options = {
        .struct_size = sizeof(options),
        .redis = engine->redis,
        .prefix = engine->url.prefix,
        .wait = engine->url.wait,
        .io = {engine, on_record, on_loaded, on_stored, cluster_of, why_not},
    };
    return rk_lock_store_new(&engine->locks, &options);
}

static void store_claim(struct rk_worker *worker, const struct rk_host_store_claim *claim)
{
    rk_lock_store_claim(worker->redis->locks, claim);
}

static void store_write(struct rk_worker *worker, const struct rk_host_store_batch *batch)
{
    rk_lock_store_write(worker->redis->locks, batch);
}

static enum rk_status open_engine(struct rk_worker *worker)
{
    struct rk_redis_error error = {""};
    struct rk_redis_engine *engine = rk_calloc(1, sizeof(*engine));
    if (engine == NULL) return RK_ENOMEM;
    worker->redis = engine;
    engine->worker = worker;
    (void)snprintf(engine->client_name, sizeof(engine->client_name), "rukund-%s",
                   worker->config->name);
    enum rk_status status =
        rk_redis_url_parse(&engine->url, worker->config->redis_url, &error);
    struct rk_redis_options options = {
        .struct_size = sizeof(options),
        .base = worker->base,
        .dns = worker->dns,
        .url = &engine->url,
        .client_name = engine->client_name,
        .seed = rk_random_next(&worker->random),
        .io = {engine, on_log, on_state, on_server, on_facts},
    };
    if (status == RK_OK) status = rk_redis_new(&engine->redis, &options, &error);
    if (status == RK_OK) status = open_caches(engine);
    if (status == RK_OK) status = open_store(engine);
    if (status == RK_OK) status = open_locks(engine);
    if (status != RK_OK)
        rk_log_event(&worker->log, RK_LOG_ERROR, "the redis engine can not start",
                     RK_LOG_TEXT("reason", error.text),
                     RK_LOG_TEXT("code", rk_status_text(status)));
    return status;
}

static void close_engine(struct rk_worker *worker)
{
    struct rk_redis_engine *engine = worker->redis;
    if (engine == NULL) return;
    rk_redis_caches_free(engine->caches);
    rk_store_free(engine->store);
    rk_lock_store_free(engine->locks);
    rk_redis_free(engine->redis);
    rk_redis_url_fini(&engine->url);
    rk_free(engine);
    worker->redis = NULL;
}

/* What Redis promises of a write that it answered: the least that any master does. */
struct durability {
    const char *aof;   /* yes, no, unknown */
    const char *fsync; /* always, everysec, no, none: there is no file, unknown */
};

static struct durability durability_of(const struct rk_redis_server *server)
{
    static const char *const words[] = {"no", "everysec", "always"};
    struct durability out = {"unknown", "unknown"};
    if (server == NULL || server->run_id[0] == '\0') return out;
    out.aof = server->is_aof ? "yes" : "no";
    if (!server->is_aof) out.fsync = "none";
    for (size_t i = 0; server->is_aof && i < sizeof(words) / sizeof(words[0]); i++)
        if (strcmp(server->fsync, words[i]) == 0) out.fsync = words[i];
    return out;
}

/* Less is promised first. */
static int rank_of(const struct durability *durability)
{
    static const char *const words[] = {"unknown", "none", "no", "everysec", "always"};
    int rank = 0;
    while (strcmp(words[rank], durability->fsync) != 0)
        rank++;
    return rank;
}

static struct durability durability_now(const struct rk_redis_engine *engine)
{
    uint32_t count = rk_redis_node_count(engine->redis);
    struct durability least =
        durability_of(count > 0 ? rk_redis_master(engine->redis, 1) : NULL);
    for (uint32_t i = 2; i <= count; i++) {
        struct durability one = durability_of(rk_redis_master(engine->redis, i));
        if (rank_of(&one) < rank_of(&least)) least = one;
    }
    return least;
}

static void print_durability(struct rk_worker *worker, struct rk_buf *out)
{
    struct durability durability = durability_now(worker->redis);
    rk_buf_printf(out, "redis wait=%u aof=%s fsync=%s", worker->redis->url.wait,
                  durability.aof, durability.fsync);
}

static void print_durability_metric(const struct rk_redis_engine *engine,
                                    struct rk_buf *out)
{
    static const char name[] = "rukun_redis_durability_info";
    struct durability durability = durability_now(engine);
    rk_buf_printf(out,
                  "# HELP %s What Redis promises of an answered write, always 1\n"
                  "# TYPE %s gauge\n%s{wait=\"%u\",aof=\"%s\",fsync=\"%s\"} 1\n",
                  name, name, name, engine->url.wait, durability.aof, durability.fsync);
}

static void metric(struct rk_buf *out, const char *name, const char *kind, const char *help,
                   uint64_t value)
{
    rk_buf_printf(out, "# HELP %s %s\n# TYPE %s %s\n%s %llu\n", name, help, name, kind,
                  name, (unsigned long long)value);
}

static void print_metrics(struct rk_worker *worker, struct rk_buf *out)
{
    struct rk_redis_stats redis;
    struct rk_redis_caches_stats caches;
    rk_redis_stats(worker->redis->redis, &redis);
    rk_redis_caches_stats(worker->redis->caches, &caches);
    struct rk_store_stats queues;
    rk_store_stats(worker->redis->store, &queues);
    struct rk_host_store_status locks;
    (void)rk_host_store_status(worker->host, &locks);
    const struct {
        const char *name, *kind, *help;
        uint64_t value;
    } rows[] = {
        {"rukun_redis_up", "gauge", "Every master of Redis is connected",
         rk_redis_is_up(worker->redis->redis)},
        {"rukun_store_keeping", "gauge", "This node leads and serves locks from Redis",
         locks.is_keeping},
        {"rukun_store_up", "gauge", "What it last asked for locks was done", locks.is_up},
        {"rukun_store_full", "gauge",
         "Redis has no room: acquires and new sessions are refused", locks.is_full},
        {"rukun_store_holding", "gauge", "Grants are held back: Redis may have lost some",
         locks.is_holding},
        {"rukun_store_seq", "gauge", "Last batch of locks that is stored", locks.seq},
        {"rukun_store_objects", "gauge", "Records of locks and sessions in Redis",
         locks.objects},
        {"rukun_redis_commands_total", "counter", "Commands for Redis", redis.commands},
        {"rukun_redis_repeated_total", "counter",
         "Commands sent again: refused for now, redirected, or lost", redis.repeated},
        {"rukun_redis_not_done_total", "counter", "Commands that certainly were not done",
         redis.not_done},
        {"rukun_redis_unknown_total", "counter", "Commands without an answer",
         redis.unknown},
        {"rukun_redis_refused_total", "counter", "Commands that Redis refused",
         redis.refused},
        {"rukun_redis_redirects_total", "counter", "MOVED and ASK", redis.redirects},
        {"rukun_redis_connects_total", "counter", "Links to Redis that came up",
         redis.connects},
        {"rukun_redis_losses_total", "counter", "Links to Redis that were lost",
         redis.losses},
        {"rukun_redis_failovers_total", "counter",
         "Masters whose place was taken by another server", redis.failovers},
        {"rukun_redis_pending", "gauge", "Commands not yet answered", redis.pending},
        {"rukun_redis_queue_scripts_total", "counter",
         "Scripts of topics: calls, looks of consumers who wait, sweeps", queues.scripts},
        {"rukun_redis_queue_swept_total", "counter",
         "Topics in which this node moved on what was due", queues.swept},
        {"rukun_redis_queue_returned_total", "counter",
         "Deliveries handed back whose clients had gone", queues.returned},
        {"rukun_redis_queue_parked", "gauge", "Consumers who wait at this node",
         queues.parked},
        {"rukun_lru_entries", "gauge", "Copies of cache entries at this node",
         caches.lru.entries},
        {"rukun_lru_bytes", "gauge", "Bytes of them", caches.lru.bytes},
        {"rukun_lru_hits_total", "counter", "Reads answered from a copy", caches.lru.hits},
        {"rukun_lru_misses_total", "counter",
         "Reads that a copy might have answered and none did", caches.lru.misses},
        {"rukun_lru_invalidated_total", "counter", "Copies dropped by an invalidation",
         caches.lru.invalidated},
        {"rukun_lru_evicted_total", "counter", "Copies dropped for want of room",
         caches.lru.evicted},
        {"rukun_lru_silences_total", "counter",
         "Times that all copies went because invalidations were not heard",
         caches.silences},
        {"rukun_lru_live", "gauge", "Invalidations are heard", caches.is_live},
        {"rukun_lru_filling", "gauge", "Reads that wait for another caller's value",
         caches.filling},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
        metric(out, rows[i].name, rows[i].kind, rows[i].help, rows[i].value);
    print_durability_metric(worker->redis, out);
}

const struct rk_engine rk_engine_redis = {
    .name = "redis",
    .open = open_engine,
    .close = close_engine,
    .call = call,
    .drop = drop,
    .status = status,
    .reason = reason,
    .print_durability = print_durability,
    .print_metrics = print_metrics,
    .store_claim = store_claim,
    .store_write = store_write,
};
