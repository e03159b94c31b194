/* load.c - a closed-loop load generator for a running cluster.
 *
 *     load --http HOST:PORT --work lock|queue|cache|publish|lock1 --workers 16
 *          [--depth 1] [--seconds 5] [--warm 1] [--json] [--linearizable]
 *
 * Each worker is a client: it has a connection to every node, as librukun has, sends each
 * call to the leader of its group, and waits for the answer before its next step (depth:
 * so many steps at once). One thread, epoll, nothing else on its path, so that the server
 * is what is measured. Gets carry the position that the worker has seen, as librukun's do;
 * with --linearizable they carry none, so that each is confirmed by a majority. Prints one
 * line of JSON: operations a second and latencies.
 *
 * lock: acquire + release of a lock of its own (one operation is the pair). lock1: the same
 * on ONE lock that all want, waiting. queue: publish, consume, ack on 64 topics (one
 * operation is the cycle). publish: publish only. cache: 90 % get, 10 % put of 10,000 keys.
 */
#include "api/api.h"
#include "base/alloc.h"
#include "base/random.h"
#include "base/slot.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum {
    NODES_MAX = 9,
    GROUPS_MAX = 257,
    LATENCIES_MAX = 4000000,
    KEYS = 10000,
    TOPICS = 64,
    VALUE_SIZE = 128,
};

enum work { WORK_LOCK, WORK_LOCK1, WORK_QUEUE, WORK_PUBLISH, WORK_CACHE };
static const char *const work_names[] = {"lock", "lock1", "queue", "publish", "cache"};

struct connection {
    int fd;
    struct rk_buf out;
    size_t out_at;
    struct rk_buf in;
    size_t in_at;
    struct worker *worker;
    uint32_t *fifo; /* HTTP: steps in the order of their requests */
    uint32_t fifo_head, fifo_tail;
    bool is_writing;
};

/* One of a worker's `depth` chains of calls. */
struct step {
    uint32_t state; /* of its cycle */
    uint32_t group; /* of the call under way */
    uint64_t started_ns;
    char id[80];    /* of the delivery */
    char topic[32]; /* where the cycle is */
};

struct worker {
    uint32_t number;
    struct connection connections[NODES_MAX];
    struct step *steps;
    char (*positions)[64]; /* by group; "" nothing seen yet */
};

struct bench {
    const char *http;
    enum work work;
    uint32_t workers, depth;
    double seconds, warm;
    bool is_json;
    bool is_linearizable;
    uint32_t node_count;
    char rpc[NODES_MAX][64];
    char web[NODES_MAX][64];
    uint32_t leaders[GROUPS_MAX];
    uint16_t slots[RK_SLOT_COUNT];
    int epoll;
    struct worker *all;
    struct rk_random random;
    uint64_t measure_from_ns, end_ns;
    uint64_t operations, errors, empties;
    uint32_t *latencies_us;
    uint64_t latency_count;
    char value[VALUE_SIZE * 2];
};

static uint64_t now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

__attribute__((noreturn)) static void die(const char *what, const char *why)
{
    fprintf(stderr, "load: %s: %s\n", what, why);
    exit(1);
}

static int dial(const char *address)
{
    char host[64];
    (void)snprintf(host, sizeof(host), "%s", address);
    char *colon = strrchr(host, ':');
    if (colon == NULL) die(address, "is not host:port");
    *colon = '\0';
    struct sockaddr_in to = {.sin_family = AF_INET,
                             .sin_port = htons((uint16_t)strtoul(colon + 1, NULL, 10))};
    if (inet_pton(AF_INET, host, &to.sin_addr) != 1) die(address, "is no IPv4 address");
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0 || connect(fd, (struct sockaddr *)&to, sizeof(to)) != 0)
        die(address, strerror(errno));
    int on = 1;
    (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
    return fd;
}

/* --- what the cluster looks like */

static json_t *fetch_cluster(const char *address)
{
    int fd = dial(address);
    char request[256];
    int size =
        snprintf(request, sizeof(request),
                 "GET /cluster HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n\r\n", address);
    if (write(fd, request, (size_t)size) != size) die(address, strerror(errno));
    struct rk_buf answer;
    rk_buf_init(&answer);
    for (;;) {
        uint8_t *to = rk_buf_extend(&answer, 65536);
        if (to == NULL) die("answer", "out of memory");
        ssize_t got = read(fd, to, 65536);
        answer.size -= 65536 - (got > 0 ? (size_t)got : 0);
        if (got <= 0) break;
    }
    close(fd);
    rk_buf_u8(&answer, 0);
    if (answer.data == NULL) die("answer", "out of memory");
    const char *body = strstr((char *)answer.data, "\r\n\r\n");
    json_t *document =
        body != NULL ? json_loads(body + 4, JSON_DISABLE_EOF_CHECK, NULL) : NULL;
    if (document == NULL) die(address, "/cluster gave no JSON");
    rk_buf_fini(&answer);
    return document;
}

