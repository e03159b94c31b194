#include "cluster.h"

#include "base/alloc.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

void cluster_starve(struct cluster *cluster, uint32_t node, uint64_t after, uint64_t fails)
{
    assert_false(cluster->starving.is_inside);
    cluster->starving =
        (struct starving){.node = node, .left = after, .fails = fails, .is_counting = true};
}

/* Around each call into a host, and the other way round where it calls back. */
static void enter(struct node *node)
{
    struct starving *starving = &node->cluster->starving;
    if (!starving->is_counting || node != &node->cluster->nodes[starving->node]) return;
    assert_false(starving->is_inside);
    starving->is_inside = true;
    (void)rk_alloc_take_count();
    if (starving->fails > 0) rk_alloc_fail((int64_t)starving->left, starving->fails > 1);
}

static bool leave(struct node *node)
{
    struct starving *starving = &node->cluster->starving;
    if (!starving->is_inside || node != &node->cluster->nodes[starving->node]) return false;
    uint64_t made = rk_alloc_take_count();
    rk_alloc_fail(-1, 0);
    starving->is_inside = false;
    starving->made += made;
    uint64_t failed = made > starving->left ? made - starving->left : 0;
    if (starving->fails == 1 && failed > 1) failed = 1;
    starving->fails -= failed < starving->fails ? failed : starving->fails;
    starving->left -= made < starving->left ? made : starving->left;
    return true;
}

/* Around each call into a host that takes part in a cluster: a disk that hangs must not
 * hold it up. */
static void turn_enter(struct node *node)
{
    node->watch.is_forbidden = rk_host_group_of(node->host, 0) != 0;
    enter(node);
}

static void turn_leave(struct node *node)
{
    (void)leave(node);
    node->watch.is_forbidden = false;
    if (node->watch.found[0] != '\0')
        fail_msg("%s: the loop should not %s", node->name, node->watch.found);
}

static void send(struct node *node, const char *name, enum rk_host_link link,
                 struct rk_slice frame)
{
    struct cluster *cluster = node->cluster;
    uint32_t from = (uint32_t)(node - cluster->nodes);
    for (uint32_t to = 0; to < cluster->count; to++) {
        if (strcmp(cluster->nodes[to].name, name) != 0) continue;
        if (cluster->cut[from][to] || cluster->nodes[to].host == NULL) return;
        struct packet *packet = calloc(1, sizeof(*packet));
        packet->from = from;
        packet->to = to;
        packet->link = link;
        if (link == RK_LINK_SNAPSHOT)
            packet->due_ms = cluster->now_ms + cluster->snapshot_ms;
        rk_buf_append_slice(&packet->bytes, frame);
        if (cluster->spoil != NULL) cluster->spoil(cluster, packet);
        *cluster->last = packet;
        cluster->last = &packet->next;
        cluster->packets++;
        cluster->bytes += frame.size;
        return;
    }
    /* For a node that is wished for and was never started: lost. */
}

static void on_send(void *context, const char *name, enum rk_host_link link,
                    struct rk_slice frame)
{
    struct node *node = context;
    bool was_inside = leave(node);
    send(node, name, link, frame);
    if (was_inside) enter(node);
}

static void on_write(void *context, struct rk_wal *wal, struct rk_wal_batch *batch)
{
    struct node *node = context;
    assert_null(node->batch);
    node->wal = wal;
    node->batch = batch;
    node->batch_done_ms = node->cluster->now_ms + node->cluster->disk_ms;
}

static void on_work(void *context, struct rk_host_work *work)
{
    struct node *node = context;
    uint32_t lane = rk_host_work_lane(work);
    assert_true(lane < RK_HOST_LANES);
    assert_null(node->work[lane]);
    node->work[lane] = work;
    node->work_done_ms[lane] = node->cluster->now_ms + node->work_ms[lane];
}

static void on_reply(void *context, uint64_t call, const struct rk_reply *reply)
{
    struct node *node = context;
    struct answer *answer = &node->cluster->answers[call];
    bool was_inside = leave(node);
    answer->is_given = true;
    answer->count++;
    answer->positions = reply->position_count;
    rk_buf_reset(&answer->bytes);
    rk_reply_encode(&answer->bytes, reply);
    if (was_inside) enter(node);
}

