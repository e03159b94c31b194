/* Nodes that come, go and are replaced, under load, with crashes in between. */
#include "cluster.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

enum { KEYS = 97 };

/* A load of puts, each key with rising numbers; what was answered must never be lost. */
struct load {
    struct cluster *cluster;
    uint64_t calls[KEYS]; /* under way; 0: none */
    uint32_t asked[KEYS];
    uint32_t acknowledged[KEYS];
    uint32_t next, done;
};

static void load_key(struct load *load, uint32_t key)
{
    struct cluster *cluster = load->cluster;
    uint64_t call = load->calls[key];
    if (call != 0 && cluster_has_answer(cluster, call)) {
        const struct rk_reply *reply = cluster_answer(cluster, call, 1);
        if (reply->status == RK_OK) {
            load->acknowledged[key] = load->asked[key];
            load->done++;
        }
        load->calls[key] = 0;
    }
    if (load->calls[key] != 0) return;
    uint32_t node = (load->next + key) % cluster->count;
    struct rk_host_status status;
    if (cluster->nodes[node].host == NULL) return;
    rk_host_status(cluster->nodes[node].host, &status);
    if (strcmp(status.state, "running") != 0) return;
    char text[128];
    snprintf(text, sizeof(text), "{\"k\":\"key%u\",\"v\":%u}", key, ++load->asked[key]);
    load->calls[key] = cluster_call(cluster, node, RK_OP_CACHE_PUT, text);
}

/* Calls of a node that died get no answer. */
static void load_forget(struct load *load)
{
    memset(load->calls, 0, sizeof(load->calls));
}

static void load_run(struct load *load, uint64_t ms)
{
    for (uint64_t i = 0; i < ms; i++) {
        load_key(load, load->next++ % KEYS);
        cluster_step(load->cluster);
    }
}

static void load_check(struct load *load)
{
    struct cluster *cluster = load->cluster;
    uint32_t node = 0;
    while (cluster->nodes[node].host == NULL)
        node++;
    for (uint32_t key = 0; key < KEYS; key++) {
        char text[64];
        if (load->acknowledged[key] == 0) continue;
        snprintf(text, sizeof(text), "{\"k\":\"key%u\"}", key);
        const struct rk_reply *reply = cluster_ask(cluster, node, RK_OP_CACHE_GET, text);
        assert_int_equal(reply->status, RK_OK);
        assert_true(reply->found);
        snprintf(text, sizeof(text), "%.*s", (int)reply->value.bytes.size,
                 (const char *)reply->value.bytes.data);
        assert_true(strtoul(text, NULL, 10) >= load->acknowledged[key]);
    }
}

static struct rk_host_status status_of(struct cluster *cluster, uint32_t node)
{
    struct rk_host_status status;
    rk_host_status(cluster->nodes[node].host, &status);
    return status;
}

static const struct rk_host_node_status *node_of(const struct rk_host_status *status,
                                                 const char *name)
{
    for (uint32_t i = 0; i < status->node_count; i++)
        if (strcmp(status->nodes[i].name, name) == 0) return &status->nodes[i];
    return NULL;
}

static bool is_done(struct cluster *cluster, uint32_t asked, uint32_t voters)
{
    struct rk_host_status status = status_of(cluster, asked);
    uint32_t count = 0;
    for (uint32_t i = 0; i < status.node_count; i++)
        count += strcmp(status.nodes[i].role, "voter") == 0;
    return status.is_reconciled && count == voters;
}

/* As the leader of group 0 sees it at any moment: group 0 is the last to let a node go, and
 * the node stands in the table until then. */
static void check_order(struct load *load, uint32_t voters, const char *leaving)
{
    int leader = cluster_leader(load->cluster, 0);
    if (leader < 0 || load->cluster->nodes[leader].host == NULL) return;
    struct rk_host_status status = status_of(load->cluster, (uint32_t)leader);
    if (strcmp(status.groups[0].role, "leader") != 0) return;
    uint32_t counting = 0;
    for (uint32_t group = 0; group < status.group_count; group++)
        counting += status.groups[group].voter_count == voters;
    if (counting > 0) assert_int_equal(status.groups[0].voter_count, voters);
    const struct rk_host_node_status *node = node_of(&status, leaving);
    if (node == NULL || node->number == 0) assert_int_equal(counting, 0);
}

