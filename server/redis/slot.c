/* Which slot of a Cluster a key has: Redis Cluster specification, "Key distribution
 * model". */
#include "redis/redis.h"

/* CRC16-CCITT (XMODEM): polynomial 0x1021, nothing reflected, starting at 0. */
static uint16_t crc16(struct rk_slice data)
{
    static const uint16_t nibbles[16] = {
        0x0000, 0x1021, 0x2042, 0x3063, 0x4084, 0x50a5, 0x60c6, 0x70e7,
        0x8108, 0x9129, 0xa14a, 0xb16b, 0xc18c, 0xd1ad, 0xe1ce, 0xf1ef,
    };
    uint16_t crc = 0;
    for (size_t i = 0; i < data.size; i++) {
        uint8_t byte = data.data[i];
        crc = (uint16_t)(crc << 4 ^ nibbles[(crc >> 12 ^ byte >> 4) & 15]);
        crc = (uint16_t)(crc << 4 ^ nibbles[(crc >> 12 ^ byte) & 15]);
    }
    return crc;
}

uint32_t rk_redis_slot(struct rk_slice key)
{
    const uint8_t *open = key.size == 0 ? NULL : memchr(key.data, '{', key.size);
    if (open != NULL) {
        size_t rest = key.size - (size_t)(open - key.data) - 1;
        const uint8_t *close = rest == 0 ? NULL : memchr(open + 1, '}', rest);
        if (close != NULL && close > open + 1)
            key = rk_slice_of(open + 1, (size_t)(close - open) - 1);
    }
    return crc16(key) % RK_REDIS_SLOTS;
}
