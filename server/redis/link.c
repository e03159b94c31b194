/* One connection: what leaves, what comes back, and when it is given up. */
#include "redis/redis_internal.h"

#include "base/alloc.h"
#include "base/assert.h"

#include <errno.h>
#include <event2/buffer.h>
#include <event2/bufferevent.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/socket.h>

enum {
    BACKOFF_MIN_US = 50000,
    BACKOFF_MAX_US = 2 * SECOND_US,
    DENIED_MIN_US = SECOND_US,
    DENIED_MAX_US = 15 * SECOND_US,
    FIRST_PAUSE_US = 20000,    /* after the loss of a link that worked */
    STEADY_US = 5 * SECOND_US, /* up for so long: it worked */
    STUCK_US = SECOND_US,      /* silent for so long, with an answer overdue */
    IDLE_US = 10 * SECOND_US,  /* then a PING */
    SHORT_US = 50000,          /* no memory: again then */
    LOG_AGAIN_US = 60 * SECOND_US,
    OUT_KEEP = 256 << 10,
};

struct rk_redis_link *rk_redis_link_new(struct rk_redis *redis,
                                        const struct link_role *role)
{
    struct rk_redis_link *link = rk_calloc(1, sizeof(*link));
    if (link == NULL) return NULL;
    link->redis = redis;
    link->role = role;
    link->timer.is_link = true;
    rk_list_init(&link->in_dirty);
    rk_list_init(&link->in_doomed);
    rk_list_init(&link->waiting);
    rk_list_init(&link->sent);
    rk_list_init(&link->held);
    rk_buf_init(&link->out);
    return link;
}

void rk_redis_link_free(struct rk_redis_link *link)
{
    if (link == NULL) return;
    rk_redis_link_close(link);
    rk_redis_unwake(link->redis, &link->timer);
    rk_list_remove(&link->in_doomed);
    rk_redis_reader_fini(&link->reader);
    rk_buf_fini(&link->out);
    rk_free(link);
}

void rk_redis_link_address(char *out, size_t size, const struct rk_redis_link *link)
{
    bool has_colon = strchr(link->host, ':') != NULL;
    (void)snprintf(out, size, has_colon ? "[%s]:%u" : "%s:%u", link->host,
                   (unsigned)link->port);
}

void rk_redis_link_start(struct rk_redis_link *link, uint64_t delay_us)
{
    if (link->state != LINK_OFF && link->state != LINK_RESTING) return;
    uint64_t at_us = rk_redis_now() + delay_us;
    if (link->state == LINK_RESTING && link->timer.at_us <= at_us) return;
    link->state = LINK_RESTING;
    rk_redis_wake_at(link->redis, &link->timer, at_us);
}

/* ---- the end of a connection -------------------------------------------------------- */

static void move_all(struct rk_list *to, struct rk_list *from)
{
    while (!rk_list_is_empty(from)) {
        struct rk_list *first = rk_list_first(from);
        rk_list_remove(first);
        rk_list_push_back(to, first);
    }
}

static struct rk_redis_call *first_call(struct rk_list *list)
{
    return RK_CONTAINER(rk_list_first(list), struct rk_redis_call, link_in);
}

/* What may be repeated goes where it belongs, in front of what waits here; the rest ends.
 * That comes last: what its owners send then is not to overtake anything. */
static void lose_calls(struct rk_redis_link *link, const char *reason)
{
    struct rk_redis *redis = link->redis;
    struct rk_list waiting, ending;
    rk_list_init(&waiting);
    rk_list_init(&ending);
    move_all(&waiting, &link->waiting);
    while (!rk_list_is_empty(&link->sent)) {
        struct rk_redis_call *call = first_call(&link->sent);
        if (call->kind != CALL_USER || call->is_over || call->may_repeat) {
            rk_redis_lose(redis, call, reason);
        } else {
            rk_list_remove(&call->link_in);
            rk_list_push_back(&ending, &call->link_in);
        }
    }
    while (!rk_list_is_empty(&waiting)) {
        struct rk_redis_call *call = first_call(&waiting);
        rk_redis_call_unlink(redis, call);
        call->is_asking = false;
        rk_redis_route(redis, call);
    }
    move_all(&ending, &link->held);
    while (!rk_list_is_empty(&ending))
        rk_redis_lose(redis, first_call(&ending), reason);
}

