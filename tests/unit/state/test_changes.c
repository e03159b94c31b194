#include "world.h"

#include "base/alloc.h"
#include "base/random.h"

#include <stdlib.h>

/* A machine's records as a store keeps them: by kind and id, fed with what changed. */
enum { KEPT_MAX = 4096 };

struct kept {
    uint8_t kind;
    uint64_t id;
    struct rk_buf record;
};

struct store {
    struct kept kept[KEPT_MAX];
    uint32_t count;
    struct rk_buf changes;
};

static struct store *store_open(void)
{
    struct store *store = rk_calloc(1, sizeof(*store));
    assert_non_null(store);
    rk_buf_init(&store->changes);
    return store;
}

static void store_close(struct store *store)
{
    for (uint32_t i = 0; i < store->count; i++)
        rk_buf_fini(&store->kept[i].record);
    rk_buf_fini(&store->changes);
    rk_free(store);
}

static struct kept *find(struct store *store, const struct rk_machine_change *change)
{
    for (uint32_t i = 0; i < store->count; i++)
        if (store->kept[i].id == change->id && store->kept[i].kind == change->kind)
            return &store->kept[i];
    return NULL;
}

static void put(struct store *store, const struct rk_machine_change *change)
{
    struct kept *kept = find(store, change);
    if (change->record.size == 0) {
        if (kept == NULL) return; /* made and gone between two takes */
        rk_buf_fini(&kept->record);
        *kept = store->kept[--store->count];
        return;
    }
    if (kept == NULL) {
        assert_true(store->count < KEPT_MAX);
        kept = &store->kept[store->count++];
        kept->kind = change->kind;
        kept->id = change->id;
        rk_buf_init(&kept->record);
    }
    rk_buf_reset(&kept->record);
    rk_buf_append_slice(&kept->record, change->record);
    assert_int_equal(rk_buf_check(&kept->record), RK_OK);
}

static uint32_t take(struct store *store, struct rk_machine *machine)
{
    struct rk_machine_change change;
    struct rk_reader in;
    uint32_t count = 0;
    rk_buf_reset(&store->changes);
    assert_int_equal(rk_machine_changes_put(machine, &store->changes), RK_OK);
    rk_machine_changes_taken(machine);
    rk_reader_init(&in, rk_buf_slice(&store->changes));
    for (; rk_machine_change_read(&in, &change); count++)
        put(store, &change);
    assert_int_equal(rk_reader_check(&in, true), RK_OK);
    return count;
}

static int by_id(const void *a, const void *b)
{
    const struct kept *left = a, *right = b;
    return left->id < right->id ? -1 : left->id > right->id;
}

static struct rk_machine *restored(struct store *store, uint64_t index)
{
    struct rk_buf stream;
    rk_buf_init(&stream);
    qsort(store->kept, store->count, sizeof(store->kept[0]), by_id);
    for (uint32_t i = 0; i < store->count; i++)
        rk_buf_blob(&stream, rk_buf_slice(&store->kept[i].record));
    struct rk_machine *machine = world_restore(rk_buf_slice(&stream), index);
    rk_buf_fini(&stream);
    return machine;
}

static void compare(struct store *store, struct world *world)
{
    struct rk_machine *machine = restored(store, world->index);
    assert_int_equal(world_hash(machine), world_hash(world->machine));
    rk_machine_free(machine);
}

static struct world *fed_world(struct store **store)
{
    struct world *world = world_open();
    *store = store_open();
    world->restore_each = 0;
    assert_int_equal(rk_machine_changes_all(world->machine), RK_OK);
    return world;
}

static const char *sessions[4];

