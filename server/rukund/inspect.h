/* inspect.h - `rukund inspect`: prints and verifies a data folder, or a backup. */
#ifndef RK_RUKUND_INSPECT_H
#define RK_RUKUND_INSPECT_H

/* argv begins after the word "inspect". The process's exit code: 0 sound, 1 faults found,
 * 2 not readable or wrong use. */
int rk_inspect_main(int argc, char *const *argv);
#endif