/* Until all groups have the membership, as node `asked` sees it. */
static void wait_members(struct load *load, uint32_t asked, uint32_t voters)
{
    for (uint32_t i = 0; i < 40000; i++) {
        if (is_done(load->cluster, asked, voters)) return;
        load_run(load, 1);
    }
    struct rk_host_status status = status_of(load->cluster, asked);
    for (uint32_t i = 0; i < status.node_count; i++)
        printf("%s number %u: %s\n", status.nodes[i].name, (unsigned)status.nodes[i].number,
               status.nodes[i].role);
    fail_msg("the membership does not become %u voters", voters);
}

static void ask(struct load *load, uint32_t node, enum rk_op op, const char *json)
{
    uint64_t call = cluster_call(load->cluster, node, op, json);
    for (uint32_t i = 0; i < 15000 && !cluster_has_answer(load->cluster, call); i++)
        load_run(load, 1);
    const struct rk_reply *reply = cluster_answer(load->cluster, call, 1);
    if (reply->status != RK_OK) fail_msg("%s: %s", json, reply->text);
}

static void add(struct load *load, uint32_t asked, uint32_t voters)
{
    char text[128];
    uint32_t node = load->cluster->count;
    snprintf(text, sizeof(text), "{\"name\":\"n%u\",\"peer\":\"127.0.0.1:7600\"}",
             node + 1);
    ask(load, asked, RK_OP_CLUSTER_ADD, text);
    assert_int_equal(cluster_grow(load->cluster), node);
    snprintf(text, sizeof(text), "{\"name\":\"n%u\"}", node + 1);
    ask(load, asked, RK_OP_CLUSTER_PROMOTE, text);
    wait_members(load, asked, voters);
}

/* Afterwards the process may end: it knows that it was removed. */
static void drop(struct load *load, uint32_t node)
{
    for (uint32_t i = 0; i < 5000; i++) {
        if (strcmp(status_of(load->cluster, node).state, "removed") == 0) break;
        load_run(load, 1);
    }
    assert_string_equal(status_of(load->cluster, node).state, "removed");
    assert_true(rk_host_is_idle(load->cluster->nodes[node].host));
    const struct rk_reply *reply =
        cluster_ask(load->cluster, node, RK_OP_CACHE_GET, "{\"k\":\"a\"}");
    assert_int_equal(reply->status, RK_EUNAVAILABLE);
    load_run(load, 50); /* and it has written that down */
    cluster_kill(load->cluster, node, RK_MEMFS_CRASH_KEEP_ALL);
    load_forget(load);
}

static void open_load(struct load *load, uint32_t nodes, uint64_t snapshot_bytes)
{
    memset(load, 0, sizeof(*load));
    load->cluster = cluster_new((struct cluster_options){
        .nodes = nodes, .groups = 3, .snapshot_bytes = snapshot_bytes});
    cluster_settle(load->cluster, 3000);
    load_run(load, 500);
}

static void close_load(struct load *load)
{
    load_check(load);
    cluster_run(load->cluster, 1500);
    cluster_check_equal(load->cluster);
    cluster_free(load->cluster);
}

static void test_three_to_five_and_back(void **state)
{
    struct load load;
    (void)state;
    open_load(&load, 3, 16384);
    add(&load, 0, 4);
    add(&load, 1, 5);
    cluster_settle(load.cluster, 5000);
    load_run(&load, 1000);
    /* The new ones carry it: two of the old ones may die. */
    cluster_kill(load.cluster, 0, RK_MEMFS_CRASH_RANDOM);
    cluster_kill(load.cluster, 1, RK_MEMFS_CRASH_RANDOM);
    load_forget(&load);
    cluster_settle(load.cluster, 5000);
    load_run(&load, 500);
    cluster_start(load.cluster, 0);
    cluster_start(load.cluster, 1);
    load_run(&load, 3000);
    uint32_t done = load.done;
    ask(&load, 4, RK_OP_CLUSTER_REMOVE, "{\"name\":\"n1\"}");
    wait_members(&load, 4, 4);
    drop(&load, 0);
    ask(&load, 3, RK_OP_CLUSTER_REMOVE, "{\"name\":\"n4\"}");
    wait_members(&load, 4, 3);
    drop(&load, 3);
    assert_true(load.done > done + 100);
    cluster_settle(load.cluster, 3000);
    struct rk_host_status status = status_of(load.cluster, 1);
    assert_int_equal(node_of(&status, "n5")->number, 5);
    close_load(&load);
}

