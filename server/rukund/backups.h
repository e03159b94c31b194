/* backups.h - `rukund verify FILE` and `rukund restore FILE --data DIR`: work on a backup
 * without a cluster. */
#ifndef RK_RUKUND_BACKUPS_H
#define RK_RUKUND_BACKUPS_H

/* argv begins after the word. The process's exit code: 0 sound or done, 1 damaged, of a
 * newer version or refused, 2 not readable or wrong use. */
int rk_verify_main(int argc, char *const *argv);
int rk_restore_main(int argc, char *const *argv);
/* As verify, without the usage. */
int rk_backup_show(const char *path);
#endif
