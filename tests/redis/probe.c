/* The client of Redis as a process that tests drive: commands are lines on stdin, what
 * comes of them are JSON objects, one a line, on stdout.
 *
 *     redis_probe URL
 *     send TAG DEADLINE_MS FLAGS KEY ARG ...      KEY may be -; FLAGS: -, or of r (may
 * repeat), wN (wait for N replicas), nN (node N) script NAME TEXT ... the rest of the line
 *     eval TAG DEADLINE_MS FLAGS NAME KEYS ARG ...
 *     forget TAG           subscribe CHANNEL      unsubscribe CHANNEL
 *     load KEYS DEPTH DEADLINE_MS FLAGS           INCR load:<n>, so many under way at once
 *     stop                                        ends the load, says how it went
 *     bench COUNT DEPTH [NAME]                    GETs or EVALs of the script as fast as
 * can be stats                server KEY             quit */
#include "redis/redis.h"

#include "base/alloc.h"
#include "base/assert.h"

#include <event2/buffer.h>
#include <event2/dns.h>
#include <event2/event.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

enum { WORDS_MAX = 256, LOAD_KEYS_MAX = 4096, NAMES_MAX = 64 };

struct named_script {
    struct rk_redis_script script;
    char name[32];
};

struct named_channel {
    struct rk_redis_subscription subscription;
    struct probe *probe;
    char name[128];
};

struct sent {
    struct rk_list link;
    struct probe *probe;
    uint64_t id;
    uint64_t at_us;
    char tag[64];
};

struct load {
    bool is_on;
    bool is_bench;
    uint32_t keys;
    uint32_t under_way;
    uint32_t deadline_ms;
    struct rk_redis_ask ask;
    uint64_t left; /* of a bench */
    uint64_t begun_us;
    uint64_t next;
    uint64_t ok;
    uint64_t not_done;
    uint64_t unknown;
    uint64_t refused;
    uint64_t none;                /* ids of 0 */
    char text[RK_REDIS_TEXT_MAX]; /* of the last that was not ok */
    uint64_t slowest_us;
    uint64_t gap_us; /* the longest time without an answer */
    uint64_t last_us;
    uint64_t acked[LOAD_KEYS_MAX];
    uint64_t open[LOAD_KEYS_MAX];
    uint64_t highest[LOAD_KEYS_MAX];
    struct named_script *script;
    struct rk_list items;
};

struct probe {
    struct event_base *base;
    struct rk_redis *redis;
    struct evbuffer *in;
    struct event *in_event;
    struct rk_list sents;
    struct named_script scripts[NAMES_MAX];
    uint32_t script_count;
    struct named_channel *channels[NAMES_MAX];
    struct load load;
    bool is_over;
};

static uint64_t now_us(void)
{
    struct timespec now;
    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000 + (uint64_t)now.tv_nsec / 1000;
}

/* ---- output ------------------------------------------------------------------------- */

static void put_text(const char *data, size_t size)
{
    (void)putchar('"');
    for (size_t i = 0; i < size; i++) {
        unsigned char c = (unsigned char)data[i];
        if (c < ' ' || c == '"' || c == '\\' || c > '~')
            (void)printf("\\u%04x", c);
        else
            (void)putchar(c);
    }
    (void)putchar('"');
}

static void put_reply(const struct redisReply *reply)
{
    switch (reply->type) {
    case REDIS_REPLY_INTEGER: (void)printf("%lld", reply->integer); break;
    case REDIS_REPLY_NIL: (void)printf("null"); break;
    case REDIS_REPLY_ARRAY:
        (void)putchar('[');
        for (size_t i = 0; i < reply->elements; i++) {
            if (i > 0) (void)putchar(',');
            put_reply(reply->element[i]);
        }
        (void)putchar(']');
        break;
    default: put_text(reply->str, reply->len); break;
    }
}

static void end_line(void)
{
    (void)printf("}\n");
    (void)fflush(stdout);
}