static uint32_t node_index(const json_t *nodes, const char *name)
{
    size_t i;
    const json_t *node;
    json_array_foreach(nodes, i, node)
    {
        const char *text = json_string_value(json_object_get(node, "name"));
        if (text != NULL && name != NULL && strcmp(text, name) == 0) return (uint32_t)i;
    }
    die("a group", "has no leader");
}

static void learn(struct bench *bench)
{
    json_t *document = fetch_cluster(bench->http);
    json_t *nodes = json_object_get(document, "nodes");
    size_t i;
    const json_t *item;
    json_array_foreach(nodes, i, item)
    {
        if (i >= NODES_MAX) die("cluster", "too many nodes");
        (void)snprintf(bench->rpc[i], 64, "%s",
                       json_string_value(json_object_get(item, "rpc")));
        (void)snprintf(bench->web[i], 64, "%s",
                       json_string_value(json_object_get(item, "http")));
    }
    bench->node_count = (uint32_t)json_array_size(nodes);
    json_array_foreach(json_object_get(document, "groups"), i, item)
    {
        json_int_t id = json_integer_value(json_object_get(item, "id"));
        if (id < 0 || id >= GROUPS_MAX) die("cluster", "a group number is out of bounds");
        bench->leaders[id] =
            node_index(nodes, json_string_value(json_object_get(item, "leader")));
    }
    json_array_foreach(json_object_get(document, "slots"), i, item)
    {
        json_int_t last = json_integer_value(json_array_get(item, 1));
        for (json_int_t slot = json_integer_value(json_array_get(item, 0));
             slot <= last && slot < RK_SLOT_COUNT; slot++)
            bench->slots[slot] = (uint16_t)json_integer_value(json_array_get(item, 2));
    }
    json_decref(document);
}

/* --- requests */

static void pack_text(struct rk_buf *out, const char *text)
{
    size_t size = strlen(text);
    if (size < 32) {
        rk_buf_u8(out, (uint8_t)(0xa0 | size));
    } else {
        rk_buf_u8(out, 0xd9);
        rk_buf_u8(out, (uint8_t)size);
    }
    rk_buf_append(out, text, size);
}

static void connection_arm(struct bench *bench, struct connection *connection,
                           bool is_writing)
{
    if (connection->is_writing == is_writing) return;
    struct epoll_event event = {.events = EPOLLIN | (is_writing ? EPOLLOUT : 0),
                                .data.ptr = connection};
    if (epoll_ctl(bench->epoll, EPOLL_CTL_MOD, connection->fd, &event) != 0)
        die("epoll", strerror(errno));
    connection->is_writing = is_writing;
}

static void connection_flush(struct bench *bench, struct connection *connection)
{
    while (connection->out_at < connection->out.size) {
        ssize_t put = write(connection->fd, connection->out.data + connection->out_at,
                            connection->out.size - connection->out_at);
        if (put < 0 && errno == EAGAIN) {
            connection_arm(bench, connection, true);
            return;
        }
        if (put <= 0) die("write", strerror(errno));
        connection->out_at += (size_t)put;
    }
    rk_buf_reset(&connection->out);
    connection->out_at = 0;
    connection_arm(bench, connection, false);
}

struct field {
    const char *name;
    const char *text;  /* or */
    uint64_t number;   /* or */
    const char *value; /* JSON text of a value, sent as it is, or as msgpack str */
};

