/* The same steps as smoke.py and smoke.lua, line for line. Arguments: endpoints, a suffix
 * for names, so that runs do not meet. Built as an application would be: cc smoke.c -lrukun
 */
#include <rukun.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static rukun_error err;

static void must(rukun_status status)
{
    if (status == RUKUN_OK) return;
    fprintf(stderr, "%s: %s\n", rukun_status_name(status), err.message);
    exit(1);
}

static void show(const char *step, rukun_status status)
{
    printf("%s: %s\n", step, status == RUKUN_OK ? "ok" : rukun_status_name(err.code));
}

static const char *name_of(const char *prefix, const char *suffix)
{
    static char names[4][512];
    static unsigned next;
    char *name = names[next++ % 4];
    (void)snprintf(name, sizeof(names[0]), "%s%s", prefix, suffix);
    return name;
}

static void locks(rukun_client *client, const char *suffix)
{
    const char *name = name_of("smoke/lock/", suffix);
    rukun_lock_opts opts;
    rukun_lock_opts_init(&opts);
    opts.wait_ms = 5000;

    /* A lock: held, refused to a second, released, granted again with a higher fence. */
    rukun_lock *first = NULL;
    must(rukun_lock_acquire(&first, client, name, &opts, &err));
    printf("lock: %s\n", rukun_lock_state_now(first) == RUKUN_LOCK_SAFE ? "safe" : "?");
    rukun_lock *second = NULL;
    opts.wait_ms = 0;
    show("second try", rukun_lock_acquire(&second, client, name, &opts, &err));
    opts.wait_ms = 200;
    show("short wait", rukun_lock_acquire(&second, client, name, &opts, &err));
    must(rukun_lock_check(first, &err));
    uint64_t fence = rukun_lock_fence(first);
    must(rukun_lock_release(first, &err));
    show("second release", rukun_lock_release(first, &err));
    opts.wait_ms = 5000;
    must(rukun_lock_acquire(&second, client, name, &opts, &err));
    printf("fence rises: %s\n", rukun_lock_fence(second) > fence ? "yes" : "no");
    must(rukun_lock_release(second, &err));
    rukun_lock_free(first);
    rukun_lock_free(second);
}

static rukun_deliveries *take(rukun_client *client, const char *topic,
                              uint64_t visibility_ms, uint64_t wait_ms)
{
    rukun_consume_opts opts;
    rukun_consume_opts_init(&opts);
    opts.visibility_ms = visibility_ms;
    opts.wait_ms = wait_ms;
    rukun_deliveries *taken = NULL;
    must(rukun_queue_consume(&taken, client, topic, &opts, &err));
    return taken;
}

static void queues(rukun_client *client, const char *suffix)
{
    const char *topic = name_of("smoke/queue/", suffix);
    rukun_publish_opts opts;
    rukun_publish_opts_init(&opts);

    /* A queue: publish, consume, acknowledge. */
    rukun_message message = {"{\"n\":1}", 7, RUKUN_JSON};
    char id[RUKUN_ID_SIZE];
    char again[RUKUN_ID_SIZE];
    opts.publish_id = "one";
    must(rukun_queue_publish(client, topic, &message, &opts, id, &err));
    must(rukun_queue_publish(client, topic, &message, &opts, again, &err));
    printf("same publish id: %s\n", strcmp(id, again) == 0 ? "same" : "other");
    rukun_deliveries *job = take(client, topic, 30000, 5000);
    size_t size = 0;
    const char *data = rukun_delivery_data(job, 0, &size);
    printf("delivered: %.*s attempt %u\n", (int)size, data, rukun_delivery_attempt(job, 0));
    printf("message id: %s\n",
           strcmp(rukun_delivery_message_id(job, 0), id) == 0 ? "same" : "other");
    must(rukun_queue_ack(client, rukun_delivery_id(job, 0), &err));
    show("second ack", rukun_queue_ack(client, rukun_delivery_id(job, 0), &err));
    rukun_deliveries_free(job);
    job = take(client, topic, 0, 0);
    printf("left: %zu\n", rukun_deliveries_count(job));
    rukun_deliveries_free(job);
}