static uint64_t next_pause(struct rk_redis_link *link, bool was_up)
{
    if (was_up && rk_redis_now() - link->up_us >= STEADY_US) link->backoff_us = 0;
    uint64_t pause = link->backoff_us == 0 ? FIRST_PAUSE_US : link->backoff_us;
    uint64_t least = link->is_denied ? DENIED_MIN_US : BACKOFF_MIN_US;
    uint64_t most = link->is_denied ? DENIED_MAX_US : BACKOFF_MAX_US;
    link->backoff_us *= 2;
    if (link->backoff_us < least) link->backoff_us = least;
    if (link->backoff_us > most) link->backoff_us = most;
    /* No haste where only a person can mend it, but not later than was said either. */
    uint64_t half = link->backoff_us / 2;
    return link->is_denied ? half + rk_redis_jitter(link->redis, half)
                           : rk_redis_jitter(link->redis, pause);
}

static void log_end(struct rk_redis_link *link, bool was_up)
{
    char address[RK_REDIS_HOST_MAX + 16];
    uint64_t now = rk_redis_now();
    if (strcmp(link->reason, link->logged) == 0 && now - link->logged_us < LOG_AGAIN_US)
        return;
    memcpy(link->logged, link->reason, sizeof(link->logged));
    link->logged_us = now;
    rk_redis_link_address(address, sizeof(address), link);
    rk_redis_log(link->redis, link->is_denied ? RK_REDIS_ERROR : RK_REDIS_WARN,
                 "%s %s %s: %s", link->role->name, address, was_up ? "lost" : "not reached",
                 link->reason);
}

static void end(struct rk_redis_link *link)
{
    struct rk_redis *redis = link->redis;
    bool was_up = link->state == LINK_UP;
    rk_redis_link_close(link);
    if (was_up) {
        redis->stats.losses++;
        redis->stats.links_up--;
    }
    link->state = link->is_doomed ? LINK_OFF : LINK_RESTING;
    if (link->is_doomed) {
        rk_redis_unwake(redis, &link->timer);
        rk_list_remove(&link->in_doomed);
        rk_list_push_back(&redis->doomed, &link->in_doomed);
        rk_redis_touch(redis);
    } else {
        rk_redis_wake_at(redis, &link->timer, rk_redis_now() + next_pause(link, was_up));
        log_end(link, was_up);
    }
    lose_calls(link, link->reason);
    if (!link->is_doomed) link->role->down(link, was_up);
    rk_redis_note_state(redis);
}

void rk_redis_link_fail(struct rk_redis_link *link, const char *format, ...)
{
    char reason[RK_REDIS_TEXT_MAX];
    va_list arguments;
    va_start(arguments, format);
    (void)vsnprintf(reason, sizeof(reason), format, arguments);
    va_end(arguments);
    memcpy(link->reason, reason, sizeof(reason));
    end(link);
}

void rk_redis_link_stop(struct rk_redis_link *link, const char *reason)
{
    bool was_up = link->state == LINK_UP;
    (void)snprintf(link->reason, sizeof(link->reason), "%s", reason);
    rk_redis_link_close(link);
    if (was_up) link->redis->stats.links_up--;
    link->state = LINK_OFF;
    rk_redis_unwake(link->redis, &link->timer);
    lose_calls(link, reason);
}

void rk_redis_link_leave(struct rk_redis_link *link, const char *reason)
{
    if (link->is_leaving) return;
    link->is_leaving = true;
    (void)snprintf(link->reason, sizeof(link->reason), "%s", reason);
    if (link->state != LINK_UP || rk_list_is_empty(&link->sent)) end(link);
}

/* ---- out ---------------------------------------------------------------------------- */

static void note_sent(struct rk_redis_link *link, struct rk_redis_call *call)
{
    call->link = link;
    call->place = CALL_SENT;
    call->sent_us = rk_redis_now();
    call->sent_number = ++link->sent_number;
    rk_list_push_back(&link->sent, &call->link_in);
    link->sent_count++;
    link->sent_bytes += rk_redis_call_size(call);
    link->redis->stats.sent++;
}

static void touch(struct rk_redis_link *link)
{
    if (!rk_list_is_linked(&link->in_dirty))
        rk_list_push_back(&link->redis->dirty, &link->in_dirty);
    rk_redis_touch(link->redis);
}

