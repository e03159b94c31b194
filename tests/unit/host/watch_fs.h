/* watch_fs.h - a file system that tells when a file of a snapshot or backup is touched
 * where that is forbidden: on the loop, which a disk that hangs must never hold up. */
#ifndef RK_TEST_HOST_WATCH_FS_H
#define RK_TEST_HOST_WATCH_FS_H

#include "storage/fs.h"

struct watch_fs {
    struct rk_fs fs; /* to be used in place of inner */
    struct rk_fs *inner;
    bool is_forbidden;
    char found[160]; /* the first thing done while forbidden; "": none */
};

void watch_fs_init(struct watch_fs *watch, struct rk_fs *inner);
#endif
