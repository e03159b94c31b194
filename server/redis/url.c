#include "redis/url.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

struct parsing {
    struct rk_redis_url *url;
    struct rk_redis_error *err; /* may be NULL */
    uint32_t seen;              /* parameters, by their place in the table */
};

__attribute__((format(printf, 2, 3))) static enum rk_status refuse(struct parsing *parsing,
                                                                   const char *format, ...)
{
    if (parsing->err == NULL) return RK_EINVAL;
    va_list arguments;
    va_start(arguments, format);
    (void)vsnprintf(parsing->err->text, sizeof(parsing->err->text), format, arguments);
    va_end(arguments);
    return RK_EINVAL;
}

static enum rk_status no_memory(struct parsing *parsing)
{
    (void)refuse(parsing, "out of memory");
    return RK_ENOMEM;
}

/* Cuts text at the first of the two characters; what follows it goes to rest, and is empty
 * with data NULL if there is none. */
static struct rk_slice cut(struct rk_slice text, char at, struct rk_slice *rest)
{
    const uint8_t *found = text.size == 0 ? NULL : memchr(text.data, at, text.size);
    *rest = RK_SLICE_EMPTY;
    if (found == NULL) return text;
    size_t before = (size_t)(found - text.data);
    *rest = rk_slice_of(found + 1, text.size - before - 1);
    return rk_slice_of(text.data, before);
}

