#include "sim.h"

#include "base/assert.h"

#include <inttypes.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

enum { SEED_SECONDS = 300 };

struct options {
    uint64_t from, to;
    struct sim_config fixed;
    bool is_verbose, must_repeat, goes_on, is_quiet;
};

static const struct sim *running; /* for the signal handler */
static struct sim_config given;   /* on the command line */
static bool is_left_out[SIM_RULES];

static const char *const rules[] = {
#define SIM_RULE(rule, text) text,
#include "rules.def"
#undef SIM_RULE
};

static void place_print(const struct sim *sim)
{
    fprintf(stderr, "sim: seed %" PRIu64 ", step %" PRIu64 ", time %" PRIu64 ".%06u s\n",
            sim->seed, sim->counts.steps, sim->now_us / 1000000,
            (unsigned)(sim->now_us % 1000000));
    fprintf(stderr, "sim: again with: sim --seed %" PRIu64 " --verbose", sim->seed);
    if (given.nodes != 0) fprintf(stderr, " --nodes %u", given.nodes);
    if (given.run_ms != 0) fprintf(stderr, " --time %" PRIu64, given.run_ms);
    if (given.has_leases) fprintf(stderr, " --leases");
    for (int i = 0; i < SIM_RULES; i++)
        if (is_left_out[i]) fprintf(stderr, " --without %s", rules[i]);
    fprintf(stderr, "\n");
}

__attribute__((noreturn, format(printf, 3, 0))) static void
fail(const struct sim *sim, const char *rule, const char *format, va_list arguments)
{
    fflush(stdout);
    fprintf(stderr, "sim: FAILED: %s", rule);
    (void)vfprintf(stderr, format, arguments);
    fprintf(stderr, "\n");
    place_print(sim);
    fflush(stderr);
    _exit(1);
}

void sim_fail(const struct sim *sim, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    fail(sim, "", format, arguments);
}

bool sim_is_heeded(enum sim_rule rule)
{
    return !is_left_out[rule];
}

void sim_broken(const struct sim *sim, enum sim_rule rule, const char *format, ...)
{
    char text[32];
    va_list arguments;
    if (is_left_out[rule]) return;
    (void)snprintf(text, sizeof(text), "%s: ", rules[rule]);
    va_start(arguments, format);
    fail(sim, text, format, arguments);
}

void sim_say(const struct sim *sim, const char *format, ...)
{
    va_list arguments;
    if (!sim->is_verbose) return;
    printf("%" PRIu64 ".%06u ", sim->now_us / 1000000, (unsigned)(sim->now_us % 1000000));
    va_start(arguments, format);
    (void)vprintf(format, arguments);
    va_end(arguments);
    printf("\n");
}

static void on_signal(int number)
{
    fprintf(stderr, "sim: FAILED: signal %d%s\n", number,
            number == SIGALRM ? ": it does not end" : "");
    if (running != NULL) place_print(running);
    fflush(stderr);
    _exit(1);
}

static void counts_add(struct sim_counts *sum, const struct sim_counts *one)
{
#define SIM_COUNT(field, text) sum->field += one->field;
#define SIM_COUNTS_WORK
#include "counts.def"
#undef SIM_COUNT
#undef SIM_COUNTS_WORK
}

static uint64_t seed_run(uint64_t seed, const struct options *options,
                         struct sim_counts *counts)
{
    struct sim *sim = sim_new(seed, &options->fixed);
    sim->is_verbose = options->is_verbose;
    running = sim;
    (void)alarm(SEED_SECONDS);
    sim_run(sim);
    running = NULL;
    uint64_t trace = sim->trace;
    if (options->is_verbose)
        printf("seed %" PRIu64 " ends with trace %016" PRIx64 "\n", seed, trace);
    counts_add(counts, &sim->counts);
    sim_free(sim);
    return trace;
}

static void counts_print(const struct sim_counts *counts, const struct options *options)
{
    const char *before = ": ";
    printf("sim: seeds %" PRIu64 "-%" PRIu64 ", faults", options->from, options->to);
#define SIM_COUNT(field, text)                                                             \
    printf("%s%" PRIu64 " " text, before, (counts)->field);                                \
    before = ", ";
#define SIM_COUNTS_WORK                                                                    \
    printf("\nsim: work");                                                                 \
    before = ": ";
#include "counts.def"
#undef SIM_COUNT
#undef SIM_COUNTS_WORK
    printf("\n");
}

