#include "api/out.h"

#include <stdio.h>
#include <stdlib.h>

static void put_be(struct rk_out *out, uint8_t code, uint64_t value, size_t size)
{
    uint8_t bytes[9] = {code};
    for (size_t i = 0; i < size; i++)
        bytes[1 + i] = (uint8_t)(value >> (8 * (size - 1 - i)));
    rk_out_bytes(out, bytes, 1 + size);
}

void rk_out_map_begin(struct rk_out *out, struct rk_out_map *map, bool is_wide)
{
    *map = (struct rk_out_map){.header_at = out->buf->size, .is_wide = is_wide};
    if (!out->is_msgpack)
        rk_out_byte(out, '{');
    else if (is_wide)
        put_be(out, 0xde, 0, 2);
    else
        rk_out_byte(out, 0x80);
}

void rk_out_map_end(struct rk_out *out, const struct rk_out_map *map)
{
    if (!out->is_msgpack) {
        rk_out_byte(out, '}');
        return;
    }
    if (out->buf->is_failed) return;
    uint8_t *header = out->buf->data + map->header_at;
    if (map->is_wide) {
        header[1] = (uint8_t)(map->count >> 8);
        header[2] = (uint8_t)map->count;
    } else {
        header[0] = (uint8_t)(0x80 | map->count);
    }
}

static void text_header(struct rk_out *out, size_t size)
{
    if (size < 32)
        rk_out_byte(out, (uint8_t)(0xa0 | size));
    else if (size <= UINT8_MAX)
        put_be(out, 0xd9, size, 1);
    else if (size <= UINT16_MAX)
        put_be(out, 0xda, size, 2);
    else
        put_be(out, 0xdb, size, 4);
}

void rk_out_key(struct rk_out *out, struct rk_out_map *map, const char *name, size_t size)
{
    if (out->is_msgpack) {
        text_header(out, size);
        rk_out_bytes(out, name, size);
    } else {
        if (map->count > 0) rk_out_byte(out, ',');
        rk_out_byte(out, '"');
        rk_out_bytes(out, name, size);
        rk_out_bytes(out, "\":", 2);
    }
    map->count++;
}

void rk_out_user_key(struct rk_out *out, struct rk_out_map *map, struct rk_slice name)
{
    if (!out->is_msgpack && map->count > 0) rk_out_byte(out, ',');
    rk_out_text(out, name);
    if (!out->is_msgpack) rk_out_byte(out, ':');
    map->count++;
}

void rk_out_list_begin(struct rk_out *out, uint32_t count)
{
    if (!out->is_msgpack)
        rk_out_byte(out, '[');
    else if (count < 16)
        rk_out_byte(out, (uint8_t)(0x90 | count));
    else if (count <= UINT16_MAX)
        put_be(out, 0xdc, count, 2);
    else
        put_be(out, 0xdd, count, 4);
}

void rk_out_item(struct rk_out *out, uint32_t index)
{
    if (!out->is_msgpack && index > 0) rk_out_byte(out, ',');
}

void rk_out_list_end(struct rk_out *out)
{
    if (!out->is_msgpack) rk_out_byte(out, ']');
}

static void decimal(struct rk_out *out, bool is_negative, uint64_t value)
{
    char digits[24];
    size_t at = sizeof(digits);
    do {
        digits[--at] = (char)('0' + value % 10);
        value /= 10;
    } while (value > 0);
    if (is_negative) digits[--at] = '-';
    rk_out_bytes(out, digits + at, sizeof(digits) - at);
}

void rk_out_uint(struct rk_out *out, uint64_t value)
{
    if (!out->is_msgpack)
        decimal(out, false, value);
    else if (value < 0x80)
        rk_out_byte(out, (uint8_t)value);
    else if (value <= UINT8_MAX)
        put_be(out, 0xcc, value, 1);
    else if (value <= UINT16_MAX)
        put_be(out, 0xcd, value, 2);
    else if (value <= UINT32_MAX)
        put_be(out, 0xce, value, 4);
    else
        put_be(out, 0xcf, value, 8);
}

void rk_out_int(struct rk_out *out, int64_t value)
{
    if (value >= 0)
        rk_out_uint(out, (uint64_t)value);
    else if (!out->is_msgpack)
        decimal(out, true, 0 - (uint64_t)value);
    else if (value >= -32)
        rk_out_byte(out, (uint8_t)value);
    else if (value >= INT8_MIN)
        put_be(out, 0xd0, (uint64_t)value, 1);
    else if (value >= INT16_MIN)
        put_be(out, 0xd1, (uint64_t)value, 2);
    else if (value >= INT32_MIN)
        put_be(out, 0xd2, (uint64_t)value, 4);
    else
        put_be(out, 0xd3, (uint64_t)value, 8);
}

