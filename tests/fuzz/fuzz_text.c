/* The texts that clients bring back: ids of deliveries, fill tokens, positions, and
 * addresses. There is one text for each id. */
#include "fuzz.h"

#include "api/api.h"
#include "api/delivery_id.h"
#include "api/out.h"
#include "rukund/address.h"

#include <stdlib.h>

static void delivery_id(struct rk_slice text)
{
    struct rk_delivery_id id;
    char again[RK_DELIVERY_ID_SIZE];
    if (rk_delivery_id_parse(&id, text) != RK_OK) return;
    size_t size = rk_delivery_id_print(again, &id);
    RK_ASSERT(rk_slice_is_equal(text, rk_slice_of(again, size)));
}

static void fill_token(struct rk_slice text)
{
    struct rk_fill_token token;
    char again[RK_DELIVERY_ID_SIZE];
    if (rk_fill_token_parse(&token, text) != RK_OK) return;
    size_t size = rk_fill_token_print(again, &token);
    RK_ASSERT(rk_slice_is_equal(text, rk_slice_of(again, size)));
}

/* Any parts at all have a text that gives them back. */
static void made_ids(struct rk_slice bytes)
{
    struct rk_reader reader;
    char text[RK_DELIVERY_ID_SIZE];
    rk_reader_init(&reader, bytes);
    struct rk_delivery_id id = {
        .slot = rk_read_u16(&reader) % 4096,
        .history = rk_read_u64(&reader),
        .message = rk_read_u64(&reader),
        .attempt = rk_read_u32(&reader),
    };
    struct rk_fill_token token = {rk_read_u32(&reader), id.history, id.message};
    struct rk_delivery_id id_back;
    struct rk_fill_token token_back;
    size_t size = rk_delivery_id_print(text, &id);
    RK_ASSERT(size < sizeof(text) && text[size] == '\0');
    RK_ASSERT(rk_delivery_id_parse(&id_back, rk_slice_of(text, size)) == RK_OK);
    RK_ASSERT(id_back.slot == id.slot && id_back.history == id.history &&
              id_back.message == id.message && id_back.attempt == id.attempt);
    RK_ASSERT(rk_fill_token_parse(&token_back, rk_slice_of(text, size)) != RK_OK);
    size = rk_fill_token_print(text, &token);
    RK_ASSERT(rk_fill_token_parse(&token_back, rk_slice_of(text, size)) == RK_OK);
    RK_ASSERT(token_back.key_hash == token.key_hash &&
              token_back.history == token.history && token_back.index == token.index);
}

static void position(struct rk_slice text)
{
    struct rk_arena arena;
    struct rk_position first, second;
    struct rk_buf once, twice;
    rk_arena_init(&arena);
    rk_buf_init(&once);
    rk_buf_init(&twice);
    if (rk_position_parse(&first, text, &arena) == RK_OK) {
        rk_position_print(&once, &first);
        RK_ASSERT(rk_position_parse(&second, rk_buf_slice(&once), &arena) == RK_OK);
        RK_ASSERT(first.history == second.history && first.count == second.count);
        rk_position_print(&twice, &second);
        RK_ASSERT(rk_slice_is_equal(rk_buf_slice(&once), rk_buf_slice(&twice)));
    }
    rk_buf_fini(&once);
    rk_buf_fini(&twice);
    rk_arena_fini(&arena);
}

static void address(struct rk_slice text)
{
    char *copy = calloc(1, text.size + 1);
    char again[RK_ADDRESS_MAX];
    struct rk_address first, second;
    if (text.size > 0) memcpy(copy, text.data, text.size);
    (void)rk_node_name_is_valid(copy);
    if (rk_address_parse(&first, copy) == RK_OK) {
        (void)rk_address_is_any(&first);
        (void)rk_address_is_loopback(&first);
        rk_address_print(again, &first);
        RK_ASSERT(rk_address_parse(&second, again) == RK_OK);
        RK_ASSERT(strcmp(first.host, second.host) == 0 && first.port == second.port);
    }
    free(copy);
}

static void base64(struct rk_slice bytes)
{
    struct rk_arena arena;
    struct rk_slice back;
    struct rk_buf text;
    rk_arena_init(&arena);
    rk_buf_init(&text);
    rk_base64_write(&text, bytes);
    RK_ASSERT(rk_base64_decode(&back, rk_buf_slice(&text), &arena) == RK_OK);
    RK_ASSERT(rk_slice_is_equal(back, bytes));
    rk_buf_reset(&text);
    if (rk_base64_decode(&back, bytes, &arena) == RK_OK) {
        rk_base64_write(&text, back);
        RK_ASSERT(rk_slice_is_equal(rk_buf_slice(&text), bytes));
    }
    rk_buf_fini(&text);
    rk_arena_fini(&arena);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size == 0) return 0;
    static void (*const kinds[])(struct rk_slice) = {delivery_id, fill_token, made_ids,
                                                     position,    address,    base64};
    kinds[data[0] % 6](rk_slice_of(data + 1, size - 1));
    return 0;
}