static void stale_deliveries(rukun_client *client, const char *suffix)
{
    const char *topic = name_of("smoke/queue/", suffix);

    /* A delivery that outlived its visibility settles nothing. */
    rukun_message message = {"\0\xff", 2, RUKUN_RAW};
    must(rukun_queue_publish(client, topic, &message, NULL, NULL, &err));
    rukun_deliveries *stale = take(client, topic, 200, 5000);
    rukun_deliveries *job = take(client, topic, 30000, 5000);
    size_t size = 0;
    (void)rukun_delivery_data(job, 0, &size);
    printf("redelivered: attempt %u size %zu\n", rukun_delivery_attempt(job, 0), size);
    show("stale ack", rukun_queue_ack(client, rukun_delivery_id(stale, 0), &err));
    must(rukun_queue_extend(client, rukun_delivery_id(job, 0), 60000, &err));
    must(rukun_queue_nack(client, rukun_delivery_id(job, 0), 0, &err));
    rukun_deliveries_free(stale);
    rukun_deliveries_free(job);
    job = take(client, topic, 30000, 5000);
    printf("after nack: attempt %u\n", rukun_delivery_attempt(job, 0));
    must(rukun_queue_ack(client, rukun_delivery_id(job, 0), &err));
    rukun_deliveries_free(job);
}

static void caches(rukun_client *client, const char *suffix)
{
    const char *key = name_of("smoke/", suffix);
    rukun_put_opts opts;
    rukun_put_opts_init(&opts);

    /* A cache: absent, put, compare, delete. */
    rukun_value *value = NULL;
    must(rukun_cache_get(&value, client, NULL, key, &err));
    printf("absent: %s\n", value == NULL ? "none" : "some");
    rukun_message pair = {"[1,2]", 5, RUKUN_JSON};
    rukun_message single = {"[3]", 3, RUKUN_JSON};
    uint64_t version = 0;
    opts.ttl_ms = 60000;
    must(rukun_cache_put(client, NULL, key, &pair, &opts, &version, &err));
    must(rukun_cache_get(&value, client, NULL, key, &err));
    size_t size = 0;
    const char *data = rukun_value_data(value, &size);
    printf("value: %.*s version %s\n", (int)size, data,
           rukun_value_version(value) == version ? "same" : "other");
    rukun_value_free(value);
    rukun_put_opts_init(&opts);
    opts.if_version = version + 1;
    show("wrong version", rukun_cache_put(client, NULL, key, &single, &opts, NULL, &err));
    rukun_put_opts_init(&opts);
    opts.if_absent = 1;
    show("not absent", rukun_cache_put(client, NULL, key, &single, &opts, NULL, &err));
    rukun_put_opts_init(&opts);
    opts.if_version = version;
    uint64_t next = 0;
    must(rukun_cache_put(client, NULL, key, &single, &opts, &next, &err));
    printf("right version: %s\n", next > version ? "rises" : "falls");
    int deleted = 0;
    must(rukun_cache_delete(client, NULL, key, 0, &deleted, &err));
    printf("deleted: %s\n", deleted ? "yes" : "no");
    must(rukun_cache_delete(client, NULL, key, 0, &deleted, &err));
    printf("deleted again: %s\n", deleted ? "yes" : "no");
    int64_t counter = 0;
    must(rukun_cache_add(client, NULL, name_of("smoke/counter/", suffix), -3,
                         INT64_C(1) << 40, 0, &counter, &err));
    printf("counter: %lld\n", (long long)counter);
}

int main(int argc, char **argv)
{
    if (argc != 3) return 2;
    const char *suffix = argv[2];
    rukun_error_init(&err);
    rukun_options opts;
    rukun_options_init(&opts);

    /* A node that is not there. */
    rukun_client *client = NULL;
    opts.endpoints = "127.0.0.1:1";
    opts.deadline_ms = 200;
    show("connect", rukun_client_open(&client, &opts, &err));
    rukun_options_init(&opts);
    opts.endpoints = argv[1];
    opts.name = "smoke";
    must(rukun_client_open(&client, &opts, &err));

    locks(client, suffix);
    queues(client, suffix);
    stale_deliveries(client, suffix);
    caches(client, suffix);

    /* Any operation by name, and the end. */
    char request[600];
    (void)snprintf(request, sizeof(request), "{\"resource\":\"smoke/lock/%s\"}", suffix);
    rukun_text *text = NULL;
    must(rukun_call(&text, client, "lock.info", request, &err));
    printf("call: %d\n", strstr(rukun_text_data(text), "\"holders\":[]") == NULL);
    rukun_text_free(text);
    rukun_client_close(client);
    rukun_value *value = NULL;
    show("closed", rukun_cache_get(&value, client, NULL, "k", &err));
    rukun_client_free(client);
    return 0;
}
