/* output.c - the client, errors, values in, answers out. */
#include "cli.h"

#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define LINE_ITEMS_MAX 16

rukun_client *cli_client(struct cli *cli, int *code)
{
    if (cli->client != NULL) return cli->client;
    rukun_options options;
    rukun_options_init(&options);
    options.endpoints = cli->endpoints;
    rukun_error err;
    rukun_error_init(&err);
    if (rukun_client_open(&cli->client, &options, &err) != RUKUN_OK) *code = cli_fail(&err);
    return cli->client;
}

int cli_fail(const rukun_error *err)
{
    fprintf(stderr, "rukun: %s: %s%s\n", rukun_status_name(err->code), err->message,
            err->outcome == RUKUN_OUTCOME_UNKNOWN ? " (outcome unknown)" : "");
    switch (err->code) {
    case RUKUN_ECONNECT:
    case RUKUN_EUNAVAILABLE: return EXIT_UNAVAILABLE;
    case RUKUN_EHELD:
    case RUKUN_ETIMEOUT: return EXIT_BUSY;
    case RUKUN_ELOST: return EXIT_LOST;
    case RUKUN_EINVAL:
    case RUKUN_ERANGE: return EXIT_USAGE;
    default: return EXIT_ERROR;
    }
}

int cli_call(struct cli *cli, const char *operation, const char *request)
{
    int code = EXIT_DONE;
    rukun_client *client = cli_client(cli, &code);
    if (client == NULL) return code;
    rukun_error err;
    rukun_error_init(&err);
    rukun_text *text = NULL;
    if (rukun_call(&text, client, operation, request, &err) != RUKUN_OK)
        return cli_fail(&err);
    cli_print(cli, rukun_text_data(text), rukun_text_size(text));
    rukun_text_free(text);
    return EXIT_DONE;
}

char *cli_object(const struct cli_field *fields, int count)
{
    json_t *object = json_object();
    for (int i = 0; i < count; i++) {
        if (fields[i].text != NULL)
            json_object_set_new(object, fields[i].name, json_string(fields[i].text));
        else if (fields[i].number != 0)
            json_object_set_new(object, fields[i].name,
                                json_integer((json_int_t)fields[i].number));
        else if (fields[i].is_true)
            json_object_set_new(object, fields[i].name, json_true());
    }
    char *text = json_dumps(object, JSON_COMPACT);
    json_decref(object);
    return text;
}

static char *read_all(FILE *in, size_t *size)
{
    size_t capacity = 65536;
    char *data = malloc(capacity + 1);
    *size = 0;
    while (data != NULL) {
        *size += fread(data + *size, 1, capacity - *size, in);
        if (*size < capacity) break;
        capacity *= 2;
        char *grown = realloc(data, capacity + 1);
        if (grown == NULL) free(data);
        data = grown;
    }
    if (data != NULL) data[*size] = '\0';
    return data;
}

int cli_value(const struct cli *cli, int index, char **data, size_t *size,
              rukun_encoding *encoding)
{
    *encoding = cli->is_raw ? RUKUN_RAW : RUKUN_JSON;
    if (cli->file == NULL && cli->argument_count > index) {
        *data = strdup(cli->arguments[index]);
        *size = strlen(cli->arguments[index]);
    } else {
        bool is_stdin = cli->file == NULL || strcmp(cli->file, "-") == 0;
        FILE *in = is_stdin ? stdin : fopen(cli->file, "rb");
        if (in == NULL) {
            fprintf(stderr, "rukun: %s: %s\n", cli->file, strerror(errno));
            return EXIT_ERROR;
        }
        *data = read_all(in, size);
        if (!is_stdin) fclose(in);
    }
    if (*data == NULL) {
        fprintf(stderr, "rukun: out of memory\n");
        return EXIT_ERROR;
    }
    if (cli->is_raw) return EXIT_DONE;
    /* A word that is no JSON is meant as a text: "hello" without its quotes. */
    json_t *value = json_loadb(*data, *size, JSON_DECODE_ANY, NULL);
    if (value == NULL) value = json_stringn(*data, *size);
    free(*data);
    *data = value != NULL ? json_dumps(value, JSON_ENCODE_ANY | JSON_COMPACT) : NULL;
    json_decref(value);
    if (*data == NULL) {
        fprintf(stderr, "rukun: the value is neither JSON nor UTF-8 text; use --raw\n");
        return EXIT_USAGE;
    }
    *size = strlen(*data);
    return EXIT_DONE;
}

/* --- tables */

static void print_cell(const json_t *value, int width)
{
    char *text = json_is_string(value) ? strdup(json_string_value(value))
                                       : json_dumps(value, JSON_ENCODE_ANY | JSON_COMPACT);
    printf("%-*s", width, text != NULL ? text : "-");
    free(text);
}

static int cell_width(const json_t *value)
{
    if (json_is_string(value)) return (int)json_string_length(value);
    char *text = json_dumps(value, JSON_ENCODE_ANY | JSON_COMPACT);
    int width = text != NULL ? (int)strlen(text) : 1;
    free(text);
    return width;
}

/* Rows of objects: the first one's keys are the columns. */
static void print_rows(const json_t *rows)
{
    json_t *first = json_array_get(rows, 0);
    const char *key;
    json_t *value;
    json_object_foreach(first, key, value)
    {
        int width = (int)strlen(key);
        size_t i;
        const json_t *row;
        json_array_foreach(rows, i, row)
        {
            int cell = cell_width(json_object_get(row, key));
            if (cell > width) width = cell;
        }
        json_object_set_new(first, key, json_pack("[O,i]", value, width));
    }
    json_object_foreach(first, key, value)
        printf("%-*s  ", (int)json_integer_value(json_array_get(value, 1)), key);
    printf("\n");
    size_t i;
    const json_t *row;
    json_array_foreach(rows, i, row)
    {
        json_object_foreach(first, key, value)
        {
            int width = (int)json_integer_value(json_array_get(value, 1));
            print_cell(i == 0 ? json_array_get(value, 0) : json_object_get(row, key),
                       width);
            printf("  ");
        }
        printf("\n");
    }
}

void cli_print(const struct cli *cli, const char *json, size_t size)
{
    json_t *answer = cli->is_json ? NULL : json_loadb(json, size, 0, NULL);
    if (!json_is_object(answer)) {
        printf("%.*s\n", (int)size, json);
        json_decref(answer);
        return;
    }
    const char *key;
    json_t *value;
    json_object_foreach(answer, key, value)
    {
        if (json_is_array(value) && json_is_object(json_array_get(value, 0))) continue;
        printf("%-16s ", key);
        if (json_is_array(value) && json_array_size(value) > LINE_ITEMS_MAX)
            printf("%zu of them, see -o json", json_array_size(value));
        else
            print_cell(value, 0);
        printf("\n");
    }
    json_object_foreach(answer, key, value)
    {
        if (!json_is_array(value) || !json_is_object(json_array_get(value, 0))) continue;
        printf("\n%s\n", key);
        print_rows(value);
    }
    json_decref(answer);
}
