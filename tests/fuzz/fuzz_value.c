/* Users' values. One that has a form in the other encoding comes back from it, and a second
 * round changes nothing any more. */
#include "fuzz.h"

#include "api/api.h"

static enum rk_encoding other_of(enum rk_encoding encoding)
{
    return encoding == RK_ENCODING_JSON ? RK_ENCODING_MSGPACK : RK_ENCODING_JSON;
}

/* a -> b -> c -> d with b and d, c and a's own normal form in one encoding. */
static void round_trip(struct rk_value a, struct rk_arena *arena)
{
    enum rk_encoding own = (enum rk_encoding)a.encoding;
    enum rk_encoding other = other_of(own);
    struct rk_value b, c, d, e;
    if (rk_value_convert(&b, a, other, arena) != RK_OK) return;
    RK_ASSERT(b.encoding == other);
    enum rk_status status = rk_value_convert(&c, b, own, arena);
    /* A msgpack map may have a key twice; JSON with that is not read again. */
    if (own == RK_ENCODING_MSGPACK && status == RK_ECONVERT) return;
    RK_ASSERT(status == RK_OK);
    RK_ASSERT(rk_value_convert(&d, c, other, arena) == RK_OK);
    RK_ASSERT(rk_slice_is_equal(b.bytes, d.bytes));
    RK_ASSERT(rk_value_convert(&e, d, own, arena) == RK_OK);
    RK_ASSERT(rk_slice_is_equal(c.bytes, e.bytes));
    size_t size = 0;
    struct rk_slice msgpack = other == RK_ENCODING_MSGPACK ? b.bytes : c.bytes;
    RK_ASSERT(rk_msgpack_measure(msgpack, &size) == RK_OK && size == msgpack.size);
}

/* Raw bytes through either encoding: the same bytes. */
static void raw(struct rk_value a, struct rk_arena *arena)
{
    struct rk_value msgpack, back, json;
    RK_ASSERT(rk_value_convert(&msgpack, a, RK_ENCODING_MSGPACK, arena) == RK_OK);
    RK_ASSERT(rk_value_convert(&back, msgpack, RK_ENCODING_RAW, arena) == RK_OK);
    RK_ASSERT(rk_slice_is_equal(a.bytes, back.bytes));
    RK_ASSERT(rk_value_convert(&json, a, RK_ENCODING_JSON, arena) == RK_OK);
    RK_ASSERT(json.bytes.size >= 2 && json.bytes.data[0] == '"');
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 2) return 0;
    static const uint8_t encodings[] = {RK_ENCODING_JSON, RK_ENCODING_MSGPACK,
                                        RK_ENCODING_RAW};
    struct rk_arena arena;
    struct rk_value value = {rk_slice_of(data + 1, size - 1), encodings[data[0] % 3]};
    rk_arena_init(&arena);
    if (value.encoding == RK_ENCODING_RAW)
        raw(value, &arena);
    else
        round_trip(value, &arena);
    rk_arena_fini(&arena);
    return 0;
}
