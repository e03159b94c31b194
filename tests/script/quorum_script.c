/* committed cfg=(1,2) [cfgj=(2,3)] idx=(10,_) - vote cfg=(1,2) [cfgj=zero] votes=(y,_) */
#include "script/script.h"

#include "raft/quorum.h"

#include "base/assert.h"

#include <inttypes.h>

struct answers { /* what each member said; 0: nothing */
    size_t count;
    uint64_t ids[2 * RK_RAFT_MEMBERS_MAX];
    uint64_t values[2 * RK_RAFT_MEMBERS_MAX];
};

struct input {
    struct rk_raft_conf_state conf;
    bool is_joint;
    size_t order_count; /* ids as they were written, both halves */
    uint64_t order[2 * RK_RAFT_MEMBERS_MAX];
    size_t value_count;
    uint64_t values[2 * RK_RAFT_MEMBERS_MAX];
    struct answers answers;
};

static bool acked(const void *context, uint64_t id, uint64_t *out)
{
    const struct answers *answers = context;
    for (size_t i = 0; i < answers->count; i++) {
        if (answers->ids[i] != id) continue;
        *out = answers->values[i];
        return answers->values[i] != 0;
    }
    return false;
}

static enum rk_raft_vote voted(const void *context, uint64_t id)
{
    uint64_t value;
    if (!acked(context, id, &value)) return RK_RAFT_VOTE_NONE;
    return value == 1 ? RK_RAFT_VOTE_NO : RK_RAFT_VOTE_YES;
}

static void add_id(struct input *in, struct rk_raft_members *set, const char *text)
{
    uint64_t id;
    bool is_number = dd_number(text, &id);
    RK_ASSERT(is_number && in->order_count < 2 * RK_RAFT_MEMBERS_MAX);
    in->order[in->order_count++] = id;
    enum rk_status status = rk_raft_members_add(set, id);
    RK_ASSERT(status == RK_OK);
}

static uint64_t value_of(const char *text)
{
    uint64_t value = 0;
    if (strcmp(text, "_") == 0) return 0;
    if (strcmp(text, "n") == 0) return 1;
    if (strcmp(text, "y") == 0) return 2;
    bool is_number = dd_number(text, &value);
    RK_ASSERT(is_number);
    return value;
}

static void parse(struct input *in, const struct dd_case *c)
{
    memset(in, 0, sizeof(*in));
    /* cfg counts first, whatever the order of the arguments. */
    for (size_t pass = 0; pass < 2; pass++) {
        const char *key = pass == 0 ? "cfg" : "cfgj";
        struct rk_raft_members *set =
            pass == 0 ? &in->conf.voters : &in->conf.voters_outgoing;
        for (size_t i = 0; i < c->arg_count; i++) {
            if (strcmp(c->args[i].key, key) != 0) continue;
            in->is_joint = in->is_joint || pass == 1;
            for (size_t k = 0; k < c->args[i].value_count; k++)
                if (strcmp(c->args[i].values[k], "zero") != 0)
                    add_id(in, set, c->args[i].values[k]);
        }
    }
    for (size_t i = 0; i < c->arg_count; i++) {
        const struct dd_arg *arg = &c->args[i];
        if (strcmp(arg->key, "idx") != 0 && strcmp(arg->key, "votes") != 0) continue;
        for (size_t k = 0; k < arg->value_count; k++)
            in->values[in->value_count++] = value_of(arg->values[k]);
    }
    /* The values belong to the members in order, each named once. */
    for (size_t i = 0; i < in->order_count; i++) {
        bool is_known = false;
        for (size_t k = 0; k < in->answers.count; k++)
            is_known = is_known || in->answers.ids[k] == in->order[i];
        if (is_known || in->answers.count == in->value_count) continue;
        in->answers.ids[in->answers.count] = in->order[i];
        in->answers.values[in->answers.count] = in->values[in->answers.count];
        in->answers.count++;
    }
}

static struct rk_raft_members all_of(const struct input *in)
{
    struct rk_raft_members all = in->conf.voters;
    for (uint32_t i = 0; i < in->conf.voters_outgoing.count; i++) {
        enum rk_status status = rk_raft_members_add(&all, in->conf.voters_outgoing.ids[i]);
        RK_ASSERT(status == RK_OK);
    }
    return all;
}

static void print_index(struct rk_buf *out, uint64_t index)
{
    if (index == UINT64_MAX)
        rk_buf_append_string(out, "∞");
    else
        rk_buf_printf(out, "%" PRIu64, index);
}

/* How many members of the set are lower, where equal ones count as one place. */
static uint32_t bar_of(const struct rk_raft_members *all, const struct answers *answers,
                       uint64_t index)
{
    uint32_t lower = 0;
    for (uint32_t i = 0; i < all->count; i++) {
        uint64_t other = 0;
        (void)acked(answers, all->ids[i], &other);
        lower += other < index;
    }
    return lower;
}

static void repeat(struct rk_buf *out, char character, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++)
        rk_buf_u8(out, (uint8_t)character);
}