static void test_leaders_die_in_the_middle(void **state)
{
    struct load load;
    (void)state;
    open_load(&load, 3, 0);
    for (uint32_t round = 0; round < 2; round++) {
        char text[128];
        uint32_t node = load.cluster->count;
        snprintf(text, sizeof(text), "{\"name\":\"n%u\",\"peer\":\"127.0.0.1:7600\"}",
                 node + 1);
        ask(&load, 1, RK_OP_CLUSTER_ADD, text);
        cluster_grow(load.cluster);
        snprintf(text, sizeof(text), "{\"name\":\"n%u\"}", node + 1);
        ask(&load, 1, RK_OP_CLUSTER_PROMOTE, text);
        for (uint32_t i = 0; i < 4; i++) {
            load_run(&load, 37 + 41 * i);
            int leader = cluster_leader(load.cluster, i);
            uint32_t victim = leader < 0 ? i % 3 : (uint32_t)leader;
            cluster_kill(load.cluster, victim, RK_MEMFS_CRASH_RANDOM);
            load_forget(&load);
            load_run(&load, 700);
            cluster_start(load.cluster, victim);
            load_run(&load, 100);
        }
        wait_members(&load, 1, 4 + round);
    }
    ask(&load, 1, RK_OP_CLUSTER_REMOVE, "{\"name\":\"n3\"}");
    for (uint32_t i = 0; i < 3; i++) {
        load_run(&load, 90 + 60 * i);
        int leader = cluster_leader(load.cluster, 0);
        if (leader < 0 || leader == 2) continue;
        cluster_kill(load.cluster, (uint32_t)leader, RK_MEMFS_CRASH_RANDOM);
        load_forget(&load);
        load_run(&load, 700);
        cluster_start(load.cluster, (uint32_t)leader);
        load_run(&load, 200);
    }
    wait_members(&load, 1, 4);
    drop(&load, 2);
    cluster_settle(load.cluster, 5000);
    close_load(&load);
}

static void test_a_wiped_node_is_replaced(void **state)
{
    struct load load;
    (void)state;
    open_load(&load, 3, 16384);
    for (uint32_t round = 0; round < 3; round++) {
        uint32_t victim = round, other = (round + 1) % 3;
        char text[64];
        cluster_kill(load.cluster, victim, RK_MEMFS_CRASH_RANDOM);
        load_forget(&load);
        cluster_wipe(load.cluster, victim);
        load_run(&load, 1500);
        cluster_start(load.cluster, victim);
        load_run(&load, 1000);
        struct rk_host_status status = status_of(load.cluster, victim);
        assert_non_null(strstr(status.state, "rukun cluster replace n"));
        snprintf(text, sizeof(text), "{\"name\":\"n%u\"}", victim + 1);
        ask(&load, other, RK_OP_CLUSTER_REPLACE, text);
        wait_members(&load, other, 3);
        status = status_of(load.cluster, other);
        assert_int_equal(node_of(&status, load.cluster->nodes[victim].name)->number,
                         4 + round);
        cluster_settle(load.cluster, 3000);
        status = status_of(load.cluster, victim);
        assert_string_equal(status.state, "running");
    }
    close_load(&load);
}

/* While one node is away all others are replaced: it would know nobody any more. */
static void test_one_that_was_away_finds_the_others(void **state)
{
    struct load load;
    (void)state;
    open_load(&load, 3, 16384);
    add(&load, 0, 4);
    add(&load, 0, 5);
    cluster_kill(load.cluster, 0, RK_MEMFS_CRASH_RANDOM);
    load_forget(&load);
    load_run(&load, 1500);
    for (uint32_t victim = 1; victim < 5; victim++) {
        uint32_t other = victim == 4 ? 1 : victim + 1;
        char text[64];
        cluster_kill(load.cluster, victim, RK_MEMFS_CRASH_RANDOM);
        load_forget(&load);
        cluster_wipe(load.cluster, victim);
        load_run(&load, 1500);
        cluster_start(load.cluster, victim);
        snprintf(text, sizeof(text), "{\"name\":\"n%u\"}", victim + 1);
        ask(&load, other, RK_OP_CLUSTER_REPLACE, text);
        wait_members(&load, other, 5);
    }
    cluster_start(load.cluster, 0);
    cluster_settle(load.cluster, 5000);
    load_run(&load, 1000);
    close_load(&load);
}

