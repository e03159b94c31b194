/* What goes over the topics: queue.list, queue.stats of all, and the sweep, by which each
 * node moves on what is due in the topics whose groups it leads. */
#include "redis/queues_internal.h"

#include <stdio.h>
#include <stdlib.h>

enum { PAGE_MAX = 500, SWEEP_PAGE = 64, SWEEP_DEADLINE_MS = 5000 };

/* In the call's arena. */
struct walk {
    struct rk_listed *listed; /* of list: by part */
    bool *is_there;
    uint32_t count; /* names of this page */
    bool has_more;
    struct rk_slice after;
    struct rk_topic_stats sum;
    struct rk_reply failure;
};

static void page_ask(struct rk_ask *call);

static void walk_answer(struct rk_ask *call)
{
    struct walk *walk = call->gathered;
    struct rk_reply out;
    memset(&out, 0, sizeof(out));
    if (call->has_failed) {
        rk_ask_answer(call, &walk->failure);
        return;
    }
    if (call->request.op == RK_OP_QUEUE_STATS) {
        out.topic_stats = &walk->sum;
        rk_ask_answer(call, &out);
        return;
    }
    /* A name whose topic was never made is none. */
    uint32_t count = 0;
    for (uint32_t i = 0; i < walk->count; i++)
        if (walk->is_there[i]) walk->listed[count++] = walk->listed[i];
    out.is_bulk = true;
    out.listed = walk->listed;
    out.listed_count = count;
    if (walk->has_more) out.after = walk->after;
    rk_ask_answer(call, &out);
}

static void stats_add(struct rk_topic_stats *sum, const struct rk_topic_stats *one,
                      bool is_dead)
{
    sum->ready += is_dead ? 0 : one->ready;
    sum->dead += is_dead ? one->ready + one->delayed + one->in_flight : 0;
    sum->delayed += one->delayed;
    sum->in_flight += one->in_flight;
    sum->bytes += one->bytes;
    sum->published += is_dead ? 0 : one->published;
    sum->delivered += one->delivered;
    sum->acked += one->acked;
    sum->failed += one->failed;
    sum->expired += one->expired;
}

static void page_end(struct rk_ask *call)
{
    const struct walk *walk = call->gathered;
    if (!call->has_failed && walk->has_more && call->request.op == RK_OP_QUEUE_STATS)
        page_ask(call);
    else
        walk_answer(call);
}

static void part_done(struct rk_ask *whole, struct rk_ask *part,
                      const struct rk_reply *reply, bool is_last)
{
    struct walk *walk = whole->gathered;
    const struct rk_topic_stats *stats = reply->topic_stats;
    if (reply->status == RK_OK && stats != NULL) {
        walk->is_there[part->part] = true;
        walk->listed[part->part].message_count =
            stats->ready + stats->delayed + stats->in_flight;
        stats_add(&walk->sum, stats,
                  rk_topic_base(part->request.topic).size != part->request.topic.size);
    } else if (reply->status != RK_ENOENT && !whole->has_failed) {
        walk->failure = *reply;
        walk->failure.field = RK_SLICE_EMPTY;
        whole->has_failed = true;
    }
    if (is_last) page_end(whole);
}

static bool part_start(struct rk_ask *whole, uint32_t part, struct rk_slice name)
{
    struct rk_request request;
    rk_request_init(&request, RK_OP_QUEUE_INFO);
    request.topic = name;
    RK_SET(&request, TOPIC);
    struct rk_ask *call = rk_ask_part_new(whole, &request, part);
    if (call == NULL) return false;
    rk_ask_begin(call);
    return true;
}

static uint64_t page_size(const struct rk_ask *call)
{
    if (call->request.op == RK_OP_QUEUE_STATS) return PAGE_MAX;
    return call->request.limit != 0 ? call->request.limit : 100;
}

static bool page_init(struct rk_ask *call, const struct redisReply *reply)
{
    struct walk *walk = call->gathered;
    uint64_t limit = page_size(call);
    walk->has_more = reply->elements > limit;
    walk->count = (uint32_t)(walk->has_more ? limit : reply->elements);
    walk->listed = rk_arena_calloc(&call->arena, walk->count + 1, sizeof(*walk->listed));
    walk->is_there = rk_arena_calloc(&call->arena, walk->count + 1, sizeof(bool));
    if (walk->listed == NULL || walk->is_there == NULL) return false;
    for (uint32_t i = 0; i < walk->count; i++) {
        struct rk_slice name = rk_answer_text(reply->element[i]);
        walk->listed[i].name = rk_arena_copy(&call->arena, name);
        if (walk->listed[i].name.size != name.size) return false;
    }
    if (walk->count != 0) walk->after = walk->listed[walk->count - 1].name;
    return true;
}

static void paged(struct rk_ask *call, const struct redisReply *reply)
{
    struct walk *walk = call->gathered;
    if (reply->type != REDIS_REPLY_ARRAY || !page_init(call, reply)) {
        rk_ask_fail(call, RK_EIO, NULL, "the list of topics can not be read");
        return;
    }
    call->part_done = part_done;
    call->open_parts++; /* so that no answer is the last one before all have begun */
    for (uint32_t i = 0; i < walk->count; i++) {
        if (part_start(call, i, walk->listed[i].name)) continue;
        call->has_failed = true;
        walk->failure.status = RK_EBUSY;
        (void)snprintf(walk->failure.text, sizeof(walk->failure.text),
                       "too many calls are under way");
        break;
    }
    call->open_parts--;
    if (call->open_parts == 0) page_end(call);
}