static void on_log(void *context, enum rk_log_level level, const char *text)
{
    struct node *node = context;
    if (level == RK_LOG_WARN) {
        node->warnings++;
        snprintf(node->warning, sizeof(node->warning), "%.255s", text);
    }
    if (getenv("HOST_LOG") != NULL)
        printf("%6llu %s %d %s\n", (unsigned long long)node->cluster->now_ms, node->name,
               (int)level, text);
}

static void on_fatal(void *context, enum rk_status status, const char *text)
{
    struct node *node = context;
    snprintf(node->fatal, sizeof(node->fatal), "%s: %.200s", rk_status_text(status), text);
    if (!node->is_chatty) fail_msg("%s: fatal: %s", node->name, node->fatal);
}

static void on_claim(void *context, const struct rk_host_store_claim *claim)
{
    struct node *node = context;
    fake_store_claim(node->cluster->store, &node->host, node->cluster->now_ms, claim);
}

static void on_store(void *context, const struct rk_host_store_batch *batch)
{
    struct node *node = context;
    fake_store_write(node->cluster->store, &node->host, node->cluster->now_ms, batch);
}

static void node_make(struct cluster *cluster, uint32_t at, uint32_t peer_count)
{
    struct node *node = &cluster->nodes[at];
    node->cluster = cluster;
    node->peer_count = peer_count;
    snprintf(node->name, sizeof(node->name), "n%u", at + 1);
    node->disk = rk_memfs_new(100 + at);
    cluster->peers[at] = (struct rk_host_peer){node->name, "127.0.0.1:7600", "", ""};
}

uint32_t cluster_grow(struct cluster *cluster)
{
    uint32_t at = cluster->count++;
    assert_true(at < CLUSTER_NODES_MAX);
    node_make(cluster, at, at + 1);
    cluster_start(cluster, at);
    return at;
}

struct cluster *cluster_new(struct cluster_options options)
{
    struct cluster *cluster = calloc(1, sizeof(*cluster));
    cluster->count = options.nodes;
    cluster->groups = options.groups;
    cluster->snapshot_bytes = options.snapshot_bytes;
    cluster->side_bytes = options.side_bytes;
    cluster->slice_bytes = options.slice_bytes;
    cluster->segment_bytes = options.segment_bytes;
    cluster->verify_ms = options.verify_ms;
    cluster->last = &cluster->first;
    cluster->now_ms = 1000;
    cluster->disk_ms = 2;
    cluster->answers = calloc(CLUSTER_CALLS_MAX, sizeof(*cluster->answers));
    rk_arena_init(&cluster->arena);
#ifdef CLUSTER_STORE
    options.has_store = true;
#endif
    if (options.has_store) cluster->store = fake_store_new(11);
    cluster->hold_ms = options.hold_ms;
    for (uint32_t i = 0; i < options.nodes; i++)
        node_make(cluster, i, options.nodes);
    for (uint32_t i = 0; i < options.nodes; i++)
        cluster_start(cluster, i);
    return cluster;
}

static void packets_drop(struct cluster *cluster, int node)
{
    struct packet **at = &cluster->first;
    while (*at != NULL) {
        struct packet *packet = *at;
        if (node < 0 || (int)packet->to == node || (int)packet->from == node) {
            *at = packet->next;
            rk_buf_fini(&packet->bytes);
            free(packet);
        } else {
            at = &packet->next;
        }
    }
    cluster->last = at;
}

void cluster_free(struct cluster *cluster)
{
    for (uint32_t i = 0; i < cluster->count; i++) {
        rk_host_close(cluster->nodes[i].host);
        rk_memfs_free(cluster->nodes[i].disk);
    }
    packets_drop(cluster, -1);
    for (uint64_t i = 0; i <= cluster->calls; i++)
        rk_buf_fini(&cluster->answers[i].bytes);
    fake_store_free(cluster->store);
    free(cluster->answers);
    rk_arena_fini(&cluster->arena);
    free(cluster);
}

static struct rk_host_time time_of(const struct node *node)
{
    uint64_t now = node->cluster->now_ms;
    return (struct rk_host_time){now, 1800000000000 + now + (uint64_t)node->wall_lead_ms};
}

static void links_set(struct cluster *cluster, uint32_t a, uint32_t b, bool is_up,
                      bool is_refused)
{
    struct rk_host *host = cluster->nodes[a].host;
    if (host == NULL || a == b) return;
    turn_enter(&cluster->nodes[a]);
    for (int link = 0; link < RK_LINK_COUNT; link++) {
        if (is_up)
            rk_host_link_up(host, cluster->nodes[b].name, (enum rk_host_link)link);
        else
            rk_host_link_down(host, cluster->nodes[b].name, (enum rk_host_link)link,
                              is_refused);
    }
    turn_leave(&cluster->nodes[a]);
}

