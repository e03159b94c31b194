#include "load.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

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

void load_forget(struct load *load)
{
    memset(load->calls, 0, sizeof(load->calls));
}

void load_run(struct load *load, uint64_t ms)
{
    for (uint64_t i = 0; i < ms; i++) {
        load_key(load, load->next++ % LOAD_KEYS);
        cluster_step(load->cluster);
    }
}

static void load_check(struct load *load)
{
    struct cluster *cluster = load->cluster;
    uint32_t node = 0;
    while (cluster->nodes[node].host == NULL)
        node++;
    for (uint32_t key = 0; key < LOAD_KEYS; key++) {
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

struct rk_host_status cluster_status(struct cluster *cluster, uint32_t node)
{
    struct rk_host_status status;
    rk_host_status(cluster->nodes[node].host, &status);
    return status;
}

const struct rk_host_node_status *cluster_node(const struct rk_host_status *status,
                                               const char *name)
{
    for (uint32_t i = 0; i < status->node_count; i++)
        if (strcmp(status->nodes[i].name, name) == 0) return &status->nodes[i];
    return NULL;
}

bool load_is_done(struct cluster *cluster, uint32_t asked, uint32_t voters)
{
    struct rk_host_status status = cluster_status(cluster, asked);
    uint32_t count = 0;
    for (uint32_t i = 0; i < status.node_count; i++)
        count += strcmp(status.nodes[i].role, "voter") == 0;
    return status.is_reconciled && count == voters;
}

void load_wait_members(struct load *load, uint32_t asked, uint32_t voters)
{
    for (uint32_t i = 0; i < 40000; i++) {
        if (load_is_done(load->cluster, asked, voters)) return;
        load_run(load, 1);
    }
    struct rk_host_status status = cluster_status(load->cluster, asked);
    for (uint32_t i = 0; i < status.node_count; i++)
        printf("%s number %u: %s\n", status.nodes[i].name, (unsigned)status.nodes[i].number,
               status.nodes[i].role);
    fail_msg("the membership does not become %u voters", voters);
}

void load_ask(struct load *load, uint32_t node, enum rk_op op, const char *json)
{
    uint64_t call = cluster_call(load->cluster, node, op, json);
    for (uint32_t i = 0; i < 15000 && !cluster_has_answer(load->cluster, call); i++)
        load_run(load, 1);
    const struct rk_reply *reply = cluster_answer(load->cluster, call, 1);
    if (reply->status != RK_OK) fail_msg("%s: %s", json, reply->text);
}

void load_add(struct load *load, uint32_t asked, uint32_t voters)
{
    char text[128];
    uint32_t node = load->cluster->count;
    snprintf(text, sizeof(text), "{\"name\":\"n%u\",\"peer\":\"127.0.0.1:7600\"}",
             node + 1);
    load_ask(load, asked, RK_OP_CLUSTER_ADD, text);
    assert_int_equal(cluster_grow(load->cluster), node);
    snprintf(text, sizeof(text), "{\"name\":\"n%u\"}", node + 1);
    load_ask(load, asked, RK_OP_CLUSTER_PROMOTE, text);
    load_wait_members(load, asked, voters);
}

void load_drop(struct load *load, uint32_t node)
{
    for (uint32_t i = 0; i < 5000; i++) {
        if (strcmp(cluster_status(load->cluster, node).state, "removed") == 0) break;
        load_run(load, 1);
    }
    assert_string_equal(cluster_status(load->cluster, node).state, "removed");
    assert_true(rk_host_is_idle(load->cluster->nodes[node].host));
    const struct rk_reply *reply =
        cluster_ask(load->cluster, node, RK_OP_CACHE_GET, "{\"k\":\"a\"}");
    assert_int_equal(reply->status, RK_EUNAVAILABLE);
    load_run(load, 50); /* and it has written that down */
    cluster_kill(load->cluster, node, RK_MEMFS_CRASH_KEEP_ALL);
    load_forget(load);
}

void load_open(struct load *load, uint32_t nodes, uint64_t snapshot_bytes)
{
    memset(load, 0, sizeof(*load));
    load->cluster = cluster_new((struct cluster_options){
        .nodes = nodes, .groups = 3, .snapshot_bytes = snapshot_bytes});
    cluster_settle(load->cluster, 3000);
    load_run(load, 500);
}

void load_close(struct load *load)
{
    load_check(load);
    cluster_run(load->cluster, 1500);
    cluster_check_equal(load->cluster);
    cluster_free(load->cluster);
}
