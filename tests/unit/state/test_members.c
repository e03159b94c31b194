#include "world.h"

#include "state/members.h"

#include <stdio.h>

static struct rk_member_table table_of(struct world *world)
{
    struct rk_member_table table;
    assert_int_equal(rk_member_table_decode(&table, rk_machine_members(world->machine)),
                     RK_OK);
    return table;
}

static const struct rk_reply *set_table(struct world *world,
                                        const struct rk_member_table *table)
{
    struct rk_buf bytes;
    rk_buf_init(&bytes);
    rk_member_table_encode(&bytes, table);
    struct rk_request request = ask(RK_OP_MEMBERS);
    request.value = (struct rk_value){rk_buf_slice(&bytes), RK_ENCODING_RAW};
    RK_SET(&request, VALUE);
    const struct rk_reply *reply = world_call(world, "c", &request);
    rk_buf_fini(&bytes);
    return reply;
}

static struct rk_member_table birth_table(void)
{
    struct rk_member_table table = {
        .version = 1, .next_number = 4, .birth_count = 3, .count = 3};
    for (uint32_t i = 0; i < 3; i++)
        table.rows[i] = (struct rk_member_row){.number = i + 1, .disk = 100 + i};
    table.rows[0].name = text("n1");
    table.rows[1].name = text("n2");
    table.rows[2].name = text("n3");
    table.rows[2].peer = text("c:1");
    return table;
}

static struct world *open_members(void)
{
    struct world *world = world_open();
    struct rk_member_table table = birth_table();
    assert_int_equal(set_table(world, &table)->status, RK_OK);
    return world;
}

static enum rk_status change(struct world *world, enum rk_op op, const char *name,
                             const char *peer)
{
    struct rk_request request = ask(op);
    request.name = text(name);
    RK_SET(&request, NAME);
    if (peer != NULL) {
        request.peer = text(peer);
        RK_SET(&request, PEER);
    }
    return world_call(world, "c", &request)->status;
}

static void test_codec(void **state)
{
    (void)state;
    struct rk_member_table table = birth_table(), back;
    struct rk_buf bytes;
    rk_buf_init(&bytes);
    rk_member_table_encode(&bytes, &table);
    assert_int_equal(rk_member_table_decode(&back, rk_buf_slice(&bytes)), RK_OK);
    assert_int_equal(back.count, 3);
    assert_int_equal(back.rows[2].disk, 102);
    assert_text(back.rows[2].peer, "c:1");
    for (size_t size = 0; size < bytes.size; size++)
        assert_int_equal(rk_member_table_decode(&back, rk_slice_of(bytes.data, size)),
                         RK_EPROTO);
    /* Numbers ascend and were all given away; names are there. */
    table.rows[1].number = 3;
    rk_buf_reset(&bytes);
    rk_member_table_encode(&bytes, &table);
    assert_int_equal(rk_member_table_decode(&back, rk_buf_slice(&bytes)), RK_EPROTO);
    table = birth_table();
    table.next_number = 3;
    table.birth_count = 2;
    rk_buf_reset(&bytes);
    rk_member_table_encode(&bytes, &table);
    assert_int_equal(rk_member_table_decode(&back, rk_buf_slice(&bytes)), RK_EPROTO);
    table = birth_table();
    table.rows[0].name = RK_SLICE_EMPTY;
    rk_buf_reset(&bytes);
    rk_member_table_encode(&bytes, &table);
    assert_int_equal(rk_member_table_decode(&back, rk_buf_slice(&bytes)), RK_EPROTO);
    rk_buf_fini(&bytes);
}

static void test_before_birth_there_are_none(void **state)
{
    (void)state;
    struct world *world = world_open();
    assert_int_equal(rk_machine_members(world->machine).size, 0);
    assert_int_equal(change(world, RK_OP_CLUSTER_ADD, "n4", "d:1"), RK_EUNAVAILABLE);
    assert_int_equal(change(world, RK_OP_CLUSTER_REMOVE, "n1", NULL), RK_EUNAVAILABLE);
    struct rk_request request = ask(RK_OP_MEMBERS);
    request.value = (struct rk_value){text("\x02table"), RK_ENCODING_RAW};
    RK_SET(&request, VALUE);
    assert_int_equal(world_call(world, "c", &request)->status, RK_EINVAL);
    assert_int_equal(rk_machine_members(world->machine).size, 0);
    world_close(world);
}

