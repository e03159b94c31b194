#include "base/bytes.h"

/* The size of the well-formed sequence at `at`, 0 if there is none. The ranges are those
 * of RFC 3629 section 4: no overlong forms, no surrogates, nothing above U+10FFFF. */
static size_t sequence_size(const uint8_t *at, size_t left)
{
    uint8_t first = at[0];
    size_t size;
    uint8_t low = 0x80, high = 0xbf; /* bounds of the second byte */
    if (first >= 0xc2 && first <= 0xdf) {
        size = 2;
    } else if (first >= 0xe0 && first <= 0xef) {
        size = 3;
        if (first == 0xe0) low = 0xa0;
        if (first == 0xed) high = 0x9f;
    } else if (first >= 0xf0 && first <= 0xf4) {
        size = 4;
        if (first == 0xf0) low = 0x90;
        if (first == 0xf4) high = 0x8f;
    } else {
        return 0;
    }
    if (left < size || at[1] < low || at[1] > high) return 0;
    for (size_t i = 2; i < size; i++)
        if ((at[i] & 0xc0) != 0x80) return 0;
    return size;
}

bool rk_slice_is_utf8(struct rk_slice slice)
{
    size_t at = 0;
    while (at < slice.size) {
        uint8_t byte = slice.data[at];
        if (byte == 0) return false;
        size_t size = byte < 0x80 ? 1 : sequence_size(slice.data + at, slice.size - at);
        if (size == 0) return false;
        at += size;
    }
    return true;
}
