#include "rukund/config.h"

#include "base/alloc.h"
#include "redis/url.h"

#include <errno.h>
#include <ini.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <strings.h>

enum setting_kind { KIND_TEXT, KIND_UINT, KIND_SWITCH, KIND_CHOICE };

struct setting {
    enum setting_kind kind;
    const char *name;
    size_t offset;
    const char *fallback;
    uint64_t fallback_number;
    uint64_t min;
    uint64_t max;
    const char *words;
    const char *arg;
    const char *help;
};

static const struct setting settings[] = {
#define AT(field) offsetof(struct rk_config, field)
#define RK_TEXT(field, name, fallback, arg, help)                                          \
    {KIND_TEXT, name, AT(field), fallback, 0, 0, 0, NULL, arg, help},
#define RK_UINT(field, name, fallback, min, max, arg, help)                                \
    {KIND_UINT, name, AT(field), NULL, fallback, min, max, NULL, arg, help},
#define RK_SWITCH(field, name, fallback, help)                                             \
    {KIND_SWITCH, name, AT(field), fallback ? "on" : "off", 0, 0, 0, NULL, "on|off", help},
#define RK_CHOICE(field, name, fallback, words, help)                                      \
    {KIND_CHOICE, name, AT(field), fallback, 0, 0, 0, words, words, help},
#include "rukund/settings.def"
#undef RK_TEXT
#undef RK_UINT
#undef RK_SWITCH
#undef RK_CHOICE
};

enum { SETTING_COUNT = sizeof(settings) / sizeof(settings[0]), NAME_MAX_SIZE = 64 };

struct loading {
    struct rk_config *config;
    char *error;
    const char *source;
    const char *path; /* of the file, in messages */
    enum rk_status status;
};

__attribute__((format(printf, 3, 4))) static enum rk_status
fail(struct loading *loading, enum rk_status status, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    (void)vsnprintf(loading->error, RK_CONFIG_ERROR_MAX, format, arguments);
    va_end(arguments);
    loading->status = status;
    return status;
}

static const struct setting *find_setting(const char *name)
{
    for (size_t i = 0; i < SETTING_COUNT; i++)
        if (strcmp(settings[i].name, name) == 0) return &settings[i];
    return NULL;
}

/* Levenshtein distance of short names. */
static unsigned edit_distance(const char *a, const char *b)
{
    unsigned row[NAME_MAX_SIZE + 1];
    size_t b_size = strlen(b);
    if (strlen(a) > NAME_MAX_SIZE || b_size > NAME_MAX_SIZE) return NAME_MAX_SIZE;
    for (size_t j = 0; j <= b_size; j++)
        row[j] = (unsigned)j;
    for (size_t i = 0; a[i] != '\0'; i++) {
        unsigned diagonal = row[0];
        row[0] = (unsigned)i + 1;
        for (size_t j = 0; j < b_size; j++) {
            unsigned best = diagonal + (a[i] == b[j] ? 0 : 1);
            if (row[j + 1] + 1 < best) best = row[j + 1] + 1;
            if (row[j] + 1 < best) best = row[j] + 1;
            diagonal = row[j + 1];
            row[j + 1] = best;
        }
    }
    return row[b_size];
}

static const char *nearest_setting(const char *name)
{
    const char *nearest = NULL;
    unsigned best = 4;
    for (size_t i = 0; i < SETTING_COUNT; i++) {
        unsigned distance = edit_distance(name, settings[i].name);
        if (distance < best) {
            best = distance;
            nearest = settings[i].name;
        }
    }
    return nearest;
}

static enum rk_status unknown_setting(struct loading *loading, const char *name)
{
    const char *nearest = nearest_setting(name);
    const char *before = loading->path != NULL ? loading->path : loading->source;
    if (nearest == NULL)
        return fail(loading, RK_EINVAL, "%s: unknown setting \"%.64s\"", before, name);
    return fail(loading, RK_EINVAL, "%s: unknown setting \"%.64s\"; did you mean \"%s\"?",
                before, name, nearest);
}