/* What the first programs wrote: u8 1, varint count, rows without a wish. */
static void test_the_first_format(void **state)
{
    (void)state;
    struct rk_buf bytes;
    rk_buf_init(&bytes);
    rk_buf_u8(&bytes, 1);
    rk_buf_varint(&bytes, 2);
    for (uint64_t number = 1; number <= 2; number++) {
        rk_buf_varint(&bytes, number);
        rk_buf_u64(&bytes, 100 + number);
        rk_buf_blob(&bytes, number == 1 ? text("a") : text("b"));
        for (int i = 0; i < 3; i++)
            rk_buf_blob(&bytes, text("h:1"));
    }
    struct world *world = world_open();
    struct rk_request request = ask(RK_OP_MEMBERS);
    request.value = (struct rk_value){rk_buf_slice(&bytes), RK_ENCODING_RAW};
    RK_SET(&request, VALUE);
    assert_int_equal(world_call(world, "c", &request)->status, RK_OK);
    struct rk_member_table table = table_of(world);
    assert_int_equal(table.version, 1);
    assert_int_equal(table.birth_count, 2);
    assert_int_equal(table.rows[1].disk, 102);
    assert_int_equal(table.rows[1].wish, RK_MEMBER_VOTER);
    assert_int_equal(change(world, RK_OP_CLUSTER_ADD, "c", "h:2"), RK_OK);
    table = table_of(world);
    assert_int_equal(table.rows[2].number, 3);
    assert_int_equal(table.birth_count, 2);
    world_close(world);
    rk_buf_fini(&bytes);
}

static void test_a_table_only_follows_the_one_before(void **state)
{
    (void)state;
    struct world *world = open_members();
    assert_int_equal(world->ear.heard[0].kind, RK_EVENT_MEMBERS);
    struct rk_member_table table = birth_table();
    table.rows[0].disk = 7;
    assert_int_equal(set_table(world, &table)->status, RK_EVERSION);
    table.version = 3;
    assert_int_equal(set_table(world, &table)->status, RK_EVERSION);
    assert_int_equal(table_of(world).rows[0].disk, 100);
    table.version = 2;
    assert_int_equal(set_table(world, &table)->status, RK_OK);
    assert_int_equal(table_of(world).rows[0].disk, 7);
    world_close(world);
}

static void test_add_promote_remove(void **state)
{
    (void)state;
    struct world *world = open_members();
    assert_int_equal(change(world, RK_OP_CLUSTER_ADD, "n4", "d:1"), RK_OK);
    struct rk_member_table table = table_of(world);
    assert_int_equal(table.version, 2);
    assert_int_equal(table.count, 4);
    assert_int_equal(table.rows[3].number, 4);
    assert_int_equal(table.rows[3].disk, 0);
    assert_int_equal(table.rows[3].wish, RK_MEMBER_LEARNER);
    assert_text(table.rows[3].peer, "d:1");
    assert_int_equal(change(world, RK_OP_CLUSTER_ADD, "n4", "d:1"), RK_EEXIST);
    assert_int_equal(change(world, RK_OP_CLUSTER_ADD, "n/5", "d:1"), RK_ERANGE);
    assert_int_equal(change(world, RK_OP_CLUSTER_ADD, "n5", "d"), RK_ERANGE);
    assert_int_equal(change(world, RK_OP_CLUSTER_ADD, "n5", ":1"), RK_ERANGE);
    assert_int_equal(change(world, RK_OP_CLUSTER_PROMOTE, "n4", NULL), RK_OK);
    assert_int_equal(change(world, RK_OP_CLUSTER_PROMOTE, "n4", NULL), RK_OK);
    table = table_of(world);
    assert_int_equal(table.version, 3);
    assert_int_equal(table.rows[3].wish, RK_MEMBER_VOTER);
    assert_int_equal(change(world, RK_OP_CLUSTER_REMOVE, "n4", NULL), RK_OK);
    assert_int_equal(change(world, RK_OP_CLUSTER_REMOVE, "n4", NULL), RK_ENOENT);
    assert_int_equal(table_of(world).rows[3].wish, RK_MEMBER_LEAVING);
    /* The name is free again, the number never. */
    assert_int_equal(change(world, RK_OP_CLUSTER_ADD, "n4", "d:2"), RK_OK);
    table = table_of(world);
    assert_int_equal(table.rows[4].number, 5);
    assert_int_equal(rk_member_table_find(&table, text("n4"))->number, 5);
    rk_member_table_drop(&table, 4);
    assert_true(rk_member_table_is_gone(&table, 4));
    assert_false(rk_member_table_is_gone(&table, 5));
    assert_false(rk_member_table_is_gone(&table, 6));
    world_close(world);
}

