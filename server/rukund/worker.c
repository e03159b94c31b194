#include "rukund/worker.h"

#include "rukund/http.h"
#include "rukund/peers.h"
#include "rukund/rpc.h"
#include "storage/backup.h"

#include <event2/dns.h>
#include <event2/event.h>
#include <signal.h>
#include <stdio.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum {
    STOP_US = 5000000,  /* a graceful stop takes no longer */
    DRAIN_US = 1000000, /* of it, for calls that are still open after the hand-over */
    SLICE_US = 1000,    /* of a turn, for the snapshot that is being taken */
    SLICE_RESTS = 3,    /* times as long as they took until the next ones, if not urgent */
    WRITE_RESTS = 3,    /* likewise for its blocks on the disk */
    WRITE_REST_MAX_US = 200000,
};

static uint64_t clock_ms(clockid_t id)
{
    struct timespec now;
    (void)clock_gettime(id, &now);
    return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

static uint64_t clock_us(clockid_t id)
{
    struct timespec now;
    (void)clock_gettime(id, &now);
    return (uint64_t)now.tv_sec * 1000000 + (uint64_t)now.tv_nsec / 1000;
}

uint64_t rk_worker_us(void)
{
    return clock_us(CLOCK_MONOTONIC);
}

void rk_worker_touch(struct rk_worker *worker)
{
    if (worker->is_turn_open) return;
    worker->is_turn_open = true;
    worker->turn_us = rk_worker_us();
    rk_host_tick(worker->host,
                 (struct rk_host_time){clock_ms(CLOCK_BOOTTIME), clock_ms(CLOCK_REALTIME)});
    bool is_full = rk_disk_is_full(worker->disk);
    if (is_full == worker->is_full) return;
    worker->is_full = is_full;
    rk_log_line(&worker->log, RK_LOG_WARN,
                is_full ? "the disk is full: what grows is refused"
                        : "the disk has room again");
    rk_host_set_full(worker->host, is_full);
}

/* What the host asks for. */

static void io_send(void *context, const char *name, enum rk_host_link link,
                    struct rk_slice frame)
{
    struct rk_worker *worker = context;
    if (worker->peers != NULL) rk_peers_send(worker->peers, name, link, frame);
}

static void io_write(void *context, struct rk_wal *wal, struct rk_wal_batch *batch)
{
    struct rk_worker *worker = context;
    rk_disk_write(worker->disk, wal, batch);
}

/* A quarter of the disk's time at most, as of the loop's. */
static void run_work(void *work)
{
    uint64_t start_us = rk_worker_us();
    rk_host_work_run(work);
    if (!rk_host_work_has_time(work)) return;
    uint64_t rest_us = WRITE_RESTS * (rk_worker_us() - start_us);
    if (rest_us > WRITE_REST_MAX_US) rest_us = WRITE_REST_MAX_US;
    const struct timespec rest = {0, (long)rest_us * 1000};
    (void)nanosleep(&rest, NULL);
}

static void io_work(void *context, struct rk_host_work *work)
{
    struct rk_worker *worker = context;
    rk_background_run(worker->lanes[rk_host_work_lane(work)], run_work, work);
}

static void on_work_done(void *context, void *work)
{
    struct rk_worker *worker = context;
    rk_worker_touch(worker);
    rk_host_work_done(worker->host, work);
}

static void io_reply(void *context, uint64_t call, const struct rk_reply *reply)
{
    rk_calls_answer(context, call, reply);
}

static void io_log(void *context, enum rk_log_level level, const char *text)
{
    struct rk_worker *worker = context;
    rk_log_line(&worker->log, level, text);
}

/* Damaged data are not mended here: what they said to others can not be known any more. */
static void say_replace(struct rk_worker *worker)
{
    char command[RK_CONFIG_ERROR_MAX];
    (void)snprintf(command, sizeof(command), "rukun cluster replace %s",
                   worker->config->name);
    rk_log_event(&worker->log, RK_LOG_ERROR,
                 "the data are damaged: this node can not vote with them; move the folder "
                 "away, replace the node from another one, start it with an empty folder",
                 RK_LOG_TEXT("data", worker->config->data),
                 RK_LOG_TEXT("command", command));
}

static void io_fatal(void *context, enum rk_status status, const char *text)
{
    struct rk_worker *worker = context;
    rk_log_event(&worker->log, RK_LOG_ERROR, "the node can not go on",
                 RK_LOG_TEXT("reason", text), RK_LOG_TEXT("code", rk_status_text(status)));
    if (status == RK_ECORRUPT) say_replace(worker);
    /* At once: nothing that was not durable may be acknowledged any more. */
    _exit(70);
}

static void on_written(void *context, enum rk_status status, const char *text)
{
    struct rk_worker *worker = context;
    if (status != RK_OK)
        rk_log_event(&worker->log, RK_LOG_ERROR, "the log was not written",
                     RK_LOG_TEXT("reason", text),
                     RK_LOG_TEXT("code", rk_status_text(status)));
    rk_worker_touch(worker);
    rk_host_written(worker->host, status);
}

static void on_reserve(void *context, enum rk_status status, const char *text)
{
    struct rk_worker *worker = context;
    if (status == RK_OK)
        rk_log_line(&worker->log, RK_LOG_INFO, "the disk reserve can be kept again");
    else
        rk_log_event(&worker->log, RK_LOG_WARN, "the disk reserve can not be kept",
                     RK_LOG_TEXT("reason", text),
                     RK_LOG_TEXT("code", rk_status_text(status)));
}

static void on_disk_failed(void *context, enum rk_status status, const char *text)
{
    io_fatal(context, status, text);
}

/* The loop's own events. */

static void on_timer(evutil_socket_t fd, short what, void *context)
{
    (void)fd;
    (void)what;
    rk_worker_listen_again(context);
    rk_worker_touch(context);
}

static void on_signal(evutil_socket_t number, short what, void *context)
{
    struct rk_worker *worker = context;
    (void)what;
    if (worker->is_stopping) {
        rk_log_line(&worker->log, RK_LOG_WARN, "asked again to stop: stopping at once");
        worker->is_over = true;
        return;
    }
    rk_log_event(&worker->log, RK_LOG_INFO, "stopping",
                 RK_LOG_TEXT("signal", number == SIGINT ? "SIGINT" : "SIGTERM"));
    worker->is_stopping = true;
    worker->stop_by_us = rk_worker_us() + STOP_US;
    rk_http_stop(worker->http);
    rk_rpc_stop(worker->rpc);
    rk_worker_touch(worker);
    rk_host_stop(worker->host);
}

/* While stopping: over once nothing is led here and no call is open, or time is up. */
static void check_stop(struct rk_worker *worker)
{
    uint64_t now = rk_worker_us();
    if (!rk_host_is_idle(worker->host) && now < worker->stop_by_us) return;
    if (worker->stop_by_us > now + DRAIN_US) worker->stop_by_us = now + DRAIN_US;
    if (rk_calls_count(&worker->calls) > 0 && now < worker->stop_by_us) return;
    worker->is_over = true;
}

/* Until the next slices of a snapshot, if there are any. */
static uint64_t slice_delay_ms(const struct rk_worker *worker)
{
    uint64_t now_us = rk_worker_us();
    enum rk_host_slices left = rk_host_slices(worker->host);
    if (left == RK_SLICES_NONE) return UINT64_MAX;
    bool must_rest = left == RK_SLICES_MORE && now_us < worker->slice_us;
    return must_rest ? (worker->slice_us - now_us + 999) / 1000 : 0;
}

static void arm_timer(struct rk_worker *worker)
{
    uint64_t now = clock_ms(CLOCK_BOOTTIME);
    uint64_t next = rk_host_next_tick(worker->host);
    uint64_t most = worker->is_stopping ? 10 : 1000;
    uint64_t delay = next > now ? next - now : 0;
    if (delay > most) delay = most;
    uint64_t slice_ms = slice_delay_ms(worker);
    if (delay > slice_ms) delay = slice_ms;
    if (delay == 0) worker->is_restless = true;
    struct timeval time = {(time_t)(delay / 1000), (suseconds_t)(delay % 1000 * 1000)};
    (void)event_add(worker->timer, &time);
}

static void end_turn(struct rk_worker *worker)
{
    uint64_t now_us = rk_worker_us();
    uint64_t cpu_us = clock_us(CLOCK_THREAD_CPUTIME_ID);
    rk_metrics_turn(&worker->metrics, now_us, now_us - worker->turn_us,
                    cpu_us - worker->cpu_us);
    worker->cpu_us = cpu_us;
}

/* A quarter of the time at most: a loop that does not sleep any more is one that other
 * threads of a busy machine are let before. */
static void run_slices(struct rk_worker *worker)
{
    uint64_t start_us = rk_worker_us(), end_us = start_us;
    enum rk_host_slices left = rk_host_slices(worker->host);
    if (left == RK_SLICES_MORE && start_us < worker->slice_us) return;
    while (left != RK_SLICES_NONE && end_us < start_us + SLICE_US) {
        left = rk_host_slice(worker->host);
        end_us = rk_worker_us();
    }
    worker->slice_us = end_us + SLICE_RESTS * (end_us - start_us);
}

static void run_loop(struct rk_worker *worker)
{
    worker->cpu_us = clock_us(CLOCK_THREAD_CPUTIME_ID);
    while (!worker->is_over) {
        worker->is_restless = false;
        arm_timer(worker);
        (void)event_base_loop(worker->base,
                              EVLOOP_ONCE | (worker->is_restless ? EVLOOP_NONBLOCK : 0));
        rk_worker_touch(worker);
        (void)rk_peers_sync(worker->peers);
        rk_http_backup_run(worker->http);
        run_slices(worker);
        rk_host_flush(worker->host);
        worker->is_turn_open = false;
        rk_streams_flush(&worker->streams);
        end_turn(worker);
        if (worker->is_stopping) check_stop(worker);
    }
}

/* Addresses. */

/* What others are told: as wished, else as bound, with the host that peers use where
 * every address is bound. */
static bool advertise(struct rk_worker *worker, char out[RK_ADDRESS_MAX], const char *wish,
                      const struct rk_address *bound, const char *setting)
{
    struct rk_address told = *bound, peer;
    if (wish[0] != '\0') {
        (void)snprintf(out, RK_ADDRESS_MAX, "%s", wish);
        return true;
    }
    if (rk_address_is_any(bound)) {
        if (worker->peer_address[0] == '\0' ||
            rk_address_parse(&peer, worker->peer_address) != RK_OK) {
            rk_log_event(&worker->log, RK_LOG_ERROR,
                         "every address is bound: say which one others can reach",
                         RK_LOG_TEXT("setting", setting));
            return false;
        }
        memcpy(told.host, peer.host, sizeof(told.host));
    }
    rk_address_print(out, &told);
    return true;
}

static bool advertise_all(struct rk_worker *worker, const struct rk_address *http,
                          const struct rk_address *rpc, const struct rk_address *peer)
{
    const struct rk_config *config = worker->config;
    const char *wish = config->advertise_peer;
    for (uint32_t i = 0; wish[0] == '\0' && i < config->node_count; i++)
        if (strcmp(config->nodes[i].name, config->name) == 0) wish = config->nodes[i].peer;
    return advertise(worker, worker->peer_address, wish, peer, "advertise-peer") &&
           advertise(worker, worker->http_address, config->advertise_http, http,
                     "advertise-http") &&
           advertise(worker, worker->rpc_address, config->advertise_rpc, rpc,
                     "advertise-rpc");
}

/* Opening. */

/* A backup is of nodes that hold the state themselves: with another engine it would be a
 * beginning that nobody ever sees. */
static bool has_useless_backup(struct rk_worker *worker)
{
    char path[RK_FS_PATH_MAX];
    if (worker->engine == &rk_engine_embedded ||
        rk_fs_join(path, worker->config->data, "backup") != RK_OK ||
        !rk_backup_is_one(rk_fs_posix(), path))
        return false;
    rk_log_event(&worker->log, RK_LOG_ERROR,
                 "a backup can only be restored with the embedded engine",
                 RK_LOG_TEXT("backup", path), RK_LOG_TEXT("engine", worker->engine->name));
    return true;
}

static void io_store_claim(void *context, const struct rk_host_store_claim *claim)
{
    struct rk_worker *worker = context;
    worker->engine->store_claim(worker, claim);
}

static void io_store_write(void *context, const struct rk_host_store_batch *batch)
{
    struct rk_worker *worker = context;
    worker->engine->store_write(worker, batch);
}

static enum rk_status open_host(struct rk_worker *worker)
{
    const struct rk_config *config = worker->config;
    if (has_useless_backup(worker)) return RK_EINVAL;
    struct rk_host_peer peers[RK_HOST_PEERS_MAX];
    struct rk_host_peer self = {config->name, worker->peer_address, worker->http_address,
                                worker->rpc_address};
    uint32_t count = 0;
    for (uint32_t i = 0; i < config->node_count; i++) {
        bool is_self = strcmp(config->nodes[i].name, config->name) == 0;
        peers[count++] = is_self ? self
                                 : (struct rk_host_peer){config->nodes[i].name,
                                                         config->nodes[i].peer, "", ""};
    }
    if (count == 0) peers[count++] = self;
    struct rk_host_options options = {
        .struct_size = sizeof(options),
        .name = config->name,
        .data = config->data,
        .cluster = config->cluster,
        .self = self,
        .peers = peers,
        .peer_count = count,
        .group_count = (uint32_t)config->groups,
        .election_timeout_ms = (uint32_t)config->election_timeout_ms,
        .heartbeat_ms = (uint32_t)config->heartbeat_ms,
        .fence_floor = config->fence_floor,
        .snapshot_bytes = config->snapshot_bytes,
        .verify_ms = config->verify_seconds * 1000,
        .has_slices = true,
        .has_store = worker->engine->store_write != NULL,
        .store_hold_ms = (uint32_t)config->redis_hold_ms,
        .fs = rk_fs_posix(),
    };
    if (getrandom(&options.seed, sizeof(options.seed), 0) != sizeof(options.seed))
        return RK_EIO;
    rk_random_init(&worker->random, options.seed ^ (uint64_t)getpid());
    struct rk_host_io io = {.context = worker,
                            .send = io_send,
                            .write = io_write,
                            .work = io_work,
                            .reply = io_reply,
                            .log = io_log,
                            .fatal = io_fatal,
                            .store_claim = io_store_claim,
                            .store_write = io_store_write};
    char error[256] = "";
    enum rk_status status = rk_host_open(&worker->host, &options, &io, error);
    if (status != RK_OK)
        rk_log_event(&worker->log, RK_LOG_ERROR, "can not open the data",
                     RK_LOG_TEXT("data", config->data), RK_LOG_TEXT("reason", error),
                     RK_LOG_TEXT("code", rk_status_text(status)));
    if (status == RK_ECORRUPT) say_replace(worker);
    return status;
}

static enum rk_status open_loop(struct rk_worker *worker)
{
    static const int signals[2] = {SIGTERM, SIGINT};
    static const char *const names[RK_HOST_LANES] = {"snapshot", "transfer", "background"};
    worker->base = event_base_new();
    if (worker->base == NULL) return RK_ENOMEM;
    rk_streams_init(&worker->streams, worker->base);
    worker->dns = evdns_base_new(worker->base, EVDNS_BASE_INITIALIZE_NAMESERVERS |
                                                   EVDNS_BASE_DISABLE_WHEN_INACTIVE);
    /* Without name servers the hosts file is still of use. */
    if (worker->dns == NULL)
        worker->dns = evdns_base_new(worker->base, EVDNS_BASE_DISABLE_WHEN_INACTIVE);
    worker->timer = event_new(worker->base, -1, 0, on_timer, worker);
    if (worker->timer == NULL) return RK_ENOMEM;
    struct rk_disk_options disk = {.base = worker->base,
                                   .fs = rk_fs_posix(),
                                   .data = worker->config->data,
                                   .reserve_bytes = worker->config->reserve_bytes,
                                   .context = worker,
                                   .written = on_written,
                                   .reserve = on_reserve,
                                   .failed = on_disk_failed};
    enum rk_status status = rk_disk_new(&worker->disk, &disk);
    for (int i = 0; status == RK_OK && i < RK_HOST_LANES; i++)
        status = rk_background_new(
            &worker->lanes[i],
            &(struct rk_background_options){worker->base, names[i], worker, on_work_done});
    for (int i = 0; status == RK_OK && i < 2; i++) {
        worker->signals[i] = evsignal_new(worker->base, signals[i], on_signal, worker);
        if (worker->signals[i] == NULL || evsignal_add(worker->signals[i], NULL) != 0)
            status = RK_ENOMEM;
    }
    return status;
}

static enum rk_status open_engine(struct rk_worker *worker)
{
    return worker->engine->open != NULL ? worker->engine->open(worker) : RK_OK;
}

static enum rk_status open_doors(struct rk_worker *worker, const int sockets[3])
{
    /* Each takes its socket over, also when it fails. */
    enum rk_status status = rk_peers_new(&worker->peers, worker, sockets[0]);
    enum rk_status http = rk_http_new(&worker->http, worker, sockets[1]);
    enum rk_status rpc = rk_rpc_new(&worker->rpc, worker, sockets[2]);
    if (status == RK_OK) status = http;
    return status == RK_OK ? rpc : status;
}

static void open_state(struct rk_worker *worker, const struct rk_config *config)
{
    memset(worker, 0, sizeof(*worker));
    worker->config = config;
    worker->engine =
        strcmp(config->engine, "redis") == 0 ? &rk_engine_redis : &rk_engine_embedded;
    rk_log_init(&worker->log, config->log_level, strcmp(config->log_format, "json") == 0,
                config->name);
    rk_calls_init(&worker->calls);
    rk_arena_init(&worker->arena);
    rk_arena_init(&worker->reply_arena);
    rk_buf_init(&worker->scratch);
    rk_buf_init(&worker->slots_text);
    rk_buf_init(&worker->reply_buf);
}

static void close_all(struct rk_worker *worker)
{
    if (worker->host != NULL) rk_calls_end(worker);
    if (worker->streams.base != NULL) rk_streams_flush(&worker->streams);
    /* Answers of evhttp leave in the loop; one pass is theirs. */
    if (worker->base != NULL) (void)event_base_loop(worker->base, EVLOOP_NONBLOCK);
    if (worker->engine->close != NULL) worker->engine->close(worker);
    rk_disk_free(worker->disk);
    for (int i = 0; i < RK_HOST_LANES; i++)
        rk_background_free(worker->lanes[i]);
    rk_http_free(worker->http);
    rk_rpc_free(worker->rpc);
    rk_peers_free(worker->peers);
    if (worker->host != NULL) rk_host_close(worker->host);
    if (worker->timer != NULL) event_free(worker->timer);
    for (int i = 0; i < 2; i++)
        if (worker->signals[i] != NULL) event_free(worker->signals[i]);
    if (worker->dns != NULL) evdns_base_free(worker->dns, 0);
    if (worker->base != NULL) {
        (void)event_base_loop(worker->base, EVLOOP_NONBLOCK); /* deferred frees */
        event_base_free(worker->base);
    }
    rk_calls_fini(&worker->calls);
    rk_arena_fini(&worker->arena);
    rk_arena_fini(&worker->reply_arena);
    rk_buf_fini(&worker->scratch);
    rk_buf_fini(&worker->slots_text);
    rk_buf_fini(&worker->reply_buf);
    rk_log_line(&worker->log, RK_LOG_INFO, "stopped");
    rk_log_fini(&worker->log);
}

int rk_worker_run(const struct rk_config *config)
{
    struct rk_worker worker;
    struct rk_address http, rpc, peer;
    int sockets[3] = {-1, -1, -1};
    open_state(&worker, config);
    (void)signal(SIGPIPE, SIG_IGN);
    rk_worker_raise_limits(&worker);
    rk_log_event(&worker.log, RK_LOG_INFO, "starting", RK_LOG_TEXT("version", RK_VERSION),
                 RK_LOG_TEXT("data", config->data),
                 RK_LOG_NUMBER("pid", (uint64_t)getpid()));
    sockets[0] = rk_worker_listen(&worker, "peers", config->peer, &peer);
    if (sockets[0] >= 0)
        sockets[1] = rk_worker_listen(&worker, "http", config->http, &http);
    if (sockets[1] >= 0) sockets[2] = rk_worker_listen(&worker, "rpc", config->rpc, &rpc);
    bool is_open = sockets[2] >= 0 && advertise_all(&worker, &http, &rpc, &peer) &&
                   open_host(&worker) == RK_OK && open_loop(&worker) == RK_OK &&
                   open_engine(&worker) == RK_OK;
    if (is_open) {
        is_open = open_doors(&worker, sockets) == RK_OK;
    } else {
        for (int i = 0; i < 3; i++)
            if (sockets[i] >= 0) (void)close(sockets[i]);
    }
    if (is_open)
        run_loop(&worker);
    else
        worker.exit_code = 1;
    close_all(&worker);
    return worker.exit_code;
}