static bool has_word(const char *words, const char *word)
{
    size_t size = strlen(word);
    for (const char *at = words; at != NULL; at = strchr(at, '|')) {
        if (*at == '|') at++;
        if (strncmp(at, word, size) == 0 && (at[size] == '|' || at[size] == '\0'))
            return true;
    }
    return false;
}

static bool parse_switch(bool *out, const char *text)
{
    bool is_on = strcasecmp(text, "on") == 0 || strcasecmp(text, "true") == 0 ||
                 strcasecmp(text, "yes") == 0 || strcmp(text, "1") == 0;
    bool is_off = strcasecmp(text, "off") == 0 || strcasecmp(text, "false") == 0 ||
                  strcasecmp(text, "no") == 0 || strcmp(text, "0") == 0;
    *out = is_on;
    return is_on || is_off;
}

static enum rk_status set_uint(struct loading *loading, const struct setting *row,
                               uint64_t *field, const char *text)
{
    char *end;
    errno = 0;
    unsigned long long number = strtoull(text, &end, 10);
    if (text[0] < '0' || text[0] > '9' || *end != '\0' || errno != 0)
        return fail(loading, RK_EINVAL, "%s: \"%.64s\" is not a number (%s)", row->name,
                    text, loading->source);
    if (number < row->min || number > row->max)
        return fail(loading, RK_EINVAL, "%s: %s is not within %llu and %llu (%s)",
                    row->name, text, (unsigned long long)row->min,
                    (unsigned long long)row->max, loading->source);
    *field = number;
    return RK_OK;
}

/* A text that a file can hold as it is: ';' begins a remark there, ends are trimmed, and
 * a NUL or a line end would cut it. */
static bool is_plain(const char *text)
{
    size_t size = strlen(text);
    for (size_t i = 0; i < size; i++)
        if ((unsigned char)text[i] < ' ' || text[i] == 0x7f || text[i] == ';') return false;
    return size == 0 || (text[0] != ' ' && text[size - 1] != ' ');
}

static enum rk_status set_value(struct loading *loading, const struct setting *row,
                                const char *text)
{
    char *base = (char *)loading->config;
    void *field = base + row->offset;
    loading->config->sources[row - settings] = loading->source;
    switch (row->kind) {
    case KIND_UINT: return set_uint(loading, row, field, text);
    case KIND_SWITCH:
        if (parse_switch(field, text)) return RK_OK;
        return fail(loading, RK_EINVAL, "%s: \"%.64s\" is neither on nor off (%s)",
                    row->name, text, loading->source);
    case KIND_CHOICE:
        if (!has_word(row->words, text))
            return fail(loading, RK_EINVAL, "%s: \"%.64s\" is none of %s (%s)", row->name,
                        text, row->words, loading->source);
        break;
    case KIND_TEXT:
        if (!is_plain(text))
            return fail(loading, RK_EINVAL,
                        "%s: no ';', control character or blank at an end is allowed (%s)",
                        row->name, loading->source);
        break;
    }
    char *copy = rk_strdup(text);
    if (copy == NULL) return fail(loading, RK_ENOMEM, "no memory for the settings");
    char **owned = field;
    rk_free(*owned);
    *owned = copy;
    return RK_OK;
}

static enum rk_status set_defaults(struct loading *loading)
{
    for (size_t i = 0; i < SETTING_COUNT; i++) {
        char number[24];
        (void)snprintf(number, sizeof(number), "%llu",
                       (unsigned long long)settings[i].fallback_number);
        enum rk_status status =
            set_value(loading, &settings[i],
                      settings[i].kind == KIND_UINT ? number : settings[i].fallback);
        if (status != RK_OK) return status;
    }
    return RK_OK;
}

static int on_ini(void *user, const char *section, const char *name, const char *value)
{
    struct loading *loading = user;
    if (loading->status != RK_OK) return 0;
    if (section[0] != '\0' && strcmp(section, "rukund") != 0) {
        (void)fail(loading, RK_EINVAL, "%s: unknown section [%.64s]", loading->path,
                   section);
        return 0;
    }
    const struct setting *row = find_setting(name);
    if (row == NULL) {
        (void)unknown_setting(loading, name);
        return 0;
    }
    return set_value(loading, row, value) == RK_OK;
}

