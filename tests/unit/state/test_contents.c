/* What a machine gives as contents, another one takes, and gives again. */
#include "base/alloc.h"
#include "queue_bench.h"
#include "state/contents.h"

#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

static struct rk_machine *machine_new(void)
{
    const struct rk_machine_options options = {.struct_size = sizeof(options), .group = 1};
    struct rk_machine *machine = NULL;
    assert_int_equal(rk_machine_new(&machine, &options), RK_OK);
    rk_machine_fill_begin(machine, 7, 1000);
    return machine;
}

/* --- as text: all but numbers, which are new -------------------------------------------
 */

static void show_slice(struct rk_buf *out, struct rk_slice slice)
{
    rk_buf_printf(out, " %zu:", slice.size);
    rk_buf_append(out, slice.data, slice.size);
}

static enum rk_status show(void *context, const struct rk_content *content)
{
    struct rk_buf *out = context;
    rk_buf_printf(out, "%d %d", content->kind, content->encoding);
    show_slice(out, content->name);
    show_slice(out, content->key);
    show_slice(out, content->value);
    if (content->kind == RK_CONTENT_TOPIC) {
        const struct rk_content_topic *topic = &content->topic;
        rk_buf_printf(out, " %" PRIu64 " %" PRIu64 " %" PRIu64 " %" PRIu64 " %d",
                      topic->visibility_ms, topic->deliveries_max, topic->published,
                      topic->delivered, topic->is_paused);
    } else if (content->kind == RK_CONTENT_MESSAGE) {
        const struct rk_content_message *message = &content->message;
        rk_buf_printf(out, " %" PRIu64 " %" PRIu64 " %u %u %u %d %d %d %d %d",
                      message->expires_at, message->delay, message->attempt,
                      message->deliveries, message->failures, message->priority,
                      message->unique_scope, message->is_delayed, message->is_absolute,
                      message->is_settled);
        show_slice(out, message->group);
        show_slice(out, message->unique_key);
    } else if (content->kind == RK_CONTENT_WINDOW) {
        rk_buf_printf(out, " %" PRIu64 " %d", content->window.expires_at,
                      content->window.is_unique);
    }
    rk_buf_u8(out, '\n');
    return RK_OK;
}

struct mover {
    struct rk_machine *to;
    uint64_t numbers[256]; /* by those in the machine from which they come */
};

static enum rk_status move(void *context, const struct rk_content *content)
{
    struct mover *mover = context;
    uint64_t number = 0;
    if (content->kind == RK_CONTENT_WINDOW) number = mover->numbers[content->window.number];
    enum rk_status status = rk_machine_fill(mover->to, content, &number);
    if (content->kind == RK_CONTENT_MESSAGE)
        mover->numbers[content->message.number] = number;
    return status;
}

/* --- tests ------------------------------------------------------------------------------
 */

static void fill_queues(struct bench *bench)
{
    id_text first, second;
    q_put(bench, "plain");
    q_put(bench, "other");
    (void)q_publish(bench, "t", "grouped",
                    (struct rk_message_in){.group = text_slice("g"), .priority = 3});
    (void)q_publish(bench, "t", "later", (struct rk_message_in){.delay_ms = 5000});
    (void)q_publish(bench, "t", "at",
                    (struct rk_message_in){.deliver_at = bench->now + 90000});
    (void)q_publish(bench, "t", "short", (struct rk_message_in){.ttl_ms = 80000});
    (void)q_publish(bench, "t", "named",
                    (struct rk_message_in){.publish_id = text_slice("p")});
    (void)q_publish(bench, "u", "keyed",
                    (struct rk_message_in){.unique_key = text_slice("k"),
                                           .unique_scope = RK_UNIQUE_ACKED});
    (void)q_publish(bench, "u", "window",
                    (struct rk_message_in){.unique_key = text_slice("w"),
                                           .unique_scope = RK_UNIQUE_WINDOW});
    q_take(bench, "t", "grouped", first);
    q_take(bench, "t", "plain", second);
    assert_int_equal(q_nack_after(bench, first, 0), RK_OK);
    assert_int_equal(q_simple(bench, RK_OP_QUEUE_PAUSE, "u"), RK_OK);
}

