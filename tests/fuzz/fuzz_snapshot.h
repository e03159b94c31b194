/* fuzz_snapshot.h - the snapshot of the target fuzz_snapshot, as its corpus names it. */
#ifndef RK_TESTS_FUZZ_FUZZ_SNAPSHOT_H
#define RK_TESTS_FUZZ_FUZZ_SNAPSHOT_H

enum { FUZZ_SNAPSHOT_GROUP = 3, FUZZ_SNAPSHOT_INDEX = 100, FUZZ_SNAPSHOT_TERM = 7 };
#endif