enum rk_status cluster_try_start(struct cluster *cluster, uint32_t at, char *error)
{
    struct node *node = &cluster->nodes[at];
    const struct rk_host_io io = {.context = node,
                                  .send = on_send,
                                  .write = on_write,
                                  .work = on_work,
                                  .reply = on_reply,
                                  .log = on_log,
                                  .fatal = on_fatal,
                                  .store_claim = on_claim,
                                  .store_write = on_store};
    node->options = (struct rk_host_options){
        .struct_size = sizeof(node->options),
        .name = node->name,
        .data = "data",
        .self = {node->name, "127.0.0.1:7600", "127.0.0.1:7400", "127.0.0.1:7500"},
        .peers = cluster->peers,
        .peer_count = node->peer_count,
        .group_count = cluster->groups,
        .seed = 7 + at + 1000 * node->wipes,
        .snapshot_bytes = cluster->snapshot_bytes,
        .side_bytes = cluster->side_bytes,
        .slice_bytes = cluster->slice_bytes,
        .has_slices = cluster->has_slices,
        .segment_bytes = cluster->segment_bytes,
        .verify_ms = cluster->verify_ms,
        .machine_version = node->machine_version,
        .has_store = cluster->store != NULL,
        .store_hold_ms = cluster->hold_ms,
        .fs = &node->watch.fs,
    };
    assert_null(node->host);
    watch_fs_init(&node->watch, rk_memfs_fs(node->disk));
    memset(node->work, 0, sizeof(node->work));
    node->members_seen = 0;
    enter(node);
    enum rk_status status = rk_host_open(&node->host, &node->options, &io, error);
    (void)leave(node);
    if (status != RK_OK) {
        node->host = NULL;
        return status;
    }
    turn_enter(node);
    rk_host_tick(node->host, time_of(node));
    turn_leave(node);
    for (uint32_t i = 0; i < cluster->count; i++) {
        if (cluster->nodes[i].host == NULL || cluster->cut[at][i]) continue;
        if (!node->reaches_nobody) links_set(cluster, at, i, true, false);
        links_set(cluster, i, at, true, false);
    }
    return RK_OK;
}

void cluster_start(struct cluster *cluster, uint32_t at)
{
    char error[256] = "";
    enum rk_status status = cluster_try_start(cluster, at, error);
    if (status != RK_OK)
        fail_msg("%s: %s %s", cluster->nodes[at].name, rk_status_text(status), error);
}

void cluster_kill(struct cluster *cluster, uint32_t at, enum rk_memfs_crash_mode mode)
{
    struct node *node = &cluster->nodes[at];
    rk_memfs_crash(node->disk, mode);
    rk_host_close(node->host);
    node->host = NULL;
    node->batch = NULL;
    memset(node->work, 0, sizeof(node->work));
    packets_drop(cluster, (int)at);
    for (uint32_t i = 0; i < cluster->count; i++)
        links_set(cluster, i, at, false, true);
}

void cluster_wipe(struct cluster *cluster, uint32_t at)
{
    struct node *node = &cluster->nodes[at];
    assert_null(node->host);
    rk_memfs_free(node->disk);
    node->wipes++; /* rukund's seed is random: a new disk never has an old id */
    node->disk = rk_memfs_new(900 + at + cluster->now_ms);
}

void cluster_cut(struct cluster *cluster, uint32_t a, uint32_t b, bool is_cut)
{
    if (cluster->cut[a][b] == is_cut) return;
    cluster->cut[a][b] = cluster->cut[b][a] = is_cut;
    links_set(cluster, a, b, !is_cut, false);
    links_set(cluster, b, a, !is_cut, false);
}

static void disk_run(struct node *node)
{
    struct rk_storage_error why;
    bool has_more;
    if (node->batch == NULL || node->cluster->now_ms < node->batch_done_ms) return;
    struct rk_wal_batch *batch = node->batch;
    node->batch = NULL;
    enter(node);
    enum rk_status status = rk_wal_write(node->wal, batch, &why);
    if (status != RK_OK && getenv("HOST_LOG") != NULL)
        printf("%s: %s\n", node->name, why.message);
    (void)leave(node);
    turn_enter(node);
    rk_host_written(node->host, status);
    turn_leave(node);
    enter(node);
    if (status == RK_OK) status = rk_wal_tend(node->wal, false, &has_more, &why);
    (void)leave(node);
    if (status != RK_OK && node->fatal[0] == '\0') on_fatal(node, status, why.message);
}

