/* The store of locks against a server that answers what the test likes. A real Redis is in
 * tests/redis. */
#include "rukund/lock_store.h"

#include "client_world.h"

#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>

#include <cmocka.h>
#include <event2/event.h>
#include <stdio.h>
#include <string.h>

enum { LARGE = 30000 }; /* changes, of 2^20 arguments and more */

struct test {
    struct world world;
    struct rk_lock_store *store;
    const char *const *claims; /* what they are answered, in turn */
    uint32_t claim_count;
    uint32_t records, answers;
    enum rk_status status;
    struct rk_host_store_found found;
    char loss[128];
    char steps[128];     /* of the script, a letter each, those in a row once */
    const char *refused; /* the step that is answered "again" */
};
static struct test test;

static void on_record(void *context, uint64_t number, struct rk_slice record)
{
    (void)context;
    (void)number;
    assert_true(record.size > 0);
    test.records++;
}

static void on_loaded(void *context, const struct rk_host_store_answer *answer,
                      const struct rk_host_store_found *found)
{
    (void)context;
    test.answers++;
    test.status = answer->status;
    test.found = *found;
    (void)snprintf(test.loss, sizeof(test.loss), "%s",
                   found->loss != NULL ? found->loss : "");
}

static void on_stored(void *context, const struct rk_host_store_answer *answer)
{
    (void)context;
    test.answers++;
    test.status = answer->status;
}

static const char *cluster(void *context)
{
    (void)context;
    return "c1";
}

static const char *refusal(void *context)
{
    (void)context;
    return "";
}

static void note_step(const char *step)
{
    size_t size = strlen(test.steps);
    if (size > 0 && test.steps[size - 1] == step[0]) return;
    assert_true(size < sizeof(test.steps) - 1);
    test.steps[size] = step[0];
}

static void serve_step(struct fake_link *link, const char *text)
{
    static const char *const steps[] = {"write", "prepare", "begin", "stage",
                                        "apply", "commit",  "Views"};
    for (size_t i = 0; i < sizeof(steps) / sizeof(steps[0]); i++) {
        char word[16];
        (void)snprintf(word, sizeof(word), " %s 1 ", i == 6 ? "views" : steps[i]);
        if (strstr(text, word) == NULL) continue;
        note_step(steps[i]);
        bool is_refused = test.refused != NULL && strcmp(test.refused, steps[i]) == 0;
        fake_write(link, is_refused ? "*2\r\n$5\r\nagain\r\n$2\r\nno\r\n"
                                    : "*2\r\n$2\r\nok\r\n$5\r\ngo on\r\n");
        return;
    }
    fake_write(link, "-ERR what is that\r\n");
}

static void serve(struct fake_link *link, const char *text)
{
    if (strncmp(text, "HSCAN ", 6) == 0)
        fake_write(link, "*2\r\n$1\r\n0\r\n*4\r\n$3\r\n1:0\r\n$1\r\nx\r\n$4\r\n11:4\r\n"
                         "$1\r\ny\r\n");
    else if (strstr(text, " claim ") != NULL)
        fake_write(link, test.claims[test.claim_count++]);
    else
        serve_step(link, text);
}

static void begin(void)
{
    memset(&test, 0, sizeof(test));
    world_init(&test.world, "redis", "", serve);
    const struct rk_lock_store_options options = {
        .struct_size = sizeof(options),
        .redis = test.world.redis,
        .prefix = "p/",
        .io = {NULL, on_record, on_loaded, on_stored, cluster, refusal},
    };
    assert_int_equal(rk_lock_store_new(&test.store, &options), RK_OK);
}

static void end(void)
{
    rk_lock_store_free(test.store);
    world_fini(&test.world);
}

#define FOUND(seq, batch, count, loss)                                                     \
    "*6\r\n$2\r\nok\r\n$1\r\n" seq "\r\n$2\r\n" batch "\r\n$1\r\n9\r\n:" count "\r\n" loss
#define NO_LOSS "$0\r\n\r\n"
#define LOSS    "$8\r\nit is so\r\n"

