#include "redis/names.h"

static bool is_special(uint8_t byte)
{
    return byte == '%' || byte == ':' || byte == '{' || byte == '}';
}

static void escape_byte(struct rk_buf *out, uint8_t byte)
{
    rk_buf_u8(out, '%');
    rk_buf_u8(out, (uint8_t) "0123456789ABCDEF"[byte >> 4]);
    rk_buf_u8(out, (uint8_t) "0123456789ABCDEF"[byte & 15]);
}

void rk_redis_name_escape(struct rk_buf *out, struct rk_slice name)
{
    for (size_t i = 0; i < name.size; i++) {
        if (is_special(name.data[i]))
            escape_byte(out, name.data[i]);
        else
            rk_buf_u8(out, name.data[i]);
    }
}

void rk_redis_name_pattern(struct rk_buf *out, struct rk_slice name)
{
    for (size_t i = 0; i < name.size; i++) {
        uint8_t byte = name.data[i];
        if (is_special(byte)) {
            escape_byte(out, byte);
            continue;
        }
        if (strchr("*?[]\\", byte) != NULL && byte != '\0') rk_buf_u8(out, '\\');
        rk_buf_u8(out, byte);
    }
}

static int digit_of(uint8_t byte)
{
    if (byte >= '0' && byte <= '9') return byte - '0';
    return byte >= 'A' && byte <= 'F' ? byte - 'A' + 10 : -1;
}

enum rk_status rk_redis_name_unescape(struct rk_buf *out, struct rk_slice text)
{
    size_t before = out->size;
    for (size_t i = 0; i < text.size; i++) {
        uint8_t byte = text.data[i];
        if (is_special(byte)) {
            int high = byte == '%' && i + 2 < text.size ? digit_of(text.data[i + 1]) : -1;
            int low = high >= 0 ? digit_of(text.data[i + 2]) : -1;
            byte = low >= 0 ? (uint8_t)(high << 4 | low) : 0;
            if (!is_special(byte)) {
                out->size = before;
                return RK_EINVAL;
            }
            i += 2;
        }
        rk_buf_u8(out, byte);
    }
    return RK_OK;
}

void rk_redis_cache_key(struct rk_buf *out, const char *prefix, struct rk_slice cache,
                        struct rk_slice key)
{
    rk_buf_append_string(out, prefix);
    rk_buf_append_string(out, "cache:");
    if (cache.size != 0) {
        rk_redis_name_escape(out, cache);
        rk_buf_u8(out, ':');
    }
    rk_buf_u8(out, '{');
    rk_redis_name_escape(out, key);
    rk_buf_u8(out, '}');
}
