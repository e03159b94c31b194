/* url.h - where Redis is, and how to get in: the text of --redis-url, taken apart.
 *
 *     redis://[user[:password]@]host[:port][/db][?name=value&...]     one server
 *     redis+sentinel://...@host[:port],host[:port],.../master[/db]     a Sentinel group
 *     redis+cluster://...@host[:port],host[:port],...                  a Cluster
 *
 * rediss, rediss+sentinel and rediss+cluster are the same over TLS. docs/redis.md lists the
 * parameters. Passwords are in no text that this module prints. */
#ifndef RK_REDIS_URL_H
#define RK_REDIS_URL_H

#include "base/arena.h"
#include "base/bytes.h"

enum {
    RK_REDIS_URL_MAX = 4096,
    RK_REDIS_ADDRESSES_MAX = 32,
    RK_REDIS_HOST_MAX = 255,
    RK_REDIS_PREFIX_MAX = 128,
    RK_REDIS_DB_MAX = 65535,
    RK_REDIS_PORT = 6379,
    RK_REDIS_SENTINEL_PORT = 26379,
    RK_REDIS_TIMEOUT_MS_MIN = 10,
    RK_REDIS_TIMEOUT_MS_MAX = 600000,
    RK_REDIS_TIMEOUT_MS = 5000, /* unless timeout-ms says otherwise */
    RK_REDIS_WAIT_MAX = 16,
    RK_REDIS_WAIT_MS = 1000, /* unless wait-ms says otherwise */
    RK_REDIS_CHECK_MS_MIN = 100,
    RK_REDIS_CHECK_MS_MAX = 600000,
    RK_REDIS_CHECK_MS = 30000, /* unless check-ms says otherwise */
};

enum rk_redis_kind { RK_REDIS_SINGLE, RK_REDIS_SENTINEL, RK_REDIS_CLUSTER };

struct rk_redis_address {
    const char *host; /* without brackets */
    uint16_t port;
};

/* Texts are "" where the URL says nothing, and live as long as the struct. */
struct rk_redis_url {
    enum rk_redis_kind kind;
    bool is_tls;
    bool is_insecure; /* insecure=1: the server's certificate is not looked at */
    uint32_t address_count;
    struct rk_redis_address addresses[RK_REDIS_ADDRESSES_MAX];
    const char *user;
    const char *password;
    const char *sentinel_user;
    const char *sentinel_password;
    const char *master; /* Sentinel's name of the group */
    uint32_t db;        /* 0 in a Cluster */
    const char *prefix; /* put before every key and channel by those who make keys */
    const char *ca;     /* file with the authorities to trust; "": those of the system */
    const char *cert;   /* client certificate and its key, both or neither */
    const char *key;
    const char *server_name; /* to expect in certificates; "": the host connected to */
    uint32_t timeout_ms;     /* of a command that names no deadline */
    uint32_t wait;           /* replicas that a write waits for; 0: none */
    uint32_t wait_ms;        /* how long at most */
    uint32_t check_ms;       /* between two looks at a master's configuration */
    struct rk_arena arena;
};

struct rk_redis_error {
    char text[256]; /* one line, without a password */
};

/* RK_EINVAL: err->text names the part and its bound. RK_ENOMEM. After an error there is
 * nothing to undo. err may be NULL. */
RK_MUST_CHECK enum rk_status rk_redis_url_parse(struct rk_redis_url *out, const char *text,
                                                struct rk_redis_error *err);
void rk_redis_url_fini(struct rk_redis_url *url);

/* The URL's scheme, user, addresses and path, for logs: never a password or parameter.
 * Cut off where out is too short. */
void rk_redis_url_print(char *out, size_t size, const struct rk_redis_url *url);
#endif
