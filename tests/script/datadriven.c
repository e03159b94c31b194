#include "script/datadriven.h"

#include "base/alloc.h"
#include "base/assert.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

static void *need(void *memory)
{
    RK_ASSERT(memory != NULL);
    return memory;
}

static char *copy_text(struct rk_arena *arena, const char *text, size_t size)
{
    char *copy = need(rk_arena_alloc(arena, size + 1));
    memcpy(copy, text, size);
    copy[size] = '\0';
    return copy;
}

static char *read_whole(const char *path)
{
    FILE *stream = fopen(path, "rb");
    if (stream == NULL) return NULL;
    struct rk_buf buf;
    rk_buf_init(&buf);
    uint8_t chunk[4096];
    size_t size;
    while ((size = fread(chunk, 1, sizeof(chunk), stream)) > 0)
        rk_buf_append(&buf, chunk, size);
    bool is_failed = ferror(stream) != 0;
    fclose(stream);
    rk_buf_u8(&buf, 0);
    if (is_failed || rk_buf_check(&buf) != RK_OK) {
        rk_buf_fini(&buf);
        return NULL;
    }
    return (char *)buf.data; /* rk_free frees it */
}

bool dd_open(struct dd_file *file, const char *path)
{
    memset(file, 0, sizeof(*file));
    rk_arena_init(&file->arena);
    file->text = read_whole(path);
    if (file->text == NULL) {
        fprintf(stderr, "%s: cannot be read: %s\n", path, strerror(errno));
        return false;
    }
    size_t count = 1;
    for (const char *at = file->text; *at != '\0'; at++)
        count += *at == '\n';
    file->lines = need(rk_arena_calloc(&file->arena, count, sizeof(char *)));
    char *at = file->text;
    while (*at != '\0') {
        file->lines[file->line_count++] = at;
        char *end = strchr(at, '\n');
        if (end == NULL) break;
        *end = '\0';
        at = end + 1;
    }
    return true;
}

void dd_close(struct dd_file *file)
{
    rk_arena_fini(&file->arena);
    rk_free(file->text);
    file->text = NULL;
}

static bool is_blank(const char *line)
{
    while (isspace((unsigned char)*line))
        line++;
    return *line == '\0';
}

/* The command line; a backslash at the end continues it. */
static char *take_directive(struct dd_file *file)
{
    struct rk_buf buf;
    rk_buf_init(&buf);
    while (file->at < file->line_count) {
        const char *line = file->lines[file->at++];
        size_t size = strlen(line);
        bool is_continued = size > 0 && line[size - 1] == '\\';
        rk_buf_append(&buf, line, is_continued ? size - 1 : size);
        if (!is_continued) break;
        rk_buf_u8(&buf, ' ');
    }
    char *directive = copy_text(&file->arena, (const char *)buf.data, buf.size);
    rk_buf_fini(&buf);
    return directive;
}

static void add_value(struct rk_arena *arena, struct dd_arg *arg, const char *text,
                      size_t size)
{
    while (size > 0 && isspace((unsigned char)*text)) {
        text++;
        size--;
    }
    while (size > 0 && isspace((unsigned char)text[size - 1]))
        size--;
    RK_ASSERT(arg->value_count < DD_VALUES_MAX);
    arg->values[arg->value_count++] = copy_text(arena, text, size);
}

/* One argument; returns what follows it. */
static const char *take_arg(struct rk_arena *arena, struct dd_arg *arg, const char *at,
                            const char **error)
{
    size_t size = strcspn(at, " \t=");
    arg->key = copy_text(arena, at, size);
    at += size;
    if (*at != '=') return at;
    at++;
    if (*at != '(') {
        size = strcspn(at, " \t");
        add_value(arena, arg, at, size);
        return at + size;
    }
    const char *end = strchr(at, ')');
    if (end == NULL) {
        *error = "missing )";
        return at + strlen(at);
    }
    at++;
    while (at < end) {
        size_t item = strcspn(at, ",)");
        add_value(arena, arg, at, item);
        at += item + 1;
    }
    return end + 1;
}

static void parse_directive(struct dd_file *file, struct dd_case *c, const char *at,
                            const char **error)
{
    at += strspn(at, " \t");
    size_t size = strcspn(at, " \t");
    c->command = copy_text(&file->arena, at, size);
    at += size;
    for (;;) {
        at += strspn(at, " \t\r");
        if (*at == '\0') return;
        RK_ASSERT(c->arg_count < DD_ARGS_MAX);
        at = take_arg(&file->arena, &c->args[c->arg_count++], at, error);
    }
}

