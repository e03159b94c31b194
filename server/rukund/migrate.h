/* migrate.h - `rukund migrate`: queues and caches go from one engine to the other, without
 * a cluster. A backup file stands for the embedded engine. */
#ifndef RK_RUKUND_MIGRATE_H
#define RK_RUKUND_MIGRATE_H

/* argv begins after the word. The process's exit code: 0 done, 1 refused or damaged, 2 not
 * reachable, not readable or wrong use. */
int rk_migrate_main(int argc, char *const *argv);
#endif
