/* queue.c - rukun queue ... */
#include "cli.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int queue_publish(struct cli *cli)
{
    char *data = NULL;
    size_t size = 0;
    rukun_encoding encoding = RUKUN_JSON;
    int code = cli_value(cli, 1, &data, &size, &encoding);
    rukun_client *client = code == EXIT_DONE ? cli_client(cli, &code) : NULL;
    if (client == NULL) {
        free(data);
        return code;
    }
    rukun_publish_opts opts;
    rukun_publish_opts_init(&opts);
    opts.publish_id = cli->publish_id;
    opts.group = cli->group;
    opts.delay_ms = cli->delay_ms;
    opts.ttl_ms = cli->ttl_ms;
    opts.priority = cli->priority;
    rukun_message message = {data, size, encoding};
    char id[RUKUN_ID_SIZE];
    rukun_error err;
    rukun_error_init(&err);
    if (rukun_queue_publish(client, cli->arguments[0], &message, &opts, id, &err) !=
        RUKUN_OK)
        code = cli_fail(&err);
    else
        printf(cli->is_json ? "{\"id\":\"%s\"}\n" : "%s\n", id);
    free(data);
    return code;
}

static rukun_status consume(struct cli *cli, rukun_client *client, rukun_deliveries **out,
                            uint32_t max, uint64_t wait_ms, rukun_error *err)
{
    rukun_consume_opts opts;
    rukun_consume_opts_init(&opts);
    opts.consumer = cli->consumer;
    opts.max = max;
    opts.wait_ms = wait_ms;
    opts.visibility_ms = cli->visibility_ms;
    return rukun_queue_consume(out, client, cli->arguments[0], &opts, err);
}

/* Prints deliveries, one a line: id, tab, data. They are to be acknowledged by `queue ack`.
 */
static int queue_consume(struct cli *cli)
{
    int code = EXIT_DONE;
    rukun_client *client = cli_client(cli, &code);
    if (client == NULL) return code;
    rukun_error err;
    rukun_error_init(&err);
    rukun_deliveries *deliveries = NULL;
    uint32_t max = cli->limit != 0 ? (uint32_t)cli->limit : 1;
    if (consume(cli, client, &deliveries, max, cli->has_wait ? cli->wait_ms : 0, &err) !=
        RUKUN_OK)
        return cli_fail(&err);
    size_t count = rukun_deliveries_count(deliveries);
    for (size_t i = 0; i < count; i++) {
        size_t size = 0;
        const void *data = rukun_delivery_data(deliveries, i, &size);
        printf("%s\t", rukun_delivery_id(deliveries, i));
        (void)fwrite(data, 1, size, stdout);
        printf("\n");
    }
    rukun_deliveries_free(deliveries);
    return count > 0 ? EXIT_DONE : EXIT_BUSY;
}

static int queue_settle(struct cli *cli, bool is_ack)
{
    int code = EXIT_DONE;
    rukun_client *client = cli_client(cli, &code);
    if (client == NULL) return code;
    rukun_error err;
    rukun_error_init(&err);
    for (int i = 0; i < cli->argument_count; i++) {
        rukun_status status =
            is_ack ? rukun_queue_ack(client, cli->arguments[i], &err)
                   : rukun_queue_nack(client, cli->arguments[i],
                                      cli->has_delay ? cli->delay_ms : RUKUN_WAIT_FOREVER,
                                      &err);
        if (status != RUKUN_OK) code = cli_fail(&err);
    }
    return code;
}

static int queue_ack(struct cli *cli)
{
    return queue_settle(cli, true);
}

static int queue_nack(struct cli *cli)
{
    return queue_settle(cli, false);
}

struct extending {
    rukun_client *client;
    const char *id;
    uint64_t visibility_ms;
    uint32_t beats;
    bool is_lost;
};

/* Keeps the delivery invisible while the command runs; a third of the time is left. */
static bool extend(void *context)
{
    struct extending *extending = context;
    uint64_t every = extending->visibility_ms / 3 / 200;
    if (every == 0) every = 1;
    if (++extending->beats % every != 0) return true;
    rukun_status status = rukun_queue_extend(extending->client, extending->id,
                                             extending->visibility_ms, NULL);
    extending->is_lost = status == RUKUN_ESTALE || status == RUKUN_EGONE;
    return !extending->is_lost;
}

static int run_one(struct cli *cli, rukun_client *client,
                   const rukun_deliveries *deliveries)
{
    size_t size = 0;
    const void *data = rukun_delivery_data(deliveries, 0, &size);
    const char *id = rukun_delivery_id(deliveries, 0);
    char attempt[16];
    (void)snprintf(attempt, sizeof(attempt), "%u", rukun_delivery_attempt(deliveries, 0));
    setenv("RUKUN_DELIVERY", id, 1);
    setenv("RUKUN_MESSAGE", rukun_delivery_message_id(deliveries, 0), 1);
    setenv("RUKUN_ATTEMPT", attempt, 1);
    struct extending extending = {
        client, id, cli->visibility_ms != 0 ? cli->visibility_ms : 30000, 0, false};
    int result = cli_spawn(cli->command, data, size, extend, &extending);
    rukun_error err;
    rukun_error_init(&err);
    rukun_status status = RUKUN_OK;
    if (extending.is_lost)
        fprintf(stderr, "rukun: delivery %s was handed out again; its command was ended\n",
                id);
    else if (result == 0)
        status = rukun_queue_ack(client, id, &err);
    else
        status = rukun_queue_nack(client, id, RUKUN_WAIT_FOREVER, &err);
    if (status != RUKUN_OK) (void)cli_fail(&err);
    return result;
}

