/* Versions: behaviour rises by entries, and what is not known is refused and named. */
#include "world.h"

static struct rk_machine *new_machine_up_to(uint32_t version_max)
{
    struct rk_machine_options options = {.struct_size = sizeof(options),
                                         .version_max = version_max};
    struct rk_machine *machine = NULL;
    assert_int_equal(rk_machine_new(&machine, &options), RK_OK);
    return machine;
}

static void raise_entry(struct rk_buf *out, uint64_t version)
{
    struct rk_buf bytes;
    struct rk_request request = ask(RK_OP_MACHINE_VERSION);
    request.number = version;
    RK_SET(&request, NUMBER);
    rk_buf_init(&bytes);
    rk_request_encode(&bytes, &request);
    struct rk_command command = {.stamp_ms = START_MS, .request = rk_buf_slice(&bytes)};
    rk_buf_reset(out);
    rk_command_encode(out, &command);
    assert_int_equal(rk_buf_check(out), RK_OK);
    rk_buf_fini(&bytes);
}

/* However new the program: an old log begins with the behaviour that it was written with.
 */
static void test_behaviour_rises_by_entries_only(void **state)
{
    (void)state;
    struct rk_buf entry;
    char why[RK_MACHINE_WHY_SIZE];
    rk_buf_init(&entry);
    struct rk_machine *machine = new_machine_up_to(3);
    assert_int_equal(rk_machine_version(machine), RK_MACHINE_VERSION_FIRST);
    raise_entry(&entry, 3);
    assert_int_equal(rk_machine_apply(machine, 1, rk_buf_slice(&entry), NULL), RK_OK);
    assert_int_equal(rk_machine_version(machine), 3);
    raise_entry(&entry, 2);
    assert_int_equal(rk_machine_apply(machine, 2, rk_buf_slice(&entry), NULL), RK_OK);
    assert_int_equal(rk_machine_version(machine), 3); /* it never falls */
    raise_entry(&entry, 4);
    assert_int_equal(rk_machine_apply(machine, 3, rk_buf_slice(&entry), NULL),
                     RK_EUNSUPPORTED);
    rk_machine_explain_entry(machine, rk_buf_slice(&entry), why);
    assert_string_equal(why, "machine version 4; this program knows up to 3");
    rk_buf_fini(&entry);
    rk_machine_free(machine);
}

static void test_a_snapshot_carries_the_version(void **state)
{
    (void)state;
    struct rk_buf entry, stream;
    char why[RK_MACHINE_WHY_SIZE];
    rk_buf_init(&entry);
    rk_buf_init(&stream);
    struct rk_machine *machine = new_machine_up_to(2);
    raise_entry(&entry, 2);
    assert_int_equal(rk_machine_apply(machine, 1, rk_buf_slice(&entry), NULL), RK_OK);
    world_snapshot(machine, &stream);
    struct rk_reader reader;
    rk_reader_init(&reader, rk_buf_slice(&stream));
    struct rk_slice record = rk_read_blob(&reader);
    struct rk_machine *same = new_machine_up_to(2), *older = new_machine_up_to(1);
    assert_int_equal(rk_machine_restore(same, record), RK_OK);
    assert_int_equal(rk_machine_restore_finish(same, 1), RK_OK);
    assert_int_equal(rk_machine_version(same), 2);
    assert_int_equal(rk_machine_restore(older, record), RK_EUNSUPPORTED);
    rk_machine_explain_record(older, record, why);
    assert_string_equal(why, "machine version 2; this program knows up to 1");
    rk_machine_explain_record(same, record, why);
    assert_string_equal(why, "");
    rk_machine_explain_record(same, text("\x3f"), why);
    assert_string_equal(why, "record kind 63; this program has none");
    rk_machine_explain_record(same, text("\x01\x09"), why);
    assert_string_equal(why, "record version 9; this program knows up to 1");
    rk_buf_fini(&entry);
    rk_buf_fini(&stream);
    rk_machine_free(machine);
    rk_machine_free(same);
    rk_machine_free(older);
}

static void explain_command(struct rk_slice request, char why[RK_MACHINE_WHY_SIZE])
{
    struct rk_machine *machine = new_machine_up_to(0);
    struct rk_command command = {.stamp_ms = START_MS, .request = request};
    struct rk_buf data;
    rk_buf_init(&data);
    rk_command_encode(&data, &command);
    rk_machine_explain_entry(machine, rk_buf_slice(&data), why);
    enum rk_status status = rk_machine_apply(machine, 1, rk_buf_slice(&data), NULL);
    assert_int_equal(status == RK_EUNSUPPORTED, why[0] != '\0');
    rk_buf_fini(&data);
    rk_machine_free(machine);
}

static void test_what_is_not_known_is_named(void **state)
{
    (void)state;
    char why[RK_MACHINE_WHY_SIZE];
    struct rk_request release = ask_named(RK_OP_LOCK_RELEASE, "r", "o", 0);
    struct rk_buf good;
    rk_buf_init(&good);
    rk_request_encode(&good, &release);
    explain_command(rk_buf_slice(&good), why);
    assert_string_equal(why, "");

    good.data[3] |= 1u << RK_FIELD_KEY;
    explain_command(rk_buf_slice(&good), why);
    assert_string_equal(why, "operation 12 has a field that this program does not know");
    good.data[1] = RK_OP_LOCK_LIST; /* a read is no entry */
    explain_command(rk_buf_slice(&good), why);
    assert_string_equal(why, "operation 16; this program has none");
    good.data[1] = 126;
    explain_command(rk_buf_slice(&good), why);
    assert_string_equal(why, "operation 126; this program has none");
    good.data[0] = 2;
    explain_command(rk_buf_slice(&good), why);
    assert_string_equal(why, "request version 2; this program knows up to 1");
    struct rk_request members = ask(RK_OP_MEMBERS);
    members.value = (struct rk_value){text("\x09table"), RK_ENCODING_RAW};
    RK_SET(&members, VALUE);
    rk_buf_reset(&good);
    rk_request_encode(&good, &members);
    explain_command(rk_buf_slice(&good), why);
    assert_string_equal(why, "member table version 9; this program knows up to 2");
    rk_buf_fini(&good);

    struct rk_machine *machine = new_machine_up_to(0);
    rk_machine_explain_entry(machine, text("\x09zzz"), why);
    assert_string_equal(why, "command version 9; this program knows up to 1");
    rk_machine_explain_entry(machine, RK_SLICE_EMPTY, why);
    assert_string_equal(why, "");
    rk_machine_free(machine);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_behaviour_rises_by_entries_only),
        cmocka_unit_test(test_a_snapshot_carries_the_version),
        cmocka_unit_test(test_what_is_not_known_is_named),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
