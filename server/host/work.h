/* work.h - inside server/host: snapshots taken, sent, received and read from outside, and
 * the work on them that other threads do. Included by host_internal.h alone.
 *
 * While a job is under way what it works with is its thread's; its end comes back on the
 * loop, and is void there if what it was begun for has ended. */
#ifndef RK_HOST_WORK_H
#define RK_HOST_WORK_H

#include "base/bytes.h"
#include "raft/raft.h"
#include "state/machine.h"
#include "storage/backup.h"
#include "storage/snapshot.h"

struct rk_host;
struct rk_host_restore;
struct rk_group;
struct rk_member;
struct rk_wal_batch;

/* A snapshot's file that the transfer lane reads or writes for a while. What it was for may
 * end while a job is under way: what comes of that job is void then, and what is open is
 * closed before the file is used again. */
struct rk_host_file {
    struct rk_snapshot_source *source; /* at most one of both; neither while at work */
    struct rk_snapshot_sink *sink;
    uint64_t use;  /* counts what it was for; a job knows for which of these it was begun */
    bool is_busy;  /* a job is under way */
    bool is_stale; /* open for what has ended */
};

struct rk_snapshot_send {
    struct rk_member *to; /* NULL: none is sent */
    struct rk_host_file file;
    struct rk_buf message; /* the raft message, encoded */
    struct rk_snapshot_id id;
    uint64_t size; /* of the file; 0: it was not opened yet */
    uint64_t sent, acked;
    uint64_t moved_ms; /* boot time of the last progress */
    uint64_t again_ms; /* boot time before which it is not sent again */
    uint64_t read_ms;  /* boot time before which it is not read again */
};

enum rk_receive_state {
    RK_RECEIVE_NONE,
    RK_RECEIVING,
    RK_RECEIVE_COMPLETE,  /* all bytes are in the file */
    RK_RECEIVE_FINISHING, /* being verified, made durable and restored, perhaps elsewhere */
    RK_RECEIVE_STEPPED,   /* raft has the message, the machine waits for its verdict */
};

struct rk_snapshot_receive {
    struct rk_host_file file;
    struct rk_machine *machine; /* whole, waiting for raft */
    struct rk_buf message;
    struct rk_snapshot_id id;
    struct rk_member *from;
    uint64_t size;    /* of the whole file */
    uint64_t stored;  /* bytes that the file has, if it is open: these are acknowledged */
    uint64_t storing; /* bytes behind them that are on their way into it */
    struct rk_buf waiting; /* bytes behind those */
    bool is_open;          /* stored is known: a former attempt may have left some */
    uint64_t moved_ms;
    enum rk_receive_state state;
};

enum rk_work_lane {
    RK_LANE_TAKING,   /* the snapshot that is being taken */
    RK_LANE_TRANSFER, /* files on their way to and from others, in small pieces */
    RK_LANE_LONG,     /* what takes as long as a state is large */
};

enum rk_work_kind {
    RK_WORK_NONE,
    RK_WORK_CREATE,
    RK_WORK_WRITE,
    RK_WORK_FINISH,
    RK_WORK_ABORT,
    RK_WORK_READ,  /* opens the source first if it is not open */
    RK_WORK_STORE, /* likewise the sink; nothing else if there are no bytes */
    RK_WORK_CLOSE,
    RK_WORK_RECEIVED, /* and restored */
    RK_WORK_CLEAN,
    RK_WORK_FREE,
    RK_WORK_VERIFY,
    RK_WORK_RESTORE,
    RK_WORK_FORGET, /* the backup that was restored */
};

/* A backup that is being read from this node: one at a time. */
struct rk_host_backup {
    struct rk_backup_encoder *encoder; /* NULL: none */
    struct rk_host_file file;          /* the group's snapshot */
    struct rk_snapshot_id id;          /* its; index 0: not there yet */
    struct rk_buf piece;               /* read and not yet taken */
    uint64_t size, taken;              /* of the file; size 0: it was not opened yet */
    enum rk_status status;             /* of reading it */
    char why[256];
    uint64_t request; /* read round under way; 0: none */
    uint64_t asked_ms, moved_ms, read_ms;
    uint64_t index; /* that the snapshot must contain */
    uint32_t group;
    bool is_confirmed;
    char program[RK_BACKUP_TEXT_MAX];
};

enum rk_transfer {
    RK_TRANSFER_SEND,
    RK_TRANSFER_RECEIVE,
    RK_TRANSFER_BACKUP,
};

/* While the work is under way all but the first part is its thread's. */
struct rk_host_work {
    enum rk_work_lane lane;
    bool is_busy;
    struct rk_host_file *file; /* transfer lane: which one, */
    uint64_t use;              /* for what, as of the start, */
    enum rk_transfer transfer; /* and whose it is */
    uint32_t at;               /* of the send in its group */