void rk_out_bool(struct rk_out *out, bool value)
{
    if (out->is_msgpack)
        rk_out_byte(out, value ? 0xc3 : 0xc2);
    else if (value)
        rk_out_bytes(out, "true", 4);
    else
        rk_out_bytes(out, "false", 5);
}

void rk_out_nil(struct rk_out *out)
{
    if (out->is_msgpack)
        rk_out_byte(out, 0xc0);
    else
        rk_out_bytes(out, "null", 4);
}

/* The shortest form that reads back as the same number and is no integer. The decimal
 * point may be a comma where the program around a client has set a locale. */
void rk_out_real(struct rk_out *out, double value)
{
    if (out->is_msgpack) {
        uint64_t bits;
        memcpy(&bits, &value, 8);
        put_be(out, 0xcb, bits, 8);
        return;
    }
    char text[40];
    for (int digits = 15; digits <= 17; digits++) {
        snprintf(text, sizeof(text), "%.*g", digits, value);
        double back = strtod(text, NULL);
        if (memcmp(&back, &value, sizeof(value)) == 0) break;
    }
    bool is_plain = true;
    for (char *at = text; *at != '\0'; at++) {
        bool is_digit =
            (*at >= '0' && *at <= '9') || *at == '-' || *at == '+' || *at == 'e';
        if (!is_digit) *at = '.';
        if (*at == '.' || *at == 'e') is_plain = false;
    }
    rk_out_bytes(out, text, strlen(text));
    if (is_plain) rk_out_bytes(out, ".0", 2);
}

static void escape(struct rk_out *out, uint8_t byte)
{
    static const char hex[] = "0123456789abcdef";
    char text[6] = {'\\', 'u', '0', '0', hex[byte >> 4], hex[byte & 15]};
    switch (byte) {
    case '"':
    case '\\': text[1] = (char)byte; break;
    case '\n': text[1] = 'n'; break;
    case '\r': text[1] = 'r'; break;
    case '\t': text[1] = 't'; break;
    case '\b': text[1] = 'b'; break;
    case '\f': text[1] = 'f'; break;
    default: rk_out_bytes(out, text, 6); return;
    }
    rk_out_bytes(out, text, 2);
}

void rk_out_text(struct rk_out *out, struct rk_slice text)
{
    if (out->is_msgpack) {
        text_header(out, text.size);
        rk_out_bytes(out, text.data, text.size);
        return;
    }
    rk_out_byte(out, '"');
    size_t from = 0;
    for (size_t i = 0; i < text.size; i++) {
        uint8_t byte = text.data[i];
        if (byte >= 0x20 && byte != '"' && byte != '\\') continue;
        rk_out_bytes(out, text.data + from, i - from);
        escape(out, byte);
        from = i + 1;
    }
    if (from < text.size) rk_out_bytes(out, text.data + from, text.size - from);
    rk_out_byte(out, '"');
}

void rk_out_binary(struct rk_out *out, struct rk_slice bytes)
{
    if (!out->is_msgpack) {
        rk_out_byte(out, '"');
        rk_base64_write(out->buf, bytes);
        rk_out_byte(out, '"');
        return;
    }
    if (bytes.size <= UINT8_MAX)
        put_be(out, 0xc4, bytes.size, 1);
    else if (bytes.size <= UINT16_MAX)
        put_be(out, 0xc5, bytes.size, 2);
    else
        put_be(out, 0xc6, bytes.size, 4);
    rk_out_bytes(out, bytes.data, bytes.size);
}

void rk_out_value(struct rk_out *out, struct rk_out_map *map, const char *name, size_t size,
                  struct rk_value value)
{
    static const char end[] = "_base64";
    bool is_base64 = value.encoding == RK_ENCODING_RAW && !out->is_msgpack;
    if (is_base64 && size <= 32) {
        char longer[48];
        memcpy(longer, name, size);
        memcpy(longer + size, end, sizeof(end));
        rk_out_key(out, map, longer, size + sizeof(end) - 1);
    } else {
        rk_out_key(out, map, name, size);
    }
    char place[96] = "";
    enum rk_status status = rk_value_write(out, value, place, sizeof(place));
    if (status == RK_OK || out->status != RK_OK) return;
    out->status = status;
    snprintf(out->place, sizeof(out->place), "%.*s%s", (int)(size < 30 ? size : 30), name,
             place);
}
