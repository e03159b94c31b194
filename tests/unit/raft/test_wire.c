/* Messages as bytes: what goes out comes in, and nothing else is taken. */
#include "raft/wire.h"

#include "base/random.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

static const struct rk_raft_snapshot snapshot = {.index = 77,
                                                 .term = 9,
                                                 .conf = {.voters = {3, {1, 2, 5}},
                                                          .voters_outgoing = {2, {2, 3}},
                                                          .learners = {1, {8}},
                                                          .learners_next = {1, {3}},
                                                          .auto_leave = true}};

static struct rk_raft_message full_append(struct rk_raft_entry *entries)
{
    entries[0] = (struct rk_raft_entry){.index = 1001, .term = 4};
    entries[1] = (struct rk_raft_entry){
        .index = 1002, .term = 5, .data = RK_SLICE_LITERAL("payload")};
    entries[2] = (struct rk_raft_entry){.index = 1003,
                                        .term = 5,
                                        .type = RK_RAFT_ENTRY_CONF_V2,
                                        .data = RK_SLICE_LITERAL("\x01\x00\x00\x00")};
    return (struct rk_raft_message){.type = RK_RAFT_MSG_APP,
                                    .campaign = RK_RAFT_CAMPAIGN_EARLY,
                                    .reject = true,
                                    .from = 1,
                                    .to = UINT64_MAX / 3,
                                    .term = 5,
                                    .log_term = 4,
                                    .index = 1000,
                                    .commit = 999,
                                    .reject_hint = 12,
                                    .context = 1ull << 63,
                                    .entries = entries,
                                    .entry_count = 3};
}

static void encode(struct rk_buf *out, const struct rk_raft_message *message)
{
    rk_buf_reset(out);
    rk_raft_message_encode(out, message);
    assert_int_equal(rk_buf_check(out), RK_OK);
}

static enum rk_status decode(struct rk_raft_message *out, struct rk_arena *arena,
                             const uint8_t *data, size_t size)
{
    struct rk_reader reader;
    rk_reader_init(&reader, rk_slice_of(data, size));
    enum rk_status status = rk_raft_message_decode(out, arena, &reader);
    return status == RK_OK ? rk_reader_check(&reader, true) : status;
}

static void test_round_trip(void **state)
{
    (void)state;
    struct rk_raft_entry entries[3];
    struct rk_raft_message message = full_append(entries);
    struct rk_raft_message back;
    struct rk_arena arena;
    struct rk_buf buf;
    rk_arena_init(&arena);
    rk_buf_init(&buf);
    encode(&buf, &message);
    assert_int_equal(decode(&back, &arena, buf.data, buf.size), RK_OK);
    assert_int_equal(back.type, message.type);
    assert_int_equal(back.campaign, message.campaign);
    assert_true(back.reject);
    assert_true(back.to == message.to && back.from == message.from);
    assert_true(back.term == 5 && back.log_term == 4 && back.index == 1000);
    assert_true(back.commit == 999 && back.reject_hint == 12 && back.context == 1ull << 63);
    assert_int_equal(back.entry_count, 3);
    for (size_t i = 0; i < 3; i++) {
        assert_int_equal(back.entries[i].index, entries[i].index);
        assert_int_equal(back.entries[i].term, entries[i].term);
        assert_int_equal(back.entries[i].type, entries[i].type);
        assert_true(rk_slice_is_equal(back.entries[i].data, entries[i].data));
    }
    struct rk_raft_message snap = {
        .type = RK_RAFT_MSG_SNAP, .from = 1, .to = 2, .term = 3, .snapshot = &snapshot};
    encode(&buf, &snap);
    assert_int_equal(decode(&back, &arena, buf.data, buf.size), RK_OK);
    assert_non_null(back.snapshot);
    assert_memory_equal(back.snapshot, &snapshot, sizeof(snapshot));
    rk_buf_fini(&buf);
    rk_arena_fini(&arena);
}