static void act(struct world *world, struct rk_random *random)
{
    static const char *owners[] = {"o1", "o2", "o3", "o4"};
    static const char *names[] = {"r1", "r2", "r3"};
    const char *owner = owners[rk_random_below(random, 4)];
    const char *name = names[rk_random_below(random, 3)];
    struct rk_resource_in items[] = {{text(name), (uint8_t)rk_random_below(random, 2)},
                                     {text("r4"), RK_MODE_EXCLUSIVE}};
    uint32_t which = (uint32_t)rk_random_below(random, 4);
    struct rk_request request;
    switch (rk_random_below(random, 12)) {
    case 0: sessions[which] = world_session(world, owner, 5000); return;
    case 1:
    case 2:
    case 3:
        request = ask_acquire(name, owner, (enum rk_mode)rk_random_below(random, 2),
                              rk_random_below(random, 3) * 20000);
        request.reentrant = rk_random_below(random, 3) == 0;
        request.lock_delay_ms = rk_random_below(random, 4) == 0 ? 3000 : 0;
        request.max_hold_ms = rk_random_below(random, 6) == 0 ? 50000 : 0;
        if (rk_random_below(random, 2) == 0 && sessions[which] != NULL) {
            request.session = text(sessions[which]);
            RK_SET(&request, SESSION);
        }
        break;
    case 4:
        request = ask(RK_OP_LOCK_ACQUIRE);
        request.resources = items;
        request.resource_count = 2;
        request.is_bulk = true;
        request.owner = text(owner);
        request.wait_ms = rk_random_below(random, 2) * 30000;
        break;
    case 5:
        request = ask_acquire("s", owner, RK_MODE_EXCLUSIVE, rk_random_below(random, 2));
        request.limit = 1 + rk_random_below(random, 3);
        RK_SET(&request, LIMIT);
        break;
    case 6: request = ask_cancel(owner, 1 + rk_random_below(random, world->seq + 1)); break;
    case 7: request = ask_named(RK_OP_LOCK_BREAK, name, NULL, 0); break;
    case 8: request = ask_named(RK_OP_LOCK_RENEW, name, owner, 0); break;
    case 9: (void)world_pass(world, rk_random_below(random, 4000)); return;
    default: request = ask_named(RK_OP_LOCK_RELEASE, name, owner, 0); break;
    }
    (void)world_send(world, owner, 0, &request);
    if (world->seq > 30) world->first = world->seq - 30;
}

/* However many entries lie between two takes. */
static void test_a_fed_store_restores_to_the_same(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 12; seed++) {
        struct rk_random random;
        struct store *store;
        rk_random_init(&random, seed);
        memset(sessions, 0, sizeof(sessions));
        struct world *world = fed_world(&store);
        for (int i = 0; i < 400; i++) {
            act(world, &random);
            world->ear.said_count = world->twin_ear.said_count = 0;
            world->ear.heard_count = world->twin_ear.heard_count = 0;
            if (rk_random_below(&random, 3) != 0) continue;
            (void)take(store, world->machine);
            compare(store, world);
        }
        (void)world_pass(world, 2 * RK_CLIENT_IDLE_MS);
        (void)world_pass(world, 2 * RK_CLIENT_IDLE_MS);
        (void)take(store, world->machine);
        compare(store, world);
        store_close(store);
        world_close(world);
    }
}

static void test_only_what_changed_is_said(void **state)
{
    (void)state;
    struct store *store;
    struct world *world = fed_world(&store);
    for (int i = 0; i < 20; i++)
        world_session(world, "c", 5000);
    assert_true(rk_machine_changes_count(world->machine) > 20);
    assert_true(take(store, world->machine) > 20);
    assert_int_equal(rk_machine_changes_count(world->machine), 0);
    assert_int_equal(take(store, world->machine), 1); /* the machine's own record */
    struct rk_request request = ask_acquire("r", "alice", RK_MODE_EXCLUSIVE, 0);
    assert_true(world_call(world, "c", &request)->granted);
    /* The machine, the client, the answer, the lock, the grant. */
    assert_int_equal(take(store, world->machine), 5);
    request = ask_named(RK_OP_LOCK_RENEW, "r", "alice", 0);
    assert_true(world_call(world, "c", &request)->renewed);
    assert_int_equal(take(store, world->machine), 4); /* the lock is as it was */
    compare(store, world);
    assert_int_equal(rk_machine_changes_all(world->machine), RK_OK);
    assert_int_equal(take(store, world->machine),
                     1 + rk_machine_object_count(world->machine));
    compare(store, world);
    store_close(store);
    world_close(world);
}

