#include "rukund/metrics.h"

#include "rukund/worker.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

/* Upper bounds in microseconds. */
static const uint64_t bounds_us[RK_METRICS_BUCKETS] = {
    100,   250,    500,    1000,   2500,    5000,    10000,    25000,
    50000, 100000, 250000, 500000, 1000000, 2500000, 10000000, 60000000,
};

static const char *const class_names[RK_METRICS_CLASSES] = {"session", "lock", "queue",
                                                            "cache", "cluster"};

static int class_of(enum rk_op op)
{
    const struct rk_op_info *info = rk_op_info(op);
    for (int i = 0; info != NULL && i < RK_METRICS_CLASSES; i++) {
        size_t size = strlen(class_names[i]);
        if (strncmp(info->name, class_names[i], size) == 0 && info->name[size] == '.')
            return i;
    }
    return RK_METRICS_CLASSES - 1;
}

static void histogram_add(struct rk_histogram *histogram, uint64_t duration_us)
{
    int bucket = 0;
    while (bucket < RK_METRICS_BUCKETS && duration_us > bounds_us[bucket])
        bucket++;
    histogram->buckets[bucket]++;
    histogram->sum_us += duration_us;
}

void rk_metrics_call(struct rk_metrics *metrics, enum rk_door door, enum rk_op op,
                     enum rk_status status, uint64_t duration_us)
{
    unsigned code = status <= 0 && status > -RK_METRICS_STATUSES ? (unsigned)-status : 0;
    if ((unsigned)op < RK_OP_MAX) metrics->calls[door][op][code]++;
    histogram_add(&metrics->latency[class_of(op)], duration_us);
}

static void longest_turn_over(struct rk_longest *longest, bool is_stale)
{
    longest->before_us = is_stale ? 0 : longest->present_us;
    longest->present_us = 0;
}

/* Also when asked: a loop that was idle for long had no long turn of late. */
static void window_move(struct rk_metrics *metrics, uint64_t now_us)
{
    uint64_t passed = now_us - metrics->turn_half_us;
    if (passed < RK_METRICS_HALF_US) return;
    bool is_stale = passed >= 2 * (uint64_t)RK_METRICS_HALF_US;
    longest_turn_over(&metrics->turn_wall, is_stale);
    longest_turn_over(&metrics->turn_cpu, is_stale);
    metrics->turn_half_us = now_us;
}

void rk_metrics_turn(struct rk_metrics *metrics, uint64_t now_us, uint64_t wall_us,
                     uint64_t cpu_us)
{
    window_move(metrics, now_us);
    histogram_add(&metrics->turn, wall_us);
    histogram_add(&metrics->turn_run, cpu_us);
    if (wall_us > metrics->turn_wall.present_us) metrics->turn_wall.present_us = wall_us;
    if (cpu_us > metrics->turn_cpu.present_us) metrics->turn_cpu.present_us = cpu_us;
}

static void print_head(struct rk_buf *out, const char *name, const char *kind,
                       const char *help)
{
    rk_buf_printf(out, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, kind);
}

static void print_one(struct rk_buf *out, const char *name, const char *kind,
                      const char *help, uint64_t value)
{
    print_head(out, name, kind, help);
    rk_buf_printf(out, "%s %llu\n", name, (unsigned long long)value);
}

static void print_calls(struct rk_buf *out, const struct rk_metrics *metrics)
{
    static const char *const doors[RK_DOOR_COUNT] = {"http", "rpc"};
    print_head(out, "rukun_requests_total", "counter",
               "Answered calls by way in, operation and code");
    for (int door = 0; door < RK_DOOR_COUNT; door++)
        for (int op = 0; op < RK_OP_MAX; op++)
            for (int code = 0; code < RK_METRICS_STATUSES; code++) {
                uint64_t count = metrics->calls[door][op][code];
                const struct rk_op_info *info = rk_op_info((enum rk_op)op);
                if (count == 0 || info == NULL) continue;
                rk_buf_printf(
                    out,
                    "rukun_requests_total{protocol=\"%s\",op=\"%s\",code=\"%s\"} %llu\n",
                    doors[door], info->name,
                    code == 0 ? "ok" : rk_status_text((enum rk_status) - code),
                    (unsigned long long)count);
            }
}

