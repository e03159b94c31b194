/* rukund: a node of Rukun. */
#include "rukund/backups.h"
#include "rukund/config.h"
#include "rukund/inspect.h"
#include "rukund/migrate.h"
#include "rukund/worker.h"

#include <stdio.h>

extern char **environ;

static int print(void (*printer)(struct rk_buf *out))
{
    struct rk_buf text;
    rk_buf_init(&text);
    printer(&text);
    (void)fwrite(text.data, 1, text.size, stdout);
    rk_buf_fini(&text);
    return 0;
}

static int print_settings(const struct rk_config *config)
{
    struct rk_buf text;
    rk_buf_init(&text);
    rk_config_print(&text, config);
    (void)fwrite(text.data, 1, text.size, stdout);
    rk_buf_fini(&text);
    return 0;
}

int main(int argc, char **argv)
{
    struct rk_config config;
    char error[RK_CONFIG_ERROR_MAX];
    int code = 0;
    if (argc > 1 && strcmp(argv[1], "inspect") == 0)
        return rk_inspect_main(argc - 2, argv + 2);
    if (argc > 1 && strcmp(argv[1], "verify") == 0)
        return rk_verify_main(argc - 2, argv + 2);
    if (argc > 1 && strcmp(argv[1], "restore") == 0)
        return rk_restore_main(argc - 2, argv + 2);
    if (argc > 1 && strcmp(argv[1], "migrate") == 0)
        return rk_migrate_main(argc - 2, argv + 2);
    if (rk_config_load(&config, argc, argv, environ, error) != RK_OK) {
        (void)fprintf(stderr, "rukund: %s\n", error);
        rk_config_fini(&config);
        return 2;
    }
    switch (config.action) {
    case RK_CONFIG_RUN: code = rk_worker_run(&config); break;
    case RK_CONFIG_HELP: code = print(rk_config_print_help); break;
    case RK_CONFIG_REFERENCE: code = print(rk_config_print_reference); break;
    case RK_CONFIG_VERSION: (void)printf("rukund %s\n", RK_VERSION); break;
    case RK_CONFIG_CHECK: code = print_settings(&config); break;
    }
    rk_config_fini(&config);
    return code;
}
