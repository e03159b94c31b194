/* config.h - the settings of a node: settings.def filled from flags, environment and file.
 *
 * A flag wins over the environment, the environment over the file, the file over the
 * default. There is one spelling: --redis-url, `redis-url = ...`, RUKUND_REDIS_URL. */
#ifndef RK_RUKUND_CONFIG_H
#define RK_RUKUND_CONFIG_H

#include "base/bytes.h"
#include "host/host.h"
#include "rukund/address.h"

enum { RK_CONFIG_ERROR_MAX = 512 };

enum rk_config_action {
    RK_CONFIG_RUN,
    RK_CONFIG_HELP,
    RK_CONFIG_VERSION,
    RK_CONFIG_CHECK,     /* --check-config: print the settings and end */
    RK_CONFIG_REFERENCE, /* --print-reference: docs/configuration.md */
};

struct rk_config_peer {
    char name[RK_NODE_NAME_MAX + 1];
    char peer[RK_ADDRESS_MAX];
};

struct rk_config {
#define RK_TEXT(field, name, fallback, arg, help)           char *field;
#define RK_UINT(field, name, fallback, min, max, arg, help) uint64_t field;
#define RK_SWITCH(field, name, fallback, help)              bool field;
#define RK_CHOICE(field, name, fallback, words, help)       char *field;
#include "rukund/settings.def"
#undef RK_TEXT
#undef RK_UINT
#undef RK_SWITCH
#undef RK_CHOICE
    enum rk_config_action action;
    const char **sources; /* a row each: "default", "file", "environment", "flag"; owned */
    struct rk_config_peer nodes[RK_HOST_PEERS_MAX]; /* parsed peers */
    uint32_t node_count;
};

/* Reads everything and checks it. error gets one line for RK_EINVAL; RK_ENOMEM. Always
 * followed by rk_config_fini. argv[0] is skipped. */
RK_MUST_CHECK enum rk_status rk_config_load(struct rk_config *config, int argc,
                                            char *const *argv, char *const *environment,
                                            char error[RK_CONFIG_ERROR_MAX]);
void rk_config_fini(struct rk_config *config);

/* --help, the effective settings as a file, and the reference in Markdown. */
void rk_config_print_help(struct rk_buf *out);
void rk_config_print(struct rk_buf *out, const struct rk_config *config);
void rk_config_print_reference(struct rk_buf *out);
#endif