static void on_log(void *context, enum rk_redis_level level, const char *text)
{
    static const char *const names[] = {"info", "warn", "error"};
    (void)context;
    (void)printf("{\"event\":\"log\",\"level\":\"%s\",\"text\":", names[level]);
    put_text(text, strlen(text));
    end_line();
}

static void on_state(void *context, bool is_up)
{
    struct probe *probe = context;
    const char *reason = rk_redis_reason(probe->redis);
    (void)printf("{\"event\":\"state\",\"up\":%s,\"reason\":", is_up ? "true" : "false");
    put_text(reason, strlen(reason));
    end_line();
}

static void put_server(const struct rk_redis_server *server)
{
    (void)printf(
        "\"address\":\"%s\",\"run_id\":\"%s\",\"replid\":\"%s\",\"version\":\"%s\","
        "\"policy\":\"%s\",\"maxmemory\":%llu,\"replicas\":%u,\"aof\":%s",
        server->address, server->run_id, server->replid, server->version, server->policy,
        (unsigned long long)server->maxmemory, server->replicas,
        server->is_aof ? "true" : "false");
}

static void on_server(void *context, const struct rk_redis_server *server)
{
    (void)context;
    (void)printf("{\"event\":\"server\",");
    put_server(server);
    end_line();
}

static const char *status_word(enum rk_status status)
{
    return status == RK_OK ? "ok" : rk_status_text(status);
}

/* ---- single commands ---------------------------------------------------------------- */

static void on_done(void *context, const struct rk_redis_result *result)
{
    struct sent *sent = context;
    (void)printf("{\"tag\":\"%s\",\"status\":\"%s\",\"ms\":%llu,\"replicas\":%d,\"text\":",
                 sent->tag, status_word(result->status),
                 (unsigned long long)((now_us() - sent->at_us) / 1000), result->replicas);
    put_text(result->text, strlen(result->text));
    if (result->reply != NULL) {
        (void)printf(",\"reply\":");
        put_reply(result->reply);
    }
    end_line();
    rk_list_remove(&sent->link);
    rk_free(sent);
}

static uint32_t number(const char *text)
{
    return (uint32_t)strtoul(text, NULL, 10);
}

static void read_flags(struct rk_redis_ask *ask, const char *flags)
{
    ask->may_repeat = strchr(flags, 'r') != NULL;
    const char *wait = strchr(flags, 'w');
    const char *node = strchr(flags, 'n');
    if (wait != NULL) ask->wait_replicas = number(wait + 1);
    if (node != NULL) ask->node = number(node + 1);
}

static struct sent *new_sent(struct probe *probe, const char *tag)
{
    struct sent *sent = rk_calloc(1, sizeof(*sent));
    RK_ASSERT(sent != NULL);
    (void)snprintf(sent->tag, sizeof(sent->tag), "%s", tag);
    sent->probe = probe;
    sent->at_us = now_us();
    rk_list_push_back(&probe->sents, &sent->link);
    return sent;
}

static void note_id(struct sent *sent, uint64_t id)
{
    sent->id = id;
    if (id != 0) return;
    struct rk_redis_result none = {.status = RK_EBUSY, .text = "not taken", .replicas = -1};
    on_done(sent, &none);
}

static struct named_script *find_script(struct probe *probe, const char *name)
{
    for (uint32_t i = 0; i < probe->script_count; i++)
        if (strcmp(probe->scripts[i].name, name) == 0) return &probe->scripts[i];
    return NULL;
}

static void do_send(struct probe *probe, uint32_t count, char **words)
{
    struct rk_slice args[WORDS_MAX];
    struct rk_redis_command command = {.args = args, .arg_count = count - 5};
    for (uint32_t i = 5; i < count; i++)
        args[i - 5] = rk_slice_of_string(words[i]);
    if (strcmp(words[4], "-") != 0) command.key = rk_slice_of_string(words[4]);
    struct sent *sent = new_sent(probe, words[1]);
    command.ask = (struct rk_redis_ask){
        .done = on_done, .context = sent, .deadline_ms = number(words[2])};
    read_flags(&command.ask, words[3]);
    note_id(sent, rk_redis_send(probe->redis, &command));
}

