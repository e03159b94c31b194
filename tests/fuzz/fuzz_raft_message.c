/* What a peer's raft section holds: a message, a membership, a snapshot's mark, a change of
 * membership. Each that is taken has exactly one encoding. */
#include "fuzz.h"

#include "raft/describe.h"
#include "raft/wire.h"

/* size: how much of the input was taken. */
static void check_same(const struct rk_buf *again, struct rk_slice input, size_t size)
{
    RK_ASSERT(rk_buf_check(again) == RK_OK);
    RK_ASSERT(rk_slice_is_equal(rk_buf_slice(again), rk_slice_of(input.data, size)));
}

static void check_order(const struct rk_raft_message *message)
{
    RK_ASSERT(message->type < RK_RAFT_MSG_TYPES);
    RK_ASSERT((message->snapshot == NULL) || message->type == RK_RAFT_MSG_SNAP);
    if (message->type != RK_RAFT_MSG_APP) return;
    for (size_t i = 0; i < message->entry_count; i++)
        RK_ASSERT(message->entries[i].index == message->index + 1 + i);
}

static bool take_message(struct rk_buf *again, struct rk_reader *reader)
{
    struct rk_raft_message message;
    struct rk_arena arena;
    struct rk_buf text;
    rk_arena_init(&arena);
    bool is_taken = rk_raft_message_decode(&message, &arena, reader) == RK_OK;
    if (is_taken) {
        check_order(&message);
        rk_raft_message_encode(again, &message);
        rk_buf_init(&text);
        rk_raft_describe_message(&text, "  ", &message);
        RK_ASSERT(rk_buf_check(&text) == RK_OK);
        rk_buf_fini(&text);
    }
    rk_arena_fini(&arena);
    return is_taken;
}

static bool take_conf_state(struct rk_buf *again, struct rk_reader *reader)
{
    struct rk_raft_conf_state conf;
    if (rk_raft_conf_state_decode(&conf, reader) != RK_OK) return false;
    rk_raft_conf_state_encode(again, &conf);
    return true;
}

static bool take_snapshot(struct rk_buf *again, struct rk_reader *reader)
{
    struct rk_raft_snapshot snapshot;
    if (rk_raft_snapshot_decode(&snapshot, reader) != RK_OK) return false;
    rk_raft_snapshot_encode(again, &snapshot);
    return true;
}

/* The whole slice is the change. */
static bool take_conf_change(struct rk_buf *again, struct rk_reader *reader)
{
    struct rk_raft_conf_change change;
    struct rk_slice bytes = rk_slice_of(reader->at, rk_reader_left(reader));
    reader->at = reader->end;
    if (rk_raft_conf_change_decode(&change, bytes) != RK_OK) return false;
    RK_ASSERT(change.count <= RK_RAFT_MEMBERS_MAX);
    RK_ASSERT(rk_raft_conf_change_encode(again, &change) == RK_OK);
    /* The one that leaves a joint membership is written as nothing, and read as either. */
    return again->size > 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size == 0) return 0;
    static bool (*const takes[])(struct rk_buf *, struct rk_reader *) = {
        take_message, take_conf_state, take_snapshot, take_conf_change};
    struct rk_slice input = rk_slice_of(data + 1, size - 1);
    struct rk_reader reader;
    struct rk_buf again;
    rk_buf_init(&again);
    rk_reader_init(&reader, input);
    if (takes[data[0] % 4](&again, &reader))
        check_same(&again, input, input.size - rk_reader_left(&reader));
    rk_buf_fini(&again);
    return 0;
}
