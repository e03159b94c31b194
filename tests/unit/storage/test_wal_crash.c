/* Power failure at every file-system operation in turn: what was acknowledged is found
 * again, what was under way is there in full or not at all, and the log goes on. */
#include "driver.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>

enum { STEPS = 60 };

static void reopen(struct driver *driver, uint64_t seed, uint64_t at)
{
    struct rk_storage_error error = {.message = ""};
    enum rk_status status = driver_open(driver, &error);
    if (status != RK_OK)
        fail_msg("seed %llu, crash at %llu: %s", (unsigned long long)seed,
                 (unsigned long long)at, error.message);
}

/* How many operations the run makes when nothing fails. */
static uint64_t count_ops(uint64_t seed)
{
    struct driver driver;
    driver_init(&driver, seed);
    assert_int_equal(driver_open(&driver, NULL), RK_OK);
    for (int i = 0; i < STEPS; i++)
        assert_int_equal(driver_step(&driver), RK_OK);
    uint64_t count = rk_memfs_op_count(driver.memfs);
    driver_fini(&driver);
    return count;
}

static void crash_once(uint64_t seed, uint64_t at, enum rk_memfs_crash_mode mode)
{
    struct driver driver;
    driver_init(&driver, seed);
    rk_memfs_crash_at(driver.memfs, at);
    enum rk_status status = driver_open(&driver, NULL);
    for (int i = 0; status == RK_OK && i < STEPS; i++)
        status = driver_step(&driver);
    driver_close(&driver);
    rk_memfs_crash_at(driver.memfs, 0);
    rk_memfs_restart(driver.memfs, mode);
    reopen(&driver, seed, at);
    driver_check(&driver, true);
    for (int i = 0; i < 10; i++)
        assert_int_equal(driver_step(&driver), RK_OK);
    driver_close(&driver);
    rk_memfs_crash(driver.memfs, RK_MEMFS_CRASH_LOSE_ALL);
    reopen(&driver, seed, at);
    driver_check(&driver, false);
    driver_fini(&driver);
}

static void sweep(uint64_t from, uint64_t to, enum rk_memfs_crash_mode mode)
{
    for (uint64_t seed = from; seed < to; seed++) {
        uint64_t count = count_ops(seed);
        for (uint64_t at = 1; at <= count; at++)
            crash_once(seed, at, mode);
    }
}

static uint64_t seeds(void)
{
    const char *text = getenv("RK_SEEDS");
    return text == NULL ? 3 : strtoull(text, NULL, 10);
}

static void crash_random(void **state)
{
    (void)state;
    sweep(1, 1 + seeds(), RK_MEMFS_CRASH_RANDOM);
}

static void crash_lose_all(void **state)
{
    (void)state;
    sweep(100, 101, RK_MEMFS_CRASH_LOSE_ALL);
}

static void crash_keep_all(void **state)
{
    (void)state;
    sweep(200, 201, RK_MEMFS_CRASH_KEEP_ALL);
}

/* Crashes again and again on one disk, also during recovery. */
static void crash_often(void **state)
{
    (void)state;
    for (uint64_t seed = 300; seed < 300 + 4 * seeds(); seed++) {
        struct driver driver;
        driver_init(&driver, seed);
        for (int life = 0; life < 40; life++) {
            uint64_t ops = rk_memfs_op_count(driver.memfs);
            rk_memfs_crash_at(driver.memfs, ops + 1 + rk_random_below(&driver.random, 60));
            enum rk_status status = driver_open(&driver, NULL);
            if (status == RK_OK) driver_check(&driver, true);
            for (int i = 0; status == RK_OK && i < 25; i++)
                status = driver_step(&driver);
            driver_close(&driver);
            rk_memfs_crash_at(driver.memfs, 0);
            rk_memfs_restart(driver.memfs, RK_MEMFS_CRASH_RANDOM);
        }
        reopen(&driver, seed, 0);
        driver_check(&driver, true);
        driver_fini(&driver);
    }
}

/* Every batch frees all segments but the last, and no spare one is kept ready: each new
 * segment would like to take the file that the batch just before it has freed. */
static enum rk_status recycle_all(struct driver *driver)
{
    enum rk_status status = driver_open(driver, NULL);
    for (uint64_t i = 1; status == RK_OK && i <= 20; i++) {
        driver_append(driver, 0, 1, 1, 12000); /* one batch a segment */
        driver_hard(driver, 0, (struct rk_raft_hard_state){1, 0, i});
        driver_snapshot(driver, 0, i);
        status = driver_write(driver);
    }
    return status;
}

static void crash_while_recycling(void **state)
{
    (void)state;
    enum rk_status status = RK_EIO;
    for (uint64_t at = 1; status != RK_OK; at++) {
        struct driver driver;
        driver_init(&driver, at);
        rk_memfs_crash_at(driver.memfs, at);
        status = recycle_all(&driver);
        driver_close(&driver);
        rk_memfs_crash_at(driver.memfs, 0);
        rk_memfs_restart(driver.memfs, RK_MEMFS_CRASH_RANDOM);
        reopen(&driver, at, at);
        driver_check(&driver, true);
        driver_fini(&driver);
    }
}

/* Each operation in turn fails with EIO or ENOSPC: the log refuses to go on, and a restart
 * finds what was acknowledged. */
static void fail_each(void **state)
{
    (void)state;
    uint64_t count = count_ops(7);
    for (uint64_t at = 1; at <= count; at++) {
        struct driver driver;
        driver_init(&driver, 7);
        rk_memfs_fail_at(driver.memfs, at, at % 2 == 0 ? RK_EIO : RK_EFULL, false);
        enum rk_status status = driver_open(&driver, NULL);
        for (int i = 0; status == RK_OK && i < STEPS; i++)
            status = driver_step(&driver);
        if (status != RK_OK && driver.wal != NULL) {
            struct rk_wal_batch batch;
            rk_wal_batch_init(&batch);
            enum rk_status again = rk_wal_write(driver.wal, &batch, NULL);
            assert_true(again == RK_ECLOSED || (again == RK_OK && status == RK_EFULL));
            rk_wal_batch_fini(&batch);
        }
        driver_close(&driver);
        rk_memfs_fail_at(driver.memfs, 0, RK_OK, false);
        rk_memfs_crash(driver.memfs, RK_MEMFS_CRASH_RANDOM);
        reopen(&driver, 7, at);
        driver_check(&driver, true);
        driver_fini(&driver);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(crash_random),          cmocka_unit_test(crash_lose_all),
        cmocka_unit_test(crash_keep_all),        cmocka_unit_test(crash_often),
        cmocka_unit_test(crash_while_recycling), cmocka_unit_test(fail_each),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
