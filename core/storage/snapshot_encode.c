#include "base/assert.h"
#include "storage/snapshot_format.h"

/* Seals the block that begins at `at` and reaches to the end of bytes. */
static void seal(struct rk_snapshot_encoder *encoder, size_t at, enum rk_snapshot_kind kind,
                 uint32_t count)
{
    size_t size = encoder->bytes.size - at - RK_SNAPSHOT_BLOCK_HEAD;
    struct rk_snapshot_block_head head = {
        .kind = kind,
        .size = (uint32_t)size,
        .count = count,
        .number = encoder->block_count++,
    };
    rk_snapshot_seal(encoder->bytes.data + at, &head, &encoder->chain);
}

static void seal_open(struct rk_snapshot_encoder *encoder)
{
    if (!encoder->has_open) return;
    seal(encoder, encoder->open_at, RK_SNAPSHOT_RECORDS, encoder->open_records);
    encoder->has_open = false;
    encoder->open_records = 0;
}

static size_t begin(struct rk_snapshot_encoder *encoder)
{
    size_t at = encoder->bytes.size;
    uint8_t *head = rk_buf_extend(&encoder->bytes, RK_SNAPSHOT_BLOCK_HEAD);
    RK_ASSERT(head != NULL); /* every caller reserved */
    memset(head, 0, RK_SNAPSHOT_BLOCK_HEAD);
    return at;
}

static enum rk_status reserve(struct rk_snapshot_encoder *encoder, size_t size)
{
    if (rk_buf_reserve(&encoder->bytes, RK_SNAPSHOT_BLOCK_HEAD + size) == RK_OK)
        return RK_OK;
    encoder->bytes.is_failed = false;
    return RK_ENOMEM;
}

enum rk_status rk_snapshot_encoder_init(struct rk_snapshot_encoder *encoder,
                                        const struct rk_snapshot_header *header)
{
    *encoder = (struct rk_snapshot_encoder){0};
    if (header->conf.size > RK_SNAPSHOT_CONF_MAX) return RK_ESIZE;
    rk_buf_init(&encoder->bytes);
    if (reserve(encoder, header->conf.size + 64) != RK_OK) return RK_ENOMEM;
    size_t at = begin(encoder);
    rk_buf_u32(&encoder->bytes, RK_SNAPSHOT_VERSION);
    rk_buf_u32(&encoder->bytes, header->id.group);
    rk_buf_u64(&encoder->bytes, header->id.index);
    rk_buf_u64(&encoder->bytes, header->id.term);
    rk_buf_u64(&encoder->bytes, header->history);
    rk_buf_blob(&encoder->bytes, header->conf);
    seal(encoder, at, RK_SNAPSHOT_HEADER, 0);
    return RK_OK;
}

void rk_snapshot_encoder_fini(struct rk_snapshot_encoder *encoder)
{
    rk_buf_fini(&encoder->bytes);
    *encoder = (struct rk_snapshot_encoder){0};
}

enum rk_status rk_snapshot_encoder_add(struct rk_snapshot_encoder *encoder,
                                       struct rk_slice record)
{
    RK_ASSERT(!encoder->is_finished);
    if (record.size > RK_SNAPSHOT_RECORD_MAX) return RK_ESIZE;
    if (reserve(encoder, record.size + 16) != RK_OK) return RK_ENOMEM;
    if (encoder->has_open &&
        encoder->bytes.size - encoder->open_at >= RK_SNAPSHOT_BLOCK_SIZE)
        seal_open(encoder);
    if (!encoder->has_open) {
        encoder->open_at = begin(encoder);
        encoder->has_open = true;
    }
    rk_buf_blob(&encoder->bytes, record);
    encoder->open_records++;
    encoder->record_count++;
    encoder->record_bytes += record.size;
    return RK_OK;
}

bool rk_snapshot_encoder_is_full(const struct rk_snapshot_encoder *encoder)
{
    return encoder->bytes.size >= RK_SNAPSHOT_BLOCK_SIZE;
}

void rk_snapshot_encoder_take(struct rk_snapshot_encoder *encoder,
                              struct rk_snapshot_block *out)
{
    seal_open(encoder);
    out->bytes = encoder->bytes;
    rk_buf_init(&encoder->bytes);
}

enum rk_status rk_snapshot_encoder_finish(struct rk_snapshot_encoder *encoder)
{
    if (encoder->is_finished) return RK_OK;
    if (reserve(encoder, RK_SNAPSHOT_END_SIZE) != RK_OK) return RK_ENOMEM;
    seal_open(encoder);
    size_t at = begin(encoder);
    rk_buf_u64(&encoder->bytes, encoder->record_count);
    rk_buf_u64(&encoder->bytes, encoder->record_bytes);
    rk_buf_u64(&encoder->bytes, (uint64_t)encoder->block_count + 1);
    seal(encoder, at, RK_SNAPSHOT_END, 0);
    encoder->is_finished = true;
    return RK_OK;
}