static void page_ask(struct rk_ask *call)
{
    struct rk_store *store = call->store;
    const struct walk *walk = call->gathered;
    rk_arena_reset(&store->args);
    struct rk_slice args[] = {RK_SLICE_LITERAL("page"), call->request.prefix, walk->after,
                              rk_store_text(store, page_size(call))};
    rk_ask_eval(call, RK_SCRIPT_TOPICS, store->queues->topics_keys, 3, args, 4, paged);
}

void rk_walk_start(struct rk_ask *call)
{
    struct walk *walk = rk_arena_calloc(&call->arena, 1, sizeof(*walk));
    if (walk == NULL) {
        rk_ask_fail(call, RK_ENOMEM, NULL, "out of memory");
        return;
    }
    call->gathered = walk;
    walk->after = call->request.after;
    page_ask(call);
}

/* --- topics that scripts made ------------------------------------------------------ */

static struct rk_ask *topic_job(struct rk_store *store, struct rk_slice name,
                                void (*finished)(struct rk_ask *, const struct rk_reply *))
{
    struct rk_request request;
    rk_request_init(&request, RK_OP_QUEUE_INFO);
    request.topic = name;
    RK_SET(&request, TOPIC);
    struct rk_ask *job =
        rk_ask_own(store, &request, rk_store_now() + SWEEP_DEADLINE_MS, finished, store);
    if (job != NULL && rk_topic_hold(job, job->request.topic) == NULL) {
        rk_ask_free(job);
        return NULL;
    }
    return job;
}

static void job_done(struct rk_ask *job, const struct redisReply *reply)
{
    struct rk_reply out;
    bool needs_listing;
    if (!rk_script_ok(job, reply, &needs_listing)) return;
    memset(&out, 0, sizeof(out));
    rk_ask_answer(job, &out);
}

static void job_rule(struct rk_ask *job, const char *op, uint64_t number)
{
    struct rk_args args;
    rk_args_begin(&args, job, op, 5);
    rk_args_add(&args, job->topic->name);
    rk_args_number(&args, number);
    rk_args_number(&args, job->store->history);
    rk_args_text(&args, "0");
    rk_args_text(&args, "0");
    rk_args_eval(&args, job, RK_SCRIPT_ADMIN, NULL, job_done);
}

static void announced(struct rk_ask *job, const struct redisReply *reply)
{
    uint64_t number = rk_topic_listed(job, reply);
    if (number == 0) return;
    rk_topic_numbered(job->store, job->topic, number);
    job_rule(job, "number", number);
}

/* Dead letters came to be: their topic is listed under a number like every other. */
void rk_topic_announce(struct rk_store *store, const struct rk_store_topic *topic)
{
    struct rk_slice suffix = RK_TOPIC_DEAD_SUFFIX;
    uint8_t name[2 * RK_NAME_MAX];
    if (topic == NULL || topic->name.size + suffix.size > sizeof(name)) return;
    size_t size = topic->name.size;
    memcpy(name, topic->name.data, size);
    if (!topic->is_dead) {
        memcpy(name + size, suffix.data, suffix.size);
        size += suffix.size;
    }
    struct rk_ask *job = topic_job(store, rk_slice_of(name, size), NULL);
    if (job != NULL) rk_topic_list(job, job->topic->name, announced);
}

/* --- the sweep --------------------------------------------------------------------- */

static void sweep_part_done(struct rk_ask *job, const struct rk_reply *reply)
{
    (void)reply;
    job->store->queues->sweeps--;
}

static void sweep_topic(struct rk_store *store, struct rk_slice name)
{
    if (!store->io.leads(store->io.context, rk_slot_of_topic(name))) return;
    struct rk_ask *job = topic_job(store, name, sweep_part_done);
    if (job == NULL) return;
    store->queues->sweeps++;
    store->stats.swept++;
    job_rule(job, "sweep", 0);
}

static void swept(struct rk_ask *job, const struct redisReply *reply)
{
    struct rk_store *store = job->store;
    struct rk_queue_store *queues = store->queues;
    rk_buf_reset(&queues->sweep_after);
    if (reply->type == REDIS_REPLY_ARRAY) {
        size_t count = reply->elements > SWEEP_PAGE ? SWEEP_PAGE : reply->elements;
        for (size_t i = 0; i < count; i++)
            sweep_topic(store, rk_answer_text(reply->element[i]));
        if (reply->elements > SWEEP_PAGE)
            rk_buf_append_slice(&queues->sweep_after,
                                rk_answer_text(reply->element[count - 1]));
    }
    struct rk_reply out;
    memset(&out, 0, sizeof(out));
    rk_ask_answer(job, &out);
}

void rk_sweep(struct rk_store *store, uint64_t now)
{
    struct rk_queue_store *queues = store->queues;
    struct rk_request request;
    rk_request_init(&request, RK_OP_QUEUE_LIST);
    if (!rk_redis_is_up(store->redis)) return;
    struct rk_ask *job =
        rk_ask_own(store, &request, now + SWEEP_DEADLINE_MS, sweep_part_done, store);
    if (job == NULL) return;
    queues->sweeps++;
    rk_arena_reset(&store->args);
    struct rk_slice args[] = {RK_SLICE_LITERAL("page"), RK_SLICE_EMPTY,
                              rk_buf_slice(&queues->sweep_after),
                              rk_store_text(store, SWEEP_PAGE)};
    rk_ask_eval(job, RK_SCRIPT_TOPICS, queues->topics_keys, 3, args, 4, swept);
}