static void send_call(struct bench *bench, struct worker *worker, uint32_t step,
                      uint32_t group, const char *operation, const struct field *fields,
                      uint32_t count)
{
    struct connection *connection = &worker->connections[bench->leaders[group]];
    struct rk_buf *out = &connection->out;
    const char *position = worker->positions[group];
    bool has_position = !bench->is_linearizable && position[0] != '\0' &&
                        strcmp(operation, "cache.get") == 0;
    worker->steps[step].group = group;
    if (!bench->is_json) {
        rk_buf_u8(out, 0x94);
        rk_buf_u8(out, 0);
        rk_buf_u8(out, 0xcd);
        rk_buf_u8(out, (uint8_t)(step >> 8));
        rk_buf_u8(out, (uint8_t)step);
        pack_text(out, operation);
        rk_buf_u8(out, 0x91);
        rk_buf_u8(out, (uint8_t)(0x80 | (count + has_position)));
        if (has_position) {
            pack_text(out, "position");
            pack_text(out, position);
        }
        for (uint32_t i = 0; i < count; i++) {
            pack_text(out, fields[i].name);
            if (fields[i].text != NULL) {
                pack_text(out, fields[i].text);
            } else if (fields[i].value != NULL) {
                pack_text(out, fields[i].value);
            } else {
                rk_buf_u8(out, 0xce);
                for (int shift = 24; shift >= 0; shift -= 8)
                    rk_buf_u8(out, (uint8_t)(fields[i].number >> shift));
            }
        }
        return;
    }
    char body[1024];
    int size = snprintf(body, sizeof(body), "{");
    for (uint32_t i = 0; i < count; i++) {
        const char *comma = i + 1 < count ? "," : "}";
        if (fields[i].text == NULL && fields[i].value == NULL)
            size += snprintf(body + size, sizeof(body) - (size_t)size, "\"%s\":%llu%s",
                             fields[i].name, (unsigned long long)fields[i].number, comma);
        else
            size += snprintf(
                body + size, sizeof(body) - (size_t)size, "\"%s\":\"%s\"%s", fields[i].name,
                fields[i].text != NULL ? fields[i].text : fields[i].value, comma);
    }
    char path[64];
    (void)snprintf(path, sizeof(path), "/%s", operation);
    char *dot = strchr(path, '.');
    if (dot != NULL) *dot = '/';
    rk_buf_printf(out,
                  "POST %s HTTP/1.1\r\nHost: rukun\r\nContent-Type: application/json\r\n"
                  "%s%s%sContent-Length: %d\r\n\r\n%s",
                  path, has_position ? "Rukun-Position: " : "",
                  has_position ? position : "", has_position ? "\r\n" : "", size, body);
    connection->fifo[connection->fifo_tail++ % (bench->depth + 1)] = step;
}

static uint32_t group_of_topic(const struct bench *bench, const char *topic)
{
    return bench->slots[rk_slot_of_topic(rk_slice_of_string(topic))];
}

/* Sends the call of the step's present state. */
static void step_send(struct bench *bench, struct worker *worker, uint32_t number)
{
    struct step *step = &worker->steps[number];
    char name[64];
    char owner[64];
    if (step->state == 0) step->started_ns = now_ns();
    (void)snprintf(owner, sizeof(owner), "w%u.%u", worker->number, number);
    switch (bench->work) {
    case WORK_LOCK:
    case WORK_LOCK1: {
        bool is_one = bench->work == WORK_LOCK1;
        (void)snprintf(name, sizeof(name), is_one ? "one" : "r%u.%u", worker->number,
                       number);
        struct field fields[] = {{"resource", name, 0, NULL},
                                 {"owner", owner, 0, NULL},
                                 {"wait_ms", NULL, 60000, NULL}};
        send_call(bench, worker, number, 0,
                  step->state == 0 ? "lock.acquire" : "lock.release", fields,
                  step->state == 0 && is_one ? 3 : 2);
        return;
    }
    case WORK_QUEUE:
    case WORK_PUBLISH: {
        if (step->state == 0)
            (void)snprintf(step->topic, sizeof(step->topic), "bench-%llu",
                           (unsigned long long)rk_random_below(&bench->random, TOPICS));
        uint32_t group = group_of_topic(bench, step->topic);
        if (step->state == 0) {
            struct field fields[] = {{"topic", step->topic, 0, NULL},
                                     {"data", NULL, 0, bench->value}};
            send_call(bench, worker, number, group, "queue.publish", fields, 2);
        } else if (step->state == 1) {
            struct field fields[] = {{"topic", step->topic, 0, NULL},
                                     {"wait_ms", NULL, 10000, NULL}};
            send_call(bench, worker, number, group, "queue.consume", fields, 2);
        } else {
            struct field fields[] = {{"topic", step->topic, 0, NULL},
                                     {"id", step->id, 0, NULL}};
            send_call(bench, worker, number, group, "queue.ack", fields, 2);
        }
        return;
    }
    case WORK_CACHE: {
        (void)snprintf(name, sizeof(name), "k%llu",
                       (unsigned long long)rk_random_below(&bench->random, KEYS));
        bool is_put = rk_random_below(&bench->random, 10) == 0;
        struct field fields[] = {{"key", name, 0, NULL}, {"value", NULL, 0, bench->value}};
        send_call(bench, worker, number,
                  bench->slots[rk_slot_of_name(rk_slice_of_string(name))],
                  is_put ? "cache.put" : "cache.get", fields, is_put ? 2 : 1);
        return;
    }
    }
}

