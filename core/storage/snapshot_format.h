/* snapshot_format.h - the bytes of a snapshot file: a chain of blocks. Private to storage.
 * docs/storage-format.md is the document of this code. */
#ifndef RK_STORAGE_SNAPSHOT_FORMAT_H
#define RK_STORAGE_SNAPSHOT_FORMAT_H

#include "storage/snapshot.h"

enum rk_snapshot_kind {
    RK_SNAPSHOT_HEADER = 1,
    RK_SNAPSHOT_RECORDS = 2,
    RK_SNAPSHOT_END = 3,
    RK_SNAPSHOT_BACKUP = 4,     /* of a backup: its header, */
    RK_SNAPSHOT_BACKUP_END = 5, /* and its end; see backup.c */
};

enum {
    RK_SNAPSHOT_BLOCK_HEAD = 24,
    /* A block is closed when it has reached its size; one record may carry it beyond. */
    RK_SNAPSHOT_BLOCK_MAX = RK_SNAPSHOT_BLOCK_SIZE + RK_SNAPSHOT_RECORD_MAX + 64,
    RK_SNAPSHOT_END_SIZE = 24,
};

struct rk_snapshot_block_head {
    uint32_t crc;
    enum rk_snapshot_kind kind;
    uint32_t size;   /* bytes after the head */
    uint32_t count;  /* records */
    uint32_t number; /* of the block, from 0 */
};

/* Fills the head in front of head->size bytes; *chain goes in as the CRC of the block
 * before (0 for the first) and comes out as this one's. */
void rk_snapshot_seal(uint8_t *bytes, const struct rk_snapshot_block_head *head,
                      uint32_t *chain);
/* Takes the head apart. RK_ECORRUPT: not the head of a block, or a size out of bounds. */
RK_MUST_CHECK enum rk_status
rk_snapshot_head_read(struct rk_snapshot_block_head *out,
                      const uint8_t bytes[RK_SNAPSHOT_BLOCK_HEAD]);
/* The CRC of a whole block, head and payload, following chain. */
uint32_t rk_snapshot_crc(const uint8_t *bytes, size_t size, uint32_t chain);

/* What a file name says. */
enum rk_snapshot_suffix { RK_SNAPSHOT_FINAL, RK_SNAPSHOT_TMP, RK_SNAPSHOT_RECV };
bool rk_snapshot_name_parse(const char *name, struct rk_snapshot_id *out,
                            enum rk_snapshot_suffix *suffix);
/* dir/<name of id><suffix>. RK_ERANGE: too long. */
RK_MUST_CHECK enum rk_status rk_snapshot_path(char out[RK_FS_PATH_MAX], const char *dir,
                                              struct rk_snapshot_id id,
                                              enum rk_snapshot_suffix suffix);
/* As the reader's open, with the path given. */
RK_MUST_CHECK enum rk_status rk_snapshot_reader_open_path(struct rk_snapshot_reader **out,
                                                          struct rk_fs *fs,
                                                          const char *path,
                                                          struct rk_snapshot_id id,
                                                          struct rk_storage_error *error);
/* As the reader's open, of a snapshot that stands within a file. */
struct rk_snapshot_part {
    struct rk_snapshot_id id;
    uint64_t offset;
    uint64_t bytes; /* 0: from the start to the end of the file */
};
RK_MUST_CHECK enum rk_status
rk_snapshot_reader_open_part(struct rk_snapshot_reader **out, struct rk_fs *fs,
                             const char *path, const struct rk_snapshot_part *part,
                             struct rk_storage_error *error);
/* CRC32C of all bytes that were read; of the whole snapshot at its end. */
uint32_t rk_snapshot_reader_crc(const struct rk_snapshot_reader *reader);
/* As rk_snapshot_verify, with the path given. */
RK_MUST_CHECK enum rk_status rk_snapshot_verify_path(struct rk_fs *fs, const char *path,
                                                     struct rk_snapshot_id id,
                                                     struct rk_snapshot_summary *out,
                                                     struct rk_storage_error *error);
#endif