/* labels: NULL, or such as area="lock". */
static void print_histogram(struct rk_buf *out, const char *name, const char *labels,
                            const struct rk_histogram *histogram)
{
    const char *comma = labels != NULL ? "," : "";
    const char *left = labels != NULL ? "{" : "", *right = labels != NULL ? "}" : "";
    uint64_t count = 0;
    if (labels == NULL) labels = "";
    for (int bucket = 0; bucket < RK_METRICS_BUCKETS; bucket++) {
        count += histogram->buckets[bucket];
        rk_buf_printf(out, "%s_bucket{%s%sle=\"%g\"} %llu\n", name, labels, comma,
                      (double)bounds_us[bucket] / 1e6, (unsigned long long)count);
    }
    count += histogram->buckets[RK_METRICS_BUCKETS];
    rk_buf_printf(out, "%s_bucket{%s%sle=\"+Inf\"} %llu\n", name, labels, comma,
                  (unsigned long long)count);
    rk_buf_printf(out, "%s_sum%s%s%s %.6f\n%s_count%s%s%s %llu\n", name, left, labels,
                  right, (double)histogram->sum_us / 1e6, name, left, labels, right,
                  (unsigned long long)count);
}

static void print_latency(struct rk_buf *out, const struct rk_metrics *metrics)
{
    static const char name[] = "rukun_request_duration_seconds";
    print_head(out, name, "histogram", "Time from a call's arrival to its answer, by area");
    for (int i = 0; i < RK_METRICS_CLASSES; i++) {
        char label[32];
        (void)snprintf(label, sizeof(label), "area=\"%s\"", class_names[i]);
        print_histogram(out, name, label, &metrics->latency[i]);
    }
}

static double longest_seconds(const struct rk_longest *longest)
{
    uint64_t us =
        longest->present_us > longest->before_us ? longest->present_us : longest->before_us;
    return (double)us / 1e6;
}

static void print_turns(struct rk_buf *out, struct rk_metrics *metrics)
{
    static const char turn[] = "rukun_loop_turn_seconds";
    static const char run[] = "rukun_loop_turn_processor_seconds";
    static const char longest[] = "rukun_loop_turn_longest_seconds";
    print_head(out, turn, "histogram", "Time of a turn of the event loop, without waiting");
    print_histogram(out, turn, NULL, &metrics->turn);
    print_head(out, run, "histogram", "Processor time of a turn of the event loop");
    print_histogram(out, run, NULL, &metrics->turn_run);
    window_move(metrics, rk_worker_us());
    print_head(
        out, longest, "gauge",
        "The longest turn of the last 30 to 60 s, by the clock and by processor time");
    rk_buf_printf(out, "%s{of=\"clock\"} %.6f\n%s{of=\"processor\"} %.6f\n", longest,
                  longest_seconds(&metrics->turn_wall), longest,
                  longest_seconds(&metrics->turn_cpu));
}

static void print_groups(struct rk_buf *out, const struct rk_host_status *status)
{
    enum column { LEADER, TERM, COMMIT, APPLIED, BYTES, OBJECTS, COLUMN_COUNT };
    static const char *const rows[COLUMN_COUNT][2] = {
        [LEADER] = {"rukun_group_leader", "1 where this node leads the group"},
        [TERM] = {"rukun_group_term", "Raft term of the group"},
        [COMMIT] = {"rukun_group_commit_index", "Last committed index of the group"},
        [APPLIED] = {"rukun_group_applied_index", "Last applied index of the group"},
        [BYTES] = {"rukun_group_state_bytes", "Logical bytes of the group's state"},
        [OBJECTS] = {"rukun_group_state_objects", "Objects in the group's state"},
    };
    for (int column = 0; column < COLUMN_COUNT; column++) {
        print_head(out, rows[column][0], "gauge", rows[column][1]);
        for (uint32_t i = 0; i < status->group_count; i++) {
            const struct rk_host_group_status *group = &status->groups[i];
            uint64_t value = column == LEADER    ? strcmp(group->role, "leader") == 0
                             : column == TERM    ? group->term
                             : column == COMMIT  ? group->commit
                             : column == APPLIED ? group->applied
                             : column == BYTES   ? group->bytes
                                                 : group->objects;
            rk_buf_printf(out, "%s{group=\"%u\"} %llu\n", rows[column][0], group->id,
                          (unsigned long long)value);
        }
    }
}