static enum rk_status load_file(struct loading *loading, const char *path)
{
    loading->source = "file";
    loading->path = path;
    int line = ini_parse(path, on_ini, loading);
    if (loading->status == RK_OK && line < 0)
        (void)fail(loading, RK_EINVAL, "%s: %s", path,
                   line == -1 ? strerror(errno) : "no memory");
    else if (loading->status == RK_OK && line > 0)
        (void)fail(loading, RK_EINVAL, "%s: line %d is not `name = value`", path, line);
    loading->path = NULL;
    return loading->status;
}

/* Variables that are no setting are passed over: orchestrators set some of that name. */
static enum rk_status load_environment(struct loading *loading, char *const *environment)
{
    loading->source = "environment";
    for (; *environment != NULL; environment++) {
        static const char prefix[] = "RUKUND_";
        const char *at = *environment;
        const char *equals = strchr(at, '=');
        char name[NAME_MAX_SIZE];
        size_t used = 0;
        if (equals == NULL || strncmp(at, prefix, sizeof(prefix) - 1) != 0) continue;
        for (at += sizeof(prefix) - 1; at < equals && used < sizeof(name) - 1; at++)
            name[used++] = (char)(*at == '_'                 ? '-'
                                  : *at >= 'A' && *at <= 'Z' ? *at - 'A' + 'a'
                                                             : *at);
        name[used] = '\0';
        const struct setting *row = find_setting(name);
        if (row == NULL) continue;
        enum rk_status status = set_value(loading, row, equals + 1);
        if (status != RK_OK) return status;
    }
    return RK_OK;
}

static bool take_action(struct rk_config *config, const char *flag)
{
    static const struct {
        const char *flag;
        enum rk_config_action action;
    } actions[] = {
        {"--help", RK_CONFIG_HELP},
        {"-h", RK_CONFIG_HELP},
        {"--version", RK_CONFIG_VERSION},
        {"--check-config", RK_CONFIG_CHECK},
        {"--print-reference", RK_CONFIG_REFERENCE},
    };
    for (size_t i = 0; i < sizeof(actions) / sizeof(actions[0]); i++) {
        if (strcmp(flag, actions[i].flag) != 0) continue;
        config->action = actions[i].action;
        return true;
    }
    return false;
}

static bool is_switch_word(const char *text)
{
    bool ignored;
    return text != NULL && parse_switch(&ignored, text);
}

/* Splits argv[*at] (and the next) into name and value; false at the end of the flags. */
static enum rk_status take_flag(struct loading *loading, int argc, char *const *argv,
                                int *at, char name[NAME_MAX_SIZE], const char **value)
{
    const char *flag = argv[*at];
    if (strncmp(flag, "--", 2) != 0)
        return fail(loading, RK_EINVAL, "unexpected argument \"%.64s\"", flag);
    const char *equals = strchr(flag, '=');
    size_t size = equals != NULL ? (size_t)(equals - flag) - 2 : strlen(flag) - 2;
    if (size >= NAME_MAX_SIZE) size = NAME_MAX_SIZE - 1;
    memcpy(name, flag + 2, size);
    name[size] = '\0';
    const struct setting *row = find_setting(name);
    const char *next = *at + 1 < argc ? argv[*at + 1] : NULL;
    if (equals != NULL) {
        *value = equals + 1;
    } else if (row != NULL && row->kind == KIND_SWITCH && !is_switch_word(next)) {
        *value = "on";
    } else if (row == NULL && strcmp(name, "config") != 0) {
        *value = "";
    } else if (next == NULL) {
        return fail(loading, RK_EINVAL, "--%s needs a value", name);
    } else {
        *value = next;
        (*at)++;
    }
    return RK_OK;
}