static enum rk_status claim(const char *first, const char *second)
{
    const char *const claims[] = {first, second};
    const struct rk_host_store_claim asked = {
        .number = test.answers + 1, .term = 5, .history = 7, .marked = 4};
    test.claims = claims;
    test.claim_count = test.records = 0;
    rk_lock_store_claim(test.store, &asked);
    turn_until(&test.world, &test.answers, (uint32_t)asked.number);
    return test.status;
}

/* What was lost, or written, while it was read. */
static void test_a_claim_reads_one_state(void **state)
{
    (void)state;
    begin();
    const char *found = FOUND("5", "55", "2", NO_LOSS);
    assert_int_equal(claim(found, found), RK_OK);
    assert_int_equal(test.found.seq, 5);
    assert_int_equal(test.found.id, 55);
    assert_int_equal(test.found.index, 9);
    assert_string_equal(test.loss, "");
    assert_int_equal(test.records, 2);
    assert_int_equal(claim(found, FOUND("6", "55", "2", NO_LOSS)), RK_EUNAVAILABLE);
    assert_int_equal(claim(found, FOUND("5", "56", "2", NO_LOSS)), RK_EUNAVAILABLE);
    assert_int_equal(claim(found, FOUND("5", "55", "1", NO_LOSS)), RK_EUNAVAILABLE);
    assert_int_equal(claim(found, FOUND("5", "55", "2", LOSS)), RK_EUNAVAILABLE);
    found = FOUND("5", "55", "2", LOSS);
    assert_int_equal(claim(found, FOUND("5", "55", "2", NO_LOSS)), RK_EUNAVAILABLE);
    assert_int_equal(claim(found, found), RK_OK);
    assert_string_equal(test.loss, "it is so");
    /* With nothing to read there is nothing to compare. */
    assert_int_equal(claim(FOUND("0", "00", "0", LOSS), NULL), RK_OK);
    assert_string_equal(test.loss, "it is so");
    assert_int_equal(test.claim_count, 1);
    end();
}

static enum rk_status write_batch(uint32_t count, bool is_whole)
{
    static struct rk_host_store_change changes[LARGE];
    static struct rk_slice names[20];
    static const struct rk_lock_view view = {.name = RK_SLICE_LITERAL("r"),
                                             .owners = names,
                                             .waiters = names,
                                             .holder_count = 1,
                                             .owners_shown = 10,
                                             .waiters_shown = 20};
    const struct rk_host_store_batch batch = {.number = test.answers + 1,
                                              .is_whole = is_whole,
                                              .seq = 2,
                                              .id = 22,
                                              .changes = changes,
                                              .change_count = count};
    for (uint32_t i = 0; i < 20; i++)
        names[i] = RK_SLICE_LITERAL("alice");
    for (uint32_t i = 0; i < count; i++)
        changes[i] = (struct rk_host_store_change){
            .kind = 11,
            .id = i,
            .record = i % 10 == 0 ? RK_SLICE_EMPTY : RK_SLICE_LITERAL("lock"),
            .view = i % 10 == 0 ? NULL : &view};
    memset(test.steps, 0, sizeof(test.steps));
    rk_lock_store_write(test.store, &batch);
    turn_until(&test.world, &test.answers, (uint32_t)batch.number);
    return test.status;
}

/* A session that held tens of thousands of locks ends. */
static void test_a_large_batch_goes_in_parts(void **state)
{
    (void)state;
    begin();
    assert_int_equal(write_batch(1000, false), RK_OK);
    assert_string_equal(test.steps, "w");
    uint32_t commands = test.world.fake.commands;
    assert_int_equal(write_batch(LARGE, false), RK_OK);
    assert_string_equal(test.steps, "psaV");
    assert_true(test.world.fake.commands - commands > 10);
    assert_int_equal(write_batch(LARGE, true), RK_OK);
    assert_string_equal(test.steps, "bscV");
    /* What became of it is unknown: the same batch comes again. */
    for (int i = 0; i < 2; i++) {
        test.refused = i == 0 ? "stage" : "apply";
        assert_int_equal(write_batch(LARGE, false), RK_EUNAVAILABLE);
        assert_string_equal(test.steps, i == 0 ? "ps" : "psa");
    }
    end();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_claim_reads_one_state),
        cmocka_unit_test(test_a_large_batch_goes_in_parts),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