bool rk_redis_link_shout(struct rk_redis_link *link, uint32_t arg_count,
                         const char *const args[])
{
    size_t size = 32;
    for (uint32_t i = 0; i < arg_count; i++)
        size += strlen(args[i]) + 32;
    if (rk_buf_reserve(&link->out, size) != RK_OK) return false;
    rk_redis_write_head(&link->out, arg_count);
    for (uint32_t i = 0; i < arg_count; i++)
        rk_redis_write_arg(&link->out, rk_slice_of_string(args[i]));
    touch(link);
    return true;
}

bool rk_redis_link_say(struct rk_redis_link *link, enum call_kind kind, uint32_t arg_count,
                       const char *const args[])
{
    struct rk_redis_call *call = rk_redis_call_take(link->redis);
    if (call == NULL) return false;
    call->kind = kind;
    if (!rk_redis_link_shout(link, arg_count, args)) {
        rk_redis_call_put(link->redis, call);
        return false;
    }
    note_sent(link, call);
    return true;
}

/* The number of the EVAL that brought the script to this server; 0: none did. */
static uint64_t *text_number(struct rk_redis_link *link,
                             const struct rk_redis_script *script)
{
    uint32_t at = 0;
    while (at < link->script_count && link->scripts[at].script != script)
        at++;
    if (at == link->script_count) {
        if (at == LINK_SCRIPTS_MAX)
            at = (uint32_t)(link->sent_number % LINK_SCRIPTS_MAX);
        else
            link->script_count++;
        link->scripts[at].script = script;
        link->scripts[at].number = 0;
    }
    return &link->scripts[at].number;
}

/* A server that did not know the script at number `sent_number` knows it by now if its text
 * was sent since: then the name will do. */
static void choose_script_form(struct rk_redis_link *link, struct rk_redis_call *call)
{
    uint64_t *number = text_number(link, call->script);
    if (call->sent_number < *number) {
        call->has_text = false;
        return;
    }
    *number = link->sent_number + 1;
    link->redis->stats.scripts_loaded++;
}

static bool send_call(struct rk_redis_link *link, struct rk_redis_call *call)
{
    if (call->script != NULL && call->has_text) choose_script_form(link, call);
    if (rk_buf_reserve(&link->out, rk_redis_call_size(call) + 64) != RK_OK) return false;
    if (call->is_asking &&
        !rk_redis_link_say(link, CALL_SKIP, 1, (const char *const[]){"ASKING"}))
        return false;
    rk_redis_write_call(&link->out, call);
    if (call->wait_replicas > link->wait_most) link->wait_most = call->wait_replicas;
    note_sent(link, call);
    touch(link);
    return true;
}

static bool has_room(const struct rk_redis_link *link, const struct rk_redis_call *call)
{
    if (link->state != LINK_UP || link->is_leaving) return false;
    if (link->sent_count == 0) return true;
    return link->sent_count < LINK_PIPELINE_MAX &&
           link->sent_bytes + rk_redis_call_size(call) <= LINK_PIPELINE_BYTES_MAX;
}

void rk_redis_link_give(struct rk_redis_link *link, struct rk_redis_call *call)
{
    call->link = link;
    call->place = CALL_WAITING;
    rk_list_push_back(&link->waiting, &call->link_in);
    rk_redis_link_pump(link);
}

void rk_redis_link_pump(struct rk_redis_link *link)
{
    while (!rk_list_is_empty(&link->waiting)) {
        struct rk_redis_call *call =
            RK_CONTAINER(rk_list_first(&link->waiting), struct rk_redis_call, link_in);
        if (!has_room(link, call)) return;
        rk_list_remove(&call->link_in);
        if (send_call(link, call)) continue;
        rk_list_push_front(&link->waiting, &call->link_in);
        rk_redis_wake_at(link->redis, &link->timer, rk_redis_now() + SHORT_US);
        return;
    }
}

/* One WAIT for all that left before it in this turn. */
static void say_wait(struct rk_redis_link *link)
{
    char count[16], ms[16];
    (void)snprintf(count, sizeof(count), "%u", link->wait_most);
    (void)snprintf(ms, sizeof(ms), "%u", link->redis->url->wait_ms);
    if (rk_redis_link_say(link, CALL_WAIT, 3, (const char *const[]){"WAIT", count, ms}))
        link->wait_most = 0;
}

