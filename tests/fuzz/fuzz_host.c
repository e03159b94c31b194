/* A node that belongs to a cluster, and any frames from its peers. Whatever they bring, it
 * answers each call at most once, sends whole frames only, and its disk opens again.
 *
 * Input: steps, each a byte of what and whom (below) and a chunk. Sections get the header
 * that this peer's frames have; "raw" frames bring their own. */
#include "fuzz.h"

#include "cluster.h"
#include "fuzz_host.h"
#include "host/host_internal.h"

int LLVMFuzzerInitialize(int *argc, char ***argv);

enum { STEPS_MAX = 40, CALLS_MAX = 64, HEADER_MAX = 128 };
enum { SEGMENT_SIZE = 256 << 10, SPARE_SIZE = 16 << 10 };

static const char wal_dir[] = "data/wal";

/* One node of the cluster that was made at the start. */
struct target {
    struct rk_memfs *disk;
    struct rk_host *host;
    struct rk_wal *wal;
    struct rk_wal_batch *batch;
    struct rk_host_time now;
    uint8_t answered[CALLS_MAX];
    uint64_t calls;
    bool is_fatal;
};

static struct rk_memfs *born_disk;
static struct rk_host_options born_options;
static uint64_t born_ms;
static uint8_t headers[2][HEADER_MAX]; /* of frames from n2 and n3 */
static size_t header_sizes[2];
static const char *const peers[] = {"n2", "n3"};

static void on_send(void *context, const char *name, enum rk_host_link link,
                    struct rk_slice frame)
{
    struct rk_reader reader;
    (void)context;
    RK_ASSERT(strcmp(name, "n2") == 0 || strcmp(name, "n3") == 0);
    RK_ASSERT(link < RK_LINK_COUNT && frame.size <= RK_HOST_FRAME_MAX);
    rk_reader_init(&reader, frame);
    RK_ASSERT(rk_read_u8(&reader) == RK_HOST_PROTOCOL);
    (void)rk_read_bytes(&reader, 48);
    RK_ASSERT(rk_slice_is_equal(rk_read_blob(&reader), RK_SLICE_LITERAL("n1")));
    while (rk_reader_left(&reader) > 0) {
        RK_ASSERT(rk_read_u16(&reader) != 0);
        (void)rk_read_bytes(&reader, rk_read_u32(&reader));
        RK_ASSERT(!reader.is_failed);
    }
}

static void on_write(void *context, struct rk_wal *wal, struct rk_wal_batch *batch)
{
    struct target *target = context;
    RK_ASSERT(target->batch == NULL);
    target->wal = wal;
    target->batch = batch;
}

static void on_reply(void *context, uint64_t call, const struct rk_reply *reply)
{
    struct target *target = context;
    struct rk_buf bytes;
    RK_ASSERT(call >= 1 && call <= target->calls && target->answered[call - 1]++ == 0);
    rk_buf_init(&bytes);
    rk_reply_encode(&bytes, reply);
    RK_ASSERT(rk_buf_check(&bytes) == RK_OK);
    rk_buf_fini(&bytes);
}

static void on_log(void *context, enum rk_log_level level, const char *text)
{
    (void)context;
    (void)level;
    RK_ASSERT(text[0] != '\0' && strchr(text, '\n') == NULL);
}

static void on_fatal(void *context, enum rk_status status, const char *text)
{
    struct target *target = context;
    RK_ASSERT(status != RK_OK && text[0] != '\0');
    target->is_fatal = true;
}

static enum rk_status open_target(struct target *target)
{
    char error[256] = "";
    struct rk_host_options options = born_options;
    const struct rk_host_io io = {.context = target,
                                  .send = on_send,
                                  .write = on_write,
                                  .reply = on_reply,
                                  .log = on_log,
                                  .fatal = on_fatal};
    options.fs = rk_memfs_fs(target->disk);
    enum rk_status status = rk_host_open(&target->host, &options, &io, error);
    RK_ASSERT(status == RK_OK || error[0] != '\0');
    if (status == RK_OK) rk_host_tick(target->host, target->now);
    return status;
}

/* Ends the turn; the disk is at once done. */
static void flush(struct target *target)
{
    rk_host_flush(target->host);
    while (target->batch != NULL && !target->is_fatal) {
        struct rk_wal_batch *batch = target->batch;
        target->batch = NULL;
        enum rk_status status = rk_wal_write(target->wal, batch, NULL);
        RK_ASSERT(status == RK_OK); /* nothing that peers say contradicts the log */
        rk_host_written(target->host, status);
        rk_host_flush(target->host);
    }
}

static void receive(struct target *target, uint8_t what, struct rk_slice chunk)
{
    struct rk_buf frame;
    int peer = (what & FUZZ_HOST_PEER) != 0;
    enum rk_host_link link = (enum rk_host_link)((what >> 4) % RK_LINK_COUNT);
    rk_buf_init(&frame);
    if ((what & FUZZ_HOST_KIND) != FUZZ_HOST_RAW)
        rk_buf_append(&frame, headers[peer], header_sizes[peer]);
    rk_buf_append_slice(&frame, chunk);
    rk_host_receive(target->host, peers[peer], link, rk_buf_slice(&frame));
    rk_buf_fini(&frame);
}

