/* http.c - one GET whose answer is written to a file as it comes. */
#include "cli.h"

#include <errno.h>
#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

enum { SILENCE_S = 60, BUFFER_SIZE = 64 << 10, LINE_MAX_SIZE = 4096 };

struct answer {
    int fd;
    size_t at, end; /* of the bytes in buffer */
    char *error;
    char buffer[BUFFER_SIZE];
};

static bool fail(struct answer *answer, const char *text)
{
    (void)snprintf(answer->error, CLI_HTTP_ERROR_SIZE, "%s", text);
    return false;
}

static bool fill(struct answer *answer)
{
    ssize_t got;
    do
        got = recv(answer->fd, answer->buffer, sizeof(answer->buffer), 0);
    while (got < 0 && errno == EINTR);
    if (got < 0 && (errno == EAGAIN || errno == EWOULDBLOCK))
        return fail(answer, "the node is silent");
    if (got < 0) return fail(answer, strerror(errno));
    if (got == 0) return fail(answer, "the node gave up in the midst; its log says why");
    answer->at = 0;
    answer->end = (size_t)got;
    return true;
}

/* Without the line's end. */
static bool read_line(struct answer *answer, char line[LINE_MAX_SIZE])
{
    for (size_t size = 0; size < LINE_MAX_SIZE;) {
        if (answer->at == answer->end && !fill(answer)) return false;
        char c = answer->buffer[answer->at++];
        if (c != '\n') {
            line[size++] = c;
            continue;
        }
        if (size > 0 && line[size - 1] == '\r') size--;
        line[size] = '\0';
        return true;
    }
    return fail(answer, "an overlong line in the answer");
}

static bool pass_on(struct answer *answer, uint64_t size, FILE *out, uint64_t *total)
{
    while (size > 0) {
        if (answer->at == answer->end && !fill(answer)) return false;
        size_t part = answer->end - answer->at;
        if (part > size) part = (size_t)size;
        if (fwrite(answer->buffer + answer->at, 1, part, out) != part)
            return fail(answer, strerror(errno));
        answer->at += part;
        size -= part;
        *total += part;
    }
    return true;
}

/* Chunks (RFC 9112, section 7.1): only the last one, of size 0, says that all came. */
static bool read_chunks(struct answer *answer, FILE *out, uint64_t *total)
{
    char line[LINE_MAX_SIZE];
    for (;;) {
        char *end;
        if (!read_line(answer, line)) return false;
        uint64_t size = strtoull(line, &end, 16);
        if (end == line || (*end != '\0' && *end != ';'))
            return fail(answer, "a malformed chunk in the answer");
        if (size == 0) return true;
        if (!pass_on(answer, size, out, total) || !read_line(answer, line)) return false;
    }
}

struct head {
    int status;
    bool is_chunked;
    uint64_t size; /* Content-Length */
};

static bool read_head(struct answer *answer, struct head *head)
{
    char line[LINE_MAX_SIZE];
    memset(head, 0, sizeof(*head));
    if (!read_line(answer, line)) return false;
    if (strncmp(line, "HTTP/1.1 ", 9) != 0) return fail(answer, "no HTTP is spoken there");
    head->status = (int)strtol(line + 9, NULL, 10);
    for (;;) {
        if (!read_line(answer, line)) return false;
        if (line[0] == '\0') return true;
        if (strncasecmp(line, "Transfer-Encoding:", 18) == 0)
            head->is_chunked = strstr(line, "chunked") != NULL;
        if (strncasecmp(line, "Content-Length:", 15) == 0)
            head->size = strtoull(line + 15, NULL, 10);
    }
}

static int dial(const char *address, char *error)
{
    char host[256];
    const struct timeval silence = {SILENCE_S, 0};
    const char *colon = strrchr(address, ':');
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM}, *found = NULL;
    int fd = -1;
    (void)snprintf(error, CLI_HTTP_ERROR_SIZE, "%s is no host:port", address);
    if (colon == NULL || (size_t)(colon - address) >= sizeof(host)) return -1;
    bool is_bracketed = address[0] == '[' && colon > address && colon[-1] == ']';
    (void)snprintf(host, sizeof(host), "%.*s",
                   (int)(colon - address) - (is_bracketed ? 2 : 0),
                   address + (is_bracketed ? 1 : 0));
    int code = getaddrinfo(host, colon + 1, &hints, &found);
    if (code != 0) {
        (void)snprintf(error, CLI_HTTP_ERROR_SIZE, "%s: %s", address, gai_strerror(code));
        return -1;
    }
    for (const struct addrinfo *at = found; at != NULL && fd < 0; at = at->ai_next) {
        fd = socket(at->ai_family, at->ai_socktype | SOCK_CLOEXEC, at->ai_protocol);
        if (fd < 0) continue;
        (void)setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &silence, sizeof(silence));
        (void)setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &silence, sizeof(silence));
        if (connect(fd, at->ai_addr, at->ai_addrlen) == 0) continue;
        (void)snprintf(error, CLI_HTTP_ERROR_SIZE, "%s: %s", address, strerror(errno));
        (void)close(fd);
        fd = -1;
    }
    freeaddrinfo(found);
    return fd;
}

int cli_http_get(const char *address, const char *path, FILE *out, uint64_t *size,
                 char error[CLI_HTTP_ERROR_SIZE])
{
    char request[512];
    struct head head = {0};
    *size = 0;
    struct answer *answer = calloc(1, sizeof(*answer));
    int fd = answer == NULL ? -1 : dial(address, error);
    if (fd < 0) {
        free(answer);
        return 0;
    }
    answer->fd = fd;
    answer->error = error;
    int length =
        snprintf(request, sizeof(request),
                 "GET %s HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n\r\n", path, address);
    bool is_ok = length > 0 && (size_t)length < sizeof(request) &&
                 send(fd, request, (size_t)length, MSG_NOSIGNAL) == length;
    if (!is_ok) (void)fail(answer, "the request can not be sent");
    is_ok = is_ok && read_head(answer, &head) &&
            (head.is_chunked ? read_chunks(answer, out, size)
                             : pass_on(answer, head.size, out, size));
    (void)close(fd);
    free(answer);
    return is_ok ? head.status : 0;
}