static void test_a_live_node_is_replaced(void **state)
{
    struct load load;
    (void)state;
    open_load(&load, 3, 0);
    ask(&load, 0, RK_OP_CLUSTER_REPLACE, "{\"name\":\"n2\"}");
    drop(&load, 1);
    /* Its old life is over also after a restart, and without anyone to say so. */
    cluster_cut(load.cluster, 0, 1, true);
    cluster_cut(load.cluster, 1, 2, true);
    cluster_start(load.cluster, 1);
    load_run(&load, 100);
    assert_string_equal(status_of(load.cluster, 1).state, "removed");
    cluster_cut(load.cluster, 0, 1, false);
    cluster_cut(load.cluster, 1, 2, false);
    cluster_kill(load.cluster, 1, RK_MEMFS_CRASH_KEEP_ALL);
    load_forget(&load);
    cluster_wipe(load.cluster, 1);
    cluster_start(load.cluster, 1);
    wait_members(&load, 0, 3);
    cluster_settle(load.cluster, 3000);
    close_load(&load);
}

/* A new node leads before the third one knows its disk, or even its name. */
static void meet_a_leader(bool knows_its_name)
{
    struct load load;
    open_load(&load, 3, 16384);
    struct cluster *cluster = load.cluster;
    for (int pass = 0; pass < 2; pass++) {
        if ((pass == 0) == knows_its_name)
            ask(&load, 0, RK_OP_CLUSTER_ADD,
                "{\"name\":\"n4\",\"peer\":\"127.0.0.1:7600\"}");
        load_run(&load, 500);
        cluster_cut(cluster, 2, 0, true);
        cluster_cut(cluster, 2, 1, true);
        load_run(&load, 1000);
    }
    assert_int_equal(cluster_grow(cluster), 3);
    cluster_cut(cluster, 2, 3, true);
    ask(&load, 0, RK_OP_CLUSTER_PROMOTE, "{\"name\":\"n4\"}");
    wait_members(&load, 0, 4);
    ask(&load, 0, RK_OP_CLUSTER_TRANSFER, "{\"group\":0,\"to\":\"n4\"}");
    for (uint32_t i = 0; i < 4; i++)
        cluster_cut(cluster, 2, i, false);
    cluster_settle(cluster, 3000);
    assert_int_equal(cluster_leader(cluster, 0), 3);
    load_run(&load, 500);
    close_load(&load);
}

static void test_a_leader_that_is_not_yet_known(void **state)
{
    (void)state;
    meet_a_leader(true);
    meet_a_leader(false);
}

/* Replaced again while it comes: its disk may be about to take the number that goes, so it
 * never gets another one. */
static void test_a_disk_has_one_number(void **state)
{
    struct load load;
    (void)state;
    open_load(&load, 3, 16384);
    struct cluster *cluster = load.cluster;
    cluster_kill(cluster, 2, RK_MEMFS_CRASH_RANDOM);
    load_forget(&load);
    cluster_wipe(cluster, 2);
    cluster_start(cluster, 2);
    load_run(&load, 1500);
    cluster->cut[0][2] = cluster->cut[1][2] = true; /* it is heard and does not hear */
    ask(&load, 0, RK_OP_CLUSTER_REPLACE, "{\"name\":\"n3\"}");
    load_run(&load, 1000);
    ask(&load, 0, RK_OP_CLUSTER_REPLACE, "{\"name\":\"n3\"}");
    load_run(&load, 3000);
    cluster->cut[0][2] = cluster->cut[1][2] = false;
    load_run(&load, 3000);
    struct rk_host_status status = status_of(cluster, 2);
    assert_non_null(strstr(status.state, "needs an empty data folder"));
    cluster_kill(cluster, 2, RK_MEMFS_CRASH_KEEP_ALL);
    load_forget(&load);
    cluster_wipe(cluster, 2);
    cluster_start(cluster, 2);
    wait_members(&load, 0, 3);
    status = status_of(cluster, 0);
    assert_int_equal(node_of(&status, "n3")->number, 5);
    assert_int_equal(status.node_count, 3);
    cluster_settle(cluster, 3000);
    close_load(&load);
}

