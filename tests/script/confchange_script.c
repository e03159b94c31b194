/* simple, enter-joint [autoleave=true], leave-joint, with changes such as "v1 l2 r3 u4". */
#include "script/changes.h"
#include "script/script.h"

#include "raft/confchange.h"
#include "raft/describe.h"

#include "base/alloc.h"
#include "base/assert.h"

#include <ctype.h>
#include <inttypes.h>
#include <stdlib.h>

bool parse_changes(const char *text, struct rk_raft_conf_change *change, struct rk_buf *out)
{
    while (*text != '\0') {
        text += strspn(text, " \t\r\n");
        size_t size = strcspn(text, " \t\r\n");
        if (size == 0) break;
        if (size < 2) {
            rk_buf_printf(out, "unknown token %.*s", (int)size, text);
            return false;
        }
        RK_ASSERT(change->count < RK_RAFT_MEMBERS_MAX);
        struct rk_raft_conf_single *single = &change->changes[change->count++];
        switch (*text) {
        case 'v': single->op = RK_RAFT_ADD_VOTER; break;
        case 'l': single->op = RK_RAFT_ADD_LEARNER; break;
        case 'r': single->op = RK_RAFT_REMOVE; break;
        case 'u': single->op = RK_RAFT_UPDATE; break;
        default: rk_buf_printf(out, "unknown input: %.*s", (int)size, text); return false;
        }
        char *end;
        single->id = strtoull(text + 1, &end, 10);
        if (end != text + size || !isdigit((unsigned char)text[1])) {
            rk_buf_printf(out, "strconv.ParseUint: parsing \"%.*s\": invalid syntax",
                          (int)size - 1, text + 1);
            return false;
        }
        text += size;
    }
    return true;
}

struct state {
    struct rk_raft_tracker tracker;
    uint64_t last_index; /* one more with each command */
};

static bool knows(const char *command)
{
    return strcmp(command, "simple") == 0 || strcmp(command, "enter-joint") == 0 ||
           strcmp(command, "leave-joint") == 0;
}

static void *open_state(uint64_t max_cached_bytes)
{
    (void)max_cached_bytes;
    struct state *state = rk_calloc(1, sizeof(*state));
    RK_ASSERT(state != NULL);
    rk_raft_tracker_init(&state->tracker, 10, 0);
    return state;
}

static void print_tracker(const struct state *state, struct rk_buf *out)
{
    rk_raft_describe_conf(out, &state->tracker.conf);
    rk_buf_u8(out, '\n');
    for (uint32_t i = 0; i < state->tracker.count; i++) {
        struct rk_raft_progress progress;
        rk_raft_peer_describe(&state->tracker, &state->tracker.peers[i], &progress);
        rk_buf_printf(out, "%" PRIu64 ": ", progress.id);
        rk_raft_describe_progress(out, &progress);
        rk_buf_u8(out, '\n');
    }
}

static void run(void *opaque, const struct dd_case *c, struct rk_buf *out)
{
    struct state *state = opaque;
    struct rk_raft_changer changer;
    rk_raft_changer_init(&changer, &state->tracker, state->last_index++);
    struct rk_raft_conf_change change = {0};
    if (!parse_changes(c->input, &change, out)) return;

    enum rk_status status;
    if (strcmp(c->command, "simple") == 0) {
        status = rk_raft_change_simple(&changer, change.changes, change.count);
    } else if (strcmp(c->command, "enter-joint") == 0) {
        bool auto_leave = false;
        const char *text = dd_value(c, "autoleave");
        if (text != NULL) (void)dd_bool(text, &auto_leave);
        status =
            rk_raft_change_enter_joint(&changer, auto_leave, change.changes, change.count);
    } else if (change.count > 0) {
        rk_buf_append_string(out, "this command takes no input\n");
        return;
    } else {
        status = rk_raft_change_leave_joint(&changer);
    }
    if (status != RK_OK) {
        rk_buf_printf(out, "%s\n",
                      status == RK_EINVAL ? changer.error : rk_status_text(status));
        return;
    }
    rk_raft_tracker_replace(&state->tracker, &changer.tracker);
    print_tracker(state, out);
}

static void close_state(void *opaque)
{
    struct state *state = opaque;
    rk_raft_tracker_fini(&state->tracker);
    rk_free(state);
}

const struct script_kind script_confchange = {"confchange", knows, open_state, run,
                                              close_state};