    enum rk_work_kind kind;
    bool is_urgent; /* WRITE: others wait for it */
    enum rk_status status;
    struct rk_fs *fs;
    const char *dir;
    struct rk_snapshot_id id;
    const struct rk_group *group;
    struct rk_snapshot_file *taken;
    struct rk_snapshot_source *source;
    struct rk_snapshot_sink *sink;
    uint64_t offset, size;      /* of the bytes to be read or stored, or that were */
    uint64_t file_size;         /* of the source; of the sink, as of the end */
    struct rk_machine *machine; /* restored, or to be freed */
    struct rk_host_restore *restore;
    struct rk_snapshot_block block;
    struct rk_storage_error error;
};

enum { RK_HOST_BLOCKS = 8 }; /* of a snapshot, waiting for the disk */

enum rk_taking_state {
    RK_TAKING_NONE,
    RK_TAKING_RECORDS,
    RK_TAKING_ENDING, /* given up: what it left is removed */
};

struct rk_snapshot_taking { /* one a node at a time */
    enum rk_taking_state state;
    struct rk_group *group;
    struct rk_snapshot_id id;
    struct rk_raft_conf_state conf; /* as of id.index */
    struct rk_snapshot_encoder encoder;
    struct rk_buf ready[RK_HOST_BLOCKS]; /* blocks that wait for the disk: a ring */
    uint32_t ready_at, ready_count;
    bool is_encoded;                       /* all records are in blocks */
    bool has_machine;                      /* the machine still knows of it */
    struct rk_group *held;                 /* its entries wait for the snapshot; or NULL */
    uint64_t force_index;                  /* the log wants to be compacted up to here */
    uint64_t bytes_before, entries_before; /* since the mark before, as of id.index */
    uint64_t retry_ms;                     /* boot time before which none is begun */
};

/* work.c */
void rk_host_work_init(struct rk_host *host);
/* The lane's work to be filled in, NULL while there is one under way. */
struct rk_host_work *rk_host_work_idle(struct rk_host *host, enum rk_work_lane lane);
void rk_host_work_start(struct rk_host *host, struct rk_host_work *work,
                        enum rk_work_kind kind);
/* A job of the transfer lane with what is open of the file. */
void rk_host_file_start(struct rk_host *host, struct rk_host_file *file,
                        enum rk_work_kind kind);
/* What the file was used for has ended. */
void rk_host_file_end(struct rk_host_file *file);
/* Its memory goes: nothing is at work. */
void rk_host_file_close(struct rk_host_file *file);
void rk_host_work_close(struct rk_host *host);

/* snapshots.c */
void rk_host_snapshots_run(struct rk_host *host);
bool rk_host_snapshots_have_more(const struct rk_host *host);
/* Before entries are applied: those of a group whose snapshot is behind wait. */
void rk_host_snapshot_pace(struct rk_host *host);
void rk_host_snapshot_wish(struct rk_host *host, struct rk_group *group, uint64_t index);
void rk_host_snapshot_written(struct rk_host *host, const struct rk_wal_batch *batch);
void rk_host_snapshot_void(struct rk_host *host, const struct rk_group *group);
void rk_host_taken(struct rk_host *host, enum rk_work_kind kind); /* a job ended */
void rk_host_snapshots_close(struct rk_host *host);
enum rk_status rk_group_restore(const struct rk_group *group, struct rk_machine **out,
                                struct rk_snapshot_id id, struct rk_storage_error *error);

/* transfer.c */
void rk_group_snapshot_send(struct rk_group *group, const struct rk_raft_message *message);
void rk_group_sends_run(struct rk_group *group);
/* Begins jobs of the transfer lane; everything under way has its turn. */
void rk_host_transfers_run(struct rk_host *host);
void rk_group_chunk_read(struct rk_group *group, struct rk_host_work *work);
void rk_group_chunk_stored(struct rk_group *group, struct rk_host_work *work);
void rk_group_send_close(struct rk_group *group, struct rk_member *to);
void rk_snapshot_chunk_receive(struct rk_host *host, struct rk_member *from,
                               struct rk_slice body);
void rk_snapshot_ack_receive(struct rk_host *host, struct rk_member *from,
                             struct rk_slice body);
bool rk_group_receive_run(struct rk_group *group); /* true: there is more to do */
void rk_group_received(struct rk_group *group, struct rk_host_work *work);
/* How far the log may be compacted: to index, or less for a peer that is sent a snapshot or
 * catches up after one. Nobody is waited for beyond a log of size_max bytes. */
uint64_t rk_group_held_index(struct rk_group *group, uint64_t index, uint64_t size_max);
/* Raft took the snapshot: the machine waiting for it becomes the group's. */
enum rk_status rk_group_install(struct rk_group *group,
                                const struct rk_raft_snapshot *snapshot);
void rk_group_transfers_close(struct rk_group *group);

/* backup.c */
void rk_host_backup_confirmed(struct rk_host *host, const struct rk_raft_read_state *read);
bool rk_host_backup_start(struct rk_host *host); /* a job, if one is wanted */
void rk_host_backup_close(struct rk_host *host);
void rk_host_piece_read(struct rk_host *host, struct rk_host_work *work);
#endif
