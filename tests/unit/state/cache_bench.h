/* cache_bench.h - the calls on caches that their tests are made of. */
#ifndef RK_TESTS_CACHE_BENCH_H
#define RK_TESTS_CACHE_BENCH_H

#include "data_bench.h"

struct rk_request c_key_request(enum rk_op op, const char *key);
struct rk_request c_put_request(const char *key, const char *value);
uint64_t c_put(struct bench *bench, const char *key, const char *value);
const struct rk_reply *c_get(struct bench *bench, const char *key);
void c_expect(struct bench *bench, const char *key, const char *value);
struct rk_reply c_delete_key(struct bench *bench, const char *key);
struct rk_cache_stats c_stats(struct bench *bench);
void c_configure(struct bench *bench, uint64_t bytes_max, const char *policy);
/* What the leader does each 100 ms: the recency of its reads becomes an entry. */
uint32_t c_touch(struct bench *bench);
int cache_setup(void **state);
int cache_teardown(void **state);
#define CACHE_TEST(name) cmocka_unit_test_setup_teardown(name, cache_setup, cache_teardown)
#endif
