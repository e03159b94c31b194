/* What the cluster in memory shows of its messages and readies. */
#include "script/env.h"

#include "raft/describe.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>

void env_print(struct env *env, const char *format, ...)
{
    char text[1024];
    va_list args;
    if (env->is_quiet) return;
    va_start(args, format);
    vsnprintf(text, sizeof(text), format, args);
    va_end(args);
    rk_buf_append_string(env->out, text);
}

static void describe(const struct env *env, const char *indent,
                     const struct rk_raft_message *message)
{
    static const char *const campaigns[] = {"", " (transfer)", " (early)"};
    uint8_t type = message->type;
    bool is_read = type == RK_RAFT_MSG_HEARTBEAT || type == RK_RAFT_MSG_HEARTBEAT_RESP ||
                   type == RK_RAFT_MSG_READ_INDEX || type == RK_RAFT_MSG_READ_INDEX_RESP;
    rk_raft_describe_message(env->out, indent, message);
    if (!env->is_detailed) return;
    if (is_read && message->context != 0)
        rk_buf_printf(env->out, " Context:%" PRIu64, message->context);
    rk_buf_append_string(env->out, campaigns[message->campaign]);
}

void env_print_message(struct env *env, const struct rk_raft_message *message)
{
    if (!env->is_quiet) describe(env, "", message);
}

static void print_with_responses(struct env *env, const struct env_message *message)
{
    if (env->is_quiet) return;
    describe(env, "", &message->message);
    if (message->response_count > 0) {
        rk_buf_append_string(env->out, " Responses:[");
        for (size_t i = 0; i < message->response_count; i++) {
            rk_buf_u8(env->out, '\n');
            describe(env, "  ", &message->responses[i]);
        }
        rk_buf_append_string(env->out, "\n]");
    }
    rk_buf_u8(env->out, '\n');
}

/* As "request@index". */
static void print_reads(struct rk_buf *out, const struct rk_raft_ready *ready)
{
    if (ready->read_count == 0) return;
    rk_buf_append_string(out, "ReadStates");
    for (size_t i = 0; i < ready->read_count; i++) {
        rk_buf_printf(out, " %" PRIu64 "@", ready->reads[i].request);
        if (ready->reads[i].is_lost)
            rk_buf_append_string(out, "lost");
        else
            rk_buf_printf(out, "%" PRIu64, ready->reads[i].index);
    }
    rk_buf_u8(out, '\n');
}

static void print_state(struct env *env, const struct rk_raft_ready *ready)
{
    struct rk_buf *out = env->out;
    if (ready->has_soft_state)
        rk_buf_printf(out, "Lead:%" PRIu64 " State:%s\n", ready->leader,
                      rk_raft_role_name(ready->role));
    if (ready->has_hard_state) {
        rk_buf_append_string(out, "HardState ");
        rk_raft_describe_hard_state(out, &ready->hard_state);
        rk_buf_u8(out, '\n');
    }
    print_reads(out, ready);
    if (ready->entry_count > 0) {
        rk_buf_append_string(out, "Entries:\n");
        rk_raft_describe_entries(out, ready->entries, ready->entry_count);
    }
    if (ready->snapshot != NULL) {
        rk_buf_append_string(out, "Snapshot ");
        rk_raft_describe_snapshot(out, ready->snapshot);
        rk_buf_u8(out, '\n');
    }
    if (ready->committed_count > 0) {
        rk_buf_append_string(out, "CommittedEntries:\n");
        rk_raft_describe_entries(out, ready->committed, ready->committed_count);
    }
}

void env_print_ready(struct env *env, const struct rk_raft_ready *ready,
                     const struct env_messages *messages)
{
    if (env->is_quiet) return;
    struct rk_buf *outer = env->out;
    struct rk_buf body;
    rk_buf_init(&body);
    env->out = &body;
    print_state(env, ready);
    if (messages->count > 0) env_print(env, "Messages:\n");
    for (size_t i = 0; i < messages->count; i++)
        print_with_responses(env, &messages->items[i]);
    env->out = outer;
    if (body.size == 0) {
        env_print(env, "<empty Ready>");
    } else {
        env_print(env, "Ready MustSync=%s:\n", ready->must_sync ? "true" : "false");
        rk_buf_append(env->out, body.data, body.size);
    }
    rk_buf_fini(&body);
}
