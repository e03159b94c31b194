/* cache.c - rukun cache ... */
#include "cli.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int cache_get(struct cli *cli)
{
    int code = EXIT_DONE;
    rukun_client *client = cli_client(cli, &code);
    if (client == NULL) return code;
    rukun_error err;
    rukun_error_init(&err);
    rukun_value *value = NULL;
    if (rukun_cache_get(&value, client, cli->cache, cli->arguments[0], &err) != RUKUN_OK)
        return cli_fail(&err);
    if (value == NULL) {
        fprintf(stderr, "rukun: there is no %s\n", cli->arguments[0]);
        return EXIT_ERROR;
    }
    size_t size = 0;
    const void *data = rukun_value_data(value, &size);
    (void)fwrite(data, 1, size, stdout);
    if (!cli->is_raw) printf("\n");
    rukun_value_free(value);
    return EXIT_DONE;
}

static int cache_put(struct cli *cli)
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
    rukun_put_opts opts;
    rukun_put_opts_init(&opts);
    opts.ttl_ms = cli->ttl_ms;
    rukun_message message = {data, size, encoding};
    uint64_t version = 0;
    rukun_error err;
    rukun_error_init(&err);
    if (rukun_cache_put(client, cli->cache, cli->arguments[0], &message, &opts, &version,
                        &err) != RUKUN_OK)
        code = cli_fail(&err);
    else
        printf(cli->is_json ? "{\"version\":%llu}\n" : "version %llu\n",
               (unsigned long long)version);
    free(data);
    return code;
}

static int cache_delete(struct cli *cli)
{
    int code = EXIT_DONE;
    rukun_client *client = cli_client(cli, &code);
    if (client == NULL) return code;
    rukun_error err;
    rukun_error_init(&err);
    int deleted = 0;
    if (rukun_cache_delete(client, cli->cache, cli->arguments[0], 0, &deleted, &err) !=
        RUKUN_OK)
        return cli_fail(&err);
    printf(cli->is_json ? "{\"deleted\":%s}\n" : "%s\n",
           deleted ? (cli->is_json ? "true" : "deleted")
                   : (cli->is_json ? "false" : "absent"));
    return EXIT_DONE;
}

static int cache_add(struct cli *cli)
{
    char *end = NULL;
    long long delta = strtoll(cli->arguments[1], &end, 10);
    if (end == cli->arguments[1] || *end != '\0') {
        fprintf(stderr, "rukun: %s is no integer\n", cli->arguments[1]);
        return EXIT_USAGE;
    }
    int code = EXIT_DONE;
    rukun_client *client = cli_client(cli, &code);
    if (client == NULL) return code;
    rukun_error err;
    rukun_error_init(&err);
    int64_t value = 0;
    if (rukun_cache_add(client, cli->cache, cli->arguments[0], delta, 0, cli->ttl_ms,
                        &value, &err) != RUKUN_OK)
        return cli_fail(&err);
    printf("%lld\n", (long long)value);
    return EXIT_DONE;
}

static int cache_stats(struct cli *cli)
{
    struct cli_field fields[] = {{"cache", cli->cache, 0, false}};
    char *request = cli_object(fields, 1);
    int code = request != NULL ? cli_call(cli, "cache.stats", request) : EXIT_ERROR;
    free(request);
    return code;
}

const struct cli_command cli_cache_commands[] = {
    {"cache", "get", "KEY [--cache C]", "print a value", 1, 1, false, cache_get},
    {"cache", "put", "KEY [VALUE | --file F] [--ttl D]", "store a value", 1, 2, false,
     cache_put},
    {"cache", "delete", "KEY [--cache C]", "remove it", 1, 1, false, cache_delete},
    {"cache", "add", "KEY DELTA [--ttl D]", "add to a counter", 2, 2, false, cache_add},
    {"cache", "stats", "[--cache C]", "counters", 0, 0, false, cache_stats},
    {NULL, NULL, NULL, NULL, 0, 0, false, NULL},
};