/* Lines from..to-1 with their newlines. */
static const char *join_lines(struct dd_file *file, size_t from, size_t to)
{
    size_t size = 0;
    for (size_t i = from; i < to; i++)
        size += strlen(file->lines[i]) + 1;
    char *text = need(rk_arena_alloc(&file->arena, size + 1));
    char *at = text;
    for (size_t i = from; i < to; i++) {
        size_t length = strlen(file->lines[i]);
        memcpy(at, file->lines[i], length);
        at[length] = '\n';
        at += length + 1;
    }
    *at = '\0';
    return text;
}

static bool is_rule(const struct dd_file *file, size_t line)
{
    return line < file->line_count && strcmp(file->lines[line], "----") == 0;
}

static void take_expected(struct dd_file *file, struct dd_case *c)
{
    size_t from = file->at;
    if (is_rule(file, from)) {
        /* A second rule: blank lines belong to it, up to two rules again. */
        from = ++file->at;
        while (file->at < file->line_count &&
               !(is_rule(file, file->at) && is_rule(file, file->at + 1)))
            file->at++;
        c->expected = join_lines(file, from, file->at);
        file->at += file->at < file->line_count ? 2 : 0;
        return;
    }
    while (file->at < file->line_count && !is_blank(file->lines[file->at]))
        file->at++;
    c->expected = join_lines(file, from, file->at);
    c->expected_from = from;
    c->expected_to = file->at;
}

struct dd_case *dd_next(struct dd_file *file, const char **error)
{
    *error = NULL;
    while (file->at < file->line_count &&
           (is_blank(file->lines[file->at]) || file->lines[file->at][0] == '#'))
        file->at++;
    if (file->at == file->line_count) return NULL;
    struct dd_case *c = need(rk_arena_calloc(&file->arena, 1, sizeof(*c)));
    c->line = file->at + 1;
    parse_directive(file, c, take_directive(file), error);
    size_t from = file->at;
    while (file->at < file->line_count && !is_rule(file, file->at))
        file->at++;
    c->input = join_lines(file, from, file->at);
    if (file->at == file->line_count)
        *error = "no ---- after the command";
    else
        file->at++;
    take_expected(file, c);
    return c;
}

const char *dd_value(const struct dd_case *c, const char *key)
{
    for (size_t i = 0; i < c->arg_count; i++)
        if (strcmp(c->args[i].key, key) == 0 && c->args[i].value_count > 0)
            return c->args[i].values[0];
    return NULL;
}

bool dd_number(const char *text, uint64_t *out)
{
    char *end;
    errno = 0;
    if (!isdigit((unsigned char)*text)) return false;
    *out = strtoull(text, &end, 10);
    return errno == 0 && *end == '\0';
}

bool dd_bool(const char *text, bool *out)
{
    static const char *const yes[] = {"1", "t", "T", "true", "TRUE", "True"};
    static const char *const no[] = {"0", "f", "F", "false", "FALSE", "False"};
    for (size_t i = 0; i < 6; i++) {
        if (strcmp(text, yes[i]) != 0 && strcmp(text, no[i]) != 0) continue;
        *out = strcmp(text, yes[i]) == 0;
        return true;
    }
    return false;
}

static bool is_log_line(const char *line, size_t size)
{
    static const char *const levels[] = {"DEBUG ", "INFO ", "WARN ", "ERROR ", "FATAL "};
    while (size > 0 && *line == ' ') {
        line++;
        size--;
    }
    for (size_t i = 0; i < 5; i++) {
        size_t length = strlen(levels[i]);
        if (size >= length && memcmp(line, levels[i], length) == 0) return true;
    }
    return false;
}

const char *dd_strip_logs(struct rk_arena *arena, const char *text)
{
    size_t size = strlen(text);
    char *out = need(rk_arena_alloc(arena, size + 2));
    size_t used = 0;
    while (*text != '\0') {
        size_t length = strcspn(text, "\n");
        if (!is_log_line(text, length)) {
            memcpy(out + used, text, length);
            used += length;
            out[used++] = '\n';
        }
        text += length + (text[length] == '\n');
    }
    out[used] = '\0';
    return strcmp(out, "ok\n") == 0 ? "" : out;
}