void rk_redis_link_flush(struct rk_redis_link *link)
{
    if (link->bev == NULL) return;
    if (link->wait_most > 0) say_wait(link);
    if (link->wait_most > 0) touch(link); /* no memory for it: in the next turn */
    size_t at = 0;
    size_t size = link->out.size;
    if (size == 0) return;
    link->redis->stats.bytes_out += size;
    /* Without TLS it leaves at once, unless earlier bytes still wait for the socket. */
    if (link->redis->tls == NULL &&
        evbuffer_get_length(bufferevent_get_output(link->bev)) == 0) {
        ssize_t done =
            send(bufferevent_getfd(link->bev), link->out.data, size, MSG_NOSIGNAL);
        if (done > 0) at = (size_t)done;
        /* An error is seen by the reader, in its own time. */
    }
    if (at < size && bufferevent_write(link->bev, link->out.data + at, size - at) != 0) {
        rk_redis_link_fail(link, "out of memory");
        return;
    }
    rk_buf_reset(&link->out);
    if (link->out.capacity > OUT_KEEP) {
        rk_buf_fini(&link->out);
        rk_buf_init(&link->out);
    }
}

/* ---- in ----------------------------------------------------------------------------- */

void rk_redis_link_is_up(struct rk_redis_link *link)
{
    struct rk_redis *redis = link->redis;
    link->state = LINK_UP;
    link->up_us = rk_redis_now();
    link->logged[0] = '\0';
    redis->stats.connects++;
    redis->stats.links_up++;
    link->facts_us = link->up_us + (uint64_t)redis->url->check_ms * 1000;
    uint64_t next_us = link->up_us + IDLE_US;
    if (link->role->is_data && link->facts_us < next_us) next_us = link->facts_us;
    rk_redis_wake_at(redis, &link->timer, next_us);
    link->role->up(link);
}

static void take_answer(struct rk_redis_link *link, const struct redisReply *reply)
{
    struct rk_redis *redis = link->redis;
    struct rk_redis_call *call =
        RK_CONTAINER(rk_list_first(&link->sent), struct rk_redis_call, link_in);
    rk_redis_call_unlink(redis, call);
    if (call->kind == CALL_USER && !call->is_over) {
        rk_redis_answer(link, call, reply);
        return;
    }
    if (call->kind == CALL_WAIT)
        rk_redis_answer_wait(link, call, reply);
    else if (call->kind == CALL_GUIDE)
        link->role->reply(link, reply);
    else if (call->kind != CALL_USER && call->kind != CALL_SKIP)
        rk_redis_greeted(link, call, reply);
    rk_redis_call_put(redis, call);
}

static void take_reply(struct rk_redis_link *link, const struct redisReply *reply)
{
    uint64_t epoch = link->epoch;
    if (!rk_list_is_empty(&link->sent)) {
        take_answer(link, reply);
    } else if (link->is_pushing) {
        link->pinged_us = 0;
        link->role->push(link, reply);
    } else if (reply->type == REDIS_REPLY_ERROR) {
        rk_redis_link_fail(link, "%.200s", reply->str);
    } else {
        rk_redis_link_fail(link, "an answer to nothing that was asked");
    }
    if (link->epoch != epoch) return;
    if (link->is_leaving && rk_list_is_empty(&link->sent))
        end(link);
    else
        rk_redis_link_pump(link);
}

/* All replies in the bytes that were fed. False: the connection is over. */
static bool take_replies(struct rk_redis_link *link)
{
    uint64_t epoch = link->epoch;
    for (;;) {
        const struct redisReply *reply;
        enum rk_status status = rk_redis_reader_next(&link->reader, &reply);
        if (status != RK_OK) {
            const char *what = status == RK_EPROTO   ? "it does not speak Redis's protocol"
                               : status == RK_ENOMEM ? "out of memory"
                                                     : "a reply is above the bound";
            rk_redis_link_fail(link, "%s", what);
            return false;
        }
        if (reply == NULL) return true;
        take_reply(link, reply);
        if (link->epoch != epoch) return false;
    }
}

