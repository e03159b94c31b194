#include "base/alloc.h"
#include "rukund/config.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

static char error[RK_CONFIG_ERROR_MAX];

/* Flags and environment as NULL-terminated lists. */
static enum rk_status load(struct rk_config *config, const char *const *flags,
                           const char *const *environment)
{
    static char program[] = "rukund";
    char *argv[32] = {program};
    char *env[32] = {NULL};
    int argc = 1;
    for (; flags != NULL && flags[argc - 1] != NULL; argc++)
        argv[argc] = (char *)(uintptr_t)flags[argc - 1];
    for (int i = 0; environment != NULL && environment[i] != NULL; i++)
        env[i] = (char *)(uintptr_t)environment[i];
    return rk_config_load(config, argc, argv, env, error);
}

#define FLAGS(...) ((const char *const[]){__VA_ARGS__, NULL})

static void expect_error(const char *const *flags, const char *part)
{
    struct rk_config config;
    assert_int_not_equal(load(&config, flags, NULL), RK_OK);
    if (strstr(error, part) == NULL) fail_msg("\"%s\" is not in \"%s\"", part, error);
    rk_config_fini(&config);
}

static void has_defaults(void **state)
{
    struct rk_config config;
    (void)state;
    assert_int_equal(load(&config, NULL, NULL), RK_OK);
    assert_string_equal(config.name, "n1");
    assert_string_equal(config.http, "127.0.0.1:7400");
    assert_int_equal(config.groups, 9);
    assert_true(config.forward);
    assert_false(config.insecure);
    assert_int_equal(config.node_count, 0);
    rk_config_fini(&config);
}

static void takes_every_spelling(void **state)
{
    struct rk_config config;
    (void)state;
    assert_int_equal(
        load(&config,
             FLAGS("--name", "b", "--groups=3", "--insecure", "--http", "0.0.0.0:1",
                   "--forward", "off", "--peers", "a=10.0.0.1:1, b=10.0.0.2:2,c=h:3"),
             NULL),
        RK_OK);
    assert_string_equal(config.name, "b");
    assert_int_equal(config.groups, 3);
    assert_true(config.insecure);
    assert_string_equal(config.http, "0.0.0.0:1");
    assert_false(config.forward);
    assert_int_equal(config.node_count, 3);
    assert_string_equal(config.nodes[1].name, "b");
    assert_string_equal(config.nodes[2].peer, "h:3");
    rk_config_fini(&config);
}

static void flag_wins_over_environment_over_file(void **state)
{
    char path[] = "/tmp/rukun-config-XXXXXX";
    int fd = mkstemp(path);
    static const char text[] = "[rukund]\nname = f\ngroups = 2\nlog-level = debug\n";
    struct rk_config config;
    (void)state;
    assert_int_equal(write(fd, text, sizeof(text) - 1), (ssize_t)sizeof(text) - 1);
    assert_int_equal(
        load(&config, FLAGS("--config", path, "--name", "g"),
             FLAGS("RUKUND_NAME=e", "RUKUND_GROUPS=5", "RUKUND_SERVICE_HOST=x")),
        RK_OK);
    assert_string_equal(config.name, "g");
    assert_int_equal(config.groups, 5);
    assert_string_equal(config.log_level, "debug");
    rk_config_fini(&config);

    FILE *file = fopen(path, "w");
    (void)fputs("election-timeout = 5\n", file);
    (void)fclose(file);
    expect_error(FLAGS("--config", path), "did you mean \"election-timeout-ms\"");
    file = fopen(path, "w");
    (void)fputs("[other]\nname = x\n", file);
    (void)fclose(file);
    expect_error(FLAGS("--config", path), "unknown section [other]");
    file = fopen(path, "w");
    (void)fputs("name = a\nwhat is this\n", file);
    (void)fclose(file);
    expect_error(FLAGS("--config", path), "line 2");
    (void)close(fd);
    (void)unlink(path);
    expect_error(FLAGS("--config", path), "No such file");
}

