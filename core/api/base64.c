/* RFC 4648, section 4, with padding. */
#include "api/out.h"

#include "base/arena.h"

static const char alphabet[] =
    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

void rk_base64_write(struct rk_buf *out, struct rk_slice bytes)
{
    uint8_t *to = rk_buf_extend(out, (bytes.size + 2) / 3 * 4);
    if (to == NULL) return;
    for (size_t i = 0; i < bytes.size; i += 3) {
        size_t left = bytes.size - i;
        uint32_t bits = (uint32_t)bytes.data[i] << 16;
        if (left > 1) bits |= (uint32_t)bytes.data[i + 1] << 8;
        if (left > 2) bits |= bytes.data[i + 2];
        *to++ = (uint8_t)alphabet[bits >> 18];
        *to++ = (uint8_t)alphabet[bits >> 12 & 63];
        *to++ = left > 1 ? (uint8_t)alphabet[bits >> 6 & 63] : '=';
        *to++ = left > 2 ? (uint8_t)alphabet[bits & 63] : '=';
    }
}

static int digit_of(uint8_t c)
{
    if (c >= 'A' && c <= 'Z') return c - 'A';
    if (c >= 'a' && c <= 'z') return c - 'a' + 26;
    if (c >= '0' && c <= '9') return c - '0' + 52;
    if (c == '+') return 62;
    return c == '/' ? 63 : -1;
}

enum rk_status rk_base64_decode(struct rk_slice *out, struct rk_slice text,
                                struct rk_arena *arena)
{
    *out = RK_SLICE_LITERAL("");
    if (text.size % 4 != 0) return RK_EINVAL;
    if (text.size == 0) return RK_OK;
    size_t padding = 0;
    while (padding < 2 && text.data[text.size - 1 - padding] == '=')
        padding++;
    uint8_t *bytes = rk_arena_alloc(arena, text.size / 4 * 3);
    if (bytes == NULL) return RK_ENOMEM;
    size_t size = 0;
    for (size_t i = 0; i < text.size; i += 4) {
        size_t digits = i + 4 == text.size ? 4 - padding : 4;
        uint32_t bits = 0;
        for (size_t j = 0; j < 4; j++) {
            int digit = j < digits ? digit_of(text.data[i + j]) : 0;
            if (digit < 0) return RK_EINVAL;
            bits = bits << 6 | (uint32_t)digit;
        }
        /* Bits that no byte takes must be zero: one text for one value. */
        if ((digits == 3 && (bits & 0xff) != 0) || (digits == 2 && (bits & 0xffff) != 0))
            return RK_EINVAL;
        for (size_t j = 0; j + 1 < digits; j++)
            bytes[size++] = (uint8_t)(bits >> (16 - 8 * j));
    }
    *out = rk_slice_of(bytes, size);
    return RK_OK;
}
