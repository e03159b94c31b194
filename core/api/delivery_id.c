#include "api/delivery_id.h"

#include "base/assert.h"
#include "base/crc32c.h"
#include "base/slot.h"

enum {
    CHECK_SIZE = 3,
    BODY_MAX = 1 + 3 + 10 + 10 + 5 + CHECK_SIZE,
    TEXT_MAX = 1 + (BODY_MAX * 8 + 4) / 5,
    PARTS_MAX = 4,
};

_Static_assert((int)TEXT_MAX < (int)RK_DELIVERY_ID_SIZE, "the longest text fits");

static const char digits[] = "abcdefghijklmnopqrstuvwxyz234567";

static uint32_t check_of(char kind, const uint8_t *body, size_t size)
{
    return rk_crc32c(rk_crc32c(0, &kind, 1), body, size) & 0xffffff;
}

static size_t put_varint(uint8_t *out, uint64_t value)
{
    size_t size = 0;
    for (; value >= 0x80; value >>= 7)
        out[size++] = (uint8_t)(value | 0x80);
    out[size++] = (uint8_t)value;
    return size;
}

static size_t print(char *out, char kind, const uint64_t *parts, size_t part_count)
{
    uint8_t body[BODY_MAX];
    size_t size = 0;
    body[size++] = RK_DELIVERY_ID_VERSION;
    for (size_t i = 0; i < part_count; i++)
        size += put_varint(body + size, parts[i]);
    uint32_t check = check_of(kind, body, size);
    for (int i = 0; i < CHECK_SIZE; i++)
        body[size++] = (uint8_t)(check >> (8 * i));
    RK_ASSERT(size <= BODY_MAX);

    size_t text_size = 0;
    out[text_size++] = kind;
    uint32_t bits = 0;
    int bit_count = 0;
    for (size_t i = 0; i < size; i++) {
        bits = bits << 8 | body[i];
        for (bit_count += 8; bit_count >= 5; bit_count -= 5)
            out[text_size++] = digits[bits >> (bit_count - 5) & 31];
    }
    if (bit_count > 0) out[text_size++] = digits[bits << (5 - bit_count) & 31];
    out[text_size] = '\0';
    return text_size;
}

static int digit_value(uint8_t digit)
{
    if (digit >= 'a' && digit <= 'z') return digit - 'a';
    if (digit >= '2' && digit <= '7') return digit - '2' + 26;
    return -1;
}

/* The base32 part into body; returns its size, or 0 if it is not the one way to write it.
 */
static size_t decode_text(uint8_t body[BODY_MAX], struct rk_slice text)
{
    if (text.size < 2 || text.size > TEXT_MAX) return 0;
    size_t size = 0;
    uint32_t bits = 0;
    int bit_count = 0;
    for (size_t i = 1; i < text.size; i++) {
        int value = digit_value(text.data[i]);
        if (value < 0) return 0;
        bits = bits << 5 | (uint32_t)value;
        bit_count += 5;
        if (bit_count < 8) continue;
        bit_count -= 8;
        if (size == BODY_MAX) return 0;
        body[size++] = (uint8_t)(bits >> bit_count);
    }
    bool is_canonical = bit_count < 5 && (bits & ((1u << bit_count) - 1)) == 0;
    return is_canonical ? size : 0;
}

static enum rk_status parse(uint64_t *parts, size_t part_count, char kind,
                            struct rk_slice text)
{
    uint8_t body[BODY_MAX];
    if (text.size == 0 || text.data[0] != (uint8_t)kind) return RK_ERANGE;
    size_t size = decode_text(body, text);
    if (size <= CHECK_SIZE) return RK_ERANGE;
    size -= CHECK_SIZE;
    uint32_t check = 0;
    for (int i = 0; i < CHECK_SIZE; i++)
        check |= (uint32_t)body[size + (size_t)i] << (8 * i);
    if (check != check_of(kind, body, size)) return RK_ERANGE;

    struct rk_reader reader;
    rk_reader_init(&reader, rk_slice_of(body, size));
    if (rk_read_u8(&reader) != RK_DELIVERY_ID_VERSION) return RK_ERANGE;
    for (size_t i = 0; i < part_count; i++)
        parts[i] = rk_read_varint(&reader);
    return rk_reader_check(&reader, true) == RK_OK ? RK_OK : RK_ERANGE;
}

size_t rk_delivery_id_print(char *out, const struct rk_delivery_id *id)
{
    uint64_t parts[PARTS_MAX] = {id->slot, id->history, id->message, id->attempt};
    bool is_message = id->attempt == 0;
    return print(out, is_message ? 'm' : 'd', parts, is_message ? 3 : 4);
}

enum rk_status rk_delivery_id_parse(struct rk_delivery_id *out, struct rk_slice text)
{
    uint64_t parts[PARTS_MAX] = {0};
    bool is_message = text.size != 0 && text.data[0] == 'm';
    enum rk_status status =
        is_message ? parse(parts, 3, 'm', text) : parse(parts, 4, 'd', text);
    if (status != RK_OK) return status;
    if (parts[0] >= RK_SLOT_COUNT || parts[3] > UINT32_MAX) return RK_ERANGE;
    if (is_message != (parts[3] == 0)) return RK_ERANGE;
    *out = (struct rk_delivery_id){
        .slot = (uint16_t)parts[0],
        .history = parts[1],
        .message = parts[2],
        .attempt = (uint32_t)parts[3],
    };
    return RK_OK;
}

size_t rk_fill_token_print(char *out, const struct rk_fill_token *token)
{
    uint64_t parts[PARTS_MAX] = {token->key_hash, token->history, token->index};
    return print(out, 'f', parts, 3);
}

enum rk_status rk_fill_token_parse(struct rk_fill_token *out, struct rk_slice text)
{
    uint64_t parts[PARTS_MAX] = {0};
    enum rk_status status = parse(parts, 3, 'f', text);
    if (status != RK_OK) return status;
    if (parts[0] > UINT32_MAX) return RK_ERANGE;
    *out = (struct rk_fill_token){(uint32_t)parts[0], parts[1], parts[2]};
    return RK_OK;
}