static void test_the_last_voter_stays(void **state)
{
    (void)state;
    struct world *world = open_members();
    assert_int_equal(change(world, RK_OP_CLUSTER_REMOVE, "n1", NULL), RK_OK);
    assert_int_equal(change(world, RK_OP_CLUSTER_REMOVE, "n2", NULL), RK_OK);
    assert_int_equal(change(world, RK_OP_CLUSTER_REMOVE, "n3", NULL), RK_EINVAL);
    /* One that never came does not count. */
    assert_int_equal(change(world, RK_OP_CLUSTER_ADD, "n4", "d:1"), RK_OK);
    assert_int_equal(change(world, RK_OP_CLUSTER_PROMOTE, "n4", NULL), RK_OK);
    assert_int_equal(change(world, RK_OP_CLUSTER_REMOVE, "n3", NULL), RK_EINVAL);
    world_close(world);
}

static void test_replace(void **state)
{
    (void)state;
    struct world *world = open_members();
    assert_int_equal(change(world, RK_OP_CLUSTER_REPLACE, "n3", NULL), RK_OK);
    struct rk_member_table table = table_of(world);
    struct rk_member_row *row = rk_member_table_find(&table, text("n3"));
    assert_int_equal(row->number, 4);
    assert_int_equal(row->disk, 0);
    assert_int_equal(row->wish, RK_MEMBER_VOTER);
    assert_text(row->peer, "c:1");
    assert_int_equal(rk_member_table_number(&table, 3)->wish, RK_MEMBER_LEAVING);
    /* It has not come yet: it is still the same one that is awaited. */
    assert_int_equal(change(world, RK_OP_CLUSTER_REPLACE, "n3", "c:2"), RK_OK);
    table = table_of(world);
    assert_int_equal(table.count, 4);
    assert_text(rk_member_table_find(&table, text("n3"))->peer, "c:2");
    world_close(world);
}

static void test_bounds(void **state)
{
    (void)state;
    struct world *world = open_members();
    char name[8];
    for (int i = 4; i <= 7; i++) {
        snprintf(name, sizeof(name), "n%d", i);
        assert_int_equal(change(world, RK_OP_CLUSTER_ADD, name, "d:1"), RK_OK);
    }
    assert_int_equal(change(world, RK_OP_CLUSTER_ADD, "n8", "d:1"), RK_ELIMIT);
    for (int i = 0; table_of(world).count < RK_MEMBERS_ROWS_MAX; i++) {
        assert_int_equal(change(world, RK_OP_CLUSTER_REMOVE, "n7", NULL), RK_OK);
        if (table_of(world).count < RK_MEMBERS_ROWS_MAX)
            assert_int_equal(change(world, RK_OP_CLUSTER_ADD, "n7", "d:1"), RK_OK);
    }
    assert_int_equal(change(world, RK_OP_CLUSTER_REMOVE, "n7", NULL), RK_OK);
    assert_int_equal(change(world, RK_OP_CLUSTER_ADD, "n7", "d:1"), RK_ELIMIT);
    assert_int_equal(change(world, RK_OP_CLUSTER_REPLACE, "n1", NULL), RK_ELIMIT);
    world_close(world);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_codec),
        cmocka_unit_test(test_before_birth_there_are_none),
        cmocka_unit_test(test_the_first_format),
        cmocka_unit_test(test_a_table_only_follows_the_one_before),
        cmocka_unit_test(test_add_promote_remove),
        cmocka_unit_test(test_the_last_voter_stays),
        cmocka_unit_test(test_replace),
        cmocka_unit_test(test_bounds),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