/* Two passes: the first finds --config and the actions, the second sets values. */
static enum rk_status walk_flags(struct loading *loading, int argc, char *const *argv,
                                 const char **config_path)
{
    loading->source = "flag";
    for (int i = 1; i < argc; i++) {
        char name[NAME_MAX_SIZE];
        const char *value = "";
        if (take_action(loading->config, argv[i])) continue;
        enum rk_status status = take_flag(loading, argc, argv, &i, name, &value);
        if (status != RK_OK) return status;
        if (strcmp(name, "config") == 0) {
            if (config_path != NULL) *config_path = value;
            continue;
        }
        const struct setting *row = find_setting(name);
        if (row == NULL) return unknown_setting(loading, name);
        if (config_path != NULL) continue;
        status = set_value(loading, row, value);
        if (status != RK_OK) return status;
    }
    return RK_OK;
}

static enum rk_status check_bind(struct loading *loading, const char *name,
                                 const char *text)
{
    struct rk_address address;
    if (rk_address_parse(&address, text) != RK_OK)
        return fail(loading, RK_EINVAL, "%s: \"%.200s\" is no host:port", name, text);
    if (!loading->config->insecure && !rk_address_is_loopback(&address))
        return fail(loading, RK_EINVAL,
                    "%s: %.200s is reached by other machines and nobody is authenticated; "
                    "say --insecure if that is wanted",
                    name, text);
    return RK_OK;
}

static enum rk_status check_advertised(struct loading *loading, const char *name,
                                       const char *text)
{
    struct rk_address address;
    if (text[0] == '\0') return RK_OK;
    if (rk_address_parse(&address, text) != RK_OK)
        return fail(loading, RK_EINVAL, "%s: \"%.200s\" is no host:port", name, text);
    if (rk_address_is_any(&address) || address.port == 0)
        return fail(loading, RK_EINVAL, "%s: nobody can connect to %.200s", name, text);
    return RK_OK;
}

static enum rk_status parse_peer(struct loading *loading, char *item)
{
    struct rk_config *config = loading->config;
    char *equals = strchr(item, '=');
    if (equals == NULL)
        return fail(loading, RK_EINVAL, "peers: \"%.200s\" is no NAME=HOST:PORT", item);
    *equals = '\0';
    if (!rk_node_name_is_valid(item))
        return fail(loading, RK_EINVAL, "peers: \"%.80s\" is no name of a node", item);
    if (config->node_count == RK_HOST_PEERS_MAX)
        return fail(loading, RK_EINVAL, "peers: more than %d", (int)RK_HOST_PEERS_MAX);
    for (uint32_t i = 0; i < config->node_count; i++)
        if (strcmp(config->nodes[i].name, item) == 0)
            return fail(loading, RK_EINVAL, "peers: %s is named twice", item);
    enum rk_status status = check_advertised(loading, "peers", equals + 1);
    if (status != RK_OK) return status;
    if (equals[1] == '\0')
        return fail(loading, RK_EINVAL, "peers: %s has no address", item);
    struct rk_config_peer *peer = &config->nodes[config->node_count++];
    memcpy(peer->name, item, strlen(item) + 1);
    memcpy(peer->peer, equals + 1, strlen(equals + 1) + 1);
    return RK_OK;
}

static enum rk_status parse_peers(struct loading *loading)
{
    struct rk_config *config = loading->config;
    bool has_self = config->peers[0] == '\0';
    char *copy = rk_strdup(config->peers);
    if (copy == NULL) return fail(loading, RK_ENOMEM, "no memory for the settings");
    char *rest = copy;
    enum rk_status status = RK_OK;
    for (char *item; status == RK_OK && (item = strsep(&rest, ",")) != NULL;) {
        item += strspn(item, " \t\n");
        item[strcspn(item, " \t\n")] = '\0';
        if (item[0] != '\0') status = parse_peer(loading, item);
    }
    rk_free(copy);
    for (uint32_t i = 0; i < config->node_count; i++)
        if (strcmp(config->nodes[i].name, config->name) == 0) has_self = true;
    if (status == RK_OK && !has_self)
        status = fail(loading, RK_EINVAL, "peers: %s, this node, is not among them",
                      config->name);
    return status;
}

