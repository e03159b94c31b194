/* log.h - structured lines on stderr: logfmt, or one JSON object each.
 *
 * A line has a time, a level, a message that is a constant text, and fields. Loop thread
 * only; a line is one write. */
#ifndef RK_RUKUND_LOG_H
#define RK_RUKUND_LOG_H

#include "base/bytes.h"
#include "host/host.h"

struct rk_log {
    enum rk_log_level level; /* lines below it are not written */
    bool is_json;
    const char *node;
    struct rk_buf line;
    uint64_t lines[RK_LOG_ERROR + 1]; /* written, by level */
};

struct rk_log_field {
    const char *name;
    const char *text; /* NULL: number */
    uint64_t number;
};

#define RK_LOG_TEXT(name, value)                                                           \
    {                                                                                      \
        (name), (value), 0                                                                 \
    }
#define RK_LOG_NUMBER(name, value)                                                         \
    {                                                                                      \
        (name), NULL, (value)                                                              \
    }

/* node is borrowed for as long as the log is used; level is a word of --log-level. */
void rk_log_init(struct rk_log *log, const char *level, bool is_json, const char *node);
void rk_log_fini(struct rk_log *log);
void rk_log_write(struct rk_log *log, enum rk_log_level level, const char *message,
                  const struct rk_log_field *fields, size_t count);
/* rk_log_event(log, level, "message", RK_LOG_TEXT("peer", name), ...): at least one field.
 */
#define rk_log_event(log, level, message, ...)                                             \
    rk_log_write((log), (level), (message), (const struct rk_log_field[]){__VA_ARGS__},    \
                 sizeof((const struct rk_log_field[]){__VA_ARGS__}) /                      \
                     sizeof(struct rk_log_field))
static inline void rk_log_line(struct rk_log *log, enum rk_log_level level,
                               const char *message)
{
    rk_log_write(log, level, message, NULL, 0);
}

/* Appends text as a JSON string with its quotes; bytes that are not UTF-8 become '?'. */
void rk_json_string(struct rk_buf *out, struct rk_slice text);
static inline void rk_json_text(struct rk_buf *out, const char *text)
{
    rk_json_string(out, rk_slice_of_string(text));
}
#endif
