/* options.h - the option structs of rukun.h as tables, for both languages.
 *
 * A binding hands options over as one dictionary or table, and each language fills the C
 * struct from it by these tables; a name that is in none of them is an error. */
#ifndef RUKUN_BINDINGS_OPTIONS_H
#define RUKUN_BINDINGS_OPTIONS_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "rukun.h"

enum option_kind {
    OPTION_TEXT,    /* const char *: borrowed from the dictionary for the call */
    OPTION_UINT64,  /* uint64_t */
    OPTION_WAIT,    /* uint64_t; None in Python, false in Lua is RUKUN_WAIT_FOREVER */
    OPTION_UINT32,  /* uint32_t */
    OPTION_INT,     /* int */
    OPTION_BOOLEAN, /* int, 0 or 1 */
    OPTION_MODE     /* rukun_mode: true is shared */
};

struct option {
    const char *name;
    enum option_kind kind;
    size_t offset;
};

#define OPTION(owner, member, kind_)                                                       \
    {                                                                                      \
        .name = #member, .kind = OPTION_##kind_, .offset = offsetof(owner, member)         \
    }
#define OPTION_END                                                                         \
    {                                                                                      \
        .name = NULL                                                                       \
    }

static const struct option client_options[] = {
    OPTION(rukun_options, endpoints, TEXT),
    OPTION(rukun_options, name, TEXT),
    OPTION(rukun_options, token, TEXT),
    OPTION(rukun_options, forward, BOOLEAN),
    OPTION(rukun_options, session_ttl_ms, UINT64),
    OPTION(rukun_options, deadline_ms, UINT64),
    OPTION_END,
};

static const struct option lock_options[] = {
    {"shared", OPTION_MODE, offsetof(rukun_lock_opts, mode)},
    OPTION(rukun_lock_opts, wait_ms, WAIT),
    OPTION(rukun_lock_opts, lease_ms, UINT64),
    OPTION(rukun_lock_opts, owner, TEXT),
    OPTION(rukun_lock_opts, priority, INT),
    OPTION(rukun_lock_opts, min_hold_ms, UINT64),
    OPTION(rukun_lock_opts, max_hold_ms, UINT64),
    OPTION(rukun_lock_opts, lock_delay_ms, UINT64),
    OPTION_END,
};

static const struct option publish_options[] = {
    OPTION(rukun_publish_opts, publish_id, TEXT),
    OPTION(rukun_publish_opts, group, TEXT),
    OPTION(rukun_publish_opts, delay_ms, UINT64),
    OPTION(rukun_publish_opts, ttl_ms, UINT64),
    OPTION(rukun_publish_opts, priority, INT),
    OPTION_END,
};

static const struct option consume_options[] = {
    OPTION(rukun_consume_opts, consumer, TEXT),
    OPTION(rukun_consume_opts, max, UINT32),
    OPTION(rukun_consume_opts, wait_ms, WAIT),
    OPTION(rukun_consume_opts, visibility_ms, UINT64),
    OPTION_END,
};

static const struct option put_options[] = {
    OPTION(rukun_put_opts, ttl_ms, UINT64),
    OPTION(rukun_put_opts, soft_ttl_ms, UINT64),
    OPTION(rukun_put_opts, if_version, UINT64),
    OPTION(rukun_put_opts, if_absent, BOOLEAN),
    OPTION(rukun_put_opts, fence, UINT64),
    OPTION(rukun_put_opts, fence_name, TEXT),
    OPTION_END,
};

static const struct option *option_find(const struct option *options, const char *name)
{
    for (; options->name != NULL; options++)
        if (strcmp(options->name, name) == 0) return options;
    return NULL;
}

#endif