static void test_what_is_given_is_taken(void **state)
{
    struct bench *bench = *state;
    struct mover mover = {.to = machine_new()};
    struct rk_buf before, after;
    rk_buf_init(&before);
    rk_buf_init(&after);
    fill_queues(bench);
    bench_pass_dead(bench, 1000);
    /* In flight it would count as handed out: nobody acknowledges it any more. */
    struct rk_machine *from = bench->machine;
    assert_int_equal(rk_machine_contents(from, move, &mover), RK_OK);
    assert_int_equal(rk_machine_contents(from, show, &before), RK_OK);
    assert_int_equal(rk_machine_contents(mover.to, show, &after), RK_OK);
    assert_int_equal(before.size, after.size);
    assert_memory_equal(before.data, after.data, before.size);
    assert_true(rk_machine_ready_count(mover.to, text_slice("t")) >
                rk_machine_ready_count(from, text_slice("t")));
    rk_buf_fini(&before);
    rk_buf_fini(&after);
    rk_machine_free(mover.to);
}

static void test_what_does_not_fit_is_refused(void **state)
{
    (void)state;
    struct rk_machine *machine = machine_new();
    uint64_t number = 0;
    struct rk_content content = {.kind = RK_CONTENT_MESSAGE,
                                 .name = text_slice("t"),
                                 .value = text_slice("1"),
                                 .encoding = RK_ENCODING_JSON};
    assert_int_equal(rk_machine_fill(machine, &content, &number), RK_ERANGE);
    content.kind = RK_CONTENT_WINDOW;
    assert_int_equal(rk_machine_fill(machine, &content, &number), RK_ERANGE);
    content.kind = RK_CONTENT_ENTRY;
    assert_int_equal(rk_machine_fill(machine, &content, &number), RK_ERANGE);
    content.kind = RK_CONTENT_TOPIC;
    memset(&content.topic, 0, sizeof(content.topic));
    assert_int_equal(rk_machine_fill(machine, &content, &number), RK_OK);
    content.kind = RK_CONTENT_MESSAGE;
    memset(&content.message, 0, sizeof(content.message));
    content.message.priority = 10;
    assert_int_equal(rk_machine_fill(machine, &content, &number), RK_ERANGE);
    content.message.priority = 9;
    content.message.unique_scope = 77;
    assert_int_equal(rk_machine_fill(machine, &content, &number), RK_ERANGE);
    content.message.unique_scope = 0;
    assert_int_equal(rk_machine_fill(machine, &content, &number), RK_OK);
    assert_int_equal(rk_machine_ready_count(machine, text_slice("t")), 1);
    rk_machine_free(machine);
}

static enum rk_status bound_of(void *context, const struct rk_content *content)
{
    if (content->kind == RK_CONTENT_CACHE) *(uint64_t *)context = content->cache.bytes_max;
    return RK_OK;
}

static void test_a_cache_grows_with_what_comes(void **state)
{
    (void)state;
    enum { SIZE = 9 << 20 };
    struct rk_machine *machine = machine_new();
    uint64_t number = 0, bound = 0;
    uint8_t *bytes = rk_calloc(1, SIZE);
    assert_non_null(bytes);
    struct rk_content content = {.kind = RK_CONTENT_CACHE, .name = text_slice("c")};
    assert_int_equal(rk_machine_fill(machine, &content, &number), RK_OK);
    assert_int_equal(rk_machine_contents(machine, bound_of, &bound), RK_OK);
    assert_int_equal(bound, 0);
    content.kind = RK_CONTENT_ENTRY;
    content.key = text_slice("k");
    content.value = rk_slice_of(bytes, SIZE);
    content.encoding = RK_ENCODING_RAW;
    content.entry = (struct rk_content_entry){.version = 5};
    assert_int_equal(rk_machine_fill(machine, &content, &number), RK_OK);
    assert_int_equal(rk_machine_contents(machine, bound_of, &bound), RK_OK);
    assert_true(bound >= UINT64_C(8) * SIZE);
    rk_free(bytes);
    rk_machine_free(machine);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        QUEUE_TEST(test_what_is_given_is_taken),
        cmocka_unit_test(test_what_does_not_fit_is_refused),
        cmocka_unit_test(test_a_cache_grows_with_what_comes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
