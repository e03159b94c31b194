/* Seeds of frames: what the first node of a cluster hears from the others. */
#include "seeds.h"

#include "fuzz_host.h"

#include <stdio.h>

enum { HEADER_SIZE = 49, SEED_MAX = 3000, SEEDS_MAX = 12 };

static struct rk_buf heard;
static uint32_t heard_count, step_count;

static void finish(void)
{
    char name[16];
    if (heard.size == 0) return;
    (void)snprintf(name, sizeof(name), "heard%02u", heard_count++);
    seed_write("host", name, rk_buf_slice(&heard));
    rk_buf_reset(&heard);
    step_count = 0;
}

static void hear(struct cluster *cluster, struct packet *packet)
{
    struct rk_reader reader;
    (void)cluster;
    if (packet->to != 0 || heard_count == SEEDS_MAX) return;
    rk_reader_init(&reader, rk_buf_slice(&packet->bytes));
    (void)rk_read_bytes(&reader, HEADER_SIZE);
    (void)rk_read_blob(&reader);
    if (rk_reader_left(&reader) > SEED_MAX) return;
    int peer = packet->from == 2 ? FUZZ_HOST_PEER : 0;
    rk_buf_u8(&heard, (uint8_t)(FUZZ_HOST_FRAME | peer | (int)packet->link << 4));
    seed_chunk(&heard, rk_slice_of(reader.at, rk_reader_left(&reader)));
    rk_buf_u8(&heard, FUZZ_HOST_PASS);
    seed_chunk(&heard, RK_SLICE_LITERAL("\x05"));
    step_count += 2;
    if (heard.size > SEED_MAX || step_count >= 36) finish();
}

static void seed_own(void)
{
    rk_buf_reset(&heard);
    rk_buf_u8(&heard, FUZZ_HOST_LINK);
    seed_chunk(&heard, RK_SLICE_LITERAL("\x02\x06\x0a\x01"));
    rk_buf_u8(&heard, FUZZ_HOST_PASS);
    seed_chunk(&heard, RK_SLICE_LITERAL("\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff"));
    rk_buf_u8(&heard, FUZZ_HOST_CALL);
    seed_chunk(&heard, RK_SLICE_LITERAL("\x1e{\"topic\":\"t\",\"data\":1}"));
    rk_buf_u8(&heard, FUZZ_HOST_CALL);
    seed_chunk(&heard, RK_SLICE_LITERAL("\x3c{\"key\":\"k\",\"consistency\":\"local\"}"));
    rk_buf_u8(&heard, FUZZ_HOST_PASS);
    seed_chunk(&heard, RK_SLICE_LITERAL("\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff"));
    seed_write("host", "own", rk_buf_slice(&heard));
}

void seeds_of_host(void)
{
    rk_buf_init(&heard);
    struct cluster *cluster = fuzz_host_cluster(NULL);
    cluster->spoil = hear;
    cluster_run(cluster, 100);
    finish();
    for (int i = 0; i < 3; i++) {
        (void)cluster_ask(cluster, 1, RK_OP_CACHE_PUT, "{\"key\":\"a\",\"value\":1}");
        (void)cluster_ask(cluster, 2, RK_OP_QUEUE_PUBLISH, "{\"topic\":\"u\",\"data\":1}");
        /* The first node leads group 0: this is forwarded to it. */
        (void)cluster_ask(cluster, 1, RK_OP_LOCK_ACQUIRE,
                          "{\"resource\":\"s\",\"owner\":\"p\",\"lease_ms\":60000}");
        (void)cluster_ask(cluster, 1, RK_OP_LOCK_LIST, "{}");
        (void)cluster_ask(cluster, 0, RK_OP_QUEUE_LIST, "{}");
        finish();
    }
    cluster_kill(cluster, 1, RK_MEMFS_CRASH_KEEP_ALL);
    cluster_settle(cluster, 30000);
    cluster_start(cluster, 1);
    cluster_settle(cluster, 30000);
    finish();
    cluster->spoil = NULL;
    seed_own();
    cluster_free(cluster);
    rk_buf_fini(&heard);
}