static void do_eval(struct probe *probe, uint32_t count, char **words)
{
    struct rk_slice args[WORDS_MAX];
    struct named_script *named = find_script(probe, words[4]);
    RK_ASSERT(named != NULL);
    for (uint32_t i = 6; i < count; i++)
        args[i - 6] = rk_slice_of_string(words[i]);
    struct rk_redis_eval eval = {.script = &named->script, .keys = args};
    eval.key_count = number(words[5]);
    RK_ASSERT(eval.key_count <= count - 6);
    eval.args = args + eval.key_count;
    eval.arg_count = count - 6 - eval.key_count;
    struct sent *sent = new_sent(probe, words[1]);
    eval.ask = (struct rk_redis_ask){
        .done = on_done, .context = sent, .deadline_ms = number(words[2])};
    read_flags(&eval.ask, words[3]);
    note_id(sent, rk_redis_eval(probe->redis, &eval));
}

static void do_script(struct probe *probe, const char *name, const char *text)
{
    RK_ASSERT(probe->script_count < NAMES_MAX);
    struct named_script *named = &probe->scripts[probe->script_count++];
    (void)snprintf(named->name, sizeof(named->name), "%s", name);
    named->script.name = named->name;
    named->script.text = rk_strdup(text);
    RK_ASSERT(named->script.text != NULL);
    named->script.size = strlen(text);
    rk_redis_script_init(&named->script);
}

static void do_forget(struct probe *probe, const char *tag)
{
    rk_list_each_safe (at, &probe->sents) {
        struct sent *sent = RK_CONTAINER(at, struct sent, link);
        if (strcmp(sent->tag, tag) != 0) continue;
        rk_redis_forget(probe->redis, sent->id);
        rk_list_remove(&sent->link);
        rk_free(sent);
    }
    (void)printf("{\"event\":\"forgotten\",\"tag\":\"%s\"", tag);
    end_line();
}

/* ---- subscriptions ------------------------------------------------------------------ */

static void on_message(void *context, struct rk_slice payload)
{
    struct named_channel *channel = context;
    (void)printf("{\"event\":\"message\",\"channel\":\"%s\",\"payload\":", channel->name);
    put_text((const char *)payload.data, payload.size);
    end_line();
}

static void on_channel(void *context, bool is_up)
{
    struct named_channel *channel = context;
    (void)printf("{\"event\":\"channel\",\"channel\":\"%s\",\"up\":%s", channel->name,
                 is_up ? "true" : "false");
    end_line();
}

static void do_subscribe(struct probe *probe, const char *name)
{
    uint32_t at = 0;
    while (at < NAMES_MAX && probe->channels[at] != NULL)
        at++;
    RK_ASSERT(at < NAMES_MAX);
    struct named_channel *channel = rk_calloc(1, sizeof(*channel));
    RK_ASSERT(channel != NULL);
    (void)snprintf(channel->name, sizeof(channel->name), "%s", name);
    channel->probe = probe;
    channel->subscription = (struct rk_redis_subscription){.channel = channel->name,
                                                           .context = channel,
                                                           .message = on_message,
                                                           .state = on_channel};
    probe->channels[at] = channel;
    RK_ASSERT(rk_redis_subscribe(probe->redis, &channel->subscription) == RK_OK);
}

static void do_unsubscribe(struct probe *probe, const char *name)
{
    for (uint32_t i = 0; i < NAMES_MAX; i++) {
        struct named_channel *channel = probe->channels[i];
        if (channel == NULL || strcmp(channel->name, name) != 0) continue;
        rk_redis_unsubscribe(probe->redis, &channel->subscription);
        probe->channels[i] = NULL;
        rk_free(channel);
        return;
    }
}

/* ---- load --------------------------------------------------------------------------- */

struct load_item {
    struct rk_list link;
    struct probe *probe;
    uint32_t key;
    uint64_t at_us;
};

static bool load_one(struct probe *probe, struct load_item *item);

