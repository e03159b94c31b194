/* env.h - a cluster in memory, driven step by step and described as it goes. */
#ifndef RK_TESTS_SCRIPT_ENV_H
#define RK_TESTS_SCRIPT_ENV_H

#include "script/store.h"

#include "raft/internal.h"

enum {
    ENV_NODES_MAX = 32,
    ENV_ANY_TYPE = 255,
};

/* A message on its way; those of the storage threads carry answers to be given later. */
struct env_message {
    struct rk_raft_message message;
    uint64_t number; /* of the append, when is_shipped */
    size_t response_count;
    struct rk_raft_message *responses;
};

struct env_messages {
    struct env_message *items; /* owned */
    size_t count;
    size_t capacity;
};

struct env_snapshot {
    struct rk_raft_snapshot meta;
    struct rk_slice data; /* what the state machine appended so far */
};

struct env_node {
    uint64_t id;
    struct rk_raft *raft;
    struct mem_store store;
    struct rk_raft_options options;
    bool is_async;   /* appends and applies are messages to threads */
    bool is_shipped; /* driven by the calls of raft.h alone, as the host drives it */
    struct rk_raft_hard_state hard; /* as the disk has it, when is_shipped */
    struct env_messages append_work;
    struct env_messages apply_work;
    struct env_snapshot newest;
};

struct env {
    struct rk_arena arena; /* everything that was ever sent */
    size_t node_count;
    struct env_node *nodes[ENV_NODES_MAX];
    struct env_messages messages;
    struct rk_buf *out;
    bool is_quiet;
    bool is_detailed; /* shows read rounds and why votes are asked for */
    uint64_t max_cached_bytes;
};

struct env_kind { /* of nodes to be added */
    struct rk_raft_options options;
    struct env_snapshot snapshot;
    bool is_async;
    bool is_shipped;
    bool is_bootstrap;
};

void env_init(struct env *env, uint64_t max_cached_bytes);
void env_fini(struct env *env);
/* Nothing is printed while the log level is NONE. */
__attribute__((format(printf, 2, 3))) void env_print(struct env *env, const char *format,
                                                     ...);
void env_print_message(struct env *env, const struct rk_raft_message *message);
void env_print_ready(struct env *env, const struct rk_raft_ready *ready,
                     const struct env_messages *messages);

/* NULL or the text of an error. */
const char *env_add_nodes(struct env *env, uint64_t count, const struct env_kind *kind);
/* A crash and a new start: what the disk does not have is lost. */
const char *env_restart(struct env *env, struct env_node *node);
const char *env_process_ready(struct env *env, struct env_node *node);
const char *env_process_append(struct env *env, struct env_node *node);
void env_process_apply(struct env *env, struct env_node *node);
const char *env_stabilize(struct env *env, struct env_node *const *nodes, size_t count);
void env_send(struct env *env, const struct rk_raft_message *message);
/* How many there were. */
size_t env_deliver(struct env *env, uint64_t id, uint8_t type, bool is_dropped);
/* The text of the error, NULL for none. */
const char *env_step_text(enum rk_status status);
/* Runs with its output indented by two blanks. */
struct rk_buf *env_indent(struct env *env, struct rk_buf *inner);
void env_outdent(struct env *env, struct rk_buf *outer);
enum rk_status env_step_local(struct env_node *node, const struct rk_raft_message *message);
#endif
