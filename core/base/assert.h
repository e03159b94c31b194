/* assert.h - programmer errors end the process, in every build.
 *
 * Bytes from disk, peers and clients are input: they get a status, never an assertion. */
#ifndef RK_BASE_ASSERT_H
#define RK_BASE_ASSERT_H

#define RK_ASSERT(condition)                                                               \
    ((condition) ? (void)0 : rk_assert_failed(#condition, __FILE__, __LINE__))

/* Prints condition, place and a backtrace to stderr, then aborts. */
__attribute__((noreturn, cold)) void rk_assert_failed(const char *condition,
                                                      const char *file, int line);
#endif
