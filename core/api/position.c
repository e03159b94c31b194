#include "api/table.h"

#include <inttypes.h>

/* Digits of base 10 or 16 into *out. False: none, or over 64 bits. */
static bool take_number(struct rk_slice *text, uint32_t base, uint64_t *out)
{
    size_t used = 0;
    uint64_t value = 0;
    for (; used < text->size; used++) {
        uint8_t c = text->data[used];
        uint32_t digit = 16;
        if (c >= '0' && c <= '9') digit = c - '0';
        if (c >= 'a' && c <= 'f') digit = c - 'a' + 10u;
        if (digit >= base) break;
        if (value > (UINT64_MAX - digit) / base) return false;
        value = value * base + digit;
    }
    *text = rk_slice_of(text->data + used, text->size - used);
    *out = value;
    return used > 0;
}

static bool take_byte(struct rk_slice *text, uint8_t byte)
{
    if (text->size == 0 || text->data[0] != byte) return false;
    *text = rk_slice_of(text->data + 1, text->size - 1);
    return true;
}

static uint32_t count_items(struct rk_slice text)
{
    uint32_t count = 0;
    for (size_t i = 0; i < text.size; i++)
        count += text.data[i] == '=';
    return count;
}

enum rk_status rk_position_parse(struct rk_position *out, struct rk_slice text,
                                 struct rk_arena *arena)
{
    *out = (struct rk_position){0};
    if (text.size == 0) return RK_OK;
    if (text.size > RK_POSITION_TEXT_MAX) return RK_EINVAL;
    struct rk_position position = {0};
    uint32_t expected = count_items(text);
    if (expected > RK_POSITION_ITEMS_MAX) return RK_EINVAL;
    if (!take_number(&text, 16, &position.history) || position.history == 0)
        return RK_EINVAL;
    if (expected > 0) {
        position.items = rk_arena_alloc(arena, expected * sizeof(*position.items));
        if (position.items == NULL) return RK_ENOMEM;
    }
    if (!take_byte(&text, ':')) return RK_EINVAL;
    while (text.size > 0) {
        uint64_t group, index;
        if (position.count > 0 && !take_byte(&text, ',')) return RK_EINVAL;
        if (position.count == expected || !take_number(&text, 10, &group) ||
            group > UINT32_MAX || !take_byte(&text, '=') || !take_number(&text, 10, &index))
            return RK_EINVAL;
        position.items[position.count++] =
            (struct rk_position_item){(uint32_t)group, index};
    }
    *out = position;
    return RK_OK;
}

void rk_position_print(struct rk_buf *out, const struct rk_position *position)
{
    if (position->history == 0) return;
    rk_buf_printf(out, "%" PRIx64 ":", position->history);
    for (uint32_t i = 0; i < position->count; i++)
        rk_buf_printf(out, "%s%u=%" PRIu64, i == 0 ? "" : ",", position->items[i].group,
                      position->items[i].index);
}
