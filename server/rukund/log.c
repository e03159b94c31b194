#include "rukund/log.h"

#include <stdio.h>
#include <time.h>
#include <unistd.h>

static const char *const level_names[] = {"debug", "info", "warn", "error"};

void rk_log_init(struct rk_log *log, const char *level, bool is_json, const char *node)
{
    memset(log, 0, sizeof(*log));
    log->is_json = is_json;
    log->node = node;
    log->level = RK_LOG_INFO;
    for (int i = RK_LOG_DEBUG; i <= RK_LOG_ERROR; i++)
        if (strcmp(level, level_names[i]) == 0) log->level = (enum rk_log_level)i;
    rk_buf_init(&log->line);
}

void rk_log_fini(struct rk_log *log)
{
    rk_buf_fini(&log->line);
}

void rk_json_string(struct rk_buf *out, struct rk_slice text)
{
    bool is_utf8 = rk_slice_is_utf8(text);
    rk_buf_u8(out, '"');
    for (size_t i = 0; i < text.size; i++) {
        uint8_t byte = text.data[i];
        if (byte == '"' || byte == '\\')
            rk_buf_printf(out, "\\%c", byte);
        else if (byte < ' ')
            rk_buf_printf(out, "\\u%04x", byte);
        else
            rk_buf_u8(out, byte >= 0x80 && !is_utf8 ? '?' : byte);
    }
    rk_buf_u8(out, '"');
}

static bool is_plain(const char *text)
{
    if (text[0] == '\0') return false;
    for (; *text != '\0'; text++)
        if ((unsigned char)*text <= ' ' || *text == '"' || *text == '=' || *text == '\\')
            return false;
    return true;
}

static void append_field(struct rk_log *log, const struct rk_log_field *field)
{
    struct rk_buf *line = &log->line;
    if (log->is_json) {
        rk_buf_append_string(line, ",");
        rk_json_text(line, field->name);
        rk_buf_append_string(line, ":");
    } else {
        rk_buf_printf(line, " %s=", field->name);
    }
    if (field->text == NULL)
        rk_buf_printf(line, "%llu", (unsigned long long)field->number);
    else if (!log->is_json && is_plain(field->text))
        rk_buf_append_string(line, field->text);
    else
        rk_json_text(line, field->text);
}

void rk_log_write(struct rk_log *log, enum rk_log_level level, const char *message,
                  const struct rk_log_field *fields, size_t count)
{
    struct timespec now;
    struct tm parts;
    char date[32];
    if (level < log->level) return;
    log->lines[level]++;
    (void)clock_gettime(CLOCK_REALTIME, &now);
    (void)gmtime_r(&now.tv_sec, &parts);
    (void)strftime(date, sizeof(date), "%Y-%m-%dT%H:%M:%S", &parts);

    struct rk_buf *line = &log->line;
    rk_buf_reset(line);
    unsigned milliseconds = (unsigned)(now.tv_nsec / 1000000);
    rk_buf_printf(line,
                  log->is_json ? "{\"time\":\"%s.%03uZ\",\"level\":\"%s\""
                               : "time=%s.%03uZ level=%s",
                  date, milliseconds, level_names[level]);
    append_field(log, &(struct rk_log_field)RK_LOG_TEXT("node", log->node));
    append_field(log, &(struct rk_log_field)RK_LOG_TEXT("msg", message));
    for (size_t i = 0; i < count; i++)
        append_field(log, &fields[i]);
    rk_buf_append_string(line, log->is_json ? "}\n" : "\n");
    for (size_t at = 0; at < line->size;) {
        ssize_t written = write(STDERR_FILENO, line->data + at, line->size - at);
        if (written <= 0) break;
        at += (size_t)written;
    }
}