static void report_load(struct probe *probe)
{
    struct load *load = &probe->load;
    uint64_t took_us = now_us() - load->begun_us;
    (void)printf("{\"event\":\"%s\",\"ok\":%llu,\"not_done\":%llu,\"unknown\":%llu,"
                 "\"refused\":%llu,\"none\":%llu,\"slowest_ms\":%llu,\"gap_ms\":%llu,"
                 "\"ms\":%llu,\"per_second\":%llu,\"keys\":{",
                 load->is_bench ? "bench" : "load", (unsigned long long)load->ok,
                 (unsigned long long)load->not_done, (unsigned long long)load->unknown,
                 (unsigned long long)load->refused, (unsigned long long)load->none,
                 (unsigned long long)load->slowest_us / 1000,
                 (unsigned long long)load->gap_us / 1000,
                 (unsigned long long)took_us / 1000,
                 (unsigned long long)(load->ok * 1000000 / (took_us + 1)));
    for (uint32_t i = 0; !load->is_bench && i < load->keys; i++)
        (void)printf("%s\"load:%u\":[%llu,%llu,%llu]", i > 0 ? "," : "", i,
                     (unsigned long long)load->acked[i], (unsigned long long)load->open[i],
                     (unsigned long long)load->highest[i]);
    (void)printf("},\"text\":");
    put_text(load->text, strlen(load->text));
    end_line();
}

static void drop_item(struct load_item *item)
{
    rk_list_remove(&item->link);
    rk_free(item);
}

static void on_load(void *context, const struct rk_redis_result *result)
{
    struct load_item *item = context;
    struct probe *probe = item->probe;
    struct load *load = &probe->load;
    uint64_t now = now_us();
    if (now - item->at_us > load->slowest_us) load->slowest_us = now - item->at_us;
    if (result->status != RK_OK)
        (void)snprintf(load->text, sizeof(load->text), "%s", result->text);
    if (result->status == RK_OK) {
        if (now - load->last_us > load->gap_us) load->gap_us = now - load->last_us;
        load->last_us = now;
        load->ok++;
        load->acked[item->key]++;
        if (result->reply->type == REDIS_REPLY_INTEGER &&
            (uint64_t)result->reply->integer > load->highest[item->key])
            load->highest[item->key] = (uint64_t)result->reply->integer;
    } else if (result->status == RK_EUNAVAILABLE) {
        load->not_done++;
    } else if (result->status == RK_EUNKNOWN) {
        load->unknown++;
        load->open[item->key]++;
    } else {
        load->refused++;
    }
    bool is_more = load->is_on && (!load->is_bench || load->left > 0);
    if (is_more && load_one(probe, item)) return;
    drop_item(item);
    load->under_way--;
    if (load->under_way == 0) {
        load->is_on = false;
        report_load(probe);
    }
}

static bool load_one(struct probe *probe, struct load_item *item)
{
    struct load *load = &probe->load;
    char key_text[32];
    item->key = (uint32_t)(load->next++ % load->keys);
    item->at_us = now_us();
    if (load->left > 0) load->left--;
    (void)snprintf(key_text, sizeof(key_text), "load:%u", item->key);
    struct rk_slice key = rk_slice_of_string(key_text);
    struct rk_redis_ask ask = load->ask;
    ask.done = on_load;
    ask.context = item;
    uint64_t id;
    if (load->script != NULL) {
        struct rk_redis_eval eval = {
            .script = &load->script->script, .keys = &key, .key_count = 1, .ask = ask};
        id = rk_redis_eval(probe->redis, &eval);
    } else {
        struct rk_slice args[] = {
            load->is_bench ? RK_SLICE_LITERAL("GET") : RK_SLICE_LITERAL("INCR"), key};
        struct rk_redis_command command = {
            .args = args, .arg_count = 2, .key = key, .ask = ask};
        id = rk_redis_send(probe->redis, &command);
    }
    if (id == 0) load->none++;
    return id != 0;
}