static void print_table(struct rk_buf *out, const struct rk_raft_members *all,
                        const struct answers *answers)
{
    if (all->count == 0) {
        rk_buf_append_string(out, "<empty majority quorum>");
        return;
    }
    repeat(out, ' ', all->count);
    rk_buf_append_string(out, "    idx\n");
    for (uint32_t i = 0; i < all->count; i++) {
        uint64_t index = 0;
        if (acked(answers, all->ids[i], &index)) {
            uint32_t bar = bar_of(all, answers, index);
            repeat(out, 'x', bar);
            rk_buf_u8(out, '>');
            repeat(out, ' ', all->count - bar);
        } else {
            rk_buf_u8(out, '?');
            repeat(out, ' ', all->count);
        }
        rk_buf_append_string(out, " ");
        struct rk_buf text;
        rk_buf_init(&text);
        print_index(&text, index);
        repeat(out, ' ', text.size < 5 ? 5 - (uint32_t)text.size : 0);
        rk_buf_append(out, text.data, text.size);
        rk_buf_fini(&text);
        rk_buf_printf(out, "    (id=%" PRIx64 ")\n", all->ids[i]);
    }
}

static struct rk_raft_conf_state swapped(const struct rk_raft_conf_state *conf)
{
    struct rk_raft_conf_state other = *conf;
    other.voters = conf->voters_outgoing;
    other.voters_outgoing = conf->voters;
    return other;
}

static void print_other(struct rk_buf *out, uint64_t index, uint64_t other, const char *how)
{
    if (index == other) return;
    print_index(out, other);
    rk_buf_printf(out, " <-- via %s\n", how);
}

/* Lowering an index that is below the committed one must not change the result. */
static void check_lower(struct rk_buf *out, const struct input *in, uint64_t index)
{
    for (size_t i = 0; i < in->answers.count; i++) {
        uint64_t value = in->answers.values[i];
        if (value == 0 || value >= index) continue;
        struct answers lower = in->answers;
        lower.values[i] = value - 1;
        print_other(out, index, rk_raft_majority_index(&in->conf.voters, acked, &lower),
                    "a lower index");
        lower.values[i] = 0;
        print_other(out, index, rk_raft_majority_index(&in->conf.voters, acked, &lower),
                    "no index");
    }
}

static void run_committed(const struct input *in, struct rk_buf *out)
{
    struct rk_raft_members all = all_of(in);
    print_table(out, &all, &in->answers);
    uint64_t index = rk_raft_joint_index(&in->conf, acked, &in->answers);
    struct rk_raft_conf_state other = swapped(&in->conf);
    print_other(out, index, rk_raft_joint_index(&other, acked, &in->answers), "symmetry");
    if (!in->is_joint) {
        other.voters = in->conf.voters;
        other.voters_outgoing = in->conf.voters;
        print_other(out, index, rk_raft_joint_index(&other, acked, &in->answers),
                    "self-joint quorum");
        check_lower(out, in, index);
    }
    print_index(out, index);
    rk_buf_u8(out, '\n');
}

static void run_vote(const struct input *in, struct rk_buf *out)
{
    static const char *const names[] = {"VotePending", "VoteLost", "VoteWon"};
    enum rk_raft_vote_result result = rk_raft_joint_vote(&in->conf, voted, &in->answers);
    struct rk_raft_conf_state other = swapped(&in->conf);
    enum rk_raft_vote_result mirrored = rk_raft_joint_vote(&other, voted, &in->answers);
    if (mirrored != result) rk_buf_printf(out, "%s <-- via symmetry\n", names[mirrored]);
    rk_buf_printf(out, "%s\n", names[result]);
}

static bool knows(const char *command)
{
    return strcmp(command, "committed") == 0 || strcmp(command, "vote") == 0;
}

static void *open_state(uint64_t max_cached_bytes)
{
    (void)max_cached_bytes;
    static char nothing;
    return &nothing;
}

static void run(void *state, const struct dd_case *c, struct rk_buf *out)
{
    (void)state;
    struct input in;
    parse(&in, c);
    struct rk_raft_members all = all_of(&in);
    if (all.count != in.value_count) {
        rk_buf_append_string(out,
                             "error: mismatched input (explicit or _) for voters map[");
        for (uint32_t i = 0; i < all.count; i++)
            rk_buf_printf(out, "%s%" PRIu64 ":{}", i > 0 ? " " : "", all.ids[i]);
        rk_buf_append_string(out, "]: [");
        for (size_t i = 0; i < in.value_count; i++)
            rk_buf_printf(out, "%s%" PRIu64, i > 0 ? " " : "", in.values[i]);
        rk_buf_append_string(out, "]");
    } else if (strcmp(c->command, "vote") == 0) {
        run_vote(&in, out);
    } else {
        run_committed(&in, out);
    }
}

static void close_state(void *state)
{
    (void)state;
}

const struct script_kind script_quorum = {"quorum", knows, open_state, run, close_state};
