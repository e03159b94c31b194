/* spawn.c - runs a command while something is watched. */
#include "cli.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define BEAT_MS  200
#define GRACE_MS 5000

static volatile sig_atomic_t caught;

static void on_signal(int number)
{
    caught = number;
}

static uint64_t now_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

static pid_t start(char **command, int *input_fd)
{
    int pipes[2] = {-1, -1};
    if (input_fd != NULL && pipe2(pipes, O_CLOEXEC) != 0) return -1;
    pid_t pid = fork();
    if (pid == 0) {
        signal(SIGINT, SIG_DFL);
        signal(SIGTERM, SIG_DFL);
        signal(SIGPIPE, SIG_DFL);
        if (input_fd != NULL) (void)dup2(pipes[0], STDIN_FILENO);
        execvp(command[0], command);
        fprintf(stderr, "rukun: %s: %s\n", command[0], strerror(errno));
        _exit(127);
    }
    if (input_fd != NULL) {
        close(pipes[0]);
        *input_fd = pipes[1];
        if (pid < 0) close(pipes[1]);
    }
    return pid;
}

/* Writes what the pipe takes now; closes it when all is out or nobody reads. */
static void feed(int *fd, const char **at, size_t *left)
{
    while (*fd >= 0) {
        ssize_t written = *left > 0 ? write(*fd, *at, *left) : 0;
        if (written < 0 && (errno == EAGAIN || errno == EINTR)) return;
        if (written > 0) {
            *at += written;
            *left -= (size_t)written;
        }
        if (written <= 0 || *left == 0) {
            close(*fd);
            *fd = -1;
        }
    }
}

int cli_spawn(char **command, const void *input, size_t size, bool (*beat)(void *context),
              void *context)
{
    struct sigaction action;
    memset(&action, 0, sizeof(action));
    action.sa_handler = on_signal;
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
    signal(SIGPIPE, SIG_IGN);
    caught = 0;
    int fd = -1;
    const char *at = input;
    size_t left = size;
    pid_t pid = start(command, input != NULL ? &fd : NULL);
    if (pid < 0) {
        fprintf(stderr, "rukun: %s: %s\n", command[0], strerror(errno));
        return 127;
    }
    if (fd >= 0) (void)fcntl(fd, F_SETFL, O_NONBLOCK);
    uint64_t ended_ms = 0; /* since when it is told to end */
    uint64_t beat_ms = now_ms();
    for (;;) {
        int result = 0;
        pid_t done = waitpid(pid, &result, WNOHANG);
        if (done == pid) {
            if (fd >= 0) close(fd);
            return WIFEXITED(result) ? WEXITSTATUS(result) : 128 + WTERMSIG(result);
        }
        feed(&fd, &at, &left);
        struct pollfd wait = {fd, POLLOUT, 0};
        (void)poll(fd >= 0 ? &wait : NULL, fd >= 0 ? 1 : 0, 20);
        uint64_t now = now_ms();
        if (caught != 0) {
            kill(pid, caught);
            caught = 0;
        }
        if (ended_ms != 0) {
            if (now - ended_ms > GRACE_MS) kill(pid, SIGKILL);
            continue;
        }
        if (beat == NULL || now - beat_ms < BEAT_MS) continue;
        beat_ms = now;
        if (beat(context)) continue;
        ended_ms = now;
        kill(pid, SIGTERM);
    }
}
