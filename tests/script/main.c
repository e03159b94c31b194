/* Runs recorded traces and compares: script_runner [--rewrite] [FILE|FOLDER...].
 *
 * With --rewrite the files named get what comes out as what is expected: to be read line by
 * line before it is kept.
 *
 * Without arguments the folder is RUKUN_CONFORMANCE_DIR, or the one given at configure
 * time; where it is absent the run is skipped (exit code 77). A deviation on purpose is a
 * line "file.txt:LINE reason" in deviations.txt; a case that is neither equal nor listed
 * fails, and so does one that is listed and equal. */
#include "script/script.h"

#include "base/alloc.h"
#include "base/assert.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

enum {
    EXIT_SKIPPED = 77,
    PATHS_MAX = 512,
    PATH_SIZE = 1024,
};

struct deviations {
    char *text; /* owned; NULL: none */
};

struct totals {
    size_t files;
    size_t cases;
    size_t deviations;
    size_t failures;
};

static const struct script_kind *const kinds[] = {&script_quorum, &script_confchange,
                                                  &script_interaction};

static char *read_deviations(const char *path)
{
    struct dd_file file;
    char *text = NULL;
    if (!dd_open(&file, path)) return NULL;
    struct rk_buf buf;
    rk_buf_init(&buf);
    for (size_t i = 0; i < file.line_count; i++) {
        if (file.lines[i][0] == '#') continue;
        rk_buf_printf(&buf, "\n%s", file.lines[i]);
    }
    rk_buf_append_string(&buf, "\n");
    rk_buf_u8(&buf, 0);
    text = (char *)buf.data;
    dd_close(&file);
    return text;
}

static bool is_listed(const struct deviations *deviations, const char *path, size_t line)
{
    char wanted[PATH_SIZE];
    const char *name = strrchr(path, '/');
    name = name != NULL ? name + 1 : path;
    snprintf(wanted, sizeof(wanted), "\n%s:%zu ", name, line);
    return deviations->text != NULL && strstr(deviations->text, wanted) != NULL;
}

static void report(const char *path, const struct dd_case *c, const char *expected,
                   const char *actual, const char *why)
{
    printf("%s:%zu: %s: %s\n--- expected\n%s--- actual\n%s---\n", path, c->line, c->command,
           why, expected, actual);
}

static void run_case(const struct script_kind *kind, void *state, const char *path,
                     struct rk_arena *arena, const struct dd_case *c,
                     const struct deviations *deviations, struct totals *totals)
{
    struct rk_buf out;
    rk_buf_init(&out);
    kind->run(state, c, &out);
    rk_buf_u8(&out, 0);
    RK_ASSERT(rk_buf_check(&out) == RK_OK);
    const char *expected = dd_strip_logs(arena, c->expected);
    const char *actual = dd_strip_logs(arena, (const char *)out.data);
    bool is_equal = strcmp(expected, actual) == 0;
    totals->cases++;
    if (is_listed(deviations, path, c->line)) {
        totals->deviations++;
        if (is_equal) {
            totals->failures++;
            report(path, c, expected, actual, "listed as a deviation, but equal");
        }
    } else if (!is_equal) {
        totals->failures++;
        report(path, c, expected, actual, "differs");
    }
    rk_buf_fini(&out);
}

/* The first command tells which kind of file it is. */
static const struct script_kind *kind_of(const char *command)
{
    for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++)
        if (kinds[i]->knows(command)) return kinds[i];
    return NULL;
}

static void run_file(const char *path, uint64_t max_cached_bytes,
                     const struct deviations *deviations, struct totals *totals)
{
    struct dd_file file;
    const struct script_kind *kind = NULL;
    void *state = NULL;
    const char *error = NULL;
    totals->files++;
    if (!dd_open(&file, path)) {
        totals->failures++;
        return;
    }
    for (;;) {
        struct dd_case *c = dd_next(&file, &error);
        if (c != NULL && error == NULL && kind == NULL) {
            kind = kind_of(c->command);
            if (kind == NULL) error = "unknown kind of file";
            if (kind != NULL) state = kind->open(max_cached_bytes);
        }
        if (error != NULL) {
            totals->failures++;
            printf("%s:%zu: %s\n", path, c != NULL ? c->line : 0, error);
        }
        if (c == NULL || error != NULL) break;
        run_case(kind, state, path, &file.arena, c, deviations, totals);
    }
    if (kind != NULL) kind->close(state);
    dd_close(&file);
}

static void write_lines(FILE *stream, const struct dd_file *file, size_t from, size_t to)
{
    for (size_t i = from; i < to; i++)
        fprintf(stream, "%s\n", file->lines[i]);
}

