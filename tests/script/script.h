/* script.h - the three kinds of recorded traces that the runner knows. */
#ifndef RK_TESTS_SCRIPT_SCRIPT_H
#define RK_TESTS_SCRIPT_SCRIPT_H

#include "script/datadriven.h"

/* Runs one case; the output goes to out. The state lasts for one file. */
struct script_kind {
    const char *name;
    bool (*knows)(const char *command);
    void *(*open)(uint64_t max_cached_bytes);
    void (*run)(void *state, const struct dd_case *c, struct rk_buf *out);
    void (*close)(void *state);
};

#define RK_SCRIPT_CACHE_ALL UINT64_MAX

extern const struct script_kind script_quorum;
extern const struct script_kind script_confchange;
extern const struct script_kind script_interaction;
#endif