static void test_cut_input(void **state)
{
    (void)state;
    struct rk_raft_entry entries[3];
    struct rk_raft_message messages[] = {
        full_append(entries),
        {.type = RK_RAFT_MSG_SNAP, .from = 1, .to = 2, .term = 3, .snapshot = &snapshot},
    };
    struct rk_arena arena;
    struct rk_buf buf;
    rk_arena_init(&arena);
    rk_buf_init(&buf);
    for (size_t m = 0; m < 2; m++) {
        encode(&buf, &messages[m]);
        for (size_t size = 0; size < buf.size; size++) {
            struct rk_raft_message back;
            assert_int_equal(decode(&back, &arena, buf.data, size), RK_EPROTO);
        }
    }
    rk_buf_fini(&buf);
    rk_arena_fini(&arena);
}

static void test_counts_are_not_trusted(void **state)
{
    (void)state;
    struct rk_raft_message message = {.type = RK_RAFT_MSG_PROP, .from = 1, .to = 2};
    struct rk_raft_message back;
    struct rk_arena arena;
    struct rk_buf buf;
    rk_arena_init(&arena);
    rk_buf_init(&buf);
    encode(&buf, &message);
    buf.size--; /* the count of entries */
    rk_buf_varint(&buf, 1ull << 40);
    assert_int_equal(decode(&back, &arena, buf.data, buf.size), RK_EPROTO);
    assert_true(arena.total < 1024 * 1024);
    rk_buf_fini(&buf);
    rk_arena_fini(&arena);
}

static void refuse_byte(struct rk_buf *buf, struct rk_arena *arena, size_t at,
                        uint8_t value)
{
    struct rk_raft_message back;
    uint8_t old = buf->data[at];
    buf->data[at] = value;
    assert_int_equal(decode(&back, arena, buf->data, buf->size), RK_EPROTO);
    buf->data[at] = old;
}

static void test_unknown_values(void **state)
{
    (void)state;
    struct rk_raft_entry entries[3];
    struct rk_raft_message message = full_append(entries);
    struct rk_arena arena;
    struct rk_buf buf;
    rk_arena_init(&arena);
    rk_buf_init(&buf);
    encode(&buf, &message);
    refuse_byte(&buf, &arena, 0, RK_RAFT_WIRE_VERSION + 1);
    refuse_byte(&buf, &arena, 1, RK_RAFT_MSG_TYPES);
    refuse_byte(&buf, &arena, 1, RK_RAFT_MSG_HUP);
    refuse_byte(&buf, &arena, 1, RK_RAFT_MSG_STORAGE_APPEND_RESP);
    refuse_byte(&buf, &arena, 1, RK_RAFT_MSG_HEARTBEAT); /* with entries */
    refuse_byte(&buf, &arena, 2, 0x80);
    refuse_byte(&buf, &arena, 3, RK_RAFT_CAMPAIGN_EARLY + 1);
    rk_buf_fini(&buf);
    rk_arena_fini(&arena);
}

static void test_noise(void **state)
{
    (void)state;
    struct rk_raft_entry entries[3];
    struct rk_raft_message messages[] = {
        full_append(entries),
        {.type = RK_RAFT_MSG_SNAP, .from = 1, .to = 2, .term = 3, .snapshot = &snapshot},
    };
    struct rk_random random;
    struct rk_arena arena;
    struct rk_buf buf;
    rk_random_init(&random, 1);
    rk_arena_init(&arena);
    rk_buf_init(&buf);
    for (int i = 0; i < 20000; i++) {
        struct rk_raft_message back;
        encode(&buf, &messages[i % 2]);
        for (uint64_t k = rk_random_below(&random, 4); k < 4; k++)
            buf.data[rk_random_below(&random, buf.size)] = (uint8_t)rk_random_next(&random);
        enum rk_status status = decode(&back, &arena, buf.data, buf.size);
        assert_true(status == RK_OK || status == RK_EPROTO);
        rk_arena_reset(&arena);
    }
    rk_buf_fini(&buf);
    rk_arena_fini(&arena);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_round_trip),
        cmocka_unit_test(test_cut_input),
        cmocka_unit_test(test_counts_are_not_trusted),
        cmocka_unit_test(test_unknown_values),
        cmocka_unit_test(test_noise),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