void rk_redis_link_read(struct rk_redis_link *link)
{
    struct evbuffer *input = bufferevent_get_input(link->bev);
    size_t size;
    link->last_in_us = rk_redis_now();
    link->is_overdue = false;
    while ((size = evbuffer_get_contiguous_space(input)) > 0) {
        if (size > RK_REDIS_FEED_MAX) size = RK_REDIS_FEED_MAX;
        struct rk_slice bytes = rk_slice_of(evbuffer_pullup(input, (ev_ssize_t)size), size);
        link->redis->stats.bytes_in += size;
        if (rk_redis_reader_feed(&link->reader, bytes) != RK_OK) {
            rk_redis_link_fail(link, "out of memory");
            return;
        }
        (void)evbuffer_drain(input, size);
        if (!take_replies(link)) return;
    }
}

/* ---- time --------------------------------------------------------------------------- */

/* How long silence may last beyond what is overdue: WAIT holds up what comes behind it. */
static uint64_t stuck_us(const struct rk_redis_link *link)
{
    const struct rk_redis_url *url = link->redis->url;
    return STUCK_US + (url->wait != 0 ? (uint64_t)url->wait_ms * 1000 : 0);
}

/* When the oldest unanswered command makes the connection count as dead. */
static uint64_t dead_at(const struct rk_redis_link *link)
{
    const struct rk_redis_call *head =
        RK_CONTAINER_CONST(link->sent.next, struct rk_redis_call, link_in);
    uint64_t since = head->sent_us > link->last_in_us ? head->sent_us : link->last_in_us;
    uint64_t timeout_us = (uint64_t)link->redis->url->timeout_ms * 1000;
    if (link->is_overdue) return since + stuck_us(link);
    if (head->kind == CALL_WAIT)
        return since + timeout_us + (uint64_t)link->redis->url->wait_ms * 1000;
    if (head->kind != CALL_USER) return since + timeout_us;
    return head->deadline_us + stuck_us(link);
}

static void rest_until(struct rk_redis_link *link, uint64_t at_us)
{
    struct rk_redis *redis = link->redis;
    if (link->role->is_data && link->facts_us < at_us) at_us = link->facts_us;
    if (link == redis->guide && redis->guide_due_us != 0 && redis->guide_due_us < at_us)
        at_us = redis->guide_due_us;
    rk_redis_wake_at(redis, &link->timer, at_us);
}

/* A person may change a server's configuration while it runs. */
static void read_facts(struct rk_redis_link *link, uint64_t now)
{
    if (!link->role->is_data || now < link->facts_us) return;
    link->facts_us = now + (uint64_t)link->redis->url->check_ms * 1000;
    if (!link->is_leaving && !rk_redis_greet_again(link)) link->facts_us = now + SHORT_US;
}

static void check(struct rk_redis_link *link, uint64_t now)
{
    uint64_t next;
    uint64_t timeout_us = (uint64_t)link->redis->url->timeout_ms * 1000;
    struct rk_redis *redis = link->redis;
    rk_redis_link_pump(link);
    read_facts(link, now);
    if (link == redis->guide && redis->guide_due_us != 0 && now >= redis->guide_due_us) {
        redis->guide_due_us = 0;
        rk_redis_wake_at(redis, &link->timer, now + timeout_us);
        link->role->ask(link);
        return;
    }
    if (!rk_list_is_empty(&link->sent)) {
        next = dead_at(link);
    } else if (link->pinged_us != 0) {
        next = link->pinged_us + timeout_us;
    } else {
        next = link->last_in_us + IDLE_US;
        if (now >= next) {
            const char *const ping[] = {"PING"};
            bool is_said = link->is_pushing ? rk_redis_link_shout(link, 1, ping)
                                            : rk_redis_link_say(link, CALL_SKIP, 1, ping);
            if (link->is_pushing && is_said) link->pinged_us = now;
            rest_until(link, now + (is_said ? timeout_us : SHORT_US));
            return;
        }
    }
    if (now >= next)
        rk_redis_link_fail(link, "no answer for %llu ms",
                           (unsigned long long)((now - link->last_in_us) / 1000));
    else
        rest_until(link, next);
}

void rk_redis_link_timer(struct rk_redis_link *link, uint64_t now)
{
    switch (link->state) {
    case LINK_OFF: break;
    case LINK_RESTING: rk_redis_link_begin(link); break;
    case LINK_RESOLVING: rk_redis_link_fail(link, "no answer from the name service"); break;
    case LINK_CONNECTING:
        if (!rk_redis_link_try_next(link))
            rk_redis_link_fail(link, "no connection in time");
        break;
    case LINK_GREETING: rk_redis_link_fail(link, "connected, but no answer in time"); break;
    case LINK_UP: check(link, now); break;
    }
}