static void refused(struct cluster *cluster, enum rk_op op, const char *json,
                    enum rk_status wanted)
{
    const struct rk_reply *reply = cluster_ask(cluster, 0, op, json);
    if (reply->status != wanted)
        fail_msg("%s: %s %s", json, rk_status_text(reply->status), reply->text);
}

static void test_what_can_not_be(void **state)
{
    struct load load;
    (void)state;
    open_load(&load, 3, 0);
    struct cluster *cluster = load.cluster;
    refused(cluster, RK_OP_CLUSTER_ADD, "{\"name\":\"n1\",\"peer\":\"a:1\"}", RK_EEXIST);
    refused(cluster, RK_OP_CLUSTER_ADD, "{\"name\":\"n9\",\"peer\":\"a\"}", RK_ERANGE);
    refused(cluster, RK_OP_CLUSTER_ADD, "{\"name\":\"n 9\",\"peer\":\"a:1\"}", RK_ERANGE);
    refused(cluster, RK_OP_CLUSTER_REMOVE, "{\"name\":\"n9\"}", RK_ENOENT);
    refused(cluster, RK_OP_CLUSTER_PROMOTE, "{\"name\":\"n9\"}", RK_ENOENT);
    refused(cluster, RK_OP_CLUSTER_REPLACE, "{\"name\":\"n9\"}", RK_ENOENT);
    for (char name = 'a'; name < 'e'; name++) {
        char text[64];
        snprintf(text, sizeof(text), "{\"name\":\"%c\",\"peer\":\"a:1\"}", name);
        assert_int_equal(cluster_ask(cluster, 0, RK_OP_CLUSTER_ADD, text)->status, RK_OK);
    }
    refused(cluster, RK_OP_CLUSTER_ADD, "{\"name\":\"x\",\"peer\":\"a:1\"}", RK_ELIMIT);
    /* Those never came; they leave without a trace, and their numbers are gone. */
    for (char name = 'a'; name < 'e'; name++) {
        char text[64];
        snprintf(text, sizeof(text), "{\"name\":\"%c\"}", name);
        assert_int_equal(cluster_ask(cluster, 0, RK_OP_CLUSTER_REMOVE, text)->status,
                         RK_OK);
    }
    wait_members(&load, 0, 3);
    add(&load, 0, 4);
    struct rk_host_status status = status_of(cluster, 0);
    assert_int_equal(node_of(&status, "n4")->number, 8);
    /* Two of four are down: a change that needs them waits, and comes when they do. */
    cluster_kill(cluster, 2, RK_MEMFS_CRASH_KEEP_ALL);
    load_forget(&load);
    cluster_settle(cluster, 3000);
    ask(&load, 0, RK_OP_CLUSTER_REMOVE, "{\"name\":\"n3\"}");
    wait_members(&load, 0, 3);
    /* It comes back and learns that it is out, and remembers it. */
    cluster_start(cluster, 2);
    drop(&load, 2);
    for (uint32_t node = 0; node < 4; node++)
        if (node != 2) cluster_cut(cluster, node, 2, true);
    cluster_start(cluster, 2);
    assert_string_equal(status_of(cluster, 2).state, "removed");
    cluster_kill(cluster, 2, RK_MEMFS_CRASH_KEEP_ALL);
    close_load(&load);
}

/* Removing n2 while n3 is down would leave n1 without a majority: it waits. */
static void test_a_change_that_would_stop_a_group_waits(void **state)
{
    struct load load;
    (void)state;
    open_load(&load, 3, 0);
    cluster_kill(load.cluster, 2, RK_MEMFS_CRASH_KEEP_ALL);
    load_forget(&load);
    cluster_settle(load.cluster, 5000);
    ask(&load, 0, RK_OP_CLUSTER_REMOVE, "{\"name\":\"n2\"}");
    load_run(&load, 3000);
    struct rk_host_status status = status_of(load.cluster, 0);
    assert_string_equal(node_of(&status, "n2")->role, "leaving");
    uint32_t done = load.done;
    load_run(&load, 1000);
    assert_true(load.done > done + 50);
    cluster_start(load.cluster, 2);
    wait_members(&load, 0, 2);
    drop(&load, 1);
    cluster_settle(load.cluster, 5000);
    close_load(&load);
}