static void step_finish(struct bench *bench, struct step *step)
{
    uint64_t now = now_ns();
    step->state = 0;
    if (now < bench->measure_from_ns || now >= bench->end_ns) return;
    bench->operations++;
    if (bench->latency_count < LATENCIES_MAX)
        bench->latencies_us[bench->latency_count++] =
            (uint32_t)((now - step->started_ns) / 1000);
}

/* The delivery id in an answer: a text after the key "id"; false: no message came. */
static bool find_id(const struct bench *bench, struct rk_slice body, char out[80])
{
    const char *key = bench->is_json ? "\"id\":\"" : "\xa2id";
    size_t key_size = strlen(key);
    const uint8_t *at = memmem(body.data, body.size, key, key_size);
    if (at == NULL) return false;
    at += key_size;
    size_t left = body.size - (size_t)(at - body.data);
    size_t size = 0;
    if (bench->is_json) {
        const uint8_t *quote = memchr(at, '"', left);
        if (quote == NULL) return false;
        size = (size_t)(quote - at);
    } else if (left > 2 && at[0] == 0xd9) {
        size = at[1];
        at += 2;
    } else if (left > 1 && (at[0] & 0xe0) == 0xa0) {
        size = at[0] & 0x1f;
        at++;
    }
    if (size == 0 || size >= 80) return false;
    memcpy(out, at, size);
    out[size] = '\0';
    return true;
}

/* Keeps the position that an answer carries, for later gets of the same group. */
static void note_position(const struct bench *bench, struct worker *worker, uint32_t number,
                          struct rk_slice answer)
{
    const char *key = bench->is_json ? "Rukun-Position: " : "\xa8position";
    const uint8_t *at = memmem(answer.data, answer.size, key, strlen(key));
    if (at == NULL) return;
    at += strlen(key);
    size_t left = answer.size - (size_t)(at - answer.data);
    const uint8_t *end = bench->is_json ? memchr(at, '\r', left) : NULL;
    size_t size = end != NULL ? (size_t)(end - at) : 0;
    if (!bench->is_json && left > 2 && at[0] == 0xd9) {
        size = at[1];
        at += 2;
    } else if (!bench->is_json && left > 1) {
        size = at[0] & 0x1f;
        at++;
    }
    if (size == 0 || size >= 64) return;
    char *to = worker->positions[worker->steps[number].group];
    memcpy(to, at, size);
    to[size] = '\0';
}

static void step_answer(struct bench *bench, struct worker *worker, uint32_t number,
                        bool is_error, struct rk_slice body)
{
    struct step *step = &worker->steps[number];
    if (is_error) {
        if (bench->errors++ < 3)
            fprintf(stderr, "load: error %.*s\n", (int)(body.size < 300 ? body.size : 300),
                    (const char *)body.data);
        step->state = 0;
    } else if (bench->work == WORK_QUEUE) {
        if (step->state == 1 && !find_id(bench, body, step->id)) {
            bench->empties++;
            step->state = 0;
        } else if (step->state == 2) {
            step_finish(bench, step);
        } else {
            step->state++;
        }
    } else if (bench->work == WORK_LOCK || bench->work == WORK_LOCK1) {
        if (step->state == 1)
            step_finish(bench, step);
        else
            step->state = 1;
    } else {
        step_finish(bench, step);
    }
    if (now_ns() < bench->end_ns || step->state != 0) step_send(bench, worker, number);
}

/* --- answers */

static bool take_rpc(struct bench *bench, struct connection *connection)
{
    struct rk_slice in = rk_slice_of(connection->in.data + connection->in_at,
                                     connection->in.size - connection->in_at);
    size_t size = 0;
    if (in.size == 0 || rk_msgpack_measure(in, &size) != RK_OK) return false;
    connection->in_at += size;
    size_t at = 2;
    uint32_t id = in.data[at];
    if (id == 0xcd) {
        id = (uint32_t)in.data[at + 1] << 8 | in.data[at + 2];
        at += 3;
    } else if (id == 0xcc) {
        id = in.data[at + 1];
        at += 2;
    } else {
        at += 1;
    }
    bool is_error = in.data[at] != 0xc0;
    if (id == 0xffff) {
        if (is_error) die("hello", "refused");
        return true; /* the hello */
    }
    step_answer(bench, connection->worker, id, is_error,
                rk_slice_of(in.data + at, size - at));
    return true;
}