static void names_what_is_wrong(void **state)
{
    (void)state;
    expect_error(FLAGS("--nmae", "x"), "did you mean \"name\"");
    expect_error(FLAGS("--zzzzzzzz", "x"), "unknown setting \"zzzzzzzz\"");
    expect_error(FLAGS("stray"), "unexpected argument \"stray\"");
    expect_error(FLAGS("--name"), "--name needs a value");
    expect_error(FLAGS("--name", "a b"), "name:");
    expect_error(FLAGS("--groups", "0"), "groups: 0 is not within 1 and 64");
    expect_error(FLAGS("--groups", "-1"), "groups:");
    expect_error(FLAGS("--groups", "99999999999999999999"), "groups:");
    expect_error(FLAGS("--forward", "maybe"), "unexpected argument");
    expect_error(FLAGS("--forward=maybe"), "neither on nor off");
    expect_error(FLAGS("--log-level", "inf"), "none of debug|info|warn|error");
    expect_error(FLAGS("--http", "here"), "http:");
    expect_error(FLAGS("--http", "0.0.0.0:1"), "--insecure");
    expect_error(FLAGS("--advertise-http", "0.0.0.0:1"), "nobody can connect");
    expect_error(FLAGS("--peers", "n2=h:1"), "n1, this node, is not among them");
    expect_error(FLAGS("--peers", "n1=h:1,n1=h:2"), "named twice");
    expect_error(FLAGS("--peers", "n1=0.0.0.0:1"), "nobody can connect");
    expect_error(FLAGS("--peers", "n1"), "no NAME=HOST:PORT");
    expect_error(FLAGS("--heartbeat-ms", "400"), "third of election-timeout-ms");
    expect_error(FLAGS("--engine", "redis"), "the redis engine needs one");
    expect_error(FLAGS("--engine", "redis", "--redis-url", "http://x"), "redis-url");
    expect_error(FLAGS("--engine", "redis", "--redis-url", "redis://x:99999"), "redis-url");
    expect_error(FLAGS("--engine", "etcd"), "none of embedded|redis");
}

static void prints_what_is_in_force(void **state)
{
    struct rk_config config;
    struct rk_buf text;
    (void)state;
    assert_int_equal(
        load(&config, FLAGS("--check-config", "--groups", "4"), FLAGS("RUKUND_NAME=e")),
        RK_OK);
    assert_int_equal(config.action, RK_CONFIG_CHECK);
    rk_buf_init(&text);
    rk_config_print(&text, &config);
    rk_buf_u8(&text, 0);
    assert_non_null(strstr((const char *)text.data, "groups = 4 ; flag\n"));
    assert_non_null(strstr((const char *)text.data, "name = e ; environment\n"));
    assert_non_null(strstr((const char *)text.data, "forward = on ; default\n"));
    rk_buf_fini(&text);
    rk_config_fini(&config);
}

static void reference_is_in_docs(void **state)
{
    struct rk_buf text;
    (void)state;
    rk_buf_init(&text);
    rk_config_print_reference(&text);
    FILE *file = fopen(RK_REFERENCE, "r");
    assert_non_null(file);
    char *written = malloc(text.size + 2);
    size_t size = fread(written, 1, text.size + 1, file);
    (void)fclose(file);
    assert_int_equal(size, text.size);
    assert_memory_equal(written, text.data, size);
    free(written);
    rk_buf_fini(&text);
}

static void survives_want_of_memory(void **state)
{
    (void)state;
    for (int64_t after = 0; after < 1000; after++) {
        struct rk_config config;
        rk_alloc_fail(after, 1);
        enum rk_status status =
            load(&config, FLAGS("--name", "n1", "--peers", "n1=h:1"), NULL);
        rk_alloc_fail(-1, 0);
        rk_config_fini(&config);
        if (status == RK_OK) return;
        assert_int_equal(status, RK_ENOMEM);
    }
    fail();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(has_defaults),
        cmocka_unit_test(takes_every_spelling),
        cmocka_unit_test(flag_wins_over_environment_over_file),
        cmocka_unit_test(names_what_is_wrong),
        cmocka_unit_test(prints_what_is_in_force),
        cmocka_unit_test(reference_is_in_docs),
        cmocka_unit_test(survives_want_of_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
