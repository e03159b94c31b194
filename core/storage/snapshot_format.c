#include "storage/snapshot_format.h"

#include "base/crc32c.h"

#include <inttypes.h>
#include <stdio.h>

static const uint32_t block_magic = 0x42534b52; /* "RKSB" */

static const char *const suffixes[] = {
    [RK_SNAPSHOT_FINAL] = ".snap",
    [RK_SNAPSHOT_TMP] = ".snap.tmp",
    [RK_SNAPSHOT_RECV] = ".snap.recv",
};

uint32_t rk_snapshot_crc(const uint8_t *bytes, size_t size, uint32_t chain)
{
    return rk_crc32c(chain, bytes + 8, size - 8);
}

void rk_snapshot_seal(uint8_t *bytes, const struct rk_snapshot_block_head *head,
                      uint32_t *chain)
{
    rk_put_u32(bytes, block_magic);
    rk_put_u32(bytes + 8, (uint32_t)head->kind);
    rk_put_u32(bytes + 12, head->size);
    rk_put_u32(bytes + 16, head->count);
    rk_put_u32(bytes + 20, head->number);
    *chain = rk_snapshot_crc(bytes, RK_SNAPSHOT_BLOCK_HEAD + (size_t)head->size, *chain);
    rk_put_u32(bytes + 4, *chain);
}

enum rk_status rk_snapshot_head_read(struct rk_snapshot_block_head *out,
                                     const uint8_t bytes[RK_SNAPSHOT_BLOCK_HEAD])
{
    if (rk_take_u32(bytes) != block_magic) return RK_ECORRUPT;
    out->crc = rk_take_u32(bytes + 4);
    out->kind = (enum rk_snapshot_kind)rk_take_u32(bytes + 8);
    out->size = rk_take_u32(bytes + 12);
    out->count = rk_take_u32(bytes + 16);
    out->number = rk_take_u32(bytes + 20);
    return out->size <= RK_SNAPSHOT_BLOCK_MAX ? RK_OK : RK_ECORRUPT;
}

void rk_snapshot_name(char out[RK_SNAPSHOT_NAME_SIZE], struct rk_snapshot_id id)
{
    (void)snprintf(out, RK_SNAPSHOT_NAME_SIZE,
                   "%05" PRIu32 "-%020" PRIu64 "-%020" PRIu64 "%s", id.group, id.index,
                   id.term, suffixes[RK_SNAPSHOT_FINAL]);
}

/* `digits` decimal digits that fit 64 bits, then `end`. */
static bool parse_number(const char **at, int digits, char end, uint64_t *out)
{
    uint64_t value = 0;
    for (int i = 0; i < digits; i++) {
        char c = (*at)[i];
        if (c < '0' || c > '9') return false;
        uint64_t digit = (uint64_t)(c - '0');
        if (value > (UINT64_MAX - digit) / 10) return false;
        value = value * 10 + digit;
    }
    if ((*at)[digits] != end) return false;
    *at += digits + (end == '.' ? 0 : 1);
    *out = value;
    return true;
}

bool rk_snapshot_name_parse(const char *name, struct rk_snapshot_id *out,
                            enum rk_snapshot_suffix *suffix)
{
    uint64_t group = 0;
    if (!parse_number(&name, 5, '-', &group) ||
        !parse_number(&name, 20, '-', &out->index) ||
        !parse_number(&name, 20, '.', &out->term))
        return false;
    out->group = (uint32_t)group;
    for (int i = RK_SNAPSHOT_FINAL; i <= RK_SNAPSHOT_RECV; i++) {
        if (strcmp(name, suffixes[i]) != 0) continue;
        *suffix = (enum rk_snapshot_suffix)i;
        return true;
    }
    return false;
}

enum rk_status rk_snapshot_path(char out[RK_FS_PATH_MAX], const char *dir,
                                struct rk_snapshot_id id, enum rk_snapshot_suffix suffix)
{
    char name[RK_SNAPSHOT_NAME_SIZE + 8];
    (void)snprintf(name, sizeof(name), "%05" PRIu32 "-%020" PRIu64 "-%020" PRIu64 "%s",
                   id.group, id.index, id.term, suffixes[suffix]);
    return rk_fs_join(out, dir, name);
}