static bool take_http(struct bench *bench, struct connection *connection)
{
    const uint8_t *data = connection->in.data + connection->in_at;
    size_t left = connection->in.size - connection->in_at;
    if (left == 0) return false;
    const uint8_t *end = memmem(data, left, "\r\n\r\n", 4);
    if (end == NULL) return false;
    size_t head = (size_t)(end - data) + 4;
    const char *length = memmem(data, head, "Content-Length: ", 16);
    size_t size = length != NULL ? strtoul(length + 16, NULL, 10) : 0;
    if (left < head + size) return false;
    connection->in_at += head + size;
    uint32_t step = connection->fifo[connection->fifo_head++ % (bench->depth + 1)];
    if (bench->work == WORK_CACHE)
        note_position(bench, connection->worker, step, rk_slice_of(data, head));
    step_answer(bench, connection->worker, step, memcmp(data + 9, "200", 3) != 0,
                rk_slice_of(data + head, size));
    return true;
}

static void connection_read(struct bench *bench, struct connection *connection)
{
    for (;;) {
        size_t before = connection->in.size;
        uint8_t *to = rk_buf_extend(&connection->in, 65536);
        if (to == NULL) die("read", "out of memory");
        ssize_t got = read(connection->fd, to, 65536);
        connection->in.size = before + (got > 0 ? (size_t)got : 0);
        if (got < 0 && errno == EAGAIN) break;
        if (got <= 0) die("read", got == 0 ? "closed by the node" : strerror(errno));
        if (got < 65536) break;
    }
    while (bench->is_json ? take_http(bench, connection) : take_rpc(bench, connection)) {
    }
    if (connection->in_at == connection->in.size) {
        rk_buf_reset(&connection->in);
        connection->in_at = 0;
    }
}

/* --- the run */

static void worker_open(struct bench *bench, struct worker *worker)
{
    worker->steps = rk_calloc(bench->depth, sizeof(*worker->steps));
    worker->positions = rk_calloc(GROUPS_MAX, sizeof(*worker->positions));
    if (worker->steps == NULL || worker->positions == NULL) die("worker", "out of memory");
    for (uint32_t i = 0; i < bench->node_count; i++) {
        struct connection *connection = &worker->connections[i];
        connection->worker = worker;
        rk_buf_init(&connection->in);
        rk_buf_init(&connection->out);
        connection->fifo = rk_calloc(bench->depth + 1, sizeof(uint32_t));
        connection->fd = dial(bench->is_json ? bench->web[i] : bench->rpc[i]);
        (void)fcntl(connection->fd, F_SETFL, O_NONBLOCK);
        struct epoll_event event = {.events = EPOLLIN, .data.ptr = connection};
        if (connection->fifo == NULL ||
            epoll_ctl(bench->epoll, EPOLL_CTL_ADD, connection->fd, &event) != 0)
            die("epoll", strerror(errno));
        if (bench->is_json) continue;
        static const uint8_t hello[] = {0x94, 0, 0xcd, 0xff, 0xff};
        rk_buf_append(&connection->out, hello, sizeof(hello));
        pack_text(&connection->out, "hello");
        rk_buf_u8(&connection->out, 0x91);
        rk_buf_u8(&connection->out, 0x82);
        pack_text(&connection->out, "protocol");
        rk_buf_u8(&connection->out, 1);
        pack_text(&connection->out, "client");
        pack_text(&connection->out, "load");
    }
}

static void worker_flush(struct bench *bench, struct worker *worker)
{
    for (uint32_t i = 0; i < bench->node_count; i++)
        connection_flush(bench, &worker->connections[i]);
}