static void start_load(struct probe *probe, uint32_t depth)
{
    struct load *load = &probe->load;
    load->is_on = true;
    load->begun_us = load->last_us = now_us();
    for (uint32_t i = 0; i < depth; i++) {
        struct load_item *item = rk_calloc(1, sizeof(*item));
        RK_ASSERT(item != NULL);
        item->probe = probe;
        rk_list_push_back(&load->items, &item->link);
        if (load_one(probe, item))
            load->under_way++;
        else
            drop_item(item);
    }
}

static void do_load(struct probe *probe, uint32_t count, char **words)
{
    struct load *load = &probe->load;
    RK_ASSERT(count >= 5 && !load->is_on && load->under_way == 0);
    memset(load, 0, sizeof(*load));
    rk_list_init(&load->items);
    load->keys = number(words[1]);
    RK_ASSERT(load->keys > 0 && load->keys <= LOAD_KEYS_MAX);
    load->ask.deadline_ms = number(words[3]);
    read_flags(&load->ask, words[4]);
    if (count > 5) load->script = find_script(probe, words[5]);
    start_load(probe, number(words[2]));
}

static void do_bench(struct probe *probe, uint32_t count, char **words)
{
    struct load *load = &probe->load;
    RK_ASSERT(!load->is_on && load->under_way == 0);
    memset(load, 0, sizeof(*load));
    rk_list_init(&load->items);
    load->is_bench = true;
    load->keys = 1000;
    load->left = number(words[1]);
    load->ask.deadline_ms = 10000;
    if (count > 3) load->script = find_script(probe, words[3]);
    start_load(probe, number(words[2]));
}

/* ---- input -------------------------------------------------------------------------- */

static void put_stats(struct probe *probe)
{
    struct rk_redis_stats stats;
    rk_redis_stats(probe->redis, &stats);
    (void)printf("{\"event\":\"stats\"");
#define PUT(field) (void)printf(",\"" #field "\":%llu", (unsigned long long)stats.field)
    PUT(commands);
    PUT(sent);
    PUT(ok);
    PUT(refused);
    PUT(not_done);
    PUT(unknown);
    PUT(repeated);
    PUT(redirects);
    PUT(scripts_loaded);
    PUT(connects);
    PUT(losses);
    PUT(failovers);
    PUT(messages);
    PUT(pending);
    PUT(links_up);
#undef PUT
    (void)printf(",\"nodes\":%u,\"up\":%s", rk_redis_node_count(probe->redis),
                 rk_redis_is_up(probe->redis) ? "true" : "false");
    end_line();
}

static void put_server_of(struct probe *probe, const char *key)
{
    struct rk_slice name = strcmp(key, "-") == 0 ? RK_SLICE_EMPTY : rk_slice_of_string(key);
    const struct rk_redis_server *server = rk_redis_server_of(probe->redis, name);
    (void)printf("{\"event\":\"server_of\"");
    if (server != NULL) {
        (void)printf(",");
        put_server(server);
    }
    end_line();
}

static void take_line(struct probe *probe, char *line)
{
    char *words[WORDS_MAX];
    uint32_t count = 0;
    char *rest = line;
    if (strncmp(line, "script ", 7) == 0) {
        char *text = strchr(line + 7, ' ');
        RK_ASSERT(text != NULL);
        *text = '\0';
        do_script(probe, line + 7, text + 1);
        return;
    }
    while (count < WORDS_MAX && (words[count] = strtok_r(rest, " ", &rest)) != NULL)
        count++;
    if (count == 0) return;
    const char *verb = words[0];
    if (strcmp(verb, "send") == 0 && count > 5)
        do_send(probe, count, words);
    else if (strcmp(verb, "eval") == 0 && count > 5)
        do_eval(probe, count, words);
    else if (strcmp(verb, "forget") == 0 && count == 2)
        do_forget(probe, words[1]);
    else if (strcmp(verb, "subscribe") == 0 && count == 2)
        do_subscribe(probe, words[1]);
    else if (strcmp(verb, "unsubscribe") == 0 && count == 2)
        do_unsubscribe(probe, words[1]);
    else if (strcmp(verb, "load") == 0)
        do_load(probe, count, words);
    else if (strcmp(verb, "stop") == 0)
        probe->load.is_on = false;
    else if (strcmp(verb, "bench") == 0 && count > 2)
        do_bench(probe, count, words);
    else if (strcmp(verb, "stats") == 0)
        put_stats(probe);
    else if (strcmp(verb, "server") == 0 && count == 2)
        put_server_of(probe, words[1]);
    else if (strcmp(verb, "quit") == 0)
        probe->is_over = true;
    else
        RK_ASSERT(!"a known command");
}

