/* wal_format.h - the bytes of the write-ahead log: segment heads, batch heads, records.
 * docs/storage-format.md is the document of this code. Private to storage. */
#ifndef RK_STORAGE_WAL_FORMAT_H
#define RK_STORAGE_WAL_FORMAT_H

#include "storage/wal.h"

enum {
    RK_WAL_SECTOR = 512,        /* batches begin at multiples of it */
    RK_WAL_BATCH_HEAD = 48,     /* bytes before the records */
    RK_WAL_SEGMENT_HEAD = 512,  /* bytes before the first batch */
    RK_WAL_ID_SIZE = 32,        /* of the file "id" */
    RK_WAL_RECORD_OVERHEAD = 40 /* most that a record needs beyond its bytes */
};

enum rk_wal_kind {
    RK_WAL_ENTRY = 1,
    RK_WAL_HARD = 2,
    RK_WAL_TRUNCATE = 3,
    RK_WAL_COMPACT = 4,
    RK_WAL_MARK = 5,
    RK_WAL_INSTALL = 6,
    RK_WAL_META = 7,
    RK_WAL_NODE = 8,
    RK_WAL_LAST = 9, /* only in a segment's opening batch */
};

/* Any record; fields that its kind does not have are 0. */
struct rk_wal_record {
    enum rk_wal_kind kind;
    uint32_t group;
    uint64_t index; /* entry, truncate (from), compact, mark, install, last */
    uint64_t term;
    uint64_t vote;
    uint64_t commit;
    uint32_t count; /* entry: a run of so many from index on; 1 when read */
    uint8_t type;   /* entry */
    struct rk_slice blob;
};

/* The head of a segment. */
struct rk_wal_segment_head {
    uint64_t id; /* of the log */
    uint64_t sequence;
    uint64_t first_batch;
};

enum { RK_WAL_FLAG_OPENING = 1 }; /* the batch states all groups, nothing new */

struct rk_wal_batch_head {
    uint64_t sequence;
    uint64_t durable; /* the last batch known durable when this one was written */
    uint64_t oldest;  /* the oldest segment that recovery needs */
    uint32_t size;    /* bytes of records */
    uint32_t count;   /* records */
    uint32_t flags;
};

/* The start value of a batch's CRC in this life of a segment file. */
uint32_t rk_wal_salt(uint64_t id, uint64_t sequence);

void rk_wal_segment_head_encode(uint8_t out[RK_WAL_SEGMENT_HEAD],
                                const struct rk_wal_segment_head *head);
/* RK_ENOENT: no head, or a damaged one. RK_EPROTO: of another version, given in
 * *out_version. */
RK_MUST_CHECK enum rk_status
rk_wal_segment_head_decode(struct rk_wal_segment_head *out, uint32_t *out_version,
                           const uint8_t bytes[RK_WAL_SEGMENT_HEAD]);

void rk_wal_id_encode(uint8_t out[RK_WAL_ID_SIZE], uint64_t id);
/* RK_ECORRUPT; RK_EPROTO with *out_version. */
RK_MUST_CHECK enum rk_status rk_wal_id_decode(uint64_t *out, uint32_t *out_version,
                                              struct rk_slice bytes);

/* Fills the head in front of head->size bytes of records; the CRC covers both. */
void rk_wal_batch_seal(uint8_t *bytes, const struct rk_wal_batch_head *head, uint32_t salt);
/* True if an undamaged head of that salt begins at bytes, whatever became of the records.
 */
bool rk_wal_batch_head_parse(struct rk_wal_batch_head *out, struct rk_slice bytes,
                             uint32_t salt);
/* True if a whole, undamaged batch of that salt begins at bytes. */
bool rk_wal_batch_parse(struct rk_wal_batch_head *out, struct rk_slice bytes,
                        uint32_t salt);
/* What it takes of the file: head, records, padding. */
static inline uint64_t rk_wal_batch_room(uint64_t size)
{
    return (RK_WAL_BATCH_HEAD + size + RK_WAL_SECTOR - 1) / RK_WAL_SECTOR * RK_WAL_SECTOR;
}

void rk_wal_record_write(struct rk_buf *buf, const struct rk_wal_record *record);
/* False: malformed. The blob points into the input. */
bool rk_wal_record_read(struct rk_reader *reader, struct rk_wal_record *out);
#endif