static void run(struct bench *bench)
{
    bench->epoll = epoll_create1(EPOLL_CLOEXEC);
    bench->all = rk_calloc(bench->workers, sizeof(*bench->all));
    if (bench->epoll < 0 || bench->all == NULL) die("epoll", strerror(errno));
    for (uint32_t i = 0; i < bench->workers; i++) {
        bench->all[i].number = i;
        worker_open(bench, &bench->all[i]);
    }
    uint64_t start = now_ns();
    bench->measure_from_ns = start + (uint64_t)(bench->warm * 1e9);
    bench->end_ns = bench->measure_from_ns + (uint64_t)(bench->seconds * 1e9);
    for (uint32_t i = 0; i < bench->workers; i++) {
        for (uint32_t step = 0; step < bench->depth; step++)
            step_send(bench, &bench->all[i], step);
        worker_flush(bench, &bench->all[i]);
    }
    struct epoll_event events[256];
    while (now_ns() < bench->end_ns) {
        int count = epoll_wait(bench->epoll, events, 256, 100);
        for (int i = 0; i < count; i++) {
            struct connection *connection = events[i].data.ptr;
            if (events[i].events & (EPOLLIN | EPOLLHUP | EPOLLERR))
                connection_read(bench, connection);
        }
        for (int i = 0; i < count; i++) {
            struct connection *connection = events[i].data.ptr;
            worker_flush(bench, connection->worker);
        }
    }
}

static int compare_u32(const void *a, const void *b)
{
    uint32_t left = *(const uint32_t *)a;
    uint32_t right = *(const uint32_t *)b;
    return left < right ? -1 : left > right;
}

static double percentile(const struct bench *bench, double share)
{
    if (bench->latency_count == 0) return 0;
    uint64_t at = (uint64_t)(share * (double)(bench->latency_count - 1));
    return bench->latencies_us[at] / 1000.0;
}

static void report(struct bench *bench)
{
    qsort(bench->latencies_us, bench->latency_count, sizeof(uint32_t), compare_u32);
    printf(
        "{\"work\":\"%s\",\"over\":\"%s\",\"workers\":%u,\"depth\":%u,\"per_second\":%.0f,"
        "\"p50_ms\":%.2f,\"p99_ms\":%.2f,\"p999_ms\":%.2f,\"errors\":%llu,\"empty\":%llu}"
        "\n",
        work_names[bench->work], bench->is_json ? "http-json" : "rpc", bench->workers,
        bench->depth, (double)bench->operations / bench->seconds, percentile(bench, 0.5),
        percentile(bench, 0.99), percentile(bench, 0.999),
        (unsigned long long)bench->errors, (unsigned long long)bench->empties);
}

static void parse(struct bench *bench, int argc, char **argv)
{
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--json") == 0) {
            bench->is_json = true;
            continue;
        }
        if (strcmp(argv[i], "--linearizable") == 0) {
            bench->is_linearizable = true;
            continue;
        }
        if (i + 1 >= argc) die(argv[i], "needs a value");
        const char *name = argv[i];
        const char *value = argv[++i];
        if (strcmp(name, "--http") == 0)
            bench->http = value;
        else if (strcmp(name, "--workers") == 0)
            bench->workers = (uint32_t)strtoul(value, NULL, 10);
        else if (strcmp(name, "--depth") == 0)
            bench->depth = (uint32_t)strtoul(value, NULL, 10);
        else if (strcmp(name, "--seconds") == 0)
            bench->seconds = strtod(value, NULL);
        else if (strcmp(name, "--warm") == 0)
            bench->warm = strtod(value, NULL);
        else if (strcmp(name, "--work") == 0) {
            uint32_t found = UINT32_MAX;
            for (uint32_t w = 0; w < sizeof(work_names) / sizeof(work_names[0]); w++)
                if (strcmp(work_names[w], value) == 0) found = w;
            if (found == UINT32_MAX) die(value, "is no work");
            bench->work = (enum work)found;
        } else {
            die(name, "is no option");
        }
    }
    if (bench->http == NULL) die("--http", "is missing");
    if (bench->workers < 1 || bench->workers > 4096) die("--workers", "is not in 1..4096");
    if (bench->depth < 1 || bench->depth > 1024) die("--depth", "is not in 1..1024");
}

int main(int argc, char **argv)
{
    static struct bench bench = {.workers = 16, .depth = 1, .seconds = 5, .warm = 1};
    parse(&bench, argc, argv);
    memset(bench.value, 'v', VALUE_SIZE);
    rk_random_init(&bench.random, 1);
    bench.latencies_us = rk_calloc(LATENCIES_MAX, sizeof(uint32_t));
    if (bench.latencies_us == NULL) die("latencies", "out of memory");
    learn(&bench);
    run(&bench);
    report(&bench);
    return bench.operations > 0 ? 0 : 1;
}