static enum rk_status check_engine(struct loading *loading)
{
    const struct rk_config *config = loading->config;
    struct rk_redis_error error = {""};
    struct rk_redis_url url;
    if (strcmp(config->engine, "redis") != 0) {
        if (config->redis_url[0] == '\0') return RK_OK;
        return fail(loading, RK_EINVAL, "redis-url: used with --engine redis only");
    }
    if (config->redis_url[0] == '\0')
        return fail(loading, RK_EINVAL, "redis-url: the redis engine needs one");
    enum rk_status status = rk_redis_url_parse(&url, config->redis_url, &error);
    if (status != RK_OK) return fail(loading, status, "redis-url: %s", error.text);
    rk_redis_url_fini(&url);
    return RK_OK;
}

static enum rk_status check_all(struct loading *loading)
{
    struct rk_config *config = loading->config;
    if (!rk_node_name_is_valid(config->name))
        return fail(loading, RK_EINVAL,
                    "name: \"%.80s\" is not 1 to 63 letters, digits, '.', '_' and '-'",
                    config->name);
    if (config->data[0] == '\0')
        return fail(loading, RK_EINVAL, "data: no folder is named");
    const struct {
        const char *name, *text;
    } binds[] = {{"http", config->http}, {"rpc", config->rpc}, {"peer", config->peer}},
      told[] = {{"advertise-http", config->advertise_http},
                {"advertise-rpc", config->advertise_rpc},
                {"advertise-peer", config->advertise_peer}};
    for (int i = 0; i < 3; i++) {
        enum rk_status status = check_bind(loading, binds[i].name, binds[i].text);
        if (status == RK_OK) status = check_advertised(loading, told[i].name, told[i].text);
        if (status != RK_OK) return status;
    }
    if (config->heartbeat_ms * 3 > config->election_timeout_ms)
        return fail(loading, RK_EINVAL,
                    "heartbeat-ms: %llu is more than a third of election-timeout-ms (%llu)",
                    (unsigned long long)config->heartbeat_ms,
                    (unsigned long long)config->election_timeout_ms);
    enum rk_status status = check_engine(loading);
    return status == RK_OK ? parse_peers(loading) : status;
}

enum rk_status rk_config_load(struct rk_config *config, int argc, char *const *argv,
                              char *const *environment, char error[RK_CONFIG_ERROR_MAX])
{
    struct loading loading = {config, error, "default", NULL, RK_OK};
    const char *path = NULL;
    memset(config, 0, sizeof(*config));
    error[0] = '\0';
    config->sources = rk_calloc(SETTING_COUNT, sizeof(*config->sources));
    if (config->sources == NULL) return fail(&loading, RK_ENOMEM, "no memory");
    enum rk_status status = set_defaults(&loading);
    if (status != RK_OK) return status;

    for (char *const *at = environment; *at != NULL; at++)
        if (strncmp(*at, "RUKUND_CONFIG=", 14) == 0) path = *at + 14;
    status = walk_flags(&loading, argc, argv, &path);
    if (status != RK_OK) return status;
    if (config->action != RK_CONFIG_RUN && config->action != RK_CONFIG_CHECK) return RK_OK;
    if (path != NULL) status = load_file(&loading, path);
    if (status == RK_OK) status = load_environment(&loading, environment);
    if (status == RK_OK) status = walk_flags(&loading, argc, argv, NULL);
    if (status == RK_OK) status = check_all(&loading);
    return status;
}

void rk_config_fini(struct rk_config *config)
{
    for (size_t i = 0; i < SETTING_COUNT; i++) {
        if (settings[i].kind != KIND_TEXT && settings[i].kind != KIND_CHOICE) continue;
        char *base = (char *)config;
        char **owned = (void *)(base + settings[i].offset);
        rk_free(*owned);
        *owned = NULL;
    }
    rk_free(config->sources);
    config->sources = NULL;
}

