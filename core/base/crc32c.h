/* crc32c.h - CRC-32C (Castagnoli, RFC 3720 appendix B.4), with SSE4.2 where there is one.
 */
#ifndef RK_BASE_CRC32C_H
#define RK_BASE_CRC32C_H

#include <stddef.h>
#include <stdint.h>

/* Continues crc (0 to begin) over data; crc32c("123456789") is 0xe3069283. */
uint32_t rk_crc32c(uint32_t crc, const void *data, size_t size);
/* The same without special instructions: for tests to compare. */
uint32_t rk_crc32c_portable(uint32_t crc, const void *data, size_t size);
#endif