/* Runs the command for each message, data on standard input, until --limit messages are
 * done or none came within --wait. Exit 0 of the command acks, anything else nacks. */
static int queue_run(struct cli *cli)
{
    int code = EXIT_DONE;
    rukun_client *client = cli_client(cli, &code);
    if (client == NULL) return code;
    rukun_error err;
    rukun_error_init(&err);
    for (uint64_t done = 0; cli->limit == 0 || done < cli->limit; done++) {
        rukun_deliveries *deliveries = NULL;
        if (consume(cli, client, &deliveries, 1, cli->wait_ms, &err) != RUKUN_OK)
            return cli_fail(&err);
        if (rukun_deliveries_count(deliveries) == 0) {
            rukun_deliveries_free(deliveries);
            break;
        }
        int result = run_one(cli, client, deliveries);
        rukun_deliveries_free(deliveries);
        if (result != 0) code = EXIT_ERROR;
        if (result == 127 || result >= 128)
            return result; /* no such command, or told to end */
    }
    return code;
}

static int call_topic(struct cli *cli, const char *operation, struct cli_field extra)
{
    struct cli_field fields[] = {
        {"topic", cli->argument_count > 0 ? cli->arguments[0] : NULL, 0, false}, extra};
    char *request = cli_object(fields, extra.name != NULL ? 2 : 1);
    int code = request != NULL ? cli_call(cli, operation, request) : EXIT_ERROR;
    free(request);
    return code;
}

static int queue_peek(struct cli *cli)
{
    struct cli_field dead = {"dead", NULL, 0, cli->is_dead};
    return call_topic(cli, "queue.peek", dead);
}

static int queue_info(struct cli *cli)
{
    return call_topic(cli, "queue.info", (struct cli_field){NULL, NULL, 0, false});
}

static int queue_stats(struct cli *cli)
{
    return call_topic(cli, "queue.stats", (struct cli_field){NULL, NULL, 0, false});
}

static int queue_list(struct cli *cli)
{
    return call_topic(cli, "queue.list",
                      (struct cli_field){"prefix", cli->prefix, 0, false});
}

static int queue_pause(struct cli *cli)
{
    return call_topic(cli, "queue.pause", (struct cli_field){NULL, NULL, 0, false});
}

static int queue_resume(struct cli *cli)
{
    return call_topic(cli, "queue.resume", (struct cli_field){NULL, NULL, 0, false});
}

static int queue_purge(struct cli *cli)
{
    struct cli_field dead = {"dead", NULL, 0, cli->is_dead};
    return call_topic(cli, "queue.purge", dead);
}

static int queue_redrive(struct cli *cli)
{
    return call_topic(cli, "queue.redrive", (struct cli_field){"to", cli->to, 0, false});
}

const struct cli_command cli_queue_commands[] = {
    {"queue", "publish", "TOPIC [VALUE | --file F] [--raw]", "put a message into a topic",
     1, 2, false, queue_publish},
    {"queue", "consume", "TOPIC [--limit N] [--wait D]", "take messages: id, tab, data", 1,
     1, false, queue_consume},
    {"queue", "ack", "ID ...", "messages are done", 1, 1000, false, queue_ack},
    {"queue", "nack", "ID ... [--delay D]", "give messages back", 1, 1000, false,
     queue_nack},
    {"queue", "run", "TOPIC [--limit N] [--wait D] -- CMD",
     "run a command for each message", 1, 1, true, queue_run},
    {"queue", "peek", "TOPIC [--dead]", "show messages, take none", 1, 1, false,
     queue_peek},
    {"queue", "info", "TOPIC", "state and settings", 1, 1, false, queue_info},
    {"queue", "stats", "[TOPIC]", "counters", 0, 1, false, queue_stats},
    {"queue", "list", "[--prefix P]", "list topics", 0, 0, false, queue_list},
    {"queue", "pause", "TOPIC", "stop handing out", 1, 1, false, queue_pause},
    {"queue", "resume", "TOPIC", "hand out again", 1, 1, false, queue_resume},
    {"queue", "purge", "TOPIC [--dead]", "remove all messages", 1, 1, false, queue_purge},
    {"queue", "redrive", "TOPIC [--to TOPIC]", "put dead letters back", 1, 1, false,
     queue_redrive},
    {NULL, NULL, NULL, NULL, 0, 0, false, NULL},
};
