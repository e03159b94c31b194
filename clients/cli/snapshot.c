/* snapshot.c - rukun snapshot ...: a backup is read from a node; what is done to its file
 * needs the state machine, so rukund does it. */
#include "cli.h"

#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static int complain(const char *path, const char *text)
{
    fprintf(stderr, "rukun: %s: %s\n", path, text);
    return EXIT_ERROR;
}

/* --- rukund -------------------------------------------------------------------------- */

/* $RUKUN_RUKUND, or beside this program, or where the shell would find it. */
static const char *rukund_path(char path[PATH_MAX])
{
    const char *wish = getenv("RUKUN_RUKUND");
    if (wish != NULL && wish[0] != '\0') return wish;
    ssize_t size = readlink("/proc/self/exe", path, PATH_MAX - 1);
    if (size > 0) {
        path[size] = '\0';
        char *slash = strrchr(path, '/');
        if (slash != NULL && (size_t)(slash - path) + sizeof("/rukund") < PATH_MAX) {
            memcpy(slash, "/rukund", sizeof("/rukund"));
            if (access(path, X_OK) == 0) return path;
        }
    }
    return "rukund";
}

static int run_rukund(const char *const *words)
{
    (void)fflush(stdout);
    (void)execvp(words[0], (char *const *)(const void *)words);
    fprintf(stderr, "rukun: %s: %s (RUKUN_RUKUND says where it is)\n", words[0],
            strerror(errno));
    return EXIT_ERROR;
}

static int become_rukund(const char *verb, const struct cli *cli)
{
    char path[PATH_MAX];
    const char *words[] = {rukund_path(path), verb, cli->arguments[0], NULL, NULL, NULL};
    if (cli->data != NULL) {
        words[3] = "--data";
        words[4] = cli->data;
    }
    return run_rukund(words);
}

static int snapshot_verify(struct cli *cli)
{
    cli->data = NULL;
    return become_rukund("verify", cli);
}

static int snapshot_restore(struct cli *cli)
{
    if (cli->data == NULL) {
        fprintf(stderr,
                "rukun: snapshot restore needs --data DIR, a node's empty folder\n");
        return EXIT_USAGE;
    }
    return become_rukund("restore", cli);
}

int cli_migrate(int count, char **words)
{
    char path[PATH_MAX];
    const char **all = calloc((size_t)count + 3, sizeof(*all));
    if (all == NULL) return complain("migrate", strerror(ENOMEM));
    all[0] = rukund_path(path);
    all[1] = "migrate";
    for (int i = 0; i < count; i++)
        all[i + 2] = words[i];
    int code = run_rukund(all);
    free(all);
    return code;
}

/* --- save ---------------------------------------------------------------------------- */

/* The HTTP address of the node that is wished, else of the first one that is up. */
static int address_find(struct cli *cli, char *out, size_t out_size)
{
    int code = EXIT_DONE;
    if (cli->http != NULL) {
        (void)snprintf(out, out_size, "%s", cli->http);
        return EXIT_DONE;
    }
    rukun_client *client = cli_client(cli, &code);
    if (client == NULL) return code;
    rukun_error err;
    rukun_error_init(&err);
    rukun_text *text = NULL;
    if (rukun_call(&text, client, "cluster.info", "{}", &err) != RUKUN_OK)
        return cli_fail(&err);
    json_t *document =
        json_loadb(rukun_text_data(text), rukun_text_size(text), JSON_ALLOW_NUL, NULL);
    rukun_text_free(text);
    size_t i;
    json_t *node;
    out[0] = '\0';
    json_array_foreach(json_object_get(document, "nodes"), i, node)
    {
        const char *name = json_string_value(json_object_get(node, "name"));
        const char *http = json_string_value(json_object_get(node, "http"));
        bool is_up = json_is_true(json_object_get(node, "up"));
        if (name == NULL || http == NULL || out[0] != '\0') continue;
        if (cli->node == NULL ? is_up : strcmp(name, cli->node) == 0)
            (void)snprintf(out, out_size, "%s", http);
    }
    json_decref(document);
    if (out[0] != '\0') return EXIT_DONE;
    if (cli->node != NULL)
        fprintf(stderr, "rukun: node %s is not a member\n", cli->node);
    else
        fprintf(stderr, "rukun: no node is up\n");
    return EXIT_UNAVAILABLE;
}