static void work_run(struct node *node)
{
    for (int lane = 0; lane < RK_HOST_LANES; lane++) {
        struct rk_host_work *work = node->work[lane];
        if (work == NULL || node->cluster->now_ms < node->work_done_ms[lane]) continue;
        node->work[lane] = NULL;
        enter(node);
        rk_host_work_run(work);
        (void)leave(node);
        node->cluster->works += lane == 0;
        node->cluster->leisurely += rk_host_work_has_time(work);
        turn_enter(node);
        rk_host_work_done(node->host, work);
        turn_leave(node);
    }
}

/* A node connects with those whom it came to know. */
static void connect_new(struct cluster *cluster, uint32_t at)
{
    struct node *node = &cluster->nodes[at];
    if (node->host == NULL || node->reaches_nobody ||
        rk_host_members_version(node->host) == node->members_seen)
        return;
    node->members_seen = rk_host_members_version(node->host);
    for (uint32_t i = 0; i < cluster->count; i++)
        if (cluster->nodes[i].host != NULL && !cluster->cut[at][i])
            links_set(cluster, at, i, true, false);
}

void cluster_step(struct cluster *cluster)
{
    cluster->now_ms++;
    /* What was sent in the step before arrives now. */
    struct packet *packets = cluster->first;
    cluster->first = NULL;
    cluster->last = &cluster->first;
    for (uint32_t i = 0; i < cluster->count; i++)
        if (cluster->nodes[i].host != NULL) {
            turn_enter(&cluster->nodes[i]);
            rk_host_tick(cluster->nodes[i].host, time_of(&cluster->nodes[i]));
            turn_leave(&cluster->nodes[i]);
        }
    while (packets != NULL) {
        struct packet *packet = packets;
        packets = packet->next;
        if (packet->due_ms > cluster->now_ms) {
            packet->next = NULL;
            *cluster->last = packet;
            cluster->last = &packet->next;
            continue;
        }
        struct node *to = &cluster->nodes[packet->to];
        if (to->host != NULL && !cluster->cut[packet->from][packet->to]) {
            turn_enter(to);
            rk_host_receive(to->host, cluster->nodes[packet->from].name, packet->link,
                            rk_buf_slice(&packet->bytes));
            turn_leave(to);
        }
        rk_buf_fini(&packet->bytes);
        free(packet);
    }
    if (cluster->store != NULL) fake_store_run(cluster->store, cluster->now_ms);
    for (uint32_t i = 0; i < cluster->count; i++) {
        struct node *node = &cluster->nodes[i];
        if (node->host == NULL) continue;
        disk_run(node);
        work_run(node);
        turn_enter(node);
        for (uint32_t k = 0; k < cluster->slices; k++)
            (void)rk_host_slice(node->host);
        rk_host_flush(node->host);
        turn_leave(node);
        connect_new(cluster, i);
    }
}

void cluster_run(struct cluster *cluster, uint64_t ms)
{
    for (uint64_t i = 0; i < ms; i++)
        cluster_step(cluster);
}

int cluster_leader(struct cluster *cluster, uint32_t group)
{
    int leader = -1;
    for (uint32_t i = 0; i < cluster->count; i++) {
        struct rk_host_status status;
        if (cluster->nodes[i].host == NULL) continue;
        rk_host_status(cluster->nodes[i].host, &status);
        if (status.group_count <= group) return -1;
        const char *name = status.groups[group].leader;
        if (name[0] == '\0') return -1;
        int at = name[1] - '1';
        if (leader >= 0 && at != leader) return -1;
        leader = at;
    }
    return leader;
}

static bool is_settled(struct cluster *cluster)
{
    for (uint32_t group = 0; group <= cluster->groups; group++) {
        int leader = cluster_leader(cluster, group);
        if (leader < 0 || cluster->nodes[leader].host == NULL) return false;
        struct rk_host_status status;
        rk_host_status(cluster->nodes[leader].host, &status);
        if (!status.has_quorum) return false;
    }
    return true;
}