static int hex_digit(uint8_t c)
{
    if (c >= '0' && c <= '9') return c - '0';
    c |= 0x20;
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* A NUL-terminated copy without percent signs. what names the part in errors: its bytes
 * may be a password's, so they are not shown. */
static enum rk_status decode(struct parsing *parsing, const char **out, const char *what,
                             struct rk_slice text)
{
    char *copy = rk_arena_alloc(&parsing->url->arena, text.size + 1);
    size_t size = 0;
    if (copy == NULL) return no_memory(parsing);
    for (size_t i = 0; i < text.size; i++) {
        uint8_t c = text.data[i];
        if (c == '%') {
            int high = i + 2 < text.size ? hex_digit(text.data[i + 1]) : -1;
            int low = high >= 0 ? hex_digit(text.data[i + 2]) : -1;
            if (low < 0) return refuse(parsing, "%s: %% without two hex digits", what);
            c = (uint8_t)(high << 4 | low);
            i += 2;
        }
        if (c < ' ' || c == 0x7f)
            return refuse(parsing, "%s: holds a control character", what);
        copy[size++] = (char)c;
    }
    copy[size] = '\0';
    *out = copy;
    return RK_OK;
}

static enum rk_status number(struct parsing *parsing, uint32_t *out, const char *what,
                             const char *text, uint32_t least, uint32_t most)
{
    size_t digits = strspn(text, "0123456789");
    unsigned long value = strtoul(text, NULL, 10);
    if (digits == 0 || digits > 9 || text[digits] != '\0' || value < least || value > most)
        return refuse(parsing, "%s: must be a number from %u to %u", what, least, most);
    *out = (uint32_t)value;
    return RK_OK;
}

static enum rk_status read_scheme(struct parsing *parsing, const char **text)
{
    static const struct {
        const char *name;
        enum rk_redis_kind kind;
        bool is_tls;
    } schemes[] = {
        {"redis://", RK_REDIS_SINGLE, false},
        {"rediss://", RK_REDIS_SINGLE, true},
        {"redis+sentinel://", RK_REDIS_SENTINEL, false},
        {"rediss+sentinel://", RK_REDIS_SENTINEL, true},
        {"redis+cluster://", RK_REDIS_CLUSTER, false},
        {"rediss+cluster://", RK_REDIS_CLUSTER, true},
    };
    for (size_t i = 0; i < sizeof(schemes) / sizeof(schemes[0]); i++) {
        size_t size = strlen(schemes[i].name);
        if (strncmp(*text, schemes[i].name, size) != 0) continue;
        parsing->url->kind = schemes[i].kind;
        parsing->url->is_tls = schemes[i].is_tls;
        *text += size;
        return RK_OK;
    }
    return refuse(parsing, "scheme: must be redis://, redis+sentinel:// or "
                           "redis+cluster://, with rediss for TLS");
}

static enum rk_status read_user(struct parsing *parsing, struct rk_slice text)
{
    struct rk_slice password;
    struct rk_slice user = cut(text, ':', &password);
    enum rk_status status = decode(parsing, &parsing->url->user, "user", user);
    if (status != RK_OK) return status;
    return decode(parsing, &parsing->url->password, "password", password);
}

static bool is_host_text(const char *host)
{
    for (const char *at = host; *at != '\0'; at++)
        if ((unsigned char)*at <= ' ' || strchr("[]@/\\\"'%,", *at) != NULL) return false;
    return true;
}

static enum rk_status read_address(struct parsing *parsing, struct rk_slice text)
{
    struct rk_redis_url *url = parsing->url;
    struct rk_slice port;
    struct rk_slice host;
    uint32_t port_number =
        url->kind == RK_REDIS_SENTINEL ? RK_REDIS_SENTINEL_PORT : RK_REDIS_PORT;
    bool is_bracketed = text.size > 0 && text.data[0] == '[';
    if (is_bracketed) {
        host = cut(rk_slice_of(text.data + 1, text.size - 1), ']', &port);
        if (port.data == NULL) return refuse(parsing, "host: [ without ]");
        if (port.size > 0 && port.data[0] != ':')
            return refuse(parsing, "host: only a port may follow ]");
        port = port.size > 0 ? rk_slice_of(port.data + 1, port.size - 1) : RK_SLICE_EMPTY;
        if (port.size == 0 && text.data[text.size - 1] == ':')
            return refuse(parsing, "port: missing after :");
    } else {
        host = cut(text, ':', &port);
        if (port.size > 0 && memchr(port.data, ':', port.size) != NULL)
            return refuse(parsing, "host: an IPv6 address needs brackets");
        if (port.size == 0 && host.size < text.size)
            return refuse(parsing, "port: missing after :");
    }
    if (host.size == 0) return refuse(parsing, "host: missing");
    if (host.size > RK_REDIS_HOST_MAX)
        return refuse(parsing, "host: over %u bytes", RK_REDIS_HOST_MAX);
    if (url->address_count == RK_REDIS_ADDRESSES_MAX)
        return refuse(parsing, "host: more than %u of them", RK_REDIS_ADDRESSES_MAX);

    struct rk_redis_address *address = &url->addresses[url->address_count];
    enum rk_status status = decode(parsing, &address->host, "host", host);
    if (status == RK_OK && !is_host_text(address->host))
        return refuse(parsing, "host: holds a character that no host has");
    if (status == RK_OK && port.size > 0) {
        const char *digits;
        status = decode(parsing, &digits, "port", port);
        if (status == RK_OK)
            status = number(parsing, &port_number, "port", digits, 1, 65535);
    }
    if (status != RK_OK) return status;
    address->port = (uint16_t)port_number;
    url->address_count++;
    return RK_OK;
}

static enum rk_status read_authority(struct parsing *parsing, struct rk_slice text)
{
    enum rk_status status = RK_OK;
    for (size_t at = text.size; at > 0; at--) {
        if (text.data[at - 1] != '@') continue;
        status = read_user(parsing, rk_slice_of(text.data, at - 1));
        text = rk_slice_of(text.data + at, text.size - at);
        break;
    }
    do {
        if (status == RK_OK) {
            struct rk_slice rest;
            struct rk_slice address = cut(text, ',', &rest);
            status = read_address(parsing, address);
            text = rest;
        }
    } while (status == RK_OK && text.data != NULL);
    if (status == RK_OK && parsing->url->kind == RK_REDIS_SINGLE &&
        parsing->url->address_count > 1)
        return refuse(parsing, "host: one only, unless redis+sentinel or redis+cluster");
    return status;
}

static enum rk_status read_path(struct parsing *parsing, struct rk_slice path)
{
    struct rk_redis_url *url = parsing->url;
    struct rk_slice db = path;
    enum rk_status status = RK_OK;
    if (url->kind == RK_REDIS_SENTINEL) {
        struct rk_slice master = cut(path, '/', &db);
        if (master.size == 0)
            return refuse(parsing, "path: must name the master that Sentinel watches");
        status = decode(parsing, &url->master, "master", master);
    }
    if (status != RK_OK || db.size == 0) return status;
    const char *digits;
    status = decode(parsing, &digits, "db", db);
    if (status == RK_OK)
        status = number(parsing, &url->db, "db", digits, 0,
                        url->kind == RK_REDIS_CLUSTER ? 0 : RK_REDIS_DB_MAX);
    return status;
}

enum parameter_kind { IS_TEXT, IS_NUMBER, IS_FLAG };

static const struct parameter {
    const char *name;
    enum parameter_kind kind;
    bool is_of_tls;
    bool is_of_sentinel;
    size_t offset;
    uint32_t least;
    uint32_t most;
} parameters[] = {
#define PLACE(member) offsetof(struct rk_redis_url, member)
    {"prefix", IS_TEXT, false, false, PLACE(prefix), 0, RK_REDIS_PREFIX_MAX},
    {"timeout-ms", IS_NUMBER, false, false, PLACE(timeout_ms), RK_REDIS_TIMEOUT_MS_MIN,
     RK_REDIS_TIMEOUT_MS_MAX},
    {"wait", IS_NUMBER, false, false, PLACE(wait), 0, RK_REDIS_WAIT_MAX},
    {"wait-ms", IS_NUMBER, false, false, PLACE(wait_ms), 1, RK_REDIS_TIMEOUT_MS_MAX},
    {"check-ms", IS_NUMBER, false, false, PLACE(check_ms), RK_REDIS_CHECK_MS_MIN,
     RK_REDIS_CHECK_MS_MAX},
    {"ca", IS_TEXT, true, false, PLACE(ca), 1, RK_REDIS_URL_MAX},
    {"cert", IS_TEXT, true, false, PLACE(cert), 1, RK_REDIS_URL_MAX},
    {"key", IS_TEXT, true, false, PLACE(key), 1, RK_REDIS_URL_MAX},
    {"server-name", IS_TEXT, true, false, PLACE(server_name), 1, RK_REDIS_HOST_MAX},
    {"insecure", IS_FLAG, true, false, PLACE(is_insecure), 0, 1},
    {"sentinel-user", IS_TEXT, false, true, PLACE(sentinel_user), 0, RK_REDIS_URL_MAX},
    {"sentinel-password", IS_TEXT, false, true, PLACE(sentinel_password), 0,
     RK_REDIS_URL_MAX},
#undef PLACE
};

static enum rk_status read_value(struct parsing *parsing, const struct parameter *parameter,
                                 struct rk_slice text)
{
    char *member = (char *)parsing->url + parameter->offset;
    const char *value;
    uint32_t count = 0;
    enum rk_status status = decode(parsing, &value, parameter->name, text);
    if (status != RK_OK) return status;
    if (parameter->kind == IS_TEXT) {
        size_t size = strlen(value);
        if (size < parameter->least || size > parameter->most)
            return refuse(parsing, "%s: must have %u to %u bytes", parameter->name,
                          parameter->least, parameter->most);
        memcpy(member, &value, sizeof(value));
        return RK_OK;
    }
    status =
        number(parsing, &count, parameter->name, value, parameter->least, parameter->most);
    if (status != RK_OK) return status;
    if (parameter->kind == IS_FLAG)
        *(bool *)(void *)member = count != 0;
    else
        memcpy(member, &count, sizeof(count));
    return RK_OK;
}

static enum rk_status read_parameter(struct parsing *parsing, struct rk_slice text)
{
    struct rk_slice value;
    struct rk_slice name = cut(text, '=', &value);
    for (size_t i = 0; i < sizeof(parameters) / sizeof(parameters[0]); i++) {
        const struct parameter *parameter = &parameters[i];
        if (!rk_slice_is_equal(name, rk_slice_of_string(parameter->name))) continue;
        if (value.data == NULL) return refuse(parsing, "%s: has no value", parameter->name);
        if (parsing->seen & 1u << i)
            return refuse(parsing, "%s: given twice", parameter->name);
        if (parameter->is_of_tls && !parsing->url->is_tls)
            return refuse(parsing, "%s: needs a URL with rediss", parameter->name);
        if (parameter->is_of_sentinel && parsing->url->kind != RK_REDIS_SENTINEL)
            return refuse(parsing, "%s: needs a URL with redis+sentinel", parameter->name);
        parsing->seen |= 1u << i;
        return read_value(parsing, parameter, value);
    }
    return refuse(parsing,
                  "%.*s: no such parameter; there are: prefix, timeout-ms, wait, "
                  "wait-ms, check-ms, ca, cert, key, server-name, insecure, "
                  "sentinel-user, sentinel-password",
                  (int)(name.size < 40 ? name.size : 40), (const char *)name.data);
}

static enum rk_status read_query(struct parsing *parsing, struct rk_slice query)
{
    struct rk_redis_url *url = parsing->url;
    while (query.size > 0) {
        struct rk_slice rest;
        enum rk_status status = read_parameter(parsing, cut(query, '&', &rest));
        if (status != RK_OK) return status;
        query = rest;
    }
    if ((url->cert[0] == '\0') != (url->key[0] == '\0'))
        return refuse(parsing, "cert, key: both or neither");
    if (url->is_insecure && (url->ca[0] != '\0' || url->server_name[0] != '\0'))
        return refuse(parsing, "insecure: looks at no certificate, so neither ca nor "
                               "server-name can be with it");
    /* They would decide which part of a key is hashed in a Cluster. */
    if (strpbrk(url->prefix, "{}") != NULL)
        return refuse(parsing, "prefix: must not hold { or }");
    return RK_OK;
}

static void set_defaults(struct rk_redis_url *url)
{
    memset(url, 0, sizeof(*url));
    rk_arena_init(&url->arena);
    url->user = url->password = url->sentinel_user = url->sentinel_password = "";
    url->master = url->prefix = url->ca = url->cert = url->key = url->server_name = "";
    url->timeout_ms = RK_REDIS_TIMEOUT_MS;
    url->wait_ms = RK_REDIS_WAIT_MS;
    url->check_ms = RK_REDIS_CHECK_MS;
}

enum rk_status rk_redis_url_parse(struct rk_redis_url *out, const char *text,
                                  struct rk_redis_error *err)
{
    struct parsing parsing = {out, err, 0};
    struct rk_slice rest, query, path;
    set_defaults(out);
    if (strlen(text) > RK_REDIS_URL_MAX)
        return refuse(&parsing, "URL: over %u bytes", RK_REDIS_URL_MAX);
    enum rk_status status = read_scheme(&parsing, &text);
    if (status != RK_OK) return status;
    if (strchr(text, '#') != NULL)
        return refuse(&parsing, "URL: # has no meaning here; in a password it is %%23");

    rest = cut(rk_slice_of_string(text), '?', &query);
    status = read_authority(&parsing, cut(rest, '/', &path));
    if (status == RK_OK) status = read_path(&parsing, path);
    if (status == RK_OK) status = read_query(&parsing, query);
    if (status != RK_OK) rk_redis_url_fini(out);
    return status;
}

void rk_redis_url_fini(struct rk_redis_url *url)
{
    rk_arena_fini(&url->arena);
    set_defaults(url);
}

__attribute__((format(printf, 4, 5))) static void put(char *out, size_t size, size_t *at,
                                                      const char *format, ...)
{
    if (*at >= size) return;
    va_list arguments;
    va_start(arguments, format);
    int added = vsnprintf(out + *at, size - *at, format, arguments);
    va_end(arguments);
    if (added > 0) *at += (size_t)added;
}

void rk_redis_url_print(char *out, size_t size, const struct rk_redis_url *url)
{
    static const char *const kinds[] = {"", "+sentinel", "+cluster"};
    size_t at = 0;
    put(out, size, &at, "redis%s%s://", url->is_tls ? "s" : "", kinds[url->kind]);
    if (url->user[0] != '\0' || url->password[0] != '\0')
        put(out, size, &at, "%s%s@", url->user, url->password[0] != '\0' ? ":***" : "");
    for (uint32_t i = 0; i < url->address_count; i++) {
        const struct rk_redis_address *address = &url->addresses[i];
        put(out, size, &at, strchr(address->host, ':') != NULL ? "%s[%s]:%u" : "%s%s:%u",
            i > 0 ? "," : "", address->host, address->port);
    }
    if (url->kind == RK_REDIS_SENTINEL) put(out, size, &at, "/%s", url->master);
    if (url->db > 0) put(out, size, &at, "/%u", url->db);
}
