/* members.h - the member table: which nodes the cluster is wished to have.
 *
 * It stands in group 0 as the value of RK_OP_MEMBERS and changes by cluster.add, promote,
 * remove and replace. What each group's consensus makes of it is the leaders' work; a row
 * that leaves stays until no group counts on its number any more. Numbers are never used
 * twice. */
#ifndef RK_STATE_MEMBERS_H
#define RK_STATE_MEMBERS_H

#include "base/bytes.h"
#include "base/status.h"

enum {
    RK_MEMBER_TABLE_FORMAT = 2,
    RK_MEMBERS_NODES_MAX = 7, /* nodes that are wished for at a time */
    RK_MEMBERS_ROWS_MAX = 16, /* with those that leave */
    RK_MEMBERS_NAME_MAX = 64,
    RK_MEMBERS_ADDRESS_MAX = 255,
};

enum rk_member_wish { /* the numbers stand in logs and snapshots */
                      RK_MEMBER_VOTER = 0,
                      RK_MEMBER_LEARNER = 1,
                      RK_MEMBER_LEAVING = 2,
};

struct rk_member_row {
    uint64_t number;
    uint64_t disk; /* 0: no node has come under this number yet */
    uint8_t wish;  /* enum rk_member_wish */
    struct rk_slice name, peer, http, rpc;
};

struct rk_member_table {
    uint64_t version;     /* raised by each change */
    uint64_t next_number; /* all lower ones were given away */
    uint64_t birth_count; /* numbers 1 .. birth_count were the voters at birth */
    uint32_t count;
    struct rk_member_row rows[RK_MEMBERS_ROWS_MAX]; /* ascending numbers */
};

/* u8 format, varints version, next number, birth count, count; each row: varint number,
 * u64 disk, u8 wish, blobs name, peer, http, rpc. */
void rk_member_table_encode(struct rk_buf *out, const struct rk_member_table *table);
/* The rows' slices point into data. Format 1, written once at birth before nodes could come
 * and go, had rows without a wish and nothing before their count. RK_EPROTO: malformed.
 * RK_EUNSUPPORTED: a newer format. */
RK_MUST_CHECK enum rk_status rk_member_table_decode(struct rk_member_table *out,
                                                    struct rk_slice data);
/* The row of that name that does not leave; NULL: none. */
struct rk_member_row *rk_member_table_find(struct rk_member_table *table,
                                           struct rk_slice name);
/* The row of that number, also one that leaves; NULL: none. */
struct rk_member_row *rk_member_table_number(struct rk_member_table *table,
                                             uint64_t number);
void rk_member_table_drop(struct rk_member_table *table, uint64_t number);
/* A row, perhaps one that leaves, has that disk. */
bool rk_member_table_has_disk(const struct rk_member_table *table, uint64_t disk);
/* The number was given to a node that no longer has a row. */
bool rk_member_table_is_gone(struct rk_member_table *table, uint64_t number);
#endif