/* The lock is among the changes whenever who holds it or waits does. */
static void test_a_lock_shows_its_holders_and_waiters(void **state)
{
    (void)state;
    struct store *store;
    struct world *world = fed_world(&store);
    static const char *owners[] = {"alice", "bob", "carol"};
    for (int i = 0; i < 3; i++) {
        struct rk_request request = ask_acquire("r", owners[i], RK_MODE_EXCLUSIVE, 60000);
        (void)world_send(world, owners[i], 0, &request);
        (void)take(store, world->machine);
        struct rk_machine_change change = {0};
        struct rk_reader in;
        uint64_t lock = 0;
        rk_reader_init(&in, rk_buf_slice(&store->changes));
        while (rk_machine_change_read(&in, &change))
            if (change.kind == 11) lock = change.id;
        assert_true(lock != 0);
        struct rk_lock_view view;
        assert_int_equal(
            rk_machine_lock_view(world->machine, lock, 1, &world->arena, &view), RK_OK);
        assert_text(view.name, "r");
        assert_int_equal(view.holder_count, 1);
        assert_int_equal(view.waiter_count, i);
        assert_int_equal(view.waiters_shown, i == 0 ? 0 : 1);
        assert_text(view.owners[0], "alice");
        if (i > 0) assert_text(view.waiters[0], "bob");
        assert_int_equal(view.lease_ms, 30000);
    }
    struct rk_lock_view view;
    assert_int_equal(rk_machine_lock_view(world->machine, 999, 1, &world->arena, &view),
                     RK_ENOENT);
    store_close(store);
    world_close(world);
}

static void test_grants_are_held_back(void **state)
{
    (void)state;
    struct world *world = world_open();
    world->restore_each = 0;
    struct rk_machine *machines[] = {world->machine, world->twin};
    struct rk_request request = ask_acquire("r", "alice", RK_MODE_SHARED, 0);
    assert_true(world_call(world, "alice", &request)->granted);
    for (int i = 0; i < 2; i++)
        rk_machine_hold_grants(machines[i], true);
    /* The holder's own is no grant. */
    assert_true(world_call(world, "alice", &request)->granted);
    struct rk_request other = ask_acquire("q", "bob", RK_MODE_EXCLUSIVE, 0);
    assert_int_equal(world_send(world, "bob", 7, &other)->reply.status, RK_EUNAVAILABLE);
    /* Nor is there an upgrade, nor the next one after a release. */
    request = ask_acquire("r", "alice", RK_MODE_EXCLUSIVE, 0);
    assert_int_equal(world_call(world, "alice", &request)->status, RK_EUNAVAILABLE);
    request = ask_acquire("r", "carol", RK_MODE_EXCLUSIVE, 60000);
    assert_true(world_send(world, "carol", 50, &request)->is_pending);
    request = ask_named(RK_OP_LOCK_RELEASE, "r", "alice", 0);
    assert_true(world_call(world, "alice", &request)->released);
    assert_null(world_said(world, "carol", 50, world->ear.said_count - 1));
    for (int i = 0; i < 2; i++)
        rk_machine_hold_grants(machines[i], false);
    uint32_t since = world->ear.said_count;
    struct rk_request birth = ask(RK_OP_BIRTH);
    birth.history = 77;
    RK_SET(&birth, HISTORY);
    (void)world_send(world, NULL, 0, &birth);
    assert_true(world_said(world, "carol", 50, since)->reply.granted);
    /* The refusal was not remembered: the same request is carried out now. */
    assert_true(world_send(world, "bob", 7, &other)->reply.granted);
    world_close(world);
}