/* Nothing is written any more, the log is gone, and no snapshot knows the new node. */
static void test_one_joins_when_nothing_happens(void **state)
{
    struct load load;
    (void)state;
    open_load(&load, 3, 16384);
    load_run(&load, 3000);
    cluster_run(load.cluster, 1000);
    load_forget(&load);
    for (uint32_t group = 1; group <= 3; group++)
        assert_true(status_of(load.cluster, 0).groups[group].first_index > 1);
    const struct rk_reply *reply =
        cluster_ask(load.cluster, 0, RK_OP_CLUSTER_ADD,
                    "{\"name\":\"n4\",\"peer\":\"127.0.0.1:7600\"}");
    assert_int_equal(reply->status, RK_OK);
    cluster_grow(load.cluster);
    for (uint32_t i = 0; i < 10000; i++) {
        struct rk_host_status status = status_of(load.cluster, 0);
        const struct rk_host_node_status *node = node_of(&status, "n4");
        if (status.is_reconciled && strcmp(node->role, "learner") == 0) break;
        cluster_step(load.cluster);
    }
    cluster_run(load.cluster, 2000);
    struct rk_host_status status = status_of(load.cluster, 3);
    for (uint32_t group = 0; group <= 3; group++)
        assert_string_equal(status.groups[group].role, "learner");
    close_load(&load);
}

static void test_the_last_voter_stays(void **state)
{
    struct load load;
    (void)state;
    open_load(&load, 1, 0);
    refused(load.cluster, RK_OP_CLUSTER_REMOVE, "{\"name\":\"n1\"}", RK_EINVAL);
    add(&load, 0, 2);
    ask(&load, 0, RK_OP_CLUSTER_REMOVE, "{\"name\":\"n1\"}");
    wait_members(&load, 1, 1);
    drop(&load, 0);
    cluster_settle(load.cluster, 3000);
    load_run(&load, 500);
    close_load(&load);
}

static void test_one_that_is_behind_gets_no_vote(void **state)
{
    struct load load;
    (void)state;
    open_load(&load, 3, 0);
    ask(&load, 0, RK_OP_CLUSTER_ADD, "{\"name\":\"n4\",\"peer\":\"127.0.0.1:7600\"}");
    /* Nobody counts on it before it came. */
    load_run(&load, 2000);
    for (uint32_t group = 0; group <= 3; group++)
        assert_int_equal(status_of(load.cluster, 0).groups[group].learner_count, 0);
    cluster_grow(load.cluster);
    for (uint32_t i = 0; i < 10000; i++) {
        struct rk_host_status status = status_of(load.cluster, 0);
        if (strcmp(node_of(&status, "n4")->role, "learner") == 0) break;
        load_run(&load, 1);
    }
    /* It is not heard any more: no vote for it, though four would have a majority. */
    for (uint32_t node = 0; node < 3; node++)
        cluster_cut(load.cluster, node, 3, true);
    load_run(&load, 2500);
    ask(&load, 0, RK_OP_CLUSTER_PROMOTE, "{\"name\":\"n4\"}");
    for (uint32_t i = 0; i < 3000; i++) {
        load_run(&load, 1);
        for (uint32_t group = 0; group <= 3; group++)
            assert_int_equal(status_of(load.cluster, 0).groups[group].voter_count, 3);
    }
    for (uint32_t node = 0; node < 3; node++)
        cluster_cut(load.cluster, node, 3, false);
    wait_members(&load, 0, 4);
    /* A learner goes without ever having had a vote. */
    ask(&load, 0, RK_OP_CLUSTER_ADD, "{\"name\":\"n5\",\"peer\":\"127.0.0.1:7600\"}");
    cluster_grow(load.cluster);
    for (uint32_t i = 0; i < 10000; i++) {
        struct rk_host_status status = status_of(load.cluster, 0);
        if (strcmp(node_of(&status, "n5")->role, "learner") == 0) break;
        load_run(&load, 1);
    }
    ask(&load, 0, RK_OP_CLUSTER_REMOVE, "{\"name\":\"n5\"}");
    wait_members(&load, 0, 4);
    drop(&load, 4);
    close_load(&load);
}

