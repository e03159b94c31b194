/* syncs.c - what the disk under a folder gives: fdatasync after each write of 4 KiB into a
 * file that was filled with zeros, for some seconds. Prints one line of JSON. */
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { BLOCK = 4096, BLOCKS = 16384, TIMES_MAX = 200000 };

static uint64_t now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static int compare(const void *a, const void *b)
{
    uint64_t left = *(const uint64_t *)a;
    uint64_t right = *(const uint64_t *)b;
    return left < right ? -1 : left > right;
}

int main(int argc, char **argv)
{
    static char block[BLOCK];
    static uint64_t times[TIMES_MAX];
    char path[1024];
    double seconds = argc > 2 ? strtod(argv[2], NULL) : 3;
    (void)snprintf(path, sizeof(path), "%s/syncs.tmp", argc > 1 ? argv[1] : ".");
    int fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (fd < 0) {
        fprintf(stderr, "syncs: %s: %s\n", path, strerror(errno));
        return 1;
    }
    (void)unlink(path);
    for (int i = 0; i < BLOCKS; i++)
        if (pwrite(fd, block, BLOCK, (off_t)i * BLOCK) != BLOCK) return 1;
    if (fdatasync(fd) != 0) return 1;
    memset(block, 1, sizeof(block));
    uint64_t start = now_ns();
    size_t count = 0;
    while (count < TIMES_MAX && (double)(now_ns() - start) < seconds * 1e9) {
        uint64_t before = now_ns();
        if (pwrite(fd, block, BLOCK, (off_t)(count % BLOCKS) * BLOCK) != BLOCK) return 1;
        if (fdatasync(fd) != 0) return 1;
        times[count++] = now_ns() - before;
    }
    double span = (double)(now_ns() - start) / 1e9;
    qsort(times, count, sizeof(times[0]), compare);
    printf("{\"work\":\"fdatasync 4 KiB, zero-filled\",\"per_second\":%.0f,\"p50_ms\":%.3f,"
           "\"p99_ms\":%.3f}\n",
           (double)count / span, (double)times[count / 2] / 1e6,
           (double)times[count * 99 / 100] / 1e6);
    close(fd);
    return 0;
}