/* The chunk: an operation and its body. */
static void call(struct target *target, struct rk_slice chunk)
{
    struct rk_arena arena;
    struct rk_request request;
    struct rk_api_error error;
    if (chunk.size == 0 || target->calls == CALLS_MAX) return;
    struct rk_slice body = rk_slice_of(chunk.data + 1, chunk.size - 1);
    rk_arena_init(&arena);
    const struct rk_op_info *info = rk_op_info((enum rk_op)chunk.data[0]);
    if (info != NULL && !info->is_internal &&
        rk_request_from_json(&request, info->op, body, &arena, &error) == RK_OK)
        rk_host_call(target->host, ++target->calls, &request);
    rk_arena_fini(&arena);
}

static void pass(struct target *target, struct rk_slice chunk)
{
    for (size_t i = 0; i < chunk.size && i < 16 && !target->is_fatal; i++) {
        target->now.boot_ms += chunk.data[i];
        target->now.wall_ms += chunk.data[i];
        rk_host_tick(target->host, target->now);
        flush(target);
    }
}

static void link_change(struct target *target, uint8_t what, struct rk_slice chunk)
{
    const char *peer = peers[(what & FUZZ_HOST_PEER) != 0];
    for (size_t i = 0; i < chunk.size && i < 8; i++) {
        enum rk_host_link link = (enum rk_host_link)((chunk.data[i] >> 2) % RK_LINK_COUNT);
        if ((chunk.data[i] & 1) != 0)
            rk_host_link_up(target->host, peer, link);
        else
            rk_host_link_down(target->host, peer, link, (chunk.data[i] & 2) != 0);
    }
}

static void run(struct target *target, struct rk_reader *in)
{
    for (int i = 0; i < STEPS_MAX && rk_reader_left(in) > 0 && !target->is_fatal; i++) {
        uint8_t what = fuzz_byte(in);
        struct rk_slice chunk = fuzz_chunk(in);
        switch (what & FUZZ_HOST_KIND) {
        case FUZZ_HOST_CALL: call(target, chunk); break;
        case FUZZ_HOST_PASS: pass(target, chunk); break;
        case FUZZ_HOST_LINK: link_change(target, what, chunk); break;
        default: receive(target, what, chunk); break;
        }
        if (!target->is_fatal) flush(target);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct rk_reader in;
    struct target target = {.disk = rk_memfs_clone(born_disk),
                            .now = {born_ms, 1800000000000 + born_ms}};
    RK_ASSERT(target.disk != NULL && open_target(&target) == RK_OK);
    rk_reader_init(&in, rk_slice_of(data, size));
    run(&target, &in);
    rk_host_close(target.host);
    target.batch = NULL;
    if (!target.is_fatal) {
        target.calls = 0;
        RK_ASSERT(open_target(&target) == RK_OK);
        RK_ASSERT(!target.is_fatal);
        rk_host_close(target.host);
    }
    rk_memfs_free(target.disk);
    return 0;
}

/* A header is all of a frame before its sections. */
static void keep_header(struct cluster *cluster, struct packet *packet)
{
    struct rk_reader reader;
    (void)cluster;
    if (packet->to != 0 || packet->from == 0) return;
    rk_reader_init(&reader, rk_buf_slice(&packet->bytes));
    (void)rk_read_bytes(&reader, 49);
    (void)rk_read_blob(&reader);
    size_t size = packet->bytes.size - rk_reader_left(&reader);
    RK_ASSERT(size <= HEADER_MAX);
    memcpy(headers[packet->from - 1], packet->bytes.data, size);
    header_sizes[packet->from - 1] = size;
}

static enum rk_status shrink_file(void *context, const char *name)
{
    struct rk_fs *fs = context;
    struct rk_file *file = NULL;
    char path[RK_FS_PATH_MAX];
    uint8_t first = 0;
    size_t read = 0;
    if (strstr(name, ".wal") == NULL) return RK_OK;
    RK_ASSERT(rk_fs_join(path, wal_dir, name) == RK_OK);
    RK_ASSERT(fs->open(fs, &file, path, RK_FS_WRITE) == RK_OK);
    RK_ASSERT(fs->pread(file, &read, 0, &first, 1) == RK_OK);
    RK_ASSERT(fs->truncate(file, first == 0 ? SPARE_SIZE : SEGMENT_SIZE) == RK_OK);
    RK_ASSERT(fs->datasync(file) == RK_OK);
    fs->close(file);
    return RK_OK;
}

/* The log's zeros for later use only cost time here. */
static void shrink(struct rk_memfs *disk)
{
    struct rk_fs *fs = rk_memfs_fs(disk);
    RK_ASSERT(fs->list(fs, wal_dir, shrink_file, fs) == RK_OK);
}

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    static struct cluster *cluster;
    (void)argc;
    (void)argv;
    cluster = fuzz_host_cluster(keep_header);
    cluster_run(cluster, 100);
    born_options = cluster->nodes[0].options;
    born_ms = cluster->now_ms;
    rk_memfs_crash(cluster->nodes[0].disk, RK_MEMFS_CRASH_KEEP_ALL);
    born_disk = rk_memfs_clone(cluster->nodes[0].disk);
    shrink(born_disk);
    RK_ASSERT(born_disk != NULL && header_sizes[0] > 0 && header_sizes[1] > 0);
    return 0;
}