/* The new number takes the place of the old one in one step. */
static void test_a_replacement_costs_no_vote(void **state)
{
    struct load load;
    (void)state;
    open_load(&load, 3, 16384);
    cluster_kill(load.cluster, 1, RK_MEMFS_CRASH_RANDOM);
    load_forget(&load);
    cluster_wipe(load.cluster, 1);
    load_run(&load, 1500);
    cluster_start(load.cluster, 1);
    ask(&load, 0, RK_OP_CLUSTER_REPLACE, "{\"name\":\"n2\"}");
    for (uint32_t i = 0; i < 20000 && !is_done(load.cluster, 0, 3); i++) {
        load_run(&load, 1);
        struct rk_host_status status = status_of(load.cluster, 0);
        for (uint32_t group = 0; group <= 3; group++)
            assert_int_equal(status.groups[group].voter_count, 3);
    }
    assert_true(is_done(load.cluster, 0, 3));
    close_load(&load);
}

/* Those that lead hand over at once and go; group 0 is last. */
static void test_the_order_of_leaving(void **state)
{
    struct load load;
    (void)state;
    open_load(&load, 3, 0);
    add(&load, 0, 4);
    for (uint32_t round = 0; round < 2; round++) {
        load_run(&load, 12000); /* leaders are spread */
        uint32_t victim = round == 0 ? 0 : 3, asked = 1;
        char text[64], name[8];
        snprintf(name, sizeof(name), "n%u", victim + 1);
        snprintf(text, sizeof(text), "{\"name\":\"%s\"}", name);
        /* Placed by hand a leader stays, but not on one that leaves. */
        char move[64];
        snprintf(move, sizeof(move), "{\"group\":2,\"to\":\"%s\"}", name);
        ask(&load, asked, RK_OP_CLUSTER_TRANSFER, move);
        assert_int_equal(cluster_leader(load.cluster, 2), victim);
        ask(&load, asked, RK_OP_CLUSTER_REMOVE, text);
        uint32_t ms = 0;
        for (; ms < 20000 && !is_done(load.cluster, asked, 3); ms++) {
            load_run(&load, 1);
            check_order(&load, 4, name);
        }
        assert_true(ms < 4000);
        drop(&load, victim);
        if (round == 0) add(&load, 1, 4);
        if (round == 0) assert_int_equal(load.cluster->count, 5);
    }
    /* After a while nobody remembers them. */
    load_run(&load, 62000);
    for (uint32_t node = 1; node < 3; node++) {
        struct rk_host_status status = status_of(load.cluster, node);
        assert_int_equal(status.node_count, 3);
        assert_null(node_of(&status, "n1"));
    }
    close_load(&load);
}

/* As before, but at the moment when the other one died: silence does not tell yet. */
static void test_a_change_waits_when_a_link_fell(void **state)
{
    struct load load;
    (void)state;
    open_load(&load, 3, 0);
    uint32_t leader = (uint32_t)cluster_leader(load.cluster, 0);
    uint32_t dead = (leader + 1) % 3, leaves = (leader + 2) % 3;
    char text[64];
    snprintf(text, sizeof(text), "{\"name\":\"n%u\"}", leaves + 1);
    cluster_kill(load.cluster, dead, RK_MEMFS_CRASH_KEEP_ALL);
    load_forget(&load);
    ask(&load, leader, RK_OP_CLUSTER_REMOVE, text);
    load_run(&load, 5000);
    for (uint32_t group = 0; group <= 3; group++)
        assert_int_equal(status_of(load.cluster, leader).groups[group].voter_count, 3);
    uint32_t done = load.done;
    load_run(&load, 1000);
    assert_true(load.done > done + 50);
    cluster_start(load.cluster, dead);
    wait_members(&load, leader, 2);
    drop(&load, leaves);
    close_load(&load);
}

static void lose_snapshots(struct cluster *cluster, struct packet *packet)
{
    (void)cluster;
    if (packet->link == RK_LINK_SNAPSHOT) rk_buf_reset(&packet->bytes);
}