static uint64_t number_of(const char *text, const char **end)
{
    char *stop;
    uint64_t number = strtoull(text, &stop, 10);
    *end = stop;
    return number;
}

static void usage(void)
{
    fprintf(stderr,
            "usage: sim --seed N | --seeds A-B  [--time MS] [--nodes 3|5] "
            "[--leases] [--verbose] [--repeat] [--keep-going] [--without RULE]\nrules:");
    for (int i = 0; i < SIM_RULES; i++)
        fprintf(stderr, " %s", rules[i]);
    fprintf(stderr, "\n");
    exit(2);
}

static void leave_out(const char *rule)
{
    for (int i = 0; i < SIM_RULES; i++) {
        if (strcmp(rules[i], rule) != 0) continue;
        is_left_out[i] = true;
        return;
    }
    usage();
}

static void options_parse(struct options *options, int count, char **arguments)
{
    for (int i = 1; i < count; i++) {
        const char *name = arguments[i], *end = "";
        const char *value = i + 1 < count ? arguments[i + 1] : NULL;
        if (strcmp(name, "--verbose") == 0) {
            options->is_verbose = true;
            continue;
        }
        if (strcmp(name, "--repeat") == 0) {
            options->must_repeat = true;
            continue;
        }
        if (strcmp(name, "--leases") == 0) {
            options->fixed.has_leases = true;
            continue;
        }
        if (strcmp(name, "--keep-going") == 0) {
            options->goes_on = true;
            continue;
        }
        if (value == NULL) usage();
        i++;
        if (strcmp(name, "--without") == 0) {
            leave_out(value);
            continue;
        }
        uint64_t number = number_of(value, &end);
        if (strcmp(name, "--seed") == 0)
            options->from = options->to = number;
        else if (strcmp(name, "--seeds") == 0 && *end == '-') {
            options->from = number;
            options->to = number_of(end + 1, &end);
        } else if (strcmp(name, "--time") == 0)
            options->fixed.run_ms = number;
        else if (strcmp(name, "--nodes") == 0 && (number == 3 || number == 5))
            options->fixed.nodes = (uint32_t)number;
        else
            usage();
        if (*end != '\0') usage();
    }
    if (options->from > options->to) usage();
}

/* In a process of its own: the seeds after a failed one run, too. */
static bool apart(uint64_t seed, const struct options *options, struct sim_counts *sum)
{
    struct sim_counts counts = {0};
    int status = 0, ends[2];
    RK_ASSERT(pipe(ends) == 0);
    pid_t child = fork();
    RK_ASSERT(child >= 0);
    if (child == 0) {
        (void)seed_run(seed, options, &counts);
        fflush(stdout);
        _exit(write(ends[1], &counts, sizeof(counts)) != (ssize_t)sizeof(counts));
    }
    (void)close(ends[1]);
    if (read(ends[0], &counts, sizeof(counts)) == (ssize_t)sizeof(counts))
        counts_add(sum, &counts);
    (void)close(ends[0]);
    RK_ASSERT(waitpid(child, &status, 0) == child);
    return status == 0;
}

int main(int count, char **arguments)
{
    struct options options = {.from = 1, .to = 1};
    struct sim_counts counts = {0};
    uint64_t failed = 0;
    options_parse(&options, count, arguments);
    given = options.fixed;
    (void)signal(SIGABRT, on_signal);
    (void)signal(SIGSEGV, on_signal);
    (void)signal(SIGALRM, on_signal);
    for (uint64_t seed = options.from; seed <= options.to; seed++) {
        if (options.goes_on) {
            if (!apart(seed, &options, &counts)) failed++;
            continue;
        }
        uint64_t trace = seed_run(seed, &options, &counts);
        if (options.must_repeat && seed_run(seed, &options, &counts) != trace) {
            fprintf(stderr, "sim: FAILED: seed %" PRIu64 " does not replay\n", seed);
            return 1;
        }
    }
    if (options.goes_on)
        printf("sim: %" PRIu64 " of %" PRIu64 " seeds failed\n", failed,
               options.to - options.from + 1);
    counts_print(&counts, &options);
    return failed > 0;
}
