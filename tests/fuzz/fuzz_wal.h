/* fuzz_wal.h - the log of the target fuzz_wal, which its corpus is written as. */
#ifndef RK_TESTS_FUZZ_FUZZ_WAL_H
#define RK_TESTS_FUZZ_FUZZ_WAL_H

enum { FUZZ_WAL_ID = 0x1234, FUZZ_WAL_SEGMENT = 16384 };
#endif
