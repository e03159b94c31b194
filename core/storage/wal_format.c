#include "storage/wal_format.h"

#include "base/crc32c.h"
#include "base/hash.h"

static const uint32_t segment_magic = 0x53574b52; /* "RKWS" */
static const uint32_t batch_magic = 0x42574b52;   /* "RKWB" */
static const uint32_t id_magic = 0x49574b52;      /* "RKWI" */

uint32_t rk_wal_salt(uint64_t id, uint64_t sequence)
{
    uint8_t bytes[16];
    rk_put_u64(bytes, id);
    rk_put_u64(bytes + 8, sequence);
    return (uint32_t)rk_hash(rk_slice_of(bytes, sizeof(bytes)));
}

void rk_wal_segment_head_encode(uint8_t out[RK_WAL_SEGMENT_HEAD],
                                const struct rk_wal_segment_head *head)
{
    memset(out, 0, RK_WAL_SEGMENT_HEAD);
    rk_put_u32(out, segment_magic);
    rk_put_u32(out + 8, RK_WAL_VERSION);
    rk_put_u64(out + 16, head->id);
    rk_put_u64(out + 24, head->sequence);
    rk_put_u64(out + 32, head->first_batch);
    rk_put_u32(out + 4, rk_crc32c(0, out + 8, RK_WAL_SEGMENT_HEAD - 8));
}

enum rk_status rk_wal_segment_head_decode(struct rk_wal_segment_head *out,
                                          uint32_t *out_version,
                                          const uint8_t bytes[RK_WAL_SEGMENT_HEAD])
{
    if (rk_take_u32(bytes) != segment_magic) return RK_ENOENT;
    *out_version = rk_take_u32(bytes + 8);
    uint32_t crc = rk_crc32c(0, bytes + 8, RK_WAL_SEGMENT_HEAD - 8);
    if (rk_take_u32(bytes + 4) != crc) return RK_ENOENT;
    if (*out_version != RK_WAL_VERSION) return RK_EPROTO;
    out->id = rk_take_u64(bytes + 16);
    out->sequence = rk_take_u64(bytes + 24);
    out->first_batch = rk_take_u64(bytes + 32);
    return RK_OK;
}

void rk_wal_id_encode(uint8_t out[RK_WAL_ID_SIZE], uint64_t id)
{
    memset(out, 0, RK_WAL_ID_SIZE);
    rk_put_u32(out, id_magic);
    rk_put_u32(out + 8, RK_WAL_VERSION);
    rk_put_u64(out + 16, id);
    rk_put_u32(out + 4, rk_crc32c(0, out + 8, RK_WAL_ID_SIZE - 8));
}

enum rk_status rk_wal_id_decode(uint64_t *out, uint32_t *out_version, struct rk_slice bytes)
{
    if (bytes.size < RK_WAL_ID_SIZE || rk_take_u32(bytes.data) != id_magic)
        return RK_ECORRUPT;
    uint32_t crc = rk_crc32c(0, bytes.data + 8, RK_WAL_ID_SIZE - 8);
    if (rk_take_u32(bytes.data + 4) != crc) return RK_ECORRUPT;
    *out_version = rk_take_u32(bytes.data + 8);
    if (*out_version != RK_WAL_VERSION) return RK_EPROTO;
    *out = rk_take_u64(bytes.data + 16);
    return RK_OK;
}

void rk_wal_batch_seal(uint8_t *bytes, const struct rk_wal_batch_head *head, uint32_t salt)
{
    rk_put_u32(bytes, batch_magic);
    rk_put_u64(bytes + 8, head->sequence);
    rk_put_u64(bytes + 16, head->durable);
    rk_put_u64(bytes + 24, head->oldest);
    rk_put_u32(bytes + 32, head->size);
    rk_put_u32(bytes + 36, head->count);
    rk_put_u32(bytes + 40, head->flags);
    rk_put_u32(bytes + 44, rk_crc32c(salt, bytes + 8, 36));
    rk_put_u32(bytes + 4,
               rk_crc32c(salt, bytes + 8, RK_WAL_BATCH_HEAD - 8 + (size_t)head->size));
}