/* False: the file is as it was. */
static bool rewrite_cases(FILE *stream, const char *path, struct dd_file *file)
{
    const struct script_kind *kind = NULL;
    void *state = NULL;
    const char *error = NULL;
    size_t written = 0;
    for (;;) {
        struct dd_case *c = dd_next(file, &error);
        if (c == NULL || error != NULL) break;
        if (kind == NULL && (kind = kind_of(c->command)) == NULL) error = "unknown command";
        if (c->expected_to == 0) error = "output with blank lines";
        if (error != NULL) break;
        if (state == NULL) state = kind->open(RK_SCRIPT_CACHE_ALL);
        struct rk_buf out;
        rk_buf_init(&out);
        kind->run(state, c, &out);
        RK_ASSERT(rk_buf_check(&out) == RK_OK);
        write_lines(stream, file, written, c->expected_from);
        fprintf(stream, "%.*s%s", (int)out.size, (const char *)out.data,
                out.data[out.size - 1] == '\n' ? "" : "\n");
        written = c->expected_to;
        rk_buf_fini(&out);
    }
    if (error != NULL) fprintf(stderr, "%s: %s\n", path, error);
    if (state != NULL) kind->close(state);
    write_lines(stream, file, written, file->line_count);
    return error == NULL;
}

static bool rewrite_file(const char *path)
{
    struct dd_file file;
    char new_path[PATH_SIZE];
    int size = snprintf(new_path, sizeof(new_path), "%s.new", path);
    if (size < 0 || (size_t)size >= sizeof(new_path) || !dd_open(&file, path)) return false;
    FILE *stream = fopen(new_path, "w");
    bool is_done = stream != NULL && rewrite_cases(stream, path, &file);
    if (stream != NULL) is_done = fclose(stream) == 0 && is_done;
    if (is_done) is_done = rename(new_path, path) == 0;
    if (!is_done && stream != NULL) remove(new_path);
    dd_close(&file);
    return is_done;
}

struct paths {
    size_t count;
    char *items[PATHS_MAX];
};

static int compare_paths(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static void add_path(struct paths *paths, const char *path)
{
    struct stat info;
    if (stat(path, &info) != 0) return;
    if (!S_ISDIR(info.st_mode)) {
        size_t size = strlen(path);
        if (size < 4 || strcmp(path + size - 4, ".txt") != 0) return;
        RK_ASSERT(paths->count < PATHS_MAX);
        paths->items[paths->count++] = rk_strdup(path);
        return;
    }
    DIR *folder = opendir(path);
    if (folder == NULL) return;
    for (struct dirent *entry = readdir(folder); entry != NULL; entry = readdir(folder)) {
        char inner[PATH_SIZE];
        if (entry->d_name[0] == '.') continue;
        int size = snprintf(inner, sizeof(inner), "%s/%s", path, entry->d_name);
        if (size > 0 && (size_t)size < sizeof(inner)) add_path(paths, inner);
    }
    closedir(folder);
}

static void run_paths(struct paths *paths, struct totals *totals)
{
    struct deviations deviations = {read_deviations(SCRIPT_DEVIATIONS)};
    qsort(paths->items, paths->count, sizeof(paths->items[0]), compare_paths);
    for (size_t i = 0; i < paths->count; i++) {
        size_t before = totals->failures;
        /* Once with all entries in memory, once with only those that must be. */
        run_file(paths->items[i], RK_SCRIPT_CACHE_ALL, &deviations, totals);
        if (totals->failures == before) run_file(paths->items[i], 0, &deviations, totals);
        rk_free(paths->items[i]);
    }
    rk_free(deviations.text);
}

static int rewrite_paths(struct paths *paths)
{
    int failures = 0;
    for (size_t i = 0; i < paths->count; i++) {
        failures += !rewrite_file(paths->items[i]);
        rk_free(paths->items[i]);
    }
    printf("%zu files rewritten\n", paths->count - (size_t)failures);
    return failures == 0 ? 0 : 1;
}

int main(int argc, char **argv)
{
    struct paths paths = {0};
    struct totals totals = {0};
    bool is_rewriting = argc > 1 && strcmp(argv[1], "--rewrite") == 0;
    for (int i = 1 + is_rewriting; i < argc; i++)
        add_path(&paths, argv[i]);
    if (argc == 1) {
        const char *folder = getenv("RUKUN_CONFORMANCE_DIR");
        if (folder == NULL || *folder == '\0') folder = SCRIPT_FOLDER;
        add_path(&paths, folder);
        if (paths.count == 0) {
            printf("skipped: no traces in %s (tests/script/fetch brings them; "
                   "set RUKUN_CONFORMANCE_DIR)\n",
                   folder);
            return EXIT_SKIPPED;
        }
    }
    if (paths.count == 0) {
        fprintf(stderr, "no traces found\n");
        return 2;
    }
    if (is_rewriting) return rewrite_paths(&paths);
    run_paths(&paths, &totals);
    printf("%zu files run, %zu cases, %zu deviations, %zu failures\n", totals.files,
           totals.cases, totals.deviations, totals.failures);
    return totals.failures == 0 ? 0 : 1;
}