/* What a problem document says. */
static void print_problem(const char *address, FILE *file)
{
    rewind(file);
    json_t *problem = json_loadf(file, 0, NULL);
    const char *title = json_string_value(json_object_get(problem, "title"));
    const char *detail = json_string_value(json_object_get(problem, "detail"));
    fprintf(stderr, "rukun: %s: %s%s%s\n", address, title == NULL ? "refused" : title,
            detail == NULL ? "" : ": ", detail == NULL ? "" : detail);
    json_decref(problem);
}

static int fetch(const char *address, const char *path, uint64_t *size)
{
    char error[CLI_HTTP_ERROR_SIZE] = "";
    int fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    FILE *file = fd < 0 ? NULL : fdopen(fd, "w+");
    if (file == NULL) {
        if (fd >= 0) (void)close(fd);
        return complain(path, strerror(errno));
    }
    int code = EXIT_DONE;
    int status = cli_http_get(address, "/snapshot", file, size, error);
    if (status == 0) {
        fprintf(stderr, "rukun: %s: %s\n", address, error);
        code = EXIT_UNAVAILABLE;
    } else if (status != 200) {
        print_problem(address, file);
        code = status == 503 || status == 429 ? EXIT_UNAVAILABLE : EXIT_ERROR;
    } else if (fflush(file) != 0 || fsync(fileno(file)) != 0) {
        code = complain(path, strerror(errno));
    }
    if (fclose(file) != 0 && code == EXIT_DONE) code = complain(path, strerror(errno));
    return code;
}

static int sync_folder(const char *path)
{
    char folder[PATH_MAX];
    const char *slash = strrchr(path, '/');
    size_t size = slash == NULL ? 0 : (size_t)(slash - path) + 1;
    if (size >= sizeof(folder)) return complain(path, "the path is too long");
    (void)snprintf(folder, sizeof(folder), "%.*s", (int)size, path);
    int fd = open(size == 0 ? "." : folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    int code = fd < 0 || fsync(fd) != 0 ? complain(path, strerror(errno)) : EXIT_DONE;
    if (fd >= 0) (void)close(fd);
    return code;
}

/* The file as it was written is read again and loaded: by rukund, where there is one. */
static int check(char *path)
{
    char program[PATH_MAX], verb[] = "verify";
    char *command[] = {NULL, verb, path, NULL};
    char *copy = strdup(rukund_path(program));
    if (copy == NULL) return EXIT_ERROR;
    command[0] = copy;
    int code = cli_spawn(command, NULL, 0, NULL, NULL);
    free(copy);
    if (code != 127) return code == 0 ? EXIT_DONE : complain(path, "is not sound");
    fprintf(stderr, "rukun: not verified, since there is no rukund here: run rukund verify "
                    "where there is one\n");
    return EXIT_DONE;
}

static int snapshot_save(struct cli *cli)
{
    char address[256], path[PATH_MAX];
    const char *final = cli->arguments[0];
    uint64_t size = 0;
    int length = snprintf(path, sizeof(path), "%s.part", final);
    if (length < 0 || (size_t)length >= sizeof(path))
        return complain(final, "the path is too long");
    int code = address_find(cli, address, sizeof(address));
    if (code != EXIT_DONE) return code;
    code = fetch(address, path, &size);
    if (code == EXIT_DONE) code = check(path);
    if (code == EXIT_DONE && rename(path, final) != 0)
        code = complain(final, strerror(errno));
    if (code != EXIT_DONE) {
        (void)unlink(path);
        return code;
    }
    code = sync_folder(final);
    if (code == EXIT_DONE)
        fprintf(stderr, "rukun: %s: %llu bytes from %s\n", final, (unsigned long long)size,
                address);
    return code;
}

const struct cli_command cli_snapshot_commands[] = {
    {"snapshot", "save", "FILE [--node NAME]", "a backup of the cluster", 1, 1, false,
     snapshot_save},
    {"snapshot", "verify", "FILE", "check a backup (runs rukund)", 1, 1, false,
     snapshot_verify},
    {"snapshot", "restore", "FILE --data DIR", "lay it into a node's folder (runs rukund)",
     1, 1, false, snapshot_restore},
    {NULL, NULL, NULL, NULL, 0, 0, false, NULL},
};