/* One is up, but needs a snapshot that does not get through: it can not carry the group. */
static void test_a_change_waits_for_one_that_is_behind(void **state)
{
    struct load load;
    (void)state;
    open_load(&load, 3, 16384);
    uint32_t leader = (uint32_t)cluster_leader(load.cluster, 0);
    uint32_t late = (leader + 1) % 3, leaves = (leader + 2) % 3;
    char text[64];
    snprintf(text, sizeof(text), "{\"name\":\"n%u\"}", leaves + 1);
    cluster_kill(load.cluster, late, RK_MEMFS_CRASH_KEEP_ALL);
    load_forget(&load);
    load_run(&load, 6000);
    load.cluster->spoil = lose_snapshots;
    cluster_start(load.cluster, late);
    load_run(&load, 1000);
    ask(&load, leader, RK_OP_CLUSTER_REMOVE, text);
    load_run(&load, 3000);
    for (uint32_t group = 1; group <= 3; group++)
        assert_int_equal(status_of(load.cluster, leader).groups[group].voter_count, 3);
    uint32_t done = load.done;
    load_run(&load, 1000);
    assert_true(load.done > done + 50);
    load.cluster->spoil = NULL;
    wait_members(&load, leader, 2);
    drop(&load, leaves);
    close_load(&load);
}

/* Frames to n4 from before it had a number, kept for later. */
static struct rk_buf kept[64];
static uint32_t kept_count;

static void keep_frames(struct cluster *cluster, struct packet *packet)
{
    if (packet->to != 3 || packet->from != 0 || kept_count == 64) return;
    struct rk_host_status status;
    rk_host_status(cluster->nodes[3].host, &status);
    if (strcmp(status.state, "joining") == 0)
        rk_buf_append_slice(&kept[kept_count++], rk_buf_slice(&packet->bytes));
}

/* What was offered to another disk under the same name is not for this one. */
static void test_an_offer_to_a_former_disk(void **state)
{
    struct load load;
    (void)state;
    open_load(&load, 3, 0);
    load.cluster->spoil = keep_frames;
    add(&load, 0, 4);
    load.cluster->spoil = NULL;
    assert_true(kept_count > 0);
    cluster_kill(load.cluster, 3, RK_MEMFS_CRASH_RANDOM);
    load_forget(&load);
    cluster_wipe(load.cluster, 3);
    for (uint32_t node = 0; node < 3; node++)
        cluster_cut(load.cluster, node, 3, true);
    cluster_start(load.cluster, 3);
    for (uint32_t i = 0; i < kept_count; i++) {
        rk_host_receive(load.cluster->nodes[3].host, "n1", RK_LINK_CONTROL,
                        rk_buf_slice(&kept[i]));
        rk_buf_fini(&kept[i]);
        load_run(&load, 100);
        assert_string_equal(status_of(load.cluster, 3).state, "joining");
    }
    for (uint32_t node = 0; node < 3; node++)
        cluster_cut(load.cluster, node, 3, false);
    ask(&load, 0, RK_OP_CLUSTER_REPLACE, "{\"name\":\"n4\"}");
    wait_members(&load, 0, 4);
    close_load(&load);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_three_to_five_and_back),
        cmocka_unit_test(test_leaders_die_in_the_middle),
        cmocka_unit_test(test_a_wiped_node_is_replaced),
        cmocka_unit_test(test_one_that_was_away_finds_the_others),
        cmocka_unit_test(test_a_live_node_is_replaced),
        cmocka_unit_test(test_a_leader_that_is_not_yet_known),
        cmocka_unit_test(test_a_disk_has_one_number),
        cmocka_unit_test(test_what_can_not_be),
        cmocka_unit_test(test_a_change_that_would_stop_a_group_waits),
        cmocka_unit_test(test_one_joins_when_nothing_happens),
        cmocka_unit_test(test_the_last_voter_stays),
        cmocka_unit_test(test_one_that_is_behind_gets_no_vote),
        cmocka_unit_test(test_a_replacement_costs_no_vote),
        cmocka_unit_test(test_the_order_of_leaving),
        cmocka_unit_test(test_a_change_waits_when_a_link_fell),
        cmocka_unit_test(test_a_change_waits_for_one_that_is_behind),
        cmocka_unit_test(test_an_offer_to_a_former_disk),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