bool rk_wal_batch_head_parse(struct rk_wal_batch_head *out, struct rk_slice bytes,
                             uint32_t salt)
{
    if (bytes.size < RK_WAL_BATCH_HEAD || rk_take_u32(bytes.data) != batch_magic)
        return false;
    if (rk_take_u32(bytes.data + 44) != rk_crc32c(salt, bytes.data + 8, 36)) return false;
    out->sequence = rk_take_u64(bytes.data + 8);
    out->durable = rk_take_u64(bytes.data + 16);
    out->oldest = rk_take_u64(bytes.data + 24);
    out->size = rk_take_u32(bytes.data + 32);
    out->count = rk_take_u32(bytes.data + 36);
    out->flags = rk_take_u32(bytes.data + 40);
    return true;
}

bool rk_wal_batch_parse(struct rk_wal_batch_head *out, struct rk_slice bytes, uint32_t salt)
{
    /* First the head alone: its size field is trusted for the CRC over the records. */
    if (!rk_wal_batch_head_parse(out, bytes, salt)) return false;
    if (out->size > bytes.size - RK_WAL_BATCH_HEAD) return false;
    uint32_t crc =
        rk_crc32c(salt, bytes.data + 8, RK_WAL_BATCH_HEAD - 8 + (size_t)out->size);
    return rk_take_u32(bytes.data + 4) == crc;
}

void rk_wal_record_write(struct rk_buf *buf, const struct rk_wal_record *record)
{
    rk_buf_u8(buf, (uint8_t)record->kind);
    rk_buf_varint(buf, record->group);
    switch (record->kind) {
    case RK_WAL_ENTRY:
        rk_buf_varint(buf, record->index);
        rk_buf_varint(buf, record->term);
        rk_buf_u8(buf, record->type);
        rk_buf_blob(buf, record->blob);
        break;
    case RK_WAL_HARD:
        rk_buf_varint(buf, record->term);
        rk_buf_varint(buf, record->vote);
        rk_buf_varint(buf, record->commit);
        break;
    case RK_WAL_TRUNCATE:
    case RK_WAL_LAST: rk_buf_varint(buf, record->index); break;
    case RK_WAL_COMPACT:
        rk_buf_varint(buf, record->index);
        rk_buf_varint(buf, record->term);
        break;
    case RK_WAL_MARK:
    case RK_WAL_INSTALL:
        rk_buf_varint(buf, record->index);
        rk_buf_varint(buf, record->term);
        rk_buf_blob(buf, record->blob);
        break;
    case RK_WAL_META:
    case RK_WAL_NODE: rk_buf_blob(buf, record->blob); break;
    }
}

bool rk_wal_record_read(struct rk_reader *reader, struct rk_wal_record *out)
{
    *out = (struct rk_wal_record){.kind = (enum rk_wal_kind)rk_read_u8(reader)};
    uint64_t group = rk_read_varint(reader);
    if (group >= RK_WAL_GROUPS_MAX) return false;
    out->group = (uint32_t)group;
    switch (out->kind) {
    case RK_WAL_ENTRY:
        out->index = rk_read_varint(reader);
        out->term = rk_read_varint(reader);
        out->type = rk_read_u8(reader);
        out->blob = rk_read_blob(reader);
        out->count = 1;
        break;
    case RK_WAL_HARD:
        out->term = rk_read_varint(reader);
        out->vote = rk_read_varint(reader);
        out->commit = rk_read_varint(reader);
        break;
    case RK_WAL_TRUNCATE:
    case RK_WAL_LAST: out->index = rk_read_varint(reader); break;
    case RK_WAL_COMPACT:
        out->index = rk_read_varint(reader);
        out->term = rk_read_varint(reader);
        break;
    case RK_WAL_MARK:
    case RK_WAL_INSTALL:
        out->index = rk_read_varint(reader);
        out->term = rk_read_varint(reader);
        out->blob = rk_read_blob(reader);
        break;
    case RK_WAL_META:
    case RK_WAL_NODE: out->blob = rk_read_blob(reader); break;
    default: return false;
    }
    return !reader->is_failed;
}