static void print_state(struct cluster *cluster)
{
    for (uint32_t i = 0; i < cluster->count; i++) {
        struct rk_host_status status;
        if (cluster->nodes[i].host == NULL) continue;
        rk_host_status(cluster->nodes[i].host, &status);
        for (uint32_t group = 0; group < status.group_count; group++) {
            const struct rk_host_group_status *at = &status.groups[group];
            printf(
                "%s %s group %u: %s of term %llu led by %s, log %llu..%llu, commit %llu, "
                "applied %llu\n",
                cluster->nodes[i].name, status.state, group, at->role,
                (unsigned long long)at->term, at->leader,
                (unsigned long long)at->first_index, (unsigned long long)at->last_index,
                (unsigned long long)at->commit, (unsigned long long)at->applied);
        }
    }
}

uint64_t cluster_settle(struct cluster *cluster, uint64_t max_ms)
{
    uint64_t began = cluster->now_ms;
    while (!is_settled(cluster)) {
        if (cluster->now_ms - began > max_ms) print_state(cluster);
        if (cluster->now_ms - began > max_ms)
            fail_msg("no leaders after %u ms", (unsigned)max_ms);
        cluster_run(cluster, 10);
    }
    return cluster->now_ms - began;
}

struct rk_request *cluster_request(struct cluster *cluster, enum rk_op op, const char *json)
{
    struct rk_api_error error = {0};
    struct rk_request *request = rk_arena_calloc(&cluster->arena, 1, sizeof(*request));
    struct rk_slice body = rk_arena_copy(&cluster->arena, rk_slice_of_string(json));
    enum rk_status status =
        rk_request_from_json(request, op, body, &cluster->arena, &error);
    if (status != RK_OK) fail_msg("%s: %s %s", json, error.field, error.text);
    return request;
}

uint64_t cluster_send(struct cluster *cluster, uint32_t node,
                      const struct rk_request *request)
{
    uint64_t call = ++cluster->calls;
    assert_true(call < CLUSTER_CALLS_MAX);
    turn_enter(&cluster->nodes[node]);
    rk_host_call(cluster->nodes[node].host, call, request);
    turn_leave(&cluster->nodes[node]);
    return call;
}

uint64_t cluster_call(struct cluster *cluster, uint32_t node, enum rk_op op,
                      const char *json)
{
    return cluster_send(cluster, node, cluster_request(cluster, op, json));
}

void cluster_drop(struct cluster *cluster, uint32_t node, uint64_t call)
{
    turn_enter(&cluster->nodes[node]);
    rk_host_drop(cluster->nodes[node].host, call);
    turn_leave(&cluster->nodes[node]);
}

bool cluster_has_answer(const struct cluster *cluster, uint64_t call)
{
    return cluster->answers[call].is_given;
}

const struct rk_reply *cluster_answer(struct cluster *cluster, uint64_t call,
                                      uint64_t max_ms)
{
    struct answer *answer = &cluster->answers[call];
    uint64_t began = cluster->now_ms;
    while (!answer->is_given) {
        if (cluster->now_ms - began > max_ms)
            fail_msg("call %u is not answered", (unsigned)call);
        cluster_step(cluster);
    }
    assert_int_equal(answer->count, 1);
    struct rk_reply *reply = rk_arena_calloc(&cluster->arena, 1, sizeof(*reply));
    struct rk_slice bytes = rk_arena_copy(&cluster->arena, rk_buf_slice(&answer->bytes));
    assert_int_equal(rk_reply_decode(reply, bytes, &cluster->arena), RK_OK);
    return reply;
}

const struct rk_reply *cluster_ask(struct cluster *cluster, uint32_t node, enum rk_op op,
                                   const char *json)
{
    return cluster_answer(cluster, cluster_call(cluster, node, op, json), 15000);
}

void cluster_check_equal(struct cluster *cluster)
{
    for (uint32_t group = 0; group <= cluster->groups; group++) {
        uint64_t first_hash = 0, first_index = 0;
        bool has_first = false;
        for (uint32_t i = 0; i < cluster->count; i++) {
            uint64_t index, hash;
            if (cluster->nodes[i].host == NULL) continue;
            assert_int_equal(
                rk_host_group_hash(cluster->nodes[i].host, group, &index, &hash), RK_OK);
            if (!has_first) {
                first_hash = hash;
                first_index = index;
                has_first = true;
            }
            assert_int_equal(index, first_index);
            assert_int_equal(hash, first_hash);
        }
    }
}