static uint64_t open_descriptors(void)
{
    uint64_t count = 0;
    DIR *folder = opendir("/proc/self/fd");
    if (folder == NULL) return 0;
    while (readdir(folder) != NULL)
        count++;
    (void)closedir(folder);
    return count > 3 ? count - 3 : 0; /* ".", ".." and the folder itself */
}

/* Pages of virtual and of resident memory; zeros where /proc does not tell. */
static void memory_pages(uint64_t *total, uint64_t *resident)
{
    char text[128];
    char *end = text;
    *total = *resident = 0;
    int fd = open("/proc/self/statm", O_RDONLY | O_CLOEXEC);
    if (fd < 0) return;
    ssize_t size = read(fd, text, sizeof(text) - 1);
    (void)close(fd);
    if (size <= 0) return;
    text[size] = '\0';
    *total = strtoull(text, &end, 10);
    *resident = strtoull(end, NULL, 10);
}

static void print_process(struct rk_buf *out)
{
    uint64_t total, resident;
    struct rusage usage;
    struct rlimit limit;
    memory_pages(&total, &resident);
    uint64_t page = (uint64_t)sysconf(_SC_PAGESIZE);
    print_one(out, "process_virtual_memory_bytes", "gauge", "Virtual memory in bytes",
              total * page);
    print_one(out, "process_resident_memory_bytes", "gauge", "Resident memory in bytes",
              resident * page);
    print_one(out, "process_open_fds", "gauge", "Open file descriptors",
              open_descriptors());
    if (getrlimit(RLIMIT_NOFILE, &limit) == 0)
        print_one(out, "process_max_fds", "gauge", "Most file descriptors that may be open",
                  limit.rlim_cur);
    if (getrusage(RUSAGE_SELF, &usage) == 0) {
        print_head(out, "process_cpu_seconds_total", "counter",
                   "Processor time in seconds");
        rk_buf_printf(out, "process_cpu_seconds_total %.3f\n",
                      (double)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) +
                          (double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e6);
    }
}

void rk_metrics_print(struct rk_buf *out, struct rk_worker *worker)
{
    struct rk_metrics *metrics = &worker->metrics;
    struct rk_host_status status;
    worker->engine->status(worker, &status);
    print_head(out, "rukun_build_info", "gauge", "Version of rukund, always 1");
    rk_buf_printf(out, "rukun_build_info{version=\"%s\",engine=\"%s\"} 1\n", RK_VERSION,
                  worker->engine->name);
    print_one(out, "rukun_quorum", "gauge",
              "1 while every group has a leader confirmed by a majority",
              status.has_quorum);
    print_one(out, "rukun_disk_full", "gauge", "1 while growth is refused for want of disk",
              rk_disk_is_full(worker->disk));
#define RK_METRIC(field, name, kind, help) print_one(out, name, kind, help, metrics->field);
#include "rukund/metrics.def"
#undef RK_METRIC
    const struct rk_host_metrics *host = rk_host_metrics(worker->host);
#define RK_HOST_METRIC(field, name, kind, help)                                            \
    print_one(out, name, kind, help, host->field);
#define RK_HOST_METRIC_MS(field, name, kind, help)                                         \
    print_head(out, name, kind, help);                                                     \
    rk_buf_printf(out, "%s %.3f\n", name, (double)host->field / 1000);
#include "host/host_metrics.def"
#undef RK_HOST_METRIC_MS
#undef RK_HOST_METRIC
    print_one(out, "rukun_stream_received_bytes_total", "counter",
              "Bytes received over RPC and from peers", worker->streams.bytes_in);
    print_one(out, "rukun_stream_sent_bytes_total", "counter",
              "Bytes sent over RPC and to peers", worker->streams.bytes_out);
    print_head(out, "rukun_log_lines_total", "counter", "Lines logged, by level");
    static const char *const levels[] = {"debug", "info", "warn", "error"};
    for (int i = 0; i < 4; i++)
        rk_buf_printf(out, "rukun_log_lines_total{level=\"%s\"} %llu\n", levels[i],
                      (unsigned long long)worker->log.lines[i]);
    print_groups(out, &status);
    print_calls(out, metrics);
    print_latency(out, metrics);
    print_turns(out, metrics);
    print_process(out);
    if (worker->engine->print_metrics != NULL) worker->engine->print_metrics(worker, out);
}