static void on_input(evutil_socket_t fd, short what, void *context)
{
    struct probe *probe = context;
    char *line;
    (void)what;
    int size = evbuffer_read(probe->in, fd, -1);
    if (size == 0 || (size < 0 && errno != EAGAIN)) probe->is_over = true;
    while ((line = evbuffer_readln(probe->in, NULL, EVBUFFER_EOL_LF)) != NULL) {
        take_line(probe, line);
        (free)(line); /* libevent's */
    }
    if (probe->is_over) (void)event_base_loopbreak(probe->base);
}

static void clean_up(struct probe *probe)
{
    rk_redis_free(probe->redis);
    rk_list_each_safe (at, &probe->sents)
        rk_free(RK_CONTAINER(at, struct sent, link));
    while (probe->load.under_way-- > 0)
        drop_item(RK_CONTAINER(rk_list_first(&probe->load.items), struct load_item, link));
    for (uint32_t i = 0; i < NAMES_MAX; i++)
        rk_free(probe->channels[i]);
    for (uint32_t i = 0; i < probe->script_count; i++) {
        union {
            const char *lent;
            char *owned;
        } text = {probe->scripts[i].script.text};
        rk_free(text.owned);
    }
    event_free(probe->in_event);
    evbuffer_free(probe->in);
}

int main(int argc, char **argv)
{
    static struct probe probe;
    struct rk_redis_url url;
    struct rk_redis_error err;
    char text[512];
    if (argc != 2 || rk_redis_url_parse(&url, argv[1], &err) != RK_OK) {
        (void)fprintf(stderr, "redis_probe: %s\n", argc == 2 ? err.text : "give a URL");
        return 2;
    }
    (void)signal(SIGPIPE, SIG_IGN); /* as rukund does: TLS writes to what is closed */
    rk_redis_url_print(text, sizeof(text), &url);
    on_log(NULL, RK_REDIS_INFO, text);
    probe.base = event_base_new();
    RK_ASSERT(probe.base != NULL);
    struct evdns_base *dns = evdns_base_new(
        probe.base, EVDNS_BASE_INITIALIZE_NAMESERVERS | EVDNS_BASE_DISABLE_WHEN_INACTIVE);
    struct rk_redis_options options = {
        .struct_size = sizeof(options),
        .base = probe.base,
        .dns = dns,
        .url = &url,
        .client_name = "probe",
        .seed = now_us(),
        .io = {.context = &probe, .log = on_log, .state = on_state, .server = on_server},
    };
    rk_list_init(&probe.sents);
    if (rk_redis_new(&probe.redis, &options, &err) != RK_OK) {
        (void)fprintf(stderr, "redis_probe: %s\n", err.text);
        if (dns != NULL) evdns_base_free(dns, 1);
        event_base_free(probe.base);
        rk_redis_url_fini(&url);
        return 2;
    }
    (void)evutil_make_socket_nonblocking(0);
    probe.in = evbuffer_new();
    probe.in_event = event_new(probe.base, 0, EV_READ | EV_PERSIST, on_input, &probe);
    RK_ASSERT(probe.in != NULL && probe.in_event != NULL);
    RK_ASSERT(event_add(probe.in_event, NULL) == 0);
    (void)event_base_dispatch(probe.base);
    clean_up(&probe);
    if (dns != NULL) evdns_base_free(dns, 1);
    event_base_free(probe.base);
    rk_redis_url_fini(&url);
    return 0;
}