/* What a store that went back in time says is held may have been given back since. */
static void test_doubted_grants_get_a_new_fence(void **state)
{
    (void)state;
    struct world *world = world_open();
    world->restore_each = 0;
    struct rk_machine *machines[] = {world->machine, world->twin};
    struct rk_request request = ask_acquire("r", "alice", RK_MODE_EXCLUSIVE, 0);
    uint64_t fence = world_call(world, "alice", &request)->fence;
    assert_int_equal(fence, rk_machine_fence(world->machine));
    for (int i = 0; i < 2; i++) {
        rk_machine_hold_grants(machines[i], true);
        rk_machine_doubt_grants(machines[i], fence);
    }
    assert_int_equal(world_call(world, "alice", &request)->status, RK_EUNAVAILABLE);
    struct rk_request renew = ask_named(RK_OP_LOCK_RENEW, "r", "alice", fence);
    assert_true(world_call(world, "alice", &renew)->renewed);
    for (int i = 0; i < 2; i++)
        rk_machine_hold_grants(machines[i], false);
    const struct rk_reply *reply = world_call(world, "alice", &request);
    assert_true(reply->granted && reply->fence > fence);
    assert_int_equal(world_call(world, "alice", &request)->fence, reply->fence);
    world_close(world);
}

/* A failed take loses nothing; a failed entry is not half marked. */
static void test_every_allocation_may_fail(void **state)
{
    (void)state;
    bool is_done = false;
    for (int64_t after = 0; !is_done; after++) {
        struct store *store;
        struct world *world = fed_world(&store);
        for (int i = 0; i < 3; i++)
            world_session(world, "c", 5000);
        struct rk_buf out;
        rk_buf_init(&out);
        rk_alloc_fail(after, 0);
        enum rk_status status = rk_machine_changes_put(world->machine, &out);
        rk_alloc_fail(-1, 0);
        is_done = status == RK_OK;
        if (!is_done) assert_int_equal(status, RK_ENOMEM);
        rk_buf_fini(&out);
        (void)take(store, world->machine);
        compare(store, world);
        store_close(store);
        world_close(world);
    }
    struct world *world = world_open();
    for (int i = 0; i < 100; i++)
        world_session(world, "c", 5000);
    rk_alloc_fail(0, 0);
    assert_int_equal(rk_machine_changes_all(world->machine), RK_ENOMEM);
    rk_alloc_fail(-1, 0);
    assert_int_equal(rk_machine_changes_count(world->machine), 0);
    world_session(world, "c", 5000);
    assert_int_equal(rk_machine_changes_count(world->machine), 0); /* it stays off */
    world_close(world);
}

/* Entries without memory while the feed is on. */
static void test_entries_may_fail_for_memory(void **state)
{
    (void)state;
    struct rk_buf inner, entry;
    rk_buf_init(&inner);
    rk_buf_init(&entry);
    struct rk_request request = ask_acquire("r", "a", RK_MODE_EXCLUSIVE, 0);
    assert_int_equal(rk_request_check(&request, NULL), RK_OK);
    rk_request_encode(&inner, &request);
    struct rk_command command = {.client = text("c"),
                                 .seq = 1,
                                 .stamp_ms = START_MS,
                                 .request = rk_buf_slice(&inner)};
    rk_command_encode(&entry, &command);
    bool is_done = false;
    for (int64_t after = 0; !is_done; after++) {
        struct rk_machine_options options = {.struct_size = sizeof(options)};
        struct rk_machine *machine = NULL;
        assert_int_equal(rk_machine_new(&machine, &options), RK_OK);
        assert_int_equal(rk_machine_changes_all(machine), RK_OK);
        rk_alloc_fail(after, 0);
        enum rk_status status = rk_machine_apply(machine, 1, rk_buf_slice(&entry), NULL);
        rk_alloc_fail(-1, 0);
        is_done = status == RK_OK;
        if (!is_done) assert_int_equal(status, RK_ENOMEM);
        rk_machine_free(machine);
    }
    rk_buf_fini(&inner);
    rk_buf_fini(&entry);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_fed_store_restores_to_the_same),
        cmocka_unit_test(test_only_what_changed_is_said),
        cmocka_unit_test(test_a_lock_shows_its_holders_and_waiters),
        cmocka_unit_test(test_grants_are_held_back),
        cmocka_unit_test(test_doubted_grants_get_a_new_fence),
        cmocka_unit_test(test_every_allocation_may_fail),
        cmocka_unit_test(test_entries_may_fail_for_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