static void print_fallback(struct rk_buf *out, const struct setting *row)
{
    if (row->kind == KIND_UINT)
        rk_buf_printf(out, "%llu", (unsigned long long)row->fallback_number);
    else
        rk_buf_append_string(out, row->fallback);
}

void rk_config_print_help(struct rk_buf *out)
{
    rk_buf_append_string(
        out, "usage: rukund [--name NAME] [--data DIR] [--peers NAME=ADDR,...] [settings]\n"
             "       rukund inspect DIR|BACKUP [--batches] [--records] [--group N]\n"
             "       rukund verify BACKUP\n"
             "       rukund restore BACKUP --data DIR\n"
             "       rukund migrate BACKUP|REDIS-URL --to REDIS-URL|BACKUP\n\n"
             "A node of Rukun: locks, queues and caches. Every setting is a flag, a line\n"
             "`name = value` of the file and a variable RUKUND_NAME.\n\n");
    for (size_t i = 0; i < SETTING_COUNT; i++) {
        rk_buf_printf(out, "  --%s %s\n      %s [", settings[i].name, settings[i].arg,
                      settings[i].help);
        print_fallback(out, &settings[i]);
        rk_buf_append_string(out, "]\n");
    }
    rk_buf_append_string(out,
                         "  --config FILE\n      Read settings from an INI file\n"
                         "  --check-config\n      Print the settings in force and end\n"
                         "  --version\n  --help\n");
}

void rk_config_print(struct rk_buf *out, const struct rk_config *config)
{
    for (size_t i = 0; i < SETTING_COUNT; i++) {
        const char *base = (const char *)config;
        const void *field = base + settings[i].offset;
        rk_buf_printf(out, "%s = ", settings[i].name);
        if (settings[i].kind == KIND_UINT)
            rk_buf_printf(out, "%llu", (unsigned long long)*(const uint64_t *)field);
        else if (settings[i].kind == KIND_SWITCH)
            rk_buf_append_string(out, *(const bool *)field ? "on" : "off");
        else
            rk_buf_append_string(out, *(char *const *)field);
        rk_buf_printf(out, " ; %s\n", config->sources[i]);
    }
}

static void print_variable(struct rk_buf *out, const char *name)
{
    rk_buf_append_string(out, "RUKUND_");
    for (; *name != '\0'; name++)
        rk_buf_u8(out, (uint8_t)(*name == '-' ? '_' : *name - 'a' + 'A'));
}

void rk_config_print_reference(struct rk_buf *out)
{
    rk_buf_append_string(
        out,
        "# Settings of rukund\n\n"
        "Printed by `rukund --print-reference`. A flag wins over the environment, the\n"
        "environment over the file (`--config FILE` or `RUKUND_CONFIG`), the file over "
        "the\n"
        "default. The file is INI, `name = value`, with an optional section `[rukund]`; "
        "an\n"
        "unknown name in it is an error. `rukund --check-config` prints what is in force\n"
        "and where it came from.\n\n"
        "| flag | variable | value | default | meaning |\n|---|---|---|---|---|\n");
    for (size_t i = 0; i < SETTING_COUNT; i++) {
        const struct setting *row = &settings[i];
        rk_buf_printf(out, "| `--%s` | `", row->name);
        print_variable(out, row->name);
        rk_buf_append_string(out, "` | ");
        if (row->kind == KIND_UINT)
            rk_buf_printf(out, "%s, %llu to %llu", row->arg, (unsigned long long)row->min,
                          (unsigned long long)row->max);
        for (const char *at = row->arg; row->kind != KIND_UINT && *at != '\0'; at++)
            rk_buf_append_string(out, *at == '|' ? " or " : (char[]){*at, '\0'});
        rk_buf_append_string(out, " | ");
        if (row->kind == KIND_UINT || row->fallback[0] != '\0') {
            rk_buf_append_string(out, "`");
            print_fallback(out, row);
            rk_buf_append_string(out, "`");
        }
        rk_buf_printf(out, " | %s |\n", row->help);
    }
}
